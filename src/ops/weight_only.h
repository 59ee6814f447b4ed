/* ops/weight_only.h — float products whose right operand is stored in few bits: a panel of its columns at a time becomes
 * floats, is multiplied, and goes. So the whole float weight never exists. */
#ifndef RQ_OPS_WEIGHT_ONLY_H
#define RQ_OPS_WEIGHT_ONLY_H

#include "ops/op.h"

/* dst[c][k] = w[k][j0 + c], c < n, k < depth. Called from any thread. */
typedef void (*rq_weight_only_fill)(const void *arg, float *dst, int64_t j0, int64_t n);

typedef struct rq_weight_only {
    const rq_kernels *k;
    int64_t rows, depth, columns;
    const float *x;    /* [rows][depth] */
    float *y;          /* [rows][columns] */
    const float *bias; /* [columns], added last; or NULL */
    rq_weight_only_fill fill;
    const void *arg;
} rq_weight_only;

/* Bytes of scratch, 64-byte aligned. */
size_t rq_weight_only_scratch(int64_t depth, int64_t columns, int threads);
/* y = x w + bias. The panels follow from depth and columns alone, so that threads change no bit. RQ_INTERNAL: the float
 * product failed. */
rq_status rq_weight_only_run(const rq_weight_only *p, void *scratch, rq_threads *t);

#endif
