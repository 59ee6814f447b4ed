/* requant/quant_desc.h — how a tensor quantizer is to quantize: QuantDescriptor of NVIDIA's pytorch-quantization 2.2.1 (docs/calibration-facts.md 7).
 *
 * A small value of the caller's: rq_quant_desc_init or rq_quant_desc_preset fills it, rq_quant_desc_release lets its amax and name go. Fields may be
 * set directly; name, axes and amax have functions that copy. Nothing here is thread-safe but reading. */
#ifndef REQUANT_QUANT_DESC_H
#define REQUANT_QUANT_DESC_H

#include <requant/calibrator.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_quant_desc {
    int num_bits;        /* 8; any from 0. What no function takes (0, 1 signed, above 16) is refused when it is used */
    bool e4m3;           /* FP8 in place of integers, the original's num_bits=(4, 3); num_bits is not looked at */
    bool fake_quant;     /* true; false: the output is codes (rq_tensor_quant) */
    bool is_unsigned;    /* false */
    bool narrow_range;   /* false: the lowest signed code is -2^(bits-1) */
    bool learn_amax;     /* false; true: clipping bounds are trained. Per tensor only */
    bool has_scale_amax; /* false; true: amax is multiplied by scale_amax whenever it is used */
    double scale_amax;   /* with has_scale_amax */
    rq_calibrator_kind calib_method; /* RQ_CALIBRATOR_MAX or _HISTOGRAM */
    int n_axes;                      /* 0: per tensor; otherwise the axes that keep an amax per index */
    int axis[RQ_MAX_RANK];           /* [n_axes]; negative ones count from the last */
    bool axis_is_list;               /* one axis in a list, which only the text forms show */
    rq_tensor amax;                  /* F32, one number (rank 0) or many; dtype NONE: none. Owned */
    char *name;                      /* NULL: none. Owned */
} rq_quant_desc;

/* The defaults above. Nothing is allocated. */
RQ_API void rq_quant_desc_init(rq_quant_desc *d);
RQ_API void rq_quant_desc_release(rq_quant_desc *d); /* becomes the defaults */
/* *dst (overwritten) becomes a copy. RQ_NO_MEMORY: it then has the defaults. */
RQ_API rq_status rq_quant_desc_copy(rq_quant_desc *dst, const rq_quant_desc *src);
/* Every field equal, amax element by element (NaN equals nothing)? -1 and the same axis counted from the front differ. */
RQ_API bool rq_quant_desc_equal(const rq_quant_desc *a, const rq_quant_desc *b);

/* Copy n axes (0..RQ_MAX_RANK); RQ_BAD_ARG: more. One axis set by set_axis is "axis=0" in text, by set_axes "axis=(0,)". */
RQ_API rq_status rq_quant_desc_set_axes(rq_quant_desc *d, const int *axis, int n, rq_err *err);
RQ_API void rq_quant_desc_set_axis(rq_quant_desc *d, int axis);
/* Copy amax, f32 of this shape (NULL: one number); amax NULL: none. RQ_NO_MEMORY: d is as it was. */
RQ_API rq_status rq_quant_desc_set_amax(rq_quant_desc *d, const float *amax, const rq_shape *shape);
RQ_API rq_status rq_quant_desc_set_name(rq_quant_desc *d, const char *name); /* NULL: none; the same */
/* FP8 of so many bits: 4 and 3 only. RQ_BAD_ARG. */
RQ_API rq_status rq_quant_desc_set_float(rq_quant_desc *d, int exponent_bits, int mantissa_bits, rq_err *err);

/* Is it one that a quantizer takes? RQ_BAD_ARG: num_bits negative; axes with learn_amax ("axis is ignored and must be None when learn_amax is
 * true"), one twice; learn_amax with several amaxs; a calib_method that is neither; scale_amax not finite. */
RQ_API rq_status rq_quant_desc_check(const rq_quant_desc *d, rq_err *err);

/* The predefined descriptors. All have 8 bits, fake, full range, max calibration; weights of transposed convolutions lie [in, out / groups, ...], so their
 * axis is 1. */
typedef enum rq_quant_desc_kind {
    RQ_QUANT_DESC_8BIT_PER_TENSOR,
    RQ_QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR,
    RQ_QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL,
    RQ_QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL,
    RQ_QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL,
    RQ_QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW,
    RQ_QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL,
    RQ_QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL,
    RQ_QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL,
    RQ_N_QUANT_DESCS
} rq_quant_desc_kind;
RQ_API rq_quant_desc rq_quant_desc_preset(rq_quant_desc_kind kind); /* nothing is allocated */
RQ_API const char *
rq_quant_desc_preset_name(rq_quant_desc_kind kind); /* "QUANT_DESC_8BIT_PER_TENSOR" ...; "?" for none */
/* From that name. RQ_BAD_ARG. */
RQ_API rq_status rq_quant_desc_preset_parse(rq_quant_desc_kind *out, const char *name, rq_err *err);

/* The three text forms: at most n bytes with the NUL go to buf; the answer is the length of the whole text, or -1 when memory is out.
 *
 * As the original prints itself: "QuantDescriptor(8bit fake axis= per-tensor)", with a name "w: (8bit fake axis=0)"; "full_range" where amax is given
 * and narrow_range is not (there: wherever amax is given). */
RQ_API int64_t rq_quant_desc_text(const rq_quant_desc *d, char *buf, size_t n);
/* YAML, keys in alphabetic order: every field, axis as number or list, num_bits "e4m3" for FP8. compat: as the original, num_bits and name, and of the others only what differs
 * from the default; never narrow_range and calib_method, which do not survive there; FP8 as the list [4, 3]. Of a name that is not UTF-8, U+FFFD stands for each byte of no character. */
RQ_API int64_t rq_quant_desc_to_yaml(const rq_quant_desc *d, bool compat, char *buf, size_t n);
/* *d (overwritten) from either form; what is not said has its default. RQ_BAD_ARG: not YAML, a key that it has not ("Unused keys: ..."), a value of the wrong kind, or what
 * rq_quant_desc_check says; RQ_NO_MEMORY. Then d has the defaults. */
RQ_API rq_status rq_quant_desc_from_yaml(rq_quant_desc *d, const char *text, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
