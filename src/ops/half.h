/* ops/half.h — operators that compute in f32, run on f16 and bf16. */
#ifndef RQ_OPS_HALF_H
#define RQ_OPS_HALF_H

#include "ops/op.h"

/* Call fn with every F16 and BF16 tensor replaced by an f32 copy, and round what it wrote to the outputs of those
 * types back (half to even). With none of them: just fn(a). RQ_NO_MEMORY, or what fn returns. */
rq_status rq_half_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a));

/* The same for an operator with one output whose elements each depend on those that stand where they stand, after broadcasting: some thousand of
 * them at a time, so that their f32 copies stay in the first-level cache. fn is called with shapes of one axis then, by several threads. */
rq_status rq_half_run_each(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a));

/* The same for F64, too: operators of whose sums no kernel in double precision is there. Their results have 24 bits. */
rq_status rq_half_run_single(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a));

static inline bool rq_half_is(rq_dtype d)
{
    return d == RQ_DTYPE_F16 || d == RQ_DTYPE_BF16;
}

#endif
