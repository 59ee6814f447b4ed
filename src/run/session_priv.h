/* run/session_priv.h — a session: a share of the model, raised and bound to rows, and a program over it. */
#ifndef RQ_RUN_SESSION_PRIV_H
#define RQ_RUN_SESSION_PRIV_H

#include <stdatomic.h>

#include "run/batch.h"
#include "run/feeds.h"

/* What sessions of one model share. Nobody writes to it. */
typedef struct rq_session_model {
    atomic_int refs;
    rq_graph *g;
} rq_session_model;

struct rq_session {
    rq_session_cfg cfg;
    rq_session_model *model;
    const rq_graph *g; /* of the model */
    rq_kernels k;
    rq_threads *threads;
    rq_program *program;
    rq_batch batch;
    bool guessed;        /* the plan is for one sample, which nobody asked for yet */
    rq_tensor *feeds;    /* [n_inputs] of this run */
    rq_feed_name *names; /* [n_inputs] of the runs before */
    rq_tensor *bound;    /* [n_inputs + n_outputs] views of the caller's; dtype NONE: nothing is bound */
    rq_layer_info *layers;
    int n_layers, cap_layers;
};

/* Plan for the sizes that the model states, for one sample where it leaves only their number open: weights are packed whatever the batch will be. What
 * cannot be planned is told by the first run. */
rq_status rq_session_plan_ahead(rq_session *s);

#endif
