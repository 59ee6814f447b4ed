/* tests/ops/grad_layout.c — gradients of operators that move elements: another shape, another order, cut, joined, repeated, gathered. */
#include "ops/grad_check.h"

static void ints(grad *g, int n, const int64_t *v)
{
    grad_ints(g, RQ_DTYPE_S64, v, 1, n);
}

#define INTS(g, ...)                                                                                                   \
    ints(g, (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ })

static void views(void)
{
    grad g;
    grad_start(&g, "Reshape", "", 14, "");
    grad_random(&g, -1, 1, 3, 2, 3, 4);
    INTS(&g, 0, -1);
    grad_finish(&g, 1);
    grad_start(&g, "Flatten", "", 13, "");
    grad_random(&g, -1, 1, 3, 2, 3, 4);
    grad_finish(&g, 1);
    grad_start(&g, "Squeeze", "", 13, "axes");
    grad_random(&g, -1, 1, 4, 2, 1, 3, 1);
    INTS(&g, 1);
    grad_finish(&g, 1);
    grad_start(&g, "Unsqueeze", "", 13, "");
    grad_random(&g, -1, 1, 2, 2, 3);
    INTS(&g, 0, -1);
    grad_finish(&g, 1);
    grad_start(&g, "Identity", "", 16, "");
    grad_random(&g, -1, 1, 2, 2, 3);
    grad_finish(&g, 1);
}

static void orders(void)
{
    static const int64_t perms[][4] = { { 0, 2, 1, 3 }, { 3, 1, 0, 2 }, { 1, 2, 3, 0 }, { 0, 2, 3, 1 } };
    grad g;
    grad_start(&g, "Transpose", "", 13, "reversed");
    grad_random(&g, -1, 1, 3, 2, 3, 4);
    grad_finish(&g, 1);
    for (int i = 0; i < 4; i++) {
        grad_start(&g, "Transpose", "", 13, "perm");
        grad_set_ints(&g, "perm", 4, perms[i]);
        grad_random(&g, -1, 1, 4, 2, 3, 4, 5);
        grad_finish(&g, 1);
    }
    for (int crd = 0; crd < 2; crd++) {
        grad_start(&g, "DepthToSpace", "", 13, "");
        grad_set_int(&g, "blocksize", 2);
        grad_set_string(&g, "mode", crd ? "CRD" : "DCR");
        grad_random(&g, -1, 1, 4, 2, 8, 2, 3);
        grad_finish(&g, 1);
    }
    grad_start(&g, "SpaceToDepth", "", 13, "");
    grad_set_int(&g, "blocksize", 2);
    grad_random(&g, -1, 1, 4, 2, 3, 4, 6);
    grad_finish(&g, 1);
}

static void repeats(void)
{
    grad g;
    grad_start(&g, "Expand", "", 13, "");
    grad_random(&g, -1, 1, 3, 3, 1, 2);
    INTS(&g, 2, 1, 4, 1);
    grad_finish(&g, 1);
    grad_start(&g, "Expand", "", 13, "nothing repeated");
    grad_random(&g, -1, 1, 2, 3, 2);
    INTS(&g, 3, 2);
    grad_finish(&g, 1);
    grad_start(&g, "Tile", "", 13, "");
    grad_random(&g, -1, 1, 3, 2, 3, 2);
    INTS(&g, 2, 1, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Tile", "", 13, "every axis");
    grad_random(&g, -1, 1, 2, 2, 3);
    INTS(&g, 3, 2);
    grad_finish(&g, 1);
    grad_start(&g, "Tile", "", 13, "to nothing");
    grad_random(&g, -1, 1, 2, 2, 3);
    INTS(&g, 0, 2);
    grad_finish(&g, 1);
}

static void cuts(void)
{
    grad g;
    grad_start(&g, "Concat", "", 13, "inner");
    grad_set_int(&g, "axis", 1);
    grad_random(&g, -1, 1, 3, 2, 3, 2);
    grad_random(&g, -1, 1, 3, 2, 1, 2);
    grad_random(&g, -1, 1, 3, 2, 2, 2);
    grad_finish(&g, 1);
    grad_start(&g, "Concat", "", 13, "from the end");
    grad_set_int(&g, "axis", -2);
    grad_random(&g, -1, 1, 2, 2, 3);
    grad_random(&g, -1, 1, 2, 4, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Split", "", 13, "sizes");
    grad_set_int(&g, "axis", 1);
    grad_random(&g, -1, 1, 3, 2, 6, 2);
    INTS(&g, 1, 3, 2);
    grad_finish(&g, 3);
    grad_start(&g, "Split", "", 13, "a part that is not wanted");
    grad_set_int(&g, "axis", 1);
    grad_random(&g, -1, 1, 3, 2, 6, 2);
    INTS(&g, 1, 3, 2);
    g.absent[1] = true;
    grad_finish(&g, 3);
    grad_start(&g, "Split", "", 18, "a smaller last part");
    grad_set_int(&g, "num_outputs", 2);
    grad_random(&g, -1, 1, 2, 5, 2);
    grad_finish(&g, 2);
    grad_start(&g, "Slice", "", 13, "steps");
    grad_random(&g, -1, 1, 3, 4, 5, 6);
    INTS(&g, 1, -1, 0);
    INTS(&g, 3, -100, 6);
    INTS(&g, 0, 1, 2);
    INTS(&g, 1, -2, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Slice", "", 13, "one axis");
    grad_random(&g, -1, 1, 3, 2, 5, 3);
    INTS(&g, -3);
    INTS(&g, 100);
    INTS(&g, 1);
    grad_finish(&g, 1);
    grad_start(&g, "Slice", "", 9, "attributes");
    grad_set_ints(&g, "starts", 2, (const int64_t[]) { 0, 1 });
    grad_set_ints(&g, "ends", 2, (const int64_t[]) { 1, 3 });
    grad_random(&g, -1, 1, 2, 2, 4);
    grad_finish(&g, 1);
    grad_start(&g, "Slice", "", 13, "nothing taken");
    grad_random(&g, -1, 1, 2, 2, 4);
    INTS(&g, 3);
    INTS(&g, 3);
    INTS(&g, 1);
    grad_finish(&g, 1);
}

static void gathers(void)
{
    grad g;
    grad_start(&g, "Gather", "", 13, "an embedding");
    grad_random(&g, -1, 1, 2, 6, 5);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 0, 5, 2, 2, -1, 2 }, 2, 2, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Gather", "", 13, "wide rows");
    grad_random(&g, -1, 1, 2, 3, 150);
    grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { 2, 0, 2 }, 1, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Gather", "", 13, "inner axis, one index");
    grad_set_int(&g, "axis", 1);
    grad_random(&g, -1, 1, 3, 2, 4, 3);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { -1 }, 0);
    grad_finish(&g, 1);
    grad_start(&g, "Gather", "", 13, "last axis");
    grad_set_int(&g, "axis", -1);
    grad_random(&g, -1, 1, 2, 3, 4);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 3, 3, 0 }, 1, 3);
    grad_finish(&g, 1);
}

static void indexed(void)
{
    static const int64_t at[] = { 2, 0, -1, 2, 1, 1 }, apart[] = { 2, 0, 1, 0, 2, 1 };
    grad g;
    for (int axis = 0; axis < 2; axis++) {
        grad_start(&g, "GatherElements", "", 13, "");
        grad_set_int(&g, "axis", axis);
        grad_random(&g, -1, 1, 2, 4, 3);
        grad_ints(&g, RQ_DTYPE_S64, at, 2, 3, 2);
        grad_finish(&g, 1);
    }
    grad_start(&g, "GatherND", "", 13, "runs");
    grad_random(&g, -1, 1, 3, 3, 3, 2);
    grad_ints(&g, RQ_DTYPE_S64, at, 2, 3, 2);
    grad_finish(&g, 1);
    grad_start(&g, "GatherND", "", 13, "batches");
    grad_set_int(&g, "batch_dims", 1);
    grad_random(&g, -1, 1, 3, 2, 3, 2);
    grad_ints(&g, RQ_DTYPE_S64, at, 3, 2, 3, 1);
    grad_finish(&g, 1);
    for (int add = 0; add < 2; add++) {
        grad_start(&g, "ScatterElements", "", 18, "");
        grad_set_int(&g, "axis", 1);
        grad_set_string(&g, "reduction", add ? "add" : "none");
        grad_random(&g, -1, 1, 2, 4, 3);
        grad_ints(&g, RQ_DTYPE_S64, add ? at : apart, 2, 2, 3);
        grad_random(&g, -1, 1, 2, 2, 3);
        grad_finish(&g, 1);
        grad_start(&g, "ScatterND", "", 18, "");
        grad_set_string(&g, "reduction", add ? "add" : "none");
        grad_random(&g, -1, 1, 3, 3, 3, 2);
        grad_ints(&g, RQ_DTYPE_S64, at, 2, 3, 2);
        grad_random(&g, -1, 1, 2, 3, 2);
        grad_finish(&g, 1);
    }
    grad_start(&g, "Scatter", "", 9, "");
    grad_random(&g, -1, 1, 2, 3, 2);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 2, 0 }, 2, 1, 2);
    grad_random(&g, -1, 1, 2, 1, 2);
    grad_finish(&g, 1);
}

static void pads(void)
{
    static const char *const modes[] = { "constant", "reflect", "edge", "wrap" };
    grad g;
    for (int m = 0; m < 4; m++) {
        grad_start(&g, "Pad", "", 19, modes[m]);
        grad_set_string(&g, "mode", modes[m]);
        grad_random(&g, -1, 1, 4, 2, 3, 3, 4);
        INTS(&g, 0, 0, 2, 1, 0, 0, 1, 3);
        grad_finish(&g, 1);
        grad_start(&g, "Pad", "", 19, "axes, one cut");
        grad_set_string(&g, "mode", modes[m]);
        grad_random(&g, -1, 1, 3, 4, 3, 2);
        INTS(&g, 1, -1, 2, -1);
        grad_omit(&g);
        INTS(&g, 1, 0);
        grad_finish(&g, 1);
    }
    grad_start(&g, "Pad", "", 10, "attribute");
    grad_set_ints(&g, "pads", 4, (const int64_t[]) { 0, 1, 2, 0 });
    grad_random(&g, -1, 1, 2, 2, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Pad", "", 13, "nothing");
    grad_random(&g, -1, 1, 2, 2, 3);
    INTS(&g, 0, 0, 0, 0);
    grad_finish(&g, 1);
}

static void others(void)
{
    static const int64_t flags[] = { 1, 0, 0, 1, 1, 0 };
    grad g;
    grad_start(&g, "Where", "", 16, "");
    grad_ints(&g, RQ_DTYPE_BOOL, flags, 2, 2, 3);
    grad_random(&g, -1, 1, 2, 2, 3);
    grad_random(&g, -1, 1, 2, 2, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Where", "", 16, "repeated");
    grad_ints(&g, RQ_DTYPE_BOOL, flags, 2, 2, 3);
    grad_random(&g, -1, 1, 3, 2, 1, 3);
    grad_random(&g, -1, 1, 0);
    grad_finish(&g, 1);
    for (int bits = 0; bits < 4; bits++) {
        grad_start(&g, "CumSum", "", 14, "");
        grad_set_int(&g, "exclusive", bits & 1);
        grad_set_int(&g, "reverse", bits >> 1);
        grad_random(&g, -1, 1, 3, 2, 4, 3);
        grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1 }, 0);
        grad_finish(&g, 1);
        grad_start(&g, "Trilu", bits & 2 ? "com.microsoft" : "", bits & 2 ? 1 : 14, "");
        grad_set_int(&g, "upper", bits & 1);
        grad_random(&g, -1, 1, 3, 2, 4, 3);
        grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { -1 }, 0);
        grad_finish(&g, 1);
    }
    for (int axis = 0; axis < 2; axis++)
        for (int alone = 0; alone < 2; alone++) {
            grad_start(&g, "TopK", "", 11, alone ? "positions are not wanted" : "");
            grad_set_int(&g, "axis", axis);
            grad_set_int(&g, "largest", alone);
            grad_distinct(&g, 3, 4, 5, 2);
            INTS(&g, 3);
            g.absent[1] = alone;
            grad_finish(&g, 2);
        }
    grad_start(&g, "CenterCropPad", "", 18, "one cut, one filled");
    grad_random(&g, -1, 1, 3, 5, 2, 3);
    INTS(&g, 2, 5, 3);
    grad_finish(&g, 1);
    grad_start(&g, "Hardmax", "", 13, "flat");
    grad_floats(&g, (const float[]) { 1, 3, 2, 0, 5, -1 }, 2, 2, 3);
    grad_finish(&g, 1);
    for (int apart = 0; apart < 2; apart++) {
        grad_start(&g, "RotaryEmbedding", "", 23, apart ? "neighbours" : "a part turns");
        grad_set_int(&g, "interleaved", apart);
        if (!apart)
            grad_set_int(&g, "rotary_embedding_dim", 4);
        grad_random(&g, -1, 1, 4, 2, 2, 3, apart ? 4 : 6);
        grad_random(&g, -1, 1, 2, 5, 2);
        grad_random(&g, -1, 1, 2, 5, 2);
        grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 0, 1, 2, 4, 3, 0 }, 2, 2, 3);
        grad_finish(&g, 1);
    }
    grad_start(&g, "RotaryEmbedding", "com.microsoft", 1, "");
    grad_random(&g, -1, 1, 4, 2, 2, 3, 4);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1 }, 1, 1);
    grad_random(&g, -1, 1, 2, 5, 2);
    grad_random(&g, -1, 1, 2, 5, 2);
    grad_finish(&g, 1);
    grad_start(&g, "Trilu", "", 14, "no diagonal given");
    grad_random(&g, -1, 1, 2, 3, 4);
    grad_finish(&g, 1);
    grad_start(&g, "ReverseSequence", "", 10, "");
    grad_random(&g, -1, 1, 3, 4, 3, 2);
    INTS(&g, 4, 2, 3);
    grad_finish(&g, 1);
}

/* What puts numbers into images, and what marks places. */
static void placed(void)
{
    grad g;
    grad_start(&g, "Col2Im", "", 18, "overlapping blocks, pads, dilation");
    grad_set_ints(&g, "strides", 2, (const int64_t[]) { 1, 2 });
    grad_set_ints(&g, "dilations", 2, (const int64_t[]) { 2, 1 });
    grad_set_ints(&g, "pads", 4, (const int64_t[]) { 1, 0, 0, 1 });
    grad_random(&g, -1, 1, 3, 2, 3 * 4, 4 * 3); /* rows: 5 + 1 - 2 * 1 = 4 places; columns: (6 + 1 - 2) / 2 + 1 */
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 5, 6 }, 1, 2);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 2, 2 }, 1, 2);
    grad_finish(&g, 1);
    for (int larger = 0; larger < 2; larger++) {
        grad_start(&g, "MaxUnpool", "", 11, larger ? "a larger output" : "");
        grad_set_ints(&g, "kernel_shape", 2, (const int64_t[]) { 2, 2 });
        grad_set_ints(&g, "strides", 2, (const int64_t[]) { 2, 2 });
        grad_random(&g, -1, 1, 4, 1, 2, 2, 2);
        grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 5, 3, 8, 14, 17, 22, 28, 27 }, 4, 1, 2, 2, 2);
        if (larger)
            grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 1, 2, 5, 5 }, 1, 4);
        grad_finish(&g, 1);
    }
    grad_start(&g, "OneHot", "", 11, "an index that is nowhere");
    grad_set_int(&g, "axis", 1);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 0, 2, -1, 3, 5, 1 }, 2, 3, 2);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 4 }, 0);
    grad_random(&g, -1, 1, 1, 2);
    grad_finish(&g, 1);
}

void grad_layout(void)
{
    placed();
    indexed();
    pads();
    others();
    views();
    orders();
    repeats();
    cuts();
    gathers();
}
