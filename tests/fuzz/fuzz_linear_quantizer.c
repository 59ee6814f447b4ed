/* tests/fuzz/fuzz_linear_quantizer.c — any text as LinearQuantizer's config; what loads is written both ways and read back, and is the same. */
#include <string.h>

#include "fuzz/fuzz.h"

static void same(const rq_linear_quantizer_config *c, bool yaml)
{
    rq_err err = { 0 };
    rq_linear_quantizer_config *back = NULL;
    const int64_t n =
        yaml ? rq_linear_quantizer_config_as_yaml(c, NULL, 0) : rq_linear_quantizer_config_as_dict(c, NULL, 0);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    if (!text)
        return;
    if (yaml)
        rq_linear_quantizer_config_as_yaml(c, text, (size_t)n + 1);
    else
        rq_linear_quantizer_config_as_dict(c, text, (size_t)n + 1);
    if (yaml ? rq_linear_quantizer_config_from_yaml(&back, text, &err)
             : rq_linear_quantizer_config_from_dict(&back, text, &err))
        fuzz_wrong(text, err.text);
    if (!rq_linear_quantizer_config_equal(c, back))
        fuzz_wrong(text, "is not what was written");
    rq_linear_quantizer_config_destroy(back);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_linear_quantizer_config *c = NULL;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (!fuzz_status(rq_linear_quantizer_config_from_yaml(&c, text, &err), &err, "a config")) {
        rq_notes notes = { 0 };
        (void)rq_linear_quantizer_config_effective(c);
        rq_linear_quantizer_config_warnings(c, &notes);
        rq_notes_release(&notes);
        same(c, true);
        same(c, false);
        rq_linear_quantizer_config_destroy(c);
    }
    free(text);
    fuzz_nothing_left(live);
    return 0;
}
