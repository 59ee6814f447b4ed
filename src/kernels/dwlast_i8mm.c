/* kernels/dwlast_i8mm.c — depthwise rows with s8 weights on 64-bit ARM with i8mm: usdot multiplies four taps, u8 by s8, and does not saturate. */
#ifdef __ARM_FEATURE_MATMUL_INT8
#include "kernels/kernels_isa.h"

#define KR 4
#include "kernels/dwlast_arm.h"

const rq_dwlast_isa rq_dwlast_i8mm = {
    .name = "16x4", .kr = 4, .channels = 16, .least = 16, .vectors = 4, .overlaps = true, .taps = taps, .window = window
};

#endif
