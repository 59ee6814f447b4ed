/* case_model.c — a model, inputs and outputs: load, run in integers wherever it can, compare. Where the case also
 * has outputs_unoptimised, the model is run a second time literally: Q and DQ as the float operators they are; quantized ones
 * once more with the rounding of the definition. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static const rq_value_info *input_named(const rq_graph *g, const char *name, rq_value_info *info)
{
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        *info = rq_graph_input(g, i);
        if (!strcmp(info->name, name))
            return info;
    }
    return NULL;
}

bool golden_feeds_load(golden_case *c, golden_feeds *f, const rq_graph *g, const json_t *inputs)
{
    f->n = 0;
    f->feed = calloc(json_object_size(inputs) + 1, sizeof *f->feed);
    if (!f->feed)
        abort();
    const char *name;
    json_t *key;
    json_object_foreach((json_t *)inputs, name, key)
    {
        rq_feed *one = &f->feed[f->n];
        rq_value_info info;
        if (!golden_array(c, &one->tensor, json_string_value(key)))
            return false;
        one->name = name;
        f->n++;
        if (!input_named(g, name, &info))
            golden_fail(c, "%s is no input of the model", name);
        else if (info.dtype != RQ_DTYPE_NONE && !golden_retype(&one->tensor, info.dtype))
            golden_fail(c, "input %s type=%s allowed=%s", name, rq_dtype_name(one->tensor.dtype),
                        rq_dtype_name(info.dtype));
    }
    return !c->failed;
}

void golden_feeds_release(golden_feeds *f)
{
    for (int i = 0; i < f->n; i++)
        rq_tensor_release(&f->feed[i].tensor);
    free(f->feed);
    f->feed = NULL;
    f->n = 0;
}

static bool any_integer(const rq_session *s)
{
    const rq_layer_info *l;
    const int n = rq_session_layers(s, &l);
    for (int i = 0; i < n; i++)
        if (l[i].integer)
            return true;
    return false;
}

void golden_check_run(golden_case *c, const rq_graph *g, const rq_session_cfg *cfg, const golden_feeds *f,
                      const json_t *outputs, const json_t *in_float, const json_t *tolerance, const char *suffix)
{
    rq_err err = { 0 };
    rq_session *s = NULL;
    const int n = rq_graph_n_outputs(g);
    rq_tensor *out = calloc((size_t)n + 1, sizeof *out);
    if (!out)
        abort();
    if (rq_session_create(&s, g, cfg, &err) || rq_session_run(s, f->feed, f->n, out, &err)) {
        golden_fail(c, "%s%s: %s", s ? "run" : "session", suffix, err.text[0] ? err.text : rq_status_text(err.code));
        rq_session_destroy(s);
        free(out);
        return;
    }
    if (in_float && !any_integer(s)) {
        outputs = in_float;
        suffix = "[float]";
    }
    const char *name;
    json_t *key;
    json_object_foreach((json_t *)outputs, name, key)
    {
        int at = -1;
        for (int i = 0; i < n; i++)
            if (!strcmp(rq_graph_output(g, i).name, name))
                at = i;
        if (at < 0) {
            golden_fail(c, "%s is no output of the model", name);
            continue;
        }
        rq_tensor want;
        char shown[300];
        snprintf(shown, sizeof shown, "%s%s", name, suffix);
        if (golden_array(c, &want, json_string_value(key))) {
            golden_compare(c, shown, &out[at], &want, tolerance);
            rq_tensor_release(&want);
        }
    }
    for (int i = 0; i < n; i++)
        rq_tensor_release(&out[i]);
    free(out);
    rq_session_destroy(s);
}

/* Once more by the definition: near what is computed without fusing, or as near to the outputs as the case says that another
 * legal rounding may come. */
static void run_by_the_definition(golden_case *c, const rq_graph *g, const golden_feeds *feeds, const json_t *tolerance)
{
    const json_t *relaxed = json_object_get(tolerance, "relaxed_max_abs"),
                 *unfused = json_object_get(c->json, "outputs_unoptimised");
    const rq_session_cfg cfg = { .threads = 1, .match = RQ_MATCH_SPEC };
    if (unfused) {
        golden_check_run(c, g, &cfg, feeds, unfused, NULL, tolerance, "[spec]");
    } else if (relaxed) {
        json_t *t = json_pack("{s:O}", "max_abs", relaxed);
        golden_check_run(c, g, &cfg, feeds, json_object_get(c->json, "outputs"), NULL, t, "[spec]");
        json_decref(t);
    }
}

golden_verdict golden_run_model(golden_case *c)
{
    char path[4096];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    golden_feeds feeds = { 0 };
    const json_t *tolerance = json_object_get(c->json, "tolerance"), *outputs = json_object_get(c->json, "outputs"),
                 *literal = json_object_get(c->json, "outputs_unoptimised");
    if (!json_object_size(outputs)) {
        golden_fail(c, "the case has no outputs");
        return GOLDEN_FAIL;
    }
    if (rq_load(&g, golden_path(path, sizeof path, c, golden_str(c->json, "model")), &err)) {
        golden_fail(c, "load: %s", err.text[0] ? err.text : rq_status_text(err.code));
        return GOLDEN_FAIL;
    }
    if (golden_feeds_load(c, &feeds, g, json_object_get(c->json, "inputs"))) {
        golden_check_run(c, g, &(rq_session_cfg) { .threads = 1 }, &feeds, outputs, literal, tolerance, "");
        if (literal)
            golden_check_run(c, g, &(rq_session_cfg) { .threads = 1, .literal = true }, &feeds, literal, NULL,
                             tolerance, "[literal]");
        run_by_the_definition(c, g, &feeds, tolerance);
    }
    golden_feeds_release(&feeds);
    rq_graph_destroy(g);
    return GOLDEN_PASS;
}

golden_verdict golden_run_arrays(golden_case *c)
{
    const char *group, *key;
    json_t *keys, *one;
    size_t i;
    json_object_foreach(json_object_get(c->json, "arrays"), group, keys)
    {
        int64_t rows = -1;
        json_array_foreach(keys, i, one)
        {
            rq_tensor t;
            key = json_string_value(one);
            if (!golden_array(c, &t, key))
                continue;
            if (t.shape.rank < 1 || (rows >= 0 && t.shape.dim[0] != rows))
                golden_fail(c, "%s rows=%lld allowed=%lld", key, (long long)(t.shape.rank ? t.shape.dim[0] : 1),
                            (long long)rows);
            rows = t.shape.rank ? t.shape.dim[0] : 1;
            rq_tensor_release(&t);
        }
    }
    return GOLDEN_PASS;
}
