/* formats/onnx_write.c — the graph to a file: lower annotations to Q/DQ, build messages, pack them straight into a
 * temporary file, rename. What does not fit into the 2 GiB of one protobuf message goes to a second file beside it. */
#include "formats/onnx.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "ops/op.h"
#include "ops/upgrade.h"
#include "ops/widen.h"
#include "requant/ops.h"

enum { MOVE_FROM = 1024, ALIGN = 4096, STAGE = 65536 };

/* ---- packing into a file ---- */

typedef struct sink {
    ProtobufCBuffer base;
    rq_file *file;
    size_t n;
    rq_status st;
    rq_err *err;
    uint8_t stage[STAGE];
} sink;

static void sink_flush(sink *s)
{
    if (!s->st && s->n)
        s->st = rq_file_write(s->file, s->stage, s->n, s->err);
    s->n = 0;
}

static void sink_append(ProtobufCBuffer *buffer, size_t n, const uint8_t *data)
{
    sink *s = (sink *)buffer;
    if (n > STAGE - s->n)
        sink_flush(s);
    if (n > STAGE) {
        if (!s->st)
            s->st = rq_file_write(s->file, data, n, s->err);
    } else if (n) {
        memcpy(s->stage + s->n, data, n);
        s->n += n;
    }
}

static rq_status pack(rq_file *file, const Onnx__ModelProto *m, rq_err *err)
{
    sink *s = rq_mem_alloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->base.append = sink_append;
    s->file = file;
    s->n = 0;
    s->st = RQ_OK;
    s->err = err;
    protobuf_c_message_pack_to_buffer(&m->base, &s->base);
    sink_flush(s);
    rq_status st = s->st;
    rq_mem_free(s);
    return st;
}

/* ---- external data ---- */

static rq_status put_entry(Onnx__StringStringEntryProto *e, rq_arena *a, const char *key, const char *value)
{
    onnx__string_string_entry_proto__init(e);
    char *kept = rq_arena_strndup(a, value, strlen(value));
    e->has_key = e->has_value = true;
    e->key = (ProtobufCBinaryData) { .data = (uint8_t *)key, .len = strlen(key) };
    e->value = (ProtobufCBinaryData) { .data = (uint8_t *)kept, .len = strlen(value) };
    return kept ? RQ_OK : RQ_NO_MEMORY;
}

static rq_status move_tensor(Onnx__TensorProto *t, rq_file *file, uint64_t *at, const char *name, rq_arena *a,
                             rq_err *err)
{
    static const uint8_t zeros[ALIGN];
    char number[24];
    const size_t gap = (size_t)(-*at & (ALIGN - 1));
    Onnx__StringStringEntryProto *e = rq_arena_alloc(a, 3, sizeof *e);
    t->external_data = rq_arena_alloc(a, 3, sizeof *t->external_data);
    if (!e || !t->external_data)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_file_write(file, zeros, gap, err));
    RQ_TRY(rq_file_write(file, t->raw_data.data, t->raw_data.len, err));
    RQ_TRY(put_entry(&e[0], a, "location", name));
    snprintf(number, sizeof number, "%" PRIu64, *at + gap);
    RQ_TRY(put_entry(&e[1], a, "offset", number));
    snprintf(number, sizeof number, "%zu", t->raw_data.len);
    RQ_TRY(put_entry(&e[2], a, "length", number));
    for (int i = 0; i < 3; i++)
        t->external_data[i] = &e[i];
    t->n_external_data = 3;
    t->has_data_location = true;
    t->data_location = 1;
    *at += gap + t->raw_data.len;
    t->has_raw_data = false;
    t->raw_data = (ProtobufCBinaryData) { 0 };
    return RQ_OK;
}

static rq_status move_tensors(Onnx__GraphProto *g, rq_file *file, const char *name, rq_arena *a, rq_err *err)
{
    uint64_t at = 0;
    for (size_t i = 0; i < g->n_initializer; i++)
        if (g->initializer[i]->has_raw_data && g->initializer[i]->raw_data.len >= MOVE_FROM)
            RQ_TRY(move_tensor(g->initializer[i], file, &at, name, a, err));
    return RQ_OK;
}

/* ---- writing ---- */

static rq_status write_messages(Onnx__ModelProto *m, const char *path, size_t most, rq_arena *a, rq_err *err)
{
    rq_file file = { .fd = -1 }, data = { .fd = -1 };
    rq_status st = RQ_OK;
    if (protobuf_c_message_get_packed_size(&m->base) > most) {
        char *data_path = rq_arena_alloc(a, strlen(path) + 6, 1);
        if (!data_path)
            return RQ_NO_MEMORY;
        sprintf(data_path, "%s.data", path);
        const char *slash = strrchr(data_path, '/');
        struct stat link;
        if (!lstat(data_path, &link) && S_ISLNK(link.st_mode)) /* a link would be followed, and never read back */
            return rq_fail(err, RQ_IO, "its weights would go to '%s', which is a symbolic link", data_path);
        st = rq_file_create(&data, data_path, err);
        if (!st)
            st = move_tensors(m->graph, &data, slash ? slash + 1 : data_path, a, err);
        size_t size = protobuf_c_message_get_packed_size(&m->base);
        if (!st && size > RQ_PROTOBUF_MAX_SIZE)
            st = rq_fail(
                err, RQ_UNSUPPORTED,
                "the model takes %zu bytes even with its weights in a file of their own; a protobuf message has "
                "at most 2147483647",
                size);
    }
    if (!st)
        st = rq_file_create(&file, path, err);
    if (!st)
        st = pack(&file, m, err);
    if (!st && data.tmp)
        st = rq_file_commit(&data, err);
    if (!st)
        st = rq_file_commit(&file, err);
    rq_file_abandon(&file);
    rq_file_abandon(&data);
    return st;
}

static bool is_annotated(const rq_graph *g)
{
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind != RQ_VALUE_DEAD && g->values[i].quant != RQ_NONE)
            return true;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; g->nodes[i].op && k < g->nodes[i].n_attr; k++) {
            const rq_attr *a = &g->nodes[i].attr[k];
            for (int j = 0; j < rq_attr_bodies(a); j++)
                if (is_annotated(a->g[j]))
                    return true;
        }
    return false;
}

/* Opset `want` (0: any) before annotations are written, and still after. */
static rq_status reach_opset(rq_graph *g, int64_t want, bool after, rq_err *err)
{
    const int64_t is = rq_graph_opset(g, "");
    if (want && !after)
        return is < want ? rq_upgrade(g, want, err) : rq_downgrade(g, want, err);
    if (want && is != want)
        return rq_fail(err, RQ_UNSUPPORTED,
                       "opset %lld cannot be written: scales per channel need opset 13, codes of 16 or 4 bits and "
                       "blocks 21; these need opset %lld (--per-tensor does with 10)",
                       (long long)want, (long long)is);
    return RQ_OK;
}

/* Annotations are our own; ONNX says the same with QuantizeLinear and DequantizeLinear, or with integer operators. */
static rq_status lower(rq_graph **out, const rq_graph *g, const rq_save_cfg *cfg, rq_err *err)
{
    RQ_TRY(rq_graph_copy(out, g));
    rq_ops_bind(*out);
    rq_status st = cfg->spelling == RQ_SPELLING_KEEP || is_annotated(g) ? RQ_OK : rq_raise(*out, NULL, err);
    if (!st)
        st = reach_opset(*out, cfg->opset, false, err);
    if (!st)
        st = cfg->spelling == RQ_SPELLING_QOPERATOR ? rq_lower_qoperator(*out, err) : rq_lower_qdq(*out, err);
    if (!st && !(cfg->opset && cfg->opset < RQ_WIDEN_OPSET)) /* else Casts stay at the borders, and f32 between */
        st = rq_narrow(*out, err);
    if (!st)
        st = reach_opset(*out, cfg->opset, true, err);
    if (!st) {
        (*out)->producer = "requant";
        (*out)->producer_version = rq_graph_str(*out, rq_version());
        if (!(*out)->producer_version)
            st = RQ_NO_MEMORY;
    }
    if (st)
        rq_graph_destroy(*out);
    return st;
}

rq_status rq_onnx_write_split(const rq_graph *g, const char *path, const rq_save_cfg *cfg, size_t most, rq_err *err)
{
    rq_graph *lowered = NULL;
    const bool other = cfg->spelling != RQ_SPELLING_KEEP && rq_graph_is_quantized(g);
    if (is_annotated(g) || g->real || other || (cfg->opset && cfg->opset != rq_graph_opset(g, "")))
        RQ_TRY(lower(&lowered, g, cfg, err));
    rq_arena a = { 0 };
    Onnx__ModelProto *m;
    rq_status st = rq_onnx_build(&m, lowered ? lowered : g, &a, err);
    if (!st)
        st = write_messages(m, path, most, &a, err);
    rq_arena_release(&a);
    rq_graph_destroy(lowered);
    return st;
}

rq_status rq_onnx_write(const rq_graph *g, const char *path, const rq_save_cfg *cfg, rq_err *err)
{
    return rq_onnx_write_split(g, path, cfg, RQ_PROTOBUF_MAX_SIZE, err);
}

/* ---- the row ---- */

/* There is no magic number: the first field must be one that ModelProto has. Its wire type is the scan's to judge. */
static bool sniff(const uint8_t *p, size_t n)
{
    static const char ids[] = { 1, 2, 3, 4, 5, 6, 7, 8, 14 };
    if (n >= 2 && p[0] & 0x80) /* a tag of two bytes: field 16 to 31 */
        return p[1] == 1;
    return n >= 1 && memchr(ids, p[0] >> 3, sizeof ids);
}

extern const rq_format rq_format_onnx;
const rq_format rq_format_onnx = {
    .name = "onnx",
    .suffix = ".onnx",
    .sniff = sniff,
    .read = rq_onnx_read,
    .write = rq_onnx_write,
};
