/* kernels/eltwise_grad.h — gradients of the functions of one float in kernels/eltwise.h: dx = dy f'(x; a, b).
 *
 * v is x, or y = f(x; a, b) where that says as much and the network keeps it anyway. What is chosen where f has a kink is PyTorch's choice; NaN
 * in v passes dy on where f is cut in pieces, as there. Same bits at each width (kernels/vec.h). */
#ifndef RQ_KERNELS_ELTWISE_GRAD_H
#define RQ_KERNELS_ELTWISE_GRAD_H

#include "kernels/eltwise.h"

/* Of each function with a gradient: what it is made of, x or y. Those not listed are flat (ROUND) or used by no operator. */
#define RQ_MAP_GRAD_LIST(X)                                                                                            \
    X(ABS, abs)                           /* x; 0 at 0 */                                                              \
    X(NEG, neg)                           /* nothing */                                                                \
    X(SQRT, sqrt)                         /* y */                                                                      \
    X(RECIPROCAL, reciprocal)             /* y */                                                                      \
    X(EXP, exp)                           /* y */                                                                      \
    X(LOG, log)                           /* x */                                                                      \
    X(SIN, sin)                           /* x */                                                                      \
    X(COS, cos)                           /* x */                                                                      \
    X(TAN, tan)                           /* y */                                                                      \
    X(ASIN, asin)                         /* x */                                                                      \
    X(ACOS, acos)                         /* x */                                                                      \
    X(ATAN, atan)                         /* x */                                                                      \
    X(SINH, sinh)                         /* x */                                                                      \
    X(COSH, cosh)                         /* x */                                                                      \
    X(TANH, tanh)                         /* y */                                                                      \
    X(ASINH, asinh)                       /* x */                                                                      \
    X(ACOSH, acosh)                       /* x */                                                                      \
    X(ATANH, atanh)                       /* x */                                                                      \
    X(ERF, erf)                           /* x */                                                                      \
    X(RELU, relu)                         /* y; 0 at 0 */                                                              \
    X(CLIP, clip)                         /* y; 0 at both ends, as Hardtanh and ReLU6 (torch.clamp: 1) */              \
    X(LEAKY_RELU, leaky_relu)             /* x; a at 0 */                                                              \
    X(SIGMOID, sigmoid)                   /* y */                                                                      \
    X(HARD_SIGMOID, hard_sigmoid)         /* y; 0 at both ends */                                                      \
    X(HARD_SWISH, hard_swish)             /* x; at -3 and 3 as between them */                                         \
    X(SWISH, swish)                       /* x */                                                                      \
    X(MISH, mish)                         /* x */                                                                      \
    X(ELU, elu)                           /* x; a at 0 */                                                              \
    X(SELU, selu)                         /* x; a b at 0 */                                                            \
    X(CELU, celu)                         /* x */                                                                      \
    X(SOFTPLUS, softplus)                 /* x */                                                                      \
    X(SOFTSIGN, softsign)                 /* x */                                                                      \
    X(THRESHOLDED_RELU, thresholded_relu) /* x; 0 at a */                                                              \
    X(SHRINK, shrink)                     /* x; 0 at both ends */                                                      \
    X(GELU, gelu)                         /* x */                                                                      \
    X(GELU_TANH, gelu_tanh)               /* x */

/* dx[i] = dy[i] f'(...) for i < n; dx may be dy or v. */
typedef void (*rq_map_grad_fn)(float *dx, const float *dy, const float *v, size_t n, float a, float b);

extern const rq_map_grad_fn rq_map_grad_scalar[RQ_N_MAPS], rq_map_grad_avx2[RQ_N_MAPS], rq_map_grad_avx512[RQ_N_MAPS],
    rq_map_grad_neon[RQ_N_MAPS];

#endif
