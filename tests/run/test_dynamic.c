/* tests/run/test_dynamic.c — products of dynamic quantization with what makes reals of their sums, joined in the plan: the bits of the steps
 * that they are spelt as, on every instruction set, and one step where up to five stood. */
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

typedef enum scales { NONE, ONE, ONE_OF_RANK_1, PER_COLUMN, PER_ROW, N_SCALES } scales;

/* One chain, with a Mul by m and maybe one by then. Sums are inputs of nobody but the Cast unless `tapped` says that they are an output, too. */
typedef struct chain {
    rq_dtype w;
    int zeros; /* 0: none, 1: of A, 2: of both, 3: B's per column */
    scales m, then;
    int bias;   /* 0: none, 1: behind, 2: in front, 3: of another shape than a row */
    bool known; /* the scale is a constant */
    bool tapped, deep;
} chain;

static rq_id random_const(rq_graph *g, rq_rng *rng, const char *name, rq_dtype d, int rank, const int64_t *dim)
{
    double v[2048];
    const rq_shape s = rq_shape_of(rank, dim);
    for (int64_t i = 0; i < rq_shape_count(&s); i++)
        v[i] = d == RQ_DTYPE_F32  ? (double)((float)rq_rng_below(rng, 2000) * 0.37e-3f - 0.2f)
               : d == RQ_DTYPE_S8 ? (double)rq_rng_below(rng, 256) - 128
                                  : (double)rq_rng_below(rng, 256);
    return build_const(g, name, d, rank, dim, v);
}

static rq_id scales_of(rq_graph *g, rq_rng *rng, const char *name, scales m, int skip)
{
    const int64_t columns = COLUMNS, one = 1, rows[3] = { IMAGES, ROWS, 1 };
    const int64_t *dim = m == PER_ROW ? rows + skip : m == PER_COLUMN ? &columns : &one;
    return random_const(g, rng, name, RQ_DTYPE_F32, m == PER_ROW ? 3 - skip : m != ONE, dim);
}

/* codes, scale and zero point of x */
static void measure(rq_graph *g, rq_id x, rq_id q[3])
{
    rq_id node;
    const rq_dtype types[3] = { RQ_DTYPE_U8, RQ_DTYPE_F32, RQ_DTYPE_U8 };
    const char *const names[3] = { "codes", "scale", "zero" };
    for (int i = 0; i < 3; i++)
        assert_int_equal(rq_graph_add_value(g, &q[i], RQ_VALUE_NODE, names[i], types[i], NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &node, "DynamicQuantizeLinear", "", "dynamic", &x, 1, q, 3, NULL), RQ_OK);
}

/* x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul -> Mul -> Add -> y */
static rq_graph *build_chain(rq_rng *rng, const chain *c)
{
    rq_graph *g = build_graph(17);
    const int64_t x_dim[3] = { IMAGES, ROWS, DEPTH }, w_dim[2] = { DEPTH, COLUMNS }, columns = COLUMNS;
    const int skip = !c->deep;
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 3 - skip, x_dim + skip);
    rq_id q[3];
    measure(g, x, q);
    rq_id in[4] = { q[0], random_const(g, rng, "w", c->w, 2, w_dim), q[2], RQ_NONE };
    if (c->zeros >= 2)
        in[3] = random_const(g, rng, "w_zero", c->w, c->zeros == 3, &columns);
    const rq_id sums = build_node(g, "MatMulInteger", "sums", RQ_DTYPE_S32, c->zeros >= 2 ? 4 : 2 + c->zeros, in);
    const rq_id reals = build_node(g, "Cast", "reals", RQ_DTYPE_F32, 1, &sums);
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, "to", 1), RQ_OK);
    rq_id m = scales_of(g, rng, "m", c->m, skip);
    if (!c->known)
        m = build_node(g, "Mul", "scales", RQ_DTYPE_F32, 2, (rq_id[]) { q[1], m });
    rq_id y = build_node(g, "Mul", "scaled", RQ_DTYPE_F32, 2, (rq_id[]) { reals, m });
    if (c->then)
        y = build_node(g, "Mul", "again", RQ_DTYPE_F32, 2, (rq_id[]) { scales_of(g, rng, "m2", c->then, skip), y });
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
static int run_chain(rq_graph *g, unsigned flags, bool spec, unsigned plain, const rq_tensor *x, rq_tensor out[2],
                     int *joined)
{
    const rq_session_cfg cfg = { 0 };
    rq_kernels k;
    rq_program *p;
    rq_err err = { 0 };
    int steps = 0;
    rq_kernels_init(&k, flags);
    k.spec = spec;
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
        *joined += !strcmp(p->segs[0]->steps[p->segs[0]->run[i]].row->domain, "requant");
    rq_program_destroy(p);
    return steps;
}

/* The graph joined, against its own steps: `fewer` of those. */
static void check(rq_rng *rng, rq_graph *g, int rank, const int64_t *dim, bool spec, int fewer)
{
    const rq_shape s = rq_shape_of(rank, dim);
    rq_tensor x, want[2] = { 0 }, got[2] = { 0 };
    unsigned flags;
    int joined;
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&x); i++)
        x.f32[i] = (float)rq_rng_below(rng, 1000) * 0.01f - 4;
    assert_true(rq_cpu_level(0, &flags));
    const int steps = run_chain(g, flags, spec, RQ_PLAIN_STEPS, &x, want, &joined);
    assert_int_equal(joined, 0);
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        assert_int_equal(run_chain(g, flags, spec, 0, &x, got, &joined), steps - fewer);
        assert_int_equal(joined, fewer > 0);
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

/* Is the second Mul part of it? The first must be that of rows, or of one number. */
static bool takes_second(const chain *c)
{
    return c->then && c->m != PER_COLUMN && c->then != PER_ROW;
}

static void check_chain(rq_rng *rng, const chain *c)
{
    static const int64_t dim[3] = { IMAGES, ROWS, DEPTH };
    int fewer = 2 + takes_second(c);
    if (!c->then || takes_second(c))
        fewer += c->bias == 1 || c->bias == 2;
    check(rng, build_chain(rng, c), 2 + c->deep, dim + !c->deep, false, c->tapped ? 0 : fewer);
}

static void chains_have_the_bits_of_their_steps(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (int w = 0; w < 2; w++)
        for (int zeros = 0; zeros < 4; zeros++)
            for (int m = ONE; m < N_SCALES; m++)
                for (int bias = 0; bias < 4; bias++)
                    for (int more = 0; more < 8; more++)
                        check_chain(&rng, &(chain) { .w = w ? RQ_DTYPE_S8 : RQ_DTYPE_U8,
                                                     .zeros = zeros,
                                                     .m = (scales)m,
                                                     .bias = bias,
                                                     .known = more & 1,
                                                     .tapped = (more & 2) != 0,
                                                     .deep = (more & 4) != 0 });
}

/* Two Muls, as for a scale per row and one per column. */
static void second_muls_are_rounded_by_themselves(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 6);
    for (int m = ONE; m < N_SCALES; m++)
        for (int then = ONE; then < N_SCALES; then++)
            for (int bias = 0; bias < 4; bias++)
                for (int more = 0; more < 4; more++)
                    check_chain(&rng, &(chain) { .w = RQ_DTYPE_S8,
                                                 .zeros = more & 1 ? 3 : 1,
                                                 .m = (scales)m,
                                                 .then = (scales)then,
                                                 .bias = bias,
                                                 .known = true,
                                                 .deep = (more & 2) != 0 });
}

/* ---- ConvInteger ---- */

typedef struct conv {
    int axes, group, kernel, per_group, outputs; /* spatial axes; per_group: input channels */
    int zeros;                                   /* 0: of x, 1: of both, 2: w's per channel */
    int m,
        bias; /* 0: none, 1: one number, 2: per channel, 3: per channel without the axis of images, 4: along the last axis */
    bool spec;
} conv;

static rq_id channel_const(rq_graph *g, rq_rng *rng, const char *name, const conv *c, int how, int64_t last)
{
    int64_t dim[RQ_MAX_RANK];
    for (int i = 0; i < c->axes + 2; i++)
        dim[i] = 1;
    dim[how == 4 ? c->axes + 1 : 1] = how == 4 ? last : how >= 2 ? c->outputs : 1;
    return random_const(g, rng, name, RQ_DTYPE_F32, how == 1 ? 0 : c->axes + 2 - (how == 3), dim + (how == 3));
}

static void check_conv(rq_rng *rng, const conv *c)
{
    enum { SIZE = 6 };
    int64_t x_dim[RQ_MAX_RANK] = { 2, (int64_t)c->group * c->per_group },
            w_dim[RQ_MAX_RANK] = { c->outputs, c->per_group };
    for (int i = 2; i < c->axes + 2; i++)
        x_dim[i] = SIZE + i, w_dim[i] = c->kernel;
    const int64_t outputs = c->outputs;
    rq_graph *g = build_graph(17);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, c->axes + 2, x_dim);
    rq_id q[3];
    measure(g, x, q);
    rq_id in[4] = { q[0], random_const(g, rng, "w", RQ_DTYPE_U8, c->axes + 2, w_dim), q[2], RQ_NONE };
    if (c->zeros)
        in[3] = random_const(g, rng, "w_zero", RQ_DTYPE_U8, c->zeros == 2, &outputs);
    const rq_id sums = build_node(g, "ConvInteger", "sums", RQ_DTYPE_S32, 3 + (c->zeros > 0), in);
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, "group", c->group), RQ_OK);
    const rq_id reals = build_node(g, "Cast", "reals", RQ_DTYPE_F32, 1, &sums);
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, "to", 1), RQ_OK);
    const int64_t last = x_dim[c->axes + 1] - c->kernel + 1;
    const rq_id m =
        build_node(g, "Mul", "scales", RQ_DTYPE_F32, 2, (rq_id[]) { q[1], channel_const(g, rng, "m", c, c->m, last) });
    rq_id y = build_node(g, "Mul", "scaled", RQ_DTYPE_F32, 2, (rq_id[]) { reals, m });
    if (c->bias)
        y = build_node(g, "Add", "y", RQ_DTYPE_F32, 2, (rq_id[]) { y, channel_const(g, rng, "b", c, c->bias, last) });
    build_output(g, y);
    const bool joins = c->m != 4, adds = c->bias == 2 || c->bias == 3;
    check(rng, g, c->axes + 2, x_dim, c->spec, joins ? 2 + adds : 0);
}

static void convolutions_have_the_bits_of_their_steps(void **state)
{
    (void)state;
    static const conv kinds[] = {
        { .axes = 2, .group = 1, .kernel = 1, .per_group = 5, .outputs = 19 },
        { .axes = 2, .group = 1, .kernel = 3, .per_group = 3, .outputs = 33 },
        { .axes = 1, .group = 1, .kernel = 2, .per_group = 70, .outputs = 7 },
        { .axes = 3, .group = 1, .kernel = 2, .per_group = 4, .outputs = 6 },
        { .axes = 2, .group = 6, .kernel = 3, .per_group = 1, .outputs = 6 }, /* depthwise */
        { .axes = 1, .group = 5, .kernel = 3, .per_group = 1, .outputs = 10 },
        { .axes = 2, .group = 3, .kernel = 2, .per_group = 40, .outputs = 9 }, /* products of their own, or joined */
        { .axes = 2, .group = 2, .kernel = 3, .per_group = 2, .outputs = 8 },
    };
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int zeros = 0; zeros < 3; zeros++)
            for (int m = 1; m < 5; m++)
                for (int bias = 0; bias < 5; bias++) {
                    conv c = kinds[i];
                    c.zeros = zeros;
                    c.m = m;
                    c.bias = bias;
                    c.spec = (m + bias + zeros) % 3 == 0;
                    check_conv(&rng, &c);
                }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_have_the_bits_of_their_steps),
        cmocka_unit_test(second_muls_are_rounded_by_themselves),
        cmocka_unit_test(convolutions_have_the_bits_of_their_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
