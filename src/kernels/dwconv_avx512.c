/* kernels/dwconv_avx512.c — the depthwise row on AVX-512 BW, 32 columns at a time, the last ones under a mask: two taps are
 * interleaved and widened to s16, so that vpmaddwd adds them (at most 2 * 255 * 255, no saturation). */
#ifdef __AVX512BW__
#include "kernels/kernels_isa.h"

#include <immintrin.h>

static inline __m512i pair_of(const int16_t *w, int t, int n_taps)
{
    const uint32_t w0 = (uint16_t)w[t], w1 = t + 1 < n_taps ? (uint16_t)w[t + 1] : 0;
    return _mm512_set1_epi32((int32_t)(w0 | w1 << 16));
}

/* 16 columns from two taps, added to sum. */
static inline __m512i add_pair(__m512i sum, __m128i x0, __m128i x1, __m512i w)
{
    const __m256i x = _mm256_set_m128i(_mm_unpackhi_epi8(x0, x1), _mm_unpacklo_epi8(x0, x1));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_cvtepu8_epi16(x), w));
}

static inline __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

void rq_dwconv_avx512(int32_t *acc, const uint8_t *const *taps, const int16_t *w, int n_taps, size_t n)
{
    size_t j = 0;
    for (; j + 32 <= n; j += 32) {
        __m512i lo = _mm512_setzero_si512(), hi = lo;
        for (int t = 0; t < n_taps; t += 2) {
            const uint8_t *x0 = taps[t] + j, *x1 = taps[t + 1 < n_taps ? t + 1 : t] + j;
            const __m512i pair = pair_of(w, t, n_taps);
            lo = add_pair(lo, load16(x0), load16(x1), pair);
            hi = add_pair(hi, load16(x0 + 16), load16(x1 + 16), pair);
        }
        _mm512_storeu_si512(acc + j, lo);
        _mm512_storeu_si512(acc + j + 16, hi);
    }
    for (; j < n; j += 16) {
        const __mmask16 m = n - j >= 16 ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
        __m512i sum = _mm512_setzero_si512();
        for (int t = 0; t < n_taps; t += 2)
            sum = add_pair(sum, _mm_maskz_loadu_epi8(m, taps[t] + j),
                           _mm_maskz_loadu_epi8(m, taps[t + 1 < n_taps ? t + 1 : t] + j), pair_of(w, t, n_taps));
        _mm512_mask_storeu_epi32(acc + j, m, sum);
    }
}

#endif
