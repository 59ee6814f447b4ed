/* quant/fake_quantize.h — the parameters of requant/fake_quantize.h as kernels want them: a tensor is cut into spans whose
 * elements share one scale, or whose scales lie in a row. */
#ifndef RQ_QUANT_FAKE_QUANTIZE_H
#define RQ_QUANT_FAKE_QUANTIZE_H

#include "kernels/fakequant.h"
#include "quant/layout.h"
#include "requant/fake_quantize.h"

typedef struct rq_fq_plan {
    const rq_fq *f;
    rq_layout layout;
    rq_fakequant base; /* all of it per tensor; what scales share otherwise */
    int64_t count;     /* elements */
    /* Rows of numbers, where the channel is (nearly) the last axis: element `at` takes number at % period, repeated up to
     * row_n. 0: one scale per span, or rows of blocks, which are not repeated. */
    int64_t period, row_n;
    float *rows; /* ours; NULL or 3 * n: in, out, zero point */
    const float *in_row, *out_row, *zp_row;
    float float8[256]; /* what the codes of a float type mean */
} rq_fq_plan;

/* f fits the shape (rq_fq_check); it and what it points to must outlive the plan. RQ_NO_MEMORY. */
rq_status rq_fq_plan_init(rq_fq_plan *p, const rq_fq *f, const rq_shape *shape, rq_err *err);
void rq_fq_plan_release(rq_fq_plan *p);

/* The parameters of elements at..at+n-1 to *k; returns n, at least 1 and at most `most`. */
int64_t rq_fq_plan_span(const rq_fq_plan *p, int64_t at, int64_t most, rq_fakequant *k);

/* Work is cut into pieces of so many elements, whatever the number of threads, and strided ones into tiles. */
enum { RQ_FQ_PIECE = 65536, RQ_FQ_TILE = 1024 };

/* From so many bytes read and written by one call, what is written would leave the caches before anyone reads it, and take
 * with it what they hold: memory is then written without being read first (rq_fakequant.stream), as memcpy does. */
enum { RQ_FQ_STREAM_BYTES = 32 << 20 };

/* rq_fake_quantize of max(x, 0), f32, with a mask (not NULL) that is 2 where that is 0; f NULL: y is max(x, 0) as it is. And back: dx = 0 there,
 * else as rq_fake_quantize_backward_mask. What a Relu and a fake quantization behind it do together, to the bit. */
rq_status rq_fake_quantize_relu(rq_exec *e, const rq_strided *y, const rq_strided *mask, const rq_strided *x,
                                const rq_fq *f, rq_err *err);
rq_status rq_fake_quantize_relu_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *mask,
                                         rq_err *err);

#endif
