/* coreml/activations_calibrate.c — the range of every value of a program, seen while it runs on samples here: nothing is kept but
 * two numbers a value, so memory does not grow with samples or values (docs/coreml-facts.md, "Calibration"). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coreml/activations.h"
#include "requant/edit.h"
#include "requant/session.h"
#include "tensor/convert.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to measure ranges");
}

/* ---- ranges ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rq_coreml_seen *)a)->name, ((const rq_coreml_seen *)b)->name);
}

static rq_coreml_seen *find(const rq_coreml_ranges *r, const char *name)
{
    const rq_coreml_seen key = { .name = name };
    return r->n ? bsearch(&key, r->at, (size_t)r->n, sizeof key, by_name) : NULL;
}

const rq_coreml_seen *rq_coreml_ranges_find(const rq_coreml_ranges *r, const char *name)
{
    const rq_coreml_seen *s = find(r, name);
    return s && s->lo <= s->hi ? s : NULL;
}

void rq_coreml_ranges_release(rq_coreml_ranges *r)
{
    rq_arena_release(&r->a);
    *r = (rq_coreml_ranges) { 0 };
}

void rq_coreml_seen_fold(rq_coreml_seen *s, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            continue;
        if (x[i] < s->lo)
            s->lo = x[i];
        if (x[i] > s->hi)
            s->hi = x[i];
    }
}

rq_status rq_coreml_ranges_copy(rq_coreml_ranges *out, const rq_coreml_seen *from, int n, rq_err *err)
{
    *out = (rq_coreml_ranges) { 0 };
    out->at = rq_arena_alloc(&out->a, n > 0 ? (size_t)n : 1, sizeof *out->at);
    bool ok = out->at != NULL;
    for (int i = 0; ok && i < n; i++) {
        out->at[out->n] = from[i];
        out->at[out->n].name = rq_arena_strndup(&out->a, from[i].name, strlen(from[i].name));
        ok = out->at[out->n++].name != NULL;
    }
    if (!ok) {
        rq_coreml_ranges_release(out);
        return no_memory(err);
    }
    qsort(out->at, (size_t)out->n, sizeof *out->at, by_name);
    return RQ_OK;
}

/* ---- whose ranges ---- */

static bool is_measured(const rq_mil_type *t)
{
    return t->kind == RQ_MIL_TENSOR && (t->dtype->dtype == RQ_DTYPE_F16 || t->dtype->dtype == RQ_DTYPE_F32 ||
                                        t->dtype->dtype == RQ_DTYPE_F64 || t->dtype->dtype == RQ_DTYPE_S32);
}

static rq_status add(rq_coreml_ranges *r, int *cap, const char *name, rq_err *err)
{
    if (r->n == *cap)
        return rq_fail(err, RQ_INTERNAL, "more values than were counted");
    r->at[r->n++] = (rq_coreml_seen) { .name = name, .lo = INFINITY, .hi = -INFINITY };
    return RQ_OK;
}

/* Operations that lead to an output, from the last back; marked by rq_flow_value.used. */
static void mark_used(const rq_flow *w)
{
    for (int i = 0; i < w->n_outputs; i++)
        w->outputs[i]->used = true;
    for (const rq_flow_op *op = w->last; op; op = op->prev) {
        bool used = false;
        for (int i = 0; i < op->n_outputs; i++)
            used |= op->outputs[i]->used;
        for (int i = 0; i < op->n_outputs; i++)
            op->outputs[i]->used = used;
        for (int i = 0; used && i < op->n_args; i++)
            for (int k = 0; k < op->args[i].n; k++)
                if (op->args[i].value[k])
                    op->args[i].value[k]->used = true;
    }
}

static bool is_asked(const rq_flow *w, const rq_flow_op *op, const rq_flow_value *v)
{
    return v->used && strcmp(op->type, "const") != 0 && !rq_flow_is_output(w, v) && is_measured(v->type);
}

static rq_status choose(rq_coreml_ranges *r, const rq_flow *w, rq_err *err)
{
    int cap = w->n_inputs;
    mark_used(w);
    for (const rq_flow_op *op = w->first; op; op = op->next)
        cap += op->n_outputs;
    r->at = rq_arena_alloc(&r->a, cap ? (size_t)cap : 1, sizeof *r->at);
    if (!r->at)
        return no_memory(err);
    for (int i = 0; i < w->n_inputs; i++)
        if (is_measured(w->inputs[i]->type))
            RQ_TRY(add(r, &cap, w->inputs[i]->name, err));
    for (const rq_flow_op *op = w->first; op; op = op->next)
        for (int i = 0; i < op->n_outputs; i++)
            if (is_asked(w, op, op->outputs[i]))
                RQ_TRY(add(r, &cap, op->outputs[i]->name, err));
    qsort(r->at, (size_t)r->n, sizeof *r->at, by_name);
    return RQ_OK;
}

/* ---- running ---- */

/* Numbers of any type that is measured. */
static void fold(rq_coreml_seen *s, const rq_tensor *t)
{
    const int64_t n = rq_shape_count(&t->shape);
    for (int64_t i = 0; i < n; i++) {
        float x;
        switch (t->dtype) {
        case RQ_DTYPE_F32:
            x = t->f32[i];
            break;
        case RQ_DTYPE_F16:
            x = rq_convert_f16_to_f32(t->u16[i]);
            break;
        case RQ_DTYPE_F64:
            x = (float)t->f64[i];
            break;
        case RQ_DTYPE_S32:
            x = (float)t->s32[i];
            break;
        case RQ_DTYPE_S64:
            x = (float)t->s64[i];
            break;
        default:
            return;
        }
        rq_coreml_seen_fold(s, &x, 1);
    }
}

static rq_status watch(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    (void)value;
    (void)err;
    fold(arg, t);
    return RQ_OK;
}

/* What is constant in the graph, or was found to be: a session does not show it. */
static bool see_constant(rq_coreml_seen *s, const rq_graph *g)
{
    rq_tensor t;
    if (rq_edit_constant(g, s->name, &t, NULL))
        return false;
    fold(s, &t);
    rq_tensor_release(&t);
    return true;
}

static rq_status tap_all(rq_coreml_ranges *r, rq_session *session, rq_err *err)
{
    const rq_graph *g = rq_session_graph(session);
    for (int i = 0; i < r->n; i++) {
        rq_value_info info;
        if (!see_constant(&r->at[i], g) &&
            !rq_edit_value(g, r->at[i].name, &info, NULL)) /* a value that was folded away is quantized by nobody */
            RQ_TRY(rq_session_tap(session, r->at[i].name, watch, &r->at[i], err));
    }
    return RQ_OK;
}

/* Samples that are run on: all, or some. */
typedef struct samples {
    rq_dataset *d;
    const int64_t *rows;
    int64_t n;
} samples;

static rq_status run_all(rq_session *session, const rq_graph *g, const samples *s, rq_err *err)
{
    const int n_out = rq_graph_n_outputs(g);
    const int64_t batch = rq_dataset_unit(s->d);
    rq_tensor *out = rq_mem_zalloc(n_out ? (size_t)n_out : 1, sizeof *out);
    int64_t *rows = rq_mem_zalloc((size_t)batch, sizeof *rows);
    rq_status st = out && rows ? RQ_OK : no_memory(err);
    if (!st && s->n < batch)
        st = rq_fail(err, RQ_BAD_DATA, "%s: no samples to calibrate on", rq_dataset_path(s->d));
    for (int64_t at = 0; !st && at + batch <= s->n; at += batch) {
        const rq_feed *feeds;
        int n_feeds;
        for (int64_t i = 0; i < batch; i++)
            rows[i] = s->rows ? s->rows[at + i] : at + i;
        st = rq_dataset_read(s->d, rows, batch, &feeds, &n_feeds, err);
        if (!st)
            st = rq_session_run(session, feeds, n_feeds, out, err);
        for (int i = 0; i < n_out; i++)
            rq_tensor_release(&out[i]);
    }
    rq_mem_free(rows);
    rq_mem_free(out);
    return st;
}

/* ---- concat ---- */

/* What a concat takes and gives has one range. Groups that share a value are one, found in the order of the concats: a group that joins two
 * earlier ones goes to the first alone, as there. */
typedef struct groups {
    int *first; /* [values with a range] the first group that has it; -1: none */
    int *of;    /* [n] group of a member */
    rq_coreml_seen **member;
    int n, n_groups;
} groups;

static bool add_member(groups *q, int cap, const rq_coreml_ranges *r, rq_coreml_seen *s, int group)
{
    if (q->n == cap)
        return false;
    q->member[q->n] = s;
    q->of[q->n++] = group;
    int *first = &q->first[s - r->at];
    if (*first < 0 || group < *first)
        *first = group;
    return true;
}

/* The named values of a concat that have ranges, what it gives last; the count. */
static int members(const rq_coreml_ranges *r, const rq_flow_op *op, rq_coreml_seen **out)
{
    int n = 0;
    for (int i = 0; i < op->n_args; i++)
        for (int k = 0; !strcmp(op->args[i].param, "values") && k < op->args[i].n; k++) {
            const rq_flow_value *v = op->args[i].value[k];
            rq_coreml_seen *s = v ? find(r, v->name) : NULL;
            if (s)
                out[n++] = s;
        }
    rq_coreml_seen *s = find(r, op->outputs[0]->name);
    if (s)
        out[n++] = s;
    return n;
}

static bool is_concat(const rq_flow *w, const rq_flow_op *op)
{
    return !strcmp(op->type, "concat") && op->n_outputs == 1 && op->outputs[0]->used &&
           !rq_flow_is_output(w, op->outputs[0]);
}

/* Group after group: a value of two takes the range of the earlier one to the later. */
static rq_status join(const groups *q, rq_flow *w, rq_err *err)
{
    int *at = rq_arena_alloc(&w->a, (size_t)q->n_groups + 2, sizeof *at);
    rq_coreml_seen **sorted = rq_arena_alloc(&w->a, (size_t)q->n + 1, sizeof *sorted);
    if (!at || !sorted)
        return no_memory(err);
    for (int i = 0; i < q->n; i++)
        at[q->of[i] + 2]++;
    for (int i = 2; i < q->n_groups + 2; i++)
        at[i] += at[i - 1];
    for (int i = 0; i < q->n; i++)
        sorted[at[q->of[i] + 1]++] = q->member[i];
    for (int k = 0; k < q->n_groups; k++) {
        float lo = INFINITY, hi = -INFINITY;
        for (int i = at[k]; i < at[k + 1]; i++) {
            lo = fminf(lo, sorted[i]->lo);
            hi = fmaxf(hi, sorted[i]->hi);
        }
        for (int i = at[k]; lo <= hi && i < at[k + 1]; i++) {
            if (!(sorted[i]->lo <= sorted[i]->hi))
                continue;
            sorted[i]->lo = lo;
            sorted[i]->hi = hi;
        }
    }
    return RQ_OK;
}

static rq_status harmonize(rq_coreml_ranges *r, rq_flow *w, rq_err *err)
{
    int cap = 0;
    for (const rq_flow_op *op = w->first; op; op = op->next)
        for (int i = 0; is_concat(w, op) && i < op->n_args; i++)
            cap += op->args[i].n + 1;
    groups q = { .first = rq_arena_alloc(&w->a, (size_t)r->n + 1, sizeof(int)),
                 .of = rq_arena_alloc(&w->a, (size_t)cap + 1, sizeof(int)),
                 .member = rq_arena_alloc(&w->a, (size_t)cap + 1, sizeof(rq_coreml_seen *)) };
    rq_coreml_seen **some = rq_arena_alloc(&w->a, (size_t)cap + 1, sizeof *some);
    if (!q.first || !q.of || !q.member || !some)
        return no_memory(err);
    for (int i = 0; i < r->n; i++)
        q.first[i] = -1;
    for (const rq_flow_op *op = w->first; op; op = op->next) {
        const int n = is_concat(w, op) ? members(r, op, some) : 0;
        int group = -1;
        for (int i = 0; i < n; i++) {
            const int first = q.first[some[i] - r->at];
            if (first >= 0 && (group < 0 || first < group))
                group = first;
        }
        if (n && group < 0)
            group = q.n_groups++;
        for (int i = 0; i < n; i++)
            if (!add_member(&q, cap, r, some[i], group))
                return rq_fail(err, RQ_INTERNAL, "more values in concats than were counted");
    }
    return join(&q, w, err);
}

/* ---- all ---- */

static rq_status measure(rq_coreml_ranges *r, const rq_coreml *m, const samples *s, rq_flow *w, rq_err *err)
{
    rq_graph *g;
    rq_session *session = NULL;
    const rq_session_cfg cfg = { .literal = true };
    RQ_TRY(choose(r, w, err));
    rq_status st = rq_coreml_to_graph(&g, m, w->f->name, err);
    if (st)
        return st == RQ_NO_MEMORY ? no_memory(err) : st;
    st = rq_session_create(&session, g, &cfg, err);
    if (!st)
        st = tap_all(r, session, err);
    if (!st)
        st = run_all(session, g, s, err);
    rq_session_destroy(session);
    rq_graph_destroy(g);
    return st ? st : harmonize(r, w, err);
}

rq_status rq_coreml_ranges_measure(rq_coreml_ranges *out, const rq_coreml *m, rq_dataset *d, const int64_t *rows,
                                   int64_t n_rows, rq_err *err)
{
    rq_arena names = { 0 };
    rq_flow_counts counts = { .a = &names };
    rq_flow w;
    *out = (rq_coreml_ranges) { 0 };
    /* nothing is written back: the list only shows who uses what */
    rq_status st = rq_flow_open(&w, (rq_coreml *)m, m->program.functions[0], &counts, err);
    if (!st)
        st = measure(out, m, &(samples) { d, rows, rows ? n_rows : rq_dataset_count(d) }, &w, err);
    rq_flow_release(&w);
    rq_arena_release(&names);
    if (st)
        rq_coreml_ranges_release(out);
    return st;
}
