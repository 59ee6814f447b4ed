/* kernels/qgemm_i8mm.c — the tile of integer products on 64-bit ARM with the matrix instructions of i8mm, 8 rows by 12 columns, depth in
 * steps of 8. Compiled with -march=armv8.2-a+dotprod+i8mm.
 *
 * usmmla multiplies two rows of eight u8 by two columns of eight s8 and adds the four sums to a register, nothing saturates: twice the
 * products of sdot. 24 registers hold C, one a pair of columns of W, four the pairs of rows. */
#ifdef __ARM_FEATURE_MATMUL_INT8
#include "kernels/kernels_isa.h"
#include "kernels/qgemm_arm.h"

#define MAX_ROWS 8
#define MAX_VECTORS 3
/* a register has two columns of a row and the same of the next row */
enum { LANES = 4, KR = 8, BLOCK = KR, HEAD = 0, SUMS = MAX_ROWS / 2, COLUMNS = MAX_VECTORS * 2 };

/* C += the n (1 to 8) bytes of each row at x[] + k by one step of W. An odd last row is paired with itself. */
INLINE void steps_of(int32x4_t (*s)[COLUMNS], const uint8_t *const *x, size_t k, const size_t n, const int8_t *w,
                     const int rows, const int vectors)
{
    uint8x16_t v[SUMS];
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

INLINE void begin(int32x4_t (*s)[COLUMNS], const int32_t *head, const int32_t *init, const int rows, const int vectors)
{
    (void)head;
    UNROLL for (int j = 0; j < 2 * vectors; j++)
    {
        const int32x2_t first = init ? vld1_s32(init + 2 * j) : vdup_n_s32(0);
        UNROLL for (int q = 0; q < rows; q += 2) s[q / 2][j] = vcombine_s32(first, first);
    }
}

INLINE void end(int32_t *c, size_t ldc, int32x4_t (*s)[COLUMNS], const int rows, const int vectors)
{
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int j = 0; j < 2 * vectors; j++)
        vst1_s32(c + (size_t)q * ldc + 2 * j, q % 2 ? vget_high_s32(s[q / 2][j]) : vget_low_s32(s[q / 2][j]));
}

#include "kernels/qgemm_arm_tmpl.h"

const rq_qgemm_isa rq_qgemm_i8mm = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .tile = tile,
};

#endif
