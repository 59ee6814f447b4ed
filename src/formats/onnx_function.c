/* formats/onnx_function.c — calls of model-local functions replaced by their bodies, before the graph is read. A function that spells out an operator of ours
 * (onnx_recurrent.c) is that operator.
 *
 * A body is copied node by node with every name rewritten: a formal input or output to the caller's value, any other
 * name (in the graphs inside the body, too) to one with the call's own prefix, so that consistent renaming is all
 * that is needed. Copies share what does not change, and come out of the parsed file's memory with its limit: a few
 * functions that call each other twice cannot grow without bound. Calls and graphs nest at most MAX_NEST deep. */
#include "formats/onnx.h"
#include "ops/upgrade.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NEST = 64 };

typedef ProtobufCBinaryData text;

typedef struct inliner {
    rq_protobuf_mem *m;
    Onnx__FunctionProto **f; /* sorted by identity */
    size_t n;
    uint8_t *state; /* of each function: 0 not seen, 1 being looked at, 2 without recursion */
    uint64_t calls;
    int64_t opset; /* of the standard domain, as the model imports it */
    rq_err *err;
} inliner;

/* The call whose body is being copied; NULL: the main graph, where names stay. */
typedef struct scope {
    const Onnx__FunctionProto *f;
    const Onnx__NodeProto *call;
    text prefix;
} scope;

typedef struct node_list {
    Onnx__NodeProto **node;
    size_t n, cap;
} node_list;

static int compare_text(const text *a, const text *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = n ? memcmp(a->data, b->data, n) : 0;
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int compare_id(const text *domain, const text *name, const text *overload, const Onnx__FunctionProto *f)
{
    int c = compare_text(name, &f->name);
    c = c ? c : compare_text(domain, &f->domain);
    return c ? c : compare_text(overload, &f->overload);
}

static int compare_functions(const void *a, const void *b)
{
    const Onnx__FunctionProto *f = *(Onnx__FunctionProto *const *)a;
    return compare_id(&f->domain, &f->name, &f->overload, *(Onnx__FunctionProto *const *)b);
}

/* The function a node calls, or -1. */
static int64_t find_function(const inliner *x, const Onnx__NodeProto *n)
{
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_id(&n->domain, &n->op_type, &n->overload, x->f[mid]);
        if (!c)
            return (int64_t)mid;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return -1;
}

static rq_status fail_memory(const inliner *x)
{
    if (!x->m->over)
        return RQ_NO_MEMORY;
    return rq_fail(x->err, RQ_BAD_FILE, "its functions grow beyond %zu bytes when their calls are replaced",
                   x->m->limit);
}

/* ---- recursion ---- */

static rq_status check_nodes(inliner *x, Onnx__NodeProto **node, size_t n, int nest);

static rq_status check_function(inliner *x, int64_t i, int nest)
{
    if (x->state[i] == 2)
        return RQ_OK;
    if (x->state[i] == 1)
        return rq_fail(x->err, RQ_BAD_FILE, "function '%.*s' calls itself", (int)x->f[i]->name.len,
                       (char *)x->f[i]->name.data);
    x->state[i] = 1;
    RQ_TRY(check_nodes(x, x->f[i]->node, x->f[i]->n_node, nest));
    x->state[i] = 2;
    return RQ_OK;
}

static rq_status check_nodes(inliner *x, Onnx__NodeProto **node, size_t n, int nest)
{
    if (nest > MAX_NEST)
        return rq_fail(x->err, RQ_BAD_FILE, "functions and graphs are nested more than %d deep", MAX_NEST);
    for (size_t i = 0; i < n; i++) {
        int64_t f = find_function(x, node[i]);
        if (f >= 0)
            RQ_TRY(check_function(x, f, nest + 1));
        for (size_t k = 0; k < node[i]->n_attribute; k++) {
            const Onnx__AttributeProto *a = node[i]->attribute[k];
            if (a->g)
                RQ_TRY(check_nodes(x, a->g->node, a->g->n_node, nest + 1));
            for (size_t j = 0; j < a->n_graphs; j++)
                RQ_TRY(check_nodes(x, a->graphs[j]->node, a->graphs[j]->n_node, nest + 1));
        }
    }
    return RQ_OK;
}

/* ---- copies ---- */

static void *copy_of(inliner *x, const void *src, size_t n, size_t size)
{
    void *p = rq_protobuf_mem_alloc(x->m, n, size);
    if (p && n)
        memcpy(p, src, n * size);
    return p;
}

static rq_status put_name(inliner *x, const scope *s, text *name)
{
    if (!s || !name->len)
        return RQ_OK;
    for (size_t i = 0; i < s->f->n_input; i++)
        if (!compare_text(name, &s->f->input[i])) {
            *name = i < s->call->n_input ? s->call->input[i] : (text) { 0 };
            return RQ_OK;
        }
    for (size_t i = 0; i < s->f->n_output; i++)
        if (!compare_text(name, &s->f->output[i]) && i < s->call->n_output && s->call->output[i].len) {
            *name = s->call->output[i];
            return RQ_OK;
        }
    uint8_t *p = rq_protobuf_mem_alloc(x->m, s->prefix.len + name->len, 1);
    if (!p)
        return fail_memory(x);
    memcpy(p, s->prefix.data, s->prefix.len);
    memcpy(p + s->prefix.len, name->data, name->len);
    *name = (text) { .data = p, .len = s->prefix.len + name->len };
    return RQ_OK;
}

static rq_status put_names(inliner *x, const scope *s, text **names, size_t n)
{
    if (!s)
        return RQ_OK;
    *names = copy_of(x, *names, n, sizeof **names);
    if (!*names)
        return fail_memory(x);
    for (size_t i = 0; i < n; i++)
        RQ_TRY(put_name(x, s, &(*names)[i]));
    return RQ_OK;
}

static rq_status expand(inliner *x, const scope *s, node_list *out, Onnx__NodeProto **node, size_t n, int nest);

static rq_status rename_infos(inliner *x, const scope *s, Onnx__ValueInfoProto ***list, size_t n)
{
    if (!s)
        return RQ_OK;
    Onnx__ValueInfoProto **own = copy_of(x, *list, n, sizeof *own);
    for (size_t i = 0; own && i < n; i++) {
        if (!(own[i] = copy_of(x, own[i], 1, sizeof **own)))
            return fail_memory(x);
        RQ_TRY(put_name(x, s, &own[i]->name));
    }
    *list = own;
    return own ? RQ_OK : fail_memory(x);
}

static rq_status copy_graph(inliner *x, const scope *s, Onnx__GraphProto **graph, int nest)
{
    Onnx__GraphProto *g = copy_of(x, *graph, 1, sizeof *g);
    if (!g)
        return fail_memory(x);
    *graph = g;
    if (s && g->n_sparse_initializer)
        return rq_fail(x->err, RQ_UNSUPPORTED, "a function holds a sparse initializer");
    RQ_TRY(rename_infos(x, s, &g->input, g->n_input));
    RQ_TRY(rename_infos(x, s, &g->output, g->n_output));
    RQ_TRY(rename_infos(x, s, &g->value_info, g->n_value_info));
    if (s && g->n_initializer) {
        Onnx__TensorProto **own = copy_of(x, g->initializer, g->n_initializer, sizeof *own);
        for (size_t i = 0; own && i < g->n_initializer; i++) {
            if (!(own[i] = copy_of(x, own[i], 1, sizeof **own)))
                return fail_memory(x);
            RQ_TRY(put_name(x, s, &own[i]->name));
        }
        if (!(g->initializer = own))
            return fail_memory(x);
    }
    node_list list = { 0 };
    RQ_TRY(expand(x, s, &list, g->node, g->n_node, nest + 1));
    g->node = list.node;
    g->n_node = list.n;
    return RQ_OK;
}

static const Onnx__AttributeProto *find_attr(Onnx__AttributeProto *const *a, size_t n, const text *name)
{
    for (size_t i = 0; i < n; i++)
        if (!compare_text(&a[i]->name, name))
            return a[i];
    return NULL;
}

/* *a becomes a copy that fits the scope; NULL when it stands for an attribute that the call does not give. */
static rq_status copy_attr(inliner *x, const scope *s, Onnx__AttributeProto **a, int nest)
{
    const Onnx__AttributeProto *src = *a;
    const bool is_ref = s && src->ref_attr_name.len;
    if (is_ref) {
        src = find_attr(s->call->attribute, s->call->n_attribute, &(*a)->ref_attr_name);
        if (!src)
            src = find_attr(s->f->attribute_proto, s->f->n_attribute_proto, &(*a)->ref_attr_name);
        if (!src) {
            *a = NULL;
            return RQ_OK;
        }
    }
    Onnx__AttributeProto *own = copy_of(x, src, 1, sizeof *own);
    if (!own)
        return fail_memory(x);
    own->name = (*a)->name;
    own->ref_attr_name = (text) { 0 };
    *a = own;
    if (is_ref)
        return RQ_OK; /* the caller's own, names and all */
    if (own->g)
        RQ_TRY(copy_graph(x, s, &own->g, nest));
    if (own->n_graphs && !(own->graphs = copy_of(x, own->graphs, own->n_graphs, sizeof *own->graphs)))
        return fail_memory(x);
    for (size_t i = 0; i < own->n_graphs; i++)
        RQ_TRY(copy_graph(x, s, &own->graphs[i], nest));
    return RQ_OK;
}

static bool is_standard(const text *domain)
{
    static const text standard = { .data = (uint8_t *)"ai.onnx", .len = 7 };
    return !domain->len || !compare_text(domain, &standard);
}

/* Version of the standard domain that the function imports; 0: none. */
static int64_t standard_version(const Onnx__FunctionProto *f)
{
    for (size_t i = 0; i < f->n_opset_import; i++)
        if (is_standard(&f->opset_import[i]->domain))
            return f->opset_import[i]->version;
    return 0;
}

/* A node of a body written for another opset says so in its domain; rq_upgrade_mixed settles it. */
static rq_status tag_node(inliner *x, const scope *s, Onnx__NodeProto *n)
{
    const int64_t version = s ? standard_version(s->f) : 0;
    static const text constant = { .data = (uint8_t *)"Constant", .len = 8 }; /* the same in all */
    if (!version || version == x->opset || !is_standard(&n->domain) || !compare_text(&n->op_type, &constant))
        return RQ_OK;
    char *tag = rq_protobuf_mem_alloc(x->m, sizeof RQ_UPGRADE_TAG + 24, 1);
    if (!tag)
        return fail_memory(x);
    n->domain.len = (size_t)sprintf(tag, RQ_UPGRADE_TAG "%" PRId64, version);
    n->domain.data = (uint8_t *)tag;
    return RQ_OK;
}

static rq_status copy_node(inliner *x, const scope *s, Onnx__NodeProto **node, int nest)
{
    Onnx__NodeProto *n = copy_of(x, *node, 1, sizeof *n);
    if (!n)
        return fail_memory(x);
    *node = n;
    RQ_TRY(tag_node(x, s, n));
    RQ_TRY(put_names(x, s, &n->input, n->n_input));
    RQ_TRY(put_names(x, s, &n->output, n->n_output));
    RQ_TRY(put_name(x, s, &n->name));
    Onnx__AttributeProto **list = copy_of(x, n->attribute, n->n_attribute, sizeof *list);
    if (!list)
        return fail_memory(x);
    size_t kept = 0;
    for (size_t i = 0; i < n->n_attribute; i++) {
        Onnx__AttributeProto *a = list[i];
        RQ_TRY(copy_attr(x, s, &a, nest));
        if (a)
            list[kept++] = a;
    }
    n->attribute = list;
    n->n_attribute = kept;
    return RQ_OK;
}

static rq_status append(inliner *x, node_list *out, Onnx__NodeProto *n)
{
    if (out->n == out->cap) {
        size_t cap = out->cap ? 2 * out->cap : 16;
        Onnx__NodeProto **more = rq_protobuf_mem_alloc(x->m, cap, sizeof *more);
        if (!more)
            return fail_memory(x);
        if (out->n)
            memcpy(more, out->node, out->n * sizeof *more);
        out->node = more;
        out->cap = cap;
    }
    out->node[out->n++] = n;
    return RQ_OK;
}

/* A formal output that is a formal input has no node that makes it. */
static rq_status pass_through(inliner *x, const scope *s, node_list *out)
{
    for (size_t i = 0; i < s->f->n_output && i < s->call->n_output; i++)
        for (size_t k = 0; k < s->f->n_input; k++) {
            if (compare_text(&s->f->output[i], &s->f->input[k]) || !s->call->output[i].len)
                continue;
            Onnx__NodeProto *n = rq_protobuf_mem_alloc(x->m, 1, sizeof *n);
            text *names = rq_protobuf_mem_alloc(x->m, 2, sizeof *names);
            if (!n || !names)
                return fail_memory(x);
            onnx__node_proto__init(n);
            names[0] = k < s->call->n_input ? s->call->input[k] : (text) { 0 };
            names[1] = s->call->output[i];
            n->input = names;
            n->output = names + 1;
            n->n_input = n->n_output = 1;
            n->op_type = (text) { .data = (uint8_t *)"Identity", .len = 8 };
            RQ_TRY(append(x, out, n));
        }
    return RQ_OK;
}

static rq_status expand_call(inliner *x, const Onnx__FunctionProto *f, const Onnx__NodeProto *call, node_list *out,
                             int nest)
{
    if (call->n_input > f->n_input || call->n_output > f->n_output)
        return rq_fail(x->err, RQ_BAD_FILE,
                       "a call of function '%.*s' has %zu inputs and %zu outputs; it takes %zu and %zu",
                       (int)f->name.len, (char *)f->name.data, call->n_input, call->n_output, f->n_input, f->n_output);
    const text *label = call->name.len ? &call->name : &f->name;
    const size_t most = label->len + 24;
    char *prefix = rq_protobuf_mem_alloc(x->m, most, 1);
    if (!prefix)
        return fail_memory(x);
    int n = snprintf(prefix, most, "%.*s_%" PRIu64 "/", (int)label->len, (char *)label->data, x->calls++);
    const scope s = { .f = f, .call = call, .prefix = { .data = (uint8_t *)prefix, .len = (size_t)n } };
    RQ_TRY(expand(x, &s, out, f->node, f->n_node, nest + 1));
    return pass_through(x, &s, out);
}

static rq_status expand(inliner *x, const scope *s, node_list *out, Onnx__NodeProto **node, size_t n, int nest)
{
    if (nest > MAX_NEST)
        return rq_fail(x->err, RQ_BAD_FILE, "functions and graphs are nested more than %d deep", MAX_NEST);
    for (size_t i = 0; i < n; i++) {
        Onnx__NodeProto *own = node[i];
        RQ_TRY(copy_node(x, s, &own, nest));
        int64_t f = find_function(x, own);
        bool ours = false;
        if (f >= 0)
            RQ_TRY(rq_onnx_recurrent_ours(&ours, own, x->f[f]));
        if (ours) /* the operator itself, which has no overloads */
            own->overload = (text) { 0 };
        if (f < 0 || ours)
            RQ_TRY(append(x, out, own));
        else
            RQ_TRY(expand_call(x, x->f[f], own, out, nest));
    }
    return RQ_OK;
}

/* ---- opsets ---- */

static bool same_domain(const text *a, const text *b)
{
    const bool a0 = is_standard(a), b0 = is_standard(b);
    return a0 || b0 ? a0 && b0 : !compare_text(a, b);
}

/* What the body imports, the model must import in the same version, but for the standard domain, whose nodes are brought to
 * the newest of all; a domain that it lacks is added. */
static rq_status merge_opsets(inliner *x, Onnx__ModelProto *model, const Onnx__FunctionProto *f)
{
    for (size_t i = 0; i < f->n_opset_import; i++) {
        Onnx__OperatorSetIdProto *want = f->opset_import[i];
        size_t k = 0;
        while (k < model->n_opset_import && !same_domain(&model->opset_import[k]->domain, &want->domain))
            k++;
        if (k < model->n_opset_import) {
            if (model->opset_import[k]->version != want->version && !is_standard(&want->domain))
                return rq_fail(
                    x->err, RQ_UNSUPPORTED, "function '%.*s' is for version %lld of '%.*s', the model imports %lld",
                    (int)f->name.len, (char *)f->name.data, (long long)want->version, (int)want->domain.len,
                    want->domain.len ? (char *)want->domain.data : "", (long long)model->opset_import[k]->version);
            continue;
        }
        Onnx__OperatorSetIdProto **more = rq_protobuf_mem_alloc(x->m, k + 1, sizeof *more);
        if (!more)
            return fail_memory(x);
        if (k)
            memcpy(more, model->opset_import, k * sizeof *more);
        more[k] = want;
        model->opset_import = more;
        model->n_opset_import = k + 1;
    }
    return RQ_OK;
}

rq_status rq_onnx_inline(Onnx__ModelProto *model, rq_protobuf_mem *m, rq_err *err)
{
    if (!model->n_functions)
        return RQ_OK;
    inliner x = { .m = m, .n = model->n_functions, .f = model->functions, .err = err };
    m->limit += (size_t)64 << 20;
    x.state = rq_protobuf_mem_alloc(m, x.n, 1);
    if (!x.state)
        return fail_memory(&x);
    qsort(x.f, x.n, sizeof(Onnx__FunctionProto *), compare_functions);
    for (size_t i = 0; i < x.n; i++) {
        if (i && !compare_functions(&x.f[i - 1], &x.f[i]))
            return rq_fail(err, RQ_BAD_FILE, "function '%.*s' is defined twice", (int)x.f[i]->name.len,
                           (char *)x.f[i]->name.data);
        RQ_TRY(check_function(&x, (int64_t)i, 1));
        RQ_TRY(merge_opsets(&x, model, x.f[i]));
    }
    for (size_t i = 0; i < model->n_opset_import; i++)
        if (is_standard(&model->opset_import[i]->domain))
            x.opset = model->opset_import[i]->version;
    node_list list = { 0 };
    RQ_TRY(expand(&x, NULL, &list, model->graph->node, model->graph->n_node, 1));
    model->graph->node = list.node;
    model->graph->n_node = list.n;
    return RQ_OK;
}
