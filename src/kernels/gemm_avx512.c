/* kernels/gemm_avx512.c — the integer tile on AVX-512 without VNNI: depth in steps of 2, both sides widened to s16 (A
 * when it is packed) for vpmaddwd, as in gemm_avx2.c: nothing saturates. Compiled with -mavx512f/bw/dq/vl. */
#ifdef __AVX512BW__
#include <immintrin.h>
#include <stdint.h>

enum { KR = 2 };
typedef int16_t a_elem;

static inline __m512i load_step(const uint8_t *b)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)b));
}

static inline __m512i madd_step(__m512i sum, __m512i x, __m512i w)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
}

#include "kernels/gemm_zmm.h"

static void interleave(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip)
{
    const __m256i f = _mm256_set1_epi8((char)flip);
    for (size_t j = 0; j < n; j += LANES) {
        const __mmask16 m = n - j >= LANES ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
        const __m128i r0 = _mm_maskz_loadu_epi8(m, rows[0] + j), r1 = _mm_maskz_loadu_epi8(m, rows[1] + j);
        const __m256i v =
            _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi8(r0, r1)), _mm_unpackhi_epi8(r0, r1), 1);
        _mm256_storeu_si256((__m256i *)(dst + j * KR), _mm256_xor_si256(v, f));
    }
}

const rq_gemm_isa rq_gemm_avx512 = {
    .mr = MR,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .a_bytes = 2,
    .tile = tile,
    .interleave = interleave,
};

#endif
