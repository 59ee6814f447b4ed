/* formats/coreml_write.c — a model as a package. What was read is packed again and compared with what is there now: where the
 * two are equal nobody changed anything, and the bytes of the file are taken as they were (the order of maps and the place
 * of fields are the writer's choice, which packing would not repeat). */
#include "formats/coreml.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coreml.pb-c.h"

#define BLOB_FILE "@model_path/weights/weight.bin"
#define MODEL_PATH "Data/com.apple.CoreML/model.mlmodel"
#define WEIGHTS_PATH "Data/com.apple.CoreML/weights"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to write the model");
}

static rq_status pack(const ProtobufCMessage *message, uint8_t **out, size_t *size, rq_err *err)
{
    *size = protobuf_c_message_get_packed_size(message);
    if (*size > RQ_PROTOBUF_MAX_SIZE)
        return rq_fail(err, RQ_UNSUPPORTED, "the program would have %zu bytes, at most 2147483647 can be read again",
                       *size);
    if (!(*out = rq_mem_alloc(*size, 1)))
        return no_memory(err);
    protobuf_c_message_pack(message, *out);
    return RQ_OK;
}

static rq_status encode(const rq_coreml *m, rq_mil_place place, void *arg, uint8_t **out, size_t *size, rq_err *err)
{
    rq_arena a = { 0 };
    Coreml__Model model = COREML__MODEL__INIT;
    void *program, *description;
    if (m->as_read)
        model = *(const Coreml__Model *)m->as_read;
    model.has_specification_version = true;
    model.specification_version = m->spec;
    rq_status st = rq_coreml_build_description(&description, m, &a, err);
    if (!st)
        st = rq_mil_write(&program, &m->program, place, arg, &a, err);
    if (!st) {
        model.description = description;
        model.ml_program = program;
        st = pack(&model.base, out, size, err);
    }
    rq_arena_release(&a);
    return st;
}

rq_status rq_coreml_encode(const rq_coreml *m, uint8_t **out, size_t *size, rq_err *err)
{
    *out = NULL;
    return encode(m, NULL, NULL, out, size, err);
}

/* ---- which blobs there are ---- */

typedef struct placed {
    const rq_mil_value *v;
    uint64_t offset;
} placed;

typedef struct saver {
    const rq_coreml *m;
    placed *blobs; /* in order of the program, then sorted */
    int n, cap;
    int n_new;
    rq_milblob_writer w;
} saver;

/* Blobs that were read from one place are one, and so is a value that stands in several places. */
static int by_source(const void *a, const void *b)
{
    const rq_mil_value *x = ((const placed *)a)->v, *y = ((const placed *)b)->v;
    if (!x->file || !y->file)
        return x->file ? 1 : y->file ? -1 : (x > y) - (x < y);
    const int c = strcmp(x->file, y->file);
    return c ? c : (x->offset > y->offset) - (x->offset < y->offset);
}

static rq_status collect(void *arg, const rq_mil_value *v, rq_err *err)
{
    saver *s = arg;
    if (v->kind != RQ_MIL_BLOB)
        return RQ_OK;
    if (!rq_mem_grow(&s->blobs, s->n, &s->cap, sizeof *s->blobs))
        return no_memory(err);
    s->blobs[s->n++] = (placed) { .v = v };
    s->n_new += !v->file;
    return RQ_OK;
}

/* ---- the weight file ---- */

/* A blob of either kind, in pieces, so that a large one is never in memory as a whole. */
static rq_status write_blob(saver *s, const rq_mil_value *v, uint64_t *offset, rq_err *err)
{
    const size_t piece = (size_t)4 << 20;
    RQ_TRY(rq_milblob_begin(&s->w, v->type->dtype, v->n, offset, err));
    if (v->produce) {
        RQ_TRY(v->produce(v->produce_arg, &s->w, err));
        return rq_milblob_end(&s->w, err);
    }
    rq_milblob blob;
    RQ_TRY(rq_coreml_blob(s->m, &blob, v, err));
    for (uint64_t at = 0; at < blob.bytes; at += piece) {
        const size_t n = blob.bytes - at < piece ? (size_t)(blob.bytes - at) : piece;
        RQ_TRY(rq_milblob_write(&s->w, blob.data + at, n, err));
        if (v->file)
            rq_file_forget(blob.data + at, n);
    }
    return rq_milblob_end(&s->w, err);
}

typedef struct ordered {
    placed p;
    int at;
} ordered;

static int by_source_then_order(const void *a, const void *b)
{
    const int c = by_source(a, b);
    return c ? c : ((const ordered *)a)->at - ((const ordered *)b)->at;
}

static int by_order(const void *a, const void *b)
{
    return ((const ordered *)a)->at - ((const ordered *)b)->at;
}

/* Drop blobs that stand there already, keeping the first of each in the order of the program. */
static rq_status drop_repeated(saver *s, rq_err *err)
{
    ordered *o = rq_mem_alloc((size_t)s->n, sizeof *o);
    if (!o)
        return no_memory(err);
    for (int i = 0; i < s->n; i++)
        o[i] = (ordered) { s->blobs[i], i };
    qsort(o, (size_t)s->n, sizeof *o, by_source_then_order);
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (!n || by_source(&o[n - 1].p, &o[i].p) != 0)
            o[n++] = o[i];
    qsort(o, (size_t)n, sizeof *o, by_order);
    for (int i = 0; i < n; i++)
        s->blobs[i] = o[i].p;
    s->n = n;
    rq_mem_free(o);
    return RQ_OK;
}

static rq_status write_blobs(saver *s, rq_mlpackage_writer *to, const char *path, rq_err *err)
{
    rq_file f;
    RQ_TRY(rq_mlpackage_file_begin(to, path, &f, err));
    rq_status st = rq_milblob_open(&s->w, &f, err);
    for (int i = 0; !st && i < s->n; i++)
        st = write_blob(s, s->blobs[i].v, &s->blobs[i].offset, err);
    if (!st)
        st = rq_milblob_close(&s->w, err);
    if (!st)
        return rq_mlpackage_file_end(to, path, &f, err);
    rq_file_abandon(&f);
    return st;
}

static rq_status place(void *arg, const rq_mil_value *v, const char **file, uint64_t *offset, rq_err *err)
{
    const saver *s = arg;
    const placed key = { .v = v };
    const placed *found = bsearch(&key, s->blobs, (size_t)s->n, sizeof *s->blobs, by_source);
    if (!found)
        return rq_fail(err, RQ_INTERNAL, "weights were not written");
    *file = BLOB_FILE;
    *offset = found->offset;
    return RQ_OK;
}

/* ---- the package ---- */

static uint64_t hash(const uint8_t *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* The manifest of a model made here, or of a package that had no weights before. */
static rq_status write_manifest(const rq_coreml *m, rq_mlpackage_writer *to, uint64_t seed, rq_err *err)
{
    static const char author[] = "com.apple.CoreML";
    const rq_mlpackage_item weights = { NULL, author, "CoreML Model Weights", "weights", WEIGHTS_PATH };
    const rq_mlpackage_item model = { NULL, author, "CoreML Model Specification", "model.mlmodel", MODEL_PATH };
    const int n = m->package ? m->package->n_items : 1;
    rq_mlpackage_item *items = rq_mem_alloc((size_t)n + 1, sizeof *items);
    if (!items)
        return no_memory(err);
    items[0] = model;
    if (m->package)
        memcpy(items, m->package->items, (size_t)n * sizeof *items);
    items[n] = weights;
    const rq_status st = rq_mlpackage_manifest(to, items, n + 1, m->package ? m->package->root : 0, seed, err);
    rq_mem_free(items);
    return st;
}

/* Are the blobs all those of the files that were read, and no others? Then the files can stay. */
static bool weights_stay(const saver *s)
{
    uint64_t all = 0;
    for (int i = 0; i < s->m->n_weights; i++) {
        uint32_t n;
        if (rq_milblob_count(&n, s->m->weights[i].map.data, s->m->weights[i].map.size, NULL))
            return false;
        all += n;
    }
    return !s->n_new && (uint64_t)s->n == all;
}

static rq_status save_weights(saver *s, rq_mlpackage_writer *to, rq_err *err)
{
    const rq_coreml *m = s->m;
    const rq_mlpackage_item *item = m->package ? rq_mlpackage_find(m->package, "weights") : NULL;
    const char *folder = item ? item->path : WEIGHTS_PATH;
    char path[1200];
    if (snprintf(path, sizeof path, "%s/weight.bin", folder) >= (int)sizeof path)
        return rq_fail(err, RQ_UNSUPPORTED, "the folder of the weights has too long a path");
    RQ_TRY(rq_mlpackage_folder(to, folder, err));
    if (s->n)
        RQ_TRY(write_blobs(s, to, path, err));
    for (int i = 0; i < m->n_weights; i++) { /* those that were read are not copied */
        if (snprintf(path, sizeof path, "%s/%s", folder, m->weights[i].name) >= (int)sizeof path)
            return rq_fail(err, RQ_UNSUPPORTED, "a weight file has too long a path");
        RQ_TRY(rq_mlpackage_omit(to, path, err));
    }
    if (s->n)
        qsort(s->blobs, (size_t)s->n, sizeof *s->blobs, by_source);
    return RQ_OK;
}

static rq_status save_changed(saver *s, rq_mlpackage_writer *to, rq_err *err)
{
    const rq_coreml *m = s->m;
    const bool stay = m->package && weights_stay(s);
    const char *model_path = m->package ? m->package->items[m->package->root].path : MODEL_PATH;
    uint8_t *bytes = NULL;
    size_t size;
    if (!stay)
        RQ_TRY(save_weights(s, to, err));
    RQ_TRY(encode(m, stay ? NULL : place, s, &bytes, &size, err));
    rq_status st = rq_mlpackage_file_all(to, model_path, bytes, size, err);
    if (!st && !stay && (!m->package || !rq_mlpackage_find(m->package, "weights")))
        st = write_manifest(m, to, hash(bytes, size), err);
    rq_mem_free(bytes);
    return st;
}

/* Is the model what was read? */
static rq_status is_changed(const saver *s, bool *changed, rq_err *err)
{
    uint8_t *was = NULL, *now = NULL;
    size_t n_was, n_now;
    *changed = true;
    if (!s->m->package || s->n_new)
        return RQ_OK;
    rq_status st = pack((const ProtobufCMessage *)s->m->as_read, &was, &n_was, err);
    if (!st)
        st = encode(s->m, NULL, NULL, &now, &n_now, err);
    if (!st)
        *changed = n_was != n_now || memcmp(was, now, n_was) != 0;
    rq_mem_free(was);
    rq_mem_free(now);
    return st;
}

static rq_status save(saver *s, const char *path, rq_err *err)
{
    bool changed;
    rq_mlpackage_writer to;
    RQ_TRY(rq_mil_each_value(&s->m->program, collect, s, err));
    RQ_TRY(drop_repeated(s, err));
    RQ_TRY(is_changed(s, &changed, err));
    RQ_TRY(rq_mlpackage_create(&to, path, err));
    rq_status st = changed ? save_changed(s, &to, err) : RQ_OK;
    if (!st && s->m->package)
        st = rq_mlpackage_copy_rest(&to, s->m->package, err);
    if (!st)
        return rq_mlpackage_commit(&to, err);
    rq_mlpackage_abandon(&to);
    return st;
}

rq_status rq_coreml_save(const rq_coreml *m, const char *path, rq_err *err)
{
    saver s = { .m = m };
    const rq_status st = save(&s, path, err);
    rq_mem_free(s.blobs);
    return st;
}
