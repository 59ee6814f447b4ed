/* kernels/qgemm_pack.c — weights into panels; see qgemm.h. */
#include "kernels/qgemm.h"

#include <string.h>

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t steps_of(const rq_qgemm_isa *g, int64_t run)
{
    return (run + g->kr - 1) / g->kr;
}

int64_t rq_qgemm_panels(const rq_qgemm_isa *g, int64_t columns)
{
    const int64_t vectors = (columns + g->lanes - 1) / g->lanes;
    return (vectors + g->max_vectors - 1) / g->max_vectors;
}

int64_t rq_qgemm_panel(const rq_qgemm_isa *g, int64_t columns, int64_t p, int *vectors)
{
    const int64_t all = (columns + g->lanes - 1) / g->lanes, panels = rq_qgemm_panels(g, columns);
    const int64_t each = all / panels, more = all % panels; /* the first `more` panels have one vector more */
    *vectors = (int)(each + (p < more));
    return (p * each + min64(p, more)) * g->lanes;
}

static size_t head_bytes(const rq_qgemm_isa *g, int64_t columns)
{
    return g->take[0] ? (size_t)columns * sizeof(int32_t) : 0;
}

size_t rq_qgemm_w_bytes(const rq_qgemm_isa *g, int64_t runs, int64_t run, int64_t columns)
{
    const int64_t padded = (columns + g->lanes - 1) / g->lanes * g->lanes;
    return head_bytes(g, padded) +
           (size_t)padded * (size_t)runs * (size_t)steps_of(g, run) * (size_t)(g->kr * g->w_bytes);
}

/* Where the bytes of one panel come from: its columns, of which `real` are there. */
typedef struct source {
    const uint8_t *at; /* of its first column */
    int64_t run_stride, k_stride, col_stride, run;
    int real, padded;
    uint8_t flip;
} source;

/* Four rows of bytes to columns of four. */
static void interleave(uint8_t *restrict dst, const uint8_t *restrict src, int64_t stride, int n, uint8_t flip)
{
    const uint8_t *r1 = src + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    for (int j = 0; j < n; j++) {
        dst[4 * j] = src[j] ^ flip;
        dst[4 * j + 1] = r1[j] ^ flip;
        dst[4 * j + 2] = r2[j] ^ flip;
        dst[4 * j + 3] = r3[j] ^ flip;
    }
}

/* Four deep of bytes, `gap` bytes from column to column: quads put together from what is there. */
static void pack_quads(uint8_t *dst, int gap, const source *s, const uint8_t *src, int64_t k)
{
    const uint32_t flips = s->flip * 0x01010101u;
    const int64_t left = s->run - k, ks = s->k_stride;
    src += k * ks;
    if (s->col_stride == 1 && left >= 4 && gap == 4)
        interleave(dst, src, ks, s->real, s->flip);
    else
        for (int j = 0; j < s->real; j++, src += s->col_stride) {
            uint32_t quad = 0;
            if (left >= 4 && ks == 1) {
                memcpy(&quad, src, 4);
                quad ^= flips;
            } else if (left >= 4) {
                const uint8_t b[4] = { src[0], src[ks], src[2 * ks], src[3 * ks] };
                memcpy(&quad, b, 4);
                quad ^= flips;
            } else {
                uint8_t b[4] = { 0 };
                for (int64_t i = 0; i < left; i++)
                    b[i] = src[i * ks] ^ s->flip;
                memcpy(&quad, b, 4);
            }
            memcpy(dst + gap * j, &quad, 4);
        }
    for (int j = s->real; j < s->padded; j++)
        memset(dst + gap * j, 0, 4);
}

/* Two rows of bytes to columns of two. */
static void interleave_two(uint8_t *restrict dst, const uint8_t *restrict src, int64_t stride, int n, uint8_t flip)
{
    const uint8_t *r1 = src + stride;
    for (int j = 0; j < n; j++) {
        dst[2 * j] = src[j] ^ flip;
        dst[2 * j + 1] = r1[j] ^ flip;
    }
}

/* Two deep of bytes, all there. */
static void pack_pairs(uint8_t *dst, const source *s, const uint8_t *src)
{
    if (s->col_stride == 1)
        interleave_two(dst, src, s->k_stride, s->real, s->flip);
    else
        for (int j = 0; j < s->real; j++, src += s->col_stride) {
            dst[2 * j] = src[0] ^ s->flip;
            dst[2 * j + 1] = src[s->k_stride] ^ s->flip;
        }
    memset(dst + 2 * s->real, 0, (size_t)(2 * (s->padded - s->real)));
}

/* One step of any other depth, widened or not. */
static void pack_step(const rq_qgemm_isa *g, void *dst, const source *s, const uint8_t *src, int64_t k)
{
    int8_t *d8 = dst;
    int16_t *d16 = dst;
    src += k * s->k_stride;
    for (int j = 0; j < s->padded; j++)
        for (int i = 0; i < g->kr; i++) {
            int8_t v = 0;
            if (j < s->real && k + i < s->run)
                v = (int8_t)(src[j * s->col_stride + i * s->k_stride] ^ s->flip);
            if (g->w_bytes == 1)
                *d8++ = v;
            else
                *d16++ = v;
        }
}

static void pack_panel(const rq_qgemm_isa *g, uint8_t *dst, const source *s, int64_t runs)
{
    const size_t step = (size_t)(s->padded * g->kr * g->w_bytes);
    for (int64_t r = 0; r < runs; r++) {
        const uint8_t *src = s->at + r * s->run_stride;
        for (int64_t k = 0; k < s->run; k += g->kr, dst += step) {
            if (g->w_bytes == 1 && (g->kr == 4 || g->kr == 64)) /* 64: sixteen times [columns][4] */
                for (int i = 0; i < g->kr; i += 4)
                    pack_quads(dst + (size_t)i * (size_t)s->padded, 4, s, src, min64(k + i, s->run));
            else if (g->w_bytes == 1 && g->kr == 8)
                for (int i = 0; i < 8; i += 4)
                    pack_quads(dst + i, 8, s, src, min64(k + i, s->run));
            else if (g->w_bytes == 1 && g->kr == 2 && k + 2 <= s->run)
                pack_pairs(dst, s, src + k * s->k_stride);
            else
                pack_step(g, dst, s, src, k);
        }
    }
}

/* The sums of a packed panel's columns: its product with a row of ones. */
static void sum_panel(const rq_qgemm_isa *g, int32_t *sum, const uint8_t *w, int64_t depth, int vectors, int real)
{
    enum { PART = 256 }; /* a multiple of every kr */
    uint8_t ones[PART];
    const uint8_t *x[1] = { ones };
    int32_t c[RQ_QGEMM_MAX_COLUMNS] = { 0 };
    memset(ones, 1, sizeof ones);
    for (int64_t k = 0; k < depth; k += PART) {
        const int64_t n = min64(PART, depth - k);
        g->tile(c, 0, x, 1, (size_t)n, w, c, 1, vectors);
        w += n * vectors * g->lanes * g->w_bytes;
    }
    memcpy(sum, c, (size_t)real * sizeof *sum);
}

/* The head of a panel, and the sums of its columns where they are wanted. */
static void weigh_panel(const rq_qgemm_isa *g, int32_t *head, int32_t *sum, const int8_t *w, int64_t runs, int64_t run,
                        const source *s)
{
    const int64_t steps = steps_of(g, run);
    uint32_t part[2][RQ_QGEMM_MAX_COLUMNS] = { { 0 } }; /* of even and of odd steps */
    for (int64_t r = 0; r < runs; r++)
        for (int64_t step = 0; step < steps; step++)
            for (int j = 0; j < s->padded; j++, w += g->kr)
                for (int i = 0; i < g->kr; i++)
                    part[step & 1][j] += (uint32_t)w[i];
    for (int j = 0; j < s->padded; j++)
        head[j] = (int32_t)((uint32_t)g->take[0] * part[0][j] + (uint32_t)g->take[1] * part[1][j]);
    for (int j = 0; sum && j < s->real; j++)
        sum[j] = (int32_t)(part[0][j] + part[1][j]);
}

typedef struct pack_job {
    const rq_qgemm_isa *g;
    uint8_t *dst;
    source all; /* the first column; real and padded are each panel's own */
    int64_t runs, columns;
    size_t column_bytes;
    int32_t *sum;
} pack_job;

static void pack_item(void *arg, int64_t p)
{
    const pack_job *j = arg;
    const rq_qgemm_isa *g = j->g;
    source s = j->all;
    int vectors;
    const int64_t first = rq_qgemm_panel(g, j->columns, p, &vectors);
    s.at += first * s.col_stride;
    s.padded = vectors * g->lanes;
    s.real = (int)min64(s.padded, j->columns - first);
    uint8_t *panel = j->dst + (size_t)first * j->column_bytes, *w = panel + head_bytes(g, s.padded);
    pack_panel(g, w, &s, j->runs);
    if (w != panel)
        weigh_panel(g, (int32_t *)(void *)panel, j->sum ? j->sum + first : NULL, (const int8_t *)w, j->runs, s.run, &s);
    else if (j->sum)
        sum_panel(g, j->sum + first, panel, j->runs * steps_of(g, s.run) * g->kr, vectors, s.real);
}

void rq_qgemm_pack_on(rq_threads *t, const rq_qgemm_isa *g, void *dst, const uint8_t *src, int64_t run_stride,
                      int64_t k_stride, int64_t col_stride, int64_t runs, int64_t run, int64_t columns, uint8_t flip,
                      int32_t *sum)
{
    enum { SMALL_WORK = 1 << 16 }; /* bytes that stay on one thread */
    pack_job j = {
        .g = g,
        .dst = dst,
        .all = { .at = src,
                 .run_stride = run_stride,
                 .k_stride = k_stride,
                 .col_stride = col_stride,
                 .run = run,
                 .flip = flip },
        .runs = runs,
        .columns = columns,
        .column_bytes = rq_qgemm_w_bytes(g, runs, run, g->lanes) / (size_t)g->lanes,
        .sum = sum,
    };
    rq_threads_for(runs * run * columns < SMALL_WORK ? NULL : t, rq_qgemm_panels(g, columns), pack_item, &j);
}

void rq_qgemm_pack(const rq_qgemm_isa *g, void *dst, const uint8_t *src, int64_t run_stride, int64_t k_stride,
                   int64_t col_stride, int64_t runs, int64_t run, int64_t columns, uint8_t flip, int32_t *sum)
{
    rq_qgemm_pack_on(NULL, g, dst, src, run_stride, k_stride, col_stride, runs, run, columns, flip, sum);
}
