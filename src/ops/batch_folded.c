/* ops/batch_folded.c — what stands around a convolution whose batch norm is folded into its weights while it is trained with quantization
 * simulated, in domain "requant":
 *
 *   k  = BatchNormScale(gamma, running_var){epsilon}                 gamma / sqrt(running_var + epsilon), [C]
 *   wk = ScaleChannels(w, k){axis, group}                            w times k of its output channel
 *   y  = FoldedBatchNorm(c, k, bias?, gamma, beta, mean, var){epsilon, momentum}    of c = conv(x, quantized wk): ops/batch_train.h
 *
 * epsilon and momentum as of BatchNormalization. */
#include <math.h>
#include <string.h>

#include "ops/batch_train.h"

/* ---- BatchNormScale ---- */

static rq_status scale_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    RQ_TRY(rq_infer_one_type(a, 1, 2));
    const rq_shape *g = &a->in[0]->shape, *v = &a->in[1]->shape;
    if ((g->rank >= 0 && g->rank != 1) || (v->rank >= 0 && v->rank != 1) ||
        (g->rank == 1 && v->rank == 1 && g->dim[0] >= 0 && v->dim[0] >= 0 && g->dim[0] != v->dim[0]))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "weight and variance do not have one entry per channel each");
    return RQ_OK;
}

/* In f32 step by step, as PyTorch has it: at the end of a channel's range the last bit decides whether a weight is inside. */
static rq_status scale_forward(const rq_op_args *a)
{
    const float epsilon = rq_attr_float(a->node, RQ_WORD_epsilon, 1e-5f);
    double *inv = a->training ? a->training->saved : NULL; /* the variance moves before backward comes */
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_op_no_form(a, a->in[0]->dtype);
    for (int64_t c = 0, n = rq_tensor_count(a->in[0]); c < n; c++) {
        const float root = sqrtf(a->in[1]->f32[c] + epsilon);
        a->out[0]->f32[c] = a->in[0]->f32[c] / root;
        if (inv)
            inv[c] = 1 / (double)root;
    }
    return RQ_OK;
}

static rq_status scale_backward(const rq_op_args *a)
{
    const double *inv = a->training->saved;
    const rq_tensor *dk = a->training->grad_out[0];
    rq_tensor *dgamma = a->training->grad_in[0];
    for (int64_t c = 0, n = dgamma ? rq_tensor_count(dgamma) : 0; c < n; c++)
        dgamma->f32[c] = dk ? (float)(dk->f32[c] * inv[c]) : 0;
    return RQ_OK;
}

static size_t scale_saved(const rq_op_args *a)
{
    return (size_t)rq_shape_count(&a->in[0]->shape) * sizeof(double);
}

/* ---- ScaleChannels ---- */

/* w as [group][outer][channels][inner]: element (g, o, d, i) belongs to channel g * channels + d. */
typedef struct blocks {
    int64_t group, outer, channels, inner;
} blocks;

static bool blocks_of(blocks *b, const rq_node *n, const rq_shape *w)
{
    const int64_t group = rq_attr_int(n, RQ_WORD_group, 1);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), w->rank);
    if (axis < 0 || group < 1 || (group > 1 && (axis == 0 || w->dim[0] % group != 0)))
        return false;
    const int64_t outer = rq_shape_span(w, 0, axis);
    *b = (blocks) { group, outer / group, w->dim[axis], rq_shape_span(w, axis + 1, w->rank) };
    return true;
}

static rq_status channels_infer(const rq_infer *a)
{
    blocks b;
    const rq_shape *w = &a->in[0]->shape, *k = &a->in[1]->shape;
    RQ_TRY(rq_infer_same(a));
    RQ_TRY(rq_infer_one_type(a, 1, 2));
    if (!rq_shape_is_known(w) || !rq_shape_is_known(k))
        return RQ_OK;
    if (!blocks_of(&b, a->node, w))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "axis %lld and group %lld do not fit weights of %d axes",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, 0),
                             (long long)rq_attr_int(a->node, RQ_WORD_group, 1), w->rank);
    if (k->rank != 1 || k->dim[0] != b.group * b.channels)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "there are %lld factors, expected one for each of %lld channels",
                             (long long)rq_shape_count(k), (long long)(b.group * b.channels));
    return RQ_OK;
}

typedef struct channels_job {
    const rq_op_args *a;
    blocks b;
    const float *k;
} channels_job;

/* y = x k, one channel. */
static void multiply_channel(const channels_job *j, float *y, const float *x, int64_t channel)
{
    const blocks *b = &j->b;
    const int64_t g = channel / b->channels, d = channel % b->channels;
    for (int64_t o = 0; o < b->outer; o++) {
        const int64_t at = ((g * b->outer + o) * b->channels + d) * b->inner;
        j->a->k->zip[RQ_ZIP_MUL](y + at, x + at, 1, &j->k[channel], 0, (size_t)b->inner);
    }
}

static void forward_channel(void *arg, int64_t channel)
{
    const channels_job *j = arg;
    multiply_channel(j, j->a->out[0]->f32, j->a->in[0]->f32, channel);
}

static rq_status channels_forward(const rq_op_args *a)
{
    channels_job j = { .a = a, .k = a->in[1]->f32 };
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_op_no_form(a, a->in[0]->dtype);
    blocks_of(&j.b, a->node, &a->in[0]->shape);
    rq_threads_for(a->threads, j.b.group * j.b.channels, forward_channel, &j);
    return RQ_OK;
}

static void backward_one(void *arg, int64_t channel)
{
    const channels_job *j = arg;
    const blocks *b = &j->b;
    const float *dy = j->a->training->grad_out[0]->f32, *w = j->a->in[0]->f32;
    rq_tensor *dw = j->a->training->grad_in[0], *dk = j->a->training->grad_in[1];
    const int64_t g = channel / b->channels, d = channel % b->channels;
    if (dk) {
        rq_bn_sums s = { { 0 }, { 0 } };
        for (int64_t o = 0; o < b->outer; o++) {
            const int64_t at = ((g * b->outer + o) * b->channels + d) * b->inner;
            j->a->k->bn.products(&s, dy + at, w + at, (size_t)b->inner, 0, 0);
        }
        dk->f32[channel] = (float)rq_bn_join(s.b);
    }
    if (dw)
        multiply_channel(j, dw->f32, dy, channel);
}

static rq_status channels_backward(const rq_op_args *a)
{
    channels_job j = { .a = a, .k = a->in[1]->f32 };
    if (!a->training->grad_out[0]) {
        for (int i = 0; i < 2; i++)
            if (a->training->grad_in[i])
                memset(a->training->grad_in[i]->data, 0, a->training->grad_in[i]->bytes);
        return RQ_OK;
    }
    blocks_of(&j.b, a->node, &a->in[0]->shape);
    rq_threads_for(a->threads, j.b.group * j.b.channels, backward_one, &j);
    return RQ_OK;
}

/* ---- FoldedBatchNorm ---- */

static rq_status folded_infer(const rq_infer *a)
{
    static const char *const what[] = { "", "k", "bias", "weight", "bias of the norm", "mean", "variance" };
    const rq_shape *x = &a->in[0]->shape;
    RQ_TRY(rq_infer_same(a));
    RQ_TRY(rq_infer_one_type(a, 1, 7));
    if (x->rank >= 0 && x->rank < 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 2", x->rank);
    for (int i = 1; i < 7; i++) {
        if (!a->in[i]) {
            if (i != 2)
                return rq_infer_fail(a, RQ_BAD_GRAPH, "%s is left out", what[i]);
            continue;
        }
        const rq_shape *s = &a->in[i]->shape;
        if (s->rank >= 0 &&
            (s->rank != 1 || (x->rank > 1 && x->dim[1] >= 0 && s->dim[0] >= 0 && s->dim[0] != x->dim[1])))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%s does not have one entry per channel", what[i]);
    }
    return RQ_OK;
}

static size_t folded_scratch(const rq_op_args *a, bool integer)
{
    return integer ? 0 : rq_batch_train_scratch(a);
}

/* ---- rows ---- */

const rq_op rq_op_batch_norm_scale = {
    .name = "BatchNormScale",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = scale_infer,
    .forward = scale_forward,
    .backward = scale_backward,
    .gradients = RQ_OP_IN(0),
    .parameters = RQ_OP_IN(0),
    .saved = scale_saved,
};

const rq_op rq_op_scale_channels = {
    .name = "ScaleChannels",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = channels_infer,
    .forward = channels_forward,
    .backward = channels_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(0),
};

/* All but the bias are there. */
static rq_status folded_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    (void)opset;
    for (int i = 0; i < 7; i++)
        if (i != 2 && (i >= n->n_in || n->in[i] == RQ_NONE))
            return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "input %d is left out, but the operator needs it", i);
    return RQ_OK;
}

const rq_op rq_op_folded_batch_norm = {
    .name = "FoldedBatchNorm",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 7,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .check = folded_check,
    .infer = folded_infer,
    .forward = rq_batch_train_forward,
    .backward = rq_batch_train_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4),
    .parameters = RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4),
    .statistics = RQ_OP_IN(5) | RQ_OP_IN(6),
    .saved = rq_batch_train_saved,
    .scratch = folded_scratch,
    .scratch_backward = rq_batch_train_scratch_backward,
};
