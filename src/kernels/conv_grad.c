/* kernels/conv_grad.c — gradients of convolutions: oneDNN's where the table allows it and it has a kernel, else our own.
 *
 * A convolution relates s [batch][in_ch][in], w [out_ch][in_ch/groups][taps] and t [batch][out_ch][out]; a transposed one is the same
 * triple with input and output exchanged (s is what it makes), so that three small steps serve both:
 *   columns c[i][tap][o] of s: what tap sees at output position o      (s is read; or, the other way, added to)
 *   t += w c      dw += t c^T      c = w^T t
 * One image after the other, by kernels/gemm_f32: each element of dw is one chain over images and positions. Where a group has a single
 * channel on both sides (depthwise) there is no matrix, and taps are summed as they are; of the weights in long runs (kernels/dwconv_grad). */
#include "kernels/conv_grad.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/dwconv_grad.h"
#include "kernels/float_dnnl.h"

struct rq_conv_grad {
    const rq_kernels *k;
    rq_conv_geom g; /* of the convolution, never transposed */
    bool transposed;
    unsigned want, have; /* have: what the library makes */
    rq_float_dnnl_grad *library;
    int64_t in_area, out_area, taps;
    int threads;
};

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

static bool by_taps(const rq_conv_grad *c)
{
    return c->g.groups == c->g.in_ch && c->g.groups == c->g.out_ch;
}

const char *rq_conv_grad_how(const rq_conv_grad *c, unsigned bit)
{
    return c->have & bit ? "library" : by_taps(c) ? "taps" : "columns";
}

rq_status rq_conv_grad_create(rq_conv_grad **out, const rq_kernels *k, const rq_conv_geom *geom, unsigned want,
                              int threads)
{
    rq_conv_grad *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return RQ_NO_MEMORY;
    c->k = k;
    c->want = want;
    c->transposed = geom->transposed;
    c->threads = threads;
    rq_conv_geom g = *geom;
    rq_conv_geom_squeeze(&g);
    rq_status s = k->library ? rq_float_dnnl_grad_create(&c->library, &c->have, &g, want, threads) : RQ_UNSUPPORTED;
    if (s != RQ_OK && s != RQ_UNSUPPORTED) {
        rq_mem_free(c);
        return s;
    }
    c->g = g;
    if (g.transposed) {
        c->g.transposed = false;
        c->g.in_ch = g.out_ch;
        c->g.out_ch = g.in_ch;
        memcpy(c->g.in, g.out, sizeof g.in);
        memcpy(c->g.out, g.in, sizeof g.out);
    }
    c->in_area = area(c->g.in);
    c->out_area = area(c->g.out);
    c->taps = area(c->g.kernel);
    *out = c;
    return RQ_OK;
}

void rq_conv_grad_destroy(rq_conv_grad *c)
{
    if (!c)
        return;
    rq_float_dnnl_grad_destroy(c->library);
    rq_mem_free(c);
}

/* The gradient of the weights as products of runs (kernels/dwconv_grad). */
static bool weights_in_runs(const rq_conv_grad *c)
{
    return (c->want & ~c->have & RQ_CONV_GRAD_W) && rq_dwconv_grad_fits(&c->g);
}

size_t rq_conv_grad_scratch(const rq_conv_grad *c)
{
    const size_t library = c->library ? rq_float_dnnl_grad_scratch(c->library) : 0;
    const bool columns = (c->want & ~c->have) && !by_taps(c);
    const size_t own = columns              ? (size_t)(c->g.in_ch / c->g.groups * c->taps * c->out_area) * sizeof(float)
                       : weights_in_runs(c) ? rq_dwconv_grad_scratch(&c->g, c->threads)
                                            : 0;
    return library > own ? library : own;
}

typedef struct grad_job {
    const rq_conv_grad *c;
    float *s, *w, *t; /* which of them is written depends on the step */
    float *columns;
} grad_job;

/* First and one past the last output position along axis d whose tap k is inside. */
static void inside(const rq_conv_geom *g, int d, int64_t k, int64_t *from, int64_t *to)
{
    const int64_t first = k * g->dilation[d] - g->pad_lo[d], step = g->stride[d]; /* input of position 0 */
    *from = first >= 0 ? 0 : (step - 1 - first) / step;
    *to = first >= g->in[d] ? 0 : (g->in[d] - 1 - first) / step + 1;
    *to = *to < g->out[d] ? *to : g->out[d];
    *from = *from < *to ? *from : *to;
}

/* ---- columns ---- */

/* One channel of an image: s to columns, or columns added to s. */
static void columns_channel(const grad_job *j, int64_t channel, bool back)
{
    const rq_conv_geom *g = &j->c->g;
    float *s = j->s + channel * j->c->in_area, *c = j->columns + channel * j->c->taps * j->c->out_area;
    int64_t k[3], from[3], to[3];
    if (back)
        memset(s, 0, (size_t)j->c->in_area * sizeof *s);
    for (k[0] = 0; k[0] < g->kernel[0]; k[0]++)
        for (k[1] = 0; k[1] < g->kernel[1]; k[1]++)
            for (k[2] = 0; k[2] < g->kernel[2]; k[2]++, c += j->c->out_area) {
                for (int d = 0; d < 3; d++)
                    inside(g, d, k[d], &from[d], &to[d]);
                if (!back)
                    memset(c, 0, (size_t)j->c->out_area * sizeof *c);
                for (int64_t z = from[0]; z < to[0]; z++)
                    for (int64_t y = from[1]; y < to[1]; y++) {
                        const int64_t iz = z * g->stride[0] - g->pad_lo[0] + k[0] * g->dilation[0];
                        const int64_t iy = y * g->stride[1] - g->pad_lo[1] + k[1] * g->dilation[1];
                        const int64_t ix = k[2] * g->dilation[2] - g->pad_lo[2];
                        float *row = c + (z * g->out[1] + y) * g->out[2];
                        float *in = s + (iz * g->in[1] + iy) * g->in[2];
                        if (back)
                            for (int64_t x = from[2]; x < to[2]; x++)
                                in[ix + x * g->stride[2]] += row[x];
                        else
                            for (int64_t x = from[2]; x < to[2]; x++)
                                row[x] = in[ix + x * g->stride[2]];
                    }
            }
}

static void to_columns(void *arg, int64_t channel)
{
    columns_channel(arg, channel, false);
}

static void from_columns(void *arg, int64_t channel)
{
    columns_channel(arg, channel, true);
}

/* The gradient of s, t or w, images and groups in turn; the work of each is spread over the pool. */
static rq_status run_columns(const rq_conv_grad *c, char out, float *s, float *w, float *t, float *columns,
                             rq_threads *threads)
{
    const rq_conv_geom *g = &c->g;
    const int64_t icg = g->in_ch / g->groups, ocg = g->out_ch / g->groups, depth = icg * c->taps, n = c->out_area;
    grad_job j = { .c = c, .columns = columns };
    for (int64_t image = 0; image < g->batch; image++)
        for (int64_t q = 0; q < g->groups; q++) {
            float *tq = t + (image * g->out_ch + q * ocg) * n, *wq = w + q * ocg * depth;
            j.s = s + (image * g->in_ch + q * icg) * c->in_area;
            if (out != 's')
                rq_threads_for(threads, icg, to_columns, &j);
            switch (out) {
            case 's':
                RQ_TRY(rq_gemm_f32(c->k, columns, wq, tq, true, false, depth, n, ocg, 1, depth, n, 0, n, threads));
                rq_threads_for(threads, icg, from_columns, &j);
                break;
            case 't':
                RQ_TRY(rq_gemm_f32(c->k, tq, wq, columns, false, false, ocg, n, depth, 1, depth, n, 0, n, threads));
                break;
            default:
                RQ_TRY(
                    rq_gemm_f32(c->k, wq, tq, columns, false, true, ocg, depth, n, 1, n, n, image > 0, depth, threads));
            }
        }
    return RQ_OK;
}

/* ---- taps ---- */

/* One channel, all images. */
static void taps_channel(const grad_job *j, int64_t channel, char out)
{
    const rq_conv_geom *g = &j->c->g;
    const int64_t in_area = j->c->in_area, out_area = j->c->out_area;
    int64_t k[3], from[3], to[3], tap = 0;
    if (out != 'w')
        for (int64_t i = 0; i < g->batch; i++) {
            float *zero =
                out == 's' ? j->s + (i * g->in_ch + channel) * in_area : j->t + (i * g->out_ch + channel) * out_area;
            memset(zero, 0, (size_t)(out == 's' ? in_area : out_area) * sizeof *zero);
        }
    for (k[0] = 0; k[0] < g->kernel[0]; k[0]++)
        for (k[1] = 0; k[1] < g->kernel[1]; k[1]++)
            for (k[2] = 0; k[2] < g->kernel[2]; k[2]++, tap++) {
                float *w = j->w + channel * j->c->taps + tap;
                double sum = 0;
                for (int d = 0; d < 3; d++)
                    inside(g, d, k[d], &from[d], &to[d]);
                const int64_t step = g->stride[2], ix = k[2] * g->dilation[2] - g->pad_lo[2];
                for (int64_t i = 0; i < g->batch; i++)
                    for (int64_t z = from[0]; z < to[0]; z++)
                        for (int64_t y = from[1]; y < to[1]; y++) {
                            const int64_t iz = z * g->stride[0] - g->pad_lo[0] + k[0] * g->dilation[0];
                            const int64_t iy = y * g->stride[1] - g->pad_lo[1] + k[1] * g->dilation[1];
                            float *s = j->s + (i * g->in_ch + channel) * in_area + (iz * g->in[1] + iy) * g->in[2] + ix;
                            float *t = j->t + (i * g->out_ch + channel) * out_area + (z * g->out[1] + y) * g->out[2];
                            if (out == 's')
                                for (int64_t x = from[2]; x < to[2]; x++)
                                    s[x * step] += *w * t[x];
                            else if (out == 't')
                                for (int64_t x = from[2]; x < to[2]; x++)
                                    t[x] += *w * s[x * step];
                            else
                                for (int64_t x = from[2]; x < to[2]; x++)
                                    sum += (double)s[x * step] * (double)t[x];
                        }
                if (out == 'w')
                    *w = (float)sum;
            }
}

static void taps_s(void *arg, int64_t channel)
{
    taps_channel(arg, channel, 's');
}

static void taps_t(void *arg, int64_t channel)
{
    taps_channel(arg, channel, 't');
}

static void taps_w(void *arg, int64_t channel)
{
    taps_channel(arg, channel, 'w');
}

static rq_status run_taps(const rq_conv_grad *c, char out, float *s, float *w, float *t, void *scratch,
                          rq_threads *threads)
{
    grad_job j = { .c = c, .s = s, .w = w, .t = t };
    if (out == 'w' && weights_in_runs(c))
        rq_dwconv_grad_run(c->k, &c->g, w, t, s, scratch, c->threads, threads);
    else
        rq_threads_for(threads, c->g.in_ch, out == 's' ? taps_s : out == 't' ? taps_t : taps_w, &j);
    return RQ_OK;
}

/* ---- bias ---- */

typedef struct bias_job {
    const rq_conv_grad *c;
    float *db;
    const float *dy;
    int64_t channels, area;
} bias_job;

static void bias_item(void *arg, int64_t channel)
{
    const bias_job *j = arg;
    double sum = 0;
    for (int64_t i = 0; i < j->c->g.batch; i++)
        sum += (double)j->c->k->sum_f32(j->dy + (i * j->channels + channel) * j->area, (size_t)j->area);
    j->db[channel] = (float)sum;
}

rq_status rq_conv_grad_run(const rq_conv_grad *c, float *dx, float *dw, float *db, const float *dy, const float *x,
                           const float *w, void *scratch, rq_threads *t)
{
    if (db) {
        bias_job j = { .c = c, .db = db, .dy = dy };
        j.channels = c->transposed ? c->g.in_ch : c->g.out_ch;
        j.area = c->transposed ? c->in_area : c->out_area;
        rq_threads_for(t, j.channels, bias_item, &j);
    }
    if (c->library)
        RQ_TRY(rq_float_dnnl_grad_run(c->library, dx, dw, dy, x, w, scratch, t));
    for (unsigned bit = RQ_CONV_GRAD_X; bit <= RQ_CONV_GRAD_W; bit <<= 1) {
        float *to = bit == RQ_CONV_GRAD_X ? dx : dw;
        if (!to || (c->have & bit))
            continue;
        const char out = bit == RQ_CONV_GRAD_W ? 'w' : c->transposed ? 't' : 's';
        float *const given = bit == RQ_CONV_GRAD_W ? (float *)x : dx; /* what lies on the side of x */
        float *s = c->transposed ? (float *)dy : given, *tt = c->transposed ? given : (float *)dy;
        float *ww = bit == RQ_CONV_GRAD_W ? dw : (float *)w;
        RQ_TRY(by_taps(c) ? run_taps(c, out, s, ww, tt, scratch, t) : run_columns(c, out, s, ww, tt, scratch, t));
    }
    return RQ_OK;
}
