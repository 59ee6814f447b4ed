/* ops/int_blocks.c — see int_blocks.h. An item of work is one panel of columns against some rows: it goes through all
 * blocks with its f32 sums at hand, calling the integer tile once per block. */
#include "ops/int_blocks.h"

#include <string.h>

#include "base/mem.h"
#include "ops/int_weights.h"

enum { ITEM_ROWS = 64 }; /* about */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void rq_int_blocks_release(rq_int_blocks *p)
{
    rq_mem_free(p->w);
    rq_mem_free(p->scale);
    rq_mem_free(p->zero);
    rq_mem_free(p->sum);
    *p = (rq_int_blocks) { 0 };
}

bool rq_int_blocks_fit(int64_t block, int64_t depth)
{
    return min64(block, depth) <= INT32_MAX / (255 * 255);
}

rq_status rq_int_blocks_init(rq_int_blocks *p, const rq_kernels *k, rq_dtype codes, int64_t depth, int64_t block,
                             int64_t columns)
{
    block = min64(block, depth ? depth : 1);
    *p = (rq_int_blocks) { .k = k,
                           .depth = depth,
                           .block = block,
                           .n_blocks = (depth + block - 1) / block,
                           .columns = columns,
                           .codes = codes };
    const size_t n = (size_t)p->n_blocks * (size_t)columns;
    p->w_bytes = rq_mem_round(rq_qgemm_w_bytes(&k->qgemm, 1, block, columns));
    p->w = rq_mem_alloc((size_t)p->n_blocks, p->w_bytes);
    p->scale = rq_mem_alloc(n, sizeof *p->scale);
    p->zero = rq_mem_alloc(n, sizeof *p->zero);
    p->sum = rq_mem_alloc(n, sizeof *p->sum);
    if (p->w && p->scale && p->zero && p->sum)
        return RQ_OK;
    rq_int_blocks_release(p);
    return RQ_NO_MEMORY;
}

static int64_t depth_of(const rq_int_blocks *p, int64_t b)
{
    return min64(p->block, p->depth - b * p->block);
}

void rq_int_blocks_pack(rq_int_blocks *p, int64_t b, const uint8_t *codes, int64_t k_stride, int64_t col_stride)
{
    rq_qgemm_pack(&p->k->qgemm, p->w + (size_t)b * p->w_bytes, codes, 0, k_stride, col_stride, 1, depth_of(p, b),
                  p->columns, p->codes == RQ_DTYPE_U8 ? 0x80 : 0, p->sum + b * p->columns);
}

void rq_int_blocks_settle(rq_int_blocks *p)
{
    const int64_t n = p->n_blocks * p->columns;
    for (int64_t i = 1; i < n; i++)
        if (p->zero[i] != p->zero[0])
            return;
    p->one = n ? p->zero[0] : 0;
    rq_mem_free(p->zero);
    p->zero = NULL;
}

/* ---- running ---- */

/* Scratch: x as u8, then the sums of the parts of its rows, [n_blocks][rows]. */
static size_t x_bytes(const rq_int_blocks *p, int64_t rows)
{
    return rq_mem_round((size_t)(rows * p->depth));
}

size_t rq_int_blocks_scratch(const rq_int_blocks *p, int64_t rows)
{
    return x_bytes(p, rows) + (size_t)p->n_blocks * rq_mem_round((size_t)rows * sizeof(int32_t));
}

typedef struct run {
    const rq_int_blocks *p;
    const rq_int_blocks_job *j;
    const uint8_t *x;
    int64_t x_stride;
    int32_t *row_sum;
    int64_t sum_stride, parts;
    int32_t zx;
} run;

static void sum_rows(void *arg, int64_t item)
{
    const run *r = arg;
    const int64_t b = item / r->parts, first = item % r->parts * ITEM_ROWS, n = min64(ITEM_ROWS, r->j->rows - first);
    r->p->k->row_sums(r->row_sum + b * r->sum_stride + first, r->x + first * r->x_stride + b * r->p->block,
                      (size_t)r->x_stride, (size_t)n, (size_t)depth_of(r->p, b));
}

/* y[c] += f32(sum[c] - all - zw[c] row) * f32(sx scale[c]): `all` is what every column has in common, row the sum of x's row, K zx taken off. Most
 * weights have one zero point: less to do. What zx takes per column is in the sums. */
static void add_block(float *restrict y, const int32_t *restrict sum, const int32_t *restrict zw,
                      const float *restrict scale, int64_t n, uint32_t row, uint32_t all, float sx)
{
    if (zw)
        for (int64_t c = 0; c < n; c++)
            y[c] += (float)(int32_t)((uint32_t)sum[c] - all - (uint32_t)zw[c] * row) * (sx * scale[c]);
    else
        for (int64_t c = 0; c < n; c++)
            y[c] += (float)(int32_t)((uint32_t)sum[c] - all) * (sx * scale[c]);
}

/* Rows i..i+rows-1 by one panel, columns j0..j0+n-1. */
static void run_tile(const run *r, int64_t i, int rows, int64_t j0, int64_t n, int vectors)
{
    const rq_int_blocks *p = r->p;
    const rq_qgemm_isa *g = &p->k->qgemm;
    const int padded = vectors * g->lanes;
    const uint32_t common = (uint32_t)rq_int_weights_zero(p->codes, p->zero ? 0 : p->one);
    _Alignas(64) int32_t c[RQ_QGEMM_MAX_ROWS * RQ_QGEMM_MAX_COLUMNS], init[RQ_QGEMM_MAX_COLUMNS] = { 0 };
    _Alignas(64) float y[RQ_QGEMM_MAX_ROWS * RQ_QGEMM_MAX_COLUMNS];
    const uint8_t *x[RQ_QGEMM_MAX_ROWS];
    memset(y, 0, (size_t)(rows * padded) * sizeof *y);
    for (int64_t b = 0; b < p->n_blocks; b++) {
        const int64_t depth = depth_of(p, b), at = b * p->columns + j0;
        for (int64_t q = 0; q < n; q++)
            init[q] = (int32_t)(0 - (uint32_t)r->zx * (uint32_t)p->sum[at + q]);
        for (int q = 0; q < rows; q++)
            x[q] = r->x + (i + q) * r->x_stride + b * p->block;
        const size_t column_bytes = rq_qgemm_w_bytes(g, 1, depth, g->lanes) / (size_t)g->lanes;
        g->tile(c, (size_t)padded, x, 1, (size_t)depth, p->w + (size_t)b * p->w_bytes + (size_t)j0 * column_bytes, init,
                rows, vectors);
        for (int q = 0; q < rows; q++) {
            const uint32_t row = (uint32_t)r->row_sum[b * r->sum_stride + i + q] - (uint32_t)depth * (uint32_t)r->zx;
            const float sx = r->j->x_scale[r->j->each ? (i + q) * p->n_blocks + b : 0];
            add_block(y + q * padded, c + q * padded, p->zero ? p->zero + at : NULL, p->scale + at, n, row,
                      common * row, sx);
        }
    }
    for (int q = 0; q < rows; q++)
        for (int64_t k = 0; k < n; k++)
            r->j->y[(i + q) * p->columns + j0 + k] = y[q * padded + k] + (r->j->bias ? r->j->bias[j0 + k] : 0);
}

static void run_item(void *arg, int64_t item)
{
    const run *r = arg;
    const rq_qgemm_isa *g = &r->p->k->qgemm;
    const int64_t panel = item / r->parts, from = item % r->parts * ITEM_ROWS;
    const int64_t to = min64(from + ITEM_ROWS, r->j->rows);
    int vectors;
    const int64_t j0 = rq_qgemm_panel(g, r->p->columns, panel, &vectors);
    const int64_t n = min64((int64_t)vectors * g->lanes, r->p->columns - j0);
    for (int64_t i = from; i < to; i += g->max_rows)
        run_tile(r, i, (int)min64(g->max_rows, to - i), j0, n, vectors);
}

void rq_int_blocks_run(const rq_int_blocks *p, const rq_int_blocks_job *j, void *scratch, rq_threads *t)
{
    run r = { .p = p, .j = j };
    if (j->rows == 0 || p->columns == 0)
        return;
    r.x = rq_int_rows(scratch, j->x, j->x_dtype, p->depth, 1, j->rows, p->depth, &r.x_stride, t);
    r.row_sum = (int32_t *)((char *)scratch + x_bytes(p, j->rows));
    r.sum_stride = (int64_t)(rq_mem_round((size_t)j->rows * sizeof(int32_t)) / sizeof(int32_t));
    r.parts = (j->rows + ITEM_ROWS - 1) / ITEM_ROWS;
    r.zx = rq_int_rows_zero(j->x_dtype, j->x_zero);
    rq_threads_for(t, p->n_blocks * r.parts, sum_rows, &r);
    rq_threads_for(t, rq_qgemm_panels(&p->k->qgemm, p->columns) * r.parts, run_item, &r);
}
