/* formats/mil_expr.h — small expressions of Core ML operations, for the rows of mil_emit_*.c: a row asks for its inputs, combines them,
 * and says which operation is the last. The first thing that goes wrong is kept in rq_mil_expr.st; all that comes after does nothing, so
 * that rows read like formulas. */
#ifndef RQ_FORMATS_MIL_EXPR_H
#define RQ_FORMATS_MIL_EXPR_H

#include "formats/mil_emit.h"
#include "graph/query.h"

/* A value: of the graph, of the program, or a constant that is made where it is bound. d: F32 stands for the floats of the program
 * whatever they are, S32 for integers, S8 and U8 for codes, BOOL. */
typedef struct rq_mil_expr_val {
    rq_id id;           /* of the graph, or RQ_NONE */
    const char *name;   /* of the program, or NULL */
    const rq_tensor *t; /* a constant, or NULL: the number */
    double num;
    rq_dtype d;
    rq_shape shape; /* sizes may be negative: not known */
} rq_mil_expr_val;

typedef struct rq_mil_expr {
    rq_mil_emitter *e;
    const rq_node *n;
    rq_status st;           /* the first failure */
    int out;                /* the output that the operation gives; -1: a value of its own */
    struct rq_mil_expr *of; /* made by rq_mil_expr_last: where st is */
} rq_mil_expr;

typedef enum rq_mil_expr_kind {
    RQ_MIL_EXPR_END,
    RQ_MIL_EXPR_VAL,
    RQ_MIL_EXPR_INT,
    RQ_MIL_EXPR_INTS,
    RQ_MIL_EXPR_FLOAT,
    RQ_MIL_EXPR_BOOL,
    RQ_MIL_EXPR_BOOLS,
    RQ_MIL_EXPR_TEXT,
    RQ_MIL_EXPR_SKIP, /* left out */
} rq_mil_expr_kind;

/* What a parameter is bound to; a parameter may stand several times (values of concat). */
typedef struct rq_mil_expr_arg {
    const char *param;
    rq_mil_expr_kind kind;
    const rq_mil_expr_val *v;
    int64_t i; /* INT, BOOL */
    float f;
    const int64_t *ints;
    const bool *bools;
    int n;
    const char *text;
} rq_mil_expr_arg;

/* clang-format off */
#define EXPR_V(p, val) { .param = (p), .kind = RQ_MIL_EXPR_VAL, .v = (val) }
#define EXPR_I(p, x) { .param = (p), .kind = RQ_MIL_EXPR_INT, .i = (x) }
#define EXPR_IS(p, x, count) { .param = (p), .kind = RQ_MIL_EXPR_INTS, .ints = (x), .n = (count) }
#define EXPR_F(p, x) { .param = (p), .kind = RQ_MIL_EXPR_FLOAT, .f = (x) }
#define EXPR_B(p, x) { .param = (p), .kind = RQ_MIL_EXPR_BOOL, .i = (x) }
#define EXPR_BS(p, x, count) { .param = (p), .kind = RQ_MIL_EXPR_BOOLS, .bools = (x), .n = (count) }
#define EXPR_T(p, x) { .param = (p), .kind = RQ_MIL_EXPR_TEXT, .text = (x) }
#define EXPR_WHEN(c, ...) ((c) ? (rq_mil_expr_arg) __VA_ARGS__ : (rq_mil_expr_arg) { .kind = RQ_MIL_EXPR_SKIP })
#define EXPR_OP(x, type, d, shape, ...) rq_mil_expr_op(x, type, d, shape, (const rq_mil_expr_arg[]) { __VA_ARGS__, { .kind = RQ_MIL_EXPR_END } })
/* clang-format on */

/* The beginning of a row. */
static inline rq_mil_expr rq_mil_expr_of(rq_mil_emitter *e, const rq_node *n)
{
    return (rq_mil_expr) { .e = e, .n = n, .st = RQ_OK, .out = -1 };
}
/* In place of x: the operation gives output i of the node; a cast is put behind it where the types differ. */
#define rq_mil_expr_last_at(x, i) (&(rq_mil_expr) { .e = (x)->e, .n = (x)->n, .of = (x), .out = (i) })
#define rq_mil_expr_last(x) rq_mil_expr_last_at(x, 0)
static inline bool rq_mil_expr_has(const rq_mil_expr *x, int i)
{
    return rq_node_in(x->n, i) >= 0;
}
static inline bool rq_mil_expr_wants(const rq_mil_expr *x, int i)
{
    return rq_node_out(x->n, i) >= 0;
}

/* "Op 'name': what cannot be expressed"; always an error. */
rq_status rq_mil_expr_refuse(rq_mil_expr *x, int32_t since, const char *what);

/* ---- inputs and constants ---- */

rq_mil_expr_val rq_mil_expr_in(rq_mil_expr *x, int i); /* a missing one is an error */
rq_mil_expr_val rq_mil_expr_value(rq_mil_expr *x, rq_id v);
rq_mil_expr_val rq_mil_expr_num(double v, rq_dtype d); /* a number, no axes */
static inline rq_mil_expr_val rq_mil_expr_f(double v)
{
    return rq_mil_expr_num(v, RQ_DTYPE_F32);
}
/* A constant of this type and shape to be filled in: *data is its elements, cleared; NULL when memory is out. */
rq_mil_expr_val rq_mil_expr_new(rq_mil_expr *x, rq_dtype d, const rq_shape *shape, rq_tensor **t);
/* Input i as a constant; NULL: it is computed, or not there. */
const rq_tensor *rq_mil_expr_const(const rq_mil_expr *x, int i);
/* The whole numbers that input i, or where there is none attribute `name`, is: at most 8; *n -1: neither is there. One that is
 * computed is refused. */
void rq_mil_expr_ints(rq_mil_expr *x, int i, const char *name, int64_t out[RQ_MAX_RANK], int *n);
/* The same, made axes of `rank` in [0, rank). */
void rq_mil_expr_axes(rq_mil_expr *x, int i, const char *name, int rank, int64_t out[RQ_MAX_RANK], int *n);
/* Input i, a constant of one number; `fallback` where it is left out. */
double rq_mil_expr_number(rq_mil_expr *x, int i, double fallback);
/* The same as a whole number; what int32 has not is the nearest that it has. */
int64_t rq_mil_expr_whole(rq_mil_expr *x, int i, int64_t fallback);
/* Is v a constant, or made from constants alone (a weight that is dequantized)? */
bool rq_mil_expr_fixed(const rq_mil_expr *x, rq_id v);
/* All sizes are known, else a refusal. */
bool rq_mil_expr_static(rq_mil_expr *x, const rq_shape *s);
/* Is a size 0? Core ML has no empty tensors: a refusal. */
bool rq_mil_expr_is_empty(rq_mil_expr *x, const rq_shape *s);
/* The shape of output i. */
rq_shape rq_mil_expr_out_shape(const rq_mil_expr *x, int i);
int64_t rq_mil_expr_opset(const rq_mil_expr *x);

/* ---- operations ---- */

/* Any operation of one output. */
rq_mil_expr_val rq_mil_expr_op(rq_mil_expr *x, const char *type, rq_dtype d, const rq_shape *shape,
                               const rq_mil_expr_arg *args);
/* Any operation of several: out[n] have types and shapes, and get their names; id[i] is an output of the node, or RQ_NONE. */
void rq_mil_expr_op_many(rq_mil_expr *x, const char *type, rq_mil_expr_val *out, const rq_id *id, int n,
                         const rq_mil_expr_arg *args);
rq_mil_expr_val rq_mil_expr_un(rq_mil_expr *x, const char *type,
                               rq_mil_expr_val a); /* type(x=a), of the shape and type of a */
rq_mil_expr_val rq_mil_expr_bin(rq_mil_expr *x, const char *type, rq_mil_expr_val a,
                                rq_mil_expr_val b); /* type(x=a, y=b); comparisons are bool */
rq_mil_expr_val rq_mil_expr_cast(rq_mil_expr *x, rq_mil_expr_val a, rq_dtype d); /* a itself when it is of that type */
rq_mil_expr_val rq_mil_expr_select(rq_mil_expr *x, rq_mil_expr_val c, rq_mil_expr_val a, rq_mil_expr_val b);
/* To these sizes; one may be unknown. */
rq_mil_expr_val rq_mil_expr_reshape(rq_mil_expr *x, rq_mil_expr_val a, const rq_shape *to);
rq_mil_expr_val rq_mil_expr_reshape_dims(rq_mil_expr *x, rq_mil_expr_val a, int rank, const int64_t *dim);
rq_mil_expr_val rq_mil_expr_transpose(rq_mil_expr *x, rq_mil_expr_val a, const int64_t *perm);
/* Axes in [0, rank). */
rq_mil_expr_val rq_mil_expr_reduce(rq_mil_expr *x, const char *type, rq_mil_expr_val a, const int64_t *axes, int n,
                                   bool keep);
rq_mil_expr_val rq_mil_expr_matmul(rq_mil_expr *x, rq_mil_expr_val a, rq_mil_expr_val b, bool turn_a, bool turn_b);
rq_mil_expr_val rq_mil_expr_concat(rq_mil_expr *x, const rq_mil_expr_val *v, int n, int axis);
rq_mil_expr_val rq_mil_expr_softmax(rq_mil_expr *x, rq_mil_expr_val a, int64_t axis);
/* a[begin:end:stride] of one axis, 0 <= begin < end <= size, or of all axes by the arrays (masks may be NULL). */
rq_mil_expr_val rq_mil_expr_slice(rq_mil_expr *x, rq_mil_expr_val a, int axis, int64_t begin, int64_t end);
/* Elements of a along an axis at indices that are not negative; `out` is the shape. */
rq_mil_expr_val rq_mil_expr_gather(rq_mil_expr *x, rq_mil_expr_val a, rq_mil_expr_val at, int axis,
                                   const rq_shape *out);
/* The elements of x in another type for operators that take fewer: floats for those of floats alone, int32 for 8 and 16 bits
 * and bools. */
rq_mil_expr_val rq_mil_expr_float(rq_mil_expr *x, rq_mil_expr_val a);
rq_mil_expr_val rq_mil_expr_plain(rq_mil_expr *x, rq_mil_expr_val a); /* float or int32 */
/* The same for operators that only move elements: codes from iOS 17 on. */
rq_mil_expr_val rq_mil_expr_movable(rq_mil_expr *x, rq_mil_expr_val a);
/* The scalar or vector a as a tensor that `like`'s axis fits. */
rq_mil_expr_val rq_mil_expr_along(rq_mil_expr *x, rq_mil_expr_val a, int rank, int axis);
/* Give a as output 0: an identity or a cast. */
void rq_mil_expr_give(rq_mil_expr *x, rq_mil_expr_val a);

/* ---- mil_emit_activations.c, mil_emit_elements.c ---- */

/* The activation that a fused operator or a recurrent layer names: "Relu", "Tanh" ..., with p[n] parameters. */
rq_mil_expr_val rq_mil_expr_activation(rq_mil_expr *x, const char *name, const float *p, int n, rq_mil_expr_val a);
rq_mil_expr_val rq_mil_expr_log(rq_mil_expr *x, rq_mil_expr_val a);

#endif
