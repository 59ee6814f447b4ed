/* formats/mil_emit_priv.h — what the parts of writing a graph as a program share:
 *
 *   mil_emit_graph.c      the graph made ready: sizes, Q/DQ, constants, codes
 *   mil_emit_codes.c      its QuantizeLinear and DequantizeLinear simplified; advice
 *   mil_emit.c            names, operations: what rows use; mil_emit_const.c: tensors as values
 *   mil_emit_interface.c  inputs and outputs: shapes, images, casts, labels, the description
 *   mil_emit_labels.c     classifiers
 *   mil_emit_model.c      rows in order, target after target */
#ifndef RQ_FORMATS_MIL_EMIT_PRIV_H
#define RQ_FORMATS_MIL_EMIT_PRIV_H

#include "base/buf.h"
#include "formats/mil_emit.h"
#include "ops/content.h"

/* One axis of an input: what cfg or the graph says. */
typedef struct rq_mil_input {
    const rq_coreml_input *cfg; /* or NULL */
    rq_coreml_axis axis[RQ_MAX_RANK];
} rq_mil_input;

/* A graph that was made ready; the same for every target. */
typedef struct rq_mil_ready {
    rq_graph *g;
    rq_content *known;   /* [n_values] what inference knows */
    int n_known;         /* values when that was found out */
    rq_mil_input *input; /* [g->n_inputs] */
    bool *code;          /* [n_values] 8-bit integers that are codes */
    rq_id *order;        /* live nodes */
    int n_order;
    bool half; /* the graph was one of fp16 */
    rq_buf notes;
    rq_arena a;
} rq_mil_ready;

/* Copy g and make it ready for cfg. RQ_UNSUPPORTED, RQ_NOT_FOUND, RQ_BAD_ARG, what inference returns, RQ_NO_MEMORY; release it
 * anyway. */
rq_status rq_mil_ready_make(rq_mil_ready *r, const rq_graph *g, const rq_coreml_cfg *cfg, rq_err *err);
void rq_mil_ready_release(rq_mil_ready *r);
/* mil_emit_codes.c: Q/DQ as coremltools leaves it of a model that it converts; and notes of what will not run well. */
rq_status rq_mil_ready_codes(rq_mil_ready *r, rq_err *err);
void rq_mil_ready_advise(rq_mil_ready *r);

/* A classifier. */
typedef struct rq_mil_labels {
    const char *const *text; /* [n] */
    int n;
    bool whole;                        /* the texts are whole numbers */
    int at;                            /* the output whose elements they name; -1: no classifier */
    const char *label, *probabilities; /* outputs of the program */
} rq_mil_labels;

/* What rq_mil_emitter.priv is. */
typedef struct rq_mil_emit_state {
    const rq_mil_ready *ready;
    const rq_coreml_cfg *cfg;
    rq_mil_op *pending; /* goes to the block when the next one comes */
    rq_status st;       /* the first failure of this row */
    int32_t wants;      /* of a refusal: the lowest target that can; 0: none */
    char refused[400];  /* and what it is that this one cannot */
    const char **names; /* open addressing */
    uint32_t n_names, mask;
    rq_buf *notes;
    bool deep; /* a value of more axes than Core ML computes with was said */
    rq_mil_function *f;
    const char **output; /* [g->n_outputs] names */
    rq_mil_labels labels;
} rq_mil_emit_state;

static inline rq_mil_emit_state *rq_mil_emit_state_of(const rq_mil_emitter *e)
{
    return e->priv;
}

/* ---- mil_emit.c ---- */

/* A name that Core ML allows and that nothing has yet, made of base and suffix; NULL when memory is out. */
const char *rq_mil_emit_name(rq_mil_emitter *e, const char *base, const char *suffix);
/* Does Core ML allow it as it is? */
bool rq_mil_emit_legal(const char *name);
/* The operation that waits goes to the block. */
rq_status rq_mil_emit_flush(rq_mil_emitter *e);
/* mil_emit_const.c: t as a value of type d (with the sizes `shape`, NULL: its own), in the weight file where it is large. NULL: the status is kept; `what`
 * names it in sentences. */
rq_mil_value *rq_mil_emit_make(rq_mil_emitter *e, const rq_tensor *t, const rq_mil_dtype *d, const rq_shape *shape,
                               const char *what);
/* A type of these sizes. */
rq_mil_type *rq_mil_emit_type(rq_mil_emitter *e, const rq_mil_dtype *d, const rq_shape *shape);
/* An operation that is called `name` and gives it, with the type t. */
rq_mil_op *rq_mil_emit_named(rq_mil_emitter *e, const char *type, const char *name, rq_mil_type *t);
const rq_mil_dtype *rq_mil_emit_floats(const rq_mil_emitter *e); /* fp16 or fp32 */
/* Keep the first failure. */
rq_status rq_mil_emit_keep(rq_mil_emitter *e, rq_status st);
/* Is the node a copy, or a cast between floats that are one type in the program? */
bool rq_mil_emit_is_copy(const rq_mil_emitter *e, const rq_node *n);
/* The constant v as parameter `param` of op. */
rq_status rq_mil_emit_bind_value(rq_mil_emitter *e, rq_mil_op *op, const char *param, rq_mil_value *v);
/* "<what> cannot be expressed ...", as rq_mil_emit_refuse. */
rq_status rq_mil_emit_refuse_text(rq_mil_emitter *e, int32_t since, const char *what);
/* "<what> cannot be expressed for <target>; <can> can", or, where can is 0, "for Core ML". RQ_UNSUPPORTED. */
rq_status rq_mil_refuse(rq_err *err, int32_t target, int32_t can, const char *what);
/* "Conv 'name'", for sentences. */
const char *rq_mil_emit_node_text(const rq_node *n, const rq_graph *g, char *buf, size_t size);
/* A sentence as a line, once. */
void rq_mil_note(rq_buf *notes, const char *fmt, ...) RQ_PRINTF(2, 3);

/* ---- mil_emit_interface.c ---- */

rq_status rq_mil_emit_inputs(rq_mil_emitter *e);
/* Names of outputs are taken before anything else is named. */
rq_status rq_mil_emit_reserve(rq_mil_emitter *e);
rq_status rq_mil_emit_outputs(rq_mil_emitter *e);

/* ---- mil_emit_labels.c ---- */

/* Fill in labels; their names are taken. */
rq_status rq_mil_emit_find_labels(rq_mil_emitter *e);
/* The operation, of the probabilities called `tensor`, and its outputs. */
rq_status rq_mil_emit_classify(rq_mil_emitter *e, const char *tensor);

#endif
