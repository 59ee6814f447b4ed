/* linear_quantizer_nets.c — see linear_quantizer_nets.h. */
#include "linear_quantizer_nets.h"

#include <math.h>
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
    int used = snprintf(name, sizeof name, "/%s%s%s", module, module[0] ? "/" : "", op);
    for (int k = 1; rq_edit_find_node(t->g, name) >= 0; k++) /* called again: "_1", "_2" ... */
        snprintf(name + used, sizeof name - (size_t)used, "_%d", k);
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

/* ---- finalized ---- */

/* One batch of numbers of the kind that input x takes. */
static rq_tensor batch_of(const rq_graph *g)
{
    const rq_value *v = &g->values[g->inputs[0]];
    rq_tensor x;
    if (v->dtype == RQ_DTYPE_F32) {
        x = net_numbers(v->shape.rank, v->shape.dim, 1, 77);
        for (int64_t i = 0, n = rq_tensor_count(&x); i < n; i++)
            x.f32[i] += 0.37F; /* so that the zero point of an affine place is not 128 by accident */
        return x;
    }
    assert_int_equal(rq_tensor_create(&x, v->dtype, &v->shape, true), RQ_OK);
    for (int64_t i = 0, n = rq_tensor_count(&x); i < n; i++)
        x.s64[i] = i % 10;
    return x;
}

/* The value of the finalized graph that stands where place i does. */
static rq_id where(const rq_linear_quantizer *q, const rq_graph *out, int i)
{
    const rq_lq_plan *p = &q->plan;
    if (p->places[i].output)
        return rq_graph_find(out, q->float_graph->values[p->places[i].value].name);
    for (int u = 0; u < p->n_uses; u++)
        if (p->uses[u].place == i) {
            const int node = rq_edit_find_node(out, q->float_graph->nodes[p->uses[u].node].name);
            assert_true(node >= 0);
            return out->nodes[node].in[p->uses[u].in];
        }
    return RQ_NONE;
}

/* net_letters from the annotations alone: kinds from their numbers, sharing from which of them are one. */
static const char *final_letters(const rq_linear_quantizer *q, const rq_graph *out, char buf[128])
{
    rq_id entry[64];
    const rq_lq_plan *p = &q->plan;
    int n = 0;
    for (int i = 0; i < p->n_places; i++)
        n = p->places[i].index >= n ? p->places[i].index + 1 : n;
    memset(buf, '.', 128);
    buf[n] = ':';
    buf[2 * n + 1] = '\0';
    for (int i = 0; i < n; i++)
        entry[i] = RQ_NONE;
    for (int i = 0; i < p->n_places; i++) {
        const rq_lq_place *at = &p->places[i];
        if (at->index < 0 || at->removed)
            continue;
        const rq_id v = where(q, out, i);
        const rq_qparams *a = rq_graph_qparams(out, v);
        if (!a)
            fail_msg("%s is not annotated", q->names[p->objects[at->object].slot]);
        assert_int_equal(a->dtype, RQ_DTYPE_U8);
        assert_int_equal(a->n, 1);
        const bool unit = a->scale[0] == 1.0F / 256 && a->zero_point[0] == 0,
                   tanh = a->scale[0] == 2.0F / 256 && a->zero_point[0] == 128;
        buf[at->index] = unit || tanh ? 'F' : a->zero_point[0] == 128 ? 'S' : 'A';
        entry[at->index] = out->values[v].quant;
    }
    for (int i = 0; i < n; i++)
        for (int k = i; entry[i] >= 0 && k >= 0; k--)
            if (entry[k] == entry[i])
                buf[n + 1 + i] = (char)('a' + k);
    return buf;
}

/* The scale of element i of a constant with these dims. */
static int64_t channel(const rq_shape *s, int axis, int64_t i)
{
    int64_t inner = 1;
    if (axis < 0)
        return 0;
    for (int d = axis + 1; d < s->rank; d++)
        inner *= s->dim[d];
    return i / inner % s->dim[axis];
}

/* A constant's numbers, as reals. */
static rq_tensor reals_of(const rq_graph *g, rq_id v)
{
    rq_tensor x;
    assert_true(v >= 0 && g->values[v].kind == RQ_VALUE_CONST);
    const rq_tensor *c = &g->values[v].constant;
    const rq_qparams *a = rq_graph_qparams(g, v);
    if (!a) {
        assert_int_equal(rq_tensor_copy(&x, c), RQ_OK);
        return x;
    }
    int32_t lo, hi;
    const int bits = rq_dtype_bits(c->dtype);
    rq_qparams_limits(a, &lo, &hi);
    assert_int_equal(rq_tensor_create(&x, RQ_DTYPE_F32, &c->shape, false), RQ_OK);
    for (int64_t i = 0, n = rq_tensor_count(c); i < n; i++) {
        const int64_t k = channel(&c->shape, a->axis, i);
        int code = ((const uint8_t *)c->data)[i * bits / 8] >> (i % (8 / bits) * bits) & ((1 << bits) - 1);
        if (lo < 0 && code >> (bits - 1))
            code -= 1 << bits;
        x.f32[i] = (float)(code - a->zero_point[k]) * a->scale[k];
    }
    return x;
}

/* Weights are codes where a fake-quantizer was, within half a step of what was trained, and floats where none was; the layer's activation is there, or is what its codes
 * saturate at. */
static void check_group(const rq_linear_quantizer *q, const rq_graph *out, const rq_lq_group *gr)
{
    const rq_graph *from = q->float_graph;
    const rq_node *act = gr->act >= 0 ? &from->nodes[gr->act] : NULL;
    if (act && rq_edit_find_node(out, act->name) < 0) {
        assert_true(!strcmp(act->op, "Relu") || !strcmp(act->op, "Clip"));
        const rq_qparams *a = rq_graph_qparams(out, rq_graph_find(out, from->values[act->out[0]].name));
        const float most = !strcmp(act->op, "Relu") ? INFINITY : from->values[act->in[2]].constant.f32[0],
                    least = !strcmp(act->op, "Relu") ? 0 : from->values[act->in[1]].constant.f32[0];
        assert_non_null(a);
        assert_true((float)(0 - a->zero_point[0]) * a->scale[0] >= least - 0.51F * a->scale[0]);
        assert_true((float)(255 - a->zero_point[0]) * a->scale[0] <= most + 0.51F * a->scale[0]);
    }
    assert_true(gr->norm < 0 || !gr->cfg || rq_edit_find_node(out, from->nodes[gr->norm].name) < 0);
    if (gr->weight_in < 0)
        return;
    const int root = rq_edit_find_node(out, from->nodes[gr->root].name);
    assert_true(root >= 0);
    const rq_id w = out->nodes[root].in[gr->weight_in];
    assert_string_equal(out->values[w].name, from->values[from->nodes[gr->root].in[gr->weight_in]].name);
    if (gr->kind == RQ_LQ_WEIGHTED) {
        char bias[NET_NAME];
        snprintf(bias, sizeof bias, "%s.bias", gr->module);
        assert_true(rq_graph_find(out, bias) >= 0);
    }
    const rq_qparams *a = rq_graph_qparams(out, w);
    assert_true((a != NULL) == (gr->weight >= 0));
    rq_tensor got = reals_of(out, w), want;
    assert_int_equal(rq_tensor_copy(&want, &from->values[from->nodes[gr->root].in[gr->weight_in]].constant), RQ_OK);
    const rq_fake_quantizer_cfg *cfg = a ? &q->fake_cfgs[q->plan.objects[gr->weight].slot] : NULL;
    if (a) {
        assert_int_equal(a->axis, cfg->observer.axis);
        assert_int_equal(a->n, a->axis < 0 ? 1 : got.shape.dim[a->axis]);
    }
    for (int64_t i = 0, n = rq_tensor_count(&got); i < n; i++) {
        const int64_t c = a ? channel(&got.shape, a->axis, i) : 0;
        float k = 1;
        if (gr->norm >= 0) {
            const rq_id *in = from->nodes[gr->norm].in;
            int64_t out_channel = channel(&got.shape, gr->deconv ? 1 : 0, i);
            if (gr->deconv) { /* [in][out / groups] */
                const int64_t groups = rq_attr_int(&from->nodes[gr->root], RQ_WORD_group, 1);
                out_channel += channel(&got.shape, 0, i) / (got.shape.dim[0] / groups) * got.shape.dim[1];
            }
            k = from->values[in[1]].constant.f32[out_channel] /
                sqrtf(from->values[in[4]].constant.f32[out_channel] + 1e-5F);
        }
        const float x = want.f32[i] * k, half = a ? 0.501F * a->scale[c] : 0;
        if (!(fabsf(got.f32[i] - x) <= half + 1e-6F))
            fail_msg("%s.weight[%d] is %g, was trained as %g", gr->module, (int)i, (double)got.f32[i], (double)x);
        const float code = a ? got.f32[i] / a->scale[c] + (float)a->zero_point[c] : 0;
        if (a && !(code > (float)cfg->observer.type.lo - 0.01F && code < (float)cfg->observer.type.hi + 0.01F))
            fail_msg("%s.weight[%d] has code %g", gr->module, (int)i, (double)code);
    }
    rq_tensor_release(&got);
    rq_tensor_release(&want);
}

/* No value has an annotation that no place asked for: but weights and biases, and what goes into a Relu or Clip that is one with its layer. */
static void check_no_more(const rq_linear_quantizer *q, const rq_graph *out)
{
    for (rq_id v = 0; v < out->n_values; v++) {
        if (out->values[v].quant < 0 || out->values[v].kind == RQ_VALUE_CONST)
            continue;
        bool is_place = false;
        for (int i = 0; i < q->plan.n_places && !is_place; i++)
            if (q->plan.places[i].index >= 0 && !q->plan.places[i].removed)
                is_place = where(q, out, i) == v;
        rq_id user;
        if (!is_place && rq_graph_uses(out, v, &user, 1) == 1 &&
            (!strcmp(out->nodes[user].op, "Relu") || !strcmp(out->nodes[user].op, "Clip")))
            is_place = out->values[out->nodes[user].out[0]].quant == out->values[v].quant;
        if (!is_place)
            fail_msg("'%s' is annotated, and no fake-quantizer stood there", out->values[v].name);
    }
}

/* Every layer by itself, from equal codes. */
static void check_agreement(rq_linear_quantizer *q, const rq_graph *out, const rq_tensor *x)
{
    rq_err err = { 0 };
    rq_graph *simulation;
    rq_dataset *d;
    rq_agreement a;
    rq_agreement_cfg cfg = rq_agreement_defaults();
    rq_fake_quantizer *const *fakes;
    const rq_dataset_array array = { .name = "x", .dtype = x->dtype, .shape = x->shape, .data = x->data };
    const int n = rq_linear_quantizer_fakes(q, &fakes, NULL);
    cfg.threads = 1;
    cfg.onednn = false;
    cfg.limit = 0.002;
    if (rq_dataset_create(&d, &array, 1, q->float_graph, &(rq_dataset_cfg) { .batch = 1 }, &err) ||
        rq_linear_quantizer_simulation(q, out, &simulation, &err) ||
        rq_agreement_measure(&a, simulation, fakes, n, out, d, &cfg, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < a.n; i++)
        if (a.layers[i].named)
            fail_msg("%s: %d of %d codes differ, by up to %d", a.layers[i].name, (int)a.layers[i].differ,
                     (int)a.layers[i].codes, (int)a.layers[i].worst);
    rq_agreement_release(&a);
    rq_graph_destroy(simulation);
    rq_dataset_close(d);
}

/* How far the output of the finalized graph may be from y for the rounding of a bias to whole units of its sums. */
static double unit_of(const rq_graph *out, rq_id y)
{
    const rq_node *n = out->values[y].producer >= 0 ? &out->nodes[out->values[y].producer] : NULL;
    const rq_qparams *x = n ? rq_graph_qparams(out, n->in[0]) : NULL,
                     *w = n && n->n_in > 1 ? rq_graph_qparams(out, n->in[1]) : NULL;
    float most = 0;
    for (int64_t i = 0; w && i < w->n; i++)
        most = fmaxf(most, w->scale[i]);
    return x && w ? (double)x->scale[0] * (double)most : 0;
}

void net_finalized(rq_linear_quantizer *q, bool deep)
{
    rq_err err = { 0 };
    rq_autograd *a;
    rq_autograd_cfg cfg = rq_autograd_defaults();
    rq_graph *out = NULL;
    rq_session *s = NULL;
    rq_tensor y[4], z[4];
    char prepared[128], said[128];
    cfg.n_fakes = rq_linear_quantizer_fakes(q, &cfg.fakes, NULL);
    cfg.threads = 1;
    cfg.onednn = false;
    if (rq_autograd_create(&a, rq_linear_quantizer_model(q), &cfg, &err))
        fail_msg("%s", err.text);
    rq_tensor x = batch_of(q->float_graph);
    const rq_feed in = { .name = "x", .tensor = x };
    rq_autograd_train(a, false); /* statistics of batch norms stay, so that weights are the given ones */
    for (int observe = 1; observe >= 0; observe--) {
        for (int i = 0; i < cfg.n_fakes; i++) {
            rq_fake_quantizer_enable_observer(cfg.fakes[i], observe);
            rq_fake_quantizer_enable_fake_quant(cfg.fakes[i], true);
        }
        if (rq_autograd_forward(a, &in, 1, y, &err))
            fail_msg("%s", err.text);
    }
    if (rq_linear_quantizer_finalize(q, &out, &err))
        fail_msg("%s", err.text);
    assert_string_equal(final_letters(q, out, said), net_letters(q, prepared));
    for (int i = 0; i < q->plan.n_groups; i++)
        check_group(q, out, &q->plan.groups[i]);
    check_no_more(q, out);
    if (deep)
        check_agreement(q, out, &x);
    else if (rq_session_create(&s, out, &(rq_session_cfg) { .threads = 1 }, &err) || rq_session_run(s, &in, 1, z, &err))
        fail_msg("%s", err.text);
    for (int o = 0; !deep && o < out->n_outputs; o++) {
        const rq_qparams *at = rq_graph_qparams(out, out->outputs[o]);
        const double most = at ? 1.01 * (double)at->scale[0] : 1e-4 + unit_of(out, out->outputs[o]);
        const int64_t n = rq_tensor_count(&z[o]);
        int64_t far = 0;
        for (int64_t i = 0; i < n; i++) {
            const double d = fabs((double)y[o].f32[i] - (double)z[o].f32[i]);
            far += d > most;
            if (!(d <= 9 * most))
                fail_msg("output %d[%d] is %g in training and %g finalized; it may be %g away", o, (int)i,
                         (double)y[o].f32[i], (double)z[o].f32[i], most);
        }
        if (far * 100 > n) /* a code of x on a tie is several of a finer one here */
            fail_msg("%d of %d numbers of output %d are off by more than a step", (int)far, (int)n, o);
        rq_tensor_release(&z[o]);
    }
    rq_session_destroy(s);
    rq_graph_destroy(out);
    rq_tensor_release(&x);
    rq_autograd_destroy(a);
}
