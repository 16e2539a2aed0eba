#include "pk.h"

/* tools/build writes commit.h for the time of the build. Any other build does not know its
 * commit. */
#if __has_include("commit.h")
#include "commit.h"
#else
#define PK_COMMIT ""
#endif

const char *pk_commit(void) { return PK_COMMIT; }
