/* formats/onnx_external.c — tensors whose bytes lie in another file.
 *
 * The location comes from a stranger, so it is opened by base/beneath, which stays in the model's folder and follows no
 * link. Each file is mapped once per model; a tensor is a view that holds a reference to the mapping. Offsets and
 * lengths are checked against the file before anything is touched. */
#include "formats/onnx.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/beneath.h"

typedef struct rq_onnx_file {
    struct rq_onnx_file *next;
    atomic_int refs; /* of the source and of each tensor */
    rq_map map;
    char location[];
} rq_onnx_file;

static void file_unref(void *data, void *arg)
{
    (void)data;
    rq_onnx_file *f = arg;
    if (atomic_fetch_sub(&f->refs, 1) == 1) {
        rq_file_unmap(&f->map);
        rq_mem_free(f);
    }
}

rq_status rq_onnx_source_list(const rq_onnx_source *src, rq_graph *g)
{
    int n = 0;
    for (const rq_onnx_file *f = src->files; f; f = f->next)
        n++;
    g->files = n ? rq_arena_alloc(&g->names, (size_t)n, sizeof *g->files) : NULL;
    if (n && !g->files)
        return RQ_NO_MEMORY;
    for (const rq_onnx_file *f = src->files; f; f = f->next) {
        const size_t room = strlen(src->folder) + strlen(f->location) + 1;
        char *path = rq_arena_alloc(&g->names, room, 1);
        if (!path)
            return RQ_NO_MEMORY;
        snprintf(path, room, "%s%s", src->folder, f->location);
        g->files[g->n_files++] = path;
    }
    return RQ_OK;
}

void rq_onnx_source_release(rq_onnx_source *src)
{
    while (src->files) {
        rq_onnx_file *f = src->files;
        src->files = f->next;
        file_unref(NULL, f);
    }
}

static rq_status find_file(rq_onnx_file **out, rq_onnx_source *src, const ProtobufCBinaryData *location, rq_err *err)
{
    for (rq_onnx_file *f = src->files; f; f = f->next)
        if (strlen(f->location) == location->len && !memcmp(f->location, location->data, location->len)) {
            *out = f;
            return RQ_OK;
        }
    rq_onnx_file *f = rq_mem_zalloc(sizeof *f + location->len + 1, 1);
    if (!f)
        return RQ_NO_MEMORY;
    memcpy(f->location, location->data, location->len);
    atomic_init(&f->refs, 1);
    rq_status st = rq_beneath_map(&f->map, src->folder, f->location, err);
    if (st) {
        rq_mem_free(f);
        return st == RQ_NO_MEMORY ? st : rq_fail_in(err, st, "its external data");
    }
    f->next = src->files;
    src->files = f;
    *out = f;
    return RQ_OK;
}

/* A decimal number below 2^63, nothing else. */
static bool parse_number(uint64_t *out, const ProtobufCBinaryData *b)
{
    uint64_t v = 0;
    for (size_t i = 0; i < b->len; i++) {
        if (b->data[i] < '0' || b->data[i] > '9' || v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (b->data[i] - '0');
    }
    *out = v;
    return b->len > 0;
}

static bool key_is(const ProtobufCBinaryData *key, const char *name)
{
    return key->len == strlen(name) && !memcmp(key->data, name, key->len);
}

static rq_status parse_entries(const ProtobufCBinaryData **location, uint64_t *offset, uint64_t *length,
                               const Onnx__TensorProto *t, rq_err *err)
{
    *location = NULL;
    for (size_t i = 0; i < t->n_external_data; i++) {
        const Onnx__StringStringEntryProto *e = t->external_data[i];
        const bool is_offset = key_is(&e->key, "offset");
        if (key_is(&e->key, "location")) {
            if (*location)
                return rq_fail(err, RQ_BAD_FILE, "gives the location of its external data twice");
            *location = &e->value;
        } else if ((is_offset || key_is(&e->key, "length")) && !parse_number(is_offset ? offset : length, &e->value)) {
            return rq_fail(err, RQ_BAD_FILE, "has external data with %s '%.*s'; expected a decimal number below 2^63",
                           is_offset ? "offset" : "length", e->value.len < 40 ? (int)e->value.len : 40,
                           e->value.len ? (char *)e->value.data : "");
        }
    }
    if (!*location || !(*location)->len)
        return rq_fail(err, RQ_BAD_FILE, "says that its data is external, but not in which file");
    if (memchr((*location)->data, 0, (*location)->len))
        return rq_fail(err, RQ_BAD_FILE, "has external data in a file whose name has a zero byte inside");
    return RQ_OK;
}

rq_status rq_onnx_external_read(rq_tensor *out, rq_dtype d, const rq_shape *shape, const Onnx__TensorProto *t,
                                rq_onnx_source *src, rq_err *err)
{
    const size_t want = rq_shape_bytes(shape, d);
    const ProtobufCBinaryData *location;
    uint64_t offset = 0, length = want;
    RQ_TRY(parse_entries(&location, &offset, &length, t, err));
    char text[RQ_SHAPE_TEXT];
    if (length != want)
        return rq_fail(err, RQ_BAD_FILE, "has %llu bytes of external data; %s %s needs %zu", (unsigned long long)length,
                       rq_dtype_name(d), rq_shape_text(shape, text, sizeof text), want);
    if (!src->folder)
        return rq_fail(err, RQ_UNSUPPORTED, "has external data, which a model in memory cannot have");
    rq_onnx_file *f = NULL;
    RQ_TRY(find_file(&f, src, location, err));
    assert(f);
    if (offset > f->map.size || want > f->map.size - offset)
        return rq_fail(err, RQ_BAD_FILE, "wants %zu bytes at offset %llu of '%s', which has %zu", want,
                       (unsigned long long)offset, f->location, f->map.size);
    const int bits = rq_dtype_bits(d);
    const size_t align = bits == 128 ? 8 : bits > 8 ? (size_t)bits / 8 : 1;
    if (offset % align == 0 && want) {
        RQ_TRY(rq_tensor_wrap(out, d, shape, (uint8_t *)f->map.data + offset, file_unref, f));
        atomic_fetch_add(&f->refs, 1);
        return RQ_OK;
    }
    RQ_TRY(rq_tensor_create(out, d, shape, false));
    if (want)
        memcpy(out->data, f->map.data + offset, want);
    return RQ_OK;
}
