/* tests/quant/test_observer.c — observers and the way from a range to parameters, against numbers that PyTorch 1.13.1 and Core ML Tools 9
 * computed from data that any language can make (torch-facts 1.1, 1.2, 1.3, 3.1, 3.2, 3.3): tables and vectors by their numbers,
 * states, strides, threads, what is not finite, and every allocation failing. tests/golden has hundreds of whole cases more. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/observer_row.h"
#include "quant/generators.h"
#include "requant/fake_quantize.h"
#include "requant/fake_quantizer.h"

static rq_err err;

static void close_to(double got, double want)
{
    if (!(fabs(got - want) <= 2e-7 * fabs(want)))
        fail_msg("%.9g instead of %.9g", got, want);
}

/* Printed with seven digits, at most eight of them decimals. */
static void about(double got, double want)
{
    if (!(fabs(got - want) <= 1.1e-6 * fabs(want) + 5.1e-9))
        fail_msg("%.9g instead of %.9g", got, want);
}

static rq_observer *make(const rq_observer_cfg *cfg)
{
    rq_observer *o = NULL;
    if (rq_observer_create(&o, cfg, &err))
        fail_msg("%s", err.text);
    return o;
}

static void see(rq_observer *o, const float *x, int64_t n)
{
    const rq_strided v = rq_strided_vector((float *)(uintptr_t)x, n);
    if (rq_observer_update(o, NULL, &v, &err))
        fail_msg("%s", err.text);
}

static void expect(const rq_observer *o, const double *scale, const double *zero)
{
    rq_qparams q;
    float zf[16];
    if (rq_observer_qparams(o, &q, zf, &err))
        fail_msg("%s", err.text);
    assert_int_equal(q.n, rq_observer_channels(o));
    for (int64_t c = 0; c < q.n; c++) {
        close_to((double)q.scale[c], scale[c]);
        close_to((double)zf[c], zero[c]);
    }
    rq_qparams_release(&q);
}

/* A configuration as the tables name it: type, scheme and what was asked for; compat, since they are the original's. */
static rq_observer_cfg config(rq_observer_kind kind, const char *type, rq_qscheme scheme)
{
    rq_observer_cfg cfg = rq_observer_defaults(kind);
    assert_int_equal(rq_qtype_parse(&cfg.type, type, &err), RQ_OK);
    cfg.scheme = scheme;
    cfg.custom_range = strchr(type, '[') != NULL;
    cfg.compat = true;
    return cfg;
}

#define AFFINE RQ_QSCHEME_PER_TENSOR_AFFINE
#define SYMMETRIC RQ_QSCHEME_PER_TENSOR_SYMMETRIC

/* ---- min-max, per tensor ---- */

enum { RAMP_A, RAMP_B, RAMP_C, DRAWS, ZEROS, THOUSANDTHS, B_AND_C, N_DATA };

static int fill(float *x, int which)
{
    switch (which) {
    case RAMP_A:
        gen_steps(x, 11, -1, 3);
        return 11;
    case RAMP_B:
        gen_steps(x, 11, 0.5, 2);
        return 11;
    case RAMP_C:
        gen_steps(x, 11, -4, -0.25);
        return 11;
    case DRAWS:
        gen_l(x, 1000, 42, -2.5, 1.75);
        return 1000;
    case ZEROS:
        memset(x, 0, 11 * sizeof *x);
        return 11;
    case THOUSANDTHS:
        gen_steps(x, 11, -1, 3);
        for (int i = 0; i < 11; i++)
            x[i] *= 1e-3f;
        return 11;
    default:
        gen_steps(x, 11, 0.5, 2);
        gen_steps(x + 11, 11, -4, -0.25);
        return 22;
    }
}

static void generators_are_those_of_the_tables(void **state)
{
    static const uint32_t want_l[4] = { 0xbfb6b968, 0xc00807ae, 0xbd3eb074, 0xbfc6ee36 },
                          want_g[4] = { 0xbf8d833a, 0xbe7a9a04, 0x3e3350d4, 0x3f82e712 };
    float x[4];
    (void)state;
    gen_l(x, 4, 42, -2.5, 1.75);
    assert_memory_equal(x, want_l, sizeof x);
    gen_g(x, 4, 1, 1);
    assert_memory_equal(x, want_g, sizeof x);
}

static void table_of_min_max(void **state)
{
    static const struct {
        const char *type;
        rq_qscheme scheme;
        int data;
        double scale, zero;
        bool reduce;
        float eps;
    } rows[] = {
        { "quint8", AFFINE, RAMP_A, 0.0156862754, 64, false, 0 },
        { "quint8", SYMMETRIC, RAMP_A, 0.0235294122, 128, false, 0 },
        { "qint8", SYMMETRIC, RAMP_A, 0.0235294122, 0, false, 0 },
        { "qint8", AFFINE, RAMP_A, 0.0314960629, -32, true, 0 },
        { "quint8", AFFINE, DRAWS, 0.0166178271, 150, false, 0 },
        { "quint8", AFFINE, RAMP_B, 0.00784313772, 0, false, 0 },
        { "quint8", AFFINE, RAMP_C, 0.0156862754, 255, false, 0 },
        { "quint8", AFFINE, ZEROS, 1.1920929e-07, 0, false, 0 },
        { "quint8[0,127]", AFFINE, RAMP_A, 0.0314960629, 32, false, 0 },
        { "qint32", AFFINE, RAMP_A, 1.1920929e-07, -2139095040, false, 0 },
        { "quint8", AFFINE, B_AND_C, 0.0235294122, 170, false, 0 },
        { "quint8[0,127]", SYMMETRIC, RAMP_A, 0.0472440943, 63, false, 0 },
        { "qint8[-127,127]", SYMMETRIC, RAMP_A, 0.0236220472, 0, false, 0x1p-12f },
        { "qint8[-127,127]", SYMMETRIC, THOUSANDTHS, 0.000244140625, 0, false, 0x1p-12f },
        { "quint4x2", AFFINE, RAMP_A, 0.266666681, 4, false, 0 },
    };
    static float x[1000];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_observer_cfg cfg = config(RQ_OBSERVER_MINMAX, rows[i].type, rows[i].scheme);
        cfg.reduce_range = rows[i].reduce;
        cfg.eps = rows[i].eps > 0 ? rows[i].eps : cfg.eps;
        rq_observer *o = make(&cfg);
        see(o, x, fill(x, rows[i].data));
        expect(o, &rows[i].scale, &rows[i].zero);
        rq_observer_destroy(o);
    }
    /* 16: ties, to even */
    static const float ties[3][2] = { { -0.5f, 254.5f }, { -1.5f, 253.5f }, { -2.5f, 252.5f } };
    static const double one = 1, zero[3] = { 0, 2, 2 };
    for (int i = 0; i < 3; i++) {
        const rq_observer_cfg cfg = config(RQ_OBSERVER_MINMAX, "quint8", AFFINE);
        rq_observer *o = make(&cfg);
        see(o, ties[i], 2);
        expect(o, &one, &zero[i]);
        rq_observer_destroy(o);
    }
}

static void table_of_moving_averages(void **state)
{
    static const struct {
        double c, lo, hi, scale, zero;
    } rows[] = {
        { 0.01, -1.01515007, 2.95760012, 0.0155794127, 65 },
        { 0.1, -1.16500008, 2.58500004, 0.0147058824, 79 },
        { 1, -4, -0.25, 0.0156862754, 255 },
    };
    static float x[100];
    rq_range r;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        rq_observer_cfg cfg = config(RQ_OBSERVER_MOVING_AVERAGE, "quint8", AFFINE);
        cfg.averaging_constant = rows[i].c;
        rq_observer *o = make(&cfg);
        for (int b = RAMP_A; b <= RAMP_C; b++)
            see(o, x, fill(x, b));
        assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
        close_to(r.lo, rows[i].lo);
        close_to(r.hi, rows[i].hi);
        expect(o, &rows[i].scale, &rows[i].zero);
        rq_observer_destroy(o);
    }
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        static const double scale[2] = { 0.0160845481, 0.00817332603 }, zero[2] = { 62, 0 };
        rq_observer_cfg cfg =
            config(RQ_OBSERVER_MOVING_AVERAGE, symmetric ? "qint8" : "quint8", symmetric ? SYMMETRIC : AFFINE);
        cfg.reduce_range = !symmetric;
        rq_observer *o = make(&cfg);
        gen_l(x, 100, 7, -1, 1);
        see(o, x, 100);
        gen_l(x, 100, 8, -2, 3);
        see(o, x, 100);
        gen_l(x, 100, 9, -.5, 4);
        see(o, x, 100);
        assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
        close_to(r.lo, -1.0006386);
        close_to(r.hi, 1.04209912);
        expect(o, &scale[symmetric], &zero[symmetric]);
        rq_observer_destroy(o);
    }
}

/* ---- per channel ---- */

static rq_strided matrix(float *x, int64_t rows, int64_t columns)
{
    const rq_shape s = rq_shape_of(2, (int64_t[]) { rows, columns });
    return rq_strided_floats(x, &s);
}

static void table_per_channel(void **state)
{
    static const struct {
        const char *type;
        rq_qscheme scheme;
        int axis;
        float eps;
        double scale[6], zero[6];
    } rows[] = {
        { "qint8",
          RQ_QSCHEME_PER_CHANNEL_SYMMETRIC,
          0,
          0,
          { 0.00666593108, 0.000650771428, 0.0227278639, 1.1920929e-07 },
          { 0 } },
        { "quint8",
          RQ_QSCHEME_PER_CHANNEL_AFFINE,
          0,
          0,
          { 0.00605160883, 0.000551038713, 0.0224853586, 1.1920929e-07 },
          { 140, 151, 129, 0 } },
        { "quint8",
          RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS,
          0,
          0,
          { 0.00605160883, 0.000551038713, 0.0224853586, 1 },
          { 140.443024, 150.576263, 128.875092, 0 } },
        { "quint4x2",
          RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS,
          0,
          0,
          { 0.102877349, 0.00936765783, 0.382251114, 1 },
          { 8.26135445, 8.8574276, 7.58088732, 0 } },
        { "qint8[-127,127]",
          RQ_QSCHEME_PER_CHANNEL_SYMMETRIC,
          0,
          0x1p-12f,
          { 0.00669217482, 0.000653333496, 0.0228173435, 0.000244140625 },
          { 0 } },
        { "qint8",
          RQ_QSCHEME_PER_CHANNEL_AFFINE,
          1,
          0,
          { 0.0110350968, 0.0115346909, 0.00260472158, 0.0144543927, 0.0101248203, 0.00437522214 },
          { 127, 123, -14, -69, 84, -31 } },
    };
    static const float factor[4] = { 1, 0.1f, 10, 0 };
    static float w[24], w2[24];
    (void)state;
    gen_l(w, 24, 11, -1, 1);
    for (int i = 0; i < 24; i++)
        w[i] *= factor[i / 6];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rq_observer_cfg cfg = config(RQ_OBSERVER_MINMAX, rows[i].type, rows[i].scheme);
        cfg.axis = rows[i].axis;
        cfg.eps = rows[i].eps > 0 ? rows[i].eps : cfg.eps;
        rq_observer *o = make(&cfg);
        const rq_strided v = matrix(w, 4, 6);
        assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
        expect(o, rows[i].scale, rows[i].zero);
        rq_observer_destroy(o);
    }
    static const struct {
        double c;
        const char *type;
        rq_qscheme scheme;
        double scale[4], zero[4];
    } moving[] = {
        { .01,
          "qint8",
          RQ_QSCHEME_PER_CHANNEL_SYMMETRIC,
          { 0.0066720508, 0.000684823201, 0.0225620922, 7.32594563e-05 },
          { 0 } },
        { 1,
          "qint8",
          RQ_QSCHEME_PER_CHANNEL_SYMMETRIC,
          { 0.00727791432, 0.00714214286, 0.0061506927, 0.00732594542 },
          { 0 } },
        { .5,
          "quint8",
          RQ_QSCHEME_PER_CHANNEL_AFFINE,
          { 0.00521523552, 0.00307504251, 0.0137476837, 0.00336997956 },
          { 170, 98, 134, 116 } },
    };
    gen_l(w2, 24, 12, -1, 1);
    for (size_t i = 0; i < 3; i++) {
        rq_observer_cfg cfg = config(RQ_OBSERVER_MOVING_AVERAGE, moving[i].type, moving[i].scheme);
        cfg.axis = 0;
        cfg.averaging_constant = moving[i].c;
        rq_observer *o = make(&cfg);
        const rq_strided v = matrix(w, 4, 6), v2 = matrix(w2, 4, 6);
        assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
        assert_int_equal(rq_observer_update(o, NULL, &v2, &err), RQ_OK);
        expect(o, moving[i].scale, moving[i].zero);
        rq_observer_destroy(o);
    }
}

/* ---- V1, V2: the three kinds of Core ML Tools ---- */

static const rq_observer_kind three[3] = { RQ_OBSERVER_MOVING_AVERAGE, RQ_OBSERVER_MINMAX, RQ_OBSERVER_EMA };

static void v1_per_tensor(void **state)
{
    static const float batches[3][3] = { { -1, 0.5f, 2 }, { -3, 1, 0 }, { 0.5f, 4, 1 } };
    static const double ends[3][2] = { { -1.0048, 2.0101 }, { -3, 4 }, { -1.03, 2.11 } }, scale[3][2] = {
        { 0.01576549, 0.01182314 }, { 0.03137255, 0.02745098 }, { 0.01654902, 0.01231373 }
    };
    static const int zero[3][4] = { { 128, 0, 85, -43 }, { 128, 0, 109, -19 }, { 128, 0, 84, -44 } };
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int form = 0; form < 4; form++) { /* symmetric u8, s8; affine u8, s8 */
            const rq_observer_cfg cfg = config(three[k], form & 1 ? "qint8" : "quint8", form < 2 ? SYMMETRIC : AFFINE);
            rq_observer *o = make(&cfg);
            rq_range r;
            rq_qparams q;
            for (int b = 0; b < 3; b++)
                see(o, batches[b], 3);
            assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
            about(r.lo, ends[k][0]);
            about(r.hi, ends[k][1]);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
            about((double)q.scale[0], scale[k][form / 2]);
            assert_int_equal(q.zero_point[0], zero[k][form]);
            rq_qparams_release(&q);
            rq_observer_destroy(o);
        }
}

static void v2_per_channel(void **state)
{
    static float a[6] = { 1, -2, 0.5f, 0, 0.25f, 0.75f }, b[6] = { 3, -1, 0.5f, 0.1f, -0.5f, 0.2f };
    static const struct {
        double lo[2], hi[2];
        struct {
            double scale[2];
            int zero[2];
        } form[5]; /* s8 symmetric, affine; s4 symmetric, affine; u4 symmetric */
    } want[3] = {
        { { -1.99, -0.005 },
          { 1.02, 0.7445 },
          { { { 0.01560784, 0.00583922 }, { 0, 0 } },
            { { 0.01180392, 0.00293922 }, { 41, -126 } },
            { { 0.26533332, 0.09926666 }, { 0, 0 } },
            { { 0.20066667, 0.04996667 }, { 2, -8 } },
            { { 0.26533332, 0.09926666 }, { 7, 7 } } } },
        { { -2, -0.5 },
          { 3, 0.75 },
          { { { 0.02352941, 0.00588235 }, { 0, 0 } },
            { { 0.01960784, 0.00490196 }, { -26, -26 } },
            { { 0.4, 0.1 }, { 0, 0 } },
            { { 0.33333334, 0.08333334 }, { -2, -2 } },
            { { 0.4, 0.1 }, { 7, 7 } } } },
        { { -1.9, -0.05 },
          { 1.2, 0.695 },
          { { { 0.01490196, 0.00545098 }, { 0, 0 } },
            { { 0.01215686, 0.00292157 }, { 28, -111 } },
            { { 0.25333333, 0.09266666 }, { 0, 0 } },
            { { 0.20666666, 0.04966666 }, { 1, -7 } },
            { { 0.25333333, 0.09266666 }, { 7, 7 } } } },
    };
    static const char *const types[5] = { "qint8", "qint8", "qint8[-8,7]", "qint8[-8,7]", "quint8[0,15]" };
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int f = 0; f < 5; f++) {
            rq_observer_cfg cfg =
                config(three[k], types[f], f & 1 ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_CHANNEL_SYMMETRIC);
            cfg.axis = 0;
            rq_observer *o = make(&cfg);
            const rq_strided va = matrix(a, 2, 3), vb = matrix(b, 2, 3);
            rq_range r[2];
            rq_qparams q;
            assert_int_equal(rq_observer_update(o, NULL, &va, &err), RQ_OK);
            assert_int_equal(rq_observer_update(o, NULL, &vb, &err), RQ_OK);
            assert_int_equal(rq_observer_range(o, r, 2), RQ_OK);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
            for (int c = 0; c < 2; c++) {
                about(r[c].lo, want[k].lo[c]);
                about(r[c].hi, want[k].hi[c]);
                about((double)q.scale[c], want[k].form[f].scale[c]);
                assert_int_equal(q.zero_point[c], want[k].form[f].zero[c]);
            }
            rq_qparams_release(&q);
            rq_observer_destroy(o);
        }
}

/* ---- V5, V8: weights ---- */

static void v5_and_v8_weights(void **state)
{
    static const struct {
        const char *type;
        bool symmetric;
        double scale[2];
        int zero[2];
        int decoded;
    } rows[] = {
        { "int8", true, { 0.01574803, 0.03149606 }, { 0, 0 }, 0 },
        { "uint8", true, { 0.01574803, 0.03149606 }, { 127, 127 }, 0 },
        { "int8", false, { 0.00784314, 0.01960784 }, { -128, -77 }, 1 },
        { "uint8", false, { 0.00784314, 0.01960784 }, { 0, 51 }, 1 },
        { "int4", true, { 0.2857143, 0.5714286 }, { 0, 0 }, 2 },
        { "uint4", true, { 0.2857143, 0.5714286 }, { 7, 7 }, 2 },
        { "int4", false, { 0.1333333, 0.3333333 }, { -8, -5 }, 3 },
        { "uint4", false, { 0.1333333, 0.3333333 }, { 0, 3 }, 3 },
    };
    static const double decoded[4][8] = {
        { 0.2992126, 0.6929134, 1.1023622, 2, -1.007874, 2.015748, 2.992126, 4 },
        { 0.2980392, 0.6980392, 1.0980393, 2, -1, 2, 3, 4 },
        { 0.2857143, 0.5714286, 1.1428572, 2, -1.1428572, 1.7142859, 2.8571429, 4 },
        { 0.2666667, 0.6666667, 1.0666667, 2, -1, 2, 3, 4 },
    };
    static float w[8] = { 0.3f, 0.7f, 1.1f, 2, -1, 2, 3, 4 };
    static const float lo[2] = { 0.3f, -1 }, hi[2] = { 2, 4 };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int compat = 0; compat < 2; compat++) {
            const rq_shape shape = rq_shape_of(2, (int64_t[]) { 2, 4 });
            rq_qtype t;
            float s[2], y[8];
            int32_t z[2];
            assert_int_equal(rq_qtype_parse(&t, rows[i].type, &err), RQ_OK);
            for (int c = 0; c < 2; c++) {
                rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_PTQ, t, rows[i].symmetric ? SYMMETRIC : AFFINE);
                rule.compat = compat;
                assert_int_equal(rq_qparams_choose(lo[c], hi[c], &rule, &s[c], &z[c], NULL), RQ_OK);
                about((double)s[c], rows[i].scale[c]);
                assert_int_equal(z[c], rows[i].zero[c]);
            }
            const rq_fq fq = { .type = t, .rule = RQ_FQ_DIVIDE, .axis = 0, .n = 2, .scale = s, .zero_point = z };
            const rq_strided in = rq_strided_floats(w, &shape), out = rq_strided_floats(y, &shape);
            assert_int_equal(rq_fake_quantize(NULL, &out, NULL, &in, &fq, &err), RQ_OK);
            for (int k = 0; k < 8; k++)
                about((double)y[k], decoded[rows[i].decoded][k]);
        }
    static const struct {
        float lo, hi;
        bool symmetric, compat;
        double scale;
        int zero;
    } eight[] = {
        { 0.1f, 1.5f, true, true, 0.1, 8 },        { 0.1f, 1.5f, true, false, 0.2, 8 },
        { -1.5f, -0.1f, false, true, 0.1, 15 },    { 0, 0, true, true, 0.1333333, 8 },
        { -1.5f, 0.1f, true, false, 3 / 15.0, 8 },
    };
    for (size_t i = 0; i < sizeof eight / sizeof eight[0]; i++) {
        rq_qparams_rule rule =
            rq_qparams_rule_of(RQ_QPARAMS_LAYERWISE, rq_qtype_of(RQ_DTYPE_U4), eight[i].symmetric ? SYMMETRIC : AFFINE);
        float s;
        int32_t z;
        rule.compat = eight[i].compat;
        assert_int_equal(rq_qparams_choose(eight[i].lo, eight[i].hi, &rule, &s, &z, NULL), RQ_OK);
        about((double)s, eight[i].scale);
        assert_int_equal(z, eight[i].zero);
    }
}

/* ---- ChooseQuantizationParams, and what every rule promises ---- */

static void table_of_cqp(void **state)
{
    static const struct {
        float lo, hi;
        double scale[2]; /* full, reduced */
        int zero[2];
    } rows[] = {
        { -1, 3, { 0.01568627450980392, 0.031496062992125984 }, { 64, 32 } },
        { 0.5f, 2, { 0.00784313725490196, 2 / 127.0 }, { 0, 0 } },
        { -2, -1, { 0.00784313725490196, 2 / 127.0 }, { 255, 127 } },
        { 0, 0, { 0.1, 0.1 }, { 0, 0 } },
        { 0, 1e-6f, { 6.0999998822808266e-05, 6.0999998822808266e-05 }, { 0, 0 } },
        { -1e-6f, 1e-6f, { 6.0999998822808266e-05, 6.0999998822808266e-05 }, { 128, 63 } },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int reduce = 0; reduce < 2; reduce++) {
            rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_CQP, rq_qtype_of(RQ_DTYPE_U8), AFFINE);
            float s;
            int32_t z;
            rule.reduce_range = reduce;
            rule.compat = true;
            assert_int_equal(rq_qparams_choose(rows[i].lo, rows[i].hi, &rule, &s, &z, NULL), RQ_OK);
            close_to((double)s, rows[i].scale[reduce]);
            assert_int_equal(z, rows[i].zero[reduce]);
        }
    /* the symmetric ones of the fused module: {lo, hi, scale, zero point}; the last two are what ours does not do */
    static const double fused[][4] = { { -1, 0.5, 0.0078125, 0 },         { -0.5, 1, 0.00787401572, 0 },
                                       { -1, 1, 0.00787401572, 0 },       { 0.25, 1, 0.00392156886, -128 },
                                       { -1, -0.25, 0.00392156886, 127 }, { 0, 0, 0.1, 127 } };
    for (size_t i = 0; i < 6; i++) {
        rq_qparams_rule rule = rq_qparams_rule_of(RQ_QPARAMS_CQP, rq_qtype_of(RQ_DTYPE_S8), SYMMETRIC);
        float s;
        int32_t z;
        rule.compat = true;
        assert_int_equal(rq_qparams_choose((float)fused[i][0], (float)fused[i][1], &rule, &s, &z, NULL), RQ_OK);
        close_to((double)s, fused[i][2]);
        assert_int_equal(z, (int)fused[i][3]);
        rule.compat = false;
        assert_int_equal(rq_qparams_choose((float)fused[i][0], (float)fused[i][1], &rule, &s, &z, NULL), RQ_OK);
        assert_int_equal(z, 0);
    }
}

/* Whatever the range: a scale that is finite, positive and normal, and a zero point among the codes. */
static void every_rule_keeps_its_promise(void **state)
{
    static const float ends[] = { 0, -0.0f, 1e-45f, 1e-38f, 1e-30f, 1e-7f, 0.3f, 1, 254.5f, 1e10f, 3e38f, FLT_MAX };
    static const rq_dtype types[] = { RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_S4, RQ_DTYPE_U4, RQ_DTYPE_S16, RQ_DTYPE_U2 };
    enum { N = sizeof ends / sizeof ends[0] };
    (void)state;
    for (int kind = 0; kind < RQ_N_QPARAMS_KINDS; kind++)
        for (int t = 0; t < 6; t++)
            for (int form = 0; form < 8; form++) {
                rq_qparams_rule r =
                    rq_qparams_rule_of((rq_qparams_kind)kind, rq_qtype_of(types[t]), form & 1 ? SYMMETRIC : AFFINE);
                r.power_of_two = form & 2;
                r.reduce_range = form & 4;
                r.eps = form & 2 ? 0 : r.eps;
                if (rq_qparams_rule_check(&r, &err))
                    continue;
                const rq_qtype codes = rq_qparams_codes(&r);
                for (int i = 0; i < 2 * N; i++)
                    for (int k = 0; k < 2 * N; k++) {
                        const float lo = i < N ? ends[i] : -ends[i - N], hi = k < N ? ends[k] : -ends[k - N];
                        float s = 0;
                        int32_t z = 99;
                        int e;
                        if (!(lo <= hi)) {
                            assert_int_equal(rq_qparams_choose(lo, hi, &r, &s, &z, NULL), RQ_NUMERIC);
                            continue;
                        }
                        assert_int_equal(rq_qparams_choose(lo, hi, &r, &s, &z, NULL), RQ_OK);
                        if (!(s >= FLT_MIN && s <= FLT_MAX) || z < codes.lo || z > codes.hi ||
                            (r.power_of_two && s < 1e38f && frexpf(s, &e) != 0.5f))
                            fail_msg("rule %d type %d form %d: %g..%g has scale %g, zero point %d", kind, t, form,
                                     (double)lo, (double)hi, (double)s, z);
                    }
            }
    const rq_qparams_rule r = rq_qparams_rule_of(RQ_QPARAMS_OBSERVER, rq_qtype_of(RQ_DTYPE_U8), AFFINE);
    float s;
    assert_int_equal(rq_qparams_choose(-INFINITY, 1, &r, &s, NULL, NULL), RQ_NUMERIC);
    assert_int_equal(rq_qparams_choose(NAN, NAN, &r, &s, NULL, NULL), RQ_NUMERIC);
}

/* ---- B: range helpers and observers of Core ML Tools ---- */

static void b1_b2_ranges_of_widths(void **state)
{
    (void)state;
    for (int n = 2; n <= 7; n++)
        for (int is_signed = 0; is_signed < 2; is_signed++) {
            rq_qtype t;
            assert_int_equal(rq_qtype_bits(&t, n, is_signed, false, &err), RQ_OK);
            assert_int_equal(t.lo, is_signed ? -(1 << (n - 1)) : 0);
            assert_int_equal(t.hi, is_signed ? (1 << (n - 1)) - 1 : (1 << n) - 1);
            assert_int_equal(rq_qtype_width(&t), n);
        }
}

static void b3_b4_predicates(void **state)
{
    (void)state;
    assert_false(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_TENSOR_AFFINE));
    assert_false(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_TENSOR_SYMMETRIC));
    assert_true(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_CHANNEL_AFFINE));
    assert_true(rq_qscheme_is_per_channel(RQ_QSCHEME_PER_CHANNEL_SYMMETRIC));
    assert_false(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_TENSOR_AFFINE));
    assert_true(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_TENSOR_SYMMETRIC));
    assert_false(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_CHANNEL_AFFINE));
    assert_true(rq_qscheme_is_symmetric(RQ_QSCHEME_PER_CHANNEL_SYMMETRIC));
    static const rq_observer_kind native[] = { RQ_OBSERVER_MINMAX,    RQ_OBSERVER_MOVING_AVERAGE,
                                               RQ_OBSERVER_HISTOGRAM, RQ_OBSERVER_PLACEHOLDER,
                                               RQ_OBSERVER_NOOP,      RQ_OBSERVER_FIXED };
    for (size_t i = 0; i < sizeof native / sizeof native[0]; i++)
        assert_true(rq_observer_kind_is_native(native[i]));
    assert_false(rq_observer_kind_is_native(RQ_OBSERVER_EMA));
}

static void b5_two_values_come_back(void **state)
{
    static const struct {
        const char *type;
        bool symmetric;
        float lo, hi;
    } rows[] = {
        { "qint8", true, -127, 127 },
        { "quint8", true, -127, 127 },
        { "quint8", false, 0, 255 },
        { "qint8", false, -128, 127 },
    };
    static float x[432];
    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (int channels = 0; channels < 2; channels++) {
            const int scheme =
                (channels ? RQ_QSCHEME_PER_CHANNEL_AFFINE : RQ_QSCHEME_PER_TENSOR_AFFINE) + rows[i].symmetric;
            rq_observer_cfg cfg = config(RQ_OBSERVER_EMA, rows[i].type, (rq_qscheme)scheme);
            const rq_shape s = rq_shape_of(4, (int64_t[]) { 3, 4, 6, 6 });
            const rq_strided v = rq_strided_floats(x, &s);
            rq_qparams q;
            cfg.axis = channels ? 0 : RQ_PER_TENSOR;
            for (int k = 0; k < 432; k++)
                x[k] = k * 2654435761u >> 31 ? rows[i].lo : rows[i].hi;
            rq_observer *o = make(&cfg);
            assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
            const rq_qtype t = rq_observer_type(o);
            for (int k = 0; k < 432; k++) {
                const int c = channels ? k / 144 : 0;
                const float code =
                    fminf(fmaxf(rintf(x[k] / q.scale[c] + (float)q.zero_point[c]), (float)t.lo), (float)t.hi);
                const float back = (code - (float)q.zero_point[c]) * q.scale[c];
                assert_true((rows[i].symmetric ? ceilf(back) : back) == x[k]);
            }
            rq_qparams_release(&q);
            rq_observer_destroy(o);
        }
}

/* B6, and the same for every kind that has a state. */
static void b6_states_come_back(void **state)
{
    static float x[12];
    (void)state;
    gen_l(x, 12, 3, -1, 2);
    for (int k = 0; k < RQ_N_OBSERVERS; k++)
        for (int axis = RQ_PER_TENSOR; axis < 2; axis++) {
            rq_observer_cfg cfg = rq_observer_defaults((rq_observer_kind)k);
            rq_observer *o = NULL, *other = NULL;
            rq_state *a = NULL, *b = NULL;
            const rq_strided v = matrix(x, 3, 4);
            cfg.axis = axis;
            cfg.scheme = axis == RQ_PER_TENSOR ? AFFINE : RQ_QSCHEME_PER_CHANNEL_AFFINE;
            if (k == RQ_OBSERVER_OWN || k == RQ_OBSERVER_STACKED || rq_observer_create(&o, &cfg, &err))
                continue;
            assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
            assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
            other = make(&cfg);
            assert_int_equal(rq_state_create(&a), RQ_OK);
            assert_int_equal(rq_state_create(&b), RQ_OK);
            assert_int_equal(rq_observer_save(o, a, "obs."), RQ_OK);
            if (rq_observer_load(other, a, "obs.", &err))
                fail_msg("%s: %s", rq_observer_kind_name((rq_observer_kind)k), err.text);
            assert_int_equal(rq_observer_save(other, b, "obs."), RQ_OK);
            assert_int_equal(rq_state_count(a), rq_state_count(b));
            for (int i = 0; i < rq_state_count(a); i++) {
                assert_string_equal(rq_state_name(a, i), rq_state_name(b, i));
                assert_memory_equal(rq_state_tensor(a, i)->data, rq_state_tensor(b, i)->data,
                                    rq_state_tensor(a, i)->bytes);
            }
            rq_observer_reset(other);
            assert_int_equal(rq_observer_count(other), 0);
            rq_observer_destroy(o);
            rq_observer_destroy(other);
            rq_state_destroy(a);
            rq_state_destroy(b);
        }
}

/* B7: what a plain FakeQuantize takes; and the codes of symmetric u8 reduced, which Core ML Tools 9 gives 128 as zero point. */
static void b7_ema_goes_into_fake_quantize(void **state)
{
    (void)state;
    for (int i = 0; i < 32; i++) {
        const bool channels = i & 1, symmetric = i & 2, is_signed = i & 4, reduce = i & 8, compat = i & 16;
        const rq_qscheme scheme = channels
                                      ? (symmetric ? RQ_QSCHEME_PER_CHANNEL_SYMMETRIC : RQ_QSCHEME_PER_CHANNEL_AFFINE)
                                      : (symmetric ? SYMMETRIC : AFFINE);
        rq_fake_quantizer_cfg cfg = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
        cfg.observer = config(RQ_OBSERVER_EMA, is_signed ? "qint8" : "quint8", scheme);
        cfg.observer.axis = channels ? 0 : RQ_PER_TENSOR;
        cfg.observer.reduce_range = reduce;
        cfg.observer.compat = cfg.compat = compat;
        rq_fake_quantizer *f;
        if (rq_fake_quantizer_create(&f, &cfg, &err))
            fail_msg("%s", err.text);
        rq_fake_quantizer_destroy(f);

        rq_observer *o = make(&cfg.observer);
        float x[4] = { 2.5f, 2.5f, 2.5f, 2.5f };
        const rq_strided v = matrix(x, 2, 2);
        rq_qparams q;
        assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
        assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
        assert_int_equal(q.n, channels ? 2 : 1);
        if (symmetric && reduce)
            assert_true(q.scale[0] == 2.5f / 63.5f);
        assert_int_equal(q.zero_point[0], symmetric ? (is_signed           ? 0
                                                       : compat || !reduce ? 128
                                                                           : 64)
                                                    : (is_signed ? (reduce ? -64 : -128) : 0));
        rq_qparams_release(&q);
        rq_observer_destroy(o);
        cfg.observer.kind = RQ_OBSERVER_MINMAX; /* PyTorch's refuse it */
        o = NULL;
        assert_int_equal(rq_observer_create(&o, &cfg.observer, &err),
                         symmetric && reduce && !is_signed ? RQ_BAD_ARG : RQ_OK);
        rq_observer_destroy(o);
    }
}

static void b8_channels_come_to_the_front(void **state)
{
    static const struct {
        int rank, axis;
        int64_t dim[4], rows, columns;
    } rows[] = {
        { 2, 0, { 1, 2 }, 1, 2 },       { 2, 1, { 1, 2 }, 2, 1 },        { 3, 0, { 3, 2, 1 }, 3, 2 },
        { 3, 1, { 2, 3, 1 }, 3, 2 },    { 3, 2, { 3, 1, 2 }, 2, 3 },     { 4, 0, { 1, 2, 3, 4 }, 1, 24 },
        { 4, 1, { 4, 3, 2, 1 }, 3, 8 }, { 4, 2, { 3, 4, 2, 1 }, 2, 12 }, { 4, 3, { 2, 3, 1, 4 }, 4, 6 },
    };
    float x[24];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const rq_shape s = rq_shape_of(rows[i].rank, rows[i].dim);
        const rq_strided v = rq_strided_floats(x, &s);
        rq_runs r;
        assert_int_equal(rq_runs_init(&r, &v, &rows[i].axis, 1, &err), RQ_OK);
        assert_int_equal(r.channels, rows[i].rows);
        assert_int_equal(r.rest, rows[i].columns);
    }
}

/* ---- strides, types, threads ---- */

/* The extremes of each channel, element by element; bit k of `kept`: axis k is. */
static void by_hand(rq_extremes *out, const rq_strided *v, unsigned kept)
{
    const int64_t n = rq_shape_count(&v->shape);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, at = 0, channel = 0, step = 1;
        for (int k = v->shape.rank - 1; k >= 0; k--) {
            const int64_t index = rest % v->shape.dim[k];
            rest /= v->shape.dim[k];
            at += index * v->stride[k];
            if (kept >> k & 1) {
                channel += index * step;
                step *= v->shape.dim[k];
            }
        }
        const float x = ((const float *)v->data)[at];
        rq_extremes *e = &out[channel];
        if (isnan(x))
            e->nan++;
        else if (isinf(x) && x > 0)
            e->above++;
        else if (isinf(x))
            e->below++;
        else {
            e->finite++;
            e->lo = fminf(e->lo, x);
            e->hi = fmaxf(e->hi, x);
            e->zeros += x == 0;
            e->least_abs = x != 0 ? fminf(e->least_abs, fabsf(x)) : e->least_abs;
        }
    }
}

static void any_strides_and_threads_give_the_same(void **state)
{
    enum { MANY = 300 * 40 * 33 };
    float *x = malloc(MANY * sizeof *x);
    rq_exec *e[3] = { NULL };
    (void)state;
    assert_non_null(x);
    gen_l(x, MANY, 5, -3, 2);
    for (int i = 0; i < MANY; i += 1237)
        x[i] = i % 3 ? (i % 2 ? INFINITY : -INFINITY) : NAN;
    for (int i = 0; i < MANY; i += 7)
        x[i] = i % 2 ? 0.0f : -0.0f;
    assert_int_equal(rq_exec_create(&e[1], 1, &err), RQ_OK);
    assert_int_equal(rq_exec_create(&e[2], 2, &err), RQ_OK);
    const rq_shape s = rq_shape_of(3, (int64_t[]) { 300, 40, 33 });
    const rq_strided whole = rq_strided_floats(x, &s);
    rq_strided views[5] = { whole, rq_strided_permute(&whole, (const int[]) { 2, 0, 1 }),
                            rq_strided_slice(&whole, 1, 39, 20, -2), rq_strided_slice(&whole, 2, 1, 16, 2), whole };
    views[4].stride[0] = 0; /* one slice, repeated */
    rq_extremes *want = malloc(MANY * sizeof *want), *got = malloc(MANY * sizeof *got);
    assert_true(want && got);
    for (int i = 0; i < 5; i++)
        for (unsigned kept = 0; kept < 8; kept++) {
            const rq_strided *v = &views[i];
            int axes[3], n_axes = 0;
            int64_t n = 1;
            for (int k = 2; k >= 0; k--) /* in any order, from either end */
                if (kept >> k & 1) {
                    axes[n_axes++] = k ? k : -3;
                    n *= v->shape.dim[k];
                }
            for (int64_t c = 0; c < n; c++)
                want[c] = (rq_extremes) { .lo = INFINITY, .hi = -INFINITY, .least_abs = INFINITY };
            by_hand(want, v, kept);
            for (int t = 0; t < 3; t++) {
                rq_runs r;
                assert_int_equal(rq_runs_init(&r, v, axes, n_axes, &err), RQ_OK);
                assert_int_equal(r.channels, n);
                for (int near_zero = 0; near_zero < 2; near_zero++) {
                    assert_int_equal(rq_runs_extremes(&r, e[t], near_zero, got), RQ_OK);
                    for (int64_t c = 0; c < n; c++)
                        if (got[c].lo != want[c].lo || got[c].hi != want[c].hi || got[c].finite != want[c].finite ||
                            got[c].nan != want[c].nan || got[c].above != want[c].above ||
                            got[c].below != want[c].below ||
                            (near_zero && (got[c].zeros != want[c].zeros || got[c].least_abs != want[c].least_abs)))
                            fail_msg("view %d kept %u threads %d channel %d: %g..%g, expected %g..%g", i, kept, t,
                                     (int)c, (double)got[c].lo, (double)got[c].hi, (double)want[c].lo,
                                     (double)want[c].hi);
                }
            }
        }
    free(want);
    free(got);
    rq_exec_destroy(e[1]);
    rq_exec_destroy(e[2]);
    free(x);
}

static void other_floats_are_taken_as_f32(void **state)
{
    double d[3] = { -1.0000000001, 1e300, 2 };
    uint16_t h[3] = { 0xc200, 0x3c00, 0x7e00 }, bf[3] = { 0xbfc0, 0x4040, 0x0000 }; /* -3, 1, NaN; -1.5, 3, 0 */
    const rq_shape s = rq_shape_of(1, (int64_t[]) { 3 });
    const rq_tensor t[3] = { rq_tensor_view(RQ_DTYPE_F64, &s, d), rq_tensor_view(RQ_DTYPE_F16, &s, h),
                             rq_tensor_view(RQ_DTYPE_BF16, &s, bf) };
    static const double want[3][2] = { { -1, 2 }, { -3, 1 }, { -1.5, 3 } };
    (void)state;
    for (int i = 0; i < 3; i++) {
        const rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_MINMAX);
        rq_observer *o = make(&cfg);
        const rq_strided v = rq_strided_of(&t[i]);
        rq_range r;
        assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
        assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
        assert_true(r.lo == want[i][0] && r.hi == want[i][1]);
        assert_int_equal(rq_observer_bad(o), i == 2 ? 0 : 1);
        rq_observer_destroy(o);
    }
}

/* ---- what is not finite, never seen, or wrong ---- */

static void what_is_not_finite_is_counted(void **state)
{
    static const float x[5] = { 1, NAN, -2, INFINITY, -INFINITY }, all[2] = { NAN, INFINITY }, up[2] = { 1, INFINITY };
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    rq_range r;
    rq_qparams q;
    (void)state;
    rq_observer *o = make(&cfg);
    see(o, all, 2);
    see(o, all, 0);
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_BAD_ARG);
    assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "the observer min_max has seen nothing yet: expected a batch with finite numbers");
    see(o, x, 5);
    assert_int_equal(rq_observer_range(o, &r, 1), RQ_OK);
    assert_true(r.lo == -2 && r.hi == 1);
    assert_int_equal(rq_observer_count(o), 2);
    assert_int_equal(rq_observer_nan(o), 2);
    assert_int_equal(rq_observer_infinite(o), 3);
    rq_observer_destroy(o);
    cfg.compat = true;
    o = make(&cfg);
    assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
    assert_true(q.n == 1 && q.scale[0] == 1 && q.zero_point[0] == 0);
    rq_qparams_release(&q);
    see(o, up, 2);
    assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_OK);
    assert_true(isinf(q.scale[0]) && q.zero_point[0] == 0);
    rq_qparams_release(&q);
    see(o, x, 5);
    assert_int_equal(rq_observer_qparams(o, &q, NULL, &err), RQ_NUMERIC);
    rq_observer_destroy(o);
}

static void what_does_not_fit_is_refused(void **state)
{
    rq_observer *o = NULL;
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    (void)state;
    cfg.axis = 0;
    assert_int_equal(rq_observer_create(&o, &cfg, &err), RQ_BAD_ARG);
    assert_string_equal(
        err.text,
        "scheme per_tensor_affine and axis 0 do not go together: a scheme per channel has an axis, one per tensor -1");
    cfg.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    o = make(&cfg);
    float x[6] = { 0 };
    rq_strided v = matrix(x, 2, 3);
    assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
    v = matrix(x, 3, 2);
    assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "3 channels along axis 0, expected 2 as before");
    rq_observer_destroy(o);
    cfg = rq_observer_defaults(RQ_OBSERVER_RECORDING);
    cfg.most = 10;
    o = make(&cfg);
    for (int i = 0; i < 6; i++)
        x[i] = (float)i;
    v = rq_strided_permute(&v, (const int[]) { 1, 0 });
    assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
    assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_BAD_DATA);
    assert_string_equal(err.text, "a recording observer keeps 10 numbers at most, has 6, and got 6 more");
    assert_int_equal(rq_observer_n_recorded(o), 1);
    assert_memory_equal(rq_observer_recorded(o, 0)->f32, ((float[]) { 0, 2, 4, 1, 3, 5 }), 24);
    rq_observer_destroy(o);
    rq_observer_kind kind;
    assert_int_equal(rq_observer_kind_parse(&kind, "torch.ao.quantization.observer.HistogramObserver", &err), RQ_OK);
    assert_int_equal(kind, RQ_OBSERVER_HISTOGRAM);
    assert_int_equal(rq_observer_kind_parse(&kind, "torch.", &err), RQ_BAD_ARG);
    assert_int_equal(rq_observer_kind_parse(&kind, "MovingAveragePerChannelMinMaxObserver", &err), RQ_OK);
    assert_int_equal(kind, RQ_OBSERVER_MOVING_AVERAGE);
    assert_int_equal(rq_observer_kind_parse(&kind, "mix_max", &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "there is no observer 'mix_max'; the nearest is 'min_max'");
}

static void old_and_broken_states(void **state)
{
    static const float lo[2] = { -1, -2 }, hi[2] = { 1, -3 }, up[2] = { 1, 2 };
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    rq_state *s = NULL;
    rq_range r[2];
    (void)state;
    cfg.axis = 1;
    cfg.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    rq_observer *o = make(&cfg);
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_observer_load(o, s, "w.", &err), RQ_NOT_FOUND);
    assert_int_equal(rq_state_set_floats(s, "w.", "min_vals", lo, 2), RQ_OK); /* the names of before */
    assert_int_equal(rq_state_set_floats(s, "w.", "max_vals", up, 2), RQ_OK);
    assert_int_equal(rq_observer_load(o, s, "w.", &err), RQ_OK);
    assert_int_equal(rq_observer_range(o, r, 2), RQ_OK);
    assert_true(r[1].lo == -2 && r[1].hi == 2);
    assert_int_equal(rq_state_set_floats(s, "w.", "max_vals", hi, 2), RQ_OK);
    assert_int_equal(rq_observer_load(o, s, "w.", &err), RQ_BAD_DATA);
    assert_int_equal(rq_state_set_floats(s, "w.", "max_vals", hi, 1), RQ_OK);
    assert_int_equal(rq_observer_load(o, s, "w.", &err), RQ_BAD_SHAPE);
    assert_int_equal(rq_observer_range(o, r, 2), RQ_OK); /* as it was */
    assert_true(r[1].lo == -2 && r[1].hi == 2);
    rq_observer_destroy(o);
    rq_state_destroy(s);
}

/* Ends that are not those of the bins would have later batches move counts to where there is no memory. */
/* Counted by one thread in one call, or by two in calls of odd sizes that begin with zeros alone: the same bins. Expected is a count
 * of each bin by comparison. */
static void counts_do_not_depend_on_threads_and_cuts(void **state)
{
    enum { N = 300000, LEADING = 1000 };
    float *x = malloc(N * sizeof *x);
    rq_exec *two = NULL;
    (void)state;
    gen_t(x, N, 5);
    memset(x, 0, LEADING * sizeof *x);
    x[N / 2] = NAN;
    x[N / 3] = -INFINITY;
    assert_int_equal(rq_exec_create(&two, 2, &err), RQ_OK);
    const rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_COUNTS);
    rq_observer *whole = make(&cfg), *cut = make(&cfg);
    const rq_strided all = rq_strided_vector(x, N);
    assert_int_equal(rq_observer_update(whole, NULL, &all, &err), RQ_OK);
    for (int64_t at = 0, n = LEADING; at < N; at += n, n = n * 3 + 1) {
        const rq_strided part = rq_strided_vector(x + at, n < N - at ? n : N - at);
        assert_int_equal(rq_observer_update(cut, two, &part, &err), RQ_OK);
    }
    const rq_histogram *a = rq_observer_histogram(whole), *b = rq_observer_histogram(cut);
    assert_true(a->n > 100 && a->n == b->n && a->first == b->first && a->width == b->width);
    assert_memory_equal(a->count, b->count, (size_t)a->n * sizeof *a->count);
    for (int i = 0; i < a->n; i += 97) {
        uint64_t expected = 0;
        for (int64_t k = 0; k < N; k++)
            expected += x[k] >= (a->first + i) * a->width && x[k] < (a->first + i + 1) * a->width;
        assert_int_equal(a->count[i], expected);
    }
    assert_int_equal(rq_observer_count(whole), N - 2);
    assert_int_equal(rq_observer_count(cut), N - 2);
    assert_int_equal(rq_observer_nan(cut), 1);
    assert_int_equal(rq_observer_infinite(cut), 1);
    rq_observer_destroy(whole);
    rq_observer_destroy(cut);
    rq_exec_destroy(two);
    free(x);
}

static void broken_counts(void **state)
{
    static float x[12];
    static const struct {
        const char *name;
        float ends;
    } wrong[] = { { "min_val", 5 }, { "min_val", -100 },     { "min_val", -INFINITY }, { "min_val", NAN },
                  { "max_val", 0 }, { "max_val", INFINITY }, { "max_val", 1e30f } };
    (void)state;
    gen_l(x, 12, 3, -1, 2);
    const rq_strided v = matrix(x, 3, 4);
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_COUNTS);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        rq_observer *o = make(&cfg), *other = make(&cfg);
        rq_state *s;
        assert_int_equal(rq_observer_update(o, NULL, &v, &err), RQ_OK);
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_observer_save(o, s, "c."), RQ_OK);
        assert_int_equal(rq_observer_load(other, s, "c.", &err), RQ_OK);
        assert_int_equal(rq_state_set_floats(s, "c.", wrong[i].name, &wrong[i].ends, 1), RQ_OK);
        assert_int_equal(rq_observer_load(other, s, "c.", &err), RQ_BAD_DATA);
        assert_int_equal(rq_observer_update(other, NULL, &v, &err), RQ_OK); /* as it was */
        assert_int_equal(rq_observer_count(other), 24);
        rq_observer_destroy(o);
        rq_observer_destroy(other);
        rq_state_destroy(s);
    }
    /* both names of an end: the one that the checks are made of is taken */
    static const float one[3] = { -1, -1, -1 }, many[5] = { -1, -1, -1, -1, -1 }, scale[3] = { 1, 1, 1 };
    static const float up[3] = { 1, 1, 1 };
    rq_state *s;
    cfg = rq_observer_defaults(RQ_OBSERVER_LSQ);
    cfg.axis = 0;
    cfg.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    rq_observer *o = make(&cfg);
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "", "min_val", one, 3), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "", "max_val", up, 3), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "", "scale", scale, 3), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "", "min_vals", many, 5), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "", "max_vals", many, 5), RQ_OK);
    assert_int_equal(rq_observer_load(o, s, "", &err), RQ_OK);
    assert_int_equal(rq_observer_channels(o), 3);
    rq_observer_destroy(o);
    rq_state_destroy(s);
}

/* ---- memory ---- */

static rq_status life(rq_observer_kind kind, int axis)
{
    static float x[12] = { 1, -2, 3 };
    rq_observer_cfg cfg = rq_observer_defaults(kind);
    rq_observer *o = NULL;
    rq_state *s = NULL;
    rq_qparams q = { 0 };
    float zero[4];
    const rq_strided v = matrix(x, 3, 4);
    cfg.axis = axis;
    cfg.scheme = axis == RQ_PER_TENSOR ? AFFINE : RQ_QSCHEME_PER_CHANNEL_AFFINE;
    RQ_TRY(rq_observer_create(&o, &cfg, NULL));
    rq_status st = rq_observer_update(o, NULL, &v, NULL);
    if (!st)
        st = rq_state_create(&s);
    if (!st)
        st = rq_observer_save(o, s, "a.");
    if (!st)
        st = rq_observer_load(o, s, "a.", NULL);
    if (!st && kind != RQ_OBSERVER_RECORDING && !o->row->no_qparams)
        st = rq_observer_qparams(o, &q, zero, NULL);
    rq_qparams_release(&q);
    rq_state_destroy(s);
    rq_observer_destroy(o);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    const size_t live = rq_mem_live();
    (void)state;
    for (int k = 0; k < RQ_N_OBSERVERS; k++)
        for (int axis = RQ_PER_TENSOR; axis < 1; axis++) {
            rq_status st = RQ_NO_MEMORY;
            if (k == RQ_OBSERVER_OWN || k == RQ_OBSERVER_STACKED)
                continue;
            for (size_t n = 1; st == RQ_NO_MEMORY && n < 100; n++) {
                rq_mem_fail_after(n, false);
                st = life((rq_observer_kind)k, axis);
                rq_mem_fail_after(0, false);
                assert_int_equal(rq_mem_live(), live);
            }
            if (st != RQ_OK && st != RQ_UNSUPPORTED)
                fail_msg("%s axis %d: %s", rq_observer_kind_name((rq_observer_kind)k), axis, rq_status_text(st));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generators_are_those_of_the_tables),
        cmocka_unit_test(table_of_min_max),
        cmocka_unit_test(table_of_moving_averages),
        cmocka_unit_test(table_per_channel),
        cmocka_unit_test(v1_per_tensor),
        cmocka_unit_test(v2_per_channel),
        cmocka_unit_test(v5_and_v8_weights),
        cmocka_unit_test(table_of_cqp),
        cmocka_unit_test(every_rule_keeps_its_promise),
        cmocka_unit_test(b1_b2_ranges_of_widths),
        cmocka_unit_test(b3_b4_predicates),
        cmocka_unit_test(b5_two_values_come_back),
        cmocka_unit_test(b6_states_come_back),
        cmocka_unit_test(b7_ema_goes_into_fake_quantize),
        cmocka_unit_test(b8_channels_come_to_the_front),
        cmocka_unit_test(any_strides_and_threads_give_the_same),
        cmocka_unit_test(other_floats_are_taken_as_f32),
        cmocka_unit_test(what_is_not_finite_is_counted),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(old_and_broken_states),
        cmocka_unit_test(counts_do_not_depend_on_threads_and_cuts),
        cmocka_unit_test(broken_counts),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
