/* quant/layout.c — does a layout of scales fit; see layout.h. */
#include "quant/layout.h"

rq_status rq_layout_check(int axis, int64_t block, int64_t n, const rq_shape *shape, rq_err *err)
{
    if (axis == RQ_PER_TENSOR)
        return n == 1 ? RQ_OK
                      : rq_fail(err, RQ_BAD_SHAPE, "%lld scales for a tensor quantized as a whole", (long long)n);
    if (axis < 0 || axis >= shape->rank)
        return rq_fail(err, RQ_BAD_SHAPE, "quantized along axis %d, but the tensor has rank %d", axis, shape->rank);
    rq_layout l = rq_layout_of(axis, block, shape);
    if (rq_layout_scales(&l) != n)
        return rq_fail(err, RQ_BAD_SHAPE, "%lld scales along axis %d, expected %lld", (long long)n, axis,
                       (long long)rq_layout_scales(&l));
    return RQ_OK;
}
