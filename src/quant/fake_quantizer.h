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
    bool relu;          /* a forward is of max(x, 0), with the mask of rq_fake_quantize_relu */
    bool again;         /* a forward is repeated: scale and zero point stay */
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
    /* With fake quantization on. mask: as rq_fake_quantize, of rows that have one; NULL: not wanted. */
    rq_status (*forward)(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *mask,
                         const rq_strided *x, rq_err *err);
    bool masks; /* backward needs the mask alone, not x */
    rq_status (*backward)(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                          const rq_strided *x, rq_err *err);
    rq_status (*qparams)(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err);
} rq_fake_quantizer_row;

extern const rq_fake_quantizer_row rq_fake_quantizer_standard, rq_fake_quantizer_fused, rq_fake_quantizer_fixed,
    rq_fake_quantizer_learnable, rq_fake_quantizer_own;

/* ---- for graphs that are trained: one object may stand at several places of a network, each with a backward of its own ---- */

/* What one forward leaves for its own backward, and for doing it again. Arrays are the caller's. */
typedef struct rq_fake_quantizer_pass {
    bool quantized; /* else y was x */
    bool
        relu; /* x is the output of a Relu whose backward is done here, too: by the mask of rq_fake_quantize_relu. Set before forward */
    int n;    /* scales that were in force */
    int room; /* of the two arrays: rq_fake_quantizer_pass_room */
    float *scale, *zero_point;
    uint8_t *
        mask; /* of x's shape, row-major; NULL: backward gets x, which it must where rq_fake_quantizer_masks is false */
} rq_fake_quantizer_pass;

/* Does its backward go by the mask? */
bool rq_fake_quantizer_masks(const rq_fake_quantizer *q);
/* How many scales it may have for x of this shape. */
int rq_fake_quantizer_pass_room(const rq_fake_quantizer *q, const rq_shape *x);
/* rq_fake_quantizer_forward, and *p. again: with what is in *p, of the first time; nothing is observed, only y and the mask are written. */
rq_status rq_fake_quantizer_forward_pass(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                                         rq_fake_quantizer_pass *p, bool again, rq_err *err);
/* dx from dy, and the x of that forward where the mask is not enough. */
rq_status rq_fake_quantizer_backward_pass(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                          const rq_strided *x, rq_fake_quantizer_pass *p, rq_err *err);

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
