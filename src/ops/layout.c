/* ops/layout.c — operators that give the same elements another shape or order: Reshape, Flatten, Squeeze, Unsqueeze,
 * Identity, Transpose, Expand, Tile, DepthToSpace, SpaceToDepth. None looks at a value, so each runs on
 * codes as it stands. Joining and cutting (Concat, Split, Slice) are in ops/slice.c. */
#include <string.h>

#include "ops/grad.h"
#include "ops/moves.h"
#include "ops/reduce.h"

/* ---- the same bytes under another shape ---- */

static rq_status copy_forward(const rq_op_args *a)
{
    if (a->in[0]->dtype == RQ_DTYPE_STRING)
        return rq_op_fail(a, RQ_UNSUPPORTED, "tensors of strings are not computed with");
    if (a->out[0])
        rq_moves_copy(a->out[0], a->in[0]);
    return RQ_OK;
}

static bool product(const int64_t *dim, int n, int64_t *out)
{
    *out = 1;
    for (int i = 0; i < n; i++)
        if (__builtin_mul_overflow(*out, dim[i], out))
            return false;
    return true;
}

/* The size that -1 stands for, as far as it follows: the input's sizes over the target's, where equal symbols
 * cancel. RQ_DIM_UNKNOWN when it does not follow, -2^62 when no size fits. */
static int64_t remaining(const rq_shape *in, const int64_t *target, int n, int skip)
{
    int64_t left[RQ_MAX_RANK], num = 1, den = 1;
    int n_left = 0;
    for (int i = 0; i < in->rank; i++)
        if (in->dim[i] < 0)
            left[n_left++] = in->dim[i];
        else if (__builtin_mul_overflow(num, in->dim[i], &num))
            return RQ_DIM_UNKNOWN;
    for (int i = 0; i < n; i++) {
        if (i == skip)
            continue;
        if (target[i] >= 0) {
            if (__builtin_mul_overflow(den, target[i], &den))
                return RQ_DIM_UNKNOWN;
            continue;
        }
        int k = 0;
        while (k < n_left && left[k] != target[i])
            k++;
        if (target[i] == RQ_DIM_UNKNOWN || k == n_left)
            return RQ_DIM_UNKNOWN;
        left[k] = left[--n_left];
    }
    if (n_left == 0)
        return den == 0 ? (num == 0 ? 0 : -(INT64_C(1) << 62)) : num % den ? -(INT64_C(1) << 62) : num / den;
    return n_left == 1 && num == den ? left[0] : RQ_DIM_UNKNOWN;
}

static rq_status reshape_infer(const rq_infer *a)
{
    enum { TARGET_CAP = 64 };
    const rq_shape *in = &a->in[0]->shape, *shape = &a->in[1]->shape;
    int64_t v[TARGET_CAP], sym[TARGET_CAP];
    char text[RQ_SHAPE_TEXT];
    bool allow_zero = rq_attr_int(a->node, "allowzero", 0);
    int n = rq_infer_ints_part(a, 1, v, sym, TARGET_CAP), free_axis = -1;
    a->out_dtype[0] = a->in[0]->dtype;
    if (n < 0) {
        if (shape->rank == 1 && shape->dim[0] >= 0 && shape->dim[0] <= RQ_MAX_RANK) {
            a->out_shape[0].rank = (int)shape->dim[0];
            for (int i = 0; i < a->out_shape[0].rank; i++)
                a->out_shape[0].dim[i] = RQ_DIM_UNKNOWN;
        }
        return RQ_OK;
    }
    if (n > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the target shape has %d axes, at most %d are supported", n,
                             RQ_MAX_RANK);
    for (int i = 0; i < n; i++) {
        if (sym[i]) {
            v[i] = sym[i];
        } else if (v[i] == 0 && !allow_zero) {
            if (in->rank >= 0 && i >= in->rank)
                return rq_infer_fail(a, RQ_BAD_SHAPE, "the target copies axis %d, the input has %d axes", i, in->rank);
            v[i] = in->rank < 0 ? RQ_DIM_UNKNOWN : in->dim[i];
        } else if (v[i] == -1) {
            if (free_axis >= 0)
                return rq_infer_fail(a, RQ_BAD_SHAPE, "the target shape has more than one -1");
            free_axis = i;
        } else if (v[i] < -1) {
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the target shape holds %lld", (long long)v[i]);
        }
    }
    if (free_axis >= 0) {
        v[free_axis] = in->rank < 0 ? RQ_DIM_UNKNOWN : remaining(in, v, n, free_axis);
        if (v[free_axis] < INT32_MIN)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "no size at -1 (axis %d of %d) fits an input of shape %s", free_axis,
                                 n, rq_shape_text(in, text, sizeof text));
    }
    rq_shape out = rq_shape_of(n, v);
    int64_t have, want;
    if (in->rank >= 0 && rq_shape_is_known(in) && rq_shape_is_known(&out))
        if (!product(v, n, &want) || !product(in->dim, in->rank, &have) || have != want) {
            char text2[RQ_SHAPE_TEXT];
            return rq_infer_fail(a, RQ_BAD_SHAPE, "an input of shape %s cannot become %s",
                                 rq_shape_text(in, text, sizeof text), rq_shape_text(&out, text2, sizeof text2));
        }
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status flatten_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    int64_t axis = rq_attr_int(a->node, "axis", 1), dim[2] = { 1, 1 };
    a->out_dtype[0] = a->in[0]->dtype;
    if (in->rank < 0) {
        a->out_shape[0] = rq_shape_of(2, (int64_t[]) { RQ_DIM_UNKNOWN, RQ_DIM_UNKNOWN });
        return RQ_OK;
    }
    if (axis < -in->rank || axis > in->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)axis, in->rank);
    axis = axis < 0 ? axis + in->rank : axis;
    for (int i = 0; i < in->rank; i++)
        dim[i >= axis] = rq_infer_dim_mul(dim[i >= axis], in->dim[i]);
    a->out_shape[0] = rq_shape_of(2, dim);
    return RQ_OK;
}

/* The axes of Squeeze and Unsqueeze: an attribute up to opset 12, an input since. Bit i of *mask: axis i of `rank`.
 * *given: there are any. RQ_NOT_FOUND: not known yet. */
static rq_status axes_mask(const rq_infer *a, int rank, unsigned *mask, bool *given)
{
    int64_t buf[RQ_MAX_RANK];
    int n = 0;
    const int64_t *axes = rq_attr_ints(a->node, "axes", &n);
    *mask = 0;
    if (a->n_in > 1 && a->in[1]) {
        n = rq_infer_ints(a, 1, buf, RQ_MAX_RANK);
        axes = buf;
        if (n < 0)
            return RQ_NOT_FOUND;
    } else if (!axes) {
        *given = false;
        return RQ_OK;
    }
    *given = true;
    for (int i = 0; i < n; i++) {
        int axis = rq_infer_axis(axes[i], rank);
        if (axis < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)axes[i], rank);
        if (*mask >> axis & 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is named twice", (long long)axes[i]);
        *mask |= 1u << axis;
    }
    return RQ_OK;
}

static rq_status squeeze_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    unsigned mask;
    bool given;
    rq_shape out = { 0 };
    a->out_dtype[0] = a->in[0]->dtype;
    if (in->rank < 0)
        return RQ_OK;
    rq_status s = axes_mask(a, in->rank, &mask, &given);
    if (s != RQ_OK)
        return s == RQ_NOT_FOUND ? RQ_OK : s;
    for (int i = 0; i < in->rank; i++) {
        if (!given && in->dim[i] < 0)
            return RQ_OK; /* whether it goes is not known */
        bool drop = given ? mask >> i & 1 : in->dim[i] == 1;
        if (drop && in->dim[i] >= 0 && in->dim[i] != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d has size %lld, only 1 can be squeezed", i,
                                 (long long)in->dim[i]);
        if (!drop)
            out.dim[out.rank++] = in->dim[i];
    }
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status unsqueeze_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (opset < 13 ? !rq_attr_find(n, "axes") : n->n_in < 2 || n->in[1] == RQ_NONE)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "no axes");
    return RQ_OK;
}

static rq_status unsqueeze_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    unsigned mask;
    bool given;
    int n = 0;
    a->out_dtype[0] = a->in[0]->dtype;
    rq_attr_ints(a->node, "axes", &n);
    if (a->n_in > 1 && a->in[1]) {
        const rq_shape *s = &a->in[1]->shape;
        if (s->rank < 0 || !rq_shape_is_known(s) || s->rank > 1)
            return RQ_OK;
        int64_t count = rq_shape_count(s);
        n = count > RQ_MAX_RANK ? RQ_MAX_RANK + 1 : (int)count;
    }
    if (in->rank < 0)
        return RQ_OK;
    if (in->rank + n > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the output has more than %d axes", RQ_MAX_RANK);
    rq_shape out = { .rank = in->rank + n };
    rq_status s = axes_mask(a, out.rank, &mask, &given);
    if (s == RQ_NOT_FOUND) {
        for (int i = 0; i < out.rank; i++)
            out.dim[i] = RQ_DIM_UNKNOWN;
        a->out_shape[0] = out;
        return RQ_OK;
    }
    RQ_TRY(s);
    for (int i = 0, k = 0; i < out.rank; i++)
        out.dim[i] = mask >> i & 1 ? 1 : in->dim[k++];
    a->out_shape[0] = out;
    return RQ_OK;
}

/* ---- another order ---- */

static rq_status transpose_perm(const rq_node *n, int rank, int *perm)
{
    int count = 0;
    const int64_t *p = rq_attr_ints(n, "perm", &count);
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
    if (rq_attr_ints(n, "perm", &count) && (count > RQ_MAX_RANK || transpose_perm(n, count, perm)))
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
        rq_attr_ints(a->node, "perm", &count);
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
    rq_moves_strides(&x->shape, in);
    rq_moves_strides(&a->out[0]->shape, ds);
    for (int i = 0; i < x->shape.rank; i++)
        ss[i] = in[perm[i]];
    rq_move_nd(a->out[0]->data, x->data, rq_moves_size(x->dtype), x->shape.rank, a->out[0]->shape.dim, ds, ss);
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
    rq_move_nd(dx->data, dy->data, sizeof(float), dx->shape.rank, dx->shape.dim, ds, ss);
    return RQ_OK;
}

/* DepthToSpace and SpaceToDepth on [N,C,H,W], b = blocksize. Both split axes to rank 6 and permute them. */
static rq_status block_infer(const rq_infer *a, bool to_space)
{
    const rq_shape *in = &a->in[0]->shape;
    int64_t b = rq_attr_int(a->node, "blocksize", 0);
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
    bool crd = strcmp(rq_attr_string(a->node, "mode", "DCR"), "CRD") == 0;
    int64_t b = rq_attr_int(a->node, "blocksize", 1), c = s->dim[1] / (b * b), h = s->dim[2], w = s->dim[3];
    /* output [N, c, h, i, w, j]; channel of the input: (i * b + j) * c_out + c, or c * b * b + i * b + j */
    int64_t dim[6] = { s->dim[0], c, h, b, w, b };
    int64_t ds[6] = { c * b * b * h * w, h * b * w * b, b * w * b, w * b, b, 1 };
    int64_t step = crd ? 1 : c;
    int64_t ss[6] = { c * b * b * h * w, (crd ? b * b : 1) * h * w, w, b * step * h * w, 1, step * h * w };
    rq_move_nd(to, from, elem, 6, dim, back ? ss : ds, back ? ds : ss);
}

static void to_depth(const rq_op_args *a, void *to, const void *from, size_t elem, bool back)
{
    const rq_shape *s = &a->in[0]->shape;
    int64_t b = rq_attr_int(a->node, "blocksize", 1), c = s->dim[1], h = s->dim[2] / b, w = s->dim[3] / b;
    /* output [N, i, j, C, h, w]; with CRD (opset 28) its channels are [C, i, j] */
    const bool crd = strcmp(rq_attr_string(a->node, "mode", "DCR"), "CRD") == 0;
    int64_t dim[6] = { s->dim[0], b, b, c, h, w };
    int64_t ds[6] = {
        b * b * c * h * w, (crd ? b : b * c) * h * w, (crd ? 1 : c) * h * w, (crd ? b * b : 1) * h * w, w, 1
    };
    int64_t ss[6] = { b * b * c * h * w, w * b, 1, h * b * w * b, b * w * b, b };
    rq_move_nd(to, from, elem, 6, dim, back ? ss : ds, back ? ds : ss);
}

static rq_status to_space_move(const rq_op_args *a)
{
    to_space(a, a->out[0]->data, a->in[0]->data, rq_moves_size(a->in[0]->dtype), false);
    return RQ_OK;
}

static rq_status to_depth_move(const rq_op_args *a)
{
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

/* ---- repetition ---- */

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
    rq_move_nd(a->out[0]->data, x->data, rq_moves_size(x->dtype), out->rank, out->dim, ds, ss);
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
    rq_move_nd(a->out[0]->data, x->data, rq_moves_size(x->dtype), 2 * r, dim, ds, ss);
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

const rq_op rq_op_reshape = {
    .name = "Reshape",
    .domain = "",
    .since = 5,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = reshape_infer,
    .forward = copy_forward,
    .backward = rq_grad_pass,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_flatten = {
    .name = "Flatten",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = flatten_infer,
    .forward = copy_forward,
    .backward = rq_grad_pass,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_squeeze = {
    .name = "Squeeze",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = squeeze_infer,
    .forward = copy_forward,
    .backward = rq_grad_pass,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_unsqueeze = {
    .name = "Unsqueeze",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .check = unsqueeze_check,
    .infer = unsqueeze_infer,
    .forward = copy_forward,
    .backward = rq_grad_pass,
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_identity = {
    .name = "Identity",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = rq_infer_same,
    .forward = copy_forward,
    .backward = rq_grad_pass,
    .gradients = RQ_OP_IN(0),
};

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
    .forward = transpose_forward,
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
    .forward = to_space_forward,
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
    .forward = to_depth_forward,
    .backward = to_depth_backward,
    .gradients = RQ_OP_IN(0),
};

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
    .forward = tile_forward,
    .backward = tile_backward,
    .gradients = RQ_OP_IN(0),
};

/* Identity on reals; its output carries other parameters than its input. Nothing is written of it in any file: it
 * becomes a QuantizeLinear behind a DequantizeLinear. */
const rq_op rq_op_requantize = {
    .name = "Requantize",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_TABLE,
    .place = RQ_PLACE_OWN,
    .infer = rq_infer_same,
    .forward = copy_forward,
};
