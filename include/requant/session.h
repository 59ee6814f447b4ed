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
} rq_session_cfg;

typedef struct rq_feed {
    const char *name;
    rq_tensor tensor;
} rq_feed;

/* Make a session for g, which must outlive it and stay unchanged. cfg NULL: defaults.
 * RQ_UNSUPPORTED: an operator cannot run (the sentence names all such); RQ_BAD_GRAPH, RQ_NO_MEMORY;
 * RQ_BAD_ARG: RQ_CPU names a level this machine lacks. */
RQ_API rq_status rq_session_create(rq_session **out, const rq_graph *g, const rq_session_cfg *cfg, rq_err *err);
RQ_API void rq_session_destroy(rq_session *s);

/* Run once. in[n_in]: a tensor per graph input (inputs with a default may be missing), any order.
 * out[rq_graph_n_outputs]: overwritten with tensors of their own, to be given back with rq_tensor_release.
 * New input shapes make a new plan. RQ_BAD_DATA: name, type or shape does not fit. */
RQ_API rq_status rq_session_run(rq_session *s, const rq_feed *in, int n_in, rq_tensor *out, rq_err *err);

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
    double ms;                /* of the last run, with cfg.profile */
    double macs;              /* multiply-adds */
} rq_layer_info;
/* Layers of the plan of the last run; *layers holds n entries, valid until the next run. */
RQ_API int rq_session_layers(const rq_session *s, const rq_layer_info **layers);
/* Bytes of activations the plan of the last run holds. */
RQ_API size_t rq_session_arena_bytes(const rq_session *s);
/* The graph the session runs: raised and folded. Value names of g survive where the values do. */
RQ_API const rq_graph *rq_session_graph(const rq_session *s);

#ifdef __cplusplus
}
#endif
#endif
