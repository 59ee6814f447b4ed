/* requant/tensor_quant.h — the quantization functions of NVIDIA's toolkit (pytorch-quantization 2.2, and its successor TensorRT Model Optimizer), their
 * gradients, and the two they lean on: clip and reduce_amax. What the originals compute is in docs/calibration-facts.md 6; where we
 * differ, docs/numerics.md "Departures from the originals" says so.
 *
 *   qmax = 2^(bits - 1 + unsigned) - 1      qmin = 0 (unsigned), -qmax (narrow range), -qmax - 1
 *   s    = qmax / amax                      amax always maps to qmax, zero to zero; s is what this toolkit calls scale
 *   q    = clamp(round_half_even(x * s), qmin, qmax)      y = q / s
 *
 * Element types: x and y (dx, dy and x) are of one type, F32, F64, F16 or BF16. F64 computes in f64, with s as precise as amax is; the others in f32,
 * rounded once at the end. Special numbers: NaN stays NaN and -0 stays -0; an infinite x takes the code on its side. amax <= 2^-24
 * makes zeros of its part of x (the sign kept; NaN and infinities become NaN), reported with s = 1; an infinite amax has s = 0 and
 * a y of 0 / 0, a NaN amax makes NaN.
 * Shapes: y may be x and dx may be dy (in place), otherwise they do not overlap. An empty x gives an empty y.
 * Threads: any; the result depends neither on them nor on the instruction set. e and err may be NULL. */
#ifndef REQUANT_TENSOR_QUANT_H
#define REQUANT_TENSOR_QUANT_H

#include <requant/exec.h>
#include <requant/qparams.h>
#include <requant/strided.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_tensor_quant_cfg {
    int num_bits;      /* 2..16; unsigned: 1..16 */
    bool is_unsigned;  /* codes from 0; a negative x is then an error */
    bool narrow_range; /* signed: the lowest code is -qmax */
    int axis; /* where amax lies along one axis of x; negative ones but RQ_PER_TENSOR (-1) count from the last */
    bool
        compat; /* F16 as the original's CPU path: q and s are rounded to f16, then divided there. Its last bit differs in a third of
                          cases; with s above 65504 y is 0 */
} rq_tensor_quant_cfg;

/* 8 bits, signed, narrow range, per tensor: the originals' defaults of these functions (of quantizers: not narrow). */
RQ_API rq_tensor_quant_cfg rq_tensor_quant_defaults(void);

/* In all functions amax (F32, F64, F16 or BF16; any strides; not negative) is one number; or of x's rank with sizes 1 or x's (keep-dims, several
 * axes allowed); or, with cfg->axis, a row of as many numbers as x has along that axis. Where an axis is said, amax has more than one index along no other.
 * cfg NULL: the defaults.
 *
 * RQ_BAD_ARG: a field of cfg; a negative element of amax; a negative element of x that is to be unsigned. RQ_BAD_SHAPE: amax or an
 * output does not fit x; RQ_BAD_DTYPE; RQ_NO_MEMORY. On RQ_BAD_ARG, _SHAPE and _DTYPE nothing was written. */

/* q, the codes as numbers of x's type, and s (F32 or F64, as many elements as amax, row-major; may be NULL): tensor_quant.
 * RQ_NUMERIC: x is F16 and an s is above 65504, its largest number (nothing was written); otherwise as above. */
RQ_API rq_status rq_tensor_quant(rq_exec *e, const rq_strided *q, const rq_strided *s, const rq_strided *x,
                                 const rq_strided *amax, const rq_tensor_quant_cfg *cfg, rq_err *err);

/* y = q / s: fake_tensor_quant. */
RQ_API rq_status rq_fake_tensor_quant(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                                      const rq_tensor_quant_cfg *cfg, rq_err *err);

/* The same for any amax that broadcasts to x by the right-aligned rule (so that a row of numbers lies along the last axis; cfg->axis
 * is not looked at): legacy_fake_tensor_quant. */
RQ_API rq_status rq_legacy_fake_tensor_quant(rq_exec *e, const rq_strided *y, const rq_strided *x,
                                             const rq_strided *amax, const rq_tensor_quant_cfg *cfg, rq_err *err);

/* Straight-through for the three above: dx = dy where |x| <= amax (at equality too), else +0; for NaN 0. q takes dy unscaled. amax has no
 * gradient. amax is taken as rq_legacy_fake_tensor_quant takes it where it has no axis and fewer axes than x. */
RQ_API rq_status rq_tensor_quant_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                                          const rq_strided *amax, const rq_tensor_quant_cfg *cfg, rq_err *err);

/* Codes between two numbers, per tensor: fake_affine_tensor_quant.
 *   step = (hi - lo) / (2^bits - 1)      z = round(lo / step) + 2^(bits-1)
 *   y = (clamp(round(x / step) - z, -2^(bits-1), 2^(bits-1) - 1) + z) * step
 * 0 is exact where it lies between lo and hi, and the ends move to the grid. num_bits 2..16.
 * RQ_BAD_ARG: num_bits, lo >= hi or not finite, or so close that step is not a normal number; the others as above. */
RQ_API rq_status rq_fake_affine_tensor_quant(rq_exec *e, const rq_strided *y, const rq_strided *x, float lo, float hi,
                                             int num_bits, rq_err *err);
/* dx = dy where lo <= x <= hi, else +0. */
RQ_API rq_status rq_fake_affine_tensor_quant_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                                      const rq_strided *x, float lo, float hi, rq_err *err);

typedef struct rq_scaled_e4m3_cfg {
    int axis;          /* where amax lies along one axis of x, as rq_tensor_quant_cfg.axis */
    int exponent_bits; /* 4 */
    int mantissa_bits; /* 3 */
    bool modelopt;     /* the numbers of ModelOpt 0.47 on the CPU: see below */
} rq_scaled_e4m3_cfg;

/* Per tensor, 4 and 3 bits, pytorch-quantization's numbers. */
RQ_API rq_scaled_e4m3_cfg rq_scaled_e4m3_defaults(void);

/* FP8 of 4 exponent and 3 mantissa bits (E4M3FN: largest 448, no infinities), rounded half to even and saturating: scaled_e4m3.
 *   f = (1 / amax) * 448      y = e4m3(x * f) * (1 / f)      all in f32, whatever the type;  amax NULL: y = e4m3(x)
 * (with the reciprocals, as ModelOpt 0.47 computes 448 / amax and its inverse.) amax as above; cfg NULL: the defaults.
 *   by default   |x| < 2^-24 becomes +0, and so does all with amax 0
 *   modelopt     no such rule: zeros keep their sign. amax <= 2^-24 is taken as 1. Without amax nothing saturates: |x| > 464 is NaN
 * The other float type, E5M2, is a type of rq_fake_quantize. RQ_UNSUPPORTED: exponent_bits and mantissa_bits are not 4 and 3. */
RQ_API rq_status rq_scaled_e4m3(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                                const rq_scaled_e4m3_cfg *cfg, rq_err *err);
/* dx = dy where |x| <= amax (NULL: 448; modelopt: everywhere, at NaN too), else +0. */
RQ_API rq_status rq_scaled_e4m3_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                                         const rq_strided *amax, const rq_scaled_e4m3_cfg *cfg, rq_err *err);

/* y = max(min(x, hi), lo); lo and hi (floats) broadcast to x by the right-aligned rule. NaN stays. */
RQ_API rq_status rq_clip(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *lo,
                         const rq_strided *hi, rq_err *err);
/* dx = dy where lo < x < hi, else +0: at a bound the bound moves and not x. *dlo = sum of dy where x <= lo, *dhi = sum of dy where x >= hi, in f64 in a
 * fixed order; either may be NULL. RQ_BAD_SHAPE: a bound whose gradient is asked for is not a single number. */
RQ_API rq_status rq_clip_backward(rq_exec *e, const rq_strided *dx, double *dlo, double *dhi, const rq_strided *dy,
                                  const rq_strided *x, const rq_strided *lo, const rq_strided *hi, rq_err *err);

typedef struct rq_reduce_amax_cfg {
    int n_axes;            /* axes that are folded; 0: all; negative: none, so that *out is |x| */
    int axis[RQ_MAX_RANK]; /* distinct; negative ones count from the last */
    bool keepdims;         /* folded axes stay, with size 1. One number alone has rank 0 always, as in the original */
    bool compat;           /* NaN and infinities are folded as NumPy does: NaN wins. Otherwise they are only counted */
} rq_reduce_amax_cfg;

typedef struct rq_reduce_amax_info {
    uint64_t count, nan, infinite; /* finite elements, and the others */
} rq_reduce_amax_info;

/* Largest |x|, exactly; 0 where nothing was folded. *out (F64 for an F64 x, else F32) is overwritten and yours to release; cfg NULL: over
 * all; info may be NULL. RQ_BAD_ARG: an axis that x has not, one twice, or more of them than x has ("Cannot reduce more axes than tensor's dim."); RQ_BAD_SHAPE,
 * RQ_BAD_DTYPE, RQ_NO_MEMORY: *out is then an empty tensor. */
RQ_API rq_status rq_reduce_amax(rq_exec *e, rq_tensor *out, const rq_strided *x, const rq_reduce_amax_cfg *cfg,
                                rq_reduce_amax_info *info, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
