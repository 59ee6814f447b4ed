/* run/session.c — the public face of programs: a graph, the model's own or a private copy, raised and bound to rows and shared by the sessions of
 * a model; inputs matched by name; taps; what the layers were. */
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "ops/sequence.h"
#include "run/feeds.h"
#include "run/session_priv.h"

static void model_release(rq_session_model *m)
{
    if (m && atomic_fetch_sub(&m->refs, 1) == 1) {
        rq_graph_destroy(m->g);
        rq_mem_free(m);
    }
}

void rq_session_destroy(rq_session *s)
{
    if (!s)
        return;
    rq_batch_release(&s->batch);
    rq_program_destroy(s->program);
    rq_threads_destroy(s->threads);
    model_release(s->model);
    rq_mem_free(s->feeds);
    rq_mem_free(s->names);
    rq_mem_free(s->bound);
    rq_mem_free(s->layers);
    rq_mem_free(s);
}

/* The model of a graph, which is changed for running. Takes g. */
static rq_status make_model(rq_session_model **out, rq_graph *g, bool literal, rq_err *err)
{
    rq_session_model *m = rq_mem_zalloc(1, sizeof *m);
    if (!m) {
        rq_graph_destroy(g);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a session");
    }
    atomic_init(&m->refs, 1);
    m->g = g;
    *out = m;
    rq_ops_bind(g);
    if (!literal)
        RQ_TRY(rq_raise_to_run(g, err));
    RQ_TRY(rq_sequence_resolve(g, err));
    rq_ops_bind(g);
    return rq_ops_check(g, true, err);
}

/* What a session has besides its model, which it takes a share of. */
static rq_status build(rq_session *s, rq_session_model *m, rq_err *err)
{
    unsigned cpu;
    atomic_fetch_add(&m->refs, 1);
    s->model = m;
    s->g = m->g;
    RQ_TRY(rq_cpu_pinned(&cpu, err));
    rq_kernels_init(&s->k, cpu);
    s->k.library = s->cfg.onednn;
    s->k.spec = s->cfg.match == RQ_MATCH_SPEC;
    if (s->cfg.threads < 0)
        return rq_fail(err, RQ_BAD_ARG, "%d threads were asked for, expected at least 1, or 0 for one per core",
                       s->cfg.threads);
    if (rq_threads_create(&s->threads, s->cfg.threads))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory starting threads");
    s->feeds = rq_mem_zalloc((size_t)s->g->n_inputs + 1, sizeof *s->feeds);
    s->names = rq_mem_zalloc((size_t)s->g->n_inputs + 1, sizeof *s->names);
    s->bound = rq_mem_zalloc((size_t)s->g->n_inputs + (size_t)s->g->n_outputs + 1, sizeof *s->bound);
    if (!s->feeds || !s->names || !s->bound || rq_batch_init(&s->batch, s->g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a session");
    return rq_program_create(&s->program, s->g, &s->cfg, &s->k, s->threads, NULL, err);
}

static rq_status create(rq_session **out, rq_session_model *m, const rq_session_cfg *cfg, rq_err *err)
{
    rq_session *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a session");
    if (cfg)
        s->cfg = *cfg;
    const rq_status st = build(s, m, err);
    if (st) {
        rq_session_destroy(s);
        return st;
    }
    *out = s;
    return RQ_OK;
}

/* Takes g. */
static rq_status create_of(rq_session **out, rq_graph *g, const rq_session_cfg *cfg, rq_err *err)
{
    rq_session_model *m = NULL;
    rq_status st = make_model(&m, g, cfg && cfg->literal, err);
    if (!st)
        st = create(out, m, cfg, err);
    model_release(m);
    return st;
}

rq_status rq_session_create(rq_session **out, const rq_graph *g, const rq_session_cfg *cfg, rq_err *err)
{
    rq_graph *copy;
    if (rq_graph_copy(&copy, g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory copying the graph");
    return create_of(out, copy, cfg, err);
}

/* The session of a file, which is loaded to be run: planned at once, so that its first run is like the others. Takes g. */
static rq_status create_planned(rq_session **out, rq_graph *g, const rq_session_cfg *cfg, rq_err *err)
{
    rq_session *s;
    RQ_TRY(create_of(&s, g, cfg, err));
    const rq_status st = rq_session_plan_ahead(s);
    if (st == RQ_NO_MEMORY) {
        rq_session_destroy(s);
        return rq_fail(err, st, "out of memory planning the graph");
    }
    *out = s;
    return RQ_OK;
}

rq_status rq_session_load(rq_session **out, const char *path, const rq_session_cfg *cfg, rq_err *err)
{
    rq_graph *g;
    RQ_TRY(rq_load(&g, path, err));
    return create_planned(out, g, cfg, err);
}

rq_status rq_session_load_memory(rq_session **out, const void *data, size_t size, const rq_session_cfg *cfg,
                                 rq_err *err)
{
    rq_graph *g;
    RQ_TRY(rq_load_memory(&g, data, size, err));
    return create_planned(out, g, cfg, err);
}

rq_status rq_session_share(rq_session **out, const rq_session *s, const rq_session_cfg *cfg, rq_err *err)
{
    if (cfg && cfg->literal != s->cfg.literal)
        return rq_fail(err, RQ_BAD_ARG, "a session that %s cannot share the model of one that %s",
                       cfg->literal ? "is literal" : "is not literal", s->cfg.literal ? "is" : "is not");
    return create(out, s->model, cfg ? cfg : &s->cfg, err);
}

/* ---- running ---- */

rq_status rq_session_run(rq_session *s, const rq_feed *in, int n_in, rq_tensor *out, rq_err *err)
{
    memset(out, 0, (size_t)s->g->n_outputs * sizeof *out);
    RQ_TRY(rq_feeds_match(s->g, in, n_in, s->names, s->feeds, err));
    s->guessed = false;
    return rq_batch_run(&s->batch, s->program, s->feeds, out, err);
}

/* ---- taps ---- */

static rq_status add_tap(rq_session *s, const char *value, rq_tap tap, rq_err *err)
{
    rq_program *p = s->program;
    tap.value = rq_graph_find(s->g, value);
    if (tap.value == RQ_NONE)
        return rq_feeds_no_value(s->g, value, err);
    if (!rq_mem_grow(&p->taps, p->n_taps, &p->cap_taps, sizeof *p->taps))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory tapping '%s'", value);
    p->taps[p->n_taps++] = tap;
    rq_program_forget(p);
    return RQ_OK;
}

rq_status rq_session_tap(rq_session *s, const char *value, rq_tap_fn fn, void *arg, rq_err *err)
{
    return add_tap(s, value, (rq_tap) { .fn = fn, .arg = arg }, err);
}

rq_status rq_session_tap_codes(rq_session *s, const char *value, rq_tap_codes_fn fn, void *arg, rq_err *err)
{
    return add_tap(s, value, (rq_tap) { .fn_codes = fn, .arg = arg }, err);
}

/* ---- what ran ---- */

/* What a step reads and writes. */
static double moved_bytes(const rq_program *p, const rq_step *s)
{
    double sum = 0;
    for (int i = 0; i < s->args.n_out && !s->gone; i++)
        if (s->out_form[i] >= 0)
            sum += (double)p->forms[s->out_form[i]].t.bytes;
    for (int i = 0; i < s->args.n_in && sum > 0; i++)
        if (s->in_form[i] >= 0)
            sum += (double)p->forms[s->in_form[i]].t.bytes;
    return sum;
}

static rq_status add_layer(rq_session *s, rq_layer_info layer)
{
    if (!rq_mem_grow(&s->layers, s->n_layers, &s->cap_layers, sizeof *s->layers))
        return RQ_NO_MEMORY;
    s->layers[s->n_layers++] = layer;
    return RQ_OK;
}

/* Nodes that cost nothing, from *at on, which stand before step `before`. */
static rq_status list_free(rq_session *s, const rq_program *p, const rq_segment *seg, int *at, int before)
{
    for (; *at < seg->n_frees && seg->frees[*at].at <= before; ++*at) {
        const rq_node *n = seg->frees[*at].node;
        RQ_TRY(add_layer(s, (rq_layer_info) { .name = n->name,
                                              .op = n->op,
                                              .output = p->g->values[n->out[0]].name,
                                              .integer = seg->frees[*at].codes }));
    }
    return RQ_OK;
}

static rq_layer_info layer_of(const rq_program *p, const rq_step *step, double ms, double bytes)
{
    /* what others do is part of a look-up, or of a product: on codes, unless it was merged into one on reals */
    const bool gone = step->gone && !step->merged;
    rq_layer_info l = { .name = "",
                        .output = "",
                        .ms = ms,
                        .macs = step->stood ? 0 : step->macs,
                        .bytes = bytes,
                        .integer = gone || step->mode != RQ_MODE_REAL };
    if (step->kind != RQ_STEP_OP) {
        l.name = l.output = p->g->values[step->value].name;
        l.op = step->kind == RQ_STEP_DEQUANTIZE ? "DequantizeLinear" : "QuantizeLinear";
        return l;
    }
    const rq_node *n = step->stood ? step->stood : step->args.node;
    l.name = n->name;
    l.op = n->op;
    l.reason_float = gone ? NULL : step->reason;
    l.integer = l.integer && !l.reason_float;
    if (n->n_out && n->out[0] != RQ_NONE)
        l.output = p->g->values[n->out[0]].name;
    return l;
}

/* The step whose time is that of step k's node: of an operator that was merged from several, the one with the product has it all. NULL: none. */
static const rq_step *does(const rq_segment *seg, int k)
{
    const rq_step *s = &seg->steps[k];
    if (s->merged && seg->steps[s->merged - 1].first == k)
        return &seg->steps[s->merged - 1];
    return s->stood ? NULL : s;
}

/* A change of order is no layer: its time and bytes are those of the layer it is made for, at the end of the one before. */
static rq_status list_layers(rq_session *s, const rq_program *p)
{
    double ms = 0, bytes = 0;
    for (int i = 0; i < p->n_segs; i++) {
        const rq_segment *seg = p->segs[i];
        int at = 0;
        for (int k = 0; k < seg->n_steps; k++) {
            const rq_step *step = &seg->steps[k];
            RQ_TRY(list_free(s, p, seg, &at, k));
            const rq_step *by = does(seg, k);
            ms += by ? by->ms : 0;
            bytes += by ? moved_bytes(p, by) : 0;
            if (step->kind == RQ_STEP_RELAYOUT)
                continue;
            RQ_TRY(add_layer(s, layer_of(p, step, ms, bytes)));
            ms = bytes = 0;
            for (int a = 0; step->kind == RQ_STEP_OP && a < step->args.node->n_attr; a++)
                if (step->child[a])
                    RQ_TRY(list_layers(s, step->child[a]));
        }
        RQ_TRY(list_free(s, p, seg, &at, seg->n_steps));
    }
    if (s->n_layers) {
        s->layers[s->n_layers - 1].ms += ms;
        s->layers[s->n_layers - 1].bytes += bytes;
    }
    return RQ_OK;
}

/* The layers behind `whole` are of a plan for another number of samples: they are added to those before, which have their outputs. */
static void add_up(rq_session *s, int whole)
{
    for (int i = whole, at = 0; i < s->n_layers; i++) {
        for (int k = 0; k < whole; k++, at = (at + 1) % whole)
            if (s->layers[at].output == s->layers[i].output && s->layers[at].op == s->layers[i].op)
                break;
        s->layers[at].ms += s->layers[i].ms;
        s->layers[at].macs += s->layers[i].macs;
        s->layers[at].bytes += s->layers[i].bytes;
    }
    s->n_layers = whole;
}

/* Of the last run: of all its parts. */
static rq_status list_all(rq_session *s)
{
    const rq_batch *b = &s->batch;
    RQ_TRY(list_layers(s, s->program));
    const int whole = s->n_layers;
    const int64_t full = b->n ? b->n / b->part : 1; /* parts that this plan is for */
    for (int i = 0; i < whole; i++) {               /* times are added where they are taken */
        s->layers[i].macs *= (double)full;
        s->layers[i].bytes *= (double)full;
    }
    if (whole && rq_batch_has_rest(b)) {
        RQ_TRY(list_layers(s, b->rest));
        add_up(s, whole);
    }
    return RQ_OK;
}

int rq_session_layers(const rq_session *s, const rq_layer_info **layers)
{
    rq_session *mine = (rq_session *)s; /* the list is a cache */
    mine->n_layers = 0;
    if (list_all(mine))
        mine->n_layers = 0;
    *layers = s->layers;
    return s->n_layers;
}

static size_t block_bytes(const rq_program *p)
{
    size_t n = 0;
    for (int i = 0; i < p->n_segs; i++) {
        n += p->segs[i]->block_bytes;
        for (int k = 0; k < p->segs[i]->n_steps; k++) {
            const rq_step *step = &p->segs[i]->steps[k];
            for (int a = 0; step->child && a < step->args.node->n_attr; a++)
                if (step->child[a])
                    n += block_bytes(step->child[a]);
        }
    }
    return n;
}

size_t rq_session_arena_bytes(const rq_session *s)
{
    return block_bytes(s->program) + (s->batch.rest ? block_bytes(s->batch.rest) : 0);
}

const rq_graph *rq_session_graph(const rq_session *s)
{
    return s->g;
}
