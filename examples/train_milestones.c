/* train_milestones.c — a network of two convolutions learns to blur, with quantization switched on in steps, and becomes integers.
 *     cc train_milestones.c $(pkg-config --cflags --libs requant) -o train_milestones && ./train_milestones blur.onnx */
#include <requant/requant.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(call) ((call) == RQ_OK ? (void)0 : (fprintf(stderr, "train_milestones: %s\n", err.text), exit(1)))
enum { SIZE = 20, STEPS = 120 };

int main(int argc, char **argv)
{
    const char *milestones = "{\"global_config\": {\"milestones\": [0, 20, 100, 100]}}"; /* observe, quantize, freeze */
    rq_err err = { 0 };
    rq_nn *n;
    MUST(rq_nn_create(&n, 1));
    rq_nn_value v = rq_nn_input(n, "x", RQ_DTYPE_F32, 4, (int64_t[]) { 1, 1, SIZE, SIZE });
    v = rq_nn_relu(n, "relu", rq_nn_conv2d(n, "conv", v, 8, 3, &(rq_nn_conv) { .padding = 1 }));
    v = rq_nn_relu(n, "relu2", rq_nn_conv2d(n, "conv2", v, 1, 3, &(rq_nn_conv) { .padding = 1 }));
    rq_nn_output(n, "y", v);
    rq_graph *g, *integers;
    MUST(rq_nn_finish(n, &g, &err));
    rq_linear_quantizer_config *c;
    rq_linear_quantizer *q;
    rq_autograd *a;
    rq_optimizer *sgd;
    MUST(rq_linear_quantizer_config_from_dict(&c, milestones, &err));
    MUST(rq_linear_quantizer_create(&q, g, c, &err));
    MUST(rq_linear_quantizer_prepare(q, &err));
    rq_autograd_cfg how = rq_autograd_defaults();
    how.n_fakes = rq_linear_quantizer_fakes(q, &how.fakes, NULL);
    MUST(rq_autograd_create(&a, rq_linear_quantizer_model(q), &how, &err));
    const rq_optimizer_cfg o = { .kind = RQ_OPTIMIZER_SGD, .lr = 0.05, .momentum = 0.9 };
    MUST(rq_optimizer_create(&sgd, &o, NULL, 0, &err));
    static float x[SIZE * SIZE], t[SIZE * SIZE], dy[SIZE * SIZE];
    const rq_shape s = rq_shape_of(4, (int64_t[]) { 1, 1, SIZE, SIZE });
    rq_tensor y, xs = rq_tensor_view(RQ_DTYPE_F32, &s, x), ts = rq_tensor_view(RQ_DTYPE_F32, &s, t),
                 dys = rq_tensor_view(RQ_DTYPE_F32, &s, dy);
    const rq_loss_cfg mse = rq_loss_defaults(RQ_LOSS_MSE);
    unsigned r = 1;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < SIZE * SIZE; i++) { /* noise, and the mean of each point with its neighbours in the line */
            x[i] = (float)((r = r * 1664525u + 1013904223u) >> 8) / (1 << 24);
            t[i] = i < 2 ? 0 : (x[i] + x[i - 1] + x[i - 2]) / 3;
        }
        double loss;
        rq_parameter *p;
        MUST(rq_autograd_forward(a, &(rq_feed) { "x", xs }, 1, &y, &err));
        MUST(rq_loss_compute(&mse, NULL, &y, &ts, &loss, dy, &err));
        rq_autograd_zero_grad(a);
        MUST(rq_autograd_backward(a, &dys, &err));
        const int n_p = rq_autograd_parameters(a, &p);
        MUST(rq_optimizer_step(sgd, p, n_p, -1, &err));
        MUST(rq_linear_quantizer_step(q, a, &err));
        if (step % 20 == 0 || step == STEPS - 1)
            printf("step %3d loss %.5f\n", step, loss);
    }
    MUST(rq_linear_quantizer_finalize(q, &integers, &err));
    MUST(rq_save(integers, argc > 1 ? argv[1] : "blur.onnx", &err));
}
