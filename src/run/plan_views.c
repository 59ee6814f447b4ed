/* run/plan_views.c — nodes that cost nothing: their outputs are bytes of their input, in the order in which they are to lie. Reshape and its like always;
 * a Transpose that moves axes of size 1 alone, or stands between channels-last codes and a file that lies so; Split and Slice along the axis
 * that is outermost in memory. Codes stay codes where parameters are the same; s8 ones change their top bit on the way between the orders. */
#include <string.h>

#include "ops/last.h"
#include "run/planner.h"

/* A Cast to the type the input has already, as exporters leave them around everything. */
static bool is_idle_cast(rq_planner *b, const rq_node *n, const rq_plan_sizes *s)
{
    return strcmp(n->op, "Cast") == 0 && !rq_graph_qparams(b->p->g, n->in[0]) &&
           rq_plan_any_form(b, n->in[0])->t.dtype == s->dtype[0];
}

static bool is(const rq_node *n, const char *op)
{
    return !strcmp(n->op, op) && !n->domain[0];
}

/* Input 0 and outputs are reals, or codes with one pair for all of them. */
static bool keeps_codes(rq_planner *b, const rq_node *n)
{
    const rq_qparams *x = rq_graph_qparams(b->p->g, n->in[0]);
    if (x && x->axis != RQ_PER_TENSOR)
        return false;
    for (int i = 0; i < n->n_out; i++) {
        const rq_qparams *y = rq_graph_qparams(b->p->g, n->out[i]);
        if (n->out[i] != RQ_NONE && (rq_plan_is_tapped(b, n->out[i]) || !x != !y || (x && !rq_qparams_equal(x, y))))
            return false;
    }
    return true;
}

/* The form of an annotated value that is there, channels-last before the order of the file. */
static rq_form_kind codes_of(rq_planner *b, rq_id v)
{
    return rq_plan_form(b, v, RQ_FORM_LAST)->exists && !rq_plan_form(b, v, RQ_FORM_CODE)->exists ? RQ_FORM_LAST
                                                                                                 : RQ_FORM_CODE;
}

static rq_status add(rq_planner *b, rq_id from, rq_form_kind from_kind, size_t at, rq_id to, rq_form_kind to_kind,
                     const rq_shape *shape)
{
    RQ_TRY(rq_plan_need(b, from, from_kind));
    const rq_dtype x = rq_plan_form(b, from, from_kind)->t.dtype;
    const rq_qparams *q = rq_graph_qparams(b->p->g, to);
    const rq_dtype y = to_kind == RQ_FORM_LAST ? RQ_DTYPE_U8 : to_kind == RQ_FORM_CODE ? q->dtype : x;
    if (x != y)
        return rq_plan_flip(b, rq_form_id(from, from_kind), to, to_kind, y, shape);
    return rq_plan_make_view(b, rq_form_id(from, from_kind), at, to, to_kind, y, shape);
}

/* ---- Reshape and its like ---- */

/* Are images of both shapes the same bytes channels-last? */
static bool is_image_still(const rq_shape *x, const rq_shape *y)
{
    return y->rank >= 3 && x->dim[0] == y->dim[0] && x->dim[1] == y->dim[1];
}

static rq_status reshape(rq_planner *b, const rq_node *n, const rq_shape *y, bool *done)
{
    const rq_id x = n->in[0];
    rq_form_kind kind = RQ_FORM_REAL;
    *done = true;
    if (rq_graph_qparams(b->p->g, x)) {
        kind = codes_of(b, x);
        if (kind == RQ_FORM_LAST && !is_image_still(&rq_plan_form(b, x, kind)->t.shape, y))
            kind = RQ_FORM_CODE;
    }
    return add(b, x, kind, 0, n->out[0], kind, y);
}

/* ---- Transpose ---- */

/* The axes of the input, as they lie one within the other in a tensor of sizes s[0..rank) whose axis i is axis perm[i] of the input; those of size 1
 * left out. */
static int axes_in_memory(const rq_shape *s, const int64_t *perm, bool last, int *axes)
{
    int at[RQ_MAX_RANK] = { 0 }, n = 0;
    for (int i = 0; i < s->rank; i++)
        at[rq_last_axis(last, i, s->rank)] = i;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[at[i]] != 1)
            axes[n++] = perm ? (int)perm[at[i]] : at[i];
    return n;
}

static bool same_order(const rq_shape *x, bool x_last, const rq_shape *y, const int64_t *perm, bool y_last)
{
    int a[RQ_MAX_RANK], c[RQ_MAX_RANK];
    const int n = axes_in_memory(x, NULL, x_last, a);
    return n == axes_in_memory(y, perm, y_last, c) && !memcmp(a, c, (size_t)n * sizeof *a);
}

static rq_status transpose(rq_planner *b, const rq_node *n, const rq_shape *y, bool *done)
{
    const rq_id from = n->in[0];
    const rq_shape x = rq_plan_any_form(b, from)->t.shape;
    const rq_qparams *q = rq_graph_qparams(b->p->g, from);
    int count;
    const int64_t *perm = rq_attr_ints(n, RQ_WORD_perm, &count);
    int64_t back[RQ_MAX_RANK] = { 0 };
    for (int i = 0; i < x.rank; i++) /* perm as it was checked, counted from 0 */
        back[i] = perm ? (perm[i] < 0 ? perm[i] + x.rank : perm[i]) : x.rank - 1 - i;
    const bool may =
        q && (q->dtype == RQ_DTYPE_U8 || q->dtype == RQ_DTYPE_S8) && x.rank >= 3 && !(b->p->plain & RQ_PLAIN_NO_LAST);
    const rq_form_kind kind = q ? codes_of(b, from) : RQ_FORM_REAL;
    const bool last = kind == RQ_FORM_LAST;
    if (same_order(&x, last, y, back, last))
        return *done = true, add(b, from, kind, 0, n->out[0], kind, y);
    if (may && same_order(&x, last, y, back, !last))
        return *done = true, add(b, from, kind, 0, n->out[0], last ? RQ_FORM_CODE : RQ_FORM_LAST, y);
    return RQ_OK;
}

/* ---- Split, Slice ---- */

/* Bytes from one index of `axis` to the next where nothing but that axis has more than one index around it; -1: something has. */
static int64_t outermost_step(const rq_form *x, bool last, int axis)
{
    const rq_shape s = rq_last_shape(last, &x->t.shape);
    const int at = rq_last_axis(last, axis, s.rank), bits = rq_dtype_bits(x->t.dtype);
    return rq_shape_span(&s, 0, at) == 1 && bits % 8 == 0 ? rq_shape_span(&s, at + 1, s.rank) * (bits / 8) : -1;
}

/* Which form of x is cut, and the step along `axis`; kind RQ_N_FORMS: none. */
static rq_form_kind form_to_cut(rq_planner *b, rq_id x, int axis, int64_t *step)
{
    const bool q = rq_graph_qparams(b->p->g, x) != NULL;
    const rq_form_kind kinds[2] = { q ? codes_of(b, x) : RQ_FORM_REAL, RQ_FORM_CODE };
    for (int i = 0; i < 1 + q; i++) {
        const rq_form *f = rq_plan_form(b, x, kinds[i]);
        if (!f->exists)
            continue;
        *step = outermost_step(f, kinds[i] == RQ_FORM_LAST, axis);
        if (*step >= 0)
            return kinds[i];
    }
    return RQ_N_FORMS;
}

static rq_status split(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, bool *done)
{
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), rq_plan_any_form(b, n->in[0])->t.shape.rank);
    int64_t step, at = 0;
    const rq_form_kind kind = form_to_cut(b, n->in[0], axis, &step);
    if (kind == RQ_N_FORMS)
        return RQ_OK;
    for (int i = 0; i < n->n_out; at += s->shape[i++].dim[axis] * step)
        if (n->out[i] != RQ_NONE)
            RQ_TRY(add(b, n->in[0], kind, (size_t)at, n->out[i], kind, &s->shape[i]));
    *done = true;
    return RQ_OK;
}

/* The i-th of a list that a Slice has as an attribute, or as input `in` since opset 10; false: it is not known. */
static bool list_at(rq_planner *b, const rq_node *n, rq_word name, int in, int i, int64_t *v)
{
    int count;
    const int64_t *list = rq_attr_ints(n, name, &count);
    if (list && i < count)
        return *v = list[i], true;
    if (in >= n->n_in || n->in[in] == RQ_NONE)
        return false;
    const rq_form *f = rq_plan_form(b, n->in[in], RQ_FORM_REAL);
    if (!f->known || i >= rq_tensor_count(&f->t))
        return false;
    return *v = rq_tensor_get_int(&f->t, i), true;
}

/* Its lists are all there: a list that is given and not known says nothing of its steps. */
static bool is_known(rq_planner *b, const rq_node *n)
{
    for (int i = 1; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && !rq_plan_form(b, n->in[i], RQ_FORM_REAL)->known)
            return false;
    return true;
}

bool rq_plan_slice_start(rq_planner *b, const rq_node *n, const rq_shape *x, const rq_shape *y, int *axis,
                         int64_t *start)
{
    int64_t v, at;
    bool found;
    if (!is_known(b, n))
        return false;
    *axis = -1;
    *start = 0;
    for (int i = 0; i < x->rank; i++)
        if (x->dim[i] != y->dim[i]) {
            if (*axis >= 0)
                return false;
            *axis = i;
        }
    found = *axis < 0;
    for (int i = 0; list_at(b, n, RQ_WORD_starts, 1, i, &v); i++) {
        int64_t of = i, step = 1;
        list_at(b, n, RQ_WORD_axes, 3, i, &of);
        if (list_at(b, n, RQ_WORD_steps, 4, i, &step) && step != 1)
            return false;
        at = rq_infer_axis(of, x->rank);
        if (at != *axis)
            continue;
        v = v < 0 ? v + x->dim[at] : v;
        *start = v < 0 ? 0 : v > x->dim[at] ? x->dim[at] : v;
        found = true;
    }
    return found;
}

static rq_status slice(rq_planner *b, const rq_node *n, const rq_shape *y, bool *done)
{
    const rq_shape x = rq_plan_any_form(b, n->in[0])->t.shape;
    int axis;
    int64_t start, step;
    if (!rq_plan_slice_start(b, n, &x, y, &axis, &start))
        return RQ_OK;
    if (axis < 0)
        return reshape(b, n, y, done);
    const rq_form_kind kind = form_to_cut(b, n->in[0], axis, &step);
    if (kind == RQ_N_FORMS)
        return RQ_OK;
    *done = true;
    return add(b, n->in[0], kind, (size_t)(start * step), n->out[0], kind, y);
}

/* ---- */

/* The node stands in reports, though no step does it. */
static rq_status note(rq_planner *b, const rq_node *n)
{
    rq_segment *s = b->seg;
    if (!rq_mem_grow(&s->frees, s->n_frees, &s->cap_frees, sizeof *s->frees))
        return rq_plan_no_memory(b);
    s->frees[s->n_frees++] = (rq_free_node) { n, s->n_steps, rq_graph_qparams(b->p->g, n->in[0]) != NULL };
    return RQ_OK;
}

rq_status rq_plan_view(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, bool *done)
{
    *done = false;
    if (n->n_in < 1 || n->in[0] == RQ_NONE || n->n_out < 1 || n->out[0] == RQ_NONE || !keeps_codes(b, n))
        return RQ_OK;
    const bool one = n->n_out == 1 || n->out[1] == RQ_NONE;
    if (one && is_idle_cast(b, n, s))
        return reshape(b, n, &s->shape[0], done);
    if (one && n->row->flags & RQ_OP_VIEW)
        RQ_TRY(reshape(b, n, &s->shape[0], done));
    else if (b->p->plain & RQ_PLAIN_PLACES)
        return RQ_OK;
    else if (is(n, "Transpose"))
        RQ_TRY(transpose(b, n, &s->shape[0], done));
    else if (is(n, "Split"))
        RQ_TRY(split(b, n, s, done));
    else if (is(n, "Slice"))
        RQ_TRY(slice(b, n, &s->shape[0], done));
    return *done ? note(b, n) : RQ_OK;
}
