/* kernels/qeltwise.h — what the kernels of Add and Mul on codes need besides codes; contracts in kernels.h. */
#ifndef RQ_KERNELS_QELTWISE_H
#define RQ_KERNELS_QELTWISE_H

#include <stdbool.h>
#include <stdint.h>

/* Fewer operations that give the same codes for every pair of codes, which rq_qadd_quicken has looked at. With a and b flipped,
 *   y = clamp(low 16 bits of fma(float whose bits are `bits` + a * wa + b * wb, step, base))
 * `bits` are those of a float of at least 2^23, where bits count units: a sum of integers is a float without a conversion. `base` is near
 * 1.5 * 2^23, where floats are integers: the multiply-add rounds to the code, which its low bits then are. */
typedef struct rq_qadd_quick {
    int16_t wa, wb; /* both 0: there is none */
    int32_t bits;
    float step, base;
} rq_qadd_quick;

/* Everything is computed on u8 codes; s8 ones are turned into them, and back, by flipping the top bit (0x80, else 0),
 * with zero points larger by 128: what ONNX Runtime does with s8 models on x64 (docs/onnx-facts.md 5.1 rule 10), where
 * it decides near ties. */
typedef struct rq_qadd {
    float ra, rb, k; /* sa / sc, sb / sc, and what the zero points amount to */
    uint8_t flip_a, flip_b, flip_y;
    rq_qadd_quick quick; /* of this ra, rb and k; kernels of two operands use it where it pays */
} rq_qadd;

typedef struct rq_qmul {
    int32_t za, zb;
    float r, zc; /* sa * sb / sc */
    uint8_t flip_a, flip_b, flip_y;
    /* As `quick` of a sum: y = clamp(low 16 bits of fma((a - za) * (b - zb), step, 1.5 * 2^23 + zc)). 0: there is none. */
    float step;
} rq_qmul;

struct rq_kernels;

/* Look for p->quick, which must be zeros, and prove it: k's own kernel is run on all 65536 pairs of codes both ways. Some 20 to 30
 * microseconds, 200 where nothing is found; nothing at the scalar level, which is the definition. */
void rq_qadd_quicken(const struct rq_kernels *k, rq_qadd *p);
/* The same for p->step of a product. */
void rq_qmul_quicken(const struct rq_kernels *k, rq_qmul *p);

static inline bool rq_qadd_is_quick(const rq_qadd *p)
{
    return p->quick.wa || p->quick.wb;
}

#endif
