/* quant/amax_fit.h — amax against the tensor it belongs to: how many there are, along which axes, and where the one of an element lies.
 *
 * Three forms fit a tensor x: one number; x's rank with sizes 1 or x's (keep-dims); a row along an axis that is said. `loose` adds what
 * NumPy broadcasts: fewer axes than x, aligned at the right. */
#ifndef RQ_QUANT_AMAX_FIT_H
#define RQ_QUANT_AMAX_FIT_H

#include "requant/strided.h"

enum { RQ_AMAX_AXES = -2 }; /* more than one axis */

typedef struct rq_amax_fit {
    int64_t n;
    double *amax;                /* [n] row-major, as precise as f32; `wide`: as f64 */
    bool wide;                   /* x and amax are both F64 */
    int axis;                    /* the only axis of x with several amaxs, RQ_PER_TENSOR or RQ_AMAX_AXES */
    int64_t stride[RQ_MAX_RANK]; /* in amax[], per axis of x */
} rq_amax_fit;

/* axis: of x (negative from the last), or RQ_PER_TENSOR: nothing is said. f holds a copy of the numbers, yours to release.
 * RQ_BAD_ARG: a negative one, or no such axis; RQ_BAD_SHAPE; RQ_BAD_DTYPE; RQ_NO_MEMORY: f is then empty. */
rq_status rq_amax_fit_make(rq_amax_fit *f, const rq_strided *x, const rq_strided *amax, int axis, bool loose,
                           rq_err *err);
void rq_amax_fit_release(rq_amax_fit *f);

/* Numbers [f->n] that belong to the amaxs, as a tensor of x's shape with strides of 0. */
rq_strided rq_amax_fit_spread(const rq_amax_fit *f, const rq_tensor *numbers, const rq_shape *x);

/* Strides that spread v (row-major, of shape `of`) over x by the right-aligned rule. RQ_BAD_SHAPE: they do not fit; `what` names v. */
rq_status rq_amax_fit_broadcast(int64_t *stride, const rq_shape *x, const rq_strided *v, const char *what, rq_err *err);

/* axis, counted from the last where negative. RQ_BAD_ARG: x has no such axis. */
rq_status rq_amax_fit_axis(int *out, int axis, int rank, rq_err *err);

#endif
