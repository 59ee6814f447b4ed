/* algo/weight_nbits.c — weights of few bits in the words of ONNX Runtime (docs/onnx-facts.md 2.10): MatMul and Gemm become
 * MatMulNBits, Gather becomes GatherBlockQuantized. What these cannot say stays as it is. */
#include <string.h>

#include "algo/ptq_priv.h"
#include "algo/weights.h"
#include "ops/rewrite.h"

static rq_status no_memory(const rq_graph *g, rq_id node, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory writing the weights of '%s'", g->nodes[node].name);
}

/* Weights as a matrix [rows][k] with blocks along k: how to read them. */
typedef struct matrix {
    int64_t n, k, blocks, block;
    bool transposed; /* stored as [k][n] */
    int bits, shift; /* added to codes, so that they are unsigned */
    const rq_tensor *codes;
} matrix;

static int64_t code_at(const matrix *m, int64_t row, int64_t k)
{
    return rq_tensor_get_int(m->codes, m->transposed ? k * m->n + row : row * m->k + k) + m->shift;
}

static int64_t scale_at(const matrix *m, int64_t row, int64_t block)
{
    return m->transposed ? block * m->n + row : row * m->blocks + block;
}

static matrix matrix_of(const rq_weight *w)
{
    const rq_tensor *codes = w->zero ? &w->fine : &w->codes;
    const rq_shape *s = &codes->shape;
    matrix m = { .block = w->q.block, .bits = rq_dtype_bits(w->q.dtype), .codes = codes };
    m.transposed = w->site.block == s->rank - 2;
    m.k = s->dim[w->site.block];
    m.n = rq_shape_count(s) / m.k;
    m.blocks = (m.k + m.block - 1) / m.block;
    const bool is_signed = w->q.dtype == RQ_DTYPE_S8 || w->q.dtype == RQ_DTYPE_S4 || w->q.dtype == RQ_DTYPE_S2;
    m.shift = is_signed ? 1 << (m.bits - 1) : 0;
    return m;
}

static rq_status add_const(rq_graph *g, rq_id node, const char *base, const char *suffix, rq_tensor *t, rq_id *id,
                           rq_err *err)
{
    const char *name = rq_rewrite_name(g, base, suffix);
    rq_status s = name ? rq_graph_add_const(g, id, name, t, err) : no_memory(g, node, err);
    rq_tensor_release(t);
    return s;
}

static void put_bits(uint8_t *bytes, int64_t i, int bits, int64_t code)
{
    bytes[i * bits / 8] = (uint8_t)(bytes[i * bits / 8] | (unsigned)code << i * bits % 8);
}

/* [n][blocks][block * bits / 8], low bits first; what lies beyond k does not count: the zero of the block, or 0 as
 * the peer leaves it. */
static rq_status pack_codes(rq_graph *g, rq_id node, const char *base, const matrix *m, const rq_weight *w, rq_id *id,
                            rq_err *err)
{
    const int64_t blob = m->block * m->bits / 8;
    const rq_shape shape = rq_shape_of(3, (int64_t[]) { m->n, m->blocks, blob });
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_U8, &shape, true))
        return no_memory(g, node, err);
    for (int64_t r = 0; r < m->n; r++)
        for (int64_t k = 0; k < m->blocks * m->block; k++) {
            int64_t pad = w->q.zero_point[scale_at(m, r, k / m->block)] + m->shift;
            if (w->s.weight_method == RQ_WEIGHTS_ORT) /* 0, but what the byte before has in the byte that k ends in */
                pad = k * m->bits / 8 == (m->k - 1) * m->bits / 8 && k >= 8 / m->bits ? code_at(m, r, k - 8 / m->bits)
                                                                                      : 0;
            put_bits(t.u8 + r * m->blocks * blob, k, m->bits, k < m->k ? code_at(m, r, k) : pad);
        }
    static const char *const suffix[] = { [2] = "_Q2", [4] = "_Q4", [8] = "_Q8" };
    return add_const(g, node, base, suffix[m->bits], &t, id, err);
}

static rq_status pack_scales(rq_graph *g, rq_id node, const char *base, const matrix *m, const float *from,
                             const char *suffix, rq_id *id, rq_err *err)
{
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { m->n, m->blocks });
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_F32, &shape, false))
        return no_memory(g, node, err);
    for (int64_t r = 0; r < m->n; r++)
        for (int64_t b = 0; b < m->blocks; b++)
            t.f32[r * m->blocks + b] = from[scale_at(m, r, b)];
    return add_const(g, node, base, suffix, &t, id, err);
}

/* Packed, each row to a whole byte; none when all are the middle. */
static rq_status pack_zeros(rq_graph *g, rq_id node, const char *base, const matrix *m, const rq_weight *w, rq_id *id,
                            rq_err *err)
{
    bool needed = false;
    *id = RQ_NONE;
    if (w->zero)
        return pack_scales(g, node, base, m, w->zero, "_zero_points", id, err);
    for (int64_t i = 0; i < w->q.n; i++)
        needed |= w->q.zero_point[i] + m->shift != 1 << (m->bits - 1);
    if (!needed)
        return RQ_OK;
    const int64_t row = (m->blocks * m->bits + 7) / 8;
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { m->n, row });
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_U8, &shape, true))
        return no_memory(g, node, err);
    for (int64_t r = 0; r < m->n; r++)
        for (int64_t b = 0; b < row * 8 / m->bits; b++)
            put_bits(t.u8 + r * row, b, m->bits,
                     b < m->blocks ? w->q.zero_point[scale_at(m, r, b)] + m->shift : 1 << (m->bits - 1));
    return add_const(g, node, base, "_zero_points", &t, id, err);
}

/* ---- which nodes ---- */

/* A bias that MatMulNBits can add: absent, or a constant [n]. */
static bool bias_fits(const rq_graph *g, rq_id bias, int64_t n)
{
    if (bias == RQ_NONE)
        return true;
    const rq_value *v = &g->values[bias];
    return v->kind == RQ_VALUE_CONST && v->quant == RQ_NONE && v->constant.dtype == RQ_DTYPE_F32 &&
           v->constant.shape.rank == 1 && v->constant.shape.dim[0] == n;
}

static bool is_product(const rq_graph *g, const rq_node *n, const rq_weight *w)
{
    const rq_shape *s = &w->codes.shape;
    if (s->rank != 2 || w->site.in != 1 || !w->q.block)
        return false;
    if (rq_rewrite_is(n, "MatMul"))
        return g->values[n->in[0]].shape.rank >= 2;
    return rq_rewrite_is(n, "Gemm") && !rq_attr_int(n, RQ_WORD_transA, 0) && rq_attr_float(n, RQ_WORD_alpha, 1) == 1 &&
           rq_attr_float(n, RQ_WORD_beta, 1) == 1 &&
           bias_fits(g, n->n_in > 2 ? n->in[2] : RQ_NONE, s->dim[w->site.channel]);
}

static rq_status become(rq_graph *g, rq_id node, const char *op, const rq_id *in, int n_in, rq_err *err)
{
    static const char *const gone[] = { "transA", "transB", "alpha", "beta", "axis" };
    RQ_TRY(rq_rewrite_become(g, node, op, in, n_in, err));
    const char *domain = rq_graph_str(g, "com.microsoft");
    if (!domain || (!rq_graph_opset(g, "com.microsoft") && rq_graph_set_opset(g, "com.microsoft", 1)))
        return no_memory(g, node, err);
    g->nodes[node].domain = domain;
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
        rq_attr_remove(g, node, gone[i]);
    return RQ_OK;
}

static rq_status to_matmul_nbits(rq_graph *g, rq_id node, const rq_weight *w, int level, rq_err *err)
{
    const matrix m = matrix_of(w);
    const rq_node *n = &g->nodes[node];
    const char *base = g->values[w->value].name[0] ? g->values[w->value].name : "weight";
    rq_id in[6] = { n->in[0], RQ_NONE, RQ_NONE, RQ_NONE, RQ_NONE, n->n_in > 2 ? n->in[2] : RQ_NONE };
    RQ_TRY(pack_codes(g, node, base, &m, w, &in[1], err));
    RQ_TRY(pack_scales(g, node, base, &m, w->q.scale, "_scales", &in[2], err));
    RQ_TRY(pack_zeros(g, node, base, &m, w, &in[3], err));
    RQ_TRY(become(g, node, "MatMulNBits", in, in[5] != RQ_NONE ? 6 : in[3] != RQ_NONE ? 4 : 3, err));
    if (rq_attr_set_int(g, node, "K", m.k) || rq_attr_set_int(g, node, "N", m.n) ||
        (level && rq_attr_set_int(g, node, "accuracy_level", level)) || rq_attr_set_int(g, node, "bits", m.bits) ||
        rq_attr_set_int(g, node, "block_size", m.block))
        return no_memory(g, node, err);
    return RQ_OK;
}

/* Codes as they are, 4 bits, blocks along the last axis. */
static rq_status to_gather(rq_graph *g, rq_id node, const rq_weight *w, rq_err *err)
{
    const rq_shape *s = &w->codes.shape;
    const char *base = g->values[w->value].name[0] ? g->values[w->value].name : "table";
    rq_id in[4] = { RQ_NONE, g->nodes[node].in[1], RQ_NONE, RQ_NONE };
    rq_shape shape = *s;
    const int64_t axis = w->site.channel;
    shape.dim[s->rank - 1] = (s->dim[s->rank - 1] + w->q.block - 1) / w->q.block;
    rq_tensor codes, scale, zero;
    rq_tensor_share(&codes, &w->codes);
    RQ_TRY(add_const(g, node, base, "_Q4", &codes, &in[0], err));
    if (rq_tensor_create(&scale, RQ_DTYPE_F32, &shape, false))
        return no_memory(g, node, err);
    memcpy(scale.f32, w->q.scale, scale.bytes);
    RQ_TRY(add_const(g, node, base, "_scales", &scale, &in[2], err));
    if (rq_tensor_create(&zero, w->q.dtype, &shape, true))
        return no_memory(g, node, err);
    for (int64_t i = 0; i < w->q.n; i++)
        rq_tensor_set(&zero, i, w->q.zero_point[i]);
    RQ_TRY(add_const(g, node, base, "_zero_points", &zero, &in[3], err));
    RQ_TRY(become(g, node, "GatherBlockQuantized", in, 4, err));
    if (rq_attr_set_int(g, node, "gather_axis", axis) || rq_attr_set_int(g, node, "quantize_axis", s->rank - 1) ||
        rq_attr_set_int(g, node, "block_size", w->q.block))
        return no_memory(g, node, err);
    return RQ_OK;
}

rq_status rq_weight_nbits(rq_graph *g, rq_id node, const rq_weight *w, int level, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    if (is_product(g, n, w))
        return to_matmul_nbits(g, node, w, level, err);
    if (rq_rewrite_is(n, "Gather") && w->q.block && w->site.block == w->codes.shape.rank - 1 &&
        rq_dtype_bits(w->q.dtype) == 4)
        return to_gather(g, node, w, err);
    return RQ_OK;
}
