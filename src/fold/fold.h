/* fold/fold.h — rewrites of a float graph that leave its function as it is and prepare it for quantization: fewer operators,
 * more of them with an integer form, weights and biases as constants where quantizers look for them. */
#ifndef RQ_FOLD_FOLD_H
#define RQ_FOLD_FOLD_H

#include "graph/graph.h"

typedef struct rq_fold_counts {
    int constants;  /* nodes computed now */
    int copies;     /* Identity, Dropout, casts to the same type */
    int transposes; /* Transposes that met their inverse (fold/transpose.h) */
    int branches;   /* If nodes whose condition is a constant */
    int scales;     /* BatchNormalization, Mul, Add ... by constants taken into the weights before them */
    int patterns;   /* groups of operators that became one */
} rq_fold_counts;

/* Who asks for a step: rq_fold_graph, rq_fold_for_training, the same with `plain`. */
typedef enum rq_fold_for { RQ_FOLD_RUN, RQ_FOLD_TRAIN, RQ_FOLD_TRAIN_PLAIN } rq_fold_for;

/* All of the steps below, in order, until nothing changes; shapes are inferred on the way (rq_ops_infer) and what nobody uses
 * goes. Values that survive keep their names; outputs agree with those of before within float rounding. Nodes with
 * annotated inputs, quantized constants and QuantizeLinear/DequantizeLinear are left alone. counts may be NULL.
 * RQ_BAD_SHAPE and RQ_BAD_GRAPH from inference; RQ_NO_MEMORY: g is valid, but half folded. */
rq_status rq_fold_graph(rq_graph *g, rq_fold_counts *counts, rq_err *err);

/* Only what changes no value that somebody may name: constants, copies, branches. */
rq_status rq_fold_plain(rq_graph *g, rq_err *err);

/* What leaves a graph that is to be trained the same network: the same function of the same parameters, each a constant where its operator
 * looks for it. Constant nodes, constants laid out anew, copies of constants, branches; Mul, Add ... by constants per channel go into the product before
 * them, and activations that were written out become the operators they are. Batch norms stay, for training needs them, Dropout and Identity too, and
 * nodes that stay keep their names, so that modules do. A constant that is read elsewhere as well is not computed into several, and MatMul
 * stays MatMul. What ONNX Runtime's optimizer fused becomes its parts. plain: only those parts, constants and what copies them. Errors as of rq_fold_graph. */
rq_status rq_fold_for_training(rq_graph *g, bool plain, rq_err *err);

/* Compute every node whose inputs are constants, and Shape and Size where sizes are known. A result that is larger than
 * both 64 KiB and four times its inputs stays a node: an Expand of a scalar is not worth a file full of copies. */
rq_status rq_fold_constants(rq_graph *g, rq_fold_for what, int *n, rq_err *err);
/* Identity, Dropout that is not training, Cast to the type that is there: consumers read their input. */
rq_status rq_fold_copies(rq_graph *g, rq_fold_for what, int *n, rq_err *err);
/* If with a constant condition: the nodes of the branch that is taken. */
rq_status rq_fold_branches(rq_graph *g, int *n, rq_err *err);
/* FusedConv and FusedGemm (com.microsoft): Conv or Gemm, Add, and the activation, which takes over the output. A kind of activation that is no
 * operator of the graph's opset stays fused. */
rq_status rq_fold_fused(rq_graph *g, int *n, rq_err *err);
/* BatchNormalization, and Mul, Div, Add, Sub by a constant per channel, into the weights and bias of the Conv, ConvTranspose
 * or Gemm before them; MatMul and Add of 2-D operands into Gemm. */
rq_status rq_fold_scales(rq_graph *g, rq_fold_for what, int *n, rq_err *err);
/* Operators that exporters wrote out: HardSigmoid from Add, Clip, Div; LayerNormalization where the opset has it (17). */
rq_status rq_fold_patterns(rq_graph *g, int *n, rq_err *err);

#endif
