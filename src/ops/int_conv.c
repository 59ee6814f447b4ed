/* ops/int_conv.c — Conv on codes: sums of u8 * s8 products in s32, requantized per channel (docs/onnx-facts.md 6.2).
 *
 *   sum (x - zx)(w - zw) + b  =  sum x w  +  [b - zx sum w + K zx zw]  -  zw sum x
 *
 * The bracket is one constant per output channel; borders hold zx, so that the identity is true there too. The last
 * term is there only for weights with zero points. x is made u8 and w s8 by flipping top bits, which shifts their zero
 * points by 128. With one input channel per group and several groups the sum has few terms and goes to the depthwise
 * kernel; everything else is a matrix product of weights and pixels (kernels/gemm.h, kernels/im2col.h). */
#include "base/mem.h"
#include "kernels/im2col.h"
#include "kernels/quantize.h"
#include "ops/int_ops.h"
#include "ops/window.h"

#include <stdatomic.h>
#include <string.h>

enum {
    DW_COLUMNS = 256,       /* sums of a depthwise row computed at a time */
    FEW_PRODUCTS = 1 << 20, /* multiply-adds of a batch below which waking a thread costs more than it brings */
    MANY_PRODUCTS = 1 << 23 /* of one image, from which threads share the image; below it each takes whole ones */
};

/* What prepare leaves. Arrays are [outputs] unless said otherwise. */
typedef struct conv_state {
    rq_im2col g;
    int64_t group, outputs, depth; /* depth: taps of one group */
    bool depthwise;
    uint8_t flip, fill;
    int64_t *tap;   /* [depth]; depthwise: of one channel */
    void *a;        /* packed weights, group after group */
    size_t a_bytes; /* of one group */
    int16_t *dw;    /* depthwise: [outputs][depth] w - zw */
    int32_t *sum;   /* sum w */
    int32_t *add;   /* the bracket */
    int32_t *zero;  /* zw */
    bool any_zero;  /* and one of them is not 0; depthwise weights hold zw already */
    float *m;
    double *unit; /* what a sum counts in, sx sw */
} conv_state;

bool rq_int_conv_accepts(const rq_op_args *a, const char **why)
{
    return rq_int_is_conv(a, 0, a->in[1]->shape.dim[0], why);
}

void rq_int_conv_release(void *state)
{
    conv_state *s = state;
    if (!s)
        return;
    rq_mem_free(s->tap);
    rq_mem_free(s->a);
    rq_mem_free(s->dw);
    rq_mem_free(s->sum);
    rq_mem_free(s->add);
    rq_mem_free(s->zero);
    rq_mem_free(s->m);
    rq_mem_free(s->unit);
    rq_mem_free(s);
}

/* Sum of output channel c's weights, and zw; depthwise ones are copied. */
static void pack_channel(const rq_op_args *a, conv_state *s, int64_t c)
{
    const rq_qparams *wq = a->in_q[1];
    const uint8_t flip = rq_int_flip_to_s8(wq->dtype), *w = a->in[1]->u8 + c * s->depth;
    const int32_t zw = wq->zero_point[wq->n > 1 ? c : 0] - (flip ? 128 : 0);
    uint32_t sum = 0;
    for (int64_t k = 0; k < s->depth; k++) {
        const int8_t v = (int8_t)(w[k] ^ flip);
        sum += (uint32_t)v;
        if (s->depthwise)
            s->dw[c * s->depth + k] = (int16_t)(v - zw);
    }
    s->sum[c] = (int32_t)sum;
    s->zero[c] = zw;
}

void rq_int_conv_pack(const rq_op_args *a)
{
    conv_state *s = a->state;
    s->any_zero = false;
    for (int64_t c = 0; c < s->outputs; c++) {
        pack_channel(a, s, c);
        s->any_zero = s->any_zero || (s->zero[c] && !s->depthwise);
    }
    for (int64_t i = 0; i < s->group && !s->depthwise; i++) {
        const int64_t rows = s->outputs / s->group;
        rq_gemm_pack_a(&a->k->gemm, (char *)s->a + (size_t)i * s->a_bytes, a->in[1]->u8 + i * rows * s->depth, s->depth,
                       1, rows, s->depth, rq_int_flip_to_s8(a->in[1]->dtype), NULL);
    }
}

/* Constants of output channel c from what its weights add up to. */
static void fold_channel(const rq_op_args *a, conv_state *s, int64_t c)
{
    const rq_qparams *xq = a->in_q[0], *wq = a->in_q[1], *yq = a->out_q[0];
    const int64_t at = wq->n > 1 ? c : 0;
    const int32_t zx = xq->zero_point[0] + (s->flip ? 128 : 0);
    const rq_tensor *b = a->n_in > 2 ? a->in[2] : NULL;
    uint32_t add = (uint32_t)s->depth * (uint32_t)(zx * s->zero[c]) - (uint32_t)zx * (uint32_t)s->sum[c];
    if (b && b->dtype == RQ_DTYPE_S32)
        add += (uint32_t)b->s32[c];
    else if (b && !a->k->spec)
        add += (uint32_t)rq_quantize_bias_f32(b->f32[c], xq->scale[0], wq->scale[at]);
    s->add[c] = (int32_t)add;
    const float scale = xq->scale[0] * wq->scale[at];
    s->m[c] = yq ? scale / yq->scale[0] : scale;
    s->unit[c] = (double)xq->scale[0] * wq->scale[at];
}

void rq_int_conv_fold(const rq_op_args *a)
{
    conv_state *s = a->state;
    s->fill = (uint8_t)a->in_q[0]->zero_point[0] ^ s->flip;
    for (int64_t c = 0; c < s->outputs; c++)
        fold_channel(a, s, c);
}

static void fill_taps(conv_state *s)
{
    const int64_t per = s->g.kernel[0] * s->g.kernel[1] * s->g.kernel[2];
    for (int64_t i = 0; i < s->depth; i++) {
        const int64_t r = i % per, k[3] = { r / (s->g.kernel[1] * s->g.kernel[2]), r / s->g.kernel[2] % s->g.kernel[1],
                                            r % s->g.kernel[2] };
        s->tap[i] = rq_im2col_tap(&s->g, i / per, k);
    }
}

rq_status rq_int_conv_prepare(const rq_op_args *a, void **state)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    rq_window win;
    int64_t group;
    RQ_TRY(rq_window_conv(&win, a->node, x, w, a->err));
    RQ_TRY(rq_window_group(a->node, &group, a->err));
    conv_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    for (int i = 0; i < 3; i++) {
        s->g.in[i] = win.in[i];
        s->g.out[i] = win.out[i];
        s->g.kernel[i] = win.kernel[i];
        s->g.stride[i] = win.stride[i];
        s->g.dilation[i] = win.dilation[i];
        s->g.pad[i] = win.pad_lo[i];
    }
    s->g.channels = x->dim[1];
    rq_im2col_init(&s->g);
    s->group = group;
    s->outputs = w->dim[0];
    s->depth = rq_shape_span(w, 1, w->rank);
    s->depthwise = group > 1 && w->dim[1] == 1;
    s->flip = rq_int_flip_to_u8(a->in[0]->dtype);
    if (s->depthwise && s->flip)
        s->g.direct = false; /* the copy flips */
    const size_t n = (size_t)s->outputs, depth = (size_t)s->depth;
    s->a_bytes = rq_mem_round(rq_gemm_a_bytes(&a->k->gemm, s->outputs / group, s->depth));
    s->tap = rq_mem_alloc(depth, sizeof *s->tap);
    s->sum = rq_mem_alloc(n, sizeof *s->sum);
    s->add = rq_mem_alloc(n, sizeof *s->add);
    s->zero = rq_mem_alloc(n, sizeof *s->zero);
    s->m = rq_mem_alloc(n, sizeof *s->m);
    s->unit = rq_mem_alloc(n, sizeof *s->unit);
    if (s->depthwise)
        s->dw = rq_mem_alloc(n, depth * sizeof *s->dw);
    else
        s->a = rq_mem_alloc((size_t)group, s->a_bytes);
    if (!s->tap || !s->sum || !s->add || !s->zero || !s->m || !s->unit || (s->depthwise ? !s->dw : !s->a)) {
        rq_int_conv_release(s);
        return RQ_NO_MEMORY;
    }
    fill_taps(s);
    if (a->in[1]->data) {
        rq_op_args ready = *a;
        ready.state = s;
        rq_int_conv_pack(&ready);
        rq_int_conv_fold(&ready);
    }
    *state = s;
    return RQ_OK;
}

static rq_gemm_out finishing(const rq_op_args *a, const conv_state *s)
{
    rq_gemm_out o = { .kind = RQ_GEMM_F32, .ld = s->g.out[0] * s->g.out[1] * s->g.out[2] };
    if (a->out[0]->dtype == RQ_DTYPE_S32)
        o.kind = RQ_GEMM_S32;
    if (a->out_q[0]) {
        o.kind = RQ_GEMM_CODES;
        o.zp = a->out_q[0]->zero_point[0];
        rq_qparams_limits(a->out_q[0], &o.lo, &o.hi);
    }
    o.row_add = s->add;
    o.row_zero = s->any_zero ? s->zero : NULL;
    o.row_m = s->m;
    if (a->k->spec && o.kind != RQ_GEMM_S32)
        rq_int_by_the_definition(a, &o, s->unit, true);
    return o;
}

/* Element p of y: a byte, or 4 of f32 or s32. */
static void *output_at(const rq_op_args *a, int64_t p)
{
    return a->out[0]->u8 + (a->out_q[0] ? p : 4 * p);
}

/* ---- depthwise ---- */

typedef struct dw_args {
    const rq_op_args *a;
    const conv_state *s;
    const uint8_t *base;
    rq_gemm_out out; /* of one image */
} dw_args;

enum { MAX_TAPS = 64 };

/* acc[j] = taps k0.. of channel c at `row`, as many as the kernel takes at a time; n columns. */
static void dw_part(const dw_args *d, int32_t *acc, const uint8_t *row, int64_t c, int64_t k0, int64_t n)
{
    const conv_state *s = d->s;
    const uint8_t *taps[MAX_TAPS];
    const int64_t n_taps = s->depth - k0 < MAX_TAPS ? s->depth - k0 : MAX_TAPS;
    for (int64_t k = 0; k < n_taps; k++)
        taps[k] = row + s->tap[k0 + k];
    d->a->k->dwconv(acc, taps, s->dw + c * s->depth + k0, (int)n_taps, (size_t)n);
}

static void dw_sums(const dw_args *d, int32_t *acc, const uint8_t *row, int64_t c, int64_t n)
{
    int32_t part[DW_COLUMNS];
    dw_part(d, acc, row, c, 0, n);
    for (int64_t k0 = MAX_TAPS; k0 < d->s->depth; k0 += MAX_TAPS) {
        dw_part(d, part, row, c, k0, n);
        for (int64_t j = 0; j < n; j++)
            acc[j] = (int32_t)((uint32_t)acc[j] + (uint32_t)part[j]);
    }
}

/* Output rows that are summed as one, with what lies between them: many for small images, where a row fills no vector. */
static int64_t dw_rows(const rq_im2col *g, int64_t pitch)
{
    const int64_t wide = g->out[2] < 16 ? 16 : g->out[2];
    if (pitch * 2 > wide * 3 || g->out[2] > DW_COLUMNS)
        return 1;
    const int64_t most = 1 + (DW_COLUMNS - g->out[2]) / pitch;
    return most < g->out[1] ? most : g->out[1];
}

/* One output channel. */
static void dw_channel(void *arg, int64_t c)
{
    const dw_args *d = arg;
    const conv_state *s = d->s;
    const rq_im2col *g = &s->g;
    const uint8_t *x = d->base + c / (s->outputs / s->group) * g->channel_stride;
    const int64_t pitch = rq_im2col_row(g, 0, 1), together = dw_rows(g, pitch);
    int32_t acc[DW_COLUMNS];
    for (int64_t o = 0; together > 1 && o < g->out[0] * g->out[1];) {
        const int64_t left = g->out[1] - o % g->out[1], rows = left < together ? left : together;
        dw_sums(d, acc, x + rq_im2col_row(g, o / g->out[1], o % g->out[1]), c, (rows - 1) * pitch + g->out[2]);
        for (int64_t r = 1; r < rows; r++)
            memmove(acc + r * g->out[2], acc + r * pitch, (size_t)g->out[2] * sizeof *acc);
        rq_gemm_finish(d->a->k, &d->out, acc, c, o * g->out[2], rows * g->out[2], NULL);
        o += rows;
    }
    for (int64_t o = 0; together == 1 && o < g->out[0] * g->out[1]; o++) {
        const uint8_t *row = x + rq_im2col_row(g, o / g->out[1], o % g->out[1]);
        for (int64_t j0 = 0; j0 < g->out[2]; j0 += DW_COLUMNS) {
            const int64_t n = g->out[2] - j0 < DW_COLUMNS ? g->out[2] - j0 : DW_COLUMNS;
            dw_sums(d, acc, row + j0, c, n);
            rq_gemm_finish(d->a->k, &d->out, acc, c, o * g->out[2] + j0, n, NULL);
        }
    }
}

/* ---- everything else ---- */

typedef struct fill_args {
    const rq_op_args *a;
    const conv_state *s;
    const uint8_t *base;
    int64_t columns;
} fill_args;

static void fill_panel(const void *arg, uint8_t *panel, int64_t p)
{
    const fill_args *f = arg;
    const conv_state *s = f->s;
    const rq_gemm_isa *isa = &f->a->k->gemm;
    int vectors;
    const int64_t first = rq_gemm_panel(isa, f->columns, p, &vectors);
    const int64_t most = (int64_t)vectors * isa->lanes, n = f->columns - first < most ? f->columns - first : most;
    rq_im2col_panel(&s->g, isa, panel, f->base, s->tap, s->depth, first, n, s->g.direct ? s->flip : 0);
}

static size_t pad_bytes(const conv_state *s)
{
    return rq_mem_round(rq_im2col_bytes(&s->g));
}

/* Scratch for one image on `threads` threads: the padded planes, then what the product asks for. */
static size_t image_bytes(const rq_op_args *a, int threads)
{
    const conv_state *s = a->state;
    const int64_t columns = s->g.out[0] * s->g.out[1] * s->g.out[2];
    size_t n = pad_bytes(s) + (s->depthwise ? 0 : rq_gemm_scratch(&a->k->gemm, s->depth, columns, threads));
    return rq_mem_round(n);
}

static size_t flags_bytes(int slots)
{
    return rq_mem_round((size_t)slots * sizeof(atomic_flag));
}

size_t rq_int_conv_scratch(const rq_op_args *a)
{
    const int threads = rq_threads_count(a->threads);
    size_t shared = image_bytes(a, threads), each = flags_bytes(threads) + (size_t)threads * image_bytes(a, 1);
    return shared > each ? shared : each;
}

/* Image n of the batch, with this scratch, on these threads. */
static void conv_image(const rq_op_args *a, int64_t n, char *scratch, rq_threads *t)
{
    const conv_state *s = a->state;
    const rq_im2col *g = &s->g;
    const int64_t columns = g->out[0] * g->out[1] * g->out[2], rows = s->outputs / s->group;
    const uint8_t *base = a->in[0]->u8 + n * g->channels * g->in[0] * g->in[1] * g->in[2];
    if (!g->direct) {
        rq_im2col_pad(g, (uint8_t *)scratch, base, s->flip, s->fill, t);
        base = (const uint8_t *)scratch;
    }
    rq_gemm_out out = finishing(a, s);
    if (s->depthwise) {
        dw_args d = { .a = a, .s = s, .base = base, .out = out };
        d.out.y = output_at(a, n * s->outputs * columns);
        rq_threads_for(t, s->outputs, dw_channel, &d);
        return;
    }
    for (int64_t i = 0; i < s->group; i++) {
        fill_args f = {
            .a = a, .s = s, .base = base + i * (g->channels / s->group) * g->channel_stride, .columns = columns
        };
        rq_gemm job = { .k = a->k,
                        .rows = rows,
                        .depth = s->depth,
                        .columns = columns,
                        .fill = fill_panel,
                        .fill_arg = &f,
                        .out = out };
        job.a = (const char *)s->a + (size_t)i * s->a_bytes;
        job.scratch = scratch + pad_bytes(s);
        job.out.row_add += i * rows;
        job.out.row_m += i * rows;
        if (s->any_zero)
            job.out.row_zero += i * rows;
        if (out.row_unit)
            job.out.row_unit += i * rows;
        if (out.row_bias)
            job.out.row_bias += i * rows;
        job.out.y = output_at(a, (n * s->outputs + i * rows) * columns);
        rq_gemm_run(&job, t);
    }
}

/* Images side by side: each takes one of as many scratches as there are threads. */
typedef struct images {
    const rq_op_args *a;
    atomic_flag *busy; /* [slots] */
    char *scratch;
    size_t bytes; /* of one */
    int slots;
} images;

static void image_item(void *arg, int64_t n)
{
    const images *im = arg;
    int slot = 0; /* at most `slots` threads are here, so one is free */
    while (atomic_flag_test_and_set_explicit(&im->busy[slot], memory_order_acquire))
        slot = (slot + 1) % im->slots;
    conv_image(im->a, n, im->scratch + (size_t)slot * im->bytes, NULL);
    atomic_flag_clear_explicit(&im->busy[slot], memory_order_release);
}

rq_status rq_int_conv_forward(const rq_op_args *a)
{
    const conv_state *s = a->state;
    const int64_t batch = a->in[0]->shape.dim[0], columns = s->g.out[0] * s->g.out[1] * s->g.out[2];
    const double products = (double)s->outputs * (double)s->depth * (double)columns; /* of one image */
    if (columns == 0)
        return RQ_OK;
    if (batch > 1 && products < MANY_PRODUCTS && products * (double)batch >= FEW_PRODUCTS) {
        images im = { .a = a, .busy = a->scratch, .bytes = image_bytes(a, 1), .slots = rq_threads_count(a->threads) };
        im.scratch = (char *)a->scratch + flags_bytes(im.slots);
        for (int i = 0; i < im.slots; i++)
            atomic_flag_clear(&im.busy[i]);
        rq_threads_for(a->threads, batch, image_item, &im);
        return RQ_OK;
    }
    rq_threads *t = products < FEW_PRODUCTS ? NULL : a->threads;
    for (int64_t n = 0; n < batch; n++)
        conv_image(a, n, a->scratch, t);
    return RQ_OK;
}
