/* kernels/float_dnnl.h — float convolution and matrix products through oneDNN; no other file includes it. The order of
 * its sums depends on the instruction set: gemm_f32 and conv_f32 come here only where rq_kernels.library allows that.
 *
 * Tensors are plain row-major outside. What oneDNN wants inside (weights in its own order, activations in blocks of
 * channels) is made here: weights once when they are constant, activations where it pays.
 *
 * Each primitive runs on one OpenMP thread; work is spread over the pool of base/threads in pieces whose cut follows
 * from sizes alone, so that results have the same bits with any number of threads. */
#ifndef RQ_KERNELS_FLOAT_DNNL_H
#define RQ_KERNELS_FLOAT_DNNL_H

#include "kernels/conv_f32.h"
#include "kernels/conv_grad.h"

typedef struct rq_float_dnnl_conv rq_float_dnnl_conv;

/* As rq_conv_f32_*, for a geometry without needless axes. RQ_UNSUPPORTED: oneDNN has no kernel for it (negative pads, odd
 * dilations); RQ_INTERNAL: it failed. */
rq_status rq_float_dnnl_conv_create(rq_float_dnnl_conv **out, const rq_conv_geom *g, const float *w, bool bias,
                                    int threads);
void rq_float_dnnl_conv_destroy(rq_float_dnnl_conv *c);
size_t rq_float_dnnl_conv_scratch(const rq_float_dnnl_conv *c);
rq_status rq_float_dnnl_conv_run(const rq_float_dnnl_conv *c, float *y, const float *x, const float *w,
                                 const float *bias, void *scratch, rq_threads *t);

typedef struct rq_float_dnnl_grad rq_float_dnnl_grad;

/* As rq_conv_grad_* (kernels/conv_grad.h) without the bias, for a geometry without needless axes. *have: which of `want` it makes; RQ_UNSUPPORTED:
 * none. */
rq_status rq_float_dnnl_grad_create(rq_float_dnnl_grad **out, unsigned *have, const rq_conv_geom *g, unsigned want,
                                    int threads);
void rq_float_dnnl_grad_destroy(rq_float_dnnl_grad *c); /* NULL is fine */
size_t rq_float_dnnl_grad_scratch(const rq_float_dnnl_grad *c);
rq_status rq_float_dnnl_grad_run(const rq_float_dnnl_grad *c, float *dx, float *dw, const float *dy, const float *x,
                                 const float *w, void *scratch, rq_threads *t);

/* As rq_gemm_f32_batch (kernels/gemm_f32.h), sizes at least 1. Rows (or columns, where there are few rows) are spread over
 * the pool. */
rq_status rq_float_dnnl_gemm(float *c, const float *a, const float *b, const int64_t *c_at, const int64_t *a_at,
                             const int64_t *b_at, int64_t count, bool trans_a, bool trans_b, int64_t m, int64_t n,
                             int64_t k, float alpha, int64_t lda, int64_t ldb, float beta, int64_t ldc, rq_threads *t);

/* "2.6.3", for `requant --version`. */
const char *rq_float_dnnl_version(void);

#endif
