/* kernels/gemm_f32_avx512.c — 8 rows x 48 columns in 32 registers. */
#ifdef __AVX512F__
#include "kernels/transpose_avx.h"

typedef __m512 vf;
static inline vf vload(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vstore(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
static inline vf vsplat(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vadd(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return _mm512_fmadd_ps(a, b, c);
}

#define TILE_LANES 16
#define TILE_ROWS 8
#define TILE_WIDE_1 8
#define TILE_WIDE_2 4
#define TILE_WIDE 3
#define SUFFIX avx512
#include "kernels/gemm_f32_tmpl.h"
#endif
