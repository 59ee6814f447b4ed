/* algo/bias.c — biases as s32 with the scale of the products they are added to: scale(x) * scale(w)[c], zero point 0
 * (docs/onnx-facts.md 4.7). Where that scale is so small that the bias would not fit, annotate.c has raised the
 * weight's. */
#include "algo/annotate.h"

#include <math.h>

#include "kernels/quantize.h"

double rq_bias_least_scale(double b, double x_scale, rq_compat compat)
{
    return 2 * fabs(b) * (compat ? 1.0001 : 1 + 1e-6) / 4294967294.0 / x_scale;
}

rq_status rq_bias_quantize(rq_graph *g, rq_id node, rq_id bias, rq_notes *notes, rq_err *err)
{
    rq_id x = g->nodes[node].in[0], w = g->nodes[node].in[1];
    const rq_qparams *x_q = rq_graph_qparams(g, x), *w_q = rq_graph_qparams(g, w);
    const rq_tensor *b = &g->values[bias].constant;
    const int64_t n = rq_tensor_count(b);
    const bool one = w_q->n == 1;
    rq_qparams q;
    if (rq_qparams_init(&q, RQ_DTYPE_S32, one ? RQ_PER_TENSOR : b->shape.rank - 1, 0, one ? 1 : n))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory quantizing '%s'", g->values[bias].name);
    rq_tensor codes;
    rq_status st = rq_tensor_create(&codes, RQ_DTYPE_S32, &b->shape, false);
    if (st) {
        rq_qparams_release(&q);
        return rq_fail(err, st, "out of memory quantizing '%s'", g->values[bias].name);
    }
    int64_t clipped = 0;
    for (int64_t c = 0; c < n; c++) {
        const float w_scale = w_q->scale[one ? 0 : c];
        const float v = b->f32[c];
        q.scale[one ? 0 : c] = x_q->scale[0] * w_scale;
        codes.s32[c] = rq_quantize_bias(v, x_q->scale[0], w_scale);
        clipped += codes.s32[c] == INT32_MAX || codes.s32[c] == INT32_MIN;
    }
    rq_id id;
    st = rq_graph_add_quant(g, &id, &q, "derived");
    if (st) {
        rq_qparams_release(&q);
        rq_tensor_release(&codes);
        return rq_fail(err, st, "out of memory quantizing '%s'", g->values[bias].name);
    }
    g->quants[id].derived_x = x;
    g->quants[id].derived_w = w;
    if (clipped)
        st = rq_notes_add(notes, "bias of '%s' clips in %lld channels", g->nodes[node].name, (long long)clipped);
    if (!st)
        st = rq_annotate_constant(g, node, 2, &codes, id, err);
    rq_tensor_release(&codes);
    return st;
}
