/* Files inside the program: the default generator and reward model, and the merges of OpenCLIP's
 * tokenizer (openclip/merges.LICENCE). The table is written by
 * tools/embedded/embed.py. */
#ifndef PISCES_EMBEDDED_H
#define PISCES_EMBEDDED_H
#include <stddef.h>

typedef struct {
  const char *path;           /* "generator/vae/config.json" */
  const unsigned char *bytes; /* aligned to 64 */
  size_t count;
  size_t unpacked; /* bytes of the file that is packed here (tools/embedded/pack.py); 0: as it is */
} pisces_embedded_file;

/* The table and its length. */
const pisces_embedded_file *pisces_embedded_files(size_t *count);
#endif
