/* kernels/quantize_avx512.c — the quantizing loops on AVX-512 (F, BW, DQ, VL), 16 elements at a time, the tail under a
 * mask. max(v, lo) with v first returns lo for NaN, as the definition wants. */
#ifdef __AVX512BW__
#include "kernels/kernels_isa.h"

#include <immintrin.h>

static inline __mmask16 mask_of(size_t left)
{
    return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
}

/* clamp(rne(v) + zp) with lo and hi shifted by zp already */
static inline __m512i codes_of(__m512 v, __m512 lo, __m512 hi, __m512i zp)
{
    v = _mm512_min_ps(_mm512_max_ps(v, lo), hi);
    return _mm512_add_epi32(_mm512_cvtps_epi32(v), zp);
}

static void quantize(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const __m512 s = _mm512_set1_ps(scale), vlo = _mm512_set1_ps((float)(lo - zp)),
                 vhi = _mm512_set1_ps((float)(hi - zp));
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512i q = codes_of(_mm512_div_ps(_mm512_loadu_ps(x + i), s), vlo, vhi, z);
        _mm_storeu_si128((__m128i *)(y + i), _mm512_cvtepi32_epi8(q));
    }
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        const __m512i q = codes_of(_mm512_div_ps(_mm512_maskz_loadu_ps(m, x + i), s), vlo, vhi, z);
        _mm_mask_storeu_epi8(y + i, m, _mm512_cvtepi32_epi8(q));
    }
}

void rq_quantize_u8_avx512(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    quantize(y, x, n, scale, zp, lo, hi);
}

void rq_quantize_s8_avx512(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    quantize((uint8_t *)y, x, n, scale, zp, lo, hi);
}

static inline __m512 reals_of(__m512i q, __m512i z, __m512 s)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, z)), s);
}

void rq_dequantize_u8_avx512(float *y, const uint8_t *x, size_t n, float scale, int32_t zp)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, reals_of(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(x + i))), z, s));
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        _mm512_mask_storeu_ps(y + i, m, reals_of(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, x + i)), z, s));
    }
}

void rq_dequantize_s8_avx512(float *y, const int8_t *x, size_t n, float scale, int32_t zp)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, reals_of(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(x + i))), z, s));
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        _mm512_mask_storeu_ps(y + i, m, reals_of(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, x + i)), z, s));
    }
}

void rq_requantize_rows_avx512(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                               const int32_t *add, const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    const __m512 vlo = _mm512_set1_ps((float)(lo - zp)), vhi = _mm512_set1_ps((float)(hi - zp));
    const __m512i z = _mm512_set1_epi32(zp);
    for (size_t i = 0; i < rows; i++, y += ldy, acc += lda) {
        const __m512 vm = _mm512_set1_ps(m[i]);
        const __m512i va = _mm512_set1_epi32(add[i]);
        size_t j = 0;
        for (; j + 16 <= n; j += 16) {
            const __m512i s = _mm512_add_epi32(_mm512_loadu_si512(acc + j), va);
            _mm_storeu_si128((__m128i *)(y + j),
                             _mm512_cvtepi32_epi8(codes_of(_mm512_mul_ps(_mm512_cvtepi32_ps(s), vm), vlo, vhi, z)));
        }
        if (j < n) {
            const __mmask16 k = mask_of(n - j);
            const __m512i s = _mm512_add_epi32(_mm512_maskz_loadu_epi32(k, acc + j), va);
            _mm512_mask_cvtepi32_storeu_epi8(y + j, k, codes_of(_mm512_mul_ps(_mm512_cvtepi32_ps(s), vm), vlo, vhi, z));
        }
    }
}

void rq_requantize_cols_avx512(uint8_t *y, const int32_t *acc, size_t n, int32_t add, const int32_t *col_add,
                               const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    const __m512 vlo = _mm512_set1_ps((float)(lo - zp)), vhi = _mm512_set1_ps((float)(hi - zp));
    const __m512i z = _mm512_set1_epi32(zp), va = _mm512_set1_epi32(add);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 k = mask_of(n - i);
        __m512i s = _mm512_add_epi32(_mm512_maskz_loadu_epi32(k, acc + i), va);
        s = _mm512_add_epi32(s, _mm512_maskz_loadu_epi32(k, col_add + i));
        const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_maskz_loadu_ps(k, m + i));
        _mm512_mask_cvtepi32_storeu_epi8(y + i, k, codes_of(v, vlo, vhi, z));
    }
}

#endif
