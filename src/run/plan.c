/* run/plan.c — from nodes to steps. For each node in order: infer its sizes with what is known, evaluate it at once
 * if all of its inputs are known, else make its output a view or the node a step (plan_step.c). Then the passes over all steps. See program.h. */
#include "run/planner.h"

/* A value computed while planning may take this much; larger ones are made when running. */
enum { FOLD_BYTES = 64 << 20 };

/* ---- one node ---- */

/* Infer the outputs of n. `content`: with the bytes of inputs that only a run can know (the start of a segment). */
static rq_status infer(rq_planner *b, const rq_node *n, bool content, rq_plan_sizes *out)
{
    rq_arena *a = &b->seg->arena;
    const rq_graph *g = b->p->g;
    const rq_tensor **in = rq_arena_alloc(a, (size_t)n->n_in, sizeof *in);
    rq_tensor *views = rq_arena_alloc(a, (size_t)n->n_in, sizeof *views);
    out->dtype = rq_arena_alloc(a, (size_t)n->n_out, sizeof *out->dtype);
    out->shape = rq_arena_alloc(a, (size_t)n->n_out, sizeof *out->shape);
    if (!in || !views || !out->dtype || !out->shape)
        return rq_plan_no_memory(b);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_form *f = rq_plan_any_form(b, n->in[i]);
        if (!f)
            return rq_fail(b->err, RQ_INTERNAL, "node '%s' (%s): input '%s' is not made yet", n->name, n->op,
                           g->values[n->in[i]].name);
        views[i] = f->t;
        if (rq_graph_qparams(g, n->in[i])) {
            views[i].dtype = RQ_DTYPE_F32; /* operators see reals */
            views[i].data = NULL;
        } else if (!f->known && !content) {
            views[i].data = NULL;
        }
        in[i] = &views[i];
    }
    RQ_TRY(rq_ops_infer_node(g, n, in, out->dtype, out->shape, b->err));
    out->complete = true;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            out->complete &= rq_shape_is_known(&out->shape[i]) && out->dtype[i] != RQ_DTYPE_NONE;
    return RQ_OK;
}

static bool all_known(rq_planner *b, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        bool known = false;
        for (int k = 0; k < RQ_N_FORMS; k++)
            known |= rq_plan_form(b, n->in[i], (rq_form_kind)k)->known;
        if (!known && !(n->row->flags & RQ_OP_SHAPE_ONLY))
            return false;
    }
    if (rq_attr_any_body(n))
        return false;
    return !(n->row->flags & (RQ_OP_KEEP | RQ_OP_DYNAMIC));
}

/* ---- taps, outputs, segments ---- */

/* A tapped value, or a graph output, wants its form as soon as it can be had. */
static rq_status need_asked_for(rq_planner *b, rq_id value)
{
    const rq_graph *g = b->p->g;
    bool annotated = rq_graph_qparams(g, value) != NULL;
    const rq_form *f = rq_plan_any_form(b, value);
    if (!f || f->made_late)
        return RQ_OK; /* of unknown size still: converted in the next segment */
    for (int i = 0; i < b->p->n_taps; i++)
        if (b->p->taps[i].value == value)
            RQ_TRY(rq_plan_need(b, value, b->p->taps[i].fn_codes && annotated ? RQ_FORM_CODE : RQ_FORM_REAL));
    if (rq_graph_is_output(g, value))
        RQ_TRY(rq_plan_need(b, value, RQ_FORM_REAL));
    return RQ_OK;
}

static rq_status add_key(rq_planner *b, int32_t form, bool content)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->keys, s->n_keys, &s->cap_keys, sizeof *s->keys))
        return rq_plan_no_memory(b);
    rq_key *key = &s->keys[s->n_keys];
    *key = (rq_key) { .form = form, .content = content, .seen = b->p->forms[form].t };
    key->seen.storage = NULL;
    if (content && rq_tensor_copy(&key->seen, &b->p->forms[form].t))
        return rq_plan_no_memory(b);
    s->n_keys++;
    return RQ_OK;
}

/* The first node of a segment may look at content: what it looked at becomes part of the key. */
static rq_status key_content(rq_planner *b, const rq_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_form *f = rq_plan_form(b, n->in[i], RQ_FORM_REAL);
        if (f->fed && !f->t.data && f->t.bytes)
            return rq_fail(b->err, RQ_BAD_DATA,
                           "node '%s' (%s): the size of its output depends on input '%s', which is not bound", n->name,
                           n->op, b->p->g->values[n->in[i]].name);
        if (f->exists && !f->known && f->t.dtype != RQ_DTYPE_F32)
            RQ_TRY(add_key(b, rq_form_id(n->in[i], RQ_FORM_REAL), true));
    }
    return RQ_OK;
}

/* Plan the node at position b->at. *end: the segment ends, before this node (at not advanced) or after it. */
static rq_status plan_node(rq_planner *b, bool first, bool *end)
{
    const rq_graph *g = b->p->g;
    const rq_node *n = &g->nodes[b->p->order[b->at]];
    rq_form_kind from, to;
    rq_plan_sizes s = { 0 };
    if (n->n_out == 1 && n->out[0] != RQ_NONE &&
        (rq_plan_form(b, n->out[0], RQ_FORM_CODE)->exists || rq_plan_form(b, n->out[0], RQ_FORM_LAST)->exists)) {
        b->at++; /* made together with the node before it */
        return RQ_OK;
    }
    if (rq_plan_is_alias(b, n, &from, &to) && !rq_plan_is_tapped(b, n->out[0])) {
        const rq_form *x = rq_plan_any_form(b, n->in[0]);
        const rq_qparams *q = rq_graph_qparams(g, from == RQ_FORM_CODE ? n->in[0] : n->out[0]);
        const rq_shape shape = x->t.shape;
        b->at++;
        RQ_TRY(rq_plan_need(b, n->in[0], from));
        RQ_TRY(rq_plan_make_view(b, rq_form_id(n->in[0], from), 0, n->out[0], to, q->dtype, &shape));
        return need_asked_for(b, n->out[0]);
    }
    RQ_TRY(infer(b, n, false, &s));
    bool dynamic = n->row->flags & RQ_OP_DYNAMIC;
    if (!s.complete && !dynamic) {
        if (!first) {
            *end = true; /* run what there is, then look at the content */
            return RQ_OK;
        }
        RQ_TRY(infer(b, n, true, &s));
        if (!s.complete)
            return rq_fail(b->err, RQ_BAD_SHAPE, "node '%s' (%s): the size of its output cannot be determined", n->name,
                           n->op);
        RQ_TRY(key_content(b, n));
    }
    b->at++;
    size_t bytes = 0;
    for (int i = 0; i < n->n_out && !dynamic; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        if (rq_shape_check(&s.shape[i]))
            return rq_fail(b->err, RQ_BAD_SHAPE, "node '%s' (%s): its output would be too large", n->name, n->op);
        bytes += rq_shape_bytes(&s.shape[i], s.dtype[i]);
    }
    bool added = false;
    const rq_node *both;
    RQ_TRY(rq_plan_with_bias(b, n, &s, &both));
    if (both) {
        RQ_TRY(rq_plan_add_operator(b, both, &s, true, &added));
        n = added ? both : n;
    }
    if (added) {
        /* the Add is done, too */
    } else if (all_known(b, n) && bytes <= FOLD_BYTES) {
        RQ_TRY(rq_plan_evaluate(b, n, &s));
    } else {
        if (!dynamic)
            RQ_TRY(rq_plan_view(b, n, &s, &added));
        if (!added)
            RQ_TRY(rq_plan_add_operator(b, n, &s, false, &added));
        *end = dynamic;
    }
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            RQ_TRY(need_asked_for(b, n->out[i]));
    return RQ_OK;
}

/* Values that stand before any node (inputs, constants), or were made by the dynamic operator that ended the segment
 * before: they are known in size only now. */
static rq_status start_segment(rq_planner *b, int from)
{
    const rq_graph *g = b->p->g;
    if (from == 0) {
        for (rq_id v = 0; v < g->n_values; v++)
            if (rq_plan_any_form(b, v))
                RQ_TRY(need_asked_for(b, v));
        return RQ_OK;
    }
    const rq_node *n = &g->nodes[b->p->order[from - 1]];
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rq_form_kind kind = rq_plan_real_target(g, n->out[i]);
        if (!rq_plan_form(b, n->out[i], kind)->made_late)
            continue;
        RQ_TRY(add_key(b, rq_form_id(n->out[i], kind), false));
        if (kind == RQ_FORM_RAW && b->p->last_use[n->out[i]] >= from)
            RQ_TRY(rq_plan_need(b, n->out[i], RQ_FORM_CODE));
        for (int k = 0; k < b->p->n_taps; k++)
            if (b->p->taps[k].value == n->out[i])
                RQ_TRY(rq_plan_need(b, n->out[i],
                                    b->p->taps[k].fn_codes && kind == RQ_FORM_RAW ? RQ_FORM_CODE : RQ_FORM_REAL));
        if (rq_graph_is_output(g, n->out[i]))
            RQ_TRY(rq_plan_need(b, n->out[i], RQ_FORM_REAL));
    }
    return RQ_OK;
}

/* What a run must do for the outputs of s beforehand. */
static void note_outputs(const rq_planner *b, rq_step *s)
{
    for (int i = 0; i < s->args.n_out; i++)
        if (s->out_form[i] >= 0) {
            s->late |= b->p->forms[s->out_form[i]].made_late;
            s->packed |= rq_plan_is_packed(&b->p->forms[s->out_form[i]]);
        }
}

/* Steps that do the work of others, places, and what is left to run. */
static rq_status finish(rq_planner *b)
{
    rq_segment *seg = b->seg;
    rq_arena work = { 0 };
    rq_status st = RQ_OK;
    rq_plan_keep_for_later(b);
    if (!(b->p->plain & RQ_PLAIN_STEPS))
        st = rq_plan_dynamic(b, &work);
    if (!st && !(b->p->plain & RQ_PLAIN_STEPS))
        st = rq_plan_float(b, &work);
    if (!st && !(b->p->plain & RQ_PLAIN_STEPS))
        st = rq_plan_regions(b, &work);
    if (!st && !(b->p->plain & RQ_PLAIN_STEPS))
        st = rq_plan_posts(b, &work);
    if (!st && !(b->p->plain & (RQ_PLAIN_STEPS | RQ_PLAIN_PLACES)))
        st = rq_plan_join(b, &work);
    rq_arena_release(&work);
    if (st)
        return st;
    rq_plan_share(b);
    seg->run = rq_arena_alloc(&seg->arena, (size_t)seg->n_steps + 1, sizeof *seg->run);
    if (!seg->run || rq_memory_plan(b->p, seg) || rq_bind_plan(b->p, seg) || rq_bind_views(b->p, seg))
        return rq_plan_no_memory(b);
    for (int i = 0; i < seg->n_steps; i++)
        if (!seg->steps[i].gone) {
            seg->run[seg->n_run++] = i;
            note_outputs(b, &seg->steps[i]);
        }
    rq_plan_bind_posts(b);
    return RQ_OK;
}

rq_status rq_plan_segment(rq_program *p, int from, rq_segment **out, rq_err *err)
{
    rq_err own = { 0 };
    rq_planner b = { .p = p, .at = from, .err = &own };
    rq_status st = RQ_NO_MEMORY;
    b.seg = rq_mem_zalloc(1, sizeof *b.seg);
    if (!b.seg)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory planning the graph");
    bool end = false;
    st = start_segment(&b, from);
    for (bool first = true; !st && !end && b.at < p->n_order; first = false)
        st = plan_node(&b, first, &end);
    b.seg->next_node = b.at;
    if (!st)
        st = finish(&b);
    if (st) {
        rq_plan_segment_destroy(p, b.seg);
        return rq_fail(err, st, "%s", own.code ? own.text : rq_status_text(st));
    }
    *out = b.seg;
    return RQ_OK;
}

void rq_plan_segment_destroy(rq_program *p, rq_segment *seg)
{
    for (int i = 0; i < seg->n_steps; i++) {
        rq_step *s = &seg->steps[i];
        rq_plan_release_state(s);
        for (int k = 0; s->child && k < s->args.node->n_attr; k++)
            rq_program_destroy(s->child[k]);
    }
    for (int i = 0; i < seg->n_keys; i++)
        rq_tensor_release(&seg->keys[i].seen);
    for (int i = 0; i < seg->n_made; i++) {
        rq_form *f = &p->forms[seg->made[i]];
        rq_tensor_release(&f->t);
        *f = rq_form_none();
    }
    rq_packs_hand_on(&p->packs, &seg->packs);
    rq_mem_free(seg->steps);
    rq_mem_free(seg->frees);
    rq_mem_free(seg->keys);
    rq_mem_free(seg->made);
    rq_mem_free(seg->block);
    rq_mem_free(seg->scratch);
    rq_arena_release(&seg->arena);
    rq_mem_free(seg);
}
