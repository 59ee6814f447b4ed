/* tests/quant/calibrator_help.h — calibrators made, fed and asked in a line. */
#ifndef RQ_TESTS_QUANT_CALIBRATOR_HELP_H
#define RQ_TESTS_QUANT_CALIBRATOR_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/generators.h"
#include "requant/requant.h"

enum { MANY = 8192 };
static float data[MANY];

static inline void assert_close(double got, double want, double rel)
{
    if (!(fabs(got - want) <= rel * fabs(want)))
        fail_msg("got %.9g, want %.9g", got, want);
}

static inline rq_calibrator *make(const rq_calibrator_cfg *cfg)
{
    rq_err err = { 0 };
    rq_calibrator *c = NULL;
    if (rq_calibrator_create(&c, cfg, &err))
        fail_msg("%s", err.text);
    return c;
}

static inline rq_calibrator *make_hist(int num_bits, bool is_unsigned, int num_bins, bool numpy)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    cfg.num_bits = num_bits;
    cfg.is_unsigned = is_unsigned;
    cfg.num_bins = num_bins;
    cfg.numpy_hist = numpy;
    return make(&cfg);
}

static inline void collect(rq_calibrator *c, const float *x, int64_t n)
{
    rq_err err = { 0 };
    const rq_strided v = rq_strided_vector((float *)x, n);
    if (rq_calibrator_collect(c, NULL, &v, &err))
        fail_msg("%s", err.text);
}

static inline void collect_shape(rq_calibrator *c, const float *x, int rank, const int64_t *dim)
{
    rq_err err = { 0 };
    const rq_shape s = rq_shape_of(rank, dim);
    const rq_strided v = rq_strided_floats((float *)x, &s);
    if (rq_calibrator_collect(c, NULL, &v, &err))
        fail_msg("%s", err.text);
}

static inline double ask_with(rq_calibrator *c, rq_amax_method m, double percentile, int stride, int start)
{
    rq_err err = { 0 };
    rq_tensor t = { 0 };
    rq_amax_params p = rq_amax_defaults();
    p.percentile = percentile;
    p.stride = stride;
    p.start_bin = start;
    if (rq_calibrator_amax(c, m, &p, &t, &err))
        fail_msg("%s", err.text);
    assert_int_equal(t.dtype, RQ_DTYPE_F32);
    assert_int_equal(t.shape.rank, 0);
    const double amax = (double)t.f32[0];
    rq_tensor_release(&t);
    return amax;
}

static inline double ask(rq_calibrator *c, rq_amax_method m)
{
    return ask_with(c, m, 99.99, 1, 128);
}

static inline rq_calibrator *make_max(int n_axes, const int *axis, bool track)
{
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_MAX);
    cfg.n_axes = n_axes;
    for (int i = 0; i < n_axes; i++)
        cfg.axis[i] = axis[i];
    cfg.track_amax = track;
    return make(&cfg);
}

/* Data sets by the names of the tables; bins and settings of c. */
static inline void collect_set(rq_calibrator *c, char id)
{
    switch (id) {
    case 'A':
        gen_u(data, 4096, 1);
        collect(c, data, 4096);
        break;
    case 'B':
    case 'D':
        gen_b(data, MANY, 12345);
        if (id == 'D')
            gen_o(data, MANY);
        collect(c, data, MANY);
        break;
    case 'C':
        gen_t(data, MANY, 777);
        collect(c, data, MANY);
        break;
    case 'E':
        gen_b(data, MANY, 2024);
        gen_r(data, MANY);
        collect(c, data, MANY);
        break;
    case '4':
        gen_t(data, MANY, 2024);
        gen_r(data, MANY);
        collect(c, data, MANY);
        break;
    case 'F':
        gen_ramp(data, 1000);
        collect(c, data, 1000);
        break;
    case 'G':
        gen_b(data, 4096, 1);
        collect(c, data, 4096);
        gen_b(data, 4096, 2);
        for (int i = 0; i < 4096; i++)
            data[i] *= 2;
        collect(c, data, 4096);
        break;
    case 'z': /* Fz */
        gen_ramp(data, 500);
        collect(c, data, 500);
        gen_ramp(data, 1000);
        collect(c, data, 1000);
        break;
    default:
        fail();
    }
}

#endif
