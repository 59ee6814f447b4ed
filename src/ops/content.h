/* ops/content.h — what shape inference knows of the content of small tensors. Exports compute shapes in the
 * graph (Shape -> Gather -> Concat -> Reshape); following the numbers, known or symbolic, is what makes the
 * shapes behind them known before anything runs. */
#ifndef RQ_OPS_CONTENT_H
#define RQ_OPS_CONTENT_H

#include "ops/op.h"

/* Nothing, everything, or something. */
typedef struct rq_content {
    rq_tensor exact; /* of the value's own type; dtype NONE: not known whole */
    rq_tensor part;  /* S64, entries that are sizes not known yet stand as rq_content_unknown(dim); else dtype NONE */
} rq_content;

enum { RQ_CONTENT_MAX = 1024 }; /* elements followed */

/* A negative dim (-1 or a symbol) as an entry of `part`, far from every number a model computes with. */
static inline int64_t rq_content_unknown(int64_t dim)
{
    return -(INT64_C(1) << 62) + dim;
}

/* The dim of such an entry; 0 when v is an ordinary number. */
static inline int64_t rq_content_dim(int64_t v)
{
    int64_t dim = v + (INT64_C(1) << 62);
    return dim < 0 && dim >= INT32_MIN ? dim : 0;
}

void rq_content_release(rq_content *c);

/* What is known of the outputs of a node whose inputs hold in[n_in] (NULL: omitted): calls the row's forward on
 * known numbers, moves unknown ones, does symbolic arithmetic. a: as its infer function had it, with
 * out_dtype and out_shape filled in. out[n_out] arrive zeroed; nothing known is no error. RQ_NO_MEMORY. */
rq_status rq_content_follow(const rq_infer *a, const rq_content *const *in, rq_content *out, const rq_kernels *k);

/* Axes [*from, *to) of a rank that a Shape node lists (its start and end, clamped). */
void rq_content_shape_range(const rq_node *n, int rank, int *from, int *to);

#endif
