/* tests/run/test_strings.c — a second run compares no strings: what an attribute says is known as a number since the model was read, and what
 * an operator is, by its row. This program has string functions of its own, which the library linked into it calls: they count. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "requant/requant.h"

/* ---- the functions, in place of the C library's ---- */

static bool counting;
static int compared;
static char what[64];

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

static int compare(const char *a, const char *b, size_t n, bool same_case)
{
    if (counting) {
        compared++;
        snprintf(what, sizeof what, "%.25s, %.25s", a, b);
    }
    for (size_t i = 0; i < n; i++) {
        const int x = (unsigned char)a[i], y = (unsigned char)b[i], d = same_case ? x - y : lower(x) - lower(y);
        if (d || !x)
            return d;
    }
    return 0;
}

int strcmp(const char *a, const char *b)
{
    return compare(a, b, SIZE_MAX, true);
}

int strncmp(const char *a, const char *b, size_t n)
{
    return compare(a, b, n, true);
}

int strcasecmp(const char *a, const char *b)
{
    return compare(a, b, SIZE_MAX, false);
}

int strncasecmp(const char *a, const char *b, size_t n)
{
    return compare(a, b, n, false);
}

char *strstr(const char *text, const char *word)
{
    const size_t n = strlen(word);
    for (; *text; text++)
        if (compare(text, word, n, true) == 0)
            return (char *)(uintptr_t)text;
    return n ? NULL : (char *)(uintptr_t)text;
}

/* ---- models ---- */

static bool is_model(const char *name)
{
    const size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".onnx") == 0;
}

/* Sizes that are not known become 2, values a small pattern. */
static void bind_inputs(rq_session *s, const rq_graph *g, rq_tensor *in)
{
    rq_err err = { 0 };
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        const rq_value_info info = rq_graph_input(g, i);
        rq_shape shape = info.shape;
        shape.rank = shape.rank < 0 ? 0 : shape.rank;
        for (int a = 0; a < shape.rank; a++)
            shape.dim[a] = shape.dim[a] < 0 ? 2 : shape.dim[a];
        assert_int_equal(
            rq_tensor_create(&in[i], info.dtype == RQ_DTYPE_NONE ? RQ_DTYPE_F32 : info.dtype, &shape, true), RQ_OK);
        if (in[i].dtype != RQ_DTYPE_STRING)
            for (int64_t k = 0, all = rq_tensor_count(&in[i]); k < all; k++)
                rq_tensor_set(&in[i], k, (double)(k % 7) * 0.25);
        if (rq_session_bind_input(s, info.name, &in[i], &err))
            fail_msg("%s", err.text);
    }
}

typedef struct tally {
    int run, refused, failed;
} tally;

static void run_model(const char *path, tally *t)
{
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_session *s = NULL;
    rq_tensor in[32] = { 0 };
    if (rq_load(&g, path, &err))
        fail_msg("%s", err.text);
    if (!rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err)) {
        bind_inputs(s, g, in);
        if (!rq_session_run_bound(s, &err)) {
            compared = 0;
            counting = true;
            const rq_status st = rq_session_run_bound(s, &err);
            counting = false;
            assert_int_equal(st, RQ_OK);
            t->run++;
            t->failed += compared > 0;
            if (compared)
                print_error("%s: %d strings compared, the last %s\n", path, compared, what);
        } else {
            t->refused++; /* made-up numbers are no sizes and no axes */
        }
    }
    for (int i = 0; i < 32; i++)
        rq_tensor_release(&in[i]);
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

static void run_folder(const char *folder, tally *t)
{
    char path[1024];
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (is_model(e->d_name))
            run_model(path, t);
    }
    closedir(d);
}

static void the_second_run_compares_no_strings(void **state)
{
    (void)state;
    static const char *const folders[] = { "tests/golden/onnx/qdq", "tests/golden/onnx/qops",
                                           "tests/golden/onnx/float_ops", "tests/golden/onnx/static_quant" };
    tally t = { 0 };
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        run_folder(folders[i], &t);
    printf("%d models, %d want other inputs\n", t.run, t.refused);
    assert_true(t.run > 700 && t.refused < 60);
    assert_int_equal(t.failed, 0);
}

static void comparing_is_counted(void **state)
{
    (void)state;
    const char *volatile a = "axis";
    compared = 0;
    counting = true;
    const int d = strcmp(a, "axes");
    counting = false;
    assert_true(d > 0 && compared == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparing_is_counted),
        cmocka_unit_test(the_second_run_compares_no_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
