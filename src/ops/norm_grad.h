/* ops/norm_grad.h — backward of the normalizations of ops/norm.c and ops/norm_plain.c. (Batch norm's: ops/batch_train.h.) */
#ifndef RQ_OPS_NORM_GRAD_H
#define RQ_OPS_NORM_GRAD_H

#include "ops/norm.h"

/* InstanceNormalization, GroupNormalization, LayerNormalization, RMSNormalization: x and gain. Forward leaves the mean and the inverse
 * deviation of each row. */
typedef struct rq_norm_saved {
    float *mean, *inv; /* [rows]; NULL: nobody asks */
} rq_norm_saved;
rq_norm_saved rq_norm_grad_saved(const rq_op_args *a);
size_t rq_norm_grad_saved_bytes(const rq_op_args *a);
rq_status rq_norm_grad_rows(const rq_op_args *a);
size_t rq_norm_grad_rows_scratch(const rq_op_args *a);

/* SkipLayerNormalization and its like: every input. */
rq_status rq_norm_grad_skip(const rq_op_args *a);
size_t rq_norm_grad_skip_scratch(const rq_op_args *a);

rq_status rq_norm_grad_lp(const rq_op_args *a);  /* x */
rq_status rq_norm_grad_lrn(const rq_op_args *a); /* x */
size_t rq_norm_grad_lrn_scratch(const rq_op_args *a);
rq_status rq_norm_grad_mvn(const rq_op_args *a); /* x */
size_t rq_norm_grad_mvn_scratch(const rq_op_args *a);

/* norm.c: which inputs beta and the bias of the sum are (-1: none), and what is normalized. */
typedef struct rq_norm_skip {
    int beta, bias;
} rq_norm_skip;
rq_norm_skip rq_norm_skip_of(const rq_node *n);
rq_status rq_norm_skip_sum(const rq_op_args *a, rq_tensor *sum);

/* norm_plain.c: the axes of a MeanVarianceNormalization. RQ_BAD_SHAPE. */
rq_status rq_norm_mvn_axes(const rq_node *n, int rank, bool *reduced);

#endif
