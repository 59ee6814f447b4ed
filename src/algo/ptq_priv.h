/* algo/ptq_priv.h — the state of a quantization, shared by ptq.c and ptq_trial.c. */
#ifndef RQ_ALGO_PTQ_PRIV_H
#define RQ_ALGO_PTQ_PRIV_H

#include "algo/annotate.h"
#include "quant/observer.h"
#include "requant/session.h"

typedef struct rq_ptq_tap {
    rq_observer *observer;
    const rq_kernels *k;
} rq_ptq_tap;

typedef struct rq_ptq_state {
    const rq_ptq_cfg *cfg;
    rq_dataset *data;
    rq_notes *notes;
    rq_kernels k;
    rq_graph *g;             /* a folded float copy; ids stay while the state lives */
    int n_values;            /* of g */
    rq_observer **observers; /* [n_values] NULL: not watched */
    rq_ptq_tap *taps;        /* [n_values] */
    rq_placement *placement; /* in force */
    char method_text[40];
} rq_ptq_state;

/* Run calibration samples (at most `most`; 0: all) through a session of g or of an annotated copy, with progress. fn (may
 * be NULL) sees the outputs of each batch. RQ_CANCELLED, RQ_BAD_DATA. */
typedef rq_status (*rq_ptq_outputs_fn)(void *arg, const rq_tensor *out, int n_out, rq_err *err);
rq_status rq_ptq_each_batch(rq_ptq_state *q, rq_session *session, const char *phase, int64_t most, rq_ptq_outputs_fn fn,
                            void *arg, rq_err *err);

/* A copy of g, annotated by the placement in force; yours. */
rq_status rq_ptq_annotated(rq_ptq_state *q, rq_graph **out, rq_notes *notes, rq_err *err);

#endif
