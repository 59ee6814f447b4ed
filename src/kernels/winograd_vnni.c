/* kernels/winograd_vnni.c — F(4x4, 3x3) on AVX-512 VNNI: vpdpwssd, which wraps, half as many products as vpdpbusd. Compiled with
 * -mavx512f/bw/dq/vl/vnni. */
#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <stdint.h>

#define MAX_ROWS 14
#define LANES 16
#define DIRECT 8

typedef __m512i vec;

static inline vec vec_pairs(vec sum, vec x, vec w)
{
    return _mm512_dpwssd_epi32(sum, x, w);
}

#define CODES "kernels/qgemm_codes_zmm.h"
#include "kernels/winograd_tmpl.h"

const rq_winograd_isa rq_winograd_vnni = WINOGRAD_ISA("32 by 2");

#endif
