/* ops/sequence.c — lists of tensors taken apart (ops/sequence.h). One walk in order of execution: a table holds, for each
 * value that is a list of known members, their ids; what reads a member then reads the value itself. */
#include "ops/sequence.h"

#include <string.h>

#include "ops/op.h"
#include "ops/rewrite.h"

enum { MOST = 4096 }; /* members of one list */

typedef struct list {
    bool known;
    int n;
    rq_id *v; /* of the graph's arena */
} list;

typedef struct walk {
    rq_graph *g;
    list *lists; /* [cap] by value */
    int cap;     /* values there were when the walk began */
    int changed;
    rq_err *err;
} walk;

static rq_status no_memory(walk *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "out of memory taking lists of tensors apart");
}

static const list *list_of(const walk *w, rq_id v)
{
    return v >= 0 && v < w->cap && w->lists[v].known ? &w->lists[v] : NULL;
}

/* A new list at output 0 of node, with room for n members. */
static rq_status make_list(walk *w, rq_id node, int n, list **out)
{
    list *l = &w->lists[w->g->nodes[node].out[0]];
    *l = (list) { .known = true, .n = n, .v = rq_arena_alloc(&w->g->names, (size_t)n + 1, sizeof *l->v) };
    *out = l;
    return l->v ? RQ_OK : no_memory(w);
}

/* The constant whole number at input i; false: it is none. */
static bool constant(const walk *w, const rq_node *n, int i, int64_t *v)
{
    if (i >= n->n_in || n->in[i] == RQ_NONE)
        return false;
    const rq_value *c = &w->g->values[n->in[i]];
    if (c->kind != RQ_VALUE_CONST || !c->constant.data || rq_tensor_count(&c->constant) != 1 ||
        !rq_dtype_is_integer(c->constant.dtype))
        return false;
    *v = rq_tensor_get_int(&c->constant, 0);
    return true;
}

/* at in [-n, n) (one more where something is inserted) made non-negative. */
static rq_status place(const walk *w, const rq_node *n, int64_t members, int64_t *at)
{
    if (*at < -members || *at >= members)
        return rq_fail(w->err, RQ_BAD_GRAPH, "node '%s' (%s): place %lld is outside a list of %lld", n->name, n->op,
                       (long long)*at, (long long)members);
    *at += *at < 0 ? members : 0;
    return RQ_OK;
}

/* ---- nodes that make lists ---- */

static rq_status construct(walk *w, rq_id node)
{
    const rq_node *n = &w->g->nodes[node];
    list *l;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] == RQ_NONE)
            return RQ_OK;
    RQ_TRY(make_list(w, node, n->n_in, &l));
    if (n->n_in)
        memcpy(l->v, n->in, (size_t)n->n_in * sizeof *l->v);
    return RQ_OK;
}

/* SequenceInsert and SequenceErase at a constant place (none: the end). */
static rq_status change(walk *w, rq_id node, bool insert)
{
    const rq_node *n = &w->g->nodes[node];
    const list *old = list_of(w, n->in[0]);
    const int at_input = insert ? 2 : 1;
    const bool last = at_input >= n->n_in || n->in[at_input] == RQ_NONE;
    int64_t at;
    list *l;
    if (!old || old->n >= MOST || (insert && n->in[1] == RQ_NONE) || (!last && !constant(w, n, at_input, &at)))
        return RQ_OK;
    const list was = *old;
    if (last)
        at = insert ? was.n : was.n - 1;
    RQ_TRY(place(w, n, insert && at >= 0 ? was.n + 1 : was.n, &at));
    RQ_TRY(make_list(w, node, was.n + (insert ? 1 : -1), &l));
    for (int i = 0, k = 0; i < was.n + (insert ? 1 : 0); i++) {
        if (insert && i == at)
            l->v[i] = n->in[1];
        else if (insert || i != at)
            l->v[insert ? i : i - (i > at)] = was.v[k];
        k += !insert || i != at;
    }
    return RQ_OK;
}

/* Sizes of the members of a SplitToSequence; *n = -1: not known. */
static rq_status split_sizes(walk *w, const rq_node *n, int64_t dim, int64_t *sizes, int *count)
{
    int64_t each = 1, sum = 0;
    *count = -1;
    if (n->n_in > 1 && n->in[1] != RQ_NONE) {
        const rq_value *c = &w->g->values[n->in[1]];
        if (c->kind != RQ_VALUE_CONST || !c->constant.data || !rq_dtype_is_integer(c->constant.dtype))
            return RQ_OK;
        if (c->constant.shape.rank == 1) {
            const int64_t k = rq_tensor_count(&c->constant);
            for (int64_t i = 0; i < k && k <= MOST; i++) {
                sizes[i] = rq_tensor_get_int(&c->constant, i);
                if (sizes[i] < 0 || sizes[i] > INT32_MAX)
                    return rq_fail(w->err, RQ_BAD_GRAPH, "node '%s' (%s): a member of %lld elements", n->name, n->op,
                                   (long long)sizes[i]);
                sum += sizes[i];
            }
            if (k > MOST)
                return RQ_OK;
            if (dim >= 0 && sum != dim)
                return rq_fail(w->err, RQ_BAD_SHAPE,
                               "node '%s' (%s): members have %lld elements together, the axis %lld", n->name, n->op,
                               (long long)sum, (long long)dim);
            *count = (int)k;
            return RQ_OK;
        }
        each = rq_tensor_get_int(&c->constant, 0);
    }
    if (each < 1)
        return rq_fail(w->err, RQ_BAD_GRAPH, "node '%s' (%s): members of %lld elements", n->name, n->op,
                       (long long)each);
    if (dim < 0 || dim / each >= MOST)
        return RQ_OK;
    *count = (int)(dim / each + (dim % each != 0));
    for (int i = 0; i < *count; i++)
        sizes[i] = dim - i * each < each ? dim - i * each : each;
    return RQ_OK;
}

/* Axes -1 .. or so of Squeeze and Unsqueeze: an attribute before opset 13. */
static rq_status on_axis(walk *w, const char *op, rq_id x, int64_t axis, const char *base, rq_id *made)
{
    rq_id in[2] = { x, RQ_NONE }, node;
    const bool input = rq_graph_opset(w->g, "") >= 13;
    if (input)
        RQ_TRY(rq_rewrite_ints(w->g, &axis, 1, base, "_axis", &in[1], w->err));
    RQ_TRY(rq_rewrite_add(w->g, op, in, input ? 2 : 1, base, "_member", w->g->values[x].dtype, made, &node, w->err));
    return input || rq_attr_set_ints(w->g, node, "axes", &axis, 1) == RQ_OK ? RQ_OK : no_memory(w);
}

static rq_status split(walk *w, rq_id node)
{
    rq_graph *g = w->g;
    const rq_shape *x = &g->values[g->nodes[node].in[0]].shape;
    const rq_dtype dtype = g->values[g->nodes[node].in[0]].dtype;
    const char *base = g->values[g->nodes[node].out[0]].name;
    const bool alone = (g->nodes[node].n_in < 2 || g->nodes[node].in[1] == RQ_NONE) &&
                       !rq_attr_int(&g->nodes[node], RQ_WORD_keepdims, 1); /* members lose the axis */
    const int axis = x->rank < 0 ? -1 : rq_infer_axis(rq_attr_int(&g->nodes[node], RQ_WORD_axis, 0), x->rank);
    int64_t *sizes = rq_arena_alloc(&g->names, MOST, sizeof *sizes);
    int n;
    list *l;
    if (axis < 0)
        return RQ_OK;
    if (!sizes)
        return no_memory(w);
    RQ_TRY(split_sizes(w, &g->nodes[node], x->dim[axis], sizes, &n));
    const bool input = rq_graph_opset(g, "") >= 13;
    rq_id in[2] = { g->nodes[node].in[0], RQ_NONE }, made;
    if (n < 0 && input && g->nodes[node].n_in > 1 && g->nodes[node].in[1] != RQ_NONE) {
        const rq_shape *s =
            &g->values[g->nodes[node].in[1]].shape; /* sizes that a run will know, but how many is known */
        if (s->rank == 1 && s->dim[0] <= MOST) {
            n = (int)s->dim[0];
            in[1] = g->nodes[node].in[1];
        }
    }
    if (n < 1)
        return RQ_OK;
    RQ_TRY(make_list(w, node, n, &l));
    for (int i = 0; i < n; i++) {
        const char *name = rq_rewrite_name(g, base, "_part");
        if (!name)
            return no_memory(w);
        RQ_TRY(rq_graph_add_value(g, &l->v[i], RQ_VALUE_NODE, name, dtype, NULL, w->err));
    }
    if (input && in[1] == RQ_NONE)
        RQ_TRY(rq_rewrite_ints(g, sizes, n, base, "_sizes", &in[1], w->err));
    const char *name = rq_rewrite_name(g, base, "_split");
    if (!name)
        return no_memory(w);
    RQ_TRY(rq_graph_add_node(g, &made, "Split", "", name, in, input ? 2 : 1, l->v, n, w->err));
    if (rq_attr_set_int(g, made, "axis", axis) || (!input && rq_attr_set_ints(g, made, "split", sizes, n)))
        return no_memory(w);
    for (int i = 0; alone && i < n; i++)
        RQ_TRY(on_axis(w, "Squeeze", l->v[i], axis, base, &l->v[i]));
    return RQ_OK;
}

/* ---- nodes that read them ---- */

static rq_status at(walk *w, rq_id node)
{
    const rq_node *n = &w->g->nodes[node];
    const list *l = list_of(w, n->in[0]);
    int64_t i;
    if (!l || !constant(w, n, 1, &i))
        return RQ_OK;
    RQ_TRY(place(w, n, l->n, &i));
    w->changed++;
    return rq_rewrite_become(w->g, node, "Identity", &l->v[i], 1, w->err);
}

static rq_status length(walk *w, rq_id node)
{
    const rq_node *n = &w->g->nodes[node];
    const list *l = list_of(w, n->in[0]);
    if (!l)
        return RQ_OK;
    rq_tensor t;
    const rq_shape scalar = { 0 };
    const char *name = rq_rewrite_name(w->g, w->g->values[n->out[0]].name, "_length");
    rq_id made;
    if (!name || rq_tensor_create(&t, RQ_DTYPE_S64, &scalar, true))
        return no_memory(w);
    t.s64[0] = l->n;
    const rq_status s = rq_graph_add_const(w->g, &made, name, &t, w->err);
    rq_tensor_release(&t);
    RQ_TRY(s);
    w->changed++;
    return rq_rewrite_become(w->g, node, "Identity", &made, 1, w->err);
}

static rq_status concat(walk *w, rq_id node)
{
    rq_graph *g = w->g;
    const list *l = list_of(w, g->nodes[node].in[0]);
    const rq_attr *axis = rq_attr_find(&g->nodes[node], RQ_WORD_axis);
    if (!l || l->n == 0 || !axis)
        return RQ_OK;
    const list members = *l;
    const char *base = g->values[g->nodes[node].out[0]].name;
    rq_id *in = rq_arena_alloc(&g->names, (size_t)members.n, sizeof *in);
    if (!in)
        return no_memory(w);
    memcpy(in, members.v, (size_t)members.n * sizeof *in);
    const int64_t where = rq_attr_int(&g->nodes[node], RQ_WORD_axis, 0);
    if (rq_attr_int(&g->nodes[node], RQ_WORD_new_axis, 0))
        for (int i = 0; i < members.n; i++)
            RQ_TRY(on_axis(w, "Unsqueeze", in[i], where, base, &in[i]));
    rq_attr_remove(g, node, "new_axis");
    w->changed++;
    return rq_rewrite_become(g, node, "Concat", in, members.n, w->err);
}

/* ---- optional tensors: there, or left out, as the graph says ---- */

/* 1: the node's input is a tensor that is there; 0: it is left out, or an Optional of nothing; -1: a run will know. */
static int is_there(const walk *w, const rq_node *n, rq_id *x)
{
    const rq_value *v;
    for (;;) { /* an Optional may hold an Optional; nodes are in order, so the way back ends */
        *x = n->n_in ? n->in[0] : RQ_NONE;
        if (*x == RQ_NONE)
            return 0;
        v = &w->g->values[*x];
        if (v->kind != RQ_VALUE_NODE || v->producer < 0 || !rq_rewrite_is(&w->g->nodes[v->producer], "Optional"))
            break;
        n = &w->g->nodes[v->producer];
    }
    if (v->kind == RQ_VALUE_INPUT || v->kind == RQ_VALUE_CONST) /* what a run is given is a tensor */
        return w->g->outer && v->kind == RQ_VALUE_INPUT ? -1 : 1;
    return v->dtype != RQ_DTYPE_NONE && v->shape.rank >= 0 ? 1 : -1;
}

static rq_status has_element(walk *w, rq_id node)
{
    const rq_node *n = &w->g->nodes[node];
    rq_id x, made;
    const int there = is_there(w, n, &x);
    if (there < 0)
        return RQ_OK;
    rq_tensor t;
    const rq_shape scalar = { 0 };
    const char *name = rq_rewrite_name(w->g, w->g->values[n->out[0]].name, "_there");
    if (!name || rq_tensor_create(&t, RQ_DTYPE_BOOL, &scalar, true))
        return no_memory(w);
    t.u8[0] = there > 0;
    const rq_status s = rq_graph_add_const(w->g, &made, name, &t, w->err);
    rq_tensor_release(&t);
    RQ_TRY(s);
    w->changed++;
    return rq_rewrite_become(w->g, node, "Identity", &made, 1, w->err);
}

static rq_status get_element(walk *w, rq_id node)
{
    rq_id x;
    if (is_there(w, &w->g->nodes[node], &x) <= 0)
        return RQ_OK;
    w->changed++;
    return rq_rewrite_become(w->g, node, "Identity", &x, 1, w->err);
}

static bool of_lists(const rq_node *n)
{
    return rq_rewrite_is(n, "OptionalHasElement") || rq_rewrite_is(n, "OptionalGetElement") ||
           rq_rewrite_is(n, "SequenceConstruct") || rq_rewrite_is(n, "SequenceEmpty") ||
           rq_rewrite_is(n, "SplitToSequence");
}

static rq_status visit(walk *w, rq_id node)
{
    const rq_node *n = &w->g->nodes[node];
    if (n->n_out < 1 || n->out[0] == RQ_NONE || n->out[0] >= w->cap)
        return RQ_OK;
    if (rq_rewrite_is(n, "SequenceEmpty") && n->n_in == 0) {
        list *l;
        return make_list(w, node, 0, &l);
    }
    if (rq_rewrite_is(n, "OptionalHasElement"))
        return has_element(w, node);
    if (n->n_in < 1 || n->in[0] == RQ_NONE)
        return RQ_OK;
    if (rq_rewrite_is(n, "OptionalGetElement"))
        return get_element(w, node);
    if (rq_rewrite_is(n, "SequenceConstruct"))
        return construct(w, node);
    if (rq_rewrite_is(n, "SplitToSequence"))
        return split(w, node);
    if (rq_rewrite_is(n, "SequenceInsert") && n->n_in > 1)
        return change(w, node, true);
    if (rq_rewrite_is(n, "SequenceErase"))
        return change(w, node, false);
    if (rq_rewrite_is(n, "SequenceAt"))
        return at(w, node);
    if (rq_rewrite_is(n, "SequenceLength"))
        return length(w, node);
    if (rq_rewrite_is(n, "ConcatFromSequence"))
        return concat(w, node);
    if (rq_rewrite_is(n, "Identity") && list_of(w, n->in[0]))
        w->lists[n->out[0]] = *list_of(w, n->in[0]);
    return RQ_OK;
}

static rq_status dissolve(rq_graph *g, int *changed, rq_err *err)
{
    bool any = false;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        any |= n->op && of_lists(n);
        for (int k = 0; n->op && k < n->n_attr; k++)
            for (int s = 0; n->attr[k].type == RQ_ATTR_GRAPH && s < n->attr[k].n; s++)
                RQ_TRY(dissolve(n->attr[k].g[s], changed, err));
    }
    if (!any)
        return RQ_OK;
    walk w = { .g = g, .cap = g->n_values, .err = err };
    rq_id *order = NULL;
    int n = 0;
    rq_status s = rq_order(g, &order, &n, err);
    w.lists = rq_mem_zalloc((size_t)w.cap, sizeof *w.lists);
    if (s == RQ_OK && !w.lists)
        s = no_memory(&w);
    for (int i = 0; s == RQ_OK && i < n; i++)
        s = visit(&w, order[i]);
    rq_mem_free(w.lists);
    rq_mem_free(order);
    if (s == RQ_OK)
        rq_graph_prune(g); /* lists that nobody reads any more, and splits made for such */
    *changed += w.changed;
    return s;
}

rq_status rq_sequence_dissolve(rq_graph *g, int *n, rq_err *err)
{
    int changed = 0;
    RQ_TRY(dissolve(g, &changed, err));
    if (n)
        *n = changed;
    return RQ_OK;
}

static bool has_lists(const rq_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        if (n->op && of_lists(n))
            return true;
        for (int k = 0; n->op && k < n->n_attr; k++)
            for (int s = 0; n->attr[k].type == RQ_ATTR_GRAPH && s < n->attr[k].n; s++)
                if (has_lists(n->attr[k].g[s]))
                    return true;
    }
    return false;
}

rq_status rq_sequence_resolve(rq_graph *g, rq_err *err)
{
    enum { ROUNDS = 8 };
    if (!has_lists(g))
        return RQ_OK;
    for (int n = 1, round = 0; n && round < ROUNDS; round++) {
        rq_ops_bind(g);
        if (rq_ops_infer(g, NULL) == RQ_NO_MEMORY)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory taking lists of tensors apart");
        RQ_TRY(rq_sequence_dissolve(g, &n, err));
    }
    return RQ_OK;
}
