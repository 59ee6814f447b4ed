/* requant/observer.h — watch a tensor batch by batch, then say which range of reals it needs, and which scale and zero point.
 *
 * One pass over the data and fixed memory (RECORDING keeps copies, up to a limit). NaN and infinities are counted and never folded; empty
 * tensors are ignored. Work is shared by the threads of the rq_exec, and no result depends on how many there are. An observer is for one thread
 * at a time. Formulas and where they are from: docs/torch-facts.md. */
#ifndef REQUANT_OBSERVER_H
#define REQUANT_OBSERVER_H

#include <requant/exec.h>
#include <requant/own.h>
#include <requant/qparams.h>
#include <requant/qtype.h>
#include <requant/state.h>
#include <requant/strided.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_observer_kind {
    /* ---- PyTorch's, and Core ML Tools' of the same names; per tensor, and those marked * per channel ---- */
    RQ_OBSERVER_MINMAX, /* * smallest and largest ever */
    RQ_OBSERVER_MOVING_AVERAGE, /* * v + c (m - v) of each batch's extremes m, in f32; the first batch is v. c: averaging_constant */
    RQ_OBSERVER_EMA,         /* * Core ML Tools' EMAMinMax: r v + (1 - r) m, in f32. r: ema_ratio */
    RQ_OBSERVER_HISTOGRAM,   /* counts, bins merged as the range grows; the range with least squared error */
    RQ_OBSERVER_PLACEHOLDER, /* sees nothing, has no parameters: float16, dynamic quantization */
    RQ_OBSERVER_RECORDING,   /* keeps a copy of every tensor: rq_observer_recorded */
    RQ_OBSERVER_NOOP,        /* sees nothing, has no parameters */
    RQ_OBSERVER_REUSE_INPUT, /* sees nothing: the output has the parameters of the input */
    RQ_OBSERVER_FIXED,       /* scale and zero_point as the cfg has them */
    /* ---- documented by Core ML Tools, defined here ---- */
    RQ_OBSERVER_EMA_PERCENTILE, /* extremes without the largest magnitudes, averaged as EMA */
    RQ_OBSERVER_MSE,            /* * the part of each batch's range with least squared error; the widest ever */
    RQ_OBSERVER_EMA_MSE,        /* * the same, averaged as EMA */
    RQ_OBSERVER_LSQ,            /* * scale 2 mean |x| / sqrt(Qp) of the last batch */
    RQ_OBSERVER_LSQ_PLUS, /* * scale from mean and three standard deviations (symmetric) or extremes (affine) of the last batch */
    /* ---- of a program: cfg.own ---- */
    RQ_OBSERVER_OWN,
    /* ---- of rq_ptq; per tensor ---- */
    RQ_OBSERVER_COUNTS, /* bins that grow with the data and are never resampled; the range is chosen at the end, by `choice` */
    RQ_OBSERVER_AVERAGE, /* the plain mean of each batch's extremes: ONNX Runtime's moving average */
    RQ_OBSERVER_STACKED, /* percentile and entropy as ONNX Runtime's quantizer has them: wants a second pass (rq_observer_again) */
    RQ_N_OBSERVERS
} rq_observer_kind;

/* "min_max", "moving_average_min_max", "ema_min_max", "histogram", "placeholder" ...; "?" for none. */
RQ_API const char *rq_observer_kind_name(rq_observer_kind kind);
/* From that name, any case, or PyTorch's name of the class, with or without its module ("MovingAveragePerChannelMinMaxObserver",
 * "torch.ao.quantization.observer.MinMaxObserver"; per channel or not is said by the cfg). RQ_BAD_ARG; the sentence has the nearest name. */
RQ_API rq_status rq_observer_kind_parse(rq_observer_kind *out, const char *text, rq_err *err);
/* Does PyTorch have it itself (Core ML Tools treats those apart)? */
RQ_API bool rq_observer_kind_is_native(rq_observer_kind kind);

typedef enum rq_choice { /* COUNTS, STACKED: how the range is chosen */
                         RQ_CHOICE_MINMAX,
                         RQ_CHOICE_PERCENTILE,
                         RQ_CHOICE_ENTROPY,
                         RQ_CHOICE_MSE,
                         RQ_CHOICE_OWN, /* cfg.own->choose */
} rq_choice;

typedef struct rq_observer_cfg {
    rq_observer_kind kind;
    /* ---- what the codes will be ---- */
    rq_qtype type;     /* u8 by default; an integer type */
    rq_qscheme scheme; /* per_tensor_affine by default; per channel exactly where axis is one */
    int axis;          /* channel axis of x, or RQ_PER_TENSOR */
    bool custom_range; /* type.lo and type.hi are quant_min and quant_max that someone asked for (rq_qparams_rule) */
    bool
        reduce_range; /* half of the codes: rq_qparams_rule. Symmetric u8 without custom_range: EMA only, as the originals */
    float eps;        /* least scale: 2^-23 */
    bool
        compat; /* NaN, infinities and tensors never seen as the original has them: docs/numerics.md, "Departures from the originals" */
    /* ---- how ---- */
    double averaging_constant; /* MOVING_AVERAGE: 0..1, 0.01; 1 keeps the last batch */
    double ema_ratio;          /* EMA, EMA_PERCENTILE, EMA_MSE: 0 <= r < 1, 0.9 */
    int bins;                  /* HISTOGRAM, EMA_PERCENTILE: 1..65536; COUNTS, STACKED: from 16; 2048 */
    int upsample_rate;         /* HISTOGRAM: 1..1024, 16 */
    bool torch_1;              /* HISTOGRAM: count as PyTorch up to 1.13 does (its upsample_rate: 128) */
    float scale;               /* FIXED */
    int32_t zero_point;        /* FIXED */
    int64_t most;              /* RECORDING: numbers kept at most, 2^24; a batch beyond that is refused */
    rq_choice choice;          /* COUNTS, STACKED */
    double percentile;         /* COUNTS, STACKED: 0 < p <= 100, 99.99; EMA_PERCENTILE: 99.999 */
    int levels;                /* COUNTS: codes to place, 2..65536, 256; STACKED with entropy: groups, at most `bins` */
    bool symmetric;            /* the range is lo = -hi; STACKED: percentile of |x| */
    bool with_zero;            /* the range is lo <= 0 <= hi */
    const rq_own_observer *own; /* borrowed; kind or choice OWN */
} rq_observer_cfg;

/* The defaults for `kind`, as above; change a field, then create. */
RQ_API rq_observer_cfg rq_observer_defaults(rq_observer_kind kind);

typedef struct rq_observer rq_observer;

/* Make an observer; *out is yours until rq_observer_destroy. err may be NULL, here and below.
 * RQ_BAD_ARG, RQ_BAD_DTYPE: a field of cfg is out of its range; RQ_UNSUPPORTED: the kind is not there, or not per channel;
 * RQ_NO_MEMORY. On error *out is untouched. */
RQ_API rq_status rq_observer_create(rq_observer **out, const rq_observer_cfg *cfg, rq_err *err);
RQ_API void rq_observer_destroy(rq_observer *o); /* NULL is fine */
/* What it was made from (eps and fixed parameters as loaded since). */
RQ_API const rq_observer_cfg *rq_observer_cfg_of(const rq_observer *o);

/* Fold x into the statistics: F32 of any shape and strides (F64, F16, BF16 are taken as f32), read and not kept. e may be NULL.
 * RQ_BAD_DTYPE; RQ_BAD_SHAPE: no such axis, or another number of channels than before; RQ_BAD_DATA: RECORDING is full; RQ_NO_MEMORY: o is as it
 * was; RQ_NUMERIC, or its own status: an own observer failed. */
RQ_API rq_status rq_observer_update(rq_observer *o, rq_exec *e, const rq_strided *x, rq_err *err);

/* Between two passes over the same data: *more says whether this observer wants the second (STACKED alone). RQ_NO_MEMORY. */
RQ_API rq_status rq_observer_again(rq_observer *o, bool *more);

/* Channels: 1 per tensor; 0 before the first update of a per-channel one. */
RQ_API int rq_observer_channels(const rq_observer *o);
/* Finite elements seen; NaN and infinities together; NaN; infinities. */
RQ_API uint64_t rq_observer_count(const rq_observer *o);
RQ_API uint64_t rq_observer_bad(const rq_observer *o);
RQ_API uint64_t rq_observer_nan(const rq_observer *o);
RQ_API uint64_t rq_observer_infinite(const rq_observer *o);

/* The range of each channel to out[n]: the running min_val and max_val, or the range chosen (all others). A channel
 * without a finite element is {0, 0} as long as another has one. RQ_BAD_ARG: n is not the channel count, nothing was seen, or the kind has
 * no range; RQ_NUMERIC: an own observer gave none. */
RQ_API rq_status rq_observer_range(const rq_observer *o, rq_range *out, int n);

/* Scale and zero point of each channel, by RQ_QPARAMS_OBSERVER (FIXED: the constants): *out is yours to release. Float qparams put their zero points
 * into zero_point_f[channels], which may be NULL otherwise.
 * RQ_BAD_ARG: nothing was seen yet, or the kind has no parameters (compat: never seen is scale 1, zero point 0, of length 1; symmetric EMA: the middle of the codes); RQ_NUMERIC: the
 * range is not one (compat: NaN was seen); RQ_NO_MEMORY. On error *out is untouched. */
RQ_API rq_status rq_observer_qparams(const rq_observer *o, rq_qparams *out, float *zero_point_f, rq_err *err);

/* The codes that it will use: type, reduced where that was asked for. */
RQ_API rq_qtype rq_observer_type(const rq_observer *o);

/* RECORDING: how many tensors were kept, and tensor i (f32, row-major, of its own shape), as long as o is not changed. */
RQ_API int rq_observer_n_recorded(const rq_observer *o);
RQ_API const rq_tensor *rq_observer_recorded(const rq_observer *o, int i);

/* Forget everything that was seen, the number of channels too. */
RQ_API void rq_observer_reset(rq_observer *o);

/* What it remembers, under PyTorch's names: min_val, max_val and eps (per tensor of rank 0, per channel [channels], [0] before the first batch; never
 * seen: inf, -inf); HISTOGRAM: histogram [bins]; LSQ, LSQ_PLUS: scale; FIXED: scale, zero_point; AVERAGE: updates; COUNTS: histogram, bin_width, first_bin, total, and no eps. Loading takes min_vals and max_vals too. Counts of elements are not kept.
 * Loading: RQ_NOT_FOUND, RQ_BAD_DTYPE, RQ_BAD_SHAPE, RQ_BAD_DATA (min_val above max_val, ends that are not those of the bins, an eps that is none); then o is as it was. RQ_UNSUPPORTED: OWN
 * and STACKED, also when saving. RQ_NO_MEMORY. prefix may be NULL. */
RQ_API rq_status rq_observer_save(const rq_observer *o, rq_state *s, const char *prefix);
RQ_API rq_status rq_observer_load(rq_observer *o, const rq_state *s, const char *prefix, rq_err *err);

/* "MinMaxObserver(min_val=-1, max_val=3)": one line; of many channels the first. Returns buf. */
enum { RQ_OBSERVER_TEXT = 160 };
RQ_API const char *rq_observer_text(const rq_observer *o, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
