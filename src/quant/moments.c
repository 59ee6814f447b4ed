/* quant/moments.c — observers that take the scale from means, not from extremes: the starting points of learned step sizes (torch-facts 3.4).
 *   LSQ       2 mean |x| / sqrt(Qp): Esser et al., ICLR 2020, arXiv:1902.08153, section 2.1
 *   LSQ_PLUS  symmetric: max(|mean - 3 sd|, |mean + 3 sd|) / 2^(bits - 1); affine: the width of the batch over Qp - Qn: Bhalgat et al.,
 *             CVPRW 2020, arXiv:2004.09576, section 3.2
 * Each batch replaces the one before. Sums are in double, piece by piece. o->range is the last batch's, o->state its scales. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/observer_row.h"

/* ---- means of each channel ---- */

typedef enum of { OF_VALUE, OF_MAGNITUDE, OF_DEVIATION } of;

typedef struct sums {
    of what;
    const double *centre; /* [channels]; OF_DEVIATION: squares of the distance from it */
    double *sum;          /* [pieces][channels], or [channels] where pieces are channels */
    int64_t channels;
    bool by_channel;
} sums;

/* Lane i % 8 takes element i; what is not finite is the centre, which adds nothing. */
static void add(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    const sums *s = arg;
    enum { LANES = 8, BLOCK = 512 };
    const double centre = s->centre ? s->centre[channel] : 0;
    double sum[LANES] = { 0 }, d[BLOCK], all = 0;
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t here = n - at < BLOCK ? n - at : BLOCK;
        for (size_t i = 0; i < here; i++)
            d[i] = fabsf(x[at + i]) < INFINITY ? x[at + i] - centre : 0;
        if (s->what == OF_MAGNITUDE)
            for (size_t i = 0; i < here; i++)
                d[i] = fabs(d[i]);
        if (s->what == OF_DEVIATION)
            for (size_t i = 0; i < here; i++)
                d[i] *= d[i];
        for (size_t i = here; i % LANES; i++)
            d[i] = 0;
        for (size_t i = 0; i < here; i += LANES)
            for (size_t l = 0; l < LANES; l++)
                sum[l] += d[i + l];
    }
    for (int l = 0; l < LANES; l++)
        all += sum[l];
    s->sum[(s->by_channel ? 0 : piece * s->channels) + channel] += all;
}

/* The mean of a term over the finite elements of each channel, to out[channels]; 0 where there are none. `fewer` is taken from their
 * number. RQ_NO_MEMORY. */
static rq_status means(const rq_observer *o, const rq_observer_batch *b, of what, const double *centre, int fewer,
                       double *out)
{
    const int64_t rows = b->runs.by_channel ? 1 : b->runs.pieces, n = o->channels;
    sums s = { .what = what, .centre = centre, .channels = n, .by_channel = b->runs.by_channel };
    if (!(s.sum = rq_mem_zalloc((size_t)(rows * n), sizeof *s.sum)))
        return RQ_NO_MEMORY;
    rq_runs_walk(&b->runs, b->e, add, &s);
    for (int64_t c = 0; c < n; c++) {
        const double count = (double)b->seen[c].finite - fewer;
        out[c] = 0;
        for (int64_t r = 0; r < rows; r++)
            out[c] += s.sum[r * n + c];
        out[c] = count > 0 ? out[c] / count : 0;
    }
    rq_mem_free(s.sum);
    return RQ_OK;
}

/* ---- scales ---- */

static bool is_symmetric(const rq_observer *o)
{
    return rq_qscheme_is_symmetric(o->cfg.scheme);
}

/* Finite, positive, never denormal. */
static float scale_of(const rq_observer *o, double scale)
{
    return (float)fmin(fmax(scale, (double)fmaxf(o->cfg.eps, FLT_MIN)), FLT_MAX);
}

static rq_status lsq_scales(const rq_observer *o, const rq_observer_batch *b, double *mean, double *spread, float *out)
{
    (void)spread;
    RQ_TRY(means(o, b, OF_MAGNITUDE, NULL, 0, mean));
    for (int c = 0; c < o->channels; c++)
        out[c] = scale_of(o, 2 * mean[c] / sqrt(rq_observer_type(o).hi));
    return RQ_OK;
}

static rq_status lsq_plus_scales(const rq_observer *o, const rq_observer_batch *b, double *mean, double *spread,
                                 float *out)
{
    const rq_qtype type = rq_observer_type(o);
    if (is_symmetric(o)) {
        RQ_TRY(means(o, b, OF_VALUE, NULL, 0, mean));
        RQ_TRY(means(o, b, OF_DEVIATION, mean, 1, spread)); /* unbiased */
    }
    for (int c = 0; c < o->channels; c++) {
        const double lo = fmin(b->seen[c].lo, 0), hi = fmax(b->seen[c].hi, 0), sd3 = 3 * sqrt(spread[c]);
        out[c] = scale_of(o, is_symmetric(o)
                                 ? fmax(fabs(mean[c] - sd3), fabs(mean[c] + sd3)) / ldexp(1, rq_qtype_width(&type) - 1)
                                 : (hi - lo) / ((double)type.hi - type.lo));
    }
    return RQ_OK;
}

/* ---- the rows ---- */

typedef rq_status (*scales_fn)(const rq_observer *o, const rq_observer_batch *b, double *mean, double *spread,
                               float *out);

static rq_status moments_init(rq_observer *o, rq_err *err)
{
    const rq_qtype type = rq_observer_type(o);
    char text[RQ_QTYPE_TEXT];
    if (o->cfg.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS)
        return rq_fail(err, RQ_UNSUPPORTED, "the observer %s has zero points that are codes, no real ones",
                       o->row->name);
    if (type.hi < 1)
        return rq_fail(err, RQ_BAD_ARG, "codes %s have no positive one", rq_qtype_text(&type, text, sizeof text));
    return RQ_OK;
}

static rq_status moments_update(rq_observer *o, const rq_observer_batch *b, scales_fn scales, rq_err *err)
{
    const size_t n = (size_t)o->channels;
    double *mean = rq_mem_zalloc(2 * n, sizeof *mean);
    float *scale = rq_mem_alloc(n, sizeof *scale);
    const rq_status s = mean && scale ? scales(o, b, mean, mean + n, scale) : RQ_NO_MEMORY;
    rq_mem_free(mean);
    if (s) {
        rq_mem_free(scale);
        return rq_fail(err, s, "out of memory observing %d channels", o->channels);
    }
    for (size_t c = 0; c < n; c++) {
        const rq_extremes *x = &b->seen[c];
        if (x->finite)
            o->range[c] = (rq_range) { x->lo, x->hi };
        else if (o->state) /* nothing new: as before */
            scale[c] = ((const float *)o->state)[c];
    }
    rq_mem_free(o->state);
    o->state = scale;
    return RQ_OK;
}

static rq_status lsq_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    return moments_update(o, b, lsq_scales, err);
}

static rq_status lsq_plus_update(rq_observer *o, const rq_observer_batch *b, rq_err *err)
{
    return moments_update(o, b, lsq_plus_scales, err);
}

/* Affine: where the batch begins. Symmetric: 0 for LSQ, which keeps unsigned codes for what is never negative; the middle of the codes for
 * LSQ_PLUS. */
static int32_t zero_of(const rq_observer *o, int c, float scale)
{
    const rq_qtype t = rq_observer_type(o);
    if (is_symmetric(o) && (t.lo < 0 || o->cfg.kind == RQ_OBSERVER_LSQ))
        return t.lo > 0 ? t.lo : 0;
    if (is_symmetric(o))
        return t.lo + (int32_t)(((int64_t)t.hi - t.lo + 1) / 2);
    const float lo = fminf((float)o->range[c].lo, 0);
    return (int32_t)rq_quantize_real_f64((double)(-lo / scale), t.lo, t.lo, t.hi);
}

static float scale_at(const rq_observer *o, int c)
{
    return o->state ? ((const float *)o->state)[c] : scale_of(o, 0);
}

static rq_status moments_qparams(const rq_observer *o, int c, float *scale, int32_t *zero_point, float *zero_point_f,
                                 rq_err *err)
{
    (void)err;
    *scale = scale_at(o, c);
    *zero_point = zero_of(o, c, *scale);
    *zero_point_f = (float)*zero_point;
    return RQ_OK;
}

/* What the codes reach. */
static rq_range moments_range(const rq_observer *o, int c)
{
    const rq_qtype t = rq_observer_type(o);
    const float scale = scale_at(o, c);
    const double zero = zero_of(o, c, scale);
    return (rq_range) { (t.lo - zero) * scale, (t.hi - zero) * scale };
}

static rq_status moments_save(const rq_observer *o, rq_state *s, const char *prefix)
{
    RQ_TRY(rq_observer_save_range(o, s, prefix));
    return rq_state_set_floats(s, prefix, "scale", o->state, o->state ? o->channels : 0);
}

static rq_status moments_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *t, *lo;
    RQ_TRY(rq_state_get(s, prefix, "scale", RQ_DTYPE_F32, 1, &t, err));
    RQ_TRY(rq_state_get(s, prefix, "min_val", RQ_DTYPE_F32, -1, &lo, err));
    const int64_t n = rq_tensor_count(t);
    if (n && n != rq_tensor_count(lo))
        return rq_fail(err, RQ_BAD_SHAPE,
                       "the state has %lld scales and %lld of min_val, expected one of each per channel", (long long)n,
                       (long long)rq_tensor_count(lo));
    for (int64_t c = 0; c < n; c++)
        if (!(t->f32[c] >= FLT_MIN && t->f32[c] <= FLT_MAX))
            return rq_fail(err, RQ_BAD_DATA, "scale %lld of the state is %g, expected a positive number", (long long)c,
                           (double)t->f32[c]);
    float *scale = n ? rq_mem_alloc((size_t)n, sizeof *scale) : NULL;
    if (n && !scale)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for %lld channels", (long long)n);
    const rq_status st = rq_observer_load_range(o, s, prefix, err); /* which resets */
    if (st) {
        rq_mem_free(scale);
        return st;
    }
    if (n)
        memcpy(scale, t->f32, (size_t)n * sizeof *scale);
    o->state = scale;
    return RQ_OK;
}

static void moments_release(rq_observer *o)
{
    rq_mem_free(o->state);
    o->state = NULL;
}

const rq_observer_row rq_observer_lsq = {
    .name = "lsq",
    .title = { "LSQObserver", NULL },
    .per_channel = true,
    .extremes = true,
    .init = moments_init,
    .update = lsq_update,
    .range = moments_range,
    .qparams = moments_qparams,
    .save = moments_save,
    .load = moments_load,
    .reset = moments_release,
    .release = moments_release,
};

const rq_observer_row rq_observer_lsq_plus = {
    .name = "lsq_plus",
    .title = { "LSQPlusObserver", NULL },
    .per_channel = true,
    .extremes = true,
    .init = moments_init,
    .update = lsq_plus_update,
    .range = moments_range,
    .qparams = moments_qparams,
    .save = moments_save,
    .load = moments_load,
    .reset = moments_release,
    .release = moments_release,
};
