/* ops/int_pick.c — see int_pick.h. */
#include "ops/int_pick.h"

#include <string.h>

#include "ops/int_last.h"
#include "ops/int_ops.h"

const rq_int_form rq_int_plain_conv = { rq_int_conv_accepts, rq_int_conv_prepare, rq_int_conv_forward,
                                        rq_int_conv_scratch, rq_int_conv_release, true };
const rq_int_form rq_int_plain_deconv = { rq_int_deconv_accepts, rq_int_deconv_prepare, rq_int_deconv_forward,
                                          rq_int_deconv_scratch, rq_int_deconv_release, true };
const rq_int_form rq_int_plain_matmul = { rq_int_matmul_accepts, rq_int_matmul_prepare, rq_int_matmul_forward,
                                          rq_int_matmul_scratch, rq_int_matmul_release, true };
const rq_int_form rq_int_plain_gemm = { rq_int_gemm_accepts,   rq_int_gemm_prepare,   rq_int_matmul_forward,
                                        rq_int_matmul_scratch, rq_int_matmul_release, true };

enum { MAX_FORMS = 4 };

static const rq_int_form *const forms[][MAX_FORMS] = {
    [RQ_INT_CONV] = { &rq_int_plain_conv, &rq_int_wide_conv, &rq_int_blocked_conv },
    [RQ_INT_DECONV] = { &rq_int_plain_deconv, &rq_int_wide_deconv },
    [RQ_INT_MATMUL] = { &rq_int_plain_matmul, &rq_int_wide_matmul, &rq_int_blocked_matmul, &rq_int_weight_only },
    [RQ_INT_GEMM] = { &rq_int_plain_gemm, &rq_int_wide_gemm, &rq_int_blocked_matmul, &rq_int_weight_only },
};

/* ---- codes of few bits ---- */

rq_dtype rq_int_bytes_of(rq_dtype d)
{
    if (!rq_dtype_is_integer(d) || rq_dtype_bits(d) >= 8)
        return d;
    return d == RQ_DTYPE_S4 || d == RQ_DTYPE_S2 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
}

/* Packed codes: low bits first across the whole tensor. `half`: of signed ones, what their top bit stands for. */
static int32_t packed_at(const uint8_t *src, int64_t i, int bits, int half)
{
    const int per = 8 / bits, v = src[i / per] >> i % per * bits & ((1 << bits) - 1);
    return (v ^ half) - half;
}

static void unpack_bits(int32_t *restrict dst, const uint8_t *restrict src, int64_t from, int64_t n, int bits,
                        bool is_signed)
{
    const int per = 8 / bits, half = is_signed ? 1 << (bits - 1) : 0;
    int64_t i = 0;
    for (; i < n && (from + i) % per; i++)
        dst[i] = packed_at(src, from + i, bits, half);
    const uint8_t *bytes = src + (from + i) / per;
    const int64_t whole = (n - i) / per;
    if (bits == 4)
        for (int64_t b = 0; b < whole; b++, i += 2) {
            dst[i] = ((bytes[b] & 15) ^ half) - half;
            dst[i + 1] = ((bytes[b] >> 4) ^ half) - half;
        }
    for (; i < n; i++)
        dst[i] = packed_at(src, from + i, bits, half);
}

void rq_int_unpack(int32_t *dst, const rq_tensor *t, int64_t from, int64_t n)
{
    switch (t->dtype) {
    case RQ_DTYPE_S8:
        for (int64_t i = 0; i < n; i++)
            dst[i] = t->s8[from + i];
        return;
    case RQ_DTYPE_U8:
        for (int64_t i = 0; i < n; i++)
            dst[i] = t->u8[from + i];
        return;
    case RQ_DTYPE_S16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = t->s16[from + i];
        return;
    case RQ_DTYPE_U16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = t->u16[from + i];
        return;
    default:
        unpack_bits(dst, t->u8, from, n, rq_dtype_bits(t->dtype), rq_int_bytes_of(t->dtype) == RQ_DTYPE_S8);
    }
}

rq_status rq_int_widen(rq_tensor *dst, const rq_tensor *t)
{
    enum { PART = 256 };
    int32_t part[PART];
    const rq_dtype d = rq_int_bytes_of(t->dtype);
    if (d == t->dtype) {
        rq_tensor_share(dst, t);
        return RQ_OK;
    }
    RQ_TRY(rq_tensor_create(dst, d, &t->shape, false));
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i += PART) {
        const int64_t some = n - i < PART ? n - i : PART;
        rq_int_unpack(part, t, i, some);
        for (int64_t k = 0; k < some; k++)
            dst->s8[i + k] = (int8_t)part[k];
    }
    return RQ_OK;
}

/* ---- biases ---- */

bool rq_int_takes_bias(const rq_op_args *a, int64_t n, const char **why)
{
    const rq_tensor *c = a->n_in > 2 ? a->in[2] : NULL;
    if (!c)
        return true;
    *why = "bias is not constant";
    if (!c->data)
        return false;
    *why = "bias is neither float nor of 32 bits";
    if (c->dtype != RQ_DTYPE_S32 && (c->dtype != RQ_DTYPE_F32 || a->in_q[2]))
        return false;
    *why = "bias is not one row";
    const int64_t count = rq_tensor_count(c);
    return count == 1 || (count == n && c->shape.rank > 0 && c->shape.dim[c->shape.rank - 1] == n);
}

void rq_int_read_bias(double *bias, int64_t n, const rq_tensor *c, const rq_qparams *q, const rq_qparams *x,
                      const rq_qparams *w, float alpha)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = c && rq_tensor_count(c) > 1 ? i : 0;
        if (!c)
            bias[i] = 0;
        else if (c->dtype == RQ_DTYPE_F32)
            bias[i] = (double)c->f32[at];
        else if (q)
            bias[i] =
                (double)((int64_t)c->s32[at] - q->zero_point[q->n > 1 ? at : 0]) * (double)q->scale[q->n > 1 ? at : 0];
        else
            bias[i] = (double)c->s32[at] * (double)alpha * (double)x->scale[0] * (double)w->scale[i % w->n];
    }
}

/* ---- picking ---- */

/* The node with its constant weight as bytes in the eyes of a form. */
typedef struct view {
    rq_op_args a;
    const rq_qparams *in_q[3];
    const rq_tensor *in[3];
    rq_tensor w;
    rq_qparams wq;
} view;

static void look(view *v, const rq_op_args *a)
{
    v->a = *a;
    if (a->n_in > 3 || a->n_in < 2 || !a->in_q[1] || !a->in[1])
        return;
    for (int i = 0; i < a->n_in; i++) {
        v->in[i] = a->in[i];
        v->in_q[i] = a->in_q[i];
    }
    v->w = *a->in[1];
    v->w.dtype = rq_int_bytes_of(v->w.dtype);
    v->wq = *a->in_q[1];
    v->wq.dtype = rq_int_bytes_of(v->wq.dtype);
    v->in[1] = &v->w;
    v->in_q[1] = &v->wq;
    v->a.in = v->in;
    v->a.in_q = v->in_q;
}

/* ONNX Runtime counts a float bias in units of sx sw, which is fine enough where weights have 8 bits. */
static bool is_coarse(const rq_int_form *f, const rq_op_args *a, bool packed)
{
    const bool plain =
        f == &rq_int_plain_conv || f == &rq_int_plain_deconv || f == &rq_int_plain_gemm || f == &rq_int_plain_matmul;
    return packed && plain && a->n_in > 2 && a->in[2] && a->in[2]->dtype == RQ_DTYPE_F32;
}

/* Forms from int_blocked on read few bits as they are. */
static bool reads_bits(const rq_int_form *f)
{
    return f == &rq_int_blocked_conv || f == &rq_int_blocked_matmul || f == &rq_int_weight_only;
}

static const rq_int_form *pick(rq_int_product p, const rq_op_args *a, const char **why)
{
    const char *first = NULL;
    view v;
    look(&v, a);
    const bool packed = v.a.in != a->in && v.w.dtype != a->in[1]->dtype;
    for (int i = 0; i < MAX_FORMS && forms[p][i]; i++) {
        const rq_int_form *f = forms[p][i];
        const char *reason = "no integer form";
        const bool takes = !packed || a->in[1]->data || reads_bits(f); /* variable codes stay packed */
        if (is_coarse(f, a, packed))
            continue;
        if (takes && f->accepts(reads_bits(f) ? a : &v.a, &reason))
            return f;
        if (!takes)
            reason = "codes of less than 8 bits that are not constant";
        first = first ? first : reason;
    }
    *why = first;
    return NULL;
}

bool rq_int_pick_conv(const rq_op_args *a, const char **why)
{
    return pick(RQ_INT_CONV, a, why) != NULL;
}

bool rq_int_pick_deconv(const rq_op_args *a, const char **why)
{
    return pick(RQ_INT_DECONV, a, why) != NULL;
}

bool rq_int_pick_matmul(const rq_op_args *a, const char **why)
{
    return pick(RQ_INT_MATMUL, a, why) != NULL;
}

bool rq_int_pick_gemm(const rq_op_args *a, const char **why)
{
    return pick(RQ_INT_GEMM, a, why) != NULL;
}

rq_last rq_int_pick_last_conv(const rq_op_args *a)
{
    const char *why;
    return pick(RQ_INT_CONV, a, &why) == &rq_int_plain_conv ? RQ_LAST_WANTS : RQ_LAST_NO;
}

rq_last rq_int_pick_last_deconv(const rq_op_args *a)
{
    const char *why;
    return pick(RQ_INT_DECONV, a, &why) == &rq_int_plain_deconv ? RQ_LAST_WANTS : RQ_LAST_NO;
}

typedef struct picked {
    const rq_int_form *form;
    void *state; /* of the form */
} picked;

void rq_int_pick_release(void *state)
{
    picked *s = state;
    if (s && s->state)
        s->form->release(s->state);
    rq_mem_free(s);
}

static rq_status prepare(rq_int_product p, const rq_op_args *a, void **state)
{
    const char *why;
    const rq_int_form *form = pick(p, a, &why);
    if (!form)
        return RQ_INTERNAL;
    picked *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->form = form;
    view v;
    rq_tensor bytes = { 0 };
    rq_status st = RQ_OK;
    look(&v, a);
    if (reads_bits(form)) {
        st = form->prepare(a, &s->state);
    } else {
        if (v.w.data && v.w.dtype != a->in[1]->dtype) {
            st = rq_int_widen(&bytes, a->in[1]);
            v.w = bytes;
        }
        if (!st)
            st = form->prepare(&v.a, &s->state);
    }
    rq_tensor_release(&bytes);
    if (st) {
        rq_mem_free(s);
        return st;
    }
    *state = s;
    return RQ_OK;
}

rq_status rq_int_pick_prepare_conv(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_CONV, a, state);
}

rq_status rq_int_pick_prepare_deconv(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_DECONV, a, state);
}

rq_status rq_int_pick_prepare_matmul(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_MATMUL, a, state);
}

rq_status rq_int_pick_prepare_gemm(const rq_op_args *a, void **state)
{
    return prepare(RQ_INT_GEMM, a, state);
}

rq_status rq_int_pick_forward(const rq_op_args *a)
{
    const picked *s = a->state;
    view v;
    look(&v, a);
    rq_op_args f = reads_bits(s->form) ? *a : v.a;
    f.state = s->state;
    RQ_TRY(s->form->forward(&f));
    if (!s->form->posts)
        rq_int_last_posts(a);
    return RQ_OK;
}

size_t rq_int_pick_scratch(const rq_op_args *a)
{
    const picked *s = a->state;
    view v;
    look(&v, a);
    rq_op_args f = reads_bits(s->form) ? *a : v.a;
    f.state = s->state;
    return s->form->scratch(&f);
}
