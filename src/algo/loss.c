/* algo/loss.c — what training makes small, and its gradient with respect to the network's output, in one pass.
 *
 * Sums are in double, over pieces of fixed size whose sums are added in their order: any number of threads gives the same
 * bits. Exponentials and logarithms are base/libm's, the same on every machine. */
#include <math.h>
#include <string.h>

#include "base/libm.h"
#include "base/mem.h"
#include "quant/exec.h"
#include "requant/optim.h"

typedef struct job {
    const rq_loss_cfg *cfg;
    const rq_tensor *y, *t;
    float *dy; /* NULL: not wanted */
    /* rows of c numbers, `inner` apart; or elements (c 1, inner 1) */
    int64_t outer, c, inner, rows, per_piece;
    int64_t counted;               /* rows (elements) that the mean is over */
    int64_t t_stride[RQ_MAX_RANK]; /* of t, for axes of y: 0 where it is broadcast */
    bool t_same;                   /* t lies as y does, in f32 */
    double *partial;               /* a sum for each piece */
} job;

enum { PIECE = 8192 }; /* elements */

/* As PyTorch's binary_cross_entropy: a logarithm is never below this, a divisor never below that. */
static const double LOG_FLOOR = -100, TINY = 1e-12;

rq_loss_cfg rq_loss_defaults(rq_loss_kind kind)
{
    return (rq_loss_cfg) { .kind = kind, .temperature = 1, .axis = kind == RQ_LOSS_KL ? -1 : 1, .ignore_index = -100 };
}

static double log_of(double p)
{
    const double l = p > 0 ? rq_libm_log(p) : -INFINITY;
    return l < LOG_FLOOR ? LOG_FLOOR : l;
}

/* log(1 + x), x in [0, 1] */
static double log1p_of(double x)
{
    const double u = 1 + x; /* Kahan: log(u) x / (u - 1) corrects what 1 + x lost */
    return u == 1 ? x : rq_libm_log(u) * x / (u - 1);
}

/* ---- elements: MSE, BCE ---- */

static double target_at(const job *j, int64_t i)
{
    if (j->t_same)
        return j->t->f32[i];
    int64_t at = 0;
    const rq_shape *s = &j->y->shape;
    for (int k = s->rank - 1; k >= 0; k--) {
        at += i % s->dim[k] * j->t_stride[k];
        i /= s->dim[k];
    }
    return rq_tensor_get(j->t, at);
}

static double mse_element(const job *j, int64_t i)
{
    const double d = (double)j->y->f32[i] - target_at(j, i);
    if (j->dy)
        j->dy[i] = (float)(2 * d / (double)j->counted);
    return d * d;
}

static double bce_element(const job *j, int64_t i)
{
    const double x = j->y->f32[i], t = target_at(j, i);
    if (j->cfg->probabilities) {
        if (j->dy) {
            const double v = x * (1 - x);
            j->dy[i] = (float)((x - t) / (v > TINY ? v : TINY) / (double)j->counted);
        }
        return -(t * log_of(x) + (1 - t) * log_of(1 - x));
    }
    const double e = rq_libm_exp(-fabs(x)), sigmoid = x >= 0 ? 1 / (1 + e) : e / (1 + e);
    if (j->dy)
        j->dy[i] = (float)((sigmoid - t) / (double)j->counted);
    return (x > 0 ? x : 0) - x * t + log1p_of(e);
}

/* ---- rows: cross-entropy, KL ---- */

typedef struct row {
    const float *x;
    int64_t at, step, n; /* of its first number in y, between numbers */
    double top, log_sum; /* log softmax(x k) = x k - top - log_sum */
} row;

/* A number as a logit: of probabilities, their logarithm. */
static double logit(const job *j, float x)
{
    return j->cfg->probabilities ? log_of(x) : x;
}

static row row_of(const job *j, const float *x, int64_t r, double factor)
{
    row w = { .x = x, .at = r / j->inner * j->c * j->inner + r % j->inner, .step = j->inner, .n = j->c };
    w.top = -INFINITY;
    for (int64_t i = 0; i < w.n; i++) {
        const double v = logit(j, x[w.at + i * w.step]) * factor;
        w.top = v > w.top || isnan(v) ? v : w.top;
    }
    double sum = 0;
    for (int64_t i = 0; i < w.n; i++)
        sum += rq_libm_exp(logit(j, x[w.at + i * w.step]) * factor - w.top);
    w.log_sum = rq_libm_log(sum);
    return w;
}

static double log_share(const job *j, const row *w, int64_t i, double factor)
{
    return logit(j, w->x[w->at + i * w->step]) * factor - w->top - w->log_sum;
}

static void clear_row(const job *j, int64_t r)
{
    for (int64_t i = 0; j->dy && i < j->c; i++)
        j->dy[r / j->inner * j->c * j->inner + r % j->inner + i * j->inner] = 0;
}

static bool has_classes(const job *j)
{
    return rq_dtype_is_integer(j->t->dtype);
}

/* -sum over classes of t' log p, with t' = (1 - s) t + s / c */
static double cross_entropy_row(const job *j, int64_t r)
{
    const double s = j->cfg->label_smoothing, even = s / (double)j->c, n = (double)j->counted;
    const bool classes = has_classes(j), given = j->cfg->probabilities;
    const int64_t class = classes ? rq_tensor_get_int(j->t, r) : -1;
    if (classes && class == j->cfg->ignore_index) {
        clear_row(j, r);
        return 0;
    }
    const int64_t first = r / j->inner * j->c * j->inner + r % j->inner;
    row w = { .x = j->y->f32, .at = first, .step = j->inner, .n = j->c };
    if (!given)
        w = row_of(j, j->y->f32, r, 1);
    double loss = 0, mass = 0;
    for (int64_t i = 0; i < j->c; i++) {
        const int64_t at = first + i * j->inner;
        const double t = (classes ? (i == class) : rq_tensor_get(j->t, at)) * (1 - s) + even;
        mass += t;
        if (t != 0)
            loss -= t * (given ? log_of(w.x[at]) : log_share(j, &w, i, 1));
    }
    for (int64_t i = 0; j->dy && i < j->c; i++) {
        const int64_t at = first + i * j->inner;
        const double t = (classes ? (i == class) : rq_tensor_get(j->t, at)) * (1 - s) + even, p = w.x[at];
        j->dy[at] = (float)((given ? -t / (p > TINY ? p : TINY) : rq_libm_exp(log_share(j, &w, i, 1)) * mass - t) / n);
    }
    return loss;
}

static double kl_row(const job *j, int64_t r)
{
    const double temperature = j->cfg->temperature, f = 1 / temperature, n = (double)j->counted;
    const row y = row_of(j, j->y->f32, r, f), t = row_of(j, j->t->f32, r, f);
    double loss = 0;
    for (int64_t i = 0; i < j->c; i++) {
        const double a = log_share(j, &y, i, f), b = log_share(j, &t, i, f), q = rq_libm_exp(b);
        const int64_t at = y.at + i * y.step;
        if (q > 0)
            loss += q * (b - a);
        if (!j->dy)
            continue;
        const double p = j->y->f32[at], d = temperature * (rq_libm_exp(a) - q) / n;
        j->dy[at] = (float)(j->cfg->probabilities ? d / (p > TINY ? p : TINY) : d);
    }
    return loss * temperature * temperature;
}

/* ---- all of it ---- */

static void add_piece(void *arg, int64_t i)
{
    static double (*const of[RQ_N_LOSSES])(const job *, int64_t) = { [RQ_LOSS_MSE] = mse_element,
                                                                     [RQ_LOSS_CROSS_ENTROPY] = cross_entropy_row,
                                                                     [RQ_LOSS_BCE] = bce_element,
                                                                     [RQ_LOSS_KL] = kl_row };
    const job *j = arg;
    const int64_t from = i * j->per_piece, left = j->rows - from, n = left < j->per_piece ? left : j->per_piece;
    double sum = 0;
    for (int64_t r = from; r < from + n; r++)
        sum += of[j->cfg->kind](j, r);
    j->partial[i] = sum;
}

static rq_status check_cfg(const rq_loss_cfg *c, rq_err *err)
{
    if ((int)c->kind < 0 || c->kind >= RQ_N_LOSSES)
        return rq_fail(err, RQ_BAD_ARG, "there is no loss %d", (int)c->kind);
    if (c->kind == RQ_LOSS_CROSS_ENTROPY && !(c->label_smoothing >= 0 && c->label_smoothing < 1))
        return rq_fail(err, RQ_BAD_ARG, "label smoothing is %g, expected 0 to below 1", c->label_smoothing);
    if (c->kind == RQ_LOSS_KL && !(c->temperature > 0 && c->temperature < INFINITY))
        return rq_fail(err, RQ_BAD_ARG, "the temperature of distillation is %g, expected a number above 0",
                       c->temperature);
    return RQ_OK;
}

static rq_status fail_shapes(const job *j, const char *want, rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    return rq_fail(err, RQ_BAD_SHAPE, "the loss has outputs %s and targets %s %s; expected %s",
                   rq_shape_text(&j->y->shape, a, sizeof a), rq_dtype_name(j->t->dtype),
                   rq_shape_text(&j->t->shape, b, sizeof b), want);
}

/* Strides of t along the axes of y, as ONNX and numpy broadcast. */
static rq_status set_elements(job *j, rq_err *err)
{
    const rq_shape *y = &j->y->shape, *t = &j->t->shape;
    int64_t stride = 1;
    if (t->rank > y->rank)
        return fail_shapes(j, "targets that broadcast to the outputs", err);
    for (int i = 1; i <= t->rank; i++) {
        const int64_t have = t->dim[t->rank - i], want = y->dim[y->rank - i];
        if (have != 1 && have != want)
            return fail_shapes(j, "targets that broadcast to the outputs", err);
        j->t_stride[y->rank - i] = have == 1 ? 0 : stride;
        stride *= have;
    }
    j->t_same = j->t->dtype == RQ_DTYPE_F32 && stride == rq_shape_count(y);
    j->outer = j->rows = j->counted = rq_shape_count(y);
    j->c = j->inner = 1;
    return RQ_OK;
}

/* Are the sizes of t those of y without `axis`, but for sizes of 1? */
static bool classes_fit(const rq_shape *y, int axis, const rq_shape *t)
{
    int k = 0;
    for (int i = 0; i < y->rank; i++) {
        if (i == axis || y->dim[i] == 1)
            continue;
        while (k < t->rank && t->dim[k] == 1)
            k++;
        if (k >= t->rank || t->dim[k++] != y->dim[i])
            return false;
    }
    while (k < t->rank && t->dim[k] == 1)
        k++;
    return k == t->rank;
}

static rq_status count_classes(job *j, rq_err *err)
{
    j->counted = 0;
    for (int64_t i = 0; i < j->rows; i++) {
        const int64_t class = rq_tensor_get_int(j->t, i);
        if (class == j->cfg->ignore_index)
            continue;
        if (class < 0 || class >= j->c)
            return rq_fail(err, RQ_BAD_DATA, "target %lld is class %lld; the outputs have %lld classes, 0 to %lld",
                           (long long)i, (long long)class, (long long)j->c, (long long)j->c - 1);
        j->counted++;
    }
    return RQ_OK;
}

static rq_status set_rows(job *j, rq_err *err)
{
    const rq_shape *s = &j->y->shape;
    int axis = j->cfg->axis < 0 ? j->cfg->axis + s->rank : j->cfg->axis;
    axis = s->rank == 1 ? 0 : axis; /* one sample */
    if (axis < 0 || axis >= s->rank)
        return rq_fail(err, RQ_BAD_SHAPE, "the loss wants classes along axis %d; the outputs have %d axes",
                       j->cfg->axis, s->rank);
    j->c = s->dim[axis];
    j->outer = rq_shape_span(s, 0, axis);
    j->inner = rq_shape_span(s, axis + 1, s->rank);
    j->rows = j->counted = j->outer * j->inner;
    if (j->cfg->kind == RQ_LOSS_CROSS_ENTROPY && has_classes(j)) {
        if (!classes_fit(s, axis, &j->t->shape))
            return fail_shapes(j, "a class for each place of the outputs", err);
        return count_classes(j, err);
    }
    if (!rq_shape_equal(s, &j->t->shape))
        return fail_shapes(j, "numbers of the same shape", err);
    if (j->cfg->kind == RQ_LOSS_KL && j->t->dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_DTYPE, "distillation has targets of %s, expected f32", rq_dtype_name(j->t->dtype));
    return RQ_OK;
}

rq_status rq_loss_compute(const rq_loss_cfg *cfg, rq_exec *e, const rq_tensor *y, const rq_tensor *target, double *loss,
                          float *dy, rq_err *err)
{
    job j = { .cfg = cfg, .y = y, .t = target, .dy = dy };
    RQ_TRY(check_cfg(cfg, err));
    if (y->dtype != RQ_DTYPE_F32)
        return rq_fail(err, RQ_BAD_DTYPE, "the loss has outputs of %s, expected f32", rq_dtype_name(y->dtype));
    if (!rq_dtype_is_integer(target->dtype) && !rq_dtype_is_float(target->dtype) && target->dtype != RQ_DTYPE_BOOL)
        return rq_fail(err, RQ_BAD_DTYPE, "the loss has targets of %s, expected numbers", rq_dtype_name(target->dtype));
    const bool elements = cfg->kind == RQ_LOSS_MSE || cfg->kind == RQ_LOSS_BCE;
    RQ_TRY(elements ? set_elements(&j, err) : set_rows(&j, err));
    j.per_piece = j.c > 0 && j.c < PIECE ? PIECE / j.c : 1;
    const int64_t pieces = (j.rows + j.per_piece - 1) / j.per_piece;
    *loss = 0;
    if (!pieces || !j.c)
        return RQ_OK;
    if (!(j.partial = rq_mem_alloc((size_t)pieces, sizeof *j.partial)))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the loss");
    rq_threads_for(rq_exec_pool(e), pieces, add_piece, &j);
    double sum = 0;
    for (int64_t i = 0; i < pieces; i++)
        sum += j.partial[i];
    rq_mem_free(j.partial);
    *loss = j.counted ? sum / (double)j.counted : 0;
    return RQ_OK;
}
