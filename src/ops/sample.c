/* ops/sample.c — reading an image at real coordinates: GridSample (opsets 16 to 25) and RoiAlign. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"

/* ---- GridSample: x [N,C,spatial...], grid [N,out...,d] with coordinates in -1..1, innermost axis first ---- */

typedef enum method { NEAREST, LINEAR, CUBIC } method;
typedef enum border { ZEROS, BORDER, REFLECTION } border;

/* Opset 16 says bilinear and bicubic, opset 20 linear and cubic. */
static int find_method(const char *name)
{
    if (strcmp(name, "nearest") == 0)
        return NEAREST;
    if (strcmp(name, "bilinear") == 0 || strcmp(name, "linear") == 0)
        return LINEAR;
    return strcmp(name, "bicubic") == 0 || strcmp(name, "cubic") == 0 ? CUBIC : -1;
}

static int find_border(const char *name)
{
    static const char *const names[] = { "zeros", "border", "reflection" };
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

static rq_status grid_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const char *mode = rq_attr_string(n, "mode", "linear"), *padding = rq_attr_string(n, "padding_mode", "zeros");
    if (find_method(mode) < 0)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "mode '%.32s' is not known", mode);
    if (find_border(padding) < 0)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "padding_mode '%.32s' is not known", padding);
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
    if (x->rank > 4 && find_method(rq_attr_string(a->node, "mode", "linear")) == CUBIC)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "cubic sampling of more than two spatial axes");
    a->out_shape[0] = *x;
    for (int i = 2; i < x->rank; i++)
        a->out_shape[0].dim[i] = grid->dim[i - 1];
    return RQ_OK;
}

/* Index i reflected between lo and hi until it lies within. */
static float reflect(float x, float lo, float hi)
{
    float range = hi - lo;
    if (range <= 0)
        return lo;
    if (x < lo) {
        float d = lo - x, n = truncf(d / range), r = d - n * range;
        return fmodf(n, 2) == 0 ? lo + r : hi - r;
    }
    if (x > hi) {
        float d = x - hi, n = truncf(d / range), r = d - n * range;
        return fmodf(n, 2) == 0 ? hi - r : lo + r;
    }
    return x;
}

/* One axis of the image. */
typedef struct axis {
    int64_t n, step;
    float lo, hi; /* edges of reflection */
    border border;
} axis;

/* Index i brought inside; -1: outside, which is 0. */
static int64_t inside(const axis *a, int64_t i)
{
    if (i >= 0 && i < a->n)
        return i;
    if (a->border == ZEROS)
        return -1;
    if (a->border == REFLECTION)
        i = (int64_t)reflect((float)i, a->lo, a->hi);
    return i < 0 ? 0 : i >= a->n ? a->n - 1 : i;
}

static void cubic_weights(float t, float w[4])
{
    const float c = -0.75f;
    float u = t + 1, v = 1 - t, z = 2 - t;
    w[0] = ((c * u - 5 * c) * u + 8 * c) * u - 4 * c;
    w[1] = ((c + 2) * t - (c + 3)) * t * t + 1;
    w[2] = ((c + 2) * v - (c + 3)) * v * v + 1;
    w[3] = ((c * z - 5 * c) * z + 8 * c) * z - 4 * c;
}

/* Offsets and weights along one axis at coordinate x; offset -1: 0. Returns how many. */
static int taps(const axis *a, float x, method m, int64_t offset[4], float weight[4])
{
    if (m == NEAREST) {
        int64_t i = inside(a, (int64_t)nearbyintf(x));
        offset[0] = i < 0 ? -1 : i * a->step;
        weight[0] = 1;
        return 1;
    }
    int n = m == LINEAR ? 2 : 4;
    int64_t first = (int64_t)floorf(x) - (m == CUBIC);
    float t = x - floorf(x);
    if (m == LINEAR) {
        weight[0] = 1 - t;
        weight[1] = t;
    } else {
        cubic_weights(t, weight);
    }
    for (int i = 0; i < n; i++) {
        int64_t k = inside(a, first + i);
        offset[i] = k < 0 ? -1 : k * a->step;
    }
    return n;
}

/* From -1..1 to indices, far away ones pulled near (they are outside all the same). */
static float to_index(const axis *a, float v, bool align)
{
    float n = (float)a->n, x = align ? (v + 1) / 2 * (n - 1) : ((v + 1) * n - 1) / 2;
    if (!(x > -1e8f))
        return -1e8f;
    return x < 1e8f ? x : 1e8f;
}

static rq_status grid_f32(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *grid = a->in[1];
    rq_tensor *y = a->out[0];
    int d = x->shape.rank - 2;
    bool align = rq_attr_int(a->node, "align_corners", 0) != 0;
    method m = (method)find_method(rq_attr_string(a->node, "mode", "linear"));
    border b = (border)find_border(rq_attr_string(a->node, "padding_mode", "zeros"));
    int64_t batch = x->shape.dim[0], channels = x->shape.dim[1], image = rq_shape_span(&x->shape, 2, d + 2);
    int64_t points = rq_shape_span(&y->shape, 2, d + 2);
    axis ax[3] = { { 0 } };
    for (int i = 0; i < d; i++) {
        int64_t n = x->shape.dim[2 + i];
        ax[i] = (axis) { .n = n,
                         .step = rq_shape_span(&x->shape, 3 + i, d + 2),
                         .border = b,
                         .lo = align ? 0 : -0.5f,
                         .hi = align ? (float)(n - 1) : (float)n - 0.5f };
    }
    if (image == 0) {
        if (y->bytes)
            memset(y->data, 0, y->bytes);
        return RQ_OK;
    }
    for (int64_t p = 0; p < batch * points; p++) {
        const float *at = grid->f32 + p * d;
        int64_t offset[3][4] = { { 0 } };
        float weight[3][4] = { { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } };
        int n[3] = { 1, 1, 1 };
        for (int i = 0; i < d; i++) {
            float v = to_index(&ax[i], at[d - 1 - i], align);
            if (m == NEAREST)
                v = nearbyintf(v);
            if (b == BORDER && m != CUBIC)
                v = v < 0 ? 0 : v > (float)(ax[i].n - 1) ? (float)(ax[i].n - 1) : v;
            if (b == REFLECTION && m != CUBIC)
                v = reflect(v, ax[i].lo, ax[i].hi);
            n[i] = taps(&ax[i], v, m, offset[i], weight[i]);
        }
        for (int64_t c = 0; c < channels; c++) {
            const float *img = x->f32 + (p / points * channels + c) * image;
            float sum = 0;
            for (int i = 0; i < n[0]; i++) {
                float row = 0;
                for (int j = 0; j < n[1]; j++) {
                    float line = 0;
                    for (int k = 0; k < n[2]; k++)
                        if (offset[0][i] >= 0 && offset[1][j] >= 0 && offset[2][k] >= 0)
                            line += weight[2][k] * img[offset[0][i] + offset[1][j] + offset[2][k]];
                    row += weight[1][j] * line;
                }
                sum += weight[0][i] * row;
            }
            y->f32[(p / points * channels + c) * points + p % points] = sum;
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
    const int64_t ratio = rq_attr_int(a->node, "sampling_ratio", 0);
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
    a->out_shape[0] = rq_shape_of(
        4, (int64_t[]) { rois->rank < 0 ? RQ_DIM_UNKNOWN : rois->dim[0], x->rank < 0 ? RQ_DIM_UNKNOWN : x->dim[1],
                         rq_attr_int(a->node, "output_height", 1), rq_attr_int(a->node, "output_width", 1) });
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

static rq_status roi_f32(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *rois = a->in[1], *index = a->in[2];
    rq_tensor *y = a->out[0];
    int64_t n = x->shape.dim[0], channels = x->shape.dim[1], h = x->shape.dim[2], w = x->shape.dim[3];
    int64_t oh = y->shape.dim[2], ow = y->shape.dim[3], ratio = rq_attr_int(a->node, "sampling_ratio", 0);
    float scale = rq_attr_float(a->node, "spatial_scale", 1);
    bool largest = strcmp(rq_attr_string(a->node, "mode", "avg"), "max") == 0;
    const char *mode =
        rq_attr_string(a->node, "coordinate_transformation_mode", a->opset < 16 ? "output_half_pixel" : "half_pixel");
    bool half = strcmp(mode, "half_pixel") == 0;
    for (int64_t r = 0; r < rois->shape.dim[0]; r++) {
        const float *roi = rois->f32 + 4 * r;
        int64_t b = rq_tensor_get_int(index, r);
        float shift = half ? 0.5f : 0;
        float x0 = roi[0] * scale - shift, y0 = roi[1] * scale - shift;
        float rw = roi[2] * scale - shift - x0, rh = roi[3] * scale - shift - y0;
        if (b < 0 || b >= n)
            return rq_op_fail(a, RQ_BAD_DATA, "roi %lld is of image %lld of %lld", (long long)r, (long long)b,
                              (long long)n);
        if (!half) {
            rw = rw > 1 ? rw : 1;
            rh = rh > 1 ? rh : 1;
        }
        float bh = rh / (float)oh, bw = rw / (float)ow;
        float want_h = ceilf(rh / (float)oh), want_w = ceilf(rw / (float)ow);
        int64_t gh = ratio > 0 ? ratio : want_h > 0 && want_h < 1e6f ? (int64_t)want_h : 0;
        int64_t gw = ratio > 0 ? ratio : want_w > 0 && want_w < 1e6f ? (int64_t)want_w : 0;
        for (int64_t o = 0; o < channels * oh * ow; o++) {
            int64_t c = o / (oh * ow), i = o / ow % oh, j = o % ow;
            const float *img = x->f32 + (b * channels + c) * h * w;
            float sum = largest ? -INFINITY : 0;
            for (int64_t s = 0; s < gh * gw; s++) {
                const int64_t row = s / gw, column = s % gw; /* of the grid of samples in a bin */
                float py = y0 + (float)i * bh + ((float)row + 0.5f) * bh / (float)gh;
                float px = x0 + (float)j * bw + ((float)column + 0.5f) * bw / (float)gw, v = 0, weight[4];
                int64_t at[4];
                around(py, px, h, w, at, weight);
                for (int k = 0; k < 4; k++) {
                    float p = weight[k] * img[at[k]];
                    v = largest ? (k && v > p ? v : p) : v + p;
                }
                sum = largest ? (sum > v ? sum : v) : sum + v;
            }
            y->f32[r * channels * oh * ow + o] = gh * gw == 0 ? 0 : largest ? sum : sum / (float)(gh * gw);
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
};
