/* requant/fake_quantizer.h — the module that stands where a tensor will be quantized while a network is trained: it watches
 * the tensor, keeps scale and zero point, and sends the tensor to codes and back.
 *
 *   forward    observer on: the observer sees x, and scale and zero point follow it. Then fake quantization on: y = fq(x), else y = x
 *   backward   STANDARD, FUSED, FIXED: straight-through (requant/fake_quantize.h); LEARNABLE: with gradients of scale and zero point
 *              (requant/learned_quantize.h), added to buffers that an optimizer reads
 *
 * A fake-quantizer that has seen nothing refuses to quantize: its scale would mean nothing. One rule finds scale and zero point for training and
 * for export: rq_observer_qparams, and what forward used last is what rq_fake_quantizer_qparams gives. `compat` is the originals'
 * way, faults included (docs/numerics.md, "Departures from the originals"; docs/torch-facts.md 2.5 to 2.8).
 * F32 tensors of any strides (F64, F16, BF16 as well but for LEARNABLE); y may be x, dx may be dy. One thread at a time; the work is shared by those of the rq_exec (NULL: none),
 * and no result depends on them. */
#ifndef REQUANT_FAKE_QUANTIZER_H
#define REQUANT_FAKE_QUANTIZER_H

#include <requant/exec.h>
#include <requant/learned_quantize.h>
#include <requant/observer.h>
#include <requant/qparams.h>
#include <requant/state.h>
#include <requant/strided.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_fake_quantizer_kind {
    RQ_FAKE_QUANTIZER_STANDARD, /* PyTorch's FakeQuantize: any observer */
    RQ_FAKE_QUANTIZER_FUSED, /* FusedMovingAvgObsFakeQuantize: MINMAX or MOVING_AVERAGE. compat: scale and zero point by RQ_QPARAMS_CQP at
                                every forward that quantizes, those of export by the observer's rule; else as STANDARD */
    RQ_FAKE_QUANTIZER_FIXED,     /* FixedQParamsFakeQuantize: scale and zero_point of the observer's cfg (FIXED) */
    RQ_FAKE_QUANTIZER_LEARNABLE, /* PyTorch's _LearnableFakeQuantize (rule TORCH), Core ML Tools' (rule LSQ) */
    RQ_FAKE_QUANTIZER_OWN,       /* of the program: cfg.own */
    RQ_N_FAKE_QUANTIZERS
} rq_fake_quantizer_kind;

typedef struct rq_own_fake_quantizer rq_own_fake_quantizer;

typedef struct rq_fake_quantizer_cfg {
    rq_fake_quantizer_kind kind;
    rq_observer_cfg observer; /* codes (type, scheme, axis, reduce_range), and how the range is found. Up to 16 bits */
    bool compat;              /* the original's numbers; the observer is then so as well */
    /* ---- LEARNABLE ---- */
    rq_learned_rule rule;  /* TORCH by default */
    bool use_grad_scaling; /* multiply gradients of scale and zero point by rq_learned_grad_factor; LSQ always does */
    int channels;          /* per channel: how many (PyTorch's channel_len); 0: as many as the first batch has */
    float scale;           /* to start from; 0: what the first batch gives (compat: 1) */
    float zero_point;
    /* ---- OWN ---- */
    const rq_own_fake_quantizer *own; /* borrowed, must outlive the object */
} rq_fake_quantizer_cfg;

/* The defaults: observer MOVING_AVERAGE over u8, per tensor affine (LEARNABLE with rule LSQ: set observer.kind to EMA for Core ML Tools' default;
 * FIXED: scale 1/256, zero point 0). */
RQ_API rq_fake_quantizer_cfg rq_fake_quantizer_defaults(rq_fake_quantizer_kind kind);
/* "FakeQuantize", "FusedMovingAvgObsFakeQuantize", ... ; "?" for none. */
RQ_API const char *rq_fake_quantizer_kind_name(rq_fake_quantizer_kind kind);

typedef struct rq_fake_quantizer rq_fake_quantizer;

/* Make one; *out is yours until rq_fake_quantizer_destroy. Observer and fake quantization are on; LEARNABLE: static estimate (below).
 * RQ_BAD_ARG, RQ_BAD_DTYPE, RQ_UNSUPPORTED: the cfg, or its observer's, with a sentence; RQ_NO_MEMORY. err may be NULL, here and below. */
RQ_API rq_status rq_fake_quantizer_create(rq_fake_quantizer **out, const rq_fake_quantizer_cfg *cfg, rq_err *err);
RQ_API void rq_fake_quantizer_destroy(rq_fake_quantizer *q); /* NULL is fine */

/* y = forward of x, as above. RQ_BAD_SHAPE, RQ_BAD_DTYPE: x does not fit, or not what was seen before; RQ_BAD_DATA: fake quantization is on and there is no
 * scale yet, as nothing was seen; RQ_NUMERIC: a scale or range is none; RQ_NO_MEMORY. */
RQ_API rq_status rq_fake_quantizer_forward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                                           rq_err *err);
/* dx from dy and the x of the forward just made. LEARNABLE adds to dscale and dzero_point, where those are trained. Errors as forward. */
RQ_API rq_status rq_fake_quantizer_backward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx,
                                            const rq_strided *dy, const rq_strided *x, rq_err *err);

/* ---- switches ---- */

/* Whether forward observes x, and whether it quantizes (off: y is x). Nothing else changes them: training and evaluation are alike. */
RQ_API void rq_fake_quantizer_enable_observer(rq_fake_quantizer *q, bool on);
RQ_API void rq_fake_quantizer_enable_fake_quant(rq_fake_quantizer *q, bool on);
RQ_API bool rq_fake_quantizer_observer_enabled(const rq_fake_quantizer *q);
RQ_API bool rq_fake_quantizer_fake_quant_enabled(const rq_fake_quantizer *q);

/* The three phases of LEARNABLE:
 *                           observer   fake quantization   scale and zero point
 *   static estimate         on         on                  follow the observer; not trained     (as created)
 *   static observation      on         off                 stay as they are; not trained        (compat: follow the observer)
 *   param learning          off        on                  trained; start from what was observed
 * With the switches above: the observer off without learning is frozen. compat: TORCH trains as created too (the observer overwrites every step), LSQ
 * always. RQ_BAD_ARG: another kind; RQ_BAD_DATA: learning, and nothing to start from. */
RQ_API rq_status rq_fake_quantizer_enable_param_learning(rq_fake_quantizer *q, rq_err *err);
RQ_API rq_status rq_fake_quantizer_enable_static_estimate(rq_fake_quantizer *q, rq_err *err);
RQ_API rq_status rq_fake_quantizer_enable_static_observation(rq_fake_quantizer *q, rq_err *err);
/* Are they trained now? A zero point only where the scheme is affine (compat, TORCH: any scheme). */
RQ_API bool rq_fake_quantizer_trains_scale(const rq_fake_quantizer *q);
RQ_API bool rq_fake_quantizer_trains_zero_point(const rq_fake_quantizer *q);

/* ---- parameters ---- */

/* How many scales; 0: not known before the first batch. */
RQ_API int rq_fake_quantizer_channels(const rq_fake_quantizer *q);
/* Arrays of that many: what forward uses, and the sums of gradients since rq_fake_quantizer_zero_grad (LEARNABLE; zeros for the others). An
 * optimizer may write to scale and zero_point of a LEARNABLE one: the next forward raises a scale below 2^-23 to it, and (LSQ) rounds zero
 * points. Valid until the number of channels changes. NULL where there are none. */
RQ_API float *rq_fake_quantizer_scale(rq_fake_quantizer *q);
RQ_API float *rq_fake_quantizer_zero_point(rq_fake_quantizer *q);
RQ_API float *rq_fake_quantizer_dscale(rq_fake_quantizer *q);
RQ_API float *rq_fake_quantizer_dzero_point(rq_fake_quantizer *q);
RQ_API void rq_fake_quantizer_zero_grad(rq_fake_quantizer *q);
/* Take these n of each (zero_point NULL: zeros) as if they had been observed; an observer that is on replaces them at the next forward.
 * RQ_BAD_ARG: n does not fit, or FIXED; RQ_NUMERIC: a scale is no normal positive number, a zero point no code (LEARNABLE: not finite); RQ_NO_MEMORY. */
RQ_API rq_status rq_fake_quantizer_set_qparams(rq_fake_quantizer *q, const float *scale, const float *zero_point, int n,
                                               rq_err *err);
/* Its observer; NULL: OWN. The codes that it uses. */
RQ_API const rq_observer *rq_fake_quantizer_observer(const rq_fake_quantizer *q);
RQ_API rq_qtype rq_fake_quantizer_type(const rq_fake_quantizer *q);

/* What the exported network gets (calculate_qparams): what forward used, or would use; *out is yours to release. Float qparams (embeddings) put real zero
 * points into zero_point_f[channels], which may be NULL otherwise. compat: asks the observer instead, whatever the stored ones are (LEARNABLE: the
 * parameters). RQ_BAD_DATA: nothing was seen (compat: as rq_observer_qparams). RQ_NUMERIC, RQ_NO_MEMORY. */
RQ_API rq_status rq_fake_quantizer_qparams(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f,
                                           rq_err *err);

/* As it was created: nothing seen, switches and gradients too. */
RQ_API void rq_fake_quantizer_reset(rq_fake_quantizer *q);

/* What it remembers, under the original's names: fake_quant_enabled, observer_enabled, scale, zero_point (LEARNABLE TORCH also static_enabled,
 * learning_enabled, eps), and activation_post_process.* for the observer. Gradients are not kept.
 * Loading: errors as rq_state_get and rq_observer_load; RQ_BAD_DATA: numbers that are not finite f32, or (not LEARNABLE, not compat) a scale that is no normal
 * positive number, a zero point that is none of q's codes (compat: past 2^23); then q is as it was. Type and scheme are not kept: load into one made alike. A
 * zero point is trained or not by the scheme, not by what was loaded. */
RQ_API rq_status rq_fake_quantizer_save(const rq_fake_quantizer *q, rq_state *s, const char *prefix);
RQ_API rq_status rq_fake_quantizer_load(rq_fake_quantizer *q, const rq_state *s, const char *prefix, rq_err *err);

/* "FakeQuantize(fake_quant_enabled=1, observer_enabled=1, quant_min=0, quant_max=255, dtype=u8, qscheme=per_tensor_affine, ch_axis=-1, scale=1,
 * zero_point=0)": one line; of many channels the first. Returns buf. */
enum { RQ_FAKE_QUANTIZER_TEXT = 320 };
RQ_API const char *rq_fake_quantizer_text(const rq_fake_quantizer *q, char *buf, size_t n);

/* ---- a fake-quantizer of your own ---- */

/* The switches live in the object and are handed in; all else is a state of yours. A function that fails writes a sentence to err (rq_fail) and
 * returns its status. Those marked "may be NULL" have the meaning said. */
struct rq_own_fake_quantizer {
    const char *name; /* what texts, configs and recipes call it */
    /* An empty state; NULL: out of memory. */
    void *(*create)(void *user, const rq_fake_quantizer_cfg *cfg);
    void (*destroy)(void *state);
    /* x was seen: called by forward while the observer is on, before `forward`. May be NULL: it does not watch. */
    rq_status (*observe)(void *state, rq_exec *e, const rq_strided *x, rq_err *err);
    /* y from x; y may be x. Called while fake quantization is on. */
    rq_status (*forward)(void *state, rq_exec *e, const rq_strided *y, const rq_strided *x, rq_err *err);
    /* dx from dy and x; dx may be dy. May be NULL: backward is RQ_UNSUPPORTED. */
    rq_status (*backward)(void *state, rq_exec *e, const rq_strided *dx, const rq_strided *dy, const rq_strided *x,
                          rq_err *err);
    /* What the exported network gets; rq_qparams_init *out. zero_point_f as rq_fake_quantizer_qparams. */
    rq_status (*qparams)(void *state, rq_qparams *out, float *zero_point_f, rq_err *err);
    /* Parameters that are trained: *n of each, pointers valid until the next call; dscale and dzero_point are cleared by
     * rq_fake_quantizer_zero_grad. May be NULL: none. */
    void (*params)(void *state, int *n, float **scale, float **zero_point, float **dscale, float **dzero_point);
    void (*reset)(void *state);
    /* To and from named tensors; the switches are kept by the library. May be NULL: nothing is kept. */
    rq_status (*save)(void *state, rq_state *s, const char *prefix);
    rq_status (*load)(void *state, const rq_state *s, const char *prefix, rq_err *err);
    void *user; /* handed to create */
};

#ifdef __cplusplus
}
#endif
#endif
