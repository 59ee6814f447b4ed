/* quant/blocks_peer.c — the methods of ONNX Runtime's MatMulNBitsQuantizer, with its arithmetic: which type each sum
 * has, whether a scale is divided by or multiplied as a reciprocal, and how ties go, since with 16 codes a last bit
 * moves a code. Codes are unsigned, 0..most. */
#include <math.h>
#include <string.h>

#include "base/libm.h"
#include "base/mem.h"
#include "kernels/quantize.h"
#include "quant/blocks.h"

static void extremes(const float *x, int64_t n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (int64_t i = 1; i < n; i++) {
        *lo = x[i] < *lo ? x[i] : *lo;
        *hi = x[i] > *hi ? x[i] : *hi;
    }
}

/* ---- the default: blocks of MlasQuantizeBlockwise ---- */

void rq_blocks_ort(rq_blocks *b, int32_t most, bool symmetric)
{
    const int32_t middle = (most + 1) / 2;
    for (int64_t g = 0; g < b->n; g++) {
        const float *x = b->x + g * b->len;
        float lo, hi, scale;
        int32_t zero = middle;
        extremes(x, b->len, &lo, &hi);
        if (symmetric) {
            scale = (fabsf(hi) > fabsf(lo) ? hi : lo) / -(float)middle;
        } else {
            lo = lo < 0 ? lo : 0;
            hi = hi > 0 ? hi : 0;
            scale = (hi - lo) / (float)most;
            zero = rq_quantize_half_away(scale != 0 ? 0 - lo / scale : lo, 0, most);
        }
        const float reciprocal = scale != 0 ? 1 / scale : 0;
        b->scale[g] = scale;
        b->zero[g] = (float)zero;
        for (int64_t i = 0; i < b->len; i++)
            b->code[g * b->len + i] = rq_quantize_half_away(x[i] * reciprocal + (float)zero, 0, most);
    }
}

/* ---- RTN ---- */

void rq_blocks_rtn(rq_blocks *b, int32_t most, bool symmetric)
{
    for (int64_t g = 0; g < b->n; g++) {
        const float *x = b->x + g * b->len;
        float lo, hi;
        const int32_t middle = (most + 1) / 2;
        double scale = 1, zero = middle;
        extremes(x, b->len, &lo, &hi);
        if (symmetric) {
            const float magnitude = fabsf(lo) > fabsf(hi) ? fabsf(lo) : fabsf(hi);
            if (magnitude > 0)
                scale = (double)(magnitude * 2) / most;
        } else {
            if (lo != hi)
                scale = (double)(hi - lo) / most;
            zero = (double)rq_quantize_real_f64((0 - (double)lo) / scale, 0, 0, most);
        }
        b->scale[g] = (float)scale;
        b->zero[g] = (float)zero;
        for (int64_t i = 0; i < b->len; i++)
            b->code[g * b->len + i] = (int32_t)rq_quantize_real_f64((double)x[i] / scale + zero, 0, 0, most);
    }
}

/* ---- k_quant ---- */

/* The order in which numpy adds f32: eight sums side by side, up to 128 numbers; more are halved. */
static float sum_of(const float *v, int64_t n)
{
    if (n < 8) {
        float s = 0;
        for (int64_t i = 0; i < n; i++)
            s += v[i];
        return s;
    }
    if (n <= 128) {
        float r[8];
        int64_t i = 8;
        memcpy(r, v, sizeof r);
        for (; i + 8 <= n; i += 8)
            for (int k = 0; k < 8; k++)
                r[k] += v[i + k];
        float s = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        for (; i < n; i++)
            s += v[i];
        return s;
    }
    int64_t half = n / 2;
    half -= half % 8;
    return sum_of(v, half) + sum_of(v + half, n - half);
}

typedef struct k_work {
    const float *x;
    int64_t n;
    int32_t most;
    float *weight, *code, *t; /* [n] each */
} k_work;

static void k_codes(k_work *w, float iscale, float lo)
{
    for (int64_t i = 0; i < w->n; i++)
        w->code[i] = (float)rq_quantize_clamp(iscale * (w->x[i] - lo), 0, (float)w->most);
}

static float k_error(k_work *w, float scale, float lo)
{
    for (int64_t i = 0; i < w->n; i++) {
        const float d = scale * w->code[i] + lo - w->x[i];
        w->t[i] = w->weight[i] * (d * d);
    }
    return sum_of(w->t, w->n);
}

static void k_fit(k_work *w, float *scale, float *least)
{
    const float *x = w->x;
    float lo, hi;
    extremes(x, w->n, &lo, &hi);
    for (int64_t i = 0; i < w->n; i++)
        w->t[i] = x[i] * x[i];
    const float average = sqrtf(sum_of(w->t, w->n) / (float)w->n);
    for (int64_t i = 0; i < w->n; i++) {
        w->weight[i] = average + fabsf(x[i]);
        w->t[i] = w->weight[i] * x[i];
    }
    const float sum_w = sum_of(w->weight, w->n), sum_x = sum_of(w->t, w->n);
    float iscale = lo != hi ? (float)w->most / (hi - lo) : 1;
    *scale = 1 / iscale;
    k_codes(w, iscale, lo);
    float best = k_error(w, *scale, lo);
    for (int step = 0; step < 20; step++) {
        const float factor = (float)(-1 + 0.1 * step + w->most);
        iscale = lo != hi ? factor / (hi - lo) : 1;
        k_codes(w, iscale, lo);
        for (int64_t i = 0; i < w->n; i++)
            w->t[i] = w->weight[i] * w->code[i];
        const float sum_l = sum_of(w->t, w->n);
        for (int64_t i = 0; i < w->n; i++)
            w->t[i] = w->weight[i] * w->code[i] * w->code[i];
        const float sum_l2 = sum_of(w->t, w->n);
        for (int64_t i = 0; i < w->n; i++)
            w->t[i] = w->weight[i] * w->code[i] * x[i];
        const float sum_xl = sum_of(w->t, w->n), d = sum_w * sum_l2 - sum_l * sum_l;
        const float this_scale = (sum_w * sum_xl - sum_x * sum_l) / d, this_lo = (sum_l2 * sum_x - sum_l * sum_xl) / d;
        const float error = k_error(w, this_scale, this_lo);
        if (error < best) { /* the next range is stretched from here, as theirs is */
            best = error;
            *scale = this_scale;
            lo = this_lo;
        }
    }
    *least = lo;
}

rq_status rq_blocks_k_quant(rq_blocks *b, int32_t most)
{
    float *room = rq_mem_alloc((size_t)b->len * 3, sizeof *room);
    if (!room)
        return RQ_NO_MEMORY;
    for (int64_t g = 0; g < b->n; g++) {
        k_work w = { .x = b->x + g * b->len, .n = b->len, .most = most };
        float scale, lo;
        w.weight = room;
        w.code = room + b->len;
        w.t = room + 2 * b->len;
        k_fit(&w, &scale, &lo);
        const int32_t zero = rq_quantize_clamp(-lo / scale, 0, (float)most);
        b->scale[g] = scale;
        b->zero[g] = (float)zero;
        for (int64_t i = 0; i < b->len; i++)
            b->code[g * b->len + i] = (int32_t)rq_quantize_real_f64((double)w.x[i] / (double)scale + zero, 0, 0, most);
    }
    rq_mem_free(room);
    return RQ_OK;
}

/* ---- HQQ ---- */

/* The proximal operator of |.|^0.7. */
static float shrink(float e, float beta)
{
    const float a = fabsf(e), left = a - 1 / beta * rq_libm_powf(a + 1e-8f, -0.3f);
    return left > 0 ? copysignf(left, e) : 0;
}

/* One step on the zeros of all groups; the mean error before it. scale holds reciprocals here. */
static double hqq_step(rq_blocks *b, int32_t most, float beta)
{
    double total = 0;
    for (int64_t g = 0; g < b->n; g++) {
        const float s = b->scale[g], zero = b->zero[g];
        double sum = 0;
        for (int64_t i = 0; i < b->len; i++) {
            const float x = b->x[g * b->len + i];
            const float code = (float)rq_quantize_clamp(x * s + zero, 0, (float)most), back = (code - zero) / s;
            total += fabsf(x - back);
            sum += code - (x - shrink(x - back, beta)) * s;
        }
        b->zero[g] = (float)(sum / (double)b->len);
    }
    return total / ((double)b->n * (double)b->len);
}

void rq_blocks_hqq(rq_blocks *b, int32_t most)
{
    for (int64_t g = 0; g < b->n; g++) {
        float lo, hi;
        extremes(b->x + g * b->len, b->len, &lo, &hi);
        const float span = lo != hi ? hi - lo : (float)most, s = (float)most / span;
        b->scale[g] = s < 2e4f ? s : 2e4f;
        b->zero[g] = (float)rq_quantize_clamp(-lo * b->scale[g], -1e6f, 1e6f);
    }
    double best = 1e4, beta = 10;
    for (int i = 0; i < 20; i++, beta *= 1.01) {
        const double error = (double)(float)hqq_step(b, most, (float)beta);
        if (!(error < best))
            break;
        best = error;
    }
    for (int64_t g = 0; g < b->n; g++) {
        const float s = b->scale[g];
        for (int64_t i = 0; i < b->len; i++)
            b->code[g * b->len + i] = rq_quantize_clamp(b->x[g * b->len + i] * s + b->zero[g], 0, (float)most);
        b->scale[g] = 1 / s;
    }
}
