/* ops/gather.c — reading elements at indices: Gather, GatherElements, GatherND. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/indices.h"
#include "ops/int_ops.h"
#include "ops/moves.h"
#include "ops/samples.h"

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
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->shape.rank);
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
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), s->rank);
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

static rq_status gather_elements_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1];
    int rank = x->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), rank);
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
    const int rank = dx->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), rank);
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

/* ---- GatherND: the last axis of the indices is a position in the data ---- */

static rq_status gather_nd_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape;
    int64_t batch = rq_attr_int(a->node, RQ_WORD_batch_dims, 0);
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

static rq_status gather_nd_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1];
    int batch = (int)rq_attr_int(a->node, RQ_WORD_batch_dims, 0), bad = 0;
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
    int batch = (int)rq_attr_int(a->node, RQ_WORD_batch_dims, 0), bad = 0;
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

/* ---- rows ---- */

#define GATHER                                                                                                         \
    .domain = "", .known = 25, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .flags = RQ_OP_MOVES,             \
    .place = RQ_PLACE_SAME

const rq_op rq_op_gather = {
    .name = "Gather",
    .since = 1,
    GATHER,
    .infer = gather_infer,
    .samples = rq_samples_gather,
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
