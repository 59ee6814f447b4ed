/* ops/int_matmul.c — MatMul and Gemm on codes: sums of s8 * u8 products in s32, requantized per column or handed over
 * as reals (docs/onnx-facts.md 6.2).
 *
 *   sum (a - za)(b - zb) + c  =  sum a b  +  [c - za sum b + K za zb]  -  zb sum a
 *
 * The bracket is one constant per column: made when the plan is, if B is constant; zb * sum a is one number per row
 * where all columns share zb. A is made s8 and B u8 by flipping top bits, which shifts zero points by 128. */
#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/int_ops.h"

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
    uint8_t *b; /* packed B, n_b times b_bytes; NULL: B is variable */
    size_t b_bytes;
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
    const bool ta = rq_attr_int(a->node, "transA", 0) != 0, tb = rq_attr_int(a->node, "transB", 0) != 0;
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
    if (c && rq_attr_float(a->node, "beta", 1) != 1)
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
    if (!accepts(a, rq_attr_int(a->node, "transB", 0) ? 0 : 1, why))
        return false;
    *why = "bias has a scale of its own";
    return !c || !a->in_q[2] || rq_int_is_bias(a->in_q[2], a->in_q[0], a->in_q[1], rq_attr_float(a->node, "alpha", 1));
}

/* ---- preparing ---- */

void rq_int_matmul_release(void *state)
{
    matmul_state *s = state;
    if (!s)
        return;
    rq_mem_free(s->b);
    rq_mem_free(s->col_add);
    rq_mem_free(s->col_zero);
    rq_mem_free(s->m);
    rq_mem_free(s->unit);
    rq_mem_free(s->bias);
    rq_mem_free(s);
}

void rq_int_matmul_fold(const rq_gemm_isa *g, int32_t *add, const uint8_t *b, int64_t depth, int64_t columns,
                        int32_t za, int32_t zero, const int32_t *col_zero)
{
    const int64_t padded_depth = (depth + g->kr - 1) / g->kr * g->kr;
    int32_t sum[RQ_GEMM_MAX_COLUMNS] = { 0 };
    for (int64_t i = 0, n = rq_gemm_panels(g, columns); i < n; i++) {
        int vectors;
        const int64_t first = rq_gemm_panel(g, columns, i, &vectors), most = (int64_t)vectors * g->lanes;
        const int64_t cols = columns - first < most ? columns - first : most;
        if (za)
            rq_gemm_panel_sums(g, sum, b + first * padded_depth, vectors, depth, cols);
        for (int64_t j = 0; j < cols; j++) {
            const uint32_t zb = (uint32_t)(col_zero ? col_zero[first + j] : zero);
            const uint32_t both = (uint32_t)depth * (uint32_t)za * zb;
            add[first + j] = (int32_t)((uint32_t)add[first + j] + both - (uint32_t)za * (uint32_t)sum[j]);
        }
    }
}

static void fold_b(const rq_gemm_isa *g, const matmul_state *s, int32_t *add, const uint8_t *b)
{
    rq_int_matmul_fold(g, add, b, s->p.depth, s->p.columns, s->za, s->zero, s->col_zero);
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
    const rq_gemm_isa *g = &a->k->gemm;
    const size_t n = (size_t)p->columns;
    const bool is_constant = a->in[1]->data != NULL;
    matmul_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->p = *p;
    s->b_bytes = rq_mem_round(rq_gemm_b_bytes(g, p->depth, p->columns));
    s->col_add = rq_mem_zalloc(is_constant ? (size_t)p->n_b * n : n, sizeof *s->col_add);
    s->col_zero = rq_mem_alloc(n, sizeof *s->col_zero);
    s->m = rq_mem_alloc(n, sizeof *s->m);
    s->unit = rq_mem_alloc(n, sizeof *s->unit);
    s->bias = rq_mem_zalloc(n, sizeof *s->bias);
    if (is_constant)
        s->b = rq_mem_alloc((size_t)p->n_b, s->b_bytes);
    if (!s->col_add || !s->col_zero || !s->m || !s->unit || !s->bias || (is_constant && !s->b)) {
        rq_int_matmul_release(s);
        return RQ_NO_MEMORY;
    }
    const uint8_t flip = rq_int_flip_to_u8(wq->dtype);
    s->za = xq->zero_point[0] - (rq_int_flip_to_s8(xq->dtype) ? 128 : 0);
    s->zero = wq->zero_point[0] + (flip ? 128 : 0);
    bool same = true;
    for (int64_t j = 0; j < p->columns; j++) {
        const int64_t i = wq->n > 1 ? j : 0;
        s->col_zero[j] = wq->zero_point[i] + (flip ? 128 : 0);
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
    for (int64_t i = 0; is_constant && i < p->n_b; i++) {
        uint8_t *packed = s->b + (size_t)i * s->b_bytes;
        rq_gemm_pack_b(g, packed, a->in[1]->u8 + i * p->depth * p->columns, p->b_k, p->b_col, p->depth, p->columns,
                       flip);
        fold_b(g, s, s->col_add + i * p->columns, packed);
    }
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
    return prepare(a, &p, rq_attr_float(a->node, "alpha", 1), a->n_in > 2 ? a->in[2] : NULL, state);
}

/* ---- running ---- */

/* Scratch: packed A, its row sums, what they add to each row; then, where B is variable, packed B and its bracket. */
typedef struct layout {
    size_t row_sum, row_add, b, col_add, bytes;
} layout;

static layout layout_of(const rq_op_args *a, const matmul_state *s)
{
    layout l;
    const size_t rows = rq_mem_round((size_t)s->p.rows * sizeof(int32_t));
    l.row_sum = rq_mem_round(rq_gemm_a_bytes(&a->k->gemm, s->p.rows, s->p.depth));
    l.row_add = l.row_sum + rows;
    l.b = l.row_add + rows;
    l.col_add = l.b + (s->b ? 0 : s->b_bytes);
    l.bytes = l.col_add + (s->b ? 0 : (size_t)s->p.columns * sizeof(int32_t));
    return l;
}

size_t rq_int_matmul_scratch(const rq_op_args *a)
{
    return layout_of(a, a->state).bytes;
}

typedef struct pack_args {
    const rq_gemm_isa *g;
    const product *p;
    char *dst;
    const uint8_t *src;
    uint8_t flip;
    int64_t rows; /* of one item; a multiple of mr */
    int32_t *row_sum;
} pack_args;

static void pack_rows(void *arg, int64_t item)
{
    const pack_args *k = arg;
    const int64_t first = item * k->rows, left = k->p->rows - first;
    const size_t row_bytes = (size_t)((k->p->depth + k->g->kr - 1) / k->g->kr * k->g->kr * k->g->a_bytes);
    rq_gemm_pack_a(k->g, k->dst + (size_t)first * row_bytes, k->src + first * k->p->a_row, k->p->a_row, k->p->a_k,
                   left < k->rows ? left : k->rows, k->p->depth, k->flip, k->row_sum + first);
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

static void run_one(const rq_op_args *a, const matmul_state *s, int64_t batch)
{
    const product *p = &s->p;
    const rq_gemm_isa *g = &a->k->gemm;
    const layout l = layout_of(a, s);
    char *scratch = a->scratch;
    int32_t *row_sum = (int32_t *)(scratch + l.row_sum), *row_add = (int32_t *)(scratch + l.row_add);
    int64_t at_a, at_b;
    batch_at(p, batch, &at_a, &at_b);
    pack_args k = { .g = g,
                    .p = p,
                    .dst = scratch,
                    .src = a->in[0]->u8 + at_a * p->rows * p->depth,
                    .flip = rq_int_flip_to_s8(a->in[0]->dtype),
                    .rows = 8 * g->mr,
                    .row_sum = row_sum };
    rq_threads *workers = p->rows * p->depth < 1 << 16 ? NULL : a->threads;
    rq_threads_for(workers, (p->rows + k.rows - 1) / k.rows, pack_rows, &k);
    const uint8_t *b = s->b ? s->b + (size_t)at_b * s->b_bytes : NULL;
    const int32_t *col_add = s->b ? s->col_add + at_b * p->columns : NULL;
    if (!b) {
        uint8_t *packed = (uint8_t *)scratch + l.b;
        int32_t *add = (int32_t *)(scratch + l.col_add);
        rq_gemm_pack_b(g, packed, a->in[1]->u8 + at_b * p->depth * p->columns, p->b_k, p->b_col, p->depth, p->columns,
                       rq_int_flip_to_u8(a->in[1]->dtype));
        memcpy(add, s->col_add, (size_t)p->columns * sizeof *add);
        fold_b(g, s, add, packed);
        b = packed;
        col_add = add;
    }
    for (int64_t i = 0; !s->col_zero && i < p->rows; i++)
        row_add[i] = (int32_t)(0 - (uint32_t)s->zero * (uint32_t)row_sum[i]);
    rq_gemm job = { .k = a->k, .rows = p->rows, .depth = p->depth, .columns = p->columns, .a = scratch, .b = b };
    job.out = (rq_gemm_out) { .kind = RQ_GEMM_F32, .ld = p->columns, .col_add = col_add, .col_m = s->m };
    const int64_t at_y = batch * p->rows * p->columns;
    job.out.y = a->out[0]->u8 + (a->out_q[0] ? at_y : 4 * at_y);
    if (a->out[0]->dtype == RQ_DTYPE_S32)
        job.out.kind = RQ_GEMM_S32;
    if (a->out_q[0]) {
        job.out.kind = RQ_GEMM_CODES;
        job.out.zp = a->out_q[0]->zero_point[0];
        rq_qparams_limits(a->out_q[0], &job.out.lo, &job.out.hi);
    }
    if (a->k->spec && job.out.kind != RQ_GEMM_S32) {
        rq_int_by_the_definition(a, &job.out, s->unit, false);
        job.out.col_bias = s->bias;
    }
    if (s->col_zero) {
        job.out.col_zero = s->col_zero;
        job.out.row_sum = row_sum;
    } else {
        job.out.row_add = row_add;
    }
    if (s->adds) {
        job.out.add = a->in[2]->s32;
        job.out.add_row = s->add_row;
        job.out.add_col = s->add_col;
    }
    rq_gemm_run(&job, a->threads);
}

rq_status rq_int_matmul_forward(const rq_op_args *a)
{
    const matmul_state *s = a->state;
    for (int64_t i = 0; i < s->p.batches; i++)
        run_one(a, s, i);
    return RQ_OK;
}
