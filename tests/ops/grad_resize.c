/* tests/ops/grad_resize.c — gradients of Resize and Upsample: each method, each kind of coordinates that networks use, up and down. */
#include <stdio.h>

#include "ops/grad_check.h"

typedef struct form {
    const char *mode, *coords, *label;
    float scale[4];
    bool antialias, exclude_outside;
} form;

static const form forms[] = {
    { "nearest", "asymmetric", "twice", { 1, 1, 2, 2 }, false, false },
    { "nearest", "half_pixel", "other steps", { 1, 1, 1.5f, 0.75f }, false, false },
    { "linear", "half_pixel", "up", { 1, 1, 2, 1.5f }, false, false },
    { "linear", "align_corners", "up and down", { 1, 1, 2, 0.5f }, false, false },
    { "linear", "pytorch_half_pixel", "one axis", { 1, 1, 1, 3 }, false, false },
    { "linear", "half_pixel", "down, antialias", { 1, 1, 0.5f, 0.4f }, true, false },
    { "linear", "asymmetric", "channels too", { 1, 2, 2, 1 }, false, false },
    { "cubic", "half_pixel", "up", { 1, 1, 2, 1.5f }, false, false },
    { "cubic", "align_corners", "exclude_outside", { 1, 1, 1.5f, 2 }, false, true },
    { "cubic", "half_pixel", "down, antialias", { 1, 1, 0.5f, 0.5f }, true, false },
};

void grad_resize(void)
{
    grad g;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const form *f = &forms[i];
        char label[80];
        snprintf(label, sizeof label, "%s, %s, %s", f->mode, f->coords, f->label);
        grad_start(&g, "Resize", "", 19, label);
        grad_set_string(&g, "mode", f->mode);
        grad_set_string(&g, "coordinate_transformation_mode", f->coords);
        if (f->mode[0] == 'n')
            grad_set_string(&g, "nearest_mode", "floor");
        grad_set_int(&g, "antialias", f->antialias);
        grad_set_int(&g, "exclude_outside", f->exclude_outside);
        grad_random(&g, -2, 2, 4, 2, 2, 4, 6);
        grad_omit(&g);
        grad_floats(&g, f->scale, 1, 4);
        grad_finish(&g, 1);
    }
    static const char *const modes[] = { "nearest", "linear" };
    for (int i = 0; i < 2; i++) { /* part of the crop lies outside */
        grad_start(&g, "Resize", "", 13, modes[i]);
        grad_set_string(&g, "mode", modes[i]);
        grad_set_string(&g, "coordinate_transformation_mode", "tf_crop_and_resize");
        grad_set_float(&g, "extrapolation_value", 3);
        grad_random(&g, -2, 2, 4, 1, 2, 5, 4);
        grad_floats(&g, (const float[]) { 0, 0, -0.2f, 0.25f, 1, 1, 0.8f, 1.3f }, 1, 8);
        grad_omit(&g);
        grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1, 2, 6, 7 }, 1, 4);
        grad_finish(&g, 1);
    }
    grad_start(&g, "Resize", "", 13, "sizes that stay");
    grad_random(&g, -2, 2, 4, 1, 2, 5, 4);
    grad_omit(&g);
    grad_omit(&g);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1, 2, 5, 4 }, 1, 4);
    grad_finish(&g, 1);
    grad_start(&g, "Upsample", "", 9, "linear");
    grad_set_string(&g, "mode", "linear");
    grad_random(&g, -2, 2, 4, 1, 2, 3, 4);
    grad_floats(&g, (const float[]) { 1, 1, 2, 2 }, 1, 4);
    grad_finish(&g, 1);
}
