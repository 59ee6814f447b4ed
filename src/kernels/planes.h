/* kernels/planes.h — the input of a convolution, laid out so that what one tap of the kernel sees is a run of numbers.
 *
 * The input plane of a channel is copied once with its padding around it, and for a stride s with rows and columns sorted
 * by their position modulo s, as far as taps see them. Then every tap of the kernel reads the plane at a fixed distance, whatever kernel, stride
 * and dilation are, and an output row is a run of `out[2]` elements, the next one `pitch` further on: output rows can
 * be taken together, with a few elements of nothing between them. */
#ifndef RQ_KERNELS_PLANES_H
#define RQ_KERNELS_PLANES_H

#include "kernels/conv_f32.h"

typedef struct rq_planes {
    int64_t phases[2];    /* rows and columns at these positions modulo the stride, counted from 0, are kept */
    int64_t rows, pitch;  /* per phase of the last two axes: rows, and elements from row to row */
    int64_t column_phase; /* elements from one column phase to the next */
    int64_t row_phase;    /* and from one row phase to the next */
    int64_t plane;        /* and from one position of the first axis to the next */
    int64_t total, sums;  /* elements of the padded plane; of the sums, garbage between rows included */
} rq_planes;

/* Elements of the padded input that outputs reach along axis d. */
int64_t rq_planes_reach(const rq_conv_geom *g, int d);
void rq_planes_init(rq_planes *l, const rq_conv_geom *g);
/* One channel x [in] to `to`, l->total elements of it. */
void rq_planes_fill(const rq_planes *l, const rq_conv_geom *g, float *to, const float *x);
/* Where a tap finds what the first output of the first output plane needs. */
int64_t rq_planes_tap(const rq_planes *l, const rq_conv_geom *g, int64_t z, int64_t row, int64_t column);

#endif
