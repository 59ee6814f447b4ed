/* kernels/eltwise.h — functions of one and of two floats, element by element.
 *
 * One list names them all; eltwise_tmpl.h defines them once, eltwise_{scalar,neon,avx2,avx512}.c compile that at
 * four vector widths. Same bits at each width (kernels/vec.h). */
#ifndef RQ_KERNELS_ELTWISE_H
#define RQ_KERNELS_ELTWISE_H

#include <stddef.h>

/* y = f(x; a, b). NaN gives NaN unless said otherwise. */
#define RQ_MAP_LIST(X)                                                                                                 \
    X(ABS, abs)                                                                                                        \
    X(NEG, neg)                                                                                                        \
    X(SIGN, sign)                                                                                                      \
    X(FLOOR, floor)                                                                                                    \
    X(CEIL, ceil)                                                                                                      \
    X(ROUND, round) /* half to even */                                                                                 \
    X(SQRT, sqrt)                                                                                                      \
    X(RECIPROCAL, reciprocal)                                                                                          \
    X(SQUARE, square)                                                                                                  \
    X(EXP, exp)                                                                                                        \
    X(LOG, log)                                                                                                        \
    X(SIN, sin)                                                                                                        \
    X(COS, cos)                                                                                                        \
    X(TAN, tan)                                                                                                        \
    X(ASIN, asin)                                                                                                      \
    X(ACOS, acos)                                                                                                      \
    X(ATAN, atan)                                                                                                      \
    X(SINH, sinh)                                                                                                      \
    X(COSH, cosh)                                                                                                      \
    X(TANH, tanh)                                                                                                      \
    X(ASINH, asinh)                                                                                                    \
    X(ACOSH, acosh)                                                                                                    \
    X(ATANH, atanh)                                                                                                    \
    X(ERF, erf)                                                                                                        \
    X(RELU, relu)                                                                                                      \
    X(CLIP, clip)                         /* min(max(x, a), b) */                                                      \
    X(LEAKY_RELU, leaky_relu)             /* x < 0 ? a x : x */                                                        \
    X(SIGMOID, sigmoid)                   /* 1 / (1 + e^-x) */                                                         \
    X(HARD_SIGMOID, hard_sigmoid)         /* clip(a x + b, 0, 1) */                                                    \
    X(HARD_SWISH, hard_swish)             /* x clip(x/6 + 1/2, 0, 1) */                                                \
    X(SWISH, swish)                       /* x sigmoid(a x) */                                                         \
    X(MISH, mish)                         /* x tanh(log(1 + e^x)) */                                                   \
    X(ELU, elu)                           /* x < 0 ? a (e^x - 1) : x */                                                \
    X(SELU, selu)                         /* b (x > 0 ? x : a (e^x - 1)) */                                            \
    X(CELU, celu)                         /* max(0, x) + min(0, a (e^(x/a) - 1)) */                                    \
    X(SOFTPLUS, softplus)                 /* log(1 + e^x) */                                                           \
    X(SOFTSIGN, softsign)                 /* x / (1 + |x|) */                                                          \
    X(THRESHOLDED_RELU, thresholded_relu) /* x > a ? x : 0 */                                                          \
    X(SHRINK, shrink)                     /* x < -a ? x + b : x > a ? x - b : 0 */                                     \
    X(GELU, gelu)                         /* x/2 (1 + erf(x/sqrt 2)) */                                                \
    X(GELU_TANH, gelu_tanh)               /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */                          \
    X(LINEAR, linear)                     /* a x + b, rounded twice */

/* y = f(a, b); MIN and MAX give NaN when either is. FMOD has the sign of a; MOD (fmod moved) the sign of b. */
#define RQ_ZIP_LIST(X)                                                                                                 \
    X(ADD, add)                                                                                                        \
    X(SUB, sub)                                                                                                        \
    X(MUL, mul)                                                                                                        \
    X(DIV, div)                                                                                                        \
    X(MIN, min)                                                                                                        \
    X(MAX, max)                                                                                                        \
    X(POW, pow)                                                                                                        \
    X(FMOD, fmod)                                                                                                      \
    X(MOD, mod)                                                                                                        \
    X(PRELU, prelu)         /* a < 0 ? a b : a */                                                                      \
    X(BIAS_GELU, bias_gelu) /* gelu(a + b) */                                                                          \
    X(BIAS_GELU_TANH, bias_gelu_tanh)

typedef enum rq_map_id {
#define RQ_MAP_ENUM(upper, lower) RQ_MAP_##upper,
    RQ_MAP_LIST(RQ_MAP_ENUM)
#undef RQ_MAP_ENUM
        RQ_N_MAPS
} rq_map_id;

typedef enum rq_zip_id {
#define RQ_ZIP_ENUM(upper, lower) RQ_ZIP_##upper,
    RQ_ZIP_LIST(RQ_ZIP_ENUM)
#undef RQ_ZIP_ENUM
        RQ_N_ZIPS
} rq_zip_id;

/* y[i] = f(x[i]; a, b) for i < n; y may be x. */
typedef void (*rq_map_fn)(float *y, const float *x, size_t n, float a, float b);
/* y[i] = f(a[i * sa], b[i * sb]) for i < n; each stride is 1 or 0; y may be an operand of stride 1. */
typedef void (*rq_zip_fn)(float *y, const float *a, int sa, const float *b, int sb, size_t n);

/* A weighted sum of rows; see rq_kernels.taps_f32. */
typedef void (*rq_taps_fn)(float *y, const float *const *x, const float *w, int taps, float bias, size_t n);
void rq_taps_f32_scalar(float *y, const float *const *x, const float *w, int taps, float bias, size_t n);
void rq_taps_f32_avx2(float *y, const float *const *x, const float *w, int taps, float bias, size_t n);
void rq_taps_f32_neon(float *y, const float *const *x, const float *w, int taps, float bias, size_t n);
void rq_taps_f32_avx512(float *y, const float *const *x, const float *w, int taps, float bias, size_t n);

extern const rq_map_fn rq_map_scalar[RQ_N_MAPS], rq_map_avx2[RQ_N_MAPS], rq_map_avx512[RQ_N_MAPS],
    rq_map_neon[RQ_N_MAPS];
extern const rq_zip_fn rq_zip_scalar[RQ_N_ZIPS], rq_zip_avx2[RQ_N_ZIPS], rq_zip_avx512[RQ_N_ZIPS],
    rq_zip_neon[RQ_N_ZIPS];

/* The same functions of doubles; one version, the definition. */
typedef void (*rq_map_f64_fn)(double *y, const double *x, size_t n, double a, double b);
typedef void (*rq_zip_f64_fn)(double *y, const double *a, int sa, const double *b, int sb, size_t n);
extern const rq_map_f64_fn rq_map_f64[RQ_N_MAPS];
extern const rq_zip_f64_fn rq_zip_f64[RQ_N_ZIPS];

/* The functions that integers have, for one integer type; other entries are NULL. Results wrap around; x / 0, and what
 * remains of it, is 0; a negative power is 0 unless x is 1 or -1. Maps: ABS NEG SIGN RELU CLIP (a and b are read as
 * pointers to one element). */
typedef struct rq_eltwise_int {
    void (*zip[RQ_N_ZIPS])(void *y, const void *a, int sa, const void *b, int sb, size_t n);
    void (*map[RQ_N_MAPS])(void *y, const void *x, size_t n, const void *a, const void *b);
} rq_eltwise_int;
extern const rq_eltwise_int rq_eltwise_s8, rq_eltwise_u8, rq_eltwise_s16, rq_eltwise_u16, rq_eltwise_s32,
    rq_eltwise_u32, rq_eltwise_s64, rq_eltwise_u64;

#endif
