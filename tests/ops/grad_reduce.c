/* tests/ops/grad_reduce.c — gradients of reductions: which axes, kept or not, as input or attribute; ties and zeros. */
#include "ops/grad_check.h"

typedef enum numbers { ANY, POSITIVE, OFF_ZERO, DISTINCT } numbers;

static void input(grad *g, numbers kind)
{
    if (kind == DISTINCT) {
        grad_distinct(g, 4, 2, 3, 2, 3);
        return;
    }
    if (kind == OFF_ZERO)
        grad_kink(g, 0);
    grad_random(g, kind == POSITIVE ? 0.5f : -1.5f, 1.5f, 4, 2, 3, 2, 3);
}

static void all_axes(const char *op, numbers kind)
{
    static const struct axes {
        int n;
        int64_t axis[3];
    } axes[] = { { 1, { -1 } }, { 1, { 1 } }, { 2, { 2, 3 } }, { 2, { 0, 2 } }, { 3, { 0, 2, 3 } }, { 0, { 0 } } };
    grad g;
    for (int i = 0; i < 6; i++)
        for (int keep = 0; keep < 2; keep++) {
            grad_start(&g, op, "", 18, "axes are an input");
            grad_set_int(&g, "keepdims", keep);
            input(&g, kind);
            if (axes[i].n)
                grad_ints(&g, RQ_DTYPE_S64, axes[i].axis, 1, axes[i].n);
            grad_finish(&g, 1);
        }
    grad_start(&g, op, "", 11, "axes are an attribute");
    grad_set_ints(&g, "axes", 2, (const int64_t[]) { 1, -1 });
    input(&g, kind);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 18, "none");
    grad_set_int(&g, "noop_with_empty_axes", 1);
    input(&g, kind);
    grad_finish(&g, 1);
}

void grad_reduce(void)
{
    grad g;
    all_axes("ReduceSum", ANY);
    all_axes("ReduceMean", ANY);
    all_axes("ReduceMax", DISTINCT);
    all_axes("ReduceMin", DISTINCT);
    all_axes("ReduceProd", POSITIVE);
    all_axes("ReduceL1", OFF_ZERO);
    all_axes("ReduceL2", OFF_ZERO);
    all_axes("ReduceLogSum", POSITIVE);
    all_axes("ReduceLogSumExp", ANY);
    all_axes("ReduceSumSquare", ANY);
    /* ties share, as torch.amax has it */
    grad_start(&g, "ReduceMax", "", 18, "ties");
    grad_floats(&g, (const float[]) { 1, 3, 3, 0, 2, 2, 2, 1 }, 2, 2, 4);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1 }, 1, 1);
    grad_exactly(&g, 1, 0, (const float[]) { 0, 0.5f, 0.5f, 0, 1.0f / 3, 1.0f / 3, 1.0f / 3, 0 });
    grad_start(&g, "ReduceProd", "", 18, "zeros");
    grad_floats(&g, (const float[]) { 2, 0, 3, 0, 0, 5, 1, 2, 3 }, 2, 3, 3);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1 }, 1, 1);
    grad_exactly(&g, 1, 0, (const float[]) { 0, 6, 0, 0, 0, 0, 6, 3, 2 });
    grad_start(&g, "ReduceL2", "", 18, "of zeros");
    grad_floats(&g, (const float[]) { 0, 0, 3, 4 }, 2, 2, 2);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1 }, 1, 1);
    grad_exactly(&g, 1, 0, (const float[]) { 0, 0, 0.6f, 0.8f });
}
