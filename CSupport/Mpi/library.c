#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char *const NAMES[] = {
    "libmpi.so.40",    /* Open MPI 4 and 5 */
    "libmpi.so.12",    /* Intel MPI, MVAPICH, some builds of MPICH */
    "libmpich.so.12",  /* MPICH 3 and 4 (Debian), Cray's */
    "libmpi_abi.so.0", /* the interface of MPI 5 */
    "libmpi.so",
};

enum { COUNT = sizeof NAMES / sizeof *NAMES };

/* Open MPI's library comes first, or last. */
static const char *name_at(int i, int open_mpi_last) {
  return NAMES[open_mpi_last ? (i + 1) % COUNT : i];
}

static const char *base(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The name of the first function that the library lacks, or NULL. */
static const char *bind(struct mpi_library *mpi, void *library) {
  const struct {
    void *place;
    const char *name;
  } functions[] = {
      {&mpi->init, "MPI_Init_thread"},
      {&mpi->rank, "MPI_Comm_rank"},
      {&mpi->size, "MPI_Comm_size"},
      {&mpi->send, "MPI_Isend"},
      {&mpi->receive, "MPI_Irecv"},
      {&mpi->test, "MPI_Test"},
      {&mpi->barrier, "MPI_Barrier"},
      {&mpi->handle_errors, "MPI_Comm_set_errhandler"},
      {&mpi->version, "MPI_Get_library_version"},
      {&mpi->finalize, "MPI_Finalize"},
      {&mpi->abort, "MPI_Abort"},
  };

  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *found = dlsym(library, functions[i].name);
    if (!found) return functions[i].name;
    memcpy(functions[i].place, &found, sizeof found);
  }
  return NULL;
}

static void constants(struct mpi_library *mpi, void *library, const char *name) {
  void *world = dlsym(library, "ompi_mpi_comm_world");
  if (world) { /* Open MPI: handles are addresses of objects */
    mpi->world = (uintptr_t)world;
    mpi->byte = (uintptr_t)dlsym(library, "ompi_mpi_byte");
    mpi->errors_return = (uintptr_t)dlsym(library, "ompi_mpi_errors_return");
    mpi->status_ignore = NULL;
    mpi->funneled = 1;
  } else if (strstr(name, "mpi_abi") || dlsym(library, "MPI_Abi_get_version")) {
    mpi->world = 0x101;
    mpi->byte = 0x247;
    mpi->errors_return = 0x142;
    mpi->status_ignore = NULL;
    mpi->funneled = 1024;
  } else { /* MPICH and its relatives */
    mpi->world = 0x44000000;
    mpi->byte = 0x4c00010d;
    mpi->errors_return = 0x54000001;
    mpi->status_ignore = (void *)1;
    mpi->funneled = 1;
  }
}

int mpi_library_open(struct mpi_library *mpi, const char *path, int open_mpi_last, char *why,
                     size_t room) {
  void *library = NULL;
  const char *name = path;
  if (path) {
    library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
      snprintf(why, room, "%s", dlerror());
      return 69;
    }
  } else {
    for (int i = 0; i < COUNT && !library; i++)
      library = dlopen(name = name_at(i, open_mpi_last), RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
      int used = snprintf(why, room, "none of");
      for (int i = 0; i < COUNT && used > 0 && (size_t)used < room; i++)
        used += snprintf(why + used, room - used, "%s %s", i ? "," : "", NAMES[i]);
      if (used > 0 && (size_t)used < room) snprintf(why + used, room - used, " is there");
      return 69;
    }
  }
  const char *missing = bind(mpi, library);
  if (missing) {
    snprintf(why, room, "%s has no %s", base(name), missing);
    return 69;
  }
  constants(mpi, library, base(name));
  snprintf(mpi->name, sizeof mpi->name, "%s", base(name));
  return 0;
}

void mpi_library_describe(struct mpi_library *mpi) {
  char text[8192] = "", file[80];
  int length = 0;
  if (mpi->version(text, &length) != 0) return;
  /* The first line, up to a comma: "Open MPI v4.1.4, package: ..."; "MPICH Version:\t4.0.2\n". */
  text[strcspn(text, ",\n")] = 0;
  char *version = strstr(text, " Version:");
  if (version) memmove(version, version + 9, strlen(version + 9) + 1);
  for (char *c = text; *c; c++)
    if (*c == '\t') *c = ' ';
  snprintf(file, sizeof file, "%s", mpi->name);
  snprintf(mpi->name, sizeof mpi->name, "%.60s (%s)", text, file);
}
