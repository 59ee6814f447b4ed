/* quant/calibrator_mse.c — MseCalibrator of ModelOpt: for each candidate, amax times a multiplier, the sum of squared errors of fake
 * quantization over every tensor that passes; the first least one wins (docs/calibration-facts.md 4.8). Sums are f64, made per
 * piece of a cell and added in order, so that threads do not change them. */
#include "quant/calibrator.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "kernels/quantize.h"
#include "quant/exec.h"
#include "tensor/strided.h"

enum { MOST_CANDIDATES = 4096, TILE = 1024, PIECE = 1 << 18 /* of a cell, numbers */ };

static const float LARGEST_E4M3 = 448;

#define TINY 0x1p-24f /* the smallest f16: an amax up to it stands for nothing but zeros */

/* torch.linspace in f32: from either end up to the middle, each number rounded once. */
static void linspace(float *out, float start, float stop, int n)
{
    const float step = n > 1 ? (stop - start) / (float)(n - 1) : 0;
    for (int i = 0; i < n; i++)
        out[i] = i < n / 2 || n == 1 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(n - 1 - i), stop);
}

static rq_status mse_init(rq_calibrator *c, rq_err *err)
{
    const rq_calibrator_cfg *cfg = &c->cfg;
    if (!cfg->amax)
        return rq_fail(err, RQ_BAD_ARG, "MseCalibrator needs an amax to search around");
    if (c->initial.dtype != RQ_DTYPE_F32 || rq_tensor_count(&c->initial) < 1)
        return rq_fail(err, RQ_BAD_ARG,
                       "the amax to search around is %s of %lld numbers, expected f32 and at least one",
                       rq_dtype_name(c->initial.dtype), (long long)rq_tensor_count(&c->initial));
    for (int64_t i = 0; i < rq_tensor_count(&c->initial); i++)
        if (!(c->initial.f32[i] >= 0 && c->initial.f32[i] < INFINITY))
            return rq_fail(err, RQ_BAD_ARG, "amax[%lld] is %g, expected a finite number that is not negative",
                           (long long)i, (double)c->initial.f32[i]);
    const double n = ceil((cfg->stop - cfg->start) / cfg->step_size) + 1;
    if (!(cfg->step_size > 0 && cfg->start > 0 && cfg->stop >= cfg->start && cfg->stop < 1e6 && n <= MOST_CANDIDATES))
        return rq_fail(
            err, RQ_BAD_ARG,
            "candidates from %g to %g by %g, expected 0 < start <= stop, a step above 0 and at most %d of them",
            cfg->start, cfg->stop, cfg->step_size, MOST_CANDIDATES);
    c->candidates = (int)n;
    c->multiplier = rq_mem_alloc((size_t)c->candidates, sizeof *c->multiplier);
    if (!c->multiplier)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for %d candidates", c->candidates);
    linspace(c->multiplier, (float)cfg->start, (float)cfg->stop, c->candidates);
    return RQ_OK;
}

static float candidate(const rq_calibrator *c, int64_t cell, int i)
{
    const float amax = c->initial.f32[rq_tensor_count(&c->initial) == 1 ? 0 : cell];
    return amax * c->multiplier[i];
}

/* y = what x becomes with this amax; x is finite. */
static void fake_quantize(const rq_calibrator *c, const rq_kernels *k, float *y, const float *x, size_t n, float amax)
{
    if (!(amax > TINY)) {
        memset(y, 0, n * sizeof *y);
    } else if (c->cfg.e4m3) {
        const float f = 1 / amax * LARGEST_E4M3; /* as rq_scaled_e4m3 */
        for (size_t i = 0; i < n; i++)
            y[i] = fabsf(x[i]) < TINY ? 0 : rq_quantize_float(x[i] * f, 3, -6, LARGEST_E4M3) * (1 / f);
    } else {
        const float most = (float)(rq_calibrator_levels(c->cfg.num_bits, c->cfg.is_unsigned) - 1);
        const rq_fakequant p = { .in = most / amax,
                                 .out = most / amax,
                                 .inside = -0.0f,
                                 .after = -0.0f,
                                 .back = -0.0f,
                                 .lo = c->cfg.is_unsigned    ? 0
                                       : c->cfg.narrow_range ? -most
                                                             : -most - 1,
                                 .hi = most,
                                 .undivide = true };
        k->fakequant(y, NULL, x, n, &p);
    }
}

struct job {
    const rq_calibrator *c;
    const rq_runs *r;
    int64_t per_cell; /* pieces */
    rq_kernels k;
    double *sum; /* [cells * per_cell][candidates] */
};

static void measure_piece(void *arg, int64_t item)
{
    const struct job *j = arg;
    const int64_t cell = item / j->per_cell, from = item % j->per_cell * PIECE;
    const int64_t to = from + PIECE < j->r->rest ? from + PIECE : j->r->rest;
    const rq_strided v = rq_runs_channel(j->r, cell);
    double *sum = j->sum + item * j->c->candidates;
    float tile[TILE], x[TILE], y[TILE];
    memset(sum, 0, (size_t)j->c->candidates * sizeof *sum);
    for (int64_t at = from; at < to; at += TILE) {
        const size_t n = (size_t)(to - at < TILE ? to - at : TILE);
        const float *read = rq_strided_read(&v, at, (int64_t)n, tile);
        for (size_t i = 0; i < n; i++)
            x[i] = fabsf(read[i]) < INFINITY ? read[i] : 0; /* which costs nothing */
        for (int i = 0; i < j->c->candidates; i++) {
            fake_quantize(j->c, &j->k, y, x, n, candidate(j->c, cell, i));
            sum[i] += j->k.squares(x, y, n);
        }
    }
}

static rq_status mse_collect(rq_calibrator *c, rq_exec *e, const rq_runs *r, const rq_extremes *x, rq_err *err)
{
    const int64_t per_cell = (r->rest + PIECE - 1) / PIECE;
    const size_t items = (size_t)(c->cells * per_cell), candidates = (size_t)c->candidates;
    const int64_t given = rq_tensor_count(&c->initial);
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    if (given != 1 && !rq_shape_equal(&c->initial.shape, &c->keep))
        return rq_fail(err, RQ_BAD_SHAPE, "the amax to search around is %s, but the batch has amaxs %s",
                       rq_shape_text(&c->initial.shape, a, sizeof a), rq_shape_text(&c->keep, b, sizeof b));
    if (c->cfg.is_unsigned)
        for (int64_t i = 0; i < c->cells; i++)
            if (x[i].lo < 0)
                return rq_fail(err, RQ_BAD_ARG, "Negative values encountered in unsigned quantization.");
    size_t bytes;
    double *sum = rq_mem_mul(items, candidates, &bytes) ? rq_mem_alloc(bytes, sizeof *sum) : NULL;
    double *loss = c->loss ? c->loss : rq_mem_zalloc((size_t)c->cells, candidates * sizeof *loss);
    if (!sum || !loss) {
        rq_mem_free(sum);
        if (!c->loss)
            rq_mem_free(loss);
        return rq_fail(err, RQ_NO_MEMORY, "no memory for the losses of %d candidates", c->candidates);
    }
    c->loss = loss;
    struct job j = { .c = c, .r = r, .per_cell = per_cell, .k = rq_exec_kernels(e), .sum = sum };
    rq_threads_for(rq_exec_pool(e), (int64_t)items, measure_piece, &j);
    for (size_t item = 0; item < items; item++)
        for (size_t i = 0; i < candidates; i++)
            loss[i * (size_t)c->cells + item / (size_t)per_cell] += sum[item * candidates + i];
    rq_mem_free(sum);
    return RQ_OK;
}

static rq_status mse_amax(rq_calibrator *c, rq_amax_method m, const rq_amax_params *p, float *out, rq_err *err)
{
    (void)p;
    if (m != RQ_AMAX_MSE)
        return rq_calibrator_unknown(c, m, err);
    for (int64_t cell = 0; cell < c->cells; cell++) {
        int best = 0;
        for (int i = 1; i < c->candidates; i++)
            if (c->loss[i * c->cells + cell] < c->loss[best * c->cells + cell])
                best = i;
        out[cell] = candidate(c, cell, best);
    }
    return RQ_OK;
}

static rq_status mse_reset(rq_calibrator *c)
{
    rq_mem_free(c->loss);
    c->loss = NULL;
    return RQ_OK;
}

rq_status rq_calibrator_losses(const rq_calibrator *c, rq_tensor *losses, rq_tensor *multipliers, rq_err *err)
{
    rq_tensor a, b;
    if (c->cfg.kind != RQ_CALIBRATOR_MSE)
        return rq_fail(err, RQ_BAD_ARG, "%s has no losses", rq_calibrator_name(c));
    if (!c->loss)
        return rq_fail(err, RQ_NOT_FOUND, "there are no losses yet: nothing was collected");
    const int64_t dim[2] = { c->candidates, c->cells };
    const rq_shape both = rq_shape_of(2, dim), one = rq_shape_of(1, dim);
    if (rq_tensor_create(&a, RQ_DTYPE_F64, &both, false))
        return rq_fail(err, RQ_NO_MEMORY, "no memory for the losses");
    if (rq_tensor_create(&b, RQ_DTYPE_F32, &one, false)) {
        rq_tensor_release(&a);
        return rq_fail(err, RQ_NO_MEMORY, "no memory for the multipliers");
    }
    memcpy(a.f64, c->loss, a.bytes);
    memcpy(b.f32, c->multiplier, b.bytes);
    if (losses)
        *losses = a;
    else
        rq_tensor_release(&a);
    if (multipliers)
        *multipliers = b;
    else
        rq_tensor_release(&b);
    return RQ_OK;
}

/* ---- keeping ---- */

static rq_status mse_save(const rq_calibrator *c, rq_state *s, const char *prefix)
{
    const int64_t dim[2] = { c->candidates, c->cells };
    const rq_shape shape = rq_shape_of(2, dim);
    const rq_tensor loss = rq_tensor_view(RQ_DTYPE_F64, &shape, c->loss);
    int64_t keep[RQ_MAX_RANK];
    memcpy(keep, c->keep.dim, sizeof keep);
    RQ_TRY(rq_state_set(s, prefix, "_initial_amax", &c->initial));
    RQ_TRY(rq_state_set_ints(s, prefix, "_keep", keep, c->keep.rank));
    return rq_state_set(s, prefix, "_losses_sum", &loss);
}

static rq_status mse_load(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *initial, *keep, *loss;
    RQ_TRY(rq_state_get(s, prefix, "_initial_amax", RQ_DTYPE_F32, -1, &initial, err));
    RQ_TRY(rq_state_get(s, prefix, "_keep", RQ_DTYPE_S64, 1, &keep, err));
    RQ_TRY(rq_state_get(s, prefix, "_losses_sum", RQ_DTYPE_F64, 2, &loss, err));
    if (!rq_shape_equal(&initial->shape, &c->initial.shape) ||
        memcmp(initial->f32, c->initial.f32, c->initial.bytes) != 0)
        return rq_fail(err, RQ_BAD_DATA, "the state searched around another amax");
    const int64_t rank = rq_tensor_count(keep);
    if (rank > RQ_MAX_RANK)
        return rq_fail(err, RQ_BAD_SHAPE, "_keep has %lld sizes, expected at most %d", (long long)rank, RQ_MAX_RANK);
    const rq_shape shape = rq_shape_of((int)rank, keep->s64);
    if (rq_shape_check(&shape) || rq_shape_count(&shape) < 1 || loss->shape.dim[0] != c->candidates ||
        loss->shape.dim[1] != rq_shape_count(&shape))
        return rq_fail(err, RQ_BAD_SHAPE,
                       "_losses_sum is [%lld,%lld], expected %d candidates of as many amaxs as _keep says",
                       (long long)loss->shape.dim[0], (long long)loss->shape.dim[1], c->candidates);
    for (int64_t i = 0; i < rq_tensor_count(loss); i++)
        if (!(loss->f64[i] >= 0 && loss->f64[i] < INFINITY))
            return rq_fail(err, RQ_BAD_DATA, "_losses_sum[%lld] is %g, expected a sum of squares", (long long)i,
                           loss->f64[i]);
    c->loss = rq_mem_alloc((size_t)rq_tensor_count(loss), sizeof *c->loss);
    if (!c->loss)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for the losses");
    memcpy(c->loss, loss->f64, loss->bytes);
    c->keep = shape;
    c->cells = loss->shape.dim[1];
    return RQ_OK;
}

static void mse_text(const rq_calibrator *c, char *buf, size_t n)
{
    rq_number_print(buf, n, "MseCalibrator(start=%g stop=%g candidates=%d)", c->cfg.start, c->cfg.stop, c->candidates);
}

const rq_calibrator_row rq_calibrator_mse = {
    .name = "MseCalibrator",
    .init = mse_init,
    .looks = true,
    .collect = mse_collect,
    .amax = mse_amax,
    .reset = mse_reset,
    .save = mse_save,
    .load = mse_load,
    .text = mse_text,
};
