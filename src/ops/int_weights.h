/* ops/int_weights.h — the two sides of an integer product (kernels/qgemm.h) as operators have them: matrices of codes, u8 or s8.
 *
 * X becomes u8 and W s8 by flipping top bits, which moves their zero points by 128:
 *
 *   sum (x - zx)(w - zw)  =  sum x w  -  zx sum w  -  zw sum x  +  K zx zw */
#ifndef RQ_OPS_INT_WEIGHTS_H
#define RQ_OPS_INT_WEIGHTS_H

#include "ops/op.h"

/* Packed weights of one size: of a constant, shared with other plans (ops/packs.h); or room for variable ones. */
typedef struct rq_int_weights {
    int64_t depth, columns;
    uint8_t flip;       /* to s8 */
    size_t w_bytes;     /* of one matrix */
    const char *w;      /* [n][w_bytes]; NULL: variable */
    const int32_t *sum; /* [n][columns] of the packed codes */
    void *own;          /* what there is to free: where nobody keeps packs */
} rq_int_weights;

/* n matrices among the codes of a tensor: element (k, j) of matrix i is first + i * step + k * k_stride + j * col_stride. */
typedef struct rq_int_matrices {
    int64_t n, depth, columns;
    int64_t first, step, k_stride, col_stride;
} rq_int_matrices;

/* Those of t, U8 or S8. Without data: sizes only. RQ_NO_MEMORY. */
rq_status rq_int_weights_init(rq_int_weights *w, const rq_op_args *a, const rq_tensor *t, const rq_int_matrices *m);
void rq_int_weights_release(rq_int_weights *w); /* a zeroed one is fine */

/* What a zero point of W becomes with it, and one of X. */
static inline int32_t rq_int_weights_zero(rq_dtype d, int32_t zero)
{
    return zero - (d == RQ_DTYPE_U8 ? 128 : 0);
}
static inline int32_t rq_int_rows_zero(rq_dtype d, int32_t zero)
{
    return zero + (d == RQ_DTYPE_S8 ? 128 : 0);
}

/* add[j] += K zx zw[j] - zx sum[j]: what the zero points add to each column. zw[j] is col_zero[j], or `zero` where col_zero is NULL. */
void rq_int_weights_fold(int32_t *add, const int32_t *sum, int64_t depth, int64_t columns, int32_t zx, int32_t zero,
                         const int32_t *col_zero);

/* Rows of X as u8 with steps of 1 along the depth: where they are, or in room [rows][depth]. *stride gets the bytes between them. */
bool rq_int_rows_move(rq_dtype d, int64_t k_stride); /* is room wanted? */
const uint8_t *rq_int_rows(uint8_t *room, const uint8_t *x, rq_dtype d, int64_t row_stride, int64_t k_stride,
                           int64_t rows, int64_t depth, int64_t *stride, rq_threads *t);

#endif
