/* tests/fuzz/fuzz_quant_desc.c — any text as a quantizer's descriptor; what loads is written and read back, and is the same. */
#include <string.h>

#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_quant_desc d, back;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (!fuzz_status(rq_quant_desc_from_yaml(&d, text, &err), &err, "a descriptor")) {
        const int64_t n = rq_quant_desc_to_yaml(&d, false, NULL, 0);
        char *out = malloc((size_t)n + 1);
        if (out) {
            rq_quant_desc_to_yaml(&d, false, out, (size_t)n + 1);
            if (rq_quant_desc_from_yaml(&back, out, &err))
                fuzz_wrong(out, err.text);
            char first[64], second[64];
            if (rq_quant_desc_text(&d, first, sizeof first) != rq_quant_desc_text(&back, second, sizeof second) ||
                strcmp(first, second))
                fuzz_wrong(first, second);
            rq_quant_desc_release(&back);
        }
        free(out);
    }
    rq_quant_desc_release(&d);
    free(text);
    fuzz_nothing_left(live);
    return 0;
}
