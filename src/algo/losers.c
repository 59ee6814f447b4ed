/* algo/losers.c — layers that are slower in integers than in float stay in float.
 *
 * Both models are timed in turn, layer beside layer (algo/bench.c). The layers that lost are left out and the model is quantized once more; what
 * counts in the end is the time of the whole, because a layer in float among integers pays for conversions. Where all losers together bring
 * nothing, the worst half of them is tried, and so on. */
#include "algo/losers.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "graph/graph.h"

enum { MOST_TRIES = 3 };
static const double noise = 1.05, /* a layer loses when it takes this times as long ... */
    least_ms = 1e-3,              /* ... and this much more */
    gain = 0.98;                  /* of the time of the whole model */

static bool is_node(const rq_graph *g, const char *name)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && name[0] && !strcmp(g->nodes[i].name, name))
            return true;
    return false;
}

static int by_loss(const void *a, const void *b)
{
    const rq_loser *x = a, *y = b;
    const double d = (y->int8_ms - y->float_ms) - (x->int8_ms - x->float_ms);
    return d > 0 ? 1 : d < 0 ? -1 : strcmp(x->name, y->name);
}

rq_status rq_losers_pick(rq_losers *out, const rq_bench *b, const rq_graph *original)
{
    *out = (rq_losers) { 0 };
    out->item = rq_mem_zalloc((size_t)b->model.n_layers + 1, sizeof *out->item);
    if (!out->item)
        return RQ_NO_MEMORY;
    for (int i = 0; i < b->model.n_layers; i++) {
        const rq_bench_layer *l = &b->model.layers[i], *o = NULL;
        for (int k = 0; k < b->against.n_layers && !o; k++)
            if (!strcmp(b->against.layers[k].name, l->name))
                o = &b->against.layers[k];
        if (!l->slower || !o || l->whole_ms < noise * o->whole_ms || l->whole_ms < o->whole_ms + least_ms ||
            !is_node(original, l->name))
            continue;
        rq_loser *one = &out->item[out->n++];
        *one = (rq_loser) {
            .name = rq_mem_strdup(l->name), .op = rq_mem_strdup(l->op), .int8_ms = l->whole_ms, .float_ms = o->whole_ms
        };
        if (!one->name || !one->op) {
            rq_losers_release(out);
            return RQ_NO_MEMORY;
        }
    }
    qsort(out->item, (size_t)out->n, sizeof *out->item, by_loss);
    return RQ_OK;
}

void rq_losers_release(rq_losers *l)
{
    for (int i = 0; i < l->n; i++) {
        rq_mem_free(l->item[i].name);
        rq_mem_free(l->item[i].op);
    }
    rq_mem_free(l->item);
    *l = (rq_losers) { 0 };
}

rq_status rq_losers_quantize(rq_graph **out, rq_notes *notes, const rq_losers *l, int n, const rq_graph *original,
                             rq_dataset *data, const rq_ptq_cfg *cfg, rq_err *err)
{
    rq_ptq_cfg with = *cfg;
    rq_graph *g = NULL;
    int had = 0;
    while (cfg->except && cfg->except[had])
        had++;
    const char **except = rq_mem_zalloc((size_t)(had + n) + 1, sizeof *except);
    rq_status st = except ? rq_graph_copy(&g, original) : RQ_NO_MEMORY;
    if (st) {
        rq_mem_free(except);
        return rq_fail(err, st, "out of memory copying the model");
    }
    for (int i = 0; i < had; i++)
        except[i] = cfg->except[i];
    for (int i = 0; i < n; i++)
        except[had + i] = l->item[i].name;
    with.except = except;
    st = rq_ptq(g, data, &with, notes, err);
    rq_mem_free(except);
    if (st)
        rq_graph_destroy(g);
    else
        *out = g;
    return st;
}

static rq_status time_both(rq_bench *b, const rq_graph *g, const rq_graph *beside, rq_dataset *data,
                           const rq_ptq_cfg *cfg, int runs, rq_err *err)
{
    const rq_bench_cfg how = { .threads = cfg->threads, .onednn = cfg->onednn, .match = cfg->match, .runs = runs };
    return rq_bench_run(b, g, beside, data, &how, err);
}

/* The worst n losers in float: is the whole faster? Then it takes the place of *g. */
static rq_status try_float(rq_losers *l, int n, rq_graph **g, const rq_graph *original, rq_dataset *data,
                           const rq_ptq_cfg *cfg, int runs, rq_notes *notes, rq_err *err)
{
    rq_graph *with = NULL;
    rq_notes said = { 0 };
    rq_bench b;
    rq_status st = rq_losers_quantize(&with, &said, l, n, original, data, cfg, err);
    if (!st)
        st = time_both(&b, with, *g, data, cfg, runs, err);
    if (!st) {
        l->float_ms = b.model.median_ms;
        l->int8_ms = b.against.median_ms;
        if (l->float_ms < gain * l->int8_ms) {
            rq_graph *was = *g;
            *g = with;
            with = was;
            l->n_kept = n;
            if (notes) {
                const rq_notes old = *notes;
                *notes = said;
                said = old;
            }
        }
        rq_bench_release(&b);
    }
    rq_notes_release(&said);
    rq_graph_destroy(with);
    return st;
}

rq_status rq_losers_keep(rq_losers *out, rq_graph **g, const rq_graph *original, rq_dataset *data,
                         const rq_ptq_cfg *cfg, int runs, rq_notes *notes, rq_err *err)
{
    rq_bench b;
    *out = (rq_losers) { 0 };
    RQ_TRY(time_both(&b, *g, original, data, cfg, runs, err));
    rq_status st = rq_losers_pick(out, &b, original);
    if (st)
        rq_fail(err, st, "out of memory for the layers that lost");
    rq_bench_release(&b);
    for (int n = out->n, tries = 0; !st && n > 0 && !out->n_kept && tries < MOST_TRIES; n /= 2, tries++)
        st = try_float(out, n, g, original, data, cfg, runs, notes, err);
    if (st)
        rq_losers_release(out);
    return st;
}

rq_status rq_ptq_keep_losers(rq_losers *out, rq_graph **g, const rq_graph *original, rq_dataset *data,
                             const rq_ptq_cfg *cfg, rq_notes *notes, rq_err *err)
{
    return rq_losers_keep(out, g, original, data, cfg, 0, notes, err);
}

rq_status rq_losers_note(const rq_losers *l, rq_notes *notes)
{
    if (!l->n)
        return rq_notes_add(notes, "no layer is slower in int8 than in float on this machine");
    for (int i = 0; i < l->n; i++)
        RQ_TRY(rq_notes_add(notes, "%s: '%s' (%s) takes %.4f ms in int8 and %.4f in float on this machine",
                            i < l->n_kept ? "kept in float" : "slower, but stays int8", l->item[i].name, l->item[i].op,
                            l->item[i].int8_ms, l->item[i].float_ms));
    if (!l->n_kept)
        return rq_notes_add(notes,
                            "the model would take %.4g ms with such layers in float, it takes %.4g without: all stay "
                            "int8",
                            l->float_ms, l->int8_ms);
    RQ_TRY(rq_notes_add(notes, "the model takes %.4g ms so, %.4g all in int8", l->float_ms, l->int8_ms));
    return rq_notes_add(notes, "the same choice without a clock: --exclude NAME for each that is kept in float, or a "
                               "rule of a recipe, set: {float: true}");
}
