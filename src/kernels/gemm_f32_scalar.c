/* kernels/gemm_f32_scalar.c — the definition. Where the compiler may not assume the instruction, fmaf is the C
 * library's, which rounds correctly: slow on a machine without it, never different. */
#include <math.h>
#include <stddef.h>

typedef float vf;
static inline vf vload(const float *p)
{
    return *p;
}
static inline void vstore(float *p, vf v)
{
    *p = v;
}
static inline vf vsplat(float x)
{
    return x;
}
static inline vf vadd(vf a, vf b)
{
    return a + b;
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return fmaf(a, b, c);
}

static inline void transpose_block(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds)
{
    *dst = *src;
}

#define TILE_BLOCK 1
#define TILE_LANES 1
#define TILE_ROWS 4
#define TILE_WIDE_1 4
#define TILE_WIDE_2 4
#define TILE_WIDE 3
#define SUFFIX scalar
#include "kernels/gemm_f32_tmpl.h"
