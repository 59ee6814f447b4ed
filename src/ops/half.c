/* ops/half.c — f16 and bf16 through f32 (ops/half.h). */
#include "ops/half.h"

#include "tensor/convert.h"

static rq_status widen(rq_tensor *dst, const rq_tensor *src, bool content)
{
    RQ_TRY(rq_tensor_create(dst, RQ_DTYPE_F32, &src->shape, false));
    if (!content || !src->data)
        return RQ_OK;
    const int64_t n = rq_tensor_count(src);
    if (src->dtype == RQ_DTYPE_F16)
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = rq_convert_f16_to_f32(src->u16[i]);
    else
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = rq_convert_bf16_to_f32(src->u16[i]);
    return RQ_OK;
}

static void narrow(rq_tensor *dst, const rq_tensor *src)
{
    const int64_t n = rq_tensor_count(src);
    if (dst->dtype == RQ_DTYPE_F16)
        for (int64_t i = 0; i < n; i++)
            dst->u16[i] = rq_convert_f32_to_f16(src->f32[i]);
    else
        for (int64_t i = 0; i < n; i++)
            dst->u16[i] = rq_convert_f32_to_bf16(src->f32[i]);
}

rq_status rq_half_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    bool any = false;
    for (int i = 0; i < a->n_in; i++)
        any |= a->in[i] && rq_half_is(a->in[i]->dtype);
    if (!any)
        return fn(a);
    const size_t n = (size_t)a->n_in + (size_t)a->n_out;
    rq_tensor *wide = rq_mem_zalloc(n, sizeof *wide);
    rq_tensor **use = rq_mem_zalloc(n, sizeof *use);
    rq_status s = wide && use ? RQ_OK : RQ_NO_MEMORY;
    for (int i = 0; s == RQ_OK && i < a->n_in; i++) {
        use[i] = (rq_tensor *)a->in[i];
        if (!a->in[i] || !rq_half_is(a->in[i]->dtype))
            continue;
        use[i] = &wide[i];
        s = widen(use[i], a->in[i], true);
    }
    for (int i = 0; s == RQ_OK && i < a->n_out; i++) {
        const int at = a->n_in + i;
        use[at] = a->out[i];
        if (!a->out[i] || !rq_half_is(a->out[i]->dtype))
            continue;
        use[at] = &wide[at];
        s = widen(use[at], a->out[i], false);
    }
    if (s == RQ_OK) {
        rq_op_args b = *a;
        b.in = (const rq_tensor *const *)use;
        b.out = (rq_tensor *const *)use + a->n_in;
        s = fn(&b);
    }
    for (int i = 0; s == RQ_OK && i < a->n_out; i++)
        if (a->out[i] && rq_half_is(a->out[i]->dtype))
            narrow(a->out[i], use[a->n_in + i]);
    for (size_t i = 0; wide && i < n; i++)
        rq_tensor_release(&wide[i]);
    rq_mem_free(wide);
    rq_mem_free(use);
    return s;
}
