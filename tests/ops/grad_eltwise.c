/* tests/ops/grad_eltwise.c — gradients of operators of two and more operands: equal shapes, and every way of broadcasting. */
#include "ops/grad_check.h"

/* Operands in lo..hi. */
static void shapes(const char *op, float lo, float hi)
{
    grad g;
    grad_start(&g, op, "", 14, "same shape");
    grad_random(&g, lo, hi, 3, 2, 3, 5);
    grad_random(&g, lo, hi, 3, 2, 3, 5);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "channels");
    grad_random(&g, lo, hi, 4, 2, 3, 2, 3);
    grad_random(&g, lo, hi, 3, 3, 1, 1);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "rows, left operand smaller");
    grad_random(&g, lo, hi, 1, 5);
    grad_random(&g, lo, hi, 2, 7, 5);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "both repeated");
    grad_random(&g, lo, hi, 3, 2, 1, 4);
    grad_random(&g, lo, hi, 3, 1, 3, 1);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "a number");
    grad_random(&g, lo, hi, 2, 3, 4);
    grad_random(&g, lo, hi, 0);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "ranks");
    grad_random(&g, lo, hi, 3, 1, 1, 3);
    grad_random(&g, lo, hi, 1, 3);
    grad_finish(&g, 1);
}

/* More numbers than one thread takes at a time, which ends within a vector; operands of one shape, and repeated along each axis. */
static void large(const char *op, float lo, float hi)
{
    grad g;
    grad_start(&g, op, "", 14, "large");
    g.every = 1789;
    grad_random(&g, lo, hi, 3, 3, 107, 103);
    grad_random(&g, lo, hi, 3, 3, 107, 103);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "large, channels");
    g.every = 1789;
    grad_random(&g, lo, hi, 3, 3, 107, 103);
    grad_random(&g, lo, hi, 2, 107, 1);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "large, rows");
    g.every = 1789;
    grad_random(&g, lo, hi, 3, 3, 107, 103);
    grad_random(&g, lo, hi, 1, 103);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 14, "large, a number");
    g.every = 1789;
    grad_random(&g, lo, hi, 2, 321, 103);
    grad_random(&g, lo, hi, 0);
    grad_finish(&g, 1);
}

/* The winner changes from one element to the next. */
static void large_extreme(const char *op)
{
    grad g;
    grad_start(&g, op, "", 13, "large");
    g.every = 1789;
    const rq_tensor *a = grad_random(&g, -2, 2, 3, 3, 107, 103);
    rq_tensor *b = grad_random(&g, -2, 2, 3, 3, 107, 103);
    for (int64_t i = 0; i < rq_tensor_count(b); i++)
        b->f32[i] = a->f32[i] + (i % 3 ? 0.25f : -0.25f);
    grad_finish(&g, 1);
}

static void extreme(const char *op)
{
    grad g;
    grad_start(&g, op, "", 13, "two");
    grad_distinct(&g, 2, 3, 4);
    rq_tensor *b = grad_distinct(&g, 2, 3, 4);
    for (int64_t i = 0; i < 12; i++) /* between those of the first, which lie 5h apart */
        b->f32[i] += 2.5f / 64;
    grad_finish(&g, 1);
    grad_start(&g, op, "", 13, "two, repeated");
    grad_distinct(&g, 2, 6, 4);
    b = grad_distinct(&g, 1, 4);
    for (int64_t i = 0; i < 4; i++)
        b->f32[i] += 2.5f / 64;
    grad_finish(&g, 1);
    grad_start(&g, op, "", 13, "three");
    grad_floats(&g, (const float[]) { 1, 5, -3, 2, 7, 0 }, 2, 2, 3);
    grad_floats(&g, (const float[]) { 2, 4, -2 }, 1, 3);
    grad_floats(&g, (const float[]) { 3, -1 }, 2, 2, 1);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 13, "one");
    grad_random(&g, -1, 1, 1, 5);
    grad_finish(&g, 1);
    /* equal operands share, as torch.maximum does */
    for (int i = 0; i < 2; i++) {
        grad_start(&g, op, "", 13, "ties");
        grad_floats(&g, (const float[]) { 1, 2, 3 }, 1, 3);
        grad_floats(&g, (const float[]) { 1, 2, 3 }, 1, 3);
        grad_exactly(&g, 1, i, (const float[]) { 0.5f, 0.5f, 0.5f });
    }
}

static void many(const char *op)
{
    grad g;
    grad_start(&g, op, "", 13, "four");
    grad_random(&g, -1, 1, 2, 3, 4);
    grad_random(&g, -1, 1, 1, 4);
    grad_random(&g, -1, 1, 0);
    grad_random(&g, -1, 1, 2, 3, 1);
    grad_finish(&g, 1);
    grad_start(&g, op, "", 13, "one");
    grad_random(&g, -1, 1, 2, 3, 4);
    grad_finish(&g, 1);
}

static void powers(void)
{
    static const float e[] = { 2, 3, -1, 0.5f, 1, 2.5f, 0 };
    grad g;
    for (int i = 0; i < 7; i++) {
        grad_start(&g, "Pow", "", 15, "constant exponent");
        grad_random(&g, 0.5f, 2, 2, 3, 5);
        grad_floats(&g, &e[i], 0);
        grad_finish(&g, 1);
    }
    grad_start(&g, "Pow", "", 15, "square of what may be negative");
    grad_random(&g, -2, 2, 2, 3, 5);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 2 }, 0);
    grad_finish(&g, 1);
    grad_start(&g, "Pow", "", 15, "whole exponents");
    grad_random(&g, -2, 2, 2, 3, 4);
    grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { 1, 2, 3, 4 }, 1, 4);
    grad_finish(&g, 1);
    grad_start(&g, "Pow", "", 15, "zero");
    grad_floats(&g, (const float[]) { 0, 0, 0 }, 1, 3);
    grad_floats(&g, (const float[]) { 0, 1, 2 }, 1, 3);
    grad_exactly(&g, 1, 0, (const float[]) { 0, 1, 0 });
    grad_start(&g, "Pow", "", 15, "zero");
    grad_floats(&g, (const float[]) { 0, 0, 0 }, 1, 3);
    grad_floats(&g, (const float[]) { 0, 1, 2 }, 1, 3);
    grad_exactly(&g, 1, 1, (const float[]) { 0, 0, 0 });
}

void grad_eltwise(void)
{
    grad g;
    shapes("Add", -2, 2);
    shapes("Sub", -2, 2);
    shapes("Mul", -2, 2);
    shapes("Div", 0.5f, 2);
    shapes("Pow", 0.5f, 2);
    powers();
    large("Add", -2, 2);
    large("Sub", -2, 2);
    large("Mul", -2, 2);
    large("Div", 0.5f, 2);
    large("Pow", 0.5f, 2);
    large("Sum", -1, 1);
    large("Mean", -1, 1);
    large_extreme("Min");
    large_extreme("Max");
    extreme("Min");
    extreme("Max");
    many("Sum");
    many("Mean");
    for (int fmod = 0; fmod < 2; fmod++) {
        grad_start(&g, "Mod", "", fmod ? 13 : 28, fmod ? "as C has it" : "sign of the divisor");
        grad_set_int(&g, "fmod", fmod);
        grad_floats(&g, (const float[]) { 2.3f, -2.4f, 5.9f, -0.4f, 3.2f, -7.5f }, 2, 2, 3);
        grad_floats(&g, (const float[]) { 1, -0.9f, 1.7f }, 1, 3);
        grad_finish(&g, 1);
    }
    grad_start(&g, "PRelu", "", 16, "a slope per channel");
    grad_kink(&g, 0);
    grad_random(&g, -2, 2, 4, 2, 3, 2, 2);
    grad_random(&g, -1, 1, 3, 3, 1, 1);
    grad_finish(&g, 1);
    grad_start(&g, "PRelu", "", 16, "large");
    g.every = 1789;
    grad_kink(&g, 0);
    grad_random(&g, -2, 2, 3, 3, 107, 103);
    grad_random(&g, -1, 1, 2, 107, 1);
    grad_finish(&g, 1);
    grad_start(&g, "PRelu", "", 16, "one slope");
    grad_kink(&g, 0);
    grad_random(&g, -2, 2, 2, 3, 4);
    grad_random(&g, -1, 1, 1, 1);
    grad_finish(&g, 1);
}
