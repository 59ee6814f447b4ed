/* formats/mil_emit_nbits.c — MatMulNBits of com.microsoft (docs/onnx-facts.md 2.10) in a program: its weight [N][K] is
 * `constexpr_blockwise_shift_scale` of the same codes, scales and zero points, its product `linear`, or `matmul` and `add` of more axes. */
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "graph/query.h"

enum { IN_X, IN_W, IN_SCALES, IN_ZEROS, IN_GROUPS, IN_BIAS };

typedef struct sizes {
    int64_t k, n, block, n_blocks;
    int bits;
} sizes;

static rq_status no_memory(rq_mil_emitter *e)
{
    return rq_mil_emit_keep(e, rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program"));
}

static rq_status read_sizes(rq_mil_emitter *e, const rq_node *n, sizes *z)
{
    const int64_t most = INT32_MAX;
    const rq_tensor *w = rq_mil_emit_const(e, rq_node_in(n, IN_W)), *s = rq_mil_emit_const(e, rq_node_in(n, IN_SCALES));
    *z = (sizes) { .k = rq_attr_int(n, RQ_WORD_K, 0),
                   .n = rq_attr_int(n, RQ_WORD_N, 0),
                   .block = rq_attr_int(n, RQ_WORD_block_size, 0),
                   .bits = (int)rq_attr_int(n, RQ_WORD_bits, 4) };
    if (!w || !s || rq_node_in(n, IN_GROUPS) != RQ_NONE)
        return rq_mil_emit_refuse(e, n, 0, "a weight that is computed or in groups of any order");
    if (z->bits != 4 && z->bits != 8)
        return rq_mil_emit_refuse(e, n, 0, "a weight of neither 4 nor 8 bits");
    if (z->k < 1 || z->n < 1 || z->block < 2 || z->k > most || z->n > most || z->block > most)
        return rq_mil_emit_refuse(e, n, 0, "a weight of such sizes");
    z->n_blocks = (z->k + z->block - 1) / z->block;
    if (w->dtype != RQ_DTYPE_U8 || rq_tensor_count(w) != z->n * z->n_blocks * (z->block * z->bits / 8) ||
        rq_tensor_count(s) != z->n * z->n_blocks)
        return rq_mil_emit_refuse(e, n, 0, "a weight that does not fit its sizes");
    if (z->n_blocks > 1 && z->k % z->block)
        return rq_mil_emit_refuse(e, n, 0, "an axis that is no multiple of its blocks");
    return e->target < RQ_COREML_IOS18 ? rq_mil_emit_refuse(e, n, RQ_COREML_IOS18, "a weight with a scale per block")
                                       : RQ_OK;
}

static uint8_t unpack(const uint8_t *row, int64_t i, int bits)
{
    return bits == 8 ? row[i] : row[i / 2] >> (i % 2 * 4) & 15;
}

/* rows of `columns` codes, each row starting at a byte, as bytes. */
static rq_mil_value *make_codes(rq_mil_emitter *e, const uint8_t *from, int64_t rows, int64_t columns, int64_t stride,
                                int bits, const char *what)
{
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_U8, &(rq_shape) { 2, { rows, columns } }, false)) {
        no_memory(e);
        return NULL;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            t.u8[r * columns + c] = unpack(from + r * stride, c, bits);
    rq_mil_value *v = rq_mil_emit_make(e, &t, rq_mil_dtype_of(bits == 4 ? RQ_DTYPE_U4 : RQ_DTYPE_U8), NULL, what);
    rq_tensor_release(&t);
    return v;
}

/* Zero points: codes, floats (which may lie between codes), or, where there are none, the middle. */
static rq_mil_value *make_zeros(rq_mil_emitter *e, const rq_node *n, const sizes *z)
{
    const rq_tensor *t = rq_mil_emit_const(e, rq_node_in(n, IN_ZEROS));
    const rq_shape shape = { 2, { z->n, z->n_blocks } };
    const char *what = e->g->values[n->in[IN_W]].name;
    const int64_t stride = (z->n_blocks * z->bits + 7) / 8;
    if (t && t->dtype != RQ_DTYPE_U8)
        return rq_tensor_count(t) == z->n * z->n_blocks ? rq_mil_emit_make(e, t, rq_mil_emit_floats(e), &shape, what)
                                                        : NULL;
    if (t)
        return rq_tensor_count(t) == z->n * stride ? make_codes(e, t->u8, z->n, z->n_blocks, stride, z->bits, what)
                                                   : NULL;
    rq_tensor middle;
    if (rq_tensor_create(&middle, RQ_DTYPE_U8, &shape, false)) {
        no_memory(e);
        return NULL;
    }
    memset(middle.u8, 1 << (z->bits - 1), middle.bytes);
    rq_mil_value *v =
        rq_mil_emit_make(e, &middle, rq_mil_dtype_of(z->bits == 4 ? RQ_DTYPE_U4 : RQ_DTYPE_U8), NULL, what);
    rq_tensor_release(&middle);
    return v;
}

/* The weight as an operation; its name, or NULL. */
static const char *emit_weight(rq_mil_emitter *e, const rq_node *n, const sizes *z)
{
    const rq_tensor *w = rq_mil_emit_const(e, n->in[IN_W]), *s = rq_mil_emit_const(e, n->in[IN_SCALES]);
    const rq_shape shape = { 2, { z->n, z->k } }, blocks = { 2, { z->n, z->n_blocks } };
    const int64_t stride = z->n_blocks * (z->block * z->bits / 8);
    const char *name = NULL;
    rq_mil_op *op =
        rq_mil_emit_tmp(e, "constexpr_blockwise_shift_scale", n->in[IN_W], "dequantized", RQ_DTYPE_NONE, &shape, &name);
    rq_mil_value *data = op ? make_codes(e, w->u8, z->n, z->k, stride, z->bits, e->g->values[n->in[IN_W]].name) : NULL;
    rq_mil_value *scale =
        data ? rq_mil_emit_make(e, s, rq_mil_emit_floats(e), &blocks, e->g->values[n->in[IN_SCALES]].name) : NULL;
    rq_mil_value *zero = scale ? make_zeros(e, n, z) : NULL;
    if (!zero) {
        if (scale)
            rq_mil_emit_refuse(e, n, 0, "zero points that do not fit the scales");
        return NULL;
    }
    if (!rq_mil_op_bind_value(e->p, op, "data", data) || !rq_mil_op_bind_value(e->p, op, "scale", scale) ||
        !rq_mil_op_bind_value(e->p, op, "offset", zero)) {
        no_memory(e);
        return NULL;
    }
    return name;
}

static rq_status emit_nbits(rq_mil_emitter *e, const rq_node *n)
{
    sizes z;
    RQ_TRY(read_sizes(e, n, &z));
    const rq_id bias = rq_node_in(n, IN_BIAS);
    const rq_shape *y = rq_mil_emit_shape(e, n->out[0]);
    const bool as_linear = y->rank >= 2 && y->rank <= 3 && (bias == RQ_NONE || rq_mil_emit_const(e, bias));
    const char *weight = emit_weight(e, n, &z), *product = NULL;
    if (!weight)
        return rq_mil_emit_state_of(e)->st;
    if (as_linear) {
        rq_mil_op *op = rq_mil_emit_op(e, "linear", n->out[0]);
        rq_mil_emit_bind(e, op, "x", n->in[IN_X]);
        rq_mil_emit_bind_name(e, op, "weight", weight);
        return bias == RQ_NONE ? rq_mil_emit_state_of(e)->st : rq_mil_emit_bind(e, op, "bias", bias);
    }
    rq_mil_op *op = bias == RQ_NONE ? rq_mil_emit_op(e, "matmul", n->out[0])
                                    : rq_mil_emit_tmp(e, "matmul", n->out[0], "product", RQ_DTYPE_NONE, y, &product);
    rq_mil_emit_bind(e, op, "x", n->in[IN_X]);
    rq_mil_emit_bind_name(e, op, "y", weight);
    rq_mil_emit_bool(e, op, "transpose_x", false);
    RQ_TRY(rq_mil_emit_bool(e, op, "transpose_y", true));
    if (bias == RQ_NONE)
        return RQ_OK;
    op = rq_mil_emit_op(e, "add", n->out[0]);
    rq_mil_emit_bind_name(e, op, "x", product);
    return rq_mil_emit_bind(e, op, "y", bias);
}

const rq_mil_emit_row rq_mil_emit_weights[] = {
    { .op = "MatMulNBits", .domain = "com.microsoft", .emit = emit_nbits },
    { .op = NULL },
};
