/* algo/calibrate.c — calibration apart from quantization: the range of every float tensor of a model, and whether ranges from
 * somewhere else belong to one. */
#include "requant/ranges.h"

#include <stdio.h>
#include <string.h>

#include "fold/fold.h"
#include "algo/ptq_priv.h"
#include "base/nearest.h"
#include "formats/ranges.h"

/* ---- which model ---- */

static void mix(uint64_t *h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (*h = (*h ^ n) * UINT64_C(0x9E3779B97F4A7C15); n; p += 8) {
        uint64_t w = 0;
        const size_t take = n < 8 ? n : 8;
        for (size_t i = 0; i < take; i++)
            w |= (uint64_t)p[i] << 8 * i;
        *h = (*h ^ w) * UINT64_C(0x9E3779B97F4A7C15);
        *h ^= *h >> 29;
        n -= take;
    }
}

static void mix_text(uint64_t *h, const char *s)
{
    mix(h, s, strlen(s));
}

static void mix_tensor(uint64_t *h, const rq_tensor *t)
{
    const int32_t head[2] = { (int32_t)t->dtype, t->shape.rank };
    mix(h, head, sizeof head);
    for (int i = 0; i < t->shape.rank; i++)
        mix(h, &t->shape.dim[i], sizeof t->shape.dim[i]);
    if (t->data && t->dtype != RQ_DTYPE_STRING)
        mix(h, t->data, t->bytes);
}

static void mix_names(uint64_t *h, const rq_graph *g, const rq_id *ids, int n)
{
    for (int i = 0; i < n; i++)
        mix_text(h, ids[i] == RQ_NONE ? "" : g->values[ids[i]].name);
}

static void mix_graph(uint64_t *h, const rq_graph *g);

static void mix_attr(uint64_t *h, const rq_attr *a)
{
    mix_text(h, a->name);
    switch (a->type) {
    case RQ_ATTR_FLOAT:
        mix(h, &a->f, sizeof a->f);
        break;
    case RQ_ATTR_INT:
        mix(h, &a->i, sizeof a->i);
        break;
    case RQ_ATTR_STRING:
        mix(h, a->s.p, a->s.n);
        break;
    case RQ_ATTR_FLOATS:
        mix(h, a->floats, (size_t)a->n * sizeof *a->floats);
        break;
    case RQ_ATTR_INTS:
        mix(h, a->ints, (size_t)a->n * sizeof *a->ints);
        break;
    case RQ_ATTR_TENSOR:
    case RQ_ATTR_TENSORS:
        for (int i = 0; i < a->n; i++)
            mix_tensor(h, &a->t[i]);
        break;
    case RQ_ATTR_GRAPH:
    case RQ_ATTR_GRAPHS:
        for (int i = 0; i < a->n; i++)
            mix_graph(h, a->g[i]);
        break;
    default:
        break;
    }
}

/* Nodes, edges by name, attributes and constants: what a graph computes. */
static void mix_graph(uint64_t *h, const rq_graph *g)
{
    mix_names(h, g, g->inputs, g->n_inputs);
    mix_names(h, g, g->outputs, g->n_outputs);
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op)
            continue;
        mix_text(h, n->op);
        mix_text(h, n->domain);
        mix_names(h, g, n->in, n->n_in);
        mix_names(h, g, n->out, n->n_out);
        for (int k = 0; k < n->n_attr; k++)
            mix_attr(h, &n->attr[k]);
    }
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].kind == RQ_VALUE_CONST) {
            mix_text(h, g->values[v].name);
            mix_tensor(h, &g->values[v].constant);
        }
}

static uint64_t hash_of(const rq_graph *g)
{
    uint64_t h = 0;
    mix_graph(&h, g);
    return h ? h : 1;
}

/* ---- do ranges and model belong together? ---- */

/* The first name that neither graph has; NULL: there is none. */
static const rq_range_info *stranger(const rq_ranges *r, const rq_graph *a, const rq_graph *b)
{
    for (int i = 0; i < r->n; i++) {
        const char *name = r->items[i].tensor;
        if (strncmp(name, "(Unnamed Layer", 14) != 0 && rq_graph_find(a, name) == RQ_NONE &&
            (!b || rq_graph_find(b, name) == RQ_NONE))
            return &r->items[i];
    }
    return NULL;
}

rq_status rq_ranges_check(const rq_ranges *r, const rq_graph *g, rq_err *err)
{
    if (r->model && r->model != hash_of(g))
        return rq_fail(err, RQ_BAD_DATA, "%s: these ranges were made of another model; calibrate this one", r->path);
    const rq_range_info *lost = stranger(r, g, NULL);
    if (!lost)
        return RQ_OK;
    rq_graph *folded; /* folding may have given a nameless value one */
    if (rq_graph_copy(&folded, g))
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", r->path);
    rq_ops_bind(folded);
    rq_status s = rq_fold_graph(folded, NULL, err);
    if (!s)
        s = rq_ptq_name_values(folded, err);
    lost = s ? NULL : stranger(r, g, folded);
    if (lost) {
        char hint[RQ_NEAREST_HINT];
        rq_nearest near = rq_nearest_to(lost->tensor);
        for (int v = 0; v < g->n_values; v++)
            if (g->values[v].kind == RQ_VALUE_INPUT || g->values[v].kind == RQ_VALUE_NODE)
                rq_nearest_try(&near, g->values[v].name);
        s = rq_fail(err, RQ_BAD_DATA, "%s: the model has no tensor '%.80s'%s", r->path, lost->tensor,
                    rq_nearest_hint(&near, hint));
    }
    rq_graph_destroy(folded);
    return s;
}

rq_status rq_ptq_need_ranges(const rq_ptq_state *q, rq_err *err)
{
    const rq_placement *p = q->placement;
    const rq_ranges *r = q->cfg->ranges;
    for (int i = 0; i < p->n_groups; i++) {
        const rq_place_group *grp = &p->groups[i];
        if (grp->s.pinned || grp->constant || grp->unit || (grp->s.has_lo && grp->s.has_hi))
            continue;
        const rq_id v = grp->like != RQ_NONE ? grp->like : grp->value;
        if (rq_ptq_given(q, v))
            continue;
        char hint[RQ_NEAREST_HINT];
        rq_nearest near = rq_nearest_to(q->g->values[v].name);
        for (int k = 0; k < r->n; k++)
            rq_nearest_try(&near, r->items[k].tensor);
        return rq_fail(err, RQ_BAD_DATA, "%s: there is no range for tensor '%.80s'%s", r->path, q->g->values[v].name,
                       rq_nearest_hint(&near, hint));
    }
    return RQ_OK;
}

/* ---- calibrating ---- */

/* The settings of a value, whoever quantizes it: its maker's rules, then those that name it. */
static rq_settings settings_of(const rq_ptq_state *q, rq_id v)
{
    const rq_value *value = &q->g->values[v];
    const rq_node *n = value->kind == RQ_VALUE_NODE ? &q->g->nodes[value->producer] : NULL;
    rq_settings s =
        rq_recipe_resolve(q->cfg->recipe, &q->cfg->settings, n ? n->op : NULL, n ? n->name : NULL, value->name);
    if (n && n->row && n->row->place == RQ_PLACE_UNIT && !s.compat) { /* as rq_ptq looks at probabilities */
        s.method = RQ_METHOD_MINMAX;
        s.observer = NULL;
    }
    return s;
}

static bool is_watched(const rq_graph *g, rq_id v)
{
    const rq_value *value = &g->values[v];
    return (value->kind == RQ_VALUE_INPUT || value->kind == RQ_VALUE_NODE) && value->dtype == RQ_DTYPE_F32;
}

static rq_status collect(rq_ptq_state *q, rq_ranges *r, rq_err *err)
{
    for (rq_id v = 0; v < q->n_values; v++) {
        const rq_observer *o = q->observers[v];
        rq_range range;
        if (!o)
            continue;
        const char *name = q->g->values[v].name;
        if (rq_observer_bad(o))
            RQ_TRY(rq_notes_add(q->notes, "'%s' had %llu numbers that are not finite; they did not count", name,
                                (unsigned long long)rq_observer_bad(o)));
        if (rq_observer_range(o, &range, 1)) {
            RQ_TRY(rq_notes_add(q->notes, "'%s' was never seen, and has no range", name));
            continue;
        }
        const rq_settings s = settings_of(q, v);
        const rq_range_info info = {
            .tensor = rq_arena_strndup(&r->text, name, strlen(name)),
            .lo = range.lo,
            .hi = range.hi,
            .method = rq_ptq_method(q, &s),
            .count = rq_observer_count(o),
            .bad = rq_observer_bad(o),
        };
        RQ_TRY(info.tensor ? rq_ranges_append(r, &info, err) : rq_fail(err, RQ_NO_MEMORY, "out of memory calibrating"));
    }
    return rq_ranges_sort(r, err);
}

static rq_status calibrate(rq_ptq_state *q, const rq_graph *g, rq_ranges *r, rq_err *err)
{
    RQ_TRY(rq_ptq_prepare(q, g, err));
    for (rq_id v = 0; v < q->n_values; v++) {
        if (!is_watched(q->g, v))
            continue;
        const rq_settings s = settings_of(q, v);
        RQ_TRY(rq_ptq_observe(q, v, &s, err));
    }
    RQ_TRY(rq_ptq_watch(q, err));
    r->model = hash_of(g);
    r->samples = q->cfg->rows ? q->cfg->n_rows : rq_dataset_count(q->data);
    return collect(q, r, err);
}

rq_status rq_calibrate(rq_ranges **out, const rq_graph *g, rq_dataset *data, const rq_ptq_cfg *cfg, rq_notes *notes,
                       rq_err *err)
{
    rq_ptq_state q = { .cfg = cfg, .data = data, .notes = notes };
    rq_ranges *r;
    if (rq_graph_is_quantized(g))
        return rq_fail(err, RQ_BAD_GRAPH, "the model is quantized already");
    RQ_TRY(rq_settings_check(&cfg->settings, err));
    if (cfg->recipe)
        RQ_TRY(rq_recipe_check(cfg->recipe, g, err));
    if (rq_ranges_create(&r))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory calibrating");
    rq_status s = rq_exec_create(&q.exec, cfg->threads, err);
    if (!s) {
        q.k = rq_exec_kernels(q.exec);
        s = calibrate(&q, g, r, err);
    }
    rq_exec_destroy(q.exec);
    rq_ptq_release(&q);
    if (s) {
        rq_ranges_destroy(r);
        return s;
    }
    *out = r;
    return RQ_OK;
}
