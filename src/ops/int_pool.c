/* ops/int_pool.c — AveragePool and GlobalAveragePool on codes, with ONNX Runtime's arithmetic (docs/onnx-facts.md 6.3):
 *   AveragePool        f32 mean of dequantized values, summed in window order; rne(mean / sy + zy), the zero point
 *                      inside the rounding
 *   GlobalAveragePool  s32 sum of (code - zx), then rne(sum * (sx / (sy * count))) + zy
 * and, of channels-last codes, MaxPool. */
#include <string.h>

#include "kernels/quantize.h"
#include "ops/int_last.h"
#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/window.h"

bool rq_int_pool_accepts(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "more than three spatial axes";
    if (a->in[0]->shape.rank < 3 || a->in[0]->shape.rank > 5)
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

enum {
    ROW = 128,       /* windows at a time */
    MAX_TAPS = 1024, /* of a window over channels-last codes */
    CHANNELS = 256,  /* of them at a time */
};

/* By the definition the average is that of the float form, which knows no other order. */
rq_last rq_int_average_pool_last(const rq_op_args *a)
{
    return a->k->spec ? RQ_LAST_NO : rq_int_window_last(a);
}

rq_last rq_int_window_last(const rq_op_args *a)
{
    rq_window w;
    if (rq_window_pool(&w, a->node, &a->in[0]->shape, NULL) != RQ_OK ||
        (double)w.kernel[0] * (double)w.kernel[1] * (double)w.kernel[2] > MAX_TAPS)
        return RQ_LAST_NO;
    return rq_last_can(a);
}

/* ---- channels-last: a window is a list of pixels ---- */

/* The rows of pixels that windows (o[0], o[1], ...) see, in their order: how many. */
static size_t rows_of(const rq_window *w, const uint8_t **rows, const uint8_t *image, int64_t channels,
                      const int64_t o[3])
{
    size_t n = 0;
    const int64_t first0 = o[0] * w->stride[0] - w->pad_lo[0], first1 = o[1] * w->stride[1] - w->pad_lo[1];
    for (int64_t t0 = 0, i0 = first0; t0 < w->kernel[0]; t0++, i0 += w->dilation[0])
        for (int64_t t1 = 0, i1 = first1; t1 < w->kernel[1] && i0 >= 0 && i0 < w->in[0]; t1++, i1 += w->dilation[1])
            if (i1 >= 0 && i1 < w->in[1])
                rows[n++] = image + (i0 * w->in[1] + i1) * w->in[2] * channels;
    return n;
}

/* The pixels that window o2 sees of them, in its order: how many. */
static size_t pixels_of(const rq_window *w, const uint8_t **at, const uint8_t *const *rows, size_t n_rows,
                        int64_t channels, int64_t o2)
{
    const int64_t first = o2 * w->stride[2] - w->pad_lo[2], step = w->dilation[2];
    int64_t lo = 0, hi = w->kernel[2];
    while (lo < hi && first + lo * step < 0)
        lo++;
    while (hi > lo && first + (hi - 1) * step >= w->in[2])
        hi--;
    size_t n = 0;
    for (size_t r = 0; r < n_rows; r++)
        for (int64_t t = lo; t < hi; t++)
            at[n++] = rows[r] + (first + t * step) * channels;
    return n;
}

typedef struct last_job {
    const rq_kernels *k;
    rq_window w;
    int64_t channels, ld; /* of a pixel; to the next one of the output */
    const uint8_t *x;
    uint8_t *y;
    bool include_pad;
    const rq_pool8_mean *mean; /* NULL: the largest */
} last_job;

/* How many taps of window o lie inside of input and padding. */
static int64_t taps_with_pad(const rq_window *w, const int64_t o[3])
{
    int64_t n = 1;
    for (int i = 0; i < 3; i++) {
        int64_t some = 0;
        for (int64_t t = 0; t < w->kernel[i]; t++)
            some += o[i] * w->stride[i] - w->pad_lo[i] + t * w->dilation[i] < w->in[i] + w->pad_hi[i];
        n *= some;
    }
    return n;
}

/* One row of windows of one image. */
static void last_row(void *arg, int64_t item)
{
    const last_job *j = arg;
    const rq_window *w = &j->w;
    const uint8_t *rows[MAX_TAPS], *at[MAX_TAPS],
        *image = j->x + item / (w->out[0] * w->out[1]) * rq_window_span(w->in) * j->channels;
    const size_t c = (size_t)j->channels;
    uint8_t *y = j->y + item * w->out[2] * j->ld;
    int64_t o[3] = { item / w->out[1] % w->out[0], item % w->out[1], 0 };
    const size_t n_rows = rows_of(w, rows, image, j->channels, o);
    for (; o[2] < w->out[2]; o[2]++, y += j->ld) {
        const size_t n = pixels_of(w, at, rows, n_rows, j->channels, o[2]);
        if (j->mean) {
            rq_pool8_mean p = *j->mean;
            const int64_t count = j->include_pad ? taps_with_pad(w, o) : (int64_t)n;
            p.count = count ? (float)count : 1;
            j->k->pool8->mean(y, at, count ? n : 0, c, &p);
        } else if (n) {
            j->k->pool8->max(y, at, n, c);
        } else {
            memset(y, 0, c);
        }
    }
}

static rq_status run_last(const rq_op_args *a, const rq_pool8_mean *mean)
{
    enum { FEW = 1 << 16 };
    const rq_shape *x = &a->in[0]->shape;
    last_job j = { .k = a->k, .channels = x->dim[1], .x = a->in[0]->u8, .y = a->out[0]->u8, .mean = mean };
    j.ld = rq_int_last_ld(a);
    j.include_pad = mean && rq_attr_int(a->node, RQ_WORD_count_include_pad, 0) != 0;
    RQ_TRY(rq_window_pool(&j.w, a->node, x, a->err));
    const int64_t work = rq_tensor_count(a->out[0]) * rq_window_span(j.w.kernel);
    rq_threads_for(work < FEW ? NULL : a->threads, x->dim[0] * j.w.out[0] * j.w.out[1], last_row, &j);
    return RQ_OK;
}

rq_status rq_int_max_pool_run(const rq_op_args *a)
{
    return run_last(a, NULL);
}

/* All pixels of one image. */
static void largest_of_image(void *arg, int64_t image)
{
    const rq_op_args *a = arg;
    const rq_shape *s = &a->in[0]->shape;
    const int64_t n = rq_shape_span(s, 2, s->rank), c = s->dim[1];
    const uint8_t *at[ROW];
    uint8_t *y = a->out[0]->u8 + image * c;
    memset(y, 0, (size_t)c);
    at[0] = y; /* and the largest so far */
    for (int64_t i = 0; i < n;) {
        size_t taps = 1;
        for (; taps < ROW && i < n; taps++, i++)
            at[taps] = a->in[0]->u8 + (image * n + i) * c;
        a->k->pool8->max(y, at, taps, (size_t)c);
    }
}

rq_status rq_int_global_max_pool_run(const rq_op_args *a)
{
    rq_op_args b = *a;
    rq_threads_for(a->threads, a->in[0]->shape.dim[0], largest_of_image, &b);
    return RQ_OK;
}

typedef struct pool_args {
    const rq_op_args *a;
    rq_window w;
    bool include_pad;
    float real[256]; /* of each code */
    uint8_t flip;    /* of the result: it is rounded as u8, see kernels/qeltwise.h */
} pool_args;

/* Taps of window o along axis i: from..to lie inside the input, `all` of them inside input and padding; tap t is at
 * start + t * dilation. */
typedef struct reach {
    int64_t from, to, all, start;
} reach;

static reach reach_of(const rq_window *w, int i, int64_t o)
{
    reach r = { .from = w->kernel[i], .to = 0, .start = o * w->stride[i] - w->pad_lo[i] };
    for (int64_t t = 0; t < w->kernel[i]; t++) {
        const int64_t at = r.start + t * w->dilation[i];
        if (at < w->in[i] + w->pad_hi[i])
            r.all++;
        if (at >= 0 && at < w->in[i]) {
            r.from = t < r.from ? t : r.from;
            r.to = t + 1;
        }
    }
    return r;
}

static int64_t at_least_0(int64_t v)
{
    return v > 0 ? v : 0;
}

/* sum[j] += the real of row[...] under tap t of windows first..first+n-1 along the last axis, where it is inside */
static void add_tap(const pool_args *p, float *sum, const uint8_t *row, int64_t t, int64_t first, int64_t n)
{
    const rq_window *w = &p->w;
    const int64_t s = w->stride[2], offset = t * w->dilation[2] - w->pad_lo[2]; /* window o is at o * s + offset */
    const int64_t lo = at_least_0((at_least_0(-offset) + s - 1) / s - first);
    const int64_t last = w->in[2] - 1 - offset, end = last < 0 ? 0 : last / s + 1 - first, hi = end < n ? end : n;
    for (int64_t j = lo; j < hi; j++)
        sum[j] += p->real[row[(first + j) * s + offset]];
}

/* n windows of output row (o0, o1) from window `first` on; every sum is made in window order. */
static void average_row(const pool_args *p, uint8_t *y, const uint8_t *x, int64_t o0, int64_t o1, int64_t first,
                        int64_t n)
{
    const rq_window *w = &p->w;
    const reach r0 = reach_of(w, 0, o0), r1 = reach_of(w, 1, o1);
    const float sy = p->a->out_q[0]->scale[0], zy = (float)(p->a->out_q[0]->zero_point[0] + (p->flip ? 128 : 0));
    float sum[ROW] = { 0 };
    for (int64_t t0 = r0.from; t0 < r0.to; t0++)
        for (int64_t t1 = r1.from; t1 < r1.to; t1++) {
            const int64_t at0 = r0.start + t0 * w->dilation[0], at1 = r1.start + t1 * w->dilation[1];
            for (int64_t t2 = 0; t2 < w->kernel[2]; t2++)
                add_tap(p, sum, x + (at0 * w->in[1] + at1) * w->in[2], t2, first, n);
        }
    for (int64_t j = 0; j < n; j++) {
        const reach r2 = reach_of(w, 2, first + j);
        const int64_t taps = at_least_0(r0.to - r0.from) * at_least_0(r1.to - r1.from) * at_least_0(r2.to - r2.from);
        const int64_t count = p->include_pad ? r0.all * r1.all * r2.all : taps;
        const float mean = count ? sum[j] / (float)count : 0;
        y[j] = (uint8_t)rq_quantize_zp_inside(mean / sy + zy, 0, 255) ^ p->flip;
    }
}

/* One channel of one image. */
static void average_plane(void *arg, int64_t plane)
{
    const pool_args *p = arg;
    const rq_window *w = &p->w;
    const uint8_t *x = p->a->in[0]->u8 + plane * rq_window_span(w->in);
    uint8_t *y = p->a->out[0]->u8 + plane * rq_window_span(w->out);
    for (int64_t o0 = 0; o0 < w->out[0]; o0++)
        for (int64_t o1 = 0; o1 < w->out[1]; o1++, y += w->out[2])
            for (int64_t o2 = 0; o2 < w->out[2]; o2 += ROW)
                average_row(p, y + o2, x, o0, o1, o2, w->out[2] - o2 < ROW ? w->out[2] - o2 : ROW);
}

rq_status rq_int_average_pool_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const rq_qparams *q = a->in_q[0];
    pool_args p = { .a = a, .include_pad = rq_attr_int(a->node, RQ_WORD_count_include_pad, 0) != 0 };
    if (a->k->spec)
        return rq_int_table_literally(a);
    if (a->last) {
        const rq_qparams *y = a->out_q[0];
        return run_last(a, &(rq_pool8_mean) { .scale = q->scale[0],
                                              .zero = q->zero_point[0],
                                              .y_scale = y->scale[0],
                                              .y_zero = (float)y->zero_point[0] });
    }
    RQ_TRY(rq_window_pool(&p.w, a->node, x, a->err));
    for (int i = 0; i < 256; i++)
        p.real[i] = rq_dequantize_one(q->dtype == RQ_DTYPE_S8 ? (int8_t)(uint8_t)i : i, q->scale[0], q->zero_point[0]);
    p.flip = rq_int_flip_to_u8(a->out_q[0]->dtype);
    rq_threads_for(a->threads, x->dim[0] * x->dim[1], average_plane, &p);
    return RQ_OK;
}

typedef struct global_args {
    const rq_op_args *a;
    int64_t n; /* elements of a plane */
    uint8_t flip;
    uint32_t zx;
    float m;
    int32_t lo, hi;
} global_args;

/* The code of a sum of p->n codes. */
static uint8_t global_mean(const global_args *p, uint32_t sum)
{
    const rq_qparams *yq = p->a->out_q[0];
    const int32_t s = (int32_t)(sum - p->zx * (uint32_t)p->n);
    if (p->a->k->spec) {
        const double mean = (double)s * p->a->in_q[0]->scale[0] / (double)p->n;
        return (uint8_t)rq_quantize_one((float)mean, yq->scale[0], yq->zero_point[0], p->lo, p->hi);
    }
    return (uint8_t)rq_quantize_acc(s, p->m, yq->zero_point[0], p->lo, p->hi);
}

static void global_plane(void *arg, int64_t plane)
{
    const global_args *p = arg;
    const uint8_t *v = p->a->in[0]->u8 + plane * p->n, flip = p->flip;
    uint32_t sum = 0;
    for (int64_t i = 0; i < p->n; i++)
        sum += v[i] ^ flip;
    p->a->out[0]->u8[plane] = global_mean(p, sum);
}

/* Some channels of one image, channels-last. */
static void global_channels(void *arg, int64_t item)
{
    const global_args *p = arg;
    const int64_t channels = p->a->in[0]->shape.dim[1], per = (channels + CHANNELS - 1) / CHANNELS;
    const int64_t image = item / per, first = item % per * CHANNELS,
                  n = channels - first < CHANNELS ? channels - first : CHANNELS;
    uint32_t sum[CHANNELS] = { 0 };
    uint8_t *y = p->a->out[0]->u8 + image * channels + first;
    p->a->k->pool8->sum(sum, p->a->in[0]->u8 + image * channels * p->n + first, (size_t)channels, (size_t)p->n,
                        (size_t)n);
    for (int64_t i = 0; i < n; i++)
        y[i] = global_mean(p, sum[i]);
}

rq_status rq_int_global_average_pool_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const rq_qparams *xq = a->in_q[0], *yq = a->out_q[0];
    global_args p = { .a = a, .n = rq_shape_span(x, 2, x->rank), .flip = rq_int_flip_to_u8(xq->dtype) };
    const float per = yq->scale[0] * (float)p.n;
    p.zx = (uint32_t)(xq->zero_point[0] + (p.flip ? 128 : 0));
    p.m = xq->scale[0] / per;
    rq_qparams_limits(yq, &p.lo, &p.hi);
    const int64_t planes = x->dim[0] * x->dim[1];
    rq_threads *t = planes * p.n < 1 << 16 ? NULL : a->threads;
    if (a->last)
        rq_threads_for(t, x->dim[0] * ((x->dim[1] + CHANNELS - 1) / CHANNELS), global_channels, &p);
    else
        rq_threads_for(t, planes, global_plane, &p);
    return RQ_OK;
}
