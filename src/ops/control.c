/* ops/control.c — If, Loop, Scan: operators whose bodies are subgraphs, run by the executor. Their outputs' sizes may
 * change from turn to turn, so forward creates them. */
#include <string.h>

#include "ops/moves.h"

/* Output i of a body, as inference left it. */
static const rq_value *body_output(const rq_graph *body, int i)
{
    return body && i < body->n_outputs && body->outputs[i] != RQ_NONE ? &body->values[body->outputs[i]] : NULL;
}

static rq_status check_body(const rq_graph *g, const rq_node *n, rq_word attr, int n_out, rq_err *err)
{
    const rq_graph *body = rq_attr_graph(n, attr);
    if (!body)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute '%s' is missing", rq_word_text(attr));
    if (n_out >= 0 && body->n_outputs != n_out)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "%s has %d outputs, expected %d", rq_word_text(attr),
                            body->n_outputs, n_out);
    return RQ_OK;
}

/* ---- If ---- */

static rq_status if_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    RQ_TRY(check_body(g, n, RQ_WORD_then_branch, n->n_out, err));
    return check_body(g, n, RQ_WORD_else_branch, n->n_out, err);
}

static rq_status if_infer(const rq_infer *a)
{
    for (int i = 0; i < a->n_out; i++) {
        const rq_value *p = body_output(rq_attr_graph(a->node, RQ_WORD_then_branch), i);
        const rq_value *q = body_output(rq_attr_graph(a->node, RQ_WORD_else_branch), i);
        if (!p || !q)
            continue;
        a->out_dtype[i] = p->dtype == q->dtype ? p->dtype : RQ_DTYPE_NONE;
        if (p->shape.rank != q->shape.rank)
            continue;
        a->out_shape[i] = p->shape;
        for (int k = 0; k < p->shape.rank; k++)
            if (p->shape.dim[k] != q->shape.dim[k])
                a->out_shape[i].dim[k] = RQ_DIM_UNKNOWN;
    }
    return RQ_OK;
}

static rq_status if_forward(const rq_op_args *a)
{
    if (rq_tensor_count(a->in[0]) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the condition has %lld elements, expected 1",
                          (long long)rq_tensor_count(a->in[0]));
    const rq_word attr = rq_tensor_get(a->in[0], 0) != 0 ? RQ_WORD_then_branch : RQ_WORD_else_branch;
    rq_tensor *out = rq_mem_zalloc((size_t)a->n_out + 1, sizeof *out);
    if (!out)
        return rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    rq_status s = a->run_subgraph(a->runner, attr, NULL, 0, out, a->n_out, a->err);
    for (int i = 0; i < a->n_out; i++)
        if (s == RQ_OK && a->out[i])
            *a->out[i] = out[i];
        else
            rq_tensor_release(&out[i]);
    rq_mem_free(out);
    return s;
}

/* ---- a list of equal tensors, stacked ---- */

typedef struct stack {
    rq_dtype dtype;
    rq_shape item;
    char *data;
    size_t bytes; /* of an item */
    int64_t n, cap;
} stack;

static rq_status stack_push(const rq_op_args *a, stack *s, const rq_tensor *t)
{
    char x[RQ_SHAPE_TEXT], y[RQ_SHAPE_TEXT];
    if (s->n == 0) {
        s->dtype = t->dtype;
        s->item = t->shape;
        s->bytes = rq_shape_bytes(&t->shape, t->dtype);
        if (rq_moves_size(t->dtype) == 0)
            return rq_op_fail(a, RQ_UNSUPPORTED, "stacking tensors of %s", rq_dtype_name(t->dtype));
    } else if (t->dtype != s->dtype || !rq_shape_equal(&t->shape, &s->item)) {
        return rq_op_fail(a, RQ_BAD_SHAPE, "a scan output has shape %s, before it was %s",
                          rq_shape_text(&t->shape, x, sizeof x), rq_shape_text(&s->item, y, sizeof y));
    }
    if (s->n == s->cap) {
        int64_t cap = s->cap ? s->cap * 2 : 8;
        char *data = rq_mem_realloc(s->data, (size_t)cap, s->bytes ? s->bytes : 1);
        if (!data)
            return rq_op_fail(a, RQ_NO_MEMORY, "out of memory after %lld turns", (long long)s->n);
        s->data = data;
        s->cap = cap;
    }
    if (s->bytes)
        memcpy(s->data + (size_t)s->n * s->bytes, t->data, s->bytes);
    s->n++;
    return RQ_OK;
}

/* The items along `axis` of out, in order or backwards; dtype and item shape from `like` when there are none. */
static rq_status stack_join(const rq_op_args *a, const stack *s, rq_tensor *out, int64_t axis_attr, bool backwards,
                            const rq_value *like)
{
    rq_shape item = s->n ? s->item : like ? like->shape : (rq_shape) { 0 };
    rq_dtype d = s->n ? s->dtype : like && like->dtype != RQ_DTYPE_NONE ? like->dtype : RQ_DTYPE_F32;
    if (item.rank < 0 || item.rank + 1 > RQ_MAX_RANK)
        item.rank = 0;
    int axis = rq_infer_axis(axis_attr, item.rank + 1);
    if (axis < 0)
        return rq_op_fail(a, RQ_BAD_SHAPE, "axis %lld of an output with %d axes", (long long)axis_attr, item.rank + 1);
    rq_shape shape = { .rank = item.rank + 1 };
    for (int i = 0, k = 0; i < shape.rank; i++) {
        shape.dim[i] = i == axis ? s->n : item.dim[k++];
        if (shape.dim[i] < 0) /* no turn was made that would tell */
            shape.dim[i] = 0;
    }
    rq_status st = rq_tensor_create(out, d, &shape, false);
    if (st != RQ_OK)
        return rq_op_fail(a, st, "no memory for %lld stacked tensors", (long long)s->n);
    if (s->n == 0)
        return RQ_OK;
    int64_t outer = rq_shape_span(&item, 0, axis), inner = rq_shape_span(&item, axis, item.rank);
    size_t elem = rq_moves_size(d);
    for (int64_t i = 0; i < s->n; i++)
        rq_move_nd((char *)out->data + (size_t)((backwards ? s->n - 1 - i : i) * inner) * elem,
                   s->data + (size_t)i * s->bytes, elem, 2, (int64_t[]) { outer, inner },
                   (int64_t[]) { s->n * inner, 1 }, (int64_t[]) { inner, 1 });
    return RQ_OK;
}

/* ---- Loop ---- */

static rq_status loop_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    RQ_TRY(check_body(g, n, RQ_WORD_body, n->n_out + 1, err));
    const rq_graph *body = rq_attr_graph(n, RQ_WORD_body);
    int n_carried = n->n_in > 2 ? n->n_in - 2 : 0;
    if (body->n_inputs != n_carried + 2 || n->n_out < n_carried)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "the body has %d inputs for %d carried values", body->n_inputs,
                            n_carried);
    return RQ_OK;
}

static rq_status loop_infer(const rq_infer *a)
{
    const rq_graph *body = rq_attr_graph(a->node, RQ_WORD_body);
    int n_carried = a->n_in > 2 ? a->n_in - 2 : 0;
    for (int i = 0; i < a->n_out; i++) {
        const rq_value *v = body_output(body, i + 1);
        if (!v)
            continue;
        a->out_dtype[i] = v->dtype;
        if (i < n_carried || v->shape.rank < 0 || v->shape.rank + 1 > RQ_MAX_RANK)
            continue;
        a->out_shape[i].rank = v->shape.rank + 1;
        a->out_shape[i].dim[0] = RQ_DIM_UNKNOWN;
        for (int k = 0; k < v->shape.rank; k++)
            a->out_shape[i].dim[k + 1] = v->shape.dim[k];
    }
    return RQ_OK;
}

static bool read_flag(const rq_tensor *t)
{
    return rq_tensor_count(t) > 0 && rq_tensor_get(t, 0) != 0;
}

/* What a Loop body gets besides the carried values. */
typedef struct turn_feed {
    int64_t turn;
    uint8_t flag;
    rq_tensor turn_tensor, flag_tensor;
} turn_feed;

/* Turn after turn while i < trip count and the condition holds. carried[n_carried] own their bytes. */
static rq_status loop_turns(const rq_op_args *a, rq_tensor *carried, int n_carried, rq_tensor *made,
                            const rq_tensor **in, turn_feed *feed, stack *stacks, int n_stacks)
{
    const rq_tensor *trip = a->n_in > 0 ? a->in[0] : NULL, *cond = a->n_in > 1 ? a->in[1] : NULL;
    if (trip && rq_tensor_count(trip) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the trip count has %lld elements, expected 1",
                          (long long)rq_tensor_count(trip));
    int64_t most = trip ? rq_tensor_get_int(trip, 0) : INT64_MAX;
    bool go_on = cond ? read_flag(cond) : true;
    for (; feed->turn < most && go_on; feed->turn++) {
        feed->flag = go_on;
        int n_made = 1 + n_carried + n_stacks;
        memset(made, 0, (size_t)n_made * sizeof *made);
        RQ_TRY(a->run_subgraph(a->runner, RQ_WORD_body, in, 2 + n_carried, made, n_made, a->err));
        go_on = read_flag(&made[0]);
        rq_tensor_release(&made[0]);
        for (int i = 0; i < n_carried; i++) {
            rq_tensor_release(&carried[i]);
            carried[i] = made[1 + i];
        }
        rq_status s = RQ_OK;
        for (int i = 0; i < n_stacks; i++) {
            if (s == RQ_OK)
                s = stack_push(a, &stacks[i], &made[1 + n_carried + i]);
            rq_tensor_release(&made[1 + n_carried + i]);
        }
        RQ_TRY(s);
    }
    return RQ_OK;
}

static rq_status loop_forward(const rq_op_args *a)
{
    int n_carried = a->n_in > 2 ? a->n_in - 2 : 0, n_stacks = a->n_out - n_carried;
    const rq_graph *body = rq_attr_graph(a->node, RQ_WORD_body);
    rq_tensor *carried = rq_mem_zalloc((size_t)n_carried + 1, sizeof *carried);
    rq_tensor *made = rq_mem_zalloc((size_t)a->n_out + 2, sizeof *made);
    const rq_tensor **in = rq_mem_zalloc((size_t)n_carried + 2, sizeof *in);
    stack *stacks = rq_mem_zalloc((size_t)n_stacks + 1, sizeof *stacks);
    turn_feed feed = { 0 };
    feed.turn_tensor = rq_tensor_view(RQ_DTYPE_S64, &(rq_shape) { 0 }, &feed.turn);
    feed.flag_tensor = rq_tensor_view(RQ_DTYPE_BOOL, &(rq_shape) { 0 }, &feed.flag);
    rq_status s = carried && made && in && stacks ? RQ_OK : rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; i < n_carried + 2 && s == RQ_OK; i++)
        in[i] = i == 0 ? &feed.turn_tensor : i == 1 ? &feed.flag_tensor : &carried[i - 2];
    for (int i = 0; i < n_carried && s == RQ_OK; i++)
        if (a->in[2 + i] && rq_tensor_copy(&carried[i], a->in[2 + i]) != RQ_OK)
            s = rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    if (s == RQ_OK)
        s = loop_turns(a, carried, n_carried, made, in, &feed, stacks, n_stacks);
    for (int i = 0; i < a->n_out && s == RQ_OK; i++) {
        if (!a->out[i])
            continue;
        if (i >= n_carried) {
            s = stack_join(a, &stacks[i - n_carried], a->out[i], 0, false, body_output(body, i + 1));
        } else {
            *a->out[i] = carried[i];
            carried[i] = (rq_tensor) { 0 };
        }
    }
    for (int i = 0; carried && i < n_carried; i++)
        rq_tensor_release(&carried[i]);
    for (int i = 0; stacks && i < n_stacks; i++)
        rq_mem_free(stacks[i].data);
    rq_mem_free(carried);
    rq_mem_free(made);
    rq_mem_free(in);
    rq_mem_free(stacks);
    return s;
}

/* ---- Scan (opset 9 on) ---- */

/* Entry k of an optional list attribute. */
static int64_t entry(const rq_node *n, rq_word name, int k, int64_t fallback)
{
    int count = 0;
    const int64_t *v = rq_attr_ints(n, name, &count);
    return v && k < count ? v[k] : fallback;
}

static rq_status scan_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const int first = opset < 9; /* input 0 of opset 8 holds lengths, and may be left out */
    for (int i = first; i < n->n_in; i++)
        if (n->in[i] == RQ_NONE)
            return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "input %d is left out, but the operator needs it", i);
    RQ_TRY(check_body(g, n, RQ_WORD_body, n->n_out, err));
    int64_t n_scan = rq_attr_int(n, RQ_WORD_num_scan_inputs, 0);
    const rq_graph *body = rq_attr_graph(n, RQ_WORD_body);
    const int n_in = n->n_in - first;
    if (n_scan < 1 || n_scan > n_in || n_in - n_scan > n->n_out || body->n_inputs != n_in)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "num_scan_inputs is %lld of %d inputs, the body has %d",
                            (long long)n_scan, n->n_in, body->n_inputs);
    return RQ_OK;
}

static rq_status scan_infer(const rq_infer *a)
{
    const rq_graph *body = rq_attr_graph(a->node, RQ_WORD_body);
    int n_scan = (int)rq_attr_int(a->node, RQ_WORD_num_scan_inputs, 0), n_state = a->n_in - n_scan;
    int64_t steps = RQ_DIM_UNKNOWN;
    if (a->opset < 9) { /* sizes follow from the body, batch by batch, when it runs */
        for (int i = 0; i < a->n_out; i++)
            a->out_dtype[i] = body_output(body, i) ? body_output(body, i)->dtype : RQ_DTYPE_NONE;
        return RQ_OK;
    }
    for (int k = 0; k < n_scan; k++) {
        const rq_shape *s = &a->in[n_state + k]->shape;
        int axis = s->rank < 0 ? -1 : rq_infer_axis(entry(a->node, RQ_WORD_scan_input_axes, k, 0), s->rank);
        if (s->rank >= 0 && axis < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "scan axis %lld of an input with %d axes",
                                 (long long)entry(a->node, RQ_WORD_scan_input_axes, k, 0), s->rank);
        if (axis >= 0 && !rq_infer_dim_join(&steps, s->dim[axis]))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "scanned inputs have lengths %lld and %lld", (long long)steps,
                                 (long long)s->dim[axis]);
    }
    for (int i = 0; i < a->n_out; i++) {
        const rq_value *v = body_output(body, i);
        if (!v)
            continue;
        a->out_dtype[i] = v->dtype;
        if (i < n_state) {
            a->out_shape[i] = v->shape;
            continue;
        }
        int axis = v->shape.rank < 0 || v->shape.rank + 1 > RQ_MAX_RANK
                       ? -1
                       : rq_infer_axis(entry(a->node, RQ_WORD_scan_output_axes, i - n_state, 0), v->shape.rank + 1);
        if (axis < 0)
            continue;
        a->out_shape[i].rank = v->shape.rank + 1;
        for (int k = 0, from = 0; k <= v->shape.rank; k++)
            a->out_shape[i].dim[k] = k == axis ? steps : v->shape.dim[from++];
    }
    return RQ_OK;
}

/* Slice t of x along an axis, created. */
static rq_status slice_at(const rq_op_args *a, rq_tensor *out, const rq_tensor *x, int axis, int64_t t)
{
    rq_shape s = { .rank = x->shape.rank - 1 };
    for (int i = 0, k = 0; i < x->shape.rank; i++)
        if (i != axis)
            s.dim[k++] = x->shape.dim[i];
    size_t elem = rq_moves_size(x->dtype);
    if (elem == 0)
        return rq_op_fail(a, RQ_UNSUPPORTED, "scanning a tensor of %s", rq_dtype_name(x->dtype));
    if (rq_tensor_create(out, x->dtype, &s, false) != RQ_OK)
        return rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    int64_t outer = rq_shape_span(&x->shape, 0, axis), inner = rq_shape_span(&x->shape, axis + 1, x->shape.rank);
    rq_move_nd(out->data, (const char *)x->data + (size_t)(t * inner) * elem, elem, 2, (int64_t[]) { outer, inner },
               (int64_t[]) { inner, 1 }, (int64_t[]) { x->shape.dim[axis] * inner, 1 });
    return RQ_OK;
}

/* One turn: state and slices in, state and stacked outputs out. feed[n_in], made[n_out] arrive empty and leave so, but
 * for the state in feed. */
static rq_status scan_turn(const rq_op_args *a, int n_state, int64_t t, int64_t steps, rq_tensor *feed, rq_tensor *made,
                           const rq_tensor **in, stack *stacks)
{
    rq_status s = RQ_OK;
    for (int i = n_state; i < a->n_in && s == RQ_OK; i++) {
        const rq_tensor *x = a->in[i];
        int axis = rq_infer_axis(entry(a->node, RQ_WORD_scan_input_axes, i - n_state, 0), x->shape.rank);
        bool backwards =
            entry(a->node, a->opset < 9 ? RQ_WORD_directions : RQ_WORD_scan_input_directions, i - n_state, 0) == 1;
        s = slice_at(a, &feed[i], x, axis, backwards ? steps - 1 - t : t);
    }
    for (int i = 0; i < a->n_in; i++)
        in[i] = &feed[i];
    memset(made, 0, (size_t)a->n_out * sizeof *made);
    if (s == RQ_OK)
        s = a->run_subgraph(a->runner, RQ_WORD_body, in, a->n_in, made, a->n_out, a->err);
    for (int i = n_state; i < a->n_in; i++)
        rq_tensor_release(&feed[i]);
    RQ_TRY(s);
    for (int i = 0; i < n_state; i++) {
        rq_tensor_release(&feed[i]);
        feed[i] = made[i];
    }
    for (int i = n_state; i < a->n_out; i++) {
        if (s == RQ_OK)
            s = stack_push(a, &stacks[i - n_state], &made[i]);
        rq_tensor_release(&made[i]);
    }
    return s;
}

static rq_status scan_run(const rq_op_args *a)
{
    int n_state = a->n_in - (int)rq_attr_int(a->node, RQ_WORD_num_scan_inputs, 0);
    const rq_graph *body = rq_attr_graph(a->node, RQ_WORD_body);
    const rq_tensor *first = a->in[n_state];
    int axis = rq_infer_axis(entry(a->node, RQ_WORD_scan_input_axes, 0, 0), first->shape.rank);
    int64_t steps = axis < 0 ? 0 : first->shape.dim[axis];
    rq_tensor *feed = rq_mem_zalloc((size_t)a->n_in + 1, sizeof *feed);
    rq_tensor *made = rq_mem_zalloc((size_t)a->n_out + 1, sizeof *made);
    const rq_tensor **in = rq_mem_zalloc((size_t)a->n_in + 1, sizeof *in);
    stack *stacks = rq_mem_zalloc((size_t)a->n_out + 1, sizeof *stacks);
    rq_status s = feed && made && in && stacks ? RQ_OK : rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; i < n_state && s == RQ_OK; i++)
        if (rq_tensor_copy(&feed[i], a->in[i]) != RQ_OK)
            s = rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    for (int64_t t = 0; t < steps && s == RQ_OK; t++)
        s = scan_turn(a, n_state, t, steps, feed, made, in, stacks);
    for (int i = 0; i < a->n_out && s == RQ_OK; i++) {
        if (!a->out[i])
            continue;
        int k = i - n_state;
        if (k >= 0) {
            s = stack_join(a, &stacks[k], a->out[i], entry(a->node, RQ_WORD_scan_output_axes, k, 0),
                           entry(a->node, RQ_WORD_scan_output_directions, k, 0) == 1, body_output(body, i));
        } else {
            *a->out[i] = feed[i];
            feed[i] = (rq_tensor) { 0 };
        }
    }
    for (int i = 0; feed && i < a->n_in; i++)
        rq_tensor_release(&feed[i]);
    for (int i = 0; stacks && i < a->n_out; i++)
        rq_mem_free(stacks[i].data);
    rq_mem_free(feed);
    rq_mem_free(made);
    rq_mem_free(in);
    rq_mem_free(stacks);
    return s;
}

/* ---- Scan of opset 8: each item of a batch by itself ---- */

/* Item b of x, its first `steps` elements only when steps >= 0; a view. */
static rq_tensor item_of(const rq_tensor *x, int64_t b, int64_t steps)
{
    rq_shape s = { .rank = x->shape.rank - 1 };
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = x->shape.dim[i + 1];
    char *at = (char *)x->data + (size_t)b * rq_shape_bytes(&s, x->dtype);
    if (steps >= 0 && s.rank > 0)
        s.dim[0] = steps;
    return rq_tensor_view(x->dtype, &s, at);
}

/* out gets a share of t with zeros behind its first axis up to `steps`. */
static rq_status pad_steps(const rq_op_args *a, rq_tensor *out, const rq_tensor *t, int64_t steps)
{
    rq_shape s = t->shape;
    if (s.rank == 0 || s.dim[0] == steps) {
        rq_tensor_share(out, t);
        return RQ_OK;
    }
    if (s.dim[0] > steps)
        return rq_op_fail(a, RQ_BAD_SHAPE, "a scan output has %lld steps of %lld", (long long)s.dim[0],
                          (long long)steps);
    s.dim[0] = steps;
    if (rq_tensor_create(out, t->dtype, &s, true))
        return rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    if (rq_shape_count(&t->shape))
        memcpy(out->data, t->data, rq_shape_bytes(&t->shape, t->dtype));
    return RQ_OK;
}

/* The shapes that items are cut from; the batch and its longest sequence. */
static rq_status batch_sizes(const rq_op_args *a, int n_state, int64_t *batch, int64_t *steps)
{
    const rq_tensor *lengths = a->in[0];
    *batch = *steps = -1;
    for (int i = 1; i < a->n_in; i++) {
        const rq_shape *s = &a->in[i]->shape;
        const bool scanned = i > n_state;
        if (s->rank < (scanned ? 2 : 1) || (*batch >= 0 && s->dim[0] != *batch) ||
            (scanned && *steps >= 0 && s->dim[1] != *steps))
            return rq_op_fail(a, RQ_BAD_SHAPE, "input %d has another batch or length than those before it", i);
        *batch = s->dim[0];
        *steps = scanned ? s->dim[1] : *steps;
    }
    if (lengths && (lengths->dtype != RQ_DTYPE_S64 || rq_tensor_count(lengths) != *batch))
        return rq_op_fail(a, RQ_BAD_SHAPE, "there are not as many lengths as items in the batch");
    for (int64_t b = 0; lengths && b < *batch; b++)
        if (lengths->s64[b] < 0 || lengths->s64[b] > *steps)
            return rq_op_fail(a, RQ_BAD_SHAPE, "length %lld of sequences of %lld", (long long)lengths->s64[b],
                              (long long)*steps);
    return RQ_OK;
}

/* Item b: its slices through the Scan of opset 9, what comes out onto the stacks. */
static rq_status scan_item(const rq_op_args *a, int n_state, int64_t b, int64_t steps, rq_tensor *view,
                           const rq_tensor **in, rq_tensor *made, rq_tensor **out, stack *stacks)
{
    const int64_t length = a->in[0] ? a->in[0]->s64[b] : steps;
    for (int i = 1; i < a->n_in; i++) {
        view[i - 1] = item_of(a->in[i], b, i > n_state ? length : -1);
        in[i - 1] = &view[i - 1];
    }
    for (int i = 0; i < a->n_out; i++) {
        made[i] = (rq_tensor) { 0 };
        out[i] = &made[i];
    }
    rq_op_args item = *a;
    item.in = in;
    item.n_in = a->n_in - 1;
    item.out = out;
    rq_status s = scan_run(&item);
    for (int i = 0; i < a->n_out; i++) {
        rq_tensor whole = { 0 };
        if (s == RQ_OK)
            s = pad_steps(a, &whole, &made[i], i < n_state ? made[i].shape.dim[0] : steps);
        if (s == RQ_OK)
            s = stack_push(a, &stacks[i], &whole);
        rq_tensor_release(&whole);
        rq_tensor_release(&made[i]);
    }
    return s;
}

static rq_status scan_8(const rq_op_args *a)
{
    const int n_state = a->n_in - 1 - (int)rq_attr_int(a->node, RQ_WORD_num_scan_inputs, 0);
    const rq_graph *body = rq_attr_graph(a->node, RQ_WORD_body);
    const size_t n_in = (size_t)a->n_in, n_out = (size_t)a->n_out;
    int64_t batch, steps;
    RQ_TRY(batch_sizes(a, n_state, &batch, &steps));
    rq_tensor *view = rq_mem_zalloc(n_in, sizeof *view), *made = rq_mem_zalloc(n_out, sizeof *made);
    const rq_tensor **in = rq_mem_zalloc(n_in, sizeof *in);
    rq_tensor **out = rq_mem_zalloc(n_out, sizeof *out);
    stack *stacks = rq_mem_zalloc(n_out, sizeof *stacks);
    rq_status s = view && made && in && out && stacks ? RQ_OK : rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    for (int64_t b = 0; b < batch && s == RQ_OK; b++)
        s = scan_item(a, n_state, b, steps, view, in, made, out, stacks);
    for (int i = 0; i < a->n_out && s == RQ_OK; i++)
        if (a->out[i])
            s = stack_join(a, &stacks[i], a->out[i], 0, false, body_output(body, i));
    for (int i = 0; stacks && i < a->n_out; i++)
        rq_mem_free(stacks[i].data);
    rq_mem_free(view);
    rq_mem_free(made);
    rq_mem_free(in);
    rq_mem_free(out);
    rq_mem_free(stacks);
    return s;
}

static rq_status scan_forward(const rq_op_args *a)
{
    return a->opset < 9 ? scan_8(a) : scan_run(a);
}

/* ---- rows ---- */

const rq_op rq_op_if = {
    .name = "If",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = -1,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .check = if_check,
    .infer = if_infer,
    .forward = if_forward,
};

const rq_op rq_op_loop = {
    .name = "Loop",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 0,
    .max_in = -1,
    .min_out = 0,
    .max_out = -1,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .check = loop_check,
    .infer = loop_infer,
    .forward = loop_forward,
};

const rq_op rq_op_scan = {
    .name = "Scan",
    .domain = "",
    .since = 8,
    .known = 25,
    .min_in = 0,
    .max_in = -1,
    .min_out = 1,
    .max_out = -1,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .check = scan_check,
    .infer = scan_infer,
    .forward = scan_forward,
};
