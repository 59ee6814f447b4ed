/* ops/grad.h — what backward functions share: which gradients came and are wanted, passing one on, sums over what broadcasting
 * repeated. All in f32. */
#ifndef RQ_OPS_GRAD_H
#define RQ_OPS_GRAD_H

#include "ops/op.h"

/* dL/d in[i], to be written; NULL: not wanted. */
static inline rq_tensor *rq_grad_in(const rq_op_args *a, int i)
{
    return i >= 0 && i < a->n_in ? a->training->grad_in[i] : NULL;
}

/* dL/d out[i]; NULL: zero. */
static inline const rq_tensor *rq_grad_out(const rq_op_args *a, int i)
{
    return i < a->n_out ? a->training->grad_out[i] : NULL;
}

void rq_grad_zero(rq_tensor *t); /* NULL is fine */
/* Every wanted gradient becomes 0: what there is to do when no gradient came. */
void rq_grad_zeros(const rq_op_args *a);
/* dst = src, of the same count; nothing to do where they are the same bytes. */
void rq_grad_copy(rq_tensor *dst, const rq_tensor *src);
/* dst = src summed over the axes along which dst was repeated to src's shape (numpy broadcasting). Rows in the lane tree of kernels/reduce.h,
 * joined in double in order. dst may be src where nothing was repeated. */
rq_status rq_grad_sum(const rq_op_args *a, rq_tensor *dst, const rq_tensor *src);

/* Whole backward functions. */
rq_status
rq_grad_pass(const rq_op_args *a); /* output 0 is input 0, perhaps under another shape: in place where it may be */
rq_status rq_grad_none(const rq_op_args *a); /* flat everywhere (Floor, Sign): zero */

#endif
