/* tests/quant/test_observer_edges.c — observers of any strides, types and number of threads; what is not finite, never seen or wrong; states that
 * are old or broken; memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/generators.h"
#include "quant/observer_help.h"
#include "quant/observer_row.h"

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
