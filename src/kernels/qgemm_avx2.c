/* kernels/qgemm_avx2.c — the tile of integer products on AVX2, 6 rows by 16 columns. Compiled with -mavx2. */
#ifdef __AVX2__
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_ROWS 6
#define LANES 8

typedef __m256i vec;

static inline vec vec_zero(void)
{
    return _mm256_setzero_si256();
}

static inline vec vec_all(int32_t v)
{
    return _mm256_set1_epi32(v);
}

static inline vec vec_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline void vec_store(void *p, vec v)
{
    _mm256_storeu_si256(p, v);
}

static inline vec vec_weights(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
}

static inline vec vec_madd(vec sum, vec x, vec w)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}

static inline void widen_16(int16_t *y, const uint8_t *x)
{
    _mm256_storeu_si256((__m256i *)y, _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)x)));
}

static inline void widen_8(int16_t *y, const uint8_t *x)
{
    _mm_storeu_si128((__m128i *)y, _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)x)));
}

/* The last vector overlaps the one before it. */
static inline void widen(int16_t *y, const uint8_t *x, size_t n)
{
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            widen_16(y + i, x + i);
        widen_16(y + n - 16, x + n - 16);
    } else if (n >= 8) {
        widen_8(y, x);
        widen_8(y + n - 8, x + n - 8);
    } else {
        for (size_t i = 0; i < n; i++)
            y[i] = x[i];
    }
}

#define CODES "kernels/qgemm_codes_ymm.h"
#include "kernels/qgemm_madd_tmpl.h"

const rq_qgemm_isa rq_qgemm_avx2 = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .tile = tile,
    .codes = codes,
    .widen = widen_rows,
    .wide_tile = wide_tile,
};

#endif
