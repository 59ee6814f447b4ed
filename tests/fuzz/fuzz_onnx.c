/* tests/fuzz/fuzz_onnx.c — any bytes as a model; what loads is written, read again, and must be the same graph. */
#include <string.h>

#include "fuzz/fuzz.h"

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f || rq_graph_print(g, f) || fclose(f))
        fuzz_wrong("printing", "failed");
    return text;
}

static void round_trip(const rq_graph *a, const char *path)
{
    rq_err err = { 0 };
    rq_graph *b;
    if (fuzz_status(rq_save(a, path, &err), &err, "writing"))
        return;
    if (rq_load(&b, path, &err))
        fuzz_wrong("what was written does not load", err.text);
    char *x = text_of(a), *y = text_of(b);
    if (strcmp(x, y) != 0) {
        fprintf(stderr, "%s----\n%s", x, y);
        fuzz_wrong("what was written", "is another graph");
    }
    free(x);
    free(y);
    rq_graph_destroy(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    char path[64];
    rq_err err = { 0 };
    rq_graph *g;
    snprintf(path, sizeof path, "/tmp/requant-fuzz-%ld.onnx", (long)getpid());
    if (!fuzz_status(rq_load_memory(&g, data, size, &err), &err, "a model")) {
        round_trip(g, path);
        rq_graph_destroy(g);
    }
    unlink(path);
    fuzz_nothing_left(live);
    return 0;
}
