/* kernels/kernels_isa.h — every version of every kernel, by name: what kernels.c fills the table from. Contracts stand
 * in kernels.h; a name is the table's with the instruction set behind it. Nobody else calls these. */
#ifndef RQ_KERNELS_KERNELS_ISA_H
#define RQ_KERNELS_KERNELS_ISA_H

#include "kernels/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define RQ_X86 1
#else
#define RQ_X86 0
#endif
#if defined(__aarch64__)
#define RQ_ARM64 1
#else
#define RQ_ARM64 0
#endif

/* ---- quantize_*.c ---- */
void rq_quantize_u8_scalar(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_half_scalar(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s8_scalar(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_u16_scalar(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s16_scalar(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_dequantize_u8_scalar(float *y, const uint8_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s8_scalar(float *y, const int8_t *x, size_t n, float scale, int32_t zp);
void rq_quantize_quotients_scalar(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp,
                                  int32_t lo, int32_t hi);
void rq_quantize_quotients_avx2(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp, int32_t lo,
                                int32_t hi);
void rq_quantize_quotients_avx512(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp,
                                  int32_t lo, int32_t hi);
void rq_lut8_scalar(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256]);
void rq_lut8_avx2(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256]);
void rq_lut8_vbmi(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256]);
void rq_transpose8_scalar(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip);
void rq_transpose8_neon(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip);
void rq_transpose8_avx2(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip);
void rq_norm8_scalar(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p);
void rq_norm8_avx2(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p);
void rq_norm8_avx512(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p);
void rq_norm8_neon(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p);
void rq_sums8_scalar(uint32_t *sum, uint32_t *squares, const uint8_t *x, size_t n, uint8_t flip);
void rq_equal_s32_scalar(uint8_t *y, const int32_t *a, int sa, const int32_t *b, int sb, size_t n);
void rq_sums8_avx2(uint32_t *sum, uint32_t *squares, const uint8_t *x, size_t n, uint8_t flip);
void rq_equal_s32_avx2(uint8_t *y, const int32_t *a, int sa, const int32_t *b, int sb, size_t n);
void rq_sums8_avx512(uint32_t *sum, uint32_t *squares, const uint8_t *x, size_t n, uint8_t flip);
void rq_equal_s32_avx512(uint8_t *y, const int32_t *a, int sa, const int32_t *b, int sb, size_t n);
void rq_lut8_f32_scalar(float *y, const uint8_t *x, size_t n, const rq_lut8_f32 *table);
void rq_lut8_f32_vbmi(float *y, const uint8_t *x, size_t n, const rq_lut8_f32 *table);
void rq_lut8_neon(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256]);
void rq_quantize_u8_avx2(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_half_avx2(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s8_avx2(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_dequantize_u8_avx2(float *y, const uint8_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s8_avx2(float *y, const int8_t *x, size_t n, float scale, int32_t zp);
void rq_quantize_u8_avx512(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_half_avx512(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s8_avx512(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_dequantize_u8_avx512(float *y, const uint8_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s8_avx512(float *y, const int8_t *x, size_t n, float scale, int32_t zp);
void rq_quantize_u8_neon(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_half_neon(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s8_neon(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_dequantize_u8_neon(float *y, const uint8_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s8_neon(float *y, const int8_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_u16_scalar(float *y, const uint16_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s16_scalar(float *y, const int16_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_u16_avx2(float *y, const uint16_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s16_avx2(float *y, const int16_t *x, size_t n, float scale, int32_t zp);
void rq_quantize_u16_avx2(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s16_avx2(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_dequantize_u16_avx512(float *y, const uint16_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s16_avx512(float *y, const int16_t *x, size_t n, float scale, int32_t zp);
void rq_quantize_u16_avx512(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s16_avx512(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);

void rq_quantize_u16_neon(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_quantize_s16_neon(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
void rq_dequantize_u16_neon(float *y, const uint16_t *x, size_t n, float scale, int32_t zp);
void rq_dequantize_s16_neon(float *y, const int16_t *x, size_t n, float scale, int32_t zp);
void rq_quantize_quotients_neon(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp, int32_t lo,
                                int32_t hi);

/* ---- half_*.c ---- */
void rq_half_to_float_scalar(float *y, const uint16_t *x, size_t n);
void rq_half_from_float_scalar(uint16_t *y, const float *x, size_t n);
void rq_half_minmax_scalar(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length);
void rq_half_to_float_avx2(float *y, const uint16_t *x, size_t n);
void rq_half_from_float_avx2(uint16_t *y, const float *x, size_t n);
void rq_half_minmax_avx2(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length);
void rq_half_to_float_avx512(float *y, const uint16_t *x, size_t n);
void rq_half_from_float_avx512(uint16_t *y, const float *x, size_t n);
void rq_half_minmax_avx512(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length);
void rq_half_to_float_neon(float *y, const uint16_t *x, size_t n);
void rq_half_from_float_neon(uint16_t *y, const float *x, size_t n);
void rq_half_minmax_neon(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length);
void rq_requantize_tile_scalar(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                               const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi);
void rq_requantize_tile_avx2(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                             const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi);
void rq_requantize_tile_neon(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                             const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi);
void rq_requantize_tile_avx512(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                               const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi);

/* ---- fakequant_*.c ---- */
void rq_fakequant_scalar(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_grad_scalar(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_mask_grad_scalar(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream);
void rq_fakequant_relu_grad_scalar(float *dx, const float *dy, const uint8_t *mask, size_t n);
void rq_fakequant_codes_scalar(uint8_t *q, const float *x, size_t n, const rq_fakequant *p);
void rq_stream_end_scalar(void);
void rq_fakequant_avx2(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_grad_avx2(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_mask_grad_avx2(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream);
void rq_fakequant_relu_grad_avx2(float *dx, const float *dy, const uint8_t *mask, size_t n);
void rq_fakequant_codes_avx2(uint8_t *q, const float *x, size_t n, const rq_fakequant *p);
void rq_stream_end_avx2(void);
void rq_fakequant_avx512(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_grad_avx512(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_mask_grad_avx512(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream);
void rq_fakequant_relu_grad_avx512(float *dx, const float *dy, const uint8_t *mask, size_t n);
void rq_fakequant_codes_avx512(uint8_t *q, const float *x, size_t n, const rq_fakequant *p);
void rq_stream_end_avx512(void);
void rq_fakequant_neon(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_grad_neon(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p);
void rq_fakequant_mask_grad_neon(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream);
void rq_fakequant_relu_grad_neon(float *dx, const float *dy, const uint8_t *mask, size_t n);
void rq_fakequant_codes_neon(uint8_t *q, const float *x, size_t n, const rq_fakequant *p);
void rq_stream_end_neon(void);

/* ---- qgemm_*.c, gemm_f32_*.c ---- */
extern const rq_qgemm_isa rq_qgemm_scalar, rq_qgemm_avx2, rq_qgemm_avxvnni, rq_qgemm_avx512, rq_qgemm_vnni,
    rq_qgemm_amx, rq_qgemm_neon, rq_qgemm_dotprod, rq_qgemm_i8mm;
void rq_row_sums_scalar(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n);
void rq_row_sums_avx2(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n);
void rq_row_sums_neon(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n);
extern const rq_gemm_f32_isa rq_gemm_f32_scalar, rq_gemm_f32_avx2, rq_gemm_f32_avx512, rq_gemm_f32_neon;

/* ---- dwlast_*.c ---- */
extern const rq_dwlast_isa rq_dwlast_scalar, rq_dwlast_avx2, rq_dwlast_avxvnni, rq_dwlast_avx512, rq_dwlast_vnni,
    rq_dwlast_neon, rq_dwlast_i8mm;

/* ---- winograd_*.c ---- */
extern const rq_winograd_isa rq_winograd_avx2, rq_winograd_avx512, rq_winograd_vnni;

/* ---- pool8_*.c ---- */
extern const rq_pool8_isa rq_pool8_scalar, rq_pool8_avx2, rq_pool8_avx512, rq_pool8_neon;

/* ---- qeltwise_*.c ---- */
void rq_qadd_scalar(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p);
void rq_qadd_one_scalar(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p);
void rq_qmul_scalar(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p);
void rq_qadd_avx512(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p);
void rq_qadd_one_avx512(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p);
void rq_qmul_avx512(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p);
void rq_qadd_avx2(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p);
void rq_qadd_one_avx2(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p);
void rq_qmul_avx2(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p);
void rq_qadd_neon(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p);
void rq_qadd_one_neon(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p);
void rq_qmul_neon(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p);

/* ---- stats_*.c ---- */
void rq_minmax_scalar(const float *x, size_t n, float *lo, float *hi, size_t *finite);
double rq_squares_scalar(const float *x, const float *y, size_t n);
void rq_histogram_scalar(uint64_t *h, const rq_bins *b, const float *x, size_t n);
void rq_minmax_avx2(const float *x, size_t n, float *lo, float *hi, size_t *finite);
double rq_squares_avx2(const float *x, const float *y, size_t n);
void rq_histogram_avx2(uint64_t *h, const rq_bins *b, const float *x, size_t n);
void rq_minmax_avx512(const float *x, size_t n, float *lo, float *hi, size_t *finite);
double rq_squares_avx512(const float *x, const float *y, size_t n);
void rq_histogram_avx512(uint64_t *h, const rq_bins *b, const float *x, size_t n);
void rq_minmax_neon(const float *x, size_t n, float *lo, float *hi, size_t *finite);
double rq_squares_neon(const float *x, const float *y, size_t n);
void rq_histogram_neon(uint64_t *h, const rq_bins *b, const float *x, size_t n);

/* ---- fakequant_learned_*.c ---- */
void rq_learned_grad_scalar(float *dx, rq_learned_sums *s, const float *dy, const float *x, size_t n, size_t lane,
                            const rq_learned_row *p);
void rq_learned_grad_avx2(float *dx, rq_learned_sums *s, const float *dy, const float *x, size_t n, size_t lane,
                          const rq_learned_row *p);
void rq_learned_grad_avx512(float *dx, rq_learned_sums *s, const float *dy, const float *x, size_t n, size_t lane,
                            const rq_learned_row *p);
void rq_learned_grad_neon(float *dx, rq_learned_sums *s, const float *dy, const float *x, size_t n, size_t lane,
                          const rq_learned_row *p);

/* ---- peak_*.c ---- */
double rq_peak_int_scalar(int64_t steps);
double rq_peak_int_avx2(int64_t steps);
double rq_peak_int_avxvnni(int64_t steps);
double rq_peak_int_amx(int64_t steps);
double rq_peak_int_avx512(int64_t steps);
double rq_peak_int_vnni(int64_t steps);
double rq_peak_int_neon(int64_t steps);
double rq_peak_int_dotprod(int64_t steps);
double rq_peak_int_i8mm(int64_t steps);
double rq_peak_f32_scalar(int64_t steps);
double rq_peak_f32_avx2(int64_t steps);
double rq_peak_f32_avx512(int64_t steps);
double rq_peak_f32_neon(int64_t steps);

#endif
