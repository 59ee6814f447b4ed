/* run/program.c — running a plan: bind what the caller feeds, check each segment's key, do its steps. */
#include "run/program.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/relayout.h"
#include "quant/codes.h"
#include "run/planner.h"

typedef struct last_use {
    rq_program *p;
    int at;
} last_use;

static void note_use(void *arg, rq_id v)
{
    last_use *u = arg;
    if (v >= 0)
        u->p->last_use[v] = u->at;
}

/* ---- feeding ---- */

static rq_form_kind fed_form(const rq_graph *g, rq_id v)
{
    return rq_graph_qparams(g, v) ? RQ_FORM_RAW : RQ_FORM_REAL;
}

/* List what every run begins with. */
static rq_status list_feeds(rq_program *p)
{
    const rq_graph *g = p->g;
    p->feeds = rq_mem_alloc((size_t)g->n_values + 1, sizeof *p->feeds);
    if (!p->feeds)
        return RQ_NO_MEMORY;
    for (rq_id v = 0; v < g->n_values; v++) {
        int input = -1;
        if (g->values[v].kind != RQ_VALUE_INPUT && g->values[v].kind != RQ_VALUE_CAPTURED)
            continue;
        for (int i = 0; i < g->n_inputs && g->values[v].kind == RQ_VALUE_INPUT; i++)
            if (g->inputs[i] == v)
                input = i;
        if (input >= 0 || g->values[v].kind == RQ_VALUE_CAPTURED)
            p->feeds[p->n_feeds++] = (rq_feed_at) { rq_form_id(v, fed_form(g, v)), input };
    }
    return RQ_OK;
}

/* The tensor that a run begins with: fed, default, or the enclosing program's. */
static const rq_tensor *start_of(const rq_program *p, const rq_tensor *in, const rq_feed_at *f)
{
    const rq_value *val = &p->g->values[f->form / RQ_N_FORMS];
    if (f->input < 0)
        return &p->outer->forms[rq_form_id(val->outer, RQ_FORM_REAL)].t;
    return in[f->input].dtype != RQ_DTYPE_NONE ? &in[f->input] : &val->constant;
}

/* ---- making ---- */

rq_status rq_program_create(rq_program **out, const rq_graph *g, const rq_session_cfg *cfg, const rq_kernels *k,
                            rq_threads *threads, rq_program *outer, rq_err *err)
{
    rq_program *p = rq_mem_zalloc(1, sizeof *p);
    if (!p)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the graph");
    *p = (rq_program) {
        .g = g, .cfg = cfg, .k = k, .threads = threads, .outer = outer, .plain = outer ? outer->plain : 0
    };
    rq_status st = rq_order(g, &p->order, &p->n_order, err);
    p->forms = rq_mem_zalloc((size_t)g->n_values * RQ_N_FORMS + 1, sizeof *p->forms);
    p->last_use = rq_mem_alloc((size_t)g->n_values + 1, sizeof *p->last_use);
    if (!st && (!p->forms || !p->last_use || list_feeds(p)))
        st = rq_fail(err, RQ_NO_MEMORY, "out of memory planning the graph");
    if (st) {
        rq_program_destroy(p);
        return st;
    }
    for (int v = 0; v < g->n_values; v++)
        p->last_use[v] = -1;
    for (int i = 0; i < p->n_order; i++) {
        const rq_node *n = &g->nodes[p->order[i]];
        last_use u = { p, i };
        for (int a = 0; a < n->n_in; a++)
            note_use(&u, n->in[a]);
        rq_graph_each_capture(g, n, note_use, &u);
    }
    for (int i = 0; i < g->n_outputs; i++)
        p->last_use[g->outputs[i]] = INT_MAX;
    *out = p;
    return RQ_OK;
}

static void drop_segments(rq_program *p, int from)
{
    while (p->n_segs > from)
        rq_plan_segment_destroy(p, p->segs[--p->n_segs]);
}

void rq_program_forget(rq_program *p)
{
    drop_segments(p, 0);
    p->planned = false;
}

void rq_program_destroy(rq_program *p)
{
    if (!p)
        return;
    drop_segments(p, 0);
    rq_mem_free(p->segs);
    rq_mem_free(p->forms);
    rq_mem_free(p->order);
    rq_mem_free(p->last_use);
    rq_mem_free(p->feeds);
    rq_mem_free(p->taps);
    rq_packs_release(&p->packs);
    rq_mem_free(p);
}

/* ---- feeding, as listed ---- */

/* Does the plan hold for these inputs? */
static bool same_start(const rq_program *p, const rq_tensor *in)
{
    for (int i = 0; i < p->n_feeds; i++) {
        const rq_tensor *t = start_of(p, in, &p->feeds[i]);
        const rq_form *f = &p->forms[p->feeds[i].form];
        if (f->t.dtype != t->dtype || !rq_shape_equal(&f->t.shape, &t->shape) || (f->known && f->t.data != t->data))
            return false;
    }
    return true;
}

/* The forms that exist before the first node: constants, inputs, captured values. */
static void start_forms(rq_program *p, const rq_tensor *in)
{
    const rq_graph *g = p->g;
    for (rq_id v = 0; v < g->n_values; v++) {
        const rq_value *val = &g->values[v];
        for (int k = 0; k < RQ_N_FORMS; k++)
            p->forms[rq_form_id(v, (rq_form_kind)k)] = rq_form_none();
        if (val->kind == RQ_VALUE_CONST) {
            const rq_qparams *q = rq_graph_qparams(g, v);
            rq_form_kind kind = !q ? RQ_FORM_REAL : val->constant.dtype == q->dtype ? RQ_FORM_CODE : RQ_FORM_RAW;
            rq_form *f = &p->forms[rq_form_id(v, kind)];
            f->t = val->constant; /* its storage, too (ops/packs.h), which the graph holds */
            f->exists = f->known = true;
        }
    }
    for (int i = 0; i < p->n_feeds; i++) {
        const rq_value *val = &g->values[p->feeds[i].form / RQ_N_FORMS];
        rq_form *f = &p->forms[p->feeds[i].form];
        f->t = *start_of(p, in, &p->feeds[i]);
        f->exists = f->fed = true;
        f->known = val->kind == RQ_VALUE_CAPTURED && p->outer->forms[rq_form_id(val->outer, RQ_FORM_REAL)].known;
        if (!f->known)
            f->t.storage = NULL;
    }
}

static void feed(rq_program *p, const rq_tensor *in)
{
    for (int i = 0; i < p->n_feeds; i++)
        p->forms[p->feeds[i].form].t.data = start_of(p, in, &p->feeds[i])->data;
}

/* ---- taps ---- */

static rq_status call_taps(rq_program *p, rq_id value, rq_form_kind kind, rq_err *err)
{
    const rq_qparams *q = rq_graph_qparams(p->g, value);
    for (int i = 0; i < p->n_taps; i++) {
        const rq_tap *tap = &p->taps[i];
        if (tap->value != value)
            continue;
        rq_form_kind wants = tap->fn_codes && q ? RQ_FORM_CODE : RQ_FORM_REAL;
        if (wants != kind)
            continue;
        const rq_tensor *t = &p->forms[rq_form_id(value, kind)].t;
        const char *name = p->g->values[value].name;
        RQ_TRY(tap->fn_codes ? tap->fn_codes(tap->arg, name, t, q, err) : tap->fn(tap->arg, name, t, err));
    }
    return RQ_OK;
}

/* Taps of values that no node makes: inputs as they are, and constants. */
static rq_status call_first_taps(rq_program *p, rq_err *err)
{
    for (int i = 0; i < p->n_taps; i++) {
        rq_id v = p->taps[i].value;
        bool again = false; /* each value once: call_taps serves all of its taps */
        for (int k = 0; k < i; k++)
            again |= p->taps[k].value == v;
        again |= p->g->values[v].kind == RQ_VALUE_NODE;
        for (int kind = RQ_FORM_REAL; kind <= RQ_FORM_CODE && !again; kind++) {
            const rq_form *f = &p->forms[rq_form_id(v, (rq_form_kind)kind)];
            if (f->exists && (f->known || f->fed))
                RQ_TRY(call_taps(p, v, (rq_form_kind)kind, err));
        }
    }
    return RQ_OK;
}

/* ---- steps ---- */

typedef struct runner {
    rq_program *p;
    rq_step *step;
} runner;

static rq_status run_subgraph(void *arg, rq_word attr, const rq_tensor *const *in, int n_in, rq_tensor *out, int n_out,
                              rq_err *err)
{
    runner *r = arg;
    const rq_node *n = r->step->args.node;
    int at = 0;
    while (at < n->n_attr && (n->attr[at].type != RQ_ATTR_GRAPH || n->attr[at].word != attr))
        at++;
    if (at == n->n_attr)
        return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s) has no subgraph '%s'", n->name, n->op, rq_word_text(attr));
    const rq_graph *g = n->attr[at].g[0];
    if (g->n_inputs != n_in || g->n_outputs != n_out)
        return rq_fail(err, RQ_BAD_GRAPH,
                       "node '%s' (%s): subgraph '%s' has %d inputs and %d outputs, expected %d and %d", n->name, n->op,
                       rq_word_text(attr), g->n_inputs, g->n_outputs, n_in, n_out);
    if (!r->step->child[at])
        RQ_TRY(rq_program_create(&r->step->child[at], g, r->p->cfg, r->p->k, r->p->threads, r->p, err));
    rq_tensor *feeds = rq_mem_zalloc((size_t)n_in + 1, sizeof *feeds);
    if (!feeds)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory running subgraph '%s'", rq_word_text(attr));
    for (int i = 0; i < n_in; i++)
        feeds[i] = *in[i];
    rq_status st = rq_program_run(r->step->child[at], feeds, out, err);
    rq_mem_free(feeds);
    return st;
}

/* What became of the codes of output i on the way (moved). */
static void look_up(const rq_program *p, const rq_step *s, int i)
{
    const rq_tensor *y = s->args.out[i];
    const int64_t n = rq_tensor_count(y), run = s->args.out_ld && n ? y->shape.dim[1] : n;
    for (int64_t at = 0, to = 0; at < n; at += run, to += s->args.out_ld)
        p->k->lut8(y->u8 + to, y->u8 + to, (size_t)run, s->moved[i]);
}

static rq_status run_operator(rq_program *p, rq_step *s, rq_err *err)
{
    runner r = { p, s };
    s->args.err = err;
    s->args.run_subgraph = run_subgraph;
    s->args.runner = &r;
    for (int i = 0; i < s->args.n_out && s->late; i++)
        if (s->out_form[i] >= 0 && p->forms[s->out_form[i]].made_late)
            rq_tensor_release(&p->forms[s->out_form[i]].t);
    if (err)
        err->code = RQ_OK;
    rq_status st = s->mode == RQ_MODE_TABLE ? rq_int_table_forward(&s->args)
                   : s->mode == RQ_MODE_INT ? s->row->forward_int(&s->args)
                                            : s->row->forward(&s->args);
    for (int i = 0; !st && s->moved && i < s->args.n_out; i++)
        if (s->args.out_q[i])
            look_up(p, s, i);
    if (st && (!err || err->code != st))
        rq_fail(err, st, "node '%s' (%s): %s", s->args.node->name, s->args.node->op, rq_status_text(st));
    return st;
}

static void run_conversion(rq_program *p, rq_step *s)
{
    rq_tensor *x = &p->forms[s->in_form[0]].t, *y = &p->forms[s->out_form[0]].t;
    const rq_qparams *q = rq_graph_qparams(p->g, s->value);
    const rq_form_kind from = (rq_form_kind)(s->in_form[0] % RQ_N_FORMS),
                       to = (rq_form_kind)(s->out_form[0] % RQ_N_FORMS);
    if (from != RQ_FORM_LAST && to != RQ_FORM_LAST) {
        if (s->kind == RQ_STEP_QUANTIZE)
            rq_codes_from_reals_on(p->threads, y, x, q, p->k);
        else
            rq_codes_to_reals_on(p->threads, y, x, q, p->k);
        return;
    }
    rq_relayout r = { .k = p->k,
                      .threads = p->threads,
                      .is_signed = q->dtype == RQ_DTYPE_S8,
                      .scale = q->scale[0],
                      .zp = q->zero_point[0] };
    rq_plan_image(&x->shape, &r.n, &r.c, &r.s);
    if (s->in_form[0] / RQ_N_FORMS != s->out_form[0] / RQ_N_FORMS) /* of another value: rq_plan_flip */
        r.n = r.c = 1, r.s = rq_tensor_count(x);
    if (s->kind == RQ_STEP_QUANTIZE)
        rq_relayout_quantize(&r, y->u8, x->f32);
    else if (s->kind == RQ_STEP_DEQUANTIZE)
        rq_relayout_dequantize(&r, y->f32, x->u8);
    else if (to == RQ_FORM_LAST)
        rq_relayout_to_last(&r, y->u8, x->u8);
    else
        rq_relayout_from_last(&r, y->u8, x->u8);
}

/* Codes of less than a byte may end within one: what is left of it is 0, not what lay there before. */
static void clear_ends(const rq_program *p, const rq_step *s)
{
    for (int i = 0; i < s->args.n_out; i++) {
        const rq_form *f = s->out_form[i] >= 0 ? &p->forms[s->out_form[i]] : NULL;
        if (f && rq_plan_is_packed(f) && f->t.bytes)
            f->t.u8[f->t.bytes - 1] = 0;
    }
}

static rq_status run_step(rq_program *p, rq_step *s, rq_err *err)
{
    if (s->packed)
        clear_ends(p, s);
    double start = p->cfg->profile ? rq_clock_ms() : 0;
    if (s->kind == RQ_STEP_OP)
        RQ_TRY(run_operator(p, s, err));
    else if (s->kind == RQ_STEP_TABLE)
        RQ_TRY(rq_int_table_forward(&s->args));
    else
        run_conversion(p, s);
    if (p->cfg->profile)
        s->ms = (p->adds ? s->ms : 0) + rq_clock_ms() - start;
    for (int i = 0; i < s->args.n_out && p->n_taps; i++)
        if (s->out_form[i] >= 0)
            RQ_TRY(call_taps(p, s->out_form[i] / RQ_N_FORMS, (rq_form_kind)(s->out_form[i] % RQ_N_FORMS), err));
    return RQ_OK;
}

static bool key_holds(const rq_program *p, const rq_segment *seg)
{
    for (int i = 0; i < seg->n_keys; i++) {
        const rq_tensor *was = &seg->keys[i].seen, *is = &p->forms[seg->keys[i].form].t;
        if (was->dtype != is->dtype || !rq_shape_equal(&was->shape, &is->shape))
            return false;
        if (seg->keys[i].content && was->bytes && memcmp(was->data, is->data, was->bytes) != 0)
            return false;
    }
    return true;
}

static rq_status run_segment(rq_program *p, rq_segment *seg, const rq_tensor *bound, rq_err *err)
{
    RQ_TRY(rq_bind_outputs(p, seg, bound, err));
    for (int i = 0; i < seg->n_view; i++) {
        rq_form *f = &p->forms[seg->view[i]];
        const char *data = p->forms[f->view_of].t.data;
        f->t.data = data ? (char *)data + f->at : NULL;
    }
    for (int i = 0; i < seg->n_made && p->n_taps; i++) {
        if (p->forms[seg->made[i]].known)
            RQ_TRY(call_taps(p, seg->made[i] / RQ_N_FORMS, (rq_form_kind)(seg->made[i] % RQ_N_FORMS), err));
    }
    for (int i = 0; i < seg->n_run; i++)
        RQ_TRY(run_step(p, &seg->steps[seg->run[i]], err));
    return RQ_OK;
}

static rq_status take_outputs(rq_program *p, rq_tensor *out, rq_err *err)
{
    for (int i = 0; i < p->g->n_outputs; i++) {
        const rq_form *f = &p->forms[rq_form_id(p->g->outputs[i], RQ_FORM_REAL)];
        if (!f->exists)
            return rq_fail(err, RQ_INTERNAL, "output '%s' was not made", p->g->values[p->g->outputs[i]].name);
        if (f->made_late)
            rq_tensor_share(&out[i], &f->t);
        else if (rq_tensor_copy(&out[i], &f->t))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory copying output '%s'", p->g->values[p->g->outputs[i]].name);
    }
    return RQ_OK;
}

/* A plan for these inputs has begun. */
static void start(rq_program *p, const rq_tensor *in)
{
    if (p->planned && same_start(p, in))
        return;
    rq_program_forget(p);
    start_forms(p, in);
    p->planned = true;
}

/* One more segment, from position `from` of the order. */
static rq_status add_segment(rq_program *p, int from, rq_err *err)
{
    if (!rq_mem_grow(&p->segs, p->n_segs, &p->cap_segs, sizeof *p->segs))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the graph");
    RQ_TRY(rq_plan_segment(p, from, &p->segs[p->n_segs], err));
    p->n_segs++;
    return RQ_OK;
}

rq_status rq_program_plan(rq_program *p, const rq_tensor *in, rq_err *err)
{
    enum { PAGE = 4096 };
    start(p, in);
    if (p->n_segs)
        return RQ_OK;
    const rq_status st = add_segment(p, 0, err);
    if (st) {
        rq_program_forget(p);
        return st;
    }
    rq_segment *seg = p->segs[0];
    for (size_t i = 0; i < seg->block_bytes - seg->scratch_bytes; i += PAGE)
        ((volatile char *)seg->block)[i] = 0;
    for (size_t i = 0; i < seg->scratch_bytes; i += PAGE)
        ((volatile char *)seg->scratch)[i] = 0;
    return RQ_OK;
}

rq_status rq_program_run(rq_program *p, const rq_tensor *in, rq_tensor *out, rq_err *err)
{
    const rq_tensor *bound = out ? NULL : p->bound;
    if (out)
        memset(out, 0, (size_t)p->g->n_outputs * sizeof *out);
    start(p, in);
    feed(p, in);
    rq_status st = p->n_taps ? call_first_taps(p, err) : RQ_OK;
    int from = 0, i = 0;
    do {
        if (st)
            break;
        if (i >= p->n_segs || !key_holds(p, p->segs[i])) {
            drop_segments(p, i);
            st = add_segment(p, from, err);
            if (st)
                break;
        }
        st = run_segment(p, p->segs[i], bound, err);
        from = p->segs[i++]->next_node;
    } while (from < p->n_order);
    if (!st && i < p->n_segs)
        drop_segments(p, i);
    if (!st)
        st = out ? take_outputs(p, out, err) : rq_bind_take(p, bound, err);
    if (st) {
        for (int k = 0; out && k < p->g->n_outputs; k++)
            rq_tensor_release(&out[k]);
        rq_program_forget(p);
    }
    return st;
}
