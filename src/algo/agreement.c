/* algo/agreement.c — the simulation and the integers side by side. The session runs a batch, and its codes are kept; then the simulation runs it twice.
 * What a fake-quantizer gives is sent to codes by the parameters of the quantized graph (its numbers lie on that grid, so this is exact) and
 * compared. The second time it is then replaced by what the integers had there, so that the next layer starts from the same codes and answers for
 * itself alone: one code that an early layer rounds the other way is several steps of a finer one behind it. */
#include "requant/agreement.h"

#include <stdlib.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/buf.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/quote.h"
#include "graph/graph.h"
#include "graph/query.h"
#include "quant/codes.h"

rq_agreement_cfg rq_agreement_defaults(void)
{
    return (rq_agreement_cfg) { .limit = 0.001, .onednn = true };
}

/* A value of both graphs. */
typedef struct pair {
    const char *simulated, *executed; /* names in each */
    rq_tensor codes, reals;           /* of the batch being run, by the integers */
    const rq_qparams *q, *made;       /* NULL: the integers have not made it */
    rq_agreement_layer *layer;
    struct work *w;
} pair;

typedef struct work {
    rq_agreement *out;
    rq_graph *prepared;
    const rq_graph *quantized;
    pair *pairs;
    int n;
    bool forced;         /* the second time */
    rq_tensor simulated; /* codes of what is being compared */
    rq_kernels k;
    rq_err *err;
} work;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory comparing simulation and integers");
}

/* ---- which values ---- */

static rq_id annotated(const rq_graph *g, const char *name)
{
    const rq_id v = rq_graph_find(g, name);
    return v >= 0 && rq_graph_qparams(g, v) && g->values[v].kind != RQ_VALUE_CONST ? v : RQ_NONE;
}

/* Codes of few bits are those of a byte behind a Clip: what the Clip gives, else v. */
static rq_id behind_clip(const rq_graph *g, rq_id v)
{
    rq_id user;
    if (rq_graph_uses(g, v, &user, 1) != 1 || !rq_node_is(&g->nodes[user], "Clip"))
        return v;
    const rq_id y = g->nodes[user].out[0];
    return g->values[y].quant == g->values[v].quant ? y : v;
}

/* Where the quantized graph has what this node gives: under its name, that of what it reads, or requantized from that. */
static rq_id counterpart(const work *w, const rq_node *fake)
{
    const rq_graph *g = w->quantized;
    const char *in = w->prepared->values[fake->in[0]].name;
    rq_id v = annotated(g, w->prepared->values[fake->out[0]].name);
    if (v == RQ_NONE)
        v = annotated(g, in);
    const rq_id x = rq_graph_find(g, in);
    for (rq_id i = 0; v == RQ_NONE && x >= 0 && i < g->n_nodes; i++)
        if (g->nodes[i].op && rq_node_is_requant(&g->nodes[i], "Requantize") && g->nodes[i].in[0] == x)
            v = behind_clip(g, g->nodes[i].out[0]);
    return v;
}

static rq_status add_pair(work *w, const rq_node *fake)
{
    const rq_graph *g = w->quantized;
    const char *in = w->prepared->values[fake->in[0]].name, *out = w->prepared->values[fake->out[0]].name;
    const rq_id v = counterpart(w, fake);
    if (v == RQ_NONE)
        return RQ_OK;
    for (int i = 0; i < w->n; i++)
        if (!strcmp(w->pairs[i].executed, g->values[v].name))
            return RQ_OK; /* read through several fake-quantizers that are one */
    rq_agreement_layer *l = &w->out->layers[w->out->n++];
    const rq_node *maker = g->values[v].kind == RQ_VALUE_NODE ? &g->nodes[g->values[v].producer] : NULL;
    l->name = rq_mem_strdup(maker && maker->name[0] ? maker->name : !strcmp(g->values[v].name, out) ? out : in);
    l->value = rq_mem_strdup(g->values[v].name);
    w->pairs[w->n++] = (pair) { .simulated = w->prepared->values[fake->out[0]].name,
                                .executed = g->values[v].name,
                                .q = rq_graph_qparams(g, v),
                                .layer = l,
                                .w = w };
    return l->name && l->value ? RQ_OK : no_memory(w->err);
}

/* Is what the node reads made of constants alone? Then it is a weight. */
static bool is_weight(const rq_graph *g, rq_id v, int depth)
{
    if (g->values[v].kind != RQ_VALUE_NODE || depth > 16)
        return g->values[v].kind == RQ_VALUE_CONST;
    const rq_node *n = &g->nodes[g->values[v].producer];
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && !is_weight(g, n->in[i], depth + 1))
            return false;
    return n->n_in > 0;
}

static rq_status find_pairs(work *w)
{
    rq_id *order;
    int n;
    RQ_TRY(rq_order(w->prepared, &order, &n, w->err));
    w->pairs = rq_mem_zalloc((size_t)n + 1, sizeof *w->pairs);
    w->out->layers = rq_mem_zalloc((size_t)n + 1, sizeof *w->out->layers);
    rq_status s = w->pairs && w->out->layers ? RQ_OK : no_memory(w->err);
    bool any = false;
    for (int i = 0; i < n && s == RQ_OK; i++) {
        const rq_node *node = &w->prepared->nodes[order[i]];
        if (rq_node_is_requant(node, "FakeQuantize") && !is_weight(w->prepared, node->in[0], 0)) {
            any = true;
            s = add_pair(w, node);
        }
    }
    rq_mem_free(order);
    if (s == RQ_OK && any && !w->n)
        s = rq_fail(w->err, RQ_BAD_DATA, "no value of the quantized graph is one that a fake-quantizer gave");
    return s;
}

/* ---- the runs ---- */

/* t holds such a tensor: the one of the batch before, where it was the same. */
static rq_status hold(rq_tensor *t, rq_dtype dtype, const rq_shape *shape, rq_err *err)
{
    if (t->dtype == dtype && rq_shape_equal(&t->shape, shape))
        return RQ_OK;
    rq_tensor_release(t);
    *t = (rq_tensor) { 0 };
    return rq_tensor_create(t, dtype, shape, false) ? no_memory(err) : RQ_OK;
}

/* The integers made it. */
static rq_status keep(void *arg, const char *value, const rq_tensor *t, const rq_qparams *q, rq_err *err)
{
    pair *p = arg;
    (void)value;
    p->made = q;
    if (!q)
        return RQ_OK;
    RQ_TRY(hold(&p->codes, t->dtype, &t->shape, err));
    RQ_TRY(hold(&p->reals, RQ_DTYPE_F32, &t->shape, err));
    memcpy(p->codes.data, t->data, t->bytes);
    rq_codes_to_reals(&p->reals, &p->codes, q, &p->w->k);
    return RQ_OK;
}

enum { STRIP = 1024 };

/* How far code i of both is apart. */
static inline int32_t apart(const rq_tensor *a, const rq_tensor *b, int64_t i)
{
    return abs(a->dtype == RQ_DTYPE_U8   ? a->u8[i] - b->u8[i]
               : a->dtype == RQ_DTYPE_S8 ? a->s8[i] - b->s8[i]
                                         : (int32_t)rq_tensor_get(a, i) - (int32_t)rq_tensor_get(b, i));
}

/* n codes of both from the i-th on, of which some differ. */
static void compare_strip(pair *p, const rq_tensor *simulated, int64_t i, int64_t n)
{
    int64_t differ = 0, far = 0;
    int32_t worst = 0;
    for (const int64_t end = i + n; i < end; i++) {
        const int32_t d = apart(&p->codes, simulated, i);
        differ += d != 0;
        far += d > 1;
        worst = d > worst ? d : worst;
    }
    rq_agreement_layer *l = p->layer;
    if (!p->w->forced) {
        l->differ_in_all += differ;
        return;
    }
    l->differ += differ;
    l->far += far;
    l->worst = worst > l->worst ? worst : l->worst;
}

/* The simulation made it. */
static rq_status compare(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    pair *p = arg;
    rq_tensor *codes = &p->w->simulated;
    const int64_t n = rq_tensor_count(t);
    if (!p->made)
        return RQ_OK;
    if (n != rq_tensor_count(&p->codes))
        return rq_fail(err, RQ_BAD_SHAPE, "'%s' has %lld elements in integers, %lld simulated", value,
                       (long long)rq_tensor_count(&p->codes), (long long)n);
    RQ_TRY(hold(codes, p->codes.dtype, &p->codes.shape, err));
    rq_codes_from_reals(codes, t, p->q, &p->w->k);
    const size_t size = n ? codes->bytes / (size_t)n : 0; /* 0: less than a byte each */
    const uint8_t *a = p->codes.u8, *b = codes->u8;
    for (int64_t i = 0; i < n; i += STRIP) {
        const int64_t m = n - i < STRIP ? n - i : STRIP;
        if (!size || memcmp(a + (size_t)i * size, b + (size_t)i * size, (size_t)m * size) != 0)
            compare_strip(p, codes, i, m);
    }
    if (p->w->forced) {
        p->layer->codes += n;
        memcpy(t->f32, p->reals.f32, (size_t)n * sizeof *t->f32);
    }
    return RQ_OK;
}

static rq_status run_batches(work *w, rq_autograd *a, rq_session *s, rq_walk *walk)
{
    const int n_sim = rq_graph_n_outputs(w->prepared), n_out = rq_graph_n_outputs(w->quantized);
    rq_tensor *y = rq_mem_zalloc((size_t)(n_sim + n_out) + 1, sizeof *y);
    rq_status st = y ? RQ_OK : no_memory(w->err);
    while (st == RQ_OK) {
        const rq_feed *feeds;
        const int64_t *rows;
        int n_feeds;
        int64_t n;
        st = rq_walk_next(walk, &feeds, &n_feeds, &rows, &n, w->err);
        if (st || !n)
            break;
        for (int i = 0; i < w->n; i++)
            w->pairs[i].made = NULL;
        st = rq_session_run(s, feeds, n_feeds, y + n_sim, w->err);
        for (int i = 0; i < n_out; i++)
            rq_tensor_release(&y[n_sim + i]);
        for (int k = 0; k < 2 && st == RQ_OK; k++) {
            w->forced = k == 1;
            st = rq_autograd_forward(a, feeds, n_feeds, y, w->err);
        }
        w->out->samples += n;
    }
    rq_mem_free(y);
    return st;
}

static rq_status run(work *w, rq_fake_quantizer *const *fakes, int n_fakes, rq_dataset *data,
                     const rq_agreement_cfg *cfg)
{
    rq_autograd *a = NULL;
    rq_session *s = NULL;
    rq_walk walk = { 0 };
    rq_autograd_cfg sim = rq_autograd_defaults();
    sim.threads = cfg->threads;
    sim.onednn = cfg->onednn;
    sim.fakes = fakes;
    sim.n_fakes = n_fakes;
    const rq_session_cfg exec = { .threads = cfg->threads, .onednn = cfg->onednn };
    rq_status st = rq_autograd_create(&a, w->prepared, &sim, w->err);
    if (st == RQ_OK)
        st = rq_session_create(&s, w->quantized, &exec, w->err);
    if (st == RQ_OK && rq_walk_init(&walk, data, cfg->rows, cfg->n_rows, 0))
        st = no_memory(w->err);
    if (st == RQ_OK)
        st = rq_walk_fit(&walk, &s, &w->quantized, 1, w->err);
    for (int i = 0; i < w->n && st == RQ_OK; i++) {
        st = rq_autograd_tap(a, w->pairs[i].simulated, compare, &w->pairs[i], w->err);
        if (st == RQ_OK)
            st = rq_session_tap_codes(s, w->pairs[i].executed, keep, &w->pairs[i], w->err);
    }
    if (st == RQ_OK) {
        rq_autograd_train(a, false);
        st = run_batches(w, a, s, &walk);
    }
    rq_walk_release(&walk);
    rq_session_destroy(s);
    rq_autograd_destroy(a);
    return st;
}

static void judge(rq_agreement *a)
{
    for (int i = 0; i < a->n; i++) {
        rq_agreement_layer *l = &a->layers[i];
        l->named = l->far > 0 || (double)l->differ > a->limit * (double)l->codes;
        a->n_named += l->named;
        a->codes += l->codes;
        a->differ += l->differ;
        a->differ_in_all += l->differ_in_all;
    }
}

rq_status rq_agreement_measure(rq_agreement *out, rq_graph *prepared, rq_fake_quantizer *const *fakes, int n_fakes,
                               const rq_graph *quantized, rq_dataset *data, const rq_agreement_cfg *cfg, rq_err *err)
{
    const rq_agreement_cfg usual = rq_agreement_defaults();
    unsigned cpu;
    work w = { .out = out, .prepared = prepared, .quantized = quantized, .err = err };
    cfg = cfg ? cfg : &usual;
    *out = (rq_agreement) { .limit = cfg->limit };
    rq_kernels_init(&w.k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    bool *on = rq_mem_alloc((size_t)n_fakes * 2 + 1, sizeof *on);
    if (!on)
        return no_memory(err);
    for (int i = 0; i < n_fakes; i++) {
        on[2 * i] = rq_fake_quantizer_observer_enabled(fakes[i]);
        on[2 * i + 1] = rq_fake_quantizer_fake_quant_enabled(fakes[i]);
        rq_fake_quantizer_enable_observer(fakes[i], false);
        rq_fake_quantizer_enable_fake_quant(fakes[i], true);
    }
    rq_status s = find_pairs(&w);
    if (s == RQ_OK && w.n)
        s = run(&w, fakes, n_fakes, data, cfg);
    for (int i = 0; i < n_fakes; i++) {
        rq_fake_quantizer_enable_observer(fakes[i], on[2 * i]);
        rq_fake_quantizer_enable_fake_quant(fakes[i], on[2 * i + 1]);
    }
    rq_mem_free(on);
    for (int i = 0; i < w.n; i++) {
        rq_tensor_release(&w.pairs[i].codes);
        rq_tensor_release(&w.pairs[i].reals);
    }
    rq_tensor_release(&w.simulated);
    rq_mem_free(w.pairs);
    if (s == RQ_OK)
        judge(out);
    else
        rq_agreement_release(out);
    return s;
}

void rq_agreement_release(rq_agreement *a)
{
    for (int i = 0; a->layers && i < a->n; i++) {
        rq_mem_free(a->layers[i].name);
        rq_mem_free(a->layers[i].value);
    }
    rq_mem_free(a->layers);
    *a = (rq_agreement) { 0 };
}

/* ---- for readers ---- */

static double percent(int64_t part, int64_t all)
{
    return all ? 100.0 * (double)part / (double)all : 0;
}

void rq_agreement_print(const rq_agreement *a, FILE *to)
{
    int width = 5;
    if (!a->n) {
        fputs("simulation and integers: only weights are quantized; there are no codes to compare\n", to);
        return;
    }
    for (int i = 0; i < a->n; i++) {
        const int n = (int)strlen(a->layers[i].name);
        width = n > width && n <= 44 ? n : width;
    }
    fprintf(to, "%-*s  %12s  %10s  %9s  %6s  %12s\n", width, "layer", "codes", "differ", "share %", "steps",
            "in all %");
    for (int i = 0; i < a->n; i++) {
        const rq_agreement_layer *l = &a->layers[i];
        if (l->codes)
            rq_number_to(to, "%-*s  %12lld  %10lld  %9.4f  %6d  %12.4f%s\n", width, l->name, (long long)l->codes,
                         (long long)l->differ, percent(l->differ, l->codes), (int)l->worst,
                         percent(l->differ_in_all, l->codes), l->named ? "  <" : "");
        else
            fprintf(to, "%-*s  part of another layer in integers\n", width, l->name);
    }
    rq_number_to(to,
                 "simulation and integers: %lld of %lld codes differ (%.4f %%), %.4f %% with what layers before hand "
                 "on, on %lld samples\n",
                 (long long)a->differ, (long long)a->codes, percent(a->differ, a->codes),
                 percent(a->differ_in_all, a->codes), (long long)a->samples);
    for (int i = 0; i < a->n; i++) {
        const rq_agreement_layer *l = &a->layers[i];
        if (l->named && l->far)
            rq_number_to(to, "%s: %lld codes are off by more than one step, the worst by %d\n", l->name,
                         (long long)l->far, (int)l->worst);
        else if (l->named)
            rq_number_to(to, "%s: %.3f %% of its codes differ, more than %.3f %%\n", l->name,
                         percent(l->differ, l->codes), 100 * a->limit);
    }
}

int64_t rq_agreement_json(const rq_agreement *a, char *buf, size_t n)
{
    rq_buf b = { 0 };
    char limit[40];
    rq_number_print(limit, sizeof limit, "%.9g", a->limit);
    rq_buf_addf(
        &b,
        "{\"samples\": %lld, \"codes\": %lld, \"differ\": %lld, \"differ_in_all\": %lld, \"limit\": %s, \"layers\": [",
        (long long)a->samples, (long long)a->codes, (long long)a->differ, (long long)a->differ_in_all, limit);
    for (int i = 0; i < a->n; i++) {
        const rq_agreement_layer *l = &a->layers[i];
        rq_buf_adds(&b, i ? ", {\"name\": " : "{\"name\": ");
        rq_quote(&b, l->name);
        rq_buf_adds(&b, ", \"value\": ");
        rq_quote(&b, l->value);
        rq_buf_addf(&b,
                    ", \"codes\": %lld, \"differ\": %lld, \"far\": %lld, \"worst\": %d, \"differ_in_all\": %lld, "
                    "\"named\": %s}",
                    (long long)l->codes, (long long)l->differ, (long long)l->far, (int)l->worst,
                    (long long)l->differ_in_all, l->named ? "true" : "false");
    }
    rq_buf_adds(&b, "]}");
    return rq_buf_hand_over(&b, buf, n);
}
