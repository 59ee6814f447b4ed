/* ops/eltwise.h — elementwise functions on whole tensors, for every file of operators that needs one. */
#ifndef RQ_OPS_ELTWISE_H
#define RQ_OPS_ELTWISE_H

#include "ops/op.h"

/* y = f(x; p, q) for tensors of one type and count: f32, f64, and the integers where the function has an integer
 * form (kernels/eltwise.h; p and q must be whole then). RQ_UNSUPPORTED otherwise, naming the node. */
rq_status rq_eltwise_map(const rq_op_args *a, rq_tensor *y, const rq_tensor *x, rq_map_id f, double p, double q);

/* y = f(u, v) with numpy broadcasting, all of one type; y may be u or v when that has y's shape. */
rq_status rq_eltwise_zip(const rq_op_args *a, rq_tensor *y, const rq_tensor *u, const rq_tensor *v, rq_zip_id f);

/* An activation that a fused operator does to its sums: attribute "activation", with "activation_params". */
typedef struct rq_eltwise_then {
    bool active; /* there is one: f(x; p, q) */
    rq_map_id f;
    float p, q;
} rq_eltwise_then;

/* RQ_UNSUPPORTED: it is none that is known, said of the node. */
rq_status rq_eltwise_read_then(const rq_op_args *a, rq_eltwise_then *t);

/* The integer functions of a type; NULL when it is none of the eight. */
const rq_eltwise_int *rq_eltwise_ints(rq_dtype d);

#endif
