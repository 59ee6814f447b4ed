/* quant/runs.h — a tensor with strides as runs of f32 numbers of one channel, for those who gather statistics and do not mind the order.
 *
 * The channel axis is set apart; the other axes are ordered by stride, joined where they continue one another, and walked the innermost way. What
 * is contiguous is handed out where it lies; the rest (and F16, BF16, F64) is gathered into a small buffer first. The tensor is cut into
 * pieces by its shape and strides alone, so that a sum kept per piece and added up in the order of pieces does not depend on threads. */
#ifndef RQ_QUANT_RUNS_H
#define RQ_QUANT_RUNS_H

#include "quant/exec.h"
#include "requant/strided.h"

enum {
    RQ_RUNS_PIECES = 64,   /* at most */
    RQ_RUNS_MOST = 1 << 16 /* numbers in a run, at most */
};

typedef struct rq_runs {
    const char *data; /* of channel 0, index 0 of every axis */
    rq_dtype dtype;
    int64_t channels, step; /* elements from one channel to the next */
    int64_t rest;           /* elements of a channel */
    int n;                  /* axes of a channel, innermost last; at least 1 */
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK];
    int64_t block; /* elements of a channel in a run, at most */
    int pieces;
    bool by_channel; /* a piece is some channels; else some elements of every channel */
} rq_runs;

/* axis: the channel axis, or RQ_PER_TENSOR: one channel. x and its data are borrowed.
 * RQ_BAD_DTYPE: not F32, F64, F16 or BF16; RQ_BAD_SHAPE: no such axis. */
rq_status rq_runs_init(rq_runs *r, const rq_strided *x, int axis, rq_err *err);

/* Call fn for runs that hold every element once: x[n] of `channel`, valid during the call. Runs of one piece come one after another, from one
 * thread; pieces from any. A channel has its runs in the same order at any number of threads. */
typedef void (*rq_runs_fn)(void *arg, int piece, int64_t channel, const float *x, size_t n);
void rq_runs_walk(const rq_runs *r, rq_exec *e, rq_runs_fn fn, void *arg);

/* What a channel holds. lo and hi are of its finite elements; lo > hi: there are none. */
typedef struct rq_extremes {
    float lo, hi;
    uint64_t finite, nan, above, below; /* finite; NaN, +inf, -inf */
} rq_extremes;
/* Of each channel. RQ_NO_MEMORY. */
rq_status rq_runs_extremes(const rq_runs *r, rq_exec *e, rq_extremes *out);

/* count[b->n] = how often the numbers of all channels fall into each bin, as rq_kernels.histogram counts. RQ_NO_MEMORY. */
rq_status rq_runs_count(const rq_runs *r, rq_exec *e, const rq_bins *b, uint64_t *count);

#endif
