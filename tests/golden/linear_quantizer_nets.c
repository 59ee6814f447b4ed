/* linear_quantizer_nets.c — the networks of the golden trajectories, built node by node: which one a case trains follows from its parameters.
 *
 *   conv, conv2            two convolutions, each with a ReLU
 *   fc1, fc2               two linear layers, a ReLU between
 *   conv1, bn1, conv2, bn2, fc   a residual block: y = fc(flatten(pool(a + relu(bn2(conv2(a)))))), a = relu(bn1(conv1(x)))
 *   conv1, bn1, up, conv2  sigmoid(conv2(cat(a, up(max_pool(a))))), a = hardswish(bn1(conv1(x))) */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "linear_quantizer.h"

typedef struct net {
    golden_case *c;
    rq_graph *g;
    rq_err err;
    bool failed;
} net;

static void bad(net *n, const char *what)
{
    if (!n->failed)
        golden_fail(n->c, "%s: %s", what, n->err.text);
    n->failed = true;
}

static bool has_init(const golden_case *c, const char *name)
{
    char key[200];
    snprintf(key, sizeof key, "init/%.150s", name);
    return json_object_get(json_object_get(c->json, "inputs"), key);
}

void golden_move_last_bits(rq_tensor *x, int seed)
{
    uint64_t s = (uint64_t)seed * 0x9e3779b97f4a7c15u;
    for (int64_t i = 0, n = rq_tensor_count(x); seed && i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        const int way = (int)((s >> 33) % 3);
        x->f32[i] = way ? nextafterf(x->f32[i], way == 1 ? INFINITY : -INFINITY) : x->f32[i];
    }
}

/* Constant `name` from init/<name>. */
static void constant(net *n, const char *name)
{
    char key[200];
    rq_tensor t;
    snprintf(key, sizeof key, "init/%.150s", name);
    if (n->failed || !golden_in(n->c, &t, key)) {
        n->failed = true;
        return;
    }
    if (rq_edit_add_constant(n->g, name, &t, &n->err))
        bad(n, name);
    rq_tensor_release(&t);
}

enum { MOST_IN = 5 };

enum { LONGEST = 120 };

/* y = op(in...) in `module`; inputs that begin with '.' are the module's constants. */
static int node(net *n, const char *op, const char *module, const char *y, const char *const *in, int n_in)
{
    char name[LONGEST], own[MOST_IN][LONGEST];
    const char *ins[MOST_IN];
    int id = -1;
    snprintf(name, sizeof name, "/%s%s%s", module, module[0] ? "/" : "", op);
    for (int i = 0; i < n_in; i++) {
        ins[i] = in[i];
        if (in[i][0] != '.')
            continue;
        snprintf(own[i], sizeof own[i], "%.80s%.30s", module, in[i]);
        constant(n, own[i]);
        ins[i] = own[i];
    }
    const rq_edit_node e = { .op = op, .name = name, .in = ins, .n_in = n_in, .out = &y, .n_out = 1 };
    if (!n->failed && rq_edit_add_node(n->g, &e, &id, &n->err))
        bad(n, name);
    return id;
}

static void conv(net *n, const char *module, const char *y, const char *x, int pad)
{
    char bias[80];
    snprintf(bias, sizeof bias, "%s.bias", module);
    const int id =
        node(n, "Conv", module, y, (const char *const[]) { x, ".weight", ".bias" }, has_init(n->c, bias) ? 3 : 2);
    if (!n->failed && rq_edit_set_ints(n->g, id, "pads", (const int64_t[]) { pad, pad, pad, pad }, 4, &n->err))
        bad(n, module);
}

static void linear(net *n, const char *module, const char *y, const char *x)
{
    const int id = node(n, "Gemm", module, y, (const char *const[]) { x, ".weight", ".bias" }, 3);
    if (!n->failed && rq_edit_set_int(n->g, id, "transB", 1, &n->err))
        bad(n, module);
}

static void batch_norm(net *n, const char *module, const char *y, const char *x)
{
    const int id = node(n, "BatchNormalization", module, y,
                        (const char *const[]) { x, ".weight", ".bias", ".running_mean", ".running_var" }, 5);
    if (!n->failed && (rq_edit_set_float(n->g, id, "epsilon", 1e-5f, &n->err) ||
                       rq_edit_set_float(n->g, id, "momentum", 0.9f, &n->err)))
        bad(n, module);
}

static int call(net *n, const char *op, const char *module, const char *y, const char *x)
{
    return node(n, op, module, y, &x, 1);
}

static void two_convs(net *n)
{
    conv(n, "conv", "c1", "x", 0);
    call(n, "Relu", "relu", "r1", "c1");
    conv(n, "conv2", "c2", "r1", 0);
    call(n, "Relu", "relu2", "y", "c2");
}

static void two_linears(net *n)
{
    linear(n, "fc1", "f1", "x");
    call(n, "Relu", "relu", "r1", "f1");
    linear(n, "fc2", "y", "r1");
}

static void residual(net *n)
{
    conv(n, "conv1", "c1", "x", 1);
    batch_norm(n, "bn1", "n1", "c1");
    call(n, "Relu", "relu1", "r1", "n1");
    conv(n, "conv2", "c2", "r1", 1);
    batch_norm(n, "bn2", "n2", "c2");
    call(n, "Relu", "relu2", "r2", "n2");
    node(n, "Add", "", "sum", (const char *const[]) { "r1", "r2" }, 2);
    call(n, "GlobalAveragePool", "pool", "pooled", "sum");
    call(n, "Flatten", "", "flat", "pooled");
    linear(n, "fc", "y", "flat");
}

static void mixed(net *n)
{
    conv(n, "conv1", "c1", "x", 1);
    batch_norm(n, "bn1", "n1", "c1");
    call(n, "HardSwish", "act", "a", "n1");
    const int pool = call(n, "MaxPool", "pool", "pooled", "a");
    const int up = node(n, "ConvTranspose", "up", "u", (const char *const[]) { "pooled", ".weight", ".bias" }, 3);
    const int cat = node(n, "Concat", "", "both", (const char *const[]) { "a", "u" }, 2);
    conv(n, "conv2", "c2", "both", 0);
    call(n, "Sigmoid", "sig", "y", "c2");
    const int64_t two[] = { 2, 2 };
    if (!n->failed &&
        (rq_edit_set_ints(n->g, pool, "kernel_shape", two, 2, &n->err) ||
         rq_edit_set_ints(n->g, pool, "strides", two, 2, &n->err) ||
         rq_edit_set_ints(n->g, up, "strides", two, 2, &n->err) || rq_edit_set_int(n->g, cat, "axis", 1, &n->err)))
        bad(n, "attributes");
}

static const struct {
    const char *layer, *other; /* parameters that it has */
    void (*build)(net *n);
    const char *place[8]; /* values behind which activation_post_process_0, 1, ... stand */
} nets[] = {
    { "conv", "conv2", two_convs, { "x", "r1", "y" } },
    { "fc1", "fc2", two_linears, { "x", "r1", "y" } },
    { "conv1", "fc", residual, { "x", "r1", "r2", "sum", "pooled", "flat", "y" } },
    { "conv1", "up", mixed, { "x", "a", "pooled", "u", "both", "y" } },
};

rq_graph *golden_net(golden_case *c, const char *const **places)
{
    net n = { .c = c };
    rq_tensor x;
    char a[80], b[80];
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        snprintf(a, sizeof a, "%s.weight", nets[i].layer);
        snprintf(b, sizeof b, "%s.weight", nets[i].other);
        if (!has_init(c, a) || !has_init(c, b))
            continue;
        if (!golden_in(c, &x, "x"))
            return NULL;
        const rq_shape shape = rq_shape_of(x.shape.rank - 1, x.shape.dim + 1);
        rq_tensor_release(&x);
        if (rq_graph_create(&n.g) || rq_edit_set_opset(n.g, "", 17, &n.err) ||
            rq_edit_add_input(n.g, "x", RQ_DTYPE_F32, &shape, &n.err))
            bad(&n, "the graph");
        nets[i].build(&n);
        if (!n.failed && (rq_edit_add_output(n.g, "y", &n.err) || rq_edit_check(n.g, &n.err)))
            bad(&n, "the graph");
        *places = nets[i].place;
        if (!n.failed)
            return n.g;
        rq_graph_destroy(n.g);
        return NULL;
    }
    golden_fail(c, "none of the networks here has these parameters");
    return NULL;
}
