/* kernels/winograd_tmpl.h — the three parts of kernels/winograd.h for one instruction set. The file that includes it says
 *
 *   MAX_ROWS, LANES      tiles of a product, s32 of a vector
 *   vec                  the type of a vector, and vec_pairs(sum, x, w), sum + the products of s16 added in pairs
 *   CODES                the header that makes codes of sums
 *   DIRECT               rq_winograd_isa.gain
 *
 * Everything else is written in vectors of the compiler's (GCC, clang), in types without sign, whose sums wrap. */
#include "kernels/kernels_isa.h"
#include "kernels/winograd.h"

#include <string.h>

enum {
    MAX_VECTORS = 2,
    STEP = 2 * LANES,     /* s16 of a step of W, per vector */
    CHANNELS = 2 * LANES, /* s16 of a vector */
    AHEAD = 1024,         /* s16 of W fetched before they are needed */
    IN = RQ_WINOGRAD_IN,
    OUT = RQ_WINOGRAD_OUT,
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef uint8_t bytes __attribute__((vector_size(CHANNELS)));
typedef uint16_t words __attribute__((vector_size(2 * CHANNELS)));
typedef uint32_t sums __attribute__((vector_size(4 * LANES)));
typedef int32_t signed_sums __attribute__((vector_size(4 * LANES)));

#include CODES

/* ---- inputs ---- */

/* B' d */
INLINE void turn_in(words y[IN], const words d[IN])
{
    const words a = d[4] - (d[2] << 2), b = d[3] - (d[1] << 2), c = d[4] - d[2], e = (d[3] - d[1]) << 1;
    y[0] = ((d[0] - d[2]) << 2) + c;
    y[1] = a + b;
    y[2] = a - b;
    y[3] = c + e;
    y[4] = c - e;
    y[5] = d[5] - d[3] - (e << 1);
}

INLINE words widened(const uint8_t *p)
{
    bytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, words);
}

/* The channels of one vector, from `at` on. */
INLINE void in_vector(int16_t *v, size_t spot, const uint8_t *const *pixel, int64_t at)
{
    words half[IN][IN], line[IN];
    UNROLL for (int s = 0; s < IN; s++)
    {
        UNROLL for (int r = 0; r < IN; r++) line[r] = widened(pixel[r * IN + s] + at);
        turn_in(half[s], line);
    }
    UNROLL for (int r = 0; r < IN; r++)
    {
        words y[IN];
        UNROLL for (int s = 0; s < IN; s++) line[s] = half[s][r];
        turn_in(y, line);
        UNROLL for (int s = 0; s < IN; s++, v += spot) memcpy(v, &y[s], sizeof y[s]);
    }
}

/* Fewer channels than a vector has. */
static void in_few(int16_t *v, size_t spot, const uint8_t *const *pixel, int64_t channels)
{
    uint8_t all[RQ_WINOGRAD_SPOTS][CHANNELS] = { { 0 } };
    int16_t wide[RQ_WINOGRAD_SPOTS * CHANNELS];
    const uint8_t *at[RQ_WINOGRAD_SPOTS];
    for (int i = 0; i < RQ_WINOGRAD_SPOTS; i++) {
        memcpy(all[i], pixel[i], (size_t)channels);
        at[i] = all[i];
    }
    in_vector(wide, CHANNELS, at, 0);
    for (int i = 0; i < RQ_WINOGRAD_SPOTS; i++)
        memcpy(v + (size_t)i * spot, wide + (ptrdiff_t)i * CHANNELS, (size_t)channels * sizeof *v);
}

/* The last vector overlaps the one before it. */
static void in(int16_t *v, size_t spot, const uint8_t *const *pixel, int64_t channels)
{
    if (channels < CHANNELS) {
        in_few(v, spot, pixel, channels);
        return;
    }
    int64_t c = 0;
    for (; c + CHANNELS < channels; c += CHANNELS)
        in_vector(v + c, spot, pixel, c);
    c = channels - CHANNELS;
    in_vector(v + c, spot, pixel, c);
}

/* ---- products ---- */

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const int16_t *x, size_t ldx, size_t steps, const int16_t *w,
                    const int rows, const int vectors)
{
    vec s[MAX_ROWS][MAX_VECTORS];
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++) s[q][v] = (vec)(sums) { 0 };
    for (size_t k = 0; k < 2 * steps; k += 2, w += vectors * STEP) {
        vec u[MAX_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++)
        {
            memcpy(&u[v], w + v * STEP, sizeof u[v]);
            __builtin_prefetch(w + v * STEP + AHEAD);
        }
        UNROLL for (int q = 0; q < rows; q++)
        {
            uint32_t pair;
            memcpy(&pair, x + (size_t)q * ldx + k, sizeof pair);
            const vec p = (vec)((sums) { 0 } + pair);
            UNROLL for (int v = 0; v < vectors; v++) s[q][v] = vec_pairs(s[q][v], p, u[v]);
        }
    }
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int v = 0; v < vectors; v++)
        memcpy(c + (size_t)q * ldc + v * LANES, &s[q][v], sizeof s[q][v]);
}

static void tile(int32_t *c, size_t ldc, const int16_t *x, size_t ldx, size_t steps, const int16_t *w, int rows,
                 int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        if (vectors == 2)                                                                                              \
            tile_of(c, ldc, x, ldx, steps, w, n, 2);                                                                   \
        else                                                                                                           \
            tile_of(c, ldc, x, ldx, steps, w, n, 1);                                                                   \
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
#if MAX_ROWS > 12
        ROWS(13)
        ROWS(14)
#endif
    }
#undef ROWS
}

/* ---- outputs ---- */

/* A' m, each row without its factor: 1, 2, 4 and 4. */
INLINE void turn_out(sums y[OUT], const sums m[IN])
{
    const sums s = m[1] + m[2], d = m[1] - m[2], t = m[3] + m[4], u = m[3] - m[4];
    y[0] = m[0] + (s << 2) + t;
    y[1] = (d << 1) + u;
    y[2] = s + t;
    y[3] = d + (u << 1) + m[5];
}

/* 2^n in 9 * 2^n: what is left in output i of one axis. */
INLINE int twos(int i)
{
    return i == 0 ? 3 : i == 1 ? 2 : 1;
}

/* The first n columns of each of `width` pixels. */
static __attribute__((noinline)) void copy_pixels(uint8_t *y, size_t ldy, const uint8_t *from, int width, int n)
{
    for (int q = 0; q < width; q++)
        memcpy(y + (size_t)q * ldy, from + (ptrdiff_t)q * LANES, (size_t)n);
}

/* One vector of columns. */
INLINE void out_vector(const rq_qgemm_codes *o, size_t line, int height, int width, const int32_t *c, size_t spot,
                       const int32_t *init)
{
    const sums ninth = (sums) { 0 } + 0x38e38e39u; /* 9 * this is 1 modulo 2^32 */
    sums half[IN][OUT], add;
    memcpy(&add, init, sizeof add);
    UNROLL for (int s = 0; s < IN; s++)
    {
        sums m[IN];
        UNROLL for (int r = 0; r < IN; r++) memcpy(&m[r], c + (size_t)(r * IN + s) * spot, sizeof m[r]);
        turn_out(half[s], m);
    }
    UNROLL for (int r = 0; r < OUT; r++)
    {
        uint8_t whole[OUT * LANES];
        sums m[IN], y[OUT];
        vec done[OUT][MAX_VECTORS];
        UNROLL for (int s = 0; s < IN; s++) m[s] = half[s][r];
        turn_out(y, m);
        UNROLL for (int s = 0; s < OUT; s++) done[s][0] =
            (vec)((sums)((signed_sums)(y[s] * ninth) >> (twos(r) + twos(s))) + add);
        if (r >= height)
            return;
        rq_qgemm_codes to = *o;
        to.y = o->y + (size_t)r * line;
        if (width < OUT) {
            to.y = whole;
            to.ldy = LANES;
        }
        codes_of(&to, done, OUT, 1);
        if (width < OUT)
            copy_pixels(o->y + (size_t)r * line, o->ldy, whole, width, o->columns);
    }
}

static void out(const rq_qgemm_codes *o, size_t line, int height, int width, const int32_t *c, size_t spot,
                const int32_t *init, int vectors)
{
    rq_qgemm_codes part = *o;
    for (int v = 0; v < vectors; v++) {
        part.columns = o->columns - v * LANES < LANES ? o->columns - v * LANES : LANES;
        out_vector(&part, line, height, width, c + (ptrdiff_t)v * LANES, spot, init + (ptrdiff_t)v * LANES);
        part.y += LANES;
        part.m += LANES;
    }
}

#define WINOGRAD_ISA(layout)                                                                                           \
    {                                                                                                                  \
        .name = layout, .max_rows = MAX_ROWS, .lanes = LANES, .max_vectors = MAX_VECTORS, .gain = DIRECT, .in = in,    \
        .tile = tile, .out = out                                                                                       \
    }
