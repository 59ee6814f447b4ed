/* formats/mil_emit.h — a graph as a Core ML program: one row per operator (mil_emit_*.c), in the order of the graph. The way back is
 * mil_graph.h.
 *
 * The graph that rows see was lowered (annotations are QuantizeLinear and DequantizeLinear), has all shapes that inference finds, and
 * no constants that can be computed. Values get names that Core ML allows; int64 is int32, double is fp32 in the program.
 * 8-bit integers are int32, too, but for codes: what QuantizeLinear makes or DequantizeLinear reads, and what only moves it. */
#ifndef RQ_FORMATS_MIL_EMIT_H
#define RQ_FORMATS_MIL_EMIT_H

#include "formats/coreml.h"
#include "graph/graph.h"

typedef struct rq_mil_emitter {
    const rq_graph *g;
    rq_coreml *m;
    rq_mil_program *p; /* &m->program */
    rq_mil_block *b;   /* operations go to its end */
    int32_t target;    /* specificationVersion, 6 .. 10: for what a row may use */
    bool half;         /* floats are fp16 */
    const char **name; /* [values of g] what a value is called in the program; NULL: not there yet */
    rq_arena a;        /* for the time of writing */
    void *priv;        /* of mil_emit.c */
    rq_err *err;
} rq_mil_emitter;

typedef struct rq_mil_emit_row {
    const char *op, *domain; /* of the graph */
    /* What adds the operations; NULL: one operation `mil`, its inputs under the names `params` ("x,y"). */
    rq_status (*emit)(rq_mil_emitter *e, const rq_node *n);
    const char *mil, *params;
    int32_t since; /* lowest target that can, 0: all */
    int32_t
        form; /* for tables: lowest target of any form of it, where `emit` finds that out; -1: it only says why there is none */
} rq_mil_emit_row;

/* One table per family, ended by a row whose op is NULL. */
extern const rq_mil_emit_row rq_mil_emit_quant[], rq_mil_emit_weights[], rq_mil_emit_linear[], rq_mil_emit_elements[],
    rq_mil_emit_activations[], rq_mil_emit_shapes[], rq_mil_emit_slices[], rq_mil_emit_reduce[],
    rq_mil_emit_recurrent[], rq_mil_emit_pools[], rq_mil_emit_norms[], rq_mil_emit_gather[], rq_mil_emit_resize[],
    rq_mil_emit_einsum[], rq_mil_emit_attention[];

/* ---- what rows use. The first failure of a row is kept: those that return a name or an operation return NULL then, which the others
 * take, and all that return a status return that one. So the last status of a row is that of all of it. ---- */

/* What value v is called in the program; a constant is made when it is first asked for (RQ_UNSUPPORTED: a type or number that Core ML
 * has not). */
const char *rq_mil_emit_value(rq_mil_emitter *e, rq_id v);
/* The operation `type` whose (first) output is value `out` of the graph: name and type follow from it. Bind its parameters, then the next. */
rq_mil_op *rq_mil_emit_op(rq_mil_emitter *e, const char *type, rq_id out);
/* The same with an output of its own "<base>_<what>": element type d (NONE: of floats here), sizes (negative: not known). *name is what to bind. */
rq_mil_op *rq_mil_emit_tmp(rq_mil_emitter *e, const char *type, rq_id base, const char *what, rq_dtype d,
                           const rq_shape *shape, const char **name);
/* One more output of op: value `out` of the graph, or one of its own (as rq_mil_emit_tmp; name may be NULL). */
rq_status rq_mil_emit_output(rq_mil_emitter *e, rq_mil_op *op, rq_id out);
rq_status rq_mil_emit_output_tmp(rq_mil_emitter *e, rq_mil_op *op, rq_id base, const char *what, rq_dtype d,
                                 const rq_shape *shape, const char **name);
/* No operation: value `out` is value `in` under another name (`identity` where the graph gives `out` away). */
rq_status rq_mil_emit_alias(rq_mil_emitter *e, rq_id out, rq_id in);
/* Bind a parameter: to a value of the graph, a name, or a new constant (as coremltools has it: a const operation of its own). Again: variadic. */
rq_status rq_mil_emit_bind(rq_mil_emitter *e, rq_mil_op *op, const char *param, rq_id v);
rq_status rq_mil_emit_bind_name(rq_mil_emitter *e, rq_mil_op *op, const char *param, const char *name);
rq_status rq_mil_emit_ints(rq_mil_emitter *e, rq_mil_op *op, const char *param, const int64_t *v, int n);
rq_status rq_mil_emit_int(rq_mil_emitter *e, rq_mil_op *op, const char *param, int64_t v);
rq_status rq_mil_emit_bools(rq_mil_emitter *e, rq_mil_op *op, const char *param, const bool *v, int n);
rq_status rq_mil_emit_bool(rq_mil_emitter *e, rq_mil_op *op, const char *param, bool v);
rq_status rq_mil_emit_float(rq_mil_emitter *e, rq_mil_op *op, const char *param,
                            float v); /* of the type of floats here */
rq_status rq_mil_emit_text(rq_mil_emitter *e, rq_mil_op *op, const char *param, const char *v);
/* Copied, as the element type that its own is in programs (of integers: int32). */
rq_status rq_mil_emit_tensor(rq_mil_emitter *e, rq_mil_op *op, const char *param, const rq_tensor *t);
/* The constant that value v is, also where inference knows its content; NULL: it is computed. Lives as long as the emitter. */
const rq_tensor *rq_mil_emit_const(const rq_mil_emitter *e, rq_id v);
/* The whole numbers of such a constant, and what is known of others: how many, with -1 in *known[i] place of those that are computed
 * (known NULL: all must be); -1: nothing is known, or more than cap. */
int rq_mil_emit_known(const rq_mil_emitter *e, rq_id v, int64_t *out, bool *known, int cap);
/* Shape and element type (as in the graph) of a value. */
static inline const rq_shape *rq_mil_emit_shape(const rq_mil_emitter *e, rq_id v)
{
    return &e->g->values[v].shape;
}
/* The element type that value v has in the program; NULL: none can hold it. */
const rq_mil_dtype *rq_mil_emit_dtype(const rq_mil_emitter *e, rq_id v);
/* "Conv 'name': <what> cannot be expressed[; iOS 18 can]": since 0: no target can. */
rq_status rq_mil_emit_refuse(rq_mil_emitter *e, const rq_node *n, int32_t since, const char *what);
/* A sentence for who converts: "Conv 'name': <what>". Said once per operator and sentence. */
void rq_mil_emit_note(rq_mil_emitter *e, const rq_node *n, const char *what);

#endif
