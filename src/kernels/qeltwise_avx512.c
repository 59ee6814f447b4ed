/* kernels/qeltwise_avx512.c — Add and Mul on codes, 16 at a time, the tail under a mask. Compiled with AVX-512 F, BW, DQ
 * and VL. */
#include "kernels/kernels_isa.h"

#ifdef __AVX512BW__

#include <immintrin.h>

static inline __mmask16 mask_of(size_t left)
{
    return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
}

static inline __m512i load16(const uint8_t *p, __mmask16 m, uint8_t flip)
{
    return _mm512_cvtepu8_epi32(_mm_xor_si128(_mm_maskz_loadu_epi8(m, p), _mm_set1_epi8((char)flip)));
}

/* clamp(rne(v)) to bytes; v is clamped as float first, NaN gives 0 */
static inline void store16(uint8_t *y, __mmask16 m, __m512 v, uint8_t flip)
{
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(255));
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
    _mm_mask_storeu_epi8(y, m, _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
}

void rq_qadd_avx512(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    const __m512 ra = _mm512_set1_ps(p->ra), rb = _mm512_set1_ps(p->rb), k = _mm512_set1_ps(p->k);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = mask_of(n - i);
        const __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(load16(b + i, m, p->flip_b)), rb, k);
        store16(y + i, m, _mm512_fmadd_ps(_mm512_cvtepi32_ps(load16(a + i, m, p->flip_a)), ra, sum), p->flip_y);
    }
}

void rq_qadd_one_avx512(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    const __m512 ra = _mm512_set1_ps(p->ra), k = _mm512_set1_ps(p->k);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = mask_of(n - i);
        store16(y + i, m, _mm512_fmadd_ps(_mm512_cvtepi32_ps(load16(a + i, m, p->flip_a)), ra, k), p->flip_y);
    }
}

void rq_qmul_avx512(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    /* differences of codes and their products are integers below 2^24: exact as floats */
    const __m512i za = _mm512_set1_epi32(p->za), zb = _mm512_set1_epi32(p->zb);
    const __m512 r = _mm512_set1_ps(p->r), zc = _mm512_set1_ps(p->zc);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = mask_of(n - i);
        const __m512 va = _mm512_cvtepi32_ps(_mm512_sub_epi32(load16(a + i, m, p->flip_a), za));
        const __m512 vb = _mm512_cvtepi32_ps(_mm512_sub_epi32(load16(b + i, m, p->flip_b), zb));
        const __m512 v = _mm512_mul_ps(_mm512_mul_ps(va, vb), r);
        store16(y + i, m, _mm512_add_ps(v, zc), p->flip_y);
    }
}

#endif
