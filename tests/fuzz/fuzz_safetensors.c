/* tests/fuzz/fuzz_safetensors.c — any bytes as a safetensors file. What is read is written, and read again as the same. */
#include <string.h>

#include "formats/safetensors.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_state *s, *back;
    if (!fuzz_status(rq_safetensors_parse(&s, data, size, "input", &err), &err, "safetensors")) {
        char path[64];
        snprintf(path, sizeof path, "/tmp/requant-fuzz-%ld.safetensors", (long)getpid());
        if (rq_safetensors_save(s, path, &err) || rq_safetensors_load(&back, path, &err))
            fuzz_wrong("what was read cannot be written and read", err.text);
        unlink(path);
        if (rq_state_count(s) != rq_state_count(back))
            fuzz_wrong("what was written", "has other tensors");
        for (int i = 0; i < rq_state_count(s); i++) {
            const rq_tensor *a = rq_state_tensor(s, i), *b = rq_state_tensor(back, i);
            if (strcmp(rq_state_name(s, i), rq_state_name(back, i)) || a->dtype != b->dtype ||
                !rq_shape_equal(&a->shape, &b->shape) || (a->bytes && memcmp(a->data, b->data, a->bytes)))
                fuzz_wrong("another tensor", rq_state_name(s, i));
        }
        rq_state_destroy(back);
        rq_state_destroy(s);
    }
    fuzz_nothing_left(live);
    return 0;
}
