/* formats/mil_emit.c — what rows use to write a program: names, constants, operations. An operation that was begun waits until the next
 * one, so that the constants it is bound to stand before it. The first failure is kept, and everything after it does nothing. */
#include "formats/mil_emit_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "graph/query.h"

enum { MOST_AXES = 5 };

/* ---- failures and notes ---- */

rq_status rq_mil_emit_keep(rq_mil_emitter *e, rq_status st)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    if (!s->st)
        s->st = st;
    return s->st;
}

static rq_status out_of_memory(rq_mil_emitter *e)
{
    if (!rq_mil_emit_state_of(e)->st)
        rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    return rq_mil_emit_keep(e, RQ_NO_MEMORY);
}

static rq_status check(rq_mil_emitter *e, bool ok)
{
    return ok ? rq_mil_emit_state_of(e)->st : out_of_memory(e);
}

void rq_mil_note(rq_buf *notes, const char *fmt, ...)
{
    rq_buf line = { 0 };
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    rq_buf_addf(&line, "%s\n", text);
    if (line.failed)
        notes->failed = true;
    else if (!notes->data || !strstr(notes->data, line.data))
        rq_buf_adds(notes, line.data);
    rq_buf_release(&line);
}

const char *rq_mil_emit_node_text(const rq_node *n, const rq_graph *g, char *buf, size_t size)
{
    const rq_id out = n->n_out ? n->out[0] : RQ_NONE;
    const char *name = n->name[0] ? n->name : out != RQ_NONE ? g->values[out].name : "";
    snprintf(buf, size, "%.60s '%.120s'", n->op, name);
    return buf;
}

rq_status rq_mil_refuse(rq_err *err, int32_t target, int32_t can, const char *what)
{
    static const char *const systems[] = { "iOS 15", "iOS 16", "iOS 17", "iOS 18", "iOS 26" };
    if (!can)
        return rq_fail(err, RQ_UNSUPPORTED, "%.400s cannot be expressed for Core ML", what);
    return rq_fail(err, RQ_UNSUPPORTED, "%.400s cannot be expressed for %s; %s can", what,
                   systems[target - RQ_COREML_MIN_SPEC], systems[can - RQ_COREML_MIN_SPEC]);
}

rq_status rq_mil_emit_refuse_text(rq_mil_emitter *e, int32_t since, const char *what)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    if (s->st)
        return s->st;
    s->wants = since > e->target && since <= RQ_COREML_MAX_SPEC ? since : 0;
    snprintf(s->refused, sizeof s->refused, "%s", what);
    return rq_mil_emit_keep(e, rq_mil_refuse(e->err, e->target, s->wants, what));
}

rq_status rq_mil_emit_refuse(rq_mil_emitter *e, const rq_node *n, int32_t since, const char *what)
{
    char node[200], text[400];
    snprintf(text, sizeof text, "%s: %.190s", rq_mil_emit_node_text(n, e->g, node, sizeof node), what);
    return rq_mil_emit_refuse_text(e, since, text);
}

void rq_mil_emit_note(rq_mil_emitter *e, const rq_node *n, const char *what)
{
    char node[200];
    rq_mil_note(rq_mil_emit_state_of(e)->notes, "%s: %s", rq_mil_emit_node_text(n, e->g, node, sizeof node), what);
}

/* ---- names ---- */

static bool is_word(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static bool is_reserved(const char *s)
{
    static const char *const words[] = { "any",   "bool",  "program", "func",  "tensor", "list",   "dict",   "tuple",
                                         "true",  "false", "string",  "bf16",  "fp16",   "fp32",   "fp64",   "int8",
                                         "int16", "int32", "int64",   "uint8", "uint16", "uint32", "uint64", "state" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strcmp(words[i], s))
            return true;
    return false;
}

bool rq_mil_emit_legal(const char *name)
{
    bool ok = name[0] && !is_reserved(name);
    for (size_t i = 0; ok && name[i]; i++)
        ok = is_word(name[i], i == 0);
    return ok;
}

static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

static const char **slot_of(const rq_mil_emit_state *s, const char *name)
{
    uint32_t i = hash(name) & s->mask;
    while (s->names[i] && strcmp(s->names[i], name) != 0)
        i = (i + 1) & s->mask;
    return &s->names[i];
}

/* Room for one more name, half of the table stays free. */
static bool make_room(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    if (s->names && s->n_names < s->mask / 2)
        return true;
    const uint32_t was = s->names ? s->mask + 1 : 0, n = was ? was * 2 : 256;
    const char **old = s->names, **names = n > was ? rq_arena_alloc(&e->a, n, sizeof *names) : NULL;
    if (!names)
        return false;
    s->names = names;
    s->mask = n - 1;
    for (uint32_t i = 0; i < was; i++)
        if (old[i])
            *slot_of(s, old[i]) = old[i];
    return true;
}

const char *rq_mil_emit_name(rq_mil_emitter *e, const char *base, const char *suffix)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    const size_t n = strlen(base) + strlen(suffix), room = n + 48;
    char *name = rq_arena_alloc(&e->a, room, 1);
    if (!name || !make_room(e)) {
        out_of_memory(e);
        return NULL;
    }
    const bool digit = base[0] >= '0' && base[0] <= '9';
    snprintf(name, room, "%s%s%s", digit ? "var_" : n ? "" : "var", base, suffix);
    for (char *c = name; *c; c++)
        if (!is_word(*c, c == name))
            *c = '_';
    if (is_reserved(name))
        strcat(name, "_workaround");
    const size_t end = strlen(name);
    for (int i = 0; *slot_of(s, name); i++)
        snprintf(name + end, room - end, "_%d", i);
    *slot_of(s, name) = name;
    s->n_names++;
    return name;
}

/* ---- types ---- */

const rq_mil_dtype *rq_mil_emit_floats(const rq_mil_emitter *e)
{
    return rq_mil_dtype_of_name(e->half ? "fp16" : "fp32");
}

/* Of a type that is no code; NULL: Core ML has none. */
static const rq_mil_dtype *plain_dtype(const rq_mil_emitter *e, rq_dtype d)
{
    if (rq_dtype_is_float(d))
        return rq_mil_emit_floats(e);
    if (d == RQ_DTYPE_BOOL)
        return rq_mil_dtype_of_name("bool");
    return rq_dtype_is_integer(d) ? rq_mil_dtype_of_name("int32") : NULL;
}

const rq_mil_dtype *rq_mil_emit_dtype(const rq_mil_emitter *e, rq_id v)
{
    const rq_dtype d = e->g->values[v].dtype;
    return rq_mil_emit_state_of(e)->ready->code[v] ? rq_mil_dtype_of(d) : plain_dtype(e, d);
}

rq_mil_type *rq_mil_emit_type(rq_mil_emitter *e, const rq_mil_dtype *d, const rq_shape *shape)
{
    rq_mil_type *t = rq_mil_tensor_type(e->p, d, shape->rank, shape->dim);
    if (!t)
        out_of_memory(e);
    return t;
}

/* ---- constants ---- */

/* A const operation of this value under a name made of base; the name, or NULL. */
static const char *add_const(rq_mil_emitter *e, const char *base, const char *suffix, rq_mil_value *v)
{
    const char *name = v ? rq_mil_emit_name(e, base, suffix) : NULL;
    rq_mil_op *op = name ? rq_mil_op_make(e->p, "const", name) : NULL;
    if (!op || !rq_mil_op_set_attr(e->p, op, "val", v) || !rq_mil_op_output(e->p, op, name, v->type) ||
        !rq_mil_block_insert(e->p, e->b, e->b->n_ops, op)) {
        out_of_memory(e);
        return NULL;
    }
    return name;
}

const rq_tensor *rq_mil_emit_const(const rq_mil_emitter *e, rq_id v)
{
    const rq_mil_ready *r = rq_mil_emit_state_of(e)->ready;
    if (v == RQ_NONE)
        return NULL;
    if (e->g->values[v].kind == RQ_VALUE_CONST)
        return &e->g->values[v].constant;
    return v < r->n_known && r->known[v].exact.dtype != RQ_DTYPE_NONE ? &r->known[v].exact : NULL;
}

int rq_mil_emit_known(const rq_mil_emitter *e, rq_id v, int64_t *out, bool *known, int cap)
{
    const rq_mil_ready *r = rq_mil_emit_state_of(e)->ready;
    const rq_tensor *t = rq_mil_emit_const(e, v), *part = NULL;
    if (!t && known && v != RQ_NONE && v < r->n_known && r->known[v].part.dtype != RQ_DTYPE_NONE)
        part = &r->known[v].part;
    const rq_tensor *from = t ? t : part;
    if (!from || (!rq_dtype_is_integer(from->dtype) && from->dtype != RQ_DTYPE_BOOL) || rq_tensor_count(from) > cap)
        return -1;
    const int n = (int)rq_tensor_count(from);
    for (int i = 0; i < n; i++) {
        out[i] = rq_tensor_get_int(from, i);
        const bool is = !part || !rq_content_dim(out[i]);
        if (!is)
            out[i] = -1;
        if (known)
            known[i] = is;
    }
    return n;
}

/* ---- values and operations ---- */

const char *rq_mil_emit_value(rq_mil_emitter *e, rq_id v)
{
    if (v == RQ_NONE || rq_mil_emit_state_of(e)->st)
        return NULL;
    const rq_tensor *t = e->name[v] ? NULL : rq_mil_emit_const(e, v);
    if (e->name[v] || !t) {
        if (!e->name[v]) {
            rq_fail(e->err, RQ_INTERNAL, "value '%.120s' is used before it was written", e->g->values[v].name);
            rq_mil_emit_keep(e, RQ_INTERNAL);
        }
        return e->name[v];
    }
    const rq_mil_dtype *d = rq_mil_emit_dtype(e, v);
    if (!d) {
        rq_fail(e->err, RQ_UNSUPPORTED, "constant '%.120s' is of type %s, which a Core ML program has not",
                e->g->values[v].name, rq_dtype_name(t->dtype));
        rq_mil_emit_keep(e, RQ_UNSUPPORTED);
        return NULL;
    }
    return e->name[v] = add_const(e, e->g->values[v].name, "", rq_mil_emit_make(e, t, d, NULL, e->g->values[v].name));
}

rq_status rq_mil_emit_flush(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    rq_mil_op *op = s->pending;
    s->pending = NULL;
    if (s->st || !op)
        return s->st;
    return check(e, rq_mil_block_insert(e->p, e->b, e->b->n_ops, op));
}

rq_mil_op *rq_mil_emit_named(rq_mil_emitter *e, const char *type, const char *name, rq_mil_type *t)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    if (rq_mil_emit_flush(e))
        return NULL;
    if (t && t->rank > MOST_AXES && !s->deep) {
        s->deep = true;
        rq_mil_note(s->notes,
                    "'%.120s' has %" PRId64 " axes: Core ML computes with %d at most, and may not take the model",
                    name ? name : "", t->rank, MOST_AXES);
    }
    rq_mil_op *op = name && t ? rq_mil_op_make(e->p, type, name) : NULL;
    if (!op || !rq_mil_op_output(e->p, op, name, t)) {
        out_of_memory(e);
        return NULL;
    }
    return s->pending = op;
}

/* The name of value v. What lowering, or ONNX Runtime, called by the operator is called as coremltools does: x_quantized, x_dequantized, and
 * a weight that is dequantized w_quantized. */
static const char *name_of(rq_mil_emitter *e, rq_id v)
{
    static const char quantize[] = "_QuantizeLinear_Output", dequantize[] = "_DequantizeLinear_Output";
    const rq_value *x = &e->g->values[v];
    const rq_node *n = x->kind == RQ_VALUE_NODE ? &e->g->nodes[x->producer] : NULL;
    const bool q = n && rq_node_is(n, "QuantizeLinear"), dq = n && rq_node_is(n, "DequantizeLinear");
    const char *long_name = q ? quantize : dequantize, *at = q || dq ? strstr(x->name, long_name) : NULL;
    char suffix[64];
    if (!at || at == x->name)
        return rq_mil_emit_name(e, x->name, "");
    snprintf(suffix, sizeof suffix, "%s%.40s",
             q || rq_mil_emit_const(e, rq_node_in(n, 0)) ? "_quantized" : "_dequantized", at + strlen(long_name));
    const char *base = rq_arena_strndup(&e->a, x->name, (size_t)(at - x->name));
    if (!base)
        out_of_memory(e);
    return base ? rq_mil_emit_name(e, base, suffix) : NULL;
}

/* The type of a value of the graph, and its name, new if there is none. */
static rq_mil_type *place(rq_mil_emitter *e, rq_id v, const char **name)
{
    const rq_value *x = &e->g->values[v];
    const rq_mil_dtype *d = rq_mil_emit_dtype(e, v);
    if (rq_mil_emit_state_of(e)->st)
        return NULL;
    if (!d || x->shape.rank < 0) {
        rq_fail(e->err, RQ_UNSUPPORTED, "value '%.120s' %s", x->name,
                d ? "has a number of axes that is known only when it runs; give sizes to the inputs (--shape)"
                  : "is of a type that a Core ML program has not");
        rq_mil_emit_keep(e, RQ_UNSUPPORTED);
        return NULL;
    }
    if (!e->name[v])
        e->name[v] = name_of(e, v);
    *name = e->name[v];
    return *name ? rq_mil_emit_type(e, d, &x->shape) : NULL;
}

rq_mil_op *rq_mil_emit_op(rq_mil_emitter *e, const char *type, rq_id out)
{
    const char *name = NULL;
    if (rq_mil_emit_flush(e)) /* first: what waits is not bound to this name */
        return NULL;
    rq_mil_type *t = place(e, out, &name);
    return t ? rq_mil_emit_named(e, type, name, t) : NULL;
}

/* Name and type of a value that the graph has not. */
static rq_mil_type *place_tmp(rq_mil_emitter *e, rq_id base, const char *what, rq_dtype d, const rq_shape *shape,
                              const char **name)
{
    const rq_mil_dtype *as = d == RQ_DTYPE_NONE ? rq_mil_emit_floats(e) : plain_dtype(e, d);
    char suffix[80];
    snprintf(suffix, sizeof suffix, "_%s", what);
    *name = rq_mil_emit_state_of(e)->st ? NULL : rq_mil_emit_name(e, e->g->values[base].name, suffix);
    return *name ? rq_mil_emit_type(e, as, shape) : NULL;
}

rq_mil_op *rq_mil_emit_tmp(rq_mil_emitter *e, const char *type, rq_id base, const char *what, rq_dtype d,
                           const rq_shape *shape, const char **name)
{
    rq_mil_type *t = place_tmp(e, base, what, d, shape, name);
    return t ? rq_mil_emit_named(e, type, *name, t) : NULL;
}

rq_status rq_mil_emit_output(rq_mil_emitter *e, rq_mil_op *op, rq_id out)
{
    const char *name = NULL;
    rq_mil_type *t = op ? place(e, out, &name) : NULL;
    return check(e, t && rq_mil_op_output(e->p, op, name, t));
}

rq_status rq_mil_emit_output_tmp(rq_mil_emitter *e, rq_mil_op *op, rq_id base, const char *what, rq_dtype d,
                                 const rq_shape *shape, const char **name)
{
    const char *own = NULL;
    rq_mil_type *t = op ? place_tmp(e, base, what, d, shape, &own) : NULL;
    if (name)
        *name = own;
    return check(e, t && rq_mil_op_output(e->p, op, own, t));
}

bool rq_mil_emit_is_copy(const rq_mil_emitter *e, const rq_node *n)
{
    if (n->n_in < 1 || n->n_out != 1 || n->in[0] == RQ_NONE || n->out[0] == RQ_NONE)
        return false;
    const rq_dtype from = e->g->values[n->in[0]].dtype, to = e->g->values[n->out[0]].dtype;
    const bool floats =
        rq_dtype_is_float(from) && rq_dtype_is_float(to) && rq_dtype_bits(from) >= 16 && rq_dtype_bits(to) >= 16;
    return rq_node_is(n, "Identity") || (rq_node_is(n, "Cast") && floats);
}

rq_status rq_mil_emit_alias(rq_mil_emitter *e, rq_id out, rq_id in)
{
    if (e->name[out] && e->name[out] == e->name[in]) /* written under that name already */
        return RQ_OK;
    if (rq_graph_is_output(e->g, out) || rq_mil_emit_dtype(e, out) != rq_mil_emit_dtype(e, in)) {
        rq_mil_op *op = rq_mil_emit_op(e, "identity", out);
        return rq_mil_emit_bind(e, op, "x", in);
    }
    e->name[out] = rq_mil_emit_value(e, in);
    return check(e, e->name[out] != NULL);
}

rq_status rq_mil_emit_bind_name(rq_mil_emitter *e, rq_mil_op *op, const char *param, const char *name)
{
    if (rq_mil_emit_state_of(e)->st)
        return rq_mil_emit_state_of(e)->st;
    return check(e, op && name && rq_mil_op_bind(e->p, op, param, name));
}

rq_status rq_mil_emit_bind(rq_mil_emitter *e, rq_mil_op *op, const char *param, rq_id v)
{
    return rq_mil_emit_bind_name(e, op, param, rq_mil_emit_value(e, v));
}

/* ---- settings ---- */

rq_status rq_mil_emit_bind_value(rq_mil_emitter *e, rq_mil_op *op, const char *param, rq_mil_value *v)
{
    char suffix[64];
    if (rq_mil_emit_state_of(e)->st)
        return rq_mil_emit_state_of(e)->st;
    snprintf(suffix, sizeof suffix, "_%s_0", param);
    return rq_mil_emit_bind_name(e, op, param, op && v ? add_const(e, rq_mil_op_name(op), suffix, v) : NULL);
}

rq_status rq_mil_emit_ints(rq_mil_emitter *e, rq_mil_op *op, const char *param, const int64_t *v, int n)
{
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { n });
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S64, &shape, (void *)v);
    return rq_mil_emit_tensor(e, op, param, &t);
}

rq_status rq_mil_emit_int(rq_mil_emitter *e, rq_mil_op *op, const char *param, int64_t v)
{
    const rq_shape shape = rq_shape_of(0, NULL);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S64, &shape, &v);
    return rq_mil_emit_tensor(e, op, param, &t);
}

rq_status rq_mil_emit_bools(rq_mil_emitter *e, rq_mil_op *op, const char *param, const bool *v, int n)
{
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { n });
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_BOOL, &shape, (void *)v);
    return rq_mil_emit_tensor(e, op, param, &t);
}

rq_status rq_mil_emit_bool(rq_mil_emitter *e, rq_mil_op *op, const char *param, bool v)
{
    return rq_mil_emit_bind_value(e, op, param, rq_mil_bool(e->p, v));
}

rq_status rq_mil_emit_float(rq_mil_emitter *e, rq_mil_op *op, const char *param, float v)
{
    const rq_shape shape = rq_shape_of(0, NULL);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &shape, &v);
    return rq_mil_emit_tensor(e, op, param, &t);
}

rq_status rq_mil_emit_text(rq_mil_emitter *e, rq_mil_op *op, const char *param, const char *v)
{
    return rq_mil_emit_bind_value(e, op, param, rq_mil_text(e->p, v));
}

rq_status rq_mil_emit_tensor(rq_mil_emitter *e, rq_mil_op *op, const char *param, const rq_tensor *t)
{
    const rq_mil_dtype *d = plain_dtype(e, t->dtype);
    const char *what = op ? rq_mil_op_name(op) : "";
    return rq_mil_emit_bind_value(e, op, param, op && d ? rq_mil_emit_make(e, t, d, NULL, what) : NULL);
}
