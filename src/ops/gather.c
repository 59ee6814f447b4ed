/* ops/gather.c — reading and writing elements at indices: Gather, GatherElements, GatherND, Scatter, ScatterElements,
 * ScatterND. Negative indices count from the end; every index is checked before it is used. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/int_ops.h"
#include "ops/moves.h"

static bool is_index(rq_dtype d)
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

static rq_status bad_index(const rq_op_args *a, int64_t v, int64_t n)
{
    return rq_op_fail(a, RQ_BAD_DATA, "index %lld of an axis of size %lld", (long long)v, (long long)n);
}

static rq_status check_index_type(const rq_infer *a, int i)
{
    rq_dtype d = a->in[i]->dtype;
    if (d != RQ_DTYPE_NONE && !is_index(d))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the indices are %s, expected s32 or s64", rq_dtype_name(d));
    return RQ_OK;
}

/* The axis attribute against the rank of input 0. */
static rq_status check_axis(const rq_infer *a, int *axis)
{
    int64_t v = rq_attr_int(a->node, "axis", 0);
    *axis = rq_infer_axis(v, a->in[0]->shape.rank);
    if (*axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)v, a->in[0]->shape.rank);
    return RQ_OK;
}

/* ---- Gather ---- */

static rq_status gather_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape;
    int axis;
    rq_shape out = { 0 };
    a->out_dtype[0] = a->in[0]->dtype;
    RQ_TRY(check_index_type(a, 1));
    if (x->rank < 0)
        return RQ_OK;
    RQ_TRY(check_axis(a, &axis));
    if (at->rank < 0)
        return RQ_OK;
    if (x->rank + at->rank - 1 > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the output has more than %d axes", RQ_MAX_RANK);
    for (int i = 0; i < axis; i++)
        out.dim[out.rank++] = x->dim[i];
    for (int i = 0; i < at->rank; i++)
        out.dim[out.rank++] = at->dim[i];
    for (int i = axis + 1; i < x->rank; i++)
        out.dim[out.rank++] = x->dim[i];
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status gather_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1];
    int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->shape.rank);
    int64_t rows = rq_shape_span(&x->shape, 0, axis), n = x->shape.dim[axis], m = rq_tensor_count(at);
    size_t run = (size_t)rq_shape_span(&x->shape, axis + 1, x->shape.rank) * rq_moves_size(x->dtype);
    const char *src = x->data;
    char *dst = a->out[0]->data;
    for (int64_t k = 0; k < m; k++)
        if (wrap(index_at(at, k), n) < 0)
            return bad_index(a, index_at(at, k), n);
    for (int64_t r = 0; r < rows && run; r++)
        for (int64_t k = 0; k < m; k++, dst += run)
            memcpy(dst, src + (size_t)(r * n + wrap(index_at(at, k), n)) * run, run);
    return RQ_OK;
}

static rq_status gather_forward(const rq_op_args *a)
{
    return rq_moves_run(a, gather_move);
}

/* One strip of columns of one row of axes before the axis: every index in order, so that sums do not depend on threads. */
typedef struct strips {
    const rq_tensor *at;
    float *dx;
    const float *dy;
    int64_t n, run, strips; /* size of the axis; elements behind it; strips of those */
} strips;

enum { STRIP = 64 };

static void add_strip(void *arg, int64_t i)
{
    const strips *j = arg;
    const int64_t r = i / j->strips, first = i % j->strips * STRIP, left = j->run - first;
    const int64_t columns = left < STRIP ? left : STRIP, m = rq_tensor_count(j->at);
    float *dx = j->dx + r * j->n * j->run + first;
    const float *dy = j->dy + r * m * j->run + first;
    for (int64_t k = 0; k < j->n; k++)
        memset(dx + k * j->run, 0, (size_t)columns * sizeof *dx);
    for (int64_t k = 0; k < m; k++, dy += j->run) {
        float *to = dx + wrap(index_at(j->at, k), j->n) * j->run;
        for (int64_t c = 0; c < columns; c++)
            to[c] += dy[c];
    }
}

/* Rows of dy are added where they came from, in the order of the indices. An embedding is this. */
static rq_status gather_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0), *at = a->in[1];
    if (!dx || !dy || !rq_tensor_count(dx))
        return rq_grad_none(a);
    const rq_shape *s = &dx->shape;
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), s->rank);
    strips j = {
        .at = at, .dx = dx->f32, .dy = dy->f32, .n = s->dim[axis], .run = rq_shape_span(s, axis + 1, s->rank)
    };
    for (int64_t k = 0, m = rq_tensor_count(at); k < m; k++)
        if (wrap(index_at(at, k), j.n) < 0)
            return bad_index(a, index_at(at, k), j.n);
    j.strips = (j.run + STRIP - 1) / STRIP;
    rq_threads_for(rq_tensor_count(dy) < 4096 ? NULL : a->threads, rq_shape_span(s, 0, axis) * j.strips, add_strip, &j);
    return RQ_OK;
}

/* ---- GatherElements: out[i][j] = x[index[i][j]][j] for axis 0 ---- */

static rq_status gather_elements_infer(const rq_infer *a)
{
    int axis;
    a->out_dtype[0] = a->in[0]->dtype;
    a->out_shape[0] = a->in[1]->shape;
    RQ_TRY(check_index_type(a, 1));
    if (a->in[0]->shape.rank >= 0 && a->in[1]->shape.rank >= 0) {
        const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape;
        RQ_TRY(check_axis(a, &axis));
        if (x->rank != at->rank)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the data has %d axes, the indices %d", x->rank, at->rank);
        for (int i = 0; i < x->rank; i++)
            if (i != axis && x->dim[i] >= 0 && at->dim[i] > x->dim[i])
                return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d of the indices has size %lld, of the data %lld", i,
                                     (long long)at->dim[i], (long long)x->dim[i]);
    }
    return RQ_OK;
}

/* Walk the elements of `of` in order, keeping the offset of the same index in a tensor with other strides. */
typedef struct odometer {
    int rank;
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK], at[RQ_MAX_RANK], offset;
} odometer;

static void odometer_init(odometer *o, const rq_shape *of, const int64_t *stride)
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

static rq_status gather_elements_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1];
    int rank = x->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), rank);
    int64_t stride[RQ_MAX_RANK], n = x->shape.dim[axis], along;
    size_t elem = rq_moves_size(x->dtype);
    const char *src = x->data;
    char *dst = a->out[0]->data;
    odometer o;
    rq_moves_strides(&x->shape, stride);
    along = stride[axis];
    stride[axis] = 0;
    odometer_init(&o, &at->shape, stride);
    for (int64_t i = 0, count = rq_tensor_count(at); i < count; i++, dst += elem) {
        int64_t k = wrap(index_at(at, i), n);
        if (k < 0)
            return bad_index(a, index_at(at, i), n);
        memcpy(dst, src + (size_t)(o.offset + k * along) * elem, elem);
        odometer_step(&o);
    }
    return RQ_OK;
}

static rq_status gather_elements_forward(const rq_op_args *a)
{
    return rq_moves_run(a, gather_elements_move);
}

/* dx[index[i][j]][j] += dy[i][j], in order. */
static rq_status gather_elements_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0), *at = a->in[1];
    rq_grad_zero(dx);
    if (!dx || !dy)
        return RQ_OK;
    const int rank = dx->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), rank);
    int64_t stride[RQ_MAX_RANK], n = dx->shape.dim[axis];
    odometer o;
    rq_moves_strides(&dx->shape, stride);
    const int64_t along = stride[axis];
    stride[axis] = 0;
    odometer_init(&o, &at->shape, stride);
    for (int64_t i = 0, count = rq_tensor_count(at); i < count; i++) {
        const int64_t k = wrap(index_at(at, i), n);
        if (k < 0)
            return bad_index(a, index_at(at, i), n);
        dx->f32[o.offset + k * along] += dy->f32[i];
        odometer_step(&o);
    }
    return RQ_OK;
}

/* ---- GatherND, ScatterND: the last axis of the indices is a position in the data ---- */

static rq_status gather_nd_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape;
    int64_t batch = rq_attr_int(a->node, "batch_dims", 0);
    rq_shape out = { 0 };
    a->out_dtype[0] = a->in[0]->dtype;
    RQ_TRY(check_index_type(a, 1));
    if (x->rank < 0 || at->rank < 0)
        return RQ_OK;
    if (at->rank < 1 || x->rank < 1 || batch < 0 || batch >= at->rank || batch >= x->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "batch_dims is %lld, the data has %d axes, the indices %d",
                             (long long)batch, x->rank, at->rank);
    int64_t depth = at->dim[at->rank - 1];
    if (depth < 0)
        return RQ_OK;
    if (depth < 1 || depth > x->rank - batch)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the indices have %lld coordinates, the data %lld axes", (long long)depth,
                             (long long)(x->rank - batch));
    if (at->rank - 1 + x->rank - batch - depth > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the output has more than %d axes", RQ_MAX_RANK);
    for (int i = 0; i + 1 < at->rank; i++)
        out.dim[out.rank++] = at->dim[i];
    for (int i = 0; i < batch; i++)
        if (!rq_infer_dim_join(&out.dim[i], x->dim[i]))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "batch axis %d has size %lld in the data, %lld in the indices", i,
                                 (long long)x->dim[i], (long long)at->dim[i]);
    for (int i = (int)(batch + depth); i < x->rank; i++)
        out.dim[out.rank++] = x->dim[i];
    a->out_shape[0] = out;
    return RQ_OK;
}

/* Offset in elements of the position at[from .. from + depth) within axes first.. of s; -1: out of range, *bad is
 * the coordinate. */
static int64_t position(const rq_shape *s, const int64_t *stride, int first, const rq_tensor *at, int64_t from,
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

static rq_status gather_nd_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1];
    int batch = (int)rq_attr_int(a->node, "batch_dims", 0), bad = 0;
    int64_t depth = at->shape.dim[at->shape.rank - 1], stride[RQ_MAX_RANK];
    int64_t batches = rq_shape_span(&x->shape, 0, batch);
    int64_t each = rq_shape_span(&at->shape, batch, at->shape.rank - 1);
    int64_t whole = rq_shape_span(&x->shape, batch, x->shape.rank);
    size_t elem = rq_moves_size(x->dtype);
    size_t run = (size_t)rq_shape_span(&x->shape, batch + (int)depth, x->shape.rank) * elem;
    const char *src = x->data;
    char *dst = a->out[0]->data;
    rq_moves_strides(&x->shape, stride);
    for (int64_t b = 0; b < batches; b++)
        for (int64_t i = 0; i < each; i++, dst += run) {
            int64_t from = (b * each + i) * depth, k = position(&x->shape, stride, batch, at, from, depth, &bad);
            if (k < 0)
                return bad_index(a, index_at(at, from + bad), x->shape.dim[batch + bad]);
            if (run)
                memcpy(dst, src + (size_t)(b * whole + k) * elem, run);
        }
    return RQ_OK;
}

static rq_status gather_nd_forward(const rq_op_args *a)
{
    return rq_moves_run(a, gather_nd_move);
}

static rq_status gather_nd_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0), *at = a->in[1];
    rq_grad_zero(dx);
    if (!dx || !dy)
        return RQ_OK;
    const rq_shape *s = &dx->shape;
    int64_t stride[RQ_MAX_RANK];
    int batch = (int)rq_attr_int(a->node, "batch_dims", 0), bad = 0;
    const int64_t depth = at->shape.dim[at->shape.rank - 1], batches = rq_shape_span(s, 0, batch);
    const int64_t each = rq_shape_span(&at->shape, batch, at->shape.rank - 1), whole = rq_shape_span(s, batch, s->rank);
    const int64_t run = rq_shape_span(s, batch + (int)depth, s->rank);
    const float *from = dy->f32;
    rq_moves_strides(s, stride);
    for (int64_t i = 0; i < batches * each; i++, from += run) {
        const int64_t k = position(s, stride, batch, at, i * depth, depth, &bad);
        if (k < 0)
            return bad_index(a, index_at(at, i * depth + bad), s->dim[batch + bad]);
        float *to = dx->f32 + i / each * whole + k;
        for (int64_t e = 0; e < run; e++)
            to[e] += from[e];
    }
    return RQ_OK;
}

/* ---- reductions of the Scatter family ---- */

typedef enum reduction { PUT, ADD, MUL, MIN, MAX, N_REDUCTIONS } reduction;

static const char *const reductions[] = { "none", "add", "mul", "min", "max" };

static reduction find_reduction(const rq_node *n)
{
    const char *name = rq_attr_string(n, "reduction", "none");
    int r = 0;
    while (r < N_REDUCTIONS && strcmp(name, reductions[r]) != 0)
        r++;
    return (reduction)r;
}

static rq_status scatter_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (find_reduction(n) == N_REDUCTIONS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "reduction '%.32s' is not known",
                            rq_attr_string(n, "reduction", ""));
    return RQ_OK;
}

/* y[i] = y[i] (r) x[j], in the type of the tensors. */
static void reduce_one(rq_tensor *y, int64_t i, const rq_tensor *x, int64_t j, reduction r)
{
    if (rq_dtype_is_float(y->dtype)) {
        double p = rq_tensor_get(y, i), q = rq_tensor_get(x, j), v = 0;
        switch (r) {
        case ADD:
            v = y->dtype == RQ_DTYPE_F64 ? p + q : (double)((float)p + (float)q);
            break;
        case MUL:
            v = y->dtype == RQ_DTYPE_F64 ? p * q : (double)((float)p * (float)q);
            break;
        case MIN:
            v = isnan(p) || p < q ? p : q;
            break;
        default:
            v = isnan(p) || p > q ? p : q;
        }
        rq_tensor_set(y, i, v);
        return;
    }
    int64_t p = rq_tensor_get_int(y, i), q = rq_tensor_get_int(x, j), v;
    bool less = y->dtype == RQ_DTYPE_U64 ? (uint64_t)p < (uint64_t)q : p < q;
    switch (r) {
    case ADD:
        v = (int64_t)((uint64_t)p + (uint64_t)q);
        break;
    case MUL:
        v = (int64_t)((uint64_t)p * (uint64_t)q);
        break;
    case MIN:
        v = less ? p : q;
        break;
    default:
        v = less ? q : p;
    }
    rq_elements_store_int(y, i, &v, 1);
}

static rq_status scatter_elements_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape, *u = &a->in[2]->shape;
    int axis;
    RQ_TRY(rq_infer_same(a));
    RQ_TRY(check_index_type(a, 1));
    if (x->rank < 0)
        return RQ_OK;
    RQ_TRY(check_axis(a, &axis));
    if (at->rank < 0 || u->rank < 0)
        return RQ_OK;
    if (x->rank != at->rank || x->rank != u->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "data, indices and updates have %d, %d and %d axes", x->rank, at->rank,
                             u->rank);
    for (int i = 0; i < x->rank; i++) {
        int64_t d = at->dim[i];
        if (!rq_infer_dim_join(&d, u->dim[i]))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d of the updates has size %lld, of the indices %lld", i,
                                 (long long)u->dim[i], (long long)d);
        if (i != axis && x->dim[i] >= 0 && d > x->dim[i])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d of the indices has size %lld, of the data %lld", i,
                                 (long long)d, (long long)x->dim[i]);
    }
    return RQ_OK;
}

static rq_status scatter_elements_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1], *u = a->in[2];
    rq_tensor *y = a->out[0];
    int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->shape.rank);
    int64_t stride[RQ_MAX_RANK], n = x->shape.dim[axis], along;
    size_t elem = rq_moves_size(x->dtype);
    reduction r = find_reduction(a->node);
    odometer o;
    rq_moves_copy(y, x);
    rq_moves_strides(&x->shape, stride);
    along = stride[axis];
    stride[axis] = 0;
    odometer_init(&o, &at->shape, stride);
    for (int64_t i = 0, count = rq_tensor_count(at); i < count; i++) {
        int64_t k = wrap(index_at(at, i), n), to = o.offset + k * along;
        if (k < 0)
            return bad_index(a, index_at(at, i), n);
        if (r == PUT)
            memcpy((char *)y->data + (size_t)to * elem, (const char *)u->data + (size_t)i * elem, elem);
        else
            reduce_one(y, to, u, i, r);
        odometer_step(&o);
    }
    return RQ_OK;
}

static rq_status scatter_elements_forward(const rq_op_args *a)
{
    return rq_moves_run(a, scatter_elements_move);
}

static rq_status scatter_nd_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape, *u = &a->in[2]->shape;
    RQ_TRY(rq_infer_same(a));
    RQ_TRY(check_index_type(a, 1));
    if (x->rank < 0 || at->rank < 0)
        return RQ_OK;
    if (at->rank < 1 || x->rank < 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the data has %d axes, the indices %d", x->rank, at->rank);
    int64_t depth = at->dim[at->rank - 1];
    if (depth < 0)
        return RQ_OK;
    if (depth > x->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the indices have %lld coordinates, the data %d axes", (long long)depth,
                             x->rank);
    if (u->rank < 0)
        return RQ_OK;
    bool fits = u->rank == at->rank - 1 + x->rank - (int)depth;
    for (int i = 0; fits && i < u->rank; i++) {
        int64_t d = i + 1 < at->rank ? at->dim[i] : x->dim[(int)depth + i - (at->rank - 1)];
        fits = rq_infer_dim_join(&d, u->dim[i]);
    }
    char t[3][RQ_SHAPE_TEXT];
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "updates of shape %s do not fit data %s and indices %s",
                             rq_shape_text(u, t[0], sizeof t[0]), rq_shape_text(x, t[1], sizeof t[1]),
                             rq_shape_text(at, t[2], sizeof t[2]));
    return RQ_OK;
}

static rq_status scatter_nd_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1], *u = a->in[2];
    rq_tensor *y = a->out[0];
    int64_t depth = at->shape.dim[at->shape.rank - 1], n = rq_shape_span(&at->shape, 0, at->shape.rank - 1);
    int64_t stride[RQ_MAX_RANK], run = rq_shape_span(&x->shape, (int)depth, x->shape.rank);
    size_t elem = rq_moves_size(x->dtype);
    reduction r = find_reduction(a->node);
    int bad = 0;
    rq_moves_copy(y, x);
    rq_moves_strides(&x->shape, stride);
    for (int64_t i = 0; i < n; i++) {
        int64_t to = position(&x->shape, stride, 0, at, i * depth, depth, &bad);
        if (to < 0)
            return bad_index(a, index_at(at, i * depth + bad), x->shape.dim[bad]);
        if (r == PUT && run)
            memcpy((char *)y->data + (size_t)to * elem, (const char *)u->data + (size_t)(i * run) * elem,
                   (size_t)run * elem);
        for (int64_t k = 0; r != PUT && k < run; k++)
            reduce_one(y, to + k, u, i * run + k, r);
    }
    return RQ_OK;
}

static rq_status scatter_nd_forward(const rq_op_args *a)
{
    return rq_moves_run(a, scatter_nd_move);
}

/* ---- backward of the Scatter family: what was put or added came from the updates; what was put hides the data ---- */

/* run elements at `to` of the data, which update `from` (in elements) went to. */
static void scattered(rq_tensor *dx, rq_tensor *du, const rq_tensor *dy, int64_t to, int64_t from, int64_t run,
                      reduction r)
{
    if (du && run)
        memcpy(du->f32 + from, dy->f32 + to, (size_t)run * sizeof(float));
    if (dx && r == PUT && run)
        memset(dx->f32 + to, 0, (size_t)run * sizeof(float));
}

/* What both backwards begin with; false: it is done. */
static bool scatter_begin(const rq_op_args *a, rq_status *s)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    const reduction r = find_reduction(a->node);
    *s = RQ_OK;
    if (!dy) {
        rq_grad_zeros(a);
        return false;
    }
    if (r != PUT && r != ADD) {
        *s = rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient with reduction '%s'", reductions[r]);
        return false;
    }
    if (rq_grad_in(a, 0))
        rq_grad_copy(rq_grad_in(a, 0), dy);
    return true;
}

static rq_status scatter_elements_backward(const rq_op_args *a)
{
    const rq_tensor *at = a->in[1], *dy = rq_grad_out(a, 0);
    const rq_shape *x = &a->in[0]->shape;
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->rank);
    int64_t stride[RQ_MAX_RANK], n = x->dim[axis];
    rq_status s;
    odometer o;
    if (!scatter_begin(a, &s))
        return s;
    rq_moves_strides(x, stride);
    const int64_t along = stride[axis];
    stride[axis] = 0;
    odometer_init(&o, &at->shape, stride);
    for (int64_t i = 0, count = rq_tensor_count(at); i < count; i++) {
        const int64_t k = wrap(index_at(at, i), n);
        if (k < 0)
            return bad_index(a, index_at(at, i), n);
        scattered(rq_grad_in(a, 0), rq_grad_in(a, 2), dy, o.offset + k * along, i, 1, find_reduction(a->node));
        odometer_step(&o);
    }
    return RQ_OK;
}

static rq_status scatter_nd_backward(const rq_op_args *a)
{
    const rq_tensor *at = a->in[1], *dy = rq_grad_out(a, 0);
    const rq_shape *x = &a->in[0]->shape;
    const int64_t depth = at->shape.dim[at->shape.rank - 1], run = rq_shape_span(x, (int)depth, x->rank);
    int64_t stride[RQ_MAX_RANK];
    rq_status s;
    int bad = 0;
    if (!scatter_begin(a, &s))
        return s;
    rq_moves_strides(x, stride);
    for (int64_t i = 0, n = rq_shape_span(&at->shape, 0, at->shape.rank - 1); i < n; i++) {
        const int64_t to = position(x, stride, 0, at, i * depth, depth, &bad);
        if (to < 0)
            return bad_index(a, index_at(at, i * depth + bad), x->dim[bad]);
        scattered(rq_grad_in(a, 0), rq_grad_in(a, 2), dy, to, i * run, run, find_reduction(a->node));
    }
    return RQ_OK;
}

/* On codes: data and updates in the parameters of the result, then as ever. */
static bool scatter_accepts_int(const rq_op_args *a, const char **why)
{
    const reduction r = find_reduction(a->node);
    *why = "it adds or multiplies";
    if (r == ADD || r == MUL)
        return false;
    for (int i = 0; i < 3; i += 2) {
        *why = "an input is not quantized";
        if (!a->in_q[i] || !rq_int_is_activation(a->in_q[i], why))
            return false;
    }
    *why = "scale is not positive";
    return rq_int_is_output(a->out_q[0], a->out[0], false, why) && a->out_q[0]->scale[0] > 0;
}

static size_t scatter_scratch(const rq_op_args *a, bool integer)
{
    return integer ? (size_t)(rq_tensor_count(a->in[0]) + rq_tensor_count(a->in[2])) : 0;
}

static rq_status scatter_forward_int(const rq_op_args *a)
{
    const rq_dtype d = a->out_q[0]->dtype;
    const size_t n = (size_t)rq_tensor_count(a->in[0]), m = (size_t)rq_tensor_count(a->in[2]);
    uint8_t table[256], *room = a->scratch;
    const rq_tensor data = rq_tensor_view(d, &a->in[0]->shape, room),
                    updates = rq_tensor_view(d, &a->in[2]->shape, room + n);
    rq_int_requantize_table(table, a->in_q[0], a->out_q[0]);
    a->k->lut8(room, a->in[0]->u8, n, table);
    rq_int_requantize_table(table, a->in_q[2], a->out_q[0]);
    a->k->lut8(room + n, a->in[2]->u8, m, table);
    rq_op_args b = *a;
    b.in = (const rq_tensor *[]) { &data, a->in[1], &updates };
    return a->node->row->forward(&b);
}

/* ---- rows ---- */

#define GATHER                                                                                                         \
    .domain = "", .known = 25, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .flags = RQ_OP_MOVES,             \
    .place = RQ_PLACE_SAME
#define SCATTER                                                                                                        \
    .domain = "", .min_in = 3, .max_in = 3, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,                       \
    .check = scatter_check, .scratch = scatter_scratch, .accepts_int = scatter_accepts_int,                            \
    .forward_int = scatter_forward_int

const rq_op rq_op_gather = {
    .name = "Gather",
    .since = 1,
    GATHER,
    .infer = gather_infer,
    .forward = gather_forward,
    .backward = gather_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
    .parameters = RQ_OP_IN(0), /* an embedding */
    .accepts_int = rq_int_gather_accepts,
    .forward_int = rq_int_gather_forward,
};

const rq_op rq_op_gather_elements = {
    .name = "GatherElements",
    .since = 11,
    GATHER,
    .infer = gather_elements_infer,
    .forward = gather_elements_forward,
    .backward = gather_elements_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_gather_nd = {
    .name = "GatherND",
    .since = 11,
    GATHER,
    .infer = gather_nd_infer,
    .forward = gather_nd_forward,
    .backward = gather_nd_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_scatter = {
    .name = "Scatter",
    .since = 9,
    .known = 10,
    SCATTER,
    .infer = scatter_elements_infer,
    .forward = scatter_elements_forward,
    .backward = scatter_elements_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(2),
};

const rq_op rq_op_scatter_elements = {
    .name = "ScatterElements",
    .since = 11,
    .known = 25,
    SCATTER,
    .infer = scatter_elements_infer,
    .forward = scatter_elements_forward,
    .backward = scatter_elements_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(2),
};

const rq_op rq_op_scatter_nd = {
    .name = "ScatterND",
    .since = 11,
    .known = 25,
    SCATTER,
    .infer = scatter_nd_infer,
    .forward = scatter_nd_forward,
    .backward = scatter_nd_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(2),
};
