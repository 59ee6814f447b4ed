/* run/batch.h — a batch in parts. Where a graph treats samples one by one (ops/samples.h), a session plans for as many of them as its caches hold and
 * runs the plan over one part of the batch after the other: inputs and outputs are slices of the whole, axis 0 being outermost. The block is that of a
 * part, whatever the batch. Taps see whole tensors, so with them a batch is run as one. */
#ifndef RQ_RUN_BATCH_H
#define RQ_RUN_BATCH_H

#include "run/program.h"

typedef struct rq_batch {
    /* what is known of the model: */
    rq_tensor *seen;     /* [n_inputs] for these types and sizes, but for axis 0; NULL data */
    bool settled;        /* seen is set */
    bool apart;          /* samples can be run apart */
    size_t one;          /* bytes of the block for one of them */
    int64_t n, part;     /* samples of the last plan, and how many of them at once; n 0: it is for the whole */
    rq_program *rest;    /* for the last part, where it is shorter; NULL: there was none yet */
    rq_tensor *in, *out; /* [n_inputs], [n_outputs] slices */
} rq_batch;

/* RQ_NO_MEMORY. */
rq_status rq_batch_init(rq_batch *b, const rq_graph *g);
void rq_batch_release(rq_batch *b);
/* As rq_program_plan and rq_program_run with p, for all samples of `in`; out NULL: they go to p->bound. */
rq_status rq_batch_plan(rq_batch *b, rq_program *p, const rq_tensor *in, rq_err *err);
rq_status rq_batch_run(rq_batch *b, rq_program *p, const rq_tensor *in, rq_tensor *out, rq_err *err);
/* Does the last plan end with a shorter part, run by b->rest? */
static inline bool rq_batch_has_rest(const rq_batch *b)
{
    return b->n && b->n % b->part;
}

#endif
