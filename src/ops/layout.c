/* ops/layout.c — operators that give the same elements, in the same order, another shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity;
 * and our own Requantize, which gives the same reals other parameters. None looks at a value, so each runs on codes as it stands.
 * Another order: ops/transpose.c; repetition: ops/expand.c; joining and cutting (Concat, Split, Slice): ops/slice.c. */
#include <string.h>

#include "ops/grad.h"
#include "ops/last.h"
#include "ops/moves.h"
#include "ops/reduce.h"
#include "ops/samples.h"

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
    bool allow_zero = rq_attr_int(a->node, RQ_WORD_allowzero, 0);
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
    int64_t axis = rq_attr_int(a->node, RQ_WORD_axis, 1), dim[2] = { 1, 1 };
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
    const int64_t *axes = rq_attr_ints(a->node, RQ_WORD_axes, &n);
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
    if (opset < 13 ? !rq_attr_find(n, RQ_WORD_axes) : n->n_in < 2 || n->in[1] == RQ_NONE)
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
    rq_attr_ints(a->node, RQ_WORD_axes, &n);
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
    .flags = RQ_OP_MOVES | RQ_OP_VIEW | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = reshape_infer,
    .samples = rq_samples_order,
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
    .flags = RQ_OP_MOVES | RQ_OP_VIEW | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = flatten_infer,
    .samples = rq_samples_order,
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
    .flags = RQ_OP_MOVES | RQ_OP_VIEW | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = squeeze_infer,
    .samples = rq_samples_order,
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
    .flags = RQ_OP_MOVES | RQ_OP_VIEW | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .check = unsqueeze_check,
    .infer = unsqueeze_infer,
    .samples = rq_samples_order,
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
    .flags = RQ_OP_MOVES | RQ_OP_VIEW | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = rq_infer_same,
    .samples = rq_samples_first,
    .forward = copy_forward,
    .last = rq_last_can,
    .backward = rq_grad_pass,
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
