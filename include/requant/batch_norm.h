/* requant/batch_norm.h — running statistics of batch norms, taken anew from samples with the weights as they are. */
#ifndef REQUANT_BATCH_NORM_H
#define REQUANT_BATCH_NORM_H

#include <requant/autograd.h>
#include <requant/dataset.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Running mean and variance of all batch norms of g (BatchNormalization in train mode, and FoldedBatchNorm of a prepared quantizer) become the plain mean of
 * the statistics of `batches` batches of data (0: all; variances unbiased, as they are kept in training). While they are measured all
 * batches are seen by the same network: statistics change at the end, together. What moves them in training forgets old batches, and
 * those were made by older weights; with few bits, weights that swing between two codes leave them far from the truth (Nagel et al., ICML
 * 2022, arXiv:2203.11086, section 4.1). Those that are frozen stay.
 * a: of g, in any mode, which is put back; observers of its fake-quantizers should be off. *done, or NULL: how many batches. RQ_BAD_DATA: data is empty; what
 * rq_dataset_read and rq_autograd_forward say; RQ_NO_MEMORY; then statistics are as they were. */
RQ_API rq_status rq_batch_norm_reestimate(rq_autograd *a, rq_graph *g, rq_dataset *data, int64_t batches, int64_t *done,
                                          rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
