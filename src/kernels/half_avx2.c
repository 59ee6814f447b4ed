/* kernels/half_avx2.c — halves by the conversions of F16C, 8 at a time. They make a signalling NaN quiet, which the definition does not, so eight
 * that have a NaN among them go through it. Compiled with -mavx2 and -mf16c. */
#ifdef __F16C__
#include "kernels/half_ends.h"
#include "kernels/kernels_isa.h"

static void to_float(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_half_to_float(x[i]);
}

void rq_half_to_float_avx2(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i)));
        if (_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)))
            to_float(y + i, x + i, 8);
        else
            _mm256_storeu_ps(y + i, v);
    }
    to_float(y + i, x + i, n - i);
}

void rq_half_from_float_avx2(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = rq_half_from_float(x[i]);
}

static inline __m256i order_of(__m256i h)
{
    return _mm256_xor_si256(h, _mm256_and_si256(_mm256_srai_epi16(h, 15), _mm256_set1_epi16(0x7fff)));
}

void rq_half_minmax_avx2(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length)
{
    for (size_t b = 0; b < blocks; b++, x += length) {
        __m256i least = _mm256_set1_epi16(INT16_MAX), most = _mm256_set1_epi16(INT16_MIN);
        size_t i = 0;
        for (; i + 16 <= length; i += 16) {
            const __m256i v = order_of(_mm256_loadu_si256((const __m256i *)(x + i)));
            least = _mm256_min_epi16(least, v);
            most = _mm256_max_epi16(most, v);
        }
        half_ends ends = half_ends_of(_mm_min_epi16(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1)),
                                      _mm_max_epi16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1)));
        for (; i < length; i++) {
            const int16_t v = rq_half_order(x[i]);
            ends.least = v < ends.least ? v : ends.least;
            ends.most = v > ends.most ? v : ends.most;
        }
        lo[b] = rq_half_of_order(ends.least);
        hi[b] = rq_half_of_order(ends.most);
    }
}

#endif
