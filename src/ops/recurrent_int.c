/* ops/recurrent_int.c — recurrent cells whose weights are codes and whose input and state are quantized as they come, u8 with one scale per product:
 * DynamicQuantizeLSTM of com.microsoft (docs/onnx-facts.md 2.9), and DynamicQuantizeGRU and DynamicQuantizeRNN of our own (docs/decisions/0013). The cells are
 * recurrent.c's, the products int_product's; weights are packed once. */
#include "base/mem.h"
#include "ops/int_ops.h"
#include "ops/int_product.h"
#include "ops/recurrent.h"
#include "ops/rows.h"

enum { W = 1, R = 2, N_PARTS = 3 };

/* Scale and zero point of W, then of R, follow what the float operator may have: initial_c and P of an LSTM, nothing more of the others. */
typedef enum entry { W_SCALE, W_ZERO, R_SCALE, R_ZERO, N_ENTRIES } entry;

static int entry_at(const rq_node *n, entry e)
{
    return (n->row == &rq_op_ms_dynamic_quantize_lstm ? 8 : 6) + (int)e;
}

/* Scratch: the cells', then of each direction: codes of the left operand, their sums by rows, sums by R, scales of R's columns, what the products
 * want. */
typedef struct room {
    uint8_t *codes;
    int32_t *add, *sum;
    float *m;
    char *product;
} room;

typedef struct cell_state {
    rq_product p[N_PARTS];  /* by rq_recurrent_part */
    int64_t first[N_PARTS]; /* column of W or R where its columns begin */
    int n_parts;
    size_t cells; /* bytes of scratch in front of the rooms; known when scratch was asked for */
} cell_state;

/* A direction as it runs. */
typedef struct direction {
    room r;
    bool one_zero; /* R has one zero point */
    int32_t zero;  /* of R as s8 */
} direction;

typedef struct cell_run {
    const rq_op_args *a;
    direction d[2];
} cell_run;

static rq_status cell_infer(const rq_infer *a)
{
    for (int i = W; i <= R; i++) {
        const rq_dtype d = a->in[i]->dtype;
        if (d != RQ_DTYPE_NONE && !rq_int_is_byte(d))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "the weights are %s, expected u8 or s8", rq_dtype_name(d));
    }
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "X is %s, expected f32", rq_dtype_name(a->in[0]->dtype));
    for (entry e = 0; e < N_ENTRIES; e++) { /* [dirs] or [dirs, columns] */
        const int at = entry_at(a->node, e);
        const rq_tensor *t = at < a->n_in ? a->in[at] : NULL, *w = a->in[e <= W_ZERO ? W : R];
        if (!t)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "input %d, a scale or zero point, is missing", at);
        const rq_dtype want = e == W_ZERO || e == R_ZERO ? w->dtype : RQ_DTYPE_F32;
        if (t->dtype != RQ_DTYPE_NONE && want != RQ_DTYPE_NONE && t->dtype != want)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected %s", at, rq_dtype_name(t->dtype),
                                 rq_dtype_name(want));
        if (!rq_shape_is_known(&t->shape) || !rq_shape_is_known(&w->shape) || w->shape.rank != 3)
            continue;
        const int64_t n = rq_shape_count(&t->shape), dirs = w->shape.dim[0];
        if (n != dirs && n != dirs * w->shape.dim[2])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %lld entries, expected %lld or %lld", at, (long long)n,
                                 (long long)dirs, (long long)(dirs * w->shape.dim[2]));
    }
    return rq_recurrent_infer(a);
}

static void cell_release(void *state)
{
    cell_state *s = state;
    for (int i = 0; s && i < s->n_parts; i++)
        rq_product_release(&s->p[i]);
    rq_mem_free(s);
}

/* Columns first..first+n-1 of W or R of every direction. */
static rq_status add_part(cell_state *s, const rq_op_args *a, const rq_tensor *w, int64_t depth, int64_t rows,
                          int64_t columns, int64_t first, int64_t n)
{
    const rq_int_matrices m = { .n = w->shape.dim[0],
                                .depth = depth,
                                .columns = n,
                                .first = first,
                                .step = depth * columns,
                                .k_stride = columns,
                                .col_stride = 1 };
    s->first[s->n_parts] = first;
    return rq_product_init_of(&s->p[s->n_parts++], a, RQ_DTYPE_U8, w, &m, rows);
}

static rq_status add_parts(cell_state *s, const rq_op_args *a)
{
    rq_recurrent_pass p;
    RQ_TRY(rq_recurrent_describe(a, &p));
    const rq_recurrent_sizes *z = &p.z;
    const int64_t h = z->hidden, columns = rq_recurrent_gates(p.cell) * h,
                  apart = rq_recurrent_resets(&p) ? 2 * h : columns;
    RQ_TRY(add_part(s, a, a->in[W], z->input, z->steps * z->batch, columns, 0, columns));
    RQ_TRY(add_part(s, a, a->in[R], h, z->batch, columns, 0, apart));
    return apart == columns ? RQ_OK : add_part(s, a, a->in[R], h, z->batch, columns, apart, columns - apart);
}

static rq_status cell_prepare(const rq_op_args *a, void **state)
{
    cell_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    const rq_status st = add_parts(s, a);
    if (st)
        cell_release(s);
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

static int64_t columns_of_r(const cell_state *s)
{
    const int last = s->n_parts - 1;
    return s->first[last] + s->p[last].columns;
}

static size_t lay_out(const cell_state *s, char *scratch, room *r)
{
    const rq_product *rec = &s->p[RQ_RECURRENT_STATE]; /* the widest of R's */
    size_t codes = 0, product = 0;
    char *at = scratch;
    for (int i = 0; i < s->n_parts; i++) {
        const size_t n = (size_t)(s->p[i].rows * s->p[i].depth), m = rq_product_scratch(&s->p[i]);
        codes = n > codes ? n : codes;
        product = m > product ? m : product;
    }
    r->codes = take(&at, codes);
    r->add = take(&at, (size_t)rec->rows * sizeof *r->add);
    r->sum = take(&at, (size_t)(rec->rows * rq_qgemm_sums_ld(rec->columns)) * sizeof *r->sum);
    r->m = take(&at, (size_t)columns_of_r(s) * sizeof *r->m);
    r->product = take(&at, product);
    return (size_t)(at - scratch);
}

static size_t cell_scratch(const rq_op_args *a, bool integer)
{
    static char nowhere[1];
    cell_state *s = a->state;
    room r;
    s->cells = rq_mem_round(rq_recurrent_scratch(a, false));
    return s->cells + (size_t)s->p[0].n_w * lay_out(s, nowhere, &r);
}

/* What an input of scales or zero points has for direction dir: one entry, or one for each of n columns from `first` on. */
static rq_tensor entries_of(const rq_op_args *a, entry e, int dir, int64_t first, int64_t n)
{
    const rq_tensor *t = a->in[entry_at(a->node, e)];
    const int64_t all = rq_tensor_count(t) / a->in[W]->shape.dim[0];
    const rq_shape list = rq_shape_of(1, all == 1 ? &all : &n);
    const int64_t at = dir * all + (all == 1 ? 0 : first);
    return rq_tensor_view(t->dtype, &list, t->u8 + at * (rq_dtype_bits(t->dtype) / 8));
}

static void product(void *arg, float *y, int64_t ld, const float *x, const float *bias, int64_t rows, int dir,
                    rq_recurrent_part part, rq_threads *t)
{
    const cell_run *run = arg;
    const rq_op_args *a = run->a;
    const cell_state *s = a->state;
    const rq_product *p = &s->p[part];
    const rq_shape scalar = rq_shape_of(0, NULL);
    const room *r = &run->d[dir].r;
    const bool input = part == RQ_RECURRENT_INPUT;
    const int64_t first = s->first[part];
    uint8_t zero;
    float scale;
    rq_int_dynamic_on(t, r->codes, x, rows * p->depth, &scale, &zero, a->k);
    const rq_product_job j = { .x = r->codes,
                               .w = a->in[input ? W : R]->u8 + dir * p->depth * p->k_stride + first,
                               .rows = rows,
                               .at_w = dir,
                               .x_scale = rq_tensor_view(RQ_DTYPE_F32, &scalar, &scale),
                               .x_zero = rq_tensor_view(RQ_DTYPE_U8, &scalar, &zero),
                               .w_scale = entries_of(a, input ? W_SCALE : R_SCALE, dir, first, p->columns),
                               .w_zero = entries_of(a, input ? W_ZERO : R_ZERO, dir, first, p->columns),
                               .bias = bias,
                               .y = y,
                               .ld = ld,
                               .y_dtype = RQ_DTYPE_F32 };
    rq_product_run(p, &j, r->product, t);
}

/* What rq_product_run does with R, up to the sums: a step is short, so it is done without all that a product asks for. */
static bool sums(void *arg, rq_recurrent_sums *out, const float *x, int64_t rows, int dir, rq_recurrent_part part)
{
    const cell_run *run = arg;
    const rq_kernels *k = run->a->k;
    const cell_state *s = run->a->state;
    const rq_product *p = &s->p[part];
    const direction *d = &run->d[dir];
    const room *r = &d->r;
    uint8_t zero;
    if (!p->w.w || !d->one_zero)
        return false;
    *out = (rq_recurrent_sums) {
        .g = { .sum = r->sum, .w_sum = p->w.sum + dir * p->columns, .m = r->m + s->first[part] },
        .ld = rq_qgemm_sums_ld(p->columns),
        .add = r->add,
    };
    rq_int_dynamic(r->codes, x, rows * p->depth, &out->g.row, &zero, k);
    out->g.zero = zero;
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
static void open_direction(direction *d, const rq_op_args *a, int dir)
{
    const cell_state *s = a->state;
    const int64_t columns = columns_of_r(s);
    const rq_tensor zero = entries_of(a, R_ZERO, dir, 0, columns), scale = entries_of(a, R_SCALE, dir, 0, columns);
    const int64_t n = rq_tensor_count(&zero), m = rq_tensor_count(&scale);
    d->one_zero = true;
    for (int64_t c = 1; c < n; c++)
        d->one_zero = d->one_zero && zero.u8[c] == zero.u8[0];
    d->zero = rq_int_weights_zero(zero.dtype, n ? (int32_t)rq_tensor_get_int(&zero, 0) : 0);
    for (int64_t c = 0; c < columns; c++)
        d->r.m[c] = scale.f32[m == 1 ? 0 : c];
}

static rq_status cell_forward(const rq_op_args *a)
{
    const cell_state *s = a->state;
    const int dirs = (int)s->p[0].n_w;
    cell_run run = { .a = a };
    const rq_recurrent_codes codes = { &run, product, sums };
    char *at = (char *)a->scratch + s->cells;
    for (int dir = 0; dir < dirs; dir++) {
        at += lay_out(s, at, &run.d[dir].r);
        open_direction(&run.d[dir], a, dir);
    }
    return rq_recurrent_run(a, NULL, &codes);
}

#define CODED                                                                                                          \
    .since = 1, .known = 1, .min_in = 3, .min_out = 0, .place = RQ_PLACE_FLOAT, .check = rq_recurrent_check,           \
    .infer = cell_infer, .prepare = cell_prepare, .forward = cell_forward, .release = cell_release,                    \
    .scratch = cell_scratch, .macs = rq_recurrent_macs

const rq_op rq_op_ms_dynamic_quantize_lstm = {
    .name = "DynamicQuantizeLSTM", .domain = "com.microsoft", .max_in = 12, .max_out = 3, CODED
};
const rq_op rq_op_dynamic_quantize_gru = {
    .name = "DynamicQuantizeGRU", .domain = "requant", .max_in = 10, .max_out = 2, CODED
};
const rq_op rq_op_dynamic_quantize_rnn = {
    .name = "DynamicQuantizeRNN", .domain = "requant", .max_in = 10, .max_out = 2, CODED
};
