/* graph/graph.h — the one graph in the middle: values, nodes, attributes; ids, not pointers.
 *
 * A graph is arrays. A value is made by one node, or is an input, a constant, or (in a subgraph) captured
 * from outside; a node lists value ids. Removing marks a slot dead (node.op == NULL, value.kind ==
 * RQ_VALUE_DEAD); ids never move, so passes may hold them while they edit. Walk nodes with rq_order.
 *
 * Quantization is an annotation: value.quant names an entry of graph.quants. The value stays a tensor
 * of reals in the eyes of every operator; the annotation says that it is *stored* as codes, and which.
 * Values with the same entry share parameters. A value whose consumer wants other parameters goes
 * through an explicit Requantize node (domain "requant"): identity on reals, annotated output.
 * A constant with an annotation holds either reals (not rounded yet) or the codes themselves. */
#ifndef RQ_GRAPH_GRAPH_H
#define RQ_GRAPH_GRAPH_H

#include "base/mem.h"
#include "graph/words.h"
#include "requant/graph.h"
#include "requant/qparams.h"
#include "requant/tensor.h"

typedef int32_t rq_id;
enum { RQ_NONE = -1 };

typedef enum rq_value_kind {
    RQ_VALUE_DEAD,
    RQ_VALUE_INPUT,    /* fed by the caller; `constant` may hold its default */
    RQ_VALUE_CONST,    /* `constant` holds it */
    RQ_VALUE_NODE,     /* made by node `producer` */
    RQ_VALUE_CAPTURED, /* of the enclosing graph: `outer` there */
} rq_value_kind;

/* Is a constant changed by training? AUTO: where its operator says so (rq_op.parameters). */
typedef enum rq_trainable { RQ_TRAINABLE_AUTO, RQ_TRAINABLE_YES, RQ_TRAINABLE_NO } rq_trainable;

typedef struct rq_value {
    const char *name; /* "" when nameless; unique in its graph otherwise; any bytes but NUL */
    rq_value_kind kind;
    rq_dtype dtype;         /* of the reals (or of an ordinary integer tensor); NONE: not known */
    rq_shape shape;         /* as far as known */
    rq_id producer;         /* node, for RQ_VALUE_NODE */
    rq_id outer;            /* value of the enclosing graph, for RQ_VALUE_CAPTURED */
    rq_id quant;            /* entry of graph.quants, or RQ_NONE */
    rq_tensor constant;     /* RQ_VALUE_CONST, or the default of an input; dtype NONE otherwise */
    rq_trainable trainable; /* of a constant */
    bool pixels; /* numbers of pixels, of which rq_ends knows the scale: made by rq_ends_fold, in memory only */
    const char *doc;
    const void *extra; /* what the format keeps to write the value back as it was; see formats */
} rq_value;

/* One annotation, shared by every value that names it. */
typedef struct rq_quant {
    rq_qparams q;
    rq_id derived_x, derived_w; /* a bias: scale[c] = scale(x) * scale(w)[c] of these values; else RQ_NONE */
    const char *method;         /* who chose it: "minmax", "percentile 99.99", "given", "file" ...; never NULL */
    bool pair;      /* of a constant: the file keeps its reals, behind QuantizeLinear and DequantizeLinear */
    bool dedicated; /* each reader gets a QuantizeLinear and DequantizeLinear of its own in the file */
    const char *scale_name, *zero_point_name; /* in the file it came from or goes to; NULL: made from the value's */
} rq_quant;

typedef enum rq_attr_type {
    RQ_ATTR_NONE,
    RQ_ATTR_FLOAT,
    RQ_ATTR_INT,
    RQ_ATTR_STRING,
    RQ_ATTR_TENSOR,
    RQ_ATTR_GRAPH,
    RQ_ATTR_FLOATS,
    RQ_ATTR_INTS,
    RQ_ATTR_STRINGS,
    RQ_ATTR_TENSORS,
    RQ_ATTR_GRAPHS,
    RQ_ATTR_OPAQUE, /* kept to be written back (sparse tensors, types): `extra` of the format */
} rq_attr_type;

typedef struct rq_bytes {
    const char *p; /* NUL-terminated after n bytes */
    size_t n;
    rq_word word; /* that it is */
} rq_bytes;

static inline rq_bytes rq_bytes_of(const char *p, size_t n)
{
    return (rq_bytes) { p, n, rq_word_of(p) };
}

typedef struct rq_attr {
    const char *name;
    rq_word word; /* that the name is */
    rq_attr_type type;
    int n; /* entries of a list; 1 otherwise */
    union {
        float f;
        int64_t i;
        rq_bytes s;
        rq_tensor *t;  /* [n] */
        rq_graph **g;  /* [n], owned */
        float *floats; /* [n] */
        int64_t *ints; /* [n] */
        rq_bytes *strings;
    };
    const char *ref; /* inside a function body: the attribute of the call that it stands for; or NULL */
    const char *doc;
    const void *extra;
} rq_attr;

typedef struct rq_node {
    const char *name;   /* "" when nameless */
    const char *op;     /* "Conv"; NULL: removed */
    const char *domain; /* "" for the default one */
    const char *overload;
    rq_id *in;  /* [n_in] values; RQ_NONE: omitted */
    rq_id *out; /* [n_out] values; RQ_NONE: not wanted */
    int n_in, n_out, cap_in;
    rq_attr *attr;
    int n_attr, cap_attr;
    const struct rq_op *row; /* bound by ops/bind (rq_ops_bind); NULL: no row has this operator */
    const char *doc;
    const void *extra;
} rq_node;

typedef struct rq_opset {
    const char *domain;
    int64_t version;
} rq_opset;

typedef struct rq_pair {
    const char *key, *value;
} rq_pair;

struct rq_graph {
    rq_arena names; /* every string and id array of the graph */
    const char *name, *doc;
    rq_value *values;
    int n_values, cap_values;
    rq_node *nodes;
    int n_nodes, cap_nodes;
    rq_quant *quants;
    int n_quants, cap_quants;
    rq_id *inputs, *outputs;
    int n_inputs, n_outputs, cap_inputs, cap_outputs;
    rq_graph *outer; /* the enclosing graph of a subgraph; borrowed */
    /* of the whole model; empty in subgraphs */
    rq_opset *opsets;
    int n_opsets, cap_opsets;
    rq_pair *meta;
    int n_meta, cap_meta;
    int64_t ir_version, model_version;
    rq_dtype real; /* F16, BF16: f32 here stands for that, and is written so (ops/widen.h); NONE: as it stands */
    const char *producer, *producer_version, *domain;
    const char **files; /* [n_files] others than its own that it was read from; a copy has none */
    int n_files;
    const char *format; /* name of the format row it was read with; "" when built */
    /* what the format keeps to write back what the graph does not model; shared by copies */
    void *extra;
    void (*extra_ref)(void *extra);
    void (*extra_unref)(void *extra);
    char **symbols; /* names of symbolic sizes: dim -2-k is symbols[k]; kept by the outermost graph */
    int n_symbols, cap_symbols;
    int32_t *symbol_slot; /* open addressing: hash of a name -> symbol; -1: empty */
    uint32_t symbol_mask;
    struct rq_own *own;          /* operators and observers of the program; held; of the outermost graph */
    struct rq_name_index *index; /* name -> value id, made on demand */
};

/* ---- make, copy, destroy (create/copy/destroy are public: requant/graph.h) ---- */

/* Exchange the contents of two graphs: a pass works on a copy, and swaps when it went well. */
void rq_graph_swap(rq_graph *a, rq_graph *b);

/* A string that lives as long as the graph; NULL when memory is out. */
const char *rq_graph_str(rq_graph *g, const char *s);
const char *rq_graph_strn(rq_graph *g, const char *s, size_t n);

/* ---- values ---- */

/* Add a value of `kind`; name is copied ("" or NULL: nameless). *id on success.
 * RQ_BAD_GRAPH: the name is taken. RQ_NO_MEMORY. */
rq_status rq_graph_add_value(rq_graph *g, rq_id *id, rq_value_kind kind, const char *name, rq_dtype d,
                             const rq_shape *shape, rq_err *err);
/* Add a constant; takes a share of t. */
rq_status rq_graph_add_const(rq_graph *g, rq_id *id, const char *name, const rq_tensor *t, rq_err *err);
/* The value of that name, or RQ_NONE. */
rq_id rq_graph_find(const rq_graph *g, const char *name);
/* A name not in use: base, or base_1, base_2 ... NULL: memory is out. */
const char *rq_graph_fresh_name(rq_graph *g, const char *base);
rq_status rq_graph_rename(rq_graph *g, rq_id value, const char *name, rq_err *err);
/* Mark dead; the caller has seen to it that nobody uses it. */
void rq_graph_remove_value(rq_graph *g, rq_id value);
/* The symbol of that name as a dim (<= -2), made if new; RQ_DIM_UNKNOWN when memory is out. */
int64_t rq_graph_symbol(rq_graph *g, const char *name);
/* Name of symbol `dim` (<= -2), or "?". */
const char *rq_graph_symbol_name(const rq_graph *g, int64_t dim);

/* ---- nodes ---- */

/* Add a node with these values as inputs and outputs; outputs must be RQ_VALUE_NODE values without a
 * producer (or RQ_NONE), and get this one. *id on success. */
rq_status rq_graph_add_node(rq_graph *g, rq_id *id, const char *op, const char *domain, const char *name,
                            const rq_id *in, int n_in, const rq_id *out, int n_out, rq_err *err);
/* Remove a node and its output values (which nobody may use any more); its inputs stay. */
void rq_graph_remove_node(rq_graph *g, rq_id node);
/* Put `value` at input i of node. */
rq_status rq_graph_set_input(rq_graph *g, rq_id node, int i, rq_id value);
/* Every use of `from` (node inputs, graph outputs, captures of subgraphs) becomes a use of `to`, except in `except`
 * (a node, or RQ_NONE). */
void rq_graph_replace_uses(rq_graph *g, rq_id from, rq_id to, rq_id except);
/* How many uses `value` has: node inputs, captures and graph outputs. When users is not NULL, the node ids go
 * there (up to cap; a node with two uses stands twice; a graph output counts but is not listed). */
int rq_graph_uses(const rq_graph *g, rq_id value, rq_id *users, int cap);
bool rq_graph_is_output(const rq_graph *g, rq_id value);
/* Drop nodes whose outputs nobody uses, and constants nobody uses. Returns how many nodes went. */
int rq_graph_prune(rq_graph *g);

/* Uses per value, all at once: count[value] = uses (captures and outputs included); caller frees with
 * rq_mem_free; NULL: memory is out. */
int32_t *rq_graph_use_counts(const rq_graph *g);

/* Live node ids such that each comes after what it needs; among those ready, file order. Returns an array the caller
 * frees with rq_mem_free and *n; captures of subgraphs count as inputs. RQ_BAD_GRAPH: a cycle (named). */
rq_status rq_order(const rq_graph *g, rq_id **order, int *n, rq_err *err);

/* Visit the outer values that the subgraphs of node capture (all depths). */
typedef void (*rq_capture_fn)(void *arg, rq_id outer_value);
void rq_graph_each_capture(const rq_graph *g, const rq_node *node, rq_capture_fn fn, void *arg);

/* ---- attributes (graph/attr.c) ---- */
/* Read by the words that name them (graph/words.h), for operators compare no strings while they run; rq_attr_named, too, finds names that are no
 * words. */
const rq_attr *rq_attr_find(const rq_node *n, rq_word name);
const rq_attr *rq_attr_named(const rq_node *n, const char *name);
/* Graphs that an attribute holds, in g[]: a body, the bodies of a list, or none. */
static inline int rq_attr_bodies(const rq_attr *a)
{
    return a->type == RQ_ATTR_GRAPH || a->type == RQ_ATTR_GRAPHS ? a->n : 0;
}
bool rq_attr_any_body(const rq_node *n); /* does one of the node's attributes hold a graph */
int64_t rq_attr_int(const rq_node *n, rq_word name, int64_t fallback);
float rq_attr_float(const rq_node *n, rq_word name, float fallback);
const char *rq_attr_string(const rq_node *n, rq_word name, const char *fallback);
/* The word that a string is, RQ_WORD_NONE for any other string. */
rq_word rq_attr_word(const rq_node *n, rq_word name, rq_word fallback);
/* The list and *count; NULL and 0 when absent. */
const int64_t *rq_attr_ints(const rq_node *n, rq_word name, int *count);
const float *rq_attr_floats(const rq_node *n, rq_word name, int *count);
const rq_tensor *rq_attr_tensor(const rq_node *n, rq_word name); /* NULL when absent */
rq_graph *rq_attr_graph(const rq_node *n, rq_word name);         /* NULL when absent */
/* What an attribute that was found says (NULL: none was). */
int64_t rq_attr_as_int(const rq_attr *a, int64_t fallback);
float rq_attr_as_float(const rq_attr *a, float fallback);
const char *rq_attr_as_string(const rq_attr *a, const char *fallback);
const int64_t *rq_attr_as_ints(const rq_attr *a, int *count);
const float *rq_attr_as_floats(const rq_attr *a, int *count);
const rq_tensor *rq_attr_as_tensor(const rq_attr *a);
/* Set or replace. RQ_NO_MEMORY. */
rq_status rq_attr_set_int(rq_graph *g, rq_id node, const char *name, int64_t v);
rq_status rq_attr_set_float(rq_graph *g, rq_id node, const char *name, float v);
rq_status rq_attr_set_ints(rq_graph *g, rq_id node, const char *name, const int64_t *v, int n);
rq_status rq_attr_set_string(rq_graph *g, rq_id node, const char *name, const char *v);
rq_status rq_attr_set_tensor(rq_graph *g, rq_id node, const char *name, const rq_tensor *t);
void rq_attr_remove(rq_graph *g, rq_id node, const char *name);
void rq_attr_release(rq_attr *a); /* tensors and graphs that it holds; it is of type NONE then */
/* A deep copy of `src` at the end of the node's list. Its subgraphs belong to g; what they capture keeps its ids (graph/copy.c). */
rq_status rq_attr_copy(rq_graph *g, rq_id node, const rq_attr *src);
/* A zeroed attribute of that name at the end of the node's list, for readers to fill; NULL: memory is out. */
rq_attr *rq_attr_add(rq_graph *g, rq_id node, const char *name, rq_attr_type type);

/* ---- quantization ---- */

/* Add an annotation; takes over q's arrays on success. */
rq_status rq_graph_add_quant(rq_graph *g, rq_id *id, rq_qparams *q, const char *method);
/* The parameters of a value, or NULL. */
static inline const rq_qparams *rq_graph_qparams(const rq_graph *g, rq_id value)
{
    return value >= 0 && g->values[value].quant >= 0 ? &g->quants[g->values[value].quant].q : NULL;
}

/* ---- check, versions ---- */

/* The invariants above, and that names are unique, edges exist, and there is no cycle. RQ_BAD_GRAPH. */
rq_status rq_graph_check(const rq_graph *g, rq_err *err);
/* Imported version of `domain` ("" for the default); 0 when not imported. Asks the outermost graph. */
int64_t rq_graph_opset(const rq_graph *g, const char *domain);
rq_status rq_graph_set_opset(rq_graph *g, const char *domain, int64_t version);
/* Import `domain` no longer; no node of it is left. Not importing it is fine. */
void rq_graph_drop_opset(rq_graph *g, const char *domain);
rq_status rq_graph_set_meta(rq_graph *g, const char *key, const char *value);

#endif
