/* requant/tensor_quantizer.h — the quantizer of one tensor: TensorQuantizer of NVIDIA's pytorch-quantization 2.2.1 (docs/calibration-facts.md 8).
 *
 * It holds a descriptor, an amax (or finds one for every input: dynamic), a calibrator, clipping bounds that are trained (learn_amax), and a scale that
 * inputs are multiplied by first. One pass, rq_tensor_quantizer_forward, does in this order:
 *
 *   x = x * pre_quant_scale, if there is one          also when disabled
 *   disabled: y = x
 *   calibrating: the calibrator sees x
 *   clipping: y = clip(x);  quantizing: y = quantize(x), from x again;  neither: y = x
 *
 * where quantize is scaled_e4m3, fake_tensor_quant or (fake_quant false) tensor_quant of requant/tensor_quant.h with
 *
 *   learn_amax   x = clip(x), amax = max(-lo, hi); stored amax and scale_amax are not looked at
 *   otherwise    amax = what is stored, else max |x| over the axes that keep none (NaN and infinities not counted); times scale_amax
 *
 * A quantizer serves one thread at a time; inside, work goes over the threads of the rq_exec (NULL: one). err may be NULL. */
#ifndef REQUANT_TENSOR_QUANTIZER_H
#define REQUANT_TENSOR_QUANTIZER_H

#include <requant/quant_desc.h>
#include <requant/tensor_quant.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_tensor_quantizer rq_tensor_quantizer;

typedef struct rq_tensor_quantizer_cfg {
    bool disabled; /* false */
    bool if_quant; /* true */
    bool if_clip;  /* false; true with learn_amax whatever stands here */
    bool if_calib; /* false */
    bool
        pass_through; /* false; true: quantizing passes gradients beyond amax too, the default of ModelOpt (pass_through_bwd) */
    const rq_own_calibrator *own; /* NULL; a calibrator of the program's in place of the descriptor's. Borrowed */
    bool compat; /* real codes are always of narrow range; amax is NaN after loading nothing with strict false; NaN and
                                     infinities count in a dynamic amax; F16 as rq_tensor_quant_cfg.compat */
} rq_tensor_quantizer_cfg;

/* Enabled, quantizing, not calibrating, not clipping, as the original. */
RQ_API rq_tensor_quantizer_cfg rq_tensor_quantizer_defaults(void);

/* *out is yours until rq_tensor_quantizer_destroy. The descriptor is copied (NULL: the default one), its amax becomes the stored one; with
 * learn_amax the bounds are -amax and amax, 1 where there is none. cfg NULL: the defaults.
 * RQ_BAD_ARG: what rq_quant_desc_check says, a calibrator that does not take these settings; RQ_UNSUPPORTED: a histogram with axes; RQ_NO_MEMORY. On error *out is untouched. */
RQ_API rq_status rq_tensor_quantizer_create(rq_tensor_quantizer **out, const rq_quant_desc *desc,
                                            const rq_tensor_quantizer_cfg *cfg, rq_err *err);
RQ_API void rq_tensor_quantizer_destroy(rq_tensor_quantizer *q); /* NULL is fine */

/* y = what the above says of x. F32, F64, F16 or BF16, x and y of one type and shape, any strides; y may be x.
 * RQ_BAD_ARG: clipping without learn_amax; an axis that x has not; what rq_fake_tensor_quant says; RQ_BAD_SHAPE: the stored amax or pre_quant_scale does
 * not fit x, or the kept axes changed their size while calibrating; RQ_BAD_DTYPE, RQ_NUMERIC (rq_tensor_quant), RQ_NO_MEMORY. */
RQ_API rq_status rq_tensor_quantizer_forward(rq_tensor_quantizer *q, rq_exec *e, const rq_strided *y,
                                             const rq_strided *x, rq_err *err);

/* The gradient at x for dy at y, of a forward pass in the state that q is in now; x is that of the forward pass. dx may be dy. Straight-through:
 * dy where |x| <= amax (pass_through: everywhere), passed through clip and pre_quant_scale where they took part. *dlo, *dhi (either may be NULL): gradients of the clipping
 * bounds, 0 where these took no part or clipping is disabled. Errors as above. */
RQ_API rq_status rq_tensor_quantizer_backward(rq_tensor_quantizer *q, rq_exec *e, const rq_strided *dx, double *dlo,
                                              double *dhi, const rq_strided *dy, const rq_strided *x, rq_err *err);

/* ---- states ---- */
RQ_API void rq_tensor_quantizer_enable(rq_tensor_quantizer *q, bool on); /* false: disabled */
RQ_API void rq_tensor_quantizer_enable_quant(rq_tensor_quantizer *q, bool on);
RQ_API void rq_tensor_quantizer_enable_calib(rq_tensor_quantizer *q, bool on);
/* Off: the bounds get no gradient any more, and clip-only mode passes x on; quantizing with learn_amax still clips.
 * RQ_BAD_ARG: "learn_amax is False. Cannot enable clip." */
RQ_API rq_status rq_tensor_quantizer_enable_clip(rq_tensor_quantizer *q, bool on, rq_err *err);
RQ_API bool rq_tensor_quantizer_is_enabled(const rq_tensor_quantizer *q);
RQ_API bool rq_tensor_quantizer_is_quant(const rq_tensor_quantizer *q);
RQ_API bool rq_tensor_quantizer_is_calib(const rq_tensor_quantizer *q);
RQ_API bool rq_tensor_quantizer_is_clip(const rq_tensor_quantizer *q);

/* What may change later. A width that no function takes is refused when it is used; the calibrator keeps what it was made with. */
RQ_API void rq_tensor_quantizer_set_num_bits(rq_tensor_quantizer *q, int num_bits);
RQ_API void rq_tensor_quantizer_set_unsigned(rq_tensor_quantizer *q, bool is_unsigned);
RQ_API void rq_tensor_quantizer_set_narrow_range(rq_tensor_quantizer *q, bool narrow_range);
/* As it is now (with the three above in it); valid as long as q. */
RQ_API const rq_quant_desc *rq_tensor_quantizer_desc(const rq_tensor_quantizer *q);

/* ---- numbers ---- */
/* The stored amax (F32), or NULL: dynamic. */
RQ_API const rq_tensor *rq_tensor_quantizer_amax(const rq_tensor_quantizer *q);
/* Store a copy of amax (F32, F64, F16 or BF16; kept as F32). RQ_BAD_SHAPE: "Changing shape when setting amax is not allowed."; RQ_BAD_ARG: NULL, or negative; RQ_NO_MEMORY: q is as it was. */
RQ_API rq_status rq_tensor_quantizer_set_amax(rq_tensor_quantizer *q, const rq_tensor *amax, rq_err *err);
RQ_API rq_status rq_tensor_quantizer_set_amax_one(rq_tensor_quantizer *q, float amax, rq_err *err);
/* The same for what inputs are multiplied by (any numbers; broadcast to x by the right-aligned rule). */
RQ_API const rq_tensor *rq_tensor_quantizer_pre_quant_scale(const rq_tensor_quantizer *q);
RQ_API rq_status rq_tensor_quantizer_set_pre_quant_scale(rq_tensor_quantizer *q, const rq_tensor *scale, rq_err *err);

/* 2^(bits-1+unsigned) - 1, or 448 for FP8. */
RQ_API float rq_tensor_quantizer_maxbound(const rq_tensor_quantizer *q);
/* *out (overwritten, yours) = amax / maxbound, F32 of amax's shape. RQ_NOT_FOUND: no amax is stored; RQ_UNSUPPORTED: FP8; RQ_NO_MEMORY. */
RQ_API rq_status rq_tensor_quantizer_step_size(const rq_tensor_quantizer *q, rq_tensor *out, rq_err *err);
/* The multipliers s of the last real quantization, of its amax's shape; NULL before, and with fake_quant (where the original says 1.0). */
RQ_API const rq_tensor *rq_tensor_quantizer_scale(const rq_tensor_quantizer *q);
/* NaN and infinities left out of dynamic amaxs so far. The calibrator has counts of its own. */
RQ_API uint64_t rq_tensor_quantizer_bad(const rq_tensor_quantizer *q);

/* ---- calibration ---- */
/* To ask or to reset. */
RQ_API rq_calibrator *rq_tensor_quantizer_calibrator(rq_tensor_quantizer *q);
/* Store what the calibrator found (rq_calibrator_amax with method and params), a copy. A stored amax keeps its shape: the new one must broadcast to it, else
 * RQ_BAD_SHAPE. RQ_NOT_FOUND: "Calibrator returned None", nothing was collected; with strict false that is RQ_OK and nothing changes. RQ_BAD_ARG: a method that the calibrator has not; RQ_NO_MEMORY. */
RQ_API rq_status rq_tensor_quantizer_load_calib_amax(rq_tensor_quantizer *q, rq_amax_method method,
                                                     const rq_amax_params *params, bool strict, rq_err *err);

/* ---- learned bounds ---- */
/* Bounds from the stored amax, the largest where there are several: -amax, amax. RQ_BAD_ARG: learn_amax is false; RQ_NOT_FOUND: no amax is stored. */
RQ_API rq_status rq_tensor_quantizer_init_learn_amax(rq_tensor_quantizer *q, rq_err *err);
/* The bounds as they are, for a trainer to change; RQ_BAD_ARG: learn_amax is false; a new bound is NaN. */
RQ_API rq_status rq_tensor_quantizer_bounds(const rq_tensor_quantizer *q, float *lo, float *hi, rq_err *err);
RQ_API rq_status rq_tensor_quantizer_set_bounds(rq_tensor_quantizer *q, float lo, float hi, rq_err *err);

/* ---- kept and printed ---- */
/* "<prefix>_amax", "<prefix>_pre_quant_scale", "<prefix>clip.clip_value_min", "..._max", each where it is there, under the originals' names, and "<prefix>_descriptor",
 * the settings as YAML. The calibrator's statistics are not among them (rq_calibrator_save). RQ_NO_MEMORY. */
RQ_API rq_status rq_tensor_quantizer_save(const rq_tensor_quantizer *q, rq_state *s, const char *prefix, rq_err *err);
/* Take them; what q has not yet is made. A state of the originals, without descriptor, is taken too: one with nothing under `prefix` is that of
 * a dynamic quantizer, and changes nothing in one (so does a misspelt prefix). RQ_BAD_DATA: another descriptor (both are said; name, calibrator and initial amax
 * may differ), a negative amax, or clipping bounds for a q that learns none; RQ_NOT_FOUND: something that q has is missing; RQ_BAD_SHAPE: another shape than q has; RQ_BAD_DTYPE, RQ_NO_MEMORY. q is then as it was. */
RQ_API rq_status rq_tensor_quantizer_load(rq_tensor_quantizer *q, const rq_state *s, const char *prefix, rq_err *err);

/* As the original prints itself: "TensorQuantizer(8bit fake per-tensor amax=dynamic calibrator=MaxCalibrator scale=1.0 quant)". At most n bytes with the NUL
 * go to buf; the answer is the length of the whole text, or -1 when memory is out. */
RQ_API int64_t rq_tensor_quantizer_text(const rq_tensor_quantizer *q, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
