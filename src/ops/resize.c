/* ops/resize.c — Resize (opsets 10 to 25) and Upsample.
 *
 * Every mode is separable. An output index of an axis is mapped to a real coordinate of the input (in f32, as ONNX
 * Runtime does: nearest depends on its last bit); nearest then moves whole runs, on any type, codes included; linear
 * and cubic are in resize_blend.c. */
#include "ops/grad.h"
#include "ops/resize.h"

#include <string.h>

#include "ops/elements.h"
#include "ops/int_ops.h"
#include "ops/moves.h"
#include "ops/last.h"
#include "ops/rows.h"
#include "ops/samples.h"

static const rq_word coords_words[] = {
    [RQ_RESIZE_HALF_PIXEL] = RQ_WORD_half_pixel,
    [RQ_RESIZE_HALF_PIXEL_SYMMETRIC] = RQ_WORD_half_pixel_symmetric,
    [RQ_RESIZE_PYTORCH_HALF_PIXEL] = RQ_WORD_pytorch_half_pixel,
    [RQ_RESIZE_ALIGN_CORNERS] = RQ_WORD_align_corners,
    [RQ_RESIZE_ASYMMETRIC] = RQ_WORD_asymmetric,
    [RQ_RESIZE_TF_HALF_PIXEL_FOR_NN] = RQ_WORD_tf_half_pixel_for_nn,
    [RQ_RESIZE_TF_CROP_AND_RESIZE] = RQ_WORD_tf_crop_and_resize,
};

static const rq_word rounding_words[] = {
    [RQ_RESIZE_ROUND_PREFER_FLOOR] = RQ_WORD_round_prefer_floor,
    [RQ_RESIZE_ROUND_PREFER_CEIL] = RQ_WORD_round_prefer_ceil,
    [RQ_RESIZE_FLOOR] = RQ_WORD_floor,
    [RQ_RESIZE_CEIL] = RQ_WORD_ceil,
    [RQ_RESIZE_SIMPLE] = RQ_N_WORDS, /* no word: before opset 11: down when growing, up when shrinking */
};

static const rq_word method_words[] = { RQ_WORD_nearest, RQ_WORD_linear, RQ_WORD_cubic };

static int find_word(rq_word word, const rq_word *words, int n)
{
    int i = 0;
    while (i < n && word != words[i])
        i++;
    return i;
}

static bool is_upsample(const rq_node *n)
{
    return n->row == &rq_op_upsample;
}

static rq_resize_options read_options(const rq_node *n, int64_t opset)
{
    bool old = opset < 11 || is_upsample(n);
    rq_resize_options o = {
        .method = (rq_resize_method)find_word(rq_attr_word(n, RQ_WORD_mode, RQ_WORD_nearest), method_words,
                                              RQ_RESIZE_N_METHODS),
        .coords = old ? RQ_RESIZE_ASYMMETRIC
                      : (rq_resize_coords)find_word(
                            rq_attr_word(n, RQ_WORD_coordinate_transformation_mode, RQ_WORD_half_pixel), coords_words,
                            RQ_RESIZE_N_COORDS),
        .rounding =
            old ? RQ_RESIZE_SIMPLE
                : (rq_resize_rounding)find_word(rq_attr_word(n, RQ_WORD_nearest_mode, RQ_WORD_round_prefer_floor),
                                                rounding_words, RQ_RESIZE_N_ROUNDINGS),
        .antialias = opset >= 18 && rq_attr_int(n, RQ_WORD_antialias, 0),
        .exclude_outside = rq_attr_int(n, RQ_WORD_exclude_outside, 0),
        .cubic_a = rq_attr_float(n, RQ_WORD_cubic_coeff_a, -0.75f),
        .extrapolation = rq_attr_float(n, RQ_WORD_extrapolation_value, 0),
    };
    return o;
}

static rq_status resize_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    rq_resize_options o = read_options(n, opset);
    if (o.method == RQ_RESIZE_N_METHODS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "mode '%.32s' is not known",
                            rq_attr_string(n, RQ_WORD_mode, ""));
    if (o.coords == RQ_RESIZE_N_COORDS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "coordinate_transformation_mode '%.32s' is not known",
                            rq_attr_string(n, RQ_WORD_coordinate_transformation_mode, ""));
    if (o.rounding == RQ_RESIZE_N_ROUNDINGS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "nearest_mode '%.32s' is not known",
                            rq_attr_string(n, RQ_WORD_nearest_mode, ""));
    if (is_upsample(n) && opset < 9 ? !rq_attr_find(n, RQ_WORD_scales) : n->n_in < 2)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "neither scales nor sizes");
    return RQ_OK;
}

/* ---- sizes ---- */

static rq_status read_axes(const rq_infer *a, int rank, int *axes, int *n_axes)
{
    int n = 0;
    const int64_t *v = rq_attr_ints(a->node, RQ_WORD_axes, &n);
    *n_axes = v ? n : rank;
    if (n > rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%d axes for a tensor with %d", n, rank);
    for (int i = 0; i < *n_axes; i++) {
        axes[i] = v ? rq_infer_axis(v[i], rank) : i;
        if (axes[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)v[i], rank);
    }
    return RQ_OK;
}

/* Input i when it is given and not empty. */
static const rq_tensor *given(const rq_infer *a, int i)
{
    const rq_tensor *t = i < a->n_in ? a->in[i] : NULL;
    if (!t || (t->shape.rank == 1 && t->shape.dim[0] == 0))
        return NULL;
    return t;
}

static rq_status plan_scales(const rq_infer *a, rq_resize_axis *p, const int *axes, int n_axes, const rq_tensor *t,
                             const float *list, int n)
{
    if (t && !t->data)
        return RQ_NOT_FOUND;
    if (t)
        n = (int)rq_tensor_count(t);
    if (n != n_axes)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%d scales for %d axes", n, n_axes);
    for (int i = 0; i < n; i++) {
        rq_resize_axis *x = &p[axes[i]];
        x->scale = t ? (float)rq_tensor_get(t, i) : list[i];
        if (!(x->scale > 0) || !isfinite(x->scale))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "scale %g of axis %d", (double)x->scale, axes[i]);
        double out = x->in < 0 ? 0 : floor((double)((float)x->in * x->scale));
        if (out > 0x1p46)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "scale %g of axis %d makes it too long", (double)x->scale, axes[i]);
        x->out = x->in >= 0 ? (int64_t)out : x->scale == 1 ? x->in : RQ_DIM_UNKNOWN;
    }
    return RQ_OK;
}

static rq_status plan_sizes(const rq_infer *a, rq_resize_axis *p, const int *axes, int n_axes, int input)
{
    int64_t v[RQ_MAX_RANK], sym[RQ_MAX_RANK];
    const rq_word policy = rq_attr_word(a->node, RQ_WORD_keep_aspect_ratio_policy, RQ_WORD_stretch);
    int n = rq_infer_ints_part(a, input, v, sym, RQ_MAX_RANK);
    bool smaller = policy == RQ_WORD_not_smaller, larger = policy == RQ_WORD_not_larger;
    float common = 0;
    if (n < 0)
        return RQ_NOT_FOUND;
    if (n != n_axes)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%d sizes for %d axes", n, n_axes);
    for (int i = 0; i < n; i++) {
        rq_resize_axis *x = &p[axes[i]];
        if (!sym[i] && v[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "size %lld of axis %d", (long long)v[i], axes[i]);
        x->out = sym[i] ? sym[i] : v[i];
        x->scale = x->in > 0 && x->out >= 0 ? (float)x->out / (float)x->in : 1;
        if ((smaller || larger) && (x->in < 0 || x->out < 0))
            common = NAN;
        else if (i == 0 || (larger ? x->scale < common : x->scale > common))
            common = x->scale;
    }
    for (int i = 0; i < n && (smaller || larger); i++) {
        rq_resize_axis *x = &p[axes[i]];
        x->scale = isnan(common) ? 1 : common;
        float out = floorf((float)x->in * x->scale + 0.5f);
        if (out > 0x1p46f)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "scale %g of axis %d makes it too long", (double)x->scale, axes[i]);
        x->out = isnan(common) ? RQ_DIM_UNKNOWN : (int64_t)out;
    }
    return RQ_OK;
}

static rq_status plan_roi(const rq_infer *a, rq_resize_axis *p, const int *axes, int n_axes)
{
    const rq_tensor *roi = given(a, 1);
    if (!roi || !roi->data)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "tf_crop_and_resize needs a roi");
    if (rq_tensor_count(roi) != 2 * n_axes)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the roi has %lld entries, expected %d", (long long)rq_tensor_count(roi),
                             2 * n_axes);
    for (int i = 0; i < n_axes; i++) {
        p[axes[i]].roi0 = (float)rq_tensor_get(roi, i);
        p[axes[i]].roi1 = (float)rq_tensor_get(roi, i + n_axes);
    }
    return RQ_OK;
}

/* What happens to each axis; RQ_NOT_FOUND: scales and sizes are not known yet. */
static rq_status plan(const rq_infer *a, rq_resize_axis *p)
{
    const rq_shape *x = &a->in[0]->shape;
    int axes[RQ_MAX_RANK] = { 0 }, n_axes, n_list = 0;
    for (int i = 0; i < x->rank; i++)
        p[i] = (rq_resize_axis) { .in = x->dim[i], .out = x->dim[i], .scale = 1, .roi1 = 1 };
    RQ_TRY(read_axes(a, x->rank, axes, &n_axes));
    if (is_upsample(a->node) || a->opset < 11) {
        const float *list = a->n_in < 2 ? rq_attr_floats(a->node, RQ_WORD_scales, &n_list) : NULL;
        return plan_scales(a, p, axes, n_axes, a->n_in < 2 ? NULL : a->in[1], list, n_list);
    }
    if (given(a, 3)) {
        RQ_TRY(plan_sizes(a, p, axes, n_axes, 3));
    } else if (given(a, 2)) {
        RQ_TRY(plan_scales(a, p, axes, n_axes, a->in[2], NULL, 0));
    } else {
        return rq_infer_fail(a, RQ_BAD_GRAPH, "neither scales nor sizes");
    }
    return RQ_OK;
}

static rq_status resize_infer(const rq_infer *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    const rq_shape *x = &a->in[0]->shape;
    a->out_dtype[0] = a->in[0]->dtype;
    if (x->rank < 0)
        return RQ_OK;
    rq_status s = plan(a, p);
    if (s != RQ_OK && s != RQ_NOT_FOUND)
        return s;
    a->out_shape[0].rank = x->rank;
    for (int i = 0; i < x->rank; i++) {
        a->out_shape[0].dim[i] = s == RQ_OK ? p[i].out : RQ_DIM_UNKNOWN;
        if (s == RQ_OK && p[i].in == 0 && p[i].out > 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d is empty and cannot grow", i);
    }
    return RQ_OK;
}

/* Plan with everything known, at run time. */
static rq_status run_plan(const rq_op_args *a, const rq_resize_options *o, rq_resize_axis *p)
{
    rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    int axes[RQ_MAX_RANK] = { 0 }, n_axes;
    rq_status s = plan(&as_infer, p);
    if (s == RQ_OK && o->coords == RQ_RESIZE_TF_CROP_AND_RESIZE) {
        RQ_TRY(read_axes(&as_infer, a->in[0]->shape.rank, axes, &n_axes));
        s = plan_roi(&as_infer, p, axes, n_axes);
    }
    return s == RQ_NOT_FOUND ? rq_op_fail(a, RQ_BAD_DTYPE, "scales or sizes are no lists of numbers") : s;
}

rq_status rq_resize_plan(const rq_op_args *a, rq_resize_options *o, rq_resize_axis *p)
{
    *o = read_options(a->node, a->opset);
    return run_plan(a, o, p);
}

/* ---- methods: resize_nearest.c, resize_blend.c ---- */

/* The tensors and axes of a node as they lie: channels-last ones are ordinary tensors of another shape. */
typedef struct lying {
    rq_op_args args;
    rq_tensor x, y;
    const rq_tensor *in[1];
    rq_tensor *out[1];
} lying;

static void lie(lying *l, const rq_op_args *a)
{
    l->args = *a;
    l->x = *a->in[0];
    l->y = *a->out[0];
    l->x.shape = rq_last_shape(a->last, &a->in[0]->shape);
    l->y.shape = rq_last_shape(a->last, &a->out[0]->shape);
    l->in[0] = &l->x;
    l->out[0] = &l->y;
    l->args.in = l->in;
    l->args.out = l->out;
    l->args.n_in = l->args.n_out = 1;
}

static void lie_axes(const rq_op_args *a, rq_resize_axis *p)
{
    rq_resize_axis q[RQ_MAX_RANK];
    const int rank = a->in[0]->shape.rank;
    for (int i = 0; i < rank; i++)
        q[rq_last_axis(a->last, i, rank)] = p[i];
    memcpy(p, q, (size_t)rank * sizeof *p);
}

static rq_status nearest_move(const rq_op_args *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    lying l;
    const rq_resize_options o = read_options(a->node, a->opset);
    RQ_TRY(run_plan(a, &o, p));
    lie(&l, a);
    lie_axes(a, p);
    rq_resize_nearest_move(&l.args, &o, p);
    return RQ_OK;
}

static size_t blend_scratch(const rq_op_args *a, bool integer)
{
    lying l;
    lie(&l, a);
    return rq_resize_blend_scratch(&l.args, integer);
}

static size_t resize_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *y = &a->out[0]->shape;
    size_t indices = 0;
    if (rq_shape_count(y) == 0) /* whatever its other sides are */
        return 0;
    if (read_options(a->node, a->opset).method != RQ_RESIZE_NEAREST)
        return blend_scratch(a, integer);
    for (int d = 0; d < y->rank; d++)
        indices += (size_t)y->dim[d];
    return indices * sizeof(int64_t) + 8;
}

static rq_status blend_forward(const rq_op_args *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    const rq_resize_options o = read_options(a->node, a->opset);
    RQ_TRY(run_plan(a, &o, p));
    rq_resize_blend(a, &o, p);
    return RQ_OK;
}

/* Integers: as f32, then cut. */
static rq_status blend_integers(const rq_op_args *a)
{
    rq_tensor x, y = { 0 };
    rq_status s = rq_tensor_create(&x, RQ_DTYPE_F32, &a->in[0]->shape, false);
    if (s == RQ_OK)
        s = rq_tensor_create(&y, RQ_DTYPE_F32, &a->out[0]->shape, false);
    if (s != RQ_OK) {
        rq_tensor_release(&x);
        return rq_op_fail(a, s, "out of memory");
    }
    const rq_tensor *in[4] = { 0 };
    rq_op_args b = *a;
    for (int i = 0; i < a->n_in && i < 4; i++)
        in[i] = i ? a->in[i] : &x;
    b.in = in;
    b.out = (rq_tensor *[]) { &y };
    rq_elements_convert(&x, a->in[0], true);
    s = blend_forward(&b);
    if (s == RQ_OK)
        rq_elements_convert(a->out[0], &y, true);
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    return s;
}

/* Where no size changes nothing is resampled, whatever the scales (3 times 1.3 is 3 again), as in ONNX Runtime. */
static bool keeps_size(const rq_op_args *a)
{
    return rq_shape_equal(&a->in[0]->shape, &a->out[0]->shape) && a->in[0]->dtype != RQ_DTYPE_STRING &&
           read_options(a->node, a->opset).coords != RQ_RESIZE_TF_CROP_AND_RESIZE;
}

static rq_status resize_forward(const rq_op_args *a)
{
    rq_dtype d = a->in[0]->dtype;
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    if (keeps_size(a)) {
        rq_moves_copy(a->out[0], a->in[0]);
        return RQ_OK;
    }
    if (read_options(a->node, a->opset).method == RQ_RESIZE_NEAREST)
        return rq_moves_run(a, nearest_move);
    if (rq_dtype_is_float(d))
        return rq_elements_run_f32(a, blend_forward);
    if (rq_dtype_is_integer(d))
        return blend_integers(a);
    return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(d));
}

static rq_status resize_backward(const rq_op_args *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    const rq_resize_options o = read_options(a->node, a->opset);
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0) || rq_tensor_count(a->out[0]) == 0) {
        rq_grad_zero(rq_grad_in(a, 0));
        return RQ_OK;
    }
    if (keeps_size(a))
        return rq_grad_pass(a);
    RQ_TRY(run_plan(a, &o, p));
    rq_resize_grad(a, &o, p);
    return RQ_OK;
}

static size_t resize_scratch_backward(const rq_op_args *a)
{
    const rq_resize_options o = read_options(a->node, a->opset);
    return rq_shape_count(&a->out[0]->shape) && !keeps_size(a) ? rq_resize_grad_scratch(a, &o) : 0;
}

/* ---- on codes: nearest moves them, the others blend the reals they stand for ---- */

static bool resize_accepts_int(const rq_op_args *a, const char **why)
{
    const rq_resize_options o = read_options(a->node, a->opset);
    const rq_qparams *x = a->in_q[0], *y = a->out_q[0];
    *why = "input or output is not quantized";
    if (!x || !y)
        return false;
    const bool moves = o.method == RQ_RESIZE_NEAREST || keeps_size(a), same = rq_qparams_equal(x, y);
    *why = "a cut-out resized by nearest elements";
    if (o.method == RQ_RESIZE_NEAREST && o.coords == RQ_RESIZE_TF_CROP_AND_RESIZE)
        return false;
    if (moves && same && x->axis == RQ_PER_TENSOR)
        return true;
    if (moves)
        return rq_int_is_activation(x, why) && rq_int_is_activation(y, why);
    return rq_int_is_codes(x, why) && rq_int_is_codes(y, why);
}

static rq_status resize_forward_int(const rq_op_args *a)
{
    rq_tensor *y = a->out[0];
    const rq_resize_options o = read_options(a->node, a->opset);
    if (rq_tensor_count(y) == 0)
        return RQ_OK;
    if (o.method != RQ_RESIZE_NEAREST && !keeps_size(a)) {
        rq_resize_axis p[RQ_MAX_RANK] = { 0 };
        lying l;
        RQ_TRY(run_plan(a, &o, p));
        lie(&l, a);
        lie_axes(a, p);
        return rq_resize_blend_codes(&l.args, &o, p);
    }
    if (keeps_size(a))
        rq_moves_copy(y, a->in[0]);
    else
        RQ_TRY(rq_moves_run(a, nearest_move));
    if (!rq_qparams_equal(a->in_q[0], a->out_q[0])) {
        uint8_t table[256];
        rq_int_requantize_table(table, a->in_q[0], a->out_q[0]);
        a->k->lut8(y->u8, y->u8, (size_t)rq_tensor_count(y), table);
    }
    return RQ_OK;
}

/* Axes are blended in their order: the images' first, so channels-last the channels' must not be. */
static rq_last resize_last(const rq_op_args *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    rq_resize_options o;
    rq_op_args quiet = *a;
    quiet.err = NULL;
    if (rq_resize_plan(&quiet, &o, p) != RQ_OK || a->in[0]->shape.rank < 3)
        return RQ_LAST_NO;
    const bool keeps = p[1].in == p[1].out && p[1].scale == 1;
    return o.method == RQ_RESIZE_NEAREST || (keeps && o.coords != RQ_RESIZE_TF_CROP_AND_RESIZE) ? RQ_LAST_CAN
                                                                                                : RQ_LAST_NO;
}

/* Nearest pixels with their channels and codes as they are, wherever they go. */
static bool resize_spreads(const rq_op_args *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    rq_resize_options o;
    rq_op_args quiet = *a;
    quiet.err = NULL;
    if (rq_resize_plan(&quiet, &o, p) != RQ_OK || o.method != RQ_RESIZE_NEAREST || keeps_size(a) ||
        p[1].in != p[1].out || !rq_qparams_equal(a->in_q[0], a->out_q[0]))
        return false;
    for (int64_t i = 0; i < p[1].in; i++)
        if (rq_resize_nearest(rq_resize_coordinate(&p[1], i, o.coords), &p[1], o.rounding) != i)
            return false;
    return true;
}

/* A blend makes codes that its input does not have. */
static bool resize_carries(const rq_node *n)
{
    return rq_attr_word(n, RQ_WORD_mode, RQ_WORD_nearest) == RQ_WORD_nearest;
}

const rq_op rq_op_resize = {
    .name = "Resize",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 1,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_SAME,
    .check = resize_check,
    .infer = resize_infer,
    .samples = rq_samples_resize,
    .forward = resize_forward,
    .backward = resize_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0),
    .scratch_backward = resize_scratch_backward,
    .accepts_int = resize_accepts_int,
    .flags = RQ_OP_OUT_LD,
    .last = resize_last,
    .spreads = resize_spreads,
    .forward_int = resize_forward_int,
    .scratch = resize_scratch,
    .carries = resize_carries,
};

const rq_op rq_op_upsample = {
    .name = "Upsample",
    .domain = "",
    .since = 7,
    .known = 9,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_SAME,
    .check = resize_check,
    .infer = resize_infer,
    .samples = rq_samples_resize,
    .forward = resize_forward,
    .backward = resize_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0),
    .scratch_backward = resize_scratch_backward,
    .accepts_int = resize_accepts_int,
    .flags = RQ_OP_OUT_LD,
    .last = resize_last,
    .spreads = resize_spreads,
    .forward_int = resize_forward_int,
    .scratch = resize_scratch,
    .carries = resize_carries,
};
