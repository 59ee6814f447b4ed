/* kernels/conv_f32_strips.c — float convolution as strips of a matrix product: rows are output channels, columns are output positions, vectors run along
 * these. Two orders of loops over the same tiles:
 *
 * - Where a row of the matrix is a row of the input (kernels of one pixel), some neighbouring panels of columns are packed for the second-level cache and each
 *   tile of rows passes over all of them: outputs and residuals of a few rows are then met in long runs, which processors fetch ahead.
 * - Others read planes (kernels/planes.h) where they lie: a panel and a piece of the depth stay in the first-level cache while a band of rows passes over them.
 *
 * What follows is done to the sums of a tile while they are in the first-level cache. */
#include <string.h>

#include "kernels/conv_f32_priv.h"

enum {
    WIDE = 96,     /* output rows at least this long are run one by one, shorter ones together */
    BAND = 256,    /* rows that share what is packed: whole strips */
    MOST = 48,     /* columns of a panel for more than two rows */
    IN_PLACE = 12, /* below so many rows a panel is read where it lies, if that can be */
    PACK = 40960,  /* floats that are packed at a time */
    GROUP = 8,     /* panels that are */
    ITEMS = 16,    /* of a product, at most, or nearly */
    DEPTH = 192,   /* of a tile at a time: of planes, what stays in the first-level cache */
    LINE = 16,     /* floats of a cache line */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Is a row of the matrix a row of the input, of `step` floats? */
static bool is_rows(const rq_conv_f32 *c, int64_t *step)
{
    *step = c->how == RQ_CONV_PIXELS ? c->length : c->step;
    return c->how == RQ_CONV_PIXELS || (c->tight && rq_conv_area(c->g.kernel) == 1);
}

void rq_conv_f32_cut(rq_conv_f32 *c)
{
    const rq_conv_geom *g = &c->g;
    const int64_t rows = g->out_ch / g->groups;
    if (c->how == RQ_CONV_PIXELS) {
        c->runs = 1;
        c->length = rq_conv_area(g->out);
        c->tight = true;
    } else if (g->out[2] >= WIDE) {
        c->runs = g->out[0] * g->out[1];
        c->length = g->out[2];
        c->tight = true;
    } else {
        c->runs = g->out[0];
        c->length = c->planes.sums;
        c->tight = c->planes.pitch == g->out[2];
    }
    const int64_t panel = rq_gemm_f32_panel(c->k, rows);
    c->panels = (c->length + panel - 1) / panel;
    c->bands = (rows + BAND - 1) / BAND;
    const int64_t all = c->runs * c->panels, macs = least(rows, BAND) * panel * c->depth;
    const int64_t worth = macs < RQ_CONV_F32_ITEM ? RQ_CONV_F32_ITEM / macs : 1, share = all * c->bands / ITEMS;
    c->chunk = least(worth > share ? worth : share, all);
    c->chunks = (all + c->chunk - 1) / c->chunk;
}

int64_t rq_conv_f32_strip_items(const rq_conv_f32 *c, int64_t images)
{
    return images * c->g.groups * c->bands * c->chunks;
}

/* A run of columns of a panel that lie one after the other in the output. */
typedef struct part {
    int from, n; /* in the panel */
    int64_t to;  /* in a channel of the output */
} part;

typedef struct panel {
    const float *x; /* its column 0 in the input */
    int columns, ld;
    int n_parts;
    part parts[RQ_GEMM_F32_COLUMNS];
} panel;

/* What an item is about. */
typedef struct strips {
    const rq_conv_job *j;
    const rq_conv_f32 *c;
    const float *x, *w, *start; /* of the group: input; of the band: weights, biases */
    float *y;                   /* of the band */
    int rows;
    int64_t step; /* from row to row of the input, where these are rows of the matrix */
    bool packs;   /* packs panels, [piece][width] each */
    int width;
    int64_t piece; /* of the depth at a time */
    int32_t a_off[DEPTH], b_off[DEPTH];
} strips;

/* Panel `at` of all runs. */
static void find_panel(const strips *s, int64_t at, panel *p)
{
    const rq_conv_f32 *c = s->c;
    const int lanes = c->k->gemm_f32.lanes;
    const int64_t vectors = (c->length + lanes - 1) / lanes, run = at / c->panels, i = at % c->panels;
    const int64_t j0 = vectors * i / c->panels * lanes, j1 = least(vectors * (i + 1) / c->panels * lanes, c->length);
    const int64_t width = c->g.out[2], pitch = c->planes.pitch, area = c->g.out[1] * width;
    p->x = s->x + j0;
    p->columns = (int)(j1 - j0);
    p->ld = (p->columns + lanes - 1) / lanes * lanes;
    p->n_parts = 0;
    if (c->how == RQ_CONV_PLANES) {
        const int64_t per = c->runs / c->g.out[0]; /* runs of a plane */
        p->x += run / per * c->g.stride[0] * c->planes.plane + run % per * pitch;
    }
    if (c->tight)
        p->parts[p->n_parts++] = (part) { 0, p->columns, run * c->length + j0 };
    for (int64_t q = j0; !c->tight && q < j1; q = (q / pitch + 1) * pitch) {
        const int64_t n = least(width - q % pitch, j1 - q);
        if (n > 0)
            p->parts[p->n_parts++] = (part) { (int)(q - j0), (int)n, run * area + q / pitch * width + q % pitch };
    }
}

/* Outputs of a tile and what is added to them lie in rows far apart, which no processor fetches ahead by itself. */
static void fetch_outputs(const strips *s, const panel *p, int row, int rows)
{
    const int64_t step = rq_conv_area(s->c->g.out);
    const rq_conv_after *after = s->j->after;
    const float *y = s->y + row * step, *add = after && after->add ? after->add + (y - s->j->y0) : NULL;
    for (int i = 0; i < p->n_parts; i++)
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < p->parts[i].n; q += LINE) {
                const int64_t at = r * step + p->parts[i].to + q;
                __builtin_prefetch(y + at, 1);
                if (add)
                    __builtin_prefetch(add + at);
            }
}

/* What follows, to the sums of a tile, and these to the output. */
static void finish(const strips *s, const panel *p, float *acc, int row, int rows)
{
    const rq_gemm_f32_isa *isa = &s->c->k->gemm_f32;
    const int64_t step = rq_conv_area(s->c->g.out);
    const rq_conv_after *after = s->j->after;
    float *y = s->y + row * step;
    for (int i = 0; after && after->add && i < p->n_parts; i++)
        isa->finish(acc + p->parts[i].from, p->ld, acc + p->parts[i].from, p->ld, NULL,
                    after->add + (y - s->j->y0) + p->parts[i].to, step, rows, p->parts[i].n);
    if (after && after->f)
        after->f(acc, acc, (size_t)(rows * p->ld), after->p, after->q);
    for (int i = 0; i < p->n_parts; i++)
        isa->copy(y + p->parts[i].to, step, acc + p->parts[i].from, p->ld, rows, p->parts[i].n);
}

static void pack(const strips *s, float *to, const panel *p, int64_t k0, int64_t depth)
{
    for (int64_t k = 0; k < depth && p->columns < p->ld; k++)
        memset(to + k * s->width + p->columns, 0, (size_t)(p->ld - p->columns) * sizeof *to);
    s->c->k->gemm_f32.copy(to, s->width, p->x + k0 * s->step, s->step, (int)depth, p->columns);
}

/* Sums of a tile, on from depth k0 to k1: acc [rows][ld]. a: its weights at depth k0; b: the packed panel at k0. */
static void sum(const strips *s, const panel *p, float *acc, int row, int rows, const float *a, const float *b,
                int64_t k0, int64_t k1)
{
    static const float zeros[RQ_GEMM_F32_ROWS];
    const rq_conv_f32 *c = s->c;
    const rq_gemm_f32_isa *isa = &c->k->gemm_f32;
    const int64_t a_k = c->packed ? isa->rows : 1;
    for (int64_t k = k0; k < k1; k += DEPTH) {
        const int64_t depth = least(k1 - k, DEPTH);
        const float *from = s->packs ? b + (k - k0) * s->width : s->step ? p->x + k * s->step : p->x;
        isa->tile(acc, (size_t)p->ld,
                  k          ? NULL
                  : s->start ? s->start + row
                             : zeros,
                  a + (k - k0) * a_k, c->packed ? 1 : c->depth, s->a_off, from,
                  s->packs || s->step ? s->b_off : c->off + k, (size_t)depth, rows, p->ld / isa->lanes);
    }
}

/* n panels and all rows of the band, from depth k0 to k1. acc: a tile where that is all of the depth, else the band's sums, of one panel. */
static void run_piece(const strips *s, const panel *p, int n, float *acc, const float *packed, int64_t k0, int64_t k1)
{
    const rq_conv_f32 *c = s->c;
    const rq_gemm_f32_isa *isa = &c->k->gemm_f32;
    const int vectors = p->ld / isa->lanes;
    const int most = vectors > isa->vectors[1] ? 1 : vectors > isa->vectors[2] ? 2 : isa->rows;
    for (int row0 = 0; row0 < s->rows; row0 += RQ_GEMM_F32_ROWS) {
        const int rows = (int)least(s->rows - row0, RQ_GEMM_F32_ROWS), tiles = (rows + most - 1) / most;
        for (int row = row0, t = 0; t < tiles; t++) {
            const int take = (row0 + rows - row) / (tiles - t); /* evenly: no tile is left with few chains */
            const float *a =
                c->packed ? s->w + row0 * c->depth + (t * c->depth + k0) * isa->rows : s->w + row * c->depth + k0;
            float *to = s->piece < c->depth ? acc + row * p->ld : acc;
            for (int i = 0; i < n; i++) {
                if (k1 == c->depth)
                    fetch_outputs(s, &p[i], row, take);
                sum(s, &p[i], to, row, take, a, packed + i * s->piece * s->width, k0, k1);
                if (k1 == c->depth)
                    finish(s, &p[i], to, row, take);
            }
            row += take;
        }
    }
}

/* How this item goes along the depth, and how many panels at a time. */
static int prepare(strips *s)
{
    const rq_conv_f32 *c = s->c;
    const bool rows = is_rows(c, &s->step);
    s->width = rq_gemm_f32_panel(c->k, c->g.out_ch / c->g.groups);
    if (!rows)
        s->step = 0;
    s->packs = rows && (s->rows >= IN_PLACE || c->length % c->k->gemm_f32.lanes != 0 || s->step > INT32_MAX / DEPTH);
    s->piece = least(s->packs ? PACK / s->width : DEPTH, c->depth);
    for (int k = 0; k < DEPTH; k++) {
        s->a_off[k] = c->packed ? k * c->k->gemm_f32.rows : k;
        s->b_off[k] = s->packs ? k * s->width : (int32_t)(k * s->step);
    }
    return s->packs && s->piece == c->depth ? (int)least(PACK / (s->piece * s->width), GROUP) : 1;
}

void rq_conv_f32_strip_item(void *arg, int64_t item)
{
    const rq_conv_job *j = arg;
    const rq_conv_f32 *c = j->c;
    const rq_conv_geom *g = &c->g;
    const int64_t band = item % c->bands, chunk = item / c->bands % c->chunks, which = item / c->bands / c->chunks;
    const int64_t group = which % g->groups, image = which / g->groups, per = g->out_ch / g->groups;
    const int64_t oc = group * per + band * BAND, ic = image * g->in_ch + group * (g->in_ch / g->groups);
    strips s = { .j = j, .c = c, .rows = (int)least(per - band * BAND, BAND) };
    s.y = j->y + (image * g->out_ch + oc) * rq_conv_area(g->out);
    s.x = c->how == RQ_CONV_PIXELS ? j->x + ic * c->length : j->laid + ic * c->step;
    s.w = c->packed ? j->w + group * rq_gemm_f32_packed_rows(c->k, (int)per, c->depth) + band * BAND * c->depth
                    : j->w + oc * c->depth;
    s.start = j->bias ? j->bias + oc : NULL;
    _Alignas(64) float acc[BAND * MOST], packed[PACK];
    panel p[GROUP];
    const int64_t all = c->runs * c->panels, end = least((chunk + 1) * c->chunk, all), most = prepare(&s);
    for (int64_t at = chunk * c->chunk; at < end;) {
        int n = 0;
        do {
            find_panel(&s, at++, &p[n++]);
        } while (n < most && at < end);
        for (int64_t k0 = 0; k0 < c->depth; k0 += s.piece) {
            const int64_t depth = least(c->depth - k0, s.piece);
            for (int i = 0; s.packs && i < n; i++)
                pack(&s, packed + i * s.piece * s.width, &p[i], k0, depth);
            run_piece(&s, p, n, acc, packed, k0, k0 + depth);
        }
    }
}
