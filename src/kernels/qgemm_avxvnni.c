/* kernels/qgemm_avxvnni.c — the tile of integer products on AVX-VNNI (vpdpbusd in 256 bits, without AVX-512), 6 rows by 16 columns. Compiled with
 * -mavx2 -mavxvnni. */
#ifdef __AVXVNNI__
#include <immintrin.h>
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

static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_epi32(a, b);
}

static inline vec vec_dot(vec sum, vec x, vec w)
{
    return _mm256_dpbusd_avx_epi32(sum, x, w);
}

#define CODES "kernels/qgemm_codes_ymm.h"
#include "kernels/qgemm_dot_tmpl.h"

const rq_qgemm_isa rq_qgemm_avxvnni = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .tile = tile,
    .codes = codes,
};

#endif
