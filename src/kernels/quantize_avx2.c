/* kernels/quantize_avx2.c — the quantizing loops on AVX2, 8 elements at a time; the tail goes to the definition's inline
 * functions. Compiled with -mavx2.
 *
 * max(v, lo) with v first returns lo for NaN, as the definition wants. */
#ifdef __AVX2__
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

#include <immintrin.h>

/* Low bytes of 8 s32 that fit a byte (u8 or s8). */
static inline void store_bytes(uint8_t *y, __m256i q)
{
    const __m256i low =
        _mm256_shuffle_epi8(q, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8,
                                                12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m256i both = _mm256_permutevar8x32_epi32(low, _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
    _mm_storel_epi64((__m128i *)y, _mm256_castsi256_si128(both));
}

/* clamp(rne(v) + zp) with lo and hi shifted by zp already */
static inline __m256i codes_of(__m256 v, __m256 lo, __m256 hi, __m256i zp)
{
    v = _mm256_min_ps(_mm256_max_ps(v, lo), hi);
    return _mm256_add_epi32(_mm256_cvtps_epi32(v), zp);
}

static size_t quantize(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const __m256 s = _mm256_set1_ps(scale), vlo = _mm256_set1_ps((float)(lo - zp)),
                 vhi = _mm256_set1_ps((float)(hi - zp));
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        store_bytes(y + i, codes_of(_mm256_div_ps(_mm256_loadu_ps(x + i), s), vlo, vhi, z));
    return i;
}

void rq_quantize_u8_avx2(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize(y, x, n, scale, zp, lo, hi); i < n; i++)
        y[i] = (uint8_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_quantize_s8_avx2(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize((uint8_t *)y, x, n, scale, zp, lo, hi); i < n; i++)
        y[i] = (int8_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_dequantize_u8_avx2(float *y, const uint8_t *x, size_t n, float scale, int32_t zp)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i q = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(x + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, z)), s));
    }
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_s8_avx2(float *y, const int8_t *x, size_t n, float scale, int32_t zp)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(x + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, z)), s));
    }
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_requantize_rows_avx2(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                             const int32_t *add, const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    const __m256 vlo = _mm256_set1_ps((float)(lo - zp)), vhi = _mm256_set1_ps((float)(hi - zp));
    const __m256i z = _mm256_set1_epi32(zp);
    for (size_t i = 0; i < rows; i++, y += ldy, acc += lda) {
        const __m256 vm = _mm256_set1_ps(m[i]);
        const __m256i va = _mm256_set1_epi32(add[i]);
        size_t j = 0;
        for (; j + 8 <= n; j += 8) {
            const __m256i s = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(acc + j)), va);
            store_bytes(y + j, codes_of(_mm256_mul_ps(_mm256_cvtepi32_ps(s), vm), vlo, vhi, z));
        }
        for (; j < n; j++)
            y[j] = (uint8_t)rq_quantize_acc((int32_t)((uint32_t)acc[j] + (uint32_t)add[i]), m[i], zp, lo, hi);
    }
}

void rq_requantize_cols_avx2(uint8_t *y, const int32_t *acc, size_t n, int32_t add, const int32_t *col_add,
                             const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    const __m256 vlo = _mm256_set1_ps((float)(lo - zp)), vhi = _mm256_set1_ps((float)(hi - zp));
    const __m256i z = _mm256_set1_epi32(zp), va = _mm256_set1_epi32(add);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i s = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(acc + i)), va);
        s = _mm256_add_epi32(s, _mm256_loadu_si256((const __m256i *)(col_add + i)));
        store_bytes(y + i, codes_of(_mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_loadu_ps(m + i)), vlo, vhi, z));
    }
    for (; i < n; i++)
        y[i] = (uint8_t)rq_quantize_acc((int32_t)((uint32_t)acc[i] + (uint32_t)add + (uint32_t)col_add[i]), m[i], zp,
                                        lo, hi);
}

#endif
