/* run/autograd_plan.h — a graph made ready for training on inputs of one shape: a list of actions, and where each tensor lives.
 *
 *   forward of step 0, 1, 2 ...            then, where gradients are wanted,
 *   backward of step ..., 2, 1, 0          with the gradients that come from outside (of outputs) put in where they belong
 *
 * The time of an action is its place in that list. A slot is a tensor: of a value, of its gradient, of what a row saves. It lives from
 * the first action that touches it to the last; slots that live at different times share bytes. A value has the slot of its id. */
#ifndef RQ_RUN_AUTOGRAD_PLAN_H
#define RQ_RUN_AUTOGRAD_PLAN_H

#include "graph/graph.h"
#include "ops/op.h"
#include "requant/autograd.h"
#include "run/feeds.h"
#include "run/program.h"

typedef struct rq_slot {
    rq_tensor t;
    int def, last; /* times; last -1: nobody touches it */
    int32_t root;  /* the slot whose bytes these are; its own: itself */
    bool fixed;    /* the bytes are elsewhere: of a constant, fed, known, a parameter's gradient */
    bool known;    /* content never changes while the plan lives */
    bool active;   /* depends on what is fed */
    size_t offset; /* in the block */
} rq_slot;

typedef enum rq_action_kind {
    RQ_ACTION_FORWARD,
    RQ_ACTION_AGAIN,    /* forward of a step whose results were not kept */
    RQ_ACTION_EXTERNAL, /* of a value: its gradient gets what comes from outside */
    RQ_ACTION_BACKWARD,
} rq_action_kind;

typedef struct rq_action {
    rq_action_kind kind;
    int32_t of; /* step, or value */
} rq_action;

/* One way to call a row: its tensors are those of these slots (-1: none). */
typedef struct rq_call {
    rq_op_args args;
    rq_op_training training;
    int32_t *in, *out; /* [n_in], [n_out] */
    int32_t saved;
} rq_call;

typedef struct rq_train_step {
    const rq_node *node;
    const rq_op *row;
    rq_id id;  /* of the node */
    bool view; /* output 0 is the bytes of input 0: nothing to run */
    bool
        passed; /* a Relu whose backward the FakeQuantize behind it does: the gradient of its input is that of its output */
    bool back;  /* backward is called, or would be were it no view */
    int block;  /* activations of a block are computed again for its backward, but those of the last */
    bool again; /* forward is done a second time, as `second` */
    rq_call forward, second, backward;
    int32_t kept; /* slot of what the second forward needs of `saved` of the first; -1: nothing */
    size_t kept_bytes;
    int32_t *grad_out; /* [n_out] slots of gradients; -1: none comes */
    int32_t *grad_in;  /* [n_in] slots that backward writes; -1: not wanted */
    int32_t *into;     /* [n_in] slots that these are then added to; -1: they are in place */
    void *state, *back_state;
} rq_train_step;

typedef struct rq_train_plan {
    rq_arena arena;
    /* what it was made for */
    rq_dtype *in_dtype;
    rq_shape *in_shape;
    bool train, keeps;
    rq_slot *slots;
    int n_slots, cap_slots;
    rq_train_step *steps;
    int n_steps;
    rq_packs packs; /* what operators asked for */
    rq_action *actions;
    int n_actions, cap_actions, n_forward; /* the first n_forward actions are those of forward */
    int32_t *grad;                         /* [n_values] slot of its gradient, or -1 */
    uint8_t *got;                          /* [n_values] a reader gives a gradient before EXTERNAL */
    size_t block_bytes, scratch_bytes;
    const void *bound; /* the block that addresses were computed for */
    uint64_t used;     /* when last, for choosing one to forget */
} rq_train_plan;

/* A constant that is trained. */
typedef struct rq_trained {
    rq_id value;
    rq_parameter_role role;
    float *grad;
} rq_trained;

/* Scale or zero point of a fake-quantizer that learns them. */
typedef struct rq_learned_entry {
    rq_fake_quantizer *q;
    bool zero_point;
    char *name;
} rq_learned_entry;

typedef struct rq_external {
    rq_id value;
    const float *dy;
} rq_external;

enum { RQ_TRAIN_PLANS = 4 }; /* shapes: of a batch and of the last batch, in training and in evaluation */

struct rq_autograd {
    rq_graph *g;
    rq_autograd_cfg cfg;
    rq_kernels k;
    rq_exec *exec;
    rq_threads *threads; /* exec's */
    rq_id *order;
    int n_order;
    rq_trained *trained;
    int n_trained, cap_trained;
    int32_t *trained_of; /* [n_values] index of trained, or -1 */
    bool *moving;        /* [n_values] a constant that forward changes: running statistics */
    bool *wanted;        /* [n_values] an input whose gradient is wanted */
    bool *outside;       /* [n_values] its gradient may come from outside: outputs, what is tapped or added to */
    bool *frozen;        /* [n_nodes] batch norms that stay in evaluation */
    bool train, keep;
    bool plain; /* for tests: no steps are joined */
    uint64_t random, forwards;
    uint64_t drawn; /* random of the last forward: what backward draws, too */
    rq_tensor *feeds;
    rq_feed_name *names; /* of the feeds before */
    rq_tap *taps;
    int n_taps, cap_taps;
    rq_external *external;
    int n_external, cap_external;
    const rq_tensor *dy; /* of the backward that runs */
    rq_parameter *list;  /* [n_trained + n_learned] */
    rq_learned_entry *learned;
    int n_learned;
    rq_train_plan *plans[RQ_TRAIN_PLANS];
    rq_train_plan *last; /* of the last forward; NULL: none */
    bool pending;        /* backward may go back through it */
    void *block;
    size_t block_bytes;
};

/* ---- autograd_uses.c ---- */

/* Does the node train its input i where that is a constant, or made of one? */
bool rq_train_asks(const rq_graph *g, const rq_node *n, int i);
/* What input i of rank `rank` is to an optimizer. */
rq_parameter_role rq_train_role(const rq_graph *g, const rq_node *n, int i, int rank);
/* f32 of at least one axis: a constant, or constants behind nodes that hand on or join them? */
bool rq_train_is_weight(const rq_graph *g, rq_id value);

/* ---- autograd_graph.c: what of the graph is trained ---- */

/* Does the gradient of any output go to input i of n, as far as its row says? */
bool rq_train_input_has_gradient(const rq_node *n, int i);
/* Does n hand on what it gets from input 0 (a weight that is fake-quantized is still a weight)? */
bool rq_train_carries(const rq_node *n);
/* Fill trained, moving, frozen; make those constants private. RQ_UNSUPPORTED: operators stand in the way, all named. */
rq_status rq_train_survey(rq_autograd *a, rq_err *err);
/* What FakeQuantize node n stands for; NULL: it is another node. */
rq_fake_quantizer *rq_train_fake_of(const rq_autograd *a, const rq_node *n);

/* The gradient of input 0 is that of output 0, in its bytes: backward has nothing to call. */
static inline bool rq_train_hands_on(const rq_train_step *s)
{
    return s->view || s->passed;
}

/* ---- autograd_parameters.c ---- */
rq_status rq_train_list_parameters(rq_autograd *a, rq_err *err);
void rq_train_release_parameters(rq_autograd *a);

/* ---- autograd_plan.c: slots and steps of the forward direction ---- */
rq_status rq_train_plan_create(rq_train_plan **out, rq_autograd *a, rq_err *err);
void rq_train_plan_destroy(rq_train_plan *p);
int32_t rq_train_add_slot(rq_train_plan *p, const rq_tensor *like, rq_err *err); /* -1: no memory */
/* The arrays of a call of n, with the slots of its values; and its tensors, pointed at its slots. */
rq_status rq_train_start_call(rq_autograd *a, rq_train_plan *p, rq_call *c, const rq_node *n, rq_err *err);
void rq_train_bind_call(rq_train_plan *p, rq_call *c);

/* ---- autograd_back.c: gradients ---- */

/* Which steps go backward, and the slots of their gradients. */
rq_status rq_train_plan_gradients(rq_autograd *a, rq_train_plan *p, rq_err *err);

/* ---- autograd_blocks.c: cfg.checkpoint_activations ---- */

/* How many slots that may take beyond those of the forward direction. */
int rq_train_plan_blocks_room(const rq_train_plan *p);
/* Cut the steps into blocks, and see to what each needs to be computed again. */
rq_status rq_train_plan_blocks(rq_autograd *a, rq_train_plan *p, rq_err *err);

/* ---- autograd_memory.c: the list of actions, how long slots live, where they lie ---- */
rq_status rq_train_plan_actions(rq_autograd *a, rq_train_plan *p, rq_err *err);
rq_status rq_train_plan_memory(rq_autograd *a, rq_train_plan *p, rq_err *err);

/* ---- autograd_run.c ---- */
rq_status rq_train_forward(rq_autograd *a, rq_train_plan *p, rq_err *err);
rq_status rq_train_backward(rq_autograd *a, rq_train_plan *p, rq_err *err);

#endif
