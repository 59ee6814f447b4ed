/* algo/annotate.c — see annotate.h. Groups first, since everything else hangs on their scales; then Concats that share with
 * their inputs; then clamps; then weights, which must know the scales of the inputs and biases they meet. */
#include "algo/annotate.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/widen.h"
#include "quant/codes.h"

typedef struct work {
    rq_graph *g;
    const rq_placement *p;
    rq_annotate_range_fn range;
    void *arg;
    const rq_kernels *k;
    rq_notes *notes;
    rq_err *err;
    rq_id *quant; /* [n_groups] entry of graph.quants */
    rq_range *r;  /* [n_groups] */
} work;

static rq_status no_memory(work *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "out of memory annotating the graph");
}

static const char *name_of(const work *w, rq_id value)
{
    return w->g->values[value].name;
}

/* ---- constants ---- */

rq_status rq_annotate_constant(rq_graph *g, rq_id node, int i, const rq_tensor *codes, rq_id quant, rq_err *err)
{
    rq_id from = g->nodes[node].in[i], to = from;
    if (rq_graph_uses(g, from, NULL, 0) > 1) {
        const char *name = rq_graph_fresh_name(g, g->values[from].name[0] ? g->values[from].name : "constant");
        if (!name)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory annotating the graph");
        RQ_TRY(rq_graph_add_const(g, &to, name, codes, err));
        if (rq_graph_set_input(g, node, i, to))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory annotating the graph");
    } else {
        rq_tensor_release(&g->values[to].constant);
        rq_tensor_share(&g->values[to].constant, codes);
    }
    g->values[to].dtype = RQ_DTYPE_F32; /* of the reals */
    g->values[to].quant = quant;
    return RQ_OK;
}

static bool minmax_of(const work *w, const rq_tensor *t, rq_range *r)
{
    float lo, hi;
    size_t finite, n = (size_t)rq_tensor_count(t);
    w->k->minmax(t->f32, n, &lo, &hi, &finite);
    *r = (rq_range) { finite ? fmin(lo, 0) : 0, finite ? fmax(hi, 0) : 0 };
    return finite == n;
}

/* Constant operands of Add, Mul ...: codes of the activation type. */
static rq_status constant_operands(work *w)
{
    for (int i = 0; i < w->p->n_nodes; i++) {
        if (!w->p->integer[i] || !w->g->nodes[i].op)
            continue;
        for (int k = 0; k < w->g->nodes[i].n_in; k++) {
            rq_id v = w->g->nodes[i].in[k];
            if (v < 0 || v >= w->p->n_values || w->p->group[v] < 0 || w->g->values[v].kind != RQ_VALUE_CONST ||
                w->g->values[v].constant.dtype != RQ_DTYPE_F32)
                continue;
            rq_id q = w->quant[w->p->group[v]];
            rq_tensor codes;
            if (rq_tensor_create(&codes, w->g->quants[q].q.dtype, &w->g->values[v].constant.shape, false))
                return no_memory(w);
            rq_codes_from_reals(&codes, &w->g->values[v].constant, &w->g->quants[q].q, w->k);
            rq_status st = rq_annotate_constant(w->g, i, k, &codes, q, w->err);
            rq_tensor_release(&codes);
            RQ_TRY(st);
        }
    }
    return RQ_OK;
}

/* ---- groups ---- */

static rq_status add_entry(work *w, float scale, int32_t zero_point, const rq_settings *s, bool dedicated,
                           const char *method, rq_id *id)
{
    rq_qparams q;
    scale = s->pinned ? scale : rq_widen_scale(w->g->real, scale);
    if (rq_qparams_init_one(&q, s->activations, scale, zero_point))
        return no_memory(w);
    if (rq_graph_add_quant(w->g, id, &q, method)) {
        rq_qparams_release(&q);
        return no_memory(w);
    }
    w->g->quants[*id].dedicated = dedicated;
    return RQ_OK;
}

static rq_status annotate_range(work *w, rq_annotate_range a, const rq_settings *s, bool constant, rq_id *id)
{
    /* there a constant of the weights' type is taken for a weight, but never reduced */
    const bool qoperator = s->compat == RQ_COMPAT_ONNXRUNTIME_QOPERATOR;
    const rq_code_form f = {
        .dtype = s->activations,
        .symmetric =
            constant && qoperator && s->activations == s->weights ? s->symmetric_weights : s->symmetric_activations,
        .reduced = constant && s->reduced && !qoperator,
        .restricted = !constant && s->restricted,
        .least = s->min_range,
    };
    float scale;
    int32_t zero_point;
    rq_calibrate_codes(a.r, &f, &scale, &zero_point);
    return add_entry(w, scale, zero_point, s, !constant && s->dedicated_pairs, a.method, id);
}

/* Samples need not show how far a probability reaches: what they show is rounded up, to sixteenths of the next power of two, and
 * from 15/16 on it is [0, 1]. Where all stay below, codes are not wasted on the rest. */
static rq_annotate_range probability(rq_annotate_range seen, rq_compat compat)
{
    rq_annotate_range a = { .r = { 0, 1 }, .method = "fixed", .seen = true };
    double most = fmin(seen.r.hi, 1);
    if (seen.seen && most > 0 && !compat) {
        int e;
        const double share = frexp(most, &e),
                     unit = ldexp(share == 0.5 ? 0.5 : 1, e); /* the power of two at or above */
        a.r.hi = ceil(most / unit * 16) / 16 * unit;
    }
    return a;
}

/* A Softmax with codes of 1/256 from the lowest on (symmetric s8: 1/127), docs/onnx-facts.md 4.6. */
static rq_status annotate_softmax(work *w, int i)
{
    const rq_settings *s = &w->p->groups[i].s;
    int64_t lo, hi;
    rq_dtype_limits(s->activations, &lo, &hi);
    const bool around_zero = s->symmetric_activations && lo < 0 && !s->compat;
    const float scale = (float)(1.0 / (around_zero ? (double)hi : (double)(hi - lo) + 1));
    w->r[i] = (rq_range) { 0, 1 };
    return add_entry(w, scale, around_zero ? 0 : (int32_t)lo, s, s->dedicated_pairs, "fixed", &w->quant[i]);
}

static bool is_softmax(const work *w, rq_id value)
{
    const rq_value *v = &w->g->values[value];
    return v->kind == RQ_VALUE_NODE && !strcmp(w->g->nodes[v->producer].op, "Softmax");
}

static rq_status annotate_group(work *w, int i)
{
    const rq_place_group *grp = &w->p->groups[i];
    rq_annotate_range a = { .seen = true };
    const rq_id seen_at = grp->like != RQ_NONE ? grp->like : grp->value;
    if (grp->s.pinned) {
        int64_t lo, hi;
        rq_dtype_limits(grp->s.activations, &lo, &hi);
        if (grp->s.zero_point < lo || grp->s.zero_point > hi)
            return rq_fail(w->err, RQ_BAD_RECIPE, "tensor '%s': zero point %d is no %s", name_of(w, grp->value),
                           grp->s.zero_point, rq_dtype_name(grp->s.activations));
        w->r[i].lo = (double)(lo - grp->s.zero_point) * grp->s.scale;
        w->r[i].hi = (double)(hi - grp->s.zero_point) * grp->s.scale;
        return add_entry(w, grp->s.scale, grp->s.zero_point, &grp->s, !grp->constant && grp->s.dedicated_pairs, "given",
                         &w->quant[i]);
    }
    if (grp->unit && grp->s.softmax_256 && is_softmax(w, grp->value))
        return annotate_softmax(w, i);
    if (grp->constant) {
        a.method = "minmax";
        minmax_of(w, &w->g->values[grp->value].constant, &a.r);
    } else {
        a = w->range(w->arg, seen_at, &grp->s);
        if (grp->unit)
            a = probability(a, grp->s.compat);
    }
    if (grp->s.has_lo)
        a.r.lo = grp->s.lo;
    if (grp->s.has_hi)
        a.r.hi = grp->s.hi;
    a.seen |= grp->s.has_lo && grp->s.has_hi;
    if (!a.seen)
        RQ_TRY(rq_notes_add(w->notes, "'%s' was never seen in calibration; its scale is 1", name_of(w, grp->value)));
    w->r[i] = a.r;
    return annotate_range(w, a, &grp->s, grp->constant, &w->quant[i]);
}

/* A Concat copies codes where its inputs mean the same as its output. An input joins when that costs it at most one bit;
 * narrower ones keep their parameters and are requantized on the way. Last Concat first: its output settles the others. */
static void join_groups(work *w)
{
    for (int j = w->p->n_joins - 1; j >= 0; j--) {
        const rq_node *n = &w->g->nodes[w->p->joins[j]];
        int y = w->p->group[n->out[0]];
        for (int i = 0; i < n->n_in; i++) {
            int x = w->p->group[n->in[i]];
            const rq_place_group *a = &w->p->groups[x], *b = &w->p->groups[y];
            if (x == y || a->s.pinned || a->unit || a->constant || a->clamp != RQ_NONE ||
                a->s.activations != b->s.activations || a->s.symmetric_activations != b->s.symmetric_activations)
                continue;
            if ((w->r[x].hi - w->r[x].lo) * 2 >= w->r[y].hi - w->r[y].lo)
                w->quant[x] = w->quant[y];
        }
    }
}

/* ---- clamps ---- */

/* Do codes with these parameters reach no further than lo..hi? Within half a step, by which a zero point is rounded. */
static bool ends_inside(const rq_qparams *q, double lo, double hi)
{
    int32_t least, most;
    rq_qparams_limits(q, &least, &most);
    double s = q->scale[0], slack = s * 0.501;
    return (least - q->zero_point[0]) * s >= lo - slack && (most - q->zero_point[0]) * s <= hi + slack;
}

/* The maker of the clamp's input makes its output; the clamp goes. */
static rq_status swallow(work *w, rq_id clamp)
{
    rq_graph *g = w->g;
    rq_id x = g->nodes[clamp].in[0], y = g->nodes[clamp].out[0], maker = g->values[x].producer;
    for (int k = 0; k < g->nodes[maker].n_out; k++)
        if (g->nodes[maker].out[k] == x)
            g->nodes[maker].out[k] = y;
    g->values[y].producer = maker;
    g->nodes[clamp].out[0] = x;
    g->values[x].producer = clamp;
    if (rq_graph_set_input(g, clamp, 0, RQ_NONE))
        return no_memory(w);
    rq_graph_remove_node(g, clamp);
    return RQ_OK;
}

static rq_status settle_clamp(work *w, int i)
{
    const rq_place_group *grp = &w->p->groups[i];
    const rq_node *n = &w->g->nodes[grp->clamp];
    double lo, hi;
    if (rq_place_clamp_bounds(w->g, n, &lo, &hi) && ends_inside(&w->g->quants[w->quant[i]].q, lo, hi))
        return swallow(w, grp->clamp);
    /* It stays. What it cuts off need not be told apart before it, so its input takes the parameters of its output. */
    w->g->values[n->in[0]].quant = w->quant[i];
    return RQ_OK;
}

/* ---- weights ---- */

/* Range of channel c of w [outer, channels, inner]. */
static bool channel_range(const rq_tensor *t, int axis, int64_t c, rq_range *r)
{
    int64_t outer = 1, channels = 1, inner = rq_tensor_count(t);
    if (axis != RQ_PER_TENSOR) {
        outer = rq_shape_span(&t->shape, 0, axis);
        channels = t->shape.dim[axis];
        inner = rq_shape_span(&t->shape, axis + 1, t->shape.rank);
    }
    float lo = 0, hi = 0;
    bool finite = true;
    for (int64_t o = 0; o < outer; o++) {
        const float *x = t->f32 + (o * channels + c) * inner;
        for (int64_t i = 0; i < inner; i++) {
            lo = x[i] < lo ? x[i] : lo;
            hi = x[i] > hi ? x[i] : hi;
            finite &= isfinite(x[i]) != 0;
        }
    }
    *r = (rq_range) { lo, hi };
    return finite;
}

/* Raise scales of weight `at` until no bias that meets them clips; counts the channels. */
static int raise_scales(work *w, int at, rq_qparams *q)
{
    const rq_compat compat = w->p->weights[at].s.compat;
    int raised = 0;
    if (compat == RQ_COMPAT_ONNXRUNTIME_QOPERATOR)
        return 0;
    if (compat && (rq_dtype_bits(q->dtype) < 8 || q->zero_point[0] != 0 || q->dtype == RQ_DTYPE_U8))
        return 0;
    for (int u = 0; u < w->p->n_uses; u++) {
        const rq_place_use *use = &w->p->uses[u];
        if (use->weight != at || use->bias == RQ_NONE)
            continue;
        const rq_tensor *b = &w->g->values[use->bias].constant;
        const double x = rq_graph_qparams(w->g, w->g->nodes[use->node].in[0])->scale[0];
        if (b->dtype != RQ_DTYPE_F32)
            continue;
        for (int64_t c = 0, n = rq_tensor_count(b); c < n; c++) {
            double least = rq_bias_least_scale(b->f32[c], x, compat);
            float *s = &q->scale[q->n == 1 ? 0 : c];
            if (least > *s) {
                *s = compat ? (float)least : nextafterf((float)least, INFINITY);
                raised++;
            }
        }
    }
    return raised;
}

/* Codes take the place of weight `at` in all of its uses; whoever else uses the constant keeps the reals. */
static rq_status replace_weight(work *w, int at, const rq_tensor *codes, rq_id quant)
{
    rq_graph *g = w->g;
    rq_id from = w->p->weights[at].value, to = from;
    int n = 0;
    for (int u = 0; u < w->p->n_uses; u++)
        n += w->p->uses[u].weight == at;
    if (rq_graph_uses(g, from, NULL, 0) > n) {
        const char *name = rq_graph_fresh_name(g, g->values[from].name[0] ? g->values[from].name : "weight");
        if (!name)
            return no_memory(w);
        RQ_TRY(rq_graph_add_const(g, &to, name, codes, w->err));
        for (int u = 0; u < w->p->n_uses; u++)
            if (w->p->uses[u].weight == at && rq_graph_set_input(g, w->p->uses[u].node, w->p->uses[u].in, to))
                return no_memory(w);
    } else {
        rq_tensor_release(&g->values[to].constant);
        rq_tensor_share(&g->values[to].constant, codes);
    }
    g->values[to].dtype = RQ_DTYPE_F32; /* of the reals */
    g->values[to].quant = quant;
    return RQ_OK;
}

/* Parameters of channel c: of what its numbers need, or of what the settings say. */
static bool channel_params(const rq_place_weight *pw, const rq_tensor *t, rq_qparams *q, int64_t c, bool *zero)
{
    const rq_code_form f = {
        .dtype = pw->dtype, .symmetric = pw->symmetric, .reduced = pw->s.reduced, .least = pw->s.min_range
    };
    rq_range r;
    const bool finite = channel_range(t, pw->axis, c, &r);
    *zero = r.lo == 0 && r.hi == 0;
    r.lo = pw->s.has_lo ? pw->s.lo : r.lo;
    r.hi = pw->s.has_hi ? pw->s.hi : r.hi;
    rq_calibrate_codes(r, &f, &q->scale[c], &q->zero_point[c]);
    if (pw->s.pinned) {
        q->scale[c] = pw->s.scale;
        q->zero_point[c] = pw->s.zero_point;
    }
    return finite;
}

static rq_status quantize_weight(work *w, int at)
{
    const rq_place_weight *pw = &w->p->weights[at];
    const rq_tensor *t = &w->g->values[pw->value].constant;
    const char *name = name_of(w, pw->value);
    int64_t n = pw->axis == RQ_PER_TENSOR ? 1 : t->shape.dim[pw->axis];
    rq_qparams q;
    rq_tensor codes = { 0 };
    rq_status st = RQ_NO_MEMORY;
    if (rq_qparams_init(&q, pw->dtype, pw->axis, 0, n))
        return no_memory(w);
    int64_t dead = 0;
    float most = 0;
    for (int64_t c = 0; c < n; c++) {
        bool zero;
        if (!channel_params(pw, t, &q, c, &zero)) {
            st = rq_fail(w->err, RQ_NUMERIC, "weight '%s' holds a number that is not finite", name);
            goto done;
        }
        if (zero)
            dead++;
        else
            most = fmaxf(most, q.scale[c]);
    }
    for (int64_t c = 0; dead && most > 0 && !pw->s.pinned && !pw->s.compat && c < n;
         c++) { /* any scale holds zeros; one like the others' keeps the bias fine */
        rq_range r;
        channel_range(t, pw->axis, c, &r);
        if (r.lo == 0 && r.hi == 0)
            q.scale[c] = most;
    }
    int raised = pw->s.pinned || w->g->real ? 0 : raise_scales(w, at, &q);
    for (int64_t c = 0; c < n && !pw->s.pinned; c++)
        q.scale[c] = rq_widen_scale(w->g->real, q.scale[c]);
    if (rq_tensor_create(&codes, pw->dtype, &t->shape, false))
        goto done;
    rq_codes_from_reals(&codes, t, &q, w->k);
    if (pw->s.weight_pairs) { /* the reals stay; whoever runs or writes the graph rounds them */
        rq_tensor_release(&codes);
        rq_tensor_share(&codes, t);
    }
    rq_id id;
    if (rq_graph_add_quant(w->g, &id, &q, "minmax"))
        goto done;
    w->g->quants[id].pair = pw->s.weight_pairs;
    st = RQ_OK;
    if (raised)
        st = rq_notes_add(w->notes, "bias with '%s' would clip: scale of %d channels raised", name, raised);
    if (!st && dead)
        st = rq_notes_add(w->notes, "weight '%s': %lld of %lld channels are zero", name, (long long)dead, (long long)n);
    if (!st)
        st = replace_weight(w, at, &codes, id);
done:
    rq_qparams_release(&q);
    rq_tensor_release(&codes);
    return st == RQ_NO_MEMORY ? no_memory(w) : st;
}

/* ---- together ---- */

static rq_status annotate_all(work *w)
{
    const rq_placement *p = w->p;
    for (int i = 0; i < p->n_groups; i++)
        RQ_TRY(annotate_group(w, i));
    join_groups(w);
    for (int v = 0; v < p->n_values; v++)
        if (p->group[v] >= 0 && w->g->values[v].kind != RQ_VALUE_CONST)
            w->g->values[v].quant = w->quant[p->group[v]];
    for (int i = 0; i < p->n_groups; i++)
        if (p->groups[i].clamp != RQ_NONE)
            RQ_TRY(settle_clamp(w, i));
    RQ_TRY(constant_operands(w));
    for (int i = 0; i < p->n_weights; i++)
        RQ_TRY(quantize_weight(w, i));
    for (int u = 0; u < p->n_uses; u++)
        if (p->uses[u].bias != RQ_NONE && !p->uses[u].float_bias &&
            !w->g->real) /* 16 bits hold no product of two scales: there the bias stays a float */
            RQ_TRY(rq_bias_quantize(w->g, p->uses[u].node, p->uses[u].bias, w->notes, w->err));
    return RQ_OK;
}

rq_status rq_annotate(rq_graph *g, const rq_placement *p, rq_annotate_range_fn range, void *arg, const rq_kernels *k,
                      rq_notes *notes, rq_err *err)
{
    work w = { .g = g, .p = p, .range = range, .arg = arg, .k = k, .notes = notes, .err = err };
    w.quant = rq_mem_alloc((size_t)p->n_groups, sizeof *w.quant);
    w.r = rq_mem_alloc((size_t)p->n_groups, sizeof *w.r);
    rq_status st = w.quant && w.r ? annotate_all(&w) : no_memory(&w);
    rq_mem_free(w.quant);
    rq_mem_free(w.r);
    return st;
}
