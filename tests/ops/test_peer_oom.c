/* Every allocation of a session fails once, for each model of tests/ops/peer: the run must end in an error, or in success, and
 * give back every byte. What the models compute, the golden runner compares. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "graph/graph.h"
#include "requant/requant.h"

enum { MOST_INPUTS = 16, MOST_TRIES = 400 };

static rq_status run(const rq_graph *g, const rq_feed *feeds, int n)
{
    rq_session *s = NULL;
    rq_err err = { 0 };
    rq_tensor out[4] = { { 0 } };
    rq_status st = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err);
    if (!st)
        st = rq_session_run(s, feeds, n, out, &err);
    for (int i = 0; !st && i < g->n_outputs; i++)
        rq_tensor_release(&out[i]);
    rq_session_destroy(s);
    return st;
}

static void fail_each(const char *path, const rq_graph *g, const rq_feed *feeds, int n)
{
    const size_t before = rq_mem_live();
    assert_true(g->n_outputs <= 4);
    assert_int_equal(run(g, feeds, n), RQ_OK);
    if (rq_mem_live() != before) /* what is made once and kept: kernels of the libraries below */
        assert_int_equal(run(g, feeds, n), RQ_OK);
    const size_t live = rq_mem_live();
    rq_status st = RQ_NO_MEMORY;
    for (size_t k = 1; st && k < MOST_TRIES; k++) {
        rq_mem_fail_after(k, false);
        st = run(g, feeds, n);
        rq_mem_fail_after(0, false);
        if (st && st != RQ_NO_MEMORY)
            fail_msg("%s: allocation %zu fails, and the run says %s", path, k, rq_status_text(st));
        if (rq_mem_live() != live)
            fail_msg("%s: allocation %zu fails, and %zu bytes are lost", path, k, rq_mem_live() - live);
    }
    if (st)
        fail_msg("%s: more than %d allocations; those beyond were not tried", path, MOST_TRIES);
}

static void one(const char *folder, const char *name)
{
    char path[300], data[300], key[600];
    rq_err err = { 0 };
    rq_graph *g;
    rq_feed feeds[MOST_INPUTS];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(data, sizeof data, "%s/data.npz", folder);
    if (rq_load(&g, path, &err))
        fail_msg("%s: %s", path, err.text);
    int n = 0;
    for (; n < g->n_inputs; n++) {
        assert_true(n < MOST_INPUTS);
        feeds[n].name = g->values[g->inputs[n]].name;
        snprintf(key, sizeof key, "%.*s/in/%s", (int)(strlen(name) - 5), name, feeds[n].name);
        if (rq_npz_load(&feeds[n].tensor, data, key, &err))
            fail_msg("%s: %s", path, err.text);
    }
    fail_each(path, g, feeds, n);
    while (n--)
        rq_tensor_release(&feeds[n].tensor);
    rq_graph_destroy(g);
}

static void folder(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        const size_t n = strlen(e->d_name);
        if (n > 5 && !strcmp(e->d_name + n - 5, ".onnx"))
            one(path, e->d_name);
    }
    closedir(d);
}

static void attention(void **state)
{
    (void)state;
    folder("tests/ops/peer/attention");
    folder("tests/ops/peer/attention_qdq");
}

static void others(void **state)
{
    (void)state;
    folder("tests/ops/peer/float");
    folder("tests/ops/peer/reference");
    folder("tests/ops/peer/sequence");
    folder("tests/ops/peer/bodies");
    folder("tests/ops/peer/functions");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(attention), cmocka_unit_test(others) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
