/* kernels/dwplane_avx512.c — 16 columns at a time. */
#ifdef __AVX512F__
#define VEC_WIDTH 16
#define AT_ONCE 4
#define SUFFIX avx512
#include "kernels/vec.h"

typedef __mmask16 vmask;
static inline vmask vmask_of(int64_t from, int64_t to)
{
    from = from < 0 ? 0 : from > 16 ? 16 : from;
    to = to < from ? from : to > 16 ? 16 : to;
    return (vmask)((1u << to) - (1u << from));
}
static inline vf vload_if(const float *p, vmask m)
{
    return _mm512_maskz_loadu_ps(m, p);
}
static inline void vstore_if(float *p, vf v, vmask m)
{
    _mm512_mask_storeu_ps(p, m, v);
}
static inline vf vevens(vf a, vf b)
{
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, at, b);
}

#include "kernels/dwplane_tmpl.h"
#endif
