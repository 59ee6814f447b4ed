/* ops/resize.c — Resize (opsets 10 to 25) and Upsample.
 *
 * Every mode is separable. An output index of an axis is mapped to a real coordinate of the input (in f32, as ONNX
 * Runtime does: nearest depends on its last bit); nearest then moves whole runs, on any type, codes included; linear
 * and cubic are in resize_blend.c. */
#include "ops/grad.h"
#include "ops/resize.h"

#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/int_ops.h"
#include "ops/moves.h"

static const char *const coords_names[] = {
    [RQ_RESIZE_HALF_PIXEL] = "half_pixel",
    [RQ_RESIZE_HALF_PIXEL_SYMMETRIC] = "half_pixel_symmetric",
    [RQ_RESIZE_PYTORCH_HALF_PIXEL] = "pytorch_half_pixel",
    [RQ_RESIZE_ALIGN_CORNERS] = "align_corners",
    [RQ_RESIZE_ASYMMETRIC] = "asymmetric",
    [RQ_RESIZE_TF_HALF_PIXEL_FOR_NN] = "tf_half_pixel_for_nn",
    [RQ_RESIZE_TF_CROP_AND_RESIZE] = "tf_crop_and_resize",
};

static const char *const rounding_names[] = {
    [RQ_RESIZE_ROUND_PREFER_FLOOR] = "round_prefer_floor",
    [RQ_RESIZE_ROUND_PREFER_CEIL] = "round_prefer_ceil",
    [RQ_RESIZE_FLOOR] = "floor",
    [RQ_RESIZE_CEIL] = "ceil",
    [RQ_RESIZE_SIMPLE] = "", /* before opset 11: down when growing, up when shrinking */
};

static const char *const method_names[] = { "nearest", "linear", "cubic" };

static int find_name(const char *name, const char *const *names, int n)
{
    int i = 0;
    while (i < n && strcmp(name, names[i]) != 0)
        i++;
    return i;
}

static bool is_upsample(const rq_node *n)
{
    return strcmp(n->op, "Upsample") == 0;
}

static rq_resize_options read_options(const rq_node *n, int64_t opset)
{
    bool old = opset < 11 || is_upsample(n);
    rq_resize_options o = {
        .method = (rq_resize_method)find_name(rq_attr_string(n, "mode", "nearest"), method_names, RQ_RESIZE_N_METHODS),
        .coords = old ? RQ_RESIZE_ASYMMETRIC
                      : (rq_resize_coords)find_name(rq_attr_string(n, "coordinate_transformation_mode", "half_pixel"),
                                                    coords_names, RQ_RESIZE_N_COORDS),
        .rounding = old ? RQ_RESIZE_SIMPLE
                        : (rq_resize_rounding)find_name(rq_attr_string(n, "nearest_mode", "round_prefer_floor"),
                                                        rounding_names, RQ_RESIZE_N_ROUNDINGS),
        .antialias = opset >= 18 && rq_attr_int(n, "antialias", 0),
        .exclude_outside = rq_attr_int(n, "exclude_outside", 0),
        .cubic_a = rq_attr_float(n, "cubic_coeff_a", -0.75f),
        .extrapolation = rq_attr_float(n, "extrapolation_value", 0),
    };
    return o;
}

static rq_status resize_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    rq_resize_options o = read_options(n, opset);
    if (o.method == RQ_RESIZE_N_METHODS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "mode '%.32s' is not known", rq_attr_string(n, "mode", ""));
    if (o.coords == RQ_RESIZE_N_COORDS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "coordinate_transformation_mode '%.32s' is not known",
                            rq_attr_string(n, "coordinate_transformation_mode", ""));
    if (o.rounding == RQ_RESIZE_N_ROUNDINGS)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "nearest_mode '%.32s' is not known",
                            rq_attr_string(n, "nearest_mode", ""));
    if (is_upsample(n) && opset < 9 ? !rq_attr_find(n, "scales") : n->n_in < 2)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "neither scales nor sizes");
    return RQ_OK;
}

/* ---- sizes ---- */

static rq_status read_axes(const rq_infer *a, int rank, int *axes, int *n_axes)
{
    int n = 0;
    const int64_t *v = rq_attr_ints(a->node, "axes", &n);
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
    const char *policy = rq_attr_string(a->node, "keep_aspect_ratio_policy", "stretch");
    int n = rq_infer_ints_part(a, input, v, sym, RQ_MAX_RANK);
    bool smaller = strcmp(policy, "not_smaller") == 0, larger = strcmp(policy, "not_larger") == 0;
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
        const float *list = a->n_in < 2 ? rq_attr_floats(a->node, "scales", &n_list) : NULL;
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

/* ---- coordinates ---- */

/* The input coordinate of output index i. */
float rq_resize_coordinate(const rq_resize_axis *p, int64_t i, rq_resize_coords mode)
{
    float x = (float)i, in = (float)p->in, out = (float)p->out;
    switch (mode) {
    case RQ_RESIZE_HALF_PIXEL_SYMMETRIC: {
        float adjust = out / (p->scale * in), center = in / 2;
        return center * (1 - adjust) + (x + 0.5f) / p->scale - 0.5f;
    }
    case RQ_RESIZE_PYTORCH_HALF_PIXEL:
        return p->out > 1 ? (x + 0.5f) / p->scale - 0.5f : 0;
    case RQ_RESIZE_ALIGN_CORNERS: { /* ONNX's own tests: a scale that leaves a fraction of an element counts it (ONNX Runtime cuts it off) */
        const float length = p->scale * in;
        return p->out == 1 ? 0 : x * (in - 1) / ((length - out > 1e-3f ? length : out) - 1);
    }
    case RQ_RESIZE_ASYMMETRIC:
        return x / p->scale;
    case RQ_RESIZE_TF_HALF_PIXEL_FOR_NN:
        return (x + 0.5f) / p->scale;
    case RQ_RESIZE_TF_CROP_AND_RESIZE: /* a roi may say anything: what is no number, or no int64, is far outside */
        x = p->out > 1 ? p->roi0 * (in - 1) + x * (p->roi1 - p->roi0) * (in - 1) / (out - 1)
                       : 0.5f * (p->roi0 + p->roi1) * (in - 1);
        return x > -0x1p60f ? fminf(x, 0x1p60f) : -0x1p60f;
    default:
        return (x + 0.5f) / p->scale - 0.5f;
    }
}

bool rq_resize_is_outside(float x, const rq_resize_axis *p)
{
    return x < 0 || x > (float)(p->in - 1);
}

static int64_t clamp_index(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

int64_t rq_resize_nearest(float x, const rq_resize_axis *p, rq_resize_rounding mode)
{
    switch (mode) {
    case RQ_RESIZE_ROUND_PREFER_FLOOR:
        x = x == floorf(x) + 0.5f ? floorf(x) : roundf(x);
        break;
    case RQ_RESIZE_ROUND_PREFER_CEIL:
        x = roundf(x);
        break;
    case RQ_RESIZE_CEIL:
        x = ceilf(x);
        break;
    case RQ_RESIZE_SIMPLE:
        x = p->scale < 1 ? ceilf(x) : truncf(x);
        break;
    default:
        x = floorf(x);
    }
    return clamp_index((int64_t)x, p->in);
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

/* ---- nearest ---- */

typedef struct nearest_job {
    const rq_resize_axis *p;
    const int64_t *index[RQ_MAX_RANK]; /* [out] per axis; -1: outside */
    size_t in_step[RQ_MAX_RANK], out_step[RQ_MAX_RANK], elem;
    int first, rank; /* axes first..rank-1 are walked; below, runs are copied whole; above, items are independent */
    const void *outside;
    char *dst;
    const char *src;
} nearest_job;

/* The last axis walked, runs of constant size. */
static inline __attribute__((always_inline)) void nearest_runs(char *dst, const char *src, const int64_t *index,
                                                               int64_t n, size_t run)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(dst + (size_t)i * run, src + (size_t)index[i] * run, run);
}

static void nearest_last(const nearest_job *j, int d, char *dst, const char *src)
{
    const int64_t *index = j->index[d];
    int64_t n = j->p[d].out;
    switch (j->out_step[d]) {
    case 1:
        nearest_runs(dst, src, index, n, 1);
        break;
    case 4:
        nearest_runs(dst, src, index, n, 4);
        break;
    default:
        nearest_runs(dst, src, index, n, j->out_step[d]);
    }
}

static void nearest_axis(const nearest_job *j, int d, char *dst, const char *src)
{
    const int64_t *index = j->index[d];
    size_t out = j->out_step[d], in = j->in_step[d];
    if (d + 1 == j->rank && !j->outside) {
        nearest_last(j, d, dst, src);
        return;
    }
    for (int64_t i = 0; i < j->p[d].out; i++, dst += out) {
        if (index[i] < 0)
            rq_move_fill(dst, j->outside, j->elem, (int64_t)(out / j->elem));
        else if (i && index[i] == index[i - 1] && out > 8)
            memcpy(dst, dst - out, out);
        else if (d + 1 < j->rank)
            nearest_axis(j, d + 1, dst, src + (size_t)index[i] * in);
        else
            memcpy(dst, src + (size_t)index[i] * in, out);
    }
}

static void nearest_item(void *arg, int64_t i)
{
    const nearest_job *j = arg;
    size_t out = j->out_step[j->first] * (size_t)j->p[j->first].out;
    size_t in = j->in_step[j->first] * (size_t)j->p[j->first].in;
    nearest_axis(j, j->first, j->dst + (size_t)i * out, j->src + (size_t)i * in);
}

static rq_status nearest_move(const rq_op_args *a)
{
    rq_resize_axis p[RQ_MAX_RANK] = { 0 };
    rq_resize_options o = read_options(a->node, a->opset);
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0];
    uint64_t outside[2] = { 0 };
    int64_t *index = a->scratch;
    RQ_TRY(run_plan(a, &o, p));
    nearest_job j = { .p = p,
                      .elem = rq_moves_size(x->dtype),
                      .first = x->shape.rank,
                      .dst = y->data,
                      .src = x->data,
                      .outside = o.coords == RQ_RESIZE_TF_CROP_AND_RESIZE ? outside : NULL };
    rq_tensor one = rq_tensor_view(x->dtype, &(rq_shape) { 0 }, outside);
    rq_tensor_set(&one, 0, (double)o.extrapolation);
    for (int d = 0; d < x->shape.rank; d++) {
        j.index[d] = index;
        j.in_step[d] = (size_t)rq_shape_span(&x->shape, d + 1, x->shape.rank) * j.elem;
        j.out_step[d] = (size_t)rq_shape_span(&y->shape, d + 1, x->shape.rank) * j.elem;
        bool same = p[d].in == p[d].out;
        for (int64_t i = 0; i < p[d].out; i++) {
            float c = rq_resize_coordinate(&p[d], i, o.coords);
            index[i] = j.outside && rq_resize_is_outside(c, &p[d]) ? -1 : rq_resize_nearest(c, &p[d], o.rounding);
            same = same && index[i] == i;
        }
        index += p[d].out;
        if (same)
            continue;
        j.rank = d + 1;
        j.first = d < j.first ? d : j.first;
    }
    if (j.rank == 0)
        rq_moves_copy(y, x);
    else
        rq_threads_for(a->threads, rq_shape_span(&y->shape, 0, j.first), nearest_item, &j);
    return RQ_OK;
}

/* ---- linear and cubic: resize_blend.c ---- */

static size_t resize_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *y = &a->out[0]->shape;
    size_t indices = 0;
    if (rq_shape_count(y) == 0) /* whatever its other sides are */
        return 0;
    if (read_options(a->node, a->opset).method != RQ_RESIZE_NEAREST)
        return rq_resize_blend_scratch(a, integer);
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
        RQ_TRY(run_plan(a, &o, p));
        return rq_resize_blend_codes(a, &o, p);
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

/* A blend makes codes that its input does not have. */
static bool resize_carries(const rq_node *n)
{
    return strcmp(rq_attr_string(n, "mode", "nearest"), "nearest") == 0;
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
    .forward = resize_forward,
    .backward = resize_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0),
    .scratch_backward = resize_scratch_backward,
    .accepts_int = resize_accepts_int,
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
    .forward = resize_forward,
    .backward = resize_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0),
    .scratch_backward = resize_scratch_backward,
    .accepts_int = resize_accepts_int,
    .forward_int = resize_forward_int,
    .scratch = resize_scratch,
    .carries = resize_carries,
};
