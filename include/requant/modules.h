/* requant/modules.h — the modules of a network: what its layers are called, and of which types they are.
 *
 * A graph has nodes; the program that made it had modules. Names of nodes and constants tell which: "/layer1/0/conv1/Conv" and
 * "layer1.0.conv1.weight" are of module "layer1.0.conv1". Rules that say how a network is quantized go by these names and types, and
 * `requant info --modules` prints them. Networks built with requant/nn.h are named so from the start.
 * Nothing here changes a graph: several threads may ask while none edits it. */
#ifndef REQUANT_MODULES_H
#define REQUANT_MODULES_H

#include <requant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A module, or a call of a function in one. Strings live in the list. */
typedef struct rq_module {
    const char *name; /* path, "layer1.0.conv1"; of a call: of the module that makes it, "": the root */
    const char *type; /* "Conv2d"; of a call "add"; an operator that no module has: as ONNX spells it */
    const char *op;   /* ONNX operator of its node */
    int node; /* id of its first node (rq_edit_node_at); of several (MatMul and the Add of its bias) the one that has the weight */
    int n_nodes; /* nodes of it, over all times it is applied */
    bool call;   /* of a function: no module of its own */
} rq_module;

/* Modules and calls of g in the order of its nodes; those of Q/DQ pairs and of constants are left out. *out (give it back with rq_free; NULL
 * when *n is 0) lives on its own. RQ_NO_MEMORY. */
RQ_API rq_status rq_graph_modules(const rq_graph *g, rq_module **out, int *n);

/* Is that node (id) of this type? Both spellings count, with or without the path in front: "Conv2d", "torch.nn.Conv2d", "Conv"; "Linear",
 * "Gemm", "MatMul" (with constant weights); "add", "operator.add", "torch.add", "Add". No for ids that are gone. */
RQ_API bool rq_graph_node_is_type(const rq_graph *g, int node, const char *type);

#ifdef __cplusplus
}
#endif
#endif
