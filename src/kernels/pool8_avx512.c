/* kernels/pool8_avx512.c — pools over channels-last codes on AVX-512 BW, the last channels under a mask. Sums are kept in u16 for as many rows as fit. */
#include "kernels/kernels_isa.h"

#ifdef __AVX512BW__

#include <immintrin.h>

enum { U16_ROWS = 257 }; /* of 255 */

static inline __mmask64 mask64(size_t left)
{
    return left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
}

static inline __mmask16 mask16(size_t left)
{
    return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
}

static void max(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n)
{
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 m = mask64(n - i);
        __m512i v = _mm512_maskz_loadu_epi8(m, x[0] + i);
        for (size_t t = 1; t < taps; t++)
            v = _mm512_max_epu8(v, _mm512_maskz_loadu_epi8(m, x[t] + i));
        _mm512_mask_storeu_epi8(y + i, m, v);
    }
}

/* 16 channels; max with the value first gives 0 for NaN, as the definition wants. */
static inline void mean16(uint8_t *y, const uint8_t *const *x, size_t taps, size_t i, __mmask16 m,
                          const rq_pool8_mean *p)
{
    const __m512 scale = _mm512_set1_ps(p->scale);
    const __m512i zero = _mm512_set1_epi32(p->zero);
    __m512 s = _mm512_setzero_ps();
    for (size_t t = 0; t < taps; t++) {
        const __m512i q = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, x[t] + i));
        s = _mm512_add_ps(s, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero)), scale));
    }
    s = _mm512_div_ps(_mm512_div_ps(s, _mm512_set1_ps(p->count)), _mm512_set1_ps(p->y_scale));
    s = _mm512_add_ps(s, _mm512_set1_ps(p->y_zero));
    s = _mm512_min_ps(_mm512_max_ps(s, _mm512_setzero_ps()), _mm512_set1_ps(255));
    _mm512_mask_cvtepi32_storeu_epi8(y + i, m, _mm512_cvtps_epi32(s));
}

static void mean(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n, const rq_pool8_mean *p)
{
    for (size_t i = 0; i < n; i += 16)
        mean16(y, x, taps, i, mask16(n - i), p);
}

/* u16 sums of 32 channels to u32 ones. */
static inline void add32(uint32_t *sum, __m512i v, size_t n)
{
    const __m512i half[2] = { _mm512_cvtepu16_epi32(_mm512_castsi512_si256(v)),
                              _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(v, 1)) };
    for (size_t h = 0; h < 2 && h * 16 < n; h++) {
        const __mmask16 m = mask16(n - h * 16);
        const __m512i s = _mm512_add_epi32(_mm512_maskz_loadu_epi32(m, sum + h * 16), half[h]);
        _mm512_mask_storeu_epi32(sum + h * 16, m, s);
    }
}

static void sum(uint32_t *sum, const uint8_t *x, size_t pitch, size_t rows, size_t n)
{
    for (size_t r0 = 0; r0 < rows; r0 += U16_ROWS) {
        const size_t some = rows - r0 < U16_ROWS ? rows - r0 : U16_ROWS;
        for (size_t i = 0; i < n; i += 64) {
            const __mmask64 m = mask64(n - i);
            const uint8_t *row = x + r0 * pitch + i;
            __m512i a = _mm512_setzero_si512(), b = a;
            for (size_t r = 0; r < some; r++, row += pitch) {
                const __m512i v = _mm512_maskz_loadu_epi8(m, row);
                a = _mm512_add_epi16(a, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(v)));
                b = _mm512_add_epi16(b, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(v, 1)));
            }
            add32(sum + i, a, n - i);
            if (n - i > 32)
                add32(sum + i + 32, b, n - i - 32);
        }
    }
}

const rq_pool8_isa rq_pool8_avx512 = { .max = max, .mean = mean, .sum = sum };

#endif
