/* levels.c — a model of the set at every level of RQ_CPU that this machine has: the same integers, and how far apart what lies behind
 * float operators is.
 *
 * A level runs the model twice: as it is, for its outputs, and with every value tapped. A tensor is integer when every operator above it ran on
 * codes, or only moved or counted integers; the quantization of an input is no float operator. Integer tensors are hashed in the order of their
 * names, what the others hold is compared with the first level. Prints, with tabs between:
 *   ROW topic/id TENSORS OTHERS LEVEL=HASH=HASH-OF-THE-OTHERS=DIFFERENCE... */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "golden.h"
#include "graph/graph.h"

typedef struct seen {
    char *name;
    rq_tensor t;
    float step; /* what a code counts; 0: not codes */
} seen;

typedef struct seens {
    seen *all;
    int n;
} seens;

static rq_status see(void *arg, const char *value, const rq_tensor *t, const rq_qparams *q, rq_err *err)
{
    (void)err;
    seens *s = arg;
    s->all = realloc(s->all, (size_t)(s->n + 1) * sizeof *s->all);
    if (!s->all)
        abort();
    seen *one = &s->all[s->n++];
    *one = (seen) { .name = strdup(value), .step = q ? q->scale[0] : 0 };
    return rq_tensor_copy(&one->t, t);
}

static void forget(seens *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->all[i].name);
        rq_tensor_release(&s->all[i].t);
    }
    free(s->all);
    *s = (seens) { 0 };
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const seen *)a)->name, ((const seen *)b)->name);
}

/* ---- which values are integers all the way up ---- */

static bool ran_on_codes(const rq_session *s, const char *output, bool *ran)
{
    const rq_layer_info *l;
    const int n = rq_session_layers(s, &l);
    for (int i = 0; i < n; i++)
        if (!strcmp(l[i].output, output) && strcmp(l[i].op, "QuantizeLinear") && strcmp(l[i].op, "DequantizeLinear")) {
            *ran = true;
            return l[i].integer;
        }
    return false;
}

static bool is_real(rq_dtype d)
{
    return d == RQ_DTYPE_F32 || d == RQ_DTYPE_F64 || d == RQ_DTYPE_F16 || d == RQ_DTYPE_BF16 || d == RQ_DTYPE_NONE;
}

static bool quantizes(const rq_node *n)
{
    static const char *const ops[] = { "QuantizeLinear", "DequantizeLinear", "Requantize", "DynamicQuantizeLinear" };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (!strcmp(n->op, ops[i]))
            return true;
    return false;
}

/* whole[v] of every value of the session's graph. A node without a step of its own is a view or part of another. */
static bool *whole_values(const rq_session *s)
{
    const rq_graph *g = rq_session_graph(s);
    bool *whole = calloc((size_t)g->n_values + 1, sizeof *whole);
    rq_id *order;
    int n;
    if (!whole || rq_order(g, &order, &n, NULL))
        abort();
    for (int i = 0; i < g->n_values; i++)
        whole[i] = g->values[i].kind == RQ_VALUE_INPUT || g->values[i].kind == RQ_VALUE_CONST;
    for (int i = 0; i < n; i++) {
        const rq_node *node = &g->nodes[order[i]];
        bool all = true, reals = false, ran = false;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != RQ_NONE) {
                all = all && whole[node->in[k]];
                reals = reals || is_real(g->values[node->in[k]].dtype);
            }
        for (int k = 0; k < node->n_attr; k++)
            if (node->attr[k].type == RQ_ATTR_GRAPH || node->attr[k].type == RQ_ATTR_GRAPHS)
                all = false; /* a body's operators are not looked at */
        const char *name = node->n_out && node->out[0] != RQ_NONE ? g->values[node->out[0]].name : "";
        const bool codes = ran_on_codes(s, name, &ran);
        for (int k = 0; k < node->n_out; k++)
            if (node->out[k] != RQ_NONE)
                whole[node->out[k]] = all && (codes || !ran || !reals || quantizes(node));
    }
    rq_mem_free(order);
    return whole;
}

/* ---- one level ---- */

static uint64_t hash(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static uint64_t hash_of(uint64_t h, const seen *s)
{
    h = hash(h, s->name, strlen(s->name) + 1);
    return hash(h, s->t.data, rq_shape_bytes(&s->t.shape, s->t.dtype));
}

/* The largest difference; two NaN do not differ. */
static double apart(const seen *a, const seen *b)
{
    double most = 0;
    if (strcmp(a->name, b->name) || a->t.dtype != b->t.dtype || !rq_shape_equal(&a->t.shape, &b->t.shape))
        return INFINITY;
    if (a->t.dtype == RQ_DTYPE_STRING)
        return 0;
    for (int64_t i = 0, n = rq_tensor_count(&a->t); i < n; i++) {
        const double x = rq_tensor_get(&a->t, i), y = rq_tensor_get(&b->t, i), d = fabs(x - y);
        if (x == y || (isnan(x) && isnan(y)))
            continue;
        most = d <= most ? most : d; /* NaN stays */
    }
    return a->step > 0 ? most * a->step : most;
}

typedef struct level {
    seens whole, rest;
} level;

/* Everything of one run at the level that RQ_CPU names. */
static bool run_level(golden_case *c, const rq_graph *g, const rq_feed *feeds, int n_feeds, level *l)
{
    rq_err err = { 0 };
    const int n = rq_graph_n_outputs(g);
    rq_tensor *out = calloc((size_t)n + 1, sizeof *out);
    if (!out)
        abort();
    seens taps = { 0 };
    for (int tapped = 0; tapped < 2; tapped++) {
        rq_session *s = NULL;
        rq_status st = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err);
        const rq_graph *own = st ? NULL : rq_session_graph(s);
        for (int i = 0; tapped && own && !st && i < own->n_values; i++)
            if (own->values[i].kind == RQ_VALUE_NODE && own->values[i].name[0] &&
                own->values[i].dtype != RQ_DTYPE_STRING)
                st = rq_session_tap_codes(s, own->values[i].name, see, &taps, &err);
        if (!st)
            st = rq_session_run(s, feeds, n_feeds, out, &err);
        if (st) {
            golden_fail(c, "%s%s", tapped ? "tapped: " : "", err.text[0] ? err.text : rq_status_text(st));
            rq_session_destroy(s);
            break;
        }
        bool *whole = whole_values(s);
        if (tapped)
            for (int i = 0; i < taps.n; i++)
                see(whole[rq_graph_find(own, taps.all[i].name)] && !is_real(taps.all[i].t.dtype) ? &l->whole : &l->rest,
                    taps.all[i].name, &taps.all[i].t,
                    taps.all[i].step > 0 ? &(rq_qparams) { .scale = &taps.all[i].step } : NULL, NULL);
        for (int i = 0; i < n; i++) {
            char name[300];
            const rq_id v = rq_graph_find(own, rq_graph_output(g, i).name);
            snprintf(name, sizeof name, "output%s %s", tapped ? " tapped" : "", rq_graph_output(g, i).name);
            /* an output of codes is a real by one multiplication */
            const bool codes = v != RQ_NONE && whole[v] && (own->values[v].quant != RQ_NONE || !is_real(out[i].dtype));
            if (!tapped && out[i].data)
                see(codes ? &l->whole : &l->rest, name, &out[i], NULL, NULL);
            rq_tensor_release(&out[i]);
        }
        free(whole);
        rq_session_destroy(s);
    }
    forget(&taps);
    free(out);
    if (l->whole.n)
        qsort(l->whole.all, (size_t)l->whole.n, sizeof(seen), by_name);
    if (l->rest.n)
        qsort(l->rest.all, (size_t)l->rest.n, sizeof(seen), by_name);
    return !c->failed;
}

/* ---- all levels ---- */

static void run_levels(golden_case *c, const rq_graph *g, const rq_feed *feeds, int n_feeds)
{
    level first = { 0 };
    char row[2000];
    size_t at = 0;
    const char *name;
    unsigned flags;
    for (int i = 0; (name = rq_cpu_level(i, &flags)) && !c->failed; i++) {
        level own = { 0 };
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        setenv("RQ_CPU", name, 1);
        if (run_level(c, g, feeds, n_feeds, &own)) {
            uint64_t h = 0xcbf29ce484222325u, r = h;
            double most = 0;
            if (i == 0)
                at = (size_t)snprintf(row, sizeof row, "ROW\t%s/%s\t%d\t%d", c->topic, c->id, own.whole.n, own.rest.n);
            for (int k = 0; k < own.whole.n; k++)
                h = hash_of(h, &own.whole.all[k]);
            for (int k = 0; k < own.rest.n; k++)
                r = hash_of(r, &own.rest.all[k]);
            const seens *base = i ? &first.rest : &own.rest;
            for (int k = 0; k < own.rest.n && k < base->n; k++)
                most = fmax(most, apart(&base->all[k], &own.rest.all[k]));
            if (own.rest.n != base->n)
                most = INFINITY;
            at += (size_t)snprintf(row + at, sizeof row - at, "\t%s=%012llx=%012llx=%g", name,
                                   (unsigned long long)(h >> 16), (unsigned long long)(r >> 16), most);
        }
        if (i == 0) {
            first = own;
        } else {
            forget(&own.whole);
            forget(&own.rest);
        }
    }
    unsetenv("RQ_CPU");
    forget(&first.whole);
    forget(&first.rest);
    if (!c->failed && at + 1 < sizeof row) {
        row[at++] = '\n';
        if (write(c->out, row, at) < 0)
            _exit(1);
    }
}

golden_verdict golden_run_levels(golden_case *c)
{
    static const char *const kinds[] = { "quantized", "package", "model" };
    char path[4096];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    const char *file = NULL, *name;
    const json_t *inputs = json_object_get(c->json, "inputs"), *key;
    for (size_t i = 0; !file && i < sizeof kinds / sizeof kinds[0]; i++)
        file = golden_str(c->json, kinds[i]);
    if (!file || !json_object_size(inputs) || json_object_get(c->json, "expect"))
        return GOLDEN_PASS; /* nothing that runs */
    if (rq_load(&g, golden_path(path, sizeof path, c, file), &err)) {
        golden_fail(c, "load: %s", err.text);
        return GOLDEN_FAIL;
    }
    rq_feed *feeds = calloc(json_object_size(inputs) + 1, sizeof *feeds);
    int n = 0;
    if (!feeds)
        abort();
    json_object_foreach((json_t *)inputs, name, key)
    {
        rq_tensor own;
        if (!golden_array(c, &feeds[n].tensor, json_string_value(key)))
            break;
        rq_tensor *t = &feeds[n].tensor;
        feeds[n++].name = name;
        for (int i = 0; i < rq_graph_n_inputs(g); i++) {
            const rq_value_info info = rq_graph_input(g, i);
            if (strcmp(info.name, name) || info.dtype == RQ_DTYPE_NONE || info.dtype == t->dtype ||
                golden_retype(t, info.dtype))
                continue;
            if (rq_tensor_create(&own, info.dtype, &t->shape, true)) /* a package's inputs are given by value */
                abort();
            for (int64_t k = 0; k < rq_tensor_count(&own); k++)
                rq_tensor_set(&own, k, rq_tensor_get(t, k));
            rq_tensor_release(t);
            *t = own;
        }
    }
    if (!c->failed)
        run_levels(c, g, feeds, n);
    while (n > 0)
        rq_tensor_release(&feeds[--n].tensor);
    free(feeds);
    rq_graph_destroy(g);
    return GOLDEN_PASS;
}
