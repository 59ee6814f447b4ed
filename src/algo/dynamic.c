/* algo/dynamic.c — see dynamic.h. Y = X W becomes
 *
 *   X -> DynamicQuantizeLinear -> MatMulInteger(codes of X, codes of W) -> Cast -> Mul(scale of X * scale of W) [-> Add]
 *
 * or, with a scale per row of X, where one outlier costs its row alone: s = max|X| over the last axis / 127, codes s8
 * without a zero point. All names are those that ONNX Runtime's quantizer gives. */
#include "algo/dynamic.h"

#include <string.h>

#include "ops/rewrite.h"
#include "ops/upgrade.h"

/* What a weight became; another product with it reads the same constants. */
typedef struct rq_dynamic_matrix {
    const rq_weight *w;
    bool transposed;
    float factor;
    rq_id codes, scale, zero;
} matrix;

/* The least operators: DynamicQuantizeLinear is of opset 11. */
enum { OPSET = 11, TO_FLOAT = 1, TO_INT8 = 3 };

static rq_status no_memory(rq_dynamic *d)
{
    return rq_fail(d->err, RQ_NO_MEMORY, "out of memory quantizing the graph");
}

bool rq_dynamic_is_cell(const rq_node *n)
{
    return rq_rewrite_is(n, "LSTM") || rq_rewrite_is(n, "GRU") || rq_rewrite_is(n, "RNN");
}

bool rq_dynamic_fits(const rq_graph *g, const rq_node *n, bool conv)
{
    const rq_id x = n->n_in ? n->in[0] : RQ_NONE;
    if (x == RQ_NONE || g->values[x].kind == RQ_VALUE_CONST || n->n_in < 2 || n->in[1] == RQ_NONE ||
        g->values[n->in[1]].kind != RQ_VALUE_CONST || (g->values[x].dtype && g->values[x].dtype != RQ_DTYPE_F32))
        return false;
    if (rq_rewrite_is(n, "MatMul"))
        return g->values[x].shape.rank != 1;
    if (rq_dynamic_is_cell(n)) /* no runtime has DynamicQuantizeLSTM with the batch first */
        return n->n_in > 2 && n->in[2] != RQ_NONE && g->values[n->in[2]].kind == RQ_VALUE_CONST &&
               !(rq_rewrite_is(n, "LSTM") && rq_attr_int(n, RQ_WORD_layout, 0));
    return rq_rewrite_is(n, "Gemm") || (conv && rq_rewrite_is(n, "Conv"));
}

rq_status rq_dynamic_init(rq_dynamic *d, rq_graph *g, bool per_row, rq_err *err)
{
    *d = (rq_dynamic) { .g = g, .per_row = per_row, .row_zero = RQ_NONE, .err = err };
    if (rq_graph_opset(g, "") < OPSET)
        RQ_TRY(rq_upgrade(g, OPSET, err));
    d->n_values = g->n_values;
    d->measured = rq_mem_alloc((size_t)d->n_values + 1, sizeof *d->measured);
    d->rows = rq_mem_alloc((size_t)d->n_values + 1, sizeof *d->rows);
    if (!d->measured || !d->rows)
        return no_memory(d);
    for (int i = 0; i < d->n_values; i++)
        d->measured[i][0] = d->rows[i][0] = RQ_NONE;
    return RQ_OK;
}

void rq_dynamic_release(rq_dynamic *d)
{
    rq_mem_free(d->measured);
    rq_mem_free(d->rows);
    rq_mem_free(d->matrices);
    *d = (rq_dynamic) { 0 };
}

/* ---- small edits ---- */

/* A name and what comes behind it. */
typedef struct label {
    const char *base, *tail;
} label;

/* A new node with one output, both named. */
static rq_status emit(rq_dynamic *d, const char *op, label node_name, label value_name, rq_dtype type, const rq_id *in,
                      int n_in, rq_id *out, rq_id *node)
{
    rq_id id, made;
    const char *name = node_name.base[0] ? rq_rewrite_name(d->g, node_name.base, node_name.tail) : "";
    const char *value = rq_rewrite_name(d->g, value_name.base, value_name.tail);
    if (!name || !value)
        return no_memory(d);
    RQ_TRY(rq_graph_add_value(d->g, &made, RQ_VALUE_NODE, value, type, NULL, d->err));
    RQ_TRY(rq_graph_add_node(d->g, &id, op, "", name, in, n_in, &made, 1, d->err));
    *out = made; /* which may stand in `in` */
    if (node)
        *node = id;
    return RQ_OK;
}

/* The node itself becomes the last step, so that its output stays the value it was. */
static rq_status finish(rq_dynamic *d, rq_id node, const char *op, label name, const rq_id *in, int n_in)
{
    RQ_TRY(rq_rewrite_become(d->g, node, op, in, n_in, d->err));
    while (d->g->nodes[node].n_attr)
        rq_attr_remove(d->g, node, d->g->nodes[node].attr[0].name);
    if (d->g->nodes[node].name[0]) {
        const char *text = rq_rewrite_name(d->g, name.base, name.tail);
        if (!text)
            return no_memory(d);
        d->g->nodes[node].name = text;
    }
    return RQ_OK;
}

static rq_status add_const(rq_dynamic *d, label name, rq_tensor *t, rq_id *id)
{
    const char *text = rq_rewrite_name(d->g, name.base, name.tail);
    rq_status s = text ? rq_graph_add_const(d->g, id, text, t, d->err) : no_memory(d);
    rq_tensor_release(t);
    return s;
}

static const char *join(rq_dynamic *d, const char *base, const char *tail)
{
    const size_t n = strlen(base), m = strlen(tail);
    char *text = rq_arena_alloc(&d->g->names, n + m + 1, 1);
    if (!text)
        return NULL;
    memcpy(text, base, n);
    memcpy(text + n, tail, m + 1);
    return text;
}

/* ---- weights ---- */

/* Codes, scale (times `factor`) and zero point of a weight as constants. Scales along an axis get `shape` (rank and sizes of them, as
 * the result broadcasts), codes are transposed in their last two axes if asked. */
static rq_status add_codes(rq_dynamic *d, const rq_weight *w, const char *base, bool transposed, rq_id *id)
{
    const rq_tensor *c = &w->codes;
    rq_tensor t;
    if (!transposed) {
        rq_tensor_share(&t, c);
        return add_const(d, (label) { base, "_quantized" }, &t, id);
    }
    rq_shape shape = c->shape;
    const int r = shape.rank;
    const int64_t rows = shape.dim[r - 2], cols = shape.dim[r - 1], outer = rq_shape_span(&shape, 0, r - 2);
    shape.dim[r - 2] = cols;
    shape.dim[r - 1] = rows;
    if (rq_tensor_create(&t, c->dtype, &shape, false))
        return no_memory(d);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < cols; k++)
                t.u8[(o * cols + k) * rows + i] = c->u8[(o * rows + i) * cols + k];
    return add_const(d, (label) { base, "_quantized" }, &t, id);
}

static rq_status add_scale(rq_dynamic *d, const rq_weight *w, const char *base, const rq_shape *shape, float factor,
                           rq_id *id)
{
    const rq_shape scalar = rq_shape_of(0, NULL);
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_F32, w->q.n == 1 ? &scalar : shape, false))
        return no_memory(d);
    for (int64_t i = 0; i < w->q.n; i++)
        t.f32[i] = w->q.scale[i] * factor;
    return add_const(d, (label) { base, "_scale" }, &t, id);
}

static rq_status add_zero(rq_dynamic *d, const rq_weight *w, const char *base, const rq_shape *shape, rq_id *id)
{
    const rq_shape scalar = rq_shape_of(0, NULL);
    rq_tensor t;
    const int64_t n = shape && w->q.n > 1 ? rq_shape_count(shape) : 1;
    if (rq_tensor_create(&t, w->q.dtype, n > 1 || (shape && w->q.n > 1) ? shape : &scalar, true))
        return no_memory(d);
    for (int64_t i = 0; i < n; i++)
        rq_tensor_set(&t, i, w->q.zero_point[i % w->q.n]);
    return add_const(d, (label) { base, "_zero_point" }, &t, id);
}

static const char *weight_name(const rq_graph *g, const rq_weight *w)
{
    return g->values[w->value].name[0] ? g->values[w->value].name : "weight";
}

/* ---- inputs ---- */

/* Codes, scale and zero point of x per tensor, made once for all who read it. */
static rq_status measure(rq_dynamic *d, rq_id x, rq_id *codes, rq_id *scale, rq_id *zero)
{
    rq_graph *g = d->g;
    static const char *const tails[3] = { "_quantized", "_scale", "_zero_point" };
    static const rq_dtype types[3] = { RQ_DTYPE_U8, RQ_DTYPE_F32, RQ_DTYPE_U8 };
    rq_id out[3], node;
    if (x >= d->n_values || d->measured[x][0] == RQ_NONE) {
        const char *base = g->values[x].name[0] ? g->values[x].name : "input";
        for (int i = 0; i < 3; i++) {
            const char *name = rq_rewrite_name(g, base, tails[i]);
            if (!name)
                return no_memory(d);
            RQ_TRY(rq_graph_add_value(g, &out[i], RQ_VALUE_NODE, name, types[i], NULL, d->err));
        }
        const char *name = rq_rewrite_name(g, base, "_QuantizeLinear");
        if (!name)
            return no_memory(d);
        RQ_TRY(rq_graph_add_node(g, &node, "DynamicQuantizeLinear", "", name, &x, 1, out, 3, d->err));
        if (x < d->n_values)
            memcpy(d->measured[x], out, sizeof out);
    } else {
        memcpy(out, d->measured[x], sizeof out);
    }
    *codes = out[0];
    *scale = out[1];
    *zero = out[2];
    return RQ_OK;
}

/* Codes s8 and a scale per row of x: [.., M, 1]. */
static rq_status measure_rows(rq_dynamic *d, rq_id x, rq_id *codes, rq_id *scale)
{
    rq_graph *g = d->g;
    const char *base = g->values[x].name[0] ? g->values[x].name : "input";
    const int64_t last = -1;
    rq_id in[2], node, v;
    if (x < d->n_values && d->rows[x][0] != RQ_NONE) {
        *codes = d->rows[x][0];
        *scale = d->rows[x][1];
        return RQ_OK;
    }
    RQ_TRY(emit(d, "Abs", (label) { base, "_Abs" }, (label) { base, "_magnitude" }, RQ_DTYPE_F32, &x, 1, &in[0], NULL));
    const bool axes_in = rq_graph_opset(g, "") >= 18;
    if (axes_in)
        RQ_TRY(rq_rewrite_ints(g, &last, 1, base, "_last_axis", &in[1], d->err));
    RQ_TRY(emit(d, "ReduceMax", (label) { base, "_ReduceMax" }, (label) { base, "_row_max" }, RQ_DTYPE_F32, in,
                axes_in ? 2 : 1, &v, &node));
    if (rq_attr_set_int(g, node, "keepdims", 1) || (!axes_in && rq_attr_set_ints(g, node, "axes", &last, 1)))
        return no_memory(d);
    in[0] = v; /* a row of zeros has a scale too */
    RQ_TRY(rq_rewrite_float(g, 1e-30f, base, "_least", &in[1], d->err));
    RQ_TRY(emit(d, "Max", (label) { base, "_Max" }, (label) { base, "_row_range" }, RQ_DTYPE_F32, in, 2, &v, NULL));
    in[0] = v;
    RQ_TRY(rq_rewrite_float(g, 127, base, "_most", &in[1], d->err));
    RQ_TRY(
        emit(d, "Div", (label) { base, "_scale_Div" }, (label) { base, "_scale" }, RQ_DTYPE_F32, in, 2, scale, NULL));
    in[0] = x;
    in[1] = *scale;
    RQ_TRY(emit(d, "Div", (label) { base, "_Div" }, (label) { base, "_steps" }, RQ_DTYPE_F32, in, 2, &v, NULL));
    RQ_TRY(
        emit(d, "Round", (label) { base, "_Round" }, (label) { base, "_rounded" }, RQ_DTYPE_F32, &v, 1, &in[0], NULL));
    RQ_TRY(
        emit(d, "Cast", (label) { base, "_Cast" }, (label) { base, "_quantized" }, RQ_DTYPE_S8, in, 1, codes, &node));
    if (rq_attr_set_int(g, node, "to", TO_INT8))
        return no_memory(d);
    if (x < d->n_values) {
        d->rows[x][0] = *codes;
        d->rows[x][1] = *scale;
    }
    return RQ_OK;
}

/* ---- products ---- */

/* The steps behind the sums: names of the node and of what it makes; ids of the scales. */
typedef struct product {
    const char *node, *out; /* bases of names */
    rq_id acc;              /* s32 */
    rq_id x_scale, w_scale;
} product;

/* acc -> reals, times the scales of both; *in receives the two factors of the last Mul. */
static rq_status scale_sums(rq_dynamic *d, const product *p, rq_id in[2])
{
    rq_id cast;
    const char *base = join(d, p->out, "_output_quantized"), *quant = p->node[0] ? join(d, p->node, "_quant") : p->out;
    if (!base || !quant)
        return no_memory(d);
    RQ_TRY(emit(d, "Cast", (label) { base, "_cast" }, (label) { base, "_cast_output" }, RQ_DTYPE_F32, &p->acc, 1,
                &in[0], &cast));
    if (rq_attr_set_int(d->g, cast, "to", TO_FLOAT))
        return no_memory(d);
    if (d->per_row) { /* rows first: [M, 1] times [N] would be as large as the product */
        const rq_id rows[2] = { in[0], p->x_scale };
        in[1] = p->w_scale;
        return emit(d, "Mul", (label) { quant, "_rows_mul" }, (label) { quant, "_rows_mul:0" }, RQ_DTYPE_F32, rows, 2,
                    &in[0], NULL);
    }
    const rq_id scales[2] = { p->x_scale, p->w_scale };
    return emit(d, "Mul", (label) { quant, "_scales_mul" }, (label) { quant, "_scales_mul:0" }, RQ_DTYPE_F32, scales, 2,
                &in[1], NULL);
}

/* beta * C of a Gemm, or RQ_NONE. */
static rq_status addend_of(rq_dynamic *d, rq_id node, rq_id *c)
{
    rq_graph *g = d->g;
    const rq_node *n = &g->nodes[node];
    const float beta = rq_attr_float(n, RQ_WORD_beta, 1);
    *c = rq_rewrite_is(n, "Gemm") && n->n_in > 2 && beta != 0 ? n->in[2] : RQ_NONE;
    if (*c == RQ_NONE || beta == 1)
        return RQ_OK;
    const char *base = g->values[*c].name[0] ? g->values[*c].name : "bias";
    if (g->values[*c].kind == RQ_VALUE_CONST && g->values[*c].constant.dtype == RQ_DTYPE_F32) {
        rq_tensor t;
        if (rq_tensor_copy(&t, &g->values[*c].constant))
            return no_memory(d);
        for (int64_t i = 0, count = rq_tensor_count(&t); i < count; i++)
            t.f32[i] *= beta;
        return add_const(d, (label) { base, "_beta" }, &t, c);
    }
    rq_id in[2] = { *c, RQ_NONE };
    RQ_TRY(rq_rewrite_float(g, beta, base, "_beta", &in[1], d->err));
    return emit(d, "Mul", (label) { base, "_beta_Mul" }, (label) { base, "_times_beta" }, RQ_DTYPE_F32, in, 2, c, NULL);
}

static rq_status transpose_input(rq_dynamic *d, rq_id *x)
{
    const int64_t perm[2] = { 1, 0 };
    const char *base = d->g->values[*x].name[0] ? d->g->values[*x].name : "input";
    rq_id node, t;
    RQ_TRY(emit(d, "Transpose", (label) { base, "_Transpose" }, (label) { base, "_transposed" }, RQ_DTYPE_F32, x, 1, &t,
                &node));
    *x = t;
    return rq_attr_set_ints(d->g, node, "perm", perm, 2) ? no_memory(d) : RQ_OK;
}

/* Scales and zero points of a matrix [.., K, N] along N: [N]; a zero point of batched ones must have all axes. */
static rq_status add_matrix(rq_dynamic *d, const rq_weight *w, bool transposed, float factor, rq_id *codes,
                            rq_id *scale, rq_id *zero)
{
    const char *base = weight_name(d->g, w);
    const rq_shape *s = &w->codes.shape;
    const rq_shape per_column = rq_shape_of(1, &w->q.n);
    rq_shape zeros = per_column;
    if (s->rank > 2) {
        zeros = *s;
        zeros.dim[s->rank - 2] = 1;
    }
    for (int i = 0; i < d->n_matrices; i++) {
        const matrix *m = &d->matrices[i];
        if (m->w == w && m->transposed == transposed && m->factor == factor) {
            *codes = m->codes;
            *scale = m->scale;
            *zero = m->zero;
            return RQ_OK;
        }
    }
    RQ_TRY(add_codes(d, w, base, transposed, codes));
    RQ_TRY(add_scale(d, w, base, &per_column, factor, scale));
    RQ_TRY(add_zero(d, w, base, &zeros, zero));
    if (!rq_mem_grow(&d->matrices, d->n_matrices, &d->cap_matrices, sizeof *d->matrices))
        return no_memory(d);
    d->matrices[d->n_matrices++] = (matrix) { w, transposed, factor, *codes, *scale, *zero };
    return RQ_OK;
}

rq_status rq_dynamic_product(rq_dynamic *d, rq_id node, const rq_weight *w)
{
    rq_graph *g = d->g;
    const bool gemm = rq_rewrite_is(&g->nodes[node], "Gemm");
    const char *name = g->nodes[node].name, *out = g->values[g->nodes[node].out[0]].name;
    product p = { .node = name, .out = out };
    rq_id in[4], c, last[2], x = g->nodes[node].in[0];
    RQ_TRY(addend_of(d, node, &c));
    if (gemm && rq_attr_int(&g->nodes[node], RQ_WORD_transA, 0))
        RQ_TRY(transpose_input(d, &x));
    if (c != RQ_NONE) { /* two nodes, named as the peer splits a Gemm */
        p.node = name[0] ? join(d, name, "_MatMul") : "";
        p.out = join(d, out, "_MatMul");
        if (!p.node || !p.out)
            return no_memory(d);
    } else if (gemm && name[0] && !(p.node = join(d, name, "_MatMul"))) {
        return no_memory(d);
    }
    const bool transposed = gemm && rq_attr_int(&g->nodes[node], RQ_WORD_transB, 0);
    const float alpha = gemm ? rq_attr_float(&g->nodes[node], RQ_WORD_alpha, 1) : 1;
    if (d->per_row) {
        rq_tensor zero; /* could be left out, but OpenVINO wants it */
        const rq_shape scalar = rq_shape_of(0, NULL);
        RQ_TRY(measure_rows(d, x, &in[0], &p.x_scale));
        if (d->row_zero == RQ_NONE) {
            if (rq_tensor_create(&zero, RQ_DTYPE_S8, &scalar, true))
                return no_memory(d);
            RQ_TRY(add_const(d, (label) { "row_zero_point", "" }, &zero, &d->row_zero));
        }
        in[2] = d->row_zero;
    } else {
        RQ_TRY(measure(d, x, &in[0], &p.x_scale, &in[2]));
    }
    RQ_TRY(add_matrix(d, w, transposed, alpha, &in[1], &p.w_scale, &in[3]));
    RQ_TRY(emit(d, "MatMulInteger", (label) { p.node, "_quant" }, (label) { p.out, "_output_quantized" }, RQ_DTYPE_S32,
                in, 4, &p.acc, NULL));
    RQ_TRY(scale_sums(d, &p, last));
    if (c == RQ_NONE)
        return finish(d, node, "Mul", (label) { p.node, "_quant_output_scale_mul" }, last, 2);
    RQ_TRY(emit(d, "Mul", (label) { p.node, "_quant_output_scale_mul" }, (label) { p.out, "" }, RQ_DTYPE_F32, last, 2,
                &last[0], NULL));
    last[1] = c;
    return finish(d, node, "Add", (label) { name, "_Add" }, last, 2);
}

/* ---- Conv ---- */

/* The bias as the result broadcasts it: [1, M, 1 ...]. */
static rq_status add_bias(rq_dynamic *d, rq_id bias, const char *out, int rank, rq_id *made)
{
    rq_graph *g = d->g;
    int64_t dims[RQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        dims[i] = i == 1 ? -1 : 1;
    const rq_value *b = &g->values[bias];
    if (b->kind == RQ_VALUE_CONST) {
        rq_tensor t;
        rq_tensor_share(&t, &b->constant);
        dims[1] = rq_tensor_count(&t);
        t.shape = rq_shape_of(rank, dims);
        return add_const(d, (label) { out, "_bias_reshape_output" }, &t, made);
    }
    rq_id in[2] = { bias, RQ_NONE };
    RQ_TRY(rq_rewrite_ints(g, dims, rank, out, "_bias_reshape_shape", &in[1], d->err));
    return emit(d, "Reshape", (label) { "", "" }, (label) { out, "_bias_reshape_output" }, RQ_DTYPE_F32, in, 2, made,
                NULL);
}

rq_status rq_dynamic_conv(rq_dynamic *d, rq_id node, const rq_weight *w)
{
    rq_graph *g = d->g;
    const char *name = g->nodes[node].name, *out = g->values[g->nodes[node].out[0]].name, *base = weight_name(g, w);
    const rq_id x = g->nodes[node].in[0], bias = g->nodes[node].n_in > 2 ? g->nodes[node].in[2] : RQ_NONE;
    const bool per_row = d->per_row;
    product p = { .node = name, .out = out };
    rq_id in[4], last[2], conv;
    int64_t dims[RQ_MAX_RANK];
    const int rank = w->codes.shape.rank;
    for (int i = 0; i < rank; i++)
        dims[i] = i ? 1 : w->q.n;
    const rq_shape scales = rq_shape_of(rank - 1, dims);
    d->per_row = false; /* a window has no row */
    rq_status s = measure(d, x, &in[0], &p.x_scale, &in[2]);
    if (!s)
        s = add_codes(d, w, base, false, &in[1]);
    if (!s)
        s = add_scale(d, w, base, &scales, 1, &p.w_scale);
    if (!s)
        s = add_zero(d, w, base, NULL, &in[3]);
    if (!s)
        s = emit(d, "ConvInteger", (label) { name, "_quant" }, (label) { out, "_output_quantized" }, RQ_DTYPE_S32, in,
                 4, &p.acc, &conv);
    for (int i = 0; !s && i < g->nodes[node].n_attr; i++)
        s = rq_attr_copy(g, conv, &g->nodes[node].attr[i]) ? no_memory(d) : RQ_OK;
    if (!s)
        s = scale_sums(d, &p, last);
    d->per_row = per_row;
    RQ_TRY(s);
    if (bias == RQ_NONE)
        return finish(d, node, "Mul", (label) { name, "_quant_output_scale_mul" }, last, 2);
    RQ_TRY(emit(d, "Mul", (label) { name, "_quant_output_scale_mul" }, (label) { out, "quant_scaled_output" },
                RQ_DTYPE_F32, last, 2, &last[0], NULL));
    RQ_TRY(add_bias(d, bias, out, rank, &last[1]));
    return finish(d, node, "Add", (label) { out, "_bias_add" }, last, 2);
}

/* ---- recurrent cells ---- */

/* [dirs] or [dirs, gates * hidden]. */
static rq_status add_gates(rq_dynamic *d, const rq_weight *w, rq_id *codes, rq_id *scale, rq_id *zero)
{
    const char *base = weight_name(d->g, w);
    const int64_t dims[2] = { w->codes.shape.dim[0], w->q.n / w->codes.shape.dim[0] };
    const rq_shape shape = rq_shape_of(dims[1] > 1 ? 2 : 1, dims);
    rq_tensor s, z;
    RQ_TRY(add_codes(d, w, base, true, codes));
    if (rq_tensor_create(&s, RQ_DTYPE_F32, &shape, false))
        return no_memory(d);
    memcpy(s.f32, w->q.scale, s.bytes);
    RQ_TRY(add_const(d, (label) { base, "_scale" }, &s, scale));
    if (rq_tensor_create(&z, w->q.dtype, &shape, true))
        return no_memory(d);
    for (int64_t i = 0; i < w->q.n; i++)
        rq_tensor_set(&z, i, w->q.zero_point[i]);
    return add_const(d, (label) { base, "_zero_point" }, &z, zero);
}

/* The operator of a cell: com.microsoft has that of LSTM, we have the others (docs/decisions/0013). */
static const struct cell_row {
    const char *op, *becomes, *domain;
    int n_in; /* in front of the scales */
} cells[] = {
    { "LSTM", "DynamicQuantizeLSTM", "com.microsoft", 8 },
    { "GRU", "DynamicQuantizeGRU", "requant", 6 },
    { "RNN", "DynamicQuantizeRNN", "requant", 6 },
};

rq_status rq_dynamic_cell(rq_dynamic *d, rq_id node, const rq_weight *w, const rq_weight *r)
{
    rq_graph *g = d->g;
    const struct cell_row *c = cells;
    rq_id in[12];
    while (!rq_rewrite_is(&g->nodes[node], c->op))
        c++;
    for (int i = 0; i < c->n_in; i++)
        in[i] = i < g->nodes[node].n_in ? g->nodes[node].in[i] : RQ_NONE;
    RQ_TRY(add_gates(d, w, &in[1], &in[c->n_in], &in[c->n_in + 1]));
    RQ_TRY(add_gates(d, r, &in[2], &in[c->n_in + 2], &in[c->n_in + 3]));
    RQ_TRY(rq_rewrite_become(g, node, c->becomes, in, c->n_in + 4, d->err));
    if (!rq_attr_int(&g->nodes[node], RQ_WORD_layout, 0)) /* DynamicQuantizeLSTM knows no such attribute */
        rq_attr_remove(g, node, "layout");
    const char *domain = rq_graph_str(g, c->domain);
    const char *name = g->nodes[node].name[0] ? rq_rewrite_name(g, g->nodes[node].name, "_quant") : "";
    if (!domain || !name || (!rq_graph_opset(g, domain) && rq_graph_set_opset(g, domain, 1)))
        return no_memory(d);
    g->nodes[node].domain = domain;
    g->nodes[node].name = name;
    return RQ_OK;
}
