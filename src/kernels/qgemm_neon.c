/* kernels/qgemm_neon.c — the tile of integer products on any 64-bit ARM, 4 rows by 16 columns, depth in steps of 2.
 *
 * smull makes s16 of s8 * s8, and two such products may be added before sadalp adds neighbours to an s32, if their sum fits. As
 * (x - 128) * w it does not: (-128) * (-128) twice is 32768. So steps take turns: even ones multiply x - 128, odd ones subtract the product of
 * 127 - x, both s8 (x ^ 0x80 and x ^ 0x7f), and the sum is at most 128 * 128 + 127 * 128 from zero. It lacks 128 and 127 times
 * the weights, whose sums stand before the panel (rq_qgemm_isa.take): that is where C begins. Three instructions for 16 products, where
 * widening to s16 first takes four. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"
#include "kernels/qgemm_arm.h"

enum { MAX_ROWS = 4, LANES = 8, MAX_VECTORS = 2, KR = 2, STEP = LANES * KR };

/* C += two steps, pair `pair` of the eight pairs of bytes of each row and the one after it; `both`: the second is there. The pair is
 * a constant of the instruction. */
#define TURN(pair, both)                                                                                               \
    do {                                                                                                               \
        int8x16_t even[MAX_VECTORS], odd[MAX_VECTORS];                                                                 \
        UNROLL for (int j = 0; j < vectors; j++)                                                                       \
        {                                                                                                              \
            even[j] = vld1q_s8(w + ((pair)*vectors + j) * STEP);                                                       \
            odd[j] = (both) ? vld1q_s8(w + (((pair) + 1) * vectors + j) * STEP) : vdupq_n_s8(0);                       \
        }                                                                                                              \
        UNROLL for (int q = 0; q < rows; q++)                                                                          \
        {                                                                                                              \
            const int8x16_t a = vreinterpretq_s8_s16(vdupq_laneq_s16(v[q], pair));                                     \
            const int8x16_t b = vreinterpretq_s8_s16(vdupq_laneq_s16(v[q], (pair) + 1));                               \
            UNROLL for (int j = 0; j < vectors; j++)                                                                   \
            {                                                                                                          \
                int16x8_t low = vmull_s8(vget_low_s8(even[j]), vget_low_s8(a));                                        \
                int16x8_t high = vmull_high_s8(even[j], a);                                                            \
                if (both) {                                                                                            \
                    low = vmlsl_s8(low, vget_low_s8(odd[j]), vget_low_s8(b));                                          \
                    high = vmlsl_high_s8(high, odd[j], b);                                                             \
                }                                                                                                      \
                s[q][2 * j] = vpadalq_s16(s[q][2 * j], low);                                                           \
                s[q][2 * j + 1] = vpadalq_s16(s[q][2 * j + 1], high);                                                  \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* The n (1 to 16) bytes of each row at x[] + k. */
INLINE void steps_of(int32x4_t (*s)[2 * MAX_VECTORS], const uint8_t *const *x, size_t k, const size_t n,
                     const int8_t *w, const int rows, const int vectors)
{
    const uint8x16_t flip = vreinterpretq_u8_u32(vdupq_n_u32(0x7f7f8080));
    int16x8_t v[MAX_ROWS];
    UNROLL for (int q = 0; q < rows; q++)
    {
        const uint8x16_t u = n == 16 ? vld1q_u8(x[q] + k) : first16(x[q] + k, n);
        v[q] = vreinterpretq_s16_u8(veorq_u8(u, flip));
    }
    TURN(0, n > 2);
    if (n > 4)
        TURN(2, n > 6);
    if (n > 8)
        TURN(4, n > 10);
    if (n > 12)
        TURN(6, n > 14);
}

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const int32_t *head,
                    const int32_t *init, const int rows, const int vectors)
{
    int32x4_t s[MAX_ROWS][2 * MAX_VECTORS];
    UNROLL for (int j = 0; j < 2 * vectors; j++)
    {
        int32x4_t first = vld1q_s32(head + 4 * j);
        if (init)
            first = vaddq_s32(first, vld1q_s32(init + 4 * j));
        UNROLL for (int q = 0; q < rows; q++) s[q][j] = first;
    }
    const int8_t *w = (const int8_t *)(head + vectors * LANES);
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + 16 <= run; k += 16, w += 8 * vectors * STEP)
            steps_of(s, x, k, 16, w, rows, vectors);
        if (k < run) {
            steps_of(s, x, k, run - k, w, rows, vectors);
            w += (run - k + KR - 1) / KR * (size_t)(vectors * STEP);
        }
    }
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int j = 0; j < 2 * vectors; j++)
        vst1q_s32(c + (size_t)q * ldc + 4 * j, s[q][j]);
}

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        if (vectors == 2)                                                                                              \
            tile_of(c, ldc, x, runs, run, w, init, n, 2);                                                              \
        else                                                                                                           \
            tile_of(c, ldc, x, runs, run, w, init, n, 1);                                                              \
        return;
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
    }
#undef ROWS
}

const rq_qgemm_isa rq_qgemm_neon = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .take = { 128, 127 },
    .tile = tile,
};

#endif
