/* formats/safetensors.c — a length of 8 bytes, a JSON object of that length, the tensors' bytes one behind the other:
 *
 *   {"conv1.weight": {"dtype": "F32", "shape": [8,3,3,3], "data_offsets": [0,864]}, ..., "__metadata__": {"text": "text"}}
 *
 * Reader and writer. As the format demands, tensors cover the data without gaps or overlap, and each has the bytes that its type and shape
 * take; a file that breaks this is refused with the tensor's name. Metadata is stepped over. */
#include "formats/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/quote.h"
#include "formats/json_scan.h"

enum { MOST_HEADER = 64 << 20, MOST_TENSORS = 20000 }; /* names of a state are searched from its start */

static const struct type {
    const char *name;
    rq_dtype dtype;
} types[] = {
    { "F32", RQ_DTYPE_F32 },        { "F64", RQ_DTYPE_F64 },
    { "F16", RQ_DTYPE_F16 },        { "BF16", RQ_DTYPE_BF16 },
    { "I64", RQ_DTYPE_S64 },        { "I32", RQ_DTYPE_S32 },
    { "I16", RQ_DTYPE_S16 },        { "I8", RQ_DTYPE_S8 },
    { "U64", RQ_DTYPE_U64 },        { "U32", RQ_DTYPE_U32 },
    { "U16", RQ_DTYPE_U16 },        { "U8", RQ_DTYPE_U8 },
    { "BOOL", RQ_DTYPE_BOOL },      { "F8_E4M3", RQ_DTYPE_F8E4M3FN },
    { "F8_E5M2", RQ_DTYPE_F8E5M2 }, { "F8_E8M0", RQ_DTYPE_F8E8M0 },
};

/* ---- reading ---- */

typedef struct entry {
    char *name; /* in the arena */
    rq_dtype dtype;
    rq_shape shape;
    uint64_t begin, end;
} entry;

typedef struct reader {
    rq_json json;
    rq_arena names;
    entry *e;
    int n, cap;
} reader;

/* A whole number that is not negative. */
static rq_status read_size(reader *r, uint64_t *out)
{
    double v = 0;
    *out = 0;
    RQ_TRY(rq_json_number(&r->json, &v));
    if (!(v >= 0 && v <= 0x1p53) || floor(v) != v)
        return rq_json_fail(&r->json, "%g, expected a whole number of at most 2^53", v);
    *out = (uint64_t)v;
    return RQ_OK;
}

static rq_status read_dtype(reader *r, entry *e, rq_buf *text)
{
    text->size = 0;
    RQ_TRY(rq_json_string(&r->json, text));
    if (text->failed)
        return RQ_NO_MEMORY;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (text->data && !strcmp(text->data, types[i].name)) {
            e->dtype = types[i].dtype;
            return RQ_OK;
        }
    return rq_json_fail(&r->json, "'%.40s' is no type that is known", text->data ? text->data : "");
}

static rq_status read_shape(reader *r, entry *e)
{
    RQ_TRY(rq_json_open(&r->json, '['));
    e->shape.rank = 0;
    for (bool more;;) {
        uint64_t v = 0;
        RQ_TRY(rq_json_item(&r->json, &more));
        if (!more)
            break;
        RQ_TRY(read_size(r, &v));
        if (e->shape.rank == RQ_MAX_RANK)
            return rq_json_fail(&r->json, "more than %d axes", RQ_MAX_RANK);
        e->shape.dim[e->shape.rank++] = (int64_t)v;
    }
    return rq_shape_check(&e->shape) ? rq_json_fail(&r->json, "the shape has too many elements") : RQ_OK;
}

static rq_status read_offsets(reader *r, entry *e)
{
    bool more = false;
    uint64_t *const at[2] = { &e->begin, &e->end };
    RQ_TRY(rq_json_open(&r->json, '['));
    for (int i = 0; i < 2; i++) {
        RQ_TRY(rq_json_item(&r->json, &more));
        if (!more)
            return rq_json_fail(&r->json, "data_offsets has %d numbers, expected 2", i);
        RQ_TRY(read_size(r, at[i]));
    }
    RQ_TRY(rq_json_item(&r->json, &more));
    return more ? rq_json_fail(&r->json, "data_offsets has more than 2 numbers") : RQ_OK;
}

static rq_status read_entry(reader *r, const char *name)
{
    rq_buf key = { 0 }, text = { 0 };
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    unsigned seen = 0;
    if (r->n == MOST_TENSORS)
        return rq_json_fail(&r->json, "more than %d tensors", MOST_TENSORS);
    if (!rq_mem_grow(&r->e, r->n, &r->cap, sizeof *r->e))
        return RQ_NO_MEMORY;
    entry *e = &r->e[r->n];
    *e = (entry) { .name = rq_arena_strndup(&r->names, name, strlen(name)) };
    rq_status s = e->name ? rq_json_open(&r->json, '{') : RQ_NO_MEMORY;
    for (bool more = true; !s;) {
        key.size = 0;
        s = rq_json_key(&r->json, &key, &more);
        if (s || !more)
            break;
        if (key.failed) {
            s = RQ_NO_MEMORY;
            break;
        }
        const unsigned which = !strcmp(key.data, "dtype")          ? DTYPE
                               : !strcmp(key.data, "shape")        ? SHAPE
                               : !strcmp(key.data, "data_offsets") ? OFFSETS
                                                                   : 0;
        if (!which || (seen & which))
            s = rq_json_fail(&r->json, "'%.60s' has %s '%.40s'", name, which ? "two of" : "the unknown key", key.data);
        else
            s = which == DTYPE ? read_dtype(r, e, &text) : which == SHAPE ? read_shape(r, e) : read_offsets(r, e);
        seen |= which;
    }
    if (!s && seen != (DTYPE | SHAPE | OFFSETS))
        s = rq_json_fail(&r->json, "'%.60s' lacks dtype, shape or data_offsets", name);
    if (!s && (e->end < e->begin || e->end - e->begin != rq_shape_bytes(&e->shape, e->dtype)))
        s = rq_json_fail(&r->json,
                         "'%.60s' has %" PRIu64 " to %" PRIu64 " as data_offsets, its type and shape take %zu bytes",
                         name, e->begin, e->end, rq_shape_bytes(&e->shape, e->dtype));
    rq_buf_release(&key);
    rq_buf_release(&text);
    r->n += !s;
    return s;
}

static rq_status read_header(reader *r)
{
    rq_buf key = { 0 };
    rq_status s = rq_json_peek(&r->json) == '{' ? rq_json_open(&r->json, '{')
                                                : rq_json_fail(&r->json, "the header is no JSON object");
    for (bool more = true; !s;) {
        key.size = 0;
        s = rq_json_key(&r->json, &key, &more);
        if (s || !more)
            break;
        s = key.failed                          ? RQ_NO_MEMORY
            : !strcmp(key.data, "__metadata__") ? rq_json_skip(&r->json)
                                                : read_entry(r, key.data);
    }
    rq_buf_release(&key);
    return s ? s : rq_json_end(&r->json);
}

static int by_begin(const void *a, const void *b)
{
    const entry *x = *(entry *const *)a, *y = *(entry *const *)b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : x->end != y->end ? (x->end < y->end ? -1 : 1) : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(entry *const *)a)->name, (*(entry *const *)b)->name);
}

/* Every byte of the data is of one tensor, and every name of one. */
static rq_status check_cover(const reader *r, uint64_t size, const char *file, rq_err *err)
{
    const entry **order = rq_mem_alloc((size_t)r->n, sizeof *order);
    uint64_t at = 0;
    rq_status s = order ? RQ_OK : RQ_NO_MEMORY;
    for (int i = 0; !s && i < r->n; i++)
        order[i] = &r->e[i];
    if (!s && r->n)
        qsort(order, (size_t)r->n, sizeof *order, by_begin);
    for (int i = 0; !s && i < r->n; i++) {
        if (order[i]->begin != at)
            s = rq_fail(err, RQ_BAD_FILE, "%s: tensor '%.60s' begins at %" PRIu64 " of the data, expected %" PRIu64,
                        file, order[i]->name, order[i]->begin, at);
        at = order[i]->end;
    }
    if (!s && at != size)
        s = rq_fail(err, RQ_BAD_FILE, "%s: the tensors end at %" PRIu64 ", the data at %" PRIu64, file, at, size);
    if (!s && r->n)
        qsort(order, (size_t)r->n, sizeof *order, by_name);
    for (int i = 1; !s && i < r->n; i++)
        if (!strcmp(order[i]->name, order[i - 1]->name))
            s = rq_fail(err, RQ_BAD_FILE, "%s: there are two tensors '%.60s'", file, order[i]->name);
    rq_mem_free(order);
    return s;
}

static rq_status fill(const reader *r, const uint8_t *data, rq_state **out)
{
    rq_state *s = NULL;
    rq_status st = rq_state_create(&s);
    for (int i = 0; !st && i < r->n; i++) {
        const entry *e = &r->e[i];
        rq_tensor t;
        st = rq_tensor_create(&t, e->dtype, &e->shape, false);
        if (st)
            break;
        if (e->end > e->begin)
            memcpy(t.data, data + e->begin, (size_t)(e->end - e->begin));
        st = rq_state_set(s, NULL, e->name, &t);
        rq_tensor_release(&t);
    }
    if (st)
        rq_state_destroy(s);
    else
        *out = s;
    return st;
}

rq_status rq_safetensors_parse(rq_state **out, const void *data, size_t size, const char *name, rq_err *err)
{
    const uint8_t *p = data;
    uint64_t length = 0;
    if (size < 8)
        return rq_fail(err, RQ_BAD_FILE, "%s: %zu bytes, a safetensors file has at least 8", name, size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | p[i];
    if (length > size - 8 || length > MOST_HEADER)
        return rq_fail(err, RQ_BAD_FILE,
                       "%s: a header of %" PRIu64 " bytes, of which there are %zu (and at most %d are read)", name,
                       length, size - 8, (int)MOST_HEADER);
    reader r = { .json = rq_json_of(p + 8, (size_t)length, name, err) };
    if (err)
        err->text[0] = '\0';
    rq_status s = read_header(&r);
    if (!s)
        s = check_cover(&r, size - 8 - length, name, err);
    if (!s)
        s = fill(&r, p + 8 + length, out);
    if (s == RQ_NO_MEMORY)
        (void)rq_fail(err, s, "%s: not enough memory to read it", name);
    rq_mem_free(r.e);
    rq_arena_release(&r.names);
    return s;
}

rq_status rq_safetensors_load(rq_state **out, const char *path, rq_err *err)
{
    rq_map m;
    RQ_TRY(rq_file_map(&m, path, err));
    const rq_status s = rq_safetensors_parse(out, m.data, m.size, path, err);
    rq_file_unmap(&m);
    return s;
}

/* ---- writing ---- */

static const char *type_name(rq_dtype d)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].dtype == d)
            return types[i].name;
    return NULL;
}

/* Widest elements first, so that each tensor is aligned for its type. */
static void place(const rq_state *s, size_t *offset)
{
    size_t at = 0;
    for (int bits = 64; bits >= 8; bits /= 2)
        for (int i = 0; i < rq_state_count(s); i++) {
            const rq_tensor *t = rq_state_tensor(s, i);
            if (rq_dtype_bits(t->dtype) != bits)
                continue;
            offset[i] = at;
            at += rq_shape_bytes(&t->shape, t->dtype);
        }
}

rq_status rq_safetensors_header(const rq_state *s, rq_buf *header, size_t *offset, rq_err *err)
{
    rq_buf_add(header, "\0\0\0\0\0\0\0\0", 8);
    rq_buf_adds(header, "{");
    for (int i = 0; i < rq_state_count(s); i++)
        if (!type_name(rq_state_tensor(s, i)->dtype))
            return rq_fail(err, RQ_BAD_DTYPE, "'%s' is %s, which safetensors files have not", rq_state_name(s, i),
                           rq_dtype_name(rq_state_tensor(s, i)->dtype));
    place(s, offset);
    for (int i = 0; i < rq_state_count(s); i++) {
        const rq_tensor *t = rq_state_tensor(s, i);
        const char *name = rq_state_name(s, i);
        if (i)
            rq_buf_adds(header, ",");
        if (!strcmp(name, "__metadata__") || !rq_quote(header, name))
            return rq_fail(err, RQ_BAD_ARG, "'%.60s' cannot be the name of a tensor in a safetensors file", name);
        rq_buf_addf(header, ":{\"dtype\":\"%s\",\"shape\":[", type_name(t->dtype));
        for (int k = 0; k < t->shape.rank; k++)
            rq_buf_addf(header, "%s%" PRId64, k ? "," : "", t->shape.dim[k]);
        rq_buf_addf(header, "],\"data_offsets\":[%zu,%zu]}", offset[i],
                    offset[i] + rq_shape_bytes(&t->shape, t->dtype));
    }
    rq_buf_adds(header, "}");
    while (!header->failed && header->size % 8)
        rq_buf_adds(header, " ");
    if (header->failed)
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory for the header of a safetensors file");
    const uint64_t length = header->size - 8;
    for (int i = 0; i < 8; i++)
        header->data[i] = (char)(length >> (8 * i) & 255);
    return RQ_OK;
}

static rq_status write(const rq_state *s, const rq_buf *header, rq_file *f, rq_err *err)
{
    RQ_TRY(rq_file_write(f, header->data, header->size, err));
    for (int bits = 64; bits >= 8; bits /= 2) /* the order of place() */
        for (int i = 0; i < rq_state_count(s); i++) {
            const rq_tensor *t = rq_state_tensor(s, i);
            if (rq_dtype_bits(t->dtype) == bits && rq_tensor_count(t))
                RQ_TRY(rq_file_write(f, t->data, rq_shape_bytes(&t->shape, t->dtype), err));
        }
    return rq_file_commit(f, err);
}

rq_status rq_safetensors_save(const rq_state *s, const char *path, rq_err *err)
{
    rq_buf header = { 0 };
    rq_file f = { 0 };
    size_t *offset = rq_mem_alloc((size_t)rq_state_count(s), sizeof *offset);
    rq_status st = offset ? rq_safetensors_header(s, &header, offset, err)
                          : rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to write it", path);
    if (!st)
        st = rq_file_create(&f, path, err);
    if (!st) {
        st = write(s, &header, &f, err);
        rq_file_abandon(&f);
    }
    rq_buf_release(&header);
    rq_mem_free(offset);
    return st;
}
