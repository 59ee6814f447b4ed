/* kernels/lut8_avx2.c — a table of 256 bytes by shuffles of 16. vpshufb looks at the low four bits of an index and gives 0 where
 * the top bit is set. Sixteenth t of the table stands there xor-ed with the one before it: a code below 128 is looked up in the
 * first, and again less 16 as long as that is not negative, so what it gathers is its own sixteenth. The upper half is the same
 * for codes with the top bit flipped. Three instructions per sixteenth. Compiled with -mavx2. */
#include "kernels/kernels_isa.h"

#ifdef __AVX2__

#include <immintrin.h>

enum { VECTORS = 2, STEP = 32 * VECTORS };

static inline __m256i sixteenth(const uint8_t *table, int t)
{
    const __m128i own = _mm_loadu_si128((const __m128i *)(table + 16 * t));
    const __m128i before = t % 8 ? _mm_loadu_si128((const __m128i *)(table + 16 * t - 16)) : _mm_setzero_si128();
    return _mm256_broadcastsi128_si256(_mm_xor_si128(own, before));
}

void rq_lut8_avx2(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256])
{
    const __m256i top = _mm256_set1_epi8((char)0x80), next = _mm256_set1_epi8(16);
    size_t i = 0;
    if (n >= STEP) {
        __m256i part[16];
        for (int t = 0; t < 16; t++)
            part[t] = sixteenth(table, t);
        for (; i + STEP <= n; i += STEP) {
            __m256i low[VECTORS], sum[VECTORS];
            for (int v = 0; v < VECTORS; v++) {
                low[v] = _mm256_loadu_si256((const __m256i *)(x + i) + v);
                sum[v] = _mm256_setzero_si256();
            }
            for (int half = 0; half < 16; half += 8) {
                for (int t = half; t < half + 8; t++) {
                    for (int v = 0; v < VECTORS; v++) {
                        sum[v] = _mm256_xor_si256(sum[v], _mm256_shuffle_epi8(part[t], low[v]));
                        low[v] = _mm256_subs_epi8(low[v], next); /* stops at -128 */
                    }
                }
                for (int v = 0; v < VECTORS; v++)
                    low[v] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(x + i) + v), top);
            }
            for (int v = 0; v < VECTORS; v++)
                _mm256_storeu_si256((__m256i *)(y + i) + v, sum[v]);
        }
    }
    for (; i < n; i++)
        y[i] = table[x[i]];
}

#endif
