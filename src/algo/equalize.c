/* algo/equalize.c — see equalize.h. */
#include "algo/equalize.h"

#include <math.h>
#include <string.h>

#include "base/libm.h"
#include "graph/query.h"
#include "ops/op.h"

/* No channel is scaled more than this against the average: one that samples hardly woke may wake later. */
static const double most_factor = 1024;

/* ---- layers that can be first or second ---- */

/* A constant float operand that nobody else uses. */
static const rq_tensor *own_constant(const rq_graph *g, const rq_node *n, int i)
{
    if (i >= n->n_in || n->in[i] == RQ_NONE)
        return NULL;
    const rq_value *v = &g->values[n->in[i]];
    if (v->kind != RQ_VALUE_CONST || v->constant.dtype != RQ_DTYPE_F32 || v->quant != RQ_NONE ||
        rq_graph_uses(g, n->in[i], NULL, 0) != 1)
        return NULL;
    return &v->constant;
}

static bool is_gemm(const rq_node *n)
{
    return rq_node_is(n, "Gemm") && !rq_attr_int(n, RQ_WORD_transA, 0) && rq_attr_float(n, RQ_WORD_alpha, 1) == 1 &&
           rq_attr_float(n, RQ_WORD_beta, 1) == 1;
}

/* Output channels of a layer that can be first: its weight and bias are constants of its own; 0: it cannot. */
static int64_t channels_made(const rq_graph *g, const rq_node *n)
{
    const rq_tensor *w = own_constant(g, n, 1);
    if (!w || (!rq_node_is(n, "Conv") && !is_gemm(n)))
        return 0;
    int64_t c = rq_node_is(n, "Conv") || rq_attr_int(n, RQ_WORD_transB, 0) ? w->shape.dim[0] : w->shape.dim[1];
    bool has_bias = n->n_in > 2 && n->in[2] != RQ_NONE;
    const rq_tensor *b = own_constant(g, n, 2);
    /* [M, 1] is a number per row, even where M is c */
    return !has_bias || (b && rq_tensor_count(b) == c && (c == 1 || b->shape.dim[b->shape.rank - 1] == c)) ? c : 0;
}

/* How the elements of a second layer's weight depend on input channels. */
typedef struct uses {
    int64_t outer, groups, per_out, inner; /* element [o][j][i]: channel (o / per_group) * per_out + j */
    int64_t per_group;
    bool rows;           /* Gemm without transB, MatMul: [K][N], channel by row */
    int64_t per_channel; /* rows or columns that one channel feeds, after a Flatten */
    bool depthwise;
} uses;

static bool uses_of(const rq_graph *g, const rq_node *n, int64_t channels, uses *u)
{
    const rq_tensor *w = own_constant(g, n, 1);
    *u = (uses) { .groups = 1, .per_channel = 1 };
    if (!w)
        return false;
    if (rq_node_is(n, "Conv")) {
        u->groups = rq_attr_int(n, RQ_WORD_group, 1);
        u->outer = w->shape.dim[0];
        u->per_out = w->shape.dim[1];
        u->inner = rq_shape_span(&w->shape, 2, w->shape.rank);
        if (u->groups < 1 || u->outer % u->groups || u->per_out * u->groups != channels)
            return false;
        u->per_group = u->outer / u->groups;
        u->depthwise = u->per_out == 1;
        return true;
    }
    if (!is_gemm(n) && !(rq_node_is(n, "MatMul") && w->shape.rank == 2))
        return false;
    u->rows = rq_node_is(n, "MatMul") || !rq_attr_int(n, RQ_WORD_transB, 0);
    int64_t k = w->shape.dim[u->rows ? 0 : 1];
    u->outer = u->rows ? k : w->shape.dim[0];
    u->per_out = u->rows ? w->shape.dim[1] : k;
    u->per_channel = k / channels;
    return k % channels == 0;
}

/* Input channel of element i of the weight. */
static int64_t channel_at(const uses *u, int64_t i)
{
    if (u->inner) /* Conv */
        return i / u->inner / u->per_out / u->per_group * u->per_out + i / u->inner % u->per_out;
    return (u->rows ? i / u->per_out : i % u->per_out) / u->per_channel;
}

/* ---- pairs ---- */

/* f(s x) = s f(x) for s > 0, channel by channel? */
static bool is_homogeneous(const rq_node *n)
{
    static const char *const ops[] = { "Relu",          "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
                                       "GlobalMaxPool", "Flatten",   "Identity" };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (rq_node_is(n, ops[i]))
            return !rq_node_is(n, "Flatten") || rq_attr_int(n, RQ_WORD_axis, 1) == 1;
    return false;
}

/* Follow the only user of each value from y to the next layer; RQ_NONE: there is none. *value is what it reads. */
static rq_id next_layer(const rq_graph *g, rq_id y, rq_id *value)
{
    for (;;) {
        rq_id user;
        if (rq_graph_is_output(g, y) || rq_graph_uses(g, y, &user, 1) != 1)
            return RQ_NONE;
        const rq_node *n = &g->nodes[user];
        if (n->n_in < 1 || n->in[0] != y)
            return RQ_NONE;
        *value = y;
        if (!is_homogeneous(n))
            return user;
        if (n->n_out < 1 || n->out[0] == RQ_NONE)
            return RQ_NONE;
        y = n->out[0];
    }
}

rq_status rq_equalize_find(const rq_graph *g, rq_equalize_pair **pairs, int *n, rq_err *err)
{
    int cap = 0;
    *pairs = NULL;
    *n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (!g->nodes[i].op)
            continue;
        rq_equalize_pair p = { .first = i, .channels = channels_made(g, &g->nodes[i]) };
        uses u;
        if (p.channels < 2)
            continue;
        p.second = next_layer(g, g->nodes[i].out[0], &p.value);
        if (p.second == RQ_NONE || !uses_of(g, &g->nodes[p.second], p.channels, &u))
            continue;
        if (u.per_channel != 1) { /* a Flatten has mixed axis 1: the observer could not tell channels apart */
            p.value = g->nodes[g->values[p.value].producer].in[0];
            if (p.value == RQ_NONE)
                continue;
        }
        if (!rq_mem_grow(pairs, *n, &cap, sizeof **pairs)) {
            rq_mem_free(*pairs);
            *pairs = NULL;
            return rq_fail(err, RQ_NO_MEMORY, "out of memory equalizing layers");
        }
        (*pairs)[(*n)++] = p;
    }
    return RQ_OK;
}

double rq_equalize_factors(const rq_graph *g, const rq_equalize_pair *p, const double *reach, double *s)
{
    const rq_node *second = &g->nodes[p->second];
    const rq_tensor *w = own_constant(g, second, 1);
    uses u;
    double logs = 0;
    int64_t awake = 0;
    if (!w || !uses_of(g, second, p->channels, &u))
        return 1;
    for (int64_t c = 0; c < p->channels; c++)
        s[c] = 0;
    for (int64_t i = 0, n = rq_tensor_count(w); i < n; i++) {
        double m = fabsf(w->f32[i]);
        int64_t c = channel_at(&u, i);
        s[c] = m > s[c] ? m : s[c];
    }
    for (int64_t c = 0; c < p->channels; c++) {
        bool live = reach[c] > 0 && s[c] > 0 && isfinite(reach[c]) && isfinite(s[c]);
        s[c] = !live ? 0 : u.depthwise ? reach[c] : sqrt(reach[c] / s[c]);
        if (s[c] > 0) {
            logs += rq_libm_log(s[c]);
            awake++;
        }
    }
    double mean = awake ? rq_libm_exp(logs / (double)awake) : 1, least = INFINITY, most = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        s[c] = s[c] > 0 ? fmin(fmax(s[c] / mean, 1 / most_factor), most_factor) : 1;
        s[c] = ldexp(1, (int)rint(rq_libm_log2(s[c])));
        least = fmin(least, s[c]);
        most = fmax(most, s[c]);
    }
    return most / least;
}

/* ---- applying ---- */

static rq_status replace(rq_graph *g, rq_id value, rq_tensor *t)
{
    rq_tensor_release(&g->values[value].constant);
    g->values[value].constant = *t;
    return RQ_OK;
}

static rq_status divide_first(rq_graph *g, const rq_node *n, const double *s, int64_t channels)
{
    for (int k = 1; k <= 2; k++) {
        const rq_tensor *from = own_constant(g, n, k);
        rq_tensor t;
        if (!from)
            continue;
        RQ_TRY(rq_tensor_copy(&t, from));
        int64_t count = rq_tensor_count(&t);
        bool columns = k == 1 && is_gemm(n) && !rq_attr_int(n, RQ_WORD_transB, 0);
        for (int64_t i = 0; i < count; i++)
            t.f32[i] /= (float)s[columns ? i % channels : i / (count / channels)];
        RQ_TRY(replace(g, n->in[k], &t));
    }
    return RQ_OK;
}

rq_status rq_equalize_apply(rq_graph *g, const rq_equalize_pair *p, const double *s, rq_err *err)
{
    const rq_node *second = &g->nodes[p->second];
    const rq_tensor *w = own_constant(g, second, 1);
    uses u;
    rq_tensor t;
    if (!w || !uses_of(g, second, p->channels, &u))
        return RQ_OK;
    rq_status st = divide_first(g, &g->nodes[p->first], s, p->channels);
    if (!st)
        st = rq_tensor_copy(&t, w);
    if (st)
        return rq_fail(err, st, "out of memory equalizing '%s'", second->name);
    for (int64_t i = 0, n = rq_tensor_count(&t); i < n; i++)
        t.f32[i] *= (float)s[channel_at(&u, i)];
    return replace(g, second->in[1], &t);
}

/* ---- by weights alone ---- */

/* Largest magnitude of the weights that make each channel. */
static void reach_of_first(const rq_graph *g, const rq_equalize_pair *p, double *reach)
{
    const rq_node *n = &g->nodes[p->first];
    const rq_tensor *w = own_constant(g, n, 1);
    for (int64_t c = 0; c < p->channels; c++)
        reach[c] = 0;
    if (!w)
        return;
    const int64_t count = rq_tensor_count(w);
    const bool columns = is_gemm(n) && !rq_attr_int(n, RQ_WORD_transB, 0);
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = columns ? i % p->channels : i / (count / p->channels);
        reach[c] = fmax(reach[c], fabsf(w->f32[i]));
    }
}

void rq_equalize_mark(const rq_graph *g, const rq_equalize_pair *p, bool *set)
{
    rq_id v = g->nodes[p->first].out[0], user;
    while (v != RQ_NONE) {
        set[v] = true;
        if (rq_graph_uses(g, v, &user, 1) != 1 || user == p->second)
            return;
        v = g->nodes[user].out[0];
    }
}

rq_status rq_equalize_weights(rq_graph *g, bool *set, int *done, rq_err *err)
{
    rq_equalize_pair *pairs;
    int n;
    *done = 0;
    RQ_TRY(rq_equalize_find(g, &pairs, &n, err));
    rq_status s = RQ_OK;
    for (int i = 0; i < n && !s; i++) {
        double *f = rq_mem_alloc((size_t)pairs[i].channels * 2, sizeof *f);
        if (!f) {
            s = rq_fail(err, RQ_NO_MEMORY, "out of memory equalizing layers");
            break;
        }
        reach_of_first(g, &pairs[i], f + pairs[i].channels);
        if (rq_equalize_factors(g, &pairs[i], f + pairs[i].channels, f) > 16) {
            s = rq_equalize_apply(g, &pairs[i], f, err);
            rq_equalize_mark(g, &pairs[i], set);
            ++*done;
        }
        rq_mem_free(f);
    }
    rq_mem_free(pairs);
    return s;
}
