/* The observers that Core ML Tools names but does not have, against docs/torch-facts.md 3.4 computed here in double, element by element. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/observer.h"

/* ---- the definitions ---- */

typedef struct code {
    double scale;
    int32_t zero_point;
} code;

static double half_even(double v)
{
    const double f = floor(v), d = v - f;
    return d < .5 || (d == .5 && fmod(f, 2) == 0) ? f : f + 1;
}

/* Parameters of PyTorch's observers: docs/torch-facts.md 1.1. In f32, as they are there. */
static code code_of(float lo, float hi, const rq_qtype *t, bool symmetric)
{
    const float eps = 0x1p-23f;
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    if (symmetric) {
        const float a = -lo > hi ? -lo : hi, s = a / ((float)(t->hi - t->lo) / 2);
        return (code) { (double)(s > eps ? s : eps), t->lo < 0 ? 0 : 128 };
    }
    float s = (hi - lo) / (float)(t->hi - t->lo);
    s = s > eps ? s : eps;
    const double z = t->lo - half_even((double)(lo / s));
    return (code) { (double)s, (int32_t)(z < t->lo ? t->lo : z > t->hi ? t->hi : z) };
}

/* What x becomes: torch.fake_quantize multiplies by the reciprocal in f32. */
static double fake(float x, code c, const rq_qtype *t)
{
    const float inverse = 1.0f / (float)c.scale;
    double q = half_even((double)(x * inverse)) + c.zero_point;
    q = q < t->lo ? t->lo : q > t->hi ? t->hi : q;
    return (float)(q - c.zero_point) * (float)c.scale;
}

/* A channel of a batch: element i at x[i * step]. */
typedef struct line {
    const float *x;
    int n, step;
} line;

static void extremes(const line *l, float *lo, float *hi)
{
    *lo = INFINITY;
    *hi = -INFINITY;
    for (int i = 0; i < l->n; i++) {
        const float v = l->x[i * l->step];
        *lo = isfinite(v) && v < *lo ? v : *lo;
        *hi = isfinite(v) && v > *hi ? v : *hi;
    }
}

static void best_part(const line *l, int candidates, const rq_qtype *t, bool symmetric, float *lo, float *hi)
{
    double best = INFINITY;
    float a, b;
    extremes(l, &a, &b);
    for (int i = 0; i < candidates; i++) {
        const float from = (float)(a * (1 - .01 * i)), to = (float)(b * (1 - .01 * i));
        const code c = code_of(from, to, t, symmetric);
        double sum = 0;
        for (int k = 0; k < l->n; k++) {
            const float v = l->x[k * l->step];
            if (isfinite(v))
                sum += pow(fabs(fake(v, c, t) - v), 2);
        }
        if (sum < best * (1 - 1e-12)) {
            best = sum;
            *lo = from;
            *hi = to;
        }
    }
}

/* ---- data ---- */

enum { N = 4001, CHANNELS = 5 };

static void bell(float *x, int n, uint64_t seed, float scale, float shift)
{
    rq_rng r;
    rq_rng_seed(&r, seed);
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < 6; k++)
            sum += (double)rq_rng_below(&r, 1000001) / 1e6 - .5;
        x[i] = (float)(sum * fabs(sum)) * scale + shift;
    }
}

static rq_observer *make(rq_observer_kind kind, rq_qtype type, bool symmetric, int axis)
{
    rq_observer_cfg cfg = rq_observer_defaults(kind);
    rq_observer *o = NULL;
    rq_err err = { 0 };
    cfg.type = type;
    cfg.axis = axis;
    cfg.scheme = axis == RQ_PER_TENSOR ? (symmetric ? RQ_QSCHEME_PER_TENSOR_SYMMETRIC : RQ_QSCHEME_PER_TENSOR_AFFINE)
                                       : (symmetric ? RQ_QSCHEME_PER_CHANNEL_SYMMETRIC : RQ_QSCHEME_PER_CHANNEL_AFFINE);
    if (rq_observer_create(&o, &cfg, &err))
        fail_msg("%s", err.text);
    return o;
}

static void show(rq_observer *o, rq_exec *e, const float *x, int rows, int cols)
{
    const rq_shape s = rq_shape_of(2, (const int64_t[]) { rows, cols });
    const rq_strided v = rq_strided_floats((float *)x, &s);
    rq_err err = { 0 };
    if (rq_observer_update(o, e, &v, &err))
        fail_msg("%s", err.text);
}

static void check_range(const rq_observer *o, int c, double lo, double hi)
{
    rq_range r[CHANNELS];
    assert_int_equal(rq_observer_range(o, r, rq_observer_channels(o)), RQ_OK);
    if (!(fabs(r[c].lo - lo) <= 1e-6 * fabs(lo) && fabs(r[c].hi - hi) <= 1e-6 * fabs(hi)))
        fail_msg("channel %d: %.9g..%.9g, want %.9g..%.9g", c, r[c].lo, r[c].hi, lo, hi);
}

static void check_code(const rq_observer *o, int c, double scale, int32_t zero_point)
{
    rq_qparams q;
    assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_OK);
    if (!(fabs((double)q.scale[c] - scale) <= 1e-6 * scale) || q.zero_point[c] != zero_point)
        fail_msg("channel %d: scale %.9g, zero point %d, want %.9g, %d", c, (double)q.scale[c], (int)q.zero_point[c],
                 scale, (int)zero_point);
    rq_qparams_release(&q);
}

/* ---- ema_percentile ---- */

static double clip_of(const float *x, int n)
{
    enum { BINS = 2048 };
    int count[BINS] = { 0 }, sum = 0;
    float most = 0;
    for (int i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    for (int i = 0; i < n; i++) {
        const int k = (int)(fabsf(x[i]) * BINS / most);
        count[k < BINS ? k : BINS - 1]++;
    }
    for (int i = 0; i < BINS; i++)
        if ((sum += count[i]) >= .99999 * n)
            return (i + .5) * (double)most / BINS;
    return (double)most;
}

static void percentiles_of_batches_are_averaged(void **state)
{
    enum { MANY = 200003 };
    float *x = malloc(MANY * sizeof *x);
    rq_observer *o = make(RQ_OBSERVER_EMA_PERCENTILE, rq_qtype_of(RQ_DTYPE_U8), false, RQ_PER_TENSOR);
    double lo = 0, hi = 0;
    for (int b = 0; b < 4; b++) {
        float a, z;
        bell(x, MANY, (uint64_t)b, 1 + (float)b, .1f);
        x[17] = 40 + (float)b; /* one that is cut off: 1e-5 of the batch is two elements */
        extremes(&(line) { x, MANY, 1 }, &a, &z);
        const double clip = clip_of(x, MANY), m = fmax((double)a, -clip), n = fmin((double)z, clip);
        assert_true(n < 40);
        lo = b ? .9 * lo + .1 * m : m;
        hi = b ? .9 * hi + .1 * n : n;
        show(o, NULL, x, 1, MANY);
        check_range(o, 0, lo, hi);
    }
    const code c = code_of((float)lo, (float)hi, &(rq_qtype) { RQ_DTYPE_U8, 0, 255 }, false);
    check_code(o, 0, c.scale, c.zero_point);
    rq_observer_destroy(o);
    free(x);
}

static void percentile_of_little(void **state)
{
    float x[] = { 5, NAN, INFINITY }, zeros[3] = { 0 };
    rq_observer *o = make(RQ_OBSERVER_EMA_PERCENTILE, rq_qtype_of(RQ_DTYPE_U8), false, RQ_PER_TENSOR);
    show(o, NULL, x, 1, 3);
    check_range(o, 0, 2047.5 / 2048 * 5, 2047.5 / 2048 * 5);
    rq_observer_reset(o);
    show(o, NULL, zeros, 1, 3);
    check_range(o, 0, 0, 0);
    rq_observer_destroy(o);
    rq_observer_cfg cfg = rq_observer_defaults(RQ_OBSERVER_EMA_PERCENTILE);
    cfg.axis = 0;
    cfg.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    assert_int_equal(rq_observer_create(&o, &cfg, NULL), RQ_UNSUPPORTED);
}

/* ---- mse, ema_mse ---- */

static void check_mse(rq_observer_kind kind, rq_qtype type, bool symmetric, int axis)
{
    float *x = malloc(N * CHANNELS * sizeof *x);
    rq_observer *o = make(kind, type, symmetric, axis);
    const int channels = axis == RQ_PER_TENSOR ? 1 : CHANNELS;
    float lo[CHANNELS], hi[CHANNELS];
    for (int b = 0; b < 3; b++) {
        bell(x, N * CHANNELS, 7 + (uint64_t)b, 1 + (float)b / 4, .2f);
        for (int c = 0; c < channels; c++) {
            const line l = axis == 0   ? (line) { x + c * N, N, 1 }
                           : axis == 1 ? (line) { x + c, N, CHANNELS }
                                       : (line) { x, N * CHANNELS, 1 };
            float a = 0, z = 0;
            best_part(&l, axis == RQ_PER_TENSOR ? 95 : 80, &type, symmetric, &a, &z);
            if (b && kind == RQ_OBSERVER_EMA_MSE) {
                a = .9f * lo[c] + .1f * a;
                z = .9f * hi[c] + .1f * z;
            } else if (b) {
                a = fminf(a, lo[c]);
                z = fmaxf(z, hi[c]);
            }
            lo[c] = a;
            hi[c] = z;
        }
        show(o, NULL, x, axis == 1 ? N : CHANNELS, axis == 1 ? CHANNELS : N);
        for (int c = 0; c < channels; c++)
            check_range(o, c, (double)lo[c], (double)hi[c]);
    }
    for (int c = 0; c < channels; c++) {
        const code k = code_of(lo[c], hi[c], &type, symmetric);
        check_code(o, c, k.scale, k.zero_point);
    }
    rq_observer_destroy(o);
    free(x);
}

static void the_part_with_least_error_is_found(void **state)
{
    const rq_qtype u8 = rq_qtype_of(RQ_DTYPE_U8), s8 = rq_qtype_of(RQ_DTYPE_S8), s4 = rq_qtype_of(RQ_DTYPE_S4);
    for (int ema = 0; ema < 2; ema++) {
        const rq_observer_kind kind = ema ? RQ_OBSERVER_EMA_MSE : RQ_OBSERVER_MSE;
        check_mse(kind, u8, false, RQ_PER_TENSOR);
        check_mse(kind, s8, true, RQ_PER_TENSOR);
        check_mse(kind, s4, true, RQ_PER_TENSOR);
        check_mse(kind, s4, false, 0);
        check_mse(kind, s4, true, 1);
        check_mse(kind, s8, true, 0);
    }
}

/* ---- lsq, lsq_plus ---- */

static void check_means(rq_observer_kind kind, rq_qtype type, int bits, bool symmetric, int axis)
{
    float *x = malloc(N * CHANNELS * sizeof *x);
    rq_observer *o = make(kind, type, symmetric, axis);
    const int channels = axis == RQ_PER_TENSOR ? 1 : CHANNELS;
    for (int b = 0; b < 2; b++) { /* the second batch is all that counts */
        bell(x, N * CHANNELS, 70 + (uint64_t)b, 1 + (float)b, .3f);
        x[3] = NAN;
        x[8] = -INFINITY;
        show(o, NULL, x, axis == 1 ? N : CHANNELS, axis == 1 ? CHANNELS : N);
    }
    for (int c = 0; c < channels; c++) {
        const line l = axis == 0   ? (line) { x + c * N, N, 1 }
                       : axis == 1 ? (line) { x + c, N, CHANNELS }
                                   : (line) { x, N * CHANNELS, 1 };
        double mean = 0, size = 0, square = 0;
        int n = 0;
        float lo, hi;
        extremes(&l, &lo, &hi);
        for (int i = 0; i < l.n; i++)
            if (isfinite(l.x[i * l.step])) {
                mean += l.x[i * l.step];
                size += fabs(l.x[i * l.step]);
                n++;
            }
        mean /= n;
        for (int i = 0; i < l.n; i++)
            if (isfinite(l.x[i * l.step]))
                square += pow(l.x[i * l.step] - mean, 2);
        const double sd3 = 3 * sqrt(square / (n - 1));
        double scale = 2 * size / n / sqrt(type.hi);
        if (kind == RQ_OBSERVER_LSQ_PLUS)
            scale = symmetric ? fmax(fabs(mean - sd3), fabs(mean + sd3)) / (1 << (bits - 1))
                              : ((double)hi - lo) / (type.hi - type.lo);
        double zero = symmetric ? 0 : type.lo - half_even((double)(lo / (float)scale));
        zero = fmin(fmax(zero, type.lo), type.hi);
        if (symmetric && kind == RQ_OBSERVER_LSQ_PLUS && type.lo == 0)
            zero = (type.hi + 1) / 2;
        check_code(o, c, scale, (int32_t)zero);
        check_range(o, c, (type.lo - zero) * scale, (type.hi - zero) * scale);
    }
    rq_observer_destroy(o);
    free(x);
}

static void scales_come_from_means(void **state)
{
    const rq_qtype u8 = rq_qtype_of(RQ_DTYPE_U8), s8 = rq_qtype_of(RQ_DTYPE_S8), s4 = rq_qtype_of(RQ_DTYPE_S4),
                   narrow = { RQ_DTYPE_S8, -31, 31 };
    for (int plus = 0; plus < 2; plus++) {
        const rq_observer_kind kind = plus ? RQ_OBSERVER_LSQ_PLUS : RQ_OBSERVER_LSQ;
        check_means(kind, s8, 8, true, RQ_PER_TENSOR);
        check_means(kind, u8, 8, false, RQ_PER_TENSOR);
        check_means(kind, u8, 8, true, RQ_PER_TENSOR);
        check_means(kind, s4, 4, true, 0);
        check_means(kind, s4, 4, false, 1);
        check_means(kind, narrow, 6, true, 1);
    }
}

static void what_says_nothing_has_a_scale_all_the_same(void **state)
{
    float zeros[6] = { 0 }, one[] = { 3 };
    for (int kind = RQ_OBSERVER_EMA_PERCENTILE; kind <= RQ_OBSERVER_LSQ_PLUS; kind++)
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            rq_observer *o = make((rq_observer_kind)kind, rq_qtype_of(RQ_DTYPE_S8), symmetric, RQ_PER_TENSOR);
            rq_qparams q;
            assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_BAD_ARG);
            show(o, NULL, zeros, 0, 6);
            assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_BAD_ARG);
            for (int i = 0; i < 2; i++) {
                show(o, NULL, i ? one : zeros, 1, i ? 1 : 6);
                assert_int_equal(rq_observer_qparams(o, &q, NULL, NULL), RQ_OK);
                assert_true(q.scale[0] >= 0x1p-23f && isfinite(q.scale[0]));
                assert_true(q.zero_point[0] >= -128 && q.zero_point[0] <= 127);
                rq_qparams_release(&q);
            }
            rq_observer_destroy(o);
        }
}

/* ---- all of them ---- */

static void assert_same(const rq_observer *a, const rq_observer *b)
{
    rq_qparams q, r;
    assert_int_equal(rq_observer_qparams(a, &q, NULL, NULL), RQ_OK);
    assert_int_equal(rq_observer_qparams(b, &r, NULL, NULL), RQ_OK);
    assert_true(rq_qparams_equal(&q, &r));
    rq_qparams_release(&q);
    rq_qparams_release(&r);
}

static void threads_states_and_resets(void **state)
{
    enum { ROWS = 7, COLS = 30011 };
    float *x = malloc(ROWS * COLS * sizeof *x);
    rq_exec *e = NULL;
    assert_int_equal(rq_exec_create(&e, 2, NULL), RQ_OK);
    for (int kind = RQ_OBSERVER_EMA_PERCENTILE; kind <= RQ_OBSERVER_LSQ_PLUS; kind++)
        for (int axis = -1; axis < (kind == RQ_OBSERVER_EMA_PERCENTILE ? 0 : 1); axis++) {
            const rq_qtype s4 = rq_qtype_of(RQ_DTYPE_S4);
            rq_observer *a = make((rq_observer_kind)kind, s4, false, axis),
                        *b = make((rq_observer_kind)kind, s4, false, axis),
                        *c = make((rq_observer_kind)kind, s4, false, axis);
            rq_state *s = NULL;
            for (uint64_t i = 0; i < 2; i++) {
                bell(x, ROWS * COLS, i, 1, .1f);
                show(a, NULL, x, ROWS, COLS);
                show(b, e, x, ROWS, COLS);
            }
            assert_same(a, b);
            assert_int_equal(rq_state_create(&s), RQ_OK);
            assert_int_equal(rq_observer_save(a, s, NULL), RQ_OK);
            assert_int_equal(rq_observer_load(c, s, NULL, NULL), RQ_OK);
            assert_same(a, c);
            bell(x, ROWS * COLS, 5, 2, 0);
            show(a, NULL, x, ROWS, COLS);
            show(c, NULL, x, ROWS, COLS);
            assert_same(a, c);
            rq_observer_reset(b);
            rq_qparams q;
            assert_int_equal(rq_observer_qparams(b, &q, NULL, NULL), RQ_BAD_ARG);
            rq_state_destroy(s);
            rq_observer_destroy(a);
            rq_observer_destroy(b);
            rq_observer_destroy(c);
        }
    rq_exec_destroy(e);
    free(x);
}

static void failing_allocations(void **state)
{
    enum { ROWS = 4, COLS = 40000 };
    float *x = malloc(ROWS * COLS * sizeof *x);
    const rq_shape shape = rq_shape_of(2, (const int64_t[]) { ROWS, COLS });
    const rq_strided v = rq_strided_floats(x, &shape);
    bell(x, ROWS * COLS, 1, 1, 0);
    const size_t live = rq_mem_live();
    for (int kind = RQ_OBSERVER_EMA_PERCENTILE; kind <= RQ_OBSERVER_LSQ_PLUS; kind++)
        for (size_t n = 1; n < 60; n++) {
            rq_observer_cfg cfg = rq_observer_defaults((rq_observer_kind)kind);
            rq_observer *o = NULL;
            rq_state *s = NULL;
            if (kind != RQ_OBSERVER_EMA_PERCENTILE) {
                cfg.axis = 0;
                cfg.scheme = RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
                cfg.type = rq_qtype_of(RQ_DTYPE_S8);
            }
            rq_mem_fail_after(n, true);
            rq_status st = rq_observer_create(&o, &cfg, NULL);
            for (int i = 0; i < 2; i++)
                st = st ? st : rq_observer_update(o, NULL, &v, NULL);
            st = st ? st : rq_state_create(&s);
            st = st ? st : rq_observer_save(o, s, NULL);
            st = st ? st : rq_observer_load(o, s, NULL, NULL);
            rq_mem_fail_after(0, false);
            assert_true(st == RQ_OK || st == RQ_NO_MEMORY);
            rq_state_destroy(s);
            rq_observer_destroy(o);
            assert_int_equal(rq_mem_live(), live);
            if (st == RQ_OK)
                break;
            assert_true(n < 59);
        }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_of_batches_are_averaged),
        cmocka_unit_test(percentile_of_little),
        cmocka_unit_test(the_part_with_least_error_is_found),
        cmocka_unit_test(scales_come_from_means),
        cmocka_unit_test(what_says_nothing_has_a_scale_all_the_same),
        cmocka_unit_test(threads_states_and_resets),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
