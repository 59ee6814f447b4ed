/* ops/batch_train.h — batch normalization while a graph is trained: BatchNormalization (row in ops/norm_batch.c) and the folded form that
 * quantization-aware training simulates (row FoldedBatchNorm of domain "requant").
 *
 *   BatchNormalization(x, gamma, beta, mean, var)           y = BN(x)
 *   FoldedBatchNorm(c, k, bias?, gamma, beta, mean, var)    y = BN(c / k + bias), c [N, C, ...] the product of the weights times k
 *
 * with BN(a) = (a - m) / sqrt(v + epsilon) * gamma + beta per channel (axis 1). Train mode: m and v are the mean and the biased variance
 * of the batch, and inputs mean and var move in place, new = old * momentum + batch * (1 - momentum), with the unbiased variance, as
 * PyTorch moves them (its momentum is 1 minus ONNX's). Evaluation (frozen, too): m and v are those inputs.
 *
 * The division by k is folded into what batch norm does anyway: with m and v of c, y = (c - m) * gamma sign(k) / sqrt(v + epsilon k^2) + beta, so
 * nothing is made of a channel whose k is 0 that would not be a number: there the factor is 1, as it is for k = gamma / sqrt(var +
 * epsilon) on its way to 0, so that its weights still pass a gradient on; c is 0 there and y is beta (docs/numerics.md). Running statistics
 * stay what they are in such a channel.
 *
 * Training keeps per channel what backward needs; row->saves says which tensors. */
#ifndef RQ_OPS_BATCH_TRAIN_H
#define RQ_OPS_BATCH_TRAIN_H

#include "ops/op.h"

/* Is the node in training mode by itself, whatever trains it? */
bool rq_batch_train_is(const rq_node *n, int64_t opset);
/* Types and shapes of the outputs behind the first. */
rq_status rq_batch_train_infer(const rq_infer *a);
/* Forward of a node in training mode, and of any node while its graph is trained (a->training). RQ_BAD_SHAPE: a channel has one element
 * only. */
rq_status rq_batch_train_forward(const rq_op_args *a);
rq_status rq_batch_train_backward(const rq_op_args *a);
size_t rq_batch_train_saved(const rq_op_args *a);
/* Both directions. */
size_t rq_batch_train_scratch(const rq_op_args *a);
size_t rq_batch_train_scratch_backward(const rq_op_args *a);

#endif
