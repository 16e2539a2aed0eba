#ifndef PK_CONV_PANELS_H
#define PK_CONV_PANELS_H
#include "conv_bands.h"

/* The weights of a convolution as panels. Both functions are called by every thread of a team, and
 * end with its barrier.
 *
 * Each tap's weights as panels [tap][panel][source channel][nr]. */
void pk_conv_pack_taps(const conv_job *j, const pk_conv3d_shape *s, const void *weight, void *taps);

/* Their sums, for each line, component, panel and tap of the component, packed: [line][component]
 * [panel][k][nr]. `scratch`: room for one panel, this thread's. */
void pk_conv_pack_lines(const conv_job *j, const pk_conv3d_shape *s, const void *taps, char *panels,
                        void *scratch);
#endif
