/* quant/calibrator.h — what a calibrator holds; see requant/calibrator.h. A kind is a row: calibrator_max.c, calibrator_hist.c,
 * calibrator_mse.c, calibrator_own.c. */
#ifndef RQ_QUANT_CALIBRATOR_H
#define RQ_QUANT_CALIBRATOR_H

#include "quant/histogram.h"
#include "quant/runs.h"
#include "requant/calibrator.h"

struct rq_calibrator {
    rq_calibrator_cfg cfg; /* cfg.amax: &initial, or NULL */
    const struct rq_calibrator_row *row;
    rq_calibrator_info info;
    rq_shape keep;   /* of amax; rank RQ_RANK_UNKNOWN before the first batch */
    int64_t cells;   /* 0 before the first batch */
    float *amax;     /* max: [cells] */
    rq_tensor *list; /* max with track_amax: [n_list] */
    int n_list, cap_list;
    rq_histogram h;    /* histogram */
    rq_tensor initial; /* mse */
    int candidates;    /* mse */
    float *multiplier; /* mse: [candidates] */
    double *loss;      /* mse: [candidates][cells]; NULL before the first batch */
    void *state;       /* own */
};

typedef struct rq_calibrator_row {
    const char *name; /* as the originals call it; NULL: the program does */
    rq_status (*init)(rq_calibrator *c, rq_err *err);
    /* One batch, not empty, a cell a channel of r; x[cells] its extremes where `looks`, else NULL. c->keep and c->cells are there.
     * On error nothing of it is kept. */
    bool looks;
    rq_status (*collect)(rq_calibrator *c, rq_exec *e, const rq_runs *r, const rq_extremes *x, rq_err *err);
    /* out[cells]; nothing was collected is asked before */
    rq_status (*amax)(rq_calibrator *c, rq_amax_method m, const rq_amax_params *p, float *out, rq_err *err);
    rq_status (*reset)(rq_calibrator *c); /* of what is its own */
    rq_status (*save)(const rq_calibrator *c, rq_state *s, const char *prefix);
    /* into c, which was just created; info is there */
    rq_status (*load)(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err);
    void (*text)(const rq_calibrator *c, char *buf, size_t n);
} rq_calibrator_row;
extern const rq_calibrator_row rq_calibrator_max, rq_calibrator_hist, rq_calibrator_mse, rq_calibrator_own;

/* Count r, whose extremes are x, into h, which has room for it; not yet committed. */
void rq_calibrator_count(rq_histogram *h, const rq_runs *r, rq_exec *e, const rq_kernels *k, const rq_extremes *x,
                         bool skip_zeros);
/* 2^(bits - 1 + unsigned) levels; the largest code is one less. */
static inline int rq_calibrator_levels(int num_bits, bool is_unsigned)
{
    return 1 << (num_bits - 1 + is_unsigned);
}
/* Is p in its ranges, and has a histogram of so many bins candidates? RQ_BAD_ARG. */
rq_status rq_calibrator_check(rq_amax_method m, const rq_amax_params *p, int bins, rq_err *err);
/* `method` is none that `who` has. */
rq_status rq_calibrator_unknown(const rq_calibrator *c, rq_amax_method m, rq_err *err);
/* Amax of counts by a method that is not max, already checked. `top`: the largest magnitude, for where a search finds nothing. RQ_NO_MEMORY. */
rq_status rq_calibrator_search(const rq_histogram *h, rq_amax_method m, const rq_amax_params *p, int num_bits,
                               bool is_unsigned, bool e4m3, bool compat, float top, float *amax, rq_err *err);

#endif
