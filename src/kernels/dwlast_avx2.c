/* kernels/dwlast_avx2.c — depthwise rows on AVX2: taps are widened to s16 and unpacked two by two, so that vpmaddwd adds them (at most 2 * 255 * 255, no
 * saturation). Compiled with -mavx2. */
#include "kernels/kernels_isa.h"

#ifdef __AVX2__

#include <immintrin.h>

static inline __m256i dot(__m256i s, __m256i c, __m256i w)
{
    return _mm256_add_epi32(s, _mm256_madd_epi16(c, w));
}

#define KR 2
#include "kernels/dwlast_ymm.h"

const rq_dwlast_isa rq_dwlast_avx2 = {
    .name = "16x2", .kr = 2, .channels = 16, .least = 16, .vectors = 2, .overlaps = true, .taps = taps, .window = window
};

#endif
