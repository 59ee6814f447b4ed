/* tests/run/test_views.c — nodes that cost nothing (run/plan_views.c), and those that look as if they did not: for each condition a graph in which it alone decides. The
 * bits are those of a plan in which only what is reshaped is a view, and how many nodes are left to copy is exact. */
#include "run/plan_help.h"

typedef struct net {
    rq_graph *g;
    rq_id x;
} net;

static rq_id node(net *n, const char *op, int n_in, const rq_id *in)
{
    char name[16];
    snprintf(name, sizeof name, "v%d", n->g->n_values);
    return build_node(n->g, op, name, RQ_DTYPE_NONE, n_in, in);
}

static rq_id list(net *n, int count, const int64_t *v)
{
    char name[16];
    double d[8];
    snprintf(name, sizeof name, "c%d", n->g->n_values);
    for (int i = 0; i < count; i++)
        d[i] = (double)v[i];
    return build_const(n->g, name, RQ_DTYPE_S64, 1, (int64_t[]) { count }, d);
}

/* x[from:to] along axis 0. */
static rq_id rows(net *n, rq_id x, int64_t from, int64_t to)
{
    return node(n, "Slice", 3, (rq_id[]) { x, list(n, 1, &from), list(n, 1, &to) });
}

typedef struct expected {
    void (*build)(net *n);
    rq_dtype d; /* of x, [6, 4, 2, 3] */
    int copies;
    int opset;      /* 0: 21 */
    rq_dtype codes; /* x, of f32, is annotated so; 0: it is not */
} expected;

static void check(const expected *e)
{
    static const int64_t dim[4] = { 6, 4, 2, 3 };
    const size_t before = rq_mem_live();
    const rq_shape s = rq_shape_of(4, dim);
    rq_rng rng;
    rq_rng_seed(&rng, 6);
    net n = { .g = build_graph(e->opset ? e->opset : 21) };
    n.x = build_input(n.g, "x", e->d, 4, dim);
    rq_tensor t = random_reals(&rng, &s);
    if (e->d != RQ_DTYPE_F32) {
        rq_tensor_release(&t);
        assert_int_equal(rq_tensor_create(&t, e->d, &s, true), RQ_OK);
        for (size_t i = 0; i < t.bytes; i++)
            t.u8[i] = (uint8_t)rq_rng_u64(&rng);
    }
    if (e->codes)
        annotate(n.g, n.x, e->codes, 0.04f, e->codes == RQ_DTYPE_S8 ? -3 : 100);
    e->build(&n);
    ran want, got;
    run_plan(n.g, RQ_PLAIN_NO_LAST | RQ_PLAIN_PLACES | RQ_PLAIN_STEPS, RQ_NONE, &t, &want);
    run_plan(n.g, 0, RQ_NONE, &t, &got);
    assert_same(&want, &got);
    if (got.copies != e->copies)
        fail_msg("%d copies, expected %d", got.copies, e->copies);
    release(&want), release(&got);
    rq_tensor_release(&t);
    rq_graph_destroy(n.g);
    assert_int_equal(rq_mem_live(), before);
}

/* ---- codes of less than a byte ---- */

static void build_rows(net *n)
{
    build_output(n->g, rows(n, n->x, 1, 4));
    build_output(n->g, rows(n, n->x, 2, 6));
}

static void build_joined(net *n)
{
    const rq_id y = node(n, "Concat", 2, (rq_id[]) { rows(n, n->x, 3, 6), rows(n, n->x, 0, 3) });
    assert_int_equal(rq_attr_set_int(n->g, n->g->n_nodes - 1, "axis", 0), RQ_OK);
    build_output(n->g, y);
}

static void codes_of_four_bits_are_copied(void **state)
{
    (void)state;
    check(&(expected) { build_rows, RQ_DTYPE_U8, .copies = 0 });
    check(&(expected) { build_rows, RQ_DTYPE_U4, .copies = 2 });
    check(&(expected) { build_joined, RQ_DTYPE_U8, .copies = 1 }); /* the caller's bytes are nobody's part */
    check(&(expected) { build_joined, RQ_DTYPE_U4, .copies = 3 });
}

/* ---- other shapes, other orders ---- */

/* v has the codes of n->x. */
static rq_id same(net *n, rq_id v)
{
    n->g->values[v].quant = n->g->values[n->x].quant;
    return v;
}

static rq_id reshaped(net *n, rq_id x, int count, const int64_t *dim)
{
    return same(n, node(n, "Reshape", 2, (rq_id[]) { x, list(n, count, dim) }));
}

static rq_id turned(net *n, rq_id x, const int64_t perm[4])
{
    const rq_id y = same(n, node(n, "Transpose", 1, &x));
    if (perm)
        assert_int_equal(rq_attr_set_ints(n->g, n->g->n_nodes - 1, "perm", perm, 4), RQ_OK);
    return y;
}

/* Softsign is a product, whose codes lie channels-last (plan_help.h). */
static rq_id product(net *n, rq_id x)
{
    return same(n, node(n, "Softsign", 1, &x));
}

/* As many channels, other images: not the same bytes channels-last. */
static void build_other_images(net *n)
{
    build_output(n->g, product(n, reshaped(n, product(n, n->x), 4, (int64_t[]) { 3, 4, 4, 3 })));
}

/* The same images, lines joined. */
static void build_same_images(net *n)
{
    build_output(n->g, product(n, reshaped(n, product(n, n->x), 3, (int64_t[]) { 6, 4, 6 })));
}

static void images_that_are_reshaped(void **state)
{
    (void)state;
    for (int s8 = 0; s8 < 2; s8++) {
        const rq_dtype d = s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
        check(&(expected) { build_other_images, RQ_DTYPE_F32, .copies = 0, .codes = d });
        check(&(expected) { build_same_images, RQ_DTYPE_F32, .copies = 0, .codes = d });
    }
}

/* [1, 144], [144, 1] and [12, 12] with their axes exchanged, as Transpose does that is told nothing. */
static void build_reversed_row(net *n)
{
    build_output(n->g, turned(n, reshaped(n, n->x, 2, (int64_t[]) { 1, 144 }), NULL));
}

static void build_reversed_column(net *n)
{
    build_output(n->g, turned(n, reshaped(n, n->x, 2, (int64_t[]) { 144, 1 }), NULL));
}

static void build_reversed_matrix(net *n)
{
    build_output(n->g, turned(n, reshaped(n, n->x, 2, (int64_t[]) { 12, 12 }), NULL));
}

/* A file that lies channels-last, for a product. */
static void build_turned(net *n)
{
    build_output(n->g, product(n, turned(n, n->x, (int64_t[]) { 0, 3, 1, 2 })));
}

static void build_turned_apart(net *n)
{
    build_output(n->g, turned(n, n->x, (int64_t[]) { 0, 3, 1, 2 }));
}

static void what_is_turned_costs_nothing_where_it_lies_so(void **state)
{
    (void)state;
    check(&(expected) { build_reversed_row, RQ_DTYPE_F32, .copies = 0 });
    check(&(expected) { build_reversed_row, RQ_DTYPE_F32, .copies = 0, .codes = RQ_DTYPE_S8 });
    check(&(expected) { build_reversed_column, RQ_DTYPE_F32, .copies = 0 });
    check(&(expected) { build_reversed_matrix, RQ_DTYPE_F32, .copies = 1 });
    check(&(expected) { build_turned, RQ_DTYPE_F32, .copies = 0, .codes = RQ_DTYPE_U8 });
    check(&(expected) { build_turned, RQ_DTYPE_F32, .copies = 0, .codes = RQ_DTYPE_S8 });
    check(&(expected) { build_turned_apart, RQ_DTYPE_F32, .copies = 1,
                        .codes = RQ_DTYPE_U16 });                   /* of two bytes: nobody's */
    check(&(expected) { build_turned, RQ_DTYPE_F32, .copies = 1 }); /* reals */
}

/* ---- slices ---- */

typedef struct piece {
    int n; /* of each list */
    int64_t from[3], to[3], axes[3], step[3];
    bool old; /* lists as attributes, as before opset 10 */
    int copies;
} piece;

static const piece *now;

/* [1, 24, 6], whose axis 1 is outermost in memory. */
static void build_piece(net *n)
{
    const piece *p = now;
    const rq_id x = reshaped(n, n->x, 3, (int64_t[]) { 1, 24, 6 });
    rq_id in[5] = { x, RQ_NONE, RQ_NONE, RQ_NONE, RQ_NONE };
    if (!p->old) {
        in[1] = list(n, p->n, p->from), in[2] = list(n, p->n, p->to);
        if (p->axes[0] != 9)
            in[3] = list(n, p->n, p->axes);
        if (p->step[0])
            in[4] = list(n, p->n, p->step);
    }
    const rq_id y = node(n, "Slice", p->old ? 1 : p->step[0] ? 5 : p->axes[0] != 9 ? 4 : 3, in);
    const int at = n->g->n_nodes - 1;
    if (p->old) {
        assert_int_equal(rq_attr_set_ints(n->g, at, "starts", p->from, p->n), RQ_OK);
        assert_int_equal(rq_attr_set_ints(n->g, at, "ends", p->to, p->n), RQ_OK);
        if (p->axes[0] != 9)
            assert_int_equal(rq_attr_set_ints(n->g, at, "axes", p->axes, p->n), RQ_OK);
    }
    build_output(n->g, same(n, y));
}

static void slices_along_the_outermost_axis_cost_nothing(void **state)
{
    (void)state;
    enum { ALL = 1000, NO_AXES = 9 };
    static const piece pieces[] = {
        { 1, { 3 }, { 20 }, { 1 }, .copies = 0 },
        { 1, { 3 }, { 20 }, { -2 }, .copies = 0 },
        { 1, { -7 }, { ALL }, { 1 }, .copies = 0 },
        { 1, { -ALL }, { 5 }, { 1 }, .copies = 0 },  /* from the beginning */
        { 1, { ALL }, { ALL }, { 1 }, .copies = 0 }, /* nothing */
        { 2, { 0, 4 }, { 1, 9 }, { 0, 1 }, .copies = 0 },
        { 2, { 4, 0 }, { 9, 1 }, { 1, 0 }, .copies = 0 },
        { 2, { 0, 4 }, { 1, 9 }, { NO_AXES }, .copies = 0 },
        { 3, { 0, 4, 0 }, { 1, 9, 6 }, { NO_AXES }, .copies = 0 },
        { 1, { 3 }, { 20 }, { 1 }, { 1 }, .copies = 0 },
        { 2, { 0, 4 }, { ALL, ALL }, { 2, 1 }, { 1, 1 }, .copies = 0 },
        { 1, { 1 }, { 4 }, { 2 }, .copies = 1 },                         /* an inner axis */
        { 2, { 2, 1 }, { 9, 4 }, { 1, 2 }, .copies = 1 },                /* two axes */
        { 1, { 2 }, { 20 }, { 1 }, { 2 }, .copies = 1 },                 /* every other one */
        { 1, { -1 }, { -ALL }, { 1 }, { -1 }, .copies = 1 },             /* all of them, backwards */
        { 2, { 5, 3 }, { -ALL, 20 }, { 2, 1 }, { -1, 1 }, .copies = 1 }, /* another axis backwards */
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        now = &pieces[i];
        check(&(expected) { build_piece, RQ_DTYPE_F32, .copies = now->copies });
        check(&(expected) { build_piece, RQ_DTYPE_F32, .copies = now->copies, .codes = RQ_DTYPE_U8 });
    }
    static const piece old[] = {
        { 1, { 3 }, { 20 }, { 1 }, .old = true },
        { 2, { 0, 4 }, { 1, 9 }, { NO_AXES }, .old = true },
        { 1, { 1 }, { 4 }, { 2 }, .old = true, .copies = 1 },
    };
    for (size_t i = 0; i < sizeof old / sizeof *old; i++) {
        now = &old[i];
        check(&(expected) { build_piece, RQ_DTYPE_F32, .copies = now->copies, .opset = 9 });
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_of_four_bits_are_copied),
        cmocka_unit_test(images_that_are_reshaped),
        cmocka_unit_test(what_is_turned_costs_nothing_where_it_lies_so),
        cmocka_unit_test(slices_along_the_outermost_axis_cost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
