/* test_train.c — every allocation of training fails once: optimizers, losses, a whole run of a trainer (a teacher, features, batch norms,
 * evaluation, checkpoints, metrics), one that is resumed, and one of a LinearQuantizer, whose state moves to another. Each time the call ends in success or in
 * RQ_NO_MEMORY with a sentence, every byte is given back, and a step of an optimizer that failed has changed nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/edit.h"
#include "requant/nn.h"
#include "requant/train.h"

#define FOLDER RQ_TEST_TMP "/oom-train"
#define CHECKPOINT FOLDER "/checkpoint.npz"
#define METRICS RQ_TEST_TMP "/oom-train.jsonl"

static rq_err err;

/* ---- optimizers ---- */

enum { MANY = 20000, FEW = 3 }; /* of two pieces; of a part of one */

/* Numbers around 0 without a pattern. */
static float spread(int i)
{
    return (float)((i * 7919) % 2003) / 1001 - 1;
}

typedef struct two {
    float a[MANY], b[FEW];
} two;

/* Two steps; the second of an optimizer that was loaded from what the first saved. Where one fails for memory it must have changed nothing, and is
 * made again. How many allocations failed. */
static int two_steps(two *x, const rq_optimizer_cfg *cfg)
{
    static two g;
    const rq_param_group groups[] = { { .role = -1, .name = "b*", .lr_factor = 0.5, .weight_decay = -1 } };
    rq_optimizer *o[2] = { 0 };
    rq_state *s = NULL;
    int failed = 0;
    for (int i = 0; i < MANY; i++)
        x->a[i] = spread(i), g.a[i] = spread(i + 5);
    for (int i = 0; i < FEW; i++)
        x->b[i] = spread(i + 3), g.b[i] = spread(i + 9);
    rq_parameter p[2] = {
        { .name = "a",
          .role = RQ_PARAMETER_WEIGHT,
          .count = MANY,
          .data = x->a,
          .grad = g.a,
          .shape = { 1, { MANY } } },
        { .name = "b", .role = RQ_PARAMETER_BIAS, .count = FEW, .data = x->b, .grad = g.b, .shape = { 1, { FEW } } }
    };
    for (int step = 0; step < 2; step++) {
        rq_status st;
        while ((st = rq_optimizer_create(&o[step], cfg, groups, 1, &err)))
            assert_int_equal((failed++, st), RQ_NO_MEMORY);
        while (step && (st = rq_optimizer_load(o[1], s, "o.", &err)))
            assert_int_equal((failed++, st), RQ_NO_MEMORY);
        const two before = *x;
        while ((st = rq_optimizer_step(o[step], p, 2, 0.1, &err))) {
            assert_int_equal((failed++, st), RQ_NO_MEMORY);
            assert_memory_equal(&before, x, sizeof before);
        }
        while (!step && (rq_state_create(&s) || rq_optimizer_save(o[0], s, "o."))) {
            rq_state_destroy(s);
            s = NULL;
            failed++;
        }
    }
    rq_state_destroy(s);
    rq_optimizer_destroy(o[0]);
    rq_optimizer_destroy(o[1]);
    return failed;
}

static void optimizers_fail_whole(void **state)
{
    (void)state;
    static two want, got;
    for (int kind = 0; kind < RQ_N_OPTIMIZERS; kind++) {
        rq_optimizer_cfg cfg = rq_optimizer_defaults((rq_optimizer_kind)kind);
        cfg.momentum = 0.9;
        cfg.clip_norm = 1;
        assert_int_equal(two_steps(&want, &cfg), 0);
        const size_t live = rq_mem_live();
        int n = 0;
        for (bool failed = true; failed; n += failed) {
            rq_mem_fail_after((size_t)n + 1, false);
            failed = two_steps(&got, &cfg) > 0;
            rq_mem_fail_after(0, false);
            assert_int_equal(rq_mem_live(), live);
            assert_memory_equal(&got, &want, sizeof got);
        }
        assert_true(n > 20);
    }
}

/* ---- losses ---- */

static void losses_fail_whole(void **state)
{
    (void)state;
    static float y[12], t[12], dy[12];
    double loss;
    for (int i = 0; i < 12; i++)
        y[i] = t[i] = 0.25f;
    const rq_shape shape = { 2, { 3, 4 } };
    const rq_tensor out = rq_tensor_view(RQ_DTYPE_F32, &shape, y), target = rq_tensor_view(RQ_DTYPE_F32, &shape, t);
    for (int kind = 0; kind < RQ_N_LOSSES; kind++) {
        const rq_loss_cfg cfg = rq_loss_defaults((rq_loss_kind)kind);
        const size_t live = rq_mem_live();
        rq_mem_fail_after(1, false);
        assert_int_equal(rq_loss_compute(&cfg, NULL, &out, &target, &loss, dy, &err), RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), live);
        rq_mem_fail_after(2, false);
        assert_int_equal(rq_loss_compute(&cfg, NULL, &out, &target, &loss, dy, &err), RQ_OK);
        rq_mem_fail_after(0, false);
    }
}

/* ---- trainers ---- */

enum { SAMPLES = 5, SIDE = 4, CLASSES = 3 };

static rq_graph *model;
static float images[SAMPLES][1][SIDE][SIDE];
static int64_t labels[SAMPLES] = { 0, 2, 1, 1, 0 };

static rq_graph *network(void)
{
    rq_nn *n;
    rq_graph *g;
    assert_int_equal(rq_nn_create(&n, 1), RQ_OK);
    rq_nn_value x = rq_nn_input(n, "image", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), 1, SIDE, SIDE });
    x = rq_nn_conv2d(n, "conv", x, 2, 3, &(rq_nn_conv) { .padding = 1, .no_bias = true });
    x = rq_nn_batch_norm(n, "bn", x, NULL);
    x = rq_nn_relu(n, "relu", x);
    x = rq_nn_flatten(n, "flatten", x, 1);
    rq_nn_output(n, "logits", rq_nn_linear(n, "fc", x, CLASSES, NULL));
    assert_int_equal(rq_nn_finish(n, &g, &err), RQ_OK);
    return g;
}

static rq_status open_data(rq_dataset **out, const rq_graph *g)
{
    const rq_dataset_array arrays[] = {
        { .name = "image", .dtype = RQ_DTYPE_F32, .shape = { 4, { SAMPLES, 1, SIDE, SIDE } }, .data = images },
        { .name = "labels", .dtype = RQ_DTYPE_S64, .shape = { 1, { SAMPLES } }, .data = labels }
    };
    return rq_dataset_create(out, arrays, 2, g, &(rq_dataset_cfg) { .batch = 3 }, &err);
}

static rq_train_cfg config(void)
{
    rq_train_cfg cfg = rq_train_defaults();
    cfg.epochs = 2;
    cfg.threads = 1;
    cfg.onednn = false;
    cfg.optimizer.momentum = 0.9;
    cfg.optimizer.lr = 0.1;
    return cfg;
}

static rq_status train(rq_graph *g, rq_linear_quantizer *q, const rq_train_cfg *cfg)
{
    rq_trainer *t = NULL;
    rq_dataset *d = NULL;
    rq_status st = open_data(&d, g ? g : rq_linear_quantizer_model(q));
    if (!st)
        st = rq_trainer_create(&t, g, q, cfg, &err);
    if (!st && q)
        st = rq_trainer_calibrate(t, d, 3, &err);
    if (!st)
        st = rq_trainer_run(t, d, d, &err);
    rq_trainer_destroy(t);
    rq_dataset_close(d);
    return st;
}

static rq_status train_copy(const rq_train_cfg *cfg)
{
    rq_graph *g;
    if (rq_graph_copy(&g, model))
        return rq_fail(&err, RQ_NO_MEMORY, "out of memory to copy the graph");
    const rq_status st = train(g, NULL, cfg);
    rq_graph_destroy(g);
    return st;
}

static rq_status train_all(void)
{
    rq_train_cfg cfg = config();
    const rq_train_feature feature = { .value = rq_edit_node_out(model, rq_edit_find_node(model, "/conv/Conv"), 0),
                                       .weight = 0.5 };
    const rq_param_group group = { .role = RQ_PARAMETER_BIAS, .lr_factor = 2, .weight_decay = 0 };
    unlink(CHECKPOINT);
    cfg.teacher = model;
    cfg.distill = 0.5;
    cfg.features = &feature;
    cfg.n_features = 1;
    cfg.groups = &group;
    cfg.n_groups = 1;
    cfg.augment = (rq_augment) { .flip = true, .crop = 1 };
    cfg.checkpoint_activations = true;
    cfg.reestimate_bn = 2;
    cfg.checkpoint = FOLDER;
    cfg.checkpoint_steps = 3; /* of 4: within the second epoch */
    cfg.metrics = METRICS;
    cfg.metrics_steps = 1;
    return train_copy(&cfg);
}

/* From a checkpoint in the second epoch, which `stop_early` leaves behind. */
static rq_train_cfg resumable(void)
{
    rq_train_cfg cfg = config();
    cfg.checkpoint_steps = 1;
    cfg.checkpoint = FOLDER;
    return cfg;
}

static rq_status resume(void)
{
    rq_train_cfg cfg = resumable();
    cfg.resume = FOLDER;
    cfg.checkpoint = NULL;
    cfg.checkpoint_steps = 0;
    return train_copy(&cfg);
}

static bool until_the_third_step(void *arg, const char *phase, int64_t done, int64_t total, double eta)
{
    (void)arg, (void)total, (void)eta;
    return strcmp(phase, "epoch 2 of 2") != 0 || done != 1;
}

static void stop_early(void)
{
    rq_train_cfg cfg = resumable();
    unlink(CHECKPOINT);
    cfg.progress = until_the_third_step;
    const rq_status st = train_copy(&cfg);
    if (st != RQ_CANCELLED)
        fail_msg("%s: %s", rq_status_text(st), err.text);
}

static rq_status train_quantizer(void)
{
    rq_linear_quantizer *q = NULL;
    rq_graph *g = NULL;
    rq_train_cfg cfg = config();
    RQ_TRY(rq_linear_quantizer_create(&q, model, NULL, &err));
    rq_status st = rq_linear_quantizer_prepare(q, &err);
    if (!st)
        st = train(NULL, q, &cfg);
    if (!st)
        st = rq_linear_quantizer_finalize(q, &g, &err);
    rq_graph_destroy(g);
    rq_linear_quantizer_destroy(q);
    return st;
}

/* What a quantizer remembers goes into another, which goes on with its batch norms frozen, and parameters are drawn anew. */
static rq_status move_state(void)
{
    rq_linear_quantizer *q[2] = { NULL, NULL };
    rq_linear_quantizer_config *c = NULL;
    rq_autograd *a = NULL;
    rq_state *state = NULL;
    rq_graph *g = NULL;
    rq_status st =
        rq_linear_quantizer_config_from_dict(&c, "{\"global_config\": {\"milestones\": [0, 1, 2, 0]}}", &err);
    for (int i = 0; !st && i < 2; i++) {
        st = rq_linear_quantizer_create(&q[i], model, c, &err);
        if (!st)
            st = rq_linear_quantizer_prepare(q[i], &err);
    }
    if (!st)
        st = rq_linear_quantizer_step(q[0], NULL, &err);
    if (!st && (rq_state_create(&state) || rq_linear_quantizer_save(q[0], state, "q.")))
        st = rq_fail(&err, RQ_NO_MEMORY, "out of memory saving a state");
    if (!st)
        st = rq_linear_quantizer_load(q[1], state, "q.", &err);
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.threads = 1;
    cfg.onednn = false;
    if (!st) {
        cfg.n_fakes = rq_linear_quantizer_fakes(q[1], &cfg.fakes, NULL);
        st = rq_autograd_create(&a, rq_linear_quantizer_model(q[1]), &cfg, &err);
    }
    if (!st)
        st = rq_linear_quantizer_resume(q[1], a, &err);
    rq_autograd_destroy(a);
    if (!st && rq_graph_copy(&g, model))
        st = rq_fail(&err, RQ_NO_MEMORY, "out of memory to copy the graph");
    if (!st)
        st = rq_nn_initialize(g, "*.weight", RQ_NN_INIT_CONSTANT, 1, 0, 7, &err);
    rq_graph_destroy(g);
    rq_state_destroy(state);
    rq_linear_quantizer_destroy(q[0]);
    rq_linear_quantizer_destroy(q[1]);
    rq_linear_quantizer_config_destroy(c);
    return st;
}

static void sweep(const char *name, rq_status (*run)(void))
{
    assert_int_equal(run(), RQ_OK); /* the model keeps what the first run puts beside its constants */
    for (int all = 0; all < 2; all++) {
        const size_t live = rq_mem_live();
        rq_mem_fail_after(0, false);
        rq_status st = run();
        if (st)
            fail_msg("%s fails without being told to: %s", name, err.text);
        const size_t n = rq_mem_fail_after(0, false);
        assert_int_equal(rq_mem_live(), live);
        size_t survived = 0;
        for (size_t i = 1; i <= n; i++) {
            err = (rq_err) { 0 };
            rq_mem_fail_after(i, all);
            st = run();
            rq_mem_fail_after(0, false);
            if (st && (st != RQ_NO_MEMORY || !err.text[0]))
                fail_msg("%s, allocation %zu of %zu: says %s (%s) where memory was out", name, i, n, rq_status_text(st),
                         err.text);
            if (rq_mem_live() != live)
                fail_msg("%s, allocation %zu of %zu: %td bytes are not given back", name, i, n,
                         (ptrdiff_t)(rq_mem_live() - live));
            survived += !st;
        }
        print_message("%s: %zu allocations, each failed%s; %zu did without\n", name, n, all ? " with all after it" : "",
                      survived);
    }
}

static void a_run_ends_with_a_sentence(void **state)
{
    (void)state;
    sweep("train", train_all);
    assert_int_equal(access(CHECKPOINT, F_OK), 0);
}

static void a_resumed_run_ends_with_a_sentence(void **state)
{
    (void)state;
    stop_early();
    sweep("resume", resume);
    assert_int_equal(access(CHECKPOINT, F_OK), 0);
}

static void a_quantizers_run_ends_with_a_sentence(void **state)
{
    (void)state;
    sweep("train a quantizer", train_quantizer);
}

static void a_state_moves_whole_or_not(void **state)
{
    (void)state;
    sweep("state of a quantizer", move_state);
}

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < SAMPLES * SIDE * SIDE; i++)
        ((float *)images)[i] = spread(i);
    model = network();
    rq_train_cfg cfg = config();
    return train_copy(&cfg) ? -1 : 0; /* what is made once and kept is made here */
}

static int teardown(void **state)
{
    (void)state;
    rq_graph_destroy(model);
    unlink(CHECKPOINT);
    unlink(METRICS);
    const bool clean = rmdir(FOLDER) == 0; /* nothing half-written is left */
    return rq_mem_live() || !clean ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimizers_fail_whole),
        cmocka_unit_test(losses_fail_whole),
        cmocka_unit_test(a_run_ends_with_a_sentence),
        cmocka_unit_test(a_resumed_run_ends_with_a_sentence),
        cmocka_unit_test(a_quantizers_run_ends_with_a_sentence),
        cmocka_unit_test(a_state_moves_whole_or_not),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
