/* quantize_in_memory.c — a float model that is already in memory becomes an int8 one, which answers.
 *
 *   cc quantize_in_memory.c $(pkg-config --cflags --libs requant) -o quantize_in_memory
 *   ./quantize_in_memory digits-cnn.onnx digits-train.npz digits-test.npz */
#include <requant/requant.h>
#include <stdio.h>
#include <stdlib.h>

static bool progress(void *arg, const char *phase, int64_t done, int64_t total, double eta_s)
{
    fprintf(stderr, "\r%s %lld/%lld ", phase, (long long)done, (long long)total);
    return true; /* false cancels */
}

/* The whole file as bytes of ours; any other way to have a model in memory will do. */
static void *slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    void *bytes = f && !fseek(f, 0, SEEK_END) ? malloc(*size = (size_t)ftell(f)) : NULL;
    if (bytes && (rewind(f), fread(bytes, 1, *size, f)) != *size)
        bytes = NULL;
    return bytes;
}

int main(int argc, char **argv)
{
    size_t size;
    void *bytes = argc == 4 ? slurp(argv[1], &size) : NULL;
    rq_err err = { .text = "usage: quantize_in_memory MODEL CALIBRATION SAMPLES" };
    rq_graph *g = NULL;
    rq_dataset *train = NULL, *test = NULL;
    rq_session *s = NULL;
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.progress = progress;
    int rc = 1;
    if (!bytes || rq_load_memory(&g, bytes, size, &err) || rq_dataset_open(&train, argv[2], g, NULL, &err) ||
        rq_dataset_open(&test, argv[3], g, NULL, &err) || rq_ptq(g, train, &cfg, NULL, &err) ||
        rq_session_create(&s, g, NULL, &err))
        goto done;
    const rq_feed *feeds;
    int n_feeds;
    rq_tensor y;
    if (rq_dataset_read(test, (const int64_t[]) { 0 }, 1, &feeds, &n_feeds, &err) ||
        rq_session_run(s, feeds, n_feeds, &y, &err))
        goto done;
    int64_t best = 0;
    for (int64_t i = 1; i < rq_tensor_count(&y); i++)
        best = y.f32[i] > y.f32[best] ? i : best;
    printf("top-1 of the first sample: %lld\n", (long long)best);
    rq_tensor_release(&y);
    rc = 0;
done:
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    rq_session_destroy(s), rq_dataset_close(test), rq_dataset_close(train), rq_graph_destroy(g), free(bytes);
    return rc;
}
