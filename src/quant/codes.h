/* quant/codes.h — whole tensors of reals to codes and back, for every layout of scales: per tensor, along an
 * axis, in blocks along an axis. The rounding itself is the kernels'. */
#ifndef RQ_QUANT_CODES_H
#define RQ_QUANT_CODES_H

#include "base/threads.h"
#include "kernels/kernels.h"
#include "requant/qparams.h"

/* Does q fit a tensor of this shape: axis in range, n the number of scales that axis and block ask for
 * (docs/onnx-facts.md 2.1)? RQ_BAD_SHAPE otherwise; the sentence has both numbers. */
rq_status rq_codes_check(const rq_qparams *q, const rq_shape *shape, rq_err *err);

/* Index into q->scale of element i of a tensor of this shape, for callers that walk single elements. */
int64_t rq_codes_scale_index(const rq_qparams *q, const rq_shape *shape, int64_t i);

/* codes (of q->dtype, created by the caller with the shape of x) from x (F32). q fits the shape. S32 and packed
 * types too. */
void rq_codes_from_reals(rq_tensor *codes, const rq_tensor *x, const rq_qparams *q, const rq_kernels *k);
/* The same on several threads where there is one scale; t may be NULL. */
void rq_codes_from_reals_on(rq_threads *t, rq_tensor *codes, const rq_tensor *x, const rq_qparams *q,
                            const rq_kernels *k);

/* y (F32, created by the caller with the shape of codes) from codes of any integer type. */
void rq_codes_to_reals(rq_tensor *y, const rq_tensor *codes, const rq_qparams *q, const rq_kernels *k);
void rq_codes_to_reals_on(rq_threads *t, rq_tensor *y, const rq_tensor *codes, const rq_qparams *q,
                          const rq_kernels *k);

#endif
