/* kernels/dwlast_tmpl.h — a block of channels of a depthwise row, whatever the vectors are. The file that includes it says
 *
 *   NAME(f)   the name of f here              KR, VECTORS, LANES   taps and channels of a dword, vectors of a block, dwords of a vector
 *   VEC, RAW  sums; the codes of one tap      PART                 which channels of the block there are
 *   NAME(fetch)(p, part), NAME(nothing)()     a tap's codes; those of a tap that is not there
 *   NAME(weave)(c, raw)                       KR taps side by side, in VECTORS vectors
 *   NAME(load)(p), NAME(dot)(s, c, w)         LANES dwords; s + the taps' products
 *   HELD                                  how many vectors of weights may stay in registers
 *   NAME(store)(g, y, part, acc, m)           sums, the addend in them already, to codes
 *
 * and gets NAME(block_taps) and NAME(block_window). Loops are of constant length once these are inlined, and arrays become registers. */

#undef DW_INLINE
#define DW_INLINE static inline __attribute__((always_inline))

/* Bare sums, in the order of channels. */
static void NAME(spill)(const rq_dwlast_row *g, int64_t o, int64_t first, const VEC *acc)
{
    int32_t s[VECTORS * LANES];
    memcpy(s, acc, sizeof s);
    for (int c = 0; c < VECTORS * LANES && first + c < g->channels; c++)
        g->sums[o * g->ld + first + c] = s[rq_dwlast_at(VECTORS * LANES, VECTORS, c)];
}

DW_INLINE void NAME(begin)(VEC *acc, const rq_dwlast_row *g, const int32_t *finish)
{
    for (int v = 0; v < VECTORS; v++)
        acc[v] = g->y ? NAME(load)(finish + v * LANES) : NAME(none)();
}

DW_INLINE void NAME(end)(const rq_dwlast_row *g, int64_t o, int64_t first, PART part, const VEC *acc,
                         const int32_t *finish)
{
    if (g->y)
        NAME(store)(g, g->y + o * g->ld + first, part, acc, finish + VECTORS * LANES);
    else
        NAME(spill)(g, o, first, acc);
}

/* Any taps, one output after the other. */
DW_INLINE void NAME(block_taps)(const rq_dwlast_row *g, int64_t first, PART part, const int32_t *w,
                                const int32_t *finish)
{
    const uint8_t *const *x = g->x;
    for (int64_t o = 0; o < g->n; o++, x += g->height) {
        VEC acc[VECTORS], c[VECTORS];
        RAW raw[KR];
        const int32_t *at = w;
        NAME(begin)(acc, g, finish);
        for (int t = 0; t < g->height; t += KR, at += VECTORS * LANES) {
#pragma GCC unroll 4
            for (int i = 0; i < KR; i++)
                raw[i] = t + i < g->height ? NAME(fetch)(x[t + i] + first, part) : NAME(nothing)();
            NAME(weave)(c, raw);
            for (int v = 0; v < VECTORS; v++)
                acc[v] = NAME(dot)(acc[v], c[v], NAME(load)(at + v * LANES));
        }
        NAME(end)(g, o, first, part, acc, finish);
    }
}

/* acc[k] are the sums of output q - k; the column q * stride + p of the window's input is tap k * stride + p of it. */
DW_INLINE void NAME(slide)(const rq_dwlast_row *g, int64_t first, PART part, const int32_t *w, const int32_t *finish,
                           const int size, const int stride)
{
    const int groups = (size + KR - 1) / KR, live = (size - 1) / stride + 1;
    const bool hold = size == 3 && size * groups * VECTORS <= HELD; /* few enough to stay in registers */
    const uint8_t *base[5];
    int64_t inside_mask[5]; /* 0: a row outside stays where it is */
    VEC acc[5][VECTORS], c[VECTORS], held[HELD];
    RAW raw[KR];
    for (int r = 0; r < size; r++) {
        base[r] = g->x[r] ? g->x[r] + first : g->zero + first;
        inside_mask[r] = g->x[r] ? -1 : 0;
    }
    if (hold) {
#pragma GCC unroll 24
        for (int i = 0; i < size * groups * VECTORS; i++)
            held[i] = NAME(load)(w + (ptrdiff_t)i * LANES);
    }
#pragma GCC unroll 5
    for (int k = 0; k < live; k++)
        NAME(begin)(acc[k], g, finish);
    for (int64_t q = 0;; q++) {
        if (!hold && (stride == 1 || VECTORS == 2))
            __asm__ volatile("" : "+r"(w)); /* read where they are used: held, they would push sums out of registers */
#pragma GCC unroll 2
        for (int p = 0; p < stride; p++) {
            const int64_t column = q * stride + p, at = (column - g->first) * g->pitch;
            const bool inside = column >= g->first && column < g->last;
#pragma GCC unroll 3
            for (int r0 = 0, group = 0; r0 < size; r0 += KR, group++) {
#pragma GCC unroll 4
                for (int i = 0; i < KR; i++)
                    raw[i] =
                        r0 + i >= size
                            ? NAME(nothing)()
                            : NAME(fetch)(inside ? base[r0 + i] + (at & inside_mask[r0 + i]) : g->zero + first, part);
                NAME(weave)(c, raw);
#pragma GCC unroll 5
                for (int k = 0; k < live; k++)
                    if (k * stride + p < size)
#pragma GCC unroll 4
                        for (int v = 0; v < VECTORS; v++) {
                            const int i = ((k * stride + p) * groups + group) * VECTORS + v;
                            acc[k][v] =
                                NAME(dot)(acc[k][v], c[v], hold ? held[i] : NAME(load)(w + (ptrdiff_t)i * LANES));
                        }
            }
            if (p == 0 && q >= live - 1) { /* windows are odd: the last tap is one of p = 0 */
                const int64_t o = q - (live - 1);
                NAME(end)(g, o, first, part, acc[live - 1], finish);
                if (o == g->n - 1)
                    return;
            }
        }
#pragma GCC unroll 4
        for (int k = live - 1; k > 0; k--)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                acc[k][v] = acc[k - 1][v];
        NAME(begin)(acc[0], g, finish);
    }
}

DW_INLINE void NAME(block_window)(const rq_dwlast_row *g, int64_t first, PART part, const int32_t *w,
                                  const int32_t *finish, int size, int stride)
{
    if (size == 3 && stride == 1)
        NAME(slide)(g, first, part, w, finish, 3, 1);
    else if (size == 3)
        NAME(slide)(g, first, part, w, finish, 3, 2);
    else if (stride == 1)
        NAME(slide)(g, first, part, w, finish, 5, 1);
    else
        NAME(slide)(g, first, part, w, finish, 5, 2);
}
