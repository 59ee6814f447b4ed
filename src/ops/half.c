/* ops/half.c — f16 and bf16 (and f64, for some) through f32 (ops/half.h). */
#include "ops/half.h"

#include "ops/elements.h"
#include "tensor/convert.h"

static void widen(rq_tensor *dst, const rq_tensor *src)
{
    const int64_t n = rq_tensor_count(src);
    if (src->dtype == RQ_DTYPE_F64)
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = (float)src->f64[i];
    else if (src->dtype == RQ_DTYPE_F16)
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = rq_convert_f16_to_f32(src->u16[i]);
    else
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = rq_convert_bf16_to_f32(src->u16[i]);
}

static void narrow(rq_tensor *dst, const rq_tensor *src)
{
    const int64_t n = rq_tensor_count(src);
    if (dst->dtype == RQ_DTYPE_F64)
        for (int64_t i = 0; i < n; i++)
            dst->f64[i] = src->f32[i];
    else if (dst->dtype == RQ_DTYPE_F16)
        for (int64_t i = 0; i < n; i++)
            dst->u16[i] = rq_convert_f32_to_f16(src->f32[i]);
    else
        for (int64_t i = 0; i < n; i++)
            dst->u16[i] = rq_convert_f32_to_bf16(src->f32[i]);
}

static bool is_half(rq_dtype d)
{
    return rq_half_is(d);
}

rq_status rq_half_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    bool any = false; /* an output alone, as of Cast, is its operator's business */
    for (int i = 0; i < a->n_in; i++)
        any |= a->in[i] && rq_half_is(a->in[i]->dtype);
    return any ? rq_elements_run_as(a, &(rq_elements_as) { is_half, RQ_DTYPE_F32, widen, narrow }, fn) : fn(a);
}

static bool is_other(rq_dtype d)
{
    return rq_half_is(d) || d == RQ_DTYPE_F64;
}

rq_status rq_half_run_single(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    bool any = false;
    for (int i = 0; i < a->n_in; i++)
        any |= a->in[i] && is_other(a->in[i]->dtype);
    return any ? rq_elements_run_as(a, &(rq_elements_as) { is_other, RQ_DTYPE_F32, widen, narrow }, fn) : fn(a);
}
