/* ops/int_ops.h — the integer forms of operators, for the rows that have them: accepts, prepare, forward, release and
 * scratch of each family. Tensors are codes (8 bits), in_q and out_q say what they mean; an output without out_q is
 * f32, or s32: the bare sums (Conv and MatMul). Bit for bit what ONNX Runtime's kernels give: docs/onnx-facts.md 6.2
 * and 6.3. */
#ifndef RQ_OPS_INT_OPS_H
#define RQ_OPS_INT_OPS_H

#include "ops/op.h"
#include "ops/reduce.h"

/* ---- int_conv.c: Conv of one to three spatial axes, groups, depthwise; constant weights ---- */
bool rq_int_conv_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_conv_prepare(const rq_op_args *a, void **state);
rq_status rq_int_conv_forward(const rq_op_args *a);
size_t rq_int_conv_scratch(const rq_op_args *a);
void rq_int_conv_release(void *state);
/* For operators whose parameters or weights are known only when they run: prepare without content of the weights, then
 * before each forward, pack where weights or their zero points changed, and fold where any parameter or the bias did.
 * Neither allocates. */
void rq_int_conv_pack(const rq_op_args *a);
void rq_int_conv_fold(const rq_op_args *a);
/* The next forward, to reals, rounds as separate steps would, by the definition (rq_kernels.spec) too: f32(f32(sum) m) + bias. bias: [output channels],
 * or NULL. */
void rq_int_conv_scaled(const rq_op_args *a, const float *bias);

/* ---- int_matmul.c: MatMul (either side variable), Gemm. A MatMul of one B may have a third input, a bias: a constant row of
 * f32, which the planner puts there (run/plan_decide.c) ---- */
bool rq_int_matmul_accepts(const rq_op_args *a, const char **why);
bool rq_int_gemm_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_matmul_prepare(const rq_op_args *a, void **state);
rq_status rq_int_gemm_prepare(const rq_op_args *a, void **state);
rq_status rq_int_matmul_forward(const rq_op_args *a); /* of either */
size_t rq_int_matmul_scratch(const rq_op_args *a);
void rq_int_matmul_release(void *state);

/* ---- int_deconv.c: ConvTranspose, as Conv ---- */
bool rq_int_deconv_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_deconv_prepare(const rq_op_args *a, void **state);
rq_status rq_int_deconv_forward(const rq_op_args *a);
size_t rq_int_deconv_scratch(const rq_op_args *a);
void rq_int_deconv_release(void *state);

/* ---- int_eltwise.c: Add and Mul of two quantized tensors, numpy broadcasting. Where one of them holds reals, or has 16
 * bits, the way of int_zip.c ---- */
bool rq_int_eltwise_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_add_prepare(const rq_op_args *a, void **state);
rq_status rq_int_add_forward(const rq_op_args *a);
rq_status rq_int_mul_prepare(const rq_op_args *a, void **state);
rq_status rq_int_mul_forward(const rq_op_args *a);
/* Is a, which is prepared, an Add whose two operands of codes are taken as they lie? Then *p is what rq_kernels.qadd needs. */
bool rq_int_add_is_plain(const rq_op_args *a, rq_qadd *p);

/* ---- int_zip.c: operators of two operands that no runtime has integer kernels for: Sub, Div, Min, Max, PRelu ---- */
bool rq_int_zip_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_zip_prepare(const rq_op_args *a, void **state);
rq_status rq_int_zip_forward(const rq_op_args *a);
void rq_int_zip_release(void *state);
/* The broadcast of inputs 0 and 1 as they lie. */
struct rq_bcast;
void rq_int_zip_plan(struct rq_bcast *p, const rq_op_args *a);
/* y = Q(f(DQ(a), DQ(b))), whatever the row's operator. */
rq_status rq_int_zip_run(const rq_op_args *a, rq_zip_id f);

/* ---- int_reduce.c: reductions over any axes, exact in integers until one factor and one rounding ---- */
/* All kinds of ops/reduce.h but PROD and LOG_SUM_EXP. */
bool rq_int_reduce_accepts(const rq_op_args *a, rq_reduce kind, const char **why);
void rq_int_reduce_run(const rq_op_args *a, const rq_reduce_plan *p, rq_reduce kind);

/* ---- int_pool.c ---- */
bool rq_int_pool_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_average_pool_forward(const rq_op_args *a);
rq_status rq_int_global_average_pool_forward(const rq_op_args *a);
rq_last rq_int_average_pool_last(const rq_op_args *a);
/* Of channels-last codes: the largest of each window; what takes them so. */
rq_status rq_int_max_pool_run(const rq_op_args *a);
rq_status rq_int_global_max_pool_run(const rq_op_args *a);
rq_last rq_int_window_last(const rq_op_args *a);

/* ---- int_concat.c: a copy, or a table where parameters differ ---- */
bool rq_int_concat_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_concat_forward(const rq_op_args *a);
/* The same for Where: each side in the parameters of the result. */
bool rq_int_where_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_where_forward(const rq_op_args *a);

/* ---- int_gather.c: Gather from a constant table of codes to reals ---- */
bool rq_int_gather_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_gather_forward(const rq_op_args *a);

/* ---- what they share ---- */

bool rq_int_is_byte(rq_dtype d); /* u8 or s8 */
/* Codes of 8 bits with one pair of parameters. */
bool rq_int_is_activation(const rq_qparams *q, const char **why);
/* The same, or of 16 bits. */
bool rq_int_is_codes(const rq_qparams *q, const char **why);
/* Weight, bias and output of Conv and ConvTranspose, `outputs` channels along `axis` of the weight. */
bool rq_int_is_conv(const rq_op_args *a, int axis, int64_t outputs, const char **why);
/* Elements at..at+n-1 of t as reals: dequantized, or, with q NULL, the f32 they are. */
void rq_int_to_reals(const rq_kernels *k, float *y, const rq_tensor *t, int64_t at, int64_t n, const rq_qparams *q);
/* And back, into elements at..at+n-1 of y: each rounded once. */
void rq_int_from_reals(const rq_kernels *k, rq_tensor *y, int64_t at, const float *x, int64_t n, const rq_qparams *q);
/* Every output annotated like that, or f32 when `or_real`. */
bool rq_int_is_output(const rq_qparams *q, const rq_tensor *t, bool or_real, const char **why);
/* Does b say that a bias counts in units of the sums of x (one pair) and w: s32, zero points 0, scale f32(f32(alpha sx) sw[c])?
 * Then its codes are added as they are. */
bool rq_int_is_bias(const rq_qparams *b, const rq_qparams *x, const rq_qparams *w, float alpha);
/* DynamicQuantizeLinear (docs/onnx-facts.md 2.5): u8 codes y of x [n], their scale and zero point. y may be NULL. */
void rq_int_dynamic(uint8_t *y, const float *x, int64_t n, float *scale, uint8_t *zero, const rq_kernels *k);
/* The same on several threads; t may be NULL. */
void rq_int_dynamic_on(rq_threads *t, uint8_t *y, const float *x, int64_t n, float *scale, uint8_t *zero,
                       const rq_kernels *k);
/* The zero point of codes turned into u8 by flipping the top bit of s8, and the flip. */
static inline uint8_t rq_int_flip_to_u8(rq_dtype d)
{
    return d == RQ_DTYPE_S8 ? 0x80 : 0;
}
static inline uint8_t rq_int_flip_to_s8(rq_dtype d)
{
    return d == RQ_DTYPE_U8 ? 0x80 : 0;
}

#endif
