/* formats/onnx_tensor.c — TensorProto and SparseTensorProto to tensors and back.
 *
 * One table says for each element type its number in ONNX and which of the typed fields may hold it. A tensor has
 * exactly one storage, of exactly the size its dims ask for: what ONNX Runtime demands, and stricter than the ONNX
 * checker, which lets surplus bytes pass. Both byte orders meet here: ours is little-endian, as raw_data is. */
#include "formats/onnx.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is read in place");

typedef enum storage { NO_FIELD, FLOATS, DOUBLES, INT32S, INT64S, UINT64S, STRINGS, RAW } storage;

static const char *const storage_names[] = { "no data",    "float_data",  "double_data", "int32_data",
                                             "int64_data", "uint64_data", "string_data", "raw_data" };

typedef struct element {
    rq_dtype dtype;
    storage field; /* the typed field that may hold it */
    int per;       /* entries of the field per element (complex: 2) */
    int ir;        /* first IR version with the type */
} element;

/* Indexed by ONNX's number (spec: TensorProto.DataType). */
static const element elements[] = {
    [1] = { RQ_DTYPE_F32, FLOATS, 1, 1 },       [2] = { RQ_DTYPE_U8, INT32S, 1, 1 },
    [3] = { RQ_DTYPE_S8, INT32S, 1, 1 },        [4] = { RQ_DTYPE_U16, INT32S, 1, 1 },
    [5] = { RQ_DTYPE_S16, INT32S, 1, 1 },       [6] = { RQ_DTYPE_S32, INT32S, 1, 1 },
    [7] = { RQ_DTYPE_S64, INT64S, 1, 1 },       [8] = { RQ_DTYPE_STRING, STRINGS, 1, 1 },
    [9] = { RQ_DTYPE_BOOL, INT32S, 1, 1 },      [10] = { RQ_DTYPE_F16, INT32S, 1, 1 },
    [11] = { RQ_DTYPE_F64, DOUBLES, 1, 1 },     [12] = { RQ_DTYPE_U32, UINT64S, 1, 1 },
    [13] = { RQ_DTYPE_U64, UINT64S, 1, 1 },     [14] = { RQ_DTYPE_C64, FLOATS, 2, 1 },
    [15] = { RQ_DTYPE_C128, DOUBLES, 2, 1 },    [16] = { RQ_DTYPE_BF16, INT32S, 1, 4 },
    [17] = { RQ_DTYPE_F8E4M3FN, INT32S, 1, 9 }, [18] = { RQ_DTYPE_F8E4M3FNUZ, INT32S, 1, 9 },
    [19] = { RQ_DTYPE_F8E5M2, INT32S, 1, 9 },   [20] = { RQ_DTYPE_F8E5M2FNUZ, INT32S, 1, 9 },
    [21] = { RQ_DTYPE_U4, INT32S, 1, 10 },      [22] = { RQ_DTYPE_S4, INT32S, 1, 10 },
    [23] = { RQ_DTYPE_F4E2M1, INT32S, 1, 11 },  [24] = { RQ_DTYPE_F8E8M0, INT32S, 1, 12 },
    [25] = { RQ_DTYPE_U2, INT32S, 1, 13 },      [26] = { RQ_DTYPE_S2, INT32S, 1, 13 },
};
enum { N_ELEMENTS = sizeof elements / sizeof elements[0] };

rq_dtype rq_onnx_dtype(int code)
{
    return code > 0 && code < N_ELEMENTS ? elements[code].dtype : RQ_DTYPE_NONE;
}

int rq_onnx_dtype_code(rq_dtype d)
{
    for (int i = 1; i < N_ELEMENTS; i++)
        if (elements[i].dtype == d)
            return i;
    return 0;
}

int rq_onnx_dtype_ir(rq_dtype d)
{
    return elements[rq_onnx_dtype_code(d)].ir;
}

uint64_t rq_onnx_tensor_hash(const rq_tensor *t)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < t->bytes; i++)
        h = (h ^ t->u8[i]) * 1099511628211u;
    return h;
}

rq_status rq_onnx_string(const char **out, rq_graph *g, const ProtobufCBinaryData *b, const char *what, rq_err *err)
{
    if (b->len && memchr(b->data, 0, b->len))
        return rq_fail(err, RQ_BAD_FILE, "%s '%.*s' has a zero byte inside", what, (int)strnlen((char *)b->data, 100),
                       (char *)b->data);
    *out = rq_graph_strn(g, b->len ? (char *)b->data : "", b->len);
    return *out ? RQ_OK : RQ_NO_MEMORY;
}

static rq_status read_shape(rq_shape *s, const int64_t *dims, size_t n, rq_err *err)
{
    if (n > RQ_MAX_RANK)
        return rq_fail(err, RQ_UNSUPPORTED, "has %zu axes; at most %d are supported", n, RQ_MAX_RANK);
    *s = (rq_shape) { .rank = (int)n };
    for (size_t i = 0; i < n; i++) {
        s->dim[i] = dims[i];
        if (dims[i] < 0)
            return rq_fail(err, RQ_BAD_FILE, "has a negative size, %lld, on axis %zu", (long long)dims[i], i);
    }
    char text[RQ_SHAPE_TEXT];
    if (rq_shape_check(s))
        return rq_fail(err, RQ_BAD_FILE, "has a shape of too many elements, %s", rq_shape_text(s, text, sizeof text));
    return RQ_OK;
}

/* The one storage in use. */
static rq_status find_storage(storage *out, size_t *entries, const Onnx__TensorProto *t, rq_err *err)
{
    const size_t n[] = { [FLOATS] = t->n_float_data,
                         [DOUBLES] = t->n_double_data,
                         [INT32S] = t->n_int32_data,
                         [INT64S] = t->n_int64_data,
                         [UINT64S] = t->n_uint64_data,
                         [STRINGS] = t->n_string_data,
                         [RAW] = t->has_raw_data ? t->raw_data.len : 0 };
    *out = t->has_raw_data ? RAW : NO_FIELD;
    *entries = 0;
    for (int i = FLOATS; i <= RAW; i++) {
        if (!n[i])
            continue;
        if (*entries)
            return rq_fail(err, RQ_BAD_FILE, "holds its data twice, in %s and in %s", storage_names[*out],
                           storage_names[i]);
        *out = (storage)i;
        *entries = n[i];
    }
    return RQ_OK;
}

static void free_block(void *data, void *arg)
{
    (void)arg;
    rq_mem_free(data);
}

static rq_status read_raw(rq_tensor *out, rq_dtype d, const rq_shape *shape, const ProtobufCBinaryData *raw,
                          rq_onnx_source *src, rq_err *err)
{
    const size_t want = rq_shape_bytes(shape, d);
    char text[RQ_SHAPE_TEXT];
    if (raw->len != want)
        return rq_fail(err, RQ_BAD_FILE, "has %zu bytes of raw_data; %s %s needs %zu", raw->len, rq_dtype_name(d),
                       rq_shape_text(shape, text, sizeof text), want);
    if (rq_protobuf_mem_take(src->mem, raw->data)) { /* large: keep the parser's block, which is aligned */
        rq_status st = rq_tensor_wrap(out, d, shape, raw->data, free_block, NULL);
        if (st)
            rq_mem_free(raw->data);
        return st;
    }
    RQ_TRY(rq_tensor_create(out, d, shape, false));
    if (want)
        memcpy(out->data, raw->data, want);
    return RQ_OK;
}

static rq_status read_strings(rq_tensor *out, const rq_shape *shape, const Onnx__TensorProto *t)
{
    const size_t n = t->n_string_data;
    size_t bytes = (n + 1) * sizeof(uint64_t);
    for (size_t i = 0; i < n; i++)
        bytes += t->string_data[i].len;
    uint64_t *offset = rq_mem_alloc(bytes, 1);
    if (!offset)
        return RQ_NO_MEMORY;
    char *text = (char *)(offset + n + 1);
    offset[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (t->string_data[i].len)
            memcpy(text + offset[i], t->string_data[i].data, t->string_data[i].len);
        offset[i + 1] = offset[i] + t->string_data[i].len;
    }
    rq_status st = rq_tensor_wrap(out, RQ_DTYPE_STRING, shape, offset, free_block, NULL);
    if (st)
        rq_mem_free(offset);
    else
        out->bytes = bytes;
    return st;
}

/* int32_data holds every type of up to 32 bits: the low bits count, whatever stands above (as ONNX Runtime reads it).
 * Packed types: an entry is a byte of two or four elements. */
static void read_int32s(rq_tensor *out, const int32_t *v, size_t n)
{
    switch (rq_dtype_bits(out->dtype)) {
    case 32:
        memcpy(out->data, v, n * sizeof *v);
        break;
    case 16:
        for (size_t i = 0; i < n; i++)
            out->u16[i] = (uint16_t)v[i];
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out->u8[i] = (uint8_t)v[i];
    }
}

static rq_status read_typed(rq_tensor *out, const element *e, const rq_shape *shape, storage field, size_t entries,
                            const Onnx__TensorProto *t, rq_err *err)
{
    const size_t count = (size_t)rq_shape_count(shape);
    const int bits = rq_dtype_bits(e->dtype);
    const size_t want = bits && bits < 8 ? rq_shape_bytes(shape, e->dtype) : count * (size_t)e->per;
    char text[RQ_SHAPE_TEXT];
    if (entries && field != e->field)
        return rq_fail(err, RQ_BAD_FILE, "of type %s holds %s; expected raw_data or %s", rq_dtype_name(e->dtype),
                       storage_names[field], storage_names[e->field]);
    if (entries != want)
        return rq_fail(err, RQ_BAD_FILE, "has %zu entries of %s; %s %s needs %zu", entries, storage_names[e->field],
                       rq_dtype_name(e->dtype), rq_shape_text(shape, text, sizeof text), want);
    if (e->field == STRINGS)
        return read_strings(out, shape, t);
    RQ_TRY(rq_tensor_create(out, e->dtype, shape, false));
    if (!entries)
        return RQ_OK;
    switch (field) {
    case FLOATS:
        memcpy(out->data, t->float_data, out->bytes);
        break;
    case DOUBLES:
        memcpy(out->data, t->double_data, out->bytes);
        break;
    case INT64S:
        memcpy(out->data, t->int64_data, out->bytes);
        break;
    case INT32S:
        read_int32s(out, t->int32_data, entries);
        break;
    default: /* uint64_data: 64 bits, or the low 32 */
        for (size_t i = 0; i < entries; i++)
            if (e->dtype == RQ_DTYPE_U64)
                out->u64[i] = t->uint64_data[i];
            else
                out->u32[i] = (uint32_t)t->uint64_data[i];
    }
    return RQ_OK;
}

/* A bool is one byte, 0 or 1; the padding after the last element of a packed type is 0. Ours hold to that. External
 * data is mapped read-only, so it gets a copy when it does not. */
static rq_status tidy(rq_tensor *t)
{
    const int bits = rq_dtype_bits(t->dtype);
    size_t first = t->bytes;
    uint8_t last_mask = 255;
    if (t->dtype == RQ_DTYPE_BOOL) {
        for (first = 0; first < t->bytes && t->u8[first] <= 1; first++) {
        }
    } else if (bits && bits < 8 && t->bytes) {
        int used = (int)(rq_tensor_count(t) * bits & 7);
        last_mask = used ? (uint8_t)((1u << used) - 1) : 255;
        if (t->u8[t->bytes - 1] & ~last_mask)
            first = t->bytes - 1;
    }
    if (first == t->bytes)
        return RQ_OK;
    rq_tensor own;
    RQ_TRY(rq_tensor_copy(&own, t));
    for (size_t i = first; i < own.bytes; i++)
        own.u8[i] = t->dtype == RQ_DTYPE_BOOL ? own.u8[i] != 0 : own.u8[i] & last_mask;
    rq_tensor_release(t);
    *t = own;
    return RQ_OK;
}

rq_status rq_onnx_tensor_read(rq_tensor *out, Onnx__TensorProto *t, rq_onnx_source *src, rq_err *err)
{
    *out = (rq_tensor) { 0 };
    const int code = t->has_data_type ? t->data_type : 0;
    const rq_dtype d = rq_onnx_dtype(code);
    if (d == RQ_DTYPE_NONE)
        return rq_fail(err, RQ_BAD_FILE, "has element type %d; types go from 1 to %d", code, N_ELEMENTS - 1);
    if (t->segment)
        return rq_fail(err, RQ_UNSUPPORTED, "is one segment of a larger tensor, which nothing writes");
    rq_shape shape;
    storage field;
    size_t entries;
    RQ_TRY(read_shape(&shape, t->dims, t->n_dims, err));
    RQ_TRY(find_storage(&field, &entries, t, err));
    rq_status st;
    if (t->has_data_location && t->data_location == 1) {
        if (entries)
            return rq_fail(err, RQ_BAD_FILE, "says that its data is external, and holds %s", storage_names[field]);
        if (d == RQ_DTYPE_STRING)
            return rq_fail(err, RQ_BAD_FILE, "holds strings, which cannot be external");
        st = rq_onnx_external_read(out, d, &shape, t, src, err);
    } else if (t->has_data_location && t->data_location) {
        return rq_fail(err, RQ_BAD_FILE, "has data_location %d; expected 0 or 1", t->data_location);
    } else if (field == RAW && d == RQ_DTYPE_STRING) {
        return rq_fail(err, RQ_BAD_FILE, "holds strings in raw_data; expected string_data");
    } else if (field == RAW) {
        st = read_raw(out, d, &shape, &t->raw_data, src, err);
    } else {
        st = read_typed(out, &elements[code], &shape, field, entries, t, err);
    }
    if (!st && (st = tidy(out)))
        rq_tensor_release(out);
    return st;
}

/* The dense offset of entry i of the indices, or -1 when it lies outside. */
static int64_t sparse_offset(const rq_tensor *index, int64_t i, const rq_shape *shape)
{
    if (index->shape.rank == 1)
        return index->s64[i] >= 0 && index->s64[i] < rq_shape_count(shape) ? index->s64[i] : -1;
    int64_t at = 0;
    for (int a = 0; a < shape->rank; a++) {
        int64_t k = index->s64[i * shape->rank + a];
        if (k < 0 || k >= shape->dim[a])
            return -1;
        at = at * shape->dim[a] + k;
    }
    return at;
}

rq_status rq_onnx_sparse_read(rq_tensor *out, Onnx__SparseTensorProto *t, rq_onnx_source *src, rq_err *err)
{
    *out = (rq_tensor) { 0 };
    rq_tensor values = { 0 }, index = { 0 }, dense = { 0 };
    rq_shape shape;
    if (!t->values || !t->indices)
        return rq_fail(err, RQ_BAD_FILE, "has no values or no indices");
    RQ_TRY(read_shape(&shape, t->dims, t->n_dims, err));
    rq_status st = rq_onnx_tensor_read(&values, t->values, src, err);
    if (!st)
        st = rq_onnx_tensor_read(&index, t->indices, src, err);
    if (st)
        goto done;
    const int bits = rq_dtype_bits(values.dtype);
    const int64_t n = values.shape.rank == 1 ? values.shape.dim[0] : -1;
    const bool linear = index.shape.rank == 1;
    if (n < 0 || index.dtype != RQ_DTYPE_S64 || index.shape.rank > 2 || index.shape.rank < 1 ||
        index.shape.dim[0] != n || (!linear && index.shape.dim[1] != shape.rank)) {
        st = rq_fail(err, RQ_BAD_FILE, "has values or indices of the wrong shape or type");
        goto done;
    }
    if (bits < 8 || rq_shape_bytes(&shape, values.dtype) > (size_t)1 << 31) {
        st = rq_fail(err, RQ_UNSUPPORTED, "of %s is too large when dense, or of a type without zeros",
                     rq_dtype_name(values.dtype));
        goto done;
    }
    if ((st = rq_tensor_create(&dense, values.dtype, &shape, true)))
        goto done;
    const size_t size = (size_t)bits / 8;
    int64_t before = -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = sparse_offset(&index, i, &shape);
        if (at <= before) {
            st = rq_fail(err, RQ_BAD_FILE, "has an index outside its dims or out of order, the %lldth", (long long)i);
            goto done;
        }
        memcpy(dense.u8 + (size_t)at * size, values.u8 + (size_t)i * size, size);
        before = at;
    }
    rq_tensor_share(out, &dense);
done:
    rq_tensor_release(&dense);
    rq_tensor_release(&values);
    rq_tensor_release(&index);
    return st;
}

rq_status rq_onnx_tensor_write(Onnx__TensorProto *t, const rq_tensor *x, rq_arena *a)
{
    t->has_data_type = true;
    t->data_type = rq_onnx_dtype_code(x->dtype);
    t->n_dims = (size_t)x->shape.rank;
    t->dims = rq_arena_alloc(a, t->n_dims, sizeof *t->dims);
    if (!t->dims)
        return RQ_NO_MEMORY;
    for (int i = 0; i < x->shape.rank; i++)
        t->dims[i] = x->shape.dim[i];
    if (x->dtype != RQ_DTYPE_STRING) {
        t->has_raw_data = true;
        t->raw_data = (ProtobufCBinaryData) { .data = x->data, .len = x->bytes };
        return RQ_OK;
    }
    const size_t n = (size_t)rq_tensor_count(x);
    const uint64_t *offset = x->u64;
    t->string_data = rq_arena_alloc(a, n, sizeof *t->string_data);
    if (!t->string_data)
        return RQ_NO_MEMORY;
    t->n_string_data = n;
    for (size_t i = 0; i < n; i++)
        t->string_data[i] = (ProtobufCBinaryData) { .data = (uint8_t *)x->data + (n + 1) * 8 + offset[i],
                                                    .len = offset[i + 1] - offset[i] };
    return RQ_OK;
}
