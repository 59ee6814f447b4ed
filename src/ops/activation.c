/* ops/activation.c — functions of one element: activations, roundings, exponentials, trigonometry. One table says
 * which kernel each operator is and where its two parameters come from; Clip, Gelu and the fused forms of
 * com.microsoft have functions of their own. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/grad.h"
#include "ops/half.h"

/* ---- the table ---- */

typedef struct param {
    const char *attr; /* NULL: always `fallback` */
    float fallback;
} param;

static const struct unary {
    const char *op;
    rq_map_id f;
    param p, q;
} unaries[] = {
    { "Abs", RQ_MAP_ABS, { 0 }, { 0 } },
    { "Acos", RQ_MAP_ACOS, { 0 }, { 0 } },
    { "Acosh", RQ_MAP_ACOSH, { 0 }, { 0 } },
    { "Asin", RQ_MAP_ASIN, { 0 }, { 0 } },
    { "Asinh", RQ_MAP_ASINH, { 0 }, { 0 } },
    { "Atan", RQ_MAP_ATAN, { 0 }, { 0 } },
    { "Atanh", RQ_MAP_ATANH, { 0 }, { 0 } },
    { "Ceil", RQ_MAP_CEIL, { 0 }, { 0 } },
    { "Celu", RQ_MAP_CELU, { "alpha", 1 }, { 0 } },
    { "Cos", RQ_MAP_COS, { 0 }, { 0 } },
    { "Cosh", RQ_MAP_COSH, { 0 }, { 0 } },
    { "Elu", RQ_MAP_ELU, { "alpha", 1 }, { 0 } },
    { "Erf", RQ_MAP_ERF, { 0 }, { 0 } },
    { "Exp", RQ_MAP_EXP, { 0 }, { 0 } },
    { "Floor", RQ_MAP_FLOOR, { 0 }, { 0 } },
    { "HardSigmoid", RQ_MAP_HARD_SIGMOID, { "alpha", 0.2f }, { "beta", 0.5f } },
    { "HardSwish", RQ_MAP_HARD_SWISH, { 0 }, { 0 } },
    { "LeakyRelu", RQ_MAP_LEAKY_RELU, { "alpha", 0.01f }, { 0 } },
    { "Log", RQ_MAP_LOG, { 0 }, { 0 } },
    { "Mish", RQ_MAP_MISH, { 0 }, { 0 } },
    { "Neg", RQ_MAP_NEG, { 0 }, { 0 } },
    { "QuickGelu", RQ_MAP_SWISH, { "alpha", 1.702f }, { 0 } },
    { "Reciprocal", RQ_MAP_RECIPROCAL, { 0 }, { 0 } },
    { "Relu", RQ_MAP_RELU, { 0 }, { 0 } },
    { "Round", RQ_MAP_ROUND, { 0 }, { 0 } },
    { "Selu", RQ_MAP_SELU, { "alpha", 1.67326319217681884765625f }, { "gamma", 1.05070102214813232421875f } },
    { "Shrink", RQ_MAP_SHRINK, { "lambd", 0.5f }, { "bias", 0 } },
    { "Sigmoid", RQ_MAP_SIGMOID, { 0 }, { 0 } },
    { "Sign", RQ_MAP_SIGN, { 0 }, { 0 } },
    { "Sin", RQ_MAP_SIN, { 0 }, { 0 } },
    { "Sinh", RQ_MAP_SINH, { 0 }, { 0 } },
    { "Softplus", RQ_MAP_SOFTPLUS, { 0 }, { 0 } },
    { "Softsign", RQ_MAP_SOFTSIGN, { 0 }, { 0 } },
    { "Sqrt", RQ_MAP_SQRT, { 0 }, { 0 } },
    { "Swish", RQ_MAP_SWISH, { "alpha", 1 }, { 0 } },
    { "Tan", RQ_MAP_TAN, { 0 }, { 0 } },
    { "Tanh", RQ_MAP_TANH, { 0 }, { 0 } },
    { "ThresholdedRelu", RQ_MAP_THRESHOLDED_RELU, { "alpha", 1 }, { 0 } },
};

static double read_param(const rq_node *n, const param *p)
{
    return p->attr ? (double)rq_attr_float(n, p->attr, p->fallback) : (double)p->fallback;
}

static rq_status unary_wide(const rq_op_args *a)
{
    for (size_t i = 0; i < sizeof unaries / sizeof unaries[0]; i++) {
        const struct unary *u = &unaries[i];
        if (strcmp(u->op, a->node->op) == 0)
            return rq_eltwise_map(a, a->out[0], a->in[0], u->f, read_param(a->node, &u->p), read_param(a->node, &u->q));
    }
    return rq_op_fail(a, RQ_INTERNAL, "is missing from the table of functions of one element");
}

static rq_status unary_forward(const rq_op_args *a)
{
    return rq_half_run(a, unary_wide);
}

/* ---- gradients: rows that are functions of one element save x or y, whichever kernels/eltwise_grad.h wants ---- */

typedef struct grad_job {
    rq_map_grad_fn fn;
    float *dx;
    const float *dy, *v;
    float a, b;
} grad_job;

static void grad_span(void *arg, int64_t from, int64_t n)
{
    const grad_job *j = arg;
    j->fn(j->dx + from, j->dy + from, j->v + from, (size_t)n, j->a, j->b);
}

/* dx = dy f'(v; p, q), v input or output 0 as the row saves it; a dy that never came is zero. */
static rq_status grad_map(const rq_op_args *a, rq_map_id f, double p, double q)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    const unsigned saves = a->node->row->saves;
    if (!dx || !dy) {
        rq_grad_zero(dx);
        return RQ_OK;
    }
    const rq_tensor *v = saves & RQ_OP_OUT(0) ? a->out[0] : saves & RQ_OP_IN(0) ? a->in[0] : dy; /* Neg needs neither */
    grad_job j = { a->k->map_grad[f], dx->f32, dy->f32, v->f32, (float)p, (float)q };
    rq_bcast_spans(a->threads, rq_tensor_count(dx), RQ_BCAST_PIECE, grad_span, &j);
    return RQ_OK;
}

static rq_status unary_backward(const rq_op_args *a)
{
    for (size_t i = 0; i < sizeof unaries / sizeof unaries[0]; i++) {
        const struct unary *u = &unaries[i];
        if (strcmp(u->op, a->node->op) == 0)
            return grad_map(a, u->f, read_param(a->node, &u->p), read_param(a->node, &u->q));
    }
    return rq_op_fail(a, RQ_INTERNAL, "is missing from the table of functions of one element");
}

/* ---- Clip: bounds as attributes (6) or as inputs (11) ---- */

/* A bound for the type at hand: an integer outside its range is brought into it. */
static rq_status clip_bound(const rq_op_args *a, int input, const char *attr, double fallback, double *out)
{
    *out = fallback;
    if (a->opset < 11) {
        *out = rq_attr_float(a->node, attr, (float)fallback);
        return RQ_OK;
    }
    if (input >= a->n_in || !a->in[input])
        return RQ_OK;
    if (rq_tensor_count(a->in[input]) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "%s has %lld elements, expected 1", attr,
                          (long long)rq_tensor_count(a->in[input]));
    *out = rq_tensor_get(a->in[input], 0);
    return RQ_OK;
}

/* 64-bit bounds do not fit a double. */
static rq_status clip_wide_ints(const rq_op_args *a)
{
    int64_t lo = a->in[0]->dtype == RQ_DTYPE_S64 ? INT64_MIN : 0;
    int64_t hi = a->in[0]->dtype == RQ_DTYPE_S64 ? INT64_MAX : -1; /* -1: the bits of the largest u64 */
    if (a->n_in > 1 && a->in[1])
        lo = rq_tensor_get_int(a->in[1], 0);
    if (a->n_in > 2 && a->in[2])
        hi = rq_tensor_get_int(a->in[2], 0);
    rq_eltwise_ints(a->in[0]->dtype)
        ->map[RQ_MAP_CLIP](a->out[0]->data, a->in[0]->data, (size_t)rq_tensor_count(a->in[0]), &lo, &hi);
    return RQ_OK;
}

static rq_status clip_wide(const rq_op_args *a)
{
    double lo, hi;
    const rq_dtype d = a->in[0]->dtype;
    const double most = d == RQ_DTYPE_F64 ? DBL_MAX : FLT_MAX;
    RQ_TRY(clip_bound(a, 1, "min", -most, &lo));
    RQ_TRY(clip_bound(a, 2, "max", most, &hi));
    if (d == RQ_DTYPE_S64 || d == RQ_DTYPE_U64)
        return clip_wide_ints(a);
    return rq_eltwise_map(a, a->out[0], a->in[0], RQ_MAP_CLIP, lo, hi);
}

static rq_status clip_forward(const rq_op_args *a)
{
    return rq_half_run(a, clip_wide);
}

static rq_status clip_backward(const rq_op_args *a)
{
    double lo, hi;
    RQ_TRY(clip_bound(a, 1, "min", -INFINITY, &lo));
    RQ_TRY(clip_bound(a, 2, "max", INFINITY, &hi));
    return grad_map(a, RQ_MAP_CLIP, lo, hi);
}

/* ---- Gelu and its fused forms ---- */

static rq_status gelu_wide(const rq_op_args *a)
{
    const bool tanh = strcmp(rq_attr_string(a->node, "approximate", "none"), "tanh") == 0;
    return rq_eltwise_map(a, a->out[0], a->in[0], tanh ? RQ_MAP_GELU_TANH : RQ_MAP_GELU, 0, 0);
}

static rq_status gelu_forward(const rq_op_args *a)
{
    return rq_half_run(a, gelu_wide);
}

static bool is_tanh(const rq_node *n)
{
    return strcmp(n->op, "FastGelu") == 0 || strcmp(rq_attr_string(n, "approximate", "none"), "tanh") == 0;
}

static rq_status gelu_backward(const rq_op_args *a)
{
    return grad_map(a, is_tanh(a->node) ? RQ_MAP_GELU_TANH : RQ_MAP_GELU, 0, 0);
}

static rq_status gelu_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const char *s = rq_attr_string(n, "approximate", "none");
    if (strcmp(s, "none") && strcmp(s, "tanh"))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "approximate is '%s', expected none or tanh", s);
    return RQ_OK;
}

/* BiasGelu(x, bias) and FastGelu(x, optional bias): the bias runs along the last axis. */
static rq_status bias_gelu_wide(const rq_op_args *a)
{
    const bool fast = strcmp(a->node->op, "FastGelu") == 0;
    if (a->n_in < 2 || !a->in[1])
        return rq_eltwise_map(a, a->out[0], a->in[0], fast ? RQ_MAP_GELU_TANH : RQ_MAP_GELU, 0, 0);
    return rq_eltwise_zip(a, a->out[0], a->in[0], a->in[1], fast ? RQ_ZIP_BIAS_GELU_TANH : RQ_ZIP_BIAS_GELU);
}

static rq_status bias_gelu_forward(const rq_op_args *a)
{
    return rq_half_run(a, bias_gelu_wide);
}

/* The gradient of the sum of both inputs is that of the first; the bias gets it summed over all rows. */
static rq_status bias_gelu_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0), *db = rq_grad_in(a, 1);
    const rq_tensor *dy = rq_grad_out(a, 0), *bias = a->n_in > 1 ? a->in[1] : NULL;
    if (!dy || !bias) {
        rq_grad_zero(db);
        return gelu_backward(a);
    }
    const rq_shape *s = &a->in[0]->shape;
    const size_t bytes = rq_mem_round((size_t)rq_shape_count(s) * sizeof(float));
    rq_tensor sum = rq_tensor_view(RQ_DTYPE_F32, s, a->scratch);
    rq_tensor own = rq_tensor_view(RQ_DTYPE_F32, s, (char *)a->scratch + bytes), *to = dx ? dx : &own;
    RQ_TRY(rq_eltwise_zip(a, &sum, a->in[0], bias, RQ_ZIP_ADD));
    grad_job j = { a->k->map_grad[is_tanh(a->node) ? RQ_MAP_GELU_TANH : RQ_MAP_GELU], to->f32, dy->f32, sum.f32, 0, 0 };
    rq_bcast_spans(a->threads, rq_shape_count(s), RQ_BCAST_PIECE, grad_span, &j);
    return db ? rq_grad_sum(a, db, to) : RQ_OK;
}

static size_t bias_gelu_scratch(const rq_op_args *a)
{
    return 2 * rq_mem_round((size_t)rq_shape_count(&a->in[0]->shape) * sizeof(float));
}

static rq_status bias_gelu_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    if (a->n_in > 1 && a->in[1]) {
        const rq_shape *x = &a->in[0]->shape, *b = &a->in[1]->shape;
        if (b->rank >= 0 && b->rank != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias has %d axes, expected 1", b->rank);
        if (x->rank == 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the input is a scalar");
        if (x->rank > 0 && b->rank == 1 && b->dim[0] >= 0 && x->dim[x->rank - 1] >= 0 &&
            b->dim[0] != x->dim[x->rank - 1])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias has %lld entries, the last axis %lld", (long long)b->dim[0],
                                 (long long)x->dim[x->rank - 1]);
    }
    return RQ_OK;
}

/* ---- rows ---- */

/* keeps: what its gradient is made of */
#define UNARY_OF(id, op_name, first, where, grad, keeps)                                                               \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op_name,                                                                                               \
        .domain = "",                                                                                                  \
        .since = first,                                                                                                \
        .known = 25,                                                                                                   \
        .min_in = 1,                                                                                                   \
        .max_in = 1,                                                                                                   \
        .min_out = 1,                                                                                                  \
        .max_out = 1,                                                                                                  \
        .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE | RQ_OP_IN_PLACE,                                                   \
        .place = where,                                                                                                \
        .infer = rq_infer_same,                                                                                        \
        .forward = unary_forward,                                                                                      \
        .backward = grad,                                                                                              \
        .saves = keeps,                                                                                                \
    }
#define UNARY(id, op_name, first, where, keeps) UNARY_OF(id, op_name, first, where, unary_backward, keeps)
#define FLAT(id, op_name, first) UNARY_OF(id, op_name, first, RQ_PLACE_FLOAT, rq_grad_none, 0)
UNARY(abs, "Abs", 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(acos, "Acos", 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(acosh, "Acosh", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(asin, "Asin", 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(asinh, "Asinh", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(atan, "Atan", 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(atanh, "Atanh", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
FLAT(ceil, "Ceil", 1);
UNARY(celu, "Celu", 12, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(cos, "Cos", 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(cosh, "Cosh", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(elu, "Elu", 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(erf, "Erf", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(exp, "Exp", 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
FLAT(floor, "Floor", 1);
UNARY(hard_sigmoid, "HardSigmoid", 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(hard_swish, "HardSwish", 14, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(leaky_relu, "LeakyRelu", 1, RQ_PLACE_OWN, RQ_OP_IN(0));
UNARY(log, "Log", 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(mish, "Mish", 18, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(neg, "Neg", 1, RQ_PLACE_FLOAT, 0);
UNARY(reciprocal, "Reciprocal", 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(relu, "Relu", 1, RQ_PLACE_CLAMP, RQ_OP_OUT(0));
FLAT(round, "Round", 11);
UNARY(selu, "Selu", 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(shrink, "Shrink", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(sigmoid, "Sigmoid", 1, RQ_PLACE_UNIT, RQ_OP_OUT(0));
FLAT(sign, "Sign", 9);
UNARY(sin, "Sin", 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(sinh, "Sinh", 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(softplus, "Softplus", 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(softsign, "Softsign", 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(sqrt, "Sqrt", 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(swish, "Swish", 24, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(tan, "Tan", 7, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(tanh, "Tanh", 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(thresholded_relu, "ThresholdedRelu", 10, RQ_PLACE_FLOAT, RQ_OP_IN(0));
#undef FLAT
#undef UNARY
#undef UNARY_OF

const rq_op rq_op_clip = {
    .name = "Clip",
    .domain = "",
    .since = 6,
    .known = 25,
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_CLAMP,
    .infer = rq_infer_same,
    .forward = clip_forward,
    .backward = clip_backward,
    .saves = RQ_OP_OUT(0) | RQ_OP_IN(1) | RQ_OP_IN(2),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_gelu = {
    .name = "Gelu",
    .domain = "",
    .since = 20,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .check = gelu_check,
    .infer = rq_infer_same,
    .forward = gelu_forward,
    .backward = gelu_backward,
    .saves = RQ_OP_IN(0),
};

const rq_op rq_op_ms_gelu = {
    .name = "Gelu",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_infer_same,
    .forward = gelu_forward,
    .backward = gelu_backward,
    .saves = RQ_OP_IN(0),
};

const rq_op rq_op_ms_quick_gelu = {
    .name = "QuickGelu",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_infer_same,
    .forward = unary_forward,
    .backward = unary_backward,
    .saves = RQ_OP_IN(0),
};

const rq_op rq_op_ms_bias_gelu = {
    .name = "BiasGelu",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = bias_gelu_infer,
    .forward = bias_gelu_forward,
    .backward = bias_gelu_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1),
    .scratch_backward = bias_gelu_scratch,
};

const rq_op rq_op_ms_fast_gelu = {
    .name = "FastGelu",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = bias_gelu_infer,
    .forward = bias_gelu_forward,
    .backward = bias_gelu_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1),
    .scratch_backward = bias_gelu_scratch,
    .accepts_int = rq_int_table_accepts, /* without a bias */
    .prepare_int = rq_int_table_prepare,
    .forward_int = rq_int_table_forward,
    .release_int = rq_int_table_release,
};
