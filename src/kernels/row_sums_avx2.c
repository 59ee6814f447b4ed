/* kernels/row_sums_avx2.c — sums of rows of codes by differences from zero (vpsadbw), 32, 16 and 8 bytes at a time. Compiled with -mavx2. */
#include "kernels/kernels_isa.h"

#ifdef __AVX2__

#include <immintrin.h>

static inline uint32_t sum_row(const uint8_t *x, size_t n)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    size_t k = 0;
    for (; k + 64 <= n; k += 64) {
        a = _mm256_add_epi64(a, _mm256_sad_epu8(_mm256_loadu_si256((const __m256i *)(x + k)), _mm256_setzero_si256()));
        b = _mm256_add_epi64(
            b, _mm256_sad_epu8(_mm256_loadu_si256((const __m256i *)(x + k + 32)), _mm256_setzero_si256()));
    }
    a = _mm256_add_epi64(a, b);
    __m128i s = _mm_add_epi64(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    for (; k + 16 <= n; k += 16)
        s = _mm_add_epi64(s, _mm_sad_epu8(_mm_loadu_si128((const __m128i *)(x + k)), _mm_setzero_si128()));
    if (k + 8 <= n) {
        s = _mm_add_epi64(s, _mm_sad_epu8(_mm_loadl_epi64((const __m128i *)(x + k)), _mm_setzero_si128()));
        k += 8;
    }
    uint32_t sum = (uint32_t)_mm_cvtsi128_si32(_mm_add_epi64(s, _mm_unpackhi_epi64(s, s)));
    for (; k < n; k++)
        sum += x[k];
    return sum;
}

void rq_row_sums_avx2(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n)
{
    for (size_t i = 0; i < rows; i++, x += stride)
        sum[i] = (int32_t)sum_row(x, n);
}

#endif
