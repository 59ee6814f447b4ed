/* quant/observer_row.h — what is behind an rq_observer: one row of functions per kind, one file per row or family, one line in
 * observer_rows.inc. A row looks at a batch in one of two ways: through the extremes of each channel, which observer.c finds for all rows in
 * one parallel pass, or run by run (rq_runs_walk). */
#ifndef RQ_QUANT_OBSERVER_ROW_H
#define RQ_QUANT_OBSERVER_ROW_H

#include "quant/calibrate.h"
#include "quant/runs.h"
#include "requant/observer.h"

struct rq_observer {
    rq_observer_cfg cfg;
    const struct rq_observer_row *row;
    int channels;
    uint64_t count, nan, infinite;
    rq_range *range; /* [channels] of rows that remember one; lo > hi: nothing yet */
    int64_t updates; /* average: batches with something finite */
    float least_abs; /* stacked: smallest |x| */
    rq_histogram h;  /* counts, stacked */
    void *state;     /* own, recording, and what a row wants beyond this */
};

/* One call of rq_observer_update. */
typedef struct rq_observer_batch {
    rq_exec *e;
    rq_kernels k;            /* of e */
    const rq_strided *x;     /* not empty */
    rq_runs runs;            /* over x, by channel */
    const rq_extremes *seen; /* [channels], of rows with `extremes` */
} rq_observer_batch;

typedef struct rq_observer_row {
    const char *name;     /* as Core ML Tools or we spell it: "min_max" */
    const char *title[2]; /* PyTorch's class per tensor and per channel, for printing and reading */
    bool native;          /* PyTorch's own */
    bool blind;           /* sees nothing: update only counts elements */
    bool per_channel;     /* may be per channel */
    bool extremes;        /* wants seen[] */
    bool no_range, no_qparams;
    bool halves_symmetric; /* takes reduce_range for symmetric u8, which PyTorch's refuse */
    bool middle_unseen; /* compat: the zero point of symmetric codes before anything was seen is their middle, not 0 */
    /* Each may be NULL unless said. init: after cfg was checked and range made; on an error release is called. */
    rq_status (*init)(rq_observer *o, rq_err *err);
    rq_status (*update)(rq_observer *o, const rq_observer_batch *b, rq_err *err); /* required unless blind */
    rq_range (*range)(const rq_observer *o, int c); /* NULL: o->range[c]. NaN: it failed */
    /* NULL: the rule OBSERVER on range(). */
    rq_status (*qparams)(const rq_observer *o, int c, float *scale, int32_t *zero_point, float *zero_point_f,
                         rq_err *err);
    rq_status (*again)(rq_observer *o, bool *more);
    /* NULL: min_val, max_val and eps, from and to o->range. */
    rq_status (*save)(const rq_observer *o, rq_state *s, const char *prefix);
    rq_status (*load)(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err);
    void (*reset)(rq_observer *o); /* beyond range, counts and updates */
    void (*release)(rq_observer *o);
    bool (*has_seen)(const rq_observer *o); /* NULL: some channel has lo <= hi */
} rq_observer_row;

#define RQ_OBSERVER_ROW(kind, name) extern const rq_observer_row rq_observer_##name;
#include "quant/observer_rows.inc"
#undef RQ_OBSERVER_ROW

/* ---- for rows ---- */

/* The rule that o's parameters follow, and its kinds' row. */
rq_qparams_rule rq_observer_rule(const rq_observer *o);
/* Fold the extremes of a batch into r as `compat` or not: what of them counts. False: nothing does. */
bool rq_observer_batch_range(const rq_observer *o, const rq_extremes *x, rq_range *r);
/* What MINMAX and EMA do with the range m of a batch; is_first: there was nothing before. */
typedef void (*rq_observer_fold)(const rq_observer *o, rq_range *v, rq_range m, bool is_first);
void rq_observer_fold_minmax(const rq_observer *o, rq_range *v, rq_range m, bool is_first);
void rq_observer_fold_ema(const rq_observer *o, rq_range *v, rq_range m, bool is_first);
/* save and load of min_val and max_val, without eps: what a row adds to. */
rq_status rq_observer_save_range(const rq_observer *o, rq_state *s, const char *prefix);
rq_status rq_observer_load_range(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err);
/* Make o one of n channels that have seen nothing. RQ_NO_MEMORY: as it was. */
rq_status rq_observer_set_channels(rq_observer *o, int n);

/* ---- inside of the library ---- */

/* Has it an answer? FIXED always. */
bool rq_observer_has_seen(const rq_observer *o);

/* The program's observer behind it; NULL: it is the library's. */
const rq_own_observer *rq_observer_own_of(const rq_observer *o);
/* The histogram of COUNTS; NULL for the others. */
const rq_histogram *rq_observer_histogram(const rq_observer *o);

#endif
