/* kernels/peak_avx2.c — the most of AVX2: products of s16, exact, as codes are widened to; multiply-adds of floats. Compiled with -mavx2 -mfma. */
#ifdef __AVX2__
#include <immintrin.h>

#include "kernels/kernels_isa.h"

enum { SUMS = 6, LANES = 8 }; /* sums in flight; s32 or f32 in a register */

/* One a times six b: six different products of pairs of s16, each added to a sum. Names, not arrays: these stay in registers. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define START(i)                                                                                                       \
    __m256i b##i = _mm256_set1_epi16(i + 3), sum##i = _mm256_setzero_si256();                                          \
    RQ_PEAK_OPAQUE("x", b##i);
#define ADD(i)                                                                                                         \
    sum##i = _mm256_add_epi32(sum##i, _mm256_madd_epi16(a, b##i));                                                     \
    RQ_PEAK_OPAQUE("x", sum##i);

double rq_peak_int_avx2(int64_t steps)
{
    __m256i a = _mm256_set1_epi16(1);
    EACH(START)
    for (int64_t s = 0; s < steps; s++) {
        RQ_PEAK_OPAQUE("x", a);
        EACH(ADD)
    }
    return (double)steps * SUMS * LANES * 2;
}

double rq_peak_f32_avx2(int64_t steps)
{
    enum { CHAINS = 12 }; /* more than a multiply-add takes, times two units */
    __m256 sum[CHAINS];
    const __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(0.5f);
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm256_setzero_ps();
        RQ_PEAK_OPAQUE("x", sum[i]);
    }
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = _mm256_fmadd_ps(a, b, sum[i]);
    for (int i = 0; i < CHAINS; i++)
        RQ_PEAK_OPAQUE("x", sum[i]);
    return (double)steps * CHAINS * LANES;
}

#endif
