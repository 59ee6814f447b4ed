/* ops/int_concat.c — Concat and Where on codes: an input whose parameters are the output's is copied, any other goes
 * through a table of 256 codes, rne(DQ(code) / sy) + zy (docs/onnx-facts.md 6.3; Where: 2.9). */
#include "kernels/quantize.h"
#include "ops/elements.h"
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
            rq_int_requantize_table(table, a->in_q[i], a->out_q[0]);
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

/* ---- Where ---- */

bool rq_int_where_accepts(const rq_op_args *a, const char **why)
{
    for (int i = 1; i < 3; i++) {
        *why = "an input is not quantized";
        if (!a->in_q[i] || !rq_int_is_activation(a->in_q[i], why))
            return false;
    }
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

enum { TILE = 256 };

typedef struct where_job {
    const rq_kernels *k;
    const uint8_t *c, *x, *z;
    uint8_t *y;
    uint8_t of_x[256], of_z[256];
} where_job;

static void where_run(void *arg, int64_t o, const int64_t *at, const int64_t *step, int64_t n)
{
    const where_job *w = arg;
    const uint8_t *c = w->c + at[0], *x = w->x + at[1], *z = w->z + at[2];
    uint8_t *y = w->y + o, of_x[TILE], of_z[TILE];
    if (step[0] != 1 || n < 16) {
        for (int64_t i = 0; i < n; i++)
            y[i] = c[i * step[0]] ? w->of_x[x[i * step[1]]] : w->of_z[z[i * step[2]]];
        return;
    }
    memset(of_x, w->of_x[*x], sizeof of_x);
    memset(of_z, w->of_z[*z], sizeof of_z);
    for (int64_t from = 0; from < n; from += TILE) {
        const int64_t some = n - from < TILE ? n - from : TILE;
        if (step[1])
            w->k->lut8(of_x, x + from, (size_t)some, w->of_x);
        if (step[2])
            w->k->lut8(of_z, z + from, (size_t)some, w->of_z);
        for (int64_t i = 0; i < some; i++) {
            const uint8_t take = (uint8_t) - (c[from + i] != 0);
            y[from + i] = (uint8_t)((of_x[i] & take) | (of_z[i] & ~take));
        }
    }
}

rq_status rq_int_where_forward(const rq_op_args *a)
{
    where_job w = { .k = a->k, .c = a->in[0]->u8, .x = a->in[1]->u8, .z = a->in[2]->u8, .y = a->out[0]->u8 };
    rq_int_requantize_table(w.of_x, a->in_q[1], a->out_q[0]);
    rq_int_requantize_table(w.of_z, a->in_q[2], a->out_q[0]);
    rq_elements_broadcast(&a->out[0]->shape,
                          (const rq_shape *[]) { &a->in[0]->shape, &a->in[1]->shape, &a->in[2]->shape }, 3, where_run,
                          &w);
    return RQ_OK;
}
