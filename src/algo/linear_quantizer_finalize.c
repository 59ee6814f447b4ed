/* algo/linear_quantizer_finalize.c — the trained graph as an annotated one (docs/coreml-facts.md 6): a copy of the float graph with the trained
 * constants, batch norms folded, weights as codes, and every place an annotation. Weights are rounded by the fake-quantizer that trained
 * them, so that real integers give what the last forward gave. */
#include "algo/linear_quantizer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "algo/annotate.h"
#include "base/cpu.h"
#include "graph/query.h"
#include "ops/eval.h"
#include "ops/op.h"
#include "ops/rewrite.h"
#include "quant/codes.h"
#include "quant/exec.h"

typedef struct work {
    const rq_linear_quantizer *q;
    rq_graph *g;
    const rq_kernels *k;
    bool compat;
    rq_id *entry; /* [n_fakes] entry of g->quants, by slot; RQ_NONE */
    rq_err *err;
} work;

static rq_status no_memory(const work *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "out of memory finalizing the graph");
}

/* ---- constants of the prepared graph ---- */

/* The tensor that value v of the prepared graph m is, computed from constants. */
static rq_status compute(const rq_graph *m, rq_id v, int depth, const rq_kernels *k, rq_tensor *out, rq_err *err)
{
    if (rq_graph_is_const(m, v)) {
        rq_tensor_share(out, &m->values[v].constant);
        return RQ_OK;
    }
    const rq_node *n = m->values[v].kind == RQ_VALUE_NODE ? &m->nodes[m->values[v].producer] : NULL;
    if (!n || depth > 16 || n->n_in > 4 || n->n_out != 1)
        return rq_fail(err, RQ_UNSUPPORTED, "'%s' is no constant", m->values[v].name);
    rq_tensor in[4] = { { 0 } };
    const rq_tensor *ptr[4];
    rq_status s = RQ_OK;
    for (int i = 0; i < n->n_in; i++) {
        ptr[i] = n->in[i] >= 0 ? &in[i] : NULL;
        if (!s && ptr[i])
            s = compute(m, n->in[i], depth + 1, k, &in[i], err);
    }
    if (!s)
        s = rq_eval_node(m, n, ptr, out, (size_t)1 << 40, k, err);
    for (int i = 0; i < n->n_in; i++)
        rq_tensor_release(&in[i]);
    return s;
}

rq_status rq_lq_value_of(const rq_linear_quantizer *q, rq_id v, const rq_kernels *k, rq_tensor *out, rq_err *err)
{
    return compute(q->model, v, 0, k, out, err);
}

/* g gets the numbers that training made of its constants. */
static rq_status take_constants(work *w)
{
    for (rq_id v = 0; v < w->g->n_values; v++) {
        rq_value *to = &w->g->values[v];
        const rq_value *from = &w->q->model->values[v];
        if (to->kind != RQ_VALUE_CONST || from->kind != RQ_VALUE_CONST || to->constant.data == from->constant.data)
            continue;
        rq_tensor t;
        if (rq_tensor_copy(&t, &from->constant))
            return no_memory(w);
        rq_tensor_release(&to->constant);
        to->constant = t;
    }
    return RQ_OK;
}

/* ---- annotations ---- */

/* Who chose what slot's fake-quantizer rounds by, for reports. */
static const char *method_of(const work *w, int slot)
{
    const rq_fake_quantizer *f = w->q->fakes[slot];
    if (rq_fake_quantizer_trains_scale(f))
        return "learned";
    if (w->q->held[slot])
        return "given";
    return w->q->fake_cfgs[slot].kind == RQ_FAKE_QUANTIZER_FIXED ? "fixed" : "observed";
}

static rq_status add_entry(const work *w, int slot, rq_qparams *q, rq_id *id)
{
    if (rq_graph_add_quant(w->g, id, q, method_of(w, slot))) {
        rq_qparams_release(q);
        return no_memory(w);
    }
    return RQ_OK;
}

static rq_status never_seen(const work *w, int slot, rq_status s)
{
    return rq_fail_in(w->err, s, "fake-quantizer '%s'", w->q->names[slot]);
}

/* The entry of an activation's object. */
static rq_status entry_of(work *w, const rq_lq_object *o, rq_id *id)
{
    if (w->entry[o->slot] == RQ_NONE) {
        rq_qparams q;
        const rq_status s = rq_fake_quantizer_qparams(w->q->fakes[o->slot], &q, NULL, w->err);
        if (s)
            return never_seen(w, o->slot, s);
        RQ_TRY(add_entry(w, o->slot, &q, &w->entry[o->slot]));
    }
    *id = w->entry[o->slot];
    return RQ_OK;
}

/* ---- weights ---- */

/* A fake-quantizer that remembers what slot's does. */
static rq_status copy_fake(const work *w, int slot, bool fresh, rq_fake_quantizer **out)
{
    rq_state *state;
    RQ_TRY(rq_fake_quantizer_create(out, &w->q->fake_cfgs[slot], w->err));
    if (fresh)
        return RQ_OK;
    rq_status s = rq_state_create(&state);
    if (!s) {
        s = rq_fake_quantizer_save(w->q->fakes[slot], state, "");
        if (!s)
            s = rq_fake_quantizer_load(*out, state, "", w->err);
        rq_state_destroy(state);
    }
    if (s == RQ_NO_MEMORY)
        no_memory(w);
    if (s)
        rq_fake_quantizer_destroy(*out);
    return s;
}

static rq_dtype storage(rq_dtype d, int bits)
{
    const bool is_signed = d == RQ_DTYPE_S8;
    return bits <= 2   ? (is_signed ? RQ_DTYPE_S2 : RQ_DTYPE_U2)
           : bits <= 4 ? (is_signed ? RQ_DTYPE_S4 : RQ_DTYPE_U4)
                       : d;
}

/* Rounded weights and their parameters. As the original: its fake-quantizer sees the folded weight once more, if it still observes. Ours: a
 * fake-quantizer that still observes takes the range of exactly this weight, one that has stopped keeps what it has. */
static rq_status round_weight(const work *w, int slot, const rq_tensor *x, rq_tensor *y, rq_qparams *qp)
{
    const rq_fake_quantizer *live = w->q->fakes[slot];
    const bool observes = rq_fake_quantizer_observer_enabled(live);
    const bool unseen = !w->compat && rq_fake_quantizer_qparams(live, qp, NULL, NULL) != RQ_OK;
    if (!w->compat && !unseen)
        rq_qparams_release(qp);
    const bool fresh = !w->compat && (unseen || (observes && w->q->fake_cfgs[slot].kind != RQ_FAKE_QUANTIZER_FIXED));
    rq_fake_quantizer *f;
    RQ_TRY(copy_fake(w, slot, fresh, &f));
    *y = (rq_tensor) { 0 };
    *qp = (rq_qparams) { 0 };
    rq_status s = rq_tensor_create(y, RQ_DTYPE_F32, &x->shape, false);
    if (s)
        no_memory(w);
    const rq_strided from = rq_strided_of(x), to = rq_strided_of(y);
    if (!s && (fresh || (w->compat && observes))) {
        rq_fake_quantizer_enable_observer(f, true);
        rq_fake_quantizer_enable_fake_quant(f, false);
        s = rq_fake_quantizer_forward(f, NULL, &to, &from, w->err);
        rq_fake_quantizer_enable_observer(f, false);
        rq_fake_quantizer_enable_fake_quant(f, true);
        if (!s && w->q->fake_cfgs[slot].kind == RQ_FAKE_QUANTIZER_LEARNABLE && !w->compat)
            s = rq_fake_quantizer_enable_param_learning(f, w->err);
    }
    if (!s) {
        rq_fake_quantizer_enable_observer(f, false);
        rq_fake_quantizer_enable_fake_quant(f, true);
        s = rq_fake_quantizer_forward(f, NULL, &to, &from, w->err);
    }
    if (!s)
        s = rq_fake_quantizer_qparams(f, qp, NULL, w->err);
    rq_fake_quantizer_destroy(f);
    if (s) {
        rq_tensor_release(y);
        return never_seen(w, slot, s);
    }
    return RQ_OK;
}

/* A bias is counted in units of both scales: where it would not fit 32 bits, a coarser scale of its channel holds those weights as well,
 * which are next to nothing beside it. */
static void make_room(rq_qparams *q, const rq_tensor *bias, float x_scale)
{
    for (int64_t c = 0, n = rq_tensor_count(bias); c < n; c++) {
        const double least = rq_bias_least_scale((double)bias->f32[c], (double)x_scale, RQ_COMPAT_NONE);
        float *s = &q->scale[q->n == 1 ? 0 : c];
        if (least > (double)*s)
            *s = nextafterf((float)least, INFINITY);
    }
}

/* Would rounding the bias to the unit that sums are counted in show in the group's output codes? Then it stays a float,
 * which those who can add as it is. */
static bool is_coarse(const work *w, const rq_lq_group *gr, const rq_qparams *q, float x_scale)
{
    const rq_qparams *y = rq_graph_qparams(w->g, w->q->float_graph->nodes[gr->last].out[0]);
    float unit = 0;
    for (int64_t c = 0; c < q->n; c++)
        unit = fmaxf(unit, x_scale * q->scale[c]);
    return y && unit * 16 > y->scale[0];
}

/* The constant bias that input 2 of the group's product is, or RQ_NONE. */
static rq_id bias_of(const work *w, const rq_lq_group *gr)
{
    const rq_node *n = &w->g->nodes[gr->root];
    const rq_id b = gr->kind == RQ_LQ_WEIGHTED && !rq_node_is(n, "MatMul") ? rq_node_in(n, 2) : RQ_NONE;
    return rq_graph_is_const(w->g, b) && w->g->values[b].constant.dtype == RQ_DTYPE_F32 ? b : RQ_NONE;
}

/* Put numbers t at input i of node: in the constant that is there, if nobody else reads it; else in one called "<module>.<what>". */
static rq_status put_constant(const work *w, rq_id node, int i, const char *module, const char *what,
                              const rq_tensor *t)
{
    const rq_id old = rq_node_in(&w->g->nodes[node], i);
    rq_id to;
    char buf[600];
    if (rq_graph_is_const(w->g, old) && rq_graph_uses(w->g, old, NULL, 0) == 1) {
        rq_tensor_release(&w->g->values[old].constant);
        rq_tensor_share(&w->g->values[old].constant, t);
        w->g->values[old].shape = t->shape;
        return RQ_OK;
    }
    snprintf(buf, sizeof buf, "%s%s%s", module, module[0] ? "." : "", what);
    const char *name = rq_graph_fresh_name(w->g, buf);
    if (!name)
        return no_memory(w);
    RQ_TRY(rq_graph_add_const(w->g, &to, name, t, w->err));
    return rq_graph_set_input(w->g, node, i, to) ? no_memory(w) : RQ_OK;
}

static rq_status quantize_weight(work *w, const rq_lq_group *gr, const rq_tensor *x)
{
    const rq_lq_object *o = &w->q->plan.objects[gr->weight];
    const rq_fake_quantizer_cfg *c = &w->q->fake_cfgs[o->slot];
    rq_tensor y, codes = { 0 };
    rq_qparams qp;
    RQ_TRY(round_weight(w, o->slot, x, &y, &qp));
    qp.dtype = storage(c->observer.type.dtype, rq_qtype_width(&c->observer.type));
    const rq_id bias = bias_of(w, gr);
    const rq_qparams *in = rq_graph_qparams(w->g, w->g->nodes[gr->root].in[0]);
    const rq_node *root = &w->g->nodes[gr->root];
    const bool fits = bias >= 0 && in && rq_dtype_bits(qp.dtype) == 8 && in->axis == RQ_PER_TENSOR &&
                      rq_attr_float(root, RQ_WORD_alpha, 1) == 1 && rq_attr_float(root, RQ_WORD_beta, 1) == 1 &&
                      (qp.n == 1 || qp.n == rq_tensor_count(&w->g->values[bias].constant)) &&
                      !is_coarse(w, gr, &qp, in->scale[0]);
    if (fits)
        make_room(&qp, &w->g->values[bias].constant, in->scale[0]);
    rq_status s = rq_tensor_create(&codes, qp.dtype, &x->shape, false);
    if (s)
        no_memory(w);
    if (!s)
        rq_codes_from_reals(&codes, &y, &qp, w->k);
    rq_tensor_release(&y);
    rq_id entry = RQ_NONE;
    if (!s)
        s = add_entry(w, o->slot, &qp, &entry);
    else
        rq_qparams_release(&qp);
    if (!s)
        s = rq_annotate_constant(w->g, gr->root, gr->weight_in, &codes, entry, w->err);
    rq_tensor_release(&codes);
    if (!s && fits)
        s = rq_bias_quantize(w->g, gr->root, bias, NULL, w->err);
    return s;
}

/* ---- batch norms ---- */

/* b' = (b - mean) k + beta */
static rq_status folded_bias(const work *w, const rq_lq_group *gr, const rq_tensor *k, rq_tensor *out)
{
    const rq_node *n = &w->q->model->nodes[gr->norm]; /* c, k, bias, gamma, beta, mean, var */
    const rq_value *v = w->q->model->values;
    const float *bias = n->in[2] >= 0 ? v[n->in[2]].constant.f32 : NULL;
    const float *beta = v[n->in[4]].constant.f32, *mean = v[n->in[5]].constant.f32;
    const int64_t count = rq_tensor_count(k);
    const bool one = bias && rq_tensor_count(&v[n->in[2]].constant) == 1;
    const rq_shape shape = rq_shape_of(1, &count);
    if (rq_tensor_create(out, RQ_DTYPE_F32, &shape, false))
        return no_memory(w);
    for (int64_t c = 0; c < count; c++)
        out->f32[c] = ((bias ? bias[one ? 0 : c] : 0) - mean[c]) * k->f32[c] + beta[c];
    return RQ_OK;
}

/* `node` makes y from now on, and what made y is gone. */
static rq_status make_instead(const work *w, rq_id node, rq_id gone)
{
    rq_graph *g = w->g;
    const rq_id x = g->nodes[node].out[0], y = g->nodes[gone].out[0];
    g->nodes[node].out[0] = y;
    g->values[y].producer = node;
    g->nodes[gone].out[0] = x;
    g->values[x].producer = gone;
    if (rq_graph_set_input(g, gone, 0, RQ_NONE))
        return no_memory(w);
    rq_graph_remove_node(g, gone);
    return RQ_OK;
}

static rq_status fold_norm(work *w, const rq_lq_group *gr)
{
    rq_graph *g = w->g;
    rq_tensor k = { 0 }, bias = { 0 };
    const rq_id root = gr->root, beta = g->nodes[gr->norm].in[2];
    RQ_TRY(rq_lq_value_of(w->q, w->q->model->nodes[gr->norm].in[1], w->k, &k, w->err));
    rq_status s = folded_bias(w, gr, &k, &bias);
    rq_tensor_release(&k);
    RQ_TRY(s);
    if (gr->bias_add >= 0) {
        const int at = g->nodes[gr->bias_add].in[0] == g->nodes[root].out[0];
        s = put_constant(w, gr->bias_add, at, gr->module, "bias", &bias);
        if (!s)
            s = make_instead(w, gr->bias_add, gr->norm);
    } else if (rq_node_is(&g->nodes[root], "MatMul")) {
        /* the norm's node becomes the Add of the bias */
        const rq_id in[] = { g->nodes[root].out[0], beta };
        s = rq_rewrite_become(g, gr->norm, "Add", in, 2, w->err);
        if (!s)
            s = put_constant(w, gr->norm, 1, gr->module, "bias", &bias);
    } else {
        s = put_constant(w, root, 2, gr->module, "bias", &bias);
        if (!s)
            s = make_instead(w, root, gr->norm);
    }
    rq_tensor_release(&bias);
    return s;
}

/* ---- places ---- */

/* Dropouts pass on what they get. */
static void drop_dropouts(work *w)
{
    for (int i = 0; i < w->q->plan.n_groups; i++) {
        const rq_lq_group *gr = &w->q->plan.groups[i];
        const rq_node *n = &w->g->nodes[gr->root];
        if (gr->kind != RQ_LQ_DROPOUT || rq_graph_is_output(w->g, n->out[0]) || n->n_out > 1)
            continue;
        rq_graph_replace_uses(w->g, n->out[0], n->in[0], gr->root);
        rq_graph_remove_node(w->g, gr->root);
    }
}

/* Do these codes reach no further than the reals lo..hi, within half a step? */
static bool ends_inside(const rq_qparams *q, double lo, double hi)
{
    int32_t least, most;
    rq_qparams_limits(q, &least, &most);
    const double s = (double)q->scale[0], slack = s * 0.501;
    return (least - q->zero_point[0]) * s >= lo - slack && (most - q->zero_point[0]) * s <= hi + slack;
}

/* A Relu or Clip behind the maker: gone where codes saturate at its bounds; else its input has the same codes, of which it cuts some. */
static rq_status settle_clamp(work *w, const rq_lq_group *gr, rq_id entry)
{
    rq_graph *g = w->g;
    double lo, hi;
    if (gr->act < 0 || gr->act == gr->root || !g->nodes[gr->act].op ||
        !(rq_node_is(&g->nodes[gr->act], "Relu") || rq_node_is(&g->nodes[gr->act], "Clip")) ||
        !rq_place_clamp_bounds(g, &g->nodes[gr->act], &lo, &hi))
        return RQ_OK;
    const rq_id x = g->nodes[gr->act].in[0];
    if (ends_inside(&g->quants[entry].q, lo, hi))
        return make_instead(w, g->values[x].producer, gr->act);
    g->values[x].quant = entry;
    return RQ_OK;
}

/* Codes lo..hi of more: a Clip behind v, whose output then is what v was. */
static rq_status clip_behind(work *w, rq_id v, rq_id entry, const rq_qtype *type)
{
    rq_graph *g = w->g;
    const rq_qparams *q = &g->quants[entry].q;
    const float s = q->scale[0],
                ends[] = { (float)(type->lo - q->zero_point[0]) * s, (float)(type->hi - q->zero_point[0]) * s };
    const rq_shape shape = g->values[v].shape, none = rq_shape_of(0, NULL);
    rq_id wide, node, bound[2];
    const char *name = rq_graph_fresh_name(g, g->values[v].name);
    if (!name)
        return no_memory(w);
    RQ_TRY(rq_graph_add_value(g, &wide, RQ_VALUE_NODE, name, RQ_DTYPE_F32, &shape, w->err));
    for (int i = 0; i < 2; i++) {
        rq_tensor t;
        if (rq_tensor_create(&t, RQ_DTYPE_F32, &none, false))
            return no_memory(w);
        t.f32[0] = ends[i];
        name = rq_graph_fresh_name(g, i ? "most" : "least");
        const rq_status s1 = name ? rq_graph_add_const(g, &bound[i], name, &t, w->err) : no_memory(w);
        rq_tensor_release(&t);
        RQ_TRY(s1);
    }
    const rq_id maker = g->values[v].producer;
    for (int i = 0; i < g->nodes[maker].n_out; i++)
        if (g->nodes[maker].out[i] == v)
            g->nodes[maker].out[i] = wide;
    g->values[wide].producer = maker;
    g->values[wide].quant = entry;
    g->values[v].producer = RQ_NONE;
    return rq_graph_add_node(g, &node, "Clip", "", "", (const rq_id[]) { wide, bound[0], bound[1] }, 3, &v, 1, w->err);
}

static rq_status annotate_output(work *w, const rq_lq_place *at)
{
    const rq_lq_object *o = &w->q->plan.objects[at->object];
    const rq_lq_group *gr = &w->q->plan.groups[at->producer];
    const rq_qtype *type = &w->q->fake_cfgs[o->slot].observer.type;
    rq_id entry = RQ_NONE;
    RQ_TRY(entry_of(w, o, &entry));
    w->g->values[at->value].quant = entry;
    RQ_TRY(settle_clamp(w, gr, entry));
    /* what shares its input's codes gets none beyond the range */
    return rq_qtype_width(type) < 8 && gr->kind != RQ_LQ_SHARE ? clip_behind(w, at->value, entry, type) : RQ_OK;
}

/* Codes of a constant operand, as the fake-quantizer rounds it. */
static rq_status quantize_operand(work *w, const rq_lq_object *o, const rq_lq_use *use, rq_id entry)
{
    const rq_tensor *x = &w->g->values[w->g->nodes[use->node].in[use->in]].constant;
    const rq_qparams *q = &w->g->quants[entry].q;
    rq_fake_quantizer *f;
    rq_tensor y, codes = { 0 };
    RQ_TRY(copy_fake(w, o->slot, false, &f));
    rq_fake_quantizer_enable_observer(f, false);
    rq_fake_quantizer_enable_fake_quant(f, true);
    rq_status s = rq_tensor_create(&y, RQ_DTYPE_F32, &x->shape, false);
    if (!s) {
        const rq_strided from = rq_strided_of(x), to = rq_strided_of(&y);
        s = rq_fake_quantizer_forward(f, NULL, &to, &from, w->err);
    }
    rq_fake_quantizer_destroy(f);
    if (!s && !(s = rq_tensor_create(&codes, q->dtype, &x->shape, false)))
        rq_codes_from_reals(&codes, &y, q, w->k);
    rq_tensor_release(&y);
    if (!s)
        s = rq_annotate_constant(w->g, use->node, use->in, &codes, entry, w->err);
    rq_tensor_release(&codes);
    return s == RQ_NO_MEMORY ? no_memory(w) : s;
}

/* Does nobody read v but through the place? */
static bool read_through(const work *w, int place, rq_id v)
{
    int n = 0;
    for (int u = 0; u < w->q->plan.n_uses; u++) {
        const rq_lq_use *use = &w->q->plan.uses[u];
        n += use->place == place && w->g->nodes[use->node].op && w->g->nodes[use->node].in[use->in] == v;
    }
    return rq_graph_uses(w->g, v, NULL, 0) == n;
}

static rq_status annotate_input(work *w, int place)
{
    rq_graph *g = w->g;
    const rq_lq_place *at = &w->q->plan.places[place];
    const rq_lq_object *o = &w->q->plan.objects[at->object];
    const rq_qtype *type = &w->q->fake_cfgs[o->slot].observer.type;
    rq_id entry = RQ_NONE, made = RQ_NONE;
    RQ_TRY(entry_of(w, o, &entry));
    for (int u = 0; u < w->q->plan.n_uses; u++) {
        const rq_lq_use *use = &w->q->plan.uses[u];
        if (use->place != place || !g->nodes[use->node].op)
            continue;
        const rq_id v = g->nodes[use->node].in[use->in];
        if (rq_graph_is_const(g, v)) {
            RQ_TRY(quantize_operand(w, o, use, entry));
            continue;
        }
        if (v == made || g->values[v].quant == entry)
            continue;
        if (made == RQ_NONE && g->values[v].quant == RQ_NONE && read_through(w, place, v) &&
            rq_qtype_width(type) == 8) {
            g->values[v].quant = entry;
            continue;
        }
        if (made == RQ_NONE) {
            rq_id node;
            const rq_shape shape = g->values[v].shape;
            const char *name = rq_graph_fresh_name(g, g->values[v].name);
            if (!name)
                return no_memory(w);
            RQ_TRY(rq_graph_add_value(g, &made, RQ_VALUE_NODE, name, RQ_DTYPE_F32, &shape, w->err));
            RQ_TRY(rq_graph_add_node(g, &node, "Requantize", "requant", "", &v, 1, &made, 1, w->err));
            g->values[made].quant = entry;
            if (rq_graph_set_opset(g, "requant", 1))
                return no_memory(w);
            if (rq_qtype_width(type) < 8)
                RQ_TRY(clip_behind(w, made, entry, type));
        }
        if (rq_graph_set_input(g, use->node, use->in, made))
            return no_memory(w);
    }
    return RQ_OK;
}

static rq_status finalize(work *w)
{
    const rq_lq_plan *p = &w->q->plan;
    RQ_TRY(take_constants(w));
    for (int i = 0; i < p->n_groups; i++)
        if (p->groups[i].norm >= 0)
            RQ_TRY(fold_norm(w, &p->groups[i]));
    drop_dropouts(w);
    for (int i = 0; i < p->n_places; i++)
        if (p->places[i].index >= 0 && !p->places[i].removed && p->places[i].output)
            RQ_TRY(annotate_output(w, &p->places[i]));
    for (int i = 0; i < p->n_places; i++)
        if (p->places[i].index >= 0 && !p->places[i].removed && !p->places[i].output)
            RQ_TRY(annotate_input(w, i));
    for (int i = 0; i < p->n_groups; i++) {
        const rq_lq_group *gr = &p->groups[i];
        if (gr->weight < 0 && gr->norm < 0)
            continue;
        /* of the prepared graph: the weight times its batch norm's scale, before it is rounded */
        rq_id v = w->q->model->nodes[gr->root].in[gr->weight_in];
        if (gr->weight >= 0)
            v = w->q->model->nodes[w->q->model->values[v].producer].in[0];
        rq_tensor x;
        RQ_TRY(rq_lq_value_of(w->q, v, w->k, &x, w->err));
        rq_status s = put_constant(w, gr->root, gr->weight_in, gr->module, "weight", &x);
        if (!s && gr->weight >= 0)
            s = quantize_weight(w, gr, &x);
        rq_tensor_release(&x);
        RQ_TRY(s);
    }
    rq_graph_prune(w->g);
    rq_ops_bind(w->g);
    RQ_TRY(rq_ops_check(w->g, true, w->err));
    return rq_ops_infer(w->g, w->err);
}

rq_status rq_linear_quantizer_finalize(rq_linear_quantizer *q, rq_graph **out, rq_err *err)
{
    if (!q->model)
        return rq_fail(err, RQ_BAD_ARG, "the quantizer was not prepared, so there is nothing to finalize");
    unsigned cpu;
    rq_kernels k;
    rq_kernels_init(&k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    work w = { .q = q, .k = &k, .compat = rq_linear_quantizer_config_is_compat(q->config), .err = err };
    w.entry = rq_mem_alloc((size_t)q->n_fakes + 1, sizeof *w.entry);
    rq_status s = w.entry && !rq_graph_copy(&w.g, q->float_graph) ? RQ_OK : no_memory(&w);
    for (int i = 0; !s && i < q->n_fakes; i++)
        w.entry[i] = RQ_NONE;
    if (!s)
        s = finalize(&w);
    rq_mem_free(w.entry);
    if (s) {
        rq_graph_destroy(w.g);
        return s;
    }
    *out = w.g;
    return RQ_OK;
}
