/* tests/ops/grad_products.c — gradients of convolutions and matrix products; every case with our own kernels and with oneDNN's. */
#include "ops/grad_check.h"

typedef struct conv {
    const char *op, *label;
    int nd;
    int64_t x[5], w[5]; /* shapes; nd + 2 of them */
    int64_t group;
    int64_t stride[3], dilation[3], pad[6], output_padding[3]; /* strides 0: left out */
    bool bias;
} conv;

static const conv convs[] = {
    { "Conv", "2-D", 2, { 2, 3, 5, 6 }, { 4, 3, 3, 3 }, 1, { 0 }, { 1, 1 }, { 1, 1, 1, 1 }, { 0 }, true },
    { "Conv", "2-D, no padding", 2, { 3, 2, 5, 5 }, { 3, 2, 2, 3 }, 1, { 0 }, { 1, 1 }, { 0 }, { 0 }, false },
    { "Conv",
      "stride, asymmetric",
      2,
      { 2, 2, 7, 6 },
      { 3, 2, 3, 2 },
      1,
      { 2, 3 },
      { 1, 1 },
      { 1, 0, 2, 1 },
      { 0 },
      true },
    { "Conv", "stride leaves a rest", 2, { 1, 2, 8, 8 }, { 2, 2, 3, 3 }, 1, { 3, 2 }, { 1, 1 }, { 0 }, { 0 }, true },
    { "Conv", "dilation", 2, { 2, 2, 7, 8 }, { 2, 2, 3, 3 }, 1, { 1, 2 }, { 2, 3 }, { 2, 3, 2, 3 }, { 0 }, true },
    { "Conv", "groups", 2, { 2, 6, 4, 5 }, { 4, 3, 3, 3 }, 2, { 1, 1 }, { 1, 1 }, { 1, 1, 1, 1 }, { 0 }, true },
    { "Conv", "depthwise", 2, { 2, 5, 5, 6 }, { 5, 1, 3, 3 }, 5, { 1, 1 }, { 1, 1 }, { 1, 1, 1, 1 }, { 0 }, true },
    { "Conv",
      "depthwise, stride",
      2,
      { 2, 16, 5, 6 },
      { 16, 1, 3, 3 },
      16,
      { 2, 2 },
      { 1, 1 },
      { 1, 0, 1, 1 },
      { 0 },
      false },
    { "Conv",
      "two filters a group",
      2,
      { 2, 3, 5, 4 },
      { 6, 1, 3, 3 },
      3,
      { 1, 1 },
      { 1, 1 },
      { 1, 1, 1, 1 },
      { 0 },
      true },
    { "Conv", "pixels", 2, { 2, 6, 3, 4 }, { 5, 6, 1, 1 }, 1, { 1, 1 }, { 1, 1 }, { 0 }, { 0 }, true },
    { "Conv", "pixels, stride", 2, { 2, 4, 5, 4 }, { 5, 4, 1, 1 }, 1, { 2, 2 }, { 1, 1 }, { 0 }, { 0 }, false },
    { "Conv", "1-D", 1, { 2, 3, 9 }, { 4, 3, 3 }, 1, { 2 }, { 1 }, { 1, 1 }, { 0 }, true },
    { "Conv", "1-D, depthwise, dilation", 1, { 3, 4, 9 }, { 4, 1, 3 }, 4, { 1 }, { 2 }, { 2, 1 }, { 0 }, true },
    { "Conv",
      "3-D",
      3,
      { 1, 2, 3, 4, 5 },
      { 3, 2, 2, 3, 2 },
      1,
      { 1, 2, 1 },
      { 1, 1, 1 },
      { 1, 0, 1, 0, 1, 0 },
      { 0 },
      true },
    { "Conv",
      "3-D, groups, dilation",
      3,
      { 1, 4, 4, 4, 4 },
      { 4, 2, 2, 2, 2 },
      2,
      { 1, 1, 1 },
      { 2, 1, 2 },
      { 1, 1, 1, 1, 1, 1 },
      { 0 },
      false },
    { "Conv", "16 channels", 2, { 2, 16, 4, 4 }, { 16, 16, 3, 3 }, 1, { 1, 1 }, { 1, 1 }, { 1, 1, 1, 1 }, { 0 }, true },
    { "ConvTranspose", "2-D", 2, { 2, 3, 4, 3 }, { 3, 2, 3, 3 }, 1, { 0 }, { 1, 1 }, { 0 }, { 0 }, true },
    { "ConvTranspose",
      "stride, pads",
      2,
      { 2, 2, 3, 4 },
      { 2, 3, 3, 2 },
      1,
      { 2, 3 },
      { 1, 1 },
      { 1, 0, 1, 1 },
      { 1, 1 },
      true },
    { "ConvTranspose", "blocks", 2, { 2, 3, 3, 3 }, { 3, 4, 2, 2 }, 1, { 2, 2 }, { 1, 1 }, { 0 }, { 0 }, false },
    { "ConvTranspose",
      "groups, dilation",
      2,
      { 2, 4, 4, 3 },
      { 4, 3, 2, 3 },
      2,
      { 1, 2 },
      { 2, 1 },
      { 1, 1, 0, 1 },
      { 0 },
      true },
    { "ConvTranspose",
      "depthwise",
      2,
      { 2, 4, 4, 3 },
      { 4, 1, 3, 3 },
      4,
      { 2, 2 },
      { 1, 1 },
      { 1, 1, 1, 1 },
      { 1, 1 },
      true },
    { "ConvTranspose", "1-D", 1, { 2, 3, 5 }, { 3, 2, 4 }, 1, { 2 }, { 1 }, { 1, 1 }, { 0 }, true },
    { "ConvTranspose",
      "1-D, long output padding",
      1,
      { 2, 3, 5 },
      { 3, 2, 2 },
      1,
      { 3 },
      { 1 },
      { 0, 0 },
      { 2 },
      true },
    { "ConvTranspose",
      "3-D",
      3,
      { 1, 2, 2, 3, 2 },
      { 2, 2, 2, 2, 3 },
      1,
      { 1, 2, 2 },
      { 1, 1, 1 },
      { 0, 0, 1, 1, 0, 1 },
      { 0 },
      true },
};

static rq_tensor *random_of(grad *g, int rank, const int64_t *d)
{
    const int s[5] = { (int)d[0], (int)d[1], (int)d[2], (int)d[3], (int)d[4] };
    return grad_random(g, -1, 1, rank, s[0], s[1], s[2], s[3], s[4]);
}

void grad_convolutions(void)
{
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        for (int onednn = 0; onednn < 2; onednn++) {
            const conv *c = &convs[i];
            grad g;
            grad_start(&g, c->op, "", 21, c->label);
            g.onednn = onednn;
            grad_set_int(&g, "group", c->group);
            if (c->stride[0])
                grad_set_ints(&g, "strides", c->nd, c->stride);
            grad_set_ints(&g, "dilations", c->nd, c->dilation);
            grad_set_ints(&g, "pads", 2 * c->nd, c->pad);
            if (c->output_padding[0])
                grad_set_ints(&g, "output_padding", c->nd, c->output_padding);
            random_of(&g, c->nd + 2, c->x);
            random_of(&g, c->nd + 2, c->w);
            if (c->bias)
                grad_random(&g, -1, 1, 1, (int)(c->op[4] ? c->w[1] * c->group : c->w[0]));
            grad_finish(&g, 1);
        }
}

typedef struct gemm {
    const char *label;
    bool ta, tb;
    float alpha, beta;
    int c_rank, c[2];
} gemm;

static const gemm gemms[] = {
    { "plain", false, false, 1, 1, -1, { 0 } },
    { "row", false, true, 1, 3, 1, { 7 } },
    { "column", true, false, 0.5f, 2, 2, { 5, 1 } },
    { "whole", true, true, -1.5f, 0.5f, 2, { 5, 7 } },
    { "scalar", false, true, 1, -1, 0, { 0 } },
    { "one", false, false, 2, 3, 1, { 1 } },
    { "row of a matrix", true, true, 1, 0.5f, 2, { 1, 7 } },
};

typedef struct matmul {
    const char *label;
    int ra, a[4], rb, b[4];
} matmul;

static const matmul matmuls[] = {
    { "matrices", 2, { 4, 5 }, 2, { 5, 3 } },
    { "vectors", 1, { 5 }, 1, { 5 } },
    { "a vector on the left", 1, { 5 }, 2, { 5, 3 } },
    { "a vector on the right", 2, { 4, 5 }, 1, { 5 } },
    { "a batch and a vector", 3, { 2, 4, 5 }, 1, { 5 } },
    { "a vector and a batch", 1, { 4 }, 3, { 2, 4, 5 } },
    { "batches", 3, { 3, 4, 5 }, 3, { 3, 5, 2 } },
    { "one matrix on the right", 4, { 2, 3, 2, 5 }, 2, { 5, 3 } },
    { "one matrix on the left", 2, { 4, 5 }, 3, { 3, 5, 2 } },
    { "batches broadcast both ways", 4, { 2, 1, 3, 4 }, 4, { 1, 3, 4, 2 } },
    { "batches broadcast, missing axes", 3, { 3, 2, 4 }, 4, { 2, 1, 4, 3 } },
    { "a batch of one", 3, { 1, 2, 4 }, 3, { 3, 4, 2 } },
};

/* Sizes that a call takes one by one. */
static void sized(grad *g, int rank, const int *d)
{
    if (rank == 0)
        grad_random(g, -1, 1, 0);
    else
        grad_random(g, -1, 1, rank, d[0], d[1], rank > 2 ? d[2] : 0, rank > 3 ? d[3] : 0);
}

void grad_matrix_products(void)
{
    grad g;
    for (int onednn = 0; onednn < 2; onednn++) {
        for (size_t i = 0; i < sizeof gemms / sizeof *gemms; i++) {
            const gemm *m = &gemms[i];
            grad_start(&g, "Gemm", "", 13, m->label);
            g.onednn = onednn;
            grad_set_int(&g, "transA", m->ta);
            grad_set_int(&g, "transB", m->tb);
            grad_set_float(&g, "alpha", m->alpha);
            grad_set_float(&g, "beta", m->beta);
            sized(&g, 2, m->ta ? (int[]) { 6, 5 } : (int[]) { 5, 6 });
            sized(&g, 2, m->tb ? (int[]) { 7, 6 } : (int[]) { 6, 7 });
            if (m->c_rank >= 0)
                sized(&g, m->c_rank, m->c);
            grad_finish(&g, 1);
        }
        for (size_t i = 0; i < sizeof matmuls / sizeof *matmuls; i++) {
            const matmul *m = &matmuls[i];
            grad_start(&g, "MatMul", "", 13, m->label);
            g.onednn = onednn;
            sized(&g, m->ra, m->a);
            sized(&g, m->rb, m->b);
            grad_finish(&g, 1);
        }
        for (int trans = 0; trans < 4; trans++) {
            grad_start(&g, "FusedMatMul", "com.microsoft", 1, "");
            g.onednn = onednn;
            grad_set_int(&g, "transA", trans & 1);
            grad_set_int(&g, "transB", trans >> 1);
            grad_set_float(&g, "alpha", 0.5f);
            sized(&g, 3, trans & 1 ? (int[]) { 2, 5, 3 } : (int[]) { 2, 3, 5 });
            sized(&g, 3, trans >> 1 ? (int[]) { 2, 4, 5 } : (int[]) { 2, 5, 4 });
            grad_finish(&g, 1);
        }
        grad_start(&g, "TransposeMatMul", "com.microsoft", 1, "");
        g.onednn = onednn;
        grad_set_int(&g, "transB", 1);
        sized(&g, 2, (int[]) { 3, 5 });
        sized(&g, 2, (int[]) { 4, 5 });
        grad_finish(&g, 1);
        grad_start(&g, "FusedMatMul", "com.microsoft", 1, "rows first");
        g.onednn = onednn;
        grad_set_int(&g, "transBatchA", 1);
        grad_set_int(&g, "transBatchB", 1);
        sized(&g, 3, (int[]) { 3, 2, 5 });
        sized(&g, 3, (int[]) { 5, 2, 4 });
        grad_finish(&g, 1);
    }
}

typedef struct equation {
    const char *text;
    int n, rank[3], d[3][4];
} equation;

static const equation equations[] = {
    { "ij,jk->ik", 2, { 2, 2 }, { { 3, 4 }, { 4, 5 } } },
    { "bhid,bhjd->bhij", 2, { 4, 4 }, { { 2, 2, 3, 4 }, { 2, 2, 5, 4 } } },
    { "bij,bkj->kbi", 2, { 3, 3 }, { { 2, 3, 4 }, { 2, 5, 4 } } },
    { "i,j->ji", 2, { 1, 1 }, { { 3 }, { 4 } } },
    { "...ij,...jk", 2, { 3, 2 }, { { 2, 3, 4 }, { 4, 5 } } },
    { "bi,bi->b", 2, { 2, 2 }, { { 3, 4 }, { 3, 1 } } }, /* a size stretched from 1 */
    { "ijk->ki", 1, { 3 }, { { 2, 3, 4 } } },            /* a sum */
    { "ii->i", 1, { 2 }, { { 4, 4 } } },                 /* a diagonal */
    { "ii", 1, { 2 }, { { 4, 4 } } },                    /* a trace */
    { "ij,jk->i", 2, { 2, 2 }, { { 3, 4 }, { 4, 2 } } }, /* a label that only one has */
    { "ij,jk,kl->il", 3, { 2, 2, 2 }, { { 2, 3 }, { 3, 4 }, { 4, 2 } } },
};

void grad_einsum(void)
{
    for (size_t i = 0; i < sizeof equations / sizeof *equations; i++)
        for (int onednn = 0; onednn < 2; onednn++) {
            const equation *e = &equations[i];
            grad g;
            grad_start(&g, "Einsum", "", 12, e->text);
            g.onednn = onednn;
            grad_set_string(&g, "equation", e->text);
            for (int k = 0; k < e->n; k++)
                sized(&g, e->rank[k], (int[]) { e->d[k][0], e->d[k][1], e->d[k][2], e->d[k][3] });
            grad_finish(&g, 1);
        }
}
