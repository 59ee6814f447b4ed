/* kernels/conv_grad.h — gradients of float convolutions, transposed ones too: of the input, of the weights, of the bias. */
#ifndef RQ_KERNELS_CONV_GRAD_H
#define RQ_KERNELS_CONV_GRAD_H

#include "kernels/conv_f32.h"

enum { RQ_CONV_GRAD_X = 1, RQ_CONV_GRAD_W = 2 };

typedef struct rq_conv_grad rq_conv_grad;

/* Get ready for the gradients in `want` (RQ_CONV_GRAD_*; that of the bias needs nothing); k must live as long. threads: of the pool that
 * will run it. All sizes are at least 1. RQ_NO_MEMORY; RQ_INTERNAL: oneDNN failed. */
rq_status rq_conv_grad_create(rq_conv_grad **out, const rq_kernels *k, const rq_conv_geom *g, unsigned want,
                              int threads);
void rq_conv_grad_destroy(rq_conv_grad *c); /* NULL is fine */
/* Bytes that rq_conv_grad_run needs at `scratch`, 64-byte aligned. */
size_t rq_conv_grad_scratch(const rq_conv_grad *c);
/* dx [batch][in_ch][in], dw (the shape of w), db [out_ch] from dy [batch][out_ch][out], x and w; each of the three may be NULL, and
 * those not in `want` are. All are overwritten; none overlaps another. w is read for dx, x for dw. The same bits with any number of
 * threads; k->library: sums in oneDNN's order, else the same on every instruction set. */
rq_status rq_conv_grad_run(const rq_conv_grad *c, float *dx, float *dw, float *db, const float *dy, const float *x,
                           const float *w, void *scratch, rq_threads *t);
/* How it computes what is wanted: "library", "columns" (matrix products with pixels written out), "taps" (depthwise); of the two by bit. */
const char *rq_conv_grad_how(const rq_conv_grad *c, unsigned bit);

#endif
