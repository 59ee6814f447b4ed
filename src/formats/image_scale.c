/* formats/image_scale.c — resizing in two passes, across as each row arrives and down at the end, each rounded to 8 bits, with
 * weights in fixed point: what Pillow computes (Image.resize on 8-bit pictures), bit for bit.
 *
 * Output sample i looks at a window of input samples around c = (i + 1/2) * in/out, of half width support * max(1, in/out);
 * the filter, stretched by the same factor, gives their weights, which are made to sum to 1 and rounded to 22 bits. */
#include "formats/image_scale.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { WEIGHT_BITS = 32 - 8 - 2 }; /* 8 for the sample, 2 for weights beyond [0, 1] */

typedef struct rq_image_taps {
    int32_t *first, *count; /* [out] the window of each output sample */
    int32_t *weight;        /* [out][room] */
    int64_t room;
} rq_image_taps;

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1 : 0;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct {
    double (*at)(double x);
    double support;
} filters[RQ_N_IMAGE_FILTERS] = {
    [RQ_IMAGE_NEAREST] = { box, 0 }, /* one sample, no weights: see nearest() */
    [RQ_IMAGE_BOX] = { box, 0.5 },
    [RQ_IMAGE_BILINEAR] = { triangle, 1 },
    [RQ_IMAGE_BICUBIC] = { cubic, 2 },
};

static void taps_destroy(rq_image_taps *t)
{
    if (!t)
        return;
    rq_mem_free(t->first);
    rq_mem_free(t->count);
    rq_mem_free(t->weight);
    rq_mem_free(t);
}

static void nearest(rq_image_taps *t, int64_t in, int64_t out)
{
    const double step = (double)in / (double)out;
    double c = step * 0.5; /* added up, as Pillow does: its ties fall as rounding has it */
    for (int64_t i = 0; i < out; i++, c += step) {
        int64_t at = (int64_t)c;
        t->first[i] = (int32_t)(at < in ? at : in - 1);
        t->count[i] = 1;
        t->weight[i] = 1 << WEIGHT_BITS;
    }
}

/* Weights of the window of output sample i; w has t->room entries. */
static void window(rq_image_taps *t, int64_t i, int64_t in, double scale, double stretch, rq_image_filter f, double *w)
{
    const double center = ((double)i + 0.5) * scale, reach = filters[f].support * stretch, narrow = 1 / stretch;
    int64_t lo = (int64_t)(center - reach + 0.5), hi = (int64_t)(center + reach + 0.5);
    double sum = 0;
    lo = lo < 0 ? 0 : lo;
    hi = hi > in ? in : hi;
    for (int64_t k = 0; k < hi - lo; k++)
        sum += w[k] = filters[f].at(((double)(k + lo) - center + 0.5) * narrow);
    for (int64_t k = 0; k < hi - lo; k++) {
        double share = sum != 0 ? w[k] / sum : w[k];
        t->weight[i * t->room + k] = (int32_t)(share * (1 << WEIGHT_BITS) + (share < 0 ? -0.5 : 0.5));
    }
    t->first[i] = (int32_t)lo;
    t->count[i] = (int32_t)(hi - lo);
}

static rq_status taps_create(rq_image_taps **out, int64_t in, int64_t n, rq_image_filter f, bool antialias)
{
    rq_image_taps *t = rq_mem_zalloc(1, sizeof *t);
    if (!t)
        return RQ_NO_MEMORY;
    const double scale = (double)in / (double)n, stretch = antialias && scale > 1 ? scale : 1;
    t->room = f == RQ_IMAGE_NEAREST ? 1 : (int64_t)ceil(filters[f].support * stretch) * 2 + 1;
    t->first = rq_mem_alloc((size_t)n, sizeof *t->first);
    t->count = rq_mem_alloc((size_t)n, sizeof *t->count);
    t->weight = rq_mem_alloc((size_t)(n * t->room), sizeof *t->weight);
    double *w = rq_mem_alloc((size_t)t->room, sizeof *w);
    if (!t->first || !t->count || !t->weight || !w) {
        rq_mem_free(w);
        taps_destroy(t);
        return RQ_NO_MEMORY;
    }
    if (f == RQ_IMAGE_NEAREST)
        nearest(t, in, n);
    for (int64_t i = 0; f != RQ_IMAGE_NEAREST && i < n; i++)
        window(t, i, in, scale, stretch, f, w);
    rq_mem_free(w);
    *out = t;
    return RQ_OK;
}

static uint8_t to_byte(int32_t sum)
{
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

rq_status rq_image_scale_init(rq_image_scale *s, int64_t in_h, int64_t in_w, int64_t out_h, int64_t out_w,
                              rq_image_filter filter, bool antialias)
{
    *s = (rq_image_scale) { in_h, in_w, out_h, out_w, filter, NULL, NULL, NULL };
    if (in_w != out_w)
        RQ_TRY(taps_create(&s->across, in_w, out_w, filter, antialias));
    if (in_h != out_h)
        RQ_TRY(taps_create(&s->down, in_h, out_h, filter, antialias));
    s->wide = rq_mem_alloc((size_t)(in_h * out_w), 3);
    return s->wide ? RQ_OK : RQ_NO_MEMORY;
}

void rq_image_scale_release(rq_image_scale *s)
{
    taps_destroy(s->across);
    taps_destroy(s->down);
    rq_mem_free(s->wide);
    *s = (rq_image_scale) { 0 };
}

void rq_image_scale_row(rq_image_scale *s, int64_t y, const uint8_t *rgb)
{
    uint8_t *to = s->wide + y * s->out_w * 3;
    const rq_image_taps *t = s->across;
    if (!t) {
        memcpy(to, rgb, (size_t)s->out_w * 3);
        return;
    }
    for (int64_t x = 0; x < s->out_w; x++) {
        int32_t sum[3] = { 1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1) };
        const uint8_t *from = rgb + (int64_t)t->first[x] * 3;
        const int32_t *w = t->weight + x * t->room;
        for (int32_t k = 0; k < t->count[x]; k++)
            for (int c = 0; c < 3; c++)
                sum[c] += from[3 * k + c] * w[k];
        for (int c = 0; c < 3; c++)
            to[3 * x + c] = to_byte(sum[c]);
    }
}

void rq_image_scale_result(const rq_image_scale *s, int64_t y, uint8_t *rgb)
{
    const rq_image_taps *t = s->down;
    const int64_t stride = s->out_w * 3;
    if (!t) {
        memcpy(rgb, s->wide + y * stride, (size_t)stride);
        return;
    }
    const uint8_t *from = s->wide + t->first[y] * stride;
    const int32_t *w = t->weight + y * t->room;
    for (int64_t x = 0; x < stride; x++) {
        int32_t sum = 1 << (WEIGHT_BITS - 1);
        for (int32_t k = 0; k < t->count[y]; k++)
            sum += from[k * stride + x] * w[k];
        rgb[x] = to_byte(sum);
    }
}
