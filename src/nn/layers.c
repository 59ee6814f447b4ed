/* nn/layers.c — layers with parameters: convolutions, Linear, normalizations, Embedding. Parameters begin as PyTorch's do: weights uniform
 * in +-1 / sqrt(fan_in) (kaiming_uniform with a = sqrt(5)), biases in the same bound. */
#include <math.h>
#include <string.h>

#include "nn/nn.h"

static const rq_nn_start kaiming = { RQ_NN_INIT_KAIMING_UNIFORM, 2.23606797749978969641, 0 };

static rq_nn_start within(double fan_in)
{
    const double bound = fan_in > 0 ? 1 / sqrt(fan_in) : 0;
    return (rq_nn_start) { RQ_NN_INIT_UNIFORM, -bound, bound };
}

/* ---- convolutions ---- */

/* A setting along each of `axes` axes: the list if any of it is set, else the one number, else `fallback`. */
static void spread(int64_t out[3], int axes, int64_t one, const int64_t list[3], int64_t fallback)
{
    const bool listed = list[0] || list[1] || list[2];
    for (int i = 0; i < 3; i++)
        out[i] = i >= axes ? 0 : listed ? list[i] : one ? one : fallback;
}

typedef struct conv_sizes {
    int64_t in, out, kernel[3], stride[3], padding[3], dilation[3], extra[3], groups;
} conv_sizes;

enum { CONV_KEY = 18 };

static void conv_key(int64_t key[CONV_KEY + 1], const conv_sizes *c, bool no_bias)
{
    const int64_t *lists[] = { c->kernel, c->stride, c->padding, c->dilation, c->extra };
    int k = 0;
    for (int i = 0; i < 5; i++)
        for (int a = 0; a < 3; a++)
            key[k++] = lists[i][a];
    key[k++] = c->in;
    key[k++] = c->out;
    key[k++] = c->groups;
    key[k++] = no_bias;
}

static bool conv_fits(rq_nn *n, const rq_nn_module *m, const conv_sizes *c, int axes, bool transposed)
{
    for (int i = 0; i < axes; i++)
        if (c->kernel[i] < 1 || c->stride[i] < 1 || c->padding[i] < 0 || c->dilation[i] < 1 || c->extra[i] < 0) {
            rq_nn_bad(n, m, RQ_BAD_ARG,
                      "kernel %lld, stride %lld, padding %lld, dilation %lld along axis %d: at least 1, 1, 0, 1",
                      (long long)c->kernel[i], (long long)c->stride[i], (long long)c->padding[i],
                      (long long)c->dilation[i], i);
            return false;
        }
    if (c->out < 1 || c->groups < 1 || c->in % c->groups || c->out % c->groups) {
        rq_nn_bad(n, m, RQ_BAD_ARG, "%lld input and %lld output channels in %lld groups: groups must divide both",
                  (long long)c->in, (long long)c->out, (long long)c->groups);
        return false;
    }
    if (!transposed && (c->extra[0] || c->extra[1] || c->extra[2])) {
        rq_nn_bad(n, m, RQ_BAD_ARG, "output_padding is a setting of ConvTranspose");
        return false;
    }
    return true;
}

static rq_nn_value conv(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel, const rq_nn_conv *cfg,
                        int axes, bool transposed)
{
    static const char *const types[2][3] = { { "Conv1d", "Conv2d", "Conv3d" },
                                             { "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d" } };
    static const rq_nn_conv none;
    const char *type = types[transposed][axes - 1];
    char text[RQ_SHAPE_TEXT];
    conv_sizes c = { .out = out };
    int64_t key[CONV_KEY + 1], pads[6], dims[5];
    if (!cfg)
        cfg = &none;
    const rq_shape s = rq_nn_shape(n, x);
    spread(c.kernel, axes, kernel, cfg->kernels, 0);
    spread(c.stride, axes, cfg->stride, cfg->strides, 1);
    spread(c.padding, axes, cfg->padding, cfg->paddings, 0);
    spread(c.dilation, axes, cfg->dilation, cfg->dilations, 1);
    spread(c.extra, axes, cfg->output_padding, cfg->output_paddings, 0);
    c.groups = cfg->groups ? cfg->groups : 1;
    c.in = s.rank > 1 ? s.dim[1] : 0;
    conv_key(key, &c, cfg->no_bias);
    rq_nn_module *m = rq_nn_use(n, name, type, key, CONV_KEY + 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    if (s.rank != axes + 2)
        return rq_nn_bad(n, m, RQ_BAD_SHAPE, "its input has shape %s, expected rank %d",
                         rq_shape_text(&s, text, sizeof text), axes + 2);
    if (!rq_nn_size(n, m, x, 1) || !conv_fits(n, m, &c, axes, transposed))
        return RQ_NN_FAILED;
    dims[0] = transposed ? c.in : c.out;
    dims[1] = (transposed ? c.out : c.in) / c.groups;
    for (int i = 0; i < axes; i++) {
        dims[2 + i] = c.kernel[i];
        pads[i] = pads[axes + i] = c.padding[i];
    }
    const rq_shape w = rq_shape_of(axes + 2, dims);
    rq_id in[3] = { x, rq_nn_param(n, m, 0, "weight", axes + 2, dims, kaiming), RQ_NONE };
    if (!cfg->no_bias)
        in[2] = rq_nn_param(n, m, 1, "bias", 1, &out, within(rq_nn_fan_in(&w)));
    const rq_id node = rq_nn_open(n, m->path, NULL, transposed ? "ConvTranspose" : "Conv", in, cfg->no_bias ? 2 : 3, 1);
    rq_nn_set_ints(n, node, "dilations", c.dilation, axes);
    rq_nn_set_int(n, node, "group", c.groups);
    rq_nn_set_ints(n, node, "kernel_shape", c.kernel, axes);
    rq_nn_set_ints(n, node, "pads", pads, 2 * axes);
    rq_nn_set_ints(n, node, "strides", c.stride, axes);
    if (transposed && (c.extra[0] || c.extra[1] || c.extra[2]))
        rq_nn_set_ints(n, node, "output_padding", c.extra, axes);
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_conv1d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel, const rq_nn_conv *cfg)
{
    return conv(n, name, x, out, kernel, cfg, 1, false);
}

rq_nn_value rq_nn_conv2d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel, const rq_nn_conv *cfg)
{
    return conv(n, name, x, out, kernel, cfg, 2, false);
}

rq_nn_value rq_nn_conv3d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel, const rq_nn_conv *cfg)
{
    return conv(n, name, x, out, kernel, cfg, 3, false);
}

rq_nn_value rq_nn_conv_transpose1d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                   const rq_nn_conv *cfg)
{
    return conv(n, name, x, out, kernel, cfg, 1, true);
}

rq_nn_value rq_nn_conv_transpose2d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                   const rq_nn_conv *cfg)
{
    return conv(n, name, x, out, kernel, cfg, 2, true);
}

rq_nn_value rq_nn_conv_transpose3d(rq_nn *n, const char *name, rq_nn_value x, int64_t out, int64_t kernel,
                                   const rq_nn_conv *cfg)
{
    return conv(n, name, x, out, kernel, cfg, 3, true);
}

/* ---- Linear ---- */

rq_nn_value rq_nn_product(rq_nn *n, const char *path, rq_nn_value x, rq_id weight, rq_id bias)
{
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    if (n->g->values[x].shape.rank == 2) {
        const rq_id node = rq_nn_open(n, path, NULL, "Gemm", (rq_id[]) { x, weight, bias }, bias == RQ_NONE ? 2 : 3, 1);
        rq_nn_set_int(n, node, "transB", 1);
        return rq_nn_close(n, node);
    }
    const rq_id turned = rq_nn_open(n, path, NULL, "Transpose", &weight, 1, 1);
    rq_nn_set_ints(n, turned, "perm", (const int64_t[]) { 1, 0 }, 2);
    const rq_nn_value w = rq_nn_close(n, turned);
    const rq_nn_value y = rq_nn_apply(n, path, NULL, "MatMul", (rq_id[]) { x, w }, 2);
    return bias == RQ_NONE ? y : rq_nn_apply(n, path, NULL, "Add", (rq_id[]) { bias, y }, 2);
}

rq_nn_value rq_nn_linear(rq_nn *n, const char *name, rq_nn_value x, int64_t out, const rq_nn_linear_cfg *cfg)
{
    const bool no_bias = cfg && cfg->no_bias;
    const rq_shape s = rq_nn_shape(n, x);
    const int64_t in = s.rank > 0 ? s.dim[s.rank - 1] : 0;
    rq_nn_module *m = rq_nn_use(n, name, "Linear", (const int64_t[]) { in, out, no_bias }, 3, &x, 1);
    if (!m || !rq_nn_size(n, m, x, -1))
        return RQ_NN_FAILED;
    if (out < 1)
        return rq_nn_bad(n, m, RQ_BAD_ARG, "%lld outputs, expected at least 1", (long long)out);
    const rq_id w = rq_nn_param(n, m, 0, "weight", 2, (const int64_t[]) { out, in }, kaiming);
    const rq_id b = no_bias ? RQ_NONE : rq_nn_param(n, m, 1, "bias", 1, &out, within((double)in));
    return rq_nn_product(n, m->path, x, w, b);
}

/* ---- normalizations ---- */

/* eps and momentum as a module's key has them. */
static int64_t bits_of(double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

rq_nn_value rq_nn_batch_norm(rq_nn *n, const char *name, rq_nn_value x, const rq_nn_norm *cfg)
{
    static const char *const types[] = { "BatchNorm1d", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d" };
    static const rq_nn_start one = { RQ_NN_INIT_CONSTANT, 1, 0 }, zero = { RQ_NN_INIT_CONSTANT, 0, 0 };
    const double eps = cfg && cfg->eps != 0 ? cfg->eps : 1e-5,
                 momentum = cfg && cfg->momentum != 0 ? cfg->momentum : 0.1;
    const bool affine = !cfg || !cfg->no_affine;
    const rq_shape s = rq_nn_shape(n, x);
    const int64_t channels = s.rank > 1 ? s.dim[1] : 0;
    const int64_t key[] = { channels, affine, bits_of(eps), bits_of(momentum) };
    const char *type = s.rank >= 2 && s.rank <= 5 ? types[s.rank - 2] : "BatchNorm";
    rq_nn_module *m = rq_nn_use(n, name, type, key, 4, &x, 1);
    char text[RQ_SHAPE_TEXT];
    if (!m)
        return RQ_NN_FAILED;
    if (s.rank < 2 || s.rank > 5)
        return rq_nn_bad(n, m, RQ_BAD_SHAPE, "its input has shape %s, expected rank 2 to 5",
                         rq_shape_text(&s, text, sizeof text));
    if (!rq_nn_size(n, m, x, 1))
        return RQ_NN_FAILED;
    if (!(eps > 0) || !(momentum > 0 && momentum <= 1))
        return rq_nn_bad(n, m, RQ_BAD_ARG, "eps %g, momentum %g: expected more than 0, and of momentum at most 1", eps,
                         momentum);
    const rq_id in[5] = {
        x,
        affine ? rq_nn_param(n, m, 0, "weight", 1, &channels, one) : rq_nn_fixed(n, m, 0, "no_weight", 1, &channels, 1),
        affine ? rq_nn_param(n, m, 1, "bias", 1, &channels, zero) : rq_nn_fixed(n, m, 1, "no_bias", 1, &channels, 0),
        rq_nn_fixed(n, m, 2, "running_mean", 1, &channels, 0),
        rq_nn_fixed(n, m, 3, "running_var", 1, &channels, 1),
    };
    const rq_id node = rq_nn_open(n, m->path, NULL, "BatchNormalization", in, 5, 1);
    rq_nn_set_float(n, node, "epsilon", eps);
    rq_nn_set_float(n, node, "momentum", 1 - momentum);
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_layer_norm(rq_nn *n, const char *name, rq_nn_value x, int axes, const rq_nn_norm *cfg)
{
    static const rq_nn_start one = { RQ_NN_INIT_CONSTANT, 1, 0 }, zero = { RQ_NN_INIT_CONSTANT, 0, 0 };
    const double eps = cfg && cfg->eps != 0 ? cfg->eps : 1e-5;
    const bool affine = !cfg || !cfg->no_affine, bias = affine && !(cfg && cfg->no_bias);
    const rq_shape s = rq_nn_shape(n, x);
    int64_t key[RQ_MAX_RANK + 4] = { axes, affine, bias, bits_of(eps) };
    if (axes >= 1 && axes <= s.rank)
        for (int i = 0; i < axes; i++)
            key[4 + i] = s.dim[s.rank - axes + i];
    rq_nn_module *m = rq_nn_use(n, name, "LayerNorm", key, RQ_MAX_RANK + 4, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    if (axes < 1 || axes > s.rank || !(eps > 0))
        return rq_nn_bad(n, m, RQ_BAD_ARG, "the last %d of %d axes, eps %g: at least one axis, and eps above 0", axes,
                         s.rank, eps);
    for (int i = 1; i <= axes; i++)
        if (!rq_nn_size(n, m, x, -i))
            return RQ_NN_FAILED;
    const int64_t *dim = &key[4];
    const rq_id in[3] = { x,
                          affine ? rq_nn_param(n, m, 0, "weight", axes, dim, one)
                                 : rq_nn_fixed(n, m, 0, "no_weight", axes, dim, 1),
                          bias ? rq_nn_param(n, m, 1, "bias", axes, dim, zero) : RQ_NONE };
    const rq_id node = rq_nn_open(n, m->path, NULL, "LayerNormalization", in, bias ? 3 : 2, 1);
    rq_nn_set_int(n, node, "axis", -axes);
    rq_nn_set_float(n, node, "epsilon", eps);
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_embedding(rq_nn *n, const char *name, rq_nn_value indices, int64_t count, int64_t size)
{
    rq_nn_module *m = rq_nn_use(n, name, "Embedding", (const int64_t[]) { count, size }, 2, &indices, 1);
    if (!m)
        return RQ_NN_FAILED;
    if (count < 1 || size < 1)
        return rq_nn_bad(n, m, RQ_BAD_ARG, "%lld rows of %lld numbers, expected at least 1 of each", (long long)count,
                         (long long)size);
    const rq_dtype d = n->g->values[indices].dtype;
    if (d != RQ_DTYPE_S64 && d != RQ_DTYPE_S32)
        return rq_nn_bad(n, m, RQ_BAD_DTYPE, "its indices are %s, expected s64 or s32", rq_dtype_name(d));
    const rq_nn_start start = { RQ_NN_INIT_NORMAL, 0, 1 };
    const rq_id w = rq_nn_param(n, m, 0, "weight", 2, (const int64_t[]) { count, size }, start);
    const rq_id node = rq_nn_open(n, m->path, NULL, "Gather", (rq_id[]) { w, indices }, 2, 1);
    rq_nn_set_int(n, node, "axis", 0);
    return rq_nn_close(n, node);
}
