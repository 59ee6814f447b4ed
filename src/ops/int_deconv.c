/* ops/int_deconv.c — ConvTranspose on codes: sums of u8 * s8 products in s32, requantized per channel, as Conv
 * (ops/int_conv.c).
 *
 * Output o of an axis is met by taps t with t * dilation = o + pad modulo the stride, from input (o + pad - t *
 * dilation) / stride. So the outputs with one remainder (a phase) are a convolution of stride 1 with some of the taps, at
 * inputs that walk down by a fixed step. Phases that look at the same inputs are rows of one matrix product: where kernel
 * and stride are equal that is all of them, and the input needs no padding. Outside of the input stands zx, as in Conv. */
#include "base/mem.h"
#include "kernels/im2col.h"
#include "kernels/quantize.h"
#include "ops/int_ops.h"
#include "ops/window.h"

#include <string.h>

enum { MOST_PHASES = 4096 }; /* each is compared with every other */

/* What the outputs first, first + stride ... of an axis see: tap + m * tap_step (m < n) at input base - m * step of the
 * first output, one further for each next one. */
typedef struct phase {
    int64_t tap, tap_step, n, base, step, outs;
} phase;

/* Phases that see the same inputs: one product. */
typedef struct product {
    int64_t out[3], columns, depth; /* depth: of one group */
    int64_t members, rows;          /* rows of one group: member after member, output channels of the group in each */
    int64_t (*first)[3];            /* [members] the first output */
    int64_t *tap;                   /* [depth] */
    void *a;                        /* packed weights, group after group */
    size_t a_bytes;
    int32_t *add, *zero; /* [group][rows]; zero is NULL where all are 0 */
    float *m;            /* [group][rows] */
    double *unit;
    float *bias; /* in floats, for the definition */
} product;

typedef struct deconv_state {
    rq_im2col g; /* of the padded input; `out` is that of the largest phase */
    rq_window w;
    int64_t group, outputs;
    uint8_t flip, fill;
    product *products;
    int n_products;
} deconv_state;

static int64_t phase_count(const rq_window *w, int i)
{
    return w->stride[i] < w->out[i] ? w->stride[i] : w->out[i];
}

bool rq_int_deconv_accepts(const rq_op_args *a, const char **why)
{
    const int64_t group = rq_attr_int(a->node, "group", 1);
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
        product *p = &s->products[i];
        rq_mem_free(p->first);
        rq_mem_free(p->tap);
        rq_mem_free(p->a);
        rq_mem_free(p->add);
        rq_mem_free(p->zero);
        rq_mem_free(p->m);
        rq_mem_free(p->unit);
        rq_mem_free(p->bias);
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

/* The inputs that any phase sees, relative to the position of the output within its phase, make the padding. */
static void plan_padding(deconv_state *s, int64_t channels)
{
    const rq_window *w = &s->w;
    for (int i = 0; i < 3; i++) {
        int64_t lo = 0, hi = 0;
        bool any = false;
        for (int64_t o = 0; o < phase_count(w, i); o++) {
            const phase p = phase_at(w, i, o);
            if (!p.n)
                continue;
            const int64_t from = p.base - (p.n - 1) * p.step;
            lo = any && lo < from ? lo : from;
            hi = any && hi > p.base ? hi : p.base;
            any = true;
        }
        s->g.in[i] = w->in[i];
        s->g.out[i] = (w->out[i] + w->stride[i] - 1) / w->stride[i];
        s->g.kernel[i] = hi - lo + 1;
        s->g.stride[i] = s->g.dilation[i] = 1;
        s->g.pad[i] = -lo;
    }
    s->g.channels = channels;
    rq_im2col_init(&s->g);
    for (int i = 0; i < 3; i++) /* phases of different sizes walk over rows of one width */
        s->g.direct = s->g.direct && (w->out[i] % w->stride[i] == 0 || w->out[i] < w->stride[i]);
}

/* ---- weights ---- */

/* Code of the weight from input channel ic to output channel oc of group g, at tap t. */
static uint8_t weight_at(const rq_op_args *a, const deconv_state *s, int64_t g, int64_t ic, int64_t oc, int64_t t)
{
    const int64_t per_in = s->g.channels / s->group, per_out = s->outputs / s->group;
    return a->in[1]->u8[((g * per_in + ic) * per_out + oc) * rq_window_span(s->w.kernel) + t];
}

static int64_t tap_index(const rq_window *w, const phase ph[3], const int64_t m[3])
{
    int64_t t = 0;
    for (int i = 0; i < 3; i++)
        t = t * w->kernel[i] + ph[i].tap + m[i] * ph[i].tap_step;
    return t;
}

static void fill_taps(const deconv_state *s, const product *p, const phase ph[3])
{
    const int64_t per = ph[0].n * ph[1].n * ph[2].n;
    for (int64_t k = 0; k < p->depth && per > 0; k++) {
        const int64_t r = k % per, m[3] = { r / (ph[1].n * ph[2].n), r / ph[2].n % ph[1].n, r % ph[2].n };
        int64_t at[3];
        for (int i = 0; i < 3; i++)
            at[i] = ph[i].base - m[i] * ph[i].step + s->g.pad[i];
        p->tap[k] = rq_im2col_tap(&s->g, k / per, at);
    }
}

/* Row of group g for member f of the product and output channel oc: its weights to `row`, its constants to their place. */
static void fill_row(const rq_op_args *a, const deconv_state *s, product *p, int64_t g, int64_t f, int64_t oc,
                     uint8_t *row)
{
    const rq_qparams *xq = a->in_q[0], *wq = a->in_q[1], *yq = a->out_q[0];
    const int64_t per_out = s->outputs / s->group, c = g * per_out + oc, at = wq->n > 1 ? oc : 0;
    const uint8_t flip = rq_int_flip_to_s8(wq->dtype);
    const int32_t zx = xq->zero_point[0] + (s->flip ? 128 : 0), zw = wq->zero_point[at] - (flip ? 128 : 0);
    const rq_tensor *b = a->n_in > 2 ? a->in[2] : NULL;
    phase ph[3];
    for (int i = 0; i < 3; i++)
        ph[i] = phase_at(&s->w, i, p->first[f][i]);
    const int64_t per = ph[0].n * ph[1].n * ph[2].n;
    uint32_t sum = 0;
    for (int64_t k = 0; k < p->depth && per > 0; k++) { /* a phase without taps has no depth */
        const int64_t r = k % per, plane = per / ph[0].n, side = ph[2].n;
        const int64_t m[3] = { r / plane, r % plane / side, r % side };
        row[k] = weight_at(a, s, g, k / per, oc, tap_index(&s->w, ph, m));
        sum += (uint32_t)(int8_t)(row[k] ^ flip);
    }
    uint32_t add = (uint32_t)p->depth * (uint32_t)(zx * zw) - (uint32_t)zx * sum;
    if (b && b->dtype == RQ_DTYPE_S32)
        add += (uint32_t)b->s32[c];
    else if (b && !a->k->spec)
        add += (uint32_t)rq_quantize_bias_f32(b->f32[c], xq->scale[0], wq->scale[at]);
    const int64_t i = g * p->rows + f * per_out + oc;
    p->bias[i] = b && b->dtype == RQ_DTYPE_F32 ? b->f32[c] : 0;
    p->unit[i] = (double)xq->scale[0] * wq->scale[at];
    const float scale = xq->scale[0] * wq->scale[at];
    p->add[i] = (int32_t)add;
    p->zero[i] = zw;
    p->m[i] = yq ? scale / yq->scale[0] : scale;
}

static rq_status make_product(const rq_op_args *a, deconv_state *s, product *p, const int64_t lead[3])
{
    phase ph[3];
    int64_t members[3] = { 0 };
    for (int i = 0; i < 3; i++) {
        ph[i] = phase_at(&s->w, i, lead[i]);
        p->out[i] = ph[i].outs;
        for (int64_t o = lead[i]; o < phase_count(&s->w, i); o++) {
            const phase q = phase_at(&s->w, i, o);
            members[i] += sees_the_same(&ph[i], &q);
        }
    }
    const int64_t per_in = s->g.channels / s->group, per_out = s->outputs / s->group;
    p->columns = p->out[0] * p->out[1] * p->out[2];
    p->depth = per_in * ph[0].n * ph[1].n * ph[2].n;
    p->members = members[0] * members[1] * members[2];
    p->rows = p->members * per_out;
    p->a_bytes = rq_mem_round(rq_gemm_a_bytes(&a->k->gemm, p->rows, p->depth));
    const size_t n = (size_t)s->group * (size_t)p->rows;
    uint8_t *plain = rq_mem_alloc((size_t)p->rows, (size_t)p->depth + 1);
    p->first = rq_mem_alloc((size_t)p->members, sizeof *p->first);
    p->tap = rq_mem_alloc((size_t)p->depth + 1, sizeof *p->tap);
    p->a = rq_mem_alloc((size_t)s->group, p->a_bytes);
    p->add = rq_mem_alloc(n, sizeof *p->add);
    p->zero = rq_mem_alloc(n, sizeof *p->zero);
    p->m = rq_mem_alloc(n, sizeof *p->m);
    p->unit = rq_mem_alloc(n, sizeof *p->unit);
    p->bias = rq_mem_alloc(n, sizeof *p->bias);
    if (!plain || !p->first || !p->tap || !p->a || !p->add || !p->zero || !p->m || !p->unit || !p->bias) {
        rq_mem_free(plain);
        return RQ_NO_MEMORY;
    }
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
                    memcpy(p->first[f++], o, sizeof o);
            }
    fill_taps(s, p, ph);
    bool any_zero = false;
    for (int64_t g = 0; g < s->group; g++) {
        for (int64_t r = 0; r < p->rows; r++)
            fill_row(a, s, p, g, r / per_out, r % per_out, plain + r * p->depth);
        if (p->depth)
            rq_gemm_pack_a(&a->k->gemm, (char *)p->a + (size_t)g * p->a_bytes, plain, p->depth, 1, p->rows, p->depth,
                           rq_int_flip_to_s8(a->in_q[1]->dtype), NULL);
    }
    rq_mem_free(plain);
    for (size_t i = 0; i < n; i++)
        any_zero = any_zero || p->zero[i];
    if (!any_zero || !p->depth) {
        rq_mem_free(p->zero);
        p->zero = NULL;
    }
    return RQ_OK;
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
        s->flip = rq_int_flip_to_u8(a->in[0]->dtype);
        s->fill = (uint8_t)a->in_q[0]->zero_point[0] ^ s->flip;
        plan_padding(s, x->dim[1]);
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

static size_t element_bytes(const rq_op_args *a)
{
    return a->out_q[0] ? 1 : 4; /* codes, or f32 or s32 */
}

/* One product, of one group: [rows][columns] where it is the output as it stands, else beside it. */
static bool is_in_place(const deconv_state *s)
{
    return s->n_products == 1 && s->products[0].members == 1;
}

/* Scratch: the padded image, then results of a product, then what the product asks for. */
typedef struct layout {
    size_t made, gemm, bytes;
} layout;

static layout layout_of(const rq_op_args *a, const deconv_state *s)
{
    const int threads = rq_threads_count(a->threads);
    size_t made = 0, gemm = 0;
    for (int i = 0; i < s->n_products; i++) {
        const product *p = &s->products[i];
        const size_t n = (size_t)p->rows * (size_t)p->columns * element_bytes(a);
        const size_t g = rq_gemm_scratch(&a->k->gemm, p->depth, p->columns, threads);
        made = n > made && !is_in_place(s) ? n : made;
        gemm = g > gemm ? g : gemm;
    }
    layout l = { .made = rq_mem_round(rq_im2col_bytes(&s->g)) };
    l.gemm = l.made + rq_mem_round(made);
    l.bytes = l.gemm + gemm;
    return l;
}

size_t rq_int_deconv_scratch(const rq_op_args *a)
{
    const deconv_state *s = a->state;
    return s->n_products ? layout_of(a, s).bytes : 0;
}

typedef struct job {
    const rq_op_args *a;
    const deconv_state *s;
    const product *p;
    rq_im2col g; /* with the outputs of this product */
    const uint8_t *base, *made;
    uint8_t *y; /* of the group */
} job;

static void fill_panel(const void *arg, uint8_t *panel, int64_t p)
{
    const job *j = arg;
    const rq_gemm_isa *isa = &j->a->k->gemm;
    int vectors;
    const int64_t first = rq_gemm_panel(isa, j->p->columns, p, &vectors), most = (int64_t)vectors * isa->lanes;
    const int64_t left = j->p->columns - first;
    rq_im2col_panel(&j->g, isa, panel, j->base, j->p->tap, j->p->depth, first, left < most ? left : most,
                    j->g.direct ? j->s->flip : 0);
}

/* Output channel c of the group from its rows, one per member, to where they stand in the output. */
static void deal_out(void *arg, int64_t c)
{
    const job *j = arg;
    const product *p = j->p;
    const rq_window *w = &j->s->w;
    const size_t size = element_bytes(j->a);
    const int64_t per_out = j->s->outputs / j->s->group;
    uint8_t *plane = j->y + (size_t)(c * rq_window_span(w->out)) * size;
    for (int64_t f = 0; f < p->members; f++) {
        const uint8_t *from = j->made + (size_t)((f * per_out + c) * p->columns) * size;
        for (int64_t o0 = 0; o0 < p->out[0]; o0++)
            for (int64_t o1 = 0; o1 < p->out[1]; o1++, from += (size_t)p->out[2] * size) {
                const int64_t r0 = p->first[f][0] + o0 * w->stride[0], r1 = p->first[f][1] + o1 * w->stride[1];
                const int64_t step = w->stride[2], at = (r0 * w->out[1] + r1) * w->out[2] + p->first[f][2];
                if (size == 1)
                    for (int64_t i = 0; i < p->out[2]; i++)
                        plane[at + i * step] = from[i];
                else
                    for (int64_t i = 0; i < p->out[2]; i++)
                        memcpy(plane + (at + i * step) * 4, from + i * 4, 4);
            }
    }
}

static rq_gemm_out finishing(const rq_op_args *a, const product *p, int64_t group)
{
    rq_gemm_out o = { .kind = a->out[0]->dtype == RQ_DTYPE_S32 ? RQ_GEMM_S32 : RQ_GEMM_F32, .ld = p->columns };
    if (a->out_q[0]) {
        o.kind = RQ_GEMM_CODES;
        o.zp = a->out_q[0]->zero_point[0];
        rq_qparams_limits(a->out_q[0], &o.lo, &o.hi);
    }
    o.row_add = p->add + group * p->rows;
    o.row_m = p->m + group * p->rows;
    if (p->zero)
        o.row_zero = p->zero + group * p->rows;
    if (a->k->spec && o.kind != RQ_GEMM_S32) {
        rq_int_by_the_definition(a, &o, p->unit + group * p->rows, true);
        o.row_bias = p->bias + group * p->rows;
    }
    return o;
}

/* Outputs that no tap meets: the bias alone. */
static void run_empty(const rq_op_args *a, const product *p, const rq_gemm_out *o)
{
    enum { SOME = 64 };
    int32_t zeros[SOME];
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->columns; c += SOME) {
            memset(zeros, 0, sizeof zeros);
            rq_gemm_finish(a->k, o, zeros, r, c, p->columns - c < SOME ? p->columns - c : SOME, NULL);
        }
}

static void run_product(const rq_op_args *a, const deconv_state *s, const product *p, int64_t group,
                        const uint8_t *base, uint8_t *y)
{
    const layout l = layout_of(a, s);
    uint8_t *scratch = a->scratch;
    job j = { .a = a, .s = s, .p = p, .g = s->g, .base = base, .made = scratch + l.made, .y = y };
    memcpy(j.g.out, p->out, sizeof j.g.out);
    rq_gemm_out o = finishing(a, p, group);
    o.y = is_in_place(s) ? y : scratch + l.made;
    rq_gemm g = { .k = a->k,
                  .rows = p->rows,
                  .depth = p->depth,
                  .columns = p->columns,
                  .a = (const char *)p->a + (size_t)group * p->a_bytes,
                  .fill = fill_panel,
                  .fill_arg = &j,
                  .scratch = scratch + l.gemm,
                  .out = o };
    if (p->depth)
        rq_gemm_run(&g, a->threads);
    else
        run_empty(a, p, &o);
    if (!is_in_place(s))
        rq_threads_for(p->rows * p->columns < 1 << 15 ? NULL : a->threads, s->outputs / s->group, deal_out, &j);
}

rq_status rq_int_deconv_forward(const rq_op_args *a)
{
    const deconv_state *s = a->state;
    if (!s->n_products)
        return RQ_OK;
    const int64_t per_out = s->outputs / s->group, plane = rq_window_span(s->w.out);
    for (int64_t n = 0; n < a->in[0]->shape.dim[0]; n++) {
        const uint8_t *base = a->in[0]->u8 + n * s->g.channels * rq_window_span(s->w.in);
        if (!s->g.direct) {
            rq_im2col_pad(&s->g, a->scratch, base, s->flip, s->fill, a->threads);
            base = a->scratch;
        }
        for (int64_t g = 0; g < s->group; g++)
            for (int i = 0; i < s->n_products; i++)
                run_product(a, s, &s->products[i], g, base + g * (s->g.channels / s->group) * s->g.channel_stride,
                            a->out[0]->u8 + (size_t)((n * s->outputs + g * per_out) * plane) * element_bytes(a));
    }
    return RQ_OK;
}
