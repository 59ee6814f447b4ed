/* requant/coreml_optimize.h — compression of Core ML packages as coremltools.optimize.coreml does it: weights quantized, pruned or
 * palettized, activations quantized from calibration data that is run here.
 *
 * Every function changes the model it is given. After an error the model is good for rq_coreml_close only. Threads: a model belongs to one
 * caller at a time. */
#ifndef REQUANT_COREML_OPTIMIZE_H
#define REQUANT_COREML_OPTIMIZE_H

#include <requant/coreml.h>
#include <requant/dataset.h>
#include <requant/state.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what to do with one operator ---- */

typedef enum rq_coreml_algorithm {
    RQ_COREML_LINEAR_QUANTIZER, /* OpLinearQuantizerConfig */
    RQ_COREML_PALETTIZER,       /* OpPalettizerConfig */
    RQ_COREML_MAGNITUDE_PRUNER, /* OpMagnitudePrunerConfig */
    RQ_COREML_THRESHOLD_PRUNER, /* OpThresholdPrunerConfig */
} rq_coreml_algorithm;

typedef enum rq_coreml_granularity {
    RQ_COREML_PER_TENSOR,
    RQ_COREML_PER_GROUPED_CHANNEL, /* palettization */
    RQ_COREML_PER_CHANNEL,
    RQ_COREML_PER_BLOCK,
} rq_coreml_granularity;

typedef enum rq_coreml_palette { RQ_COREML_KMEANS, RQ_COREML_UNIFORM, RQ_COREML_UNIQUE } rq_coreml_palette;

/* The operator that uses the constant says. */
#define RQ_COREML_AXIS_OF_OP (-100)

/* The fields of all four; those of other algorithms are ignored. Get the defaults from rq_coreml_op_config_defaults. */
typedef struct rq_coreml_op_config {
    rq_coreml_algorithm algorithm;
    int64_t weight_threshold; /* only constants of more elements; default 2048; -1: None */
    /* linear */
    bool symmetric;                    /* mode linear_symmetric (default), else linear */
    int nbits;                         /* 8 (default) or 4; palettes: 1, 2, 3, 4, 6, 8, 0: not given */
    bool is_signed;                    /* int8, int4 (default), else uint8, uint4 */
    rq_coreml_granularity granularity; /* default per channel; palettes: per tensor */
    int64_t block_size[16];            /* per block: one number (default 32), or one for each axis; 0: the whole axis */
    int n_block_size;                  /* 1 */
    bool block_size_is_list;           /* a list, even of one number */
    /* palettes */
    rq_coreml_palette palette;
    int64_t group_size;   /* 32 */
    int64_t channel_axis; /* negative: from the end; RQ_COREML_AXIS_OF_OP (default) */
    int64_t cluster_dim;  /* 1 */
    bool per_channel_scale;
    /* pruning */
    double threshold;                   /* 1e-12 */
    double minimum_sparsity_percentile; /* 0.5 */
    double target_sparsity;             /* < 0: not given */
    int64_t n_m_ratio[2];               /* 0, 0: not given */
    int64_t block, dim;                 /* block_size of pruning; 0: none. dim -1: not given */
} rq_coreml_op_config;

/* What the class of coremltools has where nothing is said: the numbers above. Holds no memory; cannot fail. */
RQ_API rq_coreml_op_config rq_coreml_op_config_defaults(rq_coreml_algorithm algorithm);

/* ---- which operators: OptimizationConfig ---- */

typedef struct rq_coreml_config rq_coreml_config;

/* Empty: nothing is compressed. *out is yours until rq_coreml_config_destroy. RQ_NO_MEMORY. */
RQ_API rq_status rq_coreml_config_create(rq_coreml_config **out, rq_err *err);
RQ_API void rq_coreml_config_destroy(rq_coreml_config *c);
/* Does no rule say anything but "do not compress"? */
RQ_API bool rq_coreml_config_is_empty(const rq_coreml_config *c);
/* c NULL as op config: do not compress. A later call for the same key replaces an earlier one. Names of operators or of constants,
 * or patterns with * and ? for operators (ours); a name counts before a pattern, the last pattern before others, that before a type, a type before the global one. Ranges of fields are checked. RQ_BAD_ARG, RQ_NO_MEMORY. */
RQ_API rq_status rq_coreml_config_set_global(rq_coreml_config *c, const rq_coreml_op_config *op, rq_err *err);
RQ_API rq_status rq_coreml_config_set_op_type(rq_coreml_config *c, const char *type, const rq_coreml_op_config *op,
                                              rq_err *err);
RQ_API rq_status rq_coreml_config_set_op_name(rq_coreml_config *c, const char *name, const rq_coreml_op_config *op,
                                              rq_err *err);
/* As OptimizationConfig.from_yaml and from_dict have it (config_type, global_config, op_type_configs, op_name_configs); YAML, so
 * JSON, too. Sentences name line and key. RQ_BAD_RECIPE, RQ_IO, RQ_NO_MEMORY. */
RQ_API rq_status rq_coreml_config_load(rq_coreml_config **out, const char *path, rq_err *err);
RQ_API rq_status rq_coreml_config_parse(rq_coreml_config **out, const char *text, size_t n, rq_err *err);

/* ---- the algorithms ---- */

/* What was done, and what was not and why: one entry per constant looked at. */
typedef struct rq_coreml_report rq_coreml_report;
/* For people; with `all`, constants that were passed over, too. At most n bytes with the NUL; returns the length of all, -1: memory. */
RQ_API int64_t rq_coreml_report_text(const rq_coreml_report *r, bool all, char *buf, size_t n);
RQ_API int64_t rq_coreml_report_json(const rq_coreml_report *r, char *buf, size_t n);
/* How many constants were compressed: 0 is seldom what was meant. */
RQ_API int rq_coreml_report_done(const rq_coreml_report *r);
RQ_API void rq_coreml_report_destroy(rq_coreml_report *r);

/* linear_quantize_weights. `joint`: parameters of existing constexpr_ operators, too (iOS 18). *report (NULL is fine) is yours.
 * RQ_BAD_ARG: the sentence of coremltools for what it refuses; a name of the config that is no operator or constant of the program, a
 * type that no operator has (one that only this program lacks is a note in the report).
 * RQ_UNSUPPORTED: several functions; a setting that needs iOS 18. */
RQ_API rq_status rq_coreml_linear_quantize_weights(rq_coreml *m, const rq_coreml_config *c, bool joint,
                                                   rq_coreml_report **report, rq_err *err);
RQ_API rq_status rq_coreml_palettize_weights(rq_coreml *m, const rq_coreml_config *c, bool joint,
                                             rq_coreml_report **report, rq_err *err);
RQ_API rq_status rq_coreml_prune_weights(rq_coreml *m, const rq_coreml_config *c, bool joint, rq_coreml_report **report,
                                         rq_err *err);
/* The one of the three that the class of the config's settings asks for; of an empty one linear_quantize_weights. RQ_BAD_ARG: settings of
 * more than one algorithm. */
RQ_API rq_status rq_coreml_compress_weights(rq_coreml *m, const rq_coreml_config *c, bool joint,
                                            rq_coreml_report **report, rq_err *err);
/* Every constexpr_ operator becomes a constant. */
RQ_API rq_status rq_coreml_decompress_weights(rq_coreml *m, rq_err *err);

/* A network that coremltools.optimize.torch compressed (LinearQuantizer or PostTrainingQuantizer, palettizers, pruners; finalized), converted with its
 * own integers. m: its graph as a program; state: its state dict (rq_state_load of a .safetensors file), floats and, beside them, buffers
 * "[<module>.]_COREML_/<parameter>/<key>". Each such parameter is a constant of the program, found by name or else by its
 * numbers, and becomes what the buffers say: codes = rne(w / quantization_scale) + zero_point, indices = the nearest entries of lut,
 * zeros up to 2^-10. may_raise: a version that cannot say it is raised (to iOS 16, or 18 for 4 bits, blocks, groups of tables and more
 * than one compression). *report (NULL is fine) is yours. RQ_NOT_FOUND: buffers of no constant, or none at all; RQ_BAD_DATA: keys, shapes,
 * combinations, in sentences that name the parameter; RQ_UNSUPPORTED: a version, several functions. */
RQ_API rq_status rq_coreml_apply_metadata(rq_coreml *m, const rq_state *state, bool may_raise,
                                          rq_coreml_report **report, rq_err *err);

/* get_weights_metadata: every constant of weight_threshold elements and more (coremltools' default: 2048) with its type and shape, the share of its
 * elements that are 0 (|w| <= 1e-12), how many different numbers it holds, the operations that read it and which other such
 * constants they read. As lines for people, or as JSON under its name. *out is yours: rq_free.
 * RQ_UNSUPPORTED: several functions. */
RQ_API rq_status rq_coreml_weights_metadata(const rq_coreml *m, int64_t weight_threshold, bool json, char **out,
                                            rq_err *err);

/* linear_quantize_activations: the program is run on rows[0..n_rows) of d (NULL: all; opened with m's graph: rq_coreml_to_graph or rq_load),
 * ranges are kept of what each operator gives, pairs of quantize and dequantize are put around conv, linear, add and pools. Of c `mode`
 * and `dtype` (8 bits) count. Weights later: those that are compressed already are not seen. *report (NULL is fine) is yours.
 * RQ_UNSUPPORTED: an operator that cannot be run; RQ_BAD_DATA: the samples, NaN among them; RQ_BAD_ARG: c, a name or type of it that the
 * program has not (as of weights above), or a program that has quantize operations already; RQ_NO_MEMORY. What c says of operators that take no codes is a note in the report. */
RQ_API rq_status rq_coreml_linear_quantize_activations(rq_coreml *m, const rq_coreml_config *c, rq_dataset *d,
                                                       const int64_t *rows, int64_t n_rows, rq_coreml_report **report,
                                                       rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
