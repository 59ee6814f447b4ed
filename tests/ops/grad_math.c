/* tests/ops/grad_math.c — gradients of functions of one element that are no activations. */
#include "ops/grad_check.h"

static void one(const char *op, float lo, float hi)
{
    grad g;
    for (int large = 0; large < 2; large++) { /* more numbers than one thread takes at a time */
        grad_start(&g, op, "", 22, large ? "large" : "");
        g.h = 1.0 / 128;
        g.every = large ? 1789 : 1;
        grad_random(&g, lo, hi, 3, 3, large ? 107 : 5, large ? 103 : 7);
        grad_finish(&g, 1);
    }
}

static void flat(const char *op)
{
    grad g;
    grad_start(&g, op, "", 22, "flat");
    grad_floats(&g, (const float[]) { -1.2f, 0.3f, 0.7f, 5.1f }, 1, 4);
    grad_finish(&g, 1);
}

void grad_math(void)
{
    grad g;
    grad_start(&g, "Abs", "", 13, "");
    grad_kink(&g, 0);
    grad_random(&g, -2, 2, 2, 3, 40);
    grad_finish(&g, 1);
    grad_start(&g, "Abs", "", 13, "kink");
    grad_floats(&g, (const float[]) { -1, 0, 1 }, 1, 3);
    grad_exactly(&g, 1, 0, (const float[]) { -1, 0, 1 });
    one("Neg", -2, 2);
    one("Exp", -2, 2);
    one("Log", 0.3f, 3);
    one("Sqrt", 0.3f, 3);
    one("Reciprocal", 0.4f, 3);
    one("Sin", -3, 3);
    one("Cos", -3, 3);
    one("Tan", -1, 1);
    one("Asin", -0.8f, 0.8f);
    one("Acos", -0.8f, 0.8f);
    one("Atan", -3, 3);
    one("Sinh", -2, 2);
    one("Cosh", -2, 2);
    one("Asinh", -3, 3);
    one("Acosh", 1.3f, 3);
    one("Atanh", -0.8f, 0.8f);
    one("Erf", -2, 2);
    flat("Floor");
    flat("Ceil");
    flat("Round");
    flat("Sign");
    grad_start(&g, "Cast", "", 13, "");
    grad_set_int(&g, "to", 1);
    grad_random(&g, -2, 2, 2, 3, 4);
    grad_finish(&g, 1);
    grad_start(&g, "CastLike", "", 15, "");
    grad_random(&g, -2, 2, 2, 3, 4);
    grad_floats(&g, (const float[]) { 1 }, 0);
    grad_finish(&g, 1);
}
