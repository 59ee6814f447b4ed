/* ops/eval.h — one node run on its own, outside any plan: for passes that compute constants. */
#ifndef RQ_OPS_EVAL_H
#define RQ_OPS_EVAL_H

#include "ops/op.h"

/* Run node n of g on in[n->n_in] (NULL: omitted). out[n->n_out] are created; the caller releases them. Outputs larger
 * than max_bytes together are refused before anything is allocated (RQ_UNSUPPORTED), and so are nodes without a row or a
 * forward, with subgraphs, or with random results. k: kernels to use. On error out is all empty. */
rq_status rq_eval_node(const rq_graph *g, const rq_node *n, const rq_tensor *const *in, rq_tensor *out,
                       size_t max_bytes, const rq_kernels *k, rq_err *err);

/* Compute node n of g, if all that it reads are plain constants (for rows that only read shapes, known sizes do), and put constants in place
 * of its outputs: *done says whether. *made is what its first output became (RQ_NONE: nobody wanted it). What rq_eval_node refuses stays a node. */
rq_status rq_eval_fold_node(rq_graph *g, rq_id node, size_t max_bytes, const rq_kernels *k, rq_id *made, bool *done,
                            rq_err *err);

/* Every Constant node of g (subgraphs too) with a dense value becomes a constant of the same name,
 * unless it is an output of its graph. */
rq_status rq_eval_constants(rq_graph *g, rq_err *err);

/* Value v becomes a constant holding t (a share is taken): v's node output slot is emptied, all uses go to a new
 * constant that takes over the name, doc and annotation; *id is it. A node left without outputs is removed. Not for
 * graph inputs. */
rq_status rq_eval_replace(rq_graph *g, rq_id v, const rq_tensor *t, rq_id *id, rq_err *err);

#endif
