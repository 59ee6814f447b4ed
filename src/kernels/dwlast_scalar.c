/* kernels/dwlast_scalar.c — the definition of depthwise products over channels-last codes. Its blocks are single channels. */
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

#include <string.h>

/* w * x for tap r of a column, whose weights are pairs of s16. */
static uint32_t product(const rq_dwlast_row *g, int64_t c, int groups, int group, int r, uint8_t x)
{
    int16_t w;
    memcpy(&w, (const char *)g->w + (c * groups + group) * 4 + (int64_t)2 * (r % 2), sizeof w);
    return (uint32_t)(w * x);
}

static void put(const rq_dwlast_row *g, int64_t o, int64_t c, uint32_t sum)
{
    int32_t add;
    float m;
    if (!g->y) {
        g->sums[o * g->ld + c] = (int32_t)sum;
        return;
    }
    memcpy(&add, (const char *)g->finish + c * 8, sizeof add);
    memcpy(&m, (const char *)g->finish + c * 8 + 4, sizeof m);
    g->y[o * g->ld + c] = (uint8_t)rq_quantize_acc((int32_t)(sum + (uint32_t)add), m, g->zp, g->lo, g->hi);
}

static void taps(const rq_dwlast_row *g)
{
    const int groups = (g->height + 1) / 2;
    for (int64_t o = 0; o < g->n; o++)
        for (int64_t c = 0; c < g->channels; c++) {
            uint32_t sum = 0;
            for (int r = 0; r < g->height; r++)
                sum += product(g, c, groups, r / 2, r, g->x[o * g->height + r][c]);
            put(g, o, c, sum);
        }
}

static void window(const rq_dwlast_row *g, int size, int stride)
{
    const int per_column = (size + 1) / 2, groups = per_column * size;
    for (int64_t o = 0; o < g->n; o++)
        for (int64_t c = 0; c < g->channels; c++) {
            uint32_t sum = 0;
            for (int s = 0; s < size; s++) {
                const int64_t column = o * stride + s;
                const bool inside = column >= g->first && column < g->last;
                for (int r = 0; r < size; r++) {
                    const uint8_t *x = inside && g->x[r] ? g->x[r] + (column - g->first) * g->pitch : g->zero;
                    sum += product(g, c, groups, s * per_column + r / 2, r, x[c]);
                }
            }
            put(g, o, c, sum);
        }
}

const rq_dwlast_isa rq_dwlast_scalar = {
    .name = "1x2", .kr = 2, .channels = 1, .least = 1, .vectors = 1, .taps = taps, .window = window
};
