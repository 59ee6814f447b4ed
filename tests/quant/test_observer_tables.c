/* tests/quant/test_observer_tables.c — observers and the way from a range to parameters, against tables that PyTorch 1.13.1 computed from data that
 * any language can make (torch-facts 1.1, 1.2, 1.3). */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "quant/generators.h"
#include "quant/observer_help.h"

static void close_to(double got, double want)
{
    if (!(fabs(got - want) <= 2e-7 * fabs(want)))
        fail_msg("%.9g instead of %.9g", got, want);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generators_are_those_of_the_tables),
        cmocka_unit_test(table_of_min_max),
        cmocka_unit_test(table_of_moving_averages),
        cmocka_unit_test(table_per_channel),
        cmocka_unit_test(table_of_cqp),
        cmocka_unit_test(every_rule_keeps_its_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
