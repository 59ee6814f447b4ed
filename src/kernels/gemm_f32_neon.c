/* kernels/gemm_f32_neon.c — 8 rows x 12 columns in 32 registers. */
#ifdef __aarch64__
#include <arm_neon.h>

typedef float32x4_t vf;
static inline vf vload(const float *p)
{
    return vld1q_f32(p);
}
static inline void vstore(float *p, vf v)
{
    vst1q_f32(p, v);
}
static inline vf vsplat(float x)
{
    return vdupq_n_f32(x);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return vfmaq_f32(c, a, b);
}

#define TILE_LANES 4
#define TILE_ROWS 8
#define TILE_WIDE_1 8
#define TILE_WIDE_2 4
#define TILE_WIDE 3
#define SUFFIX neon
#include "kernels/gemm_f32_tmpl.h"
#endif
