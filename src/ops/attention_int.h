/* ops/attention_int.h — the projection of QAttention: q, k and v are one product of 8-bit codes, x [B,S,in] by w [in,n],
 * f32(sum) * f32(sx sw[c]) + bias[c]. The rest of the operator is Attention's (attention_ms.c). */
#ifndef RQ_OPS_ATTENTION_INT_H
#define RQ_OPS_ATTENTION_INT_H

#include "ops/op.h"

/* Types and sizes of the inputs that Attention has not. */
rq_status rq_attention_int_check(const rq_infer *a);
rq_status rq_attention_int_prepare(const rq_op_args *a, void **state);
void rq_attention_int_release(void *state);
size_t rq_attention_int_scratch(const rq_op_args *a);
/* y [B*S][n]; scratch of its own, 64-byte aligned. */
void rq_attention_int_project(const rq_op_args *a, float *y, void *scratch);

#endif
