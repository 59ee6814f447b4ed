/* tests/run/test_posts.c — what may be done behind a product, and what may not (run/plan_posts.c): for each condition a graph in which it alone stands in the
 * way. Bits are those of a plan without posts, and how many there are is exact. Softsign is a product here (plan_help.h). */
#include "run/net_help.h"

typedef struct expected {
    void (*build)(net *n);
    int posts;
    unsigned plain; /* of the plan that has posts */
} expected;

static void run_case(const expected *e, rq_dtype d, bool tapped)
{
    assert_int_equal(run_built(e->build, d, tapped, e->plain).posts, e->posts);
}

static void run_both(const expected *e)
{
    run_case(e, RQ_DTYPE_U8, false);
    run_case(e, RQ_DTYPE_S8, false);
}

/* ---- what is done ---- */

static void build_chain(net *n)
{
    rq_id v = product(n, n->x), o[6];
    for (int i = 0; i < 6; i++)
        o[i] = other(n);
    v = product(n, v); /* behind the others: they are there */
    for (int i = 0; i < 6; i++)
        v = add(n, i % 2 ? o[i] : v, i % 2 ? v : o[i]);
    build_output(n->g, v);
}

static void a_product_does_four_things_at_most(void **state)
{
    (void)state;
    run_both(&(expected) { build_chain, .posts = 4 });
}

static void build_full(net *n)
{
    rq_id v = n->x, o[4];
    for (int i = 0; i < 4; i++)
        o[i] = other(n);
    v = product(n, v);
    for (int i = 0; i < 4; i++)
        v = add(n, v, o[i]);
    build_output(n->g, concat(n, 0, 2, (rq_id[]) { v, other(n) }));
}

static void a_full_product_takes_no_table_of_a_concat(void **state)
{
    (void)state;
    run_both(&(expected) { build_full, .posts = 4 });
}

/* ---- the second operand of a sum ---- */

static void build_late(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, add(n, a, b));
}

static void build_late_swapped(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, add(n, b, a));
}

static void the_product_that_is_made_last_does_the_sum(void **state)
{
    (void)state;
    run_both(&(expected) { build_late, .posts = 1 });
    run_both(&(expected) { build_late_swapped, .posts = 1 });
}

static void build_later_other(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, add(n, a, other(n)));
}

static void build_later_other_swapped(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, add(n, other(n), a));
}

/* Through a view, which no step makes. */
static void build_later_view(net *n)
{
    char name[16];
    const rq_id a = product(n, n->x), o = other(n);
    const rq_id same = build_const(n->g, name_of(n, name), RQ_DTYPE_S64, 1, (int64_t[]) { 4 },
                                   (double[]) { (double)dims[0], (double)dims[1], (double)dims[2], (double)dims[3] });
    const rq_id v = build_node(n->g, "Reshape", name_of(n, name), RQ_DTYPE_F32, 2, (rq_id[]) { o, same });
    n->g->values[v].quant = n->g->values[o].quant;
    build_output(n->g, add(n, a, v));
}

static void an_operand_that_is_made_later_is_waited_for(void **state)
{
    (void)state;
    run_both(&(expected) { build_later_view, .posts = 0 });
    run_both(&(expected) { build_later_other, .posts = 0 });
    run_both(&(expected) { build_later_other_swapped, .posts = 0 });
}

static rq_id shrunk(net *n, rq_id x)
{
    return node(n, "GlobalAveragePool", 1, &x);
}

static void build_small_other(net *n)
{
    const rq_id o = shrunk(n, n->x);
    build_output(n->g, add(n, product(n, n->x), o));
}

static void build_small_product(net *n)
{
    const rq_id o = other(n);
    build_output(n->g, add(n, o, product(n, shrunk(n, n->x))));
}

static void operands_of_other_sizes_are_added_by_a_step(void **state)
{
    (void)state;
    run_both(&(expected) { build_small_other, .posts = 0 });
    run_both(&(expected) { build_small_product, .posts = 0 });
}

static void build_itself(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, add(n, a, a));
}

static void a_product_added_to_itself_is_looked_up(void **state)
{
    (void)state;
    run_both(&(expected) { build_itself, .posts = 1 });
}

static void build_fixed_other(net *n)
{
    char name[16];
    double v[210];
    for (int i = 0; i < 210; i++)
        v[i] = i % 200 - (n->d == RQ_DTYPE_S8 ? 100 : 0);
    const rq_id o = build_const(n->g, name_of(n, name), n->d, 4, dims, v);
    n->g->values[o].dtype = RQ_DTYPE_F32;
    as_codes(n, o, n->d);
    build_output(n->g, add(n, product(n, n->x), o));
}

static void a_constant_is_added_by_a_step(void **state)
{
    (void)state;
    run_both(&(expected) { build_fixed_other, .posts = 0 });
}

/* ---- others that want what the product makes ---- */

static void build_two_readers(net *n)
{
    const rq_id o = other(n), a = product(n, n->x);
    build_output(n->g, add(n, a, o));
    build_output(n->g, product(n, a));
}

static void build_output_too(net *n)
{
    const rq_id o = other(n), a = product(n, n->x);
    build_output(n->g, add(n, a, o));
    build_output(n->g, a);
}

static void who_else_reads_a_product_gets_what_it_made(void **state)
{
    (void)state;
    run_both(&(expected) { build_two_readers, .posts = 0 });
    run_both(&(expected) { build_output_too, .posts = 0 });
}

static void build_tapped(net *n)
{
    const rq_id a = product(n, n->x); /* v1 */
    build_output(n->g, node(n, "Sigmoid", 1, &a));
}

static void who_taps_a_product_sees_what_it_made(void **state)
{
    (void)state;
    run_both(&(expected) { build_tapped, .posts = 1 });
    run_case(&(expected) { build_tapped, .posts = 0 }, RQ_DTYPE_U8, true);
    run_case(&(expected) { build_tapped, .posts = 0 }, RQ_DTYPE_S8, true);
}

/* NonZero ends a segment: what stands behind it reads a there. */
static void build_later_segment(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, node(n, "Sigmoid", 1, &a));
    const rq_id at = build_node(n->g, "NonZero", "at", RQ_DTYPE_S64, 1, &n->x);
    build_output(n->g, build_node(n->g, "Shape", "count", RQ_DTYPE_S64, 1, &at));
    build_output(n->g, product(n, a));
}

static void a_later_segment_reads_what_a_product_made(void **state)
{
    (void)state;
    run_both(&(expected) { build_later_segment, .posts = 0 });
}

/* ---- what others did first ---- */

/* The table is done by the first product, so it is there when the second one adds it. */
static void build_moved_up(net *n)
{
    const rq_id a = product(n, n->x), o = other(n), b = product(n, o), t = node(n, "Sigmoid", 1, &a);
    build_output(n->g, add(n, b, t));
}

static void what_a_product_did_is_there_for_the_next(void **state)
{
    (void)state;
    run_both(&(expected) { build_moved_up, .posts = 2 });
}

/* Codes of the caller, which lie elsewhere in each run. */
static void the_callers_codes_are_added_by_a_step(void **state)
{
    (void)state;
    const int64_t dim[4] = { 6, 8, 1, 1 }; /* the same bytes in both orders */
    rq_graph *g = build_graph(17);
    rq_rng rng;
    rq_rng_seed(&rng, 4);
    const rq_id q = build_input(g, "q", RQ_DTYPE_U8, 4, dim), scale = build_scalar(g, "scale", RQ_DTYPE_F32, 0.03F),
                zero = build_scalar(g, "zero", RQ_DTYPE_U8, 120);
    const rq_id x = build_node(g, "DequantizeLinear", "x", RQ_DTYPE_F32, 3, (rq_id[]) { q, scale, zero });
    const rq_id a = build_node(g, "Softsign", "a", RQ_DTYPE_F32, 1, &x);
    const rq_id y = build_node(g, "Add", "y", RQ_DTYPE_F32, 2, (rq_id[]) { a, x });
    annotate(g, x, RQ_DTYPE_U8, 0.03F, 120);
    annotate(g, a, RQ_DTYPE_U8, 0.03F, 110);
    annotate(g, y, RQ_DTYPE_U8, 0.05F, 100);
    build_output(g, y);
    const rq_shape s = rq_shape_of(4, dim);
    rq_tensor t;
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_U8, &s, false), RQ_OK);
    for (size_t i = 0; i < t.bytes; i++)
        t.u8[i] = (uint8_t)rq_rng_u64(&rng);
    ran want, got;
    run_plan(g, RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, RQ_NONE, &t, &want);
    run_plan(g, 0, RQ_NONE, &t, &got);
    assert_same(&want, &got);
    assert_int_equal(got.posts, 0);
    release(&want), release(&got);
    rq_tensor_release(&t);
    rq_graph_destroy(g);
}

/* ---- how long operands live ---- */

static void build_sum_first(net *n)
{
    const rq_id o = pair(n), a = product(n, n->x), y = add(n, a, o), z = pair(n);
    build_output(n->g, shrunk(n, node(n, "Mul", 2, (rq_id[]) { y, z }))); /* reals are larger than all codes */
}

static void build_sum_last(net *n)
{
    const rq_id o = pair(n), a = product(n, n->x), z = pair(n), y = add(n, a, o);
    build_output(n->g, shrunk(n, node(n, "Mul", 2, (rq_id[]) { y, z }))); /* reals are larger than all codes */
}

/* Wherever the sum stood: what the product has added lies no longer in anybody's way. */
static void an_operand_lives_until_it_is_added(void **state)
{
    (void)state;
    const ran first = run_built(build_sum_first, RQ_DTYPE_U8, false, 0),
              last = run_built(build_sum_last, RQ_DTYPE_U8, false, 0);
    assert_int_equal(first.posts, 1);
    assert_int_equal(last.posts, 1);
    assert_int_equal(first.bytes, last.bytes);
}

/* ---- codes of two bytes ---- */

static rq_id as_wide(net *n, const char *op, int n_in, const rq_id *in)
{
    char name[16];
    return as_codes(n, build_node(n->g, op, name_of(n, name), RQ_DTYPE_F32, n_in, in), RQ_DTYPE_U16);
}

static void build_wide_table(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, as_wide(n, "Sigmoid", 1, &a));
}

static void build_wide_sum(net *n)
{
    const rq_id o = other(n), a = product(n, n->x);
    build_output(n->g, as_wide(n, "Add", 2, (rq_id[]) { a, o }));
}

static void build_wide_other(net *n)
{
    const rq_id o = as_wide(n, "Mul", 2, (rq_id[]) { n->x, n->x }), a = product(n, n->x);
    build_output(n->g, add(n, a, o));
}

static void codes_of_two_bytes_are_no_posts(void **state)
{
    (void)state;
    run_both(&(expected) { build_wide_table, .posts = 0 });
    run_both(&(expected) { build_wide_sum, .posts = 0 });
    run_both(&(expected) { build_wide_other, .posts = 0 });
}

/* ---- rows that do posts channels-last do none in the order of the file ---- */

static void build_conv(net *n)
{
    char name[16];
    double v[25];
    for (int i = 0; i < 25; i++)
        v[i] = i * 7 % 100 - 40;
    const rq_id w = build_const(n->g, name_of(n, name), RQ_DTYPE_S8, 4, (int64_t[]) { 5, 5, 1, 1 }, v);
    n->g->values[w].dtype = RQ_DTYPE_F32;
    annotate(n->g, w, RQ_DTYPE_S8, 1 / 100.0f, 0);
    const rq_id o = other(n), a = node(n, "Conv", 2, (rq_id[]) { n->x, w });
    build_output(n->g, add(n, a, o));
}

static void a_convolution_in_the_order_of_the_file_has_no_posts(void **state)
{
    (void)state;
    run_both(&(expected) { build_conv, .posts = 1 });
    run_both(&(expected) { build_conv, .posts = 0, .plain = RQ_PLAIN_NO_LAST });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_does_four_things_at_most),
        cmocka_unit_test(a_full_product_takes_no_table_of_a_concat),
        cmocka_unit_test(the_product_that_is_made_last_does_the_sum),
        cmocka_unit_test(an_operand_that_is_made_later_is_waited_for),
        cmocka_unit_test(operands_of_other_sizes_are_added_by_a_step),
        cmocka_unit_test(a_product_added_to_itself_is_looked_up),
        cmocka_unit_test(a_constant_is_added_by_a_step),
        cmocka_unit_test(who_else_reads_a_product_gets_what_it_made),
        cmocka_unit_test(who_taps_a_product_sees_what_it_made),
        cmocka_unit_test(a_later_segment_reads_what_a_product_made),
        cmocka_unit_test(what_a_product_did_is_there_for_the_next),
        cmocka_unit_test(the_callers_codes_are_added_by_a_step),
        cmocka_unit_test(an_operand_lives_until_it_is_added),
        cmocka_unit_test(codes_of_two_bytes_are_no_posts),
        cmocka_unit_test(a_convolution_in_the_order_of_the_file_has_no_posts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
