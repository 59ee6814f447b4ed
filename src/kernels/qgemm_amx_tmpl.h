/* kernels/qgemm_amx_tmpl.h — the tile of integer products on AMX, 32 rows by 32 columns, depth in steps of 64: packing and indexing, for qgemm_amx.c
 * and for a test that makes the tile operations of plain C. They define
 *
 *   TILE_CONFIG(config)           the sizes of all tiles (64 bytes, Intel's layout)
 *   TILE_LOAD(t, base, stride)    rows of 64 bytes, stride bytes apart
 *   TILE_DOT(c, a, b)             c += a * b: rows of 64 u8 by 16 rows of [16 columns][4] s8
 *   TILE_STORE(t, base, stride)
 *   TILE_RELEASE()
 *
 * Tiles 0 to 3 hold C as 2 x 2, 4 and 5 a step of X for 16 rows each, 6 and 7 a step of W for 16 columns each: four products per four loads. Rows of X
 * that are a constant stride apart are loaded where they are; others, and the last bytes of a piece, go through a small buffer. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum { MAX_ROWS = 32, LANES = 16, MAX_VECTORS = 2, KR = 64, HALF = 16 };

typedef struct tile_config {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* X of one step, 64 bytes of each row. */
typedef struct step_x {
    const uint8_t *at;
    ptrdiff_t stride;
} step_x;

/* n bytes of each row at x[] + k, the rest zeros. */
static step_x gather(uint8_t (*buffer)[KR], const uint8_t *const *x, size_t k, size_t n, int rows)
{
    for (int q = 0; q < rows; q++) {
        if (n < KR)
            memset(buffer[q], 0, KR);
        memcpy(buffer[q], x[q] + k, n);
    }
    return (step_x) { buffer[0], KR };
}

/* Are the rows a constant stride apart? */
static bool is_even(const uint8_t *const *x, int rows)
{
    for (int q = 2; q < rows; q++)
        if ((uintptr_t)x[q] - (uintptr_t)x[q - 1] != (uintptr_t)x[1] - (uintptr_t)x[0])
            return false;
    return true;
}

/* C += one step. */
static inline void step(step_x x, const int8_t *w, int rows, int vectors)
{
    const ptrdiff_t w_stride = (ptrdiff_t)vectors * LANES * 4;
    TILE_LOAD(4, x.at, x.stride);
    TILE_LOAD(6, w, w_stride);
    TILE_DOT(0, 4, 6);
    if (vectors > 1) {
        TILE_LOAD(7, w + LANES * 4, w_stride);
        TILE_DOT(1, 4, 7);
    }
    if (rows > HALF) {
        TILE_LOAD(5, x.at + HALF * x.stride, x.stride);
        TILE_DOT(2, 5, 6);
        if (vectors > 1)
            TILE_DOT(3, 5, 7);
    }
}

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
    static const int32_t zeros[MAX_VECTORS * LANES];
    _Alignas(64) uint8_t buffer[MAX_ROWS][KR];
    const int low = rows < HALF ? rows : HALF, high = rows - low;
    tile_config config = { .palette = 1 };
    for (int t = 0; t < 8; t++) {
        config.row_bytes[t] = 64;
        config.rows[t] = (uint8_t)(t >= 6 ? HALF : t < 2 || t == 4 ? low : high > 0 ? high : 1);
    }
    TILE_CONFIG(&config);
    const int32_t *from = init ? init : zeros; /* every row begins with the same */
    TILE_LOAD(0, from, 0);
    TILE_LOAD(1, from + (vectors > 1 ? LANES : 0), 0);
    TILE_LOAD(2, from, 0);
    TILE_LOAD(3, from + (vectors > 1 ? LANES : 0), 0);
    const int8_t *b = w;
    const size_t w_step = (size_t)(vectors * LANES * KR);
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        const bool even = run >= KR && is_even(x, rows);
        const ptrdiff_t stride = even && rows > 1 ? x[1] - x[0] : 0;
        for (size_t k = 0; k < run; k += KR, b += w_step) {
            const size_t n = run - k < KR ? run - k : KR;
            const step_x s = even && n == KR ? (step_x) { x[0] + k, stride } : gather(buffer, x, k, n, rows);
            step(s, b, rows, vectors);
        }
    }
    TILE_STORE(0, c, (ptrdiff_t)(ldc * sizeof *c));
    if (vectors > 1)
        TILE_STORE(1, c + LANES, (ptrdiff_t)(ldc * sizeof *c));
    if (high > 0) {
        TILE_STORE(2, c + HALF * ldc, (ptrdiff_t)(ldc * sizeof *c));
        if (vectors > 1)
            TILE_STORE(3, c + HALF * ldc + LANES, (ptrdiff_t)(ldc * sizeof *c));
    }
    TILE_RELEASE();
}

#define QGEMM_AMX                                                                                                      \
    {                                                                                                                  \
        .max_rows = MAX_ROWS, .lanes = LANES, .max_vectors = MAX_VECTORS, .kr = KR, .w_bytes = 1, .tile = tile         \
    }
