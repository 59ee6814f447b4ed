/* kernels/float_dnnl_grad.h — what float_dnnl_grad.c makes and float_dnnl_grad_run.c runs; only they include it.
 *
 * One convolution relates three tensors, s [batch][channels][in], w and t [batch][filters][out]; each of them is computed from the other
 * two: t by a forward, the gradient of s by a backward-data, that of w by a backward-weights. A transposed convolution is the same
 * triple read from the other end: what it takes is t, what it makes is s, so its gradients are a forward and a backward-weights.
 *
 * The batch is cut into pieces of a few images, which stay in a core's cache while they are brought into the order that the primitive
 * wants; where there are few images or many weights, channels are cut too. Every piece of the batch makes a gradient of the weights
 * of its own; they are added in order. */
#ifndef RQ_KERNELS_FLOAT_DNNL_GRAD_H
#define RQ_KERNELS_FLOAT_DNNL_GRAD_H

#include "kernels/float_dnnl.h"
#include "kernels/float_dnnl_base.h"

enum { S, W, T, N_SIDES };

/* One of the three tensors, in one piece. */
typedef struct side {
    md plain;              /* as it lies outside */
    md_ref want;           /* as the primitive wants it; owned by pd */
    dnnl_primitive_t move; /* between the two; NULL: they are one */
    size_t bytes;          /* of `want`, when moved */
} side;

/* A primitive that computes side `out` from the two others. */
typedef struct maker {
    int out;
    int64_t cuts; /* of the channels (filters, groups) */
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t run;
    side side[N_SIDES];
    md_ref pad;
    size_t pad_bytes;
} maker;

enum { DATA, WEIGHTS, N_MAKERS };

struct rq_float_dnnl_grad {
    rq_conv_geom g;         /* of the convolution, never transposed */
    bool transposed;        /* what was asked for */
    unsigned have;          /* RQ_CONV_GRAD_X, _W */
    int64_t images, pieces; /* of a piece; of the batch */
    bool tail;              /* the last has fewer */
    int64_t area[N_SIDES];  /* of one channel; W: the taps */
    int64_t cuts[N_MAKERS];
    dnnl_engine_t engine;
    maker maker[2][N_MAKERS]; /* of full pieces; of the last one, where it is smaller */
    int slots;
};

/* Cuts of the channels that a piece of the batch has, at most. */
static inline int64_t most_cuts(const rq_float_dnnl_grad *c)
{
    return c->cuts[DATA] > c->cuts[WEIGHTS] ? c->cuts[DATA] : c->cuts[WEIGHTS];
}

#endif
