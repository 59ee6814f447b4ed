/* requant/ptq.h — post-training quantization: calibrate a float graph on samples, choose scales and zero
 * points, annotate the graph. */
#ifndef REQUANT_PTQ_H
#define REQUANT_PTQ_H

#include <requant/dataset.h>
#include <requant/ends.h>
#include <requant/recipe.h>
#include <requant/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Progress of anything long: done of total steps of `phase`; eta_s < 0 while unknown. Return false to cancel
 * (the call then returns RQ_CANCELLED). */
typedef bool (*rq_progress_fn)(void *arg, const char *phase, int64_t done, int64_t total, double eta_s);

/* What becomes integers. */
typedef enum rq_mode {
    RQ_MODE_STATIC,      /* weights and activations; ranges of activations are calibrated */
    RQ_MODE_DYNAMIC,     /* weights, and inputs of products, whose ranges are measured while the model runs */
    RQ_MODE_WEIGHT_ONLY, /* weights; they are made reals again before they are used */
} rq_mode;

/* How weights of few bits are written. */
typedef enum rq_weight_form {
    RQ_WEIGHT_FORM_DQ, /* codes and a DequantizeLinear (opset 13 per channel, 21 for blocks and 4 bits, 25 for 2) */
    RQ_WEIGHT_FORM_MATMULNBITS, /* operators of ONNX Runtime: MatMulNBits, GatherBlockQuantized; the rest as above */
} rq_weight_form;

typedef struct rq_ptq_cfg {
    rq_mode mode;
    bool per_row;      /* dynamic: inputs of products have a scale per row (s8), not one per tensor (u8) */
    bool dynamic_conv; /* dynamic: Conv too, as ConvInteger; runtimes run it slower than float more often than not */
    rq_weight_form weight_form; /* weight-only */
    int accuracy_level;         /* of MatMulNBits: 0 left to the runtime, 1 f32, 2 f16, 3 bf16, 4 int8 inputs */
    rq_settings settings;       /* of every tensor, unless the recipe says otherwise */
    const rq_recipe *recipe;    /* NULL: none */
    /* requant/ranges.h: taken instead of measured ones, so that no samples are needed; NULL: none */
    const struct rq_ranges *ranges;
    const rq_ends *ends; /* static mode: inputs and outputs that become codes; NULL: none do */
    const int64_t *rows; /* which samples calibrate, ascending; NULL: all */
    int64_t n_rows;
    /* Lists that end in NULL; NULL: no restriction. Names of nodes may be patterns with * and ?. One that fits nothing in the graph is RQ_NOT_FOUND. */
    const char *const *ops;    /* only operators of these types get codes */
    const char *const *nodes;  /* only these nodes do */
    const char *const *except; /* all but these do */
    int threads;               /* 0: one per core */
    bool onednn;               /* rq_session_cfg.onednn: the file may differ from CPU to CPU */
    rq_match match;            /* rq_session_cfg.match */
    rq_progress_fn progress;   /* NULL: none */
    void *progress_arg;
} rq_ptq_cfg;

/* Static, rq_settings_defaults, all samples, one thread per core. Never fails. */
RQ_API rq_ptq_cfg rq_ptq_defaults(void);

/* What was noticed on the way ("bias of conv1 would clip: scale of channels 3, 7 raised"). */
typedef struct rq_notes {
    char **text;
    int n, cap;
} rq_notes;
/* Add a sentence; notes NULL: nothing happens. RQ_NO_MEMORY. */
RQ_API rq_status rq_notes_add(rq_notes *notes, const char *fmt, ...) RQ_PRINTF(2, 3);
RQ_API void rq_notes_release(rq_notes *notes);

/* Quantize g in place: fold (BatchNormalization, constants), calibrate on `data`, annotate values, round weights
 * and biases to codes. notes may be NULL. On error g is unchanged.
 * Other modes than static need no samples: `data` may be NULL. With samples, some of them judge, and the layers that
 * harm the outputs most stay in float (weight-only, below 8 bits: get 8 bits).
 * RQ_BAD_ARG: settings that the mode or the form cannot express;
 * RQ_BAD_GRAPH: g is quantized already; RQ_BAD_RECIPE: a rule matches nothing; RQ_NUMERIC: a weight is not finite;
 * RQ_UNSUPPORTED: an operator cannot run; RQ_BAD_DATA; RQ_CANCELLED; RQ_NO_MEMORY. */
RQ_API rq_status rq_ptq(rq_graph *g, rq_dataset *data, const rq_ptq_cfg *cfg, rq_notes *notes, rq_err *err);

/* Remove quantization: Q/DQ pairs go, integer weights become float ones (for --requantize). On error g is unchanged.
 * RQ_BAD_GRAPH, RQ_BAD_SHAPE: an annotation does not fit its tensor; RQ_NO_MEMORY. */
RQ_API rq_status rq_dequantize(rq_graph *g, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
