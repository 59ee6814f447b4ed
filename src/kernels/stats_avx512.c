/* kernels/stats_avx512.c — minmax and histogram sixteen floats at a time; see stats_avx2.c for the idea. */
#include "kernels/kernels_isa.h"

#if RQ_X86
#include <immintrin.h>
#include <math.h>

enum { AHEAD = 4096 }; /* floats to fetch ahead: four pages; the hardware stops at each by itself */

void rq_minmax_avx512(const float *x, size_t n, float *lo, float *hi, size_t *finite)
{
    enum { WAYS = 4, INF_NAN = 0x99 }; /* vectors at a time; what fpclass is asked */
    __m512 least[WAYS], most[WAYS];
    for (int u = 0; u < WAYS; u++) {
        least[u] = _mm512_set1_ps(INFINITY);
        most[u] = _mm512_set1_ps(-INFINITY);
    }
    size_t i = 0, bad = 0;
    for (; i + 16 * WAYS <= n; i += 16 * WAYS) {
        __m512 v[WAYS];
        __mmask16 odd[WAYS];
        for (int u = 0; u < WAYS; u++) {
            _mm_prefetch((const char *)(x + i + 16 * u + AHEAD), _MM_HINT_T0);
            v[u] = _mm512_loadu_ps(x + i + 16 * u);
            odd[u] = _mm512_fpclass_ps_mask(v[u], INF_NAN);
        }
        if (_mm512_kortestz(_mm512_kor(odd[0], odd[1]), _mm512_kor(odd[2], odd[3]))) {
            for (int u = 0; u < WAYS; u++) {
                least[u] = _mm512_min_ps(v[u], least[u]);
                most[u] = _mm512_max_ps(v[u], most[u]);
            }
        } else {
            for (int u = 0; u < WAYS; u++) {
                least[u] = _mm512_mask_min_ps(least[u], (__mmask16)~odd[u], v[u], least[u]);
                most[u] = _mm512_mask_max_ps(most[u], (__mmask16)~odd[u], v[u], most[u]);
                bad += (unsigned)__builtin_popcount(odd[u]);
            }
        }
    }
    for (; i < n; i += 16) {
        const __mmask16 there = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        const __m512 v = _mm512_maskz_loadu_ps(there, x + i);
        const __mmask16 odd = _mm512_mask_fpclass_ps_mask(there, v, INF_NAN), good = there & (__mmask16)~odd;
        least[0] = _mm512_mask_min_ps(least[0], good, v, least[0]);
        most[0] = _mm512_mask_max_ps(most[0], good, v, most[0]);
        bad += (unsigned)__builtin_popcount(odd);
    }
    *lo = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(least[0], least[1]), _mm512_min_ps(least[2], least[3]))) +
          0.0f;
    *hi = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]))) + 0.0f;
    *finite = n - bad;
}

static inline void bins_at(uint32_t *at, const float *x, size_t n, const rq_bins *b, int shift, int divide)
{
    const __m512 lo = _mm512_set1_ps(b->lo), hi = _mm512_set1_ps(b->hi);
    const __m512 from = _mm512_set1_ps(b->from), mul = _mm512_set1_ps(b->mul), div = _mm512_set1_ps(b->div);
    const __m512i keep = _mm512_set1_epi32(b->take_abs ? INT32_MAX : -1);
    const __m512i first = _mm512_set1_epi32(b->first), last = _mm512_set1_epi32(b->n - 1),
                  none = _mm512_setzero_si512(), out = _mm512_set1_epi32(b->n);
    const __m128i up = _mm_cvtsi32_si128(shift);
    for (size_t i = 0; i < n; i += 16) {
        _mm_prefetch((const char *)(x + i + AHEAD), _MM_HINT_T0);
        const __m512 v = _mm512_castsi512_ps(_mm512_and_si512(keep, _mm512_loadu_si512(x + i)));
        const __mmask16 in = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(v, lo, _CMP_GE_OQ), v, hi, _CMP_LE_OQ);
        __m512 k = _mm512_mul_ps(_mm512_sub_ps(v, from), mul);
        if (divide)
            k = _mm512_div_ps(k, div);
        k = _mm512_roundscale_ps(k, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
        __m512i bin = _mm512_sub_epi32(_mm512_cvttps_epi32(k), first);
        bin = _mm512_mask_min_epi32(out, in, _mm512_max_epi32(bin, none), last);
        _mm512_storeu_si512(at + i, _mm512_sll_epi32(bin, up));
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
    if (zeros) /* one zero through the definition says which bin */
        h[rq_bins_at(b, 0)] += zeros;
    rq_histogram_scalar(h, b, x + i, n - i);
}

void rq_histogram_avx512(uint64_t *h, const rq_bins *b, const float *x, size_t n)
{
    const int shift = tally_shift(b, n);
    const size_t most = shift < 0 ? 0 : n - n % 16;
    if (most)
        tally(h, b, x, most, shift);
    count_few(h, b, x + most, n - most);
}

double rq_squares_avx512(const float *x, const float *y, size_t n)
{
    __m512d sum = _mm512_setzero_pd();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m512d d =
            _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x + i)), _mm512_cvtps_pd(_mm256_loadu_ps(y + i)));
        sum = _mm512_add_pd(sum, _mm512_mul_pd(d, d));
    }
    double lane[8];
    _mm512_storeu_pd(lane, sum);
    for (; i < n; i++) {
        const double d = (double)x[i] - (double)y[i];
        lane[i % 8] += d * d;
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

#endif
