/* kernels/qgemm_arm.h — reading the ends of rows, for the tiles of 64-bit ARM: exactly the bytes that are there. */
#ifndef RQ_KERNELS_QGEMM_ARM_H
#define RQ_KERNELS_QGEMM_ARM_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* The first n (0 to 8) bytes at p, then zeros. Two loads that overlap. */
INLINE uint64_t first8(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    uint32_t low, high;
    if (n == 8) {
        memcpy(&v, p, 8);
    } else if (n >= 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        v = low | (uint64_t)high << (8 * (n - 4));
    } else if (n) {
        v = p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) | (uint64_t)p[n - 1] << (8 * (n - 1));
    }
    return v;
}

/* The first n (0 to 15) bytes at p, then zeros. */
INLINE uint8x16_t first16(const uint8_t *p, size_t n)
{
    uint64_t low, high = 0;
    if (n > 8) {
        memcpy(&low, p, 8);
        memcpy(&high, p + n - 8, 8);
        high >>= 8 * (16 - n);
    } else {
        low = first8(p, n);
    }
    return vcombine_u8(vcreate_u8(low), vcreate_u8(high));
}

#endif
