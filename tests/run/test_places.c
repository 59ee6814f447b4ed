/* tests/run/test_places.c — bytes that serve twice: random graphs that put together, cut, turn and work element by element give the same bits
 * whether outputs take the place of inputs, parts are made in the whole and turned tensors are views, or each has a place of its own; counts of what is left to
 * copy; blocks are smaller. */
#include <math.h>

#include "run/plan_help.h"

/* ---- random graphs ---- */

typedef struct maker {
    rq_graph *g;
    rq_rng rng;
    rq_id v[64]; /* of one shape */
    int n, names;
    int64_t dim[4];
    rq_dtype d; /* of most codes */
    bool same;  /* most have the same parameters */
} maker;

static uint64_t below(maker *m, uint64_t n)
{
    return rq_rng_below(&m->rng, n);
}

static void annotate_any(maker *m, rq_id v)
{
    const rq_dtype d = below(m, 8) ? m->d : RQ_DTYPE_S8;
    if (below(m, 8) == 0)
        return; /* stays in reals */
    if (m->same && below(m, 4))
        annotate(m->g, v, m->d, 0.03f, m->d == RQ_DTYPE_S8 ? -7 : 121);
    else
        annotate(m->g, v, d, 0.02f + 0.05f * rq_rng_f32(&m->rng),
                 (int32_t)below(m, 200) - (d == RQ_DTYPE_S8 ? 100 : 0));
}

static rq_id any(maker *m)
{
    return m->v[below(m, 3) ? (uint64_t)m->n - 1 : below(m, (uint64_t)m->n)];
}

static const char *name_of(maker *m, char name[16])
{
    snprintf(name, 16, "v%d", m->names++);
    return name;
}

static rq_id node(maker *m, const char *op, int n_in, const rq_id *in, bool as_first)
{
    char name[16];
    const rq_id y = build_node(m->g, op, name_of(m, name), RQ_DTYPE_F32, n_in, in);
    if (as_first)
        m->g->values[y].quant = m->g->values[in[0]].quant;
    else
        annotate_any(m, y);
    return y;
}

static rq_id list(maker *m, int n, const double *v)
{
    char name[16];
    return build_const(m->g, name_of(m, name), RQ_DTYPE_S64, 1, (int64_t[]) { n }, v);
}

static void put(maker *m, rq_id v)
{
    m->v[m->n++] = v;
}

/* Two values side by side, something done to both, and taken apart. */
static void join_and_split(maker *m)
{
    const int axis = (int)below(m, 4);
    const rq_id in[2] = { any(m), any(m) };
    const rq_id both = node(m, "Concat", 2, in, below(m, 2));
    assert_int_equal(rq_attr_set_int(m->g, m->g->n_nodes - 1, "axis", axis), RQ_OK);
    const rq_id mid = below(m, 2) ? node(m, below(m, 2) ? "Softsign" : "Relu", 1, &both, false) : both;
    rq_id out[2], id;
    char name[16];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rq_graph_add_value(m->g, &out[i], RQ_VALUE_NODE, name_of(m, name), RQ_DTYPE_F32, NULL, NULL),
                         RQ_OK);
        if (below(m, 3))
            m->g->values[out[i]].quant = m->g->values[mid].quant;
        else
            annotate_any(m, out[i]);
    }
    assert_int_equal(rq_graph_add_node(m->g, &id, "Split", "", name_of(m, name), &mid, 1, out, 2, NULL), RQ_OK);
    assert_int_equal(rq_attr_set_int(m->g, id, "axis", axis), RQ_OK);
    put(m, out[0]), put(m, out[1]);
}

/* The end of a value, then its beginning. */
static void cut_and_join(maker *m)
{
    const int axis = (int)below(m, 4);
    const rq_id x = any(m);
    const double n = (double)m->dim[axis], at = (double)below(m, (uint64_t)m->dim[axis] + 1);
    const rq_id axes = list(m, 1, (double[]) { axis - (below(m, 2) ? 4 : 0) });
    const bool back = at > 0 && below(m, 2);
    const rq_id lo = list(m, 1, (double[]) { 0 }), mid = list(m, 1, (double[]) { back && at < n ? at - n : at }),
                hi = list(m, 1, (double[]) { n + 5 });
    rq_id part[2] = { node(m, "Slice", 4, (rq_id[]) { x, mid, hi, axes }, below(m, 4)),
                      node(m, "Slice", 4, (rq_id[]) { x, lo, mid, axes }, below(m, 4)) };
    for (int i = 0; i < 2; i++)
        if (below(m, 3) == 0)
            part[i] = node(m, "Softsign", 1, &part[i], false);
    put(m, node(m, "Concat", 2, part, below(m, 2)));
    assert_int_equal(rq_attr_set_int(m->g, m->g->n_nodes - 1, "axis", axis), RQ_OK);
}

/* To another order and back, with something done in between. */
static void turn(maker *m)
{
    int64_t perm[4] = { 0, 2, 3, 1 }, back[4];
    if (below(m, 2))
        for (int i = 3; i > 0; i--) {
            const int k = (int)below(m, (uint64_t)i + 1);
            const int64_t t = perm[i];
            perm[i] = perm[k], perm[k] = t;
        }
    for (int i = 0; i < 4; i++)
        back[perm[i]] = i;
    rq_id x = any(m), y = node(m, "Transpose", 1, &x, below(m, 4));
    assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "perm", perm, 4), RQ_OK);
    if (below(m, 2))
        y = node(m, below(m, 2) ? "Softsign" : "Relu", 1, &y, below(m, 2));
    put(m, node(m, "Transpose", 1, &y, below(m, 4)));
    assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "perm", back, 4), RQ_OK);
}

static rq_graph *random_graph(maker *m)
{
    static const char *const unary[] = { "Relu", "Sigmoid", "Softsign", "Softsign", "Neg" };
    static const char *const binary[] = { "Add", "Mul", "Sub", "Max", "Div" };
    m->g = build_graph(13);
    m->n = m->names = 0;
    m->d = below(m, 2) ? RQ_DTYPE_U8 : RQ_DTYPE_S8;
    m->same = below(m, 2);
    put(m, build_input(m->g, "x", RQ_DTYPE_F32, 4, m->dim));
    annotate_any(m, m->v[0]);
    const int steps = 3 + (int)below(m, 10);
    for (int i = 0; i < steps; i++) {
        const rq_id in[2] = { any(m), any(m) };
        switch (below(m, 7)) {
        case 0:
            join_and_split(m);
            break;
        case 1:
            cut_and_join(m);
            break;
        case 2:
            turn(m);
            break;
        case 3:
            put(m, node(m, "MaxPool", 1, in, below(m, 2)));
            assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "kernel_shape", (int64_t[]) { 3, 3 }, 2), RQ_OK);
            assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "pads", (int64_t[]) { 1, 1, 1, 1 }, 4), RQ_OK);
            break;
        case 4:
            put(m, node(m, binary[below(m, 5)], 2, in, false));
            break;
        default:
            put(m, node(m, unary[below(m, 5)], 1, in, false));
        }
    }
    build_output(m->g, m->v[m->n - 1]);
    const rq_id other = m->v[1 + below(m, (uint64_t)m->n - 1)];
    if (other != m->v[m->n - 1])
        build_output(m->g, other);
    return m->g;
}

/* The levels in turn; the best one where the machine lacks it. */
static unsigned level_of(int round)
{
    unsigned cpu;
    int levels = 0;
    while (rq_cpu_level(levels, &cpu))
        levels++;
    return rq_cpu_level(round % (levels + 1), &cpu) && (cpu & rq_cpu_detect()) == cpu ? cpu : rq_cpu_detect();
}

static void random_graphs_give_the_same_bits(void **state)
{
    (void)state;
    static const int64_t dims[][4] = { { 1, 3, 5, 7 }, { 2, 16, 4, 4 }, { 1, 1, 6, 6 },
                                       { 2, 8, 1, 1 }, { 1, 20, 3, 9 }, { 1, 64, 1, 5 } };
    maker m = { 0 };
    rq_rng_seed(&m.rng, 11);
    int taken = 0, spread = 0, copies = 0, plain_copies = 0;
    size_t bytes = 0, plain_bytes = 0;
    for (int round = 0; round < 400; round++) {
        memcpy(m.dim, dims[round % 6], sizeof m.dim);
        rq_graph *g = random_graph(&m);
        const rq_shape s = rq_shape_of(4, m.dim);
        rq_tensor x = random_reals(&m.rng, &s);
        const rq_id tap = round % 3 ? RQ_NONE : (rq_id)below(&m, (uint64_t)g->n_values);
        ran want, got;
        const unsigned cpu = level_of(round);
        run_plan_on(cpu, g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, tap, &x, &want);
        assert_int_equal(want.taken + want.spread + want.posts, 0);
        for (unsigned plain = 0; plain < 8; plain++) {
            run_plan_on(cpu, g, plain, tap, &x, &got);
            assert_same(&want, &got);
            taken += got.taken, spread += got.spread;
            copies += got.copies, plain_copies += want.copies;
            bytes += got.bytes, plain_bytes += want.bytes;
            release(&got);
        }
        release(&want);
        rq_tensor_release(&x);
        rq_graph_destroy(g);
    }
    printf("%d outputs in the place of inputs, %d with room between pixels; %d copies where there were %d; %zu bytes, "
           "%zu\n",
           taken, spread, copies, plain_copies, bytes, plain_bytes);
    assert_true(taken > 1000 && spread > 50);
    assert_true(copies < plain_copies * 4 / 5); /* most of these graphs change parameters or cut across pixels */
    assert_true(bytes < plain_bytes);
}

/* ---- rows that leave room between pixels ---- */

enum { CHANNELS = 12 };

static rq_id conv(maker *m, rq_id x, int64_t out, int64_t kernel, int64_t group)
{
    char name[16];
    const int64_t dim[4] = { out, CHANNELS / group, kernel, kernel }, pad = kernel / 2;
    double w[48 * CHANNELS * 25], bias[48];
    for (int64_t i = 0; i < out * dim[1] * kernel * kernel; i++)
        w[i] = (double)rq_rng_f32(&m->rng) - 0.5;
    for (int64_t i = 0; i < out; i++)
        bias[i] = (double)rq_rng_f32(&m->rng) - 0.5;
    const rq_id weight = build_const(m->g, name_of(m, name), RQ_DTYPE_F32, 4, dim, w);
    annotate(m->g, weight, below(m, 2) ? RQ_DTYPE_S8 : RQ_DTYPE_U8, 1 / 254.0f, below(m, 2) ? 0 : 3);
    const rq_id b = build_const(m->g, name_of(m, name), RQ_DTYPE_F32, 1, &out, bias);
    const rq_id y = node(m, "Conv", 3, (rq_id[]) { x, weight, b }, false);
    assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "pads", (int64_t[]) { pad, pad, pad, pad }, 4), RQ_OK);
    assert_int_equal(rq_attr_set_int(m->g, m->g->n_nodes - 1, "group", group), RQ_OK);
    return y;
}

static rq_id branch(maker *m, rq_id x)
{
    static const int64_t kernels[] = { 1, 3, 5 }, groups[] = { 1, 2, 3, 4, 6, 12 }, outs[] = { 12, 24, 36, 48 };
    rq_id y = x;
    switch (below(m, 10)) {
    case 6: /* a residual behind a product */
        y = conv(m, x, CHANNELS, kernels[below(m, 3)], 1);
        y = node(m, "Add", 2, below(m, 2) ? (rq_id[]) { y, x } : (rq_id[]) { x, y }, false);
        break;
    case 7: /* every second pixel, and back to the size there was */
        y = node(m, "MaxPool", 1, &x, true);
        assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "kernel_shape", (int64_t[]) { 1, 1 }, 2), RQ_OK);
        assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "strides", (int64_t[]) { 2, 2 }, 2), RQ_OK);
        y = node(
            m, "Resize", 4,
            (rq_id[]) { y, RQ_NONE, RQ_NONE,
                        list(m, 4, (double[]) { (double)m->dim[0], CHANNELS, (double)m->dim[2], (double)m->dim[3] }) },
            below(m, 4));
        break;
    case 8: /* moved by a row and a pixel */
        y = node(m, "Pad", 2, (rq_id[]) { x, list(m, 8, (double[]) { 0, 0, 1, -1, 0, 0, -1, 1 }) }, true);
        break;
    case 0:
        y = node(m, below(m, 2) ? "MaxPool" : "AveragePool", 1, &x, below(m, 2));
        assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "kernel_shape", (int64_t[]) { 3, 3 }, 2), RQ_OK);
        assert_int_equal(rq_attr_set_ints(m->g, m->g->n_nodes - 1, "pads", (int64_t[]) { 1, 1, 1, 1 }, 4), RQ_OK);
        break;
    case 1:
        y = node(m, "Sigmoid", 1, &x, false);
        break;
    case 2: /* depthwise, with one output per channel or more */
        y = conv(m, x, outs[below(m, 3)], kernels[below(m, 3)], CHANNELS);
        break;
    default:
        y = conv(m, x, outs[below(m, 4)], kernels[below(m, 3)], groups[below(m, 5)]);
    }
    return below(m, 3) ? y : node(m, below(m, 2) ? "Relu" : "Sigmoid", 1, &y, false);
}

/* The channels of what a product makes of x, in two halves. */
static void halve(maker *m, rq_id x, rq_id half[2])
{
    const rq_id both = conv(m, x, 2 * CHANNELS, 1, 1);
    char name[16];
    rq_id id;
    if (below(m, 3) == 0) {
        const rq_id axes = list(m, 1, (double[]) { 1 });
        for (int i = 0; i < 2; i++)
            half[i] = node(m, "Slice", 4,
                           (rq_id[]) { both, list(m, 1, (double[]) { i * CHANNELS }),
                                       list(m, 1, (double[]) { (i + 1) * CHANNELS }), axes },
                           true);
        return;
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rq_graph_add_value(m->g, &half[i], RQ_VALUE_NODE, name_of(m, name), RQ_DTYPE_F32, NULL, NULL),
                         RQ_OK);
        m->g->values[half[i]].quant = m->g->values[both].quant;
    }
    assert_int_equal(rq_graph_add_node(m->g, &id, "Split", "", name_of(m, name), &both, 1, half, 2, NULL), RQ_OK);
    assert_int_equal(rq_attr_set_int(m->g, id, "axis", 1), RQ_OK);
}

static void rows_leave_room_between_pixels(void **state)
{
    (void)state;
    maker m = { 0 };
    rq_rng_seed(&m.rng, 5);
    int spread = 0, apart = 0;
    for (int round = 0; round < 600; round++) {
        m.g = build_graph(13);
        m.n = m.names = 0;
        m.d = below(&m, 2) ? RQ_DTYPE_U8 : RQ_DTYPE_S8;
        m.same = below(&m, 2);
        const int64_t dim[4] = { 1 + (int64_t)below(&m, 2), CHANNELS, 1 + (int64_t)below(&m, 9),
                                 1 + (int64_t)below(&m, 40) };
        memcpy(m.dim, dim, sizeof dim);
        const rq_id x = build_input(m.g, "x", RQ_DTYPE_F32, 4, m.dim);
        annotate(m.g, x, m.d, 0.03f, 5);
        rq_id in[6], half[2] = { x, x };
        int n = 0;
        if (round % 2) {
            halve(&m, x, half);
            for (int i = 0; i < 2 && below(&m, 3) == 0; i++)
                in[n++] = half[i];
        }
        for (int more = 2 + (int)below(&m, 3); more > 0; more--, n++)
            in[n] = branch(&m, half[below(&m, 2)]);
        const rq_id y = node(&m, "Concat", n, in, below(&m, 2));
        assert_int_equal(rq_attr_set_int(m.g, m.g->n_nodes - 1, "axis", 1), RQ_OK);
        build_output(m.g, y);
        const rq_shape s = rq_shape_of(4, m.dim);
        rq_tensor t = random_reals(&m.rng, &s);
        ran want, got;
        plan_spec = round % 5 == 4;
        run_plan_on(level_of(round), m.g, RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, RQ_NONE, &t, &want);
        run_plan_on(level_of(round), m.g, 0, RQ_NONE, &t, &got);
        plan_spec = false;
        assert_same(&want, &got);
        spread += got.spread, apart += got.apart;
        release(&want), release(&got);
        rq_tensor_release(&t);
        rq_graph_destroy(m.g);
    }
    printf("%d outputs with room between pixels, %d inputs\n", spread, apart);
    assert_true(spread > 500 && apart > 300);
}

/* ---- the caller's memory ---- */

/* Reals put together, cut and worked on in place, where the caller wants them: another place in each run, or none. */
static void bound_outputs_are_made_where_they_are_wanted(void **state)
{
    (void)state;
    const int64_t dim[4] = { 2, 3, 4, 5 };
    enum { N = 120 };
    rq_graph *g = build_graph(17);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, dim);
    const rq_id a = build_node(g, "Exp", "a", RQ_DTYPE_F32, 1, &x), b = build_node(g, "Relu", "b", RQ_DTYPE_F32, 1, &a);
    const rq_id c = build_node(g, "Neg", "c", RQ_DTYPE_F32, 1, &b), d = build_node(g, "Abs", "d", RQ_DTYPE_F32, 1, &x);
    const rq_id y = build_node(g, "Concat", "y", RQ_DTYPE_F32, 2, (rq_id[]) { c, d });
    assert_int_equal(rq_attr_set_int(g, g->n_nodes - 1, "axis", 0), RQ_OK);
    const rq_id lo = build_const(g, "lo", RQ_DTYPE_S64, 1, (int64_t[]) { 1 }, (double[]) { 1 }),
                hi = build_const(g, "hi", RQ_DTYPE_S64, 1, (int64_t[]) { 1 }, (double[]) { 3 });
    const rq_id z = build_node(g, "Slice", "z", RQ_DTYPE_F32, 3, (rq_id[]) { y, lo, hi });
    build_output(g, y), build_output(g, z), build_output(g, d);
    const rq_session_cfg cfg = { 0 };
    const rq_shape s = rq_shape_of(4, dim), twice = rq_shape_of(4, (int64_t[]) { 4, 3, 4, 5 });
    rq_kernels k;
    rq_program *p;
    rq_err err = { 0 };
    rq_rng rng;
    rq_rng_seed(&rng, 9);
    rq_kernels_init(&k, rq_cpu_detect());
    rq_ops_bind(g);
    assert_int_equal(rq_program_create(&p, g, &cfg, &k, NULL, NULL, &err), RQ_OK);
    float room[2][2 * N], cut[2][N], part[N];
    for (int round = 0; round < 6; round++) {
        rq_tensor in = random_reals(&rng, &s), out[3];
        rq_tensor bound[3] = { 0 };
        const int at = round % 3;
        if (at < 2) { /* y moves; z is bound or not; d is bound, though it is a part of y */
            bound[0] = rq_tensor_view(RQ_DTYPE_F32, &twice, room[at]);
            if (round < 3)
                bound[1] = rq_tensor_view(RQ_DTYPE_F32, &s, cut[at]);
            bound[2] = rq_tensor_view(RQ_DTYPE_F32, &s, part);
            p->bound = bound;
            memset(room, 0xee, sizeof room), memset(cut, 0xee, sizeof cut), memset(part, 0xee, sizeof part);
        }
        assert_int_equal(rq_program_run(p, &in, at < 2 ? NULL : out, &err), RQ_OK);
        const float *got = at < 2 ? room[at] : out[0].f32, *got_z = at < 2 ? cut[at] : out[1].f32,
                    *got_d = at < 2 ? part : out[2].f32;
        for (int i = 0; i < N; i++) {
            const float neg = got[i], abs = in.f32[i] < 0 ? -in.f32[i] : in.f32[i];
            assert_true(neg < 0 && logf(-neg) - in.f32[i] < 1e-4F && in.f32[i] - logf(-neg) < 1e-4F);
            assert_true(got[N + i] == abs && got_d[i] == abs);
            if (at == 2 || round < 3)
                assert_true(got_z[i] == got[N / 2 + i]);
        }
        if (at < 2)
            assert_true(room[1 - at][0] != got[0]); /* nobody touched the other */
        for (int i = 0; i < 3 && at == 2; i++)
            rq_tensor_release(&out[i]);
        rq_tensor_release(&in);
        p->bound = NULL;
    }
    rq_program_destroy(p);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bound_outputs_are_made_where_they_are_wanted),
        cmocka_unit_test(rows_leave_room_between_pixels),
        cmocka_unit_test(random_graphs_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
