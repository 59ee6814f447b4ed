/* tests/run/test_share.c — which output may take the place of an input (run/plan_share.c), and which may not: what is read later, by two threads, or by a
 * subgraph is not written over; how many outputs do, and how large the block is, exactly. */
#include "run/plan_help.h"

/* g without sharing, and with it: the same bits. Returns the plan with it. */
static ran run_shared(rq_graph *g, const rq_tensor *x)
{
    ran want, got;
    run_plan(g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, RQ_NONE, x, &want);
    run_plan(g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS, RQ_NONE, x, &got);
    assert_same(&want, &got);
    assert_int_equal(want.taken, 0);
    release(&want), release(&got);
    return got;
}

static rq_id unary(rq_graph *g, const char *op, rq_id x)
{
    char name[16];
    snprintf(name, sizeof name, "v%d", g->n_values);
    return build_node(g, op, name, RQ_DTYPE_F32, 1, &x);
}

static rq_id binary(rq_graph *g, const char *op, rq_id a, rq_id b)
{
    char name[16];
    snprintf(name, sizeof name, "v%d", g->n_values);
    return build_node(g, op, name, RQ_DTYPE_F32, 2, (rq_id[]) { a, b });
}

/* x[from:to] of one axis. */
static rq_id cut(rq_graph *g, rq_id x, int64_t from, int64_t to)
{
    char name[3][16];
    for (int i = 0; i < 3; i++)
        snprintf(name[i], sizeof name[i], "c%d.%d", g->n_values, i);
    const rq_id lo = build_const(g, name[0], RQ_DTYPE_S64, 1, (int64_t[]) { 1 }, (double[]) { (double)from }),
                hi = build_const(g, name[1], RQ_DTYPE_S64, 1, (int64_t[]) { 1 }, (double[]) { (double)to });
    return build_node(g, "Slice", name[2], RQ_DTYPE_F32, 3, (rq_id[]) { x, lo, hi });
}

/* ---- views ---- */

enum { MANY = 400000 }; /* so many that two threads share the work */

/* A view that begins behind the beginning: an output at the beginning would be written over what the other thread still reads. */
static void what_lies_behind_the_beginning_is_not_written_over(void **state)
{
    (void)state;
    static const char *const ops[] = { "Relu", "Exp", "Neg" };
    rq_rng rng;
    rq_rng_seed(&rng, 1);
    assert_int_equal(rq_threads_create(&plan_threads, 2), RQ_OK);
    const int64_t n = MANY;
    const rq_shape s = rq_shape_of(1, &n);
    rq_tensor x = random_reals(&rng, &s);
    for (int round = 0; round < 30; round++) {
        rq_graph *g = build_graph(17);
        const rq_id a = unary(g, "Abs", build_input(g, "x", RQ_DTYPE_F32, 1, &n));
        const rq_id v = cut(g, round % 2 ? a : unary(g, "Identity", a), round % 10 ? (1 << round % 10) : 0, MANY);
        build_output(g, unary(g, ops[round / 10], v));
        assert_int_equal(run_shared(g, &x).taken, round % 10 == 0);
        rq_graph_destroy(g);
    }
    rq_tensor_release(&x);
    rq_threads_destroy(plan_threads);
    plan_threads = NULL;
}

/* Two views of one place, which overlap: what is written over the one is read through the other. */
static void what_is_read_through_another_view_is_not_written_over(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 2);
    assert_int_equal(rq_threads_create(&plan_threads, 2), RQ_OK);
    const int64_t n = MANY;
    const rq_shape s = rq_shape_of(1, &n);
    rq_tensor x = random_reals(&rng, &s);
    for (int round = 0; round < 10; round++) {
        rq_graph *g = build_graph(17);
        const rq_id a = unary(g, "Abs", build_input(g, "x", RQ_DTYPE_F32, 1, &n));
        const int64_t by = 1 << round;
        build_output(g, binary(g, "Sub", cut(g, a, 0, MANY - by), cut(g, a, by, MANY)));
        assert_int_equal(run_shared(g, &x).taken, 0);
        rq_graph_destroy(g);
    }
    rq_tensor_release(&x);
    rq_threads_destroy(plan_threads);
    plan_threads = NULL;
}

/* ---- who reads it later ---- */

/* a is read by the branches of an If alone, which no input of it says: Relu(a) is made before them. */
static void what_a_subgraph_reads_is_not_written_over(void **state)
{
    (void)state;
    const int64_t n = 5;
    const double yes = 1;
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    const rq_shape s = rq_shape_of(1, &n);
    rq_tensor x = random_reals(&rng, &s);
    rq_graph *g = build_graph(17);
    const rq_id a = unary(g, "Exp", build_input(g, "x", RQ_DTYPE_F32, 1, &n)), b = unary(g, "Neg", a);
    const rq_id c = unary(g, "Tanh", b);
    const rq_id y =
        build_node(g, "If", "y", RQ_DTYPE_F32, 1, (rq_id[]) { build_const(g, "yes", RQ_DTYPE_BOOL, 0, NULL, &yes) });
    for (int i = 0; i < 2; i++) {
        rq_graph *branch;
        rq_id seen;
        assert_int_equal(rq_graph_create(&branch), RQ_OK);
        branch->outer = g;
        assert_int_equal(rq_graph_add_value(branch, &seen, RQ_VALUE_CAPTURED, "a", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
        branch->values[seen].outer = a;
        build_output(branch, unary(branch, i ? "Neg" : "Sqrt", seen));
        rq_attr *attr = rq_attr_add(g, g->values[y].producer, i ? "else_branch" : "then_branch", RQ_ATTR_GRAPH);
        assert_non_null(attr);
        attr->g = rq_arena_alloc(&g->names, 1, sizeof *attr->g);
        attr->g[0] = branch;
    }
    build_output(g, c), build_output(g, y);
    assert_int_equal(run_shared(g, &x).taken, 1); /* c over b; not b over a */
    rq_graph_destroy(g);
    rq_tensor_release(&x);
}

/* ---- which operand, of what ---- */

typedef struct operands {
    const char *op;
    bool codes;
    bool keep[2];  /* operand i is read afterwards, too */
    int64_t small; /* operand i has fewer elements: 1 << i */
    int taken;
} operands;

static void check_operands(const operands *o)
{
    const int64_t dim[2] = { 6, 8 };
    rq_rng rng;
    rq_rng_seed(&rng, 4);
    const rq_shape s = rq_shape_of(2, dim);
    rq_tensor x = random_reals(&rng, &s);
    rq_graph *g = build_graph(17);
    const rq_id in = build_input(g, "x", RQ_DTYPE_F32, 2, dim);
    rq_id v[2];
    for (int i = 0; i < 2; i++) {
        v[i] = o->small & 1 << i ? build_node(g, "ReduceMax", i ? "b" : "a", RQ_DTYPE_F32, 2,
                                              (rq_id[]) { in, build_const(g, i ? "1" : "0", RQ_DTYPE_S64, 1,
                                                                          (int64_t[]) { 1 }, (double[]) { i }) })
                                 : binary(g, "MatMul", in,
                                          build_const(g, i ? "w" : "u", RQ_DTYPE_F32, 2, (int64_t[]) { 8, 8 },
                                                      (double[64]) { [3] = i, 1 }));
        if (o->codes)
            annotate(g, v[i], RQ_DTYPE_U8, 0.05f, 100 + i);
    }
    const rq_id y = binary(g, o->op, v[0], v[1]);
    if (o->codes)
        annotate(g, y, RQ_DTYPE_U8, 0.1f, 120);
    build_output(g, y);
    for (int i = 0; i < 2; i++)
        if (o->keep[i])
            build_output(g, build_node(g, "ReduceSum", i ? "kept1" : "kept0", RQ_DTYPE_F32, 1, &v[i]));
    const int taken = run_shared(g, &x).taken;
    if (taken != o->taken)
        fail_msg("%s%s: %d outputs in the place of inputs, expected %d", o->op, o->codes ? " of codes" : "", taken,
                 o->taken);
    rq_graph_destroy(g);
    rq_tensor_release(&x);
}

static void an_operand_that_dies_is_written_over(void **state)
{
    (void)state;
    static const operands all[] = {
        { "Add", false, { false, false }, 0, 1 },
        { "Add", false, { true, false }, 0, 0 }, /* reals: over the first alone */
        { "Add", false, { false, true }, 0, 1 },
        { "Add", false, { true, true }, 0, 0 },
        { "Add", false, { false, false }, 1, 0 },
        { "Add", false, { false, false }, 2, 1 },
        { "Sub", false, { false, false }, 0, 1 },
        { "Add", true, { false, false }, 0, 1 },
        { "Add", true, { true, false }, 0, 1 },
        { "Add", true, { false, true }, 0, 1 },
        { "Add", true, { true, true }, 0, 0 },
        { "Add", true, { true, false }, 2, 0 },
        { "Greater", false, { false, false }, 0, 0 }, /* another type */
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check_operands(&all[i]);
}

/* A chain stays in one place of the block: its length does not matter. */
static void a_chain_takes_one_place(void **state)
{
    (void)state;
    const int64_t n = 1000;
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    const rq_shape s = rq_shape_of(1, &n);
    rq_tensor x = random_reals(&rng, &s);
    size_t one = 0;
    for (int length = 1; length <= 6; length++) {
        rq_graph *g = build_graph(17);
        rq_id v = build_input(g, "x", RQ_DTYPE_F32, 1, &n);
        for (int i = 0; i < length; i++)
            v = unary(g, i % 2 ? "Neg" : "Exp", v);
        build_output(g, v);
        const ran r = run_shared(g, &x);
        one = length == 1 ? r.bytes : one;
        assert_int_equal(r.taken, length - 1);
        assert_int_equal(r.bytes, one);
        rq_graph_destroy(g);
    }
    rq_tensor_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lies_behind_the_beginning_is_not_written_over),
        cmocka_unit_test(what_is_read_through_another_view_is_not_written_over),
        cmocka_unit_test(what_a_subgraph_reads_is_not_written_over),
        cmocka_unit_test(an_operand_that_dies_is_written_over),
        cmocka_unit_test(a_chain_takes_one_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
