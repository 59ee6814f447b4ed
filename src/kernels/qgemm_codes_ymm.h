/* kernels/qgemm_codes_ymm.h — sums of a tile, in registers of 8, to codes (rq_qgemm_codes), for the tiles of AVX2 and AVX-VNNI. They define MAX_ROWS
 * and vec. How ends are cut: kernels/qgemm_codes_zmm.h. */
#include "kernels/kernels_isa.h"

#include <string.h>

typedef struct codes_range {
    __m256i zp, lo, flip, order;
} codes_range;

static inline codes_range codes_range_of(const rq_qgemm_codes *o)
{
    const int32_t up = o->hi == 127 ? 128 : 0;
    return (codes_range) { _mm256_set1_epi16((int16_t)(o->zp + up)), _mm256_set1_epi8((char)(o->lo + up)),
                           _mm256_set1_epi8((char)up), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7) };
}

static inline __m256i codes_rounded(__m256i s, __m256 m)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(s), m));
}

/* 8 codes of a, then of b, c and d. */
static inline __m256i codes_joined(__m256i a, __m256i b, __m256i c, __m256i d, codes_range r)
{
    const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), r.zp),
                  cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), r.zp);
    const __m256i q = _mm256_xor_si256(_mm256_max_epu8(_mm256_packus_epi16(ab, cd), r.lo), r.flip);
    return _mm256_permutevar8x32_epi32(q, r.order);
}

/* `columns` of each of the rows of a tile, which lie `padded` apart. */
static __attribute__((noinline)) void codes_copy(const rq_qgemm_codes *o, const uint8_t *from, int padded, int rows)
{
    uint8_t *y = o->y;
    for (int q = 0; q < rows; q++, y += o->ldy, from += padded)
        memcpy(y, from, (size_t)o->columns);
}

/* Inlined where rows and vectors are constants. A panel that is not full goes through a buffer. */
static inline __attribute__((always_inline)) void codes_of(const rq_qgemm_codes *o, vec (*s)[MAX_VECTORS],
                                                           const int rows, const int vectors)
{
    _Alignas(32) uint8_t whole[MAX_ROWS * MAX_VECTORS * 8];
    const codes_range r = codes_range_of(o);
    const __m256 m0 = _mm256_loadu_ps(o->m), m1 = vectors == 2 ? _mm256_loadu_ps(o->m + 8) : m0;
    const bool part = o->columns < vectors * 8;
    const size_t ldy = part ? (size_t)(vectors * 8) : o->ldy;
    uint8_t *y = part ? whole : o->y;
    if (o->row_add)
        UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++) s[q][v] =
            _mm256_add_epi32(s[q][v], _mm256_set1_epi32(o->row_add[q]));
    if (vectors == 2)
        UNROLL for (int q = 0; q < rows; q += 2, y += 2 * ldy)
        {
            const int next = q + 1 < rows ? q + 1 : q;
            const __m256i both = codes_joined(codes_rounded(s[q][0], m0), codes_rounded(s[q][1], m1),
                                              codes_rounded(s[next][0], m0), codes_rounded(s[next][1], m1), r);
            _mm_storeu_si128((__m128i *)y, _mm256_castsi256_si128(both));
            if (next > q)
                _mm_storeu_si128((__m128i *)(y + ldy), _mm256_extracti128_si256(both, 1));
        }
    else
        UNROLL for (int q = 0; q < rows; q += 4, y += 4 * ldy)
        {
            const int q1 = q + 1 < rows ? q + 1 : q, q2 = q + 2 < rows ? q + 2 : q, q3 = q + 3 < rows ? q + 3 : q;
            const __m256i all = codes_joined(codes_rounded(s[q][0], m0), codes_rounded(s[q1][0], m0),
                                             codes_rounded(s[q2][0], m0), codes_rounded(s[q3][0], m0), r);
            const __m128i low = _mm256_castsi256_si128(all), high = _mm256_extracti128_si256(all, 1);
            _mm_storel_epi64((__m128i *)y, low);
            if (q1 > q)
                _mm_storel_epi64((__m128i *)(y + ldy), _mm_unpackhi_epi64(low, low));
            if (q2 > q)
                _mm_storel_epi64((__m128i *)(y + 2 * ldy), high);
            if (q3 > q)
                _mm_storel_epi64((__m128i *)(y + 3 * ldy), _mm_unpackhi_epi64(high, high));
        }
    if (part)
        codes_copy(o, whole, vectors * 8, rows);
}
