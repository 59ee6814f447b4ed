/* kernels/stats_neon.c — minmax, sums of squares and the histogram four floats at a time, on 64-bit ARM; see stats_avx2.c for the idea. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>
#include <math.h>

void rq_minmax_neon(const float *x, size_t n, float *lo, float *hi, size_t *finite)
{
    enum { WAYS = 4 }; /* vectors at a time */
    const float32x4_t inf = vdupq_n_f32(INFINITY), ninf = vdupq_n_f32(-INFINITY);
    float32x4_t least[WAYS] = { inf, inf, inf, inf }, most[WAYS] = { ninf, ninf, ninf, ninf };
    size_t i = 0, bad = 0;
    for (; i + 4 * WAYS <= n; i += 4 * WAYS) {
        float32x4_t v[WAYS];
        uint32x4_t odd[WAYS]; /* -1 where infinite or NaN */
        for (int u = 0; u < WAYS; u++) {
            v[u] = vld1q_f32(x + i + 4 * u);
            odd[u] = vmvnq_u32(vcltq_f32(vabsq_f32(v[u]), inf));
        }
        const uint32x4_t any = vorrq_u32(vorrq_u32(odd[0], odd[1]), vorrq_u32(odd[2], odd[3]));
        if (!vmaxvq_u32(any)) {
            for (int u = 0; u < WAYS; u++) {
                least[u] = vminq_f32(v[u], least[u]);
                most[u] = vmaxq_f32(v[u], most[u]);
            }
        } else {
            for (int u = 0; u < WAYS; u++) {
                least[u] = vminq_f32(vbslq_f32(odd[u], inf, v[u]), least[u]);
                most[u] = vmaxq_f32(vbslq_f32(odd[u], ninf, v[u]), most[u]);
                bad += vaddvq_u32(vshrq_n_u32(odd[u], 31));
            }
        }
    }
    float least1, most1;
    size_t rest;
    rq_minmax_scalar(x + i, n - i, &least1, &most1, &rest);
    const float a = vminvq_f32(vminq_f32(vminq_f32(least[0], least[1]), vminq_f32(least[2], least[3])));
    const float b = vmaxvq_f32(vmaxq_f32(vmaxq_f32(most[0], most[1]), vmaxq_f32(most[2], most[3])));
    *lo = (a < least1 ? a : least1) + 0.0f;
    *hi = (b > most1 ? b : most1) + 0.0f;
    *finite = i - bad + rest;
}

double rq_squares_neon(const float *x, const float *y, size_t n)
{
    float64x2_t sum[4] = { vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0) };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t u = 0; u < 4; u++) {
            const float32x2_t a = vld1_f32(x + i + 2 * u), b = vld1_f32(y + i + 2 * u);
            const float64x2_t d = vsubq_f64(vcvt_f64_f32(a), vcvt_f64_f32(b));
            sum[u] = vaddq_f64(sum[u], vmulq_f64(d, d));
        }
    double lane[8];
    for (size_t u = 0; u < 4; u++)
        vst1q_f64(lane + 2 * u, sum[u]);
    for (size_t u = 0; i < n; i++, u++) {
        const double d = (double)x[i] - (double)y[i];
        lane[u] += d * d;
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static void bins_of(uint32_t *at, const float *x, size_t n, const rq_bins *b, int shift)
{
    const float32x4_t lo = vdupq_n_f32(b->lo), hi = vdupq_n_f32(b->hi), from = vdupq_n_f32(b->from),
                      mul = vdupq_n_f32(b->mul), div = vdupq_n_f32(b->div);
    const uint32x4_t keep = vdupq_n_u32(b->take_abs ? INT32_MAX : UINT32_MAX);
    const int32x4_t first = vdupq_n_s32(b->first), last = vdupq_n_s32(b->n - 1), none = vdupq_n_s32(0),
                    out = vdupq_n_s32(b->n), up = vdupq_n_s32(shift);
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = vreinterpretq_f32_u32(vandq_u32(keep, vreinterpretq_u32_f32(vld1q_f32(x + i))));
        const uint32x4_t in = vandq_u32(vcgeq_f32(v, lo), vcleq_f32(v, hi));
        const float32x4_t k = vdivq_f32(vmulq_f32(vsubq_f32(v, from), mul), div);
        int32x4_t bin = vsubq_s32(vcvtmq_s32_f32(k), first); /* rounded down */
        bin = vbslq_s32(in, vminq_s32(vmaxq_s32(bin, none), last), out);
        vst1q_u32(at + i, vreinterpretq_u32_s32(vshlq_s32(bin, up)));
    }
}

#include "kernels/stats_tmpl.h"

void rq_histogram_neon(uint64_t *h, const rq_bins *b, const float *x, size_t n)
{
    const int shift = tally_shift(b, n);
    const size_t most = shift < 0 ? 0 : n - n % 16;
    if (most)
        tally(h, b, x, most, shift);
    rq_histogram_scalar(h, b, x + most, n - most);
}

#endif
