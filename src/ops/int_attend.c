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
#include "ops/int_weights.h"

#include <string.h>

enum { SHARE_MAX = 65535 };

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Scratch of one block; the two products use it one after the other. */
typedef struct layout {
    size_t x, codes, sums, rows, columns, reals, bytes;
} layout;

static layout layout_of(const rq_attend *a, int64_t rows)
{
    const rq_qgemm_isa *g = &a->k->qgemm;
    const size_t n = (size_t)rows, keys = (size_t)a->keys, v = (size_t)a->v_size;
    layout l; /* packed W lies at 0; x holds queries as u8, or planes of shares */
    l.x = rq_mem_round(larger(rq_qgemm_w_bytes(g, 1, a->size, a->keys), rq_qgemm_w_bytes(g, 1, a->keys, a->v_size)));
    l.codes = l.x + rq_mem_round(larger(n * (size_t)a->size, 2 * n * keys));
    l.sums = l.codes + rq_mem_round(keys * sizeof(uint16_t));
    l.rows = l.sums + rq_mem_round(2 * n * v * sizeof(int32_t));
    /* sums and addends of 2n rows, factors or totals of n */
    l.columns = l.rows + rq_mem_round(6 * n * sizeof(int32_t));
    l.reals = l.columns + rq_mem_round(2 * larger(keys, v) * sizeof(int32_t)); /* sums and addends */
    l.bytes = l.reals + rq_mem_round(v * sizeof(float));
    return l;
}

size_t rq_int_attend_scratch(const rq_attend *a, int64_t rows)
{
    return layout_of(a, rows).bytes;
}

/* The addends that the zero points of X and W ask for; col_sum [columns] comes with W, col_add [columns] behind it is free. */
static void addends(rq_qgemm *job, int32_t *row_sum, int32_t *row_add, int32_t *col_sum, int32_t zx, int32_t zw)
{
    if (zw) {
        job->k->row_sums(row_sum, job->x, (size_t)job->x_stride, (size_t)job->rows, (size_t)job->run);
        for (int64_t i = 0; i < job->rows; i++)
            row_add[i] = (int32_t)(0 - (uint32_t)zw * (uint32_t)row_sum[i]);
        job->out.row_add = row_add;
    }
    if (zx) {
        int32_t *col_add = col_sum + job->columns;
        memset(col_add, 0, (size_t)job->columns * sizeof *col_add);
        rq_int_weights_fold(col_add, col_sum, job->run, job->columns, zx, zw, NULL);
        job->out.col_add = col_add;
    }
}

void rq_int_attend_scores(const rq_attend *a, const rq_attend_block *p, float *s, void *scratch)
{
    const rq_attend_codes *c = a->codes;
    const layout l = layout_of(a, p->n);
    char *at = scratch;
    int32_t *row_sum = (int32_t *)(at + l.rows), *row_add = row_sum + p->n, *col_sum = (int32_t *)(at + l.columns);
    float *m = (float *)(row_add + p->n);
    rq_qgemm_pack(&a->k->qgemm, at, c->key + p->b * a->key_at.batch + p->kv * a->key_at.head + p->lo * a->key_at.row, 0,
                  1, a->key_at.row, 1, a->size, p->keys, c->key_q->dtype == RQ_DTYPE_U8 ? 0x80 : 0, col_sum);
    for (int64_t i = 0; i < p->n; i++)
        m[i] = c->q_q->scale[0] * c->key_q->scale[0] * a->scale;
    rq_qgemm job = { .k = a->k,
                     .rows = p->n,
                     .runs = 1,
                     .run = a->size,
                     .columns = p->keys,
                     .w = at,
                     .out = { .kind = RQ_QGEMM_F32, .y = s, .ld = p->keys, .row_m = m } };
    job.x = rq_int_rows((uint8_t *)at + l.x, c->q + p->b * a->q_at.batch + p->h * a->q_at.head + p->from * a->q_at.row,
                        c->q_q->dtype, a->q_at.row, 1, p->n, a->size, &job.x_stride, NULL);
    addends(&job, row_sum, row_add, col_sum, rq_int_rows_zero(c->q_q->dtype, c->q_q->zero_point[0]),
            rq_int_weights_zero(c->key_q->dtype, c->key_q->zero_point[0]));
    rq_qgemm_run(&job, NULL);
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
    const layout l = layout_of(a, p->n);
    char *at = scratch;
    uint8_t *planes = (uint8_t *)at + l.x;
    int32_t *row_sum = (int32_t *)(at + l.rows), *row_add = row_sum + 2 * p->n, *acc = (int32_t *)(at + l.sums);
    int64_t *total = (int64_t *)(row_add + 2 * p->n);
    float *x = (float *)(at + l.reals);
    for (int64_t i = 0; i < p->n; i++)
        total[i] = split_row(a, planes + i * p->keys, planes + (p->n + i) * p->keys, e + i * p->keys,
                             (uint16_t *)(at + l.codes), p->keys);
    rq_qgemm job = { .k = a->k,
                     .rows = 2 * p->n,
                     .runs = 1,
                     .run = p->keys,
                     .columns = a->v_size,
                     .w = at,
                     .x = planes,
                     .x_stride = p->keys,
                     .out = { .kind = RQ_QGEMM_S32, .y = acc, .ld = a->v_size } };
    if (p->keys && a->v_size) {
        int32_t *col_sum = (int32_t *)(at + l.columns);
        rq_qgemm_pack(&a->k->qgemm, at, c->v + p->b * a->v_at.batch + p->kv * a->v_at.head + p->lo * a->v_at.row, 0,
                      a->v_at.row, 1, 1, p->keys, a->v_size, c->v_q->dtype == RQ_DTYPE_U8 ? 0x80 : 0, NULL);
        addends(&job, row_sum, row_add, col_sum, 0, rq_int_weights_zero(c->v_q->dtype, c->v_q->zero_point[0]));
        rq_qgemm_run(&job, NULL);
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
