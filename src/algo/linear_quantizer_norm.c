/* algo/linear_quantizer_norm.c — normalizations that an exporter wrote out as arithmetic (docs/coreml-facts.md 2). LayerNorm is no layer that is
 * quantized, and its mean and variance in 256 steps would be none; so what stands for it in smaller operators is left in floats as well:
 *
 *   (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * gamma + beta
 *
 * and what says the same: sums times 1 / n, mean(x^2) - mean(x)^2, a reciprocal root, gamma beside the root, no mean (RMSNorm). Found from the root
 * back to what is averaged, and on to where x meets it. */
#include <math.h>
#include <string.h>

#include "algo/linear_quantizer.h"
#include "graph/query.h"

enum { DEPTH = 16, MOST = 48 };

typedef struct walk {
    const rq_graph *g;
    rq_id node[MOST]; /* of the normalization */
    int n;
    rq_id x; /* what is normalized, or RQ_NONE: not seen yet */
} walk;

static bool is_one_of(const rq_node *n, const char *const *ops)
{
    for (; *ops; ops++)
        if (rq_node_is(n, *ops))
            return true;
    return false;
}

static bool has(const walk *w, rq_id node)
{
    for (int i = 0; i < w->n; i++)
        if (w->node[i] == node)
            return true;
    return false;
}

static bool take(walk *w, rq_id node)
{
    if (has(w, node))
        return true;
    if (w->n == MOST)
        return false;
    w->node[w->n++] = node;
    return true;
}

static rq_id maker(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].kind == RQ_VALUE_NODE ? g->values[v].producer : RQ_NONE;
}

/* The one number that v holds; NaN: it holds none. */
static double number(const rq_graph *g, rq_id v)
{
    return rq_graph_is_const(g, v) && rq_tensor_count(&g->values[v].constant) == 1
               ? rq_tensor_get(&g->values[v].constant, 0)
               : (double)NAN;
}

static bool is_power(const rq_graph *g, const rq_node *n, double power)
{
    return rq_node_is(n, "Pow") && number(g, rq_node_in(n, 1)) == power;
}

static bool is_square(const rq_graph *g, const rq_node *n)
{
    return is_power(g, n, 2) || (rq_node_is(n, "Mul") && n->n_in == 2 && n->in[0] == n->in[1]);
}

static bool is_mean(const rq_node *n)
{
    static const char *const ops[] = { "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", NULL };
    return is_one_of(n, ops);
}

static bool statistic(walk *w, rq_id v, int depth);

/* v is averaged: it is x, x - mean(x), or the square of either. */
static bool averaged(walk *w, rq_id v, int depth)
{
    const rq_graph *g = w->g;
    rq_id at = maker(g, v);
    if (at >= 0 && is_square(g, &g->nodes[at])) {
        if (!take(w, at))
            return false;
        v = g->nodes[at].in[0];
        at = maker(g, v);
    }
    if (at >= 0 && rq_node_is(&g->nodes[at], "Sub")) {
        const walk before = *w;
        const rq_id x = g->nodes[at].in[0];
        if (take(w, at) && statistic(w, g->nodes[at].in[1], depth + 1) && w->x == x)
            return true;
        *w = before; /* a difference, but not to its mean: that is x */
    }
    if (w->x == RQ_NONE)
        w->x = v;
    return w->x == v;
}

/* Is v a mean, or made of means and constants alone? Their nodes are taken. */
static bool statistic(walk *w, rq_id v, int depth)
{
    static const char *const ops[] = { "Add",     "Sub",    "Mul",  "Div",      "Max",     "Clip",      "Sqrt", "Pow",
                                       "Reshape", "Expand", "Cast", "Identity", "Squeeze", "Unsqueeze", "Abs",  NULL };
    if (rq_graph_is_const(w->g, v))
        return true;
    const rq_id at = maker(w->g, v);
    if (at < 0 || depth > DEPTH || !take(w, at))
        return false;
    const rq_node *n = &w->g->nodes[at];
    if (is_mean(n))
        return averaged(w, n->in[0], depth + 1);
    if (!is_one_of(n, ops))
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && w->g->values[n->in[i]].dtype == RQ_DTYPE_F32 && !statistic(w, n->in[i], depth + 1))
            return false;
    return true;
}

/* Is v x, or x - mean(x)? */
static bool is_x(walk *w, rq_id v)
{
    if (v == w->x)
        return true;
    const rq_id at = maker(w->g, v);
    if (at < 0 || !rq_node_is(&w->g->nodes[at], "Sub") || w->g->nodes[at].in[0] != w->x)
        return false;
    return has(w, at) || (take(w, at) && statistic(w, w->g->nodes[at].in[1], 0));
}

/* The only reader of v; RQ_NONE: there are several, or v is an output. */
static rq_id reader(const rq_graph *g, rq_id v)
{
    rq_id user = RQ_NONE;
    return rq_graph_uses(g, v, &user, 1) == 1 && !rq_graph_is_output(g, v) ? user : RQ_NONE;
}

static rq_id other(const rq_node *n, rq_id v)
{
    return n->n_in != 2 ? RQ_NONE : n->in[0] == v ? n->in[1] : n->in[0];
}

/* From the root v on: to where x meets it, and gamma and beta behind. */
static bool applied(walk *w, rq_id v)
{
    static const char *const ops[] = { "Mul",  "Add",      "Div",     "Reciprocal", "Reshape", "Expand",
                                       "Cast", "Identity", "Squeeze", "Unsqueeze",  NULL };
    const rq_graph *g = w->g;
    bool met = false;
    for (int steps = 0; steps < DEPTH; steps++) {
        const rq_id at = reader(g, v);
        const rq_node *n = at >= 0 ? &g->nodes[at] : NULL;
        if (!n || n->n_out != 1)
            return met;
        const bool product = rq_node_is(n, "Mul") || rq_node_is(n, "Add");
        const rq_id with = other(n, v);
        if (met) { /* gamma, beta */
            if (!product || !rq_graph_is_const(g, with))
                return true;
        } else if ((rq_node_is(n, "Mul") || (rq_node_is(n, "Div") && n->in[1] == v)) && is_x(w, with)) {
            met = true;
        } else if (!is_one_of(n, ops) ||
                   (n->n_in == 2 && g->values[with].dtype == RQ_DTYPE_F32 && !rq_graph_is_const(g, with))) {
            return false;
        }
        if (!take(w, at))
            return false;
        v = n->out[0];
    }
    return met;
}

void rq_lq_find_norms(const rq_graph *g, bool *norm)
{
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (!n->op || n->n_out != 1 ||
            !(rq_node_is(n, "Sqrt") || rq_node_is(n, "ReduceL2") || is_power(g, n, 0.5) || is_power(g, n, -0.5)))
            continue;
        walk w = { .g = g, .x = RQ_NONE };
        const bool is_root = take(&w, i) && (is_mean(n) ? averaged(&w, n->in[0], 0) : statistic(&w, n->in[0], 0));
        if (!is_root || w.x == RQ_NONE || !applied(&w, n->out[0]))
            continue;
        for (int k = 0; k < w.n; k++)
            norm[w.node[k]] = true;
    }
}
