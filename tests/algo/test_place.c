/* Placement and annotation on small graphs made here: who becomes codes, who shares, what weights and biases become. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/annotate.h"
#include "base/file.h"
#include "base/mem.h"
#include "ok.h"

static rq_graph *graph_of(int opset)
{
    rq_graph *g;
    OK(rq_graph_create(&g));
    OK(rq_graph_set_opset(g, "", opset));
    return g;
}

static rq_id input(rq_graph *g, const char *name, int rank, const int64_t *dim)
{
    rq_id v;
    const rq_shape s = rq_shape_of(rank, dim);
    OK(rq_graph_add_value(g, &v, RQ_VALUE_INPUT, name, RQ_DTYPE_F32, &s, &err));
    return v;
}

/* Values (seed + i * 0.7) mod 2 - 1, times `size`. */
static rq_id constant(rq_graph *g, const char *name, int rank, const int64_t *dim, float size)
{
    rq_id v;
    rq_tensor t;
    const rq_shape s = rq_shape_of(rank, dim);
    OK(rq_tensor_create(&t, RQ_DTYPE_F32, &s, false));
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        t.f32[i] = size * (float)(fmod(0.3 + 0.7 * (double)i, 2) - 1);
    OK(rq_graph_add_const(g, &v, name, &t, &err));
    rq_tensor_release(&t);
    return v;
}

static rq_id node_id(const rq_graph *g, const char *name)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].name, name))
            return i;
    return RQ_NONE;
}

/* A node named after its output. */
static rq_id node(rq_graph *g, const char *op, const char *out, int n, const rq_id *in)
{
    rq_id v, id;
    const rq_shape s = rq_shape_unknown();
    OK(rq_graph_add_value(g, &v, RQ_VALUE_NODE, out, RQ_DTYPE_NONE, &s, &err));
    OK(rq_graph_add_node(g, &id, op, "", out, in, n, &v, 1, &err));
    return v;
}

#define NODE(g, op, out, ...)                                                                                          \
    node(g, op, out, (int)(sizeof((rq_id[]) { __VA_ARGS__ }) / sizeof(rq_id)), (rq_id[]) { __VA_ARGS__ })
#define DIM(...)                                                                                                       \
    (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[])                                          \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static rq_id conv(rq_graph *g, const char *out, rq_id x, int64_t c_in, int64_t c_out)
{
    char w[32], b[32];
    snprintf(w, sizeof w, "%s.w", out);
    snprintf(b, sizeof b, "%s.b", out);
    const rq_id weight = constant(g, w, DIM(c_out, c_in, 3, 3), 0.5f), bias = constant(g, b, DIM(c_out), 0.1f);
    const rq_id y = NODE(g, "Conv", out, x, weight, bias);
    const int64_t pads[4] = { 1, 1, 1, 1 };
    OK(rq_attr_set_ints(g, node_id(g, out), "pads", pads, 4));
    return y;
}

static void set_output(rq_graph *g, rq_id v)
{
    assert_true(rq_mem_grow(&g->outputs, g->n_outputs, &g->cap_outputs, sizeof *g->outputs));
    g->outputs[g->n_outputs++] = v;
}

static void set_input(rq_graph *g, rq_id v)
{
    assert_true(rq_mem_grow(&g->inputs, g->n_inputs, &g->cap_inputs, sizeof *g->inputs));
    g->inputs[g->n_inputs++] = v;
}

/* Every value was seen from -1 to 2; "wide..." from -100 to 100; what follows a Relu from 0 to 2. */
static rq_annotate_range range_of(void *arg, rq_id value, const rq_settings *s)
{
    const rq_graph *g = arg;
    rq_annotate_range a = { .r = { -1, 2 }, .method = "test", .seen = true };
    if (!strncmp(g->values[value].name, "wide", 4))
        a.r = (rq_range) { -100, 100 };
    if (!strncmp(g->values[value].name, "relu", 4) || !strncmp(g->values[value].name, "soft", 4))
        a.r.lo = 0;
    return a;
}

static rq_notes notes;

static void quantize(rq_graph *g, const rq_settings *s, const rq_recipe *recipe)
{
    rq_placement *p;
    rq_kernels k;
    const rq_settings base = s ? *s : rq_settings_defaults();
    rq_kernels_init(&k, 0);
    rq_ops_bind(g);
    OK(rq_ops_infer(g, &err));
    OK(rq_placement_create(&p, g, &base, recipe, NULL, &err));
    for (int i = 0; i < p->n_joins; i++)
        assert_true(p->group[g->nodes[p->joins[i]].out[0]] >= 0);
    OK(rq_annotate(g, p, range_of, g, &k, &notes, &err));
    rq_placement_destroy(p);
    rq_graph_prune(g);
    OK(rq_graph_check(g, &err));
}

static const rq_qparams *q_of(const rq_graph *g, const char *name)
{
    rq_id v = rq_graph_find(g, name);
    assert_true(v >= 0);
    return rq_graph_qparams(g, v);
}

static rq_id quant_of(const rq_graph *g, const char *name)
{
    return g->values[rq_graph_find(g, name)].quant;
}

/* ---- */

static void a_convolutional_network(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(1, 3, 8, 8));
    set_input(g, x);
    rq_id a = NODE(g, "Relu", "relu_a", conv(g, "a", x, 3, 4));
    rq_id b = conv(g, "b", a, 4, 4), c = conv(g, "c", a, 4, 4);
    rq_id sum = NODE(g, "Relu", "relu_sum", NODE(g, "Add", "sum", b, c));
    rq_id pool = NODE(g, "GlobalAveragePool", "relu_pool", sum), flat = NODE(g, "Flatten", "flat", pool);
    rq_id fc = NODE(g, "Gemm", "fc", flat, constant(g, "fc.w", DIM(4, 5), 1), constant(g, "fc.b", DIM(5), 1));
    set_output(g, NODE(g, "Softmax", "soft", fc));
    quantize(g, NULL, NULL);

    assert_int_equal(q_of(g, "x")->dtype, RQ_DTYPE_U8);
    assert_int_equal(q_of(g, "x")->zero_point[0], 85);
    /* the Relu is the lower end of the codes: its node is gone, its value is the convolution's */
    assert_int_equal(rq_graph_find(g, "a"), RQ_NONE);
    assert_int_equal(node_id(g, "relu_a"), RQ_NONE);
    assert_string_equal(g->nodes[g->values[rq_graph_find(g, "relu_a")].producer].name, "a");
    assert_int_equal(q_of(g, "relu_a")->zero_point[0], 0);
    assert_true(q_of(g, "b") && q_of(g, "c") && quant_of(g, "b") != quant_of(g, "c"));
    assert_int_equal(rq_graph_find(g, "sum"), RQ_NONE);
    assert_true(q_of(g, "relu_sum") != NULL);
    /* Flatten passes on what it gets */
    assert_int_equal(quant_of(g, "flat"), quant_of(g, "relu_pool"));
    /* the end of the model is left in float */
    assert_null(q_of(g, "fc"));
    assert_null(q_of(g, "soft"));

    const rq_qparams *w = q_of(g, "a.w");
    assert_true(w->dtype == RQ_DTYPE_S8 && w->axis == 0 && w->n == 4 && w->zero_point[0] == 0);
    assert_int_equal(g->values[rq_graph_find(g, "a.w")].constant.dtype, RQ_DTYPE_S8);
    assert_int_equal(q_of(g, "fc.w")->axis, 1);
    const rq_qparams *bias = q_of(g, "a.b");
    assert_true(bias->dtype == RQ_DTYPE_S32 && bias->n == 4);
    for (int i = 0; i < 4; i++)
        assert_true(bias->scale[i] == q_of(g, "x")->scale[0] * w->scale[i]);
    const rq_quant *entry = &g->quants[quant_of(g, "a.b")];
    assert_int_equal(entry->derived_x, rq_graph_find(g, "x"));
    assert_int_equal(entry->derived_w, rq_graph_find(g, "a.w"));
    const rq_tensor *codes = &g->values[rq_graph_find(g, "a.b")].constant;
    assert_int_equal(codes->s32[0], lrint(0.1f * (0.3f - 1) / (double)bias->scale[0]));
    rq_graph_destroy(g);
}

static void a_clamp_stays_where_codes_reach_beyond_it(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(1, 3, 8, 8));
    set_input(g, x);
    rq_id a = NODE(g, "Relu", "relu_a", conv(g, "a", x, 3, 4));
    set_output(g, conv(g, "b", a, 4, 4));
    rq_settings s = rq_settings_defaults();
    s.activations = RQ_DTYPE_S8;
    s.symmetric_activations = true;
    quantize(g, &s, NULL);
    assert_true(node_id(g, "relu_a") >= 0);
    assert_int_equal(quant_of(g, "a"), quant_of(g, "relu_a"));
    assert_true(fabsf(q_of(g, "a")->scale[0] - 2 / 127.0f) < 1e-7f && q_of(g, "a")->zero_point[0] == 0);
    assert_true(q_of(g, "b") != NULL); /* a convolution must end in codes */
    rq_graph_destroy(g);

    g = graph_of(17);
    set_input(g, x = input(g, "x", DIM(1, 3, 8, 8)));
    const float bounds[2] = { -0.5f, 6 };
    rq_id lim[2];
    for (int i = 0; i < 2; i++) {
        rq_tensor t;
        const rq_shape scalar = rq_shape_of(0, NULL);
        OK(rq_tensor_create(&t, RQ_DTYPE_F32, &scalar, false));
        t.f32[0] = bounds[i];
        OK(rq_graph_add_const(g, &lim[i], i ? "hi" : "lo", &t, &err));
        rq_tensor_release(&t);
    }
    a = NODE(g, "Clip", "clip", conv(g, "a", x, 3, 4), lim[0],
             lim[1]); /* seen from -1: not what a Clip to -0.5 gives */
    set_output(g, conv(g, "b", a, 4, 4));
    quantize(g, NULL, NULL);
    assert_true(node_id(g, "clip") >= 0);
    rq_graph_destroy(g);
}

/* Nearest elements carry codes on; a blend makes codes of its own, and only where some are wanted behind it. */
static void a_resize_carries_codes_or_makes_them(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        const bool linear = i % 2, wanted = i / 2;
        rq_graph *g = graph_of(17);
        rq_id v;
        rq_tensor t;
        const rq_id x = input(g, "x", DIM(1, 4, 8, 8));
        const rq_id c = conv(g, "c", x, 4, 4);
        const rq_shape four = rq_shape_of(1, (const int64_t[]) { 4 });
        OK(rq_tensor_create(&t, RQ_DTYPE_F32, &four, false));
        memcpy(t.f32, (const float[]) { 1, 1, 2, 2 }, 4 * sizeof(float));
        OK(rq_graph_add_const(g, &v, "scales", &t, &err));
        rq_tensor_release(&t);
        const rq_id r = NODE(g, "Resize", "r", c, RQ_NONE, v);
        OK(rq_attr_set_string(g, node_id(g, "r"), "mode", linear ? "linear" : "nearest"));
        set_input(g, x);
        set_output(g, wanted ? conv(g, "d", r, 4, 4) : r);
        const rq_settings s = rq_settings_defaults();
        quantize(g, &s, NULL);
        const rq_id before = rq_graph_find(g, "c"), after = rq_graph_find(g, "r");
        assert_non_null(rq_graph_qparams(g, before));
        if (linear && !wanted)
            assert_null(rq_graph_qparams(g, after));
        else
            assert_non_null(rq_graph_qparams(g, after));
        if (!linear)
            assert_int_equal(g->values[before].quant, g->values[after].quant);
        else if (wanted)
            assert_int_not_equal(g->values[before].quant, g->values[after].quant);
        rq_graph_destroy(g);
    }
}

static void concat_shares_with_inputs_of_like_range(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(1, 3, 8, 8));
    set_input(g, x);
    rq_id a = conv(g, "a", x, 3, 4), b = conv(g, "b", x, 3, 4), w = conv(g, "wide_c", x, 3, 4);
    rq_id near = NODE(g, "Concat", "near", a, b), far = NODE(g, "Concat", "wide_far", a, w);
    OK(rq_attr_set_int(g, node_id(g, "near"), "axis", 1));
    OK(rq_attr_set_int(g, node_id(g, "wide_far"), "axis", 1));
    set_output(g, conv(g, "d", near, 8, 4));
    set_output(g, conv(g, "e", far, 8, 4));
    quantize(g, NULL, NULL);
    assert_int_equal(quant_of(g, "near"), quant_of(g, "a"));
    assert_int_equal(quant_of(g, "near"), quant_of(g, "b"));
    assert_int_equal(quant_of(g, "wide_far"), quant_of(g, "wide_c"));
    assert_true(quant_of(g, "wide_far") != quant_of(g, "a"));
    rq_graph_destroy(g);
}

/* The Relu behind a Concat has the codes: there are none of the Concat's own to share. */
static void concat_before_a_clamp_shares_nothing(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(1, 3, 8, 8));
    set_input(g, x);
    rq_id both = NODE(g, "Concat", "both", conv(g, "a", x, 3, 4), conv(g, "b", x, 3, 4));
    OK(rq_attr_set_int(g, node_id(g, "both"), "axis", 1));
    set_output(g, conv(g, "d", NODE(g, "Relu", "relu", both), 8, 4));
    quantize(g, NULL, NULL);
    assert_non_null(q_of(g, "a"));
    assert_non_null(q_of(g, "b"));
    assert_non_null(q_of(g, "relu"));
    assert_int_equal(rq_graph_find(g, "both"), RQ_NONE); /* the Relu went into it */
    assert_true(quant_of(g, "a") != quant_of(g, "relu"));
    rq_graph_destroy(g);
}

static void a_product_and_its_bias_are_rounded_once(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(2, 5, 8));
    set_input(g, x);
    rq_id m = NODE(g, "MatMul", "m", x, constant(g, "m.w", DIM(8, 6), 1));
    rq_id add = NODE(g, "Add", "add", constant(g, "m.b", DIM(6), 1), m);
    rq_id n = NODE(g, "MatMul", "n", add, constant(g, "n.w", DIM(6, 4), 1));
    set_output(g, NODE(g, "Add", "y", n, constant(g, "n.b", DIM(4), 1)));
    quantize(g, NULL, NULL);
    assert_null(q_of(g, "m"));
    assert_null(q_of(g, "m.b"));
    assert_true(q_of(g, "add") && q_of(g, "x") && q_of(g, "m.w")->axis == 1);
    assert_null(q_of(g, "n"));
    assert_null(q_of(g, "y"));
    rq_graph_destroy(g);
}

/* A residual stream that goes through a float operator is no bridge between integers. */
static void what_hangs_at_one_side_stays_in_float(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(2, 8));
    set_input(g, x);
    rq_id m = NODE(g, "Gemm", "m", x, constant(g, "m.w", DIM(8, 8), 1), constant(g, "m.b", DIM(8), 1));
    rq_id res = NODE(g, "Add", "res", m, x), e = NODE(g, "Exp", "e", res), d = NODE(g, "Div", "d", e, res);
    set_output(g, NODE(g, "Gemm", "y", d, constant(g, "y.w", DIM(8, 4), 1), constant(g, "y.b", DIM(4), 1)));
    quantize(g, NULL, NULL);
    assert_null(q_of(g, "res"));
    assert_null(q_of(g, "e"));
    assert_null(q_of(g, "m")); /* nobody waits for its codes */
    assert_true(q_of(g, "x") && q_of(g, "d") && q_of(g, "y.w"));
    rq_graph_destroy(g);
}

static void biases_that_would_clip_raise_the_weights_scale(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(1, 3, 8, 8));
    set_input(g, x);
    set_output(g, conv(g, "a", x, 3, 4));
    float *w = g->values[rq_graph_find(g, "a.w")].constant.f32, b[4];
    memcpy(b, g->values[rq_graph_find(g, "a.b")].constant.f32, sizeof b);
    for (int i = 0; i < 27; i++) {
        w[i] *= 1e-12f; /* channel 0: nearly dead, bias -0.07 */
        w[27 + i] = 0;  /* channel 1: dead */
    }
    notes = (rq_notes) { 0 };
    quantize(g, NULL, NULL);
    const rq_qparams *q = q_of(g, "a.b"), *wq = q_of(g, "a.w");
    const int32_t *codes = g->values[rq_graph_find(g, "a.b")].constant.s32;
    for (int c = 0; c < 4; c++) {
        assert_true(codes[c] > INT32_MIN && codes[c] < INT32_MAX);
        assert_true(fabs((double)codes[c] * q->scale[c] - b[c]) <= 1e-3 * fabs(b[c]));
    }
    assert_true(wq->scale[1] > wq->scale[0] && wq->scale[1] < 1); /* a scale like the others': the bias stays fine */
    assert_true(wq->scale[0] >= 2 * 0.07f / 4294967296.0f / q_of(g, "x")->scale[0]);
    assert_int_equal(notes.n, 2);
    assert_non_null(strstr(notes.text[0], "scale of 1 channels raised"));
    assert_non_null(strstr(notes.text[1], "1 of 4 channels are zero"));
    rq_notes_release(&notes);
    rq_graph_destroy(g);
}

/* The bias of a MatMul is an Add; it stays in float, but runtimes make codes of it in units of the weight's scale. */
static void the_bias_of_a_product_raises_scales_too(void **state)
{
    (void)state;
    rq_graph *g = graph_of(17);
    const rq_id x = input(g, "x", DIM(2, 5, 8));
    set_input(g, x);
    const rq_id m = NODE(g, "MatMul", "m", x, constant(g, "m.w", DIM(8, 6), 1));
    const rq_id add = NODE(g, "Add", "add", m, constant(g, "m.b", DIM(6), 1));
    set_output(g, NODE(g, "MatMul", "n", add, constant(g, "n.w", DIM(6, 4), 1)));
    float *w = g->values[rq_graph_find(g, "m.w")].constant.f32;
    const float *b = g->values[rq_graph_find(g, "m.b")].constant.f32;
    for (int i = 0; i < 8; i++)
        w[i * 6 + 2] *= 1e-12f; /* column 2 */
    notes = (rq_notes) { 0 };
    quantize(g, NULL, NULL);
    assert_null(q_of(g, "m.b"));
    assert_true(fabsf(b[2]) > 0.1f);
    assert_true(fabs((double)b[2]) / ((double)q_of(g, "m.w")->scale[2] * q_of(g, "x")->scale[0]) <= INT32_MAX);
    assert_int_equal(notes.n, 1);
    assert_non_null(strstr(notes.text[0], "scale of 1 channels raised"));
    rq_notes_release(&notes);
    rq_graph_destroy(g);
}

static void tied_weights_stay_tied(void **state)
{
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(2, 8)), w = constant(g, "w", DIM(8, 8), 1);
    set_input(g, x);
    rq_id a = NODE(g, "MatMul", "a", x, w), b = NODE(g, "MatMul", "b", a, w);
    rq_id c = NODE(g, "Exp", "c", w); /* wants the reals */
    set_output(g, b);
    set_output(g, c);
    quantize(g, NULL, NULL);
    rq_id wa = g->nodes[node_id(g, "a")].in[1], wb = g->nodes[node_id(g, "b")].in[1];
    assert_int_equal(wa, wb);
    assert_int_equal(g->values[wa].constant.dtype, RQ_DTYPE_S8);
    assert_int_equal(g->values[g->nodes[node_id(g, "c")].in[0]].constant.dtype, RQ_DTYPE_F32);
    rq_graph_destroy(g);
}

static void recipes_reach_every_part(void **state)
{
    static const char *const text = "rules:\n"
                                    "  - match: {tensor: x}\n"
                                    "    set: {scale: 0.00390625, zero-point: 7}\n"
                                    "  - match: {name: b}\n"
                                    "    set: {weights: u8, per-tensor: true}\n"
                                    "  - match: {name: c}\n"
                                    "    set: {float: true}\n";
    const char *const path = RQ_TEST_TMP "/place.yaml";
    rq_recipe *r;
    OK(rq_file_write_all(path, text, strlen(text), &err));
    OK(rq_recipe_load(&r, path, &err));
    rq_graph *g = graph_of(17);
    rq_id x = input(g, "x", DIM(1, 3, 8, 8));
    set_input(g, x);
    rq_id a = conv(g, "a", x, 3, 4), b = conv(g, "b", a, 4, 4), c = conv(g, "c", b, 4, 4);
    set_output(g, conv(g, "d", c, 4, 4));
    OK(rq_recipe_check(r, g, &err));
    quantize(g, NULL, r);
    assert_true(q_of(g, "x")->scale[0] == 0.00390625f && q_of(g, "x")->zero_point[0] == 7);
    assert_string_equal(g->quants[quant_of(g, "x")].method, "given");
    assert_true(q_of(g, "b.w")->dtype == RQ_DTYPE_U8 && q_of(g, "b.w")->n == 1 && q_of(g, "b.w")->zero_point[0] == 128);
    assert_null(q_of(g, "c.w"));
    assert_null(q_of(g, "c.b"));
    assert_true(q_of(g, "b") && q_of(g, "c") && q_of(g, "d.w")); /* codes for its neighbours */
    rq_recipe_destroy(r);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolutional_network),
        cmocka_unit_test(a_clamp_stays_where_codes_reach_beyond_it),
        cmocka_unit_test(a_resize_carries_codes_or_makes_them),
        cmocka_unit_test(concat_shares_with_inputs_of_like_range),
        cmocka_unit_test(concat_before_a_clamp_shares_nothing),
        cmocka_unit_test(a_product_and_its_bias_are_rounded_once),
        cmocka_unit_test(what_hangs_at_one_side_stays_in_float),
        cmocka_unit_test(biases_that_would_clip_raise_the_weights_scale),
        cmocka_unit_test(the_bias_of_a_product_raises_scales_too),
        cmocka_unit_test(tied_weights_stay_tied),
        cmocka_unit_test(recipes_reach_every_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
