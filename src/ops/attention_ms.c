/* ops/attention_ms.c — Attention, QAttention and MultiHeadAttention of com.microsoft, on ops/attend.h. The first two
 * project their input to q, k and v themselves; the last gets them in any of five layouts. Masks here add a finite
 * number (mask_filter_value) where they hide, so a row with everything hidden is not 0: docs/onnx-facts.md 2.9. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/gemm_f32.h"
#include "ops/attend.h"
#include "ops/attention_int.h"
#include "ops/bcast.h"
#include "ops/half.h"
#include "ops/int_ops.h"

/* Inputs and outputs of both, by what they are; -1: that operator has none. */
typedef struct roles {
    bool projects;
    int bias, mask, added, past_k, past_v, present_k, present_v, scores, first_refused;
} roles;

static const roles *roles_of(const rq_node *n)
{
    static const roles attention = { true, 2, 3, 5, 4, 4, 1, 1, -1, 6 }, multi = { false, 3, 4, 5, 6, 7, 1, 2, 3, 8 },
                       codes = { true, 2, 5, -1, 8, 8, 1, 1, -1, 9 };
    return strcmp(n->op, "Attention") == 0 ? &attention : strcmp(n->op, "QAttention") == 0 ? &codes : &multi;
}

/* Its input and weights are codes. */
static bool is_codes(const rq_node *n)
{
    return strcmp(n->op, "QAttention") == 0;
}

static const rq_tensor *input(const rq_tensor *const *in, int n_in, int i)
{
    return i >= 0 && i < n_in ? in[i] : NULL;
}

/* Sizes; negative where not known (infer only). total = past + rows. */
typedef struct dims {
    int64_t batch, heads, queries, rows, past, total, size, v_size;
    int64_t hidden, v_hidden; /* of q and k, of v */
} dims;

/* ---- sizes ---- */

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

static rq_status attention_dims(const rq_infer *a, dims *d)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    int n;
    const int64_t *hidden = rq_attr_ints(a->node, "qkv_hidden_sizes", &n);
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
static rq_status multi_dims(const rq_infer *a, dims *d)
{
    const rq_shape *q = &a->in[0]->shape;
    const rq_tensor *k = input(a->in, a->n_in, 1), *v = input(a->in, a->n_in, 2);
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

static rq_status past_dims(const rq_infer *a, const roles *r, dims *d)
{
    const rq_tensor *pk = input(a->in, a->n_in, r->past_k), *pv = input(a->in, a->n_in, r->past_v);
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
static rq_status mask_dims(const rq_infer *a, const roles *r, const dims *d)
{
    const rq_tensor *m = input(a->in, a->n_in, r->mask), *add = input(a->in, a->n_in, r->added);
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

static rq_status all_dims(const rq_infer *a, const roles *r, dims *d)
{
    *d = (dims) { -1, rq_attr_int(a->node, "num_heads", 0), -1, -1, -1, -1, -1, -1, -1, -1 };
    if (d->heads < 1 || d->heads > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "num_heads is %lld, expected at least 1", (long long)d->heads);
    RQ_TRY(r->projects ? attention_dims(a, d) : multi_dims(a, d));
    RQ_TRY(size_of(a, &d->size, d->hidden, d->heads));
    RQ_TRY(size_of(a, &d->v_size, d->v_hidden, d->heads));
    RQ_TRY(past_dims(a, r, d));
    if (d->size == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "heads have no elements");
    d->total = d->past == 0 ? d->rows : rq_infer_dim_add(d->past, d->rows);
    const rq_tensor *bias = input(a->in, a->n_in, r->bias);
    const int64_t all = rq_infer_dim_add(rq_infer_dim_mul(2, d->hidden), d->v_hidden);
    if (bias && bias->shape.rank >= 0 &&
        (bias->shape.rank != 1 || (bias->shape.dim[0] >= 0 && all >= 0 && bias->shape.dim[0] != all)))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the bias is not one row of %lld", (long long)all);
    return mask_dims(a, r, d);
}

static rq_status ms_infer(const rq_infer *a)
{
    const roles *r = roles_of(a->node);
    if (!a->in[0] || (r->projects && !a->in[1]))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "a required input is missing");
    for (int i = r->first_refused; i < a->n_in; i++)
        if (a->in[i])
            return rq_infer_fail(a, RQ_UNSUPPORTED, "input %d (buffers shared between runs) is not supported", i);
    if (rq_attr_int(a->node, "past_present_share_buffer", 0) || rq_attr_int(a->node, "do_rotary", 0))
        return rq_infer_fail(a, RQ_UNSUPPORTED, "past_present_share_buffer and do_rotary are not supported");
    if (is_codes(a->node))
        RQ_TRY(rq_attention_int_check(a));
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = is_codes(a->node) ? a->in[r->bias]->dtype : a->in[0]->dtype;
    dims d;
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

/* ---- running ---- */

static void run_dims(const rq_op_args *a, const roles *r, dims *d)
{
    const rq_infer i = { .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in };
    (void)all_dims(&i, r, d); /* it went well when the outputs were inferred */
}

static rq_attend plan(const rq_op_args *a, const dims *d)
{
    return (rq_attend) {
        .k = a->k,
        .threads = a->threads,
        .batch = d->batch,
        .heads = d->heads,
        .kv_heads = d->heads,
        .queries = d->queries,
        .keys = d->total,
        .size = d->size,
        .v_size = d->v_size,
        .y_at = { d->queries * d->v_hidden, d->v_size, d->v_hidden },
        .left = -1,
        .right = -1,
    };
}

/* Scratch: scores; q, k and v with their bias (or projected, side by side); keys and values with the past where the
 * present is not wanted; three numbers per image. */
typedef struct layout {
    size_t q, k, v, keys, values, numbers, bytes;
} layout;

static size_t floats(int64_t a, int64_t b, int64_t c)
{
    return ((size_t)(a * b * c) * sizeof(float) + 63) & ~(size_t)63;
}

static bool wanted(const rq_op_args *a, int out)
{
    return out >= 0 && out < a->n_out && a->out[out];
}

static bool is_deep(const rq_op_args *a) /* keys and values [B,H,L,D], already with their bias */
{
    return !roles_of(a->node)->projects && a->in[0]->shape.rank == 3 && a->in[1]->shape.rank == 4;
}

static layout layout_of(const rq_op_args *a, const roles *r, const dims *d)
{
    const rq_attend p = plan(a, d);
    const bool copies = !r->projects && input(a->in, a->n_in, r->bias), kv = copies && !is_deep(a);
    layout l = { .q = rq_attend_scratch(&p, a->threads) };
    l.k = l.q + (r->projects ? floats(d->batch, d->queries, 2 * d->hidden + d->v_hidden)
                 : copies    ? floats(d->batch, d->queries, d->hidden)
                             : 0);
    l.v = l.k + (kv ? floats(d->batch, d->rows, d->hidden) : 0);
    l.keys = l.v + (kv ? floats(d->batch, d->rows, d->v_hidden) : 0);
    l.values = l.keys + (d->past && !wanted(a, r->present_k) ? floats(d->batch, d->total, d->hidden) : 0);
    l.numbers = l.values + (d->past && !wanted(a, r->present_v) ? floats(d->batch, d->total, d->v_hidden) : 0);
    l.bytes = l.numbers + ((3 * (size_t)d->batch * sizeof(int64_t) + 63) & ~(size_t)63);
    return l;
}

typedef struct bias_job {
    const rq_kernels *k;
    float *y;
    const float *x, *bias;
    rq_attend_at at;
    int64_t heads, rows, size;
} bias_job;

/* [B,S,H*D] of y = x + bias, x at any steps. */
static void bias_span(void *arg, int64_t from, int64_t n)
{
    const bias_job *j = arg;
    for (int64_t i = from; i < from + n; i++)
        for (int64_t h = 0; h < j->heads; h++)
            j->k->zip[RQ_ZIP_ADD](j->y + (i * j->heads + h) * j->size,
                                  j->x + i / j->rows * j->at.batch + i % j->rows * j->at.row + h * j->at.head, 1,
                                  j->bias + h * j->size, 1, (size_t)j->size);
}

static const float *with_bias(const rq_op_args *a, const dims *d, float *y, const float *x, const float *bias,
                              int64_t rows, int64_t size, rq_attend_at *at)
{
    bias_job j = { a->k, y, x, bias, *at, d->heads, rows, size };
    rq_bcast_spans(a->threads, d->batch * rows, RQ_BCAST_PIECE / (d->heads * size + 1) + 1, bias_span, &j);
    *at = (rq_attend_at) { rows * d->heads * size, size, d->heads * size };
    return y;
}

/* Where q, k and v of MultiHeadAttention lie, bias added. */
static void find_operands(const rq_op_args *a, const roles *r, const dims *d, const layout *l, rq_attend *p)
{
    const rq_tensor *q = a->in[0], *k = input(a->in, a->n_in, 1), *v = input(a->in, a->n_in, 2);
    const rq_tensor *bias = input(a->in, a->n_in, r->bias);
    char *scratch = a->scratch;
    p->q = q->f32;
    p->q_at = (rq_attend_at) { d->queries * d->hidden, d->size, d->hidden };
    if (!k) {
        p->q_at = (rq_attend_at) { d->queries * 3 * d->hidden, 3 * d->size, 3 * d->hidden };
        p->key_at = p->v_at = p->q_at;
        p->key = q->f32 + d->size;
        p->v = q->f32 + 2 * d->size;
    } else if (k->shape.rank == 5) {
        p->key_at = p->v_at = (rq_attend_at) { d->rows * 2 * d->hidden, 2 * d->size, 2 * d->hidden };
        p->key = k->f32;
        p->v = k->f32 + d->size;
    } else {
        const bool deep = k->shape.rank == 4;
        p->key = k->f32;
        p->v = v->f32;
        p->key_at = deep ? (rq_attend_at) { d->rows * d->hidden, d->rows * d->size, d->size }
                         : (rq_attend_at) { d->rows * d->hidden, d->size, d->hidden };
        p->v_at = deep ? (rq_attend_at) { d->rows * d->v_hidden, d->rows * d->v_size, d->v_size }
                       : (rq_attend_at) { d->rows * d->v_hidden, d->v_size, d->v_hidden };
    }
    if (!bias)
        return;
    p->q = with_bias(a, d, (float *)(scratch + l->q), p->q, bias->f32, d->queries, d->size, &p->q_at);
    if (is_deep(a))
        return;
    p->key = with_bias(a, d, (float *)(scratch + l->k), p->key, bias->f32 + d->hidden, d->rows, d->size, &p->key_at);
    p->v = with_bias(a, d, (float *)(scratch + l->v), p->v, bias->f32 + 2 * d->hidden, d->rows, d->v_size, &p->v_at);
}

/* q, k and v of Attention: one product, side by side in scratch. */
static rq_status project(const rq_op_args *a, const dims *d, const layout *l, rq_attend *p)
{
    const rq_tensor *x = a->in[0], *bias = input(a->in, a->n_in, 2);
    const int64_t n = 2 * d->hidden + d->v_hidden, m = d->batch * d->queries, k = x->shape.dim[2];
    float *y = (float *)((char *)a->scratch + l->q);
    if (is_codes(a->node)) {
        rq_attention_int_project(a, y, (char *)a->scratch + l->bytes);
    } else {
        for (int64_t i = 0; bias && i < m; i++)
            memcpy(y + i * n, bias->f32, (size_t)n * sizeof *y);
        RQ_TRY(
            rq_gemm_f32(a->k, y, x->f32, a->in[1]->f32, false, false, m, n, k, 1, k, n, bias ? 1 : 0, n, a->threads));
    }
    p->q_at = p->key_at = p->v_at = (rq_attend_at) { d->queries * n, d->size, n };
    p->v_at.head = d->v_size;
    p->q = y;
    p->key = y + d->hidden;
    p->v = y + 2 * d->hidden;
    return RQ_OK;
}

/* Keys or values with the past before them, in dst; where they lie from then on. */
static const float *append(const rq_op_args *a, const dims *d, float *dst, const float *old, const float *x,
                           int64_t size, rq_attend_at *at)
{
    if (!dst)
        return x;
    const rq_attend_cache c = { .dst = dst,
                                .old = old,
                                .x = x,
                                .x_at = *at,
                                .batch = d->batch,
                                .heads = d->heads,
                                .old_rows = d->past,
                                .past = d->past,
                                .rows = d->rows,
                                .total = d->total,
                                .columns = size };
    rq_attend_append(a->threads, &c);
    *at = (rq_attend_at) { d->heads * d->total * size, d->total * size, size };
    return dst;
}

static void append_both(const rq_op_args *a, const roles *r, const dims *d, const layout *l, rq_attend *p)
{
    const rq_tensor *pk = input(a->in, a->n_in, r->past_k), *pv = input(a->in, a->n_in, r->past_v);
    const int64_t before = r->projects ? d->batch * d->heads * d->size : 0; /* both in one tensor: keys first */
    char *scratch = a->scratch;
    float *k = wanted(a, r->present_k) ? a->out[r->present_k]->f32 : d->past ? (float *)(scratch + l->keys) : NULL;
    float *v = wanted(a, r->present_v) ? a->out[r->present_v]->f32 + before * d->total
               : d->past               ? (float *)(scratch + l->values)
                                       : NULL;
    p->key = append(a, d, k, pk ? pk->f32 : NULL, p->key, d->size, &p->key_at);
    p->v = append(a, d, v, pv ? pv->f32 + before * d->past : NULL, p->v, d->v_size, &p->v_at);
}

static void find_masks(const rq_op_args *a, const roles *r, const dims *d, int64_t *numbers, rq_attend *p)
{
    const rq_tensor *m = input(a->in, a->n_in, r->mask), *add = input(a->in, a->n_in, r->added);
    const float hidden = rq_attr_float(a->node, "mask_filter_value", -10000.0f);
    int64_t *from = numbers, *until = numbers + d->batch, *offset = numbers + 2 * d->batch;
    for (int64_t b = 0; b < d->batch; b++)
        offset[b] = d->past;
    p->offset = offset;
    if (m && m->shape.rank == 1) {
        const bool both = m->shape.dim[0] == 2 * d->batch && d->batch > 0;
        for (int64_t b = 0; b < d->batch; b++) {
            until[b] = m->s32[b];
            from[b] = both ? m->s32[d->batch + b] : 0;
        }
        p->until = until;
        p->from = from;
        p->hide_keys = hidden;
    } else if (m && !(m->shape.rank == 2 && m->shape.dim[1] != d->total)) { /* one column: a placeholder, no mask */
        rq_attend_mask mask = { .t = m, .columns = d->total, .column = 1, .hide = hidden };
        const int rank = m->shape.rank;
        mask.batch = rq_shape_span(&m->shape, 1, rank);
        if (rank > 2)
            mask.row = m->shape.dim[rank - 1];
        if (rank == 4)
            mask.first = d->past * mask.row;
        p->mask[p->n_masks++] = mask;
    }
    if (add)
        p->mask[p->n_masks++] = rq_attend_mask_of(add, d->total, false, 0);
}

static void find_options(const rq_op_args *a, const dims *d, rq_attend *p)
{
    const float scale = rq_attr_float(a->node, "scale", 0);
    p->scale = scale != 0 ? scale : 1 / sqrtf((float)d->size);
    p->causal = rq_attr_int(a->node, "unidirectional", 0) != 0;
    p->hide_far = -FLT_MAX;
}

static rq_status ms_wide(const rq_op_args *a)
{
    const roles *r = roles_of(a->node);
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_F32 && i != r->mask &&
            !(is_codes(a->node) && rq_int_is_byte(a->in[i]->dtype)))
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for input %d of type %s", i,
                              rq_dtype_name(a->in[i]->dtype));
    dims d;
    run_dims(a, r, &d);
    const layout l = layout_of(a, r, &d);
    rq_attend p = plan(a, &d);
    p.scratch = a->scratch;
    if (r->projects) {
        const rq_status s = project(a, &d, &l, &p);
        if (s != RQ_OK)
            return rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
    } else {
        find_operands(a, r, &d, &l, &p);
    }
    append_both(a, r, &d, &l, &p);
    find_masks(a, r, &d, (int64_t *)((char *)a->scratch + l.numbers), &p);
    p.y = a->out[0]->f32;
    find_options(a, &d, &p);
    if (wanted(a, r->scores))
        p.scores = a->out[r->scores]->f32;
    p.tap = RQ_ATTEND_MASKED;
    const rq_status s = rq_attend_run(&p);
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
}

static rq_status ms_forward(const rq_op_args *a)
{
    return rq_half_run(a, ms_wide);
}

/* ---- MultiHeadAttention on codes: query, key and value of three axes each, nothing added to them ---- */

static bool multi_accepts_int(const rq_op_args *a, const char **why)
{
    const roles *r = roles_of(a->node);
    dims d;
    *why = "query, key and value are not all given, with three axes each";
    for (int i = 0; i < 3; i++)
        if (!input(a->in, a->n_in, i) || a->in[i]->shape.rank != 3)
            return false;
    for (int i = 0; i < 3; i++) {
        *why = "not all of query, key and value are quantized";
        if (!a->in_q[i] || !rq_int_is_activation(a->in_q[i], why))
            return false;
    }
    *why = "it has a bias, a mask of codes, or a cache";
    for (int i = 3; i < a->n_in; i++)
        if (a->in[i] && (a->in_q[i] || (i != r->mask && (i != r->added || a->in[i]->dtype != RQ_DTYPE_F32))))
            return false;
    for (int i = 1; i < a->n_out; i++)
        if (a->node->out[i] != RQ_NONE)
            return false;
    *why = "there are too many keys";
    run_dims(a, r, &d);
    return d.total <= RQ_ATTEND_CODE_KEYS && d.size <= RQ_ATTEND_CODE_KEYS &&
           rq_int_is_output(a->out_q[0], a->out[0], true, why);
}

static rq_attend plan_int(const rq_op_args *a, const dims *d, rq_attend_codes *codes)
{
    rq_attend p = plan(a, d);
    *codes = (rq_attend_codes) { .q = a->in[0]->u8,
                                 .key = a->in[1]->u8,
                                 .v = a->in[2]->u8,
                                 .q_q = a->in_q[0],
                                 .key_q = a->in_q[1],
                                 .v_q = a->in_q[2],
                                 .y_q = a->out_q[0],
                                 .y = a->out[0] };
    p.codes = codes;
    p.q_at = (rq_attend_at) { d->queries * d->hidden, d->size, d->hidden };
    p.key_at = (rq_attend_at) { d->rows * d->hidden, d->size, d->hidden };
    p.v_at = (rq_attend_at) { d->rows * d->v_hidden, d->v_size, d->v_hidden };
    return p;
}

static rq_status multi_forward_int(const rq_op_args *a)
{
    const roles *r = roles_of(a->node);
    dims d;
    rq_attend_codes codes;
    run_dims(a, r, &d);
    rq_attend p = plan_int(a, &d, &codes);
    p.scratch = a->scratch;
    find_masks(a, r, &d, (int64_t *)((char *)a->scratch + rq_attend_scratch(&p, a->threads)), &p);
    find_options(a, &d, &p);
    return rq_attend_run(&p);
}

static size_t ms_scratch(const rq_op_args *a, bool integer)
{
    const roles *r = roles_of(a->node);
    dims d;
    rq_attend_codes codes;
    run_dims(a, r, &d);
    if (!integer)
        return layout_of(a, r, &d).bytes + (is_codes(a->node) ? rq_attention_int_scratch(a) : 0);
    const rq_attend p = plan_int(a, &d, &codes);
    return rq_attend_scratch(&p, a->threads) + 3 * (size_t)d.batch * sizeof(int64_t);
}

static double ms_macs(const rq_op_args *a)
{
    const roles *r = roles_of(a->node);
    dims d;
    run_dims(a, r, &d);
    const double rows = (double)d.batch * (double)d.queries;
    return rows * (double)d.total * (double)(d.hidden + d.v_hidden) +
           (r->projects ? rows * (double)a->in[0]->shape.dim[2] * (double)(2 * d.hidden + d.v_hidden) : 0);
}

const rq_op rq_op_ms_attention = {
    .name = "Attention",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 7,
    .min_out = 1,
    .max_out = 2,
    .place = RQ_PLACE_FLOAT,
    .infer = ms_infer,
    .forward = ms_forward,
    .scratch = ms_scratch,
    .macs = ms_macs,
};

const rq_op rq_op_ms_qattention = {
    .name = "QAttention",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 5,
    .max_in = 9,
    .min_out = 1,
    .max_out = 2,
    .place = RQ_PLACE_FLOAT,
    .infer = ms_infer,
    .prepare = rq_attention_int_prepare,
    .forward = ms_forward,
    .release = rq_attention_int_release,
    .scratch = ms_scratch,
    .macs = ms_macs,
};

const rq_op rq_op_ms_multi_head_attention = {
    .name = "MultiHeadAttention",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 10,
    .min_out = 1,
    .max_out = 4,
    .place = RQ_PLACE_FLOAT,
    .infer = ms_infer,
    .forward = ms_forward,
    .accepts_int = multi_accepts_int,
    .forward_int = multi_forward_int,
    .scratch = ms_scratch,
    .macs = ms_macs,
};
