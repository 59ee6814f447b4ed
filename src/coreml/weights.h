/* coreml/weights.h — the walk over the constants of a program that weight compression makes, as coremltools.optimize.coreml does: which constants are
 * looked at, what the config says of each, which axes are channels, and how a constant is replaced. An algorithm is a row: its name, its
 * classes of configs, and what it makes of one weight. docs/coreml-facts.md 8.2. */
#ifndef RQ_COREML_WEIGHTS_H
#define RQ_COREML_WEIGHTS_H

#include "base/buf.h"
#include "coreml/config.h"
#include "coreml/pairs.h"
#include "coreml/uses.h"
#include "formats/coreml.h"

enum { RQ_COREML_NO_AXIS = -1 }; /* its users disagree */

/* A constant: what a `const` operation gives, or a value that stands in a constexpr_ operation (and then `param` is its name). */
typedef struct rq_coreml_weight {
    rq_coreml *m;
    struct rq_coreml_walk *walk;
    rq_mil_block *block;
    rq_mil_op *op; /* the const; or the constexpr_ operation */
    const char *param;
    const char *name; /* as coremltools calls it: "w"; "w_palettized_lut_0" */
    rq_mil_value *value;
    const rq_coreml_def *def;          /* of a const; else NULL */
    rq_mil_op *user;                   /* the first; NULL: none */
    int n_users;                       /* operations that read it */
    bool is_output;                    /* of a function */
    const rq_coreml_op_config *config; /* NULL: not asked for */
    int64_t count;                     /* of its elements */
    int64_t final_count; /* joint: of the weight at the end of the chain of constexpr_ operations, else the same */
    int output_axis, input_axis; /* channels, counted from the front; RQ_COREML_NO_AXIS */
} rq_coreml_weight;

/* What an algorithm is. */
typedef struct rq_coreml_weights_row {
    const char *what;   /* "linear_quantize_weights" */
    const char *suffix; /* "_quantized" */
    unsigned classes;   /* bits 1 << rq_coreml_algorithm */
    const char *const (*joint)
        [2]; /* {operation, parameter}: constants that `joint` compresses though a constexpr_ operation reads them */
    const char *const
        *joint_ops; /* or NULL; with `joint` these operations are looked at instead of constants, by what they give */
    /* Replace w (rq_coreml_weight_replace), or say why not (rq_coreml_weight_left). */
    rq_status (*compress)(rq_coreml_weight *w, void *arg, rq_err *err);
} rq_coreml_weights_row;

typedef struct rq_coreml_walk {
    rq_coreml *m;
    const rq_coreml_config *config;
    const rq_coreml_weights_row *row;
    bool joint;
    void *arg;
    rq_coreml_report *report;
    rq_coreml_uses uses; /* of the program before anything was changed */
    int n_done;
} rq_coreml_walk;

/* All of it: the checks on entry, the walk, the version, the passes behind it. *report as in requant/coreml_optimize.h. */
rq_status rq_coreml_weights_run(rq_coreml *m, const rq_coreml_config *c, const rq_coreml_weights_row *row, bool joint,
                                void *arg, rq_coreml_report **report, rq_err *err);
/* "<what> is not supported for a multifunction model": RQ_UNSUPPORTED. */
rq_status rq_coreml_one_function(const rq_coreml *m, const char *what, rq_err *err);

/* ---- what rows use ---- */

/* The elements of a value, packed as in a weight file, dense: those of a file stay where they are. Values that are made when the file is
 * written are made now. RQ_BAD_FILE, RQ_NO_MEMORY. */
rq_status rq_coreml_weight_bytes(rq_coreml *m, rq_mil_value *v, const uint8_t **data, uint64_t *bytes, rq_err *err);
/* v was read for now: its pages may go, where it lies in a mapped file. */
void rq_coreml_weight_forget(const rq_mil_value *v, const uint8_t *data, uint64_t bytes);
/* Read in pieces, whose pages may go where both are mapped. */
bool rq_coreml_same_bytes(const uint8_t *a, const uint8_t *b, uint64_t n, bool mapped);
/* The tensor value that parameter `param` of op is (inline, an attribute, or of a const operation); NULL: computed, or not there. */
rq_mil_value *rq_coreml_param(const rq_coreml_uses *u, const rq_mil_op *op, const char *param);
/* Of the weight: is this the first program version that has what iOS 18 brought? */
bool rq_coreml_is_ios18(const rq_coreml *m);
/* Names for what replaces w: "<name><suffix>", not yet used in the program; the value keeps its name where it is an output of the function. In the
 * program's memory; NULL: out of it. */
const char *rq_coreml_weight_name(const rq_coreml_weight *w, const char *suffix);
const char *rq_coreml_weight_output(const rq_coreml_weight *w, const char *op_name);
/* A value for a parameter: in the weight file from 10 elements on, else immediate. data: packed, is copied. */
rq_mil_value *rq_coreml_value(rq_coreml *m, const char *dtype, int rank, const int64_t *dim, const void *data);
/* Put op where w stood, all who read w read its output `i`. before: put it before this operation of w's block, NULL: where w stood. */
rq_status rq_coreml_weight_replace(rq_coreml_weight *w, rq_mil_op *op, int i, rq_mil_op *before, rq_err *err);
/* Block sizes of one axis each, 0 the whole, for linear and palette configs; *ok false: axes are not known, and it was said. dim: of the dense
 * weight. RQ_BAD_ARG: a list of another length. */
rq_status rq_coreml_weight_blocks(rq_coreml_weight *w, int rank, const int64_t *dim, int64_t block[RQ_MIL_MAX_RANK],
                                  bool *ok, rq_err *err);
/* For the report: w stays, for this reason, a warning where it was asked for; w became op of this many bytes. */
rq_status rq_coreml_weight_left(rq_coreml_weight *w, bool warning, rq_err *err, const char *fmt, ...) RQ_PRINTF(4, 5);
rq_status rq_coreml_weight_done(rq_coreml_weight *w, const char *op, uint64_t bytes, rq_err *err);
/* A sentence that belongs to no constant. */
rq_status rq_coreml_report_note(rq_coreml_report *r, rq_err *err, const char *fmt, ...) RQ_PRINTF(3, 4);

/* ---- report.c ---- */

typedef struct rq_coreml_entry_of {
    const char *name, *type, *user, *user_type; /* of the constant, text of its type, who reads it */
    const char *op;                             /* what it became; NULL: it stays */
    const char *why;                            /* it stays; "" */
    const char *config;
    uint64_t before, after; /* bytes */
    bool warning;           /* it was asked for and could not be done */
} rq_coreml_entry_of;

struct rq_coreml_report {
    const char *what;
    rq_coreml_entry_of *entry;
    int n, cap;
    rq_coreml_pairs pairs; /* of activations */
    const char **note;
    int n_notes, cap_notes;
    rq_arena a;
};

rq_status rq_coreml_report_create(rq_coreml_report **out, const char *what, rq_err *err);
/* Strings are copied. */
rq_status rq_coreml_report_add(rq_coreml_report *r, const rq_coreml_entry_of *e, rq_err *err);

/* ---- keys.c ---- */

/* Has the program all that the config names? weights [n]: constants that stand in operations, and have names all the same. types: operators that
 * settings count for, ended by NULL; a key that only others have is a note, and so is a type that only this program lacks. RQ_BAD_ARG: a name or
 * type that there is not. RQ_NO_MEMORY. */
rq_status rq_coreml_check_keys(const rq_coreml *m, const rq_coreml_config *c, const rq_coreml_weight *weights, int n,
                               const char *const *types, rq_coreml_report *report, rq_err *err);

/* ---- linear.c ---- */

/* Will these values, one of which at least is made when the file is written, have the same bytes? False where that is not known. RQ_NO_MEMORY. */
rq_status rq_coreml_same_codes(rq_coreml *m, const rq_mil_value *a, const rq_mil_value *b, bool *same, rq_err *err);

/* ---- guard.c ---- */

/* The operations before every gather of computed indices that make negative ones count from the end, from iOS 17 on; once more where
 * they are there already. RQ_NO_MEMORY. */
rq_status rq_coreml_guard_gathers(rq_coreml *m, rq_err *err);

/* ---- cleanup.c ---- */

/* What coremltools does behind every compression (docs/coreml-facts.md 8.4). */
rq_status rq_coreml_cleanup(rq_coreml *m, rq_err *err);
/* fold.c: one of b's operations that lays codes out anew goes into them; *changed then. */
rq_status rq_coreml_fold_layout(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, bool *changed, rq_err *err);

/* ---- canonical.c ---- */

/* Scales and tables in the order that the model's version wants. */
rq_status rq_coreml_canonicalize(rq_coreml *m, rq_err *err);

#endif
