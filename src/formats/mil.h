/* formats/mil.h — a Core ML program in memory: functions of blocks of operations that name each other's values, as in the
 * file, names and order kept. See docs/coreml-package.md.
 *
 * Everything lives in the program's memory and goes with it. To change a program, build new parts with mil_build and put
 * their pointers in place of others; types and values are never changed once they are made, since several places may
 * share them. What the file says beyond these structures hangs at `as_read`, the message it was, and is written back. */
#ifndef RQ_FORMATS_MIL_H
#define RQ_FORMATS_MIL_H

#include "formats/mil_dtype.h"
#include "formats/protobuf.h"

typedef struct rq_mil_type rq_mil_type;
typedef struct rq_mil_value rq_mil_value;
typedef struct rq_mil_block rq_mil_block;

typedef struct rq_mil_dim {
    bool known; /* else any size (variadic: any number of axes) */
    bool variadic;
    uint64_t size;
} rq_mil_dim;

typedef enum rq_mil_kind {
    RQ_MIL_TENSOR,
    RQ_MIL_LIST,       /* of part[0], length */
    RQ_MIL_TUPLE,      /* of part[0..n) */
    RQ_MIL_DICTIONARY, /* part[0] to part[1] */
    RQ_MIL_STATE       /* that holds a part[0] */
} rq_mil_kind;

struct rq_mil_type {
    rq_mil_kind kind;
    const rq_mil_dtype *dtype; /* TENSOR */
    int64_t rank;              /* -1: unknown */
    rq_mil_dim *dim;           /* [rank] */
    rq_mil_dim length;         /* LIST */
    rq_mil_type **part;
    int n_parts;
    const void *as_read; /* Coreml__ValueType, NULL when made here */
};

typedef enum rq_mil_value_kind {
    RQ_MIL_IMMEDIATE, /* a tensor that stands in the program */
    RQ_MIL_BLOB,      /* a tensor in a weight file */
    RQ_MIL_VALUES,    /* a list or tuple: value[0..n) */
    RQ_MIL_PAIRS      /* a dictionary: value[2i] to value[2i+1] */
} rq_mil_value_kind;

/* Called when a weight file is written, for weights that are made only then: hand over all bytes of the packed tensor, in as
 * many pieces as you like, by rq_milblob_write(w, ...). */
struct rq_milblob_writer;
typedef rq_status (*rq_mil_produce)(void *arg, struct rq_milblob_writer *w, rq_err *err);

struct rq_mil_value {
    rq_mil_value_kind kind;
    rq_mil_type *type;
    /* IMMEDIATE: n elements as type->dtype->store has them: float, int32_t, uint8_t (bools), int64_t, double, or packed bytes;
     * strings: const char *[n]. data is not NULL, aligned for its elements. A BLOB made here has its packed bytes here, too,
     * or else `produce`. */
    const void *data;
    uint64_t n;
    uint64_t bytes;   /* of data; 0 for strings */
    const char *file; /* BLOB that was read: "@model_path/weights/weight.bin" */
    uint64_t offset;
    rq_mil_produce produce;
    void *produce_arg;
    rq_mil_value **value; /* VALUES: n, PAIRS: 2n */
    const void *as_read;  /* Coreml__Value */
};

/* A value with a name: attributes. */
typedef struct rq_mil_attr {
    const char *name;
    rq_mil_value *value;
} rq_mil_attr;

/* A name with a type: inputs of functions and blocks, outputs of operations. */
typedef struct rq_mil_var {
    const char *name;
    rq_mil_type *type;
    const void *as_read; /* Coreml__NamedValueType */
} rq_mil_var;

/* What a parameter is bound to: another value's name, or a value of its own. */
typedef struct rq_mil_binding {
    const char *name;    /* or NULL */
    rq_mil_value *value; /* or NULL */
    const void *as_read; /* Coreml__Binding */
} rq_mil_binding;

typedef struct rq_mil_arg {
    const char *param; /* "x", "values" */
    rq_mil_binding *binding;
    int n, cap;          /* more than one: a variadic parameter */
    const void *as_read; /* Coreml__Argument */
} rq_mil_arg;

typedef struct rq_mil_op {
    const char *type; /* "conv" */
    rq_mil_arg *args;
    int n_args, cap_args;
    rq_mil_var *outputs;
    int n_outputs, cap_outputs;
    rq_mil_block **blocks;
    int n_blocks, cap_blocks;
    rq_mil_attr *attrs;
    int n_attrs, cap_attrs;
    const void *as_read; /* Coreml__Operation */
} rq_mil_op;

struct rq_mil_block {
    rq_mil_var *inputs;
    int n_inputs, cap_inputs;
    const char **outputs;
    int n_outputs, cap_outputs;
    rq_mil_op **ops; /* each uses only what stands before it */
    int n_ops, cap_ops;
    rq_mil_attr *attrs;
    int n_attrs, cap_attrs;
    const void *as_read; /* Coreml__Block */
};

/* A block for one opset: "CoreML7". */
typedef struct rq_mil_special {
    const char *opset;
    rq_mil_block *block;
} rq_mil_special;

typedef struct rq_mil_function {
    const char *name; /* "main" */
    rq_mil_var *inputs;
    int n_inputs, cap_inputs;
    const char *opset; /* of the block that counts */
    rq_mil_special *special;
    int n_special, cap_special;
    rq_mil_attr *attrs;
    int n_attrs, cap_attrs;
    rq_mil_block *block; /* special[] of `opset` */
    const void *as_read; /* Coreml__Function */
} rq_mil_function;

typedef struct rq_mil_program {
    int64_t version; /* 1 */
    rq_mil_function **functions;
    int n_functions, cap_functions;
    rq_mil_attr *attrs;
    int n_attrs, cap_attrs;
    const void *as_read; /* Coreml__Program */
    rq_arena arena;
} rq_mil_program;

enum { RQ_MIL_MAX_RANK = 16 }; /* of a tensor in a program; the graph takes RQ_MAX_RANK */

void rq_mil_release(rq_mil_program *p);

/* ---- mil_read.c ---- */

/* Read a Coreml__Program; it must live as long as p. Shapes, element counts and kinds are checked; what only the whole
 * program shows is rq_mil_check's. RQ_BAD_FILE: the sentence names function and operation. */
rq_status rq_mil_read(rq_mil_program *p, const void *message, rq_err *err);

/* ---- mil_check.c ---- */

/* Names: each used after it was defined, defined once where it is seen; every output is there. RQ_BAD_FILE. */
rq_status rq_mil_check(const rq_mil_program *p, rq_err *err);

/* ---- mil_write.c ---- */

/* Where a blob is in the file that is being written: called for every BLOB, in order of the program. */
typedef rq_status (*rq_mil_place)(void *arg, const rq_mil_value *v, const char **file, uint64_t *offset, rq_err *err);
/* The program as a Coreml__Program in `a`, which points into p; blobs are where `place` says (NULL: where they were
 * read). */
rq_status rq_mil_write(void **message, const rq_mil_program *p, rq_mil_place place, void *arg, rq_arena *a,
                       rq_err *err);

/* ---- mil_build.c: finding and making ---- */

rq_mil_function *rq_mil_function_find(const rq_mil_program *p, const char *name); /* NULL: none */
rq_mil_arg *rq_mil_op_arg(const rq_mil_op *op, const char *param);
rq_mil_value *rq_mil_op_attr(const rq_mil_op *op, const char *name);
/* Attribute `name` of an operation as a string; "" where there is none. */
const char *rq_mil_op_name(const rq_mil_op *op);
/* The only element of a scalar string; NULL: it is something else. */
const char *rq_mil_value_text(const rq_mil_value *v);
/* Called for every value that stands in the program (those inside lists and dictionaries are part of one), and for every
 * operation, in order, blocks within blocks included; an error ends the walk. */
typedef rq_status (*rq_mil_value_fn)(void *arg, const rq_mil_value *v, rq_err *err);
typedef rq_status (*rq_mil_op_fn)(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err);
rq_status rq_mil_each_value(const rq_mil_program *p, rq_mil_value_fn fn, void *arg, rq_err *err);
rq_status rq_mil_each_op(const rq_mil_program *p, rq_mil_op_fn fn, void *arg, rq_err *err);
/* Elements of a tensor type; 0 and *known false where a size is not known. */
uint64_t rq_mil_type_count(const rq_mil_type *t, bool *known);
/* "fp32[1,3,?]", "list(int32, 4)"; returns buf. */
const char *rq_mil_type_text(const rq_mil_type *t, char *buf, size_t n);

/* All of these return NULL when memory is out. Names and data are copied. */
rq_mil_type *rq_mil_tensor_type(rq_mil_program *p, const rq_mil_dtype *dtype, int rank, const int64_t *dim);
/* data as rq_mil_value.data says; strings: const char *const *. */
rq_mil_value *rq_mil_immediate(rq_mil_program *p, rq_mil_type *type, const void *data);
rq_mil_value *rq_mil_text(rq_mil_program *p, const char *text);
rq_mil_value *rq_mil_ints(rq_mil_program *p, const int32_t *v, int n); /* a vector */
rq_mil_value *rq_mil_int(rq_mil_program *p, int32_t v);                /* scalars */
rq_mil_value *rq_mil_bool(rq_mil_program *p, bool v);
rq_mil_value *rq_mil_float(rq_mil_program *p, float v);
/* A tensor for the weight file: packed bytes that outlive the program (not copied), or made when it is written. */
rq_mil_value *rq_mil_blob(rq_mil_program *p, rq_mil_type *type, const void *data);
rq_mil_value *rq_mil_blob_produced(rq_mil_program *p, rq_mil_type *type, rq_mil_produce produce, void *arg);

/* An operation with attribute `name`; then its parts, false when memory is out. */
rq_mil_op *rq_mil_op_make(rq_mil_program *p, const char *type, const char *name);
bool rq_mil_op_bind(rq_mil_program *p, rq_mil_op *op, const char *param, const char *value_name); /* again: variadic */
bool rq_mil_op_bind_value(rq_mil_program *p, rq_mil_op *op, const char *param, rq_mil_value *value);
bool rq_mil_op_set_attr(rq_mil_program *p, rq_mil_op *op, const char *name, rq_mil_value *value);
bool rq_mil_op_output(rq_mil_program *p, rq_mil_op *op, const char *name, rq_mil_type *type);
/* Put op before ops[at] (at == n_ops: at the end). */
bool rq_mil_block_insert(rq_mil_program *p, rq_mil_block *b, int at, rq_mil_op *op);
bool rq_mil_block_output(rq_mil_program *p, rq_mil_block *b, const char *name);
rq_mil_function *rq_mil_function_make(rq_mil_program *p, const char *name, const char *opset);
bool rq_mil_function_input(rq_mil_program *p, rq_mil_function *f, const char *name, rq_mil_type *type);

#endif
