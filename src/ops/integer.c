/* ops/integer.c — operators that are integer in the file itself: MatMulInteger, ConvInteger (s32 sums,
 * docs/onnx-facts.md 2.6), and QLinearMatMul, QLinearConv (2.7, 2.8) as far as they could not be raised into annotated
 * MatMul and Conv, because a scale is computed or stands per matrix of a batch.
 *
 * Their parameters are ordinary inputs, so nothing is known before the run: each run makes annotations of them and goes
 * through the integer forms of Conv and MatMul, packing the weights every time. */
#include "ops/int_ops.h"
#include "ops/window.h"

/* Inputs by role; -1: the operator has none. */
typedef struct roles {
    int x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias;
} roles;

static const roles integer_roles = { 0, -1, 2, 1, -1, 3, -1, -1, -1 };
static const roles qlinear_roles = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };

static bool is_qlinear(const rq_node *n)
{
    return n->op[0] == 'Q';
}

static const rq_tensor *input(const rq_op_args *a, int i)
{
    return i >= 0 && i < a->n_in ? a->in[i] : NULL;
}

/* Entries from..from+n-1 of scale and zero point (NULL: 1 and 0; one entry serves all) for codes of type d. */
static rq_status annotation(rq_qparams *q, rq_dtype d, int axis, int64_t from, int64_t n, const rq_tensor *scale,
                            const rq_tensor *zero)
{
    RQ_TRY(rq_qparams_init(q, d, n == 1 ? RQ_PER_TENSOR : axis, 0, n));
    for (int64_t i = 0; i < n; i++) {
        q->scale[i] = scale ? (float)rq_tensor_get(scale, rq_tensor_count(scale) == 1 ? 0 : from + i) : 1;
        q->zero_point[i] = zero ? (int32_t)rq_tensor_get_int(zero, rq_tensor_count(zero) == 1 ? 0 : from + i) : 0;
    }
    return RQ_OK;
}

static int64_t count_or_1(const rq_tensor *t)
{
    return t ? rq_tensor_count(t) : 1;
}

/* x, w and y with their annotations through the form that prepare and forward belong to. */
typedef struct form {
    rq_status (*prepare)(const rq_op_args *a, void **state);
    rq_status (*forward)(const rq_op_args *a);
    size_t (*scratch)(const rq_op_args *a);
    void (*release)(void *state);
} form;

static const form conv_form = { rq_int_conv_prepare, rq_int_conv_forward, rq_int_conv_scratch, rq_int_conv_release };
static const form matmul_form = { rq_int_matmul_prepare, rq_int_matmul_forward, rq_int_matmul_scratch,
                                  rq_int_matmul_release };

static rq_status run_form(const rq_op_args *a, const form *f, const rq_tensor *const *in, int n_in, rq_tensor *y,
                          const rq_qparams *xq, const rq_qparams *wq, const rq_qparams *yq)
{
    rq_op_args b = *a;
    const rq_qparams *in_q[3] = { xq, wq, NULL }, *out_q[1] = { yq };
    rq_tensor *out[1] = { y };
    b.in = in;
    b.n_in = n_in;
    b.in_q = in_q;
    b.out_q = out_q;
    b.out = out;
    b.state = NULL;
    RQ_TRY(f->prepare(&b, &b.state));
    b.scratch = rq_mem_alloc(f->scratch(&b), 1);
    rq_status st = b.scratch ? f->forward(&b) : RQ_NO_MEMORY;
    rq_mem_free(b.scratch);
    f->release(b.state);
    return st;
}

/* Parameters of y stand for the whole tensor, and those of x too where they are not `per_row`. */
static rq_status check_scalars(const rq_op_args *a, const roles *r, bool per_row)
{
    const int one[4] = { r->y_scale, r->y_zero, r->x_scale, r->x_zero };
    for (int i = 0; i < (per_row ? 2 : 4); i++)
        if (count_or_1(input(a, one[i])) != 1)
            return rq_op_fail(a, RQ_UNSUPPORTED,
                              "input %d has %lld entries, expected one scale or zero point for the tensor", one[i],
                              (long long)count_or_1(input(a, one[i])));
    return RQ_OK;
}

/* ---- MatMulInteger, QLinearMatMul ---- */

static rq_status matmul_shape(const rq_infer *a, const rq_shape *x, const rq_shape *w, rq_shape *y)
{
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    if (x->rank == 0 || w->rank == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "an operand is a scalar, expected at least one axis");
    const int64_t k = x->dim[x->rank - 1], k2 = w->dim[w->rank > 1 ? w->rank - 2 : 0];
    if (k >= 0 && k2 >= 0 && k != k2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "A has %lld columns and B %lld rows, expected as many", (long long)k,
                             (long long)k2);
    rq_shape xb = { .rank = x->rank > 2 ? x->rank - 2 : 0 }, wb = { .rank = w->rank > 2 ? w->rank - 2 : 0 };
    for (int i = 0; i < xb.rank; i++)
        xb.dim[i] = x->dim[i];
    for (int i = 0; i < wb.rank; i++)
        wb.dim[i] = w->dim[i];
    if (!rq_infer_broadcast_shapes(&xb, &wb, y))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the leading axes of A and B do not broadcast");
    if (x->rank > 1)
        y->dim[y->rank++] = x->dim[x->rank - 2];
    if (w->rank > 1)
        y->dim[y->rank++] = w->dim[w->rank - 1];
    return RQ_OK;
}

static rq_status check_types(const rq_infer *a, const roles *r)
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

static rq_status matmul_infer(const rq_infer *a)
{
    const roles *r = is_qlinear(a->node) ? &qlinear_roles : &integer_roles;
    RQ_TRY(check_types(a, r));
    return matmul_shape(a, &a->in[r->x]->shape, &a->in[r->w]->shape, &a->out_shape[0]);
}

/* Number of the matrix of t that batch i of y uses. */
static int64_t matrix_at(const rq_shape *t, const rq_shape *y, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int d = 3; d <= y->rank; d++) {
        const int64_t k = i % y->dim[y->rank - d], n = d <= t->rank ? t->dim[t->rank - d] : 1;
        i /= y->dim[y->rank - d];
        at += (n == 1 ? 0 : k) * step;
        step *= n;
    }
    return at;
}

/* Parameters of A and B, how many there are of each. */
typedef struct matmul_params {
    const rq_tensor *x_scale, *x_zero, *w_scale, *w_zero;
    int64_t n_x, n_w;
    rq_qparams y;
} matmul_params;

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* y = x w with parameters from entry at_x of A and at_w of B on. */
static rq_status run_product(const rq_op_args *a, const matmul_params *p, const rq_tensor *x, int64_t at_x,
                             const rq_tensor *w, int64_t at_w, rq_tensor *y)
{
    const int64_t columns = w->shape.rank > 1 ? w->shape.dim[w->shape.rank - 1] : 1;
    const rq_tensor *in[2] = { x, w };
    rq_qparams xq = { 0 }, wq = { 0 };
    rq_status st = annotation(&xq, x->dtype, 0, at_x, 1, p->x_scale, p->x_zero);
    if (!st)
        st = annotation(&wq, w->dtype, w->shape.rank - 1, at_w, p->n_w > 1 ? columns : 1, p->w_scale, p->w_zero);
    if (!st)
        st = run_form(a, &matmul_form, in, 2, y, &xq, &wq, p->y.n ? &p->y : NULL);
    rq_qparams_release(&xq);
    rq_qparams_release(&wq);
    return st;
}

/* Matrix after matrix, and row after row where each has a zero point of its own. */
static rq_status run_matrices(const rq_op_args *a, const matmul_params *p, const rq_tensor *x, const rq_tensor *w,
                              rq_tensor *y)
{
    const bool x_vector = x->shape.rank == 1, w_vector = w->shape.rank == 1;
    const int64_t rows = x_vector ? 1 : x->shape.dim[x->shape.rank - 2], k = x->shape.dim[x->shape.rank - 1];
    const int64_t columns = w_vector ? 1 : w->shape.dim[w->shape.rank - 1],
                  matrices = rq_tensor_count(y) / (rows * columns);
    const int64_t per_item = p->n_x > 1 ? 1 : rows, y_bytes = rq_dtype_bits(y->dtype) / 8;
    rq_shape lead = y->shape; /* with both axes of the matrix, which vectors lack */
    for (int i = 0; i < (int)x_vector + (int)w_vector; i++)
        lead.dim[lead.rank++] = 1;
    for (int64_t i = 0; i < matrices; i++) {
        const int64_t mx = matrix_at(&x->shape, &lead, i), mw = matrix_at(&w->shape, &lead, i);
        const rq_shape ws = rq_shape_of(2, (int64_t[]) { k, columns }),
                       xs = rq_shape_of(2, (int64_t[]) { per_item, k }),
                       ys = rq_shape_of(2, (int64_t[]) { per_item, columns });
        const rq_tensor wi = rq_tensor_view(w->dtype, &ws, w->u8 + mw * k * columns);
        for (int64_t r = 0; r < rows; r += per_item) {
            const rq_tensor xi = rq_tensor_view(x->dtype, &xs, x->u8 + (mx * rows + r) * k);
            rq_tensor yi = rq_tensor_view(y->dtype, &ys, y->u8 + (i * rows + r) * columns * y_bytes);
            RQ_TRY(run_product(a, p, &xi, p->n_x > rows ? mx * rows + r : r, &wi, p->n_w > columns ? mw * columns : 0,
                               &yi));
        }
    }
    return RQ_OK;
}

static rq_status matmul_forward(const rq_op_args *a)
{
    const roles *r = is_qlinear(a->node) ? &qlinear_roles : &integer_roles;
    const rq_tensor *x = a->in[r->x], *w = a->in[r->w];
    matmul_params p = { .x_scale = input(a, r->x_scale),
                        .x_zero = input(a, r->x_zero),
                        .w_scale = input(a, r->w_scale),
                        .w_zero = input(a, r->w_zero) };
    p.n_x = larger(count_or_1(p.x_scale), count_or_1(p.x_zero));
    p.n_w = larger(count_or_1(p.w_scale), count_or_1(p.w_zero));
    const int64_t rows = x->shape.rank > 1 ? x->shape.dim[x->shape.rank - 2] : 1;
    const int64_t columns = w->shape.rank > 1 ? w->shape.dim[w->shape.rank - 1] : 1;
    const int64_t all_rows = rq_shape_span(&x->shape, 0, x->shape.rank - 1);
    const int64_t all_columns = w->shape.rank > 2 ? rq_shape_span(&w->shape, 0, w->shape.rank - 2) * columns : columns;
    RQ_TRY(check_scalars(a, r, true));
    if (p.n_x != 1 && p.n_x != rows && p.n_x != all_rows)
        return rq_op_fail(a, RQ_UNSUPPORTED, "%lld scales or zero points of A, expected 1, %lld or %lld",
                          (long long)p.n_x, (long long)rows, (long long)all_rows);
    if (p.n_w != 1 && p.n_w != columns && p.n_w != all_columns)
        return rq_op_fail(a, RQ_UNSUPPORTED, "%lld scales or zero points of B, expected 1, %lld or %lld",
                          (long long)p.n_w, (long long)columns, (long long)all_columns);
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    if (is_qlinear(a->node))
        RQ_TRY(annotation(&p.y, a->out[0]->dtype, 0, 0, 1, input(a, r->y_scale), input(a, r->y_zero)));
    rq_status st =
        p.n_x > 1 || p.n_w > columns ? run_matrices(a, &p, x, w, a->out[0]) : run_product(a, &p, x, 0, w, 0, a->out[0]);
    rq_qparams_release(&p.y);
    return st;
}

/* ---- ConvInteger, QLinearConv ---- */

static rq_status conv_infer(const rq_infer *a)
{
    const roles *r = is_qlinear(a->node) ? &qlinear_roles : &integer_roles;
    const rq_shape *x = &a->in[r->x]->shape, *w = &a->in[r->w]->shape;
    rq_window win;
    int64_t group;
    RQ_TRY(check_types(a, r));
    RQ_TRY(rq_window_group(a->node, &group, a->err));
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    if (w->rank != x->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "input has %d axes and weight %d, expected as many", x->rank, w->rank);
    RQ_TRY(rq_window_conv(&win, a->node, x, w, a->err));
    if (x->dim[1] >= 0 && w->dim[1] >= 0 && (x->dim[1] != w->dim[1] * group || w->dim[0] % group))
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "weight %lld x %lld in %lld groups does not fit an input of %lld channels",
                             (long long)w->dim[0], (long long)w->dim[1], (long long)group, (long long)x->dim[1]);
    a->out_shape[0] = rq_window_out_shape(&win, x, w->dim[0]);
    return RQ_OK;
}

static rq_status conv_forward(const rq_op_args *a)
{
    const roles *r = is_qlinear(a->node) ? &qlinear_roles : &integer_roles;
    const rq_tensor *x = a->in[r->x], *w = a->in[r->w], *scale = input(a, r->w_scale), *zero = input(a, r->w_zero);
    const rq_tensor *in[3] = { x, w, input(a, r->bias) };
    const int64_t params = count_or_1(scale) > count_or_1(zero) ? count_or_1(scale) : count_or_1(zero);
    rq_qparams xq = { 0 }, wq = { 0 }, yq = { 0 };
    RQ_TRY(check_scalars(a, r, false));
    if (params != 1 && params != w->shape.dim[0])
        return rq_op_fail(a, RQ_UNSUPPORTED, "%lld scales or zero points of the weight, expected 1 or %lld",
                          (long long)params, (long long)w->shape.dim[0]);
    if (in[2] && (in[2]->dtype != RQ_DTYPE_S32 || rq_tensor_count(in[2]) != w->shape.dim[0]))
        return rq_op_fail(a, RQ_BAD_SHAPE, "the bias is %s of %lld, expected s32 of %lld", rq_dtype_name(in[2]->dtype),
                          (long long)rq_tensor_count(in[2]), (long long)w->shape.dim[0]);
    rq_status st = annotation(&xq, x->dtype, 0, 0, 1, input(a, r->x_scale), input(a, r->x_zero));
    if (!st)
        st = annotation(&wq, w->dtype, 0, 0, params, scale, zero);
    if (!st && is_qlinear(a->node))
        st = annotation(&yq, a->out[0]->dtype, 0, 0, 1, input(a, r->y_scale), input(a, r->y_zero));
    if (!st)
        st = run_form(a, &conv_form, in, in[2] ? 3 : 2, a->out[0], &xq, &wq, is_qlinear(a->node) ? &yq : NULL);
    rq_qparams_release(&xq);
    rq_qparams_release(&wq);
    rq_qparams_release(&yq);
    return st;
}

/* ---- rows ---- */

const rq_op rq_op_matmul_integer = {
    .name = "MatMulInteger",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = matmul_infer,
    .forward = matmul_forward,
};

const rq_op rq_op_conv_integer = {
    .name = "ConvInteger",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = conv_infer,
    .forward = conv_forward,
};

const rq_op rq_op_qlinear_matmul = {
    .name = "QLinearMatMul",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 8,
    .max_in = 8,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = matmul_infer,
    .forward = matmul_forward,
};

const rq_op rq_op_qlinear_conv = {
    .name = "QLinearConv",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 8,
    .max_in = 9,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = conv_infer,
    .forward = conv_forward,
};
