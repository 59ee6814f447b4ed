/* kernels/dwlast_avx512.c — depthwise rows on AVX-512 BW: two taps widened to s16 side by side, so that vpmaddwd adds them (at most 2 * 255 * 255, no
 * saturation). */
#include "kernels/kernels_isa.h"

#ifdef __AVX512BW__

#define KR 2
#define DOT(OP, s, c, w) OP(add_epi32)(s, OP(madd_epi16)(c, w))
#include "kernels/dwlast_zmm.h"

const rq_dwlast_isa rq_dwlast_avx512 = {
    .name = "64x2", .kr = 2, .channels = 64, .least = 32, .vectors = 4, .taps = taps, .window = window
};

#endif
