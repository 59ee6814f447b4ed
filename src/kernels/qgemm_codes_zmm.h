/* kernels/qgemm_codes_zmm.h — sums of a tile, in registers of 16, to codes (rq_qgemm_codes), for the tiles of AVX-512. They define MAX_ROWS and vec.
 *
 * No conversion overflows and no multiplier is NaN, by contract. Packs saturate, to s16 and to u8, which cuts the upper end; what is left of the lower
 * one max with lo cuts. Codes up to 127 are u8 ones with the top bit flipped, until they are stored. */
#include "kernels/kernels_isa.h"

typedef struct codes_range {
    __m512i zp, lo, flip, order;
} codes_range;

static inline codes_range codes_range_of(const rq_qgemm_codes *o)
{
    const int32_t up = o->hi == 127 ? 128 : 0;
    return (codes_range) { _mm512_set1_epi16((int16_t)(o->zp + up)), _mm512_set1_epi8((char)(o->lo + up)),
                           _mm512_set1_epi8((char)up),
                           _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15) };
}

static inline __m512i codes_rounded(__m512i s, __m512 m)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(s), m));
}

/* 16 codes of a, then of b, c and d. */
static inline __m512i codes_joined(__m512i a, __m512i b, __m512i c, __m512i d, codes_range r)
{
    const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), r.zp),
                  cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), r.zp);
    const __m512i q = _mm512_xor_si512(_mm512_max_epu8(_mm512_packus_epi16(ab, cd), r.lo), r.flip);
    return _mm512_permutexvar_epi32(r.order, q);
}

/* `columns` of each of the rows of a tile, which lie `padded` apart. */
static __attribute__((noinline)) void codes_copy(const rq_qgemm_codes *o, const uint8_t *from, int padded, int rows)
{
    const __mmask32 part = (__mmask32)((1ull << o->columns) - 1);
    uint8_t *y = o->y;
    for (int q = 0; q < rows; q++, y += o->ldy, from += padded)
        if (o->columns == 8)
            _mm_storel_epi64((__m128i *)y, _mm_loadl_epi64((const __m128i *)from));
        else
            _mm256_mask_storeu_epi8(y, part, _mm256_maskz_loadu_epi8(part, from));
}

/* Inlined where rows and vectors are constants. A panel that is not full goes through a buffer. */
static inline __attribute__((always_inline)) void codes_of(const rq_qgemm_codes *o, vec (*s)[MAX_VECTORS],
                                                           const int rows, const int vectors)
{
    _Alignas(64) uint8_t whole[MAX_ROWS * MAX_VECTORS * 16];
    const codes_range r = codes_range_of(o);
    const __m512 m0 = _mm512_loadu_ps(o->m), m1 = vectors == 2 ? _mm512_loadu_ps(o->m + 16) : m0;
    const bool part = o->columns < vectors * 16;
    const size_t ldy = part ? (size_t)(vectors * 16) : o->ldy;
    uint8_t *y = part ? whole : o->y;
    if (o->row_add)
        UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++) s[q][v] =
            _mm512_add_epi32(s[q][v], _mm512_set1_epi32(o->row_add[q]));
    if (vectors == 2)
        UNROLL for (int q = 0; q < rows; q += 2, y += 2 * ldy)
        {
            const int next = q + 1 < rows ? q + 1 : q;
            const __m512i both = codes_joined(codes_rounded(s[q][0], m0), codes_rounded(s[q][1], m1),
                                              codes_rounded(s[next][0], m0), codes_rounded(s[next][1], m1), r);
            _mm256_storeu_si256((__m256i *)y, _mm512_castsi512_si256(both));
            if (next > q)
                _mm256_storeu_si256((__m256i *)(y + ldy), _mm512_extracti64x4_epi64(both, 1));
        }
    else
        UNROLL for (int q = 0; q < rows; q += 4, y += 4 * ldy)
        {
            const int q1 = q + 1 < rows ? q + 1 : q, q2 = q + 2 < rows ? q + 2 : q, q3 = q + 3 < rows ? q + 3 : q;
            const __m512i all = codes_joined(codes_rounded(s[q][0], m0), codes_rounded(s[q1][0], m0),
                                             codes_rounded(s[q2][0], m0), codes_rounded(s[q3][0], m0), r);
            _mm_storeu_si128((__m128i *)y, _mm512_castsi512_si128(all));
            if (q1 > q)
                _mm_storeu_si128((__m128i *)(y + ldy), _mm512_extracti32x4_epi32(all, 1));
            if (q2 > q)
                _mm_storeu_si128((__m128i *)(y + 2 * ldy), _mm512_extracti32x4_epi32(all, 2));
            if (q3 > q)
                _mm_storeu_si128((__m128i *)(y + 3 * ldy), _mm512_extracti32x4_epi32(all, 3));
        }
    if (part)
        codes_copy(o, whole, vectors * 16, rows);
}
