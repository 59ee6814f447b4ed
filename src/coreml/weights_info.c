/* coreml/weights_info.c — get_weights_metadata: for every large constant how much of it is zero, how many different numbers it holds, and who reads
 * it, which tells which compression fits it. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/quote.h"
#include "coreml/weights.h"

typedef struct info {
    const rq_coreml_def *def; /* of a const; or */
    const rq_mil_op *op;      /* the constexpr_ operation that it stands in, as this parameter */
    const char *param;
    char *name;
    rq_mil_value *value;
    double sparsity;
    int64_t unique;
} info;

typedef struct all {
    rq_coreml *m;
    rq_coreml_uses uses;
    int64_t threshold;
    info *at;
    int n, cap;
    rq_arena names;
} all;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory looking at weights");
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* NaN counts as one number, as -0 and 0 do. */
static rq_status measure(info *w, const rq_tensor *t, rq_err *err)
{
    const int64_t n = rq_tensor_count(t);
    int64_t zeros = 0, numbers = 0;
    double *v = rq_mem_alloc((size_t)n + 1, sizeof *v);
    if (!v)
        return no_memory(err);
    for (int64_t i = 0; i < n; i++) {
        const double x = rq_tensor_get(t, i);
        zeros += fabs(x) <= 1e-12;
        if (!isnan(x))
            v[numbers++] = x;
    }
    qsort(v, (size_t)numbers, sizeof *v, ascending);
    w->unique = numbers < n;
    for (int64_t i = 0; i < numbers; i++)
        w->unique += !i || v[i] != v[i - 1];
    w->sparsity = n ? (double)zeros / (double)n : 0;
    rq_mem_free(v);
    return RQ_OK;
}

static bool is_large(const all *a, const rq_mil_value *v)
{
    return v && v->type->kind == RQ_MIL_TENSOR && v->type->dtype->store != RQ_MIL_STORE_STRINGS &&
           v->n >= (uint64_t)a->threshold;
}

static rq_status add(all *a, const rq_coreml_def *def, const rq_mil_op *op, const char *param, rq_mil_value *v,
                     rq_err *err)
{
    rq_buf name = { 0 };
    rq_tensor t = { 0 };
    rq_buf_adds(&name, rq_mil_op_name(op));
    if (param)
        rq_buf_addf(&name, "_%s_0", param);
    if (!rq_mem_grow(&a->at, a->n, &a->cap, sizeof *a->at))
        name.failed = true;
    char *own = name.failed ? NULL : rq_arena_strndup(&a->names, name.data, name.size);
    rq_buf_release(&name);
    if (!own)
        return no_memory(err);
    info *w = &a->at[a->n++];
    *w = (info) { .def = def, .op = op, .param = param, .name = own, .value = v };
    rq_status s = rq_coreml_tensor(a->m, &t, v, err);
    if (!s)
        s = measure(w, &t, err);
    rq_tensor_release(&t);
    return s;
}

static rq_status collect_op(all *a, const rq_mil_op *op, rq_err *err)
{
    if (!strcmp(op->type, "const")) {
        rq_mil_value *v = rq_mil_op_attr(op, "val");
        return is_large(a, v) && op->n_outputs == 1 ? add(a, rq_coreml_uses_of(&a->uses, op, 0), op, NULL, v, err)
                                                    : RQ_OK;
    }
    if (strncmp(op->type, "constexpr_", 10) != 0)
        return RQ_OK;
    for (int i = 0; i < op->n_attrs; i++)
        if (is_large(a, op->attrs[i].value))
            RQ_TRY(add(a, NULL, op, op->attrs[i].name, op->attrs[i].value, err));
    for (int i = 0; i < op->n_args; i++)
        if (op->args[i].n == 1 && is_large(a, op->args[i].binding[0].value))
            RQ_TRY(add(a, NULL, op, op->args[i].param, op->args[i].binding[0].value, err));
    return RQ_OK;
}

static rq_status collect(all *a, const rq_mil_block *b, rq_err *err)
{
    for (int i = 0; i < b->n_ops; i++)
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            RQ_TRY(collect(a, b->ops[i]->blocks[k], err));
    for (int i = 0; i < b->n_ops; i++)
        RQ_TRY(collect_op(a, b->ops[i], err));
    return RQ_OK;
}

/* ---- who reads it ---- */

/* The large constant that is parameter `arg` of op; NULL: it is none. */
static const info *param_of(const all *a, const rq_mil_op *op, const rq_mil_arg *arg)
{
    for (int i = 0; i < a->n; i++) {
        const info *w = &a->at[i];
        if (w->op == op && w->param && !strcmp(w->param, arg->param))
            return w;
        for (int k = 0; w->def && k < w->def->n_uses; k++)
            if (w->def->use[k].op == op && &op->args[w->def->use[k].arg] == arg)
                return w;
    }
    return NULL;
}

static bool seen(const rq_coreml_def *d, int k)
{
    for (int i = 0; i < k; i++)
        if (d->use[i].op == d->use[k].op)
            return true;
    return false;
}

/* Each operation once; the one that a value stands in. */
static const rq_mil_op *reader(const info *w, int k)
{
    if (!w->def)
        return w->op;
    return w->def->use[k].op && !seen(w->def, k) ? w->def->use[k].op : NULL;
}

static int n_readers(const info *w)
{
    return w->def ? w->def->n_uses : 1;
}

static void text_of(const all *a, rq_buf *b)
{
    char type[120];
    for (int i = 0; i < a->n; i++) {
        const info *w = &a->at[i];
        rq_buf_addf(b, "%s: %s, sparsity %.6g, %" PRId64 " unique values", w->name,
                    rq_mil_type_text(w->value->type, type, sizeof type), w->sparsity, w->unique);
        for (int k = 0; k < n_readers(w); k++) {
            const rq_mil_op *op = reader(w, k);
            if (!op)
                continue;
            rq_buf_addf(b, "; %s '%s'", op->type, rq_mil_op_name(op));
            for (int j = 0, n = 0; j < op->n_args; j++) {
                const info *c = param_of(a, op, &op->args[j]);
                if (c)
                    rq_buf_addf(b, "%s%s=%s", n++ ? ", " : " ", op->args[j].param, c->name);
            }
        }
        rq_buf_adds(b, "\n");
    }
}

static void json_reader(const all *a, rq_buf *b, const rq_mil_op *op)
{
    rq_buf_adds(b, "{\"op_type\": ");
    rq_quote(b, op->type);
    rq_buf_adds(b, ", \"name\": ");
    rq_quote(b, rq_mil_op_name(op));
    rq_buf_adds(b, ", \"params_name_mapping\": {");
    for (int j = 0, n = 0; j < op->n_args; j++) {
        const info *c = param_of(a, op, &op->args[j]);
        if (!c)
            continue;
        rq_buf_adds(b, n++ ? ", " : "");
        rq_quote(b, op->args[j].param);
        rq_buf_adds(b, ": ");
        rq_quote(b, c->name);
    }
    rq_buf_adds(b, "}}");
}

static void json_of(const all *a, rq_buf *b)
{
    rq_buf_adds(b, "{");
    for (int i = 0; i < a->n; i++) {
        const info *w = &a->at[i];
        rq_buf_adds(b, i ? ",\n " : "\n ");
        rq_quote(b, w->name);
        rq_buf_addf(b, ": {\"dtype\": \"%s\", \"shape\": [", w->value->type->dtype->name);
        for (int64_t k = 0; k < w->value->type->rank; k++)
            rq_buf_addf(b, "%s%" PRIu64, k ? ", " : "", w->value->type->dim[k].size);
        rq_buf_addf(b, "], \"sparsity\": %.17g, \"unique_values\": %" PRId64 ", \"child_ops\": [", w->sparsity,
                    w->unique);
        for (int k = 0, n = 0; k < n_readers(w); k++) {
            const rq_mil_op *op = reader(w, k);
            if (!op)
                continue;
            rq_buf_adds(b, n++ ? ", " : "");
            json_reader(a, b, op);
        }
        rq_buf_adds(b, "]}");
    }
    rq_buf_adds(b, a->n ? "\n}\n" : "}\n");
}

rq_status rq_coreml_weights_metadata(const rq_coreml *m, int64_t weight_threshold, bool json, char **out, rq_err *err)
{
    all a = { .m = (rq_coreml *)m, .threshold = weight_threshold > 0 ? weight_threshold : 0 };
    rq_buf b = { 0 };
    *out = NULL;
    RQ_TRY(rq_coreml_one_function(m, "get_weights_metadata", err));
    RQ_TRY(rq_coreml_uses_init(&a.uses, &m->program, err));
    rq_status s = collect(&a, m->program.functions[0]->block, err);
    if (!s) {
        rq_buf_adds(&b, "");
        json ? json_of(&a, &b) : text_of(&a, &b);
        if (b.failed)
            s = no_memory(err);
        else
            *out = b.data;
    }
    if (s)
        rq_buf_release(&b);
    rq_coreml_uses_release(&a.uses);
    rq_arena_release(&a.names);
    rq_mem_free(a.at);
    return s;
}
