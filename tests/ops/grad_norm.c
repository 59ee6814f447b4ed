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

void grad_norm(void)
{
    batch_norm();
    folded();
    around();
}
