/* run/planner.h — what the files of the planner share: plan.c walks the nodes, plan_step.c makes steps of them, plan_forms.c keeps the
 * forms of values and converts them, plan_decide.c says how a node runs, plan_last.c who runs on channels-last codes;
 * plan_dynamic.c, plan_float.c, plan_regions.c and plan_posts.c then let one step do the work of several. */
#ifndef RQ_RUN_PLANNER_H
#define RQ_RUN_PLANNER_H

#include "run/program.h"

typedef struct rq_planner {
    rq_program *p;
    rq_segment *seg;
    int at; /* position in order of the node being planned */
    rq_err *err;
} rq_planner;

typedef struct rq_plan_sizes {
    rq_dtype *dtype;
    rq_shape *shape;
    bool complete; /* every wanted output has a known size */
} rq_plan_sizes;

rq_status rq_plan_no_memory(rq_planner *b);

/* ---- plan_step.c ---- */

/* Evaluate n now: its inputs are known. */
rq_status rq_plan_evaluate(rq_planner *b, const rq_node *n, const rq_plan_sizes *s);
/* Let the operator of a step whose forms are chosen prepare. Of its inputs it sees the content only where that never changes. */
rq_status rq_plan_prepare(rq_planner *b, rq_step *step);
/* A step for n, which need not be a node of the graph. `whole`: only if it runs in integers; otherwise *added is false and
 * nothing was done. */
rq_status rq_plan_add_operator(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, bool whole, bool *added);

/* ---- plan_views.c ---- */

/* Where every output of n lies in its input 0, as it is there, they become views: *done. Not a tapped one: it is made by a step of its own, after
 * which the tap is called. */
rq_status rq_plan_view(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, bool *done);
/* Where along `axis` a Slice with step 1 that leaves out something along that axis alone (-1: along none) begins; false: it is another, or not known. */
bool rq_plan_slice_start(rq_planner *b, const rq_node *n, const rq_shape *x, const rq_shape *y, int *axis,
                         int64_t *start);

/* ---- plan_forms.c ---- */

static inline rq_form *rq_plan_form(rq_planner *b, rq_id value, rq_form_kind kind)
{
    return &b->p->forms[rq_form_id(value, kind)];
}
/* Codes of less than a byte. */
static inline bool rq_plan_is_packed(const rq_form *f)
{
    return !f->made_late && f->t.dtype != RQ_DTYPE_NONE && rq_dtype_bits(f->t.dtype) > 0 &&
           rq_dtype_bits(f->t.dtype) < 8;
}
/* The form that says what a value's size is, whichever exists; NULL: none does. */
const rq_form *rq_plan_any_form(rq_planner *b, rq_id value);
/* Where the reals of a node's output go first: rounded afterwards when the value is annotated. */
rq_form_kind rq_plan_real_target(const rq_graph *g, rq_id value);
/* `to` becomes a view of the bytes of `from`, which exists, beginning with byte `at`. */
rq_status rq_plan_make_view(rq_planner *b, int32_t from, size_t at, rq_id to, rq_form_kind kind, rq_dtype d,
                            const rq_shape *shape);
/* The form that owns the bytes of this one. */
static inline int32_t rq_plan_owner(const rq_planner *b, int32_t form)
{
    while (form >= 0 && b->p->forms[form].view_of >= 0)
        form = b->p->forms[form].view_of;
    return form;
}
rq_status rq_plan_make_form(rq_planner *b, rq_id value, rq_form_kind kind, rq_dtype d, const rq_shape *shape, int def);
/* A step that flips the top bit of all codes of `from` makes form `kind` of `to`, in the order in which they lie. */
rq_status rq_plan_flip(rq_planner *b, int32_t from, rq_id to, rq_form_kind kind, rq_dtype d, const rq_shape *shape);
/* See to it that a form exists at this point of the plan. */
rq_status rq_plan_need(rq_planner *b, rq_id value, rq_form_kind kind);
/* Mark `form` as used by step `step`, and what it is a view of. */
void rq_plan_use_form(rq_planner *b, int32_t form, int step);
/* Values that later nodes use keep all their forms; which of them will be wanted is not known yet. */
void rq_plan_keep_for_later(rq_planner *b);
rq_step *rq_plan_add_step(rq_planner *b, rq_step_kind kind); /* NULL: no memory */

/* ---- plan_last.c ---- */

/* Sets args.last of a step whose mode is decided (args describe the node, rq_plan_describe), and in_q and out_q of what lies
 * channels-last. */
rq_status rq_plan_choose_last(rq_planner *b, rq_step *step);
/* Input or output i of a step, of this shape and, with `known`, of a content that never changes: which form it takes when codes are wanted. */
rq_form_kind rq_plan_code_form(const rq_step *step, const rq_shape *shape, bool known);
/* Images [n][c][s] of a tensor of rank 2 or more. */
void rq_plan_image(const rq_shape *shape, int64_t *n, int64_t *c, int64_t *s);

/* ---- plan_uses.c ---- */

/* Who makes and who reads the forms of a segment, by form. */
typedef struct rq_plan_uses {
    int32_t *maker, *reader; /* step; the last reader; -1: none */
    int32_t *n_readers;      /* a view counts for two: what is done to it must not be done to its owner */
    bool *kept;              /* read by others than steps: later segments, taps, subgraphs, the caller */
} rq_plan_uses;
/* Arrays live in `a`. Zero-initialize u before the first call. */
rq_status rq_plan_count_uses(rq_planner *b, rq_arena *a, rq_plan_uses *u);

/* ---- plan_regions.c ---- */

/* Functions of one code become tables; `work` is for what is needed meanwhile. */
rq_status rq_plan_regions(rq_planner *b, rq_arena *work);

/* ---- plan_dynamic.c ---- */

/* Products of dynamic quantization, with what makes reals of their sums, become one step each. */
rq_status rq_plan_dynamic(rq_planner *b, rq_arena *work);

/* ---- plan_float.c ---- */

/* So do convolutions in reals, with a residual and an activation. */
rq_status rq_plan_float(rq_planner *b, rq_arena *work);

/* ---- plan_merge.c ---- */

/* The step on reals that alone reads what step `at` makes, which nobody else wants: an `op` of the default domain that makes f32 of the same shape; or
 * NULL. */
rq_step *rq_plan_follower(const rq_planner *b, const rq_plan_uses *u, int at, const char *op);
/* The operand that is not x of a step of two, f32; -1: there is none. */
int32_t rq_plan_other_operand(const rq_planner *b, const rq_step *s, int32_t x);
/* Step then[n_then - 1] becomes `as`, which reads the forms in[as->n_in] and is found by its name and domain; step `at` and the others of then[] are gone.
 * `as` and its arrays but `in` and `out` live as long as the segment. */
rq_status rq_plan_merge(rq_planner *b, const rq_node *as, const int32_t *in, int at, const int *then, int n_then);

/* ---- plan_posts.c ---- */

/* What follows a product and can be done to its output goes there. */
rq_status rq_plan_posts(rq_planner *b, rq_arena *work);
/* The codes of 8 bits that s makes as output 0 are looked up in a table before they are written; *done false: it cannot do that. */
rq_status rq_plan_add_table(rq_planner *b, rq_step *s, const uint8_t table[256], bool *done);

/* ---- plan_join.c ---- */

/* What a Concat puts together is made in its place; then rq_plan_apart. */
rq_status rq_plan_join(rq_planner *b, rq_arena *work);

/* ---- plan_cut.c ---- */

/* Do all steps that read x, but `but`, and all posts keep to pixels that lie apart? */
bool rq_plan_reads_apart(const rq_planner *b, int32_t x, const rq_step *but);
/* Channels that a Split or Slice cuts from channels-last codes are read where they lie, where all who do can. */
void rq_plan_cut(rq_planner *b, rq_plan_uses *u);
/* When all forms have their places: steps learn how far apart the pixels are that they read. */
rq_status rq_plan_apart(rq_planner *b);
/* When forms have their places. */
void rq_plan_bind_posts(rq_planner *b);

/* ---- plan_share.c ---- */

/* How long each form is in use, after all passes over steps; and outputs take the place of inputs that nobody reads afterwards. */
void rq_plan_share(rq_planner *b);

/* ---- plan_decide.c ---- */

/* A step's arrays, sized for its node. */
rq_status rq_plan_fill_step(rq_planner *b, rq_step *step, const rq_node *n);
/* Tensors that describe the inputs and outputs of n before forms for them are chosen: what rq_plan_decide is asked with. */
rq_status rq_plan_describe(rq_planner *b, rq_step *step, const rq_node *n, const rq_plan_sizes *s);
/* On reals or on codes, and, where codes were there to be used, why not. */
rq_step_mode rq_plan_decide(rq_step *step);
/* A DequantizeLinear into an annotated value of the same parameters, or a QuantizeLinear out of one: no work. */
bool rq_plan_is_alias(rq_planner *b, const rq_node *n, rq_form_kind *from, rq_form_kind *to);
bool rq_plan_is_tapped(rq_planner *b, rq_id value);
/* *out: n, a MatMul by constant codes, and the Add of a constant row behind it as one node of three inputs, which lives as
 * long as the segment; NULL where it is no such pair. One rounding, where two nodes would have two (docs/onnx-facts.md 5.1). */
rq_status rq_plan_with_bias(rq_planner *b, const rq_node *n, const rq_plan_sizes *s, const rq_node **out);

#endif
