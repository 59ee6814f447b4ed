/* tests/run/net_help.h — small graphs of codes for tests of what the plan does behind products: Softsign is a product there (plan_help.h). */
#ifndef TEST_RUN_NET_HELP_H
#define TEST_RUN_NET_HELP_H

#include "run/plan_help.h"

typedef struct net {
    rq_graph *g;
    rq_rng rng;
    rq_dtype d;
    int names;
    rq_id x; /* codes that lie channels-last */
} net;

static const int64_t dims[4] = { 2, 5, 3, 7 };

static inline const char *name_of(net *n, char name[16])
{
    snprintf(name, 16, "v%d", n->names++);
    return name;
}

/* Codes of a type that hold about -4 .. 4, with parameters of their own. */
static inline rq_id as_codes(net *n, rq_id v, rq_dtype d)
{
    const float scale = (d == RQ_DTYPE_U16 ? 8 / 65535.0f : 8 / 255.0f) * (1 + rq_rng_f32(&n->rng) / 8);
    annotate(n->g, v, d, scale, d == RQ_DTYPE_S8 ? 3 : d == RQ_DTYPE_U8 ? 131 : 32000);
    return v;
}

static inline rq_id node(net *n, const char *op, int n_in, const rq_id *in)
{
    char name[16];
    return as_codes(n, build_node(n->g, op, name_of(n, name), RQ_DTYPE_F32, n_in, in), n->d);
}

static inline rq_id product(net *n, rq_id x)
{
    return node(n, "Softsign", 1, &x);
}

static inline rq_id add(net *n, rq_id a, rq_id b)
{
    return node(n, "Add", 2, (rq_id[]) { a, b });
}

/* x in memory of its own: a sum that reads it is no post of anything. */
static inline rq_id other(net *n)
{
    return node(n, "Mul", 2, (rq_id[]) { n->x, n->x });
}

/* Made of two operands: a step of its own, which is no post and leaves no room. */
static inline rq_id pair(net *n)
{
    return node(n, "Mul", 2, (rq_id[]) { product(n, n->x), n->x });
}

static inline rq_id concat(net *n, int axis, int n_in, const rq_id *in)
{
    const rq_id y = node(n, "Concat", n_in, in);
    assert_int_equal(rq_attr_set_int(n->g, n->g->values[y].producer, "axis", axis), RQ_OK);
    return y;
}

/* v as the codes that `of` has. */
static inline rq_id like(net *n, rq_id v, rq_id of)
{
    n->g->values[v].quant = n->g->values[of].quant;
    return v;
}

/* The plan of what `build` makes of codes d; its bits are those of a plan of one step per node. tapped: "v1". */
static inline ran run_built(void (*build)(net *n), rq_dtype d, bool tapped, unsigned plain)
{
    const size_t before = rq_mem_live();
    net n = { .d = d };
    rq_rng_seed(&n.rng, 17);
    n.g = build_graph(17);
    n.x = product(&n, as_codes(&n, build_input(n.g, "x", RQ_DTYPE_F32, 4, dims), d)); /* v0 */
    build(&n);
    const rq_shape s = rq_shape_of(4, dims);
    rq_tensor t = random_reals(&n.rng, &s);
    ran want, got;
    const rq_id tap = tapped ? rq_graph_find(n.g, "v1") : RQ_NONE;
    run_plan(n.g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, tap, &t, &want);
    run_plan(n.g, plain, tap, &t, &got);
    assert_int_equal(want.posts + want.spread, 0);
    assert_same(&want, &got);
    release(&want), release(&got);
    rq_tensor_release(&t);
    rq_graph_destroy(n.g);
    assert_int_equal(rq_mem_live(), before);
    return got;
}

#endif
