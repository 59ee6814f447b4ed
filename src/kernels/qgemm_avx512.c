/* kernels/qgemm_avx512.c — the tile of integer products on AVX-512 without VNNI, 12 rows by 32 columns. Compiled with -mavx512f/bw/dq/vl. */
#ifdef __AVX512BW__
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_ROWS 12
#define LANES 16

typedef __m512i vec;

static inline vec vec_zero(void)
{
    return _mm512_setzero_si512();
}

static inline vec vec_all(int32_t v)
{
    return _mm512_set1_epi32(v);
}

static inline vec vec_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

static inline void vec_store(void *p, vec v)
{
    _mm512_storeu_si512(p, v);
}

static inline vec vec_weights(const int8_t *w)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
}

static inline vec vec_madd(vec sum, vec x, vec w)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
}

static inline void widen(int16_t *y, const uint8_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(y + i, _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(x + i))));
    if (i < n) {
        const __mmask32 m = (__mmask32)((1ull << (n - i)) - 1);
        _mm512_mask_storeu_epi16(y + i, m, _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(m, x + i)));
    }
}

#define CODES "kernels/qgemm_codes_zmm.h"
#include "kernels/qgemm_madd_tmpl.h"

const rq_qgemm_isa rq_qgemm_avx512 = {
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
