/* kernels/lut8_vbmi.c — a table of 256 bytes held in four registers: vpermi2b looks up 128 entries at once, the top bit
 * of the code chooses between the halves. Compiled with AVX-512 F, BW, DQ, VL and VBMI. */
#include "kernels/kernels_isa.h"

#ifdef __AVX512VBMI__

#include <immintrin.h>

void rq_lut8_vbmi(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256])
{
    const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64),
                  t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 m = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        const __m512i code = _mm512_maskz_loadu_epi8(m, x + i);
        const __m512i low = _mm512_permutex2var_epi8(t0, code, t1), high = _mm512_permutex2var_epi8(t2, code, t3);
        _mm512_mask_storeu_epi8(y + i, m, _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), low, high));
    }
}

#endif
