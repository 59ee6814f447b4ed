/* ops/activation.c — functions of one element: activations, roundings, exponentials, trigonometry. A row says
 * which kernel it is, a table where its two parameters come from; Clip, Gelu and the fused forms of
 * com.microsoft have functions of their own. */
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/rows.h"
#include "ops/samples.h"

/* ---- rows that say by `which` (rq_map_id) what function they are ---- */

typedef struct param {
    rq_word attr; /* RQ_WORD_NONE: always `fallback` */
    float fallback;
} param;

typedef struct unary {
    param p, q;
} unary;

static const unary unaries[RQ_N_MAPS] = {
    /* those that have parameters */
    [RQ_MAP_CELU] = { { RQ_WORD_alpha, 1 }, { 0 } },
    [RQ_MAP_ELU] = { { RQ_WORD_alpha, 1 }, { 0 } },
    [RQ_MAP_HARD_SIGMOID] = { { RQ_WORD_alpha, 0.2f }, { RQ_WORD_beta, 0.5f } },
    [RQ_MAP_LEAKY_RELU] = { { RQ_WORD_alpha, 0.01f }, { 0 } },
    [RQ_MAP_SELU] = { { RQ_WORD_alpha, 1.67326319217681884765625f }, { RQ_WORD_gamma, 1.05070102214813232421875f } },
    [RQ_MAP_SHRINK] = { { RQ_WORD_lambd, 0.5f }, { RQ_WORD_bias, 0 } },
    [RQ_MAP_SWISH] = { { RQ_WORD_alpha, 1 }, { 0 } },
    [RQ_MAP_THRESHOLDED_RELU] = { { RQ_WORD_alpha, 1 }, { 0 } },
};

static const unary quick_gelu = { { RQ_WORD_alpha, 1.702f }, { 0 } }; /* Swish but for that */

static const unary *unary_of(const rq_node *n)
{
    return n->row == &rq_op_ms_quick_gelu ? &quick_gelu : &unaries[n->row->which];
}

static double read_param(const rq_node *n, const param *p)
{
    return p->attr ? (double)rq_attr_float(n, p->attr, p->fallback) : (double)p->fallback;
}

static rq_status unary_wide(const rq_op_args *a)
{
    const unary *u = unary_of(a->node);
    return rq_eltwise_map(a, a->out[0], a->in[0], (rq_map_id)a->node->row->which, read_param(a->node, &u->p),
                          read_param(a->node, &u->q));
}

static rq_status unary_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, unary_wide);
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
    const unary *u = unary_of(a->node);
    return grad_map(a, (rq_map_id)a->node->row->which, read_param(a->node, &u->p), read_param(a->node, &u->q));
}

/* ---- Clip: bounds as attributes (6) or as inputs (11) ---- */

/* A bound for the type at hand: an integer outside its range is brought into it. */
static rq_status clip_bound(const rq_op_args *a, int input, rq_word attr, double fallback, double *out)
{
    *out = fallback;
    if (a->opset < 11) {
        *out = rq_attr_float(a->node, attr, (float)fallback);
        return RQ_OK;
    }
    if (input >= a->n_in || !a->in[input])
        return RQ_OK;
    if (rq_tensor_count(a->in[input]) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "%s has %lld elements, expected 1", rq_word_text(attr),
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
    RQ_TRY(clip_bound(a, 1, RQ_WORD_min, -most, &lo));
    RQ_TRY(clip_bound(a, 2, RQ_WORD_max, most, &hi));
    if (d == RQ_DTYPE_S64 || d == RQ_DTYPE_U64)
        return clip_wide_ints(a);
    return rq_eltwise_map(a, a->out[0], a->in[0], RQ_MAP_CLIP, lo, hi);
}

static rq_status clip_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, clip_wide);
}

static rq_status clip_backward(const rq_op_args *a)
{
    double lo, hi;
    RQ_TRY(clip_bound(a, 1, RQ_WORD_min, -INFINITY, &lo));
    RQ_TRY(clip_bound(a, 2, RQ_WORD_max, INFINITY, &hi));
    return grad_map(a, RQ_MAP_CLIP, lo, hi);
}

/* ---- Gelu and its fused forms ---- */

static rq_status gelu_wide(const rq_op_args *a)
{
    const bool tanh = rq_attr_word(a->node, RQ_WORD_approximate, RQ_WORD_none) == RQ_WORD_tanh;
    return rq_eltwise_map(a, a->out[0], a->in[0], tanh ? RQ_MAP_GELU_TANH : RQ_MAP_GELU, 0, 0);
}

static rq_status gelu_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, gelu_wide);
}

static bool is_tanh(const rq_node *n)
{
    return n->row == &rq_op_ms_fast_gelu || rq_attr_word(n, RQ_WORD_approximate, RQ_WORD_none) == RQ_WORD_tanh;
}

static rq_status gelu_backward(const rq_op_args *a)
{
    return grad_map(a, is_tanh(a->node) ? RQ_MAP_GELU_TANH : RQ_MAP_GELU, 0, 0);
}

static rq_status gelu_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_word how = rq_attr_word(n, RQ_WORD_approximate, RQ_WORD_none);
    if (how != RQ_WORD_none && how != RQ_WORD_tanh)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "approximate is '%s', expected none or tanh",
                            rq_attr_string(n, RQ_WORD_approximate, ""));
    return RQ_OK;
}

/* BiasGelu(x, bias) and FastGelu(x, optional bias): the bias runs along the last axis. */
static rq_status bias_gelu_wide(const rq_op_args *a)
{
    const bool fast = a->node->row == &rq_op_ms_fast_gelu;
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
#define UNARY_OF(id, op_name, f, first, where, grad, keeps)                                                            \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op_name,                                                                                               \
        .domain = "",                                                                                                  \
        .which = f,                                                                                                    \
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
#define UNARY(id, op_name, f, first, where, keeps) UNARY_OF(id, op_name, f, first, where, unary_backward, keeps)
#define FLAT(id, op_name, f, first) UNARY_OF(id, op_name, f, first, RQ_PLACE_FLOAT, rq_grad_none, 0)
UNARY(abs, "Abs", RQ_MAP_ABS, 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(acos, "Acos", RQ_MAP_ACOS, 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(acosh, "Acosh", RQ_MAP_ACOSH, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(asin, "Asin", RQ_MAP_ASIN, 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(asinh, "Asinh", RQ_MAP_ASINH, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(atan, "Atan", RQ_MAP_ATAN, 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(atanh, "Atanh", RQ_MAP_ATANH, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
FLAT(ceil, "Ceil", RQ_MAP_CEIL, 1);
UNARY(celu, "Celu", RQ_MAP_CELU, 12, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(cos, "Cos", RQ_MAP_COS, 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(cosh, "Cosh", RQ_MAP_COSH, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(elu, "Elu", RQ_MAP_ELU, 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(erf, "Erf", RQ_MAP_ERF, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(exp, "Exp", RQ_MAP_EXP, 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
FLAT(floor, "Floor", RQ_MAP_FLOOR, 1);
UNARY(hard_sigmoid, "HardSigmoid", RQ_MAP_HARD_SIGMOID, 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(hard_swish, "HardSwish", RQ_MAP_HARD_SWISH, 14, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(leaky_relu, "LeakyRelu", RQ_MAP_LEAKY_RELU, 1, RQ_PLACE_OWN, RQ_OP_IN(0));
UNARY(log, "Log", RQ_MAP_LOG, 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(mish, "Mish", RQ_MAP_MISH, 18, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(neg, "Neg", RQ_MAP_NEG, 1, RQ_PLACE_FLOAT, 0);
UNARY(reciprocal, "Reciprocal", RQ_MAP_RECIPROCAL, 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(relu, "Relu", RQ_MAP_RELU, 1, RQ_PLACE_CLAMP, RQ_OP_OUT(0));
FLAT(round, "Round", RQ_MAP_ROUND, 11);
UNARY(selu, "Selu", RQ_MAP_SELU, 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(shrink, "Shrink", RQ_MAP_SHRINK, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(sigmoid, "Sigmoid", RQ_MAP_SIGMOID, 1, RQ_PLACE_UNIT, RQ_OP_OUT(0));
FLAT(sign, "Sign", RQ_MAP_SIGN, 9);
UNARY(sin, "Sin", RQ_MAP_SIN, 7, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(sinh, "Sinh", RQ_MAP_SINH, 9, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(softplus, "Softplus", RQ_MAP_SOFTPLUS, 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(softsign, "Softsign", RQ_MAP_SOFTSIGN, 1, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(sqrt, "Sqrt", RQ_MAP_SQRT, 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(swish, "Swish", RQ_MAP_SWISH, 24, RQ_PLACE_FLOAT, RQ_OP_IN(0));
UNARY(tan, "Tan", RQ_MAP_TAN, 7, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(tanh, "Tanh", RQ_MAP_TANH, 1, RQ_PLACE_FLOAT, RQ_OP_OUT(0));
UNARY(thresholded_relu, "ThresholdedRelu", RQ_MAP_THRESHOLDED_RELU, 10, RQ_PLACE_FLOAT, RQ_OP_IN(0));
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
    .which = RQ_MAP_SWISH,
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
    .samples = rq_samples_each,
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
    .samples = rq_samples_each,
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
