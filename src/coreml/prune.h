/* coreml/prune.h — which elements of a weight stay: a bit for each, by threshold, by magnitude (of elements or of blocks), or n of every m. */
#ifndef RQ_COREML_PRUNE_H
#define RQ_COREML_PRUNE_H

#include "requant/coreml_optimize.h"
#include "requant/tensor.h"

typedef struct rq_prune {
    /* in; read until the last call */
    const void *data;
    rq_dtype dtype; /* F16, F32 */
    int rank;
    const int64_t *dim; /* [rank] */
    /* out */
    uint8_t *mask; /* [ceil(n / 8)], the lowest bit first: this element stays, and is not 0. Zeros behind the last */
    int64_t n, kept;
} rq_prune;

enum { RQ_PRUNE_WHY = 240 };

/* By the settings of c, one of the two pruners:
 *
 *   THRESHOLD   |w| <= threshold (rounded to dtype) goes; not at all where fewer than minimum_sparsity_percentile of all would be 0
 *   MAGNITUDE   |w| <= the target_sparsity-th quantile of all |w| goes, the quantile interpolated between neighbours; 0: nothing, 1: all.
 *               `block`: of blocks along axis `dim`, filled up with zeros, |w| is the block's L2 norm in dtype;
 *               n_m_ratio: of every m along axis `dim`, filled up, the n least |w| go, of equals the first
 *
 * Why not, as a sentence in why, where the weight cannot be pruned so ("" where it can). RQ_NO_MEMORY. Release after any result. */
rq_status rq_prune_make(rq_prune *p, const rq_coreml_op_config *c, char why[RQ_PRUNE_WHY], rq_err *err);
/* The mask of a weight as it is: what is not 0. */
rq_status rq_prune_zeros(rq_prune *p, rq_err *err);
void rq_prune_release(rq_prune *p);

static inline bool rq_prune_stays(const rq_prune *p, int64_t i)
{
    return p->mask[i / 8] >> (i % 8) & 1;
}

#endif
