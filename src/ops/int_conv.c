/* ops/int_conv.c — Conv on codes: a product of rows of pixels with packed weights (ops/int_taps.h), requantized per channel (docs/onnx-facts.md 6.2).
 *
 * With one input channel per group it is no product of matrices (ops/int_depthwise.h), and windows of 3 x 3 often need fewer multiplications
 * (ops/int_winograd.h). With few input channels a tap sees few bytes. So the taps of a kernel's row are taken together where they lie together: always where the window
 * never leaves the image along the last axis, else from a copy of the image with borders on that axis. */
#include "base/mem.h"
#include "ops/int_depthwise.h"
#include "ops/int_last.h"
#include "ops/int_ops.h"
#include "ops/int_taps.h"
#include "ops/int_winograd.h"
#include "ops/last.h"
#include "ops/window.h"

#include <string.h>

enum {
    FEW_BYTES = 64,       /* of a pixel, up to which the image is copied for that */
    COPY_BYTES = 1 << 14, /* of an item of the copy */
};

typedef struct conv_state {
    rq_int_depthwise *depthwise; /* one of the two, or NULL: the rest */
    rq_int_winograd *winograd;
    rq_window w;
    rq_int_taps taps;
    int64_t width; /* pixels of a row of the copy; 0: no copy */
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
    rq_int_depthwise_destroy(s->depthwise);
    rq_int_winograd_destroy(s->winograd);
    rq_int_taps_release(&s->taps);
    rq_mem_free(s);
}

void rq_int_conv_pack(const rq_op_args *a)
{
    conv_state *s = a->state;
    if (s->depthwise)
        rq_int_depthwise_pack(s->depthwise, a);
    else
        rq_int_taps_pack(&s->taps, a);
}

void rq_int_conv_fold(const rq_op_args *a)
{
    conv_state *s = a->state;
    if (s->depthwise)
        rq_int_depthwise_fold(s->depthwise, a);
    else
        rq_int_taps_fold(&s->taps, a);
}

void rq_int_conv_scaled(const rq_op_args *a, const float *bias)
{
    conv_state *s = a->state;
    if (s->depthwise)
        rq_int_depthwise_scaled(s->depthwise, bias);
    else
        rq_int_taps_scaled(&s->taps, bias);
}

/* How many pixels of a row the windows of w see, from the first one in the border before it. */
static int64_t seen(const rq_window *w)
{
    return (w->out[2] - 1) * w->stride[2] + (w->kernel[2] - 1) * w->dilation[2] + 1;
}

/* Are the taps of a kernel's row one piece, and is there a copy of the image for it? */
static void choose_pieces(conv_state *s, int64_t channels)
{
    const rq_window *w = &s->w;
    const bool inside = w->pad_lo[2] == 0 && seen(w) <= w->in[2];
    s->taps.span = 1;
    if (w->dilation[2] != 1 || w->kernel[2] == 1 || s->taps.group != 1 || (!inside && channels > FEW_BYTES))
        return;
    s->taps.span = w->kernel[2];
    if (inside && w->kernel[2] * channels >= FEW_BYTES)
        return;
    const int64_t needed = seen(w), there = w->pad_lo[2] + w->in[2];
    s->width = needed > there ? needed : there;
}

static rq_status list_pieces(conv_state *s)
{
    const rq_window *w = &s->w;
    rq_int_taps *t = &s->taps;
    const int64_t along = w->kernel[2] / t->span;
    t->pieces = w->kernel[0] * w->kernel[1] * along;
    t->at = rq_mem_alloc((size_t)t->pieces, sizeof *t->at);
    t->tap = rq_mem_alloc((size_t)t->pieces, sizeof *t->tap);
    if (!t->at || !t->tap)
        return RQ_NO_MEMORY;
    for (int64_t k = 0; k < t->pieces; k++) {
        const int64_t i[3] = { k / along / w->kernel[1], k / along % w->kernel[1], k % along };
        for (int d = 0; d < 3; d++)
            t->at[k][d] = i[d] * w->dilation[d] - w->pad_lo[d];
        if (s->width)
            t->at[k][2] += w->pad_lo[2];
        t->tap[k] = k * t->span;
    }
    return RQ_OK;
}

static rq_status prepare_depthwise(const rq_op_args *a, conv_state *s)
{
    RQ_TRY(rq_int_depthwise_create(&s->depthwise, a));
    if (a->in[1]->data) {
        RQ_TRY(rq_int_depthwise_pack_constant(s->depthwise, a));
        rq_int_depthwise_fold(s->depthwise, a);
    }
    return RQ_OK;
}

static rq_status prepare_products(const rq_op_args *a, conv_state *s)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    rq_int_taps *t = &s->taps;
    RQ_TRY(rq_window_conv(&s->w, a->node, x, w, a->err));
    RQ_TRY(rq_window_group(a->node, &t->group, a->err));
    if (rq_int_winograd_is(a, &s->w))
        return rq_int_winograd_create(&s->winograd, a, &s->w);
    memcpy(t->in, s->w.in, sizeof t->in);
    memcpy(t->out, s->w.out, sizeof t->out);
    memcpy(t->stride, s->w.stride, sizeof t->stride);
    t->per_in = w->dim[1];
    t->per_out = w->dim[0] / t->group;
    t->members = 1;
    t->in_step = rq_window_span(s->w.kernel);
    t->out_step = t->per_in * t->in_step;
    t->group_step = t->per_out * t->out_step;
    choose_pieces(s, x->dim[1]);
    if (s->width)
        t->in[2] = s->width;
    RQ_TRY(list_pieces(s));
    return rq_int_taps_init(t, a, t->span > 1 ? "rows of a kernel" : "taps of a kernel", s->width != 0);
}

rq_status rq_int_conv_prepare(const rq_op_args *a, void **state)
{
    conv_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    const rq_status st = rq_int_depthwise_is(a) ? prepare_depthwise(a, s) : prepare_products(a, s);
    if (st) {
        rq_int_conv_release(s);
        return st;
    }
    *state = s;
    return RQ_OK;
}

/* ---- running ---- */

/* Scratch: the input channels-last, its copy with borders, what the product asks for, the output channels-last. */
typedef struct layout {
    size_t copy, product, made, bytes;
} layout;

static layout layout_of(const rq_op_args *a, const conv_state *s)
{
    const int64_t batch = a->in[0]->shape.dim[0];
    layout l = { .copy = rq_int_last_in_bytes(a) };
    l.product = l.copy;
    if (s->width) /* pieces may be filled up: a few bytes behind the last pixel */
        l.product += rq_mem_round((size_t)(batch * rq_window_span(s->taps.in) * a->in[0]->shape.dim[1] + s->taps.run));
    l.made = l.product + rq_mem_round(s->depthwise  ? rq_int_depthwise_scratch(s->depthwise, a)
                                      : s->winograd ? rq_int_winograd_scratch(s->winograd, a)
                                                    : rq_int_taps_scratch(&s->taps, batch));
    l.bytes = l.made + rq_int_last_out_bytes(a);
    return l;
}

size_t rq_int_conv_scratch(const rq_op_args *a)
{
    return layout_of(a, a->state).bytes;
}

typedef struct copy {
    const conv_state *s;
    uint8_t *dst;
    const uint8_t *src;
    int64_t pixel, ld, rows, some; /* bytes, from one to the next in src; all rows, of an item */
} copy;

static inline __attribute__((always_inline)) void gather(uint8_t *restrict to, const uint8_t *restrict from, int64_t n,
                                                         size_t pixel, int64_t ld)
{
    for (int64_t i = 0; i < n; i++, to += pixel, from += ld)
        memcpy(to, from, pixel);
}

/* n pixels that lie apart; those of usual sizes without a call for each. */
static void gather_pixels(uint8_t *to, const uint8_t *from, int64_t n, int64_t pixel, int64_t ld)
{
    if (pixel == 8)
        gather(to, from, n, 8, ld);
    else if (pixel == 16)
        gather(to, from, n, 16, ld);
    else if (pixel == 32)
        gather(to, from, n, 32, ld);
    else if (pixel == 64)
        gather(to, from, n, 64, ld);
    else
        gather(to, from, n, (size_t)pixel, ld);
}

static void copy_rows(void *arg, int64_t item)
{
    const copy *c = arg;
    const rq_window *w = &c->s->w;
    const size_t lo = (size_t)(w->pad_lo[2] * c->pixel), n = (size_t)(w->in[2] * c->pixel),
                 all = (size_t)(c->s->width * c->pixel);
    const uint8_t fill = c->s->taps.zeros[0];
    for (int64_t i = item * c->some; i < c->rows && i < (item + 1) * c->some; i++) {
        uint8_t *to = c->dst + (size_t)i * all;
        memset(to, fill, lo);
        if (c->ld == c->pixel)
            memcpy(to + lo, c->src + (size_t)i * n, n);
        else
            gather_pixels(to + lo, c->src + i * w->in[2] * c->ld, w->in[2], c->pixel, c->ld);
        memset(to + lo + n, fill, all - lo - n);
    }
}

static void copy_image(const rq_op_args *a, const conv_state *s, uint8_t *dst, const uint8_t *src)
{
    copy c = { .s = s, .dst = dst, .src = src, .pixel = a->in[0]->shape.dim[1], .ld = rq_last_in_ld(a, 0) };
    c.rows = a->in[0]->shape.dim[0] * s->w.in[0] * s->w.in[1];
    c.some = COPY_BYTES / (s->width * c.pixel) + 1;
    const int64_t items = (c.rows + c.some - 1) / c.some;
    rq_threads_for(items < 4 ? NULL : a->threads, items, copy_rows, &c);
    memset(dst + c.rows * s->width * c.pixel, 0, (size_t)s->taps.run); /* what filled up pieces see */
}

rq_status rq_int_conv_forward(const rq_op_args *a)
{
    const conv_state *s = a->state;
    if (!rq_tensor_count(a->out[0]))
        return RQ_OK;
    const layout l = layout_of(a, s);
    uint8_t *scratch = a->scratch;
    const uint8_t *x = rq_int_last_in(a, scratch);
    int64_t x_ld = rq_last_in_ld(a, 0);
    if (s->width && s->taps.run) {
        copy_image(a, s, scratch + l.copy, x);
        x = scratch + l.copy;
        x_ld = a->in[0]->shape.dim[1];
    }
    void *y = l.bytes > l.made ? scratch + l.made : a->out[0]->data;
    if (s->depthwise)
        rq_int_depthwise_run(s->depthwise, a, x, x_ld, y, scratch + l.product);
    else if (s->winograd)
        rq_int_winograd_run(s->winograd, a, x, x_ld, y, scratch + l.product);
    else
        rq_int_taps_run(&s->taps, a, x, x_ld, y, rq_int_last_ld(a), true, scratch + l.product);
    rq_int_last_out(a, y);
    return RQ_OK;
}
