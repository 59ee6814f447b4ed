/* kernels/plain_tmpl.h — plain loops over small integers that the compiler turns into vectors, once for each instruction set. The including file sets
 * SUFFIX. */
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels_isa.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

void JOIN(rq_sums8_, SUFFIX)(uint32_t *sum, uint32_t *squares, const uint8_t *x, size_t n, uint8_t flip)
{
    uint32_t s = 0, q = 0;
    for (size_t i = 0; i < n; i++)
        s += x[i] ^ flip;
    for (size_t i = 0; i < n; i++) { /* 16 bits: two products and their sum are one instruction */
        const int16_t v = (int16_t)(x[i] ^ flip);
        q += (uint32_t)(v * v);
    }
    *sum = s;
    *squares = q;
}

void JOIN(rq_equal_s32_, SUFFIX)(uint8_t *y, const int32_t *a, int sa, const int32_t *b, int sb, size_t n)
{
    if (sa && sb)
        for (size_t i = 0; i < n; i++)
            y[i] = a[i] == b[i];
    else {
        const int32_t *many = sa ? a : b, one = sa ? b[0] : a[0];
        for (size_t i = 0; i < n; i++)
            y[i] = many[i] == one;
    }
}

#undef JOIN
#undef JOIN_
