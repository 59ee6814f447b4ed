/* kernels/fakequant_learned.h — gradients of learned-step fake quantization, one row of elements that share a scale.
 *
 * Sums go to sixteen double lanes that the caller clears and adds up: element i of a channel goes to lane i % 16, so that no
 * result depends on vector width, nor on where rows are cut. */
#ifndef RQ_KERNELS_FAKEQUANT_LEARNED_H
#define RQ_KERNELS_FAKEQUANT_LEARNED_H

#include <stdbool.h>
#include <stddef.h>

enum { RQ_LEARNED_LANES = 16 };

typedef enum rq_learned_form {
    RQ_LEARNED_FORM_BEFORE, /* t = x * inv, v = rne(t) + zero_point; NaN has no gradient */
    RQ_LEARNED_FORM_AFTER,  /* v = rne(fma(x, inv, zero_point)); NaN and v >= 2^63 lie below all codes: PyTorch */
    RQ_LEARNED_FORM_DIVIDE, /* t = x / scale, v = rne(t + zero_point); NaN has no gradient: LSQ+ as Core ML Tools has it */
} rq_learned_form;

typedef struct rq_learned_row {
    rq_learned_form form;
    float scale, inv; /* inv = 1 / scale */
    float zero_point; /* a whole number within lo..hi */
    float lo, hi;     /* codes in use */
    bool stream;      /* as rq_fakequant.stream, of dx */
} rq_learned_row;

typedef struct rq_learned_sums {
    double dscale[RQ_LEARNED_LANES], dzero_point[RQ_LEARNED_LANES];
} rq_learned_sums;

/* n elements, the first of which is number `lane` (0..15) of its block of sixteen. With q = clamp(v, lo, hi):
 *
 *                lo <= v <= hi                                              otherwise
 *   dx           dy                                                         dy * 0
 *   dscale +=    dy * fma(q - zp, scale, -x) * inv   (DIVIDE: dy * ((q - zp) - t))     dy * (q - zp)
 *   dzero_point  nothing                                                    -dy * scale
 *
 * each in f32, left to right, then added in f64. dx may be dy. */
typedef void (*rq_learned_fn)(float *dx, rq_learned_sums *s, const float *dy, const float *x, size_t n, size_t lane,
                              const rq_learned_row *p);

#endif
