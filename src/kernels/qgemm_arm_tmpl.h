/* kernels/qgemm_arm_tmpl.h — the tile of integer products on 64-bit ARM, whatever multiplies. The file that includes it says
 *
 *   MAX_ROWS (4 or 8), MAX_VECTORS (2 or 3), LANES, KR   of rq_qgemm_isa
 *   BLOCK                  bytes of a row that are taken at once, a multiple of KR
 *   HEAD                   1: sums that C begins with stand before the panel (rq_qgemm_isa.take)
 *   SUMS, COLUMNS          C in registers: int32x4_t s[SUMS][COLUMNS]
 *   steps_of(s, x, k, n, w, rows, vectors)   s += the n (1 to BLOCK) bytes of each row at x[] + k by as many of W
 *   begin(s, head, init, rows, vectors), end(c, ldc, s, rows, vectors)   to and from these registers; init may be NULL, head too
 *
 * and gets `tile`. qgemm_arm_rows.h has begin and end where a register holds four columns of a row. */

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
INLINE void tile_of(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *panel,
                    const int32_t *init, const int rows, const int vectors)
{
    int32x4_t s[SUMS][COLUMNS];
    const int32_t *head = HEAD ? panel : NULL;
    const int8_t *w = HEAD ? (const int8_t *)(head + vectors * LANES) : panel;
    begin(s, head, init, rows, vectors);
    for (size_t r = 0; r < runs; r++, x += MAX_ROWS) {
        size_t k = 0;
        for (; k + BLOCK <= run; k += BLOCK, w += BLOCK * vectors * LANES)
            steps_of(s, x, k, BLOCK, w, rows, vectors);
        if (k < run) {
            steps_of(s, x, k, run - k, w, rows, vectors);
            w += (run - k + KR - 1) / KR * (size_t)(KR * vectors * LANES);
        }
    }
    end(c, ldc, s, rows, vectors);
}

static void tile(int32_t *c, size_t ldc, const uint8_t *const *x, size_t runs, size_t run, const void *w,
                 const int32_t *init, int rows, int vectors)
{
#if MAX_VECTORS > 2
#define WIDEST(n)                                                                                                      \
    if (vectors == 3)                                                                                                  \
        tile_of(c, ldc, x, runs, run, w, init, n, 3);                                                                  \
    else
#else
#define WIDEST(n)
#endif
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        WIDEST(n)                                                                                                      \
        if (vectors == 2)                                                                                              \
            tile_of(c, ldc, x, runs, run, w, init, n, 2);                                                              \
        else                                                                                                           \
            tile_of(c, ldc, x, runs, run, w, init, n, 1);                                                              \
        return;
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
#if MAX_ROWS > 4
        ROWS(5)
        ROWS(6)
        ROWS(7)
        ROWS(8)
#endif
    }
#undef ROWS
#undef WIDEST
}
