/* ops/recurrent.h — the recurrent cells with matrix products of another kind: how DynamicQuantizeLSTM is an LSTM. */
#ifndef RQ_OPS_RECURRENT_H
#define RQ_OPS_RECURRENT_H

#include "ops/op.h"

/* y [rows][gates * hidden] = x by the weights of direction dir: W, x being [rows][input], or (`recurrent`) R, x being
 * [rows][hidden]. */
typedef rq_status (*rq_recurrent_product)(void *arg, float *y, const float *x, int64_t rows, int dir, bool recurrent);

typedef struct rq_recurrent_sizes { /* negative: not known */
    int64_t steps, batch, input, hidden;
    int dirs;
    bool batch_first;
} rq_recurrent_sizes;

rq_status rq_recurrent_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err);
rq_status rq_recurrent_infer(const rq_infer *a);
rq_status rq_recurrent_sizes_of(const rq_op_args *a, rq_recurrent_sizes *z);
size_t rq_recurrent_scratch(const rq_op_args *a);
/* The node in f32; product NULL: with its own weights. Uses the first rq_recurrent_scratch bytes of a->scratch. */
rq_status rq_recurrent_run(const rq_op_args *a, rq_recurrent_product product, void *arg);
double rq_recurrent_macs(const rq_op_args *a);

#endif
