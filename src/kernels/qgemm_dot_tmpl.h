/* kernels/qgemm_dot_tmpl.h — the tile of integer products where an instruction adds four u8 * s8 products to an s32 without saturating, for
 * qgemm_vnni.c and qgemm_avxvnni.c. They define MAX_ROWS (6 or 14), LANES, vec and vec_zero, vec_load, vec_store, vec_add, vec_all (one s32 in all
 * lanes) and vec_dot(sum, x, w), and CODES, the header that makes codes of sums.
 *
 * Nearly all registers hold C, two a step of W; four bytes of a row of X are broadcast from memory: a load per multiply-add and a half at most. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum {
    MAX_VECTORS = 2,
    KR = 4,
    STEP = LANES * KR,
    AHEAD =
        2048, /* bytes of W fetched before they are needed: they may come from memory, and panels lie one behind the other */
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#include CODES

/* The first n (1 to 4) bytes at p, in all lanes; the others 0. */
INLINE vec quad(const uint8_t *p, const size_t n)
{
    int32_t v;
    if (n == 4) {
        memcpy(&v, p, 4);
    } else {
        v = p[0];
        if (n > 1)
            v |= p[1] << 8;
        if (n > 2)
            v |= p[2] << 16;
    }
    return vec_all(v);
}

/* C += the n bytes of each row at x[] + k by one step of W */
INLINE void step(vec (*s)[MAX_VECTORS], const uint8_t *const *x, size_t k, const size_t n, const int8_t *w,
                 const int rows, const int vectors)
{
    const vec w0 = vec_load(w), w1 = vectors > 1 ? vec_load(w + STEP) : w0;
    __builtin_prefetch(w + AHEAD);
    if (vectors > 1)
        __builtin_prefetch(w + AHEAD + STEP);
    UNROLL for (int q = 0; q < rows; q++)
    {
        const vec v = quad(x[q] + k, n);
        s[q][0] = vec_dot(s[q][0], v, w0);
        if (vectors > 1)
            s[q][1] = vec_dot(s[q][1], v, w1);
    }
}

/* Where sums go: to c, or as codes to o, unless it is NULL. */
INLINE void put(int32_t *c, size_t ldc, const rq_qgemm_codes *o, vec (*s)[MAX_VECTORS], const int rows,
                const int vectors)
{
    if (o)
        codes_of(o, s, rows, vectors);
    else
        UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++)
            vec_store(c + (size_t)q * ldc + v * LANES, s[q][v]);
}

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run,
                    const int8_t *w, const int32_t *init, const int rows, const int vectors)
{
    vec s[MAX_ROWS][MAX_VECTORS];
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++) s[q][v] =
        init ? vec_load(init + v * LANES) : vec_zero();
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + KR <= run; k += KR, w += vectors * STEP)
            step(s, x, k, KR, w, rows, vectors);
        if (k < run) {
            step(s, x, k, run - k, w, rows, vectors);
            w += vectors * STEP;
        }
    }
    put(c, ldc, o, s, rows, vectors);
}

/* One row: four steps at a time into sums of their own, so that they do not wait for each other. */
INLINE void tile_one(int32_t *c, const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run,
                     const int8_t *w, const int32_t *init, const int vectors)
{
    vec s[4][MAX_VECTORS];
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int v = 0; v < vectors; v++) s[i][v] =
        init && i == 0 ? vec_load(init + v * LANES) : vec_zero();
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + 4 * KR <= run; k += 4 * KR, w += 4 * vectors * STEP)
            UNROLL for (int i = 0; i < 4; i++)
                step(s + i, x, k + (size_t)(i * KR), KR, w + i * vectors * STEP, 1, vectors);
        for (; k + KR <= run; k += KR, w += vectors * STEP)
            step(s, x, k, KR, w, 1, vectors);
        if (k < run) {
            step(s, x, k, run - k, w, 1, vectors);
            w += vectors * STEP;
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) s[0][v] = vec_add(vec_add(s[0][v], s[1][v]), vec_add(s[2][v], s[3][v]));
    put(c, 0, o, s, 1, vectors);
}

static void tile_to(int32_t *c, size_t ldc, const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run,
                    const void *w, const int32_t *init, int rows, int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        if (vectors == 2)                                                                                              \
            tile_of(c, ldc, o, x, runs, run, w, init, n, 2);                                                           \
        else                                                                                                           \
            tile_of(c, ldc, o, x, runs, run, w, init, n, 1);                                                           \
        return;
    switch (rows) {
    case 1:
        if (vectors == 2)
            tile_one(c, o, x, runs, run, w, init, 2);
        else
            tile_one(c, o, x, runs, run, w, init, 1);
        return;
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
        ROWS(13)
        ROWS(14)
#endif
    }
#undef ROWS
}

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
    tile_to(c, ldc, NULL, x, runs, run, w, init, rows, vectors);
}

static void codes(const rq_qgemm_codes *o, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                  const int32_t *init, int rows, int vectors)
{
    tile_to(NULL, 0, o, x, runs, run, w, init, rows, vectors);
}
