/* coreml/flow.h — a block that is being rewritten: its operations in a list, each value with its users in the order they came to it.
 *
 * Passes of coremltools ask for the first user of a value, and number what they make; both depend on the order in which things were done.
 * So users and numbers are kept here as there: an operation that is made, or gets a new input, goes to the end of the users of all
 * its inputs (docs/coreml-facts.md, "Who uses a value"). Nothing reaches the program before rq_flow_write. */
#ifndef RQ_COREML_FLOW_H
#define RQ_COREML_FLOW_H

#include "formats/coreml.h"

typedef struct rq_flow_op rq_flow_op;

typedef struct rq_flow_value {
    const char *name;
    rq_mil_type *type;
    rq_flow_op *op;          /* NULL: an input of the block */
    const rq_mil_value *val; /* of a const; else NULL */
    rq_flow_op **users;      /* one that takes it twice is there twice */
    int n_users, cap_users;
    bool used; /* scratch of passes */
    bool is_input;
} rq_flow_value;

/* The values of a parameter; one that is NULL stands in the program itself, or is of an inner block. */
typedef struct rq_flow_arg {
    const char *param;
    rq_flow_value **value;
    int n;
} rq_flow_arg;

struct rq_flow_op {
    const char *type;
    const char *name; /* of the operation; outputs have their own */
    rq_mil_op *op;    /* NULL: made here */
    rq_flow_arg *args;
    int n_args;
    rq_flow_value **outputs;
    int n_outputs;
    const rq_mil_value *val; /* of a const made here */
    rq_flow_op *prev, *next;
    rq_flow_op *within; /* the operation of the block whose inner blocks hold this one; NULL: of the block itself */
    rq_flow_op **inner; /* operations of inner blocks that use values of this one, in order */
    int n_inner, cap_inner;
    rq_mil_block *ends; /* what inner block `outputs` these are, no operation */
    bool removed, seen;
    int64_t at; /* grows along the list */
};

/* How often a name was asked for: shared by the functions of a program. */
typedef struct rq_flow_counts {
    struct rq_flow_slot *slot;
    size_t n_slots, n;
    rq_arena *a;
} rq_flow_counts;

typedef struct rq_flow {
    rq_coreml *m;
    rq_mil_function *f;
    rq_flow_counts *counts;
    rq_flow_op *first, *last;
    rq_flow_value **outputs; /* of the block */
    int n_outputs;
    rq_flow_value **inputs;
    int n_inputs;
    const char **inner_names; /* values of inner blocks */
    int n_inner_names, cap_inner_names;
    rq_arena a;
} rq_flow;

/* f and counts must outlive it. RQ_NO_MEMORY; RQ_BAD_FILE: a value that nobody gives. */
rq_status rq_flow_open(rq_flow *w, rq_coreml *m, rq_mil_function *f, rq_flow_counts *counts, rq_err *err);
void rq_flow_release(rq_flow *w);
/* Put the list, names and inputs into the program's block. RQ_NO_MEMORY. */
rq_status rq_flow_write(const rq_flow *w, rq_err *err);

/* ---- looking ---- */

rq_flow_value *rq_flow_input(const rq_flow_op *op,
                             const char *param); /* the only one; NULL: none, or it stands in the program */
/* The constant of a parameter, wherever it stands; NULL: absent or computed. */
const rq_mil_value *rq_flow_const(const rq_flow_op *op, const char *param);
bool rq_flow_is_output(const rq_flow *w, const rq_flow_value *v);
/* Its only user, when that is of this type. */
rq_flow_op *rq_flow_only_user(const rq_flow_op *op, const char *type);
/* All operations of the block now, NULL at the end; NULL: memory is out. Some may be removed while the list is used. */
rq_flow_op **rq_flow_list(rq_flow *w);

/* ---- changing: NULL or false when memory is out ---- */

/* "<base>_<k>" with the next k. */
const char *rq_flow_name(rq_flow *w, const char *base);
/* A const "<owner>_<param>_<k>" before `before` (NULL: the end). */
rq_flow_value *rq_flow_make_const(rq_flow *w, const char *owner, const char *param, const rq_mil_value *val,
                                  rq_flow_op *before);
/* An operation: name NULL: "<type>_<k>". Bind what it takes, then give it its output (named as the operation); then it is placed. */
rq_flow_op *rq_flow_make(rq_flow *w, const char *type, const char *name);
bool rq_flow_bind(rq_flow *w, rq_flow_op *op, const char *param, rq_flow_value *v);
rq_flow_value *rq_flow_place(rq_flow *w, rq_flow_op *op, rq_mil_type *type, rq_flow_op *before);
bool rq_flow_rebind(rq_flow *w, rq_flow_op *op, const char *param, rq_flow_value *v); /* another value for an input */
/* As if op were made anew: it comes last among the users of all its inputs; and its users, in their order, take what it gives anew. */
bool rq_flow_renew_inputs(rq_flow *w, rq_flow_op *op);
bool rq_flow_renew(rq_flow *w, rq_flow_op *op);
/* Users of `old` behind `anchor` (until `end`, NULL: all) take `now`, and so do outputs of the block, which keep their name. */
bool rq_flow_replace(rq_flow *w, rq_flow_op *anchor, rq_flow_op *end, rq_flow_value *old, rq_flow_value *now);
void rq_flow_remove(rq_flow *w, rq_flow_op *op);

/* ---- flow_tidy.c: passes over any program ---- */

/* Operations that do the same with the same inputs: the first stays. */
bool rq_flow_merge_equal(rq_flow *w);
/* What leads to no output goes. */
void rq_flow_drop_dead(rq_flow *w);
/* casts and transposes go before their first user. */
bool rq_flow_move_late(rq_flow *w);
/* Names of operations and of values, each once: a later one gets "_<k>". */
bool rq_flow_unique_names(rq_flow *w);
/* Two constants of one type and content. */
bool rq_flow_same_const(const rq_flow *w, const rq_mil_value *a, const rq_mil_value *b);

/* ---- between flow.c and flow_change.c ---- */

bool rq_flow_add_user(rq_flow *w, rq_flow_value *v, rq_flow_op *op); /* the last of v's; false: memory is out */
void rq_flow_link(rq_flow *w, rq_flow_op *op, rq_flow_op *before);   /* into the list; NULL: at the end */

#endif
