/* kernels/half_avx512.c — halves by the conversions of AVX-512F, 16 at a time. They make a signalling NaN quiet, which the definition
 * does not, so sixteen that have a NaN among them go through it. Compiled with AVX-512 F, BW, DQ and VL. */
#ifdef __AVX512BW__
#include "base/half.h"
#include "kernels/kernels_isa.h"

#include <immintrin.h>

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

#endif
