/* kernels/pool.h — max pooling by windows of 2 x 2 side by side, the one that most networks have, and its gradient. Selections only: the same
 * bits on every instruction set. Every element of x lies in one window at most; what lies behind the last window is not looked at. */
#ifndef RQ_KERNELS_POOL_H
#define RQ_KERNELS_POOL_H

#include <stdint.h>

/* y [rows][columns] from x, whose rows are `width` >= 2 columns long: the largest of each four, NaN when any is. */
typedef void (*rq_pool_quarters_fn)(float *y, const float *x, int64_t rows, int64_t columns, int64_t width);
/* dx, of x's layout: dy at the first of the four that is y, row by row; 0 at the others. */
typedef void (*rq_pool_quarters_grad_fn)(float *dx, const float *dy, const float *x, const float *y, int64_t rows,
                                         int64_t columns, int64_t width);

void rq_pool_quarters_scalar(float *y, const float *x, int64_t rows, int64_t columns, int64_t width);
void rq_pool_quarters_avx2(float *y, const float *x, int64_t rows, int64_t columns, int64_t width);
void rq_pool_quarters_avx512(float *y, const float *x, int64_t rows, int64_t columns, int64_t width);
void rq_pool_quarters_neon(float *y, const float *x, int64_t rows, int64_t columns, int64_t width);
void rq_pool_quarters_grad_scalar(float *dx, const float *dy, const float *x, const float *y, int64_t rows,
                                  int64_t columns, int64_t width);
void rq_pool_quarters_grad_avx2(float *dx, const float *dy, const float *x, const float *y, int64_t rows,
                                int64_t columns, int64_t width);
void rq_pool_quarters_grad_avx512(float *dx, const float *dy, const float *x, const float *y, int64_t rows,
                                  int64_t columns, int64_t width);
void rq_pool_quarters_grad_neon(float *dx, const float *dy, const float *x, const float *y, int64_t rows,
                                int64_t columns, int64_t width);

#endif
