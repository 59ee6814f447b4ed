/* ops/moves.c — see moves.h. */
#include "ops/moves.h"

#include <string.h>

size_t rq_moves_size(rq_dtype d)
{
    int bits = rq_dtype_bits(d);
    return bits % 8 ? 0 : (size_t)bits / 8;
}

void rq_moves_strides(const rq_shape *s, int64_t *stride)
{
    int64_t step = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= s->dim[i];
    }
}

void rq_moves_copy(rq_tensor *dst, const rq_tensor *src)
{
    size_t n = rq_shape_bytes(&src->shape, src->dtype);
    if (n)
        memcpy(dst->data, src->data, n);
}

static bool is_packed(const rq_tensor *t)
{
    int bits = t ? rq_dtype_bits(t->dtype) : 8;
    return bits > 0 && bits < 8;
}

/* Element i of a packed buffer as the raw bits in a byte, and back. */
static void unpack(uint8_t *dst, const rq_tensor *src)
{
    int bits = rq_dtype_bits(src->dtype), per = 8 / bits;
    for (int64_t i = 0, n = rq_tensor_count(src); i < n; i++)
        dst[i] = (uint8_t)(src->u8[i / per] >> (i % per * bits)) & (uint8_t)((1 << bits) - 1);
}

static void pack(rq_tensor *dst, const uint8_t *src)
{
    int bits = rq_dtype_bits(dst->dtype), per = 8 / bits;
    memset(dst->data, 0, rq_shape_bytes(&dst->shape, dst->dtype));
    for (int64_t i = 0, n = rq_tensor_count(dst); i < n; i++)
        dst->u8[i / per] |= (uint8_t)((src[i] & ((1 << bits) - 1)) << (i % per * bits));
}

static rq_status run_unpacked(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    size_t n_in = (size_t)a->n_in, n_out = (size_t)a->n_out;
    rq_tensor *wide = rq_mem_zalloc(n_in + n_out + 1, sizeof *wide);
    rq_tensor **ptr = rq_mem_zalloc(n_in + n_out + 1, sizeof *ptr);
    rq_status s = wide && ptr ? RQ_OK : RQ_NO_MEMORY;
    for (size_t i = 0; s == RQ_OK && i < n_in + n_out; i++) {
        const rq_tensor *t = i < n_in ? a->in[i] : a->out[i - n_in];
        if (!t)
            continue;
        ptr[i] = &wide[i];
        if (is_packed(t))
            s = rq_tensor_create(&wide[i], RQ_DTYPE_U8, &t->shape, false);
        else
            wide[i] = rq_tensor_view(t->dtype, &t->shape, t->data);
        if (s == RQ_OK && is_packed(t) && i < n_in)
            unpack(wide[i].u8, t);
    }
    if (s == RQ_OK) {
        rq_op_args b = *a;
        b.in = (const rq_tensor *const *)ptr;
        b.out = ptr + n_in;
        s = fn(&b);
    }
    for (size_t i = 0; s == RQ_OK && i < n_out; i++)
        if (is_packed(a->out[i]))
            pack(a->out[i], wide[n_in + i].u8);
    for (size_t i = 0; wide && i < n_in + n_out; i++)
        rq_tensor_release(&wide[i]);
    rq_mem_free(wide);
    rq_mem_free(ptr);
    return s == RQ_NO_MEMORY ? rq_op_fail(a, s, "out of memory") : s;
}

rq_status rq_moves_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    bool packed = false;
    for (int i = 0; i < a->n_in; i++) {
        if (a->in[i] && a->in[i]->dtype == RQ_DTYPE_STRING)
            return rq_op_fail(a, RQ_UNSUPPORTED, "tensors of strings are not computed with");
        packed = packed || is_packed(a->in[i]);
    }
    for (int i = 0; i < a->n_out; i++)
        packed = packed || is_packed(a->out[i]);
    return packed ? run_unpacked(a, fn) : fn(a);
}
