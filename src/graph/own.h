/* graph/own.h — the set of operators, observers, calibrators and fake-quantizers a program brings along (requant/own.h): counted, held by every
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
    /* Each a block of its own, whose first member is its name. */
    rq_own_observer **observer; /* [n_observers] */
    struct rq_own_calibrator **calibrator;
    struct rq_own_fake_quantizer **fake_quantizer;
    int n_observers, cap_observers, n_calibrators, cap_calibrators, n_fake_quantizers, cap_fake_quantizers;
};

rq_own *rq_own_ref(rq_own *o); /* NULL is fine */
/* The observer of that name, or the calibrator as one, or NULL; o may be NULL. */
const rq_own_observer *rq_own_observer_of(const rq_own *o, const char *name);

#endif
