/* ops/int_gather.c — Gather from a large constant table of codes to reals: rows are fetched as codes of 2 to 16 bits and
 * dequantized then, so that the float table never exists. Smaller tables are dequantized once when the plan is made. */
#include "kernels/quantize.h"
#include "ops/int_ops.h"
#include "ops/int_pick.h"
#include "quant/codes.h"

enum { LARGE = 1 << 18, PART = 256 }; /* elements from which a float copy is not made; worked on at once */

bool rq_int_gather_accepts(const rq_op_args *a, const char **why)
{
    *why = "input and output have different scales";
    return a->in_q[0] && !a->in_q[1] && !a->out_q[0] && a->in[0]->data && a->out[0]->dtype == RQ_DTYPE_F32 &&
           rq_dtype_bits(a->in_q[0]->dtype) <= 16 && rq_tensor_count(a->in[0]) >= LARGE;
}

/* First element behind e whose scale may be another one. */
static int64_t scale_end(const rq_qparams *q, const rq_shape *s, int64_t e)
{
    if (q->axis == RQ_PER_TENSOR)
        return rq_shape_count(s);
    const int64_t inner = rq_shape_span(s, q->axis + 1, s->rank);
    if (!q->block)
        return (e / inner + 1) * inner;
    if (inner > 1)
        return e + 1;
    const int64_t size = s->dim[q->axis], row = e / size * size, end = row + ((e - row) / q->block + 1) * q->block;
    return end < row + size ? end : row + size;
}

static void fetch(const rq_op_args *a, float *dst, int64_t from, int64_t n)
{
    const rq_qparams *q = a->in_q[0];
    const rq_tensor *x = a->in[0];
    int32_t codes[PART];
    for (int64_t e = from; e < from + n;) {
        const int64_t s = rq_codes_scale_index(q, &x->shape, e);
        int64_t end = scale_end(q, &x->shape, e);
        end = end < from + n ? end : from + n;
        end = end < e + PART ? end : e + PART;
        rq_int_unpack(codes, x, e, end - e);
        for (int64_t i = 0; i < end - e; i++)
            *dst++ = rq_dequantize_one(codes[i], q->scale[s], q->zero_point[s]);
        e = end;
    }
}

typedef struct rows {
    const rq_op_args *a;
    int64_t n, m, run; /* of the axis gathered from; indices; elements of one */
} rows;

static void fetch_row(void *arg, int64_t item)
{
    const rows *r = arg;
    const int64_t v = rq_tensor_get_int(r->a->in[1], item % r->m);
    fetch(r->a, r->a->out[0]->f32 + item * r->run, (item / r->m * r->n + (v < 0 ? v + r->n : v)) * r->run, r->run);
}

rq_status rq_int_gather_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *at = a->in[1];
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->shape.rank);
    const rows r = { a, x->shape.dim[axis], rq_tensor_count(at), rq_shape_span(&x->shape, axis + 1, x->shape.rank) };
    for (int64_t i = 0; i < r.m; i++) {
        const int64_t v = rq_tensor_get_int(at, i);
        if (v < -r.n || v >= r.n)
            return rq_op_fail(a, RQ_BAD_DATA, "index %lld of an axis of size %lld", (long long)v, (long long)r.n);
    }
    rq_threads_for(a->threads, rq_shape_span(&x->shape, 0, axis) * r.m, fetch_row, (void *)&r);
    return RQ_OK;
}
