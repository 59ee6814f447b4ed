/* formats/mil_emit_quant.c — quantized values in a program: QuantizeLinear is `quantize`, DequantizeLinear `dequantize`, and of constants
 * `constexpr_affine_dequantize` (iOS 16, 17) or `constexpr_blockwise_shift_scale` (iOS 18), which keep the codes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "graph/query.h"
#include "ops/op.h"
#include "tensor/convert.h"

/* Scale and zero point of a QuantizeLinear or DequantizeLinear. */
typedef struct params {
    const rq_tensor *scale, *zero_point; /* zero_point NULL: none, or all zero */
    int64_t n;
    int axis;              /* of n > 1 or blocks */
    int64_t block;         /* 0: none */
    const rq_shape *shape; /* of what is quantized */
} params;

static bool all_zero(const rq_tensor *t)
{
    for (int64_t i = 0; i < rq_tensor_count(t); i++)
        if (rq_tensor_get_int(t, i))
            return false;
    return true;
}

static rq_status read_params(rq_mil_emitter *e, const rq_node *n, params *p)
{
    const rq_id scale = rq_node_in(n, 1), zero = rq_node_in(n, 2);
    *p = (params) { .scale = rq_mil_emit_const(e, scale), .zero_point = rq_mil_emit_const(e, zero) };
    p->shape = &e->g->values[n->in[0]].shape;
    if (!p->scale || (zero != RQ_NONE && !p->zero_point))
        return rq_mil_emit_refuse(e, n, 0, "a scale or zero point that is computed when it runs");
    p->n = rq_tensor_count(p->scale);
    if (p->zero_point && rq_tensor_count(p->zero_point) != p->n)
        return rq_mil_emit_refuse(e, n, 0, "another number of zero points than of scales");
    if (p->zero_point && (!rq_dtype_is_integer(p->zero_point->dtype)))
        return rq_mil_emit_refuse(e, n, 0, "codes that are floats");
    if (p->zero_point && all_zero(p->zero_point))
        p->zero_point = NULL;
    if (p->n == 1 && p->scale->shape.rank < 2)
        return RQ_OK;
    if (p->shape->rank < 1)
        return rq_mil_emit_refuse(e, n, 0, "scales of a value whose axes are not known");
    p->axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 1), p->shape->rank);
    p->block = rq_attr_int(n, RQ_WORD_block_size, 0);
    if (p->axis < 0 || (!p->block && (p->scale->shape.rank != 1 || p->shape->dim[p->axis] != p->n)) ||
        (p->block && p->scale->shape.rank != p->shape->rank))
        return rq_mil_emit_refuse(e, n, 0, "scales that do not fit its axis");
    return RQ_OK;
}

/* The scales as floats of this program, with the sizes `shape`; what fp16 makes zero is its least number, which is said. */
static rq_mil_value *make_scale(rq_mil_emitter *e, const rq_node *n, const params *p, const rq_shape *shape)
{
    const rq_mil_dtype *d = rq_mil_emit_floats(e);
    rq_tensor t;
    bool under = false;
    if (rq_tensor_create(&t, RQ_DTYPE_F32, shape, false)) {
        rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
        rq_mil_emit_keep(e, RQ_NO_MEMORY);
        return NULL;
    }
    for (int64_t i = 0; i < p->n; i++) {
        t.f32[i] = (float)rq_tensor_get(p->scale, i);
        if (e->half && t.f32[i] > 0 && !(rq_convert_f32_to_f16(t.f32[i]) & 0x7fff)) {
            t.f32[i] = 0x1p-24f;
            under = true;
        }
    }
    if (under)
        rq_mil_emit_note(
            e, n, "a scale is too small for fp16, and became its smallest number, 2^-24; --compute f32 keeps it");
    rq_mil_value *v = rq_mil_emit_make(e, &t, d, NULL, e->g->values[n->in[1]].name);
    rq_tensor_release(&t);
    return v;
}

/* The zero points as codes of type d, with the sizes `shape`. */
static rq_mil_value *make_zero(rq_mil_emitter *e, const rq_node *n, const params *p, const rq_mil_dtype *d,
                               const rq_shape *shape)
{
    rq_tensor zeros;
    if (p->zero_point)
        return rq_mil_emit_make(e, p->zero_point, d, shape, e->g->values[n->in[2]].name);
    if (rq_tensor_create(&zeros, d->dtype, shape, true)) {
        rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
        rq_mil_emit_keep(e, RQ_NO_MEMORY);
        return NULL;
    }
    rq_mil_value *v = rq_mil_emit_make(e, &zeros, d, shape, "zero point");
    rq_tensor_release(&zeros);
    return v;
}

/* Rank 0 for one scale, else a list. */
static rq_shape flat(const params *p)
{
    return p->n == 1 ? rq_shape_of(0, NULL) : rq_shape_of(1, &p->n);
}

/* ---- values ---- */

static rq_status check_value(rq_mil_emitter *e, const rq_node *n, const params *p, rq_dtype codes)
{
    char what[80];
    if (codes != RQ_DTYPE_S8 && codes != RQ_DTYPE_U8) {
        snprintf(what, sizeof what, "an activation in codes of type %s (in 8 bits it can)", rq_dtype_name(codes));
        return rq_mil_emit_refuse(e, n, 0, what);
    }
    if (p->block)
        return rq_mil_emit_refuse(e, n, 0, "a scale per block of a value that is computed");
    return e->target < RQ_COREML_IOS17 ? rq_mil_emit_refuse(e, n, RQ_COREML_IOS17, "a quantized activation") : RQ_OK;
}

static rq_status bind_params(rq_mil_emitter *e, const rq_node *n, const params *p, rq_dtype codes, rq_mil_op *op)
{
    const rq_shape shape = flat(p);
    rq_mil_emit_bind_value(e, op, "scale", make_scale(e, n, p, &shape));
    if (p->zero_point)
        rq_mil_emit_bind_value(e, op, "zero_point", make_zero(e, n, p, rq_mil_dtype_of(codes), &shape));
    if (p->n > 1)
        rq_mil_emit_int(e, op, "axis", p->axis);
    return rq_mil_emit_state_of(e)->st;
}

static rq_status emit_quantize(rq_mil_emitter *e, const rq_node *n)
{
    params p;
    const rq_dtype codes = e->g->values[n->out[0]].dtype;
    RQ_TRY(read_params(e, n, &p));
    RQ_TRY(check_value(e, n, &p, codes));
    for (int64_t i = 0; i < p.n; i++)
        if (!(rq_tensor_get(p.scale, i) > 0))
            return rq_mil_emit_refuse(e, n, 0, "a scale that is not above 0");
    rq_mil_op *op = rq_mil_emit_op(e, "quantize", n->out[0]);
    rq_mil_emit_bind(e, op, "input", n->in[0]);
    bind_params(e, n, &p, codes, op);
    return rq_mil_emit_text(e, op, "output_dtype", rq_mil_dtype_of(codes)->name);
}

/* ---- constants ---- */

/* One number per axis of the data, or per block of it. */
static rq_shape spread(const params *p)
{
    rq_shape s = *p->shape;
    for (int k = 0; k < s.rank; k++)
        s.dim[k] = 1;
    if (p->block)
        s = p->scale->shape;
    else if (p->n > 1)
        s.dim[p->axis] = p->n;
    return s;
}

static rq_status emit_affine(rq_mil_emitter *e, const rq_node *n, const params *p, const rq_tensor *codes)
{
    const rq_mil_dtype *d = rq_mil_dtype_of(codes->dtype);
    const rq_shape shape = flat(p);
    rq_mil_op *op = rq_mil_emit_op(e, "constexpr_affine_dequantize", n->out[0]);
    rq_mil_value *data = rq_mil_emit_make(e, codes, d, NULL, e->g->values[n->in[0]].name);
    rq_mil_value *scale = make_scale(e, n, p, &shape), *zero = make_zero(e, n, p, d, &shape);
    rq_mil_value *axis = rq_mil_int(e->p, p->n > 1 ? p->axis : 0);
    if (rq_mil_emit_state_of(e)->st)
        return rq_mil_emit_state_of(e)->st;
    const bool ok = op && rq_mil_op_set_attr(e->p, op, "axis", axis) &&
                    rq_mil_op_set_attr(e->p, op, "quantized_data", data) &&
                    rq_mil_op_set_attr(e->p, op, "scale", scale) && rq_mil_op_set_attr(e->p, op, "zero_point", zero);
    return ok ? RQ_OK : rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
}

static rq_status emit_blockwise(rq_mil_emitter *e, const rq_node *n, const params *p, const rq_tensor *codes)
{
    const rq_mil_dtype *d = rq_mil_dtype_of(codes->dtype);
    const rq_shape shape = spread(p);
    for (int k = 0; k < shape.rank; k++)
        if (shape.dim[k] < 1 || p->shape->dim[k] % shape.dim[k])
            return rq_mil_emit_refuse(e, n, 0, "an axis that is no multiple of its blocks");
    rq_mil_op *op = rq_mil_emit_op(e, "constexpr_blockwise_shift_scale", n->out[0]);
    rq_mil_value *data = rq_mil_emit_make(e, codes, d, NULL, e->g->values[n->in[0]].name);
    rq_mil_value *scale = make_scale(e, n, p, &shape);
    rq_mil_value *offset = p->zero_point ? make_zero(e, n, p, d, &shape) : NULL;
    if (rq_mil_emit_state_of(e)->st)
        return rq_mil_emit_state_of(e)->st;
    const bool ok = op && rq_mil_op_bind_value(e->p, op, "data", data) &&
                    rq_mil_op_bind_value(e->p, op, "scale", scale) &&
                    (!p->zero_point || rq_mil_op_bind_value(e->p, op, "offset", offset));
    return ok ? RQ_OK : rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
}

/* Bytes around 128, or from -128 on, are those of the other sign without a zero point: *moved holds them. */
static rq_status drop_middle(rq_mil_emitter *e, params *p, const rq_tensor *codes, rq_tensor *moved)
{
    const bool u8 = codes->dtype == RQ_DTYPE_U8;
    const int64_t middle = u8 ? 128 : -128;
    bool all = p->zero_point && (u8 || codes->dtype == RQ_DTYPE_S8);
    for (int64_t i = 0; all && i < p->n; i++)
        all = rq_tensor_get_int(p->zero_point, i) == middle;
    if (!all)
        return RQ_OK;
    if (rq_tensor_create(moved, u8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8, &codes->shape, false))
        return rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    for (int64_t i = 0, n = rq_tensor_count(codes); i < n; i++)
        moved->u8[i] = codes->u8[i] ^ 0x80;
    p->zero_point = NULL;
    return RQ_OK;
}

static rq_status emit_constant(rq_mil_emitter *e, const rq_node *n, const rq_tensor *codes)
{
    params p;
    rq_tensor moved = { 0 };
    RQ_TRY(read_params(e, n, &p));
    if (!rq_dtype_is_integer(codes->dtype) || rq_dtype_bits(codes->dtype) > 8)
        return rq_mil_emit_refuse(e, n, 0, "a weight of such codes");
    if (e->target < RQ_COREML_IOS18 && rq_dtype_bits(codes->dtype) < 8)
        return rq_mil_emit_refuse(e, n, RQ_COREML_IOS18, "a weight of 4 bits");
    if (e->target < RQ_COREML_IOS18 && p.block)
        return rq_mil_emit_refuse(e, n, RQ_COREML_IOS18, "a weight with a scale per block");
    if (e->target < RQ_COREML_IOS16)
        return rq_mil_emit_refuse(e, n, RQ_COREML_IOS16, "a quantized weight");
    RQ_TRY(drop_middle(e, &p, codes, &moved));
    if (moved.dtype != RQ_DTYPE_NONE)
        codes = &moved;
    const rq_status st = e->target < RQ_COREML_IOS18 ? emit_affine(e, n, &p, codes) : emit_blockwise(e, n, &p, codes);
    rq_tensor_release(&moved);
    return st;
}

static rq_status emit_dequantize(rq_mil_emitter *e, const rq_node *n)
{
    const rq_tensor *codes = rq_mil_emit_const(e, n->in[0]);
    params p;
    if (codes)
        return emit_constant(e, n, codes);
    RQ_TRY(read_params(e, n, &p));
    RQ_TRY(check_value(e, n, &p, e->g->values[n->in[0]].dtype));
    rq_mil_op *op = rq_mil_emit_op(e, "dequantize", n->out[0]);
    rq_mil_emit_bind(e, op, "input", n->in[0]);
    return bind_params(e, n, &p, e->g->values[n->in[0]].dtype, op);
}

static rq_status emit_dynamic(rq_mil_emitter *e, const rq_node *n)
{
    return rq_mil_emit_refuse(e, n, 0, "quantization whose scale is measured when it runs");
}

const rq_mil_emit_row rq_mil_emit_quant[] = {
    { .op = "DequantizeLinear", .emit = emit_dequantize, .form = RQ_COREML_IOS16 },
    { .op = "DequantizeLinear", .domain = "com.microsoft", .emit = emit_dequantize, .form = RQ_COREML_IOS16 },
    { .op = "DynamicQuantizeLinear", .emit = emit_dynamic, .form = -1 },
    { .op = "QuantizeLinear", .emit = emit_quantize, .form = RQ_COREML_IOS17 },
    { .op = "QuantizeLinear", .domain = "com.microsoft", .emit = emit_quantize, .form = RQ_COREML_IOS17 },
    { .op = NULL },
};
