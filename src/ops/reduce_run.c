/* ops/reduce_run.c — the walk behind every reduction (ops/reduce.h): f32, f64, and integers widened to 64 bits. */
#include <math.h>

#include "ops/bcast.h"
#include "ops/reduce.h"

enum { TILE = 64, LINE = 16, WORK = 32768 }; /* columns at a time, and at least; elements worth a thread's while */

void rq_reduce_plan_init(rq_reduce_plan *p, const rq_shape *x, const bool *reduced)
{
    *p = (rq_reduce_plan) { .outputs = 1, .group = 1, .row = 1 };
    int64_t stride = 1;
    int before = -1; /* what the axis to the right is: kept 0, reduced 1 */
    /* from the innermost axis out, appended; then turned around */
    for (int i = x->rank - 1; i >= 0; i--) {
        const int64_t n = x->dim[i];
        if (reduced[i])
            p->group *= n;
        else
            p->outputs *= n;
        if (n == 1)
            continue;
        int64_t *size = reduced[i] ? p->red : p->kept, *step = reduced[i] ? p->red_stride : p->kept_stride;
        int *count = reduced[i] ? &p->n_red : &p->n_kept;
        if (before == reduced[i]) {
            size[*count - 1] *= n;
        } else {
            size[*count] = n;
            step[(*count)++] = stride;
        }
        before = reduced[i];
        stride *= n;
    }
    for (int side = 0; side < 2; side++) {
        int64_t *size = side ? p->red : p->kept, *step = side ? p->red_stride : p->kept_stride;
        const int n = side ? p->n_red : p->n_kept;
        for (int i = 0; i < n / 2; i++) {
            const int64_t s = size[i], t = step[i];
            size[i] = size[n - 1 - i];
            step[i] = step[n - 1 - i];
            size[n - 1 - i] = s;
            step[n - 1 - i] = t;
        }
    }
    if (p->n_red && p->red_stride[p->n_red - 1] == 1)
        p->row = p->red[p->n_red - 1];
}

static rq_fold_id fold_of(rq_reduce kind)
{
    switch (kind) {
    case RQ_REDUCE_MAX:
        return RQ_FOLD_MAX;
    case RQ_REDUCE_MIN:
        return RQ_FOLD_MIN;
    case RQ_REDUCE_PROD:
        return RQ_FOLD_PROD;
    case RQ_REDUCE_L1:
        return RQ_FOLD_ABS;
    case RQ_REDUCE_L2:
    case RQ_REDUCE_SUM_SQUARE:
        return RQ_FOLD_SQUARE;
    case RQ_REDUCE_LOG_SUM_EXP:
        return RQ_FOLD_EXP;
    default:
        return RQ_FOLD_SUM;
    }
}

static double finish(rq_reduce kind, double v, int64_t n)
{
    switch (kind) {
    case RQ_REDUCE_MEAN:
        return v / (double)n;
    case RQ_REDUCE_L2:
        return sqrt(v);
    case RQ_REDUCE_LOG_SUM: {
        double y;
        rq_map_f64[RQ_MAP_LOG](&y, &v, 1, 0, 0);
        return y;
    }
    default:
        return v;
    }
}

static double log_sum(double sum, double c)
{
    return c + finish(RQ_REDUCE_LOG_SUM, sum, 1);
}

#define T float
#define ACC double
#define SUFFIX f32
#define FOLD(k, f, x, n, c) ((k)->fold[f](x, n, c))
#define FINISH(kind, v, n) ((float)finish(kind, v, n))
#define LOWEST -INFINITY
#define HIGHEST INFINITY
#define ADD(a, b) ((a) + (b))
#define MUL(a, b) ((a) * (b))
#define ABS(a) fabs(a)
#define IS_FINITE(v) isfinite(v)
#define IS_NAN(v) isnan(v)
#define LOG_SUM(sum, c) ((float)log_sum(sum, c))
#include "ops/reduce_tmpl.h"

#define T double
#define ACC double
#define SUFFIX f64
#define FOLD(k, f, x, n, c) (rq_fold_f64[f](x, n, c))
#define FINISH(kind, v, n) finish(kind, v, n)
#define LOWEST -INFINITY
#define HIGHEST INFINITY
#define ADD(a, b) ((a) + (b))
#define MUL(a, b) ((a) * (b))
#define ABS(a) fabs(a)
#define IS_FINITE(v) isfinite(v)
#define IS_NAN(v) isnan(v)
#define LOG_SUM(sum, c) log_sum(sum, c)
#include "ops/reduce_tmpl.h"

/* Integers: sums and products wrap, as unsigned ones may. */
static inline int64_t wrap_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline int64_t wrap_mul(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

static inline int64_t wrap_abs(int64_t a)
{
    return a < 0 ? (int64_t)(0 - (uint64_t)a) : a;
}

static int64_t fold_s64(rq_fold_id f, const int64_t *x, size_t n)
{
    int64_t acc = f == RQ_FOLD_MAX ? INT64_MIN : f == RQ_FOLD_MIN ? INT64_MAX : f == RQ_FOLD_PROD;
    for (size_t i = 0; i < n; i++)
        switch (f) {
        case RQ_FOLD_MAX:
            acc = x[i] > acc ? x[i] : acc;
            break;
        case RQ_FOLD_MIN:
            acc = x[i] < acc ? x[i] : acc;
            break;
        case RQ_FOLD_PROD:
            acc = wrap_mul(acc, x[i]);
            break;
        case RQ_FOLD_ABS:
            acc = wrap_add(acc, wrap_abs(x[i]));
            break;
        case RQ_FOLD_SQUARE:
            acc = wrap_add(acc, wrap_mul(x[i], x[i]));
            break;
        default:
            acc = wrap_add(acc, x[i]);
        }
    return acc;
}

#define T int64_t
#define ACC int64_t
#define SUFFIX s64
#define FOLD(k, f, x, n, c) fold_s64(f, x, n)
#define FINISH(kind, v, n) ((kind) == RQ_REDUCE_MEAN ? ((n) ? (v) / (n) : 0) : (v))
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#define ADD(a, b) wrap_add(a, b)
#define MUL(a, b) wrap_mul(a, b)
#define ABS(a) wrap_abs(a)
#define IS_FINITE(v) 1
#define IS_NAN(v) 0
#define LOG_SUM(sum, c) ((sum) + (c)) /* not reached: goes through f64 */
#include "ops/reduce_tmpl.h"

/* Every element converted; d is F64 or S64. */
static rq_status converted(rq_tensor *t, const rq_tensor *x, rq_dtype d)
{
    RQ_TRY(rq_tensor_create(t, d, &x->shape, false));
    for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++)
        if (d == RQ_DTYPE_S64)
            t->s64[i] = rq_tensor_get_int(x, i);
        else
            t->f64[i] = rq_tensor_get(x, i);
    return RQ_OK;
}

static void store_int(rq_tensor *y, int64_t i, int64_t v)
{
    if (y->dtype == RQ_DTYPE_S64 || y->dtype == RQ_DTYPE_U64) {
        y->s64[i] = v;
        return;
    }
    if (y->dtype == RQ_DTYPE_BOOL) {
        y->u8[i] = v > 0;
        return;
    }
    /* wrapped into the type, except that the neutral elements of Max and Min become its limits */
    int64_t lo, hi;
    rq_dtype_limits(y->dtype, &lo, &hi);
    if (v == INT64_MIN || v == INT64_MAX)
        v = v < 0 ? lo : hi;
    else if (v < lo || v > hi) {
        const uint64_t span = (uint64_t)(hi - lo) + 1;
        v = lo + (int64_t)(((uint64_t)v - (uint64_t)lo) % span);
    }
    rq_tensor_set(y, i, (double)v);
}

static rq_status run_ints(const rq_op_args *a, const rq_reduce_plan *p, rq_reduce kind, rq_tensor *y,
                          const rq_tensor *x)
{
    const bool real = kind == RQ_REDUCE_L2 || kind == RQ_REDUCE_LOG_SUM || kind == RQ_REDUCE_LOG_SUM_EXP;
    const rq_dtype d = real ? RQ_DTYPE_F64 : RQ_DTYPE_S64;
    rq_tensor xt = { 0 }, yt = { 0 };
    rq_status s = converted(&xt, x, d);
    if (s == RQ_OK)
        s = rq_tensor_create(&yt, d, &y->shape, false);
    if (s == RQ_OK && real) {
        run_f64(a, p, kind, yt.f64, xt.f64);
        for (int64_t i = 0; i < p->outputs; i++)
            rq_tensor_set(y, i, trunc(yt.f64[i]));
    } else if (s == RQ_OK) {
        run_s64(a, p, kind, yt.s64, xt.s64);
        for (int64_t i = 0; i < p->outputs; i++)
            store_int(y, i, yt.s64[i]);
    }
    rq_tensor_release(&xt);
    rq_tensor_release(&yt);
    return s;
}

rq_status rq_reduce_run(const rq_op_args *a, const rq_reduce_plan *p, rq_reduce kind, rq_tensor *y, const rq_tensor *x)
{
    if (x->dtype == RQ_DTYPE_F32) {
        run_f32(a, p, kind, y->f32, x->f32);
        return RQ_OK;
    }
    if (x->dtype == RQ_DTYPE_F64) {
        run_f64(a, p, kind, y->f64, x->f64);
        return RQ_OK;
    }
    if ((rq_dtype_is_integer(x->dtype) && rq_dtype_bits(x->dtype) >= 8) || x->dtype == RQ_DTYPE_BOOL)
        return run_ints(a, p, kind, y, x);
    return rq_op_no_form(a, x->dtype);
}
