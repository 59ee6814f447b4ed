/* quant/reduce_amax.c — the largest |x| along axes; see requant/tensor_quant.h. x is cut into parts, each with maxima of its own, which are
 * folded at the end: a maximum does not depend on the order, so neither do threads matter. */
#include "requant/tensor_quant.h"

#include <math.h>

#include "base/mem.h"
#include "quant/amax_fit.h"
#include "quant/exec.h"
#include "tensor/strided.h"

enum { TILE = 1024, MOST_PARTS = 64 };

typedef struct amax_job {
    rq_kernels k;
    const rq_strided *x;
    rq_strided cell; /* shape of x, strides of the maxima; no data */
    int64_t parts, tiles, cells;
    bool compat;
    double *most; /* [parts][cells] */
    rq_reduce_amax_info *info;
} amax_job;

/* Larger of two, NaN the largest. */
static double larger(double a, double b)
{
    return b > a || isnan(b) ? b : a;
}

/* Where the maximum of element `at` lies, and by how much that moves along the last axis. */
static int64_t cell_of(const rq_strided *cell, int64_t at)
{
    int64_t off = 0;
    for (int i = cell->shape.rank - 1; i >= 0; i--) {
        off += at % cell->shape.dim[i] * cell->stride[i];
        at /= cell->shape.dim[i];
    }
    return off;
}

/* One element at a time, with everything counted. */
static void fold_each(const amax_job *j, double *to, int64_t step, rq_reduce_amax_info *info, const double *x,
                      int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double v = fabs(x[i]);
        const bool finite = v < HUGE_VAL;
        info->count += finite;
        info->nan += isnan(v);
        info->infinite += v == HUGE_VAL;
        if (finite || j->compat)
            to[i * step] = larger(to[i * step], v);
    }
}

/* Finite f32 numbers that share a maximum, or have one each in a row: false where they are not all finite. */
static bool fold_fast(const amax_job *j, double *to, int64_t step, rq_reduce_amax_info *info, const float *x, int64_t n)
{
    float lo, hi;
    size_t finite;
    j->k.minmax(x, (size_t)n, &lo, &hi, &finite);
    if (finite != (size_t)n)
        return false;
    info->count += finite;
    if (step == 0) {
        *to = larger(*to, larger(fabs((double)lo), fabs((double)hi)));
        return true;
    }
    for (int64_t i = 0; i < n; i++) { /* the last axis is kept: its maxima lie in a row; NaN among them stays */
        const double v = (double)fabsf(x[i]);
        to[i] = v > to[i] ? v : to[i];
    }
    return true;
}

/* Elements at..at+n-1, in runs along the last axis. */
static void fold_tile(const amax_job *j, double *most, rq_reduce_amax_info *info, int64_t at, int64_t n)
{
    float tile[TILE];
    double wide[TILE];
    const bool f64 = j->x->dtype == RQ_DTYPE_F64, alone = j->cells == 1; /* nothing is kept: the tile is one run */
    const float *x = f64 ? NULL : rq_strided_read(j->x, at, n, tile);
    const int last = j->x->shape.rank - 1;
    const int64_t row = alone ? n : j->x->shape.dim[last], step = alone ? 0 : j->cell.stride[last],
                  begin = alone ? 0 : at;
    for (int64_t k = 0; k < n;) {
        const int64_t left = row - (begin + k) % row, run = left < n - k ? left : n - k;
        double *to = most + (alone ? 0 : cell_of(&j->cell, at + k));
        if (f64 || !fold_fast(j, to, step, info, x + k, run)) {
            rq_strided_read_f64(j->x, at + k, run, wide);
            fold_each(j, to, step, info, wide, run);
        }
        k += run;
    }
}

static void fold_part(void *arg, int64_t part)
{
    const amax_job *j = arg;
    double *most = j->most + part * j->cells;
    const int64_t first = j->tiles * part / j->parts, end = j->tiles * (part + 1) / j->parts,
                  count = rq_shape_count(&j->x->shape);
    for (int64_t i = 0; i < j->cells; i++)
        most[i] = 0;
    j->info[part] = (rq_reduce_amax_info) { 0 };
    for (int64_t t = first; t < end; t++) {
        const int64_t at = t * TILE, n = count - at < TILE ? count - at : TILE;
        fold_tile(j, most, &j->info[part], at, n);
    }
}

/* Which axes are folded. */
static rq_status folded_axes(bool folded[RQ_MAX_RANK], const rq_shape *x, const rq_reduce_amax_cfg *cfg, rq_err *err)
{
    if (cfg->n_axes > x->rank)
        return rq_fail(err, RQ_BAD_ARG, "Cannot reduce more axes than tensor's dim.: %d axes, rank %d", cfg->n_axes,
                       x->rank);
    for (int i = 0; i < x->rank; i++)
        folded[i] = cfg->n_axes == 0;
    for (int i = 0; i < cfg->n_axes; i++) {
        int at;
        RQ_TRY(rq_amax_fit_axis(&at, cfg->axis[i], x->rank, err));
        if (folded[at])
            return rq_fail(err, RQ_BAD_ARG, "axis %d is there twice", at);
        folded[at] = true;
    }
    return RQ_OK;
}

rq_status rq_reduce_amax(rq_exec *e, rq_tensor *out, const rq_strided *x, const rq_reduce_amax_cfg *cfg,
                         rq_reduce_amax_info *info, rq_err *err)
{
    const rq_reduce_amax_cfg all = { 0 };
    bool folded[RQ_MAX_RANK] = { false };
    *out = (rq_tensor) { 0 };
    cfg = cfg ? cfg : &all;
    RQ_TRY(rq_strided_check(x, "x", true, err));
    RQ_TRY(folded_axes(folded, &x->shape, cfg, err));

    amax_job j = { .k = rq_exec_kernels(e), .x = x, .cell.shape = x->shape, .cells = 1, .compat = cfg->compat };
    rq_shape shape = { .rank = 0 };
    for (int i = x->shape.rank - 1; i >= 0; i--)
        if (!folded[i]) {
            j.cell.stride[i] = j.cells;
            j.cells *= x->shape.dim[i];
        }
    for (int i = 0; i < x->shape.rank; i++)
        if (!folded[i] || cfg->keepdims)
            shape.dim[shape.rank++] = folded[i] ? 1 : x->shape.dim[i];
    if (j.cells == 1)
        shape.rank = 0;

    const int64_t count = rq_shape_count(&x->shape), share = 65536 + 8 * j.cells;
    j.tiles = (count + TILE - 1) / TILE;
    j.parts = count / share + 1 < MOST_PARTS ? count / share + 1 : MOST_PARTS;
    j.most = rq_mem_alloc((size_t)(j.parts * j.cells), sizeof *j.most);
    j.info = rq_mem_alloc((size_t)j.parts, sizeof *j.info);
    rq_status st = RQ_NO_MEMORY;
    if (j.most && j.info)
        st = rq_tensor_create(out, x->dtype == RQ_DTYPE_F64 ? RQ_DTYPE_F64 : RQ_DTYPE_F32, &shape, false);
    if (st) {
        rq_fail(err, st, "no memory for %lld amaxs", (long long)j.cells);
        goto done;
    }
    rq_threads_for(rq_exec_pool(e), j.parts, fold_part, &j);
    rq_reduce_amax_info sum = { 0 };
    for (int64_t p = 0; p < j.parts; p++) {
        sum.count += j.info[p].count;
        sum.nan += j.info[p].nan;
        sum.infinite += j.info[p].infinite;
    }
    if (info)
        *info = sum;
    for (int64_t c = 0; c < j.cells; c++) {
        double most = 0;
        for (int64_t p = 0; p < j.parts; p++)
            most = larger(most, j.most[p * j.cells + c]);
        rq_tensor_set(out, c, most);
    }
done:
    rq_mem_free(j.most);
    rq_mem_free(j.info);
    return st;
}
