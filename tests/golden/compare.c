/* compare.c — tolerances. Every test is written so that NaN fails: !(difference <= allowed). Equal
 * infinities and NaN in the same place count as equal. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const known_keys[] = {
    "max_abs",
    "relaxed_max_abs",
    "rel",
    "rel_to_max",
    "abs",
    "max_abs_steps",
    "max_fraction_off",
    /* of quantized models: case_static.c */
    "scale_rel",
    "zero_point",
    "weight_codes",
    "weight_codes_max_fraction_off_by_one",
    "output_rel_to_max",
    /* of Core ML packages: case_coreml.c */
    "codes",
    "output_rel",
    "output_rel_fraction",
    "output_max_steps",
    "accuracy",
};

bool golden_tolerance_known(golden_case *c, const json_t *tolerance)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)tolerance, key, v)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof known_keys / sizeof known_keys[0]; i++)
            known |= !strcmp(key, known_keys[i]);
        if (!known) {
            golden_fail(c, "unknown tolerance key \"%s\"", key);
            return false;
        }
        if (!json_is_number(v)) {
            golden_fail(c, "tolerance \"%s\" is not a number", key);
            return false;
        }
    }
    return true;
}

bool golden_retype(rq_tensor *t, rq_dtype d)
{
    if (t->dtype == d)
        return true;
    const bool raw = (t->dtype == RQ_DTYPE_U16 && d == RQ_DTYPE_BF16) ||
                     (t->dtype == RQ_DTYPE_U8 && rq_dtype_is_float(d) && rq_dtype_bits(d) == 8);
    const bool packed =
        rq_dtype_bits(d) < 8 && rq_dtype_bits(d) > 0 && (t->dtype == RQ_DTYPE_U8 || t->dtype == RQ_DTYPE_S8);
    if (raw) {
        t->dtype = d;
        return true;
    }
    if (!packed)
        return false;
    rq_tensor p;
    if (rq_tensor_create(&p, d, &t->shape, true))
        return false;
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        rq_tensor_set(&p, i, rq_tensor_get(t, i));
    rq_tensor_release(t);
    *t = p;
    return true;
}

static double difference(double got, double want)
{
    if (got == want || (isnan(got) && isnan(want)))
        return 0;
    double d = fabs(got - want);
    return isnan(d) ? INFINITY : d;
}

static void place(char *buf, size_t n, const rq_shape *s, int64_t i)
{
    size_t used = 0;
    int64_t stride = 1;
    for (int a = 0; a < s->rank; a++)
        stride *= s->dim[a];
    used += (size_t)snprintf(buf, n, "[");
    for (int a = 0; a < s->rank && used < n; a++) {
        stride /= s->dim[a] ? s->dim[a] : 1;
        used += (size_t)snprintf(buf + used, n - used, a ? ",%lld" : "%lld", (long long)(i / stride));
        i %= stride;
    }
    if (used < n)
        snprintf(buf + used, n - used, "]");
}

typedef struct worst {
    double d; /* the largest so far */
    int64_t at;
} worst;

static void worst_add(worst *w, double d, int64_t i)
{
    if (!(d <= w->d)) {
        w->d = d;
        w->at = i;
    }
}

static void miss(golden_case *c, const char *output, const char *metric, double got, double allowed, const rq_tensor *g,
                 const rq_tensor *w, int64_t at)
{
    char where[160];
    place(where, sizeof where, &g->shape, at);
    golden_fail(c, "%s %s=%.9g allowed=%.9g at %s: got %.9g, want %.9g", output, metric, got, allowed, where,
                rq_tensor_get(g, at), rq_tensor_get(w, at));
}

static double number(const json_t *o, const char *key, double fallback)
{
    const json_t *v = json_object_get(o, key);
    return v ? json_number_value(v) : fallback;
}

void golden_compare(golden_case *c, const char *output, const rq_tensor *got, const rq_tensor *want_file,
                    const json_t *tol)
{
    rq_tensor want;
    rq_tensor_share(&want, want_file);
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    if (!golden_retype(&want, got->dtype)) {
        golden_fail(c, "%s type=%s allowed=%s", output, rq_dtype_name(got->dtype), rq_dtype_name(want.dtype));
        goto done;
    }
    if (!rq_shape_equal(&got->shape, &want.shape)) {
        golden_fail(c, "%s shape=%s allowed=%s", output, rq_shape_text(&got->shape, a, sizeof a),
                    rq_shape_text(&want.shape, b, sizeof b));
        goto done;
    }
    const int64_t n = rq_tensor_count(got);
    const bool has_abs = json_object_get(tol, "max_abs"), has_rel = json_object_get(tol, "rel"),
               has_max = json_object_get(tol, "rel_to_max"), has_steps = json_object_get(tol, "max_abs_steps");
    if (!has_abs && !has_rel && !has_max && !has_steps && !json_object_get(tol, "output_rel_to_max")) {
        golden_fail(c, "%s has no tolerance to compare under", output);
        goto done;
    }
    const double max_abs = number(tol, "max_abs", 0), rel = number(tol, "rel", 0);
    const double step = number(json_object_get(c->json, "params"), "output_step", 0);
    worst either = { 0, 0 }, any = { 0, 0 }, steps = { 0, 0 };
    double top = 0;
    int64_t off = 0, far = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = rq_tensor_get(got, i), w = rq_tensor_get(&want, i), d = difference(g, w);
        if (isfinite(w) && fabs(w) > top)
            top = fabs(w);
        worst_add(&any, d, i);
        const bool near = (has_abs && d <= max_abs) || (has_rel && d <= rel * fabs(w));
        far += !near;
        if (!near)
            worst_add(&either, has_abs || isinf(d) ? d : d / fabs(w), i);
        worst_add(&steps, d / step, i);
        off += !(d / step <= 0.5);
    }
    if ((has_abs || has_rel) && far) {
        miss(c, output, has_abs ? "max_abs" : "rel", either.d, has_abs ? max_abs : rel, got, &want, either.at);
        goto done;
    }
    const char *rel_key = has_max ? "rel_to_max" : "output_rel_to_max";
    if (json_object_get(tol, rel_key)) {
        const double r = number(tol, rel_key, 0), allowed = r * top + number(tol, "abs", 0);
        if (!(any.d <= allowed)) {
            miss(c, output, rel_key, top > 0 ? any.d / top : any.d, top > 0 ? allowed / top : allowed, got, &want,
                 any.at);
            goto done;
        }
    }
    if (has_steps) {
        const double most = number(tol, "max_abs_steps", 0), share = n ? (double)off / (double)n : 0,
                     may = number(tol, "max_fraction_off", 0);
        if (!(step > 0))
            golden_fail(c, "%s params.output_step is missing", output);
        else if (!(steps.d <= most + 1e-3))
            miss(c, output, "max_abs_steps", steps.d, most, got, &want, steps.at);
        else if (!(share <= may))
            miss(c, output, "max_fraction_off", share, may, got, &want, steps.at);
    }
done:
    rq_tensor_release(&want);
}
