/* NVIDIA's functions: clip and reduce_amax (M8, M12 of docs/calibration-facts.md 6); for all of them threads, what is refused, memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "quant/generators.h"
#include "quant/tensor_quant_help.h"
#include "requant/requant.h"

/* ---- clip and reduce_amax ---- */

static void clip_example(void **state)
{
    (void)state;
    static const float x[] = { -0.7f, -0.5f, -0.2f, 0.1f, 0.5f, 0.9f }, dy[] = { 1, 2, 3, 4, 5, 6 };
    static const float lo = -0.5f, hi = 0.5f;
    float y[6], dx[6];
    double dlo, dhi;
    const rq_strided sx = row(x, 6), sy = row(y, 6), sdy = row(dy, 6), sdx = row(dx, 6), sl = row(&lo, 1),
                     sh = row(&hi, 1);
    assert_int_equal(rq_clip(NULL, &sy, &sx, &sl, &sh, &err), RQ_OK);
    same(y, (float[]) { -0.5f, -0.5f, -0.2f, 0.1f, 0.5f, 0.5f }, 6);
    assert_int_equal(rq_clip_backward(NULL, &sdx, &dlo, &dhi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    same(dx, (float[]) { 0, 0, 3, 4, 0, 0 }, 6); /* at the bounds the bounds move */
    assert_true(dlo == 3 && dhi == 11);
    fake(y, y, 6, 0.5f, NULL);
    near(y, (float[]) { -0.5f, -0.5f, -0.200787395f, 0.0984251946f, 0.5f, 0.5f }, 6, 1e-9);
}

static double clipped_sum(const float *x, const float *dy, int64_t n, float lo, float hi)
{
    float y[4096];
    double sum = 0;
    const rq_strided sx = row(x, n), sy = row(y, n), sl = row(&lo, 1), sh = row(&hi, 1);
    assert_int_equal(rq_clip(NULL, &sy, &sx, &sl, &sh, &err), RQ_OK);
    for (int64_t i = 0; i < n; i++)
        sum += (double)y[i] * (double)dy[i];
    return sum;
}

static void m8_clip(void **state)
{
    (void)state;
    enum { N = 3000 };
    float x[N], y[N], dy[N], dx[N], many[3] = { -1, -0.5f, 0 };
    const float lo = -0.75f, hi = 0.5f;
    double dlo, dhi;
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_b(x, N, 51);
    gen_t(dy, N, 52);
    x[5] = NAN;
    dy[5] = 1;
    const rq_strided sx = row(x, N), sy = row(y, N), sdy = row(dy, N), sdx = row(dx, N), sl = row(&lo, 1),
                     sh = row(&hi, 1);
    assert_int_equal(rq_clip(e, &sy, &sx, &sl, &sh, &err), RQ_OK);
    assert_int_equal(rq_clip_backward(e, &sdx, &dlo, &dhi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    double below = 0, above = 0;
    for (int i = 0; i < N; i++) {
        if (i == 5)
            continue;
        assert_true(y[i] == fminf(fmaxf(x[i], lo), hi));
        assert_true(x[i] > lo && x[i] < hi ? dx[i] == dy[i] : dx[i] == 0);
        below += x[i] <= lo ? (double)dy[i] : 0;
        above += x[i] >= hi ? (double)dy[i] : 0;
    }
    assert_true(isnan(y[5]) && dx[5] == 0);
    assert_true(fabs(dlo - below) < 1e-6 && fabs(dhi - above) < 1e-6);
    /* the same bits on one thread */
    double one_lo, one_hi;
    assert_int_equal(rq_clip_backward(NULL, &sdx, &one_lo, &one_hi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    assert_true(dlo == one_lo && dhi == one_hi);
    /* finite differences: the sum is piecewise linear in the bounds, so a small step is exact but for rounding */
    x[5] = 0;
    float near_lo = 2, near_hi = 2;
    for (int i = 0; i < N; i++) {
        near_lo = fminf(near_lo, x[i] == lo ? 2 : fabsf(x[i] - lo));
        near_hi = fminf(near_hi, x[i] == hi ? 2 : fabsf(x[i] - hi));
        if (x[i] == lo || x[i] == hi)
            x[i] = 0; /* kinks have no derivative */
    }
    assert_int_equal(rq_clip_backward(NULL, &sdx, &dlo, &dhi, &sdy, &sx, &sl, &sh, &err), RQ_OK);
    const float h = fminf(near_lo, near_hi) / 2;
    assert_true(h > 1e-6f);
    const double diff_lo = (clipped_sum(x, dy, N, lo + h, hi) - clipped_sum(x, dy, N, lo - h, hi)) /
                           ((double)(lo + h) - (double)(lo - h)),
                 diff_hi = (clipped_sum(x, dy, N, lo, hi + h) - clipped_sum(x, dy, N, lo, hi - h)) /
                           ((double)(hi + h) - (double)(hi - h));
    assert_true(fabs(diff_lo - dlo) < 1e-4 * fabs(dlo) + 1e-6 && fabs(diff_hi - dhi) < 1e-4 * fabs(dhi) + 1e-6);

    /* bounds that broadcast clip, but cannot be learned */
    const rq_strided wide = SHAPED(x, 1000, 3), to = SHAPED(y, 1000, 3), sm = row(many, 3), wdy = SHAPED(dy, 1000, 3),
                     wdx = SHAPED(dx, 1000, 3);
    assert_int_equal(rq_clip(NULL, &to, &wide, &sm, &sh, &err), RQ_OK);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == fmaxf(fminf(x[i], hi), many[i % 3]));
    assert_int_equal(rq_clip_backward(NULL, &wdx, &dlo, &dhi, &wdy, &wide, &sm, &sh, &err), RQ_BAD_SHAPE);
    assert_non_null(strstr(err.text, "can only be scalar"));
    assert_int_equal(rq_clip_backward(NULL, &wdx, NULL, &dhi, &wdy, &wide, &sm, &sh, &err), RQ_OK);
    const rq_strided five = row(x, 5);
    assert_int_equal(rq_clip(NULL, &to, &wide, &five, &sh, &err), RQ_BAD_SHAPE);
    rq_exec_destroy(e);
}

static void m12_reduce_amax(void **state)
{
    (void)state;
    enum { A = 3, B = 4, C = 5, D = 6, E = 2, N = A * B * C * D * E };
    static const int sets[][RQ_MAX_RANK] = { { 0 }, { 1, 2, 3 }, { 0, 2, 3 }, { 0, 3 }, { 0, 1, 3, 4 }, { -1, 1 } };
    static const int n_axes[] = { 0, 3, 3, 2, 4, 2 };
    static const int64_t dim[] = { A, B, C, D, E };
    float x[N];
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_b(x, N, 61);
    const rq_strided sx = shaped(x, 5, dim);
    for (int64_t k = 0; k < COUNT(n_axes) * 2; k++) {
        rq_reduce_amax_cfg c = { .n_axes = n_axes[k / 2], .keepdims = k & 1 };
        memcpy(c.axis, sets[k / 2], sizeof c.axis);
        bool folded[5] = { false };
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < c.n_axes; j++)
                folded[i] = folded[i] || (c.axis[j] + 5) % 5 == i;
        if (c.n_axes == 0)
            memset(folded, true, sizeof folded);
        float want[N] = { 0 };
        int64_t cells = 1;
        rq_shape shape = { .rank = 0 };
        for (int i = 0; i < 5; i++) {
            cells *= folded[i] ? 1 : dim[i];
            if (!folded[i] || c.keepdims)
                shape.dim[shape.rank++] = folded[i] ? 1 : dim[i];
        }
        for (int64_t i = 0; i < N; i++) {
            int64_t rest = i, cell = 0, step = 1;
            for (int a = 4; a >= 0; a--) {
                cell += folded[a] ? 0 : rest % dim[a] * step;
                step *= folded[a] ? 1 : dim[a];
                rest /= dim[a];
            }
            want[cell] = fmaxf(want[cell], fabsf(x[i]));
        }
        rq_tensor out;
        rq_reduce_amax_info info;
        assert_int_equal(rq_reduce_amax(e, &out, &sx, &c, &info, &err), RQ_OK);
        assert_int_equal(info.count, N);
        assert_int_equal(rq_tensor_count(&out), cells);
        shape.rank = cells == 1 ? 0 : shape.rank;
        assert_true(rq_shape_equal(&out.shape, &shape));
        same(out.f32, want, cells);
        rq_tensor_release(&out);
    }
    rq_tensor out;
    rq_reduce_amax_cfg six = { .n_axes = 6 };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &six, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Cannot reduce more axes than tensor's dim."));
    rq_reduce_amax_cfg odd = { .n_axes = 1, .axis = { 5 } };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &odd, NULL, &err), RQ_BAD_ARG);
    odd = (rq_reduce_amax_cfg) { .n_axes = 2, .axis = { 1, -4 } };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &odd, NULL, &err), RQ_BAD_ARG);
    /* NaN and infinities are counted; an empty tensor has 0 */
    x[3] = NAN;
    x[77] = -INFINITY;
    rq_reduce_amax_info info;
    rq_reduce_amax_cfg all = { 0 };
    assert_int_equal(rq_reduce_amax(e, &out, &sx, NULL, &info, &err), RQ_OK);
    assert_true(info.nan == 1 && info.infinite == 1 && info.count == N - 2 && isfinite(out.f32[0]));
    rq_tensor_release(&out);
    all.compat = true;
    assert_int_equal(rq_reduce_amax(e, &out, &sx, &all, &info, &err), RQ_OK);
    assert_true(isnan(out.f32[0]));
    rq_tensor_release(&out);
    const rq_strided none = SHAPED(x, 0, 4);
    assert_int_equal(rq_reduce_amax(e, &out, &none, NULL, &info, &err), RQ_OK);
    assert_true(out.f32[0] == 0 && info.count == 0);
    rq_tensor_release(&out);
    rq_exec_destroy(e);
}

/* Many parts, rows that are cut by tiles, strides: the same as one element after the other. */
static void reduce_amax_of_large_and_turned(void **state)
{
    (void)state;
    enum { A = 130, B = 1037, N = A * B };
    float *x = malloc(N * sizeof *x), by_column[B] = { 0 }, by_row[A] = { 0 };
    rq_exec *e;
    assert_non_null(x);
    assert_int_equal(rq_exec_create(&e, 2, &err), RQ_OK);
    gen_t(x, N, 71);
    for (int i = 0; i < N; i++) {
        by_column[i % B] = fmaxf(by_column[i % B], fabsf(x[i]));
        by_row[i / B] = fmaxf(by_row[i / B], fabsf(x[i]));
    }
    const rq_strided sx = SHAPED(x, A, B), turned = rq_strided_permute(&sx, (int[]) { 1, 0 });
    for (int i = 0; i < 4; i++) {
        rq_tensor out;
        const rq_reduce_amax_cfg c = { .n_axes = 1, .axis = { i % 2 } };
        assert_int_equal(rq_reduce_amax(i < 2 ? e : NULL, &out, i < 2 ? &sx : &turned, &c, NULL, &err), RQ_OK);
        same(out.f32, (i < 2) == (i % 2 == 0) ? by_column : by_row, rq_tensor_count(&out));
        rq_tensor_release(&out);
    }
    rq_exec_destroy(e);
    free(x);
}

/* ---- all functions: threads, what is refused, memory ---- */

static void threads_and_instruction_sets_change_nothing(void **state)
{
    (void)state;
    enum { N = 5 * 7919 };
    float *x = malloc(N * sizeof *x), *y[2], amax[5] = { 0.1f, 0, 0.7f, 1, 5 };
    assert_non_null(x);
    gen_b(x, N, 81);
    y[0] = malloc(3 * N * sizeof(float));
    y[1] = malloc(3 * N * sizeof(float));
    assert_true(y[0] && y[1]);
    static const char *const isas[] = {
        "scalar", "avx2", "avxvnni", "avx512", "vnni", "amx", "neon", "dotprod", "i8mm"
    };
    for (int i = 0, seen = 0; i < 18; i++) { /* each level that this machine has, on one thread and on two */
        rq_exec *e;
        setenv("RQ_CPU", isas[i / 2], 1);
        const rq_status st = rq_exec_create(&e, i % 2 + 1, &err);
        unsetenv("RQ_CPU");
        if (st)
            continue;
        const int t = seen++ > 0;
        const rq_strided sx = SHAPED(x, 5, 7919), sa = SHAPED(amax, 5, 1), a = SHAPED(y[t], 5, 7919),
                         b = SHAPED(y[t] + N, 5, 7919), c = SHAPED(y[t] + 2 * N, 5, 7919);
        assert_int_equal(rq_fake_tensor_quant(e, &a, &sx, &sa, NULL, &err), RQ_OK);
        assert_int_equal(rq_scaled_e4m3(e, &b, &sx, &sa, NULL, &err), RQ_OK);
        assert_int_equal(rq_tensor_quant_backward(e, &c, &sx, &sx, &sa, NULL, &err), RQ_OK);
        static float many[N];
        const rq_strided each = SHAPED(many, 5, 7919);
        assert_int_equal(rq_legacy_fake_tensor_quant(e, &each, &sx, &sa, NULL, &err), RQ_OK);
        same(many, y[t], N);
        rq_exec_destroy(e);
        same(y[0], y[t], 3 * N);
    }
    free(x), free(y[0]), free(y[1]);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    float x[12] = { 0 }, y[12], minus = -1, three[3] = { 1, 1, 1 };
    int32_t whole[12] = { 0 };
    const rq_strided sx = SHAPED(x, 3, 4), sy = SHAPED(y, 3, 4), turned = SHAPED(y, 4, 3), sm = row(&minus, 1),
                     st = row(three, 3), none = SHAPED(x, 0);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &sm, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "Negative values in amax"));
    assert_int_equal(rq_tensor_quant_backward(NULL, &sy, &sx, &sx, &sm, NULL, &err), RQ_BAD_ARG);
    assert_int_equal(rq_fake_tensor_quant(NULL, &turned, &sx, &st, NULL, &err), RQ_BAD_SHAPE);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &st, NULL, &err), RQ_BAD_SHAPE); /* which axis? */
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &none, NULL, &err), RQ_BAD_SHAPE);
    rq_tensor_quant_cfg c = rq_tensor_quant_defaults();
    c.axis = 1;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &st, &c, &err), RQ_BAD_SHAPE);
    const rq_strided rows = SHAPED(three, 3, 1);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &rows, &c, &err), RQ_BAD_SHAPE); /* along 0, not 1 */
    c.axis = 2;
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &st, &c, &err), RQ_BAD_ARG);
    static const struct width {
        int bits;
        bool is_unsigned, good;
    } widths[] = { { 0, false, false },  { 1, false, false }, { 2, false, true }, { 16, false, true },
                   { 17, false, false }, { 0, true, false },  { 1, true, true },  { 16, true, true },
                   { 17, true, false },  { -3, true, false } };
    const rq_strided one = row(three, 1);
    for (int64_t i = 0; i < COUNT(widths); i++) {
        c = cfg_of(widths[i].bits, widths[i].is_unsigned, false);
        assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &sx, &one, &c, &err), widths[i].good ? RQ_OK : RQ_BAD_ARG);
    }
    x[0] = 0.7f;
    c = cfg_of(1, true, true);
    assert_int_equal(rq_tensor_quant(NULL, &sy, NULL, &sx, &one, &c, &err), RQ_OK);
    assert_true(y[0] == 1 && y[1] == 0);
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { 3, 4 });
    const rq_tensor ints = rq_tensor_view(RQ_DTYPE_S32, &shape, whole);
    const rq_strided si = rq_strided_of(&ints);
    assert_int_equal(rq_fake_tensor_quant(NULL, &sy, &si, &one, NULL, &err), RQ_BAD_DTYPE);
    const rq_strided two = row(y, 2);
    assert_int_equal(rq_tensor_quant(NULL, &sy, &two, &sx, &one, NULL, &err), RQ_BAD_SHAPE);
    const rq_strided empty = SHAPED(x, 3, 0);
    assert_int_equal(rq_fake_tensor_quant(NULL, &empty, &empty, &one, NULL, &err), RQ_OK);
}

static rq_status run_all(void)
{
    float x[24], y[24], amax[2] = { 1, 0 }, lo = -1, hi = 1;
    double dlo;
    rq_tensor out;
    gen_u(x, 24, 91);
    const rq_strided sx = SHAPED(x, 2, 12), sy = SHAPED(y, 2, 12), sa = SHAPED(amax, 2, 1), sl = row(&lo, 1),
                     sh = row(&hi, 1);
    const rq_tensor_quant_cfg c = cfg_of(8, true, true);
    RQ_TRY(rq_fake_tensor_quant(NULL, &sy, &sx, &sa, &c, &err));
    RQ_TRY(rq_fake_tensor_quant(NULL, &sy, &sx, &sh, &c, &err));
    RQ_TRY(rq_tensor_quant(NULL, &sy, NULL, &sx, &sa, &c, &err));
    RQ_TRY(rq_tensor_quant_backward(NULL, &sy, &sx, &sx, &sa, &c, &err));
    RQ_TRY(rq_scaled_e4m3(NULL, &sy, &sx, &sa, NULL, &err));
    RQ_TRY(rq_clip_backward(NULL, &sy, &dlo, NULL, &sx, &sx, &sl, &sh, &err));
    RQ_TRY(rq_reduce_amax(NULL, &out, &sx, NULL, NULL, &err));
    rq_tensor_release(&out);
    return RQ_OK;
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    size_t n = 1;
    for (;; n++) {
        rq_mem_fail_after(n, false);
        const rq_status st = run_all();
        rq_mem_fail_after(0, false);
        assert_int_equal(rq_mem_live(), live);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
        assert_true(err.text[0]);
    }
    assert_true(n > 8);
}

/* The float grids against the tables of conversions, at every upper half of an f32 and around the ties. */
static void float_grids_are_those_of_the_types(void **state)
{
    (void)state;
    static const uint32_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    for (uint32_t high = 0; high < 0x10000; high++)
        for (int i = 0; i < 6; i++) {
            const uint32_t bits = high << 16 | low[i];
            float v;
            memcpy(&v, &bits, sizeof v);
            const float e4m3 =
                            rq_convert_f8_to_f32(RQ_DTYPE_F8E4M3FN, rq_convert_f32_to_f8(RQ_DTYPE_F8E4M3FN, v, true)),
                        e5m2 = rq_convert_f8_to_f32(RQ_DTYPE_F8E5M2, rq_convert_f32_to_f8(RQ_DTYPE_F8E5M2, v, true));
            same((float[]) { rq_quantize_float(v, 3, -6, 448), rq_quantize_float(v, 2, -14, 57344) },
                 (float[]) { e4m3, e5m2 }, 2);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clip_example),
        cmocka_unit_test(m8_clip),
        cmocka_unit_test(m12_reduce_amax),
        cmocka_unit_test(reduce_amax_of_large_and_turned),
        cmocka_unit_test(threads_and_instruction_sets_change_nothing),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(float_grids_are_those_of_the_types),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
