/* ops/attention_ms.h — Attention, QAttention and MultiHeadAttention of com.microsoft: which input is what, and sizes. */
#ifndef RQ_OPS_ATTENTION_MS_H
#define RQ_OPS_ATTENTION_MS_H

#include "ops/op.h"

/* Inputs and outputs of these operators, by what they are; -1: that operator has none. */
typedef struct rq_ms_roles {
    bool projects, codes; /* makes q, k and v itself; from input and weights that are codes */
    int bias, mask, added, past_k, past_v, present_k, present_v, scores, first_refused;
} rq_ms_roles;

/* Sizes; negative where not known (infer only). total = past + rows. */
typedef struct rq_ms_dims {
    int64_t batch, heads, queries, rows, past, total, size, v_size;
    int64_t hidden, v_hidden; /* of q and k, of v */
} rq_ms_dims;

const rq_ms_roles *rq_ms_roles_of(const rq_node *n);
/* Input i; NULL where i is -1 or beyond those given. */
const rq_tensor *rq_ms_input(const rq_tensor *const *in, int n_in, int i);
/* `infer` of their rows. */
rq_status rq_ms_infer(const rq_infer *a);
/* The sizes of a run, whose inputs went through rq_ms_infer. */
void rq_ms_find(const rq_op_args *a, const rq_ms_roles *r, rq_ms_dims *d);

#endif
