/* ops/recurrent_int.c — DynamicQuantizeLSTM of com.microsoft: an LSTM whose weights are codes and whose input and state
 * are quantized as they come, u8 with one scale per product (docs/onnx-facts.md 2.9). The cells are recurrent.c's, the
 * products int_product's; weights are packed once. */
#include "base/mem.h"
#include "ops/int_ops.h"
#include "ops/int_product.h"
#include "ops/recurrent.h"

enum { W = 1, R = 2, W_SCALE = 8, W_ZERO, R_SCALE, R_ZERO };

/* Scratch: the cells', then of each direction: codes of the left operand, their sums by rows, sums by R, scales of R's columns, what the products
 * want. */
typedef struct room {
    uint8_t *codes;
    int32_t *add, *sum;
    float *m;
    char *product;
} room;

typedef struct lstm_state {
    rq_product p[2]; /* of W and R */
    size_t cells;    /* bytes of scratch in front of the rooms; known when scratch was asked for */
} lstm_state;

/* A direction as it runs. */
typedef struct direction {
    room r;
    bool one_zero; /* R has one zero point */
    int32_t zero;  /* of R as s8 */
} direction;

typedef struct lstm_run {
    const rq_op_args *a;
    direction d[2];
} lstm_run;

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

static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += rq_mem_round(bytes);
    return p;
}

static size_t lay_out(const lstm_state *s, char *scratch, room *r)
{
    const rq_product *rec = &s->p[1];
    size_t codes = 0, product = 0;
    char *at = scratch;
    for (int i = 0; i < 2; i++) {
        const size_t n = (size_t)(s->p[i].rows * s->p[i].depth), m = rq_product_scratch(&s->p[i]);
        codes = n > codes ? n : codes;
        product = m > product ? m : product;
    }
    r->codes = take(&at, codes);
    r->add = take(&at, (size_t)rec->rows * sizeof *r->add);
    r->sum = take(&at, (size_t)(rec->rows * rq_qgemm_sums_ld(rec->columns)) * sizeof *r->sum);
    r->m = take(&at, (size_t)rec->columns * sizeof *r->m);
    r->product = take(&at, product);
    return (size_t)(at - scratch);
}

static size_t lstm_scratch(const rq_op_args *a, bool integer)
{
    static char nowhere[1];
    lstm_state *s = a->state;
    room r;
    s->cells = rq_mem_round(rq_recurrent_scratch(a, false));
    return s->cells + (size_t)s->p[0].n_w * lay_out(s, nowhere, &r);
}

/* Entries of direction dir. */
static rq_tensor entries_of(const rq_tensor *t, int dir, int dirs)
{
    const int64_t n = rq_tensor_count(t) / dirs;
    const rq_shape list = rq_shape_of(1, &n);
    return rq_tensor_view(t->dtype, &list, t->u8 + dir * n * (rq_dtype_bits(t->dtype) / 8));
}

static void product(void *arg, float *y, const float *x, const float *bias, int64_t rows, int dir, bool recurrent,
                    rq_threads *t)
{
    const lstm_run *run = arg;
    const rq_op_args *a = run->a;
    const lstm_state *s = a->state;
    const rq_product *p = &s->p[recurrent];
    const rq_shape scalar = rq_shape_of(0, NULL);
    const room *r = &run->d[dir].r;
    const int dirs = (int)p->n_w;
    uint8_t zero;
    float scale;
    rq_int_dynamic_on(t, r->codes, x, rows * p->depth, &scale, &zero, a->k);
    const rq_product_job j = { .x = r->codes,
                               .w = a->in[recurrent ? R : W]->u8 + dir * p->depth * p->columns,
                               .rows = rows,
                               .at_w = dir,
                               .x_scale = rq_tensor_view(RQ_DTYPE_F32, &scalar, &scale),
                               .x_zero = rq_tensor_view(RQ_DTYPE_U8, &scalar, &zero),
                               .w_scale = entries_of(a->in[recurrent ? R_SCALE : W_SCALE], dir, dirs),
                               .w_zero = entries_of(a->in[recurrent ? R_ZERO : W_ZERO], dir, dirs),
                               .bias = bias,
                               .y = y,
                               .y_dtype = RQ_DTYPE_F32 };
    rq_product_run(p, &j, r->product, t);
}

/* What rq_product_run does with R, up to the sums: a step is short, so it is done without all that a product asks for. */
static bool sums(void *arg, rq_recurrent_sums *out, const float *x, int64_t rows, int dir)
{
    const lstm_run *run = arg;
    const rq_kernels *k = run->a->k;
    const rq_product *p = &((const lstm_state *)run->a->state)->p[1];
    const direction *d = &run->d[dir];
    const room *r = &d->r;
    uint8_t zero;
    if (!p->w.w || !d->one_zero)
        return false;
    *out = (rq_recurrent_sums) { .sum = r->sum,
                                 .ld = rq_qgemm_sums_ld(p->columns),
                                 .add = r->add,
                                 .w_sum = p->w.sum + dir * p->columns,
                                 .m = r->m };
    rq_int_dynamic(r->codes, x, rows * p->depth, &out->row, &zero, k);
    out->zero = zero;
    rq_qgemm_sums(k, r->sum, out->ld, r->codes, p->depth, rows, p->depth, p->columns,
                  p->w.w + (size_t)dir * p->w.w_bytes);
    if (d->zero != 0)
        k->row_sums(r->add, r->codes, (size_t)p->depth, (size_t)rows, (size_t)p->depth);
    for (int64_t i = 0; i < rows; i++)
        r->add[i] =
            d->zero == 0
                ? 0
                : (int32_t)(0u - (uint32_t)d->zero * ((uint32_t)r->add[i] - (uint32_t)p->depth * (uint32_t)zero));
    return true;
}

/* What the steps of a direction share. */
static void open_direction(direction *d, const rq_op_args *a, int dir, int dirs)
{
    const rq_product *p = &((const lstm_state *)a->state)->p[1];
    const rq_tensor zero = entries_of(a->in[R_ZERO], dir, dirs), scale = entries_of(a->in[R_SCALE], dir, dirs);
    const int64_t n = rq_tensor_count(&zero), m = rq_tensor_count(&scale);
    d->one_zero = true;
    for (int64_t c = 1; c < n; c++)
        d->one_zero = d->one_zero && zero.u8[c] == zero.u8[0];
    d->zero = rq_int_weights_zero(p->w_dtype, n ? (int32_t)rq_tensor_get_int(&zero, 0) : 0);
    for (int64_t c = 0; c < p->columns; c++)
        d->r.m[c] = scale.f32[m == 1 ? 0 : c];
}

static rq_status lstm_forward(const rq_op_args *a)
{
    const lstm_state *s = a->state;
    const int dirs = (int)s->p[1].n_w;
    lstm_run run = { .a = a };
    const rq_recurrent_codes codes = { &run, product, sums };
    char *at = (char *)a->scratch + s->cells;
    for (int dir = 0; dir < dirs; dir++) {
        at += lay_out(s, at, &run.d[dir].r);
        open_direction(&run.d[dir], a, dir, dirs);
    }
    return rq_recurrent_run(a, NULL, &codes);
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
