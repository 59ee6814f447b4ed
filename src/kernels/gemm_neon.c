/* kernels/gemm_neon.c — the integer tile on any 64-bit ARM: 8 rows by 8 columns, one step of depth at a time. B is widened to
 * 16 bits as it is loaded, A when it is packed, and smlal adds their products in s32: nothing saturates. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>
#include <string.h>

enum { MR = 8, LANES = 8 };

/* One row of C. */
typedef struct row {
    int32x4_t lo, hi;
} row;

static inline __attribute__((always_inline)) row row_step(row r, const int16_t *a, int16x8_t x)
{
    r.lo = vmlal_n_s16(r.lo, vget_low_s16(x), *a);
    r.hi = vmlal_n_s16(r.hi, vget_high_s16(x), *a);
    return r;
}

/* Inlined into one copy per number of rows, so that C stays in registers. */
static inline __attribute__((always_inline)) void tile_of(int32_t *c, size_t ldc, const int16_t *a, const uint8_t *b,
                                                          size_t steps, const int rows)
{
    row r[MR];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
        r[i] = (row) { vdupq_n_s32(0), vdupq_n_s32(0) };
    for (size_t s = 0; s < steps; s++, a += rows, b += LANES) {
        const int16x8_t x = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(b)));
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            r[i] = row_step(r[i], a + i, x);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        vst1q_s32(c + (size_t)i * ldc, r[i].lo);
        vst1q_s32(c + (size_t)i * ldc + 4, r[i].hi);
    }
}

static void tile(int32_t *c, size_t ldc, const void *a, const uint8_t *b, size_t steps, int rows, int vectors)
{
    if (rows == 8)
        tile_of(c, ldc, a, b, steps, 8);
    else if (rows == 4)
        tile_of(c, ldc, a, b, steps, 4);
    else if (rows == 2)
        tile_of(c, ldc, a, b, steps, 2);
    else
        tile_of(c, ldc, a, b, steps, 1);
}

static void interleave(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip)
{
    const uint8x16_t f = vdupq_n_u8(flip);
    size_t j = 0;
    for (; j + 16 <= n; j += 16)
        vst1q_u8(dst + j, veorq_u8(vld1q_u8(rows[0] + j), f));
    for (; j < n; j++)
        dst[j] = rows[0][j] ^ flip;
    for (; j % LANES; j++)
        dst[j] = 0;
}

const rq_gemm_isa rq_gemm_neon = {
    .mr = MR,
    .lanes = LANES,
    .max_vectors = 1,
    .kr = 1,
    .a_bytes = 2,
    .tile = tile,
    .interleave = interleave,
};

#endif
