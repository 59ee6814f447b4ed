/* formats/mil_ops_quant.c — rows: quantized and compressed numbers, casts, and what a classifier gives. Semantics: docs/coreml-package.md.
 *
 * Weights that are integers with a scale stay integers behind a DequantizeLinear, whatever their blocks: ONNX's blocks lie along one
 * axis, so scales are repeated along the others. Other compressed weights (tables, masks) become the numbers they are. */
#include <string.h>

#include "formats/mil_rows.h"
#include "formats/onnx.h"

typedef rq_mil_reader reader;

/* ---- weights ---- */

static rq_status plain_constant(reader *r, const rq_mil_op *op)
{
    for (int i = 0; i < op->n_outputs; i++) {
        rq_tensor t, own;
        RQ_TRY(rq_mil_constexpr(&t, r->m, r->consts, op, i, r->err));
        rq_status st = RQ_OK;
        if (t.storage)
            rq_tensor_share(&own, &t);
        else if (rq_tensor_copy(&own, &t)) /* a view of the file, which may go */
            st = rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
        if (!st)
            st = rq_edit_add_constant(r->g, op->outputs[i].name, &own, r->err);
        rq_tensor_release(&own);
        rq_tensor_release(&t);
        RQ_TRY(st);
    }
    return RQ_OK;
}

/* Integers with a scale, as a program has them. */
typedef struct coded {
    rq_tensor data, scale, zero; /* zero: empty, or of data's type and scale's shape */
} coded;

static void coded_release(coded *c)
{
    rq_tensor_release(&c->data);
    rq_tensor_release(&c->scale);
    rq_tensor_release(&c->zero);
}

static rq_status coded_read(reader *r, const rq_mil_op *op, const char *data, const char *zero, coded *c)
{
    RQ_TRY(rq_mil_param(&c->data, r->m, r->consts, op, data, r->err));
    RQ_TRY(rq_mil_param(&c->scale, r->m, r->consts, op, "scale", r->err));
    return rq_mil_param(&c->zero, r->m, r->consts, op, zero, r->err);
}

/* Has it the form of a DequantizeLinear, but for the shape of its scales? */
static bool coded_is_linear(const coded *c)
{
    return c->data.data && c->scale.data && rq_dtype_is_integer(c->data.dtype) && c->data.shape.rank > 0 &&
           rq_tensor_count(&c->scale) > 0 &&
           (!c->zero.data || (c->zero.dtype == c->data.dtype && rq_shape_equal(&c->zero.shape, &c->scale.shape)));
}

static rq_status dequantize_linear(reader *r, const rq_mil_op *op, const coded *c, int64_t axis, int64_t block)
{
    const char *in[3] = { NULL, NULL, NULL };
    int id;
    RQ_TRY(rq_mil_reader_tensor(r, op, "quantized_data", &c->data, &in[0]));
    RQ_TRY(rq_mil_reader_tensor(r, op, "scale", &c->scale, &in[1]));
    if (c->zero.data)
        RQ_TRY(rq_mil_reader_tensor(r, op, "zero_point", &c->zero, &in[2]));
    RQ_TRY(rq_mil_reader_node(r, op, "DequantizeLinear", in, 3, NULL, &id));
    if (block)
        RQ_TRY(rq_edit_set_int(r->g, id, "block_size", block, r->err));
    return rq_edit_set_int(r->g, id, "axis", axis, r->err);
}

/* scale (data - zero_point), one number or one along an axis. */
static rq_status affine_dequantize(reader *r, const rq_mil_op *op)
{
    coded c = { 0 };
    int64_t axis = 0;
    rq_status st = coded_read(r, op, "quantized_data", "zero_point", &c);
    if (!st)
        st = rq_mil_reader_int(r, op, "axis", &axis);
    if (!st)
        st = coded_is_linear(&c) && c.scale.shape.rank <= 1 ? dequantize_linear(r, op, &c, axis, 0)
                                                            : plain_constant(r, op);
    coded_release(&c);
    return st;
}

/* Numbers per block, repeated so that all axes but `keep` have one number per element; *t is replaced. */
static rq_status repeat(reader *r, rq_tensor *t, const rq_shape *data, int keep)
{
    rq_tensor out;
    rq_shape shape = *data;
    shape.dim[keep] = t->shape.dim[keep];
    if (rq_tensor_create(&out, t->dtype, &shape, true))
        return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    const int64_t n = rq_shape_count(&shape);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, from = 0, stride = 1;
        for (int a = shape.rank - 1; a >= 0; a--) {
            from += rest % shape.dim[a] / (shape.dim[a] / t->shape.dim[a]) * stride;
            rest /= shape.dim[a];
            stride *= t->shape.dim[a];
        }
        if (rq_dtype_bits(t->dtype) < 8)
            rq_tensor_set(&out, i, rq_tensor_get(t, from));
        else if (rq_dtype_bits(t->dtype) == 8)
            out.u8[i] = t->u8[from];
        else if (rq_dtype_bits(t->dtype) == 16)
            out.u16[i] = t->u16[from];
        else
            out.u32[i] = t->u32[from];
    }
    rq_tensor_release(t);
    *t = out;
    return RQ_OK;
}

/* The scales as DequantizeLinear takes them: one; one per element of an axis; or blocks along one axis. */
static rq_status shape_scales(reader *r, coded *c, int *axis, int64_t *block)
{
    const rq_shape *data = &c->data.shape, per = c->scale.shape;
    int several = 0, blocked = -1;
    *axis = 0;
    *block = 0;
    for (int i = 0; i < data->rank; i++) {
        several += per.dim[i] > 1;
        if (per.dim[i] > 1)
            *axis = i;
        if (per.dim[i] > 1 && per.dim[i] < data->dim[i] &&
            (blocked < 0 || data->dim[i] / per.dim[i] > data->dim[blocked] / per.dim[blocked]))
            blocked = i;
    }
    if (several <= 1 && blocked < 0) {
        const rq_shape flat = { .rank = several, .dim = { per.dim[*axis] } };
        c->scale.shape = c->zero.shape = flat;
        return RQ_OK;
    }
    /* several axes, none of which has blocks of more than one element: one is as good as another */
    *axis = blocked < 0 ? *axis : blocked;
    *block = data->dim[*axis] / per.dim[*axis];
    RQ_TRY(repeat(r, &c->scale, data, *axis));
    return c->zero.data ? repeat(r, &c->zero, data, *axis) : RQ_OK;
}

static bool are_blocks(const rq_shape *data, const rq_shape *per)
{
    bool yes = data->rank == per->rank;
    for (int i = 0; i < data->rank && yes; i++)
        yes = per->dim[i] > 0 && data->dim[i] > 0 && data->dim[i] % per->dim[i] == 0;
    return yes;
}

/* scale (data - offset), one number per block. */
static rq_status blockwise_shift_scale(reader *r, const rq_mil_op *op)
{
    coded c = { 0 };
    int axis;
    int64_t block;
    rq_status st = coded_read(r, op, "data", "offset", &c);
    if (!st && !(coded_is_linear(&c) && are_blocks(&c.data.shape, &c.scale.shape))) {
        st = plain_constant(r, op);
    } else if (!st) {
        st = shape_scales(r, &c, &axis, &block);
        if (!st)
            st = dequantize_linear(r, op, &c, axis, block);
    }
    coded_release(&c);
    return st;
}

/* ---- activations ---- */

static rq_status set_axis(reader *r, const rq_mil_op *op, int id)
{
    int64_t axis = INT64_MIN;
    RQ_TRY(rq_mil_reader_int(r, op, "axis", &axis));
    return axis == INT64_MIN ? RQ_OK : rq_edit_set_int(r->g, id, "axis", axis, r->err);
}

/* Without a zero point it is 0 of the type that output_dtype names: ONNX's own default would be uint8. */
static rq_status quantize(reader *r, const rq_mil_op *op)
{
    const char *in[3], *text = rq_mil_reader_text(r, op, "output_dtype", NULL);
    const rq_mil_dtype *type = text ? rq_mil_dtype_of_name(text) : NULL;
    int id;
    RQ_TRY(rq_mil_rows_inputs(r, op, 3, (const char *const[]) { "input", "scale", "zero_point" }, in));
    if (!in[2]) {
        const rq_mil_value *scale = rq_mil_reader_const(r, op, "scale");
        rq_tensor zero;
        if (!type || (type->dtype != RQ_DTYPE_S8 && type->dtype != RQ_DTYPE_U8) || !scale || scale->type->rank > 1)
            return rq_fail(r->err, RQ_BAD_FILE, "'output_dtype' is neither int8 nor uint8, or 'scale' is computed");
        const rq_shape shape = { .rank = (int)scale->type->rank, .dim = { (int64_t)scale->n } };
        if (rq_tensor_create(&zero, type->dtype, &shape, true))
            return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
        const rq_status st = rq_mil_reader_tensor(r, op, "zero_point", &zero, &in[2]);
        rq_tensor_release(&zero);
        RQ_TRY(st);
    }
    RQ_TRY(rq_mil_reader_node(r, op, "QuantizeLinear", in, 3, NULL, &id));
    return set_axis(r, op, id);
}

static rq_status dequantize(reader *r, const rq_mil_op *op)
{
    const char *in[3];
    int id;
    RQ_TRY(rq_mil_rows_inputs(r, op, 3, (const char *const[]) { "input", "scale", "zero_point" }, in));
    RQ_TRY(rq_mil_reader_node(r, op, "DequantizeLinear", in, 3, NULL, &id));
    return set_axis(r, op, id);
}

static rq_status cast(reader *r, const rq_mil_op *op)
{
    const char *in[1], *text = rq_mil_reader_text(r, op, "dtype", "");
    const rq_mil_dtype *type = rq_mil_dtype_of_name(text);
    int id;
    if (!type || type->dtype == RQ_DTYPE_STRING)
        return rq_fail(r->err, RQ_BAD_FILE, "'dtype' is '%.40s', expected a type of numbers", text);
    RQ_TRY(rq_mil_rows_inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_node(r, op, "Cast", in, 1, NULL, &id));
    return rq_edit_set_int(r->g, id, "to", rq_onnx_dtype_code(type->dtype), r->err);
}

/* The second output, class to probability, is the tensor of probabilities here; the first, the label, follows from it and from
 * the classes, which stay in the description. */
static rq_status classify(reader *r, const rq_mil_op *op)
{
    const char *in[1];
    if (op->n_outputs != 2)
        return rq_fail(r->err, RQ_BAD_FILE, "a classifier has %d outputs, expected 2", op->n_outputs);
    RQ_TRY(rq_mil_rows_inputs(r, op, 1, (const char *const[]) { "probabilities" }, in));
    return rq_mil_reader_node(r, op, "Identity", in, 1, op->outputs[1].name, NULL);
}

const rq_mil_row rq_mil_rows_quant[] = {
    { "cast", cast, "Cast", NULL },
    { "classify", classify, "Identity", NULL },
    { "constexpr_affine_dequantize", affine_dequantize, "DequantizeLinear; a constant", NULL },
    { "constexpr_blockwise_shift_scale", blockwise_shift_scale, "DequantizeLinear; a constant", NULL },
    { "constexpr_cast", plain_constant, "a constant", NULL },
    { "constexpr_lut_to_dense", plain_constant, "a constant", NULL },
    { "constexpr_lut_to_sparse", plain_constant, "a constant", NULL },
    { "constexpr_sparse_blockwise_shift_scale", plain_constant, "a constant", NULL },
    { "constexpr_sparse_to_dense", plain_constant, "a constant", NULL },
    { "dequantize", dequantize, "DequantizeLinear", NULL },
    { "quantize", quantize, "QuantizeLinear", NULL },
    { NULL, NULL, NULL, NULL },
};
