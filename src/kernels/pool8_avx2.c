/* kernels/pool8_avx2.c — pools over channels-last codes on AVX2; the last channels go through a buffer. Sums are kept in u16 for as many rows as fit.
 * Compiled with -mavx2. */
#include "kernels/kernels_isa.h"

#ifdef __AVX2__

#include <immintrin.h>
#include <string.h>

enum { U16_ROWS = 257 }; /* of 255 */

static inline __m256i load(const uint8_t *p, size_t n)
{
    uint8_t some[32] = { 0 };
    if (n >= 32)
        return _mm256_loadu_si256((const __m256i *)p);
    memcpy(some, p, n);
    return _mm256_loadu_si256((const __m256i *)some);
}

static void max(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        __m256i v = load(x[0] + i, n - i);
        for (size_t t = 1; t < taps; t++)
            v = _mm256_max_epu8(v, load(x[t] + i, n - i));
        if (n - i >= 32)
            _mm256_storeu_si256((__m256i *)(y + i), v);
        else
            memcpy(y + i, &v, n - i);
    }
}

/* 8 channels, `n` of them there; max with the value first gives 0 for NaN, as the definition wants. */
static inline void mean8(uint8_t *y, const uint8_t *const *x, size_t taps, size_t i, size_t n, const rq_pool8_mean *p)
{
    const __m256 scale = _mm256_set1_ps(p->scale);
    const __m256i zero = _mm256_set1_epi32(p->zero);
    __m256 s = _mm256_setzero_ps();
    for (size_t t = 0; t < taps; t++) {
        uint64_t bits = 0;
        memcpy(&bits, x[t] + i, n < 8 ? n : 8);
        const __m256i q = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bits));
        s = _mm256_add_ps(s, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero)), scale));
    }
    s = _mm256_div_ps(_mm256_div_ps(s, _mm256_set1_ps(p->count)), _mm256_set1_ps(p->y_scale));
    s = _mm256_add_ps(s, _mm256_set1_ps(p->y_zero));
    s = _mm256_min_ps(_mm256_max_ps(s, _mm256_setzero_ps()), _mm256_set1_ps(255));
    const __m256i q = _mm256_cvtps_epi32(s);
    const __m128i w = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    const int64_t out = _mm_cvtsi128_si64(_mm_packus_epi16(w, w));
    memcpy(y + i, &out, n < 8 ? n : 8);
}

static void mean(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n, const rq_pool8_mean *p)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        mean8(y, x, taps, i, 8, p);
    if (i < n)
        mean8(y, x, taps, i, n - i, p);
}

/* u16 sums of 16 channels to u32 ones. */
static inline void add16(uint32_t *sum, __m256i v, size_t n)
{
    uint16_t part[16];
    if (n >= 16) {
        const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                      high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1));
        __m256i *s = (__m256i *)sum;
        _mm256_storeu_si256(s, _mm256_add_epi32(_mm256_loadu_si256(s), low));
        _mm256_storeu_si256(s + 1, _mm256_add_epi32(_mm256_loadu_si256(s + 1), high));
        return;
    }
    _mm256_storeu_si256((__m256i *)part, v);
    for (size_t i = 0; i < n; i++)
        sum[i] += part[i];
}

static void sum(uint32_t *sum, const uint8_t *x, size_t pitch, size_t rows, size_t n)
{
    for (size_t r0 = 0; r0 < rows; r0 += U16_ROWS) {
        const size_t some = rows - r0 < U16_ROWS ? rows - r0 : U16_ROWS;
        for (size_t i = 0; i < n; i += 32) {
            const uint8_t *row = x + r0 * pitch + i;
            __m256i a = _mm256_setzero_si256(), b = a;
            for (size_t r = 0; r < some; r++, row += pitch) {
                const __m256i v = load(row, n - i);
                a = _mm256_add_epi16(a, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(v)));
                b = _mm256_add_epi16(b, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(v, 1)));
            }
            add16(sum + i, a, n - i);
            if (n - i > 16)
                add16(sum + i + 16, b, n - i - 16);
        }
    }
}

const rq_pool8_isa rq_pool8_avx2 = { .max = max, .mean = mean, .sum = sum };

#endif
