/* Models from before opset 7, from after the newest known one, and with operators nobody here knows. Expected numbers are
 * worked out by hand from what ONNX says of the old forms (docs/onnx-facts.md 3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "formats/pb.h"
#include "graph/graph.h"
#include "ok.h"
#include "requant/requant.h"

static void attr_int(pb *node, const char *name, int64_t v)
{
    pb a = { .n = 0 };
    pb_str(&a, 1, name);
    pb_int(&a, 3, v);
    pb_int(&a, 20, 2);
    pb_msg(node, 5, &a);
}

static void attr_ints(pb *node, const char *name, int n, const int64_t *v)
{
    pb a = { .n = 0 };
    pb_str(&a, 1, name);
    for (int i = 0; i < n; i++)
        pb_int(&a, 8, v[i]);
    pb_int(&a, 20, 7);
    pb_msg(node, 5, &a);
}

static void attr_text(pb *node, const char *name, const char *v)
{
    pb a = { .n = 0 };
    pb_str(&a, 1, name);
    pb_str(&a, 4, v);
    pb_int(&a, 20, 3);
    pb_msg(node, 5, &a);
}

static void attr_float(pb *node, const char *name, float v)
{
    pb a = { .n = 0 };
    pb_str(&a, 1, name);
    pb_varint(&a, 2 << 3 | 5);
    pb_raw(&a, &v, sizeof v);
    pb_int(&a, 20, 1);
    pb_msg(node, 5, &a);
}

static void constant(pb *g, const char *name, int n, const float *v)
{
    pb t = { .n = 0 };
    pb_int(&t, 1, n);
    pb_int(&t, 2, 1);
    pb_str(&t, 8, name);
    pb_bytes(&t, 9, v, (size_t)n * sizeof *v);
    pb_msg(g, 5, &t);
}

static void shut(pb *g, const char *out)
{
    pb v = { .n = 0 };
    pb_str(g, 2, "g");
    pb_str(&v, 1, out);
    pb_msg(g, 12, &v);
}

/* The first output of the model on x [2,3] = 0..5. */
static void run(const rq_graph *g, rq_tensor *out)
{
    float x[6] = { 0, 1, 2, 3, 4, 5 };
    const rq_shape s = rq_shape_of(2, (int64_t[]) { 2, 3 });
    const rq_feed feed = { "x", rq_tensor_view(RQ_DTYPE_F32, &s, x) };
    const rq_session_cfg cfg = { .threads = 1 };
    rq_session *session;
    OK(rq_session_create(&session, g, &cfg, &err));
    OK(rq_session_run(session, &feed, 1, out, &err));
    rq_session_destroy(session);
}

static void expect(const rq_graph *g, int rank, const int64_t *dim, const float *want)
{
    rq_tensor y;
    run(g, &y);
    assert_int_equal(y.shape.rank, rank);
    for (int i = 0; i < rank; i++)
        assert_int_equal(y.shape.dim[i], dim[i]);
    for (int64_t i = 0; i < rq_tensor_count(&y); i++)
        if (rq_tensor_get(&y, i) != (double)want[i])
            fail_msg("[%d] is %g, expected %g", (int)i, rq_tensor_get(&y, i), (double)want[i]);
    rq_tensor_release(&y);
}

/* As loaded, and as written and read again. */
static void check(const pb *model, int rank, const int64_t *dim, const float *want)
{
    const char *path = RQ_TEST_TMP "/opsets.onnx";
    rq_graph *g, *back;
    OK(rq_load_memory(&g, model->b, model->n, &err));
    assert_int_equal(rq_graph_opset(g, ""), 7);
    expect(g, rank, dim, want);
    OK(rq_save(g, path, &err));
    OK(rq_load(&back, path, &err));
    expect(back, rank, dim, want);
    rq_graph_destroy(back);
    rq_graph_destroy(g);
}

static pb begin(void)
{
    pb g = { .n = 0 }, in = pb_value("x", 2, 3);
    pb_msg(&g, 11, &in);
    return g;
}

/* Add along axis 0, Reshape by attribute, Concat without an axis, Cast by name; opset 3. */
static void old_forms_mean_what_they_meant(void **state)
{
    (void)state;
    const float ten[2] = { 10, 20 };
    pb g = begin(), n;
    constant(&g, "ten", 2, ten);
    n = pb_node("Add", "x", "ten", "a");
    attr_int(&n, "broadcast", 1);
    attr_int(&n, "axis", 0);
    attr_ints(&n, "consumed_inputs", 2, (const int64_t[]) { 0, 0 });
    pb_msg(&g, 1, &n);
    n = pb_node("Reshape", "a", NULL, "r");
    attr_ints(&n, "shape", 2, (const int64_t[]) { 3, -1 });
    pb_msg(&g, 1, &n);
    n = pb_node("Concat", "r", "r", "c");
    pb_msg(&g, 1, &n);
    n = pb_node("Cast", "c", NULL, "y");
    attr_text(&n, "to", "INT32");
    pb_msg(&g, 1, &n);
    shut(&g, "y");
    pb m = pb_model(&g, 3, 3);
    check(&m, 2, (const int64_t[]) { 3, 4 }, (const float[]) { 10, 11, 10, 11, 12, 23, 12, 23, 24, 25, 24, 25 });
}

/* The second operand is computed: its axes are made by a node. Less of opset 1 is lined up, too. */
static void computed_operands_are_lined_up(void **state)
{
    (void)state;
    pb g = begin(), n = pb_node("ReduceSum", "x", NULL, "s");
    attr_ints(&n, "axes", 1, (const int64_t[]) { 1 });
    attr_int(&n, "keepdims", 0);
    pb_msg(&g, 1, &n); /* [3, 12] */
    n = pb_node("Mul", "x", "s", "m");
    attr_int(&n, "broadcast", 1);
    attr_int(&n, "axis", 0);
    pb_msg(&g, 1, &n);
    n = pb_node("Pad", "m", NULL, "y");
    attr_ints(&n, "paddings", 4, (const int64_t[]) { 0, 0, 0, 1 });
    attr_float(&n, "value", -1);
    pb_msg(&g, 1, &n);
    shut(&g, "y");
    pb m = pb_model(&g, 3, 1);
    check(&m, 2, (const int64_t[]) { 2, 4 }, (const float[]) { 0, 3, 6, -1, 36, 48, 60, -1 });
}

/* PRelu of opset 6: one slope per channel, axis 1. */
static void slopes_belong_to_channels(void **state)
{
    (void)state;
    const float slope[3] = { 1, 2, 3 };
    pb g = begin(), n = pb_node("Neg", "x", NULL, "a");
    constant(&g, "slope", 3, slope);
    pb_msg(&g, 1, &n);
    n = pb_node("PRelu", "a", "slope", "y");
    pb_msg(&g, 1, &n);
    shut(&g, "y");
    pb m = pb_model(&g, 3, 6);
    check(&m, 2, (const int64_t[]) { 2, 3 }, (const float[]) { -0.0f, -2, -6, -3, -8, -15 });
}

static void what_has_no_new_form_is_refused_at_once(void **state)
{
    (void)state;
    pb g = begin(), n = pb_node("Cast", "x", NULL, "y");
    attr_text(&n, "to", "FLOAT7");
    pb_msg(&g, 1, &n);
    shut(&g, "y");
    pb m = pb_model(&g, 3, 5);
    rq_graph *read;
    assert_int_equal(rq_load_memory(&read, m.b, m.n, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "node 'y' (Cast)"));
}

/* Readers convert before anything is checked: nodes without inputs or outputs, of old models and inside functions. */
static void nodes_without_inputs_are_refused(void **state)
{
    static const char *const ops[] = { "PRelu", "Tile", "Cast", "Split", "Pad", "Reshape", "Concat", "Upsample" };
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        for (int with = 0; with < 3; with++) { /* no input; an empty name; no output */
            pb g = begin(), n = { .n = 0 };
            if (with)
                pb_str(&n, 1, with == 1 ? "" : "x");
            pb_str(&n, 2, with == 2 ? "" : "y");
            pb_str(&n, 4, ops[i]);
            pb_msg(&g, 1, &n);
            shut(&g, with == 2 ? "x" : "y");
            pb m = pb_model(&g, 3, 3);
            rq_graph *read;
            assert_int_not_equal(rq_load_memory(&read, m.b, m.n, &err), RQ_OK);
        }
    static const char *const bodies[] = { "Softmax", "Slice", "Upsample", "GroupNormalization", "BatchNormalization",
                                          "Resize",  "TopK" };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        pb g = begin(), call = pb_node("F", "x", NULL, "y"), f = { .n = 0 }, n = { .n = 0 }, import = { .n = 0 };
        pb_str(&call, 7, "local");
        pb_msg(&g, 1, &call);
        shut(&g, "y");
        pb_str(&n, 2, "o");
        pb_str(&n, 4, bodies[i]);
        pb_str(&f, 1, "F");
        pb_str(&f, 4, "i");
        pb_str(&f, 5, "o");
        pb_msg(&f, 7, &n);
        pb_int(&import, 2, 8);
        pb_msg(&f, 9, &import);
        pb_str(&f, 10, "local");
        pb m = pb_model(&g, 8, 21), local = { .n = 0 };
        pb_str(&local, 1, "local");
        pb_int(&local, 2, 1);
        pb_msg(&m, 8, &local);
        pb_msg(&m, 25, &f);
        rq_graph *read;
        assert_int_equal(rq_load_memory(&read, m.b, m.n, &err), RQ_BAD_GRAPH);
        assert_non_null(strstr(err.text, bodies[i]));
    }
}

static int warnings(int64_t ir, int64_t opset, rq_status want, const char *word)
{
    pb g = begin(), n = pb_node("Relu", "x", NULL, "y");
    pb_msg(&g, 1, &n);
    shut(&g, "y");
    pb m = pb_model(&g, ir, opset);
    rq_graph *read;
    rq_notes notes = { 0 };
    assert_int_equal(rq_load_memory(&read, m.b, m.n, &err), want);
    if (want)
        return 0;
    OK(rq_graph_warnings(read, &notes));
    const int count = notes.n;
    if (word)
        assert_non_null(strstr(notes.text[0], word));
    expect(read, 2, (const int64_t[]) { 2, 3 }, (const float[]) { 0, 1, 2, 3, 4, 5 });
    rq_notes_release(&notes);
    rq_graph_destroy(read);
    return count;
}

static void newer_versions_come_with_a_warning(void **state)
{
    (void)state;
    assert_int_equal(warnings(10, 21, RQ_OK, NULL), 0);
    assert_int_equal(warnings(13, 25, RQ_OK, NULL), 0);
    assert_int_equal(warnings(14, 30, RQ_OK, "opset 30"), 1);
    assert_int_equal(warnings(15, 25, RQ_OK, "IR version 15"), 1);
    warnings(13, 999, RQ_UNSUPPORTED, NULL);
    warnings(999, 25, RQ_UNSUPPORTED, NULL);
}

/* Loaded, named, kept byte for byte when written; running names them all. */
static void unknown_operators_are_kept(void **state)
{
    (void)state;
    const char *first = RQ_TEST_TMP "/unknown-1.onnx", *second = RQ_TEST_TMP "/unknown-2.onnx";
    pb g = begin(), n = pb_node("Frob", "x", NULL, "a");
    pb_str(&n, 7, "my.domain");
    attr_float(&n, "sharpness", 0.5f);
    attr_ints(&n, "corners", 2, (const int64_t[]) { -3, 4 });
    attr_text(&n, "mood", "grim");
    pb_msg(&g, 1, &n);
    n = pb_node("Relu", "a", NULL, "b");
    pb_msg(&g, 1, &n);
    n = pb_node("TreeEnsemble", "b", NULL, "y");
    pb_str(&n, 7, "ai.onnx.ml");
    pb_msg(&g, 1, &n);
    shut(&g, "y");
    pb m = pb_model(&g, 10, 21);
    for (int i = 0; i < 2; i++) {
        pb import = { .n = 0 };
        pb_str(&import, 1, i ? "ai.onnx.ml" : "my.domain");
        pb_int(&import, 2, i ? 5 : 7);
        pb_msg(&m, 8, &import);
    }
    rq_graph *read;
    rq_op_count *ops;
    rq_session *s;
    int n_ops, known = 0;
    OK(rq_load_memory(&read, m.b, m.n, &err));
    OK(rq_graph_count_ops(read, &ops, &n_ops));
    assert_int_equal(n_ops, 3);
    for (int i = 0; i < n_ops; i++)
        known += ops[i].runs;
    assert_int_equal(known, 1);
    rq_free(ops);
    assert_int_equal(rq_session_create(&s, read, NULL, &err), RQ_UNSUPPORTED);
    assert_non_null(strstr(err.text, "my.domain.Frob"));
    assert_non_null(strstr(err.text, "ai.onnx.ml.TreeEnsemble"));
    OK(rq_save(read, first, &err));
    rq_graph_destroy(read);
    OK(rq_load(&read, first, &err));
    OK(rq_save(read, second, &err));
    rq_graph_destroy(read);
    rq_map a, b;
    OK(rq_file_map(&a, first, &err));
    OK(rq_file_map(&b, second, &err));
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    for (const char *const *word = (const char *const[]) { "sharpness", "corners", "grim", "my.domain", NULL }; *word;
         word++)
        assert_non_null(memmem(a.data, a.size, *word, strlen(*word)));
    rq_file_unmap(&a);
    rq_file_unmap(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_forms_mean_what_they_meant),   cmocka_unit_test(computed_operands_are_lined_up),
        cmocka_unit_test(slopes_belong_to_channels),        cmocka_unit_test(what_has_no_new_form_is_refused_at_once),
        cmocka_unit_test(nodes_without_inputs_are_refused), cmocka_unit_test(newer_versions_come_with_a_warning),
        cmocka_unit_test(unknown_operators_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
