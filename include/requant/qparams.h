/* requant/qparams.h — what the integers of a quantized tensor mean.
 *
 *   real = (code - zero_point) * scale,   code = clamp(round_half_even(real / scale) + zero_point)
 *
 * with one scale and zero point for the whole tensor, per index of one axis, or per block of `block`
 * consecutive indices along that axis (then laid out as the tensor with that axis divided by block,
 * rounded up). */
#ifndef REQUANT_QPARAMS_H
#define REQUANT_QPARAMS_H

#include <requant/qtype.h>
#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RQ_PER_TENSOR = -1 };

typedef struct rq_qparams {
    rq_dtype dtype;      /* of the codes: S8 U8 S16 U16 S32 S4 U4 S2 U2 */
    int axis;            /* channel axis, or RQ_PER_TENSOR */
    int64_t block;       /* 0, or indices of `axis` that share a scale */
    int64_t n;           /* scales; 1 when per tensor */
    float *scale;        /* [n] */
    int32_t *zero_point; /* [n] */
} rq_qparams;

/* n scales, cleared. RQ_BAD_ARG: n < 1; RQ_NO_MEMORY; then *q is zeroed. */
RQ_API rq_status rq_qparams_init(rq_qparams *q, rq_dtype d, int axis, int64_t block, int64_t n);
/* Per tensor, from one pair. */
RQ_API rq_status rq_qparams_init_one(rq_qparams *q, rq_dtype d, float scale, int32_t zero_point);
RQ_API rq_status rq_qparams_copy(rq_qparams *dst, const rq_qparams *src);
RQ_API void rq_qparams_release(rq_qparams *q);
/* Same type, axis, block, and bit-equal scales and zero points? */
RQ_API bool rq_qparams_equal(const rq_qparams *a, const rq_qparams *b);
/* The least power of two that is not below scale (2^-126 at least, 2^127 at most): no range is cut, and multiplying by it is exact.
 * NaN and what is not positive: 2^-126. */
RQ_API float rq_qparams_power_of_two(float scale);
/* Smallest and largest code. */
RQ_API void rq_qparams_limits(const rq_qparams *q, int32_t *lo, int32_t *hi);

/* ---- from a range of reals to a scale and a zero point ---- */

/* Reals that codes must cover. */
typedef struct rq_range {
    double lo, hi;
} rq_range;

/* Whose formula. lo and hi are the smallest and largest real, [Qn, Qp] the codes of the rule (rq_qparams_codes), rne rounds half to even. */
typedef enum rq_qparams_kind {
    /* PyTorch's observers, in f32 (torch-facts 1.1); lo' = min(lo, 0), hi' = max(hi, 0):
     *   symmetric      scale = max(max(-lo', hi') / ((Qp - Qn) / 2), eps), zero point 0, or the middle where Qn = 0
     *   affine         scale = max((hi' - lo') / (Qp - Qn), eps), zero point clamp(Qn - rne(lo' / scale), Qn, Qp)
     *   float qparams  scale = (hi - lo) / (Qp - Qn), 1 where that is not above eps; zero point -lo / scale, a real */
    RQ_QPARAMS_OBSERVER,
    /* PyTorch's ChooseQuantizationParams: dynamic operators, the fused fake-quantizer (torch-facts 1.2). Symmetric: scale = max(|lo| / h, hi /
     * (h - 1)), h half of the codes. In double, least scale 6.1e-5, 0.1 for a range without width. */
    RQ_QPARAMS_CQP,
    /* Core ML Tools' PostTrainingQuantizer (torch-facts 3.1): symmetric scale = 2 max(|lo|, |hi|) / (Qp - Qn) over an odd number of codes
     * (-127..127, 0..254); affine zero point rne((Qn hi' - Qp lo') / (hi' - lo')). No epsilon. */
    RQ_QPARAMS_PTQ,
    /* Core ML Tools' LayerwiseCompressor, as GPTQ's and SparseGPT's authors have it (torch-facts 3.2): scale = (hi - lo) / (Qp - Qn), symmetric
     * over +-max(|lo|, |hi|) with zero point (Qp - Qn + 1) / 2 above Qn; affine rne(-lo' / scale) above it. */
    RQ_QPARAMS_LAYERWISE,
    RQ_QPARAMS_AMAX, /* scale = max(|lo|, |hi|) / Qp, zero point 0: pytorch-quantization */
    /* ONNX Runtime's quantizer (docs/onnx-facts.md 4.5), in double: symmetric over an odd number of codes of 8 and 16 bits, the middle code
     * as zero point; affine zero point rne(Qn - lo' / scale). */
    RQ_QPARAMS_ONNX,
    RQ_N_QPARAMS_KINDS
} rq_qparams_kind;

typedef struct rq_qparams_rule {
    rq_qparams_kind kind;
    rq_qtype type; /* codes: an integer type */
    rq_qscheme scheme;
    bool custom_range; /* type.lo and type.hi were asked for, as PyTorch's quant_min and quant_max */
    bool
        reduce_range; /* use half of them: rq_qtype_reduced. OBSERVER: of 8-bit types and custom ranges only, as PyTorch */
    float eps;        /* OBSERVER: least scale, 2^-23 by default */
    bool power_of_two; /* the scale is rounded up to a power of two before the zero point is found */
    bool normal_float; /* LAYERWISE: scale = max(|lo|, |hi|), for codes that are places in a table over -1..1 */
    bool compat;       /* the original's numbers where ours differ: docs/numerics.md, "Departures from the originals" */
} rq_qparams_rule;

/* A rule with eps 2^-23 and nothing else asked for. */
RQ_API rq_qparams_rule rq_qparams_rule_of(rq_qparams_kind kind, rq_qtype type, rq_qscheme scheme);
/* The codes it uses: reduced where that is asked for; of a symmetric PTQ or ONNX rule without the one that has no negative. */
RQ_API rq_qtype rq_qparams_codes(const rq_qparams_rule *r);
/* RQ_BAD_DTYPE, RQ_BAD_ARG: a type that is not one of integers, an eps that is negative or not finite, codes of which reducing
 * leaves fewer than two. */
RQ_API rq_status rq_qparams_rule_check(const rq_qparams_rule *r, rq_err *err);

/* Scale and zero point for reals lo..hi. The scale is finite, positive and normal whatever lo and hi (a range without width has the answer that
 * the rule states, else 1), the zero point is one of the codes. zero_point may be NULL; zero_point_f is written where not NULL, the same number but for float
 * qparams, which need it (*zero_point is then its nearest code). r is one that rq_qparams_rule_check accepts.
 * RQ_NUMERIC: lo > hi, NaN, or infinite (compat: computes what the original computes from infinities). */
RQ_API rq_status rq_qparams_choose(float lo, float hi, const rq_qparams_rule *r, float *scale, int32_t *zero_point,
                                   float *zero_point_f);

#ifdef __cplusplus
}
#endif
#endif
