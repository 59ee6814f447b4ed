/* requant/edit.h — build a graph by hand, or look at and change the nodes of one that was read.
 *
 *   rq_graph *g;
 *   rq_graph_create(&g);
 *   rq_edit_set_opset(g, "", 17, &err);
 *   rq_edit_add_input(g, "x", RQ_DTYPE_F32, &shape, &err);
 *   rq_edit_add_constant(g, "w", &weights, &err);
 *   rq_edit_add_node(g, &(rq_edit_node) { .op = "MatMul", .in = (const char *[]) { "x", "w" }, .n_in = 2,
 *                                         .out = (const char *[]) { "y" }, .n_out = 1 }, NULL, &err);
 *   rq_edit_add_output(g, "y", &err);
 *   rq_edit_check(g, &err);            then quantize it, run it, save it
 *
 * Values go by name, nodes by id; ids stay valid while others are added and removed. Operators and attributes are those of
 * ONNX. Between edits a graph may be incomplete; rq_edit_check says whether it is whole. Nothing here is
 * thread-safe for one graph. On an error the graph is as it was. */
#ifndef REQUANT_EDIT_H
#define REQUANT_EDIT_H

#include <requant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- building ---- */

/* Import operators of `domain` ("": ONNX's own) as of this version. RQ_BAD_ARG: version < 1; RQ_NO_MEMORY. */
RQ_API rq_status rq_edit_set_opset(rq_graph *g, const char *domain, int64_t version, rq_err *err);
/* A value the caller feeds. Sizes may be RQ_DIM_UNKNOWN or rq_edit_dim. RQ_BAD_GRAPH: the name is taken; RQ_BAD_SHAPE;
 * RQ_NO_MEMORY. */
RQ_API rq_status rq_edit_add_input(rq_graph *g, const char *name, rq_dtype d, const rq_shape *shape, rq_err *err);
/* The size called `name` ("batch"), for a shape: axes with one name have one size. RQ_DIM_UNKNOWN when memory is out. */
RQ_API int64_t rq_edit_dim(rq_graph *g, const char *name);
/* A constant; the graph takes a share of t (a view: its bytes must outlive the graph). RQ_BAD_GRAPH: the name is taken. */
RQ_API rq_status rq_edit_add_constant(rq_graph *g, const char *name, const rq_tensor *t, rq_err *err);
/* Give the caller this value at every run. RQ_NOT_FOUND: no such value; RQ_BAD_GRAPH: it is one already. */
RQ_API rq_status rq_edit_add_output(rq_graph *g, const char *name, rq_err *err);

/* A node. Inputs must exist; an input "" or NULL is omitted, an output "" or NULL is not wanted. */
typedef struct rq_edit_node {
    const char *op, *domain; /* domain NULL: ONNX's own */
    const char *name;        /* NULL: nameless */
    const char *const *in;   /* [n_in] */
    const char *const *out;  /* [n_out] */
    int n_in, n_out;
} rq_edit_node;
/* Add it; *id (may be NULL) is its id. RQ_NOT_FOUND: an input does not exist, the nearest name is given; RQ_BAD_GRAPH: an
 * output's name is taken; RQ_BAD_ARG: no operator. */
RQ_API rq_status rq_edit_add_node(rq_graph *g, const rq_edit_node *n, int *id, rq_err *err);

/* Set or replace an attribute. RQ_NOT_FOUND: no node has that id; RQ_NO_MEMORY. */
RQ_API rq_status rq_edit_set_int(rq_graph *g, int node, const char *name, int64_t v, rq_err *err);
RQ_API rq_status rq_edit_set_float(rq_graph *g, int node, const char *name, float v, rq_err *err);
RQ_API rq_status rq_edit_set_string(rq_graph *g, int node, const char *name, const char *v, rq_err *err);
RQ_API rq_status rq_edit_set_ints(rq_graph *g, int node, const char *name, const int64_t *v, int n, rq_err *err);
RQ_API rq_status rq_edit_set_tensor(rq_graph *g, int node, const char *name, const rq_tensor *t, rq_err *err);

/* ---- looking ---- */

/* Ids are 0..rq_edit_n_nodes-1; some may be gone. */
RQ_API int rq_edit_n_nodes(const rq_graph *g);
/* Its operator, domain, name and numbers of inputs and outputs (the lists are left NULL); false when the id is gone or out
 * of range. Strings live as long as the graph. */
RQ_API bool rq_edit_node_at(const rq_graph *g, int node, rq_edit_node *out);
/* Name of its input or output i; NULL: omitted, not wanted, or out of range. */
RQ_API const char *rq_edit_node_in(const rq_graph *g, int node, int i);
RQ_API const char *rq_edit_node_out(const rq_graph *g, int node, int i);
/* An attribute, or `fallback` when it is absent or of another type; ints: the list and *n, NULL and 0. */
RQ_API int64_t rq_edit_int(const rq_graph *g, int node, const char *name, int64_t fallback);
RQ_API float rq_edit_float(const rq_graph *g, int node, const char *name, float fallback);
RQ_API const char *rq_edit_string(const rq_graph *g, int node, const char *name, const char *fallback);
RQ_API const int64_t *rq_edit_ints(const rq_graph *g, int node, const char *name, int *n);
/* The node of that name, or -1. */
RQ_API int rq_edit_find_node(const rq_graph *g, const char *name);
/* The node that makes a value; -1: an input, a constant, or no such value. */
RQ_API int rq_edit_producer(const rq_graph *g, const char *value);
/* A value's type, shape and quantization. RQ_NOT_FOUND: the nearest name is given. */
RQ_API rq_status rq_edit_value(const rq_graph *g, const char *name, rq_value_info *out, rq_err *err);
/* A constant's numbers, shared (give them back with rq_tensor_release). RQ_NOT_FOUND: no such constant. */
RQ_API rq_status rq_edit_constant(const rq_graph *g, const char *name, rq_tensor *out, rq_err *err);

/* ---- changing ---- */

/* Replace a constant's numbers (any type and shape; check the graph after). RQ_NOT_FOUND. */
RQ_API rq_status rq_edit_set_constant(rq_graph *g, const char *name, const rq_tensor *t, rq_err *err);
/* Let every user of `from` use `to` instead, but the node that makes `to`: so a node is put in between. Outputs of the graph
 * keep their place, not their name. */
RQ_API rq_status rq_edit_replace(rq_graph *g, const char *from, const char *to, rq_err *err);
/* Feed input i of a node from another value. RQ_NOT_FOUND: no such node, input or value. */
RQ_API rq_status rq_edit_set_input(rq_graph *g, int node, int i, const char *value, rq_err *err);
/* Remove a node. RQ_BAD_GRAPH: one of its outputs is still used (replace it first); RQ_NOT_FOUND. */
RQ_API rq_status rq_edit_remove_node(rq_graph *g, int node, rq_err *err);
/* RQ_BAD_GRAPH: the new name is taken; RQ_NOT_FOUND. */
RQ_API rq_status rq_edit_rename(rq_graph *g, const char *value, const char *name, rq_err *err);
/* Say by hand what a value's integers mean: where both sides of an operator are quantized it runs on them. q is copied; NULL:
 * quantized no longer. RQ_NOT_FOUND; RQ_BAD_SHAPE: the scales do not fit the value's shape; RQ_BAD_ARG. */
RQ_API rq_status rq_edit_set_quant(rq_graph *g, const char *value, const rq_qparams *q, rq_err *err);
/* Drop nodes whose outputs nobody uses, and constants nobody uses; returns how many nodes went. */
RQ_API int rq_edit_prune(rq_graph *g);
/* A line of metadata that is kept in the file. RQ_NO_MEMORY. */
RQ_API rq_status rq_edit_set_meta(rq_graph *g, const char *key, const char *value);
/* The metadata of that key, or NULL. */
RQ_API const char *rq_edit_meta(const rq_graph *g, const char *key);

/* Is the graph whole? Names, edges, no cycle, operators and their attributes, and types and shapes of every value, which
 * are filled in. RQ_BAD_GRAPH, RQ_BAD_SHAPE, RQ_BAD_DTYPE, RQ_UNSUPPORTED: a node, named; RQ_NO_MEMORY. */
RQ_API rq_status rq_edit_check(rq_graph *g, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
