/* kernels/transpose_avx.h — 8 x 8 floats turned in registers; for files built with AVX2 or more. */
#ifndef RQ_KERNELS_TRANSPOSE_AVX_H
#define RQ_KERNELS_TRANSPOSE_AVX_H

#include <immintrin.h>
#include <stddef.h>

/* Two rows of four, one in each half. */
static inline __m256 halves(const float *lo, const float *hi)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lo)), _mm_loadu_ps(hi), 1);
}

/* dst[k * ldd + j] = src[j * lds + k], j and k < 8 */
static inline void transpose_block(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds)
{
    for (int h = 0; h < 8; h += 4, dst += 4 * ldd) { /* columns h..h+3 of src: rows of dst */
        const __m256 a = halves(src + h, src + 4 * lds + h), b = halves(src + lds + h, src + 5 * lds + h);
        const __m256 c = halves(src + 2 * lds + h, src + 6 * lds + h), d = halves(src + 3 * lds + h, src + 7 * lds + h);
        const __m256 ab0 = _mm256_unpacklo_ps(a, b), ab1 = _mm256_unpackhi_ps(a, b);
        const __m256 cd0 = _mm256_unpacklo_ps(c, d), cd1 = _mm256_unpackhi_ps(c, d);
        _mm256_storeu_ps(dst, _mm256_shuffle_ps(ab0, cd0, 0x44));
        _mm256_storeu_ps(dst + ldd, _mm256_shuffle_ps(ab0, cd0, 0xee));
        _mm256_storeu_ps(dst + 2 * ldd, _mm256_shuffle_ps(ab1, cd1, 0x44));
        _mm256_storeu_ps(dst + 3 * ldd, _mm256_shuffle_ps(ab1, cd1, 0xee));
    }
}

#define TILE_BLOCK 8

#endif
