/* nn/eager.h — the inside of a network prepared in eager mode, for the file that converts it. */
#ifndef RQ_NN_EAGER_H
#define RQ_NN_EAGER_H

#include "graph/graph.h"
#include "requant/eager.h"

struct rq_eager {
    rq_graph *g;
    rq_fake_quantizer **fakes; /* [n] */
    const char **names;        /* [n] */
    int n, cap, cap_names;
    rq_arena text;
};

/* Slot of a FakeQuantize node; -1: it is none. */
int rq_eager_slot(const rq_node *n);
/* Let users of `from` use `to`, and `to` have the name that an output of the graph must keep. */
rq_status rq_eager_put_behind(rq_graph *g, rq_id from, rq_id to, rq_id except, rq_err *err);
/* The only node that reads value v, RQ_NONE: none, or several. */
rq_id rq_eager_reader(const rq_graph *g, rq_id v);

#endif
