/* run/program.h — a graph made runnable: the steps, where each tensor lives, and the state operators keep.
 *
 * A value has up to three forms: REAL (what operators see: reals, or an ordinary integer tensor), CODE (the
 * codes of an annotated value) and RAW (reals of an annotated value before they are rounded). Steps are operators
 * and the conversions between forms. All sizes in a plan are concrete.
 *
 * A plan is a list of segments. Sizes that depend on data (NonZero, a computed Reshape, the result of an If) end a
 * segment; the next one is planned when they are known, and kept as long as they (the key) stay the same. So a model
 * without such operators has one segment, planned once per input shape, and running it allocates nothing. */
#ifndef RQ_RUN_PROGRAM_H
#define RQ_RUN_PROGRAM_H

#include "graph/graph.h"
#include "ops/op.h"
#include "requant/session.h"

typedef enum rq_form_kind { RQ_FORM_REAL, RQ_FORM_CODE, RQ_FORM_RAW, RQ_N_FORMS } rq_form_kind;

typedef struct rq_form {
    rq_tensor t;     /* type and shape; data: NULL while planning, unless `known` */
    bool exists;     /* a step makes it, or it is fed or known */
    bool known;      /* content never changes while the plan lives */
    bool fed;        /* bound to the caller's tensor at each run */
    bool made_late;  /* created by a dynamic operator at each run; t.storage owns it */
    int def, last;   /* steps of the segment that makes it; last = INT_MAX: needed after the segment */
    int32_t view_of; /* form that owns the bytes, or -1 */
    size_t offset;   /* in the segment's block */
} rq_form;

typedef enum rq_step_kind { RQ_STEP_OP, RQ_STEP_QUANTIZE, RQ_STEP_DEQUANTIZE } rq_step_kind;

typedef enum rq_step_mode {                /* of an operator */
                            RQ_MODE_REAL,  /* row.forward on reals */
                            RQ_MODE_CODES, /* row.forward on codes: it only moves them */
                            RQ_MODE_TABLE, /* 256 or 65536 entries, made from row.forward */
                            RQ_MODE_INT,   /* row.forward_int */
} rq_step_mode;

typedef struct rq_step {
    rq_step_kind kind;
    rq_step_mode mode;
    rq_id value; /* conversions */
    const rq_op *row;
    rq_op_args args;             /* in and out point at the forms' tensors */
    int32_t *in_form, *out_form; /* [n_in], [n_out] forms, -1: omitted */
    const char *reason;          /* why an operator with annotated values runs on reals */
    void *state;
    uint8_t (*moved)[256]; /* RQ_MODE_CODES: a table per output, where parameters change on the way; NULL: nowhere */
    size_t scratch;
    struct rq_program **child; /* [n_attr] of subgraphs, made when first run */
    double ms, macs;
} rq_step;

typedef struct rq_key { /* what a segment was planned for */
    int32_t form;
    bool content; /* compare bytes, too */
    rq_tensor seen;
} rq_key;

typedef struct rq_segment {
    rq_arena arena;
    rq_step *steps;
    int n_steps, cap_steps;
    int next_node; /* position in order where the next segment starts */
    rq_key *keys;
    int n_keys, cap_keys;
    int32_t *made; /* forms this segment makes (to forget them with it) */
    int n_made, cap_made;
    void *block;
    size_t block_bytes;
    void *scratch;
} rq_segment;

typedef struct rq_tap {
    rq_id value;
    rq_tap_fn fn;
    rq_tap_codes_fn fn_codes;
    void *arg;
} rq_tap;

typedef struct rq_program {
    const rq_graph *g;
    const rq_session_cfg *cfg;
    const rq_kernels *k;
    rq_threads *threads;
    struct rq_program *outer; /* of a subgraph */
    rq_form *forms;           /* [n_values * RQ_N_FORMS] */
    rq_id *order;
    int n_order;
    int32_t *last_use; /* per value: last position in order that uses it; INT_MAX: an output */
    rq_segment **segs;
    int n_segs, cap_segs;
    rq_tap *taps; /* of the session; NULL in subgraphs */
    int n_taps, cap_taps;
    bool planned;
} rq_program;

/* A program for g (which must be bound to rows, and outlive it). */
rq_status rq_program_create(rq_program **out, const rq_graph *g, const rq_session_cfg *cfg, const rq_kernels *k,
                            rq_threads *threads, rq_program *outer, rq_err *err);
void rq_program_destroy(rq_program *p);
/* Forget the plan. */
void rq_program_forget(rq_program *p);

/* Run with a tensor per graph input (dtype NONE: use the default); captured values come from `outer`. out[n_outputs] are
 * overwritten with tensors of their own. */
rq_status rq_program_run(rq_program *p, const rq_tensor *in, rq_tensor *out, rq_err *err);

/* plan.c: plan one more segment, starting at position `from` of the order. */
rq_status rq_plan_segment(rq_program *p, int from, rq_segment **out, rq_err *err);
void rq_plan_segment_destroy(rq_program *p, rq_segment *seg);
/* memory.c: place the forms that `seg` makes in its block and bind them. */
rq_status rq_memory_plan(rq_program *p, rq_segment *seg);

static inline int32_t rq_form_id(rq_id value, rq_form_kind kind)
{
    return value * RQ_N_FORMS + (int32_t)kind;
}

#endif
