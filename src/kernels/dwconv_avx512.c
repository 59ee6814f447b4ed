/* kernels/dwconv_avx512.c — the depthwise row on AVX-512 BW, 16 columns at a time, the tail under a mask: two taps are
 * interleaved and widened to s16, so that vpmaddwd adds them (at most 2 * 255 * 255, no saturation). */
#ifdef __AVX512BW__
#include "kernels/kernels_isa.h"

#include <immintrin.h>

static inline __m512i pair_of(const int16_t *w, int t, int n_taps)
{
    const uint32_t w0 = (uint16_t)w[t], w1 = t + 1 < n_taps ? (uint16_t)w[t + 1] : 0;
    return _mm512_set1_epi32((int32_t)(w0 | w1 << 16));
}

void rq_dwconv_avx512(int32_t *acc, const uint8_t *const *taps, const int16_t *w, int n_taps, size_t n)
{
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 m = n - j >= 16 ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
        __m512i sum = _mm512_setzero_si512();
        for (int t = 0; t < n_taps; t += 2) {
            const __m128i x0 = _mm_maskz_loadu_epi8(m, taps[t] + j);
            const __m128i x1 = _mm_maskz_loadu_epi8(m, taps[t + 1 < n_taps ? t + 1 : t] + j);
            const __m256i x = _mm256_set_m128i(_mm_unpackhi_epi8(x0, x1), _mm_unpacklo_epi8(x0, x1));
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_cvtepu8_epi16(x), pair_of(w, t, n_taps)));
        }
        _mm512_mask_storeu_epi32(acc + j, m, sum);
    }
}

#endif
