/* kernels/relayout.h — images in planes [N][C][S] and in pixels [N][S][C] (channels-last), S the number of positions: one into the other, alone or
 * on the way between reals and codes. In pixels stand u8 codes; in planes u8 ones, s8 ones (their top bit is flipped on the way) or reals. */
#ifndef RQ_KERNELS_RELAYOUT_H
#define RQ_KERNELS_RELAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/threads.h"

struct rq_kernels;
struct rq_lut8_f32;

typedef struct rq_relayout {
    const struct rq_kernels *k;
    rq_threads *threads;
    int64_t n, c, s;
    bool is_signed; /* codes in planes, and what scale and zp say, are s8 */
    float scale;    /* of reals in planes, as rq_kernels.quantize_u8 and _s8 have them */
    int32_t zp;
    const struct rq_lut8_f32
        *table;       /* from pixels to reals: these in place of scale and zp, by the bits of the pixel; NULL: none */
    bool per_channel; /* of `table`: [c], one for each channel */
} rq_relayout;

/* How work is cut does not depend on the number of threads. x and y do not overlap. */
void rq_relayout_to_last(const rq_relayout *r, uint8_t *y, const uint8_t *x);
void rq_relayout_from_last(const rq_relayout *r, uint8_t *y, const uint8_t *x);
void rq_relayout_quantize(const rq_relayout *r, uint8_t *y, const float *x);   /* to pixels */
void rq_relayout_dequantize(const rq_relayout *r, float *y, const uint8_t *x); /* from pixels */

#endif
