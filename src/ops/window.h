/* ops/window.h — windows that slide over the spatial axes of a tensor [N, C, d1 .. dk]: what Conv, ConvTranspose and
 * the pools share. One place reads kernel_shape, strides, dilations, pads, auto_pad, ceil_mode. */
#ifndef RQ_OPS_WINDOW_H
#define RQ_OPS_WINDOW_H

#include "graph/graph.h"

/* Always three axes: with fewer, the leading ones have size 1, stride 1 and no pads, so that one triple loop serves
 * all. Window o covers input positions o * stride - pad_lo + t * dilation, t < kernel. For ConvTranspose input
 * and output change sides: `in` is still the input's size. */
typedef struct rq_window {
    int nd;                /* spatial axes of the tensor, 1..3: the last nd entries below */
    int64_t in[3], out[3]; /* negative: not known (a symbol of `in` survives where the size does not change) */
    int64_t kernel[3], stride[3], dilation[3]; /* 1..2^31 */
    int64_t pad_lo[3], pad_hi[3];              /* |pad| < 2^31; negative only for ConvTranspose */
} rq_window;

/* Conv of x by weight [M, C/group, k1 .. kk]; kernel sizes of a weight that is not known may come from kernel_shape.
 * RQ_BAD_SHAPE, RQ_BAD_GRAPH: an attribute is malformed or does not fit; RQ_UNSUPPORTED: more than 3 spatial axes. The
 * sentence names the node. */
rq_status rq_window_conv(rq_window *w, const rq_node *n, const rq_shape *x, const rq_shape *weight, rq_err *err);

/* ConvTranspose of x by weight [C, M/group, k1 .. kk]: pads follow from output_shape where that is given. */
rq_status rq_window_deconv(rq_window *w, const rq_node *n, const rq_shape *x, const rq_shape *weight, rq_err *err);

/* MaxPool, AveragePool, LpPool. With ceil_mode a last window that would start in the padding behind the input is
 * dropped (the rule of opset 22, which runtimes follow for all). */
rq_status rq_window_pool(rq_window *w, const rq_node *n, const rq_shape *x, rq_err *err);

/* [N, channels, out...] from x's batch. */
rq_shape rq_window_out_shape(const rq_window *w, const rq_shape *x, int64_t channels);

/* Product of the last nd entries of in, out or kernel. */
static inline int64_t rq_window_span(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* Windows of 2 x 2 over the last two axes (1 over the first), side by side, none in the padding: what kernels/pool.h takes. */
static inline bool rq_window_are_quarters(const rq_window *w)
{
    for (int d = 0; d < 3; d++) {
        const int64_t size = d ? 2 : 1;
        if (w->kernel[d] != size || w->stride[d] != size || w->pad_lo[d] || w->dilation[d] != 1 ||
            w->out[d] * size > w->in[d])
            return false;
    }
    return true;
}

/* The attribute `group`, at least 1. RQ_BAD_GRAPH. */
rq_status rq_window_group(const rq_node *n, int64_t *group, rq_err *err);

#endif
