/* formats/mil_graph.h — a Core ML program as a graph: one row per operator (mil_ops.c), read in the order of the program. */
#ifndef RQ_FORMATS_MIL_GRAPH_H
#define RQ_FORMATS_MIL_GRAPH_H

#include "formats/coreml.h"
#include "requant/edit.h"

/* Read the function `name` (NULL: the default one) of m into a graph of ONNX's operators, values and nodes under their names in the
 * program. Numbers are copied, so m may go. RQ_UNSUPPORTED: an operator, or a form of one, without a row. */
rq_status rq_mil_graph(rq_graph **out, const rq_coreml *m, const char *name, rq_err *err);

/* ---- what rows use ---- */

typedef struct rq_mil_reader {
    const rq_coreml *m;
    rq_graph *g;
    const rq_mil_op **consts; /* sorted by the name of what they give */
    int n_consts;
    rq_arena a;
    rq_err *err;
} rq_mil_reader;

typedef struct rq_mil_row {
    const char *type;
    /* What makes the nodes; NULL: one node `onnx` of the inputs `params` ("x,y"). */
    rq_status (*read)(rq_mil_reader *r, const rq_mil_op *op);
    const char *onnx, *params;
} rq_mil_row;

const rq_mil_row *rq_mil_row_find(const char *type);

/* The constant that a parameter (or attribute) is; NULL: it is not there, or computed. */
const rq_mil_value *rq_mil_reader_const(const rq_mil_reader *r, const rq_mil_op *op, const char *param);
/* Its whole numbers (at most 16); *n -1: the parameter is absent. RQ_UNSUPPORTED: it is computed. */
rq_status rq_mil_reader_ints(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t out[16], int *n);
/* Scalars, with what they are when absent. */
rq_status rq_mil_reader_int(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t *v);
rq_status rq_mil_reader_float(const rq_mil_reader *r, const rq_mil_op *op, const char *param, float *v);
const char *rq_mil_reader_text(const rq_mil_reader *r, const rq_mil_op *op, const char *param, const char *fallback);
/* The name in the graph of what parameter `param` is bound to (a constant is added to the graph); *out NULL: absent. */
rq_status rq_mil_reader_input(rq_mil_reader *r, const rq_mil_op *op, const char *param, const char **out);
/* A new constant "<operation>.<what>". */
rq_status rq_mil_reader_tensor(rq_mil_reader *r, const rq_mil_op *op, const char *what, const rq_tensor *t,
                               const char **out);
rq_status rq_mil_reader_list(rq_mil_reader *r, const rq_mil_op *op, const char *what, const int64_t *v, int n,
                             const char **out);
/* A node of these inputs (NULL: omitted) that gives `out`; NULL: what the operation gives. */
rq_status rq_mil_reader_node(rq_mil_reader *r, const rq_mil_op *op, const char *onnx, const char *const *in, int n_in,
                             const char *out, int *id);
/* A name "<operation>.<what>". NULL when memory is out. */
const char *rq_mil_reader_name(rq_mil_reader *r, const rq_mil_op *op, const char *what);
/* Refuse this form of the operation. */
rq_status rq_mil_reader_refuse(const rq_mil_reader *r, const char *what);

#endif
