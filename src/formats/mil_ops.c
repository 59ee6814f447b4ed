/* formats/mil_ops.c — the rows: how each operator of a program becomes nodes of ONNX's operators. Semantics: docs/coreml-package.md. */
#include "formats/mil_graph.h"

#include <string.h>

typedef rq_mil_reader reader;

static rq_status set_ints(reader *r, const rq_mil_op *op, int id, const char *param, const char *attribute)
{
    int64_t v[16];
    int n;
    RQ_TRY(rq_mil_reader_ints(r, op, param, v, &n));
    return n < 0 ? RQ_OK : rq_edit_set_ints(r->g, id, attribute, v, n, r->err);
}

/* pad_type and pad of convolutions and pools: pairs per axis in the program, all begins before all ends in ONNX. */
static rq_status set_pads(reader *r, const rq_mil_op *op, int id)
{
    const char *type = rq_mil_reader_text(r, op, "pad_type", "valid");
    int64_t pad[16], pads[16];
    int n;
    if (!strcmp(type, "same"))
        return rq_edit_set_string(r->g, id, "auto_pad", "SAME_UPPER", r->err);
    if (!strcmp(type, "same_lower"))
        return rq_edit_set_string(r->g, id, "auto_pad", "SAME_LOWER", r->err);
    if (strcmp(type, "custom") != 0)
        return RQ_OK;
    RQ_TRY(rq_mil_reader_ints(r, op, "pad", pad, &n));
    for (int i = 0; i < n; i++)
        pads[i / 2 + i % 2 * (n / 2)] = pad[i];
    return n > 0 ? rq_edit_set_ints(r->g, id, "pads", pads, n, r->err) : RQ_OK;
}

static rq_status inputs(reader *r, const rq_mil_op *op, int n, const char *const *params, const char **in)
{
    for (int i = 0; i < n; i++)
        RQ_TRY(rq_mil_reader_input(r, op, params[i], &in[i]));
    return in[0] ? RQ_OK : rq_fail(r->err, RQ_BAD_FILE, "'%s' is missing", params[0]);
}

static rq_status conv(reader *r, const rq_mil_op *op)
{
    const char *in[3];
    int64_t groups = 1;
    int id;
    RQ_TRY(inputs(r, op, 3, (const char *const[]) { "x", "weight", "bias" }, in));
    RQ_TRY(rq_mil_reader_node(r, op, "Conv", in, 3, NULL, &id));
    RQ_TRY(rq_mil_reader_int(r, op, "groups", &groups));
    RQ_TRY(rq_edit_set_int(r->g, id, "group", groups, r->err));
    RQ_TRY(set_ints(r, op, id, "strides", "strides"));
    RQ_TRY(set_ints(r, op, id, "dilations", "dilations"));
    return set_pads(r, op, id);
}

/* x w^T + b; two axes: one product, else the weights turned first. */
static rq_status linear(reader *r, const rq_mil_op *op)
{
    const char *in[3];
    int id;
    RQ_TRY(inputs(r, op, 3, (const char *const[]) { "x", "weight", "bias" }, in));
    if (op->outputs[0].type->rank == 2) {
        RQ_TRY(rq_mil_reader_node(r, op, "Gemm", in, 3, NULL, &id));
        return rq_edit_set_int(r->g, id, "transB", 1, r->err);
    }
    const char *turned = rq_mil_reader_name(r, op, "weight_turned"), *product = rq_mil_reader_name(r, op, "product");
    if (!turned || !product)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_mil_reader_node(r, op, "Transpose", &in[1], 1, turned, &id));
    RQ_TRY(rq_edit_set_ints(r->g, id, "perm", (const int64_t[]) { 1, 0 }, 2, r->err));
    RQ_TRY(
        rq_mil_reader_node(r, op, "MatMul", (const char *const[]) { in[0], turned }, 2, in[2] ? product : NULL, NULL));
    return in[2] ? rq_mil_reader_node(r, op, "Add", (const char *const[]) { product, in[2] }, 2, NULL, NULL) : RQ_OK;
}

static rq_status matmul(reader *r, const rq_mil_op *op)
{
    static const char *const params[] = { "x", "y" }, *const turns[] = { "transpose_x", "transpose_y" },
                             *const names[] = { "x_turned", "y_turned" };
    const char *in[2];
    RQ_TRY(inputs(r, op, 2, params, in));
    for (int i = 0; i < 2; i++) {
        int64_t turn = 0, perm[RQ_MAX_RANK];
        rq_value_info v;
        int id;
        RQ_TRY(rq_mil_reader_int(r, op, turns[i], &turn));
        if (!turn)
            continue;
        const int rank = (int)op->outputs[0].type->rank;
        const char *name = rq_mil_reader_name(r, op, names[i]);
        RQ_TRY(rq_edit_value(r->g, in[i], &v, r->err));
        if (v.shape.rank >= 0 ? v.shape.rank != rank : rank < 2)
            return rq_mil_reader_refuse(r, "a product of tensors of several ranks, one of them turned,");
        for (int k = 0; k < rank; k++)
            perm[k] = k < rank - 2 ? k : 2 * rank - 3 - k;
        if (!name)
            return RQ_NO_MEMORY;
        RQ_TRY(rq_mil_reader_node(r, op, "Transpose", &in[i], 1, name, &id));
        RQ_TRY(rq_edit_set_ints(r->g, id, "perm", perm, rank, r->err));
        in[i] = name;
    }
    return rq_mil_reader_node(r, op, "MatMul", in, 2, NULL, NULL);
}

static rq_status pool(reader *r, const rq_mil_op *op)
{
    const bool average = !strcmp(op->type, "avg_pool");
    const char *in[1];
    int64_t ceil_mode = 0, exclude = 0;
    int id;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_int(r, op, "ceil_mode", &ceil_mode));
    RQ_TRY(rq_mil_reader_node(r, op, average ? "AveragePool" : "MaxPool", in, 1, NULL, &id));
    RQ_TRY(set_ints(r, op, id, "kernel_sizes", "kernel_shape"));
    RQ_TRY(set_ints(r, op, id, "strides", "strides"));
    RQ_TRY(rq_edit_set_int(r->g, id, "ceil_mode", ceil_mode, r->err));
    if (average) {
        RQ_TRY(rq_mil_reader_int(r, op, "exclude_padding_from_average", &exclude));
        RQ_TRY(rq_edit_set_int(r->g, id, "count_include_pad", !exclude, r->err));
    }
    return set_pads(r, op, id);
}

static rq_status reduce(reader *r, const rq_mil_op *op)
{
    static const char *const kinds[][2] = { { "reduce_mean", "ReduceMean" },
                                            { "reduce_sum", "ReduceSum" },
                                            { "reduce_max", "ReduceMax" },
                                            { "reduce_min", "ReduceMin" },
                                            { "reduce_prod", "ReduceProd" } };
    const char *in[2] = { NULL, NULL };
    int64_t axes[16], keep = 0;
    int n, id, k = 0;
    while (k + 1 < (int)(sizeof kinds / sizeof kinds[0]) && strcmp(kinds[k][0], op->type) != 0)
        k++;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_ints(r, op, "axes", axes, &n));
    RQ_TRY(rq_mil_reader_int(r, op, "keep_dims", &keep));
    if (n > 0)
        RQ_TRY(rq_mil_reader_list(r, op, "axes", axes, n, &in[1]));
    RQ_TRY(rq_mil_reader_node(r, op, kinds[k][1], in, 2, NULL, &id));
    return rq_edit_set_int(r->g, id, "keepdims", keep, r->err);
}

/* Operators whose second input is a list of whole numbers: a new shape, axes. */
static rq_status with_list(reader *r, const rq_mil_op *op)
{
    static const char *const kinds[][3] = { { "reshape", "Reshape", "shape" },
                                            { "squeeze", "Squeeze", "axes" },
                                            { "expand_dims", "Unsqueeze", "axes" } };
    const char *in[2] = { NULL, NULL };
    int64_t v[16];
    int n, k = 0;
    while (k + 1 < (int)(sizeof kinds / sizeof kinds[0]) && strcmp(kinds[k][0], op->type) != 0)
        k++;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_ints(r, op, kinds[k][2], v, &n));
    if (n >= 0)
        RQ_TRY(rq_mil_reader_list(r, op, kinds[k][2], v, n, &in[1]));
    return rq_mil_reader_node(r, op, kinds[k][1], in, 2, NULL, NULL);
}

static rq_status transpose(reader *r, const rq_mil_op *op)
{
    const char *in[1];
    int64_t perm[16];
    int n, id;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_ints(r, op, "perm", perm, &n));
    for (int i = 0; i < n; i++)
        perm[i] += perm[i] < 0 ? n : 0;
    RQ_TRY(rq_mil_reader_node(r, op, "Transpose", in, 1, NULL, &id));
    return n < 0 ? rq_fail(r->err, RQ_BAD_FILE, "'perm' is missing")
                 : rq_edit_set_ints(r->g, id, "perm", perm, n, r->err);
}

/* One float setting, or two. */
static rq_status with_floats(reader *r, const rq_mil_op *op)
{
    static const char *const kinds[][2] = { { "leaky_relu", "LeakyRelu" },
                                            { "elu", "Elu" },
                                            { "sigmoid_hard", "HardSigmoid" } };
    const char *in[1];
    float alpha = 1, beta = 0;
    int id, k = 0;
    while (k + 1 < (int)(sizeof kinds / sizeof kinds[0]) && strcmp(kinds[k][0], op->type) != 0)
        k++;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_float(r, op, "alpha", &alpha));
    RQ_TRY(rq_mil_reader_float(r, op, "beta", &beta));
    RQ_TRY(rq_mil_reader_node(r, op, kinds[k][1], in, 1, NULL, &id));
    RQ_TRY(rq_edit_set_float(r->g, id, "alpha", alpha, r->err));
    return k == 2 ? rq_edit_set_float(r->g, id, "beta", beta, r->err) : RQ_OK;
}

static rq_status scalar(reader *r, const rq_mil_op *op, const char *what, float v, const char **out)
{
    const rq_shape shape = { .rank = 0 };
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &shape, &v);
    if (op->outputs[0].type->dtype->dtype != RQ_DTYPE_F32)
        return rq_mil_reader_refuse(r, "the operator in fp16");
    return rq_mil_reader_tensor(r, op, what, &t, out);
}

static rq_status relu6(reader *r, const rq_mil_op *op)
{
    const char *in[3];
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(scalar(r, op, "low", 0, &in[1]));
    RQ_TRY(scalar(r, op, "high", 6, &in[2]));
    return rq_mil_reader_node(r, op, "Clip", in, 3, NULL, NULL);
}

/* x where x >= alpha, else 0; ONNX's own asks x > alpha. */
static rq_status thresholded_relu(reader *r, const rq_mil_op *op)
{
    const char *in[2], *zero, *kept = rq_mil_reader_name(r, op, "kept");
    RQ_TRY(inputs(r, op, 2, (const char *const[]) { "x", "alpha" }, in));
    RQ_TRY(scalar(r, op, "zero", 0, &zero));
    if (!kept)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_mil_reader_node(r, op, "GreaterOrEqual", in, 2, kept, NULL));
    return rq_mil_reader_node(r, op, "Where", (const char *const[]) { kept, in[0], zero }, 3, NULL, NULL);
}

static rq_status gelu(reader *r, const rq_mil_op *op)
{
    const char *in[1], *mode = rq_mil_reader_text(r, op, "mode", "EXACT");
    int id;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    if (!strcmp(mode, "SIGMOID_APPROXIMATION"))
        return rq_mil_reader_refuse(r, "gelu by a sigmoid");
    RQ_TRY(rq_mil_reader_node(r, op, "Gelu", in, 1, NULL, &id));
    return strcmp(mode, "EXACT") != 0 ? rq_edit_set_string(r->g, id, "approximate", "tanh", r->err) : RQ_OK;
}

static rq_status softmax(reader *r, const rq_mil_op *op)
{
    const char *in[1];
    int64_t axis = -1;
    int id;
    RQ_TRY(inputs(r, op, 1, (const char *const[]) { "x" }, in));
    RQ_TRY(rq_mil_reader_int(r, op, "axis", &axis));
    RQ_TRY(rq_mil_reader_node(r, op, "Softmax", in, 1, NULL, &id));
    return rq_edit_set_int(r->g, id, "axis", axis, r->err);
}

static rq_status gather(reader *r, const rq_mil_op *op)
{
    const char *in[2];
    int64_t axis = 0, batch = 0;
    int id;
    RQ_TRY(inputs(r, op, 2, (const char *const[]) { "x", "indices" }, in));
    RQ_TRY(rq_mil_reader_int(r, op, "axis", &axis));
    RQ_TRY(rq_mil_reader_int(r, op, "batch_dims", &batch));
    if (batch)
        return rq_mil_reader_refuse(r, "gather with batch_dims");
    RQ_TRY(rq_mil_reader_node(r, op, "Gather", in, 2, NULL, &id));
    return rq_edit_set_int(r->g, id, "axis", axis, r->err);
}

static rq_status concat(reader *r, const rq_mil_op *op)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, "values");
    int64_t axis = 0, interleave = 0;
    int id;
    RQ_TRY(rq_mil_reader_int(r, op, "axis", &axis));
    RQ_TRY(rq_mil_reader_int(r, op, "interleave", &interleave));
    const char **in = arg ? rq_arena_alloc(&r->a, (size_t)arg->n + 1, sizeof *in) : NULL;
    if (!in || interleave)
        return interleave ? rq_mil_reader_refuse(r, "concat that interleaves")
                          : rq_fail(r->err, RQ_BAD_FILE, "'values' is missing");
    for (int i = 0; i < arg->n; i++) {
        rq_mil_arg one = { .param = "values", .binding = &arg->binding[i], .n = 1 };
        const rq_mil_op alone = { .type = op->type, .args = &one, .n_args = 1, .outputs = op->outputs, .n_outputs = 1 };
        if (one.binding->value)
            return rq_mil_reader_refuse(r, "concat of a constant that stands in it");
        RQ_TRY(rq_mil_reader_input(r, &alone, "values", &in[i]));
    }
    RQ_TRY(rq_mil_reader_node(r, op, "Concat", in, arg->n, NULL, &id));
    return rq_edit_set_int(r->g, id, "axis", axis, r->err);
}

static rq_status batch_norm(reader *r, const rq_mil_op *op)
{
    const char *in[5];
    float epsilon = 1e-5f;
    int id;
    RQ_TRY(inputs(r, op, 5, (const char *const[]) { "x", "gamma", "beta", "mean", "variance" }, in));
    RQ_TRY(rq_mil_reader_float(r, op, "epsilon", &epsilon));
    if (!in[1] || !in[2])
        return rq_mil_reader_refuse(r, "batch_norm without gamma or beta");
    RQ_TRY(rq_mil_reader_node(r, op, "BatchNormalization", in, 5, NULL, &id));
    return rq_edit_set_float(r->g, id, "epsilon", epsilon, r->err);
}

static rq_status layer_norm(reader *r, const rq_mil_op *op)
{
    const char *in[3];
    float epsilon = 1e-5f;
    int64_t axes[16];
    const int64_t rank = op->outputs[0].type->rank;
    int n, id;
    RQ_TRY(inputs(r, op, 3, (const char *const[]) { "x", "gamma", "beta" }, in));
    RQ_TRY(rq_mil_reader_float(r, op, "epsilon", &epsilon));
    RQ_TRY(rq_mil_reader_ints(r, op, "axes", axes, &n));
    for (int i = 0; i < n; i++) {
        axes[i] += axes[i] < 0 ? rank : 0;
        if (axes[i] != rank - n + i)
            return rq_mil_reader_refuse(r, "layer_norm over other than the last axes");
    }
    if (!in[1] || n < 1)
        return rq_mil_reader_refuse(r, "layer_norm without gamma or axes");
    RQ_TRY(rq_mil_reader_node(r, op, "LayerNormalization", in, 3, NULL, &id));
    RQ_TRY(rq_edit_set_int(r->g, id, "axis", axes[0], r->err));
    return rq_edit_set_float(r->g, id, "epsilon", epsilon, r->err);
}

/* scale (data - zero_point) along one axis. */
static rq_status affine_dequantize(reader *r, const rq_mil_op *op)
{
    const char *in[3];
    int64_t axis = 0;
    int id;
    RQ_TRY(inputs(r, op, 3, (const char *const[]) { "quantized_data", "scale", "zero_point" }, in));
    RQ_TRY(rq_mil_reader_int(r, op, "axis", &axis));
    RQ_TRY(rq_mil_reader_node(r, op, "DequantizeLinear", in, 3, NULL, &id));
    return rq_edit_set_int(r->g, id, "axis", axis, r->err);
}

static const rq_mil_row rows[] = {
    { "add", NULL, "Add", "x,y" },
    { "avg_pool", pool, NULL, NULL },
    { "batch_norm", batch_norm, NULL, NULL },
    { "clip", NULL, "Clip", "x,alpha,beta" },
    { "concat", concat, NULL, NULL },
    { "constexpr_affine_dequantize", affine_dequantize, NULL, NULL },
    { "conv", conv, NULL, NULL },
    { "elu", with_floats, NULL, NULL },
    { "equal", NULL, "Equal", "x,y" },
    { "erf", NULL, "Erf", "x" },
    { "exp", NULL, "Exp", "x" },
    { "expand_dims", with_list, NULL, NULL },
    { "gather", gather, NULL, NULL },
    { "gelu", gelu, NULL, NULL },
    { "greater", NULL, "Greater", "x,y" },
    { "greater_equal", NULL, "GreaterOrEqual", "x,y" },
    { "identity", NULL, "Identity", "x" },
    { "layer_norm", layer_norm, NULL, NULL },
    { "leaky_relu", with_floats, NULL, NULL },
    { "less", NULL, "Less", "x,y" },
    { "less_equal", NULL, "LessOrEqual", "x,y" },
    { "linear", linear, NULL, NULL },
    { "matmul", matmul, NULL, NULL },
    { "max_pool", pool, NULL, NULL },
    { "maximum", NULL, "Max", "x,y" },
    { "minimum", NULL, "Min", "x,y" },
    { "mul", NULL, "Mul", "x,y" },
    { "reduce_max", reduce, NULL, NULL },
    { "reduce_mean", reduce, NULL, NULL },
    { "reduce_min", reduce, NULL, NULL },
    { "reduce_prod", reduce, NULL, NULL },
    { "reduce_sum", reduce, NULL, NULL },
    { "relu", NULL, "Relu", "x" },
    { "relu6", relu6, NULL, NULL },
    { "reshape", with_list, NULL, NULL },
    { "select", NULL, "Where", "cond,a,b" },
    { "sigmoid", NULL, "Sigmoid", "x" },
    { "sigmoid_hard", with_floats, NULL, NULL },
    { "softmax", softmax, NULL, NULL },
    { "softplus", NULL, "Softplus", "x" },
    { "softsign", NULL, "Softsign", "x" },
    { "sqrt", NULL, "Sqrt", "x" },
    { "squeeze", with_list, NULL, NULL },
    { "sub", NULL, "Sub", "x,y" },
    { "tanh", NULL, "Tanh", "x" },
    { "thresholded_relu", thresholded_relu, NULL, NULL },
    { "transpose", transpose, NULL, NULL },
};

const rq_mil_row *rq_mil_row_find(const char *type)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(rows[i].type, type))
            return &rows[i];
    return NULL;
}
