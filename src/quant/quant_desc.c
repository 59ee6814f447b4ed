/* quant/quant_desc.c — what a tensor quantizer is to do; see requant/quant_desc.h. Its text forms are in quant_desc_text.c. */
#include "requant/quant_desc.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

void rq_quant_desc_init(rq_quant_desc *d)
{
    *d = (rq_quant_desc) { .num_bits = 8, .fake_quant = true, .calib_method = RQ_CALIBRATOR_MAX };
}

void rq_quant_desc_release(rq_quant_desc *d)
{
    rq_tensor_release(&d->amax);
    rq_mem_free(d->name);
    rq_quant_desc_init(d);
}

rq_status rq_quant_desc_copy(rq_quant_desc *dst, const rq_quant_desc *src)
{
    rq_quant_desc d = *src;
    d.amax = (rq_tensor) { 0 };
    d.name = NULL;
    rq_status st = src->amax.dtype == RQ_DTYPE_NONE ? RQ_OK : rq_tensor_copy(&d.amax, &src->amax);
    if (!st)
        st = rq_quant_desc_set_name(&d, src->name);
    if (st)
        rq_quant_desc_release(&d);
    *dst = d;
    return st;
}

static bool amax_equal(const rq_tensor *a, const rq_tensor *b)
{
    if (a->dtype != b->dtype || (a->dtype != RQ_DTYPE_NONE && !rq_shape_equal(&a->shape, &b->shape)))
        return false;
    for (int64_t i = 0; a->dtype != RQ_DTYPE_NONE && i < rq_tensor_count(a); i++)
        if (a->f32[i] != b->f32[i])
            return false;
    return true;
}

bool rq_quant_desc_equal(const rq_quant_desc *a, const rq_quant_desc *b)
{
    if (a->e4m3 != b->e4m3 || (!a->e4m3 && a->num_bits != b->num_bits) || a->fake_quant != b->fake_quant ||
        a->is_unsigned != b->is_unsigned || a->narrow_range != b->narrow_range || a->learn_amax != b->learn_amax ||
        a->has_scale_amax != b->has_scale_amax || (a->has_scale_amax && a->scale_amax != b->scale_amax) ||
        a->calib_method != b->calib_method || a->n_axes != b->n_axes)
        return false;
    for (int i = 0; i < a->n_axes; i++)
        if (a->axis[i] != b->axis[i])
            return false;
    const bool names = a->name && b->name ? !strcmp(a->name, b->name) : !a->name && !b->name;
    return names && amax_equal(&a->amax, &b->amax);
}

rq_status rq_quant_desc_set_axes(rq_quant_desc *d, const int *axis, int n, rq_err *err)
{
    if (n < 0 || n > RQ_MAX_RANK)
        return rq_fail(err, RQ_BAD_ARG, "%d axes, expected 0..%d", n, RQ_MAX_RANK);
    for (int i = 0; i < n; i++)
        d->axis[i] = axis[i];
    d->n_axes = n;
    d->axis_is_list = true;
    return RQ_OK;
}

void rq_quant_desc_set_axis(rq_quant_desc *d, int axis)
{
    d->axis[0] = axis;
    d->n_axes = 1;
    d->axis_is_list = false;
}

rq_status rq_quant_desc_set_amax(rq_quant_desc *d, const float *amax, const rq_shape *shape)
{
    const rq_shape one = { .rank = 0 };
    rq_tensor t = { 0 };
    if (amax) {
        RQ_TRY(rq_tensor_create(&t, RQ_DTYPE_F32, shape ? shape : &one, false));
        for (int64_t i = 0; i < rq_tensor_count(&t); i++)
            t.f32[i] = amax[i];
    }
    rq_tensor_release(&d->amax);
    d->amax = t;
    return RQ_OK;
}

rq_status rq_quant_desc_set_name(rq_quant_desc *d, const char *name)
{
    char *copy = name ? rq_mem_strdup(name) : NULL;
    if (name && !copy)
        return RQ_NO_MEMORY;
    rq_mem_free(d->name);
    d->name = copy;
    return RQ_OK;
}

rq_status rq_quant_desc_set_float(rq_quant_desc *d, int exponent_bits, int mantissa_bits, rq_err *err)
{
    if (exponent_bits != 4 || mantissa_bits != 3)
        return rq_fail(err, RQ_BAD_ARG, "num_bits is (%d, %d), expected a number of bits or (4, 3)", exponent_bits,
                       mantissa_bits);
    d->e4m3 = true;
    return RQ_OK;
}

rq_status rq_quant_desc_check(const rq_quant_desc *d, rq_err *err)
{
    if (!d->e4m3 && d->num_bits < 0)
        return rq_fail(err, RQ_BAD_ARG, "num_bits is %d, expected 0 or more", d->num_bits);
    if (d->n_axes < 0 || d->n_axes > RQ_MAX_RANK)
        return rq_fail(err, RQ_BAD_ARG, "%d axes, expected 0..%d", d->n_axes, RQ_MAX_RANK);
    if (d->learn_amax && d->n_axes > 0)
        return rq_fail(err, RQ_BAD_ARG, "axis is ignored and must be None when learn_amax is true: found %d axes",
                       d->n_axes);
    if (d->learn_amax && d->amax.dtype != RQ_DTYPE_NONE && rq_tensor_count(&d->amax) != 1)
        return rq_fail(err, RQ_BAD_ARG, "learn_amax starts from a single amax, found %lld",
                       (long long)rq_tensor_count(&d->amax));
    for (int i = 0; i < d->n_axes; i++)
        for (int k = 0; k < i; k++)
            if (d->axis[i] == d->axis[k])
                return rq_fail(err, RQ_BAD_ARG, "axis %d is there twice", d->axis[i]);
    if (d->amax.dtype != RQ_DTYPE_NONE && d->amax.dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_ARG, "amax is %s, expected f32", rq_dtype_name(d->amax.dtype));
    if (d->calib_method != RQ_CALIBRATOR_MAX && d->calib_method != RQ_CALIBRATOR_HISTOGRAM)
        return rq_fail(err, RQ_BAD_ARG, "calib_method is neither max nor histogram");
    if (d->has_scale_amax && !isfinite(d->scale_amax))
        return rq_fail(err, RQ_BAD_ARG, "scale_amax is not a finite number");
    return RQ_OK;
}

/* ---- predefined ---- */

static const struct preset {
    const char *name;
    int axis; /* RQ_PER_TENSOR: none */
    bool is_unsigned;
} presets[RQ_N_QUANT_DESCS] = {
    [RQ_QUANT_DESC_8BIT_PER_TENSOR] = { "QUANT_DESC_8BIT_PER_TENSOR", RQ_PER_TENSOR, false },
    [RQ_QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR] = { "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR", RQ_PER_TENSOR, true },
    [RQ_QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL] = { "QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL", 0, false },
    [RQ_QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL] = { "QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL", 0, false },
    [RQ_QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL] = { "QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL", 0, false },
    [RQ_QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW] = { "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW", 0, false },
    [RQ_QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL] = { "QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL", 1,
                                                                false },
    [RQ_QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL] = { "QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL", 1,
                                                                false },
    [RQ_QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL] = { "QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL", 1,
                                                                false },
};

rq_quant_desc rq_quant_desc_preset(rq_quant_desc_kind kind)
{
    rq_quant_desc d;
    rq_quant_desc_init(&d);
    if ((unsigned)kind >= RQ_N_QUANT_DESCS)
        return d;
    d.is_unsigned = presets[kind].is_unsigned;
    if (presets[kind].axis != RQ_PER_TENSOR)
        rq_quant_desc_set_axis(&d, presets[kind].axis);
    return d;
}

const char *rq_quant_desc_preset_name(rq_quant_desc_kind kind)
{
    return (unsigned)kind < RQ_N_QUANT_DESCS ? presets[kind].name : "?";
}

rq_status rq_quant_desc_preset_parse(rq_quant_desc_kind *out, const char *name, rq_err *err)
{
    for (int i = 0; i < RQ_N_QUANT_DESCS; i++)
        if (!strcmp(name, presets[i].name)) {
            *out = (rq_quant_desc_kind)i;
            return RQ_OK;
        }
    return rq_fail(err, RQ_BAD_ARG, "no descriptor is called '%.100s'", name);
}
