/* kernels/peak_avxvnni.c — the most of vpdpbusd on 256 bits. Compiled with -mavxvnni. */
#ifdef __AVXVNNI__
#include <immintrin.h>

#include "kernels/kernels_isa.h"

enum { CHAINS = 12, LANES = 8, KR = 4 };

/* Names, not arrays: these stay in registers. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define START(i)                                                                                                       \
    __m256i sum##i = _mm256_setzero_si256();                                                                           \
    RQ_PEAK_OPAQUE("x", sum##i);
#define ADD(i)                                                                                                         \
    sum##i = _mm256_dpbusd_avx_epi32(sum##i, a, b);                                                                    \
    RQ_PEAK_OPAQUE("x", sum##i);

double rq_peak_int_avxvnni(int64_t steps)
{
    const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
    EACH(START)
    for (int64_t s = 0; s < steps; s++) {
        EACH(ADD)
    }
    return (double)steps * CHAINS * LANES * KR;
}

#endif
