/* kernels/qgemm.c — cutting integer products into tiles; see qgemm.h.
 *
 * An item of work is a chunk of rows by a group of panels. A group stays in the second-level cache; within an item a block of rows, whose
 * pieces are looked up once, goes through all panels of the group, so that its bytes stay in the first level. */
#include "kernels/qgemm.h"

#include <assert.h>
#include <string.h>

#include "kernels/kernels.h"

enum {
    GROUP_BYTES = 384 << 10, /* of weights: half of a small second-level cache */
    ITEM_WORK = 1 << 20,     /* multiply-adds of an item: some microseconds */
    MOST_ITEMS = 64,
    /* Codes to which posts are done all at once where items are less than whole rows: few bytes of many rows are read slowly. */
    LATE_BYTES = 512 << 10,
    WIDE_BYTES = 56 << 10, /* of a block's rows widened; longer ones are widened by each tile, a part at a time */
    SMALL_WORK = 1 << 21,  /* multiply-adds below which a second thread costs more than it brings */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* n things in `parts`, evenly: where part i begins. */
static int64_t part_at(int64_t n, int64_t parts, int64_t i)
{
    return i * (n / parts) + min64(i, n % parts);
}

typedef struct run_state {
    const rq_qgemm *g;
    rq_qgemm_out out;       /* without col_add, which tiles begin with */
    int64_t blocks, panels; /* of rows, of columns */
    int64_t chunks, groups; /* of blocks, of panels */
    int64_t products;
    int64_t each, more;  /* vectors of a panel; the first `more` have one more (rq_qgemm_panel) */
    size_t column_bytes; /* of packed weights */
    size_t wide_ld;      /* from row to row where they are widened; 0: they are not */
    bool plain;          /* codes that need no more than an addend per row and a multiplier per column */
    bool in_tile;        /* and are made by the tile (rq_qgemm_codes) */
    bool reals;          /* reals of whole tiles (kernels/sums.h) */
    bool late;           /* posts are run when the whole product is there */
    /* What tiles begin with and multipliers of the last panel of the first product, where it is not full. */
    int32_t last_add[RQ_QGEMM_MAX_COLUMNS];
    float last_m[RQ_QGEMM_MAX_COLUMNS];
} run_state;

/* The columns of a panel. */
typedef struct panel {
    int64_t j0;
    int vectors, real, padded;
} panel;

/* Without a division, which takes as long as a short product. */
static panel panel_at(const run_state *s, int64_t p)
{
    const int lanes = s->g->k->qgemm.lanes;
    panel v = { .j0 = (p * s->each + min64(p, s->more)) * lanes, .vectors = (int)(s->each + (p < s->more)) };
    v.padded = v.vectors * lanes;
    v.real = (int)min64(v.padded, s->g->columns - v.j0);
    return v;
}

/* A block of rows: the pieces of each, or where they lie widened. */
typedef struct block {
    const uint8_t *const *x;
    const int16_t *wide;
    size_t ld, depth; /* of wide; depth 0: nothing is widened */
} block;

static block block_of(const run_state *s, int16_t *wide, const uint8_t *const *x, int rows)
{
    const rq_qgemm *g = s->g;
    block b = { .x = x, .wide = wide, .ld = s->wide_ld };
    if (s->wide_ld && (size_t)rows * s->wide_ld * sizeof *wide <= WIDE_BYTES)
        b.depth = g->k->qgemm.widen(wide, b.ld, x, (size_t)g->runs, (size_t)g->run, rows);
    return b;
}

/* A tile of it: to c, or as codes to o, unless that is NULL. */
static void sum_tile(const rq_qgemm *g, const block *b, int32_t *c, size_t ldc, const rq_qgemm_codes *o, const void *w,
                     const int32_t *init, int rows, int vectors)
{
    const rq_qgemm_isa *isa = &g->k->qgemm;
    if (b->depth)
        isa->wide_tile(c, ldc, o, b->wide, b->ld, b->depth, w, init, rows, vectors);
    else if (o)
        isa->codes(o, b->x, (size_t)g->runs, (size_t)g->run, w, init, rows, vectors);
    else
        isa->tile(c, ldc, b->x, (size_t)g->runs, (size_t)g->run, w, init, rows, vectors);
}

/* Addends and multipliers of columns j.. of a panel that is not full. */
static void pad(const run_state *s, int64_t j, const panel *p, int32_t *add, float *m)
{
    const rq_qgemm_out *o = &s->g->out;
    memset(add, 0, (size_t)p->padded * sizeof *add);
    memset(m, 0, (size_t)p->padded * sizeof *m);
    if (o->col_add)
        memcpy(add, o->col_add + j, (size_t)p->real * sizeof *add);
    if (o->col_m)
        memcpy(m, o->col_m + j, (size_t)p->real * sizeof *m);
}

/* Rows i..i+n-1 by a panel of a product. */
static void run_tile(const run_state *s, const block *b, int64_t i, int n, int64_t product, const panel *p)
{
    const rq_qgemm *g = s->g;
    const rq_kernels *k = g->k;
    const rq_qgemm_out *o = &s->out;
    const bool full = p->real == p->padded;
    const char *w = (const char *)g->w + product * g->w_step + (size_t)p->j0 * s->column_bytes;
    const int64_t j0 = product * g->columns + p->j0;
    const int32_t *init = !g->out.col_add ? NULL : full ? g->out.col_add + j0 : s->last_add;
    const float *m = !o->col_m ? NULL : full ? o->col_m + j0 : s->last_m;
    int32_t add_here[RQ_QGEMM_MAX_COLUMNS];
    float m_here[RQ_QGEMM_MAX_COLUMNS];
    if (!full && product) {
        pad(s, j0, p, add_here, m_here);
        init = init ? add_here : NULL;
        m = m_here;
    }
    if (s->in_tile) {
        const rq_qgemm_codes codes = { .y = (uint8_t *)o->y + i * o->ld + j0,
                                       .ldy = (size_t)o->ld,
                                       .columns = p->real,
                                       .row_add = o->row_add ? o->row_add + i : NULL,
                                       .m = m,
                                       .zp = o->zp,
                                       .lo = o->lo,
                                       .hi = o->hi };
        sum_tile(g, b, NULL, 0, &codes, w, init, n, p->vectors);
        return;
    }
    _Alignas(64) int32_t c[RQ_QGEMM_MAX_ROWS * RQ_QGEMM_MAX_COLUMNS];
    sum_tile(g, b, c, (size_t)p->padded, NULL, w, init, n, p->vectors);
    if (s->plain) {
        k->requantize_tile((uint8_t *)o->y + i * o->ld + j0, (size_t)o->ld, c, (size_t)p->padded, (size_t)n,
                           (size_t)p->real, o->row_add ? o->row_add + i : NULL, o->col_m + j0, o->zp, o->lo, o->hi);
        return;
    }
    if (s->reals) {
        const rq_sums_reals to = { .y = (float *)o->y + i * o->ld + j0,
                                   .ldy = (size_t)o->ld,
                                   .row_add = o->row_add ? o->row_add + i : NULL,
                                   .row_m = o->row_m ? o->row_m + i : NULL,
                                   .m = o->col_m ? o->col_m + j0 : NULL,
                                   .bias = o->col_bias ? o->col_bias + j0 : NULL,
                                   .in_turn = o->in_turn };
        k->sums_reals(&to, c, (size_t)p->padded, (size_t)n, (size_t)p->real);
        return;
    }
    for (int q = 0; q < n; q++)
        rq_qgemm_finish(k, o, c + q * p->padded, i + q, j0, p->real);
}

/* What is done to codes j0..j1-1 of rows i..i+n-1. */
static void run_posts(const run_state *s, int64_t i, int64_t n, int64_t j0, int64_t j1)
{
    const rq_qgemm_out *o = &s->out;
    rq_post_rows(s->g->k, o->post, o->n_post, o->y, o->ld, i, n, j0, j1 - j0);
}

/* The posts of a block of rows. */
static void run_late(void *arg, int64_t b)
{
    const run_state *s = arg;
    const int64_t i = part_at(s->g->rows, s->blocks, b);
    run_posts(s, i, part_at(s->g->rows, s->blocks, b + 1) - i, 0, s->g->columns);
}

static void run_item(void *arg, int64_t item)
{
    const run_state *s = arg;
    const rq_qgemm *g = s->g;
    const rq_qgemm_isa *isa = &g->k->qgemm;
    const int64_t chunk = item % s->chunks, group = item / s->chunks;
    const int64_t b1 = part_at(s->blocks, s->chunks, chunk + 1), p0 = part_at(s->panels, s->groups, group),
                  p1 = part_at(s->panels, s->groups, group + 1);
    const uint8_t *x[RQ_QGEMM_MAX_ROWS * RQ_QGEMM_MAX_RUNS];
    _Alignas(64) int16_t wide[WIDE_BYTES / sizeof(int16_t)];
    const int64_t j0 = panel_at(s, p0).j0, j1 = p1 < s->panels ? panel_at(s, p1).j0 : g->columns * s->products;
    /* rows of a block; the first `more` have one more */
    const int64_t each = g->rows / s->blocks, more = g->rows % s->blocks;
    for (int64_t b = part_at(s->blocks, s->chunks, chunk); b < b1; b++) {
        const int64_t i = b * each + min64(b, more);
        const int n = (int)(each + (b < more));
        if (g->x)
            for (int q = 0; q < n; q++)
                x[q] = g->x + (i + q) * g->x_stride;
        else
            g->find(g->find_arg, x, isa->max_rows, i, n);
        for (int64_t product = 0; product < s->products; product++) {
            const block rows = block_of(s, wide, x, n);
            for (int64_t p = p0; p < p1; p++) {
                const panel v = panel_at(s, p);
                run_tile(s, &rows, i, n, product, &v);
            }
            for (int64_t r = 0; r < g->runs && product + 1 < s->products; r++)
                for (int q = 0; q < n; q++)
                    x[r * isa->max_rows + q] += g->x_step;
        }
        if (s->out.n_post && !s->late)
            run_posts(s, i, n, j0, j1);
    }
}

/* Chunks and groups: about one item per ITEM_WORK, cut along the side whose other side is the cheaper to read again. */
static void cut(run_state *s, double work)
{
    const rq_qgemm *g = s->g;
    const int64_t items = work < ITEM_WORK                        ? 1
                          : work > (double)ITEM_WORK * MOST_ITEMS ? MOST_ITEMS
                                                                  : (int64_t)(work / ITEM_WORK);
    const int64_t bytes = (int64_t)s->column_bytes * g->columns;
    const int64_t groups = min64(s->panels, bytes / GROUP_BYTES + 1);
    if (s->products > 1) { /* which are small: all of them for each block */
        s->groups = 1;
        s->chunks = min64(s->blocks, items);
    } else if (g->rows >= g->columns || s->wide_ld) { /* rows are widened once per group */
        s->chunks = min64(s->blocks, (items + groups - 1) / groups);
        s->groups = min64(s->panels, max64(groups, items / s->chunks));
    } else {
        s->groups = min64(s->panels, max64(groups, items));
        s->chunks = min64(s->blocks, (items + s->groups - 1) / s->groups);
    }
}

static void pad_last(run_state *s)
{
    const panel p = panel_at(s, s->panels - 1);
    if (p.real < p.padded)
        pad(s, p.j0, &p, s->last_add, s->last_m);
}

/* Is |m[j]| < 1 for all n? By their bits, which grow as numbers do and are larger yet of infinity and NaN; PART at a time, for vectors. */
static bool below_one(const float *m, int64_t n)
{
    enum { PART = 16, ONE = 0x3f800000 };
    int32_t bits[PART], over[PART] = { 0 }, any = 0;
    int64_t j = 0;
    for (; j + PART <= n; j += PART) {
        memcpy(bits, m + j, sizeof bits);
        for (int i = 0; i < PART; i++)
            over[i] |= (bits[i] & INT32_MAX) >= ONE;
    }
    for (; j < n; j++) {
        memcpy(bits, m + j, sizeof *bits);
        any |= (bits[0] & INT32_MAX) >= ONE;
    }
    for (int i = 0; i < PART; i++)
        any |= over[i];
    return !any;
}

void rq_qgemm_run(const rq_qgemm *g, rq_threads *t)
{
    if (g->rows == 0 || g->columns == 0)
        return;
    const rq_qgemm_isa *isa = &g->k->qgemm;
    const rq_qgemm_out *o = &g->out;
    run_state s = { .g = g, .out = *o, .panels = rq_qgemm_panels(isa, g->columns) };
    s.blocks = (g->rows + isa->max_rows - 1) / isa->max_rows;
    const int64_t vectors = (g->columns + isa->lanes - 1) / isa->lanes;
    s.each = vectors / s.panels;
    s.more = vectors % s.panels;
    s.column_bytes = rq_qgemm_w_bytes(isa, g->runs, g->run, isa->lanes) / (size_t)isa->lanes;
    if (isa->widen) /* an odd number of cache lines: rows do not push each other out */
        s.wide_ld = 32 * (((size_t)(g->runs * ((g->run + isa->kr - 1) / isa->kr * isa->kr)) + 31) / 32 | 1);
    s.out.col_add = NULL;
    s.products = max64(g->products, 1);
    const bool few = !o->col_unit && !o->col_zero && !o->row_zero && !o->add; /* things to be done to a sum */
    s.plain = o->kind == RQ_QGEMM_CODES && o->col_m && !o->row_m && few;
    s.reals = o->kind == RQ_QGEMM_F32 && few;
    s.in_tile = s.plain && isa->codes && (o->hi == 127 || o->hi == 255) && below_one(o->col_m, g->columns * s.products);
    const double work = (double)g->rows * (double)g->columns * (double)(g->runs * g->run) * (double)s.products;
    pad_last(&s);
    cut(&s, work);
    assert(!o->n_post || o->kind == RQ_QGEMM_CODES); /* posts are for bytes: not for sums, nor for a part of them */
    s.late = o->n_post && s.groups > 1 && g->rows * g->columns <= LATE_BYTES;
    t = work < SMALL_WORK ? NULL : t;
    rq_threads_for(t, s.groups * s.chunks, run_item, &s);
    if (s.late)
        rq_threads_for(t, s.blocks, run_late, &s);
}

void rq_qgemm_sums(const rq_kernels *k, int32_t *c, int64_t ldc, const uint8_t *x, int64_t x_stride, int64_t rows,
                   int64_t run, int64_t columns, const void *w)
{
    const rq_qgemm_isa *isa = &k->qgemm;
    const int64_t panels = rq_qgemm_panels(isa, columns), vectors = (columns + isa->lanes - 1) / isa->lanes;
    const int64_t each = vectors / panels, more = vectors % panels; /* rq_qgemm_panel, without its divisions */
    const size_t bytes = rq_qgemm_w_bytes(isa, 1, run, isa->lanes);
    const uint8_t *at[RQ_QGEMM_MAX_ROWS];
    for (int64_t i = 0; i < rows; i += isa->max_rows) {
        const int n = (int)min64(rows - i, isa->max_rows);
        for (int q = 0; q < n; q++)
            at[q] = x + (i + q) * x_stride;
        const char *part = w;
        int32_t *to = c + i * ldc;
        for (int64_t p = 0; p < panels; p++) {
            const int v = (int)(each + (p < more));
            isa->tile(to, (size_t)ldc, at, 1, (size_t)run, part, NULL, n, v);
            part += (size_t)v * bytes;
            to += v * isa->lanes;
        }
    }
}
