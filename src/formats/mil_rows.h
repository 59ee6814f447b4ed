/* formats/mil_rows.h — what the families of rows share: their tables, and the means to write an operation as several nodes.
 *
 * A chain makes nodes one after another. Its first failure stays in `st`; from then on everything does nothing and gives NULL, 0
 * or the fallback, so a row is written as the formula that it is, and ends in rq_chain_end or in `return c.st`. */
#ifndef RQ_FORMATS_MIL_ROWS_H
#define RQ_FORMATS_MIL_ROWS_H

#include "formats/mil_graph.h"

/* One table per family, in the order of the alphabet, ended by a row whose type is NULL. */
extern const rq_mil_row rq_mil_rows_linear[], rq_mil_rows_norm[], rq_mil_rows_elements[], rq_mil_rows_shapes[],
    rq_mil_rows_slices[], rq_mil_rows_pick[], rq_mil_rows_reduce[], rq_mil_rows_resize[], rq_mil_rows_recurrent[],
    rq_mil_rows_control[], rq_mil_rows_quant[];

/* The values of these parameters, in this order; NULL: absent, which the first may not be. */
rq_status rq_mil_rows_inputs(rq_mil_reader *r, const rq_mil_op *op, int n, const char *const *params, const char **in);

/* ---- chains (mil_chain.c); values are names in r->g ---- */

enum { RQ_CHAIN_OPERANDS = 32 };

typedef struct rq_chain {
    rq_mil_reader *r;
    const rq_mil_op *op;
    rq_status st;
    int n;                                  /* values made so far */
    int first;                              /* values of the graph before them */
    int id;                                 /* the last node */
    const char *operand[RQ_CHAIN_OPERANDS]; /* of nodes that are being written: rq_n2, rq_n3 */
    int n_operands;
} rq_chain;

rq_chain rq_chain_begin(rq_mil_reader *r, const rq_mil_op *op);
/* Fail with a sentence; returns NULL. */
const void *rq_chain_fail(rq_chain *c, rq_status st, const char *fmt, ...) RQ_PRINTF(3, 4);
/* Value v (NULL after a failure) is output i of the operation. */
rq_status rq_chain_end(rq_chain *c, int i, const char *v);

/* What a parameter is bound to: it must be there; it may be absent (NULL). */
const char *rq_chain_in(rq_chain *c, const char *param);
const char *rq_chain_maybe(rq_chain *c, const char *param);
/* The same as a list of int64, whether it is constant or computed (by a Cast); a scalar stays one. */
const char *rq_chain_list(rq_chain *c, const char *param);
/* Settings: constants, with what they are when absent. */
int64_t rq_chain_int(rq_chain *c, const char *param, int64_t fallback);
float rq_chain_float(rq_chain *c, const char *param, float fallback);
const char *rq_chain_text(rq_chain *c, const char *param, const char *fallback);
/* At most 16; their number, -1: absent. */
int rq_chain_ints(rq_chain *c, const char *param, int64_t out[16]);

/* A node of these inputs (NULL: left out), its first output. */
const char *rq_chain_node(rq_chain *c, const char *onnx, const char *const *in, int n_in);
/* The same with n_out outputs. */
void rq_chain_nodes(rq_chain *c, const char *onnx, const char *const *in, int n_in, const char **out, int n_out);
/* Attributes of the last node. */
void rq_chain_set_int(rq_chain *c, const char *name, int64_t v);
void rq_chain_set_float(rq_chain *c, const char *name, float v);
void rq_chain_set_text(rq_chain *c, const char *name, const char *v);
void rq_chain_set_ints(rq_chain *c, const char *name, const int64_t *v, int n);
void rq_chain_set_texts(rq_chain *c, const char *name, const char *const *v, int n);
void rq_chain_set_floats(rq_chain *c, const char *name, const float *v, int n);
/* Constants: a list or a scalar of int64; a scalar of type d; any. */
const char *rq_chain_const_ints(rq_chain *c, const int64_t *v, int n);
const char *rq_chain_const_int(rq_chain *c, int64_t v);
const char *rq_chain_const(rq_chain *c, rq_dtype d, double v);
const char *rq_chain_tensor(rq_chain *c, const rq_tensor *t);
/* v as elements of type d: itself, or a Cast. */
const char *rq_chain_cast(rq_chain *c, const char *v, rq_dtype d);
rq_dtype rq_chain_dtype(rq_chain *c, const char *v);
/* The element type that the program declares for output i. */
rq_dtype rq_chain_declared(rq_chain *c, int i);
/* A rank, which must be known; 0 after a failure. A size: negative when it is not known. */
int rq_chain_rank(rq_chain *c, const char *v);
int64_t rq_chain_size(rq_chain *c, const char *v, int axis);
/* Item i of a parameter of several values. */
const char *rq_chain_item(rq_chain *c, const rq_mil_arg *arg, int i);
/* A vector of one number per channel, axis 1 of x, in the shape and type in which it meets x. */
const char *rq_chain_channels(rq_chain *c, const char *v, const char *x);
/* strides, dilations, pad_type and pad of a window over n axes as attributes of the last node; pairs per axis in the program, all
 * begins before all ends in ONNX. */
void rq_chain_windows(rq_chain *c, int n);
/* axis in [-rank, rank) made non-negative; fails when it is out of range. */
int rq_chain_axis(rq_chain *c, int64_t axis, int rank);

/* ---- mil_ops_clipped.c: one direction of an lstm whose cell is bounded; gates i, f, o, z ---- */

typedef struct rq_clipped {
    const char *x, *w, *u, *b, *p; /* [s, b, i], [4 h, i], [4 h, h], [4 h] or NULL, [3 h] or NULL */
    const char *state_h, *state_c; /* [b, h] */
    const char *acts[3];           /* of the gates, of the new cell, of the output */
    int64_t h;
    rq_dtype dtype;
    float clip;
} rq_clipped;
/* The last h and c, and all h [s, b, h]. */
void rq_clipped_lstm(rq_chain *c, const rq_clipped *k, const char *out[3]);

/* ---- for formulas ---- */

static inline const char *rq_n1(rq_chain *c, const char *onnx, const char *a)
{
    return rq_chain_node(c, onnx, &a, 1);
}

/* The last operand is made first, whatever order the compiler gives arguments: names and nodes are the same on every machine. */
#define rq_n2(c, onnx, a, b) (rq_chain_push(c, b), rq_chain_push(c, a), rq_chain_pop(c, onnx, 2))
#define rq_n3(c, onnx, a, b, d)                                                                                        \
    (rq_chain_push(c, d), rq_chain_push(c, b), rq_chain_push(c, a), rq_chain_pop(c, onnx, 3))

void rq_chain_push(rq_chain *c, const char *operand);
/* The node of the n operands that were pushed last, the first of them on top. */
const char *rq_chain_pop(rq_chain *c, const char *onnx, int n);

#endif
