/* static_params.c — our quantizer on the source of a case, with the peer's options and calibration rows: every tensor that
 * both quantize must have the peer's scale (within scale_rel), zero point, type and, for constants, codes. What our placement
 * leaves in float cannot be compared; a case of which that is the larger part is a skip that says so, not a pass. Forms
 * that ours cannot express are skips with a reason (skips.c). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"
#include "graph/graph.h"

static rq_settings settings_of(const json_t *params)
{
    rq_settings s = rq_settings_defaults();
    const char *activation = golden_str(params, "activation"), *weight = golden_str(params, "weight");
    const json_t *extra = json_object_get(params, "extra_options");
    s.method = RQ_METHOD_MINMAX;
    s.activations = activation && !strcmp(activation, "QInt8") ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
    s.weights = weight && !strcmp(weight, "QUInt8") ? RQ_DTYPE_U8 : RQ_DTYPE_S8;
    s.per_tensor = !json_is_true(json_object_get(params, "per_channel"));
    s.symmetric_activations = json_is_true(json_object_get(extra, "ActivationSymmetric"));
    const json_t *symmetric = json_object_get(extra, "WeightSymmetric");
    s.symmetric_weights = symmetric ? json_is_true(symmetric) : s.weights == RQ_DTYPE_S8;
    const char *format = golden_str(params, "format");
    s.softmax_256 = format && !strcmp(format, "QOperator");
    return s;
}

/* The calibration rows as a file that a dataset can be opened on; unlinked by the caller. */
static bool calibration_file(golden_case *c, char *path, const char *input)
{
    rq_tensor x;
    rq_err err = { 0 };
    const char *tmp = getenv("TMPDIR");
    snprintf(path, 4096, "%s/golden-%ld.npz", tmp ? tmp : "/tmp", (long)getpid());
    if (!golden_array(c, &x, golden_str(c->json, "calibration")))
        return false;
    const rq_feed one = { input, x };
    bool ok = rq_npz_save(path, &one, 1, &err) == RQ_OK;
    if (!ok)
        golden_fail(c, "calibration rows: %s", err.text);
    rq_tensor_release(&x);
    return ok;
}

/* Element i of a list, or the number itself. */
static double entry(const json_t *v, size_t i)
{
    return json_number_value(json_is_array(v) ? json_array_get(v, i) : v);
}

static size_t entries(const json_t *v)
{
    return json_is_array(v) ? json_array_size(v) : 1;
}

static void compare_params(golden_case *c, const char *name, const rq_qparams *q, const json_t *want, double scale_rel)
{
    const json_t *scale = json_object_get(want, "scale"), *zp = json_object_get(want, "zero_point");
    const char *type = golden_str(want, "type");
    static const struct {
        const char *name;
        rq_dtype d;
    } types[] = { { "UINT8", RQ_DTYPE_U8 }, { "INT8", RQ_DTYPE_S8 }, { "INT32", RQ_DTYPE_S32 } };
    for (size_t i = 0; type && i < 3; i++)
        if (!strcmp(type, types[i].name) && q->dtype != types[i].d)
            golden_fail(c, "%s type=%s allowed=%s", name, rq_dtype_name(q->dtype), rq_dtype_name(types[i].d));
    if ((size_t)q->n != entries(scale)) {
        golden_fail(c, "%s scales=%lld allowed=%zu", name, (long long)q->n, entries(scale));
        return;
    }
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < entries(scale); i++) {
        const double w = entry(scale, i), d = fabs((double)q->scale[i] - w) / fabs(w);
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
        if ((double)q->zero_point[i] != entry(zp, i)) {
            golden_fail(c, "%s zero_point=%d allowed=%.0f at [%zu]", name, (int)q->zero_point[i], entry(zp, i), i);
            return;
        }
    }
    if (!(worst <= scale_rel))
        golden_fail(c, "%s scale_rel=%.3g allowed=%.3g at [%zu]: got %.9g, want %.9g", name, worst, scale_rel, at,
                    (double)q->scale[at], entry(scale, at));
}

static void compare_codes(golden_case *c, const char *name, const rq_tensor *got, const rq_tensor *want, double may_off)
{
    const int64_t n = rq_tensor_count(got);
    int64_t off = 0, worst = 0;
    if (got->dtype != want->dtype || n != rq_tensor_count(want)) {
        golden_fail(c, "%s codes=%lld of %s allowed=%lld of %s", name, (long long)n, rq_dtype_name(got->dtype),
                    (long long)rq_tensor_count(want), rq_dtype_name(want->dtype));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t d = llabs(rq_tensor_get_int(got, i) - rq_tensor_get_int(want, i));
        off += d != 0;
        worst = d > worst ? d : worst;
    }
    if (worst > 1 || !((double)off <= may_off * (double)n))
        golden_fail(c, "%s weight_codes=%lld off, most by %lld, allowed=%.4f of %lld by 1", name, (long long)off,
                    (long long)worst, may_off, (long long)n);
}

/* The peer quantizes every tensor of the operators it knows. We leave outputs of the model in float, and operators between
 * others that stay in float (docs/numerics.md, Placement); but whoever has codes for weights must get codes to multiply. */
static bool may_stay_float(const rq_graph *g, rq_id value)
{
    rq_id users[64];
    const int n = rq_graph_uses(g, value, users, 64) - rq_graph_is_output(g, value);
    for (int i = 0; i < n && i < 64; i++)
        for (int k = 0; k < g->nodes[users[i]].n_in; k++) {
            const rq_id other = g->nodes[users[i]].in[k];
            if (other >= 0 && g->values[other].kind == RQ_VALUE_CONST && rq_graph_qparams(g, other))
                return false;
        }
    return true;
}

/* Where the peer's QOperator form drops a Relu, its input keeps the name; ours goes by its output's. `source`: the float
 * model. */
static rq_id find_value(const rq_graph *ours, const rq_graph *source, const char *name)
{
    rq_id user, v = rq_graph_find(ours, name), s = v == RQ_NONE ? rq_graph_find(source, name) : RQ_NONE;
    if (s == RQ_NONE || rq_graph_uses(source, s, &user, 1) != 1 ||
        (strcmp(source->nodes[user].op, "Relu") != 0 && strcmp(source->nodes[user].op, "Clip") != 0))
        return v;
    return rq_graph_find(ours, source->values[source->nodes[user].out[0]].name);
}

/* *compared and *left: tensors of the peer's that ours quantizes too, and that it leaves in float. */
static void compare_all(golden_case *c, const rq_graph *ours, const rq_graph *source, const rq_graph *theirs,
                        const json_t *all, int *compared, int *left)
{
    const json_t *tol = json_object_get(c->json, "tolerance");
    const double scale_rel = json_number_value(json_object_get(tol, "scale_rel")),
                 may_off = json_number_value(json_object_get(tol, "weight_codes_max_fraction_off_by_one"));
    const char *key;
    json_t *want;
    json_object_foreach((json_t *)all, key, want)
    {
        char name[512];
        snprintf(name, sizeof name, "%s", key);
        char *tail = strstr(name, "_quantized");
        const bool constant = tail && !tail[strlen("_quantized")];
        if (constant)
            *tail = 0;
        tail = strstr(name, "_QuantizeLinear_Input");
        if (tail)
            *tail = 0;
        const rq_id v = find_value(ours, source, name);
        const rq_qparams *q = v >= 0 ? rq_graph_qparams(ours, v) : NULL;
        if (!q && v >= 0 && may_stay_float(ours, v)) { /* there is nothing to compare */
            ++*left;
            continue;
        }
        if (!q) {
            golden_fail(c, "%s annotations=0 allowed=1: %s", name,
                        v >= 0 ? "the value is not quantized" : "there is no such value");
            continue;
        }
        compare_params(c, name, q, want, scale_rel);
        const rq_id t = constant ? rq_graph_find(theirs, key) : RQ_NONE;
        if (t >= 0 && theirs->values[t].kind == RQ_VALUE_CONST)
            compare_codes(c, name, &ours->values[v].constant, &theirs->values[t].constant, may_off);
        ++*compared;
    }
}

golden_verdict golden_check_params(golden_case *c)
{
    const json_t *params = json_object_get(c->json, "params");
    const char *why = golden_quantizer_skip(params);
    if (why)
        return golden_skip(c, "%s (the peer's file runs within tolerance)", why);
    char path[4096], data_path[4096] = "";
    int compared = 0, left = 0;
    rq_err err = { 0 };
    rq_graph *ours = NULL, *source = NULL, *theirs = NULL;
    rq_dataset *data = NULL;
    json_error_t bad;
    json_t *all = json_load_file(golden_path(path, sizeof path, c, golden_str(c->json, "qparams")), 0, &bad);
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.settings = settings_of(params);
    cfg.threads = 1;
    const rq_dataset_cfg batches = { .batch = json_integer_value(json_object_get(params, "calibration_batch")) };
    if (!all)
        golden_fail(c, "%s: %s", path, bad.text);
    else if (rq_load(&ours, golden_path(path, sizeof path, c, golden_str(c->json, "source")), &err) ||
             rq_load(&theirs, golden_path(path, sizeof path, c, golden_str(c->json, "quantized")), &err))
        golden_fail(c, "load: %s", err.text);
    else if (calibration_file(c, data_path, rq_graph_input(ours, 0).name)) {
        if (rq_graph_copy(&source, ours) || rq_dataset_open(&data, data_path, ours, &batches, &err) ||
            rq_ptq(ours, data, &cfg, NULL, &err))
            golden_fail(c, "quantize: %s", err.text);
        else
            compare_all(c, ours, source, theirs, all, &compared, &left);
    }
    rq_dataset_close(data);
    if (data_path[0])
        unlink(data_path);
    rq_graph_destroy(ours);
    rq_graph_destroy(source);
    rq_graph_destroy(theirs);
    json_decref(all);
    if (!c->failed && left > compared)
        return golden_skip(
            c, "placement: most of what the peer quantized stays in float here (the rest, and its file, agree)");
    return GOLDEN_PASS;
}
