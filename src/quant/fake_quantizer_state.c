/* quant/fake_quantizer_state.c — what a fake-quantizer remembers as named tensors, under the originals' names, and as a line of
 * text. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "quant/fake_quantizer.h"

static bool is_torch_learnable(const rq_fake_quantizer *q)
{
    return q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE && q->cfg.rule == RQ_LEARNED_TORCH;
}

/* "<prefix>activation_post_process."; rq_mem_free it. */
static char *inner(const char *prefix)
{
    static const char name[] = "activation_post_process.";
    const size_t n = prefix ? strlen(prefix) : 0;
    char *s = rq_mem_alloc(n + sizeof name, 1);
    if (s) {
        if (n)
            memcpy(s, prefix, n);
        memcpy(s + n, name, sizeof name);
    }
    return s;
}

/* ---- saving ---- */

/* A switch is a u8, of the fused one an s64. */
static rq_status set_flag(const rq_fake_quantizer *q, rq_state *s, const char *prefix, const char *name, bool on)
{
    const bool wide = q->cfg.kind == RQ_FAKE_QUANTIZER_FUSED;
    uint8_t u8 = on;
    int64_t s64 = on;
    const rq_shape one = rq_shape_of(1, &(int64_t) { 1 });
    const rq_tensor t = rq_tensor_view(wide ? RQ_DTYPE_S64 : RQ_DTYPE_U8, &one, wide ? (void *)&s64 : (void *)&u8);
    return rq_state_set(s, prefix, name, &t);
}

/* Zero points are integers where they are codes. */
static rq_status set_zero_points(const rq_fake_quantizer *q, rq_state *s, const char *prefix, const float *z, int n)
{
    if (q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE || q->cfg.observer.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS)
        return rq_state_set_floats(s, prefix, "zero_point", z, n);
    rq_tensor t;
    const rq_shape shape = rq_shape_of(1, &(int64_t) { n });
    RQ_TRY(rq_tensor_create(&t, RQ_DTYPE_S32, &shape, false));
    for (int c = 0; c < n; c++)
        t.s32[c] = (int32_t)z[c];
    const rq_status st = rq_state_set(s, prefix, "zero_point", &t);
    rq_tensor_release(&t);
    return st;
}

rq_status rq_fake_quantizer_save(const rq_fake_quantizer *q, rq_state *s, const char *prefix)
{
    RQ_TRY(set_flag(q, s, prefix, "fake_quant_enabled", q->fake_quant_on));
    const bool torch = is_torch_learnable(q); /* has a switch of its own, and one that nothing reads */
    RQ_TRY(set_flag(q, s, prefix, "observer_enabled", torch || q->observer_on));
    if (!q->observer)
        return q->cfg.own->save ? q->cfg.own->save(q->state, s, prefix) : RQ_OK;
    const float one = 1, none = 0;
    RQ_TRY(rq_state_set_floats(s, prefix, "scale", q->n ? q->scale : &one, q->n ? q->n : 1));
    RQ_TRY(set_zero_points(q, s, prefix, q->n ? q->zero_point : &none, q->n ? q->n : 1));
    if (torch) {
        const float eps = FLT_EPSILON;
        RQ_TRY(set_flag(q, s, prefix, "static_enabled", q->observer_on));
        RQ_TRY(set_flag(q, s, prefix, "learning_enabled", q->learning));
        RQ_TRY(rq_state_set_floats(s, prefix, "eps", &eps, 1));
    }
    char *below = inner(prefix);
    if (!below)
        return RQ_NO_MEMORY;
    const rq_status st = rq_observer_save(q->observer, s, below);
    rq_mem_free(below);
    return st;
}

/* ---- loading ---- */

/* A tensor of any type and shape. */
static const rq_tensor *find(const rq_state *s, const char *prefix, const char *name)
{
    const size_t n = prefix ? strlen(prefix) : 0;
    for (int i = 0; i < rq_state_count(s); i++) {
        const char *t = rq_state_name(s, i);
        if ((!n || !strncmp(t, prefix, n)) && !strcmp(t + n, name))
            return rq_state_tensor(s, i);
    }
    return NULL;
}

static rq_status get(const rq_state *s, const char *prefix, const char *name, bool floats, const rq_tensor **out,
                     rq_err *err)
{
    *out = find(s, prefix, name);
    if (!*out)
        return rq_fail(err, RQ_NOT_FOUND, "the state has no '%s%s'", prefix ? prefix : "", name);
    const rq_dtype d = (*out)->dtype;
    if (!(rq_dtype_is_integer(d) || d == RQ_DTYPE_BOOL || (floats && rq_dtype_is_float(d))))
        return rq_fail(err, RQ_BAD_DTYPE, "'%s%s' of the state is %s, expected %s", prefix ? prefix : "", name,
                       rq_dtype_name(d), floats ? "numbers" : "an integer");
    return RQ_OK;
}

static rq_status get_flag(const rq_state *s, const char *prefix, const char *name, bool *on, rq_err *err)
{
    const rq_tensor *t;
    RQ_TRY(get(s, prefix, name, false, &t, err));
    if (rq_tensor_count(t) != 1)
        return rq_fail(err, RQ_BAD_SHAPE, "'%s%s' of the state has %lld elements, expected 1", prefix ? prefix : "",
                       name, (long long)rq_tensor_count(t));
    *on = rq_tensor_get(t, 0) != 0;
    return RQ_OK;
}

/* Can q use this pair as it stands? LEARNABLE may use any that an optimizer left; compat takes what the original takes. */
static rq_status check_fixed(const rq_fake_quantizer *q, double scale, double zero_point, rq_err *err)
{
    const bool floats = q->cfg.observer.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    if (q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE)
        return RQ_OK;
    if (q->cfg.compat) /* as rq_fq_check */
        return floats || fabs(zero_point) <= 1 << 23
                   ? RQ_OK
                   : rq_fail(err, RQ_BAD_DATA, "zero point %g of the state, expected at most 2^23", zero_point);
    if (!(isnormal((float)scale) && scale > 0))
        return rq_fail(err, RQ_BAD_DATA, "scale %g of the state: a normal number above 0 is expected", scale);
    if (floats)
        return RQ_OK;
    if (zero_point != rint(zero_point) || zero_point < q->type.lo || zero_point > q->type.hi)
        return rq_fail(err, RQ_BAD_DATA,
                       "zero point %g of the state is none of the codes %d to %d: was it kept by a fake-quantizer of "
                       "another type?",
                       zero_point, (int)q->type.lo, (int)q->type.hi);
    return RQ_OK;
}

/* Scales and zero points into *q, which has the channels that they have. */
static rq_status get_params(rq_fake_quantizer *q, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *scale, *zero;
    RQ_TRY(get(s, prefix, "scale", true, &scale, err));
    RQ_TRY(get(s, prefix, "zero_point", true, &zero, err));
    const int64_t n = rq_tensor_count(scale);
    if (n < 1 || n > INT32_MAX / 4 || rq_tensor_count(zero) != n || (q->cfg.observer.axis == RQ_PER_TENSOR && n != 1))
        return rq_fail(err, RQ_BAD_SHAPE, "the state has %lld scales and %lld zero points, expected %s", (long long)n,
                       (long long)rq_tensor_count(zero),
                       q->cfg.observer.axis == RQ_PER_TENSOR ? "one each" : "one each for every channel");
    bool known = false;
    for (int64_t c = 0; c < n; c++) {
        const double v = rq_tensor_get(scale, c), z = rq_tensor_get(zero, c);
        if (!(fabs(v) <= FLT_MAX) || !(fabs(z) <= FLT_MAX))
            return rq_fail(err, RQ_BAD_DATA, "scale %g and zero point %g of the state are not finite", v, z);
        if (v != 1 || z != 0) { /* else it has seen nothing */
            RQ_TRY(check_fixed(q, v, z, err));
            known = true;
        }
    }
    RQ_TRY(rq_fake_quantizer_set_channels(q, (int)n, err));
    for (int64_t c = 0; c < n; c++) {
        q->scale[c] = (float)rq_tensor_get(scale, c);
        q->zero_point[c] = (float)rq_tensor_get(zero, c);
    }
    q->known = known;
    return RQ_OK;
}

static rq_status load_observer(rq_fake_quantizer *q, const rq_state *s, const char *prefix, rq_err *err)
{
    char *below = inner(prefix);
    if (!below)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory reading a state");
    const rq_status st = rq_observer_load(q->observer, s, below, err);
    rq_mem_free(below);
    return st;
}

rq_status rq_fake_quantizer_load(rq_fake_quantizer *q, const rq_state *s, const char *prefix, rq_err *err)
{
    rq_fake_quantizer next = *q;
    next.scale = NULL, next.n = next.room = 0; /* a block of its own, until all is well */
    rq_status st;
    RQ_TRY(get_flag(s, prefix, "fake_quant_enabled", &next.fake_quant_on, err));
    RQ_TRY(get_flag(s, prefix, "observer_enabled", &next.observer_on, err));
    if (!q->observer) {
        if (q->cfg.own->load)
            RQ_TRY(q->cfg.own->load(q->state, s, prefix, err));
        q->fake_quant_on = next.fake_quant_on;
        q->observer_on = next.observer_on;
        return RQ_OK;
    }
    if (is_torch_learnable(q)) {
        RQ_TRY(get_flag(s, prefix, "static_enabled", &next.observer_on, err));
        RQ_TRY(get_flag(s, prefix, "learning_enabled", &next.learning, err));
    } else if (q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE) {
        next.learning = !next.observer_on;
    }
    next.requires_grad = next.learning;
    next.watching = next.cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE && next.observer_on && !next.fake_quant_on;
    st = get_params(&next, s, prefix, err);
    if (!st)
        st = load_observer(&next, s, prefix, err);
    if (st) {
        rq_mem_free(next.scale);
        return st;
    }
    const bool seen = rq_fake_quantizer_has_seen(&next);
    if (!seen && !next.known && next.cfg.observer.axis != RQ_PER_TENSOR)
        next.n = 0; /* the one scale of an object that has seen nothing */
    next.known |= seen;
    rq_mem_free(q->scale);
    *q = next;
    return RQ_OK;
}

/* ---- as text ---- */

const char *rq_fake_quantizer_text(const rq_fake_quantizer *q, char *buf, size_t n)
{
    char type[RQ_QTYPE_TEXT];
    if (!q->observer) {
        rq_number_print(buf, n, "%s(fake_quant_enabled=%d, observer_enabled=%d)", q->cfg.own->name, q->fake_quant_on,
                        q->observer_on);
        return buf;
    }
    const rq_qtype whole = rq_qtype_of(q->type.dtype);
    rq_number_print(buf, n,
                    "%s(fake_quant_enabled=%d, observer_enabled=%d, quant_min=%d, quant_max=%d, dtype=%s, qscheme=%s, "
                    "ch_axis=%d, scale=%g%s, zero_point=%g%s)",
                    q->row->name, q->fake_quant_on, q->observer_on, (int)q->type.lo, (int)q->type.hi,
                    rq_qtype_text(&whole, type, sizeof type), rq_qscheme_name(q->cfg.observer.scheme),
                    q->cfg.observer.axis, (double)(q->n ? q->scale[0] : 1), q->n > 1 ? " ..." : "",
                    (double)(q->n ? q->zero_point[0] : 0), q->n > 1 ? " ..." : "");
    return buf;
}
