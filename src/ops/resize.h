/* ops/resize.h — what the parts of Resize share: resize.c reads attributes and sizes, resize_nearest.c moves nearest elements,
 * resize_blend.c makes weighted sums, resize_grad.c goes back. */
#ifndef RQ_OPS_RESIZE_H
#define RQ_OPS_RESIZE_H

#include "ops/op.h"

typedef enum rq_resize_coords {
    RQ_RESIZE_HALF_PIXEL,
    RQ_RESIZE_HALF_PIXEL_SYMMETRIC,
    RQ_RESIZE_PYTORCH_HALF_PIXEL,
    RQ_RESIZE_ALIGN_CORNERS,
    RQ_RESIZE_ASYMMETRIC,
    RQ_RESIZE_TF_HALF_PIXEL_FOR_NN,
    RQ_RESIZE_TF_CROP_AND_RESIZE,
    RQ_RESIZE_N_COORDS
} rq_resize_coords;

typedef enum rq_resize_rounding {
    RQ_RESIZE_ROUND_PREFER_FLOOR,
    RQ_RESIZE_ROUND_PREFER_CEIL,
    RQ_RESIZE_FLOOR,
    RQ_RESIZE_CEIL,
    RQ_RESIZE_SIMPLE,
    RQ_RESIZE_N_ROUNDINGS
} rq_resize_rounding;

typedef enum rq_resize_method {
    RQ_RESIZE_NEAREST,
    RQ_RESIZE_LINEAR,
    RQ_RESIZE_CUBIC,
    RQ_RESIZE_N_METHODS
} rq_resize_method;

typedef struct rq_resize_options {
    rq_resize_method method;
    rq_resize_coords coords;
    rq_resize_rounding rounding;
    bool antialias, exclude_outside;
    float cubic_a, extrapolation;
} rq_resize_options;

typedef struct rq_resize_axis {
    int64_t in, out;
    float scale, roi0, roi1;
} rq_resize_axis;

/* resize.c: what a->node does, of inputs whose shapes are known (in[0] may have sizes that are not where they stay) and whose other inputs
 * have data. p[rank]. RQ_BAD_GRAPH ... with a sentence. */
rq_status rq_resize_plan(const rq_op_args *a, rq_resize_options *o, rq_resize_axis *p);

/* resize_nearest.c: the input coordinate of output index i, and whether it lies outside. */
float rq_resize_coordinate(const rq_resize_axis *p, int64_t i, rq_resize_coords mode);
bool rq_resize_is_outside(float x, const rq_resize_axis *p);

/* The index that nearest takes for coordinate x. */
int64_t rq_resize_nearest(float x, const rq_resize_axis *p, rq_resize_rounding mode);
/* The method: of any type whose elements are whole bytes; p[rank]; scratch: an int64 for each index of each axis of the output. */
void rq_resize_nearest_move(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p);

/* resize_blend.c: input indices and weights of output index i, linear and cubic: their number, at most cap; and the most an axis needs. */
int rq_resize_taps(const rq_resize_axis *p, const rq_resize_options *o, int64_t i, int64_t *index, float *weight,
                   int cap);
int rq_resize_most_taps(int64_t in, int64_t out);

/* resize_grad.c: backward, of every method. */
void rq_resize_grad(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p);
size_t rq_resize_grad_scratch(const rq_op_args *a, const rq_resize_options *o);

/* resize_blend.c: linear and cubic, of f32; p[rank]. Scratch of either form. */
void rq_resize_blend(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p);
size_t rq_resize_blend_scratch(const rq_op_args *a, bool integer);
/* The same on codes of one pair of parameters: each result rounded once, in the parameters of the output. RQ_NO_MEMORY. */
rq_status rq_resize_blend_codes(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p);

#endif
