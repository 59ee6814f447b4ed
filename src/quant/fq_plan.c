/* quant/fq_plan.c — an rq_fq checked against a shape, and cut into spans for the kernels; see quant/fake_quantize.h. */
#include <math.h>

#include "base/mem.h"
#include "quant/fake_quantize.h"
#include "tensor/convert.h"

/* Zero points past this are refused even where a system takes any: sums with codes stay exact in f32. */
static const int32_t most_zero_point = 1 << 23;

/* A span shorter than this is no use to a kernel: the scales are laid out in rows instead. */
enum { SHORT_SPAN = 32, ROW = 512, MOST_ROW = 1 << 20 };

/* Does scale[] hold multipliers? These systems compute in floats and keep the sign of zeros. */
static bool by_multiplier(const rq_fq *f)
{
    return f->rule == RQ_FQ_MULTIPLIER || f->rule == RQ_FQ_MULTIPLIER_RECIPROCAL;
}

/* Under compat a scale is not looked at: 0, negative ones and NaN compute what the formula gives, as in PyTorch. */
static rq_status check_scale(const rq_fq *f, int64_t i, rq_err *err)
{
    const float s = f->scale[i];
    if (f->compat)
        return RQ_OK;
    if (!(s > 0) || !isfinite(s))
        return rq_fail(err, RQ_NUMERIC, "%s %lld is %g, expected a positive finite number",
                       by_multiplier(f) ? "multiplier" : "scale", (long long)i, (double)s);
    if ((f->rule == RQ_FQ_RECIPROCAL || f->rule == RQ_FQ_MULTIPLIER_RECIPROCAL) && !isfinite(1.0f / s))
        return rq_fail(err, RQ_NUMERIC, "scale %lld is %g, whose reciprocal is not finite", (long long)i, (double)s);
    return RQ_OK;
}

static rq_status check_zero_point(const rq_fq *f, int64_t i, rq_err *err)
{
    if (f->zero_point_f && !f->compat && !isfinite(f->zero_point_f[i]))
        return rq_fail(err, RQ_NUMERIC, "zero point %lld is %g, expected a finite number", (long long)i,
                       (double)f->zero_point_f[i]);
    if (!f->zero_point)
        return RQ_OK;
    const int32_t z = f->zero_point[i], lo = f->compat ? -most_zero_point : f->type.lo,
                  hi = f->compat ? most_zero_point : f->type.hi;
    if (z < lo || z > hi)
        return rq_fail(err, RQ_BAD_ARG, "zero point %lld is %d, expected %d to %d", (long long)i, (int)z, (int)lo,
                       (int)hi);
    return RQ_OK;
}

rq_status rq_fq_check(const rq_fq *f, const rq_shape *shape, rq_err *err)
{
    RQ_TRY(rq_qtype_check(&f->type, err));
    if (f->type.dtype == RQ_DTYPE_S32)
        return rq_fail(err, RQ_BAD_ARG, "type s32, expected one of at most 16 bits");
    if ((unsigned)f->rule > RQ_FQ_MULTIPLIER_RECIPROCAL)
        return rq_fail(err, RQ_BAD_ARG, "rule %d, expected 0 to %d", (int)f->rule, (int)RQ_FQ_MULTIPLIER_RECIPROCAL);
    char text[RQ_SHAPE_TEXT];
    if (rq_shape_check(shape))
        return rq_fail(err, RQ_BAD_SHAPE, "the shape is %s, expected known sizes of at most 2^47 elements",
                       rq_shape_text(shape, text, sizeof text));
    if (f->block < 0 || (f->block && f->axis == RQ_PER_TENSOR))
        return rq_fail(err, RQ_BAD_ARG, "blocks of %lld along axis %d, expected 1 or more along an axis, or 0",
                       (long long)f->block, f->axis);
    RQ_TRY(rq_layout_check(f->axis, f->block, f->n, shape, err));
    if (!f->scale && f->n)
        return rq_fail(err, RQ_BAD_ARG, "%lld scales expected, but there are none", (long long)f->n);
    if (f->zero_point && f->zero_point_f)
        return rq_fail(err, RQ_BAD_ARG, "zero points are given twice, as integers and as real numbers");
    if (rq_qtype_is_float(&f->type) && (f->zero_point || f->zero_point_f))
        return rq_fail(err, RQ_BAD_ARG, "zero points are given, but a float type has none");
    for (int64_t i = 0; i < f->n; i++) {
        RQ_TRY(check_scale(f, i, err));
        RQ_TRY(check_zero_point(f, i, err));
    }
    return RQ_OK;
}

static float in_of(const rq_fq *f, int64_t i)
{
    return f->rule == RQ_FQ_RECIPROCAL ? 1.0f / f->scale[i] : f->scale[i];
}

static float out_of(const rq_fq *f, int64_t i)
{
    return f->rule == RQ_FQ_MULTIPLIER_RECIPROCAL ? 1.0f / f->scale[i] : f->scale[i];
}

static bool has_zero_point(const rq_fq *f)
{
    return f->zero_point || f->zero_point_f;
}

static float zero_point_of(const rq_fq *f, int64_t i)
{
    return f->zero_point_f ? f->zero_point_f[i] : f->zero_point ? (float)f->zero_point[i] : 0.0f;
}

/* One scale for the whole span. */
static void take_scale(rq_fakequant *k, const rq_fq *f, int64_t i)
{
    k->in = in_of(f, i);
    k->out = out_of(f, i);
    if (!has_zero_point(f) && by_multiplier(f))
        return; /* keeps the sign of zero */
    const float z = zero_point_of(f, i);
    *(k->zp_inside ? &k->inside : &k->after) = z;
    k->back = -z;
}

/* Number i of the rows becomes that of scale s. */
static void put_row(rq_fq_plan *p, int64_t i, int64_t s)
{
    p->rows[i] = in_of(p->f, s);
    p->rows[p->row_n + i] = out_of(p->f, s);
    p->rows[2 * p->row_n + i] = zero_point_of(p->f, s);
}

static rq_status make_rows(rq_fq_plan *p, int64_t n, rq_err *err)
{
    p->row_n = n;
    p->rows = rq_mem_alloc((size_t)n, 3 * sizeof *p->rows);
    if (!p->rows)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for rows of %lld scales", (long long)n);
    p->in_row = p->rows;
    p->out_row = p->rows + n;
    p->zp_row = p->rows + 2 * n;
    if (!has_zero_point(p->f) && by_multiplier(p->f))
        p->zp_row = NULL;
    return RQ_OK;
}

rq_status rq_fq_plan_init(rq_fq_plan *p, const rq_fq *f, const rq_shape *shape, rq_err *err)
{
    *p = (rq_fq_plan) { .f = f };
    if (rq_qtype_is_float(&f->type))
        for (int i = 0; i < 256; i++)
            p->float8[i] = rq_convert_f8_to_f32(f->type.dtype, (uint8_t)i);
    p->layout = rq_layout_of(f->axis, f->block, shape);
    p->count = rq_shape_count(shape);
    p->base = (rq_fakequant) {
        .inside = -0.0f,
        .after = f->zero_point_f ? 0.0f : -0.0f, /* codes are integers: no -0 */
        .back = -0.0f,
        .lo = (float)f->type.lo,
        .hi = (float)f->type.hi,
        .divide = f->rule == RQ_FQ_DIVIDE,
        .undivide = f->rule == RQ_FQ_MULTIPLIER,
        .compat = f->compat,
        .wide = f->zero_point_f != NULL,
        .zp_inside = f->zero_point_inside || f->zero_point_f,
    };
    const rq_layout *l = &p->layout;
    if (!p->count)
        return RQ_OK;
    if (f->axis == RQ_PER_TENSOR) {
        take_scale(&p->base, f, 0);
        return RQ_OK;
    }
    if (l->blocked && l->inner > 1) { /* scales lie as the elements of the inner axes do */
        RQ_TRY(make_rows(p, f->n, err));
        for (int64_t i = 0; i < f->n; i++)
            put_row(p, i, i);
    } else if (!l->blocked && l->inner < SHORT_SPAN && l->size * l->inner <= MOST_ROW) {
        p->period = l->size * l->inner;
        const int64_t repeats = p->period < ROW ? (ROW + p->period - 1) / p->period : 1;
        RQ_TRY(make_rows(p, p->period * repeats, err));
        for (int64_t i = 0; i < p->row_n; i++)
            put_row(p, i, i % p->period / l->inner);
    }
    return RQ_OK;
}

void rq_fq_plan_release(rq_fq_plan *p)
{
    rq_mem_free(p->rows);
    p->rows = NULL;
}

int64_t rq_fq_plan_span(const rq_fq_plan *p, int64_t at, int64_t most, rq_fakequant *k)
{
    const rq_layout *l = &p->layout;
    *k = p->base;
    int64_t n = most;
    if (p->rows) {
        const int64_t from = p->period ? at % p->period : rq_layout_scale_at(l, at);
        n = p->period ? p->row_n - from : l->inner - at % l->inner;
        k->in_row = p->in_row + from;
        k->out_row = p->out_row + from;
        k->zp_row = p->zp_row ? p->zp_row + from : NULL;
    } else if (p->f->axis != RQ_PER_TENSOR) {
        take_scale(k, p->f, rq_layout_scale_at(l, at));
        if (l->blocked) { /* inner is 1 */
            const int64_t m = at % l->size, left = l->block - m % l->block;
            n = left < l->size - m ? left : l->size - m;
        } else {
            n = l->inner - at % l->inner;
        }
    }
    return n < most ? n : most;
}
