/* Conv and ConvTranspose on codes, channels-last and in planes, against plain loops over the definition (docs/onnx-facts.md 6.2): few channels, many
 * small groups, kernels of more taps than a product takes at once, windows that hang over the border, extremes; with posts and with shared packs; on every
 * instruction set of this machine, on one and two threads, in buffers of the exact size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/quantize.h"
#include "ops/int_fixture.h"
#include "ops/int_pick.h"
#include "ops/packs.h"
#include "ops/window.h"

enum { MANY = 512 }; /* channels: all their weights are large */

static rq_threads *pool;

/* What a run may differ in. */
typedef struct way {
    unsigned cpu;
    rq_threads *threads;
    bool last, packs, posts;
} way;

/* A node with the sums it must make. */
typedef struct product {
    fixture f;
    bool transposed;
    rq_window w;
    int64_t batch, channels, outputs, group;
    int32_t *sum; /* as the output lies, [N][M][out] */
    uint8_t table[256], *other;
    rq_qadd add;
} product;

/* Random, or all one extreme, or both in turn. */
static void fill(product *p, int input, int kind)
{
    rq_tensor *t = &p->f.in[input];
    const uint8_t lo = t->dtype == RQ_DTYPE_S8 ? 0x80 : 0, hi = t->dtype == RQ_DTYPE_S8 ? 0x7f : 0xff;
    for (size_t i = 0; kind && i < t->bytes; i++)
        t->u8[i] = kind == 1 || (kind == 3 && i % 2) ? lo : hi;
}

static void sum_up(product *p)
{
    const fixture *f = &p->f;
    const rq_window *w = &p->w;
    const int64_t taps = rq_window_span(w->kernel), ins = rq_window_span(w->in), outs = rq_window_span(w->out);
    const int64_t per_in = p->channels / p->group, per_out = p->outputs / p->group;
    p->sum = calloc((size_t)(p->batch * p->outputs * outs) + 1, sizeof *p->sum);
    for (int64_t i = 0; f->n_in > 2 && i < p->batch * p->outputs * outs; i++)
        p->sum[i] = f->in[2].s32[i / outs % p->outputs];
    /* of every pair of an input and an output that a tap joins: `small` is the side that windows walk on */
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t s = 0; s < (p->transposed ? ins : outs); s++)
            for (int64_t t = 0; t < taps; t++) {
                const int64_t *size = p->transposed ? w->in : w->out, *other = p->transposed ? w->out : w->in;
                const int64_t at[3] = { s / (size[1] * size[2]), s / size[2] % size[1], s % size[2] };
                const int64_t tap[3] = { t / (w->kernel[1] * w->kernel[2]), t / w->kernel[2] % w->kernel[1],
                                         t % w->kernel[2] };
                int64_t far = 0;
                bool inside = true;
                for (int i = 0; i < 3; i++) {
                    const int64_t k = at[i] * w->stride[i] - w->pad_lo[i] + tap[i] * w->dilation[i];
                    inside = inside && k >= 0 && k < other[i];
                    far = far * other[i] + k;
                }
                if (!inside)
                    continue;
                const int64_t x_at = p->transposed ? s : far, y_at = p->transposed ? far : s;
                for (int64_t c = 0; c < p->outputs; c++)
                    for (int64_t k = 0; k < per_in; k++) {
                        const int64_t g = c / per_out, ic = g * per_in + k;
                        const int64_t at_w =
                            p->transposed ? (ic * per_out + c % per_out) * taps + t : (c * per_in + k) * taps + t;
                        const int64_t z = f->q[1].n == 1 ? 0 : p->transposed ? c % per_out : c;
                        p->sum[(n * p->outputs + c) * outs + y_at] +=
                            (code(&f->in[0], (n * p->channels + ic) * ins + x_at) - f->q[0].zero_point[0]) *
                            (code(&f->in[1], at_w) - f->q[1].zero_point[z]);
                    }
            }
}

/* What element i of the output must be. */
static double want(const product *p, int64_t i, bool posts)
{
    const fixture *f = &p->f;
    if (f->out.dtype == RQ_DTYPE_S32)
        return p->sum[i];
    const int64_t c = i / rq_window_span(p->w.out) % p->outputs, per_out = p->outputs / p->group;
    const rq_qparams *x = &f->q[0], *w = &f->q[1], *y = &f->q[MAX_IN];
    const float scale = x->scale[0] * w->scale[w->n == 1 ? 0 : p->transposed ? c % per_out : c];
    if (f->out.dtype == RQ_DTYPE_F32)
        return (double)((float)p->sum[i] * scale);
    int32_t lo, hi;
    rq_qparams_limits(y, &lo, &hi);
    const int32_t v = rq_quantize_acc(p->sum[i], scale / y->scale[0], y->zero_point[0], lo, hi);
    if (!posts)
        return v;
    rq_kernels k;
    rq_kernels_init(&k, 0);
    uint8_t byte = p->table[(uint8_t)(v + (y->dtype == RQ_DTYPE_S8 ? 128 : 0))];
    k.qadd(&byte, &byte, &p->other[i], 1, &p->add);
    return byte - (y->dtype == RQ_DTYPE_S8 ? 128 : 0); /* as the comparison has it */
}

/* [images][rows][columns] to [images][columns][rows], flipped. */
static void *turned(const void *from, int64_t images, int64_t rows, int64_t columns, uint8_t flip)
{
    const uint8_t *src = from;
    uint8_t *dst = malloc((size_t)(images * rows * columns));
    for (int64_t n = 0; n < images; n++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                dst[(n * columns + c) * rows + r] = src[(n * rows + r) * columns + c] ^ flip;
    return dst;
}

static void run(product *p, const way *by, const char *what)
{
    fixture *f = &p->f;
    const rq_int_form *form = p->transposed ? &rq_int_plain_deconv : &rq_int_plain_conv;
    const int64_t ins = rq_window_span(p->w.in), outs = rq_window_span(p->w.out), n_out = rq_tensor_count(&f->out);
    const bool codes = f->has_q[MAX_IN], flip_x = f->in[0].dtype == RQ_DTYPE_S8,
               flip_y = codes && f->out.dtype == RQ_DTYPE_S8;
    rq_kernels k;
    rq_kernels_init(&k, by->cpu);
    rq_packs packs = { 0 };
    rq_tensor x = f->in[0], hidden, y = f->out;
    rq_qparams xq = f->q[0], yq = f->q[MAX_IN];
    int32_t zx = xq.zero_point[0], zy = codes ? yq.zero_point[0] : 0;
    const size_t element = codes ? 1 : 4;
    void *in_bytes = NULL, *out_bytes = malloc((size_t)n_out * element + !n_out), *others = NULL;
    if (by->last) {
        in_bytes = turned(f->in[0].data, p->batch, p->channels, ins, flip_x ? 0x80 : 0);
        x.dtype = xq.dtype = RQ_DTYPE_U8;
        zx += flip_x ? 128 : 0;
        if (codes) {
            y.dtype = yq.dtype = RQ_DTYPE_U8;
            zy += flip_y ? 128 : 0;
        }
    } else {
        in_bytes = malloc(f->in[0].bytes + !f->in[0].bytes);
        memcpy(in_bytes, f->in[0].data, f->in[0].bytes);
    }
    xq.zero_point = &zx;
    yq.zero_point = &zy;
    x.data = in_bytes;
    y.data = out_bytes;
    hidden = x;
    hidden.data = NULL;
    const rq_tensor *in[3] = { &hidden, &f->in[1], f->n_in > 2 ? &f->in[2] : NULL };
    const rq_qparams *in_q[3] = { &xq, &f->q[1], NULL }, *out_q[1] = { codes ? &yq : NULL };
    rq_tensor *out[1] = { &y };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = 17,
                     .in = in,
                     .out = out,
                     .n_in = f->n_in,
                     .n_out = 1,
                     .in_q = in_q,
                     .out_q = out_q,
                     .k = &k,
                     .threads = by->threads,
                     .last = by->last,
                     .packs = by->packs ? &packs : NULL };
    const char *why = "";
    y.dtype = y.dtype == RQ_DTYPE_S32 ? RQ_DTYPE_F32 : y.dtype; /* as the forms are asked */
    if (!form->accepts(&a, &why))
        fail_msg("%s: refused: %s", what, why);
    y.dtype = codes ? y.dtype : f->out.dtype;
    assert_int_equal(form->prepare(&a, &a.state), RQ_OK);
    void *second = NULL; /* finds the pack of the first */
    if (by->packs)
        assert_int_equal(form->prepare(&a, &second), RQ_OK);
    in[0] = &x;
    const size_t bytes = form->scratch(&a);
    void *scratch = NULL;
    assert_int_equal(posix_memalign(&scratch, 64, bytes + !bytes), 0);
    memset(scratch, 0xa5, bytes);
    memset(out_bytes, 0x5a, (size_t)n_out * element);
    rq_post posts[2] = { { .kind = RQ_POST_TABLE, .table = p->table }, { .kind = RQ_POST_ADD, .add = p->add } };
    if (by->posts) {
        posts[1].other = others = turned(p->other, p->batch, p->outputs, outs, 0);
        a.post = posts;
        a.n_post = 2;
    }
    a.scratch = scratch;
    if (second) {
        form->release(a.state);
        a.state = second;
    }
    assert_int_equal(form->forward(&a), RQ_OK);
    form->release(a.state);
    rq_packs_release(&packs);
    void *plain = by->last && codes ? turned(out_bytes, p->batch, outs, p->outputs, flip_y ? 0x80 : 0) : NULL;
    rq_tensor got = f->out;
    got.data = plain ? plain : out_bytes;
    for (int64_t i = 0; i < n_out; i++) {
        const double v = codes ? code(&got, i) : got.dtype == RQ_DTYPE_F32 ? (double)got.f32[i] : got.s32[i];
        if (v != want(p, i, by->posts))
            fail_msg("%s, cpu %x, %d threads%s%s%s: element %lld is %.9g, expected %.9g", what, by->cpu,
                     rq_threads_count(by->threads), by->last ? ", last" : "", by->packs ? ", packs" : "",
                     by->posts ? ", posts" : "", (long long)i, v, want(p, i, by->posts));
    }
    free(plain);
    free(others);
    free(scratch);
    free(in_bytes);
    free(out_bytes);
}

static void run_all(product *p, const char *what)
{
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++)
        for (int i = 0; (rq_cpu_detect() & flags) == flags && i < 4; i++) {
            way one = { .cpu = flags, .threads = i % 2 ? pool : NULL, .last = i < 3, .packs = i == 1 };
            one.posts = i == 2 && p->f.has_q[MAX_IN];
            run(p, &one, what);
        }
}

/* The layer as drawn so far: x [N][C][in], w, with its attributes set. */
static void finish_case(product *p, const int64_t *x, const int64_t *w, int nd, const char *kind, int number)
{
    fixture *f = &p->f;
    const rq_dtype xd = byte_types[draw(f, 0, 1)], wd = byte_types[draw(f, 0, 1)];
    const bool per_channel = draw(f, 0, 1);
    const int to = (int)draw(f, 0, 5); /* s32, f32, codes */
    p->batch = x[0];
    p->channels = x[1];
    p->outputs = p->transposed ? w[1] * p->group : w[0];
    add_input(f, xd, nd + 2, x);
    add_input(f, wd, nd + 2, w);
    if (draw(f, 0, 1))
        add_input(f, RQ_DTYPE_S32, 1, &p->outputs);
    fill(p, 0, (int)draw(f, 0, 5) % 4);
    fill(p, 1, (int)draw(f, 0, 5) % 4);
    if (w[1] >= MANY) /* of one sign: their sums are the largest */
        fill(p, 1, wd == RQ_DTYPE_S8 ? 2 : 1);
    set_int(f, "group", p->group);
    set_q(f, 0, xd, RQ_PER_TENSOR, 1, false, 0.02f);
    set_q(f, 1, wd, per_channel ? (int)p->transposed : RQ_PER_TENSOR, per_channel ? w[p->transposed] : 1, draw(f, 0, 2),
          0.01f);
    const rq_node *node = &f->g->nodes[f->node];
    assert_int_equal(p->transposed ? rq_window_deconv(&p->w, node, &f->in[0].shape, &f->in[1].shape, NULL)
                                   : rq_window_conv(&p->w, node, &f->in[0].shape, &f->in[1].shape, NULL),
                     RQ_OK);
    const rq_shape y = rq_window_out_shape(&p->w, &f->in[0].shape, p->outputs);
    if (to > 1)
        set_q(f, MAX_IN, byte_types[draw(f, 0, 1)], RQ_PER_TENSOR, 1, false, 0.5f);
    set_output(f, to == 0 ? RQ_DTYPE_S32 : to == 1 ? RQ_DTYPE_F32 : f->q[MAX_IN].dtype, &y);
    for (int i = 0; i < 256; i++)
        p->table[i] = (uint8_t)rq_rng_u64(f->rng);
    p->other = malloc((size_t)rq_tensor_count(&f->out) + 1);
    for (int64_t i = 0; i < rq_tensor_count(&f->out); i++)
        p->other[i] = (uint8_t)rq_rng_u64(f->rng);
    p->add = (rq_qadd) { .ra = 0.75f, .rb = 0.5f, .k = -20 };
    sum_up(p);
    char what[200];
    snprintf(what, sizeof what, "%s %d: %d axes, group %d, %d to %d channels, kernel %dx%dx%d, %s x %s", kind, number,
             nd, (int)p->group, (int)p->channels, (int)p->outputs, (int)p->w.kernel[0], (int)p->w.kernel[1],
             (int)p->w.kernel[2], rq_dtype_name(xd), rq_dtype_name(wd));
    run_all(p, what);
    free(p->sum);
    free(p->other);
    finish(f);
}

typedef struct drawn {
    int64_t x[5], w[5], stride[3], dilation[3], pads[6];
} drawn;

static void set_window(product *p, const drawn *d, int nd)
{
    set_ints(&p->f, "strides", d->stride, nd);
    set_ints(&p->f, "dilations", d->dilation, nd);
    set_ints(&p->f, "pads", d->pads, 2 * nd);
}

/* Axis i: a kernel of lo..hi, and an input that it fits in with `pad` on each side at most. */
static void draw_axis(product *p, drawn *d, int i, int nd, int64_t lo, int64_t hi, int64_t pad, int64_t more)
{
    fixture *f = &p->f;
    d->stride[i] = draw(f, 1, 3);
    d->dilation[i] = draw(f, 0, 2) ? 1 : 2;
    d->w[2 + i] = draw(f, lo, hi);
    d->pads[i] = draw(f, 0, pad);
    d->pads[nd + i] = draw(f, 0, pad);
    const int64_t reach = (d->w[2 + i] - 1) * d->dilation[i] + 1 - d->pads[i] - d->pads[nd + i];
    d->x[2 + i] = (reach < 1 ? 1 : reach) + draw(f, 0, more);
}

static void few_channels(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 11);
    for (int i = 0; i < 80; i++) {
        product p = { .group = 1 };
        start(&p.f, &rng, "Conv");
        const int nd = (int)draw(&p.f, 1, 3);
        drawn d = { .x = { draw(&p.f, 1, 3), draw(&p.f, 1, 12) }, .w = { draw(&p.f, 1, 40) } };
        d.w[1] = d.x[1];
        for (int k = 0; k < nd; k++) {
            draw_axis(&p, &d, k, nd, 1, nd == 3 ? 3 : 7, i % 3 ? 3 : 0, k == nd - 1 ? 33 : 5);
            if (k == nd - 1 && i % 4)
                d.dilation[k] = 1;
        }
        set_window(&p, &d, nd);
        finish_case(&p, d.x, d.w, nd, "few channels", i);
    }
}

static void small_groups(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 12);
    for (int i = 0; i < 80; i++) {
        product p = { 0 };
        start(&p.f, &rng, "Conv");
        const int nd = (int)draw(&p.f, 1, 2);
        p.group = draw(&p.f, 2, 24);
        drawn d = { .x = { draw(&p.f, 1, 2), p.group * draw(&p.f, 1, 6) } };
        d.w[0] = p.group * draw(&p.f, 1, 6);
        d.w[1] = d.x[1] / p.group;
        for (int k = 0; k < nd; k++)
            draw_axis(&p, &d, k, nd, 1, 3, 2, k == nd - 1 ? 20 : 3);
        set_window(&p, &d, nd);
        finish_case(&p, d.x, d.w, nd, "small groups", i);
    }
}

static void many_taps(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 13);
    for (int i = 0; i < 12; i++) {
        product p = { .group = i % 4 == 3 ? 2 : 1 };
        start(&p.f, &rng, "Conv");
        const int nd = i % 2 + 1;
        const int64_t each = draw(&p.f, 1, 5);
        drawn d = { .x = { draw(&p.f, 1, 2), each * p.group }, .w = { p.group * draw(&p.f, 1, 20), each } };
        for (int k = 0; k < nd; k++) {
            draw_axis(&p, &d, k, nd, nd == 1 ? 250 : 15, nd == 1 ? 800 : 24, 4, 9);
            d.dilation[k] = 2; /* no rows of taps in one piece */
            d.x[2 + k] += d.w[2 + k];
        }
        set_window(&p, &d, nd);
        finish_case(&p, d.x, d.w, nd, "many taps", i);
    }
}

/* Windows that see nothing but border, single pixels, wide channels. */
static void odd_sizes(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 14);
    for (int i = 0; i < 60; i++) {
        product p = { .group = 1 };
        start(&p.f, &rng, "Conv");
        const int nd = (int)draw(&p.f, 1, 2);
        drawn d = { .x = { draw(&p.f, 1, 5), draw(&p.f, 60, 140) }, .w = { draw(&p.f, 1, 70) } };
        d.w[1] = d.x[1];
        for (int k = 0; k < nd; k++) {
            draw_axis(&p, &d, k, nd, 1, i % 2 ? 1 : 5, i % 2 ? 0 : 6, i % 3 ? 0 : 16);
            if (i % 4 == 0)
                d.stride[k] = 5;
        }
        set_window(&p, &d, nd);
        finish_case(&p, d.x, d.w, nd, "odd sizes", i);
    }
}

/* Windows of 3 x 3 next to each other, where products are fewer (ops/int_winograd.h): what is too small, wide or uneven for that is among them. */
static void small_windows(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 16);
    for (int i = 0; i < 50; i++) {
        product p = { .group = 1 };
        start(&p.f, &rng, "Conv");
        const bool beyond = i % 10 == 9; /* sums that would be cut off */
        drawn d = { .x = { draw(&p.f, 1, 3), beyond ? 600 : draw(&p.f, 10, 90) },
                    .w = { draw(&p.f, 10, beyond ? 20 : 70), 0, 3, 3 } };
        d.w[1] = d.x[1];
        for (int k = 0; k < 2; k++) {
            d.stride[k] = i % 12 == 11 ? 2 : 1;
            d.dilation[k] = i % 13 == 12 ? 2 : 1;
            d.pads[k] = draw(&p.f, 0, 2);
            d.pads[2 + k] = draw(&p.f, 0, 2);
            d.x[2 + k] = beyond ? 8 : draw(&p.f, 6, 19);
        }
        set_window(&p, &d, 2);
        finish_case(&p, d.x, d.w, 2, "small windows", i);
    }
}

static void transposed(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 15);
    for (int i = 0; i < 100; i++) {
        product p = { .transposed = true };
        start(&p.f, &rng, "ConvTranspose");
        const int nd = (int)draw(&p.f, 1, 3);
        p.group = i % 3 ? 1 : draw(&p.f, 2, 9);
        const int64_t per_in = draw(&p.f, 1, i % 2 ? 4 : 20), per_out = draw(&p.f, 1, i % 2 ? 4 : 20);
        drawn d = { .x = { draw(&p.f, 1, 2), p.group * per_in }, .w = { p.group * per_in, per_out } };
        for (int k = 0; k < nd; k++) {
            d.stride[k] = draw(&p.f, 1, 4);
            d.dilation[k] = draw(&p.f, 1, 2);
            d.w[2 + k] = i % 5 ? draw(&p.f, 1, 4) : d.stride[k];
            d.x[2 + k] = draw(&p.f, 1, k == nd - 1 ? 20 : 4);
            const int64_t full = d.stride[k] * (d.x[2 + k] - 1) + (d.w[2 + k] - 1) * d.dilation[k] + 1;
            d.pads[k] = draw(&p.f, 0, (full - 1) / 2 < 2 ? (full - 1) / 2 : 2);
            d.pads[nd + k] = draw(&p.f, 0, (full - 1) / 2 < 2 ? (full - 1) / 2 : 2);
        }
        set_window(&p, &d, nd);
        finish_case(&p, d.x, d.w, nd, "transposed", i);
    }
}

static int make_pool(void **state)
{
    (void)state;
    return rq_threads_create(&pool, 2);
}

static int drop_pool(void **state)
{
    (void)state;
    rq_threads_destroy(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_channels), cmocka_unit_test(small_groups),  cmocka_unit_test(many_taps),
        cmocka_unit_test(odd_sizes),    cmocka_unit_test(small_windows), cmocka_unit_test(transposed),
    };
    return cmocka_run_group_tests(tests, make_pool, drop_pool);
}
