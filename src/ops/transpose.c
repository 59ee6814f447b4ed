/* ops/transpose.c — operators that put the same elements into another order: Transpose, DepthToSpace, SpaceToDepth. None looks at a
 * value, so each runs on codes as it stands. */

#include "ops/grad.h"
#include "ops/last.h"
#include "ops/moves.h"
#include "ops/samples.h"

static rq_status transpose_perm(const rq_node *n, int rank, int *perm)
{
    int count = 0;
    const int64_t *p = rq_attr_ints(n, RQ_WORD_perm, &count);
    unsigned seen = 0;
    if (p && count != rank)
        return RQ_BAD_SHAPE;
    for (int i = 0; i < rank; i++) {
        int64_t axis = p ? p[i] : rank - 1 - i;
        if (axis < 0 || axis >= rank || seen >> axis & 1)
            return RQ_BAD_SHAPE;
        seen |= 1u << axis;
        perm[i] = (int)axis;
    }
    return RQ_OK;
}

static rq_status transpose_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    int count = 0, perm[RQ_MAX_RANK];
    if (rq_attr_ints(n, RQ_WORD_perm, &count) && (count > RQ_MAX_RANK || transpose_perm(n, count, perm)))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "perm is no permutation of 0..%d", count - 1);
    return RQ_OK;
}

static rq_status transpose_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    int perm[RQ_MAX_RANK], count = 0;
    a->out_dtype[0] = a->in[0]->dtype;
    if (in->rank < 0)
        return RQ_OK;
    if (transpose_perm(a->node, in->rank, perm)) {
        rq_attr_ints(a->node, RQ_WORD_perm, &count);
        return rq_infer_fail(a, RQ_BAD_SHAPE, "perm has %d entries, the input has %d axes", count, in->rank);
    }
    a->out_shape[0].rank = in->rank;
    for (int i = 0; i < in->rank; i++)
        a->out_shape[0].dim[i] = in->dim[perm[i]];
    return RQ_OK;
}

static rq_status transpose_move(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    int perm[RQ_MAX_RANK];
    int64_t in[RQ_MAX_RANK], ss[RQ_MAX_RANK], ds[RQ_MAX_RANK];
    RQ_TRY(transpose_perm(a->node, x->shape.rank, perm));
    const rq_shape y = rq_last_shape(a->last, &a->out[0]->shape);
    rq_moves_strides_of(a->last, &x->shape, in);
    rq_moves_strides(&y, ds);
    for (int i = 0; i < x->shape.rank; i++)
        ss[i] = in[perm[i]];
    rq_last_axes(a->last, x->shape.rank, ss);
    rq_move_nd_on(a->threads, a->out[0]->data, x->data, rq_moves_size(x->dtype), x->shape.rank, y.dim, ds, ss);
    return RQ_OK;
}

static rq_status transpose_forward(const rq_op_args *a)
{
    return rq_moves_run(a, transpose_move);
}

static rq_status transpose_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    int perm[RQ_MAX_RANK];
    int64_t out[RQ_MAX_RANK], ss[RQ_MAX_RANK], ds[RQ_MAX_RANK];
    if (!dx || !dy)
        return rq_grad_none(a);
    RQ_TRY(transpose_perm(a->node, dx->shape.rank, perm));
    rq_moves_strides(&a->out[0]->shape, out);
    rq_moves_strides(&dx->shape, ds);
    for (int i = 0; i < dx->shape.rank; i++)
        ss[perm[i]] = out[i];
    rq_move_nd_on(a->threads, dx->data, dy->data, sizeof(float), dx->shape.rank, dx->shape.dim, ds, ss);
    return RQ_OK;
}

/* DepthToSpace and SpaceToDepth on [N,C,H,W], b = blocksize. Both split axes to rank 6 and permute them. */
static rq_status block_infer(const rq_infer *a, bool to_space)
{
    const rq_shape *in = &a->in[0]->shape;
    int64_t b = rq_attr_int(a->node, RQ_WORD_blocksize, 0);
    a->out_dtype[0] = a->in[0]->dtype;
    if (b < 1 || b > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "blocksize is %lld, expected a positive number", (long long)b);
    if (in->rank < 0)
        return RQ_OK;
    if (in->rank != 4)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected 4", in->rank);
    rq_shape out = *in;
    if (to_space) {
        if (in->dim[1] >= 0 && in->dim[1] % (b * b))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld channels do not divide into blocks of %lld x %lld",
                                 (long long)in->dim[1], (long long)b, (long long)b);
        out.dim[1] = b == 1 ? in->dim[1] : in->dim[1] < 0 ? RQ_DIM_UNKNOWN : in->dim[1] / (b * b);
        out.dim[2] = rq_infer_dim_mul(in->dim[2], b);
        out.dim[3] = rq_infer_dim_mul(in->dim[3], b);
    } else {
        for (int i = 2; i < 4; i++) {
            if (in->dim[i] >= 0 && in->dim[i] % b)
                return rq_infer_fail(a, RQ_BAD_SHAPE, "size %lld of axis %d is no multiple of blocksize %lld",
                                     (long long)in->dim[i], i, (long long)b);
            out.dim[i] = b == 1 ? in->dim[i] : in->dim[i] < 0 ? RQ_DIM_UNKNOWN : in->dim[i] / b;
        }
        out.dim[1] = rq_infer_dim_mul(in->dim[1], b * b);
    }
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status to_space_infer(const rq_infer *a)
{
    return block_infer(a, true);
}

static rq_status to_depth_infer(const rq_infer *a)
{
    return block_infer(a, false);
}

/* `back` moves the other way, from `from` to `to` of the output's and the input's shape. */
static void to_space(const rq_op_args *a, void *to, const void *from, size_t elem, bool back)
{
    const rq_shape *s = &a->in[0]->shape;
    bool crd = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_DCR) == RQ_WORD_CRD;
    int64_t b = rq_attr_int(a->node, RQ_WORD_blocksize, 1), c = s->dim[1] / (b * b), h = s->dim[2], w = s->dim[3];
    /* output [N, c, h, i, w, j]; channel of the input: (i * b + j) * c_out + c, or c * b * b + i * b + j */
    int64_t dim[6] = { s->dim[0], c, h, b, w, b };
    int64_t ds[6] = { c * b * b * h * w, h * b * w * b, b * w * b, w * b, b, 1 };
    int64_t step = crd ? 1 : c;
    int64_t ss[6] = { c * b * b * h * w, (crd ? b * b : 1) * h * w, w, b * step * h * w, 1, step * h * w };
    rq_move_nd_on(a->threads, to, from, elem, 6, dim, back ? ss : ds, back ? ds : ss);
}

static void to_depth(const rq_op_args *a, void *to, const void *from, size_t elem, bool back)
{
    const rq_shape *s = &a->in[0]->shape;
    int64_t b = rq_attr_int(a->node, RQ_WORD_blocksize, 1), c = s->dim[1], h = s->dim[2] / b, w = s->dim[3] / b;
    /* output [N, i, j, C, h, w]; with CRD (opset 28) its channels are [C, i, j] */
    const bool crd = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_DCR) == RQ_WORD_CRD;
    int64_t dim[6] = { s->dim[0], b, b, c, h, w };
    int64_t ds[6] = {
        b * b * c * h * w, (crd ? b : b * c) * h * w, (crd ? 1 : c) * h * w, (crd ? b * b : 1) * h * w, w, 1
    };
    int64_t ss[6] = { b * b * c * h * w, w * b, 1, h * b * w * b, b * w * b, b };
    rq_move_nd_on(a->threads, to, from, elem, 6, dim, back ? ss : ds, back ? ds : ss);
}

/* The same of channels-last codes: between [N, h, w, i, j, c] and [N, h, i, w, j, c], whose channels are [i, j, c] or, with CRD, [c, i, j]. */
static void move_blocks_last(const rq_op_args *a, int64_t c, int64_t h, int64_t w, bool to_depth)
{
    const bool crd = rq_attr_word(a->node, RQ_WORD_mode, RQ_WORD_DCR) == RQ_WORD_CRD;
    const int64_t b = rq_attr_int(a->node, RQ_WORD_blocksize, 1), deep = c * b * b;
    const int64_t dim[6] = { a->in[0]->shape.dim[0], h, b, w, b, c };
    const int64_t in_space[6] = { h * w * deep, b * w * b * c, w * b * c, b * c, c, 1 };
    const int64_t in_depth[6] = { h * w * deep, w * deep, crd ? b : b * c, deep, crd ? 1 : c, crd ? b * b : 1 };
    rq_move_nd_on(a->threads, a->out[0]->data, a->in[0]->data, 1, 6, dim, to_depth ? in_depth : in_space,
                  to_depth ? in_space : in_depth);
}

static rq_status to_space_move(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    if (a->last) {
        move_blocks_last(a, y->dim[1], x->dim[2], x->dim[3], false);
        return RQ_OK;
    }
    to_space(a, a->out[0]->data, a->in[0]->data, rq_moves_size(a->in[0]->dtype), false);
    return RQ_OK;
}

static rq_status to_depth_move(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    if (a->last) {
        move_blocks_last(a, x->dim[1], y->dim[2], y->dim[3], true);
        return RQ_OK;
    }
    to_depth(a, a->out[0]->data, a->in[0]->data, rq_moves_size(a->in[0]->dtype), false);
    return RQ_OK;
}

static rq_status to_space_backward(const rq_op_args *a)
{
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0))
        return rq_grad_none(a);
    to_space(a, rq_grad_in(a, 0)->data, rq_grad_out(a, 0)->data, sizeof(float), true);
    return RQ_OK;
}

static rq_status to_depth_backward(const rq_op_args *a)
{
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0))
        return rq_grad_none(a);
    to_depth(a, rq_grad_in(a, 0)->data, rq_grad_out(a, 0)->data, sizeof(float), true);
    return RQ_OK;
}

static rq_status to_space_forward(const rq_op_args *a)
{
    return rq_moves_run(a, to_space_move);
}

static rq_status to_depth_forward(const rq_op_args *a)
{
    return rq_moves_run(a, to_depth_move);
}

/* ---- rows ---- */

const rq_op rq_op_transpose = {
    .name = "Transpose",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .check = transpose_check,
    .infer = transpose_infer,
    .samples = rq_samples_transpose,
    .forward = transpose_forward,
    .last = rq_last_can,
    .backward = transpose_backward,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_depth_to_space = {
    .name = "DepthToSpace",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = to_space_infer,
    .samples = rq_samples_first,
    .forward = to_space_forward,
    .last = rq_last_can,
    .backward = to_space_backward,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_space_to_depth = {
    .name = "SpaceToDepth",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = to_depth_infer,
    .samples = rq_samples_first,
    .forward = to_depth_forward,
    .last = rq_last_can,
    .backward = to_depth_backward,
    .gradients = RQ_OP_IN(0),
};
