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

static inline __m512i look_up(const __m512i part[4], __m512i code)
{
    const __m512i low = _mm512_permutex2var_epi8(part[0], code, part[1]),
                  high = _mm512_permutex2var_epi8(part[2], code, part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), low, high);
}

/* Each byte of the reals by itself, then the four put together. Unpacking works within 16 bytes, so the codes are put in an order before it
 * that it turns into that of x. */
void rq_lut8_f32_vbmi(float *y, const uint8_t *x, size_t n, const rq_lut8_f32 *table)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i part[4][4];
    for (int b = 0; b < 4; b++)
        for (int i = 0; i < 4; i++)
            part[b][i] = _mm512_loadu_si512(table->plane[b] + 64 * i);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i code = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(x + i));
        const __m512i b0 = look_up(part[0], code), b1 = look_up(part[1], code), b2 = look_up(part[2], code),
                      b3 = look_up(part[3], code);
        const __m512i low = _mm512_unpacklo_epi8(b0, b1), high = _mm512_unpackhi_epi8(b0, b1);
        const __m512i low2 = _mm512_unpacklo_epi8(b2, b3), high2 = _mm512_unpackhi_epi8(b2, b3);
        _mm512_storeu_si512(y + i, _mm512_unpacklo_epi16(low, low2));
        _mm512_storeu_si512(y + i + 16, _mm512_unpackhi_epi16(low, low2));
        _mm512_storeu_si512(y + i + 32, _mm512_unpacklo_epi16(high, high2));
        _mm512_storeu_si512(y + i + 48, _mm512_unpackhi_epi16(high, high2));
    }
    for (; i < n; i++)
        y[i] = table->value[x[i]];
}

#endif
