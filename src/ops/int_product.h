/* ops/int_product.h — products of codes whose scales and zero points are ordinary inputs, known only when they run:
 * MatMulInteger, QLinearMatMul, the dynamic operators. What does not change between runs, packed weights and their
 * column sums, is made once; everything else stands in scratch, so running allocates nothing.
 *
 *   sum (x - zx)(w - zw)  =  sum x w  -  zx sum w  -  zw (sum x - K zx)
 *
 * with one zx per row and one zw per column, or one for all. Codes are 8 bits, u8 or s8 on either side. */
#ifndef RQ_OPS_INT_PRODUCT_H
#define RQ_OPS_INT_PRODUCT_H

#include "ops/int_weights.h"

/* Right operands of one size, [n_w][depth][columns], and the most rows a left one has. */
typedef struct rq_product {
    const rq_kernels *k;
    int64_t rows, depth, columns, n_w;
    int64_t k_stride; /* of variable weights */
    rq_dtype x_dtype, w_dtype;
    rq_int_weights w;
} rq_product;

/* One product. A scale or zero point is a tensor of 1 entry or one per row of x (period p: row i takes entry i % p) or
 * column of w; dtype NONE: 1 and 0. */
typedef struct rq_product_job {
    const uint8_t *x; /* [rows][depth] codes */
    const uint8_t *w; /* [depth][columns] codes, rows k_stride apart; not looked at when packed */
    int64_t rows, at_w;
    rq_tensor x_scale, x_zero, w_scale, w_zero, y_scale, y_zero;
    const float *bias; /* [columns], with y f32; or NULL */
    void *y;           /* [rows][columns], rows ld apart */
    int64_t ld;        /* 0: columns */
    rq_dtype y_dtype;  /* S32: the sums; F32: f32(sum) * f32(sx sw) + bias; U8, S8: requantized */
    bool in_turn;      /* F32: f32(f32(sum) sx) * sw + bias instead */
} rq_product_job;

/* x and w of these types (u8 or s8), w [n_w][depth][columns] (data NULL: variable). RQ_NO_MEMORY. */
rq_status rq_product_init(rq_product *p, const rq_op_args *a, rq_dtype x, const rq_tensor *w, int64_t n_w, int64_t rows,
                          int64_t depth, int64_t columns);
/* w anywhere in its tensor, columns side by side (col_stride 1). */
rq_status rq_product_init_of(rq_product *p, const rq_op_args *a, rq_dtype x, const rq_tensor *w,
                             const rq_int_matrices *m, int64_t rows);
void rq_product_release(rq_product *p); /* a zeroed one is fine */
size_t rq_product_scratch(const rq_product *p);
/* scratch: rq_product_scratch bytes, 64-byte aligned. */
void rq_product_run(const rq_product *p, const rq_product_job *j, void *scratch, rq_threads *t);

#endif
