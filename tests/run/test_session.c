/* tests/run/test_session.c — sessions over graphs built by hand: views, taps, sizes that depend on data, new input
 * shapes, errors. Numbers of real operators are the golden runner's business. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "requant/session.h"

static rq_id add(rq_graph *g, rq_value_kind kind, const char *name, rq_dtype d, int rank, const int64_t *dim)
{
    rq_id id;
    rq_shape s = rank < 0 ? rq_shape_unknown() : rq_shape_of(rank, dim);
    assert_int_equal(rq_graph_add_value(g, &id, kind, name, d, &s, NULL), RQ_OK);
    return id;
}

static rq_id node(rq_graph *g, const char *op, const rq_id *in, int n_in, rq_id out)
{
    rq_id id;
    char name[64];
    snprintf(name, sizeof name, "%s_%s", op, g->values[out].name);
    assert_int_equal(rq_graph_add_node(g, &id, op, "", name, in, n_in, &out, 1, NULL), RQ_OK);
    return id;
}

static rq_id constant(rq_graph *g, const char *name, rq_dtype d, int rank, const int64_t *dim, const double *v)
{
    rq_id id;
    rq_tensor t;
    rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        rq_tensor_set(&t, i, v[i]);
    assert_int_equal(rq_graph_add_const(g, &id, name, &t, NULL), RQ_OK);
    rq_tensor_release(&t);
    return id;
}

static void ends(rq_graph *g, rq_id in, rq_id out)
{
    assert_true(rq_mem_grow(&g->inputs, g->n_inputs, &g->cap_inputs, sizeof *g->inputs));
    assert_true(rq_mem_grow(&g->outputs, g->n_outputs, &g->cap_outputs, sizeof *g->outputs));
    g->inputs[g->n_inputs++] = in;
    g->outputs[g->n_outputs++] = out;
    assert_int_equal(rq_graph_set_opset(g, "", 17), RQ_OK);
}

/* x[N,2,3] -> Relu -> a -> Reshape[N,6] -> b -> Transpose -> y[6,N] */
static rq_graph *chain(void)
{
    rq_graph *g;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    rq_id x = add(g, RQ_VALUE_INPUT, "x", RQ_DTYPE_F32, 3, (int64_t[]) { rq_graph_symbol(g, "N"), 2, 3 });
    rq_id a = add(g, RQ_VALUE_NODE, "a", RQ_DTYPE_F32, -1, NULL),
          b = add(g, RQ_VALUE_NODE, "b", RQ_DTYPE_F32, -1, NULL);
    rq_id y = add(g, RQ_VALUE_NODE, "y", RQ_DTYPE_F32, -1, NULL);
    rq_id shape = constant(g, "shape", RQ_DTYPE_S64, 1, (int64_t[]) { 2 }, (double[]) { 0, 6 });
    node(g, "Relu", &x, 1, a);
    node(g, "Reshape", (rq_id[]) { a, shape }, 2, b);
    node(g, "Transpose", &b, 1, y);
    ends(g, x, y);
    return g;
}

typedef struct seen {
    int calls;
    rq_shape shape;
    float first, last;
} seen;

static rq_status look(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    seen *s = arg;
    (void)value, (void)err;
    s->calls++;
    s->shape = t->shape;
    s->first = t->f32[0];
    s->last = t->f32[rq_tensor_count(t) - 1];
    return RQ_OK;
}

static rq_feed feed(const char *name, float *data, int64_t n)
{
    rq_shape s = rq_shape_of(3, (int64_t[]) { n, 2, 3 });
    return (rq_feed) { name, rq_tensor_view(RQ_DTYPE_F32, &s, data) };
}

static void a_chain_with_a_view_runs_at_two_sizes(void **state)
{
    rq_graph *g = chain();
    rq_session *s;
    rq_err err = { 0 };
    rq_tensor y;
    float x[12];
    for (int i = 0; i < 12; i++)
        x[i] = (float)(i - 3);
    assert_int_equal(rq_session_create(&s, g, NULL, &err), RQ_OK);
    for (int round = 0; round < 3; round++) {
        int64_t n = round == 1 ? 1 : 2;
        rq_feed f = feed("x", x, n);
        assert_int_equal(rq_session_run(s, &f, 1, &y, &err), RQ_OK);
        assert_int_equal(y.shape.rank, 2);
        assert_int_equal(y.shape.dim[0], 6);
        assert_int_equal(y.shape.dim[1], n);
        for (int64_t i = 0; i < 6; i++)
            for (int64_t k = 0; k < n; k++)
                assert_true(y.f32[i * n + k] == fmaxf(x[k * 6 + i], 0));
        rq_tensor_release(&y);
    }
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

static void taps_see_inputs_views_and_outputs(void **state)
{
    rq_graph *g = chain();
    rq_session *s;
    rq_err err = { 0 };
    rq_tensor y;
    float x[6] = { -1, 1, 2, 3, 4, 5 };
    const char *const names[4] = { "x", "a", "b", "y" };
    seen at[4] = { { 0 } };
    assert_int_equal(rq_session_create(&s, g, NULL, &err), RQ_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rq_session_tap(s, names[i], look, &at[i], &err), RQ_OK);
    assert_int_equal(rq_session_tap(s, "z", look, &at[3], &err), RQ_NOT_FOUND);
    rq_feed f = feed("x", x, 1);
    for (int round = 1; round <= 2; round++) {
        assert_int_equal(rq_session_run(s, &f, 1, &y, &err), RQ_OK);
        rq_tensor_release(&y);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(at[i].calls, round);
            assert_true(at[i].last == 5);
            assert_true(at[i].first == (i ? 0.0f : -1.0f));
        }
        assert_int_equal(at[2].shape.rank, 2);
    }
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

/* x[1,2,3] -> NonZero -> nz[3,K] -> Cast f32 -> c -> Relu -> y: K depends on the data, and y on K. */
static void sizes_that_depend_on_data_are_planned_anew(void **state)
{
    rq_graph *g;
    rq_session *s;
    rq_err err = { 0 };
    rq_tensor y;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    rq_id x = add(g, RQ_VALUE_INPUT, "x", RQ_DTYPE_F32, 3, (int64_t[]) { 1, 2, 3 });
    rq_id nz = add(g, RQ_VALUE_NODE, "nz", RQ_DTYPE_S64, -1, NULL),
          c = add(g, RQ_VALUE_NODE, "c", RQ_DTYPE_F32, -1, NULL);
    rq_id out = add(g, RQ_VALUE_NODE, "y", RQ_DTYPE_F32, -1, NULL);
    node(g, "NonZero", &x, 1, nz);
    rq_id cast = node(g, "Cast", &nz, 1, c);
    assert_int_equal(rq_attr_set_int(g, cast, "to", 1), RQ_OK);
    node(g, "Relu", &c, 1, out);
    ends(g, x, out);
    assert_int_equal(rq_session_create(&s, g, NULL, &err), RQ_OK);
    float data[6] = { 0 };
    rq_feed f = feed("x", data, 1);
    f.tensor.shape.dim[0] = 1;
    const int on[] = { 3, 1, 1, 6, 0 };
    for (size_t round = 0; round < sizeof on / sizeof on[0]; round++) {
        for (int i = 0; i < 6; i++)
            data[i] = i >= 6 - on[round];
        rq_status st = rq_session_run(s, &f, 1, &y, &err);
        assert_string_equal(st ? err.text : "", "");
        assert_int_equal(y.shape.dim[0], 3);
        assert_int_equal(y.shape.dim[1], on[round]);
        for (int k = 0; k < on[round]; k++) {
            assert_true(y.f32[on[round] + k] == (float)((6 - on[round] + k) / 3));
            assert_true(y.f32[2 * on[round] + k] == (float)((6 - on[round] + k) % 3));
        }
        rq_tensor_release(&y);
    }
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

static void wrong_feeds_are_refused_with_what_was_wanted(void **state)
{
    rq_graph *g = chain();
    rq_session *s;
    rq_err err = { 0 };
    rq_tensor y;
    float x[12] = { 0 };
    assert_int_equal(rq_session_create(&s, g, NULL, &err), RQ_OK);
    rq_feed f = feed("xx", x, 1);
    assert_int_equal(rq_session_run(s, &f, 1, &y, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "'x'"));
    assert_int_equal(rq_session_run(s, NULL, 0, &y, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "missing"));
    f = feed("x", x, 2);
    f.tensor.shape.dim[1] = 3;
    f.tensor.shape.dim[2] = 2;
    assert_int_equal(rq_session_run(s, &f, 1, &y, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "[2,3,2]"));
    f = feed("x", x, 1);
    f.tensor.dtype = RQ_DTYPE_S32;
    assert_int_equal(rq_session_run(s, &f, 1, &y, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "s32"));
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

static void an_unknown_operator_is_named(void **state)
{
    rq_graph *g = chain();
    rq_session *s;
    rq_err err = { 0 };
    g->nodes[0].op = "Frobnicate";
    assert_int_not_equal(rq_session_create(&s, g, NULL, &err), RQ_OK);
    assert_non_null(strstr(err.text, "Frobnicate"));
    rq_graph_destroy(g);
}

static void each_failing_allocation_is_an_error_without_a_leak(void **state)
{
    rq_graph *g = chain();
    float x[6] = { 0 };
    rq_feed f = feed("x", x, 1);
    size_t before = rq_mem_live();
    rq_err err = { 0 };
    for (size_t n = 1; n < 1000; n++) {
        rq_session *s = NULL;
        rq_tensor y = { 0 };
        rq_mem_fail_after(n, false); /* one failure: what follows must cope with having gone on */
        rq_status st = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err);
        if (!st)
            st = rq_session_run(s, &f, 1, &y, &err);
        bool failed = rq_mem_fail_after(0, false) >= n;
        rq_tensor_release(&y);
        rq_session_destroy(s);
        assert_int_equal(rq_mem_live(), before);
        if (!failed) {
            assert_int_equal(st, RQ_OK);
            rq_graph_destroy(g);
            return;
        }
        assert_true(st == RQ_NO_MEMORY || st == RQ_OK); /* optional work (pruning) may be left out */
    }
    fail_msg("never succeeded");
}

/* x[1,1,1,1] -> Q -> DQ -> Conv with codes of w and b -> Q -> DQ -> y */
static float one_product(float bias_scale)
{
    rq_graph *g;
    rq_session *s;
    rq_tensor y;
    float half = 0.5f, got;
    const int64_t one[4] = { 1, 1, 1, 1 };
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    rq_id x = add(g, RQ_VALUE_INPUT, "x", RQ_DTYPE_F32, 4, one), v[7];
    static const rq_dtype types[7] = { RQ_DTYPE_U8,  RQ_DTYPE_F32, RQ_DTYPE_F32, RQ_DTYPE_F32,
                                       RQ_DTYPE_F32, RQ_DTYPE_U8,  RQ_DTYPE_F32 };
    static const char *const names[7] = { "xq", "xd", "wd", "bd", "c", "cq", "y" };
    for (int i = 0; i < 7; i++)
        v[i] = add(g, RQ_VALUE_NODE, names[i], types[i], -1, NULL);
    rq_id sx = constant(g, "sx", RQ_DTYPE_F32, 0, NULL, (double[]) { 0.01 });
    rq_id zx = constant(g, "zx", RQ_DTYPE_U8, 0, NULL, (double[]) { 0 });
    rq_id sb = constant(g, "sb", RQ_DTYPE_F32, 0, NULL, (double[]) { (double)bias_scale });
    rq_id w = constant(g, "w", RQ_DTYPE_S8, 4, one, (double[]) { 50 });
    rq_id b = constant(g, "b", RQ_DTYPE_S32, 1, one, (double[]) { 7 });
    node(g, "QuantizeLinear", (rq_id[]) { x, sx, zx }, 3, v[0]);
    node(g, "DequantizeLinear", (rq_id[]) { v[0], sx, zx }, 3, v[1]);
    node(g, "DequantizeLinear", (rq_id[]) { w, sx }, 2, v[2]);
    node(g, "DequantizeLinear", (rq_id[]) { b, sb }, 2, v[3]);
    node(g, "Conv", (rq_id[]) { v[1], v[2], v[3] }, 3, v[4]);
    node(g, "QuantizeLinear", (rq_id[]) { v[4], sx, zx }, 3, v[5]);
    node(g, "DequantizeLinear", (rq_id[]) { v[5], sx, zx }, 3, v[6]);
    ends(g, x, v[6]);
    assert_int_equal(rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, NULL), RQ_OK);
    const rq_shape shape = rq_shape_of(4, one);
    const rq_feed feed = { "x", rq_tensor_view(RQ_DTYPE_F32, &shape, &half) };
    assert_int_equal(rq_session_run(s, &feed, 1, &y, NULL), RQ_OK);
    got = y.f32[0];
    rq_tensor_release(&y);
    rq_session_destroy(s);
    rq_graph_destroy(g);
    return got;
}

static void a_bias_counts_by_its_own_scale(void **state)
{
    (void)state;
    assert_float_equal(one_product(0.01f * 0.01f), 0.25f, 1e-6); /* 0.2507, in units of the product */
    assert_float_equal(one_product(0.1f), 0.95f, 1e-6);
}

/* x -> Q -> DQ -> op -> Q -> DQ -> y, and positions i: values are moved as codes, positions stay what they are. */
static void codes_move_beside_positions(void **state)
{
    static const char *const ops[] = { "TopK", "MaxPool" };
    static const int64_t dim[] = { 1, 1, 2, 4 };
    static const float want[2][4] = { { 0.75f, 0.5f, 1, 0.25f }, { 0.75f, 0.5f, 0.25f, 1 } };
    static const int64_t at[2][4] = { { 1, 2, 3, 0 }, { 1, 2, 4, 7 } };
    float x[8] = { 0.26f, 0.74f, 0.51f, -1, 0.25f, 0.2f, 0, 2 }; /* 2 is cut to 1 */
    (void)state;
    for (int o = 0; o < 2; o++) {
        rq_graph *g;
        rq_session *s;
        rq_tensor y[2];
        rq_err err = { 0 };
        assert_int_equal(rq_graph_create(&g), RQ_OK);
        rq_id in = add(g, RQ_VALUE_INPUT, "x", RQ_DTYPE_F32, 4, dim), v[6], op;
        static const rq_dtype types[6] = { RQ_DTYPE_U8,  RQ_DTYPE_F32, RQ_DTYPE_F32,
                                           RQ_DTYPE_S64, RQ_DTYPE_U8,  RQ_DTYPE_F32 };
        static const char *const names[6] = { "xq", "xd", "v", "i", "vq", "y" };
        for (int i = 0; i < 6; i++)
            v[i] = add(g, RQ_VALUE_NODE, names[i], types[i], -1, NULL);
        rq_id scale = constant(g, "s", RQ_DTYPE_F32, 0, NULL, (double[]) { 0.25 });
        rq_id zero = constant(g, "z", RQ_DTYPE_U8, 0, NULL, (double[]) { 251 });
        rq_id k = constant(g, "k", RQ_DTYPE_S64, 1, (int64_t[]) { 1 }, (double[]) { 2 });
        node(g, "QuantizeLinear", (rq_id[]) { in, scale, zero }, 3, v[0]);
        node(g, "DequantizeLinear", (rq_id[]) { v[0], scale, zero }, 3, v[1]);
        assert_int_equal(rq_graph_add_node(g, &op, ops[o], "", "op", (rq_id[]) { v[1], k }, o ? 1 : 2, &v[2], 2, NULL),
                         RQ_OK);
        if (o) { /* windows of 1 x 2, side by side */
            assert_int_equal(rq_attr_set_ints(g, op, "kernel_shape", (int64_t[]) { 1, 2 }, 2), RQ_OK);
            assert_int_equal(rq_attr_set_ints(g, op, "strides", (int64_t[]) { 1, 2 }, 2), RQ_OK);
        }
        node(g, "QuantizeLinear", (rq_id[]) { v[2], scale, zero }, 3, v[4]);
        node(g, "DequantizeLinear", (rq_id[]) { v[4], scale, zero }, 3, v[5]);
        ends(g, in, v[5]);
        assert_true(rq_mem_grow(&g->outputs, g->n_outputs, &g->cap_outputs, sizeof *g->outputs));
        g->outputs[g->n_outputs++] = v[3];
        rq_status st = rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err);
        assert_string_equal(st ? err.text : "", "");
        const rq_shape shape = rq_shape_of(4, dim);
        st = rq_session_run(s, &(rq_feed) { "x", rq_tensor_view(RQ_DTYPE_F32, &shape, x) }, 1, y, &err);
        assert_string_equal(st ? err.text : "", "");
        const rq_layer_info *layers;
        bool found = false;
        for (int i = 0, n = rq_session_layers(s, &layers); i < n; i++)
            if (!strcmp(layers[i].op, ops[o])) {
                found = true;
                assert_string_equal(layers[i].reason_float ? layers[i].reason_float : "", "");
                assert_true(layers[i].integer);
            }
        assert_true(found);
        assert_int_equal(rq_tensor_count(&y[0]), 4);
        assert_int_equal(y[1].dtype, RQ_DTYPE_S64);
        for (int i = 0; i < 4; i++) {
            assert_true(y[0].f32[i] == want[o][i]);
            assert_int_equal(y[1].s64[i], at[o][i]);
        }
        rq_tensor_release(&y[0]);
        rq_tensor_release(&y[1]);
        rq_session_destroy(s);
        rq_graph_destroy(g);
    }
}

/* The products inside bodies run on codes, wherever their weights lie (numbers: tests/ops/peer/bodies). */
static void bodies_run_in_integers(void **state)
{
    static const char *const models[] = { "loop_inside",     "loop_outside", "if_inside_true",
                                          "if_outside_true", "scan_inside",  "scan_outside" };
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        char path[200];
        rq_err why = { 0 };
        rq_graph *g;
        rq_session *s;
        rq_feed feed[4];
        rq_tensor out[4];
        const rq_layer_info *l;
        snprintf(path, sizeof path, "tests/ops/peer/bodies/%s.onnx", models[m]);
        if (rq_load(&g, path, &why) || rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &why))
            fail_msg("%s", why.text);
        const int n_in = rq_graph_n_inputs(g);
        for (int i = 0; i < n_in; i++) {
            const rq_value_info v = rq_graph_input(g, i);
            feed[i].name = v.name;
            assert_int_equal(rq_tensor_create(&feed[i].tensor, v.dtype, &v.shape, true), RQ_OK);
            if (v.dtype == RQ_DTYPE_BOOL)
                feed[i].tensor.u8[0] = 1;
        }
        if (rq_session_run(s, feed, n_in, out, &why))
            fail_msg("%s", why.text);
        int products = 0;
        const int n = rq_session_layers(s, &l);
        for (int i = 0; i < n; i++)
            products += !strcmp(l[i].op, "MatMul") && l[i].integer;
        if (products != 1)
            fail_msg("%s: %d products in integers, expected 1", models[m], products);
        for (int i = 0; i < n_in; i++)
            rq_tensor_release(&feed[i].tensor);
        for (int i = 0; i < rq_graph_n_outputs(g); i++)
            rq_tensor_release(&out[i]);
        rq_session_destroy(s);
        rq_graph_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_with_a_view_runs_at_two_sizes),
        cmocka_unit_test(taps_see_inputs_views_and_outputs),
        cmocka_unit_test(sizes_that_depend_on_data_are_planned_anew),
        cmocka_unit_test(wrong_feeds_are_refused_with_what_was_wanted),
        cmocka_unit_test(an_unknown_operator_is_named),
        cmocka_unit_test(a_bias_counts_by_its_own_scale),
        cmocka_unit_test(codes_move_beside_positions),
        cmocka_unit_test(bodies_run_in_integers),
        cmocka_unit_test(each_failing_allocation_is_an_error_without_a_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
