/* fold/transpose.c — pushing Transposes down until they meet their inverse.
 *
 * A Transpose T_p of s reads y[i] = s axis p[i]. For an operator f that works element by element, f(T_p(a), T_p(b), c)
 * = T_p(f(a, b, T_p^-1(c))): when each input is T_p of something or a constant, the Transpose moves behind f and
 * constants are turned once. Exporters put a pair around every convolution, so after moving they meet and vanish,
 * and what stays is one at each end of the network. */
#include "fold/transpose.h"

#include <stdio.h>
#include <string.h>

#include "ops/op.h"
#include "graph/query.h"

typedef struct perm {
    int rank;
    int axis[RQ_MAX_RANK];
} perm;

static bool is_identity(const perm *p)
{
    for (int i = 0; i < p->rank; i++)
        if (p->axis[i] != i)
            return false;
    return true;
}

static perm inverse(const perm *p)
{
    perm q = { .rank = p->rank };
    for (int i = 0; i < p->rank; i++)
        q.axis[p->axis[i]] = i;
    return q;
}

static bool same_perm(const perm *a, const perm *b)
{
    return a->rank == b->rank && !memcmp(a->axis, b->axis, (size_t)a->rank * sizeof a->axis[0]);
}

/* Sizes of T_p of a tensor of these sizes. */
static rq_shape permuted(const rq_shape *s, const perm *p)
{
    rq_shape out = { .rank = s->rank };
    if (s->rank != p->rank)
        return rq_shape_unknown();
    for (int i = 0; i < p->rank; i++)
        out.dim[i] = s->dim[p->axis[i]];
    return out;
}

/* Is value v made by a Transpose of known rank? Its perm and the node. */
static bool transposed(const rq_graph *g, rq_id v, perm *p, rq_id *node)
{
    if (v < 0 || g->values[v].kind != RQ_VALUE_NODE)
        return false;
    const rq_node *n = &g->nodes[g->values[v].producer];
    if (strcmp(n->op, "Transpose") != 0 || n->domain[0] || n->in[0] == RQ_NONE)
        return false;
    int count;
    const int64_t *axes = rq_attr_ints(n, RQ_WORD_perm, &count);
    int rank = axes ? count : g->values[n->in[0]].shape.rank;
    if (rank < 1 || rank > RQ_MAX_RANK)
        return false;
    unsigned seen = 0;
    p->rank = rank;
    for (int i = 0; i < rank; i++) {
        int64_t a = axes ? axes[i] : rank - 1 - i;
        if (a < 0 || a >= rank)
            return false;
        p->axis[i] = (int)a;
        seen |= 1u << a;
    }
    *node = g->values[v].producer;
    return seen == (1u << rank) - 1;
}

/* ---- constants ---- */

static void copy_element(uint8_t *dst, const uint8_t *src, size_t size)
{
    memcpy(dst, src, size);
}

/* T_p of a constant, its rank first filled up with leading ones. Element types of whole bytes. */
static rq_status turn_tensor(rq_tensor *out, const rq_tensor *t, const perm *p)
{
    rq_shape full = { .rank = p->rank };
    int lead = p->rank - t->shape.rank;
    for (int i = 0; i < p->rank; i++)
        full.dim[i] = i < lead ? 1 : t->shape.dim[i - lead];
    rq_shape turned = permuted(&full, p);
    RQ_TRY(rq_tensor_create(out, t->dtype, &turned, false));
    int64_t stride[RQ_MAX_RANK], at[RQ_MAX_RANK] = { 0 };
    int64_t step = 1;
    for (int i = p->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= full.dim[i];
    }
    size_t size = (size_t)rq_dtype_bits(t->dtype) / 8;
    for (int64_t i = 0, n = rq_shape_count(&turned); i < n; i++) {
        int64_t src = 0;
        for (int k = 0; k < p->rank; k++)
            src += at[k] * stride[p->axis[k]];
        copy_element(out->u8 + (size_t)i * size, t->u8 + (size_t)src * size, size);
        for (int k = p->rank - 1; k >= 0 && ++at[k] == turned.dim[k]; k--)
            at[k] = 0;
    }
    return RQ_OK;
}

/* A constant that broadcasts against T_p(s) becomes one that broadcasts against s. Scalars stay. */
static rq_status turn_constant(rq_graph *g, rq_id *out, rq_id c, const perm *p, rq_err *err)
{
    const rq_tensor *t = &g->values[c].constant;
    if (rq_tensor_count(t) == 1 && t->shape.rank <= 1) {
        *out = c;
        return RQ_OK;
    }
    perm back = inverse(p);
    rq_tensor turned;
    char base[256];
    rq_status st = turn_tensor(&turned, t, &back);
    if (st)
        return rq_fail(err, st, "out of memory turning constant '%s'", g->values[c].name);
    snprintf(base, sizeof base, "%.200s_turned", g->values[c].name);
    const char *name = rq_graph_fresh_name(g, base);
    st = name ? rq_graph_add_const(g, out, name, &turned, err) : rq_fail(err, RQ_NO_MEMORY, "out of memory");
    rq_tensor_release(&turned);
    return st;
}

/* ---- what a Transpose may pass ---- */

/* May the Transpose pass input i of n unharmed: T_p of something, or a constant that broadcasts? */
static bool fits(const rq_graph *g, rq_id v, const perm *p, int *n_moved)
{
    perm q;
    rq_id node;
    if (transposed(g, v, &q, &node)) {
        *n_moved += 1;
        return same_perm(p, &q);
    }
    if (v < 0 || g->values[v].kind != RQ_VALUE_CONST || g->values[v].quant != RQ_NONE)
        return false;
    const rq_tensor *t = &g->values[v].constant;
    return t->shape.rank <= p->rank && rq_dtype_bits(t->dtype) >= 8;
}

/* An axis attribute, made non-negative; -1 when it is out of range. */
static int axis_attr(const rq_node *n, int rank, int64_t fallback)
{
    int64_t a = rq_attr_int(n, RQ_WORD_axis, fallback);
    a = a < 0 ? a + rank : a;
    return a >= 0 && a < rank ? (int)a : -1;
}

typedef enum passing { PASS_NO, PASS_ELEMENTWISE, PASS_CONCAT, PASS_PAD, PASS_REDUCE } passing;

static passing how_it_passes(const rq_graph *g, const rq_node *n, const perm *p)
{
    int moved = 0;
    if (!n->row || n->n_out != 1 || n->out[0] == RQ_NONE)
        return PASS_NO;
    if (rq_node_is(n, "Pad"))
        return n->n_in >= 2 && g->values[n->in[1]].kind == RQ_VALUE_CONST && (n->n_in < 4 || n->in[3] == RQ_NONE)
                   ? PASS_PAD
                   : PASS_NO;
    if (rq_node_is(n, "ReduceMean") || rq_node_is(n, "ReduceMax") || rq_node_is(n, "ReduceMin") ||
        rq_node_is(n, "ReduceSum")) {
        int count;
        return rq_attr_ints(n, RQ_WORD_axes, &count) && n->n_in == 1 && rq_attr_int(n, RQ_WORD_keepdims, 1)
                   ? PASS_REDUCE
                   : PASS_NO;
    }
    bool concat = rq_node_is(n, "Concat");
    if (!concat && !(n->row->flags & (RQ_OP_TABLE | RQ_OP_COMMUTES)))
        return PASS_NO;
    int n_in = n->row->flags & RQ_OP_TABLE ? 1 : n->n_in; /* other inputs of a table row are scalars (Clip) */
    for (int i = 0; i < n_in; i++)
        if (!fits(g, n->in[i], p, &moved) || (concat && g->values[n->in[i]].kind == RQ_VALUE_CONST))
            return PASS_NO;
    if (concat)
        return axis_attr(n, p->rank, p->rank) >= 0 ? PASS_CONCAT : PASS_NO;
    return PASS_ELEMENTWISE;
}

/* Pads of T_p(s) as pads of s: [begin..., end...] per axis. */
static rq_status turn_pads(rq_graph *g, rq_id node, const perm *p, rq_err *err)
{
    const rq_value *v = &g->values[g->nodes[node].in[1]];
    rq_tensor pads;
    rq_id id;
    if (v->constant.dtype != RQ_DTYPE_S64 || rq_tensor_count(&v->constant) != 2 * (int64_t)p->rank)
        return rq_fail(err, RQ_BAD_GRAPH, "node '%s' (Pad): %lld pads for rank %d", g->nodes[node].name,
                       (long long)rq_tensor_count(&v->constant), p->rank);
    if (rq_tensor_copy(&pads, &v->constant))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; i < p->rank; i++) {
        pads.s64[p->axis[i]] = v->constant.s64[i];
        pads.s64[p->rank + p->axis[i]] = v->constant.s64[p->rank + i];
    }
    char base[256];
    snprintf(base, sizeof base, "%.200s_turned", v->name);
    const char *name = rq_graph_fresh_name(g, base);
    rq_status st = name ? rq_graph_add_const(g, &id, name, &pads, err) : rq_fail(err, RQ_NO_MEMORY, "out of memory");
    rq_tensor_release(&pads);
    RQ_TRY(st);
    return rq_graph_set_input(g, node, 1, id);
}

static rq_status turn_axes(rq_graph *g, rq_id node, const perm *p)
{
    int n;
    int64_t turned[RQ_MAX_RANK];
    const int64_t *axes = rq_attr_ints(&g->nodes[node], RQ_WORD_axes, &n);
    if (n > RQ_MAX_RANK)
        return RQ_BAD_GRAPH;
    for (int i = 0; i < n; i++) {
        int64_t a = axes[i] < 0 ? axes[i] + p->rank : axes[i];
        if (a < 0 || a >= p->rank)
            return RQ_BAD_GRAPH;
        turned[i] = p->axis[a];
    }
    return rq_attr_set_ints(g, node, "axes", turned, n);
}

/* Move the Transpose from before n to behind it. */
static rq_status pass(rq_graph *g, rq_id node, passing how, const perm *p, rq_err *err)
{
    perm q;
    rq_id maker, turned, behind;
    for (int i = 0; i < g->nodes[node].n_in; i++) {
        rq_id v = g->nodes[node].in[i];
        if (v == RQ_NONE || (i > 0 && (how == PASS_PAD || g->nodes[node].row->flags & RQ_OP_TABLE)))
            continue;
        if (transposed(g, v, &q, &maker))
            turned = g->nodes[maker].in[0];
        else
            RQ_TRY(turn_constant(g, &turned, v, p, err));
        RQ_TRY(rq_graph_set_input(g, node, i, turned));
    }
    if (how == PASS_CONCAT)
        RQ_TRY(rq_attr_set_int(g, node, "axis", p->axis[axis_attr(&g->nodes[node], p->rank, p->rank)]));
    if (how == PASS_PAD)
        RQ_TRY(turn_pads(g, node, p, err));
    if (how == PASS_REDUCE)
        RQ_TRY(turn_axes(g, node, p));
    /* the old output keeps its name and layout, behind the Transpose; the node makes a new value */
    rq_id y = g->nodes[node].out[0], fresh;
    perm back = inverse(p);
    const rq_shape shape = permuted(&g->values[y].shape, &back);
    char base[256];
    snprintf(base, sizeof base, "%.200s_turned", g->values[y].name);
    const char *name = rq_graph_fresh_name(g, base);
    if (!name)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    RQ_TRY(rq_graph_add_value(g, &fresh, RQ_VALUE_NODE, name, g->values[y].dtype, &shape, err));
    g->values[y].producer = RQ_NONE;
    g->values[fresh].producer = node;
    g->nodes[node].out[0] = fresh;
    snprintf(base, sizeof base, "%.200s_transpose", g->nodes[node].name);
    RQ_TRY(rq_graph_add_node(g, &behind, "Transpose", "", base, &fresh, 1, &y, 1, err));
    int64_t axes[RQ_MAX_RANK];
    for (int i = 0; i < p->rank; i++)
        axes[i] = p->axis[i];
    g->nodes[behind].row = rq_op_find("", "Transpose");
    return rq_attr_set_ints(g, behind, "perm", axes, p->rank);
}

/* A Transpose of a Transpose is one, or none. */
static rq_status merge(rq_graph *g, rq_id node, bool *changed, rq_err *err)
{
    perm outer, first;
    rq_id self, maker;
    rq_id y = g->nodes[node].out[0];
    if (!transposed(g, y, &outer, &self))
        return RQ_OK;
    bool twice = transposed(g, g->nodes[node].in[0], &first, &maker) && first.rank == outer.rank;
    perm both = outer;
    rq_id source = g->nodes[node].in[0];
    if (twice) {
        for (int i = 0; i < outer.rank; i++)
            both.axis[i] = first.axis[outer.axis[i]];
        source = g->nodes[maker].in[0];
    }
    if (is_identity(&both)) {
        if (rq_graph_is_output(g, y))
            return RQ_OK; /* an output must be made under its own name */
        rq_graph_replace_uses(g, y, source, RQ_NONE);
        rq_graph_remove_node(g, node);
        *changed = true;
        return RQ_OK;
    }
    if (!twice)
        return RQ_OK;
    int64_t axes[RQ_MAX_RANK];
    for (int i = 0; i < both.rank; i++)
        axes[i] = both.axis[i];
    *changed = true;
    RQ_TRY(rq_graph_set_input(g, node, 0, source));
    rq_status st = rq_attr_set_ints(g, node, "perm", axes, both.rank);
    return st ? rq_fail(err, st, "out of memory") : RQ_OK;
}

static int count_transposes(const rq_graph *g)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op && rq_node_is(&g->nodes[i], "Transpose");
    return n;
}

/* One sweep in order: every node passes or merges at most once. */
static rq_status sweep(rq_graph *g, bool *changed, rq_err *err)
{
    rq_id *order;
    int n;
    rq_status st = RQ_OK;
    RQ_TRY(rq_order(g, &order, &n, err));
    for (int i = 0; i < n && !st; i++) {
        rq_id node = order[i], maker;
        const rq_node *x = &g->nodes[node];
        if (!x->op)
            continue;
        if (rq_node_is(x, "Transpose")) {
            st = merge(g, node, changed, err);
            continue;
        }
        perm p;
        int from = -1;
        for (int k = 0; k < x->n_in && from < 0; k++)
            if (transposed(g, x->in[k], &p, &maker))
                from = k;
        if (from < 0 || is_identity(&p) || g->values[x->out[0] < 0 ? 0 : x->out[0]].quant != RQ_NONE)
            continue;
        passing how = how_it_passes(g, x, &p);
        if (how == PASS_NO || g->values[x->out[0]].shape.rank != p.rank)
            continue;
        st = pass(g, node, how, &p, err);
        *changed = true;
    }
    rq_mem_free(order);
    if (!st)
        rq_graph_prune(g);
    return st;
}

rq_status rq_push_transposes(rq_graph *g, int *gone, rq_err *err)
{
    rq_graph *work;
    int before = count_transposes(g), after = before;
    bool changed = before > 0;
    if (gone)
        *gone = 0;
    if (!changed)
        return RQ_OK;
    if (rq_graph_copy(&work, g))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory copying the graph");
    rq_status st = RQ_OK;
    for (int round = 0; changed && !st && round < 1000;
         round++) { /* each round moves something down; depth bounds them */
        changed = false;
        st = sweep(work, &changed, err);
    }
    after = count_transposes(work);
    if (!st && after < before) { /* with no inverse to meet, moving gains nothing */
        rq_graph_swap(g, work);
        if (gone)
            *gone = before - after;
    }
    rq_graph_destroy(work);
    return st;
}
