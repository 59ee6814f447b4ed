/* ops/attention.c — Attention of ONNX (opsets 23 to 25): what its inputs and attributes say, put into the terms of
 * ops/attend.h. Opset 24 adds nonpad_kv_seqlen, 25 the windows; what a fully hidden row gives (zeros), and where a causal
 * limit lies when there is a cache, is as onnx 1.23 corrected it for all three
 * (docs/onnx-facts.md 3). */
#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "ops/attend.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"

enum { Q, K, V, MASK, PAST_K, PAST_V, LENGTHS, Y = 0, PRESENT_K, PRESENT_V, SCORES };
#define FAR (INT64_C(1) << 48) /* further than any key */

/* What softmax is computed in; numbered as in files: 10, 16. */
static rq_dtype precision_of(const rq_node *n)
{
    const int64_t precision = rq_attr_int(n, RQ_WORD_softmax_precision, 1);
    return precision == 10 ? RQ_DTYPE_F16 : precision == 16 ? RQ_DTYPE_BF16 : RQ_DTYPE_F32;
}

/* Sizes of q, k and v as seen by heads; negative where not known. */
typedef struct dims {
    int64_t batch, heads, kv_heads, queries, rows, past, size, v_size;
    bool flat; /* [B,S,H*D] */
} dims;

/* What two statements about one size tell; false when they differ. */
static rq_status same(const rq_infer *a, int64_t *d, int64_t other, const char *what)
{
    const int64_t was = *d;
    if (rq_infer_dim_join(d, other))
        return RQ_OK;
    return rq_infer_fail(a, RQ_BAD_SHAPE, "%s is %lld in one input and %lld in another", what, (long long)was,
                         (long long)other);
}

static rq_status split_heads(const rq_infer *a, int64_t *size, int64_t hidden, int64_t heads, const char *what)
{
    *size = RQ_DIM_UNKNOWN;
    if (hidden >= 0 && hidden % heads != 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the last axis of %s, %lld, does not divide into %lld heads", what,
                             (long long)hidden, (long long)heads);
    if (hidden >= 0)
        *size = hidden / heads;
    return RQ_OK;
}

static rq_status flat_dims(const rq_infer *a, dims *d)
{
    const rq_shape *q = &a->in[Q]->shape, *k = &a->in[K]->shape, *v = &a->in[V]->shape;
    d->heads = rq_attr_int(a->node, RQ_WORD_q_num_heads, 0);
    d->kv_heads = rq_attr_int(a->node, RQ_WORD_kv_num_heads, 0);
    if (d->heads < 1 || d->kv_heads < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "inputs of 3 axes need q_num_heads and kv_num_heads of at least 1");
    int64_t k_size;
    RQ_TRY(split_heads(a, &d->size, q->dim[2], d->heads, "Q"));
    RQ_TRY(split_heads(a, &k_size, k->dim[2], d->kv_heads, "K"));
    RQ_TRY(split_heads(a, &d->v_size, v->dim[2], d->kv_heads, "V"));
    RQ_TRY(same(a, &d->size, k_size, "the size of a head"));
    d->batch = q->dim[0];
    d->queries = q->dim[1];
    d->rows = k->dim[1];
    RQ_TRY(same(a, &d->batch, k->dim[0], "the batch"));
    RQ_TRY(same(a, &d->batch, v->dim[0], "the batch"));
    return same(a, &d->rows, v->dim[1], "the number of keys");
}

static rq_status deep_dims(const rq_infer *a, dims *d)
{
    const rq_shape *q = &a->in[Q]->shape, *k = &a->in[K]->shape, *v = &a->in[V]->shape;
    *d = (dims) { .batch = q->dim[0],
                  .heads = q->dim[1],
                  .queries = q->dim[2],
                  .size = q->dim[3],
                  .kv_heads = k->dim[1],
                  .rows = k->dim[2],
                  .v_size = v->dim[3] };
    RQ_TRY(same(a, &d->batch, k->dim[0], "the batch"));
    RQ_TRY(same(a, &d->batch, v->dim[0], "the batch"));
    RQ_TRY(same(a, &d->kv_heads, v->dim[1], "the number of heads of keys and values"));
    RQ_TRY(same(a, &d->rows, v->dim[2], "the number of keys"));
    RQ_TRY(same(a, &d->size, k->dim[3], "the size of a head"));
    const int64_t q_heads = rq_attr_int(a->node, RQ_WORD_q_num_heads, d->heads),
                  kv_heads = rq_attr_int(a->node, RQ_WORD_kv_num_heads, d->kv_heads);
    if ((q_heads > 0 && d->heads >= 0 && q_heads != d->heads) ||
        (kv_heads > 0 && d->kv_heads >= 0 && kv_heads != d->kv_heads))
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "q_num_heads and kv_num_heads are %lld and %lld, inputs have %lld and %lld",
                             (long long)q_heads, (long long)kv_heads, (long long)d->heads, (long long)d->kv_heads);
    return RQ_OK;
}

static rq_status past_dims(const rq_infer *a, dims *d)
{
    const rq_tensor *pk = rq_op_input(a->in, a->n_in, PAST_K), *pv = rq_op_input(a->in, a->n_in, PAST_V);
    d->past = 0;
    if (!pk != !pv)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "past_key and past_value go together, and only one is given");
    if (!pk)
        return RQ_OK;
    d->past = RQ_DIM_UNKNOWN;
    for (int i = 0; i < 2; i++) {
        const rq_shape *s = &a->in[PAST_K + i]->shape;
        if (s->rank < 0)
            continue;
        if (s->rank != 4)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%s has %d axes, expected 4", i ? "past_value" : "past_key", s->rank);
        RQ_TRY(same(a, &d->batch, s->dim[0], "the batch"));
        RQ_TRY(same(a, &d->kv_heads, s->dim[1], "the number of heads of keys and values"));
        RQ_TRY(same(a, &d->past, s->dim[2], "the length of the cache"));
        RQ_TRY(same(a, i ? &d->v_size : &d->size, s->dim[3], "the size of a head"));
    }
    return RQ_OK;
}

/* attn_mask against [batch][heads][queries][keys]. */
static rq_status mask_dims(const rq_infer *a, const rq_shape *want)
{
    const rq_tensor *m = rq_op_input(a->in, a->n_in, MASK);
    if (!m)
        return RQ_OK;
    if (m->dtype != RQ_DTYPE_NONE && m->dtype != RQ_DTYPE_BOOL && !rq_dtype_is_float(m->dtype))
        return rq_infer_fail(a, RQ_UNSUPPORTED, "attn_mask has type %s, expected bool or float",
                             rq_dtype_name(m->dtype));
    if (m->shape.rank > 4)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "attn_mask has %d axes, expected at most 4", m->shape.rank);
    for (int i = 0; i < m->shape.rank; i++) {
        const int64_t have = m->shape.dim[m->shape.rank - 1 - i], full = want->dim[3 - i];
        if (have >= 0 && full >= 0 && have != full && have != 1 && !(i == 0 && have < full)) {
            char ms[RQ_SHAPE_TEXT], ws[RQ_SHAPE_TEXT];
            return rq_infer_fail(a, RQ_BAD_SHAPE, "attn_mask of shape %s does not broadcast to %s",
                                 rq_shape_text(&m->shape, ms, sizeof ms), rq_shape_text(want, ws, sizeof ws));
        }
    }
    return RQ_OK;
}

static rq_status all_dims(const rq_infer *a, dims *d)
{
    const int rank = a->in[Q]->shape.rank;
    if (rank != 3 && rank != 4)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "Q has %d axes, expected 3 or 4", rank);
    if (a->in[K]->shape.rank != rank || a->in[V]->shape.rank != rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "Q, K and V have %d, %d and %d axes, expected the same", rank,
                             a->in[K]->shape.rank, a->in[V]->shape.rank);
    RQ_TRY(rank == 3 ? flat_dims(a, d) : deep_dims(a, d));
    d->flat = rank == 3;
    RQ_TRY(past_dims(a, d));
    if (d->kv_heads == 0 || (d->heads >= 0 && d->kv_heads > 0 && d->heads % d->kv_heads != 0))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld heads of queries cannot share %lld heads of keys",
                             (long long)d->heads, (long long)d->kv_heads);
    if (d->size == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "heads have no elements");
    return RQ_OK;
}

static rq_status check_options(const rq_infer *a)
{
    const int64_t mode = rq_attr_int(a->node, RQ_WORD_qk_matmul_output_mode, 0);
    if (mode < 0 || mode > 3)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "qk_matmul_output_mode is %lld, expected 0 to 3", (long long)mode);
    static const rq_word windows[] = { RQ_WORD_left_window_size, RQ_WORD_right_window_size };
    for (int i = 0; i < 2; i++)
        if (rq_attr_int(a->node, windows[i], -1) < -1)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "%s is %lld, expected -1 or a number of keys",
                                 rq_word_text(windows[i]), (long long)rq_attr_int(a->node, windows[i], -1));
    const rq_tensor *n = rq_op_input(a->in, a->n_in, LENGTHS);
    if (n && rq_op_input(a->in, a->n_in, PAST_K))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "nonpad_kv_seqlen and past_key cannot be given together");
    if (n && n->shape.rank >= 0 && n->shape.rank != 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "nonpad_kv_seqlen has %d axes, expected 1", n->shape.rank);
    if (n && n->dtype != RQ_DTYPE_NONE && n->dtype != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "nonpad_kv_seqlen has type %s, expected s64", rq_dtype_name(n->dtype));
    return RQ_OK;
}

static rq_status attention_infer(const rq_infer *a)
{
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = a->in[i == PRESENT_K ? K : i == PRESENT_V ? V : Q]->dtype;
    for (int i = Q; i <= V; i++)
        if (!a->in[i])
            return rq_infer_fail(a, RQ_BAD_GRAPH, "input %d is missing", i);
    RQ_TRY(check_options(a));
    if (a->in[Q]->shape.rank < 0 || a->in[K]->shape.rank < 0 || a->in[V]->shape.rank < 0)
        return RQ_OK;
    dims d;
    RQ_TRY(all_dims(a, &d));
    const int64_t keys = d.past == 0 ? d.rows : rq_infer_dim_add(d.past, d.rows);
    a->out_shape[Y] = d.flat ? rq_shape_of(3, (int64_t[]) { d.batch, d.queries, rq_infer_dim_mul(d.heads, d.v_size) })
                             : rq_shape_of(4, (int64_t[]) { d.batch, d.heads, d.queries, d.v_size });
    const rq_shape scores = rq_shape_of(4, (int64_t[]) { d.batch, d.heads, d.queries, keys });
    RQ_TRY(mask_dims(a, &scores));
    const rq_tensor *n = rq_op_input(a->in, a->n_in, LENGTHS);
    if (n && n->shape.rank == 1)
        RQ_TRY(same(a, &d.batch, n->shape.dim[0], "the batch"));
    if (a->n_out > PRESENT_K)
        a->out_shape[PRESENT_K] = rq_shape_of(4, (int64_t[]) { d.batch, d.kv_heads, keys, d.size });
    if (a->n_out > PRESENT_V)
        a->out_shape[PRESENT_V] = rq_shape_of(4, (int64_t[]) { d.batch, d.kv_heads, keys, d.v_size });
    if (a->n_out > SCORES)
        a->out_shape[SCORES] = scores;
    return RQ_OK;
}

/* ---- running ---- */

static void run_dims(const rq_op_args *a, dims *d)
{
    const rq_shape *q = &a->in[Q]->shape, *k = &a->in[K]->shape, *v = &a->in[V]->shape;
    const rq_tensor *past = rq_op_input(a->in, a->n_in, PAST_K);
    d->flat = q->rank == 3;
    d->batch = q->dim[0];
    d->heads = d->flat ? rq_attr_int(a->node, RQ_WORD_q_num_heads, 1) : q->dim[1];
    d->kv_heads = d->flat ? rq_attr_int(a->node, RQ_WORD_kv_num_heads, 1) : k->dim[1];
    d->queries = q->dim[q->rank - 2];
    d->rows = k->dim[k->rank - 2];
    d->past = past ? past->shape.dim[2] : 0;
    d->size = d->flat ? q->dim[2] / d->heads : q->dim[3];
    d->v_size = d->flat ? v->dim[2] / d->kv_heads : v->dim[3];
}

static rq_attend_at place(bool flat, int64_t heads, int64_t rows, int64_t size)
{
    return flat ? (rq_attend_at) { rows * heads * size, size, heads * size }
                : (rq_attend_at) { heads * rows * size, rows * size, size };
}

static rq_attend plan(const rq_op_args *a, const dims *d)
{
    return (rq_attend) {
        .k = a->k,
        .threads = a->threads,
        .batch = d->batch,
        .heads = d->heads,
        .kv_heads = d->kv_heads,
        .queries = d->queries,
        .keys = d->past + d->rows,
        .size = d->size,
        .v_size = d->v_size,
        .q_at = place(d->flat, d->heads, d->queries, d->size),
        .key_at = place(d->flat, d->kv_heads, d->rows, d->size),
        .v_at = place(d->flat, d->kv_heads, d->rows, d->v_size),
        .y_at = place(d->flat, d->heads, d->queries, d->v_size),
        .left = -1,
        .right = -1,
    };
}

/* Scratch: scores; keys and values so far, where a cache is given and its new state is not wanted; a number per image. */
typedef struct layout {
    size_t keys, values, lengths, bytes;
} layout;

static layout layout_of(const rq_op_args *a, const dims *d)
{
    const rq_attend p = plan(a, d);
    layout l = { .keys = rq_attend_scratch(&p, a->threads) };
    const size_t rows = (size_t)(d->batch * d->kv_heads * p.keys) * sizeof(float);
    const bool made_k = a->n_out > PRESENT_K && a->out[PRESENT_K], made_v = a->n_out > PRESENT_V && a->out[PRESENT_V];
    l.values = l.keys + (d->past && !made_k ? rq_mem_round(rows * (size_t)d->size) : 0);
    l.lengths = l.values + (d->past && !made_v ? rq_mem_round(rows * (size_t)d->v_size) : 0);
    l.bytes = l.lengths + rq_mem_round(2 * (size_t)d->batch * sizeof(int64_t));
    return l;
}

/* Keys (or values) so far: in the output that wants them, or in scratch where there is a cache; else where they lie. */
static const float *so_far(const rq_op_args *a, const dims *d, int which, int64_t size, float *spare, rq_attend_at *at)
{
    const int out = which == K ? PRESENT_K : PRESENT_V;
    const rq_tensor *old = rq_op_input(a->in, a->n_in, which == K ? PAST_K : PAST_V);
    float *dst = a->n_out > out && a->out[out] ? a->out[out]->f32 : d->past ? spare : NULL;
    if (!dst)
        return a->in[which]->f32;
    const int64_t keys = d->past + d->rows;
    const rq_attend_cache c = { .dst = dst,
                                .old = old ? old->f32 : NULL,
                                .x = a->in[which]->f32,
                                .x_at = *at,
                                .batch = d->batch,
                                .heads = d->kv_heads,
                                .old_rows = d->past,
                                .past = d->past,
                                .rows = d->rows,
                                .total = keys,
                                .columns = size };
    rq_attend_append(a->threads, &c);
    *at = place(false, d->kv_heads, keys, size);
    return dst;
}

/* Everything but the operands: options, masks, lengths. numbers: two per image. */
static rq_status find_options(const rq_op_args *a, const dims *d, int64_t *numbers, rq_attend *p)
{
    int64_t *until = numbers, *offset = numbers + d->batch;
    p->scale = rq_attr_float(a->node, RQ_WORD_scale, 1 / sqrtf((float)d->size));
    p->softcap = rq_attr_float(a->node, RQ_WORD_softcap, 0);
    p->causal = rq_attr_int(a->node, RQ_WORD_is_causal, 0) != 0;
    p->left = rq_attr_int(a->node, RQ_WORD_left_window_size, -1);
    p->right = rq_attr_int(a->node, RQ_WORD_right_window_size, -1);
    p->left = p->left < FAR ? p->left : FAR;
    p->right = p->right < FAR ? p->right : FAR;
    p->scratch = a->scratch;
    p->offset = offset;
    const rq_tensor *n = rq_op_input(a->in, a->n_in, LENGTHS), *mask = rq_op_input(a->in, a->n_in, MASK);
    for (int64_t b = 0; b < d->batch; b++) {
        until[b] = n ? n->s64[b] : 0;
        if (n && (until[b] < 0 || until[b] > p->keys))
            return rq_op_fail(a, RQ_BAD_ARG, "nonpad_kv_seqlen[%lld] is %lld, expected 0 to %lld", (long long)b,
                              (long long)until[b], (long long)p->keys);
        offset[b] = n ? until[b] - d->queries : d->past;
    }
    p->until = n ? until : NULL;
    p->hide_keys = -INFINITY;
    if (mask) {
        const int rank = mask->shape.rank;
        const bool cut =
            rank > 0 && mask->shape.dim[rank - 1] < p->keys && (a->opset >= 24 || mask->shape.dim[rank - 1] != 1);
        p->mask[p->n_masks++] = rq_attend_mask_of(mask, p->keys, cut, -INFINITY);
    }
    p->precision = precision_of(a->node);
    return RQ_OK;
}

static rq_status attention_wide(const rq_op_args *a)
{
    dims d;
    run_dims(a, &d);
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && i != LENGTHS && a->in[i]->dtype != RQ_DTYPE_F32 &&
            !(i == MASK && a->in[i]->dtype == RQ_DTYPE_BOOL))
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for input %d of type %s", i,
                              rq_dtype_name(a->in[i]->dtype));
    const layout l = layout_of(a, &d);
    char *scratch = a->scratch;
    rq_attend p = plan(a, &d);
    assert(a->in[Q] && a->out[Y]); /* the row needs both */
    p.q = a->in[Q]->f32;
    p.y = a->out[Y]->f32;
    p.key = so_far(a, &d, K, d.size, (float *)(scratch + l.keys), &p.key_at);
    p.v = so_far(a, &d, V, d.v_size, (float *)(scratch + l.values), &p.v_at);
    RQ_TRY(find_options(a, &d, (int64_t *)(scratch + l.lengths), &p));
    if (a->n_out > SCORES && a->out[SCORES])
        p.scores = a->out[SCORES]->f32;
    p.tap = (rq_attend_tap)rq_attr_int(a->node, RQ_WORD_qk_matmul_output_mode, 0);
    const rq_status s = rq_attend_run(&p);
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
}

static rq_status attention_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, attention_wide);
}

/* ---- backward: of y alone, without a cache ---- */

static size_t attention_scratch_backward(const rq_op_args *a)
{
    dims d;
    run_dims(a, &d);
    rq_attend p = plan(a, &d);
    p.softcap = rq_attr_float(a->node, RQ_WORD_softcap, 0);
    return layout_of(a, &d).bytes + rq_attend_grad_scratch(&p);
}

static rq_status attention_backward(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, Y), *mask = rq_op_input(a->in, a->n_in, MASK);
    float *dx[3];
    dims d;
    for (int i = PRESENT_K; i <= SCORES; i++)
        if (rq_grad_out(a, i))
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient for what comes into output %d", i);
    if (!dy || !rq_tensor_count(dy) || !rq_tensor_count(a->in[K]))
        return rq_grad_none(a);
    run_dims(a, &d);
    if (d.past)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient where keys and values come from a cache");
    rq_attend p = plan(a, &d);
    const layout l = layout_of(a, &d);
    p.q = a->in[Q]->f32;
    p.key = a->in[K]->f32;
    p.v = a->in[V]->f32;
    RQ_TRY(find_options(a, &d, (int64_t *)((char *)a->scratch + l.lengths), &p));
    for (int i = Q; i <= V; i++)
        dx[i] = rq_grad_in(a, i) ? rq_grad_in(a, i)->f32 : NULL;
    rq_tensor *dmask = rq_grad_in(a, MASK);
    if (dmask && mask->shape.rank > 0 && mask->shape.dim[mask->shape.rank - 1] != p.keys &&
        mask->shape.dim[mask->shape.rank - 1] != 1)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient for a mask that is shorter than the keys");
    const rq_attend_grad g = { .a = &p,
                               .dy = dy->f32,
                               .dq = dx[Q],
                               .dkey = dx[K],
                               .dv = dx[V],
                               .dmask = dmask,
                               .scratch = (char *)a->scratch + l.bytes };
    const rq_status s = rq_attend_grad_run(a, &g);
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
}

/* ---- on codes: the products in integers, the softmax between them in reals ---- */

static bool attention_accepts_int(const rq_op_args *a, const char **why)
{
    dims d;
    for (int i = Q; i <= V; i++) {
        *why = "not all of Q, K and V are quantized";
        if (!a->in_q[i] || !rq_int_is_activation(a->in_q[i], why))
            return false;
    }
    *why = "keys and values come from a cache, or go to one";
    for (int i = PAST_K; i <= PAST_V; i++)
        if (rq_op_input(a->in, a->n_in, i))
            return false;
    for (int i = 1; i < a->n_out; i++)
        if (a->node->out[i] != RQ_NONE)
            return false;
    *why = "the mask is neither bool nor f32";
    const rq_tensor *mask = rq_op_input(a->in, a->n_in, MASK);
    if (mask && (a->in_q[MASK] || (mask->dtype != RQ_DTYPE_BOOL && mask->dtype != RQ_DTYPE_F32)))
        return false;
    *why = "the softmax is asked for in 16 bits";
    if (precision_of(a->node) != RQ_DTYPE_F32)
        return false;
    *why = "there are too many keys";
    run_dims(a, &d);
    return d.rows <= RQ_ATTEND_CODE_KEYS && d.size <= RQ_ATTEND_CODE_KEYS &&
           rq_int_is_output(a->out_q[Y], a->out[Y], true, why);
}

static rq_attend plan_int(const rq_op_args *a, const dims *d, rq_attend_codes *codes)
{
    rq_attend p = plan(a, d);
    *codes = (rq_attend_codes) { .q = a->in[Q]->u8,
                                 .key = a->in[K]->u8,
                                 .v = a->in[V]->u8,
                                 .q_q = a->in_q[Q],
                                 .key_q = a->in_q[K],
                                 .v_q = a->in_q[V],
                                 .y_q = a->out_q[Y],
                                 .y = a->out[Y] };
    p.codes = codes;
    return p;
}

static rq_status attention_forward_int(const rq_op_args *a)
{
    dims d;
    rq_attend_codes codes;
    run_dims(a, &d);
    rq_attend p = plan_int(a, &d, &codes);
    RQ_TRY(find_options(a, &d, (int64_t *)((char *)a->scratch + rq_attend_scratch(&p, a->threads)), &p));
    return rq_attend_run(&p);
}

static size_t attention_scratch(const rq_op_args *a, bool integer)
{
    dims d;
    rq_attend_codes codes;
    run_dims(a, &d);
    if (!integer)
        return layout_of(a, &d).bytes;
    const rq_attend p = plan_int(a, &d, &codes);
    return rq_attend_scratch(&p, a->threads) + 2 * (size_t)d.batch * sizeof(int64_t);
}

static double attention_macs(const rq_op_args *a)
{
    dims d;
    run_dims(a, &d);
    return (double)d.batch * (double)d.heads * (double)d.queries * (double)(d.past + d.rows) *
           (double)(d.size + d.v_size);
}

const rq_op rq_op_attention = {
    .name = "Attention",
    .domain = "",
    .since = 23,
    .known = 25,
    .min_in = 3,
    .max_in = 7,
    .min_out = 1,
    .max_out = 4,
    .place = RQ_PLACE_FLOAT,
    .infer = attention_infer,
    .forward = attention_forward,
    .backward = attention_backward,
    .saves = RQ_OP_IN(Q) | RQ_OP_IN(K) | RQ_OP_IN(V) | RQ_OP_IN(MASK) | RQ_OP_IN(LENGTHS),
    .gradients = RQ_OP_IN(Q) | RQ_OP_IN(K) | RQ_OP_IN(V) | RQ_OP_IN(MASK),
    .scratch_backward = attention_scratch_backward,
    .accepts_int = attention_accepts_int,
    .forward_int = attention_forward_int,
    .scratch = attention_scratch,
    .macs = attention_macs,
};
