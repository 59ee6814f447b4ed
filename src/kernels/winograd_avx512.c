/* kernels/winograd_avx512.c — F(4x4, 3x3) on AVX-512 without VNNI, as many products per instruction as the direct ones have. Compiled with
 * -mavx512f/bw/dq/vl. */
#ifdef __AVX512BW__
#include <immintrin.h>
#include <stdint.h>

#define MAX_ROWS 12
#define LANES 16
#define DIRECT 4

typedef __m512i vec;

static inline vec vec_pairs(vec sum, vec x, vec w)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
}

#define CODES "kernels/qgemm_codes_zmm.h"
#include "kernels/winograd_tmpl.h"

const rq_winograd_isa rq_winograd_avx512 = WINOGRAD_ISA("32 by 2");

#endif
