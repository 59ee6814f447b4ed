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

/* A quotient past the largest half becomes infinity, which the code range clamps as it does what the definition makes of it. */
static inline __m128i half_codes_of(__m256i x, __m512 s, __m512 lo, __m512 hi, __m512i z)
{
    const __m512 v = _mm512_div_ps(_mm512_cvtph_ps(x), s);
    const __m512 r = _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    return _mm512_cvtepi32_epi8(codes_of(r, lo, hi, z));
}

void rq_quantize_half_avx512(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const __m512 s = _mm512_set1_ps(scale), vlo = _mm512_set1_ps((float)(lo - zp)),
                 vhi = _mm512_set1_ps((float)(hi - zp));
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm_storeu_si128((__m128i *)(y + i),
                         half_codes_of(_mm256_loadu_si256((const __m256i *)(x + i)), s, vlo, vhi, z));
    if (i < n)
        _mm_mask_storeu_epi8(y + i, mask_of(n - i),
                             half_codes_of(_mm256_maskz_loadu_epi16(mask_of(n - i), x + i), s, vlo, vhi, z));
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

/* 16 of them under a mask. */
static inline void normalize(uint8_t *y, const uint8_t *x, const float *gain, const float *bias, __mmask16 m,
                             const rq_norm8 *p)
{
    const __m512i q = _mm512_cvtepu8_epi32(_mm_xor_si128(_mm_maskz_loadu_epi8(m, x), _mm_set1_epi8((char)p->flip)));
    __m512 v = reals_of(q, _mm512_set1_epi32(p->whole), _mm512_set1_ps(p->inv));
    if (p->rest != 0)
        v = _mm512_add_ps(v, _mm512_set1_ps(p->rest));
    if (gain)
        v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, gain));
    if (bias)
        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, bias));
    const __m512i c = codes_of(_mm512_div_ps(v, _mm512_set1_ps(p->scale)), _mm512_set1_ps((float)(p->lo - p->zp)),
                               _mm512_set1_ps((float)(p->hi - p->zp)), _mm512_set1_epi32(p->zp));
    _mm_mask_storeu_epi8(y, m, _mm512_cvtepi32_epi8(c));
}

void rq_norm8_avx512(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p)
{
    const rq_norm8 own = *p; /* which y cannot point into */
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        normalize(y + i, x + i, own.gain ? own.gain + i : NULL, own.bias ? own.bias + i : NULL, 0xffff, &own);
    if (i < n)
        normalize(y + i, x + i, own.gain ? own.gain + i : NULL, own.bias ? own.bias + i : NULL, mask_of(n - i), &own);
}

/* max(v, lo) with v first returns lo for NaN, here too. A division by 1 changes nothing and is left out. */
void rq_quantize_quotients_avx512(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp,
                                  int32_t lo, int32_t hi)
{
    const __m512d vby = _mm512_set1_pd(by), vscale = _mm512_set1_pd(scale), vlo = _mm512_set1_pd(lo - zp),
                  vhi = _mm512_set1_pd(hi - zp);
    const __m256i z = _mm256_set1_epi32(zp);
    for (size_t i = 0; i < n; i += 8) {
        const __mmask8 m = n - i >= 8 ? 0xff : (__mmask8)((1u << (n - i)) - 1);
        __m512d v = _mm512_div_pd(_mm512_maskz_loadu_pd(m, x + i), vby);
        if (scale != 1)
            v = _mm512_div_pd(v, vscale);
        const __m256i q = _mm512_cvtpd_epi32(_mm512_min_pd(_mm512_max_pd(v, vlo), vhi));
        _mm256_mask_cvtepi32_storeu_epi8(y + i, m, _mm256_add_epi32(q, z));
    }
}

static inline __m256i words_of(const float *x, __mmask16 m, __m512 s, __m512 lo, __m512 hi, __m512i z)
{
    return _mm512_cvtepi32_epi16(codes_of(_mm512_div_ps(_mm512_maskz_loadu_ps(m, x), s), lo, hi, z));
}

static void quantize_words(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const __m512 s = _mm512_set1_ps(scale), vlo = _mm512_set1_ps((float)(lo - zp)),
                 vhi = _mm512_set1_ps((float)(hi - zp));
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(y + i), words_of(x + i, 0xffff, s, vlo, vhi, z));
    if (i < n)
        _mm256_mask_storeu_epi16(y + i, mask_of(n - i), words_of(x + i, mask_of(n - i), s, vlo, vhi, z));
}

void rq_quantize_u16_avx512(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    quantize_words(y, x, n, scale, zp, lo, hi);
}

void rq_quantize_s16_avx512(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    quantize_words((uint16_t *)y, x, n, scale, zp, lo, hi);
}

void rq_dequantize_u16_avx512(float *y, const uint16_t *x, size_t n, float scale, int32_t zp)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, reals_of(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(x + i))), z, s));
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        _mm512_mask_storeu_ps(y + i, m, reals_of(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, x + i)), z, s));
    }
}

void rq_dequantize_s16_avx512(float *y, const int16_t *x, size_t n, float scale, int32_t zp)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512i z = _mm512_set1_epi32(zp);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, reals_of(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(x + i))), z, s));
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        _mm512_mask_storeu_ps(y + i, m, reals_of(_mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(m, x + i)), z, s));
    }
}

/* ---- a block of sums, with addends per row and multipliers per column ---- */

typedef struct range {
    __m512 lo, hi; /* less the zero point */
    __m512i zp;    /* as s16 */
} range;

static inline __m512i rounded(const int32_t *acc, __mmask16 mask, __m512i add, __m512 m, range r)
{
    const __m512i s = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, acc), add);
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(s), m);
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, r.lo), r.hi));
}

/* Four vectors of 16 codes less the zero point, a to d, to bytes. Nothing saturates: bytes are cut out of s16. */
static inline __m512i bytes_of(__m512i a, __m512i b, __m512i c, __m512i d, range r)
{
    const __m512i low = _mm512_set1_epi16(0xff);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i ab = _mm512_and_si512(_mm512_add_epi16(_mm512_packs_epi32(a, b), r.zp), low);
    const __m512i cd = _mm512_and_si512(_mm512_add_epi16(_mm512_packs_epi32(c, d), r.zp), low);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(ab, cd));
}

static inline __m512i addend(const int32_t *row_add, size_t i)
{
    return row_add ? _mm512_set1_epi32(row_add[i]) : _mm512_setzero_si512();
}

static inline void store_part(uint8_t *y, __m128i q, size_t n)
{
    if (n >= 16)
        _mm_storeu_si128((__m128i *)y, q);
    else if (n == 8)
        _mm_storel_epi64((__m128i *)y, q);
    else
        _mm_mask_storeu_epi8(y, mask_of(n), q);
}

/* 17 to 32 columns, two rows at a time. */
static void tile_of_two(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                        const int32_t *row_add, const float *m, range r)
{
    const __mmask16 mask = mask_of(n - 16);
    const __m512 m0 = _mm512_loadu_ps(m), m1 = _mm512_maskz_loadu_ps(mask, m + 16);
    for (size_t i = 0; i < rows; i += 2, y += 2 * ldy, acc += 2 * lda) {
        const bool both = rows - i > 1;
        const int32_t *next = both ? acc + lda : acc;
        const __m512i a0 = addend(row_add, i), a1 = addend(row_add, i + both);
        const __m512i q = bytes_of(rounded(acc, 0xffff, a0, m0, r), rounded(acc + 16, mask, a0, m1, r),
                                   rounded(next, 0xffff, a1, m0, r), rounded(next + 16, mask, a1, m1, r), r);
        const __m256i q0 = _mm512_castsi512_si256(q), q1 = _mm512_extracti64x4_epi64(q, 1);
        if (n == 32) {
            _mm256_storeu_si256((__m256i *)y, q0);
            if (both)
                _mm256_storeu_si256((__m256i *)(y + ldy), q1);
            continue;
        }
        store_part(y, _mm256_castsi256_si128(q0), 16);
        store_part(y + 16, _mm256_extracti128_si256(q0, 1), n - 16);
        if (both) {
            store_part(y + ldy, _mm256_castsi256_si128(q1), 16);
            store_part(y + ldy + 16, _mm256_extracti128_si256(q1, 1), n - 16);
        }
    }
}

/* Up to 16 columns, four rows at a time. */
static void tile_of_one(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                        const int32_t *row_add, const float *m, range r)
{
    const __mmask16 mask = mask_of(n);
    const __m512 vm = _mm512_maskz_loadu_ps(mask, m);
    for (size_t i = 0; i < rows; i += 4, y += 4 * ldy, acc += 4 * lda) {
        const size_t left = rows - i;
        const size_t i1 = left > 1, i2 = left > 2 ? 2 : 0, i3 = left > 3 ? 3 : 0; /* rows that are there */
        const __m512i q = bytes_of(rounded(acc, mask, addend(row_add, i), vm, r),
                                   rounded(acc + i1 * lda, mask, addend(row_add, i + i1), vm, r),
                                   rounded(acc + i2 * lda, mask, addend(row_add, i + i2), vm, r),
                                   rounded(acc + i3 * lda, mask, addend(row_add, i + i3), vm, r), r);
        store_part(y, _mm512_castsi512_si128(q), n);
        if (left > 1)
            store_part(y + ldy, _mm512_extracti32x4_epi32(q, 1), n);
        if (left > 2)
            store_part(y + 2 * ldy, _mm512_extracti32x4_epi32(q, 2), n);
        if (left > 3)
            store_part(y + 3 * ldy, _mm512_extracti32x4_epi32(q, 3), n);
    }
}

void rq_requantize_tile_avx512(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                               const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    const range r = { _mm512_set1_ps((float)(lo - zp)), _mm512_set1_ps((float)(hi - zp)),
                      _mm512_set1_epi16((int16_t)zp) };
    for (size_t j = 0; j < n;) {
        const size_t left = n - j;
        if (left > 16)
            tile_of_two(y + j, ldy, acc + j, lda, rows, left < 32 ? left : 32, row_add, m + j, r);
        else
            tile_of_one(y + j, ldy, acc + j, lda, rows, left, row_add, m + j, r);
        j += left < 32 ? left : 32;
    }
}

#endif
