/* ops/int_table.c — the integer form of every operator whose output element depends on one input element: a table of
 * Q(f(DQ(code))) over all codes, made when the plan is by running the row's own forward on the reals of all codes.
 * So the integer form is the float one, rounded once (docs/onnx-facts.md 6.3: QLinearSigmoid, QLinearLeakyRelu). */
#include "kernels/quantize.h"
#include "kernels/relayout.h"
#include "ops/int_ops.h"

#include <string.h>

/* Entry i is for the code whose bits are i. */
typedef struct table_state {
    int in_bytes, out_bytes; /* 1 or 2; out: 4 for reals */
    union {
        uint8_t *u8;
        uint16_t *u16;
        rq_lut8_f32 *reals;
        void *data;
    };
    rq_int_tables how; /* of in_bytes 1 */
} table_state;

bool rq_int_table_accepts(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_codes(a->in_q[0], why))
        return false;
    *why = "output is not quantized";
    if (a->n_out != 1 || !a->out_q[0] || !rq_int_is_codes(a->out_q[0], why))
        return false;
    for (int i = 1; i < a->n_in; i++) {
        *why = "another input is quantized";
        if (a->in[i] && a->in_q[i])
            return false;
        *why = "another input is not a constant number";
        if (a->in[i] && (!a->in[i]->data || rq_tensor_count(a->in[i]) != 1))
            return false;
    }
    return true;
}

rq_last rq_int_table_last(const rq_op_args *a)
{
    (void)a;
    return RQ_LAST_CAN;
}

static int32_t code_at(int64_t i, rq_dtype d)
{
    return d == RQ_DTYPE_S8 ? (int8_t)i : d == RQ_DTYPE_S16 ? (int16_t)i : (int32_t)i;
}

enum { MAX_IN = 8 }; /* inputs of an elementwise operator: x and a few constants */

/* y = f(x), both [n] f32, by the row's forward. */
static rq_status run_row(const rq_op_args *a, const rq_tensor *x, rq_tensor *y)
{
    const rq_op *row = a->node->row;
    const rq_tensor *in[MAX_IN] = { x };
    const rq_qparams *none[MAX_IN] = { NULL };
    rq_tensor *out[1] = { y };
    if (a->n_in > MAX_IN)
        return RQ_INTERNAL;
    for (int i = 1; i < a->n_in; i++)
        in[i] = a->in[i];
    rq_op_args f = *a;
    f.in = in;
    f.out = out;
    f.in_q = f.out_q = none;
    f.state = NULL;
    f.scratch = NULL;
    rq_status st = row->prepare ? row->prepare(&f, &f.state) : RQ_OK;
    if (st)
        return st;
    if (row->scratch) {
        f.scratch = rq_mem_alloc(row->scratch(&f, false), 1);
        if (!f.scratch)
            st = RQ_NO_MEMORY;
    }
    if (!st)
        st = row->forward(&f);
    rq_mem_free(f.scratch);
    if (row->release && f.state)
        row->release(f.state);
    return st;
}

rq_status rq_int_table_prepare(const rq_op_args *a, void **state)
{
    const rq_qparams *xq = a->in_q[0], *yq = a->out_q[0];
    rq_tensor x = { 0 }, y = { 0 };
    rq_status st = RQ_NO_MEMORY;
    int32_t lo, hi;
    table_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->in_bytes = rq_dtype_bits(xq->dtype) / 8;
    s->out_bytes = rq_dtype_bits(yq->dtype) / 8;
    s->how.channels = 1;
    const int64_t n = s->in_bytes == 1 ? 256 : 65536;
    const rq_shape shape = rq_shape_of(1, &n);
    s->data = rq_mem_alloc((size_t)n, (size_t)s->out_bytes);
    if (!s->data || rq_tensor_create(&x, RQ_DTYPE_F32, &shape, false) ||
        rq_tensor_create(&y, RQ_DTYPE_F32, &shape, true))
        goto done;
    for (int64_t i = 0; i < n; i++)
        x.f32[i] = rq_dequantize_one(code_at(i, xq->dtype), xq->scale[0], xq->zero_point[0]);
    st = run_row(a, &x, &y);
    if (st)
        goto done;
    rq_qparams_limits(yq, &lo, &hi);
    for (int64_t i = 0; i < n; i++) {
        const int32_t code = rq_quantize_one(y.f32[i], yq->scale[0], yq->zero_point[0], lo, hi);
        if (s->out_bytes == 1)
            s->u8[i] = (uint8_t)code;
        else
            s->u16[i] = (uint16_t)code;
    }
    *state = s;
done:
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    if (st)
        rq_int_table_release(s);
    return st;
}

rq_status rq_int_table_literally(const rq_op_args *a)
{
    rq_tensor x, y = { 0 };
    RQ_TRY(rq_tensor_create(&x, RQ_DTYPE_F32, &a->in[0]->shape, false));
    rq_status st = rq_tensor_create(&y, RQ_DTYPE_F32, &a->out[0]->shape, false);
    if (!st) {
        rq_int_to_reals(a->k, x.f32, a->in[0], 0, rq_tensor_count(&x), a->in_q[0]);
        st = run_row(a, &x, &y);
    }
    if (!st)
        rq_int_from_reals(a->k, a->out[0], 0, y.f32, rq_tensor_count(&y), a->out_q[0]);
    rq_tensor_release(&x);
    rq_tensor_release(&y);
    return st;
}

void rq_int_table_release(void *state)
{
    table_state *s = state;
    if (!s)
        return;
    rq_mem_free(s->data);
    rq_mem_free(s);
}

rq_status rq_int_table_from(const void *values, const rq_int_tables *how, void **state)
{
    table_state *s = rq_mem_zalloc(1, sizeof *s);
    const size_t n = (size_t)how->channels;
    void *data = rq_mem_alloc(n, how->reals ? sizeof(rq_lut8_f32) : 256);
    if (!s || !data) {
        rq_mem_free(s);
        rq_mem_free(data);
        return RQ_NO_MEMORY;
    }
    *s = (table_state) { .in_bytes = 1, .out_bytes = how->reals ? 4 : 1, .data = data, .how = *how };
    if (!how->reals)
        memcpy(data, values, n * 256);
    for (size_t i = 0; how->reals && i < n; i++) {
        memcpy(s->reals[i].value, (const float *)values + 256 * i, sizeof s->reals[i].value);
        rq_lut8_f32_split(&s->reals[i]);
    }
    *state = s;
    return RQ_OK;
}

const uint8_t *rq_int_table_bytes(const void *state)
{
    const table_state *s = state;
    return s && s->in_bytes == 1 && s->out_bytes == 1 && s->how.channels == 1 ? s->u8 : NULL;
}

/* ---- running ---- */

enum { ITEM = 1 << 15 };

static void look_up_one(const table_state *s, const rq_kernels *k, const rq_tensor *y, const rq_tensor *x, int64_t from,
                        int64_t n, int64_t table)
{
    if (s->out_bytes == 4)
        k->lut8_f32(y->f32 + from, x->u8 + from, (size_t)n, s->reals + table);
    else
        k->lut8(y->u8 + from, x->u8 + from, (size_t)n, s->u8 + 256 * table);
}

/* Every element is of another channel than the one before it. */
static void look_up_pixels(const table_state *s, const rq_tensor *y, const rq_tensor *x, int64_t from, int64_t n)
{
    int64_t c = from % s->how.channels;
    for (int64_t i = from; i < from + n; i++) {
        if (s->out_bytes == 4)
            y->f32[i] = s->reals[c].value[x->u8[i]];
        else
            y->u8[i] = s->u8[256 * c + x->u8[i]];
        c = c + 1 < s->how.channels ? c + 1 : 0;
    }
}

static void look_up_rows(const table_state *s, const rq_kernels *k, const rq_tensor *y, const rq_tensor *x,
                         int64_t from, int64_t n)
{
    const int64_t inner = s->how.inner, to = from + n;
    while (from < to) {
        const int64_t end = from - from % inner + inner, m = (end < to ? end : to) - from;
        look_up_one(s, k, y, x, from, m, from / inner % s->how.channels);
        from += m;
    }
}

/* Codes of 8 bits whose channels lie among others. */
static void look_up_apart(void *arg, int64_t item)
{
    const rq_op_args *a = arg;
    const table_state *s = a->state;
    const int64_t c = a->out[0]->shape.dim[1], all = rq_tensor_count(a->in[0]) / c, some = ITEM / c + 1;
    for (int64_t i = item * some; i < all && i < (item + 1) * some; i++)
        a->k->lut8(a->out[0]->u8 + i * a->out_ld, a->in[0]->u8 + i * c, (size_t)c, s->u8);
}

static void look_up(void *arg, int64_t item)
{
    const rq_op_args *a = arg;
    const table_state *s = a->state;
    const int64_t from = item * ITEM, all = rq_tensor_count(a->in[0]), n = all - from < ITEM ? all - from : ITEM;
    const rq_tensor *x = a->in[0], *y = a->out[0];
    if (s->how.channels > 1 && s->how.inner == 1)
        look_up_pixels(s, y, x, from, n);
    else if (s->how.channels > 1)
        look_up_rows(s, a->k, y, x, from, n);
    else if (s->in_bytes == 1 && s->out_bytes != 2)
        look_up_one(s, a->k, y, x, from, n, 0);
    else if (s->in_bytes == 1)
        for (int64_t i = from; i < from + n; i++)
            y->u16[i] = s->u16[x->u8[i]];
    else if (s->out_bytes == 1)
        for (int64_t i = from; i < from + n; i++)
            y->u8[i] = s->u8[x->u16[i]];
    else
        for (int64_t i = from; i < from + n; i++)
            y->u16[i] = s->u16[x->u16[i]];
}

rq_status rq_int_table_forward(const rq_op_args *a)
{
    const table_state *s = a->state;
    if (s->how.turned) {
        const rq_shape *x = &a->in[0]->shape;
        rq_relayout_dequantize(&(rq_relayout) { .k = a->k,
                                                .threads = a->threads,
                                                .n = x->dim[0],
                                                .c = x->dim[1],
                                                .s = rq_shape_span(x, 2, x->rank),
                                                .table = s->reals,
                                                .per_channel = s->how.channels > 1 },
                               a->out[0]->f32, a->in[0]->u8);
        return RQ_OK;
    }
    const int64_t n = rq_tensor_count(a->in[0]);
    if (a->out_ld && n) {
        const int64_t c = a->out[0]->shape.dim[1], some = ITEM / c + 1;
        rq_threads_for(a->threads, (n / c + some - 1) / some, look_up_apart, (void *)a);
        return RQ_OK;
    }
    rq_threads_for(a->threads, (n + ITEM - 1) / ITEM, look_up, (void *)a);
    return RQ_OK;
}
