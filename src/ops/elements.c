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

/* The pairs that networks convert most, as one loop each; false for others. */
static bool convert_fast(rq_tensor *dst, const rq_tensor *src, int64_t n)
{
    if (dst->dtype != RQ_DTYPE_F32)
        return false;
    switch (src->dtype) {
    case RQ_DTYPE_BOOL:
    case RQ_DTYPE_U8:
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = src->u8[i];
        return true;
    case RQ_DTYPE_S8:
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = src->s8[i];
        return true;
    case RQ_DTYPE_S32:
        for (int64_t i = 0; i < n; i++)
            dst->f32[i] = (float)src->s32[i];
        return true;
    default:
        return false;
    }
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

rq_status rq_elements_run_as(const rq_op_args *a, const rq_elements_as *as, rq_status (*fn)(const rq_op_args *a))
{
    const size_t n_in = (size_t)a->n_in, n = n_in + (size_t)a->n_out;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        const rq_tensor *t = i < n_in ? a->in[i] : a->out[i - n_in];
        any = any || (t && as->takes(t->dtype));
    }
    if (!any)
        return fn(a);
    rq_tensor *copy = rq_mem_zalloc(n, sizeof *copy);
    rq_tensor **use = rq_mem_zalloc(n, sizeof *use);
    rq_status s = copy && use ? RQ_OK : RQ_NO_MEMORY;
    for (size_t i = 0; s == RQ_OK && i < n; i++) {
        use[i] = i < n_in ? (rq_tensor *)a->in[i] : a->out[i - n_in];
        if (!use[i] || !as->takes(use[i]->dtype))
            continue;
        const rq_tensor *t = use[i];
        use[i] = &copy[i];
        s = rq_tensor_create(use[i], as->dtype, &t->shape, false);
        if (s == RQ_OK && i < n_in && t->data)
            as->load(use[i], t);
    }
    if (s == RQ_OK) {
        rq_op_args b = *a;
        b.in = (const rq_tensor *const *)use;
        b.out = (rq_tensor *const *)use + n_in;
        s = fn(&b);
    }
    for (size_t i = n_in; s == RQ_OK && i < n; i++)
        if (use[i] == &copy[i])
            as->store(a->out[i - n_in], use[i]);
    for (size_t i = 0; copy && i < n; i++)
        rq_tensor_release(&copy[i]);
    rq_mem_free(copy);
    rq_mem_free(use);
    return s;
}

static bool is_other_float(rq_dtype d)
{
    return d != RQ_DTYPE_F32 && rq_dtype_is_float(d);
}

static void convert(rq_tensor *dst, const rq_tensor *src)
{
    rq_elements_convert(dst, src, true);
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
