/* ops/int_concat.c — Concat and Where on codes: an input whose parameters are the output's is copied, any other goes
 * through a table of 256 codes, rne(DQ(code) / sy) + zy (docs/onnx-facts.md 6.3; Where: 2.9). */
#include "kernels/quantize.h"
#include "ops/elements.h"
#include "ops/int_ops.h"
#include "ops/last.h"

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

/* One input's part of each row. */
typedef struct part {
    const rq_kernels *k;
    uint8_t *to;
    const uint8_t *from;
    int64_t outer, row, n, ld,
        some; /* rows in all, bytes of one, of the part, from one to the next in the part; rows of an item */
    bool same;
    uint8_t table[256];
} part;

/* Rows from..to-1 of size..2 size bytes, without a call for each: its first bytes and its last. */
static inline __attribute__((always_inline)) void copy_short(const part *p, int64_t from, int64_t to, size_t size)
{
    const uint8_t *x = p->from + from * p->ld;
    uint8_t *y = p->to + from * p->row;
    const int64_t end = p->n - (int64_t)size;
    for (int64_t o = from; o < to; o++, x += p->ld, y += p->row) {
        memcpy(y, x, size);
        memcpy(y + end, x + end, size);
    }
}

static void copy_part(void *arg, int64_t item)
{
    const part *p = arg;
    const int64_t from = item * p->some, to = p->outer < from + p->some ? p->outer : from + p->some;
    if (p->same && p->n >= 8 && p->n < 64) {
        if (p->n < 16)
            copy_short(p, from, to, 8);
        else if (p->n < 32)
            copy_short(p, from, to, 16);
        else
            copy_short(p, from, to, 32);
        return;
    }
    for (int64_t o = from; o < to; o++)
        if (p->same)
            memcpy(p->to + o * p->row, p->from + o * p->ld, (size_t)p->n);
        else
            p->k->lut8(p->to + o * p->row, p->from + o * p->ld, (size_t)p->n, p->table);
}

rq_status rq_int_concat_forward(const rq_op_args *a)
{
    enum { BYTES = 1 << 15 }; /* of an item, about */
    const rq_shape y = rq_last_shape(a->last, &a->out[0]->shape);
    const int axis = rq_last_axis(a->last, rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 1), y.rank), y.rank);
    part p = {
        .k = a->k, .outer = rq_shape_span(&y, 0, axis), .row = rq_shape_span(&y, axis, y.rank), .to = a->out[0]->u8
    };
    for (int i = 0; i < a->n_in; i++, p.to += p.n) {
        const rq_shape x = rq_last_shape(a->last, &a->in[i]->shape);
        p.n = p.ld = rq_shape_span(&x, axis, x.rank);
        if (a->in_ld && a->in_ld[i])
            p.ld = a->in_ld[i];
        p.from = a->in[i]->u8;
        if (p.from == p.to) /* it was made there */
            continue;
        p.same = rq_qparams_equal(a->in_q[i], a->out_q[0]);
        p.some = BYTES / (p.n + 1) + 1;
        if (!p.same)
            rq_int_requantize_table(p.table, a->in_q[i], a->out_q[0]);
        const int64_t items = (p.outer + p.some - 1) / p.some;
        if (p.n)
            rq_threads_for(items < 4 ? NULL : a->threads, items, copy_part, &p);
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
    const rq_shape y = rq_last_shape(a->last, &a->out[0]->shape);
    rq_shape in[3];
    for (int i = 0; i < 3; i++)
        in[i] = rq_last_operand(a->last, &a->in[i]->shape, y.rank);
    rq_elements_broadcast(&y, (const rq_shape *[]) { &in[0], &in[1], &in[2] }, 3, where_run, &w);
    return RQ_OK;
}
