/* tests/ops/test_grad.c — every backward against differences of its forward: runs the cases of tests/ops/grad_*.c, then looks for
 * rows that none of them reached. One argument: only that file's cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ops/grad_check.h"

#define GRAD(name)                                                                                                     \
    static void test_##name(void **unused)                                                                             \
    {                                                                                                                  \
        (void)unused;                                                                                                  \
        grad_##name();                                                                                                 \
    }
#include "ops/grad_cases.inc"
#undef GRAD

/* Runs last. */
static void every_backward_has_a_case(void **unused)
{
    (void)unused;
    int missing = 0;
    const rq_op *row;
    for (int i = 0; (row = rq_op_at(i)); i++)
        if (row->backward && !grad_has(row)) {
            print_error("%s%s%s has a backward and no case in tests/ops/grad_*.c\n", row->domain,
                        *row->domain ? "." : "", row->name);
            missing++;
        }
    assert_int_equal(missing, 0);
}

/* What trained networks use goes backward: by a backward of its own, or as it hands on the bytes. */
static void trained_networks_go_back(void **unused)
{
    (void)unused;
    static const char *const names[] = {
        /* products */
        "Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum",
        /* normalizations */
        "BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
        "LpNormalization",
        /* pools */
        "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool",
        /* activations */
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish",
        "Swish", "Mish", "Gelu", "Tanh", "Softplus", "Softsign", "Shrink", "Clip", "Softmax", "LogSoftmax",
        /* elementwise */
        "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Abs", "Neg", "Exp", "Log", "Sqrt",
        "Reciprocal", "Erf", "Sin", "Cos", "Where", "Cast", "Identity", "Dropout",
        /* reductions */
        "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
        "ReduceLogSum", "ReduceLogSumExp", "CumSum",
        /* layout */
        "Concat", "Slice", "Split", "Pad", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Gather",
        "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
        "Resize", "GridSample", "AffineGrid", "Col2Im", "MaxUnpool",
        /* recurrent layers and attention */
        "LSTM", "GRU", "RNN", "Attention"
    };
    static const char *const fused[] = { "Attention",
                                         "MultiHeadAttention",
                                         "GroupQueryAttention",
                                         "RotaryEmbedding",
                                         "SkipLayerNormalization",
                                         "SkipSimplifiedLayerNormalization",
                                         "BiasGelu",
                                         "FastGelu",
                                         "Gelu",
                                         "QuickGelu",
                                         "FusedMatMul",
                                         "TransposeMatMul",
                                         "GridSample" };
    static const char *const ours[] = { "FakeQuantize", "BatchNormScale", "ScaleChannels", "FoldedBatchNorm" };
    const struct domain {
        const char *name;
        const char *const *ops;
        size_t n;
    } domains[] = { { "", names, sizeof names / sizeof *names },
                    { "com.microsoft", fused, sizeof fused / sizeof *fused },
                    { "requant", ours, sizeof ours / sizeof *ours } };
    int missing = 0;
    for (size_t d = 0; d < sizeof domains / sizeof *domains; d++)
        for (size_t i = 0; i < domains[d].n; i++) {
            const rq_op *row = rq_op_find(domains[d].name, domains[d].ops[i]);
            if (!row || !(row->backward || row->flags & RQ_OP_VIEW)) {
                print_error("%s: %s\n", domains[d].ops[i], row ? "has no backward" : "there is no such row");
                missing++;
            }
        }
    assert_int_equal(missing, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define GRAD(name) { "gradients_of_" #name, test_##name, NULL, NULL, NULL },
#include "ops/grad_cases.inc"
#undef GRAD
        cmocka_unit_test(trained_networks_go_back),
        cmocka_unit_test(every_backward_has_a_case),
    };
    char one[80];
    if (argc > 1) {
        snprintf(one, sizeof one, "gradients_of_%s", argv[1]);
        cmocka_set_test_filter(one);
    }
    grad_begin();
    const int failed = cmocka_run_group_tests_name("grad", tests, NULL, NULL);
    grad_end();
    return failed;
}
