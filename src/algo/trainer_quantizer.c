/* algo/trainer_quantizer.c — a trainer's LinearQuantizer: its fake-quantizers switched, calibrated, kept. */
#include <stdio.h>
#include <string.h>

#include "algo/linear_quantizer.h"
#include "algo/report_priv.h"
#include "algo/trainer.h"
#include "base/clock.h"
#include "base/mem.h"

rq_graph *rq_trainer_quantizer_model(rq_linear_quantizer *q)
{
    return rq_linear_quantizer_model(q);
}

int rq_trainer_quantizer_fakes(const rq_trainer *t, rq_fake_quantizer *const **fakes)
{
    return t->q ? rq_linear_quantizer_fakes(t->q, fakes, NULL) : 0;
}

bool rq_trainer_quantizer_is_on(const rq_trainer *t)
{
    rq_fake_quantizer *const *fakes = NULL;
    const int n = rq_trainer_quantizer_fakes(t, &fakes);
    bool all = n > 0;
    for (int i = 0; i < n; i++)
        all = all && rq_fake_quantizer_fake_quant_enabled(fakes[i]);
    return all;
}

rq_status rq_trainer_quantizer_mute(const rq_trainer *t, bool **were, rq_err *err)
{
    rq_fake_quantizer *const *fakes = NULL;
    const int n = rq_trainer_quantizer_fakes(t, &fakes);
    if (!(*were = rq_mem_alloc((size_t)n + 1, sizeof **were)))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the fake-quantizers");
    for (int i = 0; i < n; i++) {
        (*were)[i] = rq_fake_quantizer_observer_enabled(fakes[i]);
        rq_fake_quantizer_enable_observer(fakes[i], false);
    }
    return RQ_OK;
}

void rq_trainer_quantizer_unmute(const rq_trainer *t, bool *were)
{
    rq_fake_quantizer *const *fakes = NULL;
    const int n = rq_trainer_quantizer_fakes(t, &fakes);
    for (int i = 0; i < n && were; i++)
        rq_fake_quantizer_enable_observer(fakes[i], were[i]);
    rq_mem_free(were);
}

static rq_status calibrate(rq_trainer *t, rq_dataset *data, const rq_split *drawn, rq_err *err)
{
    rq_walk w;
    const rq_feed *feeds;
    const int64_t *rows;
    int n_feeds;
    int64_t n, done = 0;
    rq_status st = rq_walk_init(&w, data, drawn->calibrate, drawn->n_calibrate, 0);
    if (st)
        return rq_fail(err, st, "out of memory for calibration");
    const int64_t total = rq_walk_total(&w);
    rq_autograd_train(t->a, false);
    for (const double start = rq_clock_ms(); !(st = rq_walk_next(&w, &feeds, &n_feeds, &rows, &n, err)) && n;) {
        if ((st = rq_autograd_forward(t->a, feeds, n_feeds, t->out, err)))
            break;
        done += n;
        const double eta = (rq_clock_ms() - start) / 1e3 / (double)done * (double)(total - done);
        if (t->cfg.progress && !t->cfg.progress(t->cfg.progress_arg, "calibrating", done, total, eta)) {
            st = rq_fail(err, RQ_CANCELLED, "cancelled while calibrating");
            break;
        }
    }
    rq_walk_release(&w);
    return st;
}

rq_status rq_trainer_calibrate(rq_trainer *t, rq_dataset *data, int64_t samples, rq_err *err)
{
    rq_split drawn = { 0 };
    rq_fake_quantizer *const *fakes = NULL;
    const int n = rq_trainer_quantizer_fakes(t, &fakes);
    for (int i = 0; i < n; i++) {
        rq_fake_quantizer_enable_observer(fakes[i], true);
        rq_fake_quantizer_enable_fake_quant(fakes[i], false);
    }
    if (samples > 0 && samples < rq_dataset_count(data))
        RQ_TRY(rq_dataset_split(&drawn, data, t->cfg.seed, 0, samples, rq_dataset_unit(data), err));
    const rq_status st = calibrate(t, data, &drawn, err);
    rq_split_release(&drawn);
    if (st)
        return st;
    for (int i = 0; i < n; i++)
        rq_fake_quantizer_enable_fake_quant(fakes[i], true);
    return RQ_OK;
}

/* A weight that is observed once more when it is finalized would get another scale than the one it was evaluated with. */
void rq_trainer_quantizer_settle(const rq_trainer *t)
{
    rq_fake_quantizer *const *fakes = NULL;
    const int n = rq_trainer_quantizer_fakes(t, &fakes);
    for (int i = 0; i < n; i++)
        rq_fake_quantizer_enable_observer(fakes[i], false);
}

rq_status rq_trainer_quantizer_step(rq_trainer *t, rq_err *err)
{
    return t->q ? rq_linear_quantizer_step(t->q, t->a, err) : RQ_OK;
}

/* ---- state ---- */

rq_status rq_trainer_quantizer_config(const rq_trainer *t, char **out, rq_err *err)
{
    *out = NULL;
    if (!t->q)
        return RQ_OK;
    const int64_t n = rq_linear_quantizer_config_as_yaml(t->q->config, NULL, 0);
    char *text = n >= 0 ? rq_mem_alloc((size_t)n + 1, 1) : NULL;
    if (!text || rq_linear_quantizer_config_as_yaml(t->q->config, text, (size_t)n + 1) != n) {
        rq_mem_free(text);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a checkpoint");
    }
    *out = text;
    return RQ_OK;
}

static bool join(char *buf, size_t n, const char *prefix)
{
    return snprintf(buf, n, "%squantizer.", prefix) < (int)n;
}

rq_status rq_trainer_quantizer_save(rq_trainer *t, rq_state *s, const char *prefix)
{
    char inner[64];
    if (!t->q)
        return RQ_OK;
    return join(inner, sizeof inner, prefix) ? rq_linear_quantizer_save(t->q, s, inner) : RQ_BAD_ARG;
}

rq_status rq_trainer_quantizer_load(rq_trainer *t, const rq_state *s, const char *prefix, rq_err *err)
{
    char inner[64];
    if (!t->q || !join(inner, sizeof inner, prefix))
        return RQ_OK;
    RQ_TRY(rq_linear_quantizer_load(t->q, s, inner, err));
    return rq_linear_quantizer_resume(t->q, t->a, err);
}
