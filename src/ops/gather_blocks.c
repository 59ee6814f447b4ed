/* ops/gather_blocks.c — GatherBlockQuantized of com.microsoft: rows of a table of 2-, 4- or 8-bit codes, dequantized as
 * they are fetched (docs/onnx-facts.md 2.10). */
#include <string.h>

#include "kernels/quantize.h"
#include "ops/elements.h"

enum { DATA, INDICES, SCALES, ZEROS };

/* The table as it is meant: bytes hold 8 / bits codes of the last axis each. */
typedef struct table {
    rq_tensor codes;
    int gather, quantize; /* axes */
    int64_t block;
    bool packed; /* in bytes */
} table;

static rq_status table_of(const rq_infer *a, table *t)
{
    const rq_tensor *x = a->in[DATA];
    const int64_t bits = rq_attr_int(a->node, RQ_WORD_bits, 4), gather = rq_attr_int(a->node, RQ_WORD_gather_axis, 0),
                  quantize = rq_attr_int(a->node, RQ_WORD_quantize_axis, 1);
    *t = (table) { .codes = *x,
                   .block = rq_attr_int(a->node, RQ_WORD_block_size, 128),
                   .packed = x->dtype == RQ_DTYPE_U8 };
    if (t->block < 16 || t->block & (t->block - 1))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "block_size is %lld, expected a power of two from 16 on",
                             (long long)t->block);
    if (x->dtype != RQ_DTYPE_NONE && !t->packed && x->dtype != RQ_DTYPE_S4 && x->dtype != RQ_DTYPE_U4)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the data is %s, expected s4, u4 or u8", rq_dtype_name(x->dtype));
    if (t->packed && bits != 2 && bits != 4 && bits != 8)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "bits is %lld, expected 2, 4 or 8", (long long)bits);
    if (x->shape.rank < 0)
        return RQ_OK;
    t->gather = rq_infer_axis(gather, x->shape.rank);
    t->quantize = rq_infer_axis(quantize, x->shape.rank);
    if (t->gather < 0 || t->quantize < 0 || t->gather == t->quantize)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "gather_axis %lld and quantize_axis %lld of a tensor with %d axes",
                             (long long)gather, (long long)quantize, x->shape.rank);
    if (t->packed) {
        int64_t *last = &t->codes.shape.dim[x->shape.rank - 1];
        t->codes.dtype = bits == 2 ? RQ_DTYPE_U2 : bits == 4 ? RQ_DTYPE_U4 : RQ_DTYPE_U8;
        if (*last > 0)
            *last *= 8 / bits;
        if (t->gather == x->shape.rank - 1)
            return rq_infer_fail(a, RQ_UNSUPPORTED, "codes packed along the axis they are gathered from");
    }
    return RQ_OK;
}

static rq_status check_scales(const rq_infer *a, const table *t)
{
    const rq_shape *s = &a->in[SCALES]->shape, *x = &t->codes.shape;
    const rq_tensor *zero = a->n_in > ZEROS ? a->in[ZEROS] : NULL;
    char text[2][RQ_SHAPE_TEXT];
    if (!rq_shape_is_known(s) || !rq_shape_is_known(x))
        return RQ_OK;
    bool fits = s->rank == x->rank;
    for (int i = 0; fits && i < x->rank; i++)
        fits = s->dim[i] == (i == t->quantize ? (x->dim[i] + t->block - 1) / t->block : x->dim[i]);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "scales of shape %s do not fit %s in blocks of %lld along axis %d",
                             rq_shape_text(s, text[0], sizeof text[0]), rq_shape_text(x, text[1], sizeof text[1]),
                             (long long)t->block, t->quantize);
    if (!zero || !rq_shape_is_known(&zero->shape))
        return RQ_OK;
    const int64_t last = s->dim[s->rank - 1], bits = rq_dtype_bits(t->codes.dtype);
    int64_t want = rq_shape_count(s);
    if (t->packed && last)
        want = want / last * ((last * bits + 7) / 8);
    if (rq_shape_count(&zero->shape) != want || (zero->dtype != RQ_DTYPE_NONE && zero->dtype != a->in[DATA]->dtype))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld zero points of type %s, expected %lld of %s",
                             (long long)rq_shape_count(&zero->shape), rq_dtype_name(zero->dtype), (long long)want,
                             rq_dtype_name(a->in[DATA]->dtype));
    return RQ_OK;
}

static rq_status gather_infer(const rq_infer *a)
{
    const rq_tensor *at = a->in[INDICES];
    table t;
    a->out_dtype[0] = a->in[SCALES]->dtype;
    if (at->dtype != RQ_DTYPE_NONE && at->dtype != RQ_DTYPE_S32 && at->dtype != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the indices are %s, expected s32 or s64", rq_dtype_name(at->dtype));
    const rq_dtype d = a->in[SCALES]->dtype;
    if (d != RQ_DTYPE_NONE && d != RQ_DTYPE_F32 && d != RQ_DTYPE_F16 && d != RQ_DTYPE_BF16)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the scales are %s, expected floats", rq_dtype_name(d));
    RQ_TRY(table_of(a, &t));
    if (t.codes.shape.rank < 0 || at->shape.rank < 0)
        return RQ_OK;
    RQ_TRY(check_scales(a, &t));
    const rq_shape *x = &t.codes.shape;
    if (x->rank + at->shape.rank - 1 > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the output has more than %d axes", RQ_MAX_RANK);
    rq_shape out = { 0 };
    for (int i = 0; i < t.gather; i++)
        out.dim[out.rank++] = x->dim[i];
    for (int i = 0; i < at->shape.rank; i++)
        out.dim[out.rank++] = at->shape.dim[i];
    for (int i = t.gather + 1; i < x->rank; i++)
        out.dim[out.rank++] = x->dim[i];
    a->out_shape[0] = out;
    return RQ_OK;
}

/* Code i of a packed tensor. */
static inline int32_t code_at(const rq_tensor *t, int64_t i)
{
    if (t->dtype == RQ_DTYPE_U8)
        return t->u8[i];
    if (t->dtype == RQ_DTYPE_U2)
        return t->u8[i / 4] >> i % 4 * 2 & 3;
    const int32_t v = t->u8[i / 2] >> i % 2 * 4 & 15;
    return t->dtype == RQ_DTYPE_S4 && v > 7 ? v - 16 : v;
}

/* Zero point of scale s. Absent it is 0, but the middle code where codes are packed in bytes; those of bytes are packed
 * along the last axis too, each row from a new byte on. */
static int32_t zero_at(const table *t, const rq_tensor *zero, const rq_shape *scales, int64_t s)
{
    const int bits = rq_dtype_bits(t->codes.dtype);
    if (!zero)
        return t->packed ? 1 << (bits - 1) : 0;
    if (!t->packed)
        return code_at(zero, s);
    const int64_t last = scales->dim[scales->rank - 1], per_row = (last * bits + 7) / 8 * (8 / bits);
    const rq_tensor codes = { .dtype = t->codes.dtype, .u8 = zero->u8 };
    return code_at(&codes, s / last * per_row + s % last);
}

/* One output row: `n` codes of the table from `from` on. */
static void fetch(const rq_op_args *a, const table *t, float *dst, int64_t from, int64_t n)
{
    const rq_shape *x = &t->codes.shape, *scales = &a->in[SCALES]->shape;
    const rq_tensor *zero = a->n_in > ZEROS ? a->in[ZEROS] : NULL;
    const int64_t size = x->dim[t->quantize], inner = rq_shape_span(x, t->quantize + 1, x->rank);
    const int64_t blocks = (size + t->block - 1) / t->block;
    for (int64_t i = from; i < from + n; i++) {
        const int64_t s = (i / inner / size * blocks + i / inner % size / t->block) * inner + i % inner;
        const float scale =
            a->in[SCALES]->dtype == RQ_DTYPE_F32 ? a->in[SCALES]->f32[s] : (float)rq_tensor_get(a->in[SCALES], s);
        *dst++ = rq_dequantize_one(code_at(&t->codes, i), scale, zero_at(t, zero, scales, s));
    }
}

static rq_status gather_forward(const rq_op_args *a)
{
    const rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    const rq_tensor *at = a->in[INDICES];
    table t;
    RQ_TRY(table_of(&as_infer, &t));
    const rq_shape *x = &t.codes.shape;
    const int64_t rows = rq_shape_span(x, 0, t.gather), n = x->dim[t.gather], m = rq_tensor_count(at);
    const int64_t run = rq_shape_span(x, t.gather + 1, x->rank);
    float part[RQ_BLOCK] = { 0 };
    for (int64_t k = 0; k < m; k++) {
        const int64_t v = rq_tensor_get_int(at, k);
        if (v < -n || v >= n)
            return rq_op_fail(a, RQ_BAD_DATA, "index %lld of an axis of size %lld", (long long)v, (long long)n);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < m; k++) {
            const int64_t v = rq_tensor_get_int(at, k), from = (r * n + (v < 0 ? v + n : v)) * run;
            for (int64_t i = 0; i < run; i += RQ_BLOCK) {
                const int some = (int)(run - i < RQ_BLOCK ? run - i : RQ_BLOCK);
                const int64_t to = (r * m + k) * run + i;
                double wide[RQ_BLOCK];
                fetch(a, &t, part, from + i, some);
                if (a->out[0]->dtype == RQ_DTYPE_F32) {
                    memcpy(a->out[0]->f32 + to, part, (size_t)some * sizeof *part);
                    continue;
                }
                for (int q = 0; q < some; q++)
                    wide[q] = (double)part[q];
                rq_elements_store_f64(a->out[0], to, wide, some, false);
            }
        }
    return RQ_OK;
}

const rq_op rq_op_ms_gather_block_quantized = {
    .name = "GatherBlockQuantized",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 3,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = gather_infer,
    .forward = gather_forward,
};
