/* ops/int_deconv.c — ConvTranspose on codes: the sums of ops/int_taps.h, requantized per channel, as Conv (ops/int_conv.c).
 *
 * Output o of an axis is met by taps t with t * dilation = o + pad modulo the stride, from input (o + pad - t *
 * dilation) / stride. So the outputs with one remainder (a phase) are a convolution of stride 1 with some of the taps, at
 * inputs that walk down by a fixed step. Phases that look at the same inputs are columns of one product: where kernel
 * and stride are equal that is all of them. What a product makes is then dealt out to where it stands in the output. */
#include "base/mem.h"
#include "ops/int_last.h"
#include "ops/int_ops.h"
#include "ops/int_taps.h"
#include "ops/window.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_PHASES = 4096,  /* each is compared with every other */
    SMALL_WORK = 1 << 16 /* bytes from which dealing out is shared by threads */
};

/* What the outputs first, first + stride ... of an axis see: tap + m * tap_step (m < n) at input base - m * step of the
 * first output, one further for each next one. */
typedef struct phase {
    int64_t tap, tap_step, n, base, step, outs;
} phase;

/* Phases that see the same inputs: one product. */
typedef struct product {
    rq_int_taps taps;
    int64_t (*first)[3]; /* [members] the first output */
} product;

typedef struct deconv_state {
    rq_window w;
    int64_t group, outputs;
    product *products;
    int n_products;
} deconv_state;

static int64_t phase_count(const rq_window *w, int i)
{
    return w->stride[i] < w->out[i] ? w->stride[i] : w->out[i];
}

bool rq_int_deconv_accepts(const rq_op_args *a, const char **why)
{
    const int64_t group = rq_attr_int(a->node, RQ_WORD_group, 1);
    *why = "nothing to add";
    if (!rq_tensor_count(a->in[0]) || !rq_tensor_count(a->in[1]) ||
        !rq_int_is_conv(a, 1, a->in[1]->shape.dim[1] * group, why))
        return false;
    rq_window w;
    *why = "strides make too many phases";
    if (rq_window_deconv(&w, a->node, &a->in[0]->shape, &a->in[1]->shape, NULL))
        return true; /* prepare says what is wrong */
    double phases = 1;
    for (int i = 0; i < 3; i++)
        phases *= (double)phase_count(&w, i);
    return phases <= MOST_PHASES;
}

void rq_int_deconv_release(void *state)
{
    deconv_state *s = state;
    if (!s)
        return;
    for (int i = 0; s->products && i < s->n_products; i++) {
        rq_mem_free(s->products[i].first);
        rq_int_taps_release(&s->products[i].taps);
    }
    rq_mem_free(s->products);
    rq_mem_free(s);
}

/* ---- phases ---- */

/* *g: the largest that divides d and s; returns m with m * d = *g modulo s, 0 <= m < s. */
static int64_t invert(int64_t d, int64_t s, int64_t *g)
{
    int64_t a = d % s, b = s, m = 1, n = 0;
    while (a) { /* a = m d, b = n d modulo s */
        const int64_t q = b / a, r = b - q * a, t = n - q * m;
        b = a, a = r;
        n = m, m = t;
    }
    *g = b;
    return n < 0 ? n + s : n;
}

/* The phase of axis i whose first output is o. */
static phase phase_at(const rq_window *w, int i, int64_t o)
{
    const int64_t s = w->stride[i], d = w->dilation[i], at = o + w->pad_lo[i];
    int64_t g;
    const int64_t m = invert(d, s, &g), steps = s / g, rest = at / g % steps;
    phase p = { .tap_step = steps, .step = d / g, .outs = (w->out[i] - o + s - 1) / s };
    p.tap = (rest < 0 ? rest + steps : rest) * (m % steps) % steps; /* the first with tap * d = at modulo s, if g */
    if (at % g == 0 && p.tap < w->kernel[i]) {                      /* divides at */
        p.n = (w->kernel[i] - 1 - p.tap) / p.tap_step + 1;
        p.base = (at - p.tap * d) / s;
    }
    return p;
}

static bool sees_the_same(const phase *a, const phase *b)
{
    return a->n == b->n && a->base == b->base && a->outs == b->outs; /* steps are equal for all */
}

/* Is o the first output of the first phase among those that see what it sees? */
static bool leads(const rq_window *w, int i, int64_t o)
{
    const phase p = phase_at(w, i, o);
    for (int64_t k = 0; k < o; k++) {
        const phase q = phase_at(w, i, k);
        if (sees_the_same(&p, &q))
            return false;
    }
    return true;
}

/* ---- products ---- */

/* Which tap of the kernel a phase meets with its taps m of each axis. */
static int64_t tap_index(const rq_window *w, const phase ph[3], const int64_t m[3])
{
    int64_t t = 0;
    for (int i = 0; i < 3; i++)
        t = t * w->kernel[i] + ph[i].tap + m[i] * ph[i].tap_step;
    return t;
}

/* Member f of p begins at output `first`. */
static void add_member(const deconv_state *s, product *p, int64_t f, const int64_t first[3])
{
    rq_int_taps *t = &p->taps;
    phase ph[3];
    memcpy(p->first[f], first, sizeof p->first[f]);
    for (int i = 0; i < 3; i++)
        ph[i] = phase_at(&s->w, i, first[i]);
    assert(t->pieces == 0 || (ph[1].n > 0 && ph[2].n > 0));
    for (int64_t k = 0; k < t->pieces; k++) {
        const int64_t m[3] = { k / (ph[1].n * ph[2].n), k / ph[2].n % ph[1].n, k % ph[2].n };
        t->tap[f * t->pieces + k] = tap_index(&s->w, ph, m);
        for (int i = 0; i < 3; i++)
            t->at[k][i] = ph[i].base - m[i] * ph[i].step; /* the same for all members */
    }
}

static rq_status make_product(const rq_op_args *a, deconv_state *s, product *p, const int64_t lead[3])
{
    rq_int_taps *t = &p->taps;
    phase ph[3];
    t->pieces = t->members = t->span = 1;
    for (int i = 0; i < 3; i++) {
        int64_t members = 0;
        ph[i] = phase_at(&s->w, i, lead[i]);
        for (int64_t o = lead[i]; o < phase_count(&s->w, i); o++) {
            const phase q = phase_at(&s->w, i, o);
            members += sees_the_same(&ph[i], &q);
        }
        t->in[i] = s->w.in[i];
        t->out[i] = ph[i].outs;
        t->stride[i] = 1;
        t->pieces *= ph[i].n;
        t->members *= members;
    }
    t->group = s->group;
    t->per_in = a->in[0]->shape.dim[1] / s->group;
    t->per_out = s->outputs / s->group;
    t->out_step = rq_window_span(s->w.kernel);
    t->in_step = t->per_out * t->out_step;
    t->group_step = t->per_in * t->in_step;
    p->first = rq_mem_alloc((size_t)t->members, sizeof *p->first);
    t->at = rq_mem_alloc((size_t)t->pieces + 1, sizeof *t->at);
    t->tap = rq_mem_alloc((size_t)t->members, ((size_t)t->pieces + 1) * sizeof *t->tap);
    if (!p->first || !t->at || !t->tap)
        return RQ_NO_MEMORY;
    int64_t f = 0, o[3];
    for (o[0] = lead[0]; o[0] < phase_count(&s->w, 0); o[0]++)
        for (o[1] = lead[1]; o[1] < phase_count(&s->w, 1); o[1]++)
            for (o[2] = lead[2]; o[2] < phase_count(&s->w, 2); o[2]++) {
                bool same = true;
                for (int i = 0; i < 3; i++) {
                    const phase q = phase_at(&s->w, i, o[i]);
                    same = same && sees_the_same(&ph[i], &q);
                }
                if (same)
                    add_member(s, p, f++, o);
            }
    /* where this comes from: which taps they are */
    char name[320];
    int n = 0;
    for (int i = 0; i < 3; i++)
        n += snprintf(name + n, sizeof name - (size_t)n, "%lld/%lld/%lld/%lld/%lld ", (long long)lead[i],
                      (long long)s->w.stride[i], (long long)s->w.dilation[i], (long long)s->w.pad_lo[i],
                      (long long)s->w.out[i]);
    return rq_int_taps_init(t, a, name, false);
}

rq_status rq_int_deconv_prepare(const rq_op_args *a, void **state)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    deconv_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    rq_status st = rq_window_deconv(&s->w, a->node, x, w, a->err);
    if (!st)
        st = rq_window_group(a->node, &s->group, a->err);
    if (!st && rq_tensor_count(a->out[0])) {
        int leaders[3] = { 0 };
        s->outputs = w->dim[1] * s->group;
        for (int i = 0; i < 3; i++)
            for (int64_t o = 0; o < phase_count(&s->w, i); o++)
                leaders[i] += leads(&s->w, i, o);
        s->products = rq_mem_zalloc((size_t)leaders[0] * (size_t)leaders[1], (size_t)leaders[2] * sizeof *s->products);
        st = s->products ? RQ_OK : RQ_NO_MEMORY;
        int64_t o[3];
        for (o[0] = 0; !st && o[0] < phase_count(&s->w, 0); o[0]++)
            for (o[1] = 0; !st && leads(&s->w, 0, o[0]) && o[1] < phase_count(&s->w, 1); o[1]++)
                for (o[2] = 0; !st && leads(&s->w, 1, o[1]) && o[2] < phase_count(&s->w, 2); o[2]++)
                    if (leads(&s->w, 2, o[2]))
                        st = make_product(a, s, &s->products[s->n_products++], o);
    }
    if (st) {
        rq_int_deconv_release(s);
        return st;
    }
    *state = s;
    return RQ_OK;
}

/* ---- running ---- */

/* Is the one product the output as it stands? */
static bool is_in_place(const deconv_state *s)
{
    return s->n_products == 1 && s->products[0].taps.members == 1;
}

/* Scratch: the input channels-last, what products ask for, what one makes, the output channels-last. */
typedef struct layout {
    size_t product, made, out, bytes;
} layout;

static layout layout_of(const rq_op_args *a, const deconv_state *s)
{
    const int64_t batch = a->in[0]->shape.dim[0];
    size_t made = 0, most = 0;
    for (int i = 0; i < s->n_products; i++) {
        const rq_int_taps *t = &s->products[i].taps;
        const size_t n = (size_t)(batch * rq_window_span(t->out) * t->products * t->columns) * rq_int_last_element(a);
        const size_t own = rq_int_taps_scratch(t, batch);
        made = n > made && !is_in_place(s) ? n : made;
        most = own > most ? own : most;
    }
    layout l = { .product = rq_int_last_in_bytes(a) };
    l.made = l.product + most;
    l.out = l.made + rq_mem_round(made);
    l.bytes = l.out + rq_int_last_out_bytes(a);
    return l;
}

size_t rq_int_deconv_scratch(const rq_op_args *a)
{
    const deconv_state *s = a->state;
    return s->n_products ? layout_of(a, s).bytes : 0;
}

typedef struct deal {
    const deconv_state *s;
    const product *p;
    size_t size; /* of an element */
    const char *made;
    char *y;
} deal;

/* One row of what a product made: the channels of each member to their pixel. */
static void deal_row(void *arg, int64_t item)
{
    const deal *d = arg;
    const rq_int_taps *t = &d->p->taps;
    const rq_window *w = &d->s->w;
    const int64_t o1 = item % t->out[1], o0 = item / t->out[1] % t->out[0], image = item / (t->out[1] * t->out[0]);
    const int64_t each = t->joined * t->per_out, ld = t->products * t->columns;
    const char *from = d->made + (size_t)(item * t->out[2] * ld) * d->size;
    for (int64_t f = 0; f < t->members; f++) {
        const int64_t *first = d->p->first[f];
        const int64_t r0 = first[0] + o0 * w->stride[0], r1 = first[1] + o1 * w->stride[1];
        char *row = d->y + (size_t)(((image * w->out[0] + r0) * w->out[1] + r1) * w->out[2] * d->s->outputs) * d->size;
        for (int64_t o2 = 0; o2 < t->out[2]; o2++)
            for (int64_t p = 0; p < t->products; p++)
                memcpy(row + (size_t)((first[2] + o2 * w->stride[2]) * d->s->outputs + p * each) * d->size,
                       from + (size_t)(o2 * ld + p * t->columns + f * each) * d->size, (size_t)each * d->size);
    }
}

rq_status rq_int_deconv_forward(const rq_op_args *a)
{
    const deconv_state *s = a->state;
    if (!s->n_products)
        return RQ_OK;
    const layout l = layout_of(a, s);
    char *scratch = a->scratch;
    const uint8_t *x = rq_int_last_in(a, scratch);
    char *y = l.bytes > l.out ? scratch + l.out : a->out[0]->data;
    for (int i = 0; i < s->n_products; i++) {
        const rq_int_taps *t = &s->products[i].taps;
        if (is_in_place(s)) {
            rq_int_taps_run(t, a, x, a->in[0]->shape.dim[1], y, s->outputs, true, scratch + l.product);
            break;
        }
        deal d = { .s = s, .p = &s->products[i], .size = rq_int_last_element(a), .made = scratch + l.made, .y = y };
        const int64_t rows = a->in[0]->shape.dim[0] * t->out[0] * t->out[1], ld = t->products * t->columns;
        rq_int_taps_run(t, a, x, a->in[0]->shape.dim[1], scratch + l.made, ld, false, scratch + l.product);
        rq_threads_for(rows * t->out[2] * ld < SMALL_WORK ? NULL : a->threads, rows, deal_row, &d);
    }
    if (!is_in_place(s))
        rq_int_last_posts(a);
    rq_int_last_out(a, y);
    return RQ_OK;
}
