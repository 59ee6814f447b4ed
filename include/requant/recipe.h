/* requant/recipe.h — which tensor gets which precision: global settings, then rules by operator type, node
 * name and tensor name. The most specific rule wins (tensor over name over type; among equals the later).
 * YAML; keys are the long option names:
 *
 *   method: mse
 *   rules:
 *     - match: {type: Conv, name: "stem*"}
 *       set: {weights: u8, per-tensor: true}
 *     - match: {tensor: image}
 *       set: {scale: 0.00392156862745098, zero-point: 0}
 *     - match: {name: "head*"}
 *       set: {float: true}
 */
#ifndef REQUANT_RECIPE_H
#define REQUANT_RECIPE_H

#include <requant/graph.h>
#include <requant/image.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_method { /* how a range is chosen from what calibration saw */
                         RQ_METHOD_MINMAX,
                         RQ_METHOD_EMA,
                         RQ_METHOD_PERCENTILE,
                         RQ_METHOD_ENTROPY,
                         RQ_METHOD_MSE,
                         RQ_METHOD_AVERAGE, /* mean of the smallest and largest element of each batch */
                         RQ_N_METHODS
} rq_method;
/* As options and recipes spell it: "mse"; "?" for none. */
RQ_API const char *rq_method_name(rq_method m);

/* How scales of weights are chosen where a model is quantized in its weights only. */
typedef enum rq_weight_method {
    RQ_WEIGHTS_MSE,     /* the range with the least squared error */
    RQ_WEIGHTS_MINMAX,  /* the range that is there */
    RQ_WEIGHTS_ORT,     /* as ONNX Runtime's MatMulNBitsQuantizer by default; symmetric: its scales may be negative */
    RQ_WEIGHTS_RTN,     /* as its RTN */
    RQ_WEIGHTS_HQQ,     /* half-quadratic quantization, as its HQQ */
    RQ_WEIGHTS_K_QUANT, /* as its k_quant, which is llama.cpp's */
    RQ_N_WEIGHT_METHODS
} rq_weight_method;
/* As options and recipes spell it: "k-quant"; "?" for none. */
RQ_API const char *rq_weight_method_name(rq_weight_method m);

/* Whose rules hold. ONNXRUNTIME: placement, calibration and weights as ONNX Runtime's static quantizer has them
 * (docs/onnx-facts.md 4.4 to 4.7), so that scales and zero points are the same numbers. */
typedef enum rq_compat {
    RQ_COMPAT_NONE,
    RQ_COMPAT_ONNXRUNTIME,           /* as for its QDQ form */
    RQ_COMPAT_ONNXRUNTIME_QOPERATOR, /* as for its QOperator form, which differs in Conv's weights, Softmax, Gather, reduced
                                        ranges and biases */
    RQ_N_COMPATS
} rq_compat;

/* Which tensors become codes, where compat says nothing (docs/onnx-facts.md 5.1, 5.2, 5.5). */
typedef enum rq_places {
    RQ_PLACES_REACH,      /* what lies between weighted operators, so that ONNX Runtime on a CPU stays in integers */
    RQ_PLACES_INPUTS,     /* inputs of weighted operators and of residual Adds only: TensorRT */
    RQ_PLACES_EVERYTHING, /* every float tensor: QNN */
} rq_places;

typedef enum rq_auto { RQ_NO, RQ_YES, RQ_AUTO } rq_auto; /* AUTO: as the rest of the settings has it */

/* Everything that can be set for one tensor (or node). */
typedef struct rq_settings {
    rq_method method;
    /* In place of method: one of the library's by name (requant/observer.h: min_max, moving_average_min_max, ema_min_max, histogram,
     * ema_percentile, mse, ema_mse), or one of the program's own (requant/own.h), which comes first; NULL: method. Borrowed */
    const char *observer;
    double percentile;    /* 0 < p <= 100 */
    double decay;         /* of ema: 0 <= d < 1 */
    rq_dtype activations; /* U8, S8, U16 or S16 */
    rq_dtype weights;     /* S8, U8, S4, U4, S16 or U16; S2 U2 too where only weights are quantized */
    bool symmetric_activations;
    bool symmetric_weights; /* zero point 0 (s8) or 128 (u8) */
    bool per_tensor;        /* weights: one scale instead of one per output channel */
    bool softmax_256;       /* Softmax outputs count in steps of 1/256, as in ONNX Runtime's QOperator models */
    int block_size;         /* weight-only: 16, 32, 64, 128 or 256 weights share a scale; 0: a channel does (all of
                               them, with per_tensor); -1: 32 for 4 and 2 bits, else 0 */
    rq_weight_method weight_method; /* weight-only */
    bool keep_float;                /* do not quantize */
    bool pinned;                    /* scale and zero_point below instead of a measured range */
    float scale;
    int32_t zero_point;
    bool has_lo, has_hi; /* `lo`, `hi` instead of that end of the measured range (of a weight: of its numbers) */
    double lo, hi;
    bool has_axis; /* of a weight: its channels lie along `axis` (negative: from the end) */
    int axis;
    bool reduced;             /* weights use half of the codes (u8 0..127, s8 -64..64): sums fit older processors */
    bool restricted;          /* u8 activations: zero point 0, or 128 where the range goes below 0 */
    double min_range;         /* a narrower range is widened upwards to this; 0: as it is */
    rq_auto symmetric_ranges; /* ranges around zero whatever the codes are; AUTO: where the codes are, and for compat's
                                 percentile */
    rq_compat compat;
    rq_places places;     /* global only */
    bool coded_inputs;    /* global only: float inputs of the model become codes, whoever reads them */
    bool coded_outputs;   /* global only: float outputs become codes, whoever makes them */
    int bins, groups;     /* compat: bins that percentile (2048) and entropy (128) count in, groups of entropy (128);
                             0: these */
    bool float_bias;      /* biases stay in float */
    bool float_output;    /* what the operator makes gets no codes on its account */
    bool weight_pairs;    /* weights stay in float in the file, behind QuantizeLinear and DequantizeLinear */
    bool dedicated_pairs; /* a QuantizeLinear and DequantizeLinear of its own for each reader of a tensor */
    bool keep_clamps;     /* compat: Relu and Clip stay nodes */
    bool force_moves;     /* compat: MaxPool, Reshape, Transpose ... make codes of an input that has none */
    bool const_matmul;    /* MatMul of two activations stays in float */
} rq_settings;

/* The defaults of profile ort-cpu: u8 affine activations, s8 symmetric weights per channel. */
RQ_API rq_settings rq_settings_defaults(void);
/* Do the settings fit together? RQ_BAD_ARG, and the sentence says what does not: s8 activations with u8 weights (ONNX
 * Runtime has no kernels), restricted zero points of anything but affine u8, more groups than bins ... */
RQ_API rq_status rq_settings_check(const rq_settings *s, rq_err *err);

typedef struct rq_recipe rq_recipe;
/* Read a recipe file. RQ_BAD_RECIPE: the sentence gives line and key; an unknown key names the nearest. */
RQ_API rq_status rq_recipe_load(rq_recipe **out, const char *path, rq_err *err);
RQ_API void rq_recipe_destroy(rq_recipe *r);
/* Let its global keys override *s; keys the caller set himself (command line) are passed in `set` and stay: a list of long
 * option names that ends in NULL, or NULL. */
RQ_API void rq_recipe_apply_global(const rq_recipe *r, rq_settings *s, const char *const *set);
/* Settings of one tensor of a node (either name may be NULL), starting from base. */
RQ_API rq_settings rq_recipe_resolve(const rq_recipe *r, const rq_settings *base, const char *op, const char *node,
                                     const char *tensor);
/* RQ_BAD_RECIPE when a rule matched nothing in g: names the pattern and the nearest name there is. */
RQ_API rq_status rq_recipe_check(const rq_recipe *r, const rq_graph *g, rq_err *err);
/* How pictures become numbers (its key `preprocess`), as long as r lives; NULL: not said, or r is NULL. */
RQ_API const rq_preprocess *rq_recipe_preprocess(const rq_recipe *r);
/* Is there a rule that matches this tensor by its name? */
RQ_API bool rq_recipe_names_tensor(const rq_recipe *r, const char *tensor);
/* Are there rules in it, beside global keys? They matter to rq_ptq only. */
RQ_API bool rq_recipe_has_rules(const rq_recipe *r);
/* A global key that is not a tensor setting (threads, samples, batch, seed, lr, epochs ...) as text, or NULL. Lists and mappings (dim, augment) are
 * one text with commas, "h=32,w=320"; several features are lines. */
RQ_API const char *rq_recipe_option(const rq_recipe *r, const char *key);

#ifdef __cplusplus
}
#endif
#endif
