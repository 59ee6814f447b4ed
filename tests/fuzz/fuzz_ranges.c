/* tests/fuzz/fuzz_ranges.c — any bytes as ranges: our JSON, ONNX Runtime's, TensorRT's cache. What is read is written
 * in both forms and read again. */
#include <string.h>

#include "formats/ranges.h"
#include "fuzz/fuzz.h"

static void same(const rq_ranges *a, const rq_ranges *b)
{
    if (a->n != b->n)
        fuzz_wrong("what was written", "has other tensors");
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->items[i].tensor, b->items[i].tensor) || a->items[i].lo != b->items[i].lo ||
            a->items[i].hi != b->items[i].hi)
            fuzz_wrong("another range", a->items[i].tensor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_ranges *r, *back;
    if (!fuzz_status(rq_ranges_parse(&r, data, size, "input", &err), &err, "ranges")) {
        rq_buf json = { 0 }, trt = { 0 };
        if (!rq_ranges_write_json(r, &json, &err)) {
            if (rq_ranges_parse(&back, json.data, json.size, "json", &err))
                fuzz_wrong("what was written does not load", err.text);
            same(r, back);
            rq_ranges_destroy(back);
        }
        if (!rq_ranges_write_trt(r, &trt, &err) && !rq_ranges_parse(&back, trt.data, trt.size, "cache", &err))
            rq_ranges_destroy(back);
        rq_buf_release(&json);
        rq_buf_release(&trt);
        rq_ranges_destroy(r);
    }
    fuzz_nothing_left(live);
    return 0;
}
