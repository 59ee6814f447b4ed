/* ops/expand.c — operators that repeat elements: Expand, Tile. Neither looks at a value, so both run on codes as they stand. */
#include <string.h>

#include "ops/grad.h"
#include "ops/moves.h"
#include "ops/reduce.h"
#include "ops/samples.h"

static rq_status expand_infer(const rq_infer *a)
{
    enum { CAP = 64 };
    int64_t v[CAP], sym[CAP];
    char x[RQ_SHAPE_TEXT], y[RQ_SHAPE_TEXT];
    a->out_dtype[0] = a->in[0]->dtype;
    int n = rq_infer_ints_part(a, 1, v, sym, CAP);
    if (n < 0)
        return RQ_OK;
    if (n > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the shape has %d axes, at most %d are supported", n, RQ_MAX_RANK);
    for (int i = 0; i < n; i++) {
        if (!sym[i] && v[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the shape holds %lld", (long long)v[i]);
        v[i] = sym[i] ? sym[i] : v[i];
    }
    rq_shape want = rq_shape_of(n, v);
    if (!rq_infer_broadcast_shapes(&a->in[0]->shape, &want, &a->out_shape[0]))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "shape %s does not broadcast with %s",
                             rq_shape_text(&a->in[0]->shape, x, sizeof x), rq_shape_text(&want, y, sizeof y));
    return RQ_OK;
}

static rq_status expand_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const rq_shape *out = &a->out[0]->shape;
    int64_t in[RQ_MAX_RANK], ss[RQ_MAX_RANK], ds[RQ_MAX_RANK];
    int pad = out->rank - x->shape.rank;
    rq_moves_strides(&x->shape, in);
    rq_moves_strides(out, ds);
    for (int i = 0; i < out->rank; i++)
        ss[i] = i < pad || x->shape.dim[i - pad] == 1 ? 0 : in[i - pad];
    rq_move_nd_on(a->threads, a->out[0]->data, x->data, rq_moves_size(x->dtype), out->rank, out->dim, ds, ss);
    return RQ_OK;
}

static rq_status expand_forward(const rq_op_args *a)
{
    return rq_moves_run(a, expand_move);
}

static rq_status expand_backward(const rq_op_args *a)
{
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0))
        return rq_grad_none(a);
    return rq_grad_sum(a, rq_grad_in(a, 0), rq_grad_out(a, 0));
}

static rq_status tile_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    int64_t v[RQ_MAX_RANK], sym[RQ_MAX_RANK];
    a->out_dtype[0] = a->in[0]->dtype;
    if (in->rank < 0)
        return RQ_OK;
    a->out_shape[0].rank = in->rank;
    int n = rq_infer_ints_part(a, 1, v, sym, RQ_MAX_RANK);
    if (n >= 0 && n != in->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%d repeats for a tensor with %d axes", n, in->rank);
    for (int i = 0; i < in->rank; i++) {
        if (n >= 0 && !sym[i] && v[i] < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "repeat %lld of axis %d", (long long)v[i], i);
        a->out_shape[0].dim[i] = n < 0 ? RQ_DIM_UNKNOWN : rq_infer_dim_mul(in->dim[i], sym[i] ? sym[i] : v[i]);
        if (n >= 0 && in->dim[i] > 1 && v[i] > 1 && a->out_shape[0].dim[i] < 0 && !sym[i])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld repeats of size %lld are more than a tensor may hold",
                                 (long long)v[i], (long long)in->dim[i]);
    }
    return RQ_OK;
}

static rq_status tile_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    int r = x->shape.rank;
    int64_t in[RQ_MAX_RANK], out[RQ_MAX_RANK], dim[2 * RQ_MAX_RANK], ss[2 * RQ_MAX_RANK], ds[2 * RQ_MAX_RANK];
    rq_moves_strides(&x->shape, in);
    rq_moves_strides(&a->out[0]->shape, out);
    for (int i = 0; i < r; i++) { /* output axis i = [repeat][size] */
        int64_t size = x->shape.dim[i];
        dim[2 * i] = size ? a->out[0]->shape.dim[i] / size : 0;
        dim[2 * i + 1] = size;
        ds[2 * i] = size * out[i];
        ds[2 * i + 1] = out[i];
        ss[2 * i] = 0;
        ss[2 * i + 1] = in[i];
    }
    rq_move_nd_on(a->threads, a->out[0]->data, x->data, rq_moves_size(x->dtype), 2 * r, dim, ds, ss);
    return RQ_OK;
}

static rq_status tile_forward(const rq_op_args *a)
{
    return rq_moves_run(a, tile_move);
}

/* Output axis i is [repeat][size]: summed over the repeats. */
static rq_status tile_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dx || !dy || !rq_tensor_count(dx) || !rq_tensor_count(dy))
        return rq_grad_none(a);
    rq_reduce_plan p = { .outputs = rq_tensor_count(dx), .group = 1, .row = 1 };
    int64_t out[RQ_MAX_RANK];
    rq_moves_strides(&dy->shape, out);
    for (int i = 0; i < dx->shape.rank; i++) {
        const int64_t size = dx->shape.dim[i], repeats = dy->shape.dim[i] / size;
        p.kept[p.n_kept] = size;
        p.kept_stride[p.n_kept++] = out[i];
        p.red[p.n_red] = repeats;
        p.red_stride[p.n_red++] = size * out[i];
        p.group *= repeats;
    }
    return rq_reduce_run(a, &p, RQ_REDUCE_SUM, dx, dy);
}

/* ---- rows ---- */

const rq_op rq_op_expand = {
    .name = "Expand",
    .domain = "",
    .since = 8,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = expand_infer,
    .samples = rq_samples_expand,
    .forward = expand_forward,
    .backward = expand_backward,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_tile = {
    .name = "Tile",
    .domain = "",
    .since = 6,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = tile_infer,
    .samples = rq_samples_first,
    .forward = tile_forward,
    .backward = tile_backward,
    .gradients = RQ_OP_IN(0),
};
