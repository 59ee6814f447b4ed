/* kernels/dwplane_avx2.c — 8 columns at a time. */
#ifdef __AVX2__
#define VEC_WIDTH 8
#define AT_ONCE 2
#define SUFFIX avx2
#include "kernels/vec.h"

typedef __m256i vmask;
static inline vmask vmask_of(int64_t from, int64_t to)
{
    from = from < 0 ? 0 : from > 8 ? 8 : from;
    to = to < from ? from : to > 8 ? 8 : to;
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)from), lane),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32((int)to), lane));
}
static inline vf vload_if(const float *p, vmask m)
{
    return _mm256_maskload_ps(p, m);
}
static inline void vstore_if(float *p, vf v, vmask m)
{
    _mm256_maskstore_ps(p, m, v);
}
static inline vf vevens(vf a, vf b)
{
    const __m256d mixed = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)); /* a0 a2 b0 b2 a4 a6 b4 b6 */
    return _mm256_castpd_ps(_mm256_permute4x64_pd(mixed, 0xd8));
}

#include "kernels/dwplane_tmpl.h"
#endif
