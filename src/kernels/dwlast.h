/* kernels/dwlast.h — depthwise products over channels-last codes: each output is a sum over the taps of its own channel.
 *
 *   s[o][c] = sum over taps t of w[t][c] * x[o, t][c]      x u8; w s8, or s16 up to 255 in size; sums wrap modulo 2^32
 *
 * Vectors run over channels. A dword takes as many taps as one instruction multiplies (four of s8, two of s16), so the taps of a channel must stand
 * side by side: two rounds of byte unpacking do that for a whole block, in an order of channels that packing the results undoes. Weights, addends
 * and multipliers are packed in that order once. A window slides along a row: a column of its taps is woven once and serves all outputs it belongs
 * to, whose sums live in registers until they are rounded to codes. */
#ifndef RQ_KERNELS_DWLAST_H
#define RQ_KERNELS_DWLAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One run of output pixels of one row. */
typedef struct rq_dwlast_row {
    int64_t channels, n; /* of a pixel; output pixels */
    const void *w;       /* of rq_dwlast_pack */
    const void *finish;  /* of rq_dwlast_pack_finish; y only */
    /* taps(): [n][height], the pixel of each tap. window(): [height] the pixel of column `first` of each row of taps; NULL: the row is outside */
    const uint8_t *const *x;
    int height;          /* rows of taps: of the window, or all taps there are */
    const uint8_t *zero; /* window(): [channels], a pixel outside */
    int64_t pitch;       /* window(): bytes between columns; output o has columns o * stride ... */
    int64_t first, last; /* window(): columns first <= c < last are inside, the others are `zero` */
    /* y[o * ld + c] = clamp(rne(f32(s + add[c]) * m[c]) + zp) within lo..hi, which is within 0..255; NaN gives lo */
    uint8_t *y;
    int64_t ld;
    int32_t zp, lo, hi;
    int32_t *sums; /* where y is NULL: sums[o * ld + c] = s */
} rq_dwlast_row;

/* One instruction set, one type of weights. */
typedef struct rq_dwlast_isa {
    const char *name; /* of its layout, for what is kept by name */
    int kr;           /* taps in a dword: 4 of s8, 2 of s16 */
    int channels;     /* of a block */
    int least;        /* a block of so many, where no more are left */
    int vectors;      /* of a block of either size */
    bool overlaps;    /* the last block ends with the last channel, where there are enough */
    void (*taps)(const rq_dwlast_row *g);
    void (*window)(const rq_dwlast_row *g, int size, int stride); /* size 3 or 5, squares; stride 1 or 2 */
} rq_dwlast_isa;

/* Does a window of height x width taps with this stride have a form of its own? Others are given tap by tap. */
static inline bool rq_dwlast_is_window(int64_t height, int64_t width, int64_t stride)
{
    return height == width && (height == 3 || height == 5) && (stride == 1 || stride == 2);
}

/* The block at channel `at`: how many channels it holds (some may be past the last), and its first one. */
static inline int rq_dwlast_block(const rq_dwlast_isa *g, int64_t channels, int64_t at, int64_t *first)
{
    const int size = channels - at <= g->least ? g->least : g->channels;
    *first = g->overlaps && channels >= size && at + size > channels ? channels - size : at;
    return size;
}

/* The dword of channel c in a block. */
static inline int rq_dwlast_at(int size, int vectors, int c)
{
    const int lane = 4 * vectors;
    return c % lane / 4 * (size / vectors) + c / lane * 4 + c % 4;
}

/* Weights w[c * height * width + r * width + s], |w| <= 255, or within s8 where kr is 4. 64-byte aligned. For taps() width is 1. */
size_t rq_dwlast_bytes(const rq_dwlast_isa *g, int64_t channels, int height, int width);
void rq_dwlast_pack(const rq_dwlast_isa *g, void *dst, const int16_t *w, int64_t channels, int height, int width);
/* The finishing's addends and multipliers, [channels] each. */
size_t rq_dwlast_finish_bytes(const rq_dwlast_isa *g, int64_t channels);
void rq_dwlast_pack_finish(const rq_dwlast_isa *g, void *dst, const int32_t *add, const float *m, int64_t channels);

#endif
