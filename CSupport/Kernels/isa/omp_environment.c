/* OMP_NUM_THREADS and OMP_THREAD_LIMIT as GNU's nproc reads them, before the OpenMP runtime does:
 * LLVM's aborts the process where one is empty or a number it cannot hold (kmp_settings.cpp and
 * kmp_runtime.cpp, versions 14 to 21).
 *
 * Read are digits behind optional blanks; a list (OMP_NUM_THREADS alone) counts by its first
 * number. What is no number is ignored, as is 0. The variable is rewritten only where the runtime
 * would read something else. Runs when the program or the library is loaded. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More threads than any machine has; numbers beyond it set no limit. */
enum { MOST_THREADS = 1 << 15 };

static const char *past_blanks(const char *s) {
  while (isspace((unsigned char)*s)) s++;
  return s;
}

/* The number that `text` begins with and what follows it; 0 where there is none or it sets no
 * limit. */
static unsigned long number(const char *text, const char **rest) {
  const char *s = past_blanks(text);
  char *end = (char *)s;
  unsigned long n = 0;
  if (isdigit((unsigned char)*s)) {
    errno = 0;
    n = strtoul(s, &end, 10);
    if (errno == ERANGE || n > MOST_THREADS) n = MOST_THREADS;
  }
  *rest = past_blanks(end);
  return n;
}

/* Whether every number of a list is one that the runtime takes. */
static int is_plain(const char *text) {
  do {
    const unsigned long n = number(text, &text);
    if (n < 1 || n >= MOST_THREADS) return 0;
  } while (*text == ',' && *++text);
  return *text == 0;
}

static void settle(const char *variable, int takes_list) {
  const char *text = getenv(variable), *rest;
  if (!text || is_plain(text)) return;
  unsigned long n = number(text, &rest);
  if (*rest != 0 && !(takes_list && *rest == ',')) n = 0;
  if (n < 1 || n >= MOST_THREADS) {
    unsetenv(variable);
  } else {
    char plain[24];
    snprintf(plain, sizeof plain, "%lu", n);
    setenv(variable, plain, 1);
  }
}

__attribute__((constructor)) static void settle_omp_environment(void) {
  settle("OMP_NUM_THREADS", 1);
  settle("OMP_THREAD_LIMIT", 0);
}
