/* algo/qat_calibrate.c — scales from calibrators, kept while the weights learn. The prepared network runs in floats (every fake-quantizer off), and each
 * fake-quantizer's calibrator sees what will be quantized; one that stands in several places sees all of them. */
#include <math.h>
#include <string.h>

#include "algo/linear_quantizer.h"
#include "algo/report_priv.h"
#include "base/mem.h"
#include "graph/query.h"
#include "requant/qat.h"

rq_qat_calibrate_cfg rq_qat_calibrate_defaults(void)
{
    return (rq_qat_calibrate_cfg) { .calibrator = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM),
                                    .method = RQ_AMAX_PERCENTILE,
                                    .params = rq_amax_defaults() };
}

void rq_qat_freeze_scales(rq_linear_quantizer *q)
{
    for (int i = 0; i < q->n_fakes; i++) {
        rq_fake_quantizer_enable_observer(q->fakes[i], false);
        rq_fake_quantizer_enable_fake_quant(q->fakes[i], true);
    }
}

typedef struct work {
    rq_linear_quantizer *q;
    rq_calibrator **calibrators; /* [n_fakes]; NULL: fixed */
    rq_exec *exec;
    rq_err *err;
} work;

typedef struct tap {
    const work *w;
    int slot;
} tap;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory calibrating the quantizer");
}

static bool is_fixed(const rq_linear_quantizer *q, int slot)
{
    return q->fake_cfgs[slot].kind == RQ_FAKE_QUANTIZER_FIXED;
}

static bool is_weight(const rq_linear_quantizer *q, int slot)
{
    for (int i = 0; i < q->plan.n_objects; i++)
        if (q->plan.objects[i].slot == slot)
            return q->plan.objects[i].policy == RQ_LQ_WEIGHT;
    return false;
}

/* Codes that begin at 0, and the zero point with them: of what is never negative. */
static bool from_zero(const rq_linear_quantizer *q, int slot)
{
    const rq_observer_cfg *o = &q->fake_cfgs[slot].observer;
    return !rq_qtype_is_signed(&o->type) && !rq_qscheme_is_symmetric(o->scheme);
}

static rq_status make(const work *w, int slot, const rq_qat_calibrate_cfg *cfg)
{
    const rq_observer_cfg *o = &w->q->fake_cfgs[slot].observer;
    rq_calibrator_cfg c = cfg->calibrator;
    if (is_weight(w->q, slot)) {
        c = rq_calibrator_defaults(RQ_CALIBRATOR_MAX);
        if (o->axis != RQ_PER_TENSOR) {
            c.n_axes = 1;
            c.axis[0] = o->axis;
        }
    }
    c.num_bits = rq_qtype_width(&o->type);
    c.is_unsigned = from_zero(w->q, slot);
    return rq_calibrator_create(&w->calibrators[slot], &c, w->err);
}

static rq_status collect(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    const tap *at = arg;
    const rq_strided x = rq_strided_of(t);
    (void)value;
    return rq_calibrator_collect(at->w->calibrators[at->slot], at->w->exec, &x, err);
}

/* The numbers behind amax: scale = amax / (hi - zero point). A tensor of zeros has a scale of 1. */
static rq_status set_scales(const work *w, int slot, const rq_qat_calibrate_cfg *cfg)
{
    const rq_observer_cfg *o = &w->q->fake_cfgs[slot].observer;
    const bool weight = is_weight(w->q, slot);
    const bool middle = !rq_qtype_is_signed(&o->type) && !from_zero(w->q, slot);
    const double zero = middle ? (double)(1 << (rq_qtype_width(&o->type) - 1)) : 0;
    rq_tensor amax = { 0 };
    rq_status s = rq_calibrator_amax(w->calibrators[slot], weight ? RQ_AMAX_MAX : cfg->method,
                                     weight ? NULL : &cfg->params, &amax, w->err);
    if (s != RQ_OK)
        return rq_fail_in(w->err, s, "fake-quantizer '%s'", w->q->names[slot]);
    const int n = (int)rq_tensor_count(&amax);
    float *scale = rq_mem_alloc((size_t)n * 2, sizeof *scale);
    for (int i = 0; i < n && scale; i++) {
        scale[i] = amax.f32[i] > 0 ? fmaxf((float)((double)amax.f32[i] / ((double)o->type.hi - zero)), 0x1p-126f) : 1;
        scale[n + i] = (float)zero;
    }
    s = scale ? rq_fake_quantizer_set_qparams(w->q->fakes[slot], scale, scale + n, n, w->err) : no_memory(w->err);
    rq_mem_free(scale);
    rq_tensor_release(&amax);
    return s;
}

static rq_status walk(const work *w, rq_autograd *a, rq_dataset *data, int64_t batches)
{
    rq_walk walk = { 0 };
    rq_tensor *y = rq_mem_zalloc((size_t)rq_graph_n_outputs(w->q->model) + 1, sizeof *y);
    rq_status s = y && !rq_walk_init(&walk, data, NULL, 0, 0) ? RQ_OK : no_memory(w->err);
    for (int64_t done = 0; s == RQ_OK && (batches <= 0 || done < batches); done++) {
        const rq_feed *feeds;
        const int64_t *rows;
        int n_feeds;
        int64_t n;
        s = rq_walk_next(&walk, &feeds, &n_feeds, &rows, &n, w->err);
        if (s || !n)
            break;
        s = rq_autograd_forward(a, feeds, n_feeds, y, w->err);
    }
    rq_walk_release(&walk);
    rq_mem_free(y);
    return s;
}

/* A tap on what each FakeQuantize node reads. */
static rq_status set_taps(const work *w, rq_autograd *a, tap *taps)
{
    const rq_graph *g = w->q->model;
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const int64_t slot =
            rq_node_is_requant(&g->nodes[i], "FakeQuantize") ? rq_attr_int(&g->nodes[i], RQ_WORD_slot, -1) : -1;
        if (slot < 0 || slot >= w->q->n_fakes || !w->calibrators[slot])
            continue;
        taps[slot] = (tap) { w, (int)slot };
        RQ_TRY(rq_autograd_tap(a, g->values[g->nodes[i].in[0]].name, collect, &taps[slot], w->err));
    }
    return RQ_OK;
}

static rq_status run(const work *w, rq_dataset *data, const rq_qat_calibrate_cfg *cfg)
{
    rq_autograd *a = NULL;
    rq_autograd_cfg c = rq_autograd_defaults();
    c.threads = cfg->threads;
    c.fakes = w->q->fakes;
    c.n_fakes = w->q->n_fakes;
    tap *taps = rq_mem_zalloc((size_t)w->q->n_fakes + 1, sizeof *taps);
    rq_status s = taps ? rq_autograd_create(&a, w->q->model, &c, w->err) : no_memory(w->err);
    for (int i = 0; i < w->q->n_fakes && s == RQ_OK; i++) {
        rq_fake_quantizer_enable_observer(w->q->fakes[i], false);
        rq_fake_quantizer_enable_fake_quant(w->q->fakes[i], false);
        if (!is_fixed(w->q, i))
            s = make(w, i, cfg);
    }
    if (s == RQ_OK)
        s = set_taps(w, a, taps);
    if (s == RQ_OK) {
        rq_autograd_train(a, false);
        s = walk(w, a, data, cfg->batches);
    }
    rq_autograd_destroy(a);
    rq_mem_free(taps);
    for (int i = 0; i < w->q->n_fakes && s == RQ_OK; i++)
        if (w->calibrators[i])
            s = set_scales(w, i, cfg);
    for (int i = 0; i < w->q->n_fakes && s == RQ_OK; i++)
        if (w->q->fake_cfgs[i].kind == RQ_FAKE_QUANTIZER_LEARNABLE)
            s = rq_fake_quantizer_enable_param_learning(w->q->fakes[i], w->err);
    return s;
}

rq_status rq_qat_calibrate(rq_linear_quantizer *q, rq_dataset *data, const rq_qat_calibrate_cfg *cfg, rq_err *err)
{
    const rq_qat_calibrate_cfg usual = rq_qat_calibrate_defaults();
    work w = { .q = q, .err = err };
    cfg = cfg ? cfg : &usual;
    if (!q->model)
        return rq_fail(err, RQ_BAD_ARG, "the quantizer was not prepared, so there is nothing to calibrate");
    if (!rq_qscheme_is_symmetric(rq_linear_quantizer_config_common(q->config)->quantization_scheme))
        return rq_fail(err, RQ_BAD_ARG,
                       "calibrators find the largest magnitude, which says nothing about the zero points "
                       "of quantization_scheme affine; expected symmetric");
    if (cfg->calibrator.n_axes)
        return rq_fail(err, RQ_BAD_ARG, "a calibrator with axes: activations have one scale per tensor");
    w.calibrators = rq_mem_zalloc((size_t)q->n_fakes + 1, sizeof *w.calibrators);
    rq_status s = w.calibrators ? RQ_OK : no_memory(err);
    if (s == RQ_OK)
        s = rq_exec_create(&w.exec, cfg->threads, err);
    if (s == RQ_OK)
        s = run(&w, data, cfg);
    for (int i = 0; w.calibrators && i < q->n_fakes; i++)
        rq_calibrator_destroy(w.calibrators[i]);
    rq_mem_free(w.calibrators);
    rq_exec_destroy(w.exec);
    if (s == RQ_OK)
        rq_qat_freeze_scales(q);
    return s;
}
