/* tests/ops/grad_pool.c — gradients of pools: padding, dilation, windows that overlap, ceil_mode, one to three axes, ties. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

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

/* ---- NaN ---- */

/* A window with a NaN gives NaN, which is larger than all, and the gradient goes to it: PyTorch 2.7's numbers. Of several the first has it, as of equals. */
static void nan_of_pytorch(void)
{
    const float n = NAN, inf = INFINITY;
    const struct {
        int size, kernel, stride;
        float x[9], y[4], dx[9], at[4];
    } cases[] = {
        { 2, 2, 2, { 1, n, 3, 2 }, { n }, { 0, 1, 0, 0 }, { 1 } },
        { 2, 2, 2, { 1, inf, inf, n }, { n }, { 0, 0, 0, 1 }, { 3 } },
        { 2, 2, 2, { n, inf, 2, 2 }, { n }, { 1, 0, 0, 0 }, { 0 } },
        { 2, 2, 2, { -inf, -inf, -inf, -inf }, { -inf }, { 1, 0, 0, 0 }, { 0 } },
        { 3, 2, 1, { 1, 2, n, 4, 5, 6, 7, 8, 9 }, { 5, n, 8, 9 }, { 0, 0, 1, 0, 1, 0, 0, 1, 1 }, { 4, 2, 7, 8 } },
        { 3, 3, 3, { 1, 2, 3, 4, n, 6, 7, 8, 9 }, { n }, { 0, 0, 0, 0, 1, 0, 0, 0, 0 }, { 4 } },
        { 2, 2, 2, { 1, n, n, 2 }, { n }, { 0, 1, 0, 0 }, { 1 } }, /* PyTorch: the last */
    };
    for (size_t i = 0; i < 4 * sizeof cases / sizeof *cases; i++) {
        grad g;
        const int k = cases[i / 4].kernel, size = cases[i / 4].size, how = (int)(i % 4);
        grad_start(&g, how == 3 ? "GlobalMaxPool" : "MaxPool", "", 12, "NaN");
        if (how < 3) {
            grad_set_ints(&g, "kernel_shape", 2, (const int64_t[]) { k, k });
            grad_set_ints(&g, "strides", 2, (const int64_t[]) { cases[i / 4].stride, cases[i / 4].stride });
        }
        grad_floats(&g, cases[i / 4].x, 4, 1, 1, size, size);
        if (how == 0)
            grad_output(&g, 1, 0, cases[i / 4].y);
        else if (how == 1)
            grad_output(&g, 2, 1, cases[i / 4].at);
        else if (how == 2)
            grad_exactly(&g, 1, 0, cases[i / 4].dx);
        else if (k == size)
            grad_exactly(&g, 1, 0, cases[i / 4].dx);
        else
            grad_output(&g, 1, 0, (const float[]) { n });
    }
}

/* The same by its definition, of planes that are wide enough for vectors. */
static void nan_anywhere(const form *f, const int *dim, unsigned seed)
{
    enum { MOST = 7 * 45 };
    float x[MOST], y[MOST] = { 0 }, dx[MOST] = { 0 };
    const int rows = dim[0], columns = dim[1];
    grad g;
    for (int i = 0; i < rows * columns; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = seed >> 28 == 0 ? NAN : (float)(seed >> 8 & 0xff) / 16;
    }
    int n = 0, out[2];
    for (int d = 0; d < 2; d++)
        out[d] =
            (int)((dim[d] + f->pads[d] + f->pads[d + 2] - f->dilation[d] * (f->kernel[d] - 1) - 1) / f->stride[d]) + 1;
    for (int r = 0; r < out[0]; r++)
        for (int c = 0; c < out[1]; c++) {
            int best = -1;
            for (int i = 0; i < f->kernel[0]; i++)
                for (int k = 0; k < f->kernel[1]; k++) {
                    const int u = (int)(r * f->stride[0] - f->pads[0] + i * f->dilation[0]),
                              v = (int)(c * f->stride[1] - f->pads[1] + k * f->dilation[1]), at = u * columns + v;
                    if (u >= 0 && v >= 0 && u < rows && v < columns &&
                        (best < 0 || x[at] > x[best] || (isnan(x[at]) && !isnan(x[best]))))
                        best = at;
                }
            dx[best] += 1;
            y[n++] = x[best];
        }
    for (int back = 0; back < 2; back++) {
        start(&g, "MaxPool", 12, f);
        grad_floats(&g, x, 4, 1, 1, rows, columns);
        if (back)
            grad_exactly(&g, 1, 0, dx);
        else
            grad_output(&g, 1, 0, y);
    }
}

static void nan_in_pools(void)
{
    static const form wide[] = {
        { "NaN, quarters", 4, { 0 }, { 2, 2 }, { 2, 2 }, { 1, 1 }, { 0 }, false },
        { "NaN, 3x3 that overlap", 4, { 0 }, { 3, 3 }, { 2, 2 }, { 1, 1 }, { 1, 1, 1, 1 }, false },
        { "NaN, dilation", 4, { 0 }, { 2, 3 }, { 1, 1 }, { 2, 2 }, { 0, 1, 1, 0 }, false },
    };
    static const int dims[][2] = { { 6, 44 }, { 7, 45 }, { 4, 7 } };
    nan_of_pytorch();
    for (int i = 0; i < 9; i++)
        nan_anywhere(&wide[i % 3], dims[i / 3], (unsigned)i);
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
    grad_start(&g, "MaxPool", "", 12,
               "windows beside a volume of one plane"); /* they give -inf, too, and none of it is x */
    grad_set_ints(&g, "kernel_shape", 3, (const int64_t[]) { 1, 1, 1 });
    grad_set_ints(&g, "pads", 6, (const int64_t[]) { 1, 0, 0, 1, 0, 0 });
    grad_floats(&g, (const float[]) { -INFINITY, 2 }, 5, 1, 1, 1, 1, 2);
    grad_exactly(&g, 1, 0, (const float[]) { 1, 1 });
    nan_in_pools();
}
