/* kernels/winograd_avx2.c — F(4x4, 3x3) on AVX2, as many products per instruction as the direct ones have. Compiled with
 * -mavx2. */
#ifdef __AVX2__
#include <immintrin.h>
#include <stdint.h>

#define MAX_ROWS 6
#define LANES 8
#define DIRECT 4

typedef __m256i vec;

static inline vec vec_pairs(vec sum, vec x, vec w)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}

#define CODES "kernels/qgemm_codes_ymm.h"
#include "kernels/winograd_tmpl.h"

const rq_winograd_isa rq_winograd_avx2 = WINOGRAD_ISA("16 by 2");

#endif
