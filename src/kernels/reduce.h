/* kernels/reduce.h — a row of floats to one number, by one fixed lane tree.
 *
 * Element i goes to lane i % 16, lanes start at the neutral element and take their elements in order; then
 * lanes are joined 8 apart, 4, 2, 1. So the answer has the same bits at every vector width. */
#ifndef RQ_KERNELS_REDUCE_H
#define RQ_KERNELS_REDUCE_H

#include <stddef.h>

typedef enum rq_fold {
    RQ_FOLD_SUM,    /* sum x */
    RQ_FOLD_ABS,    /* sum |x| */
    RQ_FOLD_SQUARE, /* sum (x - c)^2 */
    RQ_FOLD_EXP,    /* sum e^(x - c) */
    RQ_FOLD_MAX,    /* -inf of none; NaN when any is */
    RQ_FOLD_MIN,    /* +inf of none; NaN when any is */
    RQ_FOLD_PROD,   /* 1 of none */
    RQ_N_FOLDS
} rq_fold_id;

/* The fold of x[0..n); c only where the list says so. */
typedef float (*rq_fold_fn)(const float *x, size_t n, float c);
/* y[i] = e^(x[i] - c), and their sum; y may be x. */
typedef float (*rq_exp_sum_fn)(float *y, const float *x, size_t n, float c);

extern const rq_fold_fn rq_fold_scalar[RQ_N_FOLDS], rq_fold_avx2[RQ_N_FOLDS], rq_fold_avx512[RQ_N_FOLDS],
    rq_fold_neon[RQ_N_FOLDS];
float rq_exp_sum_scalar(float *y, const float *x, size_t n, float c);
float rq_exp_sum_avx2(float *y, const float *x, size_t n, float c);
float rq_exp_sum_avx512(float *y, const float *x, size_t n, float c);
float rq_exp_sum_neon(float *y, const float *x, size_t n, float c);
/* What rq_kernels.sum_f32 points at: RQ_FOLD_SUM without c. */
float rq_sum_f32_scalar(const float *x, size_t n);
float rq_sum_f32_avx2(const float *x, size_t n);
float rq_sum_f32_avx512(const float *x, size_t n);
float rq_sum_f32_neon(const float *x, size_t n);

/* The same over doubles; one version, the definition. */
typedef double (*rq_fold_f64_fn)(const double *x, size_t n, double c);
extern const rq_fold_f64_fn rq_fold_f64[RQ_N_FOLDS];

#endif
