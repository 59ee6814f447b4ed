/* ops/integer.h — what the operators that are integer in the file itself share (integer.c, integer_conv.c): which input
 * is what. Their scales and zero points are ordinary inputs, so they may be known only when they run. */
#ifndef RQ_OPS_INTEGER_H
#define RQ_OPS_INTEGER_H

#include "ops/op.h"

/* Inputs by role; -1: the operator has none. */
typedef struct rq_integer_roles {
    int x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias;
} rq_integer_roles;

/* Input i, or NULL where there is none. */
const rq_tensor *rq_integer_input(const rq_op_args *a, int i);
/* Entries of a scale or zero point; NULL: 1. */
int64_t rq_integer_count(const rq_tensor *t);
/* Types of x, w, their zero points; sets the type of y: that of its zero point, S32 without one. */
rq_status rq_integer_check_types(const rq_infer *a, const rq_integer_roles *r);
/* Parameters of y stand for the whole tensor, and those of x too where they are not `per_row`. */
rq_status rq_integer_check_scalars(const rq_op_args *a, const rq_integer_roles *r, bool per_row);
/* Shape of the product of two tensors by numpy's rules; *y stays as it is where one of them is of unknown rank. */
rq_status rq_integer_matmul_shape(const rq_infer *a, const rq_shape *x, const rq_shape *w, rq_shape *y);

#endif
