/* algo/dynamic.h — operators whose input is measured as it passes: its range, and so its scale, belong to the run and
 * not to the model. Nodes are rewritten in standard operators as ONNX Runtime's quantize_dynamic writes them
 * (docs/onnx-facts.md 4.6), which it fuses when it loads them. */
#ifndef RQ_ALGO_DYNAMIC_H
#define RQ_ALGO_DYNAMIC_H

#include "algo/weights.h"

typedef struct rq_dynamic {
    rq_graph *g;
    bool per_row;
    rq_id (*measured)[3]; /* [n_values] codes, scale and zero point of a value that was quantized; RQ_NONE: not yet */
    rq_id (*rows)[2];     /* [n_values] the same by rows */
    rq_id row_zero;       /* s8 0; RQ_NONE: not made yet */
    int n_values;
    struct rq_dynamic_matrix *matrices; /* weights that are constants already */
    int n_matrices, cap_matrices;
    rq_err *err;
} rq_dynamic;

/* LSTM, GRU, RNN? */
bool rq_dynamic_is_cell(const rq_node *n);
/* Can node be written so, given that its weights at these inputs are constants? Products, with `conv` Conv too, recurrent cells. */
bool rq_dynamic_fits(const rq_graph *g, const rq_node *n, bool conv);

rq_status rq_dynamic_init(rq_dynamic *d, rq_graph *g, bool per_row, rq_err *err);
void rq_dynamic_release(rq_dynamic *d);

/* MatMul and Gemm (any alpha, beta, transA, transB), Conv. w: computed, of input 1. On error g is half rewritten. */
rq_status rq_dynamic_product(rq_dynamic *d, rq_id node, const rq_weight *w);
rq_status rq_dynamic_conv(rq_dynamic *d, rq_id node, const rq_weight *w);
/* A recurrent cell; w, r: of inputs 1 and 2. */
rq_status rq_dynamic_cell(rq_dynamic *d, rq_id node, const rq_weight *w, const rq_weight *r);

#endif
