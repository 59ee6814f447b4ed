/* tests/ops/grad_training.c — backward of what draws and counts while a graph is trained. */
#include "ops/grad_check.h"

void grad_dropout(void)
{
    const float ratios[] = { 0.5f, 0.2f, 0 };
    grad g;
    for (int i = 0; i < 3; i++) {
        grad_start(&g, "Dropout", "", 13, "drops");
        g.random = 7 + (uint64_t)i;
        grad_random(&g, -1, 1, 2, 5, 7);
        grad_floats(&g, &ratios[i], 0);
        grad_finish(&g, 1);
    }
    grad_start(&g, "Dropout", "", 13, "large");
    g.every = 1789;
    g.random = 11;
    grad_random(&g, -1, 1, 2, 321, 103);
    grad_floats(&g, &ratios[1], 0);
    grad_finish(&g, 1);
    grad_start(&g, "Dropout", "", 13, "in evaluation");
    g.eval = true;
    grad_random(&g, -1, 1, 2, 5, 7);
    grad_finish(&g, 1);
    grad_elsewhere("FakeQuantize", "requant", "tests/run/test_autograd_fakes.c");
}
