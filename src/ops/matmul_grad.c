/* ops/matmul_grad.c — MatMul, FusedMatMul and Gemm backward. For y = alpha op(a) op(b):
 *   d op(a) = alpha dy op(b)^T      d op(b) = alpha op(a)^T dy
 * and where op transposes, the transpose of that, which is the product of the transposes in the other order. A matrix that serves many products
 * gets the sum of theirs, in the order of the products. */
#include "ops/matmul.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"

static float *wanted(const rq_op_args *a, int i)
{
    return i < a->n_in && a->training->grad_in[i] ? a->training->grad_in[i]->f32 : NULL;
}

static void clear(const rq_op_args *a, int i)
{
    if (wanted(a, i))
        memset(wanted(a, i), 0, (size_t)rq_tensor_count(a->training->grad_in[i]) * sizeof(float));
}

/* ---- the gradient of one side ---- */

/* Operands of one batch of products, and where theirs begin; NULL: one product. */
typedef struct batch {
    float *d;
    const float *dy, *other;
    const int64_t *d_at, *dy_at, *other_at;
    int64_t count;
} batch;

static rq_status side_run(const rq_op_args *a, const rq_matmul_product *p, int side, const batch *b, float beta)
{
    const int64_t m = p->m, n = p->n, k = p->k;
    const bool mine = side ? p->tb : p->ta, other = side ? p->ta : p->tb;
    const int64_t ld = side ? p->ldb : p->lda, ldo = side ? p->lda : p->ldb;
    if (side == 0 && !mine) /* da [m][k] = dy op(b)^T */
        return rq_gemm_f32_batch(a->k, b->d, b->dy, b->other, b->d_at, b->dy_at, b->other_at, b->count, false, !other,
                                 m, k, n, p->alpha, n, ldo, beta, ld, a->threads);
    if (side == 0) /* da [k][m] = op(b) dy^T */
        return rq_gemm_f32_batch(a->k, b->d, b->other, b->dy, b->d_at, b->other_at, b->dy_at, b->count, other, true, k,
                                 m, n, p->alpha, ldo, n, beta, ld, a->threads);
    if (!mine) /* db [k][n] = op(a)^T dy */
        return rq_gemm_f32_batch(a->k, b->d, b->other, b->dy, b->d_at, b->other_at, b->dy_at, b->count, !other, false,
                                 k, n, m, p->alpha, ldo, n, beta, ld, a->threads);
    return rq_gemm_f32_batch(a->k, b->d, b->dy, b->other, b->d_at, b->dy_at, b->other_at, b->count, true, other, n, k,
                             m, p->alpha, n, ldo, beta, ld, a->threads); /* db [n][k] = dy^T op(a) */
}

/* Product i of the batch is term `*term` of the `*which`-th matrix of an operand with batch axes b. */
static void term_of(const rq_shape *y, const rq_shape *b, int64_t i, int64_t *which, int64_t *term)
{
    int64_t kept = 1, summed = 1;
    *which = *term = 0;
    for (int d = y->rank - 1, e = b->rank - 1; d >= 0; d--, e--) {
        const int64_t at = i % y->dim[d];
        i /= y->dim[d];
        if (e >= 0 && b->dim[e] == y->dim[d]) {
            *which += at * kept;
            kept *= y->dim[d];
        } else {
            *term += at * summed;
            summed *= y->dim[d];
        }
    }
}

static rq_status side_grad(const rq_op_args *a, const rq_matmul_product *p, int side)
{
    const rq_shape *mb = side ? &p->wb : &p->xb, *ob = side ? &p->xb : &p->wb;
    const int64_t count = rq_shape_count(&p->yb), matrices = rq_shape_count(mb);
    batch b = { .d = wanted(a, side), .dy = a->training->grad_out[0]->f32, .other = a->in[!side]->f32, .count = 1 };
    if (count == 0 || p->m * p->n * p->k == 0) {
        clear(a, side);
        return RQ_OK;
    }
    rq_matmul_product q = *p;
    if (side == 1 && matrices == 1 && rq_shape_count(ob) == count && !p->ta && p->lda == p->k) {
        q.m *= count; /* one matrix on the right: the batch is more rows */
        return side_run(a, &q, side, &b, 0);
    }
    if (side == 0 && rq_shape_count(ob) == 1 && matrices == count && !p->ta && p->lda == p->k) {
        q.m *= count;
        return side_run(a, &q, side, &b, 0);
    }
    if (count == 1)
        return side_run(a, &q, side, &b, 0);
    int64_t *at = rq_mem_alloc((size_t)count, 3 * sizeof *at);
    if (!at)
        return RQ_NO_MEMORY;
    for (int64_t i = 0; i < count; i++) { /* first terms of all sums, then second ones ... */
        int64_t which, term;
        term_of(&p->yb, mb, i, &which, &term);
        const int64_t to = term * matrices + which;
        at[to] = rq_matmul_at(&p->yb, mb, i, side ? p->b_step : p->a_step);
        at[count + to] = i * p->m * p->n;
        at[2 * count + to] = rq_matmul_at(&p->yb, ob, i, side ? p->a_step : p->b_step);
    }
    rq_status s = RQ_OK;
    b.count = matrices;
    for (int64_t first = 0; first < count && s == RQ_OK; first += matrices) {
        b.d_at = at + first;
        b.dy_at = at + count + first;
        b.other_at = at + 2 * count + first;
        s = side_run(a, p, side, &b, first > 0);
    }
    rq_mem_free(at);
    return s;
}

static rq_status both_sides(const rq_op_args *a, const rq_matmul_product *p)
{
    for (int i = 0; i < 2; i++) {
        if (!wanted(a, i))
            continue;
        rq_status s = RQ_OK;
        if (a->training->grad_out[0])
            s = side_grad(a, p, i);
        else
            clear(a, i);
        if (s != RQ_OK)
            return s == RQ_NO_MEMORY ? s : rq_op_fail(a, s, "oneDNN failed: %s", rq_status_text(s));
    }
    return RQ_OK;
}

rq_status rq_matmul_backward(const rq_op_args *a)
{
    rq_matmul_product p;
    rq_matmul_product_of(a, &p);
    return both_sides(a, &p);
}

/* ---- Gemm ---- */

enum { COLUMNS = 256 }; /* of an item */

typedef struct sum_job {
    const rq_op_args *a;
    float *dc;
    const float *dy;
    int64_t m, n;
    float beta;
} sum_job;

static void sum_columns(void *arg, int64_t item)
{
    const sum_job *j = arg;
    const int64_t first = item * COLUMNS, left = j->n - first, n = left < COLUMNS ? left : COLUMNS;
    double sum[COLUMNS] = { 0 };
    for (int64_t r = 0; r < j->m; r++)
        for (int64_t i = 0; i < n; i++)
            sum[i] += (double)j->dy[r * j->n + first + i];
    for (int64_t i = 0; i < n; i++)
        j->dc[first + i] = (float)((double)j->beta * sum[i]);
}

static void sum_row(void *arg, int64_t r)
{
    const sum_job *j = arg;
    j->dc[r] = j->beta * j->a->k->sum_f32(j->dy + r * j->n, (size_t)j->n);
}

/* C [m or 1][n or 1], leading ones left out at will. */
static void gemm_grad_c(const rq_op_args *a, float beta)
{
    const rq_shape *y = &a->out[0]->shape, *c = &a->in[2]->shape;
    sum_job j = { .a = a, .dc = wanted(a, 2), .dy = a->training->grad_out[0]->f32, .beta = beta };
    j.m = y->dim[0];
    j.n = y->dim[1];
    const bool columns = c->rank > 0 && c->dim[c->rank - 1] == j.n, rows = c->rank > 1 && c->dim[c->rank - 2] == j.m;
    if (columns && rows) {
        for (int64_t i = 0; i < j.m * j.n; i++)
            j.dc[i] = beta * j.dy[i];
    } else if (columns) {
        rq_threads_for(a->threads, (j.n + COLUMNS - 1) / COLUMNS, sum_columns, &j);
    } else if (rows) {
        rq_threads_for(a->threads, j.m, sum_row, &j);
    } else {
        double sum = 0;
        for (int64_t r = 0; r < j.m; r++)
            sum += (double)a->k->sum_f32(j.dy + r * j.n, (size_t)j.n);
        j.dc[0] = (float)((double)beta * sum);
    }
}

rq_status rq_gemm_backward(const rq_op_args *a)
{
    const bool ta = rq_attr_int(a->node, RQ_WORD_transA, 0) != 0, tb = rq_attr_int(a->node, RQ_WORD_transB, 0) != 0;
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape, *y = &a->out[0]->shape;
    const rq_matmul_product p = { .m = y->dim[0],
                                  .n = y->dim[1],
                                  .k = x->dim[ta ? 0 : 1],
                                  .lda = x->dim[1],
                                  .ldb = w->dim[1],
                                  .ta = ta,
                                  .tb = tb,
                                  .alpha = rq_attr_float(a->node, RQ_WORD_alpha, 1) };
    if (wanted(a, 2)) {
        if (a->training->grad_out[0] && rq_shape_count(y) > 0)
            gemm_grad_c(a, rq_attr_float(a->node, RQ_WORD_beta, 1));
        else
            clear(a, 2);
    }
    return both_sides(a, &p);
}
