/* ops/matmul.c — MatMul, Gemm, and the fused forms FusedMatMul and FusedGemm: how operands broadcast and which matrices
 * meet; the products themselves are in kernels/gemm_f32. */
#include <string.h>

#include "kernels/gemm_f32.h"
#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/int_pick.h"
#include "ops/matmul.h"
#include "ops/rows.h"
#include "ops/samples.h"

static bool flag(const rq_node *n, rq_word name)
{
    return rq_attr_int(n, name, 0) != 0;
}

/* ---- MatMul: numpy's rules. A vector is a row on the left, a column on the right, and its axis goes away. ---- */

/* FusedMatMul, once called TransposeMatMul; and our own. */
static bool is_fused(const rq_node *n)
{
    return n->row == &rq_op_ms_fused_matmul || n->row == &rq_op_ms_transpose_matmul || n->row == &rq_op_fused_matmul;
}

/* Swaps of the last two axes that FusedMatMul asks for. */
static bool trans_of(const rq_node *n, int side)
{
    return is_fused(n) && flag(n, side ? RQ_WORD_transB : RQ_WORD_transA);
}

/* FusedMatMul with transBatchA, transBatchB: the rows of the matrices stand first, before the batch. */
static bool rows_first(const rq_node *n, int side, const rq_shape *s)
{
    return is_fused(n) && flag(n, side ? RQ_WORD_transBatchB : RQ_WORD_transBatchA) && s->rank > 2;
}

/* The sizes of an operand with its matrices last. */
static rq_shape sizes_of(const rq_node *n, int side, const rq_shape *s)
{
    rq_shape y = *s;
    if (rows_first(n, side, s)) {
        memmove(y.dim, y.dim + 1, (size_t)(y.rank - 2) * sizeof *y.dim);
        y.dim[y.rank - 2] = s->dim[0];
    }
    return y;
}

rq_status rq_matmul_infer(const rq_infer *a)
{
    const rq_shape x = sizes_of(a->node, 0, &a->in[0]->shape), w = sizes_of(a->node, 1, &a->in[1]->shape);
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[1]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != a->in[1]->dtype)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "operands have types %s and %s", rq_dtype_name(a->in[0]->dtype),
                             rq_dtype_name(a->in[1]->dtype));
    if (x.rank == 0 || w.rank == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "operand %d is a scalar", x.rank == 0 ? 0 : 1);
    if (x.rank < 0 || w.rank < 0)
        return RQ_OK;
    const bool row = x.rank == 1, column = w.rank == 1;
    const bool ta = trans_of(a->node, 0) && !row, tb = trans_of(a->node, 1) && !column;
    const int64_t m = row ? 1 : x.dim[x.rank - (ta ? 1 : 2)], k = x.dim[x.rank - (ta ? 2 : 1)];
    const int64_t kw = column ? w.dim[0] : w.dim[w.rank - (tb ? 1 : 2)], n = column ? 1 : w.dim[w.rank - (tb ? 2 : 1)];
    char xs[RQ_SHAPE_TEXT], ws[RQ_SHAPE_TEXT];
    if (k >= 0 && kw >= 0 && k != kw)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%s cannot be multiplied by %s", rq_shape_text(&x, xs, sizeof xs),
                             rq_shape_text(&w, ws, sizeof ws));
    const rq_shape xb = rq_shape_of(row ? 0 : x.rank - 2, x.dim), wb = rq_shape_of(column ? 0 : w.rank - 2, w.dim);
    rq_shape *y = &a->out_shape[0];
    if (!rq_infer_broadcast_shapes(&xb, &wb, y))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the batches of %s and %s do not broadcast",
                             rq_shape_text(&x, xs, sizeof xs), rq_shape_text(&w, ws, sizeof ws));
    if (!row)
        y->dim[y->rank++] = m;
    if (!column)
        y->dim[y->rank++] = n;
    return RQ_OK;
}

void rq_matmul_product_of(const rq_op_args *a, rq_matmul_product *p)
{
    const rq_shape sizes[2] = { sizes_of(a->node, 0, &a->in[0]->shape), sizes_of(a->node, 1, &a->in[1]->shape) };
    const rq_shape *x = &sizes[0], *w = &sizes[1];
    const bool row = x->rank == 1, column = w->rank == 1;
    *p = (rq_matmul_product) { 0 };
    p->alpha = is_fused(a->node) ? rq_attr_float(a->node, RQ_WORD_alpha, 1) : 1;
    p->ta = trans_of(a->node, 0) && !row;
    p->tb = trans_of(a->node, 1) && !column;
    p->m = row ? 1 : x->dim[x->rank - (p->ta ? 1 : 2)];
    p->k = x->dim[x->rank - (p->ta ? 2 : 1)];
    p->n = column ? 1 : w->dim[w->rank - (p->tb ? 2 : 1)];
    p->lda = p->ta ? p->m : p->k;
    p->ldb = p->tb ? p->k : p->n;
    p->xb = rq_shape_of(row ? 0 : x->rank - 2, x->dim);
    p->wb = rq_shape_of(column ? 0 : w->rank - 2, w->dim);
    rq_infer_broadcast_shapes(&p->xb, &p->wb, &p->yb);
    p->a_step = p->m * p->k;
    p->b_step = p->k * p->n;
    if (rows_first(a->node, 0, x)) {
        p->a_step = p->lda;
        p->lda *= rq_shape_count(&p->xb);
    }
    if (rows_first(a->node, 1, w)) {
        p->b_step = p->ldb;
        p->ldb *= rq_shape_count(&p->wb);
    }
}

int64_t rq_matmul_at(const rq_shape *y, const rq_shape *b, int64_t i, int64_t size)
{
    int64_t at = 0, step = size;
    for (int d = y->rank - 1, e = b->rank - 1; d >= 0; d--, e--) {
        const int64_t k = i % y->dim[d];
        i /= y->dim[d];
        if (e >= 0) {
            at += b->dim[e] == 1 ? 0 : k * step;
            step *= b->dim[e];
        }
    }
    return at;
}

/* Products that no network is made of, f64 and whole numbers (which wrap): y[m][n] += x op w, element by element. */
static void plain_product(const rq_matmul_product *p, rq_tensor *y, int64_t y_at, const rq_tensor *x, int64_t x_at,
                          const rq_tensor *w, int64_t w_at)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = 0;
            uint64_t whole = 0;
            for (int64_t q = 0; q < p->k; q++) {
                const int64_t u = x_at + (p->ta ? q * p->lda + i : i * p->lda + q);
                const int64_t v = w_at + (p->tb ? j * p->ldb + q : q * p->ldb + j);
                if (y->dtype == RQ_DTYPE_F64)
                    sum += x->f64[u] * w->f64[v];
                else if (rq_dtype_bits(y->dtype) == 64)
                    whole += x->u64[u] * w->u64[v];
                else
                    whole += (uint64_t)x->u32[u] * w->u32[v];
            }
            const int64_t o = y_at + i * p->n + j;
            if (y->dtype == RQ_DTYPE_F64)
                y->f64[o] = sum;
            else if (rq_dtype_bits(y->dtype) == 64)
                y->u64[o] = whole;
            else
                y->u32[o] = (uint32_t)whole;
        }
}

static rq_status matmul_plain(const rq_op_args *a, const rq_matmul_product *p)
{
    const rq_dtype d = a->in[0]->dtype;
    if (d != RQ_DTYPE_F64 && !(rq_dtype_is_integer(d) && rq_dtype_bits(d) >= 32))
        return rq_op_no_form(a, d);
    for (int64_t i = 0, n = rq_shape_count(&p->yb); i < n; i++)
        plain_product(p, a->out[0], i * p->m * p->n, a->in[0], rq_matmul_at(&p->yb, &p->xb, i, p->a_step), a->in[1],
                      rq_matmul_at(&p->yb, &p->wb, i, p->b_step));
    return RQ_OK;
}

/* The state is the packed weight: it needs nobody to release it. */
static rq_status matmul_prepare(const rq_op_args *a, void **state)
{
    rq_matmul_product p;
    *state = NULL;
    rq_matmul_product_of(a, &p);
    if (a->in[0]->dtype != RQ_DTYPE_F32 || rq_matmul_join_rows(&p) != 1 || p.ta)
        return RQ_OK;
    return rq_matmul_pack(a, p.tb, p.k, p.n, state);
}

rq_status rq_matmul_wide(const rq_op_args *a)
{
    rq_matmul_product p;
    rq_matmul_product_of(a, &p);
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return matmul_plain(a, &p);
    float *y = a->out[0]->f32;
    const float *x = a->in[0]->f32, *w = a->in[1]->f32;
    const int64_t count = rq_matmul_join_rows(&p);
    rq_status s = RQ_OK;
    if (a->state) {
        const rq_gemm_f32_after after = { .alpha = p.alpha };
        rq_gemm_f32_packed(a->k, y, p.n, x, p.lda, a->state, p.m, p.n, p.k, &after, a->threads);
    } else if (count == 1) {
        s = rq_gemm_f32(a->k, y, x, w, p.ta, p.tb, p.m, p.n, p.k, p.alpha, p.lda, p.ldb, 0, p.n, a->threads);
    } else {
        int64_t *at = rq_mem_alloc((size_t)count, 3 * sizeof *at);
        if (!at)
            return RQ_NO_MEMORY;
        for (int64_t i = 0; i < count; i++) {
            at[i] = i * p.m * p.n;
            at[count + i] = rq_matmul_at(&p.yb, &p.xb, i, p.a_step);
            at[2 * count + i] = rq_matmul_at(&p.yb, &p.wb, i, p.b_step);
        }
        s = rq_gemm_f32_batch(a->k, y, x, w, at, at + count, at + 2 * count, count, p.ta, p.tb, p.m, p.n, p.k, p.alpha,
                              p.lda, p.ldb, 0, p.n, a->threads);
        rq_mem_free(at);
    }
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "oneDNN failed: %s", rq_status_text(s));
}

static rq_status matmul_forward(const rq_op_args *a)
{
    return rq_half_run(a, rq_matmul_wide);
}

double rq_matmul_macs(const rq_op_args *a)
{
    rq_matmul_product p;
    rq_matmul_product_of(a, &p);
    return (double)rq_shape_count(&p.yb) * (double)p.m * (double)p.n * (double)p.k;
}

/* Columns of the right operand: its last axis, also when it has batch axes in front. A vector has none. */
static int matmul_weight_axis(const rq_node *n, const rq_shape *w)
{
    return w->rank >= 2 ? w->rank - 1 : RQ_PER_TENSOR;
}

/* ---- Gemm ---- */

static rq_status gemm_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const bool ta = flag(a->node, RQ_WORD_transA), tb = flag(a->node, RQ_WORD_transB);
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[1]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != a->in[1]->dtype)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "operands have types %s and %s", rq_dtype_name(a->in[0]->dtype),
                             rq_dtype_name(a->in[1]->dtype));
    for (int i = 0; i < 2; i++)
        if (a->in[i]->shape.rank >= 0 && a->in[i]->shape.rank != 2)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %d axes, expected 2", i, a->in[i]->shape.rank);
    rq_shape *y = &a->out_shape[0];
    *y = rq_shape_of(2, (int64_t[]) { RQ_DIM_UNKNOWN, RQ_DIM_UNKNOWN });
    if (x->rank == 2)
        y->dim[0] = x->dim[ta ? 1 : 0];
    if (w->rank == 2)
        y->dim[1] = w->dim[tb ? 0 : 1];
    if (x->rank == 2 && w->rank == 2) {
        const int64_t k = x->dim[ta ? 0 : 1], kw = w->dim[tb ? 1 : 0];
        if (k >= 0 && kw >= 0 && k != kw)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "inner sizes are %lld and %lld", (long long)k, (long long)kw);
    }
    if (a->n_in > 2 && a->in[2] && a->in[2]->shape.rank >= 0) {
        const rq_shape *c = &a->in[2]->shape;
        rq_shape sum;
        char cs[RQ_SHAPE_TEXT], ys[RQ_SHAPE_TEXT];
        bool fits = rq_infer_broadcast_shapes(y, c, &sum) && sum.rank == 2;
        for (int i = 0; fits && i < 2; i++)
            fits = y->dim[i] < 0 || sum.dim[i] < 0 || y->dim[i] == sum.dim[i];
        if (!fits)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "C of shape %s does not broadcast to %s",
                                 rq_shape_text(c, cs, sizeof cs), rq_shape_text(y, ys, sizeof ys));
    }
    return RQ_OK;
}

typedef struct spread_job {
    float *y;
    const float *c;
} spread_job;

static void spread_row(void *arg, int64_t y, int64_t u, int su, int64_t c, int sc, int64_t n)
{
    const spread_job *j = arg;
    if (sc)
        memcpy(j->y + y, j->c + c, (size_t)n * sizeof *j->y);
    else
        for (int64_t i = 0; i < n; i++)
            j->y[y + i] = j->c[c];
}

static rq_status gemm_prepare(const rq_op_args *a, void **state)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    *state = NULL;
    if (a->in[0]->dtype != RQ_DTYPE_F32 || flag(a->node, RQ_WORD_transA) || y->dim[0] == 0 ||
        rq_attr_float(a->node, RQ_WORD_beta, 1) != 1)
        return RQ_OK;
    return rq_matmul_pack(a, flag(a->node, RQ_WORD_transB), x->dim[1], y->dim[1], state);
}

/* op(A) by a packed B. Where C is a row it is added to the sums as they are made; else it stands in y already. */
static void gemm_packed(const rq_op_args *a, float alpha, const rq_tensor *c, bool row)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    const rq_gemm_f32_after after = { .alpha = alpha,
                                      .bias = c && row ? c->f32 : NULL,
                                      .add = c && !row ? a->out[0]->f32 : NULL };
    rq_gemm_f32_packed(a->k, a->out[0]->f32, y->dim[1], a->in[0]->f32, x->dim[1], a->state, y->dim[0], y->dim[1],
                       x->dim[1], &after, a->threads);
}

static rq_status gemm_wide(const rq_op_args *a)
{
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_op_no_form(a, a->in[0]->dtype);
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const bool ta = flag(a->node, RQ_WORD_transA), tb = flag(a->node, RQ_WORD_transB);
    const float alpha = rq_attr_float(a->node, RQ_WORD_alpha, 1), beta = rq_attr_float(a->node, RQ_WORD_beta, 1);
    const rq_tensor *c = a->n_in > 2 ? a->in[2] : NULL;
    rq_tensor *y = a->out[0];
    const bool row =
        a->state && c && rq_tensor_count(c) == y->shape.dim[1] && c->shape.dim[c->shape.rank - 1] == y->shape.dim[1];
    if (c && beta != 0 && !row) {
        spread_job j = { .y = y->f32, .c = c->f32 };
        rq_bcast p;
        rq_bcast_init(&p, &y->shape, &y->shape, &c->shape);
        rq_bcast_for(&p, a->threads, spread_row, &j);
    }
    rq_status s = RQ_OK;
    if (a->state)
        gemm_packed(a, alpha, c, row);
    else
        s = rq_gemm_f32(a->k, y->f32, a->in[0]->f32, a->in[1]->f32, ta, tb, y->shape.dim[0], y->shape.dim[1],
                        x->dim[ta ? 0 : 1], alpha, x->dim[1], w->dim[1], c ? beta : 0, y->shape.dim[1], a->threads);
    if (s != RQ_OK)
        return rq_op_fail(a, s, "oneDNN failed: %s", rq_status_text(s));
    if (a->node->row == &rq_op_ms_fused_gemm) {
        switch (rq_attr_word(a->node, RQ_WORD_activation, RQ_N_WORDS)) {
        case RQ_N_WORDS:
            return RQ_OK;
        case RQ_WORD_Relu:
            return rq_eltwise_map(a, y, y, RQ_MAP_RELU, 0, 0);
        case RQ_WORD_LeakyRelu:
            return rq_eltwise_map(a, y, y, RQ_MAP_LEAKY_RELU, rq_attr_float(a->node, RQ_WORD_activation_alpha, 0.01f),
                                  0);
        case RQ_WORD_Sigmoid:
            return rq_eltwise_map(a, y, y, RQ_MAP_SIGMOID, 0, 0);
        case RQ_WORD_Tanh:
            return rq_eltwise_map(a, y, y, RQ_MAP_TANH, 0, 0);
        default:
            if (*rq_attr_string(a->node, RQ_WORD_activation, ""))
                return rq_op_fail(a, RQ_UNSUPPORTED, "activation '%s' is not supported",
                                  rq_attr_string(a->node, RQ_WORD_activation, ""));
        }
    }
    return RQ_OK;
}

static rq_status gemm_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, gemm_wide);
}

static double gemm_macs(const rq_op_args *a)
{
    const int64_t k = a->in[0]->shape.dim[flag(a->node, RQ_WORD_transA) ? 0 : 1];
    return (double)rq_shape_count(&a->out[0]->shape) * (double)k;
}

static int gemm_weight_axis(const rq_node *n, const rq_shape *w)
{
    return flag(n, RQ_WORD_transB) ? 0 : 1;
}

/* Float products need none. */
static size_t scratch(const rq_op_args *a, bool integer)
{
    return integer ? rq_int_pick_scratch(a) : 0;
}

const rq_op rq_op_matmul = {
    .name = "MatMul",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_POSTS,
    .place = RQ_PLACE_WEIGHTED,
    .infer = rq_matmul_infer,
    .samples = rq_samples_matmul,
    .prepare = matmul_prepare,
    .forward = matmul_forward,
    .backward = rq_matmul_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(0) | RQ_OP_IN(1),
    .accepts_int = rq_int_pick_matmul,
    .prepare_int = rq_int_pick_prepare_matmul,
    .forward_int = rq_int_pick_forward,
    .release_int = rq_int_pick_release,
    .scratch = scratch,
    .weight_axis = matmul_weight_axis,
    .macs = rq_matmul_macs,
};

const rq_op rq_op_gemm = {
    .name = "Gemm",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_POSTS,
    .place = RQ_PLACE_WEIGHTED,
    .infer = gemm_infer,
    .samples = rq_samples_gemm,
    .prepare = gemm_prepare,
    .forward = gemm_forward,
    .backward = rq_gemm_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .accepts_int = rq_int_pick_gemm,
    .prepare_int = rq_int_pick_prepare_gemm,
    .forward_int = rq_int_pick_forward,
    .release_int = rq_int_pick_release,
    .scratch = scratch,
    .weight_axis = gemm_weight_axis,
    .macs = gemm_macs,
};

const rq_op rq_op_ms_fused_matmul = {
    .name = "FusedMatMul",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_matmul_infer,
    .prepare = matmul_prepare,
    .forward = matmul_forward,
    .backward = rq_matmul_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(0) | RQ_OP_IN(1),
    .macs = rq_matmul_macs,
};

const rq_op rq_op_ms_transpose_matmul = {
    .name = "TransposeMatMul",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_matmul_infer,
    .prepare = matmul_prepare,
    .forward = matmul_forward,
    .backward = rq_matmul_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(0) | RQ_OP_IN(1),
    .macs = rq_matmul_macs,
};

const rq_op rq_op_ms_fused_gemm = {
    .name = "FusedGemm",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = gemm_infer,
    .prepare = gemm_prepare,
    .forward = gemm_forward,
    .macs = gemm_macs,
};
