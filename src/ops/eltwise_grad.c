/* ops/eltwise_grad.c — backward of Add, Sub, Mul, Div, Pow, Min, Max, Sum, Mean, PRelu.
 *
 * Each gradient is an elementwise function of dy and the operands, of the output's shape. An operand that was not repeated gets
 * it straight; for one that was, it goes to scratch and is summed from there. Input 0 comes last: its gradient may lie on dy. */
#include "ops/eltwise_grad.h"

#include <math.h>

#include "base/mem.h"
#include "ops/bcast.h"
#include "ops/grad.h"

static bool is_repeated(const rq_op_args *a, int i)
{
    return rq_tensor_count(a->in[i]) != rq_tensor_count(a->out[0]);
}

/* A view of f32 numbers in scratch, of the output's shape. */
static rq_tensor room(const rq_op_args *a, int at)
{
    const size_t bytes = rq_mem_round((size_t)rq_tensor_count(a->out[0]) * sizeof(float));
    return rq_tensor_view(RQ_DTYPE_F32, &a->out[0]->shape, (char *)a->scratch + (size_t)at * bytes);
}

size_t rq_eltwise_grad_scratch(const rq_op_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i] && is_repeated(a, i))
            return rq_mem_round((size_t)rq_tensor_count(a->out[0]) * sizeof(float));
    return 0;
}

size_t rq_eltwise_grad_scratch_ties(const rq_op_args *a)
{
    return rq_eltwise_grad_scratch(a) + rq_mem_round((size_t)rq_tensor_count(a->out[0]) * sizeof(float));
}

typedef struct job {
    const rq_kernels *k;
    float *t;
    const float *dy, *u, *v;
    rq_eltwise_grad_fn fn;
} job;

static void run(void *arg, int64_t y, int64_t u, int su, int64_t v, int sv, int64_t n)
{
    const job *j = arg;
    j->fn(j->k, j->t + y, j->dy + y, j->u + u, su, j->v + v, sv, n);
}

static void fill(const rq_op_args *a, rq_tensor *t, const rq_tensor *dy, const rq_tensor *u, const rq_tensor *v,
                 rq_eltwise_grad_fn fn)
{
    job j = { .k = a->k, .t = t->f32, .dy = dy->f32, .u = u->f32, .v = v->f32, .fn = fn };
    rq_bcast p;
    rq_bcast_init(&p, &a->out[0]->shape, &u->shape, &v->shape);
    rq_bcast_for(&p, a->threads, run, &j);
}

rq_status rq_eltwise_grad_input(const rq_op_args *a, int i, const rq_tensor *dy, const rq_tensor *u, const rq_tensor *v,
                                rq_eltwise_grad_fn fn)
{
    rq_tensor *dx = rq_grad_in(a, i), whole;
    if (!dx)
        return RQ_OK;
    if (!is_repeated(a, i)) {
        fill(a, dx, dy, u, v, fn);
        return RQ_OK;
    }
    whole = room(a, 0);
    fill(a, &whole, dy, u, v, fn);
    return rq_grad_sum(a, dx, &whole);
}

/* ---- Add, Sub, Mul, Div ---- */

rq_status rq_eltwise_grad_add(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dy)
        return rq_grad_none(a);
    for (int i = a->n_in - 1; i >= 0; i--)
        if (rq_grad_in(a, i))
            RQ_TRY(rq_grad_sum(a, rq_grad_in(a, i), dy));
    return RQ_OK;
}

rq_status rq_eltwise_grad_sub(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_tensor *right = rq_grad_in(a, 1);
    if (!dy)
        return rq_grad_none(a);
    if (right) {
        RQ_TRY(rq_grad_sum(a, right, dy));
        a->k->map[RQ_MAP_NEG](right->f32, right->f32, (size_t)rq_tensor_count(right), 0, 0);
    }
    return rq_grad_in(a, 0) ? rq_grad_sum(a, rq_grad_in(a, 0), dy) : RQ_OK;
}

/* dy v */
static void times(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                  int64_t n)
{
    k->zip[RQ_ZIP_MUL](t, dy, 1, v, sv, (size_t)n);
}

rq_status rq_eltwise_grad_mul(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dy)
        return rq_grad_none(a);
    RQ_TRY(rq_eltwise_grad_input(a, 1, dy, a->in[1], a->in[0], times));
    return rq_eltwise_grad_input(a, 0, dy, a->in[0], a->in[1], times);
}

static void over(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                 int64_t n)
{
    k->zip[RQ_ZIP_DIV](t, dy, 1, v, sv, (size_t)n);
}

/* d(u / v) / dv = -(u / v) / v */
static void divisor(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                    int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float by = v[i * sv];
        t[i] = -dy[i] * (u[i * su] / by / by);
    }
}

rq_status rq_eltwise_grad_div(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dy)
        return rq_grad_none(a);
    RQ_TRY(rq_eltwise_grad_input(a, 1, dy, a->in[0], a->in[1], divisor));
    return rq_eltwise_grad_input(a, 0, dy, a->in[0], a->in[1], over);
}

/* ---- Mean, Min, Max of any number ---- */

rq_status rq_eltwise_grad_mean(const rq_op_args *a)
{
    RQ_TRY(rq_eltwise_grad_add(a));
    const float n = (float)a->n_in;
    for (int i = 0; i < a->n_in; i++) {
        rq_tensor *dx = rq_grad_in(a, i);
        if (dx && n > 1)
            a->k->zip[RQ_ZIP_DIV](dx->f32, dx->f32, 1, &n, 0, (size_t)rq_tensor_count(dx));
    }
    return RQ_OK;
}

/* t = dy (how many operands have been found) + 1 where u is the result v */
static void count_ties(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                       int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = dy[i] + (u[i * su] == v[i * sv] ? 1.0F : 0.0F);
}

typedef struct ties {
    const float *dy, *y, *u, *count;
    float *t;
} ties;

static void share_ties(void *arg, int64_t y, int64_t u, int su, int64_t v, int sv, int64_t n)
{
    const ties *j = arg;
    for (int64_t i = 0; i < n; i++)
        j->t[y + i] = j->u[u + i * su] == j->y[y + i] ? j->dy[y + i] / j->count[y + i] : 0;
}

rq_status rq_eltwise_grad_extreme(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0), *y = a->out[0];
    if (!dy)
        return rq_grad_none(a);
    rq_tensor whole = room(a, 0), count = room(a, rq_eltwise_grad_scratch(a) ? 1 : 0);
    rq_grad_zero(&count);
    for (int i = 0; i < a->n_in; i++)
        fill(a, &count, &count, a->in[i], y, count_ties);
    for (int i = a->n_in - 1; i >= 0; i--) {
        rq_tensor *dx = rq_grad_in(a, i), *to = is_repeated(a, i) ? &whole : dx;
        if (!dx)
            continue;
        ties j = { .dy = dy->f32, .y = y->f32, .u = a->in[i]->f32, .count = count.f32, .t = to->f32 };
        rq_bcast p;
        rq_bcast_init(&p, &y->shape, &a->in[i]->shape, &y->shape);
        rq_bcast_for(&p, a->threads, share_ties, &j);
        RQ_TRY(rq_grad_sum(a, dx, to));
    }
    return RQ_OK;
}

/* ---- Pow ---- */

enum { PIECE = 256 };

/* Exponents of another type come as f32. */
static void pow_base(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                     int64_t n)
{
    const float one = 1;
    float less[PIECE], power[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        const float *x = u + at * su, *e = v + at * sv;
        k->zip[RQ_ZIP_SUB](less, e, sv, &one, 0, (size_t)m);
        k->zip[RQ_ZIP_POW](power, x, su, less, 1, (size_t)m);
        for (int64_t i = 0; i < m; i++) {
            const float p = e[i * sv];
            t[at + i] = p == 0 ? 0 : dy[at + i] * (p * power[i]);
        }
    }
}

static void pow_square(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                       int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = dy[i] * (2 * u[i * su]);
}

static void pow_cube(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                     int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = dy[i] * (3 * (u[i * su] * u[i * su]));
}

/* u^v log u, 0 where u is 0 and v is not negative */
static void pow_exponent(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                         int64_t n)
{
    float power[PIECE], log_u[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        const float *x = u + at * su, *e = v + at * sv;
        k->zip[RQ_ZIP_POW](power, x, su, e, sv, (size_t)m);
        for (int64_t i = 0; i < m; i++)
            log_u[i] = x[i * su];
        k->map[RQ_MAP_LOG](log_u, log_u, (size_t)m, 0, 0);
        for (int64_t i = 0; i < m; i++)
            t[at + i] = x[i * su] == 0 && e[i * sv] >= 0 ? 0 : dy[at + i] * (power[i] * log_u[i]);
    }
}

rq_status rq_eltwise_grad_pow(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0), *e = a->in[1];
    rq_tensor as_f32 = { 0 };
    if (!dy)
        return rq_grad_none(a);
    if (e->dtype != RQ_DTYPE_F32) { /* mostly one whole number */
        RQ_TRY(rq_tensor_create(&as_f32, RQ_DTYPE_F32, &e->shape, false));
        for (int64_t i = 0, n = rq_tensor_count(e); i < n; i++)
            as_f32.f32[i] = (float)rq_tensor_get(e, i);
        e = &as_f32;
    }
    const float p = rq_tensor_count(e) == 1 ? e->f32[0] : 0;
    rq_status s = RQ_OK;
    if (a->in[1]->dtype == RQ_DTYPE_F32)
        s = rq_eltwise_grad_input(a, 1, dy, a->in[0], e, pow_exponent);
    if (s == RQ_OK)
        s = rq_eltwise_grad_input(a, 0, dy, a->in[0], e, p == 2 ? pow_square : p == 3 ? pow_cube : pow_base);
    rq_tensor_release(&as_f32);
    return s;
}

/* ---- Mod: u - v (u / v cut to a whole number) ---- */

static void mod_divisor(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = -dy[i] * floorf(u[i * su] / v[i * sv]);
}

static void fmod_divisor(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                         int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = -dy[i] * truncf(u[i * su] / v[i * sv]);
}

rq_status rq_eltwise_grad_mod(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    const bool fmod = rq_attr_int(a->node, RQ_WORD_fmod, 0) != 0;
    if (!dy)
        return rq_grad_none(a);
    RQ_TRY(rq_eltwise_grad_input(a, 1, dy, a->in[0], a->in[1], fmod ? fmod_divisor : mod_divisor));
    return rq_grad_in(a, 0) ? rq_grad_sum(a, rq_grad_in(a, 0), dy) : RQ_OK;
}

/* ---- PRelu ---- */

static void prelu_slope(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = u[i * su] > 0 ? 0 : dy[i] * u[i * su];
}

static void prelu_input(const rq_kernels *k, float *t, const float *dy, const float *u, int su, const float *v, int sv,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        t[i] = u[i * su] > 0 ? dy[i] : dy[i] * v[i * sv];
}

rq_status rq_eltwise_grad_prelu(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dy)
        return rq_grad_none(a);
    RQ_TRY(rq_eltwise_grad_input(a, 1, dy, a->in[0], a->in[1], prelu_slope));
    return rq_eltwise_grad_input(a, 0, dy, a->in[0], a->in[1], prelu_input);
}
