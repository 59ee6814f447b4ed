/* quant/passive.c — the observers that do not measure: placeholders, a recorder, and parameters that are given. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/observer_row.h"
#include "tensor/strided.h"

const rq_observer_row rq_observer_placeholder = {
    .name = "placeholder",
    .title = { "PlaceholderObserver", NULL },
    .native = true,
    .blind = true,
    .no_range = true,
    .no_qparams = true,
};

const rq_observer_row rq_observer_noop = {
    .name = "noop",
    .title = { "NoopObserver", NULL },
    .native = true,
    .blind = true,
    .no_range = true,
    .no_qparams = true,
};

const rq_observer_row rq_observer_reuse_input = {
    .name = "reuse_input",
    .title = { "ReuseInputObserver", NULL },
    .native = true,
    .blind = true,
    .no_range = true,
    .no_qparams = true,
};

/* ---- fixed parameters ---- */

static rq_status fixed_init(rq_observer *o, rq_err *err)
{
    const rq_qtype t = rq_observer_type(o);
    if (!(o->cfg.scale > 0 && o->cfg.scale < INFINITY))
        return rq_fail(err, RQ_BAD_ARG, "the fixed scale is %g, expected a positive number", (double)o->cfg.scale);
    if (o->cfg.zero_point < t.lo || o->cfg.zero_point > t.hi)
        return rq_fail(err, RQ_BAD_ARG, "the fixed zero point is %d, expected one of %d..%d", o->cfg.zero_point, t.lo,
                       t.hi);
    return RQ_OK;
}

static rq_status fixed_qparams(const rq_observer *o, int c, float *scale, int32_t *zero_point, float *zero_point_f,
                               rq_err *err)
{
    (void)c, (void)err;
    *scale = o->cfg.scale;
    *zero_point = o->cfg.zero_point;
    *zero_point_f = (float)o->cfg.zero_point;
    return RQ_OK;
}

/* What the codes reach. */
static rq_range fixed_range(const rq_observer *o, int c)
{
    (void)c;
    const rq_qtype t = rq_observer_type(o);
    const double s = o->cfg.scale, z = o->cfg.zero_point;
    return (rq_range) { (t.lo - z) * s, (t.hi - z) * s };
}

static bool fixed_seen(const rq_observer *o)
{
    (void)o;
    return true;
}

static rq_status fixed_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    const int64_t z = o->cfg.zero_point;
    RQ_TRY(rq_state_set_floats(s, prefix, "scale", &o->cfg.scale, 1));
    return rq_state_set_ints(s, prefix, "zero_point", &z, 1);
}

static rq_status fixed_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *scale, *zero_point;
    const rq_observer_cfg was = o->cfg;
    RQ_TRY(rq_state_get(s, prefix, "scale", RQ_DTYPE_F32, -1, &scale, err));
    RQ_TRY(rq_state_get(s, prefix, "zero_point", RQ_DTYPE_S64, -1, &zero_point, err));
    if (rq_tensor_count(scale) != 1 || rq_tensor_count(zero_point) != 1)
        return rq_fail(err, RQ_BAD_SHAPE, "fixed parameters are one scale and one zero point");
    const int64_t z = zero_point->s64[0];
    o->cfg.scale = scale->f32[0];
    o->cfg.zero_point = (int32_t)(z < INT32_MIN ? INT32_MIN : z > INT32_MAX ? INT32_MAX : z);
    const rq_status st = fixed_init(o, err);
    if (st)
        o->cfg = was;
    return st;
}

const rq_observer_row rq_observer_fixed = {
    .name = "fixed",
    .title = { "FixedQParamsObserver", NULL },
    .native = true,
    .blind = true,
    .init = fixed_init,
    .range = fixed_range,
    .qparams = fixed_qparams,
    .save = fixed_save,
    .load = fixed_load,
    .has_seen = fixed_seen,
};

/* ---- a recorder ---- */

typedef struct tape {
    rq_tensor *items;
    int n, cap;
    int64_t kept; /* numbers */
} tape;

static rq_status recording_init(rq_observer *o, rq_err *err)
{
    o->state = rq_mem_zalloc(1, sizeof(tape));
    return o->state ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory making an observer");
}

static void recording_reset(rq_observer *o)
{
    tape *t = o->state;
    for (int i = 0; i < t->n; i++)
        rq_tensor_release(&t->items[i]);
    t->n = 0;
    t->kept = 0;
}

static void recording_release(rq_observer *o)
{
    if (!o->state)
        return;
    recording_reset(o);
    rq_mem_free(((tape *)o->state)->items);
    rq_mem_free(o->state);
}

/* Row-major, whatever the strides. */
static void copy_row_major(float *to, const rq_strided *x)
{
    enum { TILE = 4096 };
    for (int64_t at = 0, n = rq_shape_count(&x->shape); at < n; at += TILE) {
        const int64_t take = n - at < TILE ? n - at : TILE;
        const float *from = rq_strided_read(x, at, take, to + at);
        if (from != to + at)
            memcpy(to + at, from, (size_t)take * sizeof *to);
    }
}

static rq_status recording_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    tape *t = o->state;
    rq_tensor copy;
    const int64_t n = rq_shape_count(&b->x->shape);
    if (n > o->cfg.most - t->kept)
        return rq_fail(err, RQ_BAD_DATA, "a recording observer keeps %lld numbers at most, has %lld, and got %lld more",
                       (long long)o->cfg.most, (long long)t->kept, (long long)n);
    if (rq_tensor_create(&copy, RQ_DTYPE_F32, &b->x->shape, false) ||
        !rq_mem_grow(&t->items, t->n, &t->cap, sizeof *t->items)) {
        rq_tensor_release(&copy);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory keeping a copy of %lld numbers", (long long)n);
    }
    copy_row_major(copy.f32, b->x);
    t->items[t->n++] = copy;
    t->kept += n;
    return RQ_OK;
}

int rq_observer_n_recorded(const rq_observer *o)
{
    return o->row == &rq_observer_recording ? ((const tape *)o->state)->n : 0;
}

const rq_tensor *rq_observer_recorded(const rq_observer *o, int i)
{
    return &((const tape *)o->state)->items[i];
}

const rq_observer_row rq_observer_recording = {
    .name = "recording",
    .title = { "RecordingObserver", NULL },
    .native = true,
    .no_range = true,
    .no_qparams = true,
    .init = recording_init,
    .update = recording_update,
    .reset = recording_reset,
    .release = recording_release,
};
