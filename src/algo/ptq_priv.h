/* algo/ptq_priv.h — the state of a quantization, shared by ptq.c and the files beside it. */
#ifndef RQ_ALGO_PTQ_PRIV_H
#define RQ_ALGO_PTQ_PRIV_H

#include "algo/annotate.h"
#include "algo/ends.h"
#include "quant/observer_row.h"
#include "requant/ranges.h"
#include "requant/session.h"

typedef struct rq_ptq_tap {
    rq_observer *observer;
    rq_exec *exec;
} rq_ptq_tap;

typedef struct rq_ptq_state {
    const rq_ptq_cfg *cfg;
    rq_dataset *data;
    rq_notes *notes;
    rq_kernels k;
    rq_exec *exec;           /* borrowed: where observers work */
    rq_graph *g;             /* a folded float copy; ids stay while the state lives */
    int n_values;            /* of g */
    bool *equalized;         /* [n_values] holds other numbers than in the model it was made from (equalize.h) */
    rq_observer **observers; /* [n_values] NULL: not watched */
    rq_ptq_tap *taps;        /* [n_values] */
    rq_placement *placement; /* in force */
    const char **ban;        /* [n_values] why a value must stay in float, or NULL; strings of g */
    rq_tensor *reference;    /* [n_reference][outputs] of the float model on the first samples */
    int n_reference, cap_reference;
    int64_t reference_rows; /* samples that these are */
    size_t reference_bytes;
    int64_t batch_rows; /* samples in the batch that runs */
    int64_t step;       /* samples at a time; 0: the dataset's batch */
    bool whole_batches; /* someone watches whose range is defined by the batches it sees */
    char method_text[40];
} rq_ptq_state;

/* ---- ptq_watch.c ---- */

/* Run calibration samples (at most `most`; 0: all) through a session of g or of an annotated copy, with progress. fn (may
 * be NULL) sees the outputs of each batch. RQ_CANCELLED, RQ_BAD_DATA. */
typedef rq_status (*rq_ptq_outputs_fn)(void *arg, const rq_tensor *out, int n_out, rq_err *err);
rq_status rq_ptq_each_batch(rq_ptq_state *q, rq_session *session, const char *phase, int64_t most, rq_ptq_outputs_fn fn,
                            void *arg, rq_err *err);

/* The value whose observer speaks for v: operators that pass their input on show nothing new. (They may show less: a
 * MaxPool, a Slice. compat looks at each value itself.) */
rq_id rq_ptq_source(const rq_ptq_state *q, rq_id v);

/* Give values of g that have no name one: those that are watched need it. */
rq_status rq_ptq_name_values(rq_graph *g, rq_err *err);
/* Watch a value with the observer that its settings ask for, unless it is watched already; then run the samples by. */
rq_status rq_ptq_observe(rq_ptq_state *q, rq_id value, const rq_settings *s, rq_err *err);
rq_status rq_ptq_watch(rq_ptq_state *q, rq_err *err);
/* An observer for every group of the placement whose range must be seen. */
rq_status rq_ptq_observe_groups(rq_ptq_state *q, rq_err *err);
/* Run the first samples through the float model and keep what comes out: q->reference. */
rq_status rq_ptq_watch_outputs(rq_ptq_state *q, rq_err *err);

/* ---- ptq.c ---- */

/* How a range was chosen, in words; valid until the next call. */
const char *rq_ptq_method(rq_ptq_state *q, const rq_settings *s);

/* What cfg->ranges says of a value of q->g; NULL: nothing. */
const rq_range_info *rq_ptq_given(const rq_ptq_state *q, rq_id value);

/* Fold a copy of g and make room. */
rq_status rq_ptq_prepare(rq_ptq_state *q, const rq_graph *g, rq_err *err);
/* Place with these bans; the ends as the caller wants them. */
rq_status rq_ptq_place(rq_ptq_state *q, rq_placement **out, const rq_place_ban *ban, rq_err *err);
/* Place, and watch the samples go by. */
rq_status rq_ptq_calibrate(rq_ptq_state *q, rq_err *err);
void rq_ptq_release(rq_ptq_state *q);

/* What the caller's lists leave out, with bans of values (or NULL). */
rq_place_ban rq_ptq_ban(const rq_ptq_state *q, const char *const *value);

/* A copy of g, annotated by the placement in force; yours. */
rq_status rq_ptq_annotated(rq_ptq_state *q, rq_graph **out, rq_notes *notes, rq_err *err);

/* What was seen of a value, and the range chosen for a group; NULL and RQ_NOT_FOUND when it was not watched. */
const rq_histogram *rq_ptq_histogram(const rq_ptq_state *q, rq_id value);
rq_status rq_ptq_group_range(const rq_ptq_state *q, const rq_place_group *g, rq_range *r);

/* ---- calibrate.c: are there ranges for every group that needs one? RQ_BAD_DATA names the first that lacks one. ---- */
rq_status rq_ptq_need_ranges(const rq_ptq_state *q, rq_err *err);

/* ---- ptq_choose.c: modes that switch nodes ---- */

typedef struct rq_ptq_choice {
    const rq_id *nodes; /* [n] of q->g that can be switched */
    int n;
    /* A graph in which those nodes i are quantized where on[i]; yours. */
    rq_status (*make)(void *arg, const bool *on, rq_graph **out, rq_err *err);
    void *arg;
    const char *otherwise; /* what becomes of one that is off: "stays in float" */
} rq_ptq_choice;
/* *made: with all on, or, where samples (q->data) show noise, without those that harm most. (*on)[n] says which; freed with
 * rq_mem_free, on error too, when not NULL; *made is yours on error too. */
rq_status rq_ptq_choose(rq_ptq_state *q, const rq_ptq_choice *c, rq_graph **made, bool **on, rq_err *err);

/* ---- weight_only.c ---- */
struct rq_weight;
/* *made: q->g with weights as codes; yours, on error too. */
rq_status rq_ptq_weight_only(rq_ptq_state *q, rq_graph **made, rq_err *err);
/* ---- weight_sub.c: weights of the bodies of If, Loop and Scan, as asked for globally or by the recipe; *n of them. On error g is half
 * done. ---- */
rq_status rq_weight_bodies(rq_graph *g, const rq_ptq_cfg *cfg, int *n, rq_err *err);
/* ---- weight_nbits.c: node, whose weight w was annotated, becomes MatMulNBits or GatherBlockQuantized where it can. ---- */
rq_status rq_weight_nbits(rq_graph *g, rq_id node, const struct rq_weight *w, int accuracy_level, rq_err *err);

/* ---- ptq_trial.c ---- */

/* Outputs of the annotated graph against the float model's on the reference samples: the least signal to noise of any
 * float output, in dB. */
rq_status rq_ptq_measure(rq_ptq_state *q, const rq_graph *annotated, double *db, rq_err *err);
/* Where the outputs are too noisy, try what may help and keep what does: equalizing channels, leaving tensors in float that eight
 * bits serve badly. *made and *found: the annotated graph so far and what annotating it noted; replaced by better ones. */
rq_status rq_ptq_improve(rq_ptq_state *q, rq_graph **made, rq_notes *found, rq_err *err);

#endif
