/* quant/cells.h — a tensor as the cells that keep a number of their own: one for all of it, one per index of an axis, or of several. A
 * cell is a view of what is reduced; walks go over cells and, inside large ones, over pieces of a fixed size, so that no result depends
 * on the number of threads. */
#ifndef RQ_QUANT_CELLS_H
#define RQ_QUANT_CELLS_H

#include "base/threads.h"
#include "kernels/kernels.h"
#include "quant/histogram.h"
#include "requant/exec.h"
#include "requant/strided.h"

enum {
    RQ_CELLS_TILE = 2048,     /* numbers that are read at a time */
    RQ_CELLS_PIECE = 1 << 18, /* numbers of one item of work */
    RQ_CELLS_LANES = 16,      /* counts that are kept beside each other */
};

typedef struct rq_cells {
    rq_strided x;
    int kept[RQ_MAX_RANK], n_kept; /* axes, rising */
    rq_shape rest;                 /* of a cell: the other axes, in order */
    int64_t rest_stride[RQ_MAX_RANK];
    int64_t n, each;  /* cells; elements of one */
    int64_t per_cell; /* pieces that a cell is cut into */
    rq_shape keep;    /* that of x with 1 for the axes that are reduced; rank 0 where n is 1 */
} rq_cells;

/* By n_axes kept axes (0: none), negative ones from the last. RQ_BAD_SHAPE: x has no such axis; RQ_BAD_ARG: one twice. */
rq_status rq_cells_init(rq_cells *c, const rq_strided *x, const int *axes, int n_axes, rq_err *err);
/* Cell i. */
rq_strided rq_cells_at(const rq_cells *c, int64_t i);

/* What a walk found: of finite elements the extremes and the smallest magnitude; lo > hi: there are none. */
typedef struct rq_extremes {
    float lo, hi, least_abs;
    uint64_t finite, nan, infinite, zeros;
} rq_extremes;
/* out[n] of the cells. `fine`: zeros and least_abs too, with skip_zeros of what is not 0. RQ_NO_MEMORY. */
rq_status rq_cells_extremes(const rq_cells *c, rq_exec *e, bool fine, bool skip_zeros, rq_extremes *out);

/* Count |x| (or x) of all cells, whose finite elements lie in lo..hi, into h, which has room for them; not yet committed. Never
 * fails: without memory for more it counts with one thread. */
void rq_cells_tally(const rq_cells *c, const rq_kernels *k, rq_threads *pool, rq_histogram *h, float lo, float hi,
                    bool skip_zeros);

#endif
