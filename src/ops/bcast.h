/* ops/bcast.h — numpy broadcasting of two operands as a short loop over long rows.
 *
 * Neighbouring axes along which both operands keep their stride are merged, so [8,64,56,56] + [64,1,1] is 512 rows
 * of 3136 with one operand still, and equal shapes are one row. Rows are cut into items by size alone, never by the
 * number of threads. */
#ifndef RQ_OPS_BCAST_H
#define RQ_OPS_BCAST_H

#include "base/threads.h"
#include "requant/tensor.h"

typedef struct rq_bcast {
    int rank; /* merged axes, at least 1 */
    int64_t dim[RQ_MAX_RANK];
    int64_t sa[RQ_MAX_RANK], sb[RQ_MAX_RANK]; /* strides in elements; 0: repeated. The last ones are 0 or 1. */
    int64_t rows, row;                        /* rows in all; elements of each */
} rq_bcast;

/* The plan for y = f(a, b), where y has the broadcast shape. */
void rq_bcast_init(rq_bcast *p, const rq_shape *y, const rq_shape *a, const rq_shape *b);

/* n elements: y from index y, a from index a with stride sa (0 or 1), b alike. */
typedef void (*rq_bcast_fn)(void *arg, int64_t y, int64_t a, int sa, int64_t b, int sb, int64_t n);
/* Cover all elements once, from any thread. */
void rq_bcast_for(const rq_bcast *p, rq_threads *t, rq_bcast_fn fn, void *arg);

/* A loop over 0..n-1 in pieces of a fixed size: fn(arg, from, count). */
typedef void (*rq_bcast_span_fn)(void *arg, int64_t from, int64_t n);
void rq_bcast_spans(rq_threads *t, int64_t n, int64_t piece, rq_bcast_span_fn fn, void *arg);

enum { RQ_BCAST_PIECE = 16384 }; /* elements of cheap work that are worth handing to a thread */

#endif
