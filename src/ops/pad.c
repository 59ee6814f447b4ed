/* ops/pad.c — Pad: constant, reflect, edge and wrap, any rank, negative amounts (which crop). Per axis, a map says which
 * input index each output index shows, or -1 for the constant. On codes the constant is quantized; the rest moves. */
#include <string.h>

#include "kernels/quantize.h"
#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/last.h"
#include "ops/moves.h"
#include "ops/samples.h"

typedef struct pads {
    int64_t begin[RQ_MAX_RANK], end[RQ_MAX_RANK];
} pads;

/* RQ_NOT_FOUND: not known yet. */
static rq_status read_pads(const rq_infer *a, int rank, pads *p)
{
    int64_t buf[2 * RQ_MAX_RANK], axes[RQ_MAX_RANK];
    int n = 0, n_axes = rank;
    const int64_t *v = rq_attr_ints(a->node, RQ_WORD_pads, &n);
    memset(p, 0, sizeof *p);
    for (int i = 0; i < rank; i++)
        axes[i] = i;
    if (a->opset >= 11) {
        n = rq_infer_ints(a, 1, buf, 2 * RQ_MAX_RANK);
        v = buf;
        if (a->n_in > 3 && a->in[3])
            n_axes = rq_infer_ints(a, 3, axes, RQ_MAX_RANK);
        if (n < 0 || n_axes < 0)
            return RQ_NOT_FOUND;
    }
    if (n != 2 * n_axes)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%d pads for %d axes, expected %d", n, n_axes, 2 * n_axes);
    for (int i = 0; i < n_axes; i++) {
        int axis = rq_infer_axis(axes[i], rank);
        if (axis < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)axes[i], rank);
        p->begin[axis] = v[i];
        p->end[axis] = v[i + n_axes];
    }
    return RQ_OK;
}

static rq_status pad_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    pads p;
    a->out_dtype[0] = a->in[0]->dtype;
    if (x->rank < 0)
        return RQ_OK;
    rq_shape out = *x;
    rq_status s = read_pads(a, x->rank, &p);
    if (s != RQ_OK && s != RQ_NOT_FOUND)
        return s;
    const rq_word mode = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_constant);
    for (int i = 0; i < x->rank; i++) {
        if (s == RQ_NOT_FOUND) {
            out.dim[i] = RQ_DIM_UNKNOWN;
            continue;
        }
        if (p.begin[i] == 0 && p.end[i] == 0)
            continue;
        int64_t sum;
        bool fits = !__builtin_add_overflow(p.begin[i], p.end[i], &sum);
        if (fits && x->dim[i] >= 0)
            fits = !__builtin_add_overflow(x->dim[i], sum, &sum) && sum >= 0 && p.begin[i] >= -x->dim[i] &&
                   p.end[i] >= -x->dim[i];
        else
            sum = RQ_DIM_UNKNOWN;
        if (fits && x->dim[i] == 0 && sum > 0 && mode != RQ_WORD_constant)
            fits = false;
        if (fits && x->dim[i] >= 0 && mode == RQ_WORD_reflect)
            fits = p.begin[i] < (x->dim[i] > 1 ? x->dim[i] : 1) && p.end[i] < (x->dim[i] > 1 ? x->dim[i] : 1);
        if (!fits)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "pads %lld and %lld do not fit axis %d of size %lld (mode %.16s)",
                                 (long long)p.begin[i], (long long)p.end[i], i, (long long)x->dim[i],
                                 rq_word_text(mode));
        out.dim[i] = sum;
    }
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status pad_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_word mode = rq_attr_word(n, RQ_WORD_mode, RQ_WORD_constant);
    if (mode != RQ_WORD_constant && mode != RQ_WORD_reflect && mode != RQ_WORD_edge && mode != RQ_WORD_wrap)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "mode is '%.32s', expected constant, reflect, edge or wrap",
                            rq_attr_string(n, RQ_WORD_mode, ""));
    if (opset >= 11 ? n->n_in < 2 || n->in[1] == RQ_NONE : !rq_attr_find(n, RQ_WORD_pads))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "no pads");
    return RQ_OK;
}

/* Input index that output index i shows; -1: the constant. n: size of the input axis. */
static int64_t source(int64_t i, int64_t n, char mode)
{
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case 'e':
        return i < 0 ? 0 : n - 1;
    case 'r':
        if (n == 1)
            return 0;
        i = i < 0 ? -i : i;
        return i < n ? i : 2 * (n - 1) - i;
    case 'w':
        i %= n;
        return i < 0 ? i + n : i;
    default:
        return -1;
    }
}

/* Fill axes d.. of the output below `dst` from `src`; either may run out: src NULL is the constant. */
typedef struct pad_job {
    rq_shape in, out; /* as they lie */
    int64_t in_stride[RQ_MAX_RANK], out_stride[RQ_MAX_RANK], begin[RQ_MAX_RANK];
    char mode;
    size_t elem;
    const void *constant;
    int first, last; /* the outermost axis with padding, and the innermost; below it runs are copied whole */
} pad_job;

static void pad_axis(const pad_job *j, int d, char *dst, const char *src)
{
    int64_t n = j->in.dim[d], m = j->out.dim[d];
    size_t run = (size_t)j->out_stride[d] * j->elem, step = (size_t)j->in_stride[d] * j->elem;
    for (int64_t o = 0; o < m; o++) {
        int64_t i = source(o - j->begin[d], n, j->mode);
        if (d == j->last && i >= 0 && i == o - j->begin[d]) { /* the middle in one go */
            int64_t count = n - i < m - o ? n - i : m - o;
            memcpy(dst + (size_t)o * run, src + (size_t)i * step, (size_t)count * run);
            o += count - 1;
        } else if (i < 0) {
            rq_move_fill(dst + (size_t)o * run, j->constant, j->elem, j->out_stride[d]);
        } else if (d == j->last) {
            memcpy(dst + (size_t)o * run, src + (size_t)i * step, run);
        } else {
            pad_axis(j, d + 1, dst + (size_t)o * run, src + (size_t)i * step);
        }
    }
}

/* Constants: what lies below the axes that are padded is filled, and the middle copied into it. */
typedef struct frame {
    const pad_job *j;
    rq_threads *threads; /* for one copy, where there is one only */
    char *y;
    const char *x;
    int64_t in, out; /* elements of an item */
    int64_t run, ld; /* of those made, how many lie together, and from these to the next */
} frame;

static void frame_item(void *arg, int64_t i)
{
    const frame *f = arg;
    const pad_job *j = f->j;
    const int first = j->first, rank = j->in.rank;
    char *y = f->y + (size_t)(i * f->out) * j->elem;
    const char *x = f->x + (size_t)(i * f->in) * j->elem;
    int64_t dim[RQ_MAX_RANK];
    for (int64_t o = 0; o < f->out; o += f->run)
        rq_move_fill(y + (size_t)(o / f->run * f->ld) * j->elem, j->constant, j->elem, f->run);
    for (int d = first; d < rank; d++) { /* begin may be negative: cut off */
        const int64_t to = j->begin[d] > 0 ? j->begin[d] : 0, from = to - j->begin[d];
        const int64_t left = j->in.dim[d] - from, room = j->out.dim[d] - to;
        dim[d] = left < room ? left : room;
        if (dim[d] <= 0)
            return;
        y += (size_t)(to * j->out_stride[d]) * j->elem;
        x += (size_t)(from * j->in_stride[d]) * j->elem;
    }
    rq_move_nd_on(f->threads, y, x, j->elem, rank - first, dim + first, j->out_stride + first, j->in_stride + first);
}

static void pad_constant(const rq_op_args *a, const pad_job *j)
{
    const int rank = j->in.rank;
    const int64_t items = rq_shape_span(&j->in, 0, j->first);
    frame f = { .j = j,
                .threads = items > 1 ? NULL : a->threads,
                .y = a->out[0]->data,
                .x = a->in[0]->data,
                .in = rq_shape_span(&j->in, j->first, rank),
                .out = rq_shape_span(&j->out, j->first, rank) };
    f.run = a->out_ld ? j->out.dim[rank - 1] : f.out;
    f.ld = a->out_ld ? a->out_ld : f.out;
    rq_threads_for(a->out[0]->bytes < 1 << 16 ? NULL : a->threads, items, frame_item, &f);
}

static rq_status describe(const rq_op_args *a, pad_job *j)
{
    const rq_tensor *x = a->in[0];
    rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    pads p;
    rq_status s = read_pads(&as_infer, x->shape.rank, &p);
    if (s != RQ_OK)
        return s == RQ_NOT_FOUND ? rq_op_fail(a, RQ_BAD_DTYPE, "pads or axes are no lists of integers") : s;
    rq_last_axes(a->last, x->shape.rank, p.begin);
    rq_last_axes(a->last, x->shape.rank, p.end);
    *j = (pad_job) { .in = rq_last_shape(a->last, &x->shape),
                     .out = rq_last_shape(a->last, &a->out[0]->shape),
                     .elem = rq_moves_size(x->dtype),
                     .first = x->shape.rank,
                     .mode = rq_attr_string(a->node, RQ_WORD_mode, "constant")[0] };
    rq_moves_strides(&j->in, j->in_stride);
    rq_moves_strides(&j->out, j->out_stride);
    for (int i = 0; i + 1 < j->out.rank && a->out_ld; i++) /* in pixels, then what lies between these */
        j->out_stride[i] = rq_shape_span(&j->out, i + 1, j->out.rank - 1) * a->out_ld;
    for (int i = x->shape.rank - 1; i >= 0; i--) {
        j->begin[i] = p.begin[i];
        if (!p.begin[i] && !p.end[i])
            continue;
        j->first = i;
        j->last = j->last > i ? j->last : i;
    }
    return RQ_OK;
}

static rq_status pad_run(const rq_op_args *a, const void *constant)
{
    static const char zero[16];
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0];
    pad_job j;
    RQ_TRY(describe(a, &j));
    j.constant = constant ? constant : zero;
    if (a->out_ld)
        j.first = 0; /* one frame, whose pixels lie apart */
    if (x->shape.rank == 0 || j.first == x->shape.rank)
        rq_moves_copy(y, x);
    else if (rq_tensor_count(y) && j.mode == 'c')
        pad_constant(a, &j);
    else if (rq_tensor_count(y))
        pad_axis(&j, 0, y->data, x->data);
    return RQ_OK;
}

/* The constant as a real, from the attribute (below opset 11) or the input; 0 without. */
static double constant_value(const rq_op_args *a)
{
    if (a->opset < 11)
        return rq_attr_float(a->node, RQ_WORD_value, 0);
    if (a->n_in < 3 || !a->in[2] || rq_tensor_count(a->in[2]) != 1)
        return 0;
    const rq_qparams *q = a->in_q ? a->in_q[2] : NULL;
    return q ? (double)rq_dequantize_one((int32_t)rq_tensor_get_int(a->in[2], 0), q->scale[0], q->zero_point[0])
             : rq_tensor_get(a->in[2], 0);
}

static rq_status pad_move(const rq_op_args *a)
{
    uint64_t room[2] = { 0 };
    rq_dtype d = a->in[0]->dtype;
    if (a->opset >= 11 && a->n_in > 2 && a->in[2] && a->in[2]->dtype == d && rq_tensor_count(a->in[2]) == 1)
        return pad_run(a, a->in[2]->data);
    rq_tensor one = rq_tensor_view(d, &(rq_shape) { 0 }, room);
    rq_tensor_set(&one, 0, constant_value(a));
    return pad_run(a, room);
}

static rq_status pad_forward(const rq_op_args *a)
{
    return rq_moves_run(a, pad_move);
}

/* Where each element of dy came from, it is added: pad_axis the other way. */
static void gather_axis(const pad_job *j, int d, float *dx, const float *dy)
{
    const int64_t n = j->in.dim[d], m = j->out.dim[d], run = j->out_stride[d], step = j->in_stride[d];
    for (int64_t o = 0; o < m; o++) {
        const int64_t i = source(o - j->begin[d], n, j->mode);
        if (i < 0)
            continue;
        if (d != j->last) {
            gather_axis(j, d + 1, dx + i * step, dy + o * run);
            continue;
        }
        const int64_t left = n - i < m - o ? n - i : m - o, count = i == o - j->begin[d] ? left : 1;
        float *to = dx + i * step;
        const float *from = dy + o * run;
        for (int64_t k = 0; k < count * run; k++)
            to[k] += from[k];
        o += count - 1;
    }
}

typedef struct unpad {
    pad_job j;
    float *dx;
    const float *dy;
    int64_t in, out; /* elements of an item: what lies below the axes that are not padded */
} unpad;

static void unpad_item(void *arg, int64_t i)
{
    const unpad *u = arg;
    float *dx = u->dx + i * u->in;
    memset(dx, 0, (size_t)u->in * sizeof *dx);
    gather_axis(&u->j, u->j.first, dx, u->dy + i * u->out);
}

static rq_status pad_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    unpad u;
    if (!dx || !dy || !rq_tensor_count(dy) || !rq_tensor_count(dx))
        return rq_grad_none(a);
    RQ_TRY(describe(a, &u.j));
    const int rank = dx->shape.rank;
    if (u.j.first == rank) { /* nothing is padded */
        rq_grad_copy(dx, dy);
        return RQ_OK;
    }
    u.dx = dx->f32;
    u.dy = dy->f32;
    u.in = rq_shape_span(&dx->shape, u.j.first, rank);
    u.out = rq_shape_span(&dy->shape, u.j.first, rank);
    rq_threads_for(rq_tensor_count(dy) < 4096 ? NULL : a->threads, rq_shape_span(&dx->shape, 0, u.j.first), unpad_item,
                   &u);
    return RQ_OK;
}

static bool pad_accepts_int(const rq_op_args *a, const char **why)
{
    const rq_qparams *x = a->in_q[0], *y = a->out_q[0];
    if (!x || !y || !rq_qparams_equal(x, y) || x->axis != RQ_PER_TENSOR) {
        *why = "input and output have different parameters";
        return false;
    }
    if (a->n_in > 3 && a->in_q[3])
        return false;
    if (rq_dtype_bits(x->dtype) < 8 || rq_dtype_bits(x->dtype) > 16) {
        *why = "codes of this width";
        return false;
    }
    return true;
}

static rq_status pad_forward_int(const rq_op_args *a)
{
    const rq_qparams *q = a->in_q[0];
    uint64_t room = 0;
    int32_t lo, hi;
    rq_tensor one = rq_tensor_view(q->dtype, &(rq_shape) { 0 }, &room);
    rq_qparams_limits(q, &lo, &hi);
    rq_tensor_set(&one, 0, rq_quantize_one((float)constant_value(a), q->scale[0], q->zero_point[0], lo, hi));
    return pad_run(a, &room);
}

static bool pad_spreads(const rq_op_args *a)
{
    return rq_attr_string(a->node, RQ_WORD_mode, "constant")[0] == 'c';
}

const rq_op rq_op_pad = {
    .name = "Pad",
    .domain = "",
    .since = 2,
    .known = 25,
    .min_in = 1,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_SAME,
    .check = pad_check,
    .infer = pad_infer,
    .samples = rq_samples_pad,
    .forward = pad_forward,
    .backward = pad_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0),
    .accepts_int = pad_accepts_int,
    .flags = RQ_OP_OUT_LD,
    .last = rq_last_can,
    .spreads = pad_spreads,
    .forward_int = pad_forward_int,
};
