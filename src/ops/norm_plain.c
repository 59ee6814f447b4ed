/* ops/norm_plain.c — normalizations without gain and bias: LpNormalization, LRN, MeanVarianceNormalization. */
#include <math.h>
#include <string.h>

#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/norm_grad.h"
#include "ops/reduce.h"
#include "ops/samples.h"

/* ---- LpNormalization ---- */

static rq_status lp_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    const int64_t axis = rq_attr_int(a->node, RQ_WORD_axis, -1), p = rq_attr_int(a->node, RQ_WORD_p, 2);
    if (p != 1 && p != 2)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "p is %lld, expected 1 or 2", (long long)p);
    if (a->in[0]->shape.rank >= 0 && rq_infer_axis(axis, a->in[0]->shape.rank) < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)axis,
                             a->in[0]->shape.rank);
    return RQ_OK;
}

static rq_status lp_wide(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), x->shape.rank);
    bool reduced[RQ_MAX_RANK] = { false };
    reduced[axis] = true;
    rq_reduce_plan plan;
    rq_reduce_plan_init(&plan, &x->shape, reduced);
    rq_shape s = x->shape;
    s.dim[axis] = 1;
    rq_tensor norm;
    RQ_TRY(rq_tensor_create(&norm, x->dtype, &s, false));
    const rq_reduce kind = rq_attr_int(a->node, RQ_WORD_p, 2) == 1 ? RQ_REDUCE_L1 : RQ_REDUCE_L2;
    rq_status status = rq_reduce_run(a, &plan, kind, &norm, x);
    for (int64_t i = 0, n = rq_tensor_count(&norm); status == RQ_OK && i < n; i++)
        if (rq_tensor_get(&norm, i) == 0) /* a row of zeros stays one */
            rq_tensor_set(&norm, i, 1);
    if (status == RQ_OK)
        status = rq_eltwise_zip(a, a->out[0], x, &norm, RQ_ZIP_DIV);
    rq_tensor_release(&norm);
    return status;
}

static rq_status lp_forward(const rq_op_args *a)
{
    return rq_half_run(a, lp_wide);
}

/* ---- LRN: x / (bias + alpha / size * sum of squares over `size` channels around) ^ beta ---- */

static rq_status lrn_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    if (a->in[0]->shape.rank >= 0 && a->in[0]->shape.rank < 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 2", a->in[0]->shape.rank);
    if (rq_attr_int(a->node, RQ_WORD_size, 0) < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "attribute size is missing or below 1");
    return RQ_OK;
}

static rq_status lrn_wide(const rq_op_args *a)
{
    RQ_TRY(rq_norm_only_f32(a));
    const rq_shape *s = &a->in[0]->shape;
    const int64_t size = rq_attr_int(a->node, RQ_WORD_size, 1), c = s->dim[1], area = rq_shape_span(s, 2, s->rank);
    const float alpha = rq_attr_float(a->node, RQ_WORD_alpha, 1e-4f),
                beta = rq_attr_float(a->node, RQ_WORD_beta, 0.75f);
    const float bias = rq_attr_float(a->node, RQ_WORD_bias, 1), minus_beta = -beta;
    const size_t n = (size_t)area;
    float *square = a->scratch;
    for (int64_t image = 0; image < s->dim[0]; image++)
        for (int64_t i = 0; i < c; i++) {
            const float *x = a->in[0]->f32 + image * c * area;
            float *y = a->out[0]->f32 + (image * c + i) * area;
            const int64_t lo = i - (size - 1) / 2, hi = i + size / 2;
            memset(y, 0, n * sizeof *y);
            for (int64_t k = lo < 0 ? 0 : lo; k <= hi && k < c; k++) {
                a->k->map[RQ_MAP_SQUARE](square, x + k * area, n, 0, 0);
                a->k->zip[RQ_ZIP_ADD](y, y, 1, square, 1, n);
            }
            a->k->map[RQ_MAP_LINEAR](y, y, n, alpha / (float)size, bias);
            a->k->zip[RQ_ZIP_POW](y, y, 1, &minus_beta, 0, n);
            a->k->zip[RQ_ZIP_MUL](y, y, 1, x + i * area, 1, n);
        }
    return RQ_OK;
}

static rq_status lrn_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, lrn_wide);
}

static size_t lrn_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *s = &a->in[0]->shape;
    return (size_t)rq_shape_span(s, 2, s->rank) * sizeof(float);
}

/* ---- MeanVarianceNormalization: (x - mean) / (deviation + 1e-9) over `axes` (default 0, 2, 3) ---- */

rq_status rq_norm_mvn_axes(const rq_node *n, int rank, bool *reduced)
{
    static const int64_t usual[] = { 0, 2, 3 };
    int count;
    const int64_t *axes = rq_attr_ints(n, RQ_WORD_axes, &count);
    if (!axes) {
        axes = usual;
        count = 3;
    }
    memset(reduced, 0, RQ_MAX_RANK * sizeof *reduced);
    for (int i = 0; i < count; i++) {
        const int axis = rq_infer_axis(axes[i], rank);
        if (axis < 0)
            return RQ_BAD_SHAPE;
        reduced[axis] = true;
    }
    return RQ_OK;
}

static rq_status mvn_infer(const rq_infer *a)
{
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(rq_infer_same(a));
    if (a->in[0]->shape.rank >= 0 && rq_norm_mvn_axes(a->node, a->in[0]->shape.rank, reduced))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "an axis is out of range for an input of %d axes", a->in[0]->shape.rank);
    return RQ_OK;
}

static rq_status mvn_wide(const rq_op_args *a)
{
    RQ_TRY(rq_norm_only_f32(a));
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0], stat;
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(rq_norm_mvn_axes(a->node, x->shape.rank, reduced));
    rq_reduce_plan plan;
    rq_reduce_plan_init(&plan, &x->shape, reduced);
    rq_shape s = x->shape;
    for (int i = 0; i < s.rank; i++)
        if (reduced[i])
            s.dim[i] = 1;
    RQ_TRY(rq_tensor_create(&stat, x->dtype, &s, false));
    rq_status status = rq_reduce_run(a, &plan, RQ_REDUCE_MEAN, &stat, x);
    if (status == RQ_OK)
        status = rq_eltwise_zip(a, y, x, &stat, RQ_ZIP_SUB);
    if (status == RQ_OK)
        status = rq_reduce_run(a, &plan, RQ_REDUCE_SUM_SQUARE, &stat, y);
    for (int64_t i = 0; status == RQ_OK && i < plan.outputs; i++)
        stat.f32[i] = sqrtf(stat.f32[i] / (float)plan.group) + 1e-9f;
    if (status == RQ_OK)
        status = rq_eltwise_zip(a, y, y, &stat, RQ_ZIP_DIV);
    rq_tensor_release(&stat);
    return status;
}

static rq_status mvn_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, mvn_wide);
}

/* ---- rows ---- */

const rq_op rq_op_lp_normalization = {
    .name = "LpNormalization",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = lp_infer,
    .samples = rq_samples_within,
    .forward = lp_forward,
    .backward = rq_norm_grad_lp,
    .saves = RQ_OP_IN(0),
};

const rq_op rq_op_lrn = {
    .name = "LRN",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = lrn_infer,
    .samples = rq_samples_first,
    .forward = lrn_forward,
    .backward = rq_norm_grad_lrn,
    .saves = RQ_OP_IN(0),
    .scratch_backward = rq_norm_grad_lrn_scratch,
    .scratch = lrn_scratch,
};

const rq_op rq_op_mean_variance_normalization = {
    .name = "MeanVarianceNormalization",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = mvn_infer,
    .forward = mvn_forward,
    .backward = rq_norm_grad_mvn,
    .saves = RQ_OP_IN(0),
    .scratch_backward = rq_norm_grad_mvn_scratch,
};
