/* quant/tensor_quant.c — see requant/tensor_quant.h. Two ways through the same formula, with the same bits: where every multiplier is a
 * normal number and lies along at most one axis, the loops of rq_fake_quantize; for everything else (codes, dead channels, several axes,
 * multipliers of f64) tiles, in which amax is spread over x by strides of 0. */
#include "requant/tensor_quant.h"

#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "base/number.h"
#include "kernels/quantize.h"
#include "quant/amax_fit.h"
#include "quant/exec.h"
#include "requant/fake_quantize.h"
#include "tensor/convert.h"
#include "tensor/strided.h"

static const float EPS24 = 0x1p-24f; /* smallest positive number of f16: what an amax must exceed */

enum { TILE = 2048 };

rq_tensor_quant_cfg rq_tensor_quant_defaults(void)
{
    return (rq_tensor_quant_cfg) { .num_bits = 8, .narrow_range = true, .axis = RQ_PER_TENSOR };
}

/* ---- what all functions check ---- */

static rq_status check_bits(int bits, bool is_unsigned, rq_err *err)
{
    const int least = is_unsigned ? 1 : 2;
    if (bits < least || bits > 16)
        return rq_fail(err, RQ_BAD_ARG, "num_bits is %d, expected %d..16 for %s codes", bits, least,
                       is_unsigned ? "unsigned" : "signed");
    return RQ_OK;
}

/* x and what is made of it, of one shape and type. */
static rq_status check_pair(const rq_strided *y, const char *name, const rq_strided *x, const char *other, rq_err *err)
{
    RQ_TRY(rq_strided_check(x, other, true, err));
    return rq_strided_check_like(y, name, x, other, true, err);
}

static int64_t tiles(const rq_strided *x)
{
    return (rq_shape_count(&x->shape) + TILE - 1) / TILE;
}

static int64_t tile_size(const rq_strided *x, int64_t i)
{
    const int64_t left = rq_shape_count(&x->shape) - i * TILE;
    return left < TILE ? left : TILE;
}

/* ---- a negative element of an unsigned x ---- */

typedef struct sign_job {
    const rq_strided *x;
    float *least; /* [tiles] */
} sign_job;

static void sign_tile(void *arg, int64_t i)
{
    const sign_job *j = arg;
    float tile[TILE], least = 0;
    const int64_t n = tile_size(j->x, i);
    const float *x = rq_strided_read(j->x, i * TILE, n, tile);
    for (int64_t k = 0; k < n; k++)
        least = x[k] < least ? x[k] : least; /* false for NaN */
    j->least[i] = least;
}

static rq_status check_sign(rq_exec *e, const rq_strided *x, rq_err *err)
{
    sign_job j = { x, rq_mem_alloc((size_t)tiles(x), sizeof *j.least) };
    if (!j.least)
        return rq_fail(err, RQ_NO_MEMORY, "no memory to look for negative elements");
    rq_threads_for(rq_exec_pool(e), tiles(x), sign_tile, &j);
    float least = 0;
    for (int64_t i = 0; i < tiles(x); i++)
        least = fminf(least, j.least[i]);
    rq_mem_free(j.least);
    if (least < 0) {
        char text[32];
        rq_number_print(text, sizeof text, "%g", (double)least);
        return rq_fail(err, RQ_BAD_ARG, "Negative values encountered in unsigned quantization: the least is %s", text);
    }
    return RQ_OK;
}

/* ---- integers ---- */

/* Multipliers and divisors, one per element of amax. */
typedef struct scales {
    rq_amax_fit fit;
    rq_tensor mul, div; /* F32, or F64; s as reported is div */
    double qmin, qmax;
    bool plain; /* every s is a normal number */
} scales;

static void scales_release(scales *s)
{
    rq_amax_fit_release(&s->fit);
    rq_tensor_release(&s->mul);
    rq_tensor_release(&s->div);
}

static rq_status scales_make(scales *s, const rq_strided *x, const rq_strided *amax, bool loose,
                             const rq_tensor_quant_cfg *cfg, rq_err *err)
{
    *s = (scales) { .plain = true };
    RQ_TRY(check_bits(cfg->num_bits, cfg->is_unsigned, err));
    s->qmax = (double)((1 << (cfg->num_bits - 1 + cfg->is_unsigned)) - 1);
    s->qmin = cfg->is_unsigned ? 0 : cfg->narrow_range ? -s->qmax : -s->qmax - 1;
    RQ_TRY(rq_amax_fit_make(&s->fit, x, amax, cfg->axis, loose, err));
    const rq_dtype d = x->dtype == RQ_DTYPE_F64 ? RQ_DTYPE_F64 : RQ_DTYPE_F32;
    const rq_shape shape = rq_shape_of(1, &s->fit.n);
    if (rq_tensor_create(&s->mul, d, &shape, false) || rq_tensor_create(&s->div, d, &shape, false)) {
        scales_release(s);
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld scales", (long long)s->fit.n);
    }
    for (int64_t i = 0; i < s->fit.n; i++) {
        const double a = s->fit.amax[i];
        const double q = s->fit.wide ? s->qmax / a : (double)((float)s->qmax / (float)a);
        const bool tiny = a <= (double)EPS24;
        s->plain = s->plain && !tiny && q >= (double)FLT_MIN && q < HUGE_VAL;
        rq_tensor_set(&s->mul, i, tiny ? 0 : q);
        rq_tensor_set(&s->div, i, tiny ? 1 : q);
    }
    return RQ_OK;
}

typedef struct quant_job {
    rq_kernels k;
    const rq_strided *y, *x;
    rq_strided mul, div; /* spread over x */
    double lo, hi;
    bool single; /* one amax for all */
    bool codes;  /* y takes q, not q / s */
    bool half;   /* q and s are rounded to f16 before dividing */
} quant_job;

static float to_half(float v)
{
    return rq_convert_f16_to_f32(rq_convert_f32_to_f16(v));
}

/* Codes in floats: no zero point, but -0, which is none to zeros either; q / out. */
static rq_fakequant multiplier_rule(double lo, double hi)
{
    return (rq_fakequant) {
        .in = 1,
        .out = 1,
        .inside = -0.0f,
        .after = -0.0f,
        .back = -0.0f,
        .lo = (float)lo,
        .hi = (float)hi,
        .undivide = true,
    };
}

static void quant_tile(void *arg, int64_t i)
{
    const quant_job *j = arg;
    float xt[TILE], in[TILE], out[TILE], y[TILE];
    const int64_t n = tile_size(j->x, i), at = i * TILE;
    rq_fakequant p = multiplier_rule(j->lo, j->hi);
    const bool q_only = j->codes || j->half;
    if (j->single) {
        p.in = *(const float *)j->mul.data;
        p.out = q_only ? 1 : *(const float *)j->div.data;
    } else {
        p.in_row = rq_strided_read(&j->mul, at, n, in);
        p.out_row = q_only ? out : rq_strided_read(&j->div, at, n, out);
        for (int64_t k = 0; q_only && k < n; k++)
            out[k] = 1;
    }
    j->k.fakequant(y, NULL, rq_strided_read(j->x, at, n, xt), (size_t)n, &p);
    if (j->half) {
        const float *d = rq_strided_read(&j->div, at, n, out);
        for (int64_t k = 0; k < n; k++)
            y[k] = to_half(y[k]) / to_half(d[k]);
    }
    rq_strided_write(j->y, at, n, y);
}

static void quant_tile_f64(void *arg, int64_t i)
{
    const quant_job *j = arg;
    double y[TILE], s[TILE];
    const int64_t n = tile_size(j->x, i), at = i * TILE;
    const rq_fakequant p = multiplier_rule(j->lo, j->hi);
    rq_strided_read_f64(j->x, at, n, y);
    rq_strided_read_f64(&j->mul, at, n, s);
    for (int64_t k = 0; k < n; k++)
        y[k] *= s[k];
    rq_fakequant_f64(y, NULL, y, (size_t)n, &p);
    if (!j->codes) {
        rq_strided_read_f64(&j->div, at, n, s);
        for (int64_t k = 0; k < n; k++)
            y[k] /= s[k];
    }
    rq_strided_write_f64(j->y, at, n, y);
}

static void quant_tiles(rq_exec *e, const rq_strided *y, const rq_strided *x, const scales *s, bool codes, bool half)
{
    quant_job j = {
        .k = rq_exec_kernels(e),
        .y = y,
        .x = x,
        .mul = rq_amax_fit_spread(&s->fit, &s->mul, &x->shape),
        .div = rq_amax_fit_spread(&s->fit, &s->div, &x->shape),
        .single = s->fit.n == 1,
        .lo = s->qmin,
        .hi = s->qmax,
        .codes = codes,
        .half = half,
    };
    rq_threads_for(rq_exec_pool(e), tiles(x), x->dtype == RQ_DTYPE_F64 ? quant_tile_f64 : quant_tile, &j);
}

/* The fast way, where it is the same: *done. */
static rq_status quant_rows(rq_exec *e, const rq_strided *y, const rq_strided *x, const scales *s,
                            const rq_tensor_quant_cfg *cfg, bool *done, rq_err *err)
{
    *done = s->plain && s->fit.axis != RQ_AMAX_AXES && x->dtype == RQ_DTYPE_F32 && rq_shape_count(&x->shape) > 0;
    if (!*done)
        return RQ_OK;
    const rq_dtype small = cfg->is_unsigned ? RQ_DTYPE_U8 : RQ_DTYPE_S8,
                   large = cfg->is_unsigned ? RQ_DTYPE_U16 : RQ_DTYPE_S16;
    const rq_fq f = {
        .type = { cfg->num_bits <= 8 ? small : large, (int32_t)s->qmin, (int32_t)s->qmax },
        .rule = RQ_FQ_MULTIPLIER,
        .axis = s->fit.axis,
        .n = s->fit.n,
        .scale = s->div.f32,
    };
    return rq_fake_quantize(e, y, NULL, x, &f, err);
}

static rq_status fake(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                      const rq_tensor_quant_cfg *cfg, bool loose, rq_err *err)
{
    const rq_tensor_quant_cfg ours = rq_tensor_quant_defaults();
    scales s;
    cfg = cfg ? cfg : &ours;
    RQ_TRY(check_pair(y, "y", x, "x", err));
    RQ_TRY(scales_make(&s, x, amax, loose, cfg, err));
    rq_status st = cfg->is_unsigned ? check_sign(e, x, err) : RQ_OK;
    const bool half = cfg->compat && x->dtype == RQ_DTYPE_F16;
    bool done = false;
    if (!st && !loose && !half)
        st = quant_rows(e, y, x, &s, cfg, &done, err);
    if (!st && !done)
        quant_tiles(e, y, x, &s, false, half);
    scales_release(&s);
    return st;
}

rq_status rq_fake_tensor_quant(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                               const rq_tensor_quant_cfg *cfg, rq_err *err)
{
    return fake(e, y, x, amax, cfg, false, err);
}

rq_status rq_legacy_fake_tensor_quant(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                                      const rq_tensor_quant_cfg *cfg, rq_err *err)
{
    return fake(e, y, x, amax, cfg, true, err);
}

/* s fits amax, and is representable beside the codes. */
static rq_status check_scales(const rq_strided *s, const scales *have, const rq_strided *x, rq_err *err)
{
    char text[RQ_SHAPE_TEXT];
    if (s) {
        RQ_TRY(rq_strided_check(s, "s", true, err));
        if (s->dtype != RQ_DTYPE_F32 && s->dtype != RQ_DTYPE_F64)
            return rq_fail(err, RQ_BAD_DTYPE, "s is %s, expected f32 or f64", rq_dtype_name(s->dtype));
        if (rq_shape_count(&s->shape) != have->fit.n)
            return rq_fail(err, RQ_BAD_SHAPE, "s has the shape %s, expected as many elements as amax has, %lld",
                           rq_shape_text(&s->shape, text, sizeof text), (long long)have->fit.n);
    }
    for (int64_t i = 0; x->dtype == RQ_DTYPE_F16 && i < have->fit.n; i++)
        if (rq_tensor_get(&have->div, i) > 65504) {
            rq_number_print(text, sizeof text, "%g", have->fit.amax[i]);
            return rq_fail(err, RQ_NUMERIC, "scale is too large for FP16 with amax=%s; expected at most 65504", text);
        }
    return RQ_OK;
}

rq_status rq_tensor_quant(rq_exec *e, const rq_strided *q, const rq_strided *s, const rq_strided *x,
                          const rq_strided *amax, const rq_tensor_quant_cfg *cfg, rq_err *err)
{
    const rq_tensor_quant_cfg ours = rq_tensor_quant_defaults();
    scales have;
    cfg = cfg ? cfg : &ours;
    RQ_TRY(check_pair(q, "q", x, "x", err));
    RQ_TRY(scales_make(&have, x, amax, false, cfg, err));
    rq_status st = check_scales(s, &have, x, err);
    if (!st && cfg->is_unsigned)
        st = check_sign(e, x, err);
    if (!st) {
        quant_tiles(e, q, x, &have, true, false);
        for (int64_t i = 0; s && i < have.fit.n; i++) {
            const double v = rq_tensor_get(&have.div, i);
            rq_strided_write_f64(s, i, 1, &v);
        }
    }
    scales_release(&have);
    return st;
}

/* ---- straight-through gradients: dx = dy where lo <= x <= hi ---- */

typedef struct ste_job {
    const rq_strided *dx, *dy, *x;
    rq_strided amax; /* F64 or F32, spread over x; shape of rank -1: lo..hi */
    double lo, hi;
    bool all; /* dx = dy, at NaN too */
} ste_job;

static void ste_tile_f64(const ste_job *j, int64_t at, int64_t n)
{
    double x[TILE], a[TILE], dy[TILE];
    rq_strided_read_f64(j->x, at, n, x);
    rq_strided_read_f64(j->dy, at, n, dy);
    if (j->amax.shape.rank >= 0)
        rq_strided_read_f64(&j->amax, at, n, a);
    for (int64_t k = 0; k < n; k++) {
        const bool in = j->amax.shape.rank >= 0 ? fabs(x[k]) <= a[k] : x[k] >= j->lo && x[k] <= j->hi;
        dy[k] = in || j->all ? dy[k] : 0;
    }
    rq_strided_write_f64(j->dx, at, n, dy);
}

static void ste_tile(void *arg, int64_t i)
{
    const ste_job *j = arg;
    const int64_t n = tile_size(j->x, i), at = i * TILE;
    if (j->x->dtype == RQ_DTYPE_F64) {
        ste_tile_f64(j, at, n);
        return;
    }
    float xt[TILE], at_amax[TILE], dyt[TILE], dx[TILE];
    const float *x = rq_strided_read(j->x, at, n, xt), *dy = rq_strided_read(j->dy, at, n, dyt);
    if (j->amax.shape.rank >= 0) {
        const float *a = rq_strided_read(&j->amax, at, n, at_amax);
        for (int64_t k = 0; k < n; k++)
            dx[k] = fabsf(x[k]) <= a[k] ? dy[k] : 0;
    } else {
        const float lo = (float)j->lo, hi = (float)j->hi;
        for (int64_t k = 0; k < n; k++)
            dx[k] = j->all || (x[k] >= lo && x[k] <= hi) ? dy[k] : 0;
    }
    rq_strided_write(j->dx, at, n, dx);
}

static rq_status check_gradient(const rq_strided *dx, const rq_strided *dy, const rq_strided *x, rq_err *err)
{
    RQ_TRY(check_pair(dx, "dx", dy, "dy", err));
    return rq_strided_check_like(x, "x", dy, "dy", true, err);
}

static rq_status ste(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                     const rq_strided *amax, int axis, bool loose, rq_err *err)
{
    rq_amax_fit fit;
    RQ_TRY(check_gradient(dx, dy, x, err));
    RQ_TRY(rq_amax_fit_make(&fit, x, amax, axis, loose, err));
    const rq_shape shape = rq_shape_of(1, &fit.n);
    rq_tensor limits;
    if (rq_tensor_create(&limits, fit.wide ? RQ_DTYPE_F64 : RQ_DTYPE_F32, &shape, false)) {
        rq_amax_fit_release(&fit);
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld amaxs", (long long)shape.dim[0]);
    }
    for (int64_t i = 0; i < fit.n; i++)
        rq_tensor_set(&limits, i, fit.amax[i]);
    ste_job j = { .dx = dx, .dy = dy, .x = x, .amax = rq_amax_fit_spread(&fit, &limits, &x->shape) };
    if (fit.n == 1) {
        j.amax.shape.rank = -1;
        j.lo = -fit.amax[0];
        j.hi = fit.amax[0];
    }
    rq_threads_for(rq_exec_pool(e), tiles(x), ste_tile, &j);
    rq_tensor_release(&limits);
    rq_amax_fit_release(&fit);
    return RQ_OK;
}

rq_status rq_tensor_quant_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                                   const rq_strided *amax, const rq_tensor_quant_cfg *cfg, rq_err *err)
{
    return ste(e, dx, dy, x, amax, cfg ? cfg->axis : RQ_PER_TENSOR, true, err);
}

/* ---- affine ---- */

typedef struct affine_job {
    rq_kernels k;
    const rq_strided *y, *x;
    rq_fakequant p;
} affine_job;

static void affine_tile(void *arg, int64_t i)
{
    const affine_job *j = arg;
    const int64_t n = tile_size(j->x, i), at = i * TILE;
    if (j->x->dtype == RQ_DTYPE_F64) {
        double y[TILE];
        rq_strided_read_f64(j->x, at, n, y);
        rq_fakequant_f64(y, NULL, y, (size_t)n, &j->p);
        rq_strided_write_f64(j->y, at, n, y);
        return;
    }
    float tile[TILE], y[TILE];
    j->k.fakequant(y, NULL, rq_strided_read(j->x, at, n, tile), (size_t)n, &j->p);
    rq_strided_write(j->y, at, n, y);
}

static rq_status check_range(float lo, float hi, rq_err *err)
{
    if (!(lo < hi) || !isfinite(lo) || !isfinite(hi)) {
        char a[32], b[32];
        rq_number_print(a, sizeof a, "%g", (double)lo);
        rq_number_print(b, sizeof b, "%g", (double)hi);
        return rq_fail(err, RQ_BAD_ARG, "the range is %s..%s, expected two finite numbers, the smaller first", a, b);
    }
    return RQ_OK;
}

rq_status rq_fake_affine_tensor_quant(rq_exec *e, const rq_strided *y, const rq_strided *x, float lo, float hi,
                                      int num_bits, rq_err *err)
{
    RQ_TRY(check_bits(num_bits, false, err));
    RQ_TRY(check_range(lo, hi, err));
    RQ_TRY(check_pair(y, "y", x, "x", err));
    const float step = (hi - lo) / (float)((1 << num_bits) - 1);
    if (!isnormal(step))
        return rq_fail(err, RQ_BAD_ARG, "the range is too %s for %d bits: a step would not be a normal number",
                       step < 1 ? "narrow" : "wide", num_bits);
    const float half = (float)(1 << (num_bits - 1)), z = rq_quantize_landing(lo / step, -0.0f, half);
    if (fabsf(z) > 0x1p23f)
        return rq_fail(err, RQ_BAD_ARG, "the range is too far from 0 for %d bits: its codes would not be exact",
                       num_bits);
    /* z is in the bounds of the codes, not in the rounding; adding +0 makes one zero of both, as the original's z does */
    affine_job j = {
        .k = rq_exec_kernels(e),
        .y = y,
        .x = x,
        .p = { .in = step,
               .out = step,
               .inside = -0.0f,
               .after = -0.0f,
               .lo = z - half,
               .hi = z + half - 1,
               .divide = true },
    };
    rq_threads_for(rq_exec_pool(e), tiles(x), affine_tile, &j);
    return RQ_OK;
}

rq_status rq_fake_affine_tensor_quant_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                               const rq_strided *x, float lo, float hi, rq_err *err)
{
    RQ_TRY(check_range(lo, hi, err));
    RQ_TRY(check_gradient(dx, dy, x, err));
    ste_job j = { .dx = dx, .dy = dy, .x = x, .amax.shape.rank = -1, .lo = (double)lo, .hi = (double)hi };
    rq_threads_for(rq_exec_pool(e), tiles(x), ste_tile, &j);
    return RQ_OK;
}

/* ---- FP8 ---- */

static const float LARGEST_E4M3 = 448,
                   OVER_E4M3 = 464; /* above the latter the next number would be nearer, and there is none */

rq_scaled_e4m3_cfg rq_scaled_e4m3_defaults(void)
{
    return (rq_scaled_e4m3_cfg) { .axis = RQ_PER_TENSOR, .exponent_bits = 4, .mantissa_bits = 3 };
}

typedef struct e4m3_job {
    const rq_strided *y, *x;
    rq_strided factor, inverse;
    float least; /* smaller |x| become +0 */
    float most;  /* larger |x| become NaN */
} e4m3_job;

static void e4m3_tile(void *arg, int64_t i)
{
    const e4m3_job *j = arg;
    float xt[TILE], ft[TILE], it[TILE], y[TILE];
    const int64_t n = tile_size(j->x, i), at = i * TILE;
    const float *x = rq_strided_read(j->x, at, n, xt), *f = rq_strided_read(&j->factor, at, n, ft),
                *inv = rq_strided_read(&j->inverse, at, n, it);
    for (int64_t k = 0; k < n; k++) {
        const float v = rq_quantize_float(x[k] * f[k], 3, -6, LARGEST_E4M3) * inv[k];
        y[k] = fabsf(x[k]) < j->least ? 0 : fabsf(x[k]) > j->most ? NAN : v;
    }
    rq_strided_write(j->y, at, n, y);
}

/* factor and inverse, one of each per element of amax. */
static rq_status e4m3_scales(rq_tensor *factor, rq_tensor *inverse, const rq_amax_fit *fit, bool modelopt, rq_err *err)
{
    const rq_shape shape = rq_shape_of(1, &fit->n);
    if (rq_tensor_create(factor, RQ_DTYPE_F32, &shape, false) || rq_tensor_create(inverse, RQ_DTYPE_F32, &shape, false))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %lld scales", (long long)fit->n);
    for (int64_t i = 0; i < fit->n; i++) {
        const float a = (float)fit->amax[i];
        factor->f32[i] =
            1 / (modelopt && a <= EPS24 ? 1 : a) * LARGEST_E4M3; /* as PyTorch divides a number by a tensor */
        inverse->f32[i] = 1 / factor->f32[i];
    }
    return RQ_OK;
}

static rq_status check_format(const rq_scaled_e4m3_cfg *cfg, rq_err *err)
{
    if (cfg->exponent_bits != 4 || cfg->mantissa_bits != 3)
        return rq_fail(err, RQ_UNSUPPORTED, "Only support E=4 & M=3 for now: found E=%d & M=%d", cfg->exponent_bits,
                       cfg->mantissa_bits);
    return RQ_OK;
}

rq_status rq_scaled_e4m3(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *amax,
                         const rq_scaled_e4m3_cfg *cfg, rq_err *err)
{
    const rq_scaled_e4m3_cfg ours = rq_scaled_e4m3_defaults();
    float largest = LARGEST_E4M3;
    const rq_strided none = rq_strided_vector(&largest, 1);
    rq_amax_fit fit;
    rq_tensor factor = { 0 }, inverse = { 0 };
    cfg = cfg ? cfg : &ours;
    RQ_TRY(check_format(cfg, err));
    RQ_TRY(check_pair(y, "y", x, "x", err));
    RQ_TRY(rq_amax_fit_make(&fit, x, amax ? amax : &none, amax ? cfg->axis : RQ_PER_TENSOR, false, err));
    const rq_status st = e4m3_scales(&factor, &inverse, &fit, cfg->modelopt, err);
    if (!st) {
        e4m3_job j = {
            .y = y,
            .x = x,
            .factor = rq_amax_fit_spread(&fit, &factor, &x->shape),
            .inverse = rq_amax_fit_spread(&fit, &inverse, &x->shape),
            .least = cfg->modelopt ? 0 : EPS24,
            .most = cfg->modelopt && !amax ? OVER_E4M3 : INFINITY,
        };
        rq_threads_for(rq_exec_pool(e), tiles(x), e4m3_tile, &j);
    }
    rq_tensor_release(&factor);
    rq_tensor_release(&inverse);
    rq_amax_fit_release(&fit);
    return st;
}

rq_status rq_scaled_e4m3_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                                  const rq_strided *amax, const rq_scaled_e4m3_cfg *cfg, rq_err *err)
{
    const rq_scaled_e4m3_cfg ours = rq_scaled_e4m3_defaults();
    float largest = LARGEST_E4M3;
    const rq_strided none = rq_strided_vector(&largest, 1);
    cfg = cfg ? cfg : &ours;
    RQ_TRY(check_format(cfg, err));
    if (!amax && cfg->modelopt) {
        RQ_TRY(check_gradient(dx, dy, x, err));
        ste_job j = { .dx = dx, .dy = dy, .x = x, .amax.shape.rank = -1, .all = true };
        rq_threads_for(rq_exec_pool(e), tiles(x), ste_tile, &j);
        return RQ_OK;
    }
    return ste(e, dx, dy, x, amax ? amax : &none, amax ? cfg->axis : RQ_PER_TENSOR, false, err);
}
