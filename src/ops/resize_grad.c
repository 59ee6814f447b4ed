/* ops/resize_grad.c — backward of Resize and Upsample: forward is linear and one axis after the other, so each axis gives what it got back
 * to the input indices it took it from, with the same weights, last axis first. Nearest is one tap of weight 1. */
#include "ops/resize.h"

#include <string.h>

#include "base/mem.h"
#include "ops/grad.h"

/* Taps of one axis: index, weight [out][cap], n [out]. */
typedef struct axis_taps {
    int64_t *index;
    float *weight;
    int *n;
    int cap;
} axis_taps;

static size_t taps_bytes(int64_t out, int cap)
{
    const size_t n = (size_t)cap * (size_t)out;
    return rq_mem_round(n * sizeof(int64_t)) + rq_mem_round(n * sizeof(float)) +
           rq_mem_round((size_t)out * sizeof(int));
}

static axis_taps taps_at(char *scratch, int64_t out, int cap)
{
    const size_t n = (size_t)cap * (size_t)out;
    axis_taps t = { .index = (int64_t *)scratch, .cap = cap };
    t.weight = (float *)(scratch + rq_mem_round(n * sizeof *t.index));
    t.n = (int *)((char *)t.weight + rq_mem_round(n * sizeof *t.weight));
    return t;
}

static void fill(axis_taps *t, const rq_resize_axis *p, const rq_resize_options *o)
{
    for (int64_t i = 0; i < p->out; i++) {
        const float x = rq_resize_coordinate(p, i, o->coords);
        int64_t *index = t->index + i * t->cap;
        float *weight = t->weight + i * t->cap;
        if (o->coords == RQ_RESIZE_TF_CROP_AND_RESIZE && rq_resize_is_outside(x, p)) {
            t->n[i] = 0; /* a constant */
        } else if (o->method == RQ_RESIZE_NEAREST) {
            index[0] = rq_resize_nearest(x, p, o->rounding);
            weight[0] = 1;
            t->n[i] = 1;
        } else {
            t->n[i] = rq_resize_taps(p, o, i, index, weight, t->cap);
        }
    }
}

/* One axis: dx [outer][in][inner] from dy [outer][out][inner]. */
typedef struct job {
    float *dx;
    const float *dy;
    int64_t in, out, inner;
    axis_taps t;
} job;

static void scatter_item(void *arg, int64_t outer)
{
    const job *j = arg;
    float *dx = j->dx + outer * j->in * j->inner;
    const float *dy = j->dy + outer * j->out * j->inner;
    memset(dx, 0, (size_t)(j->in * j->inner) * sizeof *dx);
    for (int64_t i = 0; i < j->out; i++, dy += j->inner)
        for (int k = 0; k < j->t.n[i]; k++) {
            const float w = j->t.weight[i * j->t.cap + k];
            float *to = dx + j->t.index[i * j->t.cap + k] * j->inner;
            for (int64_t e = 0; e < j->inner; e++)
                to[e] += w * dy[e];
        }
}

static int cap_of(const rq_resize_options *o, int64_t in, int64_t out)
{
    return o->method == RQ_RESIZE_NEAREST ? 1 : rq_resize_most_taps(in, out);
}

/* Elements of the largest tensor between y and x when the last axis goes first. */
static size_t room_of(const rq_shape *x, const rq_shape *y)
{
    rq_shape at = *y;
    size_t most = 0;
    for (int d = x->rank - 1; d >= 0; d--) {
        at.dim[d] = x->dim[d];
        const size_t n = (size_t)rq_shape_count(&at);
        most = n > most ? n : most;
    }
    return rq_mem_round(most * sizeof(float));
}

void rq_resize_grad(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    float *dx = rq_grad_in(a, 0)->f32;
    char *scratch = a->scratch;
    float *const room[2] = { (float *)scratch, (float *)(scratch + room_of(x, y)) };
    const float *at = rq_grad_out(a, 0)->f32;
    rq_shape s = *y;
    scratch += 2 * room_of(x, y);
    for (int d = x->rank - 1; d >= 0; d--) {
        if (p[d].in == p[d].out && o->coords != RQ_RESIZE_TF_CROP_AND_RESIZE && p[d].scale == 1)
            continue;
        const int cap = cap_of(o, p[d].in, p[d].out);
        job j = { .dx = at == room[0] ? room[1] : room[0],
                  .dy = at,
                  .in = p[d].in,
                  .out = p[d].out,
                  .inner = rq_shape_span(&s, d + 1, s.rank),
                  .t = taps_at(scratch, p[d].out, cap) };
        fill(&j.t, &p[d], o);
        rq_threads_for(a->threads, rq_shape_span(&s, 0, d), scatter_item, &j);
        scratch += taps_bytes(p[d].out, cap);
        s.dim[d] = p[d].in;
        at = j.dx;
    }
    memcpy(dx, at, (size_t)rq_shape_count(x) * sizeof *dx);
}

size_t rq_resize_grad_scratch(const rq_op_args *a, const rq_resize_options *o)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    size_t n = 2 * room_of(x, y);
    for (int d = 0; d < x->rank; d++)
        n += taps_bytes(y->dim[d], cap_of(o, x->dim[d], y->dim[d]));
    return n;
}
