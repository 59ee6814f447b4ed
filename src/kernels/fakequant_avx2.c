/* kernels/fakequant_avx2.c — fake quantization 8 at a time. Compiled with -mavx2; reached only through rq_kernels. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define SUFFIX avx2
#include "kernels/vec.h"

#include <stdbool.h>

/* Low bytes of 8 s32, together. */
static inline long long low_bytes(__m256i q)
{
    const __m256i each = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                          0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i low = _mm256_shuffle_epi8(q, each);
    return _mm_cvtsi128_si64(_mm_or_si128(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}

static inline void put_mask(uint8_t *p, vm m)
{
    const long long bytes = low_bytes(_mm256_srli_epi32(_mm256_castps_si256(m), 31));
    memcpy(p, &bytes, sizeof bytes);
}

static inline vm get_mask(const uint8_t *p)
{
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_setzero_si256()));
}

static inline vm get_equal(const uint8_t *p, uint8_t v)
{
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(wide, _mm256_set1_epi32(v)));
}

static inline void put_codes(uint8_t *p, vf c, bool stream)
{
    const long long bytes = low_bytes(_mm256_cvtps_epi32(c));
    if (stream)
        _mm_stream_si64((long long *)p, bytes);
    else
        memcpy(p, &bytes, sizeof bytes);
}

static inline void fence(void)
{
    _mm_sfence();
}

#include "kernels/fakequant_tmpl.h"
#endif
