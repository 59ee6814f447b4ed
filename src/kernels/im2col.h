/* kernels/im2col.h — the pixels of a convolution as columns of a matrix that is never written out.
 *
 * The input of one image is copied once into a padded buffer: borders filled in, s8 turned into u8 (top bit flipped),
 * and, where the stride along the rows is s > 1, columns sorted by their remainder modulo s. After that, what one tap
 * of the kernel sees along one output row is a run of consecutive bytes, whatever the stride, padding and dilation,
 * and every tap is an offset: tap + row + column. A convolution of single pixels (kernel, stride 1, no padding) needs
 * no copy: `direct`. */
#ifndef RQ_KERNELS_IM2COL_H
#define RQ_KERNELS_IM2COL_H

#include <stdbool.h>

#include "base/threads.h"
#include "kernels/gemm.h"

typedef struct rq_im2col {
    /* set by the caller: sizes of three spatial axes (leading ones 1 where there are fewer) */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3]; /* pad: before the first element */
    int64_t channels;
    /* by rq_im2col_init */
    bool direct;
    int64_t rows[2], step[2]; /* padded sizes of the outer axes; padded rows from one output row to the next */
    int64_t phases, width;    /* remainders kept, columns of each */
    int64_t row_stride, channel_stride;
} rq_im2col;

void rq_im2col_init(rq_im2col *g);
/* Bytes of the padded buffer of all channels; 0 when direct. */
size_t rq_im2col_bytes(const rq_im2col *g);
/* Offset of tap (c, k0, k1, k2) from the first output position. */
int64_t rq_im2col_tap(const rq_im2col *g, int64_t c, const int64_t k[3]);
/* Offset of output row (o0, o1). */
static inline int64_t rq_im2col_row(const rq_im2col *g, int64_t o0, int64_t o1)
{
    return (o0 * g->step[0] * g->rows[1] + o1 * g->step[1]) * g->row_stride;
}
/* Copy one image [channels][in] to dst; `fill` is the border as it stands in dst (after flipping). */
void rq_im2col_pad(const rq_im2col *g, uint8_t *dst, const uint8_t *src, uint8_t flip, uint8_t fill, rq_threads *t);
/* Pack columns first..first+n-1 (output positions) of the matrix whose row k is tap[k], k < depth, from `base`: the
 * padded buffer, or, when direct, the input itself, then with its flip. n is at most RQ_GEMM_MAX_COLUMNS. */
void rq_im2col_panel(const rq_im2col *g, const rq_gemm_isa *isa, uint8_t *panel, const uint8_t *base,
                     const int64_t *tap, int64_t depth, int64_t first, int64_t n, uint8_t flip);

#endif
