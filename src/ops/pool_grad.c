/* ops/pool_grad.c — see pool_grad.h. A plane (one channel of one image) is one item of work: no two windows of different planes meet, and
 * those of one plane are walked in order.
 *
 * Which element of a window was the largest is not kept: x and y, which the operators around keep anyway, say it again. */
#include "ops/pool_grad.h"

#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/grad.h"
#include "ops/rows.h"
#include "ops/window.h"

enum { MAX_ROW = 4096 }; /* elements of a row that is joined on the stack */

typedef struct job {
    const rq_kernels *k;
    const rq_window *w;
    float *dx;
    const float *dy, *x, *y;
    bool with_pad; /* AveragePool: padding counts in the divisor */
    float p;       /* the norm of LpPool; 0: AveragePool */
} job;

static bool is_same(float x, float y)
{
    return x == y || (isnan(x) && isnan(y));
}

/* ---- MaxPool ---- */

/* 2 x 2 windows side by side, the common case: every element lies in one window at most. */
static void quarters_plane(const rq_kernels *k, const rq_window *w, float *dx, const float *dy, const float *x,
                           const float *y)
{
    const int64_t width = w->in[2], rows = w->out[1], in = w->in[1] * width, out = rows * w->out[2];
    for (int64_t z = 0; z < w->in[0]; z++, dx += in, x += in, dy += out, y += out) {
        k->pool_quarters_grad(dx, dy, x, y, rows, w->out[2], width);
        memset(dx + 2 * rows * width, 0, (size_t)(in - 2 * rows * width) * sizeof *dx);
    }
}

/* The position of the first element of window o that is y, or -1. */
static int64_t find(const rq_window *w, const float *x, float y, const int64_t o[3])
{
    int64_t t[3], v[3];
    for (t[0] = 0; t[0] < w->kernel[0]; t[0]++) {
        v[0] = o[0] * w->stride[0] - w->pad_lo[0] + t[0] * w->dilation[0];
        if (v[0] < 0 || v[0] >= w->in[0])
            continue;
        for (t[1] = 0; t[1] < w->kernel[1]; t[1]++) {
            v[1] = o[1] * w->stride[1] - w->pad_lo[1] + t[1] * w->dilation[1];
            if (v[1] < 0 || v[1] >= w->in[1])
                continue;
            const int64_t row = (v[0] * w->in[1] + v[1]) * w->in[2];
            for (t[2] = 0; t[2] < w->kernel[2]; t[2]++) {
                v[2] = o[2] * w->stride[2] - w->pad_lo[2] + t[2] * w->dilation[2];
                if (v[2] >= 0 && v[2] < w->in[2] && is_same(x[row + v[2]], y))
                    return row + v[2];
            }
        }
    }
    return -1;
}

/* Of one axis: does window o lie inside the input? */
static bool lies_inside(const rq_window *w, int d, int64_t o)
{
    const int64_t first = o * w->stride[d] - w->pad_lo[d];
    return first >= 0 && first + (w->kernel[d] - 1) * w->dilation[d] < w->in[d];
}

/* The first element of rows x columns that is y, or -1: backwards, and without a jump that nobody can guess. */
static inline int64_t find_among(const float *x, float y, int64_t rows, int64_t columns, int64_t row_step, int64_t step)
{
    int64_t found = -1;
    for (int64_t r = rows - 1; r >= 0; r--)
        for (int64_t c = columns - 1; c >= 0; c--) {
            const int64_t at = r * row_step + c * step;
            found = x[at] == y ? at : found;
        }
    return found;
}

/* The same as find for an image's window that lies inside, whose first element is `first`, and a number y. */
static int64_t find_inside(const rq_window *w, const float *x, float y, int64_t first)
{
    const bool threes = w->kernel[1] == 3 && w->kernel[2] == 3 && w->dilation[2] == 1;
    const int64_t row = w->dilation[1] * w->in[2];
    const int64_t at = threes ? find_among(x + first, y, 3, 3, row, 1)
                              : find_among(x + first, y, w->kernel[1], w->kernel[2], row, w->dilation[2]);
    return at < 0 ? at : first + at;
}

static void max_item(void *arg, int64_t item)
{
    const job *j = arg;
    const rq_window *w = j->w;
    const int64_t in = rq_window_span(w->in), out = rq_window_span(w->out);
    float *dx = j->dx + item * in;
    const float *x = j->x + item * in, *y = j->y + item * out, *dy = j->dy + item * out;
    int64_t o[3];
    if (rq_window_are_quarters(w)) {
        quarters_plane(j->k, w, dx, dy, x, y);
        return;
    }
    memset(dx, 0, (size_t)in * sizeof *dx);
    const bool flat = w->in[0] == 1 && w->kernel[0] == 1 && w->out[0] == 1 && w->pad_lo[0] == 0;
    for (o[0] = 0; o[0] < w->out[0]; o[0]++)
        for (o[1] = 0; o[1] < w->out[1]; o[1]++) {
            const bool row = flat && lies_inside(w, 1, o[1]);
            const int64_t first = (o[1] * w->stride[1] - w->pad_lo[1]) * w->in[2] - w->pad_lo[2];
            for (o[2] = 0; o[2] < w->out[2]; o[2]++, y++, dy++) {
                const bool fast = row && *y == *y && lies_inside(w, 2, o[2]);
                const int64_t at = fast ? find_inside(w, x, *y, first + o[2] * w->stride[2]) : find(w, x, *y, o);
                if (at >= 0)
                    dx[at] += *dy;
            }
        }
}

/* Shapes, and dy and dx where both are there; false: there is nothing to compute. */
static bool start(job *j, const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dx || !dy || rq_tensor_count(dy) == 0 || rq_tensor_count(dx) == 0) {
        rq_grad_zero(dx);
        return false;
    }
    *j = (job) { .k = a->k, .dx = dx->f32, .dy = dy->f32, .x = a->in[0]->f32, .y = a->out[0]->f32 };
    return true;
}

static int64_t planes_of(const rq_op_args *a)
{
    return a->in[0]->shape.dim[0] * a->in[0]->shape.dim[1];
}

rq_status rq_pool_grad_max(const rq_op_args *a)
{
    job j;
    rq_window w;
    if (!start(&j, a))
        return RQ_OK;
    RQ_TRY(rq_window_pool(&w, a->node, &a->in[0]->shape, a->err));
    j.w = &w;
    rq_threads_for(a->threads, planes_of(a), max_item, &j);
    return RQ_OK;
}

/* ---- AveragePool, LpPool ---- */

/* Taps of window o along axis d that divide. */
static int64_t count(const job *j, int d, int64_t o)
{
    const rq_window *w = j->w;
    int64_t n = 0;
    for (int64_t t = 0; t < w->kernel[d]; t++) {
        const int64_t v = o * w->stride[d] - w->pad_lo[d] + t * w->dilation[d];
        n += j->with_pad ? v < w->in[d] + w->pad_hi[d] : v >= 0 && v < w->in[d];
    }
    return n;
}

/* d y / d x of a norm: sign(x) (|x| / y)^(p - 1); 0 where y is 0 */
static float norm_slope(const job *j, float x, float y)
{
    const float sign = x > 0 ? 1 : x < 0 ? -1 : 0, less = j->p - 1;
    if (y == 0 || sign == 0)
        return 0;
    if (j->p == 1)
        return sign;
    float r = fabsf(x) / y;
    if (j->p != 2)
        j->k->zip[RQ_ZIP_POW](&r, &r, 1, &less, 0, 1);
    return sign * r;
}

/* What the line of outputs o[0], o[1] gives to a row of the plane that it covers (x, y NULL: AveragePool, the same to each). */
static void sum_row(const job *j, float *row, const float *dy, const float *x, const float *y, const int64_t o[3])
{
    const rq_window *w = j->w;
    const int64_t rows = x ? 1 : count(j, 0, o[0]) * count(j, 1, o[1]);
    for (int64_t i = 0; i < w->out[2]; i++) {
        const float d = x ? dy[i] : dy[i] / (float)(rows * count(j, 2, i));
        int64_t at = i * w->stride[2] - w->pad_lo[2];
        for (int64_t t = 0; t < w->kernel[2]; t++, at += w->dilation[2])
            if (at >= 0 && at < w->in[2])
                row[at] += x ? d * norm_slope(j, x[at], y[i]) : d;
    }
}

static void sum_item(void *arg, int64_t item)
{
    const job *j = arg;
    const rq_window *w = j->w;
    const int64_t in = rq_window_span(w->in), out = rq_window_span(w->out), width = w->in[2];
    float *dx = j->dx + item * in, joined[MAX_ROW];
    const float *dy = j->dy + item * out;
    const bool once = j->p == 0 && width <= MAX_ROW; /* all rows that a line covers get the same */
    int64_t o[3], t[2];
    memset(dx, 0, (size_t)in * sizeof *dx);
    for (o[0] = 0; o[0] < w->out[0]; o[0]++)
        for (o[1] = 0; o[1] < w->out[1]; o[1]++, dy += w->out[2]) {
            if (once) {
                memset(joined, 0, (size_t)width * sizeof *joined);
                sum_row(j, joined, dy, NULL, NULL, o);
            }
            for (t[0] = 0; t[0] < w->kernel[0]; t[0]++)
                for (t[1] = 0; t[1] < w->kernel[1]; t[1]++) {
                    const int64_t z = o[0] * w->stride[0] - w->pad_lo[0] + t[0] * w->dilation[0];
                    const int64_t v = o[1] * w->stride[1] - w->pad_lo[1] + t[1] * w->dilation[1];
                    if (z < 0 || z >= w->in[0] || v < 0 || v >= w->in[1])
                        continue;
                    const int64_t at = (z * w->in[1] + v) * width;
                    if (once)
                        j->k->zip[RQ_ZIP_ADD](dx + at, dx + at, 1, joined, 1, (size_t)width);
                    else if (j->p != 0)
                        sum_row(j, dx + at, dy, j->x + item * in + at, j->y + (dy - j->dy), o);
                    else
                        sum_row(j, dx + at, dy, NULL, NULL, o);
                }
        }
}

rq_status rq_pool_grad_sum(const rq_op_args *a)
{
    job j;
    rq_window w;
    if (!start(&j, a))
        return RQ_OK;
    RQ_TRY(rq_window_pool(&w, a->node, &a->in[0]->shape, a->err));
    j.w = &w;
    if (a->node->row == &rq_op_lp_pool)
        j.p = (float)rq_attr_int(a->node, RQ_WORD_p, 2);
    else
        j.with_pad = rq_attr_int(a->node, RQ_WORD_count_include_pad, 0) != 0;
    rq_threads_for(a->threads, planes_of(a), sum_item, &j);
    return RQ_OK;
}

/* ---- one window, the whole plane ---- */

typedef struct global_job {
    job at;
    int64_t area;
    bool average;
} global_job;

static void global_span(void *arg, int64_t from, int64_t n)
{
    const global_job *g = arg;
    const job *j = &g->at;
    for (int64_t i = from; i < from + n; i++) {
        float *dx = j->dx + i * g->area;
        const float d = g->average ? j->dy[i] / (float)g->area : j->dy[i];
        if (g->average) {
            for (int64_t q = 0; q < g->area; q++)
                dx[q] = d;
            continue;
        }
        const float *x = j->x + i * g->area, y = j->y[i];
        if (j->p) {
            for (int64_t q = 0; q < g->area; q++)
                dx[q] = d * norm_slope(j, x[q], y);
            continue;
        }
        int64_t first = 0;
        while (first < g->area - 1 && !is_same(x[first], y))
            first++;
        memset(dx, 0, (size_t)g->area * sizeof *dx);
        dx[first] = d;
    }
}

static rq_status global(const rq_op_args *a, bool average)
{
    const rq_shape *s = &a->in[0]->shape;
    global_job g = { .average = average, .area = rq_shape_span(s, 2, s->rank) };
    if (!start(&g.at, a))
        return RQ_OK;
    if (a->node->row == &rq_op_global_lp_pool) /* p was a float at opset 1 */
        g.at.p = a->opset < 2 ? rq_attr_float(a->node, RQ_WORD_p, 2) : (float)rq_attr_int(a->node, RQ_WORD_p, 2);
    rq_bcast_spans(a->threads, planes_of(a), RQ_BCAST_PIECE / (g.area + 1), global_span, &g);
    return RQ_OK;
}

rq_status rq_pool_grad_global_average(const rq_op_args *a)
{
    return global(a, true);
}

rq_status rq_pool_grad_global(const rq_op_args *a)
{
    return global(a, false);
}
