/* run/session_bind.c — sessions in somebody's program: what goes in and out, buffers of the caller's, plans ahead of the first run. */
#include <string.h>

#include "base/nearest.h"
#include "run/feeds.h"
#include "run/session_priv.h"

/* ---- what goes in and out ---- */

int rq_session_n_inputs(const rq_session *s)
{
    return s->g->n_inputs;
}

int rq_session_n_outputs(const rq_session *s)
{
    return s->g->n_outputs;
}

/* Type and shape as planned, where they are. */
static rq_value_info as_planned(const rq_session *s, rq_value_info info, rq_id v, rq_form_kind kind)
{
    const rq_program *p = s->program;
    const rq_form *f = &p->forms[rq_form_id(v, kind)];
    if (p->planned && !s->guessed && f->exists && f->t.dtype != RQ_DTYPE_NONE) {
        info.dtype = f->t.dtype;
        info.shape = f->t.shape;
        if (s->batch.n)
            info.shape.dim[0] = s->batch.n; /* of which the plan is for a part */
    }
    return info;
}

rq_value_info rq_session_input(const rq_session *s, int i)
{
    const rq_id v = s->g->inputs[i];
    return as_planned(s, rq_graph_input(s->g, i), v, rq_graph_qparams(s->g, v) ? RQ_FORM_RAW : RQ_FORM_REAL);
}

rq_value_info rq_session_output(const rq_session *s, int i)
{
    return as_planned(s, rq_graph_output(s->g, i), s->g->outputs[i], RQ_FORM_REAL);
}

/* ---- binding ---- */

static rq_status find(const rq_session *s, const rq_id *ids, int n, const char *what, const char *name, int *at,
                      rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name);
    for (*at = 0; *at < n; ++*at) {
        if (!strcmp(s->g->values[ids[*at]].name, name))
            return RQ_OK;
        rq_nearest_try(&near, s->g->values[ids[*at]].name);
    }
    return rq_fail(err, RQ_NOT_FOUND, "the model has no %s '%s'%s", what, name, rq_nearest_hint(&near, hint));
}

/* Is there a block of the right size where t says? */
static rq_status check_block(const char *what, const char *name, const rq_tensor *t, rq_err *err)
{
    const size_t bytes = rq_shape_bytes(&t->shape, t->dtype), element = (size_t)rq_dtype_bits(t->dtype) / 8;
    if (t->bytes != bytes)
        return rq_fail(err, RQ_BAD_DATA, "what is bound to %s '%s' has %zu bytes, its type and shape take %zu", what,
                       name, t->bytes, bytes);
    if (!t->data && bytes)
        return rq_fail(err, RQ_BAD_DATA, "what is bound to %s '%s' has no bytes (its data is NULL)", what, name);
    if (element > 1 && (uintptr_t)t->data % element)
        return rq_fail(err, RQ_BAD_DATA,
                       "what is bound to %s '%s' lies at an address that is not a multiple of %zu, the size of an %s",
                       what, name, element, rq_dtype_name(t->dtype));
    return RQ_OK;
}

static rq_status bind(rq_session *s, const rq_id *ids, int n, const char *what, rq_tensor *slots, const char *name,
                      const rq_tensor *t, rq_err *err)
{
    int i;
    RQ_TRY(find(s, ids, n, what, name, &i, err));
    if (!t) {
        slots[i] = (rq_tensor) { 0 };
        return RQ_OK;
    }
    RQ_TRY(rq_feeds_check(&s->g->values[ids[i]], what, t, err));
    RQ_TRY(check_block(what, name, t, err));
    slots[i] = *t;
    slots[i].storage = NULL;
    return RQ_OK;
}

rq_status rq_session_bind_input(rq_session *s, const char *name, const rq_tensor *t, rq_err *err)
{
    return bind(s, s->g->inputs, s->g->n_inputs, "input", s->bound, name, t, err);
}

rq_status rq_session_bind_output(rq_session *s, const char *name, const rq_tensor *t, rq_err *err)
{
    return bind(s, s->g->outputs, s->g->n_outputs, "output", s->bound + s->g->n_inputs, name, t, err);
}

rq_status rq_session_run_bound(rq_session *s, rq_err *err)
{
    for (int i = 0; i < s->g->n_inputs; i++)
        if (s->bound[i].dtype == RQ_DTYPE_NONE && s->g->values[s->g->inputs[i]].constant.dtype == RQ_DTYPE_NONE)
            return rq_fail(err, RQ_BAD_DATA, "nothing is bound to input '%s'", s->g->values[s->g->inputs[i]].name);
    s->program->bound = s->bound + s->g->n_inputs;
    s->guessed = false;
    return rq_batch_run(&s->batch, s->program, s->bound, NULL, err);
}

/* ---- planning ahead ---- */

/* *t becomes what the model states of input v, with one sample where their number is open and `one`; false: it does not state all sizes. */
static bool state(rq_tensor *t, const rq_value *v, bool one)
{
    rq_shape shape = v->shape;
    if (one && shape.rank > 0 && shape.dim[0] < 0)
        shape.dim[0] = 1;
    if (v->dtype == RQ_DTYPE_NONE || !rq_shape_is_known(&shape))
        return false;
    *t = rq_tensor_view(v->dtype, &shape, NULL);
    return true;
}

rq_status rq_session_prepare(rq_session *s, const rq_feed *in, int n_in, rq_err *err)
{
    memset(s->feeds, 0, (size_t)s->g->n_inputs * sizeof *s->feeds);
    for (int k = 0; k < n_in; k++) {
        int i;
        RQ_TRY(find(s, s->g->inputs, s->g->n_inputs, "input", in[k].name, &i, err));
        RQ_TRY(rq_feeds_check(&s->g->values[s->g->inputs[i]], "input", &in[k].tensor, err));
        s->feeds[i] = in[k].tensor;
    }
    for (int i = 0; i < s->g->n_inputs; i++) {
        const rq_value *v = &s->g->values[s->g->inputs[i]];
        rq_tensor *t = &s->feeds[i];
        char shape[RQ_SHAPE_TEXT];
        if (t->dtype == RQ_DTYPE_NONE)
            *t = s->bound[i];
        if (t->dtype == RQ_DTYPE_NONE && v->constant.dtype == RQ_DTYPE_NONE && !state(t, v, false))
            return rq_fail(err, RQ_BAD_DATA,
                           "input '%s' has shape %s in the model: bind it, or say for which shape to plan", v->name,
                           rq_shape_text(&v->shape, shape, sizeof shape));
    }
    s->guessed = false;
    return rq_batch_plan(&s->batch, s->program, s->feeds, err);
}

rq_status rq_session_plan_ahead(rq_session *s)
{
    memset(s->feeds, 0, (size_t)s->g->n_inputs * sizeof *s->feeds);
    for (int i = 0; i < s->g->n_inputs; i++) {
        const rq_value *v = &s->g->values[s->g->inputs[i]];
        if (v->constant.dtype != RQ_DTYPE_NONE)
            continue;
        if (!state(&s->feeds[i], v, true))
            return RQ_OK;
        s->guessed |= !rq_shape_is_known(&v->shape);
    }
    return rq_batch_plan(&s->batch, s->program, s->feeds, NULL);
}
