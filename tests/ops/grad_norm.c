/* tests/ops/grad_norm.c — gradients of the normalizations. */
#include <stdio.h>

#include "ops/grad_check.h"

/* Weight, bias, running mean, running variance of C channels. */
static void batch_inputs(grad *g, int channels)
{
    grad_random(g, -1.5f, 1.5f, 1, channels);
    grad_random(g, -1, 1, 1, channels);
    grad_random(g, -0.5f, 0.5f, 1, channels);
    grad_random(g, 0.25f, 2, 1, channels);
}

static void batch_norm(void)
{
    grad g;
    for (int eval = 0; eval < 2; eval++) {
        grad_start(&g, "BatchNormalization", "", 15, eval ? "images, evaluation" : "images");
        g.eval = eval;
        grad_random(&g, -2, 2, 4, 3, 2, 5, 7);
        batch_inputs(&g, 2);
        grad_finish(&g, 1);
        grad_start(&g, "BatchNormalization", "", 15, eval ? "vectors, evaluation" : "vectors");
        g.eval = eval;
        grad_random(&g, -2, 2, 2, 7, 5);
        batch_inputs(&g, 5);
        grad_finish(&g, 1);
    }
    grad_start(&g, "BatchNormalization", "", 9, "sequences, short");
    grad_set_float(&g, "epsilon", 0.25f);
    grad_random(&g, 1, 2, 3, 4, 3, 3);
    batch_inputs(&g, 3);
    grad_finish(&g, 1);
    grad_start(&g, "BatchNormalization", "", 15, "a long channel");
    g.tol = 3e-3;
    g.h = 1.0 / 16;
    grad_random(&g, -2, 2, 3, 2, 1, 270);
    batch_inputs(&g, 1);
    grad_finish(&g, 1);
}

/* Every combination of bias and mode; k of both signs, not what gamma and the variance say. */
static void folded(void)
{
    for (int form = 0; form < 8; form++) {
        grad g;
        char label[64];
        const bool eval = form & 1, bias = form & 2, vectors = form & 4;
        snprintf(label, sizeof label, "%s%s%s", eval ? "evaluation" : "train", bias ? ", bias" : "",
                 vectors ? ", vectors" : "");
        grad_start(&g, "FoldedBatchNorm", "requant", 1, label);
        g.eval = eval;
        grad_set_float(&g, "epsilon", 0.125f); /* large, so that its part of the gradient of k shows */
        if (vectors)
            grad_random(&g, -2, 2, 2, 9, 4);
        else
            grad_random(&g, -2, 2, 4, 2, 4, 3, 6);
        grad_floats(&g, (const float[]) { 0.75f, -1.25f, 1.5f, -0.5f }, 1, 4);
        if (bias)
            grad_random(&g, -1, 1, 1, 4);
        else
            grad_omit(&g);
        batch_inputs(&g, 4);
        grad_finish(&g, 1);
    }
}

static void around(void)
{
    grad g;
    grad_start(&g, "BatchNormScale", "requant", 1, "");
    grad_set_float(&g, "epsilon", 0.0625f);
    grad_random(&g, -1, 1, 1, 5);
    grad_random(&g, 0.125f, 2, 1, 5);
    grad_finish(&g, 1);
    grad_start(&g, "ScaleChannels", "requant", 1, "of Conv");
    grad_random(&g, -1, 1, 4, 5, 2, 3, 3);
    grad_random(&g, -1, 1, 1, 5);
    grad_finish(&g, 1);
    grad_start(&g, "ScaleChannels", "requant", 1, "of ConvTranspose in groups");
    grad_set_int(&g, "axis", 1);
    grad_set_int(&g, "group", 2);
    grad_random(&g, -1, 1, 3, 4, 3, 5);
    grad_random(&g, -1, 1, 1, 6);
    grad_finish(&g, 1);
    grad_start(&g, "ScaleChannels", "requant", 1, "of a matrix");
    grad_set_int(&g, "axis", -1);
    grad_random(&g, -1, 1, 2, 6, 4);
    grad_random(&g, -1, 1, 1, 4);
    grad_finish(&g, 1);
}

/* Layer norm and RMS norm: axis, which outputs are wanted, how weight and bias lie. */
static void layers(void)
{
    grad g;
    for (int outputs = 1; outputs <= 3; outputs++) {
        grad_start(&g, "LayerNormalization", "", 17, outputs > 1 ? "mean and deviation go on" : "last axis");
        grad_random(&g, -2, 2, 3, 3, 2, 19);
        grad_random(&g, -1, 1, 1, 19);
        grad_random(&g, -1, 1, 1, 19);
        grad_finish(&g, outputs);
    }
    grad_start(&g, "LayerNormalization", "", 17, "two axes, no bias");
    grad_set_int(&g, "axis", 1);
    grad_random(&g, -2, 2, 3, 3, 4, 5);
    grad_random(&g, -1, 1, 2, 4, 5);
    grad_finish(&g, 1);
    grad_start(&g, "LayerNormalization", "", 17, "weight broadcast within the row");
    grad_set_int(&g, "axis", 1);
    grad_random(&g, -2, 2, 3, 3, 4, 5);
    grad_random(&g, -1, 1, 2, 4, 1);
    grad_random(&g, -1, 1, 1, 5);
    grad_finish(&g, 1);
    grad_start(&g, "LayerNormalization", "", 17, "wide");
    g.h = 1.0 / 16;
    g.tol = 3e-3;
    grad_random(&g, -2, 2, 2, 2, 300);
    grad_random(&g, -1, 1, 1, 300);
    grad_random(&g, -1, 1, 1, 300);
    grad_finish(&g, 1);
    grad_start(&g, "RMSNormalization", "", 23, "");
    grad_random(&g, -2, 2, 2, 4, 19);
    grad_random(&g, -1, 1, 1, 19);
    grad_finish(&g, 1);
    grad_start(&g, "SimplifiedLayerNormalization", "", 17, "deviation goes on");
    grad_random(&g, -2, 2, 2, 4, 19);
    grad_random(&g, -1, 1, 1, 19);
    grad_finish(&g, 2);
}

/* SkipLayerNormalization and its like: with and without beta and a bias, the sum going on, a skip that is repeated. */
static void skips(void)
{
    static const struct skip {
        const char *label;
        bool rms, beta, bias, repeated;
        int outputs;
    } forms[] = {
        { "plain", false, false, false, false, 1 },    { "beta and bias", false, true, true, false, 1 },
        { "bias alone", false, false, true, true, 1 }, { "the sum goes on", false, true, true, false, 4 },
        { "plain", true, false, false, true, 1 },      { "bias, the sum goes on", true, false, true, false, 4 },
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        grad g;
        grad_start(&g, forms[i].rms ? "SkipSimplifiedLayerNormalization" : "SkipLayerNormalization", "com.microsoft", 1,
                   forms[i].label);
        g.absent[1] = g.absent[2] = forms[i].outputs > 1;
        grad_random(&g, -2, 2, 3, 2, 3, 11);
        if (forms[i].repeated)
            grad_random(&g, -2, 2, 2, 3, 11);
        else
            grad_random(&g, -2, 2, 3, 2, 3, 11);
        grad_random(&g, -1, 1, 1, 11);
        if (forms[i].beta)
            grad_random(&g, -1, 1, 1, 11);
        else if (forms[i].bias && !forms[i].rms)
            grad_omit(&g);
        if (forms[i].bias)
            grad_random(&g, -1, 1, 1, 11);
        grad_finish(&g, forms[i].outputs);
    }
}

static void images(void)
{
    grad g;
    grad_start(&g, "InstanceNormalization", "", 6, "");
    grad_random(&g, -2, 2, 4, 2, 3, 4, 5);
    grad_random(&g, -1, 1, 1, 3);
    grad_random(&g, -1, 1, 1, 3);
    grad_finish(&g, 1);
    for (int opset = 18; opset <= 21; opset += 3) {
        grad_start(&g, "GroupNormalization", "", opset, opset == 18 ? "weight per group" : "weight per channel");
        grad_set_int(&g, "num_groups", 2);
        grad_random(&g, -2, 2, 4, 2, 6, 3, 5);
        grad_random(&g, -1, 1, 1, opset == 18 ? 2 : 6);
        grad_random(&g, -1, 1, 1, opset == 18 ? 2 : 6);
        grad_finish(&g, 1);
    }
    for (int size = 1; size <= 4; size++) {
        grad_start(&g, "LRN", "", 13, "");
        grad_set_int(&g, "size", size);
        grad_set_float(&g, "alpha", 0.5f);
        grad_random(&g, -2, 2, 4, 2, 5, 2, 3);
        grad_finish(&g, 1);
    }
    for (int p = 1; p <= 2; p++)
        for (int axis = 0; axis < 3; axis++) {
            grad_start(&g, "LpNormalization", "", 22, "");
            grad_set_int(&g, "p", p);
            grad_set_int(&g, "axis", axis);
            grad_kink(&g, 0);
            grad_random(&g, -2, 2, 3, 3, 4, 5);
            grad_finish(&g, 1);
        }
    grad_start(&g, "MeanVarianceNormalization", "", 13, "");
    grad_random(&g, -2, 2, 4, 2, 3, 4, 5);
    grad_finish(&g, 1);
    grad_start(&g, "MeanVarianceNormalization", "", 13, "axes");
    grad_set_ints(&g, "axes", 2, (const int64_t[]) { 1, -1 });
    grad_random(&g, -2, 2, 3, 3, 4, 5);
    grad_finish(&g, 1);
}

void grad_norm(void)
{
    layers();
    skips();
    images();
    batch_norm();
    folded();
    around();
}
