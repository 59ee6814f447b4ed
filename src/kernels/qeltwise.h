/* kernels/qeltwise.h — what the kernels of Add and Mul on codes need besides codes; contracts in kernels.h. */
#ifndef RQ_KERNELS_QELTWISE_H
#define RQ_KERNELS_QELTWISE_H

#include <stdint.h>

typedef struct rq_qadd {
    float ra, rb, k;        /* sa / sc, sb / sc, and what the zero points amount to */
    int a_signed, b_signed; /* s8, not u8 */
    int32_t lo, hi;         /* codes of the result */
} rq_qadd;

typedef struct rq_qmul {
    int32_t za, zb;
    float r, zc; /* sa * sb / sc */
    int a_signed, b_signed;
    int32_t lo, hi;
} rq_qmul;

#endif
