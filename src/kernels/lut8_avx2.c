/* kernels/lut8_avx2.c — a table of 256 bytes, 32 codes at a time: vpshufb looks up 16 entries and gives 0 where the
 * index has its top bit set, so 16 of them, each for one sixteenth of the codes, are or-ed. Compiled with -mavx2. */
#include "kernels/kernels_isa.h"

#ifdef __AVX2__

#include <immintrin.h>

void rq_lut8_avx2(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256])
{
    const __m256i top = _mm256_set1_epi8(0x70), next = _mm256_set1_epi8(16);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i code = _mm256_loadu_si256((const __m256i *)(x + i)), sum = _mm256_setzero_si256();
        for (int t = 0; t < 16; t++) {
            /* 0..15 becomes 0x70..0x7f; all else gets the top bit */
            const __m256i part = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(table + 16 * t)));
            sum = _mm256_or_si256(sum, _mm256_shuffle_epi8(part, _mm256_adds_epu8(code, top)));
            code = _mm256_sub_epi8(code, next);
        }
        _mm256_storeu_si256((__m256i *)(y + i), sum);
    }
    for (; i < n; i++)
        y[i] = table[x[i]];
}

#endif
