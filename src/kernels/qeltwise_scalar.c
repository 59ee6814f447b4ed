/* kernels/qeltwise_scalar.c — the definition of Add and Mul on codes: ONNX Runtime's recipes,
 * docs/onnx-facts.md 6.3. */
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

static inline uint8_t code_of(float v, uint8_t flip)
{
    return (uint8_t)rq_quantize_zp_inside(v, 0, 255) ^ flip;
}

void rq_qadd_scalar(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    for (size_t i = 0; i < n; i++) {
        const float va = (float)(a[i] ^ p->flip_a), vb = (float)(b[i] ^ p->flip_b);
        y[i] = code_of(fmaf(va, p->ra, fmaf(vb, p->rb, p->k)), p->flip_y);
    }
}

void rq_qadd_one_scalar(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    for (size_t i = 0; i < n; i++)
        y[i] = code_of(fmaf((float)(a[i] ^ p->flip_a), p->ra, p->k), p->flip_y);
}

void rq_qmul_scalar(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t product = ((a[i] ^ p->flip_a) - p->za) * ((b[i] ^ p->flip_b) - p->zb);
        const float v = (float)product * p->r;
        y[i] = code_of(v + p->zc, p->flip_y);
    }
}
