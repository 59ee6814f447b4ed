/* requant/qparams.h — what the integers of a quantized tensor mean.
 *
 *   real = (code - zero_point) * scale,   code = clamp(round_half_even(real / scale) + zero_point)
 *
 * with one scale and zero point for the whole tensor, per index of one axis, or per block of `block`
 * consecutive indices along that axis (then laid out as the tensor with that axis divided by block,
 * rounded up). */
#ifndef REQUANT_QPARAMS_H
#define REQUANT_QPARAMS_H

#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RQ_PER_TENSOR = -1 };

typedef struct rq_qparams {
    rq_dtype dtype;      /* of the codes: S8 U8 S16 U16 S32 S4 U4 S2 U2 */
    int axis;            /* channel axis, or RQ_PER_TENSOR */
    int64_t block;       /* 0, or indices of `axis` that share a scale */
    int64_t n;           /* scales; 1 when per tensor */
    float *scale;        /* [n] */
    int32_t *zero_point; /* [n] */
} rq_qparams;

/* n scales, cleared. RQ_BAD_ARG: n < 1; RQ_NO_MEMORY; then *q is zeroed. */
RQ_API rq_status rq_qparams_init(rq_qparams *q, rq_dtype d, int axis, int64_t block, int64_t n);
/* Per tensor, from one pair. */
RQ_API rq_status rq_qparams_init_one(rq_qparams *q, rq_dtype d, float scale, int32_t zero_point);
RQ_API rq_status rq_qparams_copy(rq_qparams *dst, const rq_qparams *src);
RQ_API void rq_qparams_release(rq_qparams *q);
/* Same type, axis, block, and bit-equal scales and zero points? */
RQ_API bool rq_qparams_equal(const rq_qparams *a, const rq_qparams *b);
/* The least power of two that is not below scale (2^-126 at least, 2^127 at most): no range is cut, and multiplying by it is exact.
 * NaN and what is not positive: 2^-126. */
RQ_API float rq_qparams_power_of_two(float scale);
/* Smallest and largest code. */
RQ_API void rq_qparams_limits(const rq_qparams *q, int32_t *lo, int32_t *hi);

#ifdef __cplusplus
}
#endif
#endif
