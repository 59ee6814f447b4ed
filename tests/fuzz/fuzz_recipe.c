/* tests/fuzz/fuzz_recipe.c — any bytes as a recipe; what loads is asked for settings. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    char path[64];
    rq_err err = { 0 };
    rq_recipe *r;
    fuzz_file(path, data, size, "yaml");
    if (!fuzz_status(rq_recipe_load(&r, path, &err), &err, "a recipe")) {
        rq_settings s = rq_settings_defaults();
        rq_recipe_apply_global(r, &s, NULL);
        (void)rq_recipe_resolve(r, &s, "Conv", "stem/conv", "image");
        (void)rq_recipe_preprocess(r);
        (void)rq_recipe_option(r, "samples");
        rq_recipe_destroy(r);
    }
    unlink(path);
    fuzz_nothing_left(live);
    return 0;
}
