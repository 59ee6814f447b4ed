/* formats/mil_emit_codes.c — QuantizeLinear and DequantizeLinear of a graph that is to be a program, simplified as coremltools simplifies those
 * of a model it converts, without changing a code or a real: reshapes between a pair carry codes, a pair that rounds what was rounded
 * alike goes, and codes whose zero point is in the middle of their range are those of the other sign without one. Then what of the settings will
 * not run well is said. */
#include <inttypes.h>
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "graph/query.h"
#include "ops/op.h"

static const rq_tensor *const_of(const rq_graph *g, rq_id v)
{
    return rq_graph_is_const(g, v) ? &g->values[v].constant : NULL;
}

/* Zero points of a Q or DQ: all are *zero. */
static bool one_zero(const rq_graph *g, const rq_node *n, int64_t *zero)
{
    const rq_id id = rq_node_in(n, 2);
    const rq_tensor *t = const_of(g, id);
    *zero = 0;
    if (id == RQ_NONE)
        return true;
    if (!t || !rq_dtype_is_integer(t->dtype) || !rq_tensor_count(t))
        return false;
    *zero = rq_tensor_get_int(t, 0);
    for (int64_t i = 1; i < rq_tensor_count(t); i++)
        if (rq_tensor_get_int(t, i) != *zero)
            return false;
    return true;
}

static bool is_one_scale(const rq_graph *g, const rq_node *n)
{
    const rq_tensor *t = const_of(g, rq_node_in(n, 1));
    return t && rq_tensor_count(t) == 1;
}

/* Do a DequantizeLinear and a QuantizeLinear have the same parameters and codes? */
static bool are_alike(const rq_graph *g, const rq_node *dq, const rq_node *q)
{
    const rq_tensor *a = const_of(g, rq_node_in(dq, 1)), *b = const_of(g, rq_node_in(q, 1));
    const rq_tensor *x = const_of(g, rq_node_in(dq, 2)), *y = const_of(g, rq_node_in(q, 2));
    int64_t zx, zy;
    if (!a || !b || a->dtype != b->dtype || rq_tensor_count(a) != rq_tensor_count(b) ||
        memcmp(a->data, b->data, a->bytes) != 0 || g->values[dq->in[0]].dtype != g->values[q->out[0]].dtype)
        return false;
    const bool zeros = one_zero(g, dq, &zx) && one_zero(g, q, &zy)
                           ? zx == zy
                           : x && y && rq_tensor_count(x) == rq_tensor_count(y) && x->dtype == y->dtype &&
                                 !memcmp(x->data, y->data, x->bytes);
    const int rank = g->values[q->in[0]].shape.rank;
    const bool axes =
        rq_tensor_count(a) == 1 || (rank > 0 &&
                                    rq_infer_axis(rq_attr_int(dq, RQ_WORD_axis, 1), rank) ==
                                        rq_infer_axis(rq_attr_int(q, RQ_WORD_axis, 1), rank) &&
                                    rq_attr_int(dq, RQ_WORD_block_size, 0) == rq_attr_int(q, RQ_WORD_block_size, 0));
    return zeros && axes;
}

static const rq_node *producer_of(const rq_graph *g, rq_id v)
{
    return v != RQ_NONE && g->values[v].kind == RQ_VALUE_NODE ? &g->nodes[g->values[v].producer] : NULL;
}

/* Does it give the elements of its input in their order? */
static bool is_reshape(const rq_node *n)
{
    return rq_node_is(n, "Reshape") || rq_node_is(n, "Flatten") || rq_node_is(n, "Squeeze") ||
           rq_node_is(n, "Unsqueeze");
}

static bool is_quantize(const rq_graph *g, const rq_node *n)
{
    return rq_node_is(n, "QuantizeLinear") && n->in[0] != RQ_NONE && rq_node_out(n, 0) != RQ_NONE &&
           !rq_graph_is_output(g, n->out[0]);
}

/* DequantizeLinear -> reshape -> QuantizeLinear of one scale, each with one reader: the reshape takes codes. */
static rq_status carry_codes(rq_graph *g, rq_id node)
{
    const rq_node *q = &g->nodes[node], *move = producer_of(g, q->in[0]);
    const rq_node *dq = move && is_reshape(move) ? producer_of(g, move->in[0]) : NULL;
    if (!dq || !rq_node_is(dq, "DequantizeLinear") || !is_one_scale(g, dq) || !are_alike(g, dq, q) ||
        const_of(g, dq->in[0]) || rq_graph_uses(g, move->out[0], NULL, 0) != 1 ||
        rq_graph_uses(g, dq->out[0], NULL, 0) != 1)
        return RQ_OK;
    const rq_id y = move->out[0], codes = q->out[0], from = dq->in[0];
    RQ_TRY(rq_graph_set_input(g, g->values[y].producer, 0, from));
    g->values[y].dtype = g->values[codes].dtype;
    rq_graph_replace_uses(g, codes, y, RQ_NONE);
    rq_graph_remove_node(g, node);
    return RQ_OK;
}

/* DequantizeLinear -> QuantizeLinear with the same parameters: who reads the second reads the codes of the first. */
static void join(rq_graph *g, rq_id node)
{
    const rq_node *q = &g->nodes[node], *dq = producer_of(g, q->in[0]);
    if (!dq || !rq_node_is(dq, "DequantizeLinear") || rq_graph_is_output(g, dq->out[0]) || !are_alike(g, dq, q))
        return;
    const rq_id from = dq->in[0];
    rq_graph_replace_uses(g, q->out[0], from, RQ_NONE);
    rq_graph_remove_node(g, node);
}

/* Are all readers of v DequantizeLinear with this zero point? Their ids go to *readers (of the arena). */
static int plain_readers(const rq_graph *g, rq_id v, int64_t zero, rq_arena *a, rq_id **readers)
{
    const int n = rq_graph_uses(g, v, NULL, 0);
    *readers = rq_arena_alloc(a, (size_t)n + 1, sizeof **readers);
    if (!*readers)
        return -1;
    rq_graph_uses(g, v, *readers, n);
    for (int i = 0; i < n; i++) {
        int64_t own;
        const rq_node *r = &g->nodes[(*readers)[i]];
        if (!rq_node_is(r, "DequantizeLinear") || r->in[0] != v || !one_zero(g, r, &own) || own != zero)
            return 0;
    }
    return n;
}

/* uint8 around 128 is int8, int8 from -128 is uint8, both without a zero point. */
static rq_status drop_middle(rq_mil_ready *r, rq_id node, rq_err *err)
{
    rq_graph *g = r->g;
    const rq_node *q = &g->nodes[node];
    const rq_id codes = q->out[0];
    const rq_dtype d = g->values[codes].dtype;
    int64_t zero;
    rq_id *readers, made;
    rq_tensor zeros;
    if (!one_zero(g, q, &zero) || !((d == RQ_DTYPE_U8 && zero == 128) || (d == RQ_DTYPE_S8 && zero == -128)))
        return RQ_OK;
    const int n = plain_readers(g, codes, zero, &r->a, &readers);
    if (n < 0)
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to write the program");
    if (!n)
        return RQ_OK;
    const rq_dtype to = d == RQ_DTYPE_U8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
    if (rq_tensor_create(&zeros, to, &const_of(g, q->in[2])->shape, true))
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to write the program");
    const rq_status st = rq_graph_add_const(g, &made, NULL, &zeros, err);
    rq_tensor_release(&zeros);
    RQ_TRY(st);
    rq_attr_remove(g, node, "output_dtype");
    RQ_TRY(rq_graph_set_input(g, node, 2, made));
    for (int i = 0; i < n; i++)
        RQ_TRY(rq_graph_set_input(g, readers[i], 2, made));
    g->values[codes].dtype = to;
    return RQ_OK;
}

rq_status rq_mil_ready_codes(rq_mil_ready *r, rq_err *err)
{
    rq_graph *g = r->g;
    rq_status st = RQ_OK;
    rq_ops_bind(g);
    for (rq_id i = 0; i < g->n_nodes && !st; i++)
        if (is_quantize(g, &g->nodes[i]))
            st = carry_codes(g, i);
    for (rq_id i = 0; i < g->n_nodes && !st; i++)
        if (is_quantize(g, &g->nodes[i]))
            st = drop_middle(r, i, err);
    for (rq_id i = 0; i < g->n_nodes && !st; i++)
        if (is_quantize(g, &g->nodes[i]))
            join(g, i);
    return st == RQ_NO_MEMORY ? rq_fail(err, st, "not enough memory to write the program") : st;
}

/* ---- advice ---- */

/* How many of a kind, and the first. */
typedef struct found {
    int n;
    const char *name;
} found;

static void count(found *f, const char *name)
{
    if (!f->n++)
        f->name = name;
}

static bool is_product(const rq_node *n)
{
    return n->row && n->row->place == RQ_PLACE_WEIGHTED;
}

static const rq_node *reader_of(const rq_graph *g, rq_id v)
{
    rq_id user = RQ_NONE;
    return rq_graph_uses(g, v, &user, 1) == 1 && user != RQ_NONE ? &g->nodes[user] : NULL;
}

static bool is_activation(const rq_node *n)
{
    static const char *const ops[] = { "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Clip" };
    bool is = false;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        is = is || rq_node_is(n, ops[i]);
    return is;
}

/* Does the output of a product, or of the activation behind it, stay unrounded where more follows? */
static bool is_open(const rq_graph *g, const rq_node *n)
{
    const rq_node *next = reader_of(g, n->out[0]);
    if (next && is_activation(next))
        next = reader_of(g, next->out[0]);
    /* an output of the graph may stay in float, and several readers may each have a pair */
    return next && !rq_node_is(next, "QuantizeLinear");
}

void rq_mil_ready_advise(rq_mil_ready *r)
{
    const rq_graph *g = r->g;
    found shifted = { 0 }, whole = { 0 }, skewed = { 0 }, open = { 0 };
    int64_t zero;
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op || !n->n_out || n->out[0] == RQ_NONE)
            continue;
        const rq_tensor *codes = rq_node_is(n, "DequantizeLinear") ? const_of(g, n->in[0]) : NULL;
        if (codes && codes->shape.rank > 1) {
            const int64_t middle = codes->dtype == RQ_DTYPE_U8 ? 128 : codes->dtype == RQ_DTYPE_U4 ? 8 : 0;
            if (!one_zero(g, n, &zero) || (zero && zero != middle))
                count(&shifted, g->values[n->in[0]].name);
            if (is_one_scale(g, n) && codes->shape.dim[0] > 1)
                count(&whole, g->values[n->in[0]].name);
        } else if (rq_node_is(n, "QuantizeLinear")) {
            if (!one_zero(g, n, &zero) || zero)
                count(&skewed, g->values[n->in[0]].name);
        } else if (is_product(n)) {
            const rq_node *x = producer_of(g, rq_node_in(n, 0)), *w = producer_of(g, rq_node_in(n, 1));
            if (x && w && rq_node_is(x, "DequantizeLinear") && rq_node_is(w, "DequantizeLinear") &&
                !const_of(g, x->in[0]) && is_open(g, n))
                count(&open, g->values[n->out[0]].name);
        }
    }
    if (shifted.n)
        rq_mil_note(&r->notes,
                    "weights with zero points: %d, the first is '%.100s'; Core ML's fast paths want symmetric weights, "
                    "int8 with zero "
                    "point 0",
                    shifted.n, shifted.name);
    if (whole.n)
        rq_mil_note(&r->notes,
                    "weights with one scale for all of it: %d, the first is '%.100s'; one per output channel loses "
                    "less and runs as fast",
                    whole.n, whole.name);
    if (skewed.n)
        rq_mil_note(&r->notes,
                    "activations with a zero point inside their range: %d, the first is '%.100s'; PyTorch's defaults "
                    "choose so, Core ML's "
                    "fast paths want symmetric codes, int8 around 0 or uint8 from 0",
                    skewed.n, skewed.name);
    if (open.n)
        rq_mil_note(&r->notes,
                    "quantized layers whose output is not: %d, the first is '%.100s'; Core ML computes a layer in "
                    "integers only where "
                    "its output is quantized, too",
                    open.n, open.name);
}
