/* tests/fuzz/fuzz_qconfig.c — any bytes as a qconfig mapping; what loads is asked, checked, written and read back. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    const rq_qconfig_site sites[] = { { "", "Net", NULL, 0 },
                                      { "block.0.fc", "Linear", NULL, 0 },
                                      { "block", "Block", "relu", 1 } };
    char path[64];
    rq_err err = { 0 };
    rq_qconfig_mapping *m, *back;
    fuzz_file(path, data, size, "yaml");
    if (!fuzz_status(rq_qconfig_mapping_load(&m, path, NULL, &err), &err, "a qconfig mapping")) {
        for (int i = 0; i < 3; i++)
            (void)rq_qconfig_mapping_lookup(m, &sites[i], NULL);
        (void)rq_qconfig_mapping_check(m, sites, 3, "requant", &err);
        size_t n;
        char *text;
        if (!rq_qconfig_mapping_text(m, NULL, 0, &n) && (text = malloc(n))) {
            if (rq_qconfig_mapping_text(m, text, n, NULL) ||
                rq_qconfig_mapping_parse(&back, text, "written", NULL, &err))
                abort(); /* what was read can be written, and that be read */
            if (rq_qconfig_mapping_count(back) != rq_qconfig_mapping_count(m))
                abort();
            rq_qconfig_mapping_destroy(back);
            free(text);
        }
        rq_qconfig_mapping_destroy(m);
    }
    unlink(path);
    fuzz_nothing_left(live);
    return 0;
}
