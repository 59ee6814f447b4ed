/* tests/ops/grad_pool.c — gradients of pools: padding, dilation, windows that overlap, ceil_mode, one to three axes, ties. */
#include "ops/grad_check.h"

typedef struct form {
    const char *label;
    int rank;
    int dim[5];
    int64_t kernel[3], stride[3], dilation[3], pads[6];
    bool ceil;
} form;

static const form forms[] = {
    { "quarters", 4, { 2, 2, 7, 9 }, { 2, 2 }, { 2, 2 }, { 1, 1 }, { 0 }, false },
    { "quarters, exact", 4, { 1, 3, 4, 6 }, { 2, 2 }, { 2, 2 }, { 1, 1 }, { 0 }, false },
    { "3x3 that overlap", 4, { 1, 2, 7, 6 }, { 3, 3 }, { 2, 2 }, { 1, 1 }, { 1, 1, 1, 1 }, false },
    { "ceil_mode", 4, { 1, 2, 6, 5 }, { 3, 2 }, { 2, 2 }, { 1, 1 }, { 0 }, true },
    { "padding on one side, dilation", 4, { 1, 2, 7, 8 }, { 2, 3 }, { 1, 2 }, { 2, 2 }, { 0, 1, 1, 0 }, false },
    { "one axis", 3, { 2, 2, 9 }, { 3 }, { 2 }, { 1 }, { 1, 1 }, false },
    { "three axes", 5, { 1, 2, 3, 4, 5 }, { 2, 2, 2 }, { 1, 2, 2 }, { 1, 1, 1 }, { 0, 0, 1, 0, 0, 1 }, false },
};
enum { N_FORMS = sizeof forms / sizeof forms[0] };

static void start(grad *g, const char *op, int64_t opset, const form *f)
{
    const int nd = f->rank - 2;
    grad_start(g, op, "", opset, f->label);
    grad_set_ints(g, "kernel_shape", nd, f->kernel);
    grad_set_ints(g, "strides", nd, f->stride);
    grad_set_ints(g, "dilations", nd, f->dilation);
    grad_set_ints(g, "pads", 2 * nd, f->pads);
    grad_set_int(g, "ceil_mode", f->ceil);
}

static void input(grad *g, const form *f, bool distinct)
{
    const int *d = f->dim;
    if (distinct)
        grad_distinct(g, f->rank, d[0], d[1], d[2], d[3], d[4]);
    else
        grad_random(g, -2, 2, f->rank, d[0], d[1], d[2], d[3], d[4]);
}

void grad_pool(void)
{
    grad g;
    for (int i = 0; i < N_FORMS; i++) {
        start(&g, "MaxPool", 12, &forms[i]);
        input(&g, &forms[i], true);
        grad_finish(&g, 1);
        for (int pad = 0; pad < 2; pad++) {
            start(&g, "AveragePool", 19, &forms[i]);
            grad_set_int(&g, "count_include_pad", pad);
            input(&g, &forms[i], false);
            grad_finish(&g, 1);
        }
    }
    start(&g, "MaxPool", 12, &forms[2]); /* with the positions wanted, too */
    input(&g, &forms[2], true);
    grad_finish(&g, 2);
    for (int p = 1; p <= 3; p++) {
        start(&g, "LpPool", 18, &forms[2]);
        grad_set_int(&g, "p", p);
        grad_kink(&g, 0);
        input(&g, &forms[2], false);
        grad_finish(&g, 1);
        grad_start(&g, "GlobalLpPool", "", 2, "");
        grad_set_int(&g, "p", p);
        grad_kink(&g, 0);
        grad_random(&g, -2, 2, 4, 2, 3, 3, 5);
        grad_finish(&g, 1);
    }
    grad_start(&g, "GlobalMaxPool", "", 1, "");
    grad_distinct(&g, 4, 2, 3, 3, 5);
    grad_finish(&g, 1);
    grad_start(&g, "GlobalAveragePool", "", 1, "");
    grad_random(&g, -2, 2, 5, 2, 3, 3, 5, 2);
    grad_finish(&g, 1);
    /* of equal elements the first, as in PyTorch */
    const float x[] = { 1, 1, 0, 2, 1, 1, 2, 2 };
    static const int64_t two[] = { 2, 2 };
    grad_start(&g, "MaxPool", "", 12, "ties");
    grad_set_ints(&g, "kernel_shape", 2, two);
    grad_set_ints(&g, "strides", 2, two);
    grad_floats(&g, x, 4, 1, 1, 2, 4);
    grad_exactly(&g, 1, 0, (const float[]) { 1, 0, 0, 1, 0, 0, 0, 0 });
    grad_start(&g, "MaxPool", "", 12, "ties where windows overlap");
    grad_set_ints(&g, "kernel_shape", 2, two);
    grad_floats(&g, x, 4, 1, 1, 2, 4);
    grad_exactly(&g, 1, 0, (const float[]) { 1, 0, 0, 1, 0, 0, 1, 0 });
    grad_start(&g, "GlobalMaxPool", "", 1, "ties");
    grad_floats(&g, x, 4, 1, 1, 2, 4);
    grad_exactly(&g, 1, 0, (const float[]) { 0, 0, 0, 1, 0, 0, 0, 0 });
}
