/* tests/ops/build.h — graphs made by hand, a line per value. Every call asserts. */
#ifndef TEST_OPS_BUILD_H
#define TEST_OPS_BUILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"

static inline rq_graph *build_graph(int64_t opset)
{
    rq_graph *g;
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_graph_set_opset(g, "", opset), RQ_OK);
    g->ir_version = 8;
    return g;
}

static inline rq_id build_input(rq_graph *g, const char *name, rq_dtype d, int rank, const int64_t *dim)
{
    rq_id id;
    rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_graph_add_value(g, &id, RQ_VALUE_INPUT, name, d, &s, NULL), RQ_OK);
    assert_true(rq_mem_grow(&g->inputs, g->n_inputs, &g->cap_inputs, sizeof *g->inputs));
    g->inputs[g->n_inputs++] = id;
    return id;
}

static inline void build_output(rq_graph *g, rq_id v)
{
    assert_true(rq_mem_grow(&g->outputs, g->n_outputs, &g->cap_outputs, sizeof *g->outputs));
    g->outputs[g->n_outputs++] = v;
}

static inline rq_id build_const(rq_graph *g, const char *name, rq_dtype d, int rank, const int64_t *dim,
                                const double *v)
{
    rq_id id;
    rq_tensor t;
    rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        rq_tensor_set(&t, i, v[i]);
    assert_int_equal(rq_graph_add_const(g, &id, name, &t, NULL), RQ_OK);
    rq_tensor_release(&t);
    return id;
}

static inline rq_id build_scalar(rq_graph *g, const char *name, rq_dtype d, double v)
{
    return build_const(g, name, d, 0, NULL, &v);
}

/* A node of one output, named after it. */
static inline rq_id build_node(rq_graph *g, const char *op, const char *out, rq_dtype d, int n_in, const rq_id *in)
{
    rq_id id, node;
    assert_int_equal(rq_graph_add_value(g, &id, RQ_VALUE_NODE, out, d, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &node, op, "", out, in, n_in, &id, 1, NULL), RQ_OK);
    return id;
}

#define BUILD_IN(...)                                                                                                  \
    (int)(sizeof((rq_id[]) { __VA_ARGS__ }) / sizeof(rq_id)), (const rq_id[])                                          \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static inline int count_op(const rq_graph *g, const char *op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op && !strcmp(g->nodes[i].op, op);
    return n;
}

static inline int count_nodes(const rq_graph *g)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op != NULL;
    return n;
}

static inline rq_id find_value(const rq_graph *g, const char *name)
{
    rq_id v = rq_graph_find(g, name);
    if (v == RQ_NONE)
        fail_msg("no value '%s'", name);
    return v;
}

#endif
