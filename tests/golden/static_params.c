/* static_params.c — our quantizer on the source of a case, with the peer's options and calibration rows: every tensor that
 * the peer quantized must have its scale (within scale_rel), zero point, type and, for constants, codes. Forms that ours
 * cannot express are skips with a reason. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"
#include "graph/graph.h"

/* A type by the peer's name for it. */
static rq_dtype type_of(const char *name, rq_dtype other)
{
    static const struct {
        const char *name;
        rq_dtype d;
    } types[] = { { "QUInt8", RQ_DTYPE_U8 },  { "QInt8", RQ_DTYPE_S8 }, { "QUInt16", RQ_DTYPE_U16 },
                  { "QInt16", RQ_DTYPE_S16 }, { "QInt4", RQ_DTYPE_S4 }, { "QUInt4", RQ_DTYPE_U4 },
                  { "UINT8", RQ_DTYPE_U8 },   { "INT8", RQ_DTYPE_S8 },  { "UINT16", RQ_DTYPE_U16 },
                  { "INT16", RQ_DTYPE_S16 },  { "INT4", RQ_DTYPE_S4 },  { "UINT4", RQ_DTYPE_U4 },
                  { "INT32", RQ_DTYPE_S32 } };
    for (size_t i = 0; name && i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(name, types[i].name))
            return types[i].d;
    return other;
}

static bool is_signed(rq_dtype d)
{
    return d == RQ_DTYPE_S8 || d == RQ_DTYPE_S16 || d == RQ_DTYPE_S4;
}

/* The peer's options in our words. Its QDQ form does not look at MatMulConstBOnly (measured with 1.31.1), so it is not
 * asked for here. */
static rq_settings settings_of(const json_t *params)
{
    rq_settings s = rq_settings_defaults();
    const char *calibrate = golden_str(params, "calibrate");
    const json_t *extra = json_object_get(params, "extra_options");
    s.compat = RQ_COMPAT_ONNXRUNTIME;
    s.method = RQ_METHOD_MINMAX;
    if (calibrate && !strcmp(calibrate, "Entropy"))
        s.method = RQ_METHOD_ENTROPY;
    else if (calibrate && !strcmp(calibrate, "Percentile"))
        s.method = RQ_METHOD_PERCENTILE;
    else if (json_is_true(json_object_get(extra, "CalibMovingAverage")))
        s.method = RQ_METHOD_AVERAGE;
    const json_t *percentile = json_object_get(extra, "CalibPercentile");
    s.percentile = percentile ? json_number_value(percentile) : 99.999;
    s.activations = type_of(golden_str(params, "activation"), RQ_DTYPE_U8);
    s.weights = type_of(golden_str(params, "weight"), RQ_DTYPE_S8);
    s.per_tensor = !json_is_true(json_object_get(params, "per_channel"));
    s.reduced = json_is_true(json_object_get(params, "reduce_range"));
    s.symmetric_activations = json_is_true(json_object_get(extra, "ActivationSymmetric"));
    const json_t *symmetric = json_object_get(extra, "WeightSymmetric");
    s.symmetric_weights = json_is_boolean(symmetric) ? json_is_true(symmetric) : is_signed(s.weights);
    const json_t *ranges = json_object_get(extra, "CalibTensorRangeSymmetric");
    s.symmetric_ranges = !json_is_boolean(ranges) ? RQ_AUTO : json_is_true(ranges) ? RQ_YES : RQ_NO;
    s.restricted = json_is_true(json_object_get(extra, "ActivationRestrictedAsymmetric")) &&
                   s.activations == RQ_DTYPE_U8 && !s.symmetric_activations;
    s.min_range = json_number_value(json_object_get(extra, "MinimumRealRange"));
    s.float_bias = json_is_false(json_object_get(extra, "QuantizeBias"));
    s.weight_pairs = json_is_true(json_object_get(extra, "AddQDQPairToWeight"));
    s.dedicated_pairs = json_is_true(json_object_get(extra, "DedicatedQDQPair"));
    s.keep_clamps = json_is_true(json_object_get(extra, "QDQKeepRemovableActivations"));
    s.force_moves = json_is_true(json_object_get(extra, "ForceQuantizeNoInputCheck"));
    const char *format = golden_str(params, "format");
    if (format && !strcmp(format, "QOperator")) {
        s.compat = RQ_COMPAT_ONNXRUNTIME_QOPERATOR;
        s.softmax_256 = true;
        s.const_matmul = json_is_true(json_object_get(extra, "MatMulConstBOnly"));
    }
    return s;
}

/* A list of strings of params as an array that ends in NULL; NULL when it is absent or empty. */
static const char **list_of(const json_t *params, const char *key)
{
    const json_t *a = json_object_get(params, key);
    const size_t n = json_array_size(a);
    const char **list = n ? calloc(n + 1, sizeof *list) : NULL;
    for (size_t i = 0; list && i < n; i++)
        list[i] = json_string_value(json_array_get(a, i));
    return list;
}

/* A name as a quoted pattern that fits nothing else. */
static void put_pattern(FILE *f, const char *name)
{
    fputc('"', f);
    for (; *name; name++)
        fprintf(f, strchr("*?[]\\", *name) ? "\\\\%c" : *name == '"' ? "\\%c" : "%c", *name);
    fputc('"', f);
}

/* `chosen`: the options say whether weights are symmetric, whatever their type. */
static void put_rule(FILE *f, const char *tensor, const json_t *o, bool chosen)
{
    const json_t *v;
    const rq_dtype d = type_of(golden_str(o, "quant_type"), RQ_DTYPE_NONE);
    fputs("  - match: {tensor: ", f);
    put_pattern(f, tensor);
    fprintf(f, "}\n    set: {per-tensor: %s", json_object_get(o, "axis") ? "false" : "true");
    if ((v = json_object_get(o, "axis")))
        fprintf(f, ", axis: %d", (int)json_integer_value(v));
    if (d != RQ_DTYPE_NONE && d != RQ_DTYPE_S4 && d != RQ_DTYPE_U4)
        fprintf(f, ", activations: %s", rq_dtype_name(d));
    if (d != RQ_DTYPE_NONE)
        fprintf(f, ", weights: %s", rq_dtype_name(d));
    if (d != RQ_DTYPE_NONE && !chosen && !json_object_get(o, "symmetric"))
        fprintf(f, ", affine-weights: %s", is_signed(d) ? "false" : "true");
    if ((v = json_object_get(o, "symmetric")))
        fprintf(f, ", symmetric: %s, affine-weights: %s", json_is_true(v) ? "true" : "false",
                json_is_true(v) ? "false" : "true");
    if ((v = json_object_get(o, "reduce_range")))
        fprintf(f, ", reduce-range: %s", json_is_true(v) ? "true" : "false");
    if ((v = json_object_get(o, "rmin")))
        fprintf(f, ", lo: %.17g", json_number_value(v));
    if ((v = json_object_get(o, "rmax")))
        fprintf(f, ", hi: %.17g", json_number_value(v));
    if ((v = json_object_get(o, "scale")))
        fprintf(f, ", scale: %.17g", json_number_value(v));
    if ((v = json_object_get(o, "zero_point")))
        fprintf(f, ", zero-point: %d", (int)json_integer_value(v));
    fputs("}\n", f);
}

/* What params say of single tensors and of the outputs of operator types, as a recipe; *out NULL: nothing. */
static bool recipe_of(golden_case *c, rq_recipe **out, const rq_graph *g, const json_t *params)
{
    const json_t *extra = json_object_get(params, "extra_options"),
                 *tensors = json_object_get(extra, "TensorQuantOverrides"),
                 *types = json_object_get(extra, "OpTypesToExcludeOutputQuantization");
    const char *tmp = getenv("TMPDIR"), *key;
    char path[4096];
    json_t *v;
    size_t i;
    rq_err err = { 0 };
    *out = NULL;
    if (!strcmp(golden_str(params, "format"), "QOperator")) /* which does not look at them */
        types = NULL;
    if (!json_object_size(tensors) && !json_array_size(types))
        return true;
    snprintf(path, sizeof path, "%s/golden-%ld.yaml", tmp ? tmp : "/tmp", (long)getpid());
    FILE *f = fopen(path, "w");
    if (!f) {
        golden_fail(c, "%s cannot be written", path);
        return false;
    }
    bool any = json_object_size(tensors) > 0;
    fputs(any ? "rules:\n" : "", f);
    json_array_foreach(types, i, v)
    {
        bool found = false; /* of what is not there the peer says nothing */
        for (int k = 0; k < g->n_nodes; k++)
            found |= g->nodes[k].op && !strcmp(g->nodes[k].op, json_string_value(v));
        if (found)
            fprintf(f, "%s  - match: {type: %s}\n    set: {float-output: true}\n", any ? "" : "rules:\n",
                    json_string_value(v));
        any |= found;
    }
    json_object_foreach((json_t *)tensors, key, v) put_rule(f, key, json_is_array(v) ? json_array_get(v, 0) : v,
                                                            json_is_boolean(json_object_get(extra, "WeightSymmetric")));
    fclose(f);
    if (rq_recipe_load(out, path, &err))
        golden_fail(c, "overrides: %s", err.text);
    unlink(path);
    return !c->failed;
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

/* A range exactly as wide below as above puts its zero point on a tie, -0.5 for s8, which the last bit of the range decides
 * (onnx-facts 4.5). That bit is not ours to give: so both sides of the middle of all codes will do there. */
static bool is_tie(const rq_qparams *q, int32_t got, double want)
{
    int32_t lo, hi;
    rq_qparams_limits(q, &lo, &hi);
    return q->axis == RQ_PER_TENSOR && got + want == (double)lo + hi;
}

static void compare_params(golden_case *c, const char *name, const rq_qparams *q, const json_t *want, double scale_rel)
{
    const json_t *scale = json_object_get(want, "scale"), *zp = json_object_get(want, "zero_point");
    const char *type = golden_str(want, "type");
    if (q->dtype != type_of(type, RQ_DTYPE_NONE))
        golden_fail(c, "%s type=%s allowed=%s", name, rq_dtype_name(q->dtype), type ? type : "?");
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
        if ((double)q->zero_point[i] != entry(zp, i) && !is_tie(q, q->zero_point[i], entry(zp, i))) {
            golden_fail(c, "%s zero_point=%d allowed=%.0f at [%zu]", name, (int)q->zero_point[i], entry(zp, i), i);
            return;
        }
    }
    if (!(worst <= scale_rel))
        golden_fail(c, "%s scale_rel=%.3g allowed=%.3g at [%zu]: got %.9g, want %.9g", name, worst, scale_rel, at,
                    (double)q->scale[at], entry(scale, at));
}

/* A bias has the scale of x and w, so its codes (b / scale) may differ by scale_rel of themselves and by what that does to
 * their rounding. */
static void compare_codes(golden_case *c, const char *name, const rq_tensor *got, const rq_tensor *want, double may_off,
                          double scale_rel)
{
    const bool bias = want->dtype == RQ_DTYPE_S32;
    const int64_t n = rq_tensor_count(got);
    int64_t off = 0, worst = 0;
    if (got->dtype != want->dtype || n != rq_tensor_count(want)) {
        golden_fail(c, "%s codes=%lld of %s allowed=%lld of %s", name, (long long)n, rq_dtype_name(got->dtype),
                    (long long)rq_tensor_count(want), rq_dtype_name(want->dtype));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t code = rq_tensor_get_int(want, i), d = llabs(rq_tensor_get_int(got, i) - code);
        const double slack = bias ? scale_rel * (double)llabs(code) : 0;
        if (slack > 1e-3 && (double)d <= 1 + slack)
            continue;
        off += d != 0;
        worst = d > worst ? d : worst;
    }
    if (worst > 1 || !((double)off <= may_off * (double)n))
        golden_fail(c, "%s weight_codes=%lld off, most by %lld, allowed=%.4f of %lld by 1", name, (long long)off,
                    (long long)worst, may_off, (long long)n);
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

static void compare_all(golden_case *c, const rq_graph *ours, const rq_graph *source, const rq_graph *theirs,
                        const json_t *all)
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
        if (!q) {
            golden_fail(c, "%s annotations=0 allowed=1: %s", name,
                        v >= 0 ? "the value is not quantized" : "there is no such value");
            continue;
        }
        compare_params(c, name, q, want, scale_rel);
        const rq_id t = constant ? rq_graph_find(theirs, key) : RQ_NONE;
        if (t >= 0 && theirs->values[t].kind == RQ_VALUE_CONST)
            compare_codes(c, name, &ours->values[v].constant, &theirs->values[t].constant, may_off, scale_rel);
    }
}

/* What the peer leaves in float we leave in float: of its QDQ form, whose names are ours. A Relu that we keep, since the codes
 * before it reach further than its bounds, has codes on both sides. */
static void nothing_else(golden_case *c, const rq_graph *ours, const json_t *all)
{
    for (rq_id v = 0; v < ours->n_values; v++) {
        char name[512];
        rq_id user;
        const char *own = ours->values[v].name;
        if (ours->values[v].kind == RQ_VALUE_DEAD || !rq_graph_qparams(ours, v))
            continue;
        static const char *const tails[] = { "", "_quantized", "_QuantizeLinear_Input" };
        bool found = false;
        for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
            snprintf(name, sizeof name, "%s%s", own, tails[i]);
            found |= json_object_get(all, name) != NULL;
        }
        const bool clamped = rq_graph_uses(ours, v, &user, 1) == 1 &&
                             (!strcmp(ours->nodes[user].op, "Relu") || !strcmp(ours->nodes[user].op, "Clip"));
        if (!found && !clamped)
            golden_fail(c, "%s annotations=1 allowed=0: the peer leaves it in float", own);
    }
}

golden_verdict golden_check_params(golden_case *c)
{
    const json_t *params = json_object_get(c->json, "params");
    char path[4096], data_path[4096] = "";
    rq_err err = { 0 };
    rq_graph *ours = NULL, *source = NULL, *theirs = NULL;
    rq_dataset *data = NULL;
    json_error_t bad;
    json_t *all = json_load_file(golden_path(path, sizeof path, c, golden_str(c->json, "qparams")), 0, &bad);
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.settings = settings_of(params);
    cfg.threads = 1;
    rq_recipe *recipe = NULL;
    const char **ops = list_of(params, "op_types_to_quantize"), **nodes = list_of(params, "nodes_to_quantize"),
               **except = list_of(params, "nodes_to_exclude");
    cfg.ops = ops;
    cfg.nodes = nodes;
    cfg.except = except;
    const rq_dataset_cfg batches = { .batch = json_integer_value(json_object_get(params, "calibration_batch")) };
    if (!all)
        golden_fail(c, "%s: %s", path, bad.text);
    else if (rq_load(&ours, golden_path(path, sizeof path, c, golden_str(c->json, "source")), &err) ||
             rq_load(&theirs, golden_path(path, sizeof path, c, golden_str(c->json, "quantized")), &err))
        golden_fail(c, "load: %s", err.text);
    else if (recipe_of(c, &recipe, ours, params) && (cfg.recipe = recipe, true) &&
             calibration_file(c, data_path, rq_graph_input(ours, 0).name)) {
        if (rq_graph_copy(&source, ours) || rq_dataset_open(&data, data_path, ours, &batches, &err) ||
            rq_ptq(ours, data, &cfg, NULL, &err))
            golden_fail(c, "quantize: %s", err.text);
        else {
            compare_all(c, ours, source, theirs, all);
            if (!strcmp(golden_str(params, "format"), "QDQ"))
                nothing_else(c, ours, all);
        }
    }
    rq_dataset_close(data);
    if (data_path[0])
        unlink(data_path);
    rq_graph_destroy(ours);
    rq_graph_destroy(source);
    rq_graph_destroy(theirs);
    json_decref(all);
    rq_recipe_destroy(recipe);
    free(ops);
    free(nodes);
    free(except);
    return GOLDEN_PASS;
}
