/* formats/coreml_read.c — opening a model: package, message, description, program, and a look at every record of the weight
 * files that the program names, so that a damaged package is found out before anything is done with it. */
#include "formats/coreml.h"

#include <inttypes.h>
#include <string.h>

#include "coreml.pb-c.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to read the model");
}

/* Which of the other kinds of model it is: their numbers among the fields we do not know. */
static const char *other_kind(const Coreml__Model *m)
{
    static const struct {
        uint32_t tag;
        const char *name;
    } kinds[] = {
        { 200, "a pipeline classifier" },
        { 201, "a pipeline regressor" },
        { 202, "a pipeline" },
        { 303, "a neural network regressor" },
        { 403, "a neural network classifier" },
        { 500, "a neural network" },
        { 555, "a custom model" },
        { 556, "a linked model" },
        { 3000, "a serialized model" },
    };
    for (size_t i = 0; i < m->base.n_unknown_fields; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            if (m->base.unknown_fields[i].tag == kinds[k].tag)
                return kinds[k].name;
    for (size_t i = 0; i < m->base.n_unknown_fields; i++)
        if (m->base.unknown_fields[i].tag >= 300)
            return "a model of another kind";
    return "nothing";
}

static rq_status read_model(rq_coreml *m, const uint8_t *data, size_t size, rq_err *err)
{
    ProtobufCMessage *message = NULL;
    RQ_TRY(rq_protobuf_parse(&message, &m->mem, &coreml__model__descriptor, data, size, err));
    const Coreml__Model *model = (const Coreml__Model *)message;
    m->as_read = model;
    m->spec = model->specification_version;
    if (m->spec < 1)
        return rq_fail(err, RQ_BAD_FILE,
                       "specification version %" PRId32 "; this is not a Core ML model, or a damaged one", m->spec);
    if (!model->ml_program)
        return rq_fail(err, RQ_UNSUPPORTED, "the model is %s, expected an ML program", other_kind(model));
    if (m->spec < RQ_COREML_MIN_SPEC)
        return rq_fail(err, RQ_BAD_FILE, "an ML program with specification version %" PRId32 ", expected at least %d",
                       m->spec, RQ_COREML_MIN_SPEC);
    RQ_TRY(rq_mil_read(&m->program, model->ml_program, err));
    RQ_TRY(rq_mil_check(&m->program, err));
    return rq_coreml_read_description(m, err);
}

rq_status rq_coreml_create(rq_coreml **out, int32_t spec, rq_err *err)
{
    rq_coreml *m = *out = rq_mem_zalloc(1, sizeof *m);
    if (!m)
        return no_memory(err);
    m->spec = spec;
    m->program.version = 1;
    m->default_function = m->doc = m->version = m->author = m->license = "";
    return RQ_OK;
}

rq_status rq_coreml_parse(rq_coreml **out, const void *data, size_t size, rq_err *err)
{
    rq_coreml *m;
    *out = NULL;
    RQ_TRY(rq_coreml_create(&m, 0, err));
    const rq_status st = read_model(m, data, size, err);
    if (st)
        rq_coreml_close(m);
    else
        *out = m;
    return st;
}

/* ---- weights ---- */

/* The file of a blob is the last part of its name, in the folder of the item "weights". */
static rq_status weights_of(rq_coreml *m, const char *file, const rq_map **out, rq_err *err)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    for (int i = 0; i < m->n_weights; i++)
        if (!strcmp(m->weights[i].name, name)) {
            *out = &m->weights[i].map;
            return RQ_OK;
        }
    const rq_mlpackage_item *item = rq_mlpackage_find(m->package, "weights");
    if (!item)
        return rq_fail(err, RQ_BAD_FILE, "the program has weights in '%.200s', the package no item 'weights'", file);
    const size_t n = strlen(item->path) + strlen(name) + 2;
    char *path = rq_arena_alloc(&m->program.arena, n, 1);
    if (!path || !rq_mem_grow(&m->weights, m->n_weights, &m->cap_weights, sizeof *m->weights))
        return no_memory(err);
    memcpy(path, item->path, strlen(item->path));
    path[strlen(item->path)] = '/';
    memcpy(path + strlen(item->path) + 1, name, strlen(name));
    rq_coreml_weights *w = &m->weights[m->n_weights];
    RQ_TRY(rq_mlpackage_map(m->package, &w->map, path, err));
    w->name = path + strlen(item->path) + 1;
    m->n_weights++;
    *out = &w->map;
    return RQ_OK;
}

static rq_status check_blob(const rq_mil_value *v, const rq_map *map, rq_milblob *out, rq_err *err)
{
    char text[200];
    RQ_TRY(rq_milblob_read(out, map->data, map->size, v->offset, err));
    if (out->type != v->type->dtype)
        return rq_fail(err, RQ_BAD_FILE, "the weights at %" PRIu64 " are %s, the program says %s", v->offset,
                       out->type->name, rq_mil_type_text(v->type, text, sizeof text));
    /* files of older writers do not say how many bits are unused */
    const bool fits = out->bytes == rq_mil_dtype_bytes(out->type, v->n);
    if (!fits)
        return rq_fail(err, RQ_BAD_FILE, "the weights at %" PRIu64 " are %" PRIu64 " bytes, %s needs %" PRIu64,
                       v->offset, out->bytes, rq_mil_type_text(v->type, text, sizeof text),
                       rq_mil_dtype_bytes(out->type, v->n));
    out->n = v->n;
    return RQ_OK;
}

static rq_status open_blob(void *arg, const rq_mil_value *v, rq_err *err)
{
    rq_coreml *m = arg;
    const rq_map *map = NULL;
    rq_milblob blob;
    if (v->kind != RQ_MIL_BLOB || !v->file)
        return RQ_OK;
    RQ_TRY(weights_of(m, v->file, &map, err));
    return check_blob(v, map, &blob, err);
}

rq_status rq_coreml_blob(const rq_coreml *m, rq_milblob *out, const rq_mil_value *v, rq_err *err)
{
    if (v->kind != RQ_MIL_BLOB || v->produce)
        return rq_fail(err, RQ_BAD_ARG, "the value has no bytes in a weight file");
    if (!v->file) { /* made here */
        *out = (rq_milblob) { .type = v->type->dtype, .data = v->data, .bytes = v->bytes, .n = v->n };
        return RQ_OK;
    }
    const char *slash = strrchr(v->file, '/'), *name = slash ? slash + 1 : v->file;
    for (int i = 0; i < m->n_weights; i++)
        if (!strcmp(m->weights[i].name, name))
            return check_blob(v, &m->weights[i].map, out, err);
    return rq_fail(err, RQ_BAD_FILE, "the weight file '%.200s' is not open", v->file);
}

/* ---- tensors ---- */

/* Elements that ours keeps in another width. */
static rq_status convert(rq_tensor *out, const rq_mil_dtype *t, const rq_shape *shape, const void *data, bool wide,
                         rq_err *err)
{
    if (rq_tensor_create(out, t->dtype, shape, false))
        return no_memory(err);
    const uint64_t n = (uint64_t)rq_shape_count(shape);
    if (!wide) {
        rq_mil_dtype_unpack(t, out->u8, data, n);
        return RQ_OK;
    }
    for (uint64_t i = 0; i < n; i++)
        out->u16[i] = (uint16_t)((const int32_t *)data)[i];
    return RQ_OK;
}

/* A blob that is made when the model is written, made now. */
static rq_status produced(rq_tensor *out, const rq_mil_value *v, const rq_shape *shape, rq_err *err)
{
    const rq_mil_dtype *t = v->type->dtype;
    const bool wide = t->bits == 1 || t->bits == 3 || t->bits == 6; /* a byte each in ours */
    const uint64_t bytes = rq_mil_dtype_bytes(t, v->n);
    uint8_t *packed = NULL;
    if (rq_tensor_create(out, t->dtype, shape, false) || (wide && !(packed = rq_mem_alloc((size_t)bytes, 1)))) {
        rq_tensor_release(out);
        return no_memory(err);
    }
    rq_milblob_writer w = { .memory = wide ? packed : out->u8, .left = bytes };
    rq_status s = v->produce(v->produce_arg, &w, err);
    if (!s)
        s = rq_milblob_end(&w, err);
    if (!s && wide)
        rq_mil_dtype_unpack(t, out->u8, packed, v->n);
    if (s)
        rq_tensor_release(out);
    rq_mem_free(packed);
    return s;
}

rq_status rq_coreml_tensor(const rq_coreml *m, rq_tensor *out, const rq_mil_value *v, rq_err *err)
{
    *out = (rq_tensor) { 0 };
    const rq_mil_type *type = v->type;
    if (type->kind != RQ_MIL_TENSOR || type->dtype->store == RQ_MIL_STORE_STRINGS)
        return rq_fail(err, RQ_BAD_FILE, "a value that is expected to be numbers is not");
    if (type->rank > RQ_MAX_RANK)
        return rq_fail(err, RQ_UNSUPPORTED, "a tensor has %" PRId64 " axes, at most %d are supported", type->rank,
                       RQ_MAX_RANK);
    rq_shape shape = { .rank = (int)type->rank };
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = (int64_t)type->dim[i].size;
    if (rq_shape_check(&shape))
        return rq_fail(err, RQ_BAD_FILE, "a tensor has too many elements");
    const void *data = v->data;
    rq_milblob blob;
    if (v->kind == RQ_MIL_BLOB && v->produce)
        return produced(out, v, &shape, err);
    if (v->kind == RQ_MIL_BLOB) {
        RQ_TRY(rq_coreml_blob(m, &blob, v, err));
        data = blob.data;
    }
    const int bits = type->dtype->bits;
    if (bits == 1 || bits == 3 || bits == 6)
        return convert(out, type->dtype, &shape, data, false, err);
    if (v->kind == RQ_MIL_IMMEDIATE && bits == 16 && type->dtype->store == RQ_MIL_STORE_INTS)
        return convert(out, type->dtype, &shape, data, true, err);
    *out = rq_tensor_view(type->dtype->dtype, &shape, (void *)data);
    return RQ_OK;
}

/* ---- a package ---- */

bool rq_coreml_is(const char *path)
{
    return rq_mlpackage_is(path);
}

static rq_status open_package(rq_coreml *m, const char *path, rq_err *err)
{
    RQ_TRY(rq_mlpackage_open(&m->package, path, err));
    const char *root = m->package->items[m->package->root].path;
    rq_status st = rq_mlpackage_map(m->package, &m->file, root, err);
    if (!st && (st = read_model(m, m->file.data, m->file.size, err)))
        rq_fail_in(err, st, "%s", root);
    if (!st)
        st = rq_mil_each_value(&m->program, open_blob, m, err);
    return st ? rq_fail_in(err, st, "%s", path) : RQ_OK;
}

rq_status rq_coreml_open(rq_coreml **out, const char *path, rq_err *err)
{
    rq_coreml *m;
    *out = NULL;
    RQ_TRY(rq_coreml_create(&m, 0, err));
    const rq_status st = open_package(m, path, err);
    if (st)
        rq_coreml_close(m);
    else
        *out = m;
    return st;
}

void rq_coreml_close(rq_coreml *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->n_weights; i++)
        rq_file_unmap(&m->weights[i].map);
    rq_mem_free(m->weights);
    rq_mem_free(m->interfaces);
    rq_mem_free(m->metadata);
    rq_mil_release(&m->program);
    for (int i = 0; i < m->n_shared; i++)
        rq_tensor_release(&m->shared[i]);
    rq_mem_free(m->shared);
    rq_protobuf_mem_release(&m->mem);
    if (m->file.data)
        rq_file_unmap(&m->file);
    rq_mlpackage_close(m->package);
    rq_mem_free(m);
}
