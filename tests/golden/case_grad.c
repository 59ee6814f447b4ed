/* case_grad.c — whole networks forward and backward: op "gradient". params.model is an ONNX file beside cases.json whose trained constants are
 * initializers; inputs are x:<graph input> and dy:<graph output>; outputs are y:<graph output>, dx:<graph input>, dw:<initializer>
 * and, of running statistics after the forward, stat:<initializer>. Every trained constant must have an output and every dw must be trained.
 * Each case runs with oneDNN and without, on one thread and two, and with activations computed twice. */
#include <stdio.h>
#include <string.h>

#include "golden.h"

typedef struct run {
    golden_case *c;
    rq_graph *g;
    rq_autograd *a;
    rq_feed feed[8];
    rq_tensor x[8], dy[8], y[8];
    int n_in, n_out;
} run;

static const char *after(const char *key, const char *prefix)
{
    const size_t n = strlen(prefix);
    return strncmp(key, prefix, n) ? NULL : key + n;
}

static bool find_inputs(run *r)
{
    golden_case *c = r->c;
    const char *key;
    json_t *unused;
    json_object_foreach(json_object_get(c->json, "inputs"), key, unused)
    {
        const char *x = after(key, "x:");
        if (!x)
            continue;
        if (r->n_in == 8 || !golden_in(c, &r->x[r->n_in], key)) {
            golden_fail(c, "no input %s, or more than 8", key);
            return false;
        }
        r->feed[r->n_in] = (rq_feed) { .name = x, .tensor = r->x[r->n_in] };
        r->n_in++;
    }
    r->n_out = rq_graph_n_outputs(r->g);
    for (int i = 0; i < r->n_out && i < 8; i++) {
        char name[256];
        snprintf(name, sizeof name, "dy:%s", rq_graph_output(r->g, i).name);
        if (json_object_get(json_object_get(c->json, "inputs"), name) && !golden_in(c, &r->dy[i], name))
            return false;
    }
    return true;
}

static void check_parameters(run *r)
{
    golden_case *c = r->c;
    rq_parameter *p;
    const int n = rq_autograd_parameters(r->a, &p);
    for (int i = 0; i < n; i++) {
        char name[256];
        snprintf(name, sizeof name, "dw:%s", p[i].name);
        if (!golden_has(c, name)) {
            golden_fail(c, "%s is trained here, and not there", p[i].name);
            continue;
        }
        const rq_tensor grad = rq_tensor_view(RQ_DTYPE_F32, &p[i].shape, p[i].grad);
        golden_check(c, name, &grad);
    }
}

static void check_statistics(run *r)
{
    const char *key;
    json_t *unused;
    json_object_foreach(json_object_get(r->c->json, "outputs"), key, unused)
    {
        const char *name = after(key, "stat:");
        rq_tensor t;
        rq_err err = { 0 };
        if (!name)
            continue;
        if (rq_edit_constant(r->g, name, &t, &err)) {
            golden_fail(r->c, "%s", err.text);
            continue;
        }
        golden_check(r->c, key, &t);
        rq_tensor_release(&t);
    }
}

static void check(run *r, const char *name, const rq_tensor *t)
{
    if (golden_has(r->c, name))
        golden_check(r->c, name, t);
}

/* An operator of g between floats that has no gradient; NULL: none. Those that make constants, shapes and flags need none. */
static const char *without_gradient(const rq_graph *g)
{
    static const char *const none[] = {
        "Constant", "ConstantOfShape", "Shape",       "Size", "Range", "Equal", "Greater",
        "Less",     "GreaterOrEqual",  "LessOrEqual", "Not",  "And",   "Or",    "EyeLike"
    };
    rq_edit_node n;
    rq_op_support row;
    for (int id = 0; id < rq_edit_n_nodes(g); id++) {
        bool needed = rq_edit_node_at(g, id, &n);
        for (size_t i = 0; needed && i < sizeof none / sizeof none[0]; i++)
            needed = strcmp(n.op, none[i]);
        for (int i = 0; needed && rq_ops_support(i, &row); i++)
            if (!strcmp(row.name, n.op) && !strcmp(row.domain, n.domain ? n.domain : "") && !row.gradient)
                return row.name;
    }
    return NULL;
}

static void one(golden_case *c, const rq_autograd_cfg *cfg)
{
    run r = { .c = c };
    char path[4096], name[256];
    rq_err err = { 0 };
    if (rq_load(&r.g, golden_path(path, sizeof path, c, golden_param_str(c, "model")), &err) ||
        rq_autograd_create(&r.a, r.g, cfg, &err)) {
        golden_fail(c, "%s", err.text);
        goto done;
    }
    rq_autograd_train(r.a, golden_param_bool(c, "train", true));
    rq_autograd_keep(r.a, true);
    if (!find_inputs(&r))
        goto done;
    for (int i = 0; i < r.n_in; i++)
        if (r.x[i].dtype == RQ_DTYPE_F32 && rq_autograd_want_input(r.a, r.feed[i].name, &err))
            golden_fail(c, "%s", err.text);
    if (rq_autograd_forward(r.a, r.feed, r.n_in, r.y, &err)) {
        golden_fail(c, "forward: %s", err.text);
        goto done;
    }
    for (int i = 0; i < r.n_out; i++) {
        snprintf(name, sizeof name, "y:%s", rq_graph_output(r.g, i).name);
        check(&r, name, &r.y[i]);
    }
    rq_autograd_zero_grad(r.a);
    if (rq_autograd_backward(r.a, r.dy, &err)) {
        golden_fail(c, "backward: %s", err.text);
        goto done;
    }
    check_parameters(&r);
    check_statistics(&r);
    for (int i = 0; i < r.n_in; i++) {
        rq_tensor dx;
        snprintf(name, sizeof name, "dx:%s", r.feed[i].name);
        if (r.x[i].dtype == RQ_DTYPE_F32 && !rq_autograd_input_grad(r.a, r.feed[i].name, &dx, &err))
            check(&r, name, &dx);
    }
done:
    rq_autograd_destroy(r.a);
    rq_graph_destroy(r.g);
    for (int i = 0; i < 8; i++) {
        rq_tensor_release(&r.x[i]);
        rq_tensor_release(&r.dy[i]);
    }
}

golden_verdict golden_gradient(golden_case *c)
{
    rq_autograd_cfg cfg = rq_autograd_defaults();
    rq_graph *g = NULL;
    char path[4096];
    const char *missing =
        rq_load(&g, golden_path(path, sizeof path, c, golden_param_str(c, "model")), NULL) ? NULL : without_gradient(g);
    rq_graph_destroy(g);
    if (missing)
        return golden_skip(c, "%s has no gradient", missing);
    for (int way = 0; way < 4 && !c->failed; way++) {
        cfg.onednn = way == 0;
        cfg.threads = way == 2 ? 2 : 1;
        cfg.checkpoint_activations = way == 3;
        one(c, &cfg);
    }
    return GOLDEN_PASS;
}
