/* kernels/fakequant_scalar.c — the definition of the fake-quantizing loops: kernels/fakequant.h over arrays. */
#include "kernels/kernels_isa.h"

void rq_fakequant_scalar(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        const float v = p->relu && x[i] < 0 ? 0 : x[i], t = rq_fakequant_landing(v, &e);
        if (mask)
            mask[i] = p->relu && v <= 0 ? 2 : rq_fakequant_passes(t, &e);
        y[i] = rq_fakequant_real(rq_fakequant_code(t, &e), &e);
    }
}

void rq_fakequant_grad_scalar(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        dx[i] = dy[i] * (rq_fakequant_passes(rq_fakequant_landing(x[i], &e), &e) ? 1.0f : 0.0f);
    }
}

void rq_fakequant_mask_grad_scalar(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * (mask[i] ? 1.0f : 0.0f);
}

void rq_fakequant_relu_grad_scalar(float *dx, const float *dy, const uint8_t *mask, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = mask[i] == 2 ? 0 : dy[i] * (mask[i] ? 1.0f : 0.0f);
}

void rq_fakequant_codes_scalar(uint8_t *q, const float *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        q[i] = (uint8_t)rq_fakequant_integer(rq_fakequant_landing(x[i], &e), &e);
    }
}

void rq_stream_end_scalar(void)
{
}

void rq_fakequant_integers(int32_t *q, const float *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        q[i] = rq_fakequant_integer(rq_fakequant_landing(x[i], &e), &e);
    }
}

/* ---- f64 ---- */

static double landing_f64(double x, const rq_fakequant *e)
{
    const double in = (double)e->in;
    if (e->wide && !e->divide)
        return rq_quantize_landing_f64(fma(x, in, (double)e->inside), -0.0, (double)e->after);
    return rq_quantize_landing_f64(e->divide ? x / in : x * in, (double)e->inside, (double)e->after);
}

static double code_f64(double t, const rq_fakequant *e)
{
    return e->compat && rq_quantize_wraps(t) ? (double)e->lo : rq_quantize_within_f64(t, (double)e->lo, (double)e->hi);
}

static bool passes_f64(double t, const rq_fakequant *e)
{
    return t >= (double)e->lo && t <= (double)e->hi;
}

void rq_fakequant_f64(double *y, uint8_t *mask, const double *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        const double t = landing_f64(x[i], &e);
        if (mask)
            mask[i] = passes_f64(t, &e);
        y[i] = rq_fakequant_real_f64(code_f64(t, &e), &e);
    }
}

void rq_fakequant_integers_f64(int32_t *q, const double *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        const double c = code_f64(landing_f64(x[i], &e), &e);
        q[i] = (int32_t)(c == c ? c : (double)e.lo);
    }
}

void rq_fakequant_grad_f64(double *dx, const double *dy, const double *x, size_t n, const rq_fakequant *p)
{
    rq_fakequant e = *p;
    for (size_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, i);
        dx[i] = dy[i] * (passes_f64(landing_f64(x[i], &e), &e) ? 1.0 : 0.0);
    }
}
