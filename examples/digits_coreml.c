/* digits_coreml.c — a small convolutional net learns ten digits, is quantized while it learns as a YAML file says, and becomes a Core ML package for
 * iOS 17: what takes PyTorch, coremltools.optimize.torch and a converter elsewhere.
 *     cc digits_coreml.c $(pkg-config --cflags --libs requant) -o digits_coreml
 *     ./digits_coreml digits-train.npz digits-test.npz digits.yaml digits.mlpackage */
#include <requant/requant.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(call) ((call) == RQ_OK ? (void)0 : (fprintf(stderr, "digits_coreml: %s\n", err.text), exit(1)))

static void tell(void *arg, const rq_train_epoch *e)
{
    (void)arg;
    printf("epoch %lld loss %.4f, of the test set %.1f %%%s\n", (long long)e->epoch, e->loss, 100 * e->eval_accuracy,
           e->quantized ? ", quantized" : "");
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fputs("usage: digits_coreml TRAIN.npz TEST.npz CONFIG.yaml OUT.mlpackage\n", stderr), 2;
    rq_err err = { 0 };
    rq_nn *n;
    MUST(rq_nn_create(&n, 1));
    rq_nn_value v = rq_nn_input(n, "image", RQ_DTYPE_F32, 4, (int64_t[]) { rq_nn_dim(n, "batch"), 1, 8, 8 });
    for (int i = 1; i <= 2; i++) { /* conv1, bn1, relu1, conv2 ... */
        char conv[] = "conv0", bn[] = "bn0", relu[] = "relu0";
        conv[4] = bn[2] = relu[4] = (char)('0' + i);
        v = rq_nn_conv2d(n, conv, v, 16 * i, 3, &(rq_nn_conv) { .padding = 1 });
        v = rq_nn_relu(n, relu, rq_nn_batch_norm(n, bn, v, NULL));
    }
    v = rq_nn_flatten(n, "flatten", rq_nn_max_pool(n, "pool", v, 2, NULL), 1);
    v = rq_nn_relu(n, "relu3", rq_nn_linear(n, "fc1", v, 64, NULL));
    rq_nn_output(n, "digit", rq_nn_linear(n, "fc2", v, 10, NULL));
    rq_graph *g, *integers;
    MUST(rq_nn_finish(n, &g, &err));

    const rq_dataset_cfg how = { .batch = 64 };
    rq_dataset *train, *test;
    MUST(rq_dataset_open(&train, argv[1], g, &how, &err));
    MUST(rq_dataset_open(&test, argv[2], g, &how, &err));
    rq_linear_quantizer_config *c;
    rq_linear_quantizer *q;
    rq_trainer *t;
    MUST(rq_linear_quantizer_config_load(&c, argv[3], &err));
    MUST(rq_linear_quantizer_create(&q, g, c, &err));
    MUST(rq_linear_quantizer_prepare(q, &err));
    rq_train_cfg cfg = rq_train_defaults();
    cfg.epochs = 8;
    cfg.optimizer = rq_optimizer_defaults(RQ_OPTIMIZER_ADAM);
    cfg.optimizer.lr = 2e-3;
    cfg.on_epoch = tell;
    MUST(rq_trainer_create(&t, NULL, q, &cfg, &err));
    MUST(rq_trainer_run(t, train, test, &err));
    MUST(rq_linear_quantizer_finalize(q, &integers, &err));

    const char *digits[] = { "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine" };
    const rq_coreml_cfg form = { .target = RQ_COREML_IOS17, .labels = digits, .n_labels = 10 };
    rq_coreml *m;
    char *notes;
    MUST(rq_coreml_from_graph(&m, integers, &form, &notes, &err));
    fputs(notes, stdout);
    MUST(rq_coreml_save(m, argv[4], &err));
    rq_free(notes);
    rq_coreml_close(m);
    rq_graph_destroy(integers);
    rq_trainer_destroy(t);
    rq_linear_quantizer_destroy(q);
    rq_linear_quantizer_config_destroy(c);
    rq_dataset_close(train);
    rq_dataset_close(test);
    rq_graph_destroy(g);
}
