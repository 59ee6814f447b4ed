/* coreml/uses.h — every value of a program with where it is made and who reads it. A picture of the program as it was when it was made: after a
 * change make it anew, or change only what is said to be fine. */
#ifndef RQ_COREML_USES_H
#define RQ_COREML_USES_H

#include "formats/mil.h"

typedef struct rq_coreml_use {
    rq_mil_block *block;
    rq_mil_op *op; /* that reads it; NULL: the block gives it, as output `arg` */
    int arg, at;   /* op->args[arg].binding[at] */
    int def;
} rq_coreml_use;

typedef struct rq_coreml_def {
    const rq_mil_function *f;
    rq_mil_block *block;
    rq_mil_op *op; /* NULL: an input of the function or block */
    int output;    /* op->outputs[output] */
    const char *name;
    const rq_mil_type *type;
    rq_coreml_use *use; /* [n_uses] in order of the program */
    int n_uses;
    int n_readers; /* uses by operations */
    int shadowed;  /* while it is made: the definition of the same hash that this one hides, -1: none */
} rq_coreml_def;

typedef struct rq_coreml_uses {
    rq_coreml_def
        *def; /* in order of the program: inputs of a function, then operations, each behind the blocks within it */
    int n, cap;
    rq_coreml_use *use;
    int n_uses, cap_uses;
} rq_coreml_uses;

/* The program was checked (mil_check). RQ_NO_MEMORY; then u is released. */
rq_status rq_coreml_uses_init(rq_coreml_uses *u, const rq_mil_program *p, rq_err *err);
void rq_coreml_uses_release(rq_coreml_uses *u);
/* Output `i` of op, which is in the program. */
rq_coreml_def *rq_coreml_uses_of(const rq_coreml_uses *u, const rq_mil_op *op, int i);
/* All who read d read `name` from now on (not copied); of blocks that give it, too, unless `readers_only`. */
void rq_coreml_def_rename(const rq_coreml_def *d, const char *name, bool readers_only);
/* Is it an output of a function? */
bool rq_coreml_def_is_output(const rq_coreml_def *d);

/* Where op stands in b; -1: it does not. */
int rq_coreml_uses_position(const rq_mil_block *b, const rq_mil_op *op);
void rq_coreml_uses_remove(rq_mil_block *b, const rq_mil_op *op);

#endif
