/* tests/run/test_dynamic.c — products of dynamic quantization with what makes reals of their sums, joined in the plan: the bits of the steps
 * that they are spelt as, on every instruction set, and one step where four stood. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/build.h"
#include "run/program.h"

enum { ROWS = 5, DEPTH = 37, COLUMNS = 19, IMAGES = 3 };

typedef enum scales { ONE, ONE_OF_RANK_1, PER_COLUMN, PER_ROW, N_SCALES } scales;

/* One chain. Sums are inputs of nobody but the Cast unless `tapped` says that they are an output, too. */
typedef struct chain {
    rq_dtype w;
    int zeros; /* 0: none, 1: of A, 2: of both, 3: B's per column */
    scales m;
    int bias;   /* 0: none, 1: behind, 2: in front, 3: of another shape than a row */
    bool known; /* the scale is a constant */
    bool tapped, deep;
} chain;

static rq_id random_const(rq_graph *g, rq_rng *rng, const char *name, rq_dtype d, int rank, const int64_t *dim)
{
    double v[IMAGES * ROWS * DEPTH + DEPTH * COLUMNS];
    const rq_shape s = rq_shape_of(rank, dim);
    for (int64_t i = 0; i < rq_shape_count(&s); i++)
        v[i] = d == RQ_DTYPE_F32  ? (double)((float)rq_rng_below(rng, 2000) * 0.37e-3f - 0.2f)
               : d == RQ_DTYPE_S8 ? (double)rq_rng_below(rng, 256) - 128
                                  : (double)rq_rng_below(rng, 256);
    return build_const(g, name, d, rank, dim, v);
}

/* x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul -> Add -> y */
static rq_graph *build_chain(rq_rng *rng, const chain *c)
{
    rq_graph *g = build_graph(17);
    const int64_t x_dim[3] = { IMAGES, ROWS, DEPTH }, w_dim[2] = { DEPTH, COLUMNS }, columns = COLUMNS, one = 1,
                  rows[3] = { IMAGES, ROWS, 1 };
    const int skip = !c->deep;
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 3 - skip, x_dim + skip);
    rq_id q[3], node;
    const rq_dtype types[3] = { RQ_DTYPE_U8, RQ_DTYPE_F32, RQ_DTYPE_U8 };
    const char *const names[3] = { "codes", "scale", "zero" };
    for (int i = 0; i < 3; i++)
        assert_int_equal(rq_graph_add_value(g, &q[i], RQ_VALUE_NODE, names[i], types[i], NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &node, "DynamicQuantizeLinear", "", "dynamic", &x, 1, q, 3, NULL), RQ_OK);
    rq_id in[4] = { q[0], random_const(g, rng, "w", c->w, 2, w_dim), q[2], RQ_NONE };
    if (c->zeros >= 2)
        in[3] = random_const(g, rng, "w_zero", c->w, c->zeros == 3, &columns);
    const rq_id sums = build_node(g, "MatMulInteger", "sums", RQ_DTYPE_S32, c->zeros >= 2 ? 4 : 2 + c->zeros, in);
    const rq_id reals = build_node(g, "Cast", "reals", RQ_DTYPE_F32, 1, &sums);
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, "to", 1), RQ_OK);
    const int64_t *m_dim = c->m == PER_ROW ? rows + skip : c->m == PER_COLUMN ? &columns : &one;
    rq_id m = random_const(g, rng, "m", RQ_DTYPE_F32, c->m == PER_ROW ? 3 - skip : c->m != ONE, m_dim);
    if (!c->known)
        m = build_node(g, "Mul", "scales", RQ_DTYPE_F32, 2, (rq_id[]) { q[1], m });
    rq_id y = build_node(g, "Mul", "scaled", RQ_DTYPE_F32, 2, (rq_id[]) { reals, m });
    if (c->bias) {
        const rq_id bias = c->bias == 3 ? random_const(g, rng, "b", RQ_DTYPE_F32, 2, (int64_t[]) { ROWS, 1 })
                                        : random_const(g, rng, "b", RQ_DTYPE_F32, 1, &columns);
        y = build_node(g, "Add", "y", RQ_DTYPE_F32, 2, c->bias == 2 ? (rq_id[]) { bias, y } : (rq_id[]) { y, bias });
    }
    build_output(g, y);
    if (c->tapped)
        build_output(g, sums);
    return g;
}

/* Twice, the second time with the plan of the first. Returns how many steps it has; *joined: of them, products that write reals. */
static int run_chain(rq_graph *g, unsigned flags, unsigned plain, const rq_tensor *x, rq_tensor out[2], int *joined)
{
    const rq_session_cfg cfg = { 0 };
    rq_kernels k;
    rq_program *p;
    rq_err err = { 0 };
    int steps = 0;
    rq_kernels_init(&k, flags);
    rq_ops_bind(g);
    if (rq_program_create(&p, g, &cfg, &k, NULL, NULL, &err))
        fail_msg("%s", err.text);
    p->plain = plain;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; round && i < g->n_outputs; i++)
            rq_tensor_release(&out[i]);
        if (rq_program_run(p, x, out, &err))
            fail_msg("%s", err.text);
    }
    *joined = 0;
    for (int i = 0; i < p->segs[0]->n_run; i++, steps++)
        *joined += !strcmp(p->segs[0]->steps[p->segs[0]->run[i]].row->name, "MatMulIntegerToFloat");
    rq_program_destroy(p);
    return steps;
}

static void check(rq_rng *rng, const chain *c)
{
    static const int64_t dim[3] = { IMAGES, ROWS, DEPTH };
    rq_graph *g = build_chain(rng, c);
    const rq_shape s = rq_shape_of(2 + c->deep, dim + !c->deep);
    rq_tensor x, want[2] = { 0 }, got[2] = { 0 };
    unsigned flags;
    int joined;
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&x); i++)
        x.f32[i] = (float)rq_rng_below(rng, 1000) * 0.01f - 4;
    assert_true(rq_cpu_level(0, &flags));
    const int steps = run_chain(g, flags, RQ_PLAIN_STEPS, &x, want, &joined);
    assert_int_equal(joined, 0);
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        const int now = run_chain(g, flags, 0, &x, got, &joined);
        assert_int_equal(joined, !c->tapped);
        if (!c->tapped)
            assert_int_equal(now, steps - 2 - (c->bias == 1 || c->bias == 2));
        for (int i = 0; i < g->n_outputs; i++) {
            assert_int_equal(got[i].bytes, want[i].bytes);
            assert_memory_equal(got[i].data, want[i].data, want[i].bytes);
            rq_tensor_release(&got[i]);
        }
    }
    for (int i = 0; i < g->n_outputs; i++)
        rq_tensor_release(&want[i]);
    rq_tensor_release(&x);
    rq_graph_destroy(g);
}

static void chains_have_the_bits_of_their_steps(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (int w = 0; w < 2; w++)
        for (int zeros = 0; zeros < 4; zeros++)
            for (int m = 0; m < N_SCALES; m++)
                for (int bias = 0; bias < 4; bias++)
                    for (int more = 0; more < 8; more++)
                        check(&rng, &(chain) { .w = w ? RQ_DTYPE_S8 : RQ_DTYPE_U8,
                                               .zeros = zeros,
                                               .m = (scales)m,
                                               .bias = bias,
                                               .known = more & 1,
                                               .tapped = (more & 2) != 0,
                                               .deep = (more & 4) != 0 });
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(chains_have_the_bits_of_their_steps) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
