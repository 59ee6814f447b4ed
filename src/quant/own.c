/* quant/own.c — an observer of the program (requant/own.h) as a row: its state sees every element. */
#include <math.h>

#include "quant/observer_row.h"

static rq_status own_init(rq_observer *o, rq_err *err)
{
    o->state = o->cfg.own->create(o->cfg.own->user);
    return o->state ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "observer '%s': out of memory", o->cfg.own->name);
}

typedef struct sink {
    const rq_observer *o;
    rq_status status; /* of the first call that failed */
} sink;

static void hand_on(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    sink *s = arg;
    (void)piece, (void)channel;
    if (!s->status)
        s->status = s->o->cfg.own->update(s->o->state, x, n);
}

static rq_status own_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    sink s = { o, RQ_OK };
    rq_runs_walk(&b->runs, NULL, hand_on, &s);
    return s.status ? rq_fail(err, s.status, "observer '%s': %s", o->cfg.own->name, rq_status_text(s.status)) : RQ_OK;
}

static rq_range own_range(const rq_observer *o, int c)
{
    rq_range r = { NAN, NAN };
    (void)c;
    return o->cfg.own->range(o->state, &r.lo, &r.hi) ? (rq_range) { NAN, NAN } : r;
}

static bool own_seen(const rq_observer *o)
{
    return o->count > 0;
}

/* A state cannot be emptied but by making another; where memory is out it keeps what it has. */
static void own_reset(rq_observer *o)
{
    void *state = o->cfg.own->create(o->cfg.own->user);
    if (!state)
        return;
    o->cfg.own->destroy(o->state);
    o->state = state;
}

static void own_release(rq_observer *o)
{
    if (o->state)
        o->cfg.own->destroy(o->state);
}

static rq_status own_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    (void)o, (void)s, (void)prefix;
    return RQ_UNSUPPORTED;
}

static rq_status own_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    (void)s, (void)prefix;
    return rq_fail(err, RQ_UNSUPPORTED,
                   "observer '%s' is the program's own, and so is its state: a state has nothing for it",
                   o->cfg.own->name);
}

const rq_observer_row rq_observer_own = {
    .name = "own",
    .title = { "OwnObserver", NULL },
    .extremes = true,
    .init = own_init,
    .update = own_update,
    .range = own_range,
    .save = own_save,
    .load = own_load,
    .reset = own_reset,
    .release = own_release,
    .has_seen = own_seen,
};
