/* ops/int_attend.c — the products of attention on codes (ops/attend.h), made of the tiles that MatMul is made of:
 *
 *   q k^T    sums of codes, times one factor: what dequantized operands would give, without their rounding
 *   e v      e = exp(score - largest of its row) is rounded to 16 bits, so that a row of many small shares keeps them;
 *            its bytes are two planes, rows of one product; 256 high + low is divided by the sum of the same codes
 *
 * Same bits on every instruction set: sums are whole numbers, and what is float in between is the same everywhere. */
#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/attend.h"
#include "ops/int_ops.h"

#include <string.h>

enum { SHARE_MAX = 65535 };

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Scratch of one block; the two products use it one after the other. */
typedef struct layout {
    size_t b, planes, codes, sums, rows, columns, reals, bytes;
} layout;

static layout layout_of(const rq_attend *a, int64_t rows)
{
    const rq_gemm_isa *g = &a->k->gemm;
    const size_t n = (size_t)rows, keys = (size_t)a->keys, v = (size_t)a->v_size;
    layout l; /* packed A lies at 0 */
    l.b = rq_mem_round(larger(rq_gemm_a_bytes(g, rows, a->size), rq_gemm_a_bytes(g, 2 * rows, a->keys)));
    l.planes = l.b + rq_mem_round(larger(rq_gemm_b_bytes(g, a->size, a->keys), rq_gemm_b_bytes(g, a->keys, a->v_size)));
    l.codes = l.planes + rq_mem_round(2 * n * keys);
    l.sums = l.codes + rq_mem_round(keys * sizeof(uint16_t));
    l.rows = l.sums + rq_mem_round(2 * n * v * sizeof(int32_t));
    /* sums and addends of 2n rows, factors or totals of n */
    l.columns = l.rows + rq_mem_round(6 * n * sizeof(int32_t));
    l.reals = l.columns + rq_mem_round(larger(keys, v) * sizeof(int32_t));
    l.bytes = l.reals + rq_mem_round(v * sizeof(float));
    return l;
}

size_t rq_int_attend_scratch(const rq_attend *a, int64_t rows)
{
    return layout_of(a, rows).bytes;
}

/* Rows of A (zero point za as s8) by columns of B (zb as u8), both packed: the addends that zero points ask for. */
static void addends(const rq_gemm_isa *g, rq_gemm *job, int32_t *row_sum, int32_t *row_add, int32_t *col_add,
                    int32_t za, int32_t zb)
{
    for (int64_t i = 0; i < job->rows; i++)
        row_add[i] = (int32_t)(0 - (uint32_t)zb * (uint32_t)row_sum[i]);
    memset(col_add, 0, (size_t)job->columns * sizeof *col_add);
    rq_int_matmul_fold(g, col_add, job->b, job->depth, job->columns, za, zb, NULL);
    job->out.row_add = row_add;
    job->out.col_add = col_add;
}

void rq_int_attend_scores(const rq_attend *a, const rq_attend_block *p, float *s, void *scratch)
{
    const rq_attend_codes *c = a->codes;
    const rq_gemm_isa *g = &a->k->gemm;
    const layout l = layout_of(a, p->n);
    char *at = scratch;
    int32_t *row_sum = (int32_t *)(at + l.rows), *row_add = row_sum + p->n;
    float *m = (float *)(row_add + p->n);
    const uint8_t flip_q = rq_int_flip_to_s8(c->q_q->dtype), flip_k = rq_int_flip_to_u8(c->key_q->dtype);
    rq_gemm_pack_a(g, at, c->q + p->b * a->q_at.batch + p->h * a->q_at.head + p->from * a->q_at.row, a->q_at.row, 1,
                   p->n, a->size, flip_q, row_sum);
    rq_gemm_pack_b(g, (uint8_t *)at + l.b,
                   c->key + p->b * a->key_at.batch + p->kv * a->key_at.head + p->lo * a->key_at.row, 1, a->key_at.row,
                   a->size, p->keys, flip_k);
    for (int64_t i = 0; i < p->n; i++)
        m[i] = c->q_q->scale[0] * c->key_q->scale[0] * a->scale;
    rq_gemm job = { .k = a->k,
                    .rows = p->n,
                    .depth = a->size,
                    .columns = p->keys,
                    .a = at,
                    .b = (const uint8_t *)at + l.b,
                    .out = { .kind = RQ_GEMM_F32, .y = s, .ld = p->keys, .row_m = m } };
    addends(g, &job, row_sum, row_add, (int32_t *)(at + l.columns), c->q_q->zero_point[0] - (flip_q ? 128 : 0),
            c->key_q->zero_point[0] + (flip_k ? 128 : 0));
    rq_gemm_run(&job, NULL);
}

/* Shares of one row as two planes of bytes; returns their sum. */
static int64_t split_row(const rq_attend *a, uint8_t *high, uint8_t *low, const float *e, uint16_t *code, int64_t n)
{
    int64_t sum = 0;
    a->k->quantize_u16(code, e, (size_t)n, 1.0f / SHARE_MAX, 0, 0, SHARE_MAX);
    for (int64_t j = 0; j < n; j++) {
        high[j] = (uint8_t)(code[j] >> 8);
        low[j] = (uint8_t)(code[j] & 255);
        sum += code[j];
    }
    return sum;
}

static void write_row(const rq_attend *a, const rq_attend_block *p, int64_t i, const float *x)
{
    const rq_attend_codes *c = a->codes;
    const int64_t at = p->b * a->y_at.batch + p->h * a->y_at.head + (p->from + i) * a->y_at.row;
    if (c->y_q)
        rq_int_from_reals(a->k, c->y, at, x, a->v_size, c->y_q);
    else
        memcpy(c->y->f32 + at, x, (size_t)a->v_size * sizeof *x);
}

void rq_int_attend_values(const rq_attend *a, const rq_attend_block *p, const float *e, const float *rest,
                          void *scratch)
{
    const rq_attend_codes *c = a->codes;
    const rq_gemm_isa *g = &a->k->gemm;
    const layout l = layout_of(a, p->n);
    char *at = scratch;
    uint8_t *planes = (uint8_t *)at + l.planes;
    int32_t *row_sum = (int32_t *)(at + l.rows), *row_add = row_sum + 2 * p->n, *acc = (int32_t *)(at + l.sums);
    int64_t *total = (int64_t *)(row_add + 2 * p->n);
    float *x = (float *)(at + l.reals);
    for (int64_t i = 0; i < p->n; i++)
        total[i] = split_row(a, planes + i * p->keys, planes + (p->n + i) * p->keys, e + i * p->keys,
                             (uint16_t *)(at + l.codes), p->keys);
    const uint8_t flip = rq_int_flip_to_u8(c->v_q->dtype);
    rq_gemm job = { .k = a->k,
                    .rows = 2 * p->n,
                    .depth = p->keys,
                    .columns = a->v_size,
                    .a = at,
                    .b = (const uint8_t *)at + l.b,
                    .out = { .kind = RQ_GEMM_S32, .y = acc, .ld = a->v_size } };
    if (p->keys && a->v_size) {
        rq_gemm_pack_a(g, at, planes, p->keys, 1, 2 * p->n, p->keys, 0x80, row_sum);
        rq_gemm_pack_b(g, (uint8_t *)at + l.b, c->v + p->b * a->v_at.batch + p->kv * a->v_at.head + p->lo * a->v_at.row,
                       a->v_at.row, 1, p->keys, a->v_size, flip);
        addends(g, &job, row_sum, row_add, (int32_t *)(at + l.columns), -128, c->v_q->zero_point[0] + (flip ? 128 : 0));
        rq_gemm_run(&job, NULL);
    }
    for (int64_t i = 0; i < p->n; i++) {
        const double all = (double)total[i] + (double)rest[i] * SHARE_MAX;
        const int32_t *high = acc + i * a->v_size, *low = acc + (p->n + i) * a->v_size;
        for (int64_t d = 0; d < a->v_size; d++) {
            const double sum = total[i] ? 256 * (double)high[d] + (double)low[d] : 0;
            x[d] = total[i] ? (float)(sum / all * (double)c->v_q->scale[0]) : 0;
        }
        write_row(a, p, i, x);
    }
}
