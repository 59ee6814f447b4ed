/* kernels/qgemm_dotprod.c — the tile of integer products on 64-bit ARM with sdot, 8 rows by 8 columns, depth in steps of 4.
 * Compiled with -march=armv8.2-a+dotprod.
 *
 * sdot adds four s8 * s8 products to an s32, nothing saturates. X is u8: its top bit is flipped, which takes 128 from it; 128 times
 * the sum of each column stands before the panel (rq_qgemm_isa.take) and is where C begins. Sixteen bytes of a row are loaded at once
 * and serve four steps, each from its lane: 16 loads for 64 multiply-adds. */
#ifdef __ARM_FEATURE_DOTPROD
#include "kernels/kernels_isa.h"
#include "kernels/qgemm_arm.h"

#define MAX_ROWS 8
#define MAX_VECTORS 2
enum { LANES = 4, KR = 4, STEP = LANES * KR, BLOCK = 16, HEAD = 1, SUMS = MAX_ROWS, COLUMNS = MAX_VECTORS, CHAINS = 4 };

/* C += lane `lane` of each row by one step of W. The lane is a constant of the instruction; a row that is alone has sums for each. */
#define LANE(lane)                                                                                                     \
    do {                                                                                                               \
        UNROLL for (int j = 0; j < vectors; j++)                                                                       \
        {                                                                                                              \
            const int8x16_t b = vld1q_s8(w + ((lane)*vectors + j) * STEP);                                             \
            UNROLL for (int q = 0; q < rows; q++)                                                                      \
            {                                                                                                          \
                const int at = rows == 1 ? lane : q;                                                                   \
                s[at][j] = vdotq_laneq_s32(s[at][j], b, v[q], lane);                                                   \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* The n (1 to 16) bytes of each row at x[] + k. */
INLINE void steps_of(int32x4_t (*s)[COLUMNS], const uint8_t *const *x, size_t k, const size_t n, const int8_t *w,
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

#include "kernels/qgemm_arm_rows.h"
#include "kernels/qgemm_arm_tmpl.h"

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
