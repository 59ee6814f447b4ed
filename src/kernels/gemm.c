/* kernels/gemm.c — packing, cutting and finishing of integer matrix products; see gemm.h.
 *
 * An item of work is one panel of B against some blocks of A: the panel stays in the cache while A streams by. B that
 * is made on the way (pixels of a convolution) is packed by the item itself into one of as many slots as there are
 * threads; only where there are few panels is it packed as a whole first, so that A can be cut too. */
#include "kernels/gemm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/quantize.h"

enum {
    FEW_PANELS = 16,      /* below this B is packed whole, and A is cut so that there are about as many items */
    SMALL_WORK = 1 << 20, /* multiply-adds below which a second thread costs more than it brings */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t steps_of(const rq_gemm_isa *g, int64_t depth)
{
    return (depth + g->kr - 1) / g->kr;
}

/* Rows that a block of `left` rows takes: the next power of two. */
static int block_rows(const rq_gemm_isa *g, int64_t left)
{
    int r = 1;
    while (r < g->mr && r < left)
        r *= 2;
    return r;
}

size_t rq_gemm_a_bytes(const rq_gemm_isa *g, int64_t rows, int64_t depth)
{
    int64_t full = rows / g->mr * g->mr, padded = full + (rows > full ? block_rows(g, rows - full) : 0);
    return (size_t)padded * (size_t)steps_of(g, depth) * (size_t)(g->kr * g->a_bytes);
}

/* A block whose rows are all there and contiguous: whole steps at once. Returns how much depth it packed. */
static int64_t pack_block(const rq_gemm_isa *g, void *dst, const uint8_t *src, int64_t row_stride, int block,
                          int64_t depth, uint8_t flip)
{
    const int64_t steps = depth / g->kr;
    if (g->kr == 4 && g->a_bytes == 1) {
        const uint32_t flips = flip * 0x01010101u;
        uint8_t *d = dst;
        for (int64_t s = 0; s < steps; s++, src += 4)
            for (int r = 0; r < block; r++, d += 4) {
                uint32_t quad;
                memcpy(&quad, src + r * row_stride, 4);
                quad ^= flips;
                memcpy(d, &quad, 4);
            }
        return steps * 4;
    }
    if (g->kr == 2 && g->a_bytes == 2) {
        int16_t *d = dst;
        for (int64_t s = 0; s < steps; s++, src += 2)
            for (int r = 0; r < block; r++, d += 2) {
                d[0] = (int8_t)(src[r * row_stride] ^ flip);
                d[1] = (int8_t)(src[r * row_stride + 1] ^ flip);
            }
        return steps * 2;
    }
    return 0;
}

static int32_t sum_row(const uint8_t *src, int64_t k_stride, int64_t depth, uint8_t flip)
{
    int32_t sum = 0; /* fits: depth is far below 2^24 */
    if (k_stride == 1)
        for (int64_t k = 0; k < depth; k++)
            sum += (int8_t)(src[k] ^ flip);
    else
        for (int64_t k = 0; k < depth; k++)
            sum += (int8_t)(src[k * k_stride] ^ flip);
    return sum;
}

void rq_gemm_pack_a(const rq_gemm_isa *g, void *dst, const uint8_t *src, int64_t row_stride, int64_t k_stride,
                    int64_t rows, int64_t depth, uint8_t flip, int32_t *row_sum)
{
    const int64_t steps = steps_of(g, depth);
    const int kr = g->kr;
    int8_t *d8 = dst;
    int16_t *d16 = dst;
    for (int64_t i0 = 0; i0 < rows; i0 += g->mr) {
        const int block = block_rows(g, rows - i0);
        const uint8_t *s = src + i0 * row_stride;
        int64_t done = 0;
        if (k_stride == 1 && rows - i0 >= block)
            done = pack_block(g, g->a_bytes == 1 ? (void *)d8 : d16, s, row_stride, block, depth, flip);
        for (int r = 0; r < block; r++) {
            const bool real = i0 + r < rows;
            for (int64_t k = done; k < steps * kr; k++) {
                const int8_t v = real && k < depth ? (int8_t)(s[r * row_stride + k * k_stride] ^ flip) : 0;
                const int64_t at = (k / kr * block + r) * kr + k % kr;
                if (g->a_bytes == 1)
                    d8[at] = v;
                else
                    d16[at] = v;
            }
            if (real && row_sum)
                row_sum[i0 + r] = sum_row(s + r * row_stride, k_stride, depth, flip);
        }
        d8 += steps * kr * block;
        d16 += steps * kr * block;
    }
}

int64_t rq_gemm_panels(const rq_gemm_isa *g, int64_t columns)
{
    int64_t vectors = (columns + g->lanes - 1) / g->lanes;
    return (vectors + g->max_vectors - 1) / g->max_vectors;
}

int64_t rq_gemm_panel(const rq_gemm_isa *g, int64_t columns, int64_t p, int *vectors)
{
    int64_t all = (columns + g->lanes - 1) / g->lanes, panels = rq_gemm_panels(g, columns);
    int64_t each = all / panels, more = all % panels; /* the first `more` panels have one vector more */
    *vectors = (int)(each + (p < more));
    return (p * each + min64(p, more)) * g->lanes;
}

size_t rq_gemm_b_bytes(const rq_gemm_isa *g, int64_t depth, int64_t columns)
{
    size_t padded = (size_t)((columns + g->lanes - 1) / g->lanes * g->lanes);
    return padded * (size_t)(steps_of(g, depth) * g->kr);
}

size_t rq_gemm_panel_bytes(const rq_gemm_isa *g, int64_t depth)
{
    return (size_t)(g->max_vectors * g->lanes) * (size_t)(steps_of(g, depth) * g->kr);
}

static const uint8_t zeros[RQ_GEMM_MAX_COLUMNS];

void rq_gemm_pack_panel(const rq_gemm_isa *g, uint8_t *panel, const uint8_t *src, int64_t k_stride, int64_t col_stride,
                        int64_t depth, int64_t columns, uint8_t flip)
{
    const int kr = g->kr;
    const int64_t padded = (columns + g->lanes - 1) / g->lanes * g->lanes;
    uint8_t row[RQ_GEMM_MAX_KR][RQ_GEMM_MAX_COLUMNS], flipped_zero[RQ_GEMM_MAX_COLUMNS];
    memset(flipped_zero, flip, sizeof flipped_zero);
    for (int64_t k = 0; k < depth; k += kr, panel += padded * kr) {
        const uint8_t *rows[RQ_GEMM_MAX_KR];
        for (int r = 0; r < kr; r++) {
            if (k + r >= depth) {
                rows[r] = flip ? flipped_zero : zeros;
            } else if (col_stride == 1) {
                rows[r] = src + (k + r) * k_stride;
            } else {
                for (int64_t j = 0; j < columns; j++)
                    row[r][j] = src[(k + r) * k_stride + j * col_stride];
                rows[r] = row[r];
            }
        }
        g->interleave(panel, rows, (size_t)columns, flip);
    }
}

void rq_gemm_pack_b(const rq_gemm_isa *g, uint8_t *dst, const uint8_t *src, int64_t k_stride, int64_t col_stride,
                    int64_t depth, int64_t columns, uint8_t flip)
{
    const int64_t steps = steps_of(g, depth);
    for (int64_t p = 0, n = rq_gemm_panels(g, columns); p < n; p++) {
        int vectors;
        int64_t first = rq_gemm_panel(g, columns, p, &vectors);
        rq_gemm_pack_panel(g, dst + first * steps * g->kr, src + first * col_stride, k_stride, col_stride, depth,
                           min64((int64_t)vectors * g->lanes, columns - first), flip);
    }
}

void rq_gemm_panel_sums(const rq_gemm_isa *g, int32_t *sum, const uint8_t *panel, int vectors, int64_t depth,
                        int64_t columns)
{
    enum { PART = 256 }; /* depth at a time; a multiple of every kr */
    int16_t ones[PART];  /* a row of A: the sums are its product with B */
    int32_t part[RQ_GEMM_MAX_COLUMNS];
    memset(sum, 0, (size_t)columns * sizeof *sum);
    for (int k = 0; k < PART; k++)
        ones[k] = g->a_bytes == 2 ? 1 : 0x0101;
    for (int64_t k = 0; k < depth; k += PART) {
        const int64_t steps = steps_of(g, min64(PART, depth - k));
        g->tile(part, RQ_GEMM_MAX_COLUMNS, ones, panel, (size_t)steps, 1, vectors);
        panel += steps * g->kr * vectors * g->lanes;
        for (int64_t j = 0; j < columns; j++)
            sum[j] = (int32_t)((uint32_t)sum[j] + (uint32_t)part[j]);
    }
}

/* ---- products ---- */

/* What differs from element to element: the zero points' cross terms and a whole matrix added. */
static void correct(const rq_gemm_out *o, int32_t *c, int64_t i, int64_t j0, int64_t n, const int32_t *col_sum)
{
    if (col_sum) {
        const uint32_t zero = (uint32_t)o->row_zero[i];
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] - zero * (uint32_t)col_sum[j]);
    }
    if (o->col_zero) {
        const uint32_t sum = (uint32_t)o->row_sum[i];
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] - sum * (uint32_t)o->col_zero[j0 + j]);
    }
    if (o->add) {
        const int32_t *add = o->add + i * o->add_row + j0 * o->add_col;
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] + (uint32_t)add[j * o->add_col]);
    }
}

/* f32(sum) * m, then + bias where there is one: two roundings (docs/onnx-facts.md 6.2). Loops with nothing to decide in
 * them. */
static void finish_f32(const rq_gemm_out *o, int32_t *restrict c, int64_t i, int64_t j0, int64_t n, uint32_t add)
{
    float *restrict y = (float *)o->y + i * o->ld + j0;
    const int32_t *col_add = o->col_add ? o->col_add + j0 : NULL;
    const float *col_m = o->col_m ? o->col_m + j0 : NULL, *col_bias = o->col_bias ? o->col_bias + j0 : NULL;
    if (col_add)
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] + (uint32_t)col_add[j]);
    if (col_m) {
        for (int64_t j = 0; j < n; j++)
            y[j] = (float)(int32_t)((uint32_t)c[j] + add) * col_m[j];
    } else {
        const float m = o->row_m[i];
        for (int64_t j = 0; j < n; j++)
            y[j] = (float)(int32_t)((uint32_t)c[j] + add) * m;
    }
    if (col_bias)
        for (int64_t j = 0; j < n; j++)
            y[j] += col_bias[j];
    if (o->row_bias) {
        const float bias = o->row_bias[i];
        for (int64_t j = 0; j < n; j++)
            y[j] += bias;
    }
}

/* y = round( (sum unit + bias) / y_scale ): the product of a 32 bit sum and two f32 scales is off by 2^-53 at most. */
static void finish_exact(const rq_gemm_out *o, const int32_t *c, int64_t i, int64_t j0, int64_t n, uint32_t add)
{
    for (int64_t j = 0; j < n; j++) {
        const uint32_t col = o->col_add ? (uint32_t)o->col_add[j0 + j] : 0;
        double v = (int32_t)((uint32_t)c[j] + add + col) * (o->row_unit ? o->row_unit[i] : o->col_unit[j0 + j]);
        v += o->row_bias ? (double)o->row_bias[i] : o->col_bias ? (double)o->col_bias[j0 + j] : 0;
        if (o->kind == RQ_GEMM_F32)
            ((float *)o->y)[i * o->ld + j0 + j] = (float)v;
        else
            ((uint8_t *)o->y)[i * o->ld + j0 + j] = (uint8_t)rq_quantize_real_f64(v / o->y_scale, o->zp, o->lo, o->hi);
    }
}

void rq_gemm_finish(const rq_kernels *k, const rq_gemm_out *o, int32_t *c, int64_t i, int64_t j0, int64_t n,
                    const int32_t *col_sum)
{
    const int32_t add = o->row_add ? o->row_add[i] : 0;
    correct(o, c, i, j0, n, col_sum);
    if (o->kind != RQ_GEMM_S32 && (o->row_unit || o->col_unit)) {
        finish_exact(o, c, i, j0, n, (uint32_t)add);
    } else if (o->kind == RQ_GEMM_F32) {
        finish_f32(o, c, i, j0, n, (uint32_t)add);
    } else if (o->kind == RQ_GEMM_S32) {
        int32_t *y = (int32_t *)o->y + i * o->ld + j0;
        for (int64_t j = 0; j < n; j++)
            y[j] = (int32_t)((uint32_t)c[j] + (uint32_t)add + (uint32_t)(o->col_add ? o->col_add[j0 + j] : 0));
    } else {
        uint8_t *y = (uint8_t *)o->y + i * o->ld + j0;
        if (o->col_m)
            k->requantize_cols(y, c, (size_t)n, add, o->col_add + j0, o->col_m + j0, o->zp, o->lo, o->hi);
        else
            k->requantize_rows(y, 0, c, 0, 1, (size_t)n, &add, o->row_m + i, o->zp, o->lo, o->hi);
    }
}

/* One panel against rows from..to-1; from is a multiple of mr. */
static void run_panel(const rq_gemm *g, const uint8_t *panel, int64_t p, int64_t from, int64_t to)
{
    const rq_gemm_isa *isa = &g->k->gemm;
    const int64_t steps = steps_of(isa, g->depth);
    int vectors;
    const int64_t j0 = rq_gemm_panel(isa, g->columns, p, &vectors);
    const int64_t n = min64((int64_t)vectors * isa->lanes, g->columns - j0);
    int32_t sums[RQ_GEMM_MAX_COLUMNS], *col_sum = NULL;
    if (g->out.row_zero) {
        rq_gemm_panel_sums(isa, sums, panel, vectors, g->depth, n);
        col_sum = sums;
    }
    _Alignas(64) int32_t c[RQ_GEMM_MAX_MR * RQ_GEMM_MAX_COLUMNS];
    const size_t row_bytes = (size_t)(steps * isa->kr * isa->a_bytes);
    const rq_gemm_out *o = &g->out; /* plain: a convolution's, with everything per row */
    const bool plain =
        o->kind == RQ_GEMM_CODES && o->row_add && o->row_m && !o->row_unit && !col_sum && !o->col_zero && !o->add;
    for (int64_t i = from; i < to; i += isa->mr) {
        const int rows = block_rows(isa, g->rows - i);
        isa->tile(c, RQ_GEMM_MAX_COLUMNS, (const char *)g->a + (size_t)i * row_bytes, panel, (size_t)steps, rows,
                  vectors);
        const int64_t n_rows = min64(rows, to - i);
        if (plain) {
            g->k->requantize_rows((uint8_t *)o->y + i * o->ld + j0, (size_t)o->ld, c, RQ_GEMM_MAX_COLUMNS,
                                  (size_t)n_rows, (size_t)n, o->row_add + i, o->row_m + i, o->zp, o->lo, o->hi);
            continue;
        }
        for (int64_t r = 0; r < n_rows; r++)
            rq_gemm_finish(g->k, o, c + r * RQ_GEMM_MAX_COLUMNS, i + r, j0, n, col_sum);
    }
}

/* Scratch that packs B on the way starts with one flag per slot. */
typedef struct run_state {
    const rq_gemm *g;
    const uint8_t *b;      /* packed whole */
    int64_t panels, parts; /* an item is (panel, part of the rows) */
    int64_t part_rows;     /* a multiple of mr */
    size_t panel_bytes;
    atomic_flag *busy; /* [slots] */
    uint8_t *slots;
    int n_slots;
} run_state;

static size_t flags_bytes(int n)
{
    return ((size_t)n * sizeof(atomic_flag) + 63) & ~(size_t)63;
}

static void run_packed(void *arg, int64_t item)
{
    const run_state *s = arg;
    const rq_gemm *g = s->g;
    const int64_t p = item / s->parts, from = item % s->parts * s->part_rows;
    int vectors;
    const int64_t j0 = rq_gemm_panel(&g->k->gemm, g->columns, p, &vectors);
    run_panel(g, s->b + j0 * steps_of(&g->k->gemm, g->depth) * g->k->gemm.kr, p, from,
              min64(from + s->part_rows, g->rows));
}

static void pack_item(void *arg, int64_t p)
{
    const run_state *s = arg;
    const rq_gemm *g = s->g;
    int vectors;
    const int64_t j0 = rq_gemm_panel(&g->k->gemm, g->columns, p, &vectors);
    g->fill(g->fill_arg, s->slots + j0 * steps_of(&g->k->gemm, g->depth) * g->k->gemm.kr, p);
}

static void run_filling(void *arg, int64_t p)
{
    const run_state *s = arg;
    int slot = 0; /* at most n_slots threads are here, so one is free */
    while (atomic_flag_test_and_set_explicit(&s->busy[slot], memory_order_acquire))
        slot = (slot + 1) % s->n_slots;
    uint8_t *panel = s->slots + (size_t)slot * s->panel_bytes;
    s->g->fill(s->g->fill_arg, panel, p);
    run_panel(s->g, panel, p, 0, s->g->rows);
    atomic_flag_clear_explicit(&s->busy[slot], memory_order_release);
}

size_t rq_gemm_scratch(const rq_gemm_isa *g, int64_t depth, int64_t columns, int threads)
{
    if (rq_gemm_panels(g, columns) < FEW_PANELS)
        return rq_gemm_b_bytes(g, depth, columns);
    return flags_bytes(threads) + (size_t)threads * rq_gemm_panel_bytes(g, depth);
}

void rq_gemm_run(const rq_gemm *g, rq_threads *t)
{
    const rq_gemm_isa *isa = &g->k->gemm;
    if (g->rows == 0 || g->columns == 0)
        return;
    run_state s = { .g = g, .b = g->b, .panels = rq_gemm_panels(isa, g->columns), .parts = 1 };
    const int64_t blocks = (g->rows + isa->mr - 1) / isa->mr;
    rq_threads *workers = (double)g->rows * (double)g->columns * (double)g->depth < SMALL_WORK ? NULL : t;
    if (s.panels < FEW_PANELS)
        s.parts = min64((FEW_PANELS + s.panels - 1) / s.panels, blocks);
    const int64_t part_blocks = (blocks + s.parts - 1) / s.parts;
    s.part_rows = part_blocks * isa->mr;
    s.parts = (blocks + part_blocks - 1) / part_blocks;
    if (!g->b && s.panels >= FEW_PANELS) {
        s.n_slots = rq_threads_count(t);
        s.busy = g->scratch;
        s.slots = (uint8_t *)g->scratch + flags_bytes(s.n_slots);
        s.panel_bytes = rq_gemm_panel_bytes(isa, g->depth);
        for (int i = 0; i < s.n_slots; i++)
            atomic_flag_clear(&s.busy[i]);
        rq_threads_for(workers, s.panels, run_filling, &s);
        return;
    }
    if (!g->b) {
        s.slots = g->scratch;
        rq_threads_for(workers, s.panels, pack_item, &s);
        s.b = s.slots;
    }
    rq_threads_for(workers, s.panels * s.parts, run_packed, &s);
}
