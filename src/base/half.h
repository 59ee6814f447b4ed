/* base/half.h — one number from and to IEEE half, by its bits and without a branch, so that loops over it become vectors. The definition for
 * tensor/convert.c and kernels/half_*.c. Encoding rounds half to even. */
#ifndef RQ_BASE_HALF_H
#define RQ_BASE_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float rq_half_float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t rq_half_bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline uint32_t rq_half_pick(bool first, uint32_t a, uint32_t b)
{
    const uint32_t mask = 0u - (uint32_t)first;
    return (a & mask) | (b & ~mask);
}

static inline float rq_half_to_float(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = (uint32_t)(h & 0x7fff) << 13;
    const uint32_t below =
        rq_half_bits_of(rq_half_float_of(m + 0x38800000u) - 0x1p-14f); /* subnormal: its mantissa times 2^-24 */
    const uint32_t normal = m + 0x38000000u, above = m + 0x70000000u;  /* infinity and NaN */
    return rq_half_float_of(sign | rq_half_pick(m < 0x00800000u, below, rq_half_pick(m < 0x0f800000u, normal, above)));
}

static inline uint16_t rq_half_from_float(float f)
{
    const uint32_t u = rq_half_bits_of(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    const uint32_t below =
        rq_half_bits_of(rq_half_float_of(a) + 0.5f) - 0x3f000000u; /* below 2^-14: in steps of 2^-24, those of 0.5 */
    const uint32_t normal = (a - 0x38000000u + 0xfff + (a >> 13 & 1)) >> 13;
    const uint32_t above =
        rq_half_pick(a > 0x7f800000u, 0x7e00 | (a >> 13 & 0x3ff), 0x7c00); /* 65520 and above: infinity */
    return (uint16_t)(sign | rq_half_pick(a < 0x38800000u, below, rq_half_pick(a < 0x477ff000u, normal, above)));
}

/* Integers in the order of the numbers: -NaN, -infinity, ..., -0, 0, ..., infinity, NaN; and the number of an integer. */
static inline int16_t rq_half_order(uint16_t h)
{
    return (int16_t)(h ^ (h & 0x8000 ? 0x7fff : 0));
}

static inline uint16_t rq_half_of_order(int16_t order)
{
    return (uint16_t)rq_half_order((uint16_t)order);
}

#endif
