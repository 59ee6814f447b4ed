/* linear_quantizer_nets.c — see linear_quantizer_nets.h. */
#include "linear_quantizer_nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if (call)                                                                                                      \
            fail_msg("%s", t->err.text);                                                                               \
    } while (0)

rq_tensor net_numbers(int rank, const int64_t *dim, double spread, uint64_t seed)
{
    rq_tensor x;
    const rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &s, false), RQ_OK);
    uint64_t state = seed * 2654435761u + 12345;
    for (int64_t i = 0, n = rq_tensor_count(&x); i < n; i++) {
        double sum = 0;
        for (int k = 0; k < 4; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (double)(state >> 40) / (double)(1 << 24) - 0.5;
        }
        x.f32[i] = (float)(sum * 1.7 * spread);
    }
    return x;
}

static const char *fresh(net *t)
{
    snprintf(t->names[t->n], NET_NAME, "v%d", t->n);
    return t->names[t->n++];
}

const char *net_constant(net *t, const char *name, int rank, const int64_t *dim, double spread)
{
    rq_tensor x = net_numbers(rank, dim, spread, ++t->seed);
    OK(rq_edit_add_constant(t->g, name, &x, &t->err));
    rq_tensor_release(&x);
    return name;
}

const char *net_number(net *t, double v)
{
    rq_tensor x;
    const rq_shape s = rq_shape_of(0, NULL);
    const char *name = fresh(t);
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &s, false), RQ_OK);
    x.f32[0] = (float)v;
    OK(rq_edit_add_constant(t->g, name, &x, &t->err));
    rq_tensor_release(&x);
    return name;
}

void net_begin(net *t, int rank, const int64_t *dim)
{
    *t = (net) { .n = 0 };
    const rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_graph_create(&t->g), RQ_OK);
    OK(rq_edit_set_opset(t->g, "", 20, &t->err));
    OK(rq_edit_add_input(t->g, "x", RQ_DTYPE_F32, &s, &t->err));
}

rq_graph *net_end(net *t, const char *y)
{
    OK(rq_edit_add_output(t->g, y, &t->err));
    OK(rq_edit_check(t->g, &t->err));
    return t->g;
}

/* One output; *id for attributes. */
static const char *node(net *t, const char *op, const char *module, const char *const *in, int n_in, int *id)
{
    char name[NET_NAME * 2];
    const char *y = fresh(t);
    snprintf(name, sizeof name, "/%s%s%s", module, module[0] ? "/" : "", op);
    OK(rq_edit_add_node(t->g, &(rq_edit_node) { .op = op, .name = name, .in = in, .n_in = n_in, .out = &y, .n_out = 1 },
                        id, &t->err));
    return y;
}

static const char *parameter(net *t, const char *module, const char *what)
{
    snprintf(t->names[t->n], NET_NAME, "%s.%s", module, what);
    return t->names[t->n++];
}

static const char *product(net *t, const char *op, const char *module, const char *x, int rank, const int64_t *dim,
                           int64_t out, int *id)
{
    const char *w = parameter(t, module, "weight"), *b = parameter(t, module, "bias");
    if (rq_edit_value(t->g, w, &(rq_value_info) { 0 }, NULL)) { /* a module called again has its parameters */
        net_constant(t, w, rank, dim, 0.3);
        net_constant(t, b, 1, &out, 0.2);
    }
    return node(t, op, module, (const char *const[]) { x, w, b }, 3, id);
}

const char *net_conv(net *t, const char *module, const char *x, int64_t in, int64_t out, int64_t kernel, int64_t pad)
{
    int id;
    const char *y = product(t, "Conv", module, x, 4, (const int64_t[]) { out, in, kernel, kernel }, out, &id);
    OK(rq_edit_set_ints(t->g, id, "pads", (const int64_t[]) { pad, pad, pad, pad }, 4, &t->err));
    return y;
}

const char *net_deconv(net *t, const char *module, const char *x, int64_t in, int64_t out, int64_t kernel, int64_t pad)
{
    int id;
    const char *y = product(t, "ConvTranspose", module, x, 4, (const int64_t[]) { in, out, kernel, kernel }, out, &id);
    OK(rq_edit_set_ints(t->g, id, "pads", (const int64_t[]) { pad, pad, pad, pad }, 4, &t->err));
    return y;
}

const char *net_linear(net *t, const char *module, const char *x, int64_t in, int64_t out)
{
    int id;
    const char *y = product(t, "Gemm", module, x, 2, (const int64_t[]) { out, in }, out, &id);
    OK(rq_edit_set_int(t->g, id, "transB", 1, &t->err));
    return y;
}

const char *net_norm(net *t, const char *module, const char *x, int64_t channels)
{
    static const char *const what[] = { "weight", "bias", "running_mean", "running_var" };
    const char *in[5] = { x };
    int id;
    for (int i = 0; i < 4; i++) {
        in[i + 1] = parameter(t, module, what[i]);
        rq_tensor c = net_numbers(1, &channels, 0.2, ++t->seed);
        for (int64_t k = 0; k < channels; k++)
            c.f32[k] += i % 3 == 0 ? 1.0F : 0.0F; /* weight and variance around 1 */
        OK(rq_edit_add_constant(t->g, in[i + 1], &c, &t->err));
        rq_tensor_release(&c);
    }
    return node(t, "BatchNormalization", module, in, 5, &id);
}

const char *net_call(net *t, const char *op, const char *module, const char *x)
{
    int id;
    return node(t, op, module, &x, 1, &id);
}

const char *net_pair(net *t, const char *op, const char *module, const char *a, const char *b)
{
    int id;
    const char *y = node(t, op, module, (const char *const[]) { a, b }, 2, &id);
    if (!strcmp(op, "Einsum"))
        OK(rq_edit_set_string(t->g, id, "equation", "nchw,nchw->nchw", &t->err));
    return y;
}

const char *net_cat(net *t, const char *a, const char *b)
{
    int id;
    const char *y = node(t, "Concat", "", (const char *const[]) { a, b }, 2, &id);
    OK(rq_edit_set_int(t->g, id, "axis", 1, &t->err));
    return y;
}

const char *net_pool(net *t, const char *module, const char *x, int64_t size)
{
    int id;
    const char *y = node(t, "MaxPool", module, &x, 1, &id);
    OK(rq_edit_set_ints(t->g, id, "kernel_shape", (const int64_t[]) { size, size }, 2, &t->err));
    OK(rq_edit_set_ints(t->g, id, "strides", (const int64_t[]) { size, size }, 2, &t->err));
    return y;
}

const char *const net_activations[] = { "ReLU",    "PReLU",       "RReLU",    "ReLU6",      "LeakyReLU",
                                        "Sigmoid", "LogSigmoid",  "SiLU",     "ELU",        "CELU",
                                        "SELU",    "GLU",         "Mish",     "GELU",       "Tanh",
                                        "Softmax", "Hardsigmoid", "Hardtanh", "LogSoftmax", "Hardswish" };

const char *net_act(net *t, const char *name, const char *module, const char *x)
{
    static const struct {
        const char *name, *op;
    } one[] = { { "ReLU", "Relu" },
                { "RReLU", "LeakyRelu" },
                { "LeakyReLU", "LeakyRelu" },
                { "Sigmoid", "Sigmoid" },
                { "ELU", "Elu" },
                { "CELU", "Celu" },
                { "SELU", "Selu" },
                { "Mish", "Mish" },
                { "GELU", "Gelu" },
                { "Tanh", "Tanh" },
                { "Hardsigmoid", "HardSigmoid" },
                { "Hardswish", "HardSwish" } };
    int id;
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++)
        if (!strcmp(name, one[i].name))
            return net_call(t, one[i].op, module, x);
    if (!strcmp(name, "PReLU")) {
        const char *slope = parameter(t, module, "weight");
        net_constant(t, slope, 1, (const int64_t[]) { 1 }, 0.3);
        return node(t, "PRelu", module, (const char *const[]) { x, slope }, 2, &id);
    }
    if (!strcmp(name, "ReLU6") || !strcmp(name, "Hardtanh")) {
        const bool six = name[0] == 'R';
        const char *lo = net_number(t, six ? 0 : -1), *hi = net_number(t, six ? 6 : 1);
        return node(t, "Clip", module, (const char *const[]) { x, lo, hi }, 3, &id);
    }
    if (!strcmp(name, "Softmax") || !strcmp(name, "LogSoftmax")) {
        const char *y = node(t, name, module, &x, 1, &id);
        OK(rq_edit_set_int(t->g, id, "axis", 1, &t->err));
        return y;
    }
    if (!strcmp(name, "SiLU"))
        return net_pair(t, "Mul", module, x, net_call(t, "Sigmoid", module, x));
    if (!strcmp(name, "LogSigmoid"))
        return net_call(t, "Log", module, net_call(t, "Sigmoid", module, x));
    assert_string_equal(name, "GLU");
    const char *half[] = { fresh(t), fresh(t) };
    char path[NET_NAME * 2];
    snprintf(path, sizeof path, "/%s/Split", module);
    OK(rq_edit_add_node(t->g,
                        &(rq_edit_node) { .op = "Split", .name = path, .in = &x, .n_in = 1, .out = half, .n_out = 2 },
                        &id, &t->err));
    OK(rq_edit_set_int(t->g, id, "axis", 1, &t->err));
    OK(rq_edit_set_int(t->g, id, "num_outputs", 2, &t->err));
    return net_pair(t, "Mul", module, half[0], net_call(t, "Sigmoid", module, half[1]));
}

/* ---- prepared ---- */

rq_linear_quantizer *net_prepare(rq_graph *g, const char *config)
{
    rq_err err = { 0 };
    rq_linear_quantizer_config *c = NULL;
    rq_linear_quantizer *q = NULL;
    if (config && rq_linear_quantizer_config_from_dict(&c, config, &err))
        fail_msg("%s: %s", config, err.text);
    if (rq_linear_quantizer_create(&q, g, c, &err) || rq_linear_quantizer_prepare(q, &err))
        fail_msg("%s", err.text);
    rq_linear_quantizer_config_destroy(c);
    rq_graph_destroy(g);
    return q;
}

const char *net_letters(const rq_linear_quantizer *q, char buf[128])
{
    const rq_lq_plan *p = &q->plan;
    int n = 0;
    for (int i = 0; i < p->n_places; i++)
        n = p->places[i].index >= n ? p->places[i].index + 1 : n;
    assert_true(n < 60);
    memset(buf, '.', 128);
    buf[n] = ':';
    buf[2 * n + 1] = '\0';
    for (int i = 0; i < p->n_places; i++) {
        const rq_lq_place *at = &p->places[i];
        if (at->index < 0 || at->removed)
            continue;
        const rq_lq_object *o = &p->objects[at->object];
        const rq_fake_quantizer_cfg *c = &q->fake_cfgs[o->slot];
        buf[at->index] = c->kind == RQ_FAKE_QUANTIZER_FIXED            ? 'F'
                         : rq_qscheme_is_symmetric(c->observer.scheme) ? 'S'
                                                                       : 'A';
        int first = i;
        for (int k = i; k >= 0; k--)
            if (p->places[k].object == at->object && !p->places[k].removed)
                first = k;
        buf[n + 1 + at->index] = (char)('a' + p->places[first].index);
    }
    return buf;
}

void net_observe(rq_linear_quantizer *q, const rq_tensor *x)
{
    rq_err err = { 0 };
    rq_autograd *a;
    rq_autograd_cfg cfg = rq_autograd_defaults();
    rq_fake_quantizer *const *fakes;
    rq_tensor y[4];
    cfg.n_fakes = rq_linear_quantizer_fakes(q, &fakes, NULL);
    cfg.fakes = fakes;
    cfg.threads = 1;
    if (rq_autograd_create(&a, rq_linear_quantizer_model(q), &cfg, &err))
        fail_msg("%s", err.text);
    const rq_feed in = { .name = "x", .tensor = *x };
    if (rq_autograd_forward(a, &in, 1, y, &err))
        fail_msg("%s", err.text);
    rq_autograd_destroy(a);
}
