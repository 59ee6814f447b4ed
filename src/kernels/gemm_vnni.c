/* kernels/gemm_vnni.c — the integer tile on AVX-512 VNNI: 8 rows by 48 columns, depth in steps of 4.
 * Compiled with -mavx512f/bw/dq/vl/vnni.
 *
 * vpdpbusd adds four u8 * s8 products to an s32 without saturating (vpdpbusds would). 24 registers hold C, 3 hold a
 * step of B, one a step of A broadcast to all columns: 11 loads for 24 multiply-adds. */
#ifdef __AVX512VNNI__
#include "kernels/kernels_isa.h"

#include <immintrin.h>
#include <string.h>

enum { MR = 8, LANES = 16, KR = 4, MAX_VECTORS = 3 };

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
static inline __attribute__((always_inline)) void tile_of(int32_t *c, size_t ldc, const int8_t *a, const uint8_t *b,
                                                          size_t steps, const int rows, const int vectors)
{
    __m512i acc[MR][MAX_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            acc[i][v] = _mm512_setzero_si512();
    for (size_t s = 0; s < steps; s++) {
        __m512i x[MAX_VECTORS];
        for (int v = 0; v < vectors; v++)
            x[v] = _mm512_loadu_si512(b + v * LANES * KR);
        for (int i = 0; i < rows; i++) {
            int32_t quad;
            memcpy(&quad, a + i * KR, sizeof quad);
            const __m512i w = _mm512_set1_epi32(quad);
            for (int v = 0; v < vectors; v++)
                acc[i][v] = _mm512_dpbusd_epi32(acc[i][v], x[v], w);
        }
        a += rows * KR;
        b += vectors * LANES * KR;
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_si512(c + (size_t)i * ldc + (size_t)v * LANES, acc[i][v]);
}

static inline __attribute__((always_inline)) void tile_rows(int32_t *c, size_t ldc, const int8_t *a, const uint8_t *b,
                                                            size_t steps, const int rows, int vectors)
{
    if (vectors == 3)
        tile_of(c, ldc, a, b, steps, rows, 3);
    else if (vectors == 2)
        tile_of(c, ldc, a, b, steps, rows, 2);
    else
        tile_of(c, ldc, a, b, steps, rows, 1);
}

static void tile(int32_t *c, size_t ldc, const void *a, const uint8_t *b, size_t steps, int rows, int vectors)
{
    if (rows == 8)
        tile_rows(c, ldc, a, b, steps, 8, vectors);
    else if (rows == 4)
        tile_rows(c, ldc, a, b, steps, 4, vectors);
    else if (rows == 2)
        tile_rows(c, ldc, a, b, steps, 2, vectors);
    else
        tile_rows(c, ldc, a, b, steps, 1, vectors);
}

static void interleave(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip)
{
    /* The four rows go to the four 128-bit lanes; dwords are then gathered so that lane q holds columns 4q..4q+3 of
     * each row, and its 4 x 4 bytes are transposed. */
    const __m512i f = _mm512_set1_epi8((char)flip);
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i transpose =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    for (size_t j = 0; j < n; j += LANES) {
        const __mmask16 m = n - j >= LANES ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
        __m512i v = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(m, rows[0] + j));
        v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, rows[1] + j), 1);
        v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, rows[2] + j), 2);
        v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(m, rows[3] + j), 3);
        v = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(gather, v), transpose);
        _mm512_storeu_si512(dst + j * KR, _mm512_xor_si512(v, f));
    }
}

const rq_gemm_isa rq_gemm_vnni = {
    .mr = MR,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .a_bytes = 1,
    .tile = tile,
    .interleave = interleave,
};

#endif
