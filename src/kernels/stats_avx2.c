/* kernels/stats_avx2.c — minmax and histogram eight floats at a time. minmax looks at four vectors together and
 * masks only where one of them holds what is not finite. The histogram finds bins in
 * vectors and counts in scalar code: stats_tmpl.h for long arrays. */
#include "kernels/kernels_isa.h"

#if RQ_X86
#include <immintrin.h>
#include <math.h>

enum { AHEAD = 4096 }; /* floats to fetch ahead: four pages; the hardware stops at each by itself */

void rq_minmax_avx2(const float *x, size_t n, float *lo, float *hi, size_t *finite)
{
    enum { WAYS = 4 }; /* vectors at a time */
    const __m256 inf = _mm256_set1_ps(INFINITY), ninf = _mm256_set1_ps(-INFINITY);
    const __m256i last = _mm256_set1_epi32(0x7f7fffff), magnitude = _mm256_set1_epi32(INT32_MAX);
    __m256 least[WAYS] = { inf, inf, inf, inf }, most[WAYS] = { ninf, ninf, ninf, ninf };
    size_t i = 0, bad = 0;
    for (; i + 8 * WAYS <= n; i += 8 * WAYS) {
        __m256 v[WAYS];
        __m256i odd[WAYS]; /* -1 where infinite or NaN */
        for (int u = 0; u < WAYS; u++) {
            _mm_prefetch((const char *)(x + i + 8 * u + AHEAD), _MM_HINT_T0);
            v[u] = _mm256_loadu_ps(x + i + 8 * u);
            odd[u] = _mm256_cmpgt_epi32(_mm256_and_si256(_mm256_castps_si256(v[u]), magnitude), last);
        }
        const __m256i any = _mm256_or_si256(_mm256_or_si256(odd[0], odd[1]), _mm256_or_si256(odd[2], odd[3]));
        if (_mm256_testz_si256(any, any)) {
            for (int u = 0; u < WAYS; u++) {
                least[u] = _mm256_min_ps(v[u], least[u]);
                most[u] = _mm256_max_ps(v[u], most[u]);
            }
        } else {
            for (int u = 0; u < WAYS; u++) {
                const __m256 m = _mm256_castsi256_ps(odd[u]);
                least[u] = _mm256_min_ps(_mm256_blendv_ps(v[u], inf, m), least[u]);
                most[u] = _mm256_max_ps(_mm256_blendv_ps(v[u], ninf, m), most[u]);
                bad += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_ps(m));
            }
        }
    }
    float a[8], b[8], least1, most1;
    size_t rest;
    _mm256_storeu_ps(a, _mm256_min_ps(_mm256_min_ps(least[0], least[1]), _mm256_min_ps(least[2], least[3])));
    _mm256_storeu_ps(b, _mm256_max_ps(_mm256_max_ps(most[0], most[1]), _mm256_max_ps(most[2], most[3])));
    rq_minmax_scalar(x + i, n - i, &least1, &most1, &rest);
    for (int k = 0; k < 8; k++) {
        least1 = a[k] < least1 ? a[k] : least1;
        most1 = b[k] > most1 ? b[k] : most1;
    }
    *lo = least1 + 0.0f;
    *hi = most1 + 0.0f;
    *finite = i - bad + rest;
}

static inline void bins_at(uint32_t *at, const float *x, size_t n, const rq_bins *b, int shift, int divide)
{
    const __m256 lo = _mm256_set1_ps(b->lo), hi = _mm256_set1_ps(b->hi);
    const __m256 from = _mm256_set1_ps(b->from), mul = _mm256_set1_ps(b->mul), div = _mm256_set1_ps(b->div);
    const __m256 drop = _mm256_castsi256_ps(_mm256_set1_epi32(b->take_abs ? INT32_MIN : 0)); /* the sign bit */
    const __m256i first = _mm256_set1_epi32(b->first), last = _mm256_set1_epi32(b->n - 1),
                  none = _mm256_setzero_si256(), out = _mm256_set1_epi32(b->n);
    const __m128i up = _mm_cvtsi32_si128(shift);
    for (size_t i = 0; i < n; i += 8) {
        _mm_prefetch((const char *)(x + i + AHEAD), _MM_HINT_T0);
        const __m256 v = _mm256_andnot_ps(drop, _mm256_loadu_ps(x + i));
        const __m256 in = _mm256_and_ps(_mm256_cmp_ps(v, lo, _CMP_GE_OQ), _mm256_cmp_ps(v, hi, _CMP_LE_OQ));
        __m256 k = _mm256_mul_ps(_mm256_sub_ps(v, from), mul);
        if (divide)
            k = _mm256_div_ps(k, div);
        __m256i bin = _mm256_sub_epi32(_mm256_cvttps_epi32(_mm256_floor_ps(k)), first);
        bin = _mm256_min_epi32(_mm256_max_epi32(bin, none), last);
        bin = _mm256_blendv_epi8(out, bin, _mm256_castps_si256(in));
        _mm256_storeu_si256((__m256i *)(at + i), _mm256_sll_epi32(bin, up));
    }
}

static void bins_of(uint32_t *at, const float *x, size_t n, const rq_bins *b, int shift)
{
    if (b->div == 1) /* which changes nothing */
        bins_at(at, x, n, b, shift, 0);
    else
        bins_at(at, x, n, b, shift, 1);
}

#include "kernels/stats_tmpl.h"

/* Few elements, or very many bins: straight into the counts. Exact zeros, half of what follows a Relu, would make every
 * count wait for the one before it, so they are tallied beside. */
static void count_few(uint64_t *h, const rq_bins *b, const float *x, size_t n)
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
    if (zeros) /* one zero through the definition says which bin */
        h[rq_bins_at(b, 0)] += zeros;
    rq_histogram_scalar(h, b, x + i, n - i);
}

void rq_histogram_avx2(uint64_t *h, const rq_bins *b, const float *x, size_t n)
{
    const int shift = tally_shift(b, n);
    const size_t most = shift < 0 ? 0 : n - n % 16;
    if (most)
        tally(h, b, x, most, shift);
    count_few(h, b, x + most, n - most);
}

double rq_squares_avx2(const float *x, const float *y, size_t n)
{
    __m256d sum[2] = { _mm256_setzero_pd(), _mm256_setzero_pd() };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t u = 0; u < 2; u++) {
            const __m256d d = _mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i + 4 * u)),
                                            _mm256_cvtps_pd(_mm_loadu_ps(y + i + 4 * u)));
            sum[u] = _mm256_add_pd(sum[u], _mm256_mul_pd(d, d));
        }
    double lane[8];
    _mm256_storeu_pd(lane, sum[0]);
    _mm256_storeu_pd(lane + 4, sum[1]);
    for (; i < n; i++) {
        const double d = (double)x[i] - (double)y[i];
        lane[i % 8] += d * d;
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

#endif
