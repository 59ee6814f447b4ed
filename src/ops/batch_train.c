/* ops/batch_train.c — BatchNormalization as it trains, forward only: each channel is normalized with the mean and variance of
 * this very batch, and the running ones move towards them. */
#include "ops/batch_train.h"

#include <math.h>

#include "ops/half.h"

/* Opset 14 says it with an attribute; before, the extra outputs said so. */
bool rq_batch_train_is(const rq_node *n, int64_t opset)
{
    if (opset >= 14)
        return rq_attr_int(n, "training_mode", 0) != 0;
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            return true;
    return false;
}

rq_status rq_batch_train_infer(const rq_infer *a)
{
    for (int i = 1; i < a->n_out; i++) {
        const rq_tensor *like = a->in[i == 1 || i == 3 ? 3 : 4]; /* mean, variance, and what was used of this batch */
        a->out_dtype[i] = like->dtype;
        a->out_shape[i] = like->shape;
    }
    return RQ_OK;
}

/* new = old * momentum + batch * (1 - momentum) */
static void move_running(rq_tensor *out, const rq_tensor *old, int64_t c, double batch, double momentum)
{
    if (out)
        rq_tensor_set(out, c, rq_tensor_get(old, c) * momentum + batch * (1 - momentum));
}

static rq_status train_wide(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no training form for elements of type %s",
                          rq_dtype_name(a->in[0]->dtype));
    const float *x = a->in[0]->f32;
    float *y = a->out[0]->f32;
    const int64_t channels = s->rank > 1 ? s->dim[1] : 1, area = s->rank > 1 ? rq_shape_span(s, 2, s->rank) : 1;
    const int64_t batch = s->dim[0];
    const double epsilon = rq_attr_float(a->node, "epsilon", 1e-5f),
                 momentum = rq_attr_float(a->node, "momentum", 0.9f);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, squares = 0;
        const double n = (double)batch * (double)area;
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = 0; i < area; i++)
                sum += x[(b * channels + c) * area + i];
        const double mean = sum / n;
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = 0; i < area; i++) {
                const double d = x[(b * channels + c) * area + i] - mean;
                squares += d * d;
            }
        const double var = squares / n;
        const double gain = rq_tensor_get(a->in[1], c) / sqrt(var + epsilon), bias = rq_tensor_get(a->in[2], c);
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = 0; i < area; i++) {
                const int64_t at = (b * channels + c) * area + i;
                y[at] = (float)((x[at] - mean) * gain + bias);
            }
        move_running(a->n_out > 1 ? a->out[1] : NULL, a->in[3], c, mean, momentum);
        move_running(a->n_out > 2 ? a->out[2] : NULL, a->in[4], c, var, momentum);
        if (a->n_out > 3 && a->out[3])
            rq_tensor_set(a->out[3], c, mean);
        if (a->n_out > 4 && a->out[4])
            rq_tensor_set(a->out[4], c, var);
    }
    return RQ_OK;
}

rq_status rq_batch_train_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, train_wide);
}
