/* ops/grad.c — see grad.h. */
#include "ops/grad.h"

#include <string.h>

#include "ops/reduce.h"

void rq_grad_zero(rq_tensor *t)
{
    if (t && rq_tensor_count(t))
        memset(t->data, 0, (size_t)rq_tensor_count(t) * sizeof(float));
}

void rq_grad_zeros(const rq_op_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        rq_grad_zero(rq_grad_in(a, i));
}

void rq_grad_copy(rq_tensor *dst, const rq_tensor *src)
{
    const size_t n = (size_t)rq_tensor_count(src);
    if (n && dst->data != src->data)
        memcpy(dst->data, src->data, n * sizeof(float));
}

rq_status rq_grad_sum(const rq_op_args *a, rq_tensor *dst, const rq_tensor *src)
{
    const rq_shape *s = &src->shape, *d = &dst->shape;
    bool reduced[RQ_MAX_RANK];
    const int64_t n = rq_tensor_count(src);
    if (n == 0) {
        rq_grad_zero(dst);
        return RQ_OK;
    }
    if (rq_tensor_count(dst) == n) {
        rq_grad_copy(dst, src);
        return RQ_OK;
    }
    for (int i = 0; i < s->rank; i++) {
        const int at = i - (s->rank - d->rank);
        reduced[i] = at < 0 || d->dim[at] == 1;
    }
    rq_reduce_plan p;
    rq_reduce_plan_init(&p, s, reduced);
    return rq_reduce_run(a, &p, RQ_REDUCE_SUM, dst, src);
}

rq_status rq_grad_pass(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (dx && dy)
        rq_grad_copy(dx, dy);
    else
        rq_grad_zero(dx);
    return RQ_OK;
}

rq_status rq_grad_none(const rq_op_args *a)
{
    rq_grad_zeros(a);
    return RQ_OK;
}
