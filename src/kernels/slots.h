/* kernels/slots.h — scratch areas shared out among the pieces of a loop over threads: as many as can run at once. */
#ifndef RQ_KERNELS_SLOTS_H
#define RQ_KERNELS_SLOTS_H

#include <stdatomic.h>
#include <stdint.h>

enum { RQ_SLOTS_MAX = 64 };

typedef struct rq_slots {
    atomic_uint_least64_t busy; /* a bit per slot; zero-initialize */
    int n;                      /* 1..RQ_SLOTS_MAX */
} rq_slots;

/* A free slot. At most n pieces are under way when the pool has n threads, so one is free; with more threads than slots
 * this waits for one. */
static inline int rq_slots_take(rq_slots *s)
{
    for (;;)
        for (int i = 0; i < s->n; i++) {
            const uint64_t bit = UINT64_C(1) << i;
            if (!(atomic_fetch_or(&s->busy, bit) & bit))
                return i;
        }
}

static inline void rq_slots_give(rq_slots *s, int slot)
{
    atomic_fetch_and(&s->busy, ~(UINT64_C(1) << slot));
}

#endif
