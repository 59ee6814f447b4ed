/* ops/slice.c — joining and cutting: Concat, Split, Slice. All are strided copies. */
#include <string.h>

#include "ops/grad.h"
#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/moves.h"
#include "ops/samples.h"

/* ---- Concat ---- */

static rq_status concat_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (opset >= 4 && !rq_attr_find(n, RQ_WORD_axis))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'axis' is missing");
    return RQ_OK;
}

static rq_status concat_infer(const rq_infer *a)
{
    int64_t axis_attr = rq_attr_int(a->node, RQ_WORD_axis, 1);
    rq_shape out = rq_shape_unknown();
    int axis = -1;
    a->out_dtype[0] = a->in[0]->dtype;
    for (int i = 0; i < a->n_in; i++) {
        if (!a->in[i])
            return rq_infer_fail(a, RQ_BAD_GRAPH, "input %d is left out", i);
        const rq_shape *s = &a->in[i]->shape;
        if (a->in[i]->dtype != RQ_DTYPE_NONE && a->out_dtype[0] != RQ_DTYPE_NONE && a->in[i]->dtype != a->out_dtype[0])
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, input 0 is %s", i, rq_dtype_name(a->in[i]->dtype),
                                 rq_dtype_name(a->out_dtype[0]));
        if (s->rank < 0)
            continue;
        if (out.rank >= 0 && out.rank != s->rank)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %d axes, others have %d", i, s->rank, out.rank);
        if (out.rank < 0) {
            axis = rq_infer_axis(axis_attr, s->rank);
            if (axis < 0)
                return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of tensors with %d axes", (long long)axis_attr,
                                     s->rank);
            out = *s;
            out.dim[axis] = 0;
        }
        for (int k = 0; k < s->rank; k++) {
            int64_t was = out.dim[k];
            if (k == axis)
                out.dim[k] = rq_infer_dim_add(was, s->dim[k]);
            else if (!rq_infer_dim_join(&out.dim[k], s->dim[k]))
                return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d of input %d has size %lld, others have %lld", k, i,
                                     (long long)s->dim[k], (long long)was);
        }
    }
    for (int i = 0; i < a->n_in && axis >= 0; i++)
        if (a->in[i]->shape.rank < 0)
            out.dim[axis] = RQ_DIM_UNKNOWN;
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status concat_move(const rq_op_args *a)
{
    rq_tensor *y = a->out[0];
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 1), y->shape.rank);
    size_t elem = rq_moves_size(y->dtype);
    int64_t rows = rq_shape_span(&y->shape, 0, axis), whole = rq_shape_span(&y->shape, axis, y->shape.rank), at = 0;
    for (int i = 0; i < a->n_in; i++) {
        int64_t run = rq_shape_span(&a->in[i]->shape, axis, y->shape.rank);
        char *to = (char *)y->data + (size_t)at * elem;
        if (a->in[i]->data != to) /* else it was made there */
            rq_move_nd_on(a->threads, to, a->in[i]->data, elem, 2, (int64_t[]) { rows, run }, (int64_t[]) { whole, 1 },
                          (int64_t[]) { run, 1 });
        at += run;
    }
    return RQ_OK;
}

static rq_status concat_forward(const rq_op_args *a)
{
    return rq_moves_run(a, concat_move);
}

/* Each input's part of dy. */
static rq_status concat_backward(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    const rq_shape *s = &a->out[0]->shape;
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 1), s->rank);
    const int64_t rows = rq_shape_span(s, 0, axis), whole = rq_shape_span(s, axis, s->rank);
    int64_t at = 0;
    if (!dy)
        return rq_grad_none(a);
    for (int i = 0; i < a->n_in; i++) {
        const int64_t run = rq_shape_span(&a->in[i]->shape, axis, s->rank);
        if (rq_grad_in(a, i))
            rq_move_nd_on(a->threads, rq_grad_in(a, i)->f32, dy->f32 + at, sizeof(float), 2, (int64_t[]) { rows, run },
                          (int64_t[]) { run, 1 }, (int64_t[]) { whole, 1 });
        at += run;
    }
    return RQ_OK;
}

/* ---- Split ---- */

static rq_status split_infer(const rq_infer *a)
{
    enum { CAP = 1024 };
    int64_t buf[CAP], sum = 0;
    const rq_shape *in = &a->in[0]->shape;
    int n = 0;
    const int64_t *sizes = rq_attr_ints(a->node, RQ_WORD_split, &n);
    bool by_input = a->n_in > 1 && a->in[1];
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = a->in[0]->dtype;
    if (by_input) {
        n = rq_infer_ints(a, 1, buf, CAP);
        sizes = n < 0 ? NULL : buf;
    }
    if (in->rank < 0)
        return RQ_OK;
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), in->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, 0), in->rank);
    int64_t whole = in->dim[axis], parts = rq_attr_int(a->node, RQ_WORD_num_outputs, a->n_out);
    if (parts != a->n_out)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "num_outputs is %lld, but there are %d outputs", (long long)parts,
                             a->n_out);
    if (sizes && n != a->n_out)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%d sizes for %d outputs", n, a->n_out);
    if (!sizes && !by_input && whole >= 0 && a->opset < 18 && whole % parts)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "size %lld of axis %d does not divide into %lld equal parts",
                             (long long)whole, axis, (long long)parts);
    for (int i = 0; i < a->n_out; i++) {
        int64_t size = RQ_DIM_UNKNOWN;
        if (sizes) {
            size = sizes[i];
            if (size < 0 || __builtin_add_overflow(sum, size, &sum))
                return rq_infer_fail(a, RQ_BAD_SHAPE, "part %d has size %lld", i, (long long)size);
        } else if (!by_input && whole >= 0) { /* the last part may be smaller */
            int64_t step = (whole + parts - 1) / parts, from = i * step;
            size = from >= whole ? 0 : whole - from < step ? whole - from : step;
        } else if (parts == 1 && !by_input) {
            size = whole;
        }
        a->out_shape[i] = *in;
        a->out_shape[i].dim[axis] = size;
    }
    if (sizes && whole >= 0 && sum != whole)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the parts add up to %lld, axis %d has size %lld", (long long)sum, axis,
                             (long long)whole);
    return RQ_OK;
}

/* Size of part i along the axis; a part that nobody wants has no tensor. */
static int64_t part_size(const rq_op_args *a, int axis, int i)
{
    int n = 0;
    const int64_t *sizes = rq_attr_ints(a->node, RQ_WORD_split, &n);
    if (a->out[i])
        return a->out[i]->shape.dim[axis];
    if (a->n_in > 1 && a->in[1])
        return rq_tensor_get_int(a->in[1], i);
    return sizes ? sizes[i] : (a->in[0]->shape.dim[axis] + a->n_out - 1) / a->n_out;
}

static rq_status split_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const rq_shape s = rq_last_shape(a->last, &x->shape);
    int rank = x->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), rank);
    const int lies = rq_last_axis(a->last, axis, rank);
    size_t elem = rq_moves_size(x->dtype);
    int64_t rows = rq_shape_span(&s, 0, lies), inner = rq_shape_span(&s, lies + 1, rank);
    int64_t whole = s.dim[lies] * inner, at = 0;
    for (int i = 0; i < a->n_out; i++) {
        rq_tensor *y = a->out[i];
        int64_t run = part_size(a, axis, i) * inner;
        if (y)
            rq_move_nd_on(a->threads, y->data, (const char *)x->data + (size_t)at * elem, elem, 2,
                          (int64_t[]) { rows, run }, (int64_t[]) { run, 1 }, (int64_t[]) { whole, 1 });
        at += run;
    }
    return RQ_OK;
}

static rq_status split_forward(const rq_op_args *a)
{
    return rq_moves_run(a, split_move);
}

/* The parts joined again; those of which no gradient came are 0. */
static rq_status split_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_shape *s = &a->in[0]->shape;
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), s->rank);
    const int64_t rows = rq_shape_span(s, 0, axis), inner = rq_shape_span(s, axis + 1, s->rank);
    const int64_t whole = s->dim[axis] * inner;
    int64_t at = 0;
    bool all = true;
    if (!dx)
        return RQ_OK;
    for (int i = 0; i < a->n_out; i++)
        all = all && rq_grad_out(a, i);
    if (!all)
        rq_grad_zero(dx);
    for (int i = 0; i < a->n_out; i++) {
        const int64_t run = part_size(a, axis, i) * inner;
        if (rq_grad_out(a, i))
            rq_move_nd_on(a->threads, dx->f32 + at, rq_grad_out(a, i)->f32, sizeof(float), 2, (int64_t[]) { rows, run },
                          (int64_t[]) { whole, 1 }, (int64_t[]) { run, 1 });
        at += run;
    }
    return RQ_OK;
}

/* ---- Slice ---- */

typedef struct cut { /* per axis */
    int64_t start, step, count;
} cut;

/* Output indices of one axis of size dim >= 0. As the specification clamps: going back, start lies within 0..dim-1 and
 * end within -1..dim-1. The largest s32 and s64 as end mean "as far as it goes" whatever the direction, as in ONNX
 * Runtime. */
static cut cut_axis(int64_t dim, int64_t start, int64_t end, int64_t step)
{
    int64_t last = step > 0 ? dim : dim - 1, least = step > 0 ? 0 : -1;
    cut c = { .step = step };
    if (dim == 0)
        return c;
    if (step < 0 && (end == INT32_MAX || end == INT64_MAX))
        end = INT64_MIN;
    start = start < 0 ? start + dim : start;
    end = end < 0 ? end + dim : end;
    c.start = start < 0 ? 0 : start > last ? last : start;
    end = end < least ? least : end > last ? last : end;
    if (step > 0 && end > c.start)
        c.count = (end - c.start - 1) / step + 1;
    else if (step < 0 && end < c.start)
        c.count = (c.start - end - 1) / -(step + (step == INT64_MIN)) + 1;
    return c;
}

/* Starts, ends, axes and steps of a node; inputs since opset 10. n < 0: not known. */
typedef struct bounds {
    int64_t start[RQ_MAX_RANK], end[RQ_MAX_RANK], step[RQ_MAX_RANK];
    int64_t sym_start[RQ_MAX_RANK], sym_end[RQ_MAX_RANK]; /* not 0: a size not known yet */
    bool given[RQ_MAX_RANK];
} bounds;

static rq_status fill_bounds(const rq_infer *a, int rank, bounds *b, bool *known)
{
    int64_t s[RQ_MAX_RANK], e[RQ_MAX_RANK], ax[RQ_MAX_RANK], st[RQ_MAX_RANK];
    int64_t ss[RQ_MAX_RANK] = { 0 }, se[RQ_MAX_RANK] = { 0 };
    int n, n_end, n_axes = -1, n_steps = -1;
    memset(b, 0, sizeof *b);
    *known = true;
    if (a->opset < 10) {
        const int64_t *ps = rq_attr_ints(a->node, RQ_WORD_starts, &n),
                      *pe = rq_attr_ints(a->node, RQ_WORD_ends, &n_end);
        const int64_t *pa = rq_attr_ints(a->node, RQ_WORD_axes, &n_axes);
        if (n > RQ_MAX_RANK || n_end != n || (pa && n_axes != n))
            return rq_infer_fail(a, RQ_BAD_GRAPH, "starts, ends and axes have %d, %d and %d entries", n, n_end, n_axes);
        for (int i = 0; i < n; i++) {
            s[i] = ps[i];
            e[i] = pe[i];
            ax[i] = pa ? pa[i] : i;
        }
        n_axes = n;
    } else {
        n = rq_infer_ints_part(a, 1, s, ss, RQ_MAX_RANK);
        n_end = rq_infer_ints_part(a, 2, e, se, RQ_MAX_RANK);
        n_axes = rq_infer_ints(a, 3, ax, RQ_MAX_RANK);
        n_steps = rq_infer_ints(a, 4, st, RQ_MAX_RANK);
        bool has_axes = a->n_in > 3 && a->in[3], has_steps = a->n_in > 4 && a->in[4];
        if (n < 0 || n_end < 0 || (has_axes && n_axes < 0) || (has_steps && n_steps < 0)) {
            *known = false;
            /* the axes alone say which sizes stay */
            for (int i = 0; i < rank; i++)
                b->given[i] = n_axes < 0;
            for (int i = 0; i < n_axes; i++)
                if (rq_infer_axis(ax[i], rank) >= 0)
                    b->given[rq_infer_axis(ax[i], rank)] = true;
            return RQ_OK;
        }
        if (n_end != n || (has_axes && n_axes != n) || (has_steps && n_steps != n))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "starts, ends, axes and steps have different lengths");
        for (int i = 0; i < n && !has_axes; i++)
            ax[i] = i;
    }
    for (int i = 0; i < n; i++) {
        int axis = rq_infer_axis(ax[i], rank);
        if (axis < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)ax[i], rank);
        if (b->given[axis])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d is named twice", axis);
        b->given[axis] = true;
        b->start[axis] = s[i];
        b->end[axis] = e[i];
        b->sym_start[axis] = ss[i];
        b->sym_end[axis] = se[i];
        b->step[axis] = n_steps > 0 ? st[i] : 1;
        if (b->step[axis] == 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the step of axis %d is 0", axis);
    }
    return RQ_OK;
}

/* The size that is left of an axis when something about it is symbolic. */
static int64_t cut_symbolic(int64_t dim, const bounds *b, int i)
{
    int64_t start = b->start[i], end = b->end[i];
    if (b->step[i] != 1 || b->sym_start[i])
        return RQ_DIM_UNKNOWN;
    if (b->sym_end[i]) /* x[:n], where n is the size itself */
        return start == 0 && b->sym_end[i] == dim && dim != RQ_DIM_UNKNOWN ? dim : RQ_DIM_UNKNOWN;
    if (start == 0 && end >= INT32_MAX)
        return dim;
    if (start == end)
        return 0;
    return start == -1 && end >= INT32_MAX ? 1 : RQ_DIM_UNKNOWN;
}

static rq_status slice_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    bounds b;
    bool known;
    a->out_dtype[0] = a->in[0]->dtype;
    if (in->rank < 0)
        return RQ_OK;
    RQ_TRY(fill_bounds(a, in->rank, &b, &known));
    rq_shape out = *in;
    for (int i = 0; i < in->rank; i++) {
        if (!b.given[i])
            continue;
        if (!known)
            out.dim[i] = RQ_DIM_UNKNOWN;
        else if (in->dim[i] < 0 || b.sym_start[i] || b.sym_end[i])
            out.dim[i] = cut_symbolic(in->dim[i], &b, i);
        else
            out.dim[i] = cut_axis(in->dim[i], b.start[i], b.end[i], b.step[i]).count;
    }
    a->out_shape[0] = out;
    return RQ_OK;
}

/* The elements of the input that are taken: element `at`, then steps ss along the axes of the output. */
static rq_status taken(const rq_op_args *a, int64_t *at, int64_t *ss)
{
    const rq_shape *x = &a->in[0]->shape;
    const int rank = x->rank;
    int64_t in[RQ_MAX_RANK];
    rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    bounds b;
    bool known;
    RQ_TRY(fill_bounds(&as_infer, rank, &b, &known));
    if (!known)
        return rq_op_fail(a, RQ_BAD_SHAPE, "starts, ends, axes or steps are no lists of integers");
    rq_moves_strides_of(a->last, x, in);
    *at = 0;
    for (int i = 0; i < rank; i++) {
        cut c = { .step = 1, .count = x->dim[i] };
        if (b.given[i])
            c = cut_axis(x->dim[i], b.start[i], b.end[i], b.step[i]);
        if (c.count != a->out[0]->shape.dim[i])
            return rq_op_fail(a, RQ_BAD_SHAPE, "axis %d of the output has size %lld, expected %lld", i,
                              (long long)a->out[0]->shape.dim[i], (long long)c.count);
        ss[i] = c.count > 1 ? in[i] * c.step : 0;
        *at += c.count ? in[i] * c.start : 0;
    }
    return RQ_OK;
}

static rq_status slice_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const int rank = x->shape.rank;
    int64_t ss[RQ_MAX_RANK], ds[RQ_MAX_RANK], at;
    const rq_shape y = rq_last_shape(a->last, &a->out[0]->shape);
    RQ_TRY(taken(a, &at, ss));
    rq_last_axes(a->last, rank, ss);
    rq_moves_strides(&y, ds);
    if (rq_tensor_count(a->out[0]))
        rq_move_nd_on(a->threads, a->out[0]->data, (const char *)x->data + at * (int64_t)rq_moves_size(x->dtype),
                      rq_moves_size(x->dtype), rank, y.dim, ds, ss);
    return RQ_OK;
}

static rq_status slice_forward(const rq_op_args *a)
{
    return rq_moves_run(a, slice_move);
}

static rq_status slice_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    int64_t ds[RQ_MAX_RANK], ss[RQ_MAX_RANK], at;
    rq_grad_zero(dx);
    if (!dx || !dy || !rq_tensor_count(dy))
        return RQ_OK;
    RQ_TRY(taken(a, &at, ds));
    rq_moves_strides(&dy->shape, ss);
    rq_move_nd_on(a->threads, dx->f32 + at, dy->f32, sizeof(float), dy->shape.rank, dy->shape.dim, ds, ss);
    return RQ_OK;
}

static rq_status slice_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    int starts = 0, ends = 0;
    if (opset >= 10 && n->n_in < 3)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%d inputs, expected starts and ends", n->n_in);
    rq_attr_ints(n, RQ_WORD_starts, &starts);
    rq_attr_ints(n, RQ_WORD_ends, &ends);
    if (opset < 10 && (starts == 0 || starts != ends))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%d starts and %d ends", starts, ends);
    return RQ_OK;
}

const rq_op rq_op_concat = {
    .name = "Concat",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = -1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_IN_LD,
    .place = RQ_PLACE_JOIN,
    .check = concat_check,
    .infer = concat_infer,
    .samples = rq_samples_join,
    .forward = concat_forward,
    .backward = concat_backward,
    .accepts_int = rq_int_concat_accepts,
    .last = rq_last_broadcast, /* constants lie as they are in the file */
    .forward_int = rq_int_concat_forward,
};

const rq_op rq_op_split = {
    .name = "Split",
    .domain = "",
    .since = 2,
    .known = 25,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = -1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = split_infer,
    .samples = rq_samples_along,
    .forward = split_forward,
    .last = rq_last_can,
    .backward = split_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_slice = {
    .name = "Slice",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .check = slice_check,
    .infer = slice_infer,
    .samples = rq_samples_slice,
    .forward = slice_forward,
    .last = rq_last_can,
    .backward = slice_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4), /* where it cuts */
    .gradients = RQ_OP_IN(0),
};
