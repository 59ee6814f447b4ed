/* resnet.c — a residual network built by hand and written as ONNX, ready for `requant train`:
 *
 *   resnet OUT.onnx [classes [channels [size [blocks [seed]]]]]      10 3 32 3 1: ResNet-20 for 32x32 pictures (He et al., CVPR 2016, 4.2)
 *
 * Three stages of `blocks` blocks with 16, 32 and 64 channels; a block adds its input, through a 1x1 convolution where the size changes. */
#include <stdio.h>
#include <stdlib.h>

#include <requant/requant.h>

static rq_nn_value block(rq_nn *n, rq_nn_value x, int64_t channels, int64_t stride)
{
    rq_nn_value y =
        rq_nn_conv2d(n, "conv1", x, channels, 3, &(rq_nn_conv) { .stride = stride, .padding = 1, .no_bias = true });
    y = rq_nn_relu(n, "relu1", rq_nn_batch_norm(n, "bn1", y, NULL));
    y = rq_nn_conv2d(n, "conv2", y, channels, 3, &(rq_nn_conv) { .padding = 1, .no_bias = true });
    y = rq_nn_batch_norm(n, "bn2", y, NULL);
    if (rq_nn_shape(n, x).dim[1] != channels || stride != 1) {
        x = rq_nn_conv2d(n, "down", x, channels, 1, &(rq_nn_conv) { .stride = stride, .no_bias = true });
        x = rq_nn_batch_norm(n, "down_bn", x, NULL);
    }
    return rq_nn_relu(n, "relu2", rq_nn_add(n, y, x));
}

int main(int argc, char **argv)
{
    const int64_t classes = argc > 2 ? atoll(argv[2]) : 10, channels = argc > 3 ? atoll(argv[3]) : 3,
                  size = argc > 4 ? atoll(argv[4]) : 32, blocks = argc > 5 ? atoll(argv[5]) : 3;
    rq_err err = { 0 };
    rq_graph *g;
    rq_nn *n;
    if (argc < 2 || rq_nn_create(&n, argc > 6 ? strtoull(argv[6], NULL, 10) : 1)) {
        fprintf(stderr, "usage: resnet OUT.onnx [classes [channels [size [blocks [seed]]]]]\n");
        return 2;
    }
    rq_nn_value x =
        rq_nn_input(n, "image", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), channels, size, size });
    x = rq_nn_conv2d(n, "conv", x, 16, 3, &(rq_nn_conv) { .padding = 1, .no_bias = true });
    x = rq_nn_relu(n, "relu", rq_nn_batch_norm(n, "bn", x, NULL));
    for (int stage = 0; stage < 3; stage++)
        for (int64_t b = 0; b < blocks; b++) {
            char name[64];
            snprintf(name, sizeof name, "layer%d.%d", stage + 1, (int)b);
            rq_nn_enter(n, name);
            x = block(n, x, 16 << stage, stage && !b ? 2 : 1);
            rq_nn_leave(n);
        }
    x = rq_nn_flatten(n, "flatten", rq_nn_adaptive_avg_pool(n, "pool", x, 1), 1);
    rq_nn_output(n, "logits", rq_nn_linear(n, "fc", x, classes, NULL));
    if (rq_nn_finish(n, &g, &err) || rq_save(g, argv[1], &err)) {
        fprintf(stderr, "resnet: %s\n", err.text);
        return 1;
    }
    printf("%s: %lld classes, pictures of %lldx%lldx%lld\n", argv[1], (long long)classes, (long long)channels,
           (long long)size, (long long)size);
    rq_graph_destroy(g);
    return 0;
}
