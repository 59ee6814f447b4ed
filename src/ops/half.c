/* ops/half.c — f16 and bf16 (and f64, for some) through f32 (ops/half.h). */
#include "ops/half.h"

#include "ops/elements.h"

static void convert(rq_tensor *dst, const rq_tensor *src, const rq_op_args *a)
{
    rq_elements_convert_in(a, dst, src, true);
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
    return any ? rq_elements_run_as(a, &(rq_elements_as) { is_half, RQ_DTYPE_F32, convert, convert }, fn) : fn(a);
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
    return any ? rq_elements_run_as(a, &(rq_elements_as) { is_other, RQ_DTYPE_F32, convert, convert }, fn) : fn(a);
}
