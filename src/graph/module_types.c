/* graph/module_types.c — one table: which types of modules and functions an operator of ONNX stands for. What depends on more than the
 * operator (sizes of a window, a constant input, a neighbour) is a condition of its row; the first row that holds is taken. */
#include <stdlib.h>
#include <string.h>

#include "graph/modules.h"
#include "graph/query.h"

typedef bool (*condition)(const rq_graph *g, rq_id node);

/* Sizes of the window or of the picture: 1, 2 or 3; 0: not known. From the weight, a window attribute, or the input. */
static int spatial(const rq_graph *g, rq_id node)
{
    const rq_node *n = &g->nodes[node];
    int count = 0;
    rq_attr_ints(n, RQ_WORD_kernel_shape, &count);
    if (count >= 1 && count <= 3)
        return count;
    const rq_id w = rq_module_constant(g, rq_node_in(n, 1)), x = rq_node_in(n, 0);
    if ((rq_node_is(n, "Conv") || rq_node_is(n, "ConvTranspose")) && w >= 0)
        return g->values[w].constant.shape.rank - 2;
    if (x < 0)
        return 0;
    const rq_value *v = &g->values[x];
    if (v->shape.rank >= 2)
        return v->shape.rank == 2 ? 1 : v->shape.rank - 2;
    if (v->kind != RQ_VALUE_NODE)
        return 0;
    const rq_node *p = &g->nodes[v->producer]; /* the file says nothing about sizes: what the layer before it does */
    return rq_node_is(p, "Conv") || rq_node_is(p, "ConvTranspose") || rq_node_is_requant(p, "FoldedBatchNorm")
               ? spatial(g, v->producer)
           : rq_node_is(p, "Gemm") ? 1
                                   : 0;
}

static bool is_1d(const rq_graph *g, rq_id node)
{
    return spatial(g, node) == 1;
}

static bool is_2d(const rq_graph *g, rq_id node)
{
    return spatial(g, node) == 2;
}

static bool is_3d(const rq_graph *g, rq_id node)
{
    return spatial(g, node) == 3;
}

static bool has_weight(const rq_graph *g, rq_id node)
{
    return rq_module_constant(g, rq_node_in(&g->nodes[node], 1)) >= 0;
}

static bool has_table(const rq_graph *g, rq_id node)
{
    const rq_id c = rq_module_constant(g, rq_node_in(&g->nodes[node], 0));
    return c >= 0 && rq_dtype_is_float(g->values[c].dtype);
}

static bool is_bias(const rq_graph *g, rq_id node)
{
    return rq_module_biased(g, node) >= 0;
}

/* Bound `i` of a Clip, as an attribute (before opset 11) or as input. */
static bool bound_is(const rq_graph *g, const rq_node *n, int i, float want)
{
    const rq_id c = rq_module_constant(g, rq_node_in(n, i));
    if (c >= 0)
        return rq_tensor_count(&g->values[c].constant) == 1 && (float)rq_tensor_get(&g->values[c].constant, 0) == want;
    const rq_word name = i == 1 ? RQ_WORD_min : RQ_WORD_max;
    return rq_attr_find(n, name) && rq_attr_float(n, name, 0) == want;
}

static bool is_relu6(const rq_graph *g, rq_id node)
{
    return bound_is(g, &g->nodes[node], 1, 0) && bound_is(g, &g->nodes[node], 2, 6);
}

/* Does the Mul multiply the output of `op` with what goes into that? */
static bool gates(const rq_graph *g, const rq_node *mul, const char *op)
{
    for (int i = 0; i < 2 && mul->n_in == 2; i++) {
        const rq_id gate = mul->in[i];
        if (gate < 0 || g->values[gate].kind != RQ_VALUE_NODE)
            continue;
        const rq_node *p = &g->nodes[g->values[gate].producer];
        if (rq_node_is(p, op) && rq_node_in(p, 0) == mul->in[1 - i])
            return true;
    }
    return false;
}

static bool is_silu(const rq_graph *g, rq_id node)
{
    return gates(g, &g->nodes[node], "Sigmoid");
}

static bool is_hard_swish(const rq_graph *g, rq_id node)
{
    return gates(g, &g->nodes[node], "HardSigmoid");
}

/* Is all that becomes of the Sigmoid such a Mul? */
static bool is_gate_of(const rq_graph *g, rq_id node, const char *op)
{
    rq_id user[2];
    const rq_id y = rq_node_out(&g->nodes[node], 0);
    return y >= 0 && rq_graph_uses(g, y, user, 2) == 1 && !rq_graph_is_output(g, y) &&
           rq_node_is(&g->nodes[user[0]], "Mul") && gates(g, &g->nodes[user[0]], op);
}

static bool is_gate_of_silu(const rq_graph *g, rq_id node)
{
    return is_gate_of(g, node, "Sigmoid");
}

static bool is_gate_of_hard_swish(const rq_graph *g, rq_id node)
{
    return is_gate_of(g, node, "HardSigmoid");
}

/* Stubs and functional modules are told by the end of the node's name, as requant/nn.h writes it: "/quant/QuantStub". */
static bool ends_in(const rq_graph *g, rq_id node, const char *word)
{
    const char *slash = strrchr(g->nodes[node].name, '/');
    const size_t n = strlen(word);
    return slash && !strncmp(slash + 1, word, n) && (!slash[1 + n] || slash[1 + n] == '_' || slash[1 + n] == '.');
}

static bool is_quant_stub(const rq_graph *g, rq_id node)
{
    return ends_in(g, node, "QuantStub");
}

static bool is_dequant_stub(const rq_graph *g, rq_id node)
{
    return ends_in(g, node, "DeQuantStub");
}

static bool is_functional(const rq_graph *g, rq_id node)
{
    return ends_in(g, node, "FloatFunctional");
}

static bool is_same(const rq_graph *g, rq_id node)
{
    (void)g;
    (void)node;
    return true;
}

typedef struct row {
    const char *op;
    condition holds;
    const char *type[RQ_MODULE_TYPES]; /* the operator's own name is added behind them */
} row;

/* Sorted by operator in blocks; rows of one operator from the narrow to the wide. */
static const row rows[] = {
    { "Identity", is_quant_stub, { "QuantStub" } },
    { "Identity", is_dequant_stub, { "DeQuantStub" } },
    { "Conv", is_1d, { "Conv1d", "conv1d" } },
    { "Conv", is_2d, { "Conv2d", "conv2d" } },
    { "Conv", is_3d, { "Conv3d", "conv3d" } },
    { "ConvTranspose", is_1d, { "ConvTranspose1d", "conv_transpose1d" } },
    { "ConvTranspose", is_2d, { "ConvTranspose2d", "conv_transpose2d" } },
    { "ConvTranspose", is_3d, { "ConvTranspose3d", "conv_transpose3d" } },
    { "Gemm", has_weight, { "Linear", "linear", "MatMul" } },
    { "Gemm", is_same, { "addmm", "matmul" } },
    { "MatMul", has_weight, { "Linear", "linear", "Gemm" } },
    { "MatMul", is_functional, { "FloatFunctional", "matmul", "bmm" } },
    { "MatMul", is_same, { "matmul", "bmm" } },
    { "Add", is_bias, { "Linear", "linear", "Gemm", "MatMul" } },
    { "Add", is_functional, { "FloatFunctional", "add" } },
    { "Add", is_same, { "add" } },
    { "Mul", is_silu, { "SiLU", "silu" } },
    { "Mul", is_hard_swish, { "Hardswish", "hardswish" } },
    { "Mul", is_functional, { "FloatFunctional", "mul" } },
    { "Mul", is_same, { "mul" } },
    { "Sub", is_same, { "sub" } },
    { "Div", is_same, { "truediv", "div" } },
    { "Pow", is_same, { "pow" } },
    { "Sqrt", is_same, { "sqrt" } },
    { "Concat", is_functional, { "FloatFunctional", "cat" } },
    { "Concat", is_same, { "cat" } },
    { "BatchNormalization", is_1d, { "BatchNorm1d", "batch_norm" } },
    { "BatchNormalization", is_2d, { "BatchNorm2d", "batch_norm" } },
    { "BatchNormalization", is_3d, { "BatchNorm3d", "batch_norm" } },
    { "InstanceNormalization", is_1d, { "InstanceNorm1d", "instance_norm" } },
    { "InstanceNormalization", is_2d, { "InstanceNorm2d", "instance_norm" } },
    { "InstanceNormalization", is_3d, { "InstanceNorm3d", "instance_norm" } },
    { "LayerNormalization", is_same, { "LayerNorm", "layer_norm" } },
    { "GroupNormalization", is_same, { "GroupNorm", "group_norm" } },
    { "RMSNormalization", is_same, { "RMSNorm", "rms_norm" } },
    { "Gather", has_table, { "Embedding", "embedding" } },
    { "LSTM", is_same, { "LSTM", "lstm" } },
    { "GRU", is_same, { "GRU", "gru" } },
    { "RNN", is_same, { "RNN", "rnn_tanh" } },
    { "Attention", is_same, { "MultiheadAttention", "scaled_dot_product_attention" } },
    { "Relu", is_functional, { "FloatFunctional", "relu" } },
    { "Relu", is_same, { "ReLU", "relu" } },
    { "Clip", is_relu6, { "ReLU6", "relu6", "Hardtanh", "clamp" } },
    { "Clip", is_same, { "Hardtanh", "hardtanh", "clamp" } },
    { "LeakyRelu", is_same, { "LeakyReLU", "leaky_relu" } },
    { "PRelu", is_same, { "PReLU", "prelu" } },
    { "Elu", is_same, { "ELU", "elu" } },
    { "Selu", is_same, { "SELU", "selu" } },
    { "Celu", is_same, { "CELU", "celu" } },
    { "Gelu", is_same, { "GELU", "gelu" } },
    { "Mish", is_same, { "Mish", "mish" } },
    { "Swish", is_same, { "SiLU", "silu" } },
    { "Sigmoid", is_gate_of_silu, { "SiLU", "silu" } },
    { "Sigmoid", is_same, { "Sigmoid", "sigmoid" } },
    { "Tanh", is_same, { "Tanh", "tanh" } },
    { "HardSigmoid", is_gate_of_hard_swish, { "Hardswish", "hardswish" } },
    { "HardSigmoid", is_same, { "Hardsigmoid", "hardsigmoid" } },
    { "HardSwish", is_same, { "Hardswish", "hardswish" } },
    { "Softplus", is_same, { "Softplus", "softplus" } },
    { "Softsign", is_same, { "Softsign", "softsign" } },
    { "Softmax", is_same, { "Softmax", "softmax" } },
    { "LogSoftmax", is_same, { "LogSoftmax", "log_softmax" } },
    { "MaxPool", is_1d, { "MaxPool1d", "max_pool1d" } },
    { "MaxPool", is_2d, { "MaxPool2d", "max_pool2d" } },
    { "MaxPool", is_3d, { "MaxPool3d", "max_pool3d" } },
    { "AveragePool", is_1d, { "AvgPool1d", "avg_pool1d" } },
    { "AveragePool", is_2d, { "AvgPool2d", "avg_pool2d" } },
    { "AveragePool", is_3d, { "AvgPool3d", "avg_pool3d" } },
    { "GlobalAveragePool", is_1d, { "AdaptiveAvgPool1d", "adaptive_avg_pool1d" } },
    { "GlobalAveragePool", is_2d, { "AdaptiveAvgPool2d", "adaptive_avg_pool2d" } },
    { "GlobalAveragePool", is_3d, { "AdaptiveAvgPool3d", "adaptive_avg_pool3d" } },
    { "GlobalMaxPool", is_1d, { "AdaptiveMaxPool1d", "adaptive_max_pool1d" } },
    { "GlobalMaxPool", is_2d, { "AdaptiveMaxPool2d", "adaptive_max_pool2d" } },
    { "GlobalMaxPool", is_3d, { "AdaptiveMaxPool3d", "adaptive_max_pool3d" } },
    { "Dropout", is_same, { "Dropout", "dropout" } },
    { "Flatten", is_same, { "Flatten", "flatten" } },
    { "Reshape", is_same, { "reshape", "view", "flatten" } },
    { "Transpose", is_same, { "permute", "transpose" } },
    { "Squeeze", is_same, { "squeeze" } },
    { "Unsqueeze", is_same, { "unsqueeze" } },
    { "Split", is_same, { "split", "chunk" } },
    { "Slice", is_same, { "getitem", "slice" } },
    { "Pad", is_same, { "pad" } },
    { "Resize", is_same, { "Upsample", "interpolate" } },
    { "ReduceMean", is_same, { "mean" } },
    { "ReduceSum", is_same, { "sum" } },
    { "Identity", is_same, { "Identity" } },
};

const char *rq_module_type_at(int i, bool *is_first)
{
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int k = 0; k < RQ_MODULE_TYPES && rows[r].type[k]; k++)
            if (i-- == 0) {
                *is_first = k == 0;
                return rows[r].type[k];
            }
    return NULL;
}

int rq_module_types(const rq_graph *g, rq_id node, const char *out[RQ_MODULE_TYPES])
{
    const rq_node *n = &g->nodes[node];
    int count = 0;
    if (!n->op)
        return 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !count; i++) {
        if (!rq_node_is(n, rows[i].op) || !rows[i].holds(g, node))
            continue;
        while (count < RQ_MODULE_TYPES - 1 && rows[i].type[count]) {
            out[count] = rows[i].type[count];
            count++;
        }
    }
    for (int k = 0; k < count; k++)
        if (!strcmp(out[k], n->op))
            return count;
    out[count++] = n->op;
    return count;
}

bool rq_module_is(const rq_graph *g, rq_id node, const char *type)
{
    const char *types[RQ_MODULE_TYPES];
    const char *dot = strrchr(type, '.'); /* "torch.nn.Conv2d", "operator.add" */
    const int n = rq_module_types(g, node, types);
    for (int i = 0; i < n; i++)
        if (!strcmp(types[i], dot ? dot + 1 : type))
            return true;
    return false;
}

bool rq_graph_node_is_type(const rq_graph *g, int node, const char *type)
{
    return node >= 0 && node < g->n_nodes && g->nodes[node].op && rq_module_is(g, node, type);
}
