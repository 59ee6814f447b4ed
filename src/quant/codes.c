/* quant/codes.c — see codes.h. A tensor is walked in runs of elements that share a scale: `inner` consecutive
 * ones for an axis (all of them per tensor), so that the kernels see long spans. */
#include "quant/codes.h"

#include "kernels/quantize.h"

/* How elements fall to scales: outer x size x inner elements, one scale per `block` indices of the middle. */
typedef struct layout {
    int64_t outer, size, inner, block, blocks;
} layout;

static layout layout_of(const rq_qparams *q, const rq_shape *s)
{
    if (q->axis == RQ_PER_TENSOR)
        return (layout) { 1, 1, rq_shape_count(s), 1, 1 };
    layout l = { .outer = rq_shape_span(s, 0, q->axis),
                 .size = s->dim[q->axis],
                 .inner = rq_shape_span(s, q->axis + 1, s->rank) };
    l.block = q->block ? q->block : 1;
    l.blocks = (l.size + l.block - 1) / l.block;
    return l;
}

rq_status rq_codes_check(const rq_qparams *q, const rq_shape *shape, rq_err *err)
{
    if (q->axis == RQ_PER_TENSOR)
        return q->n == 1 ? RQ_OK
                         : rq_fail(err, RQ_BAD_SHAPE, "%lld scales for a tensor quantized as a whole", (long long)q->n);
    if (q->axis < 0 || q->axis >= shape->rank)
        return rq_fail(err, RQ_BAD_SHAPE, "quantized along axis %d, but the tensor has rank %d", q->axis, shape->rank);
    layout l = layout_of(q, shape);
    int64_t want = q->block ? l.outer * l.blocks * l.inner : l.size;
    if (want != q->n)
        return rq_fail(err, RQ_BAD_SHAPE, "%lld scales along axis %d, expected %lld", (long long)q->n, q->axis,
                       (long long)want);
    return RQ_OK;
}

/* Scale of run (o, m): per axis it is m; in blocks the scales have the tensor's own outer and inner axes too. */
static int64_t scale_at(const rq_qparams *q, const layout *l, int64_t o, int64_t m, int64_t i)
{
    return q->block ? (o * l->blocks + m / l->block) * l->inner + i : m;
}

int64_t rq_codes_scale_index(const rq_qparams *q, const rq_shape *shape, int64_t i)
{
    if (q->axis == RQ_PER_TENSOR)
        return 0;
    layout l = layout_of(q, shape);
    return scale_at(q, &l, i / l.inner / l.size, i / l.inner % l.size, i % l.inner);
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
    layout l = layout_of(q, &x->shape);
    int32_t lo, hi;
    rq_qparams_limits(q, &lo, &hi);
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t m = 0; m < l.size; m++) {
            int64_t at = (o * l.size + m) * l.inner;
            if (!q->block)
                span_to_codes(codes, x->f32, at, l.inner, q, scale_at(q, &l, o, m, 0), lo, hi, k);
            else
                for (int64_t i = 0; i < l.inner; i++)
                    span_to_codes(codes, x->f32, at + i, 1, q, scale_at(q, &l, o, m, i), lo, hi, k);
        }
}

void rq_codes_to_reals(rq_tensor *y, const rq_tensor *codes, const rq_qparams *q, const rq_kernels *k)
{
    layout l = layout_of(q, &codes->shape);
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t m = 0; m < l.size; m++) {
            int64_t at = (o * l.size + m) * l.inner;
            if (!q->block)
                span_to_reals(y, codes, at, l.inner, q, scale_at(q, &l, o, m, 0), k);
            else
                for (int64_t i = 0; i < l.inner; i++)
                    span_to_reals(y, codes, at + i, 1, q, scale_at(q, &l, o, m, i), k);
        }
}
