/* run/memory.h — places in one block for things that live from one time to another. */
#ifndef RQ_RUN_MEMORY_H
#define RQ_RUN_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "requant/status.h"

typedef struct rq_placed {
    int32_t id; /* the caller's */
    size_t bytes, offset;
    int def, last; /* in use from def to last, both included */
} rq_placed;

/* Find an offset for each; afterwards items are in another order, bytes rounded up to 64. *block: bytes of all. RQ_NO_MEMORY. */
rq_status rq_memory_place(rq_placed *items, int n, size_t *block);

#endif
