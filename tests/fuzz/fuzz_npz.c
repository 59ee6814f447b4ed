/* tests/fuzz/fuzz_npz.c — any bytes as an archive of arrays, or as one array. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    char path[64];
    rq_err err = { 0 };
    rq_tensor t;
    char **names;
    int n;
    fuzz_file(path, data, size, "npz");
    if (!fuzz_status(rq_npz_load(&t, path, NULL, &err), &err, "an array"))
        rq_tensor_release(&t);
    if (!fuzz_status(rq_npz_names(path, &names, &n, &err), &err, "an archive")) {
        for (int i = 0; i < n; i++)
            if (!fuzz_status(rq_npz_load(&t, path, names[i], &err), &err, "an array of an archive"))
                rq_tensor_release(&t);
        rq_free(names);
    }
    unlink(path);
    fuzz_nothing_left(live);
    return 0;
}
