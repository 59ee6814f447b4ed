/* algo/report_dynamic.c — products that measure their input are many nodes (algo/dynamic.c); to a reader of the report
 * they are one layer. This finds which nodes belong together; the last one, whose value the float model has too, stands
 * for all. */
#include <string.h>

#include "algo/report_priv.h"
#include "graph/graph.h"

static const rq_node *maker_of(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].kind == RQ_VALUE_NODE ? &g->nodes[g->values[v].producer] : NULL;
}

static bool is(const rq_node *n, const char *op)
{
    return n && n->op && !strcmp(n->op, op);
}

static rq_report_role *role_of(const rq_graph *g, rq_report_role *roles, const rq_node *n)
{
    return &roles[n - g->nodes];
}

/* What makes the codes of input 0: one node, or with a scale per row Cast(Round(Div(x, Div(Max(ReduceMax(Abs(x)))))). */
static void mark_input(const rq_graph *g, rq_report_role *roles, const rq_node *product)
{
    static const char *const codes[] = { "Cast", "Round", "Div" }, *const scale[] = { "Div", "Max", "ReduceMax",
                                                                                      "Abs" };
    const rq_node *n = maker_of(g, product->in[0]);
    if (is(n, "DynamicQuantizeLinear")) {
        role_of(g, roles, n)->part = true;
        return;
    }
    for (int i = 0; i < 3 && is(n, codes[i]); i++) {
        role_of(g, roles, n)->part = true;
        n = maker_of(g, n->in[i < 2 ? 0 : 1]);
    }
    for (int i = 0; i < 4 && is(n, scale[i]); i++) {
        role_of(g, roles, n)->part = true;
        n = maker_of(g, n->in[0]);
    }
}

/* From the sums to the reals. */
static void mark_output(const rq_graph *g, rq_report_role *roles, const rq_node *product)
{
    const rq_node *n = product;
    rq_id user;
    role_of(g, roles, n)->part = true;
    while (!rq_graph_is_output(g, n->out[0]) && rq_graph_uses(g, n->out[0], &user, 1) == 1) {
        const rq_node *next = &g->nodes[user];
        const bool scales = is(next, "Mul") && (is(n, "Cast") || is(n, "Mul")),
                   bias = is(next, "Add") && is(n, "Mul") && next->in[1] >= 0 &&
                          g->values[next->in[1]].kind == RQ_VALUE_CONST;
        if (next->in[0] != n->out[0] || !(scales || bias || (is(next, "Cast") && n == product)))
            break;
        if (scales && is(maker_of(g, next->in[1]), "Mul"))
            role_of(g, roles, maker_of(g, next->in[1]))->part = true;
        n = next;
        role_of(g, roles, n)->part = true;
        if (bias)
            break;
    }
    role_of(g, roles, n)->product = (rq_id)(product - g->nodes);
}

rq_status rq_report_find_products(rq_report_role **roles, const rq_graph *g)
{
    *roles = rq_mem_zalloc((size_t)g->n_nodes + 1, sizeof **roles);
    if (!*roles)
        return RQ_NO_MEMORY;
    for (rq_id i = 0; i < g->n_nodes; i++)
        (*roles)[i].product = RQ_NONE;
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (is(n, "MatMulInteger") || is(n, "ConvInteger")) {
            mark_input(g, *roles, n);
            mark_output(g, *roles, n);
        } else if (is(n, "DynamicQuantizeLSTM") || is(n, "DynamicQuantizeGRU") || is(n, "DynamicQuantizeRNN") ||
                   is(n, "DynamicQuantizeMatMul") || is(n, "MatMulIntegerToFloat")) {
            (*roles)[i].product = i;
        }
    }
    return RQ_OK;
}
