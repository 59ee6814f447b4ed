/* requant/report.h — the verdict: what an integer model loses and gains against its float original,
 * measured by running both. */
#ifndef REQUANT_REPORT_H
#define REQUANT_REPORT_H

#include <requant/ptq.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_report_layer {
    char *name, *op;    /* node of the quantized graph */
    char *value;        /* its output */
    char *reason_float; /* NULL: ran in integers */
    char *method;       /* who chose the range; NULL when not quantized */
    rq_dtype dtype;     /* of the output's codes; NONE when not quantized */
    int bits;           /* of the codes: fewer than dtype has where a Clip leaves an interval of 2 to 7 bits */
    float scale;        /* first, when there are several */
    int32_t zero_point;
    double sqnr_db, cosine; /* against the float value of the same name; NaN when there is none; 200 dB when equal */
    double saturated;       /* share of codes at either end of the range, other than the code of zero */
    double used;            /* share of the codes that it has (of `bits`) seen, 0..1 */
    double harm;            /* noise-to-signal power this layer added to that of its inputs; 0 when not measured */
    double ms;              /* of its last run in the quantized model */
} rq_report_layer;

typedef struct rq_report_output {
    char *name;
    double sqnr_db, cosine; /* of the numbers that are finite in both models; NaN when there are none */
    int64_t nonfinite;      /* how many are NaN or infinite in one model or both */
    int64_t lost;           /* of these: finite in the float model */
} rq_report_output;

typedef struct rq_report_side {
    double accuracy, lo, hi; /* share correct and its 95 % interval (Wilson); NaN without labels */
    double ms;               /* median per run, interleaved */
    int64_t bytes;           /* of the file; 0 when not on disk */
} rq_report_side;

typedef struct rq_report {
    rq_report_side model, quantized; /* float, int8 */
    int64_t samples;
    double
        agreement; /* share of samples with the same top-1; outputs all NaN agree with nothing; NaN: no axis of classes */
    double drop;   /* points: 100 * loss of accuracy, of agreement without labels; NaN: neither is known */
    rq_report_output *outputs;
    int n_outputs;
    rq_report_layer *layers;
    int n_layers;
    rq_notes warnings;
    double peak_rss_mb, seconds;
} rq_report;

typedef struct rq_report_cfg {
    const int64_t *rows; /* samples to judge on, ascending; NULL: all */
    int64_t n_rows;
    const char *output; /* whose last axis is top-1; NULL: the first output */
    int threads;
    bool onednn;    /* rq_session_cfg.onednn */
    rq_match match; /* rq_session_cfg.match */
    bool layers;    /* fill layers (a float run with taps; slower) */
    rq_progress_fn progress;
    void *progress_arg;
    const rq_graph
        *origin; /* the quantized graph before it was saved, which still knows how each range was chosen; NULL: none */
} rq_report_cfg;

/* Has g an output called `output` (NULL: the first) to judge by? For programs that work long before they judge.
 * RQ_NOT_FOUND, RQ_BAD_GRAPH. */
RQ_API rq_status rq_report_check_output(const rq_graph *g, const char *output, rq_err *err);

/* Can output `output` (NULL: the first) of g have an axis of classes? False where its one axis is dynamic: a number per step or
 * per sample, and without labels nothing says how many answers stayed. */
RQ_API bool rq_report_has_classes(const rq_graph *g, const char *output);

/* Compare two models of one shape on data. *out is yours: rq_report_release; on error it is empty. cfg NULL: defaults, with
 * layers. RQ_NOT_FOUND: no output cfg->output; RQ_BAD_GRAPH, RQ_BAD_SHAPE: outputs of the two do not match; RQ_BAD_DATA,
 * RQ_CANCELLED, and what rq_session_create and rq_session_run say. Uses data's buffers: nobody else may read it meanwhile. */
RQ_API rq_status rq_report_compare(rq_report *out, const rq_graph *model, const rq_graph *quantized, rq_dataset *data,
                                   const rq_report_cfg *cfg, rq_err *err);
RQ_API void rq_report_release(rq_report *r);
/* The table and the verdict as text. */
RQ_API void rq_report_print(const rq_report *r, FILE *to);
/* The same as a JSON file: an object with float, int8, samples, agreement, drop, outputs (by name), layers, warnings,
 * peak_rss_mb, seconds; members are called as the fields above (lo and hi together: interval), and what was not measured is
 * null. RQ_IO, RQ_NO_MEMORY. */
RQ_API rq_status rq_report_save_json(const rq_report *r, const char *path, rq_err *err);
/* The same on one line, into buf[n] (NUL-terminated, cut at n; n 0: buf may be NULL); returns the length it takes, -1: memory is out. */
RQ_API int64_t rq_report_json(const rq_report *r, char *buf, size_t n);
/* The three layers that harm most, worst first, as indices into layers; returns how many. */
RQ_API int rq_report_worst(const rq_report *r, int worst[3]);

/* Accuracy (with labels) or output statistics of one model; printed or saved as JSON. */
typedef struct rq_eval_output {
    char *name;
    double min, max, mean, std;
    int64_t count, nonfinite;
} rq_eval_output;
typedef struct rq_eval {
    double accuracy, lo, hi; /* NaN without labels */
    int64_t samples;
    int64_t strange_labels; /* that name no place on the output's last axis: data of another model, most likely */
    rq_eval_output *outputs;
    int n_outputs;
    double ms;
} rq_eval;
/* Of cfg: rows, output, threads, progress; NULL: defaults. *out is yours: rq_eval_release; errors as rq_report_compare. */
RQ_API rq_status rq_eval_run(rq_eval *out, const rq_graph *g, rq_dataset *data, const rq_report_cfg *cfg, rq_err *err);
RQ_API void rq_eval_release(rq_eval *e);
RQ_API void rq_eval_print(const rq_eval *e, FILE *to);
RQ_API rq_status rq_eval_save_json(const rq_eval *e, const char *path, rq_err *err);

/* The most this machine can do, measured in about two seconds; all threads together. */
typedef struct rq_peak {
    const char *isa; /* the level of instructions that integer products use, as RQ_CPU names it */
    int threads;
    double int8_gops;  /* 2 * multiply-adds of 8-bit codes per second, in registers, with those instructions */
    double f32_gops;   /* the same for floats */
    double memory_gbs; /* bytes read and written by copying more than caches hold, 1e9 per second */
} rq_peak;
/* threads: 0, one per core. RQ_NO_MEMORY; RQ_BAD_ARG: threads is negative, or RQ_CPU names a level this machine lacks. On error *out
 * is untouched. */
RQ_API rq_status rq_peak_measure(rq_peak *out, int threads, rq_err *err);

/* Latency of one model, or of two interleaved. */
typedef struct rq_bench_layer {
    char *name, *op;
    bool integer;
    double ms, gops; /* median; 2 * multiply-adds per second, 1e9 */
    double gbs;      /* bytes read and written per second, 1e9, of a layer without multiply-adds */
    double
        share; /* of rq_bench.peak, of its multiply-adds or of memory; 0: not measured, or nothing to measure. Above 1: from caches */
    double whole_ms; /* with the layers behind it that the other model does not have: activations, conversions */
    bool
        slower; /* runs on integers, and whole_ms is more than that of the float layer of its name in the other model */
} rq_bench_layer;
typedef struct rq_bench_side {
    double median_ms, min_ms, p95_ms;
    rq_bench_layer *layers;
    int n_layers;
} rq_bench_side;
typedef struct rq_bench {
    rq_bench_side model, against; /* against: n_layers 0 and zeros when there is none */
    int runs;
    bool has_against;
    rq_peak peak; /* zeros when it was not asked for */
} rq_bench;
/* The sizes of one input. */
typedef struct rq_bench_shape {
    const char *input;
    rq_shape shape;
} rq_bench_shape;
typedef struct rq_bench_cfg {
    int threads, runs; /* runs 0: as many as fit in about two seconds, at least 10 */
    int64_t batch;
    const rq_dim_value *dims;
    int n_dims;
    bool onednn;                  /* rq_session_cfg.onednn */
    rq_match match;               /* rq_session_cfg.match */
    bool peak;                    /* measure what this machine can do, too: two seconds more */
    const rq_bench_shape *shapes; /* of inputs that are made up; go before dims and batch */
    int n_shapes;
} rq_bench_cfg;
/* data NULL: inputs are made up (seeded noise; dynamic sizes from shapes, then dims, else batch and 1). *out is yours: rq_bench_release; on
 * error it is empty. RQ_BAD_DATA: no samples, or an input without shape or type to make data for. RQ_BAD_ARG: a shape, axis or batch that the
 * model does not take. */
RQ_API rq_status rq_bench_run(rq_bench *out, const rq_graph *g, const rq_graph *against, rq_dataset *data,
                              const rq_bench_cfg *cfg, rq_err *err);
RQ_API void rq_bench_release(rq_bench *b);
RQ_API void rq_bench_print(const rq_bench *b, FILE *to);
RQ_API rq_status rq_bench_save_json(const rq_bench *b, const char *path, rq_err *err);

/* Layers that are slower in integers than in float. */
typedef struct rq_loser {
    char *name, *op;
    double int8_ms, float_ms; /* medians, with what follows it that the other model does not have */
} rq_loser;
typedef struct rq_losers {
    rq_loser *item; /* [n], the worst first */
    int n, n_kept;  /* the first n_kept of them are in float now */
    double int8_ms,
        float_ms; /* medians of the whole model, without and with the last that were tried in float; 0: nothing was */
} rq_losers;
/* Leave in float what is slower in integers, on this machine and with cfg.threads: *g, which rq_ptq made of `original` by cfg, is timed beside
 * `original` on the first samples of data; the layers that lost are excluded, `original` is quantized once more, and that takes the place of *g if the
 * whole is faster so (fewer layers are tried where it is not). The choice depends on the clock; rq_ptq with out->item[..n_kept].name in cfg.except
 * repeats it. notes (may be NULL): those of rq_ptq for *g. *out is yours: rq_losers_release. Errors as rq_ptq and rq_bench_run; then *out is
 * empty and *g is as it was. Takes some seconds for each try. */
RQ_API rq_status rq_ptq_keep_losers(rq_losers *out, rq_graph **g, const rq_graph *original, rq_dataset *data,
                                    const rq_ptq_cfg *cfg, rq_notes *notes, rq_err *err);
/* Say which and why, a sentence each. RQ_NO_MEMORY. */
RQ_API rq_status rq_losers_note(const rq_losers *l, rq_notes *notes);
RQ_API void rq_losers_release(rq_losers *l);

#ifdef __cplusplus
}
#endif
#endif
