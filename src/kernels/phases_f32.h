/* kernels/phases_f32.h — transposed convolution of any kind, as one ordinary convolution with stride 1 for each phase.
 *
 * Output positions with the same remainder modulo the stride meet the same taps of the kernel, and neighbours among them
 * meet neighbours of the input. So each remainder, a phase, is a product of its own taps with shifted runs of the input, like
 * any other convolution (kernels/conv_f32), dealt out over the output with the stride between. */
#ifndef RQ_KERNELS_PHASES_F32_H
#define RQ_KERNELS_PHASES_F32_H

#include "kernels/conv_f32.h"

typedef struct rq_phases_f32 rq_phases_f32;

/* As rq_conv_f32_create; g is transposed. RQ_UNSUPPORTED: too large to lay out. */
rq_status rq_phases_f32_create(rq_phases_f32 **out, const rq_kernels *k, const rq_conv_geom *g, const float *w);
void rq_phases_f32_destroy(rq_phases_f32 *p); /* NULL is fine */
size_t rq_phases_f32_scratch(const rq_phases_f32 *p);
/* Each output is one chain of fused multiply-adds from its bias on, over input channels, then those taps in ascending order
 * that have a place in the input's grid for it; beyond the input's edges they meet zeros. */
void rq_phases_f32_run(const rq_phases_f32 *p, float *y, const float *x, const float *w, const float *bias,
                       void *scratch, rq_threads *t);

#endif
