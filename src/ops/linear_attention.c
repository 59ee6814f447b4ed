/* ops/linear_attention.c — operators of opsets 27 and 28 for models with a state in place of attention: LinearAttention,
 * CausalConvWithState, SwiGLU. */
#include <math.h>
#include <string.h>

#include "ops/eltwise.h"
#include "ops/half.h"

static rq_status only_f32(const rq_op_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_F32)
            return rq_op_no_form(a, a->in[i]->dtype);
    return RQ_OK;
}

static rq_status bad_shape(const rq_infer *a, int i, const char *want)
{
    char text[RQ_SHAPE_TEXT];
    return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has shape %s, expected %s", i,
                         rq_shape_text(&a->in[i]->shape, text, sizeof text), want);
}

/* Input i has these sizes where both are known. */
static bool fits(const rq_infer *a, int i, int rank, const int64_t *want)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
    if (!t || t->shape.rank < 0)
        return true;
    bool ok = t->shape.rank == rank;
    for (int d = 0; ok && d < rank; d++)
        ok = t->shape.dim[d] < 0 || want[d] < 0 || t->shape.dim[d] == want[d];
    return ok;
}

/* ---- LinearAttention: a state [d_k][d_v] per head of keys, changed by each row ---- */

enum { Q, K, V, PAST, DECAY, BETA };
typedef enum rule { LINEAR = 0, GATED = 1, DELTA = 2, GATED_DELTA = 3 } rule; /* bit 0: decays, bit 1: corrects */

static int rule_of(const rq_node *n)
{
    static const rq_word words[] = { RQ_WORD_linear, RQ_WORD_gated, RQ_WORD_delta, RQ_WORD_gated_delta };
    const rq_word w = rq_attr_word(n, RQ_WORD_update_rule, RQ_WORD_gated_delta);
    for (int i = 0; i < 4; i++)
        if (w == words[i])
            return i;
    return -1;
}

static rq_status linear_infer(const rq_infer *a)
{
    const int64_t heads = rq_attr_int(a->node, RQ_WORD_q_num_heads, 0),
                  kv = rq_attr_int(a->node, RQ_WORD_kv_num_heads, 0);
    const int r = rule_of(a->node);
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = a->in[0]->dtype;
    if (r < 0)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "update_rule is '%.32s'",
                             rq_attr_string(a->node, RQ_WORD_update_rule, ""));
    if (heads < 1 || kv < 1 || heads % kv != 0 || heads > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "%lld heads of queries cannot share %lld heads of keys", (long long)heads,
                             (long long)kv);
    if (((r & 1) && !rq_op_input(a->in, a->n_in, DECAY)) || ((r & 2) && !rq_op_input(a->in, a->n_in, BETA)))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "update_rule '%.32s' needs decay or beta, which is missing",
                             rq_attr_string(a->node, RQ_WORD_update_rule, "gated_delta"));
    const rq_shape *q = &a->in[Q]->shape, *v = &a->in[V]->shape;
    if (q->rank < 0 || v->rank < 0)
        return RQ_OK;
    if (q->rank != 3 || (q->dim[2] >= 0 && (q->dim[2] % heads != 0 || q->dim[2] == 0)))
        return bad_shape(a, Q, "[batch, length, q_num_heads * size]");
    const int64_t size = q->dim[2] < 0 ? RQ_DIM_UNKNOWN : q->dim[2] / heads;
    if (!fits(a, K, 3, (int64_t[]) { q->dim[0], q->dim[1], size < 0 ? -1 : size * kv }))
        return bad_shape(a, K, "[batch, length, kv_num_heads * size]");
    if (!fits(a, V, 3, (int64_t[]) { q->dim[0], q->dim[1], -1 }) || (v->dim[2] >= 0 && v->dim[2] % kv != 0))
        return bad_shape(a, V, "[batch, length, kv_num_heads * size]");
    const int64_t v_size = v->dim[2] < 0 ? RQ_DIM_UNKNOWN : v->dim[2] / kv;
    if (!fits(a, PAST, 4, (int64_t[]) { q->dim[0], kv, size, v_size }))
        return bad_shape(a, PAST, "[batch, kv_num_heads, size of keys, size of values]");
    if (!fits(a, DECAY, 3, (int64_t[]) { q->dim[0], q->dim[1], kv }) &&
        !fits(a, DECAY, 3, (int64_t[]) { q->dim[0], q->dim[1], size < 0 ? -1 : size * kv }))
        return bad_shape(a, DECAY, "one number per head, or per element of a key");
    if (!fits(a, BETA, 3, (int64_t[]) { q->dim[0], q->dim[1], kv }) &&
        !fits(a, BETA, 3, (int64_t[]) { q->dim[0], q->dim[1], 1 }))
        return bad_shape(a, BETA, "one number per head, or one");
    a->out_shape[0] = rq_shape_of(3, (int64_t[]) { q->dim[0], q->dim[1], rq_infer_dim_mul(heads, v_size) });
    if (a->n_out > 1)
        a->out_shape[1] = rq_shape_of(4, (int64_t[]) { q->dim[0], kv, size, v_size });
    return RQ_OK;
}

typedef struct linear_job {
    const rq_op_args *a;
    int64_t rows, heads, kv, size, v_size;
    float scale;
    int rule;
    float *state; /* [batch][kv][size][v_size] */
    float *spare; /* [batch][kv][v_size] */
} linear_job;

/* One head of keys of one image, row by row. */
static void linear_head(void *arg, int64_t item)
{
    const linear_job *j = arg;
    const rq_op_args *a = j->a;
    const rq_tensor *past = rq_op_input(a->in, a->n_in, PAST), *decay = rq_op_input(a->in, a->n_in, DECAY),
                    *beta = rq_op_input(a->in, a->n_in, BETA);
    const int64_t b = item / j->kv, h = item % j->kv, n = j->size, m = j->v_size, shared = j->heads / j->kv;
    float *s = j->state + item * n * m, *seen = j->spare + item * m;
    if (past)
        memcpy(s, past->f32 + item * n * m, (size_t)(n * m) * sizeof *s);
    else
        memset(s, 0, (size_t)(n * m) * sizeof *s);
    for (int64_t t = 0; t < j->rows; t++) {
        const int64_t row = b * j->rows + t;
        const float *k = a->in[K]->f32 + (row * j->kv + h) * n, *v = a->in[V]->f32 + (row * j->kv + h) * m;
        for (int64_t i = 0; (j->rule & 1) && i < n; i++) {
            const bool each = decay->shape.dim[2] != j->kv;
            float e = decay->f32[each ? (row * j->kv + h) * n + i : row * j->kv + h];
            a->k->map[RQ_MAP_EXP](&e, &e, 1, 0, 0);
            a->k->zip[RQ_ZIP_MUL](s + i * m, s + i * m, 1, &e, 0, (size_t)m);
        }
        memcpy(seen, v, (size_t)m * sizeof *seen);
        if (j->rule & 2) { /* what the state says already is taken off */
            const float by = beta->f32[beta->shape.dim[2] == 1 ? row : row * j->kv + h];
            for (int64_t i = 0; i < n; i++)
                for (int64_t d = 0; d < m; d++)
                    seen[d] -= s[i * m + d] * k[i];
            a->k->zip[RQ_ZIP_MUL](seen, seen, 1, &by, 0, (size_t)m);
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t d = 0; d < m; d++)
                s[i * m + d] += k[i] * seen[d];
        for (int64_t g = 0; g < shared; g++) {
            const int64_t head = h * shared + g;
            const float *q = a->in[Q]->f32 + (row * j->heads + head) * n;
            float *y = a->out[0]->f32 + (row * j->heads + head) * m;
            memset(y, 0, (size_t)m * sizeof *y);
            for (int64_t i = 0; i < n; i++)
                for (int64_t d = 0; d < m; d++)
                    y[d] += q[i] * s[i * m + d];
            a->k->zip[RQ_ZIP_MUL](y, y, 1, &j->scale, 0, (size_t)m);
        }
    }
}

static void linear_sizes(const rq_op_args *a, linear_job *j)
{
    j->heads = rq_attr_int(a->node, RQ_WORD_q_num_heads, 1);
    j->kv = rq_attr_int(a->node, RQ_WORD_kv_num_heads, 1);
    j->rows = a->in[Q]->shape.dim[1];
    j->size = a->in[Q]->shape.dim[2] / j->heads;
    j->v_size = a->in[V]->shape.dim[2] / j->kv;
}

static rq_status linear_wide(const rq_op_args *a)
{
    linear_job j = { .a = a, .rule = rule_of(a->node) };
    RQ_TRY(only_f32(a));
    linear_sizes(a, &j);
    const int64_t items = a->in[Q]->shape.dim[0] * j.kv;
    j.scale = rq_attr_float(a->node, RQ_WORD_scale, 0);
    j.scale = j.scale != 0 ? j.scale : 1 / sqrtf((float)j.size);
    j.spare = a->scratch;
    j.state = a->n_out > 1 && a->out[1] ? a->out[1]->f32 : j.spare + items * j.v_size;
    rq_threads_for(a->threads, items, linear_head, &j);
    return RQ_OK;
}

static rq_status linear_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, linear_wide);
}

static size_t linear_scratch(const rq_op_args *a, bool integer)
{
    linear_job j;
    linear_sizes(a, &j);
    return (size_t)(a->in[Q]->shape.dim[0] * j.kv) * (size_t)j.v_size * ((size_t)j.size + 1) * sizeof(float);
}

/* ---- CausalConvWithState: each channel with its own kernel, over this row and those before ---- */

static rq_status causal_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const rq_word f = rq_attr_word(a->node, RQ_WORD_activation, RQ_WORD_none);
    if (f != RQ_WORD_none && f != RQ_WORD_silu && f != RQ_WORD_swish)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "activation is '%.32s', expected none, silu or swish",
                             rq_attr_string(a->node, RQ_WORD_activation, ""));
    for (int i = 0; i < a->n_out; i++)
        a->out_dtype[i] = a->in[0]->dtype;
    a->out_shape[0] = *x;
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    if (x->rank != 3)
        return bad_shape(a, 0, "[batch, channels, length]");
    if (!fits(a, 1, 3, (int64_t[]) { x->dim[1], 1, -1 }) || w->dim[2] == 0)
        return bad_shape(a, 1, "[channels, 1, kernel]");
    const int64_t past = w->dim[2] < 0 ? RQ_DIM_UNKNOWN : w->dim[2] - 1;
    if (!fits(a, 2, 1, &x->dim[1]))
        return bad_shape(a, 2, "[channels]");
    if (!fits(a, 3, 3, (int64_t[]) { x->dim[0], x->dim[1], past }))
        return bad_shape(a, 3, "[batch, channels, kernel - 1]");
    if (a->n_out > 1)
        a->out_shape[1] = rq_shape_of(3, (int64_t[]) { x->dim[0], x->dim[1], past });
    return RQ_OK;
}

/* One channel of one image. */
static void causal_channel(void *arg, int64_t item)
{
    const rq_op_args *a = arg;
    const rq_tensor *bias = rq_op_input(a->in, a->n_in, 2), *past = rq_op_input(a->in, a->n_in, 3);
    const int64_t channels = a->in[0]->shape.dim[1], n = a->in[0]->shape.dim[2], k = a->in[1]->shape.dim[2], p = k - 1;
    const float *x = a->in[0]->f32 + item * n, *w = a->in[1]->f32 + item % channels * k;
    const float *old = past ? past->f32 + item * p : NULL;
    float *y = a->out[0]->f32 + item * n;
    for (int64_t i = 0; i < n; i++) {
        y[i] = bias ? bias->f32[item % channels] : 0;
        for (int64_t t = 0; t < k; t++) {
            const int64_t at = i + t - p;
            y[i] += w[t] * (at >= 0 ? x[at] : old ? old[at + p] : 0);
        }
    }
    if (rq_attr_word(a->node, RQ_WORD_activation, RQ_WORD_none) != RQ_WORD_none)
        a->k->map[RQ_MAP_SWISH](y, y, (size_t)n, 1, 0);
    for (int64_t t = 0; a->n_out > 1 && a->out[1] && t < p; t++) {
        const int64_t at = n - p + t;
        a->out[1]->f32[item * p + t] = at >= 0 ? x[at] : old ? old[at + p] : 0;
    }
}

static rq_status causal_wide(const rq_op_args *a)
{
    RQ_TRY(only_f32(a));
    rq_threads_for(a->threads, a->in[0]->shape.dim[0] * a->in[0]->shape.dim[1], causal_channel, (void *)a);
    return RQ_OK;
}

static rq_status causal_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, causal_wide);
}

/* ---- SwiGLU: swish(gate) * value ---- */

static rq_status gate_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    RQ_TRY(rq_infer_same(a));
    return x->rank < 0 || fits(a, 1, x->rank, x->dim) ? RQ_OK : bad_shape(a, 1, "that of input 0");
}

static rq_status gate_wide(const rq_op_args *a)
{
    RQ_TRY(only_f32(a));
    RQ_TRY(rq_eltwise_map(a, a->out[0], a->in[0], RQ_MAP_SWISH, rq_attr_float(a->node, RQ_WORD_alpha, 1), 0));
    return rq_eltwise_zip(a, a->out[0], a->out[0], a->in[1], RQ_ZIP_MUL);
}

static rq_status gate_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, gate_wide);
}

const rq_op rq_op_linear_attention = {
    .name = "LinearAttention",
    .domain = "",
    .since = 27,
    .known = 28,
    .min_in = 3,
    .max_in = 6,
    .min_out = 1,
    .max_out = 2,
    .place = RQ_PLACE_FLOAT,
    .infer = linear_infer,
    .forward = linear_forward,
    .scratch = linear_scratch,
};

const rq_op rq_op_causal_conv_with_state = {
    .name = "CausalConvWithState",
    .domain = "",
    .since = 27,
    .known = 28,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 2,
    .place = RQ_PLACE_FLOAT,
    .infer = causal_infer,
    .forward = causal_forward,
};

const rq_op rq_op_swiglu = {
    .name = "SwiGLU",
    .domain = "",
    .since = 28,
    .known = 28,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = gate_infer,
    .forward = gate_forward,
};
