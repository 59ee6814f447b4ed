/* tests/run/test_last.c — channels-last codes in the plan, functions of one code, and what is done behind products: random graphs give the same bits
 * wherever codes lie channels-last, everywhere one can run on them, or nowhere, and whether each node is a step or not; changes of order stand at
 * the edges and nowhere else. */
#include "run/plan_help.h"

/* ---- random graphs ---- */

static void annotate_any(rq_graph *g, rq_rng *rng, rq_id v)
{
    const bool s8 = rq_rng_below(rng, 2);
    if (rq_rng_below(rng, 6) == 0)
        return; /* stays in reals */
    if (rq_rng_below(rng, 20) == 0)
        annotate(g, v, RQ_DTYPE_U16, 0.0002f, 30000);
    else
        annotate(g, v, s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8, 0.02f + 0.05f * rq_rng_f32(rng),
                 (int32_t)rq_rng_below(rng, 200) - (s8 ? 100 : 0));
}

enum { MOST = 24 };

/* Values of one shape [n][c][h][w], and what is made of them on the side: views, means, other orders. */
static rq_graph *random_graph(rq_rng *rng, const int64_t *dim)
{
    static const char *const unary[] = { "Relu", "Sigmoid", "HardSwish", "Identity", "Erf", "Neg" };
    static const char *const binary[] = { "Add", "Add", "Add", "Mul", "Sub", "Max" };
    rq_graph *g = build_graph(17);
    rq_id at[MOST];
    int n = 0;
    char name[16];
    at[n++] = build_input(g, "x", RQ_DTYPE_F32, 4, dim);
    annotate_any(g, rng, at[0]);
    const double three[3] = { (double)dim[0], (double)dim[1], (double)(dim[2] * dim[3]) };
    const double four[4] = { (double)dim[0], (double)dim[1], (double)dim[2], (double)dim[3] };
    const rq_id to3 = build_const(g, "to3", RQ_DTYPE_S64, 1, (int64_t[]) { 3 }, three);
    const double lines[3] = { (double)dim[0], (double)(dim[1] * dim[2]),
                              (double)dim[3] }; /* no image of the same channels */
    const rq_id to_lines = build_const(g, "to_lines", RQ_DTYPE_S64, 1, (int64_t[]) { 3 }, lines);
    const rq_id to4 = build_const(g, "to4", RQ_DTYPE_S64, 1, (int64_t[]) { 4 }, four);
    const rq_id half = build_scalar(g, "half", RQ_DTYPE_F32, 0.5);
    if (rq_rng_below(rng, 2))
        annotate(g, half, rq_rng_below(rng, 2) ? RQ_DTYPE_S8 : RQ_DTYPE_U8, 1 / 64.0f, 3);
    double number[64];
    for (int i = 0; i < 64; i++)
        number[i] = (double)rq_rng_f32(rng) * 4 - 2;
    const int64_t per_channel[3] = { dim[1], 1, 1 }; /* by numpy's rules, as the row along the last axis */
    const rq_id along[2] = { build_const(g, "per_channel", RQ_DTYPE_F32, 3, per_channel, number),
                             build_const(g, "row", RQ_DTYPE_F32, 1, &dim[3], number + 1) };
    const int steps = 3 + (int)rq_rng_below(rng, 14);
    for (int i = 0; i < steps; i++) {
        /* chains, mostly */
        const rq_id a = at[rq_rng_below(rng, 3) ? (uint64_t)n - 1 : rq_rng_below(rng, (uint64_t)n)],
                    b = at[rq_rng_below(rng, (uint64_t)n)];
        snprintf(name, sizeof name, "v%d", i);
        rq_id v;
        switch (rq_rng_below(rng, 8)) {
        case 0:
        case 1:
        case 2:
            v = build_node(g, rq_rng_below(rng, 2) ? "Softsign" : unary[rq_rng_below(rng, 6)], name, RQ_DTYPE_F32, 1,
                           &a);
            break;
        case 3:
        case 4:
            v = build_node(g, binary[rq_rng_below(rng, 6)], name, RQ_DTYPE_F32, 2, (rq_id[]) { a, b });
            break;
        case 5: {
            const rq_id other = rq_rng_below(rng, 2) ? half : along[rq_rng_below(rng, 4) == 0];
            const bool second = rq_rng_below(rng, 4);
            v = build_node(g, rq_rng_below(rng, 2) ? "Mul" : "Add", name, RQ_DTYPE_F32, 2,
                           second ? (rq_id[]) { a, other } : (rq_id[]) { other, a });
            break;
        }
        case 6: { /* away and back as views, with a function in between */
            char mid[16];
            snprintf(mid, sizeof mid, "m%d", i);
            const rq_id m = build_node(g, "Reshape", mid, RQ_DTYPE_F32, 2, (rq_id[]) { a, i % 3 ? to3 : to_lines });
            g->values[m].quant = g->values[a].quant;
            snprintf(mid, sizeof mid, "f%d", i);
            const rq_id f = build_node(g, "Relu", mid, RQ_DTYPE_F32, 1, &m);
            annotate_any(g, rng, f);
            v = build_node(g, "Reshape", name, RQ_DTYPE_F32, 2, (rq_id[]) { f, to4 });
            g->values[v].quant = g->values[f].quant;
            at[n++] = v;
            continue;
        }
        default: { /* a mean per channel, broadcast back */
            char mid[16];
            snprintf(mid, sizeof mid, "g%d", i);
            const rq_id m = build_node(g, "GlobalAveragePool", mid, RQ_DTYPE_F32, 1, &a);
            annotate_any(g, rng, m);
            v = build_node(g, "Mul", name, RQ_DTYPE_F32, 2, (rq_id[]) { b, m });
        }
        }
        annotate_any(g, rng, v);
        at[n++] = v;
    }
    build_output(g, at[n - 1]);
    const rq_id other = at[rq_rng_below(rng, (uint64_t)n)];
    if (other != at[n - 1] && other != at[0])
        build_output(g, other);
    return g;
}

static void random_graphs_give_the_same_bits(void **state)
{
    (void)state;
    static const int64_t dims[][4] = {
        { 1, 3, 5, 7 },  { 2, 16, 4, 4 },  { 1, 1, 6, 6 },  { 2, 8, 1, 1 },
        { 1, 20, 3, 9 }, { 1, 3, 19, 40 }, { 2, 5, 45, 9 }, { 3, 2, 20, 20 } /* so large that tables per channel pay */
    };
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    int on_last = 0, posts = 0, reals = 0, saved = 0;
    for (int round = 0; round < 400; round++) {
        rq_graph *g = random_graph(&rng, dims[round % 8]);
        const rq_shape s = rq_shape_of(4, dims[round % 8]);
        rq_tensor x = random_reals(&rng, &s);
        const rq_id tap = round % 3 ? RQ_NONE : (rq_id)rq_rng_below(&rng, (uint64_t)g->n_values);
        ran want, got;
        run_plan(g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, tap, &x, &want);
        assert_int_equal(want.on_last + want.relayouts + want.posts, 0);
        for (unsigned plain = 0; plain < 16; plain++) {
            run_plan(g, plain, tap, &x, &got);
            assert_same(&want, &got);
            assert_true(got.steps <= want.steps || !(plain & RQ_PLAIN_NO_LAST));
            on_last += got.on_last;
            posts += got.posts;
            reals += got.reals;
            saved += plain & RQ_PLAIN_NO_LAST ? want.steps - got.steps : 0;
            release(&got);
        }
        release(&want);
        rq_tensor_release(&x);
        rq_graph_destroy(g);
    }
    assert_true(on_last > 2000);
    assert_true(posts > 50);
    assert_true(reals > 100);
    assert_true(saved > 200);
}

/* ---- counts ---- */

/* x -> Sigmoid -> a, Mul(x, a) -> b, Relu -> y: rounded into channels-last codes, and out of them, without a step between. */
static void order_changes_on_the_way_from_and_to_reals(void **state)
{
    (void)state;
    const int64_t dim[4] = { 2, 5, 6, 7 };
    for (int s8 = 0; s8 < 2; s8++) {
        rq_graph *g = build_graph(17);
        rq_rng rng;
        rq_rng_seed(&rng, 3);
        const rq_dtype d = s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
        const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, dim);
        const rq_id a = build_node(g, "Sigmoid", "a", RQ_DTYPE_F32, 1, &x);
        const rq_id b = build_node(g, "Mul", "b", RQ_DTYPE_F32, 2, (rq_id[]) { x, a });
        const rq_id y = build_node(g, "Relu", "y", RQ_DTYPE_F32, 1, &b);
        annotate(g, x, d, 0.04f, s8 ? 3 : 130);
        annotate(g, a, d, 1 / 256.0f, s8 ? -128 : 0);
        annotate(g, b, d, 0.03f, s8 ? -100 : 20);
        annotate(g, y, d, 0.02f, s8 ? -128 : 0);
        build_output(g, y);
        const rq_shape s = rq_shape_of(4, dim);
        rq_tensor t = random_reals(&rng, &s);
        ran want, got;
        run_plan(g, RQ_PLAIN_NO_LAST, RQ_NONE, &t, &want);
        run_plan(g, RQ_PLAIN_ALL_LAST | RQ_PLAIN_STEPS, RQ_NONE, &t, &got);
        assert_same(&want, &got);
        assert_int_equal(got.on_last, 3);
        assert_int_equal(got.relayouts, 0);
        assert_int_equal(got.quantizes, 1);
        assert_int_equal(got.dequantizes, 1);
        release(&got);
        run_plan(g, RQ_PLAIN_ALL_LAST, RQ_NONE, &t, &got); /* and with one table of reals for all three */
        assert_same(&want, &got);
        assert_int_equal(got.reals, 1);
        assert_int_equal(got.steps, 2);
        release(&got);
        /* a tap on codes wants them as the file has them, once */
        run_plan(g, RQ_PLAIN_NO_LAST, a, &t, &got);
        release(&want);
        run_plan(g, RQ_PLAIN_ALL_LAST, a, &t, &want);
        assert_same(&want, &got);
        assert_int_equal(want.relayouts, 1);
        release(&got), release(&want);
        rq_tensor_release(&t);
        rq_graph_destroy(g);
    }
}

/* A residual block: product, HardSwish from its pieces (in reals, or annotated one by one), product, sum with what came in, Relu. Two products do all of
 * it, and nothing changes its order but what comes in and goes out. */
static void a_block_is_two_products(void **state)
{
    (void)state;
    const int64_t dim[4] = { 2, 5, 6, 7 };
    for (int kind = 0; kind < 8; kind++) {
        const bool s8 = kind & 1, pieces = kind & 2, swapped = kind & 4;
        rq_graph *g = build_graph(17);
        rq_rng rng;
        rq_rng_seed(&rng, 3);
        const rq_dtype d = s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
        const int32_t z = s8 ? -128 : 0;
        const rq_id three = build_scalar(g, "three", RQ_DTYPE_F32, 3), six = build_scalar(g, "six", RQ_DTYPE_F32, 6);
        const rq_id zero = build_scalar(g, "zero", RQ_DTYPE_F32, 0);
        const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, dim);
        const rq_id a = build_node(g, "Softsign", "a", RQ_DTYPE_F32, 1, &x);
        const rq_id plus = build_node(g, "Add", "plus", RQ_DTYPE_F32, 2, (rq_id[]) { a, three });
        const rq_id clip = build_node(g, "Clip", "clip", RQ_DTYPE_F32, 3, (rq_id[]) { plus, zero, six });
        const rq_id mul = build_node(g, "Mul", "mul", RQ_DTYPE_F32, 2, (rq_id[]) { a, clip });
        const rq_id act = build_node(g, "Div", "act", RQ_DTYPE_F32, 2, (rq_id[]) { mul, six });
        const rq_id c = build_node(g, "Softsign", "c", RQ_DTYPE_F32, 1, &act);
        const rq_id sum =
            build_node(g, "Add", "sum", RQ_DTYPE_F32, 2, swapped ? (rq_id[]) { x, c } : (rq_id[]) { c, x });
        const rq_id y = build_node(g, "Relu", "y", RQ_DTYPE_F32, 1, &sum);
        annotate(g, x, d, 0.04f, z + 130);
        annotate(g, a, d, 0.06f, z + 90);
        if (pieces) {
            annotate(g, plus, d, 0.07f, z + 50);
            annotate(g, clip, d, 6 / 255.0f, z);
            annotate(g, mul, d, 0.3f, z + 10);
        }
        annotate(g, act, d, 0.05f, z + 8);
        annotate(g, c, d, 0.03f, z + 100);
        annotate(g, sum, d, 0.05f, z + 128);
        annotate(g, y, d, 0.02f, z);
        build_output(g, y);
        const rq_shape s = rq_shape_of(4, dim);
        rq_tensor t = random_reals(&rng, &s);
        ran want, got;
        run_plan(g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS, RQ_NONE, &t, &want);
        run_plan(g, 0, RQ_NONE, &t, &got);
        assert_same(&want, &got);
        assert_int_equal(got.relayouts, 0);
        assert_int_equal(got.steps, 4); /* reals to codes, two products, codes to reals */
        assert_int_equal(got.posts, 3);
        release(&got);
        run_plan(g, 0, c, &t, &got); /* who taps c wants it before the sum */
        assert_int_equal(got.posts, 1);
        release(&got), release(&want);
        rq_tensor_release(&t);
        rq_graph_destroy(g);
    }
}

/* Products of any rank do a table and the sum with a residual to what they have just written, in the order of the file: one B for all of a batch, or one
 * each. */
static void products_in_the_order_of_the_file_have_posts(void **state)
{
    (void)state;
    for (int kind = 0; kind < 16; kind++) {
        const bool s8 = kind & 1, swapped = kind & 2, one = kind & 4, matrix = kind & 8;
        const int64_t dim[3] = { 3, 9, 9 }, *x_dim = matrix ? dim + 1 : dim;
        const int rank = matrix ? 2 : 3;
        rq_graph *g = build_graph(17);
        rq_rng rng;
        rq_rng_seed(&rng, 9);
        const rq_dtype d = s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
        const int32_t z = s8 ? -128 : 0;
        const rq_id x = build_input(g, "x", RQ_DTYPE_F32, rank, x_dim);
        rq_id b = x;
        if (one) {
            double w[81];
            for (int i = 0; i < 81; i++)
                w[i] = i * 3 - 120;
            b = build_const(g, "w", RQ_DTYPE_S8, 2, dim + 1, w);
            g->values[b].dtype = RQ_DTYPE_F32;
            annotate(g, b, RQ_DTYPE_S8, 0.01f, 0);
        }
        const rq_id p = build_node(g, "MatMul", "p", RQ_DTYPE_F32, 2, (rq_id[]) { x, b });
        const rq_id t = build_node(g, "Sigmoid", "t", RQ_DTYPE_F32, 1, &p);
        const rq_id y = build_node(g, "Add", "y", RQ_DTYPE_F32, 2, swapped ? (rq_id[]) { x, t } : (rq_id[]) { t, x });
        annotate(g, x, d, 0.03f, z + 120);
        annotate(g, p, d, 0.06f, z + 110);
        annotate(g, t, d, 1 / 256.0f, z);
        annotate(g, y, d, 0.04f, z + 100);
        build_output(g, y);
        const rq_shape s = rq_shape_of(rank, x_dim);
        rq_tensor in = random_reals(&rng, &s);
        ran want, got;
        run_plan(g, RQ_PLAIN_STEPS, RQ_NONE, &in, &want);
        run_plan(g, 0, RQ_NONE, &in, &got);
        assert_same(&want, &got);
        assert_int_equal(want.posts, 0);
        assert_int_equal(got.posts, 2);
        assert_int_equal(got.steps, want.steps - 2);
        release(&got), release(&want);
        rq_tensor_release(&in);
        rq_graph_destroy(g);
    }
}

/* A value of the first segment that the second one wants in the order of the file, behind an operator whose size depends on data. */
static void later_segments_convert_what_earlier_ones_made(void **state)
{
    (void)state;
    const int64_t dim[4] = { 1, 4, 3, 5 };
    rq_graph *g = build_graph(17);
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, dim);
    const rq_id a = build_node(g, "Relu", "a", RQ_DTYPE_F32, 1, &x);
    const rq_id r = build_node(g, "Exp", "r", RQ_DTYPE_F32, 1, &a); /* reals that are rounded in the second segment */
    const rq_id at = build_node(g, "NonZero", "at", RQ_DTYPE_S64, 1, &x);
    const rq_id n = build_node(g, "Shape", "n", RQ_DTYPE_S64, 1, &at);
    const rq_id sum = build_node(g, "Add", "sum", RQ_DTYPE_F32, 2, (rq_id[]) { a, r });
    const rq_id mean = build_node(g, "GlobalAveragePool", "mean", RQ_DTYPE_F32, 1, &sum);
    annotate(g, x, RQ_DTYPE_S8, 0.05f, 3);
    annotate(g, a, RQ_DTYPE_S8, 0.03f, -128);
    annotate(g, r, RQ_DTYPE_U8, 0.3f, 0);
    annotate(g, sum, RQ_DTYPE_S8, 0.4f, -100);
    annotate(g, mean, RQ_DTYPE_U8, 0.2f, 1);
    build_output(g, n), build_output(g, mean), build_output(g, a);
    const rq_shape s = rq_shape_of(4, dim);
    rq_tensor t = random_reals(&rng, &s);
    ran want, got;
    run_plan(g, RQ_PLAIN_NO_LAST, RQ_NONE, &t, &want);
    run_plan(g, RQ_PLAIN_ALL_LAST, RQ_NONE, &t, &got);
    assert_same(&want, &got);
    release(&want), release(&got);
    rq_tensor_release(&t);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs_give_the_same_bits),
        cmocka_unit_test(order_changes_on_the_way_from_and_to_reals),
        cmocka_unit_test(a_block_is_two_products),
        cmocka_unit_test(products_in_the_order_of_the_file_have_posts),
        cmocka_unit_test(later_segments_convert_what_earlier_ones_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
