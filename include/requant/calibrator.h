/* requant/calibrator.h — from the tensors that pass to amax, the largest magnitude that codes must reach: the calibrators of NVIDIA's
 * pytorch-quantization 2.2.1 and of its successor ModelOpt.
 *
 * A calibrator is fed (rq_calibrator_collect) and asked (rq_calibrator_amax). It holds statistics, never data. Codes follow from amax:
 * step = amax / (2^(bits-1+unsigned) - 1), zero point 0. What the originals compute is in docs/calibration-facts.md 4.1 to 4.6; where this library
 * differs, docs/numerics.md "Departures from the originals" says so, and `compat` gives the originals' numbers.
 *
 * NaN and infinities are counted, never folded in. Nothing here is thread-safe; different calibrators are independent. Work goes over the
 * threads of the rq_exec; neither they nor the instruction set change a result. */
#ifndef REQUANT_CALIBRATOR_H
#define REQUANT_CALIBRATOR_H

#include <requant/exec.h>
#include <requant/graph.h>
#include <requant/state.h>
#include <requant/strided.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_calibrator_kind {
    RQ_CALIBRATOR_MAX,       /* MaxCalibrator: the running maximum of |x|, one per kept index */
    RQ_CALIBRATOR_HISTOGRAM, /* HistogramCalibrator: counts of |x|, asked by percentile, entropy or mse; per tensor */
    RQ_CALIBRATOR_MSE,       /* ModelOpt's MseCalibrator: squared errors of candidates on the tensors themselves */
    RQ_CALIBRATOR_OWN,       /* one of the program's: cfg.own */
    RQ_N_CALIBRATORS
} rq_calibrator_kind;

typedef enum rq_amax_method { /* how amax is found */
                              RQ_AMAX_MAX,
                              RQ_AMAX_PERCENTILE,
                              RQ_AMAX_ENTROPY,
                              RQ_AMAX_MSE,
                              RQ_N_AMAX_METHODS
} rq_amax_method;
RQ_API const char *rq_amax_method_name(rq_amax_method m); /* "max", "percentile", "entropy", "mse"; "?" for none */
/* From that name. RQ_BAD_ARG: "Unknown calibration method ...". */
RQ_API rq_status rq_amax_method_parse(rq_amax_method *out, const char *text, rq_err *err);

/* A calibrator of the program's own, registered by name (requant/own.h) or named by cfg.own. */
typedef struct rq_own_calibrator {
    const char *name;
    void *(*create)(void *user); /* an empty state; NULL: out of memory */
    /* One batch: n elements (f32, row-major) of this shape; NaN and infinities are among them. Calls for one state never overlap. */
    rq_status (*collect)(void *state, const float *x, const rq_shape *shape);
    /* *amax: finite, not negative. RQ_NOT_FOUND: nothing collected. */
    rq_status (*amax)(void *state, double *amax);
    void (*reset)(void *state); /* NULL: destroy and create */
    void (*destroy)(void *state);
    void *user; /* handed to create; must outlive the calibrator */
} rq_own_calibrator;

typedef struct rq_calibrator_cfg {
    rq_calibrator_kind kind;
    int num_bits;          /* of the codes, 2..16 (unsigned: 1..16): entropy and mse; with `e4m3` moot */
    bool is_unsigned;      /* codes from 0 */
    bool e4m3;             /* FP8 in place of integers: mse only; entropy is refused */
    bool narrow_range;     /* MSE: the lowest code is -(2^(bits-1) - 1) */
    int n_axes;            /* 0: one amax per tensor; otherwise the axes that keep their own */
    int axis[RQ_MAX_RANK]; /* [n_axes] distinct; negative ones count from the last. MAX and MSE only */
    bool track_amax;       /* MAX: remember the amax of every batch */
    int num_bins;          /* HISTOGRAM: 2..65536, of the first batch */
    bool skip_zeros;       /* HISTOGRAM: exact zeros are not counted */
    bool numpy_hist;       /* HISTOGRAM: bins as numpy.histogram makes them (torch_hist=False): the first range is
                           [min |x|, max |x|], what later lies below it is counted nowhere */
    double start, stop,
        step_size; /* MSE: candidates are amax times ceil((stop - start) / step_size) + 1 numbers evenly from start to
                                      stop, at most 4096 of them */
    const rq_tensor *amax;        /* MSE: f32, where to search around; scalar, or of the keep-dims shape. Copied */
    const rq_own_calibrator *own; /* OWN: borrowed */
    bool
        compat; /* as the originals do: NaN wins the maximum; NaN and infinities are an error in a histogram; entropy takes
                    candidates that keep nothing; with numpy_hist it overwrites the first bin for good */
} rq_calibrator_cfg;

typedef struct rq_calibrator rq_calibrator;

/* The originals' defaults: 8 bits, signed, per tensor, 2048 bins, not skipping zeros, torch's histogram; start 0.25, stop 4,
 * step_size 0.1. */
RQ_API rq_calibrator_cfg rq_calibrator_defaults(rq_calibrator_kind kind);

/* *out is yours until rq_calibrator_destroy. On error it is untouched.
 * RQ_BAD_ARG: a field is out of its range (named); RQ_UNSUPPORTED: a histogram with axes; RQ_NO_MEMORY. err may be NULL here and below. */
RQ_API rq_status rq_calibrator_create(rq_calibrator **out, const rq_calibrator_cfg *cfg, rq_err *err);
RQ_API void rq_calibrator_destroy(rq_calibrator *c); /* NULL is fine */
/* What it was made with; valid as long as c. */
RQ_API const rq_calibrator_cfg *rq_calibrator_cfg_of(const rq_calibrator *c);

/* One batch: x of F32, F64, F16 or BF16 (computed in f32), any shape and strides; read, not kept. An empty tensor changes nothing.
 * RQ_BAD_SHAPE: an axis that x has not, or kept sizes unlike those of earlier batches ("amax shape changed"); RQ_BAD_DTYPE;
 * RQ_NUMERIC (compat): NaN or infinities in a histogram; RQ_NO_MEMORY. On error nothing of the batch is folded in. */
RQ_API rq_status rq_calibrator_collect(rq_calibrator *c, rq_exec *e, const rq_strided *x, rq_err *err);

typedef struct rq_amax_params {
    double percentile; /* 0..100 */
    int stride;        /* entropy, mse: every so many bins, > 0 */
    int start_bin;     /* entropy, mse: the first candidate, > 0 */
    bool
        upper_edge; /* percentile: the upper edge of its bin; the originals' is the lower one, so that 100 falls short of the maximum */
} rq_amax_params;
RQ_API rq_amax_params rq_amax_defaults(void); /* 99.99 %, stride 1, start_bin 128, lower edge */

/* The answer, f32: rank 0 where there is one, else the rank of x with size 1 for every axis that is not kept. *amax is overwritten, yours
 * to release. MAX: method MAX; HISTOGRAM: the three others, or MAX (exactly); MSE: method MSE; OWN: any.
 * p NULL: the defaults.
 *   percentile  edges[first k with cumulative share >= p / 100]
 *   entropy     edge[i] of the last i with the least Kullback-Leibler divergence between the clipped counts and their rounding to
 *               2^(bits-1+unsigned) levels; i = start_bin, + stride ... bins
 *   mse         centre[i] of the first i with the least sum of h (fq(centre) - centre)^2; i = start_bin, + stride ... bins - 1
 * RQ_NOT_FOUND: nothing collected. RQ_BAD_ARG: a method that c has not, a percentile outside of 0..100, too few bins for start_bin (both
 * numbers are said), start_bin or stride below 1; RQ_UNSUPPORTED: entropy of e4m3; RQ_NUMERIC: own gave no number; RQ_NO_MEMORY. */
RQ_API rq_status rq_calibrator_amax(rq_calibrator *c, rq_amax_method method, const rq_amax_params *p, rq_tensor *amax,
                                    rq_err *err);

/* HISTOGRAM: what an observer of the program's own, of the form `choose` (requant/own.h), makes of the counts: bins of |x|, codes 2^num_bits,
 * symmetric unless the codes are unsigned. *amax: max(|lo|, |hi|) of its answer, rank 0, yours to release. own is used during the call only.
 * RQ_BAD_ARG: another kind, or own has no `choose`; RQ_NOT_FOUND: nothing collected; RQ_NUMERIC: own failed, or gave no range; RQ_NO_MEMORY. */
struct rq_own_observer;
RQ_API rq_status rq_calibrator_choose(const rq_calibrator *c, const struct rq_own_observer *own, rq_tensor *amax,
                                      rq_err *err);

/* What it has seen since it was made or reset. */
typedef struct rq_calibrator_info {
    uint64_t batches;       /* calls of collect that had elements */
    uint64_t count;         /* finite elements */
    uint64_t nan, infinite; /* elements that did not count */
    uint64_t skipped;       /* HISTOGRAM: zeros left out by skip_zeros; below the first edge, with numpy_hist */
    int64_t cells;          /* amaxs that there are; 0: nothing collected */
    int bins;               /* HISTOGRAM: now */
} rq_calibrator_info;
RQ_API rq_calibrator_info rq_calibrator_info_of(const rq_calibrator *c);

/* HISTOGRAM: counts [bins] and edges [bins + 1] (f32), as new tensors (U64, F32); either may be NULL. RQ_NOT_FOUND: nothing but zeros yet;
 * RQ_BAD_ARG: another kind; RQ_NO_MEMORY. */
RQ_API rq_status rq_calibrator_histogram(const rq_calibrator *c, rq_tensor *counts, rq_tensor *edges, rq_err *err);
/* MSE: sums of squared errors [candidates][cells] (F64) and multipliers [candidates] (F32). Errors as above. */
RQ_API rq_status rq_calibrator_losses(const rq_calibrator *c, rq_tensor *losses, rq_tensor *multipliers, rq_err *err);
/* MAX with track_amax: batches tracked, and amax of batch i (keep-dims; valid until the next collect or reset). Reset empties the list;
 * the originals keep it, and let its first entry change with the running maximum. */
RQ_API int rq_calibrator_n_tracked(const rq_calibrator *c);
RQ_API const rq_tensor *rq_calibrator_tracked(const rq_calibrator *c, int i);

/* As after create. OWN: RQ_NO_MEMORY is possible; c is then as it was. */
RQ_API rq_status rq_calibrator_reset(rq_calibrator *c);

/* Statistics to and from a state: "<prefix>_calib_amax", "_amaxs.<i>" (MAX), "_calib_hist", "_calib_bin_edges" (HISTOGRAM),
 * "_initial_amax", "_losses_sum" (MSE), "counts". Settings are not among them: load into a calibrator made alike.
 * load: RQ_NOT_FOUND, RQ_BAD_DTYPE, RQ_BAD_SHAPE, RQ_BAD_DATA (another kind, settings that do not fit, edges that do not rise); c is
 * then as it was. OWN: RQ_UNSUPPORTED. */
RQ_API rq_status rq_calibrator_save(const rq_calibrator *c, rq_state *s, const char *prefix, rq_err *err);
RQ_API rq_status rq_calibrator_load(rq_calibrator *c, const rq_state *s, const char *prefix, rq_err *err);

/* As the originals print themselves: "MaxCalibrator(track_amax=False)",
 * "HistogramCalibrator(calib_bin_edges=[0.000, ..., 1.833](2049))", "MseCalibrator(start=0.25 stop=4 candidates=39)", an own one by its
 * name. Writes at most n bytes with the NUL, returns buf. */
RQ_API const char *rq_calibrator_text(const rq_calibrator *c, char *buf, size_t n);
enum { RQ_CALIBRATOR_TEXT = 128 };
RQ_API const char *rq_calibrator_name(const rq_calibrator *c); /* "MaxCalibrator" ...; an own one's name */

/* ---- weights: calibrate_weights of the originals ---- */

typedef struct rq_weights_cfg {
    rq_amax_method method; /* MAX, PERCENTILE or MSE */
    bool per_channel;
    double percentile;
    int num_bins;     /* 2..65536, over (0, max |w|) of each channel */
    int num_bits;     /* mse */
    bool is_unsigned; /* mse */
    bool compat;      /* per tensor: always 2048 bins, and max is refused */
} rq_weights_cfg;
RQ_API rq_weights_cfg rq_weights_defaults(void); /* percentile 99.99, per channel, 2048 bins, 8 bits signed */

/* amax of w (F32, F64, F16 or BF16) for every index of `axis` (negative ones count from the last; cfg->per_channel false: one for
 * all): f32, keep-dims shape, or rank 0. Channels are counted one by one, in parallel, bins as numpy.histogram makes them; a channel of
 * zeros has amax 0. NaN and infinities are left out; *bad (may be NULL) counts them.
 * RQ_BAD_ARG: the method, another field; RQ_BAD_SHAPE: w has no such axis, or no elements; RQ_BAD_DTYPE; RQ_NO_MEMORY. */
RQ_API rq_status rq_calibrate_weights(rq_tensor *amax, rq_exec *e, const rq_strided *w, int axis,
                                      const rq_weights_cfg *cfg, uint64_t *bad, rq_err *err);

/* The same for every constant f32 weight of g's Conv, ConvTranspose, Gemm and MatMul, under the name of the constant in `out`. The
 * axis is that of output channels: 1 for ConvTranspose, for Gemm and MatMul the columns (with transB the rows), else 0. A weight
 * that several nodes use is calibrated for the first. */
RQ_API rq_status rq_calibrate_graph_weights(rq_state *out, rq_exec *e, const rq_graph *g, const rq_weights_cfg *cfg,
                                            rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
