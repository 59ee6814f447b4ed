/* kernels/gemm_f32_neon.c — 8 rows x 12 columns in 32 registers. */
#ifdef __aarch64__
#include <arm_neon.h>
#include <stddef.h>

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
static inline vf vadd(vf a, vf b)
{
    return vaddq_f32(a, b);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return vfmaq_f32(c, a, b);
}

/* dst[k * ldd + j] = src[j * lds + k], j and k < 4 */
static inline void transpose_block(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds)
{
    const float32x4_t a = vld1q_f32(src), b = vld1q_f32(src + lds), c = vld1q_f32(src + 2 * lds),
                      d = vld1q_f32(src + 3 * lds);
    const float32x4_t ac0 = vzip1q_f32(a, c), ac1 = vzip2q_f32(a, c);
    const float32x4_t bd0 = vzip1q_f32(b, d), bd1 = vzip2q_f32(b, d);
    /* ac0 = a0 c0 a1 c1, bd0 = b0 d0 b1 d1 */
    vst1q_f32(dst, vzip1q_f32(ac0, bd0));
    vst1q_f32(dst + ldd, vzip2q_f32(ac0, bd0));
    vst1q_f32(dst + 2 * ldd, vzip1q_f32(ac1, bd1));
    vst1q_f32(dst + 3 * ldd, vzip2q_f32(ac1, bd1));
}

#define TILE_BLOCK 4
#define TILE_LANES 4
#define TILE_ROWS 8
#define TILE_WIDE_1 8
#define TILE_WIDE_2 4
#define TILE_WIDE 3
#define SUFFIX neon
#include "kernels/gemm_f32_tmpl.h"
#endif
