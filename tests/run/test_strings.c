/* tests/run/test_strings.c — a second run compares no strings: what an attribute says is known as a number since the model was read, and what
 * an operator is, by its row; the name of a feed is compared once. This program has string functions of its own, which the library linked into it calls: they count. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "ops/build.h"
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

enum { MOST = 32 };

/* Sizes that are not known become 2, values a small pattern. */
static void make_inputs(const rq_graph *g, rq_feed *in)
{
    assert_true(rq_graph_n_inputs(g) <= MOST);
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        const rq_value_info info = rq_graph_input(g, i);
        rq_shape shape = info.shape;
        shape.rank = shape.rank < 0 ? 0 : shape.rank;
        for (int a = 0; a < shape.rank; a++)
            shape.dim[a] = shape.dim[a] < 0 ? 2 : shape.dim[a];
        rq_tensor *t = &in[i].tensor;
        in[i].name = info.name;
        assert_int_equal(rq_tensor_create(t, info.dtype == RQ_DTYPE_NONE ? RQ_DTYPE_F32 : info.dtype, &shape, true),
                         RQ_OK);
        if (t->dtype != RQ_DTYPE_STRING)
            for (int64_t k = 0, all = rq_tensor_count(t); k < all; k++)
                rq_tensor_set(t, k, (double)(k % 7) * 0.25);
    }
}

/* How a program runs its session: by buffers that are bound, or by feeds that are named in each run. */
static rq_status run_fed(rq_session *s, const rq_feed *in, int n_in, bool counted, rq_err *err)
{
    rq_tensor out[MOST];
    compared = 0;
    counting = counted;
    const rq_status st = rq_session_run(s, in, n_in, out, err);
    counting = false;
    for (int i = 0; i < rq_session_n_outputs(s) && !st; i++)
        rq_tensor_release(&out[i]);
    return st;
}

static rq_status run_bound(rq_session *s, bool counted, rq_err *err)
{
    compared = 0;
    counting = counted;
    const rq_status st = rq_session_run_bound(s, err);
    counting = false;
    return st;
}

typedef struct tally {
    int run, refused, failed;
} tally;

static void note(const char *path, const char *how, tally *t)
{
    t->failed += compared > 0;
    if (compared)
        print_error("%s, %s: %d strings compared, the last %s\n", path, how, compared, what);
}

static void run_model(const char *path, tally *t)
{
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_session *s = NULL;
    rq_feed in[MOST] = { 0 };
    if (rq_load(&g, path, &err))
        fail_msg("%s", err.text);
    const int n = rq_graph_n_inputs(g);
    if (!rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err)) {
        make_inputs(g, in);
        for (int i = 0; i < n; i++)
            if (rq_session_bind_input(s, in[i].name, &in[i].tensor, &err))
                fail_msg("%s", err.text);
        if (!run_bound(s, false, &err)) {
            assert_int_equal(run_bound(s, true, &err), RQ_OK);
            note(path, "bound", t);
            assert_int_equal(run_fed(s, in, n, false, &err), RQ_OK);
            assert_int_equal(run_fed(s, in, n, true, &err), RQ_OK);
            note(path, "fed", t);
            t->run++;
        } else {
            t->refused++; /* made-up numbers are no sizes and no axes */
        }
    }
    for (int i = 0; i < n; i++)
        rq_tensor_release(&in[i].tensor);
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

/* a - b, both [2] */
static rq_session *make_difference(void)
{
    rq_graph *g = build_graph(17);
    rq_session *s;
    rq_err err = { 0 };
    const rq_id in[2] = { build_input(g, "a", RQ_DTYPE_F32, 1, (int64_t[]) { 2 }),
                          build_input(g, "b", RQ_DTYPE_F32, 1, (int64_t[]) { 2 }) };
    build_output(g, build_node(g, "Sub", "y", RQ_DTYPE_F32, 2, in));
    if (rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err))
        fail_msg("%s", err.text);
    rq_graph_destroy(g);
    return s;
}

/* What a name is, not where it lies, says which input is fed: names are moved, changed where they lie, given twice, and wrong. */
static void names_are_what_they_say(void **state)
{
    (void)state;
    rq_session *s = make_difference();
    rq_err err = { 0 };
    rq_tensor t[2], y;
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { 2 });
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rq_tensor_create(&t[i], RQ_DTYPE_F32, &shape, true), RQ_OK);
        t[i].f32[0] = i ? 5.0f : 7.0f;
    }
    char name[3][2] = { "a", "b", "a" };
    static const struct {
        char is[2];   /* of name[0], name[1] */
        int first, n; /* feeds: name[first] and the ones behind it */
        float y;      /* 0: refused */
    } runs[] = { { "ab", 0, 2, 2 },     { "ab", 0, 2, 2 }, { "ba", 0, 2, -2 }, { "ab", 0, 2, 2 }, { "ab", 1, 2, -2 },
                 { "ab", 0, 3, -0.5f }, { "xb", 0, 2, 0 }, { "ab", 0, 2, 2 },  { "aa", 0, 2, 0 } };
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        name[0][0] = runs[r].is[0];
        name[1][0] = runs[r].is[1];
        const rq_tensor third = rq_tensor_view(RQ_DTYPE_F32, &shape, (float[]) { 4.5f, 0 });
        rq_feed in[3];
        for (int i = 0; i < runs[r].n; i++)
            in[i] = (rq_feed) { name[runs[r].first + i], i < 2 ? t[i] : third };
        const rq_status st = rq_session_run(s, in, runs[r].n, &y, &err);
        assert_int_equal(st, runs[r].y == 0 ? RQ_BAD_DATA : RQ_OK);
        if (!st) {
            assert_true(y.f32[0] == runs[r].y);
            rq_tensor_release(&y);
        }
    }
    rq_session_destroy(s);
    rq_tensor_release(&t[0]), rq_tensor_release(&t[1]);
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
        cmocka_unit_test(names_are_what_they_say),
        cmocka_unit_test(the_second_run_compares_no_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
