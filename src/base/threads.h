/* base/threads.h — the one way to use more than one core: a loop split over a pool of threads.
 *
 * A pool belongs to a session. Between the loops of a run its threads look for the next one for some tens of microseconds; then they
 * sleep in the kernel, and nothing is left spinning. */
#ifndef RQ_BASE_THREADS_H
#define RQ_BASE_THREADS_H

#include <stdint.h>

#include "requant/status.h"

typedef struct rq_threads rq_threads;

/* A pool of n threads, the caller's among them (n = 0: one per core; above 512: 512). RQ_NO_MEMORY;
 * RQ_BAD_ARG: n is negative. On error *out is untouched. */
rq_status rq_threads_create(rq_threads **out, int n);
void rq_threads_destroy(rq_threads *t);

/* How many threads; 1 for NULL. */
int rq_threads_count(const rq_threads *t);

/* Call fn(arg, i) once for every i in 0..n-1, in any order, from any thread of the pool, and return
 * when all are done. t may be NULL: then in order, here. fn must give the same result whatever the
 * order, and must not call rq_threads_for on the same pool; how work is cut into items must not depend on
 * rq_threads_count, so that no result does. */
typedef void (*rq_threads_fn)(void *arg, int64_t i);
void rq_threads_for(rq_threads *t, int64_t n, rq_threads_fn fn, void *arg);

#endif
