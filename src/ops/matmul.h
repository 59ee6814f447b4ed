/* ops/matmul.h — what the halves of MatMul and Gemm share: matmul.c runs them forward, matmul_grad.c backward. */
#ifndef RQ_OPS_MATMUL_H
#define RQ_OPS_MATMUL_H

#include "ops/op.h"

/* Products y [m][n] = op(a) [m][k] op(b) [k][n], one per element of the batch. */
typedef struct rq_matmul_product {
    int64_t m, n, k, lda, ldb;
    int64_t a_step, b_step; /* elements from one matrix to the next */
    bool ta, tb;
    float alpha;
    rq_shape xb, wb, yb; /* batch axes */
} rq_matmul_product;

/* Of MatMul and FusedMatMul. */
void rq_matmul_product_of(const rq_op_args *a, rq_matmul_product *p);
/* One matrix on the right makes a batch more rows of one product. Returns how many products there are then. */
int64_t rq_matmul_join_rows(rq_matmul_product *p);
/* Start of the matrix that belongs to product i, in an operand whose batch axes are b and whose matrices are `size` apart. */
int64_t rq_matmul_at(const rq_shape *y, const rq_shape *b, int64_t i, int64_t size);

/* ---- matmul.c: functions of the row, of in[0] and in[1]; forward wants reals, and a state that is the packed weight or NULL ---- */
rq_status rq_matmul_infer(const rq_infer *a);
rq_status rq_matmul_wide(const rq_op_args *a);
double rq_matmul_macs(const rq_op_args *a);

/* ---- matmul_packed.c: a right operand that never changes ---- */

/* *packed (preset to NULL) becomes the weight (input 1), w [k][n], or [n][k] where trans, in panels for rq_gemm_f32_packed, shared by all plans of all sessions that have its
 * bytes and not to be written or
 * released; it stays NULL where the weight is not constant, or better read as it lies. RQ_NO_MEMORY. */
rq_status rq_matmul_pack(const rq_op_args *a, bool trans, int64_t k, int64_t n, void **packed);

rq_status rq_matmul_backward(const rq_op_args *a);
rq_status rq_gemm_backward(const rq_op_args *a);

#endif
