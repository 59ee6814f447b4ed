/* ops/cumsum.c — CumSum, CumProd: at each place along an axis the sum or product of what came before. */
#include <string.h>

#include "kernels/quantize.h"
#include "ops/eltwise.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/rows.h"

static rq_status cumsum_infer(const rq_infer *a)
{
    int64_t axis;
    RQ_TRY(rq_infer_same(a));
    if (a->in[0]->shape.rank >= 0 && rq_infer_ints(a, 1, &axis, 1) == 1 &&
        rq_infer_axis(axis, a->in[0]->shape.rank) < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)axis,
                             a->in[0]->shape.rank);
    return RQ_OK;
}

/* What nothing sums or multiplies to. */
static void neutral(rq_tensor *y, int64_t at, int64_t n, bool product)
{
    for (int64_t i = 0; i < n; i++)
        rq_tensor_set(y, at + i, product);
}

static rq_status cumulate(const rq_op_args *a, rq_tensor *y, const rq_tensor *x, bool reverse)
{
    if (rq_tensor_count(a->in[1]) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the axis has %lld elements, expected 1",
                          (long long)rq_tensor_count(a->in[1]));
    const int64_t given = rq_tensor_get_int(a->in[1], 0);
    const int axis = rq_infer_axis(given, x->shape.rank);
    if (axis < 0)
        return rq_op_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)given,
                          x->shape.rank);
    const rq_eltwise_int *ints = rq_eltwise_ints(x->dtype);
    if (x->dtype != RQ_DTYPE_F32 && x->dtype != RQ_DTYPE_F64 && !ints)
        return rq_op_no_form(a, x->dtype);
    const bool product = a->node->row == &rq_op_cumprod;
    const rq_zip_id zip = product ? RQ_ZIP_MUL : RQ_ZIP_ADD;
    const bool exclusive = rq_attr_int(a->node, RQ_WORD_exclusive, 0) != 0;
    const int64_t n = x->shape.dim[axis], inner = rq_shape_span(&x->shape, axis + 1, x->shape.rank);
    const int64_t outer = rq_shape_span(&x->shape, 0, axis);
    const size_t row = (size_t)inner * (size_t)rq_dtype_bits(x->dtype) / 8;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < n; k++) {
            const int64_t at = o * n + (reverse ? n - 1 - k : k), before = k == 0 ? at : reverse ? at + 1 : at - 1;
            char *to = (char *)y->data + (size_t)at * row;
            const char *sum = (const char *)y->data + (size_t)before * row;
            const char *from = (const char *)x->data + (size_t)(exclusive ? before : at) * row;
            if (k == 0 && exclusive)
                neutral(y, at * inner, inner, product);
            else if (k == 0)
                memcpy(to, from, row);
            else if (x->dtype == RQ_DTYPE_F32)
                a->k->zip[zip]((float *)to, (const float *)sum, 1, (const float *)from, 1, (size_t)inner);
            else if (x->dtype == RQ_DTYPE_F64)
                rq_zip_f64[zip]((double *)to, (const double *)sum, 1, (const double *)from, 1, (size_t)inner);
            else
                ints->zip[zip](to, sum, 1, from, 1, (size_t)inner);
        }
    return RQ_OK;
}

static rq_status cumsum_wide(const rq_op_args *a)
{
    return cumulate(a, a->out[0], a->in[0], rq_attr_int(a->node, RQ_WORD_reverse, 0) != 0);
}

static rq_status cumsum_forward(const rq_op_args *a)
{
    return rq_half_run(a, cumsum_wide);
}

/* What comes after instead of what came before. */
static rq_status cumsum_backward(const rq_op_args *a)
{
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0))
        return rq_grad_none(a);
    return cumulate(a, rq_grad_in(a, 0), rq_grad_out(a, 0), rq_attr_int(a->node, RQ_WORD_reverse, 0) == 0);
}

static bool cumsum_accepts_int(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

/* Sums of q - z, exact; each rounded once. */
static rq_status cumsum_forward_int(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const rq_qparams *xq = a->in_q[0], *yq = a->out_q[0];
    const int axis = rq_infer_axis(rq_tensor_get_int(a->in[1], 0), x->shape.rank);
    if (rq_tensor_count(a->in[1]) != 1 || axis < 0)
        return rq_op_fail(a, RQ_BAD_SHAPE, "its axis is not one of the input's %d", x->shape.rank);
    const bool exclusive = rq_attr_int(a->node, RQ_WORD_exclusive, 0) != 0,
               reverse = rq_attr_int(a->node, RQ_WORD_reverse, 0) != 0;
    const int64_t n = x->shape.dim[axis], inner = rq_shape_span(&x->shape, axis + 1, x->shape.rank);
    int32_t lo, hi;
    rq_qparams_limits(yq, &lo, &hi);
    for (int64_t o = 0; o < rq_shape_span(&x->shape, 0, axis); o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < n; k++) {
                const int64_t at = (o * n + (reverse ? n - 1 - k : k)) * inner + i, before = sum;
                sum += (xq->dtype == RQ_DTYPE_S8 ? x->s8[at] : x->u8[at]) - xq->zero_point[0];
                const float real = (float)((double)(exclusive ? before : sum) * xq->scale[0]);
                a->out[0]->u8[at] = (uint8_t)rq_quantize_one(real, yq->scale[0], yq->zero_point[0], lo, hi);
            }
        }
    return RQ_OK;
}

/* ---- rows ---- */

const rq_op rq_op_cumsum = {
    .name = "CumSum",
    .domain = "",
    .since = 11,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cumsum_infer,
    .forward = cumsum_forward,
    .backward = cumsum_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
    .accepts_int = cumsum_accepts_int,
    .forward_int = cumsum_forward_int,
};

const rq_op rq_op_cumprod = {
    .name = "CumProd",
    .domain = "",
    .since = 26,
    .known = 28,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cumsum_infer,
    .forward = cumsum_forward,
};
