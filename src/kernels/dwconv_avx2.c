/* kernels/dwconv_avx2.c — the depthwise row on AVX2, 16 columns at a time: two taps are interleaved and widened to
 * s16, so that vpmaddwd adds them (at most 2 * 255 * 255, no saturation). Compiled with -mavx2. */
#ifdef __AVX2__
#include "kernels/kernels_isa.h"

#include <immintrin.h>
#include <string.h>

/* Two taps of 16 columns: columns 0..7 into *lo, 8..15 into *hi. */
static inline void add_pair(__m256i *lo, __m256i *hi, __m128i x0, __m128i x1, __m256i w)
{
    const __m256i a = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x0, x1));
    const __m256i b = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x0, x1));
    *lo = _mm256_add_epi32(*lo, _mm256_madd_epi16(a, w));
    *hi = _mm256_add_epi32(*hi, _mm256_madd_epi16(b, w));
}

static inline __m256i pair_of(const int16_t *w, int t, int n_taps)
{
    const uint32_t w0 = (uint16_t)w[t], w1 = t + 1 < n_taps ? (uint16_t)w[t + 1] : 0;
    return _mm256_set1_epi32((int32_t)(w0 | w1 << 16));
}

void rq_dwconv_avx2(int32_t *acc, const uint8_t *const *taps, const int16_t *w, int n_taps, size_t n)
{
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        __m256i lo = _mm256_setzero_si256(), hi = lo;
        for (int t = 0; t < n_taps; t += 2) {
            const uint8_t *second = taps[t + 1 < n_taps ? t + 1 : t];
            add_pair(&lo, &hi, _mm_loadu_si128((const __m128i *)(taps[t] + j)),
                     _mm_loadu_si128((const __m128i *)(second + j)), pair_of(w, t, n_taps));
        }
        _mm256_storeu_si256((__m256i *)(acc + j), lo);
        _mm256_storeu_si256((__m256i *)(acc + j + 8), hi);
    }
    if (j == n)
        return;
    __m256i lo = _mm256_setzero_si256(), hi = lo; /* the tail, through buffers of 16 */
    uint8_t x[2][16] = { { 0 } };
    for (int t = 0; t < n_taps; t += 2) {
        memcpy(x[0], taps[t] + j, n - j);
        memcpy(x[1], taps[t + 1 < n_taps ? t + 1 : t] + j, n - j);
        add_pair(&lo, &hi, _mm_loadu_si128((const __m128i *)x[0]), _mm_loadu_si128((const __m128i *)x[1]),
                 pair_of(w, t, n_taps));
    }
    int32_t sum[16];
    _mm256_storeu_si256((__m256i *)sum, lo);
    _mm256_storeu_si256((__m256i *)(sum + 8), hi);
    memcpy(acc + j, sum, (n - j) * sizeof *sum);
}

#endif
