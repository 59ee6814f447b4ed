/* kernels/qgemm_madd_tmpl.h — the tile of integer products where only products of s16 can be added in pairs (vpmaddwd), for qgemm_avx2.c and
 * qgemm_avx512.c. They define MAX_ROWS (6 or 12), LANES, vec and vec_zero, vec_load, vec_store, vec_all (one s32 in all lanes), vec_weights (2 * LANES
 * s8 widened), vec_madd(sum, x, w) and widen, and CODES, the header that makes codes of sums.
 *
 * A pair is at most 2 * 255 * 128: nothing saturates. Multiplying bytes directly (vpmaddubsw) would do twice the work per instruction and saturate in
 * the corners (docs/onnx-facts.md 6.4). Weights are widened when they are loaded, for all rows. Pairs of X are broadcast from rows that are widened: once
 * for all panels (widen_rows, wide_tile), or, where rows are too long to be kept, by each tile some pieces at a time. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum {
    MAX_VECTORS = 2,
    KR = 2,
    STEP = LANES * KR,
    DEPTH = 512, /* of the buffer */
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#include CODES

/* Row q of X is x + q * ldx. Sums go to c, or as codes to o, unless it is NULL. Rows begin with from + q * from_ld (NULL: with zeros). Inlined into
 * one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const int16_t *x, size_t ldx, size_t steps,
                    const int8_t *w, const int32_t *from, size_t from_ld, const int rows, const int vectors)
{
    vec s[MAX_ROWS][MAX_VECTORS];
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++) s[q][v] =
        from ? vec_load(from + (size_t)q * from_ld + v * LANES) : vec_zero();
    for (size_t k = 0; k < KR * steps; k += KR, w += vectors * STEP) {
        const vec w0 = vec_weights(w), w1 = vectors > 1 ? vec_weights(w + STEP) : w0;
        UNROLL for (int q = 0; q < rows; q++)
        {
            int32_t pair;
            memcpy(&pair, x + (size_t)q * ldx + k, sizeof pair);
            const vec v = vec_all(pair);
            s[q][0] = vec_madd(s[q][0], v, w0);
            if (vectors > 1)
                s[q][1] = vec_madd(s[q][1], v, w1);
        }
    }
    if (o)
        codes_of(o, s, rows, vectors);
    else
        UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++)
            vec_store(c + (size_t)q * ldc + v * LANES, s[q][v]);
}

static void tile_part(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const int16_t *x, size_t ldx, size_t steps,
                      const int8_t *w, const int32_t *from, size_t from_ld, int rows, int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        if (vectors == 2)                                                                                              \
            tile_of(c, ldc, o, x, ldx, steps, w, from, from_ld, n, 2);                                                 \
        else                                                                                                           \
            tile_of(c, ldc, o, x, ldx, steps, w, from, from_ld, n, 1);                                                 \
        return;
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
#if MAX_ROWS > 6
        ROWS(7)
        ROWS(8)
        ROWS(9)
        ROWS(10)
        ROWS(11)
        ROWS(12)
#endif
    }
#undef ROWS
}

/* As many codes of each row as fit, from code *k of piece *r on, which move on; returns how many of s16 a row has then, all pieces even. */
static size_t widen_some(int16_t *wide, size_t ldx, size_t room, const uint8_t *const *x, size_t runs, size_t run,
                         size_t *r, size_t *k, int rows)
{
    size_t filled = 0;
    while (*r < runs && filled < room) {
        const size_t n = run - *k < room - filled ? run - *k : room - filled;
        for (int q = 0; q < rows; q++) {
            int16_t *y = wide + (size_t)q * ldx + filled;
            widen(y, x[*r * MAX_ROWS + (size_t)q] + *k, n);
            if (n % KR)
                y[n] = 0;
        }
        filled += (n + KR - 1) / KR * KR;
        *k += n;
        if (*k == run)
            ++*r, *k = 0;
    }
    return filled;
}

static size_t widen_rows(int16_t *wide, size_t ldx, const uint8_t *const *x, size_t runs, size_t run, int rows)
{
    size_t r = 0, k = 0;
    return widen_some(wide, ldx, SIZE_MAX, x, runs, run, &r, &k, rows);
}

/* c: room for sums in any case. */
static void tile_to(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run,
                    const void *w, const int32_t *init, int rows, int vectors)
{
    _Alignas(64) int16_t wide[MAX_ROWS * DEPTH];
    const int32_t *from = init;
    const int8_t *b = w;
    size_t r = 0, k = 0, from_ld = 0;
    do {
        const size_t filled = widen_some(wide, DEPTH, DEPTH, x, runs, run, &r, &k, rows);
        tile_part(c, ldc, r < runs ? NULL : o, wide, DEPTH, filled / KR, b, from, from_ld, rows, vectors);
        b += filled / KR * (size_t)(vectors * STEP);
        from = c;
        from_ld = ldc;
    } while (r < runs);
}

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
    tile_to(c, ldc, NULL, x, runs, run, w, init, rows, vectors);
}

static void codes(const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                  const int32_t *init, int rows, int vectors)
{
    _Alignas(64) int32_t c[MAX_ROWS * MAX_VECTORS * LANES];
    tile_to(c, (size_t)vectors * LANES, o, x, runs, run, w, init, rows, vectors);
}

static void wide_tile(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const int16_t *wide, size_t ldx, size_t depth,
                      const void *w, const int32_t *init, int rows, int vectors)
{
    tile_part(c, ldc, o, wide, ldx, depth / KR, w, init, 0, rows, vectors);
}
