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
    case RQ_DTYPE_U16:
        k->dequantize_u16(y->f32 + at, c->u16 + at, (size_t)n, scale, zp);
        return;
    case RQ_DTYPE_S16:
        k->dequantize_s16(y->f32 + at, c->s16 + at, (size_t)n, scale, zp);
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

/* ---- one scale, in pieces ---- */

enum { PIECE = 1 << 15 };

typedef struct piece_job {
    rq_tensor *to;
    const rq_tensor *from;
    const rq_qparams *q;
    const rq_kernels *k;
    int32_t lo, hi;
    bool to_codes;
} piece_job;

static void run_piece(void *arg, int64_t i)
{
    const piece_job *j = arg;
    const int64_t at = i * PIECE, left = rq_tensor_count(j->from) - at, n = left < PIECE ? left : PIECE;
    if (j->to_codes)
        span_to_codes(j->to, j->from->f32, at, n, j->q, 0, j->lo, j->hi, j->k);
    else
        span_to_reals(j->to, j->from, at, n, j->q, 0, j->k);
}

/* Packed codes share bytes, so they stay with one thread. */
static bool in_pieces(rq_threads *t, const rq_tensor *x, const rq_qparams *q)
{
    return t && q->axis == RQ_PER_TENSOR && rq_tensor_count(x) > PIECE && rq_dtype_bits(q->dtype) % 8 == 0;
}

void rq_codes_from_reals_on(rq_threads *t, rq_tensor *codes, const rq_tensor *x, const rq_qparams *q,
                            const rq_kernels *k)
{
    piece_job j = { .to = codes, .from = x, .q = q, .k = k, .to_codes = true };
    rq_qparams_limits(q, &j.lo, &j.hi);
    if (in_pieces(t, x, q))
        rq_threads_for(t, (rq_tensor_count(x) + PIECE - 1) / PIECE, run_piece, &j);
    else
        rq_codes_from_reals(codes, x, q, k);
}

void rq_codes_to_reals_on(rq_threads *t, rq_tensor *y, const rq_tensor *codes, const rq_qparams *q, const rq_kernels *k)
{
    piece_job j = { .to = y, .from = codes, .q = q, .k = k };
    if (in_pieces(t, codes, q))
        rq_threads_for(t, (rq_tensor_count(codes) + PIECE - 1) / PIECE, run_piece, &j);
    else
        rq_codes_to_reals(y, codes, q, k);
}
