/* tests/ops/grad_activations.c — gradients of activations: functions of one element, Clip, Gelu in its forms, Softmax and LogSoftmax; and
 * at each kink PyTorch's choice. */
#include <math.h>

#include "ops/grad_check.h"

/* One operator around its kinks, with its default attributes and with others, the last time on more numbers than one thread takes at a time. */
static void one(const char *op, int64_t opset, float lo, float hi, int n_kinks, const float *kinks, const char *attr,
                float v)
{
    for (int form = attr ? 0 : 1; form < 3; form++) {
        const bool other = attr && form != 0, large = form == 2;
        grad g;
        grad_start(&g, op, "", opset, large ? "large" : other ? attr : "");
        for (int i = 0; i < n_kinks; i++)
            grad_kink(&g, kinks[i]);
        if (other)
            grad_set_float(&g, attr, v);
        g.h = 1.0 / 128;
        g.every = large ? 1789 : 1;
        grad_random(&g, lo, hi, 3, 3, large ? 107 : 5, large ? 103 : 7);
        grad_finish(&g, 1);
    }
}

/* Exactly these slopes at these points, which differences do not tell. */
static void kink(const char *op, int64_t opset, int n, const float *x, const float *slope)
{
    grad g;
    grad_start(&g, op, "", opset, "kinks");
    grad_floats(&g, x, 1, n);
    grad_exactly(&g, 1, 0, slope);
}

static void pieces(void)
{
    static const float zero[] = { 0 }, three[] = { -3, 3 }, two_and_half[] = { -2.5f, 2.5f };
    one("Relu", 14, -2, 2, 1, zero, NULL, 0);
    one("LeakyRelu", 16, -2, 2, 1, zero, "alpha", -0.5f);
    one("HardSwish", 14, -5, 5, 2, three, NULL, 0);
    one("HardSigmoid", 6, -4, 4, 2, two_and_half, NULL, 0);
    one("Elu", 6, -2, 2, 1, zero, "alpha", 0.25f);
    one("Selu", 6, -2, 2, 1, zero, "alpha", 0.5f);
    one("Celu", 12, -2, 2, 1, zero, "alpha", 2);
    one("ThresholdedRelu", 10, -2, 3, 1, (const float[]) { 1 }, NULL, 0);
    one("Shrink", 9, -2, 2, 2, (const float[]) { -0.5f, 0.5f }, "bias", 0.25f);
    const float beyond = nextafterf(3, 4);
    kink("Relu", 14, 5, (const float[]) { -1, -0.0f, 0, 1e-30f, 2 }, (const float[]) { 0, 0, 0, 1, 1 });
    kink("LeakyRelu", 16, 3, (const float[]) { -1, 0, 1 }, (const float[]) { 0.01f, 0.01f, 1 });
    kink("HardSwish", 14, 5, (const float[]) { -beyond, -3, 0, 3, beyond },
         (const float[]) { 0, -0.5f, 0.5f, 1.5f, 1 });
    kink("HardSigmoid", 6, 4, (const float[]) { -2.5f, -2.25f, 2.25f, 2.5f }, (const float[]) { 0, 0.2f, 0.2f, 0 });
    kink("Elu", 6, 2, (const float[]) { 0, 1 }, (const float[]) { 1, 1 });
    kink("Selu", 6, 2, (const float[]) { 0, 1 },
         (const float[]) { 1.05070102214813232421875f * 1.67326319217681884765625f, 1.05070102214813232421875f });
    kink("ThresholdedRelu", 10, 3, (const float[]) { 0, 1, 1.5f }, (const float[]) { 0, 0, 1 });
    kink("Shrink", 9, 5, (const float[]) { -0.75f, -0.5f, 0, 0.5f, 0.75f }, (const float[]) { 1, 0, 0, 0, 1 });
}

static void smooth(void)
{
    one("Sigmoid", 13, -4, 4, 0, NULL, NULL, 0);
    one("Tanh", 13, -3, 3, 0, NULL, NULL, 0);
    one("Swish", 24, -4, 4, 0, NULL, "alpha", 1.5f);
    one("Mish", 18, -4, 4, 0, NULL, NULL, 0);
    one("Softplus", 1, -4, 4, 0, NULL, NULL, 0);
    one("Softsign", 1, -4, 4, 1, (const float[]) { 0 }, NULL, 0); /* its second derivative jumps there */
    /* far out: no NaN */
    kink("Sigmoid", 13, 2, (const float[]) { -200, 200 }, (const float[]) { 0, 0 });
    kink("Swish", 24, 2, (const float[]) { -200, 200 }, (const float[]) { 0, 1 });
    kink("Mish", 18, 2, (const float[]) { -200, 200 }, (const float[]) { 0, 1 });
    kink("Softplus", 1, 2, (const float[]) { -200, 200 }, (const float[]) { 0, 1 });
}

static void clip(void)
{
    grad g;
    const float x[] = { -1, 0, 0.5f, 6, 7 }, slope[] = { 0, 0, 1, 0, 0 }; /* the ends as ReLU6 has them */
    grad_start(&g, "Clip", "", 6, "attributes");
    grad_set_float(&g, "min", 0);
    grad_set_float(&g, "max", 6);
    grad_floats(&g, x, 1, 5);
    grad_exactly(&g, 1, 0, slope);
    for (int form = 0; form < 4; form++) {
        grad_start(&g, "Clip", "", 13, "inputs");
        if (form & 1)
            grad_kink(&g, -0.5f);
        if (form & 2)
            grad_kink(&g, 0.75f);
        grad_random(&g, -2, 2, 2, 5, 9);
        if (form & 1)
            grad_floats(&g, (const float[]) { -0.5f }, 0);
        else
            grad_omit(&g);
        if (form & 2)
            grad_floats(&g, (const float[]) { 0.75f }, 0);
        grad_finish(&g, 1);
    }
    grad_start(&g, "Clip", "", 13, "large");
    g.every = 1789;
    grad_kink(&g, -0.5f);
    grad_kink(&g, 0.75f);
    grad_random(&g, -2, 2, 2, 321, 103);
    grad_floats(&g, (const float[]) { -0.5f }, 0);
    grad_floats(&g, (const float[]) { 0.75f }, 0);
    grad_finish(&g, 1);
    grad_start(&g, "Clip", "", 13, "the lower bound above the upper");
    grad_random(&g, -2, 2, 1, 9);
    grad_floats(&g, (const float[]) { 1 }, 0);
    grad_floats(&g, (const float[]) { -1 }, 0);
    grad_finish(&g, 1);
}

static void gelu(void)
{
    grad g;
    for (int tanh = 0; tanh < 2; tanh++) {
        grad_start(&g, "Gelu", "", 20, tanh ? "tanh" : "erf");
        grad_set_string(&g, "approximate", tanh ? "tanh" : "none");
        grad_random(&g, -4, 4, 2, 5, 21);
        grad_finish(&g, 1);
        grad_start(&g, "Gelu", "", 20, "large");
        g.every = 1789;
        grad_set_string(&g, "approximate", tanh ? "tanh" : "none");
        grad_random(&g, -4, 4, 2, 321, 103);
        grad_finish(&g, 1);
        grad_start(&g, tanh ? "FastGelu" : "BiasGelu", "com.microsoft", 1, "bias");
        grad_random(&g, -3, 3, 3, 2, 5, 7);
        grad_random(&g, -1, 1, 1, 7);
        grad_finish(&g, 1);
    }
    grad_start(&g, "FastGelu", "com.microsoft", 1, "without a bias");
    grad_random(&g, -3, 3, 2, 5, 7);
    grad_finish(&g, 1);
    grad_start(&g, "Gelu", "com.microsoft", 1, "");
    grad_random(&g, -3, 3, 2, 5, 7);
    grad_finish(&g, 1);
    grad_start(&g, "QuickGelu", "com.microsoft", 1, "");
    grad_random(&g, -3, 3, 2, 5, 7);
    grad_finish(&g, 1);
}

static void softmax(const char *op)
{
    static const struct form {
        int64_t opset, axis;
        const char *label;
    } forms[] = { { 13, -1, "last axis" }, { 13, 1, "middle axis" }, { 13, 0, "first axis" }, { 11, 1, "flattened" } };
    for (int i = 0; i < 4; i++) {
        grad g;
        grad_start(&g, op, "", forms[i].opset, forms[i].label);
        grad_set_int(&g, "axis", forms[i].axis);
        grad_random(&g, -2, 2, 4, 3, 4, 2, 5);
        grad_finish(&g, 1);
    }
    grad g;
    grad_start(&g, op, "", 13, "long rows");
    g.h = 1.0 / 16;
    grad_random(&g, -2, 2, 2, 2, 290);
    grad_finish(&g, 1);
    for (int axis = 0; axis < 3; axis++) {
        grad_start(&g, op, "", 13, "large");
        g.every = 1789;
        grad_set_int(&g, "axis", axis);
        grad_random(&g, -2, 2, 3, 31, 9, 67);
        grad_finish(&g, 1);
    }
    grad_start(&g, op, "", 13, "wide columns");
    grad_set_int(&g, "axis", 0);
    grad_random(&g, -2, 2, 2, 2, 290);
    grad_finish(&g, 1);
}

void grad_activations(void)
{
    pieces();
    smooth();
    clip();
    gelu();
    softmax("Softmax");
    softmax("LogSoftmax");
}
