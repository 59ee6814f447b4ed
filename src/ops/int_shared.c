/* ops/int_shared.c — what the integer forms ask of annotations. */
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
