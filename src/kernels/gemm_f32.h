/* kernels/gemm_f32.h — float matrix products of one fixed order: the same bits on every machine.
 *
 *   C[i][j] = start[i] + A[i][0] B[0][j] + A[i][1] B[1][j] + ...
 *
 * as ONE chain of fused multiply-adds over k in ascending order. Vectors run across j and threads across outputs, so
 * neither the width of a vector, nor how the work is cut, nor the orientation, can change a bit; what is cut along k
 * goes on from the float it left. The tile of an instruction set is all there is to write for it. */
#ifndef RQ_KERNELS_GEMM_F32_H
#define RQ_KERNELS_GEMM_F32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"

struct rq_kernels;

enum {
    RQ_GEMM_F32_ROWS = 64,     /* of a strip */
    RQ_GEMM_F32_COLUMNS = 128, /* widest panel of any tile */
    RQ_GEMM_F32_PACK = 12288,  /* floats of packed B: what fits beside the rest into a first-level cache */
    RQ_GEMM_F32_DEPTH = 128,   /* of B at a time */
};

/* The tile of one instruction set. */
typedef struct rq_gemm_f32_isa {
    int rows;       /* most of a tile */
    int lanes;      /* columns of one vector */
    int vectors[3]; /* most vectors of a tile with 1 row, with 2, with more: enough chains to hide their latency */
    /* For i < rows and j < vectors * lanes: c[i * ldc + j] = the chain start[i] (or c[i * ldc + j] where start is NULL), then
     * fma(a[i * a_row + a_off[k]], b[b_off[k] + j], .) for k = 0 ... depth - 1. */
    void (*tile)(float *c, size_t ldc, const float *start, const float *a, ptrdiff_t a_row, const int32_t *a_off,
                 const float *b, const int32_t *b_off, size_t depth, int rows, int vectors);
    /* dst[i * ldd + j] = src[i * lds + j], i < rows, j < n: short rows */
    void (*copy)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int rows, int n);
    /* The same plus bias[j], then plus add[i * ld_add + j], each rounded; either may be NULL. dst may be add, or src. */
    void (*finish)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, const float *bias, const float *add,
                   ptrdiff_t ld_add, int rows, int n);
    /* dst[i * ldd + j] = src[j * lds + i] */
    void (*transpose)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int rows, int n);
} rq_gemm_f32_isa;

/* Up to RQ_GEMM_F32_ROWS rows against one panel of columns. B is read at b + off[k] + j, whole vectors of it, when `off`
 * is there; else at b + k * b_k + j * b_j, never behind column `columns`. */
typedef struct rq_gemm_f32_strip {
    const struct rq_kernels *k;
    const float *a;
    ptrdiff_t a_row, a_k; /* a_row 0: a is what rq_gemm_f32_pack_rows made of the rows */
    const float *b;
    const int32_t *off;
    ptrdiff_t b_k, b_j;
    int64_t depth;
} rq_gemm_f32_strip;

/* Widest panel for that many rows, a multiple of the lanes. */
int rq_gemm_f32_panel(const struct rq_kernels *k, int64_t rows);
/* c[i * ldc + j] = the chain of row i from start[i] (NULL: 0) over the whole depth, i < rows, j < columns rounded up to whole vectors;
 * columns is at most a panel. */
void rq_gemm_f32_strip_run(const rq_gemm_f32_strip *s, float *c, size_t ldc, const float *start, int rows, int columns);

/* A constant A [rows][depth], in the order in which a strip of these rows reads it. Its floats; and made. */
int64_t rq_gemm_f32_packed_rows(const struct rq_kernels *k, int rows, int64_t depth);
void rq_gemm_f32_pack_rows(const struct rq_kernels *k, float *to, const float *a, int rows, int64_t depth);
/* A constant B as panels of columns, each [depth][columns of it, filled up with zeros to whole vectors]: b[k * b_k + j * b_j], one of the steps
 * being 1. Its floats; and made. Panels are as wide as rq_gemm_f32_panel says for many rows, or nearly: they share the vectors evenly. */
int64_t rq_gemm_f32_packed_columns(const struct rq_kernels *k, int64_t columns, int64_t depth);
void rq_gemm_f32_pack_columns(const struct rq_kernels *k, float *to, const float *b, ptrdiff_t b_k, ptrdiff_t b_j,
                              int64_t columns, int64_t depth);
/* Panels of `columns`, and the columns before panel i: whole vectors, rounded up at the end. */
int64_t rq_gemm_f32_panels(const struct rq_kernels *k, int64_t columns);
int64_t rq_gemm_f32_panel_at(const struct rq_kernels *k, int64_t columns, int64_t i);

/* What becomes of the chains of a product by a packed B while they are in the cache: y = f(f32(f32(alpha * chain + bias[j]) + add[i][j])). */
typedef struct rq_gemm_f32_after {
    float alpha;
    const float *bias; /* [n]; NULL: none */
    const float *add;  /* [m][n], rows as far apart as those of c, which it may be; NULL: none */
    void (*f)(float *y, const float *x, size_t n, float p, float q); /* NULL: none */
    float p, q;
} rq_gemm_f32_after;

/* c [m][n] = a [m][k] by what rq_gemm_f32_pack_columns made of B, rows lda and ldc apart: chains from 0, then `after` (NULL: nothing).
 * m, n and k are at least 1. */
void rq_gemm_f32_packed(const struct rq_kernels *K, float *c, int64_t ldc, const float *a, int64_t lda,
                        const float *packed, int64_t m, int64_t n, int64_t k, const rq_gemm_f32_after *after,
                        rq_threads *t);

/* c [m][n] = alpha * (op(a) op(b)) + beta * c, row-major; op(a) is m x k: a is [m][k], or [k][m] when trans_a; b
 * likewise. lda, ldb, ldc: elements from row to row as stored. The chain starts at 0; then come f32(alpha * chain) and, unless beta
 * is 0, f32(f32(beta * c) + that). k = 0 gives beta * c. With K->library it is oneDNN's product instead, in whatever order
 * (then RQ_INTERNAL: it failed). */
rq_status rq_gemm_f32(const struct rq_kernels *K, float *c, const float *a, const float *b, bool trans_a, bool trans_b,
                      int64_t m, int64_t n, int64_t k, float alpha, int64_t lda, int64_t ldb, float beta, int64_t ldc,
                      rq_threads *t);

/* The same for `count` independent products: pointers are a + a_at[i] and so on (elements). */
rq_status rq_gemm_f32_batch(const struct rq_kernels *K, float *c, const float *a, const float *b, const int64_t *c_at,
                            const int64_t *a_at, const int64_t *b_at, int64_t count, bool trans_a, bool trans_b,
                            int64_t m, int64_t n, int64_t k, float alpha, int64_t lda, int64_t ldb, float beta,
                            int64_t ldc, rq_threads *t);

#endif
