/* kernels/qeltwise_avx2.c — Add and Mul on codes, 8 at a time. Compiled with -mavx2 -mfma. The tail goes through a
 * buffer, so that no element is computed by other code. */
#ifdef __AVX2__
#include "kernels/kernels_isa.h"

#include <immintrin.h>
#include <string.h>

static inline __m256i load8(const uint8_t *p, int is_signed)
{
    const __m128i x = _mm_loadl_epi64((const __m128i *)p);
    return is_signed ? _mm256_cvtepi8_epi32(x) : _mm256_cvtepu8_epi32(x);
}

/* clamp(rne(v)) to bytes; v is clamped as float first, NaN gives lo */
static inline void store8(uint8_t *y, __m256 v, __m256 lo, __m256 hi)
{
    const __m256i q = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, lo), hi));
    const __m256i low =
        _mm256_shuffle_epi8(q, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8,
                                                12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m256i both = _mm256_permutevar8x32_epi32(low, _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
    _mm_storel_epi64((__m128i *)y, _mm256_castsi256_si128(both));
}

static inline void add8(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p)
{
    __m256 sum = _mm256_set1_ps(p->k);
    if (b)
        sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(load8(b, p->b_signed)), _mm256_set1_ps(p->rb), sum);
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(load8(a, p->a_signed)), _mm256_set1_ps(p->ra), sum);
    store8(y, sum, _mm256_set1_ps((float)p->lo), _mm256_set1_ps((float)p->hi));
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
    const __m256i va = _mm256_sub_epi32(load8(a, p->a_signed), _mm256_set1_epi32(p->za));
    const __m256i vb = _mm256_sub_epi32(load8(b, p->b_signed), _mm256_set1_epi32(p->zb));
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_mullo_epi32(va, vb)), _mm256_set1_ps(p->r));
    store8(y, _mm256_add_ps(v, _mm256_set1_ps(p->zc)), _mm256_set1_ps((float)p->lo), _mm256_set1_ps((float)p->hi));
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
