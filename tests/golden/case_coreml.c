/* case_coreml.c — a Core ML package made by coremltools: the program read, its numbers, and what it computes, in integers
 * wherever it can and once more literally; a package that another was quantized into, by our linear_quantize_weights as well. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coreml_program.h"
#include "requant/coreml_optimize.h"

static rq_coreml *open_package(golden_case *c, const char *name)
{
    char path[4096];
    rq_err err = { 0 };
    rq_coreml *m = NULL;
    if (rq_coreml_open(&m, golden_path(path, sizeof path, c, name), &err))
        golden_fail(c, "%s", err.text);
    return m;
}

/* ---- running ---- */

/* The number of a tolerance; NAN: it has none. */
static double allowed(const json_t *tolerance, const char *key)
{
    const json_t *v = json_object_get(tolerance, key);
    return v ? json_number_value(v) : (double)NAN;
}

/* The README's table: output_rel for a share of the elements, the others within steps; or one of them for all. */
static void compare_output(golden_case *c, const char *name, const rq_tensor *got, const rq_tensor *want,
                           const json_t *tolerance, double step)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    const double share = allowed(tolerance, "output_rel_fraction"), steps = allowed(tolerance, "output_max_steps");
    double rel = allowed(tolerance, "output_rel"), top = 0, worst = 0;
    int64_t near = 0;
    if (isnan(rel))
        rel = allowed(tolerance, "rel_to_max");
    if (!rq_shape_equal(&got->shape, &want->shape)) {
        golden_fail(c, "%s shape=%s allowed=%s", name, rq_shape_text(&got->shape, a, sizeof a),
                    rq_shape_text(&want->shape, b, sizeof b));
        return;
    }
    const int64_t n = rq_tensor_count(got);
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, fabs(rq_tensor_get(want, i)));
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs(rq_tensor_get(got, i) - rq_tensor_get(want, i));
        near += d <= rel * top;
        worst = d <= worst ? worst : d; /* NaN stays */
    }
    if (isnan(rel) && isnan(steps))
        golden_fail(c, "%s has no tolerance to compare under", name);
    const bool steps_count = !isnan(steps) && (step > 0 || isnan(rel)); /* without a quantize all are near */
    if (!isnan(rel) && (isnan(share) || !steps_count) && !(worst <= rel * top))
        golden_fail(c, "%s rel_to_max=%.9g allowed=%.9g", name, worst / top, rel);
    if (!isnan(share) && !((double)near >= share * (double)n))
        golden_fail(c, "%s output_rel_fraction=%.4f allowed=%.4f", name, (double)near / (double)n, share);
    if (steps_count && !(step > 0 && worst <= (steps + 1e-3) * step))
        golden_fail(c, "%s output_max_steps=%.4f allowed=%g (a step is %.9g)", name, worst / step, steps, step);
}

/* The array as the type the graph takes. */
static bool feed(golden_case *c, rq_feed *f, const rq_graph *g, const char *name, const char *key)
{
    rq_value_info info = { .dtype = RQ_DTYPE_NONE };
    rq_tensor own;
    if (!golden_array(c, &f->tensor, key))
        return false;
    f->name = name;
    for (int i = 0; i < rq_graph_n_inputs(g); i++)
        if (!strcmp(rq_graph_input(g, i).name, name))
            info = rq_graph_input(g, i);
    if (info.dtype == RQ_DTYPE_NONE || info.dtype == f->tensor.dtype)
        return true;
    if (rq_tensor_create(&own, info.dtype, &f->tensor.shape, true))
        abort();
    for (int64_t i = 0; i < rq_tensor_count(&own); i++)
        rq_tensor_set(&own, i, rq_tensor_get(&f->tensor, i));
    rq_tensor_release(&f->tensor);
    f->tensor = own;
    return true;
}

/* The array of output `name`: of `outputs`, or of float_output where there is one only. */
static const char *wanted(const golden_case *c, const char *name, int n_outputs)
{
    const char *key = golden_str(json_object_get(c->json, "outputs"), name);
    return key || n_outputs != 1 ? key : golden_str(c->json, "float_output");
}

typedef struct run {
    const json_t *tolerance;
    double step;
    const char *suffix;
} run;

static void run_graph(golden_case *c, const rq_graph *g, const rq_session_cfg *cfg, const run *how)
{
    rq_err err = { 0 };
    rq_session *s = NULL;
    rq_feed feeds[16];
    int n_feeds = 0, compared = 0;
    const int n = rq_graph_n_outputs(g);
    rq_tensor *out = calloc((size_t)n + 1, sizeof *out);
    const char *name;
    const json_t *key;
    json_object_foreach((json_t *)json_object_get(c->json, "inputs"), name,
                        key) if (n_feeds < 16 && feed(c, &feeds[n_feeds], g, name, json_string_value(key))) n_feeds++;
    if (!out)
        abort();
    if (rq_session_create(&s, g, cfg, &err) || rq_session_run(s, feeds, n_feeds, out, &err))
        golden_fail(c, "%s%s: %s", s ? "run" : "session", how->suffix, err.text);
    for (int i = 0; i < n && !c->failed; i++) {
        char shown[300];
        rq_tensor want;
        name = rq_graph_output(g, i).name;
        const char *array = wanted(c, name, n);
        snprintf(shown, sizeof shown, "%s%s", name, how->suffix);
        if (!array || !golden_array(c, &want, array))
            continue;
        compare_output(c, shown, &out[i], &want, how->tolerance, how->step);
        rq_tensor_release(&want);
        compared++;
    }
    const json_t *outputs = json_object_get(c->json, "outputs");
    if (!c->failed && compared != (outputs ? (int)json_object_size(outputs) : 1))
        golden_fail(c, "%d outputs were compared%s", compared, how->suffix);
    for (int i = 0; i < n; i++)
        rq_tensor_release(&out[i]);
    while (n_feeds > 0)
        rq_tensor_release(&feeds[--n_feeds].tensor);
    free(out);
    rq_session_destroy(s);
}

static void run_package(golden_case *c, const char *name, const json_t *tolerance, double step)
{
    char path[4096];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    if (rq_load(&g, golden_path(path, sizeof path, c, name), &err)) {
        golden_fail(c, "%s", err.text);
        return;
    }
    run_graph(c, g, &(rq_session_cfg) { .threads = 1 }, &(run) { tolerance, step, "" });
    run_graph(c, g, &(rq_session_cfg) { .threads = 1, .literal = true }, &(run) { tolerance, step, "[literal]" });
    rq_graph_destroy(g);
}

/* What a float package must meet: the README's two numbers, by the precision that the case names. */
static json_t *float_tolerance(const json_t *params)
{
    const char *precision = golden_str(params, "precision");
    return json_pack("{s:f}", "rel_to_max", precision && !strcmp(precision, "fp16") ? 2e-2 : 1e-5);
}

/* ---- a case ---- */

static void compare_program(golden_case *c, const rq_coreml *m)
{
    const json_t *types = json_object_get(c->json, "op_types"), *weights = json_object_get(c->json, "weights"),
                 *spec = json_object_get(json_object_get(c->json, "params"), "specification_version");
    if (spec && json_integer_value(spec) != m->spec)
        golden_fail(c, "specification=%d allowed=%lld", m->spec, (long long)json_integer_value(spec));
    if (types)
        golden_coreml_op_types(c, m, types);
    if (weights)
        golden_coreml_weights(c, m, weights);
}

/* params.config as a dictionary of OptimizationConfig: one operator's config is the global one. Where a case names none (joint
 * compression) it follows from the first weight listed, without a threshold to speak of. */
static json_t *optimization_config(const golden_case *c)
{
    static const char *const keys[][2] = { { "global", "global_config" },
                                           { "global_config", "global_config" },
                                           { "op_type_configs", "op_type_configs" },
                                           { "op_name_configs", "op_name_configs" } };
    json_t *config = json_object_get(json_object_get(c->json, "params"), "config");
    json_t *out = json_pack("{s:s}", "config_type", "OpLinearQuantizerConfig");
    bool any = false;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (json_object_get(config, keys[i][0])) {
            json_object_set(out, keys[i][1], json_object_get(config, keys[i][0]));
            any = true;
        }
    if (config && !any)
        json_object_set(out, "global_config", config);
    if (config)
        return out;
    const json_t *weight = json_object_iter_value(json_object_iter(json_object_get(c->json, "weights"))), *dim;
    bool one = true;
    size_t i;
    json_array_foreach(json_object_get(weight, "scale_shape"), i, dim) one &= json_integer_value(dim) == 1;
    json_object_set_new(out, "global_config",
                        json_pack("{s:s, s:s, s:s, s:i}", "mode",
                                  json_object_get(weight, "zero_point") ? "linear" : "linear_symmetric", "dtype",
                                  golden_str(weight, "codes_type") ? golden_str(weight, "codes_type") : "int8",
                                  "granularity", one ? "per_tensor" : "per_channel", "weight_threshold", 64));
    return out;
}

/* The source quantized by us has the operators and weights listed. */
static void quantize_source(golden_case *c, const char *source)
{
    rq_coreml *m = open_package(c, source);
    rq_coreml_config *config = NULL;
    rq_err err = { 0 };
    json_t *dict = optimization_config(c);
    char *text = json_dumps(dict, 0);
    const bool joint = json_is_true(json_object_get(json_object_get(c->json, "params"), "joint_compression"));
    if (!text)
        abort();
    if (m && (rq_coreml_config_parse(&config, text, strlen(text), &err) ||
              rq_coreml_linear_quantize_weights(m, config, joint, NULL, &err)))
        golden_fail(c, "linear_quantize_weights: %s", err.text);
    else if (m)
        compare_program(c, m);
    rq_coreml_config_destroy(config);
    rq_coreml_close(m);
    free(text);
    json_decref(dict);
}

golden_verdict golden_run_coreml(golden_case *c)
{
    const char *package = golden_str(c->json, "package"), *source = golden_str(c->json, "source"),
               *operations = golden_str(c->json, "operations");
    const json_t *params = json_object_get(c->json, "params"), *tolerance = json_object_get(c->json, "tolerance");
    const bool runs = json_object_get(c->json, "inputs") != NULL;
    rq_coreml *m = package ? open_package(c, package) : NULL;
    double step = 0;
    if (m) {
        compare_program(c, m);
        if (operations)
            golden_coreml_operations(c, m, operations);
        golden_coreml_constants(c, m, json_object_get(c->json, "constants"));
        golden_coreml_decompressed(c, m, json_object_get(c->json, "decompressed"));
        step = golden_coreml_last_scale(m);
    }
    rq_coreml_close(m);
    if (package && !c->failed && json_object_get(c->json, "outputs"))
        run_package(c, package, tolerance, step);
    if (source && runs && !c->failed && json_object_get(c->json, "float_output")) {
        json_t *t = float_tolerance(params);
        run_package(c, source, t, 0);
        json_decref(t);
    }
    if (source && !c->failed)
        quantize_source(c, source);
    return GOLDEN_PASS;
}
