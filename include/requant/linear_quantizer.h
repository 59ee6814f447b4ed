/* requant/linear_quantizer.h — LinearQuantizer of coremltools.optimize.torch on a graph: config, prepare, step, finalize, report.
 *
 *   rq_linear_quantizer *q;
 *   rq_linear_quantizer_create(&q, g, cfg, &err);      g: float, its layers named (requant/nn.h, or node names of an ONNX file)
 *   rq_linear_quantizer_prepare(q, &err);              a copy of g with FakeQuantize nodes
 *   rq_autograd_create(&a, rq_linear_quantizer_model(q), &(rq_autograd_cfg) { .fakes = ..., }, &err);
 *   for each step: forward, loss, backward, optimizer, rq_linear_quantizer_step(q, a, &err);
 *   rq_linear_quantizer_finalize(q, &out, &err);       annotated: rq_save writes QDQ, rq_session runs it in integers
 *
 * One thread at a time. */
#ifndef REQUANT_LINEAR_QUANTIZER_H
#define REQUANT_LINEAR_QUANTIZER_H

#include <requant/autograd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ModuleLinearQuantizerConfig. Start from rq_module_linear_quantizer_defaults(). */
typedef struct rq_module_linear_quantizer_config {
    bool learnable;        /* algorithm: false "vanilla", true "learnable" (LSQ, LSQ+) */
    rq_dtype weight_dtype; /* RQ_DTYPE_S8 (qint8), U8 (quint8), F32: float */
    int weight_n_bits;     /* 2..8; from the spelling: qint4 is S8 with 4 */
    rq_observer_kind
        weight_observer; /* MOVING_AVERAGE (default), MINMAX, EMA; extensions: EMA_PERCENTILE, MSE, EMA_MSE, LSQ, LSQ_PLUS */
    bool weight_per_channel;              /* true */
    rq_dtype activation_dtype;            /* U8 (quint8), F32 */
    int activation_n_bits;                /* 8; 2..8 as an extension */
    rq_observer_kind activation_observer; /* MOVING_AVERAGE */
    rq_qscheme quantization_scheme;       /* per-tensor SYMMETRIC (default) or AFFINE of requant/qtype.h */
    bool has_milestones;
    int64_t
        milestones[4]; /* observers on, fake-quantize on, observers off, batch norms frozen; counted in calls of step */
} rq_module_linear_quantizer_config;
RQ_API rq_module_linear_quantizer_config rq_module_linear_quantizer_defaults(void);
RQ_API bool rq_module_linear_quantizer_equal(const rq_module_linear_quantizer_config *a,
                                             const rq_module_linear_quantizer_config *b);

/* LinearQuantizerConfig. Made without a rule, it quantizes all with the defaults. */
typedef struct rq_linear_quantizer_config rq_linear_quantizer_config;
RQ_API rq_status rq_linear_quantizer_config_create(rq_linear_quantizer_config **out);
RQ_API void rq_linear_quantizer_config_destroy(rq_linear_quantizer_config *c); /* NULL is fine */
/* A rule: m decides for all (global), for the modules and calls of a type ("Conv2d", "torch.nn.Conv2d", ONNX's "Conv", "operator.add"), or for one module and
 * those in it (its path; else a pattern that matches the whole of it, in Python's spelling as requant/qconfig_mapping.h takes it). m NULL: not quantized; of
 * global: none, and what no rule names has the defaults (or is left, rq_linear_quantizer_config_set_skip_by_default). One set before under the same key is
 * replaced. The name decides, then the nearest name around it, the type, global (docs/coreml-facts.md 1).
 * RQ_BAD_ARG, and c is as it was: a field out of its range; a type that nothing goes by; another scheme or algorithm than the other rules have, or
 * milestones that are not those of the rule they are taken from (global, else the first type, else the first name); a key that is not UTF-8.
 * RQ_NO_MEMORY. */
RQ_API rq_status rq_linear_quantizer_config_set_global(rq_linear_quantizer_config *c,
                                                       const rq_module_linear_quantizer_config *m, rq_err *err);
RQ_API rq_status rq_linear_quantizer_config_set_module_type(rq_linear_quantizer_config *c, const char *type,
                                                            const rq_module_linear_quantizer_config *m, rq_err *err);
RQ_API rq_status rq_linear_quantizer_config_set_module_name(rq_linear_quantizer_config *c, const char *name,
                                                            const rq_module_linear_quantizer_config *m, rq_err *err);
/* That module, with all in it, is kept as one float region. */
RQ_API rq_status rq_linear_quantizer_config_add_non_traceable(rq_linear_quantizer_config *c, const char *module,
                                                              rq_err *err);
/* Taken and written back; it has no meaning here (rq_linear_quantizer_config_warnings says so): a graph has no attributes besides what it computes. */
RQ_API rq_status rq_linear_quantizer_config_add_preserved(rq_linear_quantizer_config *c, const char *attribute,
                                                          rq_err *err);
/* The original's ways, faults included (docs/numerics.md, "Departures from the originals"). Before the rules: they are checked by it. */
RQ_API void rq_linear_quantizer_config_set_compat(rq_linear_quantizer_config *c, bool on);
/* Without a global config leave what no rule names in float. The original quantizes it with the defaults, as do we unless this is on. */
RQ_API void rq_linear_quantizer_config_set_skip_by_default(rq_linear_quantizer_config *c, bool on);

/* From a dictionary (JSON), from YAML, from a file of either; the keys and spellings are the original's, and as further keys `compat`,
 * `skip_by_default` and, of a module, `activation_n_bits`. An empty text is no rule. RQ_BAD_RECIPE: "source:line: key: sentence" - not YAML, a key that
 * is unknown (the nearest is named), a value of another type or out of its range, and what the setters say; RQ_IO, RQ_NO_MEMORY. */
RQ_API rq_status rq_linear_quantizer_config_from_dict(rq_linear_quantizer_config **out, const char *json, rq_err *err);
RQ_API rq_status rq_linear_quantizer_config_from_yaml(rq_linear_quantizer_config **out, const char *yaml, rq_err *err);
RQ_API rq_status rq_linear_quantizer_config_load(rq_linear_quantizer_config **out, const char *path, rq_err *err);
/* Back: JSON or YAML into buf[n] (NUL-terminated, cut at n); returns the length it takes, -1: memory is out. What is written reads back as the same. */
RQ_API int64_t rq_linear_quantizer_config_as_dict(const rq_linear_quantizer_config *c, char *buf, size_t n);
RQ_API int64_t rq_linear_quantizer_config_as_yaml(const rq_linear_quantizer_config *c, char *buf, size_t n);
/* The same rules in the same order? No rule at all is global_config with the defaults. */
RQ_API bool rq_linear_quantizer_config_equal(const rq_linear_quantizer_config *a, const rq_linear_quantizer_config *b);

/* False: there is none. */
RQ_API bool rq_linear_quantizer_config_global(const rq_linear_quantizer_config *c,
                                              rq_module_linear_quantizer_config *out);
/* Rule i of the types or names, in the order they were set; returns how many there are. key (of c) and m may be NULL; *skip: not quantized. */
RQ_API int rq_linear_quantizer_config_module_type(const rq_linear_quantizer_config *c, int i, const char **key,
                                                  bool *skip, rq_module_linear_quantizer_config *m);
RQ_API int rq_linear_quantizer_config_module_name(const rq_linear_quantizer_config *c, int i, const char **key,
                                                  bool *skip, rq_module_linear_quantizer_config *m);
/* What milestones and scheme are taken from: global, else the first type, else the first name, else the defaults. */
RQ_API rq_module_linear_quantizer_config rq_linear_quantizer_config_effective(const rq_linear_quantizer_config *c);
/* What is legal and rarely meant, added to out: a milestone that never comes, observers that see nothing or overwrite what is learned,
 * preserved_attributes. RQ_NO_MEMORY. */
struct rq_notes;
RQ_API rq_status rq_linear_quantizer_config_warnings(const rq_linear_quantizer_config *c, struct rq_notes *out);

typedef struct rq_linear_quantizer rq_linear_quantizer;
/* A copy of g is kept (config is copied; NULL: defaults). The config's rules are held against g's modules: RQ_NOT_FOUND: one matches nothing, the nearest is named. */
RQ_API rq_status rq_linear_quantizer_create(rq_linear_quantizer **out, const rq_graph *g,
                                            const rq_linear_quantizer_config *c, rq_err *err);
/* What rq_linear_quantizer_config_warnings says of its config; (compat) rules that fit no module; and, once it is prepared, rules that decide nothing:
 * for what is part of another's layer (a ReLU behind a convolution, an Add that becomes a bias), or is never quantized. RQ_NO_MEMORY. */
RQ_API rq_status rq_linear_quantizer_warnings(const rq_linear_quantizer *q, struct rq_notes *out);
RQ_API void rq_linear_quantizer_destroy(rq_linear_quantizer *q); /* NULL is fine */
/* Fuse, and put fake-quantizers where they go. Once. With milestones: all observers and fake-quantizers off. What exporters write around layers is taken out
 * of the copy of g first: constants that are nodes, copies or computed from constants, Transposes that meet their inverse, arithmetic
 * by constants per channel behind a product (which its weights and bias take in), activations in several operators. Batch norms and dropouts stay,
 * and layers keep their names. With compat only constants are computed: what the original sees is the network as its program runs it. */
RQ_API rq_status rq_linear_quantizer_prepare(rq_linear_quantizer *q, rq_err *err);
RQ_API rq_graph *rq_linear_quantizer_model(rq_linear_quantizer *q); /* prepared; owned by q */
/* Its fake-quantizers, by slot; names: "activation_post_process_0", "conv.weight_fake_quant". Both lists are q's and live as long
 * as it does. Returns how many. */
RQ_API int rq_linear_quantizer_fakes(const rq_linear_quantizer *q, rq_fake_quantizer *const **fakes,
                                     const char *const **names);
/* Count, and do what the milestones say; a (may be NULL) has its batch norms frozen at the fourth. */
RQ_API rq_status rq_linear_quantizer_step(rq_linear_quantizer *q, rq_autograd *a, rq_err *err);
/* Freeze in a what was frozen before a state was loaded, or by another autograd. Call it behind rq_linear_quantizer_load. */
RQ_API rq_status rq_linear_quantizer_resume(rq_linear_quantizer *q, rq_autograd *a, rq_err *err);
/* The quantized graph: batch norms folded, weights rounded, values annotated. Yours. RQ_BAD_DATA: a fake-quantizer has seen nothing (named). */
RQ_API rq_status rq_linear_quantizer_finalize(rq_linear_quantizer *q, rq_graph **out, rq_err *err);
/* What integers do otherwise than the prepared network: a bias they count in units of scale(x) scale(w), and a mean of codes that lies on a tie of two they
 * round by their factor, floats by the last bit of a sum. A copy of the prepared graph with the biases that a session (RQ_MATCH_ORT) adds in `quantized`,
 * which rq_linear_quantizer_finalize of the same q made, and with its averages (GlobalAveragePool, AveragePool, ReduceMean of codes that are codes again). Yours; q
 * is as it was. It is evaluated, not trained. For rq_agreement_measure, whose `prepared` it is.
 * RQ_BAD_ARG: not prepared, or quantized is another's; RQ_NO_MEMORY. On error *out is untouched. */
RQ_API rq_status rq_linear_quantizer_simulation(const rq_linear_quantizer *q, const rq_graph *quantized, rq_graph **out,
                                                rq_err *err);
/* Step counter, frozen flags and fake-quantizers, under `prefix` (NULL: none). */
RQ_API rq_status rq_linear_quantizer_save(const rq_linear_quantizer *q, rq_state *s, const char *prefix);
RQ_API rq_status rq_linear_quantizer_load(rq_linear_quantizer *q, const rq_state *s, const char *prefix, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
