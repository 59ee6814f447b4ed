/* ops/rotary.c — RotaryEmbedding of ONNX (opset 23) and of com.microsoft; ops/rotary.h for the operators that turn q and
 * k themselves. */
#include "ops/rotary.h"

#include <string.h>

#include "ops/bcast.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/rows.h"

static void turn_row(const rq_rotary *r, float *y, const float *x, const float *c, const float *s)
{
    const int64_t half = r->turned / 2, step = r->interleaved ? 2 : 1, other = r->interleaved ? 1 : half;
    for (int64_t i = 0; i < half; i++) {
        const float re = x[i * step], im = x[i * step + other];
        const float sine = r->back ? -s[i] : s[i];
        y[i * step] = c[i] * re - sine * im;
        y[i * step + other] = sine * re + c[i] * im;
    }
    memmove(y + r->turned, x + r->turned, (size_t)(r->size - r->turned) * sizeof *y);
}

static void turn_span(void *arg, int64_t from, int64_t n)
{
    const rq_rotary *r = arg;
    for (int64_t i = from; i < from + n; i++) {
        const int64_t b = i / r->rows, row = i % r->rows;
        const int64_t at = r->angle   ? r->angle[i]
                           : r->start ? r->start[b] + row
                                      : b * r->angle_batch + row * r->angle_row;
        for (int64_t h = 0; h < r->heads; h++)
            turn_row(r, r->y + b * r->y_at.batch + h * r->y_at.head + row * r->y_at.row,
                     r->x + b * r->x_at.batch + h * r->x_at.head + row * r->x_at.row, r->cos + at * (r->turned / 2),
                     r->sin + at * (r->turned / 2));
    }
}

void rq_rotary_run(rq_threads *t, const rq_rotary *r)
{
    rq_bcast_spans(t, r->batch * r->rows, RQ_BCAST_PIECE / (r->heads * r->size + 1) + 1, turn_span, (void *)r);
}

/* ---- the operators: inputs of the two stand in different order ---- */

typedef struct parts {
    int cos, sin, ids; /* inputs */
    int64_t heads, size, turned;
} parts;

static bool of_ms(const rq_node *n)
{
    return n->row == &rq_op_ms_rotary_embedding;
}

static parts parts_of(const rq_node *n, const rq_shape *x)
{
    const bool ms = of_ms(n);
    parts p = { .cos = ms ? 2 : 1, .sin = ms ? 3 : 2, .ids = ms ? 1 : 3, .heads = -1, .size = -1 };
    const int64_t heads = rq_attr_int(n, RQ_WORD_num_heads, 0),
                  turned = rq_attr_int(n, RQ_WORD_rotary_embedding_dim, 0);
    if (x->rank == 4) {
        p.heads = x->dim[1];
        p.size = x->dim[3];
    } else if (x->rank == 3 && heads > 0) {
        p.heads = heads;
        p.size = x->dim[2] >= 0 ? x->dim[2] / heads : -1;
    }
    p.turned = turned ? turned : p.size;
    return p;
}

/* com.microsoft, three axes and no num_heads: heads are as wide as twice the cache is. */
static void heads_of_cache(parts *p, const rq_shape *x, const rq_shape *cos)
{
    if (p->heads > 0 || x->rank != 3 || cos->rank != 2 || cos->dim[1] <= 0 || x->dim[2] < 0)
        return;
    p->size = p->turned = 2 * cos->dim[1];
    p->heads = x->dim[2] / p->size;
}

static rq_status rotary_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    const rq_shape *x = &a->in[0]->shape;
    if (x->rank >= 0 && x->rank != 3 && x->rank != 4)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected 3 or 4", x->rank);
    parts p = parts_of(a->node, x);
    if (!a->in[p.cos] || !a->in[p.sin] || (of_ms(a->node) && !a->in[p.ids]))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "a required input is missing");
    const rq_shape *c = &a->in[p.cos]->shape, *s = &a->in[p.sin]->shape;
    const rq_tensor *ids = p.ids < a->n_in ? a->in[p.ids] : NULL;
    const int want = ids ? 2 : 3;
    if (of_ms(a->node))
        heads_of_cache(&p, x, c);
    else if (x->rank == 3 && rq_attr_int(a->node, RQ_WORD_num_heads, 0) < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "an input of 3 axes needs num_heads of at least 1");
    if ((c->rank >= 0 && c->rank != want) || (s->rank >= 0 && s->rank != want))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the cosines have %d axes and the sines %d, expected %d", c->rank,
                             s->rank, want);
    if (x->rank < 0 || c->rank < 0 || s->rank < 0)
        return RQ_OK;
    if (x->rank == 3 && x->dim[2] >= 0 && c->dim[want - 1] >= 0 && p.heads < 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the last axis, %lld, holds no head of the %lld angles of the cosines",
                             (long long)x->dim[2], (long long)c->dim[want - 1]);
    if (x->rank == 3 && p.heads > 0 && x->dim[2] >= 0 && x->dim[2] != p.heads * p.size)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the last axis, %lld, is not %lld heads of %lld", (long long)x->dim[2],
                             (long long)p.heads, (long long)p.size);
    if (p.size >= 0 && (p.turned < 0 || p.turned % 2 != 0 || p.turned > p.size))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld elements of a head of %lld cannot turn in pairs",
                             (long long)p.turned, (long long)p.size);
    for (int i = 0; i < want; i++)
        if (c->dim[i] >= 0 && s->dim[i] >= 0 && c->dim[i] != s->dim[i])
            return rq_infer_fail(a, RQ_BAD_SHAPE, "cosines and sines differ in size");
    if (p.turned >= 0 && c->dim[want - 1] >= 0 && c->dim[want - 1] != p.turned / 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the cosines have %lld angles, expected %lld, half of what turns",
                             (long long)c->dim[want - 1], (long long)(p.turned / 2));
    const int64_t batch = x->dim[0], rows = x->dim[x->rank - 2];
    for (int i = 0; !ids && i < 2; i++) {
        const int64_t full = i ? rows : batch;
        if (c->dim[i] >= 0 && full >= 0 && c->dim[i] != full && c->dim[i] != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d of the cosines is %lld, the input has %lld", i,
                                 (long long)c->dim[i], (long long)full);
    }
    if (ids && rq_shape_is_known(&ids->shape) && batch >= 0 && rows >= 0 &&
        !(ids->shape.rank == 2 && ids->shape.dim[0] == batch && ids->shape.dim[1] == rows) &&
        !(of_ms(a->node) && ids->shape.rank <= 1 && rq_shape_count(&ids->shape) == 1)) {
        char text[RQ_SHAPE_TEXT];
        return rq_infer_fail(a, RQ_BAD_SHAPE, "position_ids has shape %s, expected [%lld,%lld]",
                             rq_shape_text(&ids->shape, text, sizeof text), (long long)batch, (long long)rows);
    }
    if (ids && ids->dtype != RQ_DTYPE_NONE && ids->dtype != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "position_ids has type %s, expected s64", rq_dtype_name(ids->dtype));
    if (rq_attr_int(a->node, RQ_WORD_is_packed_batching, 0))
        return rq_infer_fail(a, RQ_UNSUPPORTED, "is_packed_batching is not supported");
    return RQ_OK;
}

static rq_status turn(const rq_op_args *a, float *to, const float *from, bool back)
{
    const rq_shape *x = &a->in[0]->shape;
    parts p = parts_of(a->node, x);
    const rq_tensor *c = a->in[p.cos], *ids = p.ids < a->n_in ? a->in[p.ids] : NULL;
    if (of_ms(a->node))
        heads_of_cache(&p, x, &c->shape);
    if (a->in[0]->dtype != RQ_DTYPE_F32 || c->dtype != RQ_DTYPE_F32 || a->in[p.sin]->dtype != RQ_DTYPE_F32)
        return rq_op_no_form(a, a->in[0]->dtype);
    rq_rotary r = { .batch = x->dim[0],
                    .rows = x->dim[x->rank - 2],
                    .heads = p.heads,
                    .size = p.size,
                    .turned = p.turned,
                    .interleaved = rq_attr_int(a->node, RQ_WORD_interleaved, 0) != 0,
                    .back = back,
                    .y = to,
                    .x = from,
                    .cos = c->f32,
                    .sin = a->in[p.sin]->f32 };
    r.x_at = x->rank == 4 ? (rq_attend_at) { p.heads * r.rows * p.size, r.rows * p.size, p.size }
                          : (rq_attend_at) { r.rows * x->dim[2], p.size, x->dim[2] };
    r.y_at = r.x_at;
    if (rq_tensor_count(a->in[0]) == 0)
        return RQ_OK;
    if (!ids) {
        r.angle_row = c->shape.dim[1] == 1 ? 0 : 1;
        r.angle_batch = c->shape.dim[0] == 1 ? 0 : c->shape.dim[1];
        rq_rotary_run(a->threads, &r);
        return RQ_OK;
    }
    const int64_t n = rq_tensor_count(ids), most = c->shape.dim[0];
    const int64_t follow = n == 1 && ids->shape.rank < 2 ? r.rows : 1; /* one number: the first of a run */
    for (int64_t i = 0; i < n; i++)
        if (ids->s64[i] < 0 || ids->s64[i] > most - follow)
            return rq_op_fail(a, RQ_BAD_ARG, "position %lld is outside the %lld of the cosines", (long long)ids->s64[i],
                              (long long)most);
    if (follow == 1 && ids->shape.rank == 2) {
        r.angle = ids->s64;
    } else {
        r.angle_row = 1;
        r.cos += ids->s64[0] * (p.turned / 2);
        r.sin += ids->s64[0] * (p.turned / 2);
    }
    rq_rotary_run(a->threads, &r);
    return RQ_OK;
}

static rq_status rotary_wide(const rq_op_args *a)
{
    return turn(a, a->out[0]->f32, a->in[0]->f32, false);
}

static rq_status rotary_backward(const rq_op_args *a)
{
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0))
        return rq_grad_none(a);
    return turn(a, rq_grad_in(a, 0)->f32, rq_grad_out(a, 0)->f32, true);
}

static rq_status rotary_forward(const rq_op_args *a)
{
    return rq_half_run(a, rotary_wide);
}

const rq_op rq_op_rotary_embedding = {
    .name = "RotaryEmbedding",
    .domain = "",
    .since = 23,
    .known = 25,
    .min_in = 3,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = rotary_infer,
    .forward = rotary_forward,
    .backward = rotary_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0), /* angles are not trained */
};

const rq_op rq_op_ms_rotary_embedding = {
    .name = "RotaryEmbedding",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 4,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = rotary_infer,
    .forward = rotary_forward,
    .backward = rotary_backward,
    .saves = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3),
    .gradients = RQ_OP_IN(0), /* angles are not trained */
};
