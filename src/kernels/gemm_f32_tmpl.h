/* kernels/gemm_f32_tmpl.h — the float tile of kernels/gemm_f32.h, once for every instruction set. The file that
 * includes this defines the vector (vf, vload, vstore, vsplat, vadd, vfma), transpose_block and TILE_BLOCK, its size,
 * TILE_LANES, TILE_ROWS, TILE_WIDE_1, TILE_WIDE_2, TILE_WIDE and SUFFIX. A tile is loops of constant length that the
 * compiler turns into registers. */
#include "kernels/gemm_f32.h"
#include "kernels/kernels_isa.h"

static inline __attribute__((always_inline)) void tile_of(float *c, size_t ldc, const float *start, const float *a,
                                                          ptrdiff_t a_row, const int32_t *a_off, const float *b,
                                                          const int32_t *b_off, size_t depth, const int rows,
                                                          const int vectors)
{
    vf acc[TILE_ROWS][TILE_WIDE_1];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            acc[i][v] = start ? vsplat(start[i]) : vload(c + (size_t)i * ldc + v * TILE_LANES);
    for (size_t k = 0; k < depth; k++) {
        const float *from = a + a_off[k], *at = b + b_off[k];
        vf col[TILE_WIDE_1];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            col[v] = vload(at + v * TILE_LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const vf x = vsplat(from[i * a_row]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                acc[i][v] = vfma(x, col[v], acc[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vstore(c + (size_t)i * ldc + v * TILE_LANES, acc[i][v]);
}

#define CASE(r, v)                                                                                                     \
    case (r)*16 + (v):                                                                                                 \
        tile_of(c, ldc, start, a, a_row, a_off, b, b_off, depth, r, v);                                                \
        break;

static void tile(float *c, size_t ldc, const float *start, const float *a, ptrdiff_t a_row, const int32_t *a_off,
                 const float *b, const int32_t *b_off, size_t depth, int rows, int vectors)
{
    switch (rows * 16 + vectors) {
        CASE(1, 1)
        CASE(1, 2)
        CASE(1, 3)
        CASE(1, 4)
        CASE(2, 1)
        CASE(2, 2)
        CASE(2, 3)
        CASE(2, 4)
        CASE(3, 1)
        CASE(3, 2)
        CASE(3, 3)
        CASE(4, 1)
        CASE(4, 2)
        CASE(4, 3)
#if TILE_WIDE_1 == 8
        CASE(1, 5)
        CASE(1, 6)
        CASE(1, 7)
        CASE(1, 8)
#endif
#if TILE_ROWS == 8
        CASE(5, 1)
        CASE(5, 2)
        CASE(5, 3)
        CASE(6, 1)
        CASE(6, 2)
        CASE(6, 3)
        CASE(7, 1)
        CASE(7, 2)
        CASE(7, 3)
        CASE(8, 1)
        CASE(8, 2)
        CASE(8, 3)
#endif
    }
}

static void copy(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int rows, int n)
{
    for (int i = 0; i < rows; i++, dst += ldd, src += lds) {
        int j = 0;
        for (; j + TILE_LANES <= n; j += TILE_LANES)
            vstore(dst + j, vload(src + j));
        if (j < n && n >= TILE_LANES)
            vstore(dst + n - TILE_LANES, vload(src + n - TILE_LANES));
        else
            for (; j < n; j++)
                dst[j] = src[j];
    }
}

static inline __attribute__((always_inline)) void finish_of(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds,
                                                            const float *bias, const float *add, ptrdiff_t ld_add,
                                                            int rows, int n, const bool biased, const bool added)
{
    for (int i = 0; i < rows; i++, dst += ldd, src += lds, add += added ? ld_add : 0) {
        int j = 0;
        for (; j + TILE_LANES <= n; j += TILE_LANES) {
            vf v = vload(src + j);
            v = biased ? vadd(v, vload(bias + j)) : v;
            vstore(dst + j, added ? vadd(v, vload(add + j)) : v);
        }
        for (; j < n; j++) {
            const float v = biased ? src[j] + bias[j] : src[j];
            dst[j] = added ? v + add[j] : v;
        }
    }
}

static void finish(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, const float *bias, const float *add,
                   ptrdiff_t ld_add, int rows, int n)
{
    if (bias && add)
        finish_of(dst, ldd, src, lds, bias, add, ld_add, rows, n, true, true);
    else if (bias)
        finish_of(dst, ldd, src, lds, bias, add, ld_add, rows, n, true, false);
    else if (add)
        finish_of(dst, ldd, src, lds, bias, add, ld_add, rows, n, false, true);
    else if (dst != src)
        copy(dst, ldd, src, lds, rows, n);
}

static void transpose(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int rows, int n)
{
    for (int j = 0; j < n; j += TILE_BLOCK) {
        int k = 0;
        if (j + TILE_BLOCK <= n)
            for (; k + TILE_BLOCK <= rows; k += TILE_BLOCK)
                transpose_block(dst + k * ldd + j, ldd, src + j * lds + k, lds);
        for (; k < rows; k++)
            for (int i = j; i < n && i < j + TILE_BLOCK; i++)
                dst[k * ldd + i] = src[i * lds + k];
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

const rq_gemm_f32_isa JOIN(rq_gemm_f32_, SUFFIX) = {
    .rows = TILE_ROWS,
    .lanes = TILE_LANES,
    .vectors = { TILE_WIDE_1, TILE_WIDE_2, TILE_WIDE },
    .tile = tile,
    .copy = copy,
    .finish = finish,
    .transpose = transpose,
};
