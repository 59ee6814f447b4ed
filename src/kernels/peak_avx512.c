/* kernels/peak_avx512.c — the same, sixteen lanes. Compiled with -mavx512f/bw/dq/vl. */
#ifdef __AVX512BW__
#include <immintrin.h>

#include "kernels/kernels_isa.h"

enum { SUMS = 6, LANES = 16 }; /* sums in flight; s32 or f32 in a register */

/* One a times six b: six different products of pairs of s16, each added to a sum. Names, not arrays: these stay in registers. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define START(i)                                                                                                       \
    __m512i b##i = _mm512_set1_epi16(i + 3), sum##i = _mm512_setzero_si512();                                          \
    RQ_PEAK_OPAQUE("v", b##i);
#define ADD(i)                                                                                                         \
    sum##i = _mm512_add_epi32(sum##i, _mm512_madd_epi16(a, b##i));                                                     \
    RQ_PEAK_OPAQUE("v", sum##i);

double rq_peak_int_avx512(int64_t steps)
{
    __m512i a = _mm512_set1_epi16(1);
    EACH(START)
    for (int64_t s = 0; s < steps; s++) {
        RQ_PEAK_OPAQUE("v", a);
        EACH(ADD)
    }
    return (double)steps * SUMS * LANES * 2;
}

double rq_peak_f32_avx512(int64_t steps)
{
    enum { CHAINS = 12 }; /* more than a multiply-add takes, times two units */
    __m512 sum[CHAINS];
    const __m512 a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(0.5f);
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm512_setzero_ps();
        RQ_PEAK_OPAQUE("v", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = _mm512_fmadd_ps(a, b, sum[i]);
    for (int i = 0; i < CHAINS; i++)
        RQ_PEAK_OPAQUE("v", sum[i]);
    return (double)steps * CHAINS * LANES;
}

#endif
