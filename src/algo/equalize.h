/* algo/equalize.h — even out the channels between two weighted layers without changing what they compute.
 *
 * One scale per tensor serves all channels of an activation; where some are a hundred times larger than others, the small
 * ones are left with a handful of codes. Between two layers with nothing but positively homogeneous operators (Relu, pools
 * ...) channel i can be divided by s[i] where it is made and multiplied where it is used:
 *
 *   w1[i] / s[i], b1[i] / s[i]   ->   f(x / s) = f(x) / s   ->   w2[:, i] * s[i]
 *
 * Nagel et al., Data-Free Quantization, ICCV 2019, 4.1, with what channels reach on samples in place of the range of w1,
 * since weights have a scale per channel here and only the activation suffers (as SmoothQuant, arXiv:2211.10438, eq. 4):
 *   s[i] = sqrt(a[i] / max|w2[:, i]|)   a[i]: largest magnitude seen in channel i
 *   s[i] = a[i]                         where the second layer is depthwise: its own scales take all of it
 * rounded to powers of two, so that the float model computes the same bits as before. */
#ifndef RQ_ALGO_EQUALIZE_H
#define RQ_ALGO_EQUALIZE_H

#include "graph/graph.h"

typedef struct rq_equalize_pair {
    rq_id first, second; /* nodes */
    rq_id value;         /* what the second reads; its channels are axis 1 */
    int64_t channels;
} rq_equalize_pair;

/* The pairs of a bound and inferred float graph; *pairs is freed with rq_mem_free. RQ_NO_MEMORY. */
rq_status rq_equalize_find(const rq_graph *g, rq_equalize_pair **pairs, int *n, rq_err *err);

/* How uneven the pair's channels are, from reach[channels] (largest magnitude seen): s[channels] receives the
 * factors, the result is the ratio of the largest to the smallest. Channels never active count as average ones. */
double rq_equalize_factors(const rq_graph *g, const rq_equalize_pair *p, const double *reach, double *s);

/* Divide and multiply the weights of the pair. Constants are replaced, never written. RQ_NO_MEMORY: half done. */
rq_status rq_equalize_apply(rq_graph *g, const rq_equalize_pair *p, const double *s, rq_err *err);

/* The values between the two layers, which hold other numbers now: set[value] = true. */
void rq_equalize_mark(const rq_graph *g, const rq_equalize_pair *p, bool *set);

/* Equalize all pairs whose channels differ by more than 16 times, by what their weights can reach: s[i] = sqrt(max|w1[i]| / max|w2[:, i]|),
 * Nagel et al. eq. 11, for modes whose activations keep their reals. *done pairs; marks their values in
 * set. RQ_NO_MEMORY: half done. */
rq_status rq_equalize_weights(rq_graph *g, bool *set, int *done, rq_err *err);

#endif
