/* quant/calibrator.c — creating, feeding, asking and keeping a calibrator; what each kind does is in its row. */
#include "quant/calibrator.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "tensor/strided.h"

static const rq_calibrator_row *const rows[RQ_N_CALIBRATORS] = {
    [RQ_CALIBRATOR_MAX] = &rq_calibrator_max,
    [RQ_CALIBRATOR_HISTOGRAM] = &rq_calibrator_hist,
    [RQ_CALIBRATOR_MSE] = &rq_calibrator_mse,
    [RQ_CALIBRATOR_OWN] = &rq_calibrator_own,
};

static const char *const methods[RQ_N_AMAX_METHODS] = {
    [RQ_AMAX_MAX] = "max",
    [RQ_AMAX_PERCENTILE] = "percentile",
    [RQ_AMAX_ENTROPY] = "entropy",
    [RQ_AMAX_MSE] = "mse",
};

const char *rq_amax_method_name(rq_amax_method m)
{
    return (unsigned)m < RQ_N_AMAX_METHODS ? methods[m] : "?";
}

rq_status rq_amax_method_parse(rq_amax_method *out, const char *text, rq_err *err)
{
    for (int i = 0; text && i < RQ_N_AMAX_METHODS; i++)
        if (!strcmp(methods[i], text)) {
            *out = (rq_amax_method)i;
            return RQ_OK;
        }
    return rq_fail(err, RQ_BAD_ARG, "Unknown calibration method %s, expected max, percentile, entropy or mse",
                   text ? text : "(none)");
}

rq_calibrator_cfg rq_calibrator_defaults(rq_calibrator_kind kind)
{
    return (rq_calibrator_cfg) {
        .kind = kind, .num_bits = 8, .num_bins = 2048, .start = 0.25, .stop = 4, .step_size = 0.1
    };
}

rq_amax_params rq_amax_defaults(void)
{
    return (rq_amax_params) { .percentile = 99.99, .stride = 1, .start_bin = 128 };
}

/* ---- creation ---- */

static rq_status check_cfg(const rq_calibrator_cfg *c, rq_err *err)
{
    if ((unsigned)c->kind >= RQ_N_CALIBRATORS)
        return rq_fail(err, RQ_BAD_ARG, "calibrator kind %d, expected 0..%d", (int)c->kind, RQ_N_CALIBRATORS - 1);
    const int least = c->is_unsigned ? 1 : 2;
    if (!c->e4m3 && (c->num_bits < least || c->num_bits > 16))
        return rq_fail(err, RQ_BAD_ARG, "%d bits, expected %d..16 for %s codes", c->num_bits, least,
                       c->is_unsigned ? "unsigned" : "signed");
    if (c->n_axes < 0 || c->n_axes > RQ_MAX_RANK)
        return rq_fail(err, RQ_BAD_ARG, "%d axes, expected 0..%d", c->n_axes, RQ_MAX_RANK);
    if (c->kind == RQ_CALIBRATOR_HISTOGRAM && c->n_axes)
        return rq_fail(err, RQ_UNSUPPORTED, "Calibrator histogram collection only supports per tensor scaling");
    if (c->kind == RQ_CALIBRATOR_HISTOGRAM && (c->num_bins < 2 || c->num_bins > 65536))
        return rq_fail(err, RQ_BAD_ARG, "%d bins, expected 2..65536", c->num_bins);
    return RQ_OK;
}

rq_status rq_calibrator_create(rq_calibrator **out, const rq_calibrator_cfg *cfg, rq_err *err)
{
    RQ_TRY(check_cfg(cfg, err));
    rq_calibrator *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for a calibrator");
    c->cfg = *cfg;
    c->cfg.amax = NULL;
    c->row = rows[cfg->kind];
    c->keep = rq_shape_unknown();
    if (cfg->amax && cfg->kind == RQ_CALIBRATOR_MSE) {
        if (rq_tensor_copy(&c->initial, cfg->amax)) {
            rq_calibrator_destroy(c);
            return rq_fail(err, RQ_NO_MEMORY, "no memory for the amax of a calibrator");
        }
        c->cfg.amax = &c->initial;
    }
    const rq_status st = c->row->init(c, err);
    if (st) {
        rq_calibrator_destroy(c);
        return st;
    }
    *out = c;
    return RQ_OK;
}

static void forget_list(rq_calibrator *c)
{
    for (int i = 0; i < c->n_list; i++)
        rq_tensor_release(&c->list[i]);
    c->n_list = 0;
}

void rq_calibrator_destroy(rq_calibrator *c)
{
    if (!c)
        return;
    if (c->state)
        c->cfg.own->destroy(c->state);
    forget_list(c);
    rq_mem_free(c->list);
    rq_mem_free(c->amax);
    rq_histogram_release(&c->h);
    rq_tensor_release(&c->initial);
    rq_mem_free(c->multiplier);
    rq_mem_free(c->loss);
    rq_mem_free(c);
}

const rq_calibrator_cfg *rq_calibrator_cfg_of(const rq_calibrator *c)
{
    return &c->cfg;
}

/* ---- feeding ---- */

/* The batch's shape of amax, a scalar where there is one: RQ_BAD_SHAPE where it is not that of earlier ones. Sets it on the first. */
static rq_status fit(rq_calibrator *c, const rq_runs *r, rq_err *err)
{
    char now[RQ_SHAPE_TEXT], before[RQ_SHAPE_TEXT];
    rq_shape keep = r->keep;
    if (r->channels == 1)
        keep.rank = 0;
    if (c->cells && !rq_shape_equal(&c->keep, &keep))
        return rq_fail(err, RQ_BAD_SHAPE, "amax shape changed! It is %s, earlier batches gave %s",
                       rq_shape_text(&keep, now, sizeof now), rq_shape_text(&c->keep, before, sizeof before));
    c->keep = keep;
    c->cells = r->channels;
    return RQ_OK;
}

rq_status rq_calibrator_collect(rq_calibrator *c, rq_exec *e, const rq_strided *x, rq_err *err)
{
    rq_runs r;
    rq_extremes *seen = NULL;
    RQ_TRY(rq_strided_check(x, "the batch", true, err));
    RQ_TRY(rq_runs_init(&r, x, c->cfg.axis, c->cfg.n_axes, err));
    if (r.channels * r.rest == 0)
        return RQ_OK;
    if (c->row->looks) {
        seen = rq_mem_alloc((size_t)r.channels, sizeof *seen);
        if (!seen || rq_runs_extremes(&r, e, c->cfg.skip_zeros || c->cfg.numpy_hist, seen)) {
            rq_mem_free(seen);
            return rq_fail(err, RQ_NO_MEMORY, "no memory to look at a batch of %lld numbers",
                           (long long)rq_shape_count(&x->shape));
        }
    }
    rq_calibrator_info add = { .batches = 1 };
    for (int64_t i = 0; seen && i < r.channels; i++) {
        add.count += seen[i].finite;
        add.nan += seen[i].nan;
        add.infinite += seen[i].above + seen[i].below;
    }
    const rq_shape keep = c->keep;
    const int64_t n = c->cells;
    rq_status st = fit(c, &r, err);
    if (!st)
        st = c->row->collect(c, e, &r, seen, err);
    rq_mem_free(seen);
    if (st) {
        c->keep = keep;
        c->cells = n;
        return st;
    }
    c->info.batches += add.batches;
    c->info.count += add.count;
    c->info.nan += add.nan;
    c->info.infinite += add.infinite;
    return RQ_OK;
}

/* ---- asking ---- */

rq_status rq_calibrator_check(rq_amax_method m, const rq_amax_params *p, int bins, rq_err *err)
{
    if (m == RQ_AMAX_PERCENTILE && !(p->percentile >= 0 && p->percentile <= 100))
        return rq_fail(err, RQ_BAD_ARG, "Invalid percentile. Must be in range 0 <= percentile <= 100.");
    if (m != RQ_AMAX_ENTROPY && m != RQ_AMAX_MSE)
        return RQ_OK;
    if (p->stride < 1 || p->start_bin < 1)
        return rq_fail(err, RQ_BAD_ARG, "stride %d and start_bin %d, expected at least 1", p->stride, p->start_bin);
    if (p->start_bin > bins - (m == RQ_AMAX_MSE))
        return rq_fail(err, RQ_BAD_ARG,
                       "a histogram of %d bins is too short to search from bin %d: expected at least %d bins", bins,
                       p->start_bin, p->start_bin + (m == RQ_AMAX_MSE));
    return RQ_OK;
}

rq_status rq_calibrator_unknown(const rq_calibrator *c, rq_amax_method m, rq_err *err)
{
    return rq_fail(err, RQ_BAD_ARG, "Unknown calibration method %s: %s has it not", rq_amax_method_name(m),
                   rq_calibrator_name(c));
}

rq_status rq_calibrator_amax(rq_calibrator *c, rq_amax_method method, const rq_amax_params *p, rq_tensor *amax,
                             rq_err *err)
{
    const rq_amax_params defaults = rq_amax_defaults();
    p = p ? p : &defaults;
    if ((unsigned)method >= RQ_N_AMAX_METHODS)
        return rq_calibrator_unknown(c, method, err);
    RQ_TRY(rq_calibrator_check(method, p, INT32_MAX, err));
    if (!c->cells)
        return rq_fail(err, RQ_NOT_FOUND, "Calibrator returned None: %s has collected nothing", rq_calibrator_name(c));
    if (!c->info.count && !c->cfg.compat)
        return rq_fail(err, RQ_NOT_FOUND,
                       "Calibrator returned None: %llu NaN and %llu infinities were collected, and no finite number",
                       (unsigned long long)c->info.nan, (unsigned long long)c->info.infinite);
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_F32, &c->keep, true))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld amaxs", (long long)c->cells);
    const rq_status st = c->row->amax(c, method, p, t.f32, err);
    if (st)
        rq_tensor_release(&t);
    else
        *amax = t;
    return st;
}

rq_calibrator_info rq_calibrator_info_of(const rq_calibrator *c)
{
    rq_calibrator_info i = c->info;
    i.cells = c->cells;
    i.bins = c->h.count && (c->h.width > 0 || c->h.edge) ? c->h.n : 0;
    return i;
}

rq_status rq_calibrator_reset(rq_calibrator *c)
{
    RQ_TRY(c->row->reset(c));
    forget_list(c);
    c->info = (rq_calibrator_info) { 0 };
    c->keep = rq_shape_unknown();
    c->cells = 0;
    return RQ_OK;
}

const char *rq_calibrator_name(const rq_calibrator *c)
{
    return c->row->name ? c->row->name : c->cfg.own->name;
}

const char *rq_calibrator_text(const rq_calibrator *c, char *buf, size_t n)
{
    if (c->row->text)
        c->row->text(c, buf, n);
    else
        rq_number_print(buf, n, "%s", rq_calibrator_name(c));
    return buf;
}

/* ---- keeping: what all kinds have ---- */

enum { N_COUNTS = 5 };

rq_status rq_calibrator_save(const rq_calibrator *c, rq_state *s, const char *prefix, rq_err *err)
{
    const int64_t counts[N_COUNTS] = { (int64_t)c->info.batches, (int64_t)c->info.count, (int64_t)c->info.nan,
                                       (int64_t)c->info.infinite, (int64_t)c->info.skipped };
    if (!c->row->save)
        return rq_fail(err, RQ_UNSUPPORTED, "%s is the program's own and cannot be saved here", rq_calibrator_name(c));
    rq_status st = rq_state_set_text(s, prefix, "calibrator", c->row->name);
    if (!st)
        st = rq_state_set_ints(s, prefix, "counts", counts, N_COUNTS);
    if (!st && c->cells)
        st = c->row->save(c, s, prefix);
    return st ? rq_fail(err, st, "no memory to save %s", rq_calibrator_name(c)) : RQ_OK;
}

static rq_status load_into(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *name, *counts;
    RQ_TRY(rq_state_get(s, prefix, "calibrator", RQ_DTYPE_U8, -1, &name, err));
    const size_t n = (size_t)rq_tensor_count(name);
    if (n != strlen(c->row->name) || memcmp(name->u8, c->row->name, n) != 0)
        return rq_fail(err, RQ_BAD_DATA, "the state is of %.*s, expected %s", (int)(n < 40 ? n : 40),
                       (const char *)name->u8, c->row->name);
    RQ_TRY(rq_state_get(s, prefix, "counts", RQ_DTYPE_S64, 1, &counts, err));
    if (rq_tensor_count(counts) != N_COUNTS)
        return rq_fail(err, RQ_BAD_SHAPE, "counts has %lld numbers, expected %d", (long long)rq_tensor_count(counts),
                       N_COUNTS);
    for (int i = 0; i < N_COUNTS; i++)
        if (counts->s64[i] < 0)
            return rq_fail(err, RQ_BAD_DATA, "counts[%d] is %lld, expected 0 or more", i, (long long)counts->s64[i]);
    c->info.batches = counts->u64[0];
    c->info.count = counts->u64[1];
    c->info.nan = counts->u64[2];
    c->info.infinite = counts->u64[3];
    c->info.skipped = counts->u64[4];
    return c->info.batches ? c->row->load(c, s, prefix, err) : RQ_OK;
}

rq_status rq_calibrator_load(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err)
{
    rq_calibrator *fresh;
    if (!c->row->load)
        return rq_fail(err, RQ_UNSUPPORTED, "%s is the program's own and cannot be loaded here", rq_calibrator_name(c));
    RQ_TRY(rq_calibrator_create(&fresh, &c->cfg, err));
    const rq_status st = load_into(fresh, s, prefix, err);
    if (!st) {
        const rq_calibrator old = *c;
        *c = *fresh;
        *fresh = old;
        c->cfg.amax = c->initial.data ? &c->initial : NULL;
    }
    rq_calibrator_destroy(fresh);
    return st;
}
