/* kernels/batch_norm.h — the loops of batch normalization in training: sums over a run of one channel, and what is done to each
 * element once they are known.
 *
 * Element i goes to lane i % 16. Lanes are joined in f32 over blocks of RQ_BN_BLOCK elements, across blocks in double, so that a sum over a
 * million elements is as good as one over sixteen; rq_bn_join adds the lanes 8 apart, 4, 2, 1. The same bits at every vector width. */
#ifndef RQ_KERNELS_BATCH_NORM_H
#define RQ_KERNELS_BATCH_NORM_H

#include <stddef.h>

enum { RQ_BN_LANES = 16, RQ_BN_BLOCK = 256 };

typedef struct rq_bn_sums {
    double a[RQ_BN_LANES], b[RQ_BN_LANES];
} rq_bn_sums;

/* a += x - shift, b += (x - shift)^2. `ahead`: how many elements on the next run of the channel begins, to fetch it meanwhile (the CPU does not
 * guess it: it lies pages away); 0: there is none. */
typedef void (*rq_bn_moments_fn)(rq_bn_sums *s, const float *x, size_t n, float shift, size_t ahead);
/* a += dy, b += dy (x - shift) */
typedef void (*rq_bn_products_fn)(rq_bn_sums *s, const float *dy, const float *x, size_t n, float shift, size_t ahead);
/* y = x / k + bias, a += y: what a convolution gives without the factor folded into its weights */
typedef void (*rq_bn_unfold_fn)(rq_bn_sums *s, float *y, const float *x, size_t n, float k, float bias, size_t ahead);
/* y = (x - shift) scale + add; y may be x */
typedef void (*rq_bn_apply_fn)(float *y, const float *x, size_t n, float shift, float scale, float add);
/* dx = scale ((dy - mean) - slope (x - shift)); dx may be dy or x */
typedef void (*rq_bn_grad_fn)(float *dx, const float *dy, const float *x, size_t n, float shift, float scale,
                              float mean, float slope);

/* Sum of lanes. */
static inline double rq_bn_join(const double lane[RQ_BN_LANES])
{
    double t[RQ_BN_LANES / 2];
    for (int i = 0; i < 8; i++)
        t[i] = lane[i] + lane[i + 8];
    for (int apart = 4; apart; apart /= 2)
        for (int i = 0; i < apart; i++)
            t[i] += t[i + apart];
    return t[0];
}

typedef struct rq_bn_isa {
    rq_bn_moments_fn moments;
    rq_bn_unfold_fn unfold;
    rq_bn_products_fn products;
    rq_bn_apply_fn apply;
    rq_bn_grad_fn grad;
} rq_bn_isa;
extern const rq_bn_isa rq_bn_scalar, rq_bn_avx2, rq_bn_avx512, rq_bn_neon;

#endif
