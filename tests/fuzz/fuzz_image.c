/* tests/fuzz/fuzz_image.c — any bytes as a picture, resized and cropped. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    char path[64];
    rq_err err = { 0 };
    rq_tensor t;
    rq_preprocess p = rq_preprocess_defaults();
    p.resize_short = 9;
    p.crop_height = p.crop_width = 8;
    fuzz_file(path, data, size, "png");
    if (!fuzz_status(rq_image_read(&t, path, &p, false, &err), &err, "a picture"))
        rq_tensor_release(&t);
    unlink(path);
    fuzz_nothing_left(live);
    return 0;
}
