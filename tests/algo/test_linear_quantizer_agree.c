/* Simulation equals execution where it is easy to miss: averages of codes, which lie on ties, values that change from one scale to its double, biases of
 * matrix products; and what an exporter wrote out: normalizations, whose statistics are never codes, and GELU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/query.h"
#include "linear_quantizer_nets.h"

static rq_err err;

static void ok(rq_status st)
{
    if (st)
        fail_msg("%s: %s", rq_status_text(st), err.text);
}

static int add(net *t, const char *op, const char *y, const char *const *in, int n_in)
{
    char name[NET_NAME];
    int id;
    snprintf(name, sizeof name, "/%s/%s", y, op);
    ok(rq_edit_add_node(t->g, &(rq_edit_node) { .op = op, .name = name, .in = in, .n_in = n_in, .out = &y, .n_out = 1 },
                        &id, &err));
    return id;
}

/* ---- simulation and integers ---- */

/* One batch, with everything on. */
static void observe(rq_linear_quantizer *q, const rq_tensor *x)
{
    rq_autograd *a;
    rq_autograd_cfg cfg = rq_autograd_defaults();
    rq_tensor y;
    cfg.n_fakes = rq_linear_quantizer_fakes(q, &cfg.fakes, NULL);
    cfg.threads = 1;
    ok(rq_autograd_create(&a, rq_linear_quantizer_model(q), &cfg, &err));
    ok(rq_autograd_forward(a, &(rq_feed) { .name = "x", .tensor = *x }, 1, &y, &err));
    rq_autograd_destroy(a);
}

/* Where they differ on samples like the one that is observed: `plain` of the prepared network as it is, `exact` of the one with biases and averages as
 * integers have them. */
typedef struct both {
    rq_agreement plain, exact;
} both;

static both measure(rq_graph *g, const char *config)
{
    enum { ROWS = 24 };
    both b;
    rq_graph *out, *sim;
    rq_state *s;
    rq_dataset *d;
    rq_fake_quantizer *const *fakes;
    const rq_value_info in = rq_graph_input(g, 0);
    int64_t dim[RQ_MAX_RANK];
    memcpy(dim, in.shape.dim, sizeof dim);
    dim[0] *= ROWS;
    rq_tensor x = net_numbers(in.shape.rank, dim, 1, 31);
    rq_linear_quantizer *q = net_prepare(g, config);
    const int n = rq_linear_quantizer_fakes(q, &fakes, NULL);
    rq_tensor first = rq_tensor_view(RQ_DTYPE_F32, &in.shape, x.data);
    observe(q, &first);
    ok(rq_state_create(&s));
    ok(rq_state_set(s, NULL, "x", &x));
    ok(rq_state_save(s, RQ_TEST_TMP "/agree.npz", &err));
    rq_state_destroy(s);
    ok(rq_linear_quantizer_finalize(q, &out, &err));
    ok(rq_dataset_open(&d, RQ_TEST_TMP "/agree.npz", out, &(rq_dataset_cfg) { .batch = in.shape.dim[0] }, &err));
    ok(rq_agreement_measure(&b.plain, rq_linear_quantizer_model(q), fakes, n, out, d, NULL, &err));
    ok(rq_linear_quantizer_simulation(q, out, &sim, &err));
    ok(rq_agreement_measure(&b.exact, sim, fakes, n, out, d, NULL, &err));
    rq_dataset_close(d);
    rq_tensor_release(&x);
    rq_graph_destroy(sim);
    rq_graph_destroy(out);
    rq_linear_quantizer_destroy(q);
    return b;
}

static const rq_agreement_layer *layer(const rq_agreement *a, const char *value)
{
    for (int i = 0; i < a->n; i++)
        if (!strcmp(a->layers[i].value, value))
            return &a->layers[i];
    fail_msg("no layer '%s'", value);
    return NULL;
}

static void release(both *b)
{
    rq_agreement_release(&b->plain);
    rq_agreement_release(&b->exact);
}

/* conv, relu, then an average of 4 (or 6): of one code in four (six) the mean lies in the middle of two. */
static rq_graph *averaging(const char *op)
{
    net t;
    net_begin(&t, 4, (const int64_t[]) { 2, 3, 8, 12 });
    const char *y = net_act(&t, "LeakyReLU", "act", net_conv(&t, "conv", "x", 3, 16, 3, 1));
    int id;
    if (strcmp(op, "AveragePool") != 0) { /* 8 x 12 elements are too many to see a tie in few samples */
        y = net_pool(&t, "pool", y, 4);
        if (!strcmp(op, "ReduceMean")) {
            rq_tensor axes;
            ok(rq_tensor_create(&axes, RQ_DTYPE_S64, &(rq_shape) { 1, { 2 } }, false));
            axes.s64[0] = 2;
            axes.s64[1] = 3;
            ok(rq_edit_add_constant(t.g, "axes", &axes, &err));
            rq_tensor_release(&axes);
            add(&t, op, "mean", (const char *const[]) { y, "axes" }, 2);
        } else {
            add(&t, op, "mean", &y, 1);
        }
        return net_end(&t, "mean");
    }
    id = add(&t, op, "mean", &y, 1);
    ok(rq_edit_set_ints(t.g, id, "kernel_shape", (const int64_t[]) { 2, 3 }, 2, &err));
    ok(rq_edit_set_ints(t.g, id, "strides", (const int64_t[]) { 2, 3 }, 2, &err));
    return net_end(&t, "mean");
}

static void averages_of_codes_fall_as_those_of_integers(void **state)
{
    static const char *const ops[] = { "GlobalAveragePool", "AveragePool", "ReduceMean" };
    static const char *const configs[] = { NULL, "{\"global_config\": {\"quantization_scheme\": \"affine\"}}" };
    int64_t plain = 0;
    (void)state;
    for (int i = 0; i < 6; i++) {
        both b = measure(averaging(ops[i / 2]), configs[i % 2]);
        const rq_agreement_layer *l = layer(&b.exact, "mean");
        assert_true(l->codes > 500);
        if (l->differ)
            fail_msg("%s: %lld of %lld averages differ", ops[i / 2], (long long)l->differ, (long long)l->codes);
        plain += layer(&b.plain, "mean")->differ;
        assert_int_equal(layer(&b.plain, "mean")->far, 0); /* a tie, and nothing else */
        release(&b);
    }
    assert_true(plain > 0); /* in floats some ties fall the other way */
}

/* Codes from 0 on of a Relu, read by a convolution behind a Pad as codes around 128: of twice the scale, so that every odd one is a tie. */
static void twice_the_scale_is_rounded_alike(void **state)
{
    net t;
    (void)state;
    net_begin(&t, 4, (const int64_t[]) { 1, 3, 10, 10 });
    const char *r = net_act(&t, "ReLU", "relu", net_conv(&t, "conv1", "x", 3, 8, 3, 1));
    rq_tensor pads;
    ok(rq_tensor_create(&pads, RQ_DTYPE_S64, &(rq_shape) { 1, { 8 } }, true));
    pads.s64[2] = pads.s64[3] = pads.s64[6] = pads.s64[7] = 1;
    ok(rq_edit_add_constant(t.g, "pads", &pads, &err));
    rq_tensor_release(&pads);
    add(&t, "Pad", "padded", (const char *const[]) { r, "pads" }, 2);
    both b = measure(net_end(&t, net_conv(&t, "conv2", "padded", 8, 8, 3, 0)), NULL);
    const rq_agreement_layer *l = layer(&b.plain, "padded");
    assert_true(l->codes > 10000);
    assert_int_equal(l->differ, 0);
    release(&b);
}

/* The bias behind MatMul of rank 3 is counted in units of the sum. */
static void biases_behind_matrix_products_are_whole(void **state)
{
    net t;
    (void)state;
    net_begin(&t, 3, (const int64_t[]) { 2, 5, 12 });
    net_constant(&t, "w", 2, (const int64_t[]) { 12, 20 }, 3);
    net_constant(&t, "b", 1, (const int64_t[]) { 20 }, 3);
    add(&t, "MatMul", "product", (const char *const[]) { "x", "w" }, 2);
    add(&t, "Add", "biased", (const char *const[]) { "product", "b" }, 2);
    both b = measure(net_end(&t, "biased"),
                     "{\"global_config\": {\"weight_dtype\": \"qint8\", \"weight_per_channel\": false}}");
    const rq_agreement_layer *l = layer(&b.exact, "biased"), *p = layer(&b.plain, "biased");
    assert_true(l->codes == 24 * 2 * 5 * 20);
    if (l->differ * 1000 > l->codes || l->far)
        fail_msg("%lld of %lld codes differ", (long long)l->differ, (long long)l->codes);
    assert_true(p->differ > l->differ);
    release(&b);
}

/* ---- normalizations ---- */

static const char *mean(net *t, const char *y, const char *x)
{
    rq_tensor axis;
    char name[NET_NAME];
    ok(rq_tensor_create(&axis, RQ_DTYPE_S64, &(rq_shape) { 1, { 1 } }, false));
    axis.s64[0] = -1;
    snprintf(name, sizeof name, "%s_axis", y);
    ok(rq_edit_add_constant(t->g, name, &axis, &err));
    rq_tensor_release(&axis);
    add(t, "ReduceMean", y, (const char *const[]) { x, name }, 2);
    return y;
}

static const char *two(net *t, const char *op, const char *y, const char *a, const char *b)
{
    add(t, op, y, (const char *const[]) { a, b }, 2);
    return y;
}

/* h = x + x, a normalization of h in `form`, y = norm * norm2; how many places are at values whose names begin with "n_". */
static int places_inside(int form, const char *config)
{
    net t;
    net_begin(&t, 3, (const int64_t[]) { 2, 5, 12 });
    const int64_t width = 12;
    net_constant(&t, "gamma", 1, &width, 1);
    net_constant(&t, "beta", 1, &width, 1);
    const char *h = two(&t, "Add", "h", "x", "x"), *e = net_number(&t, 1e-5), *square = net_number(&t, 2), *y;
    if (form == 0) { /* LayerNorm as PyTorch's and PaddlePaddle's exporters write it */
        const char *d = two(&t, "Sub", "n_d", h, mean(&t, "n_mean", h));
        const char *v = two(&t, "Add", "n_v", mean(&t, "n_var", two(&t, "Pow", "n_square", d, square)), e);
        add(&t, "Sqrt", "n_root", &v, 1);
        y = two(&t, "Mul", "n_scaled", two(&t, "Div", "n_unit", d, "n_root"), "gamma");
        y = two(&t, "Add", "out", y, "beta");
    } else if (form == 1) { /* RMSNorm with a reciprocal */
        const char *v = two(&t, "Add", "n_v", mean(&t, "n_var", two(&t, "Mul", "n_square", h, h)), e);
        add(&t, "Sqrt", "n_root", &v, 1);
        add(&t, "Reciprocal", "n_by", (const char *const[]) { "n_root" }, 1);
        y = two(&t, "Mul", "out", two(&t, "Mul", "n_unit", h, "n_by"), "gamma");
    } else if (form == 2) { /* as JAX writes LayerNorm: mean of squares less squared mean, gamma beside the root */
        const char *m = mean(&t, "n_mean", h), *s = mean(&t, "n_squares", two(&t, "Mul", "n_square", h, h));
        const char *v = two(&t, "Sub", "n_var", s, two(&t, "Mul", "n_mean2", m, m));
        v = two(&t, "Add", "n_v", two(&t, "Max", "n_max", v, net_number(&t, 0)), e);
        add(&t, "Sqrt", "n_root", &v, 1);
        add(&t, "Reciprocal", "n_by", (const char *const[]) { "n_root" }, 1);
        const char *d = two(&t, "Sub", "n_d", h, m);
        y = two(&t, "Mul", "n_unit", d, two(&t, "Mul", "n_gain", "n_by", "gamma"));
        y = two(&t, "Add", "out", y, "beta");
    } else { /* none: the length of a pair of numbers */
        const char *s = two(&t, "Add", "n_sum", two(&t, "Mul", "n_a", h, h), two(&t, "Mul", "n_b", h, "x"));
        add(&t, "Sqrt", "n_root", &s, 1);
        y = two(&t, "Mul", "out", h, "n_root");
    }
    rq_linear_quantizer *q = net_prepare(net_end(&t, two(&t, "Mul", "y", y, y)), config);
    int inside = 0;
    bool ends[3] = { false };
    for (int i = 0; i < q->plan.n_places; i++) {
        const char *name = q->float_graph->values[q->plan.places[i].value].name;
        inside += !strncmp(name, "n_", 2);
        ends[0] |= !strcmp(name, "h");
        ends[1] |= !strcmp(name, "out");
        ends[2] |= !strcmp(name, "y");
    }
    assert_true(ends[0] && ends[1] && ends[2]); /* what goes in, comes out and follows is quantized */
    rq_linear_quantizer_destroy(q);
    return inside;
}

static void normalizations_that_are_written_out_stay_in_float(void **state)
{
    (void)state;
    for (int form = 0; form < 3; form++)
        if (places_inside(form, NULL))
            fail_msg("form %d: %d places inside", form, places_inside(form, NULL));
    assert_true(places_inside(3, NULL) > 0);
    assert_true(places_inside(0, "{\"compat\": true}") > 0); /* the original sees arithmetic */
}

/* ---- activations ---- */

/* GELU by tanh as JAX, PyTorch and Hugging Face's models write it, by erf in another order; with a third of x, or Quick GELU, it is none. */
static const char *gelu(net *t, int form, const char *x)
{
    const char *third = net_number(t, 0.044715), *half = net_number(t, 0.5), *one = net_number(t, 1), *cube, *inner;
    const char *by = net_number(t, form == 4 ? 0.9 : 0.7978845608);
    if (form == 3) {
        add(t, "Erf", "erf", (const char *const[]) { two(t, "Mul", "over", x, net_number(t, 0.70710678)) }, 1);
        return two(t, "Mul", "out", two(t, "Mul", "halves", x, half), two(t, "Add", "plus", one, "erf"));
    }
    if (form == 0) {
        cube = two(t, "Mul", "cube", x, two(t, "Mul", "square", x, two(t, "Mul", "third", third, x)));
    } else if (form == 1 || form == 4) {
        cube = two(t, "Mul", "third", third, two(t, "Mul", "cube", x, two(t, "Mul", "square", x, x)));
    } else {
        cube = two(t, "Mul", "third", two(t, "Pow", "cube", x, net_number(t, 3)), third);
    }
    inner = two(t, "Mul", "inner", by, two(t, "Add", "sum", x, cube));
    add(t, "Tanh", "tanh", &inner, 1);
    const char *plus = two(t, "Add", "plus", one, "tanh");
    return form ? two(t, "Mul", "out", two(t, "Mul", "halves", half, x), plus)
                : two(t, "Mul", "out", x, two(t, "Mul", "halves", half, plus));
}

/* Behind a matrix product whose bias is a row in three axes: input, the layer with bias and activation, and nothing between. */
static void gelu_is_known_by_what_it_gives(void **state)
{
    (void)state;
    for (int form = 0; form < 5; form++) {
        net t;
        char got[128];
        net_begin(&t, 3, (const int64_t[]) { 2, 5, 12 });
        net_constant(&t, "w", 2, (const int64_t[]) { 12, 20 }, 1);
        net_constant(&t, "b", 3, (const int64_t[]) { 1, 1, 20 }, 1);
        const char *y = two(&t, "Add", "biased", two(&t, "MatMul", "product", "x", "w"), "b");
        rq_linear_quantizer *q = net_prepare(net_end(&t, gelu(&t, form, y)), NULL);
        const bool whole = !strcmp(net_letters(q, got), "SS:ab");
        if (whole != (form < 4))
            fail_msg("form %d: places %s", form, got);
        rq_linear_quantizer_destroy(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_of_codes_fall_as_those_of_integers),
        cmocka_unit_test(twice_the_scale_is_rounded_alike),
        cmocka_unit_test(biases_behind_matrix_products_are_whole),
        cmocka_unit_test(normalizations_that_are_written_out_stay_in_float),
        cmocka_unit_test(gelu_is_known_by_what_it_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
