/* tests/ops/grad_activations.c — gradients of functions of one element, and of Clip, PRelu and Softmax. */
#include "ops/grad_check.h"

void grad_activations(void)
{
    grad g;
    grad_start(&g, "Relu", "", 14, "");
    grad_kink(&g, 0);
    grad_random(&g, -2, 2, 3, 3, 5, 7);
    grad_finish(&g, 1);
    grad_start(&g, "Relu", "", 14, "kink");
    grad_floats(&g, (const float[]) { -1, -0.0f, 0, 1e-30f, 2 }, 1, 5);
    grad_exactly(&g, 1, 0, (const float[]) { 0, 0, 0, 1, 1 });
}
