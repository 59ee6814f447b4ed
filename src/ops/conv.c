/* ops/conv.c — Conv and ConvTranspose in 1 to 3 dimensions, and FusedConv (Conv with an activation behind it).
 *
 * The loops are in kernels/conv_f32; here attributes become a geometry, and weights that never change are packed
 * once per plan. */
#include <stdio.h>
#include <string.h>

#include "ops/conv.h"
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/int_pick.h"
#include "ops/rows.h"
#include "ops/packs.h"
#include "ops/samples.h"
#include "ops/window.h"

static bool is_transposed(const rq_node *n)
{
    return n->row == &rq_op_conv_transpose;
}

static rq_status conv_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const bool transposed = is_transposed(a->node);
    int64_t groups;
    RQ_TRY(rq_window_group(a->node, &groups, a->err));
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[1]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != a->in[1]->dtype)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input has type %s, the weight %s", rq_dtype_name(a->in[0]->dtype),
                             rq_dtype_name(a->in[1]->dtype));
    if (x->rank < 0)
        return RQ_OK;
    if (x->rank >= 2 && w->rank >= 2) {
        const int64_t channels = x->dim[1], mine = w->dim[transposed ? 0 : 1];
        if (channels >= 0 && mine >= 0 && (transposed ? mine : mine * groups) != channels)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the weight wants %lld input channels, the input has %lld",
                                 (long long)(transposed ? mine : mine * groups), (long long)channels);
        if (w->dim[0] >= 0 && w->dim[0] % groups != 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld %s channels do not make %lld groups", (long long)w->dim[0],
                                 transposed ? "input" : "output", (long long)groups);
    }
    rq_window win;
    RQ_TRY(transposed ? rq_window_deconv(&win, a->node, x, w, a->err) : rq_window_conv(&win, a->node, x, w, a->err));
    int64_t out = RQ_DIM_UNKNOWN;
    if (w->rank >= 2)
        out = !transposed ? w->dim[0] : w->dim[1] < 0 ? RQ_DIM_UNKNOWN : w->dim[1] * groups;
    if (a->n_in > 2 && a->in[2] && a->in[2]->shape.rank >= 0) {
        const rq_shape *b = &a->in[2]->shape;
        if (b->rank != 1 || (b->dim[0] >= 0 && out >= 0 && b->dim[0] != out))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias does not have one entry for each of %lld output channels",
                                 (long long)out);
    }
    a->out_shape[0] = rq_window_out_shape(&win, x, out);
    return RQ_OK;
}

rq_status rq_conv_geometry(const rq_op_args *a, rq_conv_geom *g)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    rq_window win;
    *g = (rq_conv_geom) { .transposed = is_transposed(a->node), .batch = x->dim[0], .in_ch = x->dim[1] };
    RQ_TRY(rq_window_group(a->node, &g->groups, a->err));
    RQ_TRY(g->transposed ? rq_window_deconv(&win, a->node, x, w, a->err) : rq_window_conv(&win, a->node, x, w, a->err));
    g->out_ch = g->transposed ? w->dim[1] * g->groups : w->dim[0];
    g->nd = win.nd;
    memcpy(g->in, win.in, sizeof g->in);
    memcpy(g->out, win.out, sizeof g->out);
    memcpy(g->kernel, win.kernel, sizeof g->kernel);
    memcpy(g->stride, win.stride, sizeof g->stride);
    memcpy(g->dilation, win.dilation, sizeof g->dilation);
    memcpy(g->pad_lo, win.pad_lo, sizeof g->pad_lo);
    memcpy(g->pad_hi, win.pad_hi, sizeof g->pad_hi);
    return RQ_OK;
}

bool rq_conv_is_empty(const rq_op_args *a)
{
    return rq_shape_count(&a->in[0]->shape) == 0 || rq_shape_count(&a->out[0]->shape) == 0 ||
           rq_shape_count(&a->in[1]->shape) == 0;
}

typedef enum way { WAY_EMPTY, WAY_DEPTHWISE, WAY_TRANSPOSED, WAY_ANY } way;

typedef struct conv_state {
    way way;
    rq_conv_geom g;
    int threads;
    rq_conv_f32 *conv;    /* WAY_ANY */
    const void *weights;  /* packed for it; NULL: as they are */
    void *own;            /* these, where nobody else keeps them */
    rq_eltwise_then then; /* of FusedConv */
    bool round_each;      /* to fp16, before the sum and before the activation (run/plan_float.c) */
    rq_tensor wide; /* constant weights of fp16 as f32, without bytes where some are packed; no type: there are none */
} conv_state;

/* ---- prepare and run ---- */

static void conv_release(void *state)
{
    conv_state *s = state;
    rq_conv_f32_destroy(s->conv);
    rq_mem_free(s->own);
    rq_mem_free(s);
}

typedef struct packing {
    const rq_conv_f32 *conv;
    const float *w;
} packing;

static void pack_weights(void *to, const void *arg)
{
    const packing *p = arg;
    rq_conv_f32_pack(p->conv, to, p->w);
}

/* Weights that never change, as tiles read them. */
static rq_status prepare_weights(const rq_op_args *a, conv_state *s, const float *w)
{
    const size_t bytes = rq_conv_f32_weights(s->conv);
    const packing mine = { s->conv, w };
    if (!bytes)
        return RQ_OK;
    if (a->packs) {
        char key[96];
        snprintf(key, sizeof key, "conv_f32 %s %s %lld", a->k->isa, rq_conv_f32_how(s->conv), (long long)s->g.groups);
        return rq_packs_get(a, a->in[1], key, bytes, pack_weights, &mine, &s->weights);
    }
    s->weights = s->own = rq_mem_alloc(1, bytes);
    if (!s->own)
        return RQ_NO_MEMORY;
    pack_weights(s->own, &mine);
    return RQ_OK;
}

typedef struct widening {
    const rq_kernels *k;
    const rq_tensor *from;
} widening;

static void widen_weights(void *to, const void *arg)
{
    const widening *w = arg;
    w->k->half_to_float(to, w->from->u16, (size_t)rq_tensor_count(w->from));
}

/* Weights that never change, of fp16: what the runs read instead, where none are packed. */
static rq_status keep_wide(const rq_op_args *a, conv_state *s)
{
    const rq_tensor *w = a->in[1];
    const widening job = { a->k, w };
    const void *shared = NULL;
    if (!s->weights)
        RQ_TRY(rq_packs_get(a, w, "f32", (size_t)rq_tensor_count(w) * sizeof(float), widen_weights, &job, &shared));
    s->wide = rq_tensor_view(RQ_DTYPE_F32, &w->shape, (void *)shared); /* only read */
    return RQ_OK;
}

/* w: constant weights as f32, or NULL */
static rq_status prepare_any(const rq_op_args *a, conv_state *s, const float *w)
{
    const rq_status status =
        rq_conv_f32_create(&s->conv, a->k, &s->g, w, rq_op_input(a->in, a->n_in, 2) != NULL, s->threads);
    if (status == RQ_INTERNAL)
        return rq_op_fail(a, RQ_INTERNAL, "oneDNN failed");
    return status == RQ_OK ? prepare_weights(a, s, w) : status;
}

static rq_status prepare_way(const rq_op_args *a, conv_state *s)
{
    const rq_tensor *w = a->in[1];
    const bool fixed = w->data && !a->training; /* trained ones change */
    const bool halves =
        fixed && w->dtype == RQ_DTYPE_F16 && a->packs && !a->k->library; /* which keeps weights its own way */
    const widening job = { a->k, w };
    RQ_TRY(rq_conv_geometry(a, &s->g));
    s->way = rq_dwconv_f32_fits(&s->g) ? WAY_DEPTHWISE : rq_deconv_f32_fits(&s->g) ? WAY_TRANSPOSED : WAY_ANY;
    if (s->way == WAY_ANY && halves) {
        float *wide = rq_mem_alloc((size_t)rq_tensor_count(w), sizeof *wide);
        if (!wide)
            return RQ_NO_MEMORY;
        widen_weights(wide, &job);
        const rq_status status = prepare_any(a, s, wide);
        rq_mem_free(wide);
        RQ_TRY(status);
    } else if (s->way == WAY_ANY) {
        RQ_TRY(prepare_any(a, s, fixed && w->dtype == RQ_DTYPE_F32 ? w->f32 : NULL));
    }
    return halves ? keep_wide(a, s) : RQ_OK;
}

static rq_status conv_prepare(const rq_op_args *a, void **state)
{
    const rq_dtype d = a->in[0]->dtype;
    if (d != RQ_DTYPE_F32 && d != RQ_DTYPE_F64 && !rq_half_is(d))
        return rq_op_no_form(a, d);
    conv_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    const bool fused = a->node->row == &rq_op_ms_fused_conv;
    rq_status status = fused ? rq_eltwise_read_then(a, &s->then) : RQ_OK;
    s->round_each = fused && d == RQ_DTYPE_F16 && rq_attr_int(a->node, RQ_WORD_round_mode, 0) != 0;
    if (status == RQ_OK && !rq_conv_is_empty(a)) {
        s->threads = rq_threads_count(a->threads);
        status = prepare_way(a, s);
    }
    if (status != RQ_OK) {
        conv_release(s);
        return status;
    }
    *state = s;
    return RQ_OK;
}

static size_t conv_scratch(const rq_op_args *a, bool integer)
{
    if (integer)
        return rq_int_pick_scratch(a);
    const conv_state *s = a->state;
    switch (s ? s->way : WAY_EMPTY) {
    case WAY_DEPTHWISE:
        return rq_dwconv_f32_scratch(&s->g, s->threads);
    case WAY_TRANSPOSED:
        return rq_deconv_f32_scratch(&s->g, s->threads);
    case WAY_ANY:
        return rq_conv_f32_scratch(s->conv);
    default:
        return 0;
    }
}

/* An empty side: sums of nothing, so only the bias. */
static void fill_bias(rq_tensor *y, const rq_tensor *b)
{
    const int64_t n = rq_tensor_count(y), c = y->shape.dim[1],
                  area = n ? rq_shape_span(&y->shape, 2, y->shape.rank) : 1;
    for (int64_t i = 0; i < n; i++)
        y->f32[i] = b ? b->f32[i / area % c] : 0;
}

static rq_status conv_wide(const rq_op_args *a)
{
    const conv_state *s = a->state;
    const rq_tensor *b = rq_op_input(a->in, a->n_in, 2), *z = rq_op_input(a->in, a->n_in, 3);
    const float *x = a->in[0]->f32, *w = s->weights ? s->weights : a->in[1]->f32, *bias = b ? b->f32 : NULL;
    rq_tensor *y = a->out[0];
    rq_status status = RQ_OK;
    /* right behind each part of the product, where the residual needs no broadcasting */
    const bool same = !z || rq_shape_equal(&z->shape, &y->shape),
               near = same && (z || s->then.active) && (s->way == WAY_DEPTHWISE || s->way == WAY_ANY);
    const rq_conv_after after = { s->round_each, z ? z->f32 : NULL, s->then.active ? a->k->map[s->then.f] : NULL,
                                  s->then.p, s->then.q };
    const rq_conv_after *const then = near ? &after : NULL;
    switch (s->way) {
    case WAY_DEPTHWISE:
        rq_dwconv_f32_run(a->k, &s->g, y->f32, x, w, bias, then, a->scratch, s->threads, a->threads);
        break;
    case WAY_TRANSPOSED:
        status = rq_deconv_f32_run(a->k, &s->g, y->f32, x, w, bias, a->scratch, s->threads, a->threads);
        break;
    case WAY_ANY:
        status = rq_conv_f32_run(s->conv, y->f32, x, w, bias, then, a->scratch, a->threads);
        break;
    default:
        fill_bias(y, b);
    }
    if (status != RQ_OK)
        return rq_op_fail(a, status, "oneDNN failed: %s", rq_status_text(status));
    if (near)
        return RQ_OK;
    if (same) {
        rq_conv_after_run(a->k, &after, y->f32, 0, rq_tensor_count(y));
        return RQ_OK;
    }
    RQ_TRY(rq_eltwise_zip(a, y, y, z, RQ_ZIP_ADD)); /* of a file's FusedConv, which rounds once */
    return s->then.active ? rq_eltwise_map(a, y, y, s->then.f, s->then.p, s->then.q) : RQ_OK;
}

static rq_status conv_forward(const rq_op_args *a)
{
    const conv_state *s = a->state;
    rq_op_args b = *a;
    const rq_tensor *in[4];
    if (s && s->wide.dtype == RQ_DTYPE_F32) {
        for (int i = 0; i < a->n_in; i++)
            in[i] = i == 1 ? &s->wide : a->in[i];
        b.in = in;
    }
    return rq_half_run_single(&b, conv_wide);
}

static double conv_macs(const rq_op_args *a)
{
    const rq_shape *w = &a->in[1]->shape, *y = &a->out[0]->shape, *x = &a->in[0]->shape;
    if (w->rank < 3)
        return 0;
    /* per output element: the weights that meet it (transposed: per input element) */
    const double taps = (double)rq_shape_span(w, 1, w->rank);
    return taps * (double)rq_shape_count(is_transposed(a->node) ? x : y);
}

/* [M, C/group, ...]: axis 0. ConvTranspose: [C, M/group, ...], axis 1; grouped weights mix channels of all groups there,
 * so no axis of theirs is the output channel. */
static int conv_weight_axis(const rq_node *n, const rq_shape *w)
{
    if (!is_transposed(n))
        return 0;
    return rq_attr_int(n, RQ_WORD_group, 1) == 1 ? 1 : RQ_PER_TENSOR;
}

static rq_status conv_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    int64_t groups;
    return rq_window_group(n, &groups, err);
}

const rq_op rq_op_conv = {
    .name = "Conv",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_POSTS | RQ_OP_OUT_LD | RQ_OP_IN_LD,
    .place = RQ_PLACE_WEIGHTED,
    .check = conv_check,
    .infer = conv_infer,
    .samples = rq_samples_first,
    .forward = conv_forward,
    .backward = rq_conv_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .prepare_backward = rq_conv_prepare_backward,
    .release_backward = rq_conv_release_backward,
    .scratch_backward = rq_conv_scratch_backward,
    .prepare = conv_prepare,
    .accepts_int = rq_int_pick_conv,
    .last = rq_int_pick_last_conv,
    .prepare_int = rq_int_pick_prepare_conv,
    .forward_int = rq_int_pick_forward,
    .release = conv_release,
    .release_int = rq_int_pick_release,
    .scratch = conv_scratch,
    .weight_axis = conv_weight_axis,
    .macs = conv_macs,
};

const rq_op rq_op_conv_transpose = {
    .name = "ConvTranspose",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_POSTS,
    .place = RQ_PLACE_FLOAT, /* no runtime of the profile has an integer kernel (docs/onnx-facts.md 5.1) */
    .check = conv_check,
    .infer = conv_infer,
    .samples = rq_samples_first,
    .forward = conv_forward,
    .backward = rq_conv_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .prepare_backward = rq_conv_prepare_backward,
    .release_backward = rq_conv_release_backward,
    .scratch_backward = rq_conv_scratch_backward,
    .prepare = conv_prepare,
    .accepts_int = rq_int_pick_deconv,
    .last = rq_int_pick_last_deconv,
    .prepare_int = rq_int_pick_prepare_deconv,
    .forward_int = rq_int_pick_forward,
    .release = conv_release,
    .release_int = rq_int_pick_release,
    .scratch = conv_scratch,
    .weight_axis = conv_weight_axis,
    .macs = conv_macs,
};

const rq_op rq_op_ms_fused_conv = {
    .name = "FusedConv",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = conv_check,
    .infer = conv_infer,
    .samples = rq_samples_first,
    .forward = conv_forward,
    .prepare = conv_prepare,
    .release = conv_release,
    .scratch = conv_scratch,
    .macs = conv_macs,
};
