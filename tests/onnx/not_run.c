/* not_run.c — which cases are not run, by operator or by the types of the model's inputs and outputs, and why. Never by
 * name. */
#include "onnx_tests.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "formats/onnx.h"
#include "ops/op.h"

#define TEXT "strings: text is prepared before a network, not in it"
#define TRAINING "training: ai.onnx.preview.training steps an optimizer"
#define TREES "ai.onnx.ml: trees and feature tables, no network"
#define IMAGES "decodes compressed image files"

static const struct reason {
    const char *domain, *op, *reason; /* op NULL: the whole domain */
} reasons[] = {
    { "", "ImageDecoder", IMAGES },
    { "", "RegexFullMatch", TEXT },
    { "", "StringConcat", TEXT },
    { "", "StringNormalizer", TEXT },
    { "", "StringSplit", TEXT },
    { "", "TfIdfVectorizer", TEXT },
    { "ai.onnx.ml", NULL, TREES },
    { "ai.onnx.preview.training", NULL, TRAINING },
    { "ai.onnx.preview", NULL, "preview: its meaning may still change" },
};

#define NO_ROW "no row (lists run where their members are known)"
#define TYPES "an input or output is a sequence, optional or map: sessions carry tensors"
#define TO_TEXT "makes strings: text is prepared before a network, not in it"

static bool is_tensor(const Onnx__ValueInfoProto *v)
{
    return !v->type || v->type->tensor_type;
}

static bool is_text(const Onnx__ValueInfoProto *v)
{
    return v->type && v->type->tensor_type && rq_onnx_dtype(v->type->tensor_type->elem_type) == RQ_DTYPE_STRING;
}

/* What the types of the model's inputs and outputs rule out. */
static const char *reason_of_types(const char *path)
{
    rq_map map;
    rq_protobuf_mem mem = { 0 };
    ProtobufCMessage *m;
    const char *why = NULL;
    if (rq_file_map(&map, path, NULL))
        return NULL;
    if (!rq_protobuf_parse(&m, &mem, &onnx__model_proto__descriptor, map.data, map.size, NULL)) {
        const Onnx__GraphProto *g = ((Onnx__ModelProto *)m)->graph;
        for (size_t i = 0; g && i < g->n_input; i++)
            why = is_tensor(g->input[i]) ? why : TYPES;
        for (size_t i = 0; g && i < g->n_output; i++)
            why = !is_tensor(g->output[i]) ? TYPES : is_text(g->output[i]) ? TO_TEXT : why;
    }
    rq_protobuf_mem_release(&mem);
    rq_file_unmap(&map);
    return why;
}

static const char *reason_of(const char *domain, const char *op)
{
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (!strcmp(reasons[i].domain, domain) && (!reasons[i].op || !strcmp(reasons[i].op, op)))
            return reasons[i].reason;
    const rq_op *row = rq_op_find(domain, op);
    return row && row->forward ? NULL : NO_ROW;
}

typedef struct walk {
    onnx_look *look;
    int n;
} walk;

/* The case is counted under the operator with a reason, else under its only node's. */
static bool one(void *arg, const char *domain, const char *op)
{
    walk *w = arg;
    const char *why = reason_of(domain, op);
    if (w->look->reason)
        return false;
    w->look->reason = why;
    if (!w->n++ || why)
        snprintf(w->look->op, sizeof w->look->op, "%.62s", op);
    else
        snprintf(w->look->op, sizeof w->look->op, "(several)");
    return true;
}

/* What has no row may still be rewritten: lists of tensors are, where their members are known. */
static bool session_takes(const char *path)
{
    rq_graph *g = NULL;
    rq_session *s = NULL;
    const bool taken = !rq_load(&g, path, NULL) &&
                       rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, NULL) != RQ_UNSUPPORTED;
    rq_session_destroy(s);
    rq_graph_destroy(g);
    return taken;
}

onnx_look onnx_look_at(const char *path)
{
    onnx_look look = { "?", NULL };
    walk w = { &look, 0 };
    golden_scan_ops(path, one, &w);
    if (look.reason && !strcmp(look.reason, NO_ROW) && session_takes(path))
        look.reason = NULL;
    if (!look.reason)
        look.reason = reason_of_types(path);
    return look;
}

const char *onnx_stale_reason(void)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        const rq_op *row = reasons[i].op ? rq_op_find(reasons[i].domain, reasons[i].op) : NULL;
        if (row && row->forward)
            return reasons[i].op;
    }
    return NULL;
}
