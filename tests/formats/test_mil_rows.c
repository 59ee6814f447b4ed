/* test_mil_rows.c — the operators of tests/golden/onnx/float_ops as Core ML packages: each is written and read back, or refused with a
 * sentence, and the same when memory is out at any point. Numbers are compared where ONNX's own cases are (tests/onnx/coreml.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "requant/requant.h"

enum { AT_LEAST = 390 }; /* files that can be written */

static void each(void (*fn)(const char *path, rq_graph *g))
{
    glob_t found;
    assert_int_equal(glob("tests/golden/onnx/float_ops/*.onnx", 0, NULL, &found), 0);
    assert_true(found.gl_pathc > 400);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        rq_graph *g;
        rq_err err = { 0 };
        if (rq_load(&g, found.gl_pathv[i], &err))
            fail_msg("%s: %s", found.gl_pathv[i], err.text);
        fn(found.gl_pathv[i], g);
        rq_graph_destroy(g);
    }
    globfree(&found);
}

static int written;

static void write_and_read(const char *path, rq_graph *g)
{
    rq_coreml *m;
    rq_graph *back;
    rq_err err = { 0 };
    const rq_status st = rq_coreml_from_graph(&m, g, NULL, NULL, &err);
    if (st) {
        /* an open first axis is 1, which some shapes do not take */
        if ((st != RQ_UNSUPPORTED && st != RQ_BAD_SHAPE) || !err.text[0])
            fail_msg("%s: status %d, '%s'", path, (int)st, err.text);
        return;
    }
    if (rq_coreml_to_graph(&back, m, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    assert_int_equal(rq_graph_n_inputs(back), rq_graph_n_inputs(g));
    assert_int_equal(rq_graph_n_outputs(back), rq_graph_n_outputs(g));
    rq_graph_destroy(back);
    rq_coreml_close(m);
    written++;
}

static void every_operator_is_written_or_refused(void **state)
{
    (void)state;
    written = 0;
    each(write_and_read);
    if (written < AT_LEAST)
        fail_msg("%d files are written, allowed: %d", written, (int)AT_LEAST);
}

static void write_without_memory(const char *path, rq_graph *g)
{
    rq_coreml *whole;
    const rq_status want = rq_coreml_from_graph(&whole, g, NULL, NULL, NULL);
    rq_coreml_close(whole);
    for (size_t i = 1;; i += 1 + i / 4) {
        rq_coreml *m;
        rq_err err = { 0 };
        const size_t live = rq_mem_live();
        rq_mem_fail_after(i, true);
        const rq_status st = rq_coreml_from_graph(&m, g, NULL, NULL, &err);
        rq_mem_fail_after(0, false);
        if (!st)
            rq_coreml_close(m);
        if (rq_mem_live() != live)
            fail_msg("%s, allocation %zu: %zu blocks stay", path, i, rq_mem_live() - live);
        if (st == want)
            break;
        if (st != RQ_NO_MEMORY || !err.text[0])
            fail_msg("%s, allocation %zu: status %d, '%s'", path, i, (int)st, err.text);
    }
}

static void memory_may_end_anywhere(void **state)
{
    (void)state;
    each(write_without_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator_is_written_or_refused),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
