/* quant/layout.h — how the elements of a tensor fall to scales: per tensor, along an axis, in blocks along an axis.
 *
 * The tensor is seen as outer x size x inner elements, one scale per `block` indices of the middle. Per axis the scales are
 * those indices; in blocks they are laid out as the tensor with the middle divided by the block, rounded up. */
#ifndef RQ_QUANT_LAYOUT_H
#define RQ_QUANT_LAYOUT_H

#include "requant/qparams.h"

typedef struct rq_layout {
    int64_t outer, size, inner;
    int64_t block, blocks; /* indices of the middle per scale (1 without blocks); how many blocks there are */
    bool blocked;
} rq_layout;

/* axis RQ_PER_TENSOR or an axis of s; block 0 or more. */
static inline rq_layout rq_layout_of(int axis, int64_t block, const rq_shape *s)
{
    if (axis == RQ_PER_TENSOR)
        return (rq_layout) { 1, 1, rq_shape_count(s), 1, 1, false };
    rq_layout l = { .outer = rq_shape_span(s, 0, axis),
                    .size = s->dim[axis],
                    .inner = rq_shape_span(s, axis + 1, s->rank) };
    l.blocked = block != 0;
    l.block = block ? block : 1;
    l.blocks = l.size / l.block + (l.size % l.block != 0);
    return l;
}

/* Scales that it asks for. */
static inline int64_t rq_layout_scales(const rq_layout *l)
{
    return l->blocked ? l->outer * l->blocks * l->inner : l->size;
}

/* Scale of element (o, m, i). */
static inline int64_t rq_layout_scale(const rq_layout *l, int64_t o, int64_t m, int64_t i)
{
    return l->blocked ? (o * l->blocks + m / l->block) * l->inner + i : m;
}

/* Scale of element `at` in row-major order. */
static inline int64_t rq_layout_scale_at(const rq_layout *l, int64_t at)
{
    return rq_layout_scale(l, at / l->inner / l->size, at / l->inner % l->size, at % l->inner);
}

/* Does it fit a tensor of this shape: axis in range, n scales (docs/onnx-facts.md 2.1)? RQ_BAD_SHAPE otherwise; the
 * sentence has both numbers. */
rq_status rq_layout_check(int axis, int64_t block, int64_t n, const rq_shape *shape, rq_err *err);

#endif
