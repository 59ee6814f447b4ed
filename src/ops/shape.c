/* ops/shape.c — tensors out of nothing but shapes and attributes: Constant, ConstantOfShape, Shape, Size, Range,
 * EyeLike. */
#include <math.h>
#include <string.h>

#include "ops/content.h"
#include "ops/elements.h"
#include "ops/moves.h"
#include "ops/samples.h"

/* ---- Constant ---- */

/* The one attribute that holds the value. */
static const rq_attr *constant_attr(const rq_node *n)
{
    static const char *const names[] = { "value",      "value_float",  "value_floats",  "value_int",
                                         "value_ints", "value_string", "value_strings", "sparse_value" };
    for (int i = 0; i < n->n_attr; i++)
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
            if (strcmp(n->attr[i].name, names[k]) == 0)
                return &n->attr[i];
    return NULL;
}

static rq_status constant_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_attr *v = constant_attr(n);
    if (!v)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "no attribute holds the value");
    if (strcmp(v->name, "value") == 0 && v->type != RQ_ATTR_TENSOR)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'value' is no tensor");
    return RQ_OK;
}

/* A view of the attribute as a tensor; dtype STRING or NONE: no numbers. */
static rq_tensor constant_view(const rq_attr *v)
{
    rq_shape scalar = { 0 }, list = { .rank = 1, .dim = { v->n } };
    switch (v->type) {
    case RQ_ATTR_TENSOR:
        return v->t[0];
    case RQ_ATTR_FLOAT:
        return rq_tensor_view(RQ_DTYPE_F32, &scalar, (void *)&v->f);
    case RQ_ATTR_INT:
        return rq_tensor_view(RQ_DTYPE_S64, &scalar, (void *)&v->i);
    case RQ_ATTR_FLOATS:
        return rq_tensor_view(RQ_DTYPE_F32, &list, v->floats);
    case RQ_ATTR_INTS:
        return rq_tensor_view(RQ_DTYPE_S64, &list, v->ints);
    case RQ_ATTR_STRING:
        return (rq_tensor) { .dtype = RQ_DTYPE_STRING, .shape = scalar };
    case RQ_ATTR_STRINGS:
        return (rq_tensor) { .dtype = RQ_DTYPE_STRING, .shape = list };
    default:
        return (rq_tensor) { .shape = rq_shape_unknown() };
    }
}

static rq_status constant_infer(const rq_infer *a)
{
    rq_tensor t = constant_view(constant_attr(a->node));
    a->out_dtype[0] = t.dtype;
    a->out_shape[0] = t.shape;
    return RQ_OK;
}

static rq_status constant_forward(const rq_op_args *a)
{
    rq_tensor t = constant_view(constant_attr(a->node));
    if (t.dtype == RQ_DTYPE_NONE || t.dtype == RQ_DTYPE_STRING)
        return rq_op_fail(a, RQ_UNSUPPORTED, "constants of strings and sparse constants are not supported");
    rq_moves_copy(a->out[0], &t);
    return RQ_OK;
}

/* ---- ConstantOfShape ---- */

static rq_status of_shape_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_attr *v = rq_attr_find(n, RQ_WORD_value);
    if (v && (v->type != RQ_ATTR_TENSOR || rq_tensor_count(&v->t[0]) != 1))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'value' is no tensor of one element");
    return RQ_OK;
}

static rq_status of_shape_infer(const rq_infer *a)
{
    enum { CAP = 64 };
    int64_t v[CAP], sym[CAP];
    const rq_tensor *value = rq_attr_tensor(a->node, RQ_WORD_value);
    const rq_shape *s = &a->in[0]->shape;
    a->out_dtype[0] = value ? value->dtype : RQ_DTYPE_F32;
    int n = rq_infer_ints_part(a, 0, v, sym, CAP);
    if (n > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the shape has %d axes, at most %d are supported", n, RQ_MAX_RANK);
    if (n < 0 && s->rank == 1 && s->dim[0] >= 0 && s->dim[0] <= RQ_MAX_RANK) {
        n = (int)s->dim[0];
        for (int i = 0; i < n; i++)
            sym[i] = RQ_DIM_UNKNOWN;
    }
    for (int i = 0; i < n; i++) {
        if (!sym[i] && v[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the shape holds %lld", (long long)v[i]);
        v[i] = sym[i] ? sym[i] : v[i];
    }
    if (n >= 0)
        a->out_shape[0] = rq_shape_of(n, v);
    return RQ_OK;
}

static rq_status of_shape_move(const rq_op_args *a)
{
    static const float zero = 0;
    const rq_tensor *value = rq_attr_tensor(a->node, RQ_WORD_value);
    rq_move_fill(a->out[0]->data, value ? value->data : &zero, rq_moves_size(a->out[0]->dtype),
                 rq_tensor_count(a->out[0]));
    return RQ_OK;
}

static rq_status of_shape_forward(const rq_op_args *a)
{
    rq_dtype d = a->out[0]->dtype;
    if (d == RQ_DTYPE_STRING)
        return rq_op_fail(a, RQ_UNSUPPORTED, "tensors of strings are not computed with");
    if (rq_moves_size(d))
        return of_shape_move(a);
    int64_t v = rq_tensor_get_int(rq_attr_tensor(a->node, RQ_WORD_value), 0);
    for (int64_t i = 0, n = rq_tensor_count(a->out[0]); i < n; i++)
        rq_elements_store_int(a->out[0], i, &v, 1);
    return RQ_OK;
}

/* ---- Shape, Size ---- */

static rq_status shape_infer(const rq_infer *a)
{
    int from, to;
    a->out_dtype[0] = RQ_DTYPE_S64;
    a->out_shape[0] = rq_shape_of(1, (int64_t[]) { RQ_DIM_UNKNOWN });
    if (a->in[0]->shape.rank >= 0) {
        rq_content_shape_range(a->node, a->in[0]->shape.rank, &from, &to);
        a->out_shape[0].dim[0] = to - from;
    }
    return RQ_OK;
}

static rq_status shape_forward(const rq_op_args *a)
{
    int from, to;
    rq_content_shape_range(a->node, a->in[0]->shape.rank, &from, &to);
    for (int i = from; i < to; i++)
        a->out[0]->s64[i - from] = a->in[0]->shape.dim[i];
    return RQ_OK;
}

static rq_status size_infer(const rq_infer *a)
{
    a->out_dtype[0] = RQ_DTYPE_S64;
    a->out_shape[0] = rq_shape_of(0, NULL);
    return RQ_OK;
}

static rq_status size_forward(const rq_op_args *a)
{
    a->out[0]->s64[0] = rq_tensor_count(a->in[0]);
    return RQ_OK;
}

/* ---- Range ---- */

/* How many numbers from start to limit (not included); -1: too many or no answer. */
static int64_t range_count(const rq_tensor *start, const rq_tensor *limit, const rq_tensor *delta)
{
    if (rq_dtype_is_float(start->dtype)) {
        double from = rq_tensor_get(start, 0), to = rq_tensor_get(limit, 0), step = rq_tensor_get(delta, 0);
        double span = start->dtype == RQ_DTYPE_F64 ? to - from : (double)((float)to - (float)from);
        double n = ceil(span / step);
        return n <= 0 ? 0 : n < 0x1p46 ? (int64_t)n : -1;
    }
    int64_t from = rq_tensor_get_int(start, 0), to = rq_tensor_get_int(limit, 0), step = rq_tensor_get_int(delta, 0);
    int64_t span;
    if (step == 0 || step == INT64_MIN || __builtin_sub_overflow(to, from, &span) || span == INT64_MIN)
        return -1;
    if ((span > 0) != (step > 0) || span == 0)
        return 0;
    span = span < 0 ? -span : span;
    step = step < 0 ? -step : step;
    return (span - 1) / step + 1;
}

static rq_status range_infer(const rq_infer *a)
{
    int64_t v[3] = { 0 }, sym[3] = { 0 }, dim = RQ_DIM_UNKNOWN;
    bool known = true, part = true;
    a->out_dtype[0] = a->in[0]->dtype;
    for (int i = 0; i < 3; i++) {
        known = known && a->in[i]->data && rq_shape_is_known(&a->in[i]->shape);
        if (a->in[i]->data && rq_shape_is_known(&a->in[i]->shape) && rq_tensor_count(a->in[i]) != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %lld elements, expected 1", i,
                                 (long long)rq_tensor_count(a->in[i]));
        part = rq_infer_ints_part(a, i, &v[i], &sym[i], 1) == 1 && part;
    }
    if (known) {
        dim = range_count(a->in[0], a->in[1], a->in[2]);
        if (dim < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "from %g to %g by %g is no range", rq_tensor_get(a->in[0], 0),
                                 rq_tensor_get(a->in[1], 0), rq_tensor_get(a->in[2], 0));
    } else if (part && !sym[0] && v[0] == 0 && sym[1] && !sym[2] && v[2] == 1) {
        dim = sym[1];
    }
    a->out_shape[0] = rq_shape_of(1, &dim);
    return RQ_OK;
}

/* Each number is the one before plus delta, in the type of the output. */
static rq_status range_forward(const rq_op_args *a)
{
    rq_tensor *y = a->out[0];
    int64_t n = rq_tensor_count(y);
    if (y->dtype == RQ_DTYPE_F32) {
        float v = (float)rq_tensor_get(a->in[0], 0), step = (float)rq_tensor_get(a->in[2], 0);
        for (int64_t i = 0; i < n; i++, v += step)
            y->f32[i] = v;
    } else if (rq_dtype_is_float(y->dtype)) {
        double v = rq_tensor_get(a->in[0], 0), step = rq_tensor_get(a->in[2], 0);
        for (int64_t i = 0; i < n; i++, v += step)
            rq_tensor_set(y, i, v);
    } else {
        uint64_t v = (uint64_t)rq_tensor_get_int(a->in[0], 0), step = (uint64_t)rq_tensor_get_int(a->in[2], 0);
        for (int64_t i = 0; i < n; i++, v += step)
            rq_elements_store_int(y, i, &(int64_t) { (int64_t)v }, 1);
    }
    return RQ_OK;
}

/* ---- EyeLike ---- */

static rq_status eye_infer(const rq_infer *a)
{
    int64_t to = rq_attr_int(a->node, RQ_WORD_dtype, 0);
    a->out_dtype[0] = to ? rq_elements_dtype(to) : a->in[0]->dtype;
    a->out_shape[0] = a->in[0]->shape;
    if (a->in[0]->shape.rank >= 0 && a->in[0]->shape.rank != 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected 2", a->in[0]->shape.rank);
    return RQ_OK;
}

static rq_status eye_forward(const rq_op_args *a)
{
    rq_tensor *y = a->out[0];
    int64_t rows = y->shape.dim[0], cols = y->shape.dim[1], k = rq_attr_int(a->node, RQ_WORD_k, 0);
    if (rq_shape_bytes(&y->shape, y->dtype))
        memset(y->data, 0, rq_shape_bytes(&y->shape, y->dtype));
    for (int64_t i = 0; i < rows && k > -rows && k < cols; i++)
        if (i + k >= 0 && i + k < cols)
            rq_tensor_set(y, i * cols + i + k, 1);
    return RQ_OK;
}

/* ---- rows ---- */

const rq_op rq_op_constant = {
    .name = "Constant",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 0,
    .max_in = 0,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = constant_check,
    .infer = constant_infer,
    .forward = constant_forward,
};

const rq_op rq_op_constant_of_shape = {
    .name = "ConstantOfShape",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = of_shape_check,
    .infer = of_shape_infer,
    .samples = rq_samples_fill,
    .forward = of_shape_forward,
};

const rq_op rq_op_shape = {
    .name = "Shape",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_SHAPE_ONLY,
    .place = RQ_PLACE_FLOAT,
    .infer = shape_infer,
    .forward = shape_forward,
};

const rq_op rq_op_size = {
    .name = "Size",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_SHAPE_ONLY,
    .place = RQ_PLACE_FLOAT,
    .infer = size_infer,
    .forward = size_forward,
};

const rq_op rq_op_range = {
    .name = "Range",
    .domain = "",
    .since = 11,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = range_infer,
    .forward = range_forward,
};

const rq_op rq_op_eye_like = {
    .name = "EyeLike",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_SHAPE_ONLY,
    .place = RQ_PLACE_FLOAT,
    .infer = eye_infer,
    .forward = eye_forward,
};
