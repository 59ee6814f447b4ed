/* kernels/quantize_avx2.c — the quantizing loops on AVX2, 8 elements at a time; the tail goes to the definition's inline
 * functions. Compiled with -mavx2 and -mf16c.
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

/* A quotient past the largest half becomes infinity, which the code range clamps as it does what the definition makes of it. */
void rq_quantize_half_avx2(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const __m256 s = _mm256_set1_ps(scale), vlo = _mm256_set1_ps((float)(lo - zp)),
                 vhi = _mm256_set1_ps((float)(hi - zp));
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_div_ps(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))), s);
        const __m256 r = _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        store_bytes(y + i, codes_of(r, vlo, vhi, z));
    }
    rq_quantize_half_scalar(y + i, x + i, n - i, scale, zp, lo, hi);
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

void rq_norm8_avx2(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p)
{
    const rq_norm8 own = *p; /* which y cannot point into */
    const __m128i flip = _mm_set1_epi8((char)own.flip);
    const __m256i whole = _mm256_set1_epi32(own.whole), z = _mm256_set1_epi32(own.zp);
    const __m256 inv = _mm256_set1_ps(own.inv), rest = _mm256_set1_ps(own.rest), s = _mm256_set1_ps(own.scale),
                 lo = _mm256_set1_ps((float)(own.lo - own.zp)), hi = _mm256_set1_ps((float)(own.hi - own.zp));
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i q = _mm256_cvtepu8_epi32(_mm_xor_si128(_mm_loadl_epi64((const __m128i *)(x + i)), flip));
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, whole)), inv);
        if (own.rest != 0)
            v = _mm256_add_ps(v, rest);
        if (own.gain)
            v = _mm256_mul_ps(v, _mm256_loadu_ps(own.gain + i));
        if (own.bias)
            v = _mm256_add_ps(v, _mm256_loadu_ps(own.bias + i));
        store_bytes(y + i, codes_of(_mm256_div_ps(v, s), lo, hi, z));
    }
    rq_norm8 tail = own;
    tail.gain = own.gain ? own.gain + i : NULL;
    tail.bias = own.bias ? own.bias + i : NULL;
    rq_norm8_scalar(y + i, x + i, n - i, &tail);
}

/* max(v, lo) with v first returns lo for NaN, here too. A division by 1 changes nothing and is left out. */
static inline __m128i quotients_of(const double *x, __m256d by, __m256d scale, bool scaled, __m256d lo, __m256d hi)
{
    __m256d v = _mm256_div_pd(_mm256_loadu_pd(x), by);
    if (scaled)
        v = _mm256_div_pd(v, scale);
    return _mm256_cvtpd_epi32(_mm256_min_pd(_mm256_max_pd(v, lo), hi));
}

void rq_quantize_quotients_avx2(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp, int32_t lo,
                                int32_t hi)
{
    const __m256d vby = _mm256_set1_pd(by), vscale = _mm256_set1_pd(scale), vlo = _mm256_set1_pd(lo - zp),
                  vhi = _mm256_set1_pd(hi - zp);
    const __m256i z = _mm256_set1_epi32(zp);
    const bool scaled = scale != 1;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i low = quotients_of(x + i, vby, vscale, scaled, vlo, vhi),
                      high = quotients_of(x + i + 4, vby, vscale, scaled, vlo, vhi);
        store_bytes(y + i, _mm256_add_epi32(_mm256_set_m128i(high, low), z));
    }
    for (; i < n; i++)
        y[i] = (uint8_t)rq_quantize_wide(x[i] / by / scale, zp, lo, hi);
}

/* Words of 8 s32 that fit one; the signed or the unsigned pack saturates neither. */
static inline __m128i words_of(__m256i q, bool is_signed)
{
    const __m128i low = _mm256_castsi256_si128(q), high = _mm256_extracti128_si256(q, 1);
    return is_signed ? _mm_packs_epi32(low, high) : _mm_packus_epi32(low, high);
}

static inline size_t quantize_words(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo,
                                    int32_t hi, bool is_signed)
{
    const __m256 s = _mm256_set1_ps(scale), vlo = _mm256_set1_ps((float)(lo - zp)),
                 vhi = _mm256_set1_ps((float)(hi - zp));
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i),
                         words_of(codes_of(_mm256_div_ps(_mm256_loadu_ps(x + i), s), vlo, vhi, z), is_signed));
    return i;
}

void rq_quantize_u16_avx2(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize_words(y, x, n, scale, zp, lo, hi, false); i < n; i++)
        y[i] = (uint16_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_quantize_s16_avx2(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = quantize_words((uint16_t *)y, x, n, scale, zp, lo, hi, true); i < n; i++)
        y[i] = (int16_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_dequantize_u16_avx2(float *y, const uint16_t *x, size_t n, float scale, int32_t zp)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i q = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, z)), s));
    }
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_s16_avx2(float *y, const int16_t *x, size_t n, float scale, int32_t zp)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i z = _mm256_set1_epi32(zp);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i q = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(x + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, z)), s));
    }
    for (; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_requantize_tile_avx2(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                             const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    const __m256 vlo = _mm256_set1_ps((float)(lo - zp)), vhi = _mm256_set1_ps((float)(hi - zp));
    const __m256i z = _mm256_set1_epi32(zp);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        const __m256 vm = _mm256_loadu_ps(m + j);
        for (size_t i = 0; i < rows; i++) {
            const __m256i add = row_add ? _mm256_set1_epi32(row_add[i]) : _mm256_setzero_si256();
            const __m256i s = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(acc + i * lda + j)), add);
            store_bytes(y + i * ldy + j, codes_of(_mm256_mul_ps(_mm256_cvtepi32_ps(s), vm), vlo, vhi, z));
        }
    }
    for (; j < n; j++)
        for (size_t i = 0; i < rows; i++) {
            const uint32_t s = (uint32_t)acc[i * lda + j] + (row_add ? (uint32_t)row_add[i] : 0);
            y[i * ldy + j] = (uint8_t)rq_quantize_acc((int32_t)s, m[j], zp, lo, hi);
        }
}

#endif
