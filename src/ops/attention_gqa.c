/* ops/attention_gqa.c — GroupQueryAttention of com.microsoft, on ops/attend.h: heads of queries share heads of keys, each
 * image of the batch has a length of its own, and positions may be turned into q and k here (ops/rotary.h). */
#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "ops/attend.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/rotary.h"

enum {
    Q,
    K,
    V,
    PAST_K,
    PAST_V,
    LENGTHS, /* seqlens_k [B]: keys so far with the new ones, less 1 */
    TOTAL,   /* the most of them */
    COS,
    SIN,
    POSITIONS,
    ADDED,
    SINK,
    REFUSED,
    Y = 0,
    PRESENT_K,
    PRESENT_V,
    SCORES
};

/* Sizes; negative where not known (infer only). */
typedef struct dims {
    int64_t batch, heads, kv_heads, rows, past, size; /* past: rows of the buffer */
    bool packed;                                      /* q, k and v in input 0 */
} dims;

static rq_status join(const rq_infer *a, int64_t *d, int64_t other, const char *what)
{
    const int64_t was = *d;
    return rq_infer_dim_join(d, other) ? RQ_OK
                                       : rq_infer_fail(a, RQ_BAD_SHAPE, "%s is %lld in one input and %lld in another",
                                                       what, (long long)was, (long long)other);
}

static rq_status split(const rq_infer *a, dims *d, int64_t hidden, int64_t heads)
{
    if (hidden < 0)
        return RQ_OK;
    if (hidden % heads != 0 || hidden == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld elements do not divide into %lld heads", (long long)hidden,
                             (long long)heads);
    return join(a, &d->size, hidden / heads, "the size of a head");
}

static rq_status new_dims(const rq_infer *a, dims *d)
{
    const rq_tensor *k = rq_op_input(a->in, a->n_in, K), *v = rq_op_input(a->in, a->n_in, V);
    d->packed = !k;
    if (!k != !v)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "key and value go together, and only one is given");
    for (int i = Q; i <= (d->packed ? Q : V); i++) {
        assert(a->in[i]);
        const rq_shape *s = &a->in[i]->shape;
        if (s->rank < 0)
            continue;
        if (s->rank != 3)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %d axes, expected 3", i, s->rank);
        RQ_TRY(join(a, &d->batch, s->dim[0], "the batch"));
        RQ_TRY(join(a, &d->rows, s->dim[1], "the length of the sequence"));
        RQ_TRY(split(a, d, s->dim[2], d->packed ? d->heads + 2 * d->kv_heads : i == Q ? d->heads : d->kv_heads));
    }
    return RQ_OK;
}

static rq_status past_dims(const rq_infer *a, dims *d)
{
    const rq_tensor *pk = rq_op_input(a->in, a->n_in, PAST_K), *pv = rq_op_input(a->in, a->n_in, PAST_V);
    if (!pk != !pv)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "past_key and past_value go together, and only one is given");
    d->past = pk ? RQ_DIM_UNKNOWN : 0;
    for (int i = PAST_K; pk && i <= PAST_V; i++) {
        const rq_shape *s = &a->in[i]->shape;
        int64_t heads = d->kv_heads;
        if (s->rank < 0)
            continue;
        if (s->rank != 4)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %d axes, expected 4", i, s->rank);
        RQ_TRY(join(a, &d->batch, s->dim[0], "the batch"));
        RQ_TRY(join(a, &heads, s->dim[1], "the number of heads of keys"));
        RQ_TRY(join(a, &d->past, s->dim[2], "the length of the past"));
        RQ_TRY(join(a, &d->size, s->dim[3], "the size of a head"));
    }
    return RQ_OK;
}

static rq_status all_dims(const rq_infer *a, dims *d)
{
    *d = (dims) {
        -1, rq_attr_int(a->node, RQ_WORD_num_heads, 0), rq_attr_int(a->node, RQ_WORD_kv_num_heads, 0), -1, -1, -1, false
    };
    if (d->heads < 1 || d->kv_heads < 1 || d->heads > INT32_MAX || d->heads % d->kv_heads != 0)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "num_heads is %lld and kv_num_heads %lld, expected a multiple of it",
                             (long long)d->heads, (long long)d->kv_heads);
    RQ_TRY(new_dims(a, d));
    return past_dims(a, d);
}

/* cos_cache and sin_cache [positions][half of what turns]. */
static rq_status check_angles(const rq_infer *a, dims *d)
{
    const rq_tensor *c = rq_op_input(a->in, a->n_in, COS), *s = rq_op_input(a->in, a->n_in, SIN);
    if (!rq_attr_int(a->node, RQ_WORD_do_rotary, 0))
        return RQ_OK;
    if (!c || !s)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "do_rotary needs cos_cache and sin_cache");
    if (!rq_shape_is_known(&c->shape) || !rq_shape_is_known(&s->shape))
        return RQ_OK;
    if (c->shape.rank != 2 || !rq_shape_equal(&c->shape, &s->shape))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "cos_cache and sin_cache are not two matrices of the same sizes");
    if (d->size >= 0 && 2 * c->shape.dim[1] > d->size)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld angles are too many for a head of %lld", (long long)c->shape.dim[1],
                             (long long)d->size);
    return RQ_OK;
}

static rq_status check_vector(const rq_infer *a, int i, int64_t n, const char *what, rq_dtype dtype)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
    int64_t count = 1;
    if (!t || t->shape.rank < 0)
        return RQ_OK;
    if (dtype != RQ_DTYPE_NONE && t->dtype != RQ_DTYPE_NONE && t->dtype != dtype)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "%s has type %s, expected %s", what, rq_dtype_name(t->dtype),
                             rq_dtype_name(dtype));
    for (int d = 0; d < t->shape.rank; d++)
        count = rq_infer_dim_mul(count, t->shape.dim[d]);
    if (count >= 0 && n >= 0 && count != n)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%s has %lld elements, expected %lld", what, (long long)count,
                             (long long)n);
    return RQ_OK;
}

static rq_status check_added(const rq_infer *a, const dims *d, int64_t total)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, ADDED);
    const int64_t want[4] = { d->batch, d->heads, d->rows, total };
    if (!t || t->shape.rank < 0)
        return RQ_OK;
    bool fits = t->shape.rank == 4;
    for (int i = 0; fits && i < 4; i++)
        fits = t->shape.dim[i] < 0 || want[i] < 0 || t->shape.dim[i] == want[i] || (i < 2 && t->shape.dim[i] == 1);
    return fits ? RQ_OK
                : rq_infer_fail(a, RQ_BAD_SHAPE, "attention_bias is not [batch or 1, heads or 1, %lld, %lld]",
                                (long long)d->rows, (long long)total);
}

static rq_status gqa_infer(const rq_infer *a)
{
    if (a->n_in <= TOTAL || !a->in[LENGTHS] || !a->in[TOTAL])
        return rq_infer_fail(a, RQ_BAD_GRAPH, "a required input is missing");
    for (int i = REFUSED; i < a->n_in; i++)
        if (a->in[i])
            return rq_infer_fail(a, RQ_UNSUPPORTED,
                                 "input %d (codes in the cache, or normalized heads) is not supported", i);
    if (rq_attr_int(a->node, RQ_WORD_sliding_window_cache, 0))
        return rq_infer_fail(a, RQ_UNSUPPORTED, "sliding_window_cache is not supported");
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = a->in[Q]->dtype;
    dims d;
    int64_t total = RQ_DIM_UNKNOWN;
    RQ_TRY(all_dims(a, &d));
    RQ_TRY(check_angles(a, &d));
    RQ_TRY(check_vector(a, LENGTHS, d.batch, "seqlens_k", RQ_DTYPE_S32));
    RQ_TRY(check_vector(a, TOTAL, 1, "total_sequence_length", RQ_DTYPE_S32));
    RQ_TRY(check_vector(a, SINK, d.heads, "head_sink", RQ_DTYPE_NONE));
    RQ_TRY(check_vector(a, POSITIONS, rq_infer_dim_mul(d.batch, d.rows), "position_ids", RQ_DTYPE_S64));
    if (rq_infer_ints(a, TOTAL, &total, 1) != 1)
        total = RQ_DIM_UNKNOWN;
    else if (total < 1 || (d.past >= 0 && d.rows >= 0 && total > d.past + d.rows))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "total_sequence_length is %lld with a past of %lld and %lld new ones",
                             (long long)total, (long long)d.past, (long long)d.rows);
    RQ_TRY(check_added(a, &d, total));
    const int64_t keys = total < 0 || d.past < 0 ? RQ_DIM_UNKNOWN : d.past > total ? d.past : total;
    a->out_shape[Y] = rq_shape_of(3, (int64_t[]) { d.batch, d.rows, rq_infer_dim_mul(d.heads, d.size) });
    for (int i = PRESENT_K; i <= PRESENT_V && i < a->n_out; i++)
        a->out_shape[i] = rq_shape_of(4, (int64_t[]) { d.batch, d.kv_heads, keys, d.size });
    if (a->n_out > SCORES)
        a->out_shape[SCORES] = rq_shape_of(4, (int64_t[]) { d.batch, d.heads, d.rows, total });
    return RQ_OK;
}

/* ---- running ---- */

static void run_dims(const rq_op_args *a, dims *d)
{
    const rq_infer i = { .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in };
    (void)all_dims(&i, d); /* it went well when the outputs were inferred */
}

/* Scratch: scores; turned q and k; keys and values so far where nobody wants them; numbers per image; one per head. The
 * number of keys is known at a run only: past + rows is the most there can be. */
typedef struct layout {
    size_t q, k, keys, values, numbers, sinks, bytes;
} layout;

static size_t floats(int64_t a, int64_t b, int64_t c)
{
    return rq_mem_round((size_t)(a * b * c) * sizeof(float));
}

static bool wanted(const rq_op_args *a, int out)
{
    return out < a->n_out && a->out[out];
}

static layout layout_of(const rq_op_args *a, const dims *d)
{
    const rq_attend p = { .queries = d->rows, .keys = d->past + d->rows };
    const bool turns = rq_attr_int(a->node, RQ_WORD_do_rotary, 0) != 0;
    const int64_t heads = d->batch * d->kv_heads;
    layout l = { .q = rq_attend_scratch(&p, a->threads) };
    l.k = l.q + (turns ? floats(d->batch * d->heads, d->rows, d->size) : 0);
    l.keys = l.k + (turns ? floats(heads, d->rows, d->size) : 0);
    l.values = l.keys + (wanted(a, PRESENT_K) ? 0 : floats(heads, p.keys, d->size));
    l.numbers = l.values + (wanted(a, PRESENT_V) ? 0 : floats(heads, p.keys, d->size));
    l.sinks = l.numbers + rq_mem_round(2 * (size_t)d->batch * sizeof(int64_t));
    l.bytes = l.sinks + (size_t)d->heads * sizeof(float);
    return l;
}

static size_t gqa_scratch(const rq_op_args *a, bool integer)
{
    dims d;
    run_dims(a, &d);
    return layout_of(a, &d).bytes;
}

/* until[b] keys of image b count, of which past[b] were there before. */
static rq_status find_lengths(const rq_op_args *a, const dims *d, int64_t total, int64_t *past, int64_t *until)
{
    const bool first = d->rows == total;
    for (int64_t b = 0; b < d->batch; b++) {
        until[b] = (int64_t)a->in[LENGTHS]->s32[b] + 1;
        past[b] = first ? 0 : until[b] - d->rows;
        if (until[b] < 1 || until[b] > total || past[b] < 0 || past[b] > d->past || past[b] + d->rows > total)
            return rq_op_fail(
                a, RQ_BAD_ARG, "seqlens_k[%lld] is %lld, with %lld new keys, %lld past ones, and %lld in all",
                (long long)b, (long long)until[b] - 1, (long long)d->rows, (long long)d->past, (long long)total);
    }
    return RQ_OK;
}

/* How q and k turn; heads and operands are not set. */
static rq_status rotary_of(const rq_op_args *a, const dims *d, const int64_t *past, bool first, rq_rotary *r)
{
    const rq_tensor *c = a->in[COS], *ids = rq_op_input(a->in, a->n_in, POSITIONS);
    *r = (rq_rotary) { .batch = d->batch,
                       .rows = d->rows,
                       .size = d->size,
                       .turned = 2 * c->shape.dim[1],
                       .interleaved = rq_attr_int(a->node, RQ_WORD_rotary_interleaved, 0) != 0,
                       .cos = c->f32,
                       .sin = a->in[SIN]->f32,
                       .start = past };
    int64_t most = 0;
    for (int64_t b = 0; b < d->batch; b++)
        most = past[b] > most ? past[b] : most;
    most += d->rows;
    if (ids && d->batch && first) { /* the first is the place of the whole prompt, in every image */
        r->angle_row = 1;
        r->start = NULL;
        most = ids->s64[0] < 0 || ids->s64[0] > c->shape.dim[0] ? -1 : ids->s64[0] + d->rows;
        if (most >= 0) {
            r->cos += ids->s64[0] * (r->turned / 2);
            r->sin += ids->s64[0] * (r->turned / 2);
        }
    } else if (ids) {
        r->angle = ids->s64;
        most = 0;
        for (int64_t i = 0, n = rq_tensor_count(ids); i < n && most >= 0; i++)
            most = ids->s64[i] < 0 ? -1 : ids->s64[i] >= most ? ids->s64[i] : most;
        most += most >= 0 && most < INT64_MAX;
    }
    if (most < 0 || most > c->shape.dim[0])
        return rq_op_fail(a, RQ_BAD_ARG, "a position is outside the %lld of cos_cache", (long long)c->shape.dim[0]);
    return RQ_OK;
}

/* q (i = 0) or k (1) turned, in scratch. */
static rq_attend_at turned_at(const dims *d, int i)
{
    const int64_t heads = i ? d->kv_heads : d->heads;
    return (rq_attend_at) { d->rows * heads * d->size, d->size, heads * d->size };
}

static rq_status turn(const rq_op_args *a, const dims *d, const layout *l, const int64_t *past, bool first,
                      rq_attend *p)
{
    rq_rotary r;
    RQ_TRY(rotary_of(a, d, past, first, &r));
    char *scratch = a->scratch;
    for (int i = 0; i < 2; i++) {
        const float **x = i ? &p->key : &p->q;
        rq_attend_at *at = i ? &p->key_at : &p->q_at;
        r.heads = i ? d->kv_heads : d->heads;
        r.x = *x;
        r.x_at = *at;
        r.y = (float *)(scratch + (i ? l->k : l->q));
        r.y_at = turned_at(d, i);
        if (d->batch > 0 && d->rows > 0)
            rq_rotary_run(a->threads, &r);
        *x = r.y;
        *at = r.y_at;
    }
    return RQ_OK;
}

/* Keys (or values) so far, image by image. */
static void append(const rq_op_args *a, const dims *d, float *dst, const rq_tensor *old, int64_t keys,
                   const int64_t *past, const float **x, rq_attend_at *at)
{
    rq_attend_cache c = { .x_at = *at,
                          .batch = 1,
                          .heads = d->kv_heads,
                          .old_rows = d->past,
                          .rows = d->rows,
                          .total = keys,
                          .columns = d->size };
    for (int64_t b = 0; b < d->batch; b++) {
        c.dst = dst + b * d->kv_heads * keys * d->size;
        c.old = old ? old->f32 + b * d->kv_heads * d->past * d->size : NULL;
        c.x = *x + b * at->batch;
        c.past = past[b];
        rq_attend_append(a->threads, &c);
    }
    *x = dst;
    *at = (rq_attend_at) { d->kv_heads * keys * d->size, keys * d->size, d->size };
}

static void find_operands(const rq_op_args *a, const dims *d, rq_attend *p)
{
    const int64_t row = (d->packed ? d->heads + 2 * d->kv_heads : d->heads) * d->size, kv = d->kv_heads * d->size;
    p->q = a->in[Q]->f32;
    p->q_at = (rq_attend_at) { d->rows * row, d->size, row };
    p->key_at = p->v_at = d->packed ? p->q_at : (rq_attend_at) { d->rows * kv, d->size, kv };
    p->key = d->packed ? p->q + d->heads * d->size : a->in[K]->f32;
    p->v = d->packed ? p->key + kv : a->in[V]->f32;
}

/* What softmax is of: everything that does not depend on where keys come from. */
static void find_options(const rq_op_args *a, const dims *d, const layout *l, int64_t keys, rq_attend *p)
{
    const float scale = rq_attr_float(a->node, RQ_WORD_scale, 0);
    const int64_t window = rq_attr_int(a->node, RQ_WORD_local_window_size, -1);
    const rq_tensor *added = rq_op_input(a->in, a->n_in, ADDED), *sink = rq_op_input(a->in, a->n_in, SINK);
    p->scale = scale != 0 ? scale : 1 / sqrtf((float)d->size);
    if (window > 0 && window < keys)
        p->left = window - 1;
    if (added)
        p->mask[p->n_masks++] = rq_attend_mask_of(added, p->keys, false, 0);
    if (sink) {
        p->sink = sink->f32;
    } else if (rq_attr_int(a->node, RQ_WORD_smooth_softmax, 0) > 0) {
        float *zero = (float *)((char *)a->scratch + l->sinks);
        for (int64_t h = 0; h < d->heads; h++)
            zero[h] = 0;
        p->sink = zero;
    }
}

static rq_attend plan(const rq_op_args *a, const dims *d, int64_t total, const int64_t *past, const int64_t *until)
{
    return (rq_attend) { .k = a->k,
                         .threads = a->threads,
                         .batch = d->batch,
                         .heads = d->heads,
                         .kv_heads = d->kv_heads,
                         .queries = d->rows,
                         .keys = total,
                         .size = d->size,
                         .v_size = d->size,
                         .y_at = { d->rows * d->heads * d->size, d->size, d->heads * d->size },
                         .softcap = rq_attr_float(a->node, RQ_WORD_softcap, 0),
                         .until = until,
                         .hide_keys = -INFINITY,
                         .causal = rq_attr_int(a->node, RQ_WORD_causal, 1) != 0,
                         .left = -1,
                         .right = -1,
                         .offset = past,
                         .scratch = a->scratch };
}

static rq_status gqa_wide(const rq_op_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && i != LENGTHS && i != TOTAL && i != POSITIONS && a->in[i]->dtype != RQ_DTYPE_F32)
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for input %d of type %s", i,
                              rq_dtype_name(a->in[i]->dtype));
    dims d;
    run_dims(a, &d);
    const layout l = layout_of(a, &d);
    const int64_t total = a->in[TOTAL]->s32[0], keys = d.past > total ? d.past : total;
    if (total < 1 || total > d.past + d.rows)
        return rq_op_fail(a, RQ_BAD_ARG, "total_sequence_length is %lld with a past of %lld and %lld new ones",
                          (long long)total, (long long)d.past, (long long)d.rows);
    char *scratch = a->scratch;
    int64_t *past = (int64_t *)(scratch + l.numbers), *until = past + d.batch;
    RQ_TRY(find_lengths(a, &d, total, past, until));
    rq_attend p = plan(a, &d, total, past, until);
    p.y = a->out[Y]->f32;
    find_operands(a, &d, &p);
    if (rq_attr_int(a->node, RQ_WORD_do_rotary, 0))
        RQ_TRY(turn(a, &d, &l, past, d.rows == total, &p));
    append(a, &d, wanted(a, PRESENT_K) ? a->out[PRESENT_K]->f32 : (float *)(scratch + l.keys),
           rq_op_input(a->in, a->n_in, PAST_K), keys, past, &p.key, &p.key_at);
    append(a, &d, wanted(a, PRESENT_V) ? a->out[PRESENT_V]->f32 : (float *)(scratch + l.values),
           rq_op_input(a->in, a->n_in, PAST_V), keys, past, &p.v, &p.v_at);
    find_options(a, &d, &l, keys, &p);
    if (wanted(a, SCORES))
        p.scores = a->out[SCORES]->f32;
    p.tap = rq_attr_int(a->node, RQ_WORD_qk_output, 0) == 2 ? RQ_ATTEND_SHARES : RQ_ATTEND_MASKED;
    const rq_status s = rq_attend_run(&p);
    for (int64_t i = 0, n = p.scores ? rq_tensor_count(a->out[SCORES]) : 0; i < n; i++) /* hidden ones are told as 0 */
        if (p.scores[i] == -INFINITY)
            p.scores[i] = 0;
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
}

static rq_status gqa_forward(const rq_op_args *a)
{
    return rq_half_run(a, gqa_wide);
}

/* ---- backward, of y, where all keys are new ---- */

/* Behind what forward needs: gradients of turned q and k; then what the core needs. */
static size_t gqa_scratch_backward(const rq_op_args *a)
{
    dims d;
    run_dims(a, &d);
    const rq_attend p = plan(a, &d, d.rows, NULL, NULL);
    return layout_of(a, &d).bytes + rq_mem_round((size_t)d.heads * sizeof(float)) +
           floats(d.batch * d.heads, d.rows, d.size) + floats(d.batch * d.kv_heads, d.rows, d.size) +
           rq_attend_grad_scratch(&p);
}

/* Where the gradient of q, k or v goes: beside the others where they share an input. */
static float *place_of(const rq_op_args *a, const dims *d, int which)
{
    rq_tensor *t = rq_grad_in(a, d->packed ? Q : which);
    const int64_t before = which == Q ? 0 : d->heads + (which == V ? d->kv_heads : 0);
    return !t ? NULL : d->packed ? t->f32 + before * d->size : t->f32;
}

static rq_status gqa_backward(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, Y);
    dims d;
    for (int i = PRESENT_K; i <= SCORES; i++)
        if (rq_grad_out(a, i))
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient for what comes into output %d", i);
    run_dims(a, &d);
    if (d.past || a->in[TOTAL]->s32[0] != d.rows)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient where keys and values come from a cache");
    if (!dy || !rq_tensor_count(dy))
        return rq_grad_none(a);
    const bool turns = rq_attr_int(a->node, RQ_WORD_do_rotary, 0) != 0;
    const layout l = layout_of(a, &d);
    char *at = a->scratch;
    int64_t *past = (int64_t *)(at + l.numbers), *until = past + d.batch;
    RQ_TRY(find_lengths(a, &d, d.rows, past, until));
    rq_attend p = plan(a, &d, d.rows, past, until);
    find_operands(a, &d, &p);
    const rq_attend_at lies[2] = { p.q_at, p.key_at };
    if (turns)
        RQ_TRY(turn(a, &d, &l, past, true, &p));
    find_options(a, &d, &l, d.rows, &p);
    at += l.sinks + rq_mem_round((size_t)d.heads * sizeof(float));
    float *dx[3], *room[2] = { (float *)at, NULL };
    at += floats(d.batch * d.heads, d.rows, d.size);
    room[1] = (float *)at;
    at += floats(d.batch * d.kv_heads, d.rows, d.size);
    for (int i = Q; i <= V; i++)
        dx[i] = turns && i < V && place_of(a, &d, i) ? room[i] : place_of(a, &d, i);
    rq_tensor *dsink = rq_grad_in(a, SINK);
    const rq_attend_grad g = { .a = &p,
                               .dy = dy->f32,
                               .dq = dx[Q],
                               .dkey = dx[K],
                               .dv = dx[V],
                               .dmask = rq_grad_in(a, ADDED),
                               .dsink = dsink ? dsink->f32 : NULL,
                               .scratch = at };
    const rq_status s = rq_attend_grad_run(a, &g);
    if (s != RQ_OK)
        return rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
    for (int i = Q; turns && i < V; i++) {
        rq_rotary r;
        if (!place_of(a, &d, i))
            continue;
        RQ_TRY(rotary_of(a, &d, past, true, &r));
        r.back = true;
        r.heads = i ? d.kv_heads : d.heads;
        r.x = dx[i];
        r.x_at = turned_at(&d, i);
        r.y = place_of(a, &d, i);
        r.y_at = lies[i];
        rq_rotary_run(a->threads, &r);
    }
    return RQ_OK;
}

static double gqa_macs(const rq_op_args *a)
{
    dims d;
    run_dims(a, &d);
    return 2 * (double)d.batch * (double)d.heads * (double)d.rows * (double)(d.past + d.rows) * (double)d.size;
}

const rq_op rq_op_ms_group_query_attention = {
    .name = "GroupQueryAttention",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1, /* 7, but key to past_value may be left out */
    .max_in = 16,
    .min_out = 1,
    .max_out = 4,
    .place = RQ_PLACE_FLOAT,
    .infer = gqa_infer,
    .forward = gqa_forward,
    .backward = gqa_backward,
    .saves = (1u << (SINK + 1)) - 1, /* all of them */
    .gradients = RQ_OP_IN(Q) | RQ_OP_IN(K) | RQ_OP_IN(V) | RQ_OP_IN(ADDED) | RQ_OP_IN(SINK),
    .parameters = RQ_OP_IN(SINK),
    .scratch_backward = gqa_scratch_backward,
    .scratch = gqa_scratch,
    .macs = gqa_macs,
};
