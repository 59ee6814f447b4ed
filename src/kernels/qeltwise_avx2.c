/* kernels/qeltwise_avx2.c — Add and Mul on codes, 8 at a time. Compiled with -mavx2 -mfma. The tail goes through a
 * buffer, so that no element is computed by other code. */
#ifdef __AVX2__
#include "kernels/kernels_isa.h"

#include <immintrin.h>
#include <string.h>

static inline __m256i load8(const uint8_t *p, uint8_t flip)
{
    const __m128i x = _mm_loadl_epi64((const __m128i *)p);
    return _mm256_cvtepu8_epi32(_mm_xor_si128(x, _mm_set1_epi8((char)flip)));
}

/* clamp(rne(v)) to bytes; v is clamped as float first, NaN gives 0 */
static inline void store8(uint8_t *y, __m256 v, uint8_t flip)
{
    v = _mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(255));
    const __m256i q = _mm256_cvtps_epi32(v);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    const __m128i bytes = _mm_packus_epi16(words, words);
    _mm_storel_epi64((__m128i *)y, _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
}

static inline void add8(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p)
{
    __m256 sum = _mm256_set1_ps(p->k);
    if (b)
        sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(load8(b, p->flip_b)), _mm256_set1_ps(p->rb), sum);
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(load8(a, p->flip_a)), _mm256_set1_ps(p->ra), sum);
    store8(y, sum, p->flip_y);
}

void rq_qadd_avx2(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        add8(y + i, a + i, b + i, p);
    if (i < n) {
        uint8_t ta[8] = { 0 }, tb[8] = { 0 }, ty[8];
        memcpy(ta, a + i, n - i);
        memcpy(tb, b + i, n - i);
        add8(ty, ta, tb, p);
        memcpy(y + i, ty, n - i);
    }
}

void rq_qadd_one_avx2(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        add8(y + i, a + i, NULL, p);
    if (i < n) {
        uint8_t ta[8] = { 0 }, ty[8];
        memcpy(ta, a + i, n - i);
        add8(ty, ta, NULL, p);
        memcpy(y + i, ty, n - i);
    }
}

static inline void mul8(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p)
{
    const __m256i va = _mm256_sub_epi32(load8(a, p->flip_a), _mm256_set1_epi32(p->za));
    const __m256i vb = _mm256_sub_epi32(load8(b, p->flip_b), _mm256_set1_epi32(p->zb));
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_mullo_epi32(va, vb)), _mm256_set1_ps(p->r));
    store8(y, _mm256_add_ps(v, _mm256_set1_ps(p->zc)), p->flip_y);
}

void rq_qmul_avx2(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        mul8(y + i, a + i, b + i, p);
    if (i < n) {
        uint8_t ta[8] = { 0 }, tb[8] = { 0 }, ty[8];
        memcpy(ta, a + i, n - i);
        memcpy(tb, b + i, n - i);
        mul8(ty, ta, tb, p);
        memcpy(y + i, ty, n - i);
    }
}

#endif
