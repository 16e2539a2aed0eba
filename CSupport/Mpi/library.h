/* The functions and constants of MPI that are used, for each of the three binary interfaces. A
 * handle is a pointer in Open MPI and MPI 5, and an int in MPICH; both fit a uintptr_t, in memory
 * (its low half comes first) and as an argument. */
#ifndef CMPI_LIBRARY_H
#define CMPI_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

typedef uintptr_t mpi_handle;

struct mpi_library {
  int (*init)(int *, char ***, int, int *);
  int (*rank)(mpi_handle, int *);
  int (*size)(mpi_handle, int *);
  int (*send)(const void *, int, mpi_handle, int, int, mpi_handle, mpi_handle *);
  int (*receive)(void *, int, mpi_handle, int, int, mpi_handle, mpi_handle *);
  int (*test)(mpi_handle *, int *, void *);
  int (*handle_errors)(mpi_handle, mpi_handle);
  int (*version)(char *, int *);
  int (*barrier)(mpi_handle);
  int (*finalize)(void);
  int (*abort)(mpi_handle, int);
  mpi_handle world, byte, errors_return;
  void *status_ignore;
  int funneled;
  char name[160]; /* "Open MPI v4.1.4 (libmpi.so.40)" once MPI runs; the file's name before */
};

/* Opens `path`, or the first of the usual names if it is NULL, of which Open MPI's is first or
 * last. Returns 0, or 69 with a reason. */
int mpi_library_open(struct mpi_library *mpi, const char *path, int open_mpi_last, char *why,
                     size_t room);
/* Fills `name`; after MPI was initialised. */
void mpi_library_describe(struct mpi_library *mpi);

#endif
