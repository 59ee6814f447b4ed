/* ops/int_shared.c — what the integer forms ask of annotations. */
#include "kernels/quantize.h"
#include "ops/int_ops.h"

#include <string.h>

bool rq_int_is_byte(rq_dtype d)
{
    return d == RQ_DTYPE_U8 || d == RQ_DTYPE_S8;
}

bool rq_int_is_activation(const rq_qparams *q, const char **why)
{
    *why = "quantized per channel";
    if (q->axis != RQ_PER_TENSOR)
        return false;
    *why = "codes are not of 8 bits";
    return rq_int_is_byte(q->dtype);
}

bool rq_int_is_codes(const rq_qparams *q, const char **why)
{
    *why = "quantized per channel";
    if (q->axis != RQ_PER_TENSOR)
        return false;
    *why = "codes are not of 8 or 16 bits";
    return rq_int_is_byte(q->dtype) || q->dtype == RQ_DTYPE_U16 || q->dtype == RQ_DTYPE_S16;
}

bool rq_int_is_output(const rq_qparams *q, const rq_tensor *t, bool or_real, const char **why)
{
    if (q)
        return rq_int_is_activation(q, why);
    *why = or_real ? "output is neither quantized nor f32" : "output is not quantized";
    return or_real && t->dtype == RQ_DTYPE_F32;
}

bool rq_int_is_bias(const rq_qparams *b, const rq_qparams *x, const rq_qparams *w, float alpha)
{
    if (b->dtype != RQ_DTYPE_S32 || x->n != 1 || (w->n != 1 && b->n != 1 && w->n != b->n))
        return false;
    const float sx = alpha == 1 ? x->scale[0] : alpha * x->scale[0];
    for (int64_t i = 0; i < (w->n > b->n ? w->n : b->n); i++) {
        const float product = sx * w->scale[w->n == 1 ? 0 : i];
        const int64_t at = b->n == 1 ? 0 : i;
        if (product != b->scale[at] || b->zero_point[at])
            return false;
    }
    return true;
}

enum { PIECE = 1 << 16, PIECES = 64 }; /* elements worth a thread's while; most pieces */

typedef struct dynamic_job {
    const rq_kernels *k;
    uint8_t *y, zero;
    const float *x;
    int64_t n, piece;
    float scale, lo[PIECES], hi[PIECES];
} dynamic_job;

static int64_t dynamic_piece(const dynamic_job *j, int64_t i)
{
    return j->n - i * j->piece < j->piece ? j->n - i * j->piece : j->piece;
}

static void look_piece(void *arg, int64_t i)
{
    dynamic_job *j = arg;
    const float *x = j->x + i * j->piece;
    const int64_t n = dynamic_piece(j, i);
    float lo, hi;
    size_t finite;
    j->k->minmax(x, (size_t)n, &lo, &hi, &finite);
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    if (finite < (size_t)n)
        for (int64_t t = 0; t < n; t++) { /* infinities count; NaN compares false: ignored */
            lo = x[t] < lo ? x[t] : lo;
            hi = x[t] > hi ? x[t] : hi;
        }
    j->lo[i] = lo;
    j->hi[i] = hi;
}

static void code_piece(void *arg, int64_t i)
{
    const dynamic_job *j = arg;
    j->k->quantize_u8(j->y + i * j->piece, j->x + i * j->piece, (size_t)dynamic_piece(j, i), j->scale, j->zero, 0, 255);
}

void rq_int_dynamic_on(rq_threads *t, uint8_t *y, const float *x, int64_t n, float *scale, uint8_t *zero,
                       const rq_kernels *k)
{
    dynamic_job j = { .k = k, .y = y, .x = x, .n = n, .piece = PIECE };
    if (n > (int64_t)PIECE * PIECES)
        j.piece = (n + PIECES - 1) / PIECES;
    const int64_t items = (n + j.piece - 1) / j.piece;
    float lo = 0, hi = 0;
    rq_threads_for(items > 1 ? t : NULL, items, look_piece, &j);
    for (int64_t i = 0; i < items; i++) {
        lo = j.lo[i] < lo ? j.lo[i] : lo;
        hi = j.hi[i] > hi ? j.hi[i] : hi;
    }
    *scale = j.scale = hi == lo ? 1 : (hi - lo) / 255;
    *zero = j.zero = (uint8_t)rq_quantize_clamp(0 - lo / *scale, 0, 255);
    if (y)
        rq_threads_for(items > 1 ? t : NULL, items, code_piece, &j);
}

void rq_int_dynamic(uint8_t *y, const float *x, int64_t n, float *scale, uint8_t *zero, const rq_kernels *k)
{
    rq_int_dynamic_on(NULL, y, x, n, scale, zero, k);
}

bool rq_int_is_conv(const rq_op_args *a, int axis, int64_t outputs, const char **why)
{
    const rq_qparams *w = a->in_q[1];
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "weight is not quantized";
    if (!w)
        return false;
    *why = "weight is not constant";
    if (!a->in[1]->data)
        return false;
    *why = "weight codes are not of 8 bits";
    if (!rq_int_is_byte(w->dtype))
        return false;
    *why = "weight is quantized along another axis";
    if (w->axis != RQ_PER_TENSOR && (w->axis != axis || w->block || w->n != a->in[1]->shape.dim[axis]))
        return false;
    const rq_tensor *b = a->n_in > 2 ? a->in[2] : NULL;
    *why = "bias is not constant";
    if (b && !b->data)
        return false;
    *why = "bias is neither float nor of 32 bits";
    if (b && ((b->dtype != RQ_DTYPE_S32 && b->dtype != RQ_DTYPE_F32) || rq_tensor_count(b) != outputs))
        return false;
    *why = "bias has a scale of its own";
    if (b && a->in_q[2] && !rq_int_is_bias(a->in_q[2], a->in_q[0], w, 1))
        return false;
    *why = "more than three spatial axes";
    if (a->in[0]->shape.rank < 3 || a->in[0]->shape.rank > 5)
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], true, why);
}

void rq_int_to_reals(const rq_kernels *k, float *y, const rq_tensor *t, int64_t at, int64_t n, const rq_qparams *q)
{
    if (!q)
        memcpy(y, t->f32 + at, (size_t)n * sizeof *y);
    else if (q->dtype == RQ_DTYPE_U8)
        k->dequantize_u8(y, t->u8 + at, (size_t)n, q->scale[0], q->zero_point[0]);
    else if (q->dtype == RQ_DTYPE_S8)
        k->dequantize_s8(y, t->s8 + at, (size_t)n, q->scale[0], q->zero_point[0]);
    else if (q->dtype == RQ_DTYPE_U16)
        k->dequantize_u16(y, t->u16 + at, (size_t)n, q->scale[0], q->zero_point[0]);
    else
        k->dequantize_s16(y, t->s16 + at, (size_t)n, q->scale[0], q->zero_point[0]);
}

void rq_int_from_reals(const rq_kernels *k, rq_tensor *y, int64_t at, const float *x, int64_t n, const rq_qparams *q)
{
    const float scale = q->scale[0];
    const int32_t zp = q->zero_point[0];
    int32_t lo, hi;
    rq_qparams_limits(q, &lo, &hi);
    if (q->dtype == RQ_DTYPE_U8)
        k->quantize_u8(y->u8 + at, x, (size_t)n, scale, zp, lo, hi);
    else if (q->dtype == RQ_DTYPE_S8)
        k->quantize_s8(y->s8 + at, x, (size_t)n, scale, zp, lo, hi);
    else if (q->dtype == RQ_DTYPE_U16)
        k->quantize_u16(y->u16 + at, x, (size_t)n, scale, zp, lo, hi);
    else
        k->quantize_s16(y->s16 + at, x, (size_t)n, scale, zp, lo, hi);
}

void rq_int_requantize_table(uint8_t table[256], const rq_qparams *x, const rq_qparams *y)
{
    int32_t lo, hi;
    rq_qparams_limits(y, &lo, &hi);
    for (int i = 0; i < 256; i++) {
        const int32_t code = x->dtype == RQ_DTYPE_S8 ? (int8_t)(uint8_t)i : i;
        const float real = rq_dequantize_one(code, x->scale[0], x->zero_point[0]);
        table[i] = (uint8_t)rq_quantize_one(real, y->scale[0], y->zero_point[0], lo, hi);
    }
}
