/* tests/graph/test_modules.c — module names from the spellings that exporters use, types in both spellings, and the list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "graph/modules.h"
#include "requant/edit.h"

/* One node of `op`, called `name`, on an input of this rank and a weight of `weight_rank` called `weight` (NULL: none). */
static rq_graph *one(const char *op, const char *name, const char *weight, int weight_rank, int input_rank)
{
    rq_graph *g = NULL;
    rq_tensor w = { 0 };
    const int64_t dims[5] = { 2, 2, 1, 1, 1 };
    const rq_shape x = rq_shape_of(input_rank, dims), s = rq_shape_of(weight_rank, dims);
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_edit_set_opset(g, "", 17, NULL), RQ_OK);
    assert_int_equal(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &x, NULL), RQ_OK);
    if (weight) {
        assert_int_equal(rq_tensor_create(&w, RQ_DTYPE_F32, &s, true), RQ_OK);
        assert_int_equal(rq_edit_add_constant(g, weight, &w, NULL), RQ_OK);
        rq_tensor_release(&w);
    }
    assert_int_equal(rq_edit_add_node(g,
                                      &(rq_edit_node) { .op = op,
                                                        .name = name,
                                                        .in = (const char *[]) { "x", weight },
                                                        .n_in = weight ? 2 : 1,
                                                        .out = (const char *[]) { "y.out" },
                                                        .n_out = 1 },
                                      NULL, NULL),
                     RQ_OK);
    return g;
}

static void names_of_nodes_tell_the_module(void **state)
{
    (void)state;
    static const struct {
        const char *op, *node, *weight, *module;
    } cases[] = {
        { "Conv", "/conv1/Conv", "conv1.weight", "conv1" },
        { "Conv", "/conv1/Conv_1", "conv1.weight", "conv1" }, /* applied again */
        { "Conv", "/layer1/0/conv1/Conv", "w", "layer1.0.conv1" },
        { "Conv", "/layer1/layer1.0/conv1/Conv", "w", "layer1.0.conv1" }, /* as the exporter writes a Sequential */
        { "Conv", "/features/features.0/features.0.0/Conv", "w", "features.0.0" },
        { "Conv", "/net/layer1/layer1.10/conv1/Conv", "w", "net.layer1.10.conv1" },
        { "Conv", "/a/ab/Conv", "w", "a.ab" }, /* ab is no repetition of a */
        { "Conv", "Conv_12", "conv1.weight", "conv1" },
        { "Conv", "node_conv2d_3", "stem.conv.weight", "stem.conv" },
        { "Conv", "n7", "stem.conv.weight", "stem.conv" },
        { "Conv", "Conv_12", "onnx::Conv_193", "Conv_12" },
        { "Conv", "layer1.0.conv1", "w", "layer1.0.conv1" },
        { "Conv", "layer1.0.conv1.Conv", "w", "layer1.0.conv1" },
        { "Conv", "model/conv2d/Conv2D", "model/conv2d/Conv2D/ReadVariableOp:0", "model.conv2d" },
        { "Conv", "StatefulPartitionedCall/model/conv2d_1/Conv2D", "w", "model.conv2d_1" },
        { "Conv", "", "conv1.weight", "conv1" },
        { "Conv", NULL, "block/conv/kernel", "block.conv" },
        { "Conv", "", "emb.weight_v", "emb" },
        { "Conv", "", "weights_of_it", "y.out" },
        { "Conv", "stem", "conv1.weight", "stem" },
        { "Relu", "/layer1/layer1.0/Relu_1", NULL, "layer1.0" },
        { "Relu", "/Relu", NULL, "" },
        { "Relu", "Relu_3", NULL, "Relu_3" },
        { "Relu", "", NULL, "y.out" },
        { "Identity", "/quant/QuantStub", NULL, "quant" },
        { "Add", "/skip_add/FloatFunctional.add", NULL, "skip_add" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_graph *g = one(cases[i].op, cases[i].node, cases[i].weight, 4, 4);
        assert_string_equal(rq_module_of(g, 0), cases[i].module);
        rq_graph_destroy(g);
    }
}

static void long_names_are_cut(void **state)
{
    (void)state;
    char name[2 * RQ_MODULE_NAME], buf[40];
    memset(name, 'a', sizeof name);
    for (size_t i = 0; i < sizeof name; i += 17)
        name[i] = '/';
    name[sizeof name - 1] = '\0';
    rq_graph *g = one("Relu", name, NULL, 0, 4);
    assert_int_equal(strlen(rq_module_name(g, 0, buf, sizeof buf)), sizeof buf - 1);
    assert_int_equal(strlen(rq_module_of(g, 0)), RQ_MODULE_NAME - 1);
    rq_graph_destroy(g);
}

static void types_answer_to_both_spellings(void **state)
{
    (void)state;
    static const struct {
        const char *op, *weight;
        int weight_rank, input_rank;
        const char *yes[5], *no[3];
    } cases[] = {
        { "Conv",
          "w",
          4,
          4,
          { "Conv2d", "Conv", "torch.nn.Conv2d", "nn.Conv2d", "torch.nn.functional.conv2d" },
          { "Conv1d", "Linear" } },
        { "Conv", "w", 3, 3, { "Conv1d", "Conv" }, { "Conv2d" } },
        { "Conv", "w", 5, 5, { "Conv3d", "Conv" }, { "Conv2d" } },
        { "ConvTranspose",
          "w",
          4,
          4,
          { "ConvTranspose2d", "nn.ConvTranspose2d", "ConvTranspose" },
          { "Conv2d", "Conv" } },
        { "Gemm", "w", 2, 2, { "Linear", "Gemm", "MatMul", "torch.nn.Linear" }, { "matmul" } },
        { "MatMul", "w", 2, 3, { "Linear", "Gemm", "MatMul" }, { "torch.matmul" } },
        { "BatchNormalization", "w", 1, 4, { "BatchNorm2d", "BatchNormalization" }, { "BatchNorm1d" } },
        { "BatchNormalization", "w", 1, 2, { "BatchNorm1d" }, { "BatchNorm2d" } },
        { "BatchNormalization", "w", 1, 5, { "BatchNorm3d" }, { "BatchNorm2d" } },
        { "Relu", NULL, 0, 4, { "ReLU", "relu", "Relu", "F.relu", "torch.nn.ReLU" }, { "ReLU6" } },
        { "Add", NULL, 0, 4, { "add", "operator.add", "torch.add", "Add" }, { "Linear" } },
        { "Concat", NULL, 0, 4, { "torch.cat", "cat", "Concat" }, { "add" } },
        { "HardSwish", NULL, 0, 4, { "Hardswish", "HardSwish", "hardswish" }, { "SiLU" } },
        { "GlobalAveragePool", NULL, 0, 4, { "AdaptiveAvgPool2d", "GlobalAveragePool" }, { "AvgPool2d" } },
        { "LSTM", "w", 3, 3, { "LSTM", "nn.LSTM" }, { "GRU" } },
        { "NoSuchOp", NULL, 0, 4, { "NoSuchOp" }, { "Conv" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_graph *g = one(cases[i].op, "n", cases[i].weight, cases[i].weight_rank, cases[i].input_rank);
        for (int k = 0; k < 5 && cases[i].yes[k]; k++)
            if (!rq_graph_node_is_type(g, 0, cases[i].yes[k]))
                fail_msg("%s is no %s", cases[i].op, cases[i].yes[k]);
        for (int k = 0; k < 3 && cases[i].no[k]; k++)
            if (rq_graph_node_is_type(g, 0, cases[i].no[k]))
                fail_msg("%s is %s", cases[i].op, cases[i].no[k]);
        assert_false(rq_graph_node_is_type(g, 1, "Conv"));
        assert_false(rq_graph_node_is_type(g, -1, "Conv"));
        rq_graph_destroy(g);
    }
}

static void node(rq_graph *g, const char *op, const char *name, const char *a, const char *b, const char *y)
{
    assert_int_equal(rq_edit_add_node(g,
                                      &(rq_edit_node) { .op = op,
                                                        .name = name,
                                                        .in = (const char *[]) { a, b },
                                                        .n_in = b ? 2 : 1,
                                                        .out = (const char *[]) { y },
                                                        .n_out = 1 },
                                      NULL, NULL),
                     RQ_OK);
}

/* A residual block: conv, relu, conv, + x, relu (a function), then a Linear as MatMul and Add, and SiLU as Sigmoid and Mul. */
static rq_graph *block(void)
{
    rq_graph *g = NULL;
    rq_tensor w = { 0 };
    const rq_shape x = rq_shape_of(2, (int64_t[]) { 2, 2 }), s4 = rq_shape_of(4, (int64_t[]) { 2, 2, 1, 1 }),
                   s1 = rq_shape_of(1, (int64_t[]) { 2 });
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    assert_int_equal(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &x, NULL), RQ_OK);
    const struct {
        const char *name;
        const rq_shape *shape;
    } constants[] = {
        { "block.conv1.weight", &s4 }, { "block.conv2.weight", &s4 }, { "onnx::MatMul_9", &x }, { "fc.bias", &s1 }
    };
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rq_tensor_create(&w, RQ_DTYPE_F32, constants[i].shape, true), RQ_OK);
        assert_int_equal(rq_edit_add_constant(g, constants[i].name, &w, NULL), RQ_OK);
        rq_tensor_release(&w);
    }
    node(g, "Conv", "/block/conv1/Conv", "x", "block.conv1.weight", "a");
    node(g, "Relu", "/block/relu/Relu", "a", NULL, "b");
    node(g, "Conv", "/block/conv2/Conv", "b", "block.conv2.weight", "c");
    node(g, "Add", "/block/Add", "c", "x", "d");
    node(g, "Relu", "/block/relu/Relu_1", "d", NULL, "e");
    node(g, "MatMul", "/fc/MatMul", "e", "onnx::MatMul_9", "f");
    node(g, "Add", "/fc/Add", "fc.bias", "f", "h");
    node(g, "Sigmoid", "/act/Sigmoid", "h", NULL, "i");
    node(g, "Mul", "/act/Mul", "h", "i", "j");
    node(g, "Flatten", "/Flatten", "j", NULL, "y");
    return g;
}

static void the_list_has_modules_and_calls(void **state)
{
    (void)state;
    static const rq_module want[] = {
        { "block.conv1", "Conv2d", "Conv", 0, 1, false }, { "block.relu", "ReLU", "Relu", 1, 2, false },
        { "block.conv2", "Conv2d", "Conv", 2, 1, false }, { "block", "add", "Add", 3, 1, true },
        { "fc", "Linear", "MatMul", 5, 2, false },        { "act", "SiLU", "Sigmoid", 7, 2, false },
        { "", "flatten", "Flatten", 9, 1, true },
    };
    rq_graph *g = block();
    rq_module *m = NULL;
    int n = 0;
    assert_int_equal(rq_graph_modules(g, &m, &n), RQ_OK);
    assert_int_equal(n, sizeof want / sizeof want[0]);
    for (int i = 0; i < n; i++) {
        assert_string_equal(m[i].name, want[i].name);
        assert_string_equal(m[i].type, want[i].type);
        assert_string_equal(m[i].op, want[i].op);
        assert_int_equal(m[i].node, want[i].node);
        assert_int_equal(m[i].n_nodes, want[i].n_nodes);
        assert_int_equal(m[i].call, want[i].call);
    }
    assert_true(rq_module_is(g, 6, "Linear")); /* the Add of its bias */
    rq_free(m);
    rq_graph_destroy(g);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    rq_graph *g = block();
    rq_module *m = NULL;
    int n = 0;
    for (size_t i = 1;; i++) {
        const size_t live = rq_mem_live();
        rq_mem_fail_after(i, true);
        const rq_status s = rq_graph_modules(g, &m, &n);
        rq_mem_fail_after(0, false);
        if (!s)
            break;
        assert_int_equal(s, RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), live);
        assert_null(m);
    }
    rq_free(m);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_nodes_tell_the_module), cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(types_answer_to_both_spellings), cmocka_unit_test(the_list_has_modules_and_calls),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
