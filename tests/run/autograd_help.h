/* tests/run/autograd_help.h — small networks, and one step of training. */
#ifndef RQ_TESTS_RUN_AUTOGRAD_HELP_H
#define RQ_TESTS_RUN_AUTOGRAD_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "ops/build.h"
#include "requant/requant.h"

static inline double spread(int i, int k)
{
    return sin(0.7 * i + k) * 0.5 + 0.013 * ((i * 7 + k) % 11) - 0.05;
}

static inline rq_id weights(rq_graph *g, const char *name, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    double v[1024];
    const int n = (int)rq_shape_count(&s);
    assert_true(n <= 1024);
    for (int i = 0; i < n; i++)
        v[i] = spread(i, (int)strlen(name) + name[0]);
    return build_const(g, name, RQ_DTYPE_F32, rank, dim, v);
}

static inline rq_id op(rq_graph *g, const char *type, const char *out, rq_id a, rq_id b)
{
    return build_node(g, type, out, RQ_DTYPE_F32, b == RQ_NONE ? 1 : 2, (rq_id[]) { a, b });
}

typedef struct net {
    rq_graph *g;
    rq_autograd *a;
    float x[2 * 3 * 4 * 4];
    rq_shape shape;
} net;

static inline void net_open(net *n, rq_graph *g, const rq_autograd_cfg *cfg)
{
    rq_err err = { 0 };
    n->g = g;
    n->a = NULL;
    n->shape = rq_shape_of(4, (int64_t[]) { 2, 3, 4, 4 });
    for (int i = 0; i < 96; i++)
        n->x[i] = (float)spread(i, 3) * 2;
    if (rq_autograd_create(&n->a, g, cfg, &err))
        fail_msg("%s", err.text);
}

static inline void net_close(net *n)
{
    rq_autograd_destroy(n->a);
    rq_graph_destroy(n->g);
}

static inline float pull(int output, int64_t i)
{
    return (float)cos(0.9 * (double)i + output) + 0.25f;
}

enum { MOST_OUT = 4, MOST_COUNT = 4096 };

static inline void forward(net *n, rq_tensor *y)
{
    rq_err err = { 0 };
    const rq_feed feed = { "x", rq_tensor_view(RQ_DTYPE_F32, &n->shape, n->x) };
    if (rq_autograd_forward(n->a, &feed, 1, y, &err))
        fail_msg("%s", err.text);
}

static inline void backward(net *n, const rq_tensor *y)
{
    static float dy[MOST_OUT][MOST_COUNT];
    rq_tensor g[MOST_OUT];
    rq_err err = { 0 };
    for (int k = 0; k < rq_graph_n_outputs(n->g); k++) {
        assert_true(rq_tensor_count(&y[k]) <= MOST_COUNT);
        for (int64_t i = 0; i < rq_tensor_count(&y[k]); i++)
            dy[k][i] = pull(k, i);
        g[k] = rq_tensor_view(RQ_DTYPE_F32, &y[k].shape, dy[k]);
    }
    if (rq_autograd_backward(n->a, g, &err))
        fail_msg("%s", err.text);
}

static inline void step(net *n)
{
    rq_tensor y[MOST_OUT];
    forward(n, y);
    backward(n, y);
}

static inline void assert_close(double got, double want, const char *what, int64_t i)
{
    if (!(fabs(got - want) <= 2e-3 * (1 + fabs(want))))
        fail_msg("%s[%lld] is %g, differences give %g", what, (long long)i, got, want);
}

/* All gradients in a row, for comparing bits. */
static inline int gather(net *n, float *to, int room)
{
    rq_parameter *p;
    int at = 0;
    const int count = rq_autograd_parameters(n->a, &p);
    for (int k = 0; k < count; k++) {
        assert_true(at + p[k].count <= room);
        memcpy(to + at, p[k].grad, (size_t)p[k].count * sizeof *to);
        at += (int)p[k].count;
    }
    return at;
}

static inline rq_id fake(rq_graph *g, const char *out, rq_id x, int slot)
{
    rq_id v, node;
    const rq_shape none = rq_shape_unknown();
    assert_int_equal(rq_graph_add_value(g, &v, RQ_VALUE_NODE, out, RQ_DTYPE_F32, &none, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &node, "FakeQuantize", "requant", out, &x, 1, &v, 1, NULL), RQ_OK);
    assert_int_equal(rq_attr_set_int(g, node, "slot", slot), RQ_OK);
    assert_int_equal(rq_graph_set_opset(g, "requant", 1), RQ_OK);
    return v;
}

#endif
