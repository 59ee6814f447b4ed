/* ops/activation.c — functions of one element: activations, roundings, exponentials, trigonometry. One table says
 * which kernel each operator is and where its two parameters come from; Clip, Gelu and the fused forms of
 * com.microsoft have functions of their own. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/eltwise.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/unary_grad.h"

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

static rq_status unary_backward(const rq_op_args *a)
{
    const float *y = a->out[0]->f32, *dy = a->training->grad_out[0]->f32;
    float *dx = a->training->grad_in[0]->f32;
    for (int64_t i = 0, n = rq_tensor_count(a->in[0]); i < n; i++)
        dx[i] = y[i] <= 0 ? 0 : dy[i];
    return RQ_OK;
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

#define UNARY(id, op_name, first, where)                                                                               \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op_name,                                                                                               \
        .domain = "",                                                                                                  \
        .since = first,                                                                                                \
        .known = 25,                                                                                                   \
        .min_in = 1,                                                                                                   \
        .max_in = 1,                                                                                                   \
        .min_out = 1,                                                                                                  \
        .max_out = 1,                                                                                                  \
        .flags = RQ_OP_TABLE,                                                                                          \
        .place = where,                                                                                                \
        .infer = rq_infer_same,                                                                                        \
        .forward = unary_forward,                                                                                      \
    }
/* Functions that are no activations: data is what backward reads of them. */
#define MATH(id, op_name, first, grad, data)                                                                           \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op_name,                                                                                               \
        .domain = "",                                                                                                  \
        .since = first,                                                                                                \
        .known = 25,                                                                                                   \
        .min_in = 1,                                                                                                   \
        .max_in = 1,                                                                                                   \
        .min_out = 1,                                                                                                  \
        .max_out = 1,                                                                                                  \
        .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE,                                                                    \
        .place = RQ_PLACE_FLOAT,                                                                                       \
        .infer = rq_infer_same,                                                                                        \
        .forward = unary_forward,                                                                                      \
        .backward = grad,                                                                                              \
        .saves = data,                                                                                                 \
    }
MATH(abs, "Abs", 1, rq_unary_grad_abs, RQ_OP_IN(0));
MATH(acos, "Acos", 7, rq_unary_grad_acos, RQ_OP_IN(0));
MATH(acosh, "Acosh", 9, rq_unary_grad_acosh, RQ_OP_IN(0));
MATH(asin, "Asin", 7, rq_unary_grad_asin, RQ_OP_IN(0));
MATH(asinh, "Asinh", 9, rq_unary_grad_asinh, RQ_OP_IN(0));
MATH(atan, "Atan", 7, rq_unary_grad_atan, RQ_OP_IN(0));
MATH(atanh, "Atanh", 9, rq_unary_grad_atanh, RQ_OP_IN(0));
MATH(ceil, "Ceil", 1, rq_grad_none, 0);
UNARY(celu, "Celu", 12, RQ_PLACE_FLOAT);
MATH(cos, "Cos", 7, rq_unary_grad_cos, RQ_OP_IN(0));
MATH(cosh, "Cosh", 9, rq_unary_grad_cosh, RQ_OP_IN(0));
UNARY(elu, "Elu", 1, RQ_PLACE_FLOAT);
MATH(erf, "Erf", 9, rq_unary_grad_erf, RQ_OP_IN(0));
MATH(exp, "Exp", 1, rq_unary_grad_exp, RQ_OP_OUT(0));
MATH(floor, "Floor", 1, rq_grad_none, 0);
UNARY(hard_sigmoid, "HardSigmoid", 1, RQ_PLACE_FLOAT);
UNARY(hard_swish, "HardSwish", 14, RQ_PLACE_FLOAT);
UNARY(leaky_relu, "LeakyRelu", 1, RQ_PLACE_OWN);
MATH(log, "Log", 1, rq_unary_grad_log, RQ_OP_IN(0));
UNARY(mish, "Mish", 18, RQ_PLACE_FLOAT);
MATH(neg, "Neg", 1, rq_unary_grad_neg, 0);
MATH(reciprocal, "Reciprocal", 1, rq_unary_grad_reciprocal, RQ_OP_OUT(0));
const rq_op rq_op_relu = {
    .name = "Relu",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_CLAMP,
    .infer = rq_infer_same,
    .forward = unary_forward,
    .backward = unary_backward,
    .saves = RQ_OP_OUT(0),
};
MATH(round, "Round", 11, rq_grad_none, 0);
UNARY(selu, "Selu", 1, RQ_PLACE_FLOAT);
UNARY(shrink, "Shrink", 9, RQ_PLACE_FLOAT);
UNARY(sigmoid, "Sigmoid", 1, RQ_PLACE_UNIT);
MATH(sign, "Sign", 9, rq_grad_none, 0);
MATH(sin, "Sin", 7, rq_unary_grad_sin, RQ_OP_IN(0));
MATH(sinh, "Sinh", 9, rq_unary_grad_sinh, RQ_OP_IN(0));
UNARY(softplus, "Softplus", 1, RQ_PLACE_FLOAT);
UNARY(softsign, "Softsign", 1, RQ_PLACE_FLOAT);
MATH(sqrt, "Sqrt", 1, rq_unary_grad_sqrt, RQ_OP_OUT(0));
UNARY(swish, "Swish", 24, RQ_PLACE_FLOAT);
MATH(tan, "Tan", 7, rq_unary_grad_tan, RQ_OP_OUT(0));
UNARY(tanh, "Tanh", 1, RQ_PLACE_FLOAT);
UNARY(thresholded_relu, "ThresholdedRelu", 10, RQ_PLACE_FLOAT);
#undef UNARY
#undef MATH

const rq_op rq_op_clip = {
    .name = "Clip",
    .domain = "",
    .since = 6,
    .known = 25,
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE,
    .place = RQ_PLACE_CLAMP,
    .infer = rq_infer_same,
    .forward = clip_forward,
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
    .flags = RQ_OP_TABLE,
    .place = RQ_PLACE_FLOAT,
    .check = gelu_check,
    .infer = rq_infer_same,
    .forward = gelu_forward,
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
    .flags = RQ_OP_TABLE,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_infer_same,
    .forward = gelu_forward,
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
    .flags = RQ_OP_TABLE,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_infer_same,
    .forward = unary_forward,
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
    .accepts_int = rq_int_table_accepts, /* without a bias */
    .prepare_int = rq_int_table_prepare,
    .forward_int = rq_int_table_forward,
    .release_int = rq_int_table_release,
};
