/* ops/batch_train.c — see batch_train.h. A channel is one item of work, the same at any number of threads: one pass over its elements for
 * both sums, a second that writes. Runs too short for vectors are gathered into scratch first. */
#include "ops/batch_train.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "ops/half.h"
#include "ops/rows.h"

enum { SHORT = 16 }; /* elements; runs below are gathered */

/* Opset 14 says it with an attribute; before, the extra outputs said so. */
bool rq_batch_train_is(const rq_node *n, int64_t opset)
{
    if (n->row && n->row != &rq_op_batch_normalization) /* fold asks before nodes have rows */
        return false;
    if (opset >= 14)
        return rq_attr_int(n, RQ_WORD_training_mode, 0) != 0;
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] != RQ_NONE)
            return true;
    return false;
}

rq_status rq_batch_train_infer(const rq_infer *a)
{
    for (int i = 1; i < a->n_out; i++) {
        const rq_tensor *like = a->in[i == 1 || i == 3 ? 3 : 4]; /* mean, variance, and what was used of this batch */
        a->out_dtype[i] = like->dtype;
        a->out_shape[i] = like->shape;
    }
    return RQ_OK;
}

/* What forward leaves to backward of a channel. */
typedef struct channel {
    double mean;   /* of c, what was taken off; evaluation: 0 */
    double inv;    /* train: 1 / sqrt(v + epsilon k^2), v of c; evaluation: 1 / sqrt(var + epsilon) */
    double offset; /* evaluation: bias - mean */
    bool batch;    /* made in train mode */
} channel;

typedef struct job {
    const rq_op_args *a;
    bool train, moves; /* moves: running statistics, in place */
    int64_t batch, channels, area;
    double epsilon, momentum;
    const float *x, *k, *bias, *gamma, *beta;
    float *mean, *var;
    channel *saved; /* NULL: nobody will ask */
    float *scratch; /* of gathered channels; NULL: runs are long */
    /* backward */
    const float *dy;
    float *dx, *dk, *dbias, *dgamma, *dbeta;
} job;

/* The elements of one channel. */
typedef struct runs {
    int64_t n, len, step;
} runs;

static bool is_folded(const rq_node *n)
{
    return n->row == &rq_op_folded_batch_norm;
}

static const float *floats_of(const rq_tensor *t)
{
    return t ? t->f32 : NULL;
}

static int64_t area_of(const rq_shape *s)
{
    return s->rank > 1 ? rq_shape_span(s, 2, s->rank) : 1;
}

/* An attribute is an f32: 0.9 in it is 0.89999998, of which 1 minus that is off in the seventh digit. The number that was meant. */
static double decimal(float v)
{
    const double rounded = rint((double)v * 1e7) / 1e7;
    return (float)rounded == v ? rounded : (double)v;
}

static void job_init(job *j, const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    const int f = is_folded(a->node) ? 3 : 1;                                                 /* where gamma is */
    assert(a->in[0] && a->in[1] && a->in[f] && a->in[f + 1] && a->in[f + 2] && a->in[f + 3]); /* infer saw to it */
    *j = (job) { .a = a,
                 .train = a->training ? a->training->train : rq_batch_train_is(a->node, a->opset),
                 .moves = a->training != NULL,
                 .batch = s->dim[0],
                 .channels = s->rank > 1 ? s->dim[1] : 1,
                 .area = area_of(s),
                 .epsilon = rq_attr_float(a->node, RQ_WORD_epsilon, 1e-5f),
                 .momentum = decimal(rq_attr_float(a->node, RQ_WORD_momentum, 0.9f)),
                 .x = a->in[0]->f32,
                 .k = f == 3 ? a->in[1]->f32 : NULL,
                 .bias = f == 3 ? floats_of(a->in[2]) : NULL,
                 .gamma = a->in[f]->f32,
                 .beta = a->in[f + 1]->f32,
                 .mean = a->in[f + 2]->f32,
                 .var = a->in[f + 3]->f32,
                 .saved = a->training ? a->training->saved : NULL };
    j->scratch = j->area < SHORT ? a->scratch : NULL;
}

/* ---- elements of a channel ---- */

static runs runs_of(const job *j)
{
    if (j->scratch)
        return (runs) { 1, j->batch * j->area, 0 };
    return (runs) { j->batch, j->area, j->channels * j->area };
}

static const float *gather(const job *j, const float *x, int64_t c, int slot)
{
    if (!j->scratch)
        return x + c * j->area;
    float *to = j->scratch + (slot * j->channels + c) * j->batch * j->area;
    for (int64_t b = 0; b < j->batch; b++)
        memcpy(to + b * j->area, x + (b * j->channels + c) * j->area, (size_t)j->area * sizeof *to);
    return to;
}

/* Where the result of channel c is to be written, and what brings it to its place. */
static float *target(const job *j, float *y, int64_t c)
{
    return j->scratch ? j->scratch + c * j->batch * j->area : y + c * j->area;
}

static void scatter(const job *j, float *y, int64_t c)
{
    if (!j->scratch)
        return;
    const float *from = j->scratch + c * j->batch * j->area;
    for (int64_t b = 0; b < j->batch; b++)
        memcpy(y + (b * j->channels + c) * j->area, from + b * j->area, (size_t)j->area * sizeof *y);
}

static double pass_moments(const job *j, const runs *r, const float *x, float shift, double *squares)
{
    rq_bn_sums s = { { 0 }, { 0 } };
    for (int64_t i = 0; i < r->n; i++)
        j->a->k->bn.moments(&s, x + i * r->step, (size_t)r->len, shift, i + 1 < r->n ? (size_t)r->step : 0);
    *squares = rq_bn_join(s.b);
    return rq_bn_join(s.a);
}

/* Mean and biased variance in one pass, of differences from a guess at the mean; a guess too far off is made again. */
static void moments(const job *j, const runs *r, const float *x, double *mean, double *var)
{
    const double n = (double)(r->n * r->len);
    const int64_t few = r->len < SHORT ? r->len : SHORT;
    double d = 0, squares = 0, guess = 0;
    for (int64_t i = 0; i < few; i++)
        guess += x[i];
    float shift = (float)(guess / (double)few);
    for (int again = 0; again < 2; again++) {
        d = pass_moments(j, r, x, shift, &squares) / n;
        *var = squares / n - d * d;
        *mean = (double)shift + d;
        if (!(d * d > 16 * *var))
            break;
        shift = (float)*mean;
    }
    *var = *var < 0 ? 0 : *var;
}

/* ---- forward ---- */

/* As ONNX has it where a node trains by itself: into outputs, with the biased variance. */
static void give_running(const job *j, int64_t c, double mean, double var)
{
    const rq_op_args *a = j->a;
    const double keep = j->train ? j->momentum : 1;
    const double value[] = { 0, j->mean[c] * keep + mean * (1 - keep), j->var[c] * keep + var * (1 - keep), mean, var };
    for (int i = 1; i < a->n_out && i < 5; i++)
        if (a->out[i])
            a->out[i]->f32[c] = (float)value[i];
}

static void move_running(const job *j, int64_t c, double k, double mean, double var)
{
    const double n = (double)(j->batch * j->area), m = 1 - j->momentum;
    if (k == 0) /* nothing can be known */
        return;
    mean = mean / k + (j->bias ? j->bias[c] : 0);
    var = var / (k * k) * (n / (n - 1));
    j->mean[c] = (float)(j->mean[c] * (1 - m) + mean * m);
    j->var[c] = (float)(j->var[c] * (1 - m) + var * m);
}

/* What (c - mean) is multiplied with, batch statistics or running ones. */
static double factor_of(const job *j, int64_t c, const channel *s)
{
    const double k = j->k ? j->k[c] : 1, gamma = j->gamma[c];
    if (k == 0)
        return 1;
    return s->batch ? (k < 0 ? -gamma : gamma) * s->inv : gamma * s->inv / k;
}

/* FoldedBatchNorm of a channel whose k is not 0, with PyTorch's roundings, step by step: v = c / k + bias in f32, statistics of v in
 * f64, invstd, alpha = invstd gamma and shift = beta - mean alpha in f32, y = v alpha + shift fused. A tie in the quantizer behind then falls as
 * it falls there. */
static void forward_folded(const job *j, const runs *r, const float *x, int64_t c, channel *s, float *y)
{
    const rq_bn_isa *bn = &j->a->k->bn;
    const double n = (double)(r->n * r->len);
    const float k = j->k[c], bias = j->bias ? j->bias[c] : 0;
    double mean = j->mean[c], var = j->var[c], squares;
    rq_bn_sums sums = { { 0 }, { 0 } };
    for (int64_t i = 0; i < r->n; i++)
        bn->unfold(&sums, y + i * r->step, x + i * r->step, (size_t)r->len, k, bias,
                   i + 1 < r->n ? (size_t)r->step : 0);
    s->inv = 1 / sqrt(var + j->epsilon);
    s->offset = bias - mean;
    float inv = 1 / sqrtf(j->var[c] + (float)j->epsilon);
    if (j->train) {
        mean = rq_bn_join(sums.a) / n;
        pass_moments(j, r, y, (float)mean, &squares);
        var = squares / n;
        inv = (float)(1 / sqrt((double)(float)var + j->epsilon));
        if (j->moves) { /* products and sum in f32 */
            const float m = (float)(1 - j->momentum), keep = (float)j->momentum;
            j->mean[c] = m * (float)mean + keep * j->mean[c];
            j->var[c] = m * (float)(squares / (n - 1)) + keep * j->var[c];
        }
        s->mean = (mean - bias) * k;
        s->inv = 1 / (sqrt(var + j->epsilon) * fabs((double)k));
    }
    const float alpha = inv * j->gamma[c], shift = fmaf(-(float)mean, alpha, j->beta[c]);
    for (int64_t i = 0; i < r->n; i++)
        bn->apply(y + i * r->step, y + i * r->step, (size_t)r->len, 0, alpha, shift);
}

static void forward_channel(void *arg, int64_t c)
{
    const job *j = arg;
    const runs r = runs_of(j);
    const float *x = gather(j, j->x, c, 0);
    const double k = j->k ? j->k[c] : 1;
    channel s = { .batch = j->train };
    double mean = j->mean[c], var = j->var[c], add = j->beta[c];
    if (j->k && j->k[c] != 0) {
        forward_folded(j, &r, x, c, &s, target(j, j->a->out[0]->f32, c));
        scatter(j, j->a->out[0]->f32, c);
        if (j->saved)
            j->saved[c] = s;
        return;
    }
    if (j->train) {
        moments(j, &r, x, &mean, &var);
        s.mean = mean;
        s.inv = 1 / sqrt(var + j->epsilon * k * k);
    } else {
        s.offset = (j->bias ? j->bias[c] : 0) - mean;
        s.inv = 1 / sqrt(var + j->epsilon);
        if (!j->k) { /* x - mean is what has few digits to lose */
            s.mean = mean;
            s.offset = 0;
        }
        add += s.offset * j->gamma[c] * s.inv;
    }
    give_running(j, c, mean, var); /* reads the old ones */
    if (j->train && j->moves)
        move_running(j, c, k, mean, var);
    const double factor = factor_of(j, c, &s);
    const float shift = (float)s.mean;
    add -= (s.mean - (double)shift) * factor;
    float *y = target(j, j->a->out[0]->f32, c);
    for (int64_t i = 0; i < r.n; i++)
        j->a->k->bn.apply(y + i * r.step, x + i * r.step, (size_t)r.len, shift, (float)factor, (float)add);
    scatter(j, j->a->out[0]->f32, c);
    if (j->saved)
        j->saved[c] = s;
}

static rq_status forward_f32(const rq_op_args *a)
{
    job j;
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_F32)
            return rq_op_fail(a, RQ_UNSUPPORTED, "has no training form: input %d has type %s, expected f32", i,
                              rq_dtype_name(a->in[i]->dtype));
    job_init(&j, a);
    if (a->training && j.train && j.batch * j.area == 1)
        return rq_op_fail(a, RQ_BAD_SHAPE,
                          "has one element per channel in train mode, expected more: it has no variance");
    if (j.batch * j.area != 0)
        rq_threads_for(a->threads, j.channels, forward_channel, &j);
    return RQ_OK;
}

rq_status rq_batch_train_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, forward_f32);
}

/* ---- backward ---- */

static void put(float *to, int64_t c, double v)
{
    if (to)
        to[c] = (float)v;
}

/* With A = sum dy, B = sum dy (c - mean), n elements, q = inv, s = gamma sign(k) q:
 * train: dc = s (dy - A/n - q^2 B/n (c - mean)), dgamma = sign(k) q B, dk = -s B epsilon k q^2, dbias = 0
 * evaluation, t = gamma q / k: dc = t dy, dgamma = q (B/k + offset A), dk = -t/k B, dbias = gamma q A; dbeta = A in both. */
static void backward_channel(void *arg, int64_t c)
{
    const job *j = arg;
    const runs r = runs_of(j);
    const channel *s = &j->saved[c];
    const float *dy = gather(j, j->dy, c, 0), *x = gather(j, j->x, c, 1);
    const double n = (double)(j->batch * j->area), k = j->k ? j->k[c] : 1, gamma = j->gamma[c];
    const double factor = factor_of(j, c, s);
    const float shift = (float)s->mean;
    const double rest = s->mean - (double)shift;
    rq_bn_sums sums = { { 0 }, { 0 } };
    for (int64_t i = 0; i < r.n; i++)
        j->a->k->bn.products(&sums, dy + i * r.step, x + i * r.step, (size_t)r.len, shift,
                             i + 1 < r.n ? (size_t)r.step : 0);
    const double sum = rq_bn_join(sums.a), product = rq_bn_join(sums.b) - rest * sum, q = s->inv;
    double mean = 0, slope = 0;
    put(j->dbeta, c, sum);
    if (s->batch) {
        slope = q * q * product / n;
        mean = sum / n - slope * rest;
        put(j->dgamma, c, k == 0 ? 0 : (k < 0 ? -q : q) * product);
        put(j->dk, c, k == 0 ? 0 : -factor * product * j->epsilon * k * q * q);
        put(j->dbias, c, 0);
        if (k == 0)
            slope = 0;
    } else {
        put(j->dgamma, c, q * ((k == 0 ? 0 : product / k) + s->offset * sum));
        put(j->dk, c, k == 0 ? 0 : -factor / k * product);
        put(j->dbias, c, gamma * q * sum);
    }
    if (!j->dx)
        return;
    float *dx = target(j, j->dx, c);
    for (int64_t i = 0; i < r.n; i++)
        j->a->k->bn.grad(dx + i * r.step, dy + i * r.step, x + i * r.step, (size_t)r.len, shift, (float)factor,
                         (float)mean, (float)slope);
    scatter(j, j->dx, c);
}

static float *wanted(const rq_op_args *a, int i)
{
    return i < a->n_in && a->training->grad_in[i] ? a->training->grad_in[i]->f32 : NULL;
}

rq_status rq_batch_train_backward(const rq_op_args *a)
{
    job j;
    const int f = is_folded(a->node) ? 3 : 1;
    job_init(&j, a);
    if (!a->training->grad_out[0] || j.batch * j.area == 0) {
        for (int i = 0; i < f + 2; i++)
            if (wanted(a, i))
                memset(wanted(a, i), 0, a->training->grad_in[i]->bytes);
        return RQ_OK;
    }
    j.dy = a->training->grad_out[0]->f32;
    j.dx = wanted(a, 0);
    j.dk = f == 3 ? wanted(a, 1) : NULL;
    j.dbias = f == 3 ? wanted(a, 2) : NULL;
    j.dgamma = wanted(a, f);
    j.dbeta = wanted(a, f + 1);
    rq_threads_for(a->threads, j.channels, backward_channel, &j);
    return RQ_OK;
}

/* ---- sizes ---- */

size_t rq_batch_train_saved(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    return (size_t)(s->rank > 1 ? s->dim[1] : 1) * sizeof(channel);
}

size_t rq_batch_train_scratch(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    return area_of(s) < SHORT ? (size_t)rq_shape_count(s) * sizeof(float) : 0;
}

size_t rq_batch_train_scratch_backward(const rq_op_args *a)
{
    return 2 * rq_batch_train_scratch(a);
}
