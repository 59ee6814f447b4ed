/* requant/session.h — run a graph. A session holds the plan, packed weights, buffers and a thread pool.
 * Annotated values run in true integers wherever the operators have an integer form; the rest runs in
 * float32 between a dequantization and a quantization. Not thread-safe; sessions are independent. */
#ifndef REQUANT_SESSION_H
#define REQUANT_SESSION_H

#include <requant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_session rq_session;

/* Which of two legal answers integers give where they differ, by one step at most. */
typedef enum rq_match {
    RQ_MATCH_ORT, /* ONNX Runtime's kernels, bit for bit */
    RQ_MATCH_SPEC, /* the definition: what DequantizeLinear, the operator and QuantizeLinear give; sums of products, whose
                      order no definition says, are exact and rounded once */
} rq_match;

typedef struct rq_session_cfg {
    int threads;  /* 0: one per core */
    bool literal; /* run QuantizeLinear and DequantizeLinear as the float operators they are, raise nothing */
    bool profile; /* keep times per layer */
    /* Float products by oneDNN, which sums in an order that depends on the CPU. false: ours, whose order is fixed: every
     * output has the same bits on every CPU, at every RQ_CPU and with any number of threads. */
    bool onednn;
    rq_match match;
    /* How many samples of a batch are run at once, where the model leaves their number open (axis 0 of every input) and treats them one by one: the
     * batch is run in parts, so that what is computed stays in the caches and less memory is held; the results are the same bits. 0: as many as
     * fit the caches; n: n at most; RQ_ALL_SAMPLES: the batch is never cut. With taps it is not either, nor with products of oneDNN. */
    int samples_at_once;
} rq_session_cfg;

enum { RQ_ALL_SAMPLES = -1 };

typedef struct rq_feed {
    const char *name;
    rq_tensor tensor;
} rq_feed;

/* Make a session for g, which must outlive it and stay unchanged. cfg NULL: defaults.
 * RQ_UNSUPPORTED: an operator cannot run (the sentence names all such); RQ_BAD_GRAPH, RQ_NO_MEMORY;
 * RQ_BAD_ARG: RQ_CPU names a level this machine lacks. */
RQ_API rq_status rq_session_create(rq_session **out, const rq_graph *g, const rq_session_cfg *cfg, rq_err *err);
RQ_API void rq_session_destroy(rq_session *s);

/* The same of a model file, or of its bytes (read as by rq_load and rq_load_memory), when the graph is wanted for nothing else: it is not
 * copied. Where the model states the size of every input, the first run is planned, as rq_session_prepare does; where it leaves open only how many
 * samples there are (axis 0), for one of them: weights are packed, and a plan for another number packs none. Their errors, and those of rq_session_create. */
RQ_API rq_status rq_session_load(rq_session **out, const char *path, const rq_session_cfg *cfg, rq_err *err);
RQ_API rq_status rq_session_load_memory(rq_session **out, const void *data, size_t size, const rq_session_cfg *cfg,
                                        rq_err *err);
/* One more session of the model of s, with plans, buffers and threads of its own; constants and packed weights exist once for all sessions of a
 * model. They run at the same time, each on a thread of its own, and end in any order; this call, too, may be made while s runs. cfg NULL: that
 * of s. A graph that rq_session_create was given is still the caller's, and must outlive all of them.
 * RQ_BAD_ARG: cfg->literal is not that of s. RQ_NO_MEMORY. */
RQ_API rq_status rq_session_share(rq_session **out, const rq_session *s, const rq_session_cfg *cfg, rq_err *err);

/* Run once. in[n_in]: a tensor per graph input (inputs with a default may be missing), any order.
 * out[rq_graph_n_outputs]: overwritten with tensors of their own, to be given back with rq_tensor_release.
 * New input shapes make a new plan. RQ_BAD_DATA: name, type or shape does not fit. */
RQ_API rq_status rq_session_run(rq_session *s, const rq_feed *in, int n_in, rq_tensor *out, rq_err *err);

/* ---- the same without copies: buffers of the caller's that are read and written where they lie ---- */

/* What is fed and what comes out, in the order of the model; i from 0 to one less than the number. Sizes that the model leaves open are those of
 * the plan, once there is one (negative: still open; the names of symbols: rq_graph_dim_name of rq_session_graph). Strings live as long as s. */
RQ_API int rq_session_n_inputs(const rq_session *s);
RQ_API int rq_session_n_outputs(const rq_session *s);
RQ_API rq_value_info rq_session_input(const rq_session *s, int i);
RQ_API rq_value_info rq_session_output(const rq_session *s, int i);

/* Plan now what the first run would plan: weights are packed, buffers allocated and their memory touched. in[n_in]: type and shape of each input
 * (data may be NULL); one that is missing is planned as it is bound, or as the model states it. A plan for other shapes replaces the one
 * there is; packed weights are kept. Of a model with sizes that depend on data, the part before the first of them is planned.
 * RQ_NOT_FOUND: no such input; RQ_BAD_DATA: type or shape does not fit, or the size of an input is not known; RQ_BAD_SHAPE, RQ_UNSUPPORTED, RQ_NO_MEMORY as a run. */
RQ_API rq_status rq_session_prepare(rq_session *s, const rq_feed *in, int n_in, rq_err *err);

/* rq_session_run_bound reads input `name` from t->data, or writes output `name` to it, with the type and shape of t, until something else is
 * bound to it (t NULL: nothing). t->data belongs to the caller, lies at a multiple of the size of an element, and overlaps nothing else that
 * is bound. Aligned to 64 bytes it is fastest. An output is written by the operator that makes it, without a copy, unless it is an input or a
 * constant as it is, or its size depends on data.
 * RQ_NOT_FOUND: no such input or output; RQ_BAD_DATA: type, shape, size in bytes or address does not fit. */
RQ_API rq_status rq_session_bind_input(rq_session *s, const char *name, const rq_tensor *t, rq_err *err);
RQ_API rq_status rq_session_bind_output(rq_session *s, const char *name, const rq_tensor *t, rq_err *err);

/* Run once on what is bound. Outputs to which nothing is bound are left out. With a plan for these shapes it allocates nothing, where no size
 * depends on data and no operator runs a subgraph. RQ_BAD_DATA: an input is not bound and has no default; RQ_BAD_SHAPE: an output is not of the
 * shape of what is bound to it (then nothing ran, unless that depends on data). */
RQ_API rq_status rq_session_run_bound(rq_session *s, rq_err *err);

/* See a value of the graph in every run, as reals in f32 (codes are dequantized), right after it is made. The tensor
 * lives during the call. Returning anything but RQ_OK stops the run. RQ_NOT_FOUND: no such value; the sentence names
 * the nearest. */
typedef rq_status (*rq_tap_fn)(void *arg, const char *value, const rq_tensor *t, rq_err *err);
RQ_API rq_status rq_session_tap(rq_session *s, const char *value, rq_tap_fn fn, void *arg, rq_err *err);
/* The same for codes: an annotated value arrives as its integers, with what they mean (NULL: not annotated). */
typedef rq_status (*rq_tap_codes_fn)(void *arg, const char *value, const rq_tensor *t, const rq_qparams *q,
                                     rq_err *err);
RQ_API rq_status rq_session_tap_codes(rq_session *s, const char *value, rq_tap_codes_fn fn, void *arg, rq_err *err);

/* One step of the plan, as reports show it. Strings live as long as the session. */
typedef struct rq_layer_info {
    const char *name, *op;    /* node */
    const char *output;       /* first output value */
    bool integer;             /* ran on codes */
    const char *reason_float; /* why not, when any of its values is quantized; NULL otherwise */
    double ms;                /* of the last run, with cfg.profile; rearranging its input counts, too */
    double macs;              /* multiply-adds */
    double bytes;             /* of what it reads and writes; 0 where nothing is moved */
} rq_layer_info;
/* Layers of the plan of the last run, all parts of its batch together; *layers holds n entries, valid until the next run. */
RQ_API int rq_session_layers(const rq_session *s, const rq_layer_info **layers);
/* Bytes of activations the plan of the last run holds: of a batch that is run in parts, those of a part. */
RQ_API size_t rq_session_arena_bytes(const rq_session *s);
/* The graph the session runs: raised and folded. Value names of g survive where the values do. */
RQ_API const rq_graph *rq_session_graph(const rq_session *s);

#ifdef __cplusplus
}
#endif
#endif
