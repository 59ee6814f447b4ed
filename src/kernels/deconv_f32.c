/* kernels/deconv_f32.c — transposed convolution: a matrix product [out_ch/group * taps][in_ch/group] x [in_ch/group][columns]
 * whose rows are dealt out over the output.
 *
 * With kernel = stride and no pads each input element becomes a block of kernel size, blocks do not meet, and a band of
 * input rows is taken at a time, so that the product stays in cache. Otherwise rows of one output channel are added up, tap
 * after tap, and as many channels are taken at a time as keep the product in cache. (oneDNN's own has no fast form for
 * these layouts: a kernel of 4 with stride 2 takes it a hundred times as long.) */
#include <stdatomic.h>

#include "kernels/conv_f32.h"
#include "kernels/gemm_f32.h"
#include "kernels/slots.h"

enum { BAND = 32768, PRODUCT = 1 << 17 }; /* floats of a product */

bool rq_deconv_f32_fits(const rq_conv_geom *g)
{
    return g->transposed;
}

static bool is_blocks(const rq_conv_geom *g)
{
    bool fits = g->in[0] == 1 && g->kernel[0] == 1 && g->out[0] == 1;
    for (int d = 0; d < 3; d++)
        fits = fits && g->kernel[d] == g->stride[d] && g->dilation[d] == 1 && g->pad_lo[d] == 0 && g->pad_hi[d] == 0;
    return fits;
}

/* ---- blocks ---- */

static int64_t product_rows(const rq_conv_geom *g)
{
    return g->out_ch / g->groups * g->kernel[1] * g->kernel[2];
}

/* Input rows of a band. */
static int64_t band_rows(const rq_conv_geom *g)
{
    const int64_t n = BAND / (product_rows(g) * g->in[2]);
    return n < 1 ? 1 : n < g->in[1] ? n : g->in[1];
}

static int64_t band_count(const rq_conv_geom *g)
{
    return (g->in[1] + band_rows(g) - 1) / band_rows(g);
}

/* ---- any ---- */

static int64_t volume(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* Output channels of a product. */
static int64_t few_channels(const rq_conv_geom *g)
{
    const int64_t n = PRODUCT / (volume(g->kernel) * volume(g->in)), all = g->out_ch / g->groups;
    return n < 1 ? 1 : n < all ? n : all;
}

static int64_t channel_parts(const rq_conv_geom *g)
{
    return (g->out_ch / g->groups + few_channels(g) - 1) / few_channels(g);
}

/* ---- both ---- */

static int64_t item_count(const rq_conv_geom *g)
{
    return g->batch * g->groups * (is_blocks(g) ? band_count(g) : channel_parts(g));
}

static int slot_count(const rq_conv_geom *g, int threads)
{
    const int64_t items = item_count(g);
    const int n = items < threads ? (int)items : threads;
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

static int64_t slot_floats(const rq_conv_geom *g)
{
    const int64_t n =
        is_blocks(g) ? product_rows(g) * band_rows(g) * g->in[2] : few_channels(g) * volume(g->kernel) * volume(g->in);
    return (n + 15) / 16 * 16;
}

size_t rq_deconv_f32_scratch(const rq_conv_geom *g, int threads)
{
    return (size_t)slot_floats(g) * (size_t)slot_count(g, threads) * sizeof(float);
}

typedef struct job {
    const rq_kernels *k;
    const rq_conv_geom *g;
    float *y;
    const float *x, *w, *bias;
    float *scratch;
    rq_slots slots;
    atomic_int failed;
} job;

static void band_item(void *arg, int64_t item)
{
    job *j = arg;
    const rq_conv_geom *g = j->g;
    const int64_t bands = band_count(g), band = item % bands, group = item / bands % g->groups;
    const int64_t image = item / bands / g->groups, icg = g->in_ch / g->groups, ocg = g->out_ch / g->groups;
    const int64_t first = band * band_rows(g), left = g->in[1] - first,
                  rows = left < band_rows(g) ? left : band_rows(g);
    const int64_t m = product_rows(g), n = rows * g->in[2], area = g->in[1] * g->in[2];
    const int64_t kh = g->kernel[1], kw = g->kernel[2];
    const int slot = rq_slots_take(&j->slots);
    float *p = j->scratch + slot * slot_floats(g);
    const float *x = j->x + (image * g->in_ch + group * icg) * area + first * g->in[2];
    const rq_status s = rq_gemm_f32(j->k, p, j->w + group * icg * m, x, true, false, m, n, icg, 1, m, area, 0, n, NULL);
    if (s != RQ_OK)
        atomic_store(&j->failed, (int)s);
    for (int64_t c = 0; c < ocg && s == RQ_OK; c++) {
        const float bias = j->bias ? j->bias[group * ocg + c] : 0;
        float *y = j->y + (image * g->out_ch + group * ocg + c) * area * kh * kw + first * kh * g->out[2];
        for (int64_t r = 0; r < rows; r++)
            for (int64_t t = 0; t < kh; t++, y += g->out[2]) {
                const float *from = p + (c * kh + t) * kw * n + r * g->in[2];
                if (kw == 2) { /* by far the most common: both columns in one pass */
                    for (int64_t i = 0; i < g->in[2]; i++) {
                        y[2 * i] = from[i] + bias;
                        y[2 * i + 1] = from[n + i] + bias;
                    }
                    continue;
                }
                for (int64_t u = 0; u < kw; u++)
                    for (int64_t i = 0; i < g->in[2]; i++)
                        y[i * kw + u] = from[u * n + i] + bias;
            }
    }
    rq_slots_give(&j->slots, slot);
}

/* First and last + 1 input positions of axis d that tap t sends into the output. */
static void reach(const rq_conv_geom *g, int d, int64_t t, int64_t *from, int64_t *to)
{
    const int64_t s = g->stride[d], at = t * g->dilation[d] - g->pad_lo[d]; /* input i goes to i * s + at */
    *from = at < 0 ? (-at + s - 1) / s : 0;
    *to = at < g->out[d] ? (g->out[d] - 1 - at) / s + 1 : 0;
    *to = *to < g->in[d] ? *to : g->in[d];
}

/* y += the plane p of tap t, an output channel. */
static void add_tap(const rq_conv_geom *g, float *y, const float *p, const int64_t t[3])
{
    int64_t from[3], to[3], at[3];
    for (int d = 0; d < 3; d++) {
        reach(g, d, t[d], &from[d], &to[d]);
        at[d] = t[d] * g->dilation[d] - g->pad_lo[d];
    }
    const int64_t s = g->stride[2], n = to[2] - from[2];
    for (int64_t i0 = from[0]; i0 < to[0]; i0++)
        for (int64_t i1 = from[1]; i1 < to[1]; i1++) {
            const float *x = p + (i0 * g->in[1] + i1) * g->in[2] + from[2];
            float *row = y + ((i0 * g->stride[0] + at[0]) * g->out[1] + i1 * g->stride[1] + at[1]) * g->out[2] +
                         from[2] * s + at[2];
            if (s == 1)
                for (int64_t i = 0; i < n; i++)
                    row[i] += x[i];
            else if (s == 2) /* told apart so that it becomes vector code */
                for (int64_t i = 0; i < n; i++)
                    row[2 * i] += x[i];
            else
                for (int64_t i = 0; i < n; i++)
                    row[s * i] += x[i];
        }
}

/* Some output channels of one group of one image. */
static void channels_item(void *arg, int64_t item)
{
    job *j = arg;
    const rq_conv_geom *g = j->g;
    const int64_t parts = channel_parts(g), part = item % parts, group = item / parts % g->groups;
    const int64_t image = item / parts / g->groups, icg = g->in_ch / g->groups, ocg = g->out_ch / g->groups;
    const int64_t first = part * few_channels(g), left = ocg - first;
    const int64_t count = left < few_channels(g) ? left : few_channels(g), taps = volume(g->kernel), n = volume(g->in);
    const int slot = rq_slots_take(&j->slots);
    float *p = j->scratch + slot * slot_floats(g);
    const rq_status s =
        rq_gemm_f32(j->k, p, j->w + (group * icg * ocg + first) * taps, j->x + (image * g->in_ch + group * icg) * n,
                    true, false, count * taps, n, icg, 1, ocg * taps, n, 0, n, NULL);
    if (s != RQ_OK)
        atomic_store(&j->failed, (int)s);
    for (int64_t c = 0; c < count && s == RQ_OK; c++) {
        const int64_t channel = group * ocg + first + c, plane = volume(g->out);
        float *y = j->y + (image * g->out_ch + channel) * plane;
        for (int64_t i = 0; i < plane; i++)
            y[i] = j->bias ? j->bias[channel] : 0;
        for (int64_t t = 0; t < taps; t++)
            add_tap(g, y, p + (c * taps + t) * n,
                    (const int64_t[]) { t / (g->kernel[1] * g->kernel[2]), t / g->kernel[2] % g->kernel[1],
                                        t % g->kernel[2] });
    }
    rq_slots_give(&j->slots, slot);
}

rq_status rq_deconv_f32_run(const rq_kernels *k, const rq_conv_geom *g, float *y, const float *x, const float *w,
                            const float *bias, void *scratch, int threads, rq_threads *t)
{
    job j = { .k = k, .g = g, .y = y, .x = x, .w = w, .bias = bias, .scratch = scratch };
    j.slots.n = slot_count(g, threads);
    rq_threads_for(t, item_count(g), is_blocks(g) ? band_item : channels_item, &j);
    return (rq_status)atomic_load(&j.failed);
}
