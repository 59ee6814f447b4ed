/* kernels/quantize_scalar.c — the definition of the quantizing loops: kernels/quantize.h over arrays. */
#include <string.h>

#include "kernels/quantize.h"
#include "kernels/kernels_isa.h"

void rq_quantize_u8_scalar(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (uint8_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

#define HALF_NAME rq_quantize_half_scalar
#include "kernels/quantize_half_tmpl.h"

void rq_quantize_s8_scalar(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (int8_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_quantize_u16_scalar(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (uint16_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_quantize_s16_scalar(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (int16_t)rq_quantize_one(x[i], scale, zp, lo, hi);
}

void rq_dequantize_u8_scalar(float *y, const uint8_t *x, size_t n, float scale, int32_t zp)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_s8_scalar(float *y, const int8_t *x, size_t n, float scale, int32_t zp)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_u16_scalar(float *y, const uint16_t *x, size_t n, float scale, int32_t zp)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_dequantize_s16_scalar(float *y, const int16_t *x, size_t n, float scale, int32_t zp)
{
    for (size_t i = 0; i < n; i++)
        y[i] = rq_dequantize_one(x[i], scale, zp);
}

void rq_quantize_quotients_scalar(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp,
                                  int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (uint8_t)rq_quantize_wide(x[i] / by / scale, zp, lo, hi);
}

void rq_norm8_scalar(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p)
{
    for (size_t i = 0; i < n; i++) {
        float v = (float)((x[i] ^ p->flip) - p->whole) * p->inv;
        v = p->rest != 0 ? v + p->rest : v;
        v = p->gain ? v * p->gain[i] : v;
        v = p->bias ? v + p->bias[i] : v;
        y[i] = (uint8_t)rq_quantize_one(v, p->scale, p->zp, p->lo, p->hi);
    }
}

void rq_lut8_scalar(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256])
{
    for (size_t i = 0; i < n; i++)
        y[i] = table[x[i]];
}

void rq_lut8_f32_scalar(float *y, const uint8_t *x, size_t n, const rq_lut8_f32 *table)
{
    for (size_t i = 0; i < n; i++)
        y[i] = table->value[x[i]];
}

void rq_lut8_f32_split(rq_lut8_f32 *table)
{
    for (int i = 0; i < 256; i++) {
        uint32_t bits;
        memcpy(&bits, &table->value[i], sizeof bits);
        for (int b = 0; b < 4; b++)
            table->plane[b][i] = (uint8_t)(bits >> 8 * b);
    }
}

void rq_requantize_tile_scalar(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                               const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi)
{
    for (size_t i = 0; i < rows; i++, y += ldy, acc += lda)
        for (size_t j = 0; j < n; j++) {
            const uint32_t s = (uint32_t)acc[j] + (row_add ? (uint32_t)row_add[i] : 0);
            y[j] = (uint8_t)rq_quantize_acc((int32_t)s, m[j], zp, lo, hi);
        }
}
