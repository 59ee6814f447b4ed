/* ops/int_product.c — see int_product.h. x becomes s8 and w u8 by flipping top bits, which shifts zero points by 128;
 * the sums are the kernels' (kernels/gemm.h). One scale per row and one per column at once is not what the kernels
 * finish, so there the bare sums are made first and scaled row by row. */
#include "ops/int_product.h"

#include <string.h>

#include "base/mem.h"
#include "ops/int_ops.h"

void rq_product_release(rq_product *p)
{
    rq_mem_free(p->w);
    rq_mem_free(p->w_sum);
    *p = (rq_product) { 0 };
}

/* sum[j] of each column of packed w. */
static void column_sums(const rq_product *p, int32_t *sum, const uint8_t *w)
{
    const rq_gemm_isa *g = &p->k->gemm;
    const int64_t padded_depth = (p->depth + g->kr - 1) / g->kr * g->kr;
    for (int64_t i = 0, n = rq_gemm_panels(g, p->columns); i < n; i++) {
        int vectors;
        const int64_t first = rq_gemm_panel(g, p->columns, i, &vectors), most = (int64_t)vectors * g->lanes;
        const int64_t cols = p->columns - first < most ? p->columns - first : most;
        rq_gemm_panel_sums(g, sum + first, w + first * padded_depth, vectors, p->depth, cols);
    }
}

rq_status rq_product_init(rq_product *p, const rq_kernels *k, rq_dtype x, const rq_tensor *w, int64_t n_w, int64_t rows,
                          int64_t depth, int64_t columns, bool each_scale)
{
    *p = (rq_product) { .k = k,
                        .rows = rows,
                        .depth = depth,
                        .columns = columns,
                        .n_w = n_w,
                        .flip_x = rq_int_flip_to_s8(x),
                        .flip_w = rq_int_flip_to_u8(w->dtype),
                        .each_scale = each_scale };
    p->w_bytes = rq_mem_round(rq_gemm_b_bytes(&k->gemm, depth, columns));
    if (!w->data)
        return RQ_OK;
    p->w = rq_mem_alloc((size_t)n_w, p->w_bytes);
    p->w_sum = rq_mem_alloc((size_t)n_w, (size_t)columns * sizeof *p->w_sum);
    if (!p->w || !p->w_sum) {
        rq_product_release(p);
        return RQ_NO_MEMORY;
    }
    for (int64_t i = 0; i < n_w; i++) {
        uint8_t *packed = p->w + (size_t)i * p->w_bytes;
        rq_gemm_pack_b(&k->gemm, packed, w->u8 + i * depth * columns, columns, 1, depth, columns, p->flip_w);
        column_sums(p, p->w_sum + i * columns, packed);
    }
    return RQ_OK;
}

/* ---- scratch ---- */

typedef struct room {
    char *x;                               /* packed */
    int32_t *row_sum, *row_zero, *row_add; /* [rows] */
    int32_t *col_zero, *col_add;           /* [columns] */
    float *col_m;
    int32_t *w_sum, *sums; /* where w is variable; where each row has a scale, [rows][columns] */
    uint8_t *w;
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
    r->x = take(&at, rq_gemm_a_bytes(&p->k->gemm, p->rows, p->depth));
    r->row_sum = take(&at, rows);
    r->row_zero = take(&at, rows);
    r->row_add = take(&at, rows);
    r->col_zero = take(&at, columns);
    r->col_add = take(&at, columns);
    r->col_m = take(&at, columns);
    r->w_sum = take(&at, p->w ? 0 : columns);
    r->w = take(&at, p->w ? 0 : p->w_bytes);
    r->sums = take(&at, p->each_scale ? (size_t)p->rows * columns : 0);
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

enum { PACK_ROWS = 64 }; /* a multiple of every mr */

typedef struct pack_args {
    const rq_product *p;
    const rq_product_job *j;
    const room *r;
} pack_args;

static void pack_rows(void *arg, int64_t item)
{
    const pack_args *k = arg;
    const rq_gemm_isa *g = &k->p->k->gemm;
    const int64_t first = item * PACK_ROWS, left = k->j->rows - first, depth = k->p->depth;
    const size_t row_bytes = (size_t)((depth + g->kr - 1) / g->kr * g->kr * g->a_bytes);
    rq_gemm_pack_a(g, k->r->x + (size_t)first * row_bytes, k->j->x + first * depth, depth, 1,
                   left < PACK_ROWS ? left : PACK_ROWS, depth, k->p->flip_x, k->r->row_sum + first);
}

/* The terms that zero points add: per column where zx is one, else per row and column. */
static void fold_zeros(const rq_product *p, const rq_product_job *j, const room *r, const int32_t *w_sum,
                       rq_gemm_out *o)
{
    const int32_t shift_x = p->flip_x ? 128 : 0, shift_w = p->flip_w ? 128 : 0;
    const bool one_x = entries(&j->x_zero) == 1;
    const uint32_t zx = (uint32_t)(zero_at(&j->x_zero, 0) - shift_x), zw = (uint32_t)(zero_at(&j->w_zero, 0) + shift_w);
    bool one_w = true;
    for (int64_t c = 0; c < p->columns; c++) {
        r->col_zero[c] = zero_at(&j->w_zero, c) + shift_w;
        one_w = one_w && (uint32_t)r->col_zero[c] == zw;
        r->col_add[c] = one_x ? (int32_t)(0u - zx * (uint32_t)w_sum[c]) : 0;
    }
    for (int64_t i = 0; i < j->rows; i++) {
        r->row_zero[i] = one_x ? (int32_t)zx : zero_at(&j->x_zero, i) - shift_x;
        r->row_sum[i] = (int32_t)((uint32_t)r->row_sum[i] - (uint32_t)p->depth * (uint32_t)r->row_zero[i]);
        r->row_add[i] = (int32_t)(0u - zw * (uint32_t)r->row_sum[i]);
    }
    o->col_add = r->col_add;
    if (!one_x)
        o->row_zero = r->row_zero;
    if (one_w) {
        o->row_add = r->row_add;
    } else {
        o->row_sum = r->row_sum;
        o->col_zero = r->col_zero;
    }
}

/* f32(f32(sx sw) / sy) of row i in every column; without sy the product alone. */
static void fill_multipliers(const rq_product *p, const rq_product_job *j, const room *r, int64_t i)
{
    const float sx = scale_at(&j->x_scale, i);
    const bool codes = rq_int_is_byte(j->y_dtype);
    const float sy = codes ? scale_at(&j->y_scale, 0) : 1;
    for (int64_t c = 0; c < p->columns; c++) {
        const float m = sx * scale_at(&j->w_scale, c);
        r->col_m[c] = codes ? m / sy : m;
    }
}

/* Rows of sums, each with multipliers of its own. */
static void finish_rows(const rq_product *p, const rq_product_job *j, const room *r, const rq_gemm_out *last)
{
    memset(r->col_add, 0, (size_t)p->columns * sizeof *r->col_add);
    for (int64_t i = 0; i < j->rows; i++) {
        rq_gemm_out o = *last;
        fill_multipliers(p, j, r, i);
        o.col_m = r->col_m;
        o.col_add = r->col_add;
        o.col_bias = j->bias;
        rq_gemm_finish(p->k, &o, r->sums + i * p->columns, i, 0, p->columns, NULL);
    }
}

void rq_product_run(const rq_product *p, const rq_product_job *j, void *scratch, rq_threads *t)
{
    room r;
    lay_out(p, scratch, &r);
    const uint8_t *w = p->w ? p->w + (size_t)j->at_w * p->w_bytes : r.w;
    const int32_t *w_sum = p->w ? p->w_sum + j->at_w * p->columns : r.w_sum;
    if (!p->w) {
        rq_gemm_pack_b(&p->k->gemm, r.w, j->w, p->columns, 1, p->depth, p->columns, p->flip_w);
        column_sums(p, r.w_sum, r.w);
    }
    pack_args pack = { p, j, &r };
    rq_threads_for(t, (j->rows + PACK_ROWS - 1) / PACK_ROWS, pack_rows, &pack);
    rq_gemm job = { .k = p->k, .rows = j->rows, .depth = p->depth, .columns = p->columns, .a = r.x, .b = w };
    rq_gemm_out last = { .kind = RQ_GEMM_F32, .y = j->y, .ld = p->columns };
    if (rq_int_is_byte(j->y_dtype)) {
        int64_t lo, hi;
        rq_dtype_limits(j->y_dtype, &lo, &hi);
        last.kind = RQ_GEMM_CODES;
        last.zp = zero_at(&j->y_zero, 0);
        last.lo = (int32_t)lo;
        last.hi = (int32_t)hi;
    }
    const bool sums = j->y_dtype == RQ_DTYPE_S32, each = !sums && entries(&j->x_scale) > 1;
    job.out = last;
    if (sums || each)
        job.out = (rq_gemm_out) { .kind = RQ_GEMM_S32, .y = sums ? j->y : r.sums, .ld = p->columns };
    fold_zeros(p, j, &r, w_sum, &job.out);
    if (!sums && !each) {
        fill_multipliers(p, j, &r, 0);
        job.out.col_m = r.col_m;
        job.out.col_bias = j->bias;
    }
    rq_gemm_run(&job, t);
    if (each)
        finish_rows(p, j, &r, &last);
}
