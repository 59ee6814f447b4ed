/* kernels/float_dnnl.h — float convolution and matrix products through oneDNN; no other file includes it.
 *
 * Tensors are plain row-major outside. What oneDNN wants inside (weights in its own order, activations in blocks of
 * channels) is made here: weights once when they are constant, activations where it pays.
 *
 * Each primitive runs on one OpenMP thread; work is spread over the pool of base/threads in pieces whose cut follows
 * from sizes alone, so that results have the same bits with any number of threads. */
#ifndef RQ_KERNELS_FLOAT_DNNL_H
#define RQ_KERNELS_FLOAT_DNNL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/conv_f32.h"

typedef struct rq_conv_f32 rq_conv_f32;

/* Get ready to convolve. w: the weights when they are constant (copied), else NULL. threads: of the pool that will run
 * it. RQ_NO_MEMORY; RQ_INTERNAL: oneDNN failed. All sizes are at least 1. */
rq_status rq_conv_f32_create(rq_conv_f32 **out, const rq_conv_geom *g, const float *w, bool bias, int threads);
void rq_conv_f32_destroy(rq_conv_f32 *c); /* NULL is fine */
/* Bytes that rq_conv_f32_run needs at `scratch`, 64-byte aligned. */
size_t rq_conv_f32_scratch(const rq_conv_f32 *c);
/* y [batch][out_ch][out] = conv(x [batch][in_ch][in], w) + bias [out_ch]. w is read only when create had none. */
rq_status rq_conv_f32_run(const rq_conv_f32 *c, float *y, const float *x, const float *w, const float *bias,
                          void *scratch, rq_threads *t);
/* How it computes: "gemm", "direct" (oneDNN's choice), "plain" (loops of our own); for tests and profiles. */
const char *rq_conv_f32_how(const rq_conv_f32 *c);

/* c [m][n] = alpha * op(a) op(b) + beta * c, row-major; op(a) is m x k: a is [m][k], or [k][m] when trans_a; b likewise.
 * lda, ldb, ldc: elements from row to row as stored. k = 0 gives beta * c. Rows (or columns, where there are few rows)
 * are spread over the pool. RQ_INTERNAL: oneDNN failed. */
rq_status rq_gemm_f32(float *c, const float *a, const float *b, bool trans_a, bool trans_b, int64_t m, int64_t n,
                      int64_t k, float alpha, int64_t lda, int64_t ldb, float beta, int64_t ldc, rq_threads *t);

/* The same for `count` independent products: pointers are a + a_at[i] and so on (elements). */
rq_status rq_gemm_f32_batch(float *c, const float *a, const float *b, const int64_t *c_at, const int64_t *a_at,
                            const int64_t *b_at, int64_t count, bool trans_a, bool trans_b, int64_t m, int64_t n,
                            int64_t k, float alpha, int64_t lda, int64_t ldb, float beta, int64_t ldc, rq_threads *t);

/* "2.6.3", for `requant --version`. */
const char *rq_float_dnnl_version(void);

#endif
