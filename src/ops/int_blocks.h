/* ops/int_blocks.h — products of codes whose weights have a scale and zero point per block of the depth:
 *
 *   y[i][j] = sum over blocks b, in order, of f32( sum over k in b of (x - zx)(w - zw[b][j]) ) * f32(sx[i][b] * sw[b][j])
 *
 * The inner sums are exact integers; the outer one is in f32, one rounding per product and one per addition, in this
 * order everywhere: on every instruction set and for every number of threads. Codes have up to 8 bits.
 * s32 holds the inner sums of blocks that rq_int_blocks_fit() lets pass. */
#ifndef RQ_OPS_INT_BLOCKS_H
#define RQ_OPS_INT_BLOCKS_H

#include "ops/op.h"

typedef struct rq_int_blocks {
    const rq_kernels *k;
    int64_t depth, block, n_blocks, columns;
    rq_dtype codes;
    char *w;        /* packed, block after block */
    size_t w_bytes; /* of a full block */
    float *scale;   /* [n_blocks][columns], filled by the caller */
    int32_t *zero;  /* the same, of the codes as given to pack; NULL once settled: `one` serves all */
    int32_t one;
    int32_t *sum; /* sums of packed codes */
} rq_int_blocks;

/* Do sums within blocks stay in s32 whatever the codes are? */
bool rq_int_blocks_fit(int64_t block, int64_t depth);
/* Room for w [depth][columns] of these codes (U8 or S8 as bytes) in blocks. RQ_NO_MEMORY. */
rq_status rq_int_blocks_init(rq_int_blocks *p, const rq_kernels *k, rq_dtype codes, int64_t depth, int64_t block,
                             int64_t columns);
void rq_int_blocks_release(rq_int_blocks *p); /* a zeroed one is fine */
/* Block b: w[k][j] = codes[k * k_stride + j * col_stride], k from the start of the block. */
void rq_int_blocks_pack(rq_int_blocks *p, int64_t b, const uint8_t *codes, int64_t k_stride, int64_t col_stride);
/* Every block is packed, every scale and zero point set. */
void rq_int_blocks_settle(rq_int_blocks *p);

typedef struct rq_int_blocks_job {
    const uint8_t *x; /* [rows][depth] codes */
    rq_dtype x_dtype; /* U8 or S8 */
    int64_t rows;
    const float *x_scale; /* [1], or with each [rows][n_blocks] */
    bool each;
    int32_t x_zero;
    const float *bias; /* [columns], added last; or NULL */
    float *y;          /* [rows][columns] */
} rq_int_blocks_job;

size_t rq_int_blocks_scratch(const rq_int_blocks *p, int64_t rows);
void rq_int_blocks_run(const rq_int_blocks *p, const rq_int_blocks_job *j, void *scratch, rq_threads *t);

#endif
