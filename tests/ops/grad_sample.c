/* tests/ops/grad_sample.c — gradients of GridSample, RoiAlign and AffineGrid: each method and border, coordinates inside and outside. */
#include <stdio.h>

#include "ops/grad_check.h"

/* Coordinates at which no index lies within 2h of a whole or half number: there the derivative jumps. Indices are those of an axis of n
 * elements, a share of them outside. */
static float off_kinks(int64_t i, int n, bool align)
{
    const float at = (float)(i * 7 % (4 * n + 6)) / 4 - 1.125f + (i % 3 == 0 ? 0.03125f : 0); /* -1.125 .. n + 0.1 */
    return align ? at / (float)(n - 1) * 2 - 1 : (2 * at + 1) / (float)n - 1;
}

static void grid(const char *domain, const char *mode, const char *padding, bool align, int nd)
{
    char label[80];
    float at[2 * 3 * 4 * 3];
    grad g;
    const int n = nd == 3 ? 2 * 3 * 4 * 3 : 2 * 3 * 4 * 2, size[3] = { 5, 4, 3 }; /* innermost first */
    snprintf(label, sizeof label, "%s, %s%s, %d axes", mode, padding, align ? ", corners" : "", nd);
    grad_start(&g, "GridSample", domain, *domain ? 1 : 20, label);
    grad_set_string(&g, "mode", mode);
    grad_set_string(&g, "padding_mode", padding);
    grad_set_int(&g, "align_corners", align);
    g.h = 1.0 / 256; /* an index moves by less than 1/32 */
    g.tol = 4e-3;
    if (nd == 3)
        grad_random(&g, -2, 2, 5, 2, 3, 3, 4, 5);
    else
        grad_random(&g, -2, 2, 4, 2, 18, 4, 5);
    for (int i = 0; i < n; i++)
        at[i] = off_kinks(i / nd * 5 + i % nd * 3, size[i % nd], align);
    if (nd == 3)
        grad_floats(&g, at, 5, 2, 3, 2, 2, 3);
    else
        grad_floats(&g, at, 4, 2, 3, 4, 2);
    grad_finish(&g, 1);
}

static void rois(const char *mode, const char *transform, int ratio)
{
    grad g;
    grad_start(&g, "RoiAlign", "", 16, mode);
    grad_set_string(&g, "mode", mode);
    grad_set_string(&g, "coordinate_transformation_mode", transform);
    grad_set_int(&g, "output_height", 2);
    grad_set_int(&g, "output_width", 3);
    grad_set_int(&g, "sampling_ratio", ratio);
    grad_set_float(&g, "spatial_scale", 0.5f);
    if (mode[0] == 'm') { /* products of weights and pixels may lie close to each other */
        g.h = 1.0 / 2048;
        g.tol = 4e-3;
    }
    grad_random(&g, 1, 3, 4, 2, 2, 5, 6); /* above 0, which is what lies outside */
    grad_floats(&g, (const float[]) { 1.3f, 0.4f, 9.1f, 7.7f, 3.2f, 2.1f, 4.4f, 8.3f, 0.7f, -2, 13, 11.1f }, 2, 3, 4);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1, 0, 1 }, 1, 3);
    grad_finish(&g, 1);
}

void grad_sample(void)
{
    static const char *const modes[] = { "nearest", "linear", "cubic" };
    static const char *const paddings[] = { "zeros", "border", "reflection" };
    for (int m = 0; m < 3; m++)
        for (int p = 0; p < 3; p++)
            for (int align = 0; align < 2; align++)
                grid("", modes[m], paddings[p], align, 2);
    grid("", "linear", "zeros", false, 3);
    grid("", "linear", "reflection", true, 3);
    grid("com.microsoft", "bilinear", "border", true, 2);
    rois("avg", "half_pixel", 2);
    rois("avg", "output_half_pixel", 0);
    rois("max", "half_pixel", 2);
    for (int align = 0; align < 2; align++)
        for (int nd = 2; nd <= 3; nd++) {
            grad g;
            grad_start(&g, "AffineGrid", "", 20, nd == 2 ? "images" : "volumes");
            grad_set_int(&g, "align_corners", align);
            grad_random(&g, -1, 1, 3, 2, nd, nd + 1);
            grad_ints(&g, RQ_DTYPE_S64,
                      nd == 2 ? (const int64_t[]) { 2, 1, 3, 4 } : (const int64_t[]) { 2, 1, 2, 3, 4 }, 1, nd + 2);
            grad_finish(&g, 1);
        }
}
