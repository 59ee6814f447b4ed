/* kernels/fakequant_avx512.c — fake quantization 16 at a time. Compiled for AVX-512 (F, BW, DQ, VL); reached only through
 * rq_kernels. */
#ifdef __AVX512BW__
#define VEC_WIDTH 16
#define SUFFIX avx512
#include "kernels/vec.h"

#include <stdbool.h>

static inline void put_mask(uint8_t *p, vm m)
{
    _mm_storeu_si128((__m128i *)p, _mm_maskz_set1_epi8(m, 1));
}

static inline vm get_mask(const uint8_t *p)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return _mm_test_epi8_mask(bytes, bytes);
}

static inline vm get_equal(const uint8_t *p, uint8_t v)
{
    return _mm_cmpeq_epi8_mask(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)v));
}

static inline void put_codes(uint8_t *p, vf c, bool stream)
{
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(c));
    if (stream)
        _mm_stream_si128((__m128i *)p, bytes);
    else
        _mm_storeu_si128((__m128i *)p, bytes);
}

static inline void fence(void)
{
    _mm_sfence();
}

#include "kernels/fakequant_tmpl.h"
#endif
