/* ops/scatter.c — writing elements at indices: Scatter, ScatterElements, ScatterND. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/indices.h"
#include "ops/int_ops.h"
#include "ops/moves.h"

/* ---- reductions of the Scatter family ---- */

typedef enum reduction { PUT, ADD, MUL, MIN, MAX, N_REDUCTIONS } reduction;

static const rq_word reductions[] = { RQ_WORD_none, RQ_WORD_add, RQ_WORD_mul, RQ_WORD_min, RQ_WORD_max };

static reduction find_reduction(const rq_node *n)
{
    const rq_word name = rq_attr_word(n, RQ_WORD_reduction, RQ_WORD_none);
    int r = 0;
    while (r < N_REDUCTIONS && name != reductions[r])
        r++;
    return (reduction)r;
}

static rq_status scatter_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (find_reduction(n) == N_REDUCTIONS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "reduction '%.32s' is not known",
                            rq_attr_string(n, RQ_WORD_reduction, ""));
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
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->shape.rank);
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
        *s = rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient with reduction '%s'", rq_word_text(reductions[r]));
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
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->rank);
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

#define SCATTER                                                                                                        \
    .domain = "", .min_in = 3, .max_in = 3, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,                       \
    .check = scatter_check, .scratch = scatter_scratch, .accepts_int = scatter_accepts_int,                            \
    .forward_int = scatter_forward_int, .saves = RQ_OP_IN(1), .gradients = RQ_OP_IN(0) | RQ_OP_IN(2)

#define SCATTER_ELEMENTS                                                                                               \
    SCATTER, .infer = scatter_elements_infer, .forward = scatter_elements_forward, .backward = scatter_elements_backward

const rq_op rq_op_scatter = { .name = "Scatter", .since = 9, .known = 10, SCATTER_ELEMENTS };

const rq_op rq_op_scatter_elements = { .name = "ScatterElements", .since = 11, .known = 25, SCATTER_ELEMENTS };

const rq_op rq_op_scatter_nd = {
    .name = "ScatterND",
    .since = 11,
    .known = 25,
    SCATTER,
    .infer = scatter_nd_infer,
    .forward = scatter_nd_forward,
    .backward = scatter_nd_backward,
};
