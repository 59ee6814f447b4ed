/* kernels/gemm_f32_avx2.c — 4 rows x 24 columns in 16 registers. */
#ifdef __AVX2__
#include "kernels/transpose_avx.h"

typedef __m256 vf;
static inline vf vload(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vstore(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
static inline vf vsplat(float x)
{
    return _mm256_set1_ps(x);
}
static inline vf vadd(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return _mm256_fmadd_ps(a, b, c);
}

#define TILE_LANES 8
#define TILE_ROWS 4
#define TILE_WIDE_1 8
#define TILE_WIDE_2 4
#define TILE_WIDE 3
#define SUFFIX avx2
#include "kernels/gemm_f32_tmpl.h"
#endif
