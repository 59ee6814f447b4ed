/* quant/amax_fit.c — see amax_fit.h. */
#include "quant/amax_fit.h"

#include "base/mem.h"
#include "base/number.h"
#include "requant/qparams.h"
#include "tensor/strided.h"

rq_status rq_amax_fit_axis(int *out, int axis, int rank, rq_err *err)
{
    const int at = axis < 0 ? axis + rank : axis;
    if (at < 0 || at >= rank)
        return rq_fail(err, RQ_BAD_ARG, "axis is %d, expected one of a tensor of rank %d", axis, rank);
    *out = at;
    return RQ_OK;
}

static rq_status unfit(const rq_shape *x, const rq_strided *v, const char *what, const char *expected, rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    return rq_fail(err, RQ_BAD_SHAPE, "%s has the shape %s, expected %s %s", what,
                   rq_shape_text(&v->shape, a, sizeof a), expected, rq_shape_text(x, b, sizeof b));
}

rq_status rq_amax_fit_broadcast(int64_t *stride, const rq_shape *x, const rq_strided *v, const char *what, rq_err *err)
{
    const int shift = x->rank - v->shape.rank;
    for (int i = 0; i < x->rank; i++)
        stride[i] = 0;
    for (int i = 0; i < v->shape.rank; i++) {
        const int64_t size = v->shape.dim[i];
        if (size == 1)
            continue;
        if (i + shift < 0 || x->dim[i + shift] != size)
            return unfit(x, v, what, "one that broadcasts to", err);
        stride[i + shift] = v->stride[i];
    }
    return RQ_OK;
}

/* Which axis of x each axis of amax lies along: f->stride from row-major strides. */
static rq_status align(rq_amax_fit *f, const rq_shape *x, const rq_strided *amax, int axis, bool loose, rq_err *err)
{
    const rq_tensor flat = { .shape = amax->shape };
    const rq_strided row_major = rq_strided_of(&flat);
    int at = RQ_PER_TENSOR;
    if (axis != RQ_PER_TENSOR)
        RQ_TRY(rq_amax_fit_axis(&at, axis, x->rank, err));
    if (f->n == 1)
        return RQ_OK; /* strides of 0 */
    if (at != RQ_PER_TENSOR && amax->shape.rank == 1) {
        if (f->n != x->dim[at])
            return rq_fail(err, RQ_BAD_SHAPE, "amax has %lld elements, expected 1 or the size of axis %d, %lld",
                           (long long)f->n, at, (long long)x->dim[at]);
        f->stride[at] = 1;
        return RQ_OK;
    }
    if (amax->shape.rank != x->rank && !loose)
        return unfit(x, amax, "amax", "one number, a row along an axis that is said, or sizes 1 and those of", err);
    RQ_TRY(rq_amax_fit_broadcast(f->stride, x, &row_major, "amax", err));
    for (int i = 0; at != RQ_PER_TENSOR && i < x->rank; i++)
        if (f->stride[i] && i != at) {
            char text[RQ_SHAPE_TEXT];
            return rq_fail(err, RQ_BAD_SHAPE, "amax has the shape %s, expected several indices along axis %d alone",
                           rq_shape_text(&amax->shape, text, sizeof text), at);
        }
    return RQ_OK;
}

static rq_status read_all(rq_amax_fit *f, const rq_strided *amax, rq_err *err)
{
    rq_strided_read_f64(amax, 0, f->n, f->amax);
    for (int64_t i = 0; i < f->n; i++) {
        if (f->amax[i] < 0) {
            char text[32];
            rq_number_print(text, sizeof text, "%g", f->amax[i]);
            return rq_fail(err, RQ_BAD_ARG, "Negative values in amax: element %lld is %s", (long long)i, text);
        }
        if (!f->wide)
            f->amax[i] = (double)(float)f->amax[i];
    }
    return RQ_OK;
}

rq_status rq_amax_fit_make(rq_amax_fit *f, const rq_strided *x, const rq_strided *amax, int axis, bool loose,
                           rq_err *err)
{
    *f = (rq_amax_fit) { .axis = RQ_PER_TENSOR };
    RQ_TRY(rq_strided_check(amax, "amax", true, err));
    f->n = rq_shape_count(&amax->shape);
    f->wide = x->dtype == RQ_DTYPE_F64 && amax->dtype == RQ_DTYPE_F64;
    if (f->n == 0 && rq_shape_count(&x->shape) > 0)
        return unfit(&x->shape, amax, "amax", "at least one number for", err);
    RQ_TRY(align(f, &x->shape, amax, axis, loose, err));
    for (int i = 0; i < x->shape.rank; i++)
        if (f->stride[i])
            f->axis = f->axis == RQ_PER_TENSOR ? i : RQ_AMAX_AXES;
    f->amax = rq_mem_alloc((size_t)f->n, sizeof *f->amax);
    if (!f->amax)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld amaxs", (long long)f->n);
    const rq_status st = read_all(f, amax, err);
    if (st)
        rq_amax_fit_release(f);
    return st;
}

void rq_amax_fit_release(rq_amax_fit *f)
{
    rq_mem_free(f->amax);
    *f = (rq_amax_fit) { 0 };
}

rq_strided rq_amax_fit_spread(const rq_amax_fit *f, const rq_tensor *numbers, const rq_shape *x)
{
    rq_strided v = { .dtype = numbers->dtype, .data = numbers->data, .shape = *x };
    for (int i = 0; i < x->rank; i++)
        v.stride[i] = f->stride[i];
    return v;
}
