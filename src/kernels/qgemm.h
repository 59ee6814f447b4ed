/* kernels/qgemm.h — integer matrix products of rows of activations with packed weights, of any size, made of one tile per instruction set.
 *
 *   C[i][j] = sum over k of X[i][k] * W[k][j]      X u8, W s8, C s32; sums wrap modulo 2^32, none saturates
 *
 * One pair of types is enough: s8 and u8 codes differ by the top bit. Whoever has s8 activations or u8 weights flips it (x ^ 0x80) and moves the
 * zero point by 128; what that adds is a constant per column, or a multiple of the sum of a row.
 *
 * X is never packed and never copied. A row is `runs` pieces of `run` bytes that lie together: one piece in a plain matrix, one per tap in a
 * convolution over channels-last pixels (a whole row of taps where they touch). A tile is told where the pieces of its rows begin, so that a
 * convolution is a product without an im2col, and a border is a pointer to a row of zero points.
 *
 * W is packed once: panels of up to max_vectors vectors of `lanes` columns (rq_qgemm_panel), each [runs][steps][columns of the panel][kr], steps =
 * ceil(run / kr), depth beyond `run` filled up with zeros, maybe after a head (rq_qgemm_isa.take). Tiles read exactly `run` bytes of each piece. */
#ifndef RQ_KERNELS_QGEMM_H
#define RQ_KERNELS_QGEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"
#include "kernels/qeltwise.h"

struct rq_kernels;

enum { RQ_QGEMM_MAX_ROWS = 32, RQ_QGEMM_MAX_COLUMNS = 64, RQ_QGEMM_MAX_KR = 64 };

/* Sums that become codes before they leave the registers: y[q * ldy + j] = clamp(rne(f32(s + row_add[q]) * m[j]) + zp, lo, hi),
 * j < columns. |m[j]| < 1, so that no product leaves s32, and hi is 127 or 255, the top of a type: what saturates cuts there by itself. */
typedef struct rq_qgemm_codes {
    uint8_t *y;
    size_t ldy;
    int columns;
    const int32_t *row_add; /* [rows]; NULL: nothing */
    const float *m;         /* [vectors * lanes] */
    int32_t zp, lo, hi;
} rq_qgemm_codes;

/* The tile of one instruction set. */
typedef struct rq_qgemm_isa {
    int max_rows;    /* of a tile; it takes any number from 1 to this */
    int lanes;       /* columns of one vector of C */
    int max_vectors; /* of a panel */
    int kr;          /* depth of one step */
    int w_bytes;     /* of a packed weight: 1, or 2 where it stands widened to s16 */
    /* What the tile takes from X at even and at odd steps of a piece, to have it signed; 0: nothing. What C lacks then, the sums of take * W, stands
     * as s32[columns of the panel] before each panel. */
    int32_t take[2];
    /* c[q * ldc + j] = init[j] + the sum, for q < rows and j < vectors * lanes (init: so many, NULL: zeros). x[r * max_rows + q]: piece r of row q. */
    void (*tile)(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors);
    /* The same sums as codes (NULL: what tile stored is requantized). */
    void (*codes)(const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                  const int32_t *init, int rows, int vectors);
    /* Where tiles multiply s16 (NULL elsewhere): all pieces of some rows widened once for all panels, row q to wide + q * ld; returns the depth a row
     * then has. */
    size_t (*widen)(int16_t *wide, size_t ld, const uint8_t *const *x, size_t runs, size_t run, int rows);
    /* The sums of widened rows, as codes unless o is NULL. */
    void (*wide_tile)(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const int16_t *wide, size_t ld, size_t depth,
                      const void *w, const int32_t *init, int rows, int vectors);
} rq_qgemm_isa;

/* ---- weights ---- */

int64_t rq_qgemm_panels(const rq_qgemm_isa *g, int64_t columns);
/* Panel p: its first column and how many vectors it has. Columns are spread evenly over panels. */
int64_t rq_qgemm_panel(const rq_qgemm_isa *g, int64_t columns, int64_t p, int *vectors);
size_t rq_qgemm_w_bytes(const rq_qgemm_isa *g, int64_t runs, int64_t run, int64_t columns);
/* W[r * run + k][j] = (s8)(src[r * run_stride + k * k_stride + j * col_stride] ^ flip), to dst (64-byte aligned). sum[columns] (NULL: not wanted)
 * gets the sum of each column modulo 2^32. */
void rq_qgemm_pack(const rq_qgemm_isa *g, void *dst, const uint8_t *src, int64_t run_stride, int64_t k_stride,
                   int64_t col_stride, int64_t runs, int64_t run, int64_t columns, uint8_t flip, int32_t *sum);
/* The same on several threads, panel by panel; t may be NULL. */
void rq_qgemm_pack_on(rq_threads *t, const rq_qgemm_isa *g, void *dst, const uint8_t *src, int64_t run_stride,
                      int64_t k_stride, int64_t col_stride, int64_t runs, int64_t run, int64_t columns, uint8_t flip,
                      int32_t *sum);

/* ---- what happens to codes that were just written, while they are in the cache ---- */

typedef enum rq_post_kind {
    RQ_POST_TABLE, /* y[p] = table[y[p]] */
    RQ_POST_ADD,   /* y[p] = what qadd makes of y[p] and other[p] */
} rq_post_kind;

typedef struct rq_post {
    rq_post_kind kind;
    const uint8_t *table; /* [256] */
    const uint8_t *other; /* codes of the size and layout of y; may be y's own bytes */
    rq_qadd add;
    bool second;      /* y[p] is the second operand of the sum, b of qadd */
    int64_t other_ld; /* from a row of `other` to the next, for rq_post_rows; 0: as in y */
} rq_post;

/* Elements p..p+n-1 of y, which are there. */
void rq_post_run(const struct rq_kernels *k, const rq_post *post, int n_post, uint8_t *y, size_t p, size_t n);
/* Columns j..j+n-1 of rows i..i+rows-1 of y, from a row of which to the next it is ld. */
void rq_post_rows(const struct rq_kernels *k, const rq_post *post, int n_post, uint8_t *y, int64_t ld, int64_t i,
                  int64_t rows, int64_t j, int64_t n);

/* ---- products ---- */

typedef enum rq_qgemm_kind {
    RQ_QGEMM_CODES, /* y u8 or s8: clamp(rne(f32(s) * m) + zp) */
    RQ_QGEMM_F32,   /* y f32: f32(s) * m (+ bias), two roundings */
    RQ_QGEMM_S32,   /* y s32: s */
} rq_qgemm_kind;

/* What becomes of C. An array that is NULL is not there.
 *   s = C[i][j] + col_add[j] + row_add[i] + add[i * add_row + j * add_col] - row_sum[i] * col_zero[j] - row_zero[i] * col_sum[j]
 *   m = row_m[i] * col_m[j] where both are given, else the one that is; in_turn: s is multiplied by one and then by the other, each rounded */
typedef struct rq_qgemm_out {
    rq_qgemm_kind kind;
    void *y;    /* [rows][ld] */
    int64_t ld; /* elements */
    const int32_t *col_add, *row_add;
    const int32_t *row_sum, *col_zero, *row_zero, *col_sum;
    const int32_t *add;
    int64_t add_row, add_col;
    const float *col_m, *row_m;
    const float *col_bias; /* RQ_QGEMM_F32 */
    bool in_turn;          /* RQ_QGEMM_F32 */
    int32_t zp, lo, hi;    /* RQ_QGEMM_CODES */
    /* By the definition instead (rq_kernels.spec): what a sum counts in, per column, in place of the multiplier; the scale of y is 1 with
     * RQ_QGEMM_F32. The bias serves both kinds. In double, one rounding. */
    const double *col_unit;
    double y_scale;
    const rq_post *post; /* [n_post], in order; RQ_QGEMM_CODES. `other` is indexed as y is, but for other_ld */
    int n_post;
} rq_qgemm_out;

/* at[r * stride + q] = where piece r of row i + q begins, for r < runs and q < n. Called from any thread. */
typedef void (*rq_qgemm_find)(const void *arg, const uint8_t **at, int stride, int64_t i, int n);

/* Several products of the same rows (groups of a convolution): product p takes pieces that begin p * x_step bytes further, weights w_step * p bytes
 * further, and columns p * columns and on of everything in `out`. */
typedef struct rq_qgemm {
    const struct rq_kernels *k;
    int64_t rows, runs, run, columns;
    int64_t products; /* 0: one */
    int64_t x_step, w_step;
    const void *w;    /* packed */
    const uint8_t *x; /* row i begins at x + i * x_stride, one piece; NULL: ask find */
    int64_t x_stride;
    rq_qgemm_find find;
    const void *find_arg;
    rq_qgemm_out out;
} rq_qgemm;

/* How work is cut does not depend on the number of threads; the result does not depend on the cut. Needs no scratch. runs: at most
 * RQ_QGEMM_MAX_RUNS; a longer row is cut by the caller (add). */
enum { RQ_QGEMM_MAX_RUNS = 256 };
void rq_qgemm_run(const rq_qgemm *g, rq_threads *t);

/* The sums alone of a few rows of one piece each, on the calling thread: c[i * ldc + j], i < rows and j < columns rounded up to whole vectors
 * (rq_qgemm_sums_ld gives an ldc). */
void rq_qgemm_sums(const struct rq_kernels *k, int32_t *c, int64_t ldc, const uint8_t *x, int64_t x_stride,
                   int64_t rows, int64_t run, int64_t columns, const void *w);
static inline int64_t rq_qgemm_sums_ld(int64_t columns)
{
    return (columns + RQ_QGEMM_MAX_COLUMNS - 1) / RQ_QGEMM_MAX_COLUMNS * RQ_QGEMM_MAX_COLUMNS;
}

/* The finishing alone: columns j0..j0+n-1 of row i, from sums c, which it may change. */
void rq_qgemm_finish(const struct rq_kernels *k, const rq_qgemm_out *o, int32_t *c, int64_t i, int64_t j0, int64_t n);

#endif
