/* ops/conv_grad.c — Conv and ConvTranspose backward: y = conv(x, w) + b is linear in each of the three, so every gradient is a
 * convolution again (kernels/conv_grad). */
#include <string.h>

#include "kernels/conv_grad.h"
#include "ops/conv.h"

static float *wanted(const rq_op_args *a, int i)
{
    return i < a->n_in && a->training->grad_in[i] ? a->training->grad_in[i]->f32 : NULL;
}

static bool is_zero(const rq_op_args *a)
{
    return !a->training->grad_out[0] || rq_conv_is_empty(a);
}

rq_status rq_conv_prepare_backward(const rq_op_args *a, void **state)
{
    rq_conv_geom g;
    rq_conv_grad *c = NULL;
    unsigned want = RQ_CONV_GRAD_X | RQ_CONV_GRAD_W;
    if (a->training && a->training->grad_in)
        want = (a->training->grad_in[0] ? RQ_CONV_GRAD_X : 0u) | (a->training->grad_in[1] ? RQ_CONV_GRAD_W : 0u);
    if (!rq_conv_is_empty(a)) {
        RQ_TRY(rq_conv_geometry(a, &g));
        const rq_status s = rq_conv_grad_create(&c, a->k, &g, want, rq_threads_count(a->threads));
        if (s != RQ_OK)
            return s == RQ_INTERNAL ? rq_op_fail(a, s, "oneDNN failed") : s;
    }
    *state = c;
    return RQ_OK;
}

void rq_conv_release_backward(void *state)
{
    rq_conv_grad_destroy(state);
}

size_t rq_conv_scratch_backward(const rq_op_args *a)
{
    const rq_conv_grad *c = a->training ? a->training->state : NULL;
    return c ? rq_conv_grad_scratch(c) : 0;
}

rq_status rq_conv_backward(const rq_op_args *a)
{
    float *dx = wanted(a, 0), *dw = wanted(a, 1), *db = wanted(a, 2);
    if (is_zero(a)) {
        for (int i = 0; i < a->n_in && i < 3; i++)
            if (wanted(a, i))
                memset(wanted(a, i), 0, (size_t)rq_tensor_count(a->training->grad_in[i]) * sizeof(float));
        if (!db || !a->training->grad_out[0])
            return RQ_OK;
    }
    const float *dy = a->training->grad_out[0]->f32;
    if (rq_conv_is_empty(a)) { /* y is the bias */
        const rq_shape *y = &a->out[0]->shape;
        const int64_t n = rq_shape_count(y), area = n ? rq_shape_span(y, 2, y->rank) : 1;
        for (int64_t i = 0; i < n; i++)
            db[i / area % y->dim[1]] += dy[i];
        return RQ_OK;
    }
    const rq_conv_grad *c = a->training->state;
    const rq_status s = rq_conv_grad_run(c, dx, dw, db, dy, a->in[0]->f32, a->in[1]->f32, a->scratch, a->threads);
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "oneDNN failed: %s", rq_status_text(s));
}
