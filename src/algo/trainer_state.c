/* algo/trainer_state.c — what a run is made of, kept and put back: the best epoch in memory, all of it in a checkpoint.
 *
 * A checkpoint is one file, checkpoint.npz, in a folder: it is written beside the last one and takes its place in one step, so that a
 * process that dies leaves the one or the other. It holds what decides all that follows (parameters, running statistics, fake-quantizers,
 * the optimizer's buffers, counters, the best epoch), and what run it is of: lines of key=value that must be the same to go on. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "algo/trainer.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/number.h"
#include "ops/op.h"

static const char FILE_NAME[] = "checkpoint.npz";
enum { FORMAT = 1 };

/* ---- the network ---- */

static bool is_of_quantizer(const rq_parameter *p)
{
    return p->role == RQ_PARAMETER_SCALE || p->role == RQ_PARAMETER_ZERO_POINT;
}

/* Call fn for every array of the network that training changes, under a name that says what it is and which. */
typedef rq_status (*array_fn)(void *arg, const char *name, const char *of, float *x, int64_t n, rq_err *err);

static rq_status each_array(rq_trainer *t, array_fn fn, void *arg, rq_err *err)
{
    char name[48];
    rq_parameter *p;
    const int n = rq_autograd_parameters(t->a, &p);
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "parameter.%d", i);
        if (!is_of_quantizer(&p[i]))
            RQ_TRY(fn(arg, name, p[i].name, p[i].data, p[i].count, err));
    }
    for (int i = 0; i < t->g->n_nodes; i++) {
        const rq_node *node = &t->g->nodes[i];
        for (int k = 0; node->op && node->row && node->row->statistics && k < node->n_in; k++) {
            if (!(node->row->statistics & RQ_OP_IN(k)) || node->in[k] == RQ_NONE)
                continue;
            const rq_value *v = &t->g->values[node->in[k]];
            if (v->kind != RQ_VALUE_CONST || v->constant.dtype != RQ_DTYPE_F32)
                continue;
            snprintf(name, sizeof name, "statistics.%d.%d", i, k);
            RQ_TRY(fn(arg, name, v->name, v->constant.f32, rq_tensor_count(&v->constant), err));
        }
    }
    return RQ_OK;
}

typedef struct place {
    rq_state *to;
    const rq_state *from;
    const char *prefix;
} place;

static rq_status save_array(void *arg, const char *name, const char *of, float *x, int64_t n, rq_err *err)
{
    const place *p = arg;
    return rq_state_set_floats(p->to, p->prefix, name, x, n)
               ? rq_fail(err, RQ_NO_MEMORY, "out of memory keeping '%s'", of)
               : RQ_OK;
}

static rq_status load_array(void *arg, const char *name, const char *of, float *x, int64_t n, rq_err *err)
{
    const place *p = arg;
    const rq_tensor *found;
    RQ_TRY(rq_state_get(p->from, p->prefix, name, RQ_DTYPE_F32, 1, &found, err));
    if (rq_tensor_count(found) != n)
        return rq_fail(err, RQ_BAD_DATA, "the checkpoint has %" PRId64 " numbers for '%s', expected %" PRId64,
                       rq_tensor_count(found), of, n);
    memcpy(x, found->f32, (size_t)n * sizeof *x);
    return RQ_OK;
}

rq_status rq_trainer_state_save(rq_trainer *t, rq_state *s, const char *prefix, rq_err *err)
{
    RQ_TRY(each_array(t, save_array, &(place) { .to = s, .prefix = prefix }, err));
    const rq_status st = rq_trainer_quantizer_save(t, s, prefix);
    return st ? rq_fail(err, st, "out of memory keeping the fake-quantizers") : RQ_OK;
}

rq_status rq_trainer_state_load(rq_trainer *t, const rq_state *s, const char *prefix, rq_err *err)
{
    RQ_TRY(each_array(t, load_array, &(place) { .from = s, .prefix = prefix }, err));
    return rq_trainer_quantizer_load(t, s, prefix, err);
}

rq_status rq_trainer_state_keep(rq_trainer *t, rq_err *err)
{
    rq_state *s;
    if (rq_state_create(&s))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory keeping the best epoch");
    const rq_status st = rq_trainer_state_save(t, s, "", err);
    if (st) {
        rq_state_destroy(s);
        return st;
    }
    rq_state_destroy(t->best_state);
    t->best_state = s;
    return RQ_OK;
}

/* ---- which run it is ---- */

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9fb21c651e98df25u;
        h ^= h >> 32;
    }
    for (; n; n--, p++)
        h = (h ^ *p) * 0x100000001b3u;
    return h ^ (h >> 29);
}

static uint64_t hash_attr(uint64_t h, const rq_attr *a)
{
    h = mix(h, a->name, strlen(a->name));
    if (a->type == RQ_ATTR_INT)
        return mix(h, &a->i, sizeof a->i);
    if (a->type == RQ_ATTR_FLOAT)
        return mix(h, &a->f, sizeof a->f);
    if (a->type == RQ_ATTR_STRING)
        return mix(h, a->s.p, a->s.n);
    if (a->type == RQ_ATTR_INTS)
        return mix(h, a->ints, (size_t)a->n * sizeof *a->ints);
    return a->type == RQ_ATTR_FLOATS ? mix(h, a->floats, (size_t)a->n * sizeof *a->floats) : h;
}

static uint64_t hash_graph(const rq_graph *g)
{
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op) {
            h = mix(h, g->nodes[i].op, strlen(g->nodes[i].op));
            h = mix(h, g->nodes[i].in, (size_t)g->nodes[i].n_in * sizeof *g->nodes[i].in);
            for (int k = 0; k < g->nodes[i].n_attr; k++)
                h = hash_attr(h, &g->nodes[i].attr[k]);
        }
    for (int i = 0; i < g->n_values; i++) {
        const rq_value *v = &g->values[i];
        if (v->kind == RQ_VALUE_CONST) {
            h = mix(h, v->name, strlen(v->name));
            h = mix(h, v->constant.data, v->constant.bytes);
        }
    }
    return h;
}

static rq_status hash_quantizer(rq_trainer *t, uint64_t *h)
{
    rq_state *s;
    RQ_TRY(rq_state_create(&s));
    const rq_status st = rq_trainer_quantizer_save(t, s, "");
    for (int i = 0; i < rq_state_count(s); i++)
        *h = mix(*h, rq_state_tensor(s, i)->data, rq_state_tensor(s, i)->bytes);
    rq_state_destroy(s);
    return st;
}

static void add_data(rq_buf *b, const char *key, rq_dataset *d)
{
    if (!d) {
        rq_buf_addf(b, "%s=none\n", key);
        return;
    }
    const int64_t *labels = rq_dataset_labels(d), n = rq_dataset_count(d);
    rq_buf_addf(b, "%s=%" PRId64 " by %" PRId64 ", labels %016" PRIx64 "\n", key, n, rq_dataset_batch_size(d),
                labels ? mix(0, labels, (size_t)n * sizeof *labels) : 0);
}

static void add_number(rq_buf *b, const char *key, double x)
{
    char text[40], *end;
    double back = NAN;
    for (int digits = 6; digits <= 17 && !(back == x); digits++) { /* as few as say it */
        rq_number_print(text, sizeof text, "%.*g", digits, x);
        back = rq_number_parse(text, &end);
    }
    rq_buf_addf(b, "%s=%s\n", key, text);
}

/* As options spell them: these lines are what a refused checkpoint tells. */
static const char *const optimizers[] = { "sgd", "adam", "adamw" };
static const char *const schedules[] = { "constant", "step", "cosine" };
static const char *const losses[] = { "mse", "cross-entropy", "binary cross-entropy", "KL divergence" };
static const char *const roles[] = { "weights", "biases", "norms", "scales", "zero points", "others" };

static const char *name_in(const char *const *names, int n, int i)
{
    return i >= 0 && i < n ? names[i] : "?";
}
#define NAME(names, i) name_in(names, (int)(sizeof(names) / sizeof *(names)), (int)(i))

static const char *yes(bool x)
{
    return x ? "yes" : "no";
}

static void add_loss(rq_buf *b, const char *of, const rq_loss_cfg *c)
{
    char key[64];
    rq_buf_addf(b, "%s=%s\n%s axis=%d\n%s ignores=%" PRId64 "\n%s of probabilities=%s\n", of, NAME(losses, c->kind), of,
                c->axis, of, c->ignore_index, of, yes(c->probabilities));
    snprintf(key, sizeof key, "%s smoothing", of);
    add_number(b, key, c->label_smoothing);
    snprintf(key, sizeof key, "%s temperature", of);
    add_number(b, key, c->temperature);
}

static void add_optimizer(rq_buf *b, const rq_train_cfg *c)
{
    const rq_optimizer_cfg *o = &c->optimizer;
    const rq_schedule *s = &c->schedule;
    rq_buf_addf(b, "optimizer=%s\nnesterov=%s\nweight decay on all=%s\n", NAME(optimizers, o->kind), yes(o->nesterov),
                yes(o->decay_all));
    rq_buf_addf(b,
                "schedule=%s\nwarm-up=%" PRId64 "\nsteps of the schedule=%" PRId64 "\nrate drops every=%" PRId64
                "\nschedule counts=%s\n",
                NAME(schedules, s->kind), s->warmup, s->total, s->every, c->schedule_epochs ? "epochs" : "steps");
    const struct {
        const char *key;
        double x;
    } numbers[] = { { "lr", o->lr },
                    { "momentum", o->momentum },
                    { "dampening", o->dampening },
                    { "beta1", o->beta1 },
                    { "beta2", o->beta2 },
                    { "eps", o->eps },
                    { "weight decay", o->weight_decay },
                    { "scale lr", o->scale_lr },
                    { "clip norm", o->clip_norm },
                    { "clip value", o->clip_value },
                    { "schedule lr", s->lr },
                    { "schedule lr_min", s->lr_min },
                    { "schedule gamma", s->gamma } };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        add_number(b, numbers[i].key, numbers[i].x);
    rq_buf_addf(b, "groups=%d\n", c->n_groups);
    for (int i = 0; i < c->n_groups; i++) {
        rq_buf_addf(b, "group %d=%s '%s'\n", i, c->groups[i].role < 0 ? "all" : NAME(roles, c->groups[i].role),
                    c->groups[i].name ? c->groups[i].name : "");
        add_number(b, "its lr factor", c->groups[i].lr_factor);
        add_number(b, "its weight decay", c->groups[i].weight_decay);
    }
}

rq_status rq_trainer_state_fingerprint(rq_trainer *t, rq_dataset *train, rq_dataset *eval, char **out, rq_err *err)
{
    const rq_train_cfg *c = &t->cfg;
    rq_buf b = { 0 };
    uint64_t q = 0;
    char *text = NULL;
    if (hash_quantizer(t, &q))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a checkpoint");
    rq_buf_addf(&b, "model=%016" PRIx64 "\n", hash_graph(t->g));
    add_data(&b, "samples", train);
    add_data(&b, "samples to evaluate on", eval);
    rq_buf_addf(&b, "epochs=%" PRId64 "\nseed=%" PRIu64 "\nfloat products=%s\ndrop last=%s\noutput=%s\n", c->epochs,
                c->seed, c->onednn ? "onednn" : "own", yes(c->drop_last), rq_graph_output(t->g, t->judged).name);
    /* Behind the length of the run, which presets' milestones are shares of. */
    const rq_status st = rq_trainer_quantizer_config(t, &text, err);
    if (st) {
        rq_buf_release(&b);
        return st;
    }
    if (text)
        rq_buf_addf(&b, "config of the quantizer=%016" PRIx64 "\n", mix(0, text, strlen(text)));
    rq_mem_free(text);
    add_loss(&b, "loss", &c->loss);
    add_optimizer(&b, c);
    rq_buf_addf(
        &b, "flip=%s\ncrop=%d\nfreeze batch norms after=%" PRId64 "\nre-estimate batch norms=%" PRId64 "\nkeep=%s\n",
        yes(c->augment.flip), c->augment.crop, c->freeze_bn_after, c->reestimate_bn, c->keep_best ? "best" : "last");
    add_number(&b, "distill", c->distill);
    if (t->teacher) {
        rq_buf_addf(&b, "teacher=%016" PRIx64 "\n", hash_graph(c->teacher));
        add_loss(&b, "distillation", &c->distill_loss);
    } else {
        rq_buf_addf(&b, "teacher=none\n");
    }
    rq_buf_addf(&b, "features=%d\n", c->n_features);
    for (int i = 0; i < c->n_features; i++) {
        rq_buf_addf(&b, "feature %d=%s, %s\n", i, c->features[i].value,
                    c->features[i].teacher ? c->features[i].teacher : "");
        add_number(&b, "its weight", c->features[i].weight);
    }
    if (t->q) /* behind what makes it differ */
        rq_buf_addf(&b, "calibration=%016" PRIx64 "\n", q);
    if (b.failed) {
        rq_buf_release(&b);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a checkpoint");
    }
    *out = b.data;
    return RQ_OK;
}

/* Lines whose values are hashes, which tell nobody anything. */
static const char *const hashed[] = { "model", "config of the quantizer", "calibration", "teacher" };

/* The first line that differs, as a sentence. */
static rq_status compare_runs(const char *path, const char *was, size_t n_was, const char *is, rq_err *err)
{
    while (n_was || *is) {
        const char *end = n_was ? memchr(was, '\n', n_was) : NULL;
        const size_t a = end ? (size_t)(end - was) : n_was, b = strcspn(is, "\n");
        const bool differs = a != b || memcmp(was, is, a) != 0;
        for (size_t i = 0; differs && i < sizeof hashed / sizeof *hashed; i++) {
            const size_t n = strlen(hashed[i]);
            if (a > n && b > n && was[n] == '=' && !strncmp(was, hashed[i], n) && !strncmp(is, hashed[i], n) &&
                is[n] == '=')
                return rq_fail(err, RQ_BAD_DATA, "%s: is a checkpoint of another run: its %s is another", path,
                               hashed[i]);
        }
        if (differs)
            return rq_fail(err, RQ_BAD_DATA, "%s: is a checkpoint of another run: it has %.*s, this one has %.*s", path,
                           (int)(a ? a : 7), a ? was : "nothing", (int)(b ? b : 7), b ? is : "nothing");
        was += a + (end != NULL);
        n_was -= a + (end != NULL);
        is += b + (is[b] != 0);
    }
    return RQ_OK;
}

/* ---- the file ---- */

enum { N_INTS = 9 + 2 * 4, N_REALS = 1 + 2 * 6 };

static void epoch_to(const rq_train_epoch *e, int64_t *ints, double *reals)
{
    ints[0] = e->epoch, ints[1] = e->step, ints[2] = e->best, ints[3] = e->quantized;
    reals[0] = e->lr, reals[1] = e->loss, reals[2] = e->accuracy, reals[3] = e->eval_loss;
    reals[4] = e->eval_accuracy, reals[5] = e->seconds;
}

static rq_train_epoch epoch_from(const int64_t *ints, const double *reals, int64_t epochs)
{
    return (rq_train_epoch) { .epoch = ints[0],
                              .epochs = epochs,
                              .step = ints[1],
                              .best = ints[2] != 0,
                              .quantized = ints[3] != 0,
                              .lr = reals[0],
                              .loss = reals[1],
                              .accuracy = reals[2],
                              .eval_loss = reals[3],
                              .eval_accuracy = reals[4],
                              .seconds = reals[5] };
}

static rq_status save_counters(rq_trainer *t, rq_state *s)
{
    int64_t ints[N_INTS] = { FORMAT,        t->epoch,         t->step,     t->step_of_epoch,        t->sums.samples,
                             t->sums.right, t->sums.labelled, t->has_best, rq_trainer_metrics_at(t) };
    double reals[N_REALS] = { t->sums.loss };
    epoch_to(&t->last, ints + 9, reals + 1);
    epoch_to(&t->best, ints + 13, reals + 7);
    const uint64_t drawn = rq_autograd_random_state(t->a);
    int64_t random;
    memcpy(&random, &drawn, sizeof random);
    RQ_TRY(rq_state_set_ints(s, NULL, "counters", ints, N_INTS));
    RQ_TRY(rq_state_set_ints(s, NULL, "random", &random, 1));
    const rq_tensor t64 = rq_tensor_view(RQ_DTYPE_F64, &(rq_shape) { 1, { N_REALS } }, reals);
    RQ_TRY(rq_state_set(s, NULL, "sums", &t64));
    RQ_TRY(rq_state_set_text(s, NULL, "run", t->fingerprint));
    for (int i = 0; t->best_state && i < rq_state_count(t->best_state); i++)
        RQ_TRY(rq_state_set(s, "best.", rq_state_name(t->best_state, i), rq_state_tensor(t->best_state, i)));
    return rq_optimizer_save(t->o, s, "optimizer.");
}

static rq_status load_counters(rq_trainer *t, const rq_state *s, int64_t *metrics_at, rq_err *err)
{
    const rq_tensor *ints, *reals, *random;
    RQ_TRY(rq_state_get(s, NULL, "counters", RQ_DTYPE_S64, 1, &ints, err));
    RQ_TRY(rq_state_get(s, NULL, "sums", RQ_DTYPE_F64, 1, &reals, err));
    RQ_TRY(rq_state_get(s, NULL, "random", RQ_DTYPE_S64, 1, &random, err));
    if (rq_tensor_count(ints) != N_INTS || rq_tensor_count(reals) != N_REALS || rq_tensor_count(random) != 1 ||
        ints->s64[0] != FORMAT)
        return rq_fail(err, RQ_BAD_DATA, "the checkpoint is of another version of this library");
    const int64_t *c = ints->s64;
    const int64_t most = t->steps_per_epoch * t->batch; /* samples of an epoch */
    if (c[1] < 0 || c[1] > t->cfg.epochs || c[3] < 0 || c[3] > t->steps_per_epoch ||
        c[2] != c[1] * t->steps_per_epoch + c[3] || c[4] < 0 || c[4] > most || c[5] < 0 || c[5] > most || c[6] < 0 ||
        c[6] > most)
        return rq_fail(err, RQ_BAD_DATA, "the checkpoint is at a place that this run does not have");
    t->epoch = c[1];
    t->step = c[2];
    t->step_of_epoch = c[3];
    t->sums = (rq_trainer_sums) { .loss = reals->f64[0], .samples = c[4], .right = c[5], .labelled = c[6] };
    t->has_best = c[7] != 0;
    *metrics_at = c[8];
    t->last = epoch_from(c + 9, reals->f64 + 1, t->cfg.epochs);
    t->best = epoch_from(c + 13, reals->f64 + 7, t->cfg.epochs);
    uint64_t drawn;
    memcpy(&drawn, random->s64, sizeof drawn);
    rq_autograd_set_random_state(t->a, drawn);
    return RQ_OK;
}

static char *path_in(const char *folder)
{
    const size_t n = strlen(folder) + sizeof FILE_NAME + 1;
    char *path = rq_mem_alloc(n, 1);
    if (path)
        snprintf(path, n, "%s/%s", folder, FILE_NAME);
    return path;
}

/* Remove what killed processes left half-written. */
static void sweep(const char *folder)
{
    DIR *d = opendir(folder);
    const size_t n = sizeof FILE_NAME - 1;
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        char *end;
        if (strncmp(e->d_name, FILE_NAME, n) != 0 || e->d_name[n] != '.')
            continue;
        const long pid = strtol(e->d_name + n + 1, &end, 10);
        if (pid > 0 && *end == '-' && strstr(end, ".tmp") && kill((pid_t)pid, 0) && errno == ESRCH)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
}

rq_status rq_trainer_state_write(rq_trainer *t, rq_err *err)
{
    const char *folder = t->cfg.checkpoint;
    rq_state *s = NULL;
    if (mkdir(folder, 0777) == 0)
        errno = 0;
    else if (errno != EEXIST)
        return rq_fail(err, RQ_IO, "%s: cannot be made: %s", folder, strerror(errno));
    sweep(folder);
    char *path = path_in(folder);
    if (!path || rq_state_create(&s)) {
        rq_mem_free(path);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a checkpoint");
    }
    rq_status st = rq_trainer_state_save(t, s, "", err);
    if (!st && (st = save_counters(t, s)))
        rq_fail(err, st, "out of memory for a checkpoint");
    if (!st)
        st = rq_state_save(s, path, err);
    rq_state_destroy(s);
    rq_mem_free(path);
    return st;
}

static rq_status take_best(rq_trainer *t, const rq_state *s)
{
    rq_state *best;
    RQ_TRY(rq_state_create(&best));
    rq_status st = RQ_OK;
    for (int i = 0; i < rq_state_count(s) && !st; i++)
        if (!strncmp(rq_state_name(s, i), "best.", 5))
            st = rq_state_set(best, NULL, rq_state_name(s, i) + 5, rq_state_tensor(s, i));
    rq_state_destroy(t->best_state);
    t->best_state = best;
    return st;
}

static rq_status put_back(rq_trainer *t, const rq_state *s, const char *path, rq_err *err)
{
    const rq_tensor *run;
    int64_t at = 0;
    RQ_TRY(rq_state_get(s, NULL, "run", RQ_DTYPE_U8, 1, &run, err));
    RQ_TRY(compare_runs(path, run->data, run->bytes, t->fingerprint, err));
    RQ_TRY(rq_trainer_state_load(t, s, "", err));
    RQ_TRY(rq_optimizer_load(t->o, s, "optimizer.", err));
    RQ_TRY(load_counters(t, s, &at, err));
    if (t->has_best && t->cfg.keep_best && take_best(t, s))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the best epoch of the checkpoint");
    return rq_trainer_metrics_open(t, at, err);
}

rq_status rq_trainer_state_resume(rq_trainer *t, bool *found, rq_err *err)
{
    const char *folder = t->cfg.resume;
    struct stat info;
    rq_state *s = NULL;
    char *path = path_in(folder);
    *found = false;
    if (!path)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a checkpoint");
    if (stat(path, &info)) {
        const bool begin = t->cfg.checkpoint && !strcmp(t->cfg.checkpoint, folder);
        const rq_status none =
            begin ? RQ_OK
                  : rq_fail(err, RQ_NOT_FOUND, "%s: there is no checkpoint (%s) to resume from", folder, FILE_NAME);
        rq_mem_free(path);
        return none;
    }
    rq_status st = rq_state_load(&s, path, err);
    if (!st)
        st = put_back(t, s, path, err);
    *found = !st;
    rq_state_destroy(s);
    rq_mem_free(path);
    return st;
}
