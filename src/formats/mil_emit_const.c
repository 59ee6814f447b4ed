/* formats/mil_emit_const.c — tensors as values of a program: of the element type that programs have for theirs, in the weight file where coremltools
 * puts them (docs/coreml-package.md), and said, or refused, where a number does not fit. */
#include <inttypes.h>
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "tensor/convert.h"

enum { BLOB_FROM = 10, SHORT = 400 }; /* elements */

static rq_status out_of_memory(rq_mil_emitter *e)
{
    if (!rq_mil_emit_state_of(e)->st)
        rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    return rq_mil_emit_keep(e, RQ_NO_MEMORY);
}

/* n elements of t as floats of d, which goes to dst; counts those that leave its range. What fp16 would make zero in a short list, an epsilon
 * more often than not, is its smallest number, as coremltools has it. */
static int64_t to_floats(void *dst, const rq_mil_dtype *d, const rq_tensor *t, int64_t n)
{
    int64_t over = 0;
    const bool half = d->dtype == RQ_DTYPE_F16;
    if (t->dtype == d->dtype) {
        memcpy(dst, t->data, t->bytes);
        return 0;
    }
    for (int64_t i = 0; i < n; i++) {
        const double x = t->dtype == RQ_DTYPE_F32 ? (double)t->f32[i] : rq_tensor_get(t, i);
        const float f = (float)x;
        if (!half) {
            ((float *)dst)[i] = f;
            over += x - x == 0 && f - f != 0;
        } else {
            uint16_t h = rq_convert_f32_to_f16(f);
            h += n < SHORT && f != 0 && !(h & 0x7fff);
            ((uint16_t *)dst)[i] = h;
            over += x - x == 0 && (h & 0x7c00) == 0x7c00;
        }
    }
    return over;
}

static bool takes_blob(const rq_mil_emitter *e, const rq_mil_dtype *d, int64_t n)
{
    if (n < BLOB_FROM || !d->blob)
        return false;
    const bool wide =
        d->dtype == RQ_DTYPE_S32 || d->dtype == RQ_DTYPE_U32 || d->dtype == RQ_DTYPE_S16 || d->dtype == RQ_DTYPE_U16;
    return wide ? e->target >= RQ_COREML_IOS18 : d->store == RQ_MIL_STORE_FLOATS || d->store == RQ_MIL_STORE_BYTES;
}

/* Integers of t as elements of d, each `size` bytes. */
static rq_status to_ints(rq_mil_emitter *e, void *dst, const rq_mil_dtype *d, size_t size, const rq_tensor *t,
                         int64_t n, const char *what)
{
    int64_t lo = 0, hi = 1;
    if (d->store != RQ_MIL_STORE_BOOLS)
        rq_dtype_limits(d->dtype, &lo, &hi);
    for (int64_t i = 0; i < n; i++) {
        const int64_t v = rq_tensor_get_int(t, i);
        const bool sign = t->dtype == RQ_DTYPE_U64 && v < 0; /* too large for any */
        if (v < lo || v > hi || sign) {
            rq_fail(e->err, RQ_UNSUPPORTED,
                    "constant '%.120s' has the number %" PRId64 ", which %s of Core ML cannot hold", what, v, d->name);
            return rq_mil_emit_keep(e, RQ_UNSUPPORTED);
        }
        if (size == 1)
            ((uint8_t *)dst)[i] = (uint8_t)v;
        else if (size == 2)
            ((uint16_t *)dst)[i] = (uint16_t)v;
        else
            ((uint32_t *)dst)[i] = (uint32_t)v;
    }
    return RQ_OK;
}

/* A blob whose bytes are those of t, which the model holds on to. */
static rq_mil_value *share(rq_mil_emitter *e, rq_mil_type *type, const rq_tensor *t)
{
    rq_coreml *m = e->m;
    if (!type || !rq_mem_grow(&m->shared, m->n_shared, &m->cap_shared, sizeof *m->shared)) {
        out_of_memory(e);
        return NULL;
    }
    rq_tensor_share(&m->shared[m->n_shared++], t);
    rq_mil_value *v = rq_mil_blob(e->p, type, t->data);
    if (!v)
        out_of_memory(e);
    return v;
}

rq_mil_value *rq_mil_emit_make(rq_mil_emitter *e, const rq_tensor *t, const rq_mil_dtype *d, const rq_shape *shape,
                               const char *what)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    const int64_t n = rq_tensor_count(t);
    const bool blob = takes_blob(e, d, n), packed = d->bits < 8;
    const size_t size =
        blob || d->store == RQ_MIL_STORE_BYTES || d->store == RQ_MIL_STORE_BOOLS ? (size_t)(d->bits + 7) / 8 : 4;
    if (s->st)
        return NULL;
    if (t->dtype == RQ_DTYPE_STRING || t->dtype == RQ_DTYPE_NONE || t->dtype == RQ_DTYPE_C64 ||
        t->dtype == RQ_DTYPE_C128) {
        rq_fail(e->err, RQ_UNSUPPORTED, "constant '%.120s' is of type %s, which a Core ML program has not", what,
                rq_dtype_name(t->dtype));
        rq_mil_emit_keep(e, RQ_UNSUPPORTED);
        return NULL;
    }
    rq_mil_type *type = rq_mil_emit_type(e, d, shape ? shape : &t->shape);
    const bool same = !packed && t->dtype == d->dtype && rq_dtype_bits(t->dtype) == (int)size * 8;
    if (blob && same && t->storage)
        return share(e, type, t);
    const uint64_t bytes = packed ? (uint64_t)n : (uint64_t)n * size;
    void *data = rq_arena_alloc(&e->p->arena, bytes ? bytes : 1, 1);
    if (!type || !data) {
        out_of_memory(e);
        return NULL;
    }
    if (d->dtype == RQ_DTYPE_F32 || d->dtype == RQ_DTYPE_F16) {
        const int64_t over = to_floats(data, d, t, n);
        if (over)
            rq_mil_note(s->notes,
                        "constant '%.120s': %" PRId64 " of %" PRId64
                        " numbers are too large for %s and become infinite",
                        what, over, n, d->name);
    } else if (same) {
        memcpy(data, t->data, t->bytes);
    } else if (to_ints(e, data, d, size, t, n, what)) {
        return NULL;
    }
    if (packed) {
        uint64_t bad;
        uint8_t *bits = rq_arena_alloc(&e->p->arena, rq_mil_dtype_bytes(d, (uint64_t)n) + 1, 1);
        if (!bits || !rq_mil_dtype_pack(d, bits, data, (uint64_t)n, &bad)) {
            out_of_memory(e);
            return NULL;
        }
        data = bits;
    }
    rq_mil_value *v = blob ? rq_mil_blob(e->p, type, data) : rq_mil_immediate(e->p, type, data);
    if (!v)
        out_of_memory(e);
    return v;
}
