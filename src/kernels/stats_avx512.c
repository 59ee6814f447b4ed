/* kernels/stats_avx512.c — minmax and histogram sixteen floats at a time; see stats_avx2.c for the idea. */
#include "kernels/kernels_isa.h"

#if RQ_X86
#include <immintrin.h>
#include <math.h>

void rq_minmax_avx512(const float *x, size_t n, float *lo, float *hi, size_t *finite)
{
    const __m512 inf = _mm512_set1_ps(INFINITY), ninf = _mm512_set1_ps(-INFINITY);
    __m512 least[2] = { inf, inf }, most[2] = { ninf, ninf };
    size_t i = 0, count = 0;
    for (; i + 32 <= n; i += 32)
        for (int u = 0; u < 2; u++) {
            __m512 v = _mm512_loadu_ps(x + i + 16 * u);
            __mmask16 ok = _mm512_cmp_ps_mask(_mm512_abs_ps(v), inf, _CMP_LT_OQ);
            least[u] = _mm512_mask_min_ps(least[u], ok, v, least[u]);
            most[u] = _mm512_mask_max_ps(most[u], ok, v, most[u]);
            count += (unsigned)__builtin_popcount(ok);
        }
    float a[16], b[16], least1, most1;
    size_t rest;
    _mm512_storeu_ps(a, _mm512_min_ps(least[0], least[1]));
    _mm512_storeu_ps(b, _mm512_max_ps(most[0], most[1]));
    rq_minmax_scalar(x + i, n - i, &least1, &most1, &rest);
    for (int k = 0; k < 16; k++) {
        least1 = a[k] < least1 ? a[k] : least1;
        most1 = b[k] > most1 ? b[k] : most1;
    }
    *lo = least1 + 0.0f;
    *hi = most1 + 0.0f;
    *finite = count + rest;
}

void rq_histogram_avx512(uint64_t *h, const rq_bins *b, const float *x, size_t n)
{
    const __m512 lo = _mm512_set1_ps(b->lo), hi = _mm512_set1_ps(b->hi);
    const __m512 from = _mm512_set1_ps(b->from), mul = _mm512_set1_ps(b->mul), div = _mm512_set1_ps(b->div);
    const __m512i keep = _mm512_set1_epi32(b->take_abs ? INT32_MAX : -1);
    const __m512i first = _mm512_set1_epi32(b->first), last = _mm512_set1_epi32(b->n - 1),
                  none = _mm512_setzero_si512();
    uint64_t zeros = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_castsi512_ps(_mm512_and_si512(keep, _mm512_loadu_si512(x + i)));
        __mmask16 in = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(v, lo, _CMP_GE_OQ), v, hi, _CMP_LE_OQ);
        __mmask16 zero = _mm512_mask_cmp_ps_mask(in, v, _mm512_setzero_ps(), _CMP_EQ_OQ);
        unsigned left = (unsigned)(in & ~zero);
        zeros += (unsigned)__builtin_popcount(zero);
        if (!left)
            continue;
        __m512 k = _mm512_roundscale_ps(_mm512_div_ps(_mm512_mul_ps(_mm512_sub_ps(v, from), mul), div),
                                        _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
        __m512i at = _mm512_sub_epi32(_mm512_cvttps_epi32(k), first);
        int32_t lane[16];
        _mm512_storeu_si512(lane, _mm512_min_epi32(_mm512_max_epi32(at, none), last));
        for (; left; left &= left - 1)
            h[lane[__builtin_ctz(left)]]++;
    }
    if (zeros) {
        int k = (int)floorf((0.0f - b->from) * b->mul / b->div) - b->first;
        k = k < 0 ? 0 : k;
        h[k < b->n ? k : b->n - 1] += zeros;
    }
    rq_histogram_scalar(h, b, x + i, n - i);
}

#endif
