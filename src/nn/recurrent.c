/* nn/recurrent.c — LSTM, GRU and multi-head attention: modules that are several nodes. Recurrent weights are kept as ONNX lays them out
 * (directions stacked, gates in its order, both biases in one); nn/state_dict.c gives them PyTorch's names and shapes. */
#include <math.h>
#include <stdio.h>

#include "nn/nn.h"

static rq_nn_value turned(rq_nn *n, const char *path, rq_nn_value x, const int64_t *perm, int rank)
{
    const rq_id node = rq_nn_open(n, path, NULL, "Transpose", &x, 1, 1);
    rq_nn_set_ints(n, node, "perm", perm, rank);
    return rq_nn_close(n, node);
}

static rq_nn_value reshaped(rq_nn *n, const char *path, rq_nn_value x, const int64_t *dim, int rank)
{
    return rq_nn_apply(n, path, NULL, "Reshape", (rq_id[]) { x, rq_nn_ints(n, path, "shape", dim, rank) }, 2);
}

/* ---- LSTM, GRU ---- */

typedef struct recurrent {
    const char *op;
    int64_t gates, size, directions;
    const rq_nn_recurrent *cfg;
    rq_nn_module *m;
} recurrent;

/* Layer l of x [T, N, in]: [T, N, directions * size]; *hidden and *cell its last states. */
static rq_nn_value layer(rq_nn *n, const recurrent *r, int l, rq_nn_value x, rq_nn_value *hidden, rq_nn_value *cell)
{
    char name[32];
    const int64_t in_size = rq_nn_size(n, r->m, x, 2), d = r->directions;
    const double bound = 1 / sqrt((double)r->size);
    const rq_nn_start start = { RQ_NN_INIT_UNIFORM, -bound, bound };
    const bool lstm = r->gates == 4;
    rq_id in[4] = { x, RQ_NONE, RQ_NONE, RQ_NONE };
    if (!in_size)
        return RQ_NN_FAILED;
    snprintf(name, sizeof name, "weight_ih_l%d", l);
    in[1] = rq_nn_param(n, r->m, 3 * l, name, 3, (const int64_t[]) { d, r->gates * r->size, in_size }, start);
    snprintf(name, sizeof name, "weight_hh_l%d", l);
    in[2] = rq_nn_param(n, r->m, 3 * l + 1, name, 3, (const int64_t[]) { d, r->gates * r->size, r->size }, start);
    snprintf(name, sizeof name, "bias_l%d", l);
    if (!r->cfg->no_bias)
        in[3] = rq_nn_param(n, r->m, 3 * l + 2, name, 2, (const int64_t[]) { d, 2 * r->gates * r->size }, start);
    const rq_id node = rq_nn_open(n, r->m->path, NULL, r->op, in, r->cfg->no_bias ? 3 : 4, lstm ? 3 : 2);
    rq_nn_set_int(n, node, "hidden_size", r->size);
    if (d == 2)
        rq_nn_set_string(n, node, "direction", "bidirectional");
    if (!lstm)
        rq_nn_set_int(n, node, "linear_before_reset", 1);
    rq_nn_value y = rq_nn_close(n, node);
    if (y == RQ_NN_FAILED)
        return y;
    *hidden = n->g->nodes[node].out[1];
    *cell = lstm ? n->g->nodes[node].out[2] : RQ_NN_FAILED;
    if (d == 1)
        return rq_nn_apply(n, r->m->path, NULL, "Squeeze",
                           (rq_id[]) { y, rq_nn_ints(n, r->m->path, "axes", (const int64_t[]) { 1 }, 1) }, 2);
    y = turned(n, r->m->path, y, (const int64_t[]) { 0, 2, 1, 3 }, 4);
    return reshaped(n, r->m->path, y, (const int64_t[]) { 0, 0, d * r->size }, 3);
}

static void put_states(rq_nn *n, const rq_nn_module *m, rq_nn_value *out, const rq_nn_value *x, int count)
{
    if (!out)
        return;
    *out = x[0];
    if (count > 1) {
        const rq_id node = rq_nn_open(n, m->path, NULL, "Concat", x, count, 1);
        rq_nn_set_int(n, node, "axis", 0);
        *out = rq_nn_close(n, node);
    }
}

static rq_nn_value recurrent_of(rq_nn *n, const char *name, const char *type, int64_t gates, rq_nn_value x,
                                int64_t size, const rq_nn_recurrent *cfg)
{
    enum { MOST_LAYERS = RQ_NN_PARAMS / 3 };
    static const rq_nn_recurrent none;
    static const int64_t swap[3] = { 1, 0, 2 };
    rq_nn_value hidden[MOST_LAYERS], cell[MOST_LAYERS];
    char text[RQ_SHAPE_TEXT];
    if (!cfg)
        cfg = &none;
    const int layers = cfg->layers ? cfg->layers : 1;
    const rq_shape s = rq_nn_shape(n, x);
    const int64_t key[] = {
        s.rank == 3 ? s.dim[2] : 0, size, layers, cfg->no_bias, cfg->bidirectional, cfg->batch_first
    };
    rq_nn_module *m = rq_nn_use(n, name, type, key, 6, &x, 1);
    if (cfg->hidden)
        *cfg->hidden = RQ_NN_FAILED;
    if (cfg->cell)
        *cfg->cell = RQ_NN_FAILED;
    if (!m)
        return RQ_NN_FAILED;
    if (s.rank != 3)
        return rq_nn_bad(n, m, RQ_BAD_SHAPE, "its input has shape %s, expected rank 3",
                         rq_shape_text(&s, text, sizeof text));
    if (size < 1 || layers < 1 || layers > MOST_LAYERS)
        return rq_nn_bad(n, m, RQ_BAD_ARG, "size %lld, %d layers: expected at least 1, and 1 to %d", (long long)size,
                         layers, MOST_LAYERS);
    const recurrent r = { type, gates, size, cfg->bidirectional ? 2 : 1, cfg, m };
    if (cfg->batch_first)
        x = turned(n, m->path, x, swap, 3);
    for (int l = 0; l < layers && x != RQ_NN_FAILED; l++)
        x = layer(n, &r, l, x, &hidden[l], &cell[l]);
    if (x == RQ_NN_FAILED)
        return x;
    put_states(n, m, cfg->hidden, hidden, layers);
    if (gates == 4)
        put_states(n, m, cfg->cell, cell, layers);
    return cfg->batch_first ? turned(n, m->path, x, swap, 3) : x;
}

rq_nn_value rq_nn_lstm(rq_nn *n, const char *name, rq_nn_value x, int64_t size, const rq_nn_recurrent *cfg)
{
    return recurrent_of(n, name, "LSTM", 4, x, size, cfg);
}

rq_nn_value rq_nn_gru(rq_nn *n, const char *name, rq_nn_value x, int64_t size, const rq_nn_recurrent *cfg)
{
    return recurrent_of(n, name, "GRU", 3, x, size, cfg);
}

/* ---- attention (Vaswani et al., NeurIPS 2017, section 3.2.2) ---- */

/* Rows 0..E-1 of the projection for q, E..2E-1 for k, the rest for v: of one tensor at once where the three are the same. */
static void project(rq_nn *n, const char *path, const rq_nn_value in[3], rq_id weight, rq_id bias, rq_nn_value out[3])
{
    rq_nn_value w[3], b[3] = { RQ_NONE, RQ_NONE, RQ_NONE };
    const bool same = in[0] == in[1] && in[1] == in[2];
    for (int i = 0; i < 3; i++)
        out[i] = RQ_NN_FAILED;
    rq_nn_value whole = same ? rq_nn_product(n, path, in[0], weight, bias) : weight;
    const rq_id cut = rq_nn_open(n, path, NULL, "Split", &whole, 1, 3);
    rq_nn_set_int(n, cut, "axis", same ? 2 : 0);
    rq_nn_set_int(n, cut, "num_outputs", 3);
    if (rq_nn_close(n, cut) == RQ_NN_FAILED)
        return;
    for (int i = 0; i < 3; i++)
        w[i] = n->g->nodes[cut].out[i];
    if (same) {
        for (int i = 0; i < 3; i++)
            out[i] = w[i];
        return;
    }
    if (bias != RQ_NONE) {
        const rq_id cut_bias = rq_nn_open(n, path, NULL, "Split", &bias, 1, 3);
        rq_nn_set_int(n, cut_bias, "axis", 0);
        rq_nn_set_int(n, cut_bias, "num_outputs", 3);
        if (rq_nn_close(n, cut_bias) == RQ_NN_FAILED)
            return;
        for (int i = 0; i < 3; i++)
            b[i] = n->g->nodes[cut_bias].out[i];
    }
    for (int i = 0; i < 3; i++)
        out[i] = rq_nn_product(n, path, in[i], w[i], b[i]);
}

rq_nn_value rq_nn_multihead_attention(rq_nn *n, const char *name, rq_nn_value q, rq_nn_value k, rq_nn_value v,
                                      int64_t heads, const rq_nn_attention *cfg)
{
    const bool bias = !(cfg && cfg->no_bias), batch_first = cfg && cfg->batch_first;
    const rq_shape s = rq_nn_shape(n, q), ks = rq_nn_shape(n, k), vs = rq_nn_shape(n, v);
    const int64_t e = s.rank == 3 ? s.dim[2] : 0;
    const rq_nn_value in[3] = { q, k, v };
    rq_nn_value p[3];
    char inner[RQ_NN_PATH + 16];
    rq_nn_module *m =
        rq_nn_use(n, name, "MultiheadAttention", (const int64_t[]) { e, heads, bias, batch_first }, 4, in, 3);
    if (!m)
        return RQ_NN_FAILED;
    if (s.rank != 3 || ks.rank != 3 || vs.rank != 3 || ks.dim[2] != e || vs.dim[2] != e)
        return rq_nn_bad(n, m, RQ_BAD_SHAPE,
                         "query, key and value have rank %d, %d, %d, expected 3, and one size of the last axis", s.rank,
                         ks.rank, vs.rank);
    if (!rq_nn_size(n, m, q, 2))
        return RQ_NN_FAILED;
    if (heads < 1 || e % heads)
        return rq_nn_bad(n, m, RQ_BAD_ARG, "%lld heads do not divide %lld numbers", (long long)heads, (long long)e);
    const rq_nn_start zero = { RQ_NN_INIT_CONSTANT, 0, 0 }, xavier = { RQ_NN_INIT_XAVIER_UNIFORM, 1, 0 },
                      kaiming = { RQ_NN_INIT_KAIMING_UNIFORM, 2.23606797749978969641, 0 };
    const int64_t e3 = 3 * e, d = e / heads;
    const rq_id w = rq_nn_param(n, m, 0, "in_proj_weight", 2, (const int64_t[]) { e3, e }, xavier);
    const rq_id b = bias ? rq_nn_param(n, m, 1, "in_proj_bias", 1, &e3, zero) : RQ_NONE;
    const rq_id wo = rq_nn_param(n, m, 2, "out_proj.weight", 2, (const int64_t[]) { e, e }, kaiming);
    const rq_id bo = bias ? rq_nn_param(n, m, 3, "out_proj.bias", 1, &e, zero) : RQ_NONE;
    const char *path = m->path;
    project(n, path, in, w, b, p);
    /* [N, L, heads, d] -> [N, heads, L, d]; of the key [N, heads, d, L] */
    static const int64_t batch[4] = { 0, 2, 1, 3 }, time[4] = { 1, 2, 0, 3 }, batch_key[4] = { 0, 2, 3, 1 },
                         time_key[4] = { 1, 2, 3, 0 }, back[4] = { 2, 0, 1, 3 };
    for (int i = 0; i < 3; i++) {
        p[i] = reshaped(n, path, p[i], (const int64_t[]) { 0, 0, heads, d }, 4);
        p[i] = turned(n, path, p[i], i == 1 ? batch_first ? batch_key : time_key : batch_first ? batch : time, 4);
    }
    const float scale = (float)(1 / sqrt((double)d));
    const rq_nn_value scaled =
        rq_nn_apply(n, path, NULL, "Mul", (rq_id[]) { p[0], rq_nn_floats(n, path, "scale", 0, &scale, 1) }, 2);
    const rq_nn_value scores = rq_nn_apply(n, path, NULL, "MatMul", (rq_id[]) { scaled, p[1] }, 2);
    const rq_id soft = rq_nn_open(n, path, NULL, "Softmax", &scores, 1, 1);
    rq_nn_set_int(n, soft, "axis", -1);
    const rq_nn_value shares = rq_nn_close(n, soft);
    rq_nn_value y = rq_nn_apply(n, path, NULL, "MatMul", (rq_id[]) { shares, p[2] }, 2);
    y = turned(n, path, y, batch_first ? batch : back, 4);
    y = reshaped(n, path, y, (const int64_t[]) { 0, 0, e }, 3);
    snprintf(inner, sizeof inner, "%s.out_proj", path);
    return rq_nn_product(n, inner, y, wo, bo);
}
