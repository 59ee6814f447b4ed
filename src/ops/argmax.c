/* ops/argmax.c — ArgMax, ArgMin: where along an axis the largest or the smallest element is. */

#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/rows.h"
#include "ops/samples.h"

static rq_status arg_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const bool keep = rq_attr_int(a->node, RQ_WORD_keepdims, 1) != 0;
    a->out_dtype[0] = RQ_DTYPE_S64;
    if (x->rank < 0)
        return RQ_OK;
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, 0), x->rank);
    if (x->dim[axis] == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d is empty", axis);
    rq_shape *y = &a->out_shape[0];
    y->rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (i != axis)
            y->dim[y->rank++] = x->dim[i];
        else if (keep)
            y->dim[y->rank++] = 1;
    return RQ_OK;
}

/* Is element i better than j? `last`: an equal one is. Doubles hold every type but 64-bit integers. */
static bool better(const rq_tensor *x, int64_t i, int64_t j, bool least, bool last)
{
    if (x->dtype == RQ_DTYPE_S64 || x->dtype == RQ_DTYPE_U64) {
        const uint64_t flip = x->dtype == RQ_DTYPE_S64 ? UINT64_C(1) << 63 : 0;
        const uint64_t u = x->u64[i] ^ flip, v = x->u64[j] ^ flip;
        return u == v ? last : (u < v) == least;
    }
    const double u = rq_tensor_get(x, i), v = rq_tensor_get(x, j);
    return u == v ? last : least ? u < v : u > v;
}

enum { ARG_TILE = 256 };

/* m <= ARG_TILE columns of n bytes, `step` apart: where each is largest, flipped to order as wanted. Whole rows at a time. */
static void arg_bytes(int64_t *y, const uint8_t *x, int64_t n, int64_t step, int64_t m, uint8_t flip, bool last)
{
    uint8_t most[ARG_TILE];
    int32_t at[ARG_TILE] = { 0 };
    for (int64_t i = 0; i < m; i++)
        most[i] = x[i] ^ flip;
    for (int64_t k = 1; k < n; k++) {
        const uint8_t *row = x + k * step;
        for (int64_t i = 0; i < m; i++) {
            const uint8_t v = row[i] ^ flip;
            const bool better = last ? v >= most[i] : v > most[i];
            most[i] = better ? v : most[i];
            at[i] = better ? (int32_t)k : at[i];
        }
    }
    for (int64_t i = 0; i < m; i++)
        y[i] = at[i];
}

/* n neighbouring bytes. */
static int64_t arg_row(const uint8_t *x, int64_t n, uint8_t flip, bool last)
{
    uint8_t most = x[0] ^ flip;
    int64_t at = 0;
    for (int64_t k = 1; k < n; k++) {
        const uint8_t v = x[k] ^ flip;
        if (last ? v >= most : v > most) {
            most = v;
            at = k;
        }
    }
    return at;
}

static rq_status arg_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    if (!rq_dtype_is_integer(x->dtype) && !rq_dtype_is_float(x->dtype) && x->dtype != RQ_DTYPE_BOOL)
        return rq_op_no_form(a, x->dtype);
    const bool least = a->node->row == &rq_op_arg_min;
    const bool last = a->opset >= 12 && rq_attr_int(a->node, RQ_WORD_select_last_index, 0) != 0;
    const rq_shape s = rq_last_shape(a->last, &x->shape);
    const int axis = rq_last_axis(a->last, rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), s.rank), s.rank);
    const int64_t n = s.dim[axis], inner = rq_shape_span(&s, axis + 1, s.rank);
    const int64_t outer = rq_shape_span(&s, 0, axis);
    int64_t *y = a->out[0]->s64;
    if (x->dtype == RQ_DTYPE_U8 || x->dtype == RQ_DTYPE_S8) {
        const uint8_t flip = (x->dtype == RQ_DTYPE_S8 ? 0x80 : 0) ^ (least ? 0xff : 0);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i += ARG_TILE)
                if (inner == 1)
                    y[o] = arg_row(x->u8 + o * n, n, flip, last);
                else
                    arg_bytes(y + o * inner + i, x->u8 + o * n * inner + i, n, inner,
                              inner - i < ARG_TILE ? inner - i : ARG_TILE, flip, last);
        return RQ_OK;
    }
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++, y++) {
            const int64_t base = o * n * inner + i;
            int64_t best = 0;
            if (x->dtype == RQ_DTYPE_F32) {
                const float *v = x->f32 + base;
                for (int64_t k = 1; k < n; k++) {
                    const float u = v[k * inner], w = v[best * inner];
                    if (least ? u < w : u > w)
                        best = k;
                    else if (last && u == w)
                        best = k;
                }
            } else {
                for (int64_t k = 1; k < n; k++)
                    if (better(x, base + k * inner, base + best * inner, least, last))
                        best = k;
            }
            *y = best;
        }
    return RQ_OK;
}

/* On codes: they order as the reals do, and equal reals have equal codes. */
static bool arg_accepts_int(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_codes(a->in_q[0], why))
        return false;
    *why = "scale is not positive";
    return a->in_q[0]->scale[0] > 0;
}

/* Positions along the channels come out in the order of the file. */
static rq_last arg_last(const rq_op_args *a)
{
    return rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), a->in[0]->shape.rank) == 1 ? rq_last_can(a)
                                                                                           : RQ_LAST_NO;
}

/* ---- rows ---- */

const rq_op rq_op_arg_max = {
    .name = "ArgMax",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT, /* it reads codes where they are; of reals rounded on its account more would be equal */
    .infer = arg_infer,
    .samples = rq_samples_along,
    .forward = arg_forward,
    .accepts_int = arg_accepts_int,
    .last = arg_last,
    .forward_int = arg_forward,
};

const rq_op rq_op_arg_min = {
    .name = "ArgMin",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = arg_infer,
    .samples = rq_samples_along,
    .forward = arg_forward,
    .accepts_int = arg_accepts_int,
    .last = arg_last,
    .forward_int = arg_forward,
};
