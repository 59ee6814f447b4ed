/* ops/resize_nearest.c — Resize: the coordinate of the input that each output index stands for, and the method that moves the nearest
 * elements, of any type, codes included, in runs as long as they can be. */
#include <math.h>
#include <string.h>

#include "ops/moves.h"
#include "ops/resize.h"

/* ---- coordinates ---- */

/* The input coordinate of output index i. */
float rq_resize_coordinate(const rq_resize_axis *p, int64_t i, rq_resize_coords mode)
{
    float x = (float)i, in = (float)p->in, out = (float)p->out;
    switch (mode) {
    case RQ_RESIZE_HALF_PIXEL_SYMMETRIC: {
        float adjust = out / (p->scale * in), center = in / 2;
        return center * (1 - adjust) + (x + 0.5f) / p->scale - 0.5f;
    }
    case RQ_RESIZE_PYTORCH_HALF_PIXEL:
        return p->out > 1 ? (x + 0.5f) / p->scale - 0.5f : 0;
    case RQ_RESIZE_ALIGN_CORNERS: { /* ONNX's own tests: a scale that leaves a fraction of an element counts it (ONNX Runtime cuts it off) */
        const float length = p->scale * in;
        return p->out == 1 ? 0 : x * (in - 1) / ((length - out > 1e-3f ? length : out) - 1);
    }
    case RQ_RESIZE_ASYMMETRIC:
        return x / p->scale;
    case RQ_RESIZE_TF_HALF_PIXEL_FOR_NN:
        return (x + 0.5f) / p->scale;
    case RQ_RESIZE_TF_CROP_AND_RESIZE: /* a roi may say anything: what is no number, or no int64, is far outside */
        x = p->out > 1 ? p->roi0 * (in - 1) + x * (p->roi1 - p->roi0) * (in - 1) / (out - 1)
                       : 0.5f * (p->roi0 + p->roi1) * (in - 1);
        return x > -0x1p60f ? fminf(x, 0x1p60f) : -0x1p60f;
    default:
        return (x + 0.5f) / p->scale - 0.5f;
    }
}

bool rq_resize_is_outside(float x, const rq_resize_axis *p)
{
    return x < 0 || x > (float)(p->in - 1);
}

static int64_t clamp_index(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

int64_t rq_resize_nearest(float x, const rq_resize_axis *p, rq_resize_rounding mode)
{
    switch (mode) {
    case RQ_RESIZE_ROUND_PREFER_FLOOR:
        x = x == floorf(x) + 0.5f ? floorf(x) : roundf(x);
        break;
    case RQ_RESIZE_ROUND_PREFER_CEIL:
        x = roundf(x);
        break;
    case RQ_RESIZE_CEIL:
        x = ceilf(x);
        break;
    case RQ_RESIZE_SIMPLE:
        x = p->scale < 1 ? ceilf(x) : truncf(x);
        break;
    default:
        x = floorf(x);
    }
    return clamp_index((int64_t)x, p->in);
}

/* ---- nearest ---- */

enum { FEW_ITEMS = 16 };

typedef struct nearest_job {
    const rq_resize_axis *p;
    const int64_t *index[RQ_MAX_RANK]; /* [out] per axis; -1: outside */
    size_t in_step[RQ_MAX_RANK], out_step[RQ_MAX_RANK], elem;
    int first, rank; /* axes first..rank-1 are walked; below, runs are copied whole; above, items are independent */
    const void *outside;
    char *dst;
    const char *src;
} nearest_job;

/* The last axis walked, runs of constant size. */
static inline __attribute__((always_inline)) void nearest_runs(char *dst, const char *src, const int64_t *index,
                                                               int64_t n, size_t run)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(dst + (size_t)i * run, src + (size_t)index[i] * run, run);
}

static void nearest_last(const nearest_job *j, int d, char *dst, const char *src)
{
    const int64_t *index = j->index[d];
    int64_t n = j->p[d].out;
    switch (j->out_step[d]) {
    case 1:
        nearest_runs(dst, src, index, n, 1);
        break;
    case 4:
        nearest_runs(dst, src, index, n, 4);
        break;
    default:
        nearest_runs(dst, src, index, n, j->out_step[d]);
    }
}

static void nearest_axis(const nearest_job *j, int d, char *dst, const char *src)
{
    const int64_t *index = j->index[d];
    size_t out = j->out_step[d], in = j->in_step[d];
    if (d + 1 == j->rank && !j->outside) {
        nearest_last(j, d, dst, src);
        return;
    }
    for (int64_t i = 0; i < j->p[d].out; i++, dst += out) {
        if (index[i] < 0)
            rq_move_fill(dst, j->outside, j->elem, (int64_t)(out / j->elem));
        else if (i && index[i] == index[i - 1] && out > 8)
            memcpy(dst, dst - out, out);
        else if (d + 1 < j->rank)
            nearest_axis(j, d + 1, dst, src + (size_t)index[i] * in);
        else
            memcpy(dst, src + (size_t)index[i] * in, out);
    }
}

static void nearest_item(void *arg, int64_t i)
{
    const nearest_job *j = arg;
    size_t out = j->out_step[j->first] * (size_t)j->p[j->first].out;
    size_t in = j->in_step[j->first] * (size_t)j->p[j->first].in;
    nearest_axis(j, j->first, j->dst + (size_t)i * out, j->src + (size_t)i * in);
}

/* One index of the first axis: for few images. */
static void nearest_row(void *arg, int64_t item)
{
    const nearest_job *j = arg;
    const rq_resize_axis *p = &j->p[j->first];
    const int64_t i = item / p->out, o = item % p->out, at = j->index[j->first][o];
    const size_t in = j->in_step[j->first], out = j->out_step[j->first];
    char *dst = j->dst + (size_t)(i * p->out + o) * out;
    if (at < 0)
        rq_move_fill(dst, j->outside, j->elem, (int64_t)(out / j->elem));
    else if (j->first + 1 < j->rank)
        nearest_axis(j, j->first + 1, dst, j->src + (size_t)(i * p->in + at) * in);
    else
        memcpy(dst, j->src + (size_t)(i * p->in + at) * in, out);
}

/* A row of pixels, axis rank - 2 as they lie, each of which lies among others in y: channels-last, and channels are not resized. */
typedef struct apart_job {
    const nearest_job *j;
    int rank;
    size_t pixel, ld;
} apart_job;

static void nearest_apart(void *arg, int64_t row)
{
    const apart_job *p = arg;
    const nearest_job *j = p->j;
    const int across = p->rank - 2;
    const char *src = j->src;
    char *dst = j->dst + (size_t)(row * j->p[across].out) * p->ld;
    for (int d = across - 1; d >= 0; row /= j->p[d--].out)
        src += (size_t)j->index[d][row % j->p[d].out] * j->in_step[d];
    for (int64_t i = 0; i < j->p[across].out; i++)
        memcpy(dst + (size_t)i * p->ld, src + (size_t)j->index[across][i] * p->pixel, p->pixel);
}

void rq_resize_nearest_move(const rq_op_args *a, const rq_resize_options *o, const rq_resize_axis *p)
{
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0];
    uint64_t outside[2] = { 0 };
    int64_t *index = a->scratch;
    nearest_job j = { .p = p,
                      .elem = rq_moves_size(x->dtype),
                      .first = x->shape.rank,
                      .dst = y->data,
                      .src = x->data,
                      .outside = o->coords == RQ_RESIZE_TF_CROP_AND_RESIZE ? outside : NULL };
    rq_tensor one = rq_tensor_view(x->dtype, &(rq_shape) { 0 }, outside);
    rq_tensor_set(&one, 0, (double)o->extrapolation);
    for (int d = 0; d < x->shape.rank; d++) {
        j.index[d] = index;
        j.in_step[d] = (size_t)rq_shape_span(&x->shape, d + 1, x->shape.rank) * j.elem;
        j.out_step[d] = (size_t)rq_shape_span(&y->shape, d + 1, x->shape.rank) * j.elem;
        bool same = p[d].in == p[d].out;
        for (int64_t i = 0; i < p[d].out; i++) {
            float c = rq_resize_coordinate(&p[d], i, o->coords);
            index[i] = j.outside && rq_resize_is_outside(c, &p[d]) ? -1 : rq_resize_nearest(c, &p[d], o->rounding);
            same = same && index[i] == i;
        }
        index += p[d].out;
        if (same)
            continue;
        j.rank = d + 1;
        j.first = d < j.first ? d : j.first;
    }
    const int64_t items = rq_shape_span(&y->shape, 0, j.first);
    if (a->out_ld) {
        const int rank = x->shape.rank;
        apart_job apart = { &j, rank, j.in_step[rank - 2], (size_t)a->out_ld * j.elem };
        rq_threads_for(a->threads, rq_shape_span(&y->shape, 0, rank - 2), nearest_apart, &apart);
    } else if (j.rank == 0)
        rq_moves_copy(y, x);
    else if (items >= FEW_ITEMS)
        rq_threads_for(a->threads, items, nearest_item, &j);
    else
        rq_threads_for(a->threads, items * p[j.first].out, nearest_row, &j);
}
