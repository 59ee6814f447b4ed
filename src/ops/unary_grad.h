/* ops/unary_grad.h — backward of the functions of one element that are no activations: dx = dy f'(x), or of f'(y). */
#ifndef RQ_OPS_UNARY_GRAD_H
#define RQ_OPS_UNARY_GRAD_H

#include "ops/op.h"

/* Each row says in `saves` which of x and y its derivative is made of; in place where it may be. */
rq_status rq_unary_grad_abs(const rq_op_args *a);        /* x; 0 at 0 */
rq_status rq_unary_grad_neg(const rq_op_args *a);        /* neither */
rq_status rq_unary_grad_exp(const rq_op_args *a);        /* y */
rq_status rq_unary_grad_log(const rq_op_args *a);        /* x */
rq_status rq_unary_grad_sqrt(const rq_op_args *a);       /* y */
rq_status rq_unary_grad_reciprocal(const rq_op_args *a); /* y */
rq_status rq_unary_grad_sin(const rq_op_args *a);        /* x, as all below but Tan */
rq_status rq_unary_grad_cos(const rq_op_args *a);
rq_status rq_unary_grad_tan(const rq_op_args *a); /* y */
rq_status rq_unary_grad_asin(const rq_op_args *a);
rq_status rq_unary_grad_acos(const rq_op_args *a);
rq_status rq_unary_grad_atan(const rq_op_args *a);
rq_status rq_unary_grad_sinh(const rq_op_args *a);
rq_status rq_unary_grad_cosh(const rq_op_args *a);
rq_status rq_unary_grad_asinh(const rq_op_args *a);
rq_status rq_unary_grad_acosh(const rq_op_args *a);
rq_status rq_unary_grad_atanh(const rq_op_args *a);
rq_status rq_unary_grad_erf(const rq_op_args *a);

#endif
