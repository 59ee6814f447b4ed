/* graph/modules.h — which module a node belongs to, and of which types it is (requant/modules.h), for passes. */
#ifndef RQ_GRAPH_MODULES_H
#define RQ_GRAPH_MODULES_H

#include "graph/graph.h"
#include "requant/modules.h"

enum { RQ_MODULE_NAME = 512, RQ_MODULE_TYPES = 6 };

/* Path of the module that the node belongs to: "layer1.0.conv1". From the name of the node where it tells one ("/layer1/0/conv1/Conv",
 * "/layer1/layer1.0/conv1/Conv", "layer1.0.conv1", "model/conv2d/Conv2D"), else from the name of its constant ("conv1.weight"), else the
 * node's own name ("Conv_12"), else that of its first output. "" is the root, of whose own calls the names say no more. Written to
 * buf[n], cut there; returns buf. */
const char *rq_module_name(const rq_graph *g, rq_id node, char *buf, size_t n);
/* The same as a string that lives as long as g; NULL: memory is out. */
const char *rq_module_of(rq_graph *g, rq_id node);

/* Names of the types that a node has, the one that modules go by first: "Conv2d", "Conv"; "Linear", "Gemm", "MatMul"; "ReLU", "relu", "Relu".
 * The bias Add of a MatMul with constant weights is Linear as well. Returns how many; 0: the node is gone. */
int rq_module_types(const rq_graph *g, rq_id node, const char *out[RQ_MODULE_TYPES]);
/* Of all names that nodes may have besides that of their operator the i-th, NULL behind the last; some come several times. *is_first: modules go
 * by it. */
const char *rq_module_type_at(int i, bool *is_first);
/* Is `type`, with or without "torch.nn." or the like in front, one of them? */
bool rq_module_is(const rq_graph *g, rq_id node, const char *type);

/* The path in the name of a parameter, "conv1.weight" -> "conv1"; false: it is not called like one. */
bool rq_module_of_parameter(const char *name, char *buf, size_t n);
/* The constant that a value is, or is made of by nodes that only restate it (Identity, Transpose, DequantizeLinear, FakeQuantize ...); else
 * RQ_NONE. */
rq_id rq_module_constant(const rq_graph *g, rq_id value);
/* Is the node the Add of a constant bias to a MatMul with constant weights, which has no other reader? The MatMul, or RQ_NONE. */
rq_id rq_module_biased(const rq_graph *g, rq_id node);

#endif
