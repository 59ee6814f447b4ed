/* ops/softmax.c — Softmax, LogSoftmax, Hardmax.
 *
 * Up to opset 12 the input is read as a matrix: axes before `axis` (default 1) are rows, the rest one column axis. From
 * 13 on only `axis` (default -1) is normalized. Both are [outer][n][inner] here, with inner = 1 for the old form. */
#include <math.h>
#include <string.h>

#include "kernels/move.h"
#include "kernels/quantize.h"
#include "ops/bcast.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/op.h"
#include "ops/rows.h"
#include "ops/samples.h"

enum { TILE = 256, WORK = 4096 }; /* columns at a time; elements worth a thread's while */

static int64_t axis_of(const rq_node *n, int64_t opset)
{
    return rq_attr_int(n, RQ_WORD_axis, opset < 13 ? 1 : -1);
}

static rq_status softmax_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    const int rank = a->in[0]->shape.rank;
    const int64_t axis = axis_of(a->node, a->opset);
    if (rank < 0 || rq_infer_axis(axis, rank) >= 0)
        return RQ_OK;
    if (rank == 0 && (axis == 0 || axis == -1)) /* one number: its own row */
        return RQ_OK;
    if (a->opset < 13 && axis == rank)
        return RQ_OK;
    return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)axis, rank);
}

typedef struct job {
    const rq_kernels *k;
    rq_tensor *y;
    const rq_tensor *x;
    int64_t outer, n, inner;
    bool log;
} job;

static void split(job *j, const rq_op_args *a)
{
    const rq_shape lies = rq_last_shape(a->last, &a->in[0]->shape), *s = &lies;
    const int64_t given = axis_of(a->node, a->opset);
    int axis = rq_infer_axis(given, s->rank);
    if (axis < 0)
        axis = given < 0 ? 0 : s->rank; /* a scalar, or the old form with every axis a row */
    axis = rq_last_axis(a->last, axis, s->rank);
    const int end = a->opset < 13 && !a->last ? s->rank : axis + 1 < s->rank ? axis + 1 : s->rank;
    j->outer = rq_shape_span(s, 0, axis);
    j->n = rq_shape_span(s, axis, end);
    j->inner = rq_shape_span(s, end, s->rank);
}

/* One row of n neighbours. */
static void softmax_row(const job *j, float *y, const float *x)
{
    const size_t n = (size_t)j->n;
    const float most = j->k->fold[RQ_FOLD_MAX](x, n, 0);
    if (j->log) {
        float sum = j->k->fold[RQ_FOLD_EXP](x, n, most), log;
        j->k->map[RQ_MAP_LOG](&log, &sum, 1, 0, 0);
        j->k->zip[RQ_ZIP_SUB](y, x, 1, &most, 0, n);
        j->k->zip[RQ_ZIP_SUB](y, y, 1, &log, 0, n);
    } else {
        const float sum = j->k->exp_sum(y, x, n, most);
        j->k->zip[RQ_ZIP_DIV](y, y, 1, &sum, 0, n);
    }
}

/* m <= TILE columns of n elements, `inner` apart: whole rows at a time. */
static void softmax_columns(const job *j, float *y, const float *x, size_t m)
{
    const rq_kernels *k = j->k;
    const int64_t step = j->inner;
    float most[TILE], sum[TILE], e[TILE];
    memcpy(most, x, m * sizeof *most);
    for (int64_t i = 1; i < j->n; i++)
        k->zip[RQ_ZIP_MAX](most, most, 1, x + i * step, 1, m);
    memset(sum, 0, m * sizeof *sum);
    for (int64_t i = 0; i < j->n; i++) {
        float *to = y + i * step;
        k->zip[RQ_ZIP_SUB](to, x + i * step, 1, most, 1, m);
        k->map[RQ_MAP_EXP](j->log ? e : to, to, m, 0, 0);
        k->zip[RQ_ZIP_ADD](sum, sum, 1, j->log ? e : to, 1, m);
    }
    if (j->log)
        k->map[RQ_MAP_LOG](sum, sum, m, 0, 0);
    for (int64_t i = 0; i < j->n; i++)
        k->zip[j->log ? RQ_ZIP_SUB : RQ_ZIP_DIV](y + i * step, y + i * step, 1, sum, 1, m);
}

static void softmax_span(void *arg, int64_t from, int64_t count)
{
    const job *j = arg;
    for (int64_t o = from; o < from + count; o++) {
        float *y = j->y->f32 + o * j->n * j->inner;
        const float *x = j->x->f32 + o * j->n * j->inner;
        if (j->inner == 1)
            softmax_row(j, y, x);
        else
            for (int64_t i = 0; i < j->inner; i += TILE)
                softmax_columns(j, y + i, x + i, (size_t)(j->inner - i < TILE ? j->inner - i : TILE));
    }
}

static void softmax_f64(const job *j)
{
    for (int64_t o = 0; o < j->outer; o++)
        for (int64_t i = 0; i < j->inner; i++) {
            double *y = j->y->f64 + o * j->n * j->inner + i;
            const double *x = j->x->f64 + o * j->n * j->inner + i;
            double most = -INFINITY, sum = 0, e;
            for (int64_t t = 0; t < j->n; t++)
                rq_zip_f64[RQ_ZIP_MAX](&most, &most, 1, x + t * j->inner, 1, 1);
            for (int64_t t = 0; t < j->n; t++) {
                const double d = x[t * j->inner] - most;
                rq_map_f64[RQ_MAP_EXP](&e, &d, 1, 0, 0);
                sum += e;
                y[t * j->inner] = j->log ? d : e;
            }
            rq_map_f64[RQ_MAP_LOG](&e, &sum, 1, 0, 0);
            for (int64_t t = 0; t < j->n; t++)
                y[t * j->inner] = j->log ? y[t * j->inner] - e : y[t * j->inner] / sum;
        }
}

static rq_status softmax_wide(const rq_op_args *a)
{
    job j = { .k = a->k, .y = a->out[0], .x = a->in[0], .log = a->node->row == &rq_op_log_softmax };
    split(&j, a);
    if (j.n == 0 || j.inner == 0)
        return RQ_OK;
    if (j.x->dtype == RQ_DTYPE_F64)
        softmax_f64(&j);
    else if (j.x->dtype == RQ_DTYPE_F32)
        rq_bcast_spans(a->threads, j.outer, WORK / (j.n * j.inner), softmax_span, &j);
    else
        return rq_op_no_form(a, j.x->dtype);
    return RQ_OK;
}

static rq_status softmax_forward(const rq_op_args *a)
{
    return rq_half_run(a, softmax_wide);
}

/* ---- backward, of y: Softmax dx = y (dy - sum dy y); LogSoftmax dx = dy - e^y sum dy ---- */

typedef struct grad_job {
    job at; /* where rows are */
    const float *y, *dy;
    float *dx;
} grad_job;

static void grad_row(const grad_job *g, float *dx, const float *dy, const float *y, size_t n)
{
    const rq_kernels *k = g->at.k;
    rq_bn_sums s = { { 0 }, { 0 } };
    float e[TILE];
    k->bn.products(&s, dy, y, n, 0, 0);
    const float sum = (float)rq_bn_join(g->at.log ? s.a : s.b);
    if (!g->at.log) {
        k->zip[RQ_ZIP_SUB](dx, dy, 1, &sum, 0, n);
        k->zip[RQ_ZIP_MUL](dx, dx, 1, y, 1, n);
        return;
    }
    for (size_t i = 0; i < n; i += TILE) {
        const size_t m = n - i < TILE ? n - i : TILE;
        k->map[RQ_MAP_EXP](e, y + i, m, 0, 0);
        k->zip[RQ_ZIP_MUL](e, e, 1, &sum, 0, m);
        k->zip[RQ_ZIP_SUB](dx + i, dy + i, 1, e, 1, m);
    }
}

static void grad_columns(const grad_job *g, float *dx, const float *dy, const float *y, size_t m)
{
    const rq_kernels *k = g->at.k;
    const int64_t step = g->at.inner;
    float sum[TILE] = { 0 }, t[TILE];
    for (int64_t i = 0; i < g->at.n; i++) {
        if (!g->at.log)
            k->zip[RQ_ZIP_MUL](t, dy + i * step, 1, y + i * step, 1, m);
        k->zip[RQ_ZIP_ADD](sum, sum, 1, g->at.log ? dy + i * step : t, 1, m);
    }
    for (int64_t i = 0; i < g->at.n; i++) {
        float *to = dx + i * step;
        if (g->at.log) {
            k->map[RQ_MAP_EXP](t, y + i * step, m, 0, 0);
            k->zip[RQ_ZIP_MUL](t, t, 1, sum, 1, m);
            k->zip[RQ_ZIP_SUB](to, dy + i * step, 1, t, 1, m);
        } else {
            k->zip[RQ_ZIP_SUB](to, dy + i * step, 1, sum, 1, m);
            k->zip[RQ_ZIP_MUL](to, to, 1, y + i * step, 1, m);
        }
    }
}

static void grad_span(void *arg, int64_t from, int64_t count)
{
    const grad_job *g = arg;
    const int64_t n = g->at.n, inner = g->at.inner;
    for (int64_t o = from; o < from + count; o++)
        for (int64_t i = 0; i < (inner == 1 ? 1 : inner); i += TILE) {
            const int64_t at = o * n * inner + i;
            if (inner == 1)
                grad_row(g, g->dx + at, g->dy + at, g->y + at, (size_t)n);
            else
                grad_columns(g, g->dx + at, g->dy + at, g->y + at, (size_t)(inner - i < TILE ? inner - i : TILE));
        }
}

static rq_status softmax_backward(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_tensor *dx = rq_grad_in(a, 0);
    if (!dx || !dy) {
        rq_grad_zero(dx);
        return RQ_OK;
    }
    grad_job g = { .y = a->out[0]->f32, .dy = dy->f32, .dx = dx->f32 };
    g.at = (job) { .k = a->k, .log = a->node->row == &rq_op_log_softmax };
    split(&g.at, a);
    if (g.at.n && g.at.inner)
        rq_bcast_spans(a->threads, g.at.outer, WORK / (g.at.n * g.at.inner), grad_span, &g);
    return RQ_OK;
}

/* ---- on codes: one exp per distance of two codes ---- */

/* ONNX Runtime's QLinearSoftmax has one type of code on both sides, and multiplies by floor(1 / scale). */
static bool has_recipe(const rq_op_args *a)
{
    return !a->k->spec && a->node->row == &rq_op_softmax && a->in_q[0]->dtype == a->out_q[0]->dtype &&
           a->out_q[0]->scale[0] > 0 && a->out_q[0]->scale[0] < 1;
}

static bool softmax_accepts_int(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why) || !rq_int_is_output(a->out_q[0], a->out[0], false, why))
        return false;
    *why = "scale is not positive";
    return a->in_q[0]->scale[0] > 0;
}

enum {
    SHORT = 256,
    BLOCK = 1 << 14
}; /* elements of a row that are computed one by one; bytes of columns turned at a time */

/* One axis is normalized, and the types of the codes, which the recipe looks at, are one. */
static rq_last softmax_last(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    if (a->in_q[0]->dtype != a->out_q[0]->dtype ||
        (a->opset < 13 && rq_infer_axis(axis_of(a->node, a->opset), s->rank) != s->rank - 1))
        return RQ_LAST_NO;
    return rq_last_can(a);
}

typedef struct code_job {
    job at; /* where rows are */
    const rq_op_args *args;
    double
        v[256]; /* by distance from the largest: its exponential in steps, or for LogSoftmax the distance as a real */
    double e[256]; /* its exponential */
    double scale;  /* of one step */
    int32_t zero_point, lo, hi;
    uint8_t flip;    /* makes s8 codes order as bytes */
    int64_t columns; /* turned at a time; 0: a column does not fit BLOCK */
} code_job;

/* y[t] = the codes of v[t] / sum, or of v[t] - sum of a logarithm, n <= SHORT. */
static void codes_of(const code_job *c, uint8_t *y, const double *v, int64_t n, double sum)
{
    if (!c->at.log)
        c->args->k->quantize_quotients(y, v, (size_t)n, sum, c->scale, c->zero_point, c->lo, c->hi);
    else
        for (int64_t t = 0; t < n; t++)
            y[t] = (uint8_t)rq_quantize_wide((v[t] - sum) / c->scale, c->zero_point, c->lo, c->hi);
}

static uint8_t code_at(const code_job *c, int distance, double sum)
{
    uint8_t code;
    codes_of(c, &code, c->v + distance, 1, sum);
    return code;
}

/* Codes fall with the distance, so where two have one code so has everything between them. */
static void fill(const code_job *c, uint8_t *table, int from, int to, double sum)
{
    if (table[from] == table[to]) {
        memset(table + from, table[from], (size_t)(to - from));
    } else if (to - from > 1) {
        const int middle = (from + to) / 2;
        table[middle] = code_at(c, middle, sum);
        fill(c, table, from, middle, sum);
        fill(c, table, middle, to, sum);
    }
}

/* How many codes in a row cost as much as fill does between two that are `codes` apart: about 9 - log2 steps for each, of 4. */
static int64_t fill_cost(int codes)
{
    int steps = 9;
    for (int i = codes; i > 1; i /= 2)
        steps--;
    return (int64_t)4 * steps * codes;
}

/* One row, `step` apart. */
static void code_row(const code_job *c, uint8_t *y, const uint8_t *x, int64_t n, int64_t step)
{
    uint8_t most = 0, table[256];
    double p0 = 0, p1 = 0, p2 = 0, p3 = 0, v[SHORT];
    if (step == 1)
        for (int64_t t = 0; t < n; t++)
            most = (x[t] ^ c->flip) > most ? x[t] ^ c->flip : most;
    else
        for (int64_t t = 0; t < n; t++)
            most = (x[t * step] ^ c->flip) > most ? x[t * step] ^ c->flip : most;
#define DISTANCE(t) (most - (x[(t)*step] ^ c->flip))
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) { /* four sums, element t in sum t % 4 */
        p0 += c->e[DISTANCE(i)];
        p1 += c->e[DISTANCE(i + 1)];
        p2 += c->e[DISTANCE(i + 2)];
        p3 += c->e[DISTANCE(i + 3)];
    }
    p0 += i < n ? c->e[DISTANCE(i)] : 0;
    p1 += i + 1 < n ? c->e[DISTANCE(i + 1)] : 0;
    p2 += i + 2 < n ? c->e[DISTANCE(i + 2)] : 0;
    double sum = (p0 + p1) + (p2 + p3);
    if (c->at.log)
        rq_map_f64[RQ_MAP_LOG](&sum, &sum, 1, 0, 0);
    table[0] = code_at(c, 0, sum);
    table[most] = code_at(c, most, sum);
    const int64_t cost = fill_cost((uint8_t)(table[0] - table[most]));
    if (n <= SHORT && step == 1 && n <= cost) {
        for (int64_t t = 0; t < n; t++)
            v[t] = c->v[DISTANCE(t)];
        codes_of(c, y, v, n, sum);
        return;
    }
    if (most < cost)
        codes_of(c, table, c->v, most + 1, sum);
    else
        fill(c, table, 0, most, sum);
    if (step != 1) {
        for (int64_t t = 0; t < n; t++)
            y[t * step] = table[DISTANCE(t)];
        return;
    }
    for (int64_t t = 0; t < n; t += SHORT) {
        const int64_t m = n - t < SHORT ? n - t : SHORT;
        uint8_t d[SHORT];
        for (int64_t k = 0; k < m; k++)
            d[k] = (uint8_t)(most - (x[t + k] ^ c->flip));
        c->args->k->lut8(y + t, d, (size_t)m, table);
    }
#undef DISTANCE
}

static void code_span(void *arg, int64_t from, int64_t count)
{
    const code_job *c = arg;
    const int64_t n = c->at.n;
    for (int64_t o = from; o < from + count; o++)
        code_row(c, c->args->out[0]->u8 + o * n, c->args->in[0]->u8 + o * n, n, 1);
}

/* Some columns of an image of [n][inner], turned into rows and back. */
static void code_columns(void *arg, int64_t item)
{
    const code_job *c = arg;
    const int64_t n = c->at.n, inner = c->at.inner, some = c->columns ? c->columns : 1;
    const int64_t blocks = (inner + some - 1) / some, first = item % blocks * some;
    const int64_t m = inner - first < some ? inner - first : some, at = item / blocks * n * inner + first;
    const uint8_t *x = c->args->in[0]->u8 + at;
    uint8_t *y = c->args->out[0]->u8 + at, rows[BLOCK];
    if (!c->columns) {
        code_row(c, y, x, n, inner);
        return;
    }
    rq_move_nd(rows, x, 1, 2, (int64_t[]) { m, n }, (int64_t[]) { n, 1 }, (int64_t[]) { 1, inner });
    for (int64_t i = 0; i < m; i++)
        code_row(c, rows + i * n, rows + i * n, n, 1);
    rq_move_nd(y, rows, 1, 2, (int64_t[]) { n, m }, (int64_t[]) { inner, 1 }, (int64_t[]) { 1, n });
}

/* In double and in the order of the row, so that all machines agree. By ONNX Runtime's arithmetic the scale 1/255 that its
 * quantizer gives (a little above, as f32) has 254 steps in 1: docs/onnx-facts.md 6.3. */
static rq_status softmax_forward_int(const rq_op_args *a)
{
    code_job c = { .args = a,
                   .zero_point = a->out_q[0]->zero_point[0],
                   .flip = a->in_q[0]->dtype == RQ_DTYPE_S8 ? 0x80 : 0 };
    double d[256];
    rq_qparams_limits(a->out_q[0], &c.lo, &c.hi);
    const double steps = has_recipe(a) ? (double)floorf(1.0f / a->out_q[0]->scale[0]) : 1;
    c.scale = has_recipe(a) ? 1 : a->out_q[0]->scale[0];
    split(&c.at, a);
    c.at.log = a->node->row == &rq_op_log_softmax;
    for (int i = 0; i < 256; i++)
        d[i] = -(double)i * a->in_q[0]->scale[0];
    rq_map_f64[RQ_MAP_EXP](c.e, d, 256, 0, 0);
    for (int i = 0; i < 256; i++)
        c.v[i] = c.at.log ? d[i] : c.e[i] * steps;
    const int64_t n = c.at.n, inner = c.at.inner;
    if (!n || !inner)
        return RQ_OK;
    if (inner == 1) {
        rq_bcast_spans(a->threads, c.at.outer, WORK / n, code_span, &c);
        return RQ_OK;
    }
    c.columns = n > BLOCK ? 0 : BLOCK / n < 64 ? BLOCK / n : 64;
    const int64_t some = c.columns ? c.columns : 1, items = c.at.outer * ((inner + some - 1) / some);
    rq_threads_for(items > 1 ? a->threads : NULL, items, code_columns, &c);
    return RQ_OK;
}

/* 1 at the first of the largest elements, 0 elsewhere. */
static rq_status hardmax_wide(const rq_op_args *a)
{
    job j = { .y = a->out[0], .x = a->in[0] };
    split(&j, a);
    if (j.x->dtype != RQ_DTYPE_F32 && j.x->dtype != RQ_DTYPE_F64)
        return rq_op_no_form(a, j.x->dtype);
    memset(j.y->data, 0, j.y->bytes);
    if (j.n == 0)
        return RQ_OK;
    for (int64_t o = 0; o < j.outer; o++)
        for (int64_t i = 0; i < j.inner; i++) {
            const int64_t at = o * j.n * j.inner + i;
            int64_t best = at;
            for (int64_t t = 1; t < j.n; t++)
                if (rq_tensor_get(j.x, at + t * j.inner) > rq_tensor_get(j.x, best))
                    best = at + t * j.inner;
            rq_tensor_set(j.y, best, 1);
        }
    return RQ_OK;
}

static rq_status hardmax_forward(const rq_op_args *a)
{
    return rq_half_run(a, hardmax_wide);
}

const rq_op rq_op_softmax = {
    .name = "Softmax",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_UNIT,
    .infer = softmax_infer,
    .samples = rq_samples_within,
    .forward = softmax_forward,
    .backward = softmax_backward,
    .saves = RQ_OP_OUT(0),
    .accepts_int = softmax_accepts_int,
    .last = softmax_last,
    .forward_int = softmax_forward_int,
};

const rq_op rq_op_log_softmax = {
    .name = "LogSoftmax",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = softmax_infer,
    .samples = rq_samples_within,
    .forward = softmax_forward,
    .backward = softmax_backward,
    .saves = RQ_OP_OUT(0),
    .accepts_int = softmax_accepts_int,
    .last = softmax_last,
    .forward_int = softmax_forward_int,
};

const rq_op rq_op_hardmax = {
    .name = "Hardmax",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = softmax_infer,
    .samples = rq_samples_within,
    .forward = hardmax_forward,
    .backward = rq_grad_none,
};
