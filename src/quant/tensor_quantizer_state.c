/* quant/tensor_quantizer_state.c — what a tensor quantizer remembers: switches, amax, bounds, and how they are kept and printed. */
#include "quant/tensor_quantizer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "quant/amax_fit.h"
#include "quant/quant_desc_text.h"
#include "tensor/strided.h"

/* ---- switches and settings ---- */

void rq_tensor_quantizer_enable(rq_tensor_quantizer *q, bool on)
{
    q->disabled = !on;
}

void rq_tensor_quantizer_enable_quant(rq_tensor_quantizer *q, bool on)
{
    q->if_quant = on;
}

void rq_tensor_quantizer_enable_calib(rq_tensor_quantizer *q, bool on)
{
    q->if_calib = on;
}

rq_status rq_tensor_quantizer_enable_clip(rq_tensor_quantizer *q, bool on, rq_err *err)
{
    if (!q->desc.learn_amax)
        return rq_fail(err, RQ_BAD_ARG, "learn_amax is False. Cannot %s clip.", on ? "enable" : "disable");
    q->if_clip = on;
    return RQ_OK;
}

bool rq_tensor_quantizer_is_enabled(const rq_tensor_quantizer *q)
{
    return !q->disabled;
}

bool rq_tensor_quantizer_is_quant(const rq_tensor_quantizer *q)
{
    return q->if_quant;
}

bool rq_tensor_quantizer_is_calib(const rq_tensor_quantizer *q)
{
    return q->if_calib;
}

bool rq_tensor_quantizer_is_clip(const rq_tensor_quantizer *q)
{
    return q->if_clip;
}

void rq_tensor_quantizer_set_num_bits(rq_tensor_quantizer *q, int num_bits)
{
    q->desc.num_bits = num_bits;
    q->desc.e4m3 = false;
}

void rq_tensor_quantizer_set_unsigned(rq_tensor_quantizer *q, bool is_unsigned)
{
    q->desc.is_unsigned = is_unsigned;
}

void rq_tensor_quantizer_set_narrow_range(rq_tensor_quantizer *q, bool narrow_range)
{
    q->desc.narrow_range = narrow_range;
}

const rq_quant_desc *rq_tensor_quantizer_desc(const rq_tensor_quantizer *q)
{
    return &q->desc;
}

/* ---- numbers ---- */

static const rq_tensor *or_null(const rq_tensor *t)
{
    return t->dtype == RQ_DTYPE_NONE ? NULL : t;
}

const rq_tensor *rq_tensor_quantizer_amax(const rq_tensor_quantizer *q)
{
    return or_null(&q->amax);
}

const rq_tensor *rq_tensor_quantizer_pre_quant_scale(const rq_tensor_quantizer *q)
{
    return or_null(&q->pre_quant_scale);
}

const rq_tensor *rq_tensor_quantizer_scale(const rq_tensor_quantizer *q)
{
    return q->desc.fake_quant ? NULL : or_null(&q->scale);
}

uint64_t rq_tensor_quantizer_bad(const rq_tensor_quantizer *q)
{
    return q->bad;
}

rq_calibrator *rq_tensor_quantizer_calibrator(rq_tensor_quantizer *q)
{
    return q->calibrator;
}

/* *out becomes t as F32. */
static rq_status to_f32(rq_tensor *out, const rq_tensor *t, const char *what, rq_err *err)
{
    const rq_strided v = rq_strided_of(t);
    RQ_TRY(rq_strided_check(&v, what, true, err));
    if (rq_tensor_create(out, RQ_DTYPE_F32, &t->shape, false))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %s", what);
    for (int64_t i = 0; i < rq_tensor_count(t); i++)
        out->f32[i] = (float)rq_tensor_get(t, i);
    return RQ_OK;
}

/* *kept becomes a copy of t; once there, it keeps its shape. */
static rq_status keep(rq_tensor *kept, const rq_tensor *t, const char *what, bool negative, rq_err *err)
{
    rq_tensor copy;
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    if (!t)
        return rq_fail(err, RQ_BAD_ARG, "%s cannot be set to None", what);
    if (kept->dtype != RQ_DTYPE_NONE && !rq_shape_equal(&kept->shape, &t->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "Changing shape when setting %s is not allowed. It is %s, the new one %s",
                       what, rq_shape_text(&kept->shape, a, sizeof a), rq_shape_text(&t->shape, b, sizeof b));
    RQ_TRY(to_f32(&copy, t, what, err));
    for (int64_t i = 0; !negative && i < rq_tensor_count(&copy); i++)
        if (copy.f32[i] < 0) {
            rq_number_print(a, sizeof a, "%g", (double)copy.f32[i]);
            rq_tensor_release(&copy);
            return rq_fail(err, RQ_BAD_ARG, "Negative values in %s: element %lld is %s", what, (long long)i, a);
        }
    rq_tensor_release(kept);
    *kept = copy;
    return RQ_OK;
}

rq_status rq_tensor_quantizer_set_amax(rq_tensor_quantizer *q, const rq_tensor *amax, rq_err *err)
{
    return keep(&q->amax, amax, "amax", false, err);
}

rq_status rq_tensor_quantizer_set_amax_one(rq_tensor_quantizer *q, float amax, rq_err *err)
{
    const rq_shape one = { .rank = 0 };
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &one, &amax);
    return rq_tensor_quantizer_set_amax(q, &t, err);
}

rq_status rq_tensor_quantizer_set_pre_quant_scale(rq_tensor_quantizer *q, const rq_tensor *scale, rq_err *err)
{
    return keep(&q->pre_quant_scale, scale, "pre_quant_scale", true, err);
}

float rq_tensor_quantizer_maxbound(const rq_tensor_quantizer *q)
{
    return q->desc.e4m3 ? 448 : ldexpf(1, q->desc.num_bits - 1 + q->desc.is_unsigned) - 1;
}

rq_status rq_tensor_quantizer_step_size(const rq_tensor_quantizer *q, rq_tensor *out, rq_err *err)
{
    *out = (rq_tensor) { 0 };
    if (q->desc.e4m3)
        return rq_fail(err, RQ_UNSUPPORTED, "steps of FP8 are not of one size");
    if (q->amax.dtype == RQ_DTYPE_NONE)
        return rq_fail(err, RQ_NOT_FOUND, "step_size is undefined under dynamic amax mode");
    if (rq_tensor_copy(out, &q->amax))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld steps", (long long)rq_tensor_count(&q->amax));
    for (int64_t i = 0; i < rq_tensor_count(out); i++)
        out->f32[i] /= rq_tensor_quantizer_maxbound(q);
    return RQ_OK;
}

/* ---- from the calibrator ---- */

/* The amax that is there takes the new numbers, spread where they are fewer. */
static rq_status pour(rq_tensor *kept, const rq_tensor *amax, rq_err *err)
{
    rq_strided from = rq_strided_of(amax);
    const rq_strided own = from;
    from.shape = kept->shape;
    RQ_TRY(rq_amax_fit_broadcast(from.stride, &kept->shape, &own, "the amax found", err));
    for (int64_t i = 0; i < rq_tensor_count(kept); i++) {
        float v;
        kept->f32[i] = *rq_strided_read(&from, i, 1, &v);
    }
    return RQ_OK;
}

rq_status rq_tensor_quantizer_load_calib_amax(rq_tensor_quantizer *q, rq_amax_method method,
                                              const rq_amax_params *params, bool strict, rq_err *err)
{
    float nothing = NAN;
    const rq_shape one = { .rank = 0 };
    rq_tensor amax;
    if (rq_calibrator_cfg_of(q->calibrator)->kind == RQ_CALIBRATOR_MAX && method != RQ_AMAX_MAX)
        return rq_fail(err, RQ_BAD_ARG, "a MaxCalibrator has no method '%s'", rq_amax_method_name(method));
    rq_status st = rq_calibrator_amax(q->calibrator, method, params, &amax, err);
    if (st == RQ_NOT_FOUND && strict)
        return rq_fail(
            err, st, "Calibrator returned None: nothing was collected. Passing 'strict=False' will ignore the error.");
    if (st == RQ_NOT_FOUND && !q->compat)
        return RQ_OK;
    if (st && st != RQ_NOT_FOUND)
        return st;
    if (st)
        amax = rq_tensor_view(RQ_DTYPE_F32, &one, &nothing);
    st = q->amax.dtype == RQ_DTYPE_NONE ? keep(&q->amax, &amax, "amax", false, err) : pour(&q->amax, &amax, err);
    rq_tensor_release(&amax);
    return st;
}

/* ---- learned bounds ---- */

rq_status rq_tensor_quantizer_init_learn_amax(rq_tensor_quantizer *q, rq_err *err)
{
    float most = 0;
    if (!q->desc.learn_amax)
        return rq_fail(err, RQ_BAD_ARG, "Called init_learn_amax with learn_amax=False.");
    if (q->amax.dtype == RQ_DTYPE_NONE)
        return rq_fail(err, RQ_NOT_FOUND, "there is no amax to start the bounds from");
    for (int64_t i = 0; i < rq_tensor_count(&q->amax); i++)
        most = fmaxf(most, q->amax.f32[i]);
    q->lo = -most;
    q->hi = most;
    return RQ_OK;
}

static rq_status check_learns(const rq_tensor_quantizer *q, rq_err *err)
{
    return q->desc.learn_amax ? RQ_OK : rq_fail(err, RQ_BAD_ARG, "learn_amax is False: there are no bounds");
}

rq_status rq_tensor_quantizer_bounds(const rq_tensor_quantizer *q, float *lo, float *hi, rq_err *err)
{
    RQ_TRY(check_learns(q, err));
    *lo = q->lo;
    *hi = q->hi;
    return RQ_OK;
}

rq_status rq_tensor_quantizer_set_bounds(rq_tensor_quantizer *q, float lo, float hi, rq_err *err)
{
    RQ_TRY(check_learns(q, err));
    if (isnan(lo) || isnan(hi))
        return rq_fail(err, RQ_BAD_ARG, "clipping bounds %g and %g, expected two numbers", (double)lo, (double)hi);
    q->lo = lo;
    q->hi = hi;
    return RQ_OK;
}

/* ---- kept ---- */

static const char *const bound_names[] = { "clip.clip_value_min", "clip.clip_value_max" };

/* The settings alone: what a name, an initial amax or a calibrator may differ in is left out. */
static rq_quant_desc settings_of(const rq_quant_desc *d)
{
    rq_quant_desc s = *d;
    s.name = NULL;
    s.amax = (rq_tensor) { 0 };
    s.calib_method = RQ_CALIBRATOR_MAX;
    s.axis_is_list = d->n_axes > 1;
    return s;
}

static rq_status save_descriptor(const rq_quant_desc *d, rq_state *s, const char *prefix, rq_err *err)
{
    const rq_quant_desc settings = settings_of(d);
    char text[1024]; /* ten short fields */
    const int64_t size = rq_quant_desc_to_yaml(&settings, false, text, sizeof text);
    if (size < 0 || size >= (int64_t)sizeof text || rq_state_set_text(s, prefix, "_descriptor", text))
        return rq_fail(err, RQ_NO_MEMORY, "no memory to keep a descriptor");
    return RQ_OK;
}

rq_status rq_tensor_quantizer_save(const rq_tensor_quantizer *q, rq_state *s, const char *prefix, rq_err *err)
{
    const rq_shape one = { .rank = 0 };
    float bound[2] = { q->lo, q->hi };
    rq_status st = RQ_OK;
    RQ_TRY(save_descriptor(&q->desc, s, prefix, err));
    if (q->amax.dtype != RQ_DTYPE_NONE)
        st = rq_state_set(s, prefix, "_amax", &q->amax);
    if (!st && q->pre_quant_scale.dtype != RQ_DTYPE_NONE)
        st = rq_state_set(s, prefix, "_pre_quant_scale", &q->pre_quant_scale);
    for (int i = 0; !st && q->desc.learn_amax && i < 2; i++) {
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &one, &bound[i]);
        st = rq_state_set(s, prefix, bound_names[i], &t);
    }
    return st ? rq_fail(err, st, "no memory to keep a quantizer") : RQ_OK;
}

/* What is under "<prefix><name>": NULL, none. */
static rq_status find(const rq_tensor **out, const rq_state *s, const char *prefix, const char *name, rq_err *err)
{
    rq_buf key = { 0 };
    rq_buf_addf(&key, "%s%s", prefix ? prefix : "", name);
    *out = key.failed ? NULL : rq_state_find(s, key.data);
    const bool failed = key.failed;
    rq_buf_release(&key);
    return failed ? rq_fail(err, RQ_NO_MEMORY, "no memory to look for %s", name) : RQ_OK;
}

/* *out becomes the tensor of that name, or stays empty where neither side has one. */
static rq_status take(rq_tensor *out, const rq_tensor *have, const rq_state *s, const char *prefix, const char *name,
                      rq_err *err)
{
    const rq_tensor *t;
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    RQ_TRY(find(&t, s, prefix, name, err));
    if (!t && have->dtype == RQ_DTYPE_NONE)
        return RQ_OK;
    if (!t)
        return rq_fail(err, RQ_NOT_FOUND, "%s%s is missing; the quantizer has one", prefix ? prefix : "", name);
    if (have->dtype != RQ_DTYPE_NONE && !rq_shape_equal(&have->shape, &t->shape) &&
        (rq_tensor_count(have) != 1 || rq_tensor_count(t) != 1))
        return rq_fail(err, RQ_BAD_SHAPE, "%s%s has the shape %s, the quantizer's has %s", prefix ? prefix : "", name,
                       rq_shape_text(&t->shape, a, sizeof a), rq_shape_text(&have->shape, b, sizeof b));
    RQ_TRY(to_f32(out, t, name, err));
    if (have->dtype != RQ_DTYPE_NONE)
        out->shape = have->shape;
    return RQ_OK;
}

static rq_status take_bound(float *out, bool wanted, const rq_state *s, const char *prefix, const char *name,
                            rq_err *err)
{
    const rq_tensor *t;
    RQ_TRY(find(&t, s, prefix, name, err));
    if (!t && !wanted)
        return RQ_OK;
    if (!t)
        return rq_fail(err, RQ_NOT_FOUND, "%s%s is missing; the quantizer learns its amax", prefix ? prefix : "", name);
    if (!wanted)
        return rq_fail(err, RQ_BAD_DATA, "%s%s is there, but the quantizer does not learn its amax",
                       prefix ? prefix : "", name);
    if (!rq_dtype_is_float(t->dtype))
        return rq_fail(err, RQ_BAD_DTYPE, "%s%s is %s, expected a float", prefix ? prefix : "", name,
                       rq_dtype_name(t->dtype));
    if (rq_tensor_count(t) != 1)
        return rq_fail(err, RQ_BAD_SHAPE, "%s%s has %lld elements, expected one", prefix ? prefix : "", name,
                       (long long)rq_tensor_count(t));
    *out = (float)rq_tensor_get(t, 0);
    return RQ_OK;
}

/* Where a descriptor was kept, it is that of the quantizer. */
static rq_status match_descriptor(const rq_quant_desc *d, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *t;
    char a[160], b[160];
    RQ_TRY(find(&t, s, prefix, "_descriptor", err));
    if (!t)
        return RQ_OK; /* the originals keep none */
    if (t->dtype != RQ_DTYPE_U8)
        return rq_fail(err, RQ_BAD_DTYPE, "%s_descriptor is %s, expected text", prefix ? prefix : "",
                       rq_dtype_name(t->dtype));
    char *text = rq_mem_strndup((const char *)t->u8, (size_t)rq_tensor_count(t));
    if (!text)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for a descriptor");
    rq_quant_desc kept;
    rq_status st = rq_quant_desc_from_yaml(&kept, text, err);
    rq_mem_free(text);
    if (st)
        return st == RQ_NO_MEMORY ? st : rq_fail_in(err, RQ_BAD_DATA, "%s_descriptor", prefix ? prefix : "");
    const rq_quant_desc ours = settings_of(d), theirs = settings_of(&kept);
    if (!rq_quant_desc_equal(&ours, &theirs)) {
        rq_quant_desc_text(&theirs, a, sizeof a);
        rq_quant_desc_text(&ours, b, sizeof b);
        st = rq_fail(err, RQ_BAD_DATA, "%s_descriptor: kept by a %s%s, this is a %s%s", prefix ? prefix : "", a,
                     theirs.narrow_range ? " of narrow range" : "", b, ours.narrow_range ? " of narrow range" : "");
    }
    rq_quant_desc_release(&kept);
    return st;
}

rq_status rq_tensor_quantizer_load(rq_tensor_quantizer *q, const rq_state *s, const char *prefix, rq_err *err)
{
    rq_tensor amax = { 0 }, scale = { 0 };
    float bound[2] = { q->lo, q->hi };
    RQ_TRY(match_descriptor(&q->desc, s, prefix, err));
    for (int i = 0; i < 2; i++)
        RQ_TRY(take_bound(&bound[i], q->desc.learn_amax, s, prefix, bound_names[i], err));
    rq_status st = take(&amax, &q->amax, s, prefix, "_amax", err);
    for (int64_t i = 0; !st && amax.dtype != RQ_DTYPE_NONE && i < rq_tensor_count(&amax); i++)
        if (amax.f32[i] < 0)
            st = rq_fail(err, RQ_BAD_DATA, "%s_amax[%lld] is negative", prefix ? prefix : "", (long long)i);
    if (!st)
        st = take(&scale, &q->pre_quant_scale, s, prefix, "_pre_quant_scale", err);
    if (st) {
        rq_tensor_release(&amax);
        return st;
    }
    rq_tensor_release(&q->amax);
    rq_tensor_release(&q->pre_quant_scale);
    q->amax = amax;
    q->pre_quant_scale = scale;
    q->lo = bound[0];
    q->hi = bound[1];
    return RQ_OK;
}

/* ---- printed ---- */

/* "2.5000", or "[1.0000, 2.5000](2)". */
static void add_short(rq_buf *b, const rq_tensor *t)
{
    char least[32], most[32];
    double lo = HUGE_VAL, hi = -HUGE_VAL;
    const int64_t n = rq_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        lo = fmin(lo, (double)t->f32[i]);
        hi = fmax(hi, (double)t->f32[i]);
    }
    if (n == 1)
        lo = hi = (double)t->f32[0];
    rq_number_print(least, sizeof least, "%.4f", lo);
    rq_number_print(most, sizeof most, "%.4f", hi);
    if (n == 1)
        rq_buf_adds(b, least);
    else
        rq_buf_addf(b, "[%s, %s](%lld)", least, most, (long long)n);
}

static void add_settings(rq_buf *b, const rq_tensor_quantizer *q)
{
    const rq_quant_desc *d = &q->desc;
    rq_buf_adds(b, d->is_unsigned ? "unsigned " : "");
    if (d->e4m3)
        rq_buf_adds(b, "(4, 3)bit");
    else
        rq_buf_addf(b, "%dbit", d->num_bits);
    rq_buf_adds(b, d->narrow_range ? " narrow" : "");
    rq_buf_adds(b, d->fake_quant ? " fake" : "");
    rq_buf_adds(b, d->n_axes ? " axis=" : " per-tensor");
    if (d->n_axes)
        rq_quant_desc_axes(b, d);
    rq_buf_adds(b, " amax=");
    if (q->amax.dtype == RQ_DTYPE_NONE)
        rq_buf_adds(b, "dynamic");
    else
        add_short(b, &q->amax);
    if (d->has_scale_amax) {
        rq_buf_adds(b, " *");
        rq_quant_desc_number(b, d->scale_amax, false);
    }
}

int64_t rq_tensor_quantizer_text(const rq_tensor_quantizer *q, char *buf, size_t n)
{
    rq_buf b = { 0 };
    rq_buf_adds(&b, "TensorQuantizer(");
    if (q->disabled) {
        rq_buf_adds(&b, "disabled)");
        return rq_buf_hand_over(&b, buf, n);
    }
    add_settings(&b, q);
    rq_buf_adds(&b, q->pre_quant_scale.dtype == RQ_DTYPE_NONE ? "" : " pre_quant_scale");
    rq_buf_adds(&b, q->desc.learn_amax ? " learned" : "");
    rq_buf_addf(&b, " calibrator=%s", rq_calibrator_name(q->calibrator));
    if (q->desc.fake_quant) {
        rq_buf_adds(&b, " scale=1.0");
    } else if (q->scale.dtype != RQ_DTYPE_NONE) {
        rq_buf_adds(&b, " scale=");
        add_short(&b, &q->scale);
    }
    rq_buf_adds(&b, q->if_quant ? " quant" : "");
    rq_buf_adds(&b, q->if_clip ? " clip" : "");
    rq_buf_adds(&b, q->if_calib ? " calib" : "");
    rq_buf_adds(&b, ")");
    return rq_buf_hand_over(&b, buf, n);
}
