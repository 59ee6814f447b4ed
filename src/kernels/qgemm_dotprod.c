/* kernels/qgemm_dotprod.c — the tile of integer products on 64-bit ARM with sdot, 8 rows by 8 columns, depth in steps of 4.
 * Compiled with -march=armv8.2-a+dotprod.
 *
 * sdot adds four s8 * s8 products to an s32, nothing saturates. X is u8: its top bit is flipped, which takes 128 from it; 128 times
 * the sum of each column stands before the panel (rq_qgemm_isa.take) and is where C begins. Sixteen bytes of a row are loaded at once
 * and serve four steps, each from its lane: 16 loads for 64 multiply-adds. */
#ifdef __ARM_FEATURE_DOTPROD
#include "kernels/kernels_isa.h"
#include "kernels/qgemm_arm.h"

enum { MAX_ROWS = 8, LANES = 4, MAX_VECTORS = 2, KR = 4, STEP = LANES * KR };

/* C += lane `lane` of each row by one step of W. The lane is a constant of the instruction. */
#define LANE(lane)                                                                                                     \
    do {                                                                                                               \
        UNROLL for (int j = 0; j < vectors; j++)                                                                       \
        {                                                                                                              \
            const int8x16_t b = vld1q_s8(w + ((lane)*vectors + j) * STEP);                                             \
            UNROLL for (int q = 0; q < rows; q++) s[q][j] = vdotq_laneq_s32(s[q][j], b, v[q], lane);                   \
        }                                                                                                              \
    } while (0)

/* The n (1 to 16) bytes of each row at x[] + k. */
INLINE void steps_of(int32x4_t (*s)[MAX_VECTORS], const uint8_t *const *x, size_t k, const size_t n, const int8_t *w,
                     const int rows, const int vectors)
{
    int8x16_t v[MAX_ROWS];
    UNROLL for (int q = 0; q < rows; q++)
    {
        const uint8x16_t u = n == 16 ? vld1q_u8(x[q] + k) : first16(x[q] + k, n);
        v[q] = vreinterpretq_s8_u8(veorq_u8(u, vdupq_n_u8(0x80)));
    }
    LANE(0);
    if (n > 4)
        LANE(1);
    if (n > 8)
        LANE(2);
    if (n > 12)
        LANE(3);
}

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const int32_t *head,
                    const int32_t *init, const int rows, const int vectors)
{
    int32x4_t s[MAX_ROWS][MAX_VECTORS];
    UNROLL for (int j = 0; j < vectors; j++)
    {
        int32x4_t first = vld1q_s32(head + j * LANES);
        if (init)
            first = vaddq_s32(first, vld1q_s32(init + j * LANES));
        UNROLL for (int q = 0; q < rows; q++) s[q][j] = first;
    }
    const int8_t *w = (const int8_t *)(head + vectors * LANES);
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + 16 <= run; k += 16, w += 4 * vectors * STEP)
            steps_of(s, x, k, 16, w, rows, vectors);
        if (k < run) {
            steps_of(s, x, k, run - k, w, rows, vectors);
            w += (run - k + KR - 1) / KR * (size_t)(vectors * STEP);
        }
    }
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int j = 0; j < vectors; j++)
        vst1q_s32(c + (size_t)q * ldc + j * LANES, s[q][j]);
}

/* One row: each lane has sums of its own, so that they do not wait for each other. */
INLINE void tile_one(int32_t *c, const uint8_t *const *x, size_t runs, size_t run, const int32_t *head,
                     const int32_t *init, const int vectors)
{
    int32x4_t s[4][MAX_VECTORS];
    UNROLL for (int j = 0; j < vectors; j++)
    {
        s[0][j] = vld1q_s32(head + j * LANES);
        if (init)
            s[0][j] = vaddq_s32(s[0][j], vld1q_s32(init + j * LANES));
        s[1][j] = s[2][j] = s[3][j] = vdupq_n_s32(0);
    }
    const int8_t *w = (const int8_t *)(head + vectors * LANES);
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + 16 <= run; k += 16) {
            const int8x16_t v = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x[0] + k), vdupq_n_u8(0x80)));
            UNROLL for (int j = 0; j < vectors; j++, w += STEP) s[0][j] = vdotq_laneq_s32(s[0][j], vld1q_s8(w), v, 0);
            UNROLL for (int j = 0; j < vectors; j++, w += STEP) s[1][j] = vdotq_laneq_s32(s[1][j], vld1q_s8(w), v, 1);
            UNROLL for (int j = 0; j < vectors; j++, w += STEP) s[2][j] = vdotq_laneq_s32(s[2][j], vld1q_s8(w), v, 2);
            UNROLL for (int j = 0; j < vectors; j++, w += STEP) s[3][j] = vdotq_laneq_s32(s[3][j], vld1q_s8(w), v, 3);
        }
        if (k < run) {
            steps_of(s, x, k, run - k, w, 1, vectors);
            w += (run - k + KR - 1) / KR * (size_t)(vectors * STEP);
        }
    }
    UNROLL for (int j = 0; j < vectors; j++)
        vst1q_s32(c + j * LANES, vaddq_s32(vaddq_s32(s[0][j], s[1][j]), vaddq_s32(s[2][j], s[3][j])));
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
    case 1:
        if (vectors == 2)
            tile_one(c, x, runs, run, w, init, 2);
        else
            tile_one(c, x, runs, run, w, init, 1);
        return;
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
        ROWS(7)
        ROWS(8)
    }
#undef ROWS
}

const rq_qgemm_isa rq_qgemm_dotprod = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .take = { 128, 128 },
    .tile = tile,
};

#endif
