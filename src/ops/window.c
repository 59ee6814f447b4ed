/* ops/window.c — attributes of sliding windows, checked and turned into numbers (ops/window.h). */
#include "ops/window.h"

#include <string.h>

enum { LIMIT = INT32_MAX };

typedef enum pad_mode { PAD_GIVEN, PAD_SAME_UPPER, PAD_SAME_LOWER, PAD_VALID } pad_mode;

/* The ints of attribute `name` to dst[0..n), left alone when absent. Bounds are inclusive. */
static rq_status read_ints(const rq_node *node, rq_word name, int64_t *dst, int n, int64_t lo, int64_t hi, rq_err *err)
{
    const rq_attr *a = rq_attr_find(node, name);
    if (!a)
        return RQ_OK;
    if (a->type != RQ_ATTR_INTS)
        return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s): attribute %s is no list of integers", node->name, node->op,
                       rq_word_text(name));
    if (a->n == 0)
        return RQ_OK;
    if (a->n != n)
        return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s): attribute %s has %d entries, expected %d", node->name,
                       node->op, rq_word_text(name), a->n, n);
    for (int i = 0; i < n; i++) {
        if (a->ints[i] < lo || a->ints[i] > hi)
            return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s): attribute %s holds %lld, expected %lld to %lld",
                           node->name, node->op, rq_word_text(name), (long long)a->ints[i], (long long)lo,
                           (long long)hi);
        dst[i] = a->ints[i];
    }
    return RQ_OK;
}

static rq_status read_pad_mode(const rq_node *n, pad_mode *mode, rq_err *err)
{
    static const rq_word words[] = { RQ_WORD_NOTSET, RQ_WORD_SAME_UPPER, RQ_WORD_SAME_LOWER, RQ_WORD_VALID };
    const rq_word w = rq_attr_word(n, RQ_WORD_auto_pad, RQ_WORD_NOTSET);
    const char *s = rq_attr_string(n, RQ_WORD_auto_pad, "");
    for (int i = 0; i < 4; i++)
        if (w == words[i]) {
            *mode = (pad_mode)i;
            return RQ_OK;
        }
    return rq_fail(err, RQ_BAD_GRAPH,
                   "node '%s' (%s): auto_pad is '%s', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID", n->name, n->op,
                   *s ? s : "empty");
}

/* Everything but pads and output sizes. kernel: the last axes of the weight, or NULL (kernel_shape is required). */
static rq_status read_window(rq_window *w, const rq_node *n, const rq_shape *x, const int64_t *kernel, rq_err *err)
{
    const int nd = x->rank - 2;
    if (nd < 1)
        return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): input has %d axes, expected at least 3", n->name, n->op,
                       x->rank);
    if (nd > 3)
        return rq_fail(err, RQ_UNSUPPORTED, "node '%s' (%s): %d spatial axes, at most 3 are supported", n->name, n->op,
                       nd);
    w->nd = nd;
    for (int i = 0; i < 3; i++) {
        w->in[i] = w->kernel[i] = w->stride[i] = w->dilation[i] = 1;
        w->pad_lo[i] = w->pad_hi[i] = 0;
    }
    const int at = 3 - nd;
    for (int i = 0; i < nd; i++)
        w->in[at + i] = x->dim[2 + i];
    int64_t shape[3] = { -1, -1, -1 };
    RQ_TRY(read_ints(n, RQ_WORD_kernel_shape, shape, nd, 1, LIMIT, err));
    for (int i = 0; i < nd; i++) {
        const int64_t given = shape[i], own = kernel ? kernel[i] : -1;
        if (given > 0 && own >= 0 && given != own)
            return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): kernel_shape says %lld, the weight has %lld", n->name,
                           n->op, (long long)given, (long long)own);
        if (own == 0 || own > LIMIT)
            return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): the weight has a kernel of size %lld", n->name, n->op,
                           (long long)own);
        if (!kernel && given < 0)
            return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s): attribute kernel_shape is missing", n->name, n->op);
        w->kernel[at + i] = given > 0 ? given : own;
    }
    RQ_TRY(read_ints(n, RQ_WORD_strides, w->stride + at, nd, 1, LIMIT, err));
    return read_ints(n, RQ_WORD_dilations, w->dilation + at, nd, 1, LIMIT, err);
}

static rq_status read_pads(rq_window *w, const rq_node *n, rq_err *err)
{
    int64_t pads[6] = { 0 };
    const int nd = w->nd, at = 3 - nd;
    RQ_TRY(read_ints(n, RQ_WORD_pads, pads, 2 * nd, 0, LIMIT, err));
    for (int i = 0; i < nd; i++) {
        w->pad_lo[at + i] = pads[i];
        w->pad_hi[at + i] = pads[nd + i];
    }
    return RQ_OK;
}

/* What the kernel spans in the input, dilation counted: below 2^62. */
static int64_t reach(const rq_window *w, int i)
{
    return (w->kernel[i] - 1) * w->dilation[i] + 1;
}

/* Output sizes of a window that shrinks (Conv, pools), and the pads of SAME. */
static rq_status slide(rq_window *w, const rq_node *n, bool ceil_mode, rq_err *err)
{
    pad_mode mode;
    RQ_TRY(read_pad_mode(n, &mode, err));
    if (mode == PAD_GIVEN)
        RQ_TRY(read_pads(w, n, err));
    for (int i = 0; i < 3; i++) {
        const int64_t in = w->in[i], s = w->stride[i];
        w->out[i] = RQ_DIM_UNKNOWN;
        if (w->kernel[i] < 0)
            continue;
        const int64_t span = reach(w, i);
        if (in < 0) { /* the size survives where nothing can change it */
            const bool same = mode == PAD_SAME_UPPER || mode == PAD_SAME_LOWER;
            if (s == 1 && (same || w->pad_lo[i] + w->pad_hi[i] == span - 1))
                w->out[i] = in;
            continue;
        }
        if (mode == PAD_SAME_UPPER || mode == PAD_SAME_LOWER) {
            w->out[i] = in / s + (in % s != 0);
            int64_t total = (w->out[i] - 1) * s + span - in;
            if (total < 0)
                total = 0;
            if (total > LIMIT)
                return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): padding of %lld is needed for an input of size %lld",
                               n->name, n->op, (long long)total, (long long)in);
            w->pad_lo[i] = mode == PAD_SAME_UPPER ? total / 2 : total - total / 2;
            w->pad_hi[i] = total - w->pad_lo[i];
            continue;
        }
        const int64_t room = in + w->pad_lo[i] + w->pad_hi[i] - span;
        if (room < 0)
            return rq_fail(err, RQ_BAD_SHAPE,
                           "node '%s' (%s): the kernel spans %lld positions, the padded input has only %lld", n->name,
                           n->op, (long long)span, (long long)(room + span));
        w->out[i] = room / s + 1;
        if (ceil_mode && room % s != 0 && w->out[i] * s < in + w->pad_lo[i])
            w->out[i]++;
    }
    return RQ_OK;
}

rq_status rq_window_conv(rq_window *w, const rq_node *n, const rq_shape *x, const rq_shape *weight, rq_err *err)
{
    if (weight->rank >= 0 && weight->rank != x->rank)
        return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): the weight has %d axes, the input %d", n->name, n->op,
                       weight->rank, x->rank);
    RQ_TRY(read_window(w, n, x, weight->rank >= 0 ? weight->dim + 2 : NULL, err));
    return slide(w, n, false, err);
}

rq_status rq_window_pool(rq_window *w, const rq_node *n, const rq_shape *x, rq_err *err)
{
    RQ_TRY(read_window(w, n, x, NULL, err));
    return slide(w, n, rq_attr_int(n, RQ_WORD_ceil_mode, 0) != 0, err);
}

rq_status rq_window_deconv(rq_window *w, const rq_node *n, const rq_shape *x, const rq_shape *weight, rq_err *err)
{
    if (weight->rank >= 0 && weight->rank != x->rank)
        return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): the weight has %d axes, the input %d", n->name, n->op,
                       weight->rank, x->rank);
    RQ_TRY(read_window(w, n, x, weight->rank >= 0 ? weight->dim + 2 : NULL, err));
    pad_mode mode;
    RQ_TRY(read_pad_mode(n, &mode, err));
    RQ_TRY(read_pads(w, n, err));
    const int nd = w->nd, at = 3 - nd;
    int64_t extra[3] = { 0 }, want[3] = { -1, -1, -1 };
    RQ_TRY(read_ints(n, RQ_WORD_output_padding, extra + at, nd, 0, LIMIT, err));
    const rq_attr *shape = rq_attr_find(n, RQ_WORD_output_shape);
    if (shape && shape->type == RQ_ATTR_INTS &&
        shape->n == nd + 2) { /* batch and channels given too, as old exports do */
        int64_t all[RQ_MAX_RANK];
        RQ_TRY(read_ints(n, RQ_WORD_output_shape, all, nd + 2, 0, LIMIT, err));
        memcpy(want + at, all + 2, (size_t)nd * sizeof *all);
    } else {
        RQ_TRY(read_ints(n, RQ_WORD_output_shape, want + at, nd, 0, LIMIT, err));
    }
    for (int i = 0; i < 3; i++) {
        const int64_t in = w->in[i], s = w->stride[i];
        w->out[i] = want[i];
        if (i < at)
            w->out[i] = 1;
        if (i < at || in < 0 || w->kernel[i] < 0)
            continue;
        const int64_t full = in > 0 ? s * (in - 1) + extra[i] + reach(w, i) : 0; /* with no padding at all */
        int64_t total = w->pad_lo[i] + w->pad_hi[i];
        if (mode == PAD_VALID)
            total = w->pad_lo[i] = 0;
        if (want[i] >= 0 || mode == PAD_SAME_UPPER || mode == PAD_SAME_LOWER) {
            w->out[i] = want[i] >= 0 ? want[i] : in * s;
            total = full - w->out[i];
            /* an output larger than what the input reaches grows at its end only, as ONNX Runtime has it */
            w->pad_lo[i] = total < 0 ? 0 : mode == PAD_SAME_UPPER ? total / 2 : total - total / 2;
        }
        w->out[i] = full - total;
        if (w->out[i] < 0 || w->out[i] > LIMIT || total > LIMIT || total < -(int64_t)LIMIT)
            return rq_fail(err, RQ_BAD_SHAPE, "node '%s' (%s): an input of size %lld would give an output of size %lld",
                           n->name, n->op, (long long)in, (long long)w->out[i]);
        w->pad_hi[i] = total - w->pad_lo[i] - extra[i]; /* extra positions are one-sided padding taken back */
    }
    return RQ_OK;
}

rq_shape rq_window_out_shape(const rq_window *w, const rq_shape *x, int64_t channels)
{
    rq_shape y = { .rank = w->nd + 2 };
    y.dim[0] = x->dim[0];
    y.dim[1] = channels;
    memcpy(y.dim + 2, w->out + 3 - w->nd, (size_t)w->nd * sizeof *y.dim);
    return y;
}

rq_status rq_window_group(const rq_node *n, int64_t *group, rq_err *err)
{
    const rq_attr *a = rq_attr_find(n, RQ_WORD_group);
    *group = 1;
    if (!a)
        return RQ_OK;
    if (a->type != RQ_ATTR_INT)
        return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s): attribute group is no integer", n->name, n->op);
    if (a->i < 1 || a->i > LIMIT)
        return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (%s): group is %lld, expected at least 1", n->name, n->op,
                       (long long)a->i);
    *group = a->i;
    return RQ_OK;
}
