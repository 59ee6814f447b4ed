/* algo/report_layers.c — each layer of the integer model against the float value of the same name.
 *
 * A few samples go through the float model, whose values are held, then through the integer one, whose
 * codes are compared as they appear and let the held value go. What is held at a time is bounded: the
 * values are cut into groups that fit HELD_BYTES for one batch, and the batch is run once per group. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "graph/graph.h"
#include "graph/query.h"

enum {
    HELD_BYTES = 96 << 20,
    MOST_SAMPLES = 64, /* enough for sums; samples beyond are only judged by the outputs */
};

typedef struct watch {
    struct pass *pass;
    rq_report_layer *layer;
    const char *float_name; /* its value in the float model; NULL: there is none */
    const rq_qparams *read; /* what its codes are read as, where not as what it was rounded to; NULL: the same */
    rq_tensor held;
    size_t bytes; /* of one sample's value */
    int group;
    rq_sums sums;
    int64_t n, at_end, clipped;
    int32_t lo, hi;           /* codes seen */
    int32_t code_lo, code_hi; /* that it has */
    int bits;                 /* 0: all that its type has */
} watch;

typedef struct pass {
    watch *w;
    int n;
    int group;      /* whose values are held and compared */
    bool measuring; /* only sizes are noted */
} pass;

static rq_status float_tap(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    watch *w = arg;
    (void)value;
    if (w->pass->measuring) {
        w->bytes = t->bytes;
        return RQ_OK;
    }
    if (w->group != w->pass->group)
        return RQ_OK;
    rq_tensor_release(&w->held);
    if (rq_tensor_copy(&w->held, t))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a copy of '%s'", value);
    return RQ_OK;
}

enum { STRIP = 1024 };

/* n codes of t from the i-th on, as 32 bits. */
static void read_codes(int32_t *to, const rq_tensor *t, int64_t i, int64_t n)
{
    if (t->dtype == RQ_DTYPE_U8)
        for (int64_t k = 0; k < n; k++)
            to[k] = t->u8[i + k];
    else if (t->dtype == RQ_DTYPE_S8)
        for (int64_t k = 0; k < n; k++)
            to[k] = t->s8[i + k];
    else
        for (int64_t k = 0; k < n; k++)
            to[k] = (int32_t)rq_tensor_get_int(t, i + k);
}

/* Codes with one scale: real and place in the range per element. `held` may be empty. */
static void add_codes(watch *w, const rq_tensor *t, const rq_qparams *q)
{
    const bool known = w->held.dtype != RQ_DTYPE_NONE && rq_tensor_count(&w->held) == rq_tensor_count(t);
    if (!w->bits)
        rq_qparams_limits(q, &w->code_lo, &w->code_hi);
    const int32_t zp = q->zero_point[0], lo = w->code_lo, hi = w->code_hi;
    const float step = q->scale[0];
    const double scale = step, edge_lo = ((double)lo - zp - 0.5) * scale, edge_hi = ((double)hi - zp + 0.5) * scale;
    const int64_t n = rq_tensor_count(t);
    if (n && !w->n)
        w->lo = INT32_MAX, w->hi = INT32_MIN;
    w->n += n;
    for (int64_t at = 0; at < n; at += STRIP) {
        const int64_t m = n - at < STRIP ? n - at : STRIP;
        int32_t code[STRIP], least = INT32_MAX, most = INT32_MIN, at_end = 0, clipped = 0;
        float real[STRIP], copy[STRIP]; /* of the codes; what was held, where that is of 16 bits */
        read_codes(code, t, at, m);
        for (int64_t i = 0; i < m; i++) {
            least = code[i] < least ? code[i] : least;
            most = code[i] > most ? code[i] : most;
            at_end += ((code[i] <= lo) | (code[i] >= hi)) & (code[i] != zp);
            real[i] = (float)(code[i] - zp) * step;
        }
        w->lo = least < w->lo ? least : w->lo;
        w->hi = most > w->hi ? most : w->hi;
        w->at_end += at_end;
        if (!known)
            continue;
        if (w->held.dtype != RQ_DTYPE_F32)
            for (int64_t i = 0; i < m; i++)
                copy[i] = (float)rq_tensor_get(&w->held, at + i);
        const float *want = w->held.dtype == RQ_DTYPE_F32 ? w->held.f32 + at : copy;
        for (int64_t i = 0; i < m; i++)
            clipped += !((want[i] >= edge_lo) & (want[i] <= edge_hi));
        w->clipped += clipped;
        rq_sums_add_f32(&w->sums, want, real, m);
    }
}

static rq_status code_tap(void *arg, const char *value, const rq_tensor *t, const rq_qparams *q, rq_err *err)
{
    watch *w = arg;
    (void)value;
    (void)err;
    if (w->pass->measuring || w->group != w->pass->group)
        return RQ_OK;
    if (q && q->n == 1)
        add_codes(w, t, w->read ? w->read : q);
    else if (!q && w->held.dtype != RQ_DTYPE_NONE && rq_tensor_count(&w->held) == rq_tensor_count(t))
        (void)rq_sums_add(&w->sums, &w->held, t);
    rq_tensor_release(&w->held);
    return RQ_OK;
}

static char *dup_or_null(const char *s, bool *failed)
{
    char *p = s ? rq_mem_strdup(s) : NULL;
    *failed |= s && !p;
    return p;
}

/* How much shorter the name of n bytes is without an ending that raising gave it, or a writer of codes (ours, and ONNX
 * Runtime's quantizer); 0: it has none. */
static size_t ending(const char *name, size_t n)
{
    static const char *const endings[] = { "_QuantizeLinear_Input", "_QuantizeLinear_Output", "_quantized" };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t tail = strlen(endings[i]);
        if (n > tail && !memcmp(name + n - tail, endings[i], tail))
            return tail;
    }
    return 0;
}

/* The name in g of what `value` holds codes of: its own or, where QLinear operators hand codes on, that without endings.
 * NULL: g has no such value. */
static const char *counterpart(const rq_graph *g, const char *value)
{
    if (rq_graph_find(g, value) >= 0)
        return value;
    size_t n = strlen(value);
    for (size_t tail = ending(value, n); tail; tail = ending(value, n)) {
        n -= tail;
        for (rq_id v = 0; v < g->n_values; v++)
            if (strlen(g->values[v].name) == n && !memcmp(g->values[v].name, value, n))
                return g->values[v].name;
    }
    return NULL;
}

/* Who chose the range of a value: a file does not tell, the graph it was written from does. */
static const char *method_of(const rq_graph *origin, const char *value, const rq_quant *q)
{
    const char *name = origin && value ? counterpart(origin, value) : NULL;
    rq_id v = name ? rq_graph_find(origin, name) : RQ_NONE;
    for (rq_id i = 0; v >= 0 && origin->values[v].quant < 0 && i < origin->n_nodes; i++) /* a file has it in one */
        if (origin->nodes[i].op && rq_node_is_requant(&origin->nodes[i], "Requantize") && origin->nodes[i].in[0] == v)
            v = origin->nodes[i].out[0];
    return v >= 0 && origin->values[v].quant >= 0 ? origin->quants[origin->values[v].quant].method : q->method;
}

/* Of a node whose weights alone are codes: says so, in buf; NULL: it is no such node. */
static const char *weights_only(const rq_graph *g, rq_id output, char *buf, size_t n)
{
    const rq_node *node =
        output >= 0 && g->values[output].kind == RQ_VALUE_NODE ? &g->nodes[g->values[output].producer] : NULL;
    const rq_qparams *weights = NULL;
    const int64_t bits = node && (!strcmp(node->op, "MatMulNBits") || !strcmp(node->op, "GatherBlockQuantized"))
                             ? rq_attr_int(node, RQ_WORD_bits, 4)
                             : 0;
    if (bits) {
        snprintf(buf, n, "only weights are codes (%lld bits)", (long long)bits);
        return buf;
    }
    for (int i = 0; node && i < node->n_in; i++) {
        const rq_qparams *q = rq_graph_qparams(g, node->in[i]);
        if (q && g->values[node->in[i]].kind != RQ_VALUE_CONST)
            return NULL;
        weights = q && !weights ? q : weights;
    }
    if (!weights || rq_graph_qparams(g, output))
        return NULL;
    snprintf(buf, n, "only weights are codes (%s)", rq_dtype_name(weights->dtype));
    return buf;
}

/* A row for each step of the plan that computes on reals or on codes for them. */
static rq_status make_rows(rq_report *out, rq_session *quantized, const rq_graph *origin, const rq_report_codes *codes,
                           rq_err *err)
{
    const rq_layer_info *info;
    const int n = rq_session_layers(quantized, &info);
    const rq_graph *g = rq_session_graph(quantized);
    bool failed = false;
    out->layers = rq_mem_zalloc((size_t)n + 1, sizeof *out->layers);
    if (!out->layers)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    rq_report_role *roles;
    if (rq_report_find_products(&roles, g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    for (int i = 0; i < n; i++) {
        const rq_id v = info[i].output ? rq_graph_find(g, info[i].output) : RQ_NONE;
        const rq_quant *q = v >= 0 && g->values[v].quant >= 0 ? &g->quants[g->values[v].quant] : NULL;
        const rq_report_role *role =
            v >= 0 && g->values[v].kind == RQ_VALUE_NODE ? &roles[g->values[v].producer] : NULL;
        const rq_node *product = role && role->product >= 0 ? &g->nodes[role->product] : NULL;
        if (role && role->part && !product)
            continue; /* the last node stands for all */
        const bool reals = q || v < 0 || g->values[v].dtype == RQ_DTYPE_NONE || rq_dtype_is_float(g->values[v].dtype);
        if (!info[i].integer && !info[i].reason_float && !reals)
            continue; /* arithmetic on shapes and indices */
        rq_report_layer *l = &out->layers[out->n_layers++];
        *l = (rq_report_layer) {
            .bits = 32, .sqnr_db = NAN, .cosine = NAN, .saturated = NAN, .used = NAN, .ms = info[i].ms
        };
        l->name = dup_or_null(info[i].name, &failed);
        l->op = dup_or_null(product ? product->op : info[i].op, &failed);
        l->value = dup_or_null(info[i].output ? info[i].output : "", &failed);
        if (product) {
            const rq_dtype d = g->values[product->in[1]].dtype;
            l->method = dup_or_null("as it passes", &failed);
            l->dtype = rq_dtype_is_integer(d) ? d : RQ_DTYPE_S8;
            l->bits = rq_dtype_bits(l->dtype);
            l->scale = NAN;
            continue;
        }
        char text[64];
        const char *weights = info[i].integer ? NULL : weights_only(g, v, text, sizeof text);
        if (weights)
            l->reason_float = dup_or_null(weights, &failed);
        else if (!info[i].integer &&
                 (info[i].reason_float || !q)) /* without a reason it is the step that makes the codes */
            l->reason_float =
                dup_or_null(info[i].reason_float ? info[i].reason_float : "none of its values is quantized", &failed);
        if (q) {
            l->method = dup_or_null(method_of(origin, info[i].output, q), &failed);
            l->dtype = q->q.dtype;
            l->bits = codes[v].bits ? codes[v].bits : rq_dtype_bits(q->q.dtype);
            l->scale = q->q.scale[0];
            l->zero_point = q->q.zero_point[0];
        }
    }
    rq_mem_free(roles);
    return failed ? rq_fail(err, RQ_NO_MEMORY, "out of memory for the report") : RQ_OK;
}

/* Is v codes that are read under another scale than they were made with? */
static bool is_rescaled(const rq_graph *g, rq_id v)
{
    const rq_node *d = v >= 0 && g->values[v].kind == RQ_VALUE_NODE ? &g->nodes[g->values[v].producer] : NULL;
    if (!d || strcmp(d->op, "DequantizeLinear") != 0 || g->values[v].quant < 0 ||
        g->values[d->in[0]].kind != RQ_VALUE_NODE)
        return false;
    const rq_node *q = &g->nodes[g->values[d->in[0]].producer];
    const int own = strcmp(q->op, "QuantizeLinear") != 0 ? RQ_NONE : g->values[q->in[0]].quant;
    return own >= 0 && g->quants[own].q.scale[0] != g->quants[g->values[v].quant].q.scale[0];
}

/* Core ML has additions whose scales are divided by one of them (docs/coreml-facts.md 9.4): such a sum counts in units of its own, which the float model
 * does not know, and whoever reads its codes says what they stand for. false: nobody does. *read is NULL where v is what it was rounded to. */
static bool find_units(const rq_graph *g, rq_id v, const rq_qparams **read)
{
    enum { MOST = 16 };
    rq_id user[MOST];
    const rq_qparams *q = NULL;
    *read = NULL;
    if (v < 0 || g->values[v].quant < 0 || g->values[v].kind != RQ_VALUE_NODE)
        return true;
    const rq_node *sum = &g->nodes[g->values[v].producer];
    if (!strcmp(sum->op, "Relu") && g->values[sum->in[0]].kind == RQ_VALUE_NODE)
        sum = &g->nodes[g->values[sum->in[0]].producer];
    if (strcmp(sum->op, "Add") != 0 || (!is_rescaled(g, sum->in[0]) && !is_rescaled(g, sum->in[1])))
        return true;
    for (;;) { /* a Relu may stand behind the sum */
        if (rq_graph_uses(g, v, user, MOST) != 1 || rq_graph_is_output(g, v))
            return true; /* its scale is told where it is made */
        if (strcmp(g->nodes[user[0]].op, "Relu") != 0)
            break;
        v = g->nodes[user[0]].out[0];
    }
    if (strcmp(g->nodes[user[0]].op, "QuantizeLinear") != 0)
        return true;
    const rq_id codes = g->nodes[user[0]].out[0];
    const int n = rq_graph_uses(g, codes, user, MOST);
    for (int i = 0; i < n && i < MOST && !rq_graph_is_output(g, codes); i++) {
        const rq_id y = g->nodes[user[i]].out[0];
        rq_id next;
        if (!is_rescaled(g, y) || g->quants[g->values[y].quant].q.n != 1 ||
            (rq_graph_uses(g, y, &next, 1) && !rq_graph_is_output(g, y) && !strcmp(g->nodes[next].op, "Add")))
            continue; /* an addition may divide it once more */
        q = &g->quants[g->values[y].quant].q;
    }
    *read = q;
    return q != NULL;
}

/* Tap every row's value on both sides. A value that one side lacks stays without numbers. */
static rq_status tap_all(pass *p, rq_report *out, rq_session *model, rq_session *quantized,
                         const rq_report_codes *codes, rq_err *err)
{
    const rq_graph *g = rq_session_graph(quantized);
    p->n = out->n_layers;
    p->w = rq_mem_zalloc((size_t)p->n + 1, sizeof *p->w);
    if (!p->w)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    for (int i = 0; i < p->n; i++) {
        watch *w = &p->w[i];
        rq_report_layer *l = &out->layers[i];
        *w = (watch) { .pass = p, .layer = l };
        if (!l->value[0])
            continue;
        const rq_id v = rq_graph_find(g, l->value);
        if (v >= 0 && codes[v].bits) {
            w->bits = codes[v].bits;
            w->code_lo = codes[v].lo;
            w->code_hi = codes[v].hi;
        }
        const bool known = find_units(g, v, &w->read);
        if (w->read)
            l->scale = w->read->scale[0];
        rq_err ignored = { 0 };
        rq_status status = rq_session_tap_codes(quantized, l->value, code_tap, w, &ignored);
        if (status == RQ_NOT_FOUND)
            continue;
        const char *name = known ? counterpart(rq_session_graph(model), l->value) : NULL;
        if (!status)
            status = name ? rq_session_tap(model, name, float_tap, w, &ignored) : RQ_NOT_FOUND;
        if (!status)
            w->float_name = name;
        else if (status != RQ_NOT_FOUND) {
            if (err)
                *err = ignored;
            return status;
        }
    }
    return RQ_OK;
}

/* Cut the watches into groups whose values, for one batch of n samples, fit. Returns how many groups. */
static int make_groups(pass *p, int64_t n)
{
    int group = 0;
    size_t sum = 0;
    for (int i = 0; i < p->n; i++) {
        const size_t bytes = p->w[i].bytes * (size_t)n;
        if (sum && sum + bytes > HELD_BYTES) {
            group++;
            sum = 0;
        }
        sum += bytes;
        p->w[i].group = group;
    }
    return group + 1;
}

static rq_status run_once(rq_session *s, const rq_graph *g, rq_tensor *scratch, const rq_feed *feeds, int n_feeds,
                          rq_err *err)
{
    RQ_TRY(rq_session_run(s, feeds, n_feeds, scratch, err));
    for (int i = 0; i < rq_graph_n_outputs(g); i++)
        rq_tensor_release(&scratch[i]);
    return RQ_OK;
}

static rq_status run_taps(pass *p, rq_session *model, rq_session *quantized, const rq_graph *model_graph,
                          const rq_graph *quantized_graph, rq_dataset *data, const rq_report_cfg *cfg, rq_err *err)
{
    const int a = rq_graph_n_outputs(model_graph), b = rq_graph_n_outputs(quantized_graph);
    rq_tensor *scratch = rq_mem_zalloc((size_t)(a > b ? a : b) + 1, sizeof *scratch);
    rq_walk w = { 0 };
    const rq_feed *feeds;
    const int64_t *rows;
    int n_feeds, groups = 1;
    int64_t n, done = 0;
    rq_status status = scratch ? rq_walk_init(&w, data, cfg->rows, cfg->n_rows, 1) : RQ_NO_MEMORY;
    const int64_t total = rq_walk_total(&w) < MOST_SAMPLES ? rq_walk_total(&w) : MOST_SAMPLES;
    const double start = rq_clock_ms();
    while (!status && done < total) {
        if ((status = rq_walk_next(&w, &feeds, &n_feeds, &rows, &n, err)) || !n)
            break;
        if (!done) { /* sizes first */
            p->measuring = true;
            status = run_once(model, model_graph, scratch, feeds, n_feeds, err);
            p->measuring = false;
            groups = make_groups(p, 1);
        }
        for (p->group = 0; !status && p->group < groups; p->group++) {
            status = run_once(model, model_graph, scratch, feeds, n_feeds, err);
            if (!status)
                status = run_once(quantized, quantized_graph, scratch, feeds, n_feeds, err);
        }
        done += n;
        const double eta = (rq_clock_ms() - start) / 1e3 / (double)done * (double)(total - done);
        if (!status && cfg->progress &&
            !cfg->progress(cfg->progress_arg, "layers", done < total ? done : total, total, eta))
            status = rq_fail(err, RQ_CANCELLED, "cancelled while measuring layers");
    }
    rq_walk_release(&w);
    rq_mem_free(scratch);
    return status;
}

/* Noise of the output beyond that of the noisiest input. */
static void measure_harm(rq_report *out, const rq_graph *g, const pass *p)
{
    for (int i = 0; i < out->n_layers; i++) {
        rq_report_layer *l = &out->layers[i];
        const rq_id v = rq_graph_find(g, l->value);
        const rq_sums *s = &p->w[i].sums;
        if (!s->n || !(s->aa > 0) || v < 0 || g->values[v].kind != RQ_VALUE_NODE)
            continue;
        const rq_node *node = &g->nodes[g->values[v].producer];
        double before = 0;
        for (int k = 0; k < node->n_in; k++)
            for (int j = 0; node->in[k] >= 0 && j < out->n_layers; j++)
                if (p->w[j].sums.aa > 0 && !strcmp(out->layers[j].value, g->values[node->in[k]].name) &&
                    p->w[j].sums.ee / p->w[j].sums.aa > before)
                    before = p->w[j].sums.ee / p->w[j].sums.aa;
        const double harm = s->ee / s->aa - before;
        l->harm = harm > 0 ? harm : 0;
    }
}

/* Has the node of row i the very codes of the row before it, which said what there is to say of them? A reshaping, QuantizeLinear behind what runs in
 * floats. */
static bool repeats(const rq_report *out, const rq_graph *g, const pass *p, int i)
{
    const rq_id v = rq_graph_find(g, out->layers[i].value);
    if (v < 0 || g->values[v].kind != RQ_VALUE_NODE)
        return false;
    const rq_node *node = &g->nodes[g->values[v].producer];
    const char *from = node->n_in && node->in[0] >= 0 ? g->values[node->in[0]].name : "";
    const watch *a = &p->w[i];
    for (int j = 0; j < out->n_layers; j++) {
        const watch *b = &p->w[j];
        if (!strcmp(out->layers[j].value, from) && a->n == b->n && a->lo == b->lo && a->hi == b->hi &&
            a->at_end == b->at_end && out->layers[j].scale == out->layers[i].scale)
            return true;
    }
    return false;
}

static rq_status settle(rq_report *out, const rq_graph *g, const pass *p)
{
    for (int i = 0; i < p->n; i++) {
        const watch *w = &p->w[i];
        rq_report_layer *l = w->layer;
        const char *name = l->name && l->name[0] ? l->name : l->value;
        if (w->float_name) {
            l->sqnr_db = rq_sums_sqnr_db(&w->sums);
            l->cosine = rq_sums_cosine(&w->sums);
        }
        if (w->sums.nonfinite)
            RQ_TRY(rq_notes_add(&out->warnings, "%s '%s': %lld numbers are not finite", l->op, name,
                                (long long)w->sums.nonfinite));
        if (!w->n)
            continue;
        l->saturated = (double)w->at_end / (double)w->n;
        const int32_t lo = w->lo > w->code_lo ? w->lo : w->code_lo, hi = w->hi < w->code_hi ? w->hi : w->code_hi;
        l->used = w->code_hi > w->code_lo ? (hi > lo ? (double)hi - lo : 0) / ((double)w->code_hi - w->code_lo) : 1;
        const double clipped = (double)w->clipped / (double)w->n;
        if (repeats(out, g, p, i))
            continue;
        /* a step of few bits, one that was learned, and one that is always the same cut the ends off on purpose */
        const bool meant = w->bits || (l->method && (!strcmp(l->method, "learned") || !strcmp(l->method, "fixed")));
        if (clipped > 0.01 && !meant)
            RQ_TRY(rq_notes_add(&out->warnings,
                                "%s '%s': %.1f %% of its values lie outside its range (%.4g .. %.4g) and saturate",
                                l->op, name, 100 * clipped, ((double)w->code_lo - l->zero_point) * l->scale,
                                ((double)w->code_hi - l->zero_point) * l->scale));
        if (w->lo == w->hi && w->n > 1)
            RQ_TRY(rq_notes_add(&out->warnings, "%s '%s' gives the same value for everything: dead", l->op, name));
        else if (l->used < 0.1)
            RQ_TRY(rq_notes_add(&out->warnings, "%s '%s' uses only %.1f %% of its codes", l->op, name, 100 * l->used));
    }
    measure_harm(out, g, p);
    return RQ_OK;
}

rq_status rq_report_fill_layers(rq_report *out, rq_session *model, rq_session *quantized, const rq_graph *model_graph,
                                const rq_graph *quantized_graph, rq_dataset *data, const rq_report_cfg *cfg,
                                rq_err *err)
{
    pass p = { 0 };
    rq_report_codes *codes = NULL;
    rq_status status = rq_report_find_bits(&codes, rq_session_graph(quantized), err);
    if (!status)
        status = make_rows(out, quantized, cfg->origin, codes, err);
    if (!status)
        status = tap_all(&p, out, model, quantized, codes, err);
    rq_mem_free(codes);
    if (!status)
        status = run_taps(&p, model, quantized, model_graph, quantized_graph, data, cfg, err);
    if (!status)
        status = settle(out, rq_session_graph(quantized), &p);
    for (int i = 0; i < p.n && p.w; i++)
        rq_tensor_release(&p.w[i].held);
    rq_mem_free(p.w);
    return status;
}

/* ---- constants ---- */

static rq_status dead_channels(rq_report *out, const rq_value *v, const rq_qparams *q)
{
    const rq_tensor *t = &v->constant;
    const int64_t channels = t->shape.dim[q->axis], inner = rq_shape_span(&t->shape, q->axis + 1, t->shape.rank),
                  outer = rq_shape_span(&t->shape, 0, q->axis);
    int64_t dead = 0, first = -1;
    for (int64_t c = 0; c < channels; c++) {
        bool zero = inner * outer > 0;
        for (int64_t o = 0; zero && o < outer; o++)
            for (int64_t i = 0; zero && i < inner; i++)
                zero = rq_tensor_get_int(t, (o * channels + c) * inner + i) == q->zero_point[c];
        if (zero && first < 0)
            first = c;
        dead += zero;
    }
    if (!dead)
        return RQ_OK;
    return rq_notes_add(&out->warnings, "weight '%s': %lld of %lld channels have only zeros (the first is %lld): dead",
                        v->name, (long long)dead, (long long)channels, (long long)first);
}

static rq_status clipped_bias(rq_report *out, const rq_value *v)
{
    const rq_tensor *t = &v->constant;
    int64_t clipped = 0;
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        clipped += t->s32[i] == INT32_MAX || t->s32[i] == INT32_MIN;
    if (!clipped)
        return RQ_OK;
    return rq_notes_add(&out->warnings, "bias '%s': %lld of %lld codes are clipped", v->name, (long long)clipped,
                        (long long)rq_tensor_count(t));
}

rq_status rq_report_inspect_constants(rq_report *out, const rq_graph *g)
{
    for (int i = 0; i < g->n_values; i++) {
        const rq_value *v = &g->values[i];
        const rq_qparams *q = rq_graph_qparams(g, i);
        if (v->kind != RQ_VALUE_CONST || !q || v->constant.dtype != q->dtype || !v->constant.data)
            continue;
        if (q->dtype == RQ_DTYPE_S32)
            RQ_TRY(clipped_bias(out, v));
        else if (q->axis >= 0 && q->axis < v->constant.shape.rank && !q->block &&
                 q->n == v->constant.shape.dim[q->axis])
            RQ_TRY(dead_channels(out, v, q));
    }
    return RQ_OK;
}
