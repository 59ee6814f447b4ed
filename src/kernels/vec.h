/* kernels/vec.h — one vector of floats, four widths, for files that are compiled once per instruction set; and one
 * double, for the same files compiled for f64 (VEC_F64).
 *
 * VEC_WIDTH (1, 4, 8 or 16) is set by the file that includes this; `real` is the element. Every operation gives the same
 * bits at every width: IEEE arithmetic without contraction, selections written as comparison plus blend (never min/max
 * instructions, whose answer for NaN differs), and SLEEF's `cinz_` functions, which promise it. */
#ifndef RQ_KERNELS_VEC_H
#define RQ_KERNELS_VEC_H

#include <sleef.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef VEC_F64
typedef double real;
#else
typedef float real;
#endif

#if VEC_WIDTH == 16

#include <immintrin.h>
typedef __m512 vf;
typedef __mmask16 vm;
#define VEC_MATH(f) Sleef_cinz_##f##f16_u10avx512fnofma
static inline vf vload(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vstore(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
static inline void vstream(float *p, vf v) /* passes the caches by; p is aligned to a vector */
{
    _mm512_stream_ps(p, v);
}
static inline vf vsplat(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vadd(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vsub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vmul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vdiv(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vsqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
static inline vf vabs(vf a)
{
    return _mm512_abs_ps(a);
}
static inline vf vneg(vf a)
{
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}
static inline vf vfloor(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline vf vceil(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
static inline vf vround(vf a) /* half to even */
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vm vlt(vf a, vf b) /* false for NaN */
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline vm vle(vf a, vf b) /* false for NaN */
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static inline vm vnan(vf a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
static inline vm vor(vm a, vm b)
{
    return a | b;
}
static inline vm vand(vm a, vm b)
{
    return a & b;
}
static inline vf vsel(vm m, vf yes, vf no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}
/* a with every lane in the place of the one `apart` from it, apart a power of two below the width */
static inline vf vflip(vf a, int apart)
{
    return apart == 8   ? _mm512_shuffle_f32x4(a, a, 0x4e)
           : apart == 4 ? _mm512_shuffle_f32x4(a, a, 0xb1)
           : apart == 2 ? _mm512_permute_ps(a, 0x4e)
                        : _mm512_permute_ps(a, 0xb1);
}
typedef struct vd { /* as many doubles */
    __m512d low, high;
} vd;
static inline vd vdload(const double *p)
{
    return (vd) { _mm512_loadu_pd(p), _mm512_loadu_pd(p + 8) };
}
static inline void vdstore(double *p, vd v)
{
    _mm512_storeu_pd(p, v.low);
    _mm512_storeu_pd(p + 8, v.high);
}
static inline vd vdadd(vd a, vf b)
{
    const __m256 high = _mm512_extractf32x8_ps(b, 1);
    return (vd) { _mm512_add_pd(a.low, _mm512_cvtps_pd(_mm512_castps512_ps256(b))),
                  _mm512_add_pd(a.high, _mm512_cvtps_pd(high)) };
}

#elif VEC_WIDTH == 8

#include <immintrin.h>
typedef __m256 vf;
typedef __m256 vm;
#define VEC_MATH(f) Sleef_cinz_##f##f8_u10avx
static inline vf vload(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vstore(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
static inline void vstream(float *p, vf v) /* passes the caches by; p is aligned to a vector */
{
    _mm256_stream_ps(p, v);
}
static inline vf vsplat(float x)
{
    return _mm256_set1_ps(x);
}
static inline vf vadd(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vsub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf vmul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf vdiv(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vsqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}
static inline vf vabs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
static inline vf vneg(vf a)
{
    return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f));
}
static inline vf vfloor(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline vf vceil(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
static inline vf vround(vf a) /* half to even */
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vm vlt(vf a, vf b) /* false for NaN */
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline vm vle(vf a, vf b) /* false for NaN */
{
    return _mm256_cmp_ps(a, b, _CMP_LE_OQ);
}
static inline vm vnan(vf a)
{
    return _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
}
static inline vm vor(vm a, vm b)
{
    return _mm256_or_ps(a, b);
}
static inline vm vand(vm a, vm b)
{
    return _mm256_and_ps(a, b);
}
static inline vf vsel(vm m, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, m);
}
static inline vf vflip(vf a, int apart)
{
    return apart == 4   ? _mm256_permute2f128_ps(a, a, 1)
           : apart == 2 ? _mm256_permute_ps(a, 0x4e)
                        : _mm256_permute_ps(a, 0xb1);
}
typedef struct vd { /* as many doubles */
    __m256d low, high;
} vd;
static inline vd vdload(const double *p)
{
    return (vd) { _mm256_loadu_pd(p), _mm256_loadu_pd(p + 4) };
}
static inline void vdstore(double *p, vd v)
{
    _mm256_storeu_pd(p, v.low);
    _mm256_storeu_pd(p + 4, v.high);
}
static inline vd vdadd(vd a, vf b)
{
    const __m128 high = _mm256_extractf128_ps(b, 1);
    return (vd) { _mm256_add_pd(a.low, _mm256_cvtps_pd(_mm256_castps256_ps128(b))),
                  _mm256_add_pd(a.high, _mm256_cvtps_pd(high)) };
}

#elif VEC_WIDTH == 4

#include <arm_neon.h>
typedef float32x4_t vf;
typedef uint32x4_t vm;
#define VEC_MATH(f) Sleef_cinz_##f##f4_u10advsimdnofma
static inline vf vload(const float *p)
{
    return vld1q_f32(p);
}
static inline void vstore(float *p, vf v)
{
    vst1q_f32(p, v);
}
static inline void vstream(float *p, vf v) /* there is no such store here */
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
static inline vf vsub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
static inline vf vmul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
static inline vf vdiv(vf a, vf b)
{
    return vdivq_f32(a, b);
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return vfmaq_f32(c, a, b);
}
static inline vf vsqrt(vf a)
{
    return vsqrtq_f32(a);
}
static inline vf vabs(vf a)
{
    return vabsq_f32(a);
}
static inline vf vneg(vf a)
{
    return vnegq_f32(a);
}
static inline vf vfloor(vf a)
{
    return vrndmq_f32(a);
}
static inline vf vceil(vf a)
{
    return vrndpq_f32(a);
}
static inline vf vround(vf a) /* half to even */
{
    return vrndnq_f32(a);
}
static inline vm vlt(vf a, vf b) /* false for NaN */
{
    return vcltq_f32(a, b);
}
static inline vm vle(vf a, vf b) /* false for NaN */
{
    return vcleq_f32(a, b);
}
static inline vm vnan(vf a)
{
    return vmvnq_u32(vceqq_f32(a, a));
}
static inline vm vor(vm a, vm b)
{
    return vorrq_u32(a, b);
}
static inline vm vand(vm a, vm b)
{
    return vandq_u32(a, b);
}
static inline vf vsel(vm m, vf yes, vf no)
{
    return vbslq_f32(m, yes, no);
}
static inline vf vflip(vf a, int apart)
{
    return apart == 2 ? vextq_f32(a, a, 2) : vrev64q_f32(a);
}
typedef struct vd { /* as many doubles */
    float64x2_t low, high;
} vd;
static inline vd vdload(const double *p)
{
    return (vd) { vld1q_f64(p), vld1q_f64(p + 2) };
}
static inline void vdstore(double *p, vd v)
{
    vst1q_f64(p, v.low);
    vst1q_f64(p + 2, v.high);
}
static inline vd vdadd(vd a, vf b)
{
    return (vd) { vaddq_f64(a.low, vcvt_f64_f32(vget_low_f32(b))), vaddq_f64(a.high, vcvt_high_f64_f32(b)) };
}

#else

#include <math.h>
typedef real vf;
typedef int vm;
#ifdef VEC_F64
#define VEC_MATH(f) Sleef_cinz_##f##d1_u10purec
#define VEC_C(name) name
#else
#define VEC_MATH(f) Sleef_cinz_##f##f1_u10purec
#define VEC_C(name) name##f
#endif
static inline vf vload(const real *p)
{
    return *p;
}
static inline void vstore(real *p, vf v)
{
    *p = v;
}
static inline void vstream(real *p, vf v) /* nor here */
{
    *p = v;
}
static inline vf vsplat(real x)
{
    return x;
}
static inline vf vflip(vf a, int apart)
{
    return a; /* there are none */
}
static inline vf vadd(vf a, vf b)
{
    return a + b;
}
static inline vf vsub(vf a, vf b)
{
    return a - b;
}
static inline vf vmul(vf a, vf b)
{
    return a * b;
}
static inline vf vdiv(vf a, vf b)
{
    return a / b;
}
static inline vf vfma(vf a, vf b, vf c) /* a * b + c, rounded once */
{
    return VEC_C(fma)(a, b, c);
}
static inline vf vsqrt(vf a)
{
    return VEC_C(sqrt)(a);
}
static inline vf vabs(vf a)
{
    return VEC_C(fabs)(a);
}
static inline vf vneg(vf a)
{
    return -a;
}
static inline vf vfloor(vf a)
{
    return VEC_C(floor)(a);
}
static inline vf vceil(vf a)
{
    return VEC_C(ceil)(a);
}
static inline vf vround(vf a) /* half to even */
{
    return VEC_C(rint)(a);
}
static inline vm vlt(vf a, vf b) /* false for NaN */
{
    return a < b;
}
static inline vm vle(vf a, vf b) /* false for NaN */
{
    return a <= b;
}
static inline vm vnan(vf a)
{
    return a != a;
}
static inline vm vor(vm a, vm b)
{
    return a | b;
}
static inline vm vand(vm a, vm b)
{
    return a & b;
}
static inline vf vsel(vm m, vf yes, vf no)
{
    return m ? yes : no;
}
typedef double vd;
static inline vd vdload(const double *p)
{
    return *p;
}
static inline void vdstore(double *p, vd v)
{
    *p = v;
}
static inline vd vdadd(vd a, vf b)
{
    return a + (double)b;
}

#endif

/* The larger; NaN when either is. */
static inline vf vmax(vf a, vf b)
{
    return vsel(vor(vlt(a, b), vnan(b)), b, a);
}

/* The smaller; NaN when either is. */
static inline vf vmin(vf a, vf b)
{
    return vsel(vor(vlt(b, a), vnan(b)), b, a);
}

#endif
