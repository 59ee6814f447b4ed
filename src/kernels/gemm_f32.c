/* kernels/gemm_f32.c — float matrix products of any size and layout, made of strips: up to 64 rows against one panel of
 * columns, over the whole depth. B is packed a piece of the depth at a time, small enough to stay in the first-level
 * cache while all rows of the strip pass over it; A is read where it lies. */
#include "kernels/gemm_f32.h"

#include <string.h>

#include "kernels/float_dnnl.h"
#include "kernels/kernels.h"

enum {
    PIECE_MACS = 2000000, /* work that is worth a piece */
    MAX_PIECES = 16,      /* of one product */
    PACKED_ROWS = 12,     /* from here on packing B pays although it could be read in place */
};

/* ---- strips ---- */

int rq_gemm_f32_panel(const rq_kernels *k, int64_t rows)
{
    const rq_gemm_f32_isa *g = &k->gemm_f32;
    return g->lanes * g->vectors[rows < 3 ? rows - 1 : 2];
}

/* to[k][j] = b[k * b_k + j * b_j] for k < depth and j < columns, filled up with zeros to ld. One of the steps is 1. */
static void pack(const rq_gemm_f32_isa *g, float *to, int ld, const float *b, ptrdiff_t b_k, ptrdiff_t b_j, int depth,
                 int columns)
{
    for (int j = columns; j < ld; j++)
        for (int k = 0; k < depth; k++)
            to[k * ld + j] = 0;
    if (b_j == 1)
        g->copy(to, ld, b, b_k, depth, columns);
    else
        g->transpose(to, ld, b, b_j, depth, columns);
}

/* steps[k] = k * step: what of a depth of `n` can be reached so, at least one. */
static int fill_steps(int32_t *steps, ptrdiff_t step, int n)
{
    int k = 0;
    for (; k < n && k * step <= INT32_MAX; k++)
        steps[k] = (int32_t)(k * step);
    return k;
}

void rq_gemm_f32_strip_run(const rq_gemm_f32_strip *s, float *c, size_t ldc, const float *start, int rows, int columns)
{
    static const float zeros[RQ_GEMM_F32_ROWS];
    const rq_gemm_f32_isa *g = &s->k->gemm_f32;
    const int vectors = (columns + g->lanes - 1) / g->lanes, ld = vectors * g->lanes;
    const bool in_place = s->b_j == 1 && columns == ld && rows < PACKED_ROWS && s->b_k < INT32_MAX / RQ_GEMM_F32_DEPTH;
    /* rows spread evenly over tiles: none is left with few chains */
    const int max_rows = vectors > g->vectors[1] ? 1 : vectors > g->vectors[2] ? 2 : g->rows;
    const int tiles = (rows + max_rows - 1) / max_rows;

    for (int i = 0; s->depth == 0 && i < rows; i++)
        for (int j = 0; j < ld; j++)
            c[(size_t)i * ldc + j] = start ? start[i] : 0;
    _Alignas(64) float packed[RQ_GEMM_F32_PACK];
    int32_t a_off[RQ_GEMM_F32_DEPTH], mine[RQ_GEMM_F32_DEPTH];
    int at_once = RQ_GEMM_F32_PACK / ld < RQ_GEMM_F32_DEPTH ? RQ_GEMM_F32_PACK / ld : RQ_GEMM_F32_DEPTH;
    at_once = fill_steps(a_off, s->a_row ? s->a_k : g->rows, at_once);
    if (!s->off)
        fill_steps(mine, in_place ? s->b_k : ld, at_once);
    for (int64_t k0 = 0; k0 < s->depth; k0 += at_once) {
        const int depth = s->depth - k0 < at_once ? (int)(s->depth - k0) : at_once;
        const float *b = s->off ? s->b : s->b + k0 * s->b_k;
        const int32_t *off = s->off ? s->off + k0 : mine;
        if (!s->off && !in_place) {
            pack(g, packed, ld, b, s->b_k, s->b_j, depth, columns);
            b = packed;
        }
        const float *from = k0 ? NULL : start ? start : zeros;
        for (int i = 0, n = 0; n < tiles; n++) {
            const int take = (rows - i) / (tiles - n);
            const float *a = s->a_row ? s->a + i * s->a_row + k0 * s->a_k : s->a + (n * s->depth + k0) * g->rows;
            g->tile(c + (size_t)i * ldc, ldc, from ? from + i : NULL, a, s->a_row ? s->a_row : 1, a_off, b, off,
                    (size_t)depth, take, vectors);
            i += take;
        }
    }
}

/* ---- constants ---- */

int64_t rq_gemm_f32_packed_rows(const rq_kernels *k, int rows, int64_t depth)
{
    const int most = k->gemm_f32.rows;
    return (rows + most - 1) / most * most * depth;
}

void rq_gemm_f32_pack_rows(const rq_kernels *k, float *to, const float *a, int rows, int64_t depth)
{
    const int most = k->gemm_f32.rows, tiles = (rows + most - 1) / most;
    for (int i = 0, n = 0; n < tiles; n++, to += most * depth) {
        const int take = (rows - i) / (tiles - n);
        for (int64_t d = 0; d < depth; d++)
            for (int r = 0; r < most; r++)
                to[d * most + r] = r < take ? a[(i + r) * depth + d] : 0;
        i += take;
    }
}

int64_t rq_gemm_f32_panels(const rq_kernels *k, int64_t columns)
{
    const int64_t lanes = k->gemm_f32.lanes, most = k->gemm_f32.vectors[2];
    return ((columns + lanes - 1) / lanes + most - 1) / most;
}

int64_t rq_gemm_f32_panel_at(const rq_kernels *k, int64_t columns, int64_t i)
{
    const int64_t lanes = k->gemm_f32.lanes;
    return (columns + lanes - 1) / lanes * i / rq_gemm_f32_panels(k, columns) * lanes;
}

int64_t rq_gemm_f32_packed_columns(const rq_kernels *k, int64_t columns, int64_t depth)
{
    return rq_gemm_f32_panel_at(k, columns, rq_gemm_f32_panels(k, columns)) * depth;
}

void rq_gemm_f32_pack_columns(const rq_kernels *k, float *to, const float *b, ptrdiff_t b_k, ptrdiff_t b_j,
                              int64_t columns, int64_t depth)
{
    for (int64_t i = 0, n = rq_gemm_f32_panels(k, columns); i < n; i++) {
        const int64_t j0 = rq_gemm_f32_panel_at(k, columns, i), j1 = rq_gemm_f32_panel_at(k, columns, i + 1);
        const int ld = (int)(j1 - j0), there = (int)((j1 < columns ? j1 : columns) - j0);
        for (int64_t d = 0; d < depth; d += RQ_GEMM_F32_DEPTH) {
            const int some = depth - d < RQ_GEMM_F32_DEPTH ? (int)(depth - d) : RQ_GEMM_F32_DEPTH;
            pack(&k->gemm_f32, to + j0 * depth + d * ld, ld, b + d * b_k + j0 * b_j, b_k, b_j, some, there);
        }
    }
}

/* ---- products ---- */

typedef struct gemm_job {
    const rq_kernels *k;
    float *c;
    const float *a, *b;
    const int64_t *c_at, *a_at, *b_at; /* NULL: one product */
    int64_t m, n, depth;
    ptrdiff_t a_row, a_k, b_k, b_j, c_row, c_j;
    float alpha, beta;
    bool plain; /* C is the chains themselves, rows contiguous */
    int panel;
    int64_t row_step, col_step, row_cuts, col_cuts; /* pieces of one product */
} gemm_job;

/* Rows and columns of C from a strip. */
static void put(const gemm_job *j, float *c, const float *acc, int ld, int rows, int columns)
{
    if (j->plain) {
        j->k->gemm_f32.copy(c, j->c_row, acc, ld, rows, columns);
        return;
    }
    for (int i = 0; i < rows; i++)
        for (int q = 0; q < columns; q++) {
            float *to = c + i * j->c_row + q * j->c_j;
            const float v =
                j->alpha * acc[i * ld + q]; /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): written */
            *to = j->beta == 0 ? v : j->beta * *to + v;
        }
}

static void product_item(void *arg, int64_t item)
{
    const gemm_job *j = arg;
    const int64_t cuts = j->row_cuts * j->col_cuts, which = item / cuts, cut = item % cuts;
    const int64_t r0 = cut / j->col_cuts * j->row_step, q0 = cut % j->col_cuts * j->col_step;
    const int64_t r1 = r0 + j->row_step < j->m ? r0 + j->row_step : j->m;
    const int64_t q1 = q0 + j->col_step < j->n ? q0 + j->col_step : j->n;
    const float *a = j->a + (j->a_at ? j->a_at[which] : 0), *b = j->b + (j->b_at ? j->b_at[which] : 0);
    float *c = j->c + (j->c_at ? j->c_at[which] : 0);
    const int lanes = j->k->gemm_f32.lanes;
    const int64_t vectors = (q1 - q0 + lanes - 1) / lanes, most = j->panel / lanes;
    const int64_t panels = (vectors + most - 1) / most;
    _Alignas(64) float acc[RQ_GEMM_F32_ROWS * 48];
    rq_gemm_f32_strip s = {
        .k = j->k, .a_row = j->a_row, .a_k = j->a_k, .b_k = j->b_k, .b_j = j->b_j, .depth = j->depth
    };
    for (int64_t r = r0; r < r1; r += RQ_GEMM_F32_ROWS)
        for (int64_t p = 0, q = q0; p < panels; p++) {
            const int64_t v0 = vectors * p / panels, v1 = vectors * (p + 1) / panels;
            const int rows = (int)(r1 - r < RQ_GEMM_F32_ROWS ? r1 - r : RQ_GEMM_F32_ROWS);
            const int columns = (int)(q + (v1 - v0) * lanes < q1 ? (v1 - v0) * lanes : q1 - q);
            s.a = a + r * j->a_row;
            s.b = b + q * j->b_j;
            float *to = c + r * j->c_row + q * j->c_j;
            const int ld = (columns + lanes - 1) / lanes * lanes;
            if (j->plain && ld == columns) {
                rq_gemm_f32_strip_run(&s, to, (size_t)j->c_row, NULL, rows, columns);
            } else {
                rq_gemm_f32_strip_run(&s, acc, (size_t)ld, NULL, rows, columns);
                put(j, to, acc, ld, rows, columns);
            }
            q += columns;
        }
}

static void swap(ptrdiff_t *a, ptrdiff_t *b)
{
    const ptrdiff_t t = *a;
    *a = *b;
    *b = t;
}

rq_status rq_gemm_f32_batch(const rq_kernels *K, float *c, const float *a, const float *b, const int64_t *c_at,
                            const int64_t *a_at, const int64_t *b_at, int64_t count, bool trans_a, bool trans_b,
                            int64_t m, int64_t n, int64_t k, float alpha, int64_t lda, int64_t ldb, float beta,
                            int64_t ldc, rq_threads *t)
{
    if (m == 0 || n == 0 || count == 0)
        return RQ_OK;
    if (k == 0) {
        for (int64_t i = 0; i < count; i++)
            for (int64_t r = 0; r < m; r++)
                for (int64_t q = 0; q < n; q++) {
                    float *at = c + (c_at ? c_at[i] : 0) + r * ldc + q;
                    *at = beta == 0 ? 0 : *at * beta;
                }
        return RQ_OK;
    }
    if (K->library)
        return rq_float_dnnl_gemm(c, a, b, c_at, a_at, b_at, count, trans_a, trans_b, m, n, k, alpha, lda, ldb, beta,
                                  ldc, t);
    gemm_job j = { .k = K,
                   .c = c,
                   .a = a,
                   .b = b,
                   .c_at = c_at,
                   .a_at = a_at,
                   .b_at = b_at,
                   .m = m,
                   .n = n,
                   .depth = k,
                   .a_row = trans_a ? 1 : lda,
                   .a_k = trans_a ? lda : 1,
                   .b_k = trans_b ? 1 : ldb,
                   .b_j = trans_b ? ldb : 1,
                   .c_row = ldc,
                   .c_j = 1,
                   .alpha = alpha,
                   .beta = beta };
    if (n < m && n < K->gemm_f32.lanes) { /* a narrow result: the same sums the other way round, vectors along m */
        j.a = b;
        j.b = a;
        j.a_at = b_at;
        j.b_at = a_at;
        j.m = n;
        j.n = m;
        swap(&j.a_row, &j.b_j);
        swap(&j.a_k, &j.b_k);
        swap(&j.c_row, &j.c_j);
    }
    j.plain = j.c_j == 1 && alpha == 1 && beta == 0;
    j.panel = rq_gemm_f32_panel(K, j.m);
    /* Pieces of at least PIECE_MACS, at most MAX_PIECES: columns in whole panels, and rows in whole strips where there are too
     * few of those. */
    const double macs = (double)m * (double)n * (double)k;
    const int64_t want = macs >= (double)PIECE_MACS * MAX_PIECES ? MAX_PIECES : 1 + (int64_t)(macs / PIECE_MACS);
    j.col_step = ((j.n + want - 1) / want + j.panel - 1) / j.panel * j.panel;
    j.col_cuts = (j.n + j.col_step - 1) / j.col_step;
    const int64_t rows_want = want / j.col_cuts;
    j.row_step = ((j.m + rows_want - 1) / rows_want + RQ_GEMM_F32_ROWS - 1) / RQ_GEMM_F32_ROWS * RQ_GEMM_F32_ROWS;
    j.row_cuts = (j.m + j.row_step - 1) / j.row_step;
    rq_threads_for(t, count * j.row_cuts * j.col_cuts, product_item, &j);
    return RQ_OK;
}

rq_status rq_gemm_f32(const rq_kernels *K, float *c, const float *a, const float *b, bool trans_a, bool trans_b,
                      int64_t m, int64_t n, int64_t k, float alpha, int64_t lda, int64_t ldb, float beta, int64_t ldc,
                      rq_threads *t)
{
    return rq_gemm_f32_batch(K, c, a, b, NULL, NULL, NULL, 1, trans_a, trans_b, m, n, k, alpha, lda, ldb, beta, ldc, t);
}
