/* algo/ends.h — the parts of requant/ends.h that rq_ptq calls. */
#ifndef RQ_ALGO_ENDS_H
#define RQ_ALGO_ENDS_H

#include "algo/place.h"
#include "requant/ends.h"

/* Fold mean and standard deviation into the first layers of g, a float graph: x -> Mul -> Add -> pixels in reals -> Conv. What
 * the padding of the Conv stood for is padded before it. What is folded already stays as it is. RQ_UNSUPPORTED: an input does not begin with such a Conv. */
rq_status rq_ends_fold(rq_graph *g, const rq_ends *e, rq_err *err);
/* The value that input x is in pixels, where rq_ends_fold found it to be; else x. */
rq_id rq_ends_pixels(const rq_graph *g, rq_id x);
/* The pixels keep their own scale, whatever calibration saw. */
void rq_ends_pin(rq_placement *p, const rq_graph *g, const rq_ends *e);
/* g is annotated: its float inputs and outputs become codes. RQ_UNSUPPORTED: one of them is not annotated. */
rq_status rq_ends_strip(rq_graph *g, const rq_ends *e, rq_err *err);

#endif
