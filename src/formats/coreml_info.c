/* formats/coreml_info.c — what is in a model, for people and as JSON, from the same facts. */
#include "formats/coreml.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/quote.h"
#include "tensor/convert.h"

enum { LABELS_SHOWN = 5, WEIGHT_ELEMENTS = 10 };

/* ---- facts ---- */

typedef struct counted {
    const char *type;
    int n;
} counted;

typedef struct weight {
    const rq_mil_op *op;
    const char *param; /* "": of a const */
    const rq_mil_value *v;
} weight;

typedef struct facts {
    const rq_coreml *m;
    counted *ops; /* of `function`, const left out */
    int n_ops, cap_ops;
    weight *weights; /* of `function` */
    int n_weights, cap_weights;
    const rq_mil_function *function; /* that is looked at; NULL: all */
    const rq_mil_op *classify;
    int n_operations;
} facts;

static rq_status add_weight(facts *f, const rq_mil_op *op, const char *param, const rq_mil_value *v)
{
    const bool tensor = v && v->type->kind == RQ_MIL_TENSOR;
    if (!tensor || (v->kind != RQ_MIL_BLOB && (v->n < WEIGHT_ELEMENTS || !v->type->dtype->blob)))
        return RQ_OK;
    if (!rq_mem_grow(&f->weights, f->n_weights, &f->cap_weights, sizeof *f->weights))
        return RQ_NO_MEMORY;
    f->weights[f->n_weights++] = (weight) { op, param, v };
    return RQ_OK;
}

static rq_status count_op(facts *f, const char *type)
{
    for (int i = 0; i < f->n_ops; i++)
        if (!strcmp(f->ops[i].type, type)) {
            f->ops[i].n++;
            return RQ_OK;
        }
    if (!rq_mem_grow(&f->ops, f->n_ops, &f->cap_ops, sizeof *f->ops))
        return RQ_NO_MEMORY;
    f->ops[f->n_ops++] = (counted) { type, 1 };
    return RQ_OK;
}

static rq_status look_at_op(void *arg, const rq_mil_function *fn, const rq_mil_op *op, rq_err *err)
{
    facts *f = arg;
    (void)err;
    if (f->function && fn != f->function)
        return RQ_OK;
    const bool is_const = !strcmp(op->type, "const");
    if (!is_const) {
        f->n_operations++;
        RQ_TRY(count_op(f, op->type));
        if (!strcmp(op->type, "classify"))
            f->classify = op;
    }
    for (int i = 0; i < op->n_attrs; i++)
        RQ_TRY(add_weight(f, op, is_const ? "" : op->attrs[i].name, op->attrs[i].value));
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; k < op->args[i].n; k++)
            RQ_TRY(add_weight(f, op, op->args[i].param, op->args[i].binding[k].value));
    return RQ_OK;
}

static rq_status gather(facts *f, const rq_mil_function *function)
{
    f->n_ops = f->n_weights = f->n_operations = 0;
    f->function = function;
    f->classify = NULL;
    return rq_mil_each_op(&f->m->program, look_at_op, f, NULL);
}

static void release(facts *f)
{
    rq_mem_free(f->ops);
    rq_mem_free(f->weights);
}

static uint64_t bytes_of(const rq_mil_value *v)
{
    return rq_mil_dtype_bytes(v->type->dtype, v->n);
}

/* ---- scale and bias of an image: the mul and the add that the converter puts behind the input ---- */

static const rq_mil_value *constant(const rq_mil_block *b, const rq_mil_arg *arg)
{
    if (!arg || arg->n != 1)
        return NULL;
    if (arg->binding[0].value)
        return arg->binding[0].value;
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(b->ops[i]->type, "const") && b->ops[i]->n_outputs == 1 &&
            !strcmp(b->ops[i]->outputs[0].name, arg->binding[0].name))
            return rq_mil_op_attr(b->ops[i], "val");
    return NULL;
}

/* The operation named <input><suffix>, and its constant. */
static const rq_mil_value *after_input(const rq_mil_block *b, const char *input, const char *suffix)
{
    const size_t n = strlen(input);
    for (int i = 0; i < b->n_ops; i++) {
        const char *name = rq_mil_op_name(b->ops[i]);
        if (!strncmp(name, input, n) && !strncmp(name + n, suffix, strlen(suffix)))
            return constant(b, rq_mil_op_arg(b->ops[i], "y"));
    }
    return NULL;
}

/* "0.5" or "[0.1,0.2,0.3]". */
static void add_numbers(rq_buf *b, const rq_coreml *m, const rq_mil_value *v)
{
    rq_tensor t;
    if (rq_coreml_tensor(m, &t, v, NULL) || (t.dtype != RQ_DTYPE_F32 && t.dtype != RQ_DTYPE_F16)) {
        rq_buf_adds(b, "null");
        return;
    }
    const int64_t n = rq_shape_count(&t.shape);
    rq_buf_adds(b, n == 1 ? "" : "[");
    for (int64_t i = 0; i < n && i < 4; i++)
        rq_buf_addf(b, "%s%g", i ? "," : "",
                    (double)(t.dtype == RQ_DTYPE_F32 ? t.f32[i] : rq_convert_f16_to_f32(t.u16[i])));
    rq_buf_adds(b, n == 1 ? "" : "]");
    rq_tensor_release(&t);
}

/* ---- features ---- */

static const char *dtype_name(int32_t code)
{
    switch (code) {
    case RQ_COREML_FLOAT32:
        return "fp32";
    case RQ_COREML_DOUBLE:
        return "fp64";
    case RQ_COREML_FLOAT16:
        return "fp16";
    case RQ_COREML_INT32:
        return "int32";
    case RQ_COREML_INT8:
        return "int8";
    default:
        return "unknown";
    }
}

static const char *color_name(int32_t code)
{
    switch (code) {
    case RQ_COREML_GRAYSCALE:
        return "grayscale";
    case RQ_COREML_RGB:
        return "RGB";
    case RQ_COREML_BGR:
        return "BGR";
    case RQ_COREML_GRAYSCALE_FLOAT16:
        return "grayscale fp16";
    default:
        return "of unknown colors";
    }
}

static const char *kind_name(rq_coreml_kind k)
{
    static const char *const names[] = {
        [RQ_COREML_ARRAY] = "array",       [RQ_COREML_IMAGE] = "image",   [RQ_COREML_INT64] = "int64",
        [RQ_COREML_NUMBER] = "double",     [RQ_COREML_STRING] = "string", [RQ_COREML_DICTIONARY] = "dictionary",
        [RQ_COREML_SEQUENCE] = "sequence", [RQ_COREML_STATE] = "state"
    };
    return names[k];
}

static void add_shape(rq_buf *b, int rank, const int64_t *shape)
{
    rq_buf_adds(b, "[");
    for (int i = 0; i < rank; i++)
        rq_buf_addf(b, "%s%" PRId64, i ? "," : "", shape[i]);
    rq_buf_adds(b, "]");
}

/* "[1..16,3,224,224]", "[1,3,224,224] or [4,3,224,224]". */
static void add_shapes(rq_buf *b, const rq_coreml_feature *f)
{
    if (f->listed) {
        for (int i = 0; i < f->n_listed; i++) {
            rq_buf_adds(b, i ? " or " : "");
            add_shape(b, f->rank, f->listed[i]);
        }
    } else if (f->range) {
        rq_buf_adds(b, "[");
        for (int i = 0; i < f->rank; i++) {
            const rq_coreml_range *r = &f->range[i];
            rq_buf_addf(b, "%s%" PRIu64, i ? "," : "", r->lo);
            if (r->hi < 0)
                rq_buf_adds(b, "..");
            else if ((uint64_t)r->hi != r->lo)
                rq_buf_addf(b, "..%" PRId64, r->hi);
        }
        rq_buf_adds(b, "]");
    } else if (f->shape) {
        add_shape(b, f->rank, f->shape);
    }
}

static void add_feature(rq_buf *b, const rq_coreml *m, const char *what, const rq_mil_function *fn,
                        const rq_coreml_feature *f)
{
    rq_buf_addf(b, "%-11s %s ", what, f->name);
    if (f->kind == RQ_COREML_IMAGE) {
        rq_buf_addf(b, "image %s ", color_name(f->color));
        add_shapes(b, f);
        const rq_mil_value *scale = fn ? after_input(fn->block, f->name, "__scaled__") : NULL;
        const rq_mil_value *bias = fn ? after_input(fn->block, f->name, "__biased__") : NULL;
        if (scale) {
            rq_buf_adds(b, ", scale ");
            add_numbers(b, m, scale);
        }
        if (bias) {
            rq_buf_adds(b, ", bias ");
            add_numbers(b, m, bias);
        }
    } else if (f->kind == RQ_COREML_ARRAY || f->kind == RQ_COREML_STATE) {
        rq_buf_adds(b, dtype_name(f->dtype));
        add_shapes(b, f);
    } else {
        rq_buf_adds(b, kind_name(f->kind));
        if (f->kind == RQ_COREML_DICTIONARY)
            rq_buf_adds(b, f->text_keys ? " of strings" : " of int64");
    }
    rq_buf_adds(b, f->optional ? ", optional\n" : "\n");
}

static void json_feature(rq_buf *b, const rq_coreml *m, const rq_mil_function *fn, const rq_coreml_feature *f)
{
    rq_buf_adds(b, "{\"name\": ");
    rq_quote(b, f->name);
    rq_buf_addf(b, ", \"kind\": \"%s\"", kind_name(f->kind));
    if (f->kind == RQ_COREML_ARRAY || f->kind == RQ_COREML_STATE)
        rq_buf_addf(b, ", \"dtype\": \"%s\"", dtype_name(f->dtype));
    if (f->kind == RQ_COREML_IMAGE)
        rq_buf_addf(b, ", \"color\": \"%s\"", color_name(f->color));
    if (f->shape) {
        rq_buf_adds(b, ", \"shape\": ");
        add_shape(b, f->rank, f->shape);
    }
    if (f->range) {
        rq_buf_adds(b, ", \"ranges\": [");
        for (int i = 0; i < f->rank; i++)
            rq_buf_addf(b, "%s[%" PRIu64 ", %" PRId64 "]", i ? ", " : "", f->range[i].lo, f->range[i].hi);
        rq_buf_adds(b, "]");
    }
    for (int i = 0; i < f->n_listed; i++) {
        rq_buf_adds(b, i ? ", " : ", \"shapes\": [");
        add_shape(b, f->rank, f->listed[i]);
        rq_buf_adds(b, i == f->n_listed - 1 ? "]" : "");
    }
    const rq_mil_value *scale = f->kind == RQ_COREML_IMAGE && fn ? after_input(fn->block, f->name, "__scaled__") : NULL;
    const rq_mil_value *bias = f->kind == RQ_COREML_IMAGE && fn ? after_input(fn->block, f->name, "__biased__") : NULL;
    if (scale) {
        rq_buf_adds(b, ", \"scale\": ");
        add_numbers(b, m, scale);
    }
    if (bias) {
        rq_buf_adds(b, ", \"bias\": ");
        add_numbers(b, m, bias);
    }
    rq_buf_addf(b, ", \"optional\": %s}", f->optional ? "true" : "false");
}

/* ---- labels ---- */

static const rq_mil_value *labels_of(const facts *f)
{
    const rq_mil_arg *arg = f->classify ? rq_mil_op_arg(f->classify, "classes") : NULL;
    return arg ? constant(f->function->block, arg) : NULL;
}

void rq_coreml_label(rq_buf *b, const rq_mil_value *v, uint64_t i)
{
    if (v->kind == RQ_MIL_VALUES)
        rq_coreml_label(b, v->value[i], 0);
    else if (v->kind == RQ_MIL_IMMEDIATE && v->type->dtype->store == RQ_MIL_STORE_STRINGS && i < v->n)
        rq_quote(b, ((const char *const *)v->data)[i]);
    else if (v->kind == RQ_MIL_IMMEDIATE && v->type->dtype->store == RQ_MIL_STORE_LONGS && i < v->n)
        rq_buf_addf(b, "%" PRId64, ((const int64_t *)v->data)[i]);
    else if (v->kind == RQ_MIL_IMMEDIATE && v->type->dtype->store == RQ_MIL_STORE_INTS && i < v->n)
        rq_buf_addf(b, "%" PRId32, ((const int32_t *)v->data)[i]);
    else
        rq_buf_adds(b, "null");
}

static void add_labels(rq_buf *b, const facts *f)
{
    const rq_mil_value *v = labels_of(f);
    if (!v || v->kind == RQ_MIL_PAIRS)
        return;
    rq_buf_addf(b, "%-11s %" PRIu64 ":", "labels", v->n);
    for (uint64_t i = 0; i < v->n && i < LABELS_SHOWN; i++) {
        rq_buf_adds(b, " ");
        rq_coreml_label(b, v, i);
    }
    rq_buf_adds(b, v->n > LABELS_SHOWN ? " ...\n" : "\n");
}

/* ---- weights ---- */

static void add_sums(rq_buf *b, const facts *f)
{
    uint64_t all = 0;
    rq_buf_addf(b, "%-11s", "weights");
    for (int i = 0; i < f->n_weights; i++) {
        const rq_mil_dtype *t = f->weights[i].v->type->dtype;
        bool first = true;
        for (int k = 0; k < i; k++)
            first = first && f->weights[k].v->type->dtype != t;
        all += bytes_of(f->weights[i].v);
        if (!first)
            continue;
        uint64_t n = 0, bytes = 0;
        for (int k = i; k < f->n_weights; k++)
            if (f->weights[k].v->type->dtype == t) {
                n++;
                bytes += bytes_of(f->weights[k].v);
            }
        rq_buf_addf(b, " %s x%" PRIu64 " (%" PRIu64 " bytes)", t->name, n, bytes);
    }
    rq_buf_addf(b, "%s%" PRIu64 " bytes in all\n", f->n_weights ? ", " : " ", all);
}

static void add_weight_lines(rq_buf *b, const facts *f)
{
    char type[256];
    for (int i = 0; i < f->n_weights; i++) {
        const weight *w = &f->weights[i];
        rq_buf_addf(b, "  %s%s%s %s, %" PRIu64 " bytes%s\n", rq_mil_op_name(w->op), *w->param ? "." : "", w->param,
                    rq_mil_type_text(w->v->type, type, sizeof type), bytes_of(w->v),
                    w->v->kind == RQ_MIL_BLOB ? "" : ", in the program");
    }
}

static void json_weights(rq_buf *b, const facts *f)
{
    rq_buf_adds(b, "\"weights\": [");
    for (int i = 0; i < f->n_weights; i++) {
        const weight *w = &f->weights[i];
        rq_buf_adds(b, i ? ",\n   {\"name\": " : "\n   {\"name\": ");
        rq_quote(b, rq_mil_op_name(w->op));
        rq_buf_adds(b, ", \"operation\": ");
        rq_quote(b, w->op->type);
        rq_buf_adds(b, ", \"parameter\": ");
        rq_quote(b, w->param);
        rq_buf_addf(b, ", \"dtype\": \"%s\", \"shape\": [", w->v->type->dtype->name);
        for (int64_t k = 0; k < w->v->type->rank; k++)
            rq_buf_addf(b, "%s%" PRIu64, k ? "," : "", w->v->type->dim[k].size);
        rq_buf_addf(b, "], \"bytes\": %" PRIu64 ", \"in_file\": %s}", bytes_of(w->v),
                    w->v->kind == RQ_MIL_BLOB ? "true" : "false");
    }
    rq_buf_adds(b, "]");
}

/* ---- all of it ---- */

static const char *system_of(int32_t spec)
{
    static const char *const names[] = { "iOS 15", "iOS 16", "iOS 17", "iOS 18", "iOS 26" };
    return spec >= RQ_COREML_MIN_SPEC && spec <= RQ_COREML_MAX_SPEC ? names[spec - RQ_COREML_MIN_SPEC]
                                                                    : "newer than any known";
}

static void text_interface(rq_buf *b, facts *f, const rq_coreml_interface *i, bool all)
{
    const rq_mil_function *fn = rq_mil_function_find(&f->m->program, i->name);
    rq_buf_addf(b, "%-11s %s%s%s\n", "function", i->name, fn ? ", " : ", which the program has not",
                fn ? fn->opset : "");
    for (int k = 0; k < i->inputs.n; k++)
        add_feature(b, f->m, "input", fn, &i->inputs.at[k]);
    for (int k = 0; k < i->states.n; k++)
        add_feature(b, f->m, "state", NULL, &i->states.at[k]);
    for (int k = 0; k < i->outputs.n; k++)
        add_feature(b, f->m, "output", NULL, &i->outputs.at[k]);
    if (!fn)
        return;
    if (gather(f, fn)) {
        b->failed = true;
        return;
    }
    add_labels(b, f);
    rq_buf_addf(b, "%-11s %d:", "operators", f->n_operations);
    for (int k = 0; k < f->n_ops; k++) {
        rq_buf_addf(b, " %s", f->ops[k].type);
        if (f->ops[k].n > 1)
            rq_buf_addf(b, " x%d", f->ops[k].n);
    }
    rq_buf_adds(b, "\n");
    add_sums(b, f);
    if (all)
        add_weight_lines(b, f);
}

int64_t rq_coreml_text(const rq_coreml *m, bool all, char *buf, size_t n)
{
    facts f = { .m = m };
    rq_buf b = { 0 };
    rq_buf_addf(&b, "%-11s Core ML program, specification %" PRId32 " (%s)\n", "package", m->spec, system_of(m->spec));
    for (int i = 0; i < m->n_interfaces; i++)
        text_interface(&b, &f, &m->interfaces[i], all);
    const struct {
        const char *name, *value;
    } texts[] = {
        { "description", m->doc }, { "version", m->version }, { "author", m->author }, { "license", m->license }
    };
    for (size_t i = 0; i < 4; i++)
        if (*texts[i].value)
            rq_buf_addf(&b, "%-11s %s\n", texts[i].name, texts[i].value);
    for (int i = 0; i < m->n_metadata; i++)
        rq_buf_addf(&b, "%-11s %s: %s\n", "metadata", m->metadata[i].key, m->metadata[i].value);
    release(&f);
    return rq_buf_hand_over(&b, buf, n);
}

static void json_features(rq_buf *b, const rq_coreml *m, const char *what, const rq_mil_function *fn,
                          const rq_coreml_features *list)
{
    rq_buf_addf(b, "\"%s\": [", what);
    for (int k = 0; k < list->n; k++) {
        rq_buf_adds(b, k ? ",\n   " : "\n   ");
        json_feature(b, m, fn, &list->at[k]);
    }
    rq_buf_adds(b, "],\n  ");
}

static void json_interface(rq_buf *b, facts *f, const rq_coreml_interface *i)
{
    const rq_mil_function *fn = rq_mil_function_find(&f->m->program, i->name);
    rq_buf_adds(b, "{\"name\": ");
    rq_quote(b, i->name);
    rq_buf_adds(b, ", \"opset\": ");
    rq_quote(b, fn ? fn->opset : "");
    rq_buf_adds(b, ",\n  ");
    json_features(b, f->m, "inputs", fn, &i->inputs);
    json_features(b, f->m, "states", NULL, &i->states);
    json_features(b, f->m, "outputs", NULL, &i->outputs);
    f->n_ops = f->n_weights = 0;
    f->classify = NULL;
    if (fn && gather(f, fn))
        b->failed = true;
    const rq_mil_value *labels = fn ? labels_of(f) : NULL;
    if (labels && labels->kind != RQ_MIL_PAIRS) {
        rq_buf_adds(b, "\"label\": ");
        rq_quote(b, i->label);
        rq_buf_adds(b, ", \"probabilities\": ");
        rq_quote(b, i->probabilities);
        rq_buf_adds(b, ", \"labels\": [");
        for (uint64_t k = 0; k < labels->n; k++) {
            rq_buf_adds(b, k ? ", " : "");
            rq_coreml_label(b, labels, k);
        }
        rq_buf_adds(b, "],\n  ");
    }
    rq_buf_adds(b, "\"operators\": {");
    for (int k = 0; k < f->n_ops; k++) {
        rq_buf_adds(b, k ? ", " : "");
        rq_quote(b, f->ops[k].type);
        rq_buf_addf(b, ": %d", f->ops[k].n);
    }
    rq_buf_adds(b, "},\n  ");
    json_weights(b, f);
    rq_buf_adds(b, "}");
}

int64_t rq_coreml_json(const rq_coreml *m, char *buf, size_t n)
{
    facts f = { .m = m };
    rq_buf b = { 0 };
    rq_buf_addf(&b, "{\"format\": \"mlpackage\", \"specification\": %" PRId32 ",\n \"functions\": [", m->spec);
    for (int i = 0; i < m->n_interfaces; i++) {
        rq_buf_adds(&b, i ? ",\n " : "\n ");
        json_interface(&b, &f, &m->interfaces[i]);
    }
    const struct {
        const char *name, *value;
    } texts[] = {
        { "description", m->doc }, { "version", m->version }, { "author", m->author }, { "license", m->license }
    };
    rq_buf_adds(&b, "]");
    for (size_t i = 0; i < 4; i++) {
        rq_buf_addf(&b, ",\n \"%s\": ", texts[i].name);
        rq_quote(&b, texts[i].value);
    }
    rq_buf_adds(&b, ",\n \"metadata\": {");
    for (int i = 0; i < m->n_metadata; i++) {
        rq_buf_adds(&b, i ? ",\n  " : "\n  ");
        rq_quote(&b, m->metadata[i].key);
        rq_buf_adds(&b, ": ");
        rq_quote(&b, m->metadata[i].value);
    }
    rq_buf_adds(&b, "}}\n");
    release(&f);
    return rq_buf_hand_over(&b, buf, n);
}
