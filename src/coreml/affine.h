/* coreml/affine.h — linear quantization of a weight in blocks, as coremltools computes it: every step in the weight's own type, so fp16 rounds to
 * fp16 after each. Two passes over weights that stay where they are: ranges of the blocks, then codes of any stretch of elements.
 *
 *   symmetric: m = max(|a|, |b|), lo = -m, hi = m;  linear: lo = min(0, a), hi = max(0, b)    a, b: smallest and largest of a block
 *   scale = (hi - lo) / (qmax - qmin)
 *   zp = none (symmetric, signed) | qmax / 2 (symmetric, unsigned) | clamp(rne((qmin hi - qmax lo) / (hi - lo)))
 *   q = clamp(rne(w / scale) + zp)
 * A block of zeros has scale 0, codes 0, and zp 0 where it is computed. */
#ifndef RQ_COREML_AFFINE_H
#define RQ_COREML_AFFINE_H

#include "base/threads.h"
#include "formats/mil.h"
#include "kernels/kernels.h"

typedef struct rq_coreml_affine_type {
    bool symmetric, is_signed, half; /* half: weights and scales are fp16, else fp32 */
    int nbits;                       /* 4, 8 */
} rq_coreml_affine_type;

/* Codes of the type: symmetric ones leave out one end. */
void rq_coreml_affine_codes(const rq_coreml_affine_type *t, int32_t *lo, int32_t *hi);
static inline bool rq_coreml_affine_has_zp(const rq_coreml_affine_type *t)
{
    return !t->symmetric || !t->is_signed;
}
/* Of n blocks from lo[i] to hi[i]; scales are numbers of the type; zp as in rq_coreml_affine, NULL where the type has none. */
void rq_coreml_affine_params(const rq_kernels *k, const rq_coreml_affine_type *t, size_t n, const float *lo,
                             const float *hi, float *scale, int8_t *zp);

/* A weight in blocks. Axes that make one with their neighbour are one. */
typedef struct rq_coreml_affine {
    rq_coreml_affine_type type;
    int64_t n, n_blocks;
    int n_axes;
    struct {
        int64_t count, length; /* of blocks; of elements in each */
    } axis[RQ_MIL_MAX_RANK];
    float *scale; /* [n_blocks], row-major over the blocks of the axes */
    int8_t *zp;   /* [n_blocks] or NULL; uint8 as its bits */
} rq_coreml_affine;

/* block: sizes on each axis, 0 the whole; they divide dim. No memory of its own. */
void rq_coreml_affine_init(rq_coreml_affine *a, const rq_coreml_affine_type *t, int rank, const int64_t *dim,
                           const int64_t *block);

typedef enum rq_coreml_affine_fault {
    RQ_COREML_AFFINE_FINE,
    RQ_COREML_AFFINE_INF,
    RQ_COREML_AFFINE_NAN,
} rq_coreml_affine_fault;

/* Read all of w [n] (fp16 or fp32), and fill scale and zp, which the caller set. mapped: pages of w may go when they were read. *fault: an element
 * that is no real; then scale and zp say nothing. RQ_NO_MEMORY. */
rq_status rq_coreml_affine_measure(rq_coreml_affine *a, const void *w, bool mapped, rq_threads *t,
                                   rq_coreml_affine_fault *fault, rq_err *err);
/* Codes of elements [from, to), a byte each. */
void rq_coreml_affine_quantize(const rq_coreml_affine *a, const void *w, int64_t from, int64_t to, uint8_t *codes);
/* Hand all codes over, packed as their type is, in pieces. */
struct rq_milblob_writer;
rq_status rq_coreml_affine_write(const rq_coreml_affine *a, const void *w, bool mapped, struct rq_milblob_writer *to,
                                 rq_err *err);

#endif
