/* ops/samples.c — see ops/samples.h: the walk over a graph, and the rules its rows name. A rule that is not sure says no. */
#include "ops/samples.h"

#include <string.h>

#include "ops/content.h"

/* ---- rules ---- */

static const rq_tensor *input(const rq_samples_args *a, int i)
{
    return rq_op_input(a->infer.in, a->infer.n_in, i);
}

static rq_samples of(const rq_samples_args *a, int i)
{
    return i < a->infer.n_in ? a->of[i] : RQ_SAMPLES_NONE;
}

/* Input 0 has the samples; the others, from `from` on, are the same for every batch. */
static bool rest_is_fixed(const rq_samples_args *a, int from)
{
    for (int i = from; i < a->infer.n_in; i++)
        if (a->of[i] != RQ_SAMPLES_NONE)
            return false;
    return of(a, 0) == RQ_SAMPLES_ROWS;
}

/* Does input i, broadcast to `rank` axes, give sample i what it has of sample i, or the same to all? */
static bool spreads(const rq_samples_args *a, int i, int rank)
{
    const rq_tensor *x = input(a, i);
    if (!x)
        return true;
    if (a->of[i] == RQ_SAMPLES_ROWS)
        return x->shape.rank == rank;
    return a->of[i] == RQ_SAMPLES_NONE && x->shape.rank >= 0 &&
           (x->shape.rank < rank || (x->shape.rank == rank && x->shape.dim[0] == 1));
}

bool rq_samples_each(const rq_samples_args *a)
{
    for (int i = 0; i < a->infer.n_in; i++)
        if (!spreads(a, i, a->infer.out_shape[0].rank))
            return false;
    return true;
}

bool rq_samples_first(const rq_samples_args *a)
{
    return rest_is_fixed(a, 1);
}

bool rq_samples_order(const rq_samples_args *a)
{
    return of(a, 0) == RQ_SAMPLES_ROWS && of(a, 1) != RQ_SAMPLES_ROWS;
}

static bool axis_is_inner(const rq_samples_args *a, int64_t fallback)
{
    return rq_infer_axis(rq_attr_int(a->infer.node, RQ_WORD_axis, fallback), input(a, 0)->shape.rank) > 0;
}

bool rq_samples_within(const rq_samples_args *a)
{
    return rest_is_fixed(a, 1) && axis_is_inner(a, -1);
}

bool rq_samples_along(const rq_samples_args *a)
{
    return rest_is_fixed(a, 1) && axis_is_inner(a, 0);
}

bool rq_samples_join(const rq_samples_args *a)
{
    for (int i = 0; i < a->infer.n_in; i++)
        if (a->of[i] != RQ_SAMPLES_ROWS)
            return false;
    return axis_is_inner(a, 0);
}

/* A list of numbers: input i, or an attribute. Their count; -1: not known. */
static int numbers(const rq_samples_args *a, int i, rq_word attribute, int64_t v[2 * RQ_MAX_RANK])
{
    int n = -1;
    const int64_t *list = rq_attr_ints(a->infer.node, attribute, &n);
    if (input(a, i) || !list || n > 2 * RQ_MAX_RANK)
        return rq_infer_ints(&a->infer, i, v, 2 * RQ_MAX_RANK);
    memcpy(v, list, (size_t)n * sizeof *v);
    return n;
}

/* Are these axes of input 0 given, by input i or an attribute, and is none of them axis 0? */
static bool axes_are_inner(const rq_samples_args *a, int i)
{
    int64_t axis[2 * RQ_MAX_RANK];
    const int n = numbers(a, i, RQ_WORD_axes, axis);
    for (int k = 0; k < n; k++)
        if (rq_infer_axis(axis[k], input(a, 0)->shape.rank) <= 0)
            return false;
    return n > 0;
}

/* All samples, in their order, whatever their number. */
bool rq_samples_slice(const rq_samples_args *a)
{
    int64_t from[2 * RQ_MAX_RANK], to[2 * RQ_MAX_RANK], axis[2 * RQ_MAX_RANK], step[2 * RQ_MAX_RANK];
    const int n = numbers(a, 1, RQ_WORD_starts, from);
    const bool axes = input(a, 3) || rq_attr_find(a->infer.node, RQ_WORD_axes);
    if (!rest_is_fixed(a, 1) || n < 0 || numbers(a, 2, RQ_WORD_ends, to) != n ||
        (axes && numbers(a, 3, RQ_WORD_axes, axis) != n) || (input(a, 4) && numbers(a, 4, RQ_WORD_steps, step) != n))
        return false;
    for (int i = 0; i < n; i++) {
        const int at = axes ? rq_infer_axis(axis[i], input(a, 0)->shape.rank) : i;
        if (at < 0 || (at == 0 && (from[i] != 0 || to[i] < RQ_SAMPLES_MOST || (input(a, 4) && step[i] != 1))))
            return false;
    }
    return true;
}

/* Without axes all are reduced, or, if it says so, none. */
bool rq_samples_reduce(const rq_samples_args *a)
{
    return rest_is_fixed(a, 1) && axes_are_inner(a, 1);
}

bool rq_samples_pad(const rq_samples_args *a)
{
    int64_t pad[2 * RQ_MAX_RANK];
    if (!rest_is_fixed(a, 1))
        return false;
    if (input(a, 3))
        return axes_are_inner(a, 3);
    const int n = numbers(a, 1, RQ_WORD_pads, pad);
    return n == 2 * input(a, 0)->shape.rank && pad[0] == 0 && pad[n / 2] == 0;
}

bool rq_samples_transpose(const rq_samples_args *a)
{
    int n = 0;
    const int64_t *perm = rq_attr_ints(a->infer.node, RQ_WORD_perm, &n);
    return rest_is_fixed(a, 1) && perm && n > 0 && perm[0] == 0;
}

/* Samples of what is picked from, or of what says which to pick: rows of a fixed table. */
bool rq_samples_gather(const rq_samples_args *a)
{
    if (of(a, 1) == RQ_SAMPLES_NONE)
        return rest_is_fixed(a, 1) && axis_is_inner(a, 0);
    return of(a, 0) == RQ_SAMPLES_NONE && of(a, 1) == RQ_SAMPLES_ROWS &&
           rq_infer_axis(rq_attr_int(a->infer.node, RQ_WORD_axis, 0), input(a, 0)->shape.rank) == 0;
}

/* Axis 0 keeps its length whatever that is: its scale is 1. */
bool rq_samples_resize(const rq_samples_args *a)
{
    const rq_node *n = a->infer.node;
    return of(a, 0) == RQ_SAMPLES_ROWS && of(a, 1) == RQ_SAMPLES_NONE && of(a, 2) != RQ_SAMPLES_ROWS &&
           of(a, 3) != RQ_SAMPLES_ROWS &&
           rq_attr_word(n, RQ_WORD_coordinate_transformation_mode, RQ_WORD_half_pixel) != RQ_WORD_tf_crop_and_resize &&
           rq_attr_word(n, RQ_WORD_keep_aspect_ratio_policy, RQ_WORD_stretch) == RQ_WORD_stretch;
}

bool rq_samples_fill(const rq_samples_args *a)
{
    return of(a, 0) == RQ_SAMPLES_COUNT;
}

bool rq_samples_expand(const rq_samples_args *a)
{
    return spreads(a, 0, a->infer.out_shape[0].rank) && of(a, 1) != RQ_SAMPLES_ROWS;
}

/* Rows of the left by a matrix, or matrices by matrices, sample by sample. */
bool rq_samples_matmul(const rq_samples_args *a)
{
    const int x = input(a, 0)->shape.rank, y = input(a, 1)->shape.rank;
    for (int i = 2; i < a->infer.n_in; i++) /* zero points: numbers, or of columns */
        if (input(a, i) && (a->of[i] != RQ_SAMPLES_NONE || (i == 2 && rq_shape_count(&input(a, i)->shape) != 1)))
            return false;
    if (of(a, 1) == RQ_SAMPLES_NONE && of(a, 0) == RQ_SAMPLES_ROWS && x >= 2 && y >= 1 && y <= 2)
        return true;
    const int rank = x > y ? x : y;
    return rank > 2 && spreads(a, 0, rank) && spreads(a, 1, rank);
}

bool rq_samples_gemm(const rq_samples_args *a)
{
    return of(a, 0) == RQ_SAMPLES_ROWS && of(a, 1) == RQ_SAMPLES_NONE &&
           !rq_attr_int(a->infer.node, RQ_WORD_transA, 0) && (a->infer.n_in < 3 || spreads(a, 2, 2));
}

bool rq_samples_pool(const rq_samples_args *a)
{
    const rq_node *n = a->infer.node;
    return rest_is_fixed(a, 1) && (n->n_out < 2 || n->out[1] == RQ_NONE);
}

bool rq_samples_plain(const rq_samples_args *a)
{
    return rq_samples_pool(a) && !rq_attr_int(a->infer.node, RQ_WORD_training_mode, 0);
}

/* One scale, or scales along another axis. */
bool rq_samples_quantize(const rq_samples_args *a)
{
    const rq_tensor *scale = input(a, 1);
    return rest_is_fixed(a, 1) && scale && (rq_shape_count(&scale->shape) == 1 || axis_is_inner(a, 1));
}

/* ---- the walk ---- */

typedef struct walk {
    rq_graph *g;
    rq_content *known; /* [n_values] */
    rq_samples *of;    /* [n_values] */
    int64_t symbol;    /* how many samples */
    rq_arena arena;
} walk;

/* Is it [samples, known sizes ...]? */
static bool has_rows(const walk *w, const rq_shape *s)
{
    for (int i = 1; i < s->rank; i++)
        if (s->dim[i] < 0)
            return false;
    return s->rank > 0 && s->dim[0] == w->symbol;
}

/* Its codes mean the same in every sample. */
static bool has_one_meaning(const walk *w, rq_id v)
{
    const rq_qparams *q = rq_graph_qparams(w->g, v);
    return !q || q->n == 1 || (q->axis != RQ_PER_TENSOR && rq_infer_axis(q->axis, w->g->values[v].shape.rank) > 0);
}

/* The arguments of a node's rule; false: out of memory. */
static bool describe(walk *w, const rq_node *n, rq_samples_args *a)
{
    const rq_tensor **in = rq_arena_alloc(&w->arena, (size_t)n->n_in + 1, sizeof *in);
    rq_tensor *view = rq_arena_alloc(&w->arena, (size_t)n->n_in + 1, sizeof *view);
    rq_samples *what = rq_arena_alloc(&w->arena, (size_t)n->n_in + 1, sizeof *what);
    rq_shape *out = rq_arena_alloc(&w->arena, (size_t)n->n_out + 1, sizeof *out);
    if (!in || !view || !what || !out)
        return false;
    for (int i = 0; i < n->n_in; i++) {
        const rq_id id = n->in[i];
        in[i] = NULL;
        what[i] = RQ_SAMPLES_NONE;
        if (id == RQ_NONE)
            continue;
        view[i] = (rq_tensor) { .dtype = w->g->values[id].dtype, .shape = w->g->values[id].shape };
        in[i] = w->known[id].exact.dtype != RQ_DTYPE_NONE ? &w->known[id].exact : &view[i];
        what[i] = w->of[id];
    }
    for (int i = 0; i < n->n_out; i++)
        out[i] = n->out[i] == RQ_NONE ? rq_shape_unknown() : w->g->values[n->out[i]].shape;
    *a = (rq_samples_args) { .infer = { .graph = w->g,
                                        .node = n,
                                        .opset = rq_graph_opset(w->g, n->row->domain),
                                        .in = in,
                                        .n_in = n->n_in,
                                        .out_shape = out,
                                        .n_out = n->n_out },
                             .of = what };
    return true;
}

static bool keeps_apart(const rq_samples_args *a)
{
    const rq_op *row = a->infer.node->row;
    if (row->samples)
        return row->samples(a);
    return row->flags & (RQ_OP_TABLE | RQ_OP_COMMUTES) && rq_samples_each(a);
}

/* What the outputs of n are. *apart false: this cannot be said, or samples are mixed. */
static rq_status classify(walk *w, const rq_node *n, bool *apart)
{
    rq_samples_args a;
    rq_samples most = RQ_SAMPLES_NONE, made = RQ_SAMPLES_NONE;
    *apart = false;
    if (!n->row || rq_attr_any_body(n) || n->row->flags & (RQ_OP_KEEP | RQ_OP_DYNAMIC))
        return RQ_OK;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != RQ_NONE && w->of[n->in[i]] > most)
            most = w->of[n->in[i]];
    bool rows = false, counts = true;
    for (int i = 0; i < n->n_out && most != RQ_SAMPLES_NONE; i++) {
        if (n->out[i] == RQ_NONE)
            continue;
        rows |= has_rows(w, &w->g->values[n->out[i]].shape);
        counts &= rq_shape_is_known(&w->g->values[n->out[i]].shape);
    }
    if (rows) {
        made = RQ_SAMPLES_ROWS;
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] != RQ_NONE &&
                (!has_rows(w, &w->g->values[n->out[i]].shape) || !has_one_meaning(w, n->out[i])))
                return RQ_OK;
        if (!describe(w, n, &a))
            return RQ_NO_MEMORY;
        if (!keeps_apart(&a))
            return RQ_OK;
    } else if (most != RQ_SAMPLES_NONE) {
        if (!counts || (most == RQ_SAMPLES_ROWS && !(n->row->flags & RQ_OP_SHAPE_ONLY)))
            return RQ_OK;
        made = RQ_SAMPLES_COUNT;
    }
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            w->of[n->out[i]] =
                made == RQ_SAMPLES_COUNT && w->known[n->out[i]].exact.dtype != RQ_DTYPE_NONE ? RQ_SAMPLES_NONE : made;
    *apart = true;
    return RQ_OK;
}

static rq_status walk_nodes(walk *w, bool *apart)
{
    rq_id *order;
    int n;
    RQ_TRY(rq_order(w->g, &order, &n, NULL));
    rq_status st = RQ_OK;
    *apart = true;
    for (int i = 0; i < n && *apart && !st; i++)
        st = classify(w, &w->g->nodes[order[i]], apart);
    for (int i = 0; i < w->g->n_outputs; i++)
        *apart &= w->of[w->g->outputs[i]] == RQ_SAMPLES_ROWS;
    rq_mem_free(order);
    return st;
}

/* Sizes as fed, but for the number of samples. false: what is fed has no samples. */
static bool feed(walk *w, const rq_tensor *in)
{
    for (int i = 0; i < w->g->n_inputs; i++) {
        rq_value *v = &w->g->values[w->g->inputs[i]];
        if (in[i].dtype == RQ_DTYPE_NONE)
            continue;
        if (in[i].shape.rank < 1 || !has_one_meaning(w, w->g->inputs[i]))
            return false;
        rq_tensor_release(&v->constant);
        v->dtype = in[i].dtype;
        v->shape = in[i].shape;
        v->shape.dim[0] = w->symbol;
        w->of[w->g->inputs[i]] = RQ_SAMPLES_ROWS;
    }
    return true;
}

static rq_status prove(walk *w, const rq_tensor *in, bool *apart)
{
    w->of = rq_arena_alloc(&w->arena, (size_t)w->g->n_values + 1, sizeof *w->of);
    w->symbol = rq_graph_symbol(w->g, "samples of a batch");
    if (!w->of || w->symbol == RQ_DIM_UNKNOWN)
        return RQ_NO_MEMORY;
    for (rq_id v = 0; v < w->g->n_values; v++)
        w->of[v] = RQ_SAMPLES_NONE;
    rq_ops_bind(w->g);
    rq_ops_forget_shapes(w->g);
    if (!feed(w, in))
        return RQ_OK;
    const rq_status st = rq_ops_infer_known(w->g, &w->known, NULL);
    if (st) /* a size that does not fit is said when it is run */
        return st == RQ_NO_MEMORY ? st : RQ_OK;
    return walk_nodes(w, apart);
}

rq_status rq_samples_apart(bool *apart, const rq_graph *g, const rq_tensor *in)
{
    walk w = { 0 };
    *apart = false;
    if (rq_graph_copy(&w.g, g))
        return RQ_NO_MEMORY;
    const rq_status st = prove(&w, in, apart);
    for (rq_id v = 0; w.known && v < w.g->n_values; v++)
        rq_content_release(&w.known[v]);
    rq_mem_free(w.known);
    rq_arena_release(&w.arena);
    rq_graph_destroy(w.g);
    return st;
}
