/* nn/state_dict.c — parameters of a graph under PyTorch's names and shapes, and back. Most constants are what they are called; PReLU's slopes
 * lose the axes that ONNX's broadcasting wants, recurrent weights are cut into directions, and their gates put in PyTorch's order. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "graph/modules.h"
#include "graph/query.h"
#include "nn/nn.h"
#include "ops/op.h"

enum { KEY = RQ_NN_PATH + 64 };

/* One tensor of the dict. Row r of gate k in it is row gates[k] * size + r behind `from` elements of the constant. */
typedef struct entry {
    char key[KEY];
    rq_id value; /* the constant; RQ_NONE: num_batches_tracked, which lives in the metadata */
    rq_shape shape;
    int64_t from, size; /* of the part: first element, rows of a gate (0: all elements as they lie) */
    int64_t row;        /* elements of a row */
    const int *gates;   /* gate k of PyTorch is gate gates[k] of ONNX */
    int n_gates;
} entry;

typedef struct dict {
    entry *e;
    int n, cap;
} dict;

static entry *added(dict *d, rq_id value, const rq_shape *shape, const char *key)
{
    if (!rq_mem_grow(&d->e, d->n, &d->cap, sizeof *d->e))
        return NULL;
    entry *e = &d->e[d->n++];
    *e = (entry) { .value = value, .shape = *shape };
    snprintf(e->key, sizeof e->key, "%s", key);
    return e;
}

/* ---- which constants ---- */

static bool is_parameter(const rq_graph *g, const rq_node *n, int i, rq_id c)
{
    const rq_value *v = &g->values[c];
    const char *dot = strrchr(v->name, '.');
    char path[KEY];
    if (v->constant.dtype != RQ_DTYPE_F32 || (dot && !strncmp(dot, ".no_", 4))) /* the affine part that there is not */
        return false;
    if (v->trainable == RQ_TRAINABLE_YES)
        return true;
    const unsigned bit = RQ_OP_IN(i < 15 ? i : 15);
    if (n->row && (n->row->statistics & bit))
        return true;
    if (n->row && (n->row->parameters & bit) && v->trainable != RQ_TRAINABLE_NO)
        return true;
    return v->constant.shape.rank > 0 && rq_module_of_parameter(v->name, path, sizeof path);
}

/* "lstm.weight_ih_l0" -> "lstm", 0 */
static bool layer_of(const char *name, char path[KEY], int *layer)
{
    const char *at = strstr(name, ".weight_ih_l");
    if (!at || !isdigit((unsigned char)at[12]) || strspn(at + 12, "0123456789") != strlen(at + 12))
        return false;
    snprintf(path, KEY, "%.*s", (int)(at - name), name);
    *layer = atoi(at + 12);
    return true;
}

/* The tensors of a recurrent node that nn/recurrent.c made, or one made alike. */
static rq_status recurrent(const rq_graph *g, const rq_node *n, const char *path, int layer, dict *d)
{
    static const int lstm[4] = { 0, 2, 3, 1 }, gru[3] = { 1, 0, 2 }; /* PyTorch: i f g o, r z n; ONNX: i o f c, z r h */
    static const char *const names[] = { "", "weight_ih", "weight_hh", "bias" };
    const int n_gates = rq_node_is(n, "LSTM") ? 4 : 3;
    for (int i = 1; i < 4 && i < n->n_in; i++) {
        const rq_id c = rq_module_constant(g, n->in[i]);
        if (c < 0 || g->values[c].constant.dtype != RQ_DTYPE_F32 ||
            g->values[c].constant.shape.rank != (i == 3 ? 2 : 3))
            continue;
        const rq_shape *s = &g->values[c].constant.shape;
        const int64_t size = s->dim[1] / n_gates / (i == 3 ? 2 : 1), row = i == 3 ? 1 : s->dim[2];
        const int64_t part = n_gates * size * row;
        for (int64_t dir = 0; dir < s->dim[0]; dir++)
            for (int half = 0; half < (i == 3 ? 2 : 1); half++) {
                char key[2 * KEY];
                const rq_shape shape = rq_shape_of(i == 3 ? 1 : 2, (const int64_t[]) { n_gates * size, row });
                snprintf(key, sizeof key, "%s.%s%s_l%d%s", path, names[i],
                         i < 3  ? ""
                         : half ? "_hh"
                                : "_ih",
                         layer, dir ? "_reverse" : "");
                entry *e = added(d, c, &shape, key);
                if (!e)
                    return RQ_NO_MEMORY;
                e->from = (dir * (i == 3 ? 2 : 1) + half) * part;
                e->size = size;
                e->row = row;
                e->gates = n_gates == 4 ? lstm : gru;
                e->n_gates = n_gates;
            }
    }
    return RQ_OK;
}

/* What PyTorch counts beside running statistics. */
static rq_status counted(const rq_graph *g, rq_id mean, dict *d)
{
    const char *dot = strrchr(g->values[mean].name, '.');
    const rq_shape scalar = { .rank = 0 };
    char key[2 * KEY];
    if (!dot || strcmp(dot, ".running_mean") != 0)
        return RQ_OK;
    snprintf(key, sizeof key, "%.*s.num_batches_tracked", (int)(dot - g->values[mean].name), g->values[mean].name);
    return added(d, RQ_NONE, &scalar, key) ? RQ_OK : RQ_NO_MEMORY;
}

static rq_status node_into(const rq_graph *g, const rq_node *n, bool *seen, dict *d)
{
    char path[KEY];
    int layer;
    const rq_id w = rq_node_in(n, 1) >= 0 ? rq_module_constant(g, n->in[1]) : RQ_NONE;
    const bool whole =
        (rq_node_is(n, "LSTM") || rq_node_is(n, "GRU")) && w >= 0 && layer_of(g->values[w].name, path, &layer);
    if (whole && !seen[w])
        RQ_TRY(recurrent(g, n, path, layer, d));
    for (int i = 0; i < n->n_in; i++) {
        const rq_id c = rq_module_constant(g, n->in[i]);
        if (c < 0 || seen[c])
            continue;
        if (whole && i < 4) {
            seen[c] = true;
            continue;
        }
        if (!is_parameter(g, n, i, c))
            continue;
        seen[c] = true;
        rq_shape s = g->values[c].constant.shape;
        if (rq_node_is(n, "PRelu") && i == 1)
            s = rq_shape_of(1, (const int64_t[]) { rq_shape_count(&s) });
        if (!added(d, c, &s, g->values[c].name))
            return RQ_NO_MEMORY;
        if (strstr(g->values[c].name, ".running_var")) {
            const rq_id mean = i > 0 ? rq_module_constant(g, n->in[i - 1]) : RQ_NONE;
            if (mean >= 0)
                RQ_TRY(counted(g, mean, d));
        }
    }
    return RQ_OK;
}

static rq_status dict_of(const rq_graph *g, dict *d)
{
    bool *seen = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *seen);
    rq_status s = seen ? RQ_OK : RQ_NO_MEMORY;
    for (rq_id i = 0; !s && i < g->n_nodes; i++)
        if (g->nodes[i].op)
            s = node_into(g, &g->nodes[i], seen, d);
    rq_mem_free(seen);
    return s;
}

/* ---- out ---- */

/* Copy between the part of the constant that e is and a tensor of the dict. */
static void move(const entry *e, float *constant, float *x, bool out)
{
    if (!e->size) {
        const size_t bytes = (size_t)rq_shape_count(&e->shape) * sizeof *x;
        memcpy(out ? x : constant, out ? constant : x, bytes);
        return;
    }
    const int64_t part = e->size * e->row;
    for (int k = 0; k < e->n_gates; k++) {
        float *a = constant + e->from + e->gates[k] * part, *b = x + k * part;
        memcpy(out ? b : a, out ? a : b, (size_t)part * sizeof *a);
    }
}

static int64_t count_of(const rq_graph *g, const char *key)
{
    for (int i = 0; i < g->n_meta; i++)
        if (!strcmp(g->meta[i].key, key))
            return strtoll(g->meta[i].value, NULL, 10);
    return 0;
}

rq_status rq_nn_state_dict(const rq_graph *g, rq_state *state, const char *prefix)
{
    dict d = { 0 };
    rq_status s = dict_of(g, &d);
    for (int i = 0; !s && i < d.n; i++) {
        const entry *e = &d.e[i];
        rq_tensor t;
        s = rq_tensor_create(&t, e->value >= 0 ? RQ_DTYPE_F32 : RQ_DTYPE_S64, &e->shape, false);
        if (s)
            break;
        if (e->value >= 0)
            move(e, g->values[e->value].constant.f32, t.f32, true);
        else
            t.s64[0] = count_of(g, e->key);
        s = rq_state_set(state, prefix, e->key, &t);
        rq_tensor_release(&t);
    }
    rq_mem_free(d.e);
    return s;
}

/* ---- in ---- */

static const rq_tensor *tensor_of(const rq_state *s, const char *prefix, const char *key)
{
    const size_t n = strlen(prefix);
    for (int i = 0; i < rq_state_count(s); i++)
        if (!strncmp(rq_state_name(s, i), prefix, n) && !strcmp(rq_state_name(s, i) + n, key))
            return rq_state_tensor(s, i);
    return NULL;
}

/* Names for a sentence: the first few, and how many more. */
typedef struct names {
    char text[200];
    int n;
} names;

static void name_into(names *m, const char *name)
{
    const size_t at = strlen(m->text);
    if (m->n < 3)
        snprintf(m->text + at, sizeof m->text - at, "%s'%.60s'", m->n ? ", " : "", name);
    m->n++;
}

static const char *more(const names *m, char buf[32])
{
    buf[0] = '\0';
    if (m->n > 3)
        snprintf(buf, 32, " and %d more", m->n - 3);
    return buf;
}

static rq_status check_keys(const dict *d, const rq_state *s, const char *prefix, rq_err *err)
{
    names missing = { "", 0 }, unexpected = { "", 0 };
    char a[32], b[32];
    const size_t n = strlen(prefix);
    for (int i = 0; i < d->n; i++) /* PyTorch before 1.0 did not count batches */
        if (d->e[i].value >= 0 && !tensor_of(s, prefix, d->e[i].key))
            name_into(&missing, d->e[i].key);
    for (int i = 0; i < rq_state_count(s); i++) {
        const char *name = rq_state_name(s, i);
        if (strncmp(name, prefix, n) != 0)
            continue;
        int k = 0;
        while (k < d->n && strcmp(d->e[k].key, name + n) != 0)
            k++;
        if (k == d->n)
            name_into(&unexpected, name);
    }
    if (missing.n && unexpected.n)
        return rq_fail(err, RQ_NOT_FOUND, "the state has no %s%s, and the network has no %s%s", missing.text,
                       more(&missing, a), unexpected.text, more(&unexpected, b));
    if (missing.n)
        return rq_fail(err, RQ_NOT_FOUND, "the state has no %s%s", missing.text, more(&missing, a));
    return unexpected.n ? rq_fail(err, RQ_NOT_FOUND, "the network has no %s%s", unexpected.text, more(&unexpected, b))
                        : RQ_OK;
}

static rq_status check_tensor(const entry *e, const rq_tensor *t, rq_err *err)
{
    char have[RQ_SHAPE_TEXT], want[RQ_SHAPE_TEXT];
    const bool fits = e->value < 0 ? rq_dtype_is_integer(t->dtype) : rq_dtype_is_float(t->dtype);
    if (!fits)
        return rq_fail(err, RQ_BAD_DTYPE, "'%s' of the state is %s, expected %s", e->key, rq_dtype_name(t->dtype),
                       e->value < 0 ? "s64" : "f32");
    if (e->value < 0 ? rq_tensor_count(t) != 1 : !rq_shape_equal(&e->shape, &t->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "'%s' of the state has shape %s, the network's has %s", e->key,
                       rq_shape_text(&t->shape, have, sizeof have), rq_shape_text(&e->shape, want, sizeof want));
    return RQ_OK;
}

/* t as f32, in a tensor of its own. */
static rq_status floats_of(const rq_tensor *t, rq_tensor *out)
{
    RQ_TRY(rq_tensor_create(out, RQ_DTYPE_F32, &t->shape, false));
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        out->f32[i] = t->dtype == RQ_DTYPE_F32 ? t->f32[i] : (float)rq_tensor_get(t, i);
    return RQ_OK;
}

static rq_status take(rq_graph *g, const entry *e, const rq_tensor *t, rq_tensor *fresh, rq_err *err)
{
    rq_tensor x;
    RQ_TRY(check_tensor(e, t, err));
    if (e->value < 0)
        return RQ_OK;
    if (fresh[e->value].dtype == RQ_DTYPE_NONE)
        RQ_TRY(rq_tensor_copy(&fresh[e->value], &g->values[e->value].constant));
    RQ_TRY(floats_of(t, &x));
    move(e, fresh[e->value].f32, x.f32, false);
    rq_tensor_release(&x);
    return RQ_OK;
}

/* The counts of batches are the last thing that can fail, and nothing that runs reads them. */
static rq_status take_counts(rq_graph *g, const dict *d, const rq_state *s, const char *prefix)
{
    for (int i = 0; i < d->n; i++) {
        const rq_tensor *t = d->e[i].value < 0 ? tensor_of(s, prefix, d->e[i].key) : NULL;
        char text[32];
        if (!t)
            continue;
        snprintf(text, sizeof text, "%" PRId64, rq_tensor_get_int(t, 0));
        if (strcmp(text, "0") != 0 || count_of(g, d->e[i].key))
            RQ_TRY(rq_graph_set_meta(g, d->e[i].key, text));
    }
    return RQ_OK;
}

rq_status rq_nn_load_state_dict(rq_graph *g, const rq_state *state, const char *prefix, bool strict, rq_err *err)
{
    dict d = { 0 };
    rq_tensor *fresh = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *fresh);
    if (!prefix)
        prefix = "";
    if (err)
        err->text[0] = '\0';
    rq_status s = fresh ? dict_of(g, &d) : RQ_NO_MEMORY;
    if (!s && strict)
        s = check_keys(&d, state, prefix, err);
    for (int i = 0; !s && i < d.n; i++) {
        const rq_tensor *t = tensor_of(state, prefix, d.e[i].key);
        if (t)
            s = take(g, &d.e[i], t, fresh, err);
    }
    if (!s)
        s = take_counts(g, &d, state, prefix);
    if (s == RQ_NO_MEMORY)
        (void)rq_fail(err, s, "not enough memory to load a state");
    for (rq_id i = 0; fresh && i < g->n_values; i++) {
        if (fresh[i].dtype == RQ_DTYPE_NONE)
            continue;
        if (s)
            rq_tensor_release(&fresh[i]);
        else {
            rq_tensor_release(&g->values[i].constant);
            g->values[i].constant = fresh[i];
        }
    }
    rq_mem_free(fresh);
    rq_mem_free(d.e);
    return s;
}
