/* coreml_program.c — see coreml_program.h. Only the default function is compared: the cases have no others. */
#include "coreml_program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/mil_constexpr.h"

enum { MAX_BLOCKS = 16 }; /* within each other */

static const rq_mil_block *main_block(const rq_coreml *m)
{
    const rq_mil_function *f = *m->default_function ? rq_mil_function_find(&m->program, m->default_function) : NULL;
    return f ? f->block : m->program.functions[0]->block;
}

static bool is_const(const rq_mil_op *op)
{
    return !strcmp(op->type, "const");
}

/* ---- values ---- */

static bool same_shape(const json_t *want, const rq_mil_type *t)
{
    bool same = (int64_t)json_array_size(want) == t->rank;
    for (int64_t i = 0; i < t->rank && same; i++) {
        const json_t *d = json_array_get(want, (size_t)i); /* sizes not known are no whole numbers, or below 0 */
        const bool known = json_is_integer(d) && json_integer_value(d) >= 0;
        same = known == t->dim[i].known && (!known || json_integer_value(d) == (int64_t)t->dim[i].size);
    }
    return same;
}

/* Numbers of nested lists, in order. False: another count, or another number. */
static bool same_list(const json_t *want, const rq_tensor *t, int64_t *at)
{
    if (json_is_array(want)) {
        size_t i;
        json_t *one;
        json_array_foreach((json_t *)want, i, one) if (!same_list(one, t, at)) return false;
        return true;
    }
    if (*at >= rq_tensor_count(t))
        return false;
    const double got = rq_tensor_get(t, (*at)++);
    return got == (json_is_boolean(want) ? (double)json_is_true(want) : json_number_value(want));
}

/* A constant as the list has it: {"const": numbers, "type"} or {"const_name", "type", "shape"}. */
static bool same_const(golden_case *c, const rq_coreml *m, const json_t *want, const rq_mil_value *v)
{
    const json_t *value = json_object_get(want, "const");
    const char *type = golden_str(want, "type");
    if (v->type->kind != RQ_MIL_TENSOR)
        return true; /* lists of class labels */
    if (type && strcmp(type, v->type->dtype->name) != 0)
        return false;
    if (!value)
        return same_shape(json_object_get(want, "shape"), v->type);
    if (json_is_string(value)) {
        const char *text = rq_mil_value_text(v);
        return text && !strcmp(json_string_value(value), text);
    }
    rq_tensor t;
    rq_err err = { 0 };
    if (rq_coreml_tensor(m, &t, v, &err)) {
        golden_fail(c, "%s", err.text);
        return false;
    }
    int64_t n = 0;
    const bool same = same_list(value, &t, &n) && n == rq_tensor_count(&t);
    rq_tensor_release(&t);
    return same;
}

/* The array `key` against a tensor, bit for bit (packed integers one by one). */
static void same_array(golden_case *c, const char *what, const char *part, const char *key, const rq_tensor *got)
{
    rq_tensor want;
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    if (!golden_array(c, &want, key))
        return;
    const int64_t n = rq_tensor_count(got);
    if (!rq_shape_equal(&want.shape, &got->shape)) {
        golden_fail(c, "%s %s shape=%s allowed=%s", what, part, rq_shape_text(&got->shape, a, sizeof a),
                    rq_shape_text(&want.shape, b, sizeof b));
    } else if (want.dtype != got->dtype && rq_dtype_bits(got->dtype) >= 8 && rq_dtype_is_float(got->dtype)) {
        golden_fail(c, "%s %s type=%s allowed=%s", what, part, rq_dtype_name(got->dtype), rq_dtype_name(want.dtype));
    } else {
        for (int64_t i = 0; i < n; i++) {
            const double g = rq_tensor_get(got, i), w = rq_tensor_get(&want, i);
            if (g != w || signbit(g) != signbit(w)) {
                golden_fail(c, "%s %s at %lld: got %.9g, want %.9g", what, part, (long long)i, g, w);
                break;
            }
        }
    }
    rq_tensor_release(&want);
}

static void same_value(golden_case *c, const rq_coreml *m, const char *what, const char *part, const char *key,
                       const rq_mil_value *v)
{
    rq_tensor got;
    rq_err err = { 0 };
    if (rq_coreml_tensor(m, &got, v, &err)) {
        golden_fail(c, "%s %s: %s", what, part, err.text);
        return;
    }
    same_array(c, what, part, key, &got);
    rq_tensor_release(&got);
}

/* ---- operations ---- */

static const rq_mil_op *find_const(const rq_mil_block *b, const char *name)
{
    for (int i = 0; i < b->n_ops; i++)
        if (is_const(b->ops[i]) && !strcmp(b->ops[i]->outputs[0].name, name))
            return b->ops[i];
    return NULL;
}

typedef struct place {
    const rq_mil_block *around[MAX_BLOCKS];
    int depth;
} place;

/* What value k of a parameter is bound to: a name, and its number where it is a constant. */
static bool bound(const place *p, const rq_mil_op *op, const char *param, size_t k, const char **name,
                  const rq_mil_value **v)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    *name = NULL;
    *v = arg ? NULL : rq_mil_op_attr(op, param); /* attributes: of a constexpr_ operation before iOS 18 */
    if (!arg)
        return *v && k == 0;
    if (k >= (size_t)arg->n)
        return false;
    *name = arg->binding[k].name;
    *v = arg->binding[k].value;
    for (int i = p->depth; i >= 0 && *name && !*v; i--) {
        const rq_mil_op *found = find_const(p->around[i], *name);
        *v = found ? rq_mil_op_attr(found, "val") : NULL;
    }
    return true;
}

static void same_input(golden_case *c, const rq_coreml *m, const place *p, const rq_mil_op *op, const char *param,
                       const json_t *want)
{
    const size_t n = json_is_array(want) ? json_array_size(want) : 1;
    for (size_t k = 0; k < n; k++) {
        const json_t *one = json_is_array(want) ? json_array_get(want, k) : want;
        const char *name, *value = golden_str(one, "value");
        const rq_mil_value *v;
        if (!bound(p, op, param, k, &name, &v))
            golden_fail(c, "%s.%s is not there", rq_mil_op_name(op), param);
        else if (value ? !name || strcmp(name, value) != 0 : !v || !same_const(c, m, one, v))
            golden_fail(c, "%s.%s is '%s', want %s", rq_mil_op_name(op), param, name ? name : "a value",
                        value ? value : "the constant listed");
    }
}

static void same_outputs(golden_case *c, const rq_mil_op *op, const json_t *want)
{
    if (json_array_size(want) != (size_t)op->n_outputs) {
        golden_fail(c, "%s has %d outputs, want %zu", rq_mil_op_name(op), op->n_outputs, json_array_size(want));
        return;
    }
    for (int k = 0; k < op->n_outputs; k++) {
        const json_t *o = json_array_get(want, (size_t)k);
        const rq_mil_type *t = op->outputs[k].type;
        const char *name = json_string_value(json_array_get(o, 0)), *type = json_string_value(json_array_get(o, 1));
        char text[200];
        if (!name || strcmp(name, op->outputs[k].name) != 0)
            golden_fail(c, "%s gives '%s', want '%s'", rq_mil_op_name(op), op->outputs[k].name, name ? name : "");
        else if (t->kind == RQ_MIL_TENSOR &&
                 ((type && strcmp(type, t->dtype->name) != 0) || !same_shape(json_array_get(o, 2), t)))
            golden_fail(c, "%s is %s, want %s", name, rq_mil_type_text(t, text, sizeof text), type);
    }
}

static void same_block(golden_case *c, const rq_coreml *m, const json_t *want, place *p)
{
    const rq_mil_block *b = p->around[p->depth];
    size_t at = 0;
    for (int i = 0; i < b->n_ops && !c->failed; i++) {
        const rq_mil_op *op = b->ops[i];
        if (is_const(op))
            continue;
        const json_t *one = json_array_get(want, at++), *input;
        const char *type = golden_str(one, "op"), *name = golden_str(one, "name"), *param;
        if (!type || !name || strcmp(type, op->type) != 0 || strcmp(name, rq_mil_op_name(op)) != 0) {
            golden_fail(c, "operation %zu is %s '%s', want %s '%s'", at - 1, op->type, rq_mil_op_name(op),
                        type ? type : "none", name ? name : "");
            return;
        }
        same_outputs(c, op, json_object_get(one, "outputs"));
        json_object_foreach((json_t *)json_object_get(one, "inputs"), param, input)
            same_input(c, m, p, op, param, input);
        for (int k = 0; k < op->n_blocks && p->depth + 1 < MAX_BLOCKS; k++) {
            const json_t *inner = json_array_get(json_object_get(one, "blocks"), (size_t)k);
            p->around[++p->depth] = op->blocks[k];
            same_block(c, m, json_object_get(inner, "operations"), p);
            p->depth--;
        }
    }
    if (!c->failed && at != json_array_size(want))
        golden_fail(c, "%zu operations, want %zu", at, json_array_size(want));
}

void golden_coreml_operations(golden_case *c, const rq_coreml *m, const char *file)
{
    char path[4096];
    json_error_t why;
    json_t *want = json_load_file(golden_path(path, sizeof path, c, file), 0, &why);
    const json_t *version = json_object_get(want, "specification_version");
    if (!want) {
        golden_fail(c, "%s: %s", file, why.text);
        return;
    }
    if (version && json_integer_value(version) != m->spec)
        golden_fail(c, "specification=%d allowed=%lld", m->spec, (long long)json_integer_value(version));
    place p = { .around = { main_block(m) } };
    same_block(c, m, json_object_get(want, "operations"), &p);
    json_decref(want);
}

void golden_coreml_op_types(golden_case *c, const rq_coreml *m, const json_t *types)
{
    const rq_mil_block *b = main_block(m);
    size_t at = 0;
    for (int i = 0; i < b->n_ops; i++) {
        if (is_const(b->ops[i]))
            continue;
        const char *want = json_string_value(json_array_get(types, at++));
        if (!want || strcmp(want, b->ops[i]->type) != 0) {
            golden_fail(c, "operation %zu is %s '%s', want %s", at - 1, b->ops[i]->type, rq_mil_op_name(b->ops[i]),
                        want ? want : "none");
            return;
        }
    }
    if (at != json_array_size(types))
        golden_fail(c, "%zu operations, want %zu", at, json_array_size(types));
}

/* ---- by name ---- */

typedef struct search {
    const char *name;
    const rq_mil_op *op;
    const rq_mil_value *v;
} search;

/* A const of this name, or a value of this name that stands in an operation: "<operation>_<parameter>_<n>". */
static rq_status is_constant(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    search *s = arg;
    (void)f;
    (void)err;
    if (is_const(op) && !s->v && (!strcmp(op->outputs[0].name, s->name) || !strcmp(rq_mil_op_name(op), s->name)))
        s->v = rq_mil_op_attr(op, "val");
    return RQ_OK;
}

static const rq_mil_value *value_of(const rq_mil_op *op, const char *param)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    return arg ? arg->n == 1 ? arg->binding[0].value : NULL : rq_mil_op_attr(op, param);
}

/* "<operation>_<parameter>_<n>": the name that coremltools gives to a value that stands in an operation. */
static rq_status is_within(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    search *s = arg;
    const char *own = op->n_outputs ? rq_mil_op_name(op) : "";
    static const char *const params[] = { "quantized_data", "scale",     "zero_point", "axis",        "data",
                                          "offset",         "indices",   "lut",        "shape",       "nonzero_data",
                                          "mask",           "data_mask", "source_val", "indices_mask" };
    (void)f;
    (void)err;
    const size_t n = strlen(own);
    if (s->v || !n || strncmp(s->name, own, n) != 0 || s->name[n] != '_')
        return RQ_OK;
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++) {
        const size_t k = strlen(params[i]);
        if (!strncmp(s->name + n + 1, params[i], k) && s->name[n + 1 + k] == '_')
            s->v = value_of(op, params[i]);
    }
    return RQ_OK;
}

void golden_coreml_constants(golden_case *c, const rq_coreml *m, const json_t *constants)
{
    const char *name;
    const json_t *one;
    json_object_foreach((json_t *)constants, name, one)
    {
        search s = { .name = name };
        rq_mil_each_op(&m->program, is_constant, &s, NULL);
        if (!s.v)
            rq_mil_each_op(&m->program, is_within, &s, NULL);
        if (s.v)
            same_value(c, m, name, "constant", golden_str(one, "array"), s.v);
        else if (!json_object_get(c->json, "operations")) /* else it was compared there, or its shape was */
            golden_fail(c, "there is no constant '%s'", name);
    }
}

static rq_status is_named(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    search *s = arg;
    (void)f;
    (void)err;
    if (!is_const(op) && !strcmp(rq_mil_op_name(op), s->name))
        s->op = op;
    return RQ_OK;
}

typedef struct users {
    golden_case *c;
    const rq_mil_op *of;
    const json_t *want;
    size_t n;
    bool same;
} users;

static rq_status is_user(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    users *u = arg;
    bool uses = false;
    (void)f;
    (void)err;
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++)
            for (int o = 0; o < u->of->n_outputs; o++)
                uses |= op->args[i].binding[k].name && !strcmp(op->args[i].binding[k].name, u->of->outputs[o].name);
    if (!uses)
        return RQ_OK;
    while (u->n > 0 && json_equal(json_array_get(u->want, u->n), json_array_get(u->want, u->n - 1)))
        u->n++; /* one operation may be listed once for each of its parameters */
    const json_t *one = json_array_get(u->want, u->n++);
    const char *type = json_string_value(json_array_get(one, 0)), *name = json_string_value(json_array_get(one, 1));
    u->same &= type && name && !strcmp(type, op->type) && !strcmp(name, rq_mil_op_name(op));
    return RQ_OK;
}

/* The parameters of the three operators that quantize weights. */
static const struct form {
    const char *op, *codes, *zero_point;
} forms[] = {
    { "constexpr_affine_dequantize", "quantized_data", "zero_point" },
    { "constexpr_blockwise_shift_scale", "data", "offset" },
    { "constexpr_sparse_blockwise_shift_scale", "nonzero_data", "offset" },
};

static const struct form *form_of(const char *type)
{
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (!strcmp(forms[i].op, type))
            return &forms[i];
    return NULL;
}

static rq_status count_forms(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    (void)f;
    (void)err;
    *(size_t *)arg += form_of(op->type) != NULL;
    return RQ_OK;
}

static void same_weight(golden_case *c, const rq_coreml *m, const char *name, const rq_mil_op *op, const json_t *want)
{
    const struct form *form = form_of(op->type);
    const char *type = golden_str(want, "op");
    if (!form || !type || strcmp(type, op->type) != 0) {
        golden_fail(c, "%s is a %s, want %s", name, op->type, type ? type : "none");
        return;
    }
    const char *parts[][2] = { { "codes", form->codes }, { "scale", "scale" }, { "zero_point", form->zero_point } };
    for (size_t i = 0; i < 3; i++) {
        const rq_mil_value *v = value_of(op, parts[i][1]);
        const char *key = golden_str(want, parts[i][0]);
        char field[32];
        snprintf(field, sizeof field, "%s_type", parts[i][0]);
        const char *dtype = golden_str(want, field);
        if (!key != !v)
            golden_fail(c, "%s %s is %s", name, parts[i][0], v ? "there, want none" : "missing");
        else if (v && dtype && strcmp(dtype, v->type->dtype->name) != 0)
            golden_fail(c, "%s %s type=%s allowed=%s", name, parts[i][0], v->type->dtype->name, dtype);
        else if (v)
            same_value(c, m, name, parts[i][0], key, v);
    }
    const json_t *axis = json_object_get(want, "axis");
    const rq_mil_value *a = value_of(op, "axis");
    rq_tensor t;
    if (json_is_integer(axis) &&
        (!a || rq_coreml_tensor(m, &t, a, NULL) || rq_tensor_get_int(&t, 0) != (int64_t)json_integer_value(axis)))
        golden_fail(c, "%s axis is not %lld", name, (long long)json_integer_value(axis));
    users u = { .c = c, .of = op, .want = json_object_get(want, "used_by"), .same = true };
    rq_mil_each_op(&m->program, is_user, &u, NULL);
    while (u.n > 0 && json_equal(json_array_get(u.want, u.n), json_array_get(u.want, u.n - 1)))
        u.n++;
    if (u.want && op->n_outputs == 1 && (!u.same || u.n != json_array_size(u.want)))
        golden_fail(c, "%s is used by others than those listed", name);
}

void golden_coreml_weights(golden_case *c, const rq_coreml *m, const json_t *weights)
{
    const char *name;
    const json_t *one;
    size_t n = 0;
    json_object_foreach((json_t *)weights, name, one)
    {
        search s = { .name = golden_str(one, "name") ? golden_str(one, "name") : name };
        rq_mil_each_op(&m->program, is_named, &s, NULL);
        if (s.op)
            same_weight(c, m, name, s.op, one);
        else
            golden_fail(c, "there is no operation '%s'", s.name);
    }
    rq_mil_each_op(&m->program, count_forms, &n, NULL);
    if (n != json_object_size(weights))
        golden_fail(c, "weights=%zu allowed=%zu", n, json_object_size(weights));
}

void golden_coreml_decompressed(golden_case *c, const rq_coreml *m, const json_t *dense)
{
    rq_arena a = { 0 };
    rq_mil_constants consts;
    rq_err err = { 0 };
    const char *name;
    const json_t *one;
    if (rq_mil_constants_of(&consts, main_block(m), NULL, &a, &err)) {
        golden_fail(c, "%s", err.text);
        return;
    }
    json_object_foreach((json_t *)dense, name, one)
    {
        const rq_mil_constant *k = rq_mil_constants_find(&consts, name);
        rq_tensor t;
        if (!k) {
            golden_fail(c, "there is no constant '%s'", name);
        } else if (is_const(k->op)) {
            same_value(c, m, name, "constant", golden_str(one, "array"), rq_mil_op_attr(k->op, "val"));
        } else if (rq_mil_constexpr(&t, m, &consts, k->op, k->output, &err)) {
            golden_fail(c, "%s", err.text);
        } else {
            same_array(c, name, "decompressed", golden_str(one, "array"), &t);
            rq_tensor_release(&t);
        }
    }
    rq_arena_release(&a);
}

/* ---- steps ---- */

double golden_coreml_last_scale(const rq_coreml *m)
{
    rq_arena a = { 0 };
    rq_mil_constants consts;
    const rq_mil_block *b = main_block(m);
    double scale = 0;
    if (rq_mil_constants_of(&consts, b, NULL, &a, NULL))
        return 0;
    for (int i = 0; i < b->n_ops; i++) {
        rq_tensor t;
        if (strcmp(b->ops[i]->type, "quantize") != 0 || rq_mil_param(&t, m, &consts, b->ops[i], "scale", NULL))
            continue;
        scale = 0;
        for (int64_t k = 0; t.data && k < rq_tensor_count(&t); k++)
            scale = fmax(scale, rq_tensor_get(&t, k));
        rq_tensor_release(&t);
    }
    rq_arena_release(&a);
    return scale;
}
