/* formats/mil_graph.h — a Core ML program as a graph: one row per operator (mil_ops.c), read in the order of the program. */
#ifndef RQ_FORMATS_MIL_GRAPH_H
#define RQ_FORMATS_MIL_GRAPH_H

#include "formats/mil_constexpr.h"
#include "requant/edit.h"

/* Read the function `name` (NULL: the default one) of m into a graph of ONNX's operators, values and nodes under their names in the
 * program. Numbers are copied, so m may go. RQ_UNSUPPORTED: an operator, or a form of one, without a row. */
rq_status rq_mil_graph(rq_graph **out, const rq_coreml *m, const char *name, rq_err *err);

/* ---- what rows use ---- */

/* A block that is being read, in the blocks around it. */
typedef struct rq_mil_frame {
    rq_graph *g;
    rq_mil_constants consts;
    int n_settled; /* nodes of g whose outputs have types */
    struct rq_mil_frame *outer;
} rq_mil_frame;

/* A state of the function: what reading it gives now. */
typedef struct rq_mil_kept {
    const char *name, *value;
} rq_mil_kept;

typedef struct rq_mil_reader {
    const rq_coreml *m;
    rq_graph *g;                    /* of the innermost frame: where nodes go */
    const rq_mil_constants *consts; /* of the same */
    rq_mil_frame *frame;
    rq_mil_kept *states;
    int n_states;
    bool lists_grow; /* a list was made that may be longer than it began */
    rq_arena a;
    rq_err *err;
} rq_mil_reader;

typedef struct rq_mil_row {
    const char *type;
    /* What makes the nodes; NULL: one node `onnx` of the inputs `params` ("x,y"). */
    rq_status (*read)(rq_mil_reader *r, const rq_mil_op *op);
    const char *onnx, *params; /* with `read`, what it makes, for people */
} rq_mil_row;

const rq_mil_row *rq_mil_row_find(const char *type); /* NULL: there is none */
const rq_mil_row *rq_mil_row_at(int i);              /* in the order of the alphabet; NULL past the last */

/* The constant that a parameter (or attribute) is; NULL: it is not there, or computed. */
const rq_mil_value *rq_mil_reader_const(const rq_mil_reader *r, const rq_mil_op *op, const char *param);
/* Its whole numbers (at most 16); *n -1: the parameter is absent. RQ_UNSUPPORTED: it is computed. */
rq_status rq_mil_reader_ints(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t out[16], int *n);
/* Scalars, with what they are when absent. */
rq_status rq_mil_reader_int(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t *v);
rq_status rq_mil_reader_float(const rq_mil_reader *r, const rq_mil_op *op, const char *param, float *v);
const char *rq_mil_reader_text(const rq_mil_reader *r, const rq_mil_op *op, const char *param, const char *fallback);
/* Is the parameter (or attribute) there? */
bool rq_mil_reader_has(const rq_mil_op *op, const char *param);
/* The name in the graph of what parameter `param` is bound to; *out NULL: absent. A constant is added to the graph: a const as
 * such, a constexpr_ operation by its row (rows of mil_ops_quant.c make DequantizeLinear or a constant). */
rq_status rq_mil_reader_input(rq_mil_reader *r, const rq_mil_op *op, const char *param, const char **out);
/* The same for a parameter of several values: item i of arg. */
rq_status rq_mil_reader_item(rq_mil_reader *r, const rq_mil_op *op, const rq_mil_arg *arg, int i, const char **out);
/* Make a value of the program one of r->g: a constant is added to the graph of its block, what stands outside is captured.
 * RQ_NOT_FOUND: it is none. */
rq_status rq_mil_reader_value(rq_mil_reader *r, const char *name);
/* Type and shape of a value of r->g, as far as they follow from the nodes so far. */
rq_status rq_mil_reader_info(rq_mil_reader *r, const char *value, rq_value_info *out);
/* A new constant "<operation>.<what>". */
rq_status rq_mil_reader_tensor(rq_mil_reader *r, const rq_mil_op *op, const char *what, const rq_tensor *t,
                               const char **out);
/* A node of these inputs (NULL: omitted) that gives `out`; NULL: what the operation gives. */
rq_status rq_mil_reader_node(rq_mil_reader *r, const rq_mil_op *op, const char *onnx, const char *const *in, int n_in,
                             const char *out, int *id);
/* A name "<operation>.<what>". NULL when memory is out. */
const char *rq_mil_reader_name(rq_mil_reader *r, const rq_mil_op *op, const char *what);
/* Nodes go to another frame from now on. */
void rq_mil_reader_move(rq_mil_reader *r, rq_mil_frame *f);
/* A graph inside r->g, for the body of an If or a Loop, becomes r->g; f lives until it is left. b: whose constants are seen in it. */
rq_status rq_mil_reader_enter(rq_mil_reader *r, rq_mil_frame *f, const rq_mil_block *b);
/* An input of r->g of the type that the block declares. */
rq_status rq_mil_reader_block_input(rq_mil_reader *r, const rq_mil_var *v);
/* One operation, by its row; the operations of a block but for constants, which are read where they are used. */
rq_status rq_mil_reader_op(rq_mil_reader *r, const rq_mil_op *op);
rq_status rq_mil_reader_ops(rq_mil_reader *r, const rq_mil_block *b);
/* Its outputs, each made by a node of the graph itself: one that is not is copied. */
rq_status rq_mil_reader_outputs(rq_mil_reader *r, const rq_mil_op *op, const char *const *name, int n);
/* Back to the graph around it; f->g is the caller's. */
void rq_mil_reader_leave(rq_mil_reader *r);
/* Give a value of r->g the type that the program declares, where none follows from the nodes. RQ_BAD_FILE: they contradict each other. */
rq_status rq_mil_reader_declare(rq_mil_reader *r, const char *name, const rq_mil_type *type);

#endif
