/* requant/graph.h — a network in memory: read with rq_load, changed by passes, written with rq_save.
 * Not thread-safe; different graphs are independent. */
#ifndef REQUANT_GRAPH_H
#define REQUANT_GRAPH_H

#include <stdio.h>

#include <requant/qparams.h>
#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_graph rq_graph;

/* An empty graph; yours until rq_graph_destroy. RQ_NO_MEMORY. */
RQ_API rq_status rq_graph_create(rq_graph **out);
/* A deep copy, but constants are shared (they are never written in place). */
RQ_API rq_status rq_graph_copy(rq_graph **out, const rq_graph *g);
RQ_API void rq_graph_destroy(rq_graph *g);

/* Read a model; the content, not the suffix, names the format. Constants may be views of the mapped
 * file: it must not be changed while the graph lives.
 * RQ_IO, RQ_BAD_FILE, RQ_BAD_GRAPH, RQ_UNSUPPORTED, RQ_NO_MEMORY; the sentence names the file. */
RQ_API rq_status rq_load(rq_graph **out, const char *path, rq_err *err);
/* The same from bytes in memory, which are copied. External data is refused. */
RQ_API rq_status rq_load_memory(rq_graph **out, const void *data, size_t size, rq_err *err);
/* Write to `path` (suffix names the format), whole or not at all. An existing file is replaced only by
 * a complete one. */
RQ_API rq_status rq_save(const rq_graph *g, const char *path, rq_err *err);
/* Would rq_save take this path: its suffix names a format, and a file can be written there? Changes nothing. For programs that compute
 * long before they save. RQ_UNSUPPORTED, RQ_IO, RQ_NO_MEMORY; the sentence names the path. */
RQ_API rq_status rq_save_check(const char *path, rq_err *err);

/* How a quantized graph is spelled in a file. */
typedef enum rq_spelling {
    RQ_SPELLING_KEEP,      /* as it was read; what rq_ptq chose: as RQ_SPELLING_QDQ */
    RQ_SPELLING_QDQ,       /* QuantizeLinear and DequantizeLinear around ordinary operators */
    RQ_SPELLING_QOPERATOR, /* QLinearConv and its kin where there is one; the others as QDQ */
} rq_spelling;

typedef struct rq_save_cfg {
    rq_spelling spelling;
    int64_t opset; /* of ONNX; 0: as low as it was, and as the annotations allow */
} rq_save_cfg;
/* As it was read, in the lowest opset that will do. Never fails. */
RQ_API rq_save_cfg rq_save_defaults(void);
/* rq_save, spelled as cfg (NULL: the defaults) says, whoever quantized the graph. g is not changed, and the file computes
 * the same in integers either way. RQ_UNSUPPORTED: cfg->opset is older than the graph, or than its annotations need. */
RQ_API rq_status rq_save_as(const rq_graph *g, const char *path, const rq_save_cfg *cfg, rq_err *err);

/* Are there constants of g in that file, which is not the model's own (external data)? For programs that are about to replace it. A
 * copy of a graph does not know. */
RQ_API bool rq_graph_reads(const rq_graph *g, const char *path);

/* An input, output or other value as a user sees it. Strings live as long as the graph is unchanged. */
typedef struct rq_value_info {
    const char *name;
    rq_dtype dtype;
    rq_shape shape;
    const rq_qparams *quant; /* NULL: not quantized */
} rq_value_info;

/* What is fed and what comes out, in the file's order; i from 0 to one less than the number. Inputs that have a default value count. */
RQ_API int rq_graph_n_inputs(const rq_graph *g);
RQ_API int rq_graph_n_outputs(const rq_graph *g);
RQ_API rq_value_info rq_graph_input(const rq_graph *g, int i);
RQ_API rq_value_info rq_graph_output(const rq_graph *g, int i);
/* Name of a symbolic size (<= -2) of this graph's shapes, "?" when it has none. */
RQ_API const char *rq_graph_dim_name(const rq_graph *g, int64_t dim);

/* What `requant info` prints. */
typedef struct rq_graph_summary {
    int n_nodes;
    int64_t n_parameters;    /* elements of float constants (or codes standing for them) */
    int64_t parameter_bytes; /* as stored */
    int n_quantized_values;  /* annotated, after raising */
    bool is_quantized;       /* holds Q/DQ pairs or integer operators */
    int64_t opset, ir_version;
    const char *producer;
} rq_graph_summary;
/* Fill *out; strings live as long as g. RQ_NO_MEMORY. */
RQ_API rq_status rq_graph_summarize(const rq_graph *g, rq_graph_summary *out, rq_err *err);
/* Operators by name with their counts, most frequent first; *ops holds *n entries to give back with rq_free. Names live
 * as long as the graph. RQ_NO_MEMORY. */
typedef struct rq_op_count {
    const char *domain, *op;
    int count;
    bool runs; /* false: it is kept and written back, but no session can run it */
} rq_op_count;
RQ_API rq_status rq_graph_count_ops(const rq_graph *g, rq_op_count **ops, int *n);
/* Give back memory the library handed out. NULL is fine. */
RQ_API void rq_free(void *p);

/* What a user should know about the model before it is used: versions newer than those implemented. Sentences are
 * added to out; rq_notes_release gives them back. RQ_NO_MEMORY. */
struct rq_notes;
RQ_API rq_status rq_graph_warnings(const rq_graph *g, struct rq_notes *out);

/* The whole graph as text, one line per value and node. */
RQ_API rq_status rq_graph_print(const rq_graph *g, FILE *to);

#ifdef __cplusplus
}
#endif
#endif
