/* ops/int_pick.h — Conv, ConvTranspose, MatMul and Gemm have several integer forms, and this picks the first that takes
 * what a node has: 8-bit codes (int_conv.c, int_deconv.c, int_matmul.c), codes of 16 bits (int_wide.c), weights with
 * scales per block (int_blocked.c), weights alone in codes (int_weight_only.c). Constant weights of less than 8 bits
 * stand as bytes from here on. */
#ifndef RQ_OPS_INT_PICK_H
#define RQ_OPS_INT_PICK_H

#include "ops/op.h"

/* The functions of one form, as in a row (ops/op.h). */
typedef struct rq_int_form {
    bool (*accepts)(const rq_op_args *a, const char **why);
    rq_status (*prepare)(const rq_op_args *a, void **state);
    rq_status (*forward)(const rq_op_args *a);
    size_t (*scratch)(const rq_op_args *a);
    void (*release)(void *state);
    bool posts; /* forward does args.post; false: they are done behind it */
} rq_int_form;

/* What a node multiplies. */
typedef enum rq_int_product { RQ_INT_CONV, RQ_INT_DECONV, RQ_INT_MATMUL, RQ_INT_GEMM } rq_int_product;

/* ---- int_pick.c: for the rows ---- */
bool rq_int_pick_conv(const rq_op_args *a, const char **why);
bool rq_int_pick_deconv(const rq_op_args *a, const char **why);
bool rq_int_pick_matmul(const rq_op_args *a, const char **why);
bool rq_int_pick_gemm(const rq_op_args *a, const char **why);
/* Channels-last: the 8-bit forms of Conv and ConvTranspose. */
rq_last rq_int_pick_last_conv(const rq_op_args *a);
rq_last rq_int_pick_last_deconv(const rq_op_args *a);
rq_status rq_int_pick_prepare_conv(const rq_op_args *a, void **state);
rq_status rq_int_pick_prepare_deconv(const rq_op_args *a, void **state);
rq_status rq_int_pick_prepare_matmul(const rq_op_args *a, void **state);
rq_status rq_int_pick_prepare_gemm(const rq_op_args *a, void **state);
rq_status rq_int_pick_forward(const rq_op_args *a);
size_t rq_int_pick_scratch(const rq_op_args *a);
void rq_int_pick_release(void *state);

/* ---- the forms ---- */
extern const rq_int_form rq_int_plain_conv, rq_int_plain_deconv, rq_int_plain_matmul, rq_int_plain_gemm;
extern const rq_int_form rq_int_wide_conv, rq_int_wide_deconv, rq_int_wide_matmul, rq_int_wide_gemm;
extern const rq_int_form rq_int_blocked_conv, rq_int_blocked_matmul;
extern const rq_int_form rq_int_weight_only;

/* ---- what they share ---- */

/* Codes from..from+n-1 of t, of any type up to 16 bits. */
void rq_int_unpack(int32_t *dst, const rq_tensor *t, int64_t from, int64_t n);
/* The type of 8 or 16 bits that holds the codes of d: S8 for S2, S4; U8 for U2, U4; else d. */
rq_dtype rq_int_bytes_of(rq_dtype d);
/* *dst: t with codes of less than 8 bits as bytes; a share of t where they have 8 or more. RQ_NO_MEMORY. */
rq_status rq_int_widen(rq_tensor *dst, const rq_tensor *t);
/* bias[c] = the real that bias adds to output channel c, 0 without one, c < n; what rq_int_takes_bias takes. */
void rq_int_read_bias(double *bias, int64_t n, const rq_tensor *c, const rq_qparams *q, const rq_qparams *x,
                      const rq_qparams *w, float alpha);
/* Is the bias (input 2, may be missing) a constant of n channels or one: f32, annotated s32, or bare s32 in units of
 * alpha sx sw[c]? */
bool rq_int_takes_bias(const rq_op_args *a, int64_t n, const char **why);

#endif
