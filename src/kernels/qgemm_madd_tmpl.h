/* kernels/qgemm_madd_tmpl.h — the tile of integer products where only products of s16 can be added in pairs (vpmaddwd), for qgemm_avx2.c and
 * qgemm_avx512.c. They define MAX_ROWS (6 or 12), LANES, vec and vec_zero, vec_load, vec_store, vec_all (one s32 in all lanes), vec_weights (2 * LANES
 * s8 widened), vec_madd(sum, x, w) and widen, and CODES, the header that makes codes of sums.
 *
 * A pair is at most 2 * 255 * 128: nothing saturates. Multiplying bytes directly (vpmaddubsw) would do twice the work per instruction and saturate in
 * the corners (docs/onnx-facts.md 6.4). Weights are widened when they are loaded, for all rows; X is widened into a small buffer, some pieces at a time,
 * from which pairs are broadcast. */
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

/* Sums go to c, or as codes to o, unless it is NULL. Rows begin with from + q * from_ld (NULL: with zeros). Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const int16_t (*x)[DEPTH], size_t steps,
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
            memcpy(&pair, x[q] + k, sizeof pair);
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

static void tile_part(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const int16_t (*x)[DEPTH], size_t steps,
                      const int8_t *w, const int32_t *from, size_t from_ld, int rows, int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        if (vectors == 2)                                                                                              \
            tile_of(c, ldc, o, x, steps, w, from, from_ld, n, 2);                                                      \
        else                                                                                                           \
            tile_of(c, ldc, o, x, steps, w, from, from_ld, n, 1);                                                      \
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

/* c: room for sums in any case. */
static void tile_to(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run,
                    const void *w, const int32_t *init, int rows, int vectors)
{
    _Alignas(64) int16_t wide[MAX_ROWS][DEPTH];
    const int32_t *from = init;
    const int8_t *b = w;
    size_t r = 0, k = 0, from_ld = 0;
    do {
        size_t filled = 0;
        while (r < runs && filled < DEPTH) {
            const size_t n = run - k < DEPTH - filled ? run - k : DEPTH - filled;
            for (int q = 0; q < rows; q++) {
                widen(wide[q] + filled, x[r * MAX_ROWS + (size_t)q] + k, n);
                if (n % KR)
                    wide[q][filled + n] = 0;
            }
            filled += (n + KR - 1) / KR * KR;
            k += n;
            if (k == run)
                r++, k = 0;
        }
        tile_part(c, ldc, r < runs ? NULL : o, (const int16_t(*)[DEPTH])wide, filled / KR, b, from, from_ld, rows,
                  vectors);
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
