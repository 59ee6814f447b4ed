/* kernels/qgemm_vnni.c — the tile of integer products on AVX-512 VNNI, 14 rows by 32 columns. Compiled with -mavx512f/bw/dq/vl/vnni. vpdpbusd does
 * not saturate (vpdpbusds would). Images of 7, 14, 28 ... pixels are whole blocks of 14 rows. */
#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <stdint.h>

#define MAX_ROWS 14
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

static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_epi32(a, b);
}

static inline vec vec_dot(vec sum, vec x, vec w)
{
    return _mm512_dpbusd_epi32(sum, x, w);
}

#define CODES "kernels/qgemm_codes_zmm.h"
#include "kernels/qgemm_dot_tmpl.h"

const rq_qgemm_isa rq_qgemm_vnni = {
    .max_rows = MAX_ROWS,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .w_bytes = 1,
    .tile = tile,
    .codes = codes,
};

#endif
