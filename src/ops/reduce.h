/* ops/reduce.h — reductions over any axes as one walk, for Reduce* and the normalizations. */
#ifndef RQ_OPS_REDUCE_H
#define RQ_OPS_REDUCE_H

#include "ops/op.h"

typedef enum rq_reduce {
    RQ_REDUCE_SUM,
    RQ_REDUCE_MEAN,
    RQ_REDUCE_MAX,
    RQ_REDUCE_MIN,
    RQ_REDUCE_PROD,
    RQ_REDUCE_L1,
    RQ_REDUCE_L2,
    RQ_REDUCE_SUM_SQUARE,
    RQ_REDUCE_LOG_SUM,
    RQ_REDUCE_LOG_SUM_EXP,
} rq_reduce;

/* The tensor's axes, neighbours of one kind merged: kept and reduced ones, outermost first. */
typedef struct rq_reduce_plan {
    int n_kept, n_red;
    int64_t kept[RQ_MAX_RANK], kept_stride[RQ_MAX_RANK]; /* sizes and strides in elements of x */
    int64_t red[RQ_MAX_RANK], red_stride[RQ_MAX_RANK];
    int64_t outputs, group; /* numbers written; elements behind each */
    int64_t row;            /* innermost reduced axis when its stride is 1, else 1 */
} rq_reduce_plan;

/* reduced[i]: is axis i of x reduced? */
void rq_reduce_plan_init(rq_reduce_plan *p, const rq_shape *x, const bool *reduced);

/* y[p.outputs] = kind over the groups of x. x and y have one type: F32 (partial sums in the lane tree, joined in
 * double), F64, or an integer (sums wrap in 64 bits, the mean is cut towards zero). An empty group gives the neutral
 * element; of Max and Min it is -inf and +inf, or the type's limits. RQ_UNSUPPORTED, RQ_NO_MEMORY. */
rq_status rq_reduce_run(const rq_op_args *a, const rq_reduce_plan *p, rq_reduce kind, rq_tensor *y, const rq_tensor *x);

#endif
