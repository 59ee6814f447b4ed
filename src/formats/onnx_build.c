/* formats/onnx_build.c — the graph as ONNX messages, in an arena, ready to be packed. Nodes in topological order,
 * every attribute with its type, numbers as raw_data that points at the graph's own bytes, and what was read and not
 * understood put back where it was. */
#include "formats/onnx.h"

#include <stdio.h>
#include <string.h>

typedef struct builder {
    rq_arena *a;
    const rq_graph *model;
    int64_t ir;
    rq_err *err;
} builder;

/* ---- pieces ---- */

static void *make(builder *b, const ProtobufCMessageDescriptor *desc)
{
    ProtobufCMessage *m = rq_arena_alloc(b->a, 1, desc->sizeof_message);
    if (m)
        protobuf_c_message_init(desc, m);
    return m;
}

/* An array of n made messages. */
static void *make_list(builder *b, size_t n, const ProtobufCMessageDescriptor *desc)
{
    void **list = rq_arena_alloc(b->a, n, sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        if (!(list[i] = make(b, desc)))
            return NULL;
    return list;
}

/* What a reader has kept aside: ours only when the reader was ours. */
static const void *kept(const builder *b, const void *extra)
{
    return strcmp(b->model->format, "onnx") == 0 ? extra : NULL;
}

/* The name a value is written with. ONNX captures by name, so a captured value has its origin's; a value without a
 * name gets one. NULL: memory is out. */
static const char *name_of(builder *b, const rq_graph *g, rq_id id)
{
    while (g->values[id].kind == RQ_VALUE_CAPTURED) {
        id = g->values[id].outer;
        g = g->outer;
    }
    if (g->values[id].name[0])
        return g->values[id].name;
    enum { ROOM = 32 };
    char *name = rq_arena_alloc(b->a, ROOM, 1);
    for (int i = 0; name && (i == 0 || rq_graph_find(g, name) != RQ_NONE); i++)
        snprintf(name, ROOM, i ? "value_%d_%d" : "value_%d", (int)id, i);
    return name;
}

/* A string lives as long as the graph, so it is pointed at. */
static ProtobufCBinaryData text_of(const char *s)
{
    return (ProtobufCBinaryData) { .data = (uint8_t *)(s ? s : ""), .len = s ? strlen(s) : 0 };
}

#define SET_TEXT(m, field, s) ((m)->field = text_of(s), (m)->has_##field = (m)->field.len > 0)

/* Put kept fields back: after those (if any) that the message has already. */
static rq_status put_back(builder *b, ProtobufCMessage *m, const rq_protobuf_fields *f)
{
    if (!f->n)
        return RQ_OK;
    ProtobufCMessageUnknownField *all = rq_arena_alloc(b->a, m->n_unknown_fields + f->n, sizeof *all);
    if (!all)
        return RQ_NO_MEMORY;
    if (m->n_unknown_fields)
        memcpy(all, m->unknown_fields, m->n_unknown_fields * sizeof *all);
    memcpy(all + m->n_unknown_fields, f->field, f->n * sizeof *all);
    m->unknown_fields = all;
    m->n_unknown_fields += (unsigned)f->n;
    return RQ_OK;
}

static void need_ir(builder *b, int64_t ir)
{
    if (b->ir < ir)
        b->ir = ir;
}

/* ---- values ---- */

static rq_status build_type(builder *b, Onnx__TypeProto **out, rq_dtype d, const rq_shape *s)
{
    Onnx__TypeProto *t = make(b, &onnx__type_proto__descriptor);
    if (!t || !(t->tensor_type = make(b, &onnx__tensor_type_proto__descriptor)))
        return RQ_NO_MEMORY;
    *out = t;
    t->tensor_type->has_elem_type = true;
    t->tensor_type->elem_type = rq_onnx_dtype_code(d);
    need_ir(b, rq_onnx_dtype_ir(d));
    if (s->rank < 0)
        return RQ_OK; /* absent: not even the rank is known */
    Onnx__TensorShapeProto *shape = make(b, &onnx__tensor_shape_proto__descriptor);
    if (!shape || !(shape->dim = make_list(b, (size_t)s->rank, &onnx__dimension_proto__descriptor)))
        return RQ_NO_MEMORY;
    t->tensor_type->shape = shape;
    shape->n_dim = (size_t)s->rank;
    for (int i = 0; i < s->rank; i++) {
        Onnx__DimensionProto *dim = shape->dim[i];
        if (s->dim[i] >= 0) {
            dim->has_dim_value = true;
            dim->dim_value = s->dim[i];
        } else if (s->dim[i] < RQ_DIM_UNKNOWN && -2 - s->dim[i] < b->model->n_symbols) {
            SET_TEXT(dim, dim_param, b->model->symbols[-2 - s->dim[i]]);
        }
    }
    return RQ_OK;
}

static rq_status build_info(builder *b, Onnx__ValueInfoProto *p, const rq_graph *g, rq_id id)
{
    const rq_value *v = &g->values[id];
    const rq_onnx_value_extra *x = kept(b, v->extra);
    const char *name = name_of(b, g, id);
    if (!name)
        return RQ_NO_MEMORY;
    SET_TEXT(p, name, name);
    p->has_name = true;
    if (v->kind != RQ_VALUE_CONST)
        SET_TEXT(p, doc_string, v->doc);
    if (x)
        RQ_TRY(put_back(b, &p->base, &x->info));
    if (x && x->type.n && x->dtype == v->dtype && rq_shape_equal(&x->shape, &v->shape))
        return put_back(b, &p->base, &x->type);
    return v->dtype == RQ_DTYPE_NONE ? RQ_OK : build_type(b, &p->type, v->dtype, &v->shape);
}

static rq_status build_tensor(builder *b, Onnx__TensorProto *p, const rq_tensor *t, const char *name,
                              const rq_onnx_tensor_extra *x)
{
    need_ir(b, rq_onnx_dtype_ir(t->dtype));
    SET_TEXT(p, name, name);
    if (x) {
        SET_TEXT(p, doc_string, x->doc);
        RQ_TRY(put_back(b, &p->base, &x->fields));
    }
    return rq_onnx_tensor_write(p, t, b->a);
}

static bool is_sparse(const builder *b, const rq_value *v)
{
    const rq_onnx_value_extra *x = kept(b, v->extra);
    return x && x->sparse.n && x->sparse_hash == rq_onnx_tensor_hash(&v->constant);
}

static bool has_tensor(const rq_value *v)
{
    return (v->kind == RQ_VALUE_CONST || v->kind == RQ_VALUE_INPUT) && v->constant.dtype != RQ_DTYPE_NONE;
}

static rq_status build_constants(builder *b, Onnx__GraphProto *p, const rq_graph *g)
{
    p->initializer = rq_arena_alloc(b->a, (size_t)g->n_values, sizeof *p->initializer);
    if (!p->initializer)
        return RQ_NO_MEMORY;
    for (rq_id i = 0; i < g->n_values; i++) {
        const rq_value *v = &g->values[i];
        const rq_onnx_value_extra *x = kept(b, v->extra);
        if (!has_tensor(v))
            continue;
        if (v->kind == RQ_VALUE_CONST && (!x || !x->listed))
            need_ir(b, 4); /* not among the inputs */
        if (is_sparse(b, v)) {
            RQ_TRY(put_back(b, &p->base, &x->sparse));
            continue;
        }
        Onnx__TensorProto *t = make(b, &onnx__tensor_proto__descriptor);
        if (!t)
            return RQ_NO_MEMORY;
        const char *name = name_of(b, g, i);
        RQ_TRY(name ? build_tensor(b, t, &v->constant, name, x ? &x->tensor : NULL) : RQ_NO_MEMORY);
        p->initializer[p->n_initializer++] = t;
    }
    return RQ_OK;
}

/* What is worth saying of values between inputs and outputs. */
static bool wants_info(const builder *b, const rq_graph *g, rq_id id)
{
    const rq_value *v = &g->values[id];
    const rq_onnx_value_extra *x = kept(b, v->extra);
    if (v->kind != RQ_VALUE_NODE)
        return false;
    return (v->dtype != RQ_DTYPE_NONE && (v->shape.rank >= 0 || (x && x->stated))) || (x && (x->info.n || x->type.n)) ||
           (v->doc && v->doc[0]);
}

static rq_status build_infos(builder *b, Onnx__GraphProto *p, const rq_graph *g)
{
    p->input = make_list(b, (size_t)g->n_inputs, &onnx__value_info_proto__descriptor);
    p->output = make_list(b, (size_t)g->n_outputs, &onnx__value_info_proto__descriptor);
    p->value_info = rq_arena_alloc(b->a, (size_t)g->n_values, sizeof *p->value_info);
    uint8_t *is_output = rq_arena_alloc(b->a, (size_t)g->n_values, 1);
    if (!p->input || !p->output || !p->value_info || !is_output)
        return RQ_NO_MEMORY;
    for (int i = 0; i < g->n_inputs; i++)
        RQ_TRY(build_info(b, p->input[p->n_input++], g, g->inputs[i]));
    for (int i = 0; i < g->n_outputs; i++) {
        is_output[g->outputs[i]] = 1;
        RQ_TRY(build_info(b, p->output[p->n_output++], g, g->outputs[i]));
    }
    for (rq_id i = 0; i < g->n_values; i++) {
        if (is_output[i] || !wants_info(b, g, i))
            continue;
        Onnx__ValueInfoProto *info = make(b, &onnx__value_info_proto__descriptor);
        if (!info)
            return RQ_NO_MEMORY;
        p->value_info[p->n_value_info++] = info;
        RQ_TRY(build_info(b, info, g, i));
    }
    return RQ_OK;
}

/* Before IR version 4 constants stand among the inputs; known only once the whole model is built. */
static rq_status list_constants(builder *b, Onnx__GraphProto *p, const rq_graph *g)
{
    Onnx__ValueInfoProto **all = rq_arena_alloc(b->a, (size_t)g->n_values + p->n_input, sizeof *all);
    if (!all)
        return RQ_NO_MEMORY;
    if (p->n_input)
        memcpy(all, p->input, p->n_input * sizeof *all);
    p->input = all;
    for (rq_id i = 0; i < g->n_values; i++) {
        if (g->values[i].kind != RQ_VALUE_CONST)
            continue;
        Onnx__ValueInfoProto *info = make(b, &onnx__value_info_proto__descriptor);
        if (!info)
            return RQ_NO_MEMORY;
        p->input[p->n_input++] = info;
        RQ_TRY(build_info(b, info, g, i));
    }
    return RQ_OK;
}

/* ---- attributes and nodes ---- */

static rq_status build_graph(builder *b, Onnx__GraphProto *p, const rq_graph *g);

static rq_status build_payload(builder *b, Onnx__AttributeProto *p, const rq_attr *a, const rq_onnx_attr_extra *x)
{
    const size_t n = (size_t)a->n;
    switch (a->type) {
    case RQ_ATTR_FLOAT:
        p->type = ONNX_ATTR_FLOAT;
        p->has_f = true;
        p->f = a->f;
        return RQ_OK;
    case RQ_ATTR_INT:
        p->type = ONNX_ATTR_INT;
        p->has_i = true;
        p->i = a->i;
        return RQ_OK;
    case RQ_ATTR_STRING:
        p->type = ONNX_ATTR_STRING;
        p->has_s = true;
        p->s = (ProtobufCBinaryData) { .data = (uint8_t *)a->s.p, .len = a->s.n };
        return RQ_OK;
    case RQ_ATTR_FLOATS:
        p->type = ONNX_ATTR_FLOATS;
        p->floats = a->floats;
        p->n_floats = n;
        return RQ_OK;
    case RQ_ATTR_INTS:
        p->type = ONNX_ATTR_INTS;
        p->ints = a->ints;
        p->n_ints = n;
        return RQ_OK;
    case RQ_ATTR_STRINGS:
        p->type = ONNX_ATTR_STRINGS;
        p->strings = rq_arena_alloc(b->a, n, sizeof *p->strings);
        if (!p->strings)
            return RQ_NO_MEMORY;
        p->n_strings = n;
        for (size_t i = 0; i < n; i++)
            p->strings[i] = (ProtobufCBinaryData) { .data = (uint8_t *)a->strings[i].p, .len = a->strings[i].n };
        return RQ_OK;
    case RQ_ATTR_TENSOR:
    case RQ_ATTR_TENSORS:
        p->type = a->type == RQ_ATTR_TENSOR ? ONNX_ATTR_TENSOR : ONNX_ATTR_TENSORS;
        if (!(p->tensors = make_list(b, n, &onnx__tensor_proto__descriptor)))
            return RQ_NO_MEMORY;
        for (size_t i = 0; i < n; i++) {
            const rq_onnx_tensor_extra *tx = x && x->tensors ? &x->tensors[i] : NULL;
            RQ_TRY(build_tensor(b, p->tensors[i], &a->t[i], tx ? tx->name : "", tx));
        }
        if (a->type == RQ_ATTR_TENSOR)
            p->t = p->tensors[0];
        else
            p->n_tensors = n;
        return RQ_OK;
    case RQ_ATTR_GRAPH:
    case RQ_ATTR_GRAPHS:
        p->type = a->type == RQ_ATTR_GRAPH ? ONNX_ATTR_GRAPH : ONNX_ATTR_GRAPHS;
        if (!(p->graphs = make_list(b, n, &onnx__graph_proto__descriptor)))
            return RQ_NO_MEMORY;
        for (size_t i = 0; i < n; i++)
            RQ_TRY(build_graph(b, p->graphs[i], a->g[i]));
        if (a->type == RQ_ATTR_GRAPH)
            p->g = p->graphs[0];
        else
            p->n_graphs = n;
        return RQ_OK;
    default:
        p->type = x ? x->type : ONNX_ATTR_UNDEFINED;
        return RQ_OK;
    }
}

static rq_status build_attr(builder *b, Onnx__AttributeProto *p, const rq_attr *a)
{
    const rq_onnx_attr_extra *x = kept(b, a->extra);
    SET_TEXT(p, name, a->name);
    SET_TEXT(p, doc_string, a->doc);
    SET_TEXT(p, ref_attr_name, a->ref);
    p->has_type = true;
    if (x)
        RQ_TRY(put_back(b, &p->base, &x->fields));
    return build_payload(b, p, a, x);
}

static rq_status build_names(builder *b, ProtobufCBinaryData **out, size_t *n_out, const rq_graph *g, const rq_id *id,
                             int n)
{
    *out = rq_arena_alloc(b->a, (size_t)n, sizeof **out);
    if (!*out)
        return RQ_NO_MEMORY;
    *n_out = (size_t)n;
    for (int i = 0; i < n; i++) {
        const char *name = id[i] == RQ_NONE ? "" : name_of(b, g, id[i]);
        if (!name)
            return RQ_NO_MEMORY;
        (*out)[i] = text_of(name);
    }
    return RQ_OK;
}

static rq_status build_node(builder *b, Onnx__NodeProto *p, const rq_graph *g, const rq_node *n)
{
    SET_TEXT(p, op_type, n->op);
    SET_TEXT(p, domain, n->domain);
    SET_TEXT(p, name, n->name);
    SET_TEXT(p, doc_string, n->doc);
    SET_TEXT(p, overload, n->overload);
    if (kept(b, n->extra))
        RQ_TRY(put_back(b, &p->base, n->extra));
    RQ_TRY(build_names(b, &p->input, &p->n_input, g, n->in, n->n_in));
    RQ_TRY(build_names(b, &p->output, &p->n_output, g, n->out, n->n_out));
    if (!(p->attribute = make_list(b, (size_t)n->n_attr, &onnx__attribute_proto__descriptor)))
        return RQ_NO_MEMORY;
    p->n_attribute = (size_t)n->n_attr;
    for (int i = 0; i < n->n_attr; i++)
        RQ_TRY(build_attr(b, p->attribute[i], &n->attr[i]));
    return RQ_OK;
}

static rq_status build_graph(builder *b, Onnx__GraphProto *p, const rq_graph *g)
{
    const rq_onnx_graph_extra *x = kept(b, g->extra);
    rq_id *order = NULL;
    int n = 0;
    SET_TEXT(p, name, g->name[0] ? g->name : "graph"); /* ONNX wants one */
    SET_TEXT(p, doc_string, g->doc);
    if (x)
        RQ_TRY(put_back(b, &p->base, &x->graph));
    RQ_TRY(build_constants(b, p, g));
    RQ_TRY(build_infos(b, p, g));
    RQ_TRY(rq_order(g, &order, &n, b->err));
    rq_status st = (p->node = make_list(b, (size_t)n, &onnx__node_proto__descriptor)) ? RQ_OK : RQ_NO_MEMORY;
    for (int i = 0; i < n && !st; i++) {
        p->n_node++;
        st = build_node(b, p->node[i], g, &g->nodes[order[i]]);
    }
    rq_mem_free(order);
    return st;
}

/* ---- model ---- */

/* The IR version that came with an opset of the default domain. */
static int64_t ir_of_opset(int64_t opset)
{
    static const struct {
        int opset, ir;
    } since[] = { { 25, 13 }, { 24, 12 }, { 23, 11 }, { 21, 10 }, { 19, 9 },
                  { 15, 8 },  { 12, 7 },  { 11, 6 },  { 10, 5 },  { 9, 4 } };
    for (size_t i = 0; i < sizeof since / sizeof since[0]; i++)
        if (opset >= since[i].opset)
            return since[i].ir;
    return 3;
}

static bool uses_domain(const rq_graph *g, const char *domain)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (n->op && !strcmp(n->domain, domain))
            return true;
        for (int k = 0; n->op && k < n->n_attr; k++)
            for (int j = 0; j < rq_attr_bodies(&n->attr[k]); j++)
                if (uses_domain(n->attr[k].g[j], domain))
                    return true;
    }
    return false;
}

/* The graph's imports, and other domains where a pass has brought in their operators. */
static rq_status build_opsets(builder *b, Onnx__ModelProto *m, const rq_graph *g)
{
    static const char *const others[] = { "com.microsoft", "requant" };
    enum { N_OTHERS = sizeof others / sizeof others[0] };
    const size_t own = (size_t)g->n_opsets;
    if (!(m->opset_import = make_list(b, own + N_OTHERS, &onnx__operator_set_id_proto__descriptor)))
        return RQ_NO_MEMORY;
    for (size_t i = 0; i < own + N_OTHERS; i++) {
        const char *domain = i < own ? g->opsets[i].domain : others[i - own];
        if (i >= own && (rq_graph_opset(g, domain) || !uses_domain(g, domain)))
            continue;
        Onnx__OperatorSetIdProto *import = m->opset_import[m->n_opset_import++];
        SET_TEXT(import, domain, domain);
        import->has_domain = true;
        import->has_version = true;
        import->version = i < own ? g->opsets[i].version : 1;
    }
    return RQ_OK;
}

static rq_status build_meta(builder *b, Onnx__ModelProto *m, const rq_graph *g)
{
    if (!(m->metadata_props = make_list(b, (size_t)g->n_meta, &onnx__string_string_entry_proto__descriptor)))
        return RQ_NO_MEMORY;
    m->n_metadata_props = (size_t)g->n_meta;
    for (int i = 0; i < g->n_meta; i++) {
        SET_TEXT(m->metadata_props[i], key, g->meta[i].key);
        SET_TEXT(m->metadata_props[i], value, g->meta[i].value);
        m->metadata_props[i]->has_value = true;
    }
    return RQ_OK;
}

rq_status rq_onnx_build(Onnx__ModelProto **out, const rq_graph *g, rq_arena *a, rq_err *err)
{
    builder b = { .a = a, .model = g, .ir = g->ir_version, .err = err };
    const rq_onnx_graph_extra *x = kept(&b, g->extra);
    const int64_t opset = rq_graph_opset(g, "");
    Onnx__ModelProto *m = make(&b, &onnx__model_proto__descriptor);
    if (!m || !(m->graph = make(&b, &onnx__graph_proto__descriptor)))
        return RQ_NO_MEMORY;
    if (!x || x->opset != opset || !b.ir) /* the file's own choice stands until a pass raises the opset */
        need_ir(&b, ir_of_opset(opset));
    int64_t ir;
    RQ_TRY(build_graph(&b, m->graph, g));
    RQ_TRY(rq_onnx_recurrent_write(m, opset, a, &ir));
    need_ir(&b, ir);
    RQ_TRY(build_opsets(&b, m, g));
    RQ_TRY(build_meta(&b, m, g));
    if (b.ir < 4)
        RQ_TRY(list_constants(&b, m->graph, g));
    m->has_ir_version = true;
    m->ir_version = b.ir;
    m->has_model_version = g->model_version != 0;
    m->model_version = g->model_version;
    SET_TEXT(m, producer_name, g->producer);
    SET_TEXT(m, producer_version, g->producer_version);
    SET_TEXT(m, domain, g->domain);
    if (x) {
        SET_TEXT(m, doc_string, x->doc);
        RQ_TRY(put_back(&b, &m->base, &x->model));
    }
    *out = m;
    return RQ_OK;
}
