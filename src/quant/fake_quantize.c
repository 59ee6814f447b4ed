/* quant/fake_quantize.c — to codes and back, forward and backward, over whole tensors; see requant/fake_quantize.h.
 *
 * A tensor is cut into pieces of RQ_FQ_PIECE elements in row-major order, a piece into spans that share their scales
 * (fq_plan.c), and a span goes to the kernel whole where every tensor of the call lies in a row, in tiles otherwise: read,
 * compute, write. */
#include "quant/fake_quantize.h"

#include <math.h>

#include "quant/exec.h"
#include "tensor/convert.h"
#include "tensor/strided.h"

typedef struct job job;
struct job {
    rq_kernels k;
    rq_fq_plan plan;
    int64_t count;
    const rq_strided *y, *mask, *x, *dy; /* y: what is written, dx too */
    rq_strided own[4];                   /* of those, with other axes first */
    rq_fq f;
    /* elements at..at+n-1, n <= RQ_FQ_TILE unless all lie in a row */
    void (*span)(const job *j, int64_t at, int64_t n, const rq_fakequant *p);
    bool direct; /* everything lies in a row */
    bool stream; /* what is written passes the caches by */
};

/* ---- forward ---- */

static void forward_f32(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float tile[RQ_FQ_TILE];
    uint8_t bits[RQ_FQ_TILE];
    const float *x = rq_strided_read(j->x, at, n, tile);
    float *y = rq_strided_direct(j->y, at);
    uint8_t *mask = !j->mask ? NULL : rq_strided_direct_u8(j->mask, at);
    float *to = y ? y : tile;
    uint8_t *to_mask = mask || !j->mask ? mask : bits;
    j->k.fakequant(to, to_mask, x, (size_t)n, p);
    if (!y)
        rq_strided_write(j->y, at, n, to);
    if (to_mask != mask)
        rq_strided_write_u8(j->mask, at, n, bits);
}

static void forward_f64(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    double tile[RQ_FQ_TILE];
    uint8_t bits[RQ_FQ_TILE];
    rq_strided_read_f64(j->x, at, n, tile);
    rq_fakequant_f64(tile, bits, tile, (size_t)n, p);
    rq_strided_write_f64(j->y, at, n, tile);
    if (j->mask)
        rq_strided_write_u8(j->mask, at, n, bits);
}

/* The largest number of a float type. */
static float most_of(rq_dtype d)
{
    return d == RQ_DTYPE_F8E4M3FN ? 448.0f : 57344.0f;
}

static void forward_float8(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    const rq_dtype d = j->plan.f->type.dtype;
    const float most = most_of(d);
    float tile[RQ_FQ_TILE];
    uint8_t bits[RQ_FQ_TILE];
    const float *x = rq_strided_read(j->x, at, n, tile);
    rq_fakequant e = *p;
    for (int64_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, (size_t)i);
        const float v = rq_fakequant_scaled(x[i], &e), c = j->plan.float8[rq_convert_f32_to_f8(d, v, true)];
        bits[i] = fabsf(v) <= most;
        tile[i] = rq_fakequant_real(c, &e);
    }
    rq_strided_write(j->y, at, n, tile);
    if (j->mask)
        rq_strided_write_u8(j->mask, at, n, bits);
}

/* ---- backward ---- */

static void backward_f32(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float tile[RQ_FQ_TILE], tile_dy[RQ_FQ_TILE];
    const float *x = rq_strided_read(j->x, at, n, tile), *dy = rq_strided_read(j->dy, at, n, tile_dy);
    float *dx = rq_strided_direct(j->y, at);
    j->k.fakequant_grad(dx ? dx : tile, dy, x, (size_t)n, p);
    if (!dx)
        rq_strided_write(j->y, at, n, tile);
}

static void backward_f64(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    double x[RQ_FQ_TILE], dy[RQ_FQ_TILE];
    rq_strided_read_f64(j->x, at, n, x);
    rq_strided_read_f64(j->dy, at, n, dy);
    rq_fakequant_grad_f64(x, dy, x, (size_t)n, p);
    rq_strided_write_f64(j->y, at, n, x);
}

static void backward_float8(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    const float most = most_of(j->plan.f->type.dtype);
    float tile[RQ_FQ_TILE], tile_dy[RQ_FQ_TILE];
    const float *x = rq_strided_read(j->x, at, n, tile), *dy = rq_strided_read(j->dy, at, n, tile_dy);
    rq_fakequant e = *p;
    for (int64_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, (size_t)i);
        tile[i] = dy[i] * (fabsf(rq_fakequant_scaled(x[i], &e)) <= most ? 1.0f : 0.0f);
    }
    rq_strided_write(j->y, at, n, tile);
}

static void backward_mask(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    (void)p;
    float tile[RQ_FQ_TILE];
    uint8_t bits[RQ_FQ_TILE];
    const uint8_t *mask = rq_strided_direct_u8(j->mask, at);
    if (!mask) {
        rq_strided_read_u8(j->mask, at, n, bits);
        mask = bits;
    }
    const float *dy = rq_strided_read(j->dy, at, n, tile);
    float *dx = rq_strided_direct(j->y, at);
    j->k.fakequant_mask_grad(dx ? dx : tile, dy, mask, (size_t)n, j->stream);
    if (!dx)
        rq_strided_write(j->y, at, n, tile);
}

static void backward_mask_f64(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    (void)p;
    double dy[RQ_FQ_TILE];
    uint8_t bits[RQ_FQ_TILE];
    rq_strided_read_u8(j->mask, at, n, bits);
    rq_strided_read_f64(j->dy, at, n, dy);
    for (int64_t i = 0; i < n; i++)
        dy[i] *= bits[i] ? 1.0 : 0.0;
    rq_strided_write_f64(j->y, at, n, dy);
}

/* ---- pieces ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void piece(void *arg, int64_t i)
{
    const job *j = arg;
    int64_t at = i * RQ_FQ_PIECE;
    const int64_t end = least(at + RQ_FQ_PIECE, j->count);
    while (at < end) {
        rq_fakequant p;
        const int64_t most = j->direct ? end - at : least(end - at, RQ_FQ_TILE);
        const int64_t n = j->plan.f ? rq_fq_plan_span(&j->plan, at, most, &p) : most;
        j->span(j, at, n, &p);
        at += n;
    }
    if (j->stream)
        j->k.stream_end();
}

static int64_t bytes_of(const rq_strided *v)
{
    return v ? rq_shape_count(&v->shape) * (rq_dtype_bits(v->dtype) / 8) : 0;
}

static bool streams(const job *j)
{
    const int64_t bytes = j->plan.base.relu ? 0 : bytes_of(j->y) + bytes_of(j->mask) + bytes_of(j->x) + bytes_of(j->dy);
    const bool in_place = (j->x && j->y->data == j->x->data) || (j->dy && j->y->data == j->dy->data);
    return j->direct && !in_place && bytes >= RQ_FQ_STREAM_BYTES;
}

/* ---- the order of the axes ---- */

static int64_t magnitude(int64_t v)
{
    return v < 0 ? -v : v;
}

/* Elements do not know of each other, so the axes may be walked in the order in which they lie in memory: a transposed tensor, or
 * one with channels last, is as good as one in a row. Not with blocks, whose scales are laid out along all axes. */
static void follow_memory(job *j)
{
    const rq_strided *first = j->x ? j->x : j->dy, **all[4] = { &j->y, &j->mask, &j->x, &j->dy };
    int axis[RQ_MAX_RANK];
    bool moved = false;
    for (int i = 0; i < first->shape.rank; i++) {
        int at = i;
        for (; at > 0 && magnitude(first->stride[axis[at - 1]]) < magnitude(first->stride[i]); at--)
            axis[at] = axis[at - 1];
        axis[at] = i;
        moved |= at != i;
    }
    if (!moved || j->f.block)
        return;
    for (int i = 0; i < 4; i++)
        if (*all[i]) {
            j->own[i] = rq_strided_permute(*all[i], axis);
            *all[i] = &j->own[i];
        }
    for (int i = 0; i < first->shape.rank; i++)
        if (axis[i] == j->f.axis) {
            j->f.axis = i;
            break;
        }
}

static void run(job *j, rq_exec *e)
{
    j->k = rq_exec_kernels(e);
    j->stream = j->plan.base.stream = streams(j);
    rq_threads_for(rq_exec_pool(e), (j->count + RQ_FQ_PIECE - 1) / RQ_FQ_PIECE, piece, j);
}

static bool in_a_row(const rq_strided *v)
{
    return !v || (rq_strided_is_contiguous(v) && (v->dtype == RQ_DTYPE_F32 || rq_dtype_bits(v->dtype) == 8));
}

static rq_status forward(rq_exec *e, const rq_strided *y, const rq_strided *mask, const rq_strided *x, const rq_fq *f,
                         bool relu, rq_err *err)
{
    job j = { .y = y, .mask = mask, .x = x, .f = *f };
    RQ_TRY(rq_strided_check(x, "x", true, err));
    RQ_TRY(rq_strided_check_like(y, "y", x, "x", true, err));
    if (mask)
        RQ_TRY(rq_strided_check_like(mask, "the mask", x, "x", false, err));
    RQ_TRY(rq_fq_check(f, &x->shape, err));
    follow_memory(&j);
    RQ_TRY(rq_fq_plan_init(&j.plan, &j.f, &j.x->shape, err));
    j.plan.base.relu = relu;
    const bool float8 = rq_qtype_is_float(&f->type);
    j.count = j.plan.count;
    j.span = float8 ? forward_float8 : x->dtype == RQ_DTYPE_F64 ? forward_f64 : forward_f32;
    j.direct = !float8 && in_a_row(j.x) && in_a_row(j.y) && in_a_row(j.mask);
    run(&j, e);
    rq_fq_plan_release(&j.plan);
    return RQ_OK;
}

rq_status rq_fake_quantize(rq_exec *e, const rq_strided *y, const rq_strided *mask, const rq_strided *x, const rq_fq *f,
                           rq_err *err)
{
    return forward(e, y, mask, x, f, false, err);
}

rq_status rq_fake_quantize_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                                    const rq_fq *f, rq_err *err)
{
    job j = { .y = dx, .dy = dy, .x = x, .f = *f };
    RQ_TRY(rq_strided_check(x, "x", true, err));
    RQ_TRY(rq_strided_check_like(dy, "dy", x, "x", true, err));
    RQ_TRY(rq_strided_check_like(dx, "dx", x, "x", true, err));
    RQ_TRY(rq_fq_check(f, &x->shape, err));
    follow_memory(&j);
    RQ_TRY(rq_fq_plan_init(&j.plan, &j.f, &j.x->shape, err));
    const bool float8 = rq_qtype_is_float(&f->type);
    j.count = j.plan.count;
    j.span = float8 ? backward_float8 : x->dtype == RQ_DTYPE_F64 ? backward_f64 : backward_f32;
    j.direct = !float8 && in_a_row(j.x) && in_a_row(j.dy) && in_a_row(j.y);
    run(&j, e);
    rq_fq_plan_release(&j.plan);
    return RQ_OK;
}

rq_status rq_fake_quantize_backward_mask(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *mask,
                                         rq_err *err)
{
    job j = { .y = dx, .mask = mask, .dy = dy };
    RQ_TRY(rq_strided_check(dy, "dy", true, err));
    RQ_TRY(rq_strided_check_like(dx, "dx", dy, "dy", true, err));
    RQ_TRY(rq_strided_check_like(mask, "the mask", dy, "dy", false, err));
    follow_memory(&j);
    j.count = rq_shape_count(&dy->shape);
    j.span = dy->dtype == RQ_DTYPE_F64 ? backward_mask_f64 : backward_mask;
    j.direct = in_a_row(j.y) && in_a_row(j.dy) && in_a_row(j.mask);
    run(&j, e);
    return RQ_OK;
}

/* ---- behind a rectifier ---- */

static void rectify(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    (void)p;
    const float *x = (const float *)j->x->data + at;
    float *y = (float *)j->y->data + at;
    uint8_t *mask = (uint8_t *)j->mask->data + at;
    for (int64_t i = 0; i < n; i++) {
        mask[i] = x[i] <= 0 ? 2 : 1;
        y[i] = x[i] < 0 ? 0 : x[i];
    }
}

static void backward_relu(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    (void)p;
    j->k.fakequant_relu_grad((float *)j->y->data + at, (const float *)j->dy->data + at,
                             (const uint8_t *)j->mask->data + at, (size_t)n);
}

static rq_status check_rows(const rq_strided *a, const rq_strided *b, const rq_strided *mask, rq_err *err)
{
    if (a->dtype != RQ_DTYPE_F32 || !in_a_row(a) || !in_a_row(b) || !in_a_row(mask))
        return rq_fail(err, RQ_INTERNAL, "a rectifier and fake quantization together want f32 in a row");
    return RQ_OK;
}

rq_status rq_fake_quantize_relu(rq_exec *e, const rq_strided *y, const rq_strided *mask, const rq_strided *x,
                                const rq_fq *f, rq_err *err)
{
    RQ_TRY(check_rows(y, x, mask, err));
    if (f)
        return forward(e, y, mask, x, f, true, err);
    job j = { .y = y, .mask = mask, .x = x, .count = rq_shape_count(&x->shape), .span = rectify, .direct = true };
    run(&j, e);
    return RQ_OK;
}

rq_status rq_fake_quantize_relu_backward(rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *mask,
                                         rq_err *err)
{
    RQ_TRY(check_rows(dx, dy, mask, err));
    job j = {
        .y = dx, .mask = mask, .dy = dy, .count = rq_shape_count(&dy->shape), .span = backward_relu, .direct = true
    };
    run(&j, e);
    return RQ_OK;
}
