/* ops/integer.c — products that are integer in the file itself: MatMulInteger (s32 sums, docs/onnx-facts.md 2.6),
 * QLinearMatMul (2.8) as far as it could not be raised into an annotated MatMul, because a scale is computed or stands
 * per row, and MatMulIntegerToFloat and DynamicQuantizeMatMul of com.microsoft (2.9). MatMulIntegerScaled of the domain "requant" is what plans make of
 * MatMulInteger and what follows it (run/plan_dynamic.c): f32(f32(f32(sum) sA) sB) + bias, where MatMulIntegerToFloat multiplies both scales first.
 *
 * Constant weights are packed once; the rest is int_product's. */
#include "ops/integer.h"

#include <string.h>

#include "base/mem.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/int_product.h"
#include "ops/rows.h"
#include "ops/samples.h"

static const rq_integer_roles *roles_of(const rq_node *n)
{
    static const rq_integer_roles integer = { 0, -1, 2, 1, -1, 3, -1, -1, -1 };
    static const rq_integer_roles qlinear = { 0, 1, 2, 3, 4, 5, 6, 7, -1 };
    static const rq_integer_roles to_float = { 0, 2, 4, 1, 3, 5, -1, -1, 6 };
    static const rq_integer_roles dynamic = { 0, -1, -1, 1, 2, 3, -1, -1, 4 };
    return n->op[0] == 'Q' ? &qlinear : n->op[0] == 'D' ? &dynamic : strlen(n->op) > 13 ? &to_float : &integer;
}

static bool is_dynamic(const rq_node *n)
{
    return n->op[0] == 'D';
}

static bool is_scaled(const rq_node *n)
{
    return n->row == &rq_op_matmul_integer_scaled;
}

/* ---- shared with integer_conv.c ---- */

const rq_tensor *rq_integer_input(const rq_op_args *a, int i)
{
    return i >= 0 && i < a->n_in ? a->in[i] : NULL;
}

int64_t rq_integer_count(const rq_tensor *t)
{
    return t ? rq_tensor_count(t) : 1;
}

rq_status rq_integer_check_scalars(const rq_op_args *a, const rq_integer_roles *r, bool per_row)
{
    const int one[4] = { r->y_scale, r->y_zero, r->x_scale, r->x_zero };
    for (int i = 0; i < (per_row ? 2 : 4); i++)
        if (rq_integer_count(rq_integer_input(a, one[i])) != 1)
            return rq_op_fail(a, RQ_UNSUPPORTED,
                              "input %d has %lld entries, expected one scale or zero point for the tensor", one[i],
                              (long long)rq_integer_count(rq_integer_input(a, one[i])));
    return RQ_OK;
}

rq_status rq_integer_check_types(const rq_infer *a, const rq_integer_roles *r)
{
    const rq_dtype x = a->in[r->x]->dtype, w = a->in[r->w]->dtype;
    if ((x != RQ_DTYPE_NONE && !rq_int_is_byte(x)) || (w != RQ_DTYPE_NONE && !rq_int_is_byte(w)))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "operands are %s and %s, expected u8 or s8", rq_dtype_name(x),
                             rq_dtype_name(w));
    const int zero[2] = { r->x_zero, r->w_zero }, of[2] = { r->x, r->w };
    for (int i = 0; i < 2; i++) {
        const rq_tensor *z = zero[i] < a->n_in ? a->in[zero[i]] : NULL, *t = a->in[of[i]];
        if (z && z->dtype != RQ_DTYPE_NONE && t->dtype != RQ_DTYPE_NONE && z->dtype != t->dtype)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "the zero point of input %d is %s, the input %s", of[i],
                                 rq_dtype_name(z->dtype), rq_dtype_name(t->dtype));
    }
    if (r->y_zero < 0)
        a->out_dtype[0] = RQ_DTYPE_S32;
    else if (a->in[r->y_zero] && a->in[r->y_zero]->dtype != RQ_DTYPE_NONE && !rq_int_is_byte(a->in[r->y_zero]->dtype))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the zero point of the output is %s, expected u8 or s8",
                             rq_dtype_name(a->in[r->y_zero]->dtype));
    else if (a->in[r->y_zero])
        a->out_dtype[0] = a->in[r->y_zero]->dtype;
    return RQ_OK;
}

/* ---- shapes ---- */

rq_status rq_integer_matmul_shape(const rq_infer *a, const rq_shape *x, const rq_shape *w, rq_shape *y)
{
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    if (x->rank == 0 || w->rank == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "an operand is a scalar, expected at least one axis");
    const int64_t k = x->dim[x->rank - 1], k2 = w->dim[w->rank > 1 ? w->rank - 2 : 0];
    if (k >= 0 && k2 >= 0 && k != k2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "A has %lld columns and B %lld rows, expected as many", (long long)k,
                             (long long)k2);
    const rq_shape xb = rq_shape_of(x->rank > 2 ? x->rank - 2 : 0, x->dim),
                   wb = rq_shape_of(w->rank > 2 ? w->rank - 2 : 0, w->dim);
    if (!rq_infer_broadcast_shapes(&xb, &wb, y))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the leading axes of A and B do not broadcast");
    if (x->rank > 1)
        y->dim[y->rank++] = x->dim[x->rank - 2];
    if (w->rank > 1)
        y->dim[y->rank++] = w->dim[w->rank - 1];
    return RQ_OK;
}

/* Scales and a bias in reals are of the type of the result. */
static rq_status check_reals(const rq_infer *a, int i)
{
    const rq_tensor *t = i >= 0 && i < a->n_in ? a->in[i] : NULL;
    if (!t || t->dtype == RQ_DTYPE_NONE || a->out_dtype[0] == RQ_DTYPE_NONE || t->dtype == a->out_dtype[0])
        return RQ_OK;
    return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected %s", i, rq_dtype_name(t->dtype),
                         rq_dtype_name(a->out_dtype[0]));
}

static rq_status matmul_infer(const rq_infer *a)
{
    const rq_integer_roles *r = roles_of(a->node);
    const bool dynamic = is_dynamic(a->node);
    if (dynamic) {
        const rq_dtype x = a->in[0]->dtype, w = a->in[1]->dtype;
        if ((x != RQ_DTYPE_NONE && x != RQ_DTYPE_F32) || (w != RQ_DTYPE_NONE && !rq_int_is_byte(w)))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "operands are %s and %s, expected f32 and u8 or s8", rq_dtype_name(x),
                                 rq_dtype_name(w));
        const rq_tensor *z = r->w_zero < a->n_in ? a->in[r->w_zero] : NULL;
        if (z && z->dtype != RQ_DTYPE_NONE && w != RQ_DTYPE_NONE && z->dtype != w)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "the zero point of input 1 is %s, the input %s",
                                 rq_dtype_name(z->dtype), rq_dtype_name(w));
        a->out_dtype[0] = RQ_DTYPE_F32;
    } else {
        RQ_TRY(rq_integer_check_types(a, r));
        if (is_scaled(a->node))
            a->out_dtype[0] = RQ_DTYPE_F32;
        else if (r->y_zero < 0 && r->w_scale >= 0)
            a->out_dtype[0] = a->in[r->w_scale]->dtype;
    }
    if (a->out_dtype[0] == RQ_DTYPE_F32 || a->out_dtype[0] == RQ_DTYPE_F16) {
        RQ_TRY(check_reals(a, r->x_scale));
        RQ_TRY(check_reals(a, r->w_scale));
        RQ_TRY(check_reals(a, r->bias));
    }
    const rq_tensor *bias = r->bias >= 0 && r->bias < a->n_in ? a->in[r->bias] : NULL;
    const rq_shape *w = &a->in[r->w]->shape;
    const int64_t columns = w->rank < 0 ? -1 : w->rank > 1 ? w->dim[w->rank - 1] : 1;
    if (bias && bias->shape.rank >= 0 &&
        (bias->shape.rank != 1 || (columns >= 0 && bias->shape.dim[0] >= 0 && bias->shape.dim[0] != columns)))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias has %d axes and %lld entries, expected one of %lld",
                             bias->shape.rank, (long long)(bias->shape.rank == 1 ? bias->shape.dim[0] : -1),
                             (long long)columns);
    return rq_integer_matmul_shape(a, &a->in[r->x]->shape, w, &a->out_shape[0]);
}

/* ---- preparing ---- */

typedef struct matmul_state {
    rq_product p;
    int64_t rows, n_x, batches; /* of a matrix of x; different x; products */
} matmul_state;

static int64_t rows_of(const rq_shape *x)
{
    return x->rank > 1 ? x->dim[x->rank - 2] : 1;
}

static int64_t columns_of(const rq_shape *w)
{
    return w->rank > 1 ? w->dim[w->rank - 1] : 1;
}

static int64_t matrices_of(const rq_shape *s)
{
    return s->rank > 2 ? rq_shape_span(s, 0, s->rank - 2) : 1;
}

/* How many scales or zero points there are of A and of B. */
static rq_status check_params(const rq_op_args *a)
{
    const rq_integer_roles *r = roles_of(a->node);
    const rq_shape *x = &a->in[r->x]->shape, *w = &a->in[r->w]->shape;
    const int64_t rows = rows_of(x), columns = columns_of(w);
    const int at[4] = { r->x_scale, r->x_zero, r->w_scale, r->w_zero };
    RQ_TRY(rq_integer_check_scalars(a, r, true));
    for (int i = 0; i < 4; i++) {
        const int64_t n = rq_integer_count(rq_integer_input(a, at[i]));
        const int64_t each = i < 2 ? rows : columns, all = each * matrices_of(i < 2 ? x : w);
        if (n != 1 && n != each && n != all)
            return rq_op_fail(a, RQ_UNSUPPORTED, "%lld scales or zero points of %c, expected 1, %lld or %lld",
                              (long long)n, i < 2 ? 'A' : 'B', (long long)each, (long long)all);
    }
    return RQ_OK;
}

static void matmul_release(void *state)
{
    matmul_state *s = state;
    if (!s)
        return;
    rq_product_release(&s->p);
    rq_mem_free(s);
}

static rq_status matmul_prepare(const rq_op_args *a, void **state)
{
    const rq_integer_roles *r = roles_of(a->node);
    const rq_tensor *x = a->in[r->x], *w = a->in[r->w];
    RQ_TRY(check_params(a));
    matmul_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    const int64_t n_w = matrices_of(&w->shape);
    s->rows = rows_of(&x->shape);
    s->n_x = matrices_of(&x->shape);
    s->batches = 1;
    if (n_w > 1) {
        const int64_t product = s->rows * columns_of(&w->shape);
        s->batches = product ? rq_tensor_count(a->out[0]) / product : 0;
    }
    const rq_dtype codes = is_dynamic(a->node) ? RQ_DTYPE_U8 : x->dtype;
    rq_status st = rq_product_init(&s->p, a, codes, w, n_w, n_w > 1 ? s->rows : s->rows * s->n_x,
                                   x->shape.dim[x->shape.rank - 1], columns_of(&w->shape));
    if (st) {
        rq_mem_free(s);
        return st;
    }
    *state = s;
    return RQ_OK;
}

/* Codes of a dynamic operator's x come first. */
static size_t codes_bytes(const rq_op_args *a)
{
    return is_dynamic(a->node) ? rq_mem_round((size_t)rq_tensor_count(a->in[0])) : 0;
}

static size_t matmul_scratch(const rq_op_args *a, bool integer)
{
    const matmul_state *s = a->state;
    return codes_bytes(a) + rq_product_scratch(&s->p);
}

/* ---- running ---- */

/* Number of the matrix of t that batch i of y uses; lead: the shape of y with both axes of a matrix. */
static int64_t matrix_at(const rq_shape *t, const rq_shape *lead, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int d = 3; d <= lead->rank; d++) {
        const int64_t k = i % lead->dim[lead->rank - d], n = d <= t->rank ? t->dim[t->rank - d] : 1;
        i /= lead->dim[lead->rank - d];
        at += (n == 1 ? 0 : k) * step;
        step *= n;
    }
    return at;
}

/* The entries of t (or nothing) that belong to matrix m of several with n rows or columns each. */
static rq_tensor entries_of(const rq_tensor *t, int64_t n, int64_t m)
{
    rq_tensor none = { 0 };
    if (!t)
        return none;
    const int64_t count = rq_tensor_count(t), some = count < n ? count : n;
    const rq_shape list = rq_shape_of(1, &some);
    return rq_tensor_view(t->dtype, &list, t->u8 + (count > n ? m * n * (rq_dtype_bits(t->dtype) / 8) : 0));
}

static rq_status matmul_run(const rq_op_args *a)
{
    const matmul_state *s = a->state;
    const rq_product *p = &s->p;
    const rq_integer_roles *r = roles_of(a->node);
    const rq_tensor *x = a->in[r->x], *w = a->in[r->w], *bias = rq_integer_input(a, r->bias);
    rq_tensor *y = a->out[0];
    const uint8_t *codes = x->u8;
    float scale;
    uint8_t zero;
    const rq_shape scalar = rq_shape_of(0, NULL);
    rq_tensor dynamic_scale = rq_tensor_view(RQ_DTYPE_F32, &scalar, &scale),
              dynamic_zero = rq_tensor_view(RQ_DTYPE_U8, &scalar, &zero);
    const rq_tensor *x_scale = rq_integer_input(a, r->x_scale), *x_zero = rq_integer_input(a, r->x_zero);
    if (rq_tensor_count(y) == 0)
        return RQ_OK;
    if (is_dynamic(a->node)) {
        rq_int_dynamic_on(a->threads, a->scratch, x->f32, rq_tensor_count(x), &scale, &zero, a->k);
        codes = a->scratch;
        x_scale = &dynamic_scale;
        x_zero = &dynamic_zero;
    }
    rq_shape lead = y->shape; /* with both axes of the matrix, which vectors lack */
    for (int i = 0; i < (x->shape.rank == 1) + (w->shape.rank == 1); i++)
        lead.dim[lead.rank++] = 1;
    for (int64_t i = 0; i < s->batches; i++) {
        const bool each = p->n_w > 1;
        const int64_t mx = each ? matrix_at(&x->shape, &lead, i) : 0, mw = each ? matrix_at(&w->shape, &lead, i) : 0;
        const int64_t period = each ? s->rows : p->rows;
        rq_product_job j = { .x = codes + mx * p->rows * p->depth,
                             .w = w->u8 + mw * p->depth * p->columns,
                             .rows = p->rows,
                             .at_w = mw,
                             .x_scale = entries_of(x_scale, period, mx),
                             .x_zero = entries_of(x_zero, period, mx),
                             .w_scale = entries_of(rq_integer_input(a, r->w_scale), p->columns, mw),
                             .w_zero = entries_of(rq_integer_input(a, r->w_zero), p->columns, mw),
                             .y_scale = entries_of(rq_integer_input(a, r->y_scale), 1, 0),
                             .y_zero = entries_of(rq_integer_input(a, r->y_zero), 1, 0),
                             .bias = bias ? bias->f32 : NULL,
                             .y_dtype = y->dtype,
                             .in_turn = is_scaled(a->node) };
        j.y = y->u8 + i * p->rows * p->columns * (rq_dtype_bits(y->dtype) / 8);
        rq_product_run(p, &j, (char *)a->scratch + codes_bytes(a), a->threads);
    }
    return RQ_OK;
}

static rq_status matmul_forward(const rq_op_args *a)
{
    return rq_half_run(a, matmul_run);
}

static double matmul_macs(const rq_op_args *a)
{
    const matmul_state *s = a->state;
    return (double)s->batches * (double)s->p.rows * (double)s->p.depth * (double)s->p.columns;
}

/* ---- rows ---- */

#define PRODUCT                                                                                                        \
    .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT, .infer = matmul_infer, .prepare = matmul_prepare,             \
    .forward = matmul_forward, .release = matmul_release, .scratch = matmul_scratch, .macs = matmul_macs
#define MICROSOFT .domain = "com.microsoft", .since = 1, .known = 1

const rq_op rq_op_matmul_integer = { .name = "MatMulInteger",
                                     .domain = "",
                                     .since = 10,
                                     .known = 25,
                                     .min_in = 2,
                                     .max_in = 4,
                                     .samples = rq_samples_matmul,
                                     PRODUCT };
const rq_op rq_op_qlinear_matmul = {
    .name = "QLinearMatMul", .domain = "", .since = 10, .known = 25, .min_in = 8, .max_in = 8, PRODUCT
};
const rq_op rq_op_ms_matmul_integer_to_float = {
    .name = "MatMulIntegerToFloat", MICROSOFT, .min_in = 4, .max_in = 7, PRODUCT
};
const rq_op rq_op_ms_dynamic_quantize_matmul = {
    .name = "DynamicQuantizeMatMul", MICROSOFT, .min_in = 3, .max_in = 5, PRODUCT
};
const rq_op rq_op_matmul_integer_scaled = {
    .name = "MatMulIntegerScaled", .domain = "requant", .since = 1, .known = 1, .min_in = 2, .max_in = 7, PRODUCT
};
