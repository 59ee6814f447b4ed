/* ops/indices.h — elements at indices, for ops/gather.c and ops/scatter.c: index tensors, the axis they count along, and a walk over two
 * tensors of different strides. Negative indices count from the end; every index is checked before it is used. */
#ifndef RQ_OPS_INDICES_H
#define RQ_OPS_INDICES_H

#include <string.h>

#include "ops/op.h"

static inline bool is_index(rq_dtype d)
{
    return d == RQ_DTYPE_S32 || d == RQ_DTYPE_S64;
}

/* Element i of an index tensor. */
static inline int64_t index_at(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_S32 ? t->s32[i] : t->s64[i];
}

/* Index v of an axis of size n, made non-negative; -1 when out of range. */
static inline int64_t wrap(int64_t v, int64_t n)
{
    if (v < -n || v >= n)
        return -1;
    return v < 0 ? v + n : v;
}

static inline rq_status bad_index(const rq_op_args *a, int64_t v, int64_t n)
{
    return rq_op_fail(a, RQ_BAD_DATA, "index %lld of an axis of size %lld", (long long)v, (long long)n);
}

static inline rq_status check_index_type(const rq_infer *a, int i)
{
    rq_dtype d = a->in[i]->dtype;
    if (d != RQ_DTYPE_NONE && !is_index(d))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the indices are %s, expected s32 or s64", rq_dtype_name(d));
    return RQ_OK;
}

/* The axis attribute against the rank of input 0. */
static inline rq_status check_axis(const rq_infer *a, int *axis)
{
    int64_t v = rq_attr_int(a->node, RQ_WORD_axis, 0);
    *axis = rq_infer_axis(v, a->in[0]->shape.rank);
    if (*axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)v, a->in[0]->shape.rank);
    return RQ_OK;
}

/* Walk the elements of `of` in order, keeping the offset of the same index in a tensor with other strides. */
typedef struct odometer {
    int rank;
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK], at[RQ_MAX_RANK], offset;
} odometer;

static inline void odometer_init(odometer *o, const rq_shape *of, const int64_t *stride)
{
    memset(o, 0, sizeof *o);
    o->rank = of->rank;
    memcpy(o->dim, of->dim, sizeof o->dim);
    memcpy(o->stride, stride, (size_t)of->rank * sizeof *stride);
}

static inline void odometer_step(odometer *o)
{
    for (int i = o->rank - 1; i >= 0; i--) {
        o->offset += o->stride[i];
        if (++o->at[i] < o->dim[i])
            return;
        o->offset -= o->stride[i] * o->dim[i];
        o->at[i] = 0;
    }
}

/* Offset in elements of the position at[from .. from + depth) within axes first.. of s; -1: out of range, *bad is
 * the coordinate. */
static inline int64_t position(const rq_shape *s, const int64_t *stride, int first, const rq_tensor *at, int64_t from,
                               int64_t depth, int *bad)
{
    int64_t offset = 0;
    for (int d = 0; d < depth; d++) {
        int64_t k = wrap(index_at(at, from + d), s->dim[first + d]);
        if (k < 0) {
            *bad = d;
            return -1;
        }
        offset += k * stride[first + d];
    }
    return offset;
}

#endif
