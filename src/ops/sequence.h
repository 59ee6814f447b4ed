/* ops/sequence.h — lists of tensors, taken apart where their members are known: exports make them for torch.split, stack
 * and unbind, and take members out at constant places. */
#ifndef RQ_OPS_SEQUENCE_H
#define RQ_OPS_SEQUENCE_H

#include "graph/graph.h"

/* Nodes that read from lists whose members are known become nodes that read the members: SequenceAt an Identity,
 * ConcatFromSequence a Concat, SequenceLength a constant; SplitToSequence becomes a Split. Optionals whose tensor is there,
 * or is left out, go the same way. Lists that other nodes use, that grow in loops, or whose number of members is not
 * known stay as they are. Subgraphs too. Sizes are those that inference
 * left: rq_ops_bind and rq_ops_infer again when *n (may be NULL) says that nodes changed.
 * RQ_NO_MEMORY, RQ_BAD_GRAPH: a place outside its list (the sentence names the node). */
rq_status rq_sequence_dissolve(rq_graph *g, int *n, rq_err *err);

/* The same, with inference between rounds, until nothing changes; a model without lists costs one look at its nodes.
 * Errors of inference count as "sizes are not known". */
rq_status rq_sequence_resolve(rq_graph *g, rq_err *err);

#endif
