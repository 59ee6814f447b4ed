/* kernels/peak_vnni.c — the most of vpdpbusd on 512 bits. Compiled with -mavx512vnni. */
#ifdef __AVX512VNNI__
#include <immintrin.h>

#include "kernels/kernels_isa.h"

enum { CHAINS = 16, LANES = 16, KR = 4 };

double rq_peak_int_vnni(int64_t steps)
{
    __m512i sum[CHAINS];
    const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm512_setzero_si512();
        RQ_PEAK_OPAQUE("v", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
    for (int i = 0; i < CHAINS; i++)
        RQ_PEAK_OPAQUE("v", sum[i]);
    return (double)steps * CHAINS * LANES * KR;
}

#endif
