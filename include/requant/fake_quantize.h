/* requant/fake_quantize.h — what a tensor becomes when it goes to codes and back, and the gradients of that.
 *
 *   code = clamp(round_half_even(x / scale) + zero_point, lo, hi)      y = (code - zero_point) * scale
 *
 * Systems compute this in ways that differ in the last bit and on ties; `rule` says which (docs/numerics.md). Shapes, strides and memory:
 * x, y, dy, dx have one shape; y may be x and dx may be dy (in place), otherwise they do not overlap. F32 everywhere; F64, F16 and BF16
 * for x and y of one type, computed in f32 (F64: in f64, but for float types) and rounded once. Work is cut in pieces that do not depend on the number of threads. */
#ifndef REQUANT_FAKE_QUANTIZE_H
#define REQUANT_FAKE_QUANTIZE_H

#include <requant/exec.h>
#include <requant/qparams.h>
#include <requant/qtype.h>
#include <requant/strided.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_fq_rule {
    RQ_FQ_DIVIDE,     /* x / scale: ONNX's definition, and how weights are quantized after training in Core ML Tools */
    RQ_FQ_RECIPROCAL, /* x * (1 / scale), both in f32: PyTorch */
    RQ_FQ_MULTIPLIER, /* x * m, y = code / m; scale[] holds the multipliers m = qmax / amax: pytorch-quantization */
    RQ_FQ_MULTIPLIER_RECIPROCAL, /* x * m, y = code * (1 / m): float types in ModelOpt */
} rq_fq_rule;

typedef struct rq_fq {
    rq_qtype type; /* of up to 16 bits; or F8E4M3FN, F8E5M2: then x over the scale is rounded to the float grid */
    rq_fq_rule rule;
    int axis;                  /* channel axis, or RQ_PER_TENSOR */
    int64_t block;             /* 0, or indices of `axis` that share a scale (rq_qparams) */
    int64_t n;                 /* scales */
    const float *scale;        /* [n] */
    const int32_t *zero_point; /* [n] within lo..hi; NULL: zeros */
    /* [n] real zero points in place of zero_point, or NULL: rne(fma(x, 1 / scale, zero_point)), y through f64, as PyTorch */
    const float *zero_point_f;
    bool zero_point_inside; /* round after the zero point was added: ties differ where it is odd */
    /* PyTorch's way with NaN, infinities and |x / scale| >= 2^63: the lowest code, no gradient. Otherwise NaN stays NaN (no
     * gradient) and infinities saturate to the end on their side. */
    bool compat;
} rq_fq;

/* Does f fit a tensor of this shape: type, axis, n, scales finite and positive (where a rule takes reciprocals, with finite ones), zero points within lo..hi
 * (compat: any scale, zero points within 2^23)? RQ_BAD_ARG, RQ_BAD_DTYPE, RQ_BAD_SHAPE, RQ_NUMERIC (a scale, a real zero point); the
 * sentence has both numbers. */
RQ_API rq_status rq_fq_check(const rq_fq *f, const rq_shape *shape, rq_err *err);

/* y = fake_quantize(x). mask (NULL, or U8 of x's shape): 1 where the rounded code lay in lo..hi before clamping, which is
 * where the gradient passes. RQ_BAD_SHAPE, RQ_BAD_DTYPE, and what rq_fq_check says. */
RQ_API rq_status rq_fake_quantize(rq_exec *e, const rq_strided *y, const rq_strided *mask, const rq_strided *x,
                                  const rq_fq *f, rq_err *err);

/* Straight-through: dx = dy where the rounded code of x lies in lo..hi, else dy * 0, so that NaN in dy is seen (Bengio et al.,
 * arXiv:1308.3432; PyTorch's fake_quantize_*_affine backward). Float types: where |x / scale| is not past the largest number. By x,
 * or by the mask of the forward pass (not 0: passes). Errors as above. */
RQ_API rq_status rq_fake_quantize_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                                           const rq_fq *f, rq_err *err);
RQ_API rq_status rq_fake_quantize_backward_mask(rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                                const rq_strided *mask, rq_err *err);

/* codes (of type.dtype, created by the caller with x's shape; packed types too) of x, and reals of codes. Row-major codes. Integer
 * types by any rule, NaN becomes lo; float types hold the bits of their numbers. Reals of the codes of x are what rq_fake_quantize
 * gives, but for NaN and the sign of zeros. Errors as above. */
RQ_API rq_status rq_fq_quantize(rq_exec *e, rq_tensor *codes, const rq_strided *x, const rq_fq *f, rq_err *err);
RQ_API rq_status rq_fq_dequantize(rq_exec *e, const rq_strided *y, const rq_tensor *codes, const rq_fq *f, rq_err *err);

/* Codes as one integer each <-> packed: 4 bit: element 0 in the low nibble; 2 bit: in the lowest two bits; row-major without
 * padding but the last byte's. dst and src have one shape; one is S8 or U8, the other S4 U4 S2 U2 of the same sign.
 * RQ_BAD_DTYPE, RQ_BAD_SHAPE; RQ_NUMERIC: a code does not fit (which one is said). */
RQ_API rq_status rq_fq_pack(rq_tensor *dst, const rq_tensor *src, rq_err *err);
RQ_API rq_status rq_fq_unpack(rq_tensor *dst, const rq_tensor *src, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
