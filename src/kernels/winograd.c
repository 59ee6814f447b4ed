/* kernels/winograd.c — cutting convolutions by F(4x4, 3x3) into work; see winograd.h.
 *
 * Tiles of 4 x 4 outputs, of all images of the batch one after the other, are taken in strips of as many as a product has rows. Some strips, a chunk,
 * are transformed to room[strip][spot][tile][channel], which is to stay in the second-level cache. Then each strip is multiplied by
 * each panel of columns: 36 products to a buffer on the stack, [spot][tile][column], of which codes are made tile by tile. */
#include "kernels/winograd.h"

#include <assert.h>
#include <string.h>

#include "kernels/kernels.h"

enum {
    SPOTS = RQ_WINOGRAD_SPOTS,
    IN = RQ_WINOGRAD_IN,
    OUT = RQ_WINOGRAD_OUT,
    ROOM = 512 << 10,     /* bytes of a chunk */
    MAX_STRIP = 28,       /* tiles */
    PIECES = 4,           /* of a strip, to be transformed */
    MAX_COLUMNS = 32,     /* of a panel */
    LINE = 32,            /* s16 of a cache line */
    SMALL_WORK = 1 << 19, /* multiply-adds below which a second thread costs more than it brings */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* n things in `parts`, evenly: where part i begins. */
static int64_t part_at(int64_t n, int64_t parts, int64_t i)
{
    return i * (n / parts) + min64(i, n % parts);
}

/* What the parts cost, in multiply-adds of s16, per spot: measured where many tiles share the weights, and where few do. */
enum {
    IN_COST = 8,     /* of a channel of a tile, to be transformed */
    OUT_COST = 16,   /* of a column of a tile */
    WEIGHT_COST = 4, /* of a weight: to be read, from wherever they are */
};

bool rq_winograd_pays(const rq_winograd_isa *g, int64_t channels, int64_t columns, int64_t rows, int64_t width)
{
    const int64_t words = (channels + 2 * g->lanes - 1) / (2 * g->lanes), sums = (columns + g->lanes - 1) / g->lanes,
                  high = (rows + OUT - 1) / OUT, wide = (width + OUT - 1) / OUT;
    const double in = (double)(words * 2 * g->lanes), out = (double)(sums * g->lanes), tiles = (double)(high * wide);
    const double direct = (double)(rows * width) * 9 * (double)channels * out * 4 / g->gain;
    const double here =
        SPOTS * ((tiles + WEIGHT_COST) * (double)channels * out + tiles * (IN_COST * in + OUT_COST * out));
    return here < direct;
}

/* ---- weights ---- */

/* The sum of n weights that are positive, and, in *all, of all. In parts, so that it is a loop of s32 over bytes. */
static int64_t sum_positive(const uint8_t *w, int64_t n, uint8_t flip, int64_t *all)
{
    enum { PART = 1 << 14 };
    int64_t above = 0;
    *all = 0;
    for (int64_t from = 0; from < n; from += PART) {
        const int64_t to = min64(n, from + PART);
        int32_t positive = 0, sum = 0;
        for (int64_t i = from; i < to; i++) {
            const int32_t v = (int8_t)(w[i] ^ flip);
            positive += v > 0 ? v : 0;
            sum += v;
        }
        above += positive;
        *all += sum;
    }
    return above;
}

bool rq_winograd_fits(const rq_winograd_weights *w)
{
    const int64_t n = 9 * w->channels;
    for (int64_t j = 0; j < w->columns; j++) {
        int64_t all;
        const int64_t above = sum_positive(w->at + j * n, n, w->flip, &all), below = above - all;
        if (above * 255 >= 1 << 25 || below * 255 >= 1 << 25)
            return false;
    }
    return true;
}

static int64_t panels_of(const rq_winograd_isa *g, int64_t columns)
{
    const int64_t wide = (int64_t)g->lanes * g->max_vectors;
    return (columns + wide - 1) / wide;
}

/* Panel p: its first column and how many vectors it has. Columns are spread evenly over panels. */
static int64_t panel_at(const rq_winograd_isa *g, int64_t columns, int64_t p, int *vectors)
{
    const int64_t all = (columns + g->lanes - 1) / g->lanes, panels = panels_of(g, columns);
    const int64_t first = part_at(all, panels, p);
    *vectors = (int)(part_at(all, panels, p + 1) - first);
    return first * g->lanes;
}

static size_t column_bytes(int64_t channels)
{
    return SPOTS * (size_t)((channels + 1) / 2 * 2) * sizeof(int16_t);
}

size_t rq_winograd_w_bytes(const rq_winograd_isa *g, int64_t channels, int64_t columns)
{
    return (size_t)((columns + g->lanes - 1) / g->lanes * g->lanes) * column_bytes(channels);
}

/* G times three numbers of each of the columns of a panel. */
static void turn_weights(int16_t y[IN][MAX_COLUMNS], const int16_t g[3][MAX_COLUMNS])
{
    for (int j = 0; j < MAX_COLUMNS; j++) {
        const int a = g[0][j], b = g[1][j], c = g[2][j];
        y[0][j] = (int16_t)(6 * a);
        y[1][j] = (int16_t)(-a - b - c);
        y[2][j] = (int16_t)(-a + b - c);
        y[3][j] = (int16_t)(a + 2 * b + 4 * c);
        y[4][j] = (int16_t)(a - 2 * b + 4 * c);
        y[5][j] = (int16_t)(6 * c);
    }
}

typedef struct pack_job {
    const rq_winograd_isa *g;
    char *dst;
    const rq_winograd_weights *w;
    int32_t *sum;
} pack_job;

/* Channel c of columns j.. to u[spot][column], its weights to the sums. */
static void turn_channel(int16_t u[IN][IN][MAX_COLUMNS], const rq_winograd_weights *w, int64_t c, int64_t j, int real,
                         int32_t *sum)
{
    int16_t tap[3][3][MAX_COLUMNS] = { { { 0 } } }, half[3][IN][MAX_COLUMNS], line[3][MAX_COLUMNS];
    const uint8_t *at = w->at + (j * w->channels + c) * 9;
    for (int i = 0; i < real; i++, at += 9 * w->channels)
        for (int r = 0; r < 3; r++)
            for (int s = 0; s < 3; s++) {
                tap[r][s][i] = (int8_t)(at[3 * r + s] ^ w->flip);
                sum[i] += tap[r][s][i];
            }
    for (int r = 0; r < 3; r++)
        turn_weights(half[r], (const int16_t(*)[MAX_COLUMNS])tap[r]);
    for (int s = 0; s < IN; s++) {
        int16_t y[IN][MAX_COLUMNS];
        for (int r = 0; r < 3; r++)
            memcpy(line[r], half[r][s], sizeof line[r]);
        turn_weights(y, (const int16_t(*)[MAX_COLUMNS])line);
        for (int r = 0; r < IN; r++)
            memcpy(u[r][s], y[r], sizeof y[r]);
    }
}

/* A panel: [spot][step][column][2]. */
static void pack_panel(void *arg, int64_t p)
{
    const pack_job *job = arg;
    const rq_winograd_weights *w = job->w;
    int vectors;
    const int64_t j = panel_at(job->g, w->columns, p, &vectors), steps = (w->channels + 1) / 2;
    const int padded = vectors * job->g->lanes, real = (int)min64(padded, w->columns - j);
    int16_t *dst = (int16_t *)(void *)(job->dst + (size_t)j * column_bytes(w->channels));
    int32_t sum[MAX_COLUMNS] = { 0 };
    for (int64_t k = 0; k < steps; k++, dst += 2 * padded) {
        int16_t u[2][IN][IN][MAX_COLUMNS];
        turn_channel(u[0], w, 2 * k, j, real, sum);
        if (2 * k + 1 < w->channels)
            turn_channel(u[1], w, 2 * k + 1, j, real, sum);
        else
            memset(u[1], 0, sizeof u[1]);
        for (int s = 0; s < SPOTS; s++) {
            int16_t *restrict to = dst + s * steps * 2 * padded;
            const int16_t *even = u[0][s / IN][s % IN], *odd = u[1][s / IN][s % IN];
            for (int i = 0; i < padded; i++) {
                to[2 * i] = even[i];
                to[2 * i + 1] = odd[i];
            }
        }
    }
    memcpy(job->sum + j, sum, (size_t)real * sizeof *sum);
}

void rq_winograd_pack(rq_threads *t, const rq_winograd_isa *g, void *dst, const rq_winograd_weights *w, int32_t *sum)
{
    pack_job job = { g, dst, w, sum };
    rq_threads_for(t, panels_of(g, w->columns), pack_panel, &job);
}

/* ---- running ---- */

typedef struct state {
    const rq_winograd *g;
    const rq_winograd_isa *isa;
    int64_t wide, high, tiles; /* tiles of a row, rows of an image; all */
    int64_t strips, panels;
    int64_t first, n; /* strips of this chunk */
    bool by_strip;    /* where weights are fewer bytes than the chunk, a strip stays with a core, else a panel does */
    size_t ld;        /* s16 from tile to tile */
    size_t strip;     /* s16 of a whole strip */
    _Alignas(64) int32_t last_add[MAX_COLUMNS]; /* of the last panel, filled up */
    float last_m[MAX_COLUMNS];
} state;

static state state_of(const rq_winograd *g)
{
    state s = { .g = g, .isa = g->k->winograd };
    s.wide = (g->out[1] + OUT - 1) / OUT;
    s.high = (g->out[0] + OUT - 1) / OUT;
    s.tiles = g->batch * s.high * s.wide;
    const int64_t strip = MAX_STRIP / s.isa->max_rows * s.isa->max_rows;
    s.strips = (s.tiles + strip - 1) / strip;
    s.panels = panels_of(s.isa, g->columns);
    s.ld = (size_t)(((g->channels + LINE - 1) / LINE | 1) * LINE); /* an odd number of cache lines: see qgemm.c */
    s.strip = SPOTS * (size_t)min64(strip, s.tiles) * s.ld;
    return s;
}

/* Strips of a chunk, at most. */
static int64_t chunk_of(const state *s)
{
    const int64_t fit = (int64_t)(ROOM / (s->strip * sizeof(int16_t) + 1));
    return fit < 2 ? min64(2, s->strips) : min64(fit, s->strips);
}

size_t rq_winograd_room(const rq_winograd *g)
{
    const state s = state_of(g);
    return (size_t)chunk_of(&s) * s.strip * sizeof(int16_t);
}

/* Where tile t is: its image, its first row and column of outputs. */
typedef struct place {
    int64_t image, row, column;
} place;

static place place_of(const state *s, int64_t t)
{
    return (place) { t / (s->wide * s->high), t / s->wide % s->high * OUT, t % s->wide * OUT };
}

/* Strip i of the chunk: its tiles. */
static int64_t strip_of(const state *s, int64_t i, int *n)
{
    const int64_t first = part_at(s->tiles, s->strips, s->first + i);
    *n = (int)(part_at(s->tiles, s->strips, s->first + i + 1) - first);
    return first;
}

static int16_t *room_of(const state *s, int64_t i)
{
    return (int16_t *)s->g->room + (size_t)i * s->strip;
}

/* A piece of a strip: a chunk may be one strip, and threads want more to share than that. */
static void turn_piece(void *arg, int64_t item)
{
    const state *s = arg;
    const rq_winograd *g = s->g;
    int n;
    const int64_t i = item / PIECES, first = strip_of(s, i, &n);
    const int from = (int)part_at(n, PIECES, item % PIECES), to = (int)part_at(n, PIECES, item % PIECES + 1);
    int16_t *v = room_of(s, i) + (size_t)from * s->ld;
    for (int q = from; q < to; q++, v += s->ld) {
        const place at = place_of(s, first + q);
        const int64_t ld = g->x_ld ? g->x_ld : g->channels;
        const uint8_t *pixel[SPOTS], *x = g->x + at.image * g->in[0] * g->in[1] * ld;
        for (int r = 0; r < IN; r++)
            for (int c = 0; c < IN; c++) {
                const int64_t i0 = at.row - g->pad[0] + r, i1 = at.column - g->pad[1] + c;
                const bool inside = i0 >= 0 && i0 < g->in[0] && i1 >= 0 && i1 < g->in[1];
                pixel[r * IN + c] = inside ? x + (i0 * g->in[1] + i1) * ld : g->zeros;
            }
        s->isa->in(v, (size_t)n * s->ld, pixel, g->channels);
        for (int k = 0; k < SPOTS && g->channels % 2; k++) /* what the last step reads and multiplies by 0 */
            v[(size_t)(k * n) * s->ld + (size_t)g->channels] = 0;
    }
}

static void multiply_strip(void *arg, int64_t item)
{
    const state *s = arg;
    const rq_winograd *g = s->g;
    const rq_winograd_isa *isa = s->isa;
    const int64_t p = s->by_strip ? item % s->panels : item / s->n, i = s->by_strip ? item / s->panels : item % s->n;
    const size_t steps = (size_t)((g->channels + 1) / 2);
    int n, vectors;
    const int64_t first = strip_of(s, i, &n), j = panel_at(isa, g->columns, p, &vectors);
    const size_t padded = (size_t)(vectors * isa->lanes), spot = (size_t)n * padded;
    const bool full = j + (int64_t)padded <= g->columns;
    const int16_t *w = (const int16_t *)(const void *)((const char *)g->w + (size_t)j * column_bytes(g->channels));
    const int16_t *v = room_of(s, i);
    const int blocks = (n + isa->max_rows - 1) / isa->max_rows;
    _Alignas(64) int32_t c[SPOTS * MAX_STRIP * MAX_COLUMNS];
    for (int k = 0; k < SPOTS; k++, v += (size_t)n * s->ld, w += 2 * steps * padded)
        for (int b = 0, q = 0, more; b < blocks; b++, q += more) {
            more = (int)(part_at(n, blocks, b + 1) - q);
            isa->tile(c + (size_t)k * spot + (size_t)q * padded, padded, v + (size_t)q * s->ld, s->ld, steps, w, more,
                      vectors);
        }
    rq_qgemm_codes o = { .ldy = (size_t)g->ld,
                         .columns = (int)min64((int64_t)padded, g->columns - j),
                         .m = full ? g->m + j : s->last_m,
                         .zp = g->zp,
                         .lo = g->lo,
                         .hi = g->hi };
    for (int q = 0; q < n; q++) {
        const place at = place_of(s, first + q);
        o.y = g->y + ((at.image * g->out[0] + at.row) * g->out[1] + at.column) * g->ld + j;
        isa->out(&o, (size_t)(g->out[1] * g->ld), (int)min64(OUT, g->out[0] - at.row),
                 (int)min64(OUT, g->out[1] - at.column), c + (size_t)q * padded, spot, full ? g->add + j : s->last_add,
                 vectors);
    }
}

void rq_winograd_run(const rq_winograd *g, rq_threads *t)
{
    state s = state_of(g);
    if (s.tiles == 0 || g->columns == 0)
        return;
    int vectors;
    const int64_t j = panel_at(s.isa, g->columns, s.panels - 1, &vectors);
    memcpy(s.last_add, g->add + j, (size_t)(g->columns - j) * sizeof *g->add);
    memcpy(s.last_m, g->m + j, (size_t)(g->columns - j) * sizeof *g->m);
    assert(s.isa->lanes * s.isa->max_vectors <= MAX_COLUMNS && s.isa->max_rows <= MAX_STRIP);
    if (s.tiles * SPOTS * g->channels * g->columns < SMALL_WORK)
        t = NULL;
    const int64_t chunks = (s.strips + chunk_of(&s) - 1) / chunk_of(&s);
    for (int64_t i = 0; i < chunks; i++) {
        s.first = part_at(s.strips, chunks, i);
        s.n = part_at(s.strips, chunks, i + 1) - s.first;
        s.by_strip = (size_t)g->columns * column_bytes(g->channels) < (size_t)s.n * s.strip * sizeof(int16_t);
        rq_threads_for(t, s.n * PIECES, turn_piece, &s);
        rq_threads_for(t, s.n * s.panels, multiply_strip, &s);
    }
}
