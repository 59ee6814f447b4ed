/* kernels/gemm_zmm.h — the integer tile in AVX-512 registers, 8 rows by 48 columns, for gemm_avx512.c and gemm_vnni.c.
 * They define a_elem (packed A: four bytes are a step of depth, KR elements), load_step (16 columns of a step of B) and
 * madd_step (its products with a step of A, added up in s32).
 *
 * 24 registers hold C, 3 hold a step of B, one a step of A broadcast to all columns: 11 loads for 24 multiply-adds. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum { MR = 8, LANES = 16, MAX_VECTORS = 3 };

/* One row of C: named parts, not an array, so that no compiler puts them in memory. */
typedef struct row {
    __m512i v0, v1, v2;
} row;

static inline __attribute__((always_inline)) row row_zero(void)
{
    return (row) { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
}

/* r += a step of A at a times a step of B */
static inline __attribute__((always_inline)) row row_step(row r, const a_elem *a, row x, const int vectors)
{
    int32_t step;
    memcpy(&step, a, sizeof step);
    const __m512i w = _mm512_set1_epi32(step);
    r.v0 = madd_step(r.v0, x.v0, w);
    if (vectors > 1)
        r.v1 = madd_step(r.v1, x.v1, w);
    if (vectors > 2)
        r.v2 = madd_step(r.v2, x.v2, w);
    return r;
}

static inline __attribute__((always_inline)) void row_store(int32_t *c, row r, const int vectors)
{
    _mm512_storeu_si512(c, r.v0);
    if (vectors > 1)
        _mm512_storeu_si512(c + LANES, r.v1);
    if (vectors > 2)
        _mm512_storeu_si512(c + 2 * LANES, r.v2);
}

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
static inline __attribute__((always_inline)) void tile_of(int32_t *c, size_t ldc, const a_elem *a, const uint8_t *b,
                                                          size_t steps, const int rows, const int vectors)
{
    row r0 = row_zero(), r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0, r6 = r0, r7 = r0;
    for (size_t s = 0; s < steps; s++) {
        row x = row_zero();
        x.v0 = load_step(b);
        if (vectors > 1)
            x.v1 = load_step(b + LANES * KR);
        if (vectors > 2)
            x.v2 = load_step(b + 2 * LANES * KR);
        r0 = row_step(r0, a, x, vectors);
        if (rows > 1)
            r1 = row_step(r1, a + KR, x, vectors);
        if (rows > 2) {
            r2 = row_step(r2, a + 2 * KR, x, vectors);
            r3 = row_step(r3, a + 3 * KR, x, vectors);
        }
        if (rows > 4) {
            r4 = row_step(r4, a + 4 * KR, x, vectors);
            r5 = row_step(r5, a + 5 * KR, x, vectors);
            r6 = row_step(r6, a + 6 * KR, x, vectors);
            r7 = row_step(r7, a + 7 * KR, x, vectors);
        }
        a += rows * KR;
        b += vectors * LANES * KR;
    }
    row_store(c, r0, vectors);
    if (rows > 1)
        row_store(c + ldc, r1, vectors);
    if (rows > 2) {
        row_store(c + 2 * ldc, r2, vectors);
        row_store(c + 3 * ldc, r3, vectors);
    }
    if (rows > 4) {
        row_store(c + 4 * ldc, r4, vectors);
        row_store(c + 5 * ldc, r5, vectors);
        row_store(c + 6 * ldc, r6, vectors);
        row_store(c + 7 * ldc, r7, vectors);
    }
}

static inline __attribute__((always_inline)) void tile_rows(int32_t *c, size_t ldc, const a_elem *a, const uint8_t *b,
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
