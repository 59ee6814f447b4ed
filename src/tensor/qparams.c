/* tensor/qparams.c — scales and zero points; see requant/qparams.h. */
#include "requant/qparams.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

rq_status rq_qparams_init(rq_qparams *q, rq_dtype d, int axis, int64_t block, int64_t n)
{
    *q = (rq_qparams) { 0 };
    if (n < 1)
        return RQ_BAD_ARG;
    float *scale = rq_mem_zalloc((size_t)n, sizeof *scale);
    int32_t *zero_point = rq_mem_zalloc((size_t)n, sizeof *zero_point);
    if (!scale || !zero_point) {
        rq_mem_free(scale);
        rq_mem_free(zero_point);
        return RQ_NO_MEMORY;
    }
    *q = (rq_qparams) { .dtype = d, .axis = axis, .block = block, .n = n, .scale = scale, .zero_point = zero_point };
    return RQ_OK;
}

rq_status rq_qparams_init_one(rq_qparams *q, rq_dtype d, float scale, int32_t zero_point)
{
    RQ_TRY(rq_qparams_init(q, d, RQ_PER_TENSOR, 0, 1));
    q->scale[0] = scale;
    q->zero_point[0] = zero_point;
    return RQ_OK;
}

rq_status rq_qparams_copy(rq_qparams *dst, const rq_qparams *src)
{
    RQ_TRY(rq_qparams_init(dst, src->dtype, src->axis, src->block, src->n));
    memcpy(dst->scale, src->scale, (size_t)src->n * sizeof *src->scale);
    memcpy(dst->zero_point, src->zero_point, (size_t)src->n * sizeof *src->zero_point);
    return RQ_OK;
}

void rq_qparams_release(rq_qparams *q)
{
    rq_mem_free(q->scale);
    rq_mem_free(q->zero_point);
    *q = (rq_qparams) { 0 };
}

bool rq_qparams_equal(const rq_qparams *a, const rq_qparams *b)
{
    return a->dtype == b->dtype && a->axis == b->axis && a->block == b->block && a->n == b->n &&
           !memcmp(a->scale, b->scale, (size_t)a->n * sizeof *a->scale) &&
           !memcmp(a->zero_point, b->zero_point, (size_t)a->n * sizeof *a->zero_point);
}

void rq_qparams_limits(const rq_qparams *q, int32_t *lo, int32_t *hi)
{
    int64_t l, h;
    rq_dtype_limits(q->dtype, &l, &h);
    *lo = (int32_t)l;
    *hi = (int32_t)(h > INT32_MAX ? INT32_MAX : h);
}

float rq_qparams_power_of_two(float scale)
{
    if (!(scale > 0x1p-126f))
        return 0x1p-126f;
    if (scale > 0x1p126f)
        return 0x1p127f;
    int e;
    const float m = frexpf(scale, &e); /* scale = m 2^e, m in [0.5, 1) */
    return ldexpf(1.0f, m == 0.5f ? e - 1 : e);
}
