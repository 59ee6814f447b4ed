/* kernels/dwplane.h — depthwise convolution of one plane of floats, read where it lies: for each window row and column the outputs of a row see a run of
 * the input (or every second element of one), and what lies outside is 0. */
#ifndef RQ_KERNELS_DWPLANE_H
#define RQ_KERNELS_DWPLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RQ_DWPLANE_MAX = 7 }; /* rows and columns of a kernel */

/* [0] is rows, [1] columns. Columns have stride 1 or 2 and dilation 1. */
typedef struct rq_dwplane {
    int64_t in[2], out[2], pad[2];
    int kernel[2], stride[2], dilation;
} rq_dwplane;

/* y[i][j] = bias + the sum over taps (r, c), in order, of w[r][c] * x[i * stride[0] + r * dilation - pad[0]][j * stride[1] + c - pad[1]]:
 * multiplied, then added; what is outside of x takes part as 0. */
typedef void (*rq_dwplane_fn)(const rq_dwplane *g, float *y, const float *x, const float *w, float bias);

void rq_dwplane_f32_scalar(const rq_dwplane *g, float *y, const float *x, const float *w, float bias);
void rq_dwplane_f32_avx2(const rq_dwplane *g, float *y, const float *x, const float *w, float bias);
void rq_dwplane_f32_avx512(const rq_dwplane *g, float *y, const float *x, const float *w, float bias);
void rq_dwplane_f32_neon(const rq_dwplane *g, float *y, const float *x, const float *w, float bias);

#endif
