/* tests/graph/test_graph.c — names, edits, order, copies, and that allocation failures leave nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"

/* x -> Relu -> a; (a, w) -> Add -> b; b -> If{captures a} -> y; in the order given by `backwards`. */
static rq_status build(rq_graph **out, bool backwards)
{
    rq_graph *g = NULL, *sub = NULL;
    rq_shape s = rq_shape_of(1, (int64_t[]) { 4 });
    rq_id x, w, a, b, y, n, inner, c;
    rq_tensor t;
    rq_status st = rq_graph_create(&g);
    if (st)
        return st;
    memset(&t, 0, sizeof t);
    if ((st = rq_tensor_create(&t, RQ_DTYPE_F32, &s, true)))
        goto done;
#define DO(expr)                                                                                                       \
    if ((st = (expr)))                                                                                                 \
    goto done
    DO(rq_graph_add_value(g, &x, RQ_VALUE_INPUT, "x", RQ_DTYPE_F32, &s, NULL));
    DO(rq_graph_add_const(g, &w, "w", &t, NULL));
    DO(rq_graph_add_value(g, &a, RQ_VALUE_NODE, "a", RQ_DTYPE_F32, &s, NULL));
    DO(rq_graph_add_value(g, &b, RQ_VALUE_NODE, "b", RQ_DTYPE_F32, &s, NULL));
    DO(rq_graph_add_value(g, &y, RQ_VALUE_NODE, "y", RQ_DTYPE_F32, &s, NULL));
    if (!backwards)
        DO(rq_graph_add_node(g, &n, "Relu", "", "relu", &x, 1, &a, 1, NULL));
    DO(rq_graph_add_node(g, &n, "Add", "", "add", (rq_id[]) { a, w }, 2, &b, 1, NULL));
    DO(rq_graph_add_node(g, &n, "If", "", "if", &b, 1, &y, 1, NULL));
    rq_attr *at = rq_attr_add(g, n, "then_branch", RQ_ATTR_GRAPH);
    rq_graph **subs = at ? rq_arena_alloc(&g->names, 1, sizeof *subs) : NULL;
    st = RQ_NO_MEMORY;
    if (!at || !subs)
        goto done;
    at->g = subs;
    DO(rq_graph_create(&sub));
    at->g[0] = sub;
    sub->outer = g;
    DO(rq_graph_add_value(sub, &inner, RQ_VALUE_CAPTURED, "a", RQ_DTYPE_F32, &s, NULL));
    sub->values[inner].outer = a;
    DO(rq_graph_add_value(sub, &c, RQ_VALUE_NODE, "c", RQ_DTYPE_F32, &s, NULL));
    DO(rq_graph_add_node(sub, &n, "Neg", "", "neg", &inner, 1, &c, 1, NULL));
    st = RQ_NO_MEMORY;
    if (!rq_mem_grow(&sub->outputs, 0, &sub->cap_outputs, sizeof *sub->outputs))
        goto done;
    sub->outputs[sub->n_outputs++] = c;
    if (backwards)
        DO(rq_graph_add_node(g, &n, "Relu", "", "relu", &x, 1, &a, 1, NULL));
    st = RQ_NO_MEMORY;
    if (!rq_mem_grow(&g->inputs, 0, &g->cap_inputs, sizeof *g->inputs) ||
        !rq_mem_grow(&g->outputs, 0, &g->cap_outputs, sizeof *g->outputs))
        goto done;
    g->inputs[g->n_inputs++] = x;
    g->outputs[g->n_outputs++] = y;
    st = rq_graph_set_opset(g, "", 17);
done:
    rq_tensor_release(&t);
    if (st)
        rq_graph_destroy(g);
    else
        *out = g;
    return st;
#undef DO
}

static rq_graph *built(bool backwards)
{
    rq_graph *g = NULL;
    assert_int_equal(build(&g, backwards), RQ_OK);
    return g;
}

static void text_of(const rq_graph *g, char *buf, size_t n)
{
    FILE *f = fmemopen(buf, n, "w");
    assert_non_null(f);
    assert_int_equal(rq_graph_print(g, f), RQ_OK);
    fclose(f);
}

static void order_puts_makers_before_users_and_counts_captures(void **state)
{
    (void)state;
    rq_graph *g = built(true);
    rq_id *order;
    int n;
    assert_int_equal(rq_graph_check(g, NULL), RQ_OK);
    assert_int_equal(rq_order(g, &order, &n, NULL), RQ_OK);
    assert_int_equal(n, 3);
    assert_string_equal(g->nodes[order[0]].op, "Relu");
    assert_string_equal(g->nodes[order[1]].op, "Add");
    assert_string_equal(g->nodes[order[2]].op, "If");
    assert_int_equal(rq_graph_uses(g, rq_graph_find(g, "a"), NULL, 0), 2); /* Add, and the capture */
    rq_mem_free(order);
    rq_graph_destroy(g);
}

static void a_cycle_is_named(void **state)
{
    (void)state;
    rq_graph *g = built(false);
    rq_err err = { 0 };
    rq_graph_set_input(g, 0, 0, rq_graph_find(g, "b"));
    assert_int_equal(rq_graph_check(g, &err), RQ_BAD_GRAPH);
    assert_non_null(strstr(err.text, "cycle"));
    rq_graph_destroy(g);
}

static void names_are_unique_and_follow_renames(void **state)
{
    (void)state;
    rq_graph *g = built(false);
    rq_id id, a = rq_graph_find(g, "a");
    rq_err err = { 0 };
    assert_int_equal(rq_graph_add_value(g, &id, RQ_VALUE_NODE, "a", RQ_DTYPE_F32, NULL, &err), RQ_BAD_GRAPH);
    assert_int_equal(rq_graph_rename(g, a, "z", &err), RQ_OK);
    assert_int_equal(rq_graph_find(g, "z"), a);
    assert_int_equal(rq_graph_find(g, "a"), RQ_NONE);
    assert_string_equal(rq_graph_fresh_name(g, "z"), "z_1");
    for (int i = 0; i < 5000; i++) { /* through several growths of the index, with removals */
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        assert_int_equal(rq_graph_add_value(g, &id, RQ_VALUE_NODE, name, RQ_DTYPE_F32, NULL, &err), RQ_OK);
        if (i % 3 == 0)
            rq_graph_remove_value(g, id);
    }
    for (int i = 0; i < 5000; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        assert_true((rq_graph_find(g, name) == RQ_NONE) == (i % 3 == 0));
    }
    rq_graph_destroy(g);
}

static void a_copy_prints_the_same_and_is_its_own(void **state)
{
    (void)state;
    rq_graph *g = built(false), *copy;
    char a[4096], b[4096];
    assert_int_equal(rq_graph_copy(&copy, g), RQ_OK);
    text_of(g, a, sizeof a);
    text_of(copy, b, sizeof b);
    assert_string_equal(a, b);
    assert_ptr_equal(copy->nodes[2].attr[0].g[0]->outer, copy);
    rq_graph_destroy(g);
    assert_int_equal(rq_graph_check(copy, NULL), RQ_OK);
    rq_graph_destroy(copy);
}

static void pruning_keeps_what_captures_use(void **state)
{
    (void)state;
    rq_graph *g = built(false);
    assert_int_equal(rq_graph_prune(g), 0);
    g->outputs[0] = rq_graph_find(g, "a");
    assert_int_equal(rq_graph_prune(g), 2);
    assert_int_equal(rq_graph_find(g, "w"), RQ_NONE);
    assert_int_equal(rq_graph_check(g, NULL), RQ_OK);
    rq_graph_destroy(g);
}

static void replacing_uses_reaches_into_subgraphs(void **state)
{
    (void)state;
    rq_graph *g = built(false);
    rq_id a = rq_graph_find(g, "a"), x = rq_graph_find(g, "x");
    rq_graph_replace_uses(g, a, x, RQ_NONE);
    assert_int_equal(rq_graph_uses(g, a, NULL, 0), 0);
    assert_int_equal(g->nodes[2].attr[0].g[0]->values[0].outer, x);
    rq_graph_destroy(g);
}

static void each_failing_allocation_is_an_error_without_a_leak(void **state)
{
    (void)state;
    size_t before = rq_mem_live();
    for (size_t n = 1; n < 200; n++) {
        rq_graph *g = NULL, *copy = NULL;
        rq_mem_fail_after(n, true);
        rq_status st = build(&g, false);
        if (!st)
            st = rq_graph_copy(&copy, g);
        rq_mem_fail_after(0, false);
        rq_graph_destroy(copy);
        rq_graph_destroy(g);
        assert_int_equal(rq_mem_live(), before);
        if (!st)
            return; /* more allowed than needed: all were tried */
        assert_int_equal(st, RQ_NO_MEMORY);
    }
    fail_msg("building never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_puts_makers_before_users_and_counts_captures),
        cmocka_unit_test(a_cycle_is_named),
        cmocka_unit_test(names_are_unique_and_follow_renames),
        cmocka_unit_test(a_copy_prints_the_same_and_is_its_own),
        cmocka_unit_test(pruning_keeps_what_captures_use),
        cmocka_unit_test(replacing_uses_reaches_into_subgraphs),
        cmocka_unit_test(each_failing_allocation_is_an_error_without_a_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
