/* The courier: the thread that makes all calls of MPI. MPI moves nothing between calls, so it tests
 * the open messages while the other threads compute. It sleeps while nothing is open, and for
 * moments while nothing moves.
 *
 * A lost link or a stopped process is noticed by nobody in MPI. So every courier sends the next
 * rank a byte now and then, and expects one of the rank before it, however long that one
 * computes. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmpi.h"
#include "library.h"

enum { TAG = 7, BEAT_TAG = 8, LARGEST = 1 << 30 };

enum { ALIVE = 1, GOODBYE = 2 };

struct message {
  uint64_t number;
  void *bytes;
  size_t count, posted, moved; /* in bytes; a long message goes in pieces of LARGEST */
  int peer, is_send, is_open;
  mpi_handle request;
  struct message *next;
};

static struct mpi_library mpi;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake, moved; /* of the courier; of the one who waits */
static pthread_t courier;
static struct message *open_messages, **last_message = &open_messages, *spare;
static uint64_t numbers, bytes_sent;
static int rank, size, is_waiting, error;

static enum { STARTING, RUNNING, FAILED, ENDING, ENDED, ABORTING } state;

static int abort_status;
static int is_started;

/* Signs of life: of the rank before this one, and to the one behind it. */
static struct {
  unsigned char heard, told;
  mpi_handle receiving, sending;
  int is_sending, is_over; /* over: the rank before has said goodbye */
  double last_heard, last_told, patience;
} beat = {.patience = 300};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int before(void) { return (rank + size - 1) % size; }

static int expect_sign(void) {
  return mpi.receive(&beat.heard, 1, mpi.byte, before(), BEAT_TAG, mpi.world, &beat.receiving);
}

/* Sends a sign of life if it is due, and looks for one. Returns MPI's error code, or -1 if the rank
 * before has been silent for `patience` seconds. Without the lock. */
static int live(double patience) {
  int done = 0, code = 0;
  double t = now();
  if (beat.is_sending) {
    code = mpi.test(&beat.sending, &done, mpi.status_ignore);
    if (code) return code;
    if (done) beat.is_sending = 0;
  }
  if (!beat.is_sending && t - beat.last_told > patience / 10) {
    beat.told = ALIVE;
    beat.last_told = t;
    code = mpi.send(&beat.told, 1, mpi.byte, (rank + 1) % size, BEAT_TAG, mpi.world, &beat.sending);
    if (code) return code;
    beat.is_sending = 1;
  }
  if (beat.is_over) return 0;
  code = mpi.test(&beat.receiving, &done, mpi.status_ignore);
  if (code) return code;
  if (done) {
    beat.last_heard = t;
    beat.is_over = beat.heard == GOODBYE;
    return beat.is_over ? 0 : expect_sign();
  }
  return t - beat.last_heard > patience ? -1 : 0;
}

/* Says goodbye to the next rank, and waits for that of the one before. */
static void part(void) {
  int done = 0;
  while (beat.is_sending && !mpi.test(&beat.sending, &done, mpi.status_ignore) && !done)
    sched_yield();
  beat.told = GOODBYE;
  if (mpi.send(&beat.told, 1, mpi.byte, (rank + 1) % size, BEAT_TAG, mpi.world, &beat.sending))
    return;
  done = 0;
  for (double end = now() + 20; now() < end && !(done && beat.is_over);) {
    if (!done) mpi.test(&beat.sending, &done, mpi.status_ignore);
    int came = 0;
    if (!beat.is_over && !mpi.test(&beat.receiving, &came, mpi.status_ignore) && came) {
      beat.is_over = beat.heard == GOODBYE;
      if (!beat.is_over && expect_sign()) return;
    }
    sched_yield();
  }
}

static struct timespec later(double seconds) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  long whole = (long)seconds;
  t.tv_sec += whole;
  t.tv_nsec += (long)((seconds - (double)whole) * 1e9);
  if (t.tv_nsec >= 1000000000) {
    t.tv_sec++;
    t.tv_nsec -= 1000000000;
  }
  return t;
}

/* Moves what can be moved of the first open message of each peer and direction that is not yet
 * posted, and tests what is. Called without the lock: the list grows only at its end, and only this
 * thread takes from it. Returns how many messages or pieces have moved. */
static int step_message(struct message *m, int *code) {
  if (!m->is_open) {
    size_t rest = m->count - m->posted;
    int n = (int)(rest < LARGEST ? rest : LARGEST);
    char *at = (char *)m->bytes + m->posted;
    m->request = 0;
    *code = m->is_send ? mpi.send(at, n, mpi.byte, m->peer, TAG, mpi.world, &m->request)
                       : mpi.receive(at, n, mpi.byte, m->peer, TAG, mpi.world, &m->request);
    if (*code) return 0;
    m->is_open = 1;
    m->posted += (size_t)n;
  }
  int done = 0;
  *code = mpi.test(&m->request, &done, mpi.status_ignore);
  if (*code || !done) return 0;
  m->is_open = 0;
  m->moved = m->posted;
  return 1;
}

/* Whether an earlier open message to or from the same peer must be posted first. Only a message in
 * pieces holds others back: the rest are posted at once, in order. */
static int is_held_back(const struct message *m) {
  for (const struct message *e = open_messages; e != m; e = e->next)
    if (e->peer == m->peer && e->is_send == m->is_send && e->posted < e->count) return 1;
  return 0;
}

static int deliver(void) { /* with the lock */
  int count = 0;
  for (struct message **place = &open_messages; *place;) {
    struct message *m = *place;
    int code = 0;
    if (m->is_open || !is_held_back(m)) {
      pthread_mutex_unlock(&lock);
      int n = step_message(m, &code);
      pthread_mutex_lock(&lock);
      count += n;
      if (code && !error) error = code;
    }
    if (m->moved == m->count && !m->is_open) {
      *place = m->next;
      if (!*place) last_message = place;
      m->next = spare;
      spare = m;
      if (m->is_send) bytes_sent += m->count;
      m->number = 0;
    } else {
      place = &m->next;
    }
    if (error) break;
  }
  return count;
}

static int begin(void) {
  int level = 0, code = mpi.init(NULL, NULL, mpi.funneled, &level);
  if (code) return code;
  mpi.handle_errors(mpi.world, mpi.errors_return);
  mpi.rank(mpi.world, &rank);
  mpi.size(mpi.world, &size);
  mpi_library_describe(&mpi);
  beat.last_heard = beat.last_told = now();
  return size > 1 ? expect_sign() : 0;
}

static void *run(void *unused) {
  (void)unused;
  int code = begin();
  pthread_mutex_lock(&lock);
  state = code ? FAILED : RUNNING;
  pthread_cond_broadcast(&moved);
  int idle = 0;
  double looked = now();
  while (state == RUNNING || (state == ENDING && open_messages)) {
    if (size > 1 && !error && now() - looked > 0.2) {
      looked = now();
      double patience = beat.patience;
      pthread_mutex_unlock(&lock);
      int fault = live(patience);
      pthread_mutex_lock(&lock);
      if (fault && !error) {
        error = fault;
        pthread_cond_broadcast(&moved);
      }
    }
    if (!open_messages || error) {
      if (state == ENDING && error) break;
      struct timespec t = later(0.3);
      pthread_cond_timedwait(&wake, &lock, &t);
      continue;
    }
    int n = deliver();
    if (n || error) {
      pthread_cond_broadcast(&moved);
      idle = 0;
    } else {
      int waits = is_waiting;
      pthread_mutex_unlock(&lock);
      idle++;
      if (idle < 2000 && waits) {
        sched_yield();
      } else {
        struct timespec t = {0, waits ? 20000 : 100000};
        nanosleep(&t, NULL);
      }
      pthread_mutex_lock(&lock);
    }
  }
  if (state == ENDING) {
    pthread_mutex_unlock(&lock);
    if (size > 1 && !error) part();
    mpi.finalize();
    pthread_mutex_lock(&lock);
    state = ENDED;
    pthread_cond_broadcast(&moved);
  } else if (state == ABORTING) {
    int status = abort_status;
    pthread_mutex_unlock(&lock);
    mpi.abort(mpi.world, status);
    return NULL;
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

int pm_start(const char *path, int open_mpi_last, char *why, size_t room) {
  int status = mpi_library_open(&mpi, path, open_mpi_last, why, room);
  if (status) return status;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&wake, &attributes);
  pthread_cond_init(&moved, &attributes);
  pthread_condattr_destroy(&attributes);
  if (pthread_create(&courier, NULL, run, NULL)) {
    snprintf(why, room, "no thread could be started");
    return 69;
  }
  pthread_mutex_lock(&lock);
  while (state == STARTING) pthread_cond_wait(&moved, &lock);
  status = state == FAILED ? 69 : 0;
  is_started = !status;
  pthread_mutex_unlock(&lock);
  if (status) snprintf(why, room, "MPI_Init of %s failed", mpi.name);
  return status;
}

const char *pm_library(void) { return mpi.name; }

int pm_rank(void) { return rank; }

int pm_size(void) { return size; }

uint64_t pm_bytes_sent(void) {
  pthread_mutex_lock(&lock);
  uint64_t n = bytes_sent;
  pthread_mutex_unlock(&lock);
  return n;
}

static uint64_t post(void *bytes, size_t count, int peer, int is_send) {
  pthread_mutex_lock(&lock);
  struct message *m = spare;
  if (m) {
    spare = m->next;
  } else {
    m = malloc(sizeof *m);
    if (!m) abort();
  }
  uint64_t number = ++numbers;
  *m = (struct message){
      .number = number, .bytes = bytes, .count = count, .peer = peer, .is_send = is_send};
  *last_message = m;
  last_message = &m->next;
  pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
  return number;
}

uint64_t pm_send(const void *bytes, size_t count, int to) {
  return post((void *)(uintptr_t)bytes, count, to, 1);
}

uint64_t pm_receive(void *bytes, size_t count, int from) { return post(bytes, count, from, 0); }

static int is_open(uint64_t number) {
  for (const struct message *m = open_messages; m; m = m->next)
    if (m->number == number) return 1;
  return 0;
}

int pm_wait(uint64_t number) {
  pthread_mutex_lock(&lock);
  is_waiting++;
  while (is_open(number) && !error) pthread_cond_wait(&moved, &lock);
  is_waiting--;
  int result = is_open(number) ? error : 0;
  pthread_mutex_unlock(&lock);
  return result;
}

void pm_patience(double seconds) {
  pthread_mutex_lock(&lock);
  beat.patience = seconds < 2 ? 2 : seconds; /* signs are looked for a few times a second */
  pthread_mutex_unlock(&lock);
}

int pm_silent_rank(void) { return before(); }

int pm_end(double patience) {
  if (!is_started) return 0;
  pthread_mutex_lock(&lock);
  if (state == RUNNING) state = ENDING;
  pthread_cond_signal(&wake);
  struct timespec limit = later(patience);
  int code = 0;
  while (state == ENDING && code != ETIMEDOUT) code = pthread_cond_timedwait(&moved, &lock, &limit);
  int ended = state == ENDED;
  pthread_mutex_unlock(&lock);
  if (ended) pthread_join(courier, NULL);
  return ended ? 0 : -1;
}

_Noreturn void pm_abort(int status) {
  if (is_started) {
    pthread_mutex_lock(&lock);
    if (state == RUNNING || state == ENDING) {
      state = ABORTING;
      abort_status = status;
      pthread_cond_signal(&wake);
    }
    pthread_mutex_unlock(&lock);
    sleep(5); /* MPI_Abort ends this process; a launcher that lost a host may not */
  }
  _exit(status);
}
