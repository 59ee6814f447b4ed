/* kernels/relayout_neon.c — bytes turned from rows to columns on 64-bit ARM: blocks of 16 x 16 and 8 x 8, by interleaving the rows of one half with
 * those of the other as often as halves can be halved; two, three and four channels by the loads and stores that are made for them. Blocks at
 * the ends overlap the ones before. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#include <arm_neon.h>

static void block_16_16(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, uint8_t flip)
{
    uint8x16_t a[16], b[16];
    for (size_t i = 0; i < 16; i++)
        a[i] = vld1q_u8(x + i * ldx);
#pragma GCC unroll 2
    for (int turn = 0; turn < 2; turn++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            b[2 * i] = vzip1q_u8(a[i], a[i + 8]);
            b[2 * i + 1] = vzip2q_u8(a[i], a[i + 8]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            a[2 * i] = vzip1q_u8(b[i], b[i + 8]);
            a[2 * i + 1] = vzip2q_u8(b[i], b[i + 8]);
        }
    }
    for (size_t j = 0; j < 16; j++)
        vst1q_u8(y + j * ldy, veorq_u8(a[j], vdupq_n_u8(flip)));
}

static void block_8_8(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, uint8_t flip)
{
    uint8x8_t a[8], b[8];
    for (size_t i = 0; i < 8; i++)
        a[i] = vld1_u8(x + i * ldx);
#pragma GCC unroll 3
    for (int turn = 0; turn < 3; turn++) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            b[2 * i] = vzip1_u8(a[i], a[i + 4]);
            b[2 * i + 1] = vzip2_u8(a[i], a[i + 4]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            a[i] = b[i];
    }
    for (size_t j = 0; j < 8; j++)
        vst1_u8(y + j * ldy, veor_u8(a[j], vdup_n_u8(flip)));
}

/* The start of the block behind the one at i, of `step` each: the last one ends at n, which is `step` or more. */
static size_t next_block(size_t i, size_t step, size_t n)
{
    i += step;
    return i >= n || i + step <= n ? i : n - step;
}

/* 16 pixels of c channels (1 to 4) that lie together, to c rows. */
static void apart(uint8_t *y, size_t ldy, const uint8_t *x, int c, uint8x16_t flip)
{
    uint8x16_t v[4];
    if (c == 4) {
        const uint8x16x4_t p = vld4q_u8(x);
        v[0] = p.val[0], v[1] = p.val[1], v[2] = p.val[2], v[3] = p.val[3];
    } else if (c == 3) {
        const uint8x16x3_t p = vld3q_u8(x);
        v[0] = p.val[0], v[1] = p.val[1], v[2] = p.val[2];
    } else if (c == 2) {
        const uint8x16x2_t p = vld2q_u8(x);
        v[0] = p.val[0], v[1] = p.val[1];
    } else {
        v[0] = vld1q_u8(x);
    }
    for (int i = 0; i < c; i++)
        vst1q_u8(y + (size_t)i * ldy, veorq_u8(v[i], flip));
}

/* The other way: c rows to 16 pixels. */
static void together(uint8_t *y, const uint8_t *x, size_t ldx, int c, uint8x16_t flip)
{
    uint8x16x4_t v = { { flip, flip, flip, flip } };
    for (int i = 0; i < c; i++)
        v.val[i] = veorq_u8(vld1q_u8(x + (size_t)i * ldx), flip);
    const uint8x16x3_t three = { { v.val[0], v.val[1], v.val[2] } };
    const uint8x16x2_t two = { { v.val[0], v.val[1] } };
    if (c == 4)
        vst4q_u8(y, v);
    else if (c == 3)
        vst3q_u8(y, three);
    else if (c == 2)
        vst2q_u8(y, two);
    else
        vst1q_u8(y, v.val[0]);
}

void rq_transpose8_neon(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip)
{
    const uint8x16_t flips = vdupq_n_u8(flip);
    if (rows >= 8 && cols >= 8) {
        const size_t step = rows >= 16 && cols >= 16 ? 16 : 8;
        for (size_t i = 0; i < rows; i = next_block(i, step, rows))
            for (size_t j = 0; j < cols; j = next_block(j, step, cols))
                (step == 16 ? block_16_16 : block_8_8)(y + j * ldy + i, ldy, x + i * ldx + j, ldx, flip);
    } else if (cols <= 4 && ldx == cols && rows >= 16) {
        for (size_t i = 0; i < rows; i = next_block(i, 16, rows))
            apart(y + i, ldy, x + i * cols, (int)cols, flips);
    } else if (rows <= 4 && ldy == rows && cols >= 16) {
        for (size_t j = 0; j < cols; j = next_block(j, 16, cols))
            together(y + j * rows, x + j, ldx, (int)rows, flips);
    } else {
        for (size_t j = 0; j < cols; j++)
            for (size_t i = 0; i < rows; i++)
                y[j * ldy + i] = x[i * ldx + j] ^ flip;
    }
}

#endif
