/* tests/run/test_products.c — MatMul and Gemm in reals by a constant: the bits of the same product by a matrix that comes from outside, on every
 * instruction set, with one thread and with two; packed once for all programs of a graph; and what follows is done by the product, with the bits of steps. */
#include "run/plan_help.h"

typedef struct product {
    const char *op, *domain;
    int rank; /* of x */
    int64_t x[3], columns;
    bool trans;
    float alpha, beta;
    int c; /* of Gemm: rank of C, -1: none; 3: of rank 2, with one row */
} product;

static const product products[] = {
    { "MatMul", "", 3, { 2, 33, 50 }, 96, false, 1, 1, -1 },
    { "MatMul", "", 1, { 70 }, 40, false, 1, 1, -1 },
    { "MatMul", "", 2, { 1, 64 }, 200, false, 1, 1, -1 },
    { "FusedMatMul", "com.microsoft", 3, { 3, 5, 20 }, 65, true, 0.5f, 1, -1 },
    { "Gemm", "", 2, { 7, 30 }, 100, true, 1, 1, 1 },
    { "Gemm", "", 2, { 70, 30 }, 49, false, 0.5f, 1, 2 },
    { "Gemm", "", 2, { 1, 600 }, 64, true, 1, 1, 3 },
    { "Gemm", "", 2, { 9, 16 }, 32, false, 2, 0.5f, 1 },
    { "Gemm", "", 2, { 9, 16 }, 32, false, 1, 0, 1 },
    { "Gemm", "", 2, { 66, 16 }, 16, true, 3, 1, -1 },
    { "Gemm", "", 2, { 5, 16 }, 33, true, 1, 1, 0 },
    { "FusedGemm", "com.microsoft", 2, { 5, 16 }, 33, true, 1, 1, 1 },
    { "MatMul", "", 3, { 2, 0, 8 }, 32, false, 1, 1, -1 },
};

static rq_tensor random_tensor(rq_rng *rng, int rank, const int64_t *dim)
{
    rq_tensor t;
    const rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        t.f32[i] = (float)rq_rng_below(rng, 2001) * 1e-3f - 1;
    return t;
}

static rq_id multiply(rq_graph *g, const product *p, const char *name, rq_id x, rq_id w, rq_id c)
{
    rq_id id, node;
    const rq_id in[3] = { x, w, c };
    assert_int_equal(rq_graph_add_value(g, &id, RQ_VALUE_NODE, name, RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &node, p->op, p->domain, name, in, c < 0 ? 2 : 3, &id, 1, NULL), RQ_OK);
    if (strcmp(p->op, "MatMul"))
        assert_int_equal(rq_attr_set_float(g, node, "alpha", p->alpha), RQ_OK);
    if (strstr(p->op, "Gemm"))
        assert_int_equal(rq_attr_set_float(g, node, "beta", p->beta), RQ_OK);
    if (p->trans)
        assert_int_equal(rq_attr_set_int(g, node, "transB", 1), RQ_OK);
    return id;
}

/* x times w twice, w being a constant and an input; both are outputs. w is what the input is to be fed with. */
static rq_graph *build_both(rq_rng *rng, const product *p, rq_tensor *x, rq_tensor *w)
{
    rq_graph *g = build_graph(17);
    const int64_t depth = p->x[p->rank - 1], c_dim[2] = { p->c == 3 ? 1 : p->x[0], p->columns };
    const int64_t w_dim[2] = { p->trans ? p->columns : depth, p->trans ? depth : p->columns };
    rq_id fixed, c = RQ_NONE;
    assert_int_equal(rq_graph_set_opset(g, "com.microsoft", 1), RQ_OK);
    *x = random_tensor(rng, p->rank, p->x);
    *w = random_tensor(rng, 2, w_dim);
    if (p->c >= 0) {
        const int rank = p->c == 3 ? 2 : p->c;
        rq_tensor t = random_tensor(rng, rank, c_dim + 2 - rank);
        assert_int_equal(rq_graph_add_const(g, &c, "c", &t, NULL), RQ_OK);
        rq_tensor_release(&t);
    }
    const rq_id in = build_input(g, "x", RQ_DTYPE_F32, p->rank, p->x);
    const rq_id given = build_input(g, "v", RQ_DTYPE_F32, 2, w_dim);
    assert_int_equal(rq_graph_add_const(g, &fixed, "w", w, NULL), RQ_OK);
    build_output(g, multiply(g, p, "by_constant", in, fixed, c));
    build_output(g, multiply(g, p, "by_input", in, given, c));
    rq_ops_bind(g);
    return g;
}

static rq_program *program_of(const rq_graph *g, rq_kernels *k, unsigned flags, rq_threads *t)
{
    static const rq_session_cfg cfg = { 0 };
    rq_program *p;
    rq_err err = { 0 };
    rq_kernels_init(k, flags);
    if (rq_program_create(&p, g, &cfg, k, t, NULL, &err))
        fail_msg("%s", err.text);
    return p;
}

static void products_by_constants_have_the_bits_of_any_other(void **state)
{
    rq_rng rng;
    rq_threads *two;
    (void)state;
    rq_rng_seed(&rng, 3);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        rq_tensor in[2];
        rq_graph *g = build_both(&rng, &products[i], &in[0], &in[1]);
        unsigned flags;
        for (int level = 0; rq_cpu_level(level, &flags); level++)
            for (int threads = 0; threads < 2; threads++) {
                rq_tensor out[2] = { 0 };
                rq_kernels k;
                rq_err err = { 0 };
                if (flags & ~rq_cpu_detect())
                    continue;
                rq_program *p = program_of(g, &k, flags, threads ? two : NULL);
                if (rq_program_run(p, in, out, &err))
                    fail_msg("%s", err.text);
                assert_int_equal(out[0].bytes, out[1].bytes);
                if (out[0].bytes)
                    assert_memory_equal(out[0].data, out[1].data, out[0].bytes);
                rq_tensor_release(&out[0]), rq_tensor_release(&out[1]);
                rq_program_destroy(p);
            }
        rq_tensor_release(&in[0]), rq_tensor_release(&in[1]);
        rq_graph_destroy(g);
    }
    rq_threads_destroy(two);
}

static void constants_are_packed_once(void **state)
{
    static const product wide[] = { { "MatMul", "", 2, { 4, 300 }, 256, false, 1, 1, -1 },
                                    { "Gemm", "", 2, { 1, 300 }, 256, true, 1, 1, 1 } };
    rq_rng rng;
    (void)state;
    rq_rng_seed(&rng, 5);
    for (int i = 0; i < 2; i++) {
        rq_tensor in[2];
        rq_graph *g = build_both(&rng, &wide[i], &in[0], &in[1]);
        const size_t weight = in[1].bytes, before = rq_mem_live();
        rq_kernels k[2];
        rq_program *p[2];
        rq_err err = { 0 };
        for (int n = 0; n < 2; n++) {
            const size_t bare = rq_mem_live();
            p[n] = program_of(g, &k[n], rq_cpu_detect(), NULL);
            assert_int_equal(rq_program_plan(p[n], in, &err), RQ_OK);
            const size_t more = rq_mem_live() - bare;
            assert_true(n ? more < weight / 2 : more >= weight); /* the second finds what the first made */
        }
        rq_program_destroy(p[0]), rq_program_destroy(p[1]);
        assert_true(rq_mem_live() - before < 512); /* the shelf alone */
        rq_tensor_release(&in[0]), rq_tensor_release(&in[1]);
        rq_graph_destroy(g);
    }
}

/* ---- what follows ---- */

typedef struct chain {
    int bias;     /* 0: none, 1: a row behind, 2: in front, 3: a column, 4: a row of rank 3 */
    int residual; /* 0: none, 1: of y's shape behind, 2: in front, 3: the product's own output */
    const char *activation;
    bool tapped; /* the product is an output, too */
    int64_t columns;
} chain;

static rq_id random_const(rq_graph *g, rq_rng *rng, const char *name, int rank, const int64_t *dim)
{
    rq_id id;
    rq_tensor t = random_tensor(rng, rank, dim);
    assert_int_equal(rq_graph_add_const(g, &id, name, &t, NULL), RQ_OK);
    rq_tensor_release(&t);
    return id;
}

static rq_graph *build_chain(rq_rng *rng, const chain *c)
{
    rq_graph *g = build_graph(17);
    const int64_t w_dim[2] = { 21, c->columns }, y_dim[3] = { 2, 7, c->columns }, column[2] = { 7, 1 },
                  row[3] = { 1, 1, c->columns };
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 3, (int64_t[]) { 2, 7, 21 });
    const rq_id z = build_input(g, "z", RQ_DTYPE_F32, 3, y_dim);
    const rq_id by_w =
        build_node(g, "MatMul", "product", RQ_DTYPE_F32, BUILD_IN(x, random_const(g, rng, "w", 2, w_dim)));
    rq_id y = by_w;
    if (c->bias) {
        const rq_id b = c->bias == 3   ? random_const(g, rng, "b", 2, column)
                        : c->bias == 4 ? random_const(g, rng, "b", 3, row)
                                       : random_const(g, rng, "b", 1, &c->columns);
        y = c->bias == 2 ? build_node(g, "Add", "biased", RQ_DTYPE_F32, BUILD_IN(b, y))
                         : build_node(g, "Add", "biased", RQ_DTYPE_F32, BUILD_IN(y, b));
    }
    if (c->residual) {
        const rq_id other = c->residual == 3 ? y : z;
        y = c->residual == 2 ? build_node(g, "Add", "sum", RQ_DTYPE_F32, BUILD_IN(other, y))
                             : build_node(g, "Add", "sum", RQ_DTYPE_F32, BUILD_IN(y, other));
    }
    if (c->activation)
        y = build_node(g, c->activation, "y", RQ_DTYPE_F32, 1, &y);
    build_output(g, y);
    if (c->tapped)
        build_output(g, by_w);
    rq_ops_bind(g);
    return g;
}

/* Returns how many steps there are. */
static int run_chain(const rq_graph *g, unsigned flags, rq_threads *t, unsigned plain, const rq_tensor in[2],
                     rq_tensor out[2])
{
    rq_kernels k;
    rq_err err = { 0 };
    rq_program *p = program_of(g, &k, flags, t);
    p->plain = plain;
    if (rq_program_run(p, in, out, &err))
        fail_msg("%s", err.text);
    const int steps = p->segs[0]->n_run;
    rq_program_destroy(p);
    return steps;
}

static void check_chain(rq_rng *rng, const chain *c, rq_threads *two)
{
    rq_graph *g = build_chain(rng, c);
    rq_tensor in[2] = { random_tensor(rng, 3, (int64_t[]) { 2, 7, 21 }),
                        random_tensor(rng, 3, (int64_t[]) { 2, 7, c->columns }) };
    rq_tensor want[2] = { 0 }, got[2] = { 0 };
    unsigned flags;
    const bool biased = c->bias && c->bias != 3, adds = (c->residual == 1 || c->residual == 2) && c->bias != 3,
               acts = c->activation && c->bias != 3 && c->residual != 3;
    const int joined = c->tapped && (c->bias || c->residual || c->activation) ? 0 : biased + adds + acts;
    const int steps = run_chain(g, rq_cpu_detect(), NULL, RQ_PLAIN_STEPS, in, want);
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if (flags & ~rq_cpu_detect())
            continue;
        const int now = run_chain(g, flags, two, 0, in, got);
        if (now != steps - joined)
            fail_msg("%d steps, %d expected: bias %d, residual %d, %s", now, steps - joined, c->bias, c->residual,
                     c->activation ? c->activation : "nothing");
        for (int i = 0; i < g->n_outputs; i++) {
            assert_memory_equal(got[i].data, want[i].data, want[i].bytes);
            rq_tensor_release(&got[i]);
        }
    }
    for (int i = 0; i < 2; i++) {
        rq_tensor_release(&want[i]);
        rq_tensor_release(&in[i]);
    }
    rq_graph_destroy(g);
}

static void what_follows_is_done_by_the_product(void **state)
{
    static const char *const activations[] = { NULL, "Relu", "Sigmoid", "LeakyRelu" };
    rq_rng rng;
    rq_threads *two;
    (void)state;
    rq_rng_seed(&rng, 6);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int bias = 0; bias < 5; bias++)
        for (int residual = 0; residual < 4; residual++)
            for (int activation = 0; activation < 4; activation++)
                for (int more = 0; more < 3; more++)
                    check_chain(&rng,
                                &(chain) { .bias = bias,
                                           .residual = residual,
                                           .activation = activations[activation],
                                           .tapped = more == 1,
                                           .columns = more == 2 ? 5 : 67 },
                                two);
    rq_threads_destroy(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(products_by_constants_have_the_bits_of_any_other),
                                        cmocka_unit_test(constants_are_packed_once),
                                        cmocka_unit_test(what_follows_is_done_by_the_product) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
