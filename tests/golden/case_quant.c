/* case_quant.c — cases of single quantizer functions and objects: which function runs which op, and the tolerances of
 * these sets (tests/golden/torch/README.md). Every test is written so that NaN fails. */
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"

static const struct op {
    const char *name;
    golden_verdict (*run)(golden_case *c);
} ops[] = {
    /* quant_*.c, by file */
    { "fake_quantize_per_tensor_affine", golden_fake_quantize_per_tensor },
    { "fake_quantize_per_channel_affine", golden_fake_quantize_per_channel },
    { "_fake_quantize_learnable_per_tensor_affine", golden_learnable_per_tensor },
    { "_fake_quantize_learnable_per_channel_affine", golden_learnable_per_channel },
    { "fake_tensor_quant", golden_fake_tensor_quant },
    { "scaled_e4m3", golden_scaled_e4m3 },
    { "TensorQuantizer", golden_tensor_quantizer },
    { "HistogramCalibrator", golden_histogram_calibrator },
    { "MseCalibrator", golden_mse_calibrator },
    { "HistogramObserver", golden_histogram_observer },
    { "coremltools.LearnableFakeQuantize", golden_core_ml_learnable },
    { "FakeQuantize", golden_fake_quantize_module },
    { "FusedMovingAvgObsFakeQuantize", golden_fused_fake_quantize },
    { "MinMaxObserver", golden_min_max_observer },
    { "PerChannelMinMaxObserver", golden_min_max_observer },
    { "MovingAverageMinMaxObserver", golden_moving_average_observer },
    { "MovingAveragePerChannelMinMaxObserver", golden_moving_average_observer },
    { "coremltools.EMAMinMaxObserver", golden_ema_observer },
    { "FixedQParamsObserver", golden_fixed_observer },
    { "choose_qparams_per_tensor", golden_choose_qparams },
    { "LinearQuantizer", golden_linear_quantizer },
    { "gradient", golden_gradient }, /* case_grad.c */
    { "eager_qat", golden_eager_qat },
    { NULL, NULL },
};

/* Topics of which nothing is built yet, by the last folder of their path. */
static const struct topic {
    const char *name, *reason;
} topics[] = {
    { "eager", "eager mode is there for training alone" },
    { "gptq", "layer-wise compression is not there" },
    { "ptq", "compression of weights as Core ML Tools has it is not there" },
};

static const struct op *find(const char *name)
{
    for (size_t i = 0; name && ops[i].name; i++)
        if (!strcmp(ops[i].name, name))
            return &ops[i];
    return NULL;
}

golden_verdict golden_run_op(golden_case *c)
{
    const struct op *o = find(golden_str(c->json, "op"));
    const char *slash = strrchr(c->topic, '/'), *folder = slash ? slash + 1 : c->topic;
    for (size_t i = 0; !o && i < sizeof topics / sizeof topics[0]; i++)
        if (!strcmp(topics[i].name, folder))
            return golden_skip(c, "%s", topics[i].reason);
    if (!o) {
        golden_fail(c, "nothing here runs the op %s", golden_str(c->json, "op"));
        return GOLDEN_FAIL;
    }
    memset(c->seen, 0, sizeof c->seen);
    if (json_object_size(json_object_get(c->json, "outputs")) > GOLDEN_MAX_OUTPUTS) {
        golden_fail(c, "more outputs than the runner counts");
        return GOLDEN_FAIL;
    }
    const golden_verdict v = o->run(c);
    const char *what;
    json_t *name;
    int i = 0;
    json_object_foreach(json_object_get(c->json, "outputs"), what, name)
    {
        if (v == GOLDEN_PASS && !c->failed && !(c->seen[i / 64] >> i % 64 & 1))
            golden_fail(c, "output %s was not compared", what);
        i++;
    }
    return v;
}

/* ---- what a case says ---- */

static const json_t *param(const golden_case *c, const char *key)
{
    const json_t *v = json_object_get(json_object_get(c->json, "params"), key);
    return v && !json_is_null(v) ? v : NULL;
}

bool golden_param_has(const golden_case *c, const char *key)
{
    return param(c, key);
}

int64_t golden_param_int(const golden_case *c, const char *key, int64_t fallback)
{
    const json_t *v = param(c, key);
    return v ? (json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)json_number_value(v)) : fallback;
}

double golden_param_number(const golden_case *c, const char *key, double fallback)
{
    const json_t *v = param(c, key);
    return v ? json_number_value(v) : fallback;
}

bool golden_param_bool(const golden_case *c, const char *key, bool fallback)
{
    const json_t *v = param(c, key);
    return v ? json_is_true(v) : fallback;
}

const char *golden_param_str(const golden_case *c, const char *key)
{
    return json_string_value(param(c, key));
}

static bool array_of(golden_case *c, rq_tensor *out, const char *side, const char *what)
{
    const char *key = golden_str(json_object_get(c->json, side), what);
    if (key)
        return golden_array(c, out, key);
    golden_fail(c, "%s has no %s", side, what);
    return false;
}

bool golden_in(golden_case *c, rq_tensor *out, const char *what)
{
    return array_of(c, out, "inputs", what);
}

bool golden_want(golden_case *c, rq_tensor *out, const char *what)
{
    return array_of(c, out, "outputs", what);
}

bool golden_has(const golden_case *c, const char *what)
{
    return json_object_get(json_object_get(c->json, "outputs"), what);
}

void golden_mark(golden_case *c, const char *what)
{
    const char *key;
    json_t *name;
    int i = 0;
    json_object_foreach(json_object_get(c->json, "outputs"), key, name)
    {
        if (!strcmp(key, what))
            c->seen[i / 64] |= (uint64_t)1 << i % 64;
        i++;
    }
}

void golden_field_skipped(golden_case *c, const char *what, const char *field, const char *reason)
{
    golden_mark(c, what);
    dprintf(c->out, "FIELD %s/%s %s%s%s: %s\n", c->topic, c->id, what, field ? "." : "", field ? field : "", reason);
}

const json_t *golden_tol(const golden_case *c, const char *what)
{
    const json_t *tol = json_object_get(c->json, "tol");
    const char *pattern;
    json_t *v;
    if (!json_is_object(tol))
        return tol;
    json_object_foreach((json_t *)tol, pattern,
                        v) if (strcmp(pattern, "default") && !fnmatch(pattern, what, 0)) return v;
    v = json_object_get(tol, "default");
    return v ? v : tol; /* a single tolerance for all outputs */
}

/* ---- comparing ---- */

/* The same sizes, axes of size 1 left out. */
static bool same_shape(const rq_shape *a, const rq_shape *b)
{
    int i = 0, j = 0;
    for (;;) {
        while (i < a->rank && a->dim[i] == 1)
            i++;
        while (j < b->rank && b->dim[j] == 1)
            j++;
        if (i == a->rank || j == b->rank)
            return i == a->rank && j == b->rank;
        if (a->dim[i++] != b->dim[j++])
            return false;
    }
}

static bool same_bits(const rq_tensor *got, const rq_tensor *want, int64_t i)
{
    const double g = rq_tensor_get(got, i), w = rq_tensor_get(want, i);
    if (isnan(g) || isnan(w))
        return isnan(g) && isnan(w);
    if (rq_dtype_is_integer(got->dtype) && rq_dtype_is_integer(want->dtype))
        return rq_tensor_get_int(got, i) == rq_tensor_get_int(want, i);
    return g == w && !signbit(g) == !signbit(w); /* widening to double is exact, so equal values are equal bits */
}

static double mass_moved(const rq_tensor *got, const rq_tensor *want, int64_t n)
{
    double sum = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += fabs(rq_tensor_get(got, i) - rq_tensor_get(want, i));
        total += rq_tensor_get(want, i);
    }
    return total > 0 ? sum / 2 / total : sum;
}

static double rms_rel(const rq_tensor *got, const rq_tensor *want, int64_t n)
{
    double diff = 0, power = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = rq_tensor_get(got, i), w = rq_tensor_get(want, i);
        diff += (g - w) * (g - w);
        power += w * w;
    }
    return power > 0 ? sqrt(diff / power) : sqrt(diff);
}

static const char *const known_tol[] = { "abs", "rel", "mismatch", "mass_moved", "rms_rel" };

static bool tol_known(golden_case *c, const char *what, const json_t *tol)
{
    const char *key;
    json_t *v;
    if (json_is_string(tol) && !strcmp(json_string_value(tol), "exact"))
        return true;
    if (!json_is_object(tol) || !json_object_size(tol)) {
        golden_fail(c, "%s has no tolerance that is known", what);
        return false;
    }
    json_object_foreach((json_t *)tol, key, v)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof known_tol / sizeof known_tol[0]; i++)
            known |= !strcmp(known_tol[i], key);
        if (!known || !json_is_number(v)) {
            golden_fail(c, "%s: unknown tolerance \"%s\"", what, key);
            return false;
        }
    }
    return true;
}

static void check_elements(golden_case *c, const char *what, const rq_tensor *got, const rq_tensor *want,
                           const json_t *tol)
{
    const bool exact = json_is_string(tol);
    const bool has_abs = json_object_get(tol, "abs"), has_rel = json_object_get(tol, "rel");
    const double abs = json_number_value(json_object_get(tol, "abs")),
                 rel = json_number_value(json_object_get(tol, "rel")),
                 may = json_number_value(json_object_get(tol, "mismatch"));
    int64_t n = rq_tensor_count(got), off = 0, at = -1;
    for (int64_t i = 0; i < n; i++) {
        const double g = rq_tensor_get(got, i), w = rq_tensor_get(want, i), d = fabs(g - w);
        const bool near =
            exact ? same_bits(got, want, i)
                  : g == w || (isnan(g) && isnan(w)) || (has_abs && d <= abs) || (has_rel && d <= rel * fabs(w));
        off += !near;
        at = !near && at < 0 ? i : at;
    }
    if (!((double)off <= may * (double)n))
        golden_fail(c, "%s: %lld of %lld differ; [%lld]: got %.9g, want %.9g", what, (long long)off, (long long)n,
                    (long long)at, rq_tensor_get(got, at), rq_tensor_get(want, at));
}

void golden_check_under(golden_case *c, const char *what, const rq_tensor *got, const json_t *tol)
{
    rq_tensor want;
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    golden_mark(c, what);
    if (json_is_string(tol) && !strcmp(json_string_value(tol), "information only")) {
        golden_field_skipped(c, what, NULL, "information only, says the set");
        return;
    }
    if (!tol_known(c, what, tol) || !golden_want(c, &want, what))
        return;
    const int64_t n = rq_tensor_count(got);
    const json_t *mass = json_object_get(tol, "mass_moved"), *rms = json_object_get(tol, "rms_rel");
    if (!same_shape(&got->shape, &want.shape)) {
        golden_fail(c, "%s: shape %s, want %s", what, rq_shape_text(&got->shape, a, sizeof a),
                    rq_shape_text(&want.shape, b, sizeof b));
    } else {
        if (mass && !(mass_moved(got, &want, n) <= json_number_value(mass)))
            golden_fail(c, "%s: mass_moved=%.6g allowed=%.6g", what, mass_moved(got, &want, n),
                        json_number_value(mass));
        if (rms && !(rms_rel(got, &want, n) <= json_number_value(rms)))
            golden_fail(c, "%s: rms_rel=%.6g allowed=%.6g", what, rms_rel(got, &want, n), json_number_value(rms));
        /* beside abs or rel, mass_moved is for what those two cannot hold: counts that changed bins */
        if (!mass && !rms)
            check_elements(c, what, got, &want, tol);
    }
    rq_tensor_release(&want);
}

void golden_check_rows(golden_case *c, const char *what, const rq_tensor *got, const char *const *fields, int n)
{
    const json_t *tol = golden_tol(c, what);
    rq_tensor want;
    char name[256];
    golden_mark(c, what);
    if (!golden_want(c, &want, what))
        return;
    if (!rq_shape_equal(&got->shape, &want.shape) || got->shape.rank < 2 || got->shape.dim[1] != n) {
        golden_fail(c, "%s: another shape", what);
        rq_tensor_release(&want);
        return;
    }
    const int64_t rows = got->shape.dim[0], inner = rq_shape_span(&got->shape, 2, got->shape.rank);
    const rq_shape part = rq_shape_of(2, (const int64_t[]) { rows, inner });
    for (int f = 0; f < n; f++) {
        const json_t *one = json_object_get(tol, fields[f]);
        rq_tensor a, b;
        snprintf(name, sizeof name, "%s.%s", what, fields[f]);
        if (!tol_known(c, name, one) || rq_tensor_create(&a, RQ_DTYPE_F32, &part, false))
            continue;
        if (!rq_tensor_create(&b, RQ_DTYPE_F32, &part, false)) {
            for (int64_t i = 0; i < rows * inner; i++) {
                const int64_t at = (i / inner * n + f) * inner + i % inner;
                rq_tensor_set(&a, i, rq_tensor_get(got, at));
                rq_tensor_set(&b, i, rq_tensor_get(&want, at));
            }
            check_elements(c, name, &a, &b, one);
            rq_tensor_release(&b);
        }
        rq_tensor_release(&a);
    }
    rq_tensor_release(&want);
}

void golden_check_phases(golden_case *c, const char *what, const double *got, const bool *late, int64_t n)
{
    const json_t *tol = golden_tol(c, what), *later = json_object_get(tol, "rel_after_fake_quant_on");
    rq_tensor want;
    golden_mark(c, what);
    if (!json_is_number(json_object_get(tol, "rel")) || json_object_size(tol) != (size_t)(1 + (later != NULL))) {
        golden_fail(c, "%s has no tolerance that is known", what);
        return;
    }
    if (!golden_want(c, &want, what))
        return;
    if (rq_tensor_count(&want) != n)
        golden_fail(c, "%s: %lld numbers, want %lld", what, (long long)n, (long long)rq_tensor_count(&want));
    for (int64_t i = 0; i < n && i < rq_tensor_count(&want); i++) {
        const double rel = json_number_value(late[i] && later ? later : json_object_get(tol, "rel"));
        const double w = rq_tensor_get(&want, i);
        if (!(fabs(got[i] - w) <= rel * fabs(w))) {
            golden_fail(c, "%s: [%lld]: got %.9g, want %.9g", what, (long long)i, got[i], w);
            break;
        }
    }
    rq_tensor_release(&want);
}

void golden_check(golden_case *c, const char *what, const rq_tensor *got)
{
    golden_check_under(c, what, got, golden_tol(c, what));
}

void golden_check_floats(golden_case *c, const char *what, const float *got, int64_t n)
{
    const rq_shape s = rq_shape_of(1, &n);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &s, (void *)got);
    golden_check(c, what, &t);
}

void golden_check_ints(golden_case *c, const char *what, const int32_t *got, int64_t n)
{
    const rq_shape s = rq_shape_of(1, &n);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S32, &s, (void *)got);
    golden_check(c, what, &t);
}
