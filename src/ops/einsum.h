/* ops/einsum.h — what an equation says: labels of the axes of each operand and of the result, and how large they are. */
#ifndef RQ_OPS_EINSUM_H
#define RQ_OPS_EINSUM_H

#include "ops/op.h"

enum {
    RQ_EINSUM_OPERANDS = 8,
    RQ_EINSUM_LETTERS = 52,
    RQ_EINSUM_LABELS = RQ_EINSUM_LETTERS + RQ_MAX_RANK
}; /* letters, then axes of "..." from the right */

typedef struct rq_einsum_equation {
    int n_in;
    int rank[RQ_EINSUM_OPERANDS], label[RQ_EINSUM_OPERANDS][RQ_MAX_RANK];
    int out_rank, out[RQ_MAX_RANK];
    int64_t size[RQ_EINSUM_LABELS]; /* -1 where not known */
    bool used[RQ_EINSUM_LABELS], in_out[RQ_EINSUM_LABELS];
} rq_einsum_equation;

/* Of a node with these inputs, of which shapes are enough; RQ_NOT_FOUND: a rank is not known. */
rq_status rq_einsum_read(const rq_infer *a, rq_einsum_equation *e);

#endif
