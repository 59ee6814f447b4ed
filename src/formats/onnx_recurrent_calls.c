/* formats/onnx_recurrent_calls.c — which functions nodes of ours call (onnx_recurrent.c): written, nodes that differ call different overloads; read, a call is ours
 * when the function is the one that we would write for it. Any other of that name is one like all others, and is put in the place of its call. */
#include <stdio.h>
#include <string.h>

#include "formats/onnx.h"

static rq_status pack(ProtobufCBinaryData *out, Onnx__FunctionProto *f, rq_arena *a)
{
    const ProtobufCBinaryData overload = f->overload;
    const bool has = f->has_overload;
    f->has_overload = false;
    out->len = onnx__function_proto__get_packed_size(f);
    out->data = rq_arena_alloc(a, out->len + 1, 1);
    if (out->data)
        onnx__function_proto__pack(f, out->data);
    f->overload = overload;
    f->has_overload = has;
    return out->data ? RQ_OK : RQ_NO_MEMORY;
}

static bool is_same(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
    return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

rq_status rq_onnx_recurrent_ours(bool *ours, const Onnx__NodeProto *call, Onnx__FunctionProto *f)
{
    rq_arena a = { 0 };
    ProtobufCBinaryData there, here;
    Onnx__FunctionProto *own;
    *ours = false;
    if (!rq_onnx_recurrent_is(call) || f->n_opset_import != 1 || f->opset_import[0]->domain.len)
        return RQ_OK;
    rq_status st = rq_onnx_recurrent_spell(&own, call, f->opset_import[0]->version, &a);
    if (!st)
        st = pack(&there, f, &a);
    if (!st)
        st = pack(&here, own, &a);
    if (!st)
        *ours = is_same(&there, &here);
    rq_arena_release(&a);
    return st == RQ_BAD_GRAPH ? RQ_OK : st;
}

/* ---- writing ---- */

typedef struct functions {
    Onnx__ModelProto *m;
    rq_arena *a;
    int64_t opset;
    ProtobufCBinaryData *packed; /* [m->n_functions] */
    size_t cap;
} functions;

static rq_status add_function(functions *x, Onnx__FunctionProto *f, const ProtobufCBinaryData *packed)
{
    Onnx__ModelProto *m = x->m;
    if (m->n_functions == x->cap) {
        const size_t cap = x->cap ? 2 * x->cap : 4;
        Onnx__FunctionProto **list = rq_arena_alloc(x->a, cap, sizeof(Onnx__FunctionProto *));
        ProtobufCBinaryData *more = rq_arena_alloc(x->a, cap, sizeof *more);
        if (!list || !more)
            return RQ_NO_MEMORY;
        if (x->cap) {
            memcpy(list, m->functions, x->cap * sizeof(Onnx__FunctionProto *));
            memcpy(more, x->packed, x->cap * sizeof *more);
        }
        m->functions = list;
        x->packed = more;
        x->cap = cap;
    }
    x->packed[m->n_functions] = *packed;
    m->functions[m->n_functions++] = f;
    return RQ_OK;
}

/* The function of a node: one that is there already, or a new one. The first of a name has no overload, which files of old versions cannot say. */
static rq_status give_function(functions *x, Onnx__NodeProto *n)
{
    Onnx__FunctionProto *f;
    ProtobufCBinaryData packed;
    size_t i = 0, same_name = 0;
    const rq_status st = rq_onnx_recurrent_spell(&f, n, x->opset, x->a);
    if (st == RQ_BAD_GRAPH) /* a node that nobody could run */
        return RQ_OK;
    RQ_TRY(st);
    RQ_TRY(pack(&packed, f, x->a));
    for (; x->packed && i < x->m->n_functions && !is_same(&packed, &x->packed[i]); i++)
        same_name += is_same(&f->name, &x->m->functions[i]->name);
    if (i == x->m->n_functions) {
        if (same_name) {
            char number[24];
            const int length = snprintf(number, sizeof number, "%zu", same_name + 1);
            f->overload.data = (uint8_t *)rq_arena_strndup(x->a, number, (size_t)length);
            f->overload.len = (size_t)length;
            f->has_overload = true;
            if (!f->overload.data)
                return RQ_NO_MEMORY;
        }
        RQ_TRY(add_function(x, f, &packed));
    }
    n->overload = x->m->functions[i]->overload;
    n->has_overload = x->m->functions[i]->has_overload;
    return RQ_OK;
}

static rq_status give_functions(functions *x, const Onnx__GraphProto *g)
{
    for (size_t i = 0; i < g->n_node; i++) {
        Onnx__NodeProto *n = g->node[i];
        if (rq_onnx_recurrent_is(n))
            RQ_TRY(give_function(x, n));
        for (size_t k = 0; k < n->n_attribute; k++) {
            if (n->attribute[k]->g)
                RQ_TRY(give_functions(x, n->attribute[k]->g));
            for (size_t j = 0; j < n->attribute[k]->n_graphs; j++)
                RQ_TRY(give_functions(x, n->attribute[k]->graphs[j]));
        }
    }
    return RQ_OK;
}

rq_status rq_onnx_recurrent_write(Onnx__ModelProto *m, int64_t opset, rq_arena *a, int64_t *ir)
{
    enum { FUNCTIONS = 8, OVERLOADS = 10 }; /* the IR versions that have them */
    functions x = { .m = m, .a = a, .opset = opset };
    RQ_TRY(give_functions(&x, m->graph));
    *ir = 0;
    for (size_t i = 0; i < m->n_functions; i++) {
        const int64_t needs = m->functions[i]->has_overload ? OVERLOADS : FUNCTIONS;
        *ir = needs > *ir ? needs : *ir;
    }
    return RQ_OK;
}
