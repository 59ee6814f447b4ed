/* ops/eltwise_grad.h — backward of the operators of ops/eltwise.c. */
#ifndef RQ_OPS_ELTWISE_GRAD_H
#define RQ_OPS_ELTWISE_GRAD_H

#include "ops/op.h"

/* Scratch for one gradient of the output's shape, which is then summed to the shape of an operand that was repeated. */
size_t rq_eltwise_grad_scratch(const rq_op_args *a);
size_t
rq_eltwise_grad_scratch_ties(const rq_op_args *a); /* and the number of operands that are the smallest or largest */

/* t = f(dy, u, v), element by element, of the output's shape; t may be dy. t is the gradient of input i where that was not
 * repeated, else scratch, which is then summed. u and v broadcast to it. sy, su, sv of fn as in ops/bcast.h. */
typedef void (*rq_eltwise_grad_fn)(const rq_kernels *k, float *t, const float *dy, const float *u, int su,
                                   const float *v, int sv, int64_t n);
rq_status rq_eltwise_grad_input(const rq_op_args *a, int i, const rq_tensor *dy, const rq_tensor *u, const rq_tensor *v,
                                rq_eltwise_grad_fn fn);

rq_status rq_eltwise_grad_add(const rq_op_args *a); /* Add, Sum */
rq_status rq_eltwise_grad_sub(const rq_op_args *a);
rq_status rq_eltwise_grad_mul(const rq_op_args *a);
rq_status rq_eltwise_grad_div(const rq_op_args *a);
rq_status rq_eltwise_grad_mean(const rq_op_args *a);
rq_status
rq_eltwise_grad_extreme(const rq_op_args *a); /* Min, Max: shared evenly by operands that are equal, as PyTorch does */
rq_status rq_eltwise_grad_pow(const rq_op_args *a);
rq_status rq_eltwise_grad_mod(const rq_op_args *a);
rq_status rq_eltwise_grad_prelu(const rq_op_args *a); /* at 0 the slope's side, as PyTorch has it */

#endif
