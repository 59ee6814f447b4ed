/* kernels/half_avx512.c — halves by the conversions of AVX-512F, 16 at a time. They make a signalling NaN quiet, which the definition
 * does not, so sixteen that have a NaN among them go through it. Compiled with AVX-512 F, BW, DQ and VL. */
#ifdef __AVX512BW__
#include "kernels/half_ends.h"
#include "kernels/kernels_isa.h"

static void to_float(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_to_float(x[i]);
}

void rq_half_to_float_avx512(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + i)));
        if (_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q))
            to_float(y + i, x + i, 16);
        else
            _mm512_storeu_ps(y + i, v);
    }
    to_float(y + i, x + i, n - i);
}

void rq_half_from_float_avx512(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(y + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = rq_half_from_float(x[i]);
}

static inline __m512i order_of(__m512i h)
{
    return _mm512_xor_si512(h, _mm512_and_si512(_mm512_srai_epi16(h, 15), _mm512_set1_epi16(0x7fff)));
}

void rq_half_minmax_avx512(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length)
{
    for (size_t b = 0; b < blocks; b++, x += length) {
        __m512i least = _mm512_set1_epi16(INT16_MAX), most = _mm512_set1_epi16(INT16_MIN);
        size_t i = 0;
        for (; i + 32 <= length; i += 32) {
            const __m512i v = order_of(_mm512_loadu_si512(x + i));
            least = _mm512_min_epi16(least, v);
            most = _mm512_max_epi16(most, v);
        }
        if (i < length) {
            const __mmask32 there = (__mmask32)((1u << (length - i)) - 1);
            const __m512i v = order_of(_mm512_maskz_loadu_epi16(there, x + i));
            least = _mm512_mask_min_epi16(least, there, least, v);
            most = _mm512_mask_max_epi16(most, there, most, v);
        }
        const __m256i least2 = _mm256_min_epi16(_mm512_castsi512_si256(least), _mm512_extracti64x4_epi64(least, 1)),
                      most2 = _mm256_max_epi16(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1));
        const half_ends ends =
            half_ends_of(_mm_min_epi16(_mm256_castsi256_si128(least2), _mm256_extracti128_si256(least2, 1)),
                         _mm_max_epi16(_mm256_castsi256_si128(most2), _mm256_extracti128_si256(most2, 1)));
        lo[b] = rq_half_of_order(ends.least);
        hi[b] = rq_half_of_order(ends.most);
    }
}

#endif
