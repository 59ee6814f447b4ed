/* algo/weights.h — the constant weights of a float graph, for the modes that choose no ranges for activations: where
 * they are, and their codes, computed once and used in as many trial graphs as it takes. */
#ifndef RQ_ALGO_WEIGHTS_H
#define RQ_ALGO_WEIGHTS_H

#include "graph/graph.h"
#include "requant/ptq.h"

/* An input of an operator where a constant is a weight. */
typedef struct rq_weight_site {
    int in;
    int channel; /* axis of output channels */
    int block;   /* axis along which blocks lie: what products sum over */
} rq_weight_site;

/* The sites of node n that hold constant f32 weights of at least two axes; at most 2. */
int rq_weight_sites(const rq_graph *g, const rq_node *n, rq_weight_site *out);

/* A weight in codes. */
typedef struct rq_weight {
    rq_id value;
    rq_weight_site site;
    rq_settings s;
    bool gates;      /* of a recurrent cell in integers: scales [dirs] per tensor, else [dirs][channels] */
    bool even;       /* blocks of one size: a size that divides the axis is taken where the one asked for does not */
    rq_tensor codes; /* dtype NONE: not computed yet */
    rq_qparams q;
    float *zero;    /* [q.n] HQQ: zeros between codes, shifted up for signed types, or NULL: q has them, rounded */
    rq_tensor fine; /* the codes for those; dtype NONE otherwise */
} rq_weight;

/* Do two uses make the same codes? */
bool rq_weight_same(const rq_weight *a, const rq_weight *b);
/* Can these settings be computed and written? RQ_BAD_ARG, with a sentence. */
rq_status rq_weight_check(const rq_settings *s, rq_err *err);
/* Would the codes with their scales take less room than the reals? */
bool rq_weight_pays(const rq_graph *g, const rq_weight *w);
/* Scales and codes, unless they are there. RQ_NUMERIC: not finite; RQ_NO_MEMORY. */
rq_status rq_weight_compute(rq_weight *w, const rq_graph *g, rq_err *err);
void rq_weight_release(rq_weight *w);

/* The block that w->s asks for; 0: none, or a channel has more of them
 * than scales should be, since the axis is short. */
int rq_weight_block(const rq_graph *g, const rq_weight *w);

#endif
