/* ops/loss.c — NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: training graphs have them, and so do exports of
 * models with their loss. x [N,C,d...], labels [N,d...], weights [C]? -> a loss per label, their sum, or their mean by
 * weight. Sums in double. */
#include <math.h>

#include "ops/elements.h"
#include "ops/rows.h"

enum { SUM, MEAN, NONE };

static int reduction_of(const rq_node *n)
{
    const rq_word r = rq_attr_word(n, RQ_WORD_reduction, RQ_WORD_mean);
    return r == RQ_WORD_sum ? SUM : r == RQ_WORD_mean ? MEAN : r == RQ_WORD_none ? NONE : -1;
}

static rq_status loss_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (reduction_of(n) < 0)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "reduction is '%.32s', expected none, sum or mean",
                            rq_attr_string(n, RQ_WORD_reduction, ""));
    return RQ_OK;
}

static rq_status loss_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *t = &a->in[1]->shape;
    const rq_tensor *w = a->n_in > 2 ? a->in[2] : NULL;
    const rq_dtype d = a->in[1]->dtype;
    if (d != RQ_DTYPE_NONE && d != RQ_DTYPE_S32 && d != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "labels have type %s, expected s32 or s64", rq_dtype_name(d));
    a->out_dtype[0] = a->in[0]->dtype;
    a->out_shape[0] = reduction_of(a->node) == NONE ? *t : (rq_shape) { 0 };
    if (a->n_out > 1) {
        a->out_dtype[1] = a->in[0]->dtype;
        a->out_shape[1] = *x;
    }
    if (x->rank < 0)
        return RQ_OK;
    bool fits = x->rank >= 2 && (t->rank < 0 || t->rank == x->rank - 1);
    for (int i = 0; fits && i < t->rank; i++) {
        const int64_t have = x->dim[i ? i + 1 : 0];
        fits = have < 0 || t->dim[i] < 0 || have == t->dim[i];
    }
    if (!fits) {
        char xs[RQ_SHAPE_TEXT], ts[RQ_SHAPE_TEXT];
        return rq_infer_fail(a, RQ_BAD_SHAPE, "labels of shape %s do not go with an input of shape %s",
                             rq_shape_text(t, ts, sizeof ts), rq_shape_text(x, xs, sizeof xs));
    }
    if (w && w->shape.rank >= 0 &&
        (w->shape.rank != 1 || (w->shape.dim[0] >= 0 && x->dim[1] >= 0 && w->shape.dim[0] != x->dim[1])))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "weights are not one number per class");
    return RQ_OK;
}

/* One column of x [C] with `step` between classes: what log-softmax takes off each. */
static double log_sum(const float *x, int64_t classes, int64_t step)
{
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < classes; c++)
        most = (double)x[c * step] > most ? (double)x[c * step] : most;
    for (int64_t c = 0; c < classes; c++) {
        double e = (double)x[c * step] - most;
        rq_map_f64[RQ_MAP_EXP](&e, &e, 1, 0, 0);
        sum += e;
    }
    rq_map_f64[RQ_MAP_LOG](&sum, &sum, 1, 0, 0);
    return most + sum;
}

static rq_status loss_f32(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    const bool softmax = a->node->row == &rq_op_softmax_cross_entropy_loss;
    const rq_tensor *w = a->n_in > 2 ? a->in[2] : NULL;
    float *logs = a->n_out > 1 && a->out[1] ? a->out[1]->f32 : NULL;
    const int64_t classes = s->dim[1], area = rq_shape_span(s, 2, s->rank), n = s->dim[0] * area;
    const rq_attr *ignore = rq_attr_find(a->node, RQ_WORD_ignore_index);
    const int64_t ignored = rq_attr_int(a->node, RQ_WORD_ignore_index, 0);
    const int how = reduction_of(a->node);
    double sum = 0, weights = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t label = rq_tensor_get_int(a->in[1], i), at = i / area * classes * area + i % area;
        const bool counts = !ignore || label != ignored;
        const float *x = a->in[0]->f32 + at;
        const double off = softmax && (logs || counts) ? log_sum(x, classes, area) : 0;
        double loss = 0;
        for (int64_t c = 0; logs && c < classes; c++)
            logs[at + c * area] = (float)((double)x[c * area] - off);
        if (counts && (label < 0 || label >= classes))
            return rq_op_fail(a, RQ_BAD_DATA, "label %lld is none of %lld classes", (long long)label,
                              (long long)classes);
        if (counts) {
            const double by = w ? (double)w->f32[label] : 1;
            loss = -((double)x[label * area] - off) * by;
            weights += by;
        }
        sum += loss;
        if (how == NONE)
            a->out[0]->f32[i] = (float)loss;
    }
    if (how != NONE)
        a->out[0]->f32[0] = (float)(how == MEAN ? sum / weights : sum);
    return RQ_OK;
}

static rq_status loss_forward(const rq_op_args *a)
{
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_no_form(a, a->in[0]->dtype);
    return rq_elements_run_f32(a, loss_f32);
}

const rq_op rq_op_negative_log_likelihood_loss = {
    .name = "NegativeLogLikelihoodLoss",
    .domain = "",
    .since = 12,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = loss_check,
    .infer = loss_infer,
    .forward = loss_forward,
};

const rq_op rq_op_softmax_cross_entropy_loss = {
    .name = "SoftmaxCrossEntropyLoss",
    .domain = "",
    .since = 12,
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 2,
    .place = RQ_PLACE_FLOAT,
    .check = loss_check,
    .infer = loss_infer,
    .forward = loss_forward,
};
