/* ops/int_product.c — see int_product.h. x becomes u8 and w s8 by flipping top bits (ops/int_weights.h); the sums are the kernels'
 * (kernels/qgemm.h). Codes with a scale per row are not what the kernels finish (m is divided by the scale of y after its two factors met), so there
 * each row is a product of its own. */
#include "ops/int_product.h"

#include <string.h>

#include "base/mem.h"
#include "ops/int_ops.h"

void rq_product_release(rq_product *p)
{
    rq_int_weights_release(&p->w);
    *p = (rq_product) { 0 };
}

rq_status rq_product_init(rq_product *p, const rq_op_args *a, rq_dtype x, const rq_tensor *w, int64_t n_w, int64_t rows,
                          int64_t depth, int64_t columns)
{
    const rq_int_matrices m = {
        .n = n_w, .depth = depth, .columns = columns, .step = depth * columns, .k_stride = columns, .col_stride = 1
    };
    return rq_product_init_of(p, a, x, w, &m, rows);
}

rq_status rq_product_init_of(rq_product *p, const rq_op_args *a, rq_dtype x, const rq_tensor *w,
                             const rq_int_matrices *m, int64_t rows)
{
    *p = (rq_product) { .k = a->k,
                        .rows = rows,
                        .depth = m->depth,
                        .columns = m->columns,
                        .n_w = m->n,
                        .k_stride = m->k_stride,
                        .x_dtype = x,
                        .w_dtype = w->dtype };
    return rq_int_weights_init(&p->w, a, w, m);
}

/* ---- scratch ---- */

typedef struct room {
    uint8_t *x;                            /* as u8, where it is s8 */
    int32_t *row_sum, *row_zero, *row_add; /* [rows] */
    float *row_m;
    int32_t *col_zero, *col_add; /* [columns] */
    float *col_m;
    int32_t *w_sum; /* where w is variable */
    char *w;
} room;

static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += rq_mem_round(bytes);
    return p;
}

static size_t lay_out(const rq_product *p, char *scratch, room *r)
{
    const size_t rows = (size_t)p->rows * 4, columns = (size_t)p->columns * 4;
    char *at = scratch;
    r->x = take(&at, rq_int_rows_move(p->x_dtype, 1) ? (size_t)(p->rows * p->depth) : 0);
    r->row_sum = take(&at, rows);
    r->row_zero = take(&at, rows);
    r->row_add = take(&at, rows);
    r->row_m = take(&at, rows);
    r->col_zero = take(&at, columns);
    r->col_add = take(&at, columns);
    r->col_m = take(&at, columns);
    r->w_sum = take(&at, p->w.w ? 0 : columns);
    r->w = take(&at, p->w.w ? 0 : p->w.w_bytes);
    return (size_t)(at - scratch);
}

size_t rq_product_scratch(const rq_product *p)
{
    static char nowhere[1];
    room r;
    return lay_out(p, nowhere, &r);
}

/* ---- running ---- */

static int64_t entries(const rq_tensor *t)
{
    return t->dtype == RQ_DTYPE_NONE ? 1 : rq_tensor_count(t);
}

static float scale_at(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_NONE ? 1 : (float)rq_tensor_get(t, i % rq_tensor_count(t));
}

static int32_t zero_at(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_NONE ? 0 : (int32_t)rq_tensor_get_int(t, i % rq_tensor_count(t));
}

/* With few rows the terms and multipliers of columns are put together for each row, not for all columns before. */
enum { FEW_ROWS = 4 };

/* The terms that zero points add: per column where zx is one, else per row and column. */
static void fold_zeros(const rq_product *p, const rq_product_job *j, const room *r, const int32_t *w_sum,
                       const rq_qgemm *g, rq_qgemm_out *o)
{
    const bool one_x = entries(&j->x_zero) == 1 && j->rows >= FEW_ROWS;
    const int32_t zx = rq_int_rows_zero(p->x_dtype, zero_at(&j->x_zero, 0)),
                  zw = rq_int_weights_zero(p->w_dtype, zero_at(&j->w_zero, 0));
    bool one_w = true;
    for (int64_t c = 0, n = entries(&j->w_zero) == 1 ? 0 : p->columns; c < n; c++) {
        r->col_zero[c] = rq_int_weights_zero(p->w_dtype, zero_at(&j->w_zero, c));
        one_w = one_w && r->col_zero[c] == zw;
    }
    if (one_x) { /* K zx zw is in the rows' terms */
        memset(r->col_add, 0, (size_t)p->columns * sizeof *r->col_add);
        rq_int_weights_fold(r->col_add, w_sum, p->depth, p->columns, zx, 0, NULL);
        o->col_add = r->col_add;
    } else {
        for (int64_t i = 0; i < j->rows; i++)
            r->row_zero[i] = rq_int_rows_zero(p->x_dtype, zero_at(&j->x_zero, i));
        o->row_zero = r->row_zero;
        o->col_sum = w_sum;
    }
    if (one_w && zw == 0)
        return;
    g->k->row_sums(r->row_sum, g->x, (size_t)g->x_stride, (size_t)j->rows, (size_t)p->depth);
    for (int64_t i = 0; i < j->rows; i++) {
        const uint32_t zero = (uint32_t)(one_x ? zx : r->row_zero[i]);
        r->row_sum[i] = (int32_t)((uint32_t)r->row_sum[i] - (uint32_t)p->depth * zero);
        r->row_add[i] = (int32_t)(0u - (uint32_t)zw * (uint32_t)r->row_sum[i]);
    }
    if (one_w) {
        o->row_add = r->row_add;
    } else {
        o->row_sum = r->row_sum;
        o->col_zero = r->col_zero;
    }
}

/* f32(f32(sx sw) / sy) of row i in every column; without sy the product alone. */
static void fill_multipliers(const rq_product *p, const rq_product_job *j, float *col_m, float sx)
{
    const bool codes = rq_int_is_byte(j->y_dtype);
    const float sy = codes ? scale_at(&j->y_scale, 0) : 1, sw = scale_at(&j->w_scale, 0);
    const bool one = entries(&j->w_scale) == 1, plain = j->w_scale.dtype == RQ_DTYPE_F32;
    for (int64_t c = 0; c < p->columns; c++)
        col_m[c] = sx * (one ? sw : plain ? j->w_scale.f32[c] : scale_at(&j->w_scale, c));
    for (int64_t c = 0; codes && c < p->columns; c++)
        col_m[c] /= sy;
}

/* Sums become reals. Multipliers of rows stay apart where there are several, where they are to round by themselves, and where they would be
 * multiplied into those of columns for few rows alone. */
static void scale_reals(const rq_product *p, const rq_product_job *j, const room *r, rq_qgemm_out *o)
{
    const bool columns = entries(&j->w_scale) > 1 && j->w_scale.dtype == RQ_DTYPE_F32;
    const bool apart = entries(&j->x_scale) > 1 || (columns && j->rows < FEW_ROWS) ||
                       (j->in_turn && j->x_scale.dtype != RQ_DTYPE_NONE);
    o->kind = RQ_QGEMM_F32;
    o->col_bias = j->bias;
    o->in_turn = j->in_turn;
    for (int64_t i = 0; apart && i < j->rows; i++)
        r->row_m[i] = scale_at(&j->x_scale, i);
    o->row_m = apart ? r->row_m : NULL;
    o->col_m = r->col_m;
    if (apart && columns)
        o->col_m = j->w_scale.f32;
    else
        fill_multipliers(p, j, r->col_m, apart ? 1 : scale_at(&j->x_scale, 0));
}

/* Codes with a scale per row: row after row. */
static void run_rows(const rq_product *p, const rq_product_job *j, const room *r, const rq_qgemm *g, rq_threads *t)
{
    for (int64_t i = 0; i < j->rows; i++) {
        rq_qgemm one = *g;
        one.rows = 1;
        one.x += i * g->x_stride;
        one.out.y = (uint8_t *)g->out.y + i * g->out.ld;
        if (one.out.row_add)
            one.out.row_add += i;
        if (one.out.row_sum)
            one.out.row_sum += i;
        if (one.out.row_zero)
            one.out.row_zero += i;
        fill_multipliers(p, j, r->col_m, scale_at(&j->x_scale, i));
        one.out.col_m = r->col_m;
        rq_qgemm_run(&one, t);
    }
}

void rq_product_run(const rq_product *p, const rq_product_job *j, void *scratch, rq_threads *t)
{
    room r;
    lay_out(p, scratch, &r);
    const char *w = p->w.w ? p->w.w + (size_t)j->at_w * p->w.w_bytes : r.w;
    const int32_t *w_sum = p->w.w ? p->w.sum + j->at_w * p->columns : r.w_sum;
    if (!p->w.w)
        rq_qgemm_pack(&p->k->qgemm, r.w, j->w, 0, p->k_stride, 1, 1, p->depth, p->columns, p->w.flip, r.w_sum);
    rq_qgemm g = { .k = p->k, .rows = j->rows, .runs = 1, .run = p->depth, .columns = p->columns, .w = w };
    g.x = rq_int_rows(r.x, j->x, p->x_dtype, p->depth, 1, j->rows, p->depth, &g.x_stride, t);
    g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_S32, .y = j->y, .ld = j->ld ? j->ld : p->columns };
    fold_zeros(p, j, &r, w_sum, &g, &g.out);
    if (rq_int_is_byte(j->y_dtype)) {
        int64_t lo, hi;
        rq_dtype_limits(j->y_dtype, &lo, &hi);
        g.out.kind = RQ_QGEMM_CODES;
        g.out.zp = zero_at(&j->y_zero, 0);
        g.out.lo = (int32_t)lo;
        g.out.hi = (int32_t)hi;
        if (entries(&j->x_scale) > 1) {
            run_rows(p, j, &r, &g, t);
            return;
        }
        fill_multipliers(p, j, r.col_m, scale_at(&j->x_scale, 0));
        g.out.col_m = r.col_m;
    } else if (j->y_dtype != RQ_DTYPE_S32) {
        scale_reals(p, j, &r, &g.out);
    }
    rq_qgemm_run(&g, t);
}
