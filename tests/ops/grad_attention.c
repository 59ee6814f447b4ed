/* tests/ops/grad_attention.c — gradients of attention: heads that share keys, masks, the cap, layouts. */
#include "ops/grad_check.h"

enum { BATCH = 2, HEADS = 2, QUERIES = 3, KEYS = 4, SIZE = 3, V_SIZE = 2 };

static void start(grad *g, const char *label, int kv_heads)
{
    grad_start(g, "Attention", "", 24, label);
    grad_random(g, -1, 1, 4, BATCH, HEADS, QUERIES, SIZE);
    grad_random(g, -1, 1, 4, BATCH, kv_heads, KEYS, SIZE);
    grad_random(g, -1, 1, 4, BATCH, kv_heads, KEYS, V_SIZE);
}

static void onnx(void)
{
    grad g;
    start(&g, "plain", HEADS);
    grad_finish(&g, 1);
    start(&g, "heads share keys", 1);
    grad_finish(&g, 1);
    start(&g, "causal", HEADS);
    grad_set_int(&g, "is_causal", 1);
    grad_set_float(&g, "scale", 0.7f);
    grad_finish(&g, 1);
    start(&g, "softcap and a mask of numbers", 1);
    grad_set_float(&g, "softcap", 0.8f);
    grad_random(&g, -1, 1, 2, QUERIES, KEYS);
    grad_finish(&g, 1);
    start(&g, "a mask per key", HEADS);
    grad_random(&g, -1, 1, 4, BATCH, 1, 1, KEYS);
    grad_finish(&g, 1);
    start(&g, "flags, one row with nothing to see", HEADS);
    grad_ints(&g, RQ_DTYPE_BOOL, (const int64_t[]) { 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0 }, 2, QUERIES, KEYS);
    grad_finish(&g, 1);
    start(&g, "lengths", HEADS);
    grad_omit(&g);
    grad_omit(&g);
    grad_omit(&g);
    grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 4, 2 }, 1, BATCH);
    grad_finish(&g, 1);
    grad_start(&g, "Attention", "", 23, "heads side by side");
    grad_set_int(&g, "q_num_heads", HEADS);
    grad_set_int(&g, "kv_num_heads", HEADS);
    grad_random(&g, -1, 1, 3, BATCH, QUERIES, HEADS * SIZE);
    grad_random(&g, -1, 1, 3, BATCH, KEYS, HEADS * SIZE);
    grad_random(&g, -1, 1, 3, BATCH, KEYS, HEADS * V_SIZE);
    grad_finish(&g, 1);
}

static void multi(const char *label)
{
    grad g;
    const bool bias = label[0] == 'b', mask = label[0] == 'm';
    grad_start(&g, "MultiHeadAttention", "com.microsoft", 1, label);
    grad_set_int(&g, "num_heads", HEADS);
    grad_random(&g, -1, 1, 3, BATCH, QUERIES, HEADS * SIZE);
    grad_random(&g, -1, 1, 3, BATCH, KEYS, HEADS * SIZE);
    grad_random(&g, -1, 1, 3, BATCH, KEYS, HEADS * V_SIZE);
    if (bias)
        grad_random(&g, -1, 1, 1, HEADS * (2 * SIZE + V_SIZE));
    else if (mask)
        grad_omit(&g);
    if (mask) {
        grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { 4, 2 }, 1, BATCH);
        grad_random(&g, -1, 1, 4, 1, HEADS, QUERIES, KEYS);
    }
    grad_finish(&g, 1);
}

/* The layouts of MultiHeadAttention in which one tensor holds several of q, k and v; with a bias they are copied first. */
static void packed(int tensors, bool bias)
{
    grad g;
    grad_start(&g, "MultiHeadAttention", "com.microsoft", 1,
               tensors == 1   ? "all three in one tensor"
               : tensors == 2 ? "keys and values in one"
                              : "keys as [B,H,L,D]");
    grad_set_int(&g, "num_heads", HEADS);
    if (tensors == 1)
        grad_random(&g, -1, 1, 5, BATCH, QUERIES, HEADS, 3, SIZE);
    else
        grad_random(&g, -1, 1, 3, BATCH, QUERIES, HEADS * SIZE);
    if (tensors == 2) {
        grad_random(&g, -1, 1, 5, BATCH, KEYS, HEADS, 2, SIZE);
    } else if (tensors == 3) {
        grad_random(&g, -1, 1, 4, BATCH, HEADS, KEYS, SIZE);
        grad_random(&g, -1, 1, 4, BATCH, HEADS, KEYS, V_SIZE);
    }
    if (bias) {
        for (int i = tensors; i < 3; i++)
            grad_omit(&g);
        grad_random(&g, -1, 1, 1, 3 * HEADS * SIZE);
    }
    grad_finish(&g, 1);
}

/* com.microsoft.Attention: projected from one input. */
static void projected(const char *label, bool bias, bool causal, bool sizes, bool masks)
{
    grad g;
    const int v = sizes ? V_SIZE : SIZE;
    grad_start(&g, "Attention", "com.microsoft", 1, label);
    grad_set_int(&g, "num_heads", HEADS);
    grad_set_int(&g, "unidirectional", causal);
    if (sizes)
        grad_set_ints(&g, "qkv_hidden_sizes", 3, (const int64_t[]) { HEADS * SIZE, HEADS * SIZE, HEADS * V_SIZE });
    grad_random(&g, -1, 1, 3, BATCH, QUERIES, 5);
    grad_random(&g, -1, 1, 2, 5, HEADS * (2 * SIZE + v));
    if (bias)
        grad_random(&g, -1, 1, 1, HEADS * (2 * SIZE + v));
    if (masks) {
        grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { 1, 1, 1, 1, 1, 0 }, 2, BATCH, QUERIES);
        grad_omit(&g);
        grad_random(&g, -1, 1, 4, BATCH, HEADS, QUERIES, QUERIES);
    }
    grad_finish(&g, 1);
}

/* GroupQueryAttention without a cache: keys shared by heads, turned or not, packed or not. */
static void grouped(const char *label, bool packs, bool turns, bool places, bool more)
{
    enum { Q_HEADS = 4, KV_HEADS = 2, ROWS = 3, EVEN = 4 };
    grad g;
    grad_start(&g, "GroupQueryAttention", "com.microsoft", 1, label);
    grad_set_int(&g, "num_heads", Q_HEADS);
    grad_set_int(&g, "kv_num_heads", KV_HEADS);
    grad_set_int(&g, "do_rotary", turns);
    if (more) {
        grad_set_float(&g, "softcap", 1.5f);
        grad_set_int(&g, "local_window_size", 2);
    }
    grad_random(&g, -1, 1, 3, BATCH, ROWS, (packs ? Q_HEADS + 2 * KV_HEADS : Q_HEADS) * EVEN);
    for (int i = 1; i < 3; i++)
        if (packs)
            grad_omit(&g);
        else
            grad_random(&g, -1, 1, 3, BATCH, ROWS, KV_HEADS * EVEN);
    grad_omit(&g);
    grad_omit(&g);
    grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { ROWS - 1, ROWS - 2 }, 1, BATCH);
    grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { ROWS }, 0);
    if (turns) {
        const float angle[2 * 5] = { 1, 1, 0.5f, 0.9f, -0.4f, 0.7f, -1, 0.5f, -0.7f, 0.2f };
        const float sine[2 * 5] = { 0, 0, 0.8f, 0.4f, 0.9f, 0.7f, 0.1f, 0.8f, -0.7f, 1 };
        grad_floats(&g, angle, 2, 5, 2);
        grad_floats(&g, sine, 2, 5, 2);
    } else if (more) {
        grad_omit(&g);
        grad_omit(&g);
    }
    if (places)
        grad_ints(&g, RQ_DTYPE_S64, (const int64_t[]) { 2, 3, 4, 2, 3, 4 }, 2, BATCH, ROWS);
    if (more) {
        if (!places)
            grad_omit(&g);
        grad_random(&g, -1, 1, 4, 1, Q_HEADS, ROWS, ROWS);
        grad_random(&g, -1, 1, 1, Q_HEADS);
    }
    grad_finish(&g, 1);
}

void grad_attention(void)
{
    onnx();
    multi("plain");
    multi("bias");
    multi("mask and an added one");
    for (int tensors = 1; tensors <= 3; tensors++)
        packed(tensors, false);
    for (int tensors = 1; tensors <= 2; tensors++)
        packed(tensors, true);
    projected("plain", false, false, false, false);
    projected("bias, values of another size", true, false, true, false);
    projected("causal, a mask and an added one", true, true, false, true);
    grouped("plain", false, false, false, false);
    grouped("packed and turned", true, true, false, false);
    grouped("turned at places given", false, true, true, false);
    grouped("window, softcap, added, sinks", true, false, false, true);
}
