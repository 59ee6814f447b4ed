/* tests/formats/test_spelling.c — a quantized model written as QOperator, read back, written as QDQ and read back runs to the
 * same bits: every golden network and Q/DQ pattern. What a file looks like is checked on patterns built here; that ONNX
 * Runtime takes the files and agrees is tests/interop's to show (part `spelled`). */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "graph/graph.h"
#include "requant/graph.h"
#include "requant/session.h"

#define AS_QOPERATOR RQ_TEST_TMP "/spelled-qoperator.onnx"
#define AS_QDQ RQ_TEST_TMP "/spelled-qdq.onnx"

static bool make_feeds(const rq_graph *g, rq_feed *feed)
{
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        const rq_value_info v = rq_graph_input(g, i);
        rq_shape s = v.shape;
        if (v.dtype != RQ_DTYPE_F32 && v.dtype != RQ_DTYPE_U8 && v.dtype != RQ_DTYPE_S8 && v.dtype != RQ_DTYPE_BOOL)
            return false;
        for (int k = 0; k < s.rank; k++)
            s.dim[k] = s.dim[k] < 0 ? 2 : s.dim[k];
        feed[i].name = v.name;
        assert_int_equal(rq_tensor_create(&feed[i].tensor, v.dtype, &s, true), RQ_OK);
        for (int64_t k = 0; k < rq_tensor_count(&feed[i].tensor); k++) {
            const double r = (double)rq_rng_below(&rng, 4001) / 1000 - 2;
            rq_tensor_set(&feed[i].tensor, k, v.dtype == RQ_DTYPE_F32 ? r : v.dtype == RQ_DTYPE_BOOL ? r > 0 : r * 60);
        }
    }
    return true;
}

static bool run(const rq_graph *g, const rq_feed *feed, rq_tensor *out, const char *what)
{
    rq_session *s = NULL;
    rq_err err = { 0 };
    const rq_session_cfg cfg = { .threads = 1 };
    rq_status st = rq_session_create(&s, g, &cfg, &err);
    if (!st)
        st = rq_session_run(s, feed, rq_graph_n_inputs(g), out, &err);
    rq_session_destroy(s);
    if (st && what)
        fail_msg("%s: %s", what, err.text);
    return !st;
}

/* g as `spelling` in `path`, read back, gives the bits of want[]. */
static rq_graph *respelled(const rq_graph *g, rq_spelling spelling, const char *path, const rq_feed *feed,
                           const rq_tensor *want, const char *name)
{
    rq_graph *back;
    rq_err err = { 0 };
    rq_tensor got[8];
    const rq_save_cfg cfg = { .spelling = spelling };
    if (rq_save_as(g, path, &cfg, &err) || rq_load(&back, path, &err))
        fail_msg("%s: %s", name, err.text);
    run(back, feed, got, name);
    for (int i = 0; i < rq_graph_n_outputs(back); i++) {
        if (got[i].bytes != want[i].bytes || memcmp(got[i].data, want[i].data, want[i].bytes) != 0)
            fail_msg("%s: output %d is other bits as %s", name, i, path);
        rq_tensor_release(&got[i]);
    }
    return back;
}

static bool check_model(const char *path, int *n_integer)
{
    rq_graph *g, *ints, *pairs;
    rq_err err = { 0 };
    rq_feed feed[8] = { 0 };
    rq_tensor want[8];
    if (rq_load(&g, path, &err))
        fail_msg("%s", err.text);
    bool fit =
        rq_graph_n_inputs(g) <= 8 && rq_graph_n_outputs(g) <= 8 && make_feeds(g, feed) && run(g, feed, want, NULL);
    if (fit) {
        ints = respelled(g, RQ_SPELLING_QOPERATOR, AS_QOPERATOR, feed, want, path);
        pairs = respelled(ints, RQ_SPELLING_QDQ, AS_QDQ, feed, want, path);
        for (int i = 0; i < ints->n_nodes; i++)
            *n_integer += ints->nodes[i].op &&
                          (!strncmp(ints->nodes[i].op, "QLinear", 7) || !strcmp(ints->nodes[i].op, "QGemm") ||
                           !strcmp(ints->nodes[i].op, "MatMulIntegerToFloat"));
        for (int i = 0; i < pairs->n_nodes; i++)
            if (pairs->nodes[i].op && !strncmp(pairs->nodes[i].op, "QLinear", 7))
                fail_msg("%s: %s is left in the QDQ spelling", path, pairs->nodes[i].op);
        for (int i = 0; i < rq_graph_n_outputs(g); i++)
            rq_tensor_release(&want[i]);
        rq_graph_destroy(ints);
        rq_graph_destroy(pairs);
    }
    for (int i = 0; i < 8; i++)
        rq_tensor_release(&feed[i].tensor);
    rq_graph_destroy(g);
    return fit;
}

/* Every model in a folder whose name holds `part`. */
static int check_folder(const char *folder, const char *part, int *n_integer)
{
    int n = 0;
    DIR *d = opendir(folder);
    if (!d)
        fail_msg("%s is not there", folder);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        if (!strstr(e->d_name, ".onnx") || !strstr(e->d_name, part))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        n += check_model(path, n_integer);
    }
    closedir(d);
    return n;
}

static void patterns_run_to_the_same_bits(void **state)
{
    (void)state;
    int n_integer = 0;
    assert_true(check_folder("tests/golden/onnx/qdq", "", &n_integer) >= 100);
    assert_true(n_integer >= 60);
}

static void networks_run_to_the_same_bits(void **state)
{
    (void)state;
    int n_integer = 0;
    assert_true(check_folder("tests/golden/onnx/static_quant", "_qdq_", &n_integer) >= 30);
    assert_true(check_folder("tests/golden/onnx/static_quant", "_qop_", &n_integer) >= 15);
    assert_true(n_integer >= 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_run_to_the_same_bits),
        cmocka_unit_test(networks_run_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
