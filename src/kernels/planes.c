/* kernels/planes.c — see planes.h. */
#include "kernels/planes.h"

#include <string.h>

int64_t rq_planes_reach(const rq_conv_geom *g, int d)
{
    return (g->out[d] - 1) * g->stride[d] + (g->kernel[d] - 1) * g->dilation[d] + 1;
}

/* Positions modulo the stride that taps of axis d may have: the first so many. */
static int64_t phases_of(const rq_conv_geom *g, int d)
{
    const int64_t span = (g->kernel[d] - 1) * g->dilation[d] + 1;
    return span < g->stride[d] ? span : g->stride[d];
}

void rq_planes_init(rq_planes *l, const rq_conv_geom *g)
{
    l->pitch = (rq_planes_reach(g, 2) + g->stride[2] - 1) / g->stride[2];
    l->rows = (rq_planes_reach(g, 1) + g->stride[1] - 1) / g->stride[1];
    l->phases[0] = phases_of(g, 1);
    l->phases[1] = phases_of(g, 2);
    l->column_phase = l->rows * l->pitch;
    l->row_phase = l->column_phase * l->phases[1];
    l->plane = l->row_phase * l->phases[0];
    l->total = l->plane * rq_planes_reach(g, 0);
    l->sums = (g->out[1] - 1) * l->pitch + g->out[2];
}

void rq_planes_fill(const rq_planes *l, const rq_conv_geom *g, float *to, const float *x)
{
    const int64_t s = g->stride[2];
    memset(to, 0, (size_t)l->total * sizeof *to);
    for (int64_t z = 0; z < rq_planes_reach(g, 0); z++) {
        const int64_t iz = z - g->pad_lo[0];
        if (iz < 0 || iz >= g->in[0])
            continue;
        for (int64_t r = 0; r < rq_planes_reach(g, 1); r++) {
            const int64_t ir = r - g->pad_lo[1];
            if (ir < 0 || ir >= g->in[1] || r % g->stride[1] >= l->phases[0])
                continue;
            const float *from = x + (iz * g->in[1] + ir) * g->in[2];
            float *row = to + z * l->plane + r % g->stride[1] * l->row_phase + r / g->stride[1] * l->pitch;
            const int64_t lo = g->pad_lo[2],
                          end = rq_planes_reach(g, 2) < lo + g->in[2] ? rq_planes_reach(g, 2) : lo + g->in[2];
            if (s == 1) {
                if (end > lo)
                    memcpy(row + lo, from, (size_t)(end - lo) * sizeof *row);
                continue;
            }
            for (int64_t phase = 0; phase < l->phases[1]; phase++) {
                float *part = row + phase * l->column_phase;
                int64_t c = lo + ((phase - lo) % s + s) % s; /* first column of this phase at or behind lo */
                for (int64_t at = c / s; c < end; c += s, at++)
                    part[at] = from[c - lo];
            }
        }
    }
}

int64_t rq_planes_tap(const rq_planes *l, const rq_conv_geom *g, int64_t z, int64_t row, int64_t column)
{
    const int64_t r = row * g->dilation[1], q = column * g->dilation[2];
    return z * g->dilation[0] * l->plane + r % g->stride[1] * l->row_phase + r / g->stride[1] * l->pitch +
           q % g->stride[2] * l->column_phase + q / g->stride[2];
}
