/* ops/attention_ms_sizes.c — see attention_ms.h: sizes of com.microsoft's Attention, QAttention and MultiHeadAttention out
 * of the many layouts that they take, and what does not fit together (docs/onnx-facts.md 2.9). */

#include "ops/attention_int.h"
#include "ops/attention_ms.h"
#include "ops/rows.h"

const rq_ms_roles *rq_ms_roles_of(const rq_node *n)
{
    static const rq_ms_roles attention = { true, false, 2, 3, 5, 4, 4, 1, 1, -1, 6 },
                             multi = { false, false, 3, 4, 5, 6, 7, 1, 2, 3, 8 },
                             codes = { true, true, 2, 5, -1, 8, 8, 1, 1, -1, 9 };
    return n->row == &rq_op_ms_attention ? &attention : n->row == &rq_op_ms_qattention ? &codes : &multi;
}

const rq_tensor *rq_ms_input(const rq_tensor *const *in, int n_in, int i)
{
    return i >= 0 && i < n_in ? in[i] : NULL;
}

static rq_status join(const rq_infer *a, int64_t *d, int64_t other, const char *what)
{
    const int64_t was = *d;
    return rq_infer_dim_join(d, other) ? RQ_OK
                                       : rq_infer_fail(a, RQ_BAD_SHAPE, "%s is %lld in one input and %lld in another",
                                                       what, (long long)was, (long long)other);
}

static rq_status size_of(const rq_infer *a, int64_t *size, int64_t hidden, int64_t heads)
{
    if (hidden < 0)
        return RQ_OK;
    if (hidden % heads != 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld elements do not divide into %lld heads", (long long)hidden,
                             (long long)heads);
    return join(a, size, hidden / heads, "the size of a head");
}

static rq_status attention_dims(const rq_infer *a, rq_ms_dims *d)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    int n;
    const int64_t *hidden = rq_attr_ints(a->node, RQ_WORD_qkv_hidden_sizes, &n);
    if (x->rank >= 0 && x->rank != 3)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected 3", x->rank);
    if (w->rank >= 0 && w->rank != 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the weights have %d axes, expected 2", w->rank);
    if (x->rank == 3) {
        d->batch = x->dim[0];
        d->queries = d->rows = x->dim[1];
    }
    if (x->rank == 3 && w->rank == 2) {
        int64_t k = x->dim[2];
        RQ_TRY(join(a, &k, w->dim[0], "the last axis of the input"));
    }
    if (hidden) {
        if (n != 3 || hidden[0] != hidden[1] || hidden[0] < 1 || hidden[2] < 1 || hidden[0] > INT32_MAX ||
            hidden[2] > INT32_MAX)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "qkv_hidden_sizes is not three sizes, the first two equal");
        d->hidden = hidden[0];
        d->v_hidden = hidden[2];
        if (w->rank == 2 && w->dim[1] >= 0 && w->dim[1] != 2 * hidden[0] + hidden[2])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the weights have %lld columns, qkv_hidden_sizes says %lld",
                                 (long long)w->dim[1], (long long)(2 * hidden[0] + hidden[2]));
    } else if (w->rank == 2 && w->dim[1] >= 0) {
        if (w->dim[1] % 3 != 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE,
                                 "the weights have %lld columns, expected three times as many as one of "
                                 "Q, K and V has",
                                 (long long)w->dim[1]);
        d->hidden = d->v_hidden = w->dim[1] / 3;
    }
    return RQ_OK;
}

/* q, k and v of MultiHeadAttention in their layouts. */
static rq_status multi_dims(const rq_infer *a, rq_ms_dims *d)
{
    const rq_shape *q = &a->in[0]->shape;
    const rq_tensor *k = rq_ms_input(a->in, a->n_in, 1), *v = rq_ms_input(a->in, a->n_in, 2);
    if (q->rank < 0)
        return RQ_OK;
    d->batch = q->dim[0];
    d->queries = q->rank > 1 ? q->dim[1] : RQ_DIM_UNKNOWN;
    if (q->rank == 5) {
        int64_t three = 3, heads = d->heads;
        if (k || v)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "the query holds keys and values too, and these are given as well");
        RQ_TRY(join(a, &three, q->dim[3], "the number of parts of the query"));
        RQ_TRY(join(a, &heads, q->dim[2], "the number of heads"));
        d->rows = d->queries;
        d->size = d->v_size = q->dim[4];
        d->hidden = d->v_hidden = rq_infer_dim_mul(d->heads, d->size);
        return RQ_OK;
    }
    if (q->rank != 3)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the query has %d axes, expected 3 or 5", q->rank);
    if (!k)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "the key is missing");
    d->hidden = q->dim[2];
    if (k->shape.rank < 0)
        return RQ_OK;
    RQ_TRY(join(a, &d->batch, k->shape.dim[0], "the batch"));
    if (k->shape.rank == 5) {
        int64_t two = 2, heads = d->heads;
        if (v)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "the key holds values too, and these are given as well");
        RQ_TRY(join(a, &two, k->shape.dim[3], "the number of parts of the key"));
        RQ_TRY(join(a, &heads, k->shape.dim[2], "the number of heads"));
        d->rows = k->shape.dim[1];
        d->size = d->v_size = k->shape.dim[4];
        d->v_hidden = rq_infer_dim_mul(d->heads, d->v_size);
        return RQ_OK;
    }
    if (!v)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "the value is missing");
    if ((k->shape.rank != 3 && k->shape.rank != 4) || (v->shape.rank >= 0 && v->shape.rank != k->shape.rank))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "key and value have %d and %d axes, expected 3 or 4 of both",
                             k->shape.rank, v->shape.rank);
    const bool deep = k->shape.rank == 4;
    d->rows = k->shape.dim[deep ? 2 : 1];
    if (!deep)
        RQ_TRY(join(a, &d->hidden, k->shape.dim[2], "the last axis of query and key"));
    else {
        int64_t heads = d->heads;
        RQ_TRY(join(a, &heads, k->shape.dim[1], "the number of heads"));
        d->size = k->shape.dim[3];
    }
    if (v->shape.rank < 0)
        return RQ_OK;
    RQ_TRY(join(a, &d->batch, v->shape.dim[0], "the batch"));
    RQ_TRY(join(a, &d->rows, v->shape.dim[deep ? 2 : 1], "the number of keys"));
    if (deep) {
        int64_t heads = d->heads;
        RQ_TRY(join(a, &heads, v->shape.dim[1], "the number of heads"));
        d->v_size = v->shape.dim[3];
    }
    d->v_hidden = deep ? rq_infer_dim_mul(d->heads, d->v_size) : v->shape.dim[2];
    return RQ_OK;
}

static rq_status past_dims(const rq_infer *a, const rq_ms_roles *r, rq_ms_dims *d)
{
    const rq_tensor *pk = rq_ms_input(a->in, a->n_in, r->past_k), *pv = rq_ms_input(a->in, a->n_in, r->past_v);
    d->past = 0;
    if (!pk != !pv)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "past_key and past_value go together, and only one is given");
    if (!pk)
        return RQ_OK;
    d->past = RQ_DIM_UNKNOWN;
    for (int i = 0; i < 2; i++) {
        const rq_shape *s = &(i ? pv : pk)->shape;
        const int first = r->projects ? 1 : 0; /* [2,B,H,P,D], or two of [B,H,P,D] */
        int64_t heads = d->heads;
        if (s->rank < 0)
            continue;
        if (s->rank != 4 + first || (first && s->dim[0] >= 0 && s->dim[0] != 2))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "the past state has %d axes, expected %s", s->rank,
                                 first ? "5, the first of size 2" : "4");
        RQ_TRY(join(a, &d->batch, s->dim[first], "the batch"));
        RQ_TRY(join(a, &heads, s->dim[first + 1], "the number of heads"));
        RQ_TRY(join(a, &d->past, s->dim[first + 2], "the length of the past"));
        RQ_TRY(join(a, i ? &d->v_size : &d->size, s->dim[first + 3], "the size of a head"));
    }
    return RQ_OK;
}

/* The mask of keys in its forms; sizes that are not known fit. */
static rq_status mask_dims(const rq_infer *a, const rq_ms_roles *r, const rq_ms_dims *d)
{
    const rq_tensor *m = rq_ms_input(a->in, a->n_in, r->mask), *add = rq_ms_input(a->in, a->n_in, r->added);
    char text[RQ_SHAPE_TEXT];
    if (m && m->dtype != RQ_DTYPE_NONE && m->dtype != RQ_DTYPE_S32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the mask has type %s, expected s32", rq_dtype_name(m->dtype));
    if (m && rq_shape_is_known(&m->shape) && d->batch >= 0 && d->queries >= 0 && d->total >= 0) {
        const rq_shape *s = &m->shape;
        bool fits = false;
        if (s->rank == 1)
            fits = s->dim[0] == d->batch || (r->projects && s->dim[0] == 2 * d->batch);
        else if (s->rank == 2)
            fits = (s->dim[0] == d->batch && s->dim[1] == d->total) || (s->dim[1] == 1 && s->dim[0] <= 1) ||
                   (s->dim[0] == d->batch && s->dim[1] == 1);
        else if (s->rank == 3)
            fits = s->dim[0] == d->batch && s->dim[1] == d->queries && s->dim[2] == d->total;
        else if (s->rank == 4 && r->projects)
            fits = s->dim[0] == d->batch && s->dim[1] == 1 && s->dim[2] >= d->total && s->dim[3] >= d->total;
        if (!fits)
            return rq_infer_fail(
                a, RQ_UNSUPPORTED, "a mask of shape %s does not go with a batch of %lld, %lld queries and %lld keys",
                rq_shape_text(s, text, sizeof text), (long long)d->batch, (long long)d->queries, (long long)d->total);
    }
    if (!add || add->shape.rank < 0)
        return RQ_OK;
    const int64_t want[4] = { d->batch, d->heads, d->queries, d->total };
    bool fits = add->shape.rank == 4;
    for (int i = 0; fits && i < 4; i++)
        fits =
            add->shape.dim[i] < 0 || want[i] < 0 || add->shape.dim[i] == want[i] || (i < 2 && add->shape.dim[i] == 1);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "attention_bias of shape %s does not go with %lld heads, %lld queries and "
                             "%lld keys",
                             rq_shape_text(&add->shape, text, sizeof text), (long long)d->heads, (long long)d->queries,
                             (long long)d->total);
    return RQ_OK;
}

static rq_status all_dims(const rq_infer *a, const rq_ms_roles *r, rq_ms_dims *d)
{
    *d = (rq_ms_dims) { -1, rq_attr_int(a->node, RQ_WORD_num_heads, 0), -1, -1, -1, -1, -1, -1, -1, -1 };
    if (d->heads < 1 || d->heads > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "num_heads is %lld, expected at least 1", (long long)d->heads);
    RQ_TRY(r->projects ? attention_dims(a, d) : multi_dims(a, d));
    RQ_TRY(size_of(a, &d->size, d->hidden, d->heads));
    RQ_TRY(size_of(a, &d->v_size, d->v_hidden, d->heads));
    RQ_TRY(past_dims(a, r, d));
    if (d->size == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "heads have no elements");
    d->total = d->past == 0 ? d->rows : rq_infer_dim_add(d->past, d->rows);
    const rq_tensor *bias = rq_ms_input(a->in, a->n_in, r->bias);
    const int64_t all = rq_infer_dim_add(rq_infer_dim_mul(2, d->hidden), d->v_hidden);
    if (bias && bias->shape.rank >= 0 &&
        (bias->shape.rank != 1 || (bias->shape.dim[0] >= 0 && all >= 0 && bias->shape.dim[0] != all)))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias is not one row of %lld", (long long)all);
    return mask_dims(a, r, d);
}

rq_status rq_ms_infer(const rq_infer *a)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    if (!a->in[0] || (r->projects && !a->in[1]))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "a required input is missing");
    for (int i = r->first_refused; i < a->n_in; i++)
        if (a->in[i])
            return rq_infer_fail(a, RQ_UNSUPPORTED, "input %d (buffers shared between runs) is not supported", i);
    if (rq_attr_int(a->node, RQ_WORD_past_present_share_buffer, 0) || rq_attr_int(a->node, RQ_WORD_do_rotary, 0))
        return rq_infer_fail(a, RQ_UNSUPPORTED, "past_present_share_buffer and do_rotary are not supported");
    if (rq_ms_roles_of(a->node)->codes)
        RQ_TRY(rq_attention_int_check(a));
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = rq_ms_roles_of(a->node)->codes ? a->in[r->bias]->dtype : a->in[0]->dtype;
    rq_ms_dims d;
    RQ_TRY(all_dims(a, r, &d));
    if (r->projects && a->n_out > 1 && d.size >= 0 && d.v_size >= 0 && d.size != d.v_size)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "a present state of keys of %lld and values of %lld elements",
                             (long long)d.size, (long long)d.v_size);
    a->out_shape[0] = rq_shape_of(3, (int64_t[]) { d.batch, d.queries, d.v_hidden });
    if (r->projects && a->n_out > 1)
        a->out_shape[1] = rq_shape_of(5, (int64_t[]) { 2, d.batch, d.heads, d.total, d.size });
    if (!r->projects && a->n_out > 1)
        a->out_shape[1] = rq_shape_of(4, (int64_t[]) { d.batch, d.heads, d.total, d.size });
    if (!r->projects && a->n_out > 2)
        a->out_shape[2] = rq_shape_of(4, (int64_t[]) { d.batch, d.heads, d.total, d.v_size });
    if (!r->projects && a->n_out > 3)
        a->out_shape[3] = rq_shape_of(4, (int64_t[]) { d.batch, d.heads, d.queries, d.total });
    return RQ_OK;
}

void rq_ms_find(const rq_op_args *a, const rq_ms_roles *r, rq_ms_dims *d)
{
    const rq_infer i = { .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in };
    (void)all_dims(&i, r, d); /* it went well when the outputs were inferred */
}
