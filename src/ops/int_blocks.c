/* ops/int_blocks.c — see int_blocks.h. An item of work is one panel of columns against some rows: it goes through all
 * blocks with its f32 sums at hand, calling the integer tile once per block. */
#include "ops/int_blocks.h"

#include <string.h>

#include "base/mem.h"
#include "ops/int_ops.h"

enum { ITEM_ROWS = 64 }; /* a multiple of every mr */

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
                           .flip_w = rq_int_flip_to_u8(codes) };
    const size_t n = (size_t)p->n_blocks * (size_t)columns;
    p->w_bytes = rq_mem_round(rq_gemm_b_bytes(&k->gemm, block, columns));
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
    const rq_gemm_isa *g = &p->k->gemm;
    uint8_t *w = p->w + (size_t)b * p->w_bytes;
    const int64_t depth = depth_of(p, b), padded = (depth + g->kr - 1) / g->kr * g->kr;
    rq_gemm_pack_b(g, w, codes, k_stride, col_stride, depth, p->columns, p->flip_w);
    for (int64_t i = 0, n = rq_gemm_panels(g, p->columns); i < n; i++) {
        int vectors;
        const int64_t first = rq_gemm_panel(g, p->columns, i, &vectors);
        rq_gemm_panel_sums(g, p->sum + b * p->columns + first, w + first * padded, vectors, depth,
                           min64((int64_t)vectors * g->lanes, p->columns - first));
    }
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

/* Scratch: x packed block after block, then the sums of its rows, [n_blocks][rows]. */
static size_t x_block_bytes(const rq_int_blocks *p, int64_t rows)
{
    return rq_mem_round(rq_gemm_a_bytes(&p->k->gemm, rows, p->block));
}

size_t rq_int_blocks_scratch(const rq_int_blocks *p, int64_t rows)
{
    return (size_t)p->n_blocks * (x_block_bytes(p, rows) + rq_mem_round((size_t)rows * sizeof(int32_t)));
}

typedef struct run {
    const rq_int_blocks *p;
    const rq_int_blocks_job *j;
    char *x;
    int32_t *row_sum;
    size_t x_bytes;
    int64_t sum_stride, parts;
    int32_t zero;
} run;

static size_t row_bytes(const rq_gemm_isa *g, int64_t depth)
{
    return (size_t)((depth + g->kr - 1) / g->kr * g->kr * g->a_bytes);
}

static void pack_rows(void *arg, int64_t item)
{
    const run *r = arg;
    const rq_gemm_isa *g = &r->p->k->gemm;
    const int64_t b = item / r->parts, first = item % r->parts * ITEM_ROWS, n = min64(ITEM_ROWS, r->j->rows - first);
    const int64_t depth = depth_of(r->p, b);
    rq_gemm_pack_a(g, r->x + (size_t)b * r->x_bytes + (size_t)first * row_bytes(g, depth),
                   r->j->x + first * r->p->depth + b * r->p->block, r->p->depth, 1, n, depth,
                   rq_int_flip_to_s8(r->j->x_dtype), r->row_sum + b * r->sum_stride + first);
}

/* y[c] += f32(sum[c] - all - zx w_sum[c] - zw[c] row) * f32(sx scale[c]): `all` is what every column has in common, row
 * the sum of x's row, K zx taken off. Most weights have one zero point and most x of level 4 none: less to do. */
static void add_block(float *restrict y, const int32_t *restrict sum, const int32_t *restrict w_sum,
                      const int32_t *restrict zw, const float *restrict scale, int64_t n, uint32_t zx, uint32_t row,
                      uint32_t all, float sx)
{
    if (zw)
        for (int64_t c = 0; c < n; c++) {
            const uint32_t v = (uint32_t)sum[c] - all - zx * (uint32_t)w_sum[c] - (uint32_t)zw[c] * row;
            y[c] += (float)(int32_t)v * (sx * scale[c]);
        }
    else if (zx)
        for (int64_t c = 0; c < n; c++)
            y[c] += (float)(int32_t)((uint32_t)sum[c] - all - zx * (uint32_t)w_sum[c]) * (sx * scale[c]);
    else
        for (int64_t c = 0; c < n; c++)
            y[c] += (float)(int32_t)((uint32_t)sum[c] - all) * (sx * scale[c]);
}

static void run_item(void *arg, int64_t item)
{
    const run *r = arg;
    const rq_int_blocks *p = r->p;
    const rq_gemm_isa *g = &p->k->gemm;
    const int64_t panel = item / r->parts, from = item % r->parts * ITEM_ROWS;
    const int64_t to = min64(from + ITEM_ROWS, r->j->rows);
    int vectors;
    const int64_t j0 = rq_gemm_panel(g, p->columns, panel, &vectors);
    const int64_t n = min64((int64_t)vectors * g->lanes, p->columns - j0);
    _Alignas(64) int32_t c[RQ_GEMM_MAX_MR * RQ_GEMM_MAX_COLUMNS];
    _Alignas(64) float y[RQ_GEMM_MAX_MR * RQ_GEMM_MAX_COLUMNS];
    for (int64_t i = from; i < to; i += g->mr) {
        int rows = 1; /* of the tile: the next power of two */
        while (rows < g->mr && rows < r->j->rows - i)
            rows *= 2;
        const int64_t real = min64(rows, to - i);
        memset(y, 0, sizeof y);
        for (int64_t b = 0; b < p->n_blocks; b++) {
            const int64_t depth = depth_of(p, b), steps = (depth + g->kr - 1) / g->kr;
            g->tile(c, RQ_GEMM_MAX_COLUMNS, r->x + (size_t)b * r->x_bytes + (size_t)i * row_bytes(g, depth),
                    p->w + (size_t)b * p->w_bytes + j0 * steps * g->kr, (size_t)steps, rows, vectors);
            const int64_t at = b * p->columns + j0;
            for (int64_t k = 0; k < real; k++) {
                const uint32_t row =
                    (uint32_t)r->row_sum[b * r->sum_stride + i + k] - (uint32_t)depth * (uint32_t)r->zero;
                const uint32_t zero = (uint32_t)(p->zero ? 0 : p->one) + (p->flip_w ? 128 : 0); /* of every column */
                const float sx = r->j->x_scale[r->j->each ? (i + k) * p->n_blocks + b : 0];
                add_block(y + k * RQ_GEMM_MAX_COLUMNS, c + k * RQ_GEMM_MAX_COLUMNS, p->sum + at,
                          p->zero ? p->zero + at : NULL, p->scale + at, n, (uint32_t)r->zero, row, zero * row, sx);
            }
        }
        for (int64_t k = 0; k < real; k++)
            for (int64_t q = 0; q < n; q++)
                r->j->y[(i + k) * p->columns + j0 + q] =
                    y[k * RQ_GEMM_MAX_COLUMNS + q] + (r->j->bias ? r->j->bias[j0 + q] : 0);
    }
}

void rq_int_blocks_run(const rq_int_blocks *p, const rq_int_blocks_job *j, void *scratch, rq_threads *t)
{
    run r = { .p = p, .j = j, .x = scratch, .x_bytes = x_block_bytes(p, j->rows) };
    if (j->rows == 0 || p->columns == 0)
        return;
    r.row_sum = (int32_t *)(r.x + (size_t)p->n_blocks * r.x_bytes);
    r.sum_stride = (int64_t)(rq_mem_round((size_t)j->rows * sizeof(int32_t)) / sizeof(int32_t));
    r.parts = (j->rows + ITEM_ROWS - 1) / ITEM_ROWS;
    r.zero = j->x_zero - (rq_int_flip_to_s8(j->x_dtype) ? 128 : 0);
    rq_threads_for(t, p->n_blocks * r.parts, pack_rows, &r);
    rq_threads_for(t, rq_gemm_panels(&p->k->gemm, p->columns) * r.parts, run_item, &r);
}
