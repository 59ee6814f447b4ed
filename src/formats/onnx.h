/* formats/onnx.h — what the ONNX files of this folder share: the numbers of the standard, what is kept aside so that a
 * model is written back as it was, and tensors. Reading is protobuf_scan (bytes) -> protobuf_parse (messages) ->
 * onnx_read (graph); writing is onnx_write. */
#ifndef RQ_FORMATS_ONNX_H
#define RQ_FORMATS_ONNX_H

#include <stdatomic.h>

#include "base/mem.h"
#include "formats/format.h"
#include "formats/protobuf.h"
#include "graph/graph.h"
#include "onnx.pb-c.h"

enum { /* AttributeProto.AttributeType */
       ONNX_ATTR_UNDEFINED,
       ONNX_ATTR_FLOAT,
       ONNX_ATTR_INT,
       ONNX_ATTR_STRING,
       ONNX_ATTR_TENSOR,
       ONNX_ATTR_GRAPH,
       ONNX_ATTR_FLOATS,
       ONNX_ATTR_INTS,
       ONNX_ATTR_STRINGS,
       ONNX_ATTR_TENSORS,
       ONNX_ATTR_GRAPHS,
       ONNX_ATTR_SPARSE_TENSOR,
       ONNX_ATTR_SPARSE_TENSORS,
       ONNX_ATTR_TYPE_PROTO,
       ONNX_ATTR_TYPE_PROTOS,
};

enum {
    /* Newest versions that exist are 14 and 28; newer ones are read, too, with a warning (rq_graph_warnings): they add
     * fields and operators, which are kept or named. Numbers beyond these are damage. */
    ONNX_MAX_IR = 20,
    ONNX_MAX_OPSET = 40
};

/* ---- what is kept aside ---- */

/* One per model, shared by the copies of its graph: everything the `extra` pointers point into. */
typedef struct rq_onnx_kept {
    atomic_int refs;
    rq_arena arena;
} rq_onnx_kept;

/* graph.extra; `model` belongs to the outermost graph. */
typedef struct rq_onnx_graph_extra {
    rq_onnx_kept *kept;
    rq_protobuf_fields model, graph;
    int64_t opset;   /* of the default domain, as read */
    const char *doc; /* of the model; graph.doc is the graph's */
} rq_onnx_graph_extra;

/* rq_node.extra is a rq_protobuf_fields. */

typedef struct rq_onnx_tensor_extra {
    const char *name, *doc; /* of a tensor inside an attribute; doc of an initializer */
    rq_protobuf_fields fields;
} rq_onnx_tensor_extra;

/* rq_attr.extra */
typedef struct rq_onnx_attr_extra {
    int32_t type; /* of an opaque attribute */
    rq_protobuf_fields fields;
    rq_onnx_tensor_extra *tensors; /* [attr.n] of TENSOR and TENSORS; NULL: nothing to say */
} rq_onnx_attr_extra;

/* rq_value.extra */
typedef struct rq_onnx_value_extra {
    rq_protobuf_fields info; /* of ValueInfoProto */
    rq_protobuf_fields type; /* TypeProto as it was, where it says more than an element type and a shape... */
    rq_dtype dtype;          /* ...and what it says of these: not written when they have changed */
    rq_shape shape;
    bool stated;                 /* a type stood in the file */
    bool listed;                 /* a constant that was listed among the inputs (IR versions before 4) */
    rq_onnx_tensor_extra tensor; /* of the initializer */
    rq_protobuf_fields sparse;   /* SparseTensorProto as it was, while the constant is the one read */
    uint64_t sparse_hash;        /* of the dense bytes it stands for */
} rq_onnx_value_extra;

/* ---- onnx_tensor.c ---- */

/* What a TensorProto is read against: the model's folder (NULL: external data is refused), the parsed memory that
 * inline data may be taken from, and the external files opened so far. */
typedef struct rq_onnx_source {
    const char *folder;
    rq_protobuf_mem *mem;
    struct rq_onnx_file *files;
    rq_onnx_kept *kept;
} rq_onnx_source;

/* ONNX's number of an element type, 0 for NONE; and back (NONE for a number that is not one). */
int rq_onnx_dtype_code(rq_dtype d);
rq_dtype rq_onnx_dtype(int code);
/* Newest-needing types: the IR version that introduced the element type. */
int rq_onnx_dtype_ir(rq_dtype d);

/* A TensorProto as a tensor of ours. Sentences say what is wrong with it, the caller says which tensor it is.
 * RQ_BAD_FILE, RQ_UNSUPPORTED (more than RQ_MAX_RANK axes), RQ_IO, RQ_NO_MEMORY. */
rq_status rq_onnx_tensor_read(rq_tensor *out, Onnx__TensorProto *t, rq_onnx_source *src, rq_err *err);
/* The dense form of a SparseTensorProto. */
rq_status rq_onnx_sparse_read(rq_tensor *out, Onnx__SparseTensorProto *t, rq_onnx_source *src, rq_err *err);
/* Fill in type, sizes and data (raw_data points at x's bytes; the rest is in `a`). RQ_NO_MEMORY. */
rq_status rq_onnx_tensor_write(Onnx__TensorProto *t, const rq_tensor *x, rq_arena *a);

/* A hash of the tensor's bytes (FNV-1a, 64 bits). */
uint64_t rq_onnx_tensor_hash(const rq_tensor *t);

/* Bytes as a string of the graph; RQ_BAD_FILE when there is a NUL inside. `what` names the field. */
rq_status rq_onnx_string(const char **out, rq_graph *g, const ProtobufCBinaryData *b, const char *what, rq_err *err);

/* ---- onnx_external.c ---- */

/* The bytes of a tensor that lie in another file, as a view of the mapped file (a copy where they are not aligned). */
rq_status rq_onnx_external_read(rq_tensor *out, rq_dtype d, const rq_shape *shape, const Onnx__TensorProto *t,
                                rq_onnx_source *src, rq_err *err);
/* Their paths, for rq_graph_reads. RQ_NO_MEMORY. */
rq_status rq_onnx_source_list(const rq_onnx_source *src, rq_graph *g);
/* Let go of the source's files; tensors that view them keep them mapped. */
void rq_onnx_source_release(rq_onnx_source *src);

/* ---- onnx_read.c ---- */

typedef struct rq_onnx_reader {
    rq_onnx_source src;
    int64_t ir;
    rq_err *err;
} rq_onnx_reader;

rq_status rq_onnx_read(rq_graph **out, const uint8_t *data, size_t size, const char *folder, rq_err *err);
/* One graph, and the graphs inside it; outer is set, or NULL. */
rq_status rq_onnx_read_graph(rq_onnx_reader *r, rq_graph *g, Onnx__GraphProto *p);

/* ---- onnx_attr.c ---- */
rq_status rq_onnx_attr_read(rq_onnx_reader *r, rq_graph *g, rq_id node, Onnx__AttributeProto *p);

/* ---- onnx_function.c ---- */

/* Replace calls of the model's functions by their bodies, in the message itself, but for those that spell out an operator of ours. RQ_BAD_FILE: recursion, a call that
 * does not fit; RQ_UNSUPPORTED: a function for another opset. */
rq_status rq_onnx_inline(Onnx__ModelProto *model, rq_protobuf_mem *m, rq_err *err);

/* ---- onnx_recurrent.c ---- */

/* DynamicQuantizeGRU or DynamicQuantizeRNN of our domain? */
bool rq_onnx_recurrent_is(const Onnx__NodeProto *n);
/* The function that a call of this kind has, without its overload, in operators of version `opset`. RQ_NO_MEMORY; RQ_BAD_GRAPH: attributes that no cell has. */
rq_status rq_onnx_recurrent_spell(Onnx__FunctionProto **out, const Onnx__NodeProto *n, int64_t opset, rq_arena *a);

/* ---- onnx_recurrent_calls.c ---- */

/* Is `f`, which the node calls, the function that rq_onnx_recurrent_write gives such a node? RQ_NO_MEMORY. */
rq_status rq_onnx_recurrent_ours(bool *ours, const Onnx__NodeProto *call, Onnx__FunctionProto *f);
/* Functions for all such nodes of the model, which spell them out in operators of version `opset`; *ir: the IR version that they need, 0: there are none. RQ_NO_MEMORY. */
rq_status rq_onnx_recurrent_write(Onnx__ModelProto *m, int64_t opset, rq_arena *a, int64_t *ir);

/* ---- onnx_write.c, onnx_build.c ---- */
rq_status rq_onnx_write(const rq_graph *g, const char *path, const rq_save_cfg *cfg, rq_err *err);
/* The same with data of 1 KiB and more moved to `path`.data when the message would exceed `most` bytes. */
rq_status rq_onnx_write_split(const rq_graph *g, const char *path, const rq_save_cfg *cfg, size_t most, rq_err *err);
/* The graph as a message in `a`; tensors point at the graph's bytes. Adds the IR version it needs to *ir. */
rq_status rq_onnx_build(Onnx__ModelProto **out, const rq_graph *g, rq_arena *a, rq_err *err);

#endif
