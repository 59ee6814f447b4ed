/* algo/weight_only.c — the modes that start from the weights and need no samples.
 *
 *   weight-only  weights become codes and nothing else does: a DequantizeLinear (or MatMulNBits, weight_nbits.c) makes them reals
 *                again where they are used
 *   dynamic      products compute with the codes, and measure their inputs as they pass (dynamic.c); weights of other operators
 *                are as above, so that the file is small
 *
 * With samples, trials say which layers must not be so (ptq_choose.c). */
#include <stdio.h>
#include <string.h>

#include "algo/dynamic.h"
#include "algo/equalize.h"
#include "algo/ptq_priv.h"
#include "algo/weights.h"
#include "ops/rewrite.h"

typedef struct use {
    rq_id node;
    int weight, spare; /* indices of weights: as asked for, and where that harms (-1: float) */
    bool dynamic;      /* as asked for: the product computes with the codes */
} use;

typedef struct weight_only {
    rq_ptq_state *q;
    rq_weight *weights;
    int n_weights, cap_weights;
    use *uses;
    int n_uses, cap_uses;
    rq_id *nodes; /* with weights; what a trial switches */
    int n_nodes, cap_nodes;
} weight_only;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory quantizing weights");
}

/* ---- finding ---- */

static rq_status add_weight(weight_only *w, const rq_weight *one, int *index)
{
    for (*index = 0; *index < w->n_weights; ++*index)
        if (rq_weight_same(&w->weights[*index], one))
            return RQ_OK;
    if (!rq_mem_grow(&w->weights, w->n_weights, &w->cap_weights, sizeof *w->weights))
        return RQ_NO_MEMORY;
    w->weights[w->n_weights++] = *one;
    return RQ_OK;
}

/* Eight bits per channel in place of fewer. */
static rq_settings finer(rq_settings s)
{
    s.weights = s.weights == RQ_DTYPE_U4 || s.weights == RQ_DTYPE_U2 ? RQ_DTYPE_U8 : RQ_DTYPE_S8;
    s.block_size = 0;
    s.weight_method = RQ_WEIGHTS_MSE;
    return s;
}

static rq_status add_use(weight_only *w, rq_id node, const rq_weight *one, bool dynamic, rq_err *err)
{
    use u = { .node = node, .spare = -1, .dynamic = dynamic };
    RQ_TRY(rq_weight_check(&one->s, err));
    if (!dynamic && !rq_weight_pays(w->q->g, one))
        return RQ_OK;
    if (add_weight(w, one, &u.weight))
        return no_memory(err);
    if (dynamic || rq_dtype_bits(one->s.weights) < 8) {
        rq_weight spare = *one;
        spare.s = finer(spare.s);
        spare.gates = false;
        if (rq_weight_pays(w->q->g, &spare) && add_weight(w, &spare, &u.spare))
            return no_memory(err);
    }
    if (!rq_mem_grow(&w->uses, w->n_uses, &w->cap_uses, sizeof *w->uses))
        return no_memory(err);
    w->uses[w->n_uses++] = u;
    if (w->n_nodes && w->nodes[w->n_nodes - 1] == node)
        return RQ_OK;
    if (!rq_mem_grow(&w->nodes, w->n_nodes, &w->cap_nodes, sizeof *w->nodes))
        return no_memory(err);
    w->nodes[w->n_nodes++] = node;
    return RQ_OK;
}

/* What integer products can have: no blocks; ConvInteger one zero point, recurrent cells s8, as quantize_dynamic does. */
static void as_product(rq_weight *one, const rq_node *n)
{
    one->s.block_size = 0;
    one->s.weight_method = RQ_WEIGHTS_MINMAX;
    if (one->s.compat && !strcmp(n->op, "Conv"))
        one->s.per_tensor = true; /* its per_channel means products */
    one->gates = rq_dynamic_is_cell(n);
    if (one->gates)
        one->s.weights = RQ_DTYPE_S8;
    if (one->gates || (!strcmp(n->op, "Conv") && !one->s.per_tensor))
        one->s.symmetric_weights = true;
}

/* quantize_dynamic leaves the weights of other operators alone. */
static bool products_only(const rq_ptq_cfg *cfg)
{
    return cfg->mode == RQ_MODE_DYNAMIC && cfg->settings.compat;
}

/* But for tables of Gather, which have the type that activations have there: u8, one scale. */
static bool as_peer_table(const rq_ptq_cfg *cfg, const rq_node *n, rq_weight *one)
{
    if (!products_only(cfg) || one->s.keep_float || !rq_rewrite_is(n, "Gather"))
        return false;
    one->s.weights = RQ_DTYPE_U8;
    one->s.symmetric_weights = false;
    one->s.per_tensor = true;
    one->s.reduced = false;
    one->s.block_size = 0;
    one->s.weight_method = RQ_WEIGHTS_MINMAX;
    return true;
}

static rq_status find(weight_only *w, rq_err *err)
{
    const rq_graph *g = w->q->g;
    const rq_ptq_cfg *cfg = w->q->cfg;
    const rq_place_ban ban = rq_ptq_ban(w->q, NULL);
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        rq_weight_site sites[2];
        rq_weight all[2];
        const int count = !n->op || rq_place_left_out(&ban, n) ? 0 : rq_weight_sites(g, n, sites);
        bool dynamic = cfg->mode == RQ_MODE_DYNAMIC && count && rq_dynamic_fits(g, n, cfg->dynamic_conv) &&
                       !(products_only(cfg) && rq_dynamic_is_cell(n) && !rq_rewrite_is(n, "LSTM"));
        for (int k = 0; k < count; k++) {
            all[k] = (rq_weight) { .value = n->in[sites[k].in], .site = sites[k], .s = cfg->settings };
            all[k].even = cfg->weight_form == RQ_WEIGHT_FORM_DQ;
            if (cfg->recipe)
                all[k].s = rq_recipe_resolve(cfg->recipe, &cfg->settings, n->op, n->name, g->values[all[k].value].name);
            all[k].even &= all[k].s.weight_method <= RQ_WEIGHTS_MINMAX;
            dynamic &= !all[k].s.keep_float && rq_dtype_bits(all[k].s.weights) == 8;
        }
        for (int k = 0; k < count; k++) {
            if (dynamic)
                as_product(&all[k], n);
            if (!dynamic && as_peer_table(cfg, n, &all[k]))
                RQ_TRY(add_use(w, i, &all[k], false, err));
            else if (!all[k].s.keep_float && (dynamic || !products_only(cfg)))
                RQ_TRY(add_use(w, i, &all[k], dynamic, err));
        }
    }
    return RQ_OK;
}

/* ---- applying ---- */

/* Which weight a use takes; -1: it stays in float. */
static int chosen(const weight_only *w, const use *u, const bool *on)
{
    for (int i = 0; i < w->n_nodes; i++)
        if (w->nodes[i] == u->node)
            return on[i] ? u->weight : u->spare;
    return -1;
}

/* Does the use stand for a product with codes? */
static bool computes(const weight_only *w, const use *u, const bool *on)
{
    return u->dynamic && chosen(w, u, on) == u->weight && u->weight != u->spare;
}

/* A constant with the codes of weight `at`, annotated, in place of the reals where all of their uses want it. */
static rq_status add_codes(const weight_only *w, rq_graph *g, const rq_weight *one, int n, rq_id *made, rq_err *err)
{
    rq_qparams q;
    rq_id entry;
    *made = one->value;
    if (rq_qparams_copy(&q, &one->q))
        return no_memory(err);
    if (rq_graph_add_quant(g, &entry, &q, rq_weight_method_name(one->s.weight_method))) {
        rq_qparams_release(&q);
        return no_memory(err);
    }
    if (rq_graph_uses(w->q->g, one->value, NULL, 0) > n) {
        const char *base = g->values[one->value].name, *name = rq_graph_fresh_name(g, base[0] ? base : "weight");
        if (!name)
            return no_memory(err);
        RQ_TRY(rq_graph_add_const(g, made, name, &one->codes, err));
    } else {
        rq_tensor_release(&g->values[*made].constant);
        rq_tensor_share(&g->values[*made].constant, &one->codes);
    }
    g->values[*made].dtype = RQ_DTYPE_F32; /* of the reals */
    g->values[*made].quant = entry;
    return RQ_OK;
}

static rq_status apply_weight(const weight_only *w, rq_graph *g, int at, const bool *on, rq_err *err)
{
    int n = 0;
    for (int i = 0; i < w->n_uses; i++)
        n += chosen(w, &w->uses[i], on) == at && !computes(w, &w->uses[i], on);
    if (!n)
        return RQ_OK;
    rq_weight *one = &w->weights[at];
    rq_id made;
    RQ_TRY(rq_weight_compute(one, w->q->g, err));
    RQ_TRY(add_codes(w, g, one, n, &made, err));
    for (int i = 0; i < w->n_uses; i++)
        if (chosen(w, &w->uses[i], on) == at && !computes(w, &w->uses[i], on) &&
            rq_graph_set_input(g, w->uses[i].node, one->site.in, made))
            return no_memory(err);
    return RQ_OK;
}

/* Write the products that compute with codes. */
static rq_status apply_products(const weight_only *w, rq_graph *g, const bool *on, rq_err *err)
{
    rq_dynamic d;
    rq_status s = rq_dynamic_init(&d, g, w->q->cfg->per_row, err);
    for (int i = 0; i < w->n_uses && !s; i++) {
        const use *u = &w->uses[i];
        if (!computes(w, u, on))
            continue;
        rq_weight *one = &w->weights[u->weight], *two = NULL;
        s = rq_weight_compute(one, w->q->g, err);
        if (!s && one->gates) { /* R follows W */
            two = &w->weights[w->uses[++i].weight];
            s = rq_weight_compute(two, w->q->g, err);
        }
        if (!s)
            s = two                                         ? rq_dynamic_cell(&d, u->node, one, two)
                : rq_rewrite_is(&g->nodes[u->node], "Conv") ? rq_dynamic_conv(&d, u->node, one)
                                                            : rq_dynamic_product(&d, u->node, one);
    }
    rq_dynamic_release(&d);
    return s;
}

static rq_status make(void *arg, const bool *on, rq_graph **out, rq_err *err)
{
    const weight_only *w = arg;
    if (rq_graph_copy(out, w->q->g))
        return no_memory(err);
    rq_status s = RQ_OK;
    for (int i = 0; i < w->n_weights && !s; i++)
        s = apply_weight(w, *out, i, on, err);
    if (!s && w->q->cfg->mode == RQ_MODE_DYNAMIC)
        s = apply_products(w, *out, on, err);
    if (!s && w->q->cfg->mode == RQ_MODE_WEIGHT_ONLY && w->q->cfg->weight_form == RQ_WEIGHT_FORM_MATMULNBITS)
        for (int i = 0; i < w->n_uses && !s; i++) {
            const int at = chosen(w, &w->uses[i], on);
            if (at >= 0)
                s = rq_weight_nbits(*out, w->uses[i].node, &w->weights[at], w->q->cfg->accuracy_level, err);
        }
    if (!s) {
        rq_graph_prune(*out);
        rq_ops_bind(*out);
        s = rq_graph_check(*out, err);
    }
    if (s) {
        rq_graph_destroy(*out);
        *out = NULL;
    }
    return s;
}

/* ---- together ---- */

/* What was done, in a sentence per element type. */
static rq_status note_sizes(const weight_only *w, const bool *on)
{
    static const rq_dtype types[] = { RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_S4, RQ_DTYPE_U4, RQ_DTYPE_S2, RQ_DTYPE_U2 };
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        int n = 0;
        int64_t count = 0, scales = 0;
        for (int i = 0; i < w->n_weights; i++) {
            bool used = false;
            for (int k = 0; k < w->n_uses && !used; k++)
                used = chosen(w, &w->uses[k], on) == i;
            if (!used || w->weights[i].s.weights != types[t])
                continue;
            n++;
            count += rq_tensor_count(&w->weights[i].codes);
            scales += w->weights[i].q.n;
        }
        if (n)
            RQ_TRY(rq_notes_add(w->q->notes, "%d weight%s of %lld numbers %s %s now, with %lld scales", n,
                                n == 1 ? "" : "s", (long long)count, n == 1 ? "is" : "are", rq_dtype_name(types[t]),
                                (long long)scales));
    }
    return RQ_OK;
}

/* Where Conv could have become integer products and was not asked to: what computes in integers, and what does not. */
static rq_status note_products(const weight_only *w, const bool *on)
{
    int products = 0, convs = 0;
    for (int i = 0; i < w->n_uses; i++) {
        const use *u = &w->uses[i];
        if (i && w->uses[i - 1].node == u->node) /* recurrent cells have two weights */
            continue;
        products += computes(w, u, on);
        const int at = computes(w, u, on) ? -1 : chosen(w, u, on);
        const rq_node *n = &w->q->g->nodes[u->node];
        convs += at >= 0 && rq_dtype_bits(w->weights[at].s.weights) == 8 && rq_rewrite_is(n, "Conv") &&
                 rq_dynamic_fits(w->q->g, n, true);
    }
    if (w->q->cfg->mode != RQ_MODE_DYNAMIC || w->q->cfg->dynamic_conv || !convs)
        return RQ_OK;
    return rq_notes_add(w->q->notes,
                        "%d product%s in integers; %d Conv keep%s 8-bit weights: --dynamic-conv makes them ConvInteger",
                        products, products == 1 ? " computes" : "s compute", convs, convs == 1 ? "s" : "");
}

static void release(weight_only *w)
{
    for (int i = 0; i < w->n_weights; i++)
        rq_weight_release(&w->weights[i]);
    rq_mem_free(w->weights);
    rq_mem_free(w->uses);
    rq_mem_free(w->nodes);
}

/* One scale for weights of an output channel, and the peers' scales of few bits, are bad at input channels of different size; those
 * can be evened out between layers without changing a bit of the float model. */
static rq_status equalize(rq_ptq_state *q, rq_err *err)
{
    const rq_settings *s = &q->cfg->settings;
    int pairs = 0;
    if (s->compat || (s->weight_method != RQ_WEIGHTS_MSE && s->weight_method != RQ_WEIGHTS_MINMAX))
        return RQ_OK;
    RQ_TRY(rq_equalize_weights(q->g, q->equalized, &pairs, err));
    if (pairs)
        RQ_TRY(rq_notes_add(q->notes, "channels of %d layer pair%s were equalized", pairs, pairs == 1 ? "" : "s"));
    return RQ_OK;
}

static rq_status quantize_bodies(rq_ptq_state *q, rq_graph *made, rq_err *err)
{
    int n;
    RQ_TRY(rq_weight_bodies(made, q->cfg, &n, err));
    if (n) {
        rq_ops_bind(made);
        RQ_TRY(rq_graph_check(made, err));
        RQ_TRY(rq_notes_add(q->notes, "%d weight%s of subgraphs %s %s now", n, n == 1 ? "" : "s", n == 1 ? "is" : "are",
                            rq_dtype_name(q->cfg->settings.weights)));
    }
    return RQ_OK;
}

rq_status rq_ptq_weight_only(rq_ptq_state *q, rq_graph **made, rq_err *err)
{
    weight_only w = { .q = q };
    bool *on = NULL;
    rq_status s = equalize(q, err);
    if (!s)
        s = find(&w, err);
    if (!s && !w.n_uses)
        s = rq_notes_add(q->notes,
                         "nothing was quantized: no operator here has constant weights that codes would make smaller");
    if (!s) {
        const rq_ptq_choice choice = {
            .nodes = w.nodes,
            .n = w.n_nodes,
            .make = make,
            .arg = &w,
            .otherwise = q->cfg->mode == RQ_MODE_DYNAMIC               ? "computes in float"
                         : rq_dtype_bits(q->cfg->settings.weights) < 8 ? "has 8 bits"
                                                                       : "stays in float",
        };
        s = rq_ptq_choose(q, &choice, made, &on, err);
    }
    if (!s && !products_only(q->cfg))
        s = quantize_bodies(q, *made, err);
    if (!s && !q->data) /* with samples there will be a verdict, which has more to say */
        s = note_sizes(&w, on);
    if (!s && on)
        s = note_products(&w, on);
    rq_mem_free(on);
    release(&w);
    return s == RQ_NO_MEMORY ? no_memory(err) : s;
}
