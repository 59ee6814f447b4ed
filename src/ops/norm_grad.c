/* ops/norm_grad.c — see norm_grad.h. A row of n elements with mean m and inverse deviation r, d = dy * gain:
 *
 *   dx = r (d - mean(d) - (x - m) r^2 mean(d (x - m)))            the term mean(d) only where a mean was taken off
 *   dgain = sum over rows of dy (x - m) r, dbias = sum over rows of dy
 *
 * and what comes by the outputs mean and inverse deviation of LayerNormalization goes into the two means. */
#include "ops/norm_grad.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/grad.h"
#include "ops/reduce.h"

enum { COLUMNS = 256 }; /* elements of a row that are summed over rows at a time */

typedef struct job {
    const rq_op_args *a;
    rq_norm r;
    int64_t rows, runs; /* runs: of a row, each with a gain of its own (narrow) */
    const float *x, *dy, *mean, *inv;
    const float *d;            /* dy * gain made before, or NULL */
    const float *gain;         /* NULL: none, or in d */
    const float *dmean, *dinv; /* [rows] or NULL */
    float *dx, *dgain, *dbias;
    double *sums; /* narrow: [rows][runs] of dy, then of dy (x - mean) */
} job;

rq_norm_saved rq_norm_grad_saved(const rq_op_args *a)
{
    float *p = a->training ? a->training->saved : NULL;
    return (rq_norm_saved) { p, p ? p + rq_norm_grad_saved_bytes(a) / sizeof *p / 2 : NULL };
}

static int64_t rows_of(const rq_op_args *a, const rq_norm *r)
{
    const int64_t n = rq_shape_count(&a->in[0]->shape);
    return n ? n / r->n : 0;
}

size_t rq_norm_grad_saved_bytes(const rq_op_args *a)
{
    rq_norm r;
    rq_norm_of(a, &r);
    return 2 * (size_t)rows_of(a, &r) * sizeof(float);
}

/* ---- rows with one gain for the whole row's width ---- */

static void finish_row(const job *j, int64_t row, float *dx, const float *d, const float *x, double sum, double product)
{
    const double n = (double)j->r.n, r = j->inv[row];
    double mean = j->r.rms ? 0 : sum / n, slope = r * r * product / n;
    if (j->dmean)
        mean -= j->dmean[row] / (n * r);
    if (j->dinv)
        slope += r * r * j->dinv[row] / n;
    j->a->k->bn.grad(dx, d, x, (size_t)j->r.n, j->mean[row], (float)r, (float)mean, (float)slope);
}

static void wide_rows(void *arg, int64_t from, int64_t count)
{
    const job *j = arg;
    const size_t n = (size_t)j->r.n;
    for (int64_t row = from; row < from + count; row++) {
        const int64_t at = row * j->r.n;
        const float *x = j->x + at, *d = j->d ? j->d + at : j->dy + at;
        float *dx = j->dx + at;
        if (j->gain) {
            j->a->k->zip[RQ_ZIP_MUL](dx, d, 1, j->gain, 1, n);
            d = dx;
        }
        rq_bn_sums s = { { 0 }, { 0 } };
        j->a->k->bn.products(&s, d, x, n, j->mean[row], 0);
        finish_row(j, row, dx, d, x, rq_bn_join(s.a), rq_bn_join(s.b));
    }
}

/* Gain and bias of some columns, over all rows in order. */
static void wide_columns(void *arg, int64_t block)
{
    const job *j = arg;
    const int64_t from = block * COLUMNS, m = j->r.n - from < COLUMNS ? j->r.n - from : COLUMNS;
    double gain[COLUMNS] = { 0 }, bias[COLUMNS] = { 0 };
    for (int64_t row = 0; row < j->rows; row++) {
        const float *x = j->x + row * j->r.n + from, *dy = j->dy + row * j->r.n + from;
        const float mean = j->mean[row], inv = j->inv[row];
        for (int64_t i = 0; i < m; i++) {
            gain[i] += dy[i] * ((x[i] - mean) * inv);
            bias[i] += dy[i];
        }
    }
    for (int64_t i = 0; i < m; i++) {
        if (j->dgain)
            j->dgain[from + i] = (float)gain[i];
        if (j->dbias)
            j->dbias[from + i] = (float)bias[i];
    }
}

/* ---- rows of runs, each with a gain ---- */

static void narrow_rows(void *arg, int64_t from, int64_t count)
{
    const job *j = arg;
    const int64_t per = j->r.per;
    for (int64_t row = from; row < from + count; row++) {
        const float *gain = j->r.gain->f32 + row % j->r.groups * j->runs;
        const float *x = j->x + row * j->r.n, *dy = j->dy + row * j->r.n;
        double *sums = j->sums + row * j->runs, *products = sums + j->rows * j->runs, sum = 0, product = 0;
        for (int64_t i = 0; i < j->runs; i++) {
            rq_bn_sums s = { { 0 }, { 0 } };
            j->a->k->bn.products(&s, dy + i * per, x + i * per, (size_t)per, j->mean[row], 0);
            sums[i] = rq_bn_join(s.a);
            products[i] = rq_bn_join(s.b);
            sum += gain[i] * sums[i];
            product += gain[i] * products[i];
        }
        if (!j->dx)
            continue;
        float *dx = j->dx + row * j->r.n;
        for (int64_t i = 0; i < j->runs; i++)
            j->a->k->zip[RQ_ZIP_MUL](dx + i * per, dy + i * per, 1, &gain[i], 0, (size_t)per);
        finish_row(j, row, dx, dx, x, sum, product);
    }
}

static void narrow_gains(const job *j)
{
    const double *products = j->sums + j->rows * j->runs;
    for (int64_t c = 0; c < j->r.groups * j->runs; c++) {
        double gain = 0, bias = 0;
        for (int64_t row = c / j->runs; row < j->rows; row += j->r.groups) {
            gain += products[row * j->runs + c % j->runs] * j->inv[row];
            bias += j->sums[row * j->runs + c % j->runs];
        }
        if (j->dgain)
            j->dgain[c] = (float)gain;
        if (j->dbias)
            j->dbias[c] = (float)bias;
    }
}

/* ---- */

static float *floats_of(rq_tensor *t)
{
    return t ? t->f32 : NULL;
}

/* Gain or bias broadcast in a way of their own: by whole tensors. On return d is dy * gain. */
static rq_status by_tensors(job *j, const rq_op_args *a, rq_tensor *d, rq_tensor *dgain, rq_tensor *dbias)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (dgain) {
        for (int64_t row = 0; row < j->rows; row++)
            a->k->bn.apply(d->f32 + row * j->r.n, j->x + row * j->r.n, (size_t)j->r.n, j->mean[row], j->inv[row], 0);
        RQ_TRY(rq_eltwise_zip(a, d, d, dy, RQ_ZIP_MUL));
        RQ_TRY(rq_grad_sum(a, dgain, d));
    }
    if (dbias)
        RQ_TRY(rq_grad_sum(a, dbias, dy));
    j->d = d->f32;
    return rq_eltwise_zip(a, d, dy, j->r.gain, RQ_ZIP_MUL);
}

rq_status rq_norm_grad_rows(const rq_op_args *a)
{
    job j = { .a = a };
    const bool plain = rq_norm_of(a, &j.r);
    const rq_norm_saved saved = rq_norm_grad_saved(a);
    rq_tensor *dgain = rq_grad_in(a, j.r.at_gain), *dbias = rq_grad_in(a, j.r.at_bias), *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0), *second = rq_grad_out(a, 1), *third = rq_grad_out(a, 2);
    const rq_shape *s = &a->in[0]->shape;
    if (rq_shape_count(s) == 0) {
        rq_grad_zeros(a);
        return RQ_OK;
    }
    rq_tensor none = rq_tensor_view(RQ_DTYPE_F32, s, a->scratch);
    if (!dy) { /* only by the statistics */
        rq_grad_zero(&none);
        dy = &none;
        rq_grad_zero(dgain);
        rq_grad_zero(dbias);
        dgain = dbias = NULL;
    }
    j.rows = rows_of(a, &j.r);
    j.x = a->in[0]->f32;
    j.dy = dy->f32;
    j.mean = saved.mean;
    j.inv = saved.inv;
    j.dmean = second && !j.r.rms ? second->f32 : NULL;
    j.dinv = j.r.rms ? (second ? second->f32 : NULL) : third ? third->f32 : NULL;
    j.dx = floats_of(dx);
    j.dgain = floats_of(dgain);
    j.dbias = floats_of(dbias);
    const int64_t piece = rq_norm_piece(j.r.n);
    if (!j.r.wide) {
        j.runs = j.r.n / j.r.per;
        j.sums = (double *)((char *)a->scratch + rq_mem_round((size_t)rq_shape_count(s) * sizeof(float)));
        rq_bcast_spans(a->threads, j.rows, piece, narrow_rows, &j);
        narrow_gains(&j);
        return RQ_OK;
    }
    j.gain = j.r.gain && plain ? j.r.gain->f32 : NULL;
    if (plain && (dgain || dbias))
        rq_threads_for(a->threads, (j.r.n + COLUMNS - 1) / COLUMNS, wide_columns, &j);
    else if (!plain && dy != &none)
        RQ_TRY(by_tensors(&j, a, &none, dgain, dbias));
    if (dx)
        rq_bcast_spans(a->threads, j.rows, piece, wide_rows, &j);
    return RQ_OK;
}

size_t rq_norm_grad_rows_scratch(const rq_op_args *a)
{
    rq_norm r;
    rq_norm_of(a, &r);
    const size_t runs = r.wide ? 0 : (size_t)(rows_of(a, &r) * (r.n / (r.per ? r.per : 1)));
    return rq_mem_round((size_t)rq_shape_count(&a->in[0]->shape) * sizeof(float)) + 2 * runs * sizeof(double);
}

/* ---- SkipLayerNormalization: a LayerNormalization of a sum, each part of which gets what the sum does ---- */

enum { SKIP_X, SKIP_GAIN, SKIP_BETA, SKIP_INPUTS };

static size_t skip_room(const rq_op_args *a)
{
    return rq_mem_round((size_t)rq_shape_count(&a->in[0]->shape) * sizeof(float));
}

size_t rq_norm_grad_skip_scratch(const rq_op_args *a)
{
    return 3 * skip_room(a); /* the sum, its gradient, and one more for the rows */
}

rq_status rq_norm_grad_skip(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    const rq_norm_skip at = rq_norm_skip_of(a->node);
    const rq_tensor *onward = rq_grad_out(a, 3); /* of the sum, which is an output, too */
    char *scratch = a->scratch;
    rq_tensor sum = rq_tensor_view(RQ_DTYPE_F32, s, scratch);
    rq_tensor dsum = rq_tensor_view(RQ_DTYPE_F32, s, scratch + skip_room(a));
    if (rq_shape_count(s) == 0)
        return rq_grad_none(a);
    RQ_TRY(rq_norm_skip_sum(a, &sum));
    const rq_tensor *const in[SKIP_INPUTS] = { &sum, a->in[2], rq_op_input(a->in, a->n_in, at.beta) };
    rq_tensor *const grad_in[SKIP_INPUTS] = { &dsum, rq_grad_in(a, 2), at.beta > 0 ? rq_grad_in(a, at.beta) : NULL };
    rq_norm r;
    rq_op_args inner = *a;
    rq_op_training training = *a->training;
    inner.in = in;
    inner.n_in = at.beta > 0 ? SKIP_INPUTS : SKIP_BETA;
    inner.scratch = scratch + 2 * skip_room(a);
    inner.training = &training;
    rq_norm_of(&inner, &r);
    const rq_tensor *const grad_out[] = { rq_grad_out(a, 0), rq_grad_out(a, r.rms ? 2 : 1), rq_grad_out(a, 2) };
    training.grad_out = grad_out;
    training.grad_in = grad_in;
    inner.n_out = 3;
    RQ_TRY(rq_norm_grad_rows(&inner));
    if (onward)
        RQ_TRY(rq_eltwise_zip(a, &dsum, &dsum, onward, RQ_ZIP_ADD));
    const int parts[] = { 0, 1, at.bias };
    for (int i = 0; i < 3; i++)
        if (rq_grad_in(a, parts[i]))
            RQ_TRY(rq_grad_sum(a, rq_grad_in(a, parts[i]), &dsum));
    return RQ_OK;
}

/* ---- LpNormalization: y = x / N. p 2: dx = (dy - y sum dy y) / N; p 1: dx = (dy - sign(x) sum dy y) / N ---- */

typedef struct lp_job {
    const float *x, *dy;
    float *dx;
    int64_t n, inner;
    bool one;
} lp_job;

static void lp_item(void *arg, int64_t outer)
{
    const lp_job *j = arg;
    for (int64_t i = 0; i < j->inner; i++) {
        const int64_t first = outer * j->n * j->inner + i;
        double norm = 0, sum = 0;
        for (int64_t t = 0; t < j->n; t++) {
            const double v = j->x[first + t * j->inner];
            norm += j->one ? fabs(v) : v * v;
            sum += v * j->dy[first + t * j->inner];
        }
        norm = j->one ? norm : sqrt(norm);
        if (norm == 0) /* a row of zeros is divided by 1 */
            norm = 1;
        for (int64_t t = 0; t < j->n; t++) {
            const int64_t at = first + t * j->inner;
            const double v = j->x[at], along = j->one ? (v > 0) - (v < 0) : v / norm;
            j->dx[at] = (float)((j->dy[at] - along * sum / norm) / norm);
        }
    }
}

rq_status rq_norm_grad_lp(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_tensor *dx = rq_grad_in(a, 0);
    if (!dy || !dx) {
        rq_grad_zero(dx);
        return RQ_OK;
    }
    const rq_shape *s = &dx->shape;
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), s->rank);
    lp_job j = { .x = a->in[0]->f32,
                 .dy = dy->f32,
                 .dx = dx->f32,
                 .n = s->dim[axis],
                 .inner = rq_shape_span(s, axis + 1, s->rank),
                 .one = rq_attr_int(a->node, RQ_WORD_p, 2) == 1 };
    rq_threads_for(a->threads, rq_shape_span(s, 0, axis), lp_item, &j);
    return RQ_OK;
}

/* ---- LRN: with e = bias + alpha/size sum x^2, y = x e^-beta:
 * dx = dy e^-beta - 2 alpha beta / size x sum over the windows that x is in of dy x e^(-beta - 1) ---- */

rq_status rq_norm_grad_lrn(const rq_op_args *a)
{
    const rq_tensor *dyt = rq_grad_out(a, 0);
    rq_tensor *dxt = rq_grad_in(a, 0);
    if (!dyt || !dxt) {
        rq_grad_zero(dxt);
        return RQ_OK;
    }
    const rq_shape *s = &dxt->shape;
    const rq_kernels *k = a->k;
    const int64_t size = rq_attr_int(a->node, RQ_WORD_size, 1), c = s->dim[1], area = rq_shape_span(s, 2, s->rank);
    const float alpha = rq_attr_float(a->node, RQ_WORD_alpha, 1e-4f) / (float)size,
                beta = rq_attr_float(a->node, RQ_WORD_beta, 0.75f);
    const float bias = rq_attr_float(a->node, RQ_WORD_bias, 1), minus = -beta, factor = -2 * alpha * beta;
    const size_t n = (size_t)area;
    float *t = a->scratch, *power = t + c * area, *row = power + c * area;
    for (int64_t image = 0; image < s->dim[0]; image++) {
        const float *x = a->in[0]->f32 + image * c * area, *dy = dyt->f32 + image * c * area;
        float *dx = dxt->f32 + image * c * area;
        for (int64_t i = 0; i < c; i++) { /* t = dy x e^(-beta - 1) */
            float *e = power + i * area, *ti = t + i * area;
            memset(ti, 0, n * sizeof *ti);
            for (int64_t o = i - (size - 1) / 2; o <= i + size / 2; o++)
                if (o >= 0 && o < c) {
                    k->map[RQ_MAP_SQUARE](row, x + o * area, n, 0, 0);
                    k->zip[RQ_ZIP_ADD](ti, ti, 1, row, 1, n);
                }
            k->map[RQ_MAP_LINEAR](ti, ti, n, alpha, bias);
            k->zip[RQ_ZIP_POW](e, ti, 1, &minus, 0, n);
            k->zip[RQ_ZIP_DIV](ti, e, 1, ti, 1, n);
            k->zip[RQ_ZIP_MUL](ti, ti, 1, x + i * area, 1, n);
            k->zip[RQ_ZIP_MUL](ti, ti, 1, dy + i * area, 1, n);
        }
        for (int64_t i = 0; i < c; i++) {
            memset(row, 0, n * sizeof *row);
            for (int64_t o = i - size / 2; o <= i + (size - 1) / 2; o++)
                if (o >= 0 && o < c)
                    k->zip[RQ_ZIP_ADD](row, row, 1, t + o * area, 1, n);
            k->zip[RQ_ZIP_MUL](row, row, 1, &factor, 0, n);
            k->zip[RQ_ZIP_MUL](row, row, 1, x + i * area, 1, n);
            k->zip[RQ_ZIP_MUL](dx + i * area, dy + i * area, 1, power + i * area, 1, n);
            k->zip[RQ_ZIP_ADD](dx + i * area, dx + i * area, 1, row, 1, n);
        }
    }
    return RQ_OK;
}

size_t rq_norm_grad_lrn_scratch(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    return (size_t)((2 * s->dim[1] + 1) * rq_shape_span(s, 2, s->rank)) * sizeof(float);
}

/* ---- MeanVarianceNormalization: z = x - mean, s = sqrt(mean z^2), y = z / (s + e), e = 1e-9:
 * dx = (dy - mean dy) / (s + e) - z mean(dy z) / (s (s + e)^2) ---- */

/* What stands for s + e, and s (s + e)^2, of each group, in place of mean z^2 and mean(dy z). */
static void mvn_factors(rq_tensor *square, rq_tensor *product)
{
    for (int64_t i = 0, n = rq_tensor_count(square); i < n; i++) {
        const double s = sqrt((double)square->f32[i]), d = s + (double)1e-9f;
        square->f32[i] = (float)(1 / d);
        product->f32[i] = s > 0 ? (float)(product->f32[i] / (s * d * d)) : 0;
    }
}

rq_status rq_norm_grad_mvn(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *dy = rq_grad_out(a, 0);
    rq_tensor *dx = rq_grad_in(a, 0), stat[3] = { 0 };
    if (!dy || !dx || rq_tensor_count(x) == 0) {
        rq_grad_zero(dx);
        return RQ_OK;
    }
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(rq_norm_mvn_axes(a->node, x->shape.rank, reduced));
    rq_reduce_plan plan;
    rq_reduce_plan_init(&plan, &x->shape, reduced);
    rq_shape s = x->shape;
    for (int i = 0; i < s.rank; i++)
        if (reduced[i])
            s.dim[i] = 1;
    rq_tensor z = rq_tensor_view(RQ_DTYPE_F32, &x->shape, a->scratch);
    rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &x->shape, (char *)a->scratch + rq_norm_grad_mvn_scratch(a) / 2);
    rq_status status = RQ_OK;
    for (int i = 0; i < 3 && status == RQ_OK; i++)
        status = rq_tensor_create(&stat[i], RQ_DTYPE_F32, &s, false);
#define STEP(expr)                                                                                                     \
    if (status == RQ_OK)                                                                                               \
    status = (expr)
    STEP(rq_reduce_run(a, &plan, RQ_REDUCE_MEAN, &stat[0], x));
    STEP(rq_eltwise_zip(a, &z, x, &stat[0], RQ_ZIP_SUB));
    STEP(rq_eltwise_zip(a, &t, &z, &z, RQ_ZIP_MUL));
    STEP(rq_reduce_run(a, &plan, RQ_REDUCE_MEAN, &stat[0], &t));
    STEP(rq_eltwise_zip(a, &t, dy, &z, RQ_ZIP_MUL));
    STEP(rq_reduce_run(a, &plan, RQ_REDUCE_MEAN, &stat[1], &t));
    STEP(rq_reduce_run(a, &plan, RQ_REDUCE_MEAN, &stat[2], dy));
    if (status == RQ_OK)
        mvn_factors(&stat[0], &stat[1]);
    STEP(rq_eltwise_zip(a, &t, dy, &stat[2], RQ_ZIP_SUB));
    STEP(rq_eltwise_zip(a, &t, &t, &stat[0], RQ_ZIP_MUL));
    STEP(rq_eltwise_zip(a, &z, &z, &stat[1], RQ_ZIP_MUL));
    STEP(rq_eltwise_zip(a, dx, &t, &z, RQ_ZIP_SUB));
#undef STEP
    for (int i = 0; i < 3; i++)
        rq_tensor_release(&stat[i]);
    return status;
}

size_t rq_norm_grad_mvn_scratch(const rq_op_args *a)
{
    return 2 * rq_mem_round((size_t)rq_shape_count(&a->in[0]->shape) * sizeof(float));
}
