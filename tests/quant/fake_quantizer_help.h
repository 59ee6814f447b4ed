/* tests/quant/fake_quantizer_help.h — fake-quantizers made, fed and asked in a line. */
#ifndef RQ_TESTS_QUANT_FAKE_QUANTIZER_HELP_H
#define RQ_TESTS_QUANT_FAKE_QUANTIZER_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "requant/fake_quantizer.h"

static inline void ok(rq_status s, const rq_err *err)
{
    if (s)
        fail_msg("%s: %s", rq_status_text(s), err->text);
}

static inline void ramp(float *x, int n, double lo, double hi)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(lo + (hi - lo) * i / (n - 1));
}

static inline void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-6 * fabs(want)))
        fail_msg("%s is %.9g, expected %.9g", what, got, want);
}

static inline rq_fake_quantizer *make(const rq_fake_quantizer_cfg *c)
{
    rq_err err = { 0 };
    rq_fake_quantizer *q = NULL;
    ok(rq_fake_quantizer_create(&q, c, &err), &err);
    return q;
}

static inline rq_status feed(rq_fake_quantizer *q, float *x, float *y, int n)
{
    const rq_strided vx = rq_strided_vector(x, n), vy = rq_strided_vector(y, n);
    rq_err err = { 0 };
    return rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err);
}

static inline void feed_ramp(rq_fake_quantizer *q, double lo, double hi)
{
    float x[11], y[11];
    ramp(x, 11, lo, hi);
    assert_int_equal(feed(q, x, y, 11), RQ_OK);
}

static inline float scale_of(rq_fake_quantizer *q)
{
    return rq_fake_quantizer_scale(q)[0];
}

static inline float zero_of(rq_fake_quantizer *q)
{
    return rq_fake_quantizer_zero_point(q)[0];
}

static inline void exported(rq_fake_quantizer *q, float *scale, int *zero_point)
{
    rq_qparams p;
    rq_err err = { 0 };
    ok(rq_fake_quantizer_qparams(q, &p, NULL, &err), &err);
    *scale = p.scale[0];
    *zero_point = p.zero_point[0];
    rq_qparams_release(&p);
}

/* Same names, same numbers. */
static inline void same_states(const rq_state *a, const rq_state *b)
{
    assert_int_equal(rq_state_count(a), rq_state_count(b));
    for (int i = 0; i < rq_state_count(a); i++) {
        assert_string_equal(rq_state_name(a, i), rq_state_name(b, i));
        const rq_tensor *x = rq_state_tensor(a, i), *y = rq_state_tensor(b, i);
        assert_true(x->dtype == y->dtype && rq_shape_equal(&x->shape, &y->shape));
        assert_memory_equal(x->data, y->data, x->bytes);
    }
}

#endif
