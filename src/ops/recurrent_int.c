/* ops/recurrent_int.c — DynamicQuantizeLSTM of com.microsoft: an LSTM whose weights are codes and whose input and state
 * are quantized as they come, u8 with one scale per product (docs/onnx-facts.md 2.9). The cells are recurrent.c's, the
 * products int_product's; weights are packed once. */
#include "base/mem.h"
#include "ops/int_ops.h"
#include "ops/int_product.h"
#include "ops/recurrent.h"

enum { W = 1, R = 2, W_SCALE = 8, W_ZERO, R_SCALE, R_ZERO };

/* Scratch: the cells', the codes of x, the products'. */
typedef struct room {
    size_t codes, product, bytes;
} room;

typedef struct lstm_state {
    rq_product p[2]; /* of W and R */
    room room;       /* known when scratch was asked for */
} lstm_state;

static rq_status lstm_infer(const rq_infer *a)
{
    const int at[4] = { W_SCALE, W_ZERO, R_SCALE, R_ZERO };
    for (int i = W; i <= R; i++) {
        const rq_dtype d = a->in[i]->dtype;
        if (d != RQ_DTYPE_NONE && !rq_int_is_byte(d))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "the weights are %s, expected u8 or s8", rq_dtype_name(d));
    }
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "X is %s, expected f32", rq_dtype_name(a->in[0]->dtype));
    for (int i = 0; i < 4; i++) { /* [dirs] or [dirs, columns] */
        const rq_tensor *t = at[i] < a->n_in ? a->in[at[i]] : NULL, *w = a->in[i < 2 ? W : R];
        if (!t)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "input %d, a scale or zero point, is missing", at[i]);
        const rq_dtype want = i % 2 ? w->dtype : RQ_DTYPE_F32;
        if (t->dtype != RQ_DTYPE_NONE && want != RQ_DTYPE_NONE && t->dtype != want)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected %s", at[i], rq_dtype_name(t->dtype),
                                 rq_dtype_name(want));
        if (!rq_shape_is_known(&t->shape) || !rq_shape_is_known(&w->shape) || w->shape.rank != 3)
            continue;
        const int64_t n = rq_shape_count(&t->shape), dirs = w->shape.dim[0];
        if (n != dirs && n != dirs * w->shape.dim[2])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %lld entries, expected %lld or %lld", at[i],
                                 (long long)n, (long long)dirs, (long long)(dirs * w->shape.dim[2]));
    }
    return rq_recurrent_infer(a);
}

static void lstm_release(void *state)
{
    lstm_state *s = state;
    if (!s)
        return;
    rq_product_release(&s->p[0]);
    rq_product_release(&s->p[1]);
    rq_mem_free(s);
}

static rq_status lstm_prepare(const rq_op_args *a, void **state)
{
    rq_recurrent_sizes z;
    RQ_TRY(rq_recurrent_sizes_of(a, &z));
    lstm_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    rq_status st =
        rq_product_init(&s->p[0], a, RQ_DTYPE_U8, a->in[W], z.dirs, z.steps * z.batch, z.input, 4 * z.hidden);
    if (!st)
        st = rq_product_init(&s->p[1], a, RQ_DTYPE_U8, a->in[R], z.dirs, z.batch, z.hidden, 4 * z.hidden);
    if (st)
        lstm_release(s);
    else
        *state = s;
    return st;
}

static room room_of(const rq_op_args *a)
{
    const lstm_state *s = a->state;
    size_t codes = 0, product = 0;
    for (int i = 0; i < 2; i++) {
        const size_t n = (size_t)(s->p[i].rows * s->p[i].depth), m = rq_product_scratch(&s->p[i]);
        codes = n > codes ? n : codes;
        product = m > product ? m : product;
    }
    room r = { .codes = rq_mem_round(rq_recurrent_scratch(a)) };
    r.product = r.codes + rq_mem_round(codes);
    r.bytes = r.product + product;
    return r;
}

static size_t lstm_scratch(const rq_op_args *a, bool integer)
{
    lstm_state *s = a->state;
    s->room = room_of(a);
    return s->room.bytes;
}

/* Entries of direction dir. */
static rq_tensor entries_of(const rq_tensor *t, int dir, int dirs)
{
    const int64_t n = rq_tensor_count(t) / dirs;
    const rq_shape list = rq_shape_of(1, &n);
    return rq_tensor_view(t->dtype, &list, t->u8 + dir * n * (rq_dtype_bits(t->dtype) / 8));
}

static rq_status product(void *arg, float *y, const float *x, int64_t rows, int dir, bool recurrent)
{
    const rq_op_args *a = arg;
    const lstm_state *s = a->state;
    const rq_product *p = &s->p[recurrent];
    const rq_shape scalar = rq_shape_of(0, NULL);
    const room r = s->room;
    const int dirs = (int)p->n_w;
    uint8_t *codes = (uint8_t *)a->scratch + r.codes, zero;
    float scale;
    rq_int_dynamic_on(a->threads, codes, x, rows * p->depth, &scale, &zero, a->k);
    const rq_product_job j = { .x = codes,
                               .w = a->in[recurrent ? R : W]->u8 + dir * p->depth * p->columns,
                               .rows = rows,
                               .at_w = dir,
                               .x_scale = rq_tensor_view(RQ_DTYPE_F32, &scalar, &scale),
                               .x_zero = rq_tensor_view(RQ_DTYPE_U8, &scalar, &zero),
                               .w_scale = entries_of(a->in[recurrent ? R_SCALE : W_SCALE], dir, dirs),
                               .w_zero = entries_of(a->in[recurrent ? R_ZERO : W_ZERO], dir, dirs),
                               .y = y,
                               .y_dtype = RQ_DTYPE_F32 };
    rq_product_run(p, &j, (char *)a->scratch + r.product, a->threads);
    return RQ_OK;
}

static rq_status lstm_forward(const rq_op_args *a)
{
    return rq_recurrent_run(a, product, (void *)a);
}

const rq_op rq_op_ms_dynamic_quantize_lstm = {
    .name = "DynamicQuantizeLSTM",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 3,
    .max_in = 12,
    .min_out = 0,
    .max_out = 3,
    .place = RQ_PLACE_FLOAT,
    .check = rq_recurrent_check,
    .infer = lstm_infer,
    .prepare = lstm_prepare,
    .forward = lstm_forward,
    .release = lstm_release,
    .scratch = lstm_scratch,
    .macs = rq_recurrent_macs,
};
