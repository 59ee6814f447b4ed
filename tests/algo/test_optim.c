/* Optimizers, losses and schedules beside the numbers that PyTorch 2.7 computed (tests/golden/optim/make.py), losses beside finite
 * differences, and what must hold whatever the numbers are: the same bits with any threads, state kept, errors that change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/dataset.h"
#include "requant/optim.h"

static rq_tensor golden(const char *name)
{
    rq_tensor t;
    rq_err err = { 0 };
    if (rq_npz_load(&t, "tests/golden/optim/optim.npz", name, &err))
        fail_msg("%s", err.text);
    return t;
}

static rq_tensor part(const char *name, const char *suffix)
{
    char full[80];
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    return golden(full);
}

static void close_to(double got, double want, double tol, const char *what, int64_t i)
{
    if (!(fabs(got - want) <= tol * fmax(1, fabs(want))))
        fail_msg("%s[%lld] is %.9g, expected %.9g", what, (long long)i, got, want);
}

/* ---- optimizers ---- */

static rq_parameter parameter(const char *name, rq_parameter_role role, float *data, float *grad, int64_t n)
{
    return (rq_parameter) {
        .name = name, .role = role, .shape = rq_shape_of(1, &n), .count = n, .data = data, .grad = grad
    };
}

enum { STEPS = 12, N = 37, N2 = 5 };

static void follows_torch(const char *name, const rq_optimizer_cfg *cfg, const rq_param_group *groups, int n_groups)
{
    rq_tensor start = golden("start"), start2 = golden("start2"), g = golden("g"), g2 = golden("g2");
    rq_tensor p = part(name, "p"), p2 = part(name, "p2");
    float a[N], b[N2];
    memcpy(a, start.f32, sizeof a);
    memcpy(b, start2.f32, sizeof b);
    rq_optimizer *o;
    rq_err err = { 0 };
    assert_int_equal(rq_optimizer_create(&o, cfg, groups, n_groups, &err), RQ_OK);
    for (int i = 0; i < STEPS; i++) {
        rq_parameter all[2] = { parameter("w", RQ_PARAMETER_WEIGHT, a, g.f32 + (int64_t)i * N, N),
                                parameter("v", RQ_PARAMETER_WEIGHT, b, g2.f32 + (int64_t)i * N2, N2) };
        if (rq_optimizer_step(o, all, 2, -1, &err))
            fail_msg("%s", err.text);
        for (int k = 0; k < N; k++)
            close_to(a[k], p.f32[i * N + k], 1e-6, name, i * N + k);
        for (int k = 0; k < N2; k++)
            close_to(b[k], p2.f32[i * N2 + k], 1e-6, name, i * N2 + k);
    }
    rq_optimizer_destroy(o);
    rq_tensor *const tensors[] = { &start, &start2, &g, &g2, &p, &p2 };
    for (int i = 0; i < 6; i++)
        rq_tensor_release(tensors[i]);
}

static void optimizers_follow_torch(void **state)
{
    rq_optimizer_cfg sgd = rq_optimizer_defaults(RQ_OPTIMIZER_SGD), adam = rq_optimizer_defaults(RQ_OPTIMIZER_ADAM),
                     adamw = rq_optimizer_defaults(RQ_OPTIMIZER_ADAMW), c;
    sgd.lr = 0.1;
    follows_torch("sgd", &sgd, NULL, 0);
    c = sgd;
    c.momentum = 0.9;
    follows_torch("sgd_momentum", &c, NULL, 0);
    c.clip_norm = 2;
    follows_torch("clip_norm", &c, NULL, 0);
    c = sgd;
    c.lr = 0.05, c.momentum = 0.8, c.dampening = 0.3, c.weight_decay = 0.01;
    follows_torch("sgd_damped", &c, NULL, 0);
    c.dampening = 0, c.momentum = 0.9, c.nesterov = true, c.weight_decay = 0.1;
    follows_torch("sgd_nesterov", &c, NULL, 0);
    c = sgd;
    c.clip_norm = 1, c.clip_value = 0.5;
    follows_torch("clip_both", &c, NULL, 0);
    follows_torch("adam", &adam, NULL, 0);
    c = adam;
    c.lr = 0.1, c.clip_value = 0.05;
    follows_torch("clip_value", &c, NULL, 0);
    c = adam;
    c.lr = 0.01, c.beta1 = 0.4, c.beta2 = 0.95, c.eps = 1e-4, c.weight_decay = 0.05;
    follows_torch("adam_decay", &c, NULL, 0);
    follows_torch("adamw", &adamw, NULL, 0);
    c = adamw;
    c.lr = 0.02, c.beta1 = 0.8, c.beta2 = 0.9, c.weight_decay = 0.3;
    follows_torch("adamw_decay", &c, NULL, 0);
    c = sgd;
    c.momentum = 0.5;
    const rq_param_group groups[] = { { .role = -1, .name = "w*", .lr_factor = 0.5, .weight_decay = 0.2 },
                                      { .role = RQ_PARAMETER_WEIGHT, .lr_factor = 1, .weight_decay = -1 } };
    follows_torch("groups", &c, groups, 2);
}

/* One step of SGD with rate 1 and weight decay 0.5 on a 1 with gradient 0: what is left of it says which decay it had. */
static float decayed(rq_parameter_role role, bool all, double scale_lr)
{
    float x = 1, g = 0;
    rq_parameter p = parameter("p", role, &x, &g, 1);
    rq_optimizer_cfg cfg = rq_optimizer_defaults(RQ_OPTIMIZER_SGD);
    cfg.weight_decay = 0.5, cfg.lr = 1, cfg.decay_all = all, cfg.scale_lr = scale_lr;
    rq_optimizer *o;
    assert_int_equal(rq_optimizer_create(&o, &cfg, NULL, 0, NULL), RQ_OK);
    assert_int_equal(rq_optimizer_step(o, &p, 1, -1, NULL), RQ_OK);
    rq_optimizer_destroy(o);
    return x;
}

static void roles_have_their_own_rates_and_decay(void **state)
{
    assert_true(decayed(RQ_PARAMETER_WEIGHT, false, 1) == 0.5f);
    assert_true(decayed(RQ_PARAMETER_BIAS, false, 1) == 1);
    assert_true(decayed(RQ_PARAMETER_NORM, false, 1) == 1);
    assert_true(decayed(RQ_PARAMETER_SCALE, false, 1) == 1);
    assert_true(decayed(RQ_PARAMETER_BIAS, true, 1) == 0.5f);
    assert_true(decayed(RQ_PARAMETER_SCALE, true, 0.5) == 0.75f);
    assert_true(decayed(RQ_PARAMETER_ZERO_POINT, true, 0) == 1);
}

static void errors_change_nothing(void **state)
{
    float x[2] = { 1, 2 }, g[2] = { 1, NAN }, y[1] = { 3 }, gy[1] = { 1 };
    rq_parameter p[2] = { parameter("one", RQ_PARAMETER_WEIGHT, y, gy, 1),
                          parameter("two", RQ_PARAMETER_WEIGHT, x, g, 2) };
    rq_optimizer *o;
    rq_err err = { 0 };
    assert_int_equal(rq_optimizer_create(&o, NULL, NULL, 0, &err), RQ_OK);
    assert_int_equal(rq_optimizer_step(o, p, 2, -1, &err), RQ_NUMERIC);
    assert_non_null(strstr(err.text, "'two'"));
    g[1] = -INFINITY;
    assert_int_equal(rq_optimizer_step(o, p, 2, -1, &err), RQ_NUMERIC);
    g[1] = 1;
    assert_int_equal(rq_optimizer_step(o, p, 2, NAN, &err), RQ_BAD_ARG);
    assert_int_equal(rq_optimizer_step(o, p, 2, INFINITY, &err), RQ_BAD_ARG);
    assert_true(x[0] == 1 && x[1] == 2 && y[0] == 3);
    rq_optimizer_destroy(o);
    g[1] = NAN;

    /* a number of steps that cannot be counted on */
    const int64_t steps[] = { -1, INT64_MAX };
    for (int i = 0; i < 2; i++) {
        rq_state *s;
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_state_set_ints(s, NULL, "one.step", &steps[i], 1), RQ_OK);
        assert_int_equal(rq_optimizer_create(&o, NULL, NULL, 0, &err), RQ_OK);
        assert_int_equal(rq_optimizer_load(o, s, NULL, &err), RQ_BAD_DATA);
        assert_non_null(strstr(err.text, "'one.step'"));
        rq_optimizer_destroy(o);
        rq_state_destroy(s);
    }

    const rq_param_group none = { .role = -1, .name = "tow", .lr_factor = 1, .weight_decay = -1 };
    assert_int_equal(rq_optimizer_create(&o, NULL, &none, 1, &err), RQ_OK);
    assert_int_equal(rq_optimizer_step(o, p, 2, -1, &err), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "'two'")); /* the nearest */
    rq_optimizer_destroy(o);

    rq_optimizer_cfg bad = rq_optimizer_defaults(RQ_OPTIMIZER_ADAM);
    bad.beta1 = 1;
    assert_int_equal(rq_optimizer_create(&o, &bad, NULL, 0, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "beta1"));
    bad = rq_optimizer_defaults(RQ_OPTIMIZER_SGD);
    bad.nesterov = true;
    assert_int_equal(rq_optimizer_create(&o, &bad, NULL, 0, &err), RQ_BAD_ARG);
}

enum { BIG = 70001 };

static void fill(float *x, int64_t n, uint64_t seed)
{
    rq_rng r;
    rq_rng_seed(&r, seed);
    for (int64_t i = 0; i < n; i++)
        x[i] = rq_rng_f32(&r) - 0.5f;
}

/* `steps` steps from `from`, by way of a saved state at half of them when `resume`. */
static void train_big(float *x, rq_optimizer_kind kind, int threads, bool resume)
{
    float *g = malloc(BIG * sizeof *g);
    rq_exec *e = NULL;
    rq_err err = { 0 };
    rq_optimizer_cfg cfg = rq_optimizer_defaults(kind);
    if (threads)
        assert_int_equal(rq_exec_create(&e, threads, NULL), RQ_OK);
    cfg.exec = e, cfg.clip_norm = 3, cfg.momentum = 0.9, cfg.weight_decay = 0.1;
    rq_optimizer *o, *next;
    assert_int_equal(rq_optimizer_create(&o, &cfg, NULL, 0, NULL), RQ_OK);
    fill(x, BIG, 1);
    for (int i = 0; i < 4; i++) {
        fill(g, BIG, (uint64_t)i + 2);
        rq_parameter p = parameter("layer.0.weight", RQ_PARAMETER_WEIGHT, x, g, BIG);
        assert_int_equal(rq_optimizer_step(o, &p, 1, 0.1, NULL), RQ_OK);
        if (!resume || i != 1)
            continue;
        rq_state *s;
        assert_int_equal(rq_state_create(&s), RQ_OK);
        assert_int_equal(rq_optimizer_save(o, s, "optimizer."), RQ_OK);
        assert_int_equal(rq_optimizer_create(&next, &cfg, NULL, 0, NULL), RQ_OK);
        if (rq_optimizer_load(next, s, "optimizer.", &err))
            fail_msg("%s", err.text);
        rq_optimizer_destroy(o);
        o = next;
        rq_state_destroy(s);
    }
    rq_optimizer_destroy(o);
    rq_exec_destroy(e);
    free(g);
}

static void same_bits_with_any_threads_and_after_loading(void **state)
{
    float *a = malloc(BIG * sizeof *a), *b = malloc(BIG * sizeof *b);
    for (int kind = 0; kind < RQ_N_OPTIMIZERS; kind++) {
        train_big(a, (rq_optimizer_kind)kind, 0, false);
        train_big(b, (rq_optimizer_kind)kind, 3, false);
        assert_memory_equal(a, b, BIG * sizeof *a);
        train_big(b, (rq_optimizer_kind)kind, 2, true);
        assert_memory_equal(a, b, BIG * sizeof *a);
    }
    free(a);
    free(b);
}

/* ---- losses ---- */

static void loss_follows_torch(const char *name, const rq_loss_cfg *cfg)
{
    rq_tensor y = part(name, "y"), t = part(name, "t"), want = part(name, "loss"), dy = part(name, "dy");
    const int64_t n = rq_tensor_count(&y);
    float *got = malloc((size_t)n * sizeof *got);
    double loss, alone;
    rq_err err = { 0 };
    if (rq_loss_compute(cfg, NULL, &y, &t, &loss, got, &err))
        fail_msg("%s: %s", name, err.text);
    close_to(loss, want.f32[0], 2e-6, name, -1);
    for (int64_t i = 0; i < n; i++)
        close_to(got[i], dy.f32[i], 1e-6, name, i);
    assert_int_equal(rq_loss_compute(cfg, NULL, &y, &t, &alone, NULL, &err), RQ_OK);
    assert_true(alone == loss);
    /* the gradient is that of the loss: central differences */
    for (int64_t i = 0; i < n; i += 3) {
        const float x = y.f32[i], h = cfg->probabilities ? 1e-2f * fminf(x, 1 - x) : 1e-2f;
        double up, down;
        y.f32[i] = x + h;
        const float over = y.f32[i];
        assert_int_equal(rq_loss_compute(cfg, NULL, &y, &t, &up, NULL, &err), RQ_OK);
        y.f32[i] = x - h;
        const float under = y.f32[i];
        assert_int_equal(rq_loss_compute(cfg, NULL, &y, &t, &down, NULL, &err), RQ_OK);
        y.f32[i] = x;
        if (!cfg->probabilities || (x > 1e-3 && x < 0.999))
            close_to(got[i], (up - down) / ((double)over - under), 2e-3, name, i);
    }
    free(got);
    rq_tensor_release(&y);
    rq_tensor_release(&t);
    rq_tensor_release(&want);
    rq_tensor_release(&dy);
}

static void losses_follow_torch(void **state)
{
    rq_loss_cfg mse = rq_loss_defaults(RQ_LOSS_MSE), ce = rq_loss_defaults(RQ_LOSS_CROSS_ENTROPY),
                bce = rq_loss_defaults(RQ_LOSS_BCE), kl = rq_loss_defaults(RQ_LOSS_KL), c;
    loss_follows_torch("mse", &mse);
    loss_follows_torch("mse_broadcast", &mse);
    loss_follows_torch("ce", &ce);
    loss_follows_torch("ce_ignored", &ce);
    loss_follows_torch("ce_large", &ce);
    loss_follows_torch("ce_one", &ce);
    c = ce;
    c.label_smoothing = 0.1;
    loss_follows_torch("ce_smooth", &c);
    loss_follows_torch("ce_shares", &c);
    c.label_smoothing = 0.2, c.ignore_index = 2;
    loss_follows_torch("ce_planes", &c);
    c = ce;
    c.probabilities = true;
    loss_follows_torch("ce_given", &c);
    loss_follows_torch("bce", &bce);
    loss_follows_torch("bce_large", &bce);
    c = bce;
    c.probabilities = true;
    loss_follows_torch("bce_given", &c);
    loss_follows_torch("kl", &kl);
    c = kl;
    c.temperature = 4;
    loss_follows_torch("kl_warm", &c);
    c.temperature = 2, c.axis = 1;
    loss_follows_torch("kl_planes", &c);
}

/* Distillation of probabilities: through the softmax that made them, the gradient is that of the logits. */
static void shares_have_the_gradient_of_their_logits(void **state)
{
    rq_tensor y = part("kl_given", "y"), t = part("kl_given", "t"), dy = part("kl_given", "dy");
    rq_loss_cfg cfg = rq_loss_defaults(RQ_LOSS_KL);
    float got[63];
    double loss;
    cfg.probabilities = true;
    assert_int_equal(rq_loss_compute(&cfg, NULL, &y, &t, &loss, got, NULL), RQ_OK);
    for (int r = 0; r < 7; r++) {
        const float *p = y.f32 + r * 9;
        double a = 0, b = 0;
        for (int i = 0; i < 9; i++)
            a += p[i] * got[r * 9 + i], b += p[i] * dy.f32[r * 9 + i];
        for (int i = 0; i < 9; i++) /* the backward of a softmax */
            close_to(p[i] * (got[r * 9 + i] - a), p[i] * (dy.f32[r * 9 + i] - b), 1e-6, "kl_given", r * 9 + i);
    }
    rq_tensor_release(&y);
    rq_tensor_release(&t);
    rq_tensor_release(&dy);
}

static void losses_say_what_does_not_fit(void **state)
{
    float x[12] = { 0 };
    int64_t c[3] = { 0, 4, 1 };
    double loss;
    rq_err err = { 0 };
    const rq_tensor y = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 2, { 3, 4 } }, x);
    rq_tensor t = rq_tensor_view(RQ_DTYPE_S64, &(rq_shape) { 1, { 3 } }, c);
    const rq_loss_cfg ce = rq_loss_defaults(RQ_LOSS_CROSS_ENTROPY), mse = rq_loss_defaults(RQ_LOSS_MSE);
    assert_int_equal(rq_loss_compute(&ce, NULL, &y, &t, &loss, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "class 4"));
    t.shape.dim[0] = 2;
    assert_int_equal(rq_loss_compute(&ce, NULL, &y, &t, &loss, NULL, &err), RQ_BAD_SHAPE);
    assert_int_equal(rq_loss_compute(&mse, NULL, &y, &t, &loss, NULL, &err), RQ_BAD_SHAPE);
    c[0] = c[1] = -100;
    float dy[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    const rq_tensor two = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 2, { 2, 4 } }, x);
    assert_int_equal(rq_loss_compute(&ce, NULL, &two, &t, &loss, dy, &err), RQ_OK);
    assert_true(loss == 0 && dy[0] == 0 && dy[7] == 0);
}

static void losses_have_the_same_bits_with_any_threads(void **state)
{
    enum { ROWS = 3000, CLASSES = 13 };
    float *x = malloc(ROWS * CLASSES * sizeof *x), *a = malloc(ROWS * CLASSES * sizeof *a),
          *b = malloc(ROWS * CLASSES * sizeof *b), *tx = malloc(ROWS * CLASSES * sizeof *tx);
    rq_exec *e;
    assert_int_equal(rq_exec_create(&e, 3, NULL), RQ_OK);
    fill(x, ROWS * CLASSES, 5);
    fill(tx, ROWS * CLASSES, 6);
    const rq_tensor y = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 2, { ROWS, CLASSES } }, x),
                    t = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 2, { ROWS, CLASSES } }, tx);
    for (int kind = 0; kind < RQ_N_LOSSES; kind++) {
        const rq_loss_cfg cfg = rq_loss_defaults((rq_loss_kind)kind);
        double one, three;
        assert_int_equal(rq_loss_compute(&cfg, NULL, &y, &t, &one, a, NULL), RQ_OK);
        assert_int_equal(rq_loss_compute(&cfg, e, &y, &t, &three, b, NULL), RQ_OK);
        assert_true(one == three);
        assert_memory_equal(a, b, ROWS * CLASSES * sizeof *a);
    }
    rq_exec_destroy(e);
    free(x), free(a), free(b), free(tx);
}

/* ---- schedules ---- */

static void rates_follow(const char *name, const rq_schedule *s)
{
    rq_tensor want = golden(name);
    for (int64_t i = 0; i < rq_tensor_count(&want); i++)
        close_to(rq_schedule_lr(s, i), want.f64[i], 1e-12, name, i);
    rq_tensor_release(&want);
}

static void schedules_follow_torch(void **state)
{
    rates_follow("rate_step", &(rq_schedule) { .kind = RQ_SCHEDULE_STEP, .lr = 0.1, .every = 4, .gamma = 0.3 });
    rates_follow("rate_cosine", &(rq_schedule) { .kind = RQ_SCHEDULE_COSINE, .lr = 0.1, .lr_min = 0.001, .total = 20 });
    rates_follow("rate_warm",
                 &(rq_schedule) { .kind = RQ_SCHEDULE_COSINE, .lr = 0.1, .lr_min = 0.01, .warmup = 5, .total = 20 });
    const rq_schedule flat = { .kind = RQ_SCHEDULE_CONSTANT, .lr = 0.25, .warmup = 2 };
    assert_true(rq_schedule_lr(&flat, 0) == 0 && rq_schedule_lr(&flat, 1) == 0.125);
    assert_true(rq_schedule_lr(&flat, 2) == 0.25 && rq_schedule_lr(&flat, 1000) == 0.25);
}

/* NVIDIA's recipe: 1 % of the original 0.1, down to 1 % of that over a tenth of 90 epochs. */
static void nvidias_recipe_has_its_rates(void **state)
{
    static const double want[] = { 0.001,         0.00097014785, 0.000884192, 0.0007525,     0.00059095585,
                                   0.00041904415, 0.0002575,     0.000125808, 3.9852153e-05, 1e-05 };
    const rq_schedule s = { .kind = RQ_SCHEDULE_COSINE, .lr = 1e-3, .lr_min = 1e-5, .total = 9 };
    for (int t = 0; t < 10; t++)
        close_to(1e3 * rq_schedule_lr(&s, t), 1e3 * want[t], 6e-7, "rate", t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimizers_follow_torch),      cmocka_unit_test(roles_have_their_own_rates_and_decay),
        cmocka_unit_test(errors_change_nothing),        cmocka_unit_test(same_bits_with_any_threads_and_after_loading),
        cmocka_unit_test(losses_follow_torch),          cmocka_unit_test(shares_have_the_gradient_of_their_logits),
        cmocka_unit_test(losses_say_what_does_not_fit), cmocka_unit_test(losses_have_the_same_bits_with_any_threads),
        cmocka_unit_test(schedules_follow_torch),       cmocka_unit_test(nvidias_recipe_has_its_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
