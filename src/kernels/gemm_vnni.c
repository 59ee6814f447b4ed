/* kernels/gemm_vnni.c — the integer tile on AVX-512 VNNI: depth in steps of 4. Compiled with -mavx512f/bw/dq/vl/vnni.
 * vpdpbusd adds four u8 * s8 products to an s32 without saturating (vpdpbusds would). */
#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <stdint.h>

enum { KR = 4 };
typedef int8_t a_elem;

static inline __m512i load_step(const uint8_t *b)
{
    return _mm512_loadu_si512(b);
}

static inline __m512i madd_step(__m512i sum, __m512i x, __m512i w)
{
    return _mm512_dpbusd_epi32(sum, x, w);
}

#include "kernels/gemm_zmm.h"

static void interleave(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip)
{
    /* The four rows go to the four 128-bit lanes; dwords are then gathered so that lane q holds columns 4q..4q+3 of
     * each row, and its 4 x 4 bytes are transposed. */
    const __m512i f = _mm512_set1_epi8((char)flip);
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i transpose =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    for (size_t j = 0; j < n; j += LANES) {
        const __mmask16 m = n - j >= LANES ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
        __m512i v = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(m, rows[0] + j));
        v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, rows[1] + j), 1);
        v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, rows[2] + j), 2);
        v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, rows[3] + j), 3);
        v = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(gather, v), transpose);
        _mm512_storeu_si512(dst + j * KR, _mm512_xor_si512(v, f));
    }
}

const rq_gemm_isa rq_gemm_vnni = {
    .mr = MR,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .a_bytes = 1,
    .tile = tile,
    .interleave = interleave,
};

#endif
