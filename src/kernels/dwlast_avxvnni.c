/* kernels/dwlast_avxvnni.c — depthwise rows with s8 weights on AVX-VNNI: vpdpbusd multiplies four taps and does not saturate. Compiled with -mavx2
 * -mavxvnni. */
#include "kernels/kernels_isa.h"

#ifdef __AVXVNNI__

#include <immintrin.h>

static inline __m256i dot(__m256i s, __m256i c, __m256i w)
{
    return _mm256_dpbusd_avx_epi32(s, c, w);
}

#define KR 4
#include "kernels/dwlast_ymm.h"

const rq_dwlast_isa rq_dwlast_avxvnni = {
    .name = "16x4", .kr = 4, .channels = 16, .least = 16, .vectors = 2, .overlaps = true, .taps = taps, .window = window
};

#endif
