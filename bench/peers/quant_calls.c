/* bench/peers/quant_calls.c — the calls that bench/peers/torch_quant.py times, with numbers and pointers for arguments: a shared
 * library over the public interface, one thread. Each returns 0, or prints what went wrong and returns 1. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <requant/requant.h>

#if defined(__GNUC__)
#define CALL __attribute__((visibility("default")))
#else
#define CALL
#endif

CALL int calls_open(void);
CALL const char *calls_isa(void);
CALL int calls_fake_quantize(float *y, uint8_t *mask, float *x, int64_t rows, int64_t columns, int channels,
                             const float *scale, const int32_t *zero_point);
CALL int calls_backward(float *dx, float *dy, float *x, int64_t rows, int64_t columns, int channels, const float *scale,
                        const int32_t *zero_point);
CALL int calls_backward_mask(float *dx, float *dy, uint8_t *mask, int64_t n);
CALL int calls_quantize(int8_t *codes, float *x, int64_t n, float scale, int32_t zero_point);
CALL int calls_learned(float *y, float *x, int64_t rows, int64_t columns, int channels, const float *scale,
                       const float *zero_point);
CALL int calls_learned_backward(float *dx, float *dscale, float *dzero_point, float *dy, float *x, int64_t rows,
                                int64_t columns, int channels, const float *scale, const float *zero_point);
/* observers: a handle, or NULL */
CALL rq_observer *calls_observer(int kind, int channels);
CALL int calls_observe(rq_observer *o, float *x, int64_t rows, int64_t columns);
CALL void calls_reset(rq_observer *o);
CALL int calls_range(const rq_observer *o, float *lo_hi, int64_t n);

static rq_exec *pool; /* for the life of the process */

static int failed(rq_status st, const rq_err *err)
{
    if (st)
        fprintf(stderr, "quant_calls: %s\n", err->text);
    return st != RQ_OK;
}

static rq_shape matrix(int64_t rows, int64_t columns)
{
    return (rq_shape) { .rank = 2, .dim = { rows, columns } };
}

int calls_open(void)
{
    rq_err err = { 0 };
    return failed(rq_exec_create(&pool, 1, &err), &err);
}

const char *calls_isa(void)
{
    return rq_exec_isa(pool);
}

/* As PyTorch computes it. */
static rq_fq parameters(int64_t rows, int channels, const float *scale, const int32_t *zero_point)
{
    return (rq_fq) { .type = rq_qtype_of(RQ_DTYPE_S8),
                     .rule = RQ_FQ_RECIPROCAL,
                     .axis = channels ? 0 : RQ_PER_TENSOR,
                     .n = channels ? rows : 1,
                     .scale = scale,
                     .zero_point = zero_point,
                     .compat = true };
}

int calls_fake_quantize(float *y, uint8_t *mask, float *x, int64_t rows, int64_t columns, int channels,
                        const float *scale, const int32_t *zero_point)
{
    rq_err err = { 0 };
    const rq_shape shape = matrix(rows, columns);
    const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y, &shape);
    rq_strided vm = vx;
    vm.dtype = RQ_DTYPE_U8;
    vm.data = mask;
    const rq_fq f = parameters(rows, channels, scale, zero_point);
    return failed(rq_fake_quantize(pool, &vy, mask ? &vm : NULL, &vx, &f, &err), &err);
}

int calls_backward(float *dx, float *dy, float *x, int64_t rows, int64_t columns, int channels, const float *scale,
                   const int32_t *zero_point)
{
    rq_err err = { 0 };
    const rq_shape shape = matrix(rows, columns);
    const rq_strided vx = rq_strided_floats(x, &shape), vdy = rq_strided_floats(dy, &shape),
                     vdx = rq_strided_floats(dx, &shape);
    const rq_fq f = parameters(rows, channels, scale, zero_point);
    return failed(rq_fake_quantize_backward(pool, &vdx, &vdy, &vx, &f, &err), &err);
}

int calls_backward_mask(float *dx, float *dy, uint8_t *mask, int64_t n)
{
    rq_err err = { 0 };
    const rq_strided vdy = rq_strided_vector(dy, n), vdx = rq_strided_vector(dx, n);
    rq_strided vm = vdy;
    vm.dtype = RQ_DTYPE_U8;
    vm.data = mask;
    return failed(rq_fake_quantize_backward_mask(pool, &vdx, &vdy, &vm, &err), &err);
}

int calls_quantize(int8_t *codes, float *x, int64_t n, float scale, int32_t zero_point)
{
    rq_err err = { 0 };
    const rq_strided v = rq_strided_vector(x, n);
    rq_tensor t = { .dtype = RQ_DTYPE_S8, .shape = v.shape, .s8 = codes };
    const rq_fq f = parameters(1, false, &scale, &zero_point);
    return failed(rq_fq_quantize(pool, &t, &v, &f, &err), &err);
}

static rq_learned learned(int64_t rows, int channels, const float *scale, const float *zero_point)
{
    return (rq_learned) { .type = rq_qtype_of(RQ_DTYPE_S8),
                          .rule = RQ_LEARNED_TORCH,
                          .axis = channels ? 0 : RQ_PER_TENSOR,
                          .n = channels ? rows : 1,
                          .scale = scale,
                          .zero_point = zero_point,
                          .grad_factor = 1,
                          .compat = true };
}

int calls_learned(float *y, float *x, int64_t rows, int64_t columns, int channels, const float *scale,
                  const float *zero_point)
{
    rq_err err = { 0 };
    const rq_shape shape = matrix(rows, columns);
    const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y, &shape);
    const rq_learned l = learned(rows, channels, scale, zero_point);
    return failed(rq_learned_quantize(pool, &vy, &vx, &l, &err), &err);
}

int calls_learned_backward(float *dx, float *dscale, float *dzero_point, float *dy, float *x, int64_t rows,
                           int64_t columns, int channels, const float *scale, const float *zero_point)
{
    rq_err err = { 0 };
    const rq_shape shape = matrix(rows, columns);
    const rq_strided vx = rq_strided_floats(x, &shape), vdy = rq_strided_floats(dy, &shape),
                     vdx = rq_strided_floats(dx, &shape);
    const rq_learned l = learned(rows, channels, scale, zero_point);
    return failed(rq_learned_quantize_backward(pool, &vdx, dscale, dzero_point, &vdy, &vx, &l, &err), &err);
}

/* kind 0: min-max, 1: moving average, 2: histogram */
rq_observer *calls_observer(int kind, int channels)
{
    static const rq_observer_kind kinds[] = { RQ_OBSERVER_MINMAX, RQ_OBSERVER_MOVING_AVERAGE, RQ_OBSERVER_HISTOGRAM };
    rq_err err = { 0 };
    rq_observer *o = NULL;
    rq_observer_cfg cfg = rq_observer_defaults(kinds[kind]);
    cfg.axis = channels ? 0 : RQ_PER_TENSOR;
    cfg.scheme = channels ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_TENSOR_AFFINE;
    cfg.compat = true;
    failed(rq_observer_create(&o, &cfg, &err), &err);
    return o;
}

int calls_observe(rq_observer *o, float *x, int64_t rows, int64_t columns)
{
    rq_err err = { 0 };
    const rq_shape shape = matrix(rows, columns);
    const rq_strided v = rq_strided_floats(x, &shape);
    return failed(rq_observer_update(o, pool, &v, &err), &err);
}

void calls_reset(rq_observer *o)
{
    rq_observer_reset(o);
}

/* lo, hi of each of n channels */
int calls_range(const rq_observer *o, float *lo_hi, int64_t n)
{
    enum { MOST = 1 << 16 };
    static rq_range range[MOST];
    const rq_err err = { .text = "no range" };
    if (n > MOST || failed(rq_observer_range(o, range, (int)n), &err))
        return 1;
    for (int64_t i = 0; i < n; i++) {
        lo_hi[2 * i] = (float)range[i].lo;
        lo_hi[2 * i + 1] = (float)range[i].hi;
    }
    return 0;
}
