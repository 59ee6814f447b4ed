/* ops/unary_grad.c — see unary_grad.h. One walk over pieces that fit the first-level cache: what a derivative needs of x or y is
 * brought to a buffer (through a kernel where it is a function of its own), then multiplied into dy. */
#include "ops/unary_grad.h"

#include <math.h>

#include "ops/bcast.h"
#include "ops/grad.h"

enum { PIECE = 512 };

/* dx[i] = dy[i] f'(v[i]); v is x or y, or a kernel's function of x */
typedef void (*slope_fn)(float *dx, const float *dy, const float *v, int64_t n);

typedef struct job {
    slope_fn slope;
    rq_map_fn map; /* NULL: v as it is */
    float *dx;
    const float *dy, *v;
} job;

static void run(void *arg, int64_t from, int64_t n)
{
    const job *j = arg;
    float buf[PIECE];
    for (int64_t at = from, end = from + n; at < end; at += PIECE) {
        const int64_t m = end - at < PIECE ? end - at : PIECE;
        const float *v = j->v + at;
        if (j->map) {
            j->map(buf, v, (size_t)m, 0, 0);
            v = buf;
        }
        j->slope(j->dx + at, j->dy + at, v, m);
    }
}

static rq_status backward(const rq_op_args *a, const rq_tensor *v, slope_fn slope, rq_map_fn map)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dx || !dy)
        return rq_grad_none(a);
    job j = { .slope = slope, .map = map, .dx = dx->f32, .dy = dy->f32, .v = v->f32 };
    rq_bcast_spans(a->threads, rq_tensor_count(dx), RQ_BCAST_PIECE, run, &j);
    return RQ_OK;
}

static void abs_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (v[i] > 0 ? 1.0F : v[i] < 0 ? -1.0F : 0.0F);
}

rq_status rq_unary_grad_abs(const rq_op_args *a)
{
    return backward(a, a->in[0], abs_slope, NULL);
}

static void neg(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = -dy[i];
}

rq_status rq_unary_grad_neg(const rq_op_args *a)
{
    return backward(a, rq_grad_out(a, 0), neg, NULL);
}

static void times(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * v[i];
}

rq_status rq_unary_grad_exp(const rq_op_args *a)
{
    return backward(a, a->out[0], times, NULL);
}

static void over(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / v[i];
}

rq_status rq_unary_grad_log(const rq_op_args *a)
{
    return backward(a, a->in[0], over, NULL);
}

static void sqrt_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (2 * v[i]);
}

rq_status rq_unary_grad_sqrt(const rq_op_args *a)
{
    return backward(a, a->out[0], sqrt_slope, NULL);
}

static void reciprocal_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (-(v[i] * v[i]));
}

rq_status rq_unary_grad_reciprocal(const rq_op_args *a)
{
    return backward(a, a->out[0], reciprocal_slope, NULL);
}

rq_status rq_unary_grad_sin(const rq_op_args *a)
{
    return backward(a, a->in[0], times, a->k->map[RQ_MAP_COS]);
}

static void cos_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (-v[i]);
}

rq_status rq_unary_grad_cos(const rq_op_args *a)
{
    return backward(a, a->in[0], cos_slope, a->k->map[RQ_MAP_SIN]);
}

static void tan_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1 + v[i] * v[i]);
}

rq_status rq_unary_grad_tan(const rq_op_args *a)
{
    return backward(a, a->out[0], tan_slope, NULL);
}

static void asin_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (sqrtf(1 - v[i] * v[i]));
}

rq_status rq_unary_grad_asin(const rq_op_args *a)
{
    return backward(a, a->in[0], asin_slope, NULL);
}

static void acos_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (-sqrtf(1 - v[i] * v[i]));
}

rq_status rq_unary_grad_acos(const rq_op_args *a)
{
    return backward(a, a->in[0], acos_slope, NULL);
}

static void atan_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (1 + v[i] * v[i]);
}

rq_status rq_unary_grad_atan(const rq_op_args *a)
{
    return backward(a, a->in[0], atan_slope, NULL);
}

rq_status rq_unary_grad_sinh(const rq_op_args *a)
{
    return backward(a, a->in[0], times, a->k->map[RQ_MAP_COSH]);
}

rq_status rq_unary_grad_cosh(const rq_op_args *a)
{
    return backward(a, a->in[0], times, a->k->map[RQ_MAP_SINH]);
}

static void asinh_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (sqrtf(v[i] * v[i] + 1));
}

rq_status rq_unary_grad_asinh(const rq_op_args *a)
{
    return backward(a, a->in[0], asinh_slope, NULL);
}

static void acosh_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (sqrtf(v[i] * v[i] - 1));
}

rq_status rq_unary_grad_acosh(const rq_op_args *a)
{
    return backward(a, a->in[0], acosh_slope, NULL);
}

static void atanh_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] / (1 - v[i] * v[i]);
}

rq_status rq_unary_grad_atanh(const rq_op_args *a)
{
    return backward(a, a->in[0], atanh_slope, NULL);
}

/* 2 / sqrt(pi) e^(-x^2) */
static void erf_slope(float *dx, const float *dy, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1.12837916709551257390F * v[i]);
}

typedef struct erf_job {
    const rq_kernels *k;
    float *dx;
    const float *dy, *x;
} erf_job;

static void run_erf(void *arg, int64_t from, int64_t n)
{
    const erf_job *j = arg;
    float buf[PIECE];
    for (int64_t at = from, end = from + n; at < end; at += PIECE) {
        const int64_t m = end - at < PIECE ? end - at : PIECE;
        j->k->map[RQ_MAP_SQUARE](buf, j->x + at, (size_t)m, 0, 0);
        j->k->map[RQ_MAP_NEG](buf, buf, (size_t)m, 0, 0);
        j->k->map[RQ_MAP_EXP](buf, buf, (size_t)m, 0, 0);
        erf_slope(j->dx + at, j->dy + at, buf, m);
    }
}

rq_status rq_unary_grad_erf(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dx || !dy)
        return rq_grad_none(a);
    erf_job j = { .k = a->k, .dx = dx->f32, .dy = dy->f32, .x = a->in[0]->f32 };
    rq_bcast_spans(a->threads, rq_tensor_count(dx), RQ_BCAST_PIECE, run_erf, &j);
    return RQ_OK;
}
