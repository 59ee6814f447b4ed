/* kernels/dwconv_f32.c — depthwise convolution on plain planes. The usual kernels read the input where it lies (kernels/dwplane.h). For others
 * kernels/planes lays out the input, and the whole output is one weighted sum of shifted rows (rq_kernels.taps_f32), long runs of multiply-adds whatever
 * kernel, stride and dilation are; the bits are the same. */
#include <string.h>

#include "kernels/planes.h"
#include "kernels/slots.h"

enum {
    MAX_TAPS = 256,
    MAX_PLANE = 1 << 24, /* elements of a padded plane */
    WIDE = 96,           /* rows at least this long are summed straight into the output */
    ALIGN = 16,          /* floats */
};

bool rq_dwconv_f32_fits(const rq_conv_geom *g)
{
    if (g->transposed || g->groups == 1 || g->groups != g->in_ch || g->kernel[0] * g->kernel[1] > MAX_TAPS ||
        g->kernel[0] * g->kernel[1] * g->kernel[2] > MAX_TAPS)
        return false;
    double size = 1;
    for (int d = 0; d < 3; d++)
        size *= (double)(rq_planes_reach(g, d) + g->stride[d]);
    return size < MAX_PLANE;
}

/* Is there a kernel for it that needs no copy of the input? */
static bool is_direct(const rq_conv_geom *g)
{
    return g->in[0] == 1 && g->out[0] == 1 && g->kernel[0] == 1 && g->pad_lo[0] == 0 && g->stride[2] <= 2 &&
           (g->dilation[2] == 1 || g->kernel[2] == 1) && g->kernel[1] <= RQ_DWPLANE_MAX &&
           g->kernel[2] <= RQ_DWPLANE_MAX;
}

static int slot_count(const rq_conv_geom *g, int threads)
{
    const int64_t planes = g->batch * g->in_ch;
    const int n = planes < threads ? (int)planes : threads;
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

static int64_t slot_floats(const rq_planes *l)
{
    /* the last run of a tap may pass the plane's end by less than a row: taps_f32 reads whole sums only */
    return (l->total + l->sums + 2 * ALIGN) / ALIGN * ALIGN;
}

size_t rq_dwconv_f32_scratch(const rq_conv_geom *g, int threads)
{
    rq_planes l;
    if (is_direct(g))
        return 0;
    rq_planes_init(&l, g);
    return (size_t)slot_floats(&l) * (size_t)slot_count(g, threads) * sizeof(float);
}

typedef struct job {
    const rq_kernels *k;
    const rq_conv_geom *g;
    rq_planes l;
    float *y;
    const float *x, *w, *bias;
    const rq_conv_after *after;
    float *scratch;
    rq_slots slots;
} job;

static void plane_item(void *arg, int64_t item)
{
    job *j = arg;
    const rq_conv_geom *g = j->g;
    const rq_planes *l = &j->l;
    const int64_t image = item / g->in_ch, c = item % g->in_ch, per = g->out_ch / g->groups;
    const int64_t taps = g->kernel[0] * g->kernel[1] * g->kernel[2];
    const int64_t in = g->in[0] * g->in[1] * g->in[2], out = g->out[0] * g->out[1] * g->out[2];
    const int slot = rq_slots_take(&j->slots);
    float *plane = j->scratch + slot * slot_floats(l), *sums = plane + (l->total + ALIGN - 1) / ALIGN * ALIGN;
    rq_planes_fill(l, g, plane, j->x + (image * g->in_ch + c) * in);
    for (int64_t m = 0; m < per; m++) {
        const int64_t oc = c * per + m;
        const float *w = j->w + oc * taps, bias = j->bias ? j->bias[oc] : 0;
        float *y = j->y + (image * g->out_ch + oc) * out;
        for (int64_t z = 0; z < g->out[0]; z++, y += g->out[1] * g->out[2]) {
            const float *at[MAX_TAPS];
            int64_t n = 0;
            for (int64_t tz = 0; tz < g->kernel[0]; tz++)
                for (int64_t tr = 0; tr < g->kernel[1]; tr++)
                    for (int64_t tc = 0; tc < g->kernel[2]; tc++)
                        at[n++] = plane + z * g->stride[0] * l->plane + rq_planes_tap(l, g, tz, tr, tc);
            if (g->out[2] < WIDE && g->out[1] > 1) { /* short rows: all of them as one, then picked out */
                j->k->taps_f32(sums, at, w, (int)taps, bias, (size_t)l->sums);
                for (int64_t r = 0; r < g->out[1]; r++)
                    memcpy(y + r * g->out[2], sums + r * l->pitch, (size_t)g->out[2] * sizeof *y);
                continue;
            }
            for (int64_t r = 0; r < g->out[1]; r++) {
                j->k->taps_f32(y + r * g->out[2], at, w, (int)taps, bias, (size_t)g->out[2]);
                for (int64_t i = 0; i < taps; i++)
                    at[i] += l->pitch;
            }
        }
        rq_conv_after_run(j->k, j->after, j->y, (image * g->out_ch + oc) * out, out);
    }
    rq_slots_give(&j->slots, slot);
}

static void direct_item(void *arg, int64_t item)
{
    const job *j = arg;
    const rq_conv_geom *g = j->g;
    const int64_t image = item / g->in_ch, c = item % g->in_ch, per = g->out_ch / g->groups;
    const int64_t taps = g->kernel[1] * g->kernel[2], in = g->in[1] * g->in[2], out = g->out[1] * g->out[2];
    const rq_dwplane p = { .in = { g->in[1], g->in[2] },
                           .out = { g->out[1], g->out[2] },
                           .pad = { g->pad_lo[1], g->pad_lo[2] },
                           .kernel = { (int)g->kernel[1], (int)g->kernel[2] },
                           .stride = { (int)g->stride[1], (int)g->stride[2] },
                           .dilation = (int)g->dilation[1] };
    for (int64_t oc = c * per; oc < (c + 1) * per; oc++) {
        const int64_t at = (image * g->out_ch + oc) * out;
        j->k->dwplane_f32(&p, j->y + at, j->x + (image * g->in_ch + c) * in, j->w + oc * taps,
                          j->bias ? j->bias[oc] : 0);
        rq_conv_after_run(j->k, j->after, j->y, at, out);
    }
}

void rq_dwconv_f32_run(const rq_kernels *k, const rq_conv_geom *g, float *y, const float *x, const float *w,
                       const float *bias, const rq_conv_after *after, void *scratch, int threads, rq_threads *t)
{
    job j = { .k = k, .g = g, .y = y, .x = x, .w = w, .bias = bias, .after = after, .scratch = scratch };
    if (is_direct(g)) {
        rq_threads_for(t, g->batch * g->in_ch, direct_item, &j);
        return;
    }
    rq_planes_init(&j.l, g);
    j.slots.n = slot_count(g, threads);
    rq_threads_for(t, g->batch * g->in_ch, plane_item, &j);
}
