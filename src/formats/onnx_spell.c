/* formats/onnx_spell.c — see onnx_spell.h. */
#include "formats/onnx_spell.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/onnx.h"

enum { MAX_LINE = 256 };

static void *take(rq_onnx_spell *s, size_t n, size_t size)
{
    void *p = s->failed ? NULL : rq_arena_alloc(s->a, n, size);
    s->failed |= !p;
    return p;
}

static void *make(rq_onnx_spell *s, const ProtobufCMessageDescriptor *desc)
{
    ProtobufCMessage *m = take(s, 1, desc->sizeof_message);
    if (m)
        protobuf_c_message_init(desc, m);
    return m;
}

ProtobufCBinaryData rq_onnx_spell_text(const char *text)
{
    return (ProtobufCBinaryData) { .data = (uint8_t *)text, .len = strlen(text) };
}

static ProtobufCBinaryData copy_text(rq_onnx_spell *s, const char *text, size_t n)
{
    char *p = s->failed ? NULL : rq_arena_strndup(s->a, text, n);
    s->failed |= !p;
    return (ProtobufCBinaryData) { .data = (uint8_t *)p, .len = p ? n : 0 };
}

/* ---- words of a line ---- */

/* The next word, and *at behind it; its length is 0 at the end. */
static const char *next(const char **at, size_t *n)
{
    const char *p = *at + strspn(*at, " ");
    *n = strcspn(p, " ");
    *at = p + *n;
    return p;
}

ProtobufCBinaryData *rq_onnx_spell_names(rq_onnx_spell *s, const char *names, size_t *n)
{
    ProtobufCBinaryData *list = take(s, strlen(names) / 2 + 1, sizeof *list);
    size_t length;
    *n = 0;
    for (const char *word; list && (word = next(&names, &length), length);)
        list[(*n)++] = copy_text(s, word, length);
    return list;
}

/* ---- attributes ---- */

/* A new one at the end of the node's list, which has room for one more each time. */
static Onnx__AttributeProto *add_attr(rq_onnx_spell *s, Onnx__NodeProto *n, const char *name, size_t length, int type)
{
    Onnx__AttributeProto *p = make(s, &onnx__attribute_proto__descriptor);
    Onnx__AttributeProto **list = take(s, n->n_attribute + 1, sizeof(Onnx__AttributeProto *));
    if (!p || !list)
        return NULL;
    if (n->n_attribute)
        memcpy(list, n->attribute, n->n_attribute * sizeof(Onnx__AttributeProto *));
    list[n->n_attribute++] = p;
    n->attribute = list;
    p->name = copy_text(s, name, length);
    p->has_name = p->has_type = true;
    p->type = type;
    return p;
}

/* name=1 or name=1,2 */
static void add_ints(rq_onnx_spell *s, Onnx__NodeProto *n, const char *word, size_t length)
{
    const char *value = memchr(word, '=', length), *end = word + length;
    const bool list = memchr(value, ',', (size_t)(end - value)) != NULL;
    Onnx__AttributeProto *p = add_attr(s, n, word, (size_t)(value - word), list ? ONNX_ATTR_INTS : ONNX_ATTR_INT);
    if (!p)
        return;
    if (!list) {
        p->has_i = true;
        p->i = strtoll(value + 1, NULL, 10);
        return;
    }
    if (!(p->ints = take(s, length, sizeof *p->ints)))
        return;
    for (char *at = (char *)value + 1; at < end; at += *at == ',')
        p->ints[p->n_ints++] = strtoll(at, &at, 10);
}

void rq_onnx_spell_attr_float(rq_onnx_spell *s, Onnx__NodeProto *n, const char *name, float v)
{
    Onnx__AttributeProto *p = n ? add_attr(s, n, name, strlen(name), ONNX_ATTR_FLOAT) : NULL;
    if (!p)
        return;
    p->has_f = true;
    p->f = v;
}

static Onnx__ValueInfoProto **infos(rq_onnx_spell *s, const char *names, size_t *n)
{
    ProtobufCBinaryData *list = rq_onnx_spell_names(s, names, n);
    Onnx__ValueInfoProto **all = take(s, *n + 1, sizeof(Onnx__ValueInfoProto *));
    for (size_t i = 0; all && i < *n; i++) {
        if (!(all[i] = make(s, &onnx__value_info_proto__descriptor)))
            return NULL;
        all[i]->name = list[i];
        all[i]->has_name = true;
    }
    return all;
}

void rq_onnx_spell_attr_graph(rq_onnx_spell *s, Onnx__NodeProto *n, const char *name, const rq_onnx_spell *body,
                              const char *inputs, const char *outputs)
{
    Onnx__AttributeProto *p = n ? add_attr(s, n, name, strlen(name), ONNX_ATTR_GRAPH) : NULL;
    Onnx__GraphProto *g = p ? make(s, &onnx__graph_proto__descriptor) : NULL;
    s->failed |= body->failed;
    if (!g)
        return;
    p->g = g;
    g->name = p->name;
    g->has_name = true;
    g->node = body->node;
    g->n_node = body->n;
    g->input = infos(s, inputs, &g->n_input);
    g->output = infos(s, outputs, &g->n_output);
}

/* ---- nodes ---- */

static Onnx__NodeProto *append(rq_onnx_spell *s)
{
    Onnx__NodeProto *n = make(s, &onnx__node_proto__descriptor);
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 32;
        Onnx__NodeProto **more = take(s, cap, sizeof(Onnx__NodeProto *));
        if (!more)
            return NULL;
        if (s->n)
            memcpy(more, s->node, s->n * sizeof(Onnx__NodeProto *));
        s->node = more;
        s->cap = cap;
    }
    if (n)
        s->node[s->n++] = n;
    return n;
}

Onnx__NodeProto *rq_onnx_spell_node(rq_onnx_spell *s, const char *fmt, ...)
{
    char line[MAX_LINE];
    va_list list;
    va_start(list, fmt);
    vsnprintf(line, sizeof line, fmt, list);
    va_end(list);
    Onnx__NodeProto *n = append(s);
    char *equals = strstr(line, " = ");
    if (!n)
        return NULL;
    *equals = 0;
    n->output = rq_onnx_spell_names(s, line, &n->n_output);
    const char *at = equals + 3;
    size_t length;
    const char *word = next(&at, &length);
    n->op_type = copy_text(s, word, length);
    n->has_op_type = true;
    const char *attrs = strchr(at, '='); /* inputs end before the first word with one */
    while (attrs && attrs > at && attrs[-1] != ' ')
        attrs--;
    const size_t inputs = attrs ? (size_t)(attrs - at) : strlen(at);
    char names[MAX_LINE];
    memcpy(names, at, inputs);
    names[inputs] = 0;
    n->input = rq_onnx_spell_names(s, names, &n->n_input);
    while (attrs && (word = next(&attrs, &length), length))
        add_ints(s, n, word, length);
    return s->failed ? NULL : n;
}

/* dim: 0 a scalar, 1 a list of n. */
static void add_constant(rq_onnx_spell *s, const char *name, int type, int rank, const void *v, int n, size_t size)
{
    Onnx__NodeProto *p = rq_onnx_spell_node(s, "%s = Constant", name);
    Onnx__AttributeProto *value = p ? add_attr(s, p, "value", 5, ONNX_ATTR_TENSOR) : NULL;
    Onnx__TensorProto *t = value ? make(s, &onnx__tensor_proto__descriptor) : NULL;
    int64_t *dims = take(s, 1, sizeof *dims);
    uint8_t *data = take(s, (size_t)n, size);
    if (!t || !dims || !data)
        return;
    memcpy(data, v, (size_t)n * size);
    *dims = n;
    value->t = t;
    t->dims = dims;
    t->n_dims = (size_t)rank;
    t->has_data_type = t->has_raw_data = true;
    t->data_type = type;
    t->raw_data = (ProtobufCBinaryData) { .data = data, .len = (size_t)n * size };
}

void rq_onnx_spell_ints(rq_onnx_spell *s, const char *name, const int64_t *v, int n)
{
    add_constant(s, name, rq_onnx_dtype_code(RQ_DTYPE_S64), 1, v, n, sizeof *v);
}

void rq_onnx_spell_int(rq_onnx_spell *s, const char *name, int64_t v)
{
    add_constant(s, name, rq_onnx_dtype_code(RQ_DTYPE_S64), 0, &v, 1, sizeof v);
}

void rq_onnx_spell_float(rq_onnx_spell *s, const char *name, float v)
{
    add_constant(s, name, rq_onnx_dtype_code(RQ_DTYPE_F32), 0, &v, 1, sizeof v);
}
