/* The trainer: against a loop written out by hand, against itself with other threads and after interruptions, and on digits. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "requant/edit.h"
#include "requant/nn.h"
#include "requant/train.h"

static rq_err err;

static void ok(rq_status st)
{
    if (st)
        fail_msg("%s: %s", rq_status_text(st), err.text);
}

/* ---- networks and samples ---- */

/* Digits: conv, batch norm, conv, linear, with a dropout. */
static rq_graph *digits_net(uint64_t seed)
{
    rq_nn *n;
    rq_graph *g;
    ok(rq_nn_create(&n, seed));
    rq_nn_value x = rq_nn_input(n, "image", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), 1, 8, 8 });
    x = rq_nn_conv2d(n, "conv1", x, 8, 3, &(rq_nn_conv) { .padding = 1, .no_bias = true });
    x = rq_nn_batch_norm(n, "bn1", x, NULL);
    x = rq_nn_relu(n, "relu1", x);
    x = rq_nn_conv2d(n, "conv2", x, 16, 3, &(rq_nn_conv) { .stride = 2, .padding = 1 });
    x = rq_nn_relu(n, "relu2", x);
    x = rq_nn_flatten(n, "flatten", x, 1);
    x = rq_nn_dropout(n, "drop", x, 0.1);
    x = rq_nn_linear(n, "fc", x, 10, NULL);
    rq_nn_output(n, "logits", x);
    ok(rq_nn_finish(n, &g, &err));
    return g;
}

static rq_dataset *digits(const rq_graph *g, const char *which, int64_t batch)
{
    char path[80];
    rq_dataset *d;
    snprintf(path, sizeof path, "models/digits-%s.npz", which);
    ok(rq_dataset_open(&d, path, g, &(rq_dataset_cfg) { .batch = batch }, &err));
    return d;
}

/* All parameters and statistics of g, one after the other. */
static rq_state *weights(const rq_graph *g)
{
    static const char *const names[] = { "conv1.weight",     "bn1.weight",      "bn1.bias",
                                         "bn1.running_mean", "bn1.running_var", "conv2.weight",
                                         "conv2.bias",       "fc.weight",       "fc.bias" };
    rq_state *s;
    ok(rq_state_create(&s));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rq_tensor t;
        if (rq_edit_constant(g, names[i], &t, NULL))
            continue;
        ok(rq_state_set(s, NULL, names[i], &t));
        rq_tensor_release(&t);
    }
    return s;
}

static void same_weights(const rq_graph *a, const rq_graph *b, const char *what)
{
    rq_state *x = weights(a), *y = weights(b);
    assert_int_equal(rq_state_count(x), rq_state_count(y));
    for (int i = 0; i < rq_state_count(x); i++) {
        const rq_tensor *p = rq_state_tensor(x, i), *q = rq_state_find(y, rq_state_name(x, i));
        if (!q || p->bytes != q->bytes || memcmp(p->data, q->data, p->bytes))
            fail_msg("%s: '%s' differs", what, rq_state_name(x, i));
    }
    rq_state_destroy(x);
    rq_state_destroy(y);
}

/* ---- against a loop by hand ---- */

enum { ROWS = 24, WIDTH = 5 };

/* y = x w + b on all samples at once: gradient descent of the mean squared error, in double. */
static void linear_regression_is_gradient_descent(void **state)
{
    static float x[ROWS][WIDTH], t[ROWS];
    double w[WIDTH], b, loss = 0;
    rq_rng r;
    rq_rng_seed(&r, 3);
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < WIDTH; k++)
            x[i][k] = rq_rng_f32(&r) * 2 - 1;
        t[i] = 3 * x[i][0] - x[i][3] + 0.5f + 0.1f * rq_rng_f32(&r);
    }
    rq_nn *n;
    rq_graph *g;
    ok(rq_nn_create(&n, 1));
    rq_nn_value v = rq_nn_input(n, "x", RQ_DTYPE_F32, 2, (int64_t[]) { rq_nn_dim(n, "batch"), WIDTH });
    rq_nn_output(n, "y", rq_nn_linear(n, "fc", v, 1, NULL));
    ok(rq_nn_finish(n, &g, &err));
    rq_state *start = weights(g);
    for (int k = 0; k < WIDTH; k++)
        w[k] = rq_state_find(start, "fc.weight")->f32[k];
    b = rq_state_find(start, "fc.bias")->f32[0];
    rq_state_destroy(start);

    const rq_dataset_array arrays[] = {
        { .name = "x", .dtype = RQ_DTYPE_F32, .shape = { 2, { ROWS, WIDTH } }, .data = x },
        { .name = "target", .dtype = RQ_DTYPE_F32, .shape = { 2, { ROWS, 1 } }, .data = t },
    };
    rq_dataset *d;
    rq_trainer *trainer;
    ok(rq_dataset_create(&d, arrays, 2, g, &(rq_dataset_cfg) { .batch = ROWS }, &err));
    rq_train_cfg cfg = rq_train_defaults();
    cfg.loss = rq_loss_defaults(RQ_LOSS_MSE);
    cfg.optimizer.lr = 0.2;
    cfg.optimizer.momentum = 0.5;
    cfg.epochs = 20;
    ok(rq_trainer_create(&trainer, g, NULL, &cfg, &err));
    ok(rq_trainer_run(trainer, d, NULL, &err));
    double m[WIDTH + 1] = { 0 };
    for (int step = 0; step < 20; step++) {
        double grad[WIDTH + 1] = { 0 };
        loss = 0;
        for (int i = 0; i < ROWS; i++) {
            double y = b;
            for (int k = 0; k < WIDTH; k++)
                y += x[i][k] * w[k];
            loss += (y - t[i]) * (y - t[i]) / ROWS;
            for (int k = 0; k < WIDTH; k++)
                grad[k] += 2 * (y - t[i]) * x[i][k] / ROWS;
            grad[WIDTH] += 2 * (y - t[i]) / ROWS;
        }
        for (int k = 0; k <= WIDTH; k++) {
            m[k] = 0.5 * m[k] + grad[k];
            *(k < WIDTH ? &w[k] : &b) -= 0.2 * m[k];
        }
    }
    rq_state *end = weights(g);
    for (int k = 0; k < WIDTH; k++)
        assert_true(fabs(rq_state_find(end, "fc.weight")->f32[k] - w[k]) < 1e-5);
    assert_true(fabs(rq_state_find(end, "fc.bias")->f32[0] - b) < 1e-5);
    assert_true(fabs(rq_trainer_result(trainer).loss - loss) < 1e-5); /* of the last batch as it was seen */
    rq_state_destroy(end);
    rq_trainer_destroy(trainer);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

/* ---- digits ---- */

typedef struct run_cfg {
    int threads;
    const char *checkpoint, *resume;
    int64_t steps;  /* between checkpoints */
    int64_t cancel; /* after so many steps; 0: never */
    double lr;      /* 0: 0.05 */
    int64_t batch;  /* 0: 50 */
    const char *metrics;
    int64_t epochs; /* 0: 3, of pictures that move */
} run_cfg;

static int64_t cancel_in;

static bool maybe_cancel(void *arg, const char *phase, int64_t done, int64_t total, double eta)
{
    return strncmp(phase, "epoch", 5) != 0 || cancel_in == 0 || --cancel_in > 0;
}

static rq_status train_digits(rq_graph *g, const run_cfg *how, rq_train_epoch *result)
{
    const int64_t batch = how->batch ? how->batch : 50;
    rq_dataset *train = digits(g, "train", batch), *test = digits(g, "test", batch);
    rq_train_cfg cfg = rq_train_defaults();
    rq_trainer *t;
    cfg.epochs = how->epochs ? how->epochs : 3;
    cfg.seed = 11;
    cfg.threads = how->threads ? how->threads : 1;
    cfg.optimizer.lr = how->lr > 0 ? how->lr : 0.05;
    cfg.optimizer.momentum = 0.9;
    cfg.augment.crop = how->epochs ? 0 : 1;
    cfg.schedule = (rq_schedule) { .kind = RQ_SCHEDULE_COSINE, .warmup = 5 };
    cfg.checkpoint = how->checkpoint;
    cfg.checkpoint_steps = how->steps;
    cfg.resume = how->resume;
    cfg.metrics = how->metrics;
    cfg.progress = maybe_cancel;
    cancel_in = how->cancel;
    ok(rq_trainer_create(&t, g, NULL, &cfg, &err));
    const rq_status st = rq_trainer_run(t, train, test, &err);
    if (result)
        *result = rq_trainer_result(t);
    rq_trainer_destroy(t);
    rq_dataset_close(train);
    rq_dataset_close(test);
    return st;
}

static void digits_are_learnt_in_seconds(void **state)
{
    rq_graph *g = digits_net(1);
    rq_train_epoch e;
    double loss, accuracy;
    ok(train_digits(g, &(run_cfg) { .threads = 2, .epochs = 6 }, &e));
    assert_true(e.eval_accuracy >= 0.95);
    assert_true(e.loss < 0.5 && e.eval_loss < 0.3);
    /* what the graph is now is what the best epoch was */
    rq_dataset *test = digits(g, "test", 50);
    rq_trainer *t;
    const rq_train_cfg cfg = rq_train_defaults();
    ok(rq_trainer_create(&t, g, NULL, &cfg, &err));
    ok(rq_trainer_evaluate(t, test, &loss, &accuracy, &err));
    assert_true(accuracy == e.eval_accuracy);
    assert_true(fabs(loss - e.eval_loss) < 1e-6);
    rq_trainer_destroy(t);
    rq_dataset_close(test);
    rq_graph_destroy(g);
}

static void threads_do_not_matter(void **state)
{
    rq_graph *a = digits_net(2), *b = digits_net(2), *c = digits_net(2);
    ok(train_digits(a, &(run_cfg) { .threads = 1 }, NULL));
    ok(train_digits(b, &(run_cfg) { .threads = 3 }, NULL));
    same_weights(a, b, "three threads");
    ok(train_digits(c, &(run_cfg) { .lr = 0.04 }, NULL)); /* the comparison can tell */
    rq_state *x = weights(a), *y = weights(c);
    assert_memory_not_equal(rq_state_find(x, "fc.bias")->data, rq_state_find(y, "fc.bias")->data, 40);
    rq_state_destroy(x);
    rq_state_destroy(y);
    rq_graph_destroy(a);
    rq_graph_destroy(b);
    rq_graph_destroy(c);
}

static void remove_checkpoint(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoint.npz", folder);
    unlink(path);
    rmdir(folder);
}

static char *text_of(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 16);
    assert_non_null(f);
    assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
    fclose(f);
    return text;
}

static void interrupted_runs_end_with_the_same_bytes(void **state)
{
    const char *folder = RQ_TEST_TMP "/train-resume", *metrics = RQ_TEST_TMP "/train-resume.jsonl";
    rq_graph *whole = digits_net(3);
    ok(train_digits(whole, &(run_cfg) { .metrics = RQ_TEST_TMP "/train-whole.jsonl" }, NULL));
    /* 27 steps an epoch: within the first, at its end, in the last, and twice in one run */
    static const int64_t moments[][2] = { { 3, 0 }, { 27, 0 }, { 31, 17 }, { 75, 2 } };
    for (int i = 0; i < 4; i++) {
        remove_checkpoint(folder);
        rq_graph *g = digits_net(3);
        run_cfg how = { .checkpoint = folder, .steps = 4, .cancel = moments[i][0], .metrics = metrics };
        assert_int_equal(train_digits(g, &how, NULL), RQ_CANCELLED);
        how.resume = folder;
        how.cancel = moments[i][1];
        if (how.cancel) {
            rq_graph_destroy(g);
            g = digits_net(3); /* another process reads the model again */
            assert_int_equal(train_digits(g, &how, NULL), RQ_CANCELLED);
            how.cancel = 0;
        }
        rq_graph_destroy(g);
        g = digits_net(3);
        ok(train_digits(g, &how, NULL));
        same_weights(whole, g, "an interrupted run");
        rq_graph_destroy(g);
    }
    /* three epochs, each once */
    char *text = text_of(metrics), *line = strtok(text, "\n");
    for (int epoch = 1; epoch <= 3; epoch++, line = strtok(NULL, "\n")) {
        json_t *o = json_loads(line ? line : "", 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(o, "epoch")), epoch);
        assert_true(json_is_real(json_object_get(o, "eval_accuracy")));
        json_decref(o);
    }
    assert_null(line);
    free(text);
    remove_checkpoint(folder);
    rq_graph_destroy(whole);
}

static void checkpoints_of_other_runs_are_refused(void **state)
{
    const char *folder = RQ_TEST_TMP "/train-other";
    remove_checkpoint(folder);
    rq_graph *g = digits_net(4);
    assert_int_equal(train_digits(g, &(run_cfg) { .resume = folder }, NULL), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "no checkpoint"));
    assert_int_equal(train_digits(g, &(run_cfg) { .checkpoint = folder, .cancel = 2 }, NULL), RQ_CANCELLED);
    rq_graph_destroy(g);
    const run_cfg same = { .resume = folder };
    run_cfg other = same;
    other.lr = 0.01;
    g = digits_net(4);
    assert_int_equal(train_digits(g, &other, NULL), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "lr=0.05"));
    assert_non_null(strstr(err.text, "lr=0.01"));
    other = same;
    other.batch = 25;
    assert_int_equal(train_digits(g, &other, NULL), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "by 50"));
    rq_graph_destroy(g);
    g = digits_net(5);
    assert_int_equal(train_digits(g, &same, NULL), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "its model is another"));
    rq_graph_destroy(g);
    g = digits_net(4); /* the same weights, another network */
    ok(rq_edit_set_float(g, rq_edit_find_node(g, "/bn1/BatchNormalization"), "momentum", 0.5f, &err));
    assert_int_equal(train_digits(g, &same, NULL), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "its model is another"));
    rq_graph_destroy(g);
    remove_checkpoint(folder);
}

/* Counters that no run can have had. */
static void checkpoints_that_were_changed_are_refused(void **state)
{
    const char *folder = RQ_TEST_TMP "/train-changed", *path = RQ_TEST_TMP "/train-changed/checkpoint.npz";
    static const struct change {
        int at;
        int64_t to;
    } changes[] = { { 1, -1 }, { 1, 99 }, { 2, INT64_MAX }, { 2, 3 },  { 3, -1 },
                    { 3, 28 }, { 4, -1 }, { 4, INT64_MAX }, { 5, -1 }, { 6, INT64_MAX } };
    remove_checkpoint(folder);
    rq_graph *g = digits_net(4);
    assert_int_equal(train_digits(g, &(run_cfg) { .checkpoint = folder, .steps = 1, .cancel = 2 }, NULL), RQ_CANCELLED);
    rq_graph_destroy(g);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        rq_state *s;
        int64_t counters[64];
        ok(rq_state_load(&s, path, &err));
        const rq_tensor *now = rq_state_find(s, "counters");
        const int n = (int)rq_tensor_count(now);
        assert_true(n <= 64);
        memcpy(counters, now->data, now->bytes);
        const int64_t was = counters[changes[i].at];
        for (int back = 0; back < 2; back++) {
            counters[changes[i].at] = back ? was : changes[i].to;
            ok(rq_state_set_ints(s, NULL, "counters", counters, n));
            ok(rq_state_save(s, path, &err));
            if (back)
                continue;
            g = digits_net(4);
            assert_int_equal(train_digits(g, &(run_cfg) { .resume = folder }, NULL), RQ_BAD_DATA);
            assert_non_null(strstr(err.text, "a place that this run does not have"));
            rq_graph_destroy(g);
        }
        rq_state_destroy(s);
    }
    g = digits_net(4);
    ok(train_digits(g, &(run_cfg) { .resume = folder }, NULL)); /* as it was */
    rq_graph_destroy(g);
    remove_checkpoint(folder);
}

/* ---- distillation ---- */

static void a_pupil_becomes_its_teacher_without_labels(void **state)
{
    rq_graph *teacher = digits_net(6), *pupil;
    ok(train_digits(teacher, &(run_cfg) { .threads = 2 }, NULL));
    ok(rq_graph_copy(&pupil, teacher));
    ok(rq_nn_initialize(pupil, "fc.*", RQ_NN_INIT_CONSTANT, 0, 0, 0, &err)); /* it forgets its last layer */
    rq_tensor x;
    ok(rq_npz_load(&x, "models/digits-train.npz", "image", &err));
    const rq_dataset_array images = { .name = "image", .dtype = x.dtype, .shape = x.shape, .data = x.data };
    rq_dataset *d;
    ok(rq_dataset_create(&d, &images, 1, pupil, &(rq_dataset_cfg) { .batch = 50 }, &err));
    rq_train_cfg cfg = rq_train_defaults();
    rq_trainer *t;
    double before, after, accuracy;
    const rq_train_feature feature = { .value = rq_edit_node_out(pupil, rq_edit_find_node(pupil, "/conv2/Conv"), 0),
                                       .weight = 0.5 };
    cfg.teacher = teacher;
    cfg.distill = 1;
    cfg.epochs = 4;
    cfg.optimizer.lr = 0.1;
    cfg.optimizer.momentum = 0.9;
    cfg.freeze_bn_after = 0;
    cfg.features = &feature;
    cfg.n_features = 1;
    ok(rq_trainer_create(&t, pupil, NULL, &cfg, &err));
    ok(rq_trainer_evaluate(t, d, &before, &accuracy, &err));
    ok(rq_trainer_run(t, d, NULL, &err));
    ok(rq_trainer_evaluate(t, d, &after, &accuracy, &err));
    assert_true(isnan(accuracy));
    assert_true(before > 1 && after < 0.1 * before);
    rq_trainer_destroy(t);
    /* samples that say nothing to evaluate by: no epoch is the best, and the last one stays */
    rq_dataset *unlabelled = d, *labelled = digits(pupil, "train", 50);
    rq_train_cfg plain = rq_train_defaults();
    plain.epochs = 2;
    plain.optimizer.lr = 0.1;
    ok(rq_trainer_create(&t, pupil, NULL, &plain, &err));
    ok(rq_trainer_run(t, labelled, unlabelled, &err));
    const rq_train_epoch end = rq_trainer_result(t);
    assert_true(end.epoch == 2 && !end.best && isnan(end.eval_loss));
    rq_trainer_destroy(t);
    rq_dataset_close(labelled);
    /* without a share of the teacher there is nothing to train towards */
    cfg.distill = 0.5;
    ok(rq_trainer_create(&t, pupil, NULL, &cfg, &err));
    assert_int_equal(rq_trainer_run(t, d, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "labels"));
    rq_trainer_destroy(t);
    cfg.teacher = NULL;
    assert_int_equal(rq_trainer_create(&t, pupil, NULL, &cfg, &err), RQ_BAD_ARG);
    rq_dataset_close(d);
    rq_tensor_release(&x);
    rq_graph_destroy(pupil);
    rq_graph_destroy(teacher);
}

/* ---- pictures ---- */

enum { H = 6, W = 4 };

static void pictures_are_flipped_and_moved(void **state)
{
    static float x[40][3][H][W], y[40][3][H][W], z[40][3][H][W];
    int64_t rows[40];
    bool seen[2][5][5] = { { { false } } };
    for (int i = 0; i < 40; i++)
        for (int k = 0; k < 3 * H * W; k++)
            (&x[i][0][0][0])[k] = (float)(1 + i * 100 + k);
    for (int i = 0; i < 40; i++)
        rows[i] = i;
    memcpy(y, x, sizeof x);
    memcpy(z, x, sizeof x);
    const rq_augment how = { .flip = true, .crop = 2 };
    rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 4, { 40, 3, H, W } }, y);
    ok(rq_augment_apply(&how, &t, rows, 40, 9, 0, &err));
    for (int i = 0; i < 40; i++) {
        int found = 0;
        for (int flip = 0; flip < 2; flip++)
            for (int dy = -2; dy <= 2; dy++)
                for (int dx = -2; dx <= 2; dx++) {
                    bool same = true;
                    for (int c = 0; c < 3; c++)
                        for (int h = 0; h < H; h++)
                            for (int w = 0; w < W; w++) {
                                const int sy = h + dy, sx = (flip ? W - 1 - w : w) + dx;
                                const bool in = sy >= 0 && sy < H && sx >= 0 && sx < W;
                                same = same && y[i][c][h][w] == (in ? x[i][c][sy][sx] : 0);
                            }
                    found += same;
                    seen[flip][dy + 2][dx + 2] |= same;
                }
        assert_int_equal(found, 1);
    }
    int kinds = 0;
    for (int k = 0; k < 50; k++)
        kinds += (&seen[0][0][0])[k];
    assert_true(kinds > 20); /* of 50, by 40 pictures */
    /* a sample's fate is its own: in another batch, from another place */
    t = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 4, { 1, 3, H, W } }, z[17]);
    ok(rq_augment_apply(&how, &t, rows + 17, 1, 9, 0, &err));
    assert_memory_equal(z[17], y[17], sizeof y[17]);
    memcpy(z, x, sizeof x);
    t = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 4, { 40, 3, H, W } }, z);
    ok(rq_augment_apply(&how, &t, rows, 40, 9, 1, &err));
    assert_memory_not_equal(z, y, sizeof y);
    t.shape.rank = 3;
    assert_int_equal(rq_augment_apply(&how, &t, rows, 40, 9, 1, &err), RQ_BAD_SHAPE);
}

/* The same picture with its channels last has the same fate. */
static void channels_may_come_last(void **state)
{
    float a[3][H][W], b[H][W][3];
    for (int c = 0; c < 3; c++)
        for (int h = 0; h < H; h++)
            for (int w = 0; w < W; w++)
                a[c][h][w] = b[h][w][c] = (float)(1 + c * 100 + h * 10 + w);
    const int64_t row = 5;
    const rq_augment how = { .flip = true, .crop = 2 };
    rq_tensor x = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 4, { 1, 3, H, W } }, a),
              y = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 4, { 1, H, W, 3 } }, b);
    ok(rq_augment_apply(&how, &x, &row, 1, 1, 0, &err));
    ok(rq_augment_apply(&how, &y, &row, 1, 1, 0, &err));
    for (int c = 0; c < 3; c++)
        for (int h = 0; h < H; h++)
            for (int w = 0; w < W; w++)
                assert_true(a[c][h][w] == b[h][w][c]);
}

/* ---- what is refused ---- */

static void numbers_that_explode_are_said(void **state)
{
    rq_graph *g = digits_net(7);
    assert_int_equal(train_digits(g, &(run_cfg) { .lr = 1e12 }, NULL), RQ_NUMERIC);
    assert_non_null(strstr(err.text, "epoch 1, step "));
    rq_graph_destroy(g);
}

/* An infinity among the samples, or among the targets, is named by array and row, not by the loss that it makes. */
static void infinities_are_named(void **state)
{
    static const char path[] = RQ_TEST_TMP "/infinite.npz";
    static float x[40 * 64], target[40 * 10];
    const rq_shape xs = { 4, { 40, 1, 8, 8 } }, ts = { 2, { 40, 10 } };
    const rq_feed arrays[] = { { "image", rq_tensor_view(RQ_DTYPE_F32, &xs, x) },
                               { "target", rq_tensor_view(RQ_DTYPE_F32, &ts, target) } };
    rq_graph *g;
    ok(rq_load(&g, "models/digits-cnn.onnx", &err));
    for (int k = 0; k < 3; k++) {
        rq_dataset *d;
        rq_trainer *t;
        rq_train_cfg cfg = rq_train_defaults();
        cfg.loss = rq_loss_defaults(RQ_LOSS_MSE);
        cfg.optimizer.lr = 1e-3;
        x[23 * 64 + 5] = k == 1 ? -INFINITY : 0;
        target[31 * 10 + 9] = k == 2 ? INFINITY : 0;
        ok(rq_npz_save(path, arrays, 2, &err));
        ok(rq_dataset_open(&d, path, g, &(rq_dataset_cfg) { .batch = 10 }, &err));
        ok(rq_trainer_create(&t, g, NULL, &cfg, &err));
        const rq_status st = rq_trainer_run(t, d, NULL, &err);
        assert_int_equal(st, k ? RQ_BAD_DATA : RQ_OK);
        if (k)
            assert_non_null(strstr(err.text, k == 1 ? "row 23 of input 'image' holds an infinity"
                                                    : "row 31 of array 'target' holds an infinity"));
        rq_trainer_destroy(t);
        rq_dataset_close(d);
    }
    rq_graph_destroy(g);
}

static void parameters_are_drawn_anew(void **state)
{
    rq_graph *a = digits_net(8), *b = digits_net(8), *c = digits_net(8);
    ok(train_digits(a, &(run_cfg) { .threads = 2 }, NULL));
    ok(rq_nn_reset_parameters(a, 5, &err));
    ok(rq_nn_reset_parameters(b, 5, &err));
    same_weights(a, b, "reset");
    ok(rq_nn_reset_parameters(c, 6, &err));
    rq_state *x = weights(b), *y = weights(c);
    const rq_tensor *w = rq_state_find(x, "conv2.weight"), *bias = rq_state_find(x, "conv2.bias"),
                    *mean = rq_state_find(x, "bn1.running_mean"), *gamma = rq_state_find(x, "bn1.weight");
    assert_memory_not_equal(w->data, rq_state_find(y, "conv2.weight")->data, w->bytes);
    const double bound = 1 / sqrt(8 * 9);
    double largest = 0;
    for (int64_t i = 0; i < rq_tensor_count(w); i++)
        largest = fmax(largest, fabs(w->f32[i]));
    assert_true(largest <= bound && largest > 0.98 * bound);
    for (int i = 0; i < 16; i++)
        assert_true(fabs(bias->f32[i]) <= bound);
    for (int i = 0; i < 8; i++)
        assert_true(mean->f32[i] == 0 && gamma->f32[i] == 1);
    rq_state_destroy(x);
    rq_state_destroy(y);
    rq_graph_destroy(a);
    rq_graph_destroy(b);
    rq_graph_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_regression_is_gradient_descent),
        cmocka_unit_test(digits_are_learnt_in_seconds),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(interrupted_runs_end_with_the_same_bytes),
        cmocka_unit_test(checkpoints_of_other_runs_are_refused),
        cmocka_unit_test(checkpoints_that_were_changed_are_refused),
        cmocka_unit_test(a_pupil_becomes_its_teacher_without_labels),
        cmocka_unit_test(pictures_are_flipped_and_moved),
        cmocka_unit_test(channels_may_come_last),
        cmocka_unit_test(numbers_that_explode_are_said),
        cmocka_unit_test(infinities_are_named),
        cmocka_unit_test(parameters_are_drawn_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
