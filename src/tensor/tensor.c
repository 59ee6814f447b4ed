/* tensor/tensor.c — making and sharing tensors, and element access. */
#include "requant/tensor.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/convert.h"
#include "tensor/storage.h"

rq_status rq_tensor_create(rq_tensor *t, rq_dtype d, const rq_shape *shape, bool clear)
{
    rq_tensor made = { .dtype = d, .shape = *shape };
    *t = (rq_tensor) { 0 };
    RQ_TRY(rq_shape_check(shape));
    made.bytes = rq_shape_bytes(shape, d);
    made.data = clear ? rq_mem_zalloc(made.bytes, 1) : rq_mem_alloc(made.bytes, 1);
    if (!made.data)
        return RQ_NO_MEMORY;
    made.storage = rq_storage_create_block(made.data, made.bytes);
    if (!made.storage) {
        rq_mem_free(made.data);
        return RQ_NO_MEMORY;
    }
    *t = made;
    return RQ_OK;
}

rq_tensor rq_tensor_view(rq_dtype d, const rq_shape *shape, void *data)
{
    return (rq_tensor) { .dtype = d, .shape = *shape, .bytes = rq_shape_bytes(shape, d), .data = data };
}

rq_status rq_tensor_wrap(rq_tensor *t, rq_dtype d, const rq_shape *shape, void *data,
                         void (*free_fn)(void *data, void *arg), void *arg)
{
    rq_tensor made = rq_tensor_view(d, shape, data);
    *t = (rq_tensor) { 0 };
    made.storage = rq_storage_create(data, made.bytes, free_fn, arg);
    if (!made.storage)
        return RQ_NO_MEMORY;
    *t = made;
    return RQ_OK;
}

void rq_tensor_share(rq_tensor *dst, const rq_tensor *src)
{
    *dst = *src;
    rq_storage_hold(dst->storage);
}

rq_status rq_tensor_copy(rq_tensor *dst, const rq_tensor *src)
{
    rq_tensor made = *src;
    *dst = (rq_tensor) { 0 };
    made.storage = NULL;
    made.data = rq_mem_alloc(src->bytes, 1);
    if (!made.data)
        return RQ_NO_MEMORY;
    if (src->bytes)
        memcpy(made.data, src->data, src->bytes);
    made.storage = rq_storage_create_block(made.data, made.bytes);
    if (!made.storage) {
        rq_mem_free(made.data);
        return RQ_NO_MEMORY;
    }
    *dst = made;
    return RQ_OK;
}

void rq_tensor_release(rq_tensor *t)
{
    struct rq_storage *s = t->storage;
    *t = (rq_tensor) { 0 };
    rq_storage_release(s);
}

int64_t rq_tensor_count(const rq_tensor *t)
{
    return rq_shape_count(&t->shape);
}

/* Packed element i of a type of `bits` (4 or 2) bits. */
static unsigned packed(const rq_tensor *t, int64_t i, int bits)
{
    int per = 8 / bits;
    return t->u8[i / per] >> (int)(i % per) * bits & ((1u << bits) - 1);
}

int64_t rq_tensor_get_int(const rq_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case RQ_DTYPE_S8:
        return t->s8[i];
    case RQ_DTYPE_U8:
    case RQ_DTYPE_BOOL:
        return t->u8[i];
    case RQ_DTYPE_S16:
        return t->s16[i];
    case RQ_DTYPE_U16:
        return t->u16[i];
    case RQ_DTYPE_S32:
        return t->s32[i];
    case RQ_DTYPE_U32:
        return t->u32[i];
    case RQ_DTYPE_S64:
    case RQ_DTYPE_U64:
        return t->s64[i];
    case RQ_DTYPE_U4:
        return packed(t, i, 4);
    case RQ_DTYPE_S4:
        return (int64_t)(packed(t, i, 4) ^ 8) - 8;
    case RQ_DTYPE_U2:
        return packed(t, i, 2);
    case RQ_DTYPE_S2:
        return (int64_t)(packed(t, i, 2) ^ 2) - 2;
    default: {
        const double v = rq_tensor_get(t, i); /* what 64 bits cannot hold becomes the nearest they can; NaN 0 */
        return v >= 0x1p63 ? INT64_MAX : v < -0x1p63 ? INT64_MIN : v == v ? (int64_t)v : 0;
    }
    }
}

double rq_tensor_get(const rq_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case RQ_DTYPE_F32:
        return t->f32[i];
    case RQ_DTYPE_F64:
        return t->f64[i];
    case RQ_DTYPE_F16:
        return rq_convert_f16_to_f32(t->u16[i]);
    case RQ_DTYPE_BF16:
        return rq_convert_bf16_to_f32(t->u16[i]);
    case RQ_DTYPE_F8E4M3FN:
    case RQ_DTYPE_F8E4M3FNUZ:
    case RQ_DTYPE_F8E5M2:
    case RQ_DTYPE_F8E5M2FNUZ:
    case RQ_DTYPE_F8E8M0:
        return rq_convert_f8_to_f32(t->dtype, t->u8[i]);
    case RQ_DTYPE_F4E2M1:
        return rq_convert_f8_to_f32(t->dtype, (uint8_t)packed(t, i, 4));
    case RQ_DTYPE_U64:
        return (double)t->u64[i];
    case RQ_DTYPE_NONE:
    case RQ_DTYPE_STRING:
    case RQ_DTYPE_C64:
    case RQ_DTYPE_C128:
        return NAN;
    default:
        return (double)rq_tensor_get_int(t, i);
    }
}

static void put_packed(rq_tensor *t, int64_t i, int bits, unsigned v)
{
    int per = 8 / bits, at = (int)(i % per) * bits;
    unsigned mask = ((1u << bits) - 1) << at;
    t->u8[i / per] = (uint8_t)((t->u8[i / per] & ~mask) | (v << at & mask));
}

static int64_t to_integer(double v, rq_dtype d)
{
    double lo, hi;
    if (rq_dtype_bits(d) == 64) {
        lo = d == RQ_DTYPE_U64 ? 0 : -0x1p63;
        hi = d == RQ_DTYPE_U64 ? 0x1p64 : 0x1p63;
    } else {
        int64_t l, h;
        rq_dtype_limits(d, &l, &h);
        lo = (double)l;
        hi = (double)h;
    }
    if (!(v > lo))
        return d == RQ_DTYPE_U64 ? 0 : lo <= -0x1p63 ? INT64_MIN : (int64_t)lo;
    if (v >= hi)
        return d == RQ_DTYPE_U64 ? -1 : hi >= 0x1p63 ? INT64_MAX : (int64_t)hi;
    v = nearbyint(v);
    return d == RQ_DTYPE_U64 ? (int64_t)(uint64_t)v : (int64_t)v;
}

void rq_tensor_set(rq_tensor *t, int64_t i, double v)
{
    switch (t->dtype) {
    case RQ_DTYPE_F32:
        t->f32[i] = (float)v;
        return;
    case RQ_DTYPE_F64:
        t->f64[i] = v;
        return;
    case RQ_DTYPE_F16:
        t->u16[i] = rq_convert_f32_to_f16((float)v);
        return;
    case RQ_DTYPE_BF16:
        t->u16[i] = rq_convert_f32_to_bf16((float)v);
        return;
    case RQ_DTYPE_F8E4M3FN:
    case RQ_DTYPE_F8E4M3FNUZ:
    case RQ_DTYPE_F8E5M2:
    case RQ_DTYPE_F8E5M2FNUZ:
    case RQ_DTYPE_F8E8M0:
        t->u8[i] = rq_convert_f32_to_f8(t->dtype, (float)v, true);
        return;
    case RQ_DTYPE_F4E2M1:
        put_packed(t, i, 4, rq_convert_f32_to_f8(t->dtype, (float)v, true));
        return;
    case RQ_DTYPE_BOOL:
        t->u8[i] = v != 0;
        return;
    default:
        break;
    }
    if (!rq_dtype_is_integer(t->dtype))
        return;
    int64_t n = to_integer(v, t->dtype);
    switch (rq_dtype_bits(t->dtype)) {
    case 64:
        t->s64[i] = n;
        break;
    case 32:
        t->s32[i] = (int32_t)n;
        break;
    case 16:
        t->s16[i] = (int16_t)n;
        break;
    case 8:
        t->s8[i] = (int8_t)n;
        break;
    default:
        put_packed(t, i, rq_dtype_bits(t->dtype), (unsigned)n);
    }
}
