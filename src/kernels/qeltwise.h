/* kernels/qeltwise.h — what the kernels of Add and Mul on codes need besides codes; contracts in kernels.h. */
#ifndef RQ_KERNELS_QELTWISE_H
#define RQ_KERNELS_QELTWISE_H

#include <stdint.h>

/* Everything is computed on u8 codes; s8 ones are turned into them, and back, by flipping the top bit (0x80, else 0),
 * with zero points larger by 128: what ONNX Runtime does with s8 models on x64 (docs/onnx-facts.md 5.1 rule 10), where
 * it decides near ties. */
typedef struct rq_qadd {
    float ra, rb, k; /* sa / sc, sb / sc, and what the zero points amount to */
    uint8_t flip_a, flip_b, flip_y;
} rq_qadd;

typedef struct rq_qmul {
    int32_t za, zb;
    float r, zc; /* sa * sb / sc */
    uint8_t flip_a, flip_b, flip_y;
} rq_qmul;

#endif
