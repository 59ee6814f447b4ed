/* Fake-quantizers over tensors of other element types, channels of any axis, any number of threads; and those that learn, going downhill. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "quant/fake_quantizer_help.h"

static const rq_qtype s8 = { RQ_DTYPE_S8, -128, 127 };

/* ---- plain and fused ---- */

/* Doubles stay doubles where nothing is quantized, and become multiples of the scale where something is; strides too. */
static void other_element_types(void **state)
{
    (void)state;
    double x[] = { 0.1, -1.0 / 3, 2.0 / 3, 1, 5, 5 }, y[6] = { 0 };
    const rq_shape shape = rq_shape_of(1, (const int64_t[]) { 3 });
    rq_strided vx = { .dtype = RQ_DTYPE_F64, .data = x, .shape = shape, .stride = { 2 } }, vy = vx;
    vy.data = y, vy.stride[0] = 1;
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    rq_fake_quantizer *q = make(&c);
    rq_err err = { 0 };
    rq_fake_quantizer_enable_fake_quant(q, false);
    ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
    assert_true(y[0] == 0.1 && y[1] == 2.0 / 3 && y[2] == 5);
    rq_fake_quantizer_enable_fake_quant(q, true);
    ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
    near(scale_of(q), 5.0 / 255, "scale");
    assert_true(y[0] == 5 * (double)scale_of(q) && y[2] == 255 * (double)scale_of(q));
    rq_fake_quantizer_enable_fake_quant(q, false);
    vy.dtype = RQ_DTYPE_F32;
    assert_int_equal(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), RQ_BAD_DTYPE);
    rq_fake_quantizer_destroy(q);
}

static void channels_of_any_axis(void **state)
{
    (void)state;
    const rq_shape shape = rq_shape_of(3, (const int64_t[]) { 2, 3, 4 });
    float x[24], y[24], z[24];
    for (int i = 0; i < 24; i++)
        x[i] = (float)((i / 4 % 3 + 1) * (i % 7 - 3)) / 3;
    const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y, &shape);
    for (int kind = 0; kind < 2; kind++)
        for (int axis = 0; axis < 3; axis++) {
            rq_fake_quantizer_cfg c =
                rq_fake_quantizer_defaults(kind ? RQ_FAKE_QUANTIZER_FUSED : RQ_FAKE_QUANTIZER_STANDARD);
            c.observer.type = s8;
            c.observer.scheme = RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
            c.observer.axis = axis;
            c.compat = kind;
            rq_fake_quantizer *q = make(&c);
            assert_int_equal(rq_fake_quantizer_channels(q), 0);
            assert_null(rq_fake_quantizer_scale(q));
            rq_err err = { 0 };
            ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
            assert_int_equal(rq_fake_quantizer_channels(q), shape.dim[axis]);
            /* each channel on its own gives the same */
            for (int k = 0; k < shape.dim[axis]; k++) {
                rq_fake_quantizer_cfg one = c;
                one.observer.axis = RQ_PER_TENSOR;
                one.observer.scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
                rq_fake_quantizer *p = make(&one);
                const rq_strided part = rq_strided_slice(&vx, axis, k, 1, 1);
                rq_strided to = rq_strided_floats(z, &shape);
                to = rq_strided_slice(&to, axis, k, 1, 1);
                ok(rq_fake_quantizer_forward(p, NULL, &to, &part, &err), &err);
                assert_true(scale_of(p) == rq_fake_quantizer_scale(q)[k]);
                rq_fake_quantizer_destroy(p);
            }
            assert_memory_equal(y, z, sizeof y);
            rq_fake_quantizer_destroy(q);
        }
    /* embeddings: real zero points */
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    c.observer.scheme = RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    c.observer.axis = 1;
    rq_fake_quantizer *q = make(&c);
    rq_err err = { 0 };
    ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
    for (int k = 0; k < 3; k++) {
        const float s = rq_fake_quantizer_scale(q)[k], zero = rq_fake_quantizer_zero_point(q)[k];
        near(s, 2.0 * (k + 1) / 255, "scale");
        near(zero, (k + 1) / (double)s, "zero point");
    }
    for (int i = 0; i < 24; i++)
        assert_true(fabsf(y[i] - x[i]) < 0.013f);
    float zf[3];
    rq_qparams p;
    ok(rq_fake_quantizer_qparams(q, &p, zf, &err), &err);
    assert_true(zf[1] == rq_fake_quantizer_zero_point(q)[1] && p.scale[2] == rq_fake_quantizer_scale(q)[2]);
    rq_qparams_release(&p);
    rq_fake_quantizer_destroy(q);
}

/* ---- learnable ---- */

/* Unsigned symmetric: the middle code, by each way of counting. */
static void where_symmetric_zero_lies(void **state)
{
    (void)state;
    static const struct {
        rq_qtype type;
        bool custom;
        float torch, lsq, ours;
    } want[] = {
        { { RQ_DTYPE_U8, 0, 255 }, false, 0, 128, 128 }, { { RQ_DTYPE_U8, 0, 255 }, true, 0, 127, 128 },
        { { RQ_DTYPE_U8, 0, 15 }, true, 0, 7, 8 },       { { RQ_DTYPE_S8, -128, 127 }, false, 0, 0, 0 },
        { { RQ_DTYPE_S8, -8, 7 }, true, 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        for (int rule = 0; rule < 2; rule++)
            for (int compat = 0; compat < 2; compat++) {
                rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
                c.observer.type = want[i].type;
                c.observer.custom_range = want[i].custom;
                c.observer.scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
                c.rule = (rq_learned_rule)rule;
                c.compat = compat;
                rq_fake_quantizer *q = make(&c);
                feed_ramp(q, -1, 1);
                const float zero = !compat ? want[i].ours : rule ? want[i].lsq : want[i].torch;
                float s;
                int z;
                exported(q, &s, &z);
                if (zero_of(q) != zero || (float)z != zero)
                    fail_msg("case %zu rule %d compat %d: zero point %g, exported %d, expected %g", i, rule, compat,
                             zero_of(q), z, zero);
                rq_fake_quantizer_destroy(q);
            }
}

/* Gradients add up, are scaled, and take training downhill. */
static void learning(void **state)
{
    (void)state;
    enum { N = 256 };
    float x[N], y[N], dy[N], dx[N];
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    for (int i = 0; i < N; i++)
        x[i] = 2 * rq_rng_f32(&rng) - 0.5f;
    const rq_strided vx = rq_strided_vector(x, N), vy = rq_strided_vector(y, N), vdy = rq_strided_vector(dy, N),
                     vdx = rq_strided_vector(dx, N);
    for (int rule = 0; rule < 2; rule++) {
        rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_LEARNABLE);
        c.observer.type = (rq_qtype) { RQ_DTYPE_U8, 0, 15 };
        c.observer.custom_range = true;
        c.rule = (rq_learned_rule)rule;
        c.use_grad_scaling = true;
        c.scale = 0.05f; /* far too small */
        c.zero_point = 2;
        rq_fake_quantizer *q = make(&c);
        rq_err err = { 0 };
        ok(rq_fake_quantizer_enable_param_learning(q, &err), &err);
        double first = 0, last = 0;
        for (int step = 0; step < 200; step++) {
            ok(rq_fake_quantizer_forward(q, NULL, &vy, &vx, &err), &err);
            double loss = 0;
            for (int i = 0; i < N; i++) {
                dy[i] = y[i] - x[i];
                loss += 0.5 * dy[i] * dy[i];
            }
            first = step ? first : loss;
            last = loss;
            rq_fake_quantizer_zero_grad(q);
            ok(rq_fake_quantizer_backward(q, NULL, &vdx, &vdy, &vx, &err), &err);
            const float once = rq_fake_quantizer_dscale(q)[0];
            if (!step) { /* twice is twice; and the factor is 1 / sqrt(N hi) */
                ok(rq_fake_quantizer_backward(q, NULL, &vdx, &vdy, &vx, &err), &err);
                assert_true(rq_fake_quantizer_dscale(q)[0] == 2 * once);
                float plain;
                const float s = scale_of(q), z = zero_of(q);
                const rq_learned l = { c.observer.type, c.rule, RQ_PER_TENSOR, 1, &s, &z, 1, false };
                ok(rq_learned_quantize_backward(NULL, NULL, &plain, NULL, &vdy, &vx, &l, &err), &err);
                near(once, plain / sqrt(N * 15.0), "scaled gradient");
            }
            rq_fake_quantizer_scale(q)[0] -= 0.01f * once;
        }
        if (!(last < first / 10))
            fail_msg("rule %d: from %g to %g", rule, first, last);
        rq_fake_quantizer_destroy(q);
    }
}

/* ---- the rest ---- */

/* A forward, a backward, a state: all bits, with 1 and 2 threads, plain and in vectors. */
static void same_bits_with_any_threads(void **state)
{
    (void)state;
    enum { ROWS = 6, COLS = 30000 };
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { ROWS, COLS });
    const size_t bytes = sizeof(float) * ROWS * COLS;
    float *x = malloc(bytes), *y[2], *dx[2];
    rq_rng rng;
    rq_rng_seed(&rng, 9);
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = 2 * rq_rng_f32(&rng) - 1;
    for (int i = 0; i < 2; i++)
        y[i] = malloc(bytes), dx[i] = malloc(bytes);
    for (int kind = 0; kind < 4; kind++)
        for (int axis = -1; axis < 2; axis++) {
            float ds[2] = { 0 };
            for (int threads = 0; threads < 2; threads++) {
                rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(kind == 0   ? RQ_FAKE_QUANTIZER_STANDARD
                                                                     : kind == 1 ? RQ_FAKE_QUANTIZER_FUSED
                                                                                 : RQ_FAKE_QUANTIZER_LEARNABLE);
                c.rule = kind == 3 ? RQ_LEARNED_LSQ : RQ_LEARNED_TORCH;
                c.observer.axis = axis;
                c.observer.scheme = axis < 0 ? RQ_QSCHEME_PER_TENSOR_AFFINE : RQ_QSCHEME_PER_CHANNEL_AFFINE;
                rq_fake_quantizer *q = make(&c);
                rq_exec *e = NULL;
                rq_err err = { 0 };
                if (threads)
                    ok(rq_exec_create(&e, 2, &err), &err);
                const rq_strided vx = rq_strided_floats(x, &shape), vy = rq_strided_floats(y[threads], &shape),
                                 vdx = rq_strided_floats(dx[threads], &shape);
                ok(rq_fake_quantizer_forward(q, e, &vy, &vx, &err), &err);
                if (kind >= 2)
                    ok(rq_fake_quantizer_enable_param_learning(q, &err), &err);
                ok(rq_fake_quantizer_forward(q, e, &vy, &vx, &err), &err);
                ok(rq_fake_quantizer_backward(q, e, &vdx, &vx, &vx, &err), &err);
                ds[threads] = rq_fake_quantizer_dscale(q)[0];
                assert_true(kind < 2 || ds[threads] != 0);
                rq_exec_destroy(e);
                rq_fake_quantizer_destroy(q);
            }
            assert_memory_equal(y[0], y[1], bytes);
            assert_memory_equal(dx[0], dx[1], bytes);
            assert_memory_equal(&ds[0], &ds[1], sizeof ds[0]);
        }
    free(x);
    for (int i = 0; i < 2; i++)
        free(y[i]), free(dx[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_element_types),        cmocka_unit_test(channels_of_any_axis),
        cmocka_unit_test(where_symmetric_zero_lies),  cmocka_unit_test(learning),
        cmocka_unit_test(same_bits_with_any_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
