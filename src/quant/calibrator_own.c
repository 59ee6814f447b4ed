/* quant/calibrator_own.c — a calibrator of the program's own: its functions, with the checks around them that the library's have. */
#include <math.h>

#include "base/mem.h"
#include "quant/calibrator.h"
#include "tensor/strided.h"

static rq_status own_init(rq_calibrator *c, rq_err *err)
{
    const rq_own_calibrator *own = c->cfg.own;
    if (!own || !own->name || !own->create || !own->collect || !own->amax || !own->destroy)
        return rq_fail(err, RQ_BAD_ARG, "a calibrator of the program needs name, create, collect, amax and destroy");
    if (c->cfg.n_axes)
        return rq_fail(err, RQ_UNSUPPORTED, "%s gives one amax: axes cannot keep their own", own->name);
    c->state = own->create(own->user);
    return c->state ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "%s has no memory for a state", own->name);
}

static rq_status own_collect(rq_calibrator *c, rq_exec *e, const rq_runs *r, const rq_extremes *x, rq_err *err)
{
    (void)e;
    (void)x;
    const rq_own_calibrator *own = c->cfg.own;
    const int64_t n = rq_shape_count(&r->x.shape);
    float *copy = NULL;
    if (!rq_strided_direct(&r->x, 0)) {
        copy = rq_mem_alloc((size_t)n, sizeof *copy);
        if (!copy)
            return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld numbers in a row", (long long)n);
    }
    const rq_status st = own->collect(c->state, rq_strided_read(&r->x, 0, n, copy), &r->x.shape);
    rq_mem_free(copy);
    return st ? rq_fail(err, st, "%s failed to collect: %s", own->name, rq_status_text(st)) : RQ_OK;
}

static rq_status own_amax(rq_calibrator *c, rq_amax_method m, const rq_amax_params *p, float *out, rq_err *err)
{
    (void)m;
    (void)p;
    const rq_own_calibrator *own = c->cfg.own;
    double amax = NAN;
    const rq_status st = own->amax(c->state, &amax);
    if (st)
        return rq_fail(err, st, "%s gave no amax: %s", own->name, rq_status_text(st));
    if (!(amax >= 0 && amax < INFINITY))
        return rq_fail(err, RQ_NUMERIC, "%s gave the amax %g, expected a finite number that is not negative", own->name,
                       amax);
    *out = (float)amax;
    return RQ_OK;
}

static rq_status own_reset(rq_calibrator *c)
{
    const rq_own_calibrator *own = c->cfg.own;
    if (own->reset) {
        own->reset(c->state);
        return RQ_OK;
    }
    void *fresh = own->create(own->user);
    if (!fresh)
        return RQ_NO_MEMORY;
    own->destroy(c->state);
    c->state = fresh;
    return RQ_OK;
}

const rq_calibrator_row rq_calibrator_own = {
    .init = own_init,
    .looks = true,
    .collect = own_collect,
    .amax = own_amax,
    .reset = own_reset,
};
