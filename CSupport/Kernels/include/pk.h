/* PISCES kernels: every piece of C arithmetic, one contract per operation.
 *
 * Rules that hold for every function below unless its own contract says otherwise
 *
 * Types     `type` is PK_F32 or PK_F64 and names the element type of every `void *` array. f32 runs
 *           on the widest instruction set allowed (pk_isa.h); f64 runs the same algorithm, one lane
 *           wide, for finite differences and f64 tensors.
 * Shapes    row-major, sizes in elements, strides in elements; a size of 0 is a no-op.
 * Memory    natural alignment suffices, 64 B is faster; nothing outside the stated extents is
 *           accessed.
 * Aliasing  none, unless "in place" is said.
 * Writes    outputs are overwritten; names beginning with "add_" or an `accumulate` flag say when
 *           they are added to.
 * Scratch   caller-owned, contents meaningless on entry and exit; size from the function's
 *           `_scratch` companion, in elements.
 * Numerics  row sums are lane-parallel; sums over more than 10^4 elements add blocks in double.
 * Threads   one OpenMP region over fixed blocks, added in a fixed order: the bits do not depend on
 *           the number of threads. Not to be called inside a parallel region, nor from two threads
 *           at once.
 * Errors    a bad shape returns PK_BAD_SHAPE and writes nothing.
 *
 * pk_reference.h has a plain implementation of each family, the oracle of the tests. */
#ifndef PK_H
#define PK_H
#include <stddef.h>
#include <stdint.h>

typedef enum { PK_OK = 0, PK_BAD_SHAPE = 1, PK_BAD_TYPE = 2 } pk_status;

/* PK_BF16, PK_F16 and PK_I8 are types that weights are stored in. */
typedef enum { PK_F32 = 0, PK_F64 = 1, PK_BF16 = 2, PK_F16 = 3, PK_I8 = 4 } pk_type;

/* For Swift's strict memory safety: such a structure is safe to hold although it has pointers; only
 * reading or writing these is unsafe. */
#define PK_SAFE __attribute__((swift_attr("safe")))

#include "pk_isa.h"
#include "pk_activation.h"
#include "pk_gemm.h"
#include "pk_attention.h"
#include "pk_norm.h"
#include "pk_elementwise.h"
#include "pk_conv.h"
#include "pk_softmax.h"
#include "pk_prior.h"
#include "pk_loss.h"
#include "pk_token_plan.h"
#include "pk_sinkhorn.h"
#include "pk_problem.h"
#include "pk_divergence.h"
#include "pk_barycenter.h"
#include "pk_points.h"
#include "pk_optimizer.h"
#include "pk_random.h"
#include "pk_probe.h"
#include "pk_reference.h"
#endif
