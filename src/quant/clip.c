/* quant/clip.c — y = max(min(x, hi), lo) and its gradients; see requant/tensor_quant.h. Sums are taken per tile and the tiles added in order,
 * so that they do not depend on threads. */
#include "requant/tensor_quant.h"

#include "base/mem.h"
#include "quant/amax_fit.h"
#include "quant/exec.h"
#include "tensor/strided.h"

enum { TILE = 1024 };

typedef struct clip_job {
    const rq_strided *y, *dy, *x; /* dy NULL: forward */
    rq_strided lo, hi;            /* spread over x */
    double (*sum)[2];             /* [tiles], at lo and at hi; backward */
} clip_job;

static void clip_tile_f64(const clip_job *j, int64_t at, int64_t n, double sum[2])
{
    double x[TILE], lo[TILE], hi[TILE], dy[TILE];
    rq_strided_read_f64(j->x, at, n, x);
    rq_strided_read_f64(&j->lo, at, n, lo);
    rq_strided_read_f64(&j->hi, at, n, hi);
    if (j->dy)
        rq_strided_read_f64(j->dy, at, n, dy);
    for (int64_t k = 0; k < n; k++) { /* comparisons are false for NaN, which stays, without gradient */
        const double v = x[k] > hi[k] ? hi[k] : x[k];
        if (!j->dy) {
            x[k] = v < lo[k] ? lo[k] : v;
        } else {
            sum[0] += x[k] <= lo[k] ? dy[k] : 0;
            sum[1] += x[k] >= hi[k] ? dy[k] : 0;
            x[k] = x[k] > lo[k] && x[k] < hi[k] ? dy[k] : 0;
        }
    }
    rq_strided_write_f64(j->y, at, n, x);
}

static void clip_tile_f32(const clip_job *j, int64_t at, int64_t n, double sum[2])
{
    float xt[TILE], lot[TILE], hit[TILE], dyt[TILE], y[TILE];
    const float *x = rq_strided_read(j->x, at, n, xt), *lo = rq_strided_read(&j->lo, at, n, lot),
                *hi = rq_strided_read(&j->hi, at, n, hit);
    const float *dy = j->dy ? rq_strided_read(j->dy, at, n, dyt) : NULL;
    for (int64_t k = 0; !dy && k < n; k++) {
        const float v = x[k] > hi[k] ? hi[k] : x[k];
        y[k] = v < lo[k] ? lo[k] : v;
    }
    for (int64_t k = 0; dy && k < n; k++) {
        sum[0] += x[k] <= lo[k] ? (double)dy[k] : 0;
        sum[1] += x[k] >= hi[k] ? (double)dy[k] : 0;
        y[k] = x[k] > lo[k] && x[k] < hi[k] ? dy[k] : 0;
    }
    rq_strided_write(j->y, at, n, y);
}

static void clip_tile(void *arg, int64_t i)
{
    const clip_job *j = arg;
    double sum[2] = { 0, 0 };
    const int64_t left = rq_shape_count(&j->x->shape) - i * TILE, n = left < TILE ? left : TILE;
    if (j->x->dtype == RQ_DTYPE_F64)
        clip_tile_f64(j, i * TILE, n, sum);
    else
        clip_tile_f32(j, i * TILE, n, sum);
    if (j->sum) {
        j->sum[i][0] = sum[0];
        j->sum[i][1] = sum[1];
    }
}

/* A bound as a tensor of x's shape. */
static rq_status spread(rq_strided *out, const rq_strided *bound, const char *what, const rq_strided *x, rq_err *err)
{
    RQ_TRY(rq_strided_check(bound, what, true, err));
    *out = *bound;
    out->shape = x->shape;
    return rq_amax_fit_broadcast(out->stride, &x->shape, bound, what, err);
}

static int64_t tiles(const rq_strided *x)
{
    return (rq_shape_count(&x->shape) + TILE - 1) / TILE;
}

rq_status rq_clip(rq_exec *e, const rq_strided *y, const rq_strided *x, const rq_strided *lo, const rq_strided *hi,
                  rq_err *err)
{
    clip_job j = { .y = y, .x = x };
    RQ_TRY(rq_strided_check(x, "x", true, err));
    RQ_TRY(rq_strided_check_like(y, "y", x, "x", true, err));
    RQ_TRY(spread(&j.lo, lo, "lo", x, err));
    RQ_TRY(spread(&j.hi, hi, "hi", x, err));
    rq_threads_for(rq_exec_pool(e), tiles(x), clip_tile, &j);
    return RQ_OK;
}

static rq_status check_single(const rq_strided *bound, const char *what, const double *wanted, rq_err *err)
{
    if (wanted && rq_shape_count(&bound->shape) != 1) {
        char text[RQ_SHAPE_TEXT];
        return rq_fail(err, RQ_BAD_SHAPE, "Learnable min/max can only be scalar: %s has the shape %s", what,
                       rq_shape_text(&bound->shape, text, sizeof text));
    }
    return RQ_OK;
}

rq_status rq_clip_backward(rq_exec *e, const rq_strided *dx, double *dlo, double *dhi, const rq_strided *dy,
                           const rq_strided *x, const rq_strided *lo, const rq_strided *hi, rq_err *err)
{
    clip_job j = { .y = dx, .dy = dy, .x = x };
    RQ_TRY(rq_strided_check(dy, "dy", true, err));
    RQ_TRY(rq_strided_check_like(dx, "dx", dy, "dy", true, err));
    RQ_TRY(rq_strided_check_like(x, "x", dy, "dy", true, err));
    RQ_TRY(spread(&j.lo, lo, "lo", x, err));
    RQ_TRY(spread(&j.hi, hi, "hi", x, err));
    RQ_TRY(check_single(lo, "lo", dlo, err));
    RQ_TRY(check_single(hi, "hi", dhi, err));
    j.sum = rq_mem_alloc((size_t)tiles(x), sizeof *j.sum);
    if (!j.sum)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for the gradients of the bounds");
    rq_threads_for(rq_exec_pool(e), tiles(x), clip_tile, &j);
    double sum[2] = { 0, 0 };
    for (int64_t i = 0; i < tiles(x); i++) {
        sum[0] += j.sum[i][0];
        sum[1] += j.sum[i][1];
    }
    if (dlo)
        *dlo = sum[0];
    if (dhi)
        *dhi = sum[1];
    rq_mem_free(j.sum);
    return RQ_OK;
}
