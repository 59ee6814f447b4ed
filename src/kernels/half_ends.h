/* kernels/half_ends.h — the last step of a search for ends of halves on x86: of eight numbers in the order of base/half.h the smallest and the
 * largest. */
#ifndef RQ_KERNELS_HALF_ENDS_H
#define RQ_KERNELS_HALF_ENDS_H

#include <immintrin.h>

#include "base/half.h"

typedef struct half_ends {
    int16_t least, most;
} half_ends;

/* The one search across a register finds the smallest of unsigned numbers: flipping the sign keeps the order, flipping the rest turns it. */
static inline half_ends half_ends_of(__m128i least, __m128i most)
{
    const __m128i a = _mm_minpos_epu16(_mm_xor_si128(least, _mm_set1_epi16(INT16_MIN)));
    const __m128i b = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(INT16_MAX)));
    return (half_ends) { (int16_t)(_mm_extract_epi16(a, 0) ^ 0x8000), (int16_t)(_mm_extract_epi16(b, 0) ^ 0x7fff) };
}

#endif
