/* ops/last.h — channels-last codes (op.h, args.last) for rows that work axis by axis: a tensor [N, C, d1 .. dk] that lies as [N, d1 .. dk, C] is an
 * ordinary one of that shape, so a row computes with where its axes lie in memory, and nothing else changes. */
#ifndef RQ_OPS_LAST_H
#define RQ_OPS_LAST_H

#include "ops/op.h"

/* Where axis i of a tensor of this rank lies. */
static inline int rq_last_axis(bool last, int i, int rank)
{
    if (!last || rank < 3 || i == 0)
        return i;
    return i == 1 ? rank - 1 : i - 1;
}

/* The sizes as they lie. */
static inline rq_shape rq_last_shape(bool last, const rq_shape *s)
{
    rq_shape y = *s;
    for (int i = 0; i < s->rank; i++)
        y.dim[rq_last_axis(last, i, s->rank)] = s->dim[i];
    return y;
}

/* An array with an entry per axis, as the axes lie. */
static inline void rq_last_axes(bool last, int rank, int64_t *v)
{
    if (!last || rank < 3)
        return;
    const int64_t channels = v[1];
    for (int i = 1; i + 1 < rank; i++)
        v[i] = v[i + 1];
    v[rank - 1] = channels;
}

/* Input i of a broadcast, as it lies beside an output of this rank: leading axes of size 1 are added. A tensor that stays in the order of the file
 * has these sizes, too, when rq_last_fits. */
rq_shape rq_last_operand(bool last, const rq_shape *s, int rank);
/* Can the node broadcast channels-last? Inputs that lie so have the rank of the output; the others have the same bytes in both orders. */
rq_last rq_last_broadcast(const rq_op_args *a);

/* Does input i lie channels-last where args.last is set? For `last`: constants are those with data. */
static inline bool rq_last_is_image(const rq_op_args *a, int i)
{
    return a->in[i] && a->in_q[i] && !a->in[i]->data && a->in[i]->shape.rank >= 3;
}

/* Elements from a pixel of input i to the next, of channels-last codes. */
static inline int64_t rq_last_in_ld(const rq_op_args *a, int i)
{
    return a->in_ld && a->in_ld[i] ? a->in_ld[i] : a->in[i]->shape.dim[1];
}

/* Of a row that moves or computes along axes of input 0, which lies channels-last, and whose outputs do: always. */
rq_last rq_last_can(const rq_op_args *a);

#endif
