/* nn/reset.c — the parameters of a whole graph drawn anew, as PyTorch's layers draw theirs: whoever built it. A layer's weight and bias are uniform
 * within 1 / sqrt(fan_in) (which is kaiming_uniform with a = sqrt(5)), of recurrent layers within 1 / sqrt(hidden_size). */
#include <math.h>
#include <string.h>

#include "graph/graph.h"
#include "requant/nn.h"

typedef struct resetting {
    rq_graph *g;
    uint64_t seed;
    rq_err *err;
} resetting;

/* The float constant at input i, or NULL. */
static const rq_value *constant_at(const resetting *r, const rq_node *n, int i)
{
    if (i >= n->n_in || n->in[i] == RQ_NONE)
        return NULL;
    const rq_value *v = &r->g->values[n->in[i]];
    return v->kind == RQ_VALUE_CONST && v->constant.dtype == RQ_DTYPE_F32 ? v : NULL;
}

/* The same where it is turned or cut on its way, as linear layers over more than two axes have it; *turned: rows are columns. */
static const rq_value *source_at(const resetting *r, const rq_node *n, int i, bool *turned)
{
    *turned = false;
    for (int depth = 0; depth < 4; depth++) {
        const rq_value *found = constant_at(r, n, i);
        if (found || i >= n->n_in || n->in[i] == RQ_NONE || r->g->values[n->in[i]].kind != RQ_VALUE_NODE)
            return found;
        n = &r->g->nodes[r->g->values[n->in[i]].producer];
        i = 0;
        if (!strcmp(n->op, "Transpose"))
            *turned = !*turned;
        else if (strcmp(n->op, "Split") != 0 && strcmp(n->op, "Identity") != 0)
            return NULL;
    }
    return NULL;
}

static rq_status fill(const resetting *r, const rq_value *v, rq_nn_init init, double a, double b)
{
    return v ? rq_nn_initialize(r->g, v->name, init, a, b, r->seed, r->err) : RQ_OK;
}

static rq_status fill_within(const resetting *r, const rq_value *v, double bound)
{
    return fill(r, v, RQ_NN_INIT_UNIFORM, -bound, bound);
}

/* 1 / sqrt of how many numbers a product by this weight adds up; 0: it is no weight. */
static double bound_of(const resetting *r, const rq_node *n, const rq_value **weight)
{
    bool turned;
    *weight = source_at(r, n, 1, &turned);
    const rq_shape *s = *weight ? &(*weight)->constant.shape : NULL;
    int64_t fan = 0;
    if (!s || s->rank < 2 || (turned && s->rank != 2))
        return 0;
    if (!strcmp(n->op, "Conv") || !strcmp(n->op, "ConvTranspose")) /* PyTorch's fan_in of both is that of axis 1 */
        fan = rq_shape_span(s, 1, s->rank);
    else if (!strcmp(n->op, "Gemm"))
        fan = s->dim[(rq_attr_int(n, RQ_WORD_transB, 0) != 0) != turned];
    else
        fan = s->dim[s->rank - (turned ? 1 : 2)];
    return fan > 0 ? 1 / sqrt((double)fan) : 0;
}

/* The bias that an Add behind a product has. */
static rq_status reset_add(const resetting *r, const rq_node *n)
{
    for (int i = 0; i < 2; i++) {
        bool turned;
        const rq_value *bias = source_at(r, n, i, &turned), *weight,
                       *x = n->in[1 - i] == RQ_NONE ? NULL : &r->g->values[n->in[1 - i]];
        if (!bias || bias->constant.shape.rank != 1 || !x || x->kind != RQ_VALUE_NODE)
            continue;
        const rq_node *product = &r->g->nodes[x->producer];
        const double bound = strcmp(product->op, "MatMul") ? 0 : bound_of(r, product, &weight);
        if (bound > 0)
            return fill_within(r, bias, bound);
    }
    return RQ_OK;
}

static rq_status reset_norm(const resetting *r, const rq_node *n)
{
    for (int i = 1; i < 5 && i < n->n_in; i++) /* scale, bias, mean, variance */
        RQ_TRY(fill(r, constant_at(r, n, i), RQ_NN_INIT_CONSTANT, i == 1 || i == 4, 0));
    return RQ_OK;
}

static rq_status reset_node(const resetting *r, const rq_node *n)
{
    static const char *const products[] = { "Conv", "ConvTranspose", "Gemm", "MatMul" };
    static const char *const norms[] = { "BatchNormalization", "LayerNormalization", "InstanceNormalization",
                                         "GroupNormalization", "RMSNormalization" };
    static const char *const recurrent[] = { "LSTM", "GRU", "RNN" };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (!strcmp(n->op, products[i])) {
            const rq_value *w;
            const double bound = bound_of(r, n, &w);
            if (bound > 0)
                RQ_TRY(fill_within(r, w, bound));
            return bound > 0 && n->n_in > 2 ? fill_within(r, constant_at(r, n, 2), bound) : RQ_OK;
        }
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++)
        if (!strcmp(n->op, norms[i]))
            return reset_norm(r, n);
    for (size_t i = 0; i < sizeof recurrent / sizeof *recurrent; i++)
        if (!strcmp(n->op, recurrent[i])) {
            const int64_t hidden = rq_attr_int(n, RQ_WORD_hidden_size, 0);
            for (int k = 1; k < 4 && hidden > 0; k++)
                RQ_TRY(fill_within(r, constant_at(r, n, k), 1 / sqrt((double)hidden)));
            return RQ_OK;
        }
    if (!strcmp(n->op, "Add") && n->n_in == 2)
        return reset_add(r, n);
    if (!strcmp(n->op, "PRelu"))
        return fill(r, constant_at(r, n, 1), RQ_NN_INIT_CONSTANT, 0.25, 0);
    const rq_value *table = strcmp(n->op, "Gather") ? NULL : constant_at(r, n, 0);
    return table && table->constant.shape.rank == 2 ? fill(r, table, RQ_NN_INIT_NORMAL, 0, 1) : RQ_OK;
}

rq_status rq_nn_reset_parameters(rq_graph *g, uint64_t seed, rq_err *err)
{
    const resetting r = { .g = g, .seed = seed, .err = err };
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !*g->nodes[i].domain)
            RQ_TRY(reset_node(&r, &g->nodes[i]));
    return RQ_OK;
}
