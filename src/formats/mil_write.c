/* formats/mil_write.c — a program as its message. A part that was read begins as a copy of the message it was, which carries
 * what we have no names for; then its lists are set anew. Types and values never change, so they stand as they were, but
 * for the place of blobs. */
#include "formats/mil.h"

#include <string.h>

#include "coreml.pb-c.h"

typedef struct writer {
    rq_arena *a;
    rq_mil_place place;
    void *arg;
    rq_err *err;
} writer;

static rq_status no_memory(const writer *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "not enough memory to write the program");
}

/* A message: a copy of the one that was read, or an empty one. */
static void *message(const writer *w, const ProtobufCMessageDescriptor *d, const void *as_read)
{
    void *m = rq_arena_alloc(w->a, 1, d->sizeof_message);
    if (m && as_read)
        memcpy(m, as_read, d->sizeof_message);
    else if (m)
        protobuf_c_message_init(d, m);
    return m;
}

#define NEW(w, name, as_read) message(w, &coreml__##name##__descriptor, as_read)

static void *list(const writer *w, int n)
{
    return rq_arena_alloc(w->a, n > 0 ? (size_t)n : 1, sizeof(void *));
}

static ProtobufCBinaryData bytes_of(const char *s)
{
    return (ProtobufCBinaryData) { .len = strlen(s), .data = (uint8_t *)s };
}

/* ---- types ---- */

static Coreml__Dimension *build_dim(const writer *w, const rq_mil_dim *dim)
{
    Coreml__Dimension *d = NEW(w, dimension, NULL);
    if (d && dim->known && (d->constant = NEW(w, constant_dimension, NULL))) {
        d->constant->has_size = dim->size != 0;
        d->constant->size = dim->size;
    }
    if (d && !dim->known && (d->unknown = NEW(w, unknown_dimension, NULL)))
        d->unknown->has_variadic = d->unknown->variadic = dim->variadic;
    return d && (d->constant || d->unknown) ? d : NULL;
}

static rq_status build_type(const writer *w, Coreml__ValueType **out, const rq_mil_type *t);

static rq_status build_tensor_type(const writer *w, Coreml__TensorType **out, const rq_mil_type *t)
{
    Coreml__TensorType *m = *out = NEW(w, tensor_type, NULL);
    if (!m || (t->rank > 0 && !(m->dimensions = list(w, (int)t->rank))))
        return no_memory(w);
    m->has_data_type = true;
    m->data_type = t->dtype->code;
    m->has_rank = t->rank != 0;
    m->rank = t->rank;
    for (int64_t i = 0; i < t->rank; i++)
        if (!(m->dimensions[m->n_dimensions++] = build_dim(w, &t->dim[i])))
            return no_memory(w);
    return RQ_OK;
}

static rq_status build_type(const writer *w, Coreml__ValueType **out, const rq_mil_type *t)
{
    if (t->as_read) {
        *out = (Coreml__ValueType *)t->as_read;
        return RQ_OK;
    }
    Coreml__ValueType *m = *out = NEW(w, value_type, NULL);
    if (!m)
        return no_memory(w);
    switch (t->kind) {
    case RQ_MIL_LIST:
        if (!(m->list_type = NEW(w, list_type, NULL)) || !(m->list_type->length = build_dim(w, &t->length)))
            return no_memory(w);
        return build_type(w, &m->list_type->type, t->part[0]);
    case RQ_MIL_DICTIONARY:
        if (!(m->dictionary_type = NEW(w, dictionary_type, NULL)))
            return no_memory(w);
        RQ_TRY(build_type(w, &m->dictionary_type->key_type, t->part[0]));
        return build_type(w, &m->dictionary_type->value_type, t->part[1]);
    case RQ_MIL_STATE:
        if (!(m->state_type = NEW(w, state_type, NULL)))
            return no_memory(w);
        return build_type(w, &m->state_type->wrapped_type, t->part[0]);
    case RQ_MIL_TUPLE:
        if (!(m->tuple_type = NEW(w, tuple_type, NULL)) || !(m->tuple_type->types = list(w, t->n_parts)))
            return no_memory(w);
        for (int i = 0; i < t->n_parts; i++)
            RQ_TRY(build_type(w, &m->tuple_type->types[m->tuple_type->n_types++], t->part[i]));
        return RQ_OK;
    default:
        return build_tensor_type(w, &m->tensor_type, t);
    }
}

/* ---- values ---- */

#define NUMBERS(member, name, store)                                                                                   \
    do {                                                                                                               \
        if (!(m->member = NEW(w, name, NULL)))                                                                         \
            return NULL;                                                                                               \
        m->member->n_values = v->n;                                                                                    \
        m->member->values = (store *)v->data;                                                                          \
    } while (0)

static Coreml__TensorValue *build_tensor(const writer *w, const rq_mil_value *v)
{
    Coreml__TensorValue *m = NEW(w, tensor_value, NULL);
    if (!m)
        return NULL;
    switch (v->type->dtype->store) {
    case RQ_MIL_STORE_FLOATS:
        NUMBERS(floats, floats, float);
        return m;
    case RQ_MIL_STORE_INTS:
        NUMBERS(ints, ints, int32_t);
        return m;
    case RQ_MIL_STORE_LONGS:
        NUMBERS(long_ints, long_ints, int64_t);
        return m;
    case RQ_MIL_STORE_DOUBLES:
        NUMBERS(doubles, doubles, double);
        return m;
    case RQ_MIL_STORE_BOOLS:
        if (!(m->bools = NEW(w, bools, NULL)) ||
            !(m->bools->values = rq_arena_alloc(w->a, v->n ? v->n : 1, sizeof *m->bools->values)))
            return NULL;
        for (; m->bools->n_values < v->n; m->bools->n_values++)
            m->bools->values[m->bools->n_values] = ((const uint8_t *)v->data)[m->bools->n_values];
        return m;
    case RQ_MIL_STORE_STRINGS:
        if (!(m->strings = NEW(w, strings, NULL)) ||
            !(m->strings->values = rq_arena_alloc(w->a, v->n ? v->n : 1, sizeof *m->strings->values)))
            return NULL;
        for (; m->strings->n_values < v->n; m->strings->n_values++)
            m->strings->values[m->strings->n_values] = bytes_of(((const char *const *)v->data)[m->strings->n_values]);
        return m;
    default:
        if (!(m->bytes = NEW(w, raw_bytes, NULL)))
            return NULL;
        m->bytes->has_values = v->bytes != 0;
        m->bytes->values = (ProtobufCBinaryData) { .len = v->bytes, .data = (uint8_t *)v->data };
        return m;
    }
}

static rq_status build_value(const writer *w, Coreml__Value **out, const rq_mil_value *v);

static rq_status build_inner(const writer *w, Coreml__ImmediateValue *m, const rq_mil_value *v)
{
    if (v->kind == RQ_MIL_PAIRS) {
        Coreml__DictionaryValue *d = m->dictionary = NEW(w, dictionary_value, NULL);
        if (!d || !(d->values = list(w, (int)v->n)))
            return no_memory(w);
        for (; d->n_values < v->n; d->n_values++) {
            Coreml__KeyValuePair *pair = d->values[d->n_values] = NEW(w, key_value_pair, NULL);
            if (!pair)
                return no_memory(w);
            RQ_TRY(build_value(w, &pair->key, v->value[2 * d->n_values]));
            RQ_TRY(build_value(w, &pair->value, v->value[2 * d->n_values + 1]));
        }
        return RQ_OK;
    }
    Coreml__ValueList *l = NEW(w, value_list, NULL);
    *(v->type->kind == RQ_MIL_LIST ? &m->list : &m->tuple) = l;
    if (!l || !(l->values = list(w, (int)v->n)))
        return no_memory(w);
    for (; l->n_values < v->n; l->n_values++)
        RQ_TRY(build_value(w, &l->values[l->n_values], v->value[l->n_values]));
    return RQ_OK;
}

static rq_status build_blob(const writer *w, Coreml__Value *m, const rq_mil_value *v)
{
    const char *file = v->file;
    uint64_t offset = v->offset;
    if (w->place)
        RQ_TRY(w->place(w->arg, v, &file, &offset, w->err));
    if (!file)
        return rq_fail(w->err, RQ_INTERNAL, "weights were not placed in a file");
    m->blob_file_value = NEW(w, blob_file_value, m->blob_file_value);
    if (!m->blob_file_value)
        return no_memory(w);
    m->blob_file_value->has_file_name = true;
    m->blob_file_value->file_name = bytes_of(file);
    m->blob_file_value->has_offset = true;
    m->blob_file_value->offset = offset;
    return RQ_OK;
}

static rq_status build_value(const writer *w, Coreml__Value **out, const rq_mil_value *v)
{
    if (v->as_read && (v->kind != RQ_MIL_BLOB || !w->place)) {
        *out = (Coreml__Value *)v->as_read;
        return RQ_OK;
    }
    Coreml__Value *m = *out = NEW(w, value, v->as_read);
    if (!m)
        return no_memory(w);
    if (!v->as_read)
        RQ_TRY(build_type(w, &m->type, v->type));
    if (v->kind == RQ_MIL_BLOB)
        return build_blob(w, m, v);
    if (!(m->immediate_value = NEW(w, immediate_value, NULL)))
        return no_memory(w);
    if (v->kind == RQ_MIL_IMMEDIATE)
        return (m->immediate_value->tensor = build_tensor(w, v)) ? RQ_OK : no_memory(w);
    return build_inner(w, m->immediate_value, v);
}

/* ---- operations and blocks ---- */

static rq_status build_attrs(const writer *w, size_t *n, Coreml__ValueEntry ***out, const rq_mil_attr *attrs,
                             int n_attrs)
{
    *n = 0;
    if (!(*out = list(w, n_attrs)))
        return no_memory(w);
    for (int i = 0; i < n_attrs; i++) {
        Coreml__ValueEntry *e = (*out)[i] = NEW(w, value_entry, NULL);
        if (!e)
            return no_memory(w);
        e->has_key = true;
        e->key = bytes_of(attrs[i].name);
        RQ_TRY(build_value(w, &e->value, attrs[i].value));
        *n = (size_t)i + 1;
    }
    return RQ_OK;
}

static rq_status build_vars(const writer *w, size_t *n, Coreml__NamedValueType ***out, const rq_mil_var *vars,
                            int n_vars)
{
    *n = 0;
    if (!(*out = list(w, n_vars)))
        return no_memory(w);
    for (int i = 0; i < n_vars; i++) {
        Coreml__NamedValueType *v = (*out)[i] = NEW(w, named_value_type, vars[i].as_read);
        if (!v)
            return no_memory(w);
        v->has_name = true;
        v->name = bytes_of(vars[i].name);
        RQ_TRY(build_type(w, &v->type, vars[i].type));
        *n = (size_t)i + 1;
    }
    return RQ_OK;
}

static rq_status build_arg(const writer *w, Coreml__Argument **out, const rq_mil_arg *arg)
{
    Coreml__Argument *m = *out = NEW(w, argument, arg->as_read);
    if (!m || !(m->arguments = list(w, arg->n)))
        return no_memory(w);
    for (m->n_arguments = 0; m->n_arguments < (size_t)arg->n; m->n_arguments++) {
        const rq_mil_binding *b = &arg->binding[m->n_arguments];
        Coreml__Binding *to = m->arguments[m->n_arguments] = NEW(w, binding, b->as_read);
        if (!to)
            return no_memory(w);
        to->has_name = b->name != NULL;
        to->name = bytes_of(b->name ? b->name : "");
        to->value = NULL;
        if (b->value)
            RQ_TRY(build_value(w, &to->value, b->value));
    }
    return RQ_OK;
}

static rq_status build_block(const writer *w, Coreml__Block **out, const rq_mil_block *b);

static rq_status build_op(const writer *w, Coreml__Operation **out, const rq_mil_op *op)
{
    Coreml__Operation *m = *out = NEW(w, operation, op->as_read);
    if (!m || !(m->inputs = list(w, op->n_args)) || !(m->blocks = list(w, op->n_blocks)))
        return no_memory(w);
    m->has_type = true;
    m->type = bytes_of(op->type);
    for (m->n_inputs = 0; m->n_inputs < (size_t)op->n_args; m->n_inputs++) {
        const rq_mil_arg *arg = &op->args[m->n_inputs];
        Coreml__ArgumentEntry *e = m->inputs[m->n_inputs] = NEW(w, argument_entry, NULL);
        if (!e)
            return no_memory(w);
        e->has_key = true;
        e->key = bytes_of(arg->param);
        RQ_TRY(build_arg(w, &e->value, arg));
    }
    RQ_TRY(build_vars(w, &m->n_outputs, &m->outputs, op->outputs, op->n_outputs));
    for (m->n_blocks = 0; m->n_blocks < (size_t)op->n_blocks; m->n_blocks++)
        RQ_TRY(build_block(w, &m->blocks[m->n_blocks], op->blocks[m->n_blocks]));
    return build_attrs(w, &m->n_attributes, &m->attributes, op->attrs, op->n_attrs);
}

static rq_status build_block(const writer *w, Coreml__Block **out, const rq_mil_block *b)
{
    Coreml__Block *m = *out = NEW(w, block, b->as_read);
    if (!m || !(m->operations = list(w, b->n_ops)) ||
        !(m->outputs = rq_arena_alloc(w->a, b->n_outputs ? (size_t)b->n_outputs : 1, sizeof *m->outputs)))
        return no_memory(w);
    RQ_TRY(build_vars(w, &m->n_inputs, &m->inputs, b->inputs, b->n_inputs));
    for (m->n_outputs = 0; m->n_outputs < (size_t)b->n_outputs; m->n_outputs++)
        m->outputs[m->n_outputs] = bytes_of(b->outputs[m->n_outputs]);
    for (m->n_operations = 0; m->n_operations < (size_t)b->n_ops; m->n_operations++)
        RQ_TRY(build_op(w, &m->operations[m->n_operations], b->ops[m->n_operations]));
    return build_attrs(w, &m->n_attributes, &m->attributes, b->attrs, b->n_attrs);
}

static rq_status build_function(const writer *w, Coreml__Function **out, const rq_mil_function *f)
{
    Coreml__Function *m = *out = NEW(w, function, f->as_read);
    if (!m || !(m->block_specializations = list(w, f->n_special)))
        return no_memory(w);
    m->has_opset = true;
    m->opset = bytes_of(f->opset);
    RQ_TRY(build_vars(w, &m->n_inputs, &m->inputs, f->inputs, f->n_inputs));
    for (m->n_block_specializations = 0; m->n_block_specializations < (size_t)f->n_special;
         m->n_block_specializations++) {
        const rq_mil_special *s = &f->special[m->n_block_specializations];
        Coreml__BlockEntry *e = m->block_specializations[m->n_block_specializations] = NEW(w, block_entry, NULL);
        if (!e)
            return no_memory(w);
        e->has_key = true;
        e->key = bytes_of(s->opset);
        RQ_TRY(build_block(w, &e->value, s->block));
    }
    return build_attrs(w, &m->n_attributes, &m->attributes, f->attrs, f->n_attrs);
}

rq_status rq_mil_write(void **out, const rq_mil_program *p, rq_mil_place place, void *arg, rq_arena *a, rq_err *err)
{
    const writer self = { .a = a, .place = place, .arg = arg, .err = err }, *w = &self;
    Coreml__Program *m = NEW(w, program, p->as_read);
    if (!m || !(m->functions = list(w, p->n_functions)))
        return no_memory(w);
    m->has_version = true;
    m->version = p->version;
    for (m->n_functions = 0; m->n_functions < (size_t)p->n_functions; m->n_functions++) {
        Coreml__FunctionEntry *e = m->functions[m->n_functions] = NEW(w, function_entry, NULL);
        if (!e)
            return no_memory(w);
        e->has_key = true;
        e->key = bytes_of(p->functions[m->n_functions]->name);
        RQ_TRY(build_function(w, &e->value, p->functions[m->n_functions]));
    }
    *out = m;
    return build_attrs(w, &m->n_attributes, &m->attributes, p->attrs, p->n_attrs);
}
