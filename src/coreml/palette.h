/* coreml/palette.h — weights as indices into small tables (palettes): choose the tables, then say the index of any element.
 *
 * The weight is [outer][channels][inner]; `group` channels in a row share a table, `cluster` channels in a row are one entry of it. Tables are made
 * at once and are small; indices are computed when they are asked for, so that no copy of the weight exists. */
#ifndef RQ_COREML_PALETTE_H
#define RQ_COREML_PALETTE_H

#include "requant/coreml_optimize.h"
#include "requant/tensor.h"

typedef struct rq_palette {
    /* in; read until the last call */
    const void *data;
    rq_dtype dtype;    /* F16, F32; S8, U8: codes of a quantized weight, whose tables are cut to integers */
    const void *scale; /* [outer][inner] of dtype, or NULL: elements are divided by it (rounded to dtype) first */
    int64_t outer, channels, inner;
    int64_t group; /* 1 .. channels; 0: all */
    int64_t cluster;
    rq_coreml_palette mode;
    bool no_three; /* tables of 3 bits cannot be had: UNIQUE takes 4 */
    int nbits;     /* 1, 2, 3, 4, 6 or 8; UNIQUE: set by rq_palette_make, the same for all groups */
    /* out */
    int64_t n_groups;
    float *table; /* [n_groups][1 << nbits][cluster], values of dtype; entries that nothing refers to are 0, and last */
    float *bound; /* [n_groups][1 << nbits], cluster 1: largest value of each entry, those without any infinite */
    int *used;    /* [n_groups] entries that count */
    float *lo, *hi; /* [n_groups] of UNIFORM */
} rq_palette;

enum { RQ_PALETTE_WHY = 240 };

/* Choose the tables. Why not, as a sentence in why, where the weight cannot be expressed (then p has none; "" where it can).
 *
 *   UNIFORM  table[i] = lo + i (hi - lo) / (2^nbits - 1); index = rne((v - lo) / (hi - lo) (2^nbits - 1)), each operation in dtype
 *   UNIQUE   the distinct values, ascending; 256 at most
 *   KMEANS   least sum of squared differences: the optimum for single channels (palette_scalar.c), Lloyd's algorithm from seeded k-means++
 *            for clusters (palette_vector.c)
 *
 * RQ_BAD_ARG: nbits, or UNIFORM of clusters. RQ_NO_MEMORY. Release after any result. */
rq_status rq_palette_make(rq_palette *p, char why[RQ_PALETTE_WHY], rq_err *err);
void rq_palette_release(rq_palette *p);

/* dst[0..n): indices `from` and on of the tensor of indices, [outer][channels / cluster][inner]. Any thread. */
void rq_palette_indices(const rq_palette *p, uint8_t *dst, int64_t from, int64_t n);

/* ---- between the files of palettes ---- */

/* dst[0..n): elements `from` and on of group g, [outer][group][inner]. */
void rq_palette_values(const rq_palette *p, int64_t g, float *dst, int64_t from, int64_t n);
/* dst[n][cluster]: vectors `from` and on of group g, [outer][group / cluster][inner]. */
void rq_palette_vectors(const rq_palette *p, int64_t g, float *dst, int64_t from, int64_t n);

/* Tables of group g by k-means; palette_scalar.c and palette_vector.c. RQ_NO_MEMORY (no sentence). */
rq_status rq_palette_scalar(rq_palette *p, int64_t g);
rq_status rq_palette_vector(rq_palette *p, int64_t g);

#endif
