/* Fake quantization: properties over random types, ranges, layouts and strides, beside a plain loop that follows
 * requant/fake_quantize.h element by element.
 *
 * Idempotence is a theorem for all rules: y = k s (1 + a), |k| < 2^17, and v = y * inv is k (1 + b) with |b| < 2^-22, so
 * that v rounds to k again (a zero point of 0 inside the rounding takes the sign of a zero). What the reciprocal costs is the error: |x - y| <= s (1/2 + |v| 2^-22), not s / 2. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "quant/fake_quantize_help.h"
#include "tensor/convert.h"

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a);
}

/* ---- random cases ---- */

enum { MOST = 200000 };

/* A view with its own memory: the axes in any order in memory, with gaps, forwards or backwards. */
typedef struct view {
    rq_strided v;
    void *block;
} view;

static view view_of(rq_rng *r, rq_dtype d, const rq_shape *s, bool plain)
{
    const int64_t bytes = rq_dtype_bits(d) / 8;
    view w = { .v = { .dtype = d, .shape = *s } };
    int64_t order[RQ_MAX_RANK], all = 1, first = 0;
    for (int i = 0; i < s->rank; i++)
        order[i] = s->rank - 1 - i;
    if (!plain)
        rq_rng_shuffle(r, order, s->rank);
    for (int i = 0; i < s->rank; i++) {
        const int64_t step = plain || rq_rng_below(r, 3) ? 1 : 2, n = s->dim[order[i]];
        w.v.stride[order[i]] = all * step;
        all *= n * step;
        if (!plain && n > 1 && !rq_rng_below(r, 4)) {
            first += (n - 1) * w.v.stride[order[i]];
            w.v.stride[order[i]] *= -1;
        }
    }
    w.block = calloc((size_t)all + 1, (size_t)bytes);
    assert_non_null(w.block);
    w.v.data = (char *)w.block + first * bytes;
    return w;
}

/* Offset of element i in elements, and its index along an axis. */
static int64_t offset_of(const rq_strided *v, int64_t i)
{
    int64_t at = 0;
    for (int k = v->shape.rank - 1; k >= 0; k--) {
        at += i % v->shape.dim[k] * v->stride[k];
        i /= v->shape.dim[k];
    }
    return at;
}

static void put(const view *w, const float *x)
{
    for (int64_t i = 0, n = rq_shape_count(&w->v.shape); i < n; i++)
        ((float *)w->v.data)[offset_of(&w->v, i)] = x[i];
}

static void check_view(const view *w, const float *want, const char *what)
{
    for (int64_t i = 0, n = rq_shape_count(&w->v.shape); i < n; i++) {
        const float got = ((const float *)w->v.data)[offset_of(&w->v, i)];
        if (!same(got, want[i]))
            fail_msg("%s: element %lld is %.9g, expected %.9g", what, (long long)i, (double)got, (double)want[i]);
    }
}

typedef struct random_case {
    rq_shape shape;
    int64_t n;
    rq_fq f;
    float *x, *dy, *y, *dx; /* [n] inputs; expected */
    uint8_t *mask;
    float *scale, *zf;
    int32_t *zp;
} random_case;

/* Index of the scale of element i, axis by axis. */
static int64_t scale_of(const random_case *c, int64_t i)
{
    const rq_fq *f = &c->f;
    int64_t index[RQ_MAX_RANK], at = 0;
    if (f->axis == RQ_PER_TENSOR)
        return 0;
    for (int k = c->shape.rank - 1; k >= 0; k--) {
        index[k] = i % c->shape.dim[k];
        i /= c->shape.dim[k];
    }
    if (!f->block)
        return index[f->axis];
    for (int k = 0; k < c->shape.rank; k++)
        at = k == f->axis ? at * ((c->shape.dim[k] + f->block - 1) / f->block) + index[k] / f->block
                          : at * c->shape.dim[k] + index[k];
    return at;
}

/* What the header says, for one element; the sign of a zero is left to the vectors above. */
static float expected(const rq_fq *f, int64_t s, float x, bool *passes)
{
    const float scale = f->scale[s], lo = (float)f->type.lo, hi = (float)f->type.hi;
    const double z = f->zero_point_f ? (double)f->zero_point_f[s] : f->zero_point ? f->zero_point[s] : 0;
    const float v = f->rule == RQ_FQ_DIVIDE ? x / scale : f->rule == RQ_FQ_RECIPROCAL ? x * (1 / scale) : x * scale;
    float t = f->zero_point_inside ? rintf(v + (float)z) : rintf(v) + (float)z;
    if (f->zero_point_f) /* x * inv + z is rounded once */
        t = rintf(f->rule == RQ_FQ_DIVIDE ? v + (float)z
                                          : fmaf(x, f->rule == RQ_FQ_RECIPROCAL ? 1 / scale : scale, (float)z));
    *passes = t >= lo && t <= hi;
    if (isnan(t) && !f->compat)
        return NAN;
    const float c = isnan(t) || (f->compat && t >= 0x1p63f) ? lo : t < lo ? lo : t > hi ? hi : t;
    const double d = (double)c - z; /* exact for integers; real zero points are taken away in f64 */
    if (f->rule == RQ_FQ_MULTIPLIER)
        return f->zero_point_f ? (float)(d / (double)scale) : (float)d / scale;
    return (float)(d * (double)(f->rule == RQ_FQ_MULTIPLIER_RECIPROCAL ? 1 / scale : scale));
}

static int64_t between(rq_rng *r, int64_t lo, int64_t hi)
{
    return lo + (int64_t)rq_rng_below(r, (uint64_t)(hi - lo + 1));
}

static void random_type(rq_rng *r, rq_qtype *t)
{
    assert_int_equal(rq_qtype_bits(t, (int)between(r, 2, 16), rq_rng_below(r, 2), rq_rng_below(r, 2), NULL), RQ_OK);
    if (!rq_rng_below(r, 3)) { /* some of the codes */
        const int64_t lo = between(r, t->lo, t->hi - 1);
        assert_int_equal(rq_qtype_range(t, t->dtype, lo, between(r, lo + 1, t->hi), NULL), RQ_OK);
    }
}

static void *zeros(int64_t n, size_t size)
{
    void *p = calloc((size_t)n + 1, size);
    assert_non_null(p);
    return p;
}

/* Numbers around the codes of scale s: within and past them, ties, and now and then something odd. */
static float random_number(rq_rng *r, const rq_fq *f, int64_t s)
{
    static const float odd[] = { 0, -0.0f, NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 3e38f, 1e-40f, 0x1p63f };
    const bool by_multiplier = f->rule == RQ_FQ_MULTIPLIER || f->rule == RQ_FQ_MULTIPLIER_RECIPROCAL;
    const float step = by_multiplier ? 1 / f->scale[s] : f->scale[s], z = f->zero_point ? (float)f->zero_point[s] : 0;
    const int64_t width = (int64_t)f->type.hi - f->type.lo + 1;
    switch (rq_rng_below(r, 12)) {
    case 0:
        return rq_rng_below(r, 8) ? 0 : odd[rq_rng_below(r, sizeof odd / sizeof *odd)];
    case 1:
    case 2: /* a tie, or as near as the scale lets it be */
        return ((float)between(r, f->type.lo - width / 4, f->type.hi + width / 4) - z + 0.5f) * step;
    default:
        return ((float)f->type.lo - z + (rq_rng_f32(r) * 1.4f - 0.2f) * (float)width) * step;
    }
}

static random_case random_case_of(uint64_t seed, bool plain_zero_point)
{
    rq_rng r;
    rq_rng_seed(&r, seed);
    random_case c = { .shape = { .rank = (int)rq_rng_below(&r, 5) } };
    for (int i = 0; i < c.shape.rank; i++)
        c.shape.dim[i] = rq_rng_below(&r, 40) ? between(&r, 1, rq_rng_below(&r, 4) ? 9 : 70) : 0;
    if (c.shape.rank && !rq_rng_below(&r, 12)) /* more than one piece */
        c.shape = rq_shape_of(2, (int64_t[]) { between(&r, 1, 200), between(&r, 1, 1000) });
    c.n = rq_shape_count(&c.shape);
    if (c.n > MOST)
        return random_case_of(seed + 1000003, plain_zero_point);
    rq_fq *f = &c.f;
    random_type(&r, &f->type);
    f->rule = (rq_fq_rule)rq_rng_below(&r, 4);
    f->axis = c.shape.rank && rq_rng_below(&r, 4) ? (int)rq_rng_below(&r, (uint64_t)c.shape.rank) : RQ_PER_TENSOR;
    f->n = 1;
    if (f->axis >= 0) {
        const int64_t size = c.shape.dim[f->axis];
        f->block = rq_rng_below(&r, 3) ? 0 : between(&r, 1, size + 1);
        f->n = f->block ? rq_shape_span(&c.shape, 0, f->axis) * ((size + f->block - 1) / f->block) *
                              rq_shape_span(&c.shape, f->axis + 1, c.shape.rank)
                        : size;
    }
    c.scale = zeros(f->n, sizeof *c.scale);
    c.zf = zeros(f->n, sizeof *c.zf);
    c.zp = zeros(f->n, sizeof *c.zp);
    const bool by_multiplier = f->rule >= RQ_FQ_MULTIPLIER;
    for (int64_t i = 0; i < f->n; i++) {
        const float s = ldexpf(0.5f + rq_rng_f32(&r), (int)between(&r, -12, 4));
        c.scale[i] = by_multiplier ? 1 / s : s;
        c.zp[i] = (int32_t)between(&r, f->type.lo, f->type.hi);
        c.zf[i] = (float)c.zp[i] + rq_rng_f32(&r);
    }
    f->scale = c.scale;
    const uint64_t kind = rq_rng_below(&r, plain_zero_point ? 2 : 3);
    f->zero_point = kind == 1 ? c.zp : NULL;
    f->zero_point_f = kind == 2 ? c.zf : NULL;
    f->zero_point_inside = !rq_rng_below(&r, 3);
    f->compat = rq_rng_below(&r, 2);
    c.x = zeros(c.n, sizeof *c.x);
    c.dy = zeros(c.n, sizeof *c.dy);
    c.y = zeros(c.n, sizeof *c.y);
    c.dx = zeros(c.n, sizeof *c.dx);
    c.mask = zeros(c.n, 1);
    for (int64_t i = 0; i < c.n; i++) {
        const int64_t s = scale_of(&c, i);
        bool passes;
        c.x[i] = random_number(&r, f, s);
        c.dy[i] = rq_rng_f32(&r) - 0.5f;
        c.y[i] = expected(f, s, c.x[i], &passes);
        c.mask[i] = passes;
        c.dx[i] = c.dy[i] * (passes ? 1.0f : 0.0f);
    }
    return c;
}

static void release(random_case *c)
{
    free(c->scale);
    free(c->zf);
    free(c->zp);
    free(c->x);
    free(c->dy);
    free(c->y);
    free(c->dx);
    free(c->mask);
}

static const char *describe(const random_case *c, uint64_t seed)
{
    static char text[400];
    char shape[RQ_SHAPE_TEXT], type[RQ_QTYPE_TEXT];
    snprintf(text, sizeof text, "seed %llu: %s of %s, rule %d, axis %d, block %lld%s%s%s%s", (unsigned long long)seed,
             rq_qtype_text(&c->f.type, type, sizeof type), rq_shape_text(&c->shape, shape, sizeof shape),
             (int)c->f.rule, c->f.axis, (long long)c->f.block, c->f.zero_point ? ", zero points" : "",
             c->f.zero_point_f ? ", real zero points" : "", c->f.zero_point_inside ? ", inside" : "",
             c->f.compat ? ", compat" : "");
    return text;
}

static rq_strided in_a_row(const random_case *c, rq_dtype d, void *data)
{
    const rq_tensor t = rq_tensor_view(d, &c->shape, data);
    return rq_strided_of(&t);
}

#define CHECK(expr)                                                                                                    \
    do {                                                                                                               \
        rq_err err_ = { 0 };                                                                                           \
        if ((expr) != RQ_OK)                                                                                           \
            fail_msg("%s: %s", what, err_.text);                                                                       \
    } while (0)

/* Forward with and without a mask and in place, backward both ways, on `e`, in memory as the seed says. On return c->y has the
 * bits that came first, which all that follow must have. */
static void check_case(rq_exec *e, random_case *c, uint64_t seed, bool plain, const char *what)
{
    rq_rng r;
    rq_rng_seed(&r, seed);
    view x = view_of(&r, RQ_DTYPE_F32, &c->shape, plain), y = view_of(&r, RQ_DTYPE_F32, &c->shape, plain),
         dy = view_of(&r, RQ_DTYPE_F32, &c->shape, plain), dx = view_of(&r, RQ_DTYPE_F32, &c->shape, plain),
         mask = view_of(&r, RQ_DTYPE_U8, &c->shape, plain);
    put(&x, c->x);
    put(&dy, c->dy);
    CHECK(rq_fake_quantize(e, &y.v, &mask.v, &x.v, &c->f, &err_));
    check_view(&y, c->y, what);
    for (int64_t i = 0; i < c->n; i++)
        if (((uint8_t *)mask.v.data)[offset_of(&mask.v, i)] != c->mask[i])
            fail_msg("%s: mask %lld of x %.9g is not %d", what, (long long)i, (double)c->x[i], c->mask[i]);
    CHECK(rq_fake_quantize_backward(e, &dx.v, &dy.v, &x.v, &c->f, &err_));
    check_view(&dx, c->dx, what);
    CHECK(rq_fake_quantize(e, &x.v, NULL, &x.v, &c->f, &err_));
    check_view(&x, c->y, what);
    CHECK(rq_fake_quantize_backward_mask(e, &dy.v, &dy.v, &mask.v, &err_));
    check_view(&dy, c->dx, what);
    free(x.block);
    free(y.block);
    free(dy.block);
    free(dx.block);
    free(mask.block);
}

/* An executor of the level `name` of this machine, or NULL. */
static rq_exec *exec_of(const char *name, int threads)
{
    rq_exec *e = NULL;
    setenv("RQ_CPU", name, 1);
    const rq_status st = rq_exec_create(&e, threads, NULL);
    unsetenv("RQ_CPU");
    if (!st)
        assert_string_equal(rq_exec_isa(e), name);
    return st ? NULL : e;
}

static void every_layout_level_and_thread_gives_the_same_bits(void **state)
{
    (void)state;
    rq_exec *execs[16] = { NULL }; /* the first is none */
    int n = 1;
    for (int i = 0; rq_cpu_level(i, &(unsigned) { 0 }) && n < 15; i++)
        for (int threads = 1; threads <= 2; threads++) {
            execs[n] = exec_of(rq_cpu_level(i, &(unsigned) { 0 }), threads);
            if (execs[n])
                n++;
            else
                print_message("level %s is not here\n", rq_cpu_level(i, &(unsigned) { 0 }));
        }
    for (uint64_t seed = 1; seed <= 400; seed++) {
        random_case c = random_case_of(seed, false);
        const char *what = describe(&c, seed);
        float *y = zeros(c.n, sizeof *y);
        const rq_strided vx = in_a_row(&c, RQ_DTYPE_F32, c.x), vy = in_a_row(&c, RQ_DTYPE_F32, y);
        CHECK(rq_fake_quantize(NULL, &vy, NULL, &vx, &c.f, &err_));
        for (int64_t i = 0; i < c.n; i++) {
            if (!same(y[i], c.y[i]) && !(y[i] == 0 && c.y[i] == 0))
                fail_msg("%s: x %.9g gives %.9g, expected %.9g", what, (double)c.x[i], (double)y[i], (double)c.y[i]);
            c.y[i] = y[i]; /* the sign of zeros from here on, too */
        }
        free(y);
        for (int k = 0; k < n; k++) {
            check_case(execs[k], &c, seed, true, what);
            check_case(execs[k], &c, seed + (uint64_t)k, false, what);
        }
        release(&c);
    }
    for (int k = 1; k < n; k++)
        rq_exec_destroy(execs[k]);
}

static void codes_are_within_and_mean_what_fake_quantization_gives(void **state)
{
    (void)state;
    rq_exec *e = NULL;
    assert_int_equal(rq_exec_create(&e, 2, NULL), RQ_OK);
    for (uint64_t seed = 1; seed <= 400; seed++) {
        random_case c = random_case_of(seed, false);
        const char *what = describe(&c, seed);
        rq_rng r;
        rq_rng_seed(&r, seed);
        for (int round = 0; round < 2; round++) {
            rq_tensor codes;
            assert_int_equal(rq_tensor_create(&codes, c.f.type.dtype, &c.shape, false), RQ_OK);
            view x = view_of(&r, RQ_DTYPE_F32, &c.shape, round == 0),
                 y = view_of(&r, RQ_DTYPE_F32, &c.shape, round == 0);
            put(&x, c.x);
            CHECK(rq_fq_quantize(round ? NULL : e, &codes, &x.v, &c.f, &err_));
            CHECK(rq_fq_dequantize(round ? NULL : e, &y.v, &codes, &c.f, &err_));
            for (int64_t i = 0; i < c.n; i++) {
                const int64_t q = rq_tensor_get_int(&codes, i);
                const float got = ((float *)y.v.data)[offset_of(&y.v, i)];
                if (q < c.f.type.lo || q > c.f.type.hi)
                    fail_msg("%s: code %lld is %lld", what, (long long)i, (long long)q);
                if (isnan(c.x[i]))
                    assert_int_equal(q, c.f.type.lo); /* NaN has no code */
                else if (!(got == c.y[i]))
                    fail_msg("%s: x %.9g has code %lld, which means %.9g, expected %.9g", what, (double)c.x[i],
                             (long long)q, (double)got, (double)c.y[i]);
            }
            free(x.block);
            free(y.block);
            rq_tensor_release(&codes);
        }
        release(&c);
    }
    rq_exec_destroy(e);
}

/* Numbers of a float type from 0 up, as its definition has them: mantissa m of 2^bits, exponent e, 2^(1 - bias) for both e = 0 and 1. E4M3
 * ends one short of its last code, which is NaN; E5M2 before its last exponent. Returns how many. */
static int float8_numbers(rq_dtype d, double *v)
{
    const int bits = d == RQ_DTYPE_F8E4M3FN ? 3 : 2, bias = d == RQ_DTYPE_F8E4M3FN ? 7 : 15;
    const int n = d == RQ_DTYPE_F8E4M3FN ? 127 : 124;
    for (int i = 0; i < n; i++) {
        const int e = i >> bits, m = i & ((1 << bits) - 1);
        v[i] = ldexp(e ? m + (1 << bits) : m, (e ? e : 1) - bias - bits);
    }
    return n;
}

/* The nearest of them to v, the even one of two; the last one for what is past it. */
static double float8_nearest(const double *grid, int n, double v)
{
    int best = 0;
    for (int i = 1; i < n; i++) {
        const double x = fmin(fabs(v), grid[n - 1]), now = fabs(x - grid[i]), then = fabs(x - grid[best]);
        if (now < then || (now == then && i % 2 == 0))
            best = i;
    }
    return copysign(grid[best], v);
}

static void float8_is_the_nearest_of_its_numbers(void **state)
{
    (void)state;
    rq_exec *e = NULL;
    assert_int_equal(rq_exec_create(&e, 2, NULL), RQ_OK);
    for (uint64_t seed = 1; seed <= 300; seed++) {
        random_case c = random_case_of(seed, true);
        const char *what = describe(&c, seed);
        const rq_dtype d = seed % 2 ? RQ_DTYPE_F8E4M3FN : RQ_DTYPE_F8E5M2;
        double grid[127];
        const int n = float8_numbers(d, grid);
        rq_rng r;
        rq_rng_seed(&r, seed);
        c.f.type = (rq_qtype) { d, 0, 0 };
        c.f.zero_point = NULL;
        const rq_fq_rule rule = c.f.rule;
        if (c.n > 20000) { /* the search is slow */
            release(&c);
            continue;
        }
        for (int64_t i = 0; i < c.n; i++) {
            const float s = c.scale[scale_of(&c, i)], step = rule >= RQ_FQ_MULTIPLIER ? 1 / s : s;
            const int at = (int)between(&r, 0, n - 1);
            switch (rq_rng_below(&r, 6)) {
            case 0: /* a tie, or nearly; past the end, too */
                c.x[i] = (float)(at + 1 < n ? (grid[at] + grid[at + 1]) / 2 : grid[at] * 1.1) * step;
                break;
            case 1:
                c.x[i] = rq_rng_below(&r, 9) ? (float)grid[at] * step : c.x[i]; /* NaN and infinities are among those */
                break;
            default:
                c.x[i] = rq_rng_f32(&r) * (float)grid[at] * step;
            }
            c.x[i] = rq_rng_below(&r, 2) ? c.x[i] : -c.x[i];
            const float v = rule == RQ_FQ_DIVIDE       ? c.x[i] / s
                            : rule == RQ_FQ_RECIPROCAL ? c.x[i] * (1 / s)
                                                       : c.x[i] * s;
            const float q = isnan(v) ? NAN : (float)float8_nearest(grid, n, (double)v);
            c.y[i] = rule == RQ_FQ_MULTIPLIER ? q / s : rule == RQ_FQ_MULTIPLIER_RECIPROCAL ? q * (1 / s) : q * s;
            c.mask[i] = fabs((double)v) <= grid[n - 1];
            c.dx[i] = c.dy[i] * (c.mask[i] ? 1.0f : 0.0f);
        }
        check_case(e, &c, seed, true, what);
        check_case(NULL, &c, seed, false, what);
        rq_tensor codes;
        assert_int_equal(rq_tensor_create(&codes, d, &c.shape, false), RQ_OK);
        float *y = zeros(c.n, sizeof *y);
        const rq_strided vx = in_a_row(&c, RQ_DTYPE_F32, c.x), vy = in_a_row(&c, RQ_DTYPE_F32, y);
        CHECK(rq_fq_quantize(e, &codes, &vx, &c.f, &err_));
        CHECK(rq_fq_dequantize(e, &vy, &codes, &c.f, &err_));
        for (int64_t i = 0; i < c.n; i++)
            if (!same(y[i], c.y[i]))
                fail_msg("%s: %.9g has a code that means %.9g", what, (double)c.x[i], (double)y[i]);
        CHECK(rq_fake_quantize(e, &vy, NULL, &vy, &c.f, &err_)); /* y of y is y */
        for (int64_t i = 0; i < c.n; i++)
            if (!same(y[i], c.y[i]))
                fail_msg("%s: %.9g becomes %.9g the second time", what, (double)c.y[i], (double)y[i]);
        rq_tensor_release(&codes);
        free(y);
        release(&c);
    }
    rq_exec_destroy(e);
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void it_is_idempotent_monotonic_and_near(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        random_case c = random_case_of(seed, true);
        const char *what = describe(&c, seed);
        float *y = zeros(c.n, sizeof *y);
        const rq_strided vx = in_a_row(&c, RQ_DTYPE_F32, c.x), vy = in_a_row(&c, RQ_DTYPE_F32, y);
        CHECK(rq_fake_quantize(NULL, &vy, NULL, &vx, &c.f, &err_));
        for (int64_t i = 0; i < c.n; i++) {
            const float s = c.f.rule >= RQ_FQ_MULTIPLIER ? 1 / c.scale[scale_of(&c, i)] : c.scale[scale_of(&c, i)];
            const double far = fabs((double)c.x[i] - (double)y[i]);
            if (c.mask[i] && !(far <= (double)s * (0.5 + (fabs((double)c.x[i] / (double)s) + 70000) * 0x1p-22)))
                fail_msg("%s: %.9g becomes %.9g with steps of %.9g", what, (double)c.x[i], (double)y[i], (double)s);
        }
        memcpy(c.x, y, (size_t)c.n * sizeof *y);
        CHECK(rq_fake_quantize(NULL, &vy, NULL, &vx, &c.f, &err_));
        for (int64_t i = 0; i < c.n; i++)
            if (!same(y[i], c.x[i]) && !(y[i] == 0 && c.x[i] == 0))
                fail_msg("%s: %.9g becomes %.9g the second time", what, (double)c.x[i], (double)y[i]);
        free(y);
        release(&c);
    }
    for (uint64_t seed = 1; seed <= 100; seed++) { /* one scale, numbers in order */
        random_case c = random_case_of(seed, true);
        const char *what = describe(&c, seed);
        float x[999], y[999];
        if (c.f.n) {
            rq_rng r;
            rq_rng_seed(&r, seed);
            for (int i = 0; i < 999; i++)
                do
                    x[i] = random_number(&r, &c.f, 0);
                while (isnan(x[i]) || fabsf(x[i]) > 1e12f); /* compat sends those to the lowest code */
            qsort(x, 999, sizeof *x, by_value);
            c.f.axis = RQ_PER_TENSOR;
            c.f.block = 0;
            c.f.n = 1;
            const rq_strided vx = rq_strided_vector(x, 999), vy = rq_strided_vector(y, 999);
            CHECK(rq_fake_quantize(NULL, &vy, NULL, &vx, &c.f, &err_));
            for (int i = 1; i < 999; i++)
                assert_true(y[i] >= y[i - 1]);
        }
        release(&c);
    }
}

/* ---- other element types ---- */

static void narrow_and_wide_floats_are_computed_in_their_own_way(void **state)
{
    (void)state;
    static const rq_dtype types[] = { RQ_DTYPE_F16, RQ_DTYPE_BF16, RQ_DTYPE_F64 };
    for (uint64_t seed = 1; seed <= 150; seed++) {
        random_case c = random_case_of(seed, true);
        const char *what = describe(&c, seed);
        const rq_dtype d = types[seed % 3];
        rq_rng r;
        rq_rng_seed(&r, seed);
        view x = view_of(&r, d, &c.shape, false), y = view_of(&r, d, &c.shape, seed % 2);
        rq_tensor tx = rq_tensor_view(d, &(rq_shape) { .rank = 1, .dim = { 1 } }, NULL), ty = tx;
        for (int64_t i = 0; i < c.n; i++) {
            tx.data = (char *)x.v.data + offset_of(&x.v, i) * rq_dtype_bits(d) / 8;
            rq_tensor_set(&tx, 0, (double)c.x[i]);
        }
        CHECK(rq_fake_quantize(NULL, &y.v, NULL, &x.v, &c.f, &err_));
        for (int64_t i = 0; i < c.n; i++) {
            tx.data = (char *)x.v.data + offset_of(&x.v, i) * rq_dtype_bits(d) / 8;
            ty.data = (char *)y.v.data + offset_of(&y.v, i) * rq_dtype_bits(d) / 8;
            bool passes;
            const double got = rq_tensor_get(&ty, 0), in = rq_tensor_get(&tx, 0);
            double want = (double)expected(&c.f, scale_of(&c, i), (float)in, &passes);
            if (d == RQ_DTYPE_F16)
                want = (double)rq_convert_f16_to_f32(rq_convert_f32_to_f16((float)want));
            if (d == RQ_DTYPE_BF16)
                want = (double)rq_convert_bf16_to_f32(rq_convert_f32_to_bf16((float)want));
            const double s = (double)c.scale[scale_of(&c, i)], step = c.f.rule >= RQ_FQ_MULTIPLIER ? 1 / s : s;
            /* f64 may fall to the other side of a tie that f32 only seems to meet */
            if (!(got == want || (isnan(got) && isnan(want)) ||
                  (d == RQ_DTYPE_F64 && fabs(got - want) <= step * 1.001 + fabs(want) * 0x1p-22)))
                fail_msg("%s: %s %.9g gives %.9g, expected %.9g", what, rq_dtype_name(d), in, got, want);
        }
        free(x.block);
        free(y.block);
        release(&c);
    }
    /* f64 for itself: 2^53 - 1 of a step of 2^53 is no tie, though it is one as f32 */
    double x = 0.5 - 0x1p-54, y = 9;
    const float one = 1;
    const rq_fq f = torch_fq(RQ_DTYPE_S8, -128, 127, &one, NULL);
    const rq_tensor tx = rq_tensor_view(RQ_DTYPE_F64, &(rq_shape) { 0 }, &x),
                    ty = rq_tensor_view(RQ_DTYPE_F64, &(rq_shape) { 0 }, &y);
    const rq_strided vx = rq_strided_of(&tx), vy = rq_strided_of(&ty);
    x = 1.5 - 0x1p-52; /* f32 would make it 1.5, and 2 of it */
    assert_int_equal(rq_fake_quantize(NULL, &vy, NULL, &vx, &f, NULL), RQ_OK);
    assert_true(y == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_level_and_thread_gives_the_same_bits),
        cmocka_unit_test(codes_are_within_and_mean_what_fake_quantization_gives),
        cmocka_unit_test(float8_is_the_nearest_of_its_numbers),
        cmocka_unit_test(it_is_idempotent_monotonic_and_near),
        cmocka_unit_test(narrow_and_wide_floats_are_computed_in_their_own_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
