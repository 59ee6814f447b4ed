/* requant/learned_quantize.h — fake quantization whose scale and zero point are learned: forward, and three gradients.
 *
 *   y = (q - z) * s,   q = clamp(code, lo, hi),   z = clamp(rne(zero_point), lo, hi)
 *
 * The two rules differ in how a code comes about:
 *
 *   TORCH   code = rne(x * (1 / s)) + z     PyTorch's _fake_quantize_learnable_per_{tensor,channel}_affine
 *   LSQ     code = rne(x / s + z)           LSQ and LSQ+ as Core ML Tools has them: ties differ where z is odd
 *
 * Rounding is differentiated as the identity, clamping as what it is. "Inside" means lo <= code <= hi before clamping; the ends
 * themselves, and x on a tie whose code is one of them, are inside. With u the gradient of y and g the grad_factor:
 *
 *                       inside                                outside
 *   dx                  u                                     0
 *   dscale       sum    g u ((q - z) - x / s)                 g u (q - z)
 *   dzero_point  sum    0                                     -g u s
 *
 * LSQ: Esser et al., "Learned step size quantization", ICLR 2020, arXiv:1902.08153: equation 3 is dscale (there z = 0), section 2.2 the
 * factor g. LSQ+: Bhalgat et al., arXiv:2004.09576: the offset and its gradient (section 3.1; there beta = -z s). Between rounding
 * points that is the exact derivative of (code - z) s with the rounding error code - x / s - z held; at a tie x belongs to
 * the even code (TORCH: even before z is added), as in forward.
 * NaN: y is NaN, no gradient. Infinities saturate and have the gradients of what lies outside. */
#ifndef REQUANT_LEARNED_QUANTIZE_H
#define REQUANT_LEARNED_QUANTIZE_H

#include <requant/exec.h>
#include <requant/qparams.h>
#include <requant/qtype.h>
#include <requant/strided.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_learned_rule { RQ_LEARNED_TORCH, RQ_LEARNED_LSQ, RQ_N_LEARNED_RULES } rq_learned_rule;

typedef struct rq_learned {
    rq_qtype type; /* integers of up to 16 bits */
    rq_learned_rule rule;
    int axis;                /* channel axis of x, or RQ_PER_TENSOR */
    int64_t n;               /* scales: 1, or the size of that axis */
    const float *scale;      /* [n] normal, positive */
    const float *zero_point; /* [n] reals; NULL: zeros */
    float grad_factor; /* of dscale and dzero_point; 1, or rq_learned_grad_factor; 0 or not finite: backward refuses */
    /* The originals to the number. TORCH: backward rounds after z was added although forward rounds before; per tensor it takes
     * clamp(zero_point + 0.5) without its fraction for z; NaN, infinities and |code| >= 2^63 lie below all codes, in forward too
     * (docs/torch-facts.md 2.3). LSQ: s is (s - s g) + s g in f32, in both directions (docs/torch-facts.md 2.4). */
    bool compat;
} rq_learned;

/* Does l fit a tensor of this shape? RQ_BAD_DTYPE: a float type, or more than 16 bits; RQ_BAD_ARG (a rule that is none, no scales), RQ_BAD_SHAPE (axis, n);
 * RQ_NUMERIC: a scale that is not a normal positive number, or a zero point that is not finite. The sentence has the numbers. */
RQ_API rq_status rq_learned_check(const rq_learned *l, const rq_shape *shape, rq_err *err);

/* y = what the table says of x: F32, any strides, one shape; y may be x. RQ_BAD_DTYPE, RQ_BAD_SHAPE, what rq_learned_check says,
 * RQ_NO_MEMORY. */
RQ_API rq_status rq_learned_quantize(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_learned *l,
                                     rq_err *err);

/* dx (or NULL), dscale[n] and dzero_point[n] (each may be NULL) from u = dy and the x of forward; overwritten, not added to. F32, any
 * strides, one shape; dx may be dy. Terms are f32, sums f64 in one order that depends on the shape alone: the same bits for
 * every number of threads, instruction set and layout. An empty tensor has sums of 0. Errors as above. */
RQ_API rq_status rq_learned_quantize_backward(rq_exec *e, const rq_strided *dx, float *dscale, float *dzero_point,
                                              const rq_strided *dy, const rq_strided *x, const rq_learned *l,
                                              rq_err *err);

/* g = 1 / sqrt(N hi): LSQ section 2.2 (hi <= 0: -lo in its place). N is the number of elements of x; for LSQ and per channel those that share a
 * scale, for TORCH all of them even then. An empty tensor: 1. */
RQ_API float rq_learned_grad_factor(rq_learned_rule rule, const rq_qtype *type, const rq_shape *shape, int axis);

/* z of a real zero point: clamp(rne(zero_point), lo, hi); NaN: lo. */
RQ_API int32_t rq_learned_zero_point(const rq_qtype *type, float zero_point);

#ifdef __cplusplus
}
#endif
#endif
