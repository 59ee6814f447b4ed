/* ops/rewrite.h — the small edits that passes over a graph are made of. */
#ifndef RQ_OPS_REWRITE_H
#define RQ_OPS_REWRITE_H

#include "graph/graph.h"

/* A name not in use: `base` followed by `suffix`, numbered when taken. NULL: memory is out. */
const char *rq_rewrite_name(rq_graph *g, const char *base, const char *suffix);

/* Output k of node becomes a new value *made, named after the old one with `suffix`, of its type and shape but without its
 * annotation; the old value keeps name and uses and waits for a new producer. */
rq_status rq_rewrite_detach(rq_graph *g, rq_id node, int k, const char *suffix, rq_id *made, rq_err *err);

/* A new node between: *made = op(in[0..n_in)), a value named base + suffix of type d and unknown shape. *node may be NULL. */
rq_status rq_rewrite_add(rq_graph *g, const char *op, const rq_id *in, int n_in, const char *base, const char *suffix,
                         rq_dtype d, rq_id *made, rq_id *node, rq_err *err);

/* Value `out`, which has no producer, becomes the output of a new node named after it. */
rq_status rq_rewrite_produce(rq_graph *g, const char *op, const char *suffix, const rq_id *in, int n_in, rq_id out,
                             rq_id *node, rq_err *err);

/* The node turns into operator `op` of the standard domain with these inputs; its outputs and attributes stay. */
rq_status rq_rewrite_become(rq_graph *g, rq_id node, const char *op, const rq_id *in, int n_in, rq_err *err);

/* Constants: S64 list (rank 1), one F32 (rank 0), n F32 (rank 1); named base + suffix. */
rq_status rq_rewrite_ints(rq_graph *g, const int64_t *v, int n, const char *base, const char *suffix, rq_id *made,
                          rq_err *err);
rq_status rq_rewrite_float(rq_graph *g, float v, const char *base, const char *suffix, rq_id *made, rq_err *err);
rq_status rq_rewrite_floats(rq_graph *g, const float *v, int64_t n, const char *base, const char *suffix, rq_id *made,
                            rq_err *err);

/* Is the node `op` of the standard domain? */
bool rq_rewrite_is(const rq_node *n, const char *op);

/* Value `to` stands where a value that is gone stood (`was`: a copy of it): takes its shape and type where its own are not
 * known, and when that was an output of the graph, its name, remark and what the format kept. */
rq_status rq_rewrite_inherit(rq_graph *g, rq_id to, const rq_value *was, bool output, rq_err *err);

/* All uses of output 0 of node go to `to`, which takes over its name when it is a graph output; the node is removed.
 * False without a change when that would take a name from a graph input, a constant or another output. */
bool rq_rewrite_bypass(rq_graph *g, rq_id node, rq_id to, rq_status *st, rq_err *err);

#endif
