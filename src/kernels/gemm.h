/* kernels/gemm.h — integer matrix products of any size, made of one tile per instruction set.
 *
 *   C[i][j] = sum over k of A[i][k] * B[k][j]      A s8, B u8, C s32; sums wrap modulo 2^32, none saturates
 *
 * One pair of types is enough: s8 and u8 codes differ by the top bit, so packing flips it (x ^ 0x80) where it must and
 * the caller shifts the zero point by 128. A convolution takes its weights as A and its pixels as B, and C is NCHW as
 * it stands; a product of activations and weights takes the activations as A and the weights as B.
 *
 * Packed A: blocks of `mr` rows, each [steps][rows][kr]; packed B: panels of up to max_vectors vectors of `lanes`
 * columns, each [steps][columns][kr]; steps = ceil(K / kr), the depth filled up with zeros. */
#ifndef RQ_KERNELS_GEMM_H
#define RQ_KERNELS_GEMM_H

#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"

struct rq_kernels;

enum { RQ_GEMM_MAX_MR = 8, RQ_GEMM_MAX_COLUMNS = 48, RQ_GEMM_MAX_KR = 4 };

/* The tile of one instruction set. */
typedef struct rq_gemm_isa {
    int mr;          /* rows of a full block; the last block of a matrix has 1, 2, 4 ... mr of them */
    int lanes;       /* columns of one vector of C */
    int max_vectors; /* of a panel */
    int kr;          /* depth of one step: 1, 2 or 4 */
    int a_bytes;     /* of an element of packed A: 1, or 2 where it stands widened to s16 */
    /* c[i * ldc + j] for i < rows (a power of two up to mr) and j < vectors * lanes, from steps * kr of depth */
    void (*tile)(int32_t *c, size_t ldc, const void *a, const uint8_t *b, size_t steps, int rows, int vectors);
    /* dst[j][r] = rows[r][j] ^ flip for j < n and r < kr. Reads n bytes per row; dst is filled (with anything) up to a
     * multiple of `lanes` columns. */
    void (*interleave)(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip);
} rq_gemm_isa;

/* ---- packing ---- */

size_t rq_gemm_a_bytes(const rq_gemm_isa *g, int64_t rows, int64_t depth);
/* A[i][k] = (s8)(src[i * row_stride + k * k_stride] ^ flip). row_sum (NULL: not wanted) gets the sums of each row,
 * modulo 2^32. */
void rq_gemm_pack_a(const rq_gemm_isa *g, void *dst, const uint8_t *src, int64_t row_stride, int64_t k_stride,
                    int64_t rows, int64_t depth, uint8_t flip, int32_t *row_sum);

/* Columns are spread evenly over panels. */
int64_t rq_gemm_panels(const rq_gemm_isa *g, int64_t columns);
/* Panel p: its first column and how many vectors it has. It starts at byte first * steps * kr of packed B, and holds
 * vectors * lanes columns, the last panel maybe fewer real ones. */
int64_t rq_gemm_panel(const rq_gemm_isa *g, int64_t columns, int64_t p, int *vectors);
size_t rq_gemm_b_bytes(const rq_gemm_isa *g, int64_t depth, int64_t columns);
/* Bytes of the largest panel. */
size_t rq_gemm_panel_bytes(const rq_gemm_isa *g, int64_t depth);
/* B[k][j] = src[k * k_stride + j * col_stride] ^ flip. */
void rq_gemm_pack_b(const rq_gemm_isa *g, uint8_t *dst, const uint8_t *src, int64_t k_stride, int64_t col_stride,
                    int64_t depth, int64_t columns, uint8_t flip);
/* The same for the columns of one panel, to be packed at its place. */
void rq_gemm_pack_panel(const rq_gemm_isa *g, uint8_t *panel, const uint8_t *src, int64_t k_stride, int64_t col_stride,
                        int64_t depth, int64_t columns, uint8_t flip);
/* sum[j] = sum over k of the packed panel's column j, modulo 2^32, j < columns. */
void rq_gemm_panel_sums(const rq_gemm_isa *g, int32_t *sum, const uint8_t *panel, int vectors, int64_t depth,
                        int64_t columns);

/* ---- products ---- */

typedef enum rq_gemm_kind {
    RQ_GEMM_CODES, /* y u8 or s8: requantized */
    RQ_GEMM_F32,   /* y f32: f32(sum) * m (+ bias) */
    RQ_GEMM_S32,   /* y s32: the sum */
} rq_gemm_kind;

/* What becomes of C. Every array may be NULL: then it is not there (multipliers: exactly one of row_m, col_m; for codes
 * col_m and col_add come together).
 *   s = C[i][j] + add[i * add_row + j * add_col] + row_add[i] + col_add[j]
 *       - row_zero[i] * (sum over k of B[k][j]) - row_sum[i] * col_zero[j] */
typedef struct rq_gemm_out {
    rq_gemm_kind kind;
    void *y;    /* [rows][ld] */
    int64_t ld; /* elements */
    const int32_t *row_add, *col_add, *row_zero, *row_sum, *col_zero;
    const int32_t *add;
    int64_t add_row, add_col;
    const float *row_m, *col_m;
    const float *row_bias, *col_bias; /* RQ_GEMM_F32 */
    int32_t zp, lo, hi;               /* RQ_GEMM_CODES */
    /* By the definition instead (rq_kernels.spec): what a sum counts in, per row or column, in place of the multiplier;
     * and the scale of y, 1 with RQ_GEMM_F32. Biases serve both kinds. In double, one rounding. */
    const double *row_unit, *col_unit;
    double y_scale;
} rq_gemm_out;

/* Packs panel p of B (as rq_gemm_panel cuts it) to `panel`. Called from any thread. */
typedef void (*rq_gemm_fill)(const void *arg, uint8_t *panel, int64_t p);

typedef struct rq_gemm {
    const struct rq_kernels *k;
    int64_t rows, depth, columns;
    const void *a;    /* packed */
    const uint8_t *b; /* packed; NULL: fill makes it */
    rq_gemm_fill fill;
    const void *fill_arg;
    void *scratch; /* rq_gemm_scratch bytes, 64-byte aligned; only with fill */
    rq_gemm_out out;
} rq_gemm;

/* Bytes that rq_gemm_run needs when it fills B itself. */
size_t rq_gemm_scratch(const rq_gemm_isa *g, int64_t depth, int64_t columns, int threads);
/* How work is cut does not depend on the number of threads; the result does not depend on the cut. */
void rq_gemm_run(const rq_gemm *g, rq_threads *t);

/* The finishing alone: columns j0..j0+n-1 of row i, from sums c (which it may change); col_sum are the sums of those
 * columns of B, NULL without row_zero. */
void rq_gemm_finish(const struct rq_kernels *k, const rq_gemm_out *o, int32_t *c, int64_t i, int64_t j0, int64_t n,
                    const int32_t *col_sum);

#endif
