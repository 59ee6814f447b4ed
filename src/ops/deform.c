/* ops/deform.c — DeformConv: a convolution whose taps are moved by offsets that another layer computed. Each image becomes
 * columns by reading it between its pixels, then the weights are one product per group. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/gemm_f32.h"
#include "ops/bcast.h"
#include "ops/half.h"
#include "ops/window.h"

enum { X, W, OFFSET, BIAS, MASK };

/* [N, want, out...] of offsets and masks. */
static rq_status check_moves(const rq_infer *a, int i, int64_t want, const rq_shape *y, const char *what)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
    if (!t || t->shape.rank < 0)
        return RQ_OK;
    bool fits = t->shape.rank == 4 && (want < 0 || t->shape.dim[1] < 0 || t->shape.dim[1] == want);
    for (int d = 0; fits && d < 4; d++)
        fits = d == 1 || t->shape.dim[d] < 0 || y->dim[d] < 0 || t->shape.dim[d] == y->dim[d];
    char ts[RQ_SHAPE_TEXT], ys[RQ_SHAPE_TEXT];
    return fits ? RQ_OK
                : rq_infer_fail(a, RQ_BAD_SHAPE, "%s of shape %s: expected %lld channels over an output of %s", what,
                                rq_shape_text(&t->shape, ts, sizeof ts), (long long)want,
                                rq_shape_text(y, ys, sizeof ys));
}

static rq_status deform_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[X]->shape, *w = &a->in[W]->shape;
    const rq_tensor *bias = rq_op_input(a->in, a->n_in, BIAS);
    const int64_t moved = rq_attr_int(a->node, RQ_WORD_offset_group, 1);
    rq_window g;
    int64_t group;
    a->out_dtype[0] = a->in[X]->dtype;
    RQ_TRY(rq_window_group(a->node, &group, a->err));
    if (moved < 1 || moved > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "offset_group is %lld, expected 1 to %d", (long long)moved, INT32_MAX);
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    if (x->rank != 4 || w->rank != 4)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "input and weight have %d and %d axes, only 4 are supported", x->rank,
                             w->rank);
    RQ_TRY(rq_window_conv(&g, a->node, x, w, a->err));
    if ((x->dim[1] >= 0 && (x->dim[1] % group != 0 || x->dim[1] % moved != 0)) ||
        (w->dim[0] >= 0 && w->dim[0] % group != 0))
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "%lld channels in and %lld out do not divide into groups of %lld and %lld",
                             (long long)x->dim[1], (long long)w->dim[0], (long long)group, (long long)moved);
    if (x->dim[1] >= 0 && w->dim[1] >= 0 && x->dim[1] / group != w->dim[1])
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the weight wants %lld input channels, the input has %lld",
                             (long long)(w->dim[1] * group), (long long)x->dim[1]);
    a->out_shape[0] = rq_window_out_shape(&g, x, w->dim[0]);
    const int64_t taps = w->dim[2] < 0 || w->dim[3] < 0 ? RQ_DIM_UNKNOWN : rq_infer_dim_mul(w->dim[2], w->dim[3]);
    RQ_TRY(check_moves(a, OFFSET, taps < 0 ? taps : rq_infer_dim_mul(2 * moved, taps), &a->out_shape[0], "the offset"));
    RQ_TRY(check_moves(a, MASK, taps < 0 ? taps : rq_infer_dim_mul(moved, taps), &a->out_shape[0], "the mask"));
    if (bias && bias->shape.rank >= 0 &&
        (bias->shape.rank != 1 || (bias->shape.dim[0] >= 0 && w->dim[0] >= 0 && bias->shape.dim[0] != w->dim[0])))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias is not one number per output channel");
    return RQ_OK;
}

/* Plane [h][w] at (y, x), zero outside. */
static float between(const float *p, int64_t h, int64_t w, float y, float x)
{
    if (!(y > -1 && x > -1 && y < (float)h && x < (float)w))
        return 0;
    const float fy = floorf(y), fx = floorf(x), ly = y - fy, lx = x - fx;
    const int64_t y0 = (int64_t)fy, x0 = (int64_t)fx;
    const bool up = y0 >= 0, down = y0 + 1 < h, left = x0 >= 0, right = x0 + 1 < w;
    const float a = up && left ? p[y0 * w + x0] : 0, b = up && right ? p[y0 * w + x0 + 1] : 0;
    const float c = down && left ? p[(y0 + 1) * w + x0] : 0, d = down && right ? p[(y0 + 1) * w + x0 + 1] : 0;
    return (1 - ly) * ((1 - lx) * a + lx * b) + ly * ((1 - lx) * c + lx * d);
}

typedef struct deform_job {
    const rq_op_args *a;
    const rq_window *g;
    int64_t image, moved; /* which, and groups of offsets */
    float *columns;       /* [channels * taps][out] */
} deform_job;

/* One channel and one tap: a row of the columns. */
static void deform_row(void *arg, int64_t row)
{
    const deform_job *j = arg;
    const rq_window *g = j->g;
    const rq_tensor *x = j->a->in[X], *mask = rq_op_input(j->a->in, j->a->n_in, MASK);
    const int64_t kh = g->kernel[1], kw = g->kernel[2], taps = kh * kw, oh = g->out[1], ow = g->out[2], area = oh * ow;
    const int64_t c = row / taps, tap = row % taps, channels = x->shape.dim[1], from = c / (channels / j->moved);
    const float *plane = x->f32 + (j->image * channels + c) * g->in[1] * g->in[2];
    const float *dy = j->a->in[OFFSET]->f32 + ((j->image * j->moved + from) * taps + tap) * 2 * area, *dx = dy + area;
    const float *by = mask ? mask->f32 + ((j->image * j->moved + from) * taps + tap) * area : NULL;
    float *y = j->columns + row * area;
    for (int64_t o = 0; o < area; o++) {
        const int64_t top = o / ow * g->stride[1] - g->pad_lo[1] + tap / kw * g->dilation[1];
        const int64_t left = o % ow * g->stride[2] - g->pad_lo[2] + tap % kw * g->dilation[2];
        const float v = between(plane, g->in[1], g->in[2], (float)top + dy[o], (float)left + dx[o]);
        y[o] = by ? v * by[o] : v;
    }
}

static rq_status deform_wide(const rq_op_args *a)
{
    const rq_shape *x = &a->in[X]->shape, *w = &a->in[W]->shape;
    const rq_tensor *bias = rq_op_input(a->in, a->n_in, BIAS);
    rq_window g;
    int64_t group;
    assert(a->in[X] && a->in[W]);
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_F32)
            return rq_op_no_form(a, a->in[i]->dtype);
    RQ_TRY(rq_window_conv(&g, a->node, x, w, a->err));
    RQ_TRY(rq_window_group(a->node, &group, a->err));
    const int64_t area = rq_window_span(g.out), taps = g.kernel[1] * g.kernel[2], m = w->dim[0] / group;
    const int64_t k = w->dim[1] * taps;
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    deform_job j = { .a = a, .g = &g, .moved = rq_attr_int(a->node, RQ_WORD_offset_group, 1), .columns = a->scratch };
    for (int64_t b = 0; b < x->dim[0]; b++) {
        j.image = b;
        rq_threads_for(a->threads, x->dim[1] * taps, deform_row, &j);
        for (int64_t q = 0; q < group; q++) {
            float *y = a->out[0]->f32 + (b * w->dim[0] + q * m) * area;
            for (int64_t i = 0; bias && i < m * area; i++)
                y[i] = bias->f32[q * m + i / area];
            const rq_status s =
                rq_gemm_f32(a->k, y, a->in[W]->f32 + q * m * k, (const float *)a->scratch + q * k * area, false, false,
                            m, area, k, 1, k, area, bias ? 1 : 0, area, a->threads);
            if (s != RQ_OK)
                return rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
        }
    }
    return RQ_OK;
}

static rq_status deform_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, deform_wide);
}

static size_t deform_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *x = &a->in[X]->shape, *w = &a->in[W]->shape, *y = &a->out[0]->shape;
    size_t n = (size_t)x->dim[1];
    const int64_t by[4] = { w->dim[2], w->dim[3], y->dim[2], y->dim[3] };
    for (int i = 0; i < 4; i++)
        if (!rq_mem_mul(n, (size_t)by[i], &n))
            return SIZE_MAX / 8;
    return rq_mem_mul(n, sizeof(float), &n) ? n : SIZE_MAX / 8;
}

static double deform_macs(const rq_op_args *a)
{
    return (double)rq_shape_count(&a->out[0]->shape) * (double)rq_shape_span(&a->in[W]->shape, 1, 4);
}

const rq_op rq_op_deform_conv = {
    .name = "DeformConv",
    .domain = "",
    .since = 19,
    .known = 25,
    .min_in = 3,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = deform_infer,
    .forward = deform_forward,
    .scratch = deform_scratch,
    .macs = deform_macs,
};
