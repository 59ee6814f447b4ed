/* kernels/qgemm_i8mm.c — the tile of integer products on 64-bit ARM with the matrix instructions of i8mm, 8 rows by 12 columns, depth in
 * steps of 8. Compiled with -march=armv8.2-a+dotprod+i8mm.
 *
 * usmmla multiplies two rows of eight u8 by two columns of eight s8 and adds the four sums to a register, nothing saturates: twice the
 * products of sdot. 24 registers hold C, one a pair of columns of W, four the pairs of rows. */
#ifdef __ARM_FEATURE_MATMUL_INT8
#include "kernels/kernels_isa.h"
#include "kernels/qgemm_arm.h"

enum { MAX_ROWS = 8, LANES = 4, MAX_VECTORS = 3, KR = 8, PAIRS = MAX_ROWS / 2, COLUMN_PAIRS = MAX_VECTORS * 2 };

/* C += the n (1 to 8) bytes of each row at x[] + k by one step of W. An odd last row is paired with itself. */
INLINE void step(int32x4_t (*s)[COLUMN_PAIRS], const uint8_t *const *x, size_t k, const size_t n, const int8_t *w,
                 const int rows, const int vectors)
{
    uint8x16_t v[PAIRS];
    UNROLL for (int q = 0; q < rows; q += 2)
    {
        const uint8_t *a = x[q] + k, *b = x[q + (q + 1 < rows)] + k;
        v[q / 2] = n == 8 ? vcombine_u8(vld1_u8(a), vld1_u8(b))
                          : vcombine_u8(vcreate_u8(first8(a, n)), vcreate_u8(first8(b, n)));
    }
    UNROLL for (int j = 0; j < 2 * vectors; j++)
    {
        const int8x16_t b = vld1q_s8(w + j * 2 * KR);
        UNROLL for (int q = 0; q < rows; q += 2) s[q / 2][j] = vusmmlaq_s32(s[q / 2][j], v[q / 2], b);
    }
}

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const int8_t *w,
                    const int32_t *init, const int rows, const int vectors)
{
    int32x4_t s[PAIRS][COLUMN_PAIRS]; /* two columns of a row, the same of the next row */
    UNROLL for (int j = 0; j < 2 * vectors; j++)
    {
        const int32x2_t first = init ? vld1_s32(init + 2 * j) : vdup_n_s32(0);
        UNROLL for (int q = 0; q < rows; q += 2) s[q / 2][j] = vcombine_s32(first, first);
    }
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + KR <= run; k += KR, w += vectors * LANES * KR)
            step(s, x, k, KR, w, rows, vectors);
        if (k < run) {
            step(s, x, k, run - k, w, rows, vectors);
            w += vectors * LANES * KR;
        }
    }
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int j = 0; j < 2 * vectors; j++)
        vst1_s32(c + (size_t)q * ldc + 2 * j, q % 2 ? vget_high_s32(s[q / 2][j]) : vget_low_s32(s[q / 2][j]));
}

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        if (vectors == 3)                                                                                              \
            tile_of(c, ldc, x, runs, run, w, init, n, 3);                                                              \
        else if (vectors == 2)                                                                                         \
            tile_of(c, ldc, x, runs, run, w, init, n, 2);                                                              \
        else                                                                                                           \
            tile_of(c, ldc, x, runs, run, w, init, n, 1);                                                              \
        return;
    switch (rows) {
        ROWS(1)
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

const rq_qgemm_isa rq_qgemm_i8mm = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .tile = tile,
};

#endif
