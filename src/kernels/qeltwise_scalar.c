/* kernels/qeltwise_scalar.c — the definition of Add and Mul on codes: ONNX Runtime's recipes, spec onnx.md 6.3. */
#include "kernels/kernels_isa.h"
#include "kernels/quantize.h"

static inline int32_t code_of(uint8_t x, int is_signed)
{
    return is_signed ? (int8_t)x : x;
}

void rq_qadd_scalar(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    for (size_t i = 0; i < n; i++) {
        float va = (float)code_of(a[i], p->a_signed), vb = (float)code_of(b[i], p->b_signed);
        y[i] = (uint8_t)rq_quantize_zp_inside(fmaf(va, p->ra, fmaf(vb, p->rb, p->k)), p->lo, p->hi);
    }
}

void rq_qadd_one_scalar(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    for (size_t i = 0; i < n; i++) {
        float va = (float)code_of(a[i], p->a_signed);
        y[i] = (uint8_t)rq_quantize_zp_inside(fmaf(va, p->ra, p->k), p->lo, p->hi);
    }
}

void rq_qmul_scalar(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    for (size_t i = 0; i < n; i++) {
        int32_t product = (code_of(a[i], p->a_signed) - p->za) * (code_of(b[i], p->b_signed) - p->zb);
        float v = (float)product * p->r;
        y[i] = (uint8_t)rq_quantize_zp_inside(v + p->zc, p->lo, p->hi);
    }
}
