/* formats/onnx_read.c — messages to the graph.
 *
 * A graph is read in the order that lets names be resolved in one pass each: inputs, initializers, then every output
 * of every node as a value without a producer, then types, and only then the nodes, which may stand in any order in the
 * file. A name that the graph itself does not define is looked for in the graphs around it, and captured by each graph
 * on the way. What the graph has no place for goes to `extra` (onnx.h), so that writing gives it back. */
#include "formats/onnx.h"

#include <string.h>

#include "ops/upgrade.h"

/* ---- extra ---- */

static void kept_unref(rq_onnx_kept *k)
{
    if (atomic_fetch_sub(&k->refs, 1) > 1)
        return;
    rq_arena a = k->arena;
    rq_arena_release(&a);
    rq_mem_free(k);
}

static void extra_ref(void *extra)
{
    atomic_fetch_add(&((rq_onnx_graph_extra *)extra)->kept->refs, 1);
}

static void extra_unref(void *extra)
{
    kept_unref(((rq_onnx_graph_extra *)extra)->kept);
}

static rq_onnx_graph_extra *graph_extra(rq_onnx_reader *r, rq_graph *g)
{
    if (g->extra)
        return g->extra;
    rq_onnx_graph_extra *x = rq_arena_alloc(&r->src.kept->arena, 1, sizeof *x);
    if (!x)
        return NULL;
    x->kept = r->src.kept;
    g->extra = x;
    g->extra_ref = extra_ref;
    g->extra_unref = extra_unref;
    extra_ref(x);
    return x;
}

static rq_onnx_value_extra *value_extra(rq_onnx_reader *r, rq_graph *g, rq_id v)
{
    if (!g->values[v].extra)
        g->values[v].extra = rq_arena_alloc(&r->src.kept->arena, 1, sizeof(rq_onnx_value_extra));
    return (rq_onnx_value_extra *)g->values[v].extra;
}

static const char *kept_string(rq_onnx_reader *r, const ProtobufCBinaryData *b)
{
    return rq_arena_strndup(&r->src.kept->arena, b->len ? (char *)b->data : "", b->len);
}

/* ---- types ---- */

/* "?" is what some exporters call every size they do not know: two of them need not be equal. */
static bool names_a_size(const ProtobufCBinaryData *b)
{
    return b->len && !(b->len == 1 && b->data[0] == '?');
}

/* Does the type say more than an element type, known sizes, names and unknown sizes? */
static bool type_is_odd(const Onnx__TypeProto *t)
{
    const Onnx__TensorTypeProto *tensor = t->tensor_type;
    if (t->base.n_unknown_fields || !tensor || tensor->base.n_unknown_fields || !tensor->elem_type)
        return true;
    const Onnx__TensorShapeProto *s = tensor->shape;
    if (!s)
        return false;
    if (s->base.n_unknown_fields || s->n_dim > RQ_MAX_RANK)
        return true;
    for (size_t i = 0; i < s->n_dim; i++) {
        const Onnx__DimensionProto *d = s->dim[i];
        if (d->base.n_unknown_fields || (d->has_dim_value && d->dim_value <= 0) ||
            (d->has_dim_value && d->has_dim_param) || (d->has_dim_param && !names_a_size(&d->dim_param)))
            return true;
    }
    return false;
}

/* -1 and 0 are what some exporters write for a size they do not know. */
static rq_status read_dim(int64_t *out, rq_graph *g, const Onnx__DimensionProto *d, rq_err *err)
{
    *out = RQ_DIM_UNKNOWN;
    if (d->has_dim_param && names_a_size(&d->dim_param)) {
        const char *name;
        RQ_TRY(rq_onnx_string(&name, g, &d->dim_param, "the name of an axis", err));
        *out = rq_graph_symbol(g, name);
        return *out == RQ_DIM_UNKNOWN ? RQ_NO_MEMORY : RQ_OK;
    }
    if (d->has_dim_value && d->dim_value > 0)
        *out = d->dim_value;
    return RQ_OK;
}

static rq_status read_type(rq_dtype *dtype, rq_shape *shape, rq_graph *g, const Onnx__TypeProto *t, rq_err *err)
{
    *dtype = RQ_DTYPE_NONE;
    *shape = rq_shape_unknown();
    if (!t->tensor_type)
        return RQ_OK;
    const int code = t->tensor_type->elem_type;
    *dtype = rq_onnx_dtype(code);
    if (code && *dtype == RQ_DTYPE_NONE)
        return rq_fail(err, RQ_BAD_FILE, "has element type %d, which does not exist", code);
    const Onnx__TensorShapeProto *s = t->tensor_type->shape;
    if (!s || s->n_dim > RQ_MAX_RANK)
        return RQ_OK;
    shape->rank = (int)s->n_dim;
    for (int i = 0; i < shape->rank; i++)
        RQ_TRY(read_dim(&shape->dim[i], g, s->dim[i], err));
    return RQ_OK;
}

/* Give value v the type that the file states. */
static rq_status read_value_info(rq_onnx_reader *r, rq_graph *g, rq_id v, const Onnx__ValueInfoProto *p)
{
    if (g->values[v].kind == RQ_VALUE_CONST)
        return RQ_OK; /* the tensor says it better */
    rq_onnx_value_extra *x = value_extra(r, g, v);
    if (!x)
        return RQ_NO_MEMORY;
    if (p->doc_string.len)
        RQ_TRY(rq_onnx_string(&g->values[v].doc, g, &p->doc_string, "the doc string", r->err));
    RQ_TRY(rq_protobuf_keep(&x->info, &r->src.kept->arena, &p->base));
    if (!p->type)
        return RQ_OK;
    rq_status st = read_type(&x->dtype, &x->shape, g, p->type, r->err);
    if (st)
        return st == RQ_NO_MEMORY ? st : rq_fail_in(r->err, st, "value '%s'", g->values[v].name);
    x->stated = true;
    if (type_is_odd(p->type))
        RQ_TRY(rq_protobuf_keep_message(&x->type, &r->src.kept->arena, 2, &p->type->base));
    g->values[v].dtype = x->dtype;
    g->values[v].shape = x->shape;
    return RQ_OK;
}

/* ---- values ---- */

static rq_status push(rq_id **list, int *n, int *cap, rq_id id)
{
    if (!rq_mem_grow(list, *n, cap, sizeof **list))
        return RQ_NO_MEMORY;
    (*list)[(*n)++] = id;
    return RQ_OK;
}

static rq_status read_inputs(rq_onnx_reader *r, rq_graph *g, const Onnx__GraphProto *p)
{
    for (size_t i = 0; i < p->n_input; i++) {
        const char *name;
        rq_id id;
        RQ_TRY(rq_onnx_string(&name, g, &p->input[i]->name, "the name of an input", r->err));
        if (!name[0])
            return rq_fail(r->err, RQ_BAD_FILE, "graph input %zu has no name", i);
        RQ_TRY(rq_graph_add_value(g, &id, RQ_VALUE_INPUT, name, RQ_DTYPE_NONE, NULL, r->err));
        RQ_TRY(read_value_info(r, g, id, p->input[i]));
        RQ_TRY(push(&g->inputs, &g->n_inputs, &g->cap_inputs, id));
    }
    return RQ_OK;
}

/* An input with an initializer of its name has a default. Before IR version 4 every initializer had to be listed as
 * an input, so there it is a constant. */
static rq_status add_constant(rq_onnx_reader *r, rq_graph *g, rq_id *id, const char *name, const rq_tensor *t)
{
    *id = rq_graph_find(g, name);
    if (*id == RQ_NONE)
        return rq_graph_add_const(g, id, name, t, r->err);
    rq_value *v = &g->values[*id];
    if (v->kind != RQ_VALUE_INPUT || v->constant.dtype != RQ_DTYPE_NONE)
        return rq_fail(r->err, RQ_BAD_GRAPH, "initializer '%s' is given twice", name);
    if (v->dtype != RQ_DTYPE_NONE && v->dtype != t->dtype)
        return rq_fail(r->err, RQ_BAD_GRAPH, "input '%s' is %s, its initializer is %s", name, rq_dtype_name(v->dtype),
                       rq_dtype_name(t->dtype));
    rq_tensor_share(&v->constant, t);
    if (r->ir >= 4)
        return RQ_OK;
    v->kind = RQ_VALUE_CONST;
    v->dtype = t->dtype;
    v->shape = t->shape;
    int at = 0;
    while (g->inputs[at] != *id)
        at++;
    memmove(g->inputs + at, g->inputs + at + 1, (size_t)(g->n_inputs - at - 1) * sizeof *g->inputs);
    g->n_inputs--;
    return RQ_OK;
}

static rq_status read_initializer(rq_onnx_reader *r, rq_graph *g, Onnx__TensorProto *p, Onnx__SparseTensorProto *sparse)
{
    const char *name;
    rq_tensor t;
    rq_id id;
    RQ_TRY(rq_onnx_string(&name, g, &p->name, "the name of an initializer", r->err));
    if (!name[0])
        return rq_fail(r->err, RQ_BAD_FILE, "an initializer has no name");
    rq_status st =
        sparse ? rq_onnx_sparse_read(&t, sparse, &r->src, r->err) : rq_onnx_tensor_read(&t, p, &r->src, r->err);
    if (st)
        return st == RQ_NO_MEMORY ? st : rq_fail_in(r->err, st, "initializer '%s'", name);
    st = add_constant(r, g, &id, name, &t);
    rq_tensor_release(&t);
    RQ_TRY(st);
    rq_onnx_value_extra *x = value_extra(r, g, id);
    if (!x)
        return RQ_NO_MEMORY;
    x->listed = r->ir < 4 && g->values[id].kind == RQ_VALUE_CONST;
    if (sparse) {
        x->sparse_hash = rq_onnx_tensor_hash(&g->values[id].constant);
        return rq_protobuf_keep_message(&x->sparse, &r->src.kept->arena, 15, &sparse->base);
    }
    x->tensor.doc = kept_string(r, &p->doc_string);
    return x->tensor.doc ? rq_protobuf_keep(&x->tensor.fields, &r->src.kept->arena, &p->base) : RQ_NO_MEMORY;
}

static rq_status read_initializers(rq_onnx_reader *r, rq_graph *g, const Onnx__GraphProto *p)
{
    for (size_t i = 0; i < p->n_initializer; i++)
        RQ_TRY(read_initializer(r, g, p->initializer[i], NULL));
    for (size_t i = 0; i < p->n_sparse_initializer; i++) {
        if (!p->sparse_initializer[i]->values)
            return rq_fail(r->err, RQ_BAD_FILE, "sparse initializer %zu has no values", i);
        RQ_TRY(read_initializer(r, g, p->sparse_initializer[i]->values, p->sparse_initializer[i]));
    }
    return RQ_OK;
}

/* The value called `name` as seen from g, captured from outside where needed; RQ_NONE: nobody defines it. */
static rq_status resolve(rq_onnx_reader *r, rq_graph *g, rq_id *out, const char *name)
{
    *out = rq_graph_find(g, name);
    if (*out != RQ_NONE || !g->outer)
        return RQ_OK;
    rq_id outer;
    RQ_TRY(resolve(r, g->outer, &outer, name));
    if (outer == RQ_NONE)
        return RQ_OK;
    const rq_value v = g->outer->values[outer];
    RQ_TRY(rq_graph_add_value(g, out, RQ_VALUE_CAPTURED, name, v.dtype, &v.shape, r->err));
    g->values[*out].outer = outer;
    return RQ_OK;
}

/* ---- nodes ---- */

static const char *node_text(char *buf, size_t size, const Onnx__NodeProto *p, size_t i)
{
    const int name = p->name.len < 120 ? (int)p->name.len : 120, op = p->op_type.len < 40 ? (int)p->op_type.len : 40;
    if (name)
        snprintf(buf, size, "node '%.*s' (%.*s)", name, (char *)p->name.data, op, op ? (char *)p->op_type.data : "");
    else
        snprintf(buf, size, "node %zu (%.*s)", i, op, op ? (char *)p->op_type.data : "");
    return buf;
}
enum { NODE_TEXT = 200, MAX_ATTRS = 4096 };

static rq_status define_outputs(rq_onnx_reader *r, rq_graph *g, const Onnx__GraphProto *p)
{
    char text[NODE_TEXT];
    for (size_t i = 0; i < p->n_node; i++)
        for (size_t k = 0; k < p->node[i]->n_output; k++) {
            const char *name;
            rq_id id;
            RQ_TRY(rq_onnx_string(&name, g, &p->node[i]->output[k], "an output", r->err));
            if (!name[0])
                continue;
            rq_status st = rq_graph_add_value(g, &id, RQ_VALUE_NODE, name, RQ_DTYPE_NONE, NULL, r->err);
            if (st)
                return rq_fail_in(r->err, st, "%s", node_text(text, sizeof text, p->node[i], i));
        }
    return RQ_OK;
}

static rq_status read_node_body(rq_onnx_reader *r, rq_graph *g, const Onnx__NodeProto *p)
{
    const char *op, *domain, *name;
    RQ_TRY(rq_onnx_string(&op, g, &p->op_type, "the operator", r->err));
    RQ_TRY(rq_onnx_string(&domain, g, &p->domain, "the domain", r->err));
    RQ_TRY(rq_onnx_string(&name, g, &p->name, "the name", r->err));
    if (!op[0])
        return rq_fail(r->err, RQ_BAD_FILE, "has no operator");
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    const bool tagged = !strncmp(domain, RQ_UPGRADE_TAG, strlen(RQ_UPGRADE_TAG)); /* of a function's body */
    if (!tagged && !rq_graph_opset(g, domain))
        return rq_fail(r->err, RQ_BAD_GRAPH, "is of domain '%s', of which the model imports no version",
                       domain[0] ? domain : "ai.onnx");
    if (p->n_attribute > MAX_ATTRS)
        return rq_fail(r->err, RQ_BAD_FILE, "has %zu attributes", p->n_attribute);
    rq_id *in = rq_mem_alloc(p->n_input + p->n_output + 1, sizeof *in);
    if (!in)
        return RQ_NO_MEMORY;
    rq_id *out = in + p->n_input, id;
    rq_status st = RQ_OK;
    const char *value;
    for (size_t i = 0; i < p->n_input && !st; i++) {
        st = rq_onnx_string(&value, g, &p->input[i], "an input", r->err);
        in[i] = RQ_NONE;
        if (!st && value[0])
            st = resolve(r, g, &in[i], value);
        if (!st && value[0] && in[i] == RQ_NONE)
            st = rq_fail(r->err, RQ_BAD_GRAPH, "reads '%s', which no node, input or initializer makes", value);
    }
    for (size_t i = 0; i < p->n_output && !st; i++) {
        st = rq_onnx_string(&value, g, &p->output[i], "an output", r->err);
        out[i] = st || !value[0] ? RQ_NONE : rq_graph_find(g, value);
    }
    if (!st)
        st = rq_graph_add_node(g, &id, op, domain, name, in, (int)p->n_input, out, (int)p->n_output, r->err);
    rq_mem_free(in);
    RQ_TRY(st);
    rq_protobuf_fields *x = rq_arena_alloc(&r->src.kept->arena, 1, sizeof *x);
    if (!x)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_protobuf_keep(x, &r->src.kept->arena, &p->base));
    g->nodes[id].extra = x;
    RQ_TRY(rq_onnx_string(&g->nodes[id].overload, g, &p->overload, "the overload", r->err));
    RQ_TRY(rq_onnx_string(&g->nodes[id].doc, g, &p->doc_string, "the doc string", r->err));
    for (size_t i = 0; i < p->n_attribute; i++)
        RQ_TRY(rq_onnx_attr_read(r, g, id, p->attribute[i]));
    return RQ_OK;
}

static rq_status read_nodes(rq_onnx_reader *r, rq_graph *g, const Onnx__GraphProto *p)
{
    char text[NODE_TEXT];
    for (size_t i = 0; i < p->n_node; i++) {
        rq_status st = read_node_body(r, g, p->node[i]);
        if (st)
            return st == RQ_NO_MEMORY ? st : rq_fail_in(r->err, st, "%s", node_text(text, sizeof text, p->node[i], i));
    }
    return RQ_OK;
}

/* ---- graphs and models ---- */

/* Types of graph outputs and of values between: for values this graph defines. */
static rq_status read_infos(rq_onnx_reader *r, rq_graph *g, Onnx__ValueInfoProto **p, size_t n, bool outputs)
{
    for (size_t i = 0; i < n; i++) {
        const char *name;
        RQ_TRY(
            rq_onnx_string(&name, g, &p[i]->name, outputs ? "the name of an output" : "the name of a value", r->err));
        rq_id id = rq_graph_find(g, name);
        if (id != RQ_NONE && g->values[id].kind == RQ_VALUE_NODE)
            RQ_TRY(read_value_info(r, g, id, p[i]));
    }
    return RQ_OK;
}

static rq_status read_outputs(rq_onnx_reader *r, rq_graph *g, const Onnx__GraphProto *p)
{
    for (size_t i = 0; i < p->n_output; i++) {
        const char *name;
        rq_id id;
        RQ_TRY(rq_onnx_string(&name, g, &p->output[i]->name, "the name of an output", r->err));
        RQ_TRY(resolve(r, g, &id, name));
        if (id == RQ_NONE)
            return rq_fail(r->err, RQ_BAD_GRAPH, "graph output '%s' is made by no node, input or initializer", name);
        RQ_TRY(push(&g->outputs, &g->n_outputs, &g->cap_outputs, id));
    }
    return RQ_OK;
}

rq_status rq_onnx_read_graph(rq_onnx_reader *r, rq_graph *g, Onnx__GraphProto *p)
{
    rq_onnx_graph_extra *x = graph_extra(r, g);
    if (!x)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_protobuf_keep(&x->graph, &r->src.kept->arena, &p->base));
    RQ_TRY(rq_onnx_string(&g->name, g, &p->name, "the name of the graph", r->err));
    if (!g->name[0])
        g->name = "graph"; /* ONNX wants one */
    RQ_TRY(rq_onnx_string(&g->doc, g, &p->doc_string, "the doc string of the graph", r->err));
    RQ_TRY(read_inputs(r, g, p));
    RQ_TRY(read_initializers(r, g, p));
    RQ_TRY(define_outputs(r, g, p));
    RQ_TRY(read_infos(r, g, p->value_info, p->n_value_info, false));
    RQ_TRY(read_infos(r, g, p->output, p->n_output, true));
    RQ_TRY(read_nodes(r, g, p));
    return read_outputs(r, g, p);
}

static rq_status read_opsets(rq_onnx_reader *r, rq_graph *g, const Onnx__ModelProto *p)
{
    for (size_t i = 0; i < p->n_opset_import; i++) {
        const char *domain;
        RQ_TRY(rq_onnx_string(&domain, g, &p->opset_import[i]->domain, "an imported domain", r->err));
        if (!strcmp(domain, "ai.onnx"))
            domain = "";
        const char *shown = domain[0] ? domain : "ai.onnx";
        const int64_t version = p->opset_import[i]->version;
        if (version <= 0)
            return rq_fail(r->err, RQ_BAD_FILE, "the model imports version %lld of %s; versions begin at 1",
                           (long long)version, shown);
        if (rq_graph_opset(g, domain))
            return rq_fail(r->err, RQ_BAD_FILE, "the model imports %s twice, as version %lld and %lld", shown,
                           (long long)rq_graph_opset(g, domain), (long long)version);
        if (!domain[0] && version > ONNX_MAX_OPSET)
            return rq_fail(r->err, RQ_UNSUPPORTED, "the model imports opset %lld; this version reads up to %d",
                           (long long)version, ONNX_MAX_OPSET);
        RQ_TRY(rq_graph_set_opset(g, domain, version));
    }
    if (g->n_opsets == 0 && r->ir >= 3)
        return rq_fail(r->err, RQ_BAD_FILE, "the model imports no opset");
    if (g->n_opsets == 0) /* opset_import came with IR version 3 */
        return rq_graph_set_opset(g, "", 1);
    return RQ_OK;
}

static rq_status read_model(rq_onnx_reader *r, rq_graph *g, Onnx__ModelProto *p)
{
    if (!p->has_ir_version || p->ir_version <= 0)
        return rq_fail(r->err, RQ_BAD_FILE, "the model has IR version %lld; expected 1 to %d", (long long)p->ir_version,
                       ONNX_MAX_IR);
    if (p->ir_version > ONNX_MAX_IR)
        return rq_fail(r->err, RQ_UNSUPPORTED, "the model has IR version %lld; this version reads 1 to %d",
                       (long long)p->ir_version, ONNX_MAX_IR);
    if (!p->graph)
        return rq_fail(r->err, RQ_BAD_FILE, "the model has no graph");
    r->ir = g->ir_version = p->ir_version;
    g->model_version = p->model_version;
    g->format = "onnx";
    RQ_TRY(rq_onnx_string(&g->producer, g, &p->producer_name, "the producer", r->err));
    RQ_TRY(rq_onnx_string(&g->producer_version, g, &p->producer_version, "the producer's version", r->err));
    RQ_TRY(rq_onnx_string(&g->domain, g, &p->domain, "the domain", r->err));
    RQ_TRY(rq_onnx_inline(p, r->src.mem, r->err)); /* may add imports */
    RQ_TRY(read_opsets(r, g, p));
    for (size_t i = 0; i < p->n_metadata_props; i++) {
        rq_pair pair;
        RQ_TRY(rq_onnx_string(&pair.key, g, &p->metadata_props[i]->key, "a metadata key", r->err));
        RQ_TRY(rq_onnx_string(&pair.value, g, &p->metadata_props[i]->value, "a metadata value", r->err));
        if (!rq_mem_grow(&g->meta, g->n_meta, &g->cap_meta, sizeof *g->meta))
            return RQ_NO_MEMORY;
        g->meta[g->n_meta++] = pair; /* as it stands; rq_graph_set_meta would look for the key each time */
    }
    rq_onnx_graph_extra *x = graph_extra(r, g);
    if (!x)
        return RQ_NO_MEMORY;
    x->opset = rq_graph_opset(g, "");
    x->doc = kept_string(r, &p->doc_string);
    if (!x->doc)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_protobuf_keep(&x->model, &r->src.kept->arena, &p->base));
    return rq_onnx_read_graph(r, g, p->graph);
}

rq_status rq_onnx_read(rq_graph **out, const uint8_t *data, size_t size, const char *folder, rq_err *err)
{
    rq_protobuf_mem mem = { 0 };
    rq_onnx_reader r = { .src = { .folder = folder, .mem = &mem }, .err = err };
    ProtobufCMessage *model;
    rq_graph *g = NULL;
    rq_status st = rq_protobuf_parse(&model, &mem, &onnx__model_proto__descriptor, data, size, err);
    if (st)
        goto done;
    st = RQ_NO_MEMORY;
    r.src.kept = rq_mem_zalloc(1, sizeof *r.src.kept);
    if (!r.src.kept || rq_graph_create(&g))
        goto done;
    atomic_init(&r.src.kept->refs, 1);
    st = read_model(&r, g, (Onnx__ModelProto *)model);
    if (!st)
        st = rq_onnx_source_list(&r.src, g);
done:
    if (st) {
        rq_graph_destroy(g);
        g = NULL;
    }
    if (st == RQ_NO_MEMORY)
        rq_fail(err, st, "not enough memory to read the model");
    if (r.src.kept)
        kept_unref(r.src.kept);
    rq_onnx_source_release(&r.src);
    rq_protobuf_mem_release(&mem);
    *out = g;
    return st;
}
