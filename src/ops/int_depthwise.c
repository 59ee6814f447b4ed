/* ops/int_depthwise.c — see int_depthwise.h.
 *
 *   sum (x - zx)(w - zw) + b  =  sum x (w - zw)  +  [b - zx sum (w - zw)]
 *
 * Weights hold their zero points, and are s8 where they still fit. The bracket is one constant per channel; outside of the image stand zx, so that
 * the identity is true at borders too. With several outputs per input channel the input is copied so often first. */
#include "ops/int_depthwise.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/int_last.h"
#include "ops/int_ops.h"
#include "ops/packs.h"
#include "ops/window.h"

enum {
    MAX_TAPS = 1024,        /* more go the way of all products */
    POINTERS = 1024,        /* to the taps of some pixels, on the stack */
    FEW_PRODUCTS = 1 << 20, /* below which waking a thread costs more than it brings */
    ITEM_PRODUCTS = 1 << 17 /* multiply-adds of an item of a thread, about */
};

struct rq_int_depthwise {
    rq_window w;
    int64_t channels, outputs, taps; /* outputs: a multiple of channels */
    bool window;                     /* the kernel slides over rows; else it is given taps one by one */
    const rq_dwlast_isa *isa;        /* of pack */
    int16_t *dw;                     /* [outputs][taps] w - zw */
    const void *packed;              /* the weights, then sum */
    void *own;                       /* where packed is not shared */
    void *finish;
    uint8_t *zeros; /* [outputs] zx */
    /* [outputs] */
    const int32_t *sum; /* w - zw */
    double *unit;       /* what a sum counts in, sx sw */
    int32_t *add;
    float *m, *bias; /* bias: in floats, for the definition */
    bool scaled;     /* reals are sums times m, to which `behind` (or NULL) is added */
    const float *behind;
};

bool rq_int_depthwise_is(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    return w->dim[1] == 1 && x->dim[1] > 1 && rq_shape_span(w, 2, w->rank) <= MAX_TAPS;
}

static bool slides(const rq_window *w)
{
    return w->kernel[0] == 1 && w->dilation[2] == 1 && rq_dwlast_is_window(w->kernel[1], w->kernel[2], w->stride[2]);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void rq_int_depthwise_destroy(rq_int_depthwise *d)
{
    if (!d)
        return;
    rq_mem_free(d->dw);
    rq_mem_free(d->own);
    rq_mem_free(d->finish);
    rq_mem_free(d->zeros);
    rq_mem_free(d->unit);
    rq_mem_free(d);
}

/* Rows and columns of taps as the kernel knows them. */
static int height_of(const rq_int_depthwise *d)
{
    return d->window ? (int)d->w.kernel[1] : (int)d->taps;
}

static int width_of(const rq_int_depthwise *d)
{
    return d->window ? (int)d->w.kernel[2] : 1;
}

/* Of packed weights, and of what stands before their sums. */
static size_t weights_bytes(const rq_int_depthwise *d, const rq_dwlast_isa *g)
{
    return rq_mem_round(rq_dwlast_bytes(g, d->outputs, height_of(d), width_of(d)));
}

/* Are the weights constant, and is what is made of them theirs alone? With zero points it depends on these, too. */
static bool is_shared(const rq_op_args *a)
{
    const rq_qparams *q = a->in_q[1];
    bool plain = a->packs && a->in[1]->data;
    for (int64_t i = 0; plain && i < q->n; i++)
        plain = q->zero_point[i] == (rq_int_flip_to_s8(q->dtype) ? 128 : 0);
    return plain;
}

static bool make_room(rq_int_depthwise *d, const rq_kernels *k)
{
    const size_t most = larger(weights_bytes(d, k->dwlast_s8), weights_bytes(d, k->dwlast_s16));
    d->packed = d->own = rq_mem_alloc(1, most + (size_t)d->outputs * sizeof *d->sum);
    return d->own != NULL;
}

rq_status rq_int_depthwise_create(rq_int_depthwise **out, const rq_op_args *a)
{
    const rq_dwlast_isa *s8 = a->k->dwlast_s8, *s16 = a->k->dwlast_s16;
    rq_int_depthwise *d = rq_mem_zalloc(1, sizeof *d);
    if (!d)
        return RQ_NO_MEMORY;
    const rq_status s = rq_window_conv(&d->w, a->node, &a->in[0]->shape, &a->in[1]->shape, a->err);
    if (s) {
        rq_int_depthwise_destroy(d);
        return s;
    }
    d->channels = a->in[0]->shape.dim[1];
    d->outputs = a->in[1]->shape.dim[0];
    d->taps = rq_window_span(d->w.kernel);
    d->window = slides(&d->w);
    const size_t n = (size_t)d->outputs;
    d->dw = rq_mem_alloc(n * (size_t)d->taps, sizeof *d->dw);
    d->finish =
        rq_mem_alloc(1, larger(rq_dwlast_finish_bytes(s8, d->outputs), rq_dwlast_finish_bytes(s16, d->outputs)));
    d->zeros = rq_mem_alloc(n, 1);
    d->unit = rq_mem_alloc(n, sizeof *d->unit + 3 * sizeof *d->add);
    if (!d->dw || !d->finish || !d->zeros || !d->unit || (!is_shared(a) && !make_room(d, a->k))) {
        rq_int_depthwise_destroy(d);
        return RQ_NO_MEMORY;
    }
    d->add = (int32_t *)(d->unit + n);
    d->m = (float *)(d->add + n);
    d->bias = d->m + n;
    *out = d;
    return RQ_OK;
}

/* w - zw to dw; do all of them fit s8? */
static bool subtract_zeros(const rq_int_depthwise *d, const rq_op_args *a)
{
    const rq_qparams *q = a->in_q[1];
    const uint8_t flip = rq_int_flip_to_s8(q->dtype), *w = a->in[1]->u8;
    bool narrow = true;
    for (int64_t c = 0; c < d->outputs; c++) {
        const int32_t zw = q->zero_point[q->n > 1 ? c : 0] - (flip ? 128 : 0);
        for (int64_t k = c * d->taps; k < (c + 1) * d->taps; k++) {
            const int32_t v = (int8_t)(w[k] ^ flip) - zw;
            narrow = narrow && v >= INT8_MIN && v <= INT8_MAX;
            d->dw[k] = (int16_t)v;
        }
    }
    return narrow;
}

/* dw to made: packed, then their sums. */
static void pack_differences(void *made, const rq_int_depthwise *d)
{
    int32_t *sum = (int32_t *)((char *)made + weights_bytes(d, d->isa));
    rq_dwlast_pack(d->isa, made, d->dw, d->outputs, height_of(d), width_of(d));
    for (int64_t c = 0; c < d->outputs; c++) {
        sum[c] = 0;
        for (int64_t k = c * d->taps; k < (c + 1) * d->taps; k++)
            sum[c] += d->dw[k];
    }
}

typedef struct pack_args {
    const rq_int_depthwise *d;
    const rq_op_args *a;
} pack_args;

static void pack_all(void *made, const void *arg)
{
    const pack_args *p = arg;
    (void)subtract_zeros(p->d, p->a);
    pack_differences(made, p->d);
}

static void use(rq_int_depthwise *d, const void *made)
{
    d->packed = made;
    d->sum = (const int32_t *)((const char *)made + weights_bytes(d, d->isa));
}

rq_status rq_int_depthwise_pack_constant(rq_int_depthwise *d, const rq_op_args *a)
{
    if (!is_shared(a)) {
        rq_int_depthwise_pack(d, a);
    } else {
        const pack_args p = { d, a };
        const void *made;
        char key[160];
        d->isa = a->k->dwlast_s8; /* differences from 0 are the codes */
        snprintf(key, sizeof key, "depthwise %s %lld channels, %d x %d taps, %d", d->isa->name, (long long)d->outputs,
                 height_of(d), width_of(d), rq_int_flip_to_s8(a->in_q[1]->dtype));
        RQ_TRY(rq_packs_get(a, a->in[1], key, weights_bytes(d, d->isa) + (size_t)d->outputs * sizeof *d->sum, pack_all,
                            &p, &made));
        use(d, made);
    }
    rq_mem_free(d->dw);
    d->dw = NULL;
    return RQ_OK;
}

void rq_int_depthwise_pack(rq_int_depthwise *d, const rq_op_args *a)
{
    d->isa = subtract_zeros(d, a) ? a->k->dwlast_s8 : a->k->dwlast_s16;
    pack_differences(d->own, d);
    use(d, d->own);
}

void rq_int_depthwise_fold(rq_int_depthwise *d, const rq_op_args *a)
{
    const rq_qparams *x = a->in_q[0], *w = a->in_q[1], *y = a->out_q[0];
    const int32_t zx = x->zero_point[0] + (rq_int_flip_to_u8(x->dtype) ? 128 : 0);
    const rq_tensor *b = a->n_in > 2 ? a->in[2] : NULL;
    memset(d->zeros, zx, (size_t)d->outputs);
    for (int64_t c = 0; c < d->outputs; c++) {
        const int64_t at = w->n > 1 ? c : 0;
        const float scale = x->scale[0] * w->scale[at];
        uint32_t add = 0U - (uint32_t)zx * (uint32_t)d->sum[c];
        if (b && b->dtype == RQ_DTYPE_S32)
            add += (uint32_t)b->s32[c];
        else if (b && !a->k->spec)
            add += (uint32_t)rq_quantize_bias_f32(b->f32[c], x->scale[0], w->scale[at]);
        d->add[c] = (int32_t)add;
        d->m[c] = y ? scale / y->scale[0] : scale;
        d->unit[c] = (double)x->scale[0] * w->scale[at];
        d->bias[c] = b && b->dtype == RQ_DTYPE_F32 ? b->f32[c] : 0;
    }
    rq_dwlast_pack_finish(d->isa, d->finish, d->add, d->m, d->outputs);
}

void rq_int_depthwise_scaled(rq_int_depthwise *d, const float *bias)
{
    d->scaled = true;
    d->behind = bias;
}

/* ---- running ---- */

/* Are sums rounded to codes where they are made? The kernel's are u8. */
static bool rounds(const rq_op_args *a)
{
    return a->out_q[0] && a->out_q[0]->dtype == RQ_DTYPE_U8 && !a->k->spec;
}

/* Scratch: the input once per output channel, the sums. */
static size_t copy_bytes(const rq_int_depthwise *d, const rq_op_args *a)
{
    return d->outputs == d->channels
               ? 0
               : rq_mem_round((size_t)(a->in[0]->shape.dim[0] * rq_window_span(d->w.in) * d->outputs));
}

size_t rq_int_depthwise_scratch(const rq_int_depthwise *d, const rq_op_args *a)
{
    const size_t sums = rounds(a) ? 0 : (size_t)rq_tensor_count(a->out[0]) * sizeof(int32_t);
    return copy_bytes(d, a) + rq_mem_round(sums);
}

typedef struct job {
    const rq_int_depthwise *d;
    const rq_op_args *a;
    const uint8_t *x;
    int64_t x_ld; /* from a pixel to the next */
    uint8_t *copy, *y;
    int32_t *sums;      /* NULL: y is made at once */
    int64_t rows, some; /* all, of an item */
    rq_qgemm_out out;   /* where there are sums */
} job;

/* Pixels of one row of the input, each channel as often as it has outputs. */
static void copy_row(void *arg, int64_t row)
{
    const job *j = arg;
    const int64_t n = j->d->w.in[2], c = j->d->channels, times = j->d->outputs / c;
    const uint8_t *from = j->x + row * n * j->x_ld;
    uint8_t *to = j->copy + row * n * c * times;
    for (int64_t o = 0; o < n; o++, from += j->x_ld)
        for (int64_t i = 0; i < c; i++, to += times)
            for (int64_t t = 0; t < times; t++)
                to[t] = from[i];
}

/* The first pixel of input row i1 of plane i0; NULL: it is outside. */
static const uint8_t *row_at(const job *j, int64_t image, int64_t i0, int64_t i1)
{
    const rq_window *w = &j->d->w;
    if (i0 < 0 || i0 >= w->in[0] || i1 < 0 || i1 >= w->in[1])
        return NULL;
    return j->x + ((image * w->in[0] + i0) * w->in[1] + i1) * w->in[2] * j->x_ld;
}

static void run_window(const job *j, rq_dwlast_row *g, int64_t image, int64_t o0, int64_t o1)
{
    const rq_window *w = &j->d->w;
    const uint8_t *rows[5];
    const int size = (int)w->kernel[2];
    for (int r = 0; r < size; r++)
        rows[r] =
            row_at(j, image, o0 * w->stride[0] - w->pad_lo[0], o1 * w->stride[1] - w->pad_lo[1] + r * w->dilation[1]);
    g->x = rows;
    g->n = w->out[2];
    g->zero = j->d->zeros;
    g->pitch = j->x_ld;
    g->first = w->pad_lo[2];
    g->last = w->pad_lo[2] + w->in[2];
    j->d->isa->window(g, size, (int)w->stride[2]);
}

/* Pixels first..first+n-1, tap by tap. */
static void run_taps(const job *j, rq_dwlast_row *g, int64_t image, int64_t o0, int64_t o1, int64_t first, int64_t n)
{
    const rq_window *w = &j->d->w;
    const uint8_t *at[POINTERS];
    for (int64_t t = 0; t < j->d->taps; t++) {
        const int64_t t0 = t / (w->kernel[1] * w->kernel[2]), t1 = t / w->kernel[2] % w->kernel[1],
                      t2 = t % w->kernel[2];
        const uint8_t *row = row_at(j, image, o0 * w->stride[0] - w->pad_lo[0] + t0 * w->dilation[0],
                                    o1 * w->stride[1] - w->pad_lo[1] + t1 * w->dilation[1]);
        int64_t i = first * w->stride[2] - w->pad_lo[2] + t2 * w->dilation[2];
        for (int64_t o = 0; o < n; o++, i += w->stride[2])
            at[o * j->d->taps + t] = row && i >= 0 && i < w->in[2] ? row + i * j->x_ld : j->d->zeros;
    }
    g->x = at;
    g->n = n;
    j->d->isa->taps(g);
}

/* What is made of the sums of pixels first..first+n-1. */
static void finish_row(const job *j, int64_t first, int64_t n)
{
    const rq_qgemm_out *o = &j->out;
    const int64_t c = j->d->outputs;
    if (o->kind == RQ_QGEMM_F32 && !o->col_unit) {
        const rq_sums_reals to = { .y = (float *)o->y + first * o->ld,
                                   .ldy = (size_t)o->ld,
                                   .add = o->col_add,
                                   .m = o->col_m,
                                   .bias = o->col_bias };
        j->a->k->sums_reals(&to, j->sums + first * c, (size_t)c, (size_t)n, (size_t)c);
        return;
    }
    for (int64_t i = first; i < first + n; i++)
        rq_qgemm_finish(j->a->k, o, j->sums + i * c, i, 0, c);
}

/* One row of output pixels. */
static void run_row(const job *j, int64_t row)
{
    const rq_int_depthwise *d = j->d;
    const rq_window *w = &d->w;
    const int64_t o1 = row % w->out[1], o0 = row / w->out[1] % w->out[0], image = row / (w->out[1] * w->out[0]);
    const int64_t n = w->out[2], c = d->outputs, ld = rq_int_last_ld(j->a), start = row * n * (j->sums ? c : ld),
                  most = POINTERS / (d->taps ? d->taps : 1);
    rq_dwlast_row g = { .channels = c,
                        .w = d->packed,
                        .finish = d->finish,
                        .height = height_of(d),
                        .ld = j->sums ? c : ld,
                        .y = j->sums ? NULL : j->y + start,
                        .sums = j->sums ? j->sums + start : NULL,
                        .zp = j->out.zp,
                        .lo = j->out.lo,
                        .hi = j->out.hi };
    if (d->window)
        run_window(j, &g, image, o0, o1);
    for (int64_t o = 0; !d->window && o < n; o += most) {
        run_taps(j, &g, image, o0, o1, o, n - o < most ? n - o : most);
        g.y = g.y ? g.y + most * ld : NULL;
        g.sums = g.sums ? g.sums + most * c : NULL;
    }
    if (j->sums)
        finish_row(j, row * n, n);
    if (j->a->n_post)
        rq_int_last_posts_on(j->a, row * n, n);
}

static void run_item(void *arg, int64_t item)
{
    const job *j = arg;
    for (int64_t row = item * j->some; row < j->rows && row < (item + 1) * j->some; row++)
        run_row(j, row);
}

static rq_qgemm_out finishing(const rq_int_depthwise *d, const rq_op_args *a, void *y)
{
    rq_qgemm_out o = { .kind = a->out[0]->dtype == RQ_DTYPE_S32 ? RQ_QGEMM_S32 : RQ_QGEMM_F32,
                       .y = y,
                       .ld = rq_int_last_ld(a),
                       .col_add = d->add,
                       .col_m = d->m };
    if (a->out_q[0]) {
        o.kind = RQ_QGEMM_CODES;
        o.zp = a->out_q[0]->zero_point[0];
        rq_qparams_limits(a->out_q[0], &o.lo, &o.hi);
    }
    if (d->scaled) {
        o.col_bias = d->behind;
    } else if (a->k->spec && o.kind != RQ_QGEMM_S32) {
        o.col_unit = d->unit;
        o.col_bias = d->bias;
        o.y_scale = a->out_q[0] ? (double)a->out_q[0]->scale[0] : 1;
    }
    return o;
}

void rq_int_depthwise_run(const rq_int_depthwise *d, const rq_op_args *a, const uint8_t *x, int64_t x_ld, void *y,
                          void *scratch)
{
    const int64_t batch = a->in[0]->shape.dim[0], copied = (int64_t)copy_bytes(d, a);
    job j = { .d = d, .a = a, .x = x, .x_ld = x_ld, .y = y, .copy = scratch, .out = finishing(d, a, y) };
    const double of_row = (double)d->w.out[2] * (double)d->outputs * (double)d->taps;
    j.rows = batch * d->w.out[0] * d->w.out[1];
    j.some = of_row < ITEM_PRODUCTS ? (int64_t)(ITEM_PRODUCTS / (of_row + 1)) + 1 : 1;
    rq_threads *t = of_row * (double)j.rows < FEW_PRODUCTS ? NULL : a->threads;
    if (!rounds(a))
        j.sums = (int32_t *)((char *)scratch + copied);
    if (copied) {
        rq_threads_for(t, batch * d->w.in[0] * d->w.in[1], copy_row, &j);
        j.x = scratch;
        j.x_ld = d->outputs;
    }
    rq_threads_for(t, (j.rows + j.some - 1) / j.some, run_item, &j);
}
