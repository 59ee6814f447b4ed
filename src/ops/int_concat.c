/* ops/int_concat.c — Concat on codes: an input whose parameters are the output's is copied, any other goes through a
 * table of 256 codes, rne(DQ(code) / sy) + zy (docs/onnx-facts.md 6.3). */
#include "kernels/quantize.h"
#include "ops/int_ops.h"

#include <string.h>

bool rq_int_concat_accepts(const rq_op_args *a, const char **why)
{
    for (int i = 0; i < a->n_in; i++) {
        *why = "an input is not quantized";
        if (!a->in_q[i] || !rq_int_is_activation(a->in_q[i], why))
            return false;
    }
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

static void make_table(uint8_t table[256], const rq_qparams *x, const rq_qparams *y)
{
    int32_t lo, hi;
    rq_qparams_limits(y, &lo, &hi);
    for (int i = 0; i < 256; i++) {
        const int32_t code = x->dtype == RQ_DTYPE_S8 ? (int8_t)(uint8_t)i : i;
        const float real = rq_dequantize_one(code, x->scale[0], x->zero_point[0]);
        table[i] = (uint8_t)rq_quantize_one(real, y->scale[0], y->zero_point[0], lo, hi);
    }
}

rq_status rq_int_concat_forward(const rq_op_args *a)
{
    const rq_shape *y = &a->out[0]->shape;
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 1), y->rank);
    const int64_t outer = rq_shape_span(y, 0, axis), row = rq_shape_span(y, axis, y->rank);
    int64_t at = 0;
    for (int i = 0; i < a->n_in; i++) {
        const int64_t n = rq_shape_span(&a->in[i]->shape, axis, y->rank);
        const bool same = rq_qparams_equal(a->in_q[i], a->out_q[0]);
        uint8_t table[256];
        if (!same)
            make_table(table, a->in_q[i], a->out_q[0]);
        for (int64_t o = 0; o < outer && n > 0; o++) {
            uint8_t *to = a->out[0]->u8 + o * row + at;
            const uint8_t *from = a->in[i]->u8 + o * n;
            if (same)
                memcpy(to, from, (size_t)n);
            else
                a->k->lut8(to, from, (size_t)n, table);
        }
        at += n;
    }
    return RQ_OK;
}
