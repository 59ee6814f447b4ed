/* graph/own.h — the set of operators and observers a program brings along (requant/own.h): counted, held by every
 * graph it is attached to. What an entry is, the layers above know. */
#ifndef RQ_GRAPH_OWN_H
#define RQ_GRAPH_OWN_H

#include <stdatomic.h>

#include "base/mem.h"
#include "requant/own.h"

struct rq_own {
    atomic_int holders;
    rq_arena names;         /* strings of the entries */
    struct rq_own_row **op; /* [n_ops] each a block of its own (ops/own.c) */
    int n_ops, cap_ops;
    rq_own_observer **observer; /* [n_observers] each a block of its own */
    int n_observers, cap_observers;
};

rq_own *rq_own_ref(rq_own *o); /* NULL is fine */
/* The observer of that name, or NULL; o may be NULL. */
const rq_own_observer *rq_own_observer_of(const rq_own *o, const char *name);

#endif
