/* ops/last.c — see last.h. */
#include "ops/last.h"

rq_shape rq_last_operand(bool last, const rq_shape *s, int rank)
{
    rq_shape y = { .rank = rank };
    for (int i = 0; i < rank; i++)
        y.dim[i] = i < rank - s->rank ? 1 : s->dim[i - (rank - s->rank)];
    return rq_last_shape(last, &y);
}

/* Are the bytes of [N, C, d1 .. dk] the same in both orders? */
static bool is_either(const rq_shape *s, int rank)
{
    const rq_shape y = rq_last_operand(false, s, rank);
    return y.dim[1] == 1 || rq_shape_span(&y, 2, rank) == 1;
}

rq_last rq_last_broadcast(const rq_op_args *a)
{
    const int rank = a->out[0]->shape.rank;
    if (rank < 3)
        return RQ_LAST_NO;
    for (int i = 0; i < a->n_in; i++) {
        const rq_shape *s = &a->in[i]->shape;
        if (rq_last_is_image(a, i) ? s->rank != rank : !is_either(s, rank))
            return RQ_LAST_NO;
    }
    return RQ_LAST_CAN;
}

rq_last rq_last_can(const rq_op_args *a)
{
    return a->in[0]->shape.rank >= 3 ? RQ_LAST_CAN : RQ_LAST_NO;
}
