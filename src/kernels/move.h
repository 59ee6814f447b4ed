/* kernels/move.h — copying elements between two strided layouts, whatever their type. */
#ifndef RQ_KERNELS_MOVE_H
#define RQ_KERNELS_MOVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"

enum { RQ_MOVE_RANK = 16 };

/* dst[i . ds] = src[i . ss] for every index i below dim[rank]. Strides count elements of `elem` bytes and may be
 * negative or, in src, 0 (repeat). rank <= RQ_MOVE_RANK; a size of 0 copies nothing. The two must not overlap. */
void rq_move_nd(void *dst, const void *src, size_t elem, int rank, const int64_t *dim, const int64_t *ds,
                const int64_t *ss);

/* The same on several threads where it is worth it; t may be NULL. */
void rq_move_nd_on(rq_threads *t, void *dst, const void *src, size_t elem, int rank, const int64_t *dim,
                   const int64_t *ds, const int64_t *ss);

/* dst[0..n) = the element at `value`, elem bytes each. */
void rq_move_fill(void *dst, const void *value, size_t elem, int64_t n);

#endif
