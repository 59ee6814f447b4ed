/* ops/resize_blend.c — Resize, linear and cubic: a weighted sum of a few input indices per axis ("taps"), one axis after
 * the other in f32, outermost first. On codes an image plane at a time is dequantized, blended and rounded once, so that no
 * tensor of reals is written and every code is what DequantizeLinear, Resize and QuantizeLinear give. */
#include "ops/resize.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/move.h"
#include "kernels/slots.h"
#include "ops/int_ops.h"

/* Weight of an input index at distance t from the coordinate. */
static float filter(float t, const rq_resize_options *o)
{
    t = fabsf(t);
    if (o->method == RQ_RESIZE_LINEAR)
        return t < 1 ? 1 - t : 0;
    float a = o->cubic_a;
    if (t <= 1)
        return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

/* Half the width of the filter, in input indices. */
static float support(const rq_resize_axis *p, const rq_resize_options *o)
{
    float width = o->method == RQ_RESIZE_LINEAR ? 1 : 2;
    return o->antialias && p->scale < 1 ? width / p->scale : width;
}

/* Input indices and weights of output index i: index[t], weight[t] for t below the returned count, at most cap. */
int rq_resize_taps(const rq_resize_axis *p, const rq_resize_options *o, int64_t i, int64_t *index, float *weight,
                   int cap)
{
    float x = rq_resize_coordinate(p, i, o->coords), half = support(p, o), sum = 0;
    float squeeze = o->antialias && p->scale < 1 ? p->scale : 1;
    if (o->method == RQ_RESIZE_LINEAR && !o->antialias) /* as a clamped coordinate */
        x = x < 0 ? 0 : x > (float)(p->in - 1) ? (float)(p->in - 1) : x;
    int64_t from = (int64_t)floorf(x - half) + 1;
    int n = 0;
    for (int64_t k = from; (float)k < x + half && n < cap; k++) {
        float w = filter(((float)k - x) * squeeze, o);
        if (o->exclude_outside && (k < 0 || k >= p->in))
            continue;
        index[n] = (k < 0 ? 0 : k >= p->in ? p->in - 1 : k);
        weight[n++] = w;
        sum += w;
    }
    if ((o->antialias || o->exclude_outside) && sum != 0)
        for (int t = 0; t < n; t++)
            weight[t] /= sum;
    return n;
}

/* One axis: x [outer][in][inner] to y [outer][out][inner], outer in items of `rows`. */
typedef struct blend_job {
    float *y;
    const float *x;
    int64_t in, out, outer, inner, rows;
    const int64_t *index; /* [out][cap] */
    const float *weight;  /* [out][cap] */
    const int *n;         /* [out] */
    int cap;
} blend_job;

static void blend_row(const blend_job *j, float *to, const float *from, int64_t i)
{
    const int64_t *index = j->index + i * j->cap;
    const float *weight = j->weight + i * j->cap;
    int n = j->n[i];
    if (n == 2) {
        const float *u = from + index[0] * j->inner, *v = from + index[1] * j->inner;
        for (int64_t k = 0; k < j->inner; k++)
            to[k] = weight[0] * u[k] + weight[1] * v[k];
        return;
    }
    for (int64_t k = 0; k < j->inner; k++)
        to[k] = n ? weight[0] * from[index[0] * j->inner + k] : 0;
    for (int t = 1; t < n; t++) {
        const float *u = from + index[t] * j->inner;
        for (int64_t k = 0; k < j->inner; k++)
            to[k] += weight[t] * u[k];
    }
}

/* A whole row along the last axis. */
static void blend_line(const blend_job *j, float *restrict to, const float *restrict from)
{
    const int64_t *index = j->index;
    const float *weight = j->weight;
    if (j->cap == 2) { /* linear, growing: told apart because it is what most networks have */
        for (int64_t i = 0; i < j->out; i++, index += 2, weight += 2)
            to[i] = j->n[i] == 2 ? weight[0] * from[index[0]] + weight[1] * from[index[1]]
                    : j->n[i]    ? weight[0] * from[index[0]]
                                 : 0;
        return;
    }
    for (int64_t i = 0; i < j->out; i++, index += j->cap, weight += j->cap) {
        const int n = j->n[i];
        float v = n ? weight[0] * from[index[0]] : 0;
        for (int t = 1; t < n; t++)
            v += weight[t] * from[index[t]];
        to[i] = v;
    }
}

static void blend_item(void *arg, int64_t item)
{
    const blend_job *j = arg;
    int64_t to = (item + 1) * j->rows < j->outer ? (item + 1) * j->rows : j->outer;
    for (int64_t r = item * j->rows; r < to; r++)
        if (j->inner == 1)
            blend_line(j, j->y + r * j->out, j->x + r * j->in);
        else
            for (int64_t i = 0; i < j->out; i++)
                blend_row(j, j->y + (r * j->out + i) * j->inner, j->x + r * j->in * j->inner, i);
}

/* The most taps an axis needs, from the sizes alone: scale is at least (out - 1) / in. */
int rq_resize_most_taps(int64_t in, int64_t out)
{
    int64_t ratio = out > 1 ? in / (out - 1) + 1 : in;
    return (int)(4 * (ratio < in ? ratio : in) + 8);
}

static void blend(const blend_job *j, rq_threads *threads)
{
    blend_job job = *j;
    job.rows = (j->outer + 63) / 64;
    rq_threads_for(threads, job.rows ? (j->outer + job.rows - 1) / job.rows : 0, blend_item, &job);
}

/* ---- all axes ---- */

/* The axes that change, with their taps. */
typedef struct blend_plan {
    const rq_resize_axis *p;
    const rq_shape *x;
    int axis[RQ_MAX_RANK], n_axes;
    blend_job job[RQ_MAX_RANK]; /* [n_axes] taps and sizes, no tensors */
} blend_plan;

/* Bytes of the taps of axis d. */
static size_t taps_bytes(int64_t in, int64_t out)
{
    const size_t n = (size_t)rq_resize_most_taps(in, out) * (size_t)out;
    return rq_mem_round(n * sizeof(int64_t)) + rq_mem_round(n * sizeof(float)) +
           rq_mem_round((size_t)out * sizeof(int));
}

static size_t all_taps_bytes(const rq_shape *x, const rq_shape *y)
{
    size_t n = 0;
    for (int d = 0; d < x->rank; d++)
        n += taps_bytes(x->dim[d], y->dim[d]);
    return n;
}

static void plan_taps(blend_plan *b, const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p,
                      char *scratch)
{
    *b = (blend_plan) { .p = p, .x = &a->in[0]->shape };
    for (int d = 0; d < b->x->rank; d++) {
        if (p[d].in == p[d].out && o->coords != RQ_RESIZE_TF_CROP_AND_RESIZE && p[d].scale == 1)
            continue;
        blend_job *j = &b->job[b->n_axes];
        b->axis[b->n_axes++] = d;
        const size_t out = (size_t)p[d].out;
        *j = (blend_job) { .in = p[d].in, .out = p[d].out, .cap = rq_resize_most_taps(p[d].in, p[d].out) };
        int64_t *index = (int64_t *)scratch;
        float *weight = (float *)(scratch + rq_mem_round(out * (size_t)j->cap * sizeof *index));
        int *n = (int *)((char *)weight + rq_mem_round(out * (size_t)j->cap * sizeof *weight));
        int most = 1;
        for (int64_t i = 0; i < p[d].out; i++) {
            n[i] = rq_resize_taps(&p[d], o, i, index + i * j->cap, weight + i * j->cap, j->cap);
            most = n[i] > most ? n[i] : most;
        }
        for (int64_t i = 1; i < p[d].out; i++) { /* closer together: there is room for more than there are, as a rule */
            memmove(index + i * most, index + i * j->cap, (size_t)n[i] * sizeof *index);
            memmove(weight + i * most, weight + i * j->cap, (size_t)n[i] * sizeof *weight);
        }
        j->cap = most;
        j->index = index;
        j->weight = weight;
        j->n = n;
        scratch += taps_bytes(p[d].in, p[d].out);
    }
}

/* Elements of the larger of the tensors between two axes: of the parts that axes from `first` on make up. */
static size_t room_for(const rq_shape *x, const rq_shape *y, int first)
{
    rq_shape at = *x;
    size_t most = (size_t)rq_shape_span(x, first, x->rank);
    for (int d = first; d < x->rank; d++) {
        at.dim[d] = y->dim[d];
        const size_t n = (size_t)rq_shape_span(&at, first, at.rank);
        most = n > most ? n : most;
    }
    return rq_mem_round(most * sizeof(float)) / sizeof(float);
}

/* Blend one part, the axes from `first` on, of x, by way of the rooms. y NULL: the result is left in a room, which is
 * returned. x may be room[0]. */
static const float *blend_part(const blend_plan *b, int first, const float *x, float *y, float *const room[2],
                               rq_threads *threads)
{
    rq_shape at = *b->x;
    for (int i = 0; i < b->n_axes; i++) {
        const int d = b->axis[i];
        blend_job j = b->job[i];
        j.outer = rq_shape_span(&at, first, d);
        j.inner = rq_shape_span(&at, d + 1, at.rank);
        j.x = x;
        j.y = y && i + 1 == b->n_axes ? y : x == room[0] ? room[1] : room[0];
        blend(&j, threads);
        at.dim[d] = b->p[d].out;
        x = j.y;
    }
    return x;
}

static void extrapolate(float *y, const rq_shape *shape, int first, const rq_resize_axis *p, const rq_resize_options *o)
{
    for (int d = first; d < shape->rank; d++) {
        const int64_t outer = rq_shape_span(shape, first, d), inner = rq_shape_span(shape, d + 1, shape->rank);
        for (int64_t i = 0; i < p[d].out; i++)
            if (rq_resize_is_outside(rq_resize_coordinate(&p[d], i, o->coords), &p[d]))
                for (int64_t r = 0; r < outer; r++)
                    rq_move_fill(y + (r * p[d].out + i) * inner, &o->extrapolation, sizeof(float), inner);
    }
}

void rq_resize_blend(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p)
{
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0];
    blend_plan b;
    plan_taps(&b, a, o, p, a->scratch);
    float *at = (float *)((char *)a->scratch + all_taps_bytes(&x->shape, &y->shape));
    float *const room[2] = { at, at + room_for(&x->shape, &y->shape, 0) };
    if (b.n_axes)
        blend_part(&b, 0, x->f32, y->f32, room, a->threads);
    else
        memcpy(y->f32, x->f32, (size_t)rq_tensor_count(x) * sizeof(float));
    if (o->coords == RQ_RESIZE_TF_CROP_AND_RESIZE)
        extrapolate(y->f32, &y->shape, 0, p, o);
}

/* ---- codes ---- */

/* Where parts start as far as sizes tell: an axis may be resampled without changing its size, but hardly ever is. */
static int likely_first(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    int d = 0;
    while (d + 1 < x->rank && x->dim[d] == y->dim[d])
        d++;
    return d;
}

static int slot_count(const rq_op_args *a)
{
    const int n = rq_threads_count(a->threads);
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

size_t rq_resize_blend_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    const size_t rooms = integer ? room_for(x, y, likely_first(a)) * (size_t)slot_count(a) : room_for(x, y, 0);
    return all_taps_bytes(x, y) + 2 * rooms * sizeof(float);
}

typedef struct codes_job {
    const rq_op_args *a;
    const blend_plan *b;
    const rq_resize_options *o;
    int first;
    int64_t in, out; /* elements of a part */
    size_t room;
    float *rooms;
    rq_slots slots;
    rq_threads *threads; /* inside a part */
} codes_job;

static void codes_item(void *arg, int64_t item)
{
    codes_job *j = arg;
    const rq_op_args *a = j->a;
    const int slot = rq_slots_take(&j->slots);
    float *at = j->rooms + 2 * (size_t)slot * j->room, *const room[2] = { at, at + j->room };
    rq_int_to_reals(a->k, room[0], a->in[0], item * j->in, j->in, a->in_q[0]);
    float *made = (float *)blend_part(j->b, j->first, room[0], NULL, room, j->threads); /* one of the rooms */
    if (j->o->coords == RQ_RESIZE_TF_CROP_AND_RESIZE)
        extrapolate(made, &a->out[0]->shape, j->first, j->b->p, j->o);
    rq_int_from_reals(a->k, a->out[0], item * j->out, made, j->out, a->out_q[0]);
    rq_slots_give(&j->slots, slot);
}

rq_status rq_resize_blend_codes(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p)
{
    enum { FEW_PARTS = 16 }; /* below, threads share the inside of each */
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    blend_plan b;
    plan_taps(&b, a, o, p, a->scratch);
    codes_job j = { .a = a, .b = &b, .o = o, .first = likely_first(a) };
    j.rooms = (float *)((char *)a->scratch + all_taps_bytes(x, y));
    j.slots.n = slot_count(a);
    void *extra = NULL;
    if (b.n_axes && b.axis[0] < j.first) { /* the unlikely case: everything is one part */
        j.first = 0;
        j.slots.n = 1;
        j.rooms = extra = rq_mem_alloc(2 * room_for(x, y, 0), sizeof(float));
        if (!extra)
            return RQ_NO_MEMORY;
    }
    j.room = room_for(x, y, j.first);
    j.in = rq_shape_span(x, j.first, x->rank);
    j.out = rq_shape_span(y, j.first, y->rank);
    const int64_t parts = rq_shape_span(x, 0, j.first);
    if (parts >= FEW_PARTS) {
        rq_threads_for(a->threads, parts, codes_item, &j);
    } else {
        j.threads = a->threads;
        for (int64_t i = 0; i < parts; i++)
            codes_item(&j, i);
    }
    rq_mem_free(extra);
    return RQ_OK;
}
