/* quant_eager_qat.c — a network trained in eager mode (docs/torch-facts.md 7): built by hand, fused, prepared, ten steps of SGD with observers
 * switched off and batch norms frozen on the way, converted, and run in integers; every loss, gradient, scale, statistic and code
 * beside PyTorch's. */
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

enum { MOST_STEPS = 64, MOST_FAKES = 64 };

/* Rows of numbers, one per step. */
typedef struct rows {
    char name[128];
    double *v;
    int64_t n, width;
} rows;

typedef struct run {
    golden_case *c;
    rq_graph *g, *converted;
    rq_eager *e;
    rq_autograd *a;
    rq_optimizer *optimizer;
    rq_qconfig_mapping *mapping;
    rows table[4 * MOST_FAKES];
    int n_tables;
    rq_tensor codes; /* of the value being tapped */
    rq_err err;
} run;

/* The network of the set: two convolutions with a skip around the second, a depthwise one, Hardswish, a pool, two layers. */
static rq_status build(run *r)
{
    rq_nn *n;
    (void)rq_nn_create(&n, 1);
    rq_nn_value skip, x = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (const int64_t[]) { RQ_DIM_UNKNOWN, 3, 8, 8 });
    x = rq_nn_quant_stub(n, "quant", x);
    x = rq_nn_conv2d(n, "conv1", x, 8, 3, &(rq_nn_conv) { .padding = 1, .no_bias = true });
    x = rq_nn_batch_norm(n, "bn1", x, NULL);
    skip = x = rq_nn_relu(n, "relu1", x);
    x = rq_nn_conv2d(n, "conv2", x, 8, 3, &(rq_nn_conv) { .padding = 1, .groups = 2 });
    x = rq_nn_batch_norm(n, "bn2", x, NULL);
    x = rq_nn_ff_add_relu(n, "add", x, skip);
    x = rq_nn_conv2d(n, "conv3", x, 8, 3, &(rq_nn_conv) { .padding = 1, .stride = 2, .groups = 8 });
    x = rq_nn_batch_norm(n, "bn3", x, NULL);
    x = rq_nn_hardswish(n, "hs", x);
    x = rq_nn_adaptive_avg_pool(n, "pool", x, 1);
    x = rq_nn_flatten(n, "flatten", x, 1);
    x = rq_nn_linear(n, "fc1", x, 12, NULL);
    x = rq_nn_relu(n, "relu2", x);
    x = rq_nn_linear(n, "fc2", x, 5, NULL);
    x = rq_nn_dequant_stub(n, "dequant", x);
    rq_nn_output(n, "y", x);
    return rq_nn_finish(n, &r->g, &r->err);
}

static rq_status load(run *r)
{
    rq_state *state = NULL;
    const char *name;
    json_t *key;
    rq_status s = rq_state_create(&state);
    json_object_foreach(json_object_get(r->c->json, "inputs"), name, key)
    {
        rq_tensor t;
        if (s || strncmp(name, "init/", 5) != 0 || !golden_in(r->c, &t, name))
            continue;
        s = rq_state_set(state, NULL, name + 5, &t);
        rq_tensor_release(&t);
    }
    if (!s)
        s = rq_nn_load_state_dict(r->g, state, NULL, true, &r->err);
    rq_state_destroy(state);
    return s;
}

static rq_status fuse(run *r)
{
    const json_t *lists = json_object_get(json_object_get(r->c->json, "params"), "fuse"), *list, *name;
    size_t i, k;
    json_array_foreach((json_t *)lists, i, list)
    {
        const char *names[8];
        int n = 0;
        json_array_foreach((json_t *)list, k, name) if (n < 8) names[n++] = json_string_value(name);
        const rq_status s = rq_nn_fuse_modules(r->g, RQ_NN_FUSE_QAT, names, n, &r->err);
        if (s)
            return s;
    }
    return RQ_OK;
}

static rq_status prepare(run *r)
{
    char backend[32];
    int version;
    rq_qconfig q;
    const char *text = golden_param_str(r->c, "qconfig");
    if (!text || sscanf(text, "default qat %31s version %d", backend, &version) != 2)
        return rq_fail(&r->err, RQ_BAD_DATA, "qconfig '%s' is not known to the runner", text ? text : "");
    rq_status s = rq_qconfig_default_qat(&q, backend, version, &r->err);
    if (!s)
        s = rq_qconfig_mapping_create(&r->mapping, &r->err);
    if (!s)
        s = rq_qconfig_mapping_set_global(r->mapping, &q, &r->err);
    if (!s)
        s = rq_prepare_qat(&r->e, r->g, r->mapping, true, &r->err);
    if (s)
        return s;
    rq_autograd_cfg cfg = rq_autograd_defaults();
    cfg.threads = 1;
    cfg.n_fakes = rq_eager_fakes(r->e, &cfg.fakes, NULL);
    s = rq_autograd_create(&r->a, rq_eager_model(r->e), &cfg, &r->err);
    rq_optimizer_cfg o = rq_optimizer_defaults(RQ_OPTIMIZER_SGD);
    o.lr = golden_param_number(r->c, "lr", 0);
    o.momentum = golden_param_number(r->c, "momentum", 0);
    return s ? s : rq_optimizer_create(&r->optimizer, &o, NULL, 0, &r->err);
}

/* ---- comparing ---- */

/* What the set says nothing of has the tolerance of its kin. */
static const json_t *tolerance(const golden_case *c, const char *what)
{
    static const struct {
        const char *pattern, *as;
    } kin[] = {
        { "grad[0-9]*/*", "grad0/x" },   { "fq/*/m??", "bn/x" },    { "after*", "bn/x" },
        { "q/*/w_scale", "fq/x/scale" }, { "q/*/bias", "final/x" }, { "q/*/w_zero_point", "fq/x/zero_point" },
    };
    for (size_t i = 0; i < sizeof kin / sizeof kin[0]; i++)
        if (!fnmatch(kin[i].pattern, what, 0))
            return golden_tol(c, kin[i].as);
    return golden_tol(c, what);
}

static void check(run *r, const char *what, const rq_tensor *t)
{
    if (fnmatch("*y[0-9]*", what, 0) != 0 || strncmp(what, "fq/", 3) == 0) {
        golden_check_under(r->c, what, t, tolerance(r->c, what));
        return;
    }
    /* outputs are codes of the last layer times its step, so they have the tolerance of codes */
    const json_t *fc2 = json_object_get(json_object_get(json_object_get(r->c->json, "params"), "converted"), "fc2");
    json_t *tol = json_pack("{s:f, s:f}", "abs", 2 * json_number_value(json_object_get(fc2, "scale")), "mismatch", 0.1);
    golden_check_under(r->c, what, t, tol);
    json_decref(tol);
}

/* ---- what a step shows ---- */

static void put(run *r, const char *name, const float *v, int64_t n)
{
    int i = 0;
    while (i < r->n_tables && strcmp(r->table[i].name, name) != 0)
        i++;
    if (i == (int)(sizeof r->table / sizeof r->table[0]))
        return;
    rows *t = &r->table[i];
    if (i == r->n_tables) {
        r->n_tables++;
        snprintf(t->name, sizeof t->name, "%s", name);
        t->width = n;
    }
    t->v = realloc(t->v, (size_t)(t->n + n) * sizeof *t->v);
    for (int64_t k = 0; k < n; k++)
        t->v[t->n++] = v[k];
}

static rq_status put_fakes(run *r)
{
    rq_fake_quantizer *const *fakes;
    const char *const *names;
    const int n = rq_eager_fakes(r->e, &fakes, &names);
    for (int i = 0; i < n; i++) {
        static const char *const what[] = { "scale", "zero_point", "min", "max" };
        const int channels = rq_fake_quantizer_channels(fakes[i]);
        rq_range *range = calloc((size_t)channels, sizeof *range);
        float *v = calloc((size_t)channels, sizeof *v);
        const rq_status s = rq_observer_range(rq_fake_quantizer_observer(fakes[i]), range, channels);
        for (int k = 0; k < 4 && !s; k++) {
            char name[192];
            for (int ch = 0; ch < channels; ch++)
                v[ch] = k == 0   ? rq_fake_quantizer_scale(fakes[i])[ch]
                        : k == 1 ? rq_fake_quantizer_zero_point(fakes[i])[ch]
                        : k == 2 ? (float)range[ch].lo
                                 : (float)range[ch].hi;
            snprintf(name, sizeof name, "fq/%s/%s", names[i], what[k]);
            put(r, name, v, channels);
        }
        free(range);
        free(v);
        if (s)
            return s;
    }
    return RQ_OK;
}

static void put_norms(run *r)
{
    const char *name;
    json_t *key;
    json_object_foreach(json_object_get(r->c->json, "outputs"), name, key)
    {
        char constant[128];
        rq_tensor t;
        if (strncmp(name, "bn/", 3) != 0)
            continue;
        snprintf(constant, sizeof constant, "%s", name + 3);
        *strrchr(constant, '/') = '.';
        if (rq_edit_constant(rq_eager_model(r->e), constant, &t, &r->err)) {
            golden_fail(r->c, "%s: %s", name, r->err.text);
            return;
        }
        put(r, name, t.f32, rq_tensor_count(&t));
        rq_tensor_release(&t);
    }
}

/* Every parameter as output "<what>/<name>": its gradient or itself. */
static void check_parameters(run *r, const char *what, bool grad)
{
    rq_parameter *p;
    const int n = rq_autograd_parameters(r->a, &p);
    for (int i = 0; i < n; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s/%s", what, p[i].name);
        if (!golden_has(r->c, name))
            continue;
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &p[i].shape, grad ? p[i].grad : p[i].data);
        check(r, name, &t);
    }
}

static bool input(run *r, rq_tensor *t, const char *what, int i)
{
    char name[32];
    snprintf(name, sizeof name, "%s%d", what, i);
    return json_object_get(json_object_get(r->c->json, "inputs"), name) && golden_in(r->c, t, name);
}

static void check_numbered(run *r, const char *what, int i, const rq_tensor *t)
{
    char name[64];
    snprintf(name, sizeof name, "%s%d", what, i);
    if (golden_has(r->c, name))
        check(r, name, t);
}

static rq_status step(run *r, int i, const rq_tensor *x, const rq_tensor *target)
{
    char name[32];
    double loss = 0;
    rq_tensor y, dy;
    const rq_feed feed = { "x", *x };
    const rq_loss_cfg mse = rq_loss_defaults(RQ_LOSS_MSE);
    if (i == golden_param_int(r->c, "observers_off_before_step", -1))
        rq_eager_enable_observer(r->e, false);
    if (i == golden_param_int(r->c, "bn_frozen_before_step", -1)) {
        const rq_status s = rq_autograd_freeze_batch_norm(r->a, NULL, true, &r->err);
        if (s)
            return s;
    }
    rq_status s = rq_autograd_forward(r->a, &feed, 1, &y, &r->err);
    if (s)
        return s;
    check_numbered(r, "y", i, &y);
    s = put_fakes(r);
    put_norms(r);
    if (!s)
        s = rq_tensor_create(&dy, RQ_DTYPE_F32, &y.shape, true);
    if (s)
        return s;
    s = rq_loss_compute(&mse, NULL, &y, target, &loss, dy.f32, &r->err);
    const float l = (float)loss;
    put(r, "loss", &l, 1);
    rq_autograd_zero_grad(r->a);
    if (!s)
        s = rq_autograd_backward(r->a, &dy, &r->err);
    rq_tensor_release(&dy);
    snprintf(name, sizeof name, "grad%d", i);
    check_parameters(r, name, true);
    if (!s) {
        rq_parameter *p;
        const int n = rq_autograd_parameters(r->a, &p);
        s = rq_optimizer_step(r->optimizer, p, n, -1, &r->err);
    }
    snprintf(name, sizeof name, "after%d", i);
    check_parameters(r, name, false);
    return s;
}

static rq_status train(run *r)
{
    const int steps = (int)golden_param_int(r->c, "steps", 0);
    rq_tensor x, t;
    rq_status s = RQ_OK;
    for (int i = 0; i < steps && i < MOST_STEPS && !s; i++) {
        if (!input(r, &x, "x", i) || !input(r, &t, "t", i))
            return rq_fail(&r->err, RQ_BAD_DATA, "step %d has no batch", i);
        s = step(r, i, &x, &t);
        rq_tensor_release(&x);
        rq_tensor_release(&t);
    }
    check_parameters(r, "final", false);
    rq_autograd_train(r->a, false);
    for (int i = 0; !s && input(r, &x, "test", i); i++) {
        rq_tensor y;
        const rq_feed feed = { "x", x };
        s = rq_autograd_forward(r->a, &feed, 1, &y, &r->err);
        if (!s)
            check_numbered(r, "fake_y", i, &y);
        rq_tensor_release(&x);
    }
    for (int i = 0; i < r->n_tables; i++) {
        const rows *at = &r->table[i];
        rq_tensor got;
        const rq_shape shape = rq_shape_of(at->width > 1 || strcmp(at->name, "loss") != 0 ? 2 : 1,
                                           (const int64_t[]) { at->n / at->width, at->width });
        if (!golden_has(r->c, at->name))
            continue;
        s = s ? s : rq_tensor_create(&got, RQ_DTYPE_F32, &shape, false);
        if (s)
            break;
        for (int64_t k = 0; k < at->n; k++)
            got.f32[k] = (float)at->v[k];
        check(r, at->name, &got);
        rq_tensor_release(&got);
    }
    return s;
}

/* ---- in integers ---- */

static rq_status keep_codes(void *arg, const char *value, const rq_tensor *t, const rq_qparams *q, rq_err *err)
{
    run *r = arg;
    (void)value;
    (void)q;
    (void)err;
    rq_tensor_release(&r->codes);
    return rq_tensor_copy(&r->codes, t);
}

/* The last value of module `name` in the converted graph. */
static const char *output_of(const rq_graph *g, const char *name)
{
    const char *found = NULL;
    char prefix[96];
    snprintf(prefix, sizeof prefix, "/%s/", name);
    for (int i = 0; i < rq_edit_n_nodes(g); i++) {
        rq_edit_node n;
        if (rq_edit_node_at(g, i, &n) && n.name && !strncmp(n.name, prefix, strlen(prefix)))
            found = rq_edit_node_out(g, i, 0);
    }
    return found;
}

static void check_vector(run *r, const char *name, const float *v, int64_t n)
{
    float *copy = malloc((size_t)n * sizeof *copy);
    const rq_shape s = rq_shape_of(1, &n);
    memcpy(copy, v, (size_t)n * sizeof *copy);
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &s, copy);
    check(r, name, &t);
    free(copy);
}

static void check_floats_of(run *r, const char *module, const char *what, const float *v, int64_t n)
{
    char name[96];
    snprintf(name, sizeof name, "q/%s/%s", module, what);
    if (golden_has(r->c, name))
        check_vector(r, name, v, n);
}

static rq_status check_layer(run *r, const char *module)
{
    char name[96];
    rq_tensor w, b;
    rq_value_info info;
    snprintf(name, sizeof name, "%s.weight", module);
    rq_status s = rq_edit_value(r->converted, name, &info, &r->err);
    if (!s)
        s = rq_edit_constant(r->converted, name, &w, &r->err);
    if (s)
        return s;
    snprintf(name, sizeof name, "q/%s/w", module);
    check(r, name, &w);
    rq_tensor_release(&w);
    if (!info.quant)
        return rq_fail(&r->err, RQ_BAD_DATA, "the weight of '%s' has no codes", module);
    check_floats_of(r, module, "w_scale", info.quant->scale, info.quant->n);
    snprintf(name, sizeof name, "q/%s/w_zero_point", module);
    float zero[64] = { 0 };
    for (int64_t i = 0; i < info.quant->n && i < 64; i++)
        zero[i] = (float)info.quant->zero_point[i];
    check_vector(r, name, zero, info.quant->n);
    snprintf(name, sizeof name, "%s.bias", module);
    s = rq_edit_constant(r->converted, name, &b, &r->err);
    if (s)
        return s;
    check_floats_of(r, module, "bias", b.f32, rq_tensor_count(&b));
    rq_tensor_release(&b);
    return RQ_OK;
}

/* Scale and zero point that PyTorch's module ended with. */
static void check_converted(run *r, const char *module, const json_t *want)
{
    const char *value = output_of(r->converted, module);
    rq_value_info info;
    const json_t *scale = json_object_get(want, "scale"), *zero = json_object_get(want, "zero_point");
    if (!scale || !zero)
        return;
    if (!value || rq_edit_value(r->converted, value, &info, &r->err) || !info.quant) {
        golden_fail(r->c, "module '%s' gives no codes", module);
        return;
    }
    const double s = json_number_value(scale);
    if (!(fabs((double)info.quant->scale[0] - s) <= 1e-3 * s) ||
        llabs(info.quant->zero_point[0] - (long long)json_integer_value(zero)) > 1) /* tolerances of fq/ */
        golden_fail(r->c, "module '%s': scale %.9g zero point %d, want %.9g and %d", module,
                    (double)info.quant->scale[0], info.quant->zero_point[0], s, (int)json_integer_value(zero));
}

static rq_status check_codes(run *r, const char *output, rq_session *s, const rq_feed *feed)
{
    char module[64], number[16];
    rq_tensor y;
    if (sscanf(output, "q/%63[^/]/codes%15s", module, number) != 2)
        return RQ_OK;
    const char *value = output_of(r->converted, module);
    if (!value)
        return rq_fail(&r->err, RQ_NOT_FOUND, "there is no module '%s'", module);
    rq_status st = rq_session_tap_codes(s, value, keep_codes, r, &r->err);
    if (!st)
        st = rq_session_run(s, feed, 1, &y, &r->err);
    if (st)
        return st;
    check(r, output, &r->codes);
    rq_tensor_release(&y);
    return RQ_OK;
}

static rq_status integers(run *r)
{
    const char *name;
    const json_t *converted = json_object_get(json_object_get(r->c->json, "params"), "converted");
    json_t *v;
    rq_tensor x;
    rq_status s = rq_convert(r->e, &r->converted, &r->err);
    json_object_foreach((json_t *)converted, name, v) if (!s) check_converted(r, name, v);
    json_object_foreach(json_object_get(r->c->json, "outputs"), name, v)
    {
        char module[64];
        int n = 0;
        if (!s && sscanf(name, "q/%63[^/]/w%n", module, &n) == 1 && n == (int)strlen(name))
            s = check_layer(r, module);
    }
    for (int i = 0; !s && input(r, &x, "test", i); i++) {
        const rq_feed feed = { "x", x };
        char end[16];
        const int n_end = snprintf(end, sizeof end, "/codes%d", i);
        rq_session *session = NULL;
        rq_tensor y;
        s = rq_session_create(&session, r->converted, NULL, &r->err);
        if (!s)
            s = rq_session_run(session, &feed, 1, &y, &r->err);
        if (!s) {
            check_numbered(r, "q/y", i, &y);
            rq_tensor_release(&y);
        }
        json_object_foreach(json_object_get(r->c->json, "outputs"), name,
                            v) if (!s && strlen(name) > (size_t)n_end && !strcmp(name + strlen(name) - n_end, end)) s =
            check_codes(r, name, session, &feed);
        rq_session_destroy(session);
        rq_tensor_release(&x);
    }
    return s;
}

golden_verdict golden_eager_qat(golden_case *c)
{
    run *r = calloc(1, sizeof *r);
    r->c = c;
    rq_status s = build(r);
    if (!s)
        s = load(r);
    if (!s)
        s = fuse(r);
    if (!s)
        s = prepare(r);
    if (!s)
        s = train(r);
    if (!s)
        s = integers(r);
    if (s)
        golden_fail(c, "%s: %s", rq_status_text(s), r->err.text);
    for (int i = 0; i < r->n_tables; i++)
        free(r->table[i].v);
    rq_tensor_release(&r->codes);
    rq_autograd_destroy(r->a);
    rq_optimizer_destroy(r->optimizer);
    rq_eager_destroy(r->e);
    rq_qconfig_mapping_destroy(r->mapping);
    rq_graph_destroy(r->g);
    rq_graph_destroy(r->converted);
    free(r);
    return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}
