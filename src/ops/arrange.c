/* ops/arrange.c — elements put where an image wants them: Col2Im, CenterCropPad, MaxUnpool, TensorScatter. */
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/moves.h"

/* ---- CenterCropPad: each axis cut, or filled with zeros, evenly at both ends ---- */

/* Axes the operator is about; their number, or -1 and an error. */
static rq_status crop_axes(const rq_infer *a, int axes[RQ_MAX_RANK], int *n)
{
    const rq_shape *x = &a->in[0]->shape;
    const int64_t *list = rq_attr_ints(a->node, RQ_WORD_axes, n);
    if (!list)
        *n = x->rank;
    if (*n > x->rank)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "%d axes are named, the input has %d", *n, x->rank);
    for (int i = 0; i < *n; i++) {
        axes[i] = list ? rq_infer_axis(list[i], x->rank) : i;
        if (axes[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes",
                                 (long long)list[i], x->rank);
    }
    return RQ_OK;
}

static rq_status crop_infer(const rq_infer *a)
{
    int axes[RQ_MAX_RANK], n;
    int64_t v[RQ_MAX_RANK], sym[RQ_MAX_RANK];
    rq_shape *y = &a->out_shape[0];
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->in[0]->shape.rank < 0)
        return RQ_OK;
    RQ_TRY(crop_axes(a, axes, &n));
    const int have = rq_infer_ints_part(a, 1, v, sym, RQ_MAX_RANK);
    if (have >= 0 && have != n)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the shape has %d entries for %d axes", have, n);
    *y = a->in[0]->shape;
    for (int i = 0; i < n; i++) {
        if (have >= 0 && !sym[i] && v[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the shape holds %lld", (long long)v[i]);
        y->dim[axes[i]] = have < 0 ? RQ_DIM_UNKNOWN : sym[i] ? sym[i] : v[i];
    }
    return RQ_OK;
}

/* What input and output share: so many elements along each axis, from these first ones. */
static void overlap(const rq_op_args *a, int64_t *dim, int64_t *from, int64_t *to, int64_t *ss, int64_t *ds)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    *from = *to = 0;
    rq_moves_strides(x, ss);
    rq_moves_strides(y, ds);
    for (int i = 0; i < x->rank; i++) {
        const int64_t nx = x->dim[i], ny = y->dim[i];
        dim[i] = nx < ny ? nx : ny;
        if (nx > ny)
            *from += (nx - ny) / 2 * ss[i];
        else
            *to += (ny - nx) / 2 * ds[i];
    }
}

static rq_status crop_move(const rq_op_args *a)
{
    const size_t elem = rq_moves_size(a->in[0]->dtype);
    int64_t ss[RQ_MAX_RANK], ds[RQ_MAX_RANK], dim[RQ_MAX_RANK], from, to;
    overlap(a, dim, &from, &to, ss, ds);
    memset(a->out[0]->data, 0, a->out[0]->bytes);
    rq_move_nd_on(a->threads, a->out[0]->u8 + (size_t)to * elem, a->in[0]->u8 + (size_t)from * elem, elem,
                  a->in[0]->shape.rank, dim, ds, ss);
    return RQ_OK;
}

static rq_status crop_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    int64_t ss[RQ_MAX_RANK], ds[RQ_MAX_RANK], dim[RQ_MAX_RANK], from, to;
    rq_grad_zero(dx);
    if (!dx || !dy || !rq_tensor_count(dx) || !rq_tensor_count(dy))
        return RQ_OK;
    overlap(a, dim, &from, &to, ss, ds);
    rq_move_nd_on(a->threads, dx->f32 + from, dy->f32 + to, sizeof(float), dx->shape.rank, dim, ss, ds);
    return RQ_OK;
}

static rq_status crop_forward(const rq_op_args *a)
{
    return rq_tensor_count(a->out[0]) ? rq_moves_run(a, crop_move) : RQ_OK;
}

/* ---- Col2Im: columns [N, C * block, places] summed into images [N, C, image...] ---- */

typedef struct fold {
    int n; /* spatial axes */
    int64_t image[RQ_MAX_RANK], block[RQ_MAX_RANK], stride[RQ_MAX_RANK], dilation[RQ_MAX_RANK], pad[RQ_MAX_RANK];
    int64_t places[RQ_MAX_RANK]; /* blocks along each axis */
} fold;

/* A list attribute of n entries of at least `least`, or `fallback` in each. */
static rq_status read_list(const rq_infer *a, rq_word name, int n, int64_t least, int64_t fallback, int64_t *out)
{
    int have;
    const int64_t *v = rq_attr_ints(a->node, name, &have);
    if (v && have != n)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "%s has %d entries, expected %d", rq_word_text(name), have, n);
    for (int i = 0; i < n; i++) {
        out[i] = v ? v[i] : fallback;
        if (out[i] < least || out[i] > INT32_MAX)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "%s holds %lld", rq_word_text(name), (long long)out[i]);
    }
    return RQ_OK;
}

/* f->n = -1: sizes are not known yet. */
static rq_status fold_of(const rq_infer *a, fold *f)
{
    int64_t pads[2 * RQ_MAX_RANK];
    f->n = -1;
    const int n = rq_infer_ints(a, 1, f->image, RQ_MAX_RANK), m = rq_infer_ints(a, 2, f->block, RQ_MAX_RANK);
    if (n < 0 || m < 0)
        return RQ_OK;
    if (n != m || n < 1 || n > RQ_MAX_RANK - 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "an image of %d axes and blocks of %d", n, m);
    RQ_TRY(read_list(a, RQ_WORD_strides, n, 1, 1, f->stride));
    RQ_TRY(read_list(a, RQ_WORD_dilations, n, 1, 1, f->dilation));
    RQ_TRY(read_list(a, RQ_WORD_pads, 2 * n, 0, 0, pads));
    for (int i = 0; i < n; i++) {
        if (f->image[i] < 1 || f->block[i] < 1 || f->image[i] > INT32_MAX || f->block[i] > INT32_MAX)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "an image of %lld and blocks of %lld along axis %d",
                                 (long long)f->image[i], (long long)f->block[i], i);
        f->pad[i] = pads[i];
        const int64_t room = f->image[i] + pads[i] + pads[n + i] - f->dilation[i] * (f->block[i] - 1) - 1;
        if (room < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "no block of %lld fits into %lld along axis %d",
                                 (long long)f->block[i], (long long)f->image[i], i);
        f->places[i] = room / f->stride[i] + 1;
    }
    f->n = n;
    return RQ_OK;
}

static rq_status col2im_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    fold f;
    a->out_dtype[0] = a->in[0]->dtype;
    if (x->rank >= 0 && x->rank != 3)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected 3", x->rank);
    RQ_TRY(fold_of(a, &f));
    if (f.n < 0)
        return RQ_OK;
    int64_t block = 1, places = 1;
    for (int i = 0; i < f.n; i++) {
        block = rq_infer_dim_mul(block, f.block[i]);
        places = rq_infer_dim_mul(places, f.places[i]);
    }
    rq_shape *y = &a->out_shape[0];
    y->rank = 2 + f.n;
    y->dim[0] = x->rank < 0 ? RQ_DIM_UNKNOWN : x->dim[0];
    y->dim[1] = RQ_DIM_UNKNOWN;
    memcpy(y->dim + 2, f.image, (size_t)f.n * sizeof *f.image);
    if (x->rank < 0)
        return RQ_OK;
    if (block < 0 || places < 0 || (x->dim[1] >= 0 && x->dim[1] % block != 0) ||
        (x->dim[2] >= 0 && x->dim[2] != places))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "columns of [%lld,%lld] do not hold blocks of %lld at %lld places",
                             (long long)x->dim[1], (long long)x->dim[2], (long long)block, (long long)places);
    if (x->dim[1] >= 0)
        y->dim[1] = x->dim[1] / block;
    return RQ_OK;
}

/* Count v up below dim[n], last axis first; false after the last. */
static bool next(int64_t *v, const int64_t *dim, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        if (++v[i] < dim[i])
            return true;
        v[i] = 0;
    }
    return false;
}

/* Every element of the columns of one image of one channel: fn(arg, where it goes, or -1: outside), in order. */
static void fold_walk(const fold *f, void (*fn)(void *arg, int64_t at), void *arg)
{
    int64_t t[RQ_MAX_RANK] = { 0 };
    do {
        int64_t p[RQ_MAX_RANK] = { 0 };
        do {
            int64_t at = 0;
            bool inside = true;
            for (int d = 0; d < f->n; d++) {
                const int64_t v = p[d] * f->stride[d] - f->pad[d] + t[d] * f->dilation[d];
                inside &= v >= 0 && v < f->image[d];
                at = at * f->image[d] + v;
            }
            fn(arg, inside ? at : -1);
        } while (next(p, f->places, f->n));
    } while (next(t, f->block, f->n));
}

typedef struct fold_at {
    float *to;
    const float *from;
} fold_at;

static void fold_add(void *arg, int64_t at)
{
    fold_at *j = arg;
    if (at >= 0)
        j->to[at] += *j->from;
    j->from++;
}

static void fold_take(void *arg, int64_t at)
{
    fold_at *j = arg;
    *j->to++ = at >= 0 ? j->from[at] : 0;
}

static rq_status fold_at_run(const rq_op_args *a, fold *f)
{
    const rq_infer i = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    return fold_of(&i, f);
}

static rq_status col2im_f32(const rq_op_args *a)
{
    fold f;
    RQ_TRY(fold_at_run(a, &f));
    rq_tensor *y = a->out[0];
    const int64_t images = y->shape.dim[0] * y->shape.dim[1], area = rq_shape_span(&y->shape, 2, y->shape.rank);
    memset(y->data, 0, y->bytes);
    fold_at j = { .from = a->in[0]->f32 };
    for (int64_t im = 0; im < images; im++) {
        j.to = y->f32 + im * area;
        fold_walk(&f, fold_add, &j);
    }
    return RQ_OK;
}

static rq_status col2im_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    fold f;
    if (!dx || !dy || !rq_tensor_count(dy))
        return rq_grad_none(a);
    RQ_TRY(fold_at_run(a, &f));
    const int64_t images = dy->shape.dim[0] * dy->shape.dim[1], area = rq_shape_span(&dy->shape, 2, dy->shape.rank);
    fold_at j = { .to = dx->f32 };
    for (int64_t im = 0; im < images; im++) {
        j.from = dy->f32 + im * area;
        fold_walk(&f, fold_take, &j);
    }
    return RQ_OK;
}

static rq_status col2im_forward(const rq_op_args *a)
{
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_no_form(a, a->in[0]->dtype);
    return rq_tensor_count(a->out[0]) ? rq_elements_run_f32(a, col2im_f32) : RQ_OK;
}

/* ---- MaxUnpool: what MaxPool took, put back where it was; the rest is 0 ---- */

/* Sizes of the tensor that MaxPool saw; indices count in it. */
static rq_status unpool_inferred(const rq_infer *a, rq_shape *y)
{
    const rq_shape *x = &a->in[0]->shape;
    int64_t kernel[RQ_MAX_RANK], stride[RQ_MAX_RANK], pads[2 * RQ_MAX_RANK];
    int n;
    *y = *x;
    if (x->rank < 0)
        return RQ_OK;
    if (x->rank < 3 || !rq_attr_ints(a->node, RQ_WORD_kernel_shape, &n))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "the input has %d axes, expected at least 3, and kernel_shape is needed",
                             x->rank);
    n = x->rank - 2;
    RQ_TRY(read_list(a, RQ_WORD_kernel_shape, n, 1, 1, kernel));
    RQ_TRY(read_list(a, RQ_WORD_strides, n, 1, 1, stride));
    RQ_TRY(read_list(a, RQ_WORD_pads, 2 * n, 0, 0, pads));
    for (int i = 0; i < n; i++) {
        const int64_t v = x->dim[2 + i];
        int64_t size = RQ_DIM_UNKNOWN;
        if (v >= 0 && (v > INT32_MAX || (size = (v - 1) * stride[i] - pads[i] - pads[n + i] + kernel[i]) < 0))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d of %lld cannot be unpooled", 2 + i, (long long)v);
        y->dim[2 + i] = size;
    }
    return RQ_OK;
}

static rq_status unpool_infer(const rq_infer *a)
{
    rq_shape y;
    int64_t v[RQ_MAX_RANK];
    const rq_shape *x = &a->in[0]->shape, *at = &a->in[1]->shape;
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->in[1]->dtype != RQ_DTYPE_NONE && a->in[1]->dtype != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "indices have type %s, expected s64", rq_dtype_name(a->in[1]->dtype));
    bool fits = x->rank < 0 || at->rank < 0 || x->rank == at->rank;
    for (int i = 0; fits && at->rank >= 0 && i < x->rank; i++)
        fits = x->dim[i] < 0 || at->dim[i] < 0 || x->dim[i] == at->dim[i];
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "indices do not have the shape of the input");
    RQ_TRY(unpool_inferred(a, &y));
    a->out_shape[0] = y;
    if (!rq_op_input(a->in, a->n_in, 2) || y.rank < 0)
        return RQ_OK;
    const int n = rq_infer_ints(a, 2, v, RQ_MAX_RANK);
    if (n >= 0 && n != y.rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "output_shape has %d entries, expected %d", n, y.rank);
    for (int i = 0; i < y.rank; i++) {
        if (n >= 0 && y.dim[i] >= 0 && v[i] < y.dim[i])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "output_shape is %lld along axis %d, the pooled input gives %lld",
                                 (long long)v[i], i, (long long)y.dim[i]);
        a->out_shape[0].dim[i] = n < 0 ? RQ_DIM_UNKNOWN : v[i];
    }
    return RQ_OK;
}

/* The shape that was pooled, whose elements the indices count. */
static rq_status unpool_seen(const rq_op_args *a, rq_shape *seen)
{
    const rq_infer i = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    return unpool_inferred(&i, seen);
}

/* Where element `at` of what was pooled lies in y. */
static int64_t unpool_place(const rq_shape *seen, const rq_shape *y, int64_t at)
{
    int64_t to = 0, step = 1;
    for (int d = y->rank - 1; d >= 0; d--) {
        to += at % seen->dim[d] * step;
        at /= seen->dim[d];
        step *= y->dim[d];
    }
    return to;
}

static rq_status unpool_move(const rq_op_args *a)
{
    rq_shape seen;
    RQ_TRY(unpool_seen(a, &seen));
    const rq_shape *y = &a->out[0]->shape;
    const size_t elem = rq_moves_size(a->in[0]->dtype);
    const int64_t most = rq_shape_count(&seen);
    memset(a->out[0]->data, 0, a->out[0]->bytes);
    for (int64_t e = 0, n = rq_tensor_count(a->in[0]); e < n; e++) {
        const int64_t at = a->in[1]->s64[e];
        if (at < 0 || at >= most)
            return rq_op_fail(a, RQ_BAD_ARG, "index %lld is outside the %lld elements that were pooled", (long long)at,
                              (long long)most);
        memcpy(a->out[0]->u8 + (size_t)unpool_place(&seen, y, at) * elem, a->in[0]->u8 + (size_t)e * elem, elem);
    }
    return RQ_OK;
}

/* Of two elements that went to one place the last is there; indices of a MaxPool whose windows overlap are such. Both get what came, as
 * in PyTorch. */
static rq_status unpool_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_shape seen;
    if (!dx || !dy || !rq_tensor_count(dy))
        return rq_grad_none(a);
    RQ_TRY(unpool_seen(a, &seen));
    for (int64_t e = 0, n = rq_tensor_count(dx); e < n; e++) /* forward checked the indices */
        dx->f32[e] = dy->f32[unpool_place(&seen, &dy->shape, a->in[1]->s64[e])];
    return RQ_OK;
}

static rq_status unpool_forward(const rq_op_args *a)
{
    return rq_moves_run(a, unpool_move);
}

/* ---- TensorScatter: new rows written into a cache, at a place of its own for each image ---- */

static rq_status cache_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *u = &a->in[1]->shape;
    const rq_tensor *at = rq_op_input(a->in, a->n_in, 2);
    const rq_word mode = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_linear);
    RQ_TRY(rq_infer_same(a));
    if (mode != RQ_WORD_linear && mode != RQ_WORD_circular)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "mode is '%.32s', expected linear or circular",
                             rq_attr_string(a->node, RQ_WORD_mode, ""));
    if (at && at->dtype != RQ_DTYPE_NONE && at->dtype != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "write_indices has type %s, expected s64", rq_dtype_name(at->dtype));
    if (a->in[1]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != a->in[1]->dtype)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "cache and update have types %s and %s", rq_dtype_name(a->in[0]->dtype),
                             rq_dtype_name(a->in[1]->dtype));
    if (x->rank < 0 || u->rank < 0)
        return RQ_OK;
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -2), x->rank);
    if (axis < 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for a cache of %d axes, or is the batch",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, -2), x->rank);
    bool fits = x->rank == u->rank;
    for (int i = 0; fits && i < x->rank; i++)
        fits = x->dim[i] < 0 || u->dim[i] < 0 || x->dim[i] == u->dim[i] || (i == axis && u->dim[i] < x->dim[i]);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the update does not fit into the cache");
    if (at && at->shape.rank >= 0 &&
        (at->shape.rank != 1 || (at->shape.dim[0] >= 0 && x->dim[0] >= 0 && at->shape.dim[0] != x->dim[0])))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "write_indices is not one number per image");
    return RQ_OK;
}

static rq_status cache_move(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *u = &a->in[1]->shape;
    const rq_tensor *at = rq_op_input(a->in, a->n_in, 2);
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -2), x->rank);
    const bool circular = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_linear) == RQ_WORD_circular;
    const int64_t rows = x->dim[axis], fresh = u->dim[axis], each = rq_shape_span(x, 1, axis);
    const size_t run = (size_t)rq_shape_span(x, axis + 1, x->rank) * rq_moves_size(a->in[0]->dtype);
    memcpy(a->out[0]->data, a->in[0]->data, a->in[0]->bytes);
    if (rows == 0)
        return RQ_OK;
    for (int64_t b = 0; b < x->dim[0]; b++) {
        const int64_t first = at ? at->s64[b] : 0;
        if (first < 0 || first > (circular ? INT64_MAX - fresh : rows - fresh))
            return rq_op_fail(a, RQ_BAD_ARG, "write_indices[%lld] is %lld; %lld new rows go into %lld", (long long)b,
                              (long long)first, (long long)fresh, (long long)rows);
        for (int64_t e = 0; e < each; e++)
            for (int64_t r = 0; r < fresh; r++)
                memcpy(a->out[0]->u8 + (size_t)((b * each + e) * rows + (first + r) % rows) * run,
                       a->in[1]->u8 + (size_t)((b * each + e) * fresh + r) * run, run);
    }
    return RQ_OK;
}

static rq_status cache_forward(const rq_op_args *a)
{
    return rq_tensor_count(a->out[0]) ? rq_moves_run(a, cache_move) : RQ_OK;
}

const rq_op rq_op_center_crop_pad = {
    .name = "CenterCropPad",
    .domain = "",
    .since = 18,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = crop_infer,
    .forward = crop_forward,
    .backward = crop_backward,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_col2im = {
    .name = "Col2Im",
    .domain = "",
    .since = 18,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = col2im_infer,
    .forward = col2im_forward,
    .backward = col2im_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_max_unpool = {
    .name = "MaxUnpool",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = unpool_infer,
    .forward = unpool_forward,
    .backward = unpool_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_tensor_scatter = {
    .name = "TensorScatter",
    .domain = "",
    .since = 24,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cache_infer,
    .forward = cache_forward,
};
