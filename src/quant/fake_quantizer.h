/* quant/fake_quantizer.h — what is behind an rq_fake_quantizer: one row of functions per kind. */
#ifndef RQ_QUANT_FAKE_QUANTIZER_H
#define RQ_QUANT_FAKE_QUANTIZER_H

#include "requant/fake_quantizer.h"

struct rq_fake_quantizer {
    rq_fake_quantizer_cfg cfg;
    const struct rq_fake_quantizer_row *row;
    rq_observer *observer; /* NULL: OWN */
    rq_qtype type;         /* codes, reduced where that was asked for */
    bool observer_on, fake_quant_on;
    bool learning;      /* LEARNABLE: in that phase */
    bool watching;      /* LEARNABLE: static observation, the parameters do not follow */
    bool requires_grad; /* LEARNABLE, compat: the flag of PyTorch's parameters */
    bool known;         /* scale and zero point are somebody's answer, not what an empty object has */
    int n, room;        /* channels, 0: not known yet; how many fit the block */
    float *scale;       /* [n]; what follows lies in the same block */
    float *zero_point, *dscale, *dzero_point;
    float *spare;  /* [2 n] */
    int32_t *code; /* [n] */
    void *state;   /* OWN */
};

typedef struct rq_fake_quantizer_row {
    const char *name;
    /* The observer saw x: bring scale and zero point up to date. NULL: they never change. */
    rq_status (*follow)(rq_fake_quantizer *q, rq_err *err);
    /* With fake quantization on. */
    rq_status (*forward)(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x, rq_err *err);
    rq_status (*backward)(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                          const rq_strided *x, rq_err *err);
    rq_status (*qparams)(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err);
} rq_fake_quantizer_row;

extern const rq_fake_quantizer_row rq_fake_quantizer_standard, rq_fake_quantizer_fused, rq_fake_quantizer_fixed,
    rq_fake_quantizer_learnable, rq_fake_quantizer_own;

/* ---- for rows ---- */

/* Make q one of n channels with the parameters of the start, where it is not. RQ_NO_MEMORY: as it was. */
rq_status rq_fake_quantizer_set_channels(rq_fake_quantizer *q, int n, rq_err *err);
/* Has the observer an answer? */
bool rq_fake_quantizer_has_seen(const rq_fake_quantizer *q);
/* Take the observer's answer, if it has one (compat: in any case). */
rq_status rq_fake_quantizer_take(rq_fake_quantizer *q, rq_err *err);
/* q->scale and q->zero_point as parameters of an exported network. */
rq_status rq_fake_quantizer_stored(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err);
/* The sentence for having seen nothing. RQ_BAD_DATA. */
rq_status rq_fake_quantizer_unseen(rq_err *err);

#endif
