/* ops/sample.c — reading an image at real coordinates: GridSample (opsets 16 to 25) and RoiAlign. */
#include "ops/sample.h"

#include <math.h>
#include <string.h>

#include "ops/elements.h"

/* ---- GridSample ---- */

/* Opset 16 says bilinear and bicubic, opset 20 linear and cubic. */
static int find_method(const rq_node *n)
{
    switch (rq_attr_word(n, RQ_WORD_mode, RQ_WORD_linear)) {
    case RQ_WORD_nearest:
        return RQ_SAMPLE_NEAREST;
    case RQ_WORD_bilinear:
    case RQ_WORD_linear:
        return RQ_SAMPLE_LINEAR;
    case RQ_WORD_bicubic:
    case RQ_WORD_cubic:
        return RQ_SAMPLE_CUBIC;
    default:
        return -1;
    }
}

static int find_border(const rq_node *n)
{
    static const rq_word words[] = { RQ_WORD_zeros, RQ_WORD_border, RQ_WORD_reflection };
    const rq_word w = rq_attr_word(n, RQ_WORD_padding_mode, RQ_WORD_zeros);
    for (int i = 0; i < 3; i++)
        if (w == words[i])
            return i;
    return -1;
}

static rq_status grid_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (find_method(n) < 0)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "mode '%.32s' is not known", rq_attr_string(n, RQ_WORD_mode, ""));
    if (find_border(n) < 0)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "padding_mode '%.32s' is not known",
                            rq_attr_string(n, RQ_WORD_padding_mode, ""));
    return RQ_OK;
}

static rq_status grid_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *grid = &a->in[1]->shape;
    char t[2][RQ_SHAPE_TEXT];
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->in[1]->dtype != RQ_DTYPE_NONE && !rq_dtype_is_float(a->in[1]->dtype))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the grid is %s, expected floats", rq_dtype_name(a->in[1]->dtype));
    if (x->rank < 0 || grid->rank < 0)
        return RQ_OK;
    bool fits = x->rank == grid->rank && x->rank >= 3 && rq_infer_dim_join(&(int64_t) { x->dim[0] }, grid->dim[0]) &&
                rq_infer_dim_join(&(int64_t) { x->rank - 2 }, grid->dim[grid->rank - 1]);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a grid of shape %s does not fit an input of shape %s",
                             rq_shape_text(grid, t[0], sizeof t[0]), rq_shape_text(x, t[1], sizeof t[1]));
    if (x->rank > 5)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "more than three spatial axes");
    if (x->rank > 4 && find_method(a->node) == RQ_SAMPLE_CUBIC)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "cubic sampling of more than two spatial axes");
    a->out_shape[0] = *x;
    for (int i = 2; i < x->rank; i++)
        a->out_shape[0].dim[i] = grid->dim[i - 1];
    return RQ_OK;
}

/* Index x reflected between lo and hi until it lies within; *turns: whether it then runs the other way. */
static float reflect(float x, float lo, float hi, bool *turns)
{
    const float range = hi - lo;
    *turns = false;
    if (range <= 0)
        return lo;
    if (x >= lo && x <= hi)
        return x;
    const float d = x < lo ? lo - x : x - hi, n = truncf(d / range), r = d - n * range;
    const bool even = fmodf(n, 2) == 0;
    *turns = even;
    return (x < lo) == even ? lo + r : hi - r;
}

/* Index i brought inside; -1: outside, which is 0. */
static int64_t inside(const rq_sample_grid *g, const rq_sample_axis *a, int64_t i)
{
    bool turns;
    if (i >= 0 && i < a->n)
        return i;
    if (g->border == RQ_SAMPLE_ZEROS)
        return -1;
    if (g->border == RQ_SAMPLE_REFLECTION)
        i = (int64_t)reflect((float)i, a->lo, a->hi, &turns);
    return i < 0 ? 0 : i >= a->n ? a->n - 1 : i;
}

/* Of the four neighbours of a point at t beyond the second, and their derivatives. */
static void cubic_weights(float t, float w[4], float slope[4])
{
    const float c = -0.75f;
    const float u = t + 1, v = 1 - t, z = 2 - t;
    w[0] = ((c * u - 5 * c) * u + 8 * c) * u - 4 * c;
    w[1] = ((c + 2) * t - (c + 3)) * t * t + 1;
    w[2] = ((c + 2) * v - (c + 3)) * v * v + 1;
    w[3] = ((c * z - 5 * c) * z + 8 * c) * z - 4 * c;
    slope[0] = (3 * c * u - 10 * c) * u + 8 * c;
    slope[1] = (3 * (c + 2) * t - 2 * (c + 3)) * t;
    slope[2] = -(3 * (c + 2) * v - 2 * (c + 3)) * v;
    slope[3] = -((3 * c * z - 10 * c) * z + 8 * c);
}

/* What is read along axis i at index x, which moves by `speed` as the grid does. */
static void find_taps(const rq_sample_grid *g, int i, float x, float speed, rq_sample_point *p)
{
    const rq_sample_axis *a = &g->axis[i];
    int64_t first = (int64_t)floorf(x) - (g->method == RQ_SAMPLE_CUBIC);
    const float t = x - floorf(x);
    float *w = p->weight[i], *slope = p->slope[i];
    p->n[i] = g->method == RQ_SAMPLE_NEAREST ? 1 : g->method == RQ_SAMPLE_LINEAR ? 2 : 4;
    if (g->method == RQ_SAMPLE_NEAREST) {
        first = (int64_t)nearbyintf(x);
        w[0] = 1;
        slope[0] = 0;
    } else if (g->method == RQ_SAMPLE_LINEAR) {
        w[0] = 1 - t;
        w[1] = t;
        slope[0] = -1;
        slope[1] = 1;
    } else {
        cubic_weights(t, w, slope);
    }
    for (int k = 0; k < p->n[i]; k++) {
        const int64_t at = inside(g, a, first + k);
        p->offset[i][k] = at < 0 ? -1 : at * a->step;
        slope[k] *= speed;
    }
}

/* From -1..1 to indices, far away ones pulled near (they are outside all the same). */
static float to_index(const rq_sample_axis *a, float v, bool align)
{
    const float n = (float)a->n, x = align ? (v + 1) / 2 * (n - 1) : ((v + 1) * n - 1) / 2;
    if (!(x > -1e8f))
        return -1e8f;
    return x < 1e8f ? x : 1e8f;
}

void rq_sample_grid_of(const rq_op_args *a, rq_sample_grid *g)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    const int d = x->rank - 2;
    *g = (rq_sample_grid) {
        .d = d,
        .align = rq_attr_int(a->node, RQ_WORD_align_corners, 0) != 0,
        .method = (rq_sample_method)find_method(a->node),
        .border = (rq_sample_border)find_border(a->node),
        .batch = x->dim[0],
        .channels = x->dim[1],
        .image = rq_shape_span(x, 2, d + 2),
        .points = rq_shape_span(y, 2, d + 2),
    };
    for (int i = 0; i < d; i++) {
        const int64_t n = x->dim[2 + i];
        g->axis[i] = (rq_sample_axis) { .n = n,
                                        .step = rq_shape_span(x, 3 + i, d + 2),
                                        .lo = g->align ? 0 : -0.5f,
                                        .hi = g->align ? (float)(n - 1) : (float)n - 0.5f };
    }
}

void rq_sample_find(const rq_sample_grid *g, const float *at, rq_sample_point *p)
{
    for (int i = g->d; i < RQ_SAMPLE_AXES; i++) {
        p->n[i] = 1;
        p->offset[i][0] = 0;
        p->weight[i][0] = 1;
        p->slope[i][0] = 0;
    }
    for (int i = 0; i < g->d; i++) {
        const rq_sample_axis *a = &g->axis[i];
        const float last = (float)(a->n - 1);
        float v = to_index(a, at[g->d - 1 - i], g->align), speed = (g->align ? last : (float)a->n) / 2;
        bool turns = false;
        if (v <= -1e8f || v >= 1e8f)
            speed = 0;
        if (g->method == RQ_SAMPLE_NEAREST)
            v = nearbyintf(v);
        if (g->border == RQ_SAMPLE_BORDER && g->method != RQ_SAMPLE_CUBIC) {
            if (v <= 0 || v >= last)
                speed = 0;
            v = v < 0 ? 0 : v > last ? last : v;
        }
        if (g->border == RQ_SAMPLE_REFLECTION && g->method != RQ_SAMPLE_CUBIC)
            v = reflect(v, a->lo, a->hi, &turns);
        find_taps(g, i, v, turns ? -speed : speed, p);
    }
}

static rq_status grid_f32(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *grid = a->in[1];
    rq_tensor *y = a->out[0];
    rq_sample_grid g;
    rq_sample_grid_of(a, &g);
    if (g.image == 0) {
        if (y->bytes)
            memset(y->data, 0, y->bytes);
        return RQ_OK;
    }
    for (int64_t at = 0; at < g.batch * g.points; at++) {
        rq_sample_point p;
        rq_sample_find(&g, grid->f32 + at * g.d, &p);
        for (int64_t c = 0; c < g.channels; c++) {
            const float *img = x->f32 + (at / g.points * g.channels + c) * g.image;
            float sum = 0;
            for (int i = 0; i < p.n[0]; i++) {
                float row = 0;
                for (int j = 0; j < p.n[1]; j++) {
                    float line = 0;
                    for (int k = 0; k < p.n[2]; k++)
                        if (p.offset[0][i] >= 0 && p.offset[1][j] >= 0 && p.offset[2][k] >= 0)
                            line += p.weight[2][k] * img[p.offset[0][i] + p.offset[1][j] + p.offset[2][k]];
                    row += p.weight[1][j] * line;
                }
                sum += p.weight[0][i] * row;
            }
            y->f32[(at / g.points * g.channels + c) * g.points + at % g.points] = sum;
        }
    }
    return RQ_OK;
}

static rq_status grid_forward(const rq_op_args *a)
{
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s, expected floats", rq_dtype_name(a->in[0]->dtype));
    return rq_elements_run_f32(a, grid_f32);
}

/* ---- RoiAlign: x [N,C,H,W], rois [R,4] as x0 y0 x1 y1, batch index [R] -> [R,C,oh,ow] ---- */

enum { MOST_SAMPLES = 1 << 15 }; /* of a bin, along one axis */

static rq_status roi_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *rois = &a->in[1]->shape;
    const int64_t ratio = rq_attr_int(a->node, RQ_WORD_sampling_ratio, 0);
    a->out_dtype[0] = a->in[0]->dtype;
    if (ratio < 0 || ratio > MOST_SAMPLES)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "sampling_ratio is %lld, expected 0 to %d", (long long)ratio,
                             MOST_SAMPLES);
    if ((x->rank >= 0 && x->rank != 4) || (rois->rank >= 0 && rois->rank != 2))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes and the rois %d, expected 4 and 2", x->rank,
                             rois->rank);
    const rq_shape *of = &a->in[2]->shape;
    const rq_dtype d = a->in[0]->dtype, roi = a->in[1]->dtype, index = a->in[2]->dtype;
    if ((d != RQ_DTYPE_NONE && !rq_dtype_is_float(d)) || (d != RQ_DTYPE_NONE && roi != RQ_DTYPE_NONE && roi != d) ||
        (index != RQ_DTYPE_NONE && !rq_dtype_is_integer(index)))
        return rq_infer_fail(a, RQ_BAD_DTYPE,
                             "the image is %s, the rois %s and their images %s, expected floats of one "
                             "type and integers",
                             rq_dtype_name(d), rq_dtype_name(roi), rq_dtype_name(index));
    if (rois->rank == 2 && rois->dim[1] >= 0 && rois->dim[1] != 4)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a roi has %lld numbers, expected 4", (long long)rois->dim[1]);
    if (of->rank >= 0 &&
        (of->rank != 1 || (rois->rank == 2 && rois->dim[0] >= 0 && of->dim[0] >= 0 && rois->dim[0] != of->dim[0])))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld rois want as many indices of images",
                             (long long)(rois->rank == 2 ? rois->dim[0] : -1));
    if (x->rank == 4 && (x->dim[2] == 0 || x->dim[3] == 0) && rois->rank == 2 && rois->dim[0] != 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "there is nothing to sample in an image without pixels");
    a->out_shape[0] = rq_shape_of(4, (int64_t[]) { rois->rank < 0 ? RQ_DIM_UNKNOWN : rois->dim[0],
                                                   x->rank < 0 ? RQ_DIM_UNKNOWN : x->dim[1],
                                                   rq_attr_int(a->node, RQ_WORD_output_height, 1),
                                                   rq_attr_int(a->node, RQ_WORD_output_width, 1) });
    if (a->out_shape[0].dim[2] < 1 || a->out_shape[0].dim[3] < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "an output of %lld x %lld", (long long)a->out_shape[0].dim[2],
                             (long long)a->out_shape[0].dim[3]);
    return RQ_OK;
}

/* The four pixels around (y, x) and their weights; 0 outside the image by more than one pixel. */
static void around(float y, float x, int64_t h, int64_t w, int64_t at[4], float weight[4])
{
    memset(weight, 0, 4 * sizeof *weight);
    memset(at, 0, 4 * sizeof *at);
    if (!(y >= -1 && y <= (float)h && x >= -1 && x <= (float)w))
        return;
    y = y < 0 ? 0 : y;
    x = x < 0 ? 0 : x;
    int64_t y0 = (int64_t)y, x0 = (int64_t)x, y1 = y0 + 1, x1 = x0 + 1;
    if (y0 >= h - 1) {
        y0 = y1 = h - 1;
        y = (float)y0;
    }
    if (x0 >= w - 1) {
        x0 = x1 = w - 1;
        x = (float)x0;
    }
    float ly = y - (float)y0, lx = x - (float)x0, hy = 1 - ly, hx = 1 - lx;
    for (int i = 0; i < 4; i++) {
        at[i] = (i < 2 ? y0 : y1) * w + (i % 2 ? x1 : x0);
        weight[i] = (i < 2 ? hy : ly) * (i % 2 ? lx : hx);
    }
}

rq_status rq_sample_rois_of(const rq_op_args *a, rq_sample_rois *r)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    const rq_word from = rq_attr_word(a->node, RQ_WORD_coordinate_transformation_mode,
                                      a->opset < 16 ? RQ_WORD_output_half_pixel : RQ_WORD_half_pixel);
    *r = (rq_sample_rois) { .n = a->in[1]->shape.dim[0],
                            .images = x->dim[0],
                            .channels = x->dim[1],
                            .h = x->dim[2],
                            .w = x->dim[3],
                            .oh = y->dim[2],
                            .ow = y->dim[3],
                            .ratio = rq_attr_int(a->node, RQ_WORD_sampling_ratio, 0),
                            .scale = rq_attr_float(a->node, RQ_WORD_spatial_scale, 1),
                            .half = from == RQ_WORD_half_pixel,
                            .largest = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_avg) == RQ_WORD_max };
    for (int64_t i = 0; i < r->n; i++) {
        const int64_t b = rq_tensor_get_int(a->in[2], i);
        if (b < 0 || b >= r->images)
            return rq_op_fail(a, RQ_BAD_DATA, "roi %lld is of image %lld of %lld", (long long)i, (long long)b,
                              (long long)r->images);
    }
    return RQ_OK;
}

void rq_sample_roi_of(const rq_op_args *a, const rq_sample_rois *r, int64_t i, rq_sample_roi *roi)
{
    const float *at = a->in[1]->f32 + 4 * i, shift = r->half ? 0.5f : 0;
    roi->image = rq_tensor_get_int(a->in[2], i);
    roi->x0 = at[0] * r->scale - shift;
    roi->y0 = at[1] * r->scale - shift;
    float rw = at[2] * r->scale - shift - roi->x0, rh = at[3] * r->scale - shift - roi->y0;
    if (!r->half) {
        rw = rw > 1 ? rw : 1;
        rh = rh > 1 ? rh : 1;
    }
    roi->bh = rh / (float)r->oh;
    roi->bw = rw / (float)r->ow;
    const float want_h = ceilf(rh / (float)r->oh), want_w = ceilf(rw / (float)r->ow);
    roi->gh = r->ratio > 0 ? r->ratio : want_h > 0 && want_h < 1e6f ? (int64_t)want_h : 0;
    roi->gw = r->ratio > 0 ? r->ratio : want_w > 0 && want_w < 1e6f ? (int64_t)want_w : 0;
}

void rq_sample_in_bin(const rq_sample_rois *r, const rq_sample_roi *roi, int64_t bin, int64_t s, int64_t at[4],
                      float weight[4])
{
    const int64_t i = bin / r->ow, j = bin % r->ow, row = s / roi->gw, column = s % roi->gw;
    const float y = roi->y0 + (float)i * roi->bh + ((float)row + 0.5f) * roi->bh / (float)roi->gh;
    const float x = roi->x0 + (float)j * roi->bw + ((float)column + 0.5f) * roi->bw / (float)roi->gw;
    around(y, x, r->h, r->w, at, weight);
}

static rq_status roi_f32(const rq_op_args *a)
{
    rq_sample_rois r;
    RQ_TRY(rq_sample_rois_of(a, &r));
    const int64_t bins = r.oh * r.ow;
    for (int64_t n = 0; n < r.n; n++) {
        rq_sample_roi roi;
        rq_sample_roi_of(a, &r, n, &roi);
        const int64_t samples = roi.gh * roi.gw;
        for (int64_t o = 0; o < r.channels * bins; o++) {
            const float *img = a->in[0]->f32 + (roi.image * r.channels + o / bins) * r.h * r.w;
            float sum = r.largest ? -INFINITY : 0;
            for (int64_t s = 0; s < samples; s++) {
                float v = 0, weight[4];
                int64_t at[4];
                rq_sample_in_bin(&r, &roi, o % bins, s, at, weight);
                for (int k = 0; k < 4; k++) {
                    const float p = weight[k] * img[at[k]];
                    v = r.largest ? (k && v > p ? v : p) : v + p;
                }
                sum = r.largest ? (sum > v ? sum : v) : sum + v;
            }
            a->out[0]->f32[n * r.channels * bins + o] = samples == 0 ? 0 : r.largest ? sum : sum / (float)samples;
        }
    }
    return RQ_OK;
}

static rq_status roi_forward(const rq_op_args *a)
{
    if (rq_tensor_count(a->in[2]) != a->in[1]->shape.dim[0] || a->in[1]->shape.dim[1] != 4)
        return rq_op_fail(a, RQ_BAD_SHAPE, "rois of %lld numbers with %lld indices", (long long)a->in[1]->shape.dim[1],
                          (long long)rq_tensor_count(a->in[2]));
    if (rq_shape_span(&a->in[0]->shape, 2, 4) == 0 && rq_tensor_count(a->out[0]))
        return rq_op_fail(a, RQ_BAD_SHAPE, "the image is empty");
    return rq_elements_run_f32(a, roi_f32);
}

const rq_op rq_op_grid_sample = {
    .name = "GridSample",
    .domain = "",
    .since = 16,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = grid_check,
    .infer = grid_infer,
    .forward = grid_forward,
    .backward = rq_sample_grad_grid,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
};

const rq_op rq_op_ms_grid_sample = {
    .name = "GridSample",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = grid_check,
    .infer = grid_infer,
    .forward = grid_forward,
    .backward = rq_sample_grad_grid,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
};

const rq_op rq_op_roi_align = {
    .name = "RoiAlign",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = roi_infer,
    .forward = roi_forward,
    .backward = rq_sample_grad_rois,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2),
    .gradients = RQ_OP_IN(0), /* where the regions lie is not learned by it */
};
