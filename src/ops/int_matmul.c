/* ops/int_matmul.c — MatMul and Gemm on codes: sums of u8 * s8 products in s32, requantized per column or handed over
 * as reals (docs/onnx-facts.md 6.2).
 *
 *   sum (a - za)(b - zb) + c  =  sum a b  +  [c - za sum b + K za zb]  -  zb sum a
 *
 * The bracket is one constant per column: made when the plan is, if B is constant; zb * sum a is one number per row
 * where all columns share zb; where that is 0, as in most models, it is not made. Flips: ops/int_weights.h. */
#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/int_ops.h"
#include "ops/int_weights.h"

#include <math.h>
#include <string.h>

/* One product, or several of equal sizes. Strides are in elements, which are bytes. */
typedef struct product {
    int64_t batches, rows, depth, columns;
    int64_t a_row, a_k, b_k, b_col;
    int64_t n_a, n_b; /* different A and B among the batches */
    int rank;         /* axes of the batch, with sizes and steps (0: broadcast), in matrices */
    int64_t dim[RQ_MAX_RANK], a_step[RQ_MAX_RANK], b_step[RQ_MAX_RANK];
} product;

typedef struct matmul_state {
    product p;
    rq_int_weights b;  /* n_b of them */
    int32_t *col_add;  /* [n_b][columns] the bracket; with variable B [columns] c alone */
    int32_t *col_zero; /* [columns] zb; NULL where it is `zero` for all */
    int32_t za, zero;
    float *m;                 /* [columns] */
    double *unit;             /* [columns] what a sum counts in */
    float *bias;              /* [columns] in floats, for the definition */
    bool adds;                /* c is not in the bracket: a matrix, or variable */
    int64_t add_row, add_col; /* its steps */
} matmul_state;

/* ---- sizes ---- */

static int64_t dim_or_1(const rq_shape *s, int from_end)
{
    return from_end <= s->rank ? s->dim[s->rank - from_end] : 1;
}

static void matmul_product(const rq_op_args *a, product *p)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const int64_t k = x->dim[x->rank - 1];
    *p = (product) { .depth = k, .a_k = 1, .a_row = k, .n_a = 1, .n_b = 1, .batches = 1 };
    p->rows = x->rank > 1 ? x->dim[x->rank - 2] : 1;
    p->columns = w->rank > 1 ? w->dim[w->rank - 1] : 1;
    p->b_k = p->columns;
    p->b_col = 1;
    const int xb = x->rank > 2 ? x->rank - 2 : 0, wb = w->rank > 2 ? w->rank - 2 : 0;
    p->rank = xb > wb ? xb : wb;
    for (int i = p->rank - 1; i >= 0; i--) {
        const int64_t dx = p->rank - i <= xb ? dim_or_1(x, p->rank - i + 2) : 1;
        const int64_t dw = p->rank - i <= wb ? dim_or_1(w, p->rank - i + 2) : 1;
        p->dim[i] = dx > dw || dw == 1 ? dx : dw;
        p->a_step[i] = dx == 1 ? 0 : p->n_a;
        p->b_step[i] = dw == 1 ? 0 : p->n_b;
        p->n_a *= dx;
        p->n_b *= dw;
        p->batches *= p->dim[i];
    }
    if (p->n_b == 1) { /* one B for all rows */
        p->rows *= p->n_a;
        p->batches = p->n_a = 1;
        p->rank = 0;
    }
}

static void gemm_product(const rq_op_args *a, product *p)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const bool ta = rq_attr_int(a->node, RQ_WORD_transA, 0) != 0, tb = rq_attr_int(a->node, RQ_WORD_transB, 0) != 0;
    *p = (product) {
        .batches = 1, .n_a = 1, .n_b = 1, .rows = x->dim[ta], .depth = x->dim[!ta], .columns = w->dim[!tb]
    };
    p->a_row = ta ? 1 : x->dim[1];
    p->a_k = ta ? x->dim[1] : 1;
    p->b_k = tb ? 1 : w->dim[1];
    p->b_col = tb ? w->dim[1] : 1;
}

/* ---- asking ---- */

static bool accepts(const rq_op_args *a, int column_axis, const char **why)
{
    const rq_qparams *w = a->in_q[1];
    *why = "input is not quantized";
    if (!a->in_q[0] || !w || !rq_int_is_activation(a->in_q[0], why))
        return false;
    if (w->axis == RQ_PER_TENSOR)
        return rq_int_is_activation(w, why) && rq_int_is_output(a->out_q[0], a->out[0], true, why);
    *why = "weight codes are not of 8 bits";
    if (w->dtype != RQ_DTYPE_S8 && w->dtype != RQ_DTYPE_U8)
        return false;
    *why = "weight is quantized along another axis";
    if (w->block || w->axis != column_axis || column_axis < 0 || w->n != a->in[1]->shape.dim[column_axis])
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], true, why);
}

/* Do the codes of a float bias leave room for the sums in 32 bits? With a very small scale they do not. */
static bool bias_fits(const rq_op_args *a)
{
    const rq_qparams *x = a->in_q[0], *w = a->in_q[1];
    const rq_tensor *c = a->in[2];
    for (int64_t i = 0; i < rq_tensor_count(c); i++)
        if (c->f32[i] != 0 &&
            !(fabs((double)c->f32[i]) < 0x1p30 * fabs((double)x->scale[0] * (double)w->scale[w->n > 1 ? i : 0])))
            return false;
    return true;
}

bool rq_int_matmul_accepts(const rq_op_args *a, const char **why)
{
    const int rank = a->in[1]->shape.rank;
    if (!accepts(a, rank > 1 ? rank - 1 : -1, why))
        return false;
    *why = "bias does not fit 32 bits";
    return a->n_in < 3 || bias_fits(a);
}

bool rq_int_gemm_accepts(const rq_op_args *a, const char **why)
{
    const rq_tensor *c = a->n_in > 2 ? a->in[2] : NULL;
    *why = "beta is not 1";
    if (c && rq_attr_float(a->node, RQ_WORD_beta, 1) != 1)
        return false;
    *why = "float bias is not constant";
    if (c && !c->data && c->dtype == RQ_DTYPE_F32)
        return false;
    *why = "float bias is not one row";
    if (c && c->dtype == RQ_DTYPE_F32 && c->shape.rank == 2 && c->shape.dim[0] != 1)
        return false;
    *why = "bias is neither float nor of 32 bits";
    if (c && c->dtype != RQ_DTYPE_F32 && c->dtype != RQ_DTYPE_S32)
        return false;
    if (!accepts(a, rq_attr_int(a->node, RQ_WORD_transB, 0) ? 0 : 1, why))
        return false;
    *why = "bias has a scale of its own";
    return !c || !a->in_q[2] ||
           rq_int_is_bias(a->in_q[2], a->in_q[0], a->in_q[1], rq_attr_float(a->node, RQ_WORD_alpha, 1));
}

/* ---- preparing ---- */

void rq_int_matmul_release(void *state)
{
    matmul_state *s = state;
    if (!s)
        return;
    rq_int_weights_release(&s->b);
    rq_mem_free(s->col_add);
    rq_mem_free(s->col_zero);
    rq_mem_free(s->m);
    rq_mem_free(s->unit);
    rq_mem_free(s->bias);
    rq_mem_free(s);
}

/* Bias c of Gemm, one row of it, at column j. */
static int32_t bias_at(const rq_op_args *a, const rq_tensor *c, float alpha, int64_t j)
{
    const rq_qparams *w = a->in_q[1];
    const int64_t i = rq_tensor_count(c) == 1 ? 0 : j;
    if (c->dtype == RQ_DTYPE_S32)
        return c->s32[i];
    return rq_quantize_bias_f32(c->f32[i], alpha * a->in_q[0]->scale[0], w->scale[w->n > 1 ? j : 0]);
}

static rq_status prepare(const rq_op_args *a, const product *p, float alpha, const rq_tensor *c, void **state)
{
    const rq_qparams *xq = a->in_q[0], *wq = a->in_q[1], *yq = a->out_q[0];
    const size_t n = (size_t)p->columns;
    const bool is_constant = a->in[1]->data != NULL;
    matmul_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->p = *p;
    const rq_int_matrices b = { .n = p->n_b,
                                .depth = p->depth,
                                .columns = p->columns,
                                .step = p->depth * p->columns,
                                .k_stride = p->b_k,
                                .col_stride = p->b_col };
    rq_status st = rq_int_weights_init(&s->b, a, a->in[1], &b);
    s->col_add = rq_mem_zalloc(is_constant ? (size_t)p->n_b * n : n, sizeof *s->col_add);
    s->col_zero = rq_mem_alloc(n, sizeof *s->col_zero);
    s->m = rq_mem_alloc(n, sizeof *s->m);
    s->unit = rq_mem_alloc(n, sizeof *s->unit);
    s->bias = rq_mem_zalloc(n, sizeof *s->bias);
    if (!st && (!s->col_add || !s->col_zero || !s->m || !s->unit || !s->bias))
        st = RQ_NO_MEMORY;
    if (st) {
        rq_int_matmul_release(s);
        return st;
    }
    s->za = rq_int_rows_zero(a->in[0]->dtype, xq->zero_point[0]);
    s->zero = rq_int_weights_zero(a->in[1]->dtype, wq->zero_point[0]);
    bool same = true;
    for (int64_t j = 0; j < p->columns; j++) {
        const int64_t i = wq->n > 1 ? j : 0;
        s->col_zero[j] = rq_int_weights_zero(a->in[1]->dtype, wq->zero_point[i]);
        same = same && s->col_zero[j] == s->zero;
        const float sx = alpha == 1 ? xq->scale[0] : alpha * xq->scale[0], scale = sx * wq->scale[i];
        s->m[j] = yq ? scale / yq->scale[0] : scale;
        s->unit[j] = (double)sx * wq->scale[i];
    }
    if (same) {
        rq_mem_free(s->col_zero);
        s->col_zero = NULL;
    }
    if (c) {
        const int64_t rows = c->shape.rank > 1 ? c->shape.dim[0] : 1;
        const int64_t columns = c->shape.rank > 0 ? c->shape.dim[c->shape.rank - 1] : 1;
        if (c->data && rows == 1) {
            const bool as_is = a->k->spec && c->dtype == RQ_DTYPE_F32;
            for (int64_t j = 0; j < p->columns; j++)
                if (as_is)
                    s->bias[j] = c->f32[rq_tensor_count(c) == 1 ? 0 : j];
                else
                    s->col_add[j] = bias_at(a, c, alpha, j);
        } else {
            s->adds = true;
            s->add_row = rows == 1 ? 0 : columns;
            s->add_col = columns == 1 ? 0 : 1;
        }
    }
    for (int64_t i = 0; is_constant && i < p->n_b; i++)
        rq_int_weights_fold(s->col_add + i * p->columns, s->b.sum + i * p->columns, p->depth, p->columns, s->za,
                            s->zero, s->col_zero);
    *state = s;
    return RQ_OK;
}

rq_status rq_int_matmul_prepare(const rq_op_args *a, void **state)
{
    product p;
    matmul_product(a, &p);
    return prepare(a, &p, 1, a->n_in > 2 ? a->in[2] : NULL, state);
}

rq_status rq_int_gemm_prepare(const rq_op_args *a, void **state)
{
    product p;
    gemm_product(a, &p);
    return prepare(a, &p, rq_attr_float(a->node, RQ_WORD_alpha, 1), a->n_in > 2 ? a->in[2] : NULL, state);
}

/* ---- running ---- */

/* Several products are shared out over a few slots, each with scratch of its own; a single one is cut by the kernels. Scratch of a slot: A as
 * u8 rows where it is not, its row sums, what they add to each row; where B is variable, packed B, its sums and its bracket. */
enum { MOST_SLOTS = 16, SLOTS_BYTES = 1 << 20 };

typedef struct layout {
    size_t row_sum, row_add, b, sum, col_add, bytes;
    int64_t slots;
} layout;

static layout layout_of(const rq_op_args *a, const matmul_state *s)
{
    layout l;
    const size_t columns = s->b.w ? 0 : rq_mem_round((size_t)s->p.columns * sizeof(int32_t));
    const size_t rows = rq_mem_round((size_t)s->p.rows * sizeof(int32_t));
    l.row_sum = rq_int_rows_move(a->in[0]->dtype, s->p.a_k) ? rq_mem_round((size_t)(s->p.rows * s->p.depth)) : 0;
    l.row_add = l.row_sum + rows;
    l.b = l.row_add + rows;
    l.sum = l.b + (s->b.w ? 0 : s->b.w_bytes);
    l.col_add = l.sum + columns;
    l.bytes = l.col_add + columns;
    const int64_t fit = (int64_t)(SLOTS_BYTES / (l.bytes + 1));
    l.slots = s->p.batches < MOST_SLOTS ? s->p.batches : MOST_SLOTS;
    l.slots = fit < l.slots ? fit : l.slots;
    l.slots = l.slots > 1 ? l.slots : 1;
    return l;
}

size_t rq_int_matmul_scratch(const rq_op_args *a)
{
    const layout l = layout_of(a, a->state);
    return (size_t)l.slots * l.bytes;
}

/* Matrix of batch i: *at_a and *at_b are its numbers among the different ones. */
static void batch_at(const product *p, int64_t i, int64_t *at_a, int64_t *at_b)
{
    *at_a = *at_b = 0;
    for (int d = p->rank - 1; d >= 0; d--) {
        *at_a += i % p->dim[d] * p->a_step[d];
        *at_b += i % p->dim[d] * p->b_step[d];
        i /= p->dim[d];
    }
}

/* Where the results go, and how they are finished. */
static rq_qgemm_out out_of(const rq_op_args *a, const matmul_state *s, int64_t batch)
{
    const int64_t at_y = batch * s->p.rows * s->p.columns;
    rq_qgemm_out o = { .kind = RQ_QGEMM_F32, .ld = s->p.columns, .col_m = s->m };
    o.y = a->out[0]->u8 + (a->out_q[0] ? at_y : 4 * at_y);
    if (a->out[0]->dtype == RQ_DTYPE_S32)
        o.kind = RQ_QGEMM_S32;
    if (a->out_q[0]) {
        o.kind = RQ_QGEMM_CODES;
        o.zp = a->out_q[0]->zero_point[0];
        rq_qparams_limits(a->out_q[0], &o.lo, &o.hi);
    }
    if (a->k->spec && o.kind != RQ_QGEMM_S32) {
        o.col_unit = s->unit;
        o.col_bias = s->bias;
        o.y_scale = a->out_q[0] ? (double)a->out_q[0]->scale[0] : 1;
    }
    if (s->p.batches == 1) {
        o.post = a->post;
        o.n_post = a->n_post;
    }
    if (s->adds) {
        o.add = a->in[2]->s32;
        o.add_row = s->add_row;
        o.add_col = s->add_col;
    }
    return o;
}

static void run_one(const rq_op_args *a, const matmul_state *s, const layout *l, int64_t batch, char *scratch,
                    rq_threads *threads)
{
    const product *p = &s->p;
    int64_t at_a, at_b;
    batch_at(p, batch, &at_a, &at_b);
    rq_qgemm job = { .k = a->k, .rows = p->rows, .runs = 1, .run = p->depth, .columns = p->columns };
    job.x = rq_int_rows((uint8_t *)scratch, a->in[0]->u8 + at_a * p->rows * p->depth, a->in[0]->dtype, p->a_row, p->a_k,
                        p->rows, p->depth, &job.x_stride, threads);
    job.out = out_of(a, s, batch);
    if (s->b.w) {
        job.w = s->b.w + (size_t)at_b * s->b.w_bytes;
        job.out.col_add = s->col_add + at_b * p->columns;
    } else {
        int32_t *add = (int32_t *)(scratch + l->col_add), *sum = (int32_t *)(scratch + l->sum);
        rq_qgemm_pack(&a->k->qgemm, scratch + l->b, a->in[1]->u8 + at_b * p->depth * p->columns, 0, p->b_k, p->b_col, 1,
                      p->depth, p->columns, s->b.flip, sum);
        memcpy(add, s->col_add, (size_t)p->columns * sizeof *add);
        rq_int_weights_fold(add, sum, p->depth, p->columns, s->za, s->zero, s->col_zero);
        job.w = scratch + l->b;
        job.out.col_add = add;
    }
    if (s->col_zero || s->zero) {
        int32_t *row_sum = (int32_t *)(scratch + l->row_sum), *row_add = (int32_t *)(scratch + l->row_add);
        a->k->row_sums(row_sum, job.x, (size_t)job.x_stride, (size_t)p->rows, (size_t)p->depth);
        if (s->col_zero) {
            job.out.col_zero = s->col_zero;
            job.out.row_sum = row_sum;
        } else {
            for (int64_t i = 0; i < p->rows; i++)
                row_add[i] = (int32_t)(0 - (uint32_t)s->zero * (uint32_t)row_sum[i]);
            job.out.row_add = row_add;
        }
    }
    rq_qgemm_run(&job, threads);
    if (p->batches > 1)
        rq_post_run(a->k, a->post, a->n_post, a->out[0]->u8, (size_t)(batch * p->rows * p->columns),
                    (size_t)(p->rows * p->columns));
}

typedef struct run_state {
    const rq_op_args *a;
    layout l;
} run_state;

static void run_slot(void *arg, int64_t slot)
{
    const run_state *r = arg;
    const matmul_state *s = r->a->state;
    const int64_t n = s->p.batches, to = (slot + 1) * n / r->l.slots;
    for (int64_t i = slot * n / r->l.slots; i < to; i++)
        run_one(r->a, s, &r->l, i, (char *)r->a->scratch + (size_t)slot * r->l.bytes,
                r->l.slots > 1 ? NULL : r->a->threads);
}

rq_status rq_int_matmul_forward(const rq_op_args *a)
{
    enum { SMALL_WORK = 1 << 20 }; /* multiply-adds that stay on one thread */
    const matmul_state *s = a->state;
    run_state r = { a, layout_of(a, s) };
    const double work = (double)s->p.batches * (double)s->p.rows * (double)s->p.columns * (double)s->p.depth;
    rq_threads_for(r.l.slots == 1 || work < SMALL_WORK ? NULL : a->threads, r.l.slots, run_slot, &r);
    return RQ_OK;
}
