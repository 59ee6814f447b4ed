/* algo/qat_preset.c — recipes as configs. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "requant/modules.h"
#include "requant/qat.h"

static const char *const names[RQ_N_QAT_PRESETS] = {
    [RQ_QAT_COREML] = "coreml", [RQ_QAT_NVIDIA] = "nvidia", [RQ_QAT_LSQ] = "lsq", [RQ_QAT_LSQ_PLUS] = "lsq+"
};

const char *rq_qat_preset_name(rq_qat_preset p)
{
    return (unsigned)p < RQ_N_QAT_PRESETS ? names[p] : "?";
}

rq_status rq_qat_preset_parse(rq_qat_preset *out, const char *text, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(text);
    for (int i = 0; i < RQ_N_QAT_PRESETS; i++) {
        if (!strcmp(text, names[i]) || (i == RQ_QAT_LSQ_PLUS && !strcmp(text, "lsq_plus"))) {
            *out = (rq_qat_preset)i;
            return RQ_OK;
        }
        rq_nearest_try(&near, names[i]);
    }
    return rq_fail(err, RQ_BAD_ARG, "there is no preset '%.60s'%s; there are coreml, nvidia, lsq and lsq+", text,
                   rq_nearest_hint(&near, hint));
}

rq_qat_preset_cfg rq_qat_preset_defaults(void)
{
    return (rq_qat_preset_cfg) { .weights_bits = 8, .activations_bits = 8 };
}

static rq_status check(const rq_qat_preset_cfg *c, rq_err *err)
{
    if (c->weights_bits < 2 || c->weights_bits > 8 || c->activations_bits < 2 || c->activations_bits > 8)
        return rq_fail(err, RQ_BAD_ARG, "%d bits for %s, expected 2 to 8",
                       c->weights_bits < 2 || c->weights_bits > 8 ? c->weights_bits : c->activations_bits,
                       c->weights_bits < 2 || c->weights_bits > 8 ? "weights" : "activations");
    if (!(c->original_lr >= 0) || !isfinite(c->original_lr))
        return rq_fail(err, RQ_BAD_ARG, "the original learning rate is no number above 0");
    if (c->original_epochs < 0 || c->steps < 0)
        return rq_fail(err, RQ_BAD_ARG, "%lld %s, expected 0 or more",
                       (long long)(c->steps < 0 ? c->steps : c->original_epochs), c->steps < 0 ? "steps" : "epochs");
    return RQ_OK;
}

/* The last step of a percentage of the run, so that what begins there has an effect. */
static int64_t percent(int64_t steps, int64_t share)
{
    return steps * share / 100;
}

static void set_milestones(rq_module_linear_quantizer_config *m, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t all[4] = { a, b, c, d };
    m->has_milestones = true;
    memcpy(m->milestones, all, sizeof all);
}

/* ---- trainings ---- */

/* Down along a cosine, a rate per epoch, as the recipe's example has it. */
static rq_status train_nvidia(const rq_qat_preset_cfg *c, rq_train_cfg *t, rq_err *err)
{
    if (c->original_epochs)
        t->epochs = (c->original_epochs + 9) / 10;
    const double lr = c->original_lr > 0 ? c->original_lr * 0.01 : t->optimizer.lr;
    if (t->epochs < 1 || !(lr > 0))
        return rq_fail(err, RQ_BAD_ARG,
                       "the nvidia preset wants the original learning rate and epochs, or those to use");
    t->optimizer.lr = lr;
    t->schedule = (rq_schedule) { .kind = RQ_SCHEDULE_COSINE, .lr = lr, .lr_min = lr * 0.01, .total = t->epochs };
    t->schedule_epochs = true;
    return RQ_OK;
}

static void train_lsq(const rq_qat_preset_cfg *c, rq_train_cfg *t)
{
    const int bits = c->weights_bits < c->activations_bits ? c->weights_bits : c->activations_bits;
    t->optimizer = rq_optimizer_defaults(RQ_OPTIMIZER_SGD);
    t->optimizer.lr = bits == 8 ? 0.001 : 0.01;
    t->optimizer.momentum = 0.9;
    t->optimizer.weight_decay = bits == 2 ? 0.25e-4 : bits == 3 ? 0.5e-4 : 1e-4;
    t->schedule = (rq_schedule) { .kind = RQ_SCHEDULE_COSINE, .lr = t->optimizer.lr };
    t->schedule_epochs = false;
}

/* ---- configs ---- */

static bool has_weight(const rq_graph *g, const rq_module *m)
{
    static const char *const types[] = { "Conv", "ConvTranspose", "Linear" };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!m->call && m->name[0] && rq_graph_node_is_type(g, m->node, types[i]))
            return true;
    return false;
}

/* The first and the last layer of g with 8 bits, weights and what the layer gives. */
static rq_status widen_ends(rq_linear_quantizer_config *c, const rq_graph *g, rq_module_linear_quantizer_config m,
                            rq_err *err)
{
    rq_module *modules = NULL;
    int n = 0, first = -1, last = -1;
    if (rq_graph_modules(g, &modules, &n) != RQ_OK)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    for (int i = 0; i < n; i++)
        if (has_weight(g, &modules[i])) {
            first = first < 0 ? i : first;
            last = i;
        }
    m.weight_n_bits = m.activation_n_bits = 8;
    rq_status s = RQ_OK;
    if (first >= 0)
        s = rq_linear_quantizer_config_set_module_name(c, modules[first].name, &m, err);
    if (s == RQ_OK && last > first)
        s = rq_linear_quantizer_config_set_module_name(c, modules[last].name, &m, err);
    rq_free(modules);
    return s;
}

static rq_module_linear_quantizer_config module_of(rq_qat_preset p, const rq_qat_preset_cfg *c)
{
    rq_module_linear_quantizer_config m = rq_module_linear_quantizer_defaults();
    m.weight_n_bits = c->weights_bits;
    m.activation_n_bits = c->activations_bits;
    if (p == RQ_QAT_COREML && c->steps)
        set_milestones(&m, 0, percent(c->steps, 10), percent(c->steps, 40), percent(c->steps, 20));
    if (p != RQ_QAT_LSQ && p != RQ_QAT_LSQ_PLUS)
        return m;
    m.learnable = true;
    m.weight_observer = RQ_OBSERVER_LSQ;
    m.activation_observer = RQ_OBSERVER_LSQ;
    if (p == RQ_QAT_LSQ_PLUS) {
        m.quantization_scheme = RQ_QSCHEME_PER_TENSOR_AFFINE;
        m.weight_observer = RQ_OBSERVER_LSQ_PLUS;
        m.activation_observer = RQ_OBSERVER_LSQ_PLUS;
    }
    /* one step is observed, then scales are learned; batch norms stand still for the last tenth */
    set_milestones(&m, 0, 0, 1, c->steps ? percent(c->steps, 90) : -1);
    return m;
}

rq_status rq_qat_preset_apply(rq_qat_preset p, const rq_qat_preset_cfg *cfg, rq_linear_quantizer_config **config,
                              rq_train_cfg *train, rq_err *err)
{
    const rq_qat_preset_cfg usual = rq_qat_preset_defaults();
    rq_train_cfg t = *train;
    rq_linear_quantizer_config *c = NULL;
    cfg = cfg ? cfg : &usual;
    if ((unsigned)p >= RQ_N_QAT_PRESETS)
        return rq_fail(err, RQ_BAD_ARG, "there is no preset %d", (int)p);
    RQ_TRY(check(cfg, err));
    if (p == RQ_QAT_NVIDIA)
        RQ_TRY(train_nvidia(cfg, &t, err));
    else if (p != RQ_QAT_COREML)
        train_lsq(cfg, &t);
    if (rq_linear_quantizer_config_create(&c) != RQ_OK)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    const rq_module_linear_quantizer_config m = module_of(p, cfg);
    rq_status s = rq_linear_quantizer_config_set_global(c, &m, err);
    if (s == RQ_OK && m.learnable && cfg->g && (cfg->weights_bits < 8 || cfg->activations_bits < 8))
        s = widen_ends(c, cfg->g, m, err);
    if (s != RQ_OK) {
        rq_linear_quantizer_config_destroy(c);
        return s;
    }
    *config = c;
    *train = t;
    return RQ_OK;
}
