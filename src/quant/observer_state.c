/* quant/observer_state.c — what an observer remembers as named tensors, under PyTorch's names, and as a line of text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "quant/observer_row.h"

/* ---- saving ---- */

static rq_status set_ends(const rq_observer *o, rq_state *s, const char *prefix, const char *name, bool upper)
{
    const bool one = o->cfg.axis == RQ_PER_TENSOR;
    const int64_t n = one ? 1 : o->channels;
    const rq_shape shape = rq_shape_of(one ? 0 : 1, &n);
    rq_tensor t;
    RQ_TRY(rq_tensor_create(&t, RQ_DTYPE_F32, &shape, false));
    for (int64_t c = 0; c < n; c++)
        t.f32[c] = (float)(upper ? o->range[c].hi : o->range[c].lo);
    const rq_status st = rq_state_set(s, prefix, name, &t);
    rq_tensor_release(&t);
    return st;
}

rq_status rq_observer_save_range(const rq_observer *o, rq_state *s, const char *prefix)
{
    RQ_TRY(rq_state_set_floats(s, prefix, "eps", &o->cfg.eps, 1));
    RQ_TRY(set_ends(o, s, prefix, "min_val", false));
    return set_ends(o, s, prefix, "max_val", true);
}

rq_status rq_observer_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    if (o->row->save)
        return o->row->save(o, s, prefix);
    if (o->row->no_range)
        return RQ_OK;
    return rq_observer_save_range(o, s, prefix);
}

/* ---- loading ---- */

/* "<name>", or the name of before PyTorch 1.8, "<name>s". */
static rq_status get_ends(const rq_state *s, const char *prefix, const char *name, const rq_tensor **out, rq_err *err)
{
    char old[16];
    rq_err ignored;
    snprintf(old, sizeof old, "%ss", name);
    const rq_status st = rq_state_get(s, prefix, name, RQ_DTYPE_F32, -1, out, err);
    return st == RQ_NOT_FOUND && !rq_state_get(s, prefix, old, RQ_DTYPE_F32, -1, out, &ignored) ? RQ_OK : st;
}

/* Rank 0 and one number per tensor; [channels] per channel. A single number of either rank is taken for one of the other. */
static rq_status check_ends(const rq_observer *o, const rq_tensor *lo, const rq_tensor *hi, rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    const int64_t n = rq_tensor_count(lo);
    if (!rq_shape_equal(&lo->shape, &hi->shape) || lo->shape.rank > 1 || n > INT32_MAX / 4 ||
        (o->cfg.axis == RQ_PER_TENSOR && n != 1))
        return rq_fail(err, RQ_BAD_SHAPE, "min_val %s and max_val %s of the state: expected %s",
                       rq_shape_text(&lo->shape, a, sizeof a), rq_shape_text(&hi->shape, b, sizeof b),
                       o->cfg.axis == RQ_PER_TENSOR ? "one number each" : "a number per channel each");
    for (int64_t c = 0; c < n; c++) {
        const float l = lo->f32[c], h = hi->f32[c];
        const bool unseen = l == INFINITY && h == -INFINITY;
        if (!unseen && !(l <= h && (o->cfg.compat || (isfinite(l) && isfinite(h)))))
            return rq_fail(err, RQ_BAD_DATA, "min_val %g and max_val %g of the state are no range", (double)l,
                           (double)h);
    }
    return RQ_OK;
}

static rq_status get_eps(const rq_observer *o, const rq_state *s, const char *prefix, float *eps, rq_err *err)
{
    const rq_tensor *t;
    rq_err ignored;
    *eps = o->cfg.eps;
    if (rq_state_get(s, prefix, "eps", RQ_DTYPE_F32, -1, &t, &ignored) == RQ_NOT_FOUND)
        return RQ_OK; /* before PyTorch 1.9 */
    RQ_TRY(rq_state_get(s, prefix, "eps", RQ_DTYPE_F32, -1, &t, err));
    if (rq_tensor_count(t) != 1 || !(t->f32[0] >= 0 && t->f32[0] < INFINITY))
        return rq_fail(err, RQ_BAD_DATA, "eps of the state is no number from 0 up");
    *eps = t->f32[0];
    return RQ_OK;
}

rq_status rq_observer_load_range(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *lo, *hi;
    float eps;
    RQ_TRY(get_ends(s, prefix, "min_val", &lo, err));
    RQ_TRY(get_ends(s, prefix, "max_val", &hi, err));
    RQ_TRY(check_ends(o, lo, hi, err));
    RQ_TRY(get_eps(o, s, prefix, &eps, err));
    const int64_t n = rq_tensor_count(lo);
    rq_range *range = n ? rq_mem_alloc((size_t)n, sizeof *range) : NULL;
    if (n && !range)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for %lld channels", (long long)n);
    for (int64_t c = 0; c < n; c++)
        range[c] = (rq_range) { lo->f32[c], hi->f32[c] };
    rq_observer_reset(o);
    if (n) { /* else per channel, before the first batch */
        rq_mem_free(o->range);
        o->range = range;
        o->channels = (int)n;
    }
    o->cfg.eps = eps;
    return RQ_OK;
}

rq_status rq_observer_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    if (o->row->load)
        return o->row->load(o, s, prefix, err);
    if (o->row->no_range)
        return RQ_OK;
    return rq_observer_load_range(o, s, prefix, err);
}

/* ---- as text ---- */

const char *rq_observer_text(const rq_observer *o, char *buf, size_t n)
{
    const bool channels = o->cfg.axis != RQ_PER_TENSOR && !o->row->blind;
    const char *title = channels && o->row->title[1] ? o->row->title[1] : o->row->title[0];
    if (o->row->no_range || !o->range)
        rq_number_print(buf, n, "%s()", title);
    else if (!channels)
        rq_number_print(buf, n, "%s(min_val=%g, max_val=%g)", title, o->range[0].lo, o->range[0].hi);
    else
        rq_number_print(buf, n, "%s(min_val=[%g, ...], max_val=[%g, ...], channels=%d)", title, o->range[0].lo,
                        o->range[0].hi, o->channels);
    return buf;
}
