/* quant/codes.c — see codes.h. A tensor is walked in runs of elements that share a scale: `inner` consecutive
 * ones for an axis (all of them per tensor), so that the kernels see long spans. */
#include "quant/codes.h"

#include "kernels/quantize.h"
#include "quant/layout.h"

static rq_layout layout_of(const rq_qparams *q, const rq_shape *s)
{
    return rq_layout_of(q->axis, q->block, s);
}

rq_status rq_codes_check(const rq_qparams *q, const rq_shape *shape, rq_err *err)
{
    return rq_layout_check(q->axis, q->block, q->n, shape, err);
}

int64_t rq_codes_scale_index(const rq_qparams *q, const rq_shape *shape, int64_t i)
{
    rq_layout l = layout_of(q, shape);
    return q->axis == RQ_PER_TENSOR ? 0 : rq_layout_scale_at(&l, i);
}

static void span_to_codes(rq_tensor *c, const float *x, int64_t at, int64_t n, const rq_qparams *q, int64_t s,
                          int32_t lo, int32_t hi, const rq_kernels *k)
{
    float scale = q->scale[s];
    int32_t zp = q->zero_point[s];
    switch (q->dtype) {
    case RQ_DTYPE_U8:
        k->quantize_u8(c->u8 + at, x + at, (size_t)n, scale, zp, lo, hi);
        return;
    case RQ_DTYPE_S8:
        k->quantize_s8(c->s8 + at, x + at, (size_t)n, scale, zp, lo, hi);
        return;
    case RQ_DTYPE_U16:
        k->quantize_u16(c->u16 + at, x + at, (size_t)n, scale, zp, lo, hi);
        return;
    case RQ_DTYPE_S16:
        k->quantize_s16(c->s16 + at, x + at, (size_t)n, scale, zp, lo, hi);
        return;
    case RQ_DTYPE_S32:
        for (int64_t i = at; i < at + n; i++)
            c->s32[i] = (int32_t)rq_quantize_real_f64((double)(x[i] / scale), zp, INT32_MIN, INT32_MAX);
        return;
    default: /* packed */
        for (int64_t i = at; i < at + n; i++)
            rq_tensor_set(c, i, rq_quantize_one(x[i], scale, zp, lo, hi));
    }
}

static void span_to_reals(rq_tensor *y, const rq_tensor *c, int64_t at, int64_t n, const rq_qparams *q, int64_t s,
                          const rq_kernels *k)
{
    float scale = q->scale[s];
    int32_t zp = q->zero_point[s];
    switch (c->dtype) {
    case RQ_DTYPE_U8:
        k->dequantize_u8(y->f32 + at, c->u8 + at, (size_t)n, scale, zp);
        return;
    case RQ_DTYPE_S8:
        k->dequantize_s8(y->f32 + at, c->s8 + at, (size_t)n, scale, zp);
        return;
    default:
        for (int64_t i = at; i < at + n; i++)
            y->f32[i] = rq_dequantize_one((int32_t)rq_tensor_get_int(c, i), scale, zp);
    }
}

void rq_codes_from_reals(rq_tensor *codes, const rq_tensor *x, const rq_qparams *q, const rq_kernels *k)
{
    rq_layout l = layout_of(q, &x->shape);
    int32_t lo, hi;
    rq_qparams_limits(q, &lo, &hi);
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t m = 0; m < l.size; m++) {
            int64_t at = (o * l.size + m) * l.inner;
            if (!q->block)
                span_to_codes(codes, x->f32, at, l.inner, q, rq_layout_scale(&l, o, m, 0), lo, hi, k);
            else
                for (int64_t i = 0; i < l.inner; i++)
                    span_to_codes(codes, x->f32, at + i, 1, q, rq_layout_scale(&l, o, m, i), lo, hi, k);
        }
}

void rq_codes_to_reals(rq_tensor *y, const rq_tensor *codes, const rq_qparams *q, const rq_kernels *k)
{
    rq_layout l = layout_of(q, &codes->shape);
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t m = 0; m < l.size; m++) {
            int64_t at = (o * l.size + m) * l.inner;
            if (!q->block)
                span_to_reals(y, codes, at, l.inner, q, rq_layout_scale(&l, o, m, 0), k);
            else
                for (int64_t i = 0; i < l.inner; i++)
                    span_to_reals(y, codes, at + i, 1, q, rq_layout_scale(&l, o, m, i), k);
        }
}
