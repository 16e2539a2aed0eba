/* MPI, opened at run time: no header and no library of MPI is needed to build or to start the
 * program. One thread, the courier, makes every call of MPI; the functions below may be called from
 * one other thread. Messages between two ranks arrive in the order in which they were posted. */
#ifndef CMPI_H
#define CMPI_H

#include <stddef.h>
#include <stdint.h>

/* Opens the library `path`, or the first of the usual names if it is NULL, and starts the courier
 * and MPI. On a machine that has both, a launcher of the other family wants Open MPI's name tried
 * last. Returns 0, or an exit status (69) with a reason of at most `room` bytes in `why`. */
int pm_start(const char *path, int open_mpi_last, char *why, size_t room);
/* What the library calls itself, and the file's name. */
const char *pm_library(void);
int pm_rank(void);
int pm_size(void);

/* Posts a message; the bytes must stay until it has arrived. Returns its number. */
uint64_t pm_send(const void *bytes, size_t count, int to);
uint64_t pm_receive(void *bytes, size_t count, int from);
/* Waits until the message has been moved. Returns 0; or -1 if a rank has given no sign of life, of
 * which `pm_silent_rank` is the number; or MPI's error code. */
int pm_wait(uint64_t message);
int pm_silent_rank(void);
/* How many seconds without a sign of life are too many, 2 or more; 300 at first. Signs come ten
 * times as often, whatever a rank computes. */
void pm_patience(double seconds);

/* Bytes sent by this rank so far. */
uint64_t pm_bytes_sent(void);
/* Ends MPI after a barrier of the courier; waits `patience` seconds at most. */
int pm_end(double patience);
/* Ends all ranks with an exit status. Does not return. */
_Noreturn void pm_abort(int status);

#endif
