/* ops/sample.h — where GridSample and RoiAlign read an image: what forward (sample.c) and backward (sample_grad.c) share. */
#ifndef RQ_OPS_SAMPLE_H
#define RQ_OPS_SAMPLE_H

#include "ops/op.h"

/* ---- GridSample: x [N,C,spatial...], grid [N,out...,d] with coordinates in -1..1, innermost axis first ---- */

enum { RQ_SAMPLE_AXES = 3, RQ_SAMPLE_TAPS = 4 };
typedef enum rq_sample_method { RQ_SAMPLE_NEAREST, RQ_SAMPLE_LINEAR, RQ_SAMPLE_CUBIC } rq_sample_method;
typedef enum rq_sample_border { RQ_SAMPLE_ZEROS, RQ_SAMPLE_BORDER, RQ_SAMPLE_REFLECTION } rq_sample_border;

/* One axis of the image. */
typedef struct rq_sample_axis {
    int64_t n, step;
    float lo, hi; /* edges of reflection */
} rq_sample_axis;

typedef struct rq_sample_grid {
    int d; /* spatial axes */
    bool align;
    rq_sample_method method;
    rq_sample_border border;
    int64_t batch, channels, image, points; /* image, points: elements of one channel of x and of y */
    rq_sample_axis axis[RQ_SAMPLE_AXES];
} rq_sample_grid;

/* What one point is made of: the product of one tap of each axis, over all of them. */
typedef struct rq_sample_point {
    int n[RQ_SAMPLE_AXES];
    int64_t offset[RQ_SAMPLE_AXES][RQ_SAMPLE_TAPS]; /* -1: outside, which is 0 */
    float weight[RQ_SAMPLE_AXES][RQ_SAMPLE_TAPS];
    float slope[RQ_SAMPLE_AXES][RQ_SAMPLE_TAPS]; /* d weight / d coordinate of the grid */
} rq_sample_point;

void rq_sample_grid_of(const rq_op_args *a, rq_sample_grid *g);
void rq_sample_find(const rq_sample_grid *g, const float *at, rq_sample_point *p); /* at [d] */

/* ---- RoiAlign: x [N,C,H,W], rois [R,4] as x0 y0 x1 y1, batch index [R] -> [R,C,oh,ow] ---- */

typedef struct rq_sample_rois {
    int64_t n, images, channels, h, w, oh, ow, ratio;
    float scale;
    bool half, largest;
} rq_sample_rois;

typedef struct rq_sample_roi {
    int64_t image, gh, gw; /* samples of a bin */
    float x0, y0, bh, bw;  /* sizes of a bin */
} rq_sample_roi;

rq_status rq_sample_rois_of(const rq_op_args *a, rq_sample_rois *r); /* RQ_BAD_DATA: of an image that there is not */
void rq_sample_roi_of(const rq_op_args *a, const rq_sample_rois *r, int64_t i, rq_sample_roi *roi);
/* The four pixels that sample s of a bin is made of. */
void rq_sample_in_bin(const rq_sample_rois *r, const rq_sample_roi *roi, int64_t bin, int64_t s, int64_t at[4],
                      float weight[4]);

/* ---- sample_grad.c ---- */
rq_status rq_sample_grad_grid(const rq_op_args *a); /* x and grid */
rq_status rq_sample_grad_rois(const rq_op_args *a); /* x */

#endif
