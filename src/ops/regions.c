/* ops/regions.c — MaxRoiPool and AffineGrid: where regions of an image lie, beside ops/sample.c, which reads them between
 * pixels. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"

/* ---- MaxRoiPool: x [N,C,H,W], rois [R,5] as image, x0 y0 x1 y1 -> [R,C,h,w] ---- */

static rq_status roi_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *rois = &a->in[1]->shape;
    int n;
    const int64_t *size = rq_attr_ints(a->node, RQ_WORD_pooled_shape, &n);
    a->out_dtype[0] = a->in[0]->dtype;
    if (!size || n != 2 || size[0] < 1 || size[1] < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "pooled_shape is not two sizes of at least 1");
    if ((x->rank >= 0 && x->rank != 4) ||
        (rois->rank >= 0 && (rois->rank != 2 || (rois->dim[1] >= 0 && rois->dim[1] != 5))))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes and the rois %d; expected 4 and [count,5]",
                             x->rank, rois->rank);
    a->out_shape[0] = rq_shape_of(4, (int64_t[]) { rois->rank < 0 ? RQ_DIM_UNKNOWN : rois->dim[0],
                                                   x->rank < 0 ? RQ_DIM_UNKNOWN : x->dim[1], size[0], size[1] });
    return RQ_OK;
}

/* Pixels from..to-1 of n that bin i of `bins` over `length` pixels from `start` holds. */
static void bin_of(float start, float length, int64_t bins, int64_t i, int64_t n, int64_t *from, int64_t *to)
{
    const float one = length / (float)bins, lo = floorf((float)i * one) + start,
                hi = ceilf((float)(i + 1) * one) + start;
    *from = !(lo > 0) ? 0 : lo < (float)n ? (int64_t)lo : n;
    *to = !(hi > 0) ? 0 : hi < (float)n ? (int64_t)hi : n;
}

static rq_status roi_f32(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    const int64_t channels = x->dim[1], h = x->dim[2], w = x->dim[3], oh = y->dim[2], ow = y->dim[3];
    const float scale = rq_attr_float(a->node, RQ_WORD_spatial_scale, 1);
    for (int64_t r = 0; r < y->dim[0]; r++) {
        const float *roi = a->in[1]->f32 + 5 * r;
        if (!(roi[0] >= 0 && roi[0] < (float)x->dim[0]))
            return rq_op_fail(a, RQ_BAD_DATA, "roi %lld is of image %g of %lld", (long long)r, (double)roi[0],
                              (long long)x->dim[0]);
        const float x0 = roundf(roi[1] * scale), y0 = roundf(roi[2] * scale);
        const float rw = fmaxf(roundf(roi[3] * scale) - x0 + 1, 1), rh = fmaxf(roundf(roi[4] * scale) - y0 + 1, 1);
        for (int64_t o = 0; o < channels * oh * ow; o++) {
            int64_t top, bottom, left, right;
            bin_of(y0, rh, oh, o / ow % oh, h, &top, &bottom);
            bin_of(x0, rw, ow, o % ow, w, &left, &right);
            const float *img = a->in[0]->f32 + ((int64_t)roi[0] * channels + o / (oh * ow)) * h * w;
            float most = top < bottom && left < right ? -INFINITY : 0;
            for (int64_t i = top; i < bottom; i++)
                for (int64_t j = left; j < right; j++)
                    most = img[i * w + j] > most ? img[i * w + j] : most;
            a->out[0]->f32[r * channels * oh * ow + o] = most;
        }
    }
    return RQ_OK;
}

static rq_status roi_forward(const rq_op_args *a)
{
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_no_form(a, a->in[0]->dtype);
    return rq_elements_run_f32(a, roi_f32);
}

/* ---- AffineGrid: theta [N,d,d+1], size [N,C,spatial...] -> [N,spatial...,d], the grid that GridSample takes ---- */

static rq_status grid_infer(const rq_infer *a)
{
    int64_t v[5];
    const rq_shape *t = &a->in[0]->shape, *s = &a->in[1]->shape;
    a->out_dtype[0] = a->in[0]->dtype;
    const int known = rq_infer_ints(a, 1, v, 5);
    const int n = known >= 0 ? known : s->rank == 1 && s->dim[0] >= 0 && s->dim[0] < 9 ? (int)s->dim[0] : -1;
    if (s->rank >= 0 && s->rank != 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the size has %d axes, expected 1", s->rank);
    if (n >= 0 && n != 4 && n != 5)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the size has %d entries, expected 4 or 5", n);
    if (n < 0)
        return RQ_OK;
    const int d = n - 2;
    if (t->rank >= 0 && (t->rank != 3 || (t->dim[1] >= 0 && t->dim[1] != d) || (t->dim[2] >= 0 && t->dim[2] != d + 1)))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "theta is not [batch,%d,%d]", d, d + 1);
    rq_shape *y = &a->out_shape[0];
    y->rank = n;
    y->dim[0] = t->rank == 3 ? t->dim[0] : RQ_DIM_UNKNOWN;
    if (known >= 0 && v[0] < 0) /* it would pass for a symbol */
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the size holds %lld", (long long)v[0]);
    if (known >= 0 && !rq_infer_dim_join(&y->dim[0], v[0]))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "theta is for %lld images, the size says %lld", (long long)t->dim[0],
                             (long long)v[0]);
    for (int i = 0; i < d; i++) {
        if (known >= 0 && v[2 + i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the size holds %lld", (long long)v[2 + i]);
        y->dim[1 + i] = known >= 0 ? v[2 + i] : RQ_DIM_UNKNOWN;
    }
    y->dim[n - 1] = d;
    return RQ_OK;
}

/* Where point p of the grid lies before it is moved, innermost axis first, then 1. */
static void grid_point(const rq_shape *y, bool align, int64_t p, double at[4])
{
    const int d = y->rank - 2;
    for (int i = 0; i < d; i++) {
        const int64_t n = y->dim[d - i], k = p % n;
        p /= n;
        at[i] = align ? (n > 1 ? -1 + 2 * (double)k / (double)(n - 1) : -1) : (2 * (double)k + 1) / (double)n - 1;
    }
    at[d] = 1;
}

static rq_status grid_forward(const rq_op_args *a)
{
    const rq_shape *y = &a->out[0]->shape;
    const int d = y->rank - 2;
    const bool align = rq_attr_int(a->node, RQ_WORD_align_corners, 0) != 0;
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_no_form(a, a->in[0]->dtype);
    const int64_t points = rq_shape_span(y, 1, 1 + d);
    for (int64_t p = 0, all = y->dim[0] * points; p < all; p++) {
        double at[4];
        grid_point(y, align, p % points, at);
        for (int i = 0; i < d; i++) {
            double theta[4], sum;
            rq_elements_load_f64(theta, a->in[0], (p / points * d + i) * (d + 1), 1, d + 1);
            sum = theta[d];
            for (int k = 0; k < d; k++)
                sum += theta[k] * at[k];
            rq_elements_store_f64(a->out[0], p * d + i, &sum, 1, true);
        }
    }
    return RQ_OK;
}

/* Of theta: each point is linear in it. */
static rq_status grid_backward(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_tensor *dtheta = rq_grad_in(a, 0);
    if (!dy || !dtheta)
        return rq_grad_none(a);
    const rq_shape *y = &dy->shape;
    const int d = y->rank - 2;
    const bool align = rq_attr_int(a->node, RQ_WORD_align_corners, 0) != 0;
    const int64_t points = rq_shape_span(y, 1, 1 + d);
    for (int64_t b = 0; b < y->dim[0]; b++) {
        double sum[3][4] = { { 0 } };
        for (int64_t p = 0; p < points; p++) {
            double at[4];
            grid_point(y, align, p, at);
            for (int i = 0; i < d; i++)
                for (int k = 0; k <= d; k++)
                    sum[i][k] += at[k] * (double)dy->f32[(b * points + p) * d + i];
        }
        for (int i = 0; i < d; i++)
            for (int k = 0; k <= d; k++)
                dtheta->f32[(b * d + i) * (d + 1) + k] = (float)sum[i][k];
    }
    return RQ_OK;
}

const rq_op rq_op_max_roi_pool = {
    .name = "MaxRoiPool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = roi_infer,
    .forward = roi_forward,
};

const rq_op rq_op_affine_grid = {
    .name = "AffineGrid",
    .domain = "",
    .since = 20,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = grid_infer,
    .forward = grid_forward,
    .backward = grid_backward,
    .gradients = RQ_OP_IN(0),
};
