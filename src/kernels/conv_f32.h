/* kernels/conv_f32.h — float convolutions: the shape of one, any of them, and two kinds that have faster ways:
 * depthwise ones, and transposed ones whose windows do not overlap. */
#ifndef RQ_KERNELS_CONV_F32_H
#define RQ_KERNELS_CONV_F32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"
#include "kernels/kernels.h"

/* A convolution, or a transposed one. Three spatial axes always; missing ones are in front, with size 1. */
typedef struct rq_conv_geom {
    int nd;                               /* spatial axes in use, 1..3: the last nd of the arrays */
    int64_t batch, groups, in_ch, out_ch; /* channels in all, not per group */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
    int64_t pad_lo[3], pad_hi[3]; /* may be negative when transposed */
    bool transposed;              /* weights [in_ch][out_ch/groups][kernel], else [out_ch][in_ch/groups][kernel] */
} rq_conv_geom;

/* Drop axes along which there is one position and nothing to choose: a column [512][1] is a row [512], and everybody is
 * fast along the last axis. */
void rq_conv_geom_squeeze(rq_conv_geom *g);

/* What is done to outputs while they are in the cache: y = f(y + add; p, q). halves: y is rounded to fp16 before the sum and before f. */
typedef struct rq_conv_after {
    bool halves;
    const float *add; /* of y's shape; NULL: nothing */
    rq_map_fn f;      /* NULL: none */
    float p, q;
} rq_conv_after;

/* To elements at..at+n-1 of y. a may be NULL: nothing to do. */
void rq_conv_after_run(const rq_kernels *k, const rq_conv_after *a, float *y, int64_t at, int64_t n);

/* ---- any ---- */

typedef struct rq_conv_f32 rq_conv_f32;

/* Get ready to convolve; k must live as long. w: the weights when they are constant (they may be packed then, below; k->library may keep another form
 * of them), else NULL. threads: of the pool that will run it. All sizes are at least 1. RQ_NO_MEMORY; RQ_INTERNAL:
 * oneDNN failed. */
rq_status rq_conv_f32_create(rq_conv_f32 **out, const rq_kernels *k, const rq_conv_geom *g, const float *w, bool bias,
                             int threads);
void rq_conv_f32_destroy(rq_conv_f32 *c); /* NULL is fine */
/* Bytes that rq_conv_f32_run needs at `scratch`, 64-byte aligned. */
size_t rq_conv_f32_scratch(const rq_conv_f32 *c);
/* Bytes of constant weights as tiles read them, and these made, 64-byte aligned; 0: they are read as they are. */
size_t rq_conv_f32_weights(const rq_conv_f32 *c);
void rq_conv_f32_pack(const rq_conv_f32 *c, float *to, const float *w);
/* y [batch][out_ch][out] = conv(x [batch][in_ch][in], w) + bias [out_ch]. Each output is one chain of fused multiply-adds
 * that starts at its bias (0 without) and takes the taps in the order of the weights: input channel, then kernel axes;
 * padding takes part as zeros (a transposed one: kernels/phases_f32.h). The same bits on every instruction set, with any number of threads; k->library: oneDNN's order
 * instead. w is what rq_conv_f32_pack made, where rq_conv_f32_weights is not 0. after: may be NULL. */
rq_status rq_conv_f32_run(const rq_conv_f32 *c, float *y, const float *x, const float *w, const float *bias,
                          const rq_conv_after *after, void *scratch, rq_threads *t);
/* How it computes: "library", "pixels", "planes" or "phases" (strips), "pixels turned", "planes turned" (blocks of pixels),
 * "plain" (loops of double); for tests and profiles. */
const char *rq_conv_f32_how(const rq_conv_f32 *c);

/* ---- depthwise: one input channel per group ---- */

bool rq_dwconv_f32_fits(const rq_conv_geom *g);
/* Bytes of scratch for a pool of that many threads. */
size_t rq_dwconv_f32_scratch(const rq_conv_geom *g, int threads);
/* y [batch][out_ch][out] = conv(x, w) + bias (or NULL). The same bits on every instruction set, with any number of threads;
 * threads is what scratch was asked for. */
void rq_dwconv_f32_run(const rq_kernels *k, const rq_conv_geom *g, float *y, const float *x, const float *w,
                       const float *bias, const rq_conv_after *after, void *scratch, int threads, rq_threads *t);

/* ---- transposed ---- */

bool rq_deconv_f32_fits(const rq_conv_geom *g);
size_t rq_deconv_f32_scratch(const rq_conv_geom *g, int threads);
/* RQ_INTERNAL: oneDNN failed. */
rq_status rq_deconv_f32_run(const rq_kernels *k, const rq_conv_geom *g, float *y, const float *x, const float *w,
                            const float *bias, void *scratch, int threads, rq_threads *t);

/* ---- what a convolution is, in loops of double ---- */

void rq_conv_f32_plain(const rq_conv_geom *g, float *y, const float *x, const float *w, const float *bias,
                       rq_threads *t);

#endif
