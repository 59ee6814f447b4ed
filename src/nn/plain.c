/* nn/plain.c — layers without parameters (but PReLU's slopes): activations, pools, Dropout, Flatten. */
#include <string.h>

#include "nn/nn.h"

static int64_t bits_of(double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* ---- activations ---- */

static rq_nn_value unary(rq_nn *n, const char *name, const char *type, const char *op, rq_nn_value x)
{
    const rq_nn_module *m = rq_nn_use(n, name, type, NULL, 0, &x, 1);
    return m ? rq_nn_apply(n, m->path, NULL, op, &x, 1) : RQ_NN_FAILED;
}

/* With one attribute. */
static rq_nn_value with_float(rq_nn *n, const char *name, const char *type, const char *op, rq_nn_value x,
                              const char *attr, double v)
{
    const rq_nn_module *m = rq_nn_use(n, name, type, (const int64_t[]) { bits_of(v) }, 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    const rq_id node = rq_nn_open(n, m->path, NULL, op, &x, 1, 1);
    rq_nn_set_float(n, node, attr, v);
    return rq_nn_close(n, node);
}

static rq_nn_value with_axis(rq_nn *n, const char *name, const char *type, const char *op, rq_nn_value x, int axis)
{
    const rq_nn_module *m = rq_nn_use(n, name, type, (const int64_t[]) { axis }, 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    const rq_id node = rq_nn_open(n, m->path, NULL, op, &x, 1, 1);
    rq_nn_set_int(n, node, "axis", axis);
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_relu(rq_nn *n, const char *name, rq_nn_value x)
{
    return unary(n, name, "ReLU", "Relu", x);
}

rq_nn_value rq_nn_relu6(rq_nn *n, const char *name, rq_nn_value x)
{
    const rq_nn_module *m = rq_nn_use(n, name, "ReLU6", NULL, 0, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    const rq_id lo = rq_nn_floats(n, m->path, "min", 0, &(float) { 0 }, 1);
    const rq_id hi = rq_nn_floats(n, m->path, "max", 0, &(float) { 6 }, 1);
    return rq_nn_apply(n, m->path, NULL, "Clip", (rq_id[]) { x, lo, hi }, 3);
}

rq_nn_value rq_nn_leaky_relu(rq_nn *n, const char *name, rq_nn_value x, double slope)
{
    return with_float(n, name, "LeakyReLU", "LeakyRelu", x, "alpha", slope);
}

rq_nn_value rq_nn_elu(rq_nn *n, const char *name, rq_nn_value x, double alpha)
{
    return with_float(n, name, "ELU", "Elu", x, "alpha", alpha);
}

/* ONNX broadcasts slopes from the last axis, so that those of channels are [C, 1, ...]; state dicts have them as [C]. */
rq_nn_value rq_nn_prelu(rq_nn *n, const char *name, rq_nn_value x, bool per_channel)
{
    const rq_shape s = rq_nn_shape(n, x);
    int64_t dim[RQ_MAX_RANK] = { per_channel && s.rank > 1 ? s.dim[1] : 1, 1, 1, 1, 1, 1, 1, 1 };
    const int rank = per_channel && s.rank > 2 ? s.rank - 1 : 1;
    rq_nn_module *m = rq_nn_use(n, name, "PReLU", (const int64_t[]) { dim[0], rank }, 2, &x, 1);
    if (!m || (per_channel && !rq_nn_size(n, m, x, 1)))
        return RQ_NN_FAILED;
    const rq_id w = rq_nn_param(n, m, 0, "weight", rank, dim, (rq_nn_start) { RQ_NN_INIT_CONSTANT, 0.25, 0 });
    return rq_nn_apply(n, m->path, NULL, "PRelu", (rq_id[]) { x, w }, 2);
}

rq_nn_value rq_nn_silu(rq_nn *n, const char *name, rq_nn_value x)
{
    const rq_nn_module *m = rq_nn_use(n, name, "SiLU", NULL, 0, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    const rq_nn_value gate = rq_nn_apply(n, m->path, NULL, "Sigmoid", &x, 1);
    return rq_nn_apply(n, m->path, NULL, "Mul", (rq_id[]) { x, gate }, 2);
}

rq_nn_value rq_nn_hardswish(rq_nn *n, const char *name, rq_nn_value x)
{
    return unary(n, name, "Hardswish", "HardSwish", x);
}

rq_nn_value rq_nn_hardsigmoid(rq_nn *n, const char *name, rq_nn_value x)
{
    return with_float(n, name, "Hardsigmoid", "HardSigmoid", x, "alpha", 1.0 / 6);
}

rq_nn_value rq_nn_gelu(rq_nn *n, const char *name, rq_nn_value x, bool tanh_approximation)
{
    const rq_nn_module *m = rq_nn_use(n, name, "GELU", (const int64_t[]) { tanh_approximation }, 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    const rq_id node = rq_nn_open(n, m->path, NULL, "Gelu", &x, 1, 1);
    if (tanh_approximation)
        rq_nn_set_string(n, node, "approximate", "tanh");
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_sigmoid(rq_nn *n, const char *name, rq_nn_value x)
{
    return unary(n, name, "Sigmoid", "Sigmoid", x);
}

rq_nn_value rq_nn_tanh(rq_nn *n, const char *name, rq_nn_value x)
{
    return unary(n, name, "Tanh", "Tanh", x);
}

rq_nn_value rq_nn_softmax(rq_nn *n, const char *name, rq_nn_value x, int axis)
{
    return with_axis(n, name, "Softmax", "Softmax", x, axis);
}

rq_nn_value rq_nn_log_softmax(rq_nn *n, const char *name, rq_nn_value x, int axis)
{
    return with_axis(n, name, "LogSoftmax", "LogSoftmax", x, axis);
}

rq_nn_value rq_nn_dropout(rq_nn *n, const char *name, rq_nn_value x, double p)
{
    const rq_nn_module *m = rq_nn_use(n, name, "Dropout", (const int64_t[]) { bits_of(p) }, 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    if (!(p >= 0 && p < 1))
        return rq_nn_bad(n, m, RQ_BAD_ARG, "probability %g, expected 0 to below 1", p);
    const float ratio = (float)p;
    return rq_nn_apply(n, m->path, NULL, "Dropout", (rq_id[]) { x, rq_nn_floats(n, m->path, "ratio", 0, &ratio, 1) },
                       2);
}

rq_nn_value rq_nn_flatten(rq_nn *n, const char *name, rq_nn_value x, int start)
{
    const rq_nn_module *m = rq_nn_use(n, name, "Flatten", (const int64_t[]) { start }, 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    const int rank = n->g->values[x].shape.rank;
    if (start < 0 || start >= rank || start >= RQ_MAX_RANK)
        return rq_nn_bad(n, m, RQ_BAD_ARG, "from axis %d of %d", start, rank);
    if (start <= 1) {
        if (start == 0)
            return rq_nn_apply(n, m->path, NULL, "Reshape",
                               (rq_id[]) { x, rq_nn_ints(n, m->path, "shape", (const int64_t[]) { -1 }, 1) }, 2);
        const rq_id node = rq_nn_open(n, m->path, NULL, "Flatten", &x, 1, 1);
        rq_nn_set_int(n, node, "axis", 1);
        return rq_nn_close(n, node);
    }
    int64_t dim[RQ_MAX_RANK] = { 0 };
    dim[start] = -1;
    return rq_nn_apply(n, m->path, NULL, "Reshape", (rq_id[]) { x, rq_nn_ints(n, m->path, "shape", dim, start + 1) },
                       2);
}

/* ---- pools ---- */

typedef struct window {
    int64_t kernel[3], stride[3], pads[6], dilation[3];
} window;

static void list_of(int64_t out[3], int axes, int64_t one, const int64_t list[3], const int64_t fallback[3])
{
    const bool listed = list[0] || list[1] || list[2];
    for (int i = 0; i < axes; i++)
        out[i] = listed ? list[i] : one ? one : fallback[i];
}

/* The node of a pool over x, of type "<type>1d" ..; RQ_NONE: a mistake. */
static rq_id pool(rq_nn *n, const char *name, const char *const types[3], const char *op, rq_nn_value x, int64_t kernel,
                  const rq_nn_pool *cfg)
{
    static const int64_t zeros[3] = { 0 }, ones[3] = { 1, 1, 1 };
    const rq_shape s = rq_nn_shape(n, x);
    const int axes = s.rank - 2;
    window w = { { 0 }, { 0 }, { 0 }, { 0 } };
    int64_t padding[3] = { 0 };
    char text[RQ_SHAPE_TEXT];
    if (axes < 1 || axes > 3) {
        if (rq_nn_ok(n) && x >= 0)
            rq_nn_fail(n, RQ_BAD_SHAPE, "module '%s' (%s): its input has shape %s, expected rank 3 to 5",
                       name ? name : "", types[1], rq_shape_text(&s, text, sizeof text));
        return RQ_NONE;
    }
    list_of(w.kernel, axes, kernel, cfg->kernels, zeros);
    list_of(w.stride, axes, cfg->stride, cfg->strides, w.kernel);
    list_of(padding, axes, cfg->padding, cfg->paddings, zeros);
    list_of(w.dilation, axes, cfg->dilation, cfg->dilations, ones);
    for (int i = 0; i < axes; i++)
        w.pads[i] = w.pads[axes + i] = padding[i];
    int64_t key[sizeof w / sizeof(int64_t) + 2];
    memcpy(key, &w, sizeof w);
    key[sizeof w / sizeof(int64_t)] = cfg->ceil_mode;
    key[sizeof w / sizeof(int64_t) + 1] = cfg->leave_out_pad;
    const rq_nn_module *m = rq_nn_use(n, name, types[axes - 1], key, (int)(sizeof key / sizeof key[0]), &x, 1);
    if (!m)
        return RQ_NONE;
    for (int i = 0; i < axes; i++)
        if (w.kernel[i] < 1 || w.stride[i] < 1 || padding[i] < 0 || 2 * padding[i] > w.kernel[i] || w.dilation[i] < 1) {
            rq_nn_bad(n, m, RQ_BAD_ARG,
                      "kernel %lld, stride %lld, padding %lld, dilation %lld along axis %d: at least 1, 1, 0, 1, and "
                      "padding at most half the kernel",
                      (long long)w.kernel[i], (long long)w.stride[i], (long long)padding[i], (long long)w.dilation[i],
                      i);
            return RQ_NONE;
        }
    const rq_id node = rq_nn_open(n, m->path, NULL, op, &x, 1, 1);
    rq_nn_set_int(n, node, "ceil_mode", cfg->ceil_mode);
    rq_nn_set_ints(n, node, "kernel_shape", w.kernel, axes);
    rq_nn_set_ints(n, node, "pads", w.pads, 2 * axes);
    rq_nn_set_ints(n, node, "strides", w.stride, axes);
    for (int i = 0; i < axes; i++)
        if (w.dilation[i] != 1) {
            rq_nn_set_ints(n, node, "dilations", w.dilation, axes);
            break;
        }
    return node;
}

rq_nn_value rq_nn_max_pool(rq_nn *n, const char *name, rq_nn_value x, int64_t kernel, const rq_nn_pool *cfg)
{
    static const char *const types[3] = { "MaxPool1d", "MaxPool2d", "MaxPool3d" };
    static const rq_nn_pool none;
    return rq_nn_close(n, pool(n, name, types, "MaxPool", x, kernel, cfg ? cfg : &none));
}

rq_nn_value rq_nn_avg_pool(rq_nn *n, const char *name, rq_nn_value x, int64_t kernel, const rq_nn_pool *cfg)
{
    static const char *const types[3] = { "AvgPool1d", "AvgPool2d", "AvgPool3d" };
    static const rq_nn_pool none;
    const rq_id node = pool(n, name, types, "AveragePool", x, kernel, cfg ? cfg : &none);
    rq_nn_set_int(n, node, "count_include_pad", !(cfg && cfg->leave_out_pad));
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_adaptive_avg_pool(rq_nn *n, const char *name, rq_nn_value x, int64_t size)
{
    static const char *const types[] = { "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d" };
    const rq_shape s = rq_nn_shape(n, x);
    const int axes = s.rank - 2;
    int64_t kernel[3];
    const char *type = axes >= 1 && axes <= 3 ? types[axes - 1] : "AdaptiveAvgPool";
    const rq_nn_module *m = rq_nn_use(n, name, type, (const int64_t[]) { size }, 1, &x, 1);
    if (!m)
        return RQ_NN_FAILED;
    if (axes < 1 || axes > 3 || size < 1)
        return rq_nn_bad(n, m, RQ_BAD_ARG, "%lld elements along each axis behind the second, of which there are %d",
                         (long long)size, axes);
    if (size == 1)
        return rq_nn_apply(n, m->path, NULL, "GlobalAveragePool", &x, 1);
    for (int i = 0; i < axes; i++) {
        const int64_t have = rq_nn_size(n, m, x, 2 + i);
        if (!have)
            return RQ_NN_FAILED;
        if (have % size)
            return rq_nn_bad(n, m, RQ_UNSUPPORTED, "%lld elements do not divide into %lld equal windows",
                             (long long)have, (long long)size);
        kernel[i] = have / size;
    }
    const rq_id node = rq_nn_open(n, m->path, NULL, "AveragePool", &x, 1, 1);
    rq_nn_set_ints(n, node, "kernel_shape", kernel, axes);
    rq_nn_set_ints(n, node, "strides", kernel, axes);
    return rq_nn_close(n, node);
}
