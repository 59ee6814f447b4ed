/* tests/formats/test_mil_graph.c — Core ML packages run: every golden package whose operators have rows gives the outputs of
 * tests/golden/coreml within the tolerance its case states; the others are refused with the operator that has none. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/requant.h"

#define FOLDER "tests/golden/coreml/weights"

static int n_run, n_refused;

static void run_case(const json_t *c, const char *path)
{
    rq_graph *g = NULL;
    rq_session *s = NULL;
    rq_err err = { 0 };
    const rq_status st = rq_load(&g, path, &err);
    if (st == RQ_UNSUPPORTED) {
        if (!strstr(err.text, "operation '"))
            fail_msg("%s", err.text);
        n_refused++;
        return;
    }
    if (st || rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err))
        fail_msg("%s: %s", path, err.text);
    const json_t *ins = json_object_get(c, "inputs"), *outs = json_object_get(c, "outputs");
    const double tolerance = json_number_value(json_object_get(json_object_get(c, "tolerance"), "rel_to_max"));
    rq_feed feeds[4];
    rq_tensor want, y[4] = { { 0 } };
    int n = 0;
    const char *name;
    const json_t *key;
    json_object_foreach((json_t *)ins, name, key)
    {
        feeds[n].name = name;
        if (rq_npz_load(&feeds[n++].tensor, FOLDER "/data.npz", json_string_value(key), &err))
            fail_msg("%s", err.text);
    }
    if (rq_session_run(s, feeds, n, y, &err))
        fail_msg("%s: %s", path, err.text);
    assert_int_equal(rq_graph_n_outputs(g), json_object_size(outs));
    for (int i = 0; i < rq_graph_n_outputs(g); i++) {
        name = rq_graph_output(g, i).name;
        if (rq_npz_load(&want, FOLDER "/data.npz", json_string_value(json_object_get(outs, name)), &err))
            fail_msg("%s", err.text);
        assert_true(rq_shape_equal(&want.shape, &y[i].shape) && y[i].dtype == RQ_DTYPE_F32);
        double most = 0, worst = 0;
        for (int64_t k = 0; k < rq_shape_count(&want.shape); k++) {
            most = fmax(most, fabs((double)want.f32[k]));
            const double d = fabs((double)want.f32[k] - (double)y[i].f32[k]);
            worst = d <= worst ? worst : d; /* NaN stays */
        }
        if (!(worst <= tolerance * most))
            fail_msg("%s: %s differs by %g, at most %g is allowed", path, name, worst, tolerance * most);
        rq_tensor_release(&want);
        rq_tensor_release(&y[i]);
    }
    while (n)
        rq_tensor_release(&feeds[--n].tensor);
    rq_session_destroy(s);
    rq_graph_destroy(g);
    n_run++;
}

static void golden_packages_run(void **state)
{
    (void)state;
    json_t *cases = json_load_file(FOLDER "/cases.json", 0, NULL), *c;
    size_t k;
    assert_non_null(cases);
    json_array_foreach(cases, k, c)
    {
        const char *package = json_string_value(json_object_get(c, "package"));
        const char *precision = json_string_value(json_object_get(json_object_get(c, "params"), "precision"));
        if (!package || !json_object_get(c, "outputs") || !precision || strcmp(precision, "fp32") != 0)
            continue;
        char path[256];
        snprintf(path, sizeof path, FOLDER "/%s", package);
        run_case(c, path);
    }
    json_decref(cases);
    printf("%d packages were run, %d have operators without a row\n", n_run, n_refused);
    assert_true(n_run >= 12);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 1;; i++) {
        rq_graph *g = NULL;
        rq_err err = { 0 };
        const size_t live = rq_mem_live();
        rq_mem_fail_after(i, true);
        const rq_status st = rq_load(&g, FOLDER "/linear_iOS17_fp32.mlpackage", &err);
        rq_mem_fail_after(0, false);
        rq_graph_destroy(g);
        assert_int_equal(rq_mem_live(), live);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(golden_packages_run),
                                        cmocka_unit_test(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
