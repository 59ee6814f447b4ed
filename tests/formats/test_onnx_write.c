/* tests/formats/test_onnx_write.c — read-write-read is the identity: of every model at hand as a graph, of a second
 * writing as bytes, and of the parts of a file that the graph has no place for. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "formats/onnx.h"
#include "formats/pb.h"

#define OUT RQ_TEST_TMP "/rewritten.onnx"
#define OUT2 RQ_TEST_TMP "/rewritten-twice.onnx"

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    assert_int_equal(rq_graph_print(g, f), RQ_OK);
    fclose(f);
    return text;
}

static void check_constants(const rq_graph *a, const rq_graph *b, const char *path)
{
    for (int i = 0; i < a->n_values; i++) {
        const rq_value *v = &a->values[i];
        if (v->kind == RQ_VALUE_DEAD || v->constant.dtype == RQ_DTYPE_NONE)
            continue;
        rq_id k = rq_graph_find(b, v->name);
        if (k == RQ_NONE || b->values[k].constant.bytes != v->constant.bytes ||
            memcmp(b->values[k].constant.data, v->constant.data, v->constant.bytes) != 0)
            fail_msg("%s: constant '%s' has changed", path, v->name);
    }
}

static void check_bytes(const char *a, const char *b)
{
    rq_map x, y;
    assert_int_equal(rq_file_map(&x, a, NULL), RQ_OK);
    assert_int_equal(rq_file_map(&y, b, NULL), RQ_OK);
    if (x.size != y.size || memcmp(x.data, y.data, x.size) != 0)
        fail_msg("%s and %s differ", a, b);
    rq_file_unmap(&x);
    rq_file_unmap(&y);
}

static void must(rq_status st, const rq_err *err)
{
    if (st)
        fail_msg("%s", err->text);
}

static void check_model(const char *path, bool twice)
{
    rq_err err = { 0 };
    rq_graph *a, *b;
    must(rq_load(&a, path, &err), &err);
    must(rq_save(a, OUT, &err), &err);
    must(rq_load(&b, OUT, &err), &err);
    char *ta = text_of(a), *tb = text_of(b);
    if (strcmp(ta, tb) != 0)
        fail_msg("%s reads differently once written:\n%s----\n%s", path, ta, tb);
    check_constants(a, b, path);
    if (twice) {
        must(rq_save(b, OUT2, &err), &err);
        check_bytes(OUT, OUT2);
    }
    free(ta);
    free(tb);
    rq_graph_destroy(a);
    rq_graph_destroy(b);
}

/* Every .onnx below folder, but for the bad ones. */
static int check_folder(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[1024];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        const size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.' || !strcmp(e->d_name, "bad_models") || stat(path, &st))
            continue;
        if (S_ISDIR(st.st_mode)) {
            n += check_folder(path);
        } else if (len > 5 && !strcmp(e->d_name + len - 5, ".onnx")) {
            check_model(path, n % 8 == 0); /* each file written is a wait for the disk */
            n++;
        }
    }
    closedir(d);
    return n;
}

static void every_model_survives(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    assert_true(check_folder("tests/golden/onnx") > 900);
    assert_int_equal(check_folder("models"), 2);
    assert_int_equal(rq_mem_live(), live);
}

static pb tensor(const char *name)
{
    const float w[4] = { 1, 2, 3, 4 };
    pb t = { .n = 0 };
    pb_int(&t, 1, 4);
    pb_int(&t, 2, 1);
    pb_str(&t, 8, name);
    pb_bytes(&t, 9, w, sizeof w);
    return t;
}

/* The markers stand in fields that the graph does not model; each must be in the written file. */
static void what_is_not_understood_is_kept(void **state)
{
    (void)state;
    static const char *const markers[] = {
        "model-doc",     "graph-doc",    "node-doc",   "value-doc",   "tensor-doc",    "attr-doc",
        "meta-key",      "meta-value",   "node-meta",  "value-meta",  "graph-meta",    "tensor-meta",
        "training",      "annotation",   "denotation", "attr-tensor", "sparse-values", "unknown-in-model",
        "producer-name", "model.domain", "overloaded", "input-meta",  "batch",         "type-of-attr",
    };
    pb g = { .n = 0 }, node, in, out, info, t, a = { .n = 0 };
    node = pb_node("Identity", "x", NULL, "a");
    pb_str(&node, 6, "node-doc");
    pb_str(&node, 8, "overloaded");
    pb_entry(&node, 9, "k", "node-meta");
    pb_msg(&g, 1, &node);
    node = pb_node("Add", "a", "w", "b");
    pb_msg(&g, 1, &node);
    node = pb_node("Add", "b", "s", "c");
    pb_msg(&g, 1, &node);
    pb constant = { .n = 0 };
    pb_str(&constant, 2, "k");
    pb_str(&constant, 4, "Constant");
    pb_str(&a, 1, "value");
    t = tensor("attr-tensor");
    pb_msg(&a, 5, &t);
    pb_str(&a, 13, "attr-doc");
    pb_int(&a, 20, 4);
    pb_msg(&constant, 5, &a);
    pb_msg(&g, 1, &constant);
    node = pb_node("Add", "c", "k", "y");
    pb_msg(&g, 1, &node);
    pb_str(&g, 2, "main");
    t = tensor("w");
    pb_str(&t, 12, "tensor-doc");
    pb_entry(&t, 16, "k", "tensor-meta");
    pb_msg(&g, 5, &t);
    pb_str(&g, 10, "graph-doc");
    in = pb_value("x", 0, 0); /* then a type with a name for its axis */
    pb type = { .n = 0 }, tt = { .n = 0 }, shape = { .n = 0 }, dim = { .n = 0 };
    pb_str(&dim, 2, "batch");
    pb_str(&dim, 3, "denotation");
    pb_msg(&shape, 1, &dim);
    pb_int(&tt, 1, 1);
    pb_msg(&tt, 2, &shape);
    pb_msg(&type, 1, &tt);
    in.n = 0;
    pb_str(&in, 1, "x");
    pb_msg(&in, 2, &type);
    pb_entry(&in, 4, "k", "input-meta");
    pb_msg(&g, 11, &in);
    out = pb_value("y", 4, 0);
    pb_msg(&g, 12, &out);
    info = pb_value("b", 4, 0);
    pb_str(&info, 3, "value-doc");
    pb_entry(&info, 4, "k", "value-meta");
    pb_msg(&g, 13, &info);
    pb note = { .n = 0 };
    pb_str(&note, 1, "w");
    pb_entry(&note, 2, "SCALE_TENSOR", "annotation");
    pb_msg(&g, 14, &note);
    pb sparse = { .n = 0 }, values = { .n = 0 }, index = { .n = 0 };
    const float v = 7;
    const int64_t at = 2;
    pb_int(&values, 1, 1);
    pb_int(&values, 2, 1);
    pb_str(&values, 8, "s");
    pb_bytes(&values, 9, &v, sizeof v);
    pb_str(&values, 12, "sparse-values");
    pb_int(&index, 1, 1);
    pb_int(&index, 2, 7);
    pb_bytes(&index, 9, &at, sizeof at);
    pb_msg(&sparse, 1, &values);
    pb_msg(&sparse, 2, &index);
    pb_int(&sparse, 3, 4);
    pb_msg(&g, 15, &sparse);
    pb_entry(&g, 16, "k", "graph-meta");
    pb opaque = { .n = 0 }, tp = { .n = 0 }, seq = { .n = 0 };
    pb_str(&seq, 6, "type-of-attr");
    pb_msg(&tp, 1, &seq);
    pb_str(&opaque, 1, "hint");
    pb_msg(&opaque, 14, &tp);
    pb_int(&opaque, 20, 13);
    node = pb_node("Thing", "y", NULL, "z");
    pb_str(&node, 7, "my.domain");
    pb_msg(&node, 5, &opaque);
    pb_msg(&g, 1, &node);
    pb m = pb_model(&g, 10, 21), import = { .n = 0 }, training = { .n = 0 };
    pb_str(&import, 1, "my.domain");
    pb_int(&import, 2, 3);
    pb_msg(&m, 8, &import);
    pb_str(&m, 2, "producer-name");
    pb_str(&m, 4, "model.domain");
    pb_str(&m, 6, "model-doc");
    pb_entry(&m, 14, "meta-key", "meta-value");
    pb_entry(&training, 3, "k", "training");
    pb_msg(&m, 20, &training);
    pb_str(&m, 99, "unknown-in-model");

    rq_err err = { 0 };
    rq_graph *read, *copy;
    must(rq_load_memory(&read, m.b, m.n, &err), &err);
    const rq_tensor *s = &read->values[rq_graph_find(read, "s")].constant;
    assert_int_equal(s->bytes, 16);
    assert_true(s->f32[0] == 0 && s->f32[2] == 7);
    must(rq_graph_copy(&copy, read), &err); /* a copy shares what is kept, and outlives the first */
    rq_graph_destroy(read);
    must(rq_save(copy, OUT, &err), &err);
    rq_graph_destroy(copy);
    rq_map map;
    must(rq_file_map(&map, OUT, &err), &err);
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++)
        if (!memmem(map.data, map.size, markers[i], strlen(markers[i])))
            fail_msg("'%s' is not in the written file", markers[i]);
    rq_file_unmap(&map);
    check_model(OUT, true);
}

/* Names are bytes: what is not UTF-8 comes back unchanged. */
static void names_are_bytes(void **state)
{
    (void)state;
    pb g = { .n = 0 }, node = pb_node("Relu", "x", NULL, "\xff\xfe:0"), in = pb_value("x", 4, 0),
       out = pb_value("\xff\xfe:0", 4, 0);
    pb_msg(&g, 1, &node);
    pb_msg(&g, 11, &in);
    pb_msg(&g, 12, &out);
    pb m = pb_model(&g, 8, 17);
    rq_err err = { 0 };
    rq_graph *a;
    must(rq_load_memory(&a, m.b, m.n, &err), &err);
    assert_string_equal(rq_graph_output(a, 0).name, "\xff\xfe:0");
    must(rq_save(a, OUT, &err), &err);
    rq_graph_destroy(a);
    check_model(OUT, true);
}

/* Before IR version 4 initializers are inputs, too; that is not a default that callers may replace. */
static void old_files_list_their_constants(void **state)
{
    (void)state;
    pb g = { .n = 0 }, node = pb_node("Add", "x", "w", "y"), t = tensor("w");
    pb x = pb_value("x", 4, 0), w = pb_value("w", 4, 0), y = pb_value("y", 4, 0);
    pb_msg(&g, 1, &node);
    pb_str(&g, 2, "g");
    pb_msg(&g, 5, &t);
    pb_msg(&g, 11, &w);
    pb_msg(&g, 11, &x);
    pb_msg(&g, 12, &y);
    for (int ir = 3; ir <= 4; ir++) {
        pb m = pb_model(&g, ir, 8);
        rq_err err = { 0 };
        rq_graph *a, *b;
        must(rq_load_memory(&a, m.b, m.n, &err), &err);
        assert_int_equal(rq_graph_n_inputs(a), ir == 3 ? 1 : 2);
        assert_int_equal(a->values[rq_graph_find(a, "w")].kind, ir == 3 ? RQ_VALUE_CONST : RQ_VALUE_INPUT);
        must(rq_save(a, OUT, &err), &err);
        must(rq_load(&b, OUT, &err), &err);
        assert_int_equal(b->ir_version, ir);
        assert_int_equal(rq_graph_n_inputs(b), ir == 3 ? 1 : 2);
        rq_graph_destroy(a);
        rq_graph_destroy(b);
    }
}

static void large_models_are_split(void **state)
{
    (void)state;
    const rq_save_cfg usual = rq_save_defaults();
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_graph *a, *b, *c;
    must(rq_load(&a, "models/digits-cnn.onnx", &err), &err);
    must(rq_onnx_write_split(a, OUT, &usual, 40000, &err), &err);
    struct stat st;
    assert_int_equal(stat(OUT, &st), 0);
    assert_true(st.st_size < 40000);
    assert_int_equal(stat(OUT ".data", &st), 0);
    must(rq_load(&b, OUT, &err), &err);
    check_constants(a, b, "split");
    assert_true(rq_graph_reads(b, OUT ".data"));
    assert_false(rq_graph_reads(b, OUT));
    assert_false(rq_graph_reads(a, OUT ".data"));
    /* over itself, while b still looks at the data file */
    must(rq_onnx_write_split(b, OUT, &usual, 40000, &err), &err);
    must(rq_load(&c, OUT, &err), &err);
    check_constants(a, c, "split twice");
    check_constants(a, b, "split, old");
    rq_graph_destroy(a);
    rq_graph_destroy(b);
    rq_graph_destroy(c);
    assert_int_equal(rq_mem_live(), live);
    unlink(OUT ".data");
    assert_int_equal(symlink("elsewhere", OUT ".data"), 0);
    must(rq_load(&a, "models/digits-cnn.onnx", &err), &err);
    assert_int_equal(rq_onnx_write_split(a, OUT, &usual, 40000, &err), RQ_IO);
    rq_graph_destroy(a);
    unlink(OUT ".data");
}

/* If(c) { Neg(a) } else { Abs(a) }, both capturing a. */
static pb branch(const char *op, const char *y)
{
    pb g = { .n = 0 }, node = pb_node(op, "a", NULL, y), out = pb_value(y, 4, 0);
    pb_msg(&g, 1, &node);
    pb_str(&g, 2, op);
    pb_msg(&g, 12, &out);
    return g;
}

/* ONNX captures by name: a renamed or nameless value must still be found from inside. */
static void captures_follow_renames(void **state)
{
    (void)state;
    static pb g;
    pb node = pb_node("Relu", "x", NULL, "a"), in = pb_value("x", 4, 0), out = pb_value("y", 4, 0);
    pb then_branch = branch("Neg", "p"), else_branch = branch("Abs", "q"), a, cond = { .n = 0 };
    g.n = 0;
    pb_msg(&g, 1, &node);
    node = pb_node("Identity", "flag", NULL, "c");
    pb_msg(&g, 1, &node);
    node = pb_node("If", "c", NULL, "y");
    for (int i = 0; i < 2; i++) {
        a.n = 0;
        pb_str(&a, 1, i ? "else_branch" : "then_branch");
        pb_msg(&a, 6, i ? &else_branch : &then_branch);
        pb_int(&a, 20, 5);
        pb_msg(&node, 5, &a);
    }
    pb_msg(&g, 1, &node);
    pb_str(&g, 2, "g");
    pb_str(&cond, 8, "flag");
    pb_int(&cond, 2, 9);
    pb_bytes(&cond, 9, "\1", 1);
    pb_msg(&g, 5, &cond);
    pb_msg(&g, 11, &in);
    pb_msg(&g, 12, &out);
    pb m = pb_model(&g, 8, 17);
    for (int nameless = 0; nameless < 2; nameless++) {
        rq_err err = { 0 };
        rq_graph *read, *again;
        must(rq_load_memory(&read, m.b, m.n, &err), &err);
        rq_id id = rq_graph_find(read, "a");
        must(rq_graph_rename(read, id, nameless ? "" : "renamed", &err), &err);
        must(rq_save(read, OUT, &err), &err);
        must(rq_load(&again, OUT, &err), &err);
        assert_int_equal(rq_graph_find(again, "a"), RQ_NONE);
        rq_graph_destroy(read);
        rq_graph_destroy(again);
        check_model(OUT, true);
    }
}

static void the_suffix_names_the_format(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_graph *a;
    must(rq_load(&a, "models/digits-cnn.onnx", &err), &err);
    assert_int_equal(rq_save(a, RQ_TEST_TMP "/x.tflite", &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "x.tflite"));
    assert_int_equal(rq_save(a, RQ_TEST_TMP "/nowhere/x.onnx", &err), RQ_IO);
    rq_graph_destroy(a);
    /* Asked beforehand it is the same, and nothing is written. */
    assert_int_equal(rq_save_check(RQ_TEST_TMP "/asked.tflite", &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "asked.tflite"));
    assert_int_equal(rq_save_check(RQ_TEST_TMP "/nowhere/x.onnx", &err), RQ_IO);
    assert_int_equal(rq_save_check(RQ_TEST_TMP "/", &err), RQ_IO);
    assert_int_equal(rq_save_check(RQ_TEST_TMP "/asked.onnx", &err), RQ_OK);
    assert_int_equal(rq_load(&a, RQ_TEST_TMP "/asked.onnx", &err), RQ_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_survives),    cmocka_unit_test(what_is_not_understood_is_kept),
        cmocka_unit_test(names_are_bytes),         cmocka_unit_test(old_files_list_their_constants),
        cmocka_unit_test(large_models_are_split),  cmocka_unit_test(the_suffix_names_the_format),
        cmocka_unit_test(captures_follow_renames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
