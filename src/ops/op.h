/* ops/op.h — one operator, whole: the row that drives the reader, shape inference, both executors, the
 * planner, quantizer placement and `requant ops`. Each family's file ends in its rows; ops/table.c lists
 * their addresses. A NULL function means the sentence beside it. */
#ifndef RQ_OPS_OP_H
#define RQ_OPS_OP_H

#include "base/threads.h"
#include "graph/graph.h"
#include "kernels/kernels.h"
#include "kernels/qgemm.h"

struct rq_exec;
struct rq_fake_quantizer;
struct rq_samples_args;

/* What shape inference knows about a node, and where its answer goes. Sizes may be negative (unknown or
 * symbolic: equal negatives below -1 are equal sizes); a tensor's data is NULL unless its content is known.
 * At run time everything is known. */
typedef struct rq_infer {
    const rq_graph *graph;
    const rq_node *node;
    int64_t opset;              /* imported version of the operator's domain */
    const rq_tensor *const *in; /* [n_in] NULL: omitted */
    int n_in;
    rq_dtype *out_dtype; /* [n_out], preset to NONE */
    rq_shape *out_shape; /* [n_out], preset to unknown rank */
    int n_out;
    /* [n_in] or NULL: what is known in part of the content of small integer inputs; read with rq_infer_ints_part */
    const rq_tensor *const *in_part;
    rq_err *err;
} rq_infer;

/* What a row's functions get. Shapes were inferred and checked: outputs are allocated (except for
 * RQ_OP_DYNAMIC rows, which create them) and never alias inputs. */
typedef struct rq_op_args {
    const rq_graph *graph;
    const rq_node *node;
    int64_t opset;
    const rq_tensor *const *in; /* [n_in] NULL: omitted */
    rq_tensor *const *out;      /* [n_out] NULL: not wanted */
    int n_in, n_out;
    /* integer rows only: what the codes of each tensor mean; NULL: an ordinary tensor */
    const rq_qparams *const *in_q;
    const rq_qparams *const *out_q;
    const rq_kernels *k;
    rq_threads *threads;
    void *state;   /* what prepare or prepare_int made; NULL if there is none */
    void *scratch; /* scratch() bytes, 64-byte aligned, not cleared */
    /* Behind them, where the planner made room: for copies of inputs and outputs in another type (rq_elements_room) */
    size_t room_at, room_bytes;
    /* Integer rows with `last`: every input and output of rank 3 or more that is annotated and no constant lies channels-last: [N][spatial ...][C] in
     * memory, while its shape stays [N, C, spatial ...]. Its codes are u8 then, and in_q, out_q say so: s8 ones have their top bit flipped and zero
     * points larger by 128. */
    bool last;
    /* RQ_OP_OUT_LD rows with `last`: elements from a pixel of output 0 to the next, where its channels lie among others of a Concat; 0: they lie alone */
    int64_t out_ld;
    /* RQ_OP_IN_LD rows with `last`: [n_in] the same of inputs, which may be channels among others; an entry of 0: it lies alone. NULL: all do */
    const int64_t *in_ld;
    const rq_post *
        post; /* [n_post] to be done to output 0 (kernels/qgemm.h), which has out_q[0] before them; RQ_OP_POSTS rows only */
    int n_post;
    struct rq_packs *packs; /* what ops/packs.h keeps for the program */
    /* Run the subgraph in attribute `attr` with these tensors as its inputs; out[n_out] are created (the caller
     * releases them). Captured values are found by the executor. */
    rq_status (*run_subgraph)(void *runner, rq_word attr, const rq_tensor *const *in, int n_in, rq_tensor *out,
                              int n_out, rq_err *err);
    void *runner;
    rq_err *err;
    const struct rq_op_training *training; /* NULL: the graph is run, not trained */
} rq_op_args;

/* What forward and backward get beyond that while a graph is trained (run/autograd). Forward writes `saved`, backward reads it: what is
 * not in a tensor of the graph (which element was the largest, the mean of this batch). */
typedef struct rq_op_training {
    bool train;                             /* train mode: statistics of the batch, dropout; false: evaluation */
    void *saved;                            /* row->saved() bytes, from forward to backward */
    const rq_tensor *const *grad_out;       /* [n_out] dL/d out[i]; NULL: none came, which is zero */
    rq_tensor *const *grad_in;              /* [n_in] dL/d in[i], to be overwritten, never added to; NULL: not wanted */
    void *state;                            /* of prepare_backward */
    struct rq_fake_quantizer *const *fakes; /* [n_fakes] what attribute "slot" of FakeQuantize counts in */
    int n_fakes;
    struct rq_exec *exec; /* for them: the same threads */
    uint64_t random;      /* a number of this node and this step, for rows that draw (Dropout) */
    bool relu;            /* FakeQuantize: its input is the output of a Relu whose backward is done here, too */
    bool
        again; /* forward is done a second time, for backward: what moves in one (observers) has moved; `saved` is that of the first */
} rq_op_training;

/* Bits of rq_op.saves, .parameters and .gradients. */
#define RQ_OP_IN(i) (1u << (i))         /* input i; from 15 on all share the last bit */
#define RQ_OP_OUT(i) (1u << (16 + (i))) /* output i */

/* The i-th of n_in inputs; NULL: it is left out, or behind the last. */
static inline const rq_tensor *rq_op_input(const rq_tensor *const *in, int n_in, int i)
{
    return i >= 0 && i < n_in ? in[i] : NULL;
}

typedef enum rq_place {                    /* what the quantizer does with the operator (docs/onnx-facts.md 4.6, 5.1) */
                        RQ_PLACE_FLOAT,    /* stays in float: no codes in or out */
                        RQ_PLACE_WEIGHTED, /* input 0 and output as activations, input 1 as weight (a second activation
                                              when it is no constant), input 2 as bias */
                        RQ_PLACE_OWN,      /* every float input and output with parameters of its own */
                        RQ_PLACE_SAME,  /* the output shares the parameters of input 0; only when input 0 is quantized
                                           anyway */
                        RQ_PLACE_JOIN,  /* all inputs and the output share one set (Concat) */
                        RQ_PLACE_CLAMP, /* Relu, Clip: swallowed into the range of its producer where it can be, else
                                           OWN */
                        RQ_PLACE_UNIT,  /* as OWN, but the output's range is [0, 1] (Softmax, Sigmoid) */
} rq_place;

typedef enum rq_last {
    RQ_LAST_NO,
    RQ_LAST_CAN,   /* as its inputs come */
    RQ_LAST_WANTS, /* inputs are rearranged for it */
} rq_last;

enum { /* rq_op.flags */
       RQ_OP_MOVES =
           1u << 0, /* moves elements of input 0 to output 0 whatever their type: forward runs on codes as it is */
       RQ_OP_TABLE = 1u << 1,   /* output element i depends on element i of input 0 alone (other inputs constant): the
                                   integer form is a table, made by running forward on every code's real */
       RQ_OP_DYNAMIC = 1u << 2, /* output sizes depend on data: forward creates its outputs (rq_tensor_create) */
       RQ_OP_KEEP = 1u << 3,    /* never folded into a constant (random numbers) */
       RQ_OP_SHAPE_ONLY = 1u << 4, /* reads the shape of its inputs, not their content (Shape, Size) */
       RQ_OP_VIEW =
           1u << 6, /* output 0 is the bytes of input 0 in the same order (Reshape): the planner lets it share them,
                                 and forward (a copy) runs only where it cannot */
       RQ_OP_COMMUTES = 1u << 5,      /* elementwise with numpy broadcasting */
       RQ_OP_GRAD_IN_PLACE = 1u << 7, /* backward may be called with grad_in[0] on the bytes of grad_out[0] */
       RQ_OP_POSTS =
           1u << 9, /* forward_int does args.post: on bytes of codes; of a row with `last` channels-last alone */
       RQ_OP_OUT_LD =
           1u << 10, /* forward, or forward_int, on codes with `last` keeps to args.out_ld (where `spreads` says so) */
       RQ_OP_IN_LD =
           1u << 11, /* forward_int with `last` keeps to args.in_ld of input 0; a Concat of channels to that of all */
       RQ_OP_IN_PLACE =
           1u
           << 8, /* forward on f32, and forward_int, may be called with out[0] on the bytes of in[0], where they have one size and one type;
                                 forward_int with COMMUTES on those of in[1], too */
};

typedef struct rq_op {
    const char *name;   /* as ONNX spells it */
    const char *domain; /* "" for ai.onnx, "com.microsoft", "requant" */
    int which;          /* of the functions of its family, where rows share theirs: rq_zip_id, rq_map_id, rq_reduce */
    int since;          /* first opset that has the operator */
    int known;          /* newest opset whose meaning of it is implemented (25) */
    int min_in, max_in; /* max_in -1: any number */
    int min_out, max_out;
    unsigned flags;
    rq_place place;
    /* Structural check when a model is loaded (attributes present and typed); NULL: nothing to check. */
    rq_status (*check)(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err);
    rq_status (*infer)(const rq_infer *a);     /* required */
    rq_status (*forward)(const rq_op_args *a); /* every dtype the operator allows; required for running */
    /* Gradients of the inputs that training->grad_in asks for, from those of the outputs. f32; shapes of in and out hold always,
     * data only of what `saves` names. RQ_OK with the same bits at any number of threads. NULL: gradient stops here. */
    rq_status (*backward)(const rq_op_args *a);
    unsigned saves; /* tensors whose data backward reads: RQ_OP_IN(i), RQ_OP_OUT(i); those are kept until then */
    unsigned (*saves_of)(
        const rq_op_args *a); /* in place of `saves`, where that depends on the node; NULL: it does not */
    unsigned
        gradients; /* inputs that have a gradient: RQ_OP_IN(i); 0: every float input. Others (indices, running statistics) have none */
    unsigned parameters; /* inputs that are trained where they are float constants: weights, biases (RQ_OP_IN(i)) */
    unsigned
        statistics; /* inputs that forward changes in place in train mode: running mean and variance (RQ_OP_IN(i)) */
    size_t (*saved)(const rq_op_args *a); /* bytes that forward leaves for backward; NULL: none */
    size_t (*kept)(const rq_op_args
                       *a); /* bytes at the start of those that a second forward (training->again) needs; NULL: none */
    rq_status (*prepare_backward)(const rq_op_args *a,
                                  void **state); /* once per plan: training->state of backward; NULL: none */
    void (*release_backward)(void *state);
    size_t (*scratch_backward)(const rq_op_args *a); /* a->scratch of backward; NULL: none */
    /* Once per plan (shapes known; constant inputs have data, others data NULL): state for forward. NULL: none. */
    rq_status (*prepare)(const rq_op_args *a, void **state);
    /* The integer form. accepts_int says whether it takes these shapes, in_q and out_q; when not, *why is a
     * short phrase for the report ("per-channel activations"). NULL: no integer form of its own (MOVES and TABLE
     * rows have theirs from the executor). */
    bool (*accepts_int)(const rq_op_args *a, const char **why);
    /* Of a node that runs on codes (by accepts_int, MOVES or TABLE): can it run on channels-last ones (args.last)? NULL: no. */
    rq_last (*last)(const rq_op_args *a);
    bool (*spreads)(const rq_op_args *a); /* can this node keep to args.out_ld? NULL: with RQ_OP_OUT_LD always */
    rq_status (*prepare_int)(const rq_op_args *a, void **state);
    rq_status (*forward_int)(const rq_op_args *a);
    void (*release)(void *state);                         /* of prepare */
    void (*release_int)(void *state);                     /* of prepare_int */
    size_t (*scratch)(const rq_op_args *a, bool integer); /* bytes; NULL: none */
    /* Output-channel axis of weight w (input 1), or RQ_PER_TENSOR; WEIGHTED rows only. */
    int (*weight_axis)(const rq_node *n, const rq_shape *w);
    /* Does it treat the samples of a batch, which lie along axis 0, one by one? A rule of ops/samples.h. NULL: only where it is elementwise (TABLE,
     * COMMUTES), with numpy broadcasting. */
    bool (*samples)(const struct rq_samples_args *a);
    /* Does this node carry codes on as they are? NULL: every one does. One that does not is placed as OWN. SAME rows only. */
    bool (*carries)(const rq_node *n);
    /* Multiply-adds of one run, for reports; NULL: elementwise. */
    double (*macs)(const rq_op_args *a);
} rq_op;

/* ---- ops/table.c ---- */
const rq_op *rq_op_find(const char *domain, const char *name); /* "ai.onnx" means ""; NULL: no such row */
const rq_op *rq_op_at(int i);                                  /* NULL past the last; sorted by domain and name */
/* ---- ops/own.c: the row of a program's own operator; NULL: o (may be NULL) has none of that name ---- */
const rq_op *rq_own_find(const struct rq_own *o, const char *domain, const char *name);
/* ---- ops/names.c: is there an operator of that name in the default domain, with a row or without? ---- */
bool rq_op_name_exists(const char *name);

/* ---- ops/bind.c ---- */

/* Point every node (subgraphs too) at its row; nodes without one get NULL. */
void rq_ops_bind(rq_graph *g);
/* Row checks of every node: operator known, exists at its opset, number of inputs and outputs, attributes.
 * `strict`: an operator without a row is an error that names all such operators. */
rq_status rq_ops_check(const rq_graph *g, bool strict, rq_err *err);
/* The same of one node that has a row. To be asked before rq_ops_infer_node: an infer function relies on min_in. */
rq_status rq_ops_check_node(const rq_graph *g, const rq_node *n, rq_err *err);

/* ---- ops/infer.c ---- */

/* Fill in dtype and shape of every value as far as they follow from inputs and constants; folds the content of
 * small integer values (shape arithmetic) on the way; subgraphs too. What follows wins over what the file states
 * about values between nodes (exports leave stale sizes there), which only fills gaps.
 * RQ_BAD_SHAPE, RQ_BAD_DTYPE, RQ_UNSUPPORTED: a node cannot work, named in the sentence; RQ_NO_MEMORY. */
rq_status rq_ops_infer(rq_graph *g, rq_err *err);
/* The same, and what is known of the content of every value (ops/content.h): *known is an array [n_values] for the caller, who releases
 * each (rq_content_release) and frees it with rq_mem_free. known NULL: not wanted. */
struct rq_content;
rq_status rq_ops_infer_known(rq_graph *g, struct rq_content **known, rq_err *err);
/* Forget the stated shapes of what nodes make, subgraphs too: for graphs whose inputs get other sizes. */
void rq_ops_forget_shapes(rq_graph *g);
/* One node, for executors: calls the row with these tensors. */
rq_status rq_ops_infer_node(const rq_graph *g, const rq_node *n, const rq_tensor *const *in, rq_dtype *out_dtype,
                            rq_shape *out_shape, rq_err *err);

/* ---- ops/infer_help.c: for infer functions ---- */

rq_status rq_infer_fail(const rq_infer *a, rq_status code, const char *fmt, ...)
    RQ_PRINTF(3, 4);                        /* puts "node 'x' (Conv): " first */
rq_status rq_infer_same(const rq_infer *a); /* every output: type and shape of input 0 */
/* Inputs from..to-1 that are given are of the type of input 0; RQ_BAD_DTYPE otherwise. */
rq_status rq_infer_one_type(const rq_infer *a, int from, int to);
rq_status rq_infer_broadcast(const rq_infer *a); /* output 0: type of input 0, numpy broadcast of all inputs */
/* numpy broadcast of two shapes; false when they do not fit. */
bool rq_infer_broadcast_shapes(const rq_shape *a, const rq_shape *b, rq_shape *out);
/* Content of small integer input i as int64 (from an S64 or S32 tensor): count, or -1 when not known or omitted. */
int rq_infer_ints(const rq_infer *a, int i, int64_t *out, int cap);
/* The same with what is known in part: v[k] is exact where sym[k] is 0; elsewhere it is a size sym[k] (-1 or a symbol). */
int rq_infer_ints_part(const rq_infer *a, int i, int64_t *v, int64_t *sym, int cap);
/* Product and sum of sizes that may be negative (unknown or symbolic): exact where it can be, else RQ_DIM_UNKNOWN. */
int64_t rq_infer_dim_mul(int64_t a, int64_t b);
int64_t rq_infer_dim_add(int64_t a, int64_t b);
/* *dim becomes what two sizes that must be equal tell together; false when they differ. */
bool rq_infer_dim_join(int64_t *dim, int64_t other);
/* axis in [-rank, rank) made non-negative; -1 when out of range. */
int rq_infer_axis(int64_t axis, int rank);
/* The same for check functions. */
rq_status rq_node_fail(const rq_graph *g, const rq_node *n, rq_err *err, rq_status code, const char *fmt, ...)
    RQ_PRINTF(5, 6);
/* Put "node 'x' (Conv): " before a sentence: for forward functions. */
rq_status rq_op_fail(const rq_op_args *a, rq_status code, const char *fmt, ...) RQ_PRINTF(3, 4);
#ifdef __clang_analyzer__ /* as for rq_fail */
#define rq_op_fail(a, code, ...) ((void)(rq_op_fail)(a, code, __VA_ARGS__), (code))
#define rq_infer_fail(a, code, ...) ((void)(rq_infer_fail)(a, code, __VA_ARGS__), (code))
#endif
/* The sentence of an operator that does not compute with elements of type d. */
static inline rq_status rq_op_no_form(const rq_op_args *a, rq_dtype d)
{
    return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for elements of type %s", rq_dtype_name(d));
}

/* ---- ops/int_table.c: the integer form of RQ_OP_TABLE rows and of Requantize, used by the executor in place of the
 * row's own accepts_int, prepare_int and forward_int. The table of Q(f(DQ(code))) is made by running row.forward on
 * the reals of all codes (8 bits: 256; 16 bits: 65536), so the integer form is the float one, rounded once. ---- */
bool rq_int_table_accepts(const rq_op_args *a, const char **why);
rq_last rq_int_table_last(const rq_op_args *a); /* always as its input comes */
rq_status rq_int_table_prepare(const rq_op_args *a, void **state);
rq_status rq_int_table_forward(const rq_op_args *a);
void rq_int_table_release(void *state);
typedef struct
    rq_int_tables {   /* of 256 entries, made by others than prepare: of codes, or of the reals they stand for */
    bool reals;       /* f32; else u8 or s8 */
    int64_t channels; /* one table after the other, for each; 1: one for all */
    int64_t inner;    /* with more than one: how many neighbours in memory are of one channel */
    bool turned;      /* the codes lie channels-last, with channels along axis 1; the reals do not */
} rq_int_tables;
/* A state that looks `values` up, and the one table of bytes of a state: NULL where it has others. */
rq_status rq_int_table_from(const void *values, const rq_int_tables *how, void **state);
const uint8_t *rq_int_table_bytes(const void *state);
/* DequantizeLinear, the row's forward, QuantizeLinear, of one quantized input: for tests of others and for what is so rare
 * that it may allocate. */
rq_status rq_int_table_literally(const rq_op_args *a);
/* ops/int_shared.c: for each code of x, indexed by its bits, the code in y of what it stands for; both of 8 bits. */
void rq_int_requantize_table(uint8_t table[256], const rq_qparams *x, const rq_qparams *y);

/* ---- ops/raise.c, ops/lower.c: two spellings of one thing ---- */

/* Rewrite Q/DQ pairs and QOperator nodes (QLinearConv ...) into plain operators with annotated values,
 * without changing a bit of what the model computes in integers. Patterns that cannot be annotated stay as they are.
 * Weights stay codes. *n_raised (may be NULL): annotations made. */
rq_status rq_raise(rq_graph *g, int *n_raised, rq_err *err);
/* The same, and inside the bodies of If, Loop and Scan, which get shares of the constants they capture: for a graph that is run,
 * not written. */
rq_status rq_raise_to_run(rq_graph *g, rq_err *err);
/* The other way: every annotation becomes QuantizeLinear and DequantizeLinear nodes (constants: codes and a
 * DequantizeLinear), opset raised only when an annotation needs it. */
rq_status rq_lower_qdq(rq_graph *g, rq_err *err);
/* Every annotation becomes integer operators where there are such (QLinearConv ...), the others as rq_lower_qdq does. */
rq_status rq_lower_qoperator(rq_graph *g, rq_err *err);
/* Does the graph hold Q/DQ, integer operators or annotations? */
bool rq_graph_is_quantized(const rq_graph *g);

#endif
