/* tests/quant/tensor_quant_help.h — for tests of tensor_quant and TensorQuantizer: views of arrays, NVIDIA's functions in a line,
 * comparisons, and the toolkit's own reference. */
#ifndef RQ_TESTS_QUANT_TENSOR_QUANT_HELP_H
#define RQ_TESTS_QUANT_TENSOR_QUANT_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "requant/requant.h"
#include "tensor/convert.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof(a)[0]))

static rq_err err;

static inline rq_strided row(const float *x, int64_t n)
{
    return rq_strided_vector((float *)(uintptr_t)x, n);
}

static inline rq_strided shaped(const float *x, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    return rq_strided_floats((float *)(uintptr_t)x, &s);
}

#define SHAPED(x, ...)                                                                                                 \
    shaped(x, (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ })

static inline rq_tensor_quant_cfg cfg_of(int bits, bool is_unsigned, bool narrow)
{
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.num_bits = bits;
    c.is_unsigned = is_unsigned;
    c.narrow_range = narrow;
    return c;
}

static inline void codes(float *q, float *s, const float *x, int64_t n, float amax, const rq_tensor_quant_cfg *c)
{
    const rq_strided sx = row(x, n), sq = row(q, n), sa = row(&amax, 1), ss = row(s, 1);
    assert_int_equal(rq_tensor_quant(NULL, &sq, s ? &ss : NULL, &sx, &sa, c, &err), RQ_OK);
}

static inline void fake(float *y, const float *x, int64_t n, float amax, const rq_tensor_quant_cfg *c)
{
    const rq_strided sx = row(x, n), sy = row(y, n), sa = row(&amax, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, c, &err), RQ_OK);
}

static inline float largest(const float *x, int64_t n)
{
    float m = 0;
    for (int64_t i = 0; i < n; i++)
        m = fmaxf(m, fabsf(x[i]));
    return m;
}

/* Bits, but that any NaN equals any NaN. */
static inline void same(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("[%lld]: got %a, want %a", (long long)i, (double)got[i], (double)want[i]);
}

static inline void near(const float *got, const float *want, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance))
            fail_msg("[%lld]: got %.9g, want %.9g", (long long)i, (double)got[i], (double)want[i]);
}

static inline void to_f16(uint16_t *h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        h[i] = rq_convert_f32_to_f16(x[i]);
}

static inline rq_strided halves(uint16_t *h, int64_t n)
{
    const rq_shape s = rq_shape_of(1, &n);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F16, &s, h);
    return rq_strided_of(&t);
}

/* The toolkit's own reference: clips before it rounds, to +-(2^(bits-1) - 1). */
static inline float reference_code(float x, float amax, int bits)
{
    const float most = (float)((1 << (bits - 1)) - 1), v = x * (most / amax);
    return rintf(v < -most ? -most : v > most ? most : v);
}

#endif
