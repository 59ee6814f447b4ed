/* quant/tensor_quantizer.h — what a tensor quantizer holds, for its two halves: tensor_quantizer.c computes, tensor_quantizer_state.c keeps and prints. */
#ifndef RQ_QUANT_TENSOR_QUANTIZER_H
#define RQ_QUANT_TENSOR_QUANTIZER_H

#include "requant/tensor_quantizer.h"

struct rq_tensor_quantizer {
    rq_quant_desc desc; /* as it is now; its amax is what it started from */
    rq_calibrator *calibrator;
    bool disabled, if_quant, if_clip, if_calib, pass_through, compat;
    rq_tensor amax, pre_quant_scale; /* F32; dtype NONE: none */
    rq_tensor scale;                 /* of the last real quantization */
    float lo, hi;                    /* with desc.learn_amax */
    uint64_t bad;
};

#endif
