/* ops/attention_ms.c — Attention, QAttention and MultiHeadAttention of com.microsoft, on ops/attend.h. The first two
 * project their input to q, k and v themselves; the last gets them in any of five layouts. Masks here add a finite
 * number (mask_filter_value) where they hide, so a row with everything hidden is not 0: docs/onnx-facts.md 2.9.
 * Sizes: attention_ms_sizes.c. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "ops/attend.h"
#include "ops/attention_int.h"
#include "ops/attention_ms.h"
#include "ops/bcast.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"

static rq_attend plan(const rq_op_args *a, const rq_ms_dims *d)
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
    return rq_mem_round((size_t)(a * b * c) * sizeof(float));
}

static bool wanted(const rq_op_args *a, int out)
{
    return out >= 0 && out < a->n_out && a->out[out];
}

static bool is_deep(const rq_op_args *a) /* keys and values [B,H,L,D], already with their bias */
{
    return !rq_ms_roles_of(a->node)->projects && a->in[0]->shape.rank == 3 && a->in[1]->shape.rank == 4;
}

static layout layout_of(const rq_op_args *a, const rq_ms_roles *r, const rq_ms_dims *d)
{
    const rq_attend p = plan(a, d);
    const bool copies = !r->projects && rq_ms_input(a->in, a->n_in, r->bias), kv = copies && !is_deep(a);
    layout l = { .q = rq_attend_scratch(&p, a->threads) };
    l.k = l.q + (r->projects ? floats(d->batch, d->queries, 2 * d->hidden + d->v_hidden)
                 : copies    ? floats(d->batch, d->queries, d->hidden)
                             : 0);
    l.v = l.k + (kv ? floats(d->batch, d->rows, d->hidden) : 0);
    l.keys = l.v + (kv ? floats(d->batch, d->rows, d->v_hidden) : 0);
    l.values = l.keys + (d->past && !wanted(a, r->present_k) ? floats(d->batch, d->total, d->hidden) : 0);
    l.numbers = l.values + (d->past && !wanted(a, r->present_v) ? floats(d->batch, d->total, d->v_hidden) : 0);
    l.bytes = l.numbers + rq_mem_round(3 * (size_t)d->batch * sizeof(int64_t));
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

static const float *with_bias(const rq_op_args *a, const rq_ms_dims *d, float *y, const float *x, const float *bias,
                              int64_t rows, int64_t size, rq_attend_at *at)
{
    bias_job j = { a->k, y, x, bias, *at, d->heads, rows, size };
    rq_bcast_spans(a->threads, d->batch * rows, RQ_BCAST_PIECE / (d->heads * size + 1) + 1, bias_span, &j);
    *at = (rq_attend_at) { rows * d->heads * size, size, d->heads * size };
    return y;
}

/* Where q, k and v of MultiHeadAttention lie in the inputs. */
static void find_places(const rq_op_args *a, const rq_ms_dims *d, rq_attend *p)
{
    const rq_tensor *q = a->in[0], *k = rq_ms_input(a->in, a->n_in, 1), *v = rq_ms_input(a->in, a->n_in, 2);
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
}

/* Where they lie with their bias added. */
static void find_operands(const rq_op_args *a, const rq_ms_roles *r, const rq_ms_dims *d, const layout *l, rq_attend *p)
{
    const rq_tensor *bias = rq_ms_input(a->in, a->n_in, r->bias);
    char *scratch = a->scratch;
    find_places(a, d, p);
    if (!bias)
        return;
    p->q = with_bias(a, d, (float *)(scratch + l->q), p->q, bias->f32, d->queries, d->size, &p->q_at);
    if (is_deep(a))
        return;
    p->key = with_bias(a, d, (float *)(scratch + l->k), p->key, bias->f32 + d->hidden, d->rows, d->size, &p->key_at);
    p->v = with_bias(a, d, (float *)(scratch + l->v), p->v, bias->f32 + 2 * d->hidden, d->rows, d->v_size, &p->v_at);
}

/* q, k and v of Attention: one product, side by side in scratch. */
static rq_status project(const rq_op_args *a, const rq_ms_dims *d, const layout *l, rq_attend *p)
{
    const rq_tensor *x = a->in[0], *bias = rq_ms_input(a->in, a->n_in, 2);
    const int64_t n = 2 * d->hidden + d->v_hidden, m = d->batch * d->queries, k = x->shape.dim[2];
    float *y = (float *)((char *)a->scratch + l->q);
    if (rq_ms_roles_of(a->node)->codes) {
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
static const float *append(const rq_op_args *a, const rq_ms_dims *d, float *dst, const float *old, const float *x,
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

static void append_both(const rq_op_args *a, const rq_ms_roles *r, const rq_ms_dims *d, const layout *l, rq_attend *p)
{
    const rq_tensor *pk = rq_ms_input(a->in, a->n_in, r->past_k), *pv = rq_ms_input(a->in, a->n_in, r->past_v);
    const int64_t before = r->projects ? d->batch * d->heads * d->size : 0; /* both in one tensor: keys first */
    char *scratch = a->scratch;
    float *k = wanted(a, r->present_k) ? a->out[r->present_k]->f32 : d->past ? (float *)(scratch + l->keys) : NULL;
    float *v = wanted(a, r->present_v) ? a->out[r->present_v]->f32 + before * d->total
               : d->past               ? (float *)(scratch + l->values)
                                       : NULL;
    p->key = append(a, d, k, pk ? pk->f32 : NULL, p->key, d->size, &p->key_at);
    p->v = append(a, d, v, pv ? pv->f32 + before * d->past : NULL, p->v, d->v_size, &p->v_at);
}

static void find_masks(const rq_op_args *a, const rq_ms_roles *r, const rq_ms_dims *d, int64_t *numbers, rq_attend *p)
{
    const rq_tensor *m = rq_ms_input(a->in, a->n_in, r->mask), *add = rq_ms_input(a->in, a->n_in, r->added);
    const float hidden = rq_attr_float(a->node, RQ_WORD_mask_filter_value, -10000.0f);
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

static void find_options(const rq_op_args *a, const rq_ms_dims *d, rq_attend *p)
{
    const float scale = rq_attr_float(a->node, RQ_WORD_scale, 0);
    p->scale = scale != 0 ? scale : 1 / sqrtf((float)d->size);
    p->causal = rq_attr_int(a->node, RQ_WORD_unidirectional, 0) != 0;
    p->hide_far = -FLT_MAX;
}

static rq_status ms_wide(const rq_op_args *a)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_F32 && i != r->mask &&
            !(rq_ms_roles_of(a->node)->codes && rq_int_is_byte(a->in[i]->dtype)))
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for input %d of type %s", i,
                              rq_dtype_name(a->in[i]->dtype));
    rq_ms_dims d;
    rq_ms_find(a, r, &d);
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

/* ---- backward, of the first output, without a cache. What q, k and v got goes to where they lie: in an input, or, where they have
 * a bias or are projected, to scratch in the same form, and from there on. ---- */

static int64_t columns_of(const rq_ms_dims *d)
{
    return 2 * d->hidden + d->v_hidden;
}

/* Behind what forward needs: gradients of q, k and v; then what the core needs. */
static size_t ms_scratch_backward(const rq_op_args *a)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    rq_ms_dims d;
    rq_ms_find(a, r, &d);
    const rq_attend p = plan(a, &d);
    return layout_of(a, r, &d).bytes + floats(d.batch, d.queries, d.hidden) + floats(d.batch, d.rows, d.hidden) +
           floats(d.batch, d.rows, d.v_hidden) + rq_attend_grad_scratch(&p);
}

/* Sums over rows of x [rows][n] (rows ld apart): what was added to each of them got. */
static rq_status sum_rows(const rq_op_args *a, float *db, float *dx, int64_t rows, int64_t n)
{
    const rq_tensor all = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 2, { rows, n } }, dx);
    rq_tensor part = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 1, { n } }, db);
    return rq_grad_sum(a, &part, &all);
}

/* The products of Attention, backward: dy [B*S][2H + V] of q, k and v side by side. */
static rq_status unproject(const rq_op_args *a, const rq_ms_dims *d, float *dy)
{
    const int64_t n = columns_of(d), m = d->batch * d->queries, k = a->in[0]->shape.dim[2];
    rq_tensor *dx = rq_grad_in(a, 0), *dw = rq_grad_in(a, 1), *db = rq_grad_in(a, 2);
    if (dx)
        RQ_TRY(rq_gemm_f32(a->k, dx->f32, dy, a->in[1]->f32, false, true, m, k, n, 1, n, n, 0, k, a->threads));
    if (dw)
        RQ_TRY(rq_gemm_f32(a->k, dw->f32, a->in[0]->f32, dy, true, false, k, n, m, 1, k, n, 0, n, a->threads));
    return db ? sum_rows(a, db->f32, dy, m, n) : RQ_OK;
}

/* Where q (k, v) of MultiHeadAttention lies in the gradient of the input that holds it; NULL: not wanted. */
static float *place_of(const rq_op_args *a, const rq_ms_dims *d, int which)
{
    const rq_tensor *q = a->in[0], *k = rq_ms_input(a->in, a->n_in, 1);
    const int holder = q->shape.rank == 5 ? 0 : which == 2 && k->shape.rank == 5 ? 1 : which;
    rq_tensor *t = rq_grad_in(a, holder);
    return t ? t->f32 + (which - holder) * d->size : NULL; /* packed ones: v_size is size */
}

/* dst at any steps = x [B][rows][heads][size] */
static void put_back(const rq_ms_dims *d, float *dst, const rq_attend_at *at, const float *x, int64_t rows,
                     int64_t size)
{
    for (int64_t i = 0, n = d->batch * rows; i < n; i++)
        for (int64_t h = 0; h < d->heads; h++)
            memcpy(dst + i / rows * at->batch + i % rows * at->row + h * at->head, x + (i * d->heads + h) * size,
                   (size_t)size * sizeof *x);
}

/* MultiHeadAttention: to the inputs, through the bias that was added to them. lies: where q, k and v of the inputs lie. */
static rq_status unbias(const rq_op_args *a, const rq_ms_roles *r, const rq_ms_dims *d, float *const dx[3],
                        const rq_attend_at lies[3])
{
    rq_tensor *db = rq_grad_in(a, r->bias);
    const int64_t rows[] = { d->queries, d->rows, d->rows }, size[] = { d->size, d->size, d->v_size };
    int64_t from = 0;
    for (int i = 0; i < 3; from += d->heads * size[i++]) {
        if (db && dx[i])
            RQ_TRY(sum_rows(a, db->f32 + from, dx[i], d->batch * rows[i], d->heads * size[i]));
        if (place_of(a, d, i))
            put_back(d, place_of(a, d, i), &lies[i], dx[i], rows[i], size[i]);
    }
    return RQ_OK;
}

static rq_status ms_backward(const rq_op_args *a)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    const rq_tensor *dy = rq_grad_out(a, 0), *added = rq_ms_input(a->in, a->n_in, r->added);
    rq_ms_dims d;
    for (int i = 1; i < a->n_out; i++)
        if (rq_grad_out(a, i))
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient for what comes into output %d", i);
    rq_ms_find(a, r, &d);
    const bool bias = !r->projects && rq_ms_input(a->in, a->n_in, r->bias);
    if (d.past || (bias && is_deep(a)))
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no gradient where keys and values come from a cache");
    if (!dy || !rq_tensor_count(dy) || !d.total)
        return rq_grad_none(a);
    const layout l = layout_of(a, r, &d);
    rq_attend p = plan(a, &d);
    rq_attend_at lies[3] = { { 0 } };
    p.scratch = a->scratch;
    rq_status s = RQ_OK;
    if (r->projects) {
        s = project(a, &d, &l, &p);
    } else {
        find_places(a, &d, &p);
        lies[0] = p.q_at;
        lies[1] = p.key_at;
        lies[2] = p.v_at;
        find_operands(a, r, &d, &l, &p);
    }
    find_masks(a, r, &d, (int64_t *)((char *)a->scratch + l.numbers), &p);
    find_options(a, &d, &p);
    const size_t bytes[] = { floats(d.batch, d.queries, d.hidden), floats(d.batch, d.rows, d.hidden),
                             floats(d.batch, d.rows, d.v_hidden) };
    char *at = (char *)a->scratch + l.bytes;
    float *dx[3], *const first = (float *)at;
    for (int i = 0; i < 3; at += bytes[i++])
        dx[i] = r->projects ? first + i * d.hidden : bias ? (float *)at : place_of(a, &d, i);
    const rq_attend_grad g = { .a = &p,
                               .dy = dy->f32,
                               .dq = dx[0],
                               .dkey = dx[1],
                               .dv = dx[2],
                               .dmask = added ? rq_grad_in(a, r->added) : NULL,
                               .scratch = at };
    if (s == RQ_OK)
        s = rq_attend_grad_run(a, &g);
    if (s == RQ_OK && r->projects)
        s = unproject(a, &d, first);
    else if (s == RQ_OK && bias)
        s = unbias(a, r, &d, dx, lies);
    return s == RQ_OK ? RQ_OK : rq_op_fail(a, s, "the float product failed: %s", rq_status_text(s));
}

/* ---- MultiHeadAttention on codes: query, key and value of three axes each, nothing added to them ---- */

static bool multi_accepts_int(const rq_op_args *a, const char **why)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    rq_ms_dims d;
    *why = "query, key and value are not all given, with three axes each";
    for (int i = 0; i < 3; i++)
        if (!rq_ms_input(a->in, a->n_in, i) || a->in[i]->shape.rank != 3)
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
    rq_ms_find(a, r, &d);
    return d.total <= RQ_ATTEND_CODE_KEYS && d.size <= RQ_ATTEND_CODE_KEYS &&
           rq_int_is_output(a->out_q[0], a->out[0], true, why);
}

static rq_attend plan_int(const rq_op_args *a, const rq_ms_dims *d, rq_attend_codes *codes)
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
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    rq_ms_dims d;
    rq_attend_codes codes;
    rq_ms_find(a, r, &d);
    rq_attend p = plan_int(a, &d, &codes);
    p.scratch = a->scratch;
    find_masks(a, r, &d, (int64_t *)((char *)a->scratch + rq_attend_scratch(&p, a->threads)), &p);
    find_options(a, &d, &p);
    return rq_attend_run(&p);
}

static size_t ms_scratch(const rq_op_args *a, bool integer)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    rq_ms_dims d;
    rq_attend_codes codes;
    rq_ms_find(a, r, &d);
    if (!integer)
        return layout_of(a, r, &d).bytes + (rq_ms_roles_of(a->node)->codes ? rq_attention_int_scratch(a) : 0);
    const rq_attend p = plan_int(a, &d, &codes);
    return rq_attend_scratch(&p, a->threads) + 3 * (size_t)d.batch * sizeof(int64_t);
}

static double ms_macs(const rq_op_args *a)
{
    const rq_ms_roles *r = rq_ms_roles_of(a->node);
    rq_ms_dims d;
    rq_ms_find(a, r, &d);
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
    .infer = rq_ms_infer,
    .forward = ms_forward,
    .backward = ms_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(5),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(5),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .scratch_backward = ms_scratch_backward,
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
    .infer = rq_ms_infer,
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
    .infer = rq_ms_infer,
    .forward = ms_forward,
    .backward = ms_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4) | RQ_OP_IN(5),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(5),
    .parameters = RQ_OP_IN(3),
    .scratch_backward = ms_scratch_backward,
    .accepts_int = multi_accepts_int,
    .forward_int = multi_forward_int,
    .scratch = ms_scratch,
    .macs = ms_macs,
};
