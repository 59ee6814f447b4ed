/* ops/int_taps.h — the sums of Conv and ConvTranspose over channels-last codes, as products of kernels/qgemm.h.
 *
 *   sum (x - zx)(w - zw) + b  =  sum x w  +  [b - zx sum w + K zx zw]  -  zw sum x
 *
 * The bracket is one constant per column; outside of the image stand zx, so that the identity is true at borders too. The last term is there only
 * for weights with zero points. x is u8 and w s8 by flipping top bits, which shifts their zero points by 128.
 *
 * A row is an output pixel. Its pieces are what its taps see: the channels of one pixel, or of `span` neighbours where these lie together and
 * inside. Columns are output channels; where several taps of a ConvTranspose look at the same pixels they stand beside each other (`members`). Each
 * group is a product of its own on a slice of the channels. Small groups are joined: weights between different groups are zw, which adds nothing. */
#ifndef RQ_OPS_INT_TAPS_H
#define RQ_OPS_INT_TAPS_H

#include "ops/op.h"

typedef struct rq_int_taps {
    /* ---- by the caller ---- */
    int64_t in[3], out[3],
        stride[3]; /* output o sees, with piece k, input o * stride + at[k] and the next span - 1 along the last axis */
    int64_t pieces, span, members;
    int64_t (*at)[3];               /* [pieces] */
    int64_t *tap;                   /* [members][pieces] which tap of the kernel it is; the first of span */
    int64_t group, per_in, per_out; /* channels of one group */
    int64_t in_step, out_step,
        group_step; /* in the weights, from one input channel, output channel, group to the next */
    /* ---- by init ---- */
    int64_t joined, products; /* groups in a product; joined * products = group */
    int64_t columns;          /* of a product: [members][groups joined][per_out] */
    int64_t run, depth; /* bytes of a piece, filled up with weights of 0 where the caller lets it; taps of a column */
    uint8_t *zeros;     /* zx, as many as a pixel has channels of all products, and what fills up */
    size_t part_bytes, w_bytes; /* of packed weights: of a full part, of a product */
    const void *w;              /* packed: [products][parts], then sum */
    void *own;                  /* where w is not shared */
    uint8_t *
        plain; /* room for the weights of a product as [columns][pieces][run]; NULL: they stand so in the file, or are packed for good */
    bool any_zero; /* a zw is not 0; true until it is known */
    /* [products][columns] */
    const int32_t *sum; /* sum w */
    double *unit;       /* what a sum counts in, sx sw */
    int32_t *add;       /* the bracket */
    int32_t *zero;      /* zw */
    float *m, *bias;    /* bias: in floats, for the definition */
    bool scaled;        /* reals are sums times m, to which `behind` [channels] (or NULL) is added */
    const float *behind;
} rq_int_taps;

/* Makes room, packs weights that are there and folds. `at` and `tap` are the struct's from now on, also when it fails. name: what tells these taps
 * from others of the same weight (short). fill: pieces may be read up to a multiple of a small step beyond their end. RQ_NO_MEMORY. */
rq_status rq_int_taps_init(rq_int_taps *t, const rq_op_args *a, const char *name, bool fill);
void rq_int_taps_release(rq_int_taps *t);
/* Weights that were not there when it was made came, or changed. */
void rq_int_taps_pack(rq_int_taps *t, const rq_op_args *a);
/* Parameters or the bias came, or changed. */
void rq_int_taps_fold(rq_int_taps *t, const rq_op_args *a);
/* See rq_int_conv_scaled. Of taps with one member. */
void rq_int_taps_scaled(rq_int_taps *t, const float *bias);
/* Bytes that run needs for a batch. */
size_t rq_int_taps_scratch(const rq_int_taps *t, int64_t batch);
/* x [batch][in][x_ld] u8, of which the first group * per_in count, to y [batch][out][ld], elements as output 0 has them; product p begins at column p * columns. posts: with those of a. */
void rq_int_taps_run(const rq_int_taps *t, const rq_op_args *a, const uint8_t *x, int64_t x_ld, void *y, int64_t ld,
                     bool posts, void *scratch);

/* ---- int_taps_find.c ---- */

/* What a product asks it of: pieces first .. first + pieces - 1, from the first channel on that it sees. */
typedef struct rq_int_taps_place {
    const rq_int_taps *t;
    const uint8_t *x;
    int64_t x_ld; /* from a pixel to the next */
    int64_t first, pieces;
} rq_int_taps_place;

/* rq_qgemm_find of rq_int_taps_place. A piece that is outside begins at zeros. */
void rq_int_taps_find(const void *place, const uint8_t **to, int ld, int64_t i, int n);

#endif
