/* tests/fuzz/fuzz_files.c — any bytes as a file (libFuzzer: cmake -DRQ_FUZZ=ON with clang). A zip is read as samples,
 * anything else as a model; what loads is written, read again, and must be the same graph. No crash, no leak, and a
 * sentence with every error.
 *
 *     build-fuzz/fuzz_files -max_len=4096 -max_total_time=60 CORPUS tests/golden/onnx/bad_models tests/golden/onnx/qdq */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "requant/requant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void wrong(const char *what, const char *more)
{
    fprintf(stderr, "fuzz_files: %s: %s\n", what, more);
    abort();
}

static char *text_of(const rq_graph *g)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f || rq_graph_print(g, f) || fclose(f))
        wrong("printing", "failed");
    return text;
}

static void samples(const uint8_t *data, size_t size, const char *path)
{
    rq_err err = { 0 };
    char **names;
    int n;
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        wrong("cannot write", path);
    if (rq_npz_names(path, &names, &n, &err))
        return;
    for (int i = 0; i < n; i++) {
        rq_tensor t;
        if (!rq_npz_load(&t, path, names[i], &err))
            rq_tensor_release(&t);
        else if (!err.text[0])
            wrong("an array", "an error without a sentence");
    }
    rq_free(names);
}

static void model(const uint8_t *data, size_t size, const char *path)
{
    rq_err err = { 0 };
    rq_graph *a, *b;
    if (rq_load_memory(&a, data, size, &err)) {
        if (!err.text[0])
            wrong("a model", "an error without a sentence");
        return;
    }
    if (!rq_save(a, path, &err)) {
        if (rq_load(&b, path, &err))
            wrong("what was written does not load", err.text);
        char *x = text_of(a), *y = text_of(b);
        if (strcmp(x, y) != 0) {
            fprintf(stderr, "%s----\n%s", x, y);
            wrong("what was written", "is another graph");
        }
        free(x);
        free(y);
        rq_graph_destroy(b);
    }
    rq_graph_destroy(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    char path[64];
    snprintf(path, sizeof path, "/tmp/requant-fuzz-%ld.%s", (long)getpid(),
             size > 1 && data[0] == 'P' ? "npz" : "onnx");
    if (size > 1 && data[0] == 'P' && data[1] == 'K')
        samples(data, size, path);
    else
        model(data, size, path);
    unlink(path);
    if (rq_mem_live() != live)
        wrong("memory", "not all was given back");
    return 0;
}
