/* formats/mil_constexpr.c — see mil_constexpr.h. Every operator makes a dense tensor of its parameters, which are constants in
 * turn. Parameters that hold a number per block of the weights are walked along with them by a grid: for each axis the size
 * of a block and the step between two blocks. */
#include "formats/mil_constexpr_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/convert.h"

enum { MAX_DEPTH = 8 };

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory");
}

/* ---- names ---- */

bool rq_mil_is_constexpr(const rq_mil_op *op)
{
    return !strncmp(op->type, "constexpr_", 10);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rq_mil_constant *)a)->name, ((const rq_mil_constant *)b)->name);
}

static int against_name(const void *key, const void *b)
{
    return strcmp(key, ((const rq_mil_constant *)b)->name);
}

rq_status rq_mil_constants_of(rq_mil_constants *out, const rq_mil_block *b, const rq_mil_constants *around, rq_arena *a,
                              rq_err *err)
{
    size_t n = 0;
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(b->ops[i]->type, "const") || rq_mil_is_constexpr(b->ops[i]))
            n += (size_t)b->ops[i]->n_outputs;
    *out = (rq_mil_constants) { .around = around, .at = rq_arena_alloc(a, n ? n : 1, sizeof *out->at) };
    if (!out->at)
        return no_memory(err);
    for (int i = 0; i < b->n_ops; i++) {
        const rq_mil_op *op = b->ops[i];
        for (int k = 0; k < op->n_outputs && (!strcmp(op->type, "const") || rq_mil_is_constexpr(op)); k++)
            out->at[out->n++] = (rq_mil_constant) { .name = op->outputs[k].name, .op = op, .output = k };
    }
    qsort(out->at, (size_t)out->n, sizeof *out->at, by_name);
    return RQ_OK;
}

const rq_mil_constant *rq_mil_constants_find(const rq_mil_constants *c, const char *name)
{
    const rq_mil_constant *found = NULL;
    for (; c && !found; c = c->around)
        found = c->n ? bsearch(name, c->at, (size_t)c->n, sizeof *c->at, against_name) : NULL;
    return found;
}

/* ---- parameters ---- */

static rq_status evaluate(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out);

rq_status rq_constexpr_param(const rq_constexpr_scope *s, const rq_mil_op *op, const char *name, rq_tensor *out)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, name);
    const rq_mil_value *v = arg ? arg->n == 1 ? arg->binding[0].value : NULL : rq_mil_op_attr(op, name);
    *out = (rq_tensor) { 0 };
    if (arg && arg->n == 1 && arg->binding[0].name) {
        const rq_mil_constant *c = rq_mil_constants_find(s->c, arg->binding[0].name);
        if (c && rq_mil_is_constexpr(c->op))
            return evaluate(s, c->op, c->output, out);
        v = c ? rq_mil_op_attr(c->op, "val") : NULL;
    }
    return v ? rq_coreml_tensor(s->m, out, v, s->err) : RQ_OK;
}

rq_status rq_constexpr_needed(const rq_constexpr_scope *s, const rq_mil_op *op, const char *name, rq_tensor *out)
{
    RQ_TRY(rq_constexpr_param(s, op, name, out));
    return out->data ? RQ_OK : rq_fail(s->err, RQ_BAD_FILE, "'%s' is missing, or no constant", name);
}

rq_status rq_mil_param(rq_tensor *out, const rq_coreml *m, const rq_mil_constants *c, const rq_mil_op *op,
                       const char *name, rq_err *err)
{
    const rq_constexpr_scope s = { .m = m, .c = c, .err = err };
    return rq_constexpr_param(&s, op, name, out);
}

/* Integers as bytes, one each; *t is replaced. */
rq_status rq_constexpr_bytes(const rq_constexpr_scope *s, const char *name, rq_tensor *t)
{
    const bool narrow = t->dtype == RQ_DTYPE_U4 || t->dtype == RQ_DTYPE_S4 || t->dtype == RQ_DTYPE_U2;
    rq_tensor bytes;
    if (t->dtype == RQ_DTYPE_U8 || t->dtype == RQ_DTYPE_S8 || t->dtype == RQ_DTYPE_BOOL)
        return RQ_OK;
    if (!narrow)
        return rq_fail(s->err, RQ_BAD_FILE, "'%s' is %s, expected integers of at most 8 bits", name,
                       rq_dtype_name(t->dtype));
    if (rq_tensor_create(&bytes, t->dtype == RQ_DTYPE_S4 ? RQ_DTYPE_S8 : RQ_DTYPE_U8, &t->shape, false))
        return no_memory(s->err);
    rq_mil_dtype_unpack(rq_mil_dtype_of(t->dtype), bytes.u8, t->u8, (uint64_t)rq_tensor_count(t));
    rq_tensor_release(t);
    *t = bytes;
    return RQ_OK;
}

bool rq_constexpr_is_real(const rq_tensor *t)
{
    return t->dtype == RQ_DTYPE_F32 || t->dtype == RQ_DTYPE_F16;
}

/* Reals or integers as floats; *t is replaced. */
static rq_status to_floats(const rq_constexpr_scope *s, const char *name, rq_tensor *t)
{
    rq_tensor f;
    if (!t->data || t->dtype == RQ_DTYPE_F32)
        return RQ_OK;
    if (!rq_constexpr_is_real(t))
        RQ_TRY(rq_constexpr_bytes(s, name, t));
    if (rq_tensor_create(&f, RQ_DTYPE_F32, &t->shape, false))
        return no_memory(s->err);
    const int64_t n = rq_tensor_count(t);
    for (int64_t i = 0; i < n; i++)
        f.f32[i] = t->dtype == RQ_DTYPE_F16  ? rq_convert_f16_to_f32(t->u16[i])
                   : t->dtype == RQ_DTYPE_S8 ? (float)t->s8[i]
                                             : (float)t->u8[i];
    rq_tensor_release(t);
    *t = f;
    return RQ_OK;
}

rq_status rq_constexpr_create(const rq_constexpr_scope *s, rq_tensor *out, rq_dtype d, const rq_shape *shape)
{
    if (rq_shape_check(shape))
        return rq_fail(s->err, RQ_BAD_FILE, "what the operation makes has too many elements");
    return rq_tensor_create(out, d, shape, true) ? no_memory(s->err) : RQ_OK;
}

/* ---- grids ---- */

/* per: how many blocks there are along each axis, the first `shape->rank` sizes of it; unit: numbers per block. */
rq_status rq_constexpr_grid(const rq_constexpr_scope *s, rq_constexpr_walk *g, const rq_shape *shape,
                            const rq_shape *per, int64_t unit)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    *g = (rq_constexpr_walk) { .shape = *shape };
    bool fits = shape->rank >= 1 && per->rank >= shape->rank;
    for (int i = shape->rank - 1; i >= 0 && fits; i--) {
        fits = per->dim[i] > 0 && shape->dim[i] % per->dim[i] == 0;
        g->block[i] = fits ? shape->dim[i] / per->dim[i] : 1;
        g->block[i] += !g->block[i]; /* an axis of size 0 */
        g->stride[i] = unit;
        unit *= fits ? per->dim[i] : 1;
    }
    return fits ? RQ_OK
                : rq_fail(s->err, RQ_BAD_FILE, "weights %s are not divided by blocks %s",
                          rq_shape_text(shape, a, sizeof a), rq_shape_text(per, b, sizeof b));
}

/* Where the numbers of this row's first block are. */
int64_t rq_constexpr_row(const rq_constexpr_walk *g)
{
    int64_t base = 0;
    for (int i = 0; i < g->shape.rank - 1; i++)
        base += g->at[i] / g->block[i] * g->stride[i];
    return base;
}

void rq_constexpr_next(rq_constexpr_walk *g)
{
    for (int i = g->shape.rank - 2; i >= 0; i--) {
        if (++g->at[i] < g->shape.dim[i])
            return;
        g->at[i] = 0;
    }
}

/* ---- scale and shift ---- */

/* x to the scale's type and back. */
static float rounded(float x, bool half)
{
    return half ? rq_convert_f16_to_f32(rq_convert_f32_to_f16(x)) : x;
}

static void shift_scale_row(float *row, int64_t n, const float *scale, const float *offset, int64_t block, bool half)
{
    for (int64_t j = 0; j < n; j++) {
        const float shifted = offset ? rounded(row[j] - offset[j / block], half) : row[j];
        row[j] = scale[j / block] * shifted;
    }
}

/* data becomes scale * (data - offset) in the scale's type; offset may be empty. Shapes of scale and offset are blocks. */
rq_status rq_constexpr_shift_scale(const rq_constexpr_scope *s, rq_tensor *data, rq_tensor *scale, rq_tensor *offset,
                                   bool stepwise)
{
    const bool half = scale->dtype == RQ_DTYPE_F16;
    rq_constexpr_walk g;
    if (!rq_constexpr_is_real(scale) || (offset->data && !rq_shape_equal(&offset->shape, &scale->shape)))
        return rq_fail(s->err, RQ_BAD_FILE, "the scale is %s, or has another shape than the offset",
                       rq_dtype_name(scale->dtype));
    RQ_TRY(rq_constexpr_grid(s, &g, &data->shape, &scale->shape, 1));
    if (scale->shape.rank != data->shape.rank)
        return rq_fail(s->err, RQ_BAD_FILE, "the scale has %d axes, the data %d", scale->shape.rank, data->shape.rank);
    RQ_TRY(to_floats(s, "scale", scale));
    RQ_TRY(to_floats(s, "offset", offset));
    const bool view = data->dtype == RQ_DTYPE_F32;
    RQ_TRY(to_floats(s, "data", data));
    if (view) { /* may be the file's */
        rq_tensor own;
        if (rq_tensor_copy(&own, data))
            return no_memory(s->err);
        rq_tensor_release(data);
        *data = own;
    }
    const int last = data->shape.rank - 1;
    const int64_t n = data->shape.dim[last], rows = n ? rq_tensor_count(data) / n : 0;
    for (int64_t r = 0; r < rows; r++, rq_constexpr_next(&g)) {
        const int64_t at = rq_constexpr_row(&g);
        shift_scale_row(data->f32 + r * n, n, scale->f32 + at, offset->data ? offset->f32 + at : NULL, g.block[last],
                        half && stepwise);
    }
    rq_tensor y;
    if (!half)
        return RQ_OK;
    RQ_TRY(rq_constexpr_create(s, &y, RQ_DTYPE_F16, &data->shape));
    for (int64_t i = 0; i < rows * n; i++)
        y.u16[i] = rq_convert_f32_to_f16(data->f32[i]);
    rq_tensor_release(data);
    *data = y;
    return RQ_OK;
}

static rq_status blockwise(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out)
{
    rq_tensor scale = { 0 }, offset = { 0 };
    rq_status st = rq_constexpr_needed(s, op, "data", out);
    if (!st)
        st = rq_constexpr_needed(s, op, "scale", &scale);
    if (!st)
        st = rq_constexpr_param(s, op, "offset", &offset);
    if (!st)
        st = rq_constexpr_shift_scale(s, out, &scale, &offset, true);
    rq_tensor_release(&scale);
    rq_tensor_release(&offset);
    return st;
}

/* One number, or one per channel, as blocks along all axes. */
static rq_status along_axis(const rq_constexpr_scope *s, rq_tensor *t, const rq_shape *data, int64_t axis)
{
    const int64_t n = rq_tensor_count(t);
    axis += axis < 0 ? data->rank : 0;
    if (t->shape.rank > 1 || axis < 0 || axis >= data->rank || (t->shape.rank == 1 && n != 1 && n != data->dim[axis]))
        return rq_fail(s->err, RQ_BAD_FILE, "scale or zero point are neither one number nor one per channel");
    t->shape.rank = data->rank;
    for (int i = 0; i < data->rank; i++)
        t->shape.dim[i] = i == axis ? n : 1;
    return RQ_OK;
}

static rq_status affine(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out)
{
    rq_tensor scale = { 0 }, zero = { 0 }, axis = { 0 };
    rq_status st = rq_constexpr_needed(s, op, "quantized_data", out);
    if (!st)
        st = rq_constexpr_needed(s, op, "scale", &scale);
    if (!st)
        st = rq_constexpr_param(s, op, "zero_point", &zero);
    if (!st)
        st = rq_constexpr_param(s, op, "axis", &axis);
    const int64_t k = axis.data && rq_tensor_count(&axis) == 1 ? rq_tensor_get_int(&axis, 0) : 0;
    if (!st)
        st = along_axis(s, &scale, &out->shape, k);
    if (!st && zero.data)
        st = along_axis(s, &zero, &out->shape, k);
    if (!st)
        st = rq_constexpr_shift_scale(s, out, &scale, &zero, false);
    rq_tensor_release(&scale);
    rq_tensor_release(&zero);
    rq_tensor_release(&axis);
    return st;
}

/* ---- all of them ---- */

static rq_status cast(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out)
{
    RQ_TRY(rq_constexpr_needed(s, op, "source_val", out));
    if (!rq_constexpr_is_real(out))
        return rq_fail(s->err, RQ_UNSUPPORTED, "'source_val' is %s, expected fp16", rq_dtype_name(out->dtype));
    return to_floats(s, "source_val", out);
}

static rq_status dispatch(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out)
{
    const char *type = op->type;
    if (!strcmp(type, "constexpr_affine_dequantize"))
        return affine(s, op, out);
    if (!strcmp(type, "constexpr_blockwise_shift_scale"))
        return blockwise(s, op, out);
    if (!strcmp(type, "constexpr_lut_to_dense"))
        return rq_constexpr_lut_to_dense(s, op, out);
    if (!strcmp(type, "constexpr_sparse_to_dense"))
        return rq_constexpr_sparse_to_dense(s, op, out);
    if (!strcmp(type, "constexpr_lut_to_sparse"))
        return rq_constexpr_lut_to_sparse(s, op, output, out);
    if (!strcmp(type, "constexpr_sparse_blockwise_shift_scale"))
        return rq_constexpr_sparse_blockwise(s, op, output, out);
    if (!strcmp(type, "constexpr_cast"))
        return cast(s, op, out);
    return rq_fail(s->err, RQ_UNSUPPORTED, "the operator is not known");
}

/* Is the tensor what the program says of the output? */
static rq_status check_type(const rq_constexpr_scope *s, const rq_mil_type *want, const rq_tensor *t)
{
    char text[200], shape[RQ_SHAPE_TEXT];
    bool same = want->kind == RQ_MIL_TENSOR && want->rank == t->shape.rank && want->dtype->dtype == t->dtype;
    for (int i = 0; i < t->shape.rank && same; i++)
        same = want->dim[i].known && want->dim[i].size == (uint64_t)t->shape.dim[i];
    return same ? RQ_OK
                : rq_fail(s->err, RQ_BAD_FILE, "it makes %s%s, the program says %s", rq_dtype_name(t->dtype),
                          rq_shape_text(&t->shape, shape, sizeof shape), rq_mil_type_text(want, text, sizeof text));
}

static rq_status evaluate(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out)
{
    rq_constexpr_scope deeper = *s;
    rq_status st;
    *out = (rq_tensor) { 0 };
    if (++deeper.depth > MAX_DEPTH)
        st = rq_fail(s->err, RQ_UNSUPPORTED, "more than %d operations on constants behind each other", MAX_DEPTH);
    else
        st = dispatch(&deeper, op, output, out);
    if (!st)
        st = check_type(s, op->outputs[output].type, out);
    if (!st)
        return RQ_OK;
    rq_tensor_release(out);
    return s->depth ? st : rq_fail_in(s->err, st, "operation '%.100s' (%.60s)", op->outputs[output].name, op->type);
}

rq_status rq_mil_constexpr(rq_tensor *out, const rq_coreml *m, const rq_mil_constants *c, const rq_mil_op *op,
                           int output, rq_err *err)
{
    const rq_constexpr_scope s = { .m = m, .c = c, .err = err };
    return evaluate(&s, op, output, out);
}
