/* quant/learned_quantize.c — learned-step fake quantization; requant/learned_quantize.h has the formulas.
 *
 * Forward is fake quantization with the zero points rounded. Backward sums over all elements that share a scale: those are
 * numbered row-major (without the channel axis), cut into pieces of a fixed size, and within a piece element i goes to lane i % 16 of
 * the kernel. Lanes, then pieces, are added in order, so neither strides nor threads nor vectors show. */
#include <math.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "quant/exec.h"
#include "quant/fake_quantize.h"
#include "requant/fake_quantize.h"
#include "requant/learned_quantize.h"
#include "tensor/strided.h"

enum {
    PIECE = 16384, /* elements of one channel that one call of the kernels' sums covers */
    RUN = 64,      /* rows at least this long go to the kernel in place */
    BLOCK = 128,   /* gathered elements per channel at a time */
    SPAN = 1024,   /* elements at a time where dx is not wanted */
    SHORT = 4096,  /* channels at most this long are worth no piece of their own */
    GROUP = 16,    /* channels gathered together: one cache line where the channel axis is the last */
};

int32_t rq_learned_zero_point(const rq_qtype *type, float zero_point)
{
    return rq_quantize_clamp(zero_point, (float)type->lo, (float)type->hi);
}

float rq_learned_grad_factor(rq_learned_rule rule, const rq_qtype *type, const rq_shape *shape, int axis)
{
    int64_t n = rq_shape_count(shape);
    if (!n)
        return 1;
    if (rule == RQ_LEARNED_LSQ && axis >= 0 && axis < shape->rank)
        n /= shape->dim[axis];
    const double most = type->hi > 0 ? type->hi : -(double)type->lo;
    return (float)(1 / sqrt((double)n * most));
}

rq_status rq_learned_check(const rq_learned *l, const rq_shape *shape, rq_err *err)
{
    char text[RQ_SHAPE_TEXT];
    if (rq_shape_check(shape))
        return rq_fail(err, RQ_BAD_SHAPE, "the shape is %s, expected known sizes of at most 2^47 elements",
                       rq_shape_text(shape, text, sizeof text));
    RQ_TRY(rq_qtype_check(&l->type, err));
    if (rq_qtype_is_float(&l->type) || rq_qtype_width(&l->type) > 16)
        return rq_fail(err, RQ_BAD_DTYPE,
                       "a learned scale wants an integer type of up to 16 bits, not %s with codes %d..%d",
                       rq_dtype_name(l->type.dtype), (int)l->type.lo, (int)l->type.hi);
    if ((int)l->rule < 0 || l->rule >= RQ_N_LEARNED_RULES)
        return rq_fail(err, RQ_BAD_ARG, "no rule of learned quantization has number %d", (int)l->rule);
    if (l->axis != RQ_PER_TENSOR && (l->axis < 0 || l->axis >= shape->rank))
        return rq_fail(err, RQ_BAD_SHAPE, "channel axis %d is not one of a tensor of shape %s", l->axis,
                       rq_shape_text(shape, text, sizeof text));
    const int64_t n = l->axis == RQ_PER_TENSOR ? 1 : shape->dim[l->axis];
    if (l->n != n)
        return rq_fail(err, RQ_BAD_SHAPE, "there are %lld scales where a tensor of shape %s has %lld channels",
                       (long long)l->n, rq_shape_text(shape, text, sizeof text), (long long)n);
    if (n && !l->scale)
        return rq_fail(err, RQ_BAD_ARG, "%lld scales expected, but there are none", (long long)n);
    for (int64_t c = 0; c < n; c++) {
        if (!(isnormal(l->scale[c]) && l->scale[c] > 0))
            return rq_fail(err, RQ_NUMERIC, "scale %lld is %g; a normal number above 0 is expected", (long long)c,
                           l->scale[c]);
        if (l->zero_point && !isfinite(l->zero_point[c]))
            return rq_fail(err, RQ_NUMERIC, "zero point %lld is %g; a finite number is expected", (long long)c,
                           l->zero_point[c]);
    }
    return RQ_OK;
}

static rq_status check_operand(const char *name, const rq_strided *v, const rq_strided *x, rq_err *err)
{
    if (v->dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_DTYPE, "%s is %s; learned quantization wants f32", name, rq_dtype_name(v->dtype));
    return rq_strided_check_like(v, name, x, "x", true, err);
}

/* The scale that is computed with. Core ML Tools scales its gradient by letting it pass through (s - s g) + s g, which may be its
 * neighbour. */
static float scale_of(const rq_learned *l, int64_t c)
{
    const float s = l->scale[c], part = s * l->grad_factor;
    return l->compat && l->rule == RQ_LEARNED_LSQ ? (s - part) + part : s;
}

rq_status rq_learned_quantize(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_learned *l, rq_err *err)
{
    RQ_TRY(check_operand("x", x, x, err));
    RQ_TRY(check_operand("y", y, x, err));
    RQ_TRY(rq_learned_check(l, &x->shape, err));
    enum { FEW = 16 };
    int32_t few_zp[FEW], *zp = few_zp;
    float few_scale[FEW], *scale = few_scale;
    void *block = NULL;
    if (l->n > FEW) {
        block = rq_mem_alloc((size_t)l->n, sizeof *zp + sizeof *scale);
        if (!block)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for %lld zero points", (long long)l->n);
        zp = block;
        scale = (float *)(zp + l->n);
    }
    for (int64_t c = 0; c < l->n; c++) {
        zp[c] = rq_learned_zero_point(&l->type, l->zero_point ? l->zero_point[c] : 0);
        scale[c] = scale_of(l, c);
    }
    const bool torch = l->rule == RQ_LEARNED_TORCH;
    const rq_fq f = {
        .type = l->type,
        .rule = torch ? RQ_FQ_RECIPROCAL : RQ_FQ_DIVIDE,
        .axis = l->axis,
        .n = l->n,
        .scale = scale,
        .zero_point = zp,
        .zero_point_inside = !torch,
        .compat = torch && l->compat,
    };
    const rq_status s = rq_fake_quantize(e, y, NULL, x, &f, err);
    rq_mem_free(block);
    return s;
}

/* ---- backward ---- */

enum { X, DY, DX, N_OPERANDS };

typedef struct walk {
    const rq_learned *l;
    rq_kernels k;
    float *data[N_OPERANDS];              /* dx NULL: not wanted */
    int64_t of_channel[N_OPERANDS];       /* stride of the channel axis */
    int rank;                             /* the other axes, merged where all operands allow */
    int64_t dim[RQ_MAX_RANK];             /* */
    int64_t of[N_OPERANDS][RQ_MAX_RANK];  /* their strides */
    int64_t channels, per, pieces, group; /* per: elements of a channel; group: channels of one item */
    bool in_place;
    bool stream;      /* dx passes the caches by */
    double (*sum)[2]; /* [channels][pieces] dscale, dzero_point */
} walk;

static void walk_axes(walk *w, const rq_strided *const v[N_OPERANDS], int axis)
{
    const rq_shape *s = &v[X]->shape;
    w->channels = axis < 0 ? 1 : s->dim[axis];
    w->per = 1;
    for (int i = 0; i < s->rank; i++) {
        if (i == axis) {
            for (int k = 0; k < N_OPERANDS; k++)
                w->of_channel[k] = v[k] ? v[k]->stride[i] : 0;
            continue;
        }
        w->per *= s->dim[i];
        if (s->dim[i] == 1)
            continue;
        const int last = w->rank - 1;
        bool merge = last >= 0;
        for (int k = 0; merge && k < N_OPERANDS; k++)
            merge = !v[k] || w->of[k][last] == v[k]->stride[i] * s->dim[i];
        const int at = merge ? last : w->rank++;
        w->dim[at] = merge ? w->dim[at] * s->dim[i] : s->dim[i];
        for (int k = 0; k < N_OPERANDS; k++)
            w->of[k][at] = v[k] ? v[k]->stride[i] : 0;
    }
    const int last = w->rank - 1;
    w->in_place = last >= 0 && w->dim[last] >= RUN;
    for (int k = 0; w->in_place && k < N_OPERANDS; k++)
        w->in_place = !v[k] || w->of[k][last] == 1;
    w->pieces = (w->per + PIECE - 1) / PIECE;
    w->group = w->in_place && w->per > SHORT ? 1 : GROUP;
}

/* An element of channel 0, and where it lies in each operand. */
typedef struct place {
    int64_t index[RQ_MAX_RANK], at[N_OPERANDS];
} place;

static place place_of(const walk *w, int64_t j)
{
    place p = { 0 };
    for (int i = w->rank - 1; i >= 0; i--) {
        p.index[i] = j % w->dim[i];
        j /= w->dim[i];
        for (int k = 0; k < N_OPERANDS; k++)
            p.at[k] += p.index[i] * w->of[k][i];
    }
    return p;
}

static void place_next(const walk *w, place *p)
{
    for (int i = w->rank - 1; i >= 0; i--) {
        const bool carry = ++p->index[i] == w->dim[i];
        for (int k = 0; k < N_OPERANDS; k++)
            p->at[k] += carry ? (1 - w->dim[i]) * w->of[k][i] : w->of[k][i];
        if (!carry)
            return;
        p->index[i] = 0;
    }
}

static rq_learned_row walk_row(const walk *w, int64_t c)
{
    const rq_learned *l = w->l;
    const float lo = (float)l->type.lo, hi = (float)l->type.hi, zero_point = l->zero_point ? l->zero_point[c] : 0;
    const float scale = scale_of(l, c);
    const bool torch = l->rule == RQ_LEARNED_TORCH, after = torch && l->compat;
    return (rq_learned_row) {
        .form = !torch  ? RQ_LEARNED_FORM_DIVIDE
                : after ? RQ_LEARNED_FORM_AFTER
                        : RQ_LEARNED_FORM_BEFORE,
        .scale = scale,
        .inv = 1 / scale,
        .zero_point = (float)(after && l->axis == RQ_PER_TENSOR ? rq_quantize_half_up(zero_point, lo, hi)
                                                                : rq_quantize_clamp(zero_point, lo, hi)),
        .lo = lo,
        .hi = hi,
        .stream = w->stream,
    };
}

/* Elements from..to-1 of channel c, whose last axis lies in a row. */
static void walk_rows(const walk *w, rq_learned_sums *s, const rq_learned_row *row, int64_t c, int64_t from, int64_t to)
{
    const int64_t len = w->dim[w->rank - 1];
    float unwanted[SPAN];
    for (int64_t j = from, n; j < to; j += n) {
        const place p = place_of(w, j);
        n = len - p.index[w->rank - 1];
        n = n < to - j ? n : to - j;
        if (!w->data[DX] && n > SPAN)
            n = SPAN;
        float *dx = w->data[DX] ? w->data[DX] + p.at[DX] + c * w->of_channel[DX] : unwanted;
        w->k.learned_grad(dx, s, w->data[DY] + p.at[DY] + c * w->of_channel[DY],
                          w->data[X] + p.at[X] + c * w->of_channel[X], (size_t)n,
                          (size_t)((j - from) % RQ_LEARNED_LANES), row);
    }
}

/* The same for channels c0..c1-1, copied out and back in blocks. */
static void walk_gather(const walk *w, rq_learned_sums *s, const rq_learned_row *row, int64_t c0, int64_t c1,
                        int64_t from, int64_t to)
{
    float x[GROUP][BLOCK], dy[GROUP][BLOCK];
    place p = place_of(w, from);
    for (int64_t j = from; j < to; j += BLOCK) {
        const int64_t n = to - j < BLOCK ? to - j : BLOCK;
        place back = p;
        for (int64_t i = 0; i < n; i++, place_next(w, &p))
            for (int64_t c = c0; c < c1; c++) {
                x[c - c0][i] = w->data[X][p.at[X] + c * w->of_channel[X]];
                dy[c - c0][i] = w->data[DY][p.at[DY] + c * w->of_channel[DY]];
            }
        for (int64_t c = c0; c < c1; c++)
            w->k.learned_grad(dy[c - c0], s + (c - c0), dy[c - c0], x[c - c0], (size_t)n, 0, row + (c - c0));
        for (int64_t i = 0; w->data[DX] && i < n; i++, place_next(w, &back))
            for (int64_t c = c0; c < c1; c++)
                w->data[DX][back.at[DX] + c * w->of_channel[DX]] = dy[c - c0][i];
    }
}

static double lanes(const double v[RQ_LEARNED_LANES])
{
    double sum = 0;
    for (int i = 0; i < RQ_LEARNED_LANES; i++)
        sum += v[i];
    return sum;
}

static void walk_item(void *arg, int64_t item)
{
    const walk *w = arg;
    const int64_t piece = item % w->pieces, c0 = item / w->pieces * w->group, end = c0 + w->group;
    const int64_t c1 = end < w->channels ? end : w->channels;
    const int64_t from = piece * PIECE, to = w->per - from < PIECE ? w->per : from + PIECE;
    rq_learned_sums s[GROUP] = { 0 };
    rq_learned_row row[GROUP];
    for (int64_t c = c0; c < c1; c++)
        row[c - c0] = walk_row(w, c);
    for (int64_t c = c0; w->in_place && c < c1; c++)
        walk_rows(w, s + (c - c0), row + (c - c0), c, from, to);
    if (w->stream)
        w->k.stream_end();
    if (!w->in_place)
        walk_gather(w, s, row, c0, c1, from, to);
    for (int64_t c = c0; c < c1; c++) {
        w->sum[c * w->pieces + piece][0] = lanes(s[c - c0].dscale);
        w->sum[c * w->pieces + piece][1] = lanes(s[c - c0].dzero_point);
    }
}

rq_status rq_learned_quantize_backward(rq_exec *e, const rq_strided *dx, float *dscale, float *dzero_point,
                                       const rq_strided *dy, const rq_strided *x, const rq_learned *l, rq_err *err)
{
    RQ_TRY(check_operand("x", x, x, err));
    RQ_TRY(check_operand("dy", dy, x, err));
    if (dx)
        RQ_TRY(check_operand("dx", dx, x, err));
    RQ_TRY(rq_learned_check(l, &x->shape, err));
    if ((dscale || dzero_point) && !l->compat && (l->grad_factor == 0 || !isfinite(l->grad_factor)))
        return rq_fail(err, RQ_BAD_ARG, "grad_factor is %g, expected 1 or rq_learned_grad_factor", l->grad_factor);
    walk w = { .l = l, .k = rq_exec_kernels(e), .data = { x->data, dy->data, dx ? dx->data : NULL } };
    walk_axes(&w, (const rq_strided *const[]) { x, dy, dx }, l->axis);
    w.stream = w.in_place && dx && dx->data != x->data && dx->data != dy->data &&
               rq_shape_count(&x->shape) >= RQ_FQ_STREAM_BYTES / (int64_t)(3 * sizeof(float));
    w.sum = rq_mem_zalloc((size_t)(w.channels * w.pieces), sizeof *w.sum);
    if (!w.sum)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the sums of %lld channels", (long long)w.channels);
    const int64_t groups = (w.channels + w.group - 1) / w.group;
    rq_threads_for(rq_exec_pool(e), groups * w.pieces, walk_item, &w);
    for (int64_t c = 0; c < w.channels; c++) {
        double s[2] = { 0, 0 };
        for (int64_t p = 0; p < w.pieces; p++)
            for (int i = 0; i < 2; i++)
                s[i] += w.sum[c * w.pieces + p][i];
        if (dscale)
            dscale[c] = (float)(s[0] * l->grad_factor);
        if (dzero_point)
            dzero_point[c] = (float)(s[1] * l->grad_factor);
    }
    rq_mem_free(w.sum);
    return RQ_OK;
}
