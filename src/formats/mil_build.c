/* formats/mil_build.c — finding parts of a program, and making new ones. Lists grow by doubling inside the program's
 * memory; what they leave behind goes with it. */
#include "formats/mil.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- finding ---- */

rq_mil_function *rq_mil_function_find(const rq_mil_program *p, const char *name)
{
    for (int i = 0; i < p->n_functions; i++)
        if (!strcmp(p->functions[i]->name, name))
            return p->functions[i];
    return NULL;
}

rq_mil_arg *rq_mil_op_arg(const rq_mil_op *op, const char *param)
{
    for (int i = 0; i < op->n_args; i++)
        if (!strcmp(op->args[i].param, param))
            return &op->args[i];
    return NULL;
}

rq_mil_value *rq_mil_op_attr(const rq_mil_op *op, const char *name)
{
    for (int i = 0; i < op->n_attrs; i++)
        if (!strcmp(op->attrs[i].name, name))
            return op->attrs[i].value;
    return NULL;
}

const char *rq_mil_value_text(const rq_mil_value *v)
{
    if (v->kind != RQ_MIL_IMMEDIATE || v->type->dtype->store != RQ_MIL_STORE_STRINGS || v->n != 1)
        return NULL;
    return ((const char *const *)v->data)[0];
}

const char *rq_mil_op_name(const rq_mil_op *op)
{
    const rq_mil_value *v = rq_mil_op_attr(op, "name");
    const char *text = v ? rq_mil_value_text(v) : NULL;
    return text ? text : "";
}

uint64_t rq_mil_type_count(const rq_mil_type *t, bool *known)
{
    uint64_t n = 1;
    *known = t->kind == RQ_MIL_TENSOR && t->rank >= 0;
    for (int64_t i = 0; *known && i < t->rank; i++) {
        *known = t->dim[i].known;
        n *= t->dim[i].size;
    }
    return *known ? n : 0;
}

static size_t add(char *buf, size_t n, size_t at, const char *s)
{
    const size_t k = strlen(s);
    if (at + k + 1 > n)
        return at;
    memcpy(buf + at, s, k + 1);
    return at + k;
}

static size_t add_type(char *buf, size_t n, size_t at, const rq_mil_type *t)
{
    static const char *const kinds[] = { [RQ_MIL_LIST] = "list(",
                                         [RQ_MIL_TUPLE] = "tuple(",
                                         [RQ_MIL_DICTIONARY] = "dictionary(",
                                         [RQ_MIL_STATE] = "state(" };
    char size[24];
    if (t->kind == RQ_MIL_TENSOR) {
        at = add(buf, n, at, t->dtype->name);
        at = add(buf, n, at, t->rank < 0 ? "[...]" : "[");
        for (int64_t i = 0; i < t->rank; i++) {
            snprintf(size, sizeof size, "%s%" PRIu64, i ? "," : "", t->dim[i].size);
            at = add(buf, n, at, t->dim[i].known ? size : i ? ",?" : "?");
        }
        return t->rank < 0 ? at : add(buf, n, at, "]");
    }
    at = add(buf, n, at, kinds[t->kind]);
    for (int i = 0; i < t->n_parts; i++) {
        at = add(buf, n, at, i ? ", " : "");
        at = add_type(buf, n, at, t->part[i]);
    }
    if (t->kind == RQ_MIL_LIST && t->length.known) {
        snprintf(size, sizeof size, ", %" PRIu64, t->length.size);
        at = add(buf, n, at, size);
    }
    return add(buf, n, at, ")");
}

const char *rq_mil_type_text(const rq_mil_type *t, char *buf, size_t n)
{
    buf[0] = 0;
    add_type(buf, n, 0, t);
    return buf;
}

/* ---- making ---- */

/* Room for one more of `size` bytes each in *items (n used, *cap there). */
static bool grow(rq_mil_program *p, void *items_ptr, int n, int *cap, size_t size)
{
    if (n < *cap)
        return true;
    const int more = *cap < 4 ? 4 : *cap * 2;
    void *items, *bigger = more > *cap ? rq_arena_alloc(&p->arena, (size_t)more, size) : NULL;
    if (!bigger)
        return false;
    memcpy(&items, items_ptr, sizeof items);
    if (n)
        memcpy(bigger, items, (size_t)n * size);
    memcpy(items_ptr, &bigger, sizeof bigger);
    *cap = more;
    return true;
}

static char *copy(rq_mil_program *p, const char *s)
{
    return rq_arena_strndup(&p->arena, s, strlen(s));
}

rq_mil_type *rq_mil_tensor_type(rq_mil_program *p, const rq_mil_dtype *dtype, int rank, const int64_t *dim)
{
    rq_mil_type *t = rq_arena_alloc(&p->arena, 1, sizeof *t);
    rq_mil_dim *d = rq_arena_alloc(&p->arena, rank > 0 ? (size_t)rank : 1, sizeof *d);
    if (!t || !d)
        return NULL;
    for (int i = 0; i < rank; i++)
        d[i] = (rq_mil_dim) { .known = dim[i] >= 0, .size = dim[i] >= 0 ? (uint64_t)dim[i] : 0 };
    *t = (rq_mil_type) { .kind = RQ_MIL_TENSOR, .dtype = dtype, .rank = rank, .dim = d };
    return t;
}

static size_t store_size(const rq_mil_dtype *t)
{
    switch (t->store) {
    case RQ_MIL_STORE_FLOATS:
    case RQ_MIL_STORE_INTS:
        return 4;
    case RQ_MIL_STORE_LONGS:
    case RQ_MIL_STORE_DOUBLES:
        return 8;
    default:
        return 1;
    }
}

static rq_mil_value *new_value(rq_mil_program *p, rq_mil_value_kind kind, rq_mil_type *type)
{
    bool known;
    rq_mil_value *v = type ? rq_arena_alloc(&p->arena, 1, sizeof *v) : NULL;
    if (v) {
        v->kind = kind;
        v->type = type;
        v->n = rq_mil_type_count(type, &known);
    }
    return v;
}

rq_mil_value *rq_mil_immediate(rq_mil_program *p, rq_mil_type *type, const void *data)
{
    rq_mil_value *v = new_value(p, RQ_MIL_IMMEDIATE, type);
    if (!v)
        return NULL;
    if (type->dtype->store == RQ_MIL_STORE_STRINGS) {
        const char **s = rq_arena_alloc(&p->arena, v->n ? v->n : 1, sizeof *s);
        for (uint64_t i = 0; s && i < v->n; i++)
            if (!(s[i] = copy(p, ((const char *const *)data)[i])))
                return NULL;
        v->data = s;
        return s ? v : NULL;
    }
    v->bytes = type->dtype->store == RQ_MIL_STORE_BYTES ? rq_mil_dtype_bytes(type->dtype, v->n)
                                                        : v->n * store_size(type->dtype);
    void *own = rq_arena_alloc(&p->arena, v->bytes ? v->bytes : 1, 1);
    if (own && v->bytes)
        memcpy(own, data, v->bytes);
    v->data = own;
    return own ? v : NULL;
}

static rq_mil_value *scalar(rq_mil_program *p, const char *type, const void *data)
{
    return rq_mil_immediate(p, rq_mil_tensor_type(p, rq_mil_dtype_of_name(type), 0, NULL), data);
}

rq_mil_value *rq_mil_text(rq_mil_program *p, const char *text)
{
    return scalar(p, "string", &text);
}

rq_mil_value *rq_mil_ints(rq_mil_program *p, const int32_t *v, int n)
{
    return rq_mil_immediate(p, rq_mil_tensor_type(p, rq_mil_dtype_of_name("int32"), 1, &(int64_t) { n }), v);
}

rq_mil_value *rq_mil_int(rq_mil_program *p, int32_t v)
{
    return scalar(p, "int32", &v);
}

rq_mil_value *rq_mil_bool(rq_mil_program *p, bool v)
{
    return scalar(p, "bool", &(uint8_t) { v });
}

rq_mil_value *rq_mil_float(rq_mil_program *p, float v)
{
    return scalar(p, "fp32", &v);
}

rq_mil_value *rq_mil_blob(rq_mil_program *p, rq_mil_type *type, const void *data)
{
    rq_mil_value *v = new_value(p, RQ_MIL_BLOB, type);
    if (v) {
        v->data = data;
        v->bytes = rq_mil_dtype_bytes(type->dtype, v->n);
    }
    return v;
}

rq_mil_value *rq_mil_blob_produced(rq_mil_program *p, rq_mil_type *type, rq_mil_produce produce, void *arg)
{
    rq_mil_value *v = rq_mil_blob(p, type, NULL);
    if (v) {
        v->produce = produce;
        v->produce_arg = arg;
    }
    return v;
}

rq_mil_op *rq_mil_op_make(rq_mil_program *p, const char *type, const char *name)
{
    rq_mil_op *op = rq_arena_alloc(&p->arena, 1, sizeof *op);
    if (!op || !(op->type = copy(p, type)) || !rq_mil_op_set_attr(p, op, "name", rq_mil_text(p, name)))
        return NULL;
    return op;
}

static bool bind(rq_mil_program *p, rq_mil_op *op, const char *param, rq_mil_binding binding)
{
    rq_mil_arg *arg = rq_mil_op_arg(op, param);
    if (!arg) {
        if (!grow(p, &op->args, op->n_args, &op->cap_args, sizeof *op->args))
            return false;
        arg = &op->args[op->n_args];
        *arg = (rq_mil_arg) { .param = copy(p, param) };
        if (!arg->param)
            return false;
        op->n_args++;
    }
    if (!grow(p, &arg->binding, arg->n, &arg->cap, sizeof *arg->binding))
        return false;
    arg->binding[arg->n++] = binding;
    return true;
}

bool rq_mil_op_bind(rq_mil_program *p, rq_mil_op *op, const char *param, const char *value_name)
{
    const char *own = copy(p, value_name);
    return own && bind(p, op, param, (rq_mil_binding) { .name = own });
}

bool rq_mil_op_bind_value(rq_mil_program *p, rq_mil_op *op, const char *param, rq_mil_value *value)
{
    return value && bind(p, op, param, (rq_mil_binding) { .value = value });
}

bool rq_mil_op_set_attr(rq_mil_program *p, rq_mil_op *op, const char *name, rq_mil_value *value)
{
    if (!value)
        return false;
    for (int i = 0; i < op->n_attrs; i++)
        if (!strcmp(op->attrs[i].name, name)) {
            op->attrs[i].value = value;
            return true;
        }
    const char *own = copy(p, name);
    if (!own || !grow(p, &op->attrs, op->n_attrs, &op->cap_attrs, sizeof *op->attrs))
        return false;
    op->attrs[op->n_attrs++] = (rq_mil_attr) { own, value };
    return true;
}

static bool add_var(rq_mil_program *p, rq_mil_var **vars, int *n, int *cap, const char *name, rq_mil_type *type)
{
    const char *own = copy(p, name);
    if (!type || !own || !grow(p, vars, *n, cap, sizeof **vars))
        return false;
    (*vars)[(*n)++] = (rq_mil_var) { .name = own, .type = type };
    return true;
}

bool rq_mil_op_output(rq_mil_program *p, rq_mil_op *op, const char *name, rq_mil_type *type)
{
    return add_var(p, &op->outputs, &op->n_outputs, &op->cap_outputs, name, type);
}

bool rq_mil_block_insert(rq_mil_program *p, rq_mil_block *b, int at, rq_mil_op *op)
{
    if (!op || !grow(p, &b->ops, b->n_ops, &b->cap_ops, sizeof(rq_mil_op *)))
        return false;
    memmove(b->ops + at + 1, b->ops + at, (size_t)(b->n_ops - at) * sizeof(rq_mil_op *));
    b->ops[at] = op;
    b->n_ops++;
    return true;
}

bool rq_mil_block_output(rq_mil_program *p, rq_mil_block *b, const char *name)
{
    const char *own = copy(p, name);
    if (!own || !grow(p, &b->outputs, b->n_outputs, &b->cap_outputs, sizeof(char *)))
        return false;
    b->outputs[b->n_outputs++] = own;
    return true;
}

rq_mil_function *rq_mil_function_make(rq_mil_program *p, const char *name, const char *opset)
{
    rq_mil_function *f = rq_arena_alloc(&p->arena, 1, sizeof *f);
    rq_mil_block *b = rq_arena_alloc(&p->arena, 1, sizeof *b);
    if (!f || !b || !(f->name = copy(p, name)) || !(f->opset = copy(p, opset)) ||
        !grow(p, &f->special, 0, &f->cap_special, sizeof *f->special) ||
        !grow(p, &p->functions, p->n_functions, &p->cap_functions, sizeof(rq_mil_function *)))
        return NULL;
    f->special[f->n_special++] = (rq_mil_special) { f->opset, b };
    f->block = b;
    p->functions[p->n_functions++] = f;
    return f;
}

bool rq_mil_function_input(rq_mil_program *p, rq_mil_function *f, const char *name, rq_mil_type *type)
{
    return add_var(p, &f->inputs, &f->n_inputs, &f->cap_inputs, name, type);
}
