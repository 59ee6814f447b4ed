/* formats/onnx_attr.c — attributes of a node. The stated type says which field counts; a field of another type beside
 * it is an error, and an absent number or string is its default, as proto3 writers leave these out. */
#include "formats/onnx.h"

#include <string.h>

static const char *const type_names[] = { "undefined",      "float", "int",     "string",  "tensor", "graph",
                                          "floats",         "ints",  "strings", "tensors", "graphs", "sparse tensor",
                                          "sparse tensors", "type",  "types" };
enum { N_TYPES = sizeof type_names / sizeof type_names[0] };

/* Bit per attribute type whose field is present. */
static unsigned present(const Onnx__AttributeProto *p)
{
    unsigned bits = 0;
    bits |= (unsigned)!!p->has_f << ONNX_ATTR_FLOAT | (unsigned)!!p->has_i << ONNX_ATTR_INT;
    bits |= (unsigned)!!p->has_s << ONNX_ATTR_STRING | (unsigned)!!p->t << ONNX_ATTR_TENSOR;
    bits |= (unsigned)!!p->g << ONNX_ATTR_GRAPH | (unsigned)!!p->n_floats << ONNX_ATTR_FLOATS;
    bits |= (unsigned)!!p->n_ints << ONNX_ATTR_INTS | (unsigned)!!p->n_strings << ONNX_ATTR_STRINGS;
    bits |= (unsigned)!!p->n_tensors << ONNX_ATTR_TENSORS | (unsigned)!!p->n_graphs << ONNX_ATTR_GRAPHS;
    return bits;
}

/* A scalar field that proto3 writers state although it is 0 does not contradict the type. */
static unsigned present_zeros(const Onnx__AttributeProto *p)
{
    unsigned bits = 0;
    if (p->has_f && p->f == 0)
        bits |= 1u << ONNX_ATTR_FLOAT;
    if (p->has_i && p->i == 0)
        bits |= 1u << ONNX_ATTR_INT;
    if (p->has_s && !p->s.len)
        bits |= 1u << ONNX_ATTR_STRING;
    return bits;
}

/* Files of IR version 1 state no type: then the field that is there says it. */
static rq_status find_type(int *out, const Onnx__AttributeProto *p, rq_err *err)
{
    const unsigned have = present(p);
    int type = p->has_type ? p->type : ONNX_ATTR_UNDEFINED;
    if (type < 0 || type >= N_TYPES)
        return rq_fail(err, RQ_BAD_FILE, "has type %d; types go from 1 to %d", type, N_TYPES - 1);
    if (type == ONNX_ATTR_UNDEFINED) {
        if (!have || have & (have - 1))
            return rq_fail(err, RQ_BAD_FILE, "does not say its type");
        type = __builtin_ctz(have);
    }
    const unsigned others = have & ~(1u << type) & ~present_zeros(p);
    if (others)
        return rq_fail(err, RQ_BAD_FILE, "says that it is a %s and holds a %s", type_names[type],
                       type_names[__builtin_ctz(others)]);
    *out = type;
    return RQ_OK;
}

static rq_status read_bytes(rq_bytes *out, rq_graph *g, const ProtobufCBinaryData *b)
{
    char *p = rq_arena_alloc(&g->names, b->len + 1, 1);
    if (!p)
        return RQ_NO_MEMORY;
    if (b->len)
        memcpy(p, b->data, b->len);
    *out = rq_bytes_of(p, b->len);
    return RQ_OK;
}

static rq_status read_list(void **out, rq_graph *g, const void *list, size_t n, size_t size)
{
    *out = rq_arena_alloc(&g->names, n, size);
    if (!*out)
        return RQ_NO_MEMORY;
    if (n)
        memcpy(*out, list, n * size);
    return RQ_OK;
}

static rq_status read_tensors(rq_onnx_reader *r, rq_graph *g, rq_attr *a, rq_onnx_attr_extra *x, Onnx__TensorProto **t,
                              size_t n)
{
    x->tensors = rq_arena_alloc(&r->src.kept->arena, n, sizeof *x->tensors);
    a->t = rq_arena_alloc(&g->names, n, sizeof *a->t);
    if (!a->t || !x->tensors)
        return RQ_NO_MEMORY;
    a->n = (int)n; /* entries not read yet are empty tensors, which are fine to release */
    for (size_t i = 0; i < n; i++) {
        RQ_TRY(rq_onnx_tensor_read(&a->t[i], t[i], &r->src, r->err));
        RQ_TRY(rq_onnx_string(&x->tensors[i].name, g, &t[i]->name, "the name of its tensor", r->err));
        x->tensors[i].name = rq_arena_strndup(&r->src.kept->arena, x->tensors[i].name, strlen(x->tensors[i].name));
        x->tensors[i].doc = rq_arena_strndup(&r->src.kept->arena, (char *)t[i]->doc_string.data, t[i]->doc_string.len);
        if (!x->tensors[i].name || !x->tensors[i].doc)
            return RQ_NO_MEMORY;
        RQ_TRY(rq_protobuf_keep(&x->tensors[i].fields, &r->src.kept->arena, &t[i]->base));
    }
    return RQ_OK;
}

static rq_status read_graphs(rq_onnx_reader *r, rq_graph *g, rq_id node, const char *name, Onnx__GraphProto **p,
                             size_t n)
{
    rq_graph **list = rq_arena_alloc(&g->names, n, sizeof *list);
    if (!list)
        return RQ_NO_MEMORY;
    rq_attr *a = &g->nodes[node].attr[g->nodes[node].n_attr - 1];
    a->g = list;
    for (size_t i = 0; i < n; i++) {
        RQ_TRY(rq_graph_create(&list[i]));
        /* reading may capture values and so move g's arrays: a is not valid past here */
        g->nodes[node].attr[g->nodes[node].n_attr - 1].n = (int)i + 1;
        list[i]->outer = g;
        rq_status st = rq_onnx_read_graph(r, list[i], p[i]);
        if (st)
            return rq_fail_in(r->err, st, "in graph '%s' of attribute '%s'", list[i]->name, name);
    }
    return RQ_OK;
}

static rq_status read_payload(rq_onnx_reader *r, rq_graph *g, rq_id node, rq_attr *a, rq_onnx_attr_extra *x, int type,
                              Onnx__AttributeProto *p)
{
    static Onnx__GraphProto *const no_graph[1];
    void *list = NULL;
    rq_status st = RQ_OK;
    switch (type) {
    case ONNX_ATTR_FLOAT:
        a->type = RQ_ATTR_FLOAT;
        a->f = p->has_f ? p->f : 0;
        return RQ_OK;
    case ONNX_ATTR_INT:
        a->type = RQ_ATTR_INT;
        a->i = p->has_i ? p->i : 0;
        return RQ_OK;
    case ONNX_ATTR_STRING:
        a->type = RQ_ATTR_STRING;
        return read_bytes(&a->s, g, &p->s);
    case ONNX_ATTR_FLOATS:
        a->type = RQ_ATTR_FLOATS;
        a->n = (int)p->n_floats;
        st = read_list(&list, g, p->floats, p->n_floats, sizeof *p->floats);
        a->floats = list;
        return st;
    case ONNX_ATTR_INTS:
        a->type = RQ_ATTR_INTS;
        a->n = (int)p->n_ints;
        st = read_list(&list, g, p->ints, p->n_ints, sizeof *p->ints);
        a->ints = list;
        return st;
    case ONNX_ATTR_STRINGS:
        a->type = RQ_ATTR_STRINGS;
        a->strings = rq_arena_alloc(&g->names, p->n_strings, sizeof *a->strings);
        if (!a->strings)
            return RQ_NO_MEMORY;
        a->n = (int)p->n_strings;
        for (size_t i = 0; i < p->n_strings; i++)
            RQ_TRY(read_bytes(&a->strings[i], g, &p->strings[i]));
        return RQ_OK;
    case ONNX_ATTR_TENSOR:
    case ONNX_ATTR_TENSORS:
        a->n = 0;
        a->type = type == ONNX_ATTR_TENSOR ? RQ_ATTR_TENSOR : RQ_ATTR_TENSORS;
        if (type == ONNX_ATTR_TENSOR && !p->t)
            return rq_fail(r->err, RQ_BAD_FILE, "says that it is a tensor, and holds none");
        return type == ONNX_ATTR_TENSOR ? read_tensors(r, g, a, x, &p->t, 1)
                                        : read_tensors(r, g, a, x, p->tensors, p->n_tensors);
    case ONNX_ATTR_GRAPH:
    case ONNX_ATTR_GRAPHS:
        a->n = 0;
        a->type = type == ONNX_ATTR_GRAPH ? RQ_ATTR_GRAPH : RQ_ATTR_GRAPHS;
        a->g = (rq_graph **)no_graph;
        if (type == ONNX_ATTR_GRAPH && !p->g)
            return rq_fail(r->err, RQ_BAD_FILE, "says that it is a graph, and holds none");
        return type == ONNX_ATTR_GRAPH ? read_graphs(r, g, node, a->name, &p->g, 1)
                                       : read_graphs(r, g, node, a->name, p->graphs, p->n_graphs);
    default: /* sparse tensors and types: what they hold is among the unknown fields */
        a->type = RQ_ATTR_OPAQUE;
        return RQ_OK;
    }
}

rq_status rq_onnx_attr_read(rq_onnx_reader *r, rq_graph *g, rq_id node, Onnx__AttributeProto *p)
{
    const char *name;
    RQ_TRY(rq_onnx_string(&name, g, &p->name, "the name of an attribute", r->err));
    if (!name[0])
        return rq_fail(r->err, RQ_BAD_FILE, "an attribute has no name");
    if (rq_attr_named(&g->nodes[node], name))
        return rq_fail(r->err, RQ_BAD_FILE, "attribute '%s' is given twice", name);
    if (p->has_ref_attr_name && p->ref_attr_name.len)
        return rq_fail(r->err, RQ_BAD_FILE,
                       "attribute '%s' stands for an attribute of a call, but is not in a function", name);
    int type = 0;
    rq_status st = find_type(&type, p, r->err);
    rq_onnx_attr_extra *x = NULL;
    if (!st) {
        x = rq_arena_alloc(&r->src.kept->arena, 1, sizeof *x);
        rq_attr *a = x ? rq_attr_add(g, node, name, RQ_ATTR_NONE) : NULL;
        if (!a)
            return RQ_NO_MEMORY;
        a->n = 1;
        a->extra = x;
        x->type = type;
        RQ_TRY(rq_protobuf_keep(&x->fields, &r->src.kept->arena, &p->base));
        RQ_TRY(rq_onnx_string(&a->doc, g, &p->doc_string, "a doc string", r->err));
        st = read_payload(r, g, node, a, x, type, p);
    }
    return st && st != RQ_NO_MEMORY ? rq_fail_in(r->err, st, "attribute '%s'", name) : st;
}
