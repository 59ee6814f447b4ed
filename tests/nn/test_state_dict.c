/* tests/nn/test_state_dict.c — PyTorch's layers: their state dicts loaded into networks built alike give their outputs, and come back as they were;
 * what does not fit is named. Numbers: make_torch_nn.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/requant.h"

static rq_state *numbers;

static int load_numbers(void **state)
{
    (void)state;
    return rq_state_load(&numbers, "tests/nn/torch_nn.npz", NULL);
}

static int drop_numbers(void **state)
{
    (void)state;
    rq_state_destroy(numbers);
    return 0;
}

/* The entries under "<name>/state/" as a state of their own. */
static rq_state *state_of(const char *name)
{
    char prefix[64];
    rq_state *s = NULL;
    assert_int_equal(rq_state_create(&s), RQ_OK);
    snprintf(prefix, sizeof prefix, "%s/state/", name);
    for (int i = 0; i < rq_state_count(numbers); i++)
        if (!strncmp(rq_state_name(numbers, i), prefix, strlen(prefix)))
            assert_int_equal(
                rq_state_set(s, NULL, rq_state_name(numbers, i) + strlen(prefix), rq_state_tensor(numbers, i)), RQ_OK);
    return s;
}

static void lstm(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_lstm(
        n, "m", x[0], 4,
        &(rq_nn_recurrent) { .layers = 2, .bidirectional = true, .batch_first = true, .hidden = &y[1], .cell = &y[2] });
}
static void lstm_plain(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_lstm(n, "m", x[0], 4, &(rq_nn_recurrent) { .no_bias = true, .hidden = &y[1], .cell = &y[2] });
}
static void gru(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_gru(n, "m", x[0], 4, &(rq_nn_recurrent) { .layers = 2, .bidirectional = true, .hidden = &y[1] });
}
static void self(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_multihead_attention(n, "m", x[0], x[0], x[0], 2, &(rq_nn_attention) { .batch_first = true });
}
static void cross(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_multihead_attention(n, "m", x[0], x[1], x[2], 4, NULL);
}
static void prelu(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_conv2d(n, NULL, x[0], 4, 3, &(rq_nn_conv) { .stride = 2, .padding = 1 });
    y[0] = rq_nn_prelu(n, NULL, y[0], true);
    y[0] = rq_nn_batch_norm(n, NULL, y[0], &(rq_nn_norm) { .eps = 1e-3 });
}
static void transposed(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_conv_transpose2d(n, NULL, x[0], 6, 3,
                                  &(rq_nn_conv) { .stride = 2, .padding = 1, .output_padding = 1, .groups = 2 });
    y[0] = rq_nn_gelu(n, NULL, y[0], false);
}
static void words(rq_nn *n, rq_nn_value *x, rq_nn_value *y)
{
    y[0] = rq_nn_embedding(n, NULL, x[0], 9, 6);
    y[0] = rq_nn_linear(n, NULL, y[0], 5, NULL);
    y[0] = rq_nn_layer_norm(n, NULL, y[0], 1, NULL);
    y[0] = rq_nn_silu(n, NULL, y[0]);
}

static const struct layer {
    const char *name;
    void (*build)(rq_nn *n, rq_nn_value *x, rq_nn_value *y);
    int n_in, n_out;
} layers[] = {
    { "lstm", lstm, 1, 3 },
    { "lstm_plain", lstm_plain, 1, 3 },
    { "gru", gru, 1, 2 },
    { "self", self, 3, 1 },
    { "cross", cross, 3, 1 },
    { "prelu", prelu, 1, 1 },
    { "transposed", transposed, 1, 1 },
    { "words", words, 1, 1 },
};

static const rq_tensor *number(const char *layer, const char *what, int i)
{
    char name[64];
    snprintf(name, sizeof name, "%s/%s%d", layer, what, i);
    const rq_tensor *t = rq_state_find(numbers, name);
    assert_non_null(t);
    return t;
}

static rq_graph *build(const struct layer *l)
{
    rq_nn *n;
    rq_graph *g = NULL;
    rq_err err = { 0 };
    rq_nn_value x[3], y[3];
    assert_int_equal(rq_nn_create(&n, 1), RQ_OK);
    for (int i = 0; i < l->n_in; i++) {
        const rq_tensor *t = number(l->name, "x", i);
        x[i] = rq_nn_input(n, (const char *[]) { "x0", "x1", "x2" }[i], t->dtype, t->shape.rank, t->shape.dim);
    }
    l->build(n, x, y);
    for (int i = 0; i < l->n_out; i++)
        rq_nn_output(n, (const char *[]) { "y0", "y1", "y2" }[i], y[i]);
    if (rq_nn_finish(n, &g, &err))
        fail_msg("%s: %s", l->name, err.text);
    return g;
}

static void layers_compute_what_pytorch_computes(void **state)
{
    (void)state;
    for (size_t l = 0; l < sizeof layers / sizeof layers[0]; l++) {
        rq_graph *g = build(&layers[l]);
        rq_state *dict = state_of(layers[l].name), *back = NULL;
        rq_session *s = NULL;
        rq_err err = { 0 };
        rq_feed feeds[3];
        rq_tensor y[3];
        if (rq_nn_load_state_dict(g, dict, NULL, true, &err) || rq_session_create(&s, g, NULL, &err))
            fail_msg("%s: %s", layers[l].name, err.text);
        for (int i = 0; i < layers[l].n_in; i++)
            feeds[i] = (rq_feed) { (const char *[]) { "x0", "x1", "x2" }[i], *number(layers[l].name, "x", i) };
        if (rq_session_run(s, feeds, layers[l].n_in, y, &err))
            fail_msg("%s: %s", layers[l].name, err.text);
        for (int i = 0; i < layers[l].n_out; i++) {
            const rq_tensor *want = number(layers[l].name, "y", i);
            assert_true(rq_shape_equal(&want->shape, &y[i].shape));
            for (int64_t k = 0; k < rq_tensor_count(want); k++)
                if (!(fabs((double)y[i].f32[k] - want->f32[k]) <= 2e-5))
                    fail_msg("%s: y%d[%d]: %g, want %g", layers[l].name, i, (int)k, (double)y[i].f32[k],
                             (double)want->f32[k]);
            rq_tensor_release(&y[i]);
        }
        assert_int_equal(rq_state_create(&back), RQ_OK); /* and back, name for name */
        assert_int_equal(rq_nn_state_dict(g, back, "net."), RQ_OK);
        assert_int_equal(rq_state_count(back), rq_state_count(dict));
        for (int i = 0; i < rq_state_count(dict); i++) {
            char name[80];
            snprintf(name, sizeof name, "net.%s", rq_state_name(dict, i));
            const rq_tensor *a = rq_state_tensor(dict, i), *b = rq_state_find(back, name);
            if (!b)
                fail_msg("'%s' did not come back", name);
            assert_true(rq_shape_equal(&a->shape, &b->shape));
            assert_memory_equal(a->data, b->data, a->bytes);
        }
        rq_session_destroy(s);
        rq_state_destroy(dict);
        rq_state_destroy(back);
        rq_graph_destroy(g);
    }
}

static void a_file_has_the_same_dict(void **state)
{
    (void)state;
    rq_graph *g = build(&layers[0]), *read = NULL;
    rq_state *dict = state_of("lstm"), *back = NULL;
    rq_err err = { 0 };
    assert_int_equal(rq_nn_load_state_dict(g, dict, NULL, true, &err), RQ_OK);
    assert_int_equal(rq_save(g, RQ_TEST_TMP "/dict.onnx", &err), RQ_OK);
    assert_int_equal(rq_load(&read, RQ_TEST_TMP "/dict.onnx", &err), RQ_OK);
    assert_int_equal(rq_state_create(&back), RQ_OK);
    assert_int_equal(rq_nn_state_dict(read, back, NULL), RQ_OK);
    assert_int_equal(rq_state_count(back), rq_state_count(dict));
    for (int i = 0; i < rq_state_count(dict); i++) {
        const rq_tensor *b = rq_state_find(back, rq_state_name(dict, i));
        assert_non_null(b);
        assert_memory_equal(b->data, rq_state_tensor(dict, i)->data, b->bytes);
    }
    rq_state_destroy(dict);
    rq_state_destroy(back);
    rq_graph_destroy(g);
    rq_graph_destroy(read);
}

static void what_does_not_fit_is_named_and_nothing_changes(void **state)
{
    (void)state;
    rq_graph *g = build(&layers[5]);
    rq_state *s = state_of("prelu"), *few = NULL, *back = NULL;
    rq_err err = { 0 };
    const float one = 1;
    rq_tensor before, after;
    assert_int_equal(rq_edit_constant(g, "0.bias", &before, &err), RQ_OK);
    assert_int_equal(rq_state_create(&few), RQ_OK);
    assert_int_equal(rq_state_set(few, NULL, "0.bias", rq_state_find(s, "0.bias")), RQ_OK);
    assert_int_equal(rq_state_set_floats(few, NULL, "extra", &one, 1), RQ_OK);
    assert_int_equal(rq_nn_load_state_dict(g, few, NULL, true, &err), RQ_NOT_FOUND);
    assert_string_equal(
        err.text, "the state has no '0.weight', '1.weight', '2.weight' and 3 more, and the network has no 'extra'");
    assert_int_equal(rq_state_set_floats(s, NULL, "2.running_var", &one, 1), RQ_OK);
    assert_int_equal(rq_nn_load_state_dict(g, s, NULL, true, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "'2.running_var' of the state has shape [1], the network's has [4]");
    assert_int_equal(rq_state_set_ints(s, NULL, "2.running_var", (int64_t[]) { 1, 2, 3, 4 }, 4), RQ_OK);
    assert_int_equal(rq_nn_load_state_dict(g, s, NULL, true, &err), RQ_BAD_DTYPE);
    assert_int_equal(rq_edit_constant(g, "0.bias", &after, &err), RQ_OK);
    assert_memory_equal(before.data, after.data, before.bytes);
    rq_tensor_release(&after);
    assert_int_equal(rq_nn_load_state_dict(g, few, NULL, false, &err), RQ_OK); /* what is there */
    assert_int_equal(rq_edit_constant(g, "0.bias", &after, &err), RQ_OK);
    assert_memory_equal(after.data, rq_state_find(few, "0.bias")->data, after.bytes);
    rq_tensor_release(&after);
    rq_tensor_release(&before);
    assert_int_equal(rq_state_set_ints(few, NULL, "2.num_batches_tracked", (int64_t[]) { 12 }, 1), RQ_OK); /* is kept */
    assert_int_equal(rq_nn_load_state_dict(g, few, NULL, false, &err), RQ_OK);
    assert_int_equal(rq_state_create(&back), RQ_OK);
    assert_int_equal(rq_nn_state_dict(g, back, NULL), RQ_OK);
    assert_int_equal(rq_state_find(back, "2.num_batches_tracked")->s64[0], 12);
    rq_state_destroy(s);
    rq_state_destroy(few);
    rq_state_destroy(back);
    rq_graph_destroy(g);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    rq_graph *g = build(&layers[0]);
    rq_state *s = state_of("lstm");
    for (size_t i = 1;; i++) {
        rq_state *out = NULL;
        rq_err err = { 0 };
        assert_int_equal(rq_state_create(&out), RQ_OK);
        rq_mem_fail_after(i, true);
        rq_status st = rq_nn_state_dict(g, out, NULL);
        rq_mem_fail_after(i, true);
        const size_t live = rq_mem_live();
        const rq_status loaded = rq_nn_load_state_dict(g, s, NULL, true, &err);
        rq_mem_fail_after(0, false);
        rq_state_destroy(out);
        if (loaded)
            assert_true(rq_mem_live() <= live);
        if (!st && !loaded)
            break;
        assert_true(!st || st == RQ_NO_MEMORY);
        assert_true(!loaded || loaded == RQ_NO_MEMORY);
    }
    rq_state_destroy(s);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_compute_what_pytorch_computes),
        cmocka_unit_test(a_file_has_the_same_dict),
        cmocka_unit_test(what_does_not_fit_is_named_and_nothing_changes),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, load_numbers, drop_numbers);
}
