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

void grad_attention(void)
{
    onnx();
    multi("plain");
    multi("bias");
    multi("mask and an added one");
}
