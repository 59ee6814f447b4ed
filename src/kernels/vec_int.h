/* kernels/vec_int.h — as many s32 as vec.h has floats: sums of codes, exponents. Arithmetic wraps modulo 2^32. */
#ifndef RQ_KERNELS_VEC_INT_H
#define RQ_KERNELS_VEC_INT_H

#include "kernels/vec.h"

#if VEC_WIDTH == 16
typedef __m512i vi;
static inline vi viload(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}
static inline vi visplat(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static inline vi viadd(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static inline vi visub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
static inline vi vimul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
static inline vf vreal(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
static inline vi vround_int(vf a) /* half to even; any number where it fits no s32 */
{
    return _mm512_cvtps_epi32(a);
}
static inline vi vihalf(vi a) /* rounded down */
{
    return _mm512_srai_epi32(a, 1);
}
static inline vf vpow2(vi a) /* 2^a, a in -126 .. 127 */
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(127)), 23));
}
#elif VEC_WIDTH == 8
typedef __m256i vi;
static inline vi viload(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline vi visplat(int32_t x)
{
    return _mm256_set1_epi32(x);
}
static inline vi viadd(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
static inline vi visub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}
static inline vi vimul(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}
static inline vf vreal(vi a)
{
    return _mm256_cvtepi32_ps(a);
}
static inline vi vround_int(vf a) /* half to even; any number where it fits no s32 */
{
    return _mm256_cvtps_epi32(a);
}
static inline vi vihalf(vi a) /* rounded down */
{
    return _mm256_srai_epi32(a, 1);
}
static inline vf vpow2(vi a) /* 2^a, a in -126 .. 127 */
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(127)), 23));
}
#elif VEC_WIDTH == 4
typedef int32x4_t vi;
static inline vi viload(const int32_t *p)
{
    return vld1q_s32(p);
}
static inline vi visplat(int32_t x)
{
    return vdupq_n_s32(x);
}
static inline vi viadd(vi a, vi b)
{
    return vaddq_s32(a, b);
}
static inline vi visub(vi a, vi b)
{
    return vsubq_s32(a, b);
}
static inline vi vimul(vi a, vi b)
{
    return vmulq_s32(a, b);
}
static inline vf vreal(vi a)
{
    return vcvtq_f32_s32(a);
}
static inline vi vround_int(vf a) /* half to even; any number where it fits no s32 */
{
    return vcvtnq_s32_f32(a);
}
static inline vi vihalf(vi a) /* rounded down */
{
    return vshrq_n_s32(a, 1);
}
static inline vf vpow2(vi a) /* 2^a, a in -126 .. 127 */
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(a, vdupq_n_s32(127)), 23));
}
#else
typedef int32_t vi;
static inline vi viload(const int32_t *p)
{
    return *p;
}
static inline vi visplat(int32_t x)
{
    return x;
}
static inline vi viadd(vi a, vi b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}
static inline vi visub(vi a, vi b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}
static inline vi vimul(vi a, vi b)
{
    return (int32_t)((uint32_t)a * (uint32_t)b);
}
static inline vf vreal(vi a)
{
    return (float)a;
}
static inline vi vround_int(vf a) /* half to even; any number where it fits no s32 */
{
    return (int32_t)__builtin_lrintf(a);
}
static inline vi vihalf(vi a) /* rounded down */
{
    return a >> 1;
}
static inline vf vpow2(vi a) /* 2^a, a in -126 .. 127 */
{
    const uint32_t bits = ((uint32_t)a + 127) << 23;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
#endif

#endif
