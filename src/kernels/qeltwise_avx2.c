/* kernels/qeltwise_avx2.c — Add and Mul on codes, 32 at a time. Compiled with -mavx2 -mfma. The tail goes through a
 * buffer, so that no element is computed by other code. */
#ifdef __AVX2__
#include "kernels/kernels_isa.h"

#include <immintrin.h>
#include <string.h>

enum { STEP = 32 };

/* 8 codes, flipped, as floats. */
static inline __m256 load8(const uint8_t *p, __m256i flip)
{
    const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_cvtepi32_ps(_mm256_xor_si256(x, flip));
}

/* rne(v), what lies above 255 as 255. NaN and what s32 cannot hold become its smallest number, which is 0 when packed, as is
 * everything below 0. */
static inline __m256i rounded(__m256 v)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(255), v)); /* of a NaN the second operand is taken */
}

static inline void store32(uint8_t *y, const __m256 v[4], __m256i flip)
{
    const __m256i low = _mm256_packus_epi32(rounded(v[0]), rounded(v[1]));
    const __m256i high = _mm256_packus_epi32(rounded(v[2]), rounded(v[3]));
    const __m256i mixed = _mm256_packus_epi16(low, high); /* fours, of the lower lanes first */
    const __m256i bytes = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)y, _mm256_xor_si256(bytes, flip));
}

static inline void add32(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p)
{
    const __m256i fa = _mm256_set1_epi32(p->flip_a), fb = _mm256_set1_epi32(p->flip_b);
    __m256 v[4];
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_set1_ps(p->k);
        if (b)
            v[i] = _mm256_fmadd_ps(load8(b + 8 * i, fb), _mm256_set1_ps(p->rb), v[i]);
        v[i] = _mm256_fmadd_ps(load8(a + 8 * i, fa), _mm256_set1_ps(p->ra), v[i]);
    }
    store32(y, v, _mm256_set1_epi8((char)p->flip_y));
}

/* The quick form (qeltwise.h). Bytes of a and b are interleaved, then pairs of even and of odd place get a dword each, so that the low
 * words of both join where the codes belong. */
static inline __m256i quick8(__m256i words, const rq_qadd_quick *q)
{
    const __m256i w = _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)q->wb << 16 | (uint16_t)q->wa));
    const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(words, w), _mm256_set1_epi32(q->bits));
    return _mm256_castps_si256(
        _mm256_fmadd_ps(_mm256_castsi256_ps(sum), _mm256_set1_ps(q->step), _mm256_set1_ps(q->base)));
}

/* Of 16 interleaved pairs, words that are to be packed. */
static inline __m256i quick16(__m256i ab, const rq_qadd *p)
{
    const __m256i even = _mm256_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4, -1,
                                          5, -1, 8, -1, 9, -1, 12, -1, 13, -1),
                  odd = _mm256_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1, 2, -1, 3, -1, 6,
                                         -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1);
    const __m256i pairs = _mm256_xor_si256(ab, _mm256_set1_epi16((int16_t)(p->flip_b << 8 | p->flip_a)));
    return _mm256_blend_epi16(quick8(_mm256_shuffle_epi8(pairs, even), &p->quick),
                              _mm256_slli_epi32(quick8(_mm256_shuffle_epi8(pairs, odd), &p->quick), 16), 0xaa);
}

static inline void quick32(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p)
{
    const __m256i va = _mm256_loadu_si256((const __m256i *)a), vb = _mm256_loadu_si256((const __m256i *)b);
    const __m256i q =
        _mm256_packus_epi16(quick16(_mm256_unpacklo_epi8(va, vb), p), quick16(_mm256_unpackhi_epi8(va, vb), p));
    _mm256_storeu_si256((__m256i *)y, _mm256_xor_si256(q, _mm256_set1_epi8((char)p->flip_y)));
}

/* Inlined where f is a constant. */
static inline __attribute__((always_inline)) void
add_by(void (*f)(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qadd *p), uint8_t *y, const uint8_t *a,
       const uint8_t *b, size_t n, const rq_qadd *p)
{
    const rq_qadd q = *p; /* y may be anything: a copy stays in registers */
    size_t i = 0;
    for (; i + STEP <= n; i += STEP)
        f(y + i, a + i, b + i, &q);
    if (i < n) {
        uint8_t ta[STEP] = { 0 }, tb[STEP] = { 0 }, ty[STEP];
        memcpy(ta, a + i, n - i);
        memcpy(tb, b + i, n - i);
        f(ty, ta, tb, &q);
        memcpy(y + i, ty, n - i);
    }
}

void rq_qadd_avx2(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    if (rq_qadd_is_quick(p))
        add_by(quick32, y, a, b, n, p);
    else
        add_by(add32, y, a, b, n, p);
}

void rq_qadd_one_avx2(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    const rq_qadd q = *p;
    size_t i = 0;
    for (; i + STEP <= n; i += STEP)
        add32(y + i, a + i, NULL, &q);
    if (i < n) {
        uint8_t ta[STEP] = { 0 }, ty[STEP];
        memcpy(ta, a + i, n - i);
        add32(ty, ta, NULL, &q);
        memcpy(y + i, ty, n - i);
    }
}

/* Differences of codes and their products are integers below 2^24: exact as floats. */
static inline void mul32(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p)
{
    const __m256i fa = _mm256_set1_epi32(p->flip_a), fb = _mm256_set1_epi32(p->flip_b);
    const __m256 za = _mm256_set1_ps((float)p->za), zb = _mm256_set1_ps((float)p->zb);
    __m256 v[4];
    for (int i = 0; i < 4; i++) {
        const __m256 va = _mm256_sub_ps(load8(a + 8 * i, fa), za), vb = _mm256_sub_ps(load8(b + 8 * i, fb), zb);
        const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(va, vb), _mm256_set1_ps(p->r));
        v[i] = _mm256_add_ps(scaled, _mm256_set1_ps(p->zc));
    }
    store32(y, v, _mm256_set1_epi8((char)p->flip_y));
}

/* The quick form of a product: differences of codes as words, of which every other is multiplied at a time, and then as sums are. */
static inline __m256i product8(__m256i a, __m256i b, const rq_qmul *p)
{
    const __m256 product = _mm256_cvtepi32_ps(_mm256_madd_epi16(a, b));
    return _mm256_castps_si256(_mm256_fmadd_ps(product, _mm256_set1_ps(p->step), _mm256_set1_ps(0x1.8p23f + p->zc)));
}

/* Of 16 pairs, widened, words that are to be packed. */
static inline __m256i product16(__m256i a, __m256i b, const rq_qmul *p)
{
    const __m256i va = _mm256_sub_epi16(a, _mm256_set1_epi16((int16_t)p->za)),
                  vb = _mm256_sub_epi16(b, _mm256_set1_epi16((int16_t)p->zb)), zero = _mm256_setzero_si256();
    return _mm256_blend_epi16(product8(_mm256_blend_epi16(va, zero, 0xaa), vb, p),
                              _mm256_slli_epi32(product8(_mm256_blend_epi16(zero, va, 0xaa), vb, p), 16), 0xaa);
}

static inline void product32(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p)
{
    const __m256i va = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)a), _mm256_set1_epi8((char)p->flip_a)),
                  vb = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)b), _mm256_set1_epi8((char)p->flip_b)),
                  zero = _mm256_setzero_si256();
    const __m256i q = _mm256_packus_epi16(product16(_mm256_unpacklo_epi8(va, zero), _mm256_unpacklo_epi8(vb, zero), p),
                                          product16(_mm256_unpackhi_epi8(va, zero), _mm256_unpackhi_epi8(vb, zero), p));
    _mm256_storeu_si256((__m256i *)y, _mm256_xor_si256(q, _mm256_set1_epi8((char)p->flip_y)));
}

/* Inlined where f is a constant. */
static inline __attribute__((always_inline)) void
mul_by(void (*f)(uint8_t *y, const uint8_t *a, const uint8_t *b, const rq_qmul *p), uint8_t *y, const uint8_t *a,
       const uint8_t *b, size_t n, const rq_qmul *p)
{
    const rq_qmul q = *p;
    size_t i = 0;
    for (; i + STEP <= n; i += STEP)
        f(y + i, a + i, b + i, &q);
    if (i < n) {
        uint8_t ta[STEP] = { 0 }, tb[STEP] = { 0 }, ty[STEP];
        memcpy(ta, a + i, n - i);
        memcpy(tb, b + i, n - i);
        f(ty, ta, tb, &q);
        memcpy(y + i, ty, n - i);
    }
}

void rq_qmul_avx2(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    if (p->step > 0)
        mul_by(product32, y, a, b, n, p);
    else
        mul_by(mul32, y, a, b, n, p);
}

#endif
