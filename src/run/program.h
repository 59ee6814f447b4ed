/* run/program.h — a graph made runnable: the steps, where each tensor lives, and the state operators keep.
 *
 * A value has up to four forms: REAL (what operators see: reals, or an ordinary integer tensor), CODE (the
 * codes of an annotated value), RAW (reals of an annotated value before they are rounded) and LAST (its codes, u8 and channels-last:
 * ops/op.h, args.last). Steps are operators and the conversions between forms. All sizes in a plan are concrete.
 *
 * A plan is a list of segments. Sizes that depend on data (NonZero, a computed Reshape, the result of an If) end a
 * segment; the next one is planned when they are known, and kept as long as they (the key) stay the same. So a model
 * without such operators has one segment, planned once per input shape, and running it allocates nothing. */
#ifndef RQ_RUN_PROGRAM_H
#define RQ_RUN_PROGRAM_H

#include "graph/graph.h"
#include "ops/op.h"
#include "ops/packs.h"
#include "requant/session.h"

typedef enum rq_form_kind { RQ_FORM_REAL, RQ_FORM_CODE, RQ_FORM_RAW, RQ_FORM_LAST, RQ_N_FORMS } rq_form_kind;

typedef struct rq_form {
    rq_tensor t;     /* type and shape; data: NULL while planning, unless `known` */
    bool exists;     /* a step makes it, or it is fed or known */
    bool known;      /* content never changes while the plan lives */
    bool fed;        /* bound to the caller's tensor at each run */
    bool made_late;  /* created by a dynamic operator at each run; t.storage owns it */
    int def, last;   /* steps of the segment that makes it; last = INT_MAX: needed after the segment */
    int32_t view_of; /* form that owns the bytes, or -1 */
    size_t at;       /* of a view: where in those it begins */
    int64_t ld;    /* of LAST codes: from a pixel to the next, where its channels lie among others; 0: they lie alone */
    int32_t takes; /* form of the segment that it overwrites while it is made, or -1 (plan_share.c) */
    size_t offset; /* in the segment's block */
} rq_form;

typedef enum rq_step_kind {
    RQ_STEP_OP,
    RQ_STEP_QUANTIZE,   /* RAW to CODE or LAST */
    RQ_STEP_DEQUANTIZE, /* CODE or LAST to REAL */
    RQ_STEP_RELAYOUT,   /* CODE to LAST or back */
    RQ_STEP_TABLE,      /* codes to codes: what stood between a dequantization and a quantization (plan_regions.c) */
} rq_step_kind;

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
    int32_t *other_form;   /* [n_post] second operands of args.post, -1: none */
    bool gone;             /* others do its work: it does not run */
    bool late;             /* it creates an output at each run */
    bool packed;           /* an output of codes of less than a byte, which may end within one */
    int merged;            /* gone, and step merged - 1 does its work as part of one operator on reals; 0: no */
    int first;             /* of such an operator: the step whose product it is; reports give that its time */
    const rq_node *stood;  /* and the node that stood in its place; NULL: it is no such operator */
    size_t scratch;
    struct rq_program **child; /* [n_attr] of subgraphs, made when first run */
    double ms, macs;
} rq_step;

typedef struct rq_key { /* what a segment was planned for */
    int32_t form;
    bool content; /* compare bytes, too */
    rq_tensor seen;
} rq_key;

typedef struct rq_free_node { /* that costs nothing: its outputs are views; for reports */
    const rq_node *node;
    int at; /* before this step */
    bool codes;
} rq_free_node;

typedef struct rq_segment {
    rq_arena arena;
    rq_step *steps;
    int n_steps, cap_steps;
    rq_free_node *frees;
    int n_frees, cap_frees;
    int32_t *run; /* [n_run] steps that are done, in order */
    int n_run;
    int next_node; /* position in order where the next segment starts */
    rq_key *keys;
    int n_keys, cap_keys;
    int32_t *view; /* [n_view] forms that are views of what may lie elsewhere in each run */
    int n_view;
    int32_t *made; /* forms this segment makes (to forget them with it) */
    int n_made, cap_made;
    void *block;
    size_t block_bytes, scratch_bytes; /* of both; of the scratch alone */
    void *scratch;
    int32_t *
        out_root; /* [n_outputs] the form of this segment that may lie where output i is bound; -1: none, it is copied */
    rq_packs packs; /* what its operators asked for */
} rq_segment;

typedef struct rq_tap {
    rq_id value;
    rq_tap_fn fn;
    rq_tap_codes_fn fn_codes;
    void *arg;
} rq_tap;

enum { /* rq_program.plain: parts of the planner that are left out or forced, for tests; the results are the same */
       RQ_PLAIN_NO_LAST = 1u << 0,  /* all codes lie as the file has them */
       RQ_PLAIN_ALL_LAST = 1u << 1, /* who can run on channels-last codes wants them */
       RQ_PLAIN_STEPS = 1u << 2,    /* each node is a step of its own */
       RQ_PLAIN_PLACES = 1u << 3,   /* each form has a place of its own, but for what is reshaped */
};

typedef struct rq_feed_at { /* an input of the graph, or a value of the enclosing one */
    int32_t form;           /* it is fed to */
    int input;              /* of the graph; -1: captured */
} rq_feed_at;

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
    rq_feed_at *feeds; /* [n_feeds] values that every run begins with */
    int n_feeds;
    rq_segment **segs;
    int n_segs, cap_segs;
    rq_tap *taps; /* of the session; NULL in subgraphs */
    int n_taps, cap_taps;
    const rq_tensor
        *bound;     /* [n_outputs] where outputs go that are not handed out; data NULL: nowhere. Of the session */
    rq_packs packs; /* of segments that are gone, for those to come */
    bool planned;
    bool adds; /* times of this run are added to those of the one before: it is the next part of a batch (batch.c) */
    unsigned plain; /* RQ_PLAIN_*, set before the first run; 0: everything */
} rq_program;

/* A program for g (which must be bound to rows, and outlive it). */
rq_status rq_program_create(rq_program **out, const rq_graph *g, const rq_session_cfg *cfg, const rq_kernels *k,
                            rq_threads *threads, rq_program *outer, rq_err *err);
void rq_program_destroy(rq_program *p);
/* Forget the plan. */
void rq_program_forget(rq_program *p);

/* Run with a tensor per graph input (dtype NONE: use the default); captured values come from `outer`. out[n_outputs] are
 * overwritten with tensors of their own; NULL: they go where p->bound says. */
rq_status rq_program_run(rq_program *p, const rq_tensor *in, rq_tensor *out, rq_err *err);
/* Plan for such inputs (data may be NULL) as far as can be without running, and touch the memory of the plan. */
rq_status rq_program_plan(rq_program *p, const rq_tensor *in, rq_err *err);

static inline rq_form rq_form_none(void)
{
    return (rq_form) { .view_of = -1, .takes = -1 };
}

/* Of a form that a segment makes: does it lie in the segment's block with bytes of its own? */
static inline bool rq_form_has_place(const rq_form *f)
{
    return f->exists && !f->known && !f->fed && !f->made_late && f->view_of < 0;
}

/* bind.c: which forms of seg may lie in the caller's memory; put them there, or back (bound NULL); what is left is copied. */
rq_status rq_bind_plan(const rq_program *p, rq_segment *seg);
/* Views follow what they are views of, and where: for good, or listed for each run. */
rq_status rq_bind_views(rq_program *p, rq_segment *seg);
rq_status rq_bind_outputs(rq_program *p, const rq_segment *seg, const rq_tensor *bound, rq_err *err);
/* Is what is bound to output i of the type and shape of `made`? RQ_BAD_SHAPE. */
rq_status rq_bind_check(const rq_program *p, int i, const rq_tensor *made, const rq_tensor *t, rq_err *err);
rq_status rq_bind_take(const rq_program *p, const rq_tensor *bound, rq_err *err);

/* plan.c: plan one more segment, starting at position `from` of the order. */
rq_status rq_plan_segment(rq_program *p, int from, rq_segment **out, rq_err *err);
void rq_plan_segment_destroy(rq_program *p, rq_segment *seg);
void rq_plan_release_state(rq_step *s);
/* memory.c: place the forms that `seg` makes in its block and bind them. */
rq_status rq_memory_plan(rq_program *p, rq_segment *seg);

static inline int32_t rq_form_id(rq_id value, rq_form_kind kind)
{
    return value * RQ_N_FORMS + (int32_t)kind;
}

#endif
