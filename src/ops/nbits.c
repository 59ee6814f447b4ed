/* ops/nbits.c — MatMulNBits and MatMulBnb4 of com.microsoft: y = x w^T + bias with w [N][K] stored in 2, 4 or 8 bits, a
 * scale per block of K (docs/onnx-facts.md 2.10).
 *
 * In floats the weight is decoded a panel at a time (weight_only.h). At accuracy_level 4 each block of each row of x
 * becomes s8 codes first, and the products are integer ones (int_blocks.h). */
#include <string.h>

#include "base/mem.h"
#include "ops/elements.h"
#include "ops/half.h"
#include "ops/int_blocks.h"
#include "ops/rows.h"
#include "ops/weight_only.h"

enum { IN_X, IN_W, IN_SCALES, IN_ZEROS, IN_GROUPS, IN_BIAS, MAX_BITS = 8 };

static bool is_bnb4(const rq_node *n)
{
    return n->row == &rq_op_ms_matmul_bnb4;
}

/* ---- sizes ---- */

typedef struct sizes {
    int64_t depth, columns, block, n_blocks;
    int bits;
} sizes;

static sizes sizes_of(const rq_node *n)
{
    const int64_t bits = is_bnb4(n) ? 4 : rq_attr_int(n, RQ_WORD_bits, 4);
    sizes z = { .depth = rq_attr_int(n, RQ_WORD_K, 0),
                .columns = rq_attr_int(n, RQ_WORD_N, 0),
                .block = rq_attr_int(n, RQ_WORD_block_size, 0),
                .bits = bits == 2 || bits == 4 || bits == 8 ? (int)bits : 0 };
    z.n_blocks = z.block > 0 ? z.depth / z.block + (z.depth % z.block > 0) : 0; /* of sizes not yet checked */
    return z;
}

static rq_status nbits_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const sizes z = sizes_of(n);
    const int64_t most = INT64_C(1) << 31;
    if (z.depth < 1 || z.columns < 1 || z.depth > most || z.columns > most)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "K is %lld and N %lld, expected sizes", (long long)z.depth,
                            (long long)z.columns);
    if (z.block < 16 || z.block > most || (z.block & (z.block - 1)))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "block_size is %lld, expected a power of two from 16 on",
                            (long long)z.block);
    if (!z.bits)
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "bits is %lld, expected 2, 4 or 8",
                            (long long)rq_attr_int(n, RQ_WORD_bits, 4));
    if (rq_attr_int(n, RQ_WORD_weight_prepacked, 0))
        return rq_node_fail(g, n, err, RQ_UNSUPPORTED, "the weight is packed for another machine (weight_prepacked)");
    if (is_bnb4(n) && (rq_attr_int(n, RQ_WORD_quant_type, 1) < 0 || rq_attr_int(n, RQ_WORD_quant_type, 1) > 1))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "quant_type is %lld, expected 0 (FP4) or 1 (NF4)",
                            (long long)rq_attr_int(n, RQ_WORD_quant_type, 1));
    return RQ_OK;
}

/* Input i has this many entries of one of two types. */
static rq_status expect(const rq_infer *a, int i, const char *what, int64_t count, rq_dtype d, rq_dtype or_d)
{
    const rq_tensor *t = i < a->n_in ? a->in[i] : NULL;
    if (!t)
        return RQ_OK;
    if (t->dtype != RQ_DTYPE_NONE && d != RQ_DTYPE_NONE && t->dtype != d && t->dtype != or_d)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "%s are %s, expected %s", what, rq_dtype_name(t->dtype),
                             rq_dtype_name(d));
    if (rq_shape_is_known(&t->shape) && rq_shape_count(&t->shape) != count)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%s have %lld entries, expected %lld", what,
                             (long long)rq_shape_count(&t->shape), (long long)count);
    return RQ_OK;
}

static rq_status nbits_infer(const rq_infer *a)
{
    const sizes z = sizes_of(a->node);
    const rq_tensor *x = a->in[0];
    a->out_dtype[0] = x->dtype;
    if (x->dtype != RQ_DTYPE_NONE && x->dtype != RQ_DTYPE_F32 && !rq_half_is(x->dtype))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "A is %s, expected floats", rq_dtype_name(x->dtype));
    if (is_bnb4(a->node)) {
        const int64_t all = z.depth * z.columns;
        RQ_TRY(expect(a, IN_W, "the weights", (all + 1) / 2, RQ_DTYPE_U8, RQ_DTYPE_U8));
        RQ_TRY(expect(a, IN_SCALES, "the scales", (all + z.block - 1) / z.block, x->dtype, RQ_DTYPE_F32));
    } else {
        const int64_t blocks = z.columns * z.n_blocks;
        const rq_tensor *zero = a->n_in > IN_ZEROS ? a->in[IN_ZEROS] : NULL;
        RQ_TRY(expect(a, IN_W, "the weights", blocks * (z.block * z.bits / 8), RQ_DTYPE_U8, RQ_DTYPE_U8));
        RQ_TRY(expect(a, IN_SCALES, "the scales", blocks, x->dtype, RQ_DTYPE_F32));
        if (zero && zero->dtype == RQ_DTYPE_U8)
            RQ_TRY(expect(a, IN_ZEROS, "the zero points", z.columns * ((z.n_blocks * z.bits + 7) / 8), RQ_DTYPE_U8,
                          RQ_DTYPE_U8));
        else
            RQ_TRY(expect(a, IN_ZEROS, "the zero points", blocks, x->dtype, RQ_DTYPE_F32));
        const rq_tensor *groups = a->n_in > IN_GROUPS ? a->in[IN_GROUPS] : NULL;
        if (groups && rq_shape_is_known(&groups->shape) && rq_shape_count(&groups->shape) < z.depth)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "g_idx has %lld entries, expected %lld",
                                 (long long)rq_shape_count(&groups->shape), (long long)z.depth);
        RQ_TRY(expect(a, IN_BIAS, "the biases", z.columns, x->dtype, RQ_DTYPE_F32));
    }
    if (x->shape.rank < 0)
        return RQ_OK;
    if (x->shape.rank == 0 || (x->shape.dim[x->shape.rank - 1] >= 0 && x->shape.dim[x->shape.rank - 1] != z.depth))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "A has %lld columns, K is %lld",
                             (long long)(x->shape.rank ? x->shape.dim[x->shape.rank - 1] : 1), (long long)z.depth);
    a->out_shape[0] = x->shape;
    a->out_shape[0].dim[x->shape.rank - 1] = z.columns;
    return RQ_OK;
}

/* ---- decoding ---- */

/* What a panel is decoded from. */
typedef struct decoder {
    const rq_kernels *k;
    sizes z;
    const uint8_t *w;
    const rq_tensor *scale, *zero, *group; /* zero, group: may be NULL */
    const float *map;                      /* Bnb4: what the 16 codes mean */
} decoder;

/* Entry i of a row of packed numbers. */
static inline int unpack(const uint8_t *row, int64_t i, int bits)
{
    const int at = (int)(i * bits % 8);
    return row[i * bits / 8] >> at & ((1 << bits) - 1);
}

static float float_at(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_F32 ? t->f32[i] : (float)rq_tensor_get(t, i);
}

/* Zero point of block b of column j; it may lie between codes. */
static float zero_at(const decoder *d, int64_t j, int64_t b)
{
    if (!d->zero)
        return (float)(1 << (d->z.bits - 1));
    if (d->zero->dtype != RQ_DTYPE_U8)
        return float_at(d->zero, j * d->z.n_blocks + b);
    return (float)unpack(d->zero->u8 + j * ((d->z.n_blocks * d->z.bits + 7) / 8), b, d->z.bits);
}

static const uint8_t *column_at(const decoder *d, int64_t j)
{
    return d->w + j * d->z.n_blocks * (d->z.block * d->z.bits / 8);
}

/* n codes from the start of a block on, a byte each. */
static void unpack_block(uint8_t *restrict dst, const uint8_t *restrict src, int64_t n, int bits)
{
    if (bits == 8) {
        memcpy(dst, src, (size_t)n);
    } else if (bits == 4) {
        for (int64_t i = 0; i < n / 2; i++) {
            dst[2 * i] = src[i] & 15;
            dst[2 * i + 1] = src[i] >> 4;
        }
        if (n % 2)
            dst[n - 1] = src[n / 2] & 15;
    } else {
        for (int64_t i = 0; i < n; i++)
            dst[i] = (uint8_t)unpack(src, i, bits);
    }
}

static void fill_blocks(const void *arg, float *dst, int64_t j0, int64_t n)
{
    enum { PART = 256 }; /* a whole number of bytes of any packing */
    const decoder *d = arg;
    const sizes *z = &d->z;
    const bool whole = !d->zero || d->zero->dtype == RQ_DTYPE_U8;
    uint8_t codes[PART] = { 0 };
    for (int64_t j = j0; j < j0 + n; j++) {
        const uint8_t *w = column_at(d, j);
        for (int64_t b = 0; b < z->n_blocks; b++) {
            const float scale = float_at(d->scale, j * z->n_blocks + b), zero = zero_at(d, j, b);
            const int64_t end = (b + 1) * z->block < z->depth ? (b + 1) * z->block : z->depth;
            for (int64_t k = b * z->block; k < end; k += PART) {
                const int64_t some = end - k < PART ? end - k : PART;
                unpack_block(codes, w + k * z->bits / 8, some, z->bits);
                if (whole)
                    d->k->dequantize_u8(dst, codes, (size_t)some, scale, (int32_t)zero);
                else
                    for (int64_t i = 0; i < some; i++)
                        dst[i] = ((float)codes[i] - zero) * scale;
                dst += some;
            }
        }
    }
}

/* Each k names its group. */
static void fill_groups(const void *arg, float *dst, int64_t j0, int64_t n)
{
    const decoder *d = arg;
    const sizes *z = &d->z;
    for (int64_t j = j0; j < j0 + n; j++)
        for (int64_t k = 0; k < z->depth; k++) {
            const int64_t b = rq_tensor_get_int(d->group, k);
            *dst++ = ((float)unpack(column_at(d, j), k, z->bits) - zero_at(d, j, b)) *
                     float_at(d->scale, j * z->n_blocks + b);
        }
}

/* Blocks run on from column to column; the first of two codes is in the high bits. */
static void fill_bnb4(const void *arg, float *dst, int64_t j0, int64_t n)
{
    const decoder *d = arg;
    for (int64_t i = j0 * d->z.depth, end = (j0 + n) * d->z.depth; i < end; i++)
        *dst++ = d->map[d->w[i / 2] >> (i % 2 ? 0 : 4) & 15] * float_at(d->scale, i / d->z.block);
}

/* ---- MatMulNBits ---- */

typedef struct nbits_state {
    bool integer;
    rq_int_blocks blocks;
} nbits_state;

static void nbits_release(void *state)
{
    nbits_state *s = state;
    if (!s)
        return;
    rq_int_blocks_release(&s->blocks);
    rq_mem_free(s);
}

static decoder decoder_of(const rq_op_args *a)
{
    return (decoder) { .k = a->k,
                       .z = sizes_of(a->node),
                       .w = a->in[IN_W]->u8,
                       .scale = a->in[IN_SCALES],
                       .zero = rq_op_input(a->in, a->n_in, IN_ZEROS),
                       .group = rq_op_input(a->in, a->n_in, IN_GROUPS) };
}

/* At accuracy_level 4 ONNX Runtime computes in integers what it packed beforehand: constants, without g_idx and with
 * zero points that are codes. Blocks longer than any it takes, whose sums may leave s32, are computed in floats. */
static bool wants_integers(const rq_op_args *a)
{
    const sizes z = sizes_of(a->node);
    const rq_tensor *zero = rq_op_input(a->in, a->n_in, IN_ZEROS);
    return rq_attr_int(a->node, RQ_WORD_accuracy_level, 0) == 4 && a->in[IN_W]->data && a->in[IN_SCALES]->data &&
           rq_int_blocks_fit(z.block, z.depth) && !rq_op_input(a->in, a->n_in, IN_GROUPS) &&
           (!zero || (zero->data && zero->dtype == RQ_DTYPE_U8));
}

/* Codes of few bits take their zero point off at once: the difference fits s8. So do those of 8 bits around 128. */
static rq_status pack_blocks(const rq_op_args *a, rq_int_blocks *p)
{
    const decoder d = decoder_of(a);
    const sizes *z = &d.z;
    const bool whole = z->bits < 8 || !d.zero;
    RQ_TRY(rq_int_blocks_init(p, a->k, whole ? RQ_DTYPE_S8 : RQ_DTYPE_U8, z->depth, z->block, z->columns));
    uint8_t *codes = rq_mem_alloc((size_t)z->columns, (size_t)p->block);
    if (!codes) {
        rq_int_blocks_release(p);
        return RQ_NO_MEMORY;
    }
    for (int64_t b = 0; b < z->n_blocks; b++) {
        const int64_t from = b * z->block, n = z->depth - from < p->block ? z->depth - from : p->block;
        for (int64_t j = 0; j < z->columns; j++) {
            const int zero = (int)zero_at(&d, j, b), off = whole ? zero : 0;
            for (int64_t k = 0; k < n; k++)
                codes[j * p->block + k] = (uint8_t)(unpack(column_at(&d, j), from + k, z->bits) - off);
            p->scale[b * z->columns + j] = float_at(d.scale, j * z->n_blocks + b);
            p->zero[b * z->columns + j] = zero - off;
        }
        rq_int_blocks_pack(p, b, codes, 1, p->block);
    }
    rq_int_blocks_settle(p);
    rq_mem_free(codes);
    return RQ_OK;
}

static rq_status nbits_prepare(const rq_op_args *a, void **state)
{
    nbits_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->integer = wants_integers(a);
    rq_status st = s->integer ? pack_blocks(a, &s->blocks) : RQ_OK;
    if (st)
        nbits_release(s);
    else
        *state = s;
    return st;
}

static int64_t rows_of(const rq_tensor *x)
{
    return rq_shape_span(&x->shape, 0, x->shape.rank - 1);
}

/* Scratch of the integer form: codes of x, their scales [rows][n_blocks], then what the product asks for. */
typedef struct room {
    size_t scale, product, bytes;
} room;

static room room_of(const rq_op_args *a, const rq_int_blocks *p)
{
    const int64_t rows = rows_of(a->in[0]);
    room r;
    r.scale = rq_mem_round((size_t)(rows * p->depth));
    r.product = r.scale + rq_mem_round((size_t)(rows * p->n_blocks) * sizeof(float));
    r.bytes = r.product + rq_int_blocks_scratch(p, rows);
    return r;
}

static size_t nbits_scratch(const rq_op_args *a, bool integer)
{
    const nbits_state *s = a->state;
    const sizes z = sizes_of(a->node);
    if (s && s->integer)
        return room_of(a, &s->blocks).bytes;
    return rq_weight_only_scratch(z.depth, z.columns, rq_threads_count(a->threads));
}

/* Row i of x as s8 codes, each block with a scale of its own, max |x| / 127. */
typedef struct coding {
    const rq_op_args *a;
    const rq_int_blocks *p;
    int8_t *codes;
    float *scale;
} coding;

static void code_row(void *arg, int64_t i)
{
    const coding *c = arg;
    for (int64_t b = 0; b < c->p->n_blocks; b++) {
        const int64_t from = b * c->p->block, left = c->p->depth - from, n = left < c->p->block ? left : c->p->block;
        const float *x = c->a->in[0]->f32 + i * c->p->depth + from;
        int8_t *codes = c->codes + i * c->p->depth + from;
        float lo, hi;
        size_t finite;
        c->a->k->minmax(x, (size_t)n, &lo, &hi, &finite);
        const float most = !finite ? 0 : -lo > hi ? -lo : hi, scale = most / 127;
        c->scale[i * c->p->n_blocks + b] = scale;
        if (scale > 0)
            c->a->k->quantize_s8(codes, x, (size_t)n, scale, 0, -128, 127);
        else
            memset(codes, 0, (size_t)n);
    }
}

static rq_status run_floats(const rq_op_args *a, const decoder *d, rq_weight_only_fill fill, const rq_tensor *bias)
{
    const rq_weight_only p = { .k = a->k,
                               .rows = rows_of(a->in[0]),
                               .depth = d->z.depth,
                               .columns = d->z.columns,
                               .x = a->in[0]->f32,
                               .y = a->out[0]->f32,
                               .bias = bias ? bias->f32 : NULL,
                               .fill = fill,
                               .arg = d };
    const rq_status st = rq_weight_only_run(&p, a->scratch, a->threads);
    return st ? rq_op_fail(a, st, "the matrix product failed: %s", rq_status_text(st)) : RQ_OK;
}

static rq_status nbits_f32(const rq_op_args *a)
{
    const nbits_state *s = a->state;
    const rq_tensor *bias = rq_op_input(a->in, a->n_in, IN_BIAS), *groups = rq_op_input(a->in, a->n_in, IN_GROUPS);
    const decoder d = decoder_of(a);
    for (int64_t k = 0; groups && k < d.z.depth; k++)
        if (rq_tensor_get_int(groups, k) < 0 || rq_tensor_get_int(groups, k) >= d.z.n_blocks)
            return rq_op_fail(a, RQ_BAD_DATA, "g_idx has group %lld of %lld", (long long)rq_tensor_get_int(groups, k),
                              (long long)d.z.n_blocks);
    if (!s->integer)
        return run_floats(a, &d, groups ? fill_groups : fill_blocks, bias);
    const room r = room_of(a, &s->blocks);
    char *scratch = a->scratch;
    coding c = { a, &s->blocks, (int8_t *)scratch, (float *)(scratch + r.scale) };
    rq_threads_for(a->threads, rows_of(a->in[0]), code_row, &c);
    const rq_int_blocks_job job = { .x = a->scratch,
                                    .x_dtype = RQ_DTYPE_S8,
                                    .rows = rows_of(a->in[0]),
                                    .x_scale = c.scale,
                                    .each = true,
                                    .bias = bias ? bias->f32 : NULL,
                                    .y = a->out[0]->f32 };
    rq_int_blocks_run(&s->blocks, &job, scratch + r.product, a->threads);
    return RQ_OK;
}

static rq_status nbits_forward(const rq_op_args *a)
{
    return rq_half_run(a, nbits_f32);
}

static double nbits_macs(const rq_op_args *a)
{
    const sizes z = sizes_of(a->node);
    return (double)rows_of(a->in[0]) * (double)z.depth * (double)z.columns;
}

/* ---- MatMulBnb4 ---- */

/* What the codes of FP4 and NF4 mean, as ONNX Runtime has them. */
static const float fp4[16] = { 0,     5.208333333e-03f,  0.66666667f,  1,  0.33333333f,  0.5f,  0.16666667f,  0.25f,
                               -0.0f, -5.208333333e-03f, -0.66666667f, -1, -0.33333333f, -0.5f, -0.16666667f, -0.25f };
static const float nf4[16] = { -1,
                               -0.6961928009986877f,
                               -0.5250730514526367f,
                               -0.39491748809814453f,
                               -0.28444138169288635f,
                               -0.18477343022823334f,
                               -0.09105003625154495f,
                               0,
                               0.07958029955625534f,
                               0.16093020141124725f,
                               0.24611230194568634f,
                               0.33791524171829224f,
                               0.44070982933044434f,
                               0.5626170039176941f,
                               0.7229568362236023f,
                               1 };

static rq_status bnb4_f32(const rq_op_args *a)
{
    const decoder d = { .z = sizes_of(a->node),
                        .w = a->in[IN_W]->u8,
                        .scale = a->in[IN_SCALES],
                        .map = rq_attr_int(a->node, RQ_WORD_quant_type, 1) ? nf4 : fp4 };
    return run_floats(a, &d, fill_bnb4, NULL);
}

static rq_status bnb4_forward(const rq_op_args *a)
{
    return rq_half_run(a, bnb4_f32);
}

/* ---- rows ---- */

#define NBITS                                                                                                          \
    .domain = "com.microsoft", .since = 1, .known = 1, .min_in = 3, .min_out = 1, .max_out = 1,                        \
    .place = RQ_PLACE_FLOAT, .check = nbits_check, .infer = nbits_infer, .scratch = nbits_scratch, .macs = nbits_macs

const rq_op rq_op_ms_matmul_nbits = { .name = "MatMulNBits",
                                      .max_in = 6,
                                      NBITS,
                                      .prepare = nbits_prepare,
                                      .release = nbits_release,
                                      .forward = nbits_forward };
const rq_op rq_op_ms_matmul_bnb4 = { .name = "MatMulBnb4", .max_in = 3, NBITS, .forward = bnb4_forward };
