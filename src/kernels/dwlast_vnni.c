/* kernels/dwlast_vnni.c — depthwise rows with s8 weights on AVX-512 VNNI: vpdpbusd multiplies four taps and does not saturate. */
#include "kernels/kernels_isa.h"

#ifdef __AVX512VNNI__

#define KR 4
#define DOT(OP, s, c, w) OP(dpbusd_epi32)(s, c, w)
#include "kernels/dwlast_zmm.h"

const rq_dwlast_isa rq_dwlast_vnni = {
    .name = "64x4", .kr = 4, .channels = 64, .least = 32, .vectors = 4, .taps = taps, .window = window
};

#endif
