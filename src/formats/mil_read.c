/* formats/mil_read.c — a program from its message. Whatever can be wrong with one part alone is found here: types without a
 * kind or with two, shapes that no memory holds, values that are not as many as their type says. Numbers are not
 * copied: values point into the message. */
#include "formats/mil.h"

#include <inttypes.h>
#include <string.h>

#include "coreml.pb-c.h"

enum { MOST_AXES = RQ_MIL_MAX_RANK };
#define MOST_ELEMENTS ((uint64_t)1 << 47)

typedef struct reader {
    rq_mil_program *p;
    rq_err *err;
} reader;

static rq_status no_memory(const reader *r)
{
    return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory to read the program");
}

static void *zalloc(const reader *r, size_t n, size_t size)
{
    return rq_arena_alloc(&r->p->arena, n ? n : 1, size);
}

static rq_status text(const reader *r, const char **out, const ProtobufCBinaryData *b, const char *what)
{
    if (b->len && memchr(b->data, 0, b->len))
        return rq_fail(r->err, RQ_BAD_FILE, "%s has a NUL in it", what);
    *out = rq_arena_strndup(&r->p->arena, b->len ? (const char *)b->data : "", b->len);
    return *out ? RQ_OK : no_memory(r);
}

/* ---- types ---- */

static rq_status read_dim(const reader *r, rq_mil_dim *out, const Coreml__Dimension *d)
{
    if (!d || !d->constant == !d->unknown)
        return rq_fail(r->err, RQ_BAD_FILE, "an axis has %s size", d && d->constant ? "more than one" : "no");
    if (d->unknown)
        *out = (rq_mil_dim) { .variadic = d->unknown->variadic };
    else
        *out = (rq_mil_dim) { .known = true, .size = d->constant->size };
    return RQ_OK;
}

static rq_status read_tensor_type(const reader *r, rq_mil_type *t, const Coreml__TensorType *m)
{
    t->dtype = rq_mil_dtype_of_code(m->data_type);
    if (!t->dtype)
        return rq_fail(r->err, RQ_BAD_FILE, "element type %" PRId32 " does not exist", m->data_type);
    t->rank = m->rank;
    if (m->rank < -1 || (m->rank >= 0 && (uint64_t)m->rank != m->n_dimensions) || (m->rank == -1 && m->n_dimensions))
        return rq_fail(r->err, RQ_BAD_FILE, "a tensor has rank %" PRId64 " and %zu sizes", m->rank, m->n_dimensions);
    if (m->rank > MOST_AXES)
        return rq_fail(r->err, RQ_UNSUPPORTED, "a tensor has %" PRId64 " axes, at most %d are known", m->rank,
                       MOST_AXES);
    t->dim = zalloc(r, m->n_dimensions, sizeof *t->dim);
    if (!t->dim)
        return no_memory(r);
    uint64_t n = 1;
    for (size_t i = 0; i < m->n_dimensions; i++) {
        RQ_TRY(read_dim(r, &t->dim[i], m->dimensions[i]));
        const uint64_t size = t->dim[i].known && t->dim[i].size ? t->dim[i].size : 1;
        if (size > MOST_ELEMENTS || n > MOST_ELEMENTS / size)
            return rq_fail(r->err, RQ_BAD_FILE,
                           "a tensor has more elements than any memory holds (axis %zu: %" PRIu64 ")", i,
                           t->dim[i].size);
        n *= size;
    }
    return RQ_OK;
}

static rq_status read_type(const reader *r, rq_mil_type **out, const Coreml__ValueType *m);

static rq_status read_parts(const reader *r, rq_mil_type *t, int n, Coreml__ValueType *const *parts)
{
    t->part = zalloc(r, (size_t)n, sizeof(rq_mil_type *));
    if (!t->part)
        return no_memory(r);
    for (t->n_parts = 0; t->n_parts < n; t->n_parts++)
        RQ_TRY(read_type(r, &t->part[t->n_parts], parts[t->n_parts]));
    return RQ_OK;
}

static rq_status read_type(const reader *r, rq_mil_type **out, const Coreml__ValueType *m)
{
    const int members =
        m ? !!m->tensor_type + !!m->list_type + !!m->tuple_type + !!m->dictionary_type + !!m->state_type : 0;
    if (members != 1)
        return rq_fail(r->err, RQ_BAD_FILE, "a type is missing, or is of %d kinds at once", members);
    rq_mil_type *t = *out = zalloc(r, 1, sizeof *t);
    if (!t)
        return no_memory(r);
    t->as_read = m;
    if (m->tensor_type)
        return read_tensor_type(r, t, m->tensor_type);
    if (m->list_type) {
        t->kind = RQ_MIL_LIST;
        RQ_TRY(read_dim(r, &t->length, m->list_type->length));
        return read_parts(r, t, 1, &m->list_type->type);
    }
    if (m->tuple_type) {
        t->kind = RQ_MIL_TUPLE;
        return read_parts(r, t, (int)m->tuple_type->n_types, m->tuple_type->types);
    }
    if (m->state_type) {
        t->kind = RQ_MIL_STATE;
        return read_parts(r, t, 1, &m->state_type->wrapped_type);
    }
    t->kind = RQ_MIL_DICTIONARY;
    Coreml__ValueType *const parts[2] = { m->dictionary_type->key_type, m->dictionary_type->value_type };
    return read_parts(r, t, 2, parts);
}

/* ---- values ---- */

static const char *const store_names[] = { "nothing", "floats",    "ints",    "bools",
                                           "strings", "long ints", "doubles", "bytes" };

static rq_status read_strings(const reader *r, rq_mil_value *v, const Coreml__Strings *m)
{
    const char **s = zalloc(r, m->n_values, sizeof *s);
    if (!s)
        return no_memory(r);
    for (size_t i = 0; i < m->n_values; i++)
        RQ_TRY(text(r, &s[i], &m->values[i], "a string"));
    v->data = s;
    v->n = m->n_values;
    return RQ_OK;
}

static rq_status read_bools(const reader *r, rq_mil_value *v, const Coreml__Bools *m)
{
    uint8_t *b = zalloc(r, m->n_values, 1);
    if (!b)
        return no_memory(r);
    for (size_t i = 0; i < m->n_values; i++)
        b[i] = m->values[i] ? 1 : 0;
    v->data = b;
    v->n = v->bytes = m->n_values;
    return RQ_OK;
}

static void take(rq_mil_value *v, const void *data, size_t n, size_t size)
{
    static const _Alignas(16) uint8_t none[16];
    v->data = n ? data : none;
    v->n = n;
    v->bytes = (uint64_t)n * size;
}

/* Which member there is; STORE_NONE: none or several. */
static rq_mil_store store_of(const Coreml__TensorValue *m)
{
    const void *const members[] = {
        NULL, m->floats, m->ints, m->bools, m->strings, m->long_ints, m->doubles, m->bytes
    };
    rq_mil_store found = RQ_MIL_STORE_NONE;
    int n = 0;
    for (int i = 1; i <= RQ_MIL_STORE_BYTES; i++)
        if (members[i]) {
            found = (rq_mil_store)i;
            n++;
        }
    return n == 1 ? found : RQ_MIL_STORE_NONE;
}

static rq_status read_immediate(const reader *r, rq_mil_value *v, const Coreml__TensorValue *m)
{
    const rq_mil_dtype *t = v->type->dtype;
    const rq_mil_store found = store_of(m);
    bool known;
    const uint64_t want = rq_mil_type_count(v->type, &known);
    if (found != t->store)
        return rq_fail(r->err, RQ_BAD_FILE, "a value of %s holds %s, expected %s", t->name, store_names[found],
                       store_names[t->store]);
    switch (found) {
    case RQ_MIL_STORE_FLOATS:
        take(v, m->floats->values, m->floats->n_values, sizeof(float));
        break;
    case RQ_MIL_STORE_INTS:
        take(v, m->ints->values, m->ints->n_values, sizeof(int32_t));
        break;
    case RQ_MIL_STORE_LONGS:
        take(v, m->long_ints->values, m->long_ints->n_values, sizeof(int64_t));
        break;
    case RQ_MIL_STORE_DOUBLES:
        take(v, m->doubles->values, m->doubles->n_values, sizeof(double));
        break;
    case RQ_MIL_STORE_BOOLS:
        RQ_TRY(read_bools(r, v, m->bools));
        break;
    case RQ_MIL_STORE_STRINGS:
        RQ_TRY(read_strings(r, v, m->strings));
        break;
    default:
        take(v, m->bytes->values.data, m->bytes->values.len, 1);
        if (known && v->bytes != rq_mil_dtype_bytes(t, want))
            return rq_fail(r->err, RQ_BAD_FILE,
                           "a value of %" PRIu64 " elements of %s has %" PRIu64 " bytes, expected %" PRIu64, want,
                           t->name, v->bytes, rq_mil_dtype_bytes(t, want));
        v->n = want;
        break;
    }
    if (!known)
        return rq_fail(r->err, RQ_BAD_FILE, "a value has a size that is not known");
    if (v->n != want)
        return rq_fail(r->err, RQ_BAD_FILE, "a value has %" PRIu64 " elements, its type %" PRIu64, v->n, want);
    return RQ_OK;
}

static rq_status read_value(const reader *r, rq_mil_value **out, const Coreml__Value *m);

/* A value inside another one. */
static rq_status read_inner(const reader *r, rq_mil_value **out, const Coreml__Value *m)
{
    RQ_TRY(read_value(r, out, m));
    return (*out)->kind == RQ_MIL_BLOB
               ? rq_fail(r->err, RQ_UNSUPPORTED, "a list or dictionary has values in a weight file")
               : RQ_OK;
}

static rq_status read_values(const reader *r, rq_mil_value *v, const Coreml__ValueList *m)
{
    v->kind = RQ_MIL_VALUES;
    v->n = m->n_values;
    v->value = zalloc(r, m->n_values, sizeof(rq_mil_value *));
    if (!v->value)
        return no_memory(r);
    for (size_t i = 0; i < m->n_values; i++)
        RQ_TRY(read_inner(r, &v->value[i], m->values[i]));
    const rq_mil_type *t = v->type;
    const uint64_t want = t->kind == RQ_MIL_TUPLE ? (uint64_t)t->n_parts : t->length.known ? t->length.size : v->n;
    if (v->n != want)
        return rq_fail(r->err, RQ_BAD_FILE, "a list has %" PRIu64 " values, its type %" PRIu64, v->n, want);
    return RQ_OK;
}

static rq_status read_pairs(const reader *r, rq_mil_value *v, const Coreml__DictionaryValue *m)
{
    v->kind = RQ_MIL_PAIRS;
    v->n = m->n_values;
    v->value = zalloc(r, m->n_values, 2 * sizeof(rq_mil_value *));
    if (!v->value)
        return no_memory(r);
    for (size_t i = 0; i < m->n_values; i++) {
        RQ_TRY(read_inner(r, &v->value[2 * i], m->values[i]->key));
        RQ_TRY(read_inner(r, &v->value[2 * i + 1], m->values[i]->value));
    }
    return RQ_OK;
}

static rq_status read_blob(const reader *r, rq_mil_value *v, const Coreml__BlobFileValue *m)
{
    bool known;
    v->kind = RQ_MIL_BLOB;
    v->offset = m->offset;
    RQ_TRY(text(r, &v->file, &m->file_name, "the name of a weight file"));
    if (v->type->kind != RQ_MIL_TENSOR || !v->type->dtype->blob)
        return rq_fail(r->err, RQ_BAD_FILE, "a value is in a weight file, which holds no %s",
                       v->type->kind == RQ_MIL_TENSOR ? v->type->dtype->name : "lists or dictionaries");
    v->n = rq_mil_type_count(v->type, &known);
    return known ? RQ_OK : rq_fail(r->err, RQ_BAD_FILE, "a value has a size that is not known");
}

static rq_status read_value(const reader *r, rq_mil_value **out, const Coreml__Value *m)
{
    if (!m || !m->immediate_value == !m->blob_file_value)
        return rq_fail(r->err, RQ_BAD_FILE, "a value %s", m && m->blob_file_value ? "stands twice" : "is missing");
    rq_mil_value *v = *out = zalloc(r, 1, sizeof *v);
    if (!v)
        return no_memory(r);
    v->as_read = m;
    RQ_TRY(read_type(r, &v->type, m->type));
    if (m->blob_file_value)
        return read_blob(r, v, m->blob_file_value);
    const Coreml__ImmediateValue *i = m->immediate_value;
    const int members = !!i->tensor + !!i->tuple + !!i->list + !!i->dictionary;
    if (members == 1 && i->tensor && v->type->kind == RQ_MIL_TENSOR)
        return read_immediate(r, v, i->tensor);
    if (members == 1 && i->list && v->type->kind == RQ_MIL_LIST)
        return read_values(r, v, i->list);
    if (members == 1 && i->tuple && v->type->kind == RQ_MIL_TUPLE)
        return read_values(r, v, i->tuple);
    if (members == 1 && i->dictionary && v->type->kind == RQ_MIL_DICTIONARY)
        return read_pairs(r, v, i->dictionary);
    return rq_fail(r->err, RQ_BAD_FILE, "a value is not of the kind that its type says");
}

/* ---- operations and blocks ---- */

static rq_status read_attrs(const reader *r, rq_mil_attr **out, int *n, int *cap, size_t all,
                            Coreml__ValueEntry *const *m)
{
    rq_mil_attr *a = *out = zalloc(r, all, sizeof *a);
    if (!a)
        return no_memory(r);
    *cap = (int)all;
    for (size_t i = 0; i < all; i++) {
        RQ_TRY(text(r, &a[i].name, &m[i]->key, "the name of an attribute"));
        const rq_status st = read_value(r, &a[i].value, m[i]->value);
        if (st)
            return rq_fail_in(r->err, st, "attribute '%s'", a[i].name);
        *n = (int)i + 1;
    }
    return RQ_OK;
}

static rq_status read_vars(const reader *r, rq_mil_var **out, int *n, int *cap, size_t all,
                           Coreml__NamedValueType *const *m)
{
    rq_mil_var *v = *out = zalloc(r, all, sizeof *v);
    if (!v)
        return no_memory(r);
    *cap = (int)all;
    for (size_t i = 0; i < all; i++) {
        v[i].as_read = m[i];
        RQ_TRY(text(r, &v[i].name, &m[i]->name, "the name of a value"));
        const rq_status st = read_type(r, &v[i].type, m[i]->type);
        if (st)
            return rq_fail_in(r->err, st, "value '%s'", v[i].name);
        *n = (int)i + 1;
    }
    return RQ_OK;
}

static rq_status read_arg(const reader *r, rq_mil_arg *arg, const Coreml__Argument *m)
{
    if (!m)
        return rq_fail(r->err, RQ_BAD_FILE, "nothing is bound to it");
    arg->as_read = m;
    arg->binding = zalloc(r, m->n_arguments, sizeof *arg->binding);
    if (!arg->binding)
        return no_memory(r);
    arg->n = arg->cap = (int)m->n_arguments;
    for (int i = 0; i < arg->n; i++) {
        const Coreml__Binding *b = m->arguments[i];
        arg->binding[i].as_read = b;
        if (b->has_name == (b->value != NULL))
            return rq_fail(r->err, RQ_BAD_FILE, "is bound to %s", b->value ? "a name and a value" : "nothing");
        if (b->has_name)
            RQ_TRY(text(r, &arg->binding[i].name, &b->name, "the name of a value"));
        else
            RQ_TRY(read_value(r, &arg->binding[i].value, b->value));
    }
    return RQ_OK;
}

static rq_status read_args(const reader *r, rq_mil_op *op, const Coreml__Operation *m)
{
    op->args = zalloc(r, m->n_inputs, sizeof *op->args);
    if (!op->args)
        return no_memory(r);
    op->cap_args = (int)m->n_inputs;
    for (size_t i = 0; i < m->n_inputs; i++) {
        rq_mil_arg *arg = &op->args[i];
        RQ_TRY(text(r, &arg->param, &m->inputs[i]->key, "the name of a parameter"));
        const rq_status st = read_arg(r, arg, m->inputs[i]->value);
        if (st)
            return rq_fail_in(r->err, st, "parameter '%s'", arg->param);
        op->n_args = (int)i + 1;
    }
    return RQ_OK;
}

static rq_status read_block(const reader *r, rq_mil_block **out, const Coreml__Block *m);

static rq_status read_op_parts(const reader *r, rq_mil_op *op, const Coreml__Operation *m)
{
    RQ_TRY(read_attrs(r, &op->attrs, &op->n_attrs, &op->cap_attrs, m->n_attributes, m->attributes));
    RQ_TRY(read_vars(r, &op->outputs, &op->n_outputs, &op->cap_outputs, m->n_outputs, m->outputs));
    RQ_TRY(read_args(r, op, m));
    op->blocks = zalloc(r, m->n_blocks, sizeof(rq_mil_block *));
    if (!op->blocks)
        return no_memory(r);
    op->cap_blocks = (int)m->n_blocks;
    for (size_t i = 0; i < m->n_blocks; i++) {
        RQ_TRY(read_block(r, &op->blocks[i], m->blocks[i]));
        op->n_blocks = (int)i + 1;
    }
    return RQ_OK;
}

static rq_status read_op(const reader *r, rq_mil_op **out, const Coreml__Operation *m)
{
    rq_mil_op *op = *out = zalloc(r, 1, sizeof *op);
    if (!op)
        return no_memory(r);
    op->as_read = m;
    RQ_TRY(text(r, &op->type, &m->type, "the type of an operation"));
    const rq_status st = read_op_parts(r, op, m);
    if (!st)
        return RQ_OK;
    const char *name = op->n_outputs ? op->outputs[0].name : rq_mil_op_name(op);
    return rq_fail_in(r->err, st, "operation '%s' (%s)", name, op->type);
}

static rq_status read_block(const reader *r, rq_mil_block **out, const Coreml__Block *m)
{
    rq_mil_block *b = *out = m ? zalloc(r, 1, sizeof *b) : NULL;
    if (!m)
        return rq_fail(r->err, RQ_BAD_FILE, "a block is missing");
    if (!b)
        return no_memory(r);
    b->as_read = m;
    RQ_TRY(read_vars(r, &b->inputs, &b->n_inputs, &b->cap_inputs, m->n_inputs, m->inputs));
    RQ_TRY(read_attrs(r, &b->attrs, &b->n_attrs, &b->cap_attrs, m->n_attributes, m->attributes));
    b->outputs = zalloc(r, m->n_outputs, sizeof *b->outputs);
    b->ops = zalloc(r, m->n_operations, sizeof(rq_mil_op *));
    if (!b->outputs || !b->ops)
        return no_memory(r);
    b->cap_outputs = (int)m->n_outputs;
    b->cap_ops = (int)m->n_operations;
    for (size_t i = 0; i < m->n_outputs; i++) {
        RQ_TRY(text(r, &b->outputs[i], &m->outputs[i], "the name of an output"));
        b->n_outputs = (int)i + 1;
    }
    for (size_t i = 0; i < m->n_operations; i++) {
        RQ_TRY(read_op(r, &b->ops[i], m->operations[i]));
        b->n_ops = (int)i + 1;
    }
    return RQ_OK;
}

/* ---- functions ---- */

static rq_status read_special(const reader *r, rq_mil_function *f, const Coreml__Function *m)
{
    f->special = zalloc(r, m->n_block_specializations, sizeof *f->special);
    if (!f->special)
        return no_memory(r);
    f->cap_special = (int)m->n_block_specializations;
    for (int i = 0; i < f->cap_special; i++) {
        rq_mil_special *s = &f->special[i];
        RQ_TRY(text(r, &s->opset, &m->block_specializations[i]->key, "the name of an opset"));
        RQ_TRY(read_block(r, &s->block, m->block_specializations[i]->value));
        f->n_special = i + 1;
        if (!strcmp(s->opset, f->opset)) {
            if (f->block)
                return rq_fail(r->err, RQ_BAD_FILE, "there are two blocks for opset '%s'", f->opset);
            f->block = s->block;
        }
    }
    return f->block ? RQ_OK : rq_fail(r->err, RQ_BAD_FILE, "there is no block for its opset '%s'", f->opset);
}

static rq_status read_function(const reader *r, rq_mil_function *f, const Coreml__Function *m)
{
    if (!m)
        return rq_fail(r->err, RQ_BAD_FILE, "it is empty");
    f->as_read = m;
    RQ_TRY(text(r, &f->opset, &m->opset, "the name of an opset"));
    RQ_TRY(read_vars(r, &f->inputs, &f->n_inputs, &f->cap_inputs, m->n_inputs, m->inputs));
    RQ_TRY(read_attrs(r, &f->attrs, &f->n_attrs, &f->cap_attrs, m->n_attributes, m->attributes));
    return read_special(r, f, m);
}

rq_status rq_mil_read(rq_mil_program *p, const void *message, rq_err *err)
{
    const Coreml__Program *m = message;
    const reader r = { .p = p, .err = err };
    if (m->version != 1)
        return rq_fail(err, RQ_UNSUPPORTED, "the program has version %" PRId64 ", expected 1", m->version);
    p->version = m->version;
    p->as_read = m;
    RQ_TRY(read_attrs(&r, &p->attrs, &p->n_attrs, &p->cap_attrs, m->n_attributes, m->attributes));
    p->functions = zalloc(&r, m->n_functions, sizeof(rq_mil_function *));
    if (!p->functions)
        return no_memory(&r);
    p->cap_functions = (int)m->n_functions;
    if (!m->n_functions)
        return rq_fail(err, RQ_BAD_FILE, "the program has no functions");
    for (size_t i = 0; i < m->n_functions; i++) {
        rq_mil_function *f = p->functions[i] = zalloc(&r, 1, sizeof *f);
        if (!f)
            return no_memory(&r);
        RQ_TRY(text(&r, &f->name, &m->functions[i]->key, "the name of a function"));
        if (rq_mil_function_find(p, f->name))
            return rq_fail(err, RQ_BAD_FILE, "there are two functions '%s'", f->name);
        const rq_status st = read_function(&r, f, m->functions[i]->value);
        if (st)
            return rq_fail_in(err, st, "function '%s'", f->name);
        p->n_functions = (int)i + 1;
    }
    return RQ_OK;
}

void rq_mil_release(rq_mil_program *p)
{
    rq_arena_release(&p->arena);
    *p = (rq_mil_program) { 0 };
}
