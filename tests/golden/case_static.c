/* case_static.c — a float model and what another quantizer made of it: the quantized model run by our integer
 * executor against its outputs and its accuracy over the test rows, and our own quantizer against its
 * scales, zero points and weight codes (static_params.c), where ours can express the form. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

/* Test rows and labels of the digits: topic `digits` beside this one. x becomes f32 [n,1,8,8] in 0..1. */
static bool digits_test(golden_case *c, rq_tensor *x, rq_tensor *label)
{
    char path[4200];
    rq_err err = { 0 };
    rq_tensor codes;
    snprintf(path, sizeof path, "%s/../digits/data.npz", c->dir);
    if (rq_npz_load(&codes, path, "test/x", &err)) {
        golden_fail(c, "accuracy needs %s: %s", path, err.text);
        return false;
    }
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { codes.shape.dim[0], 1, 8, 8 });
    bool ok = rq_tensor_create(x, RQ_DTYPE_F32, &shape, false) == RQ_OK;
    for (int64_t i = 0; ok && i < rq_tensor_count(&codes); i++)
        x->f32[i] = (float)rq_tensor_get(&codes, i) / 16;
    rq_tensor_release(&codes);
    if (ok && rq_npz_load(label, path, "test/label", &err)) {
        golden_fail(c, "accuracy needs %s: %s", path, err.text);
        rq_tensor_release(x);
        ok = false;
    }
    return ok;
}

static void check_accuracy(golden_case *c, const rq_graph *g, double want, double allowed)
{
    rq_err err = { 0 };
    rq_session *s = NULL;
    rq_tensor x, label, y;
    if (!digits_test(c, &x, &label))
        return;
    const rq_feed feed = { rq_graph_input(g, 0).name, x };
    if (rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err) || rq_session_run(s, &feed, 1, &y, &err)) {
        golden_fail(c, "accuracy: %s", err.text);
    } else {
        const int64_t n = x.shape.dim[0], classes = rq_tensor_count(&y) / (n ? n : 1);
        int64_t right = 0;
        for (int64_t i = 0; i < n; i++) {
            int64_t best = 0;
            for (int64_t k = 1; k < classes; k++)
                if (rq_tensor_get(&y, i * classes + k) > rq_tensor_get(&y, i * classes + best))
                    best = k;
            right += (double)best == rq_tensor_get(&label, i);
        }
        const double got = (double)right / (double)n;
        if (!(fabs(got - want) <= allowed + 1e-9))
            golden_fail(c, "y accuracy=%.4f allowed=%.4f+-%.4f", got, want, allowed);
        rq_tensor_release(&y);
    }
    rq_session_destroy(s);
    rq_tensor_release(&x);
    rq_tensor_release(&label);
}

golden_verdict golden_run_static(golden_case *c)
{
    char path[4096];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    golden_feeds feeds = { 0 };
    const json_t *tolerance = json_object_get(c->json, "tolerance"), *params = json_object_get(c->json, "params"),
                 *accuracy = json_object_get(params, "accuracy");
    if (rq_load(&g, golden_path(path, sizeof path, c, golden_str(c->json, "quantized")), &err)) {
        golden_fail(c, "load: %s", err.text);
        return GOLDEN_FAIL;
    }
    if (golden_feeds_load(c, &feeds, g, json_object_get(c->json, "inputs")))
        golden_check_run(c, g, &(rq_session_cfg) { .threads = 1 }, &feeds, json_object_get(c->json, "outputs"), NULL,
                         tolerance, "");
    if (accuracy && rq_graph_n_inputs(g) == 1)
        check_accuracy(c, g, json_number_value(accuracy), json_number_value(json_object_get(tolerance, "accuracy")));
    golden_feeds_release(&feeds);
    rq_graph_destroy(g);
    if (c->failed)
        return GOLDEN_FAIL;
    const char *api = golden_str(params, "api");
    return api && (!strcmp(api, "MatMulNBitsQuantizer") || !strcmp(api, "quantize_dynamic")) ? golden_check_weights(c)
                                                                                             : golden_check_params(c);
}
