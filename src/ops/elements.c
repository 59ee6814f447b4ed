/* ops/elements.c — see elements.h. */
#include "ops/elements.h"

#include <math.h>
#include <string.h>

#include "tensor/convert.h"

rq_dtype rq_elements_dtype(int64_t onnx)
{
    static const rq_dtype types[] = {
        RQ_DTYPE_NONE,       RQ_DTYPE_F32,    RQ_DTYPE_U8,         RQ_DTYPE_S8,   RQ_DTYPE_U16,  RQ_DTYPE_S16,
        RQ_DTYPE_S32,        RQ_DTYPE_S64,    RQ_DTYPE_STRING,     RQ_DTYPE_BOOL, RQ_DTYPE_F16,  RQ_DTYPE_F64,
        RQ_DTYPE_U32,        RQ_DTYPE_U64,    RQ_DTYPE_C64,        RQ_DTYPE_C128, RQ_DTYPE_BF16, RQ_DTYPE_F8E4M3FN,
        RQ_DTYPE_F8E4M3FNUZ, RQ_DTYPE_F8E5M2, RQ_DTYPE_F8E5M2FNUZ, RQ_DTYPE_U4,   RQ_DTYPE_S4,   RQ_DTYPE_F4E2M1,
        RQ_DTYPE_F8E8M0,     RQ_DTYPE_U2,     RQ_DTYPE_S2,
    };
    return onnx > 0 && onnx < (int64_t)(sizeof types / sizeof types[0]) ? types[onnx] : RQ_DTYPE_NONE;
}

void rq_elements_load_f64(double *dst, const rq_tensor *t, int64_t from, int64_t step, int n)
{
    switch (t->dtype) {
    case RQ_DTYPE_F32:
        for (int i = 0; i < n; i++)
            dst[i] = t->f32[from + i * step];
        break;
    case RQ_DTYPE_F64:
        for (int i = 0; i < n; i++)
            dst[i] = t->f64[from + i * step];
        break;
    case RQ_DTYPE_F16:
        for (int i = 0; i < n; i++)
            dst[i] = rq_convert_f16_to_f32(t->u16[from + i * step]);
        break;
    case RQ_DTYPE_BF16:
        for (int i = 0; i < n; i++)
            dst[i] = rq_convert_bf16_to_f32(t->u16[from + i * step]);
        break;
    default:
        for (int i = 0; i < n; i++)
            dst[i] = rq_tensor_get(t, from + i * step);
    }
}

void rq_elements_load_int(int64_t *dst, const rq_tensor *t, int64_t from, int64_t step, int n)
{
    switch (t->dtype) {
    case RQ_DTYPE_S64:
    case RQ_DTYPE_U64:
        for (int i = 0; i < n; i++)
            dst[i] = t->s64[from + i * step];
        break;
    case RQ_DTYPE_S32:
        for (int i = 0; i < n; i++)
            dst[i] = t->s32[from + i * step];
        break;
    case RQ_DTYPE_U8:
    case RQ_DTYPE_BOOL:
        for (int i = 0; i < n; i++)
            dst[i] = t->u8[from + i * step];
        break;
    default:
        for (int i = 0; i < n; i++)
            dst[i] = rq_tensor_get_int(t, from + i * step);
    }
}

static void put_bits(rq_tensor *t, int64_t i, int bits, unsigned v)
{
    int per = 8 / bits, at = (int)(i % per) * bits;
    unsigned mask = ((1u << bits) - 1) << at;
    t->u8[i / per] = (uint8_t)((t->u8[i / per] & ~mask) | (v << at & mask));
}

void rq_elements_store_int(rq_tensor *t, int64_t from, const int64_t *src, int n)
{
    switch (rq_dtype_is_float(t->dtype) ? 0 : t->dtype == RQ_DTYPE_BOOL ? 1 : rq_dtype_bits(t->dtype)) {
    case 0: /* one rounding: s64 to f32 not by way of f64 */
        for (int i = 0; i < n && t->dtype == RQ_DTYPE_F32; i++)
            t->f32[from + i] = (float)src[i];
        for (int i = 0; i < n && t->dtype == RQ_DTYPE_F64; i++)
            t->f64[from + i] = (double)src[i];
        for (int i = 0; i < n && t->dtype != RQ_DTYPE_F32 && t->dtype != RQ_DTYPE_F64; i++)
            rq_tensor_set(t, from + i, (float)src[i]);
        break;
    case 1:
        for (int i = 0; i < n; i++)
            t->u8[from + i] = src[i] != 0;
        break;
    case 8:
        for (int i = 0; i < n; i++)
            t->u8[from + i] = (uint8_t)src[i];
        break;
    case 16:
        for (int i = 0; i < n; i++)
            t->u16[from + i] = (uint16_t)src[i];
        break;
    case 32:
        for (int i = 0; i < n; i++)
            t->u32[from + i] = (uint32_t)src[i];
        break;
    case 64:
        memcpy(t->s64 + from, src, (size_t)n * sizeof *src);
        break;
    default:
        for (int i = 0; i < n; i++)
            put_bits(t, from + i, rq_dtype_bits(t->dtype), (unsigned)src[i]);
    }
}

/* Cut towards zero. Out of range, as x86 does it: types up to 32 bits go through s32, where "no answer" is INT32_MIN. */
static int64_t cut(double v, rq_dtype d)
{
    if (d == RQ_DTYPE_U64)
        return v > -0x1p63 && v < 0x1p64 ? (v >= 0x1p63 ? (int64_t)(uint64_t)v : (int64_t)v) : INT64_MIN;
    if (d == RQ_DTYPE_S64 || d == RQ_DTYPE_U32)
        return v > -0x1p63 && v < 0x1p63 ? (int64_t)v : INT64_MIN;
    return v > -0x1p31 - 1 && v < 0x1p31 ? (int64_t)v : INT32_MIN;
}

void rq_elements_store_f64(rq_tensor *t, int64_t from, const double *src, int n, bool saturate)
{
    int64_t whole[RQ_BLOCK];
    switch (t->dtype) {
    case RQ_DTYPE_F32:
        for (int i = 0; i < n; i++)
            t->f32[from + i] = (float)src[i];
        return;
    case RQ_DTYPE_F64:
        memcpy(t->f64 + from, src, (size_t)n * sizeof *src);
        return;
    case RQ_DTYPE_F8E4M3FN:
    case RQ_DTYPE_F8E4M3FNUZ:
    case RQ_DTYPE_F8E5M2:
    case RQ_DTYPE_F8E5M2FNUZ:
    case RQ_DTYPE_F8E8M0:
        for (int i = 0; i < n; i++)
            t->u8[from + i] = rq_convert_f32_to_f8(t->dtype, (float)src[i], saturate);
        return;
    case RQ_DTYPE_BOOL:
        for (int i = 0; i < n; i++)
            t->u8[from + i] = src[i] != 0;
        return;
    default:
        break;
    }
    if (rq_dtype_is_float(t->dtype)) {
        for (int i = 0; i < n; i++)
            rq_tensor_set(t, from + i, src[i]);
        return;
    }
    for (int at = 0; at < n; at += RQ_BLOCK) {
        int m = n - at < RQ_BLOCK ? n - at : RQ_BLOCK;
        for (int i = 0; i < m; i++)
            whole[i] = cut(src[at + i], t->dtype);
        rq_elements_store_int(t, from + at, whole, m);
    }
}

/* The pairs that networks convert most, as one loop each that becomes vectors; false for others. */
#define PAIR(to, value)                                                                                                \
    do {                                                                                                               \
        for (int64_t i = 0; i < n; i++)                                                                                \
            dst->to[i] = (value);                                                                                      \
        return true;                                                                                                   \
    } while (0)
#define PAIR_OF(d, to, value)                                                                                          \
    case d:                                                                                                            \
        PAIR(to, value)

static bool to_f32(rq_tensor *dst, const rq_tensor *src, int64_t n)
{
    switch (src->dtype) {
    case RQ_DTYPE_BOOL:
        PAIR_OF(RQ_DTYPE_U8, f32, src->u8[i]);
        PAIR_OF(RQ_DTYPE_S8, f32, src->s8[i]);
        PAIR_OF(RQ_DTYPE_U16, f32, src->u16[i]);
        PAIR_OF(RQ_DTYPE_S16, f32, src->s16[i]);
        PAIR_OF(RQ_DTYPE_S32, f32, (float)src->s32[i]);
        PAIR_OF(RQ_DTYPE_S64, f32, (float)src->s64[i]);
        PAIR_OF(RQ_DTYPE_F64, f32, (float)src->f64[i]);
        PAIR_OF(RQ_DTYPE_BF16, f32, rq_convert_bf16_to_f32(src->u16[i]));
    default:
        return false;
    }
}

/* As cut() has it: what s32 cannot hold is INT32_MIN. */
static inline int32_t cut_s32(float v)
{
    const float some = v >= -0x1p31f && v < 0x1p31f ? v : -0x1p31f;
    return (int32_t)some;
}

static bool from_f32(rq_tensor *dst, const rq_tensor *src, int64_t n)
{
    switch (dst->dtype) {
        PAIR_OF(RQ_DTYPE_BOOL, u8, src->f32[i] != 0);
        PAIR_OF(RQ_DTYPE_U8, u8, (uint8_t)cut_s32(src->f32[i]));
        PAIR_OF(RQ_DTYPE_S8, u8, (uint8_t)cut_s32(src->f32[i]));
        PAIR_OF(RQ_DTYPE_S32, s32, cut_s32(src->f32[i]));
        PAIR_OF(RQ_DTYPE_S64, s64, cut(src->f32[i], RQ_DTYPE_S64));
        PAIR_OF(RQ_DTYPE_F64, f64, src->f32[i]);
        PAIR_OF(RQ_DTYPE_BF16, u16, rq_convert_f32_to_bf16(src->f32[i]));
    default:
        return false;
    }
}

static bool of_integers(rq_tensor *dst, const rq_tensor *src, int64_t n)
{
    switch ((int)src->dtype * 64 + (int)dst->dtype) {
    case (int)RQ_DTYPE_S64 * 64 + (int)RQ_DTYPE_S32:
        PAIR(u32, (uint32_t)src->s64[i]);
    case (int)RQ_DTYPE_S32 * 64 + (int)RQ_DTYPE_S64:
        PAIR(s64, src->s32[i]);
    case (int)RQ_DTYPE_S64 * 64 + (int)RQ_DTYPE_BOOL:
        PAIR(u8, src->s64[i] != 0);
    case (int)RQ_DTYPE_S32 * 64 + (int)RQ_DTYPE_BOOL:
        PAIR(u8, src->s32[i] != 0);
    case (int)RQ_DTYPE_BOOL * 64 + (int)RQ_DTYPE_S32:
    case (int)RQ_DTYPE_U8 * 64 + (int)RQ_DTYPE_S32:
        PAIR(s32, src->u8[i]);
    case (int)RQ_DTYPE_BOOL * 64 + (int)RQ_DTYPE_S64:
    case (int)RQ_DTYPE_U8 * 64 + (int)RQ_DTYPE_S64:
        PAIR(s64, src->u8[i]);
    case (int)RQ_DTYPE_S8 * 64 + (int)RQ_DTYPE_S32:
        PAIR(s32, src->s8[i]);
    default:
        return false;
    }
}

static bool convert_fast(rq_tensor *dst, const rq_tensor *src, int64_t n)
{
    return dst->dtype == RQ_DTYPE_F32   ? to_f32(dst, src, n)
           : src->dtype == RQ_DTYPE_F32 ? from_f32(dst, src, n)
                                        : of_integers(dst, src, n);
}

void rq_elements_convert(rq_tensor *dst, const rq_tensor *src, bool saturate)
{
    int64_t n = rq_tensor_count(src);
    if (dst->dtype == src->dtype) {
        size_t bytes = rq_shape_bytes(&src->shape, src->dtype);
        if (bytes)
            memcpy(dst->data, src->data, bytes);
        return;
    }
    if (convert_fast(dst, src, n))
        return;
    for (int64_t at = 0; at < n; at += RQ_BLOCK) {
        int m = n - at < RQ_BLOCK ? (int)(n - at) : RQ_BLOCK;
        if (rq_dtype_is_float(src->dtype)) {
            double v[RQ_BLOCK];
            rq_elements_load_f64(v, src, at, 1, m);
            rq_elements_store_f64(dst, at, v, m, saturate);
        } else {
            int64_t v[RQ_BLOCK];
            rq_elements_load_int(v, src, at, 1, m);
            if (src->dtype == RQ_DTYPE_U64 && rq_dtype_is_float(dst->dtype))
                for (int i = 0; i < m; i++)
                    rq_tensor_set(dst, at + i,
                                  dst->dtype == RQ_DTYPE_F64 ? (double)(uint64_t)v[i] : (float)(uint64_t)v[i]);
            else
                rq_elements_store_int(dst, at, v, m);
        }
    }
}

typedef struct conversion {
    const rq_kernels *k;
    rq_tensor *dst;
    const rq_tensor *src;
    bool saturate;
} conversion;

enum { PIECE = 1 << 15 }; /* elements that one thread converts at a time; whole bytes of packed types */

static void convert_piece(void *arg, int64_t i)
{
    const conversion *c = arg;
    const int64_t from = i * PIECE, all = rq_tensor_count(c->src), n = all - from < PIECE ? all - from : PIECE;
    const rq_shape list = rq_shape_of(1, &n);
    const rq_tensor src =
        rq_tensor_view(c->src->dtype, &list, c->src->u8 + (size_t)from * (size_t)rq_dtype_bits(c->src->dtype) / 8);
    rq_tensor dst =
        rq_tensor_view(c->dst->dtype, &list, c->dst->u8 + (size_t)from * (size_t)rq_dtype_bits(c->dst->dtype) / 8);
    if (src.dtype == RQ_DTYPE_F16 && dst.dtype == RQ_DTYPE_F32)
        c->k->half_to_float(dst.f32, src.u16, (size_t)n);
    else if (src.dtype == RQ_DTYPE_F32 && dst.dtype == RQ_DTYPE_F16)
        c->k->half_from_float(dst.u16, src.f32, (size_t)n);
    else
        rq_elements_convert(&dst, &src, c->saturate);
}

void rq_elements_convert_in(const rq_op_args *a, rq_tensor *dst, const rq_tensor *src, bool saturate)
{
    conversion c = { .k = a->k, .dst = dst, .src = src, .saturate = saturate };
    const int64_t items = (rq_tensor_count(src) + PIECE - 1) / PIECE;
    rq_threads_for(items > 1 ? a->threads : NULL, items, convert_piece, &c);
}

/* Doubles as their bits with negative ones turned over, u64 shifted to start at INT64_MIN. */
int64_t rq_elements_key(const rq_tensor *t, int64_t i)
{
    if (rq_dtype_is_float(t->dtype)) {
        double v = rq_tensor_get(t, i) + 0.0; /* -0 is 0 */
        int64_t bits;
        memcpy(&bits, &v, sizeof bits);
        return bits < 0 ? bits ^ INT64_MAX : bits;
    }
    int64_t v = rq_tensor_get_int(t, i);
    return t->dtype == RQ_DTYPE_U64 ? (int64_t)((uint64_t)v ^ (UINT64_C(1) << 63)) : v;
}

const char *rq_elements_text(const rq_tensor *t, int64_t i, size_t *n)
{
    *n = (size_t)(t->u64[i + 1] - t->u64[i]);
    return (const char *)(t->u64 + rq_tensor_count(t) + 1) + t->u64[i];
}

static size_t copy_bytes(const rq_tensor *t)
{
    return rq_mem_round((size_t)rq_tensor_count(t) * sizeof(float));
}

size_t rq_elements_room(const rq_op_args *a)
{
    size_t bytes = 0;
    for (int i = 0; i < a->n_in + a->n_out; i++) {
        const rq_tensor *t = i < a->n_in ? a->in[i] : a->out[i - a->n_in];
        const int bits = t ? rq_dtype_bits(t->dtype) : 0;
        if (t && rq_shape_is_known(&t->shape) &&
            ((rq_dtype_is_float(t->dtype) && t->dtype != RQ_DTYPE_F32) || (bits > 0 && bits < 8)))
            bytes += copy_bytes(t);
    }
    return bytes;
}

rq_status rq_elements_run_as(const rq_op_args *a, const rq_elements_as *as, rq_status (*fn)(const rq_op_args *a))
{
    const int n_in = a->n_in, n = n_in + a->n_out;
    enum { FEW = 16 };
    rq_tensor few[FEW], *copy = few;
    rq_tensor *few_used[FEW], **use = few_used;
    rq_status s = RQ_OK;
    bool any = false;
    for (int i = 0; i < n; i++) {
        const rq_tensor *t = i < n_in ? a->in[i] : a->out[i - n_in];
        any = any || (t && as->takes(t->dtype));
    }
    if (!any)
        return fn(a);
    if (n > FEW) {
        copy = rq_mem_alloc((size_t)n, sizeof *copy);
        use = rq_mem_alloc((size_t)n, sizeof *use);
        if (!copy || !use) {
            rq_mem_free(copy);
            rq_mem_free(use);
            return RQ_NO_MEMORY;
        }
    }
    memset(copy, 0, (size_t)n * sizeof *copy);
    char *at = a->room_bytes ? (char *)a->scratch + a->room_at : NULL;
    const char *end = at ? at + a->room_bytes : NULL;
    for (int i = 0; s == RQ_OK && i < n; i++) {
        use[i] = i < n_in ? (rq_tensor *)a->in[i] : a->out[i - n_in];
        if (!use[i] || !as->takes(use[i]->dtype))
            continue;
        const rq_tensor *t = use[i];
        use[i] = &copy[i];
        if (at && copy_bytes(t) <= (size_t)(end - at)) {
            copy[i] = rq_tensor_view(as->dtype, &t->shape, at);
            at += copy_bytes(t);
        } else {
            s = rq_tensor_create(use[i], as->dtype, &t->shape, false);
        }
        if (s == RQ_OK && i < n_in && t->data)
            as->load(use[i], t, a);
    }
    if (s == RQ_OK) {
        rq_op_args b = *a;
        b.in = (const rq_tensor *const *)use;
        b.out = (rq_tensor *const *)use + n_in;
        b.room_bytes = 0;
        s = fn(&b);
    }
    for (int i = n_in; s == RQ_OK && i < n; i++)
        if (use[i] == &copy[i])
            as->store(a->out[i - n_in], use[i], a);
    for (int i = 0; i < n; i++)
        rq_tensor_release(&copy[i]);
    if (copy != few) {
        rq_mem_free(copy);
        rq_mem_free(use);
    }
    return s;
}

static bool is_other_float(rq_dtype d)
{
    return d != RQ_DTYPE_F32 && rq_dtype_is_float(d);
}

static void convert(rq_tensor *dst, const rq_tensor *src, const rq_op_args *a)
{
    rq_elements_convert_in(a, dst, src, true);
}

rq_status rq_elements_run_f32(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    const rq_tensor *x = a->n_in ? a->in[0] : NULL, *y = a->n_out ? a->out[0] : NULL;
    if (x && y && !rq_dtype_is_float(x->dtype) && !rq_dtype_is_float(y->dtype))
        return rq_op_no_form(a, x->dtype);
    return rq_elements_run_as(a, &(rq_elements_as) { is_other_float, RQ_DTYPE_F32, convert, convert }, fn);
}

void rq_elements_broadcast(const rq_shape *out, const rq_shape *const *in, int n_in, rq_elements_run_fn fn, void *arg)
{
    int64_t dim[RQ_MAX_RANK], step[RQ_MAX_RANK][3] = { { 0 } }, at[3] = { 0 }, index[RQ_MAX_RANK] = { 0 }, o = 0;
    int rank = 0;
    for (int i = 0; i < out->rank; i++) { /* axes of size 1 go, neighbours that walk on as one are merged */
        int64_t s[3] = { 0 };
        if (out->dim[i] == 0)
            return;
        if (out->dim[i] == 1)
            continue;
        for (int k = 0; k < n_in; k++) {
            int axis = i - (out->rank - in[k]->rank);
            s[k] = axis < 0 || in[k]->dim[axis] == 1 ? 0 : rq_shape_span(in[k], axis + 1, in[k]->rank);
        }
        bool merge = rank > 0;
        for (int k = 0; k < n_in; k++)
            merge = merge && step[rank - 1][k] == s[k] * out->dim[i];
        if (merge)
            dim[rank - 1] *= out->dim[i];
        else
            dim[rank++] = out->dim[i];
        for (int k = 0; k < n_in; k++)
            step[rank - 1][k] = s[k];
    }
    int64_t n = rank ? dim[rank - 1] : 1;
    const int64_t *inner = step[rank ? rank - 1 : 0];
    for (;;) {
        fn(arg, o, at, inner, n);
        o += n;
        int i = rank - 2;
        for (; i >= 0; i--) {
            for (int k = 0; k < n_in; k++)
                at[k] += step[i][k];
            if (++index[i] < dim[i])
                break;
            for (int k = 0; k < n_in; k++)
                at[k] -= step[i][k] * dim[i];
            index[i] = 0;
        }
        if (i < 0)
            return;
    }
}
