/* requant/nn.h — build a network of named modules, with PyTorch's names, defaults and initializations; what comes out is an ordinary graph.
 *
 *   rq_nn *n;
 *   rq_nn_create(&n, 1);                                             parameters are drawn from this seed
 *   rq_nn_value x = rq_nn_input(n, "image", RQ_DTYPE_F32, 4, (int64_t[]) { RQ_DIM_UNKNOWN, 1, 28, 28 });
 *   x = rq_nn_conv2d(n, "conv1", x, 16, 3, &(rq_nn_conv) { .padding = 1 });
 *   x = rq_nn_batch_norm(n, "bn1", x, NULL);
 *   x = rq_nn_relu(n, "relu1", x);
 *   x = rq_nn_flatten(n, "flatten", x, 1);
 *   x = rq_nn_linear(n, "fc", x, 10, NULL);
 *   rq_nn_output(n, "logits", x);
 *   rq_nn_finish(n, &graph, &err);                                   the first mistake of all, named; n is gone either way
 *
 * A call applies a module to values and gives its output. The name makes the module: the first call creates it with its parameters, a later
 * one of the same name applies it again with the same parameters (and must say the same of it). Names have dots for what lies in what;
 * rq_nn_enter and rq_nn_leave put them in front, and a NULL name counts, as Sequential does. Functions (rq_nn_add, rq_nn_cat ...) have no name.
 * Nothing has to be checked on the way: after a mistake every call gives RQ_NN_FAILED, and rq_nn_finish says what it was.
 *
 * Nodes are called "/conv1/Conv", constants "conv1.weight": what is saved as ONNX and read again has the same modules. Sizes may be
 * unknown (RQ_DIM_UNKNOWN, rq_nn_dim); those that parameters depend on may not. One thread at a time. */
#ifndef REQUANT_NN_H
#define REQUANT_NN_H

#include <requant/graph.h>
#include <requant/state.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_nn rq_nn;
typedef int rq_nn_value; /* a tensor of the network */
enum { RQ_NN_FAILED = -1 };

/* Begin; operators of ONNX as of opset 20. RQ_NO_MEMORY: *out is NULL, which all calls below take. */
RQ_API rq_status rq_nn_create(rq_nn **out, uint64_t seed);
/* The network as a graph of its own; n is destroyed. The first error there was: RQ_BAD_ARG, RQ_BAD_SHAPE, RQ_BAD_GRAPH, RQ_NO_MEMORY ...; RQ_BAD_GRAPH: no output. */
RQ_API rq_status rq_nn_finish(rq_nn *n, rq_graph **out, rq_err *err);
RQ_API void rq_nn_destroy(rq_nn *n); /* without finishing; NULL is fine */

/* A value that the caller feeds; rank sizes. A size called `name`, for them ("batch"). */
RQ_API rq_nn_value rq_nn_input(rq_nn *n, const char *name, rq_dtype d, int rank, const int64_t *dim);
RQ_API int64_t rq_nn_dim(rq_nn *n, const char *name);
/* Give x to the caller under this name. */
RQ_API void rq_nn_output(rq_nn *n, const char *name, rq_nn_value x);
/* What is known of its shape; of unknown rank after a mistake. */
RQ_API rq_shape rq_nn_shape(const rq_nn *n, rq_nn_value x);

/* Names of modules from here on are within `name` (NULL: the next number, as in a Sequential), until rq_nn_leave. */
RQ_API void rq_nn_enter(rq_nn *n, const char *name);
RQ_API void rq_nn_leave(rq_nn *n);

/* ---- layers with parameters ----
 * cfg NULL, or fields that are 0: PyTorch's defaults. Where one number stands for all axes, a list beside it has one for each and wins if
 * any of it is not 0. */

typedef struct rq_nn_conv {
    int64_t stride, padding, dilation;             /* 1, 0, 1 */
    int64_t strides[3], paddings[3], dilations[3]; /* per axis */
    int64_t kernels[3];                            /* per axis, in place of the argument */
    int64_t groups;                                /* 1 */
    int64_t output_padding, output_paddings[3];    /* ConvTranspose */
    bool no_bias;
} rq_nn_conv;
/* x [N, in, size...] -> [N, out, ...]: weight [out, in / groups, kernel...], of ConvTranspose [in, out / groups, kernel...]; bias [out]. */
RQ_API rq_nn_value rq_nn_conv1d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                const rq_nn_conv *cfg);
RQ_API rq_nn_value rq_nn_conv2d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                const rq_nn_conv *cfg);
RQ_API rq_nn_value rq_nn_conv3d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                const rq_nn_conv *cfg);
RQ_API rq_nn_value rq_nn_conv_transpose1d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                          const rq_nn_conv *cfg);
RQ_API rq_nn_value rq_nn_conv_transpose2d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                          const rq_nn_conv *cfg);
RQ_API rq_nn_value rq_nn_conv_transpose3d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                          const rq_nn_conv *cfg);

typedef struct rq_nn_linear_cfg {
    bool no_bias;
} rq_nn_linear_cfg;
/* x [..., in] -> [..., out]: weight [out, in], bias [out]. Of rank 2 a Gemm, else a MatMul with the transposed weight and an Add. */
RQ_API rq_nn_value rq_nn_linear(rq_nn *n, const char *name, rq_nn_value x, int64_t out, const rq_nn_linear_cfg *cfg);

typedef struct rq_nn_norm {
    double eps;      /* 1e-5 */
    double momentum; /* BatchNorm: of the batch in the running statistics, 0.1 (ONNX's is 1 minus that) */
    bool no_affine;  /* neither weight nor bias */
    bool no_bias;    /* LayerNorm */
} rq_nn_norm;
/* x [N, C, ...]: BatchNorm1d, 2d or 3d by the rank of x; weight, bias, running_mean, running_var [C]. */
RQ_API rq_nn_value rq_nn_batch_norm(rq_nn *n, const char *name, rq_nn_value x, const rq_nn_norm *cfg);
/* Over the last `axes` axes of x; weight, bias of their sizes. */
RQ_API rq_nn_value rq_nn_layer_norm(rq_nn *n, const char *name, rq_nn_value x, int axes, const rq_nn_norm *cfg);

/* indices [...] (s64 or s32) -> [..., size]: weight [count, size], drawn from N(0, 1). */
RQ_API rq_nn_value rq_nn_embedding(rq_nn *n, const char *name, rq_nn_value indices, int64_t count, int64_t size);

typedef struct rq_nn_recurrent {
    int layers; /* 1 */
    bool no_bias, bidirectional, batch_first;
    rq_nn_value *hidden, *cell; /* NULL, or where the last states go: [layers * directions, N, size] */
} rq_nn_recurrent;
/* x [T, N, in] (batch_first: [N, T, in]) -> [T, N, size] (bidirectional: 2 size); states begin at 0. Parameters are kept per layer as ONNX lays them out;
 * state dicts have PyTorch's. */
RQ_API rq_nn_value rq_nn_lstm(rq_nn *n, const char *name, rq_nn_value x, int64_t size, const rq_nn_recurrent *cfg);
RQ_API rq_nn_value rq_nn_gru(rq_nn *n, const char *name, rq_nn_value x, int64_t size, const rq_nn_recurrent *cfg);

typedef struct rq_nn_attention {
    bool no_bias, batch_first;
} rq_nn_attention;
/* Attention of q [L, N, E] to k, v [S, N, E] with this many heads (batch_first: [N, L, E], [N, S, E]) -> q's shape. in_proj_weight [3E, E], in_proj_bias,
 * out_proj.weight [E, E], out_proj.bias. */
RQ_API rq_nn_value rq_nn_multihead_attention(rq_nn *n, const char *name, rq_nn_value q, rq_nn_value k, rq_nn_value v,
                                             int64_t heads, const rq_nn_attention *cfg);

/* ---- layers without ---- */

/* Functions of one element, Softmax along an axis; formulas are those of ONNX. */
RQ_API rq_nn_value rq_nn_relu(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_relu6(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_leaky_relu(rq_nn *n, const char *name, rq_nn_value x, double slope); /* 0.01 in PyTorch */
/* One slope for all channels, or one each; 0.25 to start from. */
RQ_API rq_nn_value rq_nn_prelu(rq_nn *n, const char *name, rq_nn_value x, bool per_channel);
RQ_API rq_nn_value rq_nn_silu(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_hardswish(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_hardsigmoid(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_gelu(rq_nn *n, const char *name, rq_nn_value x, bool tanh_approximation);
RQ_API rq_nn_value rq_nn_elu(rq_nn *n, const char *name, rq_nn_value x, double alpha); /* 1 in PyTorch */
RQ_API rq_nn_value rq_nn_sigmoid(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_tanh(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_softmax(rq_nn *n, const char *name, rq_nn_value x, int axis);
RQ_API rq_nn_value rq_nn_log_softmax(rq_nn *n, const char *name, rq_nn_value x, int axis);
/* With probability p an element is 0 in training, and the others are divided by 1 - p. */
RQ_API rq_nn_value rq_nn_dropout(rq_nn *n, const char *name, rq_nn_value x, double p);
/* Axes from `start` on become one. */
RQ_API rq_nn_value rq_nn_flatten(rq_nn *n, const char *name, rq_nn_value x, int start);

typedef struct rq_nn_pool {
    int64_t stride, padding, dilation; /* the kernel's size, 0, 1 (dilation: MaxPool) */
    int64_t kernels[3], strides[3], paddings[3], dilations[3];
    bool ceil_mode;
    bool leave_out_pad; /* AvgPool: padding does not count in the mean (count_include_pad=False) */
} rq_nn_pool;
/* 1d, 2d or 3d by the rank of x. */
RQ_API rq_nn_value rq_nn_max_pool(rq_nn *n, const char *name, rq_nn_value x, int64_t kernel, const rq_nn_pool *cfg);
RQ_API rq_nn_value rq_nn_avg_pool(rq_nn *n, const char *name, rq_nn_value x, int64_t kernel, const rq_nn_pool *cfg);
/* To `size` elements along each axis, which must divide those of x; 1 for any. */
RQ_API rq_nn_value rq_nn_adaptive_avg_pool(rq_nn *n, const char *name, rq_nn_value x, int64_t size);

/* ---- functions ---- */

RQ_API rq_nn_value rq_nn_add(rq_nn *n, rq_nn_value a, rq_nn_value b); /* a residual connection */
RQ_API rq_nn_value rq_nn_sub(rq_nn *n, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_mul(rq_nn *n, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_matmul(rq_nn *n, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_cat(rq_nn *n, int count, const rq_nn_value *x, int axis);
/* dim may have one -1 (what is left), and 0 (as it is). */
RQ_API rq_nn_value rq_nn_reshape(rq_nn *n, rq_nn_value x, int rank, const int64_t *dim);
/* Axis i of the result is axis perm[i] of x. */
RQ_API rq_nn_value rq_nn_permute(rq_nn *n, rq_nn_value x, const int64_t *perm);
/* Over `axis`, which stays with size 1 if keep. */
RQ_API rq_nn_value rq_nn_mean(rq_nn *n, rq_nn_value x, int axis, bool keep);

/* ---- for quantization in eager mode (docs/torch-facts.md 7) ---- */

/* Where numbers become codes and where they become reals again; Identity until then. */
RQ_API rq_nn_value rq_nn_quant_stub(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_dequant_stub(rq_nn *n, const char *name, rq_nn_value x);
/* QuantWrapper: what is built between the two lies in `name`.module, behind the stub `name`.quant and before `name`.dequant. name "": at the root. */
RQ_API rq_nn_value rq_nn_quant_wrapper_begin(rq_nn *n, const char *name, rq_nn_value x);
RQ_API rq_nn_value rq_nn_quant_wrapper_end(rq_nn *n, rq_nn_value x);
/* FloatFunctional: functions with a place for an observer. Scalars have none. */
RQ_API rq_nn_value rq_nn_ff_add(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_ff_add_relu(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_ff_mul(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_ff_matmul(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b);
RQ_API rq_nn_value rq_nn_ff_cat(rq_nn *n, const char *name, int count, const rq_nn_value *x, int axis);
RQ_API rq_nn_value rq_nn_ff_add_scalar(rq_nn *n, const char *name, rq_nn_value x, double c);
RQ_API rq_nn_value rq_nn_ff_mul_scalar(rq_nn *n, const char *name, rq_nn_value x, double c);

/* ---- parameters of a graph, built or read ---- */

typedef enum rq_nn_init {
    RQ_NN_INIT_CONSTANT, /* a */
    RQ_NN_INIT_UNIFORM,  /* [a, b) */
    RQ_NN_INIT_NORMAL,   /* mean a, standard deviation b */
    RQ_NN_INIT_KAIMING_UNIFORM, /* bound gain(a) sqrt(3 / fan_in), gain(a) = sqrt(2 / (1 + a^2)): a is the slope of the leaky ReLU behind it. PyTorch's
                                   layers have a = sqrt(5), their biases UNIFORM with bound 1 / sqrt(fan_in) */
    RQ_NN_INIT_KAIMING_NORMAL, /* standard deviation gain(a) / sqrt(fan_in) (He et al., ICCV 2015, eq. 10) */
    RQ_NN_INIT_XAVIER_UNIFORM, /* bound a sqrt(6 / (fan_in + fan_out)), a the gain (Glorot and Bengio, AISTATS 2010, eq. 16) */
    RQ_NN_INIT_XAVIER_NORMAL, /* standard deviation a sqrt(2 / (fan_in + fan_out)) */
    RQ_NN_INIT_ORTHOGONAL,    /* rows (or columns, the fewer) orthonormal, times a (Saxe et al., arXiv:1312.6120) */
    RQ_N_NN_INITS
} rq_nn_init;
/* Fill the float constants of g whose names fit `pattern` (* and ?). Numbers follow from seed and name: the same everywhere, whatever else is in g.
 * RQ_NOT_FOUND: none fits; RQ_BAD_SHAPE: one has too few axes for that; RQ_NO_MEMORY. */
RQ_API rq_status rq_nn_initialize(rq_graph *g, const char *pattern, rq_nn_init init, double a, double b, uint64_t seed,
                                  rq_err *err);

/* Draw the parameters of all layers of g anew, as PyTorch's layers do when they are made (reset_parameters): weights and biases of products within
 * 1 / sqrt(fan_in), of recurrent layers within 1 / sqrt(hidden_size), embeddings N(0, 1); norms 1 and 0, running statistics 0 and 1. Other constants stay.
 * RQ_NO_MEMORY. */
RQ_API rq_status rq_nn_reset_parameters(rq_graph *g, uint64_t seed, rq_err *err);

/* Parameters and running statistics under PyTorch's names and shapes: "conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked",
 * "lstm.weight_ih_l0", put under `prefix` (NULL: none). RQ_NO_MEMORY. */
RQ_API rq_status rq_nn_state_dict(const rq_graph *g, rq_state *s, const char *prefix);
/* Put them back. strict: every parameter of g has its tensor in s, and s (those under prefix) has no others; else what is there is taken. Shapes must
 * agree; f64, f16 and bf16 become f32. RQ_NOT_FOUND: missing and unexpected keys, named; RQ_BAD_SHAPE, RQ_BAD_DTYPE, RQ_NO_MEMORY; then g is as it was.
 * g's constants become private to it. */
RQ_API rq_status rq_nn_load_state_dict(rq_graph *g, const rq_state *s, const char *prefix, bool strict, rq_err *err);

/* ---- fusing (docs/torch-facts.md 7.2) ---- */

typedef enum rq_nn_fuse {
    RQ_NN_FUSE_EVAL, /* fuse_modules: batch norms are folded into the layer before them */
    RQ_NN_FUSE_QAT,  /* fuse_modules_qat: they stay, and train with it */
} rq_nn_fuse;
/* Make the modules of a list one: [conv, bn], [conv, bn, relu], [conv, relu], [linear, bn], [linear, relu], [bn, relu], and EVAL [conv_transpose, bn]. Nodes and
 * parameters move to the first name, as PyTorch has them: "/conv1/Conv", "conv1.bn.weight", "/conv1/Relu". Each name may have one *, which stands for
 * the same text in all names of the list; the list is then made one for every text that fits.
 * RQ_NOT_FOUND: a name is none of a module, or a pattern fits nothing; RQ_BAD_ARG: types that do not fuse; RQ_BAD_GRAPH: they do not follow one
 * another, or what lies between them has other readers, or a module is applied more than once; RQ_BAD_SHAPE; RQ_NO_MEMORY. Then g is as it was. */
RQ_API rq_status rq_nn_fuse_modules(rq_graph *g, rq_nn_fuse how, const char *const *names, int n, rq_err *err);
/* Fuse every such sequence in g (the longest first); *n_fused (may be NULL): how many. */
RQ_API rq_status rq_nn_fuse_all(rq_graph *g, rq_nn_fuse how, int *n_fused, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
