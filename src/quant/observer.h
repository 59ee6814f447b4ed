/* quant/observer.h — watch one tensor during calibration, then say which range of reals it needs. */
#ifndef RQ_QUANT_OBSERVER_H
#define RQ_QUANT_OBSERVER_H

#include "kernels/kernels.h"
#include "quant/calibrate.h"
#include "requant/own.h"
#include "requant/qparams.h"
#include "requant/tensor.h"

typedef enum rq_observer_kind {
    RQ_OBSERVER_MINMAX,    /* smallest and largest ever */
    RQ_OBSERVER_EMA,       /* their exponential moving average over updates; depends on how data is cut into batches */
    RQ_OBSERVER_HISTOGRAM, /* counts; the range is chosen at the end */
    RQ_OBSERVER_AVERAGE,   /* the plain mean of the extremes of each update, in f32 */
    RQ_OBSERVER_STACKED, /* percentile and entropy as ONNX Runtime's quantizer has them (stacked.c); takes two passes */
    RQ_OBSERVER_OWN,     /* a state of the program; cfg.own */
    RQ_N_OBSERVERS
} rq_observer_kind;

typedef enum rq_choice { /* histogram: how the range is chosen */
                         RQ_CHOICE_MINMAX,
                         RQ_CHOICE_PERCENTILE,
                         RQ_CHOICE_ENTROPY,
                         RQ_CHOICE_MSE,
                         RQ_CHOICE_OWN, /* cfg.own->choose */
} rq_choice;

typedef struct rq_observer_cfg {
    rq_observer_kind kind;
    int axis;     /* channel axis of x, or RQ_PER_TENSOR; histogram: per tensor only */
    double decay; /* ema: 0 <= decay < 1; state = decay * state + (1 - decay) * batch; the first batch is the state */
    int bins;     /* histogram: 16..65536 */
    rq_choice choice;           /* histogram */
    double percentile;          /* 0 < p <= 100 */
    int levels;                 /* codes to place: 2..65536; entropy and mse; stacked entropy: groups, at most `bins` */
    const rq_own_observer *own; /* borrowed; kind or choice OWN */
    bool symmetric;             /* choose lo = -hi; stacked: percentile of |x| */
} rq_observer_cfg;

typedef struct rq_observer rq_observer;

/* The defaults for `kind`: per tensor, decay 0.99, 2048 bins, mse (stacked: percentile), 99.99 %, 256 levels. */
rq_observer_cfg rq_observer_defaults(rq_observer_kind kind);

/* Make an observer; *out is yours until rq_observer_destroy.
 * RQ_BAD_ARG: a field of cfg is out of its range. RQ_NO_MEMORY. On error *out is untouched. */
rq_status rq_observer_create(rq_observer **out, const rq_observer_cfg *cfg);

/* Fold x (f32, any shape; read, not kept) into the statistics. NaN and infinity are counted, never
 * folded. RQ_BAD_DTYPE; RQ_BAD_SHAPE: the size of the channel axis differs from earlier calls. Not thread-safe. */
rq_status rq_observer_update(rq_observer *o, const rq_kernels *k, const rq_tensor *x);

/* Write one range per channel to out[n]; n is 1 when per tensor. Always lo <= 0 <= hi, so that zero
 * stays exact. RQ_BAD_ARG: n is not the channel count, or no finite element was seen. RQ_NUMERIC: an own observer failed, or
 * gave no range. */
rq_status rq_observer_range(const rq_observer *o, rq_range *out, int n);

/* Between two passes over the same data: *more says whether this observer wants the second. RQ_NO_MEMORY. */
rq_status rq_observer_again(rq_observer *o, bool *more);

/* Channels: 1 per tensor; 0 before the first update of a per-channel one. */
int rq_observer_channels(const rq_observer *o);
/* Finite elements seen, and NaN and infinities. */
uint64_t rq_observer_count(const rq_observer *o);
uint64_t rq_observer_bad(const rq_observer *o);
/* The program's observer behind it; NULL: it is the library's. */
const rq_own_observer *rq_observer_own_of(const rq_observer *o);
/* The histogram of a histogram observer; NULL for the others. */
const rq_histogram *rq_observer_histogram(const rq_observer *o);

void rq_observer_destroy(rq_observer *o); /* NULL is fine, as with free */

/* ---- for the rows: minmax.c, ema.c, counts.c, stacked.c, own.c ---- */
struct rq_observer {
    rq_observer_cfg cfg;
    const struct rq_observer_row *row;
    int channels;
    uint64_t count, bad;
    rq_range *range; /* minmax, ema, average, stacked: [channels], lo > hi: nothing finite yet */
    int64_t updates; /* ema, average: with something finite */
    float least_abs; /* stacked: smallest |x| */
    rq_histogram h;
    void *state; /* own */
};
typedef struct rq_observer_row {
    const char *name;
    /* n finite-or-not elements of channel c */
    rq_status (*update)(rq_observer *o, const rq_kernels *k, int c, const float *x, size_t n);
    /* called once per rq_observer_update, after the channels; NULL: nothing to do */
    void (*commit)(rq_observer *o);
    rq_range (*range)(const rq_observer *o, int c); /* NaN: it failed */
    rq_status (*again)(rq_observer *o, bool *more); /* NULL: one pass is enough */
} rq_observer_row;
extern const rq_observer_row rq_observer_minmax, rq_observer_ema, rq_observer_counts, rq_observer_average,
    rq_observer_stacked, rq_observer_own;

#endif
