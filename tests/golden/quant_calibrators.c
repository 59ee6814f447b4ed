/* quant_calibrators.c — NVIDIA's calibrators: HistogramCalibrator (collected, and asked of the peer's own histogram) and
 * ModelOpt's MseCalibrator. Searches are compared by what they minimize, written here from its definition
 * (docs/calibration-facts.md 4.4 and 4.5), O(bins) for each candidate. */
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

typedef struct counts {
    const rq_tensor *h, *edge;
    int64_t n;
    int levels;
} counts;

static double count_of(const counts *c, int64_t k)
{
    return rq_tensor_get(c->h, k);
}

/* Kullback-Leibler divergence of keeping bins 0..i-1. */
static double divergence(const counts *c, int64_t i)
{
    double *p = calloc((size_t)i, sizeof *p), *q = calloc((size_t)i, sizeof *q), sum_p = 0, sum_q = 0, kl = 0;
    if (!p || !q)
        abort();
    for (int64_t k = 0; k < c->n; k++)
        p[k < i ? k : i - 1] += count_of(c, k ? k : 1);
    for (int64_t from = 0; from < i;) {
        int64_t to = from, used = 0;
        double mass = 0;
        for (; to < i && to * c->levels / i == from * c->levels / i; to++) {
            mass += count_of(c, to ? to : 1);
            used += count_of(c, to ? to : 1) > 0;
        }
        for (; from < to; from++)
            q[from] = count_of(c, from ? from : 1) > 0 ? mass / (double)used : 0;
    }
    for (int64_t k = 0; k < i; k++) {
        sum_p += p[k];
        sum_q += q[k];
    }
    for (int64_t k = 0; k < i; k++)
        if (p[k] > 0)
            kl += q[k] > 0 ? p[k] / sum_p * log(p[k] / sum_p / (q[k] / sum_q)) : INFINITY;
    free(p);
    free(q);
    return kl;
}

static double squared_error(const counts *c, double amax)
{
    const double s = (c->levels - 1) / amax;
    double sum = 0;
    for (int64_t k = 0; k < c->n; k++) {
        const double v = (rq_tensor_get(c->edge, k) + rq_tensor_get(c->edge, k + 1)) / 2;
        const double d = fmin(rint(v * s), c->levels - 1) / s - v;
        sum += count_of(c, k) * d * d;
    }
    return sum / (double)c->n;
}

/* What `method` minimizes, at amax. */
static double objective(const counts *c, rq_amax_method method, double amax)
{
    if (method == RQ_AMAX_MSE)
        return squared_error(c, amax);
    int64_t at = 0;
    for (int64_t i = 1; i <= c->n; i++)
        if (fabs(rq_tensor_get(c->edge, i) - amax) < fabs(rq_tensor_get(c->edge, at) - amax))
            at = i;
    return at ? divergence(c, at) : INFINITY;
}

static const json_t *field_tol(const json_t *tol, const char *field)
{
    const char *pattern;
    json_t *v;
    json_object_foreach((json_t *)tol, pattern, v) if (!fnmatch(pattern, field, 0)) return v;
    return NULL;
}

/* `exact`: the histogram is the peer's, so that a percentile is too. */
static void check_amax(golden_case *c, rq_calibrator *cal, const counts *peer, const rq_amax_params *base, bool exact)
{
    const json_t *order = json_object_get(json_object_get(c->json, "params"), "amax_order"),
                 *tol = golden_tol(c, "amax");
    rq_tensor want;
    if (!golden_want(c, &want, "amax"))
        return;
    golden_mark(c, "amax");
    for (size_t i = 0; i < json_array_size(order); i++) {
        const char *field = json_string_value(json_array_get(order, i));
        const json_t *t = field_tol(tol, field);
        rq_amax_params p = *base;
        rq_amax_method method = RQ_AMAX_MSE;
        rq_err err = { 0 };
        rq_tensor got;
        if (json_is_string(t) && !strcmp(json_string_value(t), "information only")) {
            if (exact)
                golden_field_skipped(c, "amax", field, "information only, says the set");
            continue;
        }
        if (!strncmp(field, "percentile_", 11)) {
            method = RQ_AMAX_PERCENTILE;
            p.percentile = strtod(field + 11, NULL);
        } else if (!strcmp(field, "entropy")) {
            method = RQ_AMAX_ENTROPY;
        } else if (strcmp(field, "mse_intended") && strcmp(field, "mse")) {
            golden_fail(c, "amax.%s: no such method", field);
            continue;
        }
        if (rq_calibrator_amax(cal, method, &p, &got, &err)) {
            golden_fail(c, "amax.%s: %s", field, err.text);
            continue;
        }
        const double g = rq_tensor_get(&got, 0), w = rq_tensor_get(&want, (int64_t)i);
        rq_tensor_release(&got);
        const json_t *bins = json_object_get(t, "bins"), *rel = json_object_get(t, "objective_rel");
        if (method == RQ_AMAX_PERCENTILE && exact) {
            if (g != w)
                golden_fail(c, "amax.%s of the same counts: got %.9g, want %.9g", field, g, w);
        } else if (bins) {
            const double width = rq_tensor_get(peer->edge, 1) - rq_tensor_get(peer->edge, 0);
            if (!(fabs(g - w) <= json_number_value(bins) * width * 1.001))
                golden_fail(c, "amax.%s: got %.9g, want %.9g, a bin is %.9g", field, g, w, width);
        } else if (rel) {
            const double a = objective(peer, method, g), b = objective(peer, method, w);
            if (!(fabs(a - b) <= json_number_value(rel) * b + 1e-12))
                golden_fail(c, "amax.%s: got %.9g (%.9g), want %.9g (%.9g)", field, g, a, w, b);
        } else {
            golden_fail(c, "amax.%s has no tolerance that is known", field);
        }
    }
    rq_tensor_release(&want);
}

static bool feed(golden_case *c, rq_calibrator *cal)
{
    rq_err err = { 0 };
    rq_exec *e = NULL;
    bool fine = !rq_exec_create(&e, 2, &err);
    for (int i = 0; fine; i++) {
        char what[16];
        rq_tensor x = { 0 };
        snprintf(what, sizeof what, "x%d", i);
        if (!golden_str(json_object_get(c->json, "inputs"), what))
            break;
        fine = golden_in(c, &x, what);
        const rq_strided s = rq_strided_of(&x);
        fine = fine && !rq_calibrator_collect(cal, e, &s, &err);
        rq_tensor_release(&x);
    }
    rq_exec_destroy(e);
    if (!fine)
        golden_fail(c, "%s", err.text);
    return fine;
}

/* A calibrator that has collected the peer's histogram. */
static bool pretend(rq_calibrator *cal, const counts *peer, rq_err *err)
{
    rq_state *s = NULL;
    const int64_t n = peer->n, four = 4;
    int64_t *h = malloc((size_t)n * sizeof *h), total = 0;
    for (int64_t k = 0; h && k < n; k++)
        total += h[k] = rq_tensor_get_int(peer->h, k);
    double range[4] = { 0, rq_tensor_get(peer->edge, n), rq_tensor_get(peer->edge, n) - rq_tensor_get(peer->edge, 0),
                        (double)total };
    const int64_t seen[5] = { 1, total, 0, 0, 0 };
    const rq_shape shape = rq_shape_of(1, &four);
    const rq_tensor r = rq_tensor_view(RQ_DTYPE_F64, &shape, range);
    const bool fine = h && !rq_state_create(&s) && !rq_state_set_text(s, "", "calibrator", "HistogramCalibrator") &&
                      !rq_state_set_ints(s, "", "counts", seen, 5) && !rq_state_set_ints(s, "", "_calib_hist", h, n) &&
                      !rq_state_set(s, "", "_calib_bin_edges", peer->edge) && !rq_state_set(s, "", "_range", &r) &&
                      !rq_calibrator_load(cal, s, "", err);
    rq_state_destroy(s);
    free(h);
    return fine;
}

golden_verdict golden_histogram_calibrator(golden_case *c)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    const char *how = golden_param_str(c, "histogram");
    cfg.num_bits = (int)golden_param_int(c, "num_bits", 8);
    cfg.is_unsigned = golden_param_bool(c, "unsigned", false);
    cfg.num_bins = (int)golden_param_int(c, "num_bins", 2048);
    cfg.skip_zeros = golden_param_bool(c, "skip_zeros", false);
    cfg.numpy_hist = how && !strcmp(how, "numpy");
    rq_amax_params p = rq_amax_defaults();
    p.stride = (int)golden_param_int(c, "stride", 1);
    p.start_bin = (int)golden_param_int(c, "start_bin", 128);
    rq_err err = { 0 };
    rq_calibrator *own = NULL, *fed = NULL;
    rq_tensor hist = { 0 }, edges = { 0 }, h = { 0 }, edge = { 0 };
    if (rq_calibrator_create(&own, &cfg, &err)) {
        golden_fail(c, "%s", err.text);
        goto done;
    }
    cfg.numpy_hist = true; /* takes any edges */
    if (rq_calibrator_create(&fed, &cfg, &err) || !golden_want(c, &h, "hist") || !golden_want(c, &edge, "edges") ||
        !feed(c, own))
        goto done;
    const counts peer = { &h, &edge, rq_tensor_count(&h), 1 << (cfg.num_bits - 1 + cfg.is_unsigned) };
    if (rq_calibrator_histogram(own, &hist, &edges, &err) || !pretend(fed, &peer, &err)) {
        golden_fail(c, "%s", err.text);
        goto done;
    }
    golden_check(c, "hist", &hist);
    golden_check(c, "edges", &edges);
    check_amax(c, own, &peer, &p, false);
    check_amax(c, fed, &peer, &p, true);
done:
    rq_calibrator_destroy(own);
    rq_calibrator_destroy(fed);
    rq_tensor_release(&hist);
    rq_tensor_release(&edges);
    rq_tensor_release(&h);
    rq_tensor_release(&edge);
    return GOLDEN_PASS;
}

/* axis: absent or null, a number, or several. */
static void axes_of(golden_case *c, rq_calibrator_cfg *cfg)
{
    const json_t *axis = json_object_get(json_object_get(c->json, "params"), "axis");
    if (json_is_integer(axis)) {
        cfg->axis[0] = (int)json_integer_value(axis);
        cfg->n_axes = 1;
    }
    for (size_t i = 0; i < json_array_size(axis) && i < RQ_MAX_RANK; i++)
        cfg->axis[cfg->n_axes++] = (int)json_integer_value(json_array_get(axis, i));
}

golden_verdict golden_mse_calibrator(golden_case *c)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MSE);
    cfg.num_bits = (int)golden_param_int(c, "num_bits", 8);
    cfg.is_unsigned = golden_param_bool(c, "unsigned", false);
    cfg.narrow_range = golden_param_bool(c, "narrow_range", false);
    cfg.start = golden_param_number(c, "start", cfg.start);
    cfg.stop = golden_param_number(c, "stop", cfg.stop);
    cfg.step_size = golden_param_number(c, "step_size", cfg.step_size);
    axes_of(c, &cfg);
    rq_err err = { 0 };
    rq_calibrator *cal = NULL;
    rq_tensor around = { 0 }, losses = { 0 }, multipliers = { 0 }, amax = { 0 };
    if (!golden_in(c, &around, "amax_in"))
        return GOLDEN_PASS;
    cfg.amax = &around;
    if (rq_calibrator_create(&cal, &cfg, &err)) {
        golden_fail(c, "%s", err.text);
    } else if (feed(c, cal)) {
        if (rq_calibrator_losses(cal, &losses, &multipliers, &err) ||
            rq_calibrator_amax(cal, RQ_AMAX_MSE, NULL, &amax, &err)) {
            golden_fail(c, "%s", err.text);
        } else {
            const int64_t want = golden_param_int(c, "candidates", rq_tensor_count(&multipliers));
            if (rq_tensor_count(&multipliers) != want)
                golden_fail(c, "%lld candidates, want %lld", (long long)rq_tensor_count(&multipliers), (long long)want);
            golden_check(c, "losses", &losses);
            golden_check(c, "multipliers", &multipliers);
            golden_check(c, "amax", &amax);
        }
    }
    rq_calibrator_destroy(cal);
    rq_tensor_release(&around);
    rq_tensor_release(&losses);
    rq_tensor_release(&multipliers);
    rq_tensor_release(&amax);
    return GOLDEN_PASS;
}
