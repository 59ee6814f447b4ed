/* kernels/conv_f32_turned.c — float convolution with vectors along output channels: where the pixels of an image do not fill vectors (7 x 7 of them are
 * three vectors and one), output channels often do. Constant weights stand in panels of columns (rq_gemm_f32_pack_columns), the rows of a tile are
 * pixels that lie one after the other in the input, and what a block of pixels has summed is turned on its way to the output. Each output is the same chain. */
#include <string.h>

#include "kernels/conv_f32_priv.h"

enum {
    DEPTH =
        128, /* of a panel at a time: that much of it fits into a first-level cache, beside the planes of the taps */
    PIXELS = 96, /* the same beside the pixels of a block, one for each row of the panel */
    LINE = 16,   /* floats of a cache line */
};

/* What n places in vectors of `lanes` cost. */
static double padded(int64_t n, int lanes)
{
    const int64_t places = (n + lanes - 1) / lanes * lanes;
    return (double)places;
}

bool rq_conv_f32_turn(rq_conv_f32 *c)
{
    const rq_conv_geom *g = &c->g;
    const int lanes = c->k->gemm_f32.lanes;
    const int64_t channels = g->out_ch / g->groups, pixels = rq_conv_area(g->out);
    const bool one = c->how == RQ_CONV_PIXELS;
    const double straight = one ? padded(pixels, lanes) : (double)g->out[0] * padded(c->planes.sums, lanes);
    if (!c->packed || (!one && g->out[2] > RQ_GEMM_F32_ROWS) || pixels > 1 << 20 ||
        straight * (double)channels < 1.05 * padded(channels, lanes) * (double)pixels)
        return false;
    c->turned = true;
    c->lines = one ? 1 : g->out[0] * g->out[1];
    c->width = one ? pixels : g->out[2];
    const int64_t lines = RQ_GEMM_F32_ROWS / c->width; /* of a block, where that is not part of one */
    c->blocks = one ? (pixels + RQ_GEMM_F32_ROWS - 1) / RQ_GEMM_F32_ROWS : (c->lines + lines - 1) / lines;
    c->panels = rq_gemm_f32_panels(c->k, channels);
    const double macs = (double)channels * (double)pixels * (double)c->depth / (double)(c->panels * c->blocks);
    c->units = macs >= RQ_CONV_F32_ITEM ? 1 : (int64_t)(RQ_CONV_F32_ITEM / macs);
    return true;
}

int64_t rq_conv_f32_turned_items(const rq_conv_f32 *c, int64_t images)
{
    return (c->g.groups * c->panels * images * c->blocks + c->units - 1) / c->units;
}

/* A panel of output channels at a block of pixels. */
typedef struct unit {
    const float *x, *w;
    int32_t a_off[DEPTH], b_off[DEPTH];
    int64_t line0, line1, at0, at1; /* lines of the block, and the part of each */
    int ld;
    float *y;
} unit;

/* What is added to outputs will be wanted soon, as will they: rows far apart, which no processor fetches ahead by itself. */
static void fetch(const rq_conv_job *j, const float *y, int columns, int n)
{
    const int64_t pixels = rq_conv_area(j->c->g.out);
    const float *add = j->after->add + (y - j->y0);
    for (int i = 0; i < columns; i++)
        for (int q = 0; q < n; q += LINE) {
            __builtin_prefetch(y + i * pixels + q, 1);
            __builtin_prefetch(add + i * pixels + q);
        }
}

/* acc [pixels][ld] goes on over the whole depth. */
static void sum(const rq_conv_job *j, const unit *u, float *acc, int columns, int pixels)
{
    const rq_conv_f32 *c = j->c;
    const rq_conv_geom *g = &c->g;
    const rq_gemm_f32_isa *isa = &c->k->gemm_f32;
    const int lanes = isa->lanes, n = (int)(u->at1 - u->at0), tiles = (n + isa->rows - 1) / isa->rows;
    const bool one = c->how == RQ_CONV_PIXELS;
    const int most = one ? PIXELS : DEPTH;
    for (int64_t k0 = 0; k0 < c->depth; k0 += most) {
        const int depth = c->depth - k0 < most ? (int)(c->depth - k0) : most;
        const int32_t *off = one ? u->a_off : c->off + k0;
        float *to = acc;
        if (k0 + depth == c->depth && j->after && j->after->add)
            fetch(j, u->y, columns, pixels);
        for (int64_t line = u->line0; line < u->line1; line++) {
            const float *x =
                one ? u->x + k0 * c->width
                    : u->x + line / g->out[1] * g->stride[0] * c->planes.plane + line % g->out[1] * c->planes.pitch;
            for (int i = 0, t = 0; t < tiles; t++) {
                const int take = (n - i) / (tiles - t);
                isa->tile(to, (size_t)u->ld, NULL, x + u->at0 + i, 1, off, u->w + k0 * u->ld, u->b_off, (size_t)depth,
                          take, u->ld / lanes);
                to += (int64_t)take * u->ld;
                i += take;
            }
        }
    }
}

/* acc [n][ld], turned, to y, rows of which are a whole image apart; and what follows. */
static void finish(const rq_conv_job *j, float *y, float *acc, int ld, int columns, int n)
{
    const rq_gemm_f32_isa *isa = &j->c->k->gemm_f32;
    const int64_t pixels = rq_conv_area(j->c->g.out);
    const rq_conv_after *a = j->after;
    if (a && a->add) {
        _Alignas(64) float turned[RQ_GEMM_F32_ROWS * 48];
        isa->transpose(turned, n, acc, ld, columns, n);
        isa->finish(turned, n, turned, n, NULL, a->add + (y - j->y0), pixels, columns, n);
        if (a->f)
            a->f(turned, turned, (size_t)(columns * n), a->p, a->q);
        isa->copy(y, pixels, turned, n, columns, n);
        return;
    }
    if (a && a->f)
        a->f(acc, acc, (size_t)(n * ld), a->p, a->q);
    isa->transpose(y, pixels, acc, ld, columns, n);
}

static void unit_run(const rq_conv_job *j, int64_t at)
{
    const rq_conv_f32 *c = j->c;
    const rq_conv_geom *g = &c->g;
    const int64_t block = at % c->blocks, image = at / c->blocks % j->images;
    const int64_t panel = at / c->blocks / j->images % c->panels, group = at / c->blocks / j->images / c->panels;
    const int64_t channels = g->out_ch / g->groups, icg = g->in_ch / g->groups, pixels = rq_conv_area(g->out);
    const int64_t j0 = rq_gemm_f32_panel_at(c->k, channels, panel),
                  j1 = rq_gemm_f32_panel_at(c->k, channels, panel + 1);
    const int columns = (int)((j1 < channels ? j1 : channels) - j0);
    const bool one = c->how == RQ_CONV_PIXELS;
    unit u = { .w = j->w + group * rq_gemm_f32_packed_columns(c->k, channels, c->depth) + j0 * c->depth,
               .ld = (int)(j1 - j0),
               .line0 = one ? 0 : c->lines * block / c->blocks,
               .line1 = one ? 1 : c->lines * (block + 1) / c->blocks,
               .at0 = one ? c->width * block / c->blocks : 0,
               .at1 = one ? c->width * (block + 1) / c->blocks : c->width };
    u.x =
        one ? j->x + (image * g->in_ch + group * icg) * c->width : j->laid + (image * g->in_ch + group * icg) * c->step;
    for (int k = 0; k < DEPTH; k++) {
        u.a_off[k] = (int32_t)(k * c->width);
        u.b_off[k] = k * u.ld;
    }
    const int n = (int)((u.line1 - u.line0) * (u.at1 - u.at0));
    _Alignas(64) float acc[RQ_GEMM_F32_ROWS * 48];
    for (int q = 0; q < u.ld; q++)
        acc[q] = j->bias && q < columns ? j->bias[group * channels + j0 + q] : 0;
    for (int i = 1; i < n; i++)
        memcpy(acc + (int64_t)i * u.ld, acc, (size_t)u.ld * sizeof *acc);
    u.y = j->y + (image * g->out_ch + group * channels + j0) * pixels + u.line0 * c->width + u.at0;
    sum(j, &u, acc, columns, n);
    finish(j, u.y, acc, u.ld, columns, n);
}

void rq_conv_f32_turned_item(void *arg, int64_t item)
{
    const rq_conv_job *j = arg;
    const rq_conv_f32 *c = j->c;
    const int64_t all = c->g.groups * c->panels * j->images * c->blocks;
    for (int64_t at = item * c->units; at < (item + 1) * c->units && at < all; at++)
        unit_run(j, at);
}
