/* ops/int_blocked.c — MatMul, Gemm and Conv of 8-bit codes and constant weights with a scale and zero point per block
 * (DequantizeLinear with block_size, docs/onnx-facts.md 2.1): exact integer sums within a block, scaled and added in f32
 * in the order of the blocks (int_blocks.h), then rounded once where y is codes.
 *
 * Blocks run along the depth of the product. Of a Conv they run along the channels within each tap, since every tap has
 * scales of its own: its pixels become rows [tap][channel], a strip of them at a time. */
#include <string.h>

#include "base/mem.h"
#include "ops/int_blocks.h"
#include "ops/int_ops.h"
#include "ops/int_pick.h"
#include "ops/rows.h"
#include "ops/window.h"

enum { STRIP = 512 }; /* pixels at a time */

typedef struct blocked_state {
    rq_int_blocks *p; /* [group] */
    int64_t group;
    float *bias; /* [outputs], or NULL */
    /* of a Conv */
    rq_window win;
    int64_t channels, outputs, padded; /* of all groups; channels of a group, with those that fill up the last block */
} blocked_state;

static void blocked_release(void *state)
{
    blocked_state *s = state;
    if (!s)
        return;
    for (int64_t i = 0; s->p && i < s->group; i++)
        rq_int_blocks_release(&s->p[i]);
    rq_mem_free(s->p);
    rq_mem_free(s->bias);
    rq_mem_free(s);
}

static bool takes(const rq_op_args *a, const char **why)
{
    const rq_tensor *c = a->n_in > 2 ? a->in[2] : NULL;
    const rq_qparams *w = a->in_q[1];
    *why = "weights have no blocks";
    if (!w || !w->block)
        return false;
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "weight is not constant";
    if (!a->in[1]->data)
        return false;
    *why = "weight codes have more than 8 bits";
    if (rq_dtype_bits(w->dtype) > 8)
        return false;
    *why = "blocks are too long for exact sums";
    if (w->axis >= 0 && w->axis < a->in[1]->shape.rank && !rq_int_blocks_fit(w->block, a->in[1]->shape.dim[w->axis]))
        return false;
    *why = "bias counts in units that weights in blocks do not have";
    if (c && c->dtype == RQ_DTYPE_S32 && !a->in_q[2])
        return false;
    *why = "output is neither quantized nor f32";
    return (a->out_q[0] && a->out_q[0]->axis == RQ_PER_TENSOR && rq_dtype_bits(a->out_q[0]->dtype) >= 8) ||
           (!a->out_q[0] && a->out[0]->dtype == RQ_DTYPE_F32);
}

static rq_status read_bias(const rq_op_args *a, int64_t n, float **out)
{
    const rq_tensor *c = a->n_in > 2 ? a->in[2] : NULL;
    *out = NULL;
    if (!c)
        return RQ_OK;
    float *bias = rq_mem_alloc((size_t)n, sizeof *bias);
    double *wide = rq_mem_alloc((size_t)n, sizeof *wide);
    if (!bias || !wide) {
        rq_mem_free(bias);
        rq_mem_free(wide);
        return RQ_NO_MEMORY;
    }
    rq_int_read_bias(wide, n, c, a->in_q[2], a->in_q[0], a->in_q[1], 1);
    for (int64_t i = 0; i < n; i++)
        bias[i] = (float)wide[i];
    rq_mem_free(wide);
    *out = bias;
    return RQ_OK;
}

/* ---- from sums to y ---- */

static bool is_gemm(const rq_node *n)
{
    return n->row == &rq_op_gemm;
}

static float x_scale(const rq_op_args *a)
{
    return a->in_q[0]->scale[0] * (is_gemm(a->node) ? rq_attr_float(a->node, RQ_WORD_alpha, 1) : 1);
}

/* ---- MatMul, Gemm ---- */

static bool is_trans(const rq_node *n, rq_word name)
{
    return is_gemm(n) && rq_attr_int(n, name, 0);
}

static bool matmul_accepts(const rq_op_args *a, const char **why)
{
    const rq_shape *w = &a->in[1]->shape;
    if (!takes(a, why))
        return false;
    const bool tb = is_trans(a->node, RQ_WORD_transB);
    *why = "blocks run along another axis than the sums";
    if (w->rank != 2 || a->in_q[1]->axis != tb)
        return false;
    *why = "the first operand is transposed, or the bias scaled";
    if (is_trans(a->node, RQ_WORD_transA) ||
        (is_gemm(a->node) && a->n_in > 2 && rq_attr_float(a->node, RQ_WORD_beta, 1) != 1))
        return false;
    return rq_int_takes_bias(a, w->dim[!tb], why);
}

/* Packs codes [depth][columns] (steps k_step, col_step in t) and the parameters that stand at the same steps. */
static rq_status pack(rq_int_blocks *p, const rq_op_args *a, const rq_tensor *codes, bool trans)
{
    const rq_qparams *q = a->in_q[1];
    for (int64_t b = 0; b < p->n_blocks; b++) {
        for (int64_t j = 0; j < p->columns; j++) {
            const int64_t at = trans ? j * p->n_blocks + b : b * p->columns + j;
            p->scale[b * p->columns + j] = q->scale[at];
            p->zero[b * p->columns + j] = q->zero_point[at];
        }
        if (trans)
            rq_int_blocks_pack(p, b, codes->u8 + b * p->block, 1, p->depth);
        else
            rq_int_blocks_pack(p, b, codes->u8 + b * p->block * p->columns, p->columns, 1);
    }
    rq_int_blocks_settle(p);
    return RQ_OK;
}

static rq_status start(blocked_state **out, int64_t group)
{
    blocked_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->group = group;
    s->p = rq_mem_zalloc((size_t)group, sizeof *s->p);
    if (!s->p) {
        rq_mem_free(s);
        return RQ_NO_MEMORY;
    }
    *out = s;
    return RQ_OK;
}

static rq_status matmul_prepare(const rq_op_args *a, void **state)
{
    const rq_tensor *w = a->in[1];
    const bool trans = is_trans(a->node, RQ_WORD_transB);
    const int64_t depth = w->shape.dim[trans], columns = w->shape.dim[!trans];
    rq_tensor bytes = { 0 };
    blocked_state *s;
    RQ_TRY(start(&s, 1));
    rq_status st = rq_int_widen(&bytes, w);
    if (!st)
        st = rq_int_blocks_init(&s->p[0], a->k, bytes.dtype, depth, a->in_q[1]->block, columns);
    if (!st)
        st = pack(&s->p[0], a, &bytes, trans);
    if (!st)
        st = read_bias(a, columns, &s->bias);
    rq_tensor_release(&bytes);
    if (st)
        blocked_release(s);
    else
        *state = s;
    return st;
}

static int64_t matmul_rows(const rq_op_args *a)
{
    return rq_shape_span(&a->in[0]->shape, 0, a->in[0]->shape.rank - 1);
}

static size_t matmul_scratch(const rq_op_args *a)
{
    const blocked_state *s = a->state;
    const size_t sums = a->out_q[0] ? rq_mem_round((size_t)rq_tensor_count(a->out[0]) * sizeof(float)) : 0;
    return sums + rq_int_blocks_scratch(&s->p[0], matmul_rows(a));
}

enum { ITEM = 1 << 14 };

typedef struct rounding {
    const rq_op_args *a;
    const float *x;
    int64_t n;
} rounding;

static void round_item(void *arg, int64_t item)
{
    const rounding *r = arg;
    const int64_t from = item * ITEM, n = r->n - from < ITEM ? r->n - from : ITEM;
    rq_int_from_reals(r->a->k, r->a->out[0], from, r->x + from, n, r->a->out_q[0]);
}

static rq_status matmul_forward(const rq_op_args *a)
{
    const blocked_state *s = a->state;
    const int64_t n = rq_tensor_count(a->out[0]);
    const size_t sums = a->out_q[0] ? rq_mem_round((size_t)n * sizeof(float)) : 0;
    const float sx = x_scale(a);
    const rq_int_blocks_job j = { .x = a->in[0]->u8,
                                  .x_dtype = a->in[0]->dtype,
                                  .rows = matmul_rows(a),
                                  .x_scale = &sx,
                                  .x_zero = a->in_q[0]->zero_point[0],
                                  .bias = s->bias,
                                  .y = a->out_q[0] ? a->scratch : a->out[0]->data };
    rq_int_blocks_run(&s->p[0], &j, (char *)a->scratch + sums, a->threads);
    if (a->out_q[0]) {
        rounding r = { a, j.y, n };
        rq_threads_for(a->threads, (n + ITEM - 1) / ITEM, round_item, &r);
    }
    return RQ_OK;
}

/* ---- Conv ---- */

static bool conv_accepts(const rq_op_args *a, const char **why)
{
    const rq_shape *w = &a->in[1]->shape;
    if (!takes(a, why))
        return false;
    *why = "blocks run along another axis than the channels summed";
    if (a->in_q[1]->axis != 1)
        return false;
    *why = "more than three spatial axes";
    if (w->rank < 3 || w->rank > 5)
        return false;
    return rq_int_takes_bias(a, w->dim[0], why);
}

/* Weights of group g as [tap][channel][output], channels filled up with zero points. */
static void pack_group(const rq_op_args *a, blocked_state *s, const rq_tensor *codes, int64_t g, uint8_t *room)
{
    const rq_qparams *q = a->in_q[1];
    rq_int_blocks *p = &s->p[g];
    const int64_t channels = codes->shape.dim[1], taps = rq_shape_span(&codes->shape, 2, codes->shape.rank);
    const int64_t per_tap = s->padded / p->block, first = g * p->columns;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t b = 0; b < per_tap; b++) {
            const int64_t at = t * per_tap + b;
            for (int64_t j = 0; j < p->columns; j++) {
                const int64_t from = ((first + j) * per_tap + b) * taps + t;
                const int32_t zero = q->zero_point[from];
                p->scale[at * p->columns + j] = q->scale[from];
                p->zero[at * p->columns + j] = zero;
                for (int64_t k = 0; k < p->block; k++) {
                    const int64_t c = b * p->block + k;
                    room[k * p->columns + j] =
                        c < channels ? codes->u8[((first + j) * channels + c) * taps + t] : (uint8_t)zero;
                }
            }
            rq_int_blocks_pack(p, at, room, p->columns, 1);
        }
    rq_int_blocks_settle(p);
}

static rq_status conv_prepare(const rq_op_args *a, void **state)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    rq_window win;
    int64_t group;
    blocked_state *s;
    rq_tensor bytes = { 0 };
    RQ_TRY(rq_window_conv(&win, a->node, x, w, a->err));
    RQ_TRY(rq_window_group(a->node, &group, a->err));
    RQ_TRY(start(&s, group));
    s->win = win;
    s->channels = x->dim[1];
    s->outputs = w->dim[0];
    const int64_t each = w->dim[1], block = a->in_q[1]->block < each ? a->in_q[1]->block : each;
    const int64_t taps = rq_shape_span(w, 2, w->rank);
    s->padded = (each + block - 1) / block * block;
    uint8_t *room = rq_mem_alloc((size_t)block, (size_t)(s->outputs / group));
    rq_status st = room ? rq_int_widen(&bytes, a->in[1]) : RQ_NO_MEMORY;
    for (int64_t g = 0; g < group && !st; g++) {
        st = rq_int_blocks_init(&s->p[g], a->k, bytes.dtype, s->padded * taps, block, s->outputs / group);
        if (!st)
            pack_group(a, s, &bytes, g, room);
    }
    if (!st)
        st = read_bias(a, s->outputs, &s->bias);
    rq_mem_free(room);
    rq_tensor_release(&bytes);
    if (st)
        blocked_release(s);
    else
        *state = s;
    return st;
}

/* Scratch: x with channels last, rows of a strip, their sums, what the product asks for. */
typedef struct room {
    size_t rows, sums, product, bytes;
} room;

static int64_t strip_of(const blocked_state *s)
{
    const int64_t pixels = s->win.out[0] * s->win.out[1] * s->win.out[2];
    return pixels < STRIP ? pixels : STRIP;
}

static room room_of(const blocked_state *s)
{
    const int64_t strip = strip_of(s), places = s->win.in[0] * s->win.in[1] * s->win.in[2];
    room r;
    r.rows = rq_mem_round((size_t)(places * s->channels));
    r.sums = r.rows + rq_mem_round((size_t)(strip * s->p[0].depth));
    r.product = r.sums + rq_mem_round((size_t)(strip * s->p[0].columns) * sizeof(float) * 2);
    r.bytes = r.product + rq_int_blocks_scratch(&s->p[0], strip);
    return r;
}

static size_t conv_scratch(const rq_op_args *a)
{
    return room_of(a->state).bytes;
}

/* Row of pixel `i` of group g: its taps in order, channels last; outside of x and past the last channel stands zx. */
static void fill_row(const blocked_state *s, uint8_t *dst, const uint8_t *x, int64_t i, int64_t g, uint8_t zero)
{
    const rq_window *w = &s->win;
    const int64_t each = s->channels / s->group;
    const int64_t o[3] = { i / (w->out[1] * w->out[2]), i / w->out[2] % w->out[1], i % w->out[2] };
    for (int64_t k0 = 0; k0 < w->kernel[0]; k0++)
        for (int64_t k1 = 0; k1 < w->kernel[1]; k1++)
            for (int64_t k2 = 0; k2 < w->kernel[2]; k2++, dst += s->padded) {
                const int64_t k[3] = { k0, k1, k2 };
                int64_t at = 0;
                bool inside = true;
                for (int d = 0; d < 3; d++) {
                    const int64_t v = o[d] * w->stride[d] + k[d] * w->dilation[d] - w->pad_lo[d];
                    inside = inside && v >= 0 && v < w->in[d];
                    at = at * w->in[d] + v;
                }
                memset(dst, zero, (size_t)s->padded);
                if (inside)
                    memcpy(dst, x + at * s->channels + g * each, (size_t)each);
            }
}

typedef struct strip_args {
    const blocked_state *s;
    uint8_t *rows;
    const uint8_t *x;
    int64_t first, g;
    uint8_t zero;
} strip_args;

static void fill_item(void *arg, int64_t i)
{
    const strip_args *f = arg;
    fill_row(f->s, f->rows + i * f->s->p[f->g].depth, f->x, f->first + i, f->g, f->zero);
}

/* Sums [n][columns] of pixels first.. go to their places in y, channel by channel. */
static void place(const rq_op_args *a, const rq_int_blocks *p, const float *sums, float *row, int64_t first, int64_t n,
                  int64_t pixels, int64_t channel)
{
    for (int64_t c = 0; c < p->columns; c++) {
        const int64_t at = (channel + c) * pixels + first;
        float *to = a->out_q[0] ? row : a->out[0]->f32 + at;
        for (int64_t i = 0; i < n; i++)
            to[i] = sums[i * p->columns + c];
        if (a->out_q[0])
            rq_int_from_reals(a->k, a->out[0], at, row, n, a->out_q[0]);
    }
}

static rq_status conv_forward(const rq_op_args *a)
{
    const blocked_state *s = a->state;
    const room r = room_of(s);
    const int64_t pixels = s->win.out[0] * s->win.out[1] * s->win.out[2], strip = strip_of(s);
    const int64_t places = s->win.in[0] * s->win.in[1] * s->win.in[2];
    char *scratch = a->scratch;
    float *sums = (float *)(scratch + r.sums);
    const float sx = x_scale(a);
    for (int64_t n = 0; n < a->in[0]->shape.dim[0] && pixels; n++) {
        const uint8_t *x = a->in[0]->u8 + n * s->channels * places;
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t i = 0; i < places; i++)
                ((uint8_t *)scratch)[i * s->channels + c] = x[c * places + i];
        for (int64_t g = 0; g < s->group; g++)
            for (int64_t first = 0; first < pixels; first += strip) {
                const rq_int_blocks *p = &s->p[g];
                const int64_t some = pixels - first < strip ? pixels - first : strip;
                strip_args f = { s, (uint8_t *)scratch + r.rows,       (uint8_t *)scratch, first,
                                 g, (uint8_t)a->in_q[0]->zero_point[0] };
                const rq_int_blocks_job j = { .x = f.rows,
                                              .x_dtype = a->in[0]->dtype,
                                              .rows = some,
                                              .x_scale = &sx,
                                              .x_zero = a->in_q[0]->zero_point[0],
                                              .bias = s->bias ? s->bias + g * p->columns : NULL,
                                              .y = sums };
                rq_threads_for(a->threads, some, fill_item, &f);
                rq_int_blocks_run(p, &j, scratch + r.product, a->threads);
                place(a, p, sums, sums + strip * p->columns, first, some, pixels, n * s->outputs + g * p->columns);
            }
    }
    return RQ_OK;
}

const rq_int_form rq_int_blocked_matmul = { matmul_accepts, matmul_prepare,  matmul_forward,
                                            matmul_scratch, blocked_release, false };
const rq_int_form rq_int_blocked_conv = {
    conv_accepts, conv_prepare, conv_forward, conv_scratch, blocked_release, false
};
