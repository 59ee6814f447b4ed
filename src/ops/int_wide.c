/* ops/int_wide.c — Conv, ConvTranspose, MatMul and Gemm where x, w or y has codes of 16 bits, or weights of few bits
 * meet a float bias: exact sums made of the 8-bit forms.
 *
 *   x - zx = 256 (hi(x) - hi(zx)) + (lo(x) - lo(zx)),   hi(v) = v >> 8 (s8 or u8),  lo(v) = v & 255 (u8)
 *
 * and w alike, so a product of 16-bit codes is two or four products of bytes whose s32 sums are put together exactly,
 * the upper ones times 256. Padding holds zx, whose bytes are the planes' zero points. The sum becomes a code by one
 * rounding of
 *
 *   sum * (sx sw[c] / sy) + bias[c] / sy      in f64: f32 cannot tell the sums apart that 16-bit codes can */
#include <string.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/int_ops.h"
#include "ops/int_pick.h"

enum { MAX_DEPTH = 33000 }; /* sums of 255 * 255 that fit s32 */

static const rq_int_form *const byte_forms[] = { [RQ_INT_CONV] = &rq_int_plain_conv,
                                                 [RQ_INT_DECONV] = &rq_int_plain_deconv,
                                                 [RQ_INT_MATMUL] = &rq_int_plain_matmul,
                                                 [RQ_INT_GEMM] = &rq_int_plain_gemm };

static bool is_wide(const rq_qparams *q)
{
    return q && rq_dtype_bits(q->dtype) == 16;
}

static bool is_code(rq_dtype d)
{
    return rq_int_is_byte(d) || d == RQ_DTYPE_U16 || d == RQ_DTYPE_S16;
}

/* Plane k of codes of type d: 0 the low byte, 1 the high one. */
static rq_dtype plane_dtype(rq_dtype d, int k)
{
    if (rq_dtype_bits(d) == 8)
        return d;
    return k && d == RQ_DTYPE_S16 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
}

static bool is_conv(rq_int_product p)
{
    return p == RQ_INT_CONV || p == RQ_INT_DECONV;
}

static float alpha_of(rq_int_product p, const rq_op_args *a)
{
    return p == RQ_INT_GEMM ? rq_attr_float(a->node, RQ_WORD_alpha, 1) : 1;
}

static int64_t depth_of(rq_int_product p, const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    if (p == RQ_INT_CONV)
        return rq_shape_span(w, 1, w->rank);
    if (p == RQ_INT_DECONV)
        return w->dim[0] * rq_shape_span(w, 2, w->rank);
    if (p == RQ_INT_GEMM)
        return x->dim[!rq_attr_int(a->node, RQ_WORD_transA, 0)];
    return x->dim[x->rank - 1];
}

/* y is [outer][channels][inner]. */
static int64_t channels_of(rq_int_product p, const rq_op_args *a)
{
    const rq_shape *y = &a->out[0]->shape;
    if (is_conv(p))
        return y->dim[1];
    if (p == RQ_INT_MATMUL && a->in[1]->shape.rank == 1)
        return 1;
    return y->rank ? y->dim[y->rank - 1] : 1;
}

/* ---- one pair of planes as a node of bytes ---- */

typedef struct bytes {
    rq_op_args a;
    rq_tensor x, w, y;
    rq_qparams xq, wq;
    const rq_tensor *in[2];
    const rq_qparams *in_q[2], *out_q[1];
    rq_tensor *out[1];
} bytes;

static void to_bytes(bytes *b, const rq_op_args *a, int kx, int kw)
{
    b->a = *a;
    b->x = *a->in[0];
    b->w = *a->in[1];
    b->xq = *a->in_q[0];
    b->wq = *a->in_q[1];
    b->x.dtype = b->xq.dtype = plane_dtype(b->xq.dtype, kx);
    b->w.dtype = b->wq.dtype = plane_dtype(b->wq.dtype, kw);
    b->y = rq_tensor_view(RQ_DTYPE_S32, &a->out[0]->shape, NULL);
    b->in[0] = &b->x;
    b->in[1] = &b->w;
    b->in_q[0] = &b->xq;
    b->in_q[1] = &b->wq;
    b->out_q[0] = NULL;
    b->out[0] = &b->y;
    b->a.in = b->in;
    b->a.in_q = b->in_q;
    b->a.out = b->out;
    b->a.out_q = b->out_q;
    b->a.n_in = 2;
    b->a.n_post = 0; /* of the codes, when all pairs are summed */
}

static bool accepts(rq_int_product p, const rq_op_args *a, const char **why)
{
    const rq_qparams *x = a->in_q[0], *w = a->in_q[1], *y = a->out_q[0];
    *why = "input is not quantized";
    if (!x || !w)
        return false;
    *why = "codes are not of 8 or 16 bits";
    if (!is_code(x->dtype) || !is_code(w->dtype) || (y && !is_code(y->dtype)))
        return false;
    *why = "quantized per channel";
    if (x->axis != RQ_PER_TENSOR || (y && y->axis != RQ_PER_TENSOR))
        return false;
    *why = "sums of so many 16-bit products do not fit";
    if (depth_of(p, a) > MAX_DEPTH)
        return false;
    bytes b;
    to_bytes(&b, a, 0, 0);
    b.y.dtype = RQ_DTYPE_F32; /* as the forms are asked */
    if (!byte_forms[p]->accepts(&b.a, why))
        return false;
    *why = "output is neither quantized nor f32";
    if (!y && a->out[0]->dtype != RQ_DTYPE_F32)
        return false;
    *why = "beta is not 1";
    if (p == RQ_INT_GEMM && a->n_in > 2 && a->in[2] && rq_attr_float(a->node, RQ_WORD_beta, 1) != 1)
        return false;
    return rq_int_takes_bias(a, channels_of(p, a), why);
}

/* ---- preparing ---- */

typedef struct wide_state {
    rq_int_product p;
    int n_x, n_w;      /* planes */
    bool packed;       /* w is constant */
    void *state[2][2]; /* of the byte form, by plane of x and w */
    int32_t *zero[2];  /* zero points of w's planes */
    int32_t x_zero[2]; /* of x's */
    int64_t channels, inner;
    double *bias, *m; /* [channels], in steps of y */
} wide_state;

static void wide_release(void *state)
{
    wide_state *s = state;
    if (!s)
        return;
    for (int i = 0; i < 4; i++)
        if (s->state[i / 2][i % 2])
            byte_forms[s->p]->release(s->state[i / 2][i % 2]);
    rq_mem_free(s->zero[0]);
    rq_mem_free(s->zero[1]);
    rq_mem_free(s->bias);
    rq_mem_free(s->m);
    rq_mem_free(s);
}

static int32_t plane_zero(int32_t zero, int planes, int k)
{
    return planes == 1 ? zero : k ? zero >> 8 : zero & 255;
}

/* Plane k of n 16-bit codes. */
static void split(uint8_t *dst, const uint16_t *src, int64_t n, int k)
{
    if (k)
        for (int64_t i = 0; i < n; i++)
            dst[i] = (uint8_t)(src[i] >> 8);
    else
        for (int64_t i = 0; i < n; i++)
            dst[i] = (uint8_t)src[i];
}

/* Put the planes' zero points into b. */
static void set_zeros(bytes *b, const wide_state *s, int kx, int kw)
{
    b->xq.zero_point = (int32_t *)&s->x_zero[kx];
    b->wq.zero_point = s->zero[kw];
    b->a.state = s->state[kx][kw];
}

static rq_status prepare_planes(const rq_op_args *a, wide_state *s)
{
    const rq_tensor *w = a->in[1];
    rq_status st = RQ_OK;
    for (int kw = 0; kw < s->n_w && !st; kw++) {
        uint8_t *plane = NULL;
        if (w->data && s->n_w == 2) {
            plane = rq_mem_alloc((size_t)rq_tensor_count(w), 1);
            if (!plane)
                return RQ_NO_MEMORY;
            split(plane, w->u16, rq_tensor_count(w), kw);
        }
        for (int kx = 0; kx < s->n_x && !st; kx++) {
            bytes b;
            to_bytes(&b, a, kx, kw);
            set_zeros(&b, s, kx, kw);
            b.x.data = NULL;
            if (s->n_w == 2)
                b.w.data = plane;
            b.a.state = NULL;
            st = byte_forms[s->p]->prepare(&b.a, &s->state[kx][kw]);
        }
        rq_mem_free(plane);
    }
    return st;
}

static rq_status prepare(rq_int_product p, const rq_op_args *a, void **state)
{
    const rq_qparams *x = a->in_q[0], *w = a->in_q[1], *y = a->out_q[0];
    wide_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->p = p;
    s->n_x = is_wide(x) ? 2 : 1;
    s->n_w = is_wide(w) ? 2 : 1;
    s->packed = a->in[1]->data != NULL;
    s->channels = channels_of(p, a);
    s->inner = is_conv(p) ? rq_shape_span(&a->out[0]->shape, 2, a->out[0]->shape.rank) : 1;
    s->bias = rq_mem_alloc((size_t)s->channels, sizeof *s->bias);
    s->m = rq_mem_alloc((size_t)s->channels, sizeof *s->m);
    rq_status st = s->bias && s->m ? RQ_OK : RQ_NO_MEMORY;
    for (int k = 0; k < s->n_w && !st; k++) {
        s->zero[k] = rq_mem_alloc((size_t)w->n, sizeof *s->zero[k]);
        if (!s->zero[k])
            st = RQ_NO_MEMORY;
        for (int64_t i = 0; i < w->n && !st; i++)
            s->zero[k][i] = plane_zero(w->zero_point[i], s->n_w, k);
    }
    for (int k = 0; k < s->n_x; k++)
        s->x_zero[k] = plane_zero(x->zero_point[0], s->n_x, k);
    if (!st) {
        const float alpha = alpha_of(p, a);
        rq_int_read_bias(s->bias, s->channels, a->n_in > 2 ? a->in[2] : NULL, a->n_in > 2 ? a->in_q[2] : NULL, x, w,
                         alpha);
        for (int64_t c = 0; c < s->channels; c++) {
            const double m = (double)alpha * (double)x->scale[0] * (double)w->scale[c % w->n];
            s->m[c] = y ? m / (double)y->scale[0] : m;
            s->bias[c] = y ? s->bias[c] / (double)y->scale[0] : s->bias[c];
        }
        st = prepare_planes(a, s);
    }
    if (st)
        wide_release(s);
    else
        *state = s;
    return st;
}

/* ---- running ---- */

/* Scratch: the planes of x and of a variable w, the s32 sums of each pair, what the byte form asks for. */
typedef struct room {
    size_t w, sums, form, bytes;
    size_t pair; /* bytes of one pair's sums */
} room;

static room room_of(const rq_op_args *a)
{
    const wide_state *s = a->state;
    const size_t y = (size_t)rq_tensor_count(a->out[0]);
    size_t most = 0;
    for (int i = 0; i < s->n_x; i++)
        for (int k = 0; k < s->n_w; k++) {
            bytes b;
            to_bytes(&b, a, i, k);
            set_zeros(&b, s, i, k);
            const size_t n = byte_forms[s->p]->scratch(&b.a);
            most = n > most ? n : most;
        }
    room r;
    r.w = s->n_x == 2 ? 2 * rq_mem_round((size_t)rq_tensor_count(a->in[0])) : 0;
    r.sums = r.w + (s->n_w == 2 && !s->packed ? 2 * rq_mem_round((size_t)rq_tensor_count(a->in[1])) : 0);
    r.pair = rq_mem_round(y * sizeof(int32_t));
    r.form = r.sums + (size_t)(s->n_x * s->n_w) * r.pair;
    r.bytes = r.form + most;
    return r;
}

static size_t wide_scratch(const rq_op_args *a)
{
    return room_of(a).bytes;
}

enum { ITEM = 1 << 14, PART = 256 }; /* elements of y: of an item, and worked on at once */

typedef struct finishing {
    const rq_op_args *a;
    const wide_state *s;
    const char *sums; /* pair after pair */
    size_t pair;
    int64_t n;
} finishing;

/* The whole sums of elements from..from+n-1: exact, below 2^48. */
static void gather_sums(const finishing *d, double *restrict v, int64_t from, int64_t n)
{
    for (int k = 0; k < d->s->n_x * d->s->n_w; k++) {
        const int32_t *restrict sums = (const int32_t *)(d->sums + (size_t)k * d->pair) + from;
        const double factor = (double)(INT64_C(1) << (8 * (k / d->s->n_w + k % d->s->n_w)));
        if (k == 0)
            for (int64_t i = 0; i < n; i++)
                v[i] = (double)sums[i] * factor;
        else
            for (int64_t i = 0; i < n; i++)
                v[i] += (double)sums[i] * factor;
    }
}

static void store(const finishing *d, const double *restrict v, int64_t from, int64_t n)
{
    const rq_qparams *q = d->a->out_q[0];
    rq_tensor *y = d->a->out[0];
    int32_t lo, hi;
    if (!q) {
        for (int64_t i = 0; i < n; i++)
            y->f32[from + i] = (float)v[i];
        return;
    }
    rq_qparams_limits(q, &lo, &hi);
    const int32_t zp = q->zero_point[0];
    if (rq_int_is_byte(q->dtype))
        for (int64_t i = 0; i < n; i++)
            y->u8[from + i] = (uint8_t)rq_quantize_wide(v[i], zp, lo, hi);
    else
        for (int64_t i = 0; i < n; i++)
            y->u16[from + i] = (uint16_t)rq_quantize_wide(v[i], zp, lo, hi);
}

/* Elements that share a channel, or (inner 1) stand for one channel after the other. */
static void finish_item(void *arg, int64_t item)
{
    const finishing *d = arg;
    const wide_state *s = d->s;
    const int64_t run = s->inner == 1 ? s->channels : s->inner,
                  to = item * ITEM + ITEM < d->n ? item * ITEM + ITEM : d->n;
    double v[PART] = { 0 };
    for (int64_t at = item * ITEM; at < to;) {
        const int64_t c = s->inner == 1 ? at % s->channels : at / s->inner % s->channels, end = (at / run + 1) * run;
        int64_t n = (end < to ? end : to) - at;
        n = n < PART ? n : PART;
        const double *m = s->m + c, *bias = s->bias + c;
        gather_sums(d, v, at, n);
        if (s->inner == 1)
            for (int64_t i = 0; i < n; i++)
                v[i] = v[i] * m[i] + bias[i];
        else
            for (int64_t i = 0; i < n; i++)
                v[i] = v[i] * *m + *bias;
        store(d, v, at, n);
        at += n;
    }
}

/* Planes of t at `at`, or t itself where it has 8 bits. */
static void split_planes(const rq_tensor *t, char *at, int planes, uint8_t *plane[2])
{
    const int64_t n = rq_tensor_count(t);
    plane[0] = t->u8;
    for (int k = 0; k < planes && planes == 2; k++) {
        plane[k] = (uint8_t *)at + (size_t)k * rq_mem_round((size_t)n);
        split(plane[k], t->u16, n, k);
    }
}

static rq_status wide_forward(const rq_op_args *a)
{
    const wide_state *s = a->state;
    const room r = room_of(a);
    char *scratch = a->scratch;
    uint8_t *x[2] = { NULL }, *w[2] = { NULL };
    finishing d = { a, s, scratch + r.sums, r.pair, rq_tensor_count(a->out[0]) };
    split_planes(a->in[0], scratch, s->n_x, x);
    if (r.sums > r.w)
        split_planes(a->in[1], scratch + r.w, s->n_w, w);
    else
        w[0] = w[1] = a->in[1]->u8; /* bytes, or not looked at */
    for (int i = 0; i < s->n_x; i++)
        for (int k = 0; k < s->n_w; k++) {
            bytes b;
            to_bytes(&b, a, i, k);
            set_zeros(&b, s, i, k);
            b.x.data = x[i];
            b.w.data = w[k];
            b.y.data = scratch + r.sums + (size_t)(i * s->n_w + k) * r.pair;
            b.a.scratch = scratch + r.form;
            RQ_TRY(byte_forms[s->p]->forward(&b.a));
        }
    rq_threads_for(a->threads, (d.n + ITEM - 1) / ITEM, finish_item, &d);
    return RQ_OK;
}

/* ---- the forms ---- */

static bool conv_accepts(const rq_op_args *a, const char **why)
{
    return accepts(RQ_INT_CONV, a, why);
}

static bool deconv_accepts(const rq_op_args *a, const char **why)
{
    return accepts(RQ_INT_DECONV, a, why);
}

static bool matmul_accepts(const rq_op_args *a, const char **why)
{
    return accepts(RQ_INT_MATMUL, a, why);
}

static bool gemm_accepts(const rq_op_args *a, const char **why)
{
    return accepts(RQ_INT_GEMM, a, why);
}

static rq_status conv_prepare(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_CONV, a, state);
}

static rq_status deconv_prepare(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_DECONV, a, state);
}

static rq_status matmul_prepare(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_MATMUL, a, state);
}

static rq_status gemm_prepare(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_GEMM, a, state);
}

const rq_int_form rq_int_wide_conv = { conv_accepts, conv_prepare, wide_forward, wide_scratch, wide_release, false };
const rq_int_form rq_int_wide_deconv = {
    deconv_accepts, deconv_prepare, wide_forward, wide_scratch, wide_release, false
};
const rq_int_form rq_int_wide_matmul = {
    matmul_accepts, matmul_prepare, wide_forward, wide_scratch, wide_release, false
};
const rq_int_form rq_int_wide_gemm = { gemm_accepts, gemm_prepare, wide_forward, wide_scratch, wide_release, false };
