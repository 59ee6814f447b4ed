/* tests/fuzz/fuzz_coreml.c — any bytes as each of the files of a Core ML package: the model (what is read is written, and read again
 * as the same; and as a graph, constants decompressed), the weights, the manifest, a zip of all. */
#include <string.h>
#include <sys/stat.h>

#include "formats/mil_graph.h"
#include "fuzz/fuzz.h"

static rq_status touch(void *arg, const rq_mil_value *v, rq_err *err)
{
    rq_tensor t;
    (void)err;
    rq_err why = { 0 };
    if (!fuzz_status(rq_coreml_tensor(arg, &t, v, &why), &why, "a value"))
        rq_tensor_release(&t);
    return RQ_OK;
}

static void look(rq_coreml *m)
{
    char text[64];
    if (rq_coreml_text(m, true, text, sizeof text) <= 0 || rq_coreml_json(m, text, sizeof text) <= 0)
        fuzz_wrong("a model", "cannot be told");
    rq_mil_each_value(&m->program, touch, m, NULL);
    rq_graph *g = NULL;
    rq_err err = { 0 };
    if (!fuzz_status(rq_mil_graph(&g, m, NULL, &err), &err,
                     "a program")) /* not computed: shapes may ask for any amount */
        rq_graph_destroy(g);
}

static void as_model(const uint8_t *data, size_t size)
{
    rq_err err = { 0 };
    rq_coreml *m, *back = NULL;
    uint8_t *bytes, *again = NULL;
    size_t n, n_again = 0;
    if (fuzz_status(rq_coreml_parse(&m, data, size, &err), &err, "model"))
        return;
    look(m);
    if (rq_coreml_encode(m, &bytes, &n, &err) || rq_coreml_parse(&back, bytes, n, &err) ||
        rq_coreml_encode(back, &again, &n_again, &err))
        fuzz_wrong("what was read cannot be written and read", err.text);
    if (n != n_again || memcmp(bytes, again, n) != 0)
        fuzz_wrong("what was written", "is another model");
    rq_mem_free(again);
    rq_mem_free(bytes);
    rq_coreml_close(back);
    rq_coreml_close(m);
}

static void as_weights(const uint8_t *data, size_t size)
{
    rq_err err = { 0 };
    uint32_t n;
    rq_milblob b;
    if (fuzz_status(rq_milblob_count(&n, data, size, &err), &err, "weights"))
        return;
    unsigned sum = 0;
    for (uint64_t at = 64; at < size && !fuzz_status(rq_milblob_read(&b, data, size, at, &err), &err, "blob");
         at = b.next) {
        sum += b.bytes ? b.data[0] + b.data[b.bytes - 1] : 0u;
        if (b.next <= at)
            break;
    }
    if (sum == 12345678)
        fuzz_wrong("weights", "never so much");
}

static void as_package(const char *path)
{
    rq_err err = { 0 };
    rq_coreml *m;
    if (!fuzz_status(rq_coreml_open(&m, path, &err), &err, "package")) {
        look(m);
        rq_coreml_close(m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    as_model(data, size);
    as_weights(data, size);
    char path[64], manifest[96];
    if (size > 2 && data[0] == 'P' && data[1] == 'K') {
        as_package(fuzz_file(path, data, size, "zip"));
        unlink(path);
    } else if (size && (data[0] == '{' || data[0] == ' ')) {
        snprintf(path, sizeof path, "/tmp/requant-fuzz-%ld.mlpackage", (long)getpid());
        snprintf(manifest, sizeof manifest, "%s/Manifest.json", path);
        mkdir(path, 0700);
        FILE *f = fopen(manifest, "wb");
        if (!f || fwrite(data, 1, size, f) != size || fclose(f))
            fuzz_wrong("cannot write", manifest);
        as_package(path);
        unlink(manifest);
        rmdir(path);
    }
    fuzz_nothing_left(live);
    return 0;
}
