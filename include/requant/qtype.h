/* requant/qtype.h — what a tensor is quantized to: where codes are stored, which of them are used, and how scales are shared.
 *
 * An integer type is a storage and a range inside it, so that 7 bits in a byte (reduce_range), -127..127 (narrow range) and
 * 3 bits in a nibble are all the same thing. Float types (E4M3, E5M2) are emulated in f32. */
#ifndef REQUANT_QTYPE_H
#define REQUANT_QTYPE_H

#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_qtype {
    rq_dtype dtype; /* storage: S8 U8 S16 U16 S32 S4 U4 S2 U2, or F8E4M3FN, F8E5M2 */
    int32_t lo, hi; /* codes in use (quant_min, quant_max), lo < hi; 0, 0 for float types */
} rq_qtype;

/* All codes of an integer storage; a float type. */
RQ_API rq_qtype rq_qtype_of(rq_dtype d);
/* `bits` bits, 2..8 or 9..16, in the smallest storage that holds them: signed -2^(b-1)..2^(b-1)-1 (narrow: from -2^(b-1)+1),
 * unsigned 0..2^b-1 (narrow changes nothing). RQ_BAD_ARG. */
RQ_API rq_status rq_qtype_bits(rq_qtype *out, int bits, bool is_signed, bool narrow, rq_err *err);
/* Codes lo..hi of storage d. RQ_BAD_ARG: lo >= hi, or outside of the storage; RQ_BAD_DTYPE: d holds no codes. */
RQ_API rq_status rq_qtype_range(rq_qtype *out, rq_dtype d, int64_t lo, int64_t hi, rq_err *err);
/* PyTorch's reduce_range: both ends halved, rounded down (-127 becomes -64). */
RQ_API rq_qtype rq_qtype_reduced(const rq_qtype *t);
/* Bits that lo..hi needs: the least b with -2^(b-1) <= lo, hi < 2^(b-1) (signed), hi < 2^b (lo >= 0). 8 for float types. */
RQ_API int rq_qtype_width(const rq_qtype *t);
RQ_API bool rq_qtype_is_signed(const rq_qtype *t); /* of the storage */
RQ_API bool rq_qtype_is_float(const rq_qtype *t);
/* Is it one of the above, with lo..hi inside the storage? The sentence says what is wrong. RQ_BAD_DTYPE, RQ_BAD_ARG. */
RQ_API rq_status rq_qtype_check(const rq_qtype *t, rq_err *err);
/* From "s8", "u4", "int8", "uint4", "qint8", "quint8", "qint32", "quint4x2", "quint2x4", "torch.qint8", "e4m3", "fp8_e4m3", "e5m2",
 * "int6" (any width 2..16), any case, each with an optional range: "s8[-127,127]". RQ_BAD_ARG: another text. */
RQ_API rq_status rq_qtype_parse(rq_qtype *out, const char *text, rq_err *err);
enum { RQ_QTYPE_TEXT = 48 };
/* "s8", "s8[-127,127]": what rq_qtype_parse reads. Returns buf. */
RQ_API const char *rq_qtype_text(const rq_qtype *t, char *buf, size_t n);

/* How scales and zero points are shared and chosen: PyTorch's qscheme. */
typedef enum rq_qscheme {
    RQ_QSCHEME_PER_TENSOR_AFFINE,
    RQ_QSCHEME_PER_TENSOR_SYMMETRIC,
    RQ_QSCHEME_PER_CHANNEL_AFFINE,
    RQ_QSCHEME_PER_CHANNEL_SYMMETRIC,
    RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS, /* zero points are real numbers; embeddings */
    RQ_N_QSCHEMES
} rq_qscheme;
RQ_API const char *rq_qscheme_name(rq_qscheme s); /* "per_tensor_affine" ...; "?" for none */
/* From that name, with or without "torch." before it. RQ_BAD_ARG. */
RQ_API rq_status rq_qscheme_parse(rq_qscheme *out, const char *text, rq_err *err);
RQ_API bool rq_qscheme_is_per_channel(rq_qscheme s);
RQ_API bool rq_qscheme_is_symmetric(rq_qscheme s);

#ifdef __cplusplus
}
#endif
#endif
