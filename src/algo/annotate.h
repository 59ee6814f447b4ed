/* algo/annotate.h — a placement and the ranges of its groups become annotations, codes of weights and biases. */
#ifndef RQ_ALGO_ANNOTATE_H
#define RQ_ALGO_ANNOTATE_H

#include "algo/place.h"
#include "quant/calibrate.h"

/* What calibration says about a value of the placement's graph. */
typedef struct rq_annotate_range {
    rq_range r;
    const char *method; /* "mse", "percentile 99.99" ...; lives during the call */
    bool seen;          /* at least one finite element */
} rq_annotate_range;
typedef rq_annotate_range (*rq_annotate_range_fn)(void *arg, rq_id value, const rq_settings *s);

/* Annotate g, which is the graph that p was made for (or a copy: ids are the same). A clamp is removed where the codes'
 * range ends at its bounds, and the maker of its input then makes its output. On error g is half done.
 * What was noticed goes to notes (may be NULL). RQ_NO_MEMORY, RQ_NUMERIC: a weight that is not finite. */
rq_status rq_annotate(rq_graph *g, const rq_placement *p, rq_annotate_range_fn range, void *arg, const rq_kernels *k,
                      rq_notes *notes, rq_err *err);

/* algo/bias.c: the least scale of a weight channel with which a bias b, stored as s32 with scale x_scale * it, is not
 * clipped (docs/onnx-facts.md 4.7): 2 |b| / (2^32 - 2) / x_scale, with a little to spare (compat: as much as the other does);
 * 0 for b = 0. */
double rq_bias_least_scale(double b, double x_scale, rq_compat compat);
/* Constant `bias` of node (input 2) becomes s32 codes, annotated with derived parameters. g as above; x and w are annotated. */
rq_status rq_bias_quantize(rq_graph *g, rq_id node, rq_id bias, rq_notes *notes, rq_err *err);

/* Put codes of constant input i of node, annotated with entry `quant`, in its place; other users of the constant keep the
 * reals. */
rq_status rq_annotate_constant(rq_graph *g, rq_id node, int i, const rq_tensor *codes, rq_id quant, rq_err *err);

#endif
