/* kernels/dwconv_f32.c — depthwise convolution on plain planes.
 *
 * The input plane of a channel is copied once with its padding around it, and for a stride s with rows and columns sorted
 * by their position modulo s. Then every tap of the kernel reads the plane at a fixed distance, and the whole output is
 * one weighted sum of shifted rows (rq_kernels.taps_f32): long runs of multiply-adds whatever kernel, stride and
 * dilation are. */
#include <string.h>

#include "kernels/conv_f32.h"
#include "kernels/slots.h"

enum {
    MAX_TAPS = 256,
    MAX_PLANE = 1 << 24, /* elements of a padded plane */
    WIDE = 96,           /* rows at least this long are summed straight into the output */
    ALIGN = 16,          /* floats */
};

typedef struct layout {
    int64_t rows, pitch;  /* per phase of the last two axes: rows, and elements from row to row */
    int64_t column_phase; /* elements from one column phase to the next */
    int64_t row_phase;    /* and from one row phase to the next */
    int64_t plane;        /* and from one position of the first axis to the next */
    int64_t total, sums;  /* elements of the padded plane; of the sums, garbage between rows included */
} layout;

static int64_t reach(const rq_conv_geom *g, int d)
{
    return (g->out[d] - 1) * g->stride[d] + (g->kernel[d] - 1) * g->dilation[d] + 1;
}

static void lay_out(const rq_conv_geom *g, layout *l)
{
    l->pitch = (reach(g, 2) + g->stride[2] - 1) / g->stride[2];
    l->rows = (reach(g, 1) + g->stride[1] - 1) / g->stride[1];
    l->column_phase = l->rows * l->pitch;
    l->row_phase = l->column_phase * g->stride[2];
    l->plane = l->row_phase * g->stride[1];
    l->total = l->plane * reach(g, 0);
    l->sums = (g->out[1] - 1) * l->pitch + g->out[2];
}

bool rq_dwconv_f32_fits(const rq_conv_geom *g)
{
    if (g->transposed || g->groups == 1 || g->groups != g->in_ch || g->kernel[0] * g->kernel[1] > MAX_TAPS ||
        g->kernel[0] * g->kernel[1] * g->kernel[2] > MAX_TAPS)
        return false;
    double size = 1;
    for (int d = 0; d < 3; d++)
        size *= (double)(reach(g, d) + g->stride[d]);
    return size < MAX_PLANE;
}

static int slot_count(const rq_conv_geom *g, int threads)
{
    const int64_t planes = g->batch * g->in_ch;
    const int n = planes < threads ? (int)planes : threads;
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

static int64_t slot_floats(const layout *l)
{
    /* the last run of a tap may pass the plane's end by less than a row: taps_f32 reads whole sums only */
    return (l->total + l->sums + 2 * ALIGN) / ALIGN * ALIGN;
}

size_t rq_dwconv_f32_scratch(const rq_conv_geom *g, int threads)
{
    layout l;
    lay_out(g, &l);
    return (size_t)slot_floats(&l) * (size_t)slot_count(g, threads) * sizeof(float);
}

typedef struct job {
    const rq_kernels *k;
    const rq_conv_geom *g;
    layout l;
    float *y;
    const float *x, *w, *bias;
    float *scratch;
    rq_slots slots;
} job;

/* One plane of x, padded and sorted. */
static void fill(const job *j, float *to, const float *x)
{
    const rq_conv_geom *g = j->g;
    const layout *l = &j->l;
    const int64_t s = g->stride[2];
    memset(to, 0, (size_t)l->total * sizeof *to);
    for (int64_t z = 0; z < reach(g, 0); z++) {
        const int64_t iz = z - g->pad_lo[0];
        if (iz < 0 || iz >= g->in[0])
            continue;
        for (int64_t r = 0; r < reach(g, 1); r++) {
            const int64_t ir = r - g->pad_lo[1];
            if (ir < 0 || ir >= g->in[1])
                continue;
            const float *from = x + (iz * g->in[1] + ir) * g->in[2];
            float *row = to + z * l->plane + r % g->stride[1] * l->row_phase + r / g->stride[1] * l->pitch;
            const int64_t lo = g->pad_lo[2], end = reach(g, 2) < lo + g->in[2] ? reach(g, 2) : lo + g->in[2];
            if (s == 1) {
                if (end > lo)
                    memcpy(row + lo, from, (size_t)(end - lo) * sizeof *row);
                continue;
            }
            for (int64_t phase = 0; phase < s; phase++) {
                float *part = row + phase * l->column_phase;
                int64_t c = lo + ((phase - lo) % s + s) % s; /* first column of this phase at or behind lo */
                for (int64_t at = c / s; c < end; c += s, at++)
                    part[at] = from[c - lo];
            }
        }
    }
}

static void plane_item(void *arg, int64_t item)
{
    job *j = arg;
    const rq_conv_geom *g = j->g;
    const layout *l = &j->l;
    const int64_t image = item / g->in_ch, c = item % g->in_ch, per = g->out_ch / g->groups;
    const int64_t taps = g->kernel[0] * g->kernel[1] * g->kernel[2];
    const int64_t in = g->in[0] * g->in[1] * g->in[2], out = g->out[0] * g->out[1] * g->out[2];
    const int slot = rq_slots_take(&j->slots);
    float *plane = j->scratch + slot * slot_floats(l), *sums = plane + (l->total + ALIGN - 1) / ALIGN * ALIGN;
    fill(j, plane, j->x + (image * g->in_ch + c) * in);
    for (int64_t m = 0; m < per; m++) {
        const int64_t oc = c * per + m;
        const float *w = j->w + oc * taps, bias = j->bias ? j->bias[oc] : 0;
        float *y = j->y + (image * g->out_ch + oc) * out;
        for (int64_t z = 0; z < g->out[0]; z++, y += g->out[1] * g->out[2]) {
            const float *at[MAX_TAPS];
            int64_t n = 0;
            for (int64_t tz = 0; tz < g->kernel[0]; tz++)
                for (int64_t tr = 0; tr < g->kernel[1]; tr++)
                    for (int64_t tc = 0; tc < g->kernel[2]; tc++) {
                        const int64_t r = tr * g->dilation[1], q = tc * g->dilation[2];
                        at[n++] = plane + (z * g->stride[0] + tz * g->dilation[0]) * l->plane +
                                  r % g->stride[1] * l->row_phase + r / g->stride[1] * l->pitch +
                                  q % g->stride[2] * l->column_phase + q / g->stride[2];
                    }
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
    }
    rq_slots_give(&j->slots, slot);
}

void rq_dwconv_f32_run(const rq_kernels *k, const rq_conv_geom *g, float *y, const float *x, const float *w,
                       const float *bias, void *scratch, int threads, rq_threads *t)
{
    job j = { .k = k, .g = g, .y = y, .x = x, .w = w, .bias = bias, .scratch = scratch };
    lay_out(g, &j.l);
    j.slots.n = slot_count(g, threads);
    rq_threads_for(t, g->batch * g->in_ch, plane_item, &j);
}
