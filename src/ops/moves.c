/* ops/moves.c — see moves.h. */
#include "ops/moves.h"

#include <string.h>

#include "ops/elements.h"
#include "ops/last.h"

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

void rq_moves_strides_of(bool last, const rq_shape *s, int64_t *stride)
{
    const rq_shape lies = rq_last_shape(last, s);
    int64_t in_memory[RQ_MAX_RANK] = { 0 };
    rq_moves_strides(&lies, in_memory);
    for (int i = 0; i < s->rank; i++)
        stride[i] = in_memory[rq_last_axis(last, i, s->rank)];
}

void rq_moves_copy(rq_tensor *dst, const rq_tensor *src)
{
    size_t n = rq_shape_bytes(&src->shape, src->dtype);
    if (n)
        memcpy(dst->data, src->data, n);
}

static bool is_packed(rq_dtype d)
{
    const int bits = rq_dtype_bits(d);
    return bits > 0 && bits < 8;
}

/* Elements of a packed buffer as raw bits in a byte each, and back. */
static void unpack(rq_tensor *dst, const rq_tensor *src, const rq_op_args *a)
{
    int bits = rq_dtype_bits(src->dtype), per = 8 / bits;
    for (int64_t i = 0, n = rq_tensor_count(src); i < n; i++)
        dst->u8[i] = (uint8_t)(src->u8[i / per] >> (i % per * bits)) & (uint8_t)((1 << bits) - 1);
}

static void pack(rq_tensor *dst, const rq_tensor *src, const rq_op_args *a)
{
    int bits = rq_dtype_bits(dst->dtype), per = 8 / bits;
    memset(dst->data, 0, rq_shape_bytes(&dst->shape, dst->dtype));
    for (int64_t i = 0, n = rq_tensor_count(dst); i < n; i++)
        dst->u8[i / per] |= (uint8_t)((src->u8[i] & ((1 << bits) - 1)) << (i % per * bits));
}

rq_status rq_moves_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype == RQ_DTYPE_STRING)
            return rq_op_fail(a, RQ_UNSUPPORTED, "tensors of strings are not computed with");
    return rq_elements_run_as(a, &(rq_elements_as) { is_packed, RQ_DTYPE_U8, unpack, pack }, fn);
}
