/* ops/integer.c — MatMulInteger and ConvInteger: products of codes into s32, as models quantized dynamically have them.
 *
 * y = sum of (a - a_zero) * (b - b_zero), exact: u8 or s8 operands, sums modulo 2^32 (spec onnx.md 2.6). These are
 * ordinary operators on integer tensors; no annotation is involved. */
#include <string.h>

#include "ops/op.h"
#include "ops/window.h"

static bool is_code8(rq_dtype d)
{
    return d == RQ_DTYPE_U8 || d == RQ_DTYPE_S8;
}

/* Types of both operands and their zero points (inputs 2 and 3). */
static rq_status check_types(const rq_infer *a)
{
    for (int i = 0; i < 2; i++) {
        const rq_dtype d = a->in[i]->dtype;
        const rq_tensor *zp = i + 2 < a->n_in ? a->in[i + 2] : NULL;
        if (d != RQ_DTYPE_NONE && !is_code8(d))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected u8 or s8", i, rq_dtype_name(d));
        if (zp && zp->dtype != RQ_DTYPE_NONE && d != RQ_DTYPE_NONE && zp->dtype != d)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "the zero point of input %d is %s, the input %s", i,
                                 rq_dtype_name(zp->dtype), rq_dtype_name(d));
    }
    a->out_dtype[0] = RQ_DTYPE_S32;
    return RQ_OK;
}

static inline int32_t code(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_U8 ? t->u8[i] : t->s8[i];
}

/* sum[j] += x * (t[from + j] - zp), modulo 2^32 */
static void add_scaled(int32_t *sum, const rq_tensor *t, int64_t from, int64_t n, int32_t x, int32_t zp)
{
    if (t->dtype == RQ_DTYPE_U8)
        for (int64_t j = 0; j < n; j++)
            sum[j] = (int32_t)((uint32_t)sum[j] + (uint32_t)(x * (t->u8[from + j] - zp)));
    else
        for (int64_t j = 0; j < n; j++)
            sum[j] = (int32_t)((uint32_t)sum[j] + (uint32_t)(x * (t->s8[from + j] - zp)));
}

/* ---- MatMulInteger ---- */

/* Shapes of a and b with the axes that MatMul adds to vectors. */
static void as_matrices(rq_shape *a, rq_shape *b, bool *a_vector, bool *b_vector)
{
    *a_vector = a->rank == 1;
    *b_vector = b->rank == 1;
    if (*a_vector)
        *a = rq_shape_of(2, (int64_t[]) { 1, a->dim[0] });
    if (*b_vector)
        *b = rq_shape_of(2, (int64_t[]) { b->dim[0], 1 });
}

static rq_status matmul_infer(const rq_infer *p)
{
    RQ_TRY(check_types(p));
    rq_shape a = p->in[0]->shape, b = p->in[1]->shape, batch;
    bool a_vector, b_vector;
    if (a.rank < 0 || b.rank < 0)
        return RQ_OK;
    if (!a.rank || !b.rank)
        return rq_infer_fail(p, RQ_BAD_SHAPE, "an operand has no axes");
    as_matrices(&a, &b, &a_vector, &b_vector);
    int64_t depth = a.dim[a.rank - 1];
    if (!rq_infer_dim_join(&depth, b.dim[b.rank - 2]))
        return rq_infer_fail(p, RQ_BAD_SHAPE, "the first operand has %lld columns, the second %lld rows",
                             (long long)a.dim[a.rank - 1], (long long)b.dim[b.rank - 2]);
    const int64_t m = a.dim[a.rank - 2], n = b.dim[b.rank - 1];
    a.rank -= 2;
    b.rank -= 2;
    if (!rq_infer_broadcast_shapes(&a, &b, &batch) || batch.rank + 2 > RQ_MAX_RANK)
        return rq_infer_fail(p, RQ_BAD_SHAPE, "the leading axes of the operands do not fit together");
    if (!a_vector)
        batch.dim[batch.rank++] = m;
    if (!b_vector)
        batch.dim[batch.rank++] = n;
    p->out_shape[0] = batch;
    return RQ_OK;
}

typedef struct matmul {
    const rq_tensor *a, *b, *a_zp, *b_zp;
    int32_t *y;
    rq_shape a_lead, b_lead, lead; /* leading axes */
    int64_t m, k, n;
} matmul;

/* Which matrix of an operand with leading axes `own` stands at matrix i of `lead` (numpy broadcasting). */
static int64_t matrix_at(const rq_shape *own, const rq_shape *lead, int64_t i)
{
    int64_t at = 0, stride = 1;
    for (int d = lead->rank - 1; d >= 0; d--) {
        const int64_t here = i % lead->dim[d];
        const int o = d - (lead->rank - own->rank);
        i /= lead->dim[d];
        if (o < 0)
            break;
        at += own->dim[o] == 1 ? 0 : here * stride;
        stride *= own->dim[o];
    }
    return at;
}

/* Zero point of row or column i of matrix `at`: one for all, one per line, or one per line of each matrix. */
static int32_t zero_of(const rq_tensor *zp, int64_t at, int64_t lines, int64_t i)
{
    const int64_t n = zp ? rq_tensor_count(zp) : 0;
    if (!n)
        return 0;
    return code(zp, n == 1 ? 0 : n == lines ? i : at * lines + i);
}

static void matmul_row(void *arg, int64_t item)
{
    const matmul *p = arg;
    const int64_t matrix = item / p->m, i = item % p->m;
    const int64_t a_at = matrix_at(&p->a_lead, &p->lead, matrix), b_at = matrix_at(&p->b_lead, &p->lead, matrix);
    int32_t *y = p->y + item * p->n;
    const int32_t za = zero_of(p->a_zp, a_at, p->m, i);
    const bool per_column = p->b_zp && rq_tensor_count(p->b_zp) > 1;
    const int32_t zb = per_column ? 0 : zero_of(p->b_zp, b_at, p->n, 0);
    int32_t row_sum = 0;
    memset(y, 0, (size_t)p->n * sizeof *y);
    for (int64_t k = 0; k < p->k; k++) {
        const int32_t x = code(p->a, (a_at * p->m + i) * p->k + k) - za;
        row_sum += x;
        add_scaled(y, p->b, (b_at * p->k + k) * p->n, p->n, x, zb);
    }
    for (int64_t j = 0; per_column && j < p->n; j++)
        y[j] = (int32_t)((uint32_t)y[j] - (uint32_t)row_sum * (uint32_t)zero_of(p->b_zp, b_at, p->n, j));
}

static bool zero_fits(const rq_tensor *zp, int64_t lines, int64_t matrices)
{
    const int64_t n = zp ? rq_tensor_count(zp) : 1;
    return n == 1 || n == lines || n == lines * matrices;
}

static rq_status matmul_forward(const rq_op_args *a)
{
    rq_shape x = a->in[0]->shape, y = a->in[1]->shape;
    bool x_vector, y_vector;
    matmul p = { .a = a->in[0],
                 .b = a->in[1],
                 .a_zp = a->n_in > 2 ? a->in[2] : NULL,
                 .b_zp = a->n_in > 3 ? a->in[3] : NULL,
                 .y = a->out[0]->s32 };
    as_matrices(&x, &y, &x_vector, &y_vector);
    p.m = x.dim[x.rank - 2];
    p.k = x.dim[x.rank - 1];
    p.n = y.dim[y.rank - 1];
    p.a_lead = rq_shape_of(x.rank - 2, x.dim);
    p.b_lead = rq_shape_of(y.rank - 2, y.dim);
    if (!rq_infer_broadcast_shapes(&p.a_lead, &p.b_lead, &p.lead))
        return rq_op_fail(a, RQ_BAD_SHAPE, "the leading axes of the operands do not fit together");
    if (!zero_fits(p.a_zp, p.m, rq_shape_count(&p.a_lead)) || !zero_fits(p.b_zp, p.n, rq_shape_count(&p.b_lead)))
        return rq_op_fail(a, RQ_BAD_SHAPE, "a zero point fits neither the matrix, nor its rows or columns");
    if (p.n)
        rq_threads_for(a->threads, rq_shape_count(&p.lead) * p.m, matmul_row, &p);
    return RQ_OK;
}

static double matmul_macs(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    return (double)rq_tensor_count(a->out[0]) * (double)x->dim[x->rank - 1];
}

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
    .macs = matmul_macs,
};

/* ---- ConvInteger ---- */

static rq_status conv_infer(const rq_infer *p)
{
    RQ_TRY(check_types(p));
    const rq_shape *x = &p->in[0]->shape, *w = &p->in[1]->shape;
    rq_window win;
    int64_t group;
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    RQ_TRY(rq_window_conv(&win, p->node, x, w, p->err));
    RQ_TRY(rq_window_group(p->node, &group, p->err));
    if (x->dim[1] >= 0 && w->dim[1] >= 0 && w->dim[1] * group != x->dim[1])
        return rq_infer_fail(p, RQ_BAD_SHAPE, "the weight wants %lld input channels, the input has %lld",
                             (long long)(w->dim[1] * group), (long long)x->dim[1]);
    if (w->dim[0] >= 0 && w->dim[0] % group)
        return rq_infer_fail(p, RQ_BAD_SHAPE, "%lld output channels in %lld groups", (long long)w->dim[0],
                             (long long)group);
    p->out_shape[0] = rq_window_out_shape(&win, x, w->dim[0]);
    return RQ_OK;
}

typedef struct conv {
    const rq_tensor *x, *w;
    int32_t x_zp;
    const rq_tensor *w_zp;
    int32_t *y;
    rq_window win;
    int64_t channels, out_channels, per_group, group;
} conv;

/* First and one past the last window along axis d whose tap t lies inside the input. */
static void inside(const rq_window *w, int d, int64_t t, int64_t *from, int64_t *to)
{
    const int64_t off = t * w->dilation[d] - w->pad_lo[d], s = w->stride[d];
    *from = off >= 0 ? 0 : (-off + s - 1) / s;
    *to = w->in[d] - off <= 0 ? 0 : (w->in[d] - off + s - 1) / s;
    *to = *to > w->out[d] ? w->out[d] : *to;
}

/* One output plane: batch and output channel. Padding is the zero point, so it adds nothing. */
static void conv_plane(void *arg, int64_t item)
{
    const conv *p = arg;
    const rq_window *w = &p->win;
    const int64_t n = item / p->out_channels, oc = item % p->out_channels,
                  first = oc / (p->out_channels / p->group) * p->per_group;
    const int64_t plane = rq_window_span(w->out), in_plane = rq_window_span(w->in), taps = rq_window_span(w->kernel);
    const int64_t zw_n = p->w_zp ? rq_tensor_count(p->w_zp) : 0;
    const int32_t zw = zw_n ? code(p->w_zp, zw_n == 1 ? 0 : oc) : 0;
    int32_t *y = p->y + item * plane;
    memset(y, 0, (size_t)plane * sizeof *y);
    for (int64_t c = 0; c < p->per_group; c++)
        for (int64_t t = 0; t < taps; t++) {
            const int32_t f = code(p->w, (oc * p->per_group + c) * taps + t) - zw;
            const int64_t t0 = t / (w->kernel[1] * w->kernel[2]), t1 = t / w->kernel[2] % w->kernel[1],
                          t2 = t % w->kernel[2];
            const int64_t x0 = (n * p->channels + first + c) * in_plane;
            int64_t a0, b0, a1, b1, a2, b2;
            inside(w, 0, t0, &a0, &b0);
            inside(w, 1, t1, &a1, &b1);
            inside(w, 2, t2, &a2, &b2);
            for (int64_t i = a0; i < b0; i++)
                for (int64_t j = a1; j < b1; j++) {
                    const int64_t row = ((i * w->stride[0] + t0 * w->dilation[0] - w->pad_lo[0]) * w->in[1] +
                                         j * w->stride[1] + t1 * w->dilation[1] - w->pad_lo[1]) *
                                            w->in[2] +
                                        t2 * w->dilation[2] - w->pad_lo[2];
                    int32_t *out = y + (i * w->out[1] + j) * w->out[2];
                    for (int64_t k = a2; k < b2; k++)
                        out[k] = (int32_t)((uint32_t)out[k] +
                                           (uint32_t)f * (uint32_t)(code(p->x, x0 + row + k * w->stride[2]) - p->x_zp));
                }
        }
}

static rq_status conv_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *w = a->in[1], *x_zp = a->n_in > 2 ? a->in[2] : NULL;
    conv p = { .x = x,
               .w = w,
               .w_zp = a->n_in > 3 ? a->in[3] : NULL,
               .y = a->out[0]->s32,
               .channels = x->shape.dim[1],
               .out_channels = w->shape.dim[0],
               .per_group = w->shape.dim[1] };
    if (x_zp && rq_tensor_count(x_zp) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the zero point of the input has %lld elements, expected 1",
                          (long long)rq_tensor_count(x_zp));
    if (p.w_zp && rq_tensor_count(p.w_zp) != 1 && rq_tensor_count(p.w_zp) != p.out_channels)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the zero point of the weight has %lld elements, expected 1 or %lld",
                          (long long)rq_tensor_count(p.w_zp), (long long)p.out_channels);
    p.x_zp = x_zp ? code(x_zp, 0) : 0;
    RQ_TRY(rq_window_conv(&p.win, a->node, &x->shape, &w->shape, a->err));
    RQ_TRY(rq_window_group(a->node, &p.group, a->err));
    rq_threads_for(a->threads, x->shape.dim[0] * p.out_channels, conv_plane, &p);
    return RQ_OK;
}

static double conv_macs(const rq_op_args *a)
{
    return (double)rq_tensor_count(a->out[0]) * (double)rq_shape_span(&a->in[1]->shape, 1, a->in[1]->shape.rank);
}

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
    .macs = conv_macs,
};
