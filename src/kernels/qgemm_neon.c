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

#define MAX_ROWS 4
#define MAX_VECTORS 2
enum {
    LANES = 8,
    KR = 2,
    STEP = LANES * KR,
    BLOCK = 16,
    HEAD = 1,
    SUMS = MAX_ROWS,
    COLUMNS = 2 * MAX_VECTORS,
    CHAINS = 1
};

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
INLINE void steps_of(int32x4_t (*s)[COLUMNS], const uint8_t *const *x, size_t k, const size_t n, const int8_t *w,
                     const int rows, const int vectors)
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

#include "kernels/qgemm_arm_rows.h"
#include "kernels/qgemm_arm_tmpl.h"

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
