/* ops/int_depthwise.h — Conv with one input channel per group on channels-last codes: sums over taps channel by channel (kernels/dwlast.h), where a
 * product of matrices would multiply with zeros. Part of the integer form of Conv (ops/int_conv.c). */
#ifndef RQ_OPS_INT_DEPTHWISE_H
#define RQ_OPS_INT_DEPTHWISE_H

#include "ops/op.h"

typedef struct rq_int_depthwise rq_int_depthwise;

/* Is this Conv such a one? */
bool rq_int_depthwise_is(const rq_op_args *a);
/* RQ_NO_MEMORY; what the window refuses. Neither packs nor folds. */
rq_status rq_int_depthwise_create(rq_int_depthwise **out, const rq_op_args *a);
void rq_int_depthwise_destroy(rq_int_depthwise *d);
/* Weights are there for good: shared with whoever has the same (ops/packs.h); then fold. RQ_NO_MEMORY. */
rq_status rq_int_depthwise_pack_constant(rq_int_depthwise *d, const rq_op_args *a);
/* Weights that were not there when it was created came, or changed; then fold. */
void rq_int_depthwise_pack(rq_int_depthwise *d, const rq_op_args *a);
/* Parameters and the bias are there, or changed. */
void rq_int_depthwise_fold(rq_int_depthwise *d, const rq_op_args *a);
/* See rq_int_conv_scaled. */
void rq_int_depthwise_scaled(rq_int_depthwise *d, const float *bias);
/* Bytes that run needs. */
size_t rq_int_depthwise_scratch(const rq_int_depthwise *d, const rq_op_args *a);
/* x [N][in][x_ld] u8, of which the first C count, to y [N][out][M], elements as output 0 has them; then the posts of a. */
void rq_int_depthwise_run(const rq_int_depthwise *d, const rq_op_args *a, const uint8_t *x, int64_t x_ld, void *y,
                          void *scratch);

#endif
