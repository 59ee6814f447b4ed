/* ops/qdq.c — QuantizeLinear, DequantizeLinear (opsets 10 to 25, and com.microsoft) and DynamicQuantizeLinear as the
 * operators they are: what a literal run computes, and what is left when raising found no annotation in them
 * (docs/onnx-facts.md 2.1 to 2.5). Rounding is the kernels' (kernels/quantize.h). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/elements.h"
#include "ops/int_ops.h"
#include "ops/samples.h"
#include "quant/codes.h"
#include "tensor/convert.h"

static bool is_code(rq_dtype d)
{
    return rq_dtype_is_integer(d) && rq_dtype_bits(d) <= 16;
}

static bool is_small_float(rq_dtype d)
{
    return rq_dtype_is_float(d) && rq_dtype_bits(d) <= 8 && d != RQ_DTYPE_F8E8M0;
}

/* ---- where scales lie: per tensor, along an axis, in blocks ---- */

typedef struct layout {
    int axis;
    int64_t block;
} layout;

/* Check scale (input 1) and zero point (input 2) against x (input 0). Shapes that are not known yet pass. */
static rq_status check_layout(const rq_infer *a, layout *l)
{
    const rq_shape *x = &a->in[0]->shape, *s = &a->in[1]->shape;
    const rq_shape *z = a->n_in > 2 && a->in[2] ? &a->in[2]->shape : NULL;
    int64_t block = rq_attr_int(a->node, RQ_WORD_block_size, 0), axis_attr = rq_attr_int(a->node, RQ_WORD_axis, 1);
    char t[2][RQ_SHAPE_TEXT];
    *l = (layout) { .axis = RQ_PER_TENSOR };
    if (block < 0)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "block_size is %lld", (long long)block);
    if (x->rank < 0 || s->rank < 0 || !rq_shape_is_known(s))
        return RQ_OK;
    if (z && rq_shape_is_known(z) && !rq_shape_equal(s, z) && (rq_shape_count(s) != 1 || rq_shape_count(z) != 1))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the zero point has shape %s, the scale %s",
                             rq_shape_text(z, t[0], sizeof t[0]), rq_shape_text(s, t[1], sizeof t[1]));
    if (rq_shape_count(s) == 1 && s->rank <= 1)
        return RQ_OK;
    int axis = rq_infer_axis(axis_attr, x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)axis_attr, x->rank);
    l->axis = axis;
    l->block = block;
    bool fits = block ? s->rank == x->rank : s->rank == 1 && (x->dim[axis] < 0 || s->dim[0] == x->dim[axis]);
    for (int i = 0; block && fits && i < x->rank; i++)
        fits = x->dim[i] < 0 || s->dim[i] == (i == axis ? x->dim[i] / block + (x->dim[i] % block != 0) : x->dim[i]);
    if (!fits && block)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a scale of shape %s does not fit %s in blocks of %lld along axis %d",
                             rq_shape_text(s, t[0], sizeof t[0]), rq_shape_text(x, t[1], sizeof t[1]), (long long)block,
                             axis);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a scale of shape %s does not fit %s along axis %d",
                             rq_shape_text(s, t[0], sizeof t[0]), rq_shape_text(x, t[1], sizeof t[1]), axis);
    return RQ_OK;
}

/* Scratch: scales as f32, zero points as s32, x or y as f32 where the type differs. */
static size_t params_bytes(const rq_op_args *a)
{
    return rq_mem_round((size_t)rq_tensor_count(a->in[1]) * sizeof(float)) * 2;
}

/* Scale and zero point as parameters for quant/codes, in scratch. */
static rq_status read_params(const rq_op_args *a, rq_dtype codes, rq_qparams *q)
{
    rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    layout l;
    RQ_TRY(check_layout(&as_infer, &l));
    const rq_tensor *z = a->n_in > 2 ? a->in[2] : NULL;
    int64_t n = rq_tensor_count(a->in[1]);
    *q = (rq_qparams) { .dtype = codes, .axis = l.axis, .block = l.block, .n = n, .scale = a->scratch };
    q->zero_point = (int32_t *)((char *)a->scratch + params_bytes(a) / 2);
    rq_shape list = rq_shape_of(1, &n);
    rq_tensor scale = rq_tensor_view(RQ_DTYPE_F32, &list, q->scale);
    rq_elements_convert(&scale, a->in[1], true);
    for (int64_t i = 0; i < n; i++)
        q->zero_point[i] = z && rq_dtype_is_integer(z->dtype) ? (int32_t)rq_tensor_get_int(z, i) : 0;
    return RQ_OK;
}

/* ---- QuantizeLinear ---- */

static rq_status quantize_infer(const rq_infer *a)
{
    const rq_tensor *z = a->n_in > 2 ? a->in[2] : NULL;
    int64_t stated = rq_attr_int(a->node, RQ_WORD_output_dtype, 0);
    rq_dtype d = stated ? rq_elements_dtype(stated) : RQ_DTYPE_U8, x = a->in[0]->dtype;
    layout l;
    if (z && z->dtype != RQ_DTYPE_NONE) {
        if (stated && d != z->dtype)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "output_dtype is %s, the zero point %s", rq_dtype_name(d),
                                 rq_dtype_name(z->dtype));
        d = z->dtype;
    }
    if (!is_code(d) && !is_small_float(d))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "cannot quantize to %s", rq_dtype_name(d));
    if (x != RQ_DTYPE_NONE && x != RQ_DTYPE_F32 && x != RQ_DTYPE_F16 && x != RQ_DTYPE_BF16 && x != RQ_DTYPE_S32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input is %s, expected floats or s32", rq_dtype_name(x));
    RQ_TRY(check_layout(a, &l));
    a->out_dtype[0] = d;
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static size_t quantize_scratch(const rq_op_args *a, bool integer)
{
    size_t x = a->in[0]->dtype == RQ_DTYPE_F32 ? 0 : (size_t)rq_tensor_count(a->in[0]) * sizeof(float);
    return params_bytes(a) + rq_mem_round(x);
}

/* Round v to a narrower float type and back. */
static float through(float v, rq_dtype d)
{
    if (d == RQ_DTYPE_F16)
        return rq_convert_f16_to_f32(rq_convert_f32_to_f16(v));
    return d == RQ_DTYPE_BF16 ? rq_convert_bf16_to_f32(rq_convert_f32_to_bf16(v)) : v;
}

/* One element at a time: a division in f16 or bf16, or a float code. */
static void quantize_each(rq_tensor *y, const rq_tensor *x, const rq_qparams *q, rq_dtype division, bool saturate)
{
    int32_t lo = 0, hi = 0;
    bool integer = rq_dtype_is_integer(y->dtype);
    if (integer)
        rq_qparams_limits(q, &lo, &hi);
    for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++) {
        int64_t s = rq_codes_scale_index(q, &x->shape, i);
        float v = through(x->f32[i] / q->scale[s], division);
        if (integer) {
            int64_t code = rq_quantize_real(v, q->zero_point[s], lo, hi);
            rq_elements_store_int(y, i, &code, 1);
        } else {
            double wide = (double)v;
            rq_elements_store_f64(y, i, &wide, 1, saturate);
        }
    }
}

static rq_status quantize_forward(const rq_op_args *a)
{
    rq_tensor *y = a->out[0], x = *a->in[0];
    rq_qparams q;
    int64_t precision = rq_attr_int(a->node, RQ_WORD_precision, 0);
    rq_dtype division = precision ? rq_elements_dtype(precision) : a->in[1]->dtype;
    RQ_TRY(read_params(a, y->dtype, &q));
    if (x.dtype != RQ_DTYPE_F32) {
        x = rq_tensor_view(RQ_DTYPE_F32, &x.shape, (char *)a->scratch + params_bytes(a));
        rq_elements_convert(&x, a->in[0], true);
    }
    if (rq_dtype_is_integer(y->dtype) && division != RQ_DTYPE_F16 && division != RQ_DTYPE_BF16)
        rq_codes_from_reals_on(a->threads, y, &x, &q, a->k);
    else
        quantize_each(y, &x, &q, division, rq_attr_int(a->node, RQ_WORD_saturate, 1) != 0);
    return RQ_OK;
}

/* ---- DequantizeLinear ---- */

static rq_status dequantize_infer(const rq_infer *a)
{
    const rq_tensor *z = a->n_in > 2 ? a->in[2] : NULL;
    int64_t stated = rq_attr_int(a->node, RQ_WORD_output_dtype, 0);
    rq_dtype x = a->in[0]->dtype, d = stated ? rq_elements_dtype(stated) : a->in[1]->dtype;
    layout l;
    if (x != RQ_DTYPE_NONE && !is_code(x) && x != RQ_DTYPE_S32 && !is_small_float(x))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input is %s, expected codes", rq_dtype_name(x));
    if (z && z->dtype != RQ_DTYPE_NONE && x != RQ_DTYPE_NONE && z->dtype != x)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the zero point is %s, the codes %s", rq_dtype_name(z->dtype),
                             rq_dtype_name(x));
    if (d != RQ_DTYPE_NONE && d != RQ_DTYPE_F32 && d != RQ_DTYPE_F16 && d != RQ_DTYPE_BF16) {
        if (d != RQ_DTYPE_F8E8M0 || stated)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "cannot dequantize to %s", rq_dtype_name(d));
        d = RQ_DTYPE_F32;
    }
    RQ_TRY(check_layout(a, &l));
    a->out_dtype[0] = d;
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static size_t dequantize_scratch(const rq_op_args *a, bool integer)
{
    size_t y = a->out[0]->dtype == RQ_DTYPE_F32 ? 0 : (size_t)rq_tensor_count(a->out[0]) * sizeof(float);
    return params_bytes(a) + rq_mem_round(y);
}

static rq_status dequantize_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    rq_tensor *out = a->out[0], y = *out;
    rq_qparams q;
    RQ_TRY(read_params(a, x->dtype, &q));
    if (out->dtype != RQ_DTYPE_F32)
        y = rq_tensor_view(RQ_DTYPE_F32, &out->shape, (char *)a->scratch + params_bytes(a));
    if (x->dtype == RQ_DTYPE_S32) { /* the difference wraps, as in ONNX Runtime */
        for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++) {
            int64_t s = rq_codes_scale_index(&q, &x->shape, i);
            y.f32[i] = rq_dequantize_one((int32_t)(x->u32[i] - (uint32_t)q.zero_point[s]), q.scale[s], 0);
        }
    } else if (rq_dtype_is_integer(x->dtype)) {
        rq_codes_to_reals_on(a->threads, &y, x, &q, a->k);
    } else {
        for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++)
            y.f32[i] = (float)rq_tensor_get(x, i) * q.scale[rq_codes_scale_index(&q, &x->shape, i)];
    }
    if (out->dtype != RQ_DTYPE_F32)
        rq_elements_convert(out, &y, true);
    return RQ_OK;
}

/* ---- DynamicQuantizeLinear: u8 codes, scale and zero point from the range of x, 0 included ---- */

static rq_status dynamic_infer(const rq_infer *a)
{
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input is %s, expected f32", rq_dtype_name(a->in[0]->dtype));
    a->out_dtype[0] = RQ_DTYPE_U8;
    a->out_shape[0] = a->in[0]->shape;
    for (int i = 1; i < a->n_out; i++) {
        a->out_dtype[i] = i == 1 ? RQ_DTYPE_F32 : RQ_DTYPE_U8;
        a->out_shape[i] = rq_shape_of(0, NULL);
    }
    return RQ_OK;
}

static rq_status dynamic_forward(const rq_op_args *a)
{
    float scale;
    uint8_t zp;
    rq_int_dynamic_on(a->threads, a->out[0] ? a->out[0]->u8 : NULL, a->in[0]->f32, rq_tensor_count(a->in[0]), &scale,
                      &zp, a->k);
    if (a->n_out > 1 && a->out[1])
        a->out[1]->f32[0] = scale;
    if (a->n_out > 2 && a->out[2])
        a->out[2]->u8[0] = zp;
    return RQ_OK;
}

/* ---- rows ---- */

#define QUANTIZE                                                                                                       \
    .name = "QuantizeLinear", .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,           \
    .infer = quantize_infer, .samples = rq_samples_quantize, .forward = quantize_forward, .scratch = quantize_scratch
#define DEQUANTIZE                                                                                                     \
    .name = "DequantizeLinear", .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,         \
    .infer = dequantize_infer, .samples = rq_samples_quantize, .forward = dequantize_forward,                          \
    .scratch = dequantize_scratch

const rq_op rq_op_quantize_linear = { .domain = "", .since = 10, .known = 25, QUANTIZE };
const rq_op rq_op_dequantize_linear = { .domain = "", .since = 10, .known = 25, DEQUANTIZE };
const rq_op rq_op_ms_quantize_linear = { .domain = "com.microsoft", .since = 1, .known = 1, QUANTIZE };
const rq_op rq_op_ms_dequantize_linear = { .domain = "com.microsoft", .since = 1, .known = 1, DEQUANTIZE };

const rq_op rq_op_dynamic_quantize_linear = {
    .name = "DynamicQuantizeLinear",
    .domain = "",
    .since = 11,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 3,
    .place = RQ_PLACE_FLOAT,
    .infer = dynamic_infer,
    .forward = dynamic_forward,
};
