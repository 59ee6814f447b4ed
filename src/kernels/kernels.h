/* kernels/kernels.h — loops over raw pointers: the contracts, and the table that picks an instruction set.
 *
 * The scalar version of a kernel is its definition; every other version gives the same bits. A file built
 * with ISA flags exports its kernels and nothing else. Kernels allocate nothing and cannot fail.
 * Rounding of reals to codes happens in quantize_*.c and fakequant_*.c, all of it by quantize.h, and nowhere else. */
#ifndef RQ_KERNELS_KERNELS_H
#define RQ_KERNELS_KERNELS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/batch_norm.h"
#include "kernels/dwlast.h"
#include "kernels/dwplane.h"
#include "kernels/eltwise.h"
#include "kernels/eltwise_grad.h"
#include "kernels/fakequant.h"
#include "kernels/gemm_f32.h"
#include "kernels/peak.h"
#include "kernels/pool.h"
#include "kernels/pool8.h"
#include "kernels/qeltwise.h"
#include "kernels/qgemm.h"
#include "kernels/reduce.h"
#include "kernels/fakequant_learned.h"
#include "kernels/sums.h"
#include "kernels/winograd.h"

/* Equal bins of a histogram. |(x - from) * mul / div| stays below 2^31 within lo..hi. */
typedef struct rq_bins {
    int n, first; /* bins; index of the first one */
    float lo, hi; /* both counted: hi falls into the last bin */
    float from, mul, div;
    int take_abs;
} rq_bins;

/* The bin that counts v, which lies within lo..hi. */
static inline int rq_bins_at(const rq_bins *b, float v)
{
    const int k = (int)floorf((v - b->from) * b->mul / b->div) - b->first;
    return k < 0 ? 0 : k < b->n ? k : b->n - 1;
}

/* What a normalization does to the codes of a row: ((x ^ flip) - whole) * inv + rest, * gain + bias, and codes of scale, zp, lo..hi. */
typedef struct rq_norm8 {
    uint8_t flip;
    int32_t whole;
    float inv, rest;
    const float *gain, *bias; /* [n]; NULL: left out */
    float scale;
    int32_t zp, lo, hi;
} rq_norm8;

/* A real for each code: plane[b][i] is byte b of value[i], the lowest first (rq_lut8_f32_split). */
typedef struct rq_lut8_f32 {
    float value[256];
    uint8_t plane[4][256];
} rq_lut8_f32;

/* Fill in the planes. */
void rq_lut8_f32_split(rq_lut8_f32 *table);

typedef struct rq_kernels {
    const char *isa; /* "scalar", "avx2", "avxvnni", "avx512", "vnni", "amx", "neon", "dotprod", "i8mm" */
    unsigned cpu;    /* the flags it was made for */

    /* ---- quantize_*.c: reals and codes. lo..hi is the code range; NaN gives lo (docs/onnx-facts.md 2.4) ---- */
    /* y[i] = clamp(rne(x[i] / scale) + zp), true division, rounded half to even before zp is added */
    void (*quantize_u8)(uint8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
    void (*quantize_s8)(int8_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
    /* fp16: y[i] = low byte of clamp(rne(f16(x[i] / scale)) + zp); scale is not 0, x is finite */
    void (*quantize_half)(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
    void (*quantize_u16)(uint16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
    void (*quantize_s16)(int16_t *y, const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi);
    /* y[i] = (float)(x[i] - zp) * scale */
    void (*dequantize_u8)(float *y, const uint8_t *x, size_t n, float scale, int32_t zp);
    void (*dequantize_s8)(float *y, const int8_t *x, size_t n, float scale, int32_t zp);
    void (*dequantize_u16)(float *y, const uint16_t *x, size_t n, float scale, int32_t zp);
    void (*dequantize_s16)(float *y, const int16_t *x, size_t n, float scale, int32_t zp);
    /* y[i] = low byte of clamp(rne(x[i] / by / scale) + zp) in double, both divisions rounded; lo..hi of 8 bits */
    void (*quantize_quotients)(uint8_t *y, const double *x, size_t n, double by, double scale, int32_t zp, int32_t lo,
                               int32_t hi);
    /* y[i] = low byte of clamp(rne(v / scale) + zp), v as rq_norm8 says, every step rounded to f32; rest == 0 is left out */
    void (*norm8)(uint8_t *y, const uint8_t *x, size_t n, const rq_norm8 *p);
    /* *sum = sum of x[i] ^ flip, *squares = of their squares; n <= 65536 */
    void (*sums8)(uint32_t *sum, uint32_t *squares, const uint8_t *x, size_t n, uint8_t flip);
    /* y[i] = a[i * sa] == b[i * sb]; sa and sb are 0 or 1, not both 0 */
    void (*equal_s32)(uint8_t *y, const int32_t *a, int sa, const int32_t *b, int sb, size_t n);
    /* y[i] = table[x[i]]: any unary function of 8-bit codes (s8 codes are indexed by their bit pattern) */
    void (*lut8)(uint8_t *y, const uint8_t *x, size_t n, const uint8_t table[256]);
    /* y[i] = table->value[x[i]]: any function of 8-bit codes that gives reals, bit for bit */
    void (*lut8_f32)(float *y, const uint8_t *x, size_t n, const rq_lut8_f32 *table);
    /* relayout_*.c: y[j * ldy + i] = x[i * ldx + j] ^ flip, i < rows, j < cols; ldy >= rows, ldx >= cols. Nothing else of y is written. */
    void (*transpose8)(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip);
    /* A block of s32 sums to 8-bit codes, with addends per row (NULL: none) and multipliers per column: y[i * ldy + j] =
     * low byte of clamp(rne(f32(acc[i * lda + j] + row_add[i]) * m[j]) + zp), i < rows, j < n; docs/onnx-facts.md 6.2; the sum wraps. lo..hi is the code range,
     * u8 or s8 (or inside). */
    void (*requantize_tile)(uint8_t *y, size_t ldy, const int32_t *acc, size_t lda, size_t rows, size_t n,
                            const int32_t *row_add, const float *m, int32_t zp, int32_t lo, int32_t hi);

    /* ---- half_*.c: IEEE half to f32 (exact, signalling NaN stays) and back (half to even), base/half.h ---- */
    void (*half_to_float)(float *y, const uint16_t *x, size_t n);
    void (*half_from_float)(uint16_t *y, const float *x, size_t n);
    /* Smallest and largest of each of `blocks` blocks of `length` >= 1 halves, one behind another, in the order of rq_half_order: one that is no
     * finite number is at an end */
    void (*half_minmax)(uint16_t *lo, uint16_t *hi, const uint16_t *x, size_t blocks, size_t length);

    /* ---- fakequant_*.c: to codes and back, kernels/fakequant.h. Arrays of n; y may be x, dx may be dy or x ---- */
    /* y[i] = what x[i] becomes; mask[i] (mask may be NULL) = 1 where it landed in lo..hi, else 0 */
    void (*fakequant)(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p);
    /* dx[i] = dy[i] * 1 where x[i] lands in lo..hi, else dy[i] * 0 (which keeps dy's sign and NaN) */
    void (*fakequant_grad)(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p);
    /* dx[i] = dy[i] * mask[i], mask 0 or 1 */
    void (*fakequant_mask_grad)(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream);
    /* The same with the mask of a rectifier before it (rq_fakequant.relu): dx[i] = 0 where it is 2 */
    void (*fakequant_relu_grad)(float *dx, const float *dy, const uint8_t *mask, size_t n);
    /* q[i] = low byte of the code of x[i]: u8 or s8, whichever lo..hi is; NaN gives lo */
    void (*fakequant_codes)(uint8_t *q, const float *x, size_t n, const rq_fakequant *p);
    /* After calls that streamed (rq_fakequant.stream), once and by the same thread: others see what they wrote. */
    void (*stream_end)(void);

    /* ---- qgemm_*.c: products of codes ---- */
    rq_qgemm_isa qgemm;
    /* row_sums_*.c: sum[i] = the sum of the n codes at x + i * stride, i < rows, modulo 2^32: what a zero point of weights is multiplied with */
    void (*row_sums)(int32_t *sum, const uint8_t *x, size_t stride, size_t rows, size_t n);

    /* ---- gemm_f32_*.c: products of floats in one fixed order ---- */
    rq_gemm_f32_isa gemm_f32;
    bool spec;    /* codes are rounded where the definition rounds, not where ONNX Runtime's kernels do */
    bool library; /* take oneDNN for them, whose order depends on the CPU; false from rq_kernels_init */

    /* ---- winograd_*.c: 3 x 3 windows by fewer multiplications (kernels/winograd.h); NULL: there is nothing faster than the products ---- */
    const rq_winograd_isa *winograd;
    /* ---- dwlast_*.c: depthwise sums over channels-last codes (kernels/dwlast.h), with weights of s8, or of s16 up to 255 ---- */
    const rq_dwlast_isa *dwlast_s8, *dwlast_s16;

    /* ---- qeltwise_*.c: u8 codes to u8 codes (qeltwise.h says how s8 ones join), docs/onnx-facts.md 6.3. The zero
     * point is inside the rounding. ---- */
    /* y[i] = clamp(rne(fma(a[i], ra, fma(b[i], rb, k)))); p->quick, where it is there, gives the same */
    void (*qadd)(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p);
    /* y[i] = clamp(rne(fma(a[i], ra, k))): the other operand is one number, already in k */
    void (*qadd_one)(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p);
    /* y[i] = clamp(rne(f32(f32((a[i] - za) * (b[i] - zb)) * r) + zc)); p->step, where it is there, gives the same */
    void (*qmul)(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p);

    /* ---- stats_*.c: what calibration looks at ---- */
    /* Smallest and largest finite element; *finite counts them. With none: lo = +inf, hi = -inf. */
    void (*minmax)(const float *x, size_t n, float *lo, float *hi, size_t *finite);
    /* Sum of (x[i] - y[i])^2 in f64, x and y finite: element i goes to lane i % 8; lanes are then added 4 apart, 1 apart, 2 apart. */
    double (*squares)(const float *x, const float *y, size_t n);
    /* h[i] += 1 for each x (|x| with b->take_abs) within lo..hi: i = floor((x - from) * mul / div) - first in float, left
     * to right, clamped to 0..n-1. NaN and what lies outside is not counted. */
    void (*histogram)(uint64_t *h, const rq_bins *b, const float *x, size_t n);

    /* ---- eltwise_*.c: elementwise functions, named in kernels/eltwise.h: k->map[RQ_MAP_EXP](y, x, n, 0, 0) ---- */
    const rq_map_fn *map;           /* [RQ_N_MAPS] */
    const rq_zip_fn *zip;           /* [RQ_N_ZIPS] */
    const rq_map_grad_fn *map_grad; /* [RQ_N_MAPS], of kernels/eltwise_grad.h; NULL: none */

    /* y[i] = bias + sum over t of w[t] * x[t][i], i < n, taps added in order (multiplied, then added: no fused step) */
    rq_taps_fn taps_f32;
    rq_dwplane_fn dwplane_f32; /* kernels/dwplane.h */

    /* ---- reduce_*.c: one fixed lane tree (kernels/reduce.h). Element i goes to lane i % 16; lanes are then added
     * 8 apart, 4 apart, 2, 1. The same bits at every vector width. ---- */
    float (*sum_f32)(const float *x, size_t n);
    const rq_fold_fn *fold; /* [RQ_N_FOLDS] */
    rq_exp_sum_fn exp_sum;

    /* ---- fakequant_learned_*.c: kernels/fakequant_learned.h ---- */
    rq_learned_fn learned_grad;

    /* ---- batch_norm_*.c: kernels/batch_norm.h ---- */
    rq_bn_isa bn;

    /* ---- sums_*.c: kernels/sums.h ---- */
    rq_sums_reals_fn sums_reals;
    rq_lstm_cell_fn lstm_cell;
    rq_gru_cell_fn gru_cell, gru_reset, gru_update;
    rq_rnn_cell_fn rnn_cell;

    /* ---- pool_*.c: kernels/pool.h ---- */
    rq_pool_quarters_fn pool_quarters;
    rq_pool_quarters_grad_fn pool_quarters_grad;

    /* ---- peak_*.c ---- */
    rq_peak_fn peak_int, peak_f32; /* of codes, as the integer products of this level do them; of floats */
    /* ---- pool8_*.c: kernels/pool8.h ---- */
    const rq_pool8_isa *pool8;
} rq_kernels;

/* The table for these CPU flags (base/cpu.h): complete with scalar versions first, then overridden. */
void rq_kernels_init(rq_kernels *k, unsigned cpu);

#endif
