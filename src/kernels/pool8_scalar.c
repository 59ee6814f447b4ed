/* kernels/pool8_scalar.c — the definition of pools over channels-last codes. */
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

static void max(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t v = x[0][i];
        for (size_t t = 1; t < taps; t++)
            v = x[t][i] > v ? x[t][i] : v;
        y[i] = v;
    }
}

static void mean(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n, const rq_pool8_mean *p)
{
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t t = 0; t < taps; t++)
            sum += rq_dequantize_one(x[t][i], p->scale, p->zero);
        y[i] = (uint8_t)rq_quantize_zp_inside(sum / p->count / p->y_scale + p->y_zero, 0, 255);
    }
}

static void sum(uint32_t *sum, const uint8_t *x, size_t pitch, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, x += pitch)
        for (size_t i = 0; i < n; i++)
            sum[i] += x[i];
}

const rq_pool8_isa rq_pool8_scalar = { .max = max, .mean = mean, .sum = sum };
