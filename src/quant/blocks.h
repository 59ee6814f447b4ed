/* quant/blocks.h — weights whose scale serves few of them: groups of reals, each with a scale and a zero of its own.
 *
 * Eight bits per channel forgive a plain range. Four bits do not: with 16 codes it matters where the ends of the range
 * are put, so the methods here look at the error that their choice leaves. Three of them repeat what ONNX Runtime's
 * MatMulNBitsQuantizer computes, number for number, for whoever must compare. */
#ifndef RQ_QUANT_BLOCKS_H
#define RQ_QUANT_BLOCKS_H

#include "quant/calibrate.h"
#include "requant/recipe.h"
#include "requant/tensor.h"

/* n groups of len reals; a short last block is padded with zeros, which cost nothing as zero is a code. */
typedef struct rq_blocks {
    int64_t n, len;
    const float *x; /* [n][len] */
    int32_t *code;  /* [n][len] */
    float *
        scale; /* [n] positive, but for RQ_WEIGHTS_ORT, symmetric: the sign of the element of largest magnitude, reversed */
    float *zero; /* [n] a code; a real number between codes for RQ_WEIGHTS_HQQ */
} rq_blocks;

/* Choose scale and zero of every group and round the reals to codes of form->dtype (S8 U8 S4 U4 S2 U2; peers' methods: unsigned).
 * x ~ (code - zero) * scale.
 *   MINMAX  the range that was seen; symmetric: +-(2^bits / 2 - 1) codes, but all of them for 4 and 2 bits (docs/onnx-facts.md 4.5)
 *   MSE     the range, not wider than that, with the least squared error; scale and ends are searched in turn
 *   ORT     MatMulNBitsQuantizer's default (docs/onnx-facts.md 2.10)
 *   RTN     its "RTN": the range without 0, in double
 *   K_QUANT its "k_quant": make_qkx2_quants of llama.cpp, the least squares of 20 stretched ranges, weighted by magnitude
 *   HQQ     its "HQQ": Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models, 2023: 20 proximal steps on
 *           the zero, all groups of the tensor stop together
 * K_QUANT and HQQ know no symmetric form: `symmetric` is ignored. RQ_NO_MEMORY. The reals must be finite. */
rq_status rq_blocks_quantize(rq_blocks *b, rq_weight_method method, const rq_code_form *form);

/* ---- blocks_peer.c ---- */
void rq_blocks_ort(rq_blocks *b, int32_t most, bool symmetric);
void rq_blocks_rtn(rq_blocks *b, int32_t most, bool symmetric);
rq_status rq_blocks_k_quant(rq_blocks *b, int32_t most);
void rq_blocks_hqq(rq_blocks *b, int32_t most);

#endif
