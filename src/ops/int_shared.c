/* ops/int_shared.c — what the integer forms ask of annotations. */
#include "kernels/quantize.h"
#include "ops/int_ops.h"

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

void rq_int_dynamic(uint8_t *y, const float *x, int64_t n, float *scale, uint8_t *zero, const rq_kernels *k)
{
    float lo, hi;
    size_t finite;
    k->minmax(x, (size_t)n, &lo, &hi, &finite);
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    if (finite < (size_t)n)
        for (int64_t i = 0; i < n; i++) { /* infinities count; NaN compares false: ignored */
            lo = x[i] < lo ? x[i] : lo;
            hi = x[i] > hi ? x[i] : hi;
        }
    *scale = hi == lo ? 1 : (hi - lo) / 255;
    *zero = (uint8_t)rq_quantize_clamp(0 - lo / *scale, 0, 255);
    if (y)
        k->quantize_u8(y, x, (size_t)n, *scale, *zero, 0, 255);
}
