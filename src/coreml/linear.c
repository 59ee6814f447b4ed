/* coreml/linear.c — linear_quantize_weights: each weight becomes codes, scales and zero points, and an operation that makes the weight of them. The
 * weight is read once now for its scales, and once more when the package is written, for its codes. docs/coreml-facts.md 8.3. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "coreml/affine.h"
#include "coreml/palette_op.h"
#include "coreml/weights.h"
#include "tensor/convert.h"

enum { SMALL = 1 << 16 }; /* elements up to which codes are made at once, so that whoever asks for them finds them */

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to quantize a weight");
}

/* ---- what is written ---- */

/* Codes that are made when the file is written. In the program's memory. */
typedef struct codes {
    rq_coreml *m;
    rq_mil_value *weight;
    rq_coreml_affine a;
} codes;

static rq_status produce(void *arg, rq_milblob_writer *w, rq_err *err)
{
    codes *c = arg;
    const uint8_t *data;
    uint64_t bytes;
    RQ_TRY(rq_coreml_weight_bytes(c->m, c->weight, &data, &bytes, err));
    return rq_coreml_affine_write(&c->a, data, c->weight->file != NULL, w, err);
}

rq_status rq_coreml_same_codes(rq_coreml *m, const rq_mil_value *a, const rq_mil_value *b, bool *same, rq_err *err)
{
    if (a->produce != produce || b->produce != produce) {
        *same = rq_coreml_same_made(a, b);
        return RQ_OK;
    }
    const codes *x = a->produce_arg, *y = b->produce_arg;
    const uint8_t *v, *w;
    uint64_t n, k;
    const size_t blocks = (size_t)x->a.n_blocks;
    const rq_coreml_affine_type *s = &x->a.type, *t = &y->a.type;
    *same = s->symmetric == t->symmetric && s->is_signed == t->is_signed && s->half == t->half &&
            s->nbits == t->nbits && x->a.n == y->a.n && x->a.n_axes == y->a.n_axes && x->a.n_blocks == y->a.n_blocks &&
            !memcmp(x->a.axis, y->a.axis, (size_t)x->a.n_axes * sizeof x->a.axis[0]) &&
            !memcmp(x->a.scale, y->a.scale, blocks * sizeof(float)) && (!x->a.zp || !memcmp(x->a.zp, y->a.zp, blocks));
    if (!*same)
        return RQ_OK;
    RQ_TRY(rq_coreml_weight_bytes(m, x->weight, &v, &n, err));
    RQ_TRY(rq_coreml_weight_bytes(m, y->weight, &w, &k, err));
    *same = n == k && rq_coreml_same_bytes(v, w, n, x->weight->file && y->weight->file);
    return RQ_OK;
}

static const char *code_type(const rq_coreml_op_config *op)
{
    return rq_coreml_op_config_dtype(op);
}

static rq_mil_value *code_value(rq_coreml_weight *w, const codes *c, int rank, const int64_t *dim, rq_err *err)
{
    rq_mil_program *p = &w->m->program;
    rq_mil_type *type = rq_mil_tensor_type(p, rq_mil_dtype_of_name(code_type(w->config)), rank, dim);
    codes *own = rq_arena_alloc(&p->arena, 1, sizeof *own);
    if (!type || !own)
        return NULL;
    *own = *c;
    rq_mil_value *v = rq_mil_blob_produced(p, type, produce, own);
    const uint8_t *data;
    uint64_t bytes;
    if (v && c->a.n <= SMALL && rq_coreml_weight_bytes(w->m, v, &data, &bytes, err))
        return NULL;
    return v;
}

static rq_mil_value *scale_value(rq_coreml_weight *w, const rq_coreml_affine *a, int rank, const int64_t *dim)
{
    rq_coreml *m = w->m;
    if (!a->type.half)
        return rq_coreml_value(m, "fp32", rank, dim, a->scale);
    uint16_t *half = rq_mem_alloc((size_t)a->n_blocks, sizeof *half);
    if (!half)
        return NULL;
    rq_convert_f32_to_f16_each(half, a->scale, a->n_blocks);
    rq_mil_value *v = rq_coreml_value(m, "fp16", rank, dim, half);
    rq_mem_free(half);
    return v;
}

/* zp NULL: zeros. */
static rq_mil_value *zp_value(rq_coreml_weight *w, const rq_coreml_affine *a, int rank, const int64_t *dim)
{
    const rq_mil_dtype *type = rq_mil_dtype_of_name(code_type(w->config));
    uint8_t *bytes = rq_mem_zalloc((size_t)a->n_blocks, 1), *packed = bytes;
    uint64_t bad;
    if (!bytes)
        return NULL;
    if (a->zp)
        memcpy(bytes, a->zp, (size_t)a->n_blocks);
    if (a->type.nbits < 8) {
        packed = rq_mem_zalloc((size_t)a->n_blocks, 1);
        if (packed)
            rq_mil_dtype_pack(type, packed, bytes, (uint64_t)a->n_blocks, &bad);
    }
    rq_mil_value *v = packed ? rq_coreml_value(w->m, type->name, rank, dim, packed) : NULL;
    if (packed != bytes)
        rq_mem_free(packed);
    rq_mem_free(bytes);
    return v;
}

/* ---- the operations ---- */

/* Before iOS 18: scale and zero point are one number, or a vector along the only axis with more than one. */
static rq_status emit_affine(rq_coreml_weight *w, const codes *c, int rank, const int64_t *dim, const int64_t *counts,
                             rq_err *err)
{
    rq_mil_program *p = &w->m->program;
    int axis = 0, n_axes = 0;
    for (int i = rank - 1; i >= 0; i--)
        if (counts[i] > 1) {
            axis = i;
            n_axes++;
        }
    if (n_axes > 1)
        return rq_fail(err, RQ_INTERNAL, "'%s': scales along %d axes", w->name, n_axes);
    const char *name = rq_coreml_weight_name(w, "_quantized");
    rq_mil_op *op = name ? rq_mil_op_make(p, "constexpr_affine_dequantize", name) : NULL;
    if (!op || !rq_mil_op_set_attr(p, op, "axis", rq_mil_int(p, axis)) ||
        !rq_mil_op_set_attr(p, op, "quantized_data", code_value(w, c, rank, dim, err)) ||
        !rq_mil_op_set_attr(p, op, "scale", scale_value(w, &c->a, n_axes, &counts[axis])) ||
        !rq_mil_op_set_attr(p, op, "zero_point", zp_value(w, &c->a, n_axes, &counts[axis])) ||
        !rq_mil_op_output(p, op, rq_coreml_weight_output(w, name), w->value->type))
        return no_memory(err);
    return rq_coreml_weight_replace(w, op, 0, NULL, err);
}

static rq_status emit_blockwise(rq_coreml_weight *w, const codes *c, int rank, const int64_t *dim,
                                const int64_t *counts, rq_err *err)
{
    rq_mil_program *p = &w->m->program;
    const char *name = rq_coreml_weight_name(w, "_quantized");
    rq_mil_op *op = name ? rq_mil_op_make(p, "constexpr_blockwise_shift_scale", name) : NULL;
    if (!op || !rq_mil_op_bind_value(p, op, "data", code_value(w, c, rank, dim, err)) ||
        !rq_mil_op_bind_value(p, op, "scale", scale_value(w, &c->a, rank, counts)) ||
        (c->a.zp && !rq_mil_op_bind_value(p, op, "offset", zp_value(w, &c->a, rank, counts))) ||
        !rq_mil_op_output(p, op, rq_coreml_weight_output(w, name), w->value->type))
        return no_memory(err);
    return rq_coreml_weight_replace(w, op, 0, NULL, err);
}

/* The nonzero numbers of a sparse weight: codes of the dense one where the mask has ones, in its order. */
static rq_status emit_sparse(rq_coreml_weight *w, const codes *c, const uint8_t *dense, const uint8_t *mask, int rank,
                             const int64_t *dim, const int64_t *counts, rq_err *err)
{
    rq_mil_program *p = &w->m->program;
    rq_mil_op *to_dense = w->user;
    const rq_mil_arg *mask_arg = rq_mil_op_arg(to_dense, "mask");
    const char *name = rq_coreml_weight_name(w, "_quantized"), *type = code_type(w->config);
    uint8_t *all = rq_mem_alloc((size_t)c->a.n, 1), *packed = rq_mem_zalloc((size_t)w->count, 1);
    rq_mil_op *op = name && all && packed ? rq_mil_op_make(p, "constexpr_sparse_blockwise_shift_scale", name) : NULL;
    bool ok = op != NULL;
    if (ok) {
        const rq_mil_dtype *t = rq_mil_dtype_of_name(type);
        int64_t n = 0;
        uint64_t bad;
        rq_coreml_affine_quantize(&c->a, dense, 0, c->a.n, all);
        for (int64_t i = 0; i < c->a.n; i++)
            if (mask[i])
                all[n++] = all[i];
        if (t->bits < 8)
            rq_mil_dtype_pack(t, packed, all, (uint64_t)n, &bad);
        const rq_mil_binding *b = &mask_arg->binding[0];
        char output[2][700];
        for (int i = 0; i < 2; i++)
            snprintf(output[i], sizeof output[i], "%.680s_%d", name, i);
        ok = (b->name ? rq_mil_op_bind(p, op, "data_mask", b->name)
                      : rq_mil_op_bind_value(p, op, "data_mask", b->value)) &&
             rq_mil_op_bind_value(p, op, "nonzero_data",
                                  rq_coreml_value(w->m, type, 1, &n, t->bits < 8 ? packed : all)) &&
             rq_mil_op_bind_value(p, op, "scale", scale_value(w, &c->a, rank, counts)) &&
             (!c->a.zp || rq_mil_op_bind_value(p, op, "offset", zp_value(w, &c->a, rank, counts))) &&
             rq_mil_op_output(p, op, output[0], rq_mil_tensor_type(p, rq_mil_dtype_of_name("uint1"), rank, dim)) &&
             rq_mil_op_output(p, op, output[1], w->value->type);
    }
    rq_mem_free(all);
    rq_mem_free(packed);
    return ok ? rq_coreml_weight_replace(w, op, 1, to_dense, err) : no_memory(err);
}

/* ---- one weight ---- */

/* An 8-bit constant: a mask of two values stays, others are refused. The difference wraps in the type, so a range of 128 and more is
 * "small", too. */
static rq_status refuse_integers(rq_coreml_weight *w, rq_err *err)
{
    const uint8_t *x;
    uint64_t bytes;
    const bool is_signed = w->value->type->dtype->name[0] == 'i';
    int lo = 255, hi = -128;
    RQ_TRY(rq_coreml_weight_bytes(w->m, w->value, &x, &bytes, err));
    for (uint64_t i = 0; i < bytes; i++) {
        const int v = is_signed ? (int8_t)x[i] : x[i];
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    const int range = is_signed ? (int8_t)(uint8_t)(hi - lo) : hi - lo;
    if (range < 2)
        return rq_coreml_weight_left(w, false, err, "it is of 8-bit integers");
    return rq_fail(
        err, RQ_BAD_ARG,
        "Only floating numpy arrays are supported: '%.100s' is of 8-bit integers from %d to %d; leave it out by "
        "op_name_configs",
        w->name, lo, hi);
}

static rq_status needs_ios18(const rq_coreml_weight *w, const char *what, rq_err *err)
{
    return rq_fail(err, RQ_UNSUPPORTED,
                   "The %s quantization is supported since iOS18. Please re-convert your model with "
                   "minimum_deployment_target set to at least iOS18: it has specification version %d, 9 is iOS 18",
                   what, (int)w->m->spec);
}

/* The dense weight of a sparse one: *mask a byte each, *dense zeros where it has none. Both are the caller's. */
static rq_status densify(rq_coreml_weight *w, const uint8_t *data, int64_t count, int64_t n,
                         const rq_mil_value *mask_value, uint8_t **mask, uint8_t **dense, rq_err *err)
{
    const size_t size = w->value->type->dtype->bits / 8U;
    const uint8_t *packed;
    uint64_t bytes;
    *mask = rq_mem_alloc((size_t)n, 1);
    *dense = rq_mem_zalloc((size_t)n, size);
    if (!*mask || !*dense)
        return no_memory(err);
    RQ_TRY(rq_coreml_weight_bytes(w->m, (rq_mil_value *)mask_value, &packed, &bytes, err));
    rq_mil_dtype_unpack(mask_value->type->dtype, *mask, packed, (uint64_t)n);
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if ((*mask)[i]) {
            if (k < count)
                memcpy(*dense + (size_t)i * size, data + (size_t)k * size, size);
            k++;
        }
    if (k != count)
        return rq_fail(err, RQ_BAD_FILE, "'%.100s' has %" PRId64 " numbers, its mask has %" PRId64 " ones", w->name,
                       count, k);
    return RQ_OK;
}

static uint64_t bytes_of(const codes *c, int64_t n)
{
    const uint64_t one = c->a.type.half ? 2 : 4;
    const uint64_t zp = c->a.zp ? rq_mil_dtype_bytes(rq_mil_dtype_of_name(c->a.type.nbits == 4 ? "uint4" : "uint8"),
                                                     (uint64_t)c->a.n_blocks)
                                : 0;
    return (c->a.type.nbits == 4 ? ((uint64_t)n + 1) / 2 : (uint64_t)n) + (uint64_t)c->a.n_blocks * one + zp;
}

/* A fault, or scales that their type has no number for, are said; *ok false then. */
static rq_status measure(rq_coreml_weight *w, codes *c, const void *x, bool mapped, rq_threads *t, bool *ok,
                         rq_err *err)
{
    rq_coreml_affine_fault fault;
    RQ_TRY(rq_coreml_affine_measure(&c->a, x, mapped, t, &fault, err));
    *ok = false;
    if (fault == RQ_COREML_AFFINE_INF)
        return rq_coreml_weight_left(w, true, err, "it has inf/-inf, which is not supported by quantization");
    if (fault == RQ_COREML_AFFINE_NAN)
        return rq_coreml_weight_left(w, true, err, "it has NaN, which has no code");
    for (int64_t i = 0; i < c->a.n_blocks; i++)
        if (!(c->a.scale[i] <= 3.4e38f))
            return rq_coreml_weight_left(w, true, err, "the range of its numbers is more than %s can say",
                                         c->a.type.half ? "fp16" : "fp32");
    *ok = true;
    return RQ_OK;
}

/* Scales and zero points are the program's. */
static rq_status room(rq_coreml_weight *w, codes *c, rq_err *err)
{
    rq_arena *a = &w->m->program.arena;
    c->a.scale = rq_arena_alloc(a, (size_t)c->a.n_blocks, sizeof(float));
    if (rq_coreml_affine_has_zp(&c->a.type))
        c->a.zp = rq_arena_alloc(a, (size_t)c->a.n_blocks, 1);
    return c->a.scale && (c->a.zp || !rq_coreml_affine_has_zp(&c->a.type)) ? RQ_OK : no_memory(err);
}

static rq_status quantize(rq_coreml_weight *w, codes *c, const rq_mil_value *mask_value, int rank, const int64_t *dim,
                          rq_threads *t, rq_err *err)
{
    int64_t block[RQ_MIL_MAX_RANK], counts[RQ_MIL_MAX_RANK];
    uint8_t *mask = NULL, *dense = NULL;
    const uint8_t *x;
    uint64_t bytes;
    bool ok;
    RQ_TRY(rq_coreml_weight_blocks(w, rank, dim, block, &ok, err));
    if (!ok)
        return RQ_OK;
    const rq_coreml_affine_type type = { w->config->symmetric, w->config->is_signed,
                                         !strcmp(w->value->type->dtype->name, "fp16"), w->config->nbits };
    rq_coreml_affine_init(&c->a, &type, rank, dim, block);
    for (int i = 0; i < rank; i++)
        counts[i] = block[i] ? dim[i] / block[i] : 1;
    RQ_TRY(room(w, c, err));
    RQ_TRY(rq_coreml_weight_bytes(w->m, w->value, &x, &bytes, err));
    rq_status st = mask_value ? densify(w, x, w->count, c->a.n, mask_value, &mask, &dense, err) : RQ_OK;
    if (!st)
        st = measure(w, c, dense ? dense : x, !dense && w->value->file, t, &ok, err);
    if (!st && ok) {
        st = mask_value                 ? emit_sparse(w, c, dense, mask, rank, dim, counts, err)
             : rq_coreml_is_ios18(w->m) ? emit_blockwise(w, c, rank, dim, counts, err)
                                        : emit_affine(w, c, rank, dim, counts, err);
        if (!st)
            st = rq_coreml_weight_done(w,
                                       mask_value                 ? "constexpr_sparse_blockwise_shift_scale"
                                       : rq_coreml_is_ios18(w->m) ? "constexpr_blockwise_shift_scale"
                                                                  : "constexpr_affine_dequantize",
                                       bytes_of(c, w->count), err);
    }
    rq_mem_free(mask);
    rq_mem_free(dense);
    return st;
}

static rq_status compress(rq_coreml_weight *w, void *arg, rq_err *err)
{
    codes c = { .m = w->m, .weight = w->value };
    const rq_mil_type *t = w->value->type;
    const rq_mil_value *mask = NULL;
    int64_t dim[RQ_MIL_MAX_RANK];
    if (!rq_coreml_is_ios18(w->m) && w->config->granularity == RQ_COREML_PER_BLOCK)
        return needs_ios18(w, "per_block", err);
    if (!rq_coreml_is_ios18(w->m) && w->config->nbits == 4)
        return needs_ios18(w, "4-bit", err);
    if (t->dtype->bits <= 8)
        return refuse_integers(w, err);
    if (w->user && !strncmp(w->user->type, "constexpr_lut_to_", 17) && w->config->granularity != RQ_COREML_PER_TENSOR)
        return rq_fail(err, RQ_UNSUPPORTED,
                       "When use joint compression for palettization-quantization, please make sure to use per-tensor "
                       "quantization: the axes of the table '%.100s' are not those of the weight",
                       w->name);
    if (w->user && !strcmp(w->user->type, "constexpr_sparse_to_dense")) {
        mask = rq_coreml_param(&w->walk->uses, w->user, "mask");
        if (!mask || mask->type->dtype->bits != 1)
            return rq_coreml_weight_left(w, true, err, "its mask is not a constant");
        t = mask->type;
    }
    for (int64_t i = 0; i < t->rank; i++)
        dim[i] = (int64_t)t->dim[i].size;
    return quantize(w, &c, mask, (int)t->rank, dim, arg, err);
}

rq_status rq_coreml_linear_quantize_weights(rq_coreml *m, const rq_coreml_config *c, bool joint,
                                            rq_coreml_report **report, rq_err *err)
{
    static const char *const params[][2] = { { "constexpr_lut_to_dense", "lut" },
                                             { "constexpr_lut_to_sparse", "lut" },
                                             { "constexpr_sparse_to_dense", "nonzero_data" },
                                             { NULL, NULL } };
    static const rq_coreml_weights_row row = { .what = "linear_quantize_weights",
                                               .classes = 1U << RQ_COREML_LINEAR_QUANTIZER,
                                               .joint = params,
                                               .compress = compress };
    rq_threads *t = NULL;
    if (rq_threads_create(&t, 0))
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to quantize weights");
    const rq_status s = rq_coreml_weights_run(m, c, &row, joint, t, report, err);
    rq_threads_destroy(t);
    return s;
}
