/* kernels/dwconv_grad.c — see dwconv_grad.h. As in the forward direction (kernels/dwconv_f32.c) the input is laid out so that a tap sees all
 * output rows as one run (kernels/planes); dy is spread to the same pitch, with zeros between its rows. What a tap gets is then the product of
 * two runs. A channel is one item of work. */
#include "kernels/dwconv_grad.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/planes.h"
#include "kernels/slots.h"

bool rq_dwconv_grad_fits(const rq_conv_geom *g)
{
    return g->groups == g->out_ch && g->pad_lo[0] >= 0 && g->pad_lo[1] >= 0 && g->pad_lo[2] >= 0 &&
           rq_dwconv_f32_fits(g);
}

static int64_t taps_of(const rq_conv_geom *g)
{
    return g->kernel[0] * g->kernel[1] * g->kernel[2];
}

static int slot_count(const rq_conv_geom *g, int threads)
{
    const int n = g->in_ch < threads ? (int)g->in_ch : threads;
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

/* A slot: sums of the taps, the plane, dy spread. */
static size_t sums_bytes(const rq_conv_geom *g)
{
    return rq_mem_round((size_t)taps_of(g) * sizeof(rq_bn_sums));
}

static size_t plane_bytes(const rq_planes *l)
{
    return rq_mem_round((size_t)l->total * sizeof(float));
}

static size_t slot_bytes(const rq_conv_geom *g, const rq_planes *l)
{
    return sums_bytes(g) + plane_bytes(l) + rq_mem_round((size_t)l->sums * sizeof(float));
}

size_t rq_dwconv_grad_scratch(const rq_conv_geom *g, int threads)
{
    rq_planes l;
    rq_planes_init(&l, g);
    return slot_bytes(g, &l) * (size_t)slot_count(g, threads);
}

typedef struct job {
    const rq_kernels *k;
    const rq_conv_geom *g;
    rq_planes l;
    float *dw;
    const float *dy, *x;
    char *scratch;
    rq_slots slots;
} job;

/* One output plane: what each tap gets of it. */
static void add_plane(const job *j, rq_bn_sums *sums, const float *dy, const float *plane)
{
    const int64_t *kernel = j->g->kernel;
    for (int64_t z = 0; z < kernel[0]; z++)
        for (int64_t r = 0; r < kernel[1]; r++)
            for (int64_t c = 0; c < kernel[2]; c++)
                j->k->bn.products(sums++, dy, plane + rq_planes_tap(&j->l, j->g, z, r, c), (size_t)j->l.sums, 0, 0);
}

static void channel_item(void *arg, int64_t channel)
{
    job *j = arg;
    const rq_conv_geom *g = j->g;
    const rq_planes *l = &j->l;
    const int64_t in = g->in[0] * g->in[1] * g->in[2], area = g->out[1] * g->out[2], taps = taps_of(g);
    const int slot = rq_slots_take(&j->slots);
    char *at = j->scratch + slot_bytes(g, l) * (size_t)slot;
    rq_bn_sums *sums = (rq_bn_sums *)at;
    float *plane = (float *)(at + sums_bytes(g)), *spread = (float *)(at + sums_bytes(g) + plane_bytes(l));
    memset(sums, 0, (size_t)taps * sizeof *sums);
    memset(spread, 0, (size_t)l->sums * sizeof *spread);
    for (int64_t image = 0; image < g->batch; image++) {
        const float *dy = j->dy + (image * g->out_ch + channel) * g->out[0] * area;
        rq_planes_fill(l, g, plane, j->x + (image * g->in_ch + channel) * in);
        for (int64_t z = 0; z < g->out[0]; z++, dy += area) {
            for (int64_t r = 0; r < g->out[1]; r++)
                memcpy(spread + r * l->pitch, dy + r * g->out[2], (size_t)g->out[2] * sizeof *spread);
            add_plane(j, sums, spread, plane + z * g->stride[0] * l->plane);
        }
    }
    for (int64_t i = 0; i < taps; i++)
        j->dw[channel * taps + i] = (float)rq_bn_join(sums[i].b);
    rq_slots_give(&j->slots, slot);
}

void rq_dwconv_grad_run(const rq_kernels *k, const rq_conv_geom *g, float *dw, const float *dy, const float *x,
                        void *scratch, int threads, rq_threads *t)
{
    job j = { .k = k, .g = g, .dw = dw, .dy = dy, .x = x, .scratch = scratch };
    rq_planes_init(&j.l, g);
    j.slots.n = slot_count(g, threads);
    rq_threads_for(t, g->in_ch, channel_item, &j);
}
