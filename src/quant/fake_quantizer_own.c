/* quant/fake_quantizer_own.c — a fake-quantizer of the program, seen as one of the library's kinds. Creation and the arrays of its
 * parameters are in fake_quantizer.c, its state in fake_quantizer_state.c. */
#include "quant/fake_quantizer.h"

static rq_status forward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *mask,
                         const rq_strided *x, rq_err *err)
{
    (void)mask;
    return q->cfg.own->forward(q->state, e, y, x, err);
}

static rq_status backward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                          const rq_strided *x, rq_err *err)
{
    if (!q->cfg.own->backward)
        return rq_fail(err, RQ_UNSUPPORTED, "the fake-quantizer %s has no backward", q->cfg.own->name);
    return q->cfg.own->backward(q->state, e, dx, dy, x, err);
}

static rq_status qparams(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    return q->cfg.own->qparams(q->state, out, zero_point_f, err);
}

const rq_fake_quantizer_row rq_fake_quantizer_own = {
    .name = "OwnFakeQuantize",
    .forward = forward,
    .backward = backward,
    .qparams = qparams,
};
