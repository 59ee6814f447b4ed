/* quant/runs.h — a tensor with strides as runs of f32 numbers of one channel, for those who gather statistics and do not mind the order.
 *
 * The axes that are kept are set apart: each of their indices is a channel. The other axes are ordered by stride, joined where they
 * continue one another, and walked the innermost way. What is contiguous is handed out where it lies; the rest (and F16, BF16, F64) is
 * gathered into a small buffer first. The tensor is cut into pieces by its shape and strides alone, so that a sum kept per piece and
 * added up in the order of pieces does not depend on threads. */
#ifndef RQ_QUANT_RUNS_H
#define RQ_QUANT_RUNS_H

#include "quant/exec.h"
#include "requant/strided.h"

enum {
    RQ_RUNS_PIECES = 64,   /* at most */
    RQ_RUNS_MOST = 1 << 16 /* numbers in a run, at most */
};

/* Axes as a way through memory: those of more than one index, joined, innermost last. */
typedef struct rq_runs_axes {
    int n;
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK];
} rq_runs_axes;

typedef struct rq_runs {
    rq_strided x;
    bool kept[RQ_MAX_RANK];
    rq_shape keep;          /* of x with 1 for the axes that are not kept */
    int64_t channels, rest; /* product of the kept sizes; elements of a channel */
    rq_runs_axes outer;     /* of channels, in the order of the tensor */
    rq_runs_axes inner;     /* of a channel, by stride; at least 1 */
    const char *data;       /* of channel 0, index 0 of every inner axis */
    int64_t block;          /* elements of a channel in a run, at most */
    int pieces;
    bool by_channel; /* a piece is some channels; else some elements of every channel */
} rq_runs;

/* n_axes kept axes (0: one channel), negative ones counted from the last. x is copied, its data borrowed.
 * RQ_BAD_DTYPE: not F32, F64, F16 or BF16; RQ_BAD_SHAPE: no such axis; RQ_BAD_ARG: one twice. */
rq_status rq_runs_init(rq_runs *r, const rq_strided *x, const int *axes, int n_axes, rq_err *err);
/* Channel c, for those who do mind the order: a tensor of the axes that are not kept, in their order. */
rq_strided rq_runs_channel(const rq_runs *r, int64_t c);

/* Call fn for runs that hold every element once: x[n] of `channel`, valid during the call. Runs of one piece come one after another, from one
 * thread; pieces from any. A channel has its runs in the same order at any number of threads. */
typedef void (*rq_runs_fn)(void *arg, int piece, int64_t channel, const float *x, size_t n);
void rq_runs_walk(const rq_runs *r, rq_exec *e, rq_runs_fn fn, void *arg);

/* What a channel holds. lo and hi are of its finite elements; lo > hi: there are none. */
typedef struct rq_extremes {
    float lo, hi;
    float least_abs;                    /* smallest magnitude but 0; INFINITY: there is none */
    uint64_t finite, nan, above, below; /* finite; NaN, +inf, -inf */
    uint64_t zeros;
} rq_extremes;
/* Of each channel. near_zero: least_abs and zeros too, which takes twice as long; else they are of nothing. RQ_NO_MEMORY. */
rq_status rq_runs_extremes(const rq_runs *r, rq_exec *e, bool near_zero, rq_extremes *out);

/* Add to count[bins] what fn counts of the runs of all channels. Never fails: without memory for more it counts with one thread. */
typedef void (*rq_runs_count_fn)(const void *arg, uint64_t *count, const float *x, size_t n);
void rq_runs_count(const rq_runs *r, rq_exec *e, rq_runs_count_fn fn, const void *arg, uint64_t *count, int bins);

/* count[b->n] = how often the numbers of all channels fall into each bin, as rq_kernels.histogram counts. */
void rq_runs_histogram(const rq_runs *r, rq_exec *e, const rq_bins *b, uint64_t *count);

#endif
