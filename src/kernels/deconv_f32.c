/* kernels/deconv_f32.c — transposed convolution with kernel = stride and no pads: each input element becomes a block of
 * kernel size, blocks do not meet. So it is a matrix product [out_ch/group * taps][in_ch/group] x [in_ch/group][columns]
 * whose rows are dealt out over the output; a band of input rows at a time, so that the product stays in cache. */
#include <stdatomic.h>

#include "kernels/conv_f32.h"
#include "kernels/gemm_f32.h"
#include "kernels/slots.h"

enum { BAND = 32768 }; /* floats of a product */

bool rq_deconv_f32_fits(const rq_conv_geom *g)
{
    bool fits = g->transposed && g->in[0] == 1 && g->kernel[0] == 1 && g->out[0] == 1;
    for (int d = 0; d < 3; d++)
        fits = fits && g->kernel[d] == g->stride[d] && g->dilation[d] == 1 && g->pad_lo[d] == 0 && g->pad_hi[d] == 0;
    return fits;
}

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

static int slot_count(const rq_conv_geom *g, int threads)
{
    const int64_t items = g->batch * g->groups * band_count(g);
    const int n = items < threads ? (int)items : threads;
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

static int64_t slot_floats(const rq_conv_geom *g)
{
    return (product_rows(g) * band_rows(g) * g->in[2] + 15) / 16 * 16;
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

rq_status rq_deconv_f32_run(const rq_kernels *k, const rq_conv_geom *g, float *y, const float *x, const float *w,
                            const float *bias, void *scratch, int threads, rq_threads *t)
{
    job j = { .k = k, .g = g, .y = y, .x = x, .w = w, .bias = bias, .scratch = scratch };
    j.slots.n = slot_count(g, threads);
    rq_threads_for(t, g->batch * g->groups * band_count(g), band_item, &j);
    return (rq_status)atomic_load(&j.failed);
}
