/* run/session.c — the public face of programs: a private copy of the graph, raised and bound to rows; inputs matched
 * by name; taps; what the layers were. */
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "ops/sequence.h"
#include "run/feeds.h"
#include "run/program.h"

struct rq_session {
    rq_session_cfg cfg;
    rq_graph *g;
    rq_kernels k;
    rq_threads *threads;
    rq_program *program;
    rq_tensor *feeds; /* [n_inputs] */
    rq_layer_info *layers;
    int n_layers, cap_layers;
};

void rq_session_destroy(rq_session *s)
{
    if (!s)
        return;
    rq_program_destroy(s->program);
    rq_threads_destroy(s->threads);
    rq_graph_destroy(s->g);
    rq_mem_free(s->feeds);
    rq_mem_free(s->layers);
    rq_mem_free(s);
}

static rq_status build(rq_session *s, const rq_graph *g, rq_err *err)
{
    unsigned cpu;
    RQ_TRY(rq_cpu_pinned(&cpu, err));
    rq_kernels_init(&s->k, cpu);
    s->k.library = s->cfg.onednn;
    s->k.spec = s->cfg.match == RQ_MATCH_SPEC;
    if (rq_graph_copy(&s->g, g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory copying the graph");
    rq_ops_bind(s->g);
    if (!s->cfg.literal)
        RQ_TRY(rq_raise_to_run(s->g, err));
    RQ_TRY(rq_sequence_resolve(s->g, err));
    rq_ops_bind(s->g);
    RQ_TRY(rq_ops_check(s->g, true, err));
    if (s->cfg.threads < 0)
        return rq_fail(err, RQ_BAD_ARG, "%d threads were asked for, expected at least 1, or 0 for one per core",
                       s->cfg.threads);
    if (rq_threads_create(&s->threads, s->cfg.threads))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory starting threads");
    s->feeds = rq_mem_zalloc((size_t)s->g->n_inputs + 1, sizeof *s->feeds);
    if (!s->feeds)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a session");
    return rq_program_create(&s->program, s->g, &s->cfg, &s->k, s->threads, NULL, err);
}

rq_status rq_session_create(rq_session **out, const rq_graph *g, const rq_session_cfg *cfg, rq_err *err)
{
    rq_session *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a session");
    if (cfg)
        s->cfg = *cfg;
    rq_status st = build(s, g, err);
    if (st) {
        rq_session_destroy(s);
        return st;
    }
    *out = s;
    return RQ_OK;
}

/* ---- running ---- */

rq_status rq_session_run(rq_session *s, const rq_feed *in, int n_in, rq_tensor *out, rq_err *err)
{
    memset(out, 0, (size_t)s->g->n_outputs * sizeof *out);
    RQ_TRY(rq_feeds_match(s->g, in, n_in, s->feeds, err));
    return rq_program_run(s->program, s->feeds, out, err);
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

static rq_status list_layers(rq_session *s, const rq_program *p)
{
    for (int i = 0; i < p->n_segs; i++)
        for (int k = 0; k < p->segs[i]->n_steps; k++) {
            const rq_step *step = &p->segs[i]->steps[k];
            if (!rq_mem_grow(&s->layers, s->n_layers, &s->cap_layers, sizeof *s->layers))
                return RQ_NO_MEMORY;
            rq_layer_info *l = &s->layers[s->n_layers++];
            *l = (rq_layer_info) { .name = "", .output = "", .ms = step->ms, .macs = step->macs };
            if (step->kind != RQ_STEP_OP) {
                l->name = l->output = p->g->values[step->value].name;
                l->op = step->kind == RQ_STEP_QUANTIZE ? "QuantizeLinear" : "DequantizeLinear";
                continue;
            }
            const rq_node *n = step->args.node;
            l->name = n->name;
            l->op = n->op;
            l->integer = step->mode != RQ_MODE_REAL && !step->reason;
            l->reason_float = step->reason;
            if (n->n_out && n->out[0] != RQ_NONE)
                l->output = p->g->values[n->out[0]].name;
            for (int a = 0; a < n->n_attr; a++)
                if (step->child[a])
                    RQ_TRY(list_layers(s, step->child[a]));
        }
    return RQ_OK;
}

int rq_session_layers(const rq_session *s, const rq_layer_info **layers)
{
    rq_session *mine = (rq_session *)s; /* the list is a cache */
    mine->n_layers = 0;
    if (list_layers(mine, s->program))
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
    return block_bytes(s->program);
}

const rq_graph *rq_session_graph(const rq_session *s)
{
    return s->g;
}
