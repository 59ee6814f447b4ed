/* requant/qconfig.h — how a layer is quantized: who watches its output, and who its weight. PyTorch's QConfig.
 *
 * A qconfig holds two constructors, not two objects: each layer makes its own observer or fake-quantizer from them (rq_qconfig_make_activation,
 * rq_qconfig_make_weight). The well-known pairs have names: rq_qconfig_preset lists them, `requant qconfigs` prints the list. docs/qconfig.md
 * says what each executor honours. */
#ifndef REQUANT_QCONFIG_H
#define REQUANT_QCONFIG_H

#include <requant/fake_quantizer.h>
#include <requant/observer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_qconfig_form {                            /* what a constructor makes */
                               RQ_QCONFIG_NOTHING,        /* Identity: numbers pass, and stay float */
                               RQ_QCONFIG_OBSERVER,       /* rq_observer: post-training quantization */
                               RQ_QCONFIG_FAKE_QUANTIZER, /* rq_fake_quantizer: training */
                               RQ_N_QCONFIG_FORMS
} rq_qconfig_form;

typedef struct rq_qconfig_part {
    rq_qconfig_form form;
    rq_observer_cfg observer;             /* OBSERVER */
    rq_fake_quantizer_cfg fake_quantizer; /* FAKE_QUANTIZER; its observer is in it */
    bool dynamic;                         /* an activation: scale and zero point are measured while the layer runs */
} rq_qconfig_part;

typedef struct rq_qconfig {
    rq_qconfig_part activation, weight;
} rq_qconfig;

/* One that does nothing: OBSERVER with rq_observer_defaults(kind), FAKE_QUANTIZER with the defaults of its kind. */
RQ_API rq_qconfig_part rq_qconfig_nothing(void);
RQ_API rq_qconfig_part rq_qconfig_observes(const rq_observer_cfg *cfg);
RQ_API rq_qconfig_part rq_qconfig_fake_quantizes(const rq_fake_quantizer_cfg *cfg);
/* The observer of either form; NULL: there is none. */
RQ_API const rq_observer_cfg *rq_qconfig_observer(const rq_qconfig_part *p);

/* The same constructors with the same settings? Two NULLs are equal. */
RQ_API bool rq_qconfig_equal(const rq_qconfig *a, const rq_qconfig *b);
RQ_API bool rq_qconfig_part_equal(const rq_qconfig_part *a, const rq_qconfig_part *b);

/* ---- by name ---- */

/* Row i of the constructors that have names ("default_weight_observer" ...); false: there is none. */
typedef struct rq_qconfig_constructor_row {
    const char *name;
    rq_qconfig_part part;
} rq_qconfig_constructor_row;
RQ_API bool rq_qconfig_constructor(int i, rq_qconfig_constructor_row *out);

/* Row i of the presets: PyTorch's, the defaults of its backends ("fbgemm", "fbgemm_qat", "fbgemm_qat_v0" ...), and those of Core ML Tools'
 * LinearQuantizer ("linear_quantizer" ...). False: there is none. */
typedef struct rq_qconfig_preset_row {
    const char *name, *activation, *weight; /* the latter: names of constructors, or whose they are */
    const char *backend;                    /* whose default it is; NULL: nobody's */
    bool training;                          /* it fake-quantizes */
    int version;                            /* of a backend's default */
    rq_qconfig qconfig;
} rq_qconfig_preset_row;
RQ_API bool rq_qconfig_preset(int i, rq_qconfig_preset_row *out);

/* From the name of a constructor, of a preset. RQ_NOT_FOUND; the sentence has the nearest name. */
RQ_API rq_status rq_qconfig_part_named(rq_qconfig_part *out, const char *name, rq_err *err);
RQ_API rq_status rq_qconfig_named(rq_qconfig *out, const char *name, rq_err *err);

/* The default of backend fbgemm, x86, qnnpack or onednn: after training (version 0), for training (version 1: fused; 0: not). PyTorch 1.13 has
 * another default for any other word. RQ_NOT_FOUND: no such backend; the sentence has the nearest. RQ_BAD_ARG: no such version. */
RQ_API rq_status rq_qconfig_default(rq_qconfig *out, const char *backend, int version, rq_err *err);
RQ_API rq_status rq_qconfig_default_qat(rq_qconfig *out, const char *backend, int version, rq_err *err);

/* What Core ML Tools' ModuleLinearQuantizerConfig says of one layer. */
typedef struct rq_qconfig_linear {
    bool learnable;                       /* algorithm "learnable"; else "vanilla" */
    rq_qtype weight;                      /* 2 to 8 bits; dtype F32: weights stay in float */
    rq_observer_kind weight_observer;     /* MOVING_AVERAGE, MINMAX, EMA, and those the documentation alone knows */
    bool weight_per_channel;              /* along axis 0, of ConvTranspose 1 */
    rq_dtype activation;                  /* U8; F32: no fake-quantizer */
    rq_observer_kind activation_observer; /* as above */
    bool affine;                          /* quantization_scheme "affine"; else "symmetric" */
    bool nonnegative; /* the activation follows a ReLU: symmetric becomes affine, so that all codes are used */
} rq_qconfig_linear;
/* vanilla, qint8 per channel, quint8, moving averages, symmetric. */
RQ_API rq_qconfig_linear rq_qconfig_linear_defaults(void);
/* RQ_BAD_ARG: a type or an observer that is none of these. */
RQ_API rq_status rq_qconfig_of_linear(rq_qconfig *out, const rq_qconfig_linear *cfg, rq_err *err);

/* Types whose output has a scale of its own: Sigmoid, Hardsigmoid and Softmax 1/256 and zero point 0, Tanh 2/256 and 128. */
RQ_API bool rq_qconfig_fixed_of(const char *type, float *scale, int32_t *zero_point);
/* Does the activation of q have that scale and zero point, whatever it sees? */
RQ_API bool rq_qconfig_is_fixed(const rq_qconfig *q, float scale, int32_t zero_point);

/* ---- what can run ---- */

/* Row i of those who run quantized layers: what each takes. False: there is none. */
typedef struct rq_qconfig_executor {
    const char *name;
    const char *activations;  /* types, with commas */
    const char *weights;      /* types, with commas */
    bool affine_weights;      /* a zero point other than 0 (or the middle) */
    bool transposed_channels; /* ConvTranspose with a scale per channel */
    const char *dynamic;      /* layers whose activations it measures while they run, with commas */
    bool half;                /* float16 weights in those */
    bool real_zero_points;    /* Embedding with float qparams */
    bool partial;             /* layers of which only the weight, or only the activation, has codes */
    bool dynamic_reduced;     /* reduce_range of measured activations does something */
    const char *note;         /* what does not fit the columns, or "" */
} rq_qconfig_executor;
RQ_API bool rq_qconfig_executor_row(int i, rq_qconfig_executor *out);

/* Can a layer of this type (NULL: any) with this qconfig be, and run in `executor` (NULL: only be)? q NULL is fine: not quantized.
 * RQ_BAD_ARG: it contradicts itself: codes outside of their type, codes without 0, a scale per channel of an activation, symmetric quint8 of
 * reduced range, real zero points of anything but an Embedding's weight, 32 bits ...; RQ_UNSUPPORTED: the executor cannot; RQ_NOT_FOUND: no such
 * executor. The sentence says what is there and what would do. */
RQ_API rq_status rq_qconfig_check(const rq_qconfig *q, const char *type, const char *executor, rq_err *err);

/* ---- making ---- */

/* An instance: at most one of the two. */
typedef struct rq_qconfig_made {
    rq_observer *observer;
    rq_fake_quantizer *fake_quantizer;
} rq_qconfig_made;

/* The activation's. `dynamic` ones, those that see nothing (Placeholder, Noop, ReuseInput), and Identity make what they are: an observer, or
 * nothing. RQ_NO_MEMORY, and what rq_observer_create and rq_fake_quantizer_create say. On error *out is cleared. */
RQ_API rq_status rq_qconfig_make_activation(const rq_qconfig *q, rq_qconfig_made *out, rq_err *err);
/* The weight's, of a layer of this type: the channel axis is rq_qconfig_weight_axis(type) where q has not set another one than 0. */
RQ_API rq_status rq_qconfig_make_weight(const rq_qconfig *q, const char *type, rq_qconfig_made *out, rq_err *err);
RQ_API void rq_qconfig_made_release(rq_qconfig_made *made);
/* Along which axis of its weight the output channels of a layer lie: 1 for ConvTranspose, 0 for all others. */
RQ_API int rq_qconfig_weight_axis(const char *type);
/* Does the activation's watcher belong in front of the layer, on its first input? A moving average that forgets at once (constant 1) does, in
 * eager mode. */
RQ_API bool rq_qconfig_watches_input(const rq_qconfig *q);

#ifdef __cplusplus
}
#endif
#endif
