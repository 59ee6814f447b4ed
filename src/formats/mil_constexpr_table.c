/* formats/mil_constexpr_table.c — constants that look numbers up in a table, or spread them out along a mask. */
#include <inttypes.h>
#include <string.h>

#include "formats/mil_constexpr_priv.h"

/* ---- tables ---- */

/* The elements of a program before iOS 18, packed into bytes, for a tensor of shape `shape`; *t is replaced. */
static rq_status spread_bits(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *t, const char *bits)
{
    rq_tensor shape, out;
    const rq_mil_dtype *packed = rq_mil_dtype_of_name(bits);
    RQ_TRY(rq_constexpr_needed(s, op, "shape", &shape));
    rq_shape dims = { .rank = (int)rq_tensor_count(&shape) };
    const bool fits =
        shape.shape.rank == 1 && rq_tensor_count(&shape) <= RQ_MAX_RANK && rq_dtype_is_integer(shape.dtype);
    for (int i = 0; i < dims.rank && fits; i++)
        dims.dim[i] = rq_tensor_get_int(&shape, i);
    rq_tensor_release(&shape);
    if (!fits || !packed || rq_shape_check(&dims))
        return rq_fail(s->err, RQ_BAD_FILE, "'shape' is no list of sizes");
    const uint64_t n = (uint64_t)rq_shape_count(&dims);
    if (t->dtype != RQ_DTYPE_U8 || t->bytes < rq_mil_dtype_bytes(packed, n))
        return rq_fail(s->err, RQ_BAD_FILE, "%" PRIu64 " elements of %s do not fit %zu bytes", n, bits, t->bytes);
    RQ_TRY(rq_constexpr_create(s, &out, RQ_DTYPE_U8, &dims));
    if (packed->bits == 8)
        memcpy(out.u8, t->u8, (size_t)n);
    else
        rq_mil_dtype_unpack(packed, out.u8, t->u8, n);
    rq_tensor_release(t);
    *t = out;
    return RQ_OK;
}

/* index[.. i ..] to table[block of i][index][0..v): v elements behind each other along axis `axis`. */
static rq_status look_up(const rq_constexpr_scope *s, const rq_tensor *index, const rq_tensor *table, int64_t axis,
                         rq_tensor *out)
{
    const int rank = index->shape.rank, last = rank - 1;
    rq_constexpr_walk g;
    if (table->shape.rank != rank + 2 || rq_dtype_bits(table->dtype) < 8)
        return rq_fail(s->err, RQ_BAD_FILE, "the table has %d axes of %s, expected %d of at least 8 bits",
                       table->shape.rank, rq_dtype_name(table->dtype), rank + 2);
    const int64_t entries = table->shape.dim[rank], v = table->shape.dim[rank + 1];
    const size_t size = (size_t)rq_dtype_bits(table->dtype) / 8;
    RQ_TRY(rq_constexpr_grid(s, &g, &index->shape, &table->shape, entries * v));
    axis += axis < 0 ? rank : 0;
    if (v == 1)
        axis = last;
    if (axis < 0 || axis > last || v < 1)
        return rq_fail(s->err, RQ_BAD_FILE, "'vector_axis' is not an axis of the indices, or vectors are empty");
    rq_shape shape = index->shape;
    if (shape.dim[axis] > INT64_MAX / v)
        return rq_fail(s->err, RQ_BAD_FILE, "what the operation makes has too many elements");
    shape.dim[axis] *= v;
    RQ_TRY(rq_constexpr_create(s, out, table->dtype, &shape));
    const int64_t n = index->shape.dim[last], rows = n ? rq_tensor_count(index) / n : 0;
    /* element (outer, i along axis, j of the vector, inner): inner counts what is behind the axis */
    const int64_t inner = rq_shape_span(&index->shape, (int)axis + 1, rank);
    for (int64_t r = 0; r < rows; r++, rq_constexpr_next(&g)) {
        const int64_t base = rq_constexpr_row(&g);
        for (int64_t k = 0; k < n; k++) {
            const int64_t flat = r * n + k, code = index->u8[flat];
            if (code >= entries)
                return rq_fail(s->err, RQ_BAD_FILE, "index %" PRId64 " is past the %" PRId64 " entries of the table",
                               code, entries);
            const uint8_t *from = table->u8 + (size_t)(base + k / g.block[last] * g.stride[last] + code * v) * size;
            for (int64_t j = 0; j < v; j++) {
                const int64_t to = (flat / inner * v + j) * inner + flat % inner;
                memcpy(out->u8 + (size_t)to * size, from + (size_t)j * size, size);
            }
        }
    }
    return RQ_OK;
}

static rq_status axis_of(const rq_constexpr_scope *s, const rq_mil_op *op, int64_t *axis, bool *given)
{
    rq_tensor t;
    RQ_TRY(rq_constexpr_param(s, op, "vector_axis", &t));
    *given = t.data != NULL;
    const bool one = !t.data || (rq_tensor_count(&t) == 1 && rq_dtype_is_integer(t.dtype));
    *axis = *given && one ? rq_tensor_get_int(&t, 0) : -1;
    rq_tensor_release(&t);
    return one ? RQ_OK : rq_fail(s->err, RQ_BAD_FILE, "'vector_axis' is no whole number");
}

/* A flat table of the form before iOS 18: bits per index, and the table as one for the whole tensor. */
static rq_status flat_table(const rq_constexpr_scope *s, rq_tensor *lut, int rank, char bits[8])
{
    static const char *const names[] = { "uint1", "uint2", "uint3", "uint4", NULL, "uint6", NULL, "uint8" };
    const int64_t n = rq_tensor_count(lut);
    for (int i = 0; i < 8; i++)
        if (names[i] && n == 1 << (i + 1) && lut->shape.rank == 1 && rank <= RQ_MAX_RANK - 2) {
            memcpy(bits, names[i], 6);
            lut->shape = (rq_shape) { .rank = rank + 2 };
            for (int k = 0; k < rank + 2; k++)
                lut->shape.dim[k] = k == rank ? n : 1;
            return RQ_OK;
        }
    return rq_fail(s->err, RQ_BAD_FILE, "a table of %" PRId64 " entries, expected 2, 4, 8, 16, 64 or 256", n);
}

rq_status rq_constexpr_lut_to_dense(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out)
{
    rq_tensor index = { 0 }, lut = { 0 }, shape = { 0 };
    int64_t axis;
    bool given;
    rq_status st = rq_constexpr_needed(s, op, "indices", &index);
    if (!st)
        st = rq_constexpr_needed(s, op, "lut", &lut);
    if (!st)
        st = rq_constexpr_param(s, op, "shape", &shape);
    if (!st && shape.data) {
        char bits[8] = "";
        st = flat_table(s, &lut, (int)(rq_tensor_count(&shape) & 63), bits);
        if (!st)
            st = spread_bits(s, op, &index, bits);
    } else if (!st) {
        st = rq_constexpr_bytes(s, "indices", &index);
    }
    if (!st)
        st = axis_of(s, op, &axis, &given);
    if (!st)
        st = look_up(s, &index, &lut, axis, out);
    rq_tensor_release(&index);
    rq_tensor_release(&lut);
    rq_tensor_release(&shape);
    return st;
}

/* ---- masks ---- */

/* Numbers where the mask has ones, in order; zeros elsewhere. */
static rq_status fill_mask(const rq_constexpr_scope *s, const rq_tensor *data, const rq_tensor *mask, rq_tensor *out)
{
    const int64_t n = rq_tensor_count(mask), have = rq_tensor_count(data);
    const int bits = rq_dtype_bits(data->dtype);
    int64_t used = 0;
    for (int64_t i = 0; i < n; i++)
        used += mask->u8[i] != 0;
    if (used != have || data->shape.rank != 1 || !bits)
        return rq_fail(s->err, RQ_BAD_FILE, "the mask has %" PRId64 " ones, there are %" PRId64 " numbers", used, have);
    RQ_TRY(rq_constexpr_create(s, out, data->dtype, &mask->shape));
    used = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!mask->u8[i])
            continue;
        if (bits < 8)
            rq_tensor_set(out, i, rq_tensor_get(data, used));
        else
            memcpy(out->u8 + (size_t)i * (size_t)(bits / 8), data->u8 + (size_t)used * (size_t)(bits / 8),
                   (size_t)(bits / 8));
        used++;
    }
    return RQ_OK;
}

/* And back: what stands where the mask has ones. */
static rq_status take_mask(const rq_constexpr_scope *s, const rq_tensor *dense, const rq_tensor *mask, rq_tensor *out)
{
    const int64_t n = rq_tensor_count(mask);
    const size_t size = (size_t)rq_dtype_bits(dense->dtype) / 8; /* at least 8 bits: tables and scaled numbers are */
    rq_shape flat = { .rank = 1 };
    for (int64_t i = 0; i < n; i++)
        flat.dim[0] += mask->u8[i] != 0;
    RQ_TRY(rq_constexpr_create(s, out, dense->dtype, &flat));
    for (int64_t i = 0, k = 0; i < n; i++)
        if (mask->u8[i])
            memcpy(out->u8 + (size_t)k++ * size, dense->u8 + (size_t)i * size, size);
    return RQ_OK;
}

static rq_status read_mask(const rq_constexpr_scope *s, const rq_mil_op *op, const char *name, rq_tensor *mask)
{
    RQ_TRY(rq_constexpr_needed(s, op, name, mask));
    return rq_constexpr_bytes(s, name, mask);
}

rq_status rq_constexpr_sparse_to_dense(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out)
{
    rq_tensor data = { 0 }, mask = { 0 };
    rq_status st = rq_constexpr_needed(s, op, "nonzero_data", &data);
    if (!st)
        st = read_mask(s, op, "mask", &mask);
    if (!st && (rq_mil_op_attr(op, "shape") || rq_mil_op_arg(op, "shape")))
        st = spread_bits(s, op, &mask, "uint1");
    if (!st)
        st = fill_mask(s, &data, &mask, out);
    rq_tensor_release(&data);
    rq_tensor_release(&mask);
    return st;
}

/* The mask with every element v times along the axis. */
static rq_status widen_mask(const rq_constexpr_scope *s, rq_tensor *mask, int64_t v, int64_t axis)
{
    rq_tensor table, wide = { 0 };
    rq_shape shape = { .rank = mask->shape.rank + 2 };
    for (int i = 0; i < shape.rank - 2 && shape.rank <= RQ_MAX_RANK; i++)
        shape.dim[i] = 1;
    if (shape.rank > RQ_MAX_RANK || v > UINT16_MAX)
        return rq_fail(s->err, RQ_UNSUPPORTED, "a mask of %d axes for vectors of %" PRId64, mask->shape.rank, v);
    shape.dim[shape.rank - 2] = 2;
    shape.dim[shape.rank - 1] = v;
    RQ_TRY(rq_constexpr_create(s, &table, RQ_DTYPE_U8, &shape));
    memset(table.u8 + v, 1, (size_t)v);
    const rq_status st = look_up(s, mask, &table, axis, &wide);
    rq_tensor_release(&table);
    if (st) {
        rq_tensor_release(&wide);
        return st;
    }
    rq_tensor_release(mask);
    *mask = wide;
    return RQ_OK;
}

rq_status rq_constexpr_lut_to_sparse(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out)
{
    rq_tensor data = { 0 }, mask = { 0 }, lut = { 0 }, index = { 0 }, dense = { 0 };
    int64_t axis = -1;
    bool given = false;
    rq_status st = rq_constexpr_needed(s, op, "indices_nonzero_data", &data);
    if (!st)
        st = rq_constexpr_bytes(s, "indices_nonzero_data", &data);
    if (!st)
        st = read_mask(s, op, "indices_mask", &mask);
    if (!st)
        st = rq_constexpr_needed(s, op, "lut", &lut);
    if (!st)
        st = axis_of(s, op, &axis, &given);
    if (!st)
        st = fill_mask(s, &data, &mask, &index);
    if (!st)
        st = look_up(s, &index, &lut, axis, &dense);
    const int64_t v = !st ? lut.shape.dim[lut.shape.rank - 1] : 1;
    if (!st && v > 1)
        st = widen_mask(s, &mask, v, axis);
    if (!st && output == 1)
        st = take_mask(s, &dense, &mask, out);
    else if (!st)
        rq_tensor_share(out, &mask);
    rq_tensor_release(&data);
    rq_tensor_release(&mask);
    rq_tensor_release(&lut);
    rq_tensor_release(&index);
    rq_tensor_release(&dense);
    return st;
}

rq_status rq_constexpr_sparse_blockwise(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out)
{
    rq_tensor data = { 0 }, mask = { 0 }, scale = { 0 }, offset = { 0 }, dense = { 0 };
    rq_status st = read_mask(s, op, "data_mask", &mask);
    if (!st && output == 0) {
        rq_tensor_share(out, &mask);
        goto done;
    }
    if (!st)
        st = rq_constexpr_needed(s, op, "nonzero_data", &data);
    if (!st && !rq_constexpr_is_real(&data))
        st = rq_constexpr_bytes(s, "nonzero_data", &data);
    if (!st)
        st = rq_constexpr_needed(s, op, "scale", &scale);
    if (!st)
        st = rq_constexpr_param(s, op, "offset", &offset);
    if (!st)
        st = fill_mask(s, &data, &mask, &dense);
    if (!st)
        st = rq_constexpr_shift_scale(s, &dense, &scale, &offset, true);
    if (!st)
        st = take_mask(s, &dense, &mask, out);
done:
    rq_tensor_release(&data);
    rq_tensor_release(&mask);
    rq_tensor_release(&scale);
    rq_tensor_release(&offset);
    rq_tensor_release(&dense);
    return st;
}
