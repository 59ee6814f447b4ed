/* kernels/stats_avx2.c — minmax and histogram eight floats at a time. The histogram computes indices in
 * vectors and counts in scalar code; exact zeros, half of what follows a Relu, would make every count wait for
 * the one before it, so they are tallied beside the table. */
#include "kernels/kernels_isa.h"

#if RQ_X86
#include <immintrin.h>
#include <math.h>

void rq_minmax_avx2(const float *x, size_t n, float *lo, float *hi, size_t *finite)
{
    const __m256 inf = _mm256_set1_ps(INFINITY), ninf = _mm256_set1_ps(-INFINITY);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 least[2] = { inf, inf }, most[2] = { ninf, ninf };
    size_t i = 0, count = 0;
    while (i + 16 <= n) {
        /* -1 per finite lane; a block of 2^20 keeps the 32-bit tallies far from their end */
        size_t end = n - i > (1u << 20) ? i + (1u << 20) : n - (n - i) % 16;
        __m256i tally[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        for (; i + 16 <= end; i += 16)
            for (int u = 0; u < 2; u++) {
                __m256 v = _mm256_loadu_ps(x + i + 8 * u);
                __m256 ok = _mm256_cmp_ps(_mm256_andnot_ps(sign, v), inf, _CMP_LT_OQ);
                least[u] = _mm256_min_ps(_mm256_blendv_ps(inf, v, ok), least[u]);
                most[u] = _mm256_max_ps(_mm256_blendv_ps(ninf, v, ok), most[u]);
                tally[u] = _mm256_sub_epi32(tally[u], _mm256_castps_si256(ok));
            }
        uint32_t lane[8];
        _mm256_storeu_si256((__m256i *)lane, _mm256_add_epi32(tally[0], tally[1]));
        for (int k = 0; k < 8; k++)
            count += lane[k];
    }
    float a[8], b[8], least1 = INFINITY, most1 = -INFINITY;
    size_t rest = 0;
    _mm256_storeu_ps(a, _mm256_min_ps(least[0], least[1]));
    _mm256_storeu_ps(b, _mm256_max_ps(most[0], most[1]));
    rq_minmax_scalar(x + i, n - i, &least1, &most1, &rest);
    for (int k = 0; k < 8; k++) {
        least1 = a[k] < least1 ? a[k] : least1;
        most1 = b[k] > most1 ? b[k] : most1;
    }
    *lo = least1 + 0.0f;
    *hi = most1 + 0.0f;
    *finite = count + rest;
}

void rq_histogram_avx2(uint64_t *h, const rq_bins *b, const float *x, size_t n)
{
    const __m256 lo = _mm256_set1_ps(b->lo), hi = _mm256_set1_ps(b->hi);
    const __m256 from = _mm256_set1_ps(b->from), mul = _mm256_set1_ps(b->mul), div = _mm256_set1_ps(b->div);
    const __m256 drop = _mm256_castsi256_ps(_mm256_set1_epi32(b->take_abs ? INT32_MIN : 0)); /* the sign bit */
    const __m256i first = _mm256_set1_epi32(b->first), last = _mm256_set1_epi32(b->n - 1),
                  none = _mm256_setzero_si256();
    uint64_t zeros = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_andnot_ps(drop, _mm256_loadu_ps(x + i));
        __m256 in = _mm256_and_ps(_mm256_cmp_ps(v, lo, _CMP_GE_OQ), _mm256_cmp_ps(v, hi, _CMP_LE_OQ));
        int zero = _mm256_movemask_ps(_mm256_and_ps(in, _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_EQ_OQ)));
        unsigned left = (unsigned)(_mm256_movemask_ps(in) & ~zero);
        zeros += (unsigned)__builtin_popcount((unsigned)zero);
        if (!left)
            continue;
        __m256 k = _mm256_floor_ps(_mm256_div_ps(_mm256_mul_ps(_mm256_sub_ps(v, from), mul), div));
        __m256i at = _mm256_sub_epi32(_mm256_cvttps_epi32(k), first);
        int32_t lane[8];
        _mm256_storeu_si256((__m256i *)lane, _mm256_min_epi32(_mm256_max_epi32(at, none), last));
        for (; left; left &= left - 1)
            h[lane[__builtin_ctz(left)]]++;
    }
    if (zeros) { /* one zero through the definition says which bin */
        int k = (int)floorf((0.0f - b->from) * b->mul / b->div) - b->first;
        k = k < 0 ? 0 : k;
        h[k < b->n ? k : b->n - 1] += zeros;
    }
    rq_histogram_scalar(h, b, x + i, n - i);
}

#endif
