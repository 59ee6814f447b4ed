/* kernels/dwconv_grad.h — the gradient of a depthwise convolution's weights, in vectors whatever kernel, stride and dilation are. */
#ifndef RQ_KERNELS_DWCONV_GRAD_H
#define RQ_KERNELS_DWCONV_GRAD_H

#include "kernels/conv_f32.h"

/* One channel on either side of each group, and of a size that kernels/planes lays out? */
bool rq_dwconv_grad_fits(const rq_conv_geom *g);
/* Bytes of scratch for a pool of that many threads. */
size_t rq_dwconv_grad_scratch(const rq_conv_geom *g, int threads);
/* dw [out_ch][taps] = sum over images and positions of dy [batch][out_ch][out] times what the tap sees of x [batch][in_ch][in]. A sum is one of
 * kernels/batch_norm.h: 16 lanes, f32 within 256 elements, else double. The same bits on every instruction set, with any number of
 * threads; threads is what scratch was asked for. */
void rq_dwconv_grad_run(const rq_kernels *k, const rq_conv_geom *g, float *dw, const float *dy, const float *x,
                        void *scratch, int threads, rq_threads *t);

#endif
