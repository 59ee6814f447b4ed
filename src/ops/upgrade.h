/* ops/upgrade.h — nodes of older opsets in the words of newer ones (docs/onnx-facts.md 1.7, 3), bit for bit the same
 * function. */
#ifndef RQ_OPS_UPGRADE_H
#define RQ_OPS_UPGRADE_H

#include "graph/graph.h"

/* Raise the default domain of g to `opset` (at most 25, from at least 7), converting every node, subgraphs too, whose form
 * or meaning changed on the way. No change when it is there already.
 * RQ_UNSUPPORTED: a node has no equal at the new opset (the sentence names it); g is then half converted: work on a
 * copy. */
rq_status rq_upgrade(rq_graph *g, int64_t opset, rq_err *err);

/* Nodes whose domain is RQ_UPGRADE_TAG and a number are of the standard domain at that opset, whatever the model imports (a
 * reader writes it so for the bodies of functions). Bring all nodes to the newest opset among them and the model's.
 * RQ_UNSUPPORTED: a node has no equal there; RQ_BAD_FILE: no such opset. */
#define RQ_UPGRADE_TAG "ai.onnx@"
rq_status rq_upgrade_mixed(rq_graph *g, rq_err *err);

/* Has the node the first input and output that every conversion looks at? Readers convert before rows check. RQ_BAD_GRAPH. */
rq_status rq_upgrade_sound(const rq_graph *g, const rq_node *n, rq_err *err);

/* Raise a model of opset 1 to 6 to opset 7: what a reader does first, as the rows know nothing older. Newer ones stay as they
 * are. RQ_UNSUPPORTED: a node has no equal; and what checks and inference say. */
rq_status rq_upgrade_old(rq_graph *g, rq_err *err);

/* Softmax, LogSoftmax, Hardmax of opset < 13 work on the input flattened to 2-D at `axis`. Make the node do so under
 * the newer meaning: axis -1 where axis is the last one, else Flatten, the node, Reshape. */
rq_status rq_upgrade_softmax(rq_graph *g, rq_id node, int64_t axis, rq_err *err);

/* The graph in the words of an older opset: where none of its operators changed since. RQ_UNSUPPORTED: the sentence names one that
 * did. Annotations are not looked at. */
rq_status rq_downgrade(rq_graph *g, int64_t opset, rq_err *err);

#endif
