/* kernels/winograd.h — convolutions of codes by windows of 3 x 3 with a quarter of the multiplications, and not a bit of difference.
 *
 * Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, section 4.1): 4 x 4 outputs Y of a
 * tile of 6 x 6 inputs d and a window g are  Y = A' [ (G g G') . (B' d B) ] A,  36 products where the definition has 144. B' and A' hold integers.
 * G holds quarters, sixths and 24ths; here its rows are times (24, 6, 6, 24, 24, 6), so that they are integers, too, and rows of A' are times
 * (24, 12, 6, 6) in exchange, which leaves them the simplest. What comes out is 9 * 2^n * Y with n = 2 .. 6, and everything that is
 * added up is added modulo 2^32: multiplied by the inverse of 9 it is 2^n * Y modulo 2^32, and a shift leaves Y, exactly, if |Y| < 2^25. That is
 * what rq_winograd_fits proves of weights, for all codes there are.
 *
 *   B' = 4  0 -5  0  1  0      G = 6  0  0    24 A' = 1  4  4  1  1  0     (its rows without their factors 1, 2, 4, 4)
 *        0 -4 -4  1  1  0         -1 -1 -1            0  2 -2  1 -1  0
 *        0  4 -4 -1  1  0         -1  1 -1            0  1  1  1  1  0
 *        0 -2 -1  2  1  0          1  2  4            0  1 -1  2 -2  1
 *        0  2 -1 -2  1  0          1 -2  4
 *        0  4  0 -5  0  1          0  0  6
 *
 * Of u8 codes B' d B is at most 68 * 255, of s8 weights G g G' at most 49 * 128 in size: both are s16, and two of their products are an s32. So the
 * multiplications are those of instructions that multiply s16, half as fast as those of bytes where there are such. */
#ifndef RQ_KERNELS_WINOGRAD_H
#define RQ_KERNELS_WINOGRAD_H

#include "kernels/qgemm.h"

enum {
    RQ_WINOGRAD_OUT = 4,   /* outputs of a tile along an axis */
    RQ_WINOGRAD_IN = 6,    /* inputs */
    RQ_WINOGRAD_SPOTS = 36 /* products of a tile */
};

/* One instruction set. */
typedef struct rq_winograd_isa {
    const char *name; /* of its layout of weights, for what is kept by name */
    int max_rows;     /* tiles of one product */
    int lanes;        /* columns of a vector of sums */
    int max_vectors;  /* of a panel */
    int gain;         /* how many multiplications of the direct product one of these takes, in quarters */
    /* v[s * spot + c] = spot s of B' d B of channel c. pixel[r * 6 + s]: the codes of pixel (r, s) of the tile. */
    void (*in)(int16_t *v, size_t spot, const uint8_t *const *pixel, int64_t channels);
    /* c[q * ldc + j] = sum over k of x[q * ldx + k] * w[k / 2][j][k % 2], k < 2 * steps, j < vectors * lanes. */
    void (*tile)(int32_t *c, size_t ldc, const int16_t *x, size_t ldx, size_t steps, const int16_t *w, int rows,
                 int vectors);
    /* Codes of the sums of a tile, which are those of spot s at c + s * spot. Output row r < height begins at o->y + r * line, its `width` pixels
     * lie o->ldy apart; init[vectors * lanes] is added; o->row_add is not there. */
    void (*out)(const rq_qgemm_codes *o, size_t line, int height, int width, const int32_t *c, size_t spot,
                const int32_t *init, int vectors);
} rq_winograd_isa;

/* Weights of a layer, [columns][channels][3][3], bytes that flip makes s8. */
typedef struct rq_winograd_weights {
    const uint8_t *at;
    int64_t channels, columns;
    uint8_t flip;
} rq_winograd_weights;

/* Is this faster than the product, for an image of such outputs? By counting: see there. */
bool rq_winograd_pays(const rq_winograd_isa *g, int64_t channels, int64_t columns, int64_t rows, int64_t width);
/* Is each sum of products of any codes by these weights what the shift leaves? */
bool rq_winograd_fits(const rq_winograd_weights *w);
size_t rq_winograd_w_bytes(const rq_winograd_isa *g, int64_t channels, int64_t columns);
/* To dst (64-byte aligned); sum[columns] gets the sum of each column. */
void rq_winograd_pack(rq_threads *t, const rq_winograd_isa *g, void *dst, const rq_winograd_weights *w, int32_t *sum);

/* A convolution of channels-last images, stride 1. */
typedef struct rq_winograd {
    const struct rq_kernels *k;
    int64_t batch, channels, columns;
    int64_t in[2], out[2], pad[2]; /* rows and columns of pixels; output o sees inputs o - pad .. o - pad + 2 */
    const uint8_t *x;              /* [batch][in][x_ld], of which the first `channels` count */
    int64_t x_ld;                  /* 0: as many as there are channels */
    const uint8_t *zeros;          /* [channels], a pixel outside */
    const void *w;                 /* packed */
    const int32_t *add;            /* [columns] */
    const float *m;                /* [columns], |m| < 1 */
    int32_t zp, lo, hi;            /* of codes; hi is 127 or 255 (rq_qgemm_codes) */
    uint8_t *y;                    /* [batch][out][ld] */
    int64_t ld;
    void *room; /* rq_winograd_room bytes, 64-byte aligned */
} rq_winograd;

size_t rq_winograd_room(const rq_winograd *g);
void rq_winograd_run(const rq_winograd *g, rq_threads *t);

#endif
